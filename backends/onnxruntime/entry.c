/*
 * The backend's symbol and its table: thin adapters from the border's void pointers to this
 * backend's objects.
 */
#include <malloc.h>
#include <stddef.h>

#include "engine.h"
#include "instance.h"
#include "model.h"

static int32_t backend_create(const struct modeld_backend_args *args, void **backend,
                              struct modeld_text *error)
{
    int32_t code = md_ort_engine_create(args, error);
    *backend = code ? NULL : &md_ort;
    return code;
}

static void backend_destroy(void *backend)
{
    (void)backend;
    md_ort_engine_destroy();
}

static int32_t model_create(void *backend, const struct modeld_model_args *args, void **model,
                            struct modeld_text *error)
{
    (void)backend;
    struct md_ort_model *created = NULL;
    int32_t code = md_ort_model_create(args, &created, error);
    *model = created;
    return code;
}

static const struct modeld_model_info *model_info(void *model)
{
    return &((struct md_ort_model *)model)->info;
}

static void model_destroy(void *model)
{
    md_ort_model_destroy(model);
}

static int32_t instance_create(void *model, const struct modeld_instance_args *args,
                               void **instance, struct modeld_text *error)
{
    (void)args;
    struct md_ort_instance *created = NULL;
    int32_t code = md_ort_instance_create(model, &created, error);
    *instance = created;
    return code;
}

static void instance_destroy(void *instance)
{
    md_ort_instance_destroy(instance);
}

static void execute(void *instance, const struct modeld_batch *batch)
{
    md_ort_instance_execute(instance, batch);
}

static void cancel(void *instance, modeld_request request)
{
    md_ort_instance_cancel(instance, request);
}

static void trim(void *backend)
{
    (void)backend;
    malloc_trim(0); /* the engine allocates with malloc */
}

const struct modeld_backend_api *modeld_backend_entry(const struct modeld_host_api *host)
{
    /* execute only computes: it never waits for anything but the engine's own workers. */
    static const struct modeld_backend_api api = {
        .struct_size = sizeof api,
        .abi_major = MODELD_ABI_MAJOR,
        .abi_minor = MODELD_ABI_MINOR,
        .name = "onnxruntime",
        .version = MODELD_VERSION,
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
        .cancel = cancel,
        .trim = trim,
    };
    if (host->abi_major != MODELD_ABI_MAJOR ||
        host->struct_size < offsetof(struct modeld_host_api, infer)) {
        return NULL;
    }
    md_ort_host = host;
    return &api;
}
