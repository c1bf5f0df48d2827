/*
 * Reading and printing numbers.
 *
 * References: D. Lemire, "Number parsing at a gigabyte per second" (2021), for reading; R. Giulietti, "The Schubfach way
 * to render doubles" (2020), for printing. Both need the same table of powers of ten.
 */
#include "codec/number.h"

#include "base/alloc.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

struct power {
    uint64_t high, low;
};

enum { POWER_LOW = -342, POWER_HIGH = 324 };

static const struct power powers[] = {
#include "codec/powers.inc"
};
_Static_assert(sizeof powers / sizeof powers[0] == POWER_HIGH - POWER_LOW + 1, "one row for each power");

/* --- decimal scan --------------------------------------------------------------------------------------------------- */

struct decimal {
    uint64_t digits; /* the first 19 significant ones */
    int64_t exponent;
    bool negative;
    bool truncated; /* there were more */
};

static bool is_digit(char c)
{
    return (unsigned char)(c - '0') < 10;
}

/* Eight digits at once. */
static bool eight_digits(const char *at, uint64_t *value)
{
    uint64_t chunk;

    memcpy(&chunk, at, sizeof chunk);
    if (((chunk & 0xf0f0f0f0f0f0f0f0ULL) | ((chunk + 0x0606060606060606ULL) & 0xf0f0f0f0f0f0f0f0ULL) >> 4) !=
        0x3333333333333333ULL) {
        return false;
    }
    chunk -= 0x3030303030303030ULL;
    chunk = chunk * 10 + (chunk >> 8);
    *value = (((chunk & 0x000000ff000000ffULL) * 0x000f424000000064ULL) +
              (((chunk >> 16) & 0x000000ff000000ffULL) * 0x0000271000000001ULL)) >>
             32;
    return true;
}

/* Appends a run of digits to d; *count grows by the significant ones. */
static const char *take_digits(const char *at, const char *end, struct decimal *d, int *count)
{
    uint64_t eight;

    while (*count <= 11 && end - at >= 8 && eight_digits(at, &eight)) {
        d->digits = d->digits * 100000000 + eight;
        *count = d->digits ? *count + 8 : 0;
        at += 8;
    }
    while (at < end && is_digit(*at) && *count < 19) {
        d->digits = d->digits * 10 + (uint64_t)(*at++ - '0');
        *count += d->digits != 0;
    }
    return at;
}

static const char *skip_digits(const char *at, const char *end)
{
    while (at < end && is_digit(*at)) {
        at++;
    }
    return at;
}

static const char *take_exponent(const char *at, const char *end, int64_t *exponent)
{
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
        value = value < 100000 ? value * 10 + (*at - '0') : value;
    }
    *exponent += negative ? -value : value;
    return at;
}

/* JSON's number grammar; at is behind the sign. */
static const char *scan_decimal(const char *at, const char *end, struct decimal *d)
{
    const char *whole = at;
    int count = 0;

    at = take_digits(at, end, d, &count);
    const char *rest = skip_digits(at, end);
    if (rest == whole || (*whole == '0' && rest - whole > 1)) {
        return NULL;
    }
    d->exponent = rest - at; /* digits that did not fit */
    d->truncated = rest > at;
    at = rest;
    if (at < end && *at == '.') {
        const char *fraction = ++at;
        at = d->truncated ? at : take_digits(at, end, d, &count);
        d->exponent -= at - fraction;
        rest = skip_digits(at, end);
        if (rest == fraction) {
            return NULL;
        }
        d->truncated |= rest > at;
        at = rest;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        return take_exponent(at, end, &d->exponent);
    }
    return at;
}

/* --- Eisel-Lemire ------------------------------------------------------------------------------------------------------ */

struct binary_format {
    int mantissa_bits;   /* stored */
    int minimum_exponent;
    int infinite_power;
    int even_low, even_high; /* powers of ten between which a product can lie exactly halfway */
    int power_low, power_high; /* below: zero; above: infinite */
};

static const struct binary_format format_f64 = {52, -1023, 0x7ff, -4, 23, -342, 308};
static const struct binary_format format_f32 = {23, -127, 0xff, -17, 10, -65, 38};

struct product {
    uint64_t high, low;
};

__extension__ typedef unsigned __int128 wide;

static struct product multiply(uint64_t a, uint64_t b)
{
    wide p = (wide)a * b;

    return (struct product){(uint64_t)(p >> 64), (uint64_t)p};
}

static struct product approximate(int64_t q, uint64_t w, int precision)
{
    const struct power *power = &powers[q - POWER_LOW];
    uint64_t mask = UINT64_MAX >> precision;
    struct product first = multiply(w, power->high);

