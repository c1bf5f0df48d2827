/*
 * policy/fair: device time by weight, strict bands, pauses, extreme numbers, no memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "policy/fair.h"

enum { SHARES = 4, MS = 1000000 };

struct load {
    struct md_fair fair;
    struct md_fair_share shares[SHARES];
    uint64_t batch_ns[SHARES], had_ns[SHARES];
    size_t count;
};

static void load_add(struct load *load, uint32_t weight, uint32_t band, uint64_t batch_ns)
{
    load->shares[load->count] = (struct md_fair_share){.weight = weight, .band = band};
    load->batch_ns[load->count++] = batch_ns;
    assert_true(md_fair_reserve(&load->fair));
}

/* One device whose instance is always busy: the expected time is charged at the start, the rest at
 * the end. expected_percent: of the real time. */
static void load_run(struct load *load, uint64_t span_ns, int64_t expected_percent)
{
    for (uint64_t now_ns = 0; now_ns < span_ns;) {
        struct md_fair_share *share = md_fair_next(&load->fair);
        assert_non_null(share);
        size_t i = (size_t)(share - load->shares);
        int64_t spent = (int64_t)load->batch_ns[i], expected = spent * expected_percent / 100;
        md_fair_charge(&load->fair, share, expected);
        md_fair_charge(&load->fair, share, spent - expected);
        load->had_ns[i] += load->batch_ns[i];
        now_ns += load->batch_ns[i];
    }
}

static void assert_part(const struct load *load, size_t i, double part)
{
    double all = 0;

    for (size_t k = 0; k < load->count; k++) {
        all += (double)load->had_ns[k];
    }
    double had = (double)load->had_ns[i] / all;
    assert_true(had > part * 0.95 && had < part * 1.05);
}

static void test_fair_next_of_nobody_is_nobody(void **state)
{
    struct md_fair fair = {0};

    (void)state;
    assert_null(md_fair_next(&fair));
    assert_true(md_fair_reserve(&fair));
    assert_null(md_fair_next(&fair));
    md_fair_deinit(&fair);
}

static void test_fair_device_time_follows_the_weights(void **state)
{
    static const uint64_t batches[][3] = {
        {1 * MS, 1 * MS, 1 * MS},   {40 * MS, 1 * MS, 7 * MS},   {MS / 100, 30 * MS, 2 * MS},
        {3 * MS, 500, 90 * MS / 7}, {100 * MS, 100 * MS, 20000},
    };
    static const int64_t expected_percents[] = {100, 0, 30, 250};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(batches) * MD_COUNT_OF(expected_percents); i++) {
        struct load load = {0};
        for (uint32_t k = 0; k < 3; k++) {
            load_add(&load, 1U << k, 1, batches[i % MD_COUNT_OF(batches)][k]);
            md_fair_join(&load.fair, &load.shares[k]);
        }
        load_run(&load, 20000ULL * MS, expected_percents[i / MD_COUNT_OF(batches)]);
        for (size_t k = 0; k < 3; k++) {
            assert_part(&load, k, (double)(1U << k) / 7);
        }
        md_fair_deinit(&load.fair);
    }
}

static void test_fair_bands_are_strict(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 2, MS);
    load_add(&load, 1000, 1, MS);
    load_add(&load, 1, 0, MS);
    for (size_t i = 0; i < load.count; i++) {
        md_fair_join(&load.fair, &load.shares[i]);
    }
    for (size_t i = load.count; i-- > 0;) {
        for (unsigned k = 0; k < 100; k++) {
            assert_ptr_equal(md_fair_next(&load.fair), &load.shares[i]);
            md_fair_charge(&load.fair, &load.shares[i], 100 * MS);
        }
        md_fair_leave(&load.fair, &load.shares[i]);
    }
    assert_null(md_fair_next(&load.fair));
    md_fair_deinit(&load.fair);
}

