/*
 * What the ONNX Runtime backend costs over the engine: microseconds for an execute against a bare
 * run of the same session settings, and resident memory after a model with 16 MiB of weights was
 * unloaded. Prints both; fails on generous bounds only, since other work on the machine moves the
 * times.
 *
 * It brings the thinnest host there can be: one request, responses that are released at once.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <onnxruntime_c_api.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <modeld/backend.h>

enum { SKIPPED = 77, ROUNDS = 15, CALLS = 4000, WIDTH = 2048 };

/* Times and resident memory under a sanitizer are the sanitizer's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const double overhead_bound_us = 1e9;
static const double rss_bound_mib = 1e9;
#else
static const double overhead_bound_us = 10;
static const double rss_bound_mib = 8;
#endif
static uint32_t finished;
static uint32_t good;

static void host_log(uint32_t level, const char *text)
{
    if (level <= MODELD_LOG_WARNING) {
        puts(text);
    }
}

static modeld_buffer host_buffer_create(modeld_request request, uint64_t bytes, void **data)
{
    (void)request;
    (void)bytes;
    (void)data;
    return 0;
}

static void host_buffer_destroy(modeld_buffer buffer)
{
    (void)buffer;
}

static int32_t host_respond(modeld_request request, const struct modeld_response *response)
{
    (void)request;
    for (uint32_t i = 0; i < response->output_count; i++) {
        response->outputs[i].release(response->outputs[i].release_arg);
    }
    return MODELD_OK;
}

static int32_t host_finish(modeld_request request, int32_t code, const char *text, uint32_t how)
{
    (void)request;
    (void)how;
    finished++;
    good += code == MODELD_OK;
    if (code) {
        printf("code %d: %s\n", code, text);
    }
    return MODELD_OK;
}

static int32_t host_is_cancelled(modeld_request request)
{
    (void)request;
    return 0;
}

static const struct modeld_host_api host = {
    .struct_size = sizeof host,
    .abi_major = MODELD_ABI_MAJOR,
    .abi_minor = MODELD_ABI_MINOR,
    .log = host_log,
    .buffer_create = host_buffer_create,
    .buffer_destroy = host_buffer_destroy,
    .respond = host_respond,
    .finish = host_finish,
    .is_cancelled = host_is_cancelled,
};

static double now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec * 1e-3;
}

static double rss_mib(void)
{
    long pages = 0;
    long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2) {
        resident = 0;
    }
    if (file) {
        fclose(file);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

static void *symbol_of(const char *path, const char *name)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym(library, name) : NULL;
    if (!symbol) {
        printf("%s: %s\n", path, dlerror());
        exit(1);
    }
    return symbol;
}

static const struct modeld_backend_api *api;
static void *backend;

static void load(const char *models, const char *name, void **model, void **instance)
{
    char directory[4096];
    char text[1024] = "";
    struct modeld_text error = {text, sizeof text};
    const struct modeld_instance_args instance_args = {.struct_size = sizeof instance_args,
                                                       .name = name};
    struct modeld_model_args args = {
        .struct_size = sizeof args,
        .instance_count = 1,
        .name = name,
        .version = 1,
        .directory = directory,
        .config_json = "{}",
        .parameter_stride = sizeof(struct modeld_option),
    };
    snprintf(directory, sizeof directory, "%s/%s/1", models, name);
    if (api->model_create(backend, &args, model, &error) ||
        api->instance_create(*model, &instance_args, instance, &error)) {
        puts(text);
        exit(1);
    }
}

static void run_once(void *instance, const struct modeld_tensor *x)
{
    static const modeld_request request = 1;
    static const int64_t row = 1;
    const struct modeld_batch batch = {.struct_size = sizeof batch,
                                       .request_count = 1,
                                       .requests = &request,
                                       .rows = &row,
                                       .input_count = 1,
                                       .input_stride = sizeof *x,
                                       .inputs = x};
    api->execute(instance, &batch);
}

struct bare {
    const OrtApi *api;
    OrtEnv *env;
    OrtMemoryInfo *memory;
    OrtSession *session;
    float *y; /* into which a run writes, or NULL: the engine allocates */
};

static void check(const struct bare *bare, OrtStatus *status)
{
    if (status) {
        puts(bare->api->GetErrorMessage(status));
        exit(1);
    }
}

static void bare_open(struct bare *bare, const char *models, const char *name)
{
    char path[4200];
    union {
        void *object;
        const OrtApiBase *(*function)(void);
    } symbol = {.object = symbol_of(MODELD_ORT_LIBRARY, "OrtGetApiBase")};
    OrtSessionOptions *options;
    bare->api = symbol.function()->GetApi(21);
    check(bare, bare->api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &bare->env));
    check(bare,
          bare->api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &bare->memory));
    check(bare, bare->api->CreateSessionOptions(&options));
    check(bare, bare->api->SetIntraOpNumThreads(options, 1));
    snprintf(path, sizeof path, "%s/%s/1/model.onnx", models, name);
    check(bare, bare->api->CreateSession(bare->env, path, options, &bare->session));
    bare->api->ReleaseSessionOptions(options);
}

