/*
 * Tokens and string escapes of protobuf text format. Newlines end no token but a comment and a
 * broken string, so an error never runs on past its line.
 */
#include "config/pbtxt_token.h"

#include <stdio.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

static void skip_blank(struct md_pbtxt_cursor *in)
{
    while (in->at < in->end) {
        if (*in->at == '#') {
            const char *newline = memchr(in->at, '\n', (size_t)(in->end - in->at));
            in->at = newline ? newline : in->end;
        } else if (*in->at == '\n') {
            in->line_begin = ++in->at;
            in->line++;
        } else if (*in->at == ' ' || (*in->at >= '\t' && *in->at <= '\r')) {
            in->at++;
        } else {
            return;
        }
    }
}

static void take_quoted(struct md_pbtxt_cursor *in)
{
    char quote = *in->at++;
    const char *begin = in->at;

    while (in->at < in->end && *in->at != quote && *in->at != '\n') {
        bool pair = *in->at == '\\' && in->end - in->at > 1 && in->at[1] != '\n';
        in->at += pair ? 2 : 1;
    }
    in->token.text = md_str_make(begin, (size_t)(in->at - begin));
    bool closed = in->at < in->end && *in->at == quote;
    in->at += closed;
    in->token.kind = closed ? MD_PBTXT_STRING : MD_PBTXT_UNENDED;
}

/* Any spelling that begins as a number; 1.5e+3 is one token, 1-3 is not. */
static void take_number(struct md_pbtxt_cursor *in)
{
    const char *begin = in->at;
    bool is_hex = in->end - begin > 1 && (begin[1] == 'x' || begin[1] == 'X');

    while (in->at < in->end) {
        char c = *in->at, before = in->at > begin ? in->at[-1] : '\0';
        bool exponent_sign = (c == '+' || c == '-') && (before == 'e' || before == 'E') && !is_hex;
        if (!is_name_byte(c) && c != '.' && !exponent_sign) {
            return;
        }
        in->at++;
    }
}

void md_pbtxt_next(struct md_pbtxt_cursor *in)
{
    skip_blank(in);
    const char *begin = in->at;
    in->token =
        (struct md_pbtxt_token){.line = in->line, .column = (unsigned)(begin - in->line_begin) + 1};
    if (begin == in->end) {
        return;
    }
    char c = *begin;
    if (c == '"' || c == '\'') {
        take_quoted(in);
        return;
    }
    if (is_digit(c) || c == '.') {
        in->token.kind = MD_PBTXT_NUMBER;
        take_number(in);
    } else if (is_name_byte(c)) {
        in->token.kind = MD_PBTXT_NAME;
        while (in->at < in->end && is_name_byte(*in->at)) {
            in->at++;
        }
    } else {
        in->token.kind = c && strchr("{}<>[]:;,-", c) ? MD_PBTXT_PUNCTUATION : MD_PBTXT_BAD;
        in->at++;
    }
    in->token.text = md_str_make(begin, (size_t)(in->at - begin));
}

void md_pbtxt_start(struct md_pbtxt_cursor *in, struct md_str text)
{
    static const struct md_str mark = {"\xef\xbb\xbf", 3}; /* editors put it before UTF-8 */

    *in = (struct md_pbtxt_cursor){.at = text.len ? text.ptr : "", .line = 1};
    in->end = in->at + text.len;
    if (md_str_starts_with(text, mark)) {
        in->at += mark.len;
    }
    in->line_begin = in->at;
    md_pbtxt_next(in);
}

bool md_pbtxt_is(const struct md_pbtxt_cursor *in, const char *marks)
{
    return in->token.kind == MD_PBTXT_PUNCTUATION && strchr(marks, in->token.text.ptr[0]);
}

/* --- strings -------------------- */

/* Reads `least` to `most` digits of a base at *i. */
static bool take_digits(struct md_str s, size_t *i, int base, size_t least, size_t most,
                        uint32_t *out)
{
    size_t n = 0;

    for (*out = 0; n < most && *i < s.len; n++, (*i)++) {
        int digit = md_hex_digit(s.ptr[*i]);
        if (digit < 0 || digit >= base) {
            break;
        }
        *out = *out * (uint32_t)base + (uint32_t)digit;
    }
    return n >= least;
}

static void append_utf8(struct md_bytes *out, uint32_t c)
{
    static const struct {
        uint32_t below;
        unsigned lead, more;
    } forms[] = {{0x80, 0, 0}, {0x800, 0xc0, 1}, {0x10000, 0xe0, 2}, {0x110000, 0xf0, 3}};
    size_t form = 0;

    while (c >= forms[form].below) {
        form++;
    }
    unsigned shift = 6 * forms[form].more;
    md_bytes_append_char(out, (char)(forms[form].lead | (c >> shift)));
    while (shift) {
        shift -= 6;
        md_bytes_append_char(out, (char)(0x80 | ((c >> shift) & 0x3f)));
    }
}

/* The digits of \u and \U; a pair of \u surrogates is one character. */
static bool take_unicode(struct md_str s, size_t *i, size_t digits, struct md_bytes *out)
{
    uint32_t c, low;

    if (!take_digits(s, i, 16, digits, digits, &c)) {
        return false;
    }
    if (c >= 0xd800 && c < 0xdc00 && *i + 1 < s.len && s.ptr[*i] == '\\' && s.ptr[*i + 1] == 'u') {
        *i += 2;
        if (!take_digits(s, i, 16, 4, 4, &low) || low < 0xdc00 || low > 0xdfff) {
            return false;
        }
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    if ((c >= 0xd800 && c < 0xe000) || c > 0x10ffff) {
        return false;
    }
    append_utf8(out, c);
    return true;
}

/* What follows a backslash at *i. */
static bool take_escape(struct md_str s, size_t *i, struct md_bytes *out)
{
    static const char from[] = "abfnrtv\\'\"?", to[] = "\a\b\f\n\r\t\v\\'\"?";
    char c = *i < s.len ? s.ptr[*i] : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    bool is_hex = c == 'x' || c == 'X', is_unicode = c == 'u' || c == 'U';
    uint32_t byte;

    *i += known || is_hex || is_unicode;
    if (known) {
        md_bytes_append_char(out, to[known - from]);
        return true;
    }
    if (is_unicode) {
        return take_unicode(s, i, c == 'u' ? 4 : 8, out);
    }
    if (!take_digits(s, i, is_hex ? 16 : 8, 1, is_hex ? 2 : 3, &byte) || byte > 0xff) {
        return false;
    }
    md_bytes_append_char(out, (char)byte);
    return true;
}

bool md_pbtxt_unescape(struct md_str s, struct md_bytes *out, size_t *error_at)
{
    size_t i = 0;

    while (i < s.len) {
        const char *slash = memchr(s.ptr + i, '\\', s.len - i);
        size_t plain = slash ? (size_t)(slash - s.ptr) : s.len;
        md_bytes_append(out, s.ptr + i, plain - i);
        i = plain + 1;
        if (slash && !take_escape(s, &i, out)) {
            *error_at = plain;
            return false;
        }
    }
    return true;
}

struct md_pbtxt_shown md_pbtxt_show(const struct md_pbtxt_token *token)
{
    struct md_pbtxt_shown out = {.text = "the end"};
    size_t n = 0;

    for (size_t i = 0; token->kind != MD_PBTXT_END && i < token->text.len && n < 40; i++) {
        unsigned char c = (unsigned char)token->text.ptr[i];
        bool printable = c >= ' ' && c <= '~';
        n += (size_t)snprintf(out.text + n, sizeof out.text - n, printable ? "%c" : "\\x%02x", c);
    }
    return out;
}
