/*
 * HTTP/1.1 heads and chunked bodies: no crash, and the same outcome however the bytes are split.
 */
#include "http/http1.h"

#include <stdint.h>
#include <stdlib.h>

static const struct md_http1_limits limits = {8192, 32};

static enum md_progress scan(struct md_str data, size_t step, struct md_http1_scan *out)
{
    struct md_error err;
    unsigned status = 0;
    enum md_progress progress = MD_PROGRESS_AGAIN;

    *out = (struct md_http1_scan){0};
    for (size_t len = step; progress == MD_PROGRESS_AGAIN; len += step) {
        size_t have = md_size_min(len, data.len);
        progress = md_http1_scan_head(out, md_str_make(data.ptr, have), &limits, &status, &err);
        if (have == data.len) {
            break;
        }
    }
    return progress;
}

static void chunked(struct md_str data)
{
    struct md_http1_chunked state = {0};
    struct md_error err;
    struct md_str piece;
    size_t total = 0, before = data.len;

    for (;;) {
        size_t left = data.len;
        enum md_progress progress = md_http1_chunked_step(&state, &data, &piece, &err);
        total += piece.len;
        if (progress != MD_PROGRESS_AGAIN || data.len == 0) {
            break;
        }
        if (data.len == left) {
            abort(); /* no progress */
        }
    }
    if (total > before) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct md_str data = md_str_make((const char *)bytes, size);
    struct md_http1_scan whole, split;
    struct md_arena arena = {0};
    struct md_error err;
    unsigned status = 0;

    enum md_progress a = scan(data, size ? size : 1, &whole);
    enum md_progress b = scan(data, 1, &split);
    if (a == MD_PROGRESS_DONE && b == MD_PROGRESS_DONE && whole.head_bytes != split.head_bytes) {
        abort();
    }
    if (a == MD_PROGRESS_DONE) {
        struct md_http1_request request;
        (void)!md_http1_parse_head(md_str_make(data.ptr, whole.head_bytes), &limits, &arena,
                                   &request, &status, &err);
    }
    chunked(data);
    md_arena_deinit(&arena);
    return 0;
}
