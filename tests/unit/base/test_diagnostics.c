/*
 * base/diagnostics and base/dtype: places and counts; names both ways.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/diagnostics.h"
#include "base/dtype.h"
#include "base/fault.h"

static void test_diagnostics_print(void **state)
{
    static const struct {
        struct md_diagnostic diagnostic;
        const char *text;
    } rows[] = {
        {{MD_SEVERITY_ERROR, "m/config.pbtxt", 3, 7, "unknown field"},
         "m/config.pbtxt:3:7: error: unknown field"},
        {{MD_SEVERITY_WARNING, "m/config.pbtxt", 3, 0, "x"}, "m/config.pbtxt:3: warning: x"},
        {{MD_SEVERITY_NOTE, "m", 0, 9, "x"}, "m: note: x"},
        {{MD_SEVERITY_ERROR, NULL, 3, 7, "x"}, "error: x"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_bytes out = {0};
        md_diagnostic_print(&rows[i].diagnostic, &out);
        assert_true(md_str_eq_c(md_bytes_view(&out), rows[i].text));
        md_bytes_deinit(&out);
    }
}

static void test_diagnostics_are_bounded_but_counted(void **state)
{
    static struct md_diagnostics diagnostics;
    struct md_arena arena = {0};

    (void)state;
    md_diagnostics_init(&diagnostics, &arena);
    for (unsigned i = 0; i < MD_DIAGNOSTICS_MAX + 10; i++) {
        assert_false(md_diagnose(&diagnostics, i % 2 ? MD_SEVERITY_ERROR : MD_SEVERITY_WARNING, "f",
                                 i, 0, "no %u", i));
    }
    assert_int_equal(diagnostics.count, MD_DIAGNOSTICS_MAX);
    assert_int_equal(diagnostics.error_count, MD_DIAGNOSTICS_MAX / 2 + 5);
    assert_int_equal(diagnostics.warning_count, MD_DIAGNOSTICS_MAX / 2 + 5);
    assert_string_equal(diagnostics.items[3].text, "no 3");
    md_arena_deinit(&arena);
}

/* Whoever complains may be gone when it is read. */
static void test_diagnostics_keep_names_and_texts(void **state)
{
    static struct md_diagnostics diagnostics;
    static const char *const names[] = {"one", "one", "two", NULL, "one"};
    struct md_arena arena = {0};

    (void)state;
    md_diagnostics_init(&diagnostics, &arena);
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        char name[8] = "", text[8] = "text";
        (void)strncpy(name, names[i] ? names[i] : "", sizeof name - 1);
        md_diagnose(&diagnostics, MD_SEVERITY_ERROR, names[i] ? name : NULL, 1, 0, "%s", text);
        memset(name, 'x', sizeof name);
        memset(text, 'x', sizeof text);
    }
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        assert_true(md_str_eq(md_str_of(diagnostics.items[i].file), md_str_of(names[i])));
        assert_string_equal(diagnostics.items[i].text, "text");
    }
    md_arena_deinit(&arena);
}

static void test_diagnostics_without_memory_still_say_something(void **state)
{
    static struct md_diagnostics diagnostics;
    struct md_arena arena = {0};

    (void)state;
    md_diagnostics_init(&diagnostics, &arena);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    md_diagnose(&diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "text");
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_string_equal(diagnostics.items[0].text, "out of memory");
    md_arena_deinit(&arena);
}

static void test_dtype_table(void **state)
{
    static const struct {
        enum md_dtype dtype;
        const char *name, *config_name;
        size_t size;
    } rows[] = {
        {MD_DTYPE_BOOL, "BOOL", "TYPE_BOOL", 1},    {MD_DTYPE_UINT8, "UINT8", "TYPE_UINT8", 1},
        {MD_DTYPE_INT64, "INT64", "TYPE_INT64", 8}, {MD_DTYPE_FP16, "FP16", "TYPE_FP16", 2},
        {MD_DTYPE_BF16, "BF16", "TYPE_BF16", 2},    {MD_DTYPE_FP32, "FP32", "TYPE_FP32", 4},
        {MD_DTYPE_FP64, "FP64", "TYPE_FP64", 8},    {MD_DTYPE_BYTES, "BYTES", "TYPE_STRING", 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_int_equal(md_dtype_size(rows[i].dtype), rows[i].size);
        assert_string_equal(md_dtype_name(rows[i].dtype), rows[i].name);
        assert_string_equal(md_dtype_config_name(rows[i].dtype), rows[i].config_name);
    }
    for (int dtype = 1; dtype < MD_DTYPE_COUNT; dtype++) {
        assert_int_equal(md_dtype_from_name(md_str_of(md_dtype_name((enum md_dtype)dtype))), dtype);
    }
    assert_int_equal(md_dtype_from_name(MD_STR("fp32")), MD_DTYPE_INVALID);
    assert_int_equal(md_dtype_from_name(MD_STR("INVALID")), MD_DTYPE_INVALID);
    assert_string_equal(md_dtype_name((enum md_dtype)99), "INVALID");
    assert_int_equal(md_dtype_size((enum md_dtype)99), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_diagnostics_print),
        cmocka_unit_test(test_diagnostics_are_bounded_but_counted),
        cmocka_unit_test(test_diagnostics_keep_names_and_texts),
        cmocka_unit_test(test_diagnostics_without_memory_still_say_something),
        cmocka_unit_test(test_dtype_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
