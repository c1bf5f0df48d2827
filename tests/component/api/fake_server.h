/*
 * The dialect without a network: exchanges whose answers are captured, in front of the real core
 * and identity models.
 *
 * Included by exactly one file of a program: it defines the functions of http/exchange.h. One
 * thread. Models are written to a temporary folder that fake_server_stop removes.
 */
#ifndef TESTS_COMPONENT_API_FAKE_SERVER_H
#define TESTS_COMPONENT_API_FAKE_SERVER_H

#include "api/oip/oip.h"
#include "base/alloc.h"
#include "base/log.h"
#include "os/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FAKE_HEADERS_MAX = 8, FAKE_TURNS_MAX = 100000, FAKE_ALIGNMENT = 64 };

struct fake_exchange {
    struct md_exchange x; /* first */
    struct md_http_header headers[FAKE_HEADERS_MAX];
    unsigned answers; /* how often it was answered */
    unsigned status;
    char content_type[128];
    size_t json_bytes; /* Inference-Header-Content-Length of the answer; 0: none */
    bool retry_after;
    char server_timing[256], traceparent[64]; /* empty: no such header */
    struct md_bytes body;                     /* own */
    unsigned ends;                            /* of a body that was written piece by piece */
    unsigned aborts;
    void (*drained)(struct md_exchange *x);
};

struct fake_server {
    char folder[64];
    struct md_arena arena;
    struct md_options options;
    struct md_diagnostics diagnostics;
    struct md_budget budget;
    struct md_loop *loop;
    struct md_device *device;
    struct md_backends *backends;
    struct md_models *models;
    const struct md_access *access;
    struct md_tracer *tracer;
    struct md_regions *regions;
    struct md_oip oip;
    size_t executor_count;                /* set by the test; 0: one */
    const struct md_http_header *headers; /* borrow: what requests have besides */
    size_t header_count;
};

/* --- http/exchange.h
 * --------------------------------------------------------------------------------------------- */

struct md_str md_exchange_header(const struct md_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->head.header_count; i++) {
        if (md_str_eq_nocase(x->head.headers[i].name, md_str_of(name))) {
            return x->head.headers[i].value;
        }
    }
    return (struct md_str){NULL, 0};
}

static void fake_note_text(const struct md_http_header *header, const char *name, char *out,
                           size_t size)
{
    if (md_str_eq_c(header->name, name)) {
        (void)snprintf(out, size, "%.*s", MD_STR_ARG(header->value));
    }
}

static void fake_note(struct fake_exchange *fake, const struct md_http_response *response)
{
    uint64_t number;

    fake->answers++;
    fake->status = response->status;
    (void)snprintf(fake->content_type, sizeof fake->content_type, "%s",
                   response->content_type ? response->content_type : "");
    for (size_t i = 0; i < response->header_count; i++) {
        if (md_str_eq_c(response->headers[i].name, "Inference-Header-Content-Length") &&
            md_str_to_u64(response->headers[i].value, &number)) {
            fake->json_bytes = number;
        }
        fake_note_text(&response->headers[i], "server-timing", fake->server_timing,
                       sizeof fake->server_timing);
        fake_note_text(&response->headers[i], "traceparent", fake->traceparent,
                       sizeof fake->traceparent);
        fake->retry_after |= md_str_eq_c(response->headers[i].name, "Retry-After");
    }
}

void md_exchange_respond(struct md_exchange *x, const struct md_http_response *response)
{
    struct fake_exchange *fake = (struct fake_exchange *)(void *)x;

    fake_note(fake, response);
    for (size_t i = 0; i < response->part_count; i++) {
        md_bytes_append(&fake->body, response->parts[i].iov_base, response->parts[i].iov_len);
    }
}

void md_exchange_begin(struct md_exchange *x, const struct md_http_response *response,
                       void (*drained)(struct md_exchange *x))
{
    ((struct fake_exchange *)(void *)x)->drained = drained;
    fake_note((struct fake_exchange *)(void *)x, response);
}

bool md_exchange_write(struct md_exchange *x, struct md_str bytes)
{
    md_bytes_append_str(&((struct fake_exchange *)(void *)x)->body, bytes);
    return true;
}

void md_exchange_end(struct md_exchange *x)
{
    ((struct fake_exchange *)(void *)x)->ends++;
}

void md_exchange_abort(struct md_exchange *x)
{
    ((struct fake_exchange *)(void *)x)->aborts++;
}

void md_exchange_hold(struct md_exchange *x)
{
    x->holds++;
}

void md_exchange_release(struct md_exchange *x)
{
    if (x->holds-- == 0) {
        abort();
    }
}

/* --- models
 * -------------------------------------------------------------------------------------------------------
 */