static void test_fair_pause_gives_no_claim(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 1, 1, 5 * MS);
    md_fair_join(&load.fair, &load.shares[0]);
    load_run(&load, 10000ULL * MS, 100);
    load.had_ns[0] = 0;
    md_fair_join(&load.fair, &load.shares[1]);
    load_run(&load, 1000ULL * MS, 100);
    assert_part(&load, 0, 0.5);
    md_fair_deinit(&load.fair);
}

static void test_fair_pause_brings_no_penalty(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 1, 1, 5 * MS);
    md_fair_join(&load.fair, &load.shares[0]);
    load_run(&load, 10000ULL * MS, 100); /* alone, nobody was harmed */
    md_fair_leave(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[1]);
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[2]);
    for (size_t i = 0; i < load.count; i++) {
        load.had_ns[i] = 0;
    }
    load_run(&load, 1000ULL * MS, 100);
    for (size_t i = 0; i < load.count; i++) {
        assert_part(&load, i, 1. / 3);
    }
    md_fair_deinit(&load.fair);
}

static void test_fair_who_comes_to_a_busy_device_is_next(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 10, 1, 50 * MS);
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[2]);
    load_run(&load, 1000ULL * MS, 100);
    for (unsigned i = 0; i < 100; i++) {
        load_run(&load, 150ULL * MS, 100); /* all have had some */
        md_fair_join(&load.fair, &load.shares[1]);
        assert_ptr_equal(md_fair_next(&load.fair), &load.shares[1]);
        md_fair_charge(&load.fair, &load.shares[1], 1000);
        md_fair_leave(&load.fair, &load.shares[1]);
    }
    md_fair_deinit(&load.fair);
}

static void test_fair_short_batches_are_not_rounded_away(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 999, 1, 10);
    load_add(&load, 1, 1, 10);
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[1]);
    load_run(&load, MS, 40);
    assert_part(&load, 0, 0.999);
    assert_part(&load, 1, 0.001);
    md_fair_deinit(&load.fair);
}

static void test_fair_join_and_leave_twice_are_fine(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, MS);
    md_fair_leave(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_join(&load.fair, &load.shares[0]);
    assert_ptr_equal(md_fair_next(&load.fair), &load.shares[0]);
    md_fair_leave(&load.fair, &load.shares[0]);
    md_fair_leave(&load.fair, &load.shares[0]);
    assert_null(md_fair_next(&load.fair));
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_unreserve(&load.fair, &load.shares[0]);
    assert_null(md_fair_next(&load.fair));
    md_fair_deinit(&load.fair);
}

static void test_fair_bears_extreme_numbers(void **state)
{
    static const int64_t spans[] = {0, 1, -1, INT64_MAX, INT64_MIN, 123456789, INT64_MIN + 1};
    struct load load = {0};
    uint64_t seed = 5;

    (void)state;
    load_add(&load, 1, 0, MS);
    load_add(&load, MD_FAIR_WEIGHT_MAX, 0, MS);
    load_add(&load, 7, 0, MS);
    for (unsigned i = 0; i < 100000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        struct md_fair_share *share = &load.shares[(seed >> 33) % load.count];
        md_fair_join(&load.fair, share);
        md_fair_charge(&load.fair, share, spans[(seed >> 40) % MD_COUNT_OF(spans)]);
        assert_non_null(md_fair_next(&load.fair));
        if ((seed >> 50) % 4 == 0) {
            md_fair_leave(&load.fair, share);
        }
    }
    md_fair_deinit(&load.fair);
}

static uint64_t draw(uint64_t *seed, uint64_t below)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (*seed >> 33) % below;
}

/* The share that is next, searched for. */
static bool is_least(const struct md_fair_share *shares, size_t count,
                     const struct md_fair_share *next)
{
    for (size_t i = 0; i < count; i++) {
        const struct md_fair_share *share = &shares[i];
        if (share->position && (!next || share->band < next->band ||
                                (share->band == next->band && share->used < next->used))) {
            return false;
        }
    }
    return !next || next->position;
}

