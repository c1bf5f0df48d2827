/*
 * policy/batcher with millions of random events beside a model of it that searches plain arrays:
 * requests that come, are cancelled, expire and are picked by several instances. Configurations,
 * numbers and times are random, too; the seed is fixed (MODELD_SEED: another, MODELD_EVENTS: more).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/batcher.h"
#include "unit/policy/next_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAITERS = 96, INSTANCES = 3, EVENTS = 2000000, EVENTS_PER_CONFIG = 1500, US = 1000 };

enum place { FREE, WAITS, RUNS };

/* What the model knows of a waiter. */
struct seen {
    enum place place;
    uint32_t level;
    bool is_delayed;
    uint64_t order;               /* in its list */
    uint64_t expiry_ns, limit_ns; /* UINT64_MAX: none */
};

struct world {
    struct md_batcher batcher;
    struct md_batcher_level levels[MD_BATCHER_LEVELS_MAX];
    struct md_learned_time time;
    struct md_waiter waiters[WAITERS];
    struct seen seen[WAITERS];
    struct md_waiter *running[INSTANCES];
    uint64_t end_ns[INSTANCES];
    uint64_t now_ns, seed, next_order, again_ns;
    uint64_t base_ns, row_ns; /* of a batch */
    bool is_uneven;           /* more rows may take less */
    size_t starts, members, refused, expired, delayed, lost, deferred, overtaken; /* counted */
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->seed = world->seed * 6364136223846793005U + 1442695040888963407U;
    return (world->seed >> 33) % below;
}

