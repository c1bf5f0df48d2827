/*
 * The growth test is in here: grow() copies an array of structs into one with a larger stride and
 * fills the bytes that a backend of today must not look at with a pattern that crashes whoever
 * does.
 */
#include "drive.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROWTH_BYTES = 48, UNKNOWN_BYTE = 0xa5 };

__attribute__((format(printf, 3, 4))) static bool fail(struct drive *drive, int32_t code,
                                                       const char *format, ...)
{
    va_list args;
    drive->code = code;
    va_start(args, format);
    vsnprintf(drive->error, sizeof drive->error, format, args);
    va_end(args);
    return false;
}

/* Copies count structs of `bytes` into fresh memory; *stride becomes the distance between them. */
static void *grow(const struct drive *drive, const void *structs, uint32_t count, size_t bytes,
                  uint32_t *stride)
{
    size_t distance = bytes + (drive->config.grown ? GROWTH_BYTES : 0);
    unsigned char *grown = malloc(distance * (count + 1));
    memset(grown, UNKNOWN_BYTE, distance * (count + 1));
    for (uint32_t i = 0; i < count; i++) {
        memcpy(grown + i * distance, (const unsigned char *)structs + i * bytes, bytes);
    }
    *stride = (uint32_t)distance;
    return grown;
}

bool drive_open(struct drive *drive, const struct drive_config *config)
{
    union {
        void *object;
        const struct modeld_backend_api *(*function)(const struct modeld_host_api *);
    } symbol;
    memset(drive, 0, sizeof *drive);
    drive->config = *config;
    drive->library = dlopen(config->library, RTLD_NOW | RTLD_LOCAL);
    if (!drive->library) {
        return fail(drive, MODELD_NOT_FOUND, "%s", dlerror());
    }
    symbol.object = dlsym(drive->library, "modeld_backend_entry");
    if (!symbol.object) {
        return fail(drive, MODELD_FAILED_PRECONDITION, "%s", dlerror());
    }
    drive->api = symbol.function(fake_host_api(config->grown));
    return drive->api
               ? true
               : fail(drive, MODELD_FAILED_PRECONDITION, "modeld_backend_entry returned NULL");
}

bool drive_start(struct drive *drive)
{
    const struct drive_config *config = &drive->config;
    char directory[4096];
    struct modeld_text text = {drive->error, sizeof drive->error};
    struct modeld_backend_args args = {
        .struct_size = (uint32_t)(sizeof args + (config->grown ? GROWTH_BYTES : 0)),
        .engine_threads = config->engine_threads,
        .directory = directory,
        .option_count = config->option_count,
    };
    const char *slash = strrchr(config->library, '/');
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - config->library) : 1,
             slash ? config->library : ".");
    void *options = grow(drive, config->options, config->option_count, sizeof *config->options,
                         &args.option_stride);
    args.options = options;
    uint32_t unused;
    void *grown = grow(drive, &args, 1, sizeof args, &unused);
    drive->error[0] = '\0';
    drive->code = drive->api->backend_create(grown, &drive->backend, &text);
    free(grown);
    free(options);
    return drive->code == MODELD_OK;
}

bool drive_instance_create(struct drive *drive, uint32_t index, void **instance)
{
    struct modeld_text text = {drive->error, sizeof drive->error};
    const struct modeld_instance_args args = {
        .struct_size = (uint32_t)(sizeof args + (drive->config.grown ? GROWTH_BYTES : 0)),
        .index = index,
        .name = "instance",
    };
    uint32_t unused;
    void *grown = grow(drive, &args, 1, sizeof args, &unused);
    int32_t code = drive->api->instance_create(drive->model, grown, instance, &text);
    free(grown);
    if (code) {
        drive->code = code;
    }
    return code == MODELD_OK;
}

