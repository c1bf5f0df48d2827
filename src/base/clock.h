/*
 * Time and logging through functions that os/ installs, so that pure rooms and tests run on any
 * clock.
 */
#ifndef MD_BASE_CLOCK_H
#define MD_BASE_CLOCK_H

#include "base/compiler.h"

enum { MD_NS_PER_US = 1000, MD_NS_PER_MS = 1000000, MD_NS_PER_S = 1000000000 };

/* Monotonic nanoseconds; for intervals and deadlines. Any thread. */
extern uint64_t (*md_clock_monotonic_ns)(void);
/* Nanoseconds since 1970-01-01 UTC; for people and statistics. Any thread. */
extern uint64_t (*md_clock_realtime_ns)(void);

/* So long after; UINT64_MAX, which is never, where that is beyond all times. */
static inline uint64_t md_clock_later(uint64_t from_ns, uint64_t span_ns)
{
    uint64_t sum;

    return __builtin_add_overflow(from_ns, span_ns, &sum) ? UINT64_MAX : sum;
}

/* Date and time of day in UTC. */
struct md_civil {
    unsigned year, month, day; /* from 1 */
    unsigned hour, minute, second;
    unsigned weekday; /* 0: Sunday */
};
/* Async-signal-safe, unlike gmtime. */
void md_clock_civil(uint64_t realtime_ns, struct md_civil *out);

#endif
