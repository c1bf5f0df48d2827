/*
 * JSON pull reader: a state byte and one bit a level instead of recursion.
 *
 * State: what may come next. After a value the reader is in AFTER_VALUE, or in AFTER_DOCUMENT at
 * depth 0.
 */
#include "codec/json.h"

#include "codec/number.h"
#include "codec/utf8.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    EXPECT_VALUE,       /* document start, after ':' , after ',' in an array */
    EXPECT_FIRST_VALUE, /* after '[': a value or ']' */
    EXPECT_FIRST_KEY,   /* after '{': a key or '}' */
    EXPECT_KEY,         /* after ',' in an object */
    AFTER_KEY,          /* ':' */
    AFTER_VALUE,        /* ',' or the closing bracket */
    AFTER_DOCUMENT,
};

void md_json_init(struct md_json *json, struct md_str text, struct md_arena *arena,
                  uint32_t max_depth)
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
    return md_error_set(&json->error, MD_REASON_MALFORMED,
                        "failed to parse the request JSON: %s at byte %zu", sentence,
                        (size_t)(json->at - json->begin));
}

static void skip_space(struct md_json *json)
{
    while (json->at < json->end &&
           (*json->at == ' ' || *json->at == '\n' || *json->at == '\r' || *json->at == '\t')) {
        json->at++;
    }
}

static bool in_object(const struct md_json *json)
{
    uint32_t level = json->depth - 1;

    return json->is_object[level / 64] >> (level % 64) & 1;
}

/* --- strings -------------------- */

/* Length of the run of ASCII that stands for itself in a string; looks at whole groups of eight
 * only. */
static size_t plain_run(const char *at, size_t len)
{
    const uint64_t ones = 0x0101010101010101ULL, tops = 0x8080808080808080ULL;
    size_t run = 0;

    for (; len - run >= 8; run += 8) {
        uint64_t chunk;
        memcpy(&chunk, at + run, sizeof chunk);
        uint64_t quote = chunk ^ ones * '"', backslash = chunk ^ ones * '\\';
        /* a borrow only spoils bytes behind the first that is special */
        uint64_t special =
            (chunk | (chunk - ones * 0x20) | (quote - ones) | (backslash - ones)) & tops;
        if (special) {
            return run + (size_t)__builtin_ctzll(special) / 8;
        }
    }
    return run;
}

static int hex4(const char *at, const char *end)
{
    int value = 0;

    if (end - at < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = md_hex_digit(at[i]);

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
        int low = end - json->at >= 6 && json->at[0] == '\\' && json->at[1] == 'u'
                      ? hex4(json->at + 2, end)
                      : -1;
        if (low < 0xdc00 || low >= 0xe000) {
            return md_json_fail(json, "a high surrogate without a low one in a string");
        }
        json->at += 6;
        full = 0x10000 + (((uint32_t)point - 0xd800) << 10 | ((uint32_t)low - 0xdc00));
    }
    *out = put_utf8(*out, full);
    return true;
}

/* Decodes the string's raw text to `out`, which has room for as many bytes; *len is what it takes.
 */
static bool unescape(struct md_json *json, struct md_str raw, char *out, size_t *len)
{
    const char *end = raw.ptr + raw.len, *begin = out;

    json->at = raw.ptr;
    while (json->at < end) {
        const char *backslash = memchr(json->at, '\\', (size_t)(end - json->at));
        size_t plain = (size_t)((backslash ? backslash : end) - json->at);
        memcpy(out, json->at, plain);
        out += plain;
        json->at += plain;
        if (backslash) {
            json->at++;
            if (!unescape_one(json, end, &out)) {
                return false;
            }
        }
    }
    *len = (size_t)(out - begin);
    return true;
}

/* json->at is at the opening quote, and behind the closing one afterwards. The raw text is valid
 * UTF-8. */
static bool scan_string(struct md_json *json, struct md_str *raw, bool *escapes)
{
    const char *begin = ++json->at;
    bool ascii = true;

    *escapes = false;
    for (;; json->at++) {
        json->at += plain_run(json->at, (size_t)(json->end - json->at));
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
            *escapes = true;
            if (++json->at == json->end) {
                return md_json_fail(json, "a string without end");
            }
        }
    }
    *raw = md_str_make(begin, (size_t)(json->at - begin));
    if (!ascii && !md_utf8_is_valid(*raw)) {
        return md_json_fail(json, "a string that is not valid UTF-8");
    }
    json->at++;
    return true;
}

