/*
 * Taking over a response: what the backend describes is checked before anything is read, and its
 * memory is taken or released whatever is wrong.
 */
#include "infer/response.h"

#include "infer/device.h"

enum {
    SMALL_OUTPUT_BYTES = 1024,
    COUNTED_FROM = 4096,
    OUTPUTS_MAX = 4096, /* of a response, where the target does not have more */
    RANK_MAX = 64,
};

static const struct modeld_output *output_at(const struct modeld_response *response, uint32_t i)
{
    const char *base = (const char *)response->outputs;

    return (const struct modeld_output *)(const void *)(base + (size_t)i * response->output_stride);
}

/* Gives back what a response would have handed over. */
static void release_output(const struct modeld_output *output)
{
    if (output->memory == MODELD_OUTPUT_BUFFER) {
        md_block_unref((struct md_block *)(uintptr_t)output->buffer);
    } else if (output->memory == MODELD_OUTPUT_OWN && output->release) {
        output->release(output->release_arg);
    }
}

/* Whether the list of outputs can be walked at all. */
static bool check_list(const struct md_target *target, const struct modeld_response *response,
                       struct md_error *err)
{
    const char *model = target->model_name.ptr;

    if (!response || response->struct_size < sizeof *response) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave a response without size",
                            model);
    }
    if (response->output_count > md_size_max(OUTPUTS_MAX, target->output_count)) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave a response of %u outputs",
                            model, response->output_count);
    }
    if (response->output_count &&
        (!response->outputs || response->output_stride < sizeof *response->outputs)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s' gave a response of %u outputs without the list of them",
                            model, response->output_count);
    }
    return true;
}

void md_response_release(const struct modeld_response *response)
{
    static const struct md_target nobody = {.model_name = {"", 0}};
    struct md_error ignored;

    for (uint32_t i = 0; check_list(&nobody, response, &ignored) && i < response->output_count;
         i++) {
        release_output(output_at(response, i));
    }
}

/* Whether an output is described, and is the target's. */
static bool check_description(const struct md_target *target, const struct modeld_tensor *tensor,
                              struct md_error *err)
{
    const char *model = target->model_name.ptr;

    if (!tensor->name) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave an output without a name",
                            model);
    }
    if (tensor->rank > RANK_MAX || (tensor->rank && !tensor->shape) ||
        (tensor->bytes && !tensor->data)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' of rank %u lacks its shape or its data", model,
                            tensor->name, tensor->rank);
    }
    const struct md_tensor_spec *spec = md_target_find_output(target, md_str_of(tensor->name));
    if (target->output_count && !spec) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s' gave an output '%s', which it does not have", model,
                            tensor->name);
    }
    if (spec && (uint32_t)spec->dtype != tensor->dtype) {
        return md_error_set(
            err, MD_REASON_BACKEND, "model '%s': output '%s' has type %s, expected %s", model,
            tensor->name, md_dtype_name((enum md_dtype)tensor->dtype), md_dtype_name(spec->dtype));
    }
    return true;
}

static bool inside(const struct md_tensor *inputs, size_t count, const struct modeld_tensor *tensor)
{
    const char *data = tensor->data;

    for (size_t i = 0; i < count; i++) {
        const struct md_tensor *input = &inputs[i];
        if (data >= input->data && tensor->bytes <= input->bytes &&
            (size_t)(data - input->data) <= input->bytes - tensor->bytes) {
            return true;
        }
    }
    return false;
}

static void release_block(void *arg)
{
    md_block_unref(arg);
}

/* An output that is a part of an input: of the request's own, or of its part of the gathered ones,
 * whose block it keeps. */
static bool take_part_of_input(const struct md_request *request, struct md_arena *arena,
                               const struct modeld_tensor *tensor, struct md_error *err)
{
    if (tensor->bytes == 0 || inside(request->inputs, request->input_count, tensor)) {
        return true;
    }
    if (!request->gathered || !inside(request->gathered, request->input_count, tensor)) {
        return md_error_set(err, MD_REASON_BACKEND, "output '%s' does not lie inside an input",
                            tensor->name);
    }
    md_block_ref(request->gather_block);
    if (!md_arena_on_reset(arena, release_block, request->gather_block)) {
        md_block_unref(request->gather_block);
        return md_error_no_memory(err, "an output");
    }
    return true;
}

static bool too_many_bytes(size_t bytes, struct md_error *err)
{
    return md_error_set(err, MD_REASON_INFLIGHT_BYTES,
                        "too many bytes are in flight for an output of %zu: try again", bytes);
}

/* Small ones live in the arena, large ones are counted. */
static bool copy_output(struct md_request *request, struct md_arena *arena,
                        struct md_tensor *tensor, struct md_error *err)
{
    char *copy;

    if (tensor->bytes <= SMALL_OUTPUT_BYTES) {
        copy = md_arena_alloc(arena, tensor->bytes);
        if (!copy) {
            return md_error_no_memory(err, "an output");
        }
    } else {
        struct md_block *block = md_device_block(request->target->device, tensor->bytes);
        if (!block || !md_arena_on_reset(arena, release_block, block)) {
            md_block_unref(block);
            return too_many_bytes(tensor->bytes, err);
        }
        copy = block->data;
    }
    if (tensor->bytes) {
        memcpy(copy, tensor->data, tensor->bytes);
    }
    tensor->data = copy;
    return true;
}

/* Memory of an output that is no block, counted against the bound on bytes in flight until the
 * answer has gone out. */
