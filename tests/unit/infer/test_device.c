/*
 * The device: who runs what, where, how many at a time, and what becomes of requests that are
 * cancelled, refused or withdrawn.
 */
#include "unit/infer/fake_backend.h"

#include "base/fault.h"

enum { MANY = 64 };

static struct fake_target one, other;
static struct call calls[MANY];

/* --- inline -------------------- */

static void test_device_runs_inline_what_may(void **state)
{
    static const struct {
        bool safe;
        enum md_inline_mode mode;
        bool is_inline;
        bool decoupled; /* its responses take the mailbox: the end must not overtake them */
    } cases[] = {
        {true, MD_INLINE_ON, true, false},     {true, MD_INLINE_AUTO, true, false},
        {true, MD_INLINE_OFF, false, false},   {false, MD_INLINE_ON, false, false},
        {false, MD_INLINE_AUTO, false, false}, {true, MD_INLINE_ON, false, true},
    };

    (void)state;
    world_open(1, MD_NS_PER_S);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        target_init(&one, 1, FAKE_ANSWERS);
        one.target.inline_safe = cases[i].safe;
        one.target.inline_mode = cases[i].mode;
        one.target.decoupled = cases[i].decoupled;
        target_attach(&one);
        atomic_store(&one.target.inline_ns, 0); /* it proved to be quick */
        call_submit(&calls[0], &one);
        assert_int_equal(calls[0].ends, cases[i].is_inline); /* before submit returned */
        call_expect(&calls[0], MD_REASON_NONE);
        assert_int_equal(pthread_equal(one.fakes[0].thread, pthread_self()) != 0,
                         cases[i].is_inline);
        target_remove(&one);
    }
    world_close();
}

static void test_device_leaves_slow_work_to_executors(void **state)
{
    enum { LIMIT_NS = 1000 };
    static const uint64_t measured_ns[] = {2 * LIMIT_NS, LIMIT_NS, LIMIT_NS - 1};

    (void)state;
    world_open(1, LIMIT_NS);
    for (size_t i = 0; i < MD_COUNT_OF(measured_ns); i++) {
        bool is_inline = measured_ns[i] < LIMIT_NS;
        target_init(&one, 1, FAKE_ANSWERS);
        one.target.inline_safe = true;
        one.target.inline_mode = MD_INLINE_AUTO;
        target_attach(&one);
        assert_int_equal(one.target.inline_ns, 2 * LIMIT_NS); /* nothing is known yet */
        atomic_store(&one.target.inline_ns, measured_ns[i]);
        call_submit(&calls[0], &one);
        call_expect(&calls[0], MD_REASON_NONE);
        assert_int_equal(pthread_equal(one.fakes[0].thread, pthread_self()) != 0, is_inline);
        target_remove(&one);
    }
    world_close();
}

/* --- executors -------------------- */

static void submit_all(struct fake_target *t, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        call_submit(&calls[i], t);
    }
}

static void test_device_runs_one_batch_at_a_time_on_an_instance(void **state)
{
    (void)state;
    world_open(4, 0);
    target_init(&one, 1, FAKE_ANSWERS);
    target_attach(&one);
    submit_all(&one, MANY);
    for (size_t i = 0; i < MANY; i++) {
        call_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(one.fakes[0].executed, MANY);
    assert_int_equal(one.fakes[0].most_inside, 1);
    target_remove(&one);
    world_close();
}

static void test_device_uses_all_instances(void **state)
{
    (void)state;
    world_open(INSTANCES_MAX, 0);
    target_init(&one, INSTANCES_MAX, FAKE_BLOCKS);
    target_attach(&one);
    submit_all(&one, MANY);
    for (size_t i = 0; i < INSTANCES_MAX; i++) { /* all of them are inside at once */
        wait_until(one.fakes[i].inside == 1);
    }
    gate_set(true);
    for (size_t i = 0; i < MANY; i++) {
        call_expect(&calls[i], MD_REASON_NONE);
    }
    for (size_t i = 0; i < INSTANCES_MAX; i++) {
        assert_int_equal(one.fakes[i].most_inside, 1);
    }
    target_remove(&one);
    world_close();
}

/* Nine requests of one target wait; the first of another does not wait for all of them. */
static void test_device_takes_targets_in_turn(void **state)
{
    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_BLOCKS);
    target_init(&other, 1, FAKE_ANSWERS);
    target_attach(&one);
    target_attach(&other);
    submit_all(&one, 10);
    wait_until(one.fakes[0].inside == 1);
    call_submit(&calls[10], &other);
    gate_set(true);
    for (size_t i = 0; i <= 10; i++) {
        wait_until(calls[i].ends);
    }
    assert_true(calls[10].request.picked_ns < calls[3].request.picked_ns);
    for (size_t i = 0; i <= 10; i++) {
        call_expect(&calls[i], MD_REASON_NONE);
    }
    target_remove(&one);
    target_remove(&other);
    world_close();
}

