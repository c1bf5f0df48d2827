/*
 * The engine alone, through its own C interface: the bare loop that a server can be compared with.
 *
 *     bench_engine run SECONDS MODEL [NAME DTYPE SHAPE FILE]...
 *     bench_engine load MODEL...
 *
 * run: one thread, one engine thread; calls the session in a loop with the same inputs and prints
 * {"runs_per_s": N, "cpu_us": N}. DTYPE is f32 or i64, SHAPE "1,3,224,224", FILE the raw values.
 * load: makes an environment and a session for each model, all at the same time as the server does,
 * then prints "ready" and waits for the end of its input.
 *
 * Settings are those of the server's backend: global thread pools without spinning, and the
 * engine's defaults for the rest.
 */
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { TENSORS_MAX = 16, RANK_MAX = 8, MODELS_MAX = 16, WARM_UP_RUNS = 3 };

static const OrtApi *api;
static OrtEnv *env;

static void check(OrtStatus *status)
{
    if (status) {
        fprintf(stderr, "bench_engine: %s\n", api->GetErrorMessage(status));
        exit(1);
    }
}

static void start_engine(int threads)
{
    OrtThreadingOptions *threading;
    void *library = dlopen(MODELD_ORT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    union {
        void *object;
        const OrtApiBase *(*function)(void);
    } entry = {.object = library ? dlsym(library, "OrtGetApiBase") : NULL};

    if (!entry.object) {
        fprintf(stderr, "bench_engine: %s\n", dlerror());
        exit(1);
    }
    api = entry.function()->GetApi(21);
    check(api->CreateThreadingOptions(&threading));
    check(api->SetGlobalIntraOpNumThreads(threading, threads));
    check(api->SetGlobalInterOpNumThreads(threading, 1));
    check(api->SetGlobalSpinControl(threading, 0));
    check(api->CreateEnvWithGlobalThreadPools(ORT_LOGGING_LEVEL_ERROR, "bench", threading, &env));
    api->ReleaseThreadingOptions(threading);
}

static OrtSession *load(const char *path)
{
    OrtSessionOptions *options;
    OrtSession *session;

    check(api->CreateSessionOptions(&options));
    check(api->DisablePerSessionThreads(options));
    check(api->CreateSession(env, path, options, &session));
    api->ReleaseSessionOptions(options);
    return session;
}

static void *load_thread(void *path)
{
    return load(path);
}

static int load_all(char **paths, int count)
{
    pthread_t threads[MODELS_MAX];

    start_engine((int)sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, load_thread, paths[i])) {
            return 1;
        }
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    puts("ready");
    fflush(stdout);
    return getchar() != EOF;
}

static void *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    void *data = NULL;

    if (file && fseek(file, 0, SEEK_END) == 0) {
        *bytes = (size_t)ftell(file);
        rewind(file);
        data = malloc(*bytes + 1);
    }
    if (!data || fread(data, 1, *bytes, file) != *bytes) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return data;
}

static OrtValue *make_input(char **words)
{
    OrtMemoryInfo *memory;
    OrtValue *value;
    int64_t shape[RANK_MAX];
    size_t rank = 0, bytes = 0;
    void *data = read_file(words[3], &bytes);

    for (char *at = words[2]; *at && rank < RANK_MAX; at += *at == ',') {
        shape[rank++] = strtoll(at, &at, 10);
    }
    check(api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory));
    check(api->CreateTensorWithDataAsOrtValue(memory, data, bytes, shape, rank,
                                              strcmp(words[1], "i64")
                                                  ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                                                  : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                              &value));
    api->ReleaseMemoryInfo(memory);
    return value;
}

static double seconds(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int run(double limit, const char *path, char **inputs, int input_count)
{
    const char *names[TENSORS_MAX], *output_names[TENSORS_MAX];
    OrtValue *values[TENSORS_MAX], *outputs[TENSORS_MAX];
    OrtAllocator *allocator;
    size_t output_count;
    long runs = -WARM_UP_RUNS;
    double wall = 0, cpu = 0;

    start_engine(1);
    OrtSession *session = load(path);
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    check(api->SessionGetOutputCount(session, &output_count));
    for (size_t i = 0; i < output_count && i < TENSORS_MAX; i++) {
        char *name;
        check(api->SessionGetOutputName(session, i, allocator, &name));
        output_names[i] = name;
    }
    for (int i = 0; i < input_count; i++) {
        names[i] = inputs[4 * i];
        values[i] = make_input(inputs + 4 * i);
    }
    while (runs <= 0 || seconds(CLOCK_MONOTONIC) < wall + limit) {
        if (runs == 0) {
            wall = seconds(CLOCK_MONOTONIC);
            cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
        }
        memset(outputs, 0, sizeof outputs);
        check(api->Run(session, NULL, names, (const OrtValue *const *)values, (size_t)input_count,
                       output_names, output_count, outputs));
        for (size_t i = 0; i < output_count; i++) {
            api->ReleaseValue(outputs[i]);
        }
        runs++;
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"runs_per_s\": %.2f, \"cpu_us\": %.1f}\n", (double)runs / wall,
           cpu * 1e6 / (double)runs);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 2 && argc <= MODELS_MAX + 2 && !strcmp(argv[1], "load")) {
        return load_all(argv + 2, argc - 2);
    }
    if (argc > 3 && argc <= 4 * TENSORS_MAX + 4 && argc % 4 == 0 && !strcmp(argv[1], "run")) {
        return run(atof(argv[2]), argv[3], argv + 4, (argc - 4) / 4);
    }
    fprintf(stderr, "usage: bench_engine run SECONDS MODEL [NAME DTYPE SHAPE FILE]... | "
                    "load MODEL...\n");
    return 2;
}
