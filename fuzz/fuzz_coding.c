/*
 * Content codings: base64 that is accepted is the encoding of what it says; inflating ends, in any
 * slices alike.
 */
#include "codec/base64.h"
#include "codec/deflate.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_base64(struct md_str text)
{
    struct md_bytes data = {0}, again = {0};
    struct md_error err;

    if (md_base64_decode(text, &data, &err)) {
        md_base64_encode(md_bytes_view(&data), &again);
        if (!md_str_eq(md_bytes_view(&again), text)) {
            abort();
        }
    }
    md_bytes_deinit(&data);
    md_bytes_deinit(&again);
}

static bool inflate_all(enum md_coding coding, struct md_str text, size_t slice,
                        struct md_bytes *out)
{
    enum { ROOM = 1000, OUT_MAX = 1 << 16 };
    struct md_inflate *inflate = NULL;
    struct md_error err;
    enum md_progress progress = MD_PROGRESS_ERROR;
    size_t at = 0, consumed = 0, produced = 0;

    if (!md_inflate_create(coding, NULL, &inflate, &err)) {
        return false;
    }
    do {
        if (!md_bytes_reserve(out, ROOM)) {
            break;
        }
        progress = md_inflate_step(inflate, text.ptr + at, md_size_min(slice, text.len - at),
                                   out->data + out->len, ROOM, &consumed, &produced, &err);
        at += consumed;
        out->len += produced;
    } while (progress == MD_PROGRESS_AGAIN && (consumed || produced) && out->len < OUT_MAX);
    md_inflate_destroy(inflate);
    return progress == MD_PROGRESS_DONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct md_bytes whole = {0}, sliced = {0};

    if (size == 0) {
        return 0;
    }
    struct md_str text = md_str_make((const char *)bytes + 1, size - 1);
    enum md_coding coding = bytes[0] & 1 ? MD_CODING_GZIP : MD_CODING_DEFLATE;
    check_base64(text);
    bool good = inflate_all(coding, text, SIZE_MAX, &whole);
    bool good_sliced = inflate_all(coding, text, 1 + bytes[0] / 8, &sliced);
    if (good && (!good_sliced || !md_str_eq(md_bytes_view(&whole), md_bytes_view(&sliced)))) {
        abort();
    }
    md_bytes_deinit(&whole);
    md_bytes_deinit(&sliced);
    return 0;
}
