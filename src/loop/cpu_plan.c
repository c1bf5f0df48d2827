/*
 * CPU plan: pure arithmetic.
 */
#include "loop/cpu_plan.h"

static unsigned clamp(unsigned value, unsigned low, unsigned high)
{
    return value < low ? low : value > high ? high : value;
}

static unsigned or_default(unsigned wanted, unsigned otherwise)
{
    return wanted ? wanted : otherwise;
}

void md_cpu_plan_make(const struct md_cpu_grant *grant, struct md_cpu_plan *plan)
{
    unsigned cpus = grant->cpus;

    if (grant->quota > 0 && grant->quota < cpus) {
        cpus = (unsigned)(grant->quota + 0.999); /* a part of a CPU counts as one */
    }
    cpus = or_default(grant->wanted_cpus, clamp(cpus, 1, 1024));
    plan->cpus = cpus;
    plan->loops = or_default(grant->wanted_loops, clamp(cpus / 4, 1, 8));
    plan->executors = or_default(grant->wanted_executors, cpus);
    plan->engine_threads = or_default(grant->wanted_engine_threads, cpus);
    plan->may_spin = grant->quota <= 0;
}
