/*
 * OTLP over HTTP through libcurl, which is found at run time.
 *
 * 429, 502, 503, 504 and everything that goes wrong below HTTP may be tried again; other statuses
 * are refusals. An answer is read as far as 4 KiB; it may name spans that were rejected.
 */
#include "trace/otlp_http.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "os/library.h"

#include <curl/curl.h>
#include <stdio.h>

enum { ANSWER_MAX = 4096, CONNECT_TIMEOUT_MS = 5000 };

static const char library_name[] = "libcurl.so.4";

/* The few functions of libcurl. */
struct curl {
    CURLcode (*global_init)(long flags);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *handle, CURLoption option, ...);
    CURLcode (*easy_perform)(CURL *handle);
    CURLcode (*easy_getinfo)(CURL *handle, CURLINFO info, ...);
    void (*easy_cleanup)(CURL *handle);
    const char *(*easy_strerror)(CURLcode code);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
};

struct sink {
    struct curl curl;
    CURL *handle;               /* own */
    struct curl_slist *headers; /* own */
    char *url;                  /* own */
    struct md_bytes resource;   /* own */
    struct md_bytes answer;     /* own */

    /* of the message that is being sent */
    const struct md_trace_message *message;
    size_t sent;
    bool stopped; /* nobody waits for it any more */
};

/* --- libcurl -------------------- */

static bool find_functions(void *library, struct curl *out, struct md_error *err)
{
    /* the order of struct curl */
    static const char *const names[] = {
        "curl_global_init",   "curl_easy_init",    "curl_easy_setopt",
        "curl_easy_perform",  "curl_easy_getinfo", "curl_easy_cleanup",
        "curl_easy_strerror", "curl_slist_append", "curl_slist_free_all",
    };
    void *found[MD_COUNT_OF(names)];

    _Static_assert(sizeof found == sizeof *out, "one name for each function");
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        found[i] = md_os_library_symbol(library, names[i]);
        if (!found[i]) {
            return md_error_set(err, MD_REASON_NOT_FOUND, "%s has no %s: install a newer libcurl",
                                library_name, names[i]);
        }
    }
    memcpy(out, found, sizeof found);
    return true;
}

static bool load(struct curl *out, struct md_error *err)
{
    void *library;

    if (!md_os_library_open(library_name, &library, err)) {
        return md_error_prefix(err, "traces are sent with libcurl, install it (Debian: libcurl4)");
    }
    if (!find_functions(library, out, err)) {
        md_os_library_close(library);
        return false;
    }
    return out->global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ||
           md_error_set(err, MD_REASON_INTERNAL, "libcurl does not start");
}

/* --- callbacks, on the exporter's thread -------------------- */

static size_t take_answer(char *data, size_t size, size_t count, void *arg)
{
    struct sink *sink = arg;

    md_bytes_append(&sink->answer, data, md_size_min(size * count, ANSWER_MAX - sink->answer.len));
    return size * count;
}

static size_t give_body(char *out, size_t size, size_t count, void *arg)
{
    struct sink *sink = arg;
    struct md_str part = sink->message->head;
    size_t at = sink->sent;

    if (at >= part.len) {
        at -= part.len;
        part = sink->message->body;
    }
    const size_t len = md_size_min(size * count, part.len - at);
    if (len) {
        memcpy(out, part.ptr + at, len);
    }
    sink->sent += len;
    return len;
}

static int rewind_body(void *arg, curl_off_t offset, int origin)
{
    struct sink *sink = arg;

    if (origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    sink->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int look_at_the_time(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                            curl_off_t up)
{
    struct sink *sink = arg;
    const uint64_t stop_ns = atomic_load((_Atomic uint64_t *)(uintptr_t)sink->message->stop_ns);

    (void)down_all, (void)down, (void)up_all, (void)up;
    sink->stopped = stop_ns && md_clock_monotonic_ns() >= stop_ns;
    return sink->stopped;
}

/* --- sink -------------------- */

static void append_head(void *arg, size_t span_bytes, struct md_bytes *out)
{
    const struct sink *sink = arg;

    md_span_append_head(md_bytes_view(&sink->resource), span_bytes, out);
}

static enum md_trace_result judge(struct sink *sink, CURLcode code, const char *why,
                                  struct md_trace_answer *answer)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    struct md_str reason;

    if (code != CURLE_OK) {
        (void)snprintf(answer->text, sizeof answer->text, "%s",
                       sink->stopped ? "the server ends"
                       : *why        ? why
                                     : sink->curl.easy_strerror(code));
        return MD_TRACE_TRY_AGAIN;
    }
    (void)sink->curl.easy_getinfo(sink->handle, CURLINFO_RESPONSE_CODE, &status);
    (void)sink->curl.easy_getinfo(sink->handle, CURLINFO_RETRY_AFTER, &retry_after_s);
    if (status >= 200 && status < 300) {
        answer->rejected = md_span_rejected(md_bytes_view(&sink->answer), &reason);
        (void)snprintf(answer->text, sizeof answer->text, "%.*s", MD_STR_ARG(reason));
        return MD_TRACE_TAKEN;
    }
    (void)snprintf(answer->text, sizeof answer->text, "it answers with status %ld", status);
    answer->retry_after_ns =
        retry_after_s > 0 ? md_size_min((uint64_t)retry_after_s, UINT32_MAX) * MD_NS_PER_S : 0;
    return status == 429 || status == 502 || status == 503 || status == 504 ? MD_TRACE_TRY_AGAIN
                                                                            : MD_TRACE_REFUSED;
}

static enum md_trace_result post(void *arg, const struct md_trace_message *message,
                                 struct md_trace_answer *answer)
{
    struct sink *sink = arg;
    char why[CURL_ERROR_SIZE] = "";
    const uint64_t now_ns = md_clock_monotonic_ns();
    const uint64_t left_ns = message->give_up_ns > now_ns ? message->give_up_ns - now_ns : 0;
    const size_t bytes = message->head.len + message->body.len;

    sink->message = message;
    sink->sent = 0;
    sink->stopped = false;
    md_bytes_clear(&sink->answer);
    (void)sink->curl.easy_setopt(sink->handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)bytes);
    (void)sink->curl.easy_setopt(sink->handle, CURLOPT_TIMEOUT_MS,
                                 (long)md_size_max(left_ns / MD_NS_PER_MS, 1));
    (void)sink->curl.easy_setopt(sink->handle, CURLOPT_ERRORBUFFER, why);
    CURLcode code = sink->curl.easy_perform(sink->handle);
    (void)sink->curl.easy_setopt(sink->handle, CURLOPT_ERRORBUFFER, NULL);
    return judge(sink, code, why, answer);
}

