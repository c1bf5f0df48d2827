/*
 * Protobuf text format, driven by the schema.
 *
 * A tokenizer over the text and a stack of open messages. An error skips to the next field of the
 * same message, so that one run reports all of them.
 */
#include "config/schema.h"

#include "codec/number.h"
#include "codec/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum { DEPTH_MAX = 32, ERRORS_MAX = 20 };

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_NUMBER, TOKEN_STRING, TOKEN_PUNCTUATION, TOKEN_BAD };

struct token {
    enum token_kind kind;
    struct md_str text; /* strings: without quotes, still escaped */
    unsigned line, column;
};

struct parser {
    const char *at, *end, *line_begin;
    unsigned line;
    const char *file;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    size_t errors;
    struct token token; /* the current one */
    struct {
        struct md_message *message;
        char close;   /* what ends it; 0: the end of the file */
        bool in_list; /* an element of [ {...}, {...} ] */
        int list_field;
    } open[DEPTH_MAX];
    size_t depth;
};

static bool fail(struct parser *p, const struct token *token, const char *format, ...)
    MD_PRINTF(3, 4);

static bool fail(struct parser *p, const struct token *token, const char *format, ...)
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

/* --- tokens -------------------- */

static bool is_name_byte(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static void skip_blank(struct parser *p)
{
    while (p->at < p->end) {
        if (*p->at == '#') {
            const char *newline = memchr(p->at, '\n', (size_t)(p->end - p->at));
            p->at = newline ? newline : p->end;
        } else if (*p->at == '\n') {
            p->line_begin = ++p->at;
            p->line++;
        } else if (*p->at == ' ' || *p->at == '\t' || *p->at == '\r') {
            p->at++;
        } else {
            return;
        }
    }
}

static void read_quoted(struct parser *p, struct token *token)
{
    char quote = *p->at++;
    const char *begin = p->at;

    while (p->at < p->end && *p->at != quote && *p->at != '\n') {
        p->at += *p->at == '\\' && p->at + 1 < p->end ? 2 : 1;
    }
    token->text = md_str_make(begin, (size_t)(p->at - begin));
    if (p->at < p->end && *p->at == quote) {
        p->at++;
        token->kind = TOKEN_STRING;
    } else {
        token->kind = TOKEN_BAD;
    }
}

static void next(struct parser *p)
{
    struct token *token = &p->token;

    skip_blank(p);
    *token = (struct token){.line = p->line, .column = (unsigned)(p->at - p->line_begin) + 1};
    if (p->at == p->end) {
        token->kind = TOKEN_END;
        return;
    }
    const char *begin = p->at;
    char c = *p->at;
    if (c == '"' || c == '\'') {
        read_quoted(p, token);
        return;
    }
    if (is_name_byte(c, true)) {
        while (p->at < p->end && is_name_byte(*p->at, false)) {
            p->at++;
        }
        token->kind = TOKEN_NAME;
    } else if ((c >= '0' && c <= '9') || c == '.') {
        while (p->at < p->end &&
               (is_name_byte(*p->at, false) || *p->at == '.' ||
                ((*p->at == '+' || *p->at == '-') && (p->at[-1] == 'e' || p->at[-1] == 'E')))) {
            p->at++;
        }
        token->kind = TOKEN_NUMBER;
    } else {
        p->at++;
        token->kind = strchr("{}<>[]:;,-", c) ? TOKEN_PUNCTUATION : TOKEN_BAD;
    }
    token->text = md_str_make(begin, (size_t)(p->at - begin));
}

static bool is_punctuation(const struct parser *p, char c)
{
    return p->token.kind == TOKEN_PUNCTUATION && p->token.text.ptr[0] == c;
}

/* --- strings -------------------- */

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool unescape(struct parser *p, const struct token *token, struct md_bytes *out)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    struct md_str s = token->text;

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '\\') {
            md_bytes_append_char(out, s.ptr[i]);
            continue;
        }
        char c = ++i < s.len ? s.ptr[i] : '\0';
        const char *known = c ? strchr(from, c) : NULL;
        if (known) {
            md_bytes_append_char(out, to[known - from]);
        } else if (c >= '0' && c <= '7') {
            int value = 0;
            size_t end = md_size_min(i + 3, s.len);
            for (; i < end && s.ptr[i] >= '0' && s.ptr[i] <= '7'; i++) {
                value = value * 8 + (s.ptr[i] - '0');
            }
            i--;
            md_bytes_append_char(out, (char)value);
        } else if (c == 'x' && i + 1 < s.len && hex(s.ptr[i + 1]) >= 0) {
            int value = hex(s.ptr[++i]);
            if (i + 1 < s.len && hex(s.ptr[i + 1]) >= 0) {
                value = value * 16 + hex(s.ptr[++i]);
            }
            md_bytes_append_char(out, (char)value);
        } else {
            return fail(p, token, "invalid escape in a string");
        }
    }
    return true;
}

