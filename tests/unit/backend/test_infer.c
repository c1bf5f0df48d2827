/*
 * Requests through the device to built-in backends: inline, on executors, streamed, cancelled,
 * refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backend/builtin.h"
#include "backend/host.h"
#include "base/alloc.h"
#include "infer/device.h"
#include "os/clock.h"
#include "os/thread.h"

struct world {
    struct md_budget budget;
    struct md_loop *loop;
    struct md_device *device;
    struct md_target *target;
    struct md_instance *instance;
    const struct modeld_backend_api *api;
    void *model;
    struct md_arena arenas[256];
    size_t arena_count;
};

/* What a responder saw. */
struct seen {
    size_t responses, ends;
    int32_t sum;
    bool failed;
    enum md_reason reason;
};

static void on_response(struct md_request *request, struct md_response *response)
{
    struct seen *seen = request->dialect;
    int32_t value = 0;

    seen->responses++;
    if (response->output_count && response->outputs[0].bytes >= sizeof value) {
        memcpy(&value, response->outputs[0].data, sizeof value);
    }
    seen->sum += value;
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct seen *seen = request->dialect;

    seen->ends++;
    seen->failed = error != NULL;
    seen->reason = error ? error->reason : MD_REASON_NONE;
}

static const struct md_responder responder = {.response = on_response, .end = on_end};

static void world_open(struct world *w, const struct modeld_backend_api *api, const char *delay_ms,
                       bool decoupled, enum md_inline_mode mode)
{
    const struct modeld_option option = {"execute_delay_ms", delay_ms};
    const struct modeld_model_args args = {.struct_size = sizeof args,
                                           .name = "m",
                                           .parameters = &option,
                                           .parameter_count = 1,
                                           .parameter_stride = sizeof option};
    const struct modeld_instance_args instance_args = {.struct_size = sizeof instance_args,
                                                       .name = "m"};
    char text[256];
    struct modeld_text sentence = {text, sizeof text};
    struct md_error err;

    md_os_clock_install();
    memset(w, 0, sizeof *w);
    md_budget_init(&w->budget, 1 << 24);
    const struct md_loop_options loop = {.cpu = -1, .budget = &w->budget, .cache_bytes = 1 << 20};
    const struct md_device_options device = {
        .executor_count = 2, .budget = &w->budget, .inline_limit_ns = 1000000000};
    assert_true(md_loop_create(&loop, &w->loop, &err));
    assert_true(md_device_create(&device, &w->device, &err));
    w->api = api;
    assert_int_equal(api->model_create(NULL, &args, &w->model, &sentence), MODELD_OK);
    w->target = md_alloc_aligned(MD_CACHE_LINE, sizeof *w->target);
    memset(w->target, 0, sizeof *w->target);
    w->target->model_name = MD_STR("m");
    w->target->version_text = MD_STR("1");
    w->target->version = 1;
    w->target->any_io = true;
    w->target->decoupled = decoupled;
    w->target->inline_mode = mode;
    w->target->inline_safe = mode != MD_INLINE_OFF;
    w->target->scheduler.ops = &md_scheduler_default;
    w->target->device = w->device;
    assert_true(md_target_init(w->target, 1, &err));
    w->instance = md_calloc(1, sizeof *w->instance);
    w->instance->target = w->target;
    w->instance->api = api;
    w->instance->asynchronous = api->flags & MODELD_BACKEND_ASYNCHRONOUS;
    assert_int_equal(
        api->instance_create(w->model, &instance_args, &w->instance->handle, &sentence), MODELD_OK);
    assert_true(md_device_attach(w->device, w->target, &w->instance, 1, &err));
}

static void turn_until(struct world *w, const size_t *count, size_t wanted)
{
    struct md_error err;

    for (int i = 0; i < 5000 && *count < wanted; i++) {
        assert_true(md_loop_run_once(w->loop, 1, &err));
    }
    assert_int_equal(*count, wanted);
}

static void world_close(struct world *w)
{
    for (size_t i = 0; i < w->arena_count; i++) {
        md_arena_deinit(&w->arenas[i]);
    }
    assert_true(md_device_detach(w->device, w->target));
    w->api->instance_destroy(w->instance->handle);
    w->api->model_destroy(w->model);
    md_free(w->instance);
    md_target_deinit(w->target);
    md_free(w->target);
    md_device_destroy(w->device);
    md_loop_destroy(w->loop);
}

