/*
 * Protobuf text format, driven by the schema.
 *
 * A stack of open messages over the tokens of pbtxt_token.h. A field that is wrong is skipped by
 * its form alone (name, value, brackets that match), so that the next one is read in its own right
 * and one run reports all errors. A closing bracket of the wrong kind closes the message all the
 * same.
 */
#include "codec/number.h"
#include "codec/utf8.h"
#include "config/pbtxt_token.h"
#include "config/schema.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

struct parser {
    struct md_pbtxt_cursor in;
    const char *file;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    size_t errors;
    struct {
        struct md_message *message;
        char close;    /* what ends it; 0: the end of the file */
        bool in_list;  /* an element of [ {...}, {...} ] */
        size_t field;  /* of the message that holds it */
        unsigned line; /* of the opening bracket */
    } open[MD_MESSAGE_DEPTH_MAX];
    size_t depth;
};

static bool fail(struct parser *p, const struct md_pbtxt_token *token, const char *format, ...)
    MD_PRINTF(3, 4);

static bool fail(struct parser *p, const struct md_pbtxt_token *token, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->errors++;
    return md_diagnose(p->diagnostics, MD_SEVERITY_ERROR, p->file, token->line, token->column, "%s",
                       text);
}

/* At the current token: "'<what>' <expected>, got '<token>'". */
static bool unexpected(struct parser *p, const char *what, const char *expected)
{
    return fail(p, &p->in.token, "'%s' %s, got '%s'", what, expected,
                md_pbtxt_show(&p->in.token).text);
}

static bool no_memory(struct parser *p)
{
    return fail(p, &p->in.token, "out of memory");
}

/* --- scalars -------------------- */

/* One string, or several side by side. The current token becomes what follows. */
static bool take_string(struct parser *p, struct md_str *out)
{
    struct md_bytes bytes = {.max = MD_CONFIG_STRING_MAX};
    struct md_pbtxt_token first = p->in.token;
    const char *problem = NULL;
    size_t spelling = 0, error_at;

    while (!problem && p->in.token.kind == MD_PBTXT_STRING) {
        spelling += p->in.token.text.len;
        if (!md_pbtxt_unescape(p->in.token.text, &bytes, &error_at)) {
            problem = "invalid escape in a string";
            first = p->in.token;
            first.column += (unsigned)error_at + 1;
        }
        md_pbtxt_next(&p->in);
    }
    struct md_str text = md_bytes_view(&bytes);
    if (!problem && bytes.failed) {
        problem = spelling > MD_CONFIG_STRING_MAX ? "the string is too long" : "out of memory";
    } else if (!problem && !md_utf8_is_valid(text)) {
        problem = "the string is not valid UTF-8";
    } else if (!problem && text.len && memchr(text.ptr, 0, text.len)) {
        problem = "the string holds a zero byte";
    } else if (!problem) {
        *out = md_arena_copy(p->arena, text);
        problem = out->ptr ? NULL : "out of memory";
    }
    md_bytes_deinit(&bytes);
    return problem ? fail(p, &first, "%s", problem) : true;
}

static bool read_natural(struct md_str text, uint64_t *out)
{
    bool is_hex = text.len > 2 && text.ptr[0] == '0' && (text.ptr[1] | 0x20) == 'x';
    unsigned base = is_hex ? 16 : text.len > 1 && text.ptr[0] == '0' ? 8 : 10;
    uint64_t value = 0;

    for (size_t i = is_hex ? 2 : 0; i < text.len; i++) {
        char c = (char)(text.ptr[i] | 0x20); /* folds letters, keeps digits */
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : 16;
        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *out = value;
    return text.len > 0;
}

static bool take_integer(struct parser *p, const struct md_field_desc *field, bool negative,
                         struct md_value *out)
{
    uint64_t magnitude;

    if (p->in.token.kind != MD_PBTXT_NUMBER || !read_natural(p->in.token.text, &magnitude)) {
        return unexpected(p, field->name, "must be an integer");
    }
    uint64_t limit = field->kind == MD_FIELD_UINT
                         ? (field->bits == 32 ? UINT32_MAX : UINT64_MAX)
                         : (field->bits == 32 ? INT32_MAX : INT64_MAX) + (uint64_t)negative;
    if (magnitude > limit || (negative && field->kind == MD_FIELD_UINT)) {
        return fail(p, &p->in.token, "'%s': %s%s is out of range", field->name, negative ? "-" : "",
                    md_pbtxt_show(&p->in.token).text);
    }
    out->as.integer = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    md_pbtxt_next(&p->in);
    return true;
}

/* A decimal as C writes it: an `f` may follow, and digits may lack on one side of the point. */
static bool read_decimal(struct md_str text, double *out)
{
    char json[MD_NUMBER_TEXT_MAX * 8];
    size_t n = 0;

    if (text.len && (text.ptr[text.len - 1] | 0x20) == 'f') {
        text.len--;
    }
    if (text.len > sizeof json - 2) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        bool before = i && text.ptr[i - 1] >= '0' && text.ptr[i - 1] <= '9';
        bool after = i + 1 < text.len && text.ptr[i + 1] >= '0' && text.ptr[i + 1] <= '9';
        if (text.ptr[i] == '.' && !before && (!after || i)) {
            return false;
        }
        if (text.ptr[i] == '.' && !before) {
            json[n++] = '0';
        }
        if (text.ptr[i] != '.' || after) {
            json[n++] = text.ptr[i];
        }
    }
    return md_number_parse_f64(md_str_make(json, n), out);
}

