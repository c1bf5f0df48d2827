/*
 * Reading numbers: digits eight at a time, then one or two 128-bit products.
 *
 * Reference: D. Lemire, "Number parsing at a gigabyte per second" (2021). The same code serves
 * binary64, binary32, binary16 and bfloat16, straight from the decimal: rounding twice would be
 * wrong. Digits behind the 19th only matter where the first 19, and they plus one, round
 * differently; then the C library decides.
 */
#include "codec/number.h"
#include "codec/number_internal.h"

#include <fenv.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* --- decimal scan -------------------- */

struct decimal {
    uint64_t digits; /* the first significant ones, at most 19 */
    int64_t exponent;
    int count;      /* of digits taken */
    bool truncated; /* there were more */
};

INLINE bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* How many of the eight bytes, from the lowest, are digits; *value is their number. */
INLINE int digit_run(const char *at, uint64_t *value)
{
    uint64_t chunk;

    memcpy(&chunk, at, sizeof chunk);
    chunk ^= 0x3030303030303030ULL;
    /* the high bit of a byte above 9; carries only spoil bytes behind the first such */
    uint64_t others = ((chunk + 0x7676767676767676ULL) | chunk) & 0x8080808080808080ULL;
    int run = others ? __builtin_ctzll(others) / 8 : 8;
    chunk = chunk << (32 - 4 * run)
                  << (32 - 4 * run); /* as if zeros stood before them; in halves, for run 0 */
    chunk = chunk * 10 + (chunk >> 8);
    *value = (((chunk & 0x000000ff000000ffULL) * 0x000f424000000064ULL) +
              (((chunk >> 16) & 0x000000ff000000ffULL) * 0x0000271000000001ULL)) >>
             32;
    return run;
}

/* Appends digits to d until something else or the 19th; leading zeros do not count. */
INLINE const char *take_digits(const char *at, const char *end, struct decimal *d)
{
    uint64_t value;

    while (d->count <= 11 && end - at >= 8) {
        int run = digit_run(at, &value);
        d->digits = d->digits * md_small_powers[run] + value;
        d->count = (d->count + run) &
                   -(d->digits != 0); /* no branch: the first digit of a fraction is any */
        at += run;
        if (run < 8) {
            return at;
        }
    }
    while (at < end && is_digit(*at) && d->count < 19) {
        d->digits = d->digits * 10 + (uint64_t)(*at++ - '0');
        d->count += d->digits != 0;
    }
    return at;
}

INLINE const char *skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

static const char *take_exponent(const char *at, const char *end, int64_t *exponent)
{
    const int64_t enough = INT64_MAX / 100; /* no text is that long */
    bool negative = false;
    int64_t value = 0;

    at++;
    if (at < end && (*at == '+' || *at == '-')) {
        negative = *at++ == '-';
    }
    if (at == end || !is_digit(*at)) {
        return NULL;
    }
    for (; at < end && is_digit(*at); at++) {
        value = value < enough ? value * 10 + (*at - '0') : value;
    }
    *exponent += negative ? -value : value;
    return at;
}

/* JSON's number grammar; at is behind the sign. NULL if no number stands there. */
INLINE const char *scan_decimal(const char *at, const char *end, struct decimal *d)
{
    const char *whole = at;

    if (end - at > 1 && at[1] == '.' &&
        is_digit(*at)) { /* most are; a known length costs no wait */
        d->digits = (uint64_t)(*at++ - '0');
        d->count = d->digits != 0;
    } else {
        at = take_digits(at, end, d);
    }
    const char *rest = skip_digits(at, end);
    if (rest == whole ||
        ((rest - whole > 1) & (*whole == '0'))) { /* & so that data decides no branch */
        return NULL;
    }
    d->exponent = rest - at; /* digits that did not fit */
    d->truncated = rest > at;
    at = rest;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = d->truncated ? at : take_digits(at, end, d);
        d->exponent -= at - fraction;
        rest = skip_digits(at, end);
        if (rest == fraction) {
            return NULL;
        }
        d->truncated |= rest > at;
        at = rest;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        int64_t exponent = 0; /* so that d itself can stay in registers */
        at = take_exponent(at, end, &exponent);
        d->exponent += exponent;
    }
    return at;
}

/* --- Eisel-Lemire -------------------- */

/* The leading bits of w * 10^q, exact where `precision` bits need it. */
INLINE struct md_product approximate(uint64_t w, int64_t q, int precision)
{
    const struct md_power *power = &md_powers[q - MD_POWER_LOW];
    uint64_t mask = UINT64_MAX >> precision;
    struct md_product first = md_multiply(w, power->high);

    if (MD_UNLIKELY((first.high & mask) == mask)) { /* the rest of the power could carry */
        uint64_t rest = md_multiply(w, power->low).high;
        first.low += rest;
        first.high += first.low < rest;
    }
    return first;
}

