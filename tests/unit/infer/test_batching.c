/*
 * Batches: who runs with whom, when, whose rows are whose, and what is told of it.
 */
#include "unit/infer/fake_batches.h"

#include "infer/device_internal.h"

/* --- gathering -------------------- */

static void test_batch_gives_each_its_own_rows(void **state)
{
    static const int64_t counts[] = {1, 2, 1, 3};
    static const uint32_t memories[] = {MODELD_OUTPUT_INPUT, MODELD_OUTPUT_COPY};

    (void)state;
    for (size_t m = 0; m < MD_COUNT_OF(memories); m++) {
        open_world((struct rows_mode){.blocks = true, .memory = memories[m]}, 1, 8);
        target_attach(&one);
        occupy(&calls[0]);
        for (size_t i = 0; i < MD_COUNT_OF(counts); i++) {
            row_submit(&calls[1 + i], &one, counts[i], (float)(10 * i));
        }
        assert_int_equal(totals_of(&one).pending, MD_COUNT_OF(counts));
        assert_int_equal(totals_of(&one).queue_bytes, 7 * WIDTH * sizeof(float));
        gate_set(true);
        for (size_t i = 0; i <= MD_COUNT_OF(counts); i++) {
            row_expect(&calls[i], MD_REASON_NONE);
        }
        assert_int_equal(rows.count, 2);
        assert_int_equal(rows.runs[1].requests, MD_COUNT_OF(counts));
        assert_int_equal(rows.runs[1].rows, 7);
        assert_int_equal(totals_of(&one).pending + totals_of(&one).queue_bytes, 0);
        close_world();
    }
}

static void test_batch_needs_the_same_shape(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = true}, 1, 8);
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 4; i++) {
        row_make(&calls[i], &one, 2, (float)(10 * i));
        if (i == 2 || i == 4) { /* the same numbers, as more rows of less */
            calls[i].shape[0] = 6;
            calls[i].shape[1] = 1;
            calls[i].request.rows = 6;
        }
        md_infer_submit(&calls[i].request);
    }
    gate_set(true);
    for (size_t i = 0; i <= 4; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(rows.runs[1].requests, 2); /* 1 and 3 */
    assert_int_equal(rows.runs[1].rows, 4);
    assert_true(rows.count <= 4); /* 2 and 4 together have more than 8 rows */
    close_world();
}

/* A shape says as many rows as it likes where there is nothing in them. */
static void test_batch_of_nothing_has_one_row(void **state)
{
    (void)state;
    open_world((struct rows_mode){0}, 1, 8);
    row_make(&calls[0], &one, 1, 0);
    calls[0].shape[0] = UINT32_MAX;
    calls[0].shape[1] = 0;
    calls[0].input.bytes = 0;
    md_submit_fill_waiter(&calls[0].request);
    assert_int_equal(calls[0].request.waiter.rows, 1);
    md_arena_deinit(&calls[0].arena);
    target_attach(&one);
    close_world();
}

static void test_batch_agreement_is_compared(void **state)
{
    static const int64_t plain[] = {1, 3}, wide[] = {1, 4}, more[] = {2, 3}, deep[] = {1, 3, 1};
    static const struct md_str y = {"y", 1}, z = {"z", 1};
    static const struct {
        const char *name;
        enum md_dtype dtype;
        uint32_t rank;
        const int64_t *shape;
        uint32_t rows;
        const struct md_str *outputs;
        size_t output_count, input_count;
        bool agrees;
    } cases[] = {
        {"x", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 1, true},
        {"x", MD_DTYPE_FP32, 2, more, 2, &y, 1, 1, true},
        {"x", MD_DTYPE_FP32, 2, more, 1, &y, 1, 1, false}, /* not its rows */
        {"w", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_INT32, 2, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 2, wide, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 3, deep, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 1, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 0, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 2, plain, 1, &z, 1, 1, true},
        {"x", MD_DTYPE_FP32, 2, plain, 1, NULL, 0, 1, true},
        {"x", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 0, false},
    };
    struct md_tensor first_input = {
        .name = MD_STR("x"), .dtype = MD_DTYPE_FP32, .rank = 2, .shape = plain};
    static struct md_request first, second;

    (void)state;
    memset(&first, 0, sizeof first);
    first.inputs = &first_input;
    first.input_count = first.output_count = 1;
    first.outputs = &y;
    first.waiter.rows = 1;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_tensor input = {.name = md_str_of(cases[i].name),
                                  .dtype = cases[i].dtype,
                                  .rank = cases[i].rank,
                                  .shape = cases[i].shape};
        memset(&second, 0, sizeof second);
        second.inputs = &input;
        second.input_count = cases[i].input_count;
        second.outputs = cases[i].outputs;
        second.output_count = cases[i].output_count;
        second.waiter.rows = cases[i].rows;
        assert_int_equal(md_gather_agrees(&first, &second), cases[i].agrees);
    }
}

