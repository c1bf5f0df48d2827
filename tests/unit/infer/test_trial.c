/*
 * Trials: requests of the server's own on an instance that is not open for others.
 */
#include "unit/infer/fake_rows.h"

#include "base/fault.h"
#include "infer/device_internal.h"
#include "infer/trial.h"

enum { SHORT_MS = 30 };

static struct fake_target one, other;
static struct md_trial_result result;
static struct md_error err;

static const int64_t shape[] = {2, WIDTH};
static float values[2 * WIDTH];
static struct md_tensor input;

static void open_world(struct rows_mode mode, uint64_t patience_ms)
{
    world_open(1, 0);
    md_device_destroy(world.device);
    const struct md_device_options device = {.executor_count = 1,
                                             .budget = &world.budget,
                                             .detach_patience_ns = patience_ms * MD_NS_PER_MS};
    assert_true(md_device_create(&device, &world.device, &err));
    rows_reset(mode);
    rows_init(&one, 1, 8);
    for (size_t i = 0; i < MD_COUNT_OF(values); i++) {
        values[i] = (float)i;
    }
    input = (struct md_tensor){.name = MD_STR("x"),
                               .dtype = MD_DTYPE_FP32,
                               .rank = 2,
                               .shape = shape,
                               .data = (const char *)values,
                               .bytes = sizeof values};
}

static void close_world(void)
{
    rows_free(&one);
    world_close();
}

static bool try_it(bool learns, uint64_t timeout_ms)
{
    memset(&err, 0, sizeof err);
    return md_trial_run(world.device, &one.target, one.instances[0], &input, 1, learns,
                        timeout_ms * MD_NS_PER_MS, &result, &err);
}

static void test_trial_answers_with_copies(void **state)
{
    static const uint32_t memories[] = {MODELD_OUTPUT_INPUT, MODELD_OUTPUT_COPY};
    struct md_batch_record record;
    uint64_t mean_ns, high_ns;
    uint32_t count;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(memories); i++) {
        open_world((struct rows_mode){.memory = memories[i]}, 1000);
        assert_true(try_it(true, 0));
        assert_int_equal(result.output_count, 1);
        assert_true(md_str_eq(result.outputs[0].name, MD_STR("y")));
        assert_int_equal(result.outputs[0].rank, 2);
        assert_memory_equal(result.outputs[0].shape, shape, sizeof shape);
        assert_int_equal(result.outputs[0].bytes, sizeof values);
        assert_memory_equal(result.outputs[0].data, values, sizeof values);
        assert_ptr_not_equal(result.outputs[0].data, values);
        assert_true(result.executed_ns > 0);
        md_trial_result_deinit(&result);
        assert_true(try_it(false, 1000)); /* and is not learned */
        md_trial_result_deinit(&result);
        target_attach(&one);
        assert_int_equal(totals_of(&one).success.count + totals_of(&one).fail.count, 0);
        assert_int_equal(totals_of(&one).execution_count + totals_of(&one).device_ns, 0);
        assert_int_equal(md_target_recent_batches(&one.target, &record, 1), 0);
        assert_true(target_learned(&one.target, 0, 2, &mean_ns, &high_ns, &count));
        assert_int_equal(count, 1);
        struct row_call call; /* it is as good as new */
        row_submit(&call, &one, 2, 0);
        row_expect(&call, MD_REASON_NONE);
        assert_true(md_device_detach(world.device, &one.target));
        close_world();
    }
}

/* As a request is, with a batch dimension or without; what ran is what is learned. */
static void test_trial_is_padded(void **state)
{
    static const int64_t max_batch_sizes[] = {0, ROWS_MAX};
    uint64_t mean_ns, high_ns;
    uint32_t count;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(max_batch_sizes); i++) {
        struct md_batcher_config *config = &one.target.scheduler.batcher.config;
        open_world((struct rows_mode){.memory = MODELD_OUTPUT_COPY}, 1000);
        one.target.max_batch_size = max_batch_sizes[i];
        config->allowed[config->allowed_count++] = 4;
        assert_true(try_it(true, 0));
        assert_int_equal(rows.runs[0].rows, 2);
        assert_int_equal(rows.runs[0].padding, 2);
        assert_memory_equal(result.outputs[0].shape, shape, sizeof shape);
        assert_int_equal(result.outputs[0].bytes, sizeof values);
        assert_memory_equal(result.outputs[0].data, values, sizeof values);
        md_trial_result_deinit(&result);
        target_attach(&one);
        assert_false(target_learned(&one.target, 0, 2, &mean_ns, &high_ns, &count));
        assert_true(target_learned(&one.target, 0, 4, &mean_ns, &high_ns, &count));
        assert_true(md_device_detach(world.device, &one.target));
        close_world();
    }
}

