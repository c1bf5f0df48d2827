/*
 * identity: answers with its inputs, without a copy; of a gathered batch each request with its own
 * rows.
 *
 * Output k of the configuration is its input k, in whatever order a request brings them; what the
 * configuration does not name is called like its input.
 */
#include "backend/builtin.h"

#include "base/alloc.h"
#include "base/str.h"
#include "os/thread.h"

#include <stdio.h>

enum { IDENTITY_TENSORS_MAX = 64, IDENTITY_RANK_MAX = 32, DELAY_MAX_SECONDS = 3600 };

static const struct modeld_host_api *host_api;

struct names {
    size_t count;
    const char *at[IDENTITY_TENSORS_MAX]; /* into text */
    char *text;
};

struct identity_model {
    uint64_t delay_ms;
    struct modeld_model_info info;
    struct names inputs, outputs; /* of the configuration */
};

static void say(struct modeld_text *error, const char *text)
{
    (void)snprintf(error->text, error->capacity, "%s", text);
}

static int32_t identity_create(const struct modeld_backend_args *args, void **backend,
                               struct modeld_text *error)
{
    (void)args;
    (void)error;
    *backend = NULL;
    return MODELD_OK;
}

static void identity_destroy(void *backend)
{
    (void)backend;
}

/* list: separated by commas, or NULL. */
static bool split_names(struct names *names, const char *list)
{
    struct md_str rest, piece;

    names->text = md_strdup(list ? list : "");
    if (!names->text) {
        return false;
    }
    rest = md_str_of(names->text);
    while (rest.len && names->count < IDENTITY_TENSORS_MAX && md_str_split(&rest, ',', &piece)) {
        names->at[names->count++] = piece.ptr;
        ((char *)(uintptr_t)piece.ptr)[piece.len] = '\0';
    }
    return true;
}

static void identity_model_destroy(void *handle)
{
    struct identity_model *model = handle;

    if (model) {
        md_free(model->inputs.text);
        md_free(model->outputs.text);
    }
    md_free(model);
}

/* Both delays are for tests: of waiting requests, and of what happens while a model loads. */
static bool read_number(const struct modeld_model_args *args, const char *key, uint64_t *out,
                        struct modeld_text *error)
{
    for (uint32_t i = 0; i < args->parameter_count; i++) {
        if (md_str_eq_c(md_str_of(args->parameters[i].key), key) &&
            !md_str_to_u64(md_str_of(args->parameters[i].value), out)) {
            (void)snprintf(error->text, error->capacity, "parameter %s must be a natural number",
                           key);
            return false;
        }
    }
    return true;
}

static int32_t identity_model_create(void *backend, const struct modeld_model_args *args,
                                     void **out, struct modeld_text *error)
{
    struct identity_model *model = md_calloc(1, sizeof *model);
    uint64_t creation_seconds = 0, ignored;

    (void)backend;
    if (!read_number(args, "execute_delay_ms", model ? &model->delay_ms : &ignored, error) ||
        !read_number(args, "creation_delay_sec", &creation_seconds, error)) {
        identity_model_destroy(model);
        return MODELD_INVALID_ARGUMENT;
    }
    md_os_sleep_ms((unsigned)md_size_min(creation_seconds, DELAY_MAX_SECONDS) * 1000);
    if (!model || !split_names(&model->inputs, args->input_names) ||
        !split_names(&model->outputs, args->output_names)) {
        identity_model_destroy(model);
        say(error, "out of memory");
        return MODELD_RESOURCE_EXHAUSTED;
    }
    model->info = (struct modeld_model_info){
        .struct_size = sizeof model->info,
        .spec_stride = sizeof(struct modeld_tensor_spec),
        .input_count = UINT32_MAX,
        .output_count = UINT32_MAX,
        .may_block = model->delay_ms > 0,
    };
    *out = model;
    return MODELD_OK;
}

static const struct modeld_model_info *identity_model_info(void *model)
{
    return &((struct identity_model *)model)->info;
}