static void test_device_asynchronous_instance_is_busy_until_finished(void **state)
{
    (void)state;
    world_open(2, 0);
    target_init(&one, 1, FAKE_KEEPS);
    target_attach(&one);
    submit_all(&one, 2);
    wait_until(one.fakes[0].kept);
    turn(20);
    assert_int_equal(one.fakes[0].executed, 1);
    for (size_t i = 0; i < 2; i++) {
        wait_until(one.fakes[0].kept);
        modeld_request id = atomic_exchange(&one.fakes[0].kept, 0);
        assert_true(id == calls[i].request.handle);
        fake_answer(id, MODELD_OK);
        call_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(one.fakes[0].executed, 2);
    target_remove(&one);
    world_close();
}

/* --- thread-bound instances -------------------- */

struct bound {
    pthread_t started_on, stopped_on;
    unsigned starts, stops;
    bool fails;
};

static bool bound_start(void *arg, struct md_error *err)
{
    struct bound *bound = arg;

    bound->starts++;
    bound->started_on = pthread_self();
    return !bound->fails || md_error_set(err, MD_REASON_BACKEND, "no device");
}

static void bound_stop(void *arg)
{
    struct bound *bound = arg;

    bound->stops++;
    bound->stopped_on = pthread_self();
}

static bool bind_instance(struct fake_target *t, size_t i, struct bound *bound,
                          struct md_error *err)
{
    const struct md_bound_calls bound_calls = {
        .start = bound_start, .stop = bound_stop, .start_arg = bound, .stop_arg = bound};

    return md_device_bind(world.device, t->instances[i], &bound_calls, err);
}

static void test_device_bound_instances_live_on_their_threads(void **state)
{
    struct bound bounds[2] = {{.starts = 0}};
    struct md_error err;

    (void)state;
    world_open(1, 0);
    target_init(&one, 2, FAKE_ANSWERS);
    for (size_t i = 0; i < 2; i++) {
        assert_true(bind_instance(&one, i, &bounds[i], &err));
        assert_int_equal(bounds[i].starts, 1);
    }
    target_attach(&one);
    submit_all(&one, MANY);
    for (size_t i = 0; i < MANY; i++) {
        call_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(one.fakes[0].executed + one.fakes[1].executed, MANY);
    assert_true(md_device_detach(world.device, &one.target));
    for (size_t i = 0; i < 2; i++) {
        md_device_unbind(world.device, one.instances[i]);
        assert_int_equal(bounds[i].stops, 1);
        assert_true(pthread_equal(bounds[i].started_on, bounds[i].stopped_on));
        assert_true(!one.fakes[i].executed ||
                    pthread_equal(bounds[i].started_on, one.fakes[i].thread));
        assert_int_equal(one.fakes[i].most_inside, one.fakes[i].executed > 0);
    }
    assert_false(pthread_equal(bounds[0].started_on, bounds[1].started_on));
    md_target_deinit(&one.target);
    world_close();
}

static void test_device_bound_instance_that_does_not_start(void **state)
{
    struct bound bound = {.fails = true};
    struct md_error err = {0};

    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_ANSWERS);
    assert_false(bind_instance(&one, 0, &bound, &err));
    assert_string_equal(err.text, "no device");
    assert_int_equal(bound.stops, 0);
    assert_null(one.instances[0]->bound);
    for (int kind = MD_FAULT_ALLOC; kind <= MD_FAULT_SYSCALL; kind++) {
        md_fault_arm((enum md_fault_kind)kind, 0);
        assert_false(bind_instance(&one, 0, &bound, &err));
        assert_true(md_fault_disarm((enum md_fault_kind)kind));
        assert_null(one.instances[0]->bound);
    }
    assert_int_equal(bound.starts, 1);
    md_target_deinit(&one.target);
    world_close();
}

/* Both kinds of executors sleep; the one that is woken must be the one that can do the work. */
static void test_device_wakes_the_executor_that_can(void **state)
{
    struct bound bounds[INSTANCES_MAX] = {{.starts = 0}};
    struct md_error err;

    (void)state;
    world_open(1, 0);
    target_init(&one, INSTANCES_MAX, FAKE_ANSWERS);
    target_init(&other, 1, FAKE_ANSWERS);
    for (size_t i = 0; i < INSTANCES_MAX; i++) {
        assert_true(bind_instance(&one, i, &bounds[i], &err));
    }
    target_attach(&one);
    target_attach(&other);
    for (size_t i = 0; i < 200; i++) {
        call_submit(&calls[0], i % 2 ? &one : &other);
        call_expect(&calls[0], MD_REASON_NONE);
    }
    assert_true(md_device_detach(world.device, &one.target));
    for (size_t i = 0; i < INSTANCES_MAX; i++) {
        md_device_unbind(world.device, one.instances[i]);
    }
    md_target_deinit(&one.target);
    target_remove(&other);
    world_close();
}

/* --- backends that misbehave -------------------- */

static void test_device_answers_for_backends_that_do_not(void **state)
{
    static const struct {
        enum fake_mode mode;
        const char *text;
    } cases[] = {{FAKE_FORGETS, "the backend returned without finishing the request"},
                 {FAKE_FAILS, "it broke"}};

    (void)state;
    world_open(1, 0);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        for (int is_inline = 0; is_inline < 2; is_inline++) {
            target_init(&one, 1, cases[i].mode);
            one.target.inline_safe = true;
            one.target.inline_mode = is_inline ? MD_INLINE_ON : MD_INLINE_OFF;
            target_attach(&one);
            for (int k = 0; k < 2; k++) { /* the instance is free again */
                call_submit(&calls[0], &one);
                call_expect(&calls[0], MD_REASON_BACKEND);
                assert_string_equal(calls[0].text, cases[i].text);
            }
            target_remove(&one);
        }
    }
    world_close();
}

