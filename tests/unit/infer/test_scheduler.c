/*
 * infer/scheduler: the default order of arrival, with requests taken out anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "infer/request.h"

enum { COUNT = 5 };

static struct md_request requests[COUNT];
static struct md_scheduler scheduler;
static const struct md_scheduler_ops *const ops = &md_scheduler_default;

static void submit_all(size_t limit)
{
    struct md_error err;

    memset(requests, 0, sizeof requests);
    scheduler = (struct md_scheduler){.ops = ops, .length_limit = limit};
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(ops->submit(&scheduler, &requests[i], &err), !limit || i < limit);
        assert_true(!limit || i < limit || err.reason == MD_REASON_QUEUE_FULL);
    }
}

static struct md_request *pick(void)
{
    struct md_request *picked = NULL;

    return ops->pick(&scheduler, &picked, 1, 0) ? picked : NULL;
}

static void test_scheduler_keeps_the_order_without_what_was_cancelled(void **state)
{
    (void)state;
    for (unsigned cancelled = 0; cancelled < 1U << COUNT; cancelled++) {
        size_t left = COUNT;
        submit_all(0);
        for (size_t i = 0; i < COUNT; i++) {
            if (cancelled >> i & 1) {
                assert_true(ops->cancel(&scheduler, &requests[i]));
                assert_false(ops->cancel(&scheduler, &requests[i]));
                left--;
            }
        }
        assert_int_equal(scheduler.length, left);
        for (size_t i = 0; i < COUNT; i++) {
            if (!(cancelled >> i & 1)) {
                assert_ptr_equal(pick(), &requests[i]);
                assert_false(ops->cancel(&scheduler, &requests[i]));
            }
        }
        assert_null(pick());
        assert_int_equal(scheduler.length, 0);
    }
}

static void test_scheduler_bounds_its_length(void **state)
{
    struct md_request *picked;
    struct md_error err;

    (void)state;
    submit_all(3);
    assert_int_equal(ops->pick(&scheduler, &picked, 0, 0), 0); /* no room, nothing taken */
    assert_ptr_equal(pick(), &requests[0]);
    ops->done(&scheduler, 1, 0);
    assert_true(ops->submit(&scheduler, &requests[4], &err));
    assert_ptr_equal(pick(), &requests[1]);
    assert_ptr_equal(pick(), &requests[2]);
    assert_ptr_equal(pick(), &requests[4]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduler_keeps_the_order_without_what_was_cancelled),
        cmocka_unit_test(test_scheduler_bounds_its_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