/* One string, or several side by side. The current token becomes what follows. */
static bool read_string(struct parser *p, struct md_str *out)
{
    struct md_bytes bytes = {.max = 1 << 20};
    struct token first = p->token;
    bool ok = true;

    while (ok && p->token.kind == TOKEN_STRING) {
        ok = unescape(p, &p->token, &bytes);
        next(p);
    }
    if (ok && (bytes.failed || !md_utf8_is_valid(md_bytes_view(&bytes)))) {
        ok = fail(p, &first,
                  bytes.failed ? "the string is too long" : "the string is not valid UTF-8");
    }
    if (ok) {
        *out = md_arena_copy(p->arena, md_bytes_view(&bytes));
        ok = out->ptr || fail(p, &first, "out of memory");
    }
    md_bytes_deinit(&bytes);
    return ok;
}

/* --- scalars -------------------- */

static bool read_natural(struct md_str text, uint64_t *out)
{
    unsigned base = 10;
    uint64_t value = 0;

    if (text.len > 1 && text.ptr[0] == '0') {
        bool is_hex = text.len > 2 && (text.ptr[1] == 'x' || text.ptr[1] == 'X');
        base = is_hex ? 16 : 8;
        text = md_str_make(text.ptr + (is_hex ? 2 : 1), text.len - (is_hex ? 2 : 1));
    }
    for (size_t i = 0; i < text.len; i++) {
        int digit = hex(text.ptr[i]);
        if (digit < 0 || (unsigned)digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (uint64_t)digit, &value)) {
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

    if (p->token.kind != TOKEN_NUMBER || !read_natural(p->token.text, &magnitude)) {
        return fail(p, &p->token, "'%s' must be an integer, got '%.*s'", field->name,
                    MD_STR_ARG(p->token.text));
    }
    uint64_t limit = field->kind == MD_FIELD_UINT
                         ? (field->bits == 32 ? UINT32_MAX : UINT64_MAX)
                         : (field->bits == 32 ? INT32_MAX : INT64_MAX) + (uint64_t)negative;
    if (magnitude > limit || (negative && field->kind == MD_FIELD_UINT)) {
        return fail(p, &p->token, "'%s': %s%.*s is out of range", field->name, negative ? "-" : "",
                    MD_STR_ARG(p->token.text));
    }
    out->as.integer = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    next(p);
    return true;
}

static bool take_double(struct parser *p, const struct md_field_desc *field, bool negative,
                        struct md_value *out)
{
    struct md_str text = p->token.text;
    double value;

    if (p->token.kind == TOKEN_NAME &&
        (md_str_eq_nocase(text, MD_STR("inf")) || md_str_eq_nocase(text, MD_STR("infinity")))) {
        value = (double)INFINITY;
    } else if (p->token.kind == TOKEN_NAME && md_str_eq_nocase(text, MD_STR("nan"))) {
        value = (double)NAN;
    } else {
        if (text.len && (text.ptr[text.len - 1] == 'f' || text.ptr[text.len - 1] == 'F')) {
            text.len--;
        }
        if (text.len && text.ptr[text.len - 1] == '.') {
            text.len--;
        }
        if (p->token.kind != TOKEN_NUMBER || !md_number_parse_f64(text, &value)) {
            return fail(p, &p->token, "'%s' must be a number, got '%.*s'", field->name,
                        MD_STR_ARG(p->token.text));
        }
    }
    out->as.number = negative ? -value : value;
    next(p);
    return true;
}

static bool take_bool(struct parser *p, const struct md_field_desc *field, struct md_value *out)
{
    static const char *const words[] = {"false", "true", "f", "t", "False", "True", "0", "1"};

    for (size_t i = 0; i < MD_COUNT_OF(words); i++) {
        if ((p->token.kind == TOKEN_NAME || p->token.kind == TOKEN_NUMBER) &&
            md_str_eq_c(p->token.text, words[i])) {
            out->as.boolean = i % 2;
            next(p);
            return true;
        }
    }
    return fail(p, &p->token, "'%s' must be true or false, got '%.*s'", field->name,
                MD_STR_ARG(p->token.text));
}

static bool take_enum(struct parser *p, const struct md_field_desc *field, struct md_value *out)
{
    uint64_t number;
    const char *nearest = NULL;
    unsigned best = 4;

    for (const struct md_enum_value *value = field->values; value->name; value++) {
        bool same = md_str_eq_c(p->token.text, value->name) ||
                    (p->token.kind == TOKEN_NUMBER && read_natural(p->token.text, &number) &&
                     (int64_t)number == value->number);
        if (same && p->token.kind != TOKEN_STRING) {
            out->as.integer = value->number;
            next(p);
            return true;
        }
        unsigned distance = md_str_distance(p->token.text, md_str_of(value->name), best);
        if (distance < best) {
            best = distance;
            nearest = value->name;
        }
    }
    return fail(p, &p->token, "'%s' has no value '%.*s'%s%s%s", field->name,
                MD_STR_ARG(p->token.text), nearest ? ", did you mean '" : "",
                nearest ? nearest : "", nearest ? "'?" : "");
}

static bool take_scalar(struct parser *p, const struct md_field_desc *field, struct md_value *out)
{
    bool negative = is_punctuation(p, '-');

    if (negative) {
        next(p);
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
        return take_enum(p, field, out);
    default:
        if (p->token.kind != TOKEN_STRING) {
            return fail(p, &p->token, "'%s' must be a string in quotes, got '%.*s'", field->name,
                        MD_STR_ARG(p->token.text));
        }
        return read_string(p, &out->as.string);
    }
}

/* --- fields -------------------- */

static bool check_oneof(struct parser *p, const struct md_message *message, int index,
                        const struct token *name)
{
    const struct md_field_desc *field = &message->desc->fields[index];

    for (size_t i = 0; field->oneof && i < message->desc->field_count; i++) {
        if ((int)i != index && message->desc->fields[i].oneof == field->oneof &&
            message->fields[i].count) {
            return fail(p, name, "'%s' and '%s' exclude each other in %s", field->name,
                        message->desc->fields[i].name, message->desc->name);
        }
    }
    return true;
}

static bool add(struct parser *p, struct md_message *message, int field, struct md_value value)
{
    return md_message_add(message, (size_t)field, value, p->arena) ||
           fail(p, &p->token, "out of memory");
}

/* The current token is '{' or '<'. */
static bool open_message(struct parser *p, struct md_message *parent, int index, bool in_list)
{
    const struct md_field_desc *field = &parent->desc->fields[index];
    char close = is_punctuation(p, '{') ? '}' : '>';

    if (p->depth == DEPTH_MAX) {
        return fail(p, &p->token, "more than %d nested levels", DEPTH_MAX);
    }
    bool again = !field->repeated && field->kind == MD_FIELD_MESSAGE && parent->fields[index].count;
    struct md_message *message = again ? parent->fields[index].items[0].as.message
                                       : md_message_create(field->message, p->arena);
    if (!message) {
        return fail(p, &p->token, "out of memory");
    }
    message->file = p->file;
    message->line = p->token.line;
    if (!again && !add(p, parent, index, (struct md_value){.as.message = message})) {
        return false;
    }
    p->open[p->depth].message = message;
    p->open[p->depth].close = close;
    p->open[p->depth].in_list = in_list;
    p->open[p->depth].list_field = index;
    p->depth++;
    next(p);
    return true;
}

static bool parse_list(struct parser *p, struct md_message *message, int index)
{
    const struct md_field_desc *field = &message->desc->fields[index];
    bool is_message = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
    struct md_value value;

    if (!field->repeated && field->kind != MD_FIELD_MAP) {
        return fail(p, &p->token, "'%s' takes one value, not a list", field->name);
    }
    next(p);
    if (is_punctuation(p, ']')) {
        next(p);
        return true;
    }
    if (is_message) {
        return is_punctuation(p, '{') || is_punctuation(p, '<')
                   ? open_message(p, message, index, true)
                   : fail(p, &p->token, "'{' was expected in the list of '%s'", field->name);
    }
    for (;;) {
        if (!take_scalar(p, field, &value) || !add(p, message, index, value)) {
            return false;
        }
        if (is_punctuation(p, ']')) {
            next(p);
            return true;
        }
        if (!is_punctuation(p, ',')) {
            return fail(p, &p->token, "',' or ']' was expected in the list of '%s'", field->name);
        }
        next(p);
    }
}

static bool parse_field(struct parser *p)
{
    struct md_message *message = p->open[p->depth - 1].message;
    struct token name = p->token;
    struct md_value value;

    if (name.kind != TOKEN_NAME) {
        return fail(p, &name, "a field name of %s was expected, got '%.*s'", message->desc->name,
                    MD_STR_ARG(name.text));
    }
    int index = md_message_field(message->desc, name.text);
    if (index < 0) {
        const char *nearest = md_message_nearest_field(message->desc, name.text);
        return fail(p, &name, "unknown field '%.*s' in %s%s%s%s", MD_STR_ARG(name.text),
                    message->desc->name, nearest ? ", did you mean '" : "", nearest ? nearest : "",
                    nearest ? "'?" : "");
    }
    const struct md_field_desc *field = &message->desc->fields[index];
    if (!check_oneof(p, message, index, &name)) {
        return false;
    }
    next(p);
    bool colon = is_punctuation(p, ':');
    if (colon) {
        next(p);
    }
    if (is_punctuation(p, '[')) {
        return parse_list(p, message, index);
    }
    if (field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP) {
        if (!is_punctuation(p, '{') && !is_punctuation(p, '<')) {
            return fail(p, &p->token, "'{' was expected after '%s'", field->name);
        }
        return open_message(p, message, index, false);
    }
    if (!colon) {
        return fail(p, &p->token, "':' was expected after '%s'", field->name);
    }
    return take_scalar(p, field, &value) && add(p, message, index, value);
}

/* After an error: to the end of the field, so that the next one is read in its own right. */
static void recover(struct parser *p, unsigned error_line)
{
    size_t depth = 0;

    while (p->token.kind != TOKEN_END) {
        if (is_punctuation(p, '{') || is_punctuation(p, '<') || is_punctuation(p, '[')) {
            depth++;
        } else if (is_punctuation(p, '}') || is_punctuation(p, '>') || is_punctuation(p, ']')) {
            if (depth == 0) {
                return;
            }
            depth--;
        } else if (depth == 0 && p->token.line > error_line && p->token.kind == TOKEN_NAME) {
            return;
        }
        next(p);
    }
}

/* A closing bracket: back to the parent, or on in a list of messages. */
static void close_message(struct parser *p)
{
    bool in_list = p->open[p->depth - 1].in_list;
    int field = p->open[p->depth - 1].list_field;

    p->depth--;
    next(p);
    if (!in_list) {
        return;
    }
    if (is_punctuation(p, ',')) {
        next(p);
        if (is_punctuation(p, '{') || is_punctuation(p, '<')) {
            (void)open_message(p, p->open[p->depth - 1].message, field, true);
            return;
        }
    }
    if (is_punctuation(p, ']')) {
        next(p);
        return;
    }
    fail(p, &p->token, "',' or ']' was expected in a list of messages");
}

bool md_pbtxt_parse(struct md_str text, const char *file, struct md_message *message,
                    struct md_arena *arena, struct md_diagnostics *diagnostics)
{
    struct parser p = {.at = text.ptr ? text.ptr : "",
                       .line = 1,
                       .file = file,
                       .arena = arena,
                       .diagnostics = diagnostics,
                       .depth = 1};

    p.end = p.at + text.len;
    p.line_begin = p.at;
    p.open[0].message = message;
    message->file = file;
    message->line = 1;
    next(&p);
    while (p.errors < ERRORS_MAX) {
        char close = p.open[p.depth - 1].close;
        if (p.token.kind == TOKEN_END) {
            if (p.depth > 1) {
                fail(&p, &p.token, "the file ends before '%c' of %s", close,
                     p.open[p.depth - 1].message->desc->name);
            }
            break;
        }
        if (is_punctuation(&p, ',') || is_punctuation(&p, ';')) {
            next(&p);
        } else if (close && is_punctuation(&p, close)) {
            close_message(&p);
        } else {
            unsigned line = p.token.line;
            const char *before = p.at;
            if (!parse_field(&p)) {
                recover(&p, line);
                if (p.at == before && p.token.kind != TOKEN_END) {
                    next(&p); /* a stray bracket */
                }
            }
        }
    }
    return p.errors == 0;
}
