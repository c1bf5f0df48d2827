/*
 * What reading and printing numbers share: powers of ten and the shapes of the binary formats.
 * Constants; any thread.
 */
#ifndef MD_CODEC_NUMBER_INTERNAL_H
#define MD_CODEC_NUMBER_INTERNAL_H

#include "base/compiler.h"

/* gcc does not inline what has several callers unless told; one copy for each format saves much of
 * the time. */
#define INLINE __attribute__((always_inline)) static inline

enum {
    MD_POWER_LOW = -342,
    MD_POWER_HIGH = 324,
    MD_POWER_EXACT = 27 /* 5^27 is the last that fits 64 bits */
};

/* The 128 leading bits of 10^k, first row for MD_POWER_LOW: truncated, but rounded up for -27 <= k
 * < 0. */
struct md_power {
    uint64_t high, low;
};
extern const struct md_power md_powers[MD_POWER_HIGH - MD_POWER_LOW + 1];

/* 10^0..10^19 */
extern const uint64_t md_small_powers[20];

struct md_binary_format {
    int mantissa_bits; /* stored */
    int bias;          /* of the exponent */
    int infinite;      /* exponent field of infinity and NaN */
    int power_low;     /* 19 digits times ten to a smaller power is zero */
    int power_high;    /* one times ten to a larger power is infinite */
};

static const struct md_binary_format md_format_f64 = {52, 1023, 0x7ff, -342, 308};
static const struct md_binary_format md_format_f32 = {23, 127, 0xff, -65, 38};
static const struct md_binary_format md_format_fp16 = {10, 15, 0x1f, -27, 4};
static const struct md_binary_format md_format_bf16 = {7, 127, 0xff, -60, 38};

__extension__ typedef unsigned __int128 md_wide;

struct md_product {
    uint64_t high, low;
};

INLINE struct md_product md_multiply(uint64_t a, uint64_t b)
{
    md_wide product = (md_wide)a * b;

    return (struct md_product){(uint64_t)(product >> 64), (uint64_t)product};
}

#endif
