/*
 * A device with targets in front of a backend that does what a test says.
 *
 * One loop, turned by the test's thread. A fake instance notes who executes and how many at a time;
 * its mode says how it treats a request.
 */
#ifndef TESTS_UNIT_INFER_FAKE_BACKEND_H
#define TESTS_UNIT_INFER_FAKE_BACKEND_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "infer/device.h"
#include "infer/request.h"
#include "os/clock.h"
#include "os/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { INSTANCES_MAX = 4, PATIENCE_MS = 20000 };

enum fake_mode {
    FAKE_ANSWERS,  /* one empty response, finished */
    FAKE_KEEPS,    /* returns; the test finishes `kept` (asynchronous) */
    FAKE_BLOCKS,   /* answers when `gate` is opened */
    FAKE_FORGETS,  /* returns without finishing */
    FAKE_FAILS,    /* finishes with an error */
    FAKE_RESPONDS, /* as `output` says */
};

struct fake_instance {
    struct md_instance instance; /* first */
    enum fake_mode mode;
    atomic_int inside, most_inside, executed, cancelled, resumed;
    _Atomic modeld_request kept;
    pthread_t thread; /* of the last execution */
    struct modeld_output output;
    int32_t respond_code;
};

struct world {
    struct md_budget budget;
    struct md_loop *loop;
    struct md_device *device;
    pthread_mutex_t gate_mutex;
    pthread_cond_t gate_opens;
    bool gate; /* under the mutex */
};

static struct world world;

static inline void gate_set(bool open)
{
    pthread_mutex_lock(&world.gate_mutex);
    world.gate = open;
    pthread_cond_broadcast(&world.gate_opens);
    pthread_mutex_unlock(&world.gate_mutex);
}

static void gate_pass(void)
{
    pthread_mutex_lock(&world.gate_mutex);
    while (!world.gate) {
        pthread_cond_wait(&world.gate_opens, &world.gate_mutex);
    }
    pthread_mutex_unlock(&world.gate_mutex);
}

/* --- backend -------------------- */

static void fake_answer(modeld_request id, int32_t code)
{
    const struct modeld_response empty = {.struct_size = sizeof empty};

    if (code == MODELD_OK) {
        (void)md_request_respond(id, &empty);
    }
    (void)md_request_finish(id, code, code == MODELD_OK ? NULL : "it broke", MODELD_FINISH_FINAL);
}

static void fake_execute(void *handle, const struct modeld_batch *batch)
{
    struct fake_instance *fake = handle;
    const modeld_request id = batch->requests[0];
    int inside = atomic_fetch_add(&fake->inside, 1) + 1;

    if (inside > atomic_load(&fake->most_inside)) {
        atomic_store(&fake->most_inside, inside);
    }
    fake->thread = pthread_self();
    atomic_fetch_add(&fake->executed, 1);
    if (fake->mode == FAKE_BLOCKS) {
        gate_pass();
    }
    atomic_fetch_sub(&fake->inside, 1);
    switch (fake->mode) {
    case FAKE_KEEPS:
        atomic_store(&fake->kept, batch->requests[0]);
        break;
    case FAKE_FORGETS:
        break;
    case FAKE_FAILS:
        fake_answer(batch->requests[0], MODELD_INTERNAL);
        break;
    case FAKE_RESPONDS: {
        const struct modeld_response response = {.struct_size = sizeof response,
                                                 .output_count = 1,
                                                 .output_stride = sizeof fake->output,
                                                 .outputs = &fake->output};
        fake->respond_code = md_request_respond(id, &response);
        (void)md_request_finish(id, MODELD_OK, NULL, MODELD_FINISH_FINAL);
        break;
    }
    default:
        fake_answer(batch->requests[0], MODELD_OK);
    }
}

static void fake_cancel(void *handle, modeld_request request)
{
    struct fake_instance *fake = handle;

    (void)request;
    atomic_fetch_add(&fake->cancelled, 1);
}

static void fake_resume(void *handle, modeld_request request)
{
    struct fake_instance *fake = handle;

    (void)request;
    atomic_fetch_add(&fake->resumed, 1);
}

static const struct modeld_backend_api fake_api = {
    .struct_size = sizeof fake_api,
    .execute = fake_execute,
    .cancel = fake_cancel,
    .resume = fake_resume,
};

