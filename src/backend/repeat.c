/*
 * repeat: n responses to one request, the field's decoupled sample.
 *
 * Asynchronous: execute hands the request to a thread of the instance, which sends until the
 * stream's credit is used up and goes on when `resume` says so.
 */
#include "backend/builtin.h"

#include "base/alloc.h"
#include "base/error.h"
#include "os/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const struct modeld_host_api *host_api;

struct repeat_instance {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct md_os_thread thread;
    /* under the mutex */
    modeld_request request; /* 0 = idle */
    const int32_t *values;
    const uint32_t *delays;
    uint64_t value_count, delay_count;
    uint32_t wait_ms;
    bool may_go_on, cancelled, stop;
};

static struct modeld_model_info repeat_info;

static int32_t repeat_create(const struct modeld_backend_args *args, void **backend,
                             struct modeld_text *error)
{
    (void)args;
    (void)error;
    *backend = NULL;
    return MODELD_OK;
}

static void repeat_destroy(void *backend)
{
    (void)backend;
}

static int32_t repeat_model_create(void *backend, const struct modeld_model_args *args,
                                   void **model, struct modeld_text *error)
{
    (void)backend;
    (void)args;
    (void)error;
    *model = &repeat_info;
    return MODELD_OK;
}

static const struct modeld_model_info *repeat_model_info(void *model)
{
    return model;
}

static void repeat_model_destroy(void *model)
{
    (void)model;
}

/* mutex held; false when the request was cancelled or the instance ends */
static bool sleep_ms(struct repeat_instance *instance, uint32_t ms)
{
    for (uint32_t waited = 0; waited < ms && !instance->cancelled && !instance->stop; waited++) {
        pthread_mutex_unlock(&instance->mutex);
        md_os_sleep_ms(1);
        pthread_mutex_lock(&instance->mutex);
    }
    return !instance->cancelled && !instance->stop;
}

/* mutex held */
static bool send_one(struct repeat_instance *instance, uint64_t index)
{
    static const int64_t shape[1] = {1};
    uint32_t position = (uint32_t)index;
    const struct modeld_output outputs[2] = {
        {.tensor = {.name = "OUT",
                    .dtype = MODELD_DTYPE_INT32,
                    .rank = 1,
                    .shape = shape,
                    .data = &instance->values[index],
                    .bytes = sizeof(int32_t)},
         .memory = MODELD_OUTPUT_COPY},
        {.tensor = {.name = "IDX",
                    .dtype = MODELD_DTYPE_UINT32,
                    .rank = 1,
                    .shape = shape,
                    .data = &position,
                    .bytes = sizeof(uint32_t)},
         .memory = MODELD_OUTPUT_COPY},
    };
    const struct modeld_response response = {.struct_size = sizeof response,
                                             .output_count = 2,
                                             .output_stride = sizeof outputs[0],
                                             .outputs = outputs};

    for (;;) {
        instance->may_go_on = false;
        pthread_mutex_unlock(&instance->mutex);
        int32_t code = host_api->respond(instance->request, &response);
        pthread_mutex_lock(&instance->mutex);
        if (code != MODELD_WOULD_BLOCK) {
            return code == MODELD_OK;
        }
        while (!instance->may_go_on && !instance->cancelled && !instance->stop) {
            pthread_cond_wait(&instance->changed, &instance->mutex);
        }
        if (instance->cancelled || instance->stop) {
            return false;
        }
    }
}

/* mutex held */
static void serve(struct repeat_instance *instance)
{
    bool ok = true;

    for (uint64_t i = 0; ok && i < instance->value_count; i++) {
        ok = sleep_ms(instance, i < instance->delay_count ? instance->delays[i] : 0) &&
             send_one(instance, i);
    }
    ok = ok && sleep_ms(instance, instance->wait_ms);
    modeld_request request = instance->request;
    instance->request = 0;
    pthread_mutex_unlock(&instance->mutex);
    host_api->finish(request, ok ? MODELD_OK : MODELD_CANCELLED, NULL, MODELD_FINISH_FINAL);
    pthread_mutex_lock(&instance->mutex);
}

static void repeat_main(void *arg)
{
    struct repeat_instance *instance = arg;

    pthread_mutex_lock(&instance->mutex);
    while (!instance->stop) {
        if (instance->request) {
            serve(instance);
        } else {
            pthread_cond_wait(&instance->changed, &instance->mutex);
        }
    }
    pthread_mutex_unlock(&instance->mutex);
}

static int32_t repeat_instance_create(void *model, const struct modeld_instance_args *args,
                                      void **out, struct modeld_text *error)
{
    struct repeat_instance *instance = md_calloc(1, sizeof *instance);
    struct md_error err;

    (void)model;
    (void)args;
    if (!instance) {
        (void)snprintf(error->text, error->capacity, "out of memory");
        return MODELD_RESOURCE_EXHAUSTED;
    }
    pthread_mutex_init(&instance->mutex, NULL);
    pthread_cond_init(&instance->changed, NULL);
    if (!md_os_thread_start(&instance->thread, "repeat", -1, repeat_main, instance, &err)) {
        (void)snprintf(error->text, error->capacity, "%s", err.text);
        pthread_cond_destroy(&instance->changed);
        pthread_mutex_destroy(&instance->mutex);
        md_free(instance);
        return MODELD_INTERNAL;
    }
    *out = instance;
    return MODELD_OK;
}

