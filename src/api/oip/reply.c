/*
 * Answers and the table of statuses.
 */
#include "api/oip/reply.h"

#include "base/log.h"
#include "codec/json.h"

/* By code; where the reason says more, it comes first. */
static const struct {
    enum md_reason reason;
    unsigned status;
} reason_table[] = {
    {MD_REASON_DEADLINE, 504},
    {MD_REASON_RESTRICTED, 403},
    {MD_REASON_TOO_LARGE, 413},
    {MD_REASON_QUEUE_FULL, 503},
    {MD_REASON_INFLIGHT_BYTES, 503},
    {MD_REASON_OUT_OF_MEMORY, 503},
    {MD_REASON_DEADLINE_UNREACHABLE, 503},
    {MD_REASON_EXITING, 503},
};

static const unsigned code_table[] = {
    [MD_CODE_OK] = 200,
    [MD_CODE_CANCELLED] = 499,
    [MD_CODE_UNKNOWN] = 400,
    [MD_CODE_INVALID_ARGUMENT] = 400,
    [MD_CODE_DEADLINE_EXCEEDED] = 504,
    [MD_CODE_NOT_FOUND] = 404,
    [MD_CODE_ALREADY_EXISTS] = 400,
    [MD_CODE_PERMISSION_DENIED] = 403,
    [MD_CODE_RESOURCE_EXHAUSTED] = 503,
    [MD_CODE_FAILED_PRECONDITION] = 400,
    [MD_CODE_ABORTED] = 503,
    [MD_CODE_OUT_OF_RANGE] = 400,
    [MD_CODE_UNIMPLEMENTED] = 501,
    [MD_CODE_INTERNAL] = 500,
    [MD_CODE_UNAVAILABLE] = 503,
    [MD_CODE_DATA_LOSS] = 500,
    [MD_CODE_UNAUTHENTICATED] = 401,
};

unsigned md_oip_status(const struct md_error *err)
{
    for (size_t i = 0; i < MD_COUNT_OF(reason_table); i++) {
        if (reason_table[i].reason == err->reason) {
            return reason_table[i].status;
        }
    }
    return (size_t)err->code < MD_COUNT_OF(code_table) ? code_table[err->code] : 500;
}

/* Takes the text over. Without memory for it the answer is an empty 503. The memory of an exchange
 * that is held is somebody else's, and its answer copied. */
static void reply_text(struct md_exchange *x, unsigned status, struct md_bytes *text,
                       const struct md_http_header *header)
{
    struct iovec own, *part = x->holds ? &own : md_arena_alloc(&x->arena, sizeof *part);
    struct md_str copy = text->failed ? MD_STR("") : md_bytes_view(text);
    struct md_http_response response = {
        .status = 503, .content_type = "application/json", .headers = md_http_retry_after()};

    if (!x->holds && copy.len) {
        copy = md_arena_copy(&x->arena, copy);
    }
    if (part && copy.len) {
        *part = (struct iovec){(void *)(uintptr_t)copy.ptr, copy.len};
        response.status = status;
        response.headers = header;
        response.parts = part;
        response.part_count = 1;
    }
    response.header_count = response.headers != NULL;
    md_exchange_respond(x, &response);
    md_bytes_deinit(text);
}

static void reply_error(struct md_exchange *x, unsigned status, const char *sentence, bool retry)
{
    struct md_bytes text = {0};

    md_bytes_append_str(&text, MD_STR("{\"error\":"));
    md_json_append_string(&text, md_str_of(sentence));
    md_bytes_append_char(&text, '}');
    reply_text(x, status, &text, retry ? md_http_retry_after() : NULL);
}

/* What a client gets wrong is its own affair, and could fill a disk; what the server gets wrong is
 * not. */
void md_oip_log_error(const struct md_exchange *x, const struct md_error *err)
{
    const bool is_ours =
        md_oip_status(err) == 500 && md_reason_code(err->reason) == MD_CODE_INTERNAL;
    const enum md_log_level level = is_ours ? MD_LOG_ERROR : MD_LOG_VERBOSE;
    const struct md_log_context *before = md_log_set_context(&x->log);

    md_log(level, "%.*s %.*s: %s", MD_STR_ARG(x->head.method_name), MD_STR_ARG(x->head.path),
           err->text);
    md_log_set_context(before);
}

void md_oip_reply_error(struct md_exchange *x, const struct md_error *err)
{
    md_oip_log_error(x, err);
    reply_error(x, md_oip_status(err), err->text, md_error_retry_after_s(err) > 0);
}

void md_oip_reply_sentence(struct md_exchange *x, unsigned status, const char *sentence)
{
    reply_error(x, status, sentence, false);
}

void md_oip_reply_json(struct md_exchange *x, unsigned status, struct md_bytes *text)
{
    if (text->failed) {
        md_bytes_deinit(text);
        reply_error(x, 503, "out of memory", true);
    } else {
        reply_text(x, status, text, NULL);
    }
}

void md_oip_reply_empty(struct md_exchange *x, unsigned status)
{
    const struct md_http_response response = {.status = status, .content_type = "text/plain"};

    md_exchange_respond(x, &response);
}
