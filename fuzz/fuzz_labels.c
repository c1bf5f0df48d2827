/*
 * Class labels: an accepted file's lines, joined, are the file again but for line ends and mark.
 */
#include "config/labels.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct md_str text = md_str_make((const char *)bytes, size);
    struct md_arena arena = {0};
    const struct md_str *labels;
    struct md_error err;
    size_t count, sum = 0;

    if (md_labels_parse(text, &arena, &labels, &count, &err)) {
        for (size_t i = 0; i < count; i++) {
            if (labels[i].ptr < text.ptr || labels[i].ptr + labels[i].len > text.ptr + size ||
                (labels[i].len && memchr(labels[i].ptr, '\n', labels[i].len))) {
                abort();
            }
            sum += labels[i].len;
        }
        if (sum > size || size - sum > 3 + 2 * count) {
            abort();
        }
    }
    md_arena_deinit(&arena);
    return 0;
}