static void repeat_instance_destroy(void *handle)
{
    struct repeat_instance *instance = handle;

    pthread_mutex_lock(&instance->mutex);
    instance->stop = true;
    pthread_cond_broadcast(&instance->changed);
    pthread_mutex_unlock(&instance->mutex);
    md_os_thread_join(&instance->thread);
    pthread_cond_destroy(&instance->changed);
    pthread_mutex_destroy(&instance->mutex);
    md_free(instance);
}

static void repeat_execute(void *handle, const struct modeld_batch *batch)
{
    struct repeat_instance *instance = handle;
    const char *at = (const char *)batch->inputs;
    const uint32_t count = batch->request_count;

    for (uint32_t i = 1; i < count; i++) {
        host_api->finish(batch->requests[i], MODELD_UNIMPLEMENTED,
                         "repeat answers one request at a time", MODELD_FINISH_FINAL);
    }

    pthread_mutex_lock(&instance->mutex);
    instance->values = NULL;
    instance->delays = NULL;
    instance->value_count = instance->delay_count = 0;
    instance->wait_ms = 0;
    instance->cancelled = false;
    for (uint32_t i = 0; i < batch->input_count; i++, at += batch->input_stride) {
        const struct modeld_tensor *input = (const struct modeld_tensor *)(const void *)at;
        if (strcmp(input->name, "IN") == 0) {
            instance->values = input->data;
            instance->value_count = input->bytes / sizeof(int32_t);
        } else if (strcmp(input->name, "DELAY") == 0) {
            instance->delays = input->data;
            instance->delay_count = input->bytes / sizeof(uint32_t);
        } else if (strcmp(input->name, "WAIT") == 0 && input->bytes >= sizeof(uint32_t)) {
            memcpy(&instance->wait_ms, input->data, sizeof instance->wait_ms);
        }
    }
    instance->request = batch->requests[0];
    pthread_cond_broadcast(&instance->changed);
    pthread_mutex_unlock(&instance->mutex);
}

static void repeat_cancel(void *handle, modeld_request request)
{
    struct repeat_instance *instance = handle;

    pthread_mutex_lock(&instance->mutex);
    if (instance->request == request) {
        instance->cancelled = true;
        pthread_cond_broadcast(&instance->changed);
    }
    pthread_mutex_unlock(&instance->mutex);
}

static void repeat_resume(void *handle, modeld_request request)
{
    struct repeat_instance *instance = handle;

    pthread_mutex_lock(&instance->mutex);
    if (instance->request == request) {
        instance->may_go_on = true;
        pthread_cond_broadcast(&instance->changed);
    }
    pthread_mutex_unlock(&instance->mutex);
}

static const int64_t any_length[1] = {-1};
static const int64_t one[1] = {1};
static const struct modeld_tensor_spec repeat_inputs[] = {
    {.name = "IN", .dtype = MODELD_DTYPE_INT32, .rank = 1, .shape = any_length},
    {.name = "DELAY", .dtype = MODELD_DTYPE_UINT32, .rank = 1, .shape = any_length, .optional = 1},
    {.name = "WAIT", .dtype = MODELD_DTYPE_UINT32, .rank = 1, .shape = one, .optional = 1},
};
static const struct modeld_tensor_spec repeat_outputs[] = {
    {.name = "OUT", .dtype = MODELD_DTYPE_INT32, .rank = 1, .shape = one},
    {.name = "IDX", .dtype = MODELD_DTYPE_UINT32, .rank = 1, .shape = one},
};
static struct modeld_model_info repeat_info = {
    .struct_size = sizeof repeat_info,
    .spec_stride = sizeof repeat_inputs[0],
    .input_count = 3,
    .output_count = 2,
    .inputs = repeat_inputs,
    .outputs = repeat_outputs,
    .decoupled = 1,
};

static const struct modeld_backend_api repeat_api = {
    .struct_size = sizeof repeat_api,
    .abi_major = MODELD_ABI_MAJOR,
    .abi_minor = MODELD_ABI_MINOR,
    .name = "repeat",
    .version = MODELD_VERSION,
    .flags = MODELD_BACKEND_PARALLEL_LOAD | MODELD_BACKEND_ASYNCHRONOUS,
    .backend_create = repeat_create,
    .backend_destroy = repeat_destroy,
    .model_create = repeat_model_create,
    .model_info = repeat_model_info,
    .model_destroy = repeat_model_destroy,
    .instance_create = repeat_instance_create,
    .instance_destroy = repeat_instance_destroy,
    .execute = repeat_execute,
    .cancel = repeat_cancel,
    .resume = repeat_resume,
};

const struct modeld_backend_api *md_builtin_repeat_entry(const struct modeld_host_api *host)
{
    host_api = host;
    return &repeat_api;
}