    if ((first.high & mask) == mask) {
        struct product second = multiply(w, power->low);
        first.low += second.high;
        first.high += second.high > first.low;
    }
    return first;
}

/* Bits (without sign) of the nearest value to w * 10^q. */
static uint64_t to_binary(uint64_t w, int64_t q, const struct binary_format *format)
{
    const int bits = format->mantissa_bits;
    const uint64_t infinite = (uint64_t)format->infinite_power << bits;

    if (w == 0 || q < format->power_low) {
        return 0;
    }
    if (q > format->power_high) {
        return infinite;
    }
    int zeros = __builtin_clzll(w);
    struct product p = approximate(q, w << zeros, bits + 3);
    int upper = (int)(p.high >> 63);
    int shift = upper + 64 - bits - 3;
    uint64_t mantissa = p.high >> shift;
    int64_t power2 = ((217706 * q) >> 16) + 63 + upper - zeros - format->minimum_exponent;
    if (power2 <= 0) {
        if (-power2 + 1 >= 64) {
            return 0;
        }
        mantissa >>= -power2 + 1;
        mantissa = (mantissa + (mantissa & 1)) >> 1;
        return mantissa; /* a carry into the exponent's place is the smallest normal number */
    }
    if (p.low <= 1 && q >= format->even_low && q <= format->even_high && (mantissa & 3) == 1 &&
        mantissa << shift == p.high) {
        mantissa &= ~1ULL; /* exactly halfway: to even */
    }
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    if (mantissa >= 2ULL << bits) {
        mantissa = 1ULL << bits;
        power2++;
    }
    if (power2 >= format->infinite_power) {
        return infinite;
    }
    return (uint64_t)power2 << bits | (mantissa & ~(1ULL << bits));
}

/* --- the rare rest: the C library, in its own locale ---------------------------------------------------------------------- */

static double library_read(const char *at, const char *end, bool single)
{
    static _Thread_local locale_t c_locale;
    char small[128];
    size_t len = (size_t)(end - at);
    char *text = len < sizeof small ? small : md_alloc(len + 1);
    double value = NAN;

    if (!c_locale) {
        c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    }
    if (text && c_locale) {
        memcpy(text, at, len);
        text[len] = '\0';
        value = single ? (double)strtof_l(text, NULL, c_locale) : strtod_l(text, NULL, c_locale);
    }
    if (text != small) {
        md_free(text);
    }
    return value;
}

static const char *read_special(const char *at, const char *end, double *out)
{
    static const struct {
        const char *word;
        size_t len;
        double value;
    } words[] = {{"NaN", 3, (double)NAN}, {"Infinity", 8, (double)INFINITY}, {"Inf", 3, (double)INFINITY}};

    for (size_t i = 0; i < MD_COUNT_OF(words); i++) {
        if ((size_t)(end - at) >= words[i].len && memcmp(at, words[i].word, words[i].len) == 0) {
            *out = words[i].value;
            return at + words[i].len;
        }
    }
    return NULL;
}

const char *md_number_read_f64(const char *at, const char *end, double *out)
{
    struct decimal d = {0};
    const char *begin = at;
    double special;

    if (at < end && *at == '-') {
        d.negative = true;
        at++;
    }
    const char *next = scan_decimal(at, end, &d);
    if (!next) {
        next = read_special(at, end, &special);
        *out = d.negative ? -special : special;
        return next;
    }
    uint64_t bits = to_binary(d.digits, d.exponent, &format_f64);
    if (d.truncated && bits != to_binary(d.digits + 1, d.exponent, &format_f64)) {
        *out = library_read(begin, next, false);
        return next;
    }
    bits |= (uint64_t)d.negative << 63;
    memcpy(out, &bits, sizeof bits);
    return next;
}

const char *md_number_read_f32(const char *at, const char *end, float *out)
{
    struct decimal d = {0};
    const char *begin = at;
    double special;

    if (at < end && *at == '-') {
        d.negative = true;
        at++;
    }
    const char *next = scan_decimal(at, end, &d);
    if (MD_UNLIKELY(!next)) {
        next = read_special(at, end, &special);
        *out = (float)(d.negative ? -special : special);
        return next;
    }
    uint32_t bits = (uint32_t)to_binary(d.digits, d.exponent, &format_f32);
    if (MD_UNLIKELY(d.truncated) && bits != to_binary(d.digits + 1, d.exponent, &format_f32)) {
        *out = (float)library_read(begin, next, true);
        return next;
    }
    bits |= (uint32_t)d.negative << 31;
    memcpy(out, &bits, sizeof bits);
    return next;
}

enum md_integer_read md_number_read_integer(const char **at, const char *end, bool *negative, uint64_t *magnitude)
{
    const char *p = *at;
    uint64_t value = 0;
    bool overflow = false;

