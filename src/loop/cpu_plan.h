/*
 * CPU plan: how many threads of which kind the process runs. One plan, made at start from what the
 * system grants.
 */
#ifndef MD_LOOP_CPU_PLAN_H
#define MD_LOOP_CPU_PLAN_H

#include "base/compiler.h"

struct md_cpu_grant {
    unsigned cpus; /* that the process may run on */
    double quota;  /* CPUs' worth of time of its control group; 0 = unlimited */
    /* wishes of the operator; 0 = none */
    unsigned wanted_cpus, wanted_loops, wanted_executors, wanted_engine_threads;
};

struct md_cpu_plan {
    unsigned cpus;  /* whole CPUs that the plan divides */
    unsigned loops; /* a quarter, at least one, at most eight: a loop serves > 100,000 requests/s */
    unsigned executors;      /* one for each CPU: they sleep unless batches run */
    unsigned engine_threads; /* the one pool that engines share */
    bool may_spin;           /* not under a quota: spinning would eat it */
};

void md_cpu_plan_make(const struct md_cpu_grant *grant, struct md_cpu_plan *plan);

#endif