/* The same for a string that nobody wants. */
static bool check_escapes(struct md_json *json, struct md_str raw)
{
    const char *end = raw.ptr + raw.len, *backslash = NULL;

    json->at = raw.ptr;
    while ((backslash = memchr(json->at, '\\', (size_t)(end - json->at)))) {
        char character[4], *out = character;
        json->at = backslash + 1;
        if (!unescape_one(json, end, &out)) {
            return false;
        }
    }
    return true;
}

static bool fail_no_memory(struct md_json *json)
{
    json->failed = true;
    return md_error_no_memory(&json->error, "a string");
}

static bool read_string(struct md_json *json)
{
    bool escapes;

    if (!scan_string(json, &json->text, &escapes)) {
        return false;
    }
    if (!escapes) {
        return true;
    }
    const char *behind = json->at;
    if (json->skips) {
        if (!check_escapes(json, json->text)) {
            return false;
        }
    } else {
        char *text = md_arena_alloc(json->arena, json->text.len);
        if (!text) {
            return fail_no_memory(json);
        }
        if (!unescape(json, json->text, text, &json->text.len)) {
            return false;
        }
        json->text.ptr = text;
    }
    json->at = behind;
    return true;
}

bool md_json_take_string(struct md_json *json, size_t gap, struct md_bytes *out)
{
    struct md_str raw;
    bool escapes;

    if (!scan_string(json, &raw, &escapes)) {
        return false;
    }
    const char *behind = json->at;
    if (!md_bytes_reserve(out, gap + raw.len)) {
        if (!out->max || gap + raw.len <= out->max - out->len) {
            return fail_no_memory(json);
        }
        json->failed = true;
        return md_error_set(&json->error, MD_REASON_TOO_LARGE, "the strings exceed %zu bytes",
                            out->max);
    }
    if (gap + raw.len == 0) {
        return true; /* nothing to write, and perhaps nowhere */
    }
    char *text = out->data + out->len + gap;
    size_t len = raw.len;
    if (!escapes) {
        memcpy(text, raw.ptr, len);
    } else if (!unescape(json, raw, text, &len)) {
        return false;
    }
    out->len += gap + len;
    json->at = behind;
    return true;
}

