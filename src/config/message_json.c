/*
 * Messages as JSON, both ways, driven by the schema. Explicit stacks, bounded by the schema's
 * depth.
 *
 * A value that is wrong is skipped whole, so that one run reports all errors; a syntax error ends
 * the reading.
 */
#include "codec/json.h"
#include "config/schema.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { JSON_DEPTH_MAX = 64 }; /* of values that are skipped, too */

/* --- reading -------------------- */

struct reader {
    struct md_json json;
    const char *counted; /* lines are counted up to here */
    unsigned line;
    const char *file;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    size_t errors;
    struct {
        struct md_message *message; /* the object that is open */
        int map;  /* its keys are those of this field of `message`; -1: they are its fields */
        int list; /* an array of values of this field is open; -1: none */
    } open[MD_MESSAGE_DEPTH_MAX];
    size_t depth;
};

static unsigned line_of(struct reader *r)
{
    for (; r->counted < r->json.at; r->counted++) {
        r->line += *r->counted == '\n';
    }
    return r->line;
}

static bool fail(struct reader *r, const char *format, ...) MD_PRINTF(2, 3);

static bool fail(struct reader *r, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->errors++;
    return md_diagnose(r->diagnostics, MD_SEVERITY_ERROR, r->file, line_of(r), 0, "%s", text);
}

static bool no_memory(struct reader *r)
{
    return fail(r, "out of memory");
}

/* Leaves what is open inside the level `depth` of the document. */
static void skip_to(struct reader *r, uint32_t depth)
{
    while (r->json.depth > depth && md_json_next(&r->json) != MD_JSON_ERROR) {}
}

/* After a key that is wrong: over its value. A syntax error there ends the reading anyway. */
static bool skip_value(struct reader *r)
{
    if (!md_json_skip(&r->json)) {
        assert(r->json.failed);
    }
    return false;
}

static void push(struct reader *r, struct md_message *message, int map)
{
    assert(r->depth < MD_COUNT_OF(r->open));
    r->open[r->depth].message = message;
    r->open[r->depth].map = map;
    r->open[r->depth++].list = -1;
}

static bool text_value(struct reader *r, const struct md_field_desc *field, struct md_str *out)
{
    struct md_str text = r->json.text;

    if (text.len > MD_CONFIG_STRING_MAX) {
        return fail(r, "'%s': the string is too long", field->name);
    }
    if (text.len && memchr(text.ptr, 0, text.len)) {
        return fail(r, "'%s': the string holds a zero byte", field->name);
    }
    *out = md_arena_copy(r->arena, text);
    return out->ptr || no_memory(r);
}

static bool enum_value(struct reader *r, const struct md_field_desc *field,
                       enum md_json_token token, struct md_value *out)
{
    const struct md_enum_value *found = NULL;
    const char *nearest = NULL;
    int64_t number;

    if (token == MD_JSON_STRING) {
        found = md_enum_find(field->values, r->json.text);
        nearest = found ? NULL : md_enum_nearest(field->values, r->json.text);
    } else if (token == MD_JSON_NUMBER && md_json_to_i64(r->json.text, &number)) {
        found = md_enum_find_number(field->values, number);
    } else if (token != MD_JSON_NUMBER) {
        return fail(r, "'%s' must be the name of a value", field->name);
    }
    if (!found) {
        return fail(r, "'%s' has no value '%.*s'%s%s%s", field->name, MD_STR_ARG(r->json.text),
                    nearest ? ", did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
    }
    out->as.integer = found->number;
    return true;
}

static bool scalar(struct reader *r, const struct md_field_desc *field, enum md_json_token token,
                   struct md_value *out)
{
    bool is_text = token == MD_JSON_STRING;
    bool is_number = token == MD_JSON_NUMBER || is_text;

    *out = (struct md_value){0};
    switch (field->kind) {
    case MD_FIELD_BOOL:
        out->as.boolean = token == MD_JSON_TRUE;
        return token == MD_JSON_TRUE || token == MD_JSON_FALSE ||
               fail(r, "'%s' must be true or false", field->name);
    case MD_FIELD_INT: {
        bool ok =
            is_number && md_json_to_i64(r->json.text, &out->as.integer) &&
            (field->bits == 64 || (out->as.integer >= INT32_MIN && out->as.integer <= INT32_MAX));
        return ok || fail(r, "'%s' must be an integer of %u bits", field->name, field->bits);
    }
    case MD_FIELD_UINT: {
        bool ok = is_number && md_json_to_u64(r->json.text, &out->as.natural) &&
                  (field->bits == 64 || out->as.natural <= UINT32_MAX);
        return ok || fail(r, "'%s' must be a natural number of %u bits", field->name, field->bits);
    }
    case MD_FIELD_DOUBLE:
        return (is_number && md_json_to_f64(r->json.text, &out->as.number)) ||
               fail(r, "'%s' must be a number", field->name);
    case MD_FIELD_ENUM:
        return enum_value(r, field, token, out);
    default:
        return is_text ? text_value(r, field, &out->as.string)
                       : fail(r, "'%s' must be a string", field->name);
    }
}

static struct md_message *add_child(struct reader *r, struct md_message *parent, size_t index)
{
    struct md_message *message = md_message_create(parent->desc->fields[index].message, r->arena);