static void test_trial_says_what_went_wrong(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = false}, 1000);
    values[0] = -1;
    assert_false(try_it(true, 0));
    assert_int_equal(err.reason, MD_REASON_BACKEND);
    assert_string_equal(err.text, "poisoned");
    md_trial_result_deinit(&result);
    input.bytes = 5;
    assert_false(try_it(true, 0));
    assert_int_equal(err.reason, MD_REASON_INVALID_ARGUMENT);
    md_trial_result_deinit(&result);
    assert_int_equal(rows.count, 1);
    close_world();
}

static void test_trial_short_of_memory(void **state)
{
    (void)state;
    open_world((struct rows_mode){.memory = MODELD_OUTPUT_COPY}, 1000);
    for (int kind = 0; kind <= MD_FAULT_REGION; kind += MD_FAULT_REGION) {
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            md_fault_arm((enum md_fault_kind)kind, n);
            bool ok = try_it(true, 0);
            delivered = md_fault_disarm((enum md_fault_kind)kind);
            assert_int_equal(ok, !delivered);
            assert_int_equal(err.text[0] == '\0', ok);
            md_trial_result_deinit(&result);
            assert_true(n < 60);
        }
    }
    close_world();
}

static void *open_gate_later(void *arg)
{
    (void)arg;
    md_os_sleep_ms(3 * SHORT_MS);
    gate_set(true);
    return NULL;
}

/* It is asked to stop, and does; then the instance may be used again. */
static void test_trial_out_of_time(void **state)
{
    pthread_t opener;

    (void)state;
    open_world((struct rows_mode){.blocks = true}, 60000);
    assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
    assert_false(try_it(true, SHORT_MS));
    pthread_join(opener, NULL);
    assert_int_equal(err.reason, MD_REASON_DEADLINE);
    assert_int_equal(rows.cancelled, 1);
    assert_false(md_instance_is_stuck(one.instances[0]));
    md_trial_result_deinit(&result);
    assert_true(try_it(true, 0));
    md_trial_result_deinit(&result);
    close_world();
}

/* It does not: the instance is lost, the executor replaced, the others are served. */
static void test_trial_that_does_not_end(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = true}, 10 * SHORT_MS);
    target_init(&other, 1, FAKE_ANSWERS);
    target_attach(&other);
    assert_false(try_it(true, 10 * SHORT_MS)); /* time for it to begin, whatever else runs */
    assert_int_equal(err.reason, MD_REASON_DEADLINE);
    assert_true(md_instance_is_stuck(one.instances[0]));
    md_trial_result_deinit(&result);
    struct call call;
    call_submit(&call, &other);
    call_expect(&call, MD_REASON_NONE);
    gate_set(true);
    wait_until(rows.inside == 0);
    call_submit(&call, &other);
    call_expect(&call, MD_REASON_NONE);
    target_remove(&other);
    md_os_sleep_ms(20);
    md_device_destroy(world.device);
    rows_free(&one);
    md_loop_destroy(world.loop);
}

static void count_release(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* What a backend reads that does not come back stays until it does. */
static void test_trial_keeps_the_inputs_of_a_stuck_one(void **state)
{
    struct md_arena inputs = {.chunks = NULL};
    atomic_int released = 0;

    (void)state;
    open_world((struct rows_mode){.blocks = true}, SHORT_MS);
    assert_true(md_arena_on_reset(&inputs, count_release, &released));
    assert_false(try_it(true, SHORT_MS));
    assert_true(md_instance_is_stuck(one.instances[0]));
    md_trial_release_inputs(world.device, one.instances, 1, &inputs);
    assert_null(inputs.chunks);
    assert_int_equal(released, 0);
    gate_set(true);
    wait_until(released == 1);
    assert_true(md_arena_on_reset(&inputs, count_release, &released));
    md_trial_release_inputs(world.device, one.instances, 1, &inputs); /* it has come back */
    assert_int_equal(released, 2);
    md_trial_result_deinit(&result);
    md_os_sleep_ms(20);
    md_device_destroy(world.device);
    rows_free(&one);
    md_loop_destroy(world.loop);
}

static void test_trial_releases_the_inputs_of_others(void **state)
{
    struct md_arena inputs = {.chunks = NULL};
    atomic_int released = 0;

    (void)state;
    open_world((struct rows_mode){.memory = MODELD_OUTPUT_COPY}, 1000);
    assert_true(md_arena_on_reset(&inputs, count_release, &released));
    assert_true(try_it(true, 0));
    md_trial_release_inputs(world.device, one.instances, 1, &inputs);
    assert_int_equal(released, 1);
    md_trial_result_deinit(&result);
    close_world();
}

/* All executors are busy until it is too late. */
static void test_trial_that_does_not_begin(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = false}, SHORT_MS);
    target_init(&other, 1, FAKE_BLOCKS);
    target_attach(&other);
    struct call call;
    call_submit(&call, &other);
    wait_until(other.fakes[0].inside == 1);
    assert_false(try_it(true, SHORT_MS));
    assert_int_equal(err.reason, MD_REASON_DEADLINE);
    assert_false(md_instance_is_stuck(one.instances[0]));
    md_trial_result_deinit(&result);
    gate_set(true);
    call_expect(&call, MD_REASON_NONE);
    assert_int_equal(rows.count, 0);
    assert_true(try_it(true, 0));
    md_trial_result_deinit(&result);
    target_remove(&other);
    close_world();
}

