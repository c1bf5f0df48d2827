/*
 * infer/tensor: shapes and BYTES data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/tensor.h"

static void test_tensor_counts_elements(void **state)
{
    static const struct {
        int64_t shape[3];
        uint32_t rank;
        bool ok;
        size_t elements;
    } cases[] = {
        {{0}, 0, true, 1},
        {{7}, 1, true, 7},
        {{2, 3, 4}, 3, true, 24},
        {{2, 0, 4}, 3, true, 0},
        {{-1}, 1, false, 0},
        {{2, -1, 3}, 3, false, 0},
        {{INT64_MAX, 2}, 2, true, (size_t)INT64_MAX * 2},
        {{INT64_MAX, 3}, 2, false, 0},
        {{INT64_MAX, INT64_MAX, 0}, 3, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        size_t elements = 0;
        bool ok = md_shape_elements(cases[i].shape, cases[i].rank, &elements);
        assert_int_equal(ok, cases[i].ok);
        assert_true(!ok || elements == cases[i].elements);
    }
}

static void test_tensor_prints_and_compares_shapes(void **state)
{
    static const int64_t spec[] = {-1, 4}, right[] = {9, 4}, wrong[] = {9, 5};
    struct md_bytes text = {0};

    (void)state;
    assert_true(md_shape_matches(spec, 2, right, 2));
    assert_false(md_shape_matches(spec, 2, wrong, 2));
    assert_false(md_shape_matches(spec, 2, right, 1));
    assert_true(md_shape_matches(NULL, 0, NULL, 0));
    md_shape_print(spec, 2, &text);
    md_shape_print(spec, 0, &text);
    assert_true(md_str_eq_c(md_bytes_view(&text), "[-1,4][]"));
    md_bytes_deinit(&text);
}

#define DATA(text) (text), sizeof(text) - 1

static void test_tensor_checks_length_prefixes(void **state)
{
    static const struct {
        const char *data;
        size_t bytes, elements;
        bool ok;
    } cases[] = {
        {NULL, 0, 0, true},
        {NULL, 0, 1, false},
        {DATA("\0\0\0\0"), 1, true},
        {DATA("\0\0\0\0"), 0, false},
        {DATA("\2\0\0\0ab\1\0\0\0c"), 2, true},
        {DATA("\2\0\0\0ab\1\0\0\0c"), 1, false},
        {DATA("\2\0\0\0ab\1\0\0\0c"), 3, false},
        {DATA("\2\0\0\0a"), 1, false},
        {DATA("\2\0\0"), 1, false},
        {DATA("\377\377\377\377a"), 1, false},
        {DATA("\1\0\0\0a"), SIZE_MAX, false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        assert_int_equal(md_bytes_tensor_check(cases[i].data, cases[i].bytes, cases[i].elements),
                         cases[i].ok);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_counts_elements),
        cmocka_unit_test(test_tensor_prints_and_compares_shapes),
        cmocka_unit_test(test_tensor_checks_length_prefixes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
