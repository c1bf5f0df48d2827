/*
 * String views: pointer and length, not terminated, not owned. A zeroed view is the empty string.
 */
#ifndef MD_BASE_STR_H
#define MD_BASE_STR_H

#include "base/compiler.h"

#include <string.h>

struct md_str {
    const char *ptr; /* borrow */
    size_t len;
};

#define MD_STR(literal) ((struct md_str){(literal), sizeof(literal) - 1})
/* For printf: "%.*s", MD_STR_ARG(view) */
#define MD_STR_ARG(s)   (int)md_size_min((s).len, INT32_MAX), ((s).ptr ? (s).ptr : "")

static inline struct md_str md_str_of(const char *text)
{
    return (struct md_str){text, text ? strlen(text) : 0};
}

static inline struct md_str md_str_make(const char *ptr, size_t len)
{
    return (struct md_str){ptr, len};
}

static inline bool md_str_eq(struct md_str a, struct md_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool md_str_eq_c(struct md_str a, const char *text)
{
    return md_str_eq(a, md_str_of(text));
}

/* ASCII case folded; for header names and values. */
bool md_str_eq_nocase(struct md_str a, struct md_str b);

bool md_str_starts_with(struct md_str s, struct md_str prefix);
bool md_str_ends_with(struct md_str s, struct md_str suffix);

/* Position of the byte, or -1. */
ptrdiff_t md_str_find(struct md_str s, char byte);

/* Without leading and trailing spaces and tabs. */
struct md_str md_str_trim(struct md_str s);

/* Takes the next piece up to `separator` off *rest; false when nothing is left. "a,,b" gives "a",
 * "", "b". */
bool md_str_split(struct md_str *rest, char separator, struct md_str *piece);

/* Whole string as a decimal number: no sign for u64, no spaces, no overflow. */
bool md_str_to_u64(struct md_str s, uint64_t *out) MD_MUST_CHECK;
bool md_str_to_i64(struct md_str s, int64_t *out) MD_MUST_CHECK;
/* The other way: a view of `digits`. */
enum { MD_STR_U64_MAX = 20 };
struct md_str md_str_of_u64(uint64_t value, char digits[MD_STR_U64_MAX]);

/* 0 to 15; -1: it is no hexadecimal digit. */
static inline int md_hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Shell-style pattern with * and ? over the whole string; at most len x pattern length steps. */
bool md_str_glob(struct md_str s, struct md_str pattern);

/* Number of single-byte edits between two names, at most `limit` + 1 (names over 63 bytes count as
 * limit + 1). Used to offer the nearest known name in an error. */
unsigned md_str_distance(struct md_str a, struct md_str b, unsigned limit);

uint64_t md_str_hash(struct md_str s);

#endif
