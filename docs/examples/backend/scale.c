/*
 * The smallest useful modeld backend: y = a * x + b, with a and b from the model's configuration.
 *
 * Input x and output y are FP32 [rows, columns], both free; rows may be gathered from several
 * requests. It keeps to one file to show everything that a backend has to do; docs/backends.md
 * explains it.
 */
#include <modeld/backend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct modeld_host_api *host;

/* One mapping: what was loaded. Constant after model_create, so its instances need nothing of their
 * own. */
struct model {
    float a;
    float b;
    struct modeld_model_info info;
};

static const int64_t any_shape[] = {-1, -1};
static const struct modeld_tensor_spec input = {
    .name = "x", .dtype = MODELD_DTYPE_FP32, .rank = 2, .shape = any_shape};
static const struct modeld_tensor_spec output = {
    .name = "y", .dtype = MODELD_DTYPE_FP32, .rank = 2, .shape = any_shape};

static int32_t backend_create(const struct modeld_backend_args *args, void **backend,
                              struct modeld_text *error)
{
    (void)args;
    (void)error;
    *backend = NULL; /* nothing is shared by all models */
    return MODELD_OK;
}

static void backend_destroy(void *backend)
{
    (void)backend;
}

/* A parameter as a number; fallback when the configuration does not have it. */
static int32_t read_parameter(const struct modeld_model_args *args, const char *key, float fallback,
                              float *value, struct modeld_text *error)
{
    *value = fallback;
    for (uint32_t i = 0; i < args->parameter_count; i++) {
        /* Elements may be larger than this header knows: step by the stride, not by sizeof. */
        const struct modeld_option *option =
            (const struct modeld_option *)((const char *)args->parameters +
                                           (size_t)args->parameter_stride * i);
        char *end;
        if (strcmp(option->key, key) != 0) {
            continue;
        }
        *value = strtof(option->value, &end);
        if (end == option->value || *end != '\0') {
            snprintf(error->text, error->capacity, "parameter %s is '%s', expected a number", key,
                     option->value);
            return MODELD_INVALID_ARGUMENT;
        }
    }
    return MODELD_OK;
}

static int32_t model_create(void *backend, const struct modeld_model_args *args, void **created,
                            struct modeld_text *error)
{
    (void)backend;
    struct model *model = calloc(1, sizeof *model);
    if (!model) {
        snprintf(error->text, error->capacity, "out of memory");
        return MODELD_RESOURCE_EXHAUSTED;
    }
    int32_t code = read_parameter(args, "a", 1, &model->a, error);
    if (code == MODELD_OK) {
        code = read_parameter(args, "b", 0, &model->b, error);
    }
    if (code != MODELD_OK) {
        free(model);
        return code;
    }
    model->info = (struct modeld_model_info){
        .struct_size = sizeof model->info,
        .spec_stride = sizeof input,
        .input_count = 1,
        .output_count = 1,
        .inputs = &input,
        .outputs = &output,
        .memory_bytes = sizeof *model,
        .batchable = 1,
    };
    *created = model;
    return MODELD_OK;
}

static const struct modeld_model_info *model_info(void *model)
{
    return &((struct model *)model)->info;
}

static void model_destroy(void *model)
{
    free(model);
}

static int32_t instance_create(void *model, const struct modeld_instance_args *args,
                               void **instance, struct modeld_text *error)
{
    (void)args;
    (void)error;
    *instance = model;
    return MODELD_OK;
}

static void instance_destroy(void *instance)
{
    (void)instance;
}

/* Answers one request with its rows of the batch: memory from the host goes to the client as it is.
 */