/* --- other kinds of instances -------------------- */

static bool start_nothing(void *arg, struct md_error *error)
{
    (void)arg;
    (void)error;
    return true;
}

static void stop_nothing(void *arg)
{
    (void)arg;
}

static void test_trial_of_a_bound_instance(void **state)
{
    const struct md_bound_calls bound = {.start = start_nothing, .stop = stop_nothing};

    (void)state;
    open_world((struct rows_mode){.memory = MODELD_OUTPUT_COPY}, 1000);
    assert_true(md_device_bind(world.device, one.instances[0], &bound, &err));
    for (int i = 0; i < 20; i++) {
        assert_true(try_it(true, 0));
        assert_memory_equal(result.outputs[0].data, values, sizeof values);
        md_trial_result_deinit(&result);
    }
    md_device_unbind(world.device, one.instances[0]);
    close_world();
}

static void *finish_later(void *arg)
{
    struct fake_instance *fake = arg;
    modeld_request id;

    while (!(id = atomic_exchange(&fake->kept, 0))) {
        md_os_sleep_ms(1);
    }
    const struct modeld_response empty = {.struct_size = sizeof empty};
    for (int i = 0; i < 40; i++) { /* more than a stream has credit for */
        assert_int_equal(md_request_respond(id, &empty), MODELD_OK);
    }
    (void)md_request_finish(id, MODELD_OK, NULL, MODELD_FINISH_FINAL);
    return NULL;
}

/* Asynchronous and decoupled: the first response is kept. */
static void test_trial_of_a_stream(void **state)
{
    pthread_t thread;

    (void)state;
    open_world((struct rows_mode){.blocks = false}, 1000);
    target_init(&other, 1, FAKE_KEEPS);
    other.target.decoupled = true;
    assert_int_equal(pthread_create(&thread, NULL, finish_later, &other.fakes[0]), 0);
    assert_true(md_trial_run(world.device, &other.target, other.instances[0], NULL, 0, true, 0,
                             &result, &err));
    pthread_join(thread, NULL);
    assert_int_equal(result.output_count, 0);
    md_trial_result_deinit(&result);
    md_target_deinit(&other.target);
    close_world();
}

/* No executor is inside, but the backend ends it at last: after the device's end, too. */
static void test_trial_of_an_asynchronous_one_that_does_not_end(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = false}, SHORT_MS);
    target_init(&other, 1, FAKE_KEEPS);
    assert_false(md_trial_run(world.device, &other.target, other.instances[0], NULL, 0, false,
                              SHORT_MS * (uint64_t)MD_NS_PER_MS, &result, &err));
    assert_int_equal(err.reason, MD_REASON_DEADLINE);
    assert_true(md_instance_is_stuck(other.instances[0]));
    md_trial_result_deinit(&result);
    md_device_destroy(world.device);
    assert_true(world.device->is_given_up); /* it is still there */
    const int32_t code =
        md_request_finish(other.fakes[0].kept, MODELD_OK, NULL, MODELD_FINISH_FINAL);
    assert_int_equal(code, MODELD_OK);
    md_os_thread_join(&world.device->executors[0].thread);
    md_target_deinit(&other.target);
    rows_free(&one);
    md_loop_destroy(world.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trial_answers_with_copies),
        cmocka_unit_test(test_trial_is_padded),
        cmocka_unit_test(test_trial_says_what_went_wrong),
        cmocka_unit_test(test_trial_short_of_memory),
        cmocka_unit_test(test_trial_out_of_time),
        cmocka_unit_test(test_trial_that_does_not_end),
        cmocka_unit_test(test_trial_keeps_the_inputs_of_a_stuck_one),
        cmocka_unit_test(test_trial_releases_the_inputs_of_others),
        cmocka_unit_test(test_trial_that_does_not_begin),
        cmocka_unit_test(test_trial_of_a_bound_instance),
        cmocka_unit_test(test_trial_of_a_stream),
        cmocka_unit_test(test_trial_of_an_asynchronous_one_that_does_not_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
