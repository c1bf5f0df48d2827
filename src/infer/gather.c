/*
 * Gathering: the inputs of several requests as one, rows one after another.
 *
 * One block from the executor's pool holds it all: descriptions, shapes and names (requests and
 * their memory go one by one as they are finished, the batch stays until the last), then each
 * input's data, aligned to 64 bytes. Every request is told where its own rows lie, so that an
 * output may be a part of them.
 */
#include "infer/device_internal.h"

enum { DATA_ALIGNMENT = 64 };

bool md_gather_has_rows(const struct md_request *request)
{
    for (size_t i = 0; i < request->input_count; i++) {
        const struct md_tensor *input = &request->inputs[i];
        if (input->rank == 0 || input->shape[0] != (int64_t)request->waiter.rows) {
            return false;
        }
    }
    return request->input_count > 0;
}

static bool same_but_rows(const struct md_tensor *a, const struct md_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && md_str_eq(a->name, b->name) &&
           memcmp(a->shape + 1, b->shape + 1, (a->rank - 1) * sizeof *a->shape) == 0;
}

bool md_gather_agrees(const struct md_request *a, const struct md_request *b)
{
    if (a->input_count != b->input_count || !md_gather_has_rows(a) || !md_gather_has_rows(b)) {
        return false;
    }
    for (size_t i = 0; i < a->input_count; i++) {
        if (!same_but_rows(&a->inputs[i], &b->inputs[i])) {
            return false;
        }
    }
    return true;
}

/* --- the last row -------------------- */

/* Where the last row of a tensor begins. Of strings each element is looked at. */
static size_t last_row_at(const struct md_tensor *input)
{
    const size_t rows = (size_t)input->shape[0];
    size_t elements = 1, at = 0;

    if (input->dtype != MD_DTYPE_BYTES) {
        return input->bytes - input->bytes / rows;
    }
    for (uint32_t i = 1; i < input->rank; i++) {
        elements *= (size_t)input->shape[i]; /* checked with the request */
    }
    for (size_t i = 0; i < elements * (rows - 1); i++) {
        uint32_t len;
        memcpy(&len, input->data + at, sizeof len);
        at += sizeof len + len;
    }
    return at;
}

/* --- the block -------------------- */

/* Hands out the parts of the block, or counts them while there is none. */
struct carver {
    char *data;
    size_t at;
    bool overflow;
};

static void *carve(struct carver *carver, size_t bytes, size_t alignment)
{
    size_t begin = md_size_align(carver->at, alignment);

    carver->overflow |= bytes > SIZE_MAX / 2 - begin;
    carver->at = carver->overflow ? begin : begin + bytes;
    return carver->data ? carver->data + begin : NULL;
}

static const char *carve_name(struct carver *carver, struct md_str name)
{
    char *copy = carve(carver, name.len + 1, 1);

    if (copy) {
        memcpy(copy, name.ptr, name.len);
        copy[name.len] = '\0';
    }
    return copy;
}

/* The next request of the run behind the slot of that index; NULL: none. */
static struct md_request *next_of_run(const struct md_instance *instance, uint32_t *at)
{
    while (*at < instance->count) {
        const struct md_slot *slot = &instance->slots[(*at)++];
        if (slot->turn == MD_SLOT_RUNS) {
            return slot->request;
        }
    }
    return NULL;
}

/* Input i of all requests, and the padding. */
static void carve_data(struct carver *carver, const struct md_instance *instance, size_t i,
                       uint32_t padding, struct modeld_tensor *tensor)
{
    const struct md_tensor *last = NULL;
    struct md_request *request;
    size_t begin;

    (void)carve(carver, 0, DATA_ALIGNMENT);
    begin = carver->at;
    for (uint32_t at = 0; (request = next_of_run(instance, &at));) {
        last = &request->inputs[i];
        char *copy = carve(carver, last->bytes, 1);
        if (copy) {
            memcpy(copy, last->data, last->bytes);
            request->gathered[i] = (struct md_tensor){.data = copy, .bytes = last->bytes};
        }
    }
    size_t row_at = padding ? last_row_at(last) : 0;
    for (uint32_t k = 0; k < padding; k++) {
        char *copy = carve(carver, last->bytes - row_at, 1);
        if (copy) {
            memcpy(copy, last->data + row_at, last->bytes - row_at);
        }
    }
    if (tensor) {
        tensor->data = carver->data + begin;
        tensor->bytes = carver->at - begin;
    }
}

