/*
 * How the requests of a batch end: when one fails, is cancelled or forgotten, in which order, short
 * of memory, and all at once.
 */
#include "unit/infer/fake_batches.h"

#include "base/fault.h"

/* --- one fails -------------------- */

enum { POISONED = 3, JOINT = 5 };

/* JOINT requests in one batch, one of them poisoned; with what comes before them. */
static void run_poisoned(void)
{
    occupy(&calls[0]);
    for (size_t i = 1; i <= JOINT; i++) {
        row_submit(&calls[i], &one, 1, i == POISONED ? -100 : (float)(10 * i));
    }
    gate_set(true);
}

static void test_batch_failed_request_leaves_its_neighbours_alone(void **state)
{
    struct md_batch_record record;

    (void)state;
    for (int is_safe = 0; is_safe < 2; is_safe++) {
        rows_api.flags = is_safe ? MODELD_BACKEND_RETRY_SAFE : 0;
        open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
        target_attach(&one);
        run_poisoned();
        for (size_t i = 0; i <= JOINT; i++) {
            bool fails = i && (i == POISONED || !is_safe);
            row_expect(&calls[i], fails ? MD_REASON_BACKEND : MD_REASON_NONE);
            assert_string_equal(calls[i].text, fails ? "poisoned" : "");
        }
        /* never twice */
        assert_int_equal(rows.count, is_safe ? 2 + JOINT : 2);
        assert_int_equal(rows.runs[1].requests, JOINT);
        wait_until(md_target_recent_batches(&one.target, &record, 1) && record.requests == JOINT);
        assert_int_equal(record.failed, is_safe ? 1 : JOINT);
        assert_int_equal(record.retried, is_safe ? JOINT : 0);
        struct md_target_totals totals = totals_of(&one);
        assert_int_equal(totals.success.count, is_safe ? JOINT : 1);
        assert_int_equal(totals.fail.count, is_safe ? 1 : JOINT);
        assert_int_equal(totals.execution_count, is_safe ? JOINT : 1); /* that answered somebody */
        close_world();
    }
    rows_api.flags = MODELD_BACKEND_RETRY_SAFE;
}

/* What the joint run of a model that cannot be batched gets wrong, it gets right alone. */
static void test_batch_that_only_fails_jointly_succeeds_alone(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = true, .fails_joint = true}, 1, 8);
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= JOINT; i++) {
        row_submit(&calls[i], &one, 1, (float)i);
    }
    gate_set(true);
    for (size_t i = 0; i <= JOINT; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(totals_of(&one).execution_count, 1 + JOINT);
    close_world();
}

static void test_batch_answers_for_a_forgotten_request(void **state)
{
    (void)state;
    rows_api.flags = 0;
    open_world((struct rows_mode){.blocks = true}, 1, 8);
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 3; i++) {
        row_submit(&calls[i], &one, 1, (float)i);
    }
    rows.mode.forgets = true;
    gate_set(true);
    row_expect(&calls[0], MD_REASON_BACKEND); /* the last of its batch of one */
    row_expect(&calls[1], MD_REASON_NONE);
    row_expect(&calls[2], MD_REASON_NONE);
    row_expect(&calls[3], MD_REASON_BACKEND);
    assert_non_null(strstr(calls[3].text, "without finishing"));
    assert_int_equal(totals_of(&one).execution_count, 1);
    rows_api.flags = MODELD_BACKEND_RETRY_SAFE;
    close_world();
}

/* --- asynchronous backends, and cancelling in the middle -------------------- */

static void open_async(void)
{
    open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    one.fakes[0].instance.asynchronous = true;
    rows.mode = (struct rows_mode){.keeps = true, .memory = MODELD_OUTPUT_INPUT};
    target_attach(&one);
}

static unsigned take_kept_count(void)
{
    pthread_mutex_lock(&rows.mutex);
    unsigned count = rows.kept_count;
    rows.kept_count = 0;
    pthread_mutex_unlock(&rows.mutex);
    return count;
}

/* Waits for the next batch, of so many. */
static void await_kept(unsigned count)
{
    unsigned kept = 0;

    wait_until((kept = take_kept_count()));
    assert_int_equal(kept, count);
}