static bool chance(struct world *world, uint64_t percent)
{
    return draw(world, 100) < percent;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t deadline_of(const struct md_waiter *waiter)
{
    return waiter->deadline_ns ? waiter->deadline_ns : UINT64_MAX;
}

static uint32_t padded(const struct md_batcher_config *config, uint32_t rows)
{
    uint32_t best = rows;

    for (uint32_t i = config->allowed_count; i-- > 0;) {
        if (config->allowed[i] >= rows && config->allowed[i] <= config->max_rows) {
            best = config->allowed[i];
        }
    }
    return best;
}

/* Exact: the learned times are told, not learned. */
static uint64_t batch_time(const struct world *world, uint32_t rows)
{
    return md_learned_time_mean(&world->time, padded(&world->batcher.config, rows));
}

static void choose_config(struct world *world)
{
    struct md_batcher_config *config = &world->batcher.config;

    memset(&world->batcher, 0, sizeof(world->batcher));
    memset(world->levels, 0, sizeof(world->levels));
    world->batcher.levels = world->levels;
    memset(&world->time, 0, sizeof(world->time));
    memset(world->seen, 0, sizeof(world->seen));
    memset(world->running, 0, sizeof(world->running));
    config->max_rows = chance(world, 10)   ? (uint32_t)draw(world, 2)
                       : chance(world, 10) ? UINT32_MAX
                                           : (uint32_t)draw(world, 16) + 1;
    config->max_requests = chance(world, 30)   ? (uint32_t)draw(world, 4) + 1
                           : chance(world, 10) ? UINT32_MAX
                                               : 64;
    for (uint32_t i = 0, size = 0; chance(world, 25) && i < 4; i++) {
        config->preferred[config->preferred_count++] = size += 1 + (uint32_t)draw(world, 4);
    }
    for (uint32_t i = 0, size = 0; chance(world, 40) && i < 5; i++) {
        config->allowed[config->allowed_count++] = size += 1 + (uint32_t)draw(world, 5);
    }
    config->delay_ns = chance(world, 30)  ? draw(world, 300 * US) + 1
                       : chance(world, 3) ? UINT64_MAX
                                          : 0;
    config->level_count = chance(world, 60)   ? 1
                          : chance(world, 80) ? (uint32_t)draw(world, 4) + 1
                                              : MD_BATCHER_LEVELS_MAX;
    config->default_level = (uint32_t)draw(world, config->level_count) + 1;
    config->max_bytes = chance(world, 30) ? draw(world, 5000) : 0;
    for (uint32_t i = 0; i < config->level_count; i++) {
        world->levels[i].policy = (struct md_queue_policy){
            .delays = chance(world, 50),
            .timeout_ns = chance(world, 40)  ? draw(world, 400 * US) + 1
                          : chance(world, 3) ? UINT64_MAX
                                             : 0,
            .allows_override = chance(world, 50),
            .max_size = chance(world, 30) ? draw(world, 30) + 1 : 0,
        };
    }
    bool knows = chance(world, 80);
    world->is_uneven = chance(world, 15);
    world->base_ns = draw(world, 50 * US);
    world->row_ns = draw(world, 10 * US) + 1;
    for (uint32_t i = 1; knows && i <= MD_LEARNED_SIZES; i++) {
        world->time.sizes[i].mean_ns =
            world->base_ns + (world->is_uneven ? 1 + draw(world, 20) : i) * world->row_ns;
        world->time.sizes[i].count = MD_LEARNED_SETTLED;
        world->time.known |= 1ULL << (i - 1);
    }
    world->again_ns = UINT64_MAX;
    world->next_order = UINT64_MAX / 2;
}

static bool is_before(const struct seen *a, const struct seen *b)
{
    if (a->level != b->level) {
        return a->level < b->level;
    }
    return a->is_delayed != b->is_delayed ? b->is_delayed : a->order < b->order;
}

/* The numbers of those that wait, in order. */
static size_t sort_waiting(const struct world *world, size_t *numbers)
{
    size_t count = 0;

    for (size_t i = 0; i < WAITERS; i++) {
        if (world->seen[i].place != WAITS) {
            continue;
        }
        size_t at = count++;
        for (; at > 0 && is_before(&world->seen[i], &world->seen[numbers[at - 1]]); at--) {
            numbers[at] = numbers[at - 1];
        }
        numbers[at] = i;
    }
    return count;
}

/* Sums, limits and the next expiry are those of the ones that wait. */
static void assert_consistent(const struct world *world)
{
    const struct md_batcher_config *config = &world->batcher.config;
    uint64_t length = 0, rows = 0, bytes = 0, limit_ns = UINT64_MAX;
    uint64_t sizes[MD_BATCHER_LEVELS_MAX] = {0}, level_rows = 0;

    for (size_t i = 0; i < WAITERS; i++) {
        const struct seen *seen = &world->seen[i];
        assert_int_equal(world->waiters[i].waits, seen->place == WAITS);
        if (seen->place == WAITS) {
            length++;
            rows += world->waiters[i].rows;
            bytes += world->waiters[i].bytes;
            limit_ns = seen->limit_ns < limit_ns ? seen->limit_ns : limit_ns;
            sizes[seen->level]++;
        }
    }
    assert_int_equal(world->batcher.length, length);
    for (uint32_t i = 0; i < config->level_count; i++) {
        level_rows +=
            world->batcher.levels[i].lists[0].rows + world->batcher.levels[i].lists[1].rows;
    }
    assert_true(world->batcher.bytes == bytes && level_rows == rows);
    assert_true(next_limit(&world->batcher) == limit_ns);
    assert_true(!config->max_bytes || bytes <= config->max_bytes || length == 1);
    for (uint32_t i = 0; i < config->level_count; i++) {
        assert_true(!world->levels[i].policy.max_size ||
                    sizes[i] <= world->levels[i].policy.max_size);
    }
}

static void set_limit(struct world *world, size_t i)
{
    uint64_t deadline_ns = deadline_of(&world->waiters[i]), expiry_ns = world->seen[i].expiry_ns;

    world->seen[i].limit_ns = expiry_ns < deadline_ns ? expiry_ns : deadline_ns;
}

static void submit(struct world *world)
{
    const struct md_batcher_config *config = &world->batcher.config;
    size_t i = draw(world, WAITERS), waiting = 0, in_level = 0;
    struct md_waiter *waiter = &world->waiters[i];
    struct md_error err = {.reason = MD_REASON_NONE};
    enum md_reason expected = MD_REASON_NONE;

    if (world->seen[i].place != FREE) {
        return;
    }
    *waiter = (struct md_waiter){
        .priority = chance(world, 50) ? 0 : draw(world, config->level_count + 2),
        .timeout_ns = chance(world, 60) ? 0 : draw(world, 500 * US) + 1,
        .deadline_ns = chance(world, 50)  ? 0
                       : chance(world, 2) ? UINT64_MAX
                       : chance(world, 2) ? 1 + draw(world, world->now_ns)
                                          : world->now_ns + 1 + draw(world, 500 * US),
        .bytes = chance(world, 3) ? UINT32_MAX : draw(world, 500),
        .shape = chance(world, 70) ? 0 : draw(world, 3),
        .rows = chance(world, 70)   ? 1
                : chance(world, 95) ? (uint32_t)draw(world, 20) + 1
                                    : UINT32_MAX - (uint32_t)draw(world, 2),
    };
    uint32_t level =
        (waiter->priority && waiter->priority <= config->level_count ? (uint32_t)waiter->priority
                                                                     : config->default_level) -
        1;
    for (size_t k = 0; k < WAITERS; k++) {
        waiting += world->seen[k].place == WAITS;
        in_level += world->seen[k].place == WAITS && world->seen[k].level == level;
    }
    struct md_forecast forecast = {.free_ns = UINT64_MAX,
                                   .instances = INSTANCES,
                                   .stretch_permille = 1000 + (uint32_t)draw(world, 2000)};
    for (size_t k = 0; k < INSTANCES; k++) {
        uint64_t free_ns = world->running[k] ? world->end_ns[k] : 0;
        forecast.free_ns = free_ns < forecast.free_ns ? free_ns : forecast.free_ns;
    }
    bool foresees = chance(world, 70);
    uint64_t end_ns =
        md_batcher_predict(&world->batcher, waiter, &world->time, &forecast, world->now_ns);
    bool is_tried = !waiting && forecast.free_ns <= world->now_ns &&
                    world->batcher.refusals >= MD_BATCHER_REFUSALS;
    if (world->levels[level].policy.max_size && in_level >= world->levels[level].policy.max_size) {
        expected = MD_REASON_QUEUE_FULL;
    } else if (config->max_bytes && waiting &&
               sum(world->batcher.bytes, waiter->bytes) > config->max_bytes) {
        expected = MD_REASON_QUEUE_FULL;
    } else if (deadline_of(waiter) <= world->now_ns) {
        expected = MD_REASON_DEADLINE;
    } else if (foresees && waiter->deadline_ns && end_ns > waiter->deadline_ns && !is_tried) {
        expected = MD_REASON_DEADLINE_UNREACHABLE;
    }
    bool taken = md_batcher_submit(&world->batcher, waiter, &world->time,
                                   foresees ? &forecast : NULL, world->now_ns, &err);
    assert_int_equal(taken, expected == MD_REASON_NONE);
    assert_int_equal(err.reason, expected);
    if (!taken) {
        world->refused++;
        return;
    }
    const struct md_queue_policy *policy = &world->levels[level].policy;
    uint64_t timeout_ns = policy->timeout_ns ? policy->timeout_ns : UINT64_MAX;
    if (policy->allows_override && waiter->timeout_ns && waiter->timeout_ns < timeout_ns) {
        timeout_ns = waiter->timeout_ns;
    }
    world->seen[i] = (struct seen){.place = WAITS,
                                   .level = level,
                                   .order = world->next_order++,
                                   .expiry_ns = sum(world->now_ns, timeout_ns)};
    set_limit(world, i);
    world->again_ns = UINT64_MAX;
}

static void cancel(struct world *world)
{
    size_t i = draw(world, WAITERS);

    assert_int_equal(md_batcher_cancel(&world->batcher, &world->waiters[i]),
                     world->seen[i].place == WAITS);
    if (world->seen[i].place == WAITS) {
        world->seen[i].place = FREE;
    }
}

/* The model's part of an expiry: who is delayed is, one after another by their limits. */
static void delay_expired(struct world *world)
{
    for (;;) {
        size_t next = WAITERS;
        for (size_t i = 0; i < WAITERS; i++) {
            const struct seen *seen = &world->seen[i];
            if (seen->place == WAITS && seen->expiry_ns <= world->now_ns &&
                world->levels[seen->level].policy.delays &&
                (next == WAITERS || seen->limit_ns < world->seen[next].limit_ns ||
                 (seen->limit_ns == world->seen[next].limit_ns &&
                  world->waiters[i].number < world->waiters[next].number))) {
                next = i;
            }
        }
        if (next == WAITERS) {
            return;
        }
        world->seen[next].is_delayed = true;
        world->seen[next].expiry_ns = UINT64_MAX;
        world->seen[next].order = world->next_order++;
        set_limit(world, next);
        world->delayed++;
    }
}

static void expire(struct world *world)
{
    struct md_waiter *waiter = md_batcher_expire(&world->batcher, &world->time, world->now_ns);
    size_t numbers[WAITERS];

    delay_expired(world);
    for (; waiter; waiter = waiter->next) {
        size_t i = (size_t)(waiter - world->waiters);
        struct seen *seen = &world->seen[i];
        enum md_reason reason = md_batcher_verdict(waiter, world->now_ns);
        assert_int_equal(seen->place, WAITS);
        if (seen->expiry_ns <= world->now_ns && seen->expiry_ns < deadline_of(waiter)) {
            assert_int_equal(reason, MD_REASON_QUEUE_TIMEOUT);
        } else if (deadline_of(waiter) <= world->now_ns) {
            assert_int_equal(reason, MD_REASON_DEADLINE);
        } else {
            assert_int_equal(reason, MD_REASON_DEADLINE_UNREACHABLE);
            assert_true(sum(world->now_ns, batch_time(world, waiter->rows)) > deadline_of(waiter));
            for (size_t k = 0; k < WAITERS; k++) { /* it is the first */
                assert_true(k == i || world->seen[k].place != WAITS ||
                            world->seen[k].limit_ns <= world->now_ns ||
                            is_before(seen, &world->seen[k]));
            }
            world->lost++;
        }
        seen->place = FREE;
        world->expired++;
    }
    assert_true(next_limit(&world->batcher) > world->now_ns);
    if (sort_waiting(world, numbers)) {
        const struct md_waiter *first = &world->waiters[numbers[0]];
        assert_true(first->is_tried ||
                    sum(world->now_ns, batch_time(world, first->rows)) <= deadline_of(first));
    }
}

/* Why nobody is picked: an explicit delay, and nothing that forbids it. */
static void assert_deferred(struct world *world, const struct md_batch_choice *choice,
                            const size_t *numbers, size_t count)
{
    const struct md_batcher_config *config = &world->batcher.config;
    uint64_t rows = 0;

    assert_true(config->delay_ns > 0 && choice->again_ns > world->now_ns);
    for (size_t k = 0; k < count; k++) {
        const struct md_waiter *waiter = &world->waiters[numbers[k]];
        assert_int_equal(waiter->shape, world->waiters[numbers[0]].shape);
        assert_true(choice->again_ns <= sum(waiter->arrival_ns, config->delay_ns));
        rows += waiter->rows;
        for (uint32_t i = 0; i < config->preferred_count; i++) {
            assert_true(rows != config->preferred[i]); /* it could be cut there */
        }
    }
    assert_true(rows < config->max_rows && count < config->max_requests);
    for (size_t k = 0; k < count; k++) {
        const struct md_waiter *waiter = &world->waiters[numbers[k]];
        assert_true(!waiter->deadline_ns ||
                    sum(choice->again_ns, batch_time(world, (uint32_t)rows)) <=
                        waiter->deadline_ns);
    }
    world->deferred++;
    world->again_ns = choice->again_ns;
}

/* Everybody before the last member that has its shape and is not in the batch: it would be late in
 * the largest batch that there could have been, or with those before it. */
static void assert_order(struct world *world, const struct md_batch_choice *choice,
                         const size_t *numbers, size_t count)
{
    const struct md_batcher_config *config = &world->batcher.config;
    const struct md_waiter *member = choice->first;
    uint64_t rows = 0, most = 0;

    for (size_t k = 0; k < count; k++) {
        const struct md_waiter *waiter = &world->waiters[numbers[k]];
        most += waiter->shape == choice->first->shape ? waiter->rows : 0;
    }
    most = most < config->max_rows ? most : config->max_rows;
    uint64_t end_ns = sum(world->now_ns, batch_time(world, (uint32_t)most));
    for (size_t k = 0; k < count && member; k++) {
        const struct md_waiter *waiter = &world->waiters[numbers[k]];
        if (waiter == member) {
            rows += member->rows;
            member = member->next;
        } else if (waiter->shape == choice->first->shape) {
            uint64_t with_ns = batch_time(world, (uint32_t)(rows + waiter->rows));
            assert_true(world->is_uneven || end_ns > deadline_of(waiter) ||
                        sum(world->now_ns, with_ns) > deadline_of(waiter));
            world->overtaken++;
        }
    }
    assert_null(member); /* all were among those that wait, in their order */
}

static void check_batch(struct world *world, const struct md_batch_choice *choice,
                        const size_t *numbers, size_t count)
{
    const struct md_batcher_config *config = &world->batcher.config;
    uint64_t end_ns = sum(world->now_ns, batch_time(world, choice->rows)), rows = 0;
    uint32_t members = 0;

    assert_true(choice->start < MD_START_COUNT && choice->again_ns == UINT64_MAX);
    for (const struct md_waiter *waiter = choice->first; waiter; waiter = waiter->next) {
        members++;
        rows += waiter->rows;
        assert_int_equal(world->seen[waiter - world->waiters].place, WAITS);
        assert_int_equal(waiter->shape, choice->first->shape);
        assert_true(waiter->is_tried || end_ns <= deadline_of(waiter));
    }
    assert_true(choice->count == members && choice->rows == rows);
    assert_int_equal(choice->rows + choice->padding, padded(config, choice->rows));
    assert_true(members == 1 || (rows <= config->max_rows && members <= config->max_requests));
    assert_order(world, choice, numbers, count);
    bool batches = config->max_rows > 1 && config->max_requests > 1;
    if (choice->start == MD_START_IDLE && batches) { /* who could have joined has */
        const struct md_waiter *member = choice->first;
        for (size_t k = 0; k < count; k++) {
            const struct md_waiter *waiter = &world->waiters[numbers[k]];
            if (waiter == member) {
                member = member->next;
            } else {
                assert_true(waiter->shape != choice->first->shape || waiter->deadline_ns);
            }
        }
    }
    assert_true(choice->start != MD_START_DELAY || config->delay_ns);
}

static void pick(struct world *world, size_t instance)
{
    struct md_batch_choice choice;
    size_t numbers[WAITERS], count;

    if (world->running[instance]) {
        return;
    }
    expire(world);
    count = sort_waiting(world, numbers);
    md_batcher_pick(&world->batcher, &world->time, world->now_ns, &choice);
    if (!choice.first) {
        assert_int_equal(choice.count, 0);
        if (count) {
            assert_deferred(world, &choice, numbers, count);
        } else {
            assert_true(choice.again_ns == UINT64_MAX);
        }
        return;
    }
    check_batch(world, &choice, numbers, count);
    for (struct md_waiter *waiter = choice.first; waiter; waiter = waiter->next) {
        world->seen[waiter - world->waiters].place = RUNS;
        world->members++;
    }
    world->starts++;
    world->running[instance] = choice.first;
    world->end_ns[instance] = sum(world->now_ns, batch_time(world, choice.rows) % (1000 * US));
}

static void end(struct world *world, size_t instance)
{
    struct md_waiter *waiter = world->running[instance];

    if (waiter && world->end_ns[instance] <= world->now_ns) {
        for (; waiter; waiter = waiter->next) {
            assert_int_equal(world->seen[waiter - world->waiters].place, RUNS);
            world->seen[waiter - world->waiters].place = FREE;
        }
        world->running[instance] = NULL;
    }
}

/* Time goes on: a little, or right to where something is due. */
static void step(struct world *world)
{
    uint64_t next_ns = world->now_ns + draw(world, 20 * US);
    uint64_t expiry_ns = next_limit(&world->batcher);

    if (chance(world, 20) && expiry_ns != UINT64_MAX && expiry_ns > world->now_ns) {
        next_ns = expiry_ns - draw(world, 2);
        if (expiry_ns - world->now_ns < 1000 * US && expiry_ns > next_ns) {
            struct md_waiter *early = md_batcher_expire(&world->batcher, NULL, next_ns);
            assert_null(early); /* nobody before the time */
        }
    } else if (chance(world, 30) && world->again_ns != UINT64_MAX) {
        next_ns = world->again_ns;
    }
    if (next_ns > world->now_ns && next_ns < world->now_ns + 1000 * US) {
        world->now_ns = next_ns;
    }
}

static void drain(struct world *world)
{
    for (unsigned round = 0; world->batcher.length; round++) {
        assert_true(round < 100 * WAITERS);
        for (size_t k = 0; k < INSTANCES; k++) {
            world->end_ns[k] = 0;
            end(world, k);
        }
        pick(world, round % INSTANCES);
        if (world->again_ns == UINT64_MAX && world->batcher.length && !world->running[0]) {
            cancel(world);
        } else if (world->batcher.length && world->again_ns < world->now_ns + 1000 * US) {
            world->now_ns = world->again_ns > world->now_ns ? world->again_ns : world->now_ns;
        }
        cancel(world); /* an endless delay holds the rest */
    }
    for (size_t k = 0; k < INSTANCES; k++) {
        world->end_ns[k] = 0;
        end(world, k);
    }
    for (size_t i = 0; i < WAITERS; i++) { /* nobody was lost */
        assert_int_equal(world->seen[i].place, FREE);
        assert_false(world->waiters[i].waits);
    }
    assert_true(world->batcher.bytes == 0);
    assert_true(world->batcher.filled == 0 && !world->batcher.earliest);
}

static void test_batcher_random_events(void **state)
{
    static struct world world;
    const char *seed = getenv("MODELD_SEED"), *events = getenv("MODELD_EVENTS");
    uint64_t left = events ? strtoull(events, NULL, 10) : EVENTS;

    (void)state;
    world.seed = seed ? strtoull(seed, NULL, 10) : 1;
    world.now_ns = 1000 * US;
    while (left > 0) {
        choose_config(&world);
        uint64_t pressure = 30 + draw(&world, 50); /* percent of events that bring requests */
        for (unsigned i = 0; i < EVENTS_PER_CONFIG && left > 0; i++, left--) {
            size_t instance = draw(&world, INSTANCES);
            if (chance(&world, pressure)) {
                submit(&world);
            } else if (chance(&world, 50)) {
                end(&world, instance);
                pick(&world, instance);
            } else if (chance(&world, 10)) {
                cancel(&world);
            } else if (chance(&world, 10)) {
                expire(&world);
            } else {
                step(&world);
            }
            assert_consistent(&world);
        }
        drain(&world);
    }
    if (getenv("MODELD_TEST_VERBOSE")) {
        print_message("starts %zu, members %zu, refused %zu, expired %zu, delayed %zu, lost %zu, "
                      "deferred %zu, overtaken %zu\n",
                      world.starts, world.members, world.refused, world.expired, world.delayed,
                      world.lost, world.deferred, world.overtaken);
    }
    /* all that can happen did */
    assert_true(world.starts && world.members > world.starts && world.refused && world.delayed &&
                world.expired > world.lost && world.lost && world.deferred && world.overtaken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batcher_random_events),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
