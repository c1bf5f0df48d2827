/*
 * Timers by deadline: a binary heap of pointers to timers that are embedded in their owners.
 *
 * Owned by one loop and touched on its thread. Room is reserved before the owner of a timer is
 * created, so that setting one cannot fail. A zeroed heap is empty.
 */
#ifndef MD_LOOP_TIMER_HEAP_H
#define MD_LOOP_TIMER_HEAP_H

#include "loop/loop.h"

struct md_timer_heap {
    struct md_loop_timer **timers; /* own array, 1-based, of borrowed timers */
    size_t count, capacity, reserved;
};

void md_timer_heap_deinit(struct md_timer_heap *heap);
/* Room for one more timer; false when out of memory. */
bool md_timer_heap_reserve(struct md_timer_heap *heap) MD_MUST_CHECK;
void md_timer_heap_unreserve(struct md_timer_heap *heap);

void md_timer_heap_set(struct md_timer_heap *heap, struct md_loop_timer *timer,
                       uint64_t deadline_ns); /* or moves it */
void md_timer_heap_cancel(struct md_timer_heap *heap,
                          struct md_loop_timer *timer); /* fine if not set */

/* The timer with the earliest deadline; NULL if none is set. */
static inline struct md_loop_timer *md_timer_heap_first(const struct md_timer_heap *heap)
{
    return heap->count ? heap->timers[1] : NULL;
}

#endif
