/*
 * Fair: whose turn it is on a device.
 *
 * Fair queueing in device time: each share is charged what its batches took, divided by its
 * weight, and of those that want the device the one that has had the least is next; bands are
 * strict, a lower number comes first. A share that comes back after a pause has no claim on what it
 * did not use meanwhile, but is next (of its band); it owes no more than its last batch. Pure, one
 * caller at a time: under the device's mutex. Zeroed: nobody.
 */
#ifndef MD_POLICY_FAIR_H
#define MD_POLICY_FAIR_H

#include "base/compiler.h"

#define MD_FAIR_CLAIM_NS 1000000000 /* device time that a share may have left to claim */

enum { MD_FAIR_WEIGHT_MAX = 1000, MD_FAIR_BANDS = 3 };

/* Embedded in a target. */
struct md_fair_share {
    /* the caller's, before md_fair_join; not changed while it has joined */
    uint32_t weight; /* 1..MD_FAIR_WEIGHT_MAX */
    uint32_t band;   /* 0..MD_FAIR_BANDS - 1 */
    /* fair's */
    uint64_t used;   /* device time in ns, divided by the weight; saturating */
    uint32_t rest;   /* of that division */
    size_t position; /* in the heap, 1-based; 0: not next for now */
    bool is_held;    /* where it is not next: it wants the device, but cannot use it now */
};

struct md_fair_band {
    struct md_fair_share **heap; /* borrow, from slots; those that want the device */
    size_t count;
    uint64_t used; /* where who joins begins at least */
};

struct md_fair {
    struct md_fair_share **slots; /* own */
    size_t capacity, reserved;    /* shares */
    struct md_fair_band bands[MD_FAIR_BANDS];
};

void md_fair_deinit(struct md_fair *fair);
/* Room for one more share, which may join and leave as it wants until unreserve; false: no memory.
 */
bool md_fair_reserve(struct md_fair *fair) MD_MUST_CHECK;
void md_fair_unreserve(struct md_fair *fair, struct md_fair_share *share); /* leaves, too */

void md_fair_join(struct md_fair *fair, struct md_fair_share *share);  /* fine if it has */
void md_fair_leave(struct md_fair *fair, struct md_fair_share *share); /* fine if it has not */
/* Instead of leaving where it still wants the device but can do nothing with it now (all its
 * instances are busy): it is not next until it joins again, and has then no less claim than if it
 * had been. Fine if it has not joined. */
void md_fair_hold(struct md_fair *fair, struct md_fair_share *share);
/* Device time that it used, or is expected to use; negative: what was expected too much. Fine
 * whether it has joined or not: at best what is expected when it was next, before it leaves, and
 * the difference when the batch has ended, even if that is 0. */
void md_fair_charge(struct md_fair *fair, struct md_fair_share *share, int64_t spent_ns);
/* How many have joined. */
static inline size_t md_fair_count(const struct md_fair *fair)
{
    size_t count = 0;

    for (size_t i = 0; i < MD_FAIR_BANDS; i++) {
        count += fair->bands[i].count;
    }
    return count;
}

/* Who is next; NULL: nobody. It stays. */
struct md_fair_share *md_fair_next(const struct md_fair *fair);

#endif
