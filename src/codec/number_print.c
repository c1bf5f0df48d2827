/*
 * Printing numbers: the shortest decimal that reads back as the same value.
 *
 * Reference: R. Giulietti, "The Schubfach way to render doubles" (2020). A value and the two bounds
 * of the interval that rounds to it are scaled by a power of ten, rounded to odd; then at most four
 * candidates are compared as integers. The same code serves binary64, binary32, binary16 and
 * bfloat16.
 */
#include "codec/number.h"
#include "codec/number_internal.h"

struct shortest {
    uint64_t digits;
    int exponent;
};

/* --- Schubfach -------------------- */

INLINE int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

INLINE int floor_log10_pow2(int e, bool three_quarters)
{
    return (e * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* cp times the power rounded up, unless it is exact; the table rounds up from -27 to -1 and 5^55
 * fits 128 bits. */
INLINE uint64_t round_to_odd_128(int k, uint64_t cp)
{
    const struct md_power *power = &md_powers[k - MD_POWER_LOW];
    bool ready = k >= -MD_POWER_EXACT && k <= 55;
    uint64_t low = power->low + !ready;
    uint64_t high = power->high + (!ready && low == 0);
    struct md_product x = md_multiply(low, cp), y = md_multiply(high, cp);
    uint64_t middle = y.low + x.high;

    y.high += middle < y.low;
    return y.high | (middle > 1);
}

/* The same with 64 bits of the power: enough for mantissas of up to 24 bits. */
INLINE uint64_t round_to_odd_64(int k, uint64_t cp)
{
    const struct md_power *power = &md_powers[k - MD_POWER_LOW];
    bool exact = k >= 0 && k <= MD_POWER_EXACT;
    struct md_product p = md_multiply(power->high + !exact, cp);

    return (p.high & UINT32_MAX) | ((p.low >> 32) > 1);
}

INLINE uint64_t round_to_odd(int k, uint64_t cp, const struct md_binary_format *format)
{
    return format->mantissa_bits > 23 ? round_to_odd_128(k, cp) : round_to_odd_64(k, cp);
}

/* Bounds and value are in quarters of 10^k. All four candidates are looked at, and masks choose:
 * which one it is depends on the digits, so that no processor could guess a branch. */
INLINE struct shortest choose(uint64_t lower, uint64_t value, uint64_t upper, int k)
{
    uint64_t s = value / 4, tens = s / 10, middle = 4 * s + 2;
    uint64_t tens_down = lower <= 40 * tens, tens_up = 40 * tens + 40 <= upper;
    uint64_t down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    uint64_t nearer_up = value + (s & 1) > middle;
    uint64_t one_inside = down ^ up;
    uint64_t ones = s + ((up & one_inside) | (nearer_up & ~one_inside));
    uint64_t use_tens = 0 - ((tens_down ^ tens_up) & (s >= 10));

    return (struct shortest){ones ^ ((ones ^ 10 * (tens + tens_up)) & use_tens), k};
}

/* mantissa and exponent fields of a finite value that is not zero */
INLINE struct shortest shorten(uint64_t mantissa, int exponent,
                               const struct md_binary_format *format)
{
    const int bits = format->mantissa_bits, bias = bits + format->bias;
    uint64_t c = exponent ? mantissa | 1ULL << bits : mantissa;
    int q = exponent ? exponent - bias : 1 - bias;

    if (exponent && q <= 0 && -q <= bits && (c & ((1ULL << -q) - 1)) == 0) {
        return (struct shortest){c >> -q, 0}; /* a small whole number */
    }
    bool closer = mantissa == 0 && exponent > 1; /* the neighbour below is at half the distance */
    bool odd = c & 1;                            /* then the bounds themselves round elsewhere */
    int k = floor_log10_pow2(q, closer);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t lower = round_to_odd(-k, (4 * c - 2 + closer) << h, format);
    uint64_t value = round_to_odd(-k, (4 * c) << h, format);
    uint64_t upper = round_to_odd(-k, (4 * c + 2) << h, format);
    return choose(lower + odd, value, upper - odd, k);
}

/* --- text -------------------- */

static const char two_digits[] =
    "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
    "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

INLINE int digit_count(uint64_t value)
{
    int guess = ((64 - __builtin_clzll(value | 1)) * 1233) >> 12; /* bits * log10(2) */

    return guess + ((value | 1) >= md_small_powers[guess]);
}

/* Writes the digits so that they end at `end`. */
INLINE void digits_before(char *end, uint64_t value)
{
    while (value >= 100) {
        end -= 2;
        memcpy(end, two_digits + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        memcpy(end - 2, two_digits + 2 * value, 2);
    } else {
        end[-1] = (char)('0' + value);
    }
}

size_t md_number_print_u64(uint64_t value, char *out)
{
    int len = digit_count(value);

    digits_before(out + len, value);
    return (size_t)len;
}

size_t md_number_print_i64(int64_t value, char *out)
{
    if (value >= 0) {
        return md_number_print_u64((uint64_t)value, out);
    }
    *out = '-';
    return 1 + md_number_print_u64(0 - (uint64_t)value, out + 1);
}

/* digits * 10^exponent, the digits at their final place at once */
static char *put_decimal(struct shortest d, char *out)
{
    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    int len = digit_count(d.digits);
    int point = len + d.exponent; /* digits before the decimal point */
    if (point > 0 && point < len) {
        digits_before(out + 1 + len, d.digits);
        for (int i = 0; i < point; i++) {
            out[i] = out[i + 1];
        }
        out[point] = '.';
        return out + len + 1;
    }
    if (point > -6 && point <= 0) {
        memcpy(out, "0.000000", 8);
        digits_before(out + 2 - point + len, d.digits);
        return out + 2 - point + len;
    }
    if (point > 0 && point <= 21) {
        digits_before(out + len, d.digits);
        memset(out + len, '0', (size_t)d.exponent);
        memcpy(out + point, ".0", 2);
        return out + point + 2;
    }
    digits_before(out + 1 + len, d.digits);
    out[0] = out[1];
    out[1] = '.';
    out += len > 1 ? len + 1 : 1;
    *out++ = 'e';
    return out + md_number_print_i64(point - 1, out);
}

/* Two numbers of four digits as the bytes of one, the first digit in the lowest. */
INLINE uint64_t eight_digits(uint32_t front, uint32_t back)
{
    uint64_t fours = front | (uint64_t)back << 32;
    uint64_t hundreds = ((fours * 10486) >> 20) & 0x0000007f0000007fULL;
    uint64_t twos = hundreds | (fours - 100 * hundreds) << 16;
    uint64_t tens = ((twos * 103) >> 10) & 0x000f000f000f000fULL;

    return tens | (twos - 10 * tens) << 8;
}

/* digits * 10^exponent, at most nine digits that are not 0. Without branches where there is no
 * exponent: both sides of the point are written, over what was too much of the other. */
INLINE char *put_short(struct shortest d, char *out)
{
    static const uint64_t zeros = 0x3030303030303030ULL;
    uint32_t nine = (uint32_t)d.digits;
    int point = d.exponent + 9;

    while (MD_UNLIKELY(nine < 1000000)) {
        nine *= 1000;
        point -= 3;
    }
    int missing = (nine < 100000000) + (nine < 10000000);
    nine *= (uint32_t)md_small_powers[missing];
    point -= missing;
    if (MD_UNLIKELY(point < -5 || point > 8)) {
        return put_decimal(d, out);
    }
    uint32_t five = nine / 10000, first = five / 10000;
    uint64_t rest = eight_digits(five - 10000 * first, nine - 10000 * five);
    int count = rest ? 2 + (63 - __builtin_clzll(rest)) / 8 : 1; /* without zeros at the end */
    int above = -(point > 0); /* a mask, for which one it is depends on the digits */
    int whole = point & above, lead = (2 - point) & ~above;
    int behind = count - whole;
    rest |= zeros;
    memcpy(out, &zeros, sizeof zeros);
    char *dot = out + whole - ~above;
    out[lead] = (char)('0' + first);
    out += lead + 1;
    memcpy(out, &rest, sizeof rest);
    *dot = '.';
    rest >>= (8 * point - 8) & above;
    memcpy(out + whole, &rest, sizeof rest);
    return out + whole + (behind > 1 ? behind : 1) + ~above;
}

/* `bits` without the sign */
INLINE size_t print_binary(uint64_t bits, bool negative, const struct md_binary_format *format,
                           char *out)
{
    uint64_t mantissa = bits & ((1ULL << format->mantissa_bits) - 1);
    int exponent = (int)(bits >> format->mantissa_bits);
    char *at = out;

    *at = '-';
    at += negative;
    if (MD_UNLIKELY(exponent == format->infinite)) {
        if (mantissa) {
            memcpy(out, "NaN", 3);
            return 3;
        }
        memcpy(at, "Infinity", 8);
        return (size_t)(at + 8 - out);
    }
    if (bits == 0) {
        memcpy(at, "0.0", 3);
        return (size_t)(at + 3 - out);
    }
    struct shortest d = shorten(mantissa, exponent, format);
    return (size_t)((format->mantissa_bits > 23 ? put_decimal(d, at) : put_short(d, at)) - out);
}

size_t md_number_print_f64(double value, char *out)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return print_binary(bits & INT64_MAX, bits >> 63, &md_format_f64, out);
}

size_t md_number_print_f32(float value, char *out)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return print_binary(bits & INT32_MAX, bits >> 31, &md_format_f32, out);
}

size_t md_number_print_fp16(uint16_t bits, char *out)
{
    return print_binary(bits & INT16_MAX, bits >> 15, &md_format_fp16, out);
}

size_t md_number_print_bf16(uint16_t bits, char *out)
{
    return print_binary(bits & INT16_MAX, bits >> 15, &md_format_bf16, out);
}
