/*
 * base/pool: reuse, the budget, hand-back by other threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "base/fault.h"
#include "base/pool.h"

enum { KIB = 1024, MIB = 1024 * 1024 };

static struct md_pool *create(struct md_budget *budget, size_t limit, size_t cache)
{
    struct md_pool *pool = NULL;

    md_budget_init(budget, limit);
    assert_true(md_pool_create(budget, cache, &pool));
    return pool;
}

static void destroy(struct md_pool *pool, const struct md_budget *budget)
{
    md_pool_destroy(pool);
    assert_int_equal(budget->used_bytes, 0);
}

static void test_pool_block_is_large_enough_aligned_and_writable(void **state)
{
    static const size_t sizes[] = {0,     1,   4096,    4097,     16384,
                                   65537, MIB, MIB + 1, 16 * MIB, 16 * MIB + 1};
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 64 * MIB, 32 * MIB);
    bool over_budget;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(sizes); i++) {
        struct md_block *block = md_pool_alloc(pool, sizes[i], &over_budget);
        assert_non_null(block);
        assert_true(block->capacity >= sizes[i]);
        assert_int_equal((uintptr_t)block->data % 64, 0);
        memset(block->data, 0x5a, block->capacity);
        assert_true(budget.used_bytes >= sizes[i]);
        md_block_unref(block);
    }
    md_block_unref(NULL);
    destroy(pool, &budget);
}

static void test_pool_reuses_released_blocks(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 8 * MIB, MIB);
    bool over_budget;

    (void)state;
    struct md_block *block = md_pool_alloc(pool, 5000, &over_budget);
    const struct md_block *first = block;
    md_block_ref(block);
    md_block_unref(block);
    assert_int_equal(md_pool_cached_bytes(pool), 0);
    md_block_unref(block);
    assert_int_equal(md_pool_cached_bytes(pool), 16 * KIB);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    block = md_pool_alloc(pool, 16 * KIB, &over_budget);
    assert_false(md_fault_disarm(MD_FAULT_ALLOC));
    assert_ptr_equal(block, first);
    assert_int_equal(md_pool_cached_bytes(pool), 0);
    md_block_unref(block);
    destroy(pool, &budget);
}

static void test_pool_cache_is_bounded_and_trimmed(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 64 * MIB, MIB);
    struct md_block *blocks[32];
    bool over_budget;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        blocks[i] = md_pool_alloc(pool, 64 * KIB, &over_budget);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        md_block_unref(blocks[i]);
        assert_true(md_pool_cached_bytes(pool) <= MIB);
    }
    assert_int_equal(md_pool_cached_bytes(pool), MIB);
    md_pool_trim(pool, 128 * KIB);
    assert_int_equal(md_pool_cached_bytes(pool), 128 * KIB);
    assert_int_equal(budget.used_bytes, 0);
    destroy(pool, &budget);
}

static void test_pool_budget_limits_what_is_in_use(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, MIB, 0);
    struct md_block *blocks[17];
    bool over_budget = false;

    (void)state;
    for (int round = 0; round < 3; round++) {
        size_t count = 0;
        while ((blocks[count] = md_pool_alloc(pool, 64 * KIB, &over_budget)) != NULL) {
            assert_true(++count < MD_COUNT_OF(blocks));
        }
        assert_true(over_budget);
        assert_int_equal(count, 16);
        while (count) {
            md_block_unref(blocks[--count]);
        }
        assert_true(budget.used_bytes <= MIB);
    }
    destroy(pool, &budget);
}

/* What the pool holds as credit must not stand in the way of its own request. */
static void test_pool_block_of_the_whole_budget_fits(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 4 * MIB, 0);
    bool over_budget;

    (void)state;
    md_block_unref(md_pool_alloc(pool, 100 * KIB, &over_budget));
    struct md_block *block = md_pool_alloc(pool, 4 * MIB, &over_budget);
    assert_non_null(block);
    assert_null(md_pool_alloc(pool, 5 * KIB, &over_budget));
    assert_true(over_budget);
    md_block_unref(block);
    assert_null(md_pool_alloc(pool, 4 * MIB + 1, &over_budget));
    assert_true(over_budget);
    assert_null(md_pool_alloc(pool, SIZE_MAX, &over_budget));
    assert_true(over_budget);
    destroy(pool, &budget);
}