/* --- cancel, refuse, withdraw -------------------- */

static void test_device_cancels_what_waits(void **state)
{
    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_BLOCKS);
    target_attach(&one);
    submit_all(&one, 4);
    wait_until(one.fakes[0].inside == 1);
    md_infer_cancel(&calls[2].request);
    md_infer_cancel(&calls[2].request);
    md_infer_cancel(&calls[1].request);
    md_infer_cancel(&calls[3].request);
    for (size_t i = 1; i < 4; i++) {
        call_expect(&calls[i], MD_REASON_CANCELLED);
    }
    assert_int_equal(one.target.pending, 0);
    gate_set(true);
    call_expect(&calls[0], MD_REASON_NONE);
    assert_int_equal(one.fakes[0].executed, 1);
    assert_int_equal(one.fakes[0].cancelled, 0);
    target_remove(&one);
    world_close();
}

static void test_device_cancels_what_runs(void **state)
{
    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_KEEPS);
    target_attach(&one);
    for (int too_late = 0; too_late < 2; too_late++) { /* the backend may have been done anyway */
        call_submit(&calls[0], &one);
        wait_until(one.fakes[0].kept);
        md_infer_cancel(&calls[0].request);
        assert_true(md_request_is_cancelled(calls[0].request.handle));
        assert_int_equal(one.fakes[0].cancelled, 1 + too_late);
        assert_int_equal(calls[0].ends, 0);
        fake_answer(atomic_exchange(&one.fakes[0].kept, 0),
                    too_late ? MODELD_OK : MODELD_CANCELLED);
        md_infer_cancel(&calls[0].request); /* finished, not yet delivered: nothing to do */
        call_expect(&calls[0], too_late ? MD_REASON_NONE : MD_REASON_CANCELLED);
        assert_int_equal(one.fakes[0].cancelled, 1 + too_late);
    }
    target_remove(&one);
    world_close();
}

