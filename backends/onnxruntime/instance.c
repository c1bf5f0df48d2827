/*
 * Running a batch.
 *
 * 1. Inputs are values over the bytes where they landed. 2. The engine allocates the outputs: a
 * model may declare a shape that it does not keep, so an output cannot be allocated for it
 * beforehand (measured: 1.5 us for a run and its output, 1.1 us into memory that is there). 3. The
 * host writes the engine's own memory to the socket and releases it when that is done. Every
 * request of a batch holds one reference to each output; strings are no bytes on the wire, so they
 * are written into the host's memory instead.
 *
 * Cancelling. The terminate flag of the run options is set only under the lock while `running` is a
 * batch, and taken back under the lock when the run has ended: it can never hit the next batch. A
 * request that was cancelled before `running` was set is seen by asking the host after that.
 */
#include "instance.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tensor.h"

enum { RANK_MAX = 32, ERROR_BYTES = 1024 };

/* One output of a run. */
struct product {
    OrtValue *value; /* own until its references are handed to the requests; strings: own */
    const char *name;
    const unsigned char *data;
    void (*release)(void *arg); /* drops one reference; NULL for strings */
    void *release_arg;
    uint64_t row_elements; /* elements for each row; all of them where the batch is one request */
    uint64_t row_bytes;    /* their bytes; 0 for strings */
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[RANK_MAX];
};

/* A value that several requests read. */
struct share {
    OrtValue *value; /* own */
    atomic_uint holders;
};

struct md_ort_instance {
    /* constant */
    const struct md_ort_model *model; /* borrow */
    OrtRunOptions *run_options;       /* own */
    uint32_t input_max;
    uint32_t output_max;
    const char **all_outputs; /* own array of the model's names */

    /* one batch's, whoever executes */
    const char **input_names;
    OrtValue **inputs;
    void **copies; /* of unaligned inputs */
    OrtValue **outputs;
    struct product *products;
    struct modeld_output *response;

    /* shared with cancel */
    pthread_mutex_t lock; /* guards the rest; held for no longer than setting a flag takes */
    const struct modeld_batch *running;
    bool terminated;
};

static void release_value(void *arg)
{
    md_ort.api->ReleaseValue(arg);
}

static void release_share(void *arg)
{
    struct share *share = arg;
    /* Release: what a holder read must not move behind its decrement. Acquire: the last one frees
     * after all others. */
    if (atomic_fetch_sub_explicit(&share->holders, 1, memory_order_acq_rel) == 1) {
        md_ort.api->ReleaseValue(share->value);
        free(share);
    }
}

int32_t md_ort_instance_create(const struct md_ort_model *model, struct md_ort_instance **instance,
                               struct modeld_text *error)
{
    *instance = NULL;
    struct md_ort_instance *created = calloc(1, sizeof *created);
    if (!created) {
        return md_ort_no_memory(error);
    }
    pthread_mutex_init(&created->lock, NULL);
    created->model = model;
    created->input_max = model->info.input_count;
    created->output_max = model->info.output_count;
    /* One more than needed: a model without inputs is a model. */
    created->input_names = calloc(created->input_max + 1, sizeof *created->input_names);
    created->inputs = calloc(created->input_max + 1, sizeof *created->inputs);
    created->copies = calloc(created->input_max + 1, sizeof *created->copies);
    created->all_outputs = calloc(created->output_max + 1, sizeof *created->all_outputs);
    created->outputs = calloc(created->output_max + 1, sizeof *created->outputs);
    created->products = calloc(created->output_max + 1, sizeof *created->products);
    created->response = calloc(created->output_max + 1, sizeof *created->response);
    int32_t code = MODELD_OK;
    if (!created->input_names || !created->inputs || !created->copies || !created->all_outputs ||
        !created->outputs || !created->products || !created->response) {
        code = md_ort_no_memory(error);
    }
    for (uint32_t i = 0; !code && i < created->output_max; i++) {
        created->all_outputs[i] = model->info.outputs[i].name;
    }
    if (!code) {
        code =
            md_ort_check(md_ort.api->CreateRunOptions(&created->run_options), error, "run options");
    }
    if (!code) {
        /* A run's failure is its request's answer; the engine need not log it as well. */
        code = md_ort_check(md_ort.api->RunOptionsSetRunLogSeverityLevel(created->run_options,
                                                                         ORT_LOGGING_LEVEL_FATAL),
                            error, "run options");
    }
    if (!code && model->arena_shrinkage) {
        code = md_ort_check(md_ort.api->AddRunConfigEntry(created->run_options,
                                                          "memory.enable_memory_arena_shrinkage",
                                                          model->arena_shrinkage),
                            error, "parameter memory.enable_memory_arena_shrinkage");
    }
    if (code) {
        md_ort_instance_destroy(created);
        return code;
    }
    *instance = created;
    return MODELD_OK;
}