/* True if w * 10^q is a whole number over a power of two and fits 64 bits of mantissa: only then
 * can it lie exactly halfway between two numbers, and then the bits of the product are exact. */
static bool may_be_halfway(uint64_t w, int64_t q)
{
    if (q < -MD_POWER_EXACT || q > MD_POWER_EXACT) {
        return false; /* 5^28 exceeds 64 bits */
    }
    if (q >= 0) {
        return true;
    }
    uint64_t five = md_powers[-q - MD_POWER_LOW].high; /* 5^-q (odd), shifted to the top */
    return w % (five >> __builtin_ctzll(five)) == 0;
}

/* Bits (without sign) of the format's value nearest to w * 10^q. */
INLINE uint64_t to_binary(uint64_t w, int64_t q, const struct md_binary_format *format)
{
    const int bits = format->mantissa_bits;
    const uint64_t infinite = (uint64_t)format->infinite << bits;

    if (w == 0 || q < format->power_low) {
        return 0;
    }
    if (q > format->power_high) {
        return infinite;
    }
    int zeros = __builtin_clzll(w);
    struct md_product p = approximate(w << zeros, q, bits + 3);
    int upper = (int)(p.high >> 63);
    int shift =
        upper + 64 - bits - 3; /* keeps the mantissa, its leading one and one bit for rounding */
    int64_t exponent = ((217706 * q) >> 16) + 63 + upper - zeros + format->bias;
    if (MD_UNLIKELY(exponent <= 0)) { /* subnormal: fewer bits */
        if (1 - exponent + shift >= 64) {
            return 0;
        }
        shift += (int)(1 - exponent);
    }
    uint64_t mantissa = p.high >> shift;
    bool looks_halfway = (mantissa << shift == p.high) &
                         ((mantissa & 3) == 1); /* no branch on the mantissa's bits */
    if (MD_UNLIKELY(looks_halfway) && p.low <= 1 && may_be_halfway(w, q)) {
        mantissa &= ~1ULL; /* halfway: to even */
    }
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (exponent <= 0) {
        return mantissa; /* a carry into the exponent's place is the smallest normal number */
    }
    /* the leading one adds 1 to the exponent field, or 2 when rounding carried into the next power
     * of two */
    uint64_t field = ((uint64_t)(exponent - 1) << bits) + mantissa;
    return field < infinite ? field : infinite;
}

/* --- the rare rest: the C library, in its own locale -------------------- */

/* Writes digits and exponent that strtod reads as the same value, whatever the length of the
 * number. */
static void shorten_text(const char *at, const char *end, char *out, size_t out_len)
{
    size_t kept_max = out_len - 32,
           len = 0; /* 767 digits decide; one more says that something follows */
    int64_t exponent = 0;
    bool fraction = false, more = false;

    for (; at < end && (is_digit(*at) || *at == '.'); at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        exponent -= fraction;
        if (len == kept_max) {
            exponent++;
            more |= *at != '0';
        } else if (len || *at != '0') {
            out[len++] = *at;
        }
    }
    if (more) {
        out[len++] = '1';
        exponent--;
    }
    if (at < end) {
        (void)take_exponent(at, end, &exponent);
    }
    (void)snprintf(out + len, out_len - len, "e%lld", (long long)exponent);
}

static double read_rounded(const char *text, locale_t locale, int rounding)
{
    int before = fegetround();

    (void)fesetround(rounding);
    double value = strtod_l(text, NULL, locale);
    (void)fesetround(before);
    return value;
}

/* Bits without sign of a magnitude; `odd`: rounded to odd, so that it can be rounded once more
 * without error. */
static uint64_t library_read(const char *at, const char *end, bool odd)
{
    char text[832];
    locale_t locale =
        newlocale(LC_ALL_MASK, "C", (locale_t)0); /* takes no memory: it is built in */
    uint64_t low, high;
    double value;

    shorten_text(at, end, text, sizeof text);
    value = read_rounded(text, locale, odd ? FE_TOWARDZERO : FE_TONEAREST);
    memcpy(&low, &value, sizeof low);
    if (odd) {
        value = read_rounded(text, locale, FE_UPWARD);
        memcpy(&high, &value, sizeof high);
        low |= low != high;
    }
    freelocale(locale);
    return low;
}

/* Bits of a positive finite binary64 value, rounded to a narrower format. */
static uint64_t narrow(uint64_t wide, const struct md_binary_format *format)
{
    const uint64_t infinite = (uint64_t)format->infinite << format->mantissa_bits;
    int exponent = (int)(wide >> 52) - md_format_f64.bias + format->bias;
    uint64_t mantissa = (wide & ((1ULL << 52) - 1)) | 1ULL << 52;
    int shift = 52 - format->mantissa_bits;

    if (exponent < 1) {        /* subnormal in the narrow format */
        shift += 1 - exponent; /* at most 54: only what lies near a boundary comes here */
        exponent = 1;
    }
    uint64_t kept = mantissa >> shift, rest = mantissa & ((1ULL << shift) - 1),
             half = 1ULL << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    uint64_t field = ((uint64_t)(exponent - 1) << format->mantissa_bits) + kept;
    return field < infinite ? field : infinite;
}

