/*
 * Clocks over clock_gettime (no system call: the kernel maps them).
 */
#include "os/clock.h"

#include "base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * MD_NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t monotonic(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t realtime(void)
{
    return read_clock(CLOCK_REALTIME);
}

void md_os_clock_install(void)
{
    md_clock_monotonic_ns = monotonic;
    md_clock_realtime_ns = realtime;
}