static bool take_double(struct parser *p, const struct md_field_desc *field, bool negative,
                        struct md_value *out)
{
    struct md_str text = p->in.token.text;
    bool is_name = p->in.token.kind == MD_PBTXT_NAME;
    double value;

    if (is_name &&
        (md_str_eq_nocase(text, MD_STR("inf")) || md_str_eq_nocase(text, MD_STR("infinity")))) {
        value = (double)INFINITY;
    } else if (is_name && md_str_eq_nocase(text, MD_STR("nan"))) {
        value = (double)NAN;
    } else if (p->in.token.kind != MD_PBTXT_NUMBER || !read_decimal(text, &value)) {
        return unexpected(p, field->name, "must be a number");
    }
    out->as.number = negative ? -value : value;
    md_pbtxt_next(&p->in);
    return true;
}

static bool take_bool(struct parser *p, const struct md_field_desc *field, struct md_value *out)
{
    static const char *const words[] = {"false", "true", "f", "t", "False", "True", "0", "1"};

    for (size_t i = 0; i < MD_COUNT_OF(words); i++) {
        if (p->in.token.kind != MD_PBTXT_STRING && md_str_eq_c(p->in.token.text, words[i])) {
            out->as.boolean = i % 2;
            md_pbtxt_next(&p->in);
            return true;
        }
    }
    return unexpected(p, field->name, "must be true or false");
}

static bool take_enum(struct parser *p, const struct md_field_desc *field, bool negative,
                      struct md_value *out)
{
    const struct md_pbtxt_token *token = &p->in.token;
    uint64_t number = UINT64_MAX;
    const struct md_enum_value *found = NULL;

    if (token->kind == MD_PBTXT_NAME && !negative) {
        found = md_enum_find(field->values, token->text);
    } else if (token->kind == MD_PBTXT_NUMBER && !negative && read_natural(token->text, &number) &&
               number <= INT32_MAX) {
        found = md_enum_find_number(field->values, (int64_t)number);
    }
    if (!found) {
        const char *nearest =
            token->kind == MD_PBTXT_NUMBER ? NULL : md_enum_nearest(field->values, token->text);
        return fail(p, token, "'%s' has no value '%s%s'%s%s%s", field->name, negative ? "-" : "",
                    md_pbtxt_show(token).text, nearest ? ", did you mean " : "",
                    nearest ? nearest : "", nearest ? "?" : "");
    }
    out->as.integer = found->number;
    md_pbtxt_next(&p->in);
    return true;
}

static bool take_scalar(struct parser *p, const struct md_field_desc *field, struct md_value *out)
{
    bool is_number = field->kind == MD_FIELD_INT || field->kind == MD_FIELD_UINT ||
                     field->kind == MD_FIELD_DOUBLE || field->kind == MD_FIELD_ENUM;
    bool negative = is_number && md_pbtxt_is(&p->in, "-");

    *out = (struct md_value){0};
    if (negative) {
        md_pbtxt_next(&p->in);
    }
    switch (field->kind) {
    case MD_FIELD_INT:
    case MD_FIELD_UINT:
        return take_integer(p, field, negative, out);
    case MD_FIELD_DOUBLE:
        return take_double(p, field, negative, out);
    case MD_FIELD_BOOL:
        return take_bool(p, field, out);
    case MD_FIELD_ENUM:
        return take_enum(p, field, negative, out);
    default:
        if (p->in.token.kind == MD_PBTXT_UNENDED) {
            return fail(p, &p->in.token, "the string has no end on its line");
        }
        return p->in.token.kind == MD_PBTXT_STRING
                   ? take_string(p, &out->as.string)
                   : unexpected(p, field->name, "must be a string in quotes");
    }
}