    *negative = p < end && *p == '-';
    p += *negative;
    const char *first = p;
    for (; p < end && is_digit(*p); p++) {
        overflow |= __builtin_mul_overflow(value, 10U, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
    }
    if (p == first || (*first == '0' && p - first > 1) || (p < end && (*p == '.' || *p == 'e' || *p == 'E'))) {
        return MD_INTEGER_NOT_ONE;
    }
    *at = p;
    *magnitude = value;
    return overflow ? MD_INTEGER_RANGE : MD_INTEGER_OK;
}

bool md_number_parse_f64(struct md_str text, double *out)
{
    return text.len && md_number_read_f64(text.ptr, text.ptr + text.len, out) == text.ptr + text.len;
}

/* --- Schubfach ----------------------------------------------------------------------------------------------------------- */

struct shortest {
    uint64_t digits;
    int exponent;
};

static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

static int floor_log10_pow2(int e, bool three_quarters)
{
    return (e * 1262611 - (three_quarters ? 524031 : 0)) >> 22;
}

/* The table holds truncated powers (k in -27..-1: rounded up); the algorithm wants them rounded up unless exact. */
static uint64_t round_to_odd_64(int k, uint64_t cp)
{
    const struct power *power = &powers[k - POWER_LOW];
    bool ready = k >= -27 && k <= 55;
    uint64_t low = power->low + !ready;
    uint64_t high = power->high + (!ready && low == 0);
    struct product x = multiply(low, cp), y = multiply(high, cp);
    uint64_t middle = y.low + x.high;

    y.high += middle < y.low;
    return y.high | (middle > 1);
}

static uint64_t round_to_odd_32(int k, uint64_t cp)
{
    const struct power *power = &powers[k - POWER_LOW];
    bool exact = k >= 0 && k <= 27;
    struct product p = multiply(power->high + !exact, cp);

    return (p.high & UINT32_MAX) | ((p.low >> 32) > 1);
}

static struct shortest choose(uint64_t vbl, uint64_t vb, uint64_t vbr, bool even, int k)
{
    uint64_t lower = vbl + !even, upper = vbr - !even, s = vb / 4;

    if (s >= 10) {
        uint64_t sp = s / 10;
        bool up_inside = lower <= 40 * sp, wp_inside = 40 * sp + 40 <= upper;
        if (up_inside != wp_inside) {
            return (struct shortest){sp + wp_inside, k + 1};
        }
    }
    bool u_inside = lower <= 4 * s, w_inside = 4 * s + 4 <= upper;
    if (u_inside != w_inside) {
        return (struct shortest){s + w_inside, k};
    }
    uint64_t mid = 4 * s + 2;
    return (struct shortest){s + (vb > mid || (vb == mid && (s & 1))), k};
}

/* mantissa and exponent fields of a finite value that is not zero */
static struct shortest shorten(uint64_t mantissa, int exponent, const struct binary_format *format)
{
    const int bits = format->mantissa_bits, bias = bits - format->minimum_exponent;
    uint64_t c = exponent ? mantissa | 1ULL << bits : mantissa;
    int q = exponent ? exponent - bias : 1 - bias;

