/*
 * loop/cpu_plan: from grant to plan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/cpu_plan.h"

static void test_cpu_plan_table(void **state)
{
    static const struct {
        struct md_cpu_grant grant;
        struct md_cpu_plan plan;
    } rows[] = {
        {{.cpus = 0}, {1, 1, 1, 1, true}},
        {{.cpus = 1}, {1, 1, 1, 1, true}},
        {{.cpus = 2}, {2, 1, 2, 2, true}},
        {{.cpus = 8}, {8, 2, 8, 8, true}},
        {{.cpus = 128}, {128, 8, 128, 128, true}},
        {{.cpus = 8, .quota = 0.5}, {1, 1, 1, 1, false}},
        {{.cpus = 8, .quota = 2}, {2, 1, 2, 2, false}},
        {{.cpus = 8, .quota = 2.5}, {3, 1, 3, 3, false}},
        {{.cpus = 4, .quota = 16}, {4, 1, 4, 4, false}},
        {{.cpus = 64, .wanted_cpus = 4}, {4, 1, 4, 4, true}},
        {{.cpus = 4, .wanted_loops = 3, .wanted_executors = 7, .wanted_engine_threads = 1},
         {4, 3, 7, 1, true}},
        {{.cpus = 8, .quota = 1, .wanted_cpus = 4}, {4, 1, 4, 4, false}},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_cpu_plan plan;
        md_cpu_plan_make(&rows[i].grant, &plan);
        assert_int_equal(plan.cpus, rows[i].plan.cpus);
        assert_int_equal(plan.loops, rows[i].plan.loops);
        assert_int_equal(plan.executors, rows[i].plan.executors);
        assert_int_equal(plan.engine_threads, rows[i].plan.engine_threads);
        assert_int_equal(plan.may_spin, rows[i].plan.may_spin);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_plan_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