static int32_t answer(const struct model *model, modeld_request request,
                      const struct modeld_tensor *x, int64_t first_row, int64_t rows)
{
    size_t columns = (size_t)x->shape[1];
    size_t count = (size_t)rows * columns;
    const char *from = (const char *)x->data + (size_t)first_row * columns * sizeof(float);
    int64_t shape[] = {rows, x->shape[1]};
    void *to;
    modeld_buffer buffer = host->buffer_create(request, count * sizeof(float), &to);
    if (!buffer) {
        return MODELD_UNAVAILABLE;
    }
    for (size_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, from + i * sizeof value, sizeof value); /* inputs may be unaligned */
        ((float *)to)[i] = model->a * value + model->b;
    }
    struct modeld_output y = {
        .tensor = {.name = "y",
                   .dtype = MODELD_DTYPE_FP32,
                   .rank = 2,
                   .shape = shape,
                   .data = to,
                   .bytes = count * sizeof(float)},
        .memory = MODELD_OUTPUT_BUFFER,
        .buffer = buffer,
    };
    struct modeld_response response = {.struct_size = sizeof response,
                                       .output_count = 1,
                                       .output_stride = sizeof y,
                                       .outputs = &y};
    return host->respond(request, &response); /* takes the buffer over, also when it fails */
}

/* The host has checked names, types and shapes against model_info, but other hosts may not: it
 * costs nothing here. */
static const char *find_problem(const struct modeld_batch *batch)
{
    const struct modeld_tensor *x = batch->inputs;
    uint64_t elements;
    int64_t rows = batch->padding_rows;
    if (batch->input_count != 1 || strcmp(x->name, "x") != 0 || x->dtype != MODELD_DTYPE_FP32 ||
        x->rank != 2) {
        return "expected one input: x, FP32, two dimensions";
    }
    for (uint32_t i = 0; i < batch->request_count; i++) {
        rows += batch->rows[i];
    }
    if (batch->request_count == 1 && !batch->padding_rows) {
        rows = x->shape[0]; /* without max_batch_size a request is one row of the batch, whatever
                               its shape */
    }
    if (rows != x->shape[0] ||
        __builtin_mul_overflow((uint64_t)rows, (uint64_t)x->shape[1], &elements) ||
        elements != x->bytes / sizeof(float) || x->bytes % sizeof(float)) {
        return "the shape of input x does not go with its bytes";
    }
    if (batch->output_count > 1 ||
        (batch->output_count == 1 && strcmp(batch->output_names[0], "y") != 0)) {
        return "the only output is y";
    }
    return NULL;
}

static void execute(void *instance, const struct modeld_batch *batch)
{
    const char *problem = find_problem(batch);
    uint32_t request_count =
        batch->request_count; /* the batch is gone when its last request is finished */
    int is_whole = request_count == 1 && !batch->padding_rows && !problem;
    int64_t first_row = 0;
    for (uint32_t i = 0; i < request_count; i++) {
        modeld_request request = batch->requests[i];
        int64_t rows = is_whole ? batch->inputs->shape[0] : batch->rows[i];
        int32_t code = problem ? MODELD_INVALID_ARGUMENT
                               : answer(instance, request, batch->inputs, first_row, rows);
        host->finish(request, code,
                     problem                      ? problem
                     : code == MODELD_UNAVAILABLE ? "no memory for output y"
                                                  : NULL,
                     MODELD_FINISH_FINAL);
        first_row += rows;
    }
}

const struct modeld_backend_api *modeld_backend_entry(const struct modeld_host_api *host_api)
{
    static const struct modeld_backend_api api = {
        .struct_size = sizeof api,
        .abi_major = MODELD_ABI_MAJOR,
        .abi_minor = MODELD_ABI_MINOR,
        .name = "scale",
        .version = "1.0",
        .flags =
            MODELD_BACKEND_PARALLEL_LOAD | MODELD_BACKEND_INLINE_SAFE | MODELD_BACKEND_RETRY_SAFE,
        .backend_create = backend_create,
        .backend_destroy = backend_destroy,
        .model_create = model_create,
        .model_info = model_info,
        .model_destroy = model_destroy,
        .instance_create = instance_create,
        .instance_destroy = instance_destroy,
        .execute = execute,
    };
    if (host_api->abi_major != MODELD_ABI_MAJOR) {
        return NULL;
    }
    host = host_api;
    return &api;
}
