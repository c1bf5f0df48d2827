/*
 * Messages as JSON, both ways, driven by the schema. Depth is bounded and kept on an explicit
 * stack.
 */
#include "codec/json.h"
#include "config/schema.h"

#include <stdarg.h>
#include <stdio.h>

enum { DEPTH_MAX = 32 };

/* --- reading -------------------- */

struct reader {
    struct md_json json;
    const char *file;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    struct {
        struct md_message *message; /* the object that is open */
        int field; /* MAP: entries go to this field of `message`; -1: an ordinary object */
        int list;  /* an array of messages of this field is open; -1: none */
    } open[DEPTH_MAX];
    size_t depth;
};

static unsigned line_of(const struct reader *r)
{
    unsigned line = 1;

    for (const char *c = r->json.begin; c < r->json.at; c++) {
        line += *c == '\n';
    }
    return line;
}

static bool fail(struct reader *r, const char *format, ...) MD_PRINTF(2, 3);

static bool fail(struct reader *r, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, line_of(r), 0, "%s", text);
}

static bool push(struct reader *r, struct md_message *message, int field)
{
    if (r->depth == DEPTH_MAX) {
        return fail(r, "more than %d nested levels", DEPTH_MAX);
    }
    r->open[r->depth].message = message;
    r->open[r->depth].field = field;
    r->open[r->depth++].list = -1;
    return true;
}

static bool enum_value(struct reader *r, const struct md_field_desc *field,
                       enum md_json_token token, struct md_value *out)
{
    int64_t number = -1;

    if (token == MD_JSON_NUMBER && !md_json_to_i64(r->json.text, &number)) {
        number = -1;
    }
    for (const struct md_enum_value *value = field->values; value->name; value++) {
        if ((token == MD_JSON_STRING && md_str_eq_c(r->json.text, value->name)) ||
            (token == MD_JSON_NUMBER && number == value->number)) {
            out->as.integer = value->number;
            return true;
        }
    }
    return fail(r, "'%s' has no value '%.*s'", field->name, MD_STR_ARG(r->json.text));
}

static bool scalar(struct reader *r, const struct md_field_desc *field, enum md_json_token token,
                   struct md_value *out)
{
    bool is_text = token == MD_JSON_STRING;
    bool is_number = token == MD_JSON_NUMBER;

    *out = (struct md_value){0};
    switch (field->kind) {
    case MD_FIELD_BOOL:
        out->as.boolean = token == MD_JSON_TRUE;
        return token == MD_JSON_TRUE || token == MD_JSON_FALSE ||
               fail(r, "'%s' must be true or false", field->name);
    case MD_FIELD_INT: {
        bool ok =
            (is_text || is_number) && md_json_to_i64(r->json.text, &out->as.integer) &&
            (field->bits == 64 || (out->as.integer >= INT32_MIN && out->as.integer <= INT32_MAX));
        return ok || fail(r, "'%s' must be an integer of %u bits", field->name, field->bits);
    }
    case MD_FIELD_UINT: {
        bool ok = (is_text || is_number) && md_json_to_u64(r->json.text, &out->as.natural) &&
                  (field->bits == 64 || out->as.natural <= UINT32_MAX);
        return ok || fail(r, "'%s' must be a natural number of %u bits", field->name, field->bits);
    }
    case MD_FIELD_DOUBLE:
        return ((is_text || is_number) && md_json_to_f64(r->json.text, &out->as.number)) ||
               fail(r, "'%s' must be a number", field->name);
    case MD_FIELD_ENUM:
        return enum_value(r, field, token, out);
    default:
        if (!is_text) {
            return fail(r, "'%s' must be a string", field->name);
        }
        out->as.string = md_arena_copy(r->arena, r->json.text);
        return out->as.string.ptr || fail(r, "out of memory");
    }
}

static struct md_message *child(struct reader *r, struct md_message *parent, int index)
{
    struct md_message *message = md_message_create(parent->desc->fields[index].message, r->arena);

    if (!message || !md_message_add(parent, (size_t)index, (struct md_value){.as.message = message},
                                    r->arena)) {
        (void)fail(r, "out of memory");
        return NULL;
    }
    message->file = r->file;
    message->line = line_of(r);
    return message;
}

/* A value of field `index` of message; token is its first. */
static bool field_value(struct reader *r, struct md_message *message, int index,
                        enum md_json_token token)
{
    const struct md_field_desc *field = &message->desc->fields[index];
    struct md_value value;

