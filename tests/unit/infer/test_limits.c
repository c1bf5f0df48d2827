/*
 * Limits of time: in the queue, by deadline, of an execution; instances out of service, and targets
 * that are detached while one is.
 */
#include "unit/infer/fake_rows.h"

#include "base/fault.h"
#include "infer/device_internal.h"

/* What begins before LONG_MS are over begins in time, on a busy machine, too. */
enum { MANY = 64, SHORT_MS = 30, LONG_MS = 500 };

static struct fake_target one, other;
static struct row_call calls[MANY + 1];

static uint64_t in_ms(unsigned ms)
{
    return md_clock_monotonic_ns() + ms * (uint64_t)MD_NS_PER_MS;
}

static void open_world(size_t executors, struct rows_mode mode)
{
    world_open(executors, 0);
    rows_reset(mode);
    rows_init(&one, 1, 8);
}

static void close_world(void)
{
    rows_remove(&one);
    world_close();
}

static void occupy(struct row_call *call)
{
    unsigned before = rows_count();

    row_submit(call, &one, 1, 1000);
    wait_until(rows_count() == before + 1);
}

/* --- in the queue -------------------- */

static void test_limit_of_the_time_in_the_queue(void **state)
{
    enum { POLICY_MS = 40, OWN_MS = 15 };

    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    one.target.scheduler.batcher.one.policy = (struct md_queue_policy){
        .timeout_ns = POLICY_MS * (uint64_t)MD_NS_PER_MS, .allows_override = true};
    target_attach(&one);
    occupy(&calls[0]);
    uint64_t begin_ns = md_clock_monotonic_ns();
    row_submit(&calls[1], &one, 1, 0);
    row_make(&calls[2], &one, 1, 0);
    calls[2].request.timeout_ns = OWN_MS * (uint64_t)MD_NS_PER_MS;
    md_infer_submit(&calls[2].request);
    row_expect(&calls[2], MD_REASON_QUEUE_TIMEOUT);
    assert_string_equal(calls[2].text, "Request timeout expired");
    assert_true(md_clock_monotonic_ns() - begin_ns >= OWN_MS * (uint64_t)MD_NS_PER_MS);
    row_expect(&calls[1], MD_REASON_QUEUE_TIMEOUT);
    assert_true(md_clock_monotonic_ns() - begin_ns >= POLICY_MS * (uint64_t)MD_NS_PER_MS);
    assert_int_equal(totals_of(&one).pending, 0);
    gate_set(true);
    row_expect(&calls[0], MD_REASON_NONE); /* its limit was in the queue alone */
    assert_int_equal(calls[1].lates + calls[2].lates, 0);
    close_world();
}

/* Behind the others, not given up; a deadline still counts. */
static void test_limit_delays_where_the_policy_says_so(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    one.target.scheduler.batcher.config.max_rows = 1;
    one.target.scheduler.batcher.one.policy = (struct md_queue_policy){
        .timeout_ns = 5 * (uint64_t)MD_NS_PER_MS, .delays = true, .allows_override = true};
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 2; i++) {
        row_make(&calls[i], &one, 1, (float)i);
        calls[i].request.deadline_ns = i == 2 ? in_ms(SHORT_MS) : 0;
        md_infer_submit(&calls[i].request);
    }
    md_os_sleep_ms(10);
    row_expect(&calls[2], MD_REASON_DEADLINE);
    row_submit(&calls[3], &one, 1, 3);
    assert_int_equal(calls[1].ends, 0);
    gate_set(true);
    row_expect(&calls[1], MD_REASON_NONE);
    row_expect(&calls[3], MD_REASON_NONE);
    row_expect(&calls[0], MD_REASON_NONE);
    assert_int_equal(rows_count(), 3);
    close_world();
}

static void test_limit_deadline_in_the_queue(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    target_attach(&one);
    row_make(&calls[0], &one, 1, 0);
    calls[0].request.deadline_ns = md_clock_monotonic_ns() - 1;
    md_infer_submit(&calls[0].request);
    assert_int_equal(calls[0].ends, 1); /* at once */
    row_expect(&calls[0], MD_REASON_DEADLINE);
    occupy(&calls[0]);
    one.target.deadline_default_ns = SHORT_MS * (uint64_t)MD_NS_PER_MS;
    row_submit(&calls[1], &one, 1, 0); /* the target's */
    row_make(&calls[2], &one, 1, 0);
    calls[2].request.deadline_ns = in_ms(3600 * 1000); /* its own */
    md_infer_submit(&calls[2].request);
    row_expect(&calls[1], MD_REASON_DEADLINE);
    assert_int_equal(calls[2].ends, 0);
    gate_set(true);
    row_expect(&calls[2], MD_REASON_NONE);
    row_expect(&calls[0], MD_REASON_NONE);
    assert_int_equal(totals_of(&one).failures[MD_FAILURE_REJECTED], 2);
    close_world();
}

