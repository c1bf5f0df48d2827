/*
 * config/labels.h
 */
#include "config/labels.h"

#include "base/bytes.h"
#include "base/fault.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>
#include <cmocka.h>

#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }

static const struct {
    struct md_str text;
    size_t count;
    const char *labels[3];
} files[] = {
    {TEXT(""), 0, {NULL}},
    {TEXT("\xef\xbb\xbf"), 0, {NULL}},
    {TEXT("\n"), 1, {""}},
    {TEXT("cat"), 1, {"cat"}},
    {TEXT("cat\n"), 1, {"cat"}},
    {TEXT("cat\r\ndog\r\n"), 2, {"cat", "dog"}},
    {TEXT("cat\n\ndog"), 3, {"cat", "", "dog"}},
    {TEXT("cat\n\n"), 2, {"cat", ""}},
    {TEXT("\xef\xbb\xbf"
          "cat"),
     1,
     {"cat"}},
    {TEXT(" cat, \tbig \n"), 1, {" cat, \tbig "}},
    {TEXT("a\rb\n"), 1, {"a\rb"}},
    {TEXT("\xc3\xa9t\xc3\xa9"), 1, {"\xc3\xa9t\xc3\xa9"}},
};

static void test_labels_lines(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(files); i++) {
        struct md_arena arena = {0};
        const struct md_str *labels = NULL;
        size_t count = 99;
        struct md_error err;
        assert_true(md_labels_parse(files[i].text, &arena, &labels, &count, &err));
        if (count != files[i].count) {
            fail_msg("case %zu has %zu labels", i, count);
        }
        for (size_t k = 0; k < count; k++) {
            if (!md_str_eq_c(labels[k], files[i].labels[k])) {
                fail_msg("case %zu: label %zu is '%.*s'", i, k, MD_STR_ARG(labels[k]));
            }
        }
        md_arena_deinit(&arena);
    }
}

static const struct {
    struct md_str text;
    const char *error;
} wrong[] = {
    {TEXT("a\n\xff\n"), "line 2 is not UTF-8"},
    {TEXT("a\nb\n\0\n"), "line 3 holds a zero byte"},
    {TEXT("\xe9t\xe9"), "line 1 is not UTF-8"},
};

static void test_labels_that_are_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(wrong); i++) {
        struct md_arena arena = {0};
        const struct md_str *labels;
        size_t count;
        struct md_error err;
        assert_false(md_labels_parse(wrong[i].text, &arena, &labels, &count, &err));
        assert_int_equal(err.reason, MD_REASON_INVALID_ARGUMENT);
        assert_string_equal(err.text, wrong[i].error);
        md_arena_deinit(&arena);
    }
}

/* `count` lines of `length` bytes each. */
static bool parse_many(size_t count, size_t length, struct md_error *err)
{
    struct md_arena arena = {0};
    struct md_bytes text = {0};
    const struct md_str *labels;
    size_t got = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < length; k++) {
            md_bytes_append_char(&text, 'a');
        }
        md_bytes_append_char(&text, '\n');
    }
    bool ok = md_labels_parse(md_bytes_view(&text), &arena, &labels, &got, err);
    assert_true(!ok || got == count);
    md_bytes_deinit(&text);
    md_arena_deinit(&arena);
    return ok;
}

static void test_labels_are_bounded(void **state)
{
    struct md_error err;

    (void)state;
    assert_true(parse_many(2, MD_LABEL_BYTES_MAX, &err));
    assert_false(parse_many(2, MD_LABEL_BYTES_MAX + 1, &err));
    assert_string_equal(err.text, "line 1 is too long");
    assert_true(parse_many(MD_LABELS_MAX, 0, &err));
    assert_false(parse_many(MD_LABELS_MAX + 1, 0, &err));
    assert_string_equal(err.text, "more than 1048576 lines");
}

static void test_labels_out_of_memory(void **state)
{
    struct md_arena arena = {0};
    const struct md_str *labels;
    size_t count;
    struct md_error err;

    (void)state;
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_labels_parse(MD_STR("a\nb"), &arena, &labels, &count, &err));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
    md_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_labels_lines),
        cmocka_unit_test(test_labels_that_are_none),
        cmocka_unit_test(test_labels_are_bounded),
        cmocka_unit_test(test_labels_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