bool drive_load(struct drive *drive)
{
    const struct drive_config *config = &drive->config;
    struct modeld_text text = {drive->error, sizeof drive->error};
    struct modeld_model_args args = {
        .struct_size = (uint32_t)(sizeof args + (config->grown ? GROWTH_BYTES : 0)),
        .instance_count = config->instance_count,
        .name = "model",
        .version = 1,
        .directory = config->directory,
        .filename = config->filename,
        .config_json = config->config_json ? config->config_json : "{}",
        .max_batch_size = config->max_batch_size,
        .parameter_count = config->parameter_count,
        .op_library_count = config->op_library_count,
        .op_libraries = config->op_libraries,
        .optimization_level = config->optimization_level,
        .accelerator_count = config->accelerator_count,
        .accelerators = config->accelerators,
    };
    void *parameters = grow(drive, config->parameters, config->parameter_count,
                            sizeof *config->parameters, &args.parameter_stride);
    args.parameters = parameters;
    uint32_t unused;
    void *grown = grow(drive, &args, 1, sizeof args, &unused);
    drive->error[0] = '\0';
    drive->code = drive->api->model_create(drive->backend, grown, &drive->model, &text);
    /* Nothing of the arguments outlives the call. */
    memset(grown, UNKNOWN_BYTE, sizeof args);
    free(grown);
    free(parameters);
    if (drive->code) {
        drive->model = NULL;
        return false;
    }
    drive->info = drive->api->model_info(drive->model);
    for (uint32_t i = 0; i < config->instance_count && i < DRIVE_INSTANCES_MAX; i++) {
        if (!drive_instance_create(drive, i, &drive->instances[i])) {
            int32_t code = drive->code;
            drive_unload(drive);
            drive->code = code;
            return false;
        }
    }
    return true;
}

void drive_unload(struct drive *drive)
{
    for (uint32_t i = 0; i < DRIVE_INSTANCES_MAX; i++) {
        if (drive->instances[i]) {
            drive->api->instance_destroy(drive->instances[i]);
            drive->instances[i] = NULL;
        }
    }
    if (drive->model) {
        drive->api->model_destroy(drive->model);
        drive->model = NULL;
        drive->info = NULL;
    }
}

void drive_stop(struct drive *drive)
{
    if (drive->backend) {
        drive->api->backend_destroy(drive->backend);
        drive->backend = NULL;
    }
}

void drive_close(struct drive *drive)
{
    drive_unload(drive);
    drive_stop(drive);
}

bool drive_up(struct drive *drive, const struct drive_config *config)
{
    return drive_open(drive, config) && drive_start(drive) && drive_load(drive);
}

void drive_execute(const struct drive *drive, void *instance, const struct drive_batch *work)
{
    struct modeld_tensor tensors[FAKE_OUTPUTS_MAX] = {0};
    int64_t rows[FAKE_OUTPUTS_MAX];
    for (uint32_t i = 0; i < FAKE_OUTPUTS_MAX; i++) {
        rows[i] = 1;
    }
    if (work->request_count == 1 && drive->config.max_batch_size > 0 && work->input_count &&
        work->inputs[0].rank) {
        rows[0] = work->inputs[0].shape[0];
    }
    for (uint32_t i = 0; i < work->input_count; i++) {
        const struct drive_tensor *input = &work->inputs[i];
        tensors[i] = (struct modeld_tensor){
            .name = input->name,
            .dtype = input->dtype,
            .rank = input->rank,
            .shape = input->shape,
            .data = input->data,
            .bytes = input->bytes,
        };
    }
    struct modeld_batch batch = {
        .struct_size = (uint32_t)(sizeof batch + (drive->config.grown ? GROWTH_BYTES : 0)),
        .request_count = work->request_count,
        .requests = work->requests,
        .rows = work->rows ? work->rows : rows,
        .input_count = work->input_count,
        .output_count = work->output_count,
        .output_names = work->outputs,
    };
    void *inputs = grow(drive, tensors, work->input_count, sizeof *tensors, &batch.input_stride);
    batch.inputs = inputs;
    uint32_t unused;
    void *grown = grow(drive, &batch, 1, sizeof batch, &unused);
    drive->api->execute(instance, grown);
    /* An asynchronous backend may still read the batch: it is valid until the last request is
     * finished. */
    for (uint32_t i = 0; i < work->request_count; i++) {
        fake_request_wait(work->requests[i],
                          drive->api->flags & MODELD_BACKEND_ASYNCHRONOUS ? 60000 : 0);
    }
    free(grown);
    free(inputs);
}