static void destroy(void *arg)
{
    struct sink *sink = arg;

    if (sink->handle) {
        sink->curl.easy_cleanup(sink->handle);
    }
    if (sink->headers) {
        sink->curl.slist_free_all(sink->headers);
    }
    md_bytes_deinit(&sink->resource);
    md_bytes_deinit(&sink->answer);
    md_free(sink->url);
    md_free(sink);
}

static bool add_header(struct sink *sink, const char *line)
{
    struct curl_slist *longer = sink->curl.slist_append(sink->headers, line);

    sink->headers = longer ? longer : sink->headers;
    return longer;
}

static bool configure(struct sink *sink, const struct md_otlp_http_options *options)
{
    /* Expect: waiting for a 100 would cost each batch a second with receivers that know none. */
    bool ok =
        add_header(sink, "Content-Type: application/x-protobuf") && add_header(sink, "Expect:");

    for (size_t i = 0; ok && i < options->header_count; i++) {
        ok = add_header(sink, options->headers[i]);
    }
    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, sink->url},
        {CURLOPT_HTTPHEADER, sink->headers},
        {CURLOPT_USERAGENT, "modeld/" MODELD_VERSION},
        {CURLOPT_CAINFO, options->ca_file},
        {CURLOPT_WRITEDATA, sink},
        {CURLOPT_READDATA, sink},
        {CURLOPT_SEEKDATA, sink},
        {CURLOPT_XFERINFODATA, sink},
    };
    for (size_t i = 0; ok && i < MD_COUNT_OF(pointers); i++) {
        ok = !pointers[i].value || sink->curl.easy_setopt(sink->handle, pointers[i].option,
                                                          pointers[i].value) == CURLE_OK;
    }
    const struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_POST, 1},
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_NOPROGRESS, 0},
        {CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS},
    };
    for (size_t i = 0; ok && i < MD_COUNT_OF(numbers); i++) {
        ok = sink->curl.easy_setopt(sink->handle, numbers[i].option, numbers[i].value) == CURLE_OK;
    }
    return ok &&
           sink->curl.easy_setopt(sink->handle, CURLOPT_WRITEFUNCTION, take_answer) == CURLE_OK &&
           sink->curl.easy_setopt(sink->handle, CURLOPT_READFUNCTION, give_body) == CURLE_OK &&
           sink->curl.easy_setopt(sink->handle, CURLOPT_SEEKFUNCTION, rewind_body) == CURLE_OK &&
           sink->curl.easy_setopt(sink->handle, CURLOPT_XFERINFOFUNCTION, look_at_the_time) ==
               CURLE_OK;
}

bool md_otlp_http_open(const struct md_otlp_http_options *options, struct md_trace_sink *out,
                       struct md_error *err)
{
    struct sink *sink = md_calloc(1, sizeof *sink);

    if (!sink) {
        return md_error_no_memory(err, "the exporter of traces");
    }
    if (!load(&sink->curl, err)) {
        md_free(sink);
        return false;
    }
    sink->url = md_strdup(options->url);
    sink->handle = sink->curl.easy_init();
    md_span_print_resource(options->resource, options->resource_count, &sink->resource);
    if (!sink->url || !sink->handle || sink->resource.failed || !configure(sink, options)) {
        destroy(sink);
        return md_error_no_memory(err, "the exporter of traces");
    }
    *out = (struct md_trace_sink){.arg = sink,
                                  .name = options->name,
                                  .append_head = append_head,
                                  .send = post,
                                  .destroy = destroy};
    return true;
}