static struct md_request *make(struct world *w, const int32_t *values, size_t count,
                               struct seen *seen)
{
    /* One for each request: while it is submitted, its arena belongs to the execution. */
    struct md_arena *arena = &w->arenas[w->arena_count++];
    struct md_request *request = md_arena_calloc(arena, 1, sizeof *request);
    struct md_tensor *input = md_arena_calloc(arena, 1, sizeof *input);
    int64_t *shape = md_arena_alloc(arena, sizeof *shape);
    struct md_error err;

    md_request_init(request, w->target, w->loop, arena, &responder, seen);
    *shape = (int64_t)count;
    *input = (struct md_tensor){.name = MD_STR("IN"),
                                .dtype = MD_DTYPE_INT32,
                                .rank = 1,
                                .shape = shape,
                                .data = (const char *)values,
                                .bytes = count * sizeof *values};
    request->inputs = input;
    request->input_count = 1;
    assert_true(md_request_check(request, &err));
    return request;
}

static void test_infer_runs_inline(void **state)
{
    static const int32_t value = 7;
    struct world w;
    struct seen seen = {0};

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "0", false, MD_INLINE_ON);
    md_infer_submit(make(&w, &value, 1, &seen));
    assert_int_equal(seen.ends, 1); /* before submit returned */
    assert_int_equal(seen.responses, 1);
    assert_int_equal(seen.sum, 7);
    world_close(&w);
}

static void test_infer_runs_inline_once_it_proved_to_be_quick(void **state)
{
    static const int32_t value = 7;
    struct world w;
    struct seen seen = {0};

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "0", false, MD_INLINE_AUTO);
    md_infer_submit(make(&w, &value, 1, &seen));
    assert_int_equal(seen.ends, 0);
    turn_until(&w, &seen.ends, 1);
    bool ran_inline = false;
    while (!ran_inline && w.arena_count < MD_COUNT_OF(w.arenas)) {
        /* the executor may still be about to give the instance back */
        size_t before = seen.ends;
        md_infer_submit(make(&w, &value, 1, &seen));
        ran_inline = seen.ends == before + 1;
        turn_until(&w, &seen.ends, before + 1);
    }
    assert_true(ran_inline);
    world_close(&w);
}

static void test_infer_runs_on_executors_in_order(void **state)
{
    enum { COUNT = 200 };
    static int32_t values[COUNT];
    struct world w;
    struct seen seen = {0};
    struct md_target_totals totals;

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "0", false, MD_INLINE_OFF);
    for (int32_t i = 0; i < COUNT; i++) {
        values[i] = i;
        md_infer_submit(make(&w, &values[i], 1, &seen));
    }
    turn_until(&w, &seen.ends, COUNT);
    assert_int_equal(seen.responses, COUNT);
    assert_int_equal(seen.sum, COUNT * (COUNT - 1) / 2);
    md_target_sum(w.target, &totals);
    assert_int_equal(totals.success.count, COUNT);
    assert_int_equal(totals.execution_count, COUNT);
    assert_int_equal(totals.pending, 0);
    world_close(&w);
}

static bool start_nothing(void *arg, struct md_error *err)
{
    (void)arg;
    (void)err;
    return true;
}

static void stop_nothing(void *arg)
{
    (void)arg;
}

/* A wake-up for executors that a bound one took would leave the request waiting for ever. */
static void test_infer_bound_executors_take_no_wake_up(void **state)
{
    static const struct md_bound_calls calls = {.start = start_nothing, .stop = stop_nothing};
    static const int32_t value = 1;
    struct md_target quiet = {.scheduler.ops = &md_scheduler_default};
    struct md_instance bound = {.target = &quiet};
    struct world w;
    struct seen seen = {0};
    struct md_error err;

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "0", false, MD_INLINE_OFF);
    assert_true(md_device_bind(w.device, &bound, &calls, &err));
    for (size_t i = 0; i < 100; i++) {
        md_infer_submit(make(&w, &value, 1, &seen));
        turn_until(&w, &seen.ends, i + 1);
    }
    md_device_unbind(w.device, &bound);
    world_close(&w);
}