/* --- fields -------------------- */

/* The current token is '{' or '<'. */
static bool open_message(struct parser *p, struct md_message *parent, size_t index, bool in_list)
{
    struct md_message *message = md_message_create(parent->desc->fields[index].message, p->arena);

    if (!message ||
        !md_message_add(parent, index, (struct md_value){.as.message = message}, p->arena)) {
        return no_memory(p);
    }
    message->file = p->file;
    message->line = p->in.token.line;
    assert(p->depth < MD_COUNT_OF(p->open));
    p->open[p->depth].message = message;
    p->open[p->depth].close = md_pbtxt_is(&p->in, "{") ? '}' : '>';
    p->open[p->depth].in_list = in_list;
    p->open[p->depth].field = index;
    p->open[p->depth].line = p->in.token.line;
    p->depth++;
    md_pbtxt_next(&p->in);
    return true;
}

/* The current token is behind '['. */
static bool parse_list(struct parser *p, struct md_message *message, size_t index)
{
    const struct md_field_desc *field = &message->desc->fields[index];
    bool is_message = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
    struct md_value value;

    if (md_pbtxt_is(&p->in, "]")) {
        md_pbtxt_next(&p->in);
        return true;
    }
    if (is_message) {
        return md_pbtxt_is(&p->in, "{<") ? open_message(p, message, index, true)
                                         : unexpected(p, field->name, "needs '{' in its list");
    }
    for (;;) {
        if (!take_scalar(p, field, &value)) {
            return false;
        }
        if (!md_message_add(message, index, value, p->arena)) {
            return no_memory(p);
        }
        if (md_pbtxt_is(&p->in, "]")) {
            md_pbtxt_next(&p->in);
            return true;
        }
        if (!md_pbtxt_is(&p->in, ",")) {
            return unexpected(p, field->name, "needs ',' or ']' in its list");
        }
        md_pbtxt_next(&p->in);
    }
}