static void test_device_bounds_the_queue(void **state)
{
    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_BLOCKS);
    one.target.scheduler.batcher.one.policy.max_size = 2;
    target_attach(&one);
    call_submit(&calls[0], &one);
    wait_until(one.fakes[0].inside == 1);
    for (size_t i = 1; i < 5; i++) {
        call_submit(&calls[i], &one);
        assert_int_equal(calls[i].ends, i > 2); /* refused before submit returned */
    }
    call_expect(&calls[3], MD_REASON_QUEUE_FULL);
    call_expect(&calls[4], MD_REASON_QUEUE_FULL);
    assert_int_equal(one.target.pending, 2);
    md_infer_cancel(&calls[1].request); /* makes room */
    call_expect(&calls[1], MD_REASON_CANCELLED);
    call_submit(&calls[5], &one);
    assert_int_equal(calls[5].ends, 0);
    gate_set(true);
    call_expect(&calls[0], MD_REASON_NONE);
    call_expect(&calls[2], MD_REASON_NONE);
    call_expect(&calls[5], MD_REASON_NONE);
    target_remove(&one);
    world_close();
}

static void *open_gate_later(void *arg)
{
    (void)arg;
    md_os_sleep_ms(30);
    gate_set(true);
    return NULL;
}

static void test_device_withdraws_a_target(void **state)
{
    pthread_t opener;

    (void)state;
    world_open(2, 0);
    target_init(&one, 1, FAKE_BLOCKS);
    call_submit(&calls[0], &one); /* not attached yet */
    call_expect(&calls[0], MD_REASON_NOT_READY);
    target_attach(&one);
    submit_all(&one, 5);
    wait_until(one.fakes[0].inside == 1);
    assert_int_equal(pthread_create(&opener, NULL, open_gate_later, NULL), 0);
    assert_true(md_device_detach(world.device, &one.target));
    assert_int_equal(one.fakes[0].inside, 0); /* it waited for what ran */
    assert_int_equal(one.fakes[0].executed, 1);
    pthread_join(opener, NULL);
    call_submit(&calls[5], &one);
    call_expect(&calls[5], MD_REASON_NOT_READY);
    call_expect(&calls[0], MD_REASON_NONE);
    for (size_t i = 1; i < 5; i++) {
        call_expect(&calls[i], MD_REASON_EXITING);
    }
    target_attach(&one); /* and mapped again */
    call_submit(&calls[0], &one);
    call_expect(&calls[0], MD_REASON_NONE);
    target_remove(&one);
    world_close();
}

/* --- races -------------------- */

static atomic_bool finisher_ends;

static void *finisher(void *arg)
{
    struct fake_target *t = arg;

    for (unsigned i = 0; !atomic_load(&finisher_ends); i++) {
        for (size_t k = 0; k < t->count; k++) {
            modeld_request id = atomic_exchange(&t->fakes[k].kept, 0);
            if (id) {
                fake_answer(id, md_request_is_cancelled(id) ? MODELD_CANCELLED : MODELD_OK);
            }
        }
    }
    return NULL;
}

/* Requests end once each, whatever cancelling and finishing meet. */
static void test_device_cancel_and_finish_race(void **state)
{
    enum { ROUNDS = 40 };
    unsigned cancelled = 0, random = 1;
    pthread_t thread;

    (void)state;
    world_open(2, 0);
    target_init(&one, 2, FAKE_KEEPS);
    target_attach(&one);
    atomic_store(&finisher_ends, false);
    assert_int_equal(pthread_create(&thread, NULL, finisher, &one), 0);
    for (int round = 0; round < ROUNDS; round++) {
        submit_all(&one, MANY);
        for (size_t i = 0; i < MANY; i++) {
            random = random * 1103515245 + 12345;
            struct call *call = &calls[random / 65536 % MANY];
            if (!call->ends) {
                md_infer_cancel(&call->request);
            }
            turn(0);
        }
        for (size_t i = 0; i < MANY; i++) {
            wait_until(calls[i].ends);
            assert_int_equal(calls[i].ends, 1);
            assert_true(calls[i].reason == MD_REASON_NONE ||
                        calls[i].reason == MD_REASON_CANCELLED);
            cancelled += calls[i].reason == MD_REASON_CANCELLED;
            md_arena_deinit(&calls[i].arena);
        }
    }
    assert_true(cancelled > 0);
    atomic_store(&finisher_ends, true);
    pthread_join(thread, NULL);
    target_remove(&one);
    world_close();
}