/* What is known to take longer is refused when it comes; without a deadline nothing is. */
static void test_limit_deadline_that_cannot_be_met(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.busy_us = 20000});
    target_attach(&one);
    for (size_t i = 0; i < 3; i++) {
        row_submit(&calls[0], &one, 1, 0);
        row_expect(&calls[0], MD_REASON_NONE);
    }
    for (size_t i = 0; i < 3; i++) {
        row_make(&calls[i], &one, 1, 0);
        calls[i].request.deadline_ns = i == 2 ? 0 : in_ms(i ? 2000 : 5);
        md_infer_submit(&calls[i].request);
        assert_int_equal(calls[i].ends, i == 0);
    }
    row_expect(&calls[0], MD_REASON_DEADLINE_UNREACHABLE);
    row_expect(&calls[1], MD_REASON_NONE);
    row_expect(&calls[2], MD_REASON_NONE);
    close_world();
}

/* Behind others on the only instance: the forecast counts them. */
static void test_limit_forecast_counts_who_is_ahead(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.busy_us = 10000});
    one.target.scheduler.batcher.config.max_rows = 1;
    target_attach(&one);
    for (size_t i = 0; i < 3; i++) {
        row_submit(&calls[0], &one, 1, 0);
        row_expect(&calls[0], MD_REASON_NONE);
    }
    for (size_t i = 0; i < 20; i++) {
        row_submit(&calls[i], &one, 1, 0);
    }
    row_make(&calls[20], &one, 1, 0);
    calls[20].request.deadline_ns = in_ms(100);
    md_infer_submit(&calls[20].request);
    row_expect(&calls[20], MD_REASON_DEADLINE_UNREACHABLE);
    for (size_t i = 0; i < 20; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    close_world();
}

/* --- while it runs -------------------- */

static void test_limit_deadline_while_it_runs(void **state)
{
    (void)state;
    for (int is_patient = 0; is_patient < 2; is_patient++) { /* the dialect can only wait */
        open_world(1, (struct rows_mode){.blocks = true});
        target_attach(&one);
        row_make(&calls[0], &one, 1, 0);
        calls[0].request.deadline_ns = in_ms(LONG_MS);
        calls[0].request.responder = is_patient ? &patient_responder : &row_responder;
        md_infer_submit(&calls[0].request);
        wait_until(rows.cancelled == 1); /* the backend is asked to stop */
        assert_true(md_request_is_cancelled(calls[0].request.handle));
        assert_int_equal(calls[0].ends, 0);
        assert_int_equal(calls[0].lates, !is_patient);
        assert_int_equal(totals_of(&one).fail.count, !is_patient);
        assert_int_equal(one.target.in_service, 1);
        md_infer_cancel(&calls[0].request); /* the dialect gives it up: nothing more to say */
        turn(10);
        gate_set(true);
        wait_until(calls[0].ends);
        turn(10);
        assert_int_equal(calls[0].ends, 1);
        assert_int_equal(calls[0].responses, 0);
        assert_int_equal(calls[0].reason, MD_REASON_DEADLINE);
        assert_int_equal(rows.cancelled, 1);
        assert_true(is_patient || calls[0].late_reason == MD_REASON_DEADLINE);
        assert_int_equal(totals_of(&one).fail.count, 1);
        assert_int_equal(totals_of(&one).success.count, 0);
        assert_int_equal(totals_of(&one).execution_count, 0);
        md_arena_deinit(&calls[0].arena);
        close_world();
    }
}

/* Others do not wait for the answer of one that has it, or that nobody waits for, where answers
 * keep their order; those before it do count. */
