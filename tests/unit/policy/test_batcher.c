/*
 * policy/batcher: each rule by itself, on a clock that the tests move.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/batcher.h"
#include "unit/policy/next_limit.h"

enum { WAITERS = 600, US = 1000, MS = 1000 * US };

struct queue {
    struct md_batcher batcher;
    struct md_learned_time time;
    struct md_forecast forecast;
    struct md_waiter waiters[WAITERS]; /* by number */
    struct md_batch_choice choice;
    struct md_error err;
    uint64_t now_ns;
    struct md_batcher_level levels[MD_BATCHER_LEVELS_MAX];
};

/* One level, batches of up to 8 rows, nothing limited. */
static struct queue *queue_new(void)
{
    static struct queue queue;

    queue = (struct queue){
        .batcher.config = {.max_rows = 8, .max_requests = 8, .level_count = 1, .default_level = 1},
        .forecast = {.instances = 1, .stretch_permille = 1000},
        .now_ns = 1000 * MS,
    };
    return &queue;
}

static void set_levels(struct queue *queue, uint32_t count)
{
    queue->batcher.levels = queue->levels;
    queue->batcher.config.level_count = count;
}

static bool submit(struct queue *queue, size_t number)
{
    if (!queue->waiters[number].rows) {
        queue->waiters[number].rows = 1;
    }
    return md_batcher_submit(&queue->batcher, &queue->waiters[number], &queue->time,
                             &queue->forecast, queue->now_ns, &queue->err);
}

static void submit_all(struct queue *queue, size_t from, size_t to)
{
    for (size_t i = from; i <= to; i++) {
        assert_true(submit(queue, i));
    }
}

/* Picks, and compares the numbers of the members; -1 ends them. */
static void assert_pick(struct queue *queue, enum md_start start, const int *numbers)
{
    uint32_t count = 0, rows = 0;

    md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
    for (struct md_waiter *waiter = queue->choice.first; waiter; waiter = waiter->next) {
        assert_int_equal(waiter - queue->waiters, numbers[count]);
        assert_false(waiter->waits);
        count++;
        rows += waiter->rows;
    }
    assert_int_equal(numbers[count], -1);
    assert_int_equal(queue->choice.count, count);
    assert_int_equal(queue->choice.rows, rows);
    assert_true(count > 0);
    assert_int_equal(queue->choice.start, start);
    assert_true(queue->choice.again_ns == UINT64_MAX);
}

#define PICK(queue, start, ...) assert_pick(queue, MD_START_##start, (const int[]){__VA_ARGS__, -1})

static void assert_deferred(struct queue *queue, uint64_t again_ns)
{
    md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
    assert_null(queue->choice.first);
    assert_int_equal(queue->choice.count, 0);
    assert_true(queue->choice.again_ns == again_ns);
}

static void assert_expired(struct queue *queue, enum md_reason reason, const int *numbers)
{
    size_t count = 0;

    for (struct md_waiter *waiter = md_batcher_expire(&queue->batcher, &queue->time, queue->now_ns);
         waiter; waiter = waiter->next) {
        assert_int_equal(waiter - queue->waiters, numbers[count++]);
        assert_int_equal(md_batcher_verdict(waiter, queue->now_ns), reason);
        assert_false(waiter->waits);
    }
    assert_int_equal(numbers[count], -1);
}

#define EXPIRED(queue, reason, ...) \
    assert_expired(queue, MD_REASON_##reason, (const int[]){__VA_ARGS__, -1})

static void assert_none_expired(struct queue *queue)
{
    assert_null(md_batcher_expire(&queue->batcher, &queue->time, queue->now_ns));
}

static void learn(struct queue *queue, uint32_t rows, uint64_t spent_ns)
{
    for (unsigned i = 0; i < 300; i++) {
        md_learned_time_add(&queue->time, rows, spent_ns);
    }
    queue->time.sizes[rows].deviation_ns = 0;
}

static void test_batcher_empty_has_nothing(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    assert_deferred(queue, UINT64_MAX);
    assert_none_expired(queue);
    assert_true(next_limit(&queue->batcher) == UINT64_MAX);
    assert_false(md_batcher_cancel(&queue->batcher, &queue->waiters[0]));
}

static void test_batcher_without_batches_each_runs_alone(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.max_rows = 1;
    submit_all(queue, 0, 2);
    PICK(queue, FULL, 0);
    PICK(queue, FULL, 1);
    PICK(queue, IDLE, 2);
    assert_deferred(queue, UINT64_MAX);
    assert_int_equal(queue->batcher.length, 0);
}

static void test_batcher_starts_at_once_with_all_that_wait(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    submit_all(queue, 0, 0);
    PICK(queue, IDLE, 0);
    submit_all(queue, 1, 3);
    PICK(queue, IDLE, 1, 2, 3);
}

static void test_batcher_is_full_by_rows_or_requests(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    submit_all(queue, 0, 8);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5, 6, 7);
    PICK(queue, IDLE, 8);
    queue->batcher.config.max_requests = 2;
    submit_all(queue, 9, 11);
    PICK(queue, FULL, 9, 10);
    PICK(queue, IDLE, 11);
    queue->batcher.config.max_requests = 8;
    queue->waiters[12].rows = 5;
    queue->waiters[13].rows = 4;
    queue->waiters[14].rows = 1;
    submit_all(queue, 12, 14);
    PICK(queue, FULL, 12); /* 14 would fit, but is behind 13 */
    PICK(queue, IDLE, 13, 14);
}

static void test_batcher_a_larger_request_runs_alone(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->waiters[0].rows = UINT32_MAX;
    queue->waiters[2].rows = 9;
    submit_all(queue, 0, 3);
    PICK(queue, FULL, 0);
    PICK(queue, FULL, 1);
    PICK(queue, FULL, 2);
    PICK(queue, IDLE, 3);
}

