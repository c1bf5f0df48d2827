/*
 * trace/settings: how settings of models and of the server add up, and which requests they choose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trace/settings.h"

static const struct md_str server = {"", 0}, model = {"model", 5}, other = {"other", 5};

static struct md_trace_settings *make(int64_t level, int64_t rate, int64_t count)
{
    const int64_t values[MD_TRACE_FIELD_COUNT] = {level, rate, count, 0};
    struct md_trace_settings *settings;
    struct md_error err;

    assert_true(md_trace_settings_create(values, &settings, &err));
    return settings;
}

static void change(struct md_trace_settings *settings, struct md_str name,
                   enum md_trace_field field, enum md_trace_what what, int64_t value)
{
    struct md_trace_change wanted = {0};
    struct md_error err;

    wanted.what[field] = what;
    wanted.values[field] = value;
    assert_true(md_trace_settings_change(settings, name, &wanted, &err));
}

static int64_t value(const struct md_trace_settings *settings, struct md_str name,
                     enum md_trace_field field)
{
    int64_t values[MD_TRACE_FIELD_COUNT];

    md_trace_settings_get(settings, name, values);
    return values[field];
}

/* How many of `requests` are traced. */
static unsigned sample(struct md_trace_settings *settings, struct md_str name, unsigned requests,
                       enum md_trace_parent parent)
{
    unsigned traced = 0;

    for (unsigned i = 0; i < requests; i++) {
        traced += md_trace_settings_sample(settings, name, parent);
    }
    return traced;
}

static void test_settings_of_a_model_stand_above_the_servers(void **state)
{
    struct md_trace_settings *settings = make(MD_TRACE_OFF, 1000, -1);

    (void)state;
    change(settings, model, MD_TRACE_RATE, MD_TRACE_SET, 12);
    change(settings, server, MD_TRACE_RATE, MD_TRACE_SET, 56);
    change(settings, server, MD_TRACE_COUNT, MD_TRACE_SET, 78);
    assert_int_equal(value(settings, server, MD_TRACE_RATE), 56);
    assert_int_equal(value(settings, model, MD_TRACE_RATE), 12);
    assert_int_equal(value(settings, model, MD_TRACE_COUNT), 78);
    assert_int_equal(value(settings, other, MD_TRACE_RATE), 56);
    md_trace_settings_destroy(settings);
}

static void test_settings_are_cleared_to_what_is_below(void **state)
{
    struct md_trace_settings *settings = make(MD_TRACE_TIMESTAMPS, 1000, -1);

    (void)state;
    change(settings, model, MD_TRACE_RATE, MD_TRACE_SET, 12);
    change(settings, server, MD_TRACE_RATE, MD_TRACE_SET, 56);
    change(settings, model, MD_TRACE_RATE, MD_TRACE_CLEAR, 0);
    assert_int_equal(value(settings, model, MD_TRACE_RATE), 56);
    change(settings, server, MD_TRACE_RATE, MD_TRACE_CLEAR, 0);
    assert_int_equal(value(settings, server, MD_TRACE_RATE), 1000);
    assert_int_equal(value(settings, model, MD_TRACE_RATE), 1000);
    md_trace_settings_destroy(settings);
}

static void test_settings_choose_requests(void **state)
{
    static const struct {
        int64_t level, rate, count;
        unsigned requests;
        enum md_trace_parent parent;
        unsigned traced;
    } rows[] = {
        {MD_TRACE_TIMESTAMPS, 1, -1, 100, MD_TRACE_NO_PARENT, 100},
        {MD_TRACE_TIMESTAMPS, 10, -1, 100, MD_TRACE_NO_PARENT, 10},
        {MD_TRACE_TIMESTAMPS, 10, -1, 9, MD_TRACE_NO_PARENT, 0},
        {MD_TRACE_TIMESTAMPS, 10, 3, 100, MD_TRACE_NO_PARENT, 3},
        {MD_TRACE_TIMESTAMPS, 1, 0, 100, MD_TRACE_NO_PARENT, 0},
        {MD_TRACE_TIMESTAMPS, 0, -1, 100, MD_TRACE_NO_PARENT, 0},
        {MD_TRACE_OFF, 1, -1, 100, MD_TRACE_NO_PARENT, 0},
        {MD_TRACE_TIMESTAMPS, 1000, -1, 100, MD_TRACE_PARENT_SAMPLED, 100},
        {MD_TRACE_TIMESTAMPS, 0, 0, 100, MD_TRACE_PARENT_SAMPLED, 100},
        {MD_TRACE_OFF, 1, -1, 100, MD_TRACE_PARENT_SAMPLED, 0},
        {MD_TRACE_TIMESTAMPS, 1, -1, 100, MD_TRACE_PARENT_UNSAMPLED, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_trace_settings *settings = make(rows[i].level, rows[i].rate, rows[i].count);
        print_message("[  row   ] %zu\n", i);
        assert_int_equal(sample(settings, model, rows[i].requests, rows[i].parent), rows[i].traced);
        md_trace_settings_destroy(settings);
    }
}

static void test_settings_count_down_where_the_count_stands(void **state)
{
    struct md_trace_settings *settings = make(MD_TRACE_TIMESTAMPS, 1, 5);

    (void)state;
    change(settings, model, MD_TRACE_COUNT, MD_TRACE_SET, 2);
    assert_int_equal(sample(settings, model, 10, MD_TRACE_NO_PARENT), 2);
    assert_int_equal(value(settings, server, MD_TRACE_COUNT), 5);
    assert_int_equal(sample(settings, other, 10, MD_TRACE_NO_PARENT), 5);
    md_trace_settings_destroy(settings);
}

static void test_settings_begin_anew_with_another_rate(void **state)
{
    struct md_trace_settings *settings = make(MD_TRACE_TIMESTAMPS, 10, -1);

    (void)state;
    assert_int_equal(sample(settings, model, 9, MD_TRACE_NO_PARENT), 0);
    change(settings, server, MD_TRACE_RATE, MD_TRACE_SET, 3);
    assert_int_equal(sample(settings, model, 2, MD_TRACE_NO_PARENT), 0);
    assert_int_equal(sample(settings, model, 1, MD_TRACE_NO_PARENT), 1);
    md_trace_settings_destroy(settings);
}

static void test_settings_know_whether_anything_is_on(void **state)
{
    struct md_trace_settings *settings = make(MD_TRACE_OFF, 1, -1);

    (void)state;
    assert_false(md_trace_settings_is_on(settings));
    change(settings, model, MD_TRACE_RATE, MD_TRACE_SET, 1);
    assert_false(md_trace_settings_is_on(settings));
    change(settings, model, MD_TRACE_LEVEL, MD_TRACE_SET, MD_TRACE_TIMESTAMPS);
    assert_true(md_trace_settings_is_on(settings));
    assert_int_equal(sample(settings, other, 1, MD_TRACE_NO_PARENT), 0);
    change(settings, model, MD_TRACE_LEVEL, MD_TRACE_CLEAR, 0);
    assert_false(md_trace_settings_is_on(settings));
    md_trace_settings_destroy(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_of_a_model_stand_above_the_servers),
        cmocka_unit_test(test_settings_are_cleared_to_what_is_below),
        cmocka_unit_test(test_settings_choose_requests),
        cmocka_unit_test(test_settings_count_down_where_the_count_stands),
        cmocka_unit_test(test_settings_begin_anew_with_another_rate),
        cmocka_unit_test(test_settings_know_whether_anything_is_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
