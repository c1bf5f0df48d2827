/*
 * Limits that control groups (v1 and v2) put on this process. Any thread; reads files.
 */
#ifndef MD_OS_CGROUP_H
#define MD_OS_CGROUP_H

#include "base/compiler.h"

struct md_os_cgroup {
    double cpu_quota;    /* CPUs' worth of time; 0 = unlimited */
    size_t memory_bytes; /* SIZE_MAX = unlimited */
};

/* The tightest limit of the process's groups and of those above them.
 * membership: "/proc/self/cgroup"; mount: "/sys/fs/cgroup" (others in tests). */
void md_os_cgroup_read(const char *membership, const char *mount, struct md_os_cgroup *out);

#endif