static void test_batcher_shapes_do_not_mix(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        queue->waiters[i].shape = i % 2;
    }
    submit_all(queue, 0, 5);
    PICK(queue, IDLE, 0, 2, 4);
    PICK(queue, IDLE, 1, 3, 5);
}

static void test_batcher_looks_only_so_far(void **state)
{
    struct queue *queue = queue_new();
    size_t last = MD_BATCHER_LOOK_AHEAD;

    (void)state;
    queue->batcher.config.max_rows = queue->batcher.config.max_requests = UINT32_MAX;
    for (size_t i = 1; i < last; i++) {
        queue->waiters[i].shape = 1;
    }
    submit_all(queue, 0, last);
    PICK(queue, IDLE, 0);
    md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
    assert_int_equal(queue->choice.count, last - 1);
    PICK(queue, IDLE, (int)last);
    submit_all(queue, last + 1, 2 * last + 10);
    md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
    assert_int_equal(queue->choice.count, MD_BATCHER_LOOK_AHEAD);
}

static void test_batcher_levels_come_in_order(void **state)
{
    struct queue *queue = queue_new();
    static const uint64_t priorities[] = {3, 2, 0, 1, 4, 99, 2};

    (void)state;
    set_levels(queue, 3);
    queue->batcher.config.default_level = 2;
    queue->batcher.config.max_requests = 3;
    for (size_t i = 0; i < MD_COUNT_OF(priorities); i++) {
        queue->waiters[i].priority = priorities[i];
    }
    submit_all(queue, 0, 6);
    PICK(queue, FULL, 3, 1, 2);
    PICK(queue, FULL, 4, 5, 6);
    PICK(queue, IDLE, 0);
}

static void test_batcher_has_the_last_of_all_levels(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    set_levels(queue, MD_BATCHER_LEVELS_MAX);
    queue->waiters[0].priority = MD_BATCHER_LEVELS_MAX;
    queue->waiters[1].priority = MD_BATCHER_LEVELS_MAX - 1;
    queue->waiters[2].priority = 0;
    submit_all(queue, 0, 2);
    PICK(queue, IDLE, 2, 1, 0);
}

static void test_batcher_max_size_is_of_a_level(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    set_levels(queue, 2);
    queue->levels[0].policy.max_size = 2;
    queue->waiters[3].priority = 2;
    submit_all(queue, 0, 1);
    assert_false(submit(queue, 2));
    assert_int_equal(queue->err.reason, MD_REASON_QUEUE_FULL);
    assert_string_equal(queue->err.text, "Exceeds maximum queue size");
    assert_true(submit(queue, 3));
    assert_true(md_batcher_cancel(&queue->batcher, &queue->waiters[0]));
    assert_true(submit(queue, 2));
}

static void test_batcher_delayed_ones_count_in_max_size(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.one.policy =
        (struct md_queue_policy){.delays = true, .timeout_ns = 5, .max_size = 2};
    submit_all(queue, 0, 1);
    queue->now_ns += 5;
    assert_none_expired(queue);
    assert_false(submit(queue, 2));
}

static void test_batcher_max_bytes_are_of_all(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.max_bytes = 100;
    queue->batcher.config.max_rows = 1;
    queue->waiters[0].bytes = 60;
    queue->waiters[1].bytes = 41;
    queue->waiters[2].bytes = 40;
    queue->waiters[3].bytes = 1;
    queue->waiters[4].bytes = UINT64_MAX;
    submit_all(queue, 0, 0);
    assert_false(submit(queue, 1));
    assert_int_equal(queue->err.reason, MD_REASON_QUEUE_FULL);
    assert_true(submit(queue, 2));
    assert_false(submit(queue, 3));
    assert_false(submit(queue, 4));
    PICK(queue, FULL, 0);
    PICK(queue, IDLE, 2);
    assert_int_equal(queue->batcher.bytes, 0);
    assert_true(submit(queue, 4)); /* it alone may have more, else it would never run */
    assert_false(submit(queue, 3));
    PICK(queue, IDLE, 4);
    assert_true(submit(queue, 3));
}

static void test_batcher_timeouts_only_shorten_where_allowed(void **state)
{
    static const struct {
        uint64_t policy_ns, own_ns, expected_ns;
        bool allows;
    } cases[] = {
        {0, 0, UINT64_MAX, true}, {0, 70, UINT64_MAX, false},
        {0, 70, 70, true},        {50, 0, 50, true},
        {50, 70, 50, true},       {50, 20, 20, true},
        {50, 20, 50, false},      {UINT64_MAX, 0, UINT64_MAX, false},
        {UINT64_MAX, 5, 5, true}, {0, UINT64_MAX, UINT64_MAX, true},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct queue *queue = queue_new();
        queue->batcher.one.policy = (struct md_queue_policy){.timeout_ns = cases[i].policy_ns,
                                                             .allows_override = cases[i].allows};
        queue->waiters[0].timeout_ns = cases[i].own_ns;
        submit_all(queue, 0, 0);
        uint64_t expected_ns = cases[i].expected_ns;
        if (expected_ns != UINT64_MAX) {
            expected_ns += queue->now_ns;
            queue->now_ns = expected_ns - 1;
            assert_none_expired(queue);
            queue->now_ns++;
        }
        assert_true(next_limit(&queue->batcher) == expected_ns);
        if (expected_ns != UINT64_MAX) {
            EXPIRED(queue, QUEUE_TIMEOUT, 0);
        }
    }
}

