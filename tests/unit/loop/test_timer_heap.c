/*
 * loop/timer_heap against a plain array, with random operations from a fixed seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "loop/timer_heap.h"

enum { TIMERS = 300, STEPS = 20000 };

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return *seed >> 33;
}

static const struct md_loop_timer *earliest(const struct md_loop_timer *timers)
{
    const struct md_loop_timer *first = NULL;

    for (size_t i = 0; i < TIMERS; i++) {
        if (timers[i].position && (!first || timers[i].deadline_ns < first->deadline_ns)) {
            first = &timers[i];
        }
    }
    return first;
}

static void test_timer_heap_first_is_always_the_earliest(void **state)
{
    static struct md_loop_timer timers[TIMERS];
    struct md_timer_heap heap = {0};
    uint64_t seed = 1;

    (void)state;
    for (size_t i = 0; i < TIMERS; i++) {
        assert_true(md_timer_heap_reserve(&heap));
    }
    for (size_t step = 0; step < STEPS; step++) {
        struct md_loop_timer *timer = &timers[next_random(&seed) % TIMERS];
        if (next_random(&seed) % 3) {
            md_timer_heap_set(&heap, timer, next_random(&seed) % 1000);
        } else {
            md_timer_heap_cancel(&heap, timer);
            assert_int_equal(timer->position, 0);
        }
        const struct md_loop_timer *expected = earliest(timers),
                                   *first = md_timer_heap_first(&heap);
        assert_int_equal(expected == NULL, first == NULL);
        assert_true(!first || first->deadline_ns == expected->deadline_ns);
    }
    uint64_t last = 0;
    for (struct md_loop_timer *timer; (timer = md_timer_heap_first(&heap));) {
        assert_true(timer->deadline_ns >= last);
        last = timer->deadline_ns;
        md_timer_heap_cancel(&heap, timer);
    }
    md_timer_heap_deinit(&heap);
}

static void test_timer_heap_reserve_failure_changes_nothing(void **state)
{
    struct md_timer_heap heap = {0};
    size_t reserved = 0;

    (void)state;
    assert_null(md_timer_heap_first(&heap));
    md_fault_arm(MD_FAULT_ALLOC, 2);
    while (md_timer_heap_reserve(&heap)) {
        reserved++;
        assert_true(reserved < 10000);
    }
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(heap.reserved, reserved);
    md_timer_heap_unreserve(&heap);
    assert_true(md_timer_heap_reserve(&heap));
    assert_true(heap.capacity > reserved);
    md_timer_heap_deinit(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timer_heap_first_is_always_the_earliest),
        cmocka_unit_test(test_timer_heap_reserve_failure_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
