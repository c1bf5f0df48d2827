/*
 * Regions: shared memory of clients that is registered under a name, for all dialects (the field's
 * extension_shared_memory).
 *
 * One registry for the server, any thread. A region lives until it is unregistered and the requests
 * that use it are over; its name is free at once. NULL stands for a server without
 * --allow-client-shm: every call takes it and says so, and there are no regions.
 *
 * Clients are trusted with what they share: one that changes a tensor while its request runs gets
 * what the engine makes of it. One that takes the memory away is told (see md_region_uses_check).
 */
#ifndef MD_API_SHARED_MEMORY_REGIONS_H
#define MD_API_SHARED_MEMORY_REGIONS_H

#include "base/arena.h"
#include "base/error.h"

struct md_regions;
struct md_region_use;

struct md_region_info {
    struct md_str name; /* UTF-8, not empty */
    struct md_str key;  /* of the object, as shm_open takes it */
    uint64_t offset, bytes;
};

bool md_regions_create(struct md_regions **out, struct md_error *err) MD_MUST_CHECK;
/* After the last request. */
void md_regions_destroy(struct md_regions *regions);

/* Maps the part of the object. Errors are the field's: ALREADY_EXISTS, INVALID_ARGUMENT (key,
 * bounds), INTERNAL (there is no such object). */
bool md_regions_register(struct md_regions *regions, const struct md_region_info *info,
                         struct md_error *err) MD_MUST_CHECK;
/* An empty name: all. A name that is not registered is fine. */
bool md_regions_unregister(struct md_regions *regions, struct md_str name, struct md_error *err)
    MD_MUST_CHECK;
/* What is registered, sorted by name, in memory of the arena; an empty name: all. NOT_FOUND. */
bool md_regions_list(struct md_regions *regions, struct md_str name, struct md_arena *arena,
                     struct md_region_info **out, size_t *count, struct md_error *err)
    MD_MUST_CHECK;

/* There are none of CUDA: what register, and status of one name, answer. They return false. */
bool md_regions_register_cuda(const struct md_regions *regions, struct md_str name,
                              struct md_error *err);
bool md_regions_find_cuda(struct md_regions *regions, struct md_str name, struct md_error *err);

/* --- in requests -------------------- */

/* Regions that one request uses; in its arena, by its owner. Zeroed: none. */
struct md_region_uses {
    struct md_region_use *first;
};

/* Where `bytes` of the region lie from `offset`; they stay there until the arena is reset.
 * NOT_FOUND, INVALID_ARGUMENT (bounds). */
bool md_region_use(struct md_regions *regions, struct md_region_uses *uses, struct md_arena *arena,
                   struct md_str name, uint64_t offset, uint64_t bytes, char **data,
                   struct md_error *err) MD_MUST_CHECK;
/* False (INVALID_ARGUMENT) once memory was used that an owner has taken away: then nothing counts
 * that was read or written so far. */
bool md_region_uses_check(const struct md_region_uses *uses, struct md_error *err) MD_MUST_CHECK;
/* Whether this is memory of one of them. */
bool md_region_uses_hold(const struct md_region_uses *uses, const char *data);

#endif
