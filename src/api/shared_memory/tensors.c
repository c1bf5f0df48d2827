/*
 * Places of tensors, and copies. Sentences are those of the field.
 */
#include "api/shared_memory/tensors.h"

enum { SLICE_BYTES = 1024 * 1024 }; /* about a tenth of a millisecond */

/* --- parameters -------------------- */

static bool take_number(const struct md_parameter *parameter, uint64_t *out, bool *has,
                        struct md_error *err)
{
    if (parameter->kind != MD_PARAMETER_INT || parameter->value.integer < 0) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse '%.*s': it must be a natural number",
                            MD_STR_ARG(parameter->name));
    }
    *out = (uint64_t)parameter->value.integer;
    *has = true;
    return true;
}

bool md_region_place_take(struct md_region_place *place, const struct md_parameter *parameter,
                          bool *taken, struct md_error *err)
{
    *taken = true;
    if (md_str_eq(parameter->name, MD_STR("shared_memory_region"))) {
        place->region = parameter->value.string;
        return (parameter->kind == MD_PARAMETER_STRING && place->region.len) ||
               md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse 'shared_memory_region': it must be the name of a "
                            "region");
    }
    if (md_str_eq(parameter->name, MD_STR("shared_memory_offset"))) {
        return take_number(parameter, &place->offset, &place->has_offset, err);
    }
    if (md_str_eq(parameter->name, MD_STR("shared_memory_byte_size"))) {
        return take_number(parameter, &place->bytes, &place->has_bytes, err);
    }
    *taken = false;
    return true;
}

bool md_region_place_check(const struct md_region_place *place, struct md_str tensor,
                           struct md_error *err)
{
    if (place->region.ptr) {
        return place->has_bytes ||
               md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "'shared_memory_byte_size' must be specified along with "
                            "'shared_memory_region' parameter for tensor '%.*s'",
                            MD_STR_ARG(tensor));
    }
    return (!place->has_offset && !place->has_bytes) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "'%s' can not be specified without 'shared_memory_region' parameter for "
                        "tensor '%.*s'",
                        place->has_offset ? "shared_memory_offset" : "shared_memory_byte_size",
                        MD_STR_ARG(tensor));
}

/* --- sizes -------------------- */

bool md_region_place_fits(const struct md_region_place *place, struct md_str tensor, size_t bytes,
                          struct md_error *err)
{
    return bytes <= place->bytes ||
           md_error_set_code(err, MD_REASON_INVALID_ARGUMENT, MD_CODE_INTERNAL,
                             "shared memory size specified with the request for output '%.*s' "
                             "(%llu bytes) should be at least %zu bytes to hold the results",
                             MD_STR_ARG(tensor), (unsigned long long)place->bytes, bytes);
}

bool md_region_place_may_fit(const struct md_region_place *place, struct md_str tensor,
                             const struct md_request *request, struct md_error *err)
{
    const struct md_target *target = request->target;
    const struct md_tensor_spec *spec = md_target_find_output(target, tensor);
    size_t bytes = spec ? md_dtype_size(spec->dtype) : 0;

    if (!bytes || spec->rank == MD_RANK_ANY) {
        return true;
    }
    for (uint32_t i = 0; i < spec->rank; i++) {
        const bool is_batch = i == 0 && target->max_batch_size > 0;
        const int64_t dimension = is_batch ? request->rows : spec->shape[i];
        if (dimension < 0 || !md_size_mul(bytes, (size_t)dimension, &bytes)) {
            return true;
        }
    }
    return md_region_place_fits(place, tensor, bytes, err);
}

/* --- copies -------------------- */

enum md_progress md_region_copy_step(struct md_region_copy *copy)
{
    const uintptr_t to = (uintptr_t)copy->to, from = (uintptr_t)copy->from;
    const bool overlaps = to < from + copy->left && from < to + copy->left;
    const size_t bytes = overlaps ? copy->left : md_size_min(copy->left, SLICE_BYTES);

    if (bytes && to != from) {
        memmove(copy->to, copy->from, bytes);
    }
    copy->to += bytes;
    copy->from += bytes;
    copy->left -= bytes;
    return copy->left ? MD_PROGRESS_AGAIN : MD_PROGRESS_DONE;
}
