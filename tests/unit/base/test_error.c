/*
 * base/error: the reason table and how sentences are set, prefixed and cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static void test_error_reason_table(void **state)
{
    static const struct {
        enum md_reason reason;
        enum md_code code;
        enum md_failure failure;
        const char *name;
    } rows[] = {
        {MD_REASON_NONE, MD_CODE_OK, MD_FAILURE_OTHER, "none"},
        {MD_REASON_QUEUE_FULL, MD_CODE_UNAVAILABLE, MD_FAILURE_REJECTED, "queue_full"},
        {MD_REASON_DEADLINE, MD_CODE_DEADLINE_EXCEEDED, MD_FAILURE_REJECTED, "deadline"},
        {MD_REASON_CANCELLED, MD_CODE_CANCELLED, MD_FAILURE_CANCELED, "cancelled"},
        {MD_REASON_BACKEND, MD_CODE_INTERNAL, MD_FAILURE_BACKEND, "backend"},
        {MD_REASON_TOO_LARGE, MD_CODE_RESOURCE_EXHAUSTED, MD_FAILURE_REJECTED, "too_large"},
        {MD_REASON_UNKNOWN_MODEL, MD_CODE_NOT_FOUND, MD_FAILURE_OTHER, "unknown_model"},
        {MD_REASON_INTERNAL, MD_CODE_INTERNAL, MD_FAILURE_OTHER, "internal"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_int_equal(md_reason_code(rows[i].reason), rows[i].code);
        assert_int_equal(md_reason_failure(rows[i].reason), rows[i].failure);
        assert_string_equal(md_reason_name(rows[i].reason), rows[i].name);
    }
    for (int reason = 1; reason < MD_REASON_COUNT; reason++) {
        assert_int_not_equal(md_reason_code((enum md_reason)reason), MD_CODE_OK);
        assert_true(md_reason_failure((enum md_reason)reason) < MD_FAILURE_COUNT);
    }
}

static void test_error_retry_after(void **state)
{
    static const struct {
        enum md_reason reason;
        enum md_code code;
        unsigned seconds;
    } rows[] = {
        {MD_REASON_QUEUE_FULL, MD_CODE_UNAVAILABLE, MD_RETRY_AFTER_S},
        {MD_REASON_EXITING, MD_CODE_UNAVAILABLE, MD_RETRY_AFTER_S},
        {MD_REASON_OUT_OF_MEMORY, MD_CODE_RESOURCE_EXHAUSTED, MD_RETRY_AFTER_S},
        {MD_REASON_BACKEND, MD_CODE_RESOURCE_EXHAUSTED, MD_RETRY_AFTER_S},
        {MD_REASON_BACKEND, MD_CODE_INTERNAL, 0},
        {MD_REASON_TOO_LARGE, MD_CODE_RESOURCE_EXHAUSTED, 0},
        {MD_REASON_NOT_READY, MD_CODE_UNAVAILABLE, 0},
        {MD_REASON_DEADLINE, MD_CODE_DEADLINE_EXCEEDED, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_error err;
        (void)md_error_set_code(&err, rows[i].reason, rows[i].code, "x");
        assert_int_equal(md_error_retry_after_s(&err), rows[i].seconds);
    }
    assert_int_equal(atoi(MD_RETRY_AFTER_TEXT), MD_RETRY_AFTER_S);
}

static void test_error_set_and_clear(void **state)
{
    struct md_error err;

    (void)state;
    assert_false(md_error_set(&err, MD_REASON_QUEUE_FULL, "model '%s' has %d waiting", "m", 7));
    assert_int_equal(err.code, MD_CODE_UNAVAILABLE);
    assert_int_equal(err.reason, MD_REASON_QUEUE_FULL);
    assert_string_equal(err.text, "model 'm' has 7 waiting");
    assert_false(md_error_set_code(&err, MD_REASON_BACKEND, MD_CODE_NOT_FOUND, "x"));
    assert_int_equal(err.code, MD_CODE_NOT_FOUND);
    assert_int_equal(err.reason, MD_REASON_BACKEND);
    assert_false(md_error_no_memory(&err, "a thing"));
    assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
    assert_string_equal(err.text, "out of memory: a thing");
    md_error_clear(&err);
    assert_int_equal(err.code, MD_CODE_OK);
    assert_int_equal(err.reason, MD_REASON_NONE);
    assert_string_equal(err.text, "");
}

static void test_error_prefix(void **state)
{
    struct md_error err;

    (void)state;
    md_error_set(&err, MD_REASON_IO, "no such file");
    assert_false(md_error_prefix(&err, "model '%s'", "a"));
    assert_string_equal(err.text, "model 'a': no such file");
    md_error_prefix(&err, "%s", "");
    assert_string_equal(err.text, "model 'a': no such file");
    assert_int_equal(err.reason, MD_REASON_IO);
}

static void test_error_long_text_is_cut(void **state)
{
    static char text[4 * MD_ERROR_TEXT_MAX];
    struct md_error err;

    (void)state;
    memset(text, 'a', sizeof text - 1);
    md_error_set(&err, MD_REASON_IO, "%s", text);
    assert_int_equal(strlen(err.text), MD_ERROR_TEXT_MAX - 1);
    md_error_prefix(&err, "p");
    assert_int_equal(strlen(err.text), MD_ERROR_TEXT_MAX - 1);
    assert_memory_equal(err.text, "p: aaa", 6);
    md_error_prefix(&err, "%s", text);
    assert_int_equal(strlen(err.text), MD_ERROR_TEXT_MAX - 1);
    assert_memory_equal(err.text, text, MD_ERROR_TEXT_MAX - 1);
}

/* Sequences of 1 to 4 bytes, shifted over the end: what is left is whole sequences. */
static void test_error_cut_keeps_utf8_whole(void **state)
{
    static const char *const sequences[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    char text[2 * MD_ERROR_TEXT_MAX];
    struct md_error err;

    (void)state;
    for (size_t s = 0; s < MD_COUNT_OF(sequences); s++) {
        size_t width = strlen(sequences[s]);
        for (size_t shift = 0; shift < 4; shift++) {
            memset(text, 'x', shift);
            for (size_t at = shift; at < MD_ERROR_TEXT_MAX + 8; at += width) {
                memcpy(text + at, sequences[s], width + 1);
            }
            md_error_set(&err, MD_REASON_IO, "%s", text);
            size_t len = strlen(err.text);
            assert_int_equal((len - shift) % width, 0);
            assert_true(len > MD_ERROR_TEXT_MAX - 1 - width);
            md_error_prefix(&err, "pp");
            len = strlen(err.text);
            assert_int_equal((len - shift - 4) % width, 0);
            assert_true(len > MD_ERROR_TEXT_MAX - 1 - width);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_reason_table),
        cmocka_unit_test(test_error_retry_after),
        cmocka_unit_test(test_error_set_and_clear),
        cmocka_unit_test(test_error_prefix),
        cmocka_unit_test(test_error_long_text_is_cut),
        cmocka_unit_test(test_error_cut_keeps_utf8_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
