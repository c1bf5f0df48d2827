/*
 * infer/scheduler: the default scheduler over the batcher, as the device uses it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "infer/scheduler.h"

enum { COUNT = 5 };

static struct md_waiter waiters[COUNT];
static struct md_scheduler scheduler;
static const struct md_scheduler_ops *const ops = &md_scheduler_default;

static void submit_all(uint64_t max_size)
{
    struct md_error err;

    memset(waiters, 0, sizeof waiters);
    memset(&scheduler, 0, sizeof scheduler);
    scheduler.ops = ops;
    scheduler.batcher.one.policy.max_size = max_size;
    md_scheduler_prepare(&scheduler, 1);
    for (size_t i = 0; i < COUNT; i++) {
        waiters[i].rows = 1;
        waiters[i].bytes = 10;
        bool fits = !max_size || i < max_size;
        assert_int_equal(ops->submit(&scheduler, &waiters[i], NULL, NULL, 1, &err), fits);
        assert_true(fits || err.reason == MD_REASON_QUEUE_FULL);
    }
}

static struct md_waiter *pick(void)
{
    struct md_batch_choice choice;

    ops->pick(&scheduler, NULL, 1, &choice);
    assert_true(!choice.first || choice.count == 1);
    return choice.first;
}

static void test_scheduler_keeps_the_order_without_what_was_cancelled(void **state)
{
    (void)state;
    for (unsigned cancelled = 0; cancelled < 1U << COUNT; cancelled++) {
        size_t left = COUNT;
        submit_all(0);
        for (size_t i = 0; i < COUNT; i++) {
            if (cancelled >> i & 1) {
                assert_true(ops->cancel(&scheduler, &waiters[i]));
                assert_false(ops->cancel(&scheduler, &waiters[i]));
                left--;
            }
        }
        assert_int_equal(scheduler.length, left);
        assert_int_equal(scheduler.bytes, 10 * left);
        for (size_t i = 0; i < COUNT; i++) {
            if (!(cancelled >> i & 1)) {
                assert_ptr_equal(pick(), &waiters[i]);
                assert_false(ops->cancel(&scheduler, &waiters[i]));
            }
        }
        assert_null(pick());
        assert_int_equal(scheduler.length, 0);
    }
}

static void test_scheduler_bounds_its_length(void **state)
{
    struct md_error err;

    (void)state;
    submit_all(3);
    assert_ptr_equal(pick(), &waiters[0]);
    ops->done(&scheduler, 1, 0);
    assert_true(ops->submit(&scheduler, &waiters[4], NULL, NULL, 1, &err));
    assert_ptr_equal(pick(), &waiters[1]);
    assert_ptr_equal(pick(), &waiters[2]);
    assert_ptr_equal(pick(), &waiters[4]);
}

/* All that wait, of all levels and whether they were delayed or not. */
static void test_scheduler_drains(void **state)
{
    struct md_batcher_level levels[3] = {{.policy = {0}}};
    struct md_waiter *waiter;
    struct md_error err;
    size_t count = 0;

    (void)state;
    submit_all(0);
    memset(&scheduler, 0, sizeof scheduler);
    memset(waiters, 0, sizeof waiters);
    scheduler.ops = ops;
    scheduler.batcher.config.level_count = 3;
    scheduler.batcher.config.default_level = 2;
    levels[1].policy = (struct md_queue_policy){.delays = true, .timeout_ns = 5};
    scheduler.batcher.levels = levels;
    md_scheduler_prepare(&scheduler, 1);
    for (size_t i = 0; i < COUNT; i++) {
        waiters[i].rows = 1;
        waiters[i].priority = i % 4;
        assert_true(ops->submit(&scheduler, &waiters[i], NULL, NULL, 1, &err));
    }
    assert_null(ops->expire(&scheduler, NULL, 100));
    for (waiter = ops->drain(&scheduler); waiter; waiter = waiter->next) {
        assert_false(waiter->waits);
        count++;
    }
    assert_int_equal(count, COUNT);
    assert_int_equal(scheduler.length, 0);
    assert_null(ops->drain(&scheduler));
    assert_null(pick());
}

static void test_scheduler_completes_its_configuration(void **state)
{
    static const struct {
        uint32_t max_rows, max_requests, room, expected;
    } cases[] = {{0, 0, 8, 1}, {1, 8, 8, 1}, {8, 0, 8, 1},
                 {8, 8, 8, 8}, {8, 8, 3, 3}, {8, 2, 8, 2}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        memset(&scheduler, 0, sizeof scheduler);
        scheduler.batcher.config.max_rows = cases[i].max_rows;
        scheduler.batcher.config.max_requests = cases[i].max_requests;
        md_scheduler_prepare(&scheduler, cases[i].room);
        assert_int_equal(scheduler.batcher.config.max_requests, cases[i].expected);
        assert_int_equal(scheduler.batcher.config.level_count, 1);
        assert_int_equal(scheduler.batcher.config.default_level, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduler_keeps_the_order_without_what_was_cancelled),
        cmocka_unit_test(test_scheduler_bounds_its_length),
        cmocka_unit_test(test_scheduler_drains),
        cmocka_unit_test(test_scheduler_completes_its_configuration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