static atomic_bool loader_ends;
static atomic_int inside_after_detach;

/* Maps and unmaps, as a loader does. */
static void *loader(void *arg)
{
    struct fake_target *t = arg;

    while (!atomic_load(&loader_ends)) {
        target_attach(t);
        md_os_sleep_ms(1);
        (void)!md_device_detach(world.device, &t->target);
        for (size_t i = 0; i < t->count; i++) {
            atomic_fetch_add(&inside_after_detach, t->fakes[i].inside);
        }
    }
    return NULL;
}

/* Requests end once each while their target comes and goes: answered, or refused for that. */
static void test_device_submit_and_withdraw_race(void **state)
{
    enum { ROUNDS = 60 };
    pthread_t thread;

    (void)state;
    for (int is_inline = 0; is_inline < 2; is_inline++) {
        unsigned answered = 0;
        world_open(2, MD_NS_PER_S);
        target_init(&one, 2, FAKE_ANSWERS);
        one.target.inline_safe = is_inline;
        one.target.inline_mode = MD_INLINE_AUTO;
        atomic_store(&loader_ends, false);
        assert_int_equal(pthread_create(&thread, NULL, loader, &one), 0);
        for (int round = 0; round < ROUNDS || !answered; round++) {
            submit_all(&one, MANY);
            for (size_t i = 0; i < MANY; i++) {
                wait_until(calls[i].ends);
                assert_int_equal(calls[i].ends, 1);
                assert_true(calls[i].reason == MD_REASON_NONE ||
                            calls[i].reason == MD_REASON_EXITING ||
                            calls[i].reason == MD_REASON_NOT_READY);
                answered += calls[i].reason == MD_REASON_NONE;
                md_arena_deinit(&calls[i].arena);
            }
        }
        atomic_store(&loader_ends, true);
        pthread_join(thread, NULL);
        assert_int_equal(inside_after_detach, 0);
        md_target_deinit(&one.target);
        world_close();
    }
}

/* --- memory -------------------- */

static void test_device_memory_comes_from_whoever_asks(void **state)
{
    (void)state;
    world_open(1, 0);
    struct md_block *block = md_device_block(world.device, 1000); /* a thread without a pool */
    assert_non_null(block);
    assert_null(block->pool);
    md_block_unref(block);
    world.budget.limit_bytes = 100;
    assert_null(md_device_block(world.device, 1000));
    assert_int_equal(world.budget.used_bytes, 0);
    world_close();
}

static void test_device_create_failures(void **state)
{
    const struct md_device_options options = {.executor_count = 3, .budget = &world.budget};

    (void)state;
    for (int kind = 0; kind <= MD_FAULT_SYSCALL; kind++) {
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            struct md_device *device = NULL;
            struct md_error err = {0};
            md_fault_arm((enum md_fault_kind)kind, n);
            bool ok = md_device_create(&options, &device, &err);
            delivered = md_fault_disarm((enum md_fault_kind)kind);
            assert_int_equal(ok, !delivered);
            assert_int_equal(err.text[0] == '\0', ok);
            md_device_destroy(device);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_runs_inline_what_may),
        cmocka_unit_test(test_device_leaves_slow_work_to_executors),
        cmocka_unit_test(test_device_runs_one_batch_at_a_time_on_an_instance),
        cmocka_unit_test(test_device_uses_all_instances),
        cmocka_unit_test(test_device_takes_targets_in_turn),
        cmocka_unit_test(test_device_asynchronous_instance_is_busy_until_finished),
        cmocka_unit_test(test_device_bound_instances_live_on_their_threads),
        cmocka_unit_test(test_device_bound_instance_that_does_not_start),
        cmocka_unit_test(test_device_wakes_the_executor_that_can),
        cmocka_unit_test(test_device_answers_for_backends_that_do_not),
        cmocka_unit_test(test_device_cancels_what_waits),
        cmocka_unit_test(test_device_cancels_what_runs),
        cmocka_unit_test(test_device_bounds_the_queue),
        cmocka_unit_test(test_device_withdraws_a_target),
        cmocka_unit_test(test_device_cancel_and_finish_race),
        cmocka_unit_test(test_device_submit_and_withdraw_race),
        cmocka_unit_test(test_device_memory_comes_from_whoever_asks),
        cmocka_unit_test(test_device_create_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
