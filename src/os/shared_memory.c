/*
 * Shared memory over shm_open and mmap.
 *
 * The handler of SIGBUS may run on any thread at any time, so it reads a fixed table of atomics and
 * makes one system call. A slot's `end` is written before its `begin` and `begin` is cleared before
 * the memory goes, so whoever faults inside a mapping that he may use finds it.
 */
#include "os/shared_memory.h"

#include "os/inject.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct slot {
    atomic_bool taken, broken;
    atomic_uintptr_t begin, end; /* begin 0: not guarded */
};

static struct slot slots[MD_OS_SHM_MAPPINGS_MAX];
static atomic_size_t used; /* slots from here on have never been taken */

/* --- guard -------------------- */

static bool take_slot(size_t *out)
{
    for (size_t i = 0; i < MD_OS_SHM_MAPPINGS_MAX; i++) {
        bool free = false;
        if (!atomic_compare_exchange_strong(&slots[i].taken, &free, true)) {
            continue;
        }
        size_t seen = atomic_load(&used);
        while (seen <= i && !atomic_compare_exchange_weak(&used, &seen, i + 1)) {}
        *out = i;
        return true;
    }
    return false;
}

static void guard(const struct md_os_shm *shm)
{
    struct slot *slot = &slots[shm->slot];

    atomic_store(&slot->broken, false);
    atomic_store(&slot->end, (uintptr_t)shm->begin + shm->mapped_bytes);
    atomic_store(&slot->begin, (uintptr_t)shm->begin);
}

static void unguard(const struct md_os_shm *shm)
{
    atomic_store(&slots[shm->slot].begin, 0);
}

static void give_slot(size_t slot)
{
    atomic_store(&slots[slot].taken, false);
}

/* Without memory for all of it, one page. */
static bool cover(uintptr_t begin, uintptr_t end, uintptr_t address)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return mmap((void *)begin, end - begin, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED ||
           mmap((void *)(address & ~(page - 1)), page, PROT_READ | PROT_WRITE, flags, -1, 0) !=
               MAP_FAILED;
}

bool md_os_shm_absorb(const void *address)
{
    const uintptr_t at = (uintptr_t)address;
    const size_t count = atomic_load(&used);

    for (size_t i = 0; i < count; i++) {
        const uintptr_t begin = atomic_load(&slots[i].begin), end = atomic_load(&slots[i].end);
        if (begin && at >= begin && at < end) {
            atomic_store(&slots[i].broken, true); /* before anybody can read a zero */
            return cover(begin, end, at);
        }
    }
    return false;
}

bool md_os_shm_is_broken(const struct md_os_shm *shm)
{
    return atomic_load(&slots[shm->slot].broken);
}

/* --- mapping -------------------- */

/* What shm_open takes: at most one slash, in front. */
static bool read_key(struct md_str key, char name[NAME_MAX + 2])
{
    while (key.len && key.ptr[0] == '/') {
        key = md_str_make(key.ptr + 1, key.len - 1);
    }
    if (!key.len || key.len > NAME_MAX || md_str_find(key, '/') >= 0 ||
        md_str_find(key, '\0') >= 0 || md_str_eq_c(key, ".") || md_str_eq_c(key, "..")) {
        return false;
    }
    name[0] = '/';
    memcpy(name + 1, key.ptr, key.len);
    name[key.len + 1] = '\0';
    return true;
}

static bool map_open(int fd, uint64_t offset, uint64_t bytes, struct md_os_shm *out,
                     struct md_error *err)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct stat info;
    uint64_t end;

    if (md_os_injected(EIO) || fstat(fd, &info) != 0) {
        return md_error_set(err, MD_REASON_IO, "fstat: %s", strerror(errno));
    }
    if (!S_ISREG(info.st_mode) || !bytes || __builtin_add_overflow(offset, bytes, &end) ||
        end > (uint64_t)info.st_size) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "invalid args");
    }
    const size_t lead = offset % page;
    out->mapped_bytes = lead + bytes;
    out->begin = md_os_injected(ENOMEM) ? MAP_FAILED
                                        : mmap(NULL, out->mapped_bytes, PROT_READ | PROT_WRITE,
                                               MAP_SHARED, fd, (off_t)(offset - lead));
    if (out->begin == MAP_FAILED) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "unable to process address space: %s",
                            strerror(errno));
    }
    out->data = (char *)out->begin + lead;
    return true;
}

bool md_os_shm_map(struct md_str key, uint64_t offset, uint64_t bytes, struct md_os_shm *out,
                   struct md_error *err)
{
    char name[NAME_MAX + 2];

    if (!read_key(key, name)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "invalid shm key '%.*s'",
                            MD_STR_ARG(key));
    }
    int fd = md_os_injected(EIO) ? -1 : shm_open(name, O_RDWR, 0);
    if (fd < 0) {
        return md_error_set(err, MD_REASON_NOT_FOUND, "%s", strerror(errno));
    }
    if (!take_slot(&out->slot)) {
        close(fd);
        return md_error_set(err, MD_REASON_OUT_OF_MEMORY, "there are %d mappings already",
                            MD_OS_SHM_MAPPINGS_MAX);
    }
    bool ok = map_open(fd, offset, bytes, out, err);
    close(fd);
    if (ok) {
        guard(out);
    } else {
        give_slot(out->slot);
    }
    return ok;
}

void md_os_shm_unmap(struct md_os_shm *shm)
{
    unguard(shm);
    (void)munmap(shm->begin, shm->mapped_bytes);
    give_slot(shm->slot);
}
