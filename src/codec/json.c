/*
 * JSON pull reader: a state byte and one bit a level instead of recursion.
 *
 * State: what may come next. After a value the reader is in AFTER_VALUE, or in AFTER_DOCUMENT at depth 0.
 */
#include "codec/json.h"

#include "codec/number.h"
#include "codec/utf8.h"

#include <stdarg.h>
#include <stdio.h>

enum {
    EXPECT_VALUE,        /* document start, after ':' , after ',' in an array */
    EXPECT_FIRST_VALUE,  /* after '[': a value or ']' */
    EXPECT_FIRST_KEY,    /* after '{': a key or '}' */
    EXPECT_KEY,          /* after ',' in an object */
    AFTER_KEY,           /* ':' */
    AFTER_VALUE,         /* ',' or the closing bracket */
    AFTER_DOCUMENT,
};

void md_json_init(struct md_json *json, struct md_str text, struct md_arena *arena, uint32_t max_depth)
{
    memset(json, 0, offsetof(struct md_json, is_object));
    json->begin = json->at = text.ptr ? text.ptr : "";
    json->end = json->begin + text.len;
    json->arena = arena;
    json->max_depth = max_depth < MD_JSON_DEPTH_LIMIT ? max_depth : MD_JSON_DEPTH_LIMIT;
    json->state = EXPECT_VALUE;
}

