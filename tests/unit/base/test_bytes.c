/*
 * base/bytes: appending, limits, failed growth.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/bytes.h"
#include "base/fault.h"

static void test_bytes_appends(void **state)
{
    struct md_bytes bytes = {0};

    (void)state;
    md_bytes_append_c(&bytes, "a");
    md_bytes_append_char(&bytes, ' ');
    md_bytes_append_str(&bytes, MD_STR("bc"));
    md_bytes_append_str(&bytes, (struct md_str){0});
    md_bytes_printf(&bytes, " %d%s", 12, "x");
    assert_true(md_str_eq_c(md_bytes_view(&bytes), "a bc 12x"));
    md_bytes_clear(&bytes);
    assert_int_equal(bytes.len, 0);
    assert_non_null(bytes.data);
    md_bytes_deinit(&bytes);
    assert_null(bytes.data);
}

static void test_bytes_numbers(void **state)
{
    static const struct {
        int64_t value;
        const char *text;
    } rows[] = {{0, "0"},
                {7, "7"},
                {-1, "-1"},
                {INT64_MAX, "9223372036854775807"},
                {INT64_MIN, "-9223372036854775808"}};
    struct md_bytes bytes = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        md_bytes_clear(&bytes);
        md_bytes_append_i64(&bytes, rows[i].value);
        assert_true(md_str_eq_c(md_bytes_view(&bytes), rows[i].text));
    }
    md_bytes_clear(&bytes);
    md_bytes_append_u64(&bytes, UINT64_MAX);
    assert_true(md_str_eq_c(md_bytes_view(&bytes), "18446744073709551615"));
    md_bytes_deinit(&bytes);
}

static void test_bytes_grow_keeps_content(void **state)
{
    struct md_bytes bytes = {0};

    (void)state;
    for (int i = 0; i < 100000; i++) {
        md_bytes_append_char(&bytes, (char)('a' + i % 26));
    }
    assert_false(bytes.failed);
    assert_int_equal(bytes.len, 100000);
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(bytes.data[i], 'a' + i % 26);
    }
    md_bytes_deinit(&bytes);
}

static void test_bytes_limit(void **state)
{
    struct md_bytes bytes = {.max = 300};
    char text[300] = {0};

    (void)state;
    md_bytes_append(&bytes, text, 300);
    assert_false(bytes.failed);
    md_bytes_append_char(&bytes, 'x');
    assert_true(bytes.failed);
    assert_int_equal(bytes.len, 300);
    md_bytes_append(&bytes, text, 0);
    assert_true(bytes.failed);
    md_bytes_clear(&bytes);
    assert_true(md_bytes_reserve(&bytes, 300));
    assert_false(md_bytes_reserve(&bytes, SIZE_MAX));
    assert_false(md_bytes_reserve(&bytes, 0));
    md_bytes_deinit(&bytes);
}

static void test_bytes_failed_growth_is_remembered(void **state)
{
    struct md_bytes bytes = {0};

    (void)state;
    md_bytes_append_c(&bytes, "kept");
    md_fault_arm(MD_FAULT_ALLOC, 0);
    md_bytes_printf(&bytes, "%1000d", 1);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    md_bytes_append_c(&bytes, "not appended");
    assert_true(bytes.failed);
    assert_true(md_str_eq_c(md_bytes_view(&bytes), "kept"));
    md_bytes_deinit(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_appends),
        cmocka_unit_test(test_bytes_numbers),
        cmocka_unit_test(test_bytes_grow_keeps_content),
        cmocka_unit_test(test_bytes_limit),
        cmocka_unit_test(test_bytes_failed_growth_is_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
