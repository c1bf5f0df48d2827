/*
 * Counters of the fault injection. A delivered fault leaves the countdown below zero, which is also
 * "not armed", so exactly one call fails.
 */
#include "base/fault.h"

atomic_long md_fault_countdown[MD_FAULT_KIND_COUNT] = {-1, -1};

void md_fault_arm(enum md_fault_kind kind, long after)
{
    atomic_store(&md_fault_countdown[kind], after);
}

bool md_fault_disarm(enum md_fault_kind kind)
{
    return atomic_exchange(&md_fault_countdown[kind], -1) < 0;
}