static void test_limit_late_answer_does_not_hold_up_the_order(void **state)
{
    (void)state;
    for (int leaves = 0; leaves < 2; leaves++) {
        struct call first, second, third;
        struct call *all[] = {&first, &second, &third};
        modeld_request ids[3];

        world_open(1, 0);
        target_init(&one, 3, FAKE_KEEPS);
        one.target.scheduler.keeps_order = true;
        target_attach(&one);
        for (size_t i = 0; i < 3; i++) {
            memset(all[i], 0, sizeof *all[i]);
            md_request_init(&all[i]->request, &one.target, world.loop, &all[i]->arena, &responder,
                            all[i]);
            all[i]->request.deadline_ns = i == 1 && !leaves ? in_ms(LONG_MS) : 0;
            md_infer_submit(&all[i]->request);
            ids[i] = 0;
            for (size_t k = 0; !ids[i]; k = (k + 1) % 3) {
                ids[i] = atomic_exchange(&one.fakes[k].kept, 0);
                turn(1);
            }
        }
        if (leaves) {
            md_infer_cancel(&second.request);
        }
        fake_answer(ids[2], MODELD_OK);
        wait_until(one.fakes[0].cancelled + one.fakes[1].cancelled + one.fakes[2].cancelled == 1);
        turn(10);
        assert_int_equal(third.ends, 0); /* behind the first */
        fake_answer(ids[0], MODELD_OK);
        call_expect(&first, MD_REASON_NONE);
        call_expect(&third, MD_REASON_NONE);
        assert_int_equal(second.ends, 0);
        fake_answer(ids[1], MODELD_OK);
        wait_until(second.ends);
        assert_int_equal(second.reason, leaves ? MD_REASON_NONE : MD_REASON_DEADLINE);
        md_arena_deinit(&second.arena);
        target_remove(&one);
        world_close();
    }
}

/* In time for one member of a batch, too late for another. */
static void test_limit_deadline_of_one_member(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 3; i++) {
        row_make(&calls[i], &one, 1, (float)(10 * i));
        calls[i].request.deadline_ns = i == 2 ? in_ms(SHORT_MS + 200) : 0;
        md_infer_submit(&calls[i].request);
    }
    gate_set(true);
    wait_until(calls[0].ends);
    gate_set(false);
    bool joint = rows_count() == 2; /* else the gate was closed too late, which proves nothing */
    if (joint && rows.inside == 1) {
        wait_until(calls[2].lates);
        assert_int_equal(calls[1].ends + calls[3].ends, 0);
    }
    gate_set(true);
    for (size_t i = 0; i <= 3; i++) {
        wait_until(calls[i].ends);
        assert_int_equal(calls[i].reason, calls[i].lates ? MD_REASON_DEADLINE : MD_REASON_NONE);
        md_arena_deinit(&calls[i].arena);
    }
    assert_int_equal(totals_of(&one).execution_count, 2);
    close_world();
}

/* The run is counted by one that it answered, not by one that was late, even if the backend is done
 * with that first. */
static void test_limit_late_member_does_not_count_the_run(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.keeps = true, .memory = MODELD_OUTPUT_COPY});
    one.fakes[0].instance.asynchronous = true;
    target_attach(&one);
    occupy(&calls[2]);
    for (size_t i = 0; i < 2; i++) {
        row_make(&calls[i], &one, 4, (float)i);
        calls[i].request.deadline_ns = i ? 0 : in_ms(LONG_MS);
        md_infer_submit(&calls[i].request);
    }
    rows_answer(&rows.kept_batch, 0, 0);
    row_expect(&calls[2], MD_REASON_NONE);
    wait_until(calls[0].lates);
    assert_int_equal(rows_count(), 2);
    assert_int_equal(rows.runs[1].requests, 2);
    fake_answer(rows.kept[0], MODELD_OK);
    wait_until(calls[0].ends);
    assert_int_equal(totals_of(&one).execution_count, 1);
    rows_answer(&rows.kept_batch, 1, 4);
    row_expect(&calls[1], MD_REASON_NONE);
    assert_int_equal(calls[0].reason, MD_REASON_DEADLINE);
    assert_int_equal(totals_of(&one).execution_count, 2);
    md_arena_deinit(&calls[0].arena);
    close_world();
}

static void set_timeout(unsigned ms)
{
    one.target.execution_timeout_ns = ms * (uint64_t)MD_NS_PER_MS;
}

/* The request is answered, the instance out of service, others go on; when the backend returns, all
 * is as before. */
