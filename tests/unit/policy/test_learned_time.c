/*
 * policy/learned_time: averages, sizes that were not seen, outliers, extreme numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/learned_time.h"

static void learn(struct md_learned_time *time, uint32_t rows, uint64_t spent_ns, unsigned runs)
{
    while (runs--) {
        md_learned_time_add(time, rows, spent_ns);
    }
}

static void test_learned_time_knows_nothing_at_first(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    assert_int_equal(md_learned_time_mean(&time, 0), 0);
    assert_int_equal(md_learned_time_mean(&time, 1), 0);
    assert_int_equal(md_learned_time_high(&time, 64), 0);
    assert_int_equal(md_learned_time_high(&time, UINT32_MAX), 0);
}

static void test_learned_time_of_equal_runs_is_what_they_took(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 3, 1000000, 200);
    assert_int_equal(md_learned_time_mean(&time, 3), 1000000);
    assert_in_range(md_learned_time_high(&time, 3), 1000000, 1000100);
}

static void test_learned_time_is_the_fastest_of_the_first_runs(void **state)
{
    static const uint64_t runs[] = {800, 820, 500, 490, 600, 700, 480, 900, 510, 520};
    static const uint64_t means[] = {800, 800, 500, 490, 490, 490, 480, 480, 480, 480};
    struct md_learned_time time = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(runs); i++) {
        assert_int_equal(md_learned_time_is_settled(&time, 1), false);
        learn(&time, 1, runs[i], 1);
        assert_int_equal(md_learned_time_mean(&time, 1), means[i]);
    }
    assert_true(md_learned_time_is_settled(&time, 1)); /* the first two were no measure */
    assert_in_range(md_learned_time_high(&time, 1), 600, 900);
    learn(&time, 1, 560, 1);
    assert_int_equal(md_learned_time_mean(&time, 1), 490);
}

static void test_learned_time_is_settled_by_runs_of_late(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    assert_false(md_learned_time_is_settled(&time, UINT32_MAX));
    learn(&time, 2, 1000, MD_LEARNED_SETTLED);
    assert_true(md_learned_time_is_settled(&time, 2));
    learn(&time, 3, 1000, MD_LEARNED_STALE);
    assert_false(md_learned_time_is_settled(&time, 2));
    learn(&time, 2, 1080, 1);
    assert_true(md_learned_time_is_settled(&time, 2));
    assert_int_equal(md_learned_time_mean(&time, 2), 1010);
}

static void test_learned_time_after_long_forgets_a_bad_time(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 2, 1000, 20);
    learn(&time, 3, 1000, MD_LEARNED_STALE);
    learn(&time, 2, 700, 1);
    assert_int_equal(md_learned_time_mean(&time, 2), 700);
    learn(&time, 2, 620, 1);
    assert_int_equal(md_learned_time_mean(&time, 2), 690);
}

static void test_learned_time_follows_a_change(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 1, 1000000, 1000);
    learn(&time, 1, 3000000, 40);
    assert_in_range(md_learned_time_mean(&time, 1), 2900000, 3000000);
    learn(&time, 1, 100000, 60);
    assert_in_range(md_learned_time_mean(&time, 1), 100000, 110000);
    learn(&time, 1, 1000000000, 60); /* by far slower than ever */
    assert_in_range(md_learned_time_mean(&time, 1), 900000000, 1000000000);
}

static void test_learned_time_one_outlier_counts_little(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 1, 1000000, 100);
    learn(&time, 1, 10000000000, 1);
    assert_in_range(md_learned_time_mean(&time, 1), 1000001, 1400000);
    assert_in_range(md_learned_time_high(&time, 1), 1000001, 3000000);
}

static void test_learned_time_outlier_among_the_first_counts_little(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 1, 5000000, 3);
    learn(&time, 1, 60000000000, 1);
    assert_int_equal(md_learned_time_mean(&time, 1), 5000000);
    assert_in_range(md_learned_time_high(&time, 1), 5000000, 25000000);
    assert_in_range(md_learned_time_low(&time, 1), 5000000, 5500000);
}