/* What small requests need is still there when large ones have filled the bound: an eighth. */
static void test_pool_small_and_urgent_blocks_go_beyond(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, MIB, 0);
    struct md_block *blocks[40], *large = NULL;
    size_t count = 0;
    bool over_budget;

    (void)state;
    large = md_pool_alloc(pool, MIB, &over_budget);
    assert_non_null(large);
    assert_null(md_pool_alloc(pool, 16 * KIB, &over_budget));
    assert_true(over_budget);
    blocks[count++] = md_pool_alloc_urgent(pool, 16 * KIB, &over_budget);
    assert_false(md_pool_is_crowded(pool));
    while ((blocks[count] = md_pool_alloc(pool, 4 * KIB, &over_budget))) {
        count++;
    }
    assert_true(md_pool_is_crowded(pool));
    assert_int_equal(count, 1 + (128 - 16) / 4);
    assert_null(md_pool_alloc_urgent(pool, 16 * KIB, &over_budget));
    md_block_unref(large);
    while (count) {
        md_block_unref(blocks[--count]);
    }
    destroy(pool, &budget);
}

static void test_pool_counts_what_is_no_block(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, MIB, 0);
    bool over_budget;

    (void)state;
    assert_true(md_budget_take(&budget, MIB));
    assert_false(md_budget_take(&budget, 1));
    assert_null(md_pool_alloc(pool, 64 * KIB, &over_budget));
    assert_true(over_budget);
    md_budget_give(&budget, MIB);
    assert_int_equal(budget.used_bytes, 0);
    destroy(pool, &budget);
}

static void test_pool_lazy_block_is_counted_as_it_fills(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 8 * MIB, 0);
    bool over_budget;
    struct md_block *blocks[4];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        blocks[i] = md_pool_alloc_lazy(pool, 4 * MIB, 64 * KIB, &over_budget);
        assert_non_null(blocks[i]);
    }
    assert_true(budget.used_bytes < 2 * MIB);
    assert_true(md_block_charge(blocks[0], 4 * MIB));
    assert_true(budget.used_bytes >= 4 * MIB);
    assert_true(md_block_charge(blocks[0], MIB));
    md_block_discharge(blocks[0], MIB + 1);
    assert_int_equal(blocks[0]->counted_bytes, MIB + 4 * KIB);
    assert_true(md_block_charge(blocks[0], 4 * MIB));
    assert_true(md_block_charge(blocks[1], 2 * MIB));
    size_t counted = blocks[2]->counted_bytes;
    assert_false(md_block_charge(blocks[2], 4 * MIB));
    assert_int_equal(blocks[2]->counted_bytes, counted);
    md_block_unref(blocks[0]);
    assert_true(md_block_charge(blocks[2], 4 * MIB));
    for (size_t i = 1; i < MD_COUNT_OF(blocks); i++) {
        md_block_unref(blocks[i]);
    }
    destroy(pool, &budget);
}

static void test_pool_block_without_pool(void **state)
{
    struct md_budget budget;
    bool over_budget;

    (void)state;
    md_budget_init(&budget, MIB);
    struct md_block *block = md_block_create(&budget, MIB, &over_budget);
    assert_non_null(block);
    assert_int_equal(budget.used_bytes, MIB);
    assert_null(md_block_create(&budget, 1, &over_budget));
    assert_true(over_budget);
    md_block_unref(block);
    assert_int_equal(budget.used_bytes, 0);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_null(md_block_create(&budget, 1, &over_budget));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_false(over_budget);
    assert_int_equal(budget.used_bytes, 0);
}

static void test_pool_failed_allocation_gives_the_budget_back(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = NULL;
    bool over_budget = true;

    (void)state;
    md_budget_init(&budget, 8 * MIB);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_pool_create(&budget, MIB, &pool));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_true(md_pool_create(&budget, MIB, &pool));
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_null(md_pool_alloc(pool, MIB, &over_budget));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_false(over_budget);
    destroy(pool, &budget);
}

/* --- other threads
 * --------------------------------------------------------------------------------------------------
 */

enum { RELEASERS = 3, SLOTS = 64, ROUNDS = 20000 };

struct exchange {
    _Atomic(struct md_block *) slots[SLOTS]; /* owner puts in, releasers take out */
    atomic_bool done;
    atomic_ulong released;
};

static void *release_all(void *arg)
{
    struct exchange *exchange = arg;
    bool done;

    do {
        done = atomic_load(&exchange->done);
        for (size_t i = 0; i < SLOTS; i++) {
            struct md_block *block = atomic_exchange(&exchange->slots[i], NULL);
            if (block) {
                block->data[0]++; /* TSan sees a missing order between release and reuse */
                md_block_unref(block);
                atomic_fetch_add(&exchange->released, 1);
            }
        }
    } while (!done);
    return NULL;
}

