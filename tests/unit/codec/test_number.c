/*
 * codec/number.h against the C library: reading, printing and both together.
 */
#include "codec/number.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

enum { RANDOM_ROUNDS = 150000 };

static uint64_t random_state = 88172645463325252ULL;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_f32(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static uint64_t bits_of_f64(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Both readers must say what the C library says, and stop at the end. */
static void check_read(const char *text)
{
    const char *end = text + strlen(text);
    float single = 0;
    double number = 0;

    if (md_number_read_f32(text, end, &single) != end ||
        md_number_read_f64(text, end, &number) != end) {
        fail_msg("'%s' was not read whole", text);
    }
    if (bits_of_f32(single) != bits_of_f32(strtof(text, NULL)) ||
        bits_of_f64(number) != bits_of_f64(strtod(text, NULL))) {
        fail_msg("'%s': read %.9g and %.17g, expected %.9g and %.17g", text, (double)single, number,
                 (double)strtof(text, NULL), strtod(text, NULL));
    }
}

static void test_number_reads_as_the_library(void **state)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "1",
        "-1.5",
        "0e99999",
        "123456789",
        "12345678901234567890",
        "1e22",
        "1e23",
        "1e-22",
        "9007199254740993",
        "9007199254740992.99999",
        "9007199254740993.00000000000000000000000000000001",
        "16777217",
        "16777217.0000000001",
        "16777219",
        "0.1",
        "0.3",
        "1E5",
        "1e+5",
        "2.5e-3",
        "3.4028234663852886e38",
        "3.4028235677973366e38",
        "3.4028235677973362e38",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.797693134862315808e308",
        "1e309",
        "1e39",
        "-1e400",
        "5e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.2250738585072014e-308",
        "2.2250738585072011e-308",
        "1.17549435e-38",
        "1.1754943508e-38",
        "1e-45",
        "7.0064923216240853e-46",
        "7.0064923216240854e-46",
        "7.006492321624085354618e-46",
        "7.0064923216240853546186479164495e-46",
        "1e-400",
        "1e-99999999999999999999",
        "1e99999999999999999999",
        "0.000000000000000000000000000000000000000000001",
        "100000000000000000000000000000000000000000",
        "8.5899345920000001e9",
        "0.00012345678901234567",
        "6.8056473384187692692674921486353642291e+38",
        "1090544144181609348835077142190",
        "1.00000005960464477539062500000001",
        "1.00000005960464477539062500000000",
        "7.5",
        "0.5",
        "9.99999999999999999999999",
        "0.00000000000000000000123456789012345678901",
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(texts); i++) {
        check_read(texts[i]);
    }
}

static void test_number_reads_random_decimals(void **state)
{
    char text[80];

    (void)state;
    for (int i = 0; i < RANDOM_ROUNDS; i++) {
        uint64_t r = random_u64();
        int exponent = (int)(random_u64() % (i % 4 ? 90 : 720)) - (i % 4 ? 50 : 360);
        snprintf(text, sizeof text, i % 2 ? "%llu.%llue%d" : "%llu%llue%d",
                 (unsigned long long)(1 + r % 99999), (unsigned long long)(r >> (r % 61)),
                 exponent);
        check_read(text);
        snprintf(text, sizeof text, "0.%0*llu", (int)(r % 23) + 1,
                 (unsigned long long)(r >> (r % 61)));
        check_read(text);
    }
}

/* A decimal exactly between two neighbours, and a little below and above it. */
static void check_around(double halfway)
{
    char text[1200];

    snprintf(text, sizeof text, "%.1100f", halfway);
    check_read(text);
    text[strlen(text) - 1] = '1';
    check_read(text);
    snprintf(text, sizeof text, "%.25e", halfway);
    check_read(text);
    snprintf(text, sizeof text, "%.17e", halfway);
    check_read(text);
}

static void test_number_reads_halfway_cases(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        uint32_t bits = (uint32_t)random_u64() & 0x7fffffff;
        bits = i % 3 == 0 ? bits & 0x7fffff : bits % 0x7f000000; /* a third of them subnormal */
        double low = (double)float_of(bits), high = (double)float_of(bits + 1);
        check_around(low + (high - low) / 2);
    }
    check_around((double)float_of(1) / 2);
}

