/*
 * Tensors as JSON: what is read, in slices of any size, prints and reads back to the same bytes.
 */
#include "codec/tensor_json.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENTS_MAX = 64 };

static bool read_all(struct md_str text, enum md_dtype dtype, size_t count, size_t budget,
                     char *data, struct md_bytes *strings, struct md_arena *arena)
{
    struct md_tensor_reader reader;
    struct md_json json;
    enum md_progress progress;

    md_json_init(&json, text, arena, 32);
    md_tensor_reader_init(&reader, dtype, count, data, strings);
    do {
        progress = md_tensor_reader_step(&reader, &json, budget);
    } while (progress == MD_PROGRESS_AGAIN);
    return progress == MD_PROGRESS_DONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char data[ELEMENTS_MAX * 8] = {0}, again[ELEMENTS_MAX * 8] = {0};
    struct md_bytes strings = {.max = 1 << 16}, strings_again = {.max = 1 << 16}, text = {0};
    struct md_arena arena = {0};
    struct md_tensor_writer writer;

    if (size < 3) {
        return 0;
    }
    enum md_dtype dtype = (enum md_dtype)(1 + bytes[0] % (MD_DTYPE_COUNT - 1));
    size_t count = bytes[1] % ELEMENTS_MAX, budget = 1 + bytes[2];
    if (read_all(md_str_make((const char *)bytes + 3, size - 3), dtype, count, budget, data,
                 &strings, &arena)) {
        bool is_text = dtype == MD_DTYPE_BYTES;
        size_t len = is_text ? strings.len : count * md_dtype_size(dtype);
        md_tensor_writer_init(&writer, dtype, is_text ? strings.data : data, len);
        md_bytes_append_char(&text, '[');
        while (md_tensor_writer_step(&writer, &text, budget) == MD_PROGRESS_AGAIN) {}
        md_bytes_append_char(&text, ']');
        if (!read_all(md_bytes_view(&text), dtype, count, 1 << 20, again, &strings_again, &arena)) {
            abort();
        }
        bool has_nan = memmem(text.data, text.len, "NaN", 3) != NULL;
        if (len && !has_nan &&
            (is_text ? strings.len != strings_again.len ||
                           memcmp(strings.data, strings_again.data, len) != 0
                     : memcmp(data, again, len) != 0)) {
            abort();
        }
    }
    md_bytes_deinit(&strings);
    md_bytes_deinit(&strings_again);
    md_bytes_deinit(&text);
    md_arena_deinit(&arena);
    return 0;
}