static void test_batcher_expires_in_order_of_the_limits(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.one.policy.allows_override = true;
    queue->waiters[0].timeout_ns = 300;
    queue->waiters[1].timeout_ns = 100;
    queue->waiters[3].timeout_ns = 200;
    submit_all(queue, 0, 3);
    queue->now_ns += 200;
    EXPIRED(queue, QUEUE_TIMEOUT, 1, 3);
    assert_true(next_limit(&queue->batcher) == queue->now_ns + 100);
    PICK(queue, IDLE, 0, 2);
    assert_true(next_limit(&queue->batcher) == UINT64_MAX);
}

static void test_batcher_delay_moves_behind_those_in_time(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    set_levels(queue, 2);
    queue->levels[0].policy =
        (struct md_queue_policy){.delays = true, .timeout_ns = 100, .allows_override = true};
    queue->waiters[1].timeout_ns = 50;
    queue->waiters[3].priority = 2;
    queue->waiters[4].deadline_ns = queue->now_ns + 200;
    submit_all(queue, 0, 4);
    queue->now_ns += 50;
    assert_none_expired(queue);
    submit_all(queue, 5, 5);
    queue->now_ns += 50;
    assert_none_expired(queue);
    assert_true(next_limit(&queue->batcher) == queue->now_ns + 50);
    queue->batcher.config.max_requests = 4;
    PICK(queue, FULL, 5, 1, 0, 2);
    assert_true(next_limit(&queue->batcher) == queue->now_ns + 100);
    queue->now_ns += 100; /* delayed, but it still has a deadline */
    EXPIRED(queue, DEADLINE, 4);
    PICK(queue, IDLE, 3);
    queue->waiters[6].deadline_ns = queue->now_ns + 200;
    submit_all(queue, 6, 6);
    queue->now_ns += 200; /* nobody has looked since, else it would have been delayed */
    EXPIRED(queue, DEADLINE, 6);
}

static void test_batcher_cancel_takes_any_out(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.one.policy.timeout_ns = 100;
    submit_all(queue, 0, 4);
    assert_true(md_batcher_cancel(&queue->batcher, &queue->waiters[2]));
    assert_false(md_batcher_cancel(&queue->batcher, &queue->waiters[2]));
    assert_true(md_batcher_cancel(&queue->batcher, &queue->waiters[0]));
    assert_true(md_batcher_cancel(&queue->batcher, &queue->waiters[4]));
    PICK(queue, IDLE, 1, 3);
    assert_false(md_batcher_cancel(&queue->batcher, &queue->waiters[1]));
    assert_true(next_limit(&queue->batcher) == UINT64_MAX);
}

static void test_batcher_drain_takes_all_in_order(void **state)
{
    struct queue *queue = queue_new();
    struct md_waiter *waiter;

    (void)state;
    submit_all(queue, 0, 9);
    waiter = md_batcher_drain(&queue->batcher);
    for (size_t i = 0; i <= 9; i++, waiter = waiter->next) {
        assert_ptr_equal(waiter, &queue->waiters[i]);
        assert_false(waiter->waits);
    }
    assert_null(waiter);
    assert_int_equal(queue->batcher.length, 0);
}

static void test_batcher_cuts_to_the_largest_preferred_size(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.preferred[0] = 2;
    queue->batcher.config.preferred[1] = 4;
    queue->batcher.config.preferred_count = 2;
    submit_all(queue, 0, 2);
    PICK(queue, FULL, 0, 1);
    PICK(queue, IDLE, 2); /* less than the smallest, no delay */
    submit_all(queue, 3, 8);
    PICK(queue, FULL, 3, 4, 5, 6);
    PICK(queue, FULL, 7, 8);
    queue->waiters[13].rows = 2; /* alone */
    submit_all(queue, 13, 13);
    PICK(queue, FULL, 13);
    queue->waiters[9].rows = 3; /* none is met: the last before the largest would be exceeded */
    queue->waiters[10].rows = 3;
    submit_all(queue, 9, 10);
    PICK(queue, FULL, 9);
    PICK(queue, IDLE, 10);
    queue->waiters[11].rows = 6;
    submit_all(queue, 11, 12);
    PICK(queue, FULL, 11);
}

static void test_batcher_delay_waits_for_more(void **state)
{
    struct queue *queue = queue_new();
    uint64_t until_ns = queue->now_ns + 100 * US;

    (void)state;
    queue->batcher.config.delay_ns = 100 * US;
    submit_all(queue, 0, 0);
    assert_deferred(queue, until_ns);
    queue->now_ns += 60 * US;
    submit_all(queue, 1, 1);
    assert_deferred(queue, until_ns);
    queue->now_ns = until_ns - 1;
    assert_deferred(queue, until_ns);
    queue->now_ns = until_ns;
    PICK(queue, DELAY, 0, 1);
    submit_all(queue, 2, 9);
    PICK(queue, FULL, 2, 3, 4, 5, 6, 7, 8, 9);
}

static void test_batcher_delay_with_preferred_sizes(void **state)
{
    struct queue *queue = queue_new();
    uint64_t until_ns = queue->now_ns + 100 * US;

    (void)state;
    queue->batcher.config.delay_ns = 100 * US;
    queue->batcher.config.preferred[0] = 4;
    queue->batcher.config.preferred_count = 1;
    submit_all(queue, 0, 2);
    assert_deferred(queue, until_ns);
    submit_all(queue, 3, 4);
    PICK(queue, FULL, 0, 1, 2, 3);
    assert_deferred(queue, until_ns);
    submit_all(queue, 5, 10);
    queue->now_ns = until_ns; /* over: all that fit, whatever is preferred */
    PICK(queue, DELAY, 4, 5, 6, 7, 8, 9, 10);
}

static void test_batcher_delay_does_not_hold_up_other_shapes(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.delay_ns = 100 * US;
    queue->waiters[1].shape = 1;
    submit_all(queue, 0, 2);
    PICK(queue, IDLE, 0, 2);
    assert_deferred(queue, queue->now_ns + 100 * US);
}