static void test_number_reads_very_long_texts(void **state)
{
    enum { ZEROS = 3000 };
    char text[ZEROS + 40];

    (void)state;
    text[0] = '1';
    memset(text + 1, '0', ZEROS);
    strcpy(text + 1 + ZEROS, "e-2995");
    check_read(text);
    strcpy(text + 1 + ZEROS, ".5e-3000"); /* 1 and a bit: the digits beyond those kept matter */
    check_read(text);
    memcpy(text, "0.", 2);
    memset(text + 2, '0', ZEROS);
    strcpy(text + 2 + ZEROS, "16777217e3008");
    check_read(text);
    memset(text + 2, '9', ZEROS);
    text[2 + ZEROS] = '\0';
    check_read(text);
    /* exactly halfway, then a 1 behind 3000 zeros */
    memset(text, '0', sizeof text);
    memcpy(text, "9007199254740993.", 17);
    strcpy(text + 17 + ZEROS, "1");
    check_read(text);
    memset(text, '0', sizeof text);
    memcpy(text, "16777217.", 9);
    strcpy(text + 17 + ZEROS, "1");
    check_read(text);
}

static void test_number_refuses_what_is_no_number(void **state)
{
    static const struct {
        const char *text;
        int taken; /* -1: not a number */
    } cases[] = {
        {"", -1},          {"-", -1},         {"+1", -1},           {".5", -1},
        {"1.", -1},        {"1.e5", -1},      {"01", -1},           {"-00", -1},
        {"1e", -1},        {"1e+", -1},       {"e5", -1},           {"nan", -1},
        {"Na", -1},        {"x", -1},         {"1.5e-", -1},        {"Infinit", 3},
        {"NaN", 3},        {"-NaN", 4},       {"Inf", 3},           {"-Inf", 4},
        {"Infinity", 8},   {"-Infinity,", 9}, {"1,2", 1},           {"1.5]", 3},
        {"1e5 ", 3},       {"0x10", 1},       {"12345678.5.5", 10}, {"00000000", -1},
        {"012345678", -1},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        const char *text = cases[i].text, *end = text + strlen(text);
        const char *expected = cases[i].taken < 0 ? NULL : text + cases[i].taken;
        double number;
        float single;
        uint16_t half;
        if (md_number_read_f64(text, end, &number) != expected ||
            md_number_read_f32(text, end, &single) != expected ||
            md_number_read_fp16(text, end, &half) != expected ||
            md_number_read_bf16(text, end, &half) != expected) {
            fail_msg("'%s'", text);
        }
        assert_int_equal(md_number_parse_f64(md_str_of(text), &number),
                         expected == end && expected != text);
    }
}

static void test_number_reads_special_words(void **state)
{
    double number;
    float single;
    uint16_t half;

    (void)state;
    assert_true(md_number_parse_f64(MD_STR("NaN"), &number) && isnan(number));
    assert_true(md_number_parse_f64(MD_STR("-Infinity"), &number) && number < 0 && isinf(number));
    const char *inf = "Inf";
    assert_non_null(md_number_read_f32(inf, inf + 3, &single));
    assert_true(isinf(single) && single > 0);
    assert_non_null(md_number_read_fp16(inf, inf + 3, &half));
    assert_int_equal(half, 0x7c00);
    const char *nan = "NaN";
    assert_non_null(md_number_read_bf16(nan, nan + 3, &half));
    assert_int_equal(half, 0x7fc0);
}

/* --- 16 bits -------------------- */

static float half_value(bool bf16, uint16_t bits)
{
    return bf16 ? md_number_from_bf16(bits) : md_number_from_fp16(bits);
}

static void check_half(bool bf16, const char *text, uint16_t expected)
{
    uint16_t bits = 0;
    const char *end = text + strlen(text);
    const char *next =
        bf16 ? md_number_read_bf16(text, end, &bits) : md_number_read_fp16(text, end, &bits);

    if (next != end || bits != expected) {
        fail_msg("'%.60s' as %s: read %04x, expected %04x", text, bf16 ? "BF16" : "FP16", bits,
                 expected);
    }
}

static void test_number_prints_every_half_so_that_it_reads_back(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x20000; i++) {
        bool bf16 = i >> 16;
        uint16_t bits = (uint16_t)i;
        char text[MD_NUMBER_TEXT_MAX + 1];
        if (isnan(half_value(bf16, bits))) {
            continue;
        }
        size_t len = bf16 ? md_number_print_bf16(bits, text) : md_number_print_fp16(bits, text);
        text[len] = '\0';
        check_half(bf16, text, bits);
        /* the exact decimal reads as it, too */
        if (i % 16 == 0 && !isinf(half_value(bf16, bits))) {
            char exact[300];
            snprintf(exact, sizeof exact, "%.140f", (double)half_value(bf16, bits));
            check_half(bf16, exact, bits);
        }
    }
}

