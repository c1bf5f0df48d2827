/*
 * A backend with every fault that an engine can have, for the end-to-end tests: the parameter
 * `fault` of a model names the one that it has. Without one it answers y = x (FP32, one dimension).
 */
#include <modeld/backend.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef FAULTY_THROWS
void faulty_throw(void);
#else
    #define faulty_throw abort
#endif

static const struct modeld_host_api *host;
static const int64_t any_shape[] = {-1};
static const int64_t bad_dimension[] = {-7};

struct model {
    char fault[64];
    struct modeld_tensor_spec input, output;
    struct modeld_model_info info;
};

/* --- deadly ones -------------------- */

static void *crash_thread(void *arg)
{
    (void)arg;
    raise(SIGSEGV);
    return NULL;
}

static int overflow(volatile char *before)
{
    volatile char frame[4096];

    frame[0] = before ? before[0] : 0;
    return frame[0] == 1 ? 0 : overflow(frame) + frame[0];
}

static void die_if(const char *fault, const char *prefix)
{
    size_t len = strlen(prefix);
    const char *how = strncmp(fault, prefix, len) ? "" : fault + len;
    pthread_t thread;

    if (!strcmp(how, "segv")) {
        raise(SIGSEGV);
    } else if (!strcmp(how, "abort")) {
        abort();
    } else if (!strcmp(how, "overflow")) {
        (void)overflow(NULL);
    } else if (!strcmp(how, "throw")) {
        faulty_throw();
    } else if (!strcmp(how, "thread")) { /* as an engine's own worker does */
        if (pthread_create(&thread, NULL, crash_thread, NULL) == 0) {
            pthread_join(thread, NULL);
        }
    }
}

/* --- answers -------------------- */

struct answer {
    struct modeld_output outputs[2];
    struct modeld_response response;
    int64_t shape[1];
};

static void release_nothing(void *arg)
{
    (void)arg;
}

/* x as y; then the fault is put in. */
static void make_answer(struct answer *a, const struct modeld_batch *batch)
{
    memset(a, 0, sizeof *a);
    a->outputs[0] = (struct modeld_output){.tensor = *batch->inputs, .memory = MODELD_OUTPUT_INPUT};
    a->outputs[0].tensor.name = "y";
    a->outputs[1] = a->outputs[0];
    a->response = (struct modeld_response){.struct_size = sizeof a->response,
                                           .output_count = 1,
                                           .output_stride = sizeof a->outputs[0],
                                           .outputs = a->outputs};
}

static void spoil(const char *fault, struct answer *a, modeld_request request)
{
    struct modeld_output *output = &a->outputs[0];
    struct modeld_tensor *y = &output->tensor;
    void *data;

    if (!strcmp(fault, "wrong_type")) {
        y->dtype = MODELD_DTYPE_INT32;
    } else if (!strcmp(fault, "unknown_type")) {
        y->dtype = 4711;
    } else if (!strcmp(fault, "wrong_bytes")) {
        y->bytes -= 1;
    } else if (!strcmp(fault, "negative_shape")) {
        a->shape[0] = -4;
        y->shape = a->shape;
    } else if (!strcmp(fault, "huge_shape")) {
        a->shape[0] = INT64_MAX;
        y->shape = a->shape;
    } else if (!strcmp(fault, "huge_rank")) {
        y->rank = UINT32_MAX;
    } else if (!strcmp(fault, "no_shape")) {
        y->shape = NULL;
    } else if (!strcmp(fault, "no_data")) {
        y->data = NULL;
        output->memory = MODELD_OUTPUT_COPY;
    } else if (!strcmp(fault, "no_name")) {
        y->name = NULL;
    } else if (!strcmp(fault, "unknown_name")) {
        y->name = "z";
    } else if (!strcmp(fault, "unknown_memory")) {
        output->memory = 99;
    } else if (!strcmp(fault, "outside_input")) {
        y->data = "0123456789abcdef";
    } else if (!strcmp(fault, "outside_buffer")) {
        output->memory = MODELD_OUTPUT_BUFFER;
        output->buffer = host->buffer_create(request, 4, &data);
    } else if (!strcmp(fault, "no_buffer")) {
        output->memory = MODELD_OUTPUT_BUFFER;
    } else if (!strcmp(fault, "endless_copy")) {
        output->memory = MODELD_OUTPUT_COPY;
        y->bytes = UINT64_MAX / 2;
    } else if (!strcmp(fault, "no_release")) { /* not a fault: nobody wants to know */
        output->memory = MODELD_OUTPUT_OWN;
    } else if (!strcmp(fault, "own_wrong_type")) {
        output->memory = MODELD_OUTPUT_OWN;
        output->release = release_nothing;
        y->dtype = MODELD_DTYPE_INT32;
    } else if (!strcmp(fault, "no_list")) {
        a->response.outputs = NULL;
    } else if (!strcmp(fault, "huge_count")) {
        a->response.output_count = UINT32_MAX;
    } else if (!strcmp(fault, "small_stride")) {
        a->response.output_stride = 1;
        a->response.output_count = 2;
    } else if (!strcmp(fault, "no_size")) {
        a->response.struct_size = 0;
    } else if (!strcmp(fault, "no_outputs")) {
        a->response.output_count = 0;
    }
}