static void finish_kept(unsigned i, int32_t code)
{
    if (code == MODELD_OK) {
        rows_answer(&rows.kept_batch, i, i); /* one row each */
    } else {
        (void)md_request_finish(rows.kept[i], code, "it broke", MODELD_FINISH_FINAL);
    }
}

/* Two fail: they run again one after the other, once all of the first run are finished. */
static void test_batch_asynchronous_retries_when_all_are_finished(void **state)
{
    (void)state;
    open_async();
    row_submit(&calls[0], &one, 1, 1000);
    await_kept(1);
    for (size_t i = 1; i <= 3; i++) {
        row_submit(&calls[i], &one, 1, (float)(10 * i));
    }
    finish_kept(0, MODELD_OK);
    row_expect(&calls[0], MD_REASON_NONE);
    await_kept(3);
    finish_kept(0, MODELD_INTERNAL);
    finish_kept(2, MODELD_INTERNAL);
    turn(20);
    assert_int_equal(rows_count(), 2);
    finish_kept(1, MODELD_OK);
    row_expect(&calls[2], MD_REASON_NONE);
    await_kept(1);
    assert_true(rows.runs[2].first == 10);
    finish_kept(0, MODELD_INTERNAL); /* and not a third time */
    row_expect(&calls[1], MD_REASON_BACKEND);
    await_kept(1);
    assert_true(rows.runs[3].first == 30);
    finish_kept(0, MODELD_OK);
    row_expect(&calls[3], MD_REASON_NONE);
    close_world();
}

static void test_batch_cancelled_members(void **state)
{
    (void)state;
    open_async();
    row_submit(&calls[0], &one, 1, 1000);
    await_kept(1);
    for (size_t i = 1; i <= 5; i++) {
        row_submit(&calls[i], &one, 1, (float)(10 * i));
    }
    md_infer_cancel(&calls[2].request); /* while the batch forms */
    row_expect(&calls[2], MD_REASON_CANCELLED);
    finish_kept(0, MODELD_OK);
    row_expect(&calls[0], MD_REASON_NONE);
    await_kept(4);                      /* 1, 3, 4, 5 */
    md_infer_cancel(&calls[1].request); /* while it runs */
    assert_int_equal(rows.cancelled, 1);
    finish_kept(0, MODELD_CANCELLED);
    row_expect(&calls[1], MD_REASON_CANCELLED);
    finish_kept(1, MODELD_INTERNAL);
    finish_kept(2, MODELD_INTERNAL);
    md_infer_cancel(&calls[3].request); /* while it waits to run again */
    md_infer_cancel(&calls[3].request);
    assert_int_equal(rows.cancelled, 1);
    finish_kept(3, MODELD_OK);
    row_expect(&calls[5], MD_REASON_NONE);
    row_expect(&calls[3], MD_REASON_CANCELLED);
    await_kept(1);
    assert_true(rows.runs[2].first == 40);
    finish_kept(0, MODELD_OK);
    row_expect(&calls[4], MD_REASON_NONE);
    struct md_batch_record record = {0};
    wait_until(md_target_recent_batches(&one.target, &record, 1) && record.requests == 4);
    assert_int_equal(record.failed, 2);
    assert_int_equal(totals_of(&one).execution_count, 3);
    close_world();
}

/* --- order -------------------- */

