/*
 * Learned time: how long an instance takes for a batch of n rows, from what it took.
 *
 * Pure; zeroed: nothing is known. Embedded in an instance, written and read under its device's
 * mutex. Of the first runs of a size (MD_LEARNED_SETTLED of them) the fastest counts: an engine is
 * cold at first, and whatever else loads wants the CPU too. Where one takes much less than those
 * before, they were no measure, and it is the first again. Later ones move the mean by an eighth;
 * but the first after a long time (MD_LEARNED_STALE runs of others) counts in full if it was
 * faster. One that took much longer than usual counts no more than MD_LEARNED_OUTLIER times the
 * mean. `high` is what nearly all runs of the size stay below.
 *
 * A size that has not been seen is interpolated between its neighbours; a larger one than all that
 * were seen is scaled from the largest; a smaller one takes no longer than the smallest.
 *
 * A size that is believed to be slow may never be run again to show that it is not. So where its
 * runs are few (less than MD_LEARNED_SETTLED) or old (MD_LEARNED_STALE runs of others ago), it is
 * taken to spread as all sizes do, and to take no longer than a larger one that is well known, nor
 * than in proportion to a smaller one.
 */
#ifndef MD_POLICY_LEARNED_TIME_H
#define MD_POLICY_LEARNED_TIME_H

#include "base/compiler.h"

enum {
    MD_LEARNED_SIZES = 64, /* larger ones share the last, scaled to it */
    MD_LEARNED_OUTLIER = 4,
    MD_LEARNED_SETTLED = 8,
    MD_LEARNED_STALE = 64,
};

struct md_learned_time {
    struct {
        uint64_t mean_ns;          /* moving */
        uint64_t low_ns;           /* the shortest, as far as it was not long ago */
        uint64_t deviation_ns;     /* moving mean of the distance to it */
        uint32_t count;            /* saturating */
        uint32_t last_run;         /* `runs` then */
    } sizes[MD_LEARNED_SIZES + 1]; /* by rows; [0] is not used */
    uint64_t known;                /* bit i: size i + 1 has been seen */
    uint32_t runs;                 /* of all sizes; wraps */
    uint32_t spreads;              /* distances in the next, saturating */
    uint64_t spread_permille;      /* moving mean of the distances to the mean, by it, of all */
};

void md_learned_time_add(struct md_learned_time *time, uint32_t rows, uint64_t spent_ns);

/* 0: nothing is known of any size; otherwise >= 1 and at most UINT64_MAX. rows 0 is taken as 1. */
uint64_t md_learned_time_mean(const struct md_learned_time *time, uint32_t rows);
uint64_t md_learned_time_high(const struct md_learned_time *time, uint32_t rows);
/* Its runs are many enough and not long ago: they say what it takes, without its neighbours. Of
 * more rows than MD_LEARNED_SIZES: never, since they share the last. */
bool md_learned_time_is_settled(const struct md_learned_time *time, uint32_t rows);
/* What a run takes at least, for all that is known: the shortest of that size, or of the largest
 * one below, since more rows take no less. 0: nothing is known of such sizes. */
uint64_t md_learned_time_low(const struct md_learned_time *time, uint32_t rows);

#endif