    if (!message ||
        !md_message_add(parent, index, (struct md_value){.as.message = message}, r->arena)) {
        (void)no_memory(r);
        return NULL;
    }
    message->file = r->file;
    message->line = line_of(r);
    return message;
}

/* A value of a field of message, which its first token has begun. What is no scalar stays open. */
static bool field_value(struct reader *r, struct md_message *message, size_t index,
                        enum md_json_token token)
{
    const struct md_field_desc *field = &message->desc->fields[index];
    struct md_value value;

    if (token == MD_JSON_ERROR) {
        return false; /* reported by the caller */
    }
    if (field->kind != MD_FIELD_MAP && field->kind != MD_FIELD_MESSAGE) {
        return scalar(r, field, token, &value) &&
               (md_message_add(message, index, value, r->arena) || no_memory(r));
    }
    if (token != MD_JSON_OBJECT_BEGIN) {
        return fail(r, "'%s' must be an object", field->name);
    }
    if (field->kind == MD_FIELD_MAP) {
        push(r, message, (int)index);
        return true;
    }
    struct md_message *child = add_child(r, message, index);
    if (child) {
        push(r, child, -1);
    }
    return child != NULL;
}

static bool map_key(struct reader *r, const struct md_message *entry, const char *name,
                    struct md_value *out)
{
    const struct md_field_desc *key = &entry->desc->fields[0];