static bool submit_as_alike(struct md_scheduler *scheduler, struct md_waiter *waiter,
                            const struct md_learned_time *time, const struct md_forecast *forecast,
                            uint64_t now_ns, struct md_error *err)
{
    waiter->shape = 1;
    return md_scheduler_default.submit(scheduler, waiter, time, forecast, now_ns, err);
}

/* Those whose shape only seems to be the same run alone, behind the others of their batch. */
static void test_batch_of_unlike_requests_is_taken_apart(void **state)
{
    struct md_scheduler_ops ops = md_scheduler_default;

    (void)state;
    ops.submit = submit_as_alike;
    open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    one.target.scheduler.ops = &ops;
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 4; i++) {
        row_make(&calls[i], &one, 1, (float)(10 * i));
        calls[i].shape[1] = i == 2 ? 1 : WIDTH;
        calls[i].input.bytes = (size_t)calls[i].shape[1] * sizeof(float);
        md_infer_submit(&calls[i].request);
    }
    gate_set(true);
    for (size_t i = 0; i <= 4; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(rows.count, 3);
    assert_int_equal(rows.runs[1].requests, 3);
    assert_int_equal(rows.runs[2].requests, 1);
    assert_true(rows.runs[2].first == 20);
    struct md_batch_record record;
    wait_until(md_target_recent_batches(&one.target, &record, 1) && record.requests == 4);
    assert_int_equal(record.failed + record.retried, 0);
    assert_int_equal(totals_of(&one).execution_count, 3);
    close_world();
}

/* What a backlog has taken longer is believed less and less where nobody has to wait. */
static void test_batch_backlog_of_others_is_forgotten(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = false, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    target_attach(&one);
    one.target.backlog.stretch_permille = 13000;
    for (size_t i = 0; i < 100; i++) {
        row_submit(&calls[0], &one, 1, 1);
        row_expect(&calls[0], MD_REASON_NONE);
    }
    assert_int_equal(one.target.backlog.stretch_permille, 1000);
    close_world();
}

/* --- padding -------------------- */

static void allow(uint32_t a, uint32_t b)
{
    struct md_batcher_config *config = &one.target.scheduler.batcher.config;

    config->allowed[0] = a;
    config->allowed[1] = b;
    config->allowed_count = 2;
}