struct counted {
    struct md_budget *budget;
    size_t bytes;
};

static void uncount(void *arg)
{
    const struct counted *counted = arg;

    md_budget_give(counted->budget, counted->bytes);
}

static bool count_output(struct md_request *request, struct md_arena *arena, size_t bytes,
                         struct md_error *err)
{
    if (bytes < COUNTED_FROM) {
        return true;
    }
    struct counted *counted = md_arena_alloc(arena, sizeof *counted);
    if (!counted) {
        return md_error_no_memory(err, "an output");
    }
    *counted = (struct counted){md_device_budget(request->target->device), bytes};
    if (!md_budget_take(counted->budget, bytes)) {
        return too_many_bytes(bytes, err);
    }
    if (!md_arena_on_reset(arena, uncount, counted)) {
        uncount(counted);
        return md_error_no_memory(err, "an output");
    }
    return true;
}

static bool take_output_memory(struct md_request *request, struct md_arena *arena,
                               const struct modeld_output *output, struct md_tensor *tensor,
                               struct md_error *err)
{
    struct md_block *block = (struct md_block *)(uintptr_t)output->buffer;

    tensor->data = output->tensor.data;
    switch (output->memory) {
    case MODELD_OUTPUT_INPUT:
        return take_part_of_input(request, arena, &output->tensor, err);
    case MODELD_OUTPUT_BUFFER:
        if (!block || tensor->data < block->data || tensor->bytes > block->capacity ||
            (size_t)(tensor->data - block->data) > block->capacity - tensor->bytes) {
            md_block_unref(block);
            return md_error_set(err, MD_REASON_BACKEND,
                                "output '%s' does not lie inside its buffer", output->tensor.name);
        }
        if (!md_arena_on_reset(arena, release_block, block)) {
            md_block_unref(block);
            return md_error_no_memory(err, "an output");
        }
        return true;
    case MODELD_OUTPUT_OWN:
        if (output->release && !md_arena_on_reset(arena, output->release, output->release_arg)) {
            output->release(output->release_arg);
            return md_error_no_memory(err, "an output");
        }
        return count_output(request, arena, output->tensor.bytes, err);
    case MODELD_OUTPUT_COPY:
        return copy_output(request, arena, tensor, err);
    default:
        return md_error_set(err, MD_REASON_BACKEND, "output '%s' has the unknown memory kind %u",
                            output->tensor.name, output->memory);
    }
}

static bool check_output(const struct md_request *request, const struct md_tensor *tensor,
                         struct md_error *err)
{
    size_t elements, bytes;

    if (!md_shape_elements(tensor->shape, tensor->rank, &elements)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' has an impossible shape",
                            request->target->model_name.ptr, tensor->name.ptr);
    }
    if (tensor->dtype == MD_DTYPE_BYTES) {
        return md_bytes_tensor_check(tensor->data, tensor->bytes, elements) ||
               md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' is not %zu length-prefixed elements",
                            request->target->model_name.ptr, tensor->name.ptr, elements);
    }
    if (md_dtype_size(tensor->dtype) == 0 ||
        !md_size_mul(elements, md_dtype_size(tensor->dtype), &bytes) || bytes != tensor->bytes) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' has %zu bytes, its shape and type %s say %zu",
                            request->target->model_name.ptr, tensor->name.ptr, tensor->bytes,
                            md_dtype_name(tensor->dtype), elements * md_dtype_size(tensor->dtype));
    }
    return true;
}

static bool take_output(struct md_request *request, struct md_arena *arena,
                        const struct modeld_output *output, struct md_tensor *tensor,
                        struct md_error *err)
{
    const struct modeld_tensor *from = &output->tensor;

    if (!check_description(request->target, from, err)) {
        release_output(output);
        return false;
    }
    int64_t *shape = md_arena_alloc(arena, from->rank * sizeof *shape);
    tensor->name = md_arena_copy(arena, md_str_of(from->name));
    tensor->dtype = (enum md_dtype)from->dtype;
    tensor->rank = from->rank;
    tensor->bytes = from->bytes;
    if (!take_output_memory(request, arena, output, tensor, err)) {
        return false;
    }
    if (!shape || !tensor->name.ptr) {
        return md_error_no_memory(err, "an output");
    }
    if (from->rank) {
        memcpy(shape, from->shape, from->rank * sizeof *shape);
    }
    tensor->shape = shape;
    return check_output(request, tensor, err);
}

bool md_response_take(struct md_request *request, struct md_arena *arena,
                      const struct modeld_response *response, struct md_response *out,
                      struct md_error *err)
{
    struct md_error ignored;
    bool ok = true;

    if (!check_list(request->target, response, err)) {
        return false;
    }
    out->outputs = md_arena_calloc(arena, response->output_count, sizeof *out->outputs);
    out->output_count = 0;
    if (!out->outputs) {
        ok = md_error_no_memory(err, "a response");
    }
    for (uint32_t i = 0; i < response->output_count; i++) {
        const struct modeld_output *output = output_at(response, i);
        struct md_tensor scratch;
        if (request->chooses_outputs && output->tensor.name &&
            !md_request_names_output(request, md_str_of(output->tensor.name))) {
            release_output(output);
            continue;
        }
        struct md_tensor *tensor = out->outputs ? &out->outputs[out->output_count++] : &scratch;
        if (!take_output(request, arena, output, tensor, ok ? err : &ignored)) {
            ok = false;
        }
    }
    return ok;
}