/* --- targets -------------------- */

struct fake_target {
    struct md_target target;
    struct fake_instance fakes[INSTANCES_MAX];
    struct md_instance *instances[INSTANCES_MAX];
    size_t count;
};

static inline void target_init(struct fake_target *t, size_t instances, enum fake_mode mode)
{
    struct md_error err;

    memset(t, 0, sizeof *t);
    t->target.model_name = MD_STR("m");
    t->target.version_text = MD_STR("1");
    t->target.any_io = true;
    t->target.inline_mode = MD_INLINE_OFF;
    t->target.scheduler.ops = &md_scheduler_default;
    t->target.device = world.device;
    assert_true(md_target_init(&t->target, 1, &err));
    t->count = instances;
    for (size_t i = 0; i < instances; i++) {
        struct fake_instance *fake = &t->fakes[i];
        fake->mode = mode;
        fake->instance.target = &t->target;
        fake->instance.api = &fake_api;
        fake->instance.handle = fake;
        fake->instance.asynchronous = mode == FAKE_KEEPS;
        t->instances[i] = &fake->instance;
    }
}

static inline void target_attach(struct fake_target *t)
{
    struct md_error err;

    assert_true(md_device_attach(world.device, &t->target, t->instances, t->count, &err));
}

static inline void target_remove(struct fake_target *t)
{
    assert_true(md_device_detach(world.device, &t->target));
    md_target_deinit(&t->target);
}

/* --- requests -------------------- */

struct call {
    struct md_request request;
    struct md_arena arena;
    unsigned responses, ends;
    enum md_reason reason; /* NONE: success */
    char text[128];
};

static void on_response(struct md_request *request, struct md_response *response)
{
    (void)response;
    ((struct call *)request->dialect)->responses++;
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct call *call = request->dialect;

    call->ends++;
    call->reason = error ? error->reason : MD_REASON_NONE;
    if (error) {
        strncpy(call->text, error->text, sizeof call->text - 1);
    }
}

static const struct md_responder responder = {.response = on_response, .end = on_end};

static inline void call_submit(struct call *call, struct fake_target *t)
{
    memset(call, 0, sizeof *call);
    md_request_init(&call->request, &t->target, world.loop, &call->arena, &responder, call);
    md_infer_submit(&call->request);
}

static inline void turn(int timeout_ms)
{
    struct md_error err;

    assert_true(md_loop_run_once(world.loop, timeout_ms, &err));
}

/* Turns the loop until the condition holds; a test that waits for ever fails. */
#define wait_until(condition)                                                                  \
    do {                                                                                       \
        uint64_t patience_ns = md_clock_monotonic_ns() + PATIENCE_MS * (uint64_t)MD_NS_PER_MS; \
        while (!(condition)) {                                                                 \
            assert_true(md_clock_monotonic_ns() < patience_ns);                                \
            turn(1);                                                                           \
        }                                                                                      \
    } while (0)

static inline void call_expect(struct call *call, enum md_reason reason)
{
    wait_until(call->ends);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->reason, reason);
    assert_int_equal(call->responses, reason == MD_REASON_NONE);
    md_arena_deinit(&call->arena);
}

/* --- life -------------------- */

static inline void world_open(size_t executors, uint64_t inline_limit_ns)
{
    struct md_error err;
    const struct md_loop_options loop = {.cpu = -1, .budget = &world.budget};
    const struct md_device_options device = {
        .executor_count = executors, .budget = &world.budget, .inline_limit_ns = inline_limit_ns};

    memset(&world, 0, sizeof world);
    md_os_clock_install();
    pthread_mutex_init(&world.gate_mutex, NULL);
    pthread_cond_init(&world.gate_opens, NULL);
    md_budget_init(&world.budget, 1 << 30);
    assert_true(md_loop_create(&loop, &world.loop, &err));
    assert_true(md_device_create(&device, &world.device, &err));
}

static inline void world_close(void)
{
    md_device_destroy(world.device);
    md_loop_destroy(world.loop);
    pthread_cond_destroy(&world.gate_opens);
    pthread_mutex_destroy(&world.gate_mutex);
    assert_int_equal(world.budget.used_bytes, 0);
}

#endif