/* Whether one before this in the run names the output. */
static bool is_named_before(const struct md_instance *instance, const struct md_request *request,
                            struct md_str name)
{
    const struct md_request *other;
    uint32_t at = 0;

    while ((other = next_of_run(instance, &at)) != request) {
        if (md_request_names_output(other, name)) {
            return true;
        }
    }
    return false;
}

/* The outputs that somebody names, once each; of none where somebody wants all. */
static void carve_outputs(struct carver *carver, struct md_instance *instance)
{
    const struct md_request *request;
    size_t most = 0;
    uint32_t count = 0;

    for (uint32_t at = 0; (request = next_of_run(instance, &at)); most += request->output_count) {
        if (!request->output_count) {
            return;
        }
    }
    const char **names = carve(carver, most * sizeof *names, sizeof(uint64_t));
    for (uint32_t at = 0; (request = next_of_run(instance, &at));) {
        for (size_t i = 0; i < request->output_count; i++) {
            if (is_named_before(instance, request, request->outputs[i])) {
                continue;
            }
            const char *name = carve_name(carver, request->outputs[i]);
            if (names) {
                names[count] = name;
            }
            count++;
        }
    }
    instance->batch.output_count = count;
    instance->batch.output_names = names;
}

/* Everything, in the order in which it lies. */
static void carve_batch(struct carver *carver, struct md_instance *instance, uint32_t padding)
{
    uint32_t at = 0;
    int64_t rows = padding;
    const struct md_request *first = next_of_run(instance, &at);
    struct modeld_tensor *inputs =
        carve(carver, first->input_count * sizeof *inputs, sizeof(uint64_t));

    for (const struct md_request *request = first; request; request = next_of_run(instance, &at)) {
        rows += request->waiter.rows;
        instance->batch.request_count++;
    }
    for (size_t i = 0; i < first->input_count; i++) {
        const struct md_tensor *input = &first->inputs[i];
        int64_t *shape = carve(carver, input->rank * sizeof *shape, sizeof(uint64_t));
        if (shape) {
            memcpy(shape, input->shape, input->rank * sizeof *shape);
            shape[0] = rows;
            inputs[i] = (struct modeld_tensor){
                .dtype = (uint32_t)input->dtype, .rank = input->rank, .shape = shape};
        }
    }
    for (size_t i = 0; i < first->input_count; i++) {
        const char *name = carve_name(carver, first->inputs[i].name);
        if (inputs) {
            inputs[i].name = name;
        }
    }
    carve_outputs(carver, instance);
    for (size_t i = 0; i < first->input_count; i++) {
        carve_data(carver, instance, i, padding, inputs ? &inputs[i] : NULL);
    }
    instance->batch.input_count = (uint32_t)first->input_count;
    instance->batch.inputs = inputs;
}

static void prepare(struct md_instance *instance, uint32_t padding)
{
    instance->batch = (struct modeld_batch){
        .struct_size = sizeof instance->batch,
        .requests = instance->handles,
        .rows = instance->rows,
        .input_stride = sizeof(struct modeld_tensor),
        .padding_rows = padding,
    };
}

static bool make_parts(const struct md_instance *instance)
{
    struct md_request *request;

    for (uint32_t at = 0; (request = next_of_run(instance, &at));) {
        request->gathered =
            md_arena_calloc(request->arena, request->input_count, sizeof *request->gathered);
        if (!request->gathered) {
            return false;
        }
    }
    return true;
}

static void forget_parts(const struct md_instance *instance)
{
    struct md_request *request;

    for (uint32_t at = 0; (request = next_of_run(instance, &at));) {
        request->gathered = NULL;
    }
}

bool md_gather_inputs(struct md_instance *instance, uint32_t padding)
{
    struct carver carver = {.data = NULL};
    struct md_request *request;
    struct md_block *block = NULL;

    prepare(instance, padding);
    carve_batch(&carver, instance, padding);
    if (!carver.overflow && make_parts(instance)) {
        block = md_device_block(instance->target->device, carver.at);
    }
    if (!block) {
        forget_parts(instance);
        return false;
    }
    carver = (struct carver){.data = block->data};
    prepare(instance, padding);
    carve_batch(&carver, instance, padding);
    for (uint32_t at = 0; (request = next_of_run(instance, &at));) {
        request->gather_block = block;
        request->chooses_outputs =
            request->output_count && request->output_count != instance->batch.output_count;
    }
    instance->gathered = block;
    return true;
}

void md_gather_release(struct md_instance *instance)
{
    md_block_unref(instance->gathered);
    instance->gathered = NULL;
}