/* Two instances; the second batch is done before the first. */
static void test_batch_answers_keep_their_order(void **state)
{
    (void)state;
    for (int keeps = 0; keeps < 2; keeps++) {
        world_open(2, 0);
        target_init(&one, 2, FAKE_KEEPS);
        one.target.scheduler.keeps_order = keeps;
        one.target.inline_safe = true;
        one.target.inline_mode = MD_INLINE_ON;
        one.target.decoupled = !keeps; /* so that it is not inline either */
        target_attach(&one);
        struct call first, second;
        call_submit(&first, &one);
        wait_until(one.fakes[0].kept || one.fakes[1].kept);
        bool on_second = one.fakes[1].kept;
        call_submit(&second, &one);
        wait_until(one.fakes[!on_second].kept);
        fake_answer(one.fakes[!on_second].kept, MODELD_OK);
        if (keeps) {
            turn(20);
            turn(0);
            assert_int_equal(second.ends, 0);
            fake_answer(one.fakes[on_second].kept, MODELD_INTERNAL);
            wait_until(second.ends);
        } else {
            wait_until(second.ends);
            assert_int_equal(first.ends, 0);
            fake_answer(one.fakes[on_second].kept, MODELD_INTERNAL);
        }
        call_expect(&first, MD_REASON_BACKEND);
        assert_int_equal(second.reason, MD_REASON_NONE);
        md_arena_deinit(&second.arena);
        target_remove(&one);
        world_close();
    }
}

/* Answered by two threads at a time, in the order of the queue all the same. */
static unsigned ended_count;
static unsigned ended_as[MANY];

static void order_on_end(struct md_request *request, const struct md_error *error)
{
    assert_null(error);
    ended_as[((struct call *)request->dialect)->responses] = ended_count++;
}

static void order_on_response(struct md_request *request, struct md_response *response)
{
    (void)request;
    (void)response;
}

static void test_batch_order_is_kept_by_many_threads(void **state)
{
    static const struct md_responder in_order = {.response = order_on_response,
                                                 .end = order_on_end};
    static struct call many[MANY];

    (void)state;
    world_open(INSTANCES_MAX, 0);
    target_init(&one, INSTANCES_MAX, FAKE_ANSWERS);
    one.target.scheduler.keeps_order = true;
    target_attach(&one);
    for (int round = 0; round < 50; round++) {
        ended_count = 0;
        for (unsigned i = 0; i < MANY; i++) {
            memset(&many[i], 0, sizeof many[i]);
            md_request_init(&many[i].request, &one.target, world.loop, &many[i].arena, &in_order,
                            &many[i]);
            many[i].responses = i;
            md_infer_submit(&many[i].request);
        }
        wait_until(ended_count == MANY);
        for (unsigned i = 0; i < MANY; i++) {
            assert_int_equal(ended_as[i], i);
            md_arena_deinit(&many[i].arena);
        }
    }
    target_remove(&one);
    world_close();
}

/* --- short of memory -------------------- */

/* Whichever piece of memory is missing: each ends once, nothing is left; where only the gathering
 * fails, all are answered one by one. */
static void test_batch_short_of_memory(void **state)
{
    bool delivered = true;
    unsigned rescued = 0;

    (void)state;
    open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    target_attach(&one);
    for (long n = 0; delivered; n++) {
        unsigned answered = 0;
        gate_set(false);
        occupy(&calls[0]);
        for (size_t i = 1; i <= 3; i++) {
            row_submit(&calls[i], &one, 1, (float)(10 * i));
        }
        md_fault_arm(MD_FAULT_REGION, n);
        gate_set(true);
        for (size_t i = 0; i <= 3; i++) {
            wait_until(calls[i].ends);
        }
        delivered = md_fault_disarm(MD_FAULT_REGION);
        for (size_t i = 0; i <= 3; i++) {
            assert_int_equal(calls[i].ends, 1);
            answered += calls[i].reason == MD_REASON_NONE;
            md_arena_deinit(&calls[i].arena);
        }
        assert_true(answered >= 3);
        rescued += delivered && answered == 4;
        assert_true(n < 60);
    }
    assert_true(rescued >= 4);
    close_world();
}

/* --- a thread of its own, races, records -------------------- */

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

static void test_batch_of_a_bound_instance(void **state)
{
    const struct md_bound_calls bound = {.start = start_nothing, .stop = stop_nothing};
    struct md_error err;

    (void)state;
    open_world((struct rows_mode){.blocks = true, .memory = MODELD_OUTPUT_INPUT}, 1, 8);
    one.target.scheduler.batcher.config.delay_ns = 20 * (uint64_t)MD_NS_PER_MS;
    assert_true(md_device_bind(world.device, one.instances[0], &bound, &err));
    target_attach(&one);
    run_poisoned();
    for (size_t i = 0; i <= JOINT; i++) {
        row_expect(&calls[i], i == POISONED ? MD_REASON_BACKEND : MD_REASON_NONE);
    }
    assert_int_equal(rows.count, 2 + JOINT);
    assert_true(md_device_detach(world.device, &one.target));
    md_device_unbind(world.device, one.instances[0]);
    rows_free(&one);
    world_close();
}