static void test_batcher_delay_ends_where_a_deadline_needs_it(void **state)
{
    struct queue *queue = queue_new();
    uint64_t begin_ns = queue->now_ns;

    (void)state;
    queue->batcher.config.delay_ns = 100 * MS;
    learn(queue, 1, 10 * MS);
    learn(queue, 2, 12 * MS);
    learn(queue, 8, 24 * MS);
    queue->waiters[0].deadline_ns = begin_ns + 64 * MS;
    submit_all(queue, 0, 0);
    assert_deferred(queue, begin_ns + 46 * MS); /* with one more it takes 12; a margin of 2 + 4 */
    queue->now_ns = begin_ns + 46 * MS;
    PICK(queue, DEADLINE, 0);
    queue->waiters[1].deadline_ns = queue->now_ns + 11 * MS; /* cannot grow at all */
    submit_all(queue, 1, 1);
    PICK(queue, DEADLINE, 1);
}

static void test_batcher_delay_with_unknown_times_does_not_risk_deadlines(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.delay_ns = 100 * MS;
    queue->waiters[0].deadline_ns = queue->now_ns + 1000 * MS;
    submit_all(queue, 0, 0);
    PICK(queue, DEADLINE, 0);
}

static void test_batcher_grows_as_long_as_all_are_in_time(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    learn(queue, 8, 24 * MS); /* 2 each */
    queue->forecast.free_ns = 0;
    queue->waiters[0].deadline_ns = queue->now_ns + 100 * MS;
    queue->waiters[1].deadline_ns = queue->now_ns + 15 * MS;
    submit_all(queue, 0, 0);
    assert_true(submit(queue, 1));
    submit_all(queue, 2, 5);
    PICK(queue, DEADLINE, 0, 1, 2); /* 14 */
    PICK(queue, IDLE, 3, 4, 5);
}

static void test_batcher_passes_over_who_would_be_late_in_the_batch(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    learn(queue, 8, 24 * MS);
    submit_all(queue, 0, 1);
    queue->waiters[2].deadline_ns = queue->now_ns + 13 * MS;
    assert_true(md_batcher_submit(&queue->batcher, (queue->waiters[2].rows = 1, &queue->waiters[2]),
                                  &queue->time, NULL, queue->now_ns, &queue->err));
    submit_all(queue, 3, 3);
    PICK(queue, IDLE, 0, 1, 3);
    PICK(queue, IDLE, 2); /* another instance */
}

static void test_batcher_gives_up_the_first_that_cannot_be_in_time(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    queue->batcher.config.max_rows = 1;
    for (size_t i = 0; i < 3; i++) {
        queue->waiters[i].deadline_ns = queue->now_ns + (i + 1) * 40 * MS;
    }
    submit_all(queue, 0, 2);
    queue->now_ns += 30 * MS;
    assert_none_expired(queue);
    queue->now_ns++;
    EXPIRED(queue, DEADLINE_UNREACHABLE, 0);
    PICK(queue, FULL, 1);
}

static void test_batcher_refuses_what_is_too_late_or_will_be(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    queue->waiters[0].deadline_ns = queue->now_ns;
    assert_false(submit(queue, 0));
    assert_int_equal(queue->err.reason, MD_REASON_DEADLINE);
    queue->waiters[0].deadline_ns = queue->now_ns + 10 * MS - 1;
    assert_false(submit(queue, 0));
    assert_int_equal(queue->err.reason, MD_REASON_DEADLINE_UNREACHABLE);
    queue->waiters[0].deadline_ns++;
    assert_true(submit(queue, 0));
    assert_int_equal(queue->batcher.length, 1);
}

static void test_batcher_predicts_by_what_is_ahead(void **state)
{
    struct queue *queue = queue_new();
    struct md_waiter *own = &queue->waiters[WAITERS - 1];
    uint64_t now_ns = queue->now_ns;

#define PREDICTED() \
    md_batcher_predict(&queue->batcher, own, &queue->time, &queue->forecast, queue->now_ns)
    (void)state;
    own->rows = 1;
    own->priority = 2;
    set_levels(queue, 2);
    assert_int_equal(PREDICTED(), 0);
    learn(queue, 1, 10 * MS);
    learn(queue, 8, 24 * MS);
    assert_int_equal(PREDICTED(), now_ns + 10 * MS);
    queue->forecast.free_ns = now_ns + 5 * MS;
    assert_int_equal(PREDICTED(), now_ns + 15 * MS);
    submit_all(queue, 0, 2); /* before it; it joins them */
    assert_int_equal(PREDICTED(), now_ns + 21 * MS);
    submit_all(queue, 3, 19); /* two batches, a rest */
    assert_int_equal(PREDICTED(), now_ns + 5 * MS + 3 * 24 * MS);
    queue->forecast.instances = 2;
    assert_int_equal(PREDICTED(), now_ns + 5 * MS + 2 * 24 * MS);
    queue->forecast.stretch_permille =
        2500; /* others come between: each 30, not 12 after another */
    assert_int_equal(PREDICTED(), now_ns + 5 * MS + 18 * MS + 2 * 30 * MS + 24 * MS);
    own->priority = 1; /* the default level: as before */
    assert_int_equal(PREDICTED(), now_ns + 5 * MS + 18 * MS + 2 * 30 * MS + 24 * MS);
    queue->batcher.config.max_rows = 1;
    queue->forecast = (struct md_forecast){.instances = 1, .stretch_permille = 1000};
    assert_int_equal(PREDICTED(), now_ns + 21 * 10 * MS);
    queue->forecast.free_ns = UINT64_MAX - 1;
    assert_true(PREDICTED() == UINT64_MAX);
#undef PREDICTED
}

