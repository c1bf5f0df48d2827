/*
 * identity: answers with its inputs, without a copy.
 *
 * The outputs' names are those of the configuration, in order; beyond them an output is called like
 * its input.
 */
#include "backend/builtin.h"

#include "base/alloc.h"
#include "base/str.h"
#include "os/thread.h"

#include <stdio.h>

enum { IDENTITY_TENSORS_MAX = 64, DELAY_MAX_SECONDS = 3600 };

static const struct modeld_host_api *host_api;

struct identity_model {
    uint64_t delay_ms;
    struct modeld_model_info info;
    size_t output_count;
    const char *outputs[IDENTITY_TENSORS_MAX]; /* into names */
    char *names;
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

static bool split_names(struct identity_model *model, const char *names)
{
    struct md_str rest, piece;

    model->names = md_strdup(names);
    if (!model->names) {
        return false;
    }
    rest = md_str_of(model->names);
    while (rest.len && model->output_count < IDENTITY_TENSORS_MAX &&
           md_str_split(&rest, ',', &piece)) {
        model->outputs[model->output_count++] = piece.ptr;
        ((char *)(uintptr_t)piece.ptr)[piece.len] = '\0';
    }
    return true;
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
        md_free(model);
        return MODELD_INVALID_ARGUMENT;
    }
    md_os_sleep_ms((unsigned)md_size_min(creation_seconds, DELAY_MAX_SECONDS) * 1000);
    if (!model || !split_names(model, args->output_names ? args->output_names : "")) {
        md_free(model);
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

static void identity_model_destroy(void *handle)
{
    struct identity_model *model = handle;

    md_free(model->names);
    md_free(model);
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

static void identity_execute(void *instance, const struct modeld_batch *batch)
{
    const struct identity_model *model = instance;
    struct modeld_output outputs[IDENTITY_TENSORS_MAX];
    struct modeld_response response = {
        .struct_size = sizeof response, .output_stride = sizeof outputs[0], .outputs = outputs};
    const modeld_request request = batch->requests[0];
    const char *at = (const char *)batch->inputs;

    for (uint64_t waited = 0; waited < model->delay_ms && !host_api->is_cancelled(request);
         waited++) {
        md_os_sleep_ms(1);
    }
    if (batch->input_count > IDENTITY_TENSORS_MAX) {
        host_api->finish(request, MODELD_INVALID_ARGUMENT, "identity takes at most 64 inputs",
                         MODELD_FINISH_FINAL);
        return;
    }
    for (uint32_t i = 0; i < batch->input_count; i++, at += batch->input_stride) {
        const struct modeld_tensor *input = (const struct modeld_tensor *)(const void *)at;
        const char *name = i < model->output_count ? model->outputs[i] : input->name;
        if (is_wanted(batch, name)) {
            struct modeld_output *output = &outputs[response.output_count++];
            *output = (struct modeld_output){.tensor = *input, .memory = MODELD_OUTPUT_INPUT};
            output->tensor.name = name;
        }
    }
    int32_t code = host_api->respond(request, &response);
    host_api->finish(request, code == MODELD_CANCELLED ? MODELD_CANCELLED : MODELD_OK, NULL,
                     MODELD_FINISH_FINAL);
}

static const struct modeld_backend_api identity_api = {
    .struct_size = sizeof identity_api,
    .abi_major = MODELD_ABI_MAJOR,
    .abi_minor = MODELD_ABI_MINOR,
    .name = "identity",
    .version = MODELD_VERSION,
    .flags = MODELD_BACKEND_PARALLEL_LOAD | MODELD_BACKEND_INLINE_SAFE,
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
