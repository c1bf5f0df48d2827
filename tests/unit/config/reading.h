/*
 * A configuration that a test has read, with what was said about it.
 */
#ifndef TEST_CONFIG_READING_H
#define TEST_CONFIG_READING_H

#include "config/schema.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <setjmp.h>
#include <cmocka.h>

struct reading {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_message *message; /* NULL when there was no memory */
    struct md_bytes text;       /* of reading_errors and reading_json */
    bool ok;
};

enum reading_form { READ_PBTXT, READ_JSON };

static inline void reading_begin(struct reading *r, enum reading_form form, struct md_str text)
{
    *r = (struct reading){.ok = false};
    md_diagnostics_init(&r->diagnostics, &r->arena);
    r->message = md_message_create(&md_model_config_desc, &r->arena);
    if (r->message) {
        r->ok = form == READ_JSON
                    ? md_message_parse_json(text, "f", r->message, &r->arena, &r->diagnostics)
                    : md_pbtxt_parse(text, "f", r->message, &r->arena, &r->diagnostics);
    }
}

static inline void reading_end(struct reading *r)
{
    md_bytes_deinit(&r->text);
    md_arena_deinit(&r->arena);
}

/* All diagnostics, one a line. */
static inline const char *reading_errors(struct reading *r)
{
    md_bytes_clear(&r->text);
    for (size_t i = 0; i < r->diagnostics.count; i++) {
        md_diagnostic_print(&r->diagnostics.items[i], &r->text);
        md_bytes_append_char(&r->text, '\n');
    }
    md_bytes_append_char(&r->text, '\0');
    return r->text.data;
}

static inline const char *reading_json(struct reading *r)
{
    md_bytes_clear(&r->text);
    md_message_print_json(r->message, &r->text);
    md_bytes_append_char(&r->text, '\0');
    return r->text.data;
}

#endif