/* Halfway between each two neighbours goes to the even one; a hair beside it goes to its side. */
static void test_number_reads_half_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 0x20000; i += 7) {
        bool bf16 = i >> 16;
        uint16_t bits = (uint16_t)i & 0x7fff;
        char text[400];
        float high = half_value(bf16, (uint16_t)(bits + 1));
        if (!isfinite(high) || bits == 0x7fff) {
            continue;
        }
        double halfway = ((double)half_value(bf16, bits) + (double)high) / 2;
        uint16_t even = (uint16_t)(bits + (bits & 1));
        snprintf(text, sizeof text, "%.150f", halfway);
        check_half(bf16, text, even);
        text[strlen(text) - 1] = '1';
        check_half(bf16, text, (uint16_t)(bits + 1));
        text[strlen(text) - 1] = '0';
        for (char *last = text + strlen(text) - 1; *last == '0' && last[-1] != '.'; last--) {
            *last = '\0'; /* most have less than 19 digits then and never reach the C library */
        }
        check_half(bf16, text, even);
    }
}

static void test_number_reads_halves_at_the_edges(void **state)
{
    (void)state;
    check_half(false, "1.00048828125", 0x3c00); /* tie: even */
    check_half(false, "1.00048828125000000000001",
               0x3c01); /* rounding to a double first would lose this */
    check_half(false, "1.000488281249999999999999999", 0x3c00);
    check_half(false, "-1.00146484375", 0xbc02);
    check_half(false, "65504", 0x7bff);
    check_half(false, "65519.99999", 0x7bff);
    check_half(false, "65520", 0x7c00);
    check_half(false, "99999", 0x7c00);
    check_half(false, "1e5", 0x7c00);
    check_half(false, "2.98023223876953125e-8", 0x0000); /* half of the smallest: to zero */
    check_half(false, "2.980232238769531250000000001e-8", 0x0001);
    check_half(false, "2.98023223876953126e-8", 0x0001);
    check_half(false, "8.94069671630859375e-8", 0x0002);
    check_half(false, "6.103515625e-5", 0x0400);
    check_half(false, "1e-30", 0x0000);
    check_half(true, "1.00390625", 0x3f80);
    check_half(true, "1.0039062500000000000000001", 0x3f81);
    check_half(true, "3.3895313892515355e38", 0x7f7f);
    check_half(true, "3.4e38", 0x7f80);
    check_half(true, "9.183549615799121e-41", 0x0001);
    check_half(true, "1e-70", 0x0000);
}

static void test_number_prints_halves_short(void **state)
{
    char text[MD_NUMBER_TEXT_MAX];

    (void)state;
    assert_int_equal(md_number_print_fp16(0x2e66, text), 3);
    assert_memory_equal(text, "0.1", 3);
    assert_int_equal(md_number_print_fp16(0x7bff, text), 7);
    assert_memory_equal(text, "65500.0", 7);
    assert_int_equal(md_number_print_bf16(0xbdcd, text), 4);
    assert_memory_equal(text, "-0.1", 4);
    assert_int_equal(md_number_print_fp16(0xfc00, text), 9);
    assert_memory_equal(text, "-Infinity", 9);
    assert_int_equal(md_number_print_fp16(0xfe00, text), 3);
    assert_memory_equal(text, "NaN", 3);
}

static void test_number_half_values_are_exact(void **state)
{
    (void)state;
    assert_true(md_number_from_fp16(0x3c00) == 1.0F && md_number_from_fp16(0xc000) == -2.0F);
    assert_true(md_number_from_fp16(0x0001) == 0x1p-24F &&
                md_number_from_fp16(0x03ff) == 0x1.ff8p-15F);
    assert_true(isnan(md_number_from_fp16(0x7e00)) && md_number_from_fp16(0xfc00) == -INFINITY);
    assert_true(md_number_from_bf16(0x3f80) == 1.0F && md_number_from_bf16(0x8001) == -0x1p-133F);
}

/* --- printing -------------------- */

static int significant_digits(const char *text)
{
    int count = 0, trailing = 0;

    for (; *text && *text != 'e'; text++) {
        if (*text >= '0' && *text <= '9' && (count || *text != '0')) {
            count++;
            trailing = *text == '0' ? trailing + 1 : 0;
        }
    }
    return count - trailing;
}

