/*
 * Reads model configurations as text from standard input, each behind its length in a line of its
 * own, and prints one line for each: its JSON (with an argument: its protobuf as hexadecimal
 * digits), or the first error. For tests that compare reader and printers with others.
 */
#include "config/schema.h"

#include <stdio.h>
#include <stdlib.h>

static void print_protobuf(const struct md_message *config, struct md_bytes *out)
{
    struct md_bytes wire = {0};

    md_message_print_protobuf(config, &wire);
    for (size_t i = 0; i < wire.len; i++) {
        md_bytes_printf(out, "%02x", (unsigned char)wire.data[i]);
    }
    md_bytes_deinit(&wire);
}

static void print_one(struct md_str text, bool as_protobuf, struct md_arena *arena)
{
    struct md_message *config = md_message_create(&md_model_config_desc, arena);
    struct md_diagnostics diagnostics;
    struct md_bytes out = {0};

    md_diagnostics_init(&diagnostics, arena);
    if (!config) {
        abort();
    }
    if (md_pbtxt_parse(text, "text", config, arena, &diagnostics)) {
        (as_protobuf ? print_protobuf : md_message_print_json)(config, &out);
    } else {
        md_diagnostic_print(&diagnostics.items[0], &out);
    }
    (void)printf("%.*s\n", MD_STR_ARG(md_bytes_view(&out)));
    md_bytes_deinit(&out);
}

int main(int argc, char **argv)
{
    size_t len;

    (void)argv;
    while (scanf("%zu", &len) == 1 && getchar() == '\n') {
        struct md_arena arena = {0};
        char *text = md_arena_alloc(&arena, len + 1);
        if (!text || fread(text, 1, len, stdin) != len) {
            return 1;
        }
        print_one(md_str_make(text, len), argc > 1, &arena);
        md_arena_deinit(&arena);
    }
    return 0;
}
