/*
 * Tensors in shared memory.
 */
#include "api/oip/placing.h"

bool md_oip_place_input(struct md_oip_inference *inference, const struct md_region_place *region,
                        struct md_tensor *input, struct md_error *err)
{
    char *data;

    if (!md_region_place_check(region, input->name, err) ||
        !md_region_use(inference->oip->regions, &inference->regions, inference->arena,
                       region->region, region->offset, region->bytes, &data, err)) {
        return false;
    }
    if (input->dtype == MD_DTYPE_BYTES) {
        char *copy = md_oip_inference_memory(inference, region->bytes, err);
        if (!copy) {
            return false;
        }
        memcpy(copy, data, region->bytes);
        data = copy;
    }
    input->data = data;
    input->bytes = region->bytes;
    return md_region_uses_check(&inference->regions, err);
}

bool md_oip_place_output(struct md_oip_inference *inference, struct md_oip_output *output,
                         struct md_error *err)
{
    const struct md_region_place *region = &output->region;

    if (!md_region_place_check(region, output->name, err)) {
        return false;
    }
    if (!region->region.ptr) {
        return true;
    }
    if (output->binary || output->class_count) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Output can't set both 'shared_memory_region' and '%s'",
                            output->class_count ? "classification" : "binary_data");
    }
    return md_region_use(inference->oip->regions, &inference->regions, inference->arena,
                         region->region, region->offset, region->bytes, &output->memory, err);
}

bool md_oip_is_placed(const struct md_oip_inference *inference, struct md_str output)
{
    const struct md_oip_output *wanted =
        inference->regions.first ? md_oip_inference_output(inference, output) : NULL;

    return wanted && wanted->memory;
}

const struct md_error *md_oip_placing_blame(struct md_oip_inference *inference,
                                            const struct md_error *error)
{
    struct md_error *own = &inference->request.error;

    return error && !md_region_uses_check(&inference->regions, own) ? own : error;
}

bool md_oip_placing_may_fit(const struct md_oip_inference *inference, struct md_error *err)
{
    for (size_t i = 0; inference->regions.first && i < inference->output_count; i++) {
        const struct md_oip_output *output = &inference->outputs[i];
        if (output->memory &&
            !md_region_place_may_fit(&output->region, output->name, &inference->request, err)) {
            return false;
        }
    }
    return true;
}

enum md_progress md_oip_place_result(struct md_oip_inference *inference, struct md_tensor *output,
                                     bool sent, struct md_region_copy *copy, struct md_error *err)
{
    if (!inference->regions.first) {
        return MD_PROGRESS_DONE;
    }
    if (!copy->to) {
        const struct md_oip_output *wanted = md_oip_inference_output(inference, output->name);
        char *to = wanted ? wanted->memory : NULL;
        if (to && !md_region_place_fits(&wanted->region, output->name, output->bytes, err)) {
            return MD_PROGRESS_ERROR;
        }
        if (!to && !(sent && md_region_uses_hold(&inference->regions, output->data))) {
            return MD_PROGRESS_DONE;
        }
        if (!to) {
            to = md_oip_inference_memory(inference, output->bytes, err);
        }
        if (!to) {
            return MD_PROGRESS_ERROR;
        }
        *copy = (struct md_region_copy){to, output->data, output->bytes};
        output->data = to;
    }
    if (md_region_copy_step(copy) == MD_PROGRESS_AGAIN) {
        return MD_PROGRESS_AGAIN;
    }
    *copy = (struct md_region_copy){0};
    return MD_PROGRESS_DONE;
}
