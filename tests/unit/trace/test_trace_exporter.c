/*
 * trace/exporter: batches, bounds, tries and the end, on a clock that the test turns and with a
 * receiver that answers as it is told. The thread itself: a flush at the end of a real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "os/clock.h"
#include "trace/exporter.h"

#include <pthread.h>
#include <stdio.h>

enum { DELAY_NS = MD_NS_PER_S, MAX_QUEUE = 20, MAX_BATCH = 8, SENDS_MAX = 32 };

static uint64_t clock_ns;

static uint64_t virtual_clock(void)
{
    return clock_ns;
}

/* The receiver. */
static struct {
    unsigned sends;
    char bodies[SENDS_MAX][512];
    enum md_trace_result results[SENDS_MAX]; /* of the sends in turn; then TAKEN */
    struct md_trace_answer answer;
} receiver;

static void fake_head(void *arg, size_t span_bytes, struct md_bytes *out)
{
    (void)arg;
    md_bytes_printf(out, "<%zu>", span_bytes);
}

static enum md_trace_result fake_send(void *arg, const struct md_trace_message *message,
                                      struct md_trace_answer *answer)
{
    const unsigned at = receiver.sends++;

    (void)arg;
    assert_true(at < SENDS_MAX);
    (void)snprintf(receiver.bodies[at], sizeof receiver.bodies[at], "%.*s%.*s",
                   MD_STR_ARG(message->head), MD_STR_ARG(message->body));
    *answer = receiver.answer;
    return receiver.results[at];
}

static void fake_destroy(void *arg)
{
    (void)arg;
}

static const struct md_trace_sink sink = {
    .name = "fake", .append_head = fake_head, .send = fake_send, .destroy = fake_destroy};

static struct md_trace_exporter *open_exporter(void)
{
    const struct md_trace_exporter_options options = {.max_queue = MAX_QUEUE,
                                                      .max_batch = MAX_BATCH,
                                                      .delay_ns = DELAY_NS,
                                                      .timeout_ns = MD_NS_PER_S};
    struct md_trace_exporter *exporter;
    struct md_error err;

    memset(&receiver, 0, sizeof receiver);
    md_clock_monotonic_ns = virtual_clock;
    clock_ns = UINT64_C(1000) * MD_NS_PER_S;
    assert_true(md_trace_exporter_create(&options, &sink, &exporter, &err));
    return exporter;
}

static void submit(struct md_trace_exporter *exporter, const char *spans, size_t count)
{
    md_trace_exporter_submit(exporter, md_str_of(spans), count);
}

static struct md_trace_counters counters(const struct md_trace_exporter *exporter)
{
    struct md_trace_counters out;

    md_trace_exporter_count(exporter, &out);
    return out;
}

/* Lets the clock jump from step to step, `steps` times. */
static void run_steps(struct md_trace_exporter *exporter, unsigned steps)
{
    for (unsigned i = 0; i < steps; i++) {
        uint64_t next_ns = md_trace_exporter_step(exporter, clock_ns);
        clock_ns = next_ns == UINT64_MAX ? clock_ns : next_ns;
    }
}