    if (exponent && q <= 0 && -q <= bits && (c & ((1ULL << -q) - 1)) == 0) {
        return (struct shortest){c >> -q, 0}; /* a small integer */
    }
    bool closer = mantissa == 0 && exponent > 1;
    int k = floor_log10_pow2(q, closer);
    int h = q + floor_log2_pow10(-k) + 1;
    uint64_t (*round_to_odd)(int, uint64_t) = bits == 52 ? round_to_odd_64 : round_to_odd_32;
    uint64_t vbl = round_to_odd(-k, (4 * c - 2 + closer) << h);
    uint64_t vb = round_to_odd(-k, (4 * c) << h);
    uint64_t vbr = round_to_odd(-k, (4 * c + 2) << h);
    return choose(vbl, vb, vbr, c % 2 == 0, k);
}

/* --- text ------------------------------------------------------------------------------------------------------------------ */

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748"
                                 "495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/* Writes the digits so that they end at `end`; returns where they begin. */
static char *digits_before(char *end, uint64_t value)
{
    while (value >= 100) {
        end -= 2;
        memcpy(end, two_digits + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        end -= 2;
        memcpy(end, two_digits + 2 * value, 2);
    } else {
        *--end = (char)('0' + value);
    }
    return end;
}

size_t md_number_print_u64(uint64_t value, char *out)
{
    char text[20];
    char *begin = digits_before(text + sizeof text, value);
    size_t len = (size_t)(text + sizeof text - begin);

    memcpy(out, begin, len);
    return len;
}

size_t md_number_print_i64(int64_t value, char *out)
{
    if (value >= 0) {
        return md_number_print_u64((uint64_t)value, out);
    }
    *out = '-';
    return 1 + md_number_print_u64(0 - (uint64_t)value, out + 1);
}

static char *put_exponent(char *out, int exponent)
{
    *out++ = 'e';
    if (exponent < 0) {
        *out++ = '-';
        exponent = -exponent;
    }
    return out + md_number_print_u64((uint64_t)exponent, out);
}

static size_t put_decimal(struct shortest d, char *out)
{
    char text[20];
    char *begin = out;

    while (d.digits % 10 == 0) {
        d.digits /= 10;
        d.exponent++;
    }
    char *digits = digits_before(text + sizeof text, d.digits);
    int len = (int)(text + sizeof text - digits);
    int point = len + d.exponent; /* digits before the decimal point */
    if (d.exponent >= 0 && point <= 21) {
        memcpy(out, digits, (size_t)len);
        memset(out + len, '0', (size_t)d.exponent);
        memcpy(out + point, ".0", 2);
        out += point + 2;
    } else if (point > 0 && point <= 21) {
        memcpy(out, digits, (size_t)point);
        out[point] = '.';
        memcpy(out + point + 1, digits + point, (size_t)(len - point));
        out += len + 1;
    } else if (point > -6 && point <= 0) {
        memcpy(out, "0.000000", 8);
        memcpy(out + 2 - point, digits, (size_t)len);
        out += 2 - point + len;
    } else {
        *out++ = digits[0];
        if (len > 1) {
            *out++ = '.';
            memcpy(out, digits + 1, (size_t)(len - 1));
            out += len - 1;
        }
        out = put_exponent(out, point - 1);
    }
    return (size_t)(out - begin);
}

static size_t print_binary(uint64_t bits, bool negative, const struct binary_format *format, char *out)
{
    uint64_t mantissa = bits & ((1ULL << format->mantissa_bits) - 1);
    int exponent = (int)(bits >> format->mantissa_bits);
    size_t sign = 0;

    if (exponent == format->infinite_power && mantissa) {
        memcpy(out, "NaN", 3);
        return 3;
    }
    if (negative) {
        out[sign++] = '-';
    }
    if (exponent == format->infinite_power) {
        memcpy(out + sign, "Infinity", 8);
        return sign + 8;
    }
    if (bits == 0) {
        memcpy(out + sign, "0.0", 3);
        return sign + 3;
    }
    return sign + put_decimal(shorten(mantissa, exponent, format), out + sign);
}

size_t md_number_print_f32(float value, char *out)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return print_binary(bits & 0x7fffffff, bits >> 31, &format_f32, out);
}

size_t md_number_print_f64(double value, char *out)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return print_binary(bits & INT64_MAX, bits >> 63, &format_f64, out);
}

/* --- 16-bit floats ------------------------------------------------------------------------------------------------------------ */

/* Rounds a double to a format of `mantissa_bits` and `exponent_bits`, nearest even. */
static uint16_t narrow(double value, int mantissa_bits, int exponent_bits)
{
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const uint16_t infinite = (uint16_t)(((1 << exponent_bits) - 1) << mantissa_bits);
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    uint16_t sign = (uint16_t)((bits >> 63) << 15);
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    uint64_t mantissa = (bits & ((1ULL << 52) - 1)) | 1ULL << 52;
    if (exponent == 1024) {
        return (uint16_t)(sign | infinite | (mantissa & ((1ULL << 52) - 1) ? 1U << (mantissa_bits - 1) : 0));
    }
    int shift = 52 - mantissa_bits;
    if (exponent < 1 - bias) {
        shift += 1 - bias - exponent; /* subnormal in the narrow format */
        exponent = -bias;
        if (shift > 54) {
            return sign;
        }
    }
    uint64_t kept = mantissa >> shift, rest = mantissa & ((1ULL << shift) - 1), half = 1ULL << (shift - 1);
    kept += rest > half || (rest == half && (kept & 1));
    uint64_t field = exponent == -bias ? kept : kept + ((uint64_t)(exponent + bias - 1) << mantissa_bits);
    return (uint16_t)(sign | (field >= infinite ? infinite : field));
}

uint16_t md_number_to_fp16(double value)
{
    return narrow(value, 10, 5);
}

uint16_t md_number_to_bf16(double value)
{
    return narrow(value, 7, 8);
}

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
    double magnitude;

    if (exponent == 0x1f) {
        magnitude = mantissa ? (double)NAN : (double)INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexp(mantissa, -24);
    } else {
        magnitude = ldexp(mantissa + 1024, exponent - 25);
    }
    return (float)(bits >> 15 ? -magnitude : magnitude);
}
