/*
 * YAML through libyaml's events.
 *
 * Each reader below is called with the first event of its node current and returns with the last
 * one current. They return false only when reading cannot go on; a complaint skips its node.
 * libyaml allocates from the C library, not through base/alloc.h.
 */
#include "config/yaml.h"

#include "codec/json.h"

#include <yaml.h>

enum { TEXT_MAX = 1 << 20, DEPTH_MAX = 32, PATTERN_MAX = 4096, JSON_MAX = 16 << 20 };

struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *file;
    const struct md_yaml_handler *handler;
    struct md_diagnostics *diagnostics;
    size_t json_bytes; /* of all overlays so far */
};

static struct md_yaml_place place_of(const struct reader *r)
{
    return (struct md_yaml_place){.line = (unsigned)r->event.start_mark.line + 1,
                                  .column = (unsigned)r->event.start_mark.column + 1};
}

static bool report(struct reader *r, const char *text)
{
    struct md_yaml_place place = place_of(r);

    return md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, place.line, place.column, "%s",
                       text);
}

static bool next(struct reader *r)
{
    if (r->has_event) {
        yaml_event_delete(&r->event);
        r->has_event = false;
    }
    if (!yaml_parser_parse(&r->parser, &r->event)) {
        const yaml_mark_t *mark =
            r->parser.error == YAML_READER_ERROR ? &r->parser.mark : &r->parser.problem_mark;
        return md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, (unsigned)mark->line + 1,
                           (unsigned)mark->column + 1, "%s",
                           r->parser.problem ? r->parser.problem : "out of memory");
    }
    r->has_event = true;
    if (r->event.type == YAML_ALIAS_EVENT) {
        return report(r, "aliases are not accepted: write the value out");
    }
    return true;
}

static bool is_scalar(const struct reader *r)
{
    return r->event.type == YAML_SCALAR_EVENT;
}

static struct md_str scalar(const struct reader *r)
{
    return md_str_make((const char *)r->event.data.scalar.value, r->event.data.scalar.length);
}

static bool is_one_of(struct md_str text, const char *const words[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (md_str_eq_c(text, words[i])) {
            return true;
        }
    }
    return false;
}

/* Without quotes and without a tag: may be something else than text. */
static bool is_plain(const struct reader *r)
{
    return is_scalar(r) && r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           !r->event.data.scalar.tag;
}

static bool is_null(const struct reader *r)
{
    static const char *const words[] = {"", "~", "null", "Null", "NULL"};

    return is_plain(r) && is_one_of(scalar(r), words, MD_COUNT_OF(words));
}

static bool skip(struct reader *r)
{
    for (size_t depth = 0;;) {
        depth +=
            r->event.type == YAML_MAPPING_START_EVENT || r->event.type == YAML_SEQUENCE_START_EVENT;
        depth -=
            r->event.type == YAML_MAPPING_END_EVENT || r->event.type == YAML_SEQUENCE_END_EVENT;
        if (depth == 0) {
            return true;
        }
        if (depth > DEPTH_MAX) { /* the parser's time grows with the square of the depth */
            return report(r, "too many nested levels");
        }
        if (!next(r)) {
            return false;
        }
    }
}

static bool complain(struct reader *r, const char *text)
{
    (void)report(r, text);
    return skip(r);
}

/* --- a node as JSON -------------------- */

/* YAML 1.2's core schema, as far as JSON can say it. Other words and spellings are text. */
static void append_scalar(const struct reader *r, struct md_bytes *out)
{
    static const char *const trues[] = {"true", "True", "TRUE"};
    static const char *const falses[] = {"false", "False", "FALSE"};
    struct md_str text = scalar(r);
    double number;

    if (is_null(r)) {
        md_bytes_append_c(out, "null");
    } else if (is_plain(r) && is_one_of(text, trues, MD_COUNT_OF(trues))) {
        md_bytes_append_c(out, "true");
    } else if (is_plain(r) && is_one_of(text, falses, MD_COUNT_OF(falses))) {
        md_bytes_append_c(out, "false");
    } else if (is_plain(r) && md_json_to_f64(text, &number)) {
        md_bytes_append_str(out, text);
    } else {
        md_json_append_string(out, text);
    }
}