static void test_limit_execution_takes_too_long(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    set_timeout(SHORT_MS);
    target_init(&other, 1, FAKE_ANSWERS);
    target_attach(&other);
    target_attach(&one);
    assert_int_equal(totals_of(&one).instances, 1);
    occupy(&calls[0]);
    row_submit(&calls[1], &one, 1, 0); /* waits */
    wait_until(calls[0].lates);
    assert_int_equal(calls[0].late_reason, MD_REASON_BACKEND);
    assert_int_equal(totals_of(&one).out_of_service, 1);
    assert_int_equal(totals_of(&one).instances, 1);
    assert_int_equal(one.target.in_service, 0);
    row_submit(&calls[2], &one, 1, 0);
    row_expect(&calls[2], MD_REASON_NOT_READY);
    for (int i = 0; i < 5; i++) { /* the only executor is gone, another has come */
        struct call call;
        call_submit(&call, &other);
        call_expect(&call, MD_REASON_NONE);
    }
    row_expect(&calls[1], MD_REASON_NOT_READY); /* it waited as long as an execution may take */
    gate_set(true);
    wait_until(calls[0].ends);
    assert_int_equal(calls[0].code, MD_CODE_DEADLINE_EXCEEDED);
    wait_until(one.target.in_service == 1);
    assert_int_equal(totals_of(&one).out_of_service, 0);
    md_arena_deinit(&calls[0].arena);
    assert_int_equal(one.fakes[0].instance.time.known, 0); /* a hang is no measure */
    for (int round = 0; round < 3;
         round++) { /* with one executor too many, which rests, or comes */
        row_submit(&calls[0], &one, 1, 0);
        row_expect(&calls[0], MD_REASON_NONE);
        gate_set(false);
        occupy(&calls[0]);
        wait_until(calls[0].lates);
        struct call call;
        call_submit(&call, &other);
        call_expect(&call, MD_REASON_NONE);
        gate_set(true);
        wait_until(calls[0].ends && one.target.in_service == 1);
        md_arena_deinit(&calls[0].arena);
    }
    assert_int_equal(totals_of(&one).success.count, 3);
    target_remove(&other);
    close_world();
}

/* All members of the batch are told; those without a deadline, too. */
static void test_limit_execution_of_a_batch(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    set_timeout(200);
    target_attach(&one);
    gate_set(true);
    row_submit(&calls[0], &one, 1, 0);
    row_expect(&calls[0], MD_REASON_NONE);
    gate_set(false);
    one.target.scheduler.batcher.config.delay_ns = LONG_MS * (uint64_t)MD_NS_PER_MS;
    for (size_t i = 0; i < 3; i++) {
        row_submit(&calls[i], &one, 1, (float)i);
    }
    wait_until(calls[0].lates + calls[1].lates + calls[2].lates == 3);
    assert_int_equal(rows_count(), 2);
    assert_int_equal(totals_of(&one).failures[MD_FAILURE_BACKEND], 3);
    gate_set(true);
    for (size_t i = 0; i < 3; i++) {
        wait_until(calls[i].ends);
        md_arena_deinit(&calls[i].arena);
    }
    close_world();
}

/* A batch's run hangs and fails; run alone, one of it hangs, too: again another executor comes. */
static void test_limit_execution_again_takes_too_long(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true, .fails_joint = true});
    target_init(&other, 1, FAKE_ANSWERS);
    target_attach(&other);
    one.target.scheduler.batcher.config.max_rows = 2;
    one.target.scheduler.batcher.config.delay_ns = LONG_MS * (uint64_t)MD_NS_PER_MS;
    target_attach(&one);
    row_submit(&calls[1], &one, 1, 1); /* without a limit, for it is to be there afterwards */
    set_timeout(SHORT_MS);
    row_submit(&calls[0], &one, 1, 0);
    wait_until(calls[0].lates);
    rows.mode.busy_us = 4 * LONG_MS * 1000; /* of each run */
    gate_set(true);
    wait_until(rows_count() == 2);
    md_device_suspend(calls[1].request.instance);
    for (int i = 0; i < 3; i++) {
        struct call call;
        call_submit(&call, &other);
        call_expect(&call, MD_REASON_NONE);
    }
    assert_int_equal(calls[1].ends, 0);
    row_expect(&calls[1], MD_REASON_NONE);
    wait_until(calls[0].ends && one.target.in_service == 1);
    assert_int_equal(rows.runs[0].requests, 2);
    md_arena_deinit(&calls[0].arena);
    target_remove(&other);
    close_world();
}