static int32_t identity_instance_create(void *model, const struct modeld_instance_args *args,
                                        void **instance, struct modeld_text *error)
{
    (void)args;
    (void)error;
    *instance = model;
    return MODELD_OK;
}

static void identity_instance_destroy(void *instance)
{
    (void)instance;
}

static bool is_wanted(const struct modeld_batch *batch, const char *name)
{
    for (uint32_t i = 0; i < batch->output_count; i++) {
        if (strcmp(batch->output_names[i], name) == 0) {
            return true;
        }
    }
    return batch->output_count == 0;
}

static const struct modeld_tensor *input_at(const struct modeld_batch *batch, size_t index)
{
    const char *first = (const char *)batch->inputs;

    return (const struct modeld_tensor *)(const void *)(first + index * batch->input_stride);
}

/* Input k of the configuration, or NULL if the request has none; most requests keep its order. */
static const struct modeld_tensor *find_input(const struct identity_model *model,
                                              const struct modeld_batch *batch, size_t k)
{
    if (model->inputs.count == 0) {
        return input_at(batch, k);
    }
    if (k < batch->input_count && strcmp(input_at(batch, k)->name, model->inputs.at[k]) == 0) {
        return input_at(batch, k);
    }
    for (size_t i = 0; i < batch->input_count; i++) {
        if (strcmp(input_at(batch, i)->name, model->inputs.at[k]) == 0) {
            return input_at(batch, i);
        }
    }
    return NULL;
}

/* --- executing -------------------- */

/* Until the delay is over, or nobody waits any more. */
static void delay(const struct identity_model *model, const struct modeld_batch *batch)
{
    uint32_t wanted = 0; /* the first that is not cancelled */

    for (uint64_t waited = 0; waited < model->delay_ms; waited++) {
        while (wanted < batch->request_count && host_api->is_cancelled(batch->requests[wanted])) {
            wanted++;
        }
        if (wanted == batch->request_count) {
            return;
        }
        md_os_sleep_ms(1);
    }
}

static size_t row_elements(const struct modeld_tensor *input)
{
    size_t elements = 1;

    for (uint32_t i = 1; i < input->rank; i++) {
        elements *= (size_t)input->shape[i];
    }
    return elements;
}

/* Bytes of so many rows that begin there. */
static uint64_t rows_bytes(const struct modeld_tensor *input, const char *data, uint64_t rows)
{
    uint64_t elements = rows * row_elements(input), bytes = 0;

    if (input->dtype != MODELD_DTYPE_BYTES) {
        return input->shape[0] ? input->bytes / (uint64_t)input->shape[0] * rows : 0;
    }
    for (uint64_t i = 0; i < elements; i++) {
        uint32_t len;
        memcpy(&len, data + bytes, sizeof len);
        bytes += sizeof len + len;
    }
    return bytes;
}

/* What one request has of an input: the rows behind those that were handed out. */
static void cut(struct modeld_tensor *part, const struct modeld_tensor *input, uint64_t *handed_out,
                int64_t rows, int64_t shape[])
{
    const char *data = (const char *)input->data + *handed_out;

    memcpy(shape, input->shape, input->rank * sizeof *shape);
    shape[0] = rows;
    part->shape = shape;
    part->data = data;
    part->bytes = rows_bytes(input, data, (uint64_t)rows);
    *handed_out += part->bytes;
}

/* Everything that is wanted, whole; returns how many. */
static uint32_t list_outputs(const struct identity_model *model, const struct modeld_batch *batch,
                             struct modeld_output outputs[])
{
    const size_t count = model->inputs.count ? model->inputs.count : batch->input_count;
    uint32_t listed = 0;