struct json_writer {
    struct md_bytes *out;
    unsigned line; /* that the output has come to */
    struct {
        bool is_map;
        size_t count; /* keys and values, or items */
    } open[DEPTH_MAX];
    size_t depth;
};

/* Goes to the event's line, so that whoever reads the JSON can name lines of the file. */
static void follow_line(const struct reader *r, struct json_writer *w)
{
    for (; w->line < place_of(r).line; w->line++) {
        md_bytes_append_char(w->out, '\n');
    }
}

static bool write_value(struct reader *r, struct json_writer *w)
{
    bool in_map = w->depth && w->open[w->depth - 1].is_map;
    bool is_key = in_map && w->open[w->depth - 1].count % 2 == 0;

    if (is_key && !is_scalar(r)) {
        return report(r, "a key must be a plain name");
    }
    if (w->depth && w->open[w->depth - 1].count++) {
        md_bytes_append_char(w->out, in_map && !is_key ? ':' : ',');
    }
    follow_line(r, w);
    if (is_key) {
        md_json_append_string(w->out, scalar(r));
    } else if (is_scalar(r)) {
        append_scalar(r, w->out);
    } else if (w->depth == DEPTH_MAX) {
        return report(r, "too many nested levels");
    } else {
        bool is_map = r->event.type == YAML_MAPPING_START_EVENT;
        w->open[w->depth].is_map = is_map;
        w->open[w->depth++].count = 0;
        md_bytes_append_char(w->out, is_map ? '{' : '[');
    }
    return true;
}

static bool to_json(struct reader *r, struct md_bytes *out)
{
    struct json_writer w = {.out = out, .line = 1};

    for (;;) {
        if (r->event.type == YAML_MAPPING_END_EVENT || r->event.type == YAML_SEQUENCE_END_EVENT) {
            md_bytes_append_char(out, w.open[--w.depth].is_map ? '}' : ']');
        } else if (!write_value(r, &w)) {
            return false;
        }
        if (out->failed) {
            return report(r, "the settings of models need too much memory; use fewer patterns");
        }
        if (w.depth == 0) {
            return true;
        }
        if (!next(r)) {
            return false;
        }
    }
}

/* --- the document -------------------- */

struct overlay {
    struct md_bytes pattern, json;
    bool ok;
};

/* The value of `pattern` or `config`. */
static bool read_overlay_value(struct reader *r, bool is_pattern, struct overlay *overlay)
{
    struct md_bytes *out = is_pattern ? &overlay->pattern : &overlay->json;

    if (out->len) {
        overlay->ok = false;
        return complain(r, "given twice in this entry of 'models'");
    }
    if (!is_pattern) {
        if (r->event.type == YAML_MAPPING_START_EVENT) {
            return to_json(r, out);
        }
        overlay->ok = false;
        return complain(r, "'config' must be a mapping of model settings");
    }
    if (!is_scalar(r) || !scalar(r).len || md_str_find(scalar(r), '\0') >= 0) {
        overlay->ok = false;
        return complain(r, "'pattern' must be a name, in which * and ? stand for others");
    }
    md_bytes_append_str(out, scalar(r));
    return true;
}

static bool read_overlay_entries(struct reader *r, struct overlay *overlay)
{
    for (;;) {
        if (!next(r)) {
            return false;
        }
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return true;
        }
        bool is_pattern = is_scalar(r) && md_str_eq_c(scalar(r), "pattern");
        bool is_known = is_pattern || (is_scalar(r) && md_str_eq_c(scalar(r), "config"));
        if (!is_known) {
            overlay->ok = false;
            if (!complain(r, "an entry of 'models' has the keys 'pattern' and 'config'")) {
                return false;
            }
        }
        if (!next(r) || !(is_known ? read_overlay_value(r, is_pattern, overlay) : skip(r))) {
            return false;
        }
    }
}

