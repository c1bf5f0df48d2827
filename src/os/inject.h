/*
 * The fault point of the system calls: each call of os/ that can fail asks here first. Calls whose
 * failure nobody could act on (close, a wake-up, what is a wish) do not ask.
 */
#ifndef MD_OS_INJECT_H
#define MD_OS_INJECT_H

#include "base/fault.h"

#include <errno.h>

/* True if the next system call is to fail with this error; sets errno. */
static inline bool md_os_injected(int error)
{
    if (md_fault_hit(MD_FAULT_SYSCALL)) {
        errno = error;
        return true;
    }
    return false;
}

#endif
