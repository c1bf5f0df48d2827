/*
 * base/log: level switches, contexts, lines that are too long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"

struct seen {
    unsigned count;
    enum md_log_level level;
    const struct md_log_context *context;
    size_t len;
    char text[64];
};

static void keep(void *arg, enum md_log_level level, const struct md_log_context *context,
                 struct md_str text)
{
    struct seen *seen = arg;

    seen->count++;
    seen->level = level;
    seen->context = context;
    seen->len = text.len;
    memcpy(seen->text, text.ptr, md_size_min(text.len, sizeof seen->text - 1));
    seen->text[md_size_min(text.len, sizeof seen->text - 1)] = '\0';
}

static void test_log_without_sink_is_dropped(void **state)
{
    (void)state;
    md_log_set_sink(NULL);
    md_log(MD_LOG_ERROR, "nobody reads this %d", 1);
}

static void test_log_levels(void **state)
{
    static struct seen seen;
    static const struct md_log_sink sink = {.write = keep, .arg = &seen};

    (void)state;
    md_log_set_sink(&sink);
    for (int level = 0; level < MD_LOG_LEVEL_COUNT; level++) {
        md_log_set_enabled((enum md_log_level)level, false);
        md_log((enum md_log_level)level, "off");
        assert_int_equal(seen.count, (unsigned)level);
        md_log_set_enabled((enum md_log_level)level, true);
        assert_true(md_log_is_enabled((enum md_log_level)level));
        md_log((enum md_log_level)level, "on %d", level);
        assert_int_equal(seen.count, (unsigned)level + 1);
        assert_int_equal(seen.level, level);
    }
    assert_string_equal(seen.text, "on 3");
    md_log(MD_LOG_INFO, "%9000d", 1);
    assert_in_range(seen.len, 1000, 9000);
    md_log_set_sink(NULL);
}

static void *other_thread(void *arg)
{
    (void)arg;
    md_log(MD_LOG_INFO, "elsewhere");
    return NULL;
}

static void test_log_context_belongs_to_its_thread(void **state)
{
    static struct seen seen;
    static const struct md_log_sink sink = {.write = keep, .arg = &seen};
    const struct md_log_context outer = {.model = "m", .version = 1},
                                inner = {.model = "n", .version = 2};
    pthread_t thread;

    (void)state;
    md_log_set_sink(&sink);
    assert_null(md_log_set_context(&outer));
    assert_ptr_equal(md_log_set_context(&inner), &outer);
    md_log(MD_LOG_INFO, "x");
    assert_ptr_equal(seen.context, &inner);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_string_equal(seen.text, "elsewhere");
    assert_null(seen.context);
    assert_ptr_equal(md_log_get_context(), &inner);
    assert_ptr_equal(md_log_set_context(NULL), &inner);
    md_log_set_sink(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_without_sink_is_dropped),
        cmocka_unit_test(test_log_levels),
        cmocka_unit_test(test_log_context_belongs_to_its_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