/* Looks a field up and says why it cannot stand here; -1 then. */
static int find_field(struct parser *p, const struct md_message *message)
{
    const struct md_pbtxt_token *name = &p->in.token;
    const char *type = message->desc->name;

    if (md_pbtxt_is(&p->in, "[")) {
        fail(p, name, "%s has no extensions and no Any: name one of its fields", type);
        return -1;
    }
    if (name->kind != MD_PBTXT_NAME) {
        fail(p, name, "a field of %s was expected, got '%s'", type, md_pbtxt_show(name).text);
        return -1;
    }
    int index = md_message_field(message->desc, name->text);
    if (index < 0) {
        const char *nearest = md_message_nearest_field(message->desc, name->text);
        fail(p, name, "unknown field '%s' in %s%s%s%s", md_pbtxt_show(name).text, type,
             nearest ? ", did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
        return -1;
    }
    const struct md_field_desc *field = &message->desc->fields[index];
    const char *rival = md_message_rival(message, (size_t)index);
    if (rival) {
        fail(p, name, "'%s' and '%s' exclude each other in %s", field->name, rival, type);
        return -1;
    }
    if (message->fields[index].count && !md_field_is_list(field)) {
        fail(p, name, "'%s' stands in %s twice, first in line %u", field->name, type,
             message->fields[index].line);
        return -1;
    }
    return index;
}

static bool parse_field(struct parser *p)
{
    struct md_message *message = p->open[p->depth - 1].message;
    unsigned line = p->in.token.line;
    int found = find_field(p, message);
    struct md_value value;

    if (found < 0) {
        return false;
    }
    const size_t index = (size_t)found;
    const struct md_field_desc *field = &message->desc->fields[index];
    if (!message->fields[index].count) {
        message->fields[index].file = p->file;
        message->fields[index].line = line;
    }
    md_pbtxt_next(&p->in);
    bool colon = md_pbtxt_is(&p->in, ":");
    if (colon) {
        md_pbtxt_next(&p->in);
    }
    const bool is_message = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
    if (!colon && !is_message) {
        return unexpected(p, field->name, "needs ':' behind it");
    }
    if (md_pbtxt_is(&p->in, "[")) {
        if (!md_field_is_list(field)) {
            return fail(p, &p->in.token, "'%s' takes one value, not a list", field->name);
        }
        md_pbtxt_next(&p->in);
        return parse_list(p, message, index);
    }
    if (is_message) {
        return md_pbtxt_is(&p->in, "{<") ? open_message(p, message, index, false)
                                         : unexpected(p, field->name, "needs '{' behind it");
    }
    if (!take_scalar(p, field, &value)) {
        return false;
    }
    return md_message_add(message, index, value, p->arena) || no_memory(p);
}

/* From an opening bracket to behind the one that closes it; over anything else alone. */
static void skip_brackets(struct md_pbtxt_cursor *in)
{
    size_t depth = 0;

    do {
        if (md_pbtxt_is(in, "{<[")) {
            depth++;
        } else if (depth && md_pbtxt_is(in, "}>]")) {
            depth--;
        }
        md_pbtxt_next(in);
    } while (depth && in->token.kind != MD_PBTXT_END);
}

/* From the begin of a field that was wrong to behind its value. */
static void skip_field(struct md_pbtxt_cursor *in)
{
    bool is_field = in->token.kind == MD_PBTXT_NAME || md_pbtxt_is(in, "[");

    skip_brackets(in); /* the name, or that of an extension */
    if (!is_field) {
        return;
    }
    bool colon = md_pbtxt_is(in, ":");
    if (colon) {
        md_pbtxt_next(in);
    }
    if (md_pbtxt_is(in, "{<[")) {
        skip_brackets(in);
        return;
    }
    if (md_pbtxt_is(in, "-")) {
        md_pbtxt_next(in);
    }
    if (in->token.kind == MD_PBTXT_STRING) {
        while (in->token.kind == MD_PBTXT_STRING) {
            md_pbtxt_next(in);
        }
    } else if (colon ? in->token.kind != MD_PBTXT_PUNCTUATION : in->token.kind == MD_PBTXT_NUMBER) {
        md_pbtxt_next(in);
    }
}

/* A closing bracket: back to the parent, or on in a list of messages. */
static void close_message(struct parser *p)
{
    const size_t top = --p->depth, field = p->open[top].field;
    struct md_message *parent = p->open[top - 1].message;
    enum md_map_result result = MD_MAP_OK;

    if (!md_pbtxt_is(&p->in, (char[]){p->open[top].close, '\0'})) {
        fail(p, &p->in.token, "'%c' was expected for %s, which begins in line %u, got '%s'",
             p->open[top].close, p->open[top].message->desc->name, p->open[top].line,
             md_pbtxt_show(&p->in.token).text);
    }
    if (parent->desc->fields[field].kind == MD_FIELD_MAP) {
        result = md_message_settle_entry(parent, field, p->arena);
    }
    if (result == MD_MAP_FULL) {
        fail(p, &p->in.token, "'%s' has more than %d entries", parent->desc->fields[field].name,
             MD_MAP_ENTRIES_MAX);
        p->errors = MD_MESSAGE_ERRORS_MAX; /* the next entries say nothing new */
    } else if (result == MD_MAP_NO_MEMORY) {
        no_memory(p);
    }
    md_pbtxt_next(&p->in);
    if (!p->open[top].in_list) {
        return;
    }
    bool comma = md_pbtxt_is(&p->in, ",");
    if (comma) {
        md_pbtxt_next(&p->in);
    }
    bool more = md_pbtxt_is(&p->in, "{<"), end = md_pbtxt_is(&p->in, "]");
    if (more != comma || (!more && !end)) {
        unexpected(p, parent->desc->fields[field].name,
                   comma ? "needs '{' in its list" : "needs ',' or ']' in its list");
    }
    if (more) {
        (void)open_message(p, parent, field, true);
    } else if (end) {
        md_pbtxt_next(&p->in);
    }
}

bool md_pbtxt_parse(struct md_str text, const char *file, struct md_message *message,
                    struct md_arena *arena, struct md_diagnostics *diagnostics)
{
    struct parser p = {.file = file, .arena = arena, .diagnostics = diagnostics, .depth = 1};

    p.open[0].message = message;
    message->file = file;
    message->line = 1;
    md_pbtxt_start(&p.in, text);
    while (p.errors < MD_MESSAGE_ERRORS_MAX && p.in.token.kind != MD_PBTXT_END) {
        struct md_pbtxt_cursor begin = p.in;
        if (md_pbtxt_is(&p.in, ",;")) {
            md_pbtxt_next(&p.in);
        } else if (p.depth > 1 && md_pbtxt_is(&p.in, "}>")) {
            close_message(&p);
        } else if (!parse_field(&p)) {
            p.in = begin;
            skip_field(&p.in);
        }
    }
    for (size_t i = p.depth; p.errors < MD_MESSAGE_ERRORS_MAX && i > 1; i--) {
        fail(&p, &p.in.token, "the file ends before '%c' of %s, which begins in line %u",
             p.open[i - 1].close, p.open[i - 1].message->desc->name, p.open[i - 1].line);
    }
    return p.errors == 0;
}
