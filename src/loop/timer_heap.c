/*
 * Binary heap; each timer knows its position, so that moving and cancelling need no search.
 */
#include "loop/timer_heap.h"

#include "base/alloc.h"

enum { FIRST_CAPACITY = 64 };

void md_timer_heap_deinit(struct md_timer_heap *heap)
{
    md_free(heap->timers);
    *heap = (struct md_timer_heap){0};
}

bool md_timer_heap_reserve(struct md_timer_heap *heap)
{
    if (heap->reserved + 2 > heap->capacity) { /* position 0 is not used */
        size_t capacity = heap->capacity ? heap->capacity * 2 : FIRST_CAPACITY;
        struct md_loop_timer **timers = md_realloc(heap->timers, capacity * sizeof *timers);
        if (!timers) {
            return false;
        }
        heap->timers = timers;
        heap->capacity = capacity;
    }
    heap->reserved++;
    return true;
}

void md_timer_heap_unreserve(struct md_timer_heap *heap)
{
    heap->reserved--;
}

static void place(struct md_timer_heap *heap, size_t at, struct md_loop_timer *timer)
{
    heap->timers[at] = timer;
    timer->position = at;
}

static void sift_up(struct md_timer_heap *heap, struct md_loop_timer *timer)
{
    size_t at = timer->position;

    while (at > 1 && heap->timers[at / 2]->deadline_ns > timer->deadline_ns) {
        place(heap, at, heap->timers[at / 2]);
        at /= 2;
    }
    place(heap, at, timer);
}

static void sift_down(struct md_timer_heap *heap, struct md_loop_timer *timer)
{
    size_t at = timer->position;

    for (size_t child; (child = at * 2) <= heap->count; at = child) {
        if (child < heap->count &&
            heap->timers[child + 1]->deadline_ns < heap->timers[child]->deadline_ns) {
            child++;
        }
        if (heap->timers[child]->deadline_ns >= timer->deadline_ns) {
            break;
        }
        place(heap, at, heap->timers[child]);
    }
    place(heap, at, timer);
}

void md_timer_heap_set(struct md_timer_heap *heap, struct md_loop_timer *timer,
                       uint64_t deadline_ns)
{
    timer->deadline_ns = deadline_ns;
    if (!timer->position) {
        place(heap, ++heap->count, timer);
    }
    sift_up(heap, timer);
    sift_down(heap, timer);
}

void md_timer_heap_cancel(struct md_timer_heap *heap, struct md_loop_timer *timer)
{
    size_t at = timer->position;

    if (!at) {
        return;
    }
    struct md_loop_timer *last = heap->timers[heap->count--];
    timer->position = 0;
    if (last != timer) {
        place(heap, at, last);
        sift_up(heap, last);
        sift_down(heap, last);
    }
}