static void test_batcher_predicts_a_full_batch_where_many_are_refused(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    learn(queue, 8, 24 * MS);
    queue->forecast.free_ns = queue->now_ns + 5 * MS;
    for (size_t i = 0; i < 7; i++) { /* 15 is what it would take, then more and more */
        queue->waiters[i].deadline_ns = queue->now_ns + 14 * MS;
        assert_false(submit(queue, i));
    }
    queue->waiters[7].deadline_ns = queue->now_ns + 28 * MS;
    assert_false(submit(queue, 7));
    queue->waiters[8].deadline_ns = queue->now_ns + 29 * MS;
    assert_true(submit(queue, 8));
    PICK(queue, IDLE, 8);
    queue->waiters[9].deadline_ns = queue->now_ns + 15 * MS;
    assert_true(submit(queue, 9));
}

/* One of nine needs a small batch; the others want their answers within others_ns. */
static void submit_a_tight_one(struct queue *queue, size_t tight, uint64_t others_ns)
{
    learn(queue, 1, 10 * MS);
    learn(queue, 8, 17 * MS); /* 1 each */
    for (size_t i = 0; i < 9; i++) {
        queue->waiters[i].rows = 1;
        queue->waiters[i].deadline_ns = queue->now_ns + (i == tight ? 11 * MS : others_ns);
        assert_true(md_batcher_submit(&queue->batcher, &queue->waiters[i], &queue->time, NULL,
                                      queue->now_ns, &queue->err));
    }
}

static void test_batcher_small_batch_first_where_the_others_have_time(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    submit_a_tight_one(queue, 0, 100 * MS);
    PICK(queue, DEADLINE, 0, 1);
    PICK(queue, IDLE, 2, 3, 4, 5, 6, 7, 8);
}

static void test_batcher_passes_over_who_would_make_the_others_late(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    submit_a_tight_one(queue, 0, 25 * MS); /* 11 and 17 would be too much */
    PICK(queue, FULL, 1, 2, 3, 4, 5, 6, 7, 8);
    PICK(queue, IDLE, 0); /* on another instance */
}

static void test_batcher_small_batch_first_where_nothing_is_gained(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    submit_a_tight_one(queue, 0, 85 * MS);
    queue->time = (struct md_learned_time){0};
    learn(queue, 1, 10 * MS);
    learn(queue, 8,
          80 * MS); /* 90 would be too much, but eight at once take as long as one by one */
    PICK(queue, DEADLINE, 0);
}

/* Offers requests that are refused because of their deadlines; returns how many were, up to max. */
static size_t count_refused(struct queue *queue, size_t from, size_t max)
{
    size_t refused = 0;

    for (; refused < max; refused++) {
        struct md_waiter *waiter = &queue->waiters[from + refused];
        *waiter = (struct md_waiter){.deadline_ns = queue->now_ns + 5 * MS};
        if (submit(queue, from + refused)) {
            break;
        }
        assert_int_equal(queue->err.reason, MD_REASON_DEADLINE_UNREACHABLE);
    }
    return refused;
}

static void test_batcher_refusals_count_only_where_times_alone_are_the_reason(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    queue->forecast.free_ns = queue->now_ns + 1; /* busy */
    assert_int_equal(count_refused(queue, 0, 200), 200);
    queue->forecast.free_ns = 0;
    submit_all(queue, 200, 200); /* others wait */
    assert_int_equal(count_refused(queue, 0, 200), 200);
    PICK(queue, IDLE, 200);
    assert_int_equal(count_refused(queue, 0, MD_BATCHER_REFUSALS), MD_BATCHER_REFUSALS);
    submit_all(queue, 201, 201); /* one that has started begins it anew */
    PICK(queue, IDLE, 201);
    assert_int_equal(count_refused(queue, 0, 200), MD_BATCHER_REFUSALS);
    PICK(queue, IDLE, MD_BATCHER_REFUSALS);
}

static void test_batcher_gives_up_in_the_queue_as_long_as_others_wait(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    assert_int_equal(count_refused(queue, 0, MD_BATCHER_REFUSALS), MD_BATCHER_REFUSALS);
    for (size_t i = 0; i < 3; i++) { /* these come unforeseen */
        queue->waiters[i] = (struct md_waiter){.rows = 1, .deadline_ns = queue->now_ns + 5 * MS};
        assert_true(md_batcher_submit(&queue->batcher, &queue->waiters[i], &queue->time, NULL,
                                      queue->now_ns, &queue->err));
    }
    EXPIRED(queue, DEADLINE_UNREACHABLE, 0, 1);
    PICK(queue, IDLE, 2); /* the last is tried */
    assert_true(queue->waiters[2].is_tried);
    assert_int_equal(count_refused(queue, 2, 1), 1);
    assert_true(md_batcher_submit(&queue->batcher, &queue->waiters[2], &queue->time, NULL,
                                  queue->now_ns, &queue->err));
    assert_false(queue->waiters[2].is_tried);
}

static void test_batcher_lets_one_through_after_many_refusals(void **state)
{
    struct queue *queue = queue_new();
    size_t i;

    (void)state;
    learn(queue, 1, 10000ULL * MS); /* as after something that will not come again */
    for (i = 0; i < WAITERS; i++) {
        queue->waiters[i].deadline_ns = queue->now_ns + 100 * MS;
        if (submit(queue, i)) {
            break;
        }
    }
    assert_int_equal(i, MD_BATCHER_REFUSALS);
    assert_none_expired(queue);
    PICK(queue, IDLE, (int)i);
    queue->waiters[i + 1].deadline_ns = queue->now_ns + 100 * MS;
    assert_false(submit(queue, i + 1));
}

