/*
 * Fault injection for tests: the Nth allocation or system call of the process fails, alone or with
 * all that follow.
 *
 * Armed and disarmed by the test's thread; hits are counted atomically from any thread. When
 * nothing is armed the cost is one relaxed load and a predicted branch.
 */
#ifndef MD_BASE_FAULT_H
#define MD_BASE_FAULT_H

#include "base/compiler.h"

#include <stdatomic.h>

enum md_fault_kind {
    MD_FAULT_ALLOC,   /* of the heap */
    MD_FAULT_SYSCALL, /* that can fail */
    MD_FAULT_REGION,  /* from an arena or a pool, whether it goes to the heap for it or not */
    MD_FAULT_KIND_COUNT,
};

/* Calls still to succeed before one fails; negative: not armed. Internal to md_fault_hit. */
extern atomic_long md_fault_countdown[MD_FAULT_KIND_COUNT];

/* The call number `after` from now (0 = the very next) of this kind fails once. */
void md_fault_arm(enum md_fault_kind kind, long after);
/* That call fails, and so do all after it. */
void md_fault_arm_lasting(enum md_fault_kind kind, long after);

/* Ends the injection; true if the fault was delivered since md_fault_arm. */
bool md_fault_disarm(enum md_fault_kind kind);

/* An armed md_fault_hit. */
bool md_fault_count(enum md_fault_kind kind);

/* True if this call is to fail. Called by base/ and os/. */
static inline bool md_fault_hit(enum md_fault_kind kind)
{
    /* relaxed: a test arms before it starts the work that is to fail */
    if (MD_LIKELY(atomic_load_explicit(&md_fault_countdown[kind], memory_order_relaxed) < 0)) {
        return false;
    }
    return md_fault_count(kind);
}

#endif