/* --- numbers -------------------- */

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
    if (take_word(json, "Infinity") || take_word(json, "Inf") || take_word(json, "NaN")) {
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

/* --- tokens -------------------- */

void md_json_value_taken(struct md_json *json)
{
    json->state = json->depth ? AFTER_VALUE : AFTER_DOCUMENT;
}

static bool open_level(struct md_json *json, bool object)
{
    if (json->depth == json->max_depth) {
        return md_json_fail(json, "too many nested levels");
    }
    uint64_t bit = 1ULL << (json->depth % 64);
    uint64_t *word = &json->is_object[json->depth / 64];
    *word = object ? *word | bit : *word & ~bit;
    json->depth++;
    json->at++;
    json->state = object ? EXPECT_FIRST_KEY : EXPECT_FIRST_VALUE;
    return true;
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

static enum md_json_token value_kind(char c)
{
    switch (c) {
    case '{':
        return MD_JSON_OBJECT_BEGIN;
    case '[':
        return MD_JSON_ARRAY_BEGIN;
    case '"':
        return MD_JSON_STRING;
    case 't':
        return MD_JSON_TRUE;
    case 'f':
        return MD_JSON_FALSE;
    case 'n':
        return MD_JSON_NULL;
    default:
        return (c >= '0' && c <= '9') || c == '-' || c == 'N' || c == 'I' ? MD_JSON_NUMBER
                                                                          : MD_JSON_ERROR;
    }
}

/* What its first byte says that the next token is; ERROR: *wanted says what should have been there.
 */
static enum md_json_token next_kind(struct md_json *json, const char **wanted)
{
    if (json->at == json->end) {
        *wanted = "the document ends too early";
        return json->state == AFTER_DOCUMENT ? MD_JSON_END : MD_JSON_ERROR;
    }
    char c = *json->at;
    if ((json->state == EXPECT_FIRST_KEY || json->state == AFTER_VALUE) && in_object(json) &&
        c == '}') {
        return MD_JSON_OBJECT_END;
    }
    if ((json->state == EXPECT_FIRST_VALUE || json->state == AFTER_VALUE) && !in_object(json) &&
        c == ']') {
        return MD_JSON_ARRAY_END;
    }
    switch (json->state) {
    case EXPECT_VALUE:
    case EXPECT_FIRST_VALUE:
        *wanted = "an invalid value";
        return value_kind(c);
    case EXPECT_KEY:
    case EXPECT_FIRST_KEY:
        *wanted = "a name was expected";
        return c == '"' ? MD_JSON_KEY : MD_JSON_ERROR;
    case AFTER_VALUE:
        *wanted = "',' or a closing bracket was expected";
        return MD_JSON_ERROR;
    default:
        *wanted = "something follows the document";
        return MD_JSON_ERROR;
    }
}

static bool take_scalar(struct md_json *json, enum md_json_token kind)
{
    switch (kind) {
    case MD_JSON_KEY:
    case MD_JSON_STRING:
        return read_string(json);
    case MD_JSON_NUMBER:
        return read_number(json);
    case MD_JSON_TRUE:
        return take_word(json, "true") || md_json_fail(json, "an invalid value");
    case MD_JSON_FALSE:
        return take_word(json, "false") || md_json_fail(json, "an invalid value");
    default:
        return take_word(json, "null") || md_json_fail(json, "an invalid value");
    }
}

enum md_json_token md_json_next(struct md_json *json)
{
    const char *wanted = NULL;

    if (json->failed || !take_separator(json)) {
        return MD_JSON_ERROR;
    }
    enum md_json_token kind = next_kind(json, &wanted);
    switch (kind) {
    case MD_JSON_END:
        break;
    case MD_JSON_ERROR:
        (void)md_json_fail(json, "%s", wanted);
        break;
    case MD_JSON_OBJECT_BEGIN:
    case MD_JSON_ARRAY_BEGIN:
        return open_level(json, kind == MD_JSON_OBJECT_BEGIN) ? kind : MD_JSON_ERROR;
    case MD_JSON_OBJECT_END:
    case MD_JSON_ARRAY_END:
        json->at++;
        json->depth--;
        md_json_value_taken(json);
        break;
    default:
        if (!take_scalar(json, kind)) {
            return MD_JSON_ERROR;
        }
        if (kind == MD_JSON_KEY) {
            json->state = AFTER_KEY;
        } else {
            md_json_value_taken(json);
        }
        break;
    }
    return kind;
}

enum md_json_token md_json_peek(struct md_json *json)
{
    const char *wanted;

    return json->failed || !take_separator(json) ? MD_JSON_ERROR : next_kind(json, &wanted);
}

bool md_json_skip(struct md_json *json)
{
    uint32_t depth = json->depth;
    enum md_json_token token;

    json->skips = true;
    do {
        token = md_json_next(json);
    } while (token != MD_JSON_ERROR && token != MD_JSON_END &&
             (json->depth > depth || json->state == AFTER_KEY));
    json->skips = false;
    return token != MD_JSON_ERROR &&
           (token != MD_JSON_END || md_json_fail(json, "the document ends too early"));
}

/* --- values -------------------- */

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
    return md_number_parse_f64(number, out) &&
           (!isinf(*out) || !memchr("0123456789", number.ptr[number.len - 1], 10));
}

static void append_escape(struct md_bytes *out, unsigned char c)
{
    static const char hex[] = "0123456789ABCDEF"; /* capitals and short forms as in the field */
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char escape[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    const char *known = c ? strchr(from, c) : NULL;

    if (known) {
        const char quoted[] = {'\\', to[known - from]};
        md_bytes_append(out, quoted, sizeof quoted);
    } else {
        md_bytes_append(out, escape, sizeof escape);
    }
}

void md_json_append_text(struct md_bytes *out, struct md_str text)
{
    size_t from = 0, i = 0; /* text before `from` is out; text from there to i stands for itself */

    if (text.len == 0) {
        return; /* perhaps there is no memory to point into */
    }
    while (i < text.len) {
        i += plain_run(text.ptr + i, text.len - i);
        if (i == text.len) {
            break;
        }
        unsigned char c = (unsigned char)text.ptr[i];
        size_t width = md_utf8_width(md_str_make(text.ptr + i, text.len - i));
        if (width && c >= 0x20 && c != '"' && c != '\\') {
            i += width;
            continue;
        }
        md_bytes_append(out, text.ptr + from, i - from);
        if (width) {
            append_escape(out, c);
        } else {
            md_bytes_append_str(out,
                                MD_STR("\xef\xbf\xbd")); /* U+FFFD for a byte that is no UTF-8 */
        }
        from = ++i;
    }
    md_bytes_append(out, text.ptr + from, text.len - from);
}

void md_json_append_string(struct md_bytes *out, struct md_str text)
{
    md_bytes_append_char(out, '"');
    md_json_append_text(out, text);
    md_bytes_append_char(out, '"');
}

void md_json_append_f64(struct md_bytes *out, double value)
{
    char text[MD_NUMBER_TEXT_MAX];

    md_bytes_append(out, text, md_number_print_f64(value, text));
}
