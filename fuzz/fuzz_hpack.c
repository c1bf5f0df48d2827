/*
 * Header blocks of one connection: the same fields however a block is cut, and what is said to
 * leave the table as it is means the same when it comes again.
 *
 * The input is blocks, each behind a byte with its length.
 */
#include "http/hpack.h"
#include "http/http2_head.h"

#include <stdint.h>
#include <stdlib.h>

static enum md_progress decode(struct md_hpack_decoder *decoder, struct md_str block, size_t step,
                               struct md_bytes *text)
{
    struct md_hpack_field field;

    for (;;) {
        struct md_str piece = md_str_make(block.ptr, md_size_min(step, block.len));
        block = md_str_make(block.ptr + piece.len, block.len - piece.len);
        do {
            enum md_progress progress = md_hpack_decode(decoder, &piece, block.len == 0, &field);
            if (progress != MD_PROGRESS_AGAIN) {
                return progress;
            }
            if (field.name.ptr) {
                md_bytes_append_str(text, field.name);
                md_bytes_append_char(text, '\0');
                md_bytes_append_str(text, field.value);
                md_bytes_append_char(text, '\n');
            }
        } while (field.name.ptr);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct md_hpack_decoder *whole, *cut;
    struct md_bytes a = {0}, b = {0};
    bool goes_on = true;

    if (!md_hpack_decoder_create(&whole)) {
        return 0;
    }
    if (!md_hpack_decoder_create(&cut)) {
        md_hpack_decoder_destroy(whole);
        return 0;
    }
    for (size_t at = 0; goes_on && at < size;) {
        size_t len = md_size_min(bytes[at], size - at - 1);
        struct md_str block = md_str_make((const char *)bytes + at + 1, len);
        at += 1 + len;
        md_bytes_clear(&a);
        md_bytes_clear(&b);
        enum md_progress progress = decode(whole, block, SIZE_MAX, &a);
        if (decode(cut, block, 1, &b) != progress) {
            abort();
        }
        goes_on = progress == MD_PROGRESS_DONE;
        if (goes_on && !md_str_eq(md_bytes_view(&a), md_bytes_view(&b))) {
            abort();
        }
        if (goes_on && md_http2_block_is_stable(block)) {
            md_bytes_clear(&b);
            if (decode(whole, block, SIZE_MAX, &b) != MD_PROGRESS_DONE ||
                !md_str_eq(md_bytes_view(&a), md_bytes_view(&b))) {
                abort();
            }
        }
    }
    md_bytes_deinit(&a);
    md_bytes_deinit(&b);
    md_hpack_decoder_destroy(whole);
    md_hpack_decoder_destroy(cut);
    return 0;
}