static atomic_bool finisher_ends;

/* Finishes what is kept, some of it with an error. */
static void *finish_all(void *arg)
{
    unsigned random = 7;

    (void)arg;
    while (!atomic_load(&finisher_ends)) {
        modeld_request kept[KEPT_MAX];
        struct modeld_batch batch;
        pthread_mutex_lock(&rows.mutex);
        unsigned count = rows.kept_count;
        rows.kept_count = 0;
        memcpy(kept, rows.kept, sizeof kept);
        batch = rows.kept_batch;
        pthread_mutex_unlock(&rows.mutex);
        for (unsigned i = 0; i < count; i++) {
            random = random * 1103515245 + 12345;
            if (random / 65536 % 4) {
                rows_answer(&batch, i, i);
            } else {
                (void)md_request_finish(kept[i], MODELD_INTERNAL, "it broke", MODELD_FINISH_FINAL);
            }
        }
    }
    return NULL;
}

/* Batches, retries, cancelling and limits of time at once: everybody ends once, and what is counted
 * is what happened. */
static void test_batch_everything_at_once(void **state)
{
    enum { ROUNDS = 60 };
    unsigned random = 1, ended[MD_REASON_COUNT] = {0};
    pthread_t thread;

    (void)state;
    open_async();
    one.target.scheduler.keeps_order = true;
    atomic_store(&finisher_ends, false);
    assert_int_equal(pthread_create(&thread, NULL, finish_all, NULL), 0);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < MANY; i++) {
            random = random * 1103515245 + 12345;
            row_make(&calls[i], &one, 1, (float)i);
            calls[i].request.deadline_ns =
                random / 65536 % 4 == 0 ? md_clock_monotonic_ns() + random / 65536 % 400000 : 0;
            md_infer_submit(&calls[i].request);
        }
        for (size_t i = 0; i < MANY; i++) {
            random = random * 1103515245 + 12345;
            struct row_call *call = &calls[random / 65536 % MANY];
            if (!call->ends) {
                md_infer_cancel(&call->request);
            }
            turn(0);
        }
        for (size_t i = 0; i < MANY; i++) {
            wait_until(calls[i].ends);
            assert_int_equal(calls[i].ends, 1);
            assert_true(calls[i].lates <= 1);
            ended[calls[i].reason]++;
            if (calls[i].reason == MD_REASON_NONE) {
                assert_memory_equal(calls[i].answer, calls[i].values, calls[i].input.bytes);
            }
            md_arena_deinit(&calls[i].arena);
        }
    }
    assert_true(ended[MD_REASON_NONE] > 0 && ended[MD_REASON_CANCELLED] > 0);
    atomic_store(&finisher_ends, true);
    pthread_join(thread, NULL);
    struct md_target_totals totals = totals_of(&one);
    assert_int_equal(totals.success.count, ended[MD_REASON_NONE]);
    assert_int_equal(totals.success.count + totals.fail.count, ROUNDS * MANY);
    assert_true(totals.execution_count <= totals.success.count && totals.execution_count > 0);
    close_world();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_failed_request_leaves_its_neighbours_alone),
        cmocka_unit_test(test_batch_that_only_fails_jointly_succeeds_alone),
        cmocka_unit_test(test_batch_answers_for_a_forgotten_request),
        cmocka_unit_test(test_batch_asynchronous_retries_when_all_are_finished),
        cmocka_unit_test(test_batch_cancelled_members),
        cmocka_unit_test(test_batch_answers_keep_their_order),
        cmocka_unit_test(test_batch_order_is_kept_by_many_threads),
        cmocka_unit_test(test_batch_short_of_memory),
        cmocka_unit_test(test_batch_of_a_bound_instance),
        cmocka_unit_test(test_batch_everything_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