static void check_print_f64(double value)
{
    char text[MD_NUMBER_TEXT_MAX + 1], shorter[40];
    double back;
    size_t len = md_number_print_f64(value, text);

    assert_true(len <= MD_NUMBER_TEXT_MAX);
    text[len] = '\0';
    if (bits_of_f64(strtod(text, NULL)) != bits_of_f64(value) ||
        md_number_read_f64(text, text + len, &back) != text + len ||
        bits_of_f64(back) != bits_of_f64(value)) {
        fail_msg("%.17g printed as %s", value, text);
    }
    int digits = significant_digits(text);
    snprintf(shorter, sizeof shorter, "%.*e", digits > 1 ? digits - 2 : 0, value);
    if (digits > 1 && strtod(shorter, NULL) == value) {
        fail_msg("%s is not the shortest form: %s", text, shorter);
    }
}

static void check_print_f32(float value)
{
    char text[MD_NUMBER_TEXT_MAX + 1], shorter[40];
    float back;
    size_t len = md_number_print_f32(value, text);

    assert_true(len <= MD_NUMBER_TEXT_MAX);
    text[len] = '\0';
    if (bits_of_f32(strtof(text, NULL)) != bits_of_f32(value) ||
        md_number_read_f32(text, text + len, &back) != text + len ||
        bits_of_f32(back) != bits_of_f32(value)) {
        fail_msg("%.9g printed as %s", (double)value, text);
    }
    int digits = significant_digits(text);
    snprintf(shorter, sizeof shorter, "%.*e", digits > 1 ? digits - 2 : 0, (double)value);
    if (digits > 1 && strtof(shorter, NULL) == value) {
        fail_msg("%s is not the shortest form: %s", text, shorter);
    }
}

static void test_number_prints_random_bits_so_that_they_read_back(void **state)
{
    (void)state;
    for (int i = 0; i < RANDOM_ROUNDS; i++) {
        uint64_t r = random_u64();
        if (isfinite(double_of(r))) {
            check_print_f64(double_of(r));
        }
        if (isfinite(float_of((uint32_t)r))) {
            check_print_f32(float_of((uint32_t)r));
        }
        check_print_f32((float)((double)(int64_t)r / 0x1p62));
        check_print_f64((double)(r >> (r % 64)));
    }
}

static void test_number_prints_powers_and_their_neighbours(void **state)
{
    (void)state;
    for (uint64_t exponent = 0; exponent < 0x7ff; exponent++) {
        for (uint64_t mantissa = 0; mantissa < 3; mantissa++) {
            check_print_f64(
                double_of((exponent << 52) + mantissa - (exponent && mantissa == 2 ? 3 : 0)));
        }
    }
    for (uint32_t exponent = 0; exponent < 0xff; exponent++) {
        for (uint32_t mantissa = 0; mantissa < 3; mantissa++) {
            check_print_f32(
                float_of((exponent << 23) + mantissa - (exponent && mantissa == 2 ? 3 : 0)));
        }
    }
}

/* Up to six digits are always the shortest form: with the point at each place they print as
 * written. */
static void test_number_prints_short_decimals_as_written(void **state)
{
    (void)state;
    for (int i = 0; i < RANDOM_ROUNDS; i++) {
        int point = i % 27 - 5; /* digits before it: -5..21, else there is an exponent */
        char digits[24], text[64], printed[MD_NUMBER_TEXT_MAX + 1];
        int len = snprintf(digits, sizeof digits, "%d",
                           1 + (int)(random_u64() % 1000000) / (int)pow(10, i / 27 % 6));
        while (len > 1 && digits[len - 1] == '0') {
            digits[--len] = '\0';
        }
        if (point <= 0) {
            snprintf(text, sizeof text, "-0.%.*s%s", -point, "00000", digits);
        } else if (point < len) {
            snprintf(text, sizeof text, "-%.*s.%s", point, digits, digits + point);
        } else {
            snprintf(text, sizeof text, "-%s%.*s.0", digits, point - len, "00000000000000000000");
        }
        printed[md_number_print_f32(strtof(text, NULL), printed)] = '\0';
        assert_string_equal(printed, text);
        printed[md_number_print_f64(strtod(text + 1, NULL), printed)] = '\0';
        assert_string_equal(printed, text + 1);
    }
}