/* What a run takes may depend on what is in it: an idle instance tries what has been possible. */
static void test_batcher_tries_what_has_been_fast_enough(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 70 * MS);
    md_learned_time_add(&queue->time, 1, 4 * MS);
    md_learned_time_add(&queue->time, 1, 70 * MS);
    queue->waiters[0].deadline_ns = queue->now_ns + 40 * MS;
    submit_all(queue, 0, 0);
    assert_none_expired(queue);
    PICK(queue, IDLE, 0);
    queue->waiters[1].deadline_ns = queue->now_ns + 3 * MS; /* it has not */
    assert_false(submit(queue, 1));
    queue->waiters[2].rows = 8; /* may take as little, for all that is known */
    queue->waiters[2].deadline_ns = queue->now_ns + 40 * MS;
    submit_all(queue, 2, 2);
    assert_none_expired(queue);
    PICK(queue, FULL, 2);
    queue->forecast.free_ns = queue->now_ns + 1; /* busy: no time to try */
    queue->waiters[3].deadline_ns = queue->now_ns + 40 * MS;
    assert_false(submit(queue, 3));
}

/* What has been possible for the size that it is padded to. */
static void test_batcher_tries_what_has_been_fast_enough_padded(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.allowed[0] = 4;
    queue->batcher.config.allowed[1] = 8;
    queue->batcher.config.allowed_count = 2;
    learn(queue, 4, 70 * MS);
    md_learned_time_add(&queue->time, 4, 4 * MS);
    md_learned_time_add(&queue->time, 4, 70 * MS);
    queue->waiters[0].deadline_ns = queue->now_ns + 40 * MS;
    submit_all(queue, 0, 0);
    assert_none_expired(queue);
    PICK(queue, IDLE, 0);
}

/* Who could never be answered in time has not made others wait. */
static void test_batcher_counts_no_rows_that_are_lost_alone(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 2 * MS);
    learn(queue, 8, 20 * MS);
    queue->forecast.free_ns = queue->now_ns + MS;
    for (size_t i = 0; i < 50; i++) {
        queue->waiters[i].deadline_ns = queue->now_ns + MS;
        assert_false(submit(queue, i));
    }
    queue->waiters[50].deadline_ns = queue->now_ns + 10 * MS;
    submit_all(queue, 50, 50);
    PICK(queue, IDLE, 50);
}

static void test_batcher_pads_to_allowed_sizes(void **state)
{
    static const struct {
        uint32_t rows, padding;
    } cases[] = {{1, 0}, {2, 2}, {4, 0}, {5, 1}, {6, 0}, {7, 0}, {9, 0}, {UINT32_MAX, 0}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct queue *queue = queue_new();
        queue->batcher.config.allowed[0] = 1;
        queue->batcher.config.allowed[1] = 4;
        queue->batcher.config.allowed[2] = 6;
        queue->batcher.config.allowed[3] = 16; /* more than a batch may have */
        queue->batcher.config.allowed_count = 4;
        queue->waiters[0].rows = cases[i].rows;
        submit_all(queue, 0, 0);
        md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
        assert_int_equal(queue->choice.padding, cases[i].padding);
    }
}

struct lesson {
    uint32_t rows;
    uint64_t spent_ns;
};

/* Of several sizes in turn, so that none is known from long ago; and of no others. */
static void learn_all(struct queue *queue, const struct lesson *lessons, size_t count)
{
    queue->time = (struct md_learned_time){0};
    for (unsigned i = 0; i < 100; i++) {
        for (size_t k = 0; k < count; k++) {
            md_learned_time_add(&queue->time, lessons[k].rows, lessons[k].spent_ns);
        }
    }
}

#define LEARN_ALL(queue, ...)                              \
    learn_all(queue, (const struct lesson[]){__VA_ARGS__}, \
              sizeof((const struct lesson[]){__VA_ARGS__}) / sizeof(struct lesson))

/* As if so many batches of shape 0 had run, none of them for trial. */
static void have_run_alike(struct queue *queue)
{
    queue->batcher.alike = queue->batcher.since_trial = MD_BATCHER_ALIKE;
    queue->batcher.last_shape = 0;
}

static void test_batcher_makes_no_batch_in_vain(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    have_run_alike(queue);
    LEARN_ALL(queue, {1, 10 * MS}, {2, 19 * MS}, {4, 38 * MS}, {8, 74 * MS});
    submit_all(queue, 0, 7);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5, 6, 7);
    LEARN_ALL(queue, {1, 10 * MS}, {2, 19 * MS}, {4, 39 * MS}, {8, 77 * MS}); /* and a gathering */
    submit_all(queue, 0, 7);
    PICK(queue, FULL, 0, 1); /* eight are two times four, four two times two */
    LEARN_ALL(queue, {1, 9 * MS}, {2, 19 * MS}, {4, 39 * MS}, {8, 79 * MS});
    PICK(queue, IDLE, 2, 3, 4, 5, 6, 7); /* six are not known */
    submit_all(queue, 0, 3);
    PICK(queue, FULL, 0);
}

static void test_batcher_makes_the_batches_that_are_asked_for(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    have_run_alike(queue);
    LEARN_ALL(queue, {1, 5 * MS}, {2, 11 * MS}, {4, 23 * MS}, {8, 79 * MS});
    queue->batcher.config.delay_ns = 1;
    submit_all(queue, 0, 7);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5, 6, 7);
    queue->batcher.config.delay_ns = 0;
    queue->batcher.config.preferred[0] = 6;
    queue->batcher.config.preferred_count = 1;
    submit_all(queue, 0, 5);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5);
    queue->batcher.config.preferred[0] = 8; /* as large as may be: nothing is asked for */
    submit_all(queue, 0, 7);
    PICK(queue, FULL, 0);
}

