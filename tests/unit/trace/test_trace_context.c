/*
 * trace/context: what counts as a traceparent, and which part of a tracestate is passed on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trace/context.h"

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN  "b7ad6b7169203331"

static void test_context_reads_traceparent(void **state)
{
    static const struct {
        const char *text;
        bool is_valid;
        uint8_t flags;
    } rows[] = {
        {"00-" TRACE "-" SPAN "-01", true, 1},
        {"00-" TRACE "-" SPAN "-00", true, 0},
        {"00-" TRACE "-" SPAN "-03", true, 3},
        {"00-" TRACE "-" SPAN "-ff", true, 0xff},
        {"00-" TRACE "-" SPAN "-01-", false, 0}, /* version 00 ends there */
        {"00-" TRACE "-" SPAN "-01 ", false, 0},
        {"01-" TRACE "-" SPAN "-03", true, 1}, /* of later versions the sampled flag */
        {"01-" TRACE "-" SPAN "-01-what", true, 1},
        {"cc-" TRACE "-" SPAN "-00-", true, 0},
        {"01-" TRACE "-" SPAN "-01what", false, 0},
        {"ff-" TRACE "-" SPAN "-01", false, 0},
        {"0-" TRACE "-" SPAN "-01", false, 0},
        {"0g-" TRACE "-" SPAN "-01", false, 0},
        {"00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", false, 0},
        {"00-" TRACE "-B7AD6B7169203331-01", false, 0},
        {"00-" TRACE "-" SPAN "-0A", false, 0},
        {"00-00000000000000000000000000000000-" SPAN "-01", false, 0},
        {"00-" TRACE "-0000000000000000-01", false, 0},
        {"00-00000000000000000000000000000001-0000000000000001-01", true, 1},
        {"00_" TRACE "-" SPAN "-01", false, 0},
        {"00-" TRACE "_" SPAN "-01", false, 0},
        {"00-" TRACE "-" SPAN "_01", false, 0},
        {"00-" TRACE "-" SPAN "-1", false, 0},
        {"00-" TRACE "-" SPAN, false, 0},
        {"", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_trace_context context;
        print_message("[  row   ] %s\n", rows[i].text);
        assert_int_equal(md_traceparent_parse(md_str_of(rows[i].text), &context), rows[i].is_valid);
        if (rows[i].is_valid) {
            assert_int_equal(context.flags, rows[i].flags);
        }
    }
}

static void test_context_prints_what_it_read(void **state)
{
    static const char text[] = "00-" TRACE "-" SPAN "-01";
    struct md_trace_context context;
    char printed[MD_TRACEPARENT_BYTES + 1];

    (void)state;
    assert_true(md_traceparent_parse(md_str_of(text), &context));
    md_traceparent_print(&context, printed);
    assert_string_equal(printed, text);
}

static void test_context_joins_tracestate(void **state)
{
    static const struct {
        const char *first, *second, *joined;
    } rows[] = {
        {"a=1", NULL, "a=1"},          {"a=1,b=2", NULL, "a=1,b=2"},
        {"a=1", "b=2", "a=1,b=2"},     {" a=1 ,\t, b=2,", "", "a=1,b=2"},
        {"a=1\x01,b=2", "c=3", "c=3"}, {"a=\xc3\xa4", "c=3", "c=3"},
        {"nothing,=1,a=", NULL, "a="}, {"", NULL, ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char text[MD_TRACESTATE_MAX];
        size_t len = 0;
        print_message("[  row   ] %s\n", rows[i].first);
        md_tracestate_append(md_str_of(rows[i].first), text, &len);
        md_tracestate_append(md_str_of(rows[i].second), text, &len);
        assert_true(md_str_eq_c(md_str_make(text, len), rows[i].joined));
    }
}

static void test_context_bounds_tracestate_by_whole_members(void **state)
{
    enum { MEMBER_BYTES = 200 };
    char header[3 * MEMBER_BYTES], text[MD_TRACESTATE_MAX];
    size_t len = 0;

    (void)state;
    memset(header, 'v', sizeof header);
    for (size_t i = 0; i < 3; i++) {
        header[i * MEMBER_BYTES + 1] = '=';
        header[(i + 1) * MEMBER_BYTES - 1] = ',';
    }
    md_tracestate_append(md_str_make(header, sizeof header), text, &len);
    assert_int_equal(len, 2 * MEMBER_BYTES - 1);
    assert_memory_equal(text, header, len);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_context_reads_traceparent),
        cmocka_unit_test(test_context_prints_what_it_read),
        cmocka_unit_test(test_context_joins_tracestate),
        cmocka_unit_test(test_context_bounds_tracestate_by_whole_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
