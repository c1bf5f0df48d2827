/*
 * Heap settings and memory limits.
 */
#include "os/memory.h"

#include "os/cgroup.h"

#include <malloc.h>
#include <unistd.h>

/* What is smaller stays in the heap, which a trim gives back too. At the C library's first 128 KiB
 * engines that load a model spend a quarter of their time on mapping and unmapping. */
enum { MMAP_THRESHOLD = 1024 * 1024 };

void md_os_memory_setup(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}

void md_os_memory_trim(void)
{
    (void)malloc_trim(0);
}

size_t md_os_memory_limit(void)
{
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    struct md_os_cgroup cgroup;

    md_os_cgroup_read("/proc/self/cgroup", "/sys/fs/cgroup", &cgroup);
    return md_size_min(machine, cgroup.memory_bytes);
}
