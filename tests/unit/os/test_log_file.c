/*
 * os/log_file: the three formats, escaping, rotation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/file.h"
#include "os/log_file.h"

static char path[] = "/tmp/md-log-XXXXXX";
static struct md_arena arena;

static int set_up(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    md_log_set_sink(NULL);
    md_arena_deinit(&arena);
    return unlink(path);
}

/* What was logged since the last call, without the last line end. */
static const char *logged(void)
{
    struct md_str text;
    struct md_error err;

    assert_true(md_os_file_read(path, 1 << 20, &arena, &text, &err));
    assert_true(text.len > 0 && text.ptr[text.len - 1] == '\n');
    assert_int_equal(truncate(path, 0), 0);
    return md_arena_printf(&arena, "%.*s", (int)text.len - 1, text.ptr);
}

static void open_log(enum md_log_format format)
{
    struct md_error err;

    assert_true(md_os_log_open(path, format, &err));
}

#define D "[0-9]"

static void test_log_file_formats(void **state)
{
    static const struct md_log_context context = {.model = "m", .version = 3, .request_id = "r1"};
    static const struct {
        enum md_log_format format;
        enum md_log_level level;
        const struct md_log_context *context;
        const char *text, *pattern;
    } rows[] = {
        {MD_LOG_FORMAT_DEFAULT, MD_LOG_INFO, NULL, "hello",
         "I" D D D D " " D D ":" D D ":" D D "." D D D D D D " " D "* hello"},
        {MD_LOG_FORMAT_DEFAULT, MD_LOG_ERROR, &context, "hello",
         "E* " D "* \\[model m version 3 request r1\\] hello"},
        {MD_LOG_FORMAT_DEFAULT, MD_LOG_WARNING, NULL, "a\nb\x7f", "W* a\\\\u000ab\\\\u007f"},
        {MD_LOG_FORMAT_ISO8601, MD_LOG_INFO, NULL, "hello",
         D D D D "-" D D "-" D D "T" D D ":" D D ":" D D "." D D D "Z I " D "* hello"},
        {MD_LOG_FORMAT_JSON, MD_LOG_WARNING, NULL, "say \"a\\b\"\t\xc3\xa4\xff",
         "{\"time\":\"" D D D D
         "-*Z\",\"level\":\"warning\",\"message\":\"say \\\\\"a\\\\\\\\b\\\\\"\\\\u0009\xc3\xa4"
         "\\\\ufffd\"}"},
        {MD_LOG_FORMAT_JSON, MD_LOG_ERROR, &context, "x",
         "{\"time\":\"*\",\"level\":\"error\",\"message\":\"x\",\"model\":\"m\",\"version\":3,\"request_id\":\"r1\"}"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        open_log(rows[i].format);
        const struct md_log_context *before = md_log_set_context(rows[i].context);
        md_log(rows[i].level, "%s", rows[i].text);
        (void)md_log_set_context(before);
        assert_int_equal(fnmatch(rows[i].pattern, logged(), 0), 0);
    }
}

/* Broken UTF-8 in all its kinds becomes the replacement character; what is whole stays. */
static void test_log_file_json_is_valid_utf8(void **state)
{
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"\xe2\x82\xac", "\"\xe2\x82\xac\""},
        {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
        {"\xe2\x82", "\"\\ufffd\\ufffd\""},
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
        {"\x80x", "\"\\ufffdx\""},
    };

    (void)state;
    open_log(MD_LOG_FORMAT_JSON);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        md_log(MD_LOG_INFO, "%s", rows[i].text);
        assert_non_null(strstr(logged(), rows[i].message));
    }
}

static void test_log_file_long_lines_end_properly(void **state)
{
    static char name[20000], text[4000];
    const struct md_log_context context = {.model = name, .version = INT64_MIN, .request_id = name};

    (void)state;
    memset(name, '"', sizeof name - 1);
    memset(text, '\n', sizeof text - 1);
    open_log(MD_LOG_FORMAT_JSON);
    (void)md_log_set_context(&context);
    md_log(MD_LOG_INFO, "%s", text);
    (void)md_log_set_context(NULL);
    const char *line = logged();
    size_t len = strlen(line);
    assert_true(len < 8192);
    assert_string_equal(line + len - 3, "\"\"}");
    assert_null(strchr(line, '\n'));
    assert_non_null(strstr(line, "\",\"model\":\""));
    assert_non_null(strstr(line, "\",\"version\":-9223372036854775808,\"request_id\":\""));
}

static void test_log_file_is_reopened_after_rotation(void **state)
{
    char rotated[64];
    struct md_str text;
    struct md_error err;
    int next_free;

    (void)state;
    open_log(MD_LOG_FORMAT_DEFAULT);
    next_free = dup(STDERR_FILENO);
    close(next_free);
    (void)snprintf(rotated, sizeof rotated, "%s.1", path);
    assert_int_equal(rename(path, rotated), 0);
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    md_os_log_reopen();
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    md_log(MD_LOG_INFO, "old");
    md_os_log_reopen();
    md_log(MD_LOG_INFO, "new");
    assert_int_equal(dup(STDERR_FILENO), next_free); /* none was left open */
    close(next_free);
    assert_true(md_os_file_read(rotated, 1000, &arena, &text, &err));
    assert_true(md_str_ends_with(text, MD_STR(" old\n")));
    assert_non_null(strstr(logged(), " new"));
    assert_int_equal(unlink(rotated), 0);
}

static void test_log_file_that_cannot_be_opened(void **state)
{
    struct md_error err;

    (void)state;
    assert_false(md_os_log_open("/nonexistent/log", MD_LOG_FORMAT_DEFAULT, &err));
    assert_non_null(strstr(err.text, "/nonexistent/log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_file_formats),
        cmocka_unit_test(test_log_file_json_is_valid_utf8),
        cmocka_unit_test(test_log_file_long_lines_end_properly),
        cmocka_unit_test(test_log_file_is_reopened_after_rotation),
        cmocka_unit_test(test_log_file_that_cannot_be_opened),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