bool md_json_fail(struct md_json *json, const char *format, ...)
{
    char sentence[512];
    va_list args;

    if (json->failed) {
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    json->failed = true;
    return md_error_set(&json->error, MD_REASON_MALFORMED, "failed to parse the request JSON: %s at byte %zu", sentence,
                        (size_t)(json->at - json->begin));
}

static void skip_space(struct md_json *json)
{
    while (json->at < json->end && (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

static bool in_object(const struct md_json *json)
{
    uint32_t level = json->depth - 1;

    return json->is_object[level / 64] >> (level % 64) & 1;
}

/* --- strings ---------------------------------------------------------------------------------------------------------- */

static int hex4(const char *at, const char *end)
{
    int value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t point)
{
    if (point < 0x80) {
        *out++ = (char)point;
    } else if (point < 0x800) {
        *out++ = (char)(0xc0 | point >> 6);
        *out++ = (char)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *out++ = (char)(0xe0 | point >> 12);
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
        *out++ = (char)(0x80 | (point & 0x3f));
    } else {
        *out++ = (char)(0xf0 | point >> 18);
        *out++ = (char)(0x80 | (point >> 12 & 0x3f));
        *out++ = (char)(0x80 | (point >> 6 & 0x3f));
        *out++ = (char)(0x80 | (point & 0x3f));
    }
    return out;
}

/* json->at is behind the backslash. */
static bool unescape_one(struct md_json *json, const char *end, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = *json->at++;
    const char *known = c ? strchr(from, c) : NULL;

    if (known) {
        *(*out)++ = to[known - from];
        return true;
    }
    int point = c == 'u' ? hex4(json->at, end) : -1;
    if (point < 0) {
        return md_json_fail(json, "invalid escape in a string");
    }
    json->at += 4;
    if (point >= 0xdc00 && point < 0xe000) {
        return md_json_fail(json, "a low surrogate without a high one in a string");
    }
    uint32_t full = (uint32_t)point;
    if (point >= 0xd800 && point < 0xdc00) {
        int low = end - json->at >= 6 && json->at[0] == '\\' && json->at[1] == 'u' ? hex4(json->at + 2, end) : -1;
        if (low < 0xdc00 || low >= 0xe000) {
            return md_json_fail(json, "a high surrogate without a low one in a string");
        }
        json->at += 6;
        full = 0x10000 + (((uint32_t)point - 0xd800) << 10 | ((uint32_t)low - 0xdc00));
    }
    *out = put_utf8(*out, full);
    return true;
}

static bool unescape(struct md_json *json, const char *begin, const char *end)
{
    char *text = md_arena_alloc(json->arena, (size_t)(end - begin) + 1);
    char *out = text;

    if (!text) {
        json->failed = true;
        return md_error_no_memory(&json->error, "a string");
    }
    json->at = begin;
    while (json->at < end) {
        const char *backslash = memchr(json->at, '\\', (size_t)(end - json->at));
        const char *stop = backslash ? backslash : end;
        memcpy(out, json->at, (size_t)(stop - json->at));
        out += stop - json->at;
        json->at = stop;
        if (backslash) {
            json->at++;
            if (!unescape_one(json, end, &out)) {
                return false;
            }
        }
    }
    *out = '\0';
    json->text = md_str_make(text, (size_t)(out - text));
    return true;
}

/* json->at is at the opening quote. */
static bool read_string(struct md_json *json)
{
    const char *begin = ++json->at;
    bool escapes = false, ascii = true;

    for (;; json->at++) {
        if (json->at == json->end) {
            return md_json_fail(json, "a string without end");
        }
        unsigned char c = (unsigned char)*json->at;
        if (c == '"') {
            break;
        }
        if (c < 0x20) {
            return md_json_fail(json, "a control character in a string");
        }
        ascii = ascii && c < 0x80;
        if (c == '\\') {
            escapes = true;
            if (++json->at == json->end) {
                return md_json_fail(json, "a string without end");
            }
        }
    }
    const char *end = json->at;
    json->text = md_str_make(begin, (size_t)(end - begin));
    if (!ascii && !md_utf8_is_valid(json->text)) {
        return md_json_fail(json, "a string that is not valid UTF-8");
    }
    if (escapes && !unescape(json, begin, end)) {
        return false;
    }
    json->at = end + 1;
    return true;
}

/* --- numbers ------------------------------------------------------------------------------------------------------------ */

static const char *digits(const char *at, const char *end)
{
    while (at < end && *at >= '0' && *at <= '9') {
        at++;
    }
    return at;
}

static bool take_word(struct md_json *json, const char *word)
{
    size_t len = strlen(word);

    if ((size_t)(json->end - json->at) < len || memcmp(json->at, word, len) != 0) {
        return false;
    }
    json->at += len;
    return true;
}

static bool read_number(struct md_json *json)
{
    const char *begin = json->at, *at = begin, *end = json->end;

    at += *at == '-';
    json->at = at;
    if (take_word(json, "Infinity") || take_word(json, "Inf") || (at == begin && take_word(json, "NaN"))) {
        json->text = md_str_make(begin, (size_t)(json->at - begin));
        return true;
    }
    const char *whole = at;
    at = digits(at, end);
    if (at == whole || (*whole == '0' && at - whole > 1)) {
        return md_json_fail(json, "an invalid value");
    }
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = digits(at, end);
        if (at == fraction) {
            return md_json_fail(json, "a number without digits behind its point");
        }
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        const char *exponent = at;
        at = digits(at, end);
        if (at == exponent) {
            return md_json_fail(json, "a number without digits in its exponent");
        }
    }
    json->text = md_str_make(begin, (size_t)(at - begin));
    json->at = at;
    return true;
}

/* --- tokens ------------------------------------------------------------------------------------------------------------- */

static enum md_json_token error_token(struct md_json *json, const char *sentence)
{
    (void)md_json_fail(json, "%s", sentence);
    return MD_JSON_ERROR;
}

static void value_ended(struct md_json *json)
{
    json->state = json->depth ? AFTER_VALUE : AFTER_DOCUMENT;
}

void md_json_value_taken(struct md_json *json)
{
    value_ended(json);
}

static enum md_json_token open_level(struct md_json *json, bool object)
{
    if (json->depth == json->max_depth) {
        return error_token(json, "too many nested levels");
    }
    uint64_t bit = 1ULL << (json->depth % 64);
    uint64_t *word = &json->is_object[json->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    json->depth++;
    json->at++;
    json->state = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_VALUE;
    return object ? MD_JSON_OBJECT_BEGIN : MD_JSON_ARRAY_BEGIN;
}

static enum md_json_token close_level(struct md_json *json)
{
    enum md_json_token token = in_object(json) ? MD_JSON_OBJECT_END : MD_JSON_ARRAY_END;

    json->at++;
    json->depth--;
    value_ended(json);
    return token;
}

static enum md_json_token read_value(struct md_json *json)
{
    enum md_json_token token;

    switch (*json->at) {
    case '{':
        return open_level(json, true);
    case '[':
        return open_level(json, false);
    case '"':
        if (!read_string(json)) {
            return MD_JSON_ERROR;
        }
        token = MD_JSON_STRING;
        break;
    case 't':
        token = take_word(json, "true") ? MD_JSON_TRUE : MD_JSON_ERROR;
        break;
    case 'f':
        token = take_word(json, "false") ? MD_JSON_FALSE : MD_JSON_ERROR;
        break;
    case 'n':
        token = take_word(json, "null") ? MD_JSON_NULL : MD_JSON_ERROR;
        break;
    default:
        if (!read_number(json)) {
            return MD_JSON_ERROR;
        }
        token = MD_JSON_NUMBER;
        break;
    }
    if (token == MD_JSON_ERROR) {
        return error_token(json, "an invalid value");
    }
    value_ended(json);
    return token;
}

static enum md_json_token read_key(struct md_json *json)
{
    if (*json->at != '"') {
        return error_token(json, "a name was expected");
    }
    if (!read_string(json)) {
        return MD_JSON_ERROR;
    }
    json->state = AFTER_KEY;
    return MD_JSON_KEY;
}

/* Takes ':' and ',' that stand before the next token. False when something else is there. */
static bool take_separator(struct md_json *json)
{
    skip_space(json);
    if (json->at == json->end) {
        return true;
    }
    if (json->state == AFTER_KEY) {
        if (*json->at != ':') {
            return md_json_fail(json, "':' was expected");
        }
        json->at++;
        json->state = EXPECT_VALUE;
        skip_space(json);
    } else if (json->state == AFTER_VALUE && *json->at == ',') {
        json->at++;
        json->state = in_object(json) ? EXPECT_KEY : EXPECT_VALUE;
        skip_space(json);
    }
    return true;
}

enum md_json_token md_json_next(struct md_json *json)
{
    if (json->failed || !take_separator(json)) {
        return MD_JSON_ERROR;
    }
    if (json->at == json->end) {
        return json->state == AFTER_DOCUMENT ? MD_JSON_END : error_token(json, "the document ends too early");
    }
    bool closes = json->depth && *json->at == (in_object(json) ? '}' : ']');
    switch (json->state) {
    case EXPECT_VALUE:
        return read_value(json);
    case EXPECT_FIRST_VALUE:
        return closes ? close_level(json) : read_value(json);
    case EXPECT_FIRST_KEY:
        return closes ? close_level(json) : read_key(json);
    case EXPECT_KEY:
        return read_key(json);
    case AFTER_VALUE:
        return closes ? close_level(json) : error_token(json, "',' or a closing bracket was expected");
    default:
        return error_token(json, "something follows the document");
    }
}

enum md_json_token md_json_peek(struct md_json *json)
{
    if (json->failed || !take_separator(json)) {
        return MD_JSON_ERROR;
    }
    if (json->at == json->end) {
        return json->state == AFTER_DOCUMENT ? MD_JSON_END : MD_JSON_ERROR;
    }
    switch (*json->at) {
    case '{':
        return MD_JSON_OBJECT_BEGIN;
    case '[':
        return MD_JSON_ARRAY_BEGIN;
    case '}':
        return MD_JSON_OBJECT_END;
    case ']':
        return MD_JSON_ARRAY_END;
    case '"':
        return json->state == EXPECT_KEY || json->state == EXPECT_FIRST_KEY ? MD_JSON_KEY : MD_JSON_STRING;
    case 't':
        return MD_JSON_TRUE;
    case 'f':
        return MD_JSON_FALSE;
    case 'n':
        return MD_JSON_NULL;
    default:
        return MD_JSON_NUMBER;
    }
}

bool md_json_skip(struct md_json *json)
{
    uint32_t depth = json->depth;

    do {
        enum md_json_token token = md_json_next(json);
        if (token == MD_JSON_ERROR || token == MD_JSON_END) {
            return token == MD_JSON_END && md_json_fail(json, "the document ends too early");
        }
    } while (json->depth > depth || json->state == AFTER_KEY);
    return true;
}

/* --- values --------------------------------------------------------------------------------------------------------------- */

bool md_json_to_i64(struct md_str number, int64_t *out)
{
    return md_str_to_i64(number, out);
}

bool md_json_to_u64(struct md_str number, uint64_t *out)
{
    return md_str_to_u64(number, out);
}

bool md_json_to_f64(struct md_str number, double *out)
{
    return md_number_parse_f64(number, out);
}

void md_json_append_string(struct md_bytes *out, struct md_str text)
{
    static const char hex[] = "0123456789abcdef";
    size_t plain = 0;

    md_bytes_append_char(out, '"');
    for (size_t i = 0; i < text.len;) {
        unsigned char c = (unsigned char)text.ptr[i];
        size_t width = c < 0x80 ? 1 : md_utf8_width(md_str_make(text.ptr + i, text.len - i));
        if (width && c >= 0x20 && c != '"' && c != '\\') {
            i += width;
            continue;
        }
        md_bytes_append(out, text.ptr + plain, i - plain);
        if (!width) {
            md_bytes_append_str(out, MD_STR("\xef\xbf\xbd")); /* U+FFFD for a byte that is no UTF-8 */
        } else if (c == '"' || c == '\\') {
            md_bytes_append_char(out, '\\');
            md_bytes_append_char(out, (char)c);
        } else if (c == '\n') {
            md_bytes_append_str(out, MD_STR("\\n"));
        } else {
            const char escape[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            md_bytes_append(out, escape, sizeof escape);
        }
        plain = ++i;
    }
    md_bytes_append(out, text.ptr + plain, text.len - plain);
    md_bytes_append_char(out, '"');
}

void md_json_append_f64(struct md_bytes *out, double value)
{
    char text[MD_NUMBER_TEXT_MAX];

    md_bytes_append(out, text, md_number_print_f64(value, text));
}