    for (size_t k = 0; k < count; k++) {
        const struct modeld_tensor *input = find_input(model, batch, k);
        if (!input) {
            continue;
        }
        const char *name = k < model->outputs.count ? model->outputs.at[k] : input->name;
        if (is_wanted(batch, name)) {
            struct modeld_output *output = &outputs[listed++];
            *output = (struct modeld_output){.tensor = *input, .memory = MODELD_OUTPUT_INPUT};
            output->tensor.name = name;
        }
    }
    return listed;
}

static void answer(modeld_request request, const struct modeld_output outputs[], uint32_t count)
{
    const struct modeld_response response = {.struct_size = sizeof response,
                                             .output_count = count,
                                             .output_stride = sizeof outputs[0],
                                             .outputs = outputs};
    int32_t code = host_api->respond(request, &response);

    host_api->finish(request, code == MODELD_CANCELLED ? MODELD_CANCELLED : MODELD_OK, NULL,
                     MODELD_FINISH_FINAL);
}

static bool can_be_cut(const struct modeld_batch *batch)
{
    for (uint32_t i = 0; i < batch->input_count; i++) {
        uint32_t rank = input_at(batch, i)->rank;
        if (rank == 0 || rank > IDENTITY_RANK_MAX) {
            return false;
        }
    }
    return true;
}

static void fail_all(const struct modeld_batch *batch, const char *text)
{
    const uint32_t count = batch->request_count;

    for (uint32_t i = 0; i < count; i++) {
        host_api->finish(batch->requests[i], MODELD_INVALID_ARGUMENT, text, MODELD_FINISH_FINAL);
    }
}

/* In their order: what each has of an input begins where the one before ends. */
static void answer_parts(const struct modeld_batch *batch, const struct modeld_output whole[],
                         uint32_t count)
{
    const uint32_t request_count = batch->request_count;
    struct modeld_output parts[IDENTITY_TENSORS_MAX];
    uint64_t handed_out[IDENTITY_TENSORS_MAX] = {0};
    int64_t shapes[IDENTITY_TENSORS_MAX][IDENTITY_RANK_MAX];

    if (!can_be_cut(batch)) {
        fail_all(batch, "identity takes batches of inputs with 1 to 32 dimensions");
        return;
    }
    for (uint32_t i = 0; i < request_count; i++) {
        for (uint32_t k = 0; k < count; k++) {
            parts[k] = whole[k];
            cut(&parts[k].tensor, &whole[k].tensor, &handed_out[k], batch->rows[i], shapes[k]);
        }
        answer(batch->requests[i], parts, count);
    }
}

static void identity_execute(void *instance, const struct modeld_batch *batch)
{
    const struct identity_model *model = instance;
    struct modeld_output outputs[IDENTITY_TENSORS_MAX];

    if (model->delay_ms) {
        delay(model, batch);
    }
    if (batch->input_count > IDENTITY_TENSORS_MAX) {
        fail_all(batch, "identity takes at most 64 inputs");
        return;
    }
    uint32_t count = list_outputs(model, batch, outputs);
    if (batch->request_count == 1 && !batch->padding_rows) {
        answer(batch->requests[0], outputs, count);
    } else {
        answer_parts(batch, outputs, count);
    }
}

static const struct modeld_backend_api identity_api = {
    .struct_size = sizeof identity_api,
    .abi_major = MODELD_ABI_MAJOR,
    .abi_minor = MODELD_ABI_MINOR,
    .name = "identity",
    .version = MODELD_VERSION,
    .flags = MODELD_BACKEND_PARALLEL_LOAD | MODELD_BACKEND_INLINE_SAFE | MODELD_BACKEND_RETRY_SAFE,
    .backend_create = identity_create,
    .backend_destroy = identity_destroy,
    .model_create = identity_model_create,
    .model_info = identity_model_info,
    .model_destroy = identity_model_destroy,
    .instance_create = identity_instance_create,
    .instance_destroy = identity_instance_destroy,
    .execute = identity_execute,
};

const struct modeld_backend_api *md_builtin_identity_entry(const struct modeld_host_api *host)
{
    host_api = host;
    return &identity_api;
}