static void fake_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    if (!file || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

/* An identity model; `rest` is appended to its configuration. */
static inline void fake_model(const struct fake_server *server, const char *name, int batch,
                              const char *dtype, const char *dims, int tensors, const char *rest)
{
    char path[256], text[2048];
    int len =
        snprintf(text, sizeof text, "backend: \"identity\"\nmax_batch_size: %d\n%s\n", batch, rest);

    for (int i = 0; i < tensors; i++) {
        len += snprintf(text + len, sizeof text - (size_t)len,
                        "input { name: \"INPUT%d\" data_type: TYPE_%s dims: [ %s ] }\n"
                        "output { name: \"OUTPUT%d\" data_type: TYPE_%s dims: [ %s ]%s }\n",
                        i, dtype, dims, i, dtype, dims,
                        strstr(name, "labelled") ? " label_filename: \"labels.txt\"" : "");
    }
    (void)snprintf(path, sizeof path, "%s/%s", server->folder, name);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/%s/1", server->folder, name);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/%s/config.pbtxt", server->folder, name);
    fake_write(path, text);
    (void)snprintf(path, sizeof path, "%s/%s/labels.txt", server->folder, name);
    fake_write(path, "cat\ndog\nbird\nfish\n");
}

static bool fake_true(void *arg)
{
    (void)arg;
    return true;
}

static bool fake_false(void *arg)
{
    (void)arg;
    return false;
}

static void fake_drain(void *arg)
{
    (void)arg;
}

static void fake_demand(bool ok, const struct md_error *err)
{
    if (!ok) {
        (void)fprintf(stderr, "fake server: %s\n", err->text);
        abort();
    }
}

/* Creates the folder; then call fake_model, then fake_server_start. */
static inline void fake_server_init(struct fake_server *server)
{
    memset(server, 0, sizeof *server);
    md_os_clock_install();
    (void)snprintf(server->folder, sizeof server->folder, "/tmp/modeld-test-XXXXXX");
    if (!mkdtemp(server->folder)) {
        abort();
    }
}

/* Gets what is traced, instead of a receiver; on the exporter's thread. */
static void fake_no_spans(struct md_str spans)
{
    (void)spans;
}
static void (*fake_server_on_spans)(struct md_str spans) = fake_no_spans;

static enum md_trace_result fake_take_spans(void *arg, const struct md_trace_message *message,
                                            struct md_trace_answer *answer)
{
    (void)arg;
    (void)answer;
    fake_server_on_spans(message->body);
    return MD_TRACE_TAKEN;
}

static void fake_close_sink(void *arg)
{
    (void)arg;
}

static bool fake_open_sink(void *arg, struct md_trace_sink *out, struct md_error *err)
{
    (void)arg;
    (void)err;
    *out =
        (struct md_trace_sink){.name = "fake", .send = fake_take_spans, .destroy = fake_close_sink};
    return true;
}

/* Traces are off; a batch is handed over when it is full, or at the end. */
static bool fake_create_tracer(struct fake_server *server, struct md_error *err)
{
    const struct md_tracer_options options = {
        .settings = {[MD_TRACE_RATE] = 1000, [MD_TRACE_COUNT] = -1},
        .exporter = {.max_queue = 64, .max_batch = 64, .delay_ns = UINT64_C(3600000000000)},
        .open_sink = fake_open_sink,
    };

    return md_tracer_create(&options, &server->tracer, err);
}

/* The core without its models; what a failed call leaves is for fake_server_destroy. */
static inline bool fake_server_create(struct fake_server *server, size_t inflight_bytes,
                                      struct md_error *err)
{
    char repository[128];
    char *argv[] = {(char *)(uintptr_t) "modeld", repository, NULL};
    char *environment[] = {NULL};
    const struct md_loop_options loop = {
        .cpu = -1, .budget = &server->budget, .cache_bytes = 1 << 20};
    const struct md_device_options device = {
        .executor_count = server->executor_count ? server->executor_count : 1,
        .budget = &server->budget,
        .inline_limit_ns = UINT64_MAX};
    const struct md_backends_options backends = {.engine_threads = 1};

    (void)snprintf(repository, sizeof repository, "--model-repository=%s", server->folder);
    md_arena_init(&server->arena, 64 * 1024);
    md_diagnostics_init(&server->diagnostics, &server->arena);
    md_budget_init(&server->budget, inflight_bytes);
    return (md_options_parse(2, argv, environment, false, NULL, &server->arena, &server->options,
                             &server->diagnostics) ||
            md_error_set(err, MD_REASON_INVALID_ARGUMENT, "%s",
                         server->diagnostics.items[0].text)) &&
           md_access_create(&server->options, &server->arena, &server->access, err) &&
           md_regions_create(&server->regions, err) && fake_create_tracer(server, err) &&
           md_loop_create(&loop, &server->loop, err) &&
           md_device_create(&device, &server->device, err) &&
           md_backends_create(&backends, &server->backends, err);
}

static inline bool fake_server_scan(struct fake_server *server, struct md_error *err)
{
    const struct md_models_options models = {.options = &server->options,
                                             .backends = server->backends,
                                             .device = server->device,
                                             .loop_count = 1};

    return md_models_create(&models, &server->diagnostics, &server->models, err);
}

