/*
 * The waiters that have a limit (in the queue, or a deadline), by the earliest.
 *
 * Timeouts of requests' own and deadlines come in any order, and any waiter may leave at any time;
 * waiters are not allocated, and nobody may wait for long under the device's mutex. So it is a
 * leftist heap through pointers in the waiters: adding, removing the first and removing any take
 * O(log n) at worst, not only in the long run, and a step for those that come in order.
 *
 * Invariants: a node is earlier than its children; rank is the length of the path that
 * goes right until there is no child (a leaf: 1); the left child's rank is no less than the right
 * one's, so the right path has at most log2(n + 1) nodes.
 */
#include "policy/batcher_internal.h"

static uint32_t rank_of(const struct md_waiter *waiter)
{
    return waiter ? waiter->heap.rank : 0;
}

/* Those that came first go first where limits are equal. */
static bool is_earlier(const struct md_waiter *a, const struct md_waiter *b)
{
    return a->heap.limit_ns < b->heap.limit_ns ||
           (a->heap.limit_ns == b->heap.limit_ns && a->number < b->number);
}

/* Puts the children in order; true: the rank has changed. */
static bool settle(struct md_waiter *node)
{
    if (rank_of(node->heap.left) < rank_of(node->heap.right)) {
        struct md_waiter *left = node->heap.left;
        node->heap.left = node->heap.right;
        node->heap.right = left;
    }
    uint32_t rank = rank_of(node->heap.right) + 1;
    bool changed = rank != node->heap.rank;
    node->heap.rank = rank;
    return changed;
}

/* Merges two heaps: goes down along both right paths, then settles what it went through. */
static struct md_waiter *merge(struct md_waiter *a, struct md_waiter *b, struct md_waiter *parent)
{
    struct md_waiter *top = NULL, *above = NULL;

    while (a && b) {
        if (is_earlier(b, a)) {
            struct md_waiter *swapped = a;
            a = b;
            b = swapped;
        }
        if (above) {
            above->heap.right = a;
        } else {
            top = a;
        }
        a->heap.parent = above;
        above = a;
        a = a->heap.right;
    }
    struct md_waiter *rest = a ? a : b;
    if (!above) {
        top = rest;
    } else {
        above->heap.right = rest;
    }
    if (rest) {
        rest->heap.parent = above;
    }
    for (; above; above = above->heap.parent) {
        settle(above);
    }
    if (top) {
        top->heap.parent = parent;
    }
    return top;
}

void md_batcher_heap_add(struct md_waiter **root, struct md_waiter *waiter)
{
    waiter->heap.left = waiter->heap.right = waiter->heap.parent = NULL;
    waiter->heap.rank = 1;
    *root = merge(*root, waiter, NULL);
}

void md_batcher_heap_remove(struct md_waiter **root, struct md_waiter *waiter)
{
    struct md_waiter *parent = waiter->heap.parent;
    struct md_waiter *child = merge(waiter->heap.left, waiter->heap.right, parent);

    if (!parent) {
        *root = child;
    } else if (parent->heap.left == waiter) {
        parent->heap.left = child;
    } else {
        parent->heap.right = child;
    }
    /* ranks that change grow from node to node, so there are few of them */
    while (parent && settle(parent)) {
        parent = parent->heap.parent;
    }
    waiter->heap.rank = 0;
}