static void test_pool_blocks_come_back_from_other_threads(void **state)
{
    static struct exchange exchange;
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 64 * MIB, MIB);
    pthread_t threads[RELEASERS];
    unsigned long given = 0;
    bool over_budget;

    (void)state;
    for (size_t i = 0; i < RELEASERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, release_all, &exchange), 0);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct md_block *block = md_pool_alloc(pool, 1 + round % 20000, &over_budget);
        assert_non_null(block);
        block->data[0] = (char)round;
        struct md_block *before = atomic_exchange(&exchange.slots[round % SLOTS], block);
        md_block_unref(before);
        given += !before;
    }
    atomic_store(&exchange.done, true);
    for (size_t i = 0; i < RELEASERS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&exchange.released), given);
    destroy(pool, &budget);
}

static void *release_one(void *block)
{
    md_block_unref(block);
    return NULL;
}

static void release_elsewhere(struct md_block *block)
{
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, release_one, block), 0);
    pthread_join(thread, NULL);
}

/* The owner may allocate next in an hour: what others released must not stand in everybody's way
 * until then, and no more of it is kept than the pool may keep. */
static void test_pool_released_elsewhere_counts_no_more(void **state)
{
    struct md_budget budget;
    struct md_pool *pool = create(&budget, 4 * MIB, MIB);
    struct md_block *blocks[4];
    bool over_budget;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        blocks[i] = md_pool_alloc(pool, MIB, &over_budget);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        release_elsewhere(blocks[i]);
    }
    assert_int_equal(budget.used_bytes, 0);
    md_block_unref(md_pool_alloc(pool, 1, &over_budget));
    assert_int_equal(md_pool_cached_bytes(pool), MIB);
    destroy(pool, &budget);
}

/* Idle pools hold credit; together it is little. */
static void test_pool_credit_of_idle_pools_is_small(void **state)
{
    struct md_budget budget;
    struct md_pool *pools[32];
    bool over_budget;

    (void)state;
    md_budget_init(&budget, 4 * MIB);
    for (size_t i = 0; i < MD_COUNT_OF(pools); i++) {
        assert_true(md_pool_create(&budget, 0, &pools[i]));
        md_block_unref(md_pool_alloc(pools[i], 1, &over_budget));
    }
    assert_true(budget.used_bytes < MIB / 2);
    for (size_t i = 0; i < MD_COUNT_OF(pools); i++) {
        md_pool_destroy(pools[i]);
    }
    assert_int_equal(budget.used_bytes, 0);
}

struct asker {
    struct md_budget budget;
    atomic_bool done;
};

static void *ask_for_too_much(void *arg)
{
    struct asker *asker = arg;
    void *given = NULL;

    for (unsigned i = 0; i < 100 * ROUNDS; i++) {
        given = md_budget_take(&asker->budget, MIB + 1) ? arg : given;
    }
    atomic_store(&asker->done, true);
    return given;
}

/* What is refused to one never makes another one fail. */
static void test_pool_budget_is_not_taken_while_it_is_refused(void **state)
{
    static struct asker asker;
    pthread_t thread;
    void *given;
    unsigned refused = 0;

    (void)state;
    md_budget_init(&asker.budget, MIB);
    assert_int_equal(pthread_create(&thread, NULL, ask_for_too_much, &asker), 0);
    while (!atomic_load(&asker.done)) {
        if (md_budget_take(&asker.budget, 1)) {
            md_budget_give(&asker.budget, 1);
        } else {
            refused++;
        }
    }
    pthread_join(thread, &given);
    assert_null(given);
    assert_int_equal(refused, 0);
    assert_int_equal(asker.budget.used_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_block_is_large_enough_aligned_and_writable),
        cmocka_unit_test(test_pool_reuses_released_blocks),
        cmocka_unit_test(test_pool_cache_is_bounded_and_trimmed),
        cmocka_unit_test(test_pool_budget_limits_what_is_in_use),
        cmocka_unit_test(test_pool_block_of_the_whole_budget_fits),
        cmocka_unit_test(test_pool_small_and_urgent_blocks_go_beyond),
        cmocka_unit_test(test_pool_counts_what_is_no_block),
        cmocka_unit_test(test_pool_lazy_block_is_counted_as_it_fills),
        cmocka_unit_test(test_pool_block_without_pool),
        cmocka_unit_test(test_pool_failed_allocation_gives_the_budget_back),
        cmocka_unit_test(test_pool_blocks_come_back_from_other_threads),
        cmocka_unit_test(test_pool_released_elsewhere_counts_no_more),
        cmocka_unit_test(test_pool_credit_of_idle_pools_is_small),
        cmocka_unit_test(test_pool_budget_is_not_taken_while_it_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