/* The bits of a number of which only the first digits were kept. */
__attribute__((noinline)) static uint64_t read_long(const char *at, const char *end,
                                                    uint64_t digits, int64_t exponent,
                                                    const struct md_binary_format *format)
{
    uint64_t bits = to_binary(digits, exponent, format);

    if (bits == to_binary(digits + 1, exponent, format)) {
        return bits;
    }
    bool wide = format->mantissa_bits == md_format_f64.mantissa_bits;
    bits = library_read(at, end, !wide);
    return wide ? bits : narrow(bits, format);
}

/* --- numbers -------------------- */

static const char *read_special(const char *at, const char *end,
                                const struct md_binary_format *format, uint64_t *bits)
{
    static const struct {
        struct md_str word;
        bool nan;
    } words[] = {{{"NaN", 3}, true}, {{"Infinity", 8}, false}, {{"Inf", 3}, false}};

    *bits = (uint64_t)format->infinite << format->mantissa_bits;
    for (size_t i = 0; i < MD_COUNT_OF(words); i++) {
        if (md_str_starts_with(md_str_make(at, (size_t)(end - at)), words[i].word)) {
            *bits |= (uint64_t)words[i].nan << (format->mantissa_bits - 1);
            return at + words[i].word.len;
        }
    }
    return NULL;
}

INLINE const char *read_number(const char *at, const char *end,
                               const struct md_binary_format *format, int sign_bit, uint64_t *bits)
{
    struct decimal d = {0};
    bool negative = at < end && *at == '-';
    const char *magnitude = at + negative;
    const char *next = scan_decimal(magnitude, end, &d);

    if (MD_UNLIKELY(!next)) {
        next = read_special(magnitude, end, format, bits);
    } else if (MD_UNLIKELY(d.truncated)) {
        *bits = read_long(magnitude, next, d.digits, d.exponent, format);
    } else {
        *bits = to_binary(d.digits, d.exponent, format);
    }
    *bits |= (uint64_t)negative << sign_bit;
    return next;
}

const char *md_number_read_f64(const char *at, const char *end, double *out)
{
    uint64_t bits;
    const char *next = read_number(at, end, &md_format_f64, 63, &bits);

    memcpy(out, &bits, sizeof *out);
    return next;
}

const char *md_number_read_f32(const char *at, const char *end, float *out)
{
    uint64_t bits;
    const char *next = read_number(at, end, &md_format_f32, 31, &bits);
    uint32_t narrow_bits = (uint32_t)bits;

    memcpy(out, &narrow_bits, sizeof *out);
    return next;
}

static const char *read_16_bits(const char *at, const char *end,
                                const struct md_binary_format *format, uint16_t *out)
{
    uint64_t bits;
    const char *next = read_number(at, end, format, 15, &bits);

    *out = (uint16_t)bits;
    return next;
}

const char *md_number_read_fp16(const char *at, const char *end, uint16_t *out)
{
    return read_16_bits(at, end, &md_format_fp16, out);
}

const char *md_number_read_bf16(const char *at, const char *end, uint16_t *out)
{
    return read_16_bits(at, end, &md_format_bf16, out);
}

bool md_number_parse_f64(struct md_str text, double *out)
{
    return text.len &&
           md_number_read_f64(text.ptr, text.ptr + text.len, out) == text.ptr + text.len;
}

enum md_integer_read md_number_read_integer(const char **at, const char *end, bool *negative,
                                            uint64_t *magnitude)
{
    bool minus = *at < end && **at == '-';
    const char *first = *at + minus, *p = first;
    uint64_t value = 0;
    bool overflow = false;

    for (; p < end && is_digit(*p); p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        overflow |= __builtin_mul_overflow(value, 10U, &value) ||
                    __builtin_add_overflow(value, digit, &value);
    }
    if (p == first || (*first == '0' && p - first > 1) ||
        (p < end && (*p == '.' || *p == 'e' || *p == 'E'))) {
        return MD_INTEGER_NOT_ONE;
    }
    *at = p;
    *negative = minus;
    *magnitude = value;
    return overflow ? MD_INTEGER_RANGE : MD_INTEGER_OK;
}

/* --- 16-bit floats as values -------------------- */

float md_number_from_bf16(uint16_t bits)
{
    uint32_t single = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &single, sizeof value);
    return value;
}

float md_number_from_fp16(uint16_t bits)
{
    int exponent = bits >> 10 & 0x1f;
    int mantissa = bits & 0x3ff;
    float magnitude;

    if (exponent == 0x1f) {
        magnitude = mantissa ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexpf((float)mantissa, -24);
    } else {
        magnitude = ldexpf((float)(mantissa + 1024), exponent - 25);
    }
    return bits >> 15 ? -magnitude : magnitude;
}