static void test_number_print_format(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {1.0, "1.0"},
        {-100.0, "-100.0"},
        {0.1, "0.1"},
        {1234.5, "1234.5"},
        {0.000001, "0.000001"},
        {0.0000012, "0.0000012"},
        {0.0000001, "1e-7"},
        {1.5e-7, "1.5e-7"},
        {1e20, "100000000000000000000.0"},
        {1.25e20, "125000000000000000000.0"},
        {1e21, "1e21"},
        {-1.5e300, "-1.5e300"},
        {9007199254740992.0, "9007199254740992.0"},
        {INFINITY, "Infinity"},
        {-INFINITY, "-Infinity"},
        {(double)NAN, "NaN"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e308"},
        {-2.2250738585072014e-308, "-2.2250738585072014e-308"},
        {123456789012345680.0, "123456789012345680.0"},
    };
    char text[MD_NUMBER_TEXT_MAX + 1];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        text[md_number_print_f64(cases[i].value, text)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
    text[md_number_print_f32(0.1F, text)] = '\0';
    assert_string_equal(text, "0.1");
    text[md_number_print_f32(3.4028235e38F, text)] = '\0';
    assert_string_equal(text, "3.4028235e38");
    text[md_number_print_f32(16777216.0F, text)] = '\0';
    assert_string_equal(text, "16777216.0");
    text[md_number_print_f32(-NAN, text)] = '\0';
    assert_string_equal(text, "NaN");
}

/* --- integers -------------------- */

static void check_integer(uint64_t value)
{
    char text[MD_NUMBER_TEXT_MAX + 1], expected[32];
    bool negative;
    uint64_t magnitude;
    const char *at = text;

    text[md_number_print_u64(value, text)] = '\0';
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)value);
    assert_string_equal(text, expected);
    text[md_number_print_i64((int64_t)value, text)] = '\0';
    snprintf(expected, sizeof expected, "%lld", (long long)value);
    assert_string_equal(text, expected);
    assert_int_equal(md_number_read_integer(&at, text + strlen(text), &negative, &magnitude),
                     MD_INTEGER_OK);
    assert_true(at == text + strlen(text) && negative == ((int64_t)value < 0));
    assert_true((negative ? 0 - magnitude : magnitude) == value);
}

static void test_number_integers_print_and_read(void **state)
{
    (void)state;
    for (int shift = 0; shift < 64; shift++) {
        check_integer((1ULL << shift) - 1);
        check_integer(1ULL << shift);
        check_integer(random_u64() >> shift);
    }
    for (uint64_t power = 1; power <= UINT64_MAX / 10; power *= 10) {
        check_integer(power - 1);
        check_integer(power * 10 - 1);
        check_integer(power * 10);
    }
    check_integer(UINT64_MAX);
    check_integer(0);
}

static void test_number_integer_refusals(void **state)
{
    static const struct {
        const char *text;
        enum md_integer_read outcome;
    } cases[] = {
        {"", MD_INTEGER_NOT_ONE},
        {"-", MD_INTEGER_NOT_ONE},
        {"01", MD_INTEGER_NOT_ONE},
        {"1.0", MD_INTEGER_NOT_ONE},
        {"1e3", MD_INTEGER_NOT_ONE},
        {"1E3", MD_INTEGER_NOT_ONE},
        {"+1", MD_INTEGER_NOT_ONE},
        {"x", MD_INTEGER_NOT_ONE},
        {"18446744073709551615", MD_INTEGER_OK},
        {"18446744073709551616", MD_INTEGER_RANGE},
        {"-184467440737095516150", MD_INTEGER_RANGE},
        {"0,", MD_INTEGER_OK},
        {"-0", MD_INTEGER_OK},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        const char *at = cases[i].text;
        bool negative;
        uint64_t magnitude;
        if (md_number_read_integer(&at, at + strlen(at), &negative, &magnitude) !=
            cases[i].outcome) {
            fail_msg("'%s'", cases[i].text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_reads_as_the_library),
        cmocka_unit_test(test_number_reads_random_decimals),
        cmocka_unit_test(test_number_reads_halfway_cases),
        cmocka_unit_test(test_number_reads_very_long_texts),
        cmocka_unit_test(test_number_refuses_what_is_no_number),
        cmocka_unit_test(test_number_reads_special_words),
        cmocka_unit_test(test_number_prints_every_half_so_that_it_reads_back),
        cmocka_unit_test(test_number_reads_half_ties_to_even),
        cmocka_unit_test(test_number_reads_halves_at_the_edges),
        cmocka_unit_test(test_number_prints_halves_short),
        cmocka_unit_test(test_number_half_values_are_exact),
        cmocka_unit_test(test_number_prints_random_bits_so_that_they_read_back),
        cmocka_unit_test(test_number_prints_powers_and_their_neighbours),
        cmocka_unit_test(test_number_prints_short_decimals_as_written),
        cmocka_unit_test(test_number_print_format),
        cmocka_unit_test(test_number_integers_print_and_read),
        cmocka_unit_test(test_number_integer_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
