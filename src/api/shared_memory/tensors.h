/*
 * Tensors in shared memory: the parameters that place a tensor in a region, and the copies that
 * answers need. For all dialects; on the loop of the request.
 */
#ifndef MD_API_SHARED_MEMORY_TENSORS_H
#define MD_API_SHARED_MEMORY_TENSORS_H

#include "api/shared_memory/regions.h"
#include "base/progress.h"
#include "infer/request.h"

/* Where a tensor lies, as its parameters say. Zeroed: nowhere in a region. */
struct md_region_place {
    struct md_str region; /* ptr NULL: none */
    uint64_t offset, bytes;
    bool has_offset, has_bytes;
};

/* Takes a parameter of a tensor if it is one of the three that place it; else *taken is false. */
bool md_region_place_take(struct md_region_place *place, const struct md_parameter *parameter,
                          bool *taken, struct md_error *err) MD_MUST_CHECK;
/* Once all parameters are there: whether they make a place, or none at all. */
bool md_region_place_check(const struct md_region_place *place, struct md_str tensor,
                           struct md_error *err) MD_MUST_CHECK;

/* Whether an output fits its place: of `bytes` bytes; or before the request runs, as far as its
 * size is known (request->rows is set). INTERNAL, as in the field. */
bool md_region_place_fits(const struct md_region_place *place, struct md_str tensor, size_t bytes,
                          struct md_error *err) MD_MUST_CHECK;
bool md_region_place_may_fit(const struct md_region_place *place, struct md_str tensor,
                             const struct md_request *request, struct md_error *err) MD_MUST_CHECK;

/* A copy of a tensor, a slice at a time. The memory may overlap. */
struct md_region_copy {
    char *to;
    const char *from;
    size_t left;
};

enum md_progress md_region_copy_step(struct md_region_copy *copy) MD_MUST_CHECK;

#endif