static void test_batch_is_padded_to_an_allowed_size(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    allow(4, 8);
    target_attach(&one);
    occupy(&calls[0]);
    assert_int_equal(rows.runs[0].padding, 3); /* a single one, too */
    for (size_t i = 1; i <= 3; i++) {
        row_submit(&calls[i], &one, 2, (float)(10 * i));
    }
    gate_set(true);
    for (size_t i = 0; i <= 3; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(rows.runs[1].rows, 6);
    assert_int_equal(rows.runs[1].padding, 2);
    struct md_batch_record record;
    wait_until(md_target_recent_batches(&one.target, &record, 1) && record.requests == 3);
    assert_int_equal(record.padding, 2);
    assert_int_equal(totals_of(&one).inference_count, 7); /* nobody's rows do not count */
    close_world();
}

/* What the padding is: copies of the last row, of strings too. */
static void test_batch_padding_repeats_the_last_row(void **state)
{
    static const char strings[] = "\1\0\0\0a\2\0\0\0bc\0\0\0\0\3\0\0\0def"; /* [2,2] */
    static const int64_t shape[] = {2, 2};
    struct md_tensor inputs[] = {{.name = MD_STR("s"),
                                  .dtype = MD_DTYPE_BYTES,
                                  .rank = 2,
                                  .shape = shape,
                                  .data = strings,
                                  .bytes = sizeof strings - 1},
                                 {.name = MD_STR("i"),
                                  .dtype = MD_DTYPE_INT8,
                                  .rank = 2,
                                  .shape = shape,
                                  .data = "1234",
                                  .bytes = 4}};
    const struct md_str wanted = MD_STR("y");

    (void)state;
    open_world((struct rows_mode){.blocks = false}, 1, 8);
    struct md_instance *instance = one.instances[0];
    row_make(&calls[0], &one, 2, 0);
    calls[0].request.inputs = inputs;
    calls[0].request.input_count = 2;
    calls[0].request.outputs = &wanted;
    calls[0].request.output_count = 1;
    calls[0].request.waiter.rows = 2;
    instance->count = 1;
    instance->slots[0].request = &calls[0].request;
    instance->slots[0].turn = MD_SLOT_RUNS;
    assert_true(md_gather_inputs(instance, 2));
    const struct modeld_tensor *gathered = instance->batch.inputs;
    assert_string_equal(gathered[0].name, "s");
    assert_string_equal(gathered[1].name, "i");
    assert_string_equal(instance->batch.output_names[0], "y");
    assert_int_equal(gathered[0].shape[0], 4);
    assert_int_equal(gathered[0].bytes, sizeof strings - 1 + 2 * 11);
    assert_memory_equal(gathered[0].data, strings, sizeof strings - 1);
    assert_memory_equal((const char *)gathered[0].data + 22,
                        "\0\0\0\0\3\0\0\0def\0\0\0\0\3\0\0\0def", 22);
    assert_memory_equal(gathered[1].data, "12343434", 8);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal((uintptr_t)gathered[i].data % 64, 0);
    }
    md_gather_release(instance);
    md_arena_deinit(&calls[0].arena);
    rows_free(&one);
    world_close();
}

/* --- which batch when -------------------- */

static void test_batch_waits_for_the_explicit_delay(void **state)
{
    enum { DELAY_MS = 300 };

    (void)state;
    open_world((struct rows_mode){.blocks = false}, 1, 4);
    one.target.scheduler.batcher.config.delay_ns = DELAY_MS * (uint64_t)MD_NS_PER_MS;
    target_attach(&one);
    row_submit(&calls[0], &one, 1, 0);
    row_submit(&calls[1], &one, 1, 10);
    row_expect(&calls[0], MD_REASON_NONE);
    row_expect(&calls[1], MD_REASON_NONE);
    assert_int_equal(rows.runs[0].requests, 2);
    assert_true(calls[0].request.picked_ns - calls[0].request.queued_ns >=
                DELAY_MS * (uint64_t)MD_NS_PER_MS);
    for (size_t i = 0; i < 4; i++) { /* full: at once */
        row_submit(&calls[i], &one, 1, (float)i);
    }
    for (size_t i = 0; i < 4; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
        assert_true(calls[i].request.picked_ns - calls[i].request.queued_ns <
                    DELAY_MS * (uint64_t)MD_NS_PER_MS);
    }
    struct md_batch_record records[2];
    wait_until(md_target_recent_batches(&one.target, records, 2) == 2);
    assert_int_equal(records[1].start, MD_START_DELAY);
    assert_int_equal(records[0].start, MD_START_FULL);
    assert_int_equal(totals_of(&one).starts[MD_START_DELAY], 1);
    assert_int_equal(totals_of(&one).starts[MD_START_FULL], 1);
    close_world();
}

