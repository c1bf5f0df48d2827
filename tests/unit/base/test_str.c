/*
 * base/str: views, numbers, patterns, distances.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"

static void test_str_compares(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal, equal_nocase, starts, ends;
    } rows[] = {
        {"", "", true, true, true, true},         {"a", "", false, false, true, true},
        {"", "a", false, false, false, false},    {"Host", "hoST", false, true, false, false},
        {"abc", "ab", false, false, true, false}, {"abc", "bc", false, false, false, true},
        {"[", "{", false, false, false, false},   {"@", "`", false, false, false, false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_str a = md_str_of(rows[i].a), b = md_str_of(rows[i].b);
        assert_int_equal(md_str_eq(a, b), rows[i].equal);
        assert_int_equal(md_str_eq_nocase(a, b), rows[i].equal_nocase);
        assert_int_equal(md_str_starts_with(a, b), rows[i].starts);
        assert_int_equal(md_str_ends_with(a, b), rows[i].ends);
    }
    assert_true(md_str_eq((struct md_str){0}, MD_STR("")));
    assert_true(md_str_eq_c((struct md_str){0}, ""));
}

static void test_str_finds_and_trims(void **state)
{
    static const struct {
        const char *text, *trimmed;
    } rows[] = {{"", ""}, {" \t ", ""}, {" a b\t", "a b"}, {"a", "a"}, {"\na ", "\na"}};

    (void)state;
    assert_int_equal(md_str_find(MD_STR("a=b=c"), '='), 1);
    assert_int_equal(md_str_find(MD_STR("abc"), '='), -1);
    assert_int_equal(md_str_find((struct md_str){0}, '='), -1);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_true(md_str_eq_c(md_str_trim(md_str_of(rows[i].text)), rows[i].trimmed));
    }
}

static void test_str_splits(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        const char *pieces[4];
    } rows[] = {
        {"a,,b", 3, {"a", "", "b"}}, {"a,", 2, {"a", ""}}, {",", 2, {"", ""}}, {"", 1, {""}},
        {"abc", 1, {"abc"}},
    };
    struct md_str rest = {0}, piece;

    (void)state;
    assert_false(md_str_split(&rest, ',', &piece));
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        rest = md_str_of(rows[i].text);
        for (size_t k = 0; k < rows[i].count; k++) {
            assert_true(md_str_split(&rest, ',', &piece));
            assert_true(md_str_eq_c(piece, rows[i].pieces[k]));
        }
        assert_false(md_str_split(&rest, ',', &piece));
    }
}

static void test_str_reads_numbers(void **state)
{
    static const struct {
        const char *text;
        bool is_u64, is_i64;
        uint64_t u64;
        int64_t i64;
    } rows[] = {
        {"0", true, true, 0, 0},
        {"007", true, true, 7, 7},
        {"18446744073709551615", true, false, UINT64_MAX, 0},
        {"18446744073709551616", false, false, 0, 0},
        {"99999999999999999999999", false, false, 0, 0},
        {"9223372036854775807", true, true, INT64_MAX, INT64_MAX},
        {"9223372036854775808", true, false, (uint64_t)INT64_MAX + 1, 0},
        {"-9223372036854775808", false, true, 0, INT64_MIN},
        {"-9223372036854775809", false, false, 0, 0},
        {"-1", false, true, 0, -1},
        {"-", false, false, 0, 0},
        {"--1", false, false, 0, 0},
        {"+1", false, false, 0, 0},
        {"", false, false, 0, 0},
        {" 1", false, false, 0, 0},
        {"1 ", false, false, 0, 0},
        {"1.0", false, false, 0, 0},
        {"0x10", false, false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        uint64_t u64 = 42;
        int64_t i64 = 42;
        assert_int_equal(md_str_to_u64(md_str_of(rows[i].text), &u64), rows[i].is_u64);
        assert_true(u64 == (rows[i].is_u64 ? rows[i].u64 : 42));
        assert_int_equal(md_str_to_i64(md_str_of(rows[i].text), &i64), rows[i].is_i64);
        assert_true(i64 == (rows[i].is_i64 ? rows[i].i64 : 42));
    }
}

static void test_str_glob(void **state)
{
    static const struct {
        const char *text, *pattern;
        bool matches;
    } rows[] = {
        {"", "", true},
        {"", "*", true},
        {"a", "", false},
        {"a", "?", true},
        {"", "?", false},
        {"resnet", "res*", true},
        {"resnet", "*net", true},
        {"resnet", "*sn*", true},
        {"resnet", "r*t?", false},
        {"resnet", "r?s*t", true},
        {"aaa", "a*a*a*a", false},
        {"abcbc", "a*bc", true},
        {"a*c", "a*c", true},
        {"abc", "abc*", true},
        {"abc", "****", true},
        {"mississippi", "m*iss*ip*", true},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_int_equal(md_str_glob(md_str_of(rows[i].text), md_str_of(rows[i].pattern)),
                         rows[i].matches);
    }
}

/* A pattern that makes a backtracking matcher exponential ends in no time. */
static void test_str_glob_hostile_pattern_is_bounded(void **state)
{
    char text[4096], pattern[200];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = 'a';
    }
    for (size_t i = 0; i < sizeof pattern; i++) {
        pattern[i] = i % 2 ? '*' : 'a';
    }
    pattern[sizeof pattern - 2] = 'b';
    assert_false(md_str_glob(md_str_make(text, sizeof text), md_str_make(pattern, sizeof pattern)));
}

static void test_str_distance(void **state)
{
    static const struct {
        const char *a, *b;
        unsigned limit, distance;
    } rows[] = {
        {"", "", 3, 0},
        {"abc", "abc", 3, 0},
        {"abc", "abd", 3, 1},
        {"abc", "ab", 3, 1},
        {"kitten", "sitting", 5, 3},
        {"kitten", "sitting", 2, 3},
        {"", "abcdef", 3, 4},
        {"http-adress", "http-address", 3, 1},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a", 3, 4},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_str a = md_str_of(rows[i].a), b = md_str_of(rows[i].b);
        assert_int_equal(md_str_distance(a, b, rows[i].limit), rows[i].distance);
        assert_int_equal(md_str_distance(b, a, rows[i].limit), rows[i].distance);
    }
}

static void test_str_hash_differs(void **state)
{
    (void)state;
    assert_true(md_str_hash(MD_STR("model_a")) == md_str_hash(md_str_make("model_abc", 7)));
    assert_true(md_str_hash(MD_STR("model_a")) != md_str_hash(MD_STR("model_b")));
    assert_true(md_str_hash(MD_STR("")) != md_str_hash(MD_STR("a")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_str_compares),
        cmocka_unit_test(test_str_finds_and_trims),
        cmocka_unit_test(test_str_splits),
        cmocka_unit_test(test_str_reads_numbers),
        cmocka_unit_test(test_str_glob),
        cmocka_unit_test(test_str_glob_hostile_pattern_is_bounded),
        cmocka_unit_test(test_str_distance),
        cmocka_unit_test(test_str_hash_differs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