    *out = (struct md_value){0};
    if (key->kind == MD_FIELD_STRING) {
        return text_value(r, key, &out->as.string);
    }
    return md_json_to_u64(r->json.text, &out->as.natural) ||
           fail(r, "a key of '%s' must be a natural number", name);
}

/* A key of a map: its entry, and the begin of its value. */
static bool map_entry(struct reader *r, struct md_message *message, size_t index)
{
    const char *name = message->desc->fields[index].name;
    struct md_message *entry = add_child(r, message, index);
    struct md_value key;

    if (!entry || !map_key(r, entry, name, &key) ||
        (!md_message_add(entry, 0, key, r->arena) && !no_memory(r))) {
        return skip_value(r);
    }
    enum md_map_result result = md_message_settle_entry(message, index, r->arena);
    if (result == MD_MAP_NO_MEMORY) {
        (void)no_memory(r);
    } else if (result == MD_MAP_FULL) {
        (void)fail(r, "'%s' has more than %d entries", name, MD_MAP_ENTRIES_MAX);
        r->errors = MD_MESSAGE_ERRORS_MAX; /* the next entries say nothing new */
    }
    if (result != MD_MAP_OK) {
        return skip_value(r);
    }
    enum md_json_token token = md_json_next(&r->json);
    struct md_message *value = entry->desc->fields[1].kind == MD_FIELD_MESSAGE
                                   ? entry->fields[1].items[0].as.message
                                   : NULL;
    if (token == MD_JSON_NULL) {
        return true;
    }
    if (!value) {
        return field_value(r, entry, 1, token);
    }
    if (token != MD_JSON_OBJECT_BEGIN) {
        return token != MD_JSON_ERROR && fail(r, "a value of '%s' must be an object", name);
    }
    value->file = r->file;
    value->line = line_of(r);
    push(r, value, -1); /* settling has made it */
    return true;
}

/* A field by its own name or the camelCase form of it. */
static int find_field(const struct md_message_desc *desc, struct md_str name)
{
    char snake[64];
    size_t n = 0;

    for (size_t i = 0; i < name.len && n < sizeof snake - 2; i++) {
        bool upper = name.ptr[i] >= 'A' && name.ptr[i] <= 'Z';
        if (upper) {
            snake[n++] = '_';
        }
        snake[n++] = (char)(upper ? name.ptr[i] + ('a' - 'A') : name.ptr[i]);
    }
    return md_message_field(desc, md_str_make(snake, n));
}

/* Looks a key up and says why it cannot stand here; -1 then. */
static int check_key(struct reader *r, const struct md_message *message)
{
    const char *type = message->desc->name;
    int index = find_field(message->desc, r->json.text);

    if (index < 0) {
        const char *nearest = md_message_nearest_field(message->desc, r->json.text);
        fail(r, "unknown field '%.*s' in %s%s%s%s", MD_STR_ARG(r->json.text), type,
             nearest ? ", did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
        return -1;
    }
    const char *name = message->desc->fields[index].name;
    const char *rival = md_message_rival(message, (size_t)index);
    if (rival) {
        fail(r, "'%s' and '%s' exclude each other in %s", name, rival, type);
        return -1;
    }
    if (message->fields[index].count) {
        fail(r, "'%s' stands in %s twice, first in line %u", name, type,
             message->fields[index].line);
        return -1;
    }
    return index;
}

static bool object_key(struct reader *r)
{
    struct md_message *message = r->open[r->depth - 1].message;

    if (r->open[r->depth - 1].map >= 0) {
        return map_entry(r, message, (size_t)r->open[r->depth - 1].map);
    }
    int index = check_key(r, message);
    if (index < 0) {
        return skip_value(r);
    }
    const struct md_field_desc *field = &message->desc->fields[index];
    message->fields[index].file = r->file;
    message->fields[index].line = line_of(r);
    enum md_json_token token = md_json_next(&r->json);
    if (token == MD_JSON_NULL) {
        return true; /* not set */
    }
    if (token != MD_JSON_ARRAY_BEGIN) {
        return field_value(r, message, (size_t)index, token);
    }
    if (!field->repeated) {
        return fail(r, "'%s' takes one value, not a list", field->name);
    }
    r->open[r->depth - 1].list = index;
    return true;
}

/* One member of an object or one value of a list, or the end of either. */
static void step(struct reader *r)
{
    struct md_message *message = r->open[r->depth - 1].message;
    int list = r->open[r->depth - 1].list;
    uint32_t level = r->json.depth;
    enum md_json_token token = md_json_next(&r->json);
    bool ok = true;

    if (token == MD_JSON_ARRAY_END) {
        r->open[r->depth - 1].list = -1;
    } else if (list >= 0) {
        ok = field_value(r, message, (size_t)list, token);
    } else if (token == MD_JSON_OBJECT_END) {
        r->depth--;
    } else if (token == MD_JSON_KEY) {
        ok = object_key(r);
    }
    if (!ok) {
        skip_to(r, level);
    }
}

bool md_message_parse_json(struct md_str text, const char *file, struct md_message *message,
                           struct md_arena *arena, struct md_diagnostics *diagnostics)
{
    struct reader r = {.file = file, .arena = arena, .diagnostics = diagnostics, .line = 1};

    md_json_init(&r.json, text, arena, JSON_DEPTH_MAX);
    r.counted = r.json.at;
    message->file = file;
    message->line = 1;
    enum md_json_token first = md_json_next(&r.json);
    if (first != MD_JSON_OBJECT_BEGIN && first != MD_JSON_ERROR) {
        return fail(&r, "a JSON object was expected");
    }
    push(&r, message, -1);
    while (r.depth && !r.json.failed && r.errors < MD_MESSAGE_ERRORS_MAX) {
        step(&r);
    }
    bool ends = !r.depth && md_json_next(&r.json) == MD_JSON_END;
    return r.json.failed ? fail(&r, "%s", r.json.error.text) : ends && r.errors == 0;
}

/* --- printing -------------------- */

struct printer {
    struct md_bytes *out;
    struct {
        const struct md_message *message;
        size_t field, index; /* what comes next */
        bool first;          /* nothing printed in this object yet */
    } open[MD_MESSAGE_DEPTH_MAX];
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
        md_bytes_append_c(out, isfinite(value.as.number) ? "" : "\"");
        md_json_append_f64(out, value.as.number);
        md_bytes_append_c(out, isfinite(value.as.number) ? "" : "\"");
        break;
    case MD_FIELD_ENUM:
        md_json_append_string(
            out, md_str_of(md_enum_find_number(field->values, value.as.integer)->name));
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
    assert(p->depth < MD_COUNT_OF(p->open));
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
    } else {
        open_object(p, value.as.message);
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
    bool is_list = md_field_is_list(field);
    if (index == 0 && (is_list || values->count)) {
        print_name(p, field->name);
        if (is_list) {
            md_bytes_append_char(p->out, is_map ? '{' : '[');
        }
    }
    if (index == values->count) {
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
