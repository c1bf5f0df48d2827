/*
 * The --config file: YAML, read as events. Options are scalars or lists of scalars at the top
 * level; `models` is a list of overlays, whose `config` is turned into JSON as it is read.
 *
 * Aliases are refused (a small file could unfold into a huge one); size and depth are bounded.
 */
#include "codec/json.h"
#include "config/options.h"

#include <yaml.h>

enum { FILE_MAX = 1 << 20, DEPTH_MAX = 32 };

struct yaml {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *file;
    const struct md_yaml_target *target;
    struct md_diagnostics *diagnostics;
};

static unsigned line_of(const struct yaml *y)
{
    return (unsigned)y->event.start_mark.line + 1;
}

static bool fail(struct yaml *y, const char *text)
{
    return md_diagnose(y->diagnostics, MD_SEVERITY_ERROR, y->file, line_of(y),
                       (unsigned)y->event.start_mark.column + 1, "%s", text);
}

static bool next(struct yaml *y)
{
    if (y->has_event) {
        yaml_event_delete(&y->event);
        y->has_event = false;
    }
    if (!yaml_parser_parse(&y->parser, &y->event)) {
        return md_diagnose(y->diagnostics, MD_SEVERITY_ERROR, y->file,
                           (unsigned)y->parser.problem_mark.line + 1,
                           (unsigned)y->parser.problem_mark.column + 1, "%s",
                           y->parser.problem ? y->parser.problem : "out of memory");
    }
    y->has_event = true;
    if (y->event.type == YAML_ALIAS_EVENT) {
        return fail(y, "aliases are not accepted");
    }
    return true;
}

static struct md_str scalar(const struct yaml *y)
{
    return md_str_make((const char *)y->event.data.scalar.value, y->event.data.scalar.length);
}

/* --- a value as JSON -------------------- */

static void append_scalar(const struct yaml *y, struct md_bytes *out)
{
    struct md_str text = scalar(y);
    bool plain = y->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    double number;

    if (plain && (md_str_eq_c(text, "true") || md_str_eq_c(text, "false") ||
                  md_json_to_f64(text, &number))) {
        md_bytes_append_str(out, text);
    } else if (plain && (text.len == 0 || md_str_eq_c(text, "null") || md_str_eq_c(text, "~"))) {
        md_bytes_append_c(out, "null");
    } else {
        md_json_append_string(out, text);
    }
}

/* The value whose first event is current, to its last. */
static bool to_json(struct yaml *y, struct md_bytes *out)
{
    struct {
        bool is_map;
        size_t count; /* keys and values, or items */
    } open[DEPTH_MAX];
    size_t depth = 0;

    for (;;) {
        bool closes =
            y->event.type == YAML_MAPPING_END_EVENT || y->event.type == YAML_SEQUENCE_END_EVENT;
        if (closes) {
            md_bytes_append_char(out, open[--depth].is_map ? '}' : ']');
        } else {
            bool is_key = depth && open[depth - 1].is_map && open[depth - 1].count % 2 == 0;
            bool is_value = depth && open[depth - 1].is_map && !is_key;
            if (is_key && y->event.type != YAML_SCALAR_EVENT) {
                return fail(y, "a key must be a plain name");
            }
            if (depth && !is_value && open[depth - 1].count) {
                md_bytes_append_char(out, ',');
            }
            if (is_value) {
                md_bytes_append_char(out, ':');
            }
            if (depth) {
                open[depth - 1].count++;
            }
            if (y->event.type == YAML_SCALAR_EVENT && is_key) {
                md_json_append_string(out, scalar(y));
            } else if (y->event.type == YAML_SCALAR_EVENT) {
                append_scalar(y, out);
            } else if (depth == DEPTH_MAX) {
                return fail(y, "too many nested levels");
            } else {
                open[depth].is_map = y->event.type == YAML_MAPPING_START_EVENT;
                open[depth].count = 0;
                md_bytes_append_char(out, open[depth++].is_map ? '{' : '[');
            }
        }
        if (depth == 0) {
            return true;
        }
        if (!next(y)) {
            return false;
        }
    }
}

/* --- the document -------------------- */