static void test_learned_time_forgets_a_cold_start(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    md_learned_time_add(&time, 1, 2000000000);
    md_learned_time_add(&time, 1, 10000000);
    assert_int_equal(md_learned_time_mean(&time, 1), 10000000);
    assert_in_range(md_learned_time_high(&time, 1), 10000000, 20000000);
    md_learned_time_add(&time, 1, 12000000); /* as usual */
    assert_int_equal(md_learned_time_mean(&time, 1), 10000000);
    assert_in_range(md_learned_time_high(&time, 1), 10000001, 20000000);
}

static void test_learned_time_high_is_above_nearly_all_runs(void **state)
{
    struct md_learned_time time = {0};
    uint64_t seed = 7;
    unsigned above = 0, runs = 100000;

    (void)state;
    for (unsigned i = 0; i < runs; i++) {
        uint64_t spent_ns = 1000000; /* and up to 40 %, most in the middle */
        for (int k = 0; k < 4; k++) {
            seed = seed * 6364136223846793005U + 1442695040888963407U;
            spent_ns += (seed >> 33) % 100000;
        }
        above += i > 100 && spent_ns > md_learned_time_high(&time, 8);
        md_learned_time_add(&time, 8, spent_ns);
    }
    assert_in_range(md_learned_time_mean(&time, 8), 1100000, 1300000);
    assert_true(above < runs / 50);
}

static void test_learned_time_of_unseen_sizes(void **state)
{
    static const struct {
        uint32_t rows;
        uint64_t mean_ns;
    } cases[] = {
        {0, 4000},   {1, 4000},   {3, 4000},                /* no longer than the smallest */
        {4, 4000},   {5, 5000},   {6, 6000},   {8, 8000},   /* between neighbours */
        {12, 7000},  {14, 6500},  {16, 6000},               /* also where more rows take less */
        {32, 12000}, {64, 24000}, {65, 24375}, {128, 48000} /* scaled from the largest */
    };
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 4, 4000, 20);
    learn(&time, 8, 8000, 20);
    learn(&time, 16, 6000, 20);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        assert_int_equal(md_learned_time_mean(&time, cases[i].rows), cases[i].mean_ns);
    }
}

static void test_learned_time_of_few_runs_is_bounded_by_what_is_known(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 2, 2000, 20);
    learn(&time, 8, 5000, 20);
    learn(&time, 4, 900000, 1); /* something came between */
    assert_int_equal(md_learned_time_mean(&time, 4), 4000);
    learn(&time, 1, 900000, 1);
    assert_int_equal(md_learned_time_mean(&time, 1), 2000);
    learn(&time, 16, 900000, 1);
    assert_int_equal(md_learned_time_mean(&time, 16), 10000);
    learn(&time, 6, 3000, 1);
    assert_int_equal(md_learned_time_mean(&time, 6), 3000);
    learn(&time, 16, 900000, MD_LEARNED_SETTLED); /* no, that is how it is */
    assert_int_equal(md_learned_time_mean(&time, 16), 900000);
    learn(&time, 2, 2000, MD_LEARNED_STALE); /* or was */
    assert_int_equal(md_learned_time_mean(&time, 16), 16000);
}

static void test_learned_time_of_few_runs_spreads_as_all(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 1, 1000000, 1);
    assert_in_range(md_learned_time_high(&time, 1), 1200000, 1500000);
    learn(&time, 1, 1000000, 100);
    learn(&time, 2, 1500000, 1);
    assert_int_equal(md_learned_time_high(&time, 2), 1500000);
    for (unsigned i = 0; i < 100; i++) {
        learn(&time, 1, i % 2 ? 950000 : 1050000, 1);
    }
    assert_in_range(md_learned_time_high(&time, 2), 1650000, 1800000);
}