modeld_request drive_run(const struct drive *drive, const struct drive_tensor *inputs,
                         uint32_t input_count)
{
    modeld_request request = fake_request_create();
    const struct drive_batch batch = {
        .inputs = inputs, .input_count = input_count, .requests = &request, .request_count = 1};
    drive_execute(drive, drive->instances[0], &batch);
    return request;
}

const struct modeld_tensor_spec *drive_input(const struct drive *drive, uint32_t i)
{
    return (const struct modeld_tensor_spec *)((const char *)drive->info->inputs +
                                               (size_t)drive->info->spec_stride * i);
}

const struct modeld_tensor_spec *drive_output(const struct drive *drive, uint32_t i)
{
    return (const struct modeld_tensor_spec *)((const char *)drive->info->outputs +
                                               (size_t)drive->info->spec_stride * i);
}

static void fill_strings(struct drive_tensor *tensor, uint64_t count)
{
    enum { LENGTH_MAX = 6 };
    unsigned char *at = malloc(count * (sizeof(uint32_t) + LENGTH_MAX) + 1);
    tensor->data = at;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t length = (uint32_t)(i % (LENGTH_MAX + 1));
        memcpy(at, &length, sizeof length);
        memcpy(at + sizeof length, "a\0bcde", length);
        at += sizeof length + length;
    }
    tensor->bytes = (uint64_t)(at - (unsigned char *)tensor->data);
}

static void fill_numbers(struct drive_tensor *tensor, uint64_t count)
{
    size_t bytes = fake_dtype_bytes(tensor->dtype);
    tensor->bytes = count * bytes;
    tensor->data = aligned_alloc(64, (tensor->bytes + 64) / 64 * 64);
    memset(tensor->data, 0, tensor->bytes);
    for (uint64_t i = 0; i < count; i++) {
        unsigned char *at = (unsigned char *)tensor->data + i * bytes;
        float single = (float)(i % 7) * 0.25f;
        double real = single;
        uint32_t bits;
        memcpy(&bits, &single, sizeof bits);
        switch (tensor->dtype) {
        case MODELD_DTYPE_FP32:
            memcpy(at, &single, sizeof single);
            break;
        case MODELD_DTYPE_FP64:
            memcpy(at, &real, sizeof real);
            break;
        case MODELD_DTYPE_BF16:
            memcpy(at, (unsigned char *)&bits + 2, 2);
            break;
        case MODELD_DTYPE_FP16:
            at[1] = i % 2 ? 0x3c : 0; /* 1.0 and 0.0 */
            break;
        case MODELD_DTYPE_BOOL:
            at[0] = i % 2;
            break;
        default:
            at[0] = (unsigned char)(i % 7);
        }
    }
}

void drive_tensor_fill(struct drive_tensor *tensor, const char *name, uint32_t dtype,
                       const int64_t *shape, uint32_t rank)
{
    uint64_t count = 1;
    memset(tensor, 0, sizeof *tensor);
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->dtype = dtype;
    tensor->rank = rank;
    for (uint32_t i = 0; i < rank; i++) {
        tensor->shape[i] = shape[i];
        count *= (uint64_t)shape[i];
    }
    if (dtype == MODELD_DTYPE_BYTES) {
        fill_strings(tensor, count);
    } else {
        fill_numbers(tensor, count);
    }
}

void drive_tensor_for(struct drive_tensor *tensor, const struct modeld_tensor_spec *spec,
                      int64_t rows)
{
    int64_t shape[FAKE_RANK_MAX] = {rows};
    uint32_t rank = spec->rank == MODELD_RANK_ANY ? 1 : spec->rank;
    for (uint32_t i = 0; spec->rank != MODELD_RANK_ANY && i < rank && i < FAKE_RANK_MAX; i++) {
        shape[i] = spec->shape[i] >= 0 ? spec->shape[i] : i == 0 ? rows : 2;
    }
    drive_tensor_fill(tensor, spec->name, spec->dtype, shape, rank);
}

void drive_tensors_free(struct drive_tensor *tensors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free(tensors[i].data);
        tensors[i].data = NULL;
    }
}
