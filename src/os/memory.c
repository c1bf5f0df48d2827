/*
 * Heap settings and memory limits.
 */
#include "os/memory.h"

#include "os/cgroup.h"

#include <malloc.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

/* What is smaller stays in the heap, which a trim gives back too. At the C library's first 128 KiB
 * engines that load a model spend a quarter of their time on mapping and unmapping. */
enum { MMAP_THRESHOLD = 1024 * 1024, HUGE_PAGE = 2 * 1024 * 1024 };

void md_os_memory_setup(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}

/* memalign() is the same call in the C library and in the sanitizers that stand in for it. The
 * advice may fail: then the pages are small. */
__attribute__((visibility("default"))) void *aligned_alloc(size_t alignment, size_t size)
{
    void *block;

    if (size < HUGE_PAGE) {
        return memalign(alignment, size);
    }
    block = memalign(md_size_max(alignment, HUGE_PAGE), size);
    if (block) {
        (void)madvise(block, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    }
    return block;
}

/* One thread at a time: a second would find little to do, and where another allocator stands in
 * for the C library's (the address sanitizer's) the first call sets that one up, which is no work
 * for two. */
void md_os_memory_trim(void)
{
    static atomic_flag busy = ATOMIC_FLAG_INIT;

    if (!atomic_flag_test_and_set(&busy)) {
        (void)malloc_trim(0);
        atomic_flag_clear(&busy);
    }
}

size_t md_os_memory_limit(void)
{
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    struct md_os_cgroup cgroup;

    md_os_cgroup_read("/proc/self/cgroup", "/sys/fs/cgroup", &cgroup);
    return md_size_min(machine, cgroup.memory_bytes);
}
