/*
 * When md_batcher_expire has something to do, as the tests of the batcher see it.
 */
#ifndef TESTS_UNIT_POLICY_NEXT_LIMIT_H
#define TESTS_UNIT_POLICY_NEXT_LIMIT_H

#include "policy/batcher.h"

/* The earliest limit in the queue or deadline of those that wait; UINT64_MAX: none has one. */
static inline uint64_t next_limit(const struct md_batcher *batcher)
{
    return batcher->earliest ? batcher->earliest->heap.limit_ns : UINT64_MAX;
}

#endif