static void test_infer_streams_beyond_the_credit(void **state)
{
    enum { COUNT = 500 };
    static int32_t values[COUNT];
    struct world w;
    struct seen seen = {0};

    (void)state;
    for (int32_t i = 0; i < COUNT; i++) {
        values[i] = i;
    }
    world_open(&w, md_builtin_repeat_entry(&md_host_api), "0", true, MD_INLINE_OFF);
    md_infer_submit(make(&w, values, COUNT, &seen));
    turn_until(&w, &seen.ends, 1);
    assert_false(seen.failed);
    assert_int_equal(seen.responses, COUNT);
    assert_int_equal(seen.sum, COUNT * (COUNT - 1) / 2);
    world_close(&w);
}

static void test_infer_streams_nothing(void **state)
{
    static const int32_t none = 0;
    struct world w;
    struct seen seen = {0};

    (void)state;
    world_open(&w, md_builtin_repeat_entry(&md_host_api), "0", true, MD_INLINE_OFF);
    md_infer_submit(make(&w, &none, 0, &seen));
    turn_until(&w, &seen.ends, 1);
    assert_false(seen.failed);
    assert_int_equal(seen.responses, 0);
    world_close(&w);
}

static void test_infer_cancels_waiting_and_running(void **state)
{
    static const int32_t value = 1;
    struct world w;
    struct seen running = {0}, waiting = {0};

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "10000", false, MD_INLINE_OFF);
    struct md_request *first = make(&w, &value, 1, &running);
    struct md_request *second = make(&w, &value, 1, &waiting);
    md_infer_submit(first);
    md_infer_submit(second);
    while (!(atomic_load(&first->state) & MD_REQUEST_RUNNING)) {
        md_os_sleep_ms(1);
    }
    md_infer_cancel(second);
    turn_until(&w, &waiting.ends, 1);
    assert_true(waiting.failed);
    assert_int_equal(waiting.reason, MD_REASON_CANCELLED);
    assert_int_equal(running.ends, 0);
    md_infer_cancel(first); /* the backend asks is_cancelled while it sleeps */
    turn_until(&w, &running.ends, 1);
    assert_true(running.failed);
    assert_int_equal(running.reason, MD_REASON_CANCELLED);
    world_close(&w);
}

static void test_infer_refuses_beyond_the_queue_limit(void **state)
{
    static const int32_t value = 1;
    struct world w;
    struct seen seen[4] = {0};

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "50", false, MD_INLINE_OFF);
    w.target->scheduler.batcher.one.policy.max_size = 2;
    struct md_request *first = make(&w, &value, 1, &seen[0]);
    md_infer_submit(first);
    while (!(atomic_load(&first->state) & MD_REQUEST_RUNNING)) {
        md_os_sleep_ms(1);
    }
    for (size_t i = 1; i < 4; i++) {
        md_infer_submit(make(&w, &value, 1, &seen[i]));
    }
    assert_int_equal(seen[3].ends, 1);
    assert_int_equal(seen[3].reason, MD_REASON_QUEUE_FULL);
    turn_until(&w, &seen[2].ends, 1);
    assert_false(seen[0].failed || seen[1].failed || seen[2].failed);
    world_close(&w);
}

static void test_infer_fails_what_waits_when_the_target_is_detached(void **state)
{
    static const int32_t value = 1;
    struct world w;
    struct seen seen[3] = {0};
    struct md_error err;

    (void)state;
    world_open(&w, md_builtin_identity_entry(&md_host_api), "30", false, MD_INLINE_OFF);
    for (size_t i = 0; i < 3; i++) {
        md_infer_submit(make(&w, &value, 1, &seen[i]));
    }
    assert_true(md_device_detach(w.device, w.target));
    turn_until(&w, &seen[2].ends, 1);
    assert_int_equal(seen[2].reason, MD_REASON_EXITING);
    struct seen late = {0};
    md_infer_submit(make(&w, &value, 1, &late));
    assert_int_equal(late.reason, MD_REASON_NOT_READY);
    assert_true(
        md_device_attach(w.device, w.target, &w.instance, 1, &err)); /* as world_close expects */
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_infer_runs_inline),
        cmocka_unit_test(test_infer_runs_inline_once_it_proved_to_be_quick),
        cmocka_unit_test(test_infer_runs_on_executors_in_order),
        cmocka_unit_test(test_infer_bound_executors_take_no_wake_up),
        cmocka_unit_test(test_infer_streams_beyond_the_credit),
        cmocka_unit_test(test_infer_streams_nothing),
        cmocka_unit_test(test_infer_cancels_waiting_and_running),
        cmocka_unit_test(test_infer_refuses_beyond_the_queue_limit),
        cmocka_unit_test(test_infer_fails_what_waits_when_the_target_is_detached),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