/* --- endings -------------------- */

static void end(const char *fault, modeld_request request, struct answer *a)
{
    static char long_text[100000];

    if (!strcmp(fault, "unknown_code")) {
        host->finish(request, 999, "code 999", MODELD_FINISH_FINAL);
    } else if (!strcmp(fault, "negative_code")) {
        host->finish(request, -1, NULL, MODELD_FINISH_FINAL);
    } else if (!strcmp(fault, "long_text")) {
        memset(long_text, 'a', sizeof long_text - 1);
        host->finish(request, MODELD_INTERNAL, long_text, MODELD_FINISH_FINAL);
    } else if (!strcmp(fault, "garbage_text")) {
        host->finish(request, MODELD_INTERNAL, "\xff\xfe\"\\\n%s%n", MODELD_FINISH_FINAL);
    } else if (!strcmp(fault, "reschedule")) {
        host->finish(request, MODELD_OK, NULL, MODELD_FINISH_RESCHEDULE);
    } else if (!strcmp(fault, "finish_twice")) {
        host->finish(request, MODELD_OK, NULL, MODELD_FINISH_FINAL);
        usleep(20000); /* the answer has gone out, its memory may be somebody else's */
        if (host->finish(request, MODELD_INTERNAL, "again", MODELD_FINISH_FINAL) == MODELD_OK) {
            abort();
        }
    } else if (!strcmp(fault, "respond_afterwards")) {
        host->finish(request, MODELD_OK, NULL, MODELD_FINISH_FINAL);
        usleep(20000);
        a->outputs[0].memory = MODELD_OUTPUT_OWN;
        void *data;
        if (host->respond(request, &a->response) == MODELD_OK || !host->is_cancelled(request) ||
            host->buffer_create(request, 16, &data)) {
            abort();
        }
    } else {
        host->finish(request, MODELD_OK, NULL, MODELD_FINISH_FINAL);
    }
}

/* Whoever asks it to stop: as many milliseconds as x begins with, or 700. */
static void go_on(const struct modeld_tensor *x)
{
    float ms = 0;

    if (x->bytes >= sizeof ms) {
        memcpy(&ms, x->data, sizeof ms);
    }
    usleep(ms >= 10 && ms <= 1000 ? (unsigned)ms * 1000 : 700000);
}

static void execute(void *instance, const struct modeld_batch *batch)
{
    const struct model *model = instance;
    const char *fault = model->fault;
    const modeld_request request = batch->requests[0];
    struct answer a;

    die_if(fault, "run_");
    if (!strcmp(fault, "silent")) {
        return;
    }
    while (!strcmp(fault, "hang")) {
        usleep(10000);
    }
    if (!strcmp(fault, "deaf")) {
        go_on(batch->inputs);
    }
    make_answer(&a, batch);
    spoil(fault, &a, request);
    if (strcmp(fault, "no_response") != 0) {
        host->respond(request, &a.response);
    }
    if (!strcmp(fault, "respond_twice")) {
        host->respond(request, &a.response);
    }
    end(fault, request, &a);
}

/* --- loading -------------------- */

static int32_t backend_create(const struct modeld_backend_args *args, void **backend,
                              struct modeld_text *error)
{
    (void)args;
    (void)error;
    *backend = NULL;
    return MODELD_OK;
}

static void backend_destroy(void *backend)
{
    (void)backend;
}