void md_ort_instance_destroy(struct md_ort_instance *instance)
{
    if (instance->run_options) {
        md_ort.api->ReleaseRunOptions(instance->run_options);
    }
    free(instance->input_names);
    free(instance->inputs);
    free(instance->copies);
    free(instance->all_outputs);
    free(instance->outputs);
    free(instance->products);
    free(instance->response);
    pthread_mutex_destroy(&instance->lock);
    free(instance);
}

static bool is_wanted(const struct modeld_batch *batch, modeld_request except)
{
    for (uint32_t i = 0; i < batch->request_count; i++) {
        if (batch->requests[i] != except && !md_ort_host->is_cancelled(batch->requests[i])) {
            return true;
        }
    }
    return false;
}

void md_ort_instance_cancel(struct md_ort_instance *instance, modeld_request request)
{
    pthread_mutex_lock(&instance->lock);
    const struct modeld_batch *batch = instance->running;
    bool is_member = false;
    for (uint32_t i = 0; batch && i < batch->request_count; i++) {
        is_member |= batch->requests[i] == request;
    }
    if (is_member && !instance->terminated && !is_wanted(batch, request)) {
        OrtStatus *status = md_ort.api->RunOptionsSetTerminate(instance->run_options);
        instance->terminated = true;
        if (status) {
            md_ort.api->ReleaseStatus(status); /* then the run goes on to its end */
        }
    }
    pthread_mutex_unlock(&instance->lock);
}

/* Which of the model's inputs this is; most clients keep the model's order. input_max when it has
 * none of that name. */