static void test_fair_next_is_always_who_has_had_the_least(void **state)
{
    enum { MANY = 200, STEPS = 1000000 };
    static struct md_fair_share shares[MANY];
    struct md_fair fair = {0};
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < MANY; i++) {
        shares[i] = (struct md_fair_share){.weight = (uint32_t)draw(&seed, 1000) + 1,
                                           .band = (uint32_t)draw(&seed, MD_FAIR_BANDS)};
        assert_true(md_fair_reserve(&fair));
    }
    for (unsigned step = 0; step < STEPS; step++) {
        struct md_fair_share *share = &shares[draw(&seed, MANY)];
        bool wanted = share->position;
        switch (draw(&seed, 6)) {
        case 0:
            md_fair_join(&fair, share);
            assert_true(wanted || share->used >= fair.bands[share->band].used);
            break;
        case 1:
            md_fair_leave(&fair, share);
            assert_int_equal(share->position, 0);
            break;
        case 2:
            md_fair_charge(&fair, share, -(int64_t)draw(&seed, 5 * MS));
            break;
        case 3:
            md_fair_charge(&fair, share, (int64_t)draw(&seed, 5 * MS));
            break;
        default:
            share = md_fair_next(&fair);
            if (share) {
                md_fair_charge(&fair, share, (int64_t)draw(&seed, 5 * MS));
            }
        }
        if (step % 16 == 0) {
            assert_true(is_least(shares, MANY, md_fair_next(&fair)));
        }
    }
    md_fair_deinit(&fair);
}

/* Several executors; three shares always want the device, three others now and then. Each has an
 * instance for each executor. */
static void test_fair_weights_hold_among_others_that_come_and_go(void **state)
{
    enum { EXECUTORS = 3, ALL = 6, ALWAYS = 3 };

    (void)state;
    for (uint64_t round = 1; round <= 20; round++) {
        struct md_fair_share shares[ALL] = {{0}};
        struct md_fair fair = {0};
        uint64_t seed = round, lengths[ALL], had[ALL] = {0}, end_ns[EXECUTORS] = {0};
        for (size_t i = 0; i < ALL; i++) {
            shares[i].weight = i < ALWAYS ? 1U << i : 1 + (uint32_t)draw(&seed, 8);
            shares[i].band = 1;
            lengths[i] = 1000 + draw(&seed, 20 * MS);
            assert_true(md_fair_reserve(&fair));
            md_fair_join(&fair, &shares[i]);
        }
        while (had[0] < 300ULL * lengths[0] || had[0] < 6000ULL * MS) {
            size_t executor = 0;
            for (size_t k = 1; k < EXECUTORS; k++) {
                executor = end_ns[k] < end_ns[executor] ? k : executor;
            }
            size_t i = ALWAYS + draw(&seed, ALL - ALWAYS);
            if (draw(&seed, 4) == 0) {
                md_fair_leave(&fair, &shares[i]);
            } else if (draw(&seed, 8) == 0) {
                md_fair_join(&fair, &shares[i]);
            }
            struct md_fair_share *next = md_fair_next(&fair);
            i = (size_t)(next - shares);
            int64_t expected = (int64_t)lengths[i];
            uint64_t spent = lengths[i] / 2 + draw(&seed, lengths[i]);
            md_fair_charge(&fair, next, expected);
            md_fair_charge(&fair, next, (int64_t)spent - expected);
            had[i] += spent;
            end_ns[executor] += spent;
        }
        for (size_t i = 1; i < ALWAYS; i++) {
            double ratio = (double)had[i] / (double)had[0] / (double)(1U << i);
            if (ratio < 0.95 || ratio > 1.05) {
                fail_msg("round %u: share %zu had %.3f of its part", (unsigned)round, i, ratio);
            }
        }
        md_fair_deinit(&fair);
    }
}