static void describe(struct model *m)
{
    m->input = (struct modeld_tensor_spec){
        .name = "x", .dtype = MODELD_DTYPE_FP32, .rank = 1, .shape = any_shape};
    m->output = m->input;
    m->output.name = "y";
    m->info = (struct modeld_model_info){.struct_size = sizeof m->info,
                                         .spec_stride = sizeof m->input,
                                         .input_count = 1,
                                         .output_count = 1,
                                         .inputs = &m->input,
                                         .outputs = &m->output};
    if (!strcmp(m->fault, "info_no_list")) {
        m->info.inputs = NULL;
    } else if (!strcmp(m->fault, "info_huge_count")) {
        m->info.output_count = UINT32_MAX - 1;
    } else if (!strcmp(m->fault, "info_stride")) {
        m->info.spec_stride = 0;
    } else if (!strcmp(m->fault, "info_no_name")) {
        m->output.name = NULL;
    } else if (!strcmp(m->fault, "info_type")) {
        m->input.dtype = 77;
    } else if (!strcmp(m->fault, "info_rank")) {
        m->input.rank = 1000;
    } else if (!strcmp(m->fault, "info_no_shape")) {
        m->input.shape = NULL;
    } else if (!strcmp(m->fault, "info_dimension")) {
        m->input.shape = bad_dimension;
    }
}

static int32_t model_create(void *backend, const struct modeld_model_args *args, void **created,
                            struct modeld_text *error)
{
    struct model *model = calloc(1, sizeof *model);

    (void)backend;
    if (!model) {
        return MODELD_RESOURCE_EXHAUSTED;
    }
    for (uint32_t i = 0; i < args->parameter_count; i++) {
        if (!strcmp(args->parameters[i].key, "fault")) {
            snprintf(model->fault, sizeof model->fault, "%s", args->parameters[i].value);
        }
    }
    die_if(model->fault, "load_");
    if (!strncmp(model->fault, "load_error", 10)) {
        if (!strcmp(model->fault, "load_error_text")) {
            memset(error->text, 'e', error->capacity); /* without an end */
        }
        free(model);
        *created = (void *)(uintptr_t)0xdead;
        return !strcmp(args->parameters->value, "load_error_code") ? 4711 : MODELD_INTERNAL;
    }
    describe(model);
    *created = model;
    return MODELD_OK;
}

static const struct modeld_model_info *model_info(void *handle)
{
    struct model *model = handle;

    return strcmp(model->fault, "info_none") ? &model->info : NULL;
}

static void model_destroy(void *model)
{
    free(model);
}

static int32_t instance_create(void *handle, const struct modeld_instance_args *args,
                               void **instance, struct modeld_text *error)
{
    struct model *model = handle;

    (void)args;
    (void)error;
    *instance = model;
    return strcmp(model->fault, "instance_error") ? MODELD_OK : MODELD_RESOURCE_EXHAUSTED;
}

static void instance_destroy(void *instance)
{
    (void)instance;
}

const struct modeld_backend_api *modeld_backend_entry(const struct modeld_host_api *host_api)
{
    static struct modeld_backend_api api = {
        .struct_size = sizeof api,
        .abi_major = MODELD_ABI_MAJOR,
        .abi_minor = MODELD_ABI_MINOR,
        .name = "faulty",
        .version = "1",
        .flags = MODELD_BACKEND_PARALLEL_LOAD,
        .backend_create = backend_create,
        .backend_destroy = backend_destroy,
        .model_create = model_create,
        .model_info = model_info,
        .model_destroy = model_destroy,
        .instance_create = instance_create,
        .instance_destroy = instance_destroy,
        .execute = execute,
    };
    /* What is reserved, and a function that is missing. */
    const char *claim = getenv("FAULTY_CLAIM");
    host = host_api;
    if (claim && !strcmp(claim, "TAKES_ROWS")) {
        api.flags |= MODELD_BACKEND_TAKES_ROWS;
    } else if (claim && !strcmp(claim, "OWN_PROCESS")) {
        api.flags |= MODELD_BACKEND_OWN_PROCESS;
    } else if (claim && !strcmp(claim, "sequence_start")) {
        api.sequence_start = &api;
    } else if (claim && !strcmp(claim, "warm_up")) {
        api.warm_up = &api;
    } else if (claim) {
        api.execute = NULL;
    }
    return &api;
}
