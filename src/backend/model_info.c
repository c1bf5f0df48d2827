/*
 * Checks of what a backend says about a model, before anything is read through its pointers.
 */
#include "backend/backends.h"
#include "base/dtype.h"

enum { TENSORS_MAX = 65536, RANK_MAX = 64 };

static bool check_spec(const struct modeld_tensor_spec *spec, const char *what, uint32_t index,
                       struct md_error *err)
{
    if (!spec->name || !*spec->name) {
        return md_error_set(err, MD_REASON_BACKEND, "the model's %s %u has no name", what, index);
    }
    if (md_dtype_size((enum md_dtype)spec->dtype) == 0 && spec->dtype != MODELD_DTYPE_BYTES) {
        return md_error_set(err, MD_REASON_BACKEND, "the model's %s '%s' has the unknown type %u",
                            what, spec->name, spec->dtype);
    }
    if (spec->rank == MODELD_RANK_ANY) {
        return true;
    }
    if (spec->rank > RANK_MAX || (spec->rank && !spec->shape)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "the model's %s '%s' has no shape for its rank %u (at most %d)", what,
                            spec->name, spec->rank, (int)RANK_MAX);
    }
    for (uint32_t i = 0; i < spec->rank; i++) {
        if (spec->shape[i] < -1) {
            return md_error_set(err, MD_REASON_BACKEND,
                                "the model's %s '%s' has the impossible dimension %lld", what,
                                spec->name, (long long)spec->shape[i]);
        }
    }
    return true;
}

static bool check_specs(const struct modeld_tensor_spec *specs, uint32_t count, size_t stride,
                        const char *what, struct md_error *err)
{
    if (count > TENSORS_MAX || (count && (!specs || stride < sizeof *specs))) {
        return md_error_set(err, MD_REASON_BACKEND, "the model has %u %ss without their list",
                            count, what);
    }
    for (uint32_t i = 0; i < count; i++) {
        const char *at = (const char *)specs + i * stride;
        if (!check_spec((const struct modeld_tensor_spec *)(const void *)at, what, i, err)) {
            return false;
        }
    }
    return true;
}

bool md_backend_check_model_info(const struct modeld_model_info *info, struct md_error *err)
{
    if (!info || info->struct_size < offsetof(struct modeld_model_info, may_block)) {
        return md_error_set(err, MD_REASON_BACKEND, "the backend does not describe the model");
    }
    if (info->input_count == UINT32_MAX) { /* it takes what the configuration says */
        return true;
    }
    return check_specs(info->inputs, info->input_count, info->spec_stride, "input", err) &&
           check_specs(info->outputs, info->output_count, info->spec_stride, "output", err);
}