/* Whether a request can be in time is asked of the fastest instance that is in service. */
static void test_limit_deadline_for_the_fastest_instance(void **state)
{
    struct md_instance *instances[3];

    (void)state;
    world_open(1, 0);
    rows_reset((struct rows_mode){0});
    rows_init(&one, 3, 8);
    target_attach(&one);
    for (unsigned i = 0; i < 3; i++) {
        instances[i] = one.target.instances[i];
        md_learned_time_add(&instances[i]->time, 1, (3 - i) * (uint64_t)MD_NS_PER_MS);
    }
    assert_ptr_equal(md_dispatch_fastest(&one.target), &instances[2]->time);
    instances[2]->is_suspended = true;
    assert_ptr_equal(md_dispatch_fastest(&one.target), &instances[1]->time);
    instances[0]->is_suspended = true;
    assert_ptr_equal(md_dispatch_fastest(&one.target), &instances[1]->time);
    instances[0]->is_suspended = instances[2]->is_suspended = false;
    close_world();
}

/* Neither the deadline nor the client's leaving keeps a hanging instance in service. */
static void test_limit_execution_of_who_is_gone(void **state)
{
    (void)state;
    for (int leaves = 0; leaves < 2; leaves++) {
        open_world(1, (struct rows_mode){.blocks = true});
        set_timeout(LONG_MS + SHORT_MS);
        target_attach(&one);
        row_make(&calls[0], &one, 1, 0);
        calls[0].request.deadline_ns = leaves ? 0 : in_ms(LONG_MS);
        md_infer_submit(&calls[0].request);
        wait_until(rows_count() == 1);
        if (leaves) {
            md_infer_cancel(&calls[0].request);
        }
        wait_until(one.target.out_of_service == 1);
        assert_int_equal(calls[0].lates, !leaves);
        gate_set(true);
        wait_until(calls[0].ends);
        md_arena_deinit(&calls[0].arena);
        close_world();
    }
}

static void test_limit_without_memory_for_timers(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    target_attach(&one);
    occupy(&calls[0]);
    md_fault_arm_lasting(MD_FAULT_ALLOC, 0);
    for (size_t i = 1; i < MANY; i++) { /* the heap of timers has to grow for them */
        row_make(&calls[i], &one, 1, 0);
        calls[i].request.deadline_ns = in_ms(3600 * 1000);
        md_infer_submit(&calls[i].request);
    }
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    gate_set(true);
    unsigned refused = 0;
    row_expect(&calls[0], MD_REASON_NONE);
    for (size_t i = 1; i < MANY; i++) {
        wait_until(calls[i].ends);
        refused += calls[i].reason == MD_REASON_OUT_OF_MEMORY;
        assert_true(calls[i].reason == MD_REASON_NONE ||
                    calls[i].reason == MD_REASON_OUT_OF_MEMORY);
        md_arena_deinit(&calls[i].arena);
    }
    assert_true(refused > 0);
    close_world();
}

/* --- detaching -------------------- */

static void open_patient(unsigned patience_ms)
{
    struct md_error err;
    const struct md_device_options device = {.executor_count = 1,
                                             .budget = &world.budget,
                                             .detach_patience_ns =
                                                 patience_ms * (uint64_t)MD_NS_PER_MS};

    world_open(1, 0);
    md_device_destroy(world.device);
    assert_true(md_device_create(&device, &world.device, &err));
    rows_reset((struct rows_mode){.blocks = true});
    rows_init(&one, 1, 8);
    set_timeout(SHORT_MS);
    target_attach(&one);
}

static void *open_gate_later(void *arg)
{
    (void)arg;
    md_os_sleep_ms(4 * SHORT_MS);
    gate_set(true);
    return NULL;
}

/* Out of service, it comes back while the detaching thread waits: all is well. */
static void test_limit_detach_waits_for_what_comes_back(void **state)
{
    pthread_t opener;

    (void)state;
    open_patient(60000);
    occupy(&calls[0]);
    assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
    assert_true(md_device_detach(world.device, &one.target)); /* nobody turns the loop */
    pthread_join(opener, NULL);
    wait_until(calls[0].ends);
    md_arena_deinit(&calls[0].arena);
    rows_free(&one);
    world_close();
}