/* Times are kept by rows: of requests of several shapes they say nothing of one. */
static void test_batcher_goes_by_times_of_one_shape(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    LEARN_ALL(queue, {1, 10 * MS}, {2, 21 * MS});
    queue->waiters[0].shape = 7;
    for (int i = 0; i < MD_BATCHER_ALIKE; i++) {
        submit_all(queue, 1, 2);
        PICK(queue, IDLE, 1, 2);
    }
    submit_all(queue, 1, 2);
    PICK(queue, FULL, 1);
    PICK(queue, IDLE, 2);
    submit_all(queue, 0, 0);
    PICK(queue, IDLE, 0);
    queue->waiters[1].shape = queue->waiters[2].shape = 0;
    submit_all(queue, 1, 2);
    PICK(queue, IDLE, 1, 2);
}

/* In the whole all are in time; in two parts they may not be, where somebody comes between. */
static void test_batcher_cuts_nobody_off_from_its_deadline(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    have_run_alike(queue);
    LEARN_ALL(queue, {1, 9 * MS}, {2, 20 * MS}, {4, 40 * MS});
    queue->waiters[1].deadline_ns = queue->now_ns + 41 * MS;
    submit_all(queue, 0, 1);
    PICK(queue, FULL, 0);
    PICK(queue, IDLE, 1);
    queue->waiters[1].deadline_ns = queue->now_ns + 39 * MS;
    submit_all(queue, 0, 1);
    PICK(queue, IDLE, 0, 1);
    queue->waiters[0].deadline_ns =
        queue->now_ns + 25 * MS; /* what keeps it small stays as it is */
    queue->waiters[1].deadline_ns = queue->now_ns + 100 * MS;
    submit_all(queue, 0, 2);
    PICK(queue, DEADLINE, 0, 1);
}

static void test_batcher_tries_sizes_that_are_not_known_well(void **state)
{
    struct queue *queue = queue_new();
    int tried = 0;

    (void)state;
    have_run_alike(queue);
    md_learned_time_add(&queue->time, 1, 8 * MS);
    for (int i = 0; i < MD_LEARNED_SETTLED; i++) {
        submit_all(queue, 0, 1);
        PICK(queue, IDLE, 0, 1); /* two are not known */
        md_learned_time_add(&queue->time, 2, 11 * MS);
    }
    for (int i = 0; i < 10 * MD_BATCHER_TRIALS; i++) { /* one of so many */
        submit_all(queue, 0, 1);
        md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
        md_learned_time_add(&queue->time, queue->choice.rows,
                            queue->choice.rows == 1 ? 8 * MS : 11 * MS);
        if (queue->choice.rows == 1) {
            tried++;
            PICK(queue, IDLE, 1);
        }
    }
    assert_int_equal(tried, MD_LEARNED_SETTLED - 1); /* they are known then */
    learn(queue, 2, 11 * MS);
    submit_all(queue, 0, 1);
    PICK(queue, FULL, 0); /* it was long ago that one took that long */
    PICK(queue, IDLE, 1);
    learn(queue, 2, 8 * MS);
    submit_all(queue, 0, 1);
    PICK(queue, IDLE, 0, 1); /* twice as long: not worth a try */
}

static void test_batcher_cuts_where_padding_costs_more(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.allowed[0] = 1;
    queue->batcher.config.allowed[1] = 6;
    queue->batcher.config.allowed[2] = 8;
    queue->batcher.config.allowed_count = 3;
    learn(queue, 1, 2 * MS);
    learn(queue, 6, 12 * MS);
    learn(queue, 8, 15 * MS); /* the others are not settled any more */
    submit_all(queue, 0, 6);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5);
    assert_int_equal(queue->choice.padding, 0);
    PICK(queue, IDLE, 6);
    submit_all(queue, 0, 7);
    PICK(queue, FULL, 0, 1, 2, 3, 4, 5, 6, 7);
    submit_all(queue, 0, 4); /* five are padded to six, as four would be */
    PICK(queue, IDLE, 0, 1, 2, 3, 4);
    LEARN_ALL(queue, {1, 2 * MS}, {6, 7 * MS}, {8, 8 * MS});
    submit_all(queue, 0, 6);
    PICK(queue, IDLE, 0, 1, 2, 3, 4, 5, 6);
    assert_int_equal(queue->choice.padding, 1);
    LEARN_ALL(queue, {1, 2 * MS}, {6, 12 * MS}, {8, 16 * MS});
    queue->waiters[16].rows = 7; /* cannot be cut */
    submit_all(queue, 16, 16);
    PICK(queue, IDLE, 16);
    assert_int_equal(queue->choice.padding, 1);
}

/* Eight are believed to take as long as eight times one: only who runs them sees that it is not so.
 */
static void test_batcher_tries_what_would_be_padded(void **state)
{
    struct queue *queue = queue_new();
    int runs = 0;

    (void)state;
    queue->batcher.config.allowed[0] = 1;
    queue->batcher.config.allowed[1] = 8;
    queue->batcher.config.allowed_count = 2;
    learn(queue, 1, 10 * MS);
    do {
        submit_all(queue, 0, 1);
        md_batcher_pick(&queue->batcher, &queue->time, queue->now_ns, &queue->choice);
        if (queue->choice.rows == 1) {
            PICK(queue, IDLE, 1);
        }
    } while (queue->choice.rows == 1 && ++runs < 100);
    assert_in_range(runs, 1, MD_BATCHER_TRIALS);
    learn(queue, 8, 11 * MS);
    submit_all(queue, 0, 1);
    PICK(queue, IDLE, 0, 1);
}

/* Those behind, too: it is the device's time that a part may take longer. */
static void test_batcher_cuts_nobody_behind_off_from_its_limit(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    have_run_alike(queue);
    queue->batcher.config.max_rows = 2;
    LEARN_ALL(queue, {1, 9 * MS}, {2, 20 * MS});
    submit_all(queue, 0, 1);
    queue->batcher.one.policy.timeout_ns = 39 * MS;
    submit_all(queue, 2, 2);
    PICK(queue, FULL, 0, 1);
    PICK(queue, IDLE, 2);
    queue->batcher.one.policy.timeout_ns = 0;
    submit_all(queue, 0, 1);
    queue->batcher.one.policy.timeout_ns = 41 * MS;
    submit_all(queue, 2, 2);
    PICK(queue, FULL, 0);
}