static bool read_overlay(struct yaml *y)
{
    struct md_bytes json = {.max = FILE_MAX}, pattern = {.max = 4096};
    unsigned line = line_of(y);
    bool ok = y->event.type == YAML_MAPPING_START_EVENT ||
              fail(y, "an entry of 'models' has 'pattern' and 'config'");

    while (ok && (ok = next(y)) && y->event.type != YAML_MAPPING_END_EVENT) {
        if (y->event.type != YAML_SCALAR_EVENT) {
            ok = fail(y, "a key must be a plain name");
            break;
        }
        bool is_pattern = md_str_eq_c(scalar(y), "pattern"),
             is_config = md_str_eq_c(scalar(y), "config");
        if (!is_pattern && !is_config) {
            ok = fail(y, "an entry of 'models' has the keys 'pattern' and 'config' only");
        } else if (!(ok = next(y))) {
            break;
        } else if (is_pattern) {
            ok = y->event.type == YAML_SCALAR_EVENT || fail(y, "'pattern' must be text");
            if (ok) {
                md_bytes_clear(&pattern);
                md_bytes_append_str(&pattern, scalar(y));
            }
        } else {
            md_bytes_clear(&json);
            ok = (y->event.type == YAML_MAPPING_START_EVENT ||
                  fail(y, "'config' must be a mapping")) &&
                 to_json(y, &json);
        }
    }
    if (ok && (!pattern.len || !json.len)) {
        ok = fail(y, "an entry of 'models' needs both 'pattern' and 'config'");
    }
    ok = ok &&
         y->target->overlay(y->target->arg, md_bytes_view(&pattern), md_bytes_view(&json), line);
    md_bytes_deinit(&json);
    md_bytes_deinit(&pattern);
    return ok;
}

static bool read_list(struct yaml *y, struct md_str name, bool overlays)
{
    bool ok = true;

    if (y->event.type != YAML_SEQUENCE_START_EVENT) {
        return fail(y, "a list was expected");
    }
    while (next(y)) {
        if (y->event.type == YAML_SEQUENCE_END_EVENT) {
            return ok;
        }
        if (overlays) {
            if (!read_overlay(y)) {
                return false;
            }
        } else if (y->event.type != YAML_SCALAR_EVENT) {
            return fail(y, "a list of an option holds plain values");
        } else {
            ok = y->target->set(y->target->arg, name, scalar(y), line_of(y)) && ok;
        }
    }
    return false;
}

static bool read_entry(struct yaml *y, struct md_arena *arena)
{
    if (y->event.type != YAML_SCALAR_EVENT) {
        return fail(y, "an option's name was expected");
    }
    struct md_str name = md_arena_copy(arena, scalar(y));
    if (!name.ptr || !next(y)) {
        return false;
    }
    if (md_str_eq_c(name, "models")) {
        return read_list(y, name, true);
    }
    if (y->event.type == YAML_SEQUENCE_START_EVENT) {
        return read_list(y, name, false);
    }
    if (y->event.type != YAML_SCALAR_EVENT) {
        return fail(y, "an option's value is plain, or a list");
    }
    (void)y->target->set(y->target->arg, name, scalar(y),
                         line_of(y)); /* reported; go on with the next */
    return true;
}

static bool read_document(struct yaml *y, struct md_arena *arena)
{
    do {
        if (!next(y)) {
            return false;
        }
        if (y->event.type == YAML_STREAM_END_EVENT) {
            return true; /* an empty file */
        }
    } while (y->event.type == YAML_STREAM_START_EVENT ||
             y->event.type == YAML_DOCUMENT_START_EVENT);
    if (y->event.type == YAML_SCALAR_EVENT && scalar(y).len == 0) {
        return true;
    }
    if (y->event.type != YAML_MAPPING_START_EVENT) {
        return fail(y, "the file must hold 'option: value' lines");
    }
    while (next(y)) {
        if (y->event.type == YAML_MAPPING_END_EVENT) {
            return true;
        }
        if (!read_entry(y, arena)) {
            return false;
        }
    }
    return false;
}

bool md_yaml_read(struct md_str text, const char *file, const struct md_yaml_target *target,
                  struct md_arena *arena, struct md_diagnostics *diagnostics)
{
    struct yaml y = {.file = file, .target = target, .diagnostics = diagnostics};
    size_t errors_before = diagnostics->error_count;

    if (text.len > FILE_MAX) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, file, 0, 0,
                           "the file is larger than 1 MiB");
    }
    if (!yaml_parser_initialize(&y.parser)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, file, 0, 0, "out of memory");
    }
    yaml_parser_set_input_string(&y.parser, (const unsigned char *)text.ptr, text.len);
    bool ok = read_document(&y, arena);
    if (y.has_event) {
        yaml_event_delete(&y.event);
    }
    yaml_parser_delete(&y.parser);
    return ok && diagnostics->error_count == errors_before;
}
