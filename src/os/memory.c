/*
 * Heap settings and memory limits.
 */
#include "os/memory.h"

#include "base/str.h"
#include "os/file.h"

#include <malloc.h>
#include <unistd.h>

enum { MMAP_THRESHOLD = 128 * 1024 };

void md_os_memory_setup(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}

void md_os_memory_trim(void)
{
    (void)malloc_trim(0);
}

static size_t limit_of(const char *path)
{
    char text[64];
    uint64_t bytes;

    if (!md_os_file_peek(path, text, sizeof text)) {
        return SIZE_MAX;
    }
    struct md_str line = md_str_of(text);
    line.len = strcspn(text, "\n");
    return md_str_to_u64(line, &bytes) ? bytes : SIZE_MAX; /* "max" is no number */
}

size_t md_os_memory_limit(void)
{
    size_t machine = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);

    machine = md_size_min(machine, limit_of("/sys/fs/cgroup/memory.max"));
    return md_size_min(machine, limit_of("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}
