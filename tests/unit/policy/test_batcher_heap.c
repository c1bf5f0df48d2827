/*
 * policy/batcher_heap: its invariants after random additions and removals, and for those that come
 * in order or against it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/batcher_internal.h"

enum { WAITERS = 1000, STEPS = 20000 };

static struct md_waiter waiters[WAITERS];

static bool is_before(const struct md_waiter *a, const struct md_waiter *b)
{
    return a->heap.limit_ns != b->heap.limit_ns ? a->heap.limit_ns < b->heap.limit_ns
                                                : a->number < b->number;
}

static uint32_t rank_of(const struct md_waiter *waiter)
{
    return waiter ? waiter->heap.rank : 0;
}

/* All that are in it are below the root, each once, as the invariants say. */
static void assert_heap(const struct md_waiter *root)
{
    size_t in_it = 0, tops = 0, right_path = 0;

    for (size_t i = 0; i < WAITERS; i++) {
        const struct md_waiter *waiter = &waiters[i], *parent = waiter->heap.parent;
        const struct md_waiter *left = waiter->heap.left, *right = waiter->heap.right;
        if (!waiter->heap.rank) {
            continue;
        }
        in_it++;
        tops += waiter == root;
        assert_int_equal(waiter == root, parent == NULL);
        assert_true(!parent || parent->heap.left == waiter || parent->heap.right == waiter);
        assert_true(!parent || is_before(parent, waiter)); /* so there are no circles */
        assert_true((!left || left->heap.parent == waiter) &&
                    (!right || right->heap.parent == waiter));
        assert_true(rank_of(left) >= rank_of(right));
        assert_int_equal(waiter->heap.rank, rank_of(right) + 1);
    }
    assert_int_equal(tops, in_it > 0);
    for (const struct md_waiter *waiter = root; waiter; waiter = waiter->heap.right) {
        right_path++;
    }
    assert_true((1ULL << right_path) - 1 <= in_it);
}

static void test_batcher_heap_keeps_its_invariants(void **state)
{
    struct md_waiter *root = NULL;
    uint64_t seed = 1;

    (void)state;
    for (size_t step = 0; step < STEPS; step++) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        struct md_waiter *waiter = &waiters[(seed >> 33) % (step < STEPS / 4 ? 20 : WAITERS)];
        if (waiter->heap.rank) {
            md_batcher_heap_remove(&root, waiter);
            assert_int_equal(waiter->heap.rank, 0);
        } else {
            waiter->heap.limit_ns = (seed >> 45) % (seed % 2 ? 10 : 1000000);
            waiter->number = step;
            md_batcher_heap_add(&root, waiter);
        }
        if (step < 2000 || step % 50 == 0) {
            assert_heap(root);
        }
    }
    for (const struct md_waiter *last = NULL; root;) {
        struct md_waiter *first = root;
        assert_true(!last || is_before(last, first));
        md_batcher_heap_remove(&root, first);
        last = first;
    }
    assert_heap(NULL);
}

static void test_batcher_heap_bears_any_order(void **state)
{
    (void)state;
    for (int order = 0; order < 3; order++) {
        struct md_waiter *root = NULL;
        for (size_t i = 0; i < WAITERS; i++) {
            waiters[i].heap.limit_ns = order == 0 ? i : order == 1 ? WAITERS - i : 7;
            waiters[i].number = i;
            md_batcher_heap_add(&root, &waiters[i]);
        }
        assert_heap(root);
        for (size_t i = 0; i < WAITERS; i++) {
            struct md_waiter *first = root;
            assert_ptr_equal(first, &waiters[order == 1 ? WAITERS - 1 - i : i]);
            md_batcher_heap_remove(&root, first);
        }
        assert_null(root);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batcher_heap_keeps_its_invariants),
        cmocka_unit_test(test_batcher_heap_bears_any_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