static void bare_close(struct bare *bare)
{
    bare->api->ReleaseSession(bare->session);
    bare->api->ReleaseMemoryInfo(bare->memory);
    bare->api->ReleaseEnv(bare->env);
}

static void bare_run(const struct bare *bare, const struct modeld_tensor *x)
{
    static const char *const input = "x";
    static const char *const output = "y";
    OrtValue *value;
    OrtValue *result = NULL;
    check(bare, bare->api->CreateTensorWithDataAsOrtValue(
                    bare->memory, (void *)(uintptr_t)x->data, x->bytes, x->shape, x->rank,
                    ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
    if (bare->y) {
        check(bare, bare->api->CreateTensorWithDataAsOrtValue(
                        bare->memory, bare->y, x->bytes, x->shape, x->rank,
                        ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &result));
    }
    check(bare, bare->api->Run(bare->session, NULL, &input, (const OrtValue *const *)&value, 1,
                               &output, 1, &result));
    bare->api->ReleaseValue(value);
    bare->api->ReleaseValue(result);
}

/* Best of interleaved rounds: [0] bare, the engine allocates; [1] bare, output given; [2] the
 * backend. */
static void measure(struct bare *bare, void *instance, const struct modeld_tensor *x,
                    double best[3])
{
    static float y[1];
    best[0] = best[1] = best[2] = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        for (int kind = 0; kind < 3; kind++) {
            bare->y = kind == 1 ? y : NULL;
            double start = now_us();
            for (int i = 0; i < CALLS; i++) {
                if (kind == 2) {
                    run_once(instance, x);
                } else {
                    bare_run(bare, x);
                }
            }
            double took = (now_us() - start) / CALLS;
            best[kind] = took < best[kind] ? took : best[kind];
        }
    }
}

static double cycle(const char *models, double *loaded)
{
    static float row[WIDTH];
    static const int64_t shape[] = {1, WIDTH};
    const struct modeld_tensor x = {.name = "x",
                                    .dtype = MODELD_DTYPE_FP32,
                                    .rank = 2,
                                    .shape = shape,
                                    .data = row,
                                    .bytes = sizeof row};
    void *model;
    void *instance;
    load(models, "heavy", &model, &instance);
    run_once(instance, &x);
    *loaded = rss_mib();
    api->instance_destroy(instance);
    api->model_destroy(model);
    api->trim(backend);
    return rss_mib();
}

int main(void)
{
    static const float value = 3;
    static const int64_t one = 1;
    const struct modeld_tensor x = {.name = "x",
                                    .dtype = MODELD_DTYPE_FP32,
                                    .rank = 1,
                                    .shape = &one,
                                    .data = &value,
                                    .bytes = sizeof value};
    union {
        void *object;
        const struct modeld_backend_api *(*function)(const struct modeld_host_api *);
    } entry = {.object = symbol_of(MODELD_BACKEND_LIBRARY, "modeld_backend_entry")};
    const char *models = getenv("MODELD_TEST_MODELS");
    char text[1024] = "";
    struct modeld_text error = {text, sizeof text};
    struct modeld_backend_args args = {.struct_size = sizeof args,
                                       .engine_threads = 1,
                                       .option_stride = sizeof(struct modeld_option)};
    struct bare bare = {0};
    double best[3];
    double loaded;
    void *model;
    void *instance;
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    if (!models) {
        puts("skipped: MODELD_TEST_MODELS does not name the folder that make_models.py has filled");
        return SKIPPED;
    }
    api = entry.function(&host);
    if (!api || api->backend_create(&args, &backend, &error)) {
        puts(text);
        return 1;
    }
    load(models, "identity_one", &model, &instance);
    bare_open(&bare, models, "identity_one");
    measure(&bare, instance, &x, best);
    printf(
        "identity of one FP32, us: engine alone %.2f (into given memory %.2f), backend %.2f, over the engine %.2f\n",
        best[0], best[1], best[2], best[2] - best[0]);
    bare_close(&bare);
    double before = cycle(models, &loaded);
    double after = cycle(models, &loaded);
    printf("16 MiB of weights, resident MiB: loaded %.1f, unloaded %.1f, unloaded again %.1f\n",
           loaded, before, after);
    bool passed = good == finished && good > ROUNDS * CALLS &&
                  best[2] - best[0] < overhead_bound_us && after < before + rss_bound_mib &&
                  (loaded - after > 12 || rss_bound_mib > 1e6);
    api->instance_destroy(instance);
    api->model_destroy(model);
    api->backend_destroy(backend);
    puts(passed ? "passed" : "FAILED");
    return !passed;
}
