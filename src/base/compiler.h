/*
 * Compiler attributes and small arithmetic that every room uses.
 */
#ifndef MD_BASE_COMPILER_H
#define MD_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MD_MUST_CHECK               __attribute__((warn_unused_result))
#define MD_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))
#define MD_LIKELY(x)                __builtin_expect(!!(x), 1)
#define MD_UNLIKELY(x)              __builtin_expect(!!(x), 0)
#define MD_COUNT_OF(array)          (sizeof(array) / sizeof((array)[0]))

#define MD_CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Size of a cache line: shared atomics start on one of their own. */
#define MD_CACHE_LINE 64

/* Overflow-checked sums and products for sizes that come from outside; false on overflow. */
static inline MD_MUST_CHECK bool md_size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline MD_MUST_CHECK bool md_size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline size_t md_size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t md_size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Rounds up to a multiple of a power of two; the caller knows that it does not overflow. */
static inline size_t md_size_align(size_t n, size_t power)
{
    return (n + power - 1) & ~(power - 1);
}

#endif