static void test_exporter_waits_for_the_delay(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    assert_true(md_trace_exporter_step(exporter, clock_ns) == UINT64_MAX);
    submit(exporter, "a", 3);
    submit(exporter, "b", 3);
    const uint64_t due_ns = md_trace_exporter_step(exporter, clock_ns);
    assert_true(due_ns == clock_ns + DELAY_NS);
    assert_true(md_trace_exporter_step(exporter, due_ns - 1) == due_ns);
    assert_int_equal(receiver.sends, 0);
    assert_true(md_trace_exporter_step(exporter, due_ns) == UINT64_MAX);
    assert_int_equal(receiver.sends, 1);
    assert_string_equal(receiver.bodies[0], "<2>ab");
    assert_int_equal(counters(exporter).exported, 6);
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_sends_full_batches_at_once(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    for (char name[] = "a"; *name < 'f'; (*name)++) {
        submit(exporter, name, 3); /* 15 spans: records of 3, so batches of 6 */
    }
    assert_true(md_trace_exporter_step(exporter, clock_ns) == clock_ns + DELAY_NS);
    assert_int_equal(receiver.sends, 2);
    assert_string_equal(receiver.bodies[0], "<2>ab");
    assert_string_equal(receiver.bodies[1], "<2>cd");
    run_steps(exporter, 2);
    assert_string_equal(receiver.bodies[2], "<1>e");
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_sends_a_record_larger_than_a_batch(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    submit(exporter, "large", MAX_BATCH + 1);
    assert_true(md_trace_exporter_step(exporter, clock_ns) == UINT64_MAX);
    assert_string_equal(receiver.bodies[0], "<5>large");
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_drops_and_counts_beyond_the_bound(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    for (int i = 0; i < 9; i++) {
        submit(exporter, "a", 3);
    }
    assert_int_equal(counters(exporter).dropped_full, 9);
    (void)md_trace_exporter_step(exporter, clock_ns);
    submit(exporter, "b", 3); /* there is room again */
    assert_int_equal(counters(exporter).dropped_full, 9);
    run_steps(exporter, 3);
    assert_int_equal(counters(exporter).exported, 21);
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_bounds_what_waits_while_a_batch_is_tried(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    receiver.results[0] = MD_TRACE_TRY_AGAIN;
    submit(exporter, "first", MAX_BATCH);
    (void)md_trace_exporter_step(exporter, clock_ns);
    for (int i = 0; i < 100; i++) {
        submit(exporter, "a", 1);
        (void)md_trace_exporter_step(exporter, clock_ns);
    }
    assert_int_equal(receiver.sends, 1);
    assert_int_equal(counters(exporter).dropped_full, 100 - MAX_QUEUE);
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_tries_again_later_and_later(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();
    uint64_t waited_ns = 0;

    (void)state;
    for (int i = 0; i < 4; i++) {
        receiver.results[i] = MD_TRACE_TRY_AGAIN;
    }
    submit(exporter, "a", MAX_BATCH);
    for (unsigned tries = 1; tries < 5; tries++) {
        const uint64_t next_ns = md_trace_exporter_step(exporter, clock_ns);
        assert_int_equal(receiver.sends, tries);
        assert_true(next_ns - clock_ns > waited_ns);
        waited_ns = next_ns - clock_ns;
        assert_true(md_trace_exporter_step(exporter, next_ns - 1) == next_ns);
        clock_ns = next_ns;
    }
    assert_true(md_trace_exporter_step(exporter, clock_ns) == UINT64_MAX);
    assert_int_equal(counters(exporter).exported, MAX_BATCH);
    assert_int_equal(counters(exporter).failures, 4);
    assert_int_equal(counters(exporter).dropped_failed, 0);
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_honours_retry_after(void **state)
{
    static const struct {
        uint64_t asked_s, waited_s;
    } rows[] = {{7, 7}, {3600, 60}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_trace_exporter *exporter = open_exporter();
        receiver.results[0] = MD_TRACE_TRY_AGAIN;
        receiver.answer.retry_after_ns = rows[i].asked_s * MD_NS_PER_S;
        submit(exporter, "a", MAX_BATCH);
        assert_true(md_trace_exporter_step(exporter, clock_ns) ==
                    clock_ns + rows[i].waited_s * MD_NS_PER_S);
        md_trace_exporter_destroy(exporter);
    }
}

static void test_exporter_gives_up(void **state)
{
    static const struct {
        enum md_trace_result result;
        unsigned sends;
    } rows[] = {{MD_TRACE_TRY_AGAIN, 5}, {MD_TRACE_REFUSED, 1}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_trace_exporter *exporter = open_exporter();
        for (size_t n = 0; n < rows[i].sends; n++) {
            receiver.results[n] = rows[i].result;
        }
        submit(exporter, "a", MAX_BATCH);
        run_steps(exporter, 8);
        assert_int_equal(receiver.sends, rows[i].sends);
        assert_int_equal(counters(exporter).dropped_failed, MAX_BATCH);
        assert_int_equal(counters(exporter).failures, rows[i].sends);
        submit(exporter, "b", MAX_BATCH); /* and goes on */
        run_steps(exporter, 1);
        assert_int_equal(counters(exporter).exported, MAX_BATCH);
        md_trace_exporter_destroy(exporter);
    }
}

static void test_exporter_counts_what_the_receiver_rejects(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    receiver.answer.rejected = 3;
    submit(exporter, "a", MAX_BATCH);
    run_steps(exporter, 1);
    receiver.answer.rejected = UINT64_MAX; /* nonsense */
    submit(exporter, "a", MAX_BATCH);
    run_steps(exporter, 1);
    assert_int_equal(counters(exporter).exported, MAX_BATCH - 3);
    assert_int_equal(counters(exporter).dropped_failed, MAX_BATCH + 3);
    md_trace_exporter_destroy(exporter);
}

static void test_exporter_flushes_until_a_failure(void **state)
{
    struct md_trace_exporter *exporter = open_exporter();

    (void)state;
    receiver.results[1] = MD_TRACE_TRY_AGAIN;
    for (int i = 0; i < 6; i++) {
        submit(exporter, "a", 3);
    }
    md_trace_exporter_flush(exporter);
    assert_int_equal(receiver.sends, 2);
    assert_int_equal(counters(exporter).exported, 6);
    assert_int_equal(counters(exporter).dropped_failed, 12);
    md_trace_exporter_destroy(exporter);
}

/* --- with its thread -------------------- */

static atomic_size_t received; /* spans of one byte each */

static enum md_trace_result count_send(void *arg, const struct md_trace_message *message,
                                       struct md_trace_answer *answer)
{
    (void)arg;
    (void)answer;
    atomic_fetch_add(&received, message->body.len);
    return MD_TRACE_TAKEN;
}

static void *submit_many(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        submit(arg, "a", 1);
    }
    return NULL;
}

static void test_exporter_loses_nothing_between_threads(void **state)
{
    enum { THREADS = 4 };
    const struct md_trace_exporter_options options = {
        .max_queue = 1000, .max_batch = MAX_BATCH, .delay_ns = 3600 * (uint64_t)MD_NS_PER_S};
    const struct md_trace_sink counting = {
        .name = "counting", .send = count_send, .destroy = fake_destroy};
    struct md_trace_exporter *exporter;
    pthread_t threads[THREADS];
    struct md_error err;

    (void)state;
    md_os_clock_install();
    atomic_store(&received, 0);
    assert_true(md_trace_exporter_create(&options, &counting, &exporter, &err));
    assert_true(md_trace_exporter_start(exporter, &err));
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, submit_many, exporter), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    const uint64_t dropped = counters(exporter).dropped_full;
    md_trace_exporter_destroy(exporter); /* flushes what has not filled a batch */
    assert_int_equal(atomic_load(&received) + dropped, THREADS * 1000);
    assert_true(atomic_load(&received) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exporter_waits_for_the_delay),
        cmocka_unit_test(test_exporter_sends_full_batches_at_once),
        cmocka_unit_test(test_exporter_sends_a_record_larger_than_a_batch),
        cmocka_unit_test(test_exporter_drops_and_counts_beyond_the_bound),
        cmocka_unit_test(test_exporter_bounds_what_waits_while_a_batch_is_tried),
        cmocka_unit_test(test_exporter_tries_again_later_and_later),
        cmocka_unit_test(test_exporter_honours_retry_after),
        cmocka_unit_test(test_exporter_gives_up),
        cmocka_unit_test(test_exporter_counts_what_the_receiver_rejects),
        cmocka_unit_test(test_exporter_flushes_until_a_failure),
        cmocka_unit_test(test_exporter_loses_nothing_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
