/*
 * base/arena: alignment, reuse over resets, cleanups, and failed allocations.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/arena.h"
#include "base/fault.h"

static void test_arena_allocates_aligned_and_apart(void **state)
{
    struct md_arena arena = {0};
    char *blocks[200];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        blocks[i] = md_arena_alloc(&arena, i * 3);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        memset(blocks[i], (int)i, i * 3);
    }
    for (size_t i = 0; i < MD_COUNT_OF(blocks); i++) {
        for (size_t k = 0; k < i * 3; k++) {
            assert_int_equal((unsigned char)blocks[i][k], i);
        }
    }
    assert_false(md_arena_failed(&arena));
    md_arena_deinit(&arena);
    assert_null(arena.chunks);
}

/* A steady path: after the first round no allocation is asked for, so a fault that waits for one is
 * not delivered. */
static void test_arena_reset_keeps_one_chunk(void **state)
{
    struct md_arena arena;

    (void)state;
    md_arena_init(&arena, 1024);
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            md_fault_arm(MD_FAULT_ALLOC, 0);
        }
        for (int i = 0; i < 4; i++) {
            assert_non_null(md_arena_alloc(&arena, 250));
        }
        md_arena_reset(&arena);
    }
    assert_false(md_fault_disarm(MD_FAULT_ALLOC));
    md_arena_deinit(&arena);
}

static void test_arena_large_block_leaves_the_current_chunk_usable(void **state)
{
    struct md_arena arena;

    (void)state;
    md_arena_init(&arena, 1024);
    char *small = md_arena_alloc(&arena, 16);
    char *large = md_arena_alloc(&arena, 100000);
    char *next = md_arena_alloc(&arena, 16);
    assert_non_null(large);
    assert_ptr_equal(next, small + 16);
    memset(large, 1, 100000);
    md_arena_reset(&arena);
    assert_ptr_equal(md_arena_alloc(&arena, 16), small);
    md_arena_deinit(&arena);
}

static void test_arena_text(void **state)
{
    struct md_arena arena = {0};
    struct md_str copy = md_arena_copy(&arena, md_str_make("abcdef", 3));
    struct md_str empty = md_arena_copy(&arena, (struct md_str){0});

    (void)state;
    assert_true(md_str_eq_c(copy, "abc"));
    assert_int_equal(copy.ptr[3], 0);
    assert_non_null(empty.ptr);
    assert_int_equal(empty.len, 0);
    assert_string_equal(md_arena_strdup(&arena, "xyz"), "xyz");
    assert_string_equal(md_arena_printf(&arena, "%s-%d", "m", 3), "m-3");
    char *long_text = md_arena_printf(&arena, "%5000d", 1);
    assert_int_equal(strlen(long_text), 5000);
    md_arena_deinit(&arena);
}

static void test_arena_calloc(void **state)
{
    struct md_arena arena = {0};

    (void)state;
    memset(md_arena_alloc(&arena, 512), 0xff, 512);
    md_arena_reset(&arena);
    const char *zeroed = md_arena_calloc(&arena, 32, 16);
    for (size_t i = 0; i < 512; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    assert_null(md_arena_calloc(&arena, SIZE_MAX / 2, 3));
    assert_true(md_arena_failed(&arena));
    md_arena_reset(&arena);
    assert_false(md_arena_failed(&arena));
    assert_null(md_arena_alloc(&arena, SIZE_MAX));
    assert_true(md_arena_failed(&arena));
    md_arena_deinit(&arena);
}

static char order[8];

static void note(void *arg)
{
    strncat(order, arg, 1);
}

static void test_arena_cleanups_run_newest_first_once(void **state)
{
    struct md_arena arena = {0};
    static char names[] = "abc";

    (void)state;
    order[0] = '\0';
    for (int i = 0; i < 3; i++) {
        assert_true(md_arena_on_reset(&arena, note, &names[i]));
    }
    md_arena_reset(&arena);
    assert_string_equal(order, "cba");
    assert_true(md_arena_on_reset(&arena, note, &names[1]));
    md_arena_deinit(&arena);
    assert_string_equal(order, "cbab");
}

static bool build(struct md_arena *arena)
{
    for (int i = 0; i < 20; i++) {
        struct md_str copy =
            md_arena_copy(arena, MD_STR("a sentence that takes some room in a chunk"));
        const char *printed = md_arena_printf(arena, "%0300d", i);
        void *large = md_arena_alloc(arena, 3000);
        bool registered = md_arena_on_reset(arena, note, order);
        if (md_arena_failed(arena)) {
            return false;
        }
        assert_non_null(copy.ptr);
        assert_non_null(printed);
        assert_non_null(large);
        assert_true(registered);
    }
    return true;
}

static void test_arena_every_failed_allocation_is_remembered(void **state)
{
    bool delivered = true;

    (void)state;
    for (long n = 0; delivered; n++) {
        struct md_arena arena;
        md_arena_init(&arena, 512);
        order[0] = '\0';
        md_fault_arm(MD_FAULT_ALLOC, n);
        bool built = build(&arena);
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(built, !delivered);
        md_arena_deinit(&arena);
        assert_true(n < 1000);
    }
}

static void test_arena_cache_lends_and_takes_back(void **state)
{
    struct md_arena_cache cache = {.max_count = 1};
    struct md_arena a, b;

    (void)state;
    md_arena_init(&a, 1024);
    md_arena_init(&b, 1024);
    md_arena_cache_lend(&cache, &a); /* it has none */
    assert_null(a.chunks);
    const char *first = md_arena_alloc(&a, 10);
    assert_non_null(md_arena_alloc(&b, 10));
    md_arena_reset(&a);
    md_arena_reset(&b);
    md_arena_cache_take_back(&cache, &a);
    md_arena_cache_take_back(&cache, &b); /* beyond its bound: freed */
    assert_int_equal(cache.count, 1);
    assert_null(a.chunks);
    assert_null(b.chunks);
    md_arena_cache_lend(&cache, &b);
    assert_int_equal(cache.count, 0);
    assert_ptr_equal(md_arena_alloc(&b, 10), first);
    md_arena_cache_lend(&cache, &b); /* it has one already */
    md_arena_reset(&b);
    md_arena_cache_take_back(&cache, &b);
    md_arena_cache_deinit(&cache);
    assert_int_equal(cache.count, 0);
    md_arena_deinit(&a);
    md_arena_deinit(&b);
}

static void test_arena_cache_keeps_to_its_size(void **state)
{
    struct md_arena_cache cache = {.max_count = 4};
    struct md_arena small, large;

    (void)state;
    md_arena_init(&small, 512);
    md_arena_init(&large, 4096);
    assert_non_null(md_arena_alloc(&small, 10));
    md_arena_reset(&small);
    md_arena_cache_take_back(&cache, &small);
    md_arena_cache_lend(&cache, &large);
    assert_null(large.chunks);
    assert_int_equal(cache.count, 1);
    md_arena_cache_deinit(&cache);
    md_arena_deinit(&small);
    md_arena_deinit(&large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_allocates_aligned_and_apart),
        cmocka_unit_test(test_arena_reset_keeps_one_chunk),
        cmocka_unit_test(test_arena_large_block_leaves_the_current_chunk_usable),
        cmocka_unit_test(test_arena_text),
        cmocka_unit_test(test_arena_calloc),
        cmocka_unit_test(test_arena_cleanups_run_newest_first_once),
        cmocka_unit_test(test_arena_every_failed_allocation_is_remembered),
        cmocka_unit_test(test_arena_cache_lends_and_takes_back),
        cmocka_unit_test(test_arena_cache_keeps_to_its_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
