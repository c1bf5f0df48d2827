/*
 * base/fault and base/alloc: exactly the armed call fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"

static void test_fault_fails_exactly_one_call(void **state)
{
    (void)state;
    for (long after = 0; after < 5; after++) {
        md_fault_arm(MD_FAULT_SYSCALL, after);
        for (long call = 0; call < 8; call++) {
            assert_false(md_fault_hit(MD_FAULT_ALLOC));
            assert_int_equal(md_fault_hit(MD_FAULT_SYSCALL), call == after);
        }
        assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    }
    md_fault_arm(MD_FAULT_SYSCALL, 3);
    assert_false(md_fault_hit(MD_FAULT_SYSCALL));
    assert_false(md_fault_disarm(MD_FAULT_SYSCALL));
    for (int call = 0; call < 8; call++) {
        assert_false(md_fault_hit(MD_FAULT_SYSCALL));
    }
}

static void test_fault_that_lasts_fails_all_that_follow(void **state)
{
    (void)state;
    for (long after = 0; after < 5; after++) {
        md_fault_arm_lasting(MD_FAULT_SYSCALL, after);
        for (long call = 0; call < 8; call++) {
            assert_int_equal(md_fault_hit(MD_FAULT_SYSCALL), call >= after);
        }
        assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
        assert_false(md_fault_hit(MD_FAULT_SYSCALL));
    }
    md_fault_arm_lasting(MD_FAULT_SYSCALL, 1);
    assert_false(md_fault_hit(MD_FAULT_SYSCALL));
    assert_false(md_fault_disarm(MD_FAULT_SYSCALL));
}

static void *by_alloc(void)
{
    return md_alloc(1);
}
static void *by_calloc(void)
{
    return md_calloc(1, 1);
}
static void *by_realloc(void)
{
    return md_realloc(NULL, 1);
}
static void *by_aligned(void)
{
    return md_alloc_aligned(64, 1);
}
static void *by_strdup(void)
{
    return md_strdup("x");
}
static void *by_strndup(void)
{
    return md_strndup("xyz", 2);
}

static void test_fault_reaches_every_allocation(void **state)
{
    static void *(*const ways[])(void) = {by_alloc,   by_calloc, by_realloc,
                                          by_aligned, by_strdup, by_strndup};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(ways); i++) {
        md_fault_arm(MD_FAULT_ALLOC, 0);
        assert_null(ways[i]());
        void *block = ways[i]();
        assert_non_null(block);
        assert_true(md_fault_disarm(MD_FAULT_ALLOC));
        md_free(block);
    }
}

static void test_alloc_edges(void **state)
{
    char *text = md_strndup("abcdef", 3);
    void *empty = md_alloc(0), *zeroed = md_calloc(0, 8), *aligned = md_alloc_aligned(4096, 0);

    (void)state;
    assert_string_equal(text, "abc");
    assert_non_null(empty);
    assert_non_null(zeroed);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    assert_null(md_calloc(SIZE_MAX / 2, 4));
    assert_null(md_alloc_aligned(64, SIZE_MAX - 10));
    md_free(text);
    md_free(empty);
    md_free(zeroed);
    md_free(aligned);
    md_free(NULL);
}

static void test_clock_stands_still_until_installed(void **state)
{
    (void)state;
    assert_true(md_clock_monotonic_ns() == 0);
    assert_true(md_clock_realtime_ns() == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fault_fails_exactly_one_call),
        cmocka_unit_test(test_fault_that_lasts_fails_all_that_follow),
        cmocka_unit_test(test_fault_reaches_every_allocation),
        cmocka_unit_test(test_alloc_edges),
        cmocka_unit_test(test_clock_stands_still_until_installed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