static uint32_t find_input(const struct md_ort_instance *instance, const char *name, uint32_t guess)
{
    const struct modeld_tensor_spec *specs = instance->model->info.inputs;
    if (guess < instance->input_max && !strcmp(specs[guess].name, name)) {
        return guess;
    }
    uint32_t i = 0;
    while (i < instance->input_max && strcmp(specs[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* The engine would say it too, but in the words of the node that misses it. */
static int32_t fail_missing_input(const struct md_ort_instance *instance, uint32_t count,
                                  struct modeld_text *error)
{
    for (uint32_t i = 0; i < instance->input_max; i++) {
        const struct modeld_tensor_spec *spec = &instance->model->info.inputs[i];
        bool sent = false;
        for (uint32_t k = 0; k < count; k++) {
            sent |= !strcmp(instance->input_names[k], spec->name);
        }
        if (!sent && !spec->optional) {
            return md_ort_fail(error, MODELD_INVALID_ARGUMENT, "input '%s' is missing", spec->name);
        }
    }
    return md_ort_fail(error, MODELD_INVALID_ARGUMENT, "an input was sent twice");
}

static int32_t bind_inputs(struct md_ort_instance *instance, const struct modeld_batch *batch,
                           struct modeld_text *error)
{
    uint32_t required = 0;
    if (batch->input_count > instance->input_max) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT, "%u inputs were sent, the model has %u",
                           batch->input_count, instance->input_max);
    }
    for (uint32_t i = 0; i < batch->input_count; i++) {
        const struct modeld_tensor *tensor =
            (const struct modeld_tensor *)((const char *)batch->inputs +
                                           (size_t)batch->input_stride * i);
        uint32_t index = find_input(instance, tensor->name, i);
        if (index == instance->input_max) {
            return md_ort_fail(error, MODELD_INVALID_ARGUMENT, "the model has no input '%s'",
                               tensor->name);
        }
        const struct modeld_tensor_spec *spec = &instance->model->info.inputs[index];
        required += !spec->optional;
        instance->input_names[i] = spec->name;
        int32_t code =
            md_ort_value_create(tensor, &instance->inputs[i], &instance->copies[i], error);
        if (code) {
            return code;
        }
    }
    if (required != instance->model->required_count) {
        return fail_missing_input(instance, batch->input_count, error);
    }
    return MODELD_OK;
}

static void unbind_inputs(struct md_ort_instance *instance)
{
    for (uint32_t i = 0; i < instance->input_max; i++) {
        if (instance->inputs[i]) {
            md_ort.api->ReleaseValue(instance->inputs[i]);
            instance->inputs[i] = NULL;
        }
        free(instance->copies[i]);
        instance->copies[i] = NULL;
    }
}

static int32_t run(struct md_ort_instance *instance, const struct modeld_batch *batch,
                   uint32_t output_count, const char *const *output_names,
                   struct modeld_text *error)
{
    static const char cancelled[] = "the request was cancelled";
    pthread_mutex_lock(&instance->lock);
    instance->running = batch;
    pthread_mutex_unlock(&instance->lock);

    bool wanted = is_wanted(batch, 0);
    OrtStatus *status = NULL;
    if (wanted) {
        status = md_ort.api->Run(instance->model->session, instance->run_options,
                                 instance->input_names, (const OrtValue *const *)instance->inputs,
                                 batch->input_count, output_names, output_count, instance->outputs);
    }

    pthread_mutex_lock(&instance->lock);
    instance->running = NULL;
    bool terminated = instance->terminated;
    OrtStatus *reset =
        terminated ? md_ort.api->RunOptionsUnsetTerminate(instance->run_options) : NULL;
    instance->terminated = false;
    pthread_mutex_unlock(&instance->lock);

    int32_t code = md_ort_check(reset, error, "run options");
    if (status && terminated) {
        md_ort.api->ReleaseStatus(status);
        return md_ort_fail(error, MODELD_CANCELLED, cancelled);
    }
    int32_t run_code = md_ort_check(status, error, "ONNX Runtime");
    if (!wanted) {
        return md_ort_fail(error, MODELD_CANCELLED, cancelled);
    }
    return run_code ? run_code : code;
}

/* Fills in what the engine says about an output. rows is the batch's, or -1 where dimension 0 has
 * no meaning. */
static int32_t inspect(struct product *product, int64_t rows, struct modeld_text *error)
{
    const OrtApi *api = md_ort.api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t rank = 0;
    size_t count = 0;
    int32_t code = md_ort_check(api->GetTensorTypeAndShape(product->value, &info), error,
                                "output '%s'", product->name);
    if (code) {
        return code;
    }
    code =
        md_ort_check(api->GetTensorElementType(info, &type), error, "output '%s'", product->name);
    if (!code) {
        code =
            md_ort_check(api->GetDimensionsCount(info, &rank), error, "output '%s'", product->name);
    }
    if (!code) {
        code = md_ort_check(api->GetTensorShapeElementCount(info, &count), error, "output '%s'",
                            product->name);
    }
    if (!code && rank > RANK_MAX) {
        code = md_ort_fail(error, MODELD_UNIMPLEMENTED,
                           "output '%s' has %zu dimensions, at most %d can be sent", product->name,
                           rank, (int)RANK_MAX);
    }
    if (!code) {
        code = md_ort_check(api->GetDimensions(info, product->shape, rank), error, "output '%s'",
                            product->name);
    }
    api->ReleaseTensorTypeAndShapeInfo(info);
    if (code) {
        return code;
    }
    product->dtype = md_ort_dtype_from(type);
    product->rank = (uint32_t)rank;
    if (rows >= 0 && (rank == 0 || product->shape[0] != rows)) {
        return md_ort_fail(
            error, MODELD_INTERNAL,
            "dimension 0 of output '%s' is %lld, expected the batch's %lld rows: the model does not keep "
            "its batch dimension, set max_batch_size to 0",
            product->name, rank ? (long long)product->shape[0] : -1, (long long)rows);
    }
    product->row_elements = rows > 0 ? count / (uint64_t)rows : count;
    product->row_bytes = product->row_elements * md_ort_dtype_bytes(product->dtype);
    if (product->dtype == MODELD_DTYPE_BYTES) {
        return MODELD_OK;
    }
    void *data = NULL;
    code = md_ort_check(api->GetTensorMutableData(product->value, &data), error, "output '%s'",
                        product->name);
    product->data = data;
    return code;
}

/* Makes one reference for each request out of the value that the engine gave. */
static int32_t share_product(struct product *product, uint32_t request_count,
                             struct modeld_text *error)
{
    if (product->dtype == MODELD_DTYPE_BYTES) {
        return MODELD_OK;
    }
    if (request_count == 1) {
        product->release = release_value;
        product->release_arg = product->value;
    } else {
        struct share *share = malloc(sizeof *share);
        if (!share) {
            return md_ort_no_memory(error);
        }
        share->value = product->value;
        atomic_init(&share->holders, request_count);
        product->release = release_share;
        product->release_arg = share;
    }
    product->value = NULL;
    return MODELD_OK;
}

static int32_t collect(struct md_ort_instance *instance, uint32_t request_count, int64_t rows,
                       uint32_t output_count, const char *const *output_names,
                       struct modeld_text *error)
{
    int32_t code = MODELD_OK;
    for (uint32_t i = 0; i < output_count; i++) {
        struct product *product = &instance->products[i];
        product->value = instance->outputs[i];
        product->name = output_names[i];
        product->release = NULL;
        product->data = NULL;
        instance->outputs[i] = NULL;
        if (!code) {
            code = inspect(product, rows, error);
        }
    }
    for (uint32_t i = 0; !code && i < output_count; i++) {
        code = share_product(&instance->products[i], request_count, error);
    }
    return code;
}

/* Drops the values that were not shared (strings; everything after an error), and references that
 * no request took. */
static void discard(struct md_ort_instance *instance, uint32_t output_count, uint32_t references)
{
    for (uint32_t i = 0; i < output_count; i++) {
        struct product *product = &instance->products[i];
        for (uint32_t k = 0; product->release && k < references; k++) {
            product->release(product->release_arg);
        }
        if (product->value) {
            md_ort.api->ReleaseValue(product->value);
            product->value = NULL;
        }
    }
}

static int32_t fill_strings(const struct product *product, modeld_request request, uint64_t first,
                            uint64_t count, struct modeld_output *output, struct modeld_text *error)
{
    uint64_t bytes;
    void *data = NULL;
    int32_t code = md_ort_strings_measure(product->value, first, count, &bytes, error);
    if (code) {
        return code;
    }
    output->buffer = md_ort_host->buffer_create(request, bytes, &data);
    if (!output->buffer) {
        return md_ort_fail(error, MODELD_UNAVAILABLE, "no memory for the %llu bytes of output '%s'",
                           (unsigned long long)bytes, product->name);
    }
    output->memory = MODELD_OUTPUT_BUFFER;
    output->tensor.data = data;
    output->tensor.bytes = bytes;
    return md_ort_strings_write(product->value, first, count, data, error);
}

/* One request's part of the outputs. shapes are the products' own, with the request's rows put into
 * dimension 0. */
static int32_t build_response(struct md_ort_instance *instance, uint32_t output_count,
                              modeld_request request, int64_t first_row, int64_t rows,
                              struct modeld_text *error)
{
    for (uint32_t i = 0; i < output_count; i++) {
        struct product *product = &instance->products[i];
        uint64_t part = rows < 0 ? 1 : (uint64_t)rows;
        uint64_t skip = (uint64_t)first_row;
        if (rows >= 0) {
            product->shape[0] = rows;
        }
        instance->response[i] = (struct modeld_output){
            .tensor = {.name = product->name,
                       .dtype = product->dtype,
                       .rank = product->rank,
                       .shape = product->shape,
                       .data = product->data ? product->data + skip * product->row_bytes : NULL,
                       .bytes = part * product->row_bytes},
            .memory = MODELD_OUTPUT_OWN,
            .release = product->release,
            .release_arg = product->release_arg,
        };
    }
    int32_t code = MODELD_OK;
    for (uint32_t i = 0; !code && i < output_count; i++) {
        const struct product *product = &instance->products[i];
        if (product->dtype == MODELD_DTYPE_BYTES) {
            uint64_t part = rows < 0 ? 1 : (uint64_t)rows;
            code = fill_strings(product, request, (uint64_t)first_row * product->row_elements,
                                part * product->row_elements, &instance->response[i], error);
        }
    }
    return code;
}

/* Gives back what a response that was not sent holds. */
static void drop_response(struct md_ort_instance *instance, uint32_t output_count)
{
    for (uint32_t i = 0; i < output_count; i++) {
        struct modeld_output *output = &instance->response[i];
        if (output->buffer) {
            md_ort_host->buffer_destroy(output->buffer);
        } else if (output->release) {
            output->release(output->release_arg);
        }
    }
}

static void answer(struct md_ort_instance *instance, uint32_t output_count, modeld_request request,
                   int64_t first_row, int64_t rows)
{
    char text[ERROR_BYTES] = "";
    struct modeld_text error = {text, sizeof text};
    int32_t code = build_response(instance, output_count, request, first_row, rows, &error);
    if (code) {
        drop_response(instance, output_count);
    } else {
        const struct modeld_response response = {
            .struct_size = sizeof response,
            .output_count = output_count,
            .output_stride = sizeof *instance->response,
            .outputs = instance->response,
        };
        code = md_ort_host->respond(request, &response);
    }
    md_ort_host->finish(request, code, *text ? text : NULL, MODELD_FINISH_FINAL);
}

/* Dimension 0 of inputs and outputs counts the batch's rows. */
static bool splits(const struct md_ort_instance *instance, const struct modeld_batch *batch)
{
    return instance->model->has_batch_dimension || batch->request_count > 1 ||
           batch->padding_rows > 0;
}

/* Inputs, run, outputs. On success the products hold output_count outputs with a reference for each
 * request. */
static int32_t produce(struct md_ort_instance *instance, const struct modeld_batch *batch,
                       uint32_t output_count, const char *const *names, struct modeld_text *error)
{
    int64_t rows = splits(instance, batch) ? (int64_t)batch->padding_rows : -1;
    for (uint32_t i = 0; rows >= 0 && i < batch->request_count; i++) {
        rows += batch->rows[i];
    }
    if (output_count > instance->output_max) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "%u outputs were asked for, the model has %u", output_count,
                           instance->output_max);
    }
    int32_t code = bind_inputs(instance, batch, error);
    if (!code) {
        code = run(instance, batch, output_count, names, error);
    }
    unbind_inputs(instance);
    if (!code) {
        code = collect(instance, batch->request_count, rows, output_count, names, error);
        if (code) {
            discard(instance, output_count, batch->request_count);
        }
    }
    return code;
}

void md_ort_instance_execute(struct md_ort_instance *instance, const struct modeld_batch *batch)
{
    char text[ERROR_BYTES] = "";
    struct modeld_text error = {text, sizeof text};
    uint32_t request_count = batch->request_count;
    uint32_t output_count = batch->output_count ? batch->output_count : instance->output_max;
    const char *const *names = batch->output_count ? batch->output_names : instance->all_outputs;
    bool is_split = splits(instance, batch);
    int32_t code = produce(instance, batch, output_count, names, &error);
    int64_t first_row = 0;
    /* The batch is gone when its last request is finished. */
    for (uint32_t i = 0; i < request_count; i++) {
        modeld_request request = batch->requests[i];
        int64_t rows = is_split ? batch->rows[i] : -1;
        if (code) {
            md_ort_host->finish(request, code, text, MODELD_FINISH_FINAL);
        } else {
            answer(instance, output_count, request, is_split ? first_row : 0, rows);
        }
        first_row += rows;
    }
    if (!code) {
        discard(instance, output_count, 0);
    }
}
