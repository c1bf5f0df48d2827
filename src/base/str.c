/*
 * String view operations.
 */
#include "base/str.h"

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool md_str_eq_nocase(struct md_str a, struct md_str b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (fold(a.ptr[i]) != fold(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool md_str_starts_with(struct md_str s, struct md_str prefix)
{
    return s.len >= prefix.len && md_str_eq(md_str_make(s.ptr, prefix.len), prefix);
}

bool md_str_ends_with(struct md_str s, struct md_str suffix)
{
    return s.len >= suffix.len &&
           md_str_eq(md_str_make(s.ptr + (s.len - suffix.len), suffix.len), suffix);
}

ptrdiff_t md_str_find(struct md_str s, char byte)
{
    const char *hit = s.len ? memchr(s.ptr, byte, s.len) : NULL;

    return hit ? hit - s.ptr : -1;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct md_str md_str_trim(struct md_str s)
{
    while (s.len && is_blank(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

bool md_str_split(struct md_str *rest, char separator, struct md_str *piece)
{
    if (!rest->ptr) {
        return false;
    }
    ptrdiff_t at = md_str_find(*rest, separator);
    if (at < 0) {
        *piece = *rest;
        *rest = (struct md_str){NULL, 0};
        return true;
    }
    *piece = md_str_make(rest->ptr, (size_t)at);
    rest->ptr += at + 1;
    rest->len -= (size_t)at + 1;
    return true;
}

struct md_str md_str_of_u64(uint64_t value, char digits[MD_STR_U64_MAX])
{
    size_t at = MD_STR_U64_MAX;

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    return md_str_make(digits + at, MD_STR_U64_MAX - at);
}

bool md_str_to_u64(struct md_str s, uint64_t *out)
{
    uint64_t value = 0;

    if (!s.len) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9' || __builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(s.ptr[i] - '0'), &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

bool md_str_to_i64(struct md_str s, int64_t *out)
{
    bool negative = s.len && s.ptr[0] == '-';
    uint64_t magnitude;

    if (negative) {
        s.ptr++;
        s.len--;
    }
    if (!md_str_to_u64(s, &magnitude) || magnitude > (uint64_t)INT64_MAX + negative) {
        return false;
    }
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

bool md_str_glob(struct md_str s, struct md_str pattern)
{
    size_t at = 0, p = 0, star = SIZE_MAX, retry = 0;

    while (at < s.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            retry = at;
        } else if (p < pattern.len && (pattern.ptr[p] == '?' || pattern.ptr[p] == s.ptr[at])) {
            p++;
            at++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            at = ++retry;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*') {
        p++;
    }
    return p == pattern.len;
}

unsigned md_str_distance(struct md_str a, struct md_str b, unsigned limit)
{
    unsigned row[64];

    if (a.len > 63 || b.len > 63) {
        return limit + 1;
    }
    for (size_t j = 0; j <= b.len; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a.len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b.len; j++) {
            unsigned change = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            unsigned best = row[j] < row[j - 1] ? row[j] : row[j - 1];
            diagonal = row[j];
            row[j] = best + 1 < change ? best + 1 : change;
        }
    }
    return row[b.len] > limit ? limit + 1 : row[b.len];
}

uint64_t md_str_hash(struct md_str s)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a */

    for (size_t i = 0; i < s.len; i++) {
        hash = (hash ^ (uint8_t)s.ptr[i]) * 0x100000001b3U;
    }
    return hash ^ (hash >> 32);
}