/* Shares that always want the device, but of which each has one instance for several executors: who
 * runs cannot be next. What is expected is what weights give where none gets more than one. */
static void test_fair_weights_hold_where_instances_are_busy(void **state)
{
    enum { MANY = 4, EXECUTORS = 3 };
    static const struct {
        size_t shares, executors;
        uint32_t weights[MANY];
        uint64_t lengths[MANY]; /* us */
        double parts[MANY];     /* of an executor */
    } cases[] = {
        {3, 1, {1, 2, 4}, {10000, 300, 70000}, {1. / 7, 2. / 7, 4. / 7}},
        {3, 2, {1, 2, 4}, {40000, 5000, 1000}, {1. / 3, 2. / 3, 1}},
        {3, 2, {1, 2, 4}, {1000, 5000, 40000}, {1. / 3, 2. / 3, 1}},
        {3, 2, {1, 1, 1}, {40000, 5000, 1000}, {2. / 3, 2. / 3, 2. / 3}},
        {4, 2, {1, 2, 2, 3}, {40000, 5000, 1000, 10000}, {.25, .5, .5, .75}},
        {4, 2, {1, 1, 1, 1}, {40000, 5000, 1000, 100}, {.5, .5, .5, .5}},
        {4, 3, {1, 1, 2, 4}, {1000, 5000, 40000, 7000}, {.5, .5, 1, 1}},
    };

    (void)state;
    for (size_t c = 0; c < MD_COUNT_OF(cases); c++) {
        struct md_fair_share shares[MANY] = {{0}}, *runs[EXECUTORS] = {NULL};
        struct md_fair fair = {0};
        uint64_t seed = c, now_ns = 0, had[MANY] = {0}, begun_ns[EXECUTORS], end_ns[EXECUTORS];
        for (size_t i = 0; i < cases[c].shares; i++) {
            shares[i] = (struct md_fair_share){.weight = cases[c].weights[i], .band = 1};
            assert_true(md_fair_reserve(&fair));
            md_fair_join(&fair, &shares[i]);
        }
        while (now_ns < 50000ULL * MS) {
            for (size_t k = 0; k < cases[c].executors; k++) {
                struct md_fair_share *share = runs[k];
                if (share && end_ns[k] == now_ns) {
                    size_t i = (size_t)(share - shares);
                    uint64_t spent = now_ns - begun_ns[k], expected = cases[c].lengths[i] * 1000;
                    md_fair_charge(&fair, share, (int64_t)spent - (int64_t)expected);
                    md_fair_join(&fair, share);
                    had[i] += spent;
                    runs[k] = NULL;
                }
            }
            uint64_t next_ns = UINT64_MAX;
            for (size_t k = 0; k < cases[c].executors; k++) {
                if (!runs[k] && (runs[k] = md_fair_next(&fair))) {
                    uint64_t expected = cases[c].lengths[runs[k] - shares] * 1000;
                    md_fair_charge(&fair, runs[k], (int64_t)expected);
                    md_fair_hold(&fair, runs[k]);
                    begun_ns[k] = now_ns;
                    end_ns[k] = now_ns + expected / 2 + draw(&seed, expected + 1);
                }
                assert_non_null(runs[k]);
                next_ns = end_ns[k] < next_ns ? end_ns[k] : next_ns;
            }
            now_ns = next_ns;
        }
        for (size_t i = 0; i < cases[c].shares; i++) {
            double ratio = (double)had[i] / (double)now_ns / cases[c].parts[i];
            if (ratio < 0.95 || ratio > 1.05) {
                fail_msg("case %zu: share %zu had %.3f of its part", c, i, ratio);
            }
        }
        md_fair_deinit(&fair);
    }
}