/* It does not: the detaching thread says so, after a while and no earlier. */
static void test_limit_detach_of_what_hangs(void **state)
{
    (void)state;
    open_patient(SHORT_MS);
    occupy(&calls[0]);
    row_submit(&calls[1], &one, 1, 0);
    uint64_t begin_ns = md_clock_monotonic_ns();
    assert_false(md_device_detach(world.device, &one.target));
    assert_true(md_clock_monotonic_ns() - begin_ns >= SHORT_MS * (uint64_t)MD_NS_PER_MS);
    row_expect(&calls[1], MD_REASON_EXITING);
    row_submit(&calls[2], &one, 1, 0);
    row_expect(&calls[2], MD_REASON_NOT_READY);
    wait_until(calls[0].lates);
    gate_set(true); /* late, it comes back to a target that nobody uses */
    wait_until(calls[0].ends && rows.inside == 0);
    wait_until(one.target.out_of_service == 0);
    md_arena_deinit(&calls[0].arena);
    md_device_destroy(world.device);
    rows_free(&one);
    md_loop_destroy(world.loop);
}

/* An executor that never returns does not keep the device from being given up. */
static void test_limit_device_ends_without_what_hangs(void **state)
{
    (void)state;
    open_patient(1);
    occupy(&calls[0]);
    assert_false(md_device_detach(world.device, &one.target));
    struct md_device *device = world.device;
    md_device_destroy(device); /* returns, and leaves it in memory */
    gate_set(true);            /* the loop would be gone by now: nothing is delivered any more */
    wait_until(one.target.out_of_service == 0);
    md_os_sleep_ms(20);
    turn(0);
    assert_int_equal(calls[0].ends, 0);
    md_arena_deinit(&calls[0].arena);
    md_device_destroy(device); /* now that all came back */
    rows_free(&one);
    md_loop_destroy(world.loop);
}

static void test_limit_thousands_wait_at_detach(void **state)
{
    enum { THOUSANDS = 5000 };
    struct row_call *many = calloc(THOUSANDS, sizeof *many);

    (void)state;
    assert_non_null(many);
    open_world(1, (struct rows_mode){.blocks = true});
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 0; i < THOUSANDS; i++) {
        row_make(&many[i], &one, 1, 0);
        many[i].request.deadline_ns = i % 2 ? in_ms(3600 * 1000) : 0;
        md_infer_submit(&many[i].request);
    }
    assert_int_equal(totals_of(&one).pending, THOUSANDS);
    pthread_t opener;
    assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
    assert_true(md_device_detach(world.device, &one.target));
    pthread_join(opener, NULL);
    for (size_t i = 0; i < THOUSANDS; i++) {
        row_expect(&many[i], MD_REASON_EXITING);
    }
    row_expect(&calls[0], MD_REASON_NONE);
    assert_int_equal(totals_of(&one).pending, 0);
    rows_free(&one);
    world_close();
    free(many);
}

/* The server waits no longer: what waits and what still comes is refused, what runs ends. */
static void test_limit_those_that_wait_at_the_end(void **state)
{
    (void)state;
    open_world(1, (struct rows_mode){.blocks = true});
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= MANY; i++) {
        row_submit(&calls[i], &one, 1, 0);
    }
    md_device_hurry(world.device);
    assert_int_equal(md_device_end(world.device, &one.target), MANY);
    for (size_t i = 1; i <= MANY; i++) {
        row_expect(&calls[i], MD_REASON_EXITING);
    }
    row_submit(&calls[1], &one, 1, 0);
    row_expect(&calls[1], MD_REASON_EXITING);
    assert_int_equal(md_device_end(world.device, &one.target), 0);
    assert_true(md_target_is_running(&one.target));
    gate_set(true);
    row_expect(&calls[0], MD_REASON_NONE);
    wait_until(!md_target_is_running(&one.target));
    close_world();
}

/* --- by weight -------------------- */

/* What a target's batches took that began before a time. */
static double spent_before(struct fake_target *t, uint64_t end_ns, uint64_t *longest_ns)
{
    struct md_batch_record records[MD_TARGET_BATCHES_KEPT];
    size_t count = md_target_recent_batches(&t->target, records, MD_TARGET_BATCHES_KEPT);
    uint64_t spent_ns = 0;

    for (size_t i = 0; i < count; i++) {
        if (records[i].begun_ns < end_ns) {
            spent_ns += records[i].executed_ns;
            *longest_ns =
                records[i].executed_ns > *longest_ns ? records[i].executed_ns : *longest_ns;
        }
    }
    return (double)spent_ns;
}

