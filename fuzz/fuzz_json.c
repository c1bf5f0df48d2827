/*
 * The JSON pull reader: ends on every input, never reads outside, and skip agrees with token by
 * token.
 */
#include "codec/json.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *copy =
        malloc(size ? size : 1); /* exactly as long as the input, so that overreads are seen */
    struct md_arena arena = {0};
    struct md_json json, skipper;
    enum md_json_token token;

    for (size_t i = 0; i < size; i++) {
        copy[i] = (char)bytes[i];
    }
    md_json_init(&json, md_str_make(copy, size), &arena, 64);
    do {
        (void)md_json_peek(&json);
        token = md_json_next(&json);
    } while (token != MD_JSON_END && token != MD_JSON_ERROR);
    md_json_init(&skipper, md_str_make(copy, size), &arena, 64);
    bool skipped = md_json_skip(&skipper) && md_json_next(&skipper) == MD_JSON_END;
    if (skipped != (token == MD_JSON_END)) {
        abort();
    }
    md_arena_deinit(&arena);
    free(copy);
    return 0;
}