    if (token == MD_JSON_NULL) {
        return true; /* not set */
    }
    if (field->kind == MD_FIELD_MAP) {
        return token == MD_JSON_OBJECT_BEGIN ? push(r, message, index)
                                             : fail(r, "'%s' must be an object", field->name);
    }
    if (field->kind == MD_FIELD_MESSAGE) {
        if (token != MD_JSON_OBJECT_BEGIN) {
            return fail(r, "'%s' must be an object", field->name);
        }
        struct md_message *inner = child(r, message, index);
        return inner && push(r, inner, -1);
    }
    return scalar(r, field, token, &value) &&
           (md_message_add(message, (size_t)index, value, r->arena) || fail(r, "out of memory"));
}

static bool map_entry(struct reader *r, struct md_message *message, int index)
{
    struct md_message *entry = child(r, message, index);
    struct md_value key = {0};
    bool is_number = message->desc->fields[index].message->fields[0].kind == MD_FIELD_UINT;

    if (!entry) {
        return false;
    }
    if (is_number ? !md_json_to_u64(r->json.text, &key.as.natural)
                  : !(key.as.string = md_arena_copy(r->arena, r->json.text)).ptr) {
        return fail(r, "a key of '%s' must be a number", message->desc->fields[index].name);
    }
    return (md_message_add(entry, 0, key, r->arena) || fail(r, "out of memory")) &&
           field_value(r, entry, 1, md_json_next(&r->json));
}

static bool key(struct reader *r)
{
    struct md_message *message = r->open[r->depth - 1].message;

    if (r->open[r->depth - 1].field >= 0) {
        return map_entry(r, message, r->open[r->depth - 1].field);
    }
    int index = md_message_field(message->desc, r->json.text);
    if (index < 0) {
        const char *nearest = md_message_nearest_field(message->desc, r->json.text);
        return fail(r, "unknown field '%.*s' in %s%s%s%s", MD_STR_ARG(r->json.text),
                    message->desc->name, nearest ? ", did you mean '" : "", nearest ? nearest : "",
                    nearest ? "'?" : "");
    }
    enum md_json_token token = md_json_next(&r->json);
    if (token != MD_JSON_ARRAY_BEGIN) {
        return field_value(r, message, index, token);
    }
    if (!message->desc->fields[index].repeated) {
        return fail(r, "'%s' takes one value, not a list", message->desc->fields[index].name);
    }
    r->open[r->depth - 1].list = index;
    return true;
}

static bool step(struct reader *r, bool *done)
{
    int list = r->open[r->depth - 1].list;
    enum md_json_token token = md_json_next(&r->json);

    if (token == MD_JSON_ERROR) {
        return md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, line_of(r), 0, "%s",
                           r->json.error.text);
    }
    if (list >= 0) {
        if (token == MD_JSON_ARRAY_END) {
            r->open[r->depth - 1].list = -1;
            return true;
        }
        return field_value(r, r->open[r->depth - 1].message, list, token);
    }
    if (token == MD_JSON_OBJECT_END) {
        *done = --r->depth == 0;
        return true;
    }
    return key(r);
}

bool md_message_parse_json(struct md_str text, const char *file, struct md_message *message,
                           struct md_arena *arena, struct md_diagnostics *diagnostics)
{
    struct reader r = {.file = file, .arena = arena, .diagnostics = diagnostics};
    bool done = false;

    md_json_init(&r.json, text, arena, 64);
    message->file = file;
    message->line = 1;
    if (md_json_next(&r.json) != MD_JSON_OBJECT_BEGIN) {
        return fail(&r, "a JSON object was expected");
    }
    if (!push(&r, message, -1)) {
        return false;
    }
    while (!done) {
        if (!step(&r, &done)) {
            return false;
        }
    }
    return md_json_next(&r.json) == MD_JSON_END || fail(&r, "something follows the object");
}

/* --- printing -------------------- */

struct printer {
    struct md_bytes *out;
    struct {
        const struct md_message *message;
        size_t field, index; /* what comes next */
        bool first;          /* nothing printed in this object yet */
    } open[DEPTH_MAX];
    size_t depth;
};

