/*
 * What the files of the batcher share: the heap of limits (batcher_heap.c), the queue (batcher.c)
 * and the choice of a batch (batcher_pick.c). As batcher.h: pure, one caller at a time.
 */
#ifndef MD_POLICY_BATCHER_INTERNAL_H
#define MD_POLICY_BATCHER_INTERNAL_H

#include "base/clock.h"
#include "policy/batcher.h"

/* Adds a waiter that is not in the heap, with its heap.limit_ns. */
void md_batcher_heap_add(struct md_waiter **root, struct md_waiter *waiter);
/* Takes one out that is in it. */
void md_batcher_heap_remove(struct md_waiter **root, struct md_waiter *waiter);

/* Takes a waiter that waits out of everything. */
void md_batcher_unlink(struct md_batcher *batcher, struct md_waiter *waiter);

static inline uint64_t md_batcher_deadline(const struct md_waiter *waiter)
{
    return waiter->deadline_ns ? waiter->deadline_ns : UINT64_MAX;
}

/* 0-based; as const as what it is asked for. */
static inline struct md_batcher_level *md_batcher_level(const struct md_batcher *batcher,
                                                        unsigned level)
{
    return batcher->levels ? &batcher->levels[level]
                           : (struct md_batcher_level *)(uintptr_t)&batcher->one;
}

static inline struct md_waiter *md_batcher_first_of_level(const struct md_batcher *batcher,
                                                          unsigned level)
{
    const struct md_waiter_list *lists = md_batcher_level(batcher, level)->lists;

    return lists[0].first ? lists[0].first : lists[1].first;
}

/* The first of all; NULL: nobody waits. */
static inline struct md_waiter *md_batcher_first(const struct md_batcher *batcher)
{
    return batcher->filled
               ? md_batcher_first_of_level(batcher, (unsigned)__builtin_ctzll(batcher->filled))
               : NULL;
}

/* How long a batch takes, padding included; 0: unknown. */
static inline uint64_t md_batcher_mean(const struct md_batcher_config *config,
                                       const struct md_learned_time *time, uint32_t rows)
{
    return time ? md_learned_time_mean(time, md_batcher_padded(config, rows)) : 0;
}

static inline uint64_t md_batcher_high(const struct md_batcher_config *config,
                                       const struct md_learned_time *time, uint32_t rows)
{
    return time ? md_learned_time_high(time, md_batcher_padded(config, rows)) : 0;
}

static inline bool md_batcher_is_settled(const struct md_batcher_config *config,
                                         const struct md_learned_time *time, uint32_t rows)
{
    return time && md_learned_time_is_settled(time, md_batcher_padded(config, rows));
}

/* It would be late even if it ran alone, from now on, no longer than on average. */
static inline bool md_batcher_is_lost(const struct md_batcher *batcher,
                                      const struct md_waiter *waiter,
                                      const struct md_learned_time *time, uint64_t now_ns)
{
    return waiter->deadline_ns &&
           md_clock_later(now_ns, md_batcher_mean(&batcher->config, time, waiter->rows)) >
               waiter->deadline_ns;
}

#endif
