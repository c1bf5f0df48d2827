/*
 * POSIX shared memory of other processes (shm_open), mapped for reading and writing, and the guard
 * that keeps them from crashing this one.
 *
 * Whoever made such an object can shorten it at any time; memory beyond its end raises SIGBUS. The
 * guard (see md_os_signal_setup) then puts zeroed memory of our own in the place of the whole
 * mapping, marks it as broken and lets the thread go on. Who reads or writes a mapping asks
 * afterwards whether it is broken, before what was read or written counts.
 *
 * A mapping is plain data of its owner; map and unmap on any thread. It must not be unmapped while
 * anybody uses its memory.
 */
#ifndef MD_OS_SHARED_MEMORY_H
#define MD_OS_SHARED_MEMORY_H

#include "base/error.h"
#include "base/str.h"

enum { MD_OS_SHM_MAPPINGS_MAX = 16384 }; /* at the same time */

struct md_os_shm {
    char *data; /* the part that was asked for */
    void *begin;
    size_t mapped_bytes;
    size_t slot; /* in the table of the guard */
};

/* Maps `bytes` of the object from `offset`; key: "/name" or "name". INVALID_ARGUMENT if they do not
 * lie inside the object or the key is none; NOT_FOUND if there is no such object or it cannot be
 * opened; RESOURCE_EXHAUSTED, IO. */
bool md_os_shm_map(struct md_str key, uint64_t offset, uint64_t bytes, struct md_os_shm *out,
                   struct md_error *err) MD_MUST_CHECK;
void md_os_shm_unmap(struct md_os_shm *shm);

/* Whether memory was used that the object does not have (any more). Any thread. */
bool md_os_shm_is_broken(const struct md_os_shm *shm);

/* For the handler of SIGBUS: true if the address lies in a mapping, which is harmless from now on.
 */
bool md_os_shm_absorb(const void *address);

#endif