static void print_scalar(const struct md_field_desc *field, struct md_value value,
                         struct md_bytes *out)
{
    switch (field->kind) {
    case MD_FIELD_BOOL:
        md_bytes_append_c(out, value.as.boolean ? "true" : "false");
        break;
    case MD_FIELD_INT:
        md_bytes_append_i64(out, value.as.integer);
        break;
    case MD_FIELD_UINT:
        md_bytes_append_u64(out, value.as.natural);
        break;
    case MD_FIELD_DOUBLE:
        md_json_append_f64(out, value.as.number);
        break;
    case MD_FIELD_ENUM:
        md_json_append_string(out, md_str_of(md_enum_name(field->values, value.as.integer)));
        break;
    default:
        md_json_append_string(out, value.as.string);
        break;
    }
}

static void print_name(struct printer *p, const char *name)
{
    if (!p->open[p->depth - 1].first) {
        md_bytes_append_char(p->out, ',');
    }
    p->open[p->depth - 1].first = false;
    md_json_append_string(p->out, md_str_of(name));
    md_bytes_append_char(p->out, ':');
}

static void open_object(struct printer *p, const struct md_message *message)
{
    md_bytes_append_char(p->out, '{');
    p->open[p->depth].message = message;
    p->open[p->depth].field = p->open[p->depth].index = 0;
    p->open[p->depth++].first = true;
}

static void print_scalars(struct printer *p, const struct md_field_desc *field,
                          const struct md_field_values *values)
{
    md_bytes_append_char(p->out, '[');
    for (size_t i = 0; i < values->count; i++) {
        if (i) {
            md_bytes_append_char(p->out, ',');
        }
        print_scalar(field, values->items[i], p->out);
    }
    md_bytes_append_char(p->out, ']');
}

/* A map's entry: the key, then a scalar value at once or an object that is left open. */
static void print_entry(struct printer *p, const struct md_message *entry, bool first)
{
    const struct md_message_desc *desc = entry->desc;
    struct md_value key = entry->fields[0].count ? entry->fields[0].items[0] : (struct md_value){0};
    struct md_value value =
        entry->fields[1].count ? entry->fields[1].items[0] : (struct md_value){0};

    if (!first) {
        md_bytes_append_char(p->out, ',');
    }
    if (desc->fields[0].kind == MD_FIELD_UINT) {
        md_bytes_printf(p->out, "\"%llu\"", (unsigned long long)key.as.natural);
    } else {
        md_json_append_string(p->out, key.as.string);
    }
    md_bytes_append_char(p->out, ':');
    if (desc->fields[1].kind != MD_FIELD_MESSAGE) {
        print_scalar(&desc->fields[1], value, p->out);
    } else if (value.as.message) {
        open_object(p, value.as.message);
    } else {
        md_bytes_append_c(p->out, "{}");
    }
}

/* Prints the next piece of the innermost object. */
static void print_step(struct printer *p)
{
    const size_t top = p->depth - 1;
    const struct md_message *message = p->open[top].message;
    const size_t index = p->open[top].index;

    if (p->open[top].field == message->desc->field_count) {
        md_bytes_append_char(p->out, '}');
        p->depth--;
        return;
    }
    const struct md_field_desc *field = &message->desc->fields[p->open[top].field];
    const struct md_field_values *values = &message->fields[p->open[top].field];
    bool is_map = field->kind == MD_FIELD_MAP, is_message = field->kind == MD_FIELD_MESSAGE;
    if (!is_map && !is_message) {
        p->open[top].field++;
        if (!field->oneof || values->count) {
            print_name(p, field->name);
            if (field->repeated) {
                print_scalars(p, field, values);
            } else {
                print_scalar(field, values->count ? values->items[0] : (struct md_value){0},
                             p->out);
            }
        }
        return;
    }
    bool is_list = is_map || field->repeated;
    if (index == 0 && (is_list || values->count)) {
        print_name(p, field->name);
        if (is_list) {
            md_bytes_append_char(p->out, is_map ? '{' : '[');
        }
    }
    if (index == values->count || p->depth == DEPTH_MAX) {
        if (is_list) {
            md_bytes_append_char(p->out, is_map ? '}' : ']');
        }
        p->open[top].field++;
        p->open[top].index = 0;
        return;
    }
    p->open[top].index++;
    if (is_map) {
        print_entry(p, values->items[index].as.message, index == 0);
        return;
    }
    if (index) {
        md_bytes_append_char(p->out, ',');
    }
    open_object(p, values->items[index].as.message);
}

void md_message_print_json(const struct md_message *message, struct md_bytes *out)
{
    struct printer p = {.out = out};

    open_object(&p, message);
    while (p.depth) {
        print_step(&p);
    }
}