static uint64_t last_begun_ns(struct fake_target *t)
{
    struct md_batch_record record;

    assert_int_equal(md_target_recent_batches(&t->target, &record, 1), 1);
    return record.begun_ns;
}

/* Two targets that always want the only executor: it is theirs as their weights say, in time, not
 * in requests. What they had by their weights, until one had nothing left, differs by no more than
 * a few of the longest runs. */
static void expect_by_weight(uint32_t weight, bool is_first)
{
    uint64_t ones_ns = last_begun_ns(&one), others_ns = last_begun_ns(&other), longest_ns = 0;
    uint64_t end_ns = ones_ns < others_ns ? ones_ns : others_ns;
    double had = spent_before(&one, end_ns, &longest_ns);
    double had_other = spent_before(&other, end_ns, &longest_ns) / weight;
    double lag = had > had_other ? had - had_other : had_other - had;

    if (!is_first && lag > 3 * (double)longest_ns) {
        fail_msg("weight %u: %.0f and %.0f us by weight, longest run %.0f us", weight, had / 1e3,
                 had_other / 1e3, (double)longest_ns / 1e3);
    }
    for (unsigned i = 0; is_first && i < rows.count;
         i++) { /* but for what came before all others */
        assert_true((rows.runs[i].handle == &other.fakes[0]) == (i > 0 && i <= MANY / 2));
    }
}

static void test_limit_device_time_goes_by_weight(void **state)
{
    static const struct {
        uint32_t weight, band;
    } cases[] = {{1, 1}, {3, 1}, {1, 0}};

    (void)state;
    for (size_t k = 0; k < MD_COUNT_OF(cases); k++) {
        world_open(1, 0);
        rows_reset((struct rows_mode){.busy_us = 1000, .blocks = true});
        rows_init(&one, 1, 1);
        rows_init(&other, 1, 1);
        one.target.share = (struct md_fair_share){.weight = 1, .band = 1};
        other.target.share =
            (struct md_fair_share){.weight = cases[k].weight, .band = cases[k].band};
        target_attach(&one);
        target_attach(&other);
        occupy(&calls[MANY]);
        for (size_t i = 0; i < MANY; i++) {
            row_submit(&calls[i], i % 2 ? &one : &other, 1, 0);
        }
        gate_set(true);
        for (size_t i = 0; i <= MANY; i++) {
            row_expect(&calls[i], MD_REASON_NONE);
        }
        struct md_batch_record records[MD_TARGET_BATCHES_KEPT];
        wait_until(md_target_recent_batches(&one.target, records, MANY) +
                       md_target_recent_batches(&other.target, records, MANY) ==
                   MANY + 1);
        expect_by_weight(cases[k].weight, cases[k].band == 0);
        rows_remove(&other);
        close_world();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit_of_the_time_in_the_queue),
        cmocka_unit_test(test_limit_delays_where_the_policy_says_so),
        cmocka_unit_test(test_limit_deadline_in_the_queue),
        cmocka_unit_test(test_limit_deadline_that_cannot_be_met),
        cmocka_unit_test(test_limit_forecast_counts_who_is_ahead),
        cmocka_unit_test(test_limit_deadline_while_it_runs),
        cmocka_unit_test(test_limit_late_answer_does_not_hold_up_the_order),
        cmocka_unit_test(test_limit_deadline_of_one_member),
        cmocka_unit_test(test_limit_late_member_does_not_count_the_run),
        cmocka_unit_test(test_limit_execution_takes_too_long),
        cmocka_unit_test(test_limit_execution_of_a_batch),
        cmocka_unit_test(test_limit_execution_again_takes_too_long),
        cmocka_unit_test(test_limit_deadline_for_the_fastest_instance),
        cmocka_unit_test(test_limit_execution_of_who_is_gone),
        cmocka_unit_test(test_limit_without_memory_for_timers),
        cmocka_unit_test(test_limit_detach_waits_for_what_comes_back),
        cmocka_unit_test(test_limit_detach_of_what_hangs),
        cmocka_unit_test(test_limit_device_ends_without_what_hangs),
        cmocka_unit_test(test_limit_thousands_wait_at_detach),
        cmocka_unit_test(test_limit_those_that_wait_at_the_end),
        cmocka_unit_test(test_limit_device_time_goes_by_weight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
