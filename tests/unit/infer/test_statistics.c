/*
 * infer/statistics and the sums of infer/target: what a finished request adds, over all loops.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "infer/statistics.h"

enum { LOOPS = 2 };

static struct md_loop *loops[LOOPS];
static struct md_budget budget;
static struct md_target target;

static uint64_t no_clock(void)
{
    return 0;
}

static int set_up(void **state)
{
    struct md_error err;

    (void)state;
    md_clock_monotonic_ns = no_clock;
    md_budget_init(&budget, 1 << 20);
    for (unsigned i = 0; i < LOOPS; i++) {
        const struct md_loop_options options = {.index = i, .cpu = -1, .budget = &budget};
        if (!md_loop_create(&options, &loops[i], &err)) {
            return -1;
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LOOPS; i++) {
        md_loop_destroy(loops[i]);
    }
    return 0;
}

static void open_target(int64_t max_batch_size, uint32_t max_rows)
{
    struct md_error err;

    memset(&target, 0, sizeof target);
    target.max_batch_size = max_batch_size;
    target.scheduler.batcher.config.max_rows = max_rows;
    assert_true(md_target_init(&target, LOOPS, &err));
}

/* Queued at 100 us, picked at 300, given to the backend at 310, answered at 1310, out at 1320. */
static void finish(unsigned loop, int64_t rows, bool leads, const struct md_error *error)
{
    const struct md_request request = {.target = &target,
                                       .loop = loops[loop],
                                       .rows = rows,
                                       .batch_rows = rows,
                                       .leads_batch = leads,
                                       .queued_ns = 100000,
                                       .picked_ns = 300000,
                                       .infer_ns = 310000,
                                       .respond_ns = 1310000,
                                       .finished_ns = 1315000};

    md_statistics_record(&request, error, 1320000);
}

static void test_statistics_sum_over_loops(void **state)
{
    struct md_target_totals totals;
    struct md_phase_totals phases;
    struct md_error error;

    (void)state;
    open_target(8, 1);
    finish(0, 1, true, NULL);
    finish(1, 1, true, NULL);
    finish(1, 1, false, NULL); /* rode in another's batch */
    md_error_set(&error, MD_REASON_QUEUE_FULL, "full");
    finish(1, 1, true, &error);
    md_error_set(&error, MD_REASON_CANCELLED, "gone");
    finish(0, 1, true, &error);
    md_statistics_record_refusal(&target, 0, MD_REASON_INVALID_ARGUMENT, 7);
    md_target_sum(&target, &totals);
    assert_int_equal(totals.success.count, 3);
    assert_int_equal(totals.success.ns, 3 * 1320000);
    assert_int_equal(totals.queue_ns, 3 * 200000);
    assert_int_equal(totals.compute_input_ns, 3 * 10000);
    assert_int_equal(totals.compute_infer_ns, 3 * 1000000);
    assert_int_equal(totals.compute_output_ns, 3 * 10000);
    assert_int_equal(totals.fail.count, 3);
    assert_int_equal(totals.fail.ns, 2 * 1320000 + 7);
    assert_int_equal(totals.failures[MD_FAILURE_REJECTED], 1);
    assert_int_equal(totals.failures[MD_FAILURE_CANCELED], 1);
    assert_int_equal(totals.failures[MD_FAILURE_OTHER], 1);
    assert_int_equal(totals.inference_count, 3);
    assert_int_equal(totals.execution_count, 2);
    assert_int_equal(totals.last_inference_ns, 1320000);
    /* 200 us, 1010 us, 1320 us: the first bound that is not below */
    md_target_sum_phases(&target, &phases);
    assert_int_equal(phases.buckets[MD_PHASE_QUEUE][2], 3);
    assert_int_equal(phases.buckets[MD_PHASE_COMPUTE][5], 3);
    assert_int_equal(phases.buckets[MD_PHASE_TOTAL][5], 5);
    assert_int_equal(phases.sum_ns[MD_PHASE_QUEUE], 3 * 200000);
    md_target_deinit(&target);
}

static void test_statistics_times_that_run_backwards_count_nothing(void **state)
{
    const struct md_request request = {.target = &target,
                                       .loop = loops[0],
                                       .rows = 1,
                                       .begin_ns = 500,
                                       .queued_ns = 400,
                                       .picked_ns = 300,
                                       .infer_ns = 200,
                                       .finished_ns = 100};
    struct md_target_totals totals;

    (void)state;
    open_target(0, 1);
    md_statistics_record(&request, NULL, 50);
    md_target_sum(&target, &totals);
    assert_int_equal(totals.success.count, 1);
    assert_int_equal(totals.success.ns + totals.queue_ns + totals.compute_infer_ns, 0);
    md_target_deinit(&target);
}

static void test_statistics_batches_by_size(void **state)
{
    static const struct {
        int64_t max_batch_size;
        uint32_t max_rows;
        int64_t rows;
        size_t size;
    } cases[] = {
        {0, 1, 1, 1},
        {0, 32, 1, 1},
        {0, 32, 5, 5}, /* joined, though there is no batch dimension */
        {8, 1, 1, 1},
        {8, 1, 8, 8},
        {1000, 1, 999, 999},
        {5000, 1, MD_BATCH_SIZES_MAX, MD_BATCH_SIZES_MAX},
        {5000, 1, 4999, MD_BATCH_SIZES_MAX}, /* larger ones share the last */
        {0, 32, 4999, MD_BATCH_SIZES},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        uint64_t count, input_ns, infer_ns, output_ns;
        open_target(cases[i].max_batch_size, cases[i].max_rows);
        for (unsigned loop = 0; loop < LOOPS; loop++) {
            finish(loop, cases[i].rows, true, NULL);
        }
        for (size_t size = 1; size <= target.batch_sizes; size++) {
            bool some =
                md_target_sum_batch(&target, size, &count, &input_ns, &infer_ns, &output_ns);
            assert_int_equal(some, size == cases[i].size);
            assert_int_equal(count, some ? LOOPS : 0);
            assert_int_equal(infer_ns, some ? LOOPS * 1000000 : 0);
        }
        md_target_deinit(&target);
    }
}

static void test_target_counts_references_by_loop(void **state)
{
    struct md_target_totals totals;

    (void)state;
    open_target(0, 1);
    md_target_ref(&target, 0);
    md_target_ref(&target, 1);
    md_target_ref(&target, 1);
    md_target_unref(&target, 0);
    md_target_sum(&target, &totals);
    assert_int_equal(totals.in_flight, 2);
    assert_int_equal(target.shards[1].refs, 2);
    md_target_deinit(&target);
}

static void test_target_init_may_fail(void **state)
{
    bool delivered = true;

    (void)state;
    for (long n = 0; delivered; n++) {
        struct md_error err = {0};
        memset(&target, 0, sizeof target);
        target.max_batch_size = 4;
        md_fault_arm(MD_FAULT_ALLOC, n);
        bool ok = md_target_init(&target, LOOPS, &err);
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(ok, !delivered);
        assert_int_equal(target.shards != NULL, ok);
        md_target_deinit(&target);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_sum_over_loops),
        cmocka_unit_test(test_statistics_times_that_run_backwards_count_nothing),
        cmocka_unit_test(test_statistics_batches_by_size),
        cmocka_unit_test(test_target_counts_references_by_loop),
        cmocka_unit_test(test_target_init_may_fail),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