/* Everything but the folder. */
static inline void fake_server_destroy(struct fake_server *server)
{
    md_tracer_destroy(server->tracer);
    md_models_destroy(server->models);
    md_backends_destroy(server->backends);
    md_device_destroy(server->device);
    if (server->loop) {
        md_loop_destroy(server->loop);
    }
    md_regions_destroy(server->regions);
    md_arena_deinit(&server->arena);
    if (server->budget.used_bytes) {
        (void)fprintf(stderr, "fake server: %zu bytes were not given back\n",
                      (size_t)server->budget.used_bytes);
        abort();
    }
    server->tracer = NULL;
    server->models = NULL;
    server->regions = NULL;
    server->backends = NULL;
    server->device = NULL;
    server->loop = NULL;
}

static inline void fake_server_start(struct fake_server *server, size_t inflight_bytes)
{
    struct md_error err = {0};

    fake_demand(fake_server_create(server, inflight_bytes, &err), &err);
    fake_demand(fake_server_scan(server, &err), &err);
    md_models_load_start(server->models, NULL, NULL);
    md_models_load_join(server->models);
    server->oip = (struct md_oip){.models = server->models,
                                  .options = &server->options,
                                  .access = server->access,
                                  .tracer = server->tracer,
                                  .regions = server->regions,
                                  .version = "1.2.3",
                                  .max_binary_bytes = inflight_bytes,
                                  .is_live = fake_true,
                                  .is_ready = fake_true,
                                  .is_exiting = fake_false,
                                  .drain = fake_drain};
}

static inline void fake_server_remove_folder(const struct fake_server *server)
{
    char command[128];

    (void)snprintf(command, sizeof command, "rm -r '%s'", server->folder);
    if (system(command) != 0) {
        abort();
    }
}

static inline void fake_server_stop(struct fake_server *server)
{
    fake_server_destroy(server);
    fake_server_remove_folder(server);
}

/* --- requests
 * -----------------------------------------------------------------------------------------------------
 */

/* Runs the loop until the exchange is answered. */
static inline void fake_wait(struct fake_server *server, struct fake_exchange *fake)
{
    struct md_error err;

    for (int turn = 0; !fake->answers && turn < FAKE_TURNS_MAX; turn++) {
        fake_demand(md_loop_run_once(server->loop, 1000, &err), &err);
    }
}

/* Sends one request and waits for its answer. `json_bytes` < 0: no such header. */
static inline void fake_send(struct fake_server *server, struct fake_exchange *fake,
                             enum md_http_method method, const char *path, struct md_str body,
                             long json_bytes)
{
    char number[32];
    bool over_budget;

    memset(fake, 0, sizeof *fake);
    md_arena_init(&fake->x.arena, 4096 - 64);
    (void)snprintf(number, sizeof number, "%ld", json_bytes);
    for (size_t i = 0; i < server->header_count; i++) {
        fake->headers[i] = server->headers[i];
    }
    fake->headers[server->header_count] =
        (struct md_http_header){MD_STR("Inference-Header-Content-Length"), md_str_of(number)};
    fake->x.loop = server->loop;
    fake->x.peer = "unix:";
    fake->x.over_unix_socket = true;
    fake->x.body = MD_STR("");
    fake->x.begin_ns = fake->x.body_ns = md_loop_now_ns(server->loop);
    fake->x.head = (struct md_http_head){.method = method,
                                         .method_name = MD_STR(""),
                                         .path = md_str_of(path),
                                         .headers = fake->headers,
                                         .header_count = server->header_count + (json_bytes >= 0),
                                         .content_length = (int64_t)body.len,
                                         .has_body = body.len > 0};
    fake->x.body_max = server->options.http_max_input_size;
    md_oip_route(&server->oip, &fake->x);
    if (fake->x.handler->on_head) {
        fake->x.handler->on_head(&fake->x);
    }
    if (!fake->answers) {
        size_t lead = (FAKE_ALIGNMENT - fake->x.body_lead % FAKE_ALIGNMENT) % FAKE_ALIGNMENT;
        if (body.len) {
            fake->x.body_block =
                md_pool_alloc(md_loop_pool(server->loop), body.len + lead, &over_budget);
            if (!fake->x.body_block) { /* as a session would */
                fake->answers = 1;
                fake->status = 503;
                fake->retry_after = true;
                return;
            }
            memcpy(fake->x.body_block->data + lead, body.ptr, body.len);
            fake->x.body = md_str_make(fake->x.body_block->data + lead, body.len);
        }
        fake->x.handler->on_request(&fake->x);
        fake_wait(server, fake);
    }
}

static inline void fake_free(struct fake_exchange *fake)
{
    md_arena_deinit(&fake->x.arena);
    md_block_unref(fake->x.body_block);
    md_bytes_deinit(&fake->body);
}

#endif
