/*
 * Counters of the fault injection. Delivering a single fault takes the countdown below zero, which
 * is also "not armed", so exactly one call fails; a lasting one leaves it at zero.
 */
#include "base/fault.h"

atomic_long md_fault_countdown[MD_FAULT_KIND_COUNT] = {-1, -1, -1};

static struct {
    atomic_bool lasting, delivered;
} faults[MD_FAULT_KIND_COUNT];

static void arm(enum md_fault_kind kind, long after, bool lasting)
{
    atomic_store(&faults[kind].lasting, lasting);
    atomic_store(&faults[kind].delivered, false);
    atomic_store(&md_fault_countdown[kind], after);
}

void md_fault_arm(enum md_fault_kind kind, long after)
{
    arm(kind, after, false);
}

void md_fault_arm_lasting(enum md_fault_kind kind, long after)
{
    arm(kind, after, true);
}

bool md_fault_disarm(enum md_fault_kind kind)
{
    atomic_store(&md_fault_countdown[kind], -1);
    return atomic_load(&faults[kind].delivered);
}

bool md_fault_count(enum md_fault_kind kind)
{
    long left = atomic_load(&md_fault_countdown[kind]), next;

    do {
        if (left < 0) {
            return false;
        }
        next = left == 0 && atomic_load(&faults[kind].lasting) ? 0 : left - 1;
    } while (!atomic_compare_exchange_weak(&md_fault_countdown[kind], &left, next));
    if (left == 0) {
        atomic_store(&faults[kind].delivered, true);
    }
    return left == 0;
}