/* Another target does not wait for the one whose batch grows. */
static void test_batch_that_grows_holds_nobody_up(void **state)
{
    static struct fake_target other;

    (void)state;
    world_open(1, 0);
    rows_reset((struct rows_mode){.blocks = false});
    rows_init(&one, 1, 4);
    one.target.scheduler.batcher.config.delay_ns = 1000 * (uint64_t)MD_NS_PER_MS;
    target_init(&other, 1, FAKE_ANSWERS);
    target_attach(&one);
    target_attach(&other);
    row_submit(&calls[0], &one, 1, 0);
    for (int i = 0; i < 20; i++) {
        struct call call;
        call_submit(&call, &other);
        call_expect(&call, MD_REASON_NONE);
    }
    assert_int_equal(calls[0].ends, 0);
    row_expect(&calls[0], MD_REASON_NONE);
    target_remove(&other);
    close_world();
}

/* Detached while its batch grows. */
static void test_batch_that_grows_ends_with_its_target(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = false}, 1, 4);
    one.target.scheduler.batcher.config.delay_ns = 3600 * (uint64_t)MD_NS_PER_S;
    target_attach(&one);
    row_submit(&calls[0], &one, 1, 0);
    turn(10);
    assert_true(md_device_detach(world.device, &one.target));
    row_expect(&calls[0], MD_REASON_EXITING);
    rows_free(&one);
    world_close();
}

/* --- what is told of them -------------------- */

static void test_batch_records_and_learned_times(void **state)
{
    struct md_batch_record records[MD_TARGET_BATCHES_KEPT + 1];
    uint64_t mean_ns, high_ns;
    uint32_t count;

    (void)state;
    open_world((struct rows_mode){.busy_us = 2000}, 1, 8);
    assert_int_equal(md_target_recent_batches(&one.target, records, 9), 0);
    assert_false(target_learned(&one.target, 0, 2, &mean_ns, &high_ns, &count));
    target_attach(&one);
    for (size_t i = 0; i < 3; i++) {
        row_submit(&calls[0], &one, 2, (float)i);
        row_expect(&calls[0], MD_REASON_NONE);
    }
    wait_until(totals_of(&one).device_ns && md_target_recent_batches(&one.target, records, 9) == 3);
    assert_int_equal(records[0].rows, 2);
    assert_int_equal(records[0].start, MD_START_IDLE);
    assert_true(records[0].begun_ns > records[1].begun_ns);
    assert_true(records[0].executed_ns >= 2000 * (uint64_t)MD_NS_PER_US);
    assert_true(totals_of(&one).device_ns >= 3 * 2000 * (uint64_t)MD_NS_PER_US);
    assert_true(target_learned(&one.target, 0, 2, &mean_ns, &high_ns, &count));
    assert_in_range(count, 1, 3); /* it begins anew where the first took much longer */
    assert_true(mean_ns >= 2000 * (uint64_t)MD_NS_PER_US && high_ns >= mean_ns);
    assert_false(target_learned(&one.target, 0, 1, &mean_ns, &high_ns, &count));
    assert_false(target_learned(&one.target, 1, 2, &mean_ns, &high_ns, &count));
    rows.mode.busy_us = 0;
    for (size_t i = 0; i < MD_TARGET_BATCHES_KEPT; i++) {
        row_submit(&calls[0], &one, 1, (float)i);
        row_expect(&calls[0], MD_REASON_NONE);
    }
    wait_until(md_target_recent_batches(&one.target, records, 100) == MD_TARGET_BATCHES_KEPT &&
               records[MD_TARGET_BATCHES_KEPT - 1].rows == 1);
    assert_int_equal(md_target_recent_batches(&one.target, records, 2), 2);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_gives_each_its_own_rows),
        cmocka_unit_test(test_batch_needs_the_same_shape),
        cmocka_unit_test(test_batch_of_nothing_has_one_row),
        cmocka_unit_test(test_batch_agreement_is_compared),
        cmocka_unit_test(test_batch_of_unlike_requests_is_taken_apart),
        cmocka_unit_test(test_batch_backlog_of_others_is_forgotten),
        cmocka_unit_test(test_batch_is_padded_to_an_allowed_size),
        cmocka_unit_test(test_batch_padding_repeats_the_last_row),
        cmocka_unit_test(test_batch_waits_for_the_explicit_delay),
        cmocka_unit_test(test_batch_that_grows_holds_nobody_up),
        cmocka_unit_test(test_batch_that_grows_ends_with_its_target),
        cmocka_unit_test(test_batch_records_and_learned_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