static void test_learned_time_low_is_the_shortest_of_late(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    assert_int_equal(md_learned_time_low(&time, 8), 0);
    learn(&time, 4, 70000, 100);
    learn(&time, 4, 5000, 1);
    assert_int_equal(md_learned_time_low(&time, 4), 5000);
    assert_int_equal(md_learned_time_low(&time, 3), 0);
    assert_int_equal(md_learned_time_low(&time, 8), 5000);
    assert_int_equal(md_learned_time_low(&time, UINT32_MAX), 5000);
    learn(&time, 8, 4000, 1);
    assert_int_equal(md_learned_time_low(&time, 7), 5000);
    assert_int_equal(md_learned_time_low(&time, 8), 4000);
    learn(&time, 4, 70000, 200);
    assert_in_range(md_learned_time_low(&time, 4), 69000, 70000);
    learn(&time, 64, 90000, 1);
    assert_int_equal(md_learned_time_low(&time, 63), 4000);
    assert_int_equal(md_learned_time_low(&time, 64), 90000);
}

static void test_learned_time_large_sizes_share_the_last(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 128, 2000, 10);
    assert_int_equal(md_learned_time_mean(&time, 64), 1000);
    assert_int_equal(md_learned_time_mean(&time, 128), 2000);
    assert_int_equal(md_learned_time_mean(&time, 256), 4000);
    assert_int_equal(md_learned_time_mean(&time, 2), 1000);
}

static void test_learned_time_bears_extreme_numbers(void **state)
{
    static const uint32_t sizes[] = {0, 1, 2, 63, 64, 65, UINT32_MAX - 1, UINT32_MAX};
    static const uint64_t spans[] = {0, 1, 7, UINT64_MAX / 2, UINT64_MAX - 1, UINT64_MAX};
    struct md_learned_time time = {0};
    uint64_t seed = 3;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        md_learned_time_add(&time, sizes[(seed >> 33) % MD_COUNT_OF(sizes)],
                            spans[(seed >> 45) % MD_COUNT_OF(spans)]);
        uint32_t rows = sizes[(seed >> 40) % MD_COUNT_OF(sizes)];
        uint64_t mean = md_learned_time_mean(&time, rows);
        assert_true(mean >= 1 && md_learned_time_high(&time, rows) >= mean);
        if (i % 1000 == 0) {
            time = (struct md_learned_time){0};
        }
    }
}

static void test_learned_time_count_saturates(void **state)
{
    struct md_learned_time time = {0};

    (void)state;
    learn(&time, 1, 1000, 10);
    time.sizes[1].count = UINT32_MAX;
    learn(&time, 1, 1000, 1);
    assert_int_equal(time.sizes[1].count, UINT32_MAX);
    assert_int_equal(md_learned_time_mean(&time, 1), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learned_time_knows_nothing_at_first),
        cmocka_unit_test(test_learned_time_of_equal_runs_is_what_they_took),
        cmocka_unit_test(test_learned_time_is_the_fastest_of_the_first_runs),
        cmocka_unit_test(test_learned_time_is_settled_by_runs_of_late),
        cmocka_unit_test(test_learned_time_after_long_forgets_a_bad_time),
        cmocka_unit_test(test_learned_time_follows_a_change),
        cmocka_unit_test(test_learned_time_one_outlier_counts_little),
        cmocka_unit_test(test_learned_time_outlier_among_the_first_counts_little),
        cmocka_unit_test(test_learned_time_forgets_a_cold_start),
        cmocka_unit_test(test_learned_time_high_is_above_nearly_all_runs),
        cmocka_unit_test(test_learned_time_of_unseen_sizes),
        cmocka_unit_test(test_learned_time_of_few_runs_is_bounded_by_what_is_known),
        cmocka_unit_test(test_learned_time_of_few_runs_spreads_as_all),
        cmocka_unit_test(test_learned_time_low_is_the_shortest_of_late),
        cmocka_unit_test(test_learned_time_large_sizes_share_the_last),
        cmocka_unit_test(test_learned_time_bears_extreme_numbers),
        cmocka_unit_test(test_learned_time_count_saturates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