static void test_fair_hold_keeps_a_bounded_claim(void **state)
{
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 4, 1, 5 * MS);
    md_fair_join(&load.fair, &load.shares[0]);
    md_fair_hold(&load.fair, &load.shares[1]);
    assert_ptr_equal(md_fair_next(&load.fair), &load.shares[0]);
    load_run(&load, 100000ULL * MS, 100);
    uint64_t used = load.fair.bands[1].used;
    md_fair_join(&load.fair, &load.shares[1]);
    assert_int_equal(load.shares[1].used, used - MD_FAIR_CLAIM_NS / 4);
    md_fair_hold(&load.fair, &load.shares[1]); /* and then it wants nothing any more */
    md_fair_leave(&load.fair, &load.shares[1]);
    md_fair_join(&load.fair, &load.shares[1]);
    assert_int_equal(load.shares[1].used, load.fair.bands[1].used);
    md_fair_deinit(&load.fair);
}

/* Two batches at once of who is alone, believed to take hours, end soon: who comes then does not
 * wait for hours. */
static void test_fair_what_was_expected_in_vain_starves_nobody(void **state)
{
    const int64_t expected_ns = 3600LL * 1000 * MS;
    struct load load = {0};

    (void)state;
    load_add(&load, 1, 1, 5 * MS);
    load_add(&load, 1, 1, 5 * MS);
    md_fair_join(&load.fair, &load.shares[0]);
    for (int i = 0; i < 2; i++) {
        md_fair_charge(&load.fair, &load.shares[0], expected_ns);
    }
    for (int i = 0; i < 2; i++) {
        md_fair_charge(&load.fair, &load.shares[0], 5 * (int64_t)MS - expected_ns);
    }
    md_fair_join(&load.fair, &load.shares[1]);
    assert_true(load.shares[1].used - load.shares[0].used <= MD_FAIR_CLAIM_NS);
    md_fair_deinit(&load.fair);
}

static void test_fair_reserve_failure_changes_nothing(void **state)
{
    static struct md_fair_share shares[300];
    struct md_fair fair = {0};
    size_t reserved = 0;

    (void)state;
    md_fault_arm(MD_FAULT_ALLOC, 2);
    while (md_fair_reserve(&fair)) {
        shares[reserved] =
            (struct md_fair_share){.weight = 1, .band = (uint32_t)reserved % MD_FAIR_BANDS};
        md_fair_join(&fair, &shares[reserved++]);
        assert_true(reserved < MD_COUNT_OF(shares));
    }
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_true(reserved > 0);
    assert_int_equal(fair.reserved, reserved);
    size_t left = reserved;
    for (struct md_fair_share *share; (share = md_fair_next(&fair)); left--) {
        md_fair_leave(&fair, share);
    }
    assert_int_equal(left, 0);
    assert_true(md_fair_reserve(&fair));
    md_fair_deinit(&fair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fair_next_of_nobody_is_nobody),
        cmocka_unit_test(test_fair_device_time_follows_the_weights),
        cmocka_unit_test(test_fair_bands_are_strict),
        cmocka_unit_test(test_fair_pause_gives_no_claim),
        cmocka_unit_test(test_fair_pause_brings_no_penalty),
        cmocka_unit_test(test_fair_who_comes_to_a_busy_device_is_next),
        cmocka_unit_test(test_fair_short_batches_are_not_rounded_away),
        cmocka_unit_test(test_fair_join_and_leave_twice_are_fine),
        cmocka_unit_test(test_fair_bears_extreme_numbers),
        cmocka_unit_test(test_fair_next_is_always_who_has_had_the_least),
        cmocka_unit_test(test_fair_weights_hold_among_others_that_come_and_go),
        cmocka_unit_test(test_fair_weights_hold_where_instances_are_busy),
        cmocka_unit_test(test_fair_hold_keeps_a_bounded_claim),
        cmocka_unit_test(test_fair_what_was_expected_in_vain_starves_nobody),
        cmocka_unit_test(test_fair_reserve_failure_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
