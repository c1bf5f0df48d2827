/*
 * The --config file with everything behind it: options, overlays.
 */
#include "config/options.h"

#include <stdint.h>

static struct md_str file_text;

static bool read_file(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                      struct md_error *err)
{
    (void)arg;
    (void)path;
    (void)arena;
    (void)err;
    *out = file_text;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct md_diagnostics diagnostics;
    char *argv[] = {(char[]){"modeld"}, (char[]){"--config=x"}, NULL};
    const struct md_file_reader reader = {.read = read_file};
    struct md_arena arena = {0};
    struct md_options options;

    file_text = md_str_make((const char *)bytes, size);
    md_diagnostics_init(&diagnostics, &arena);
    (void)!md_options_parse(2, argv, NULL, false, &reader, &arena, &options, &diagnostics);
    md_arena_deinit(&arena);
    return 0;
}
