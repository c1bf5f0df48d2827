/*
 * Counters that one thread adds to and others read for people: no order with anything else
 * (relaxed).
 */
#ifndef MD_BASE_COUNTER_H
#define MD_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

static inline uint64_t md_counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_relaxed);
}

#endif