static bool read_overlay(struct reader *r)
{
    size_t left = r->json_bytes < JSON_MAX ? JSON_MAX - r->json_bytes : 1;
    struct overlay overlay = {.pattern.max = PATTERN_MAX, .json.max = left, .ok = true};
    struct md_yaml_place place = place_of(r);

    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return complain(r, "an entry of 'models' is a mapping of 'pattern' and 'config'");
    }
    bool goes_on = read_overlay_entries(r, &overlay);
    if (goes_on && overlay.ok) {
        if (overlay.pattern.failed) {
            (void)report(r, "the pattern is too long");
        } else if (!overlay.pattern.len || !overlay.json.len) {
            (void)md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, place.line, place.column,
                              "an entry of 'models' needs both 'pattern' and 'config'");
        } else {
            r->json_bytes += overlay.json.len;
            r->handler->overlay(r->handler->arg, md_bytes_view(&overlay.pattern),
                                md_bytes_view(&overlay.json), place);
        }
    }
    md_bytes_deinit(&overlay.json);
    md_bytes_deinit(&overlay.pattern);
    return goes_on;
}

static bool read_value(struct reader *r)
{
    if (!is_scalar(r)) {
        return complain(r, "an option's value is plain, or a list of plain values");
    }
    if (!is_null(r)) {
        r->handler->value(r->handler->arg, scalar(r), place_of(r));
    }
    return true;
}

static bool read_list(struct reader *r, bool (*read_item)(struct reader *))
{
    while (next(r)) {
        if (r->event.type == YAML_SEQUENCE_END_EVENT) {
            return true;
        }
        if (!read_item(r)) {
            return false;
        }
    }
    return false;
}

static bool read_entry(struct reader *r)
{
    enum md_yaml_shape shape;

    if (!is_scalar(r)) {
        return complain(r, "an option's name was expected") && next(r) && skip(r);
    }
    shape = r->handler->key(r->handler->arg, scalar(r), place_of(r));
    if (!next(r)) {
        return false;
    }
    bool is_list = r->event.type == YAML_SEQUENCE_START_EVENT;
    switch (shape) {
    case MD_YAML_SKIP:
        return skip(r);
    case MD_YAML_VALUE:
        return is_list ? complain(r, "this option takes one value, not a list") : read_value(r);
    case MD_YAML_LIST:
        return is_list ? read_list(r, read_value) : read_value(r);
    case MD_YAML_OVERLAYS:
    default:
        return is_null(r) || (is_list ? read_list(r, read_overlay)
                                      : complain(r, "'models' is a list: - pattern: ..."));
    }
}

static bool read_root(struct reader *r)
{
    if (is_null(r)) {
        return true;
    }
    if (r->event.type != YAML_MAPPING_START_EVENT) {
        return report(r, "the file must hold 'option: value' lines");
    }
    while (next(r)) {
        if (r->event.type == YAML_MAPPING_END_EVENT) {
            return true;
        }
        if (!read_entry(r)) {
            return false;
        }
    }
    return false;
}

static bool read_stream(struct reader *r)
{
    bool seen = false;

    while (next(r)) {
        switch (r->event.type) {
        case YAML_STREAM_END_EVENT:
            return true;
        case YAML_DOCUMENT_START_EVENT:
            if (seen) {
                return report(r, "the file must hold one document: nothing is read from here on");
            }
            seen = true;
            if (!next(r) || !read_root(r)) {
                return false;
            }
            break;
        default: /* the stream's begin, the document's end */
            break;
        }
    }
    return false;
}

bool md_yaml_read(struct md_str text, const char *file, const struct md_yaml_handler *handler,
                  struct md_diagnostics *diagnostics)
{
    struct reader r = {.file = file, .handler = handler, .diagnostics = diagnostics};
    size_t errors_before = diagnostics->error_count;

    if (text.len > TEXT_MAX) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, file, 0, 0,
                           "the file is larger than 1 MiB");
    }
    if (!yaml_parser_initialize(&r.parser)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, file, 0, 0, "out of memory");
    }
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)(text.ptr ? text.ptr : ""),
                                 text.len);
    bool ok = read_stream(&r);
    if (r.has_event) {
        yaml_event_delete(&r.event);
    }
    yaml_parser_delete(&r.parser);
    return ok && diagnostics->error_count == errors_before;
}