static void test_batcher_without_times_only_pads(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    queue->batcher.config.allowed[0] = 1;
    queue->batcher.config.allowed[1] = 8;
    queue->batcher.config.allowed_count = 2;
    submit_all(queue, 0, 2);
    PICK(queue, IDLE, 0, 1, 2);
    assert_int_equal(queue->choice.padding, 5);
}

static void test_batcher_counts_padding_in_times(void **state)
{
    struct queue *queue = queue_new();

    (void)state;
    learn(queue, 1, 10 * MS);
    learn(queue, 2, 12 * MS);
    learn(queue, 8, 24 * MS);
    queue->batcher.config.allowed[0] = 2;
    queue->batcher.config.allowed[1] = 8;
    queue->batcher.config.allowed_count = 2;
    queue->waiters[0].deadline_ns = queue->now_ns + 20 * MS;
    submit_all(queue, 0, 2);
    PICK(queue, DEADLINE, 0, 1); /* 3 would take what 8 take */
    assert_int_equal(queue->choice.padding, 0);
}

static void test_batcher_names_its_starts(void **state)
{
    (void)state;
    assert_string_equal(md_start_name(MD_START_IDLE), "idle");
    assert_string_equal(md_start_name(MD_START_FULL), "full");
    assert_string_equal(md_start_name(MD_START_DELAY), "delay");
    assert_string_equal(md_start_name(MD_START_DEADLINE), "deadline");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batcher_empty_has_nothing),
        cmocka_unit_test(test_batcher_without_batches_each_runs_alone),
        cmocka_unit_test(test_batcher_starts_at_once_with_all_that_wait),
        cmocka_unit_test(test_batcher_is_full_by_rows_or_requests),
        cmocka_unit_test(test_batcher_a_larger_request_runs_alone),
        cmocka_unit_test(test_batcher_shapes_do_not_mix),
        cmocka_unit_test(test_batcher_looks_only_so_far),
        cmocka_unit_test(test_batcher_levels_come_in_order),
        cmocka_unit_test(test_batcher_has_the_last_of_all_levels),
        cmocka_unit_test(test_batcher_max_size_is_of_a_level),
        cmocka_unit_test(test_batcher_delayed_ones_count_in_max_size),
        cmocka_unit_test(test_batcher_max_bytes_are_of_all),
        cmocka_unit_test(test_batcher_timeouts_only_shorten_where_allowed),
        cmocka_unit_test(test_batcher_expires_in_order_of_the_limits),
        cmocka_unit_test(test_batcher_delay_moves_behind_those_in_time),
        cmocka_unit_test(test_batcher_cancel_takes_any_out),
        cmocka_unit_test(test_batcher_drain_takes_all_in_order),
        cmocka_unit_test(test_batcher_cuts_to_the_largest_preferred_size),
        cmocka_unit_test(test_batcher_delay_waits_for_more),
        cmocka_unit_test(test_batcher_delay_with_preferred_sizes),
        cmocka_unit_test(test_batcher_delay_does_not_hold_up_other_shapes),
        cmocka_unit_test(test_batcher_delay_ends_where_a_deadline_needs_it),
        cmocka_unit_test(test_batcher_delay_with_unknown_times_does_not_risk_deadlines),
        cmocka_unit_test(test_batcher_grows_as_long_as_all_are_in_time),
        cmocka_unit_test(test_batcher_passes_over_who_would_be_late_in_the_batch),
        cmocka_unit_test(test_batcher_gives_up_the_first_that_cannot_be_in_time),
        cmocka_unit_test(test_batcher_refuses_what_is_too_late_or_will_be),
        cmocka_unit_test(test_batcher_predicts_by_what_is_ahead),
        cmocka_unit_test(test_batcher_predicts_a_full_batch_where_many_are_refused),
        cmocka_unit_test(test_batcher_small_batch_first_where_the_others_have_time),
        cmocka_unit_test(test_batcher_passes_over_who_would_make_the_others_late),
        cmocka_unit_test(test_batcher_small_batch_first_where_nothing_is_gained),
        cmocka_unit_test(test_batcher_refusals_count_only_where_times_alone_are_the_reason),
        cmocka_unit_test(test_batcher_gives_up_in_the_queue_as_long_as_others_wait),
        cmocka_unit_test(test_batcher_lets_one_through_after_many_refusals),
        cmocka_unit_test(test_batcher_tries_what_has_been_fast_enough),
        cmocka_unit_test(test_batcher_tries_what_has_been_fast_enough_padded),
        cmocka_unit_test(test_batcher_counts_no_rows_that_are_lost_alone),
        cmocka_unit_test(test_batcher_pads_to_allowed_sizes),
        cmocka_unit_test(test_batcher_makes_no_batch_in_vain),
        cmocka_unit_test(test_batcher_makes_the_batches_that_are_asked_for),
        cmocka_unit_test(test_batcher_goes_by_times_of_one_shape),
        cmocka_unit_test(test_batcher_cuts_nobody_off_from_its_deadline),
        cmocka_unit_test(test_batcher_tries_sizes_that_are_not_known_well),
        cmocka_unit_test(test_batcher_cuts_where_padding_costs_more),
        cmocka_unit_test(test_batcher_tries_what_would_be_padded),
        cmocka_unit_test(test_batcher_cuts_nobody_behind_off_from_its_limit),
        cmocka_unit_test(test_batcher_without_times_only_pads),
        cmocka_unit_test(test_batcher_counts_padding_in_times),
        cmocka_unit_test(test_batcher_names_its_starts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
