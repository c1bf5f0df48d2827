/*
 * modeld_backend_check: the conformance program for a backend library.
 *
 * Loads any backend .so with one model and takes it through the ABI. Every check runs in a process
 * of its own, so a crash, a hang or a leak of one is one failure and the others still run. The last
 * line is the count; the exit status is 0 when nothing failed.
 */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "drive.h"

enum { TENSORS_MAX = 32, CHECK_SECONDS = 120, THREADS_MAX = 8, MEMORY_CYCLES = 6 };

struct expectation {
    char name[128];
    const char *file;
};

static struct drive_config config = {.instance_count = 2, .engine_threads = 1};
static struct drive_tensor given[TENSORS_MAX]; /* --tensor */
static uint32_t given_count;
static struct expectation expectations[TENSORS_MAX];
static uint32_t expectation_count;
static uint32_t runs = 50;
static uint32_t mutations;
static double rss_slack_mib = 8;
static bool loads_files = true;
static uint32_t problems; /* of the running check */

/* True if the condition holds; otherwise one more problem with a sentence, which sees what the
 * condition has left. */
#define EXPECT(condition, ...) holds((condition) || report(#condition, __LINE__, __VA_ARGS__))

static bool holds(bool condition)
{
    return condition;
}

__attribute__((format(printf, 3, 4))) static bool report(const char *what, int line,
                                                         const char *format, ...)
{
    va_list args;
    problems++;
    printf("  line %d: %s: ", line, what);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    return false;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double rss_mib(void)
{
    long pages = 0;
    long resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file) {
        if (fscanf(file, "%ld %ld", &pages, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

static bool up(struct drive *drive, const struct drive_config *with)
{
    return EXPECT(drive_up(drive, with), "code %d: %s", drive->code, drive->error);
}

/* The inputs of one request: those that were given, else made up from what the backend says of its
 * model. */
static uint32_t make_inputs(const struct drive *drive, struct drive_tensor *inputs, int64_t rows)
{
    uint32_t count = 0;
    if (given_count) {
        for (; count < given_count; count++) {
            inputs[count] = given[count];
            inputs[count].data = malloc(given[count].bytes + 1);
            memcpy(inputs[count].data, given[count].data, given[count].bytes);
        }
        return count;
    }
    if (!EXPECT(drive->info->input_count != UINT32_MAX,
                "the backend takes any tensors: name some with --tensor")) {
        return 0;
    }
    for (uint32_t i = 0; i < drive->info->input_count && count < TENSORS_MAX; i++) {
        if (!drive_input(drive, i)->optional) {
            drive_tensor_for(&inputs[count++], drive_input(drive, i), rows);
        }
    }
    return count;
}

static const struct fake_output *find_output(const struct fake_result *result, const char *name)
{
    for (uint32_t i = 0; i < result->output_count; i++) {
        if (!strcmp(result->outputs[i].name, name)) {
            return &result->outputs[i];
        }
    }
    return NULL;
}

static bool is_same_output(const struct fake_output *a, const struct fake_output *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && a->bytes == b->bytes &&
           !memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) &&
           !memcmp(a->data, b->data, a->bytes);
}

static bool is_same(const struct fake_result *a, const struct fake_result *b)
{
    bool same = a->code == b->code && a->output_count == b->output_count;
    for (uint32_t i = 0; same && i < a->output_count; i++) {
        const struct fake_output *other = find_output(b, a->outputs[i].name);
        same = other && is_same_output(&a->outputs[i], other);
    }
    return same;
}

/* One good run; the caller destroys the request. */
static modeld_request good_run(const struct drive *drive, const struct drive_tensor *inputs,
                               uint32_t count)
{
    modeld_request request = drive_run(drive, inputs, count);
    const struct fake_result *result = fake_request_result(request);
    EXPECT(result->code == MODELD_OK, "code %d: %s", result->code, result->text);
    EXPECT(result->response_count == 1 || drive->info->decoupled, "%u responses of a unary model",
           result->response_count);
    return request;
}

static void check_entry(void)
{
    struct drive drive;
    if (!EXPECT(drive_open(&drive, &config), "%s", drive.error)) {
        return;
    }
    const struct modeld_backend_api *api = drive.api;
    EXPECT(api->struct_size >= offsetof(struct modeld_backend_api, cancel), "struct_size is %u",
           api->struct_size);
    EXPECT(api->abi_major == MODELD_ABI_MAJOR, "abi_major is %u", api->abi_major);
    EXPECT(api->name && *api->name, "the backend has no name");
    EXPECT(api->version && *api->version, "the backend has no version");
    EXPECT(api->backend_create && api->backend_destroy, "missing");
    EXPECT(api->model_create && api->model_info && api->model_destroy, "missing");
    EXPECT(api->instance_create && api->instance_destroy && api->execute, "missing");
    if (api->struct_size >= sizeof *api) {
        EXPECT(!api->sequence_start && !api->sequence_end && !api->model_memory && !api->warm_up,
               "reserved functions must be NULL");
    }
}

/* A host of another major version, as far as its first eight bytes are concerned. */
static void check_other_major(void)
{
    static struct modeld_host_api other;
    union {
        void *object;
        const struct modeld_backend_api *(*function)(const struct modeld_host_api *);
    } symbol;
    void *library = dlopen(config.library, RTLD_NOW | RTLD_LOCAL);
    if (!EXPECT(library, "%s", dlerror())) {
        return;
    }
    symbol.object = dlsym(library, "modeld_backend_entry");
    other.struct_size = 8;
    other.abi_major = MODELD_ABI_MAJOR + 1;
    EXPECT(symbol.object && !symbol.function(&other), "a host of major version %d was accepted",
           MODELD_ABI_MAJOR + 1);
}

static void check_spec(const struct modeld_tensor_spec *spec)
{
    if (!EXPECT(spec->name && *spec->name, "a tensor has no name")) {
        return;
    }
    EXPECT(spec->dtype > MODELD_DTYPE_INVALID && spec->dtype <= MODELD_DTYPE_BF16,
           "'%s' has data type %u", spec->name, spec->dtype);
    for (uint32_t i = 0; spec->rank != MODELD_RANK_ANY && i < spec->rank; i++) {
        EXPECT(spec->shape[i] >= -1, "'%s' has dimension %lld", spec->name,
               (long long)spec->shape[i]);
    }
}

static void check_info(void)
{
    struct drive drive;
    if (!up(&drive, &config)) {
        return;
    }
    const struct modeld_model_info *info = drive.info;
    EXPECT(info->struct_size >= sizeof *info, "struct_size is %u", info->struct_size);
    if (info->input_count != UINT32_MAX) {
        EXPECT(info->spec_stride >= sizeof(struct modeld_tensor_spec), "spec_stride is %u",
               info->spec_stride);
        for (uint32_t i = 0; i < info->input_count; i++) {
            check_spec(drive_input(&drive, i));
        }
        for (uint32_t i = 0; i < info->output_count; i++) {
            check_spec(drive_output(&drive, i));
            for (uint32_t k = 0; k < i; k++) {
                EXPECT(strcmp(drive_output(&drive, i)->name, drive_output(&drive, k)->name) != 0,
                       "two outputs '%s'", drive_output(&drive, i)->name);
            }
        }
    }
    EXPECT(drive.api->model_info(drive.model) == info, "model_info moves");
    drive_close(&drive);
}

static void check_life_cycle(void)
{
    struct drive drive;
    for (int round = 0; round < 3; round++) {
        if (!up(&drive, &config)) {
            return;
        }
        drive_unload(&drive);
        if (!EXPECT(drive_load(&drive), "second load: %s", drive.error)) {
            return;
        }
        if (drive.api->struct_size >= offsetof(struct modeld_backend_api, sequence_start) &&
            drive.api->trim) {
            drive.api->trim(drive.backend);
        }
        drive_close(&drive);
    }
}

static void *read_file(const char *path, uint64_t *bytes)
{
    FILE *file = fopen(path, "rb");
    struct stat status;
    if (!file || fstat(fileno(file), &status) != 0) {
        if (file) {
            fclose(file);
        }
        return NULL;
    }
    void *data = malloc((size_t)status.st_size + 1);
    *bytes = fread(data, 1, (size_t)status.st_size, file);
    fclose(file);
    return data;
}

static void check_expectations(const struct fake_result *result)
{
    for (uint32_t i = 0; i < expectation_count; i++) {
        uint64_t bytes = 0;
        void *data = read_file(expectations[i].file, &bytes);
        const struct fake_output *output = find_output(result, expectations[i].name);
        EXPECT(data, "%s: %s", expectations[i].file, strerror(errno));
        EXPECT(output, "there is no output '%s'", expectations[i].name);
        EXPECT(data && output && output->bytes == bytes && !memcmp(output->data, data, bytes),
               "output '%s' differs from %s", expectations[i].name, expectations[i].file);
        free(data);
    }
}

static void check_run(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    modeld_request all = good_run(&drive, inputs, count);
    const struct fake_result *result = fake_request_result(all);
    check_expectations(result);
    for (uint32_t i = 0; drive.info->input_count != UINT32_MAX && i < drive.info->output_count;
         i++) {
        const struct modeld_tensor_spec *spec = drive_output(&drive, i);
        const struct fake_output *output = find_output(result, spec->name);
        if (EXPECT(output, "output '%s' is missing", spec->name)) {
            EXPECT(output->dtype == spec->dtype, "output '%s' has data type %s", spec->name,
                   fake_dtype_name(output->dtype));
        }
    }
    /* Each output alone: the same bytes, and nothing that was not asked for. */
    for (uint32_t i = 0; i < result->output_count; i++) {
        const char *name = result->outputs[i].name;
        modeld_request one = fake_request_create();
        const struct drive_batch batch = {.inputs = inputs,
                                          .input_count = count,
                                          .outputs = &name,
                                          .output_count = 1,
                                          .requests = &one,
                                          .request_count = 1};
        drive_execute(&drive, drive.instances[0], &batch);
        const struct fake_result *single = fake_request_result(one);
        EXPECT(single->output_count == 1 && !strcmp(single->outputs[0].name, name) &&
                   is_same_output(&single->outputs[0], &result->outputs[i]),
               "output '%s' alone: %u outputs, code %d: %s", name, single->output_count,
               single->code, single->text);
        fake_request_destroy(one);
    }
    fake_request_destroy(all);
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

/* A later server: larger structs, larger strides, more functions. The answer must be the same. */
static void check_growth(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    modeld_request before = good_run(&drive, inputs, count);
    drive_close(&drive);
    struct drive_config later = config;
    later.grown = true;
    if (up(&drive, &later)) {
        modeld_request after = good_run(&drive, inputs, count);
        EXPECT(is_same(fake_request_result(before), fake_request_result(after)), "answers differ");
        fake_request_destroy(after);
        drive_close(&drive);
    }
    fake_request_destroy(before);
    drive_tensors_free(inputs, count);
}

static void check_unaligned(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    modeld_request aligned = good_run(&drive, inputs, count);
    struct drive_tensor odd[TENSORS_MAX];
    char *memory[TENSORS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        odd[i] = inputs[i];
        memory[i] = malloc(inputs[i].bytes + 1);
        odd[i].data = memory[i] + 1;
        memcpy(odd[i].data, inputs[i].data, inputs[i].bytes);
    }
    modeld_request unaligned = good_run(&drive, odd, count);
    EXPECT(is_same(fake_request_result(aligned), fake_request_result(unaligned)), "answers differ");
    for (uint32_t i = 0; i < count; i++) {
        EXPECT(!memcmp(odd[i].data, inputs[i].data, inputs[i].bytes), "input '%s' was written to",
               inputs[i].name);
        free(memory[i]);
    }
    fake_request_destroy(aligned);
    fake_request_destroy(unaligned);
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

struct worker {
    struct drive *drive;
    const struct drive_tensor *inputs;
    const struct fake_result *expected;
    uint32_t input_count;
    uint32_t index;
    atomic_uint *wrong;
};

static pthread_mutex_t create_lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *arg)
{
    struct worker *worker = arg;
    void *instance = NULL;
    pthread_mutex_lock(&create_lock); /* for the drive's error text */
    bool created = drive_instance_create(worker->drive, worker->index, &instance);
    pthread_mutex_unlock(&create_lock);
    if (!created) {
        atomic_fetch_add(worker->wrong, 1);
        return NULL;
    }
    for (uint32_t i = 0; i < runs; i++) {
        modeld_request request = fake_request_create();
        const struct drive_batch batch = {.inputs = worker->inputs,
                                          .input_count = worker->input_count,
                                          .requests = &request,
                                          .request_count = 1};
        drive_execute(worker->drive, instance, &batch);
        if (!is_same(fake_request_result(request), worker->expected)) {
            atomic_fetch_add(worker->wrong, 1);
        }
        fake_request_destroy(request);
    }
    pthread_mutex_lock(&create_lock);
    worker->drive->api->instance_destroy(instance);
    pthread_mutex_unlock(&create_lock);
    return NULL;
}

/* Instances at the same time, each on a thread of its own that also creates and destroys it. */
static void check_concurrency(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    atomic_uint wrong = 0;
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    modeld_request expected = good_run(&drive, inputs, count);
    fake_host_set_release(FAKE_RELEASE_LATER);
    uint32_t started = 0;
    for (; started < THREADS_MAX; started++) {
        workers[started] = (struct worker){
            &drive, inputs, fake_request_result(expected), count, started + config.instance_count,
            &wrong};
        if (!EXPECT(pthread_create(&threads[started], NULL, work, &workers[started]) == 0,
                    "thread")) {
            break;
        }
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    EXPECT(wrong == 0, "%u of %u answers are wrong", wrong, THREADS_MAX * runs);
    fake_host_release_all();
    fake_request_destroy(expected);
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

/* Loads that cannot work must say why, in whatever room there is for the sentence. */
static void expect_refusal(const struct drive_config *with, const char *what)
{
    struct drive drive;
    if (!EXPECT(drive_open(&drive, with), "%s", drive.error)) {
        return;
    }
    if (drive_start(&drive)) {
        bool loaded = drive_load(&drive);
        EXPECT(!loaded || !loads_files, "%s was accepted", what);
        EXPECT(loaded || strlen(drive.error) > 10, "%s: the error says only '%s'", what,
               drive.error);
        if (!loaded) {
            printf("  %s: code %d: %s\n", what, drive.code, drive.error);
        }
    }
    drive_close(&drive);
}

static void check_refusals(void)
{
    char folder[] = "/tmp/modeld-check-XXXXXX";
    char path[4200];
    struct drive_config bad = config;
    bad.directory = "/nonexistent/model/1";
    expect_refusal(&bad, "a missing folder");
    bad = config;
    bad.filename = "no-such-file.bin";
    expect_refusal(&bad, "a missing file");
    bad.filename = "../../../../../../etc/passwd";
    expect_refusal(&bad, "a file outside of the folder");
    if (!EXPECT(mkdtemp(folder), "%s", strerror(errno))) {
        return;
    }
    snprintf(path, sizeof path, "%s/%s", folder, config.filename ? config.filename : "model.onnx");
    FILE *file = fopen(path, "wb");
    if (EXPECT(file, "%s: %s", path, strerror(errno))) {
        fclose(file);
        bad = config;
        bad.directory = folder;
        expect_refusal(&bad, "an empty file");
        file = fopen(path, "wb");
        for (int i = 0; file && i < 4096; i++) {
            fputc((i * 167 + 13) & 0xff, file);
        }
        if (file) {
            fclose(file);
        }
        expect_refusal(&bad, "a garbage file");
        unlink(path);
    }
    rmdir(folder);
}

static void check_short_error_text(void)
{
    struct drive drive;
    char room[16];
    struct drive_config bad = config;
    bad.directory = "/nonexistent/model/1";
    if (!EXPECT(drive_open(&drive, &bad) && drive_start(&drive), "%s", drive.error)) {
        return;
    }
    for (size_t capacity = 0; capacity < 8; capacity++) {
        struct modeld_text text = {room, capacity};
        struct modeld_model_args args = {.struct_size = sizeof args,
                                         .name = "m",
                                         .version = 1,
                                         .directory = bad.directory,
                                         .config_json = "{}",
                                         .parameter_stride = sizeof(struct modeld_option)};
        void *model = NULL;
        memset(room, 0x5a, sizeof room);
        if (drive.api->model_create(drive.backend, &args, &model, &text) == MODELD_OK) {
            drive.api->model_destroy(model);
        }
        EXPECT(room[capacity] == 0x5a, "written behind %zu bytes", capacity);
    }
    drive_close(&drive);
}

static void expect_answered(const struct drive *drive, const struct drive_tensor *inputs,
                            uint32_t count, const char *what)
{
    modeld_request request = drive_run(drive, inputs, count);
    const struct fake_result *result = fake_request_result(request);
    EXPECT(result->code == MODELD_OK || *result->text, "%s: code %d without a sentence", what,
           result->code);
    if (result->code) {
        printf("  %s: code %d: %s\n", what, result->code, result->text);
    }
    fake_request_destroy(request);
}

/* What a server would not let through. The backend may take it or refuse it, but must answer once
 * and stay whole. */
static void check_bad_inputs(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    modeld_request before = good_run(&drive, inputs, count);
    struct drive_tensor saved = inputs[0];
    expect_answered(&drive, inputs, 0, "no inputs");
    if (count > 0) {
        snprintf(inputs[0].name, sizeof inputs[0].name, "no_such_input");
        expect_answered(&drive, inputs, count, "an unknown input");
        inputs[0] = saved;
        inputs[0].dtype = saved.dtype == MODELD_DTYPE_FP32 ? MODELD_DTYPE_INT32 : MODELD_DTYPE_FP32;
        expect_answered(&drive, inputs, count, "another data type");
        inputs[0] = saved;
        inputs[0].bytes = saved.bytes / 2;
        expect_answered(&drive, inputs, count, "half of the bytes");
        inputs[0] = saved;
        inputs[0].rank = 5;
        for (int i = 0; i < 5; i++) {
            inputs[0].shape[i] = INT64_MAX / 3;
        }
        expect_answered(&drive, inputs, count, "an impossible shape");
        inputs[0] = saved;
        inputs[0].rank = saved.rank + 1;
        inputs[0].shape[saved.rank] = 1;
        expect_answered(&drive, inputs, count, "one dimension more");
        inputs[0] = saved;
    }
    const char *unknown = "no_such_output";
    modeld_request request = fake_request_create();
    const struct drive_batch batch = {.inputs = inputs,
                                      .input_count = count,
                                      .outputs = &unknown,
                                      .output_count = 1,
                                      .requests = &request,
                                      .request_count = 1};
    drive_execute(&drive, drive.instances[0], &batch);
    const struct fake_result *result = fake_request_result(request);
    EXPECT(result->code == MODELD_OK || *result->text,
           "an unknown output: code %d without a sentence", result->code);
    fake_request_destroy(request);

    modeld_request after = good_run(&drive, inputs, count);
    EXPECT(is_same(fake_request_result(before), fake_request_result(after)),
           "the answer changed after bad requests");
    fake_request_destroy(before);
    fake_request_destroy(after);
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

static void check_no_buffers(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    fake_host_refuse_buffers(true);
    modeld_request request = drive_run(&drive, inputs, count);
    const struct fake_result *result = fake_request_result(request);
    EXPECT(result->code == MODELD_OK || result->code == MODELD_UNAVAILABLE ||
               result->code == MODELD_RESOURCE_EXHAUSTED,
           "code %d: %s", result->code, result->text);
    fake_host_refuse_buffers(false);
    fake_request_destroy(request);
    fake_request_destroy(good_run(&drive, inputs, count));
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

struct canceller {
    const struct drive *drive;
    modeld_request request;
    double delay;
};

static void *cancel_later(void *arg)
{
    struct canceller *canceller = arg;
    struct timespec pause = {0, (long)(canceller->delay * 1e9)};
    nanosleep(&pause, NULL);
    fake_request_cancel(canceller->request);
    canceller->drive->api->cancel(canceller->drive->instances[0], canceller->request);
    return NULL;
}

/* Cancels at many moments of a run. Whatever comes of that request, the next one is not hit. */
static void check_cancel(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    if (drive.api->struct_size < offsetof(struct modeld_backend_api, resume) ||
        !drive.api->cancel) {
        printf("  the backend has no cancel\n");
        drive_close(&drive);
        return;
    }
    uint32_t count = make_inputs(&drive, inputs, 2);
    double start = now();
    modeld_request expected = good_run(&drive, inputs, count);
    double whole = now() - start;
    uint32_t cut = 0;
    double longest = 0;
    drive.api->cancel(drive.instances[0], expected); /* one that is finished */
    for (int i = -1; i < 10; i++) {
        struct canceller canceller = {&drive, fake_request_create(), whole * (i < 0 ? 0 : i) / 10};
        const struct drive_batch batch = {.inputs = inputs,
                                          .input_count = count,
                                          .requests = &canceller.request,
                                          .request_count = 1};
        pthread_t thread;
        if (i < 0) {
            cancel_later(&canceller); /* before it runs */
        } else if (pthread_create(&thread, NULL, cancel_later, &canceller) != 0) {
            break;
        }
        start = now();
        drive_execute(&drive, drive.instances[0], &batch);
        double took = now() - start;
        if (i >= 0) {
            pthread_join(thread, NULL);
        }
        const struct fake_result *result = fake_request_result(canceller.request);
        EXPECT(result->code == MODELD_OK || result->code == MODELD_CANCELLED, "code %d: %s",
               result->code, result->text);
        cut += result->code == MODELD_CANCELLED;
        double over = took - canceller.delay;
        longest = result->code == MODELD_CANCELLED && over > longest ? over : longest;
        fake_request_destroy(canceller.request);
        modeld_request next = good_run(&drive, inputs, count);
        EXPECT(is_same(fake_request_result(next), fake_request_result(expected)),
               "the next answer differs");
        fake_request_destroy(next);
    }
    printf("  a run takes %.1f ms; %u of 11 were cut short, at most %.1f ms after cancel\n",
           whole * 1e3, cut, longest * 1e3);
    EXPECT(whole < 0.1 || cut > 4, "only %u of 11 long runs were cut short", cut);
    fake_request_destroy(expected);
    drive_tensors_free(inputs, count);
    drive_close(&drive);
}

/* Rows of a gathered batch must come back to their requests as if each had been alone. */
static void check_batch(void)
{
    enum { PARTS = 3 };
    static const int64_t rows[PARTS] = {1, 2, 1};
    struct drive drive;
    struct drive_tensor whole[TENSORS_MAX];
    if (!up(&drive, &config)) {
        return;
    }
    if (!drive.info->batchable || given_count) {
        printf("  the model has no batch dimension\n");
        drive_close(&drive);
        return;
    }
    uint32_t count = make_inputs(&drive, whole, 4);
    modeld_request gathered[PARTS];
    for (int i = 0; i < PARTS; i++) {
        gathered[i] = fake_request_create();
    }
    const struct drive_batch batch = {.inputs = whole,
                                      .input_count = count,
                                      .requests = gathered,
                                      .rows = rows,
                                      .request_count = PARTS};
    fake_host_set_release(FAKE_RELEASE_LATER);
    drive_execute(&drive, drive.instances[0], &batch);
    modeld_request alone = good_run(&drive, whole, count);
    const struct fake_result *expected = fake_request_result(alone);
    for (uint32_t k = 0; k < expected->output_count; k++) {
        uint64_t at = 0;
        for (int i = 0; i < PARTS; i++) {
            const struct fake_result *result = fake_request_result(gathered[i]);
            const struct fake_output *output = find_output(result, expected->outputs[k].name);
            if (!EXPECT(output, "request %d has no output '%s', code %d: %s", i,
                        expected->outputs[k].name, result->code, result->text)) {
                break;
            }
            EXPECT(output->rank && output->shape[0] == rows[i], "request %d has %lld rows", i,
                   (long long)output->shape[0]);
            EXPECT(at + output->bytes <= expected->outputs[k].bytes &&
                       !memcmp((char *)expected->outputs[k].data + at, output->data, output->bytes),
                   "request %d, output '%s' is not its part of the whole", i, output->name);
            at += output->bytes;
        }
        EXPECT(at == expected->outputs[k].bytes, "the parts of '%s' have %llu bytes",
               expected->outputs[k].name, (unsigned long long)at);
    }
    fake_host_release_all();
    for (int i = 0; i < PARTS; i++) {
        fake_request_destroy(gathered[i]);
    }
    fake_request_destroy(alone);
    drive_tensors_free(whole, count);
    drive_close(&drive);
}

/* Load, run, unload again and again: resident memory must come back to where it was. */
static void check_memory(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    double base = 0;
    double loaded = 0;
    double last = 0;
    if (!EXPECT(drive_open(&drive, &config) && drive_start(&drive), "%s", drive.error)) {
        return;
    }
    for (int i = 0; i < MEMORY_CYCLES; i++) {
        if (!EXPECT(drive_load(&drive), "%s", drive.error)) {
            return;
        }
        uint32_t count = make_inputs(&drive, inputs, 2);
        fake_request_destroy(good_run(&drive, inputs, count));
        loaded = rss_mib();
        drive_tensors_free(inputs, count);
        drive_unload(&drive);
        if (drive.api->trim) {
            drive.api->trim(drive.backend);
        }
        malloc_trim(0);
        last = rss_mib();
        base = i == 0 ? last : base;
    }
    printf("  resident MiB: loaded %.1f, unloaded first %.1f, unloaded last %.1f\n", loaded, base,
           last);
#ifndef __SANITIZE_ADDRESS__
    EXPECT(last < base + rss_slack_mib, "it grew by %.1f MiB in %d loads", last - base,
           MEMORY_CYCLES - 1);
#endif
    drive_close(&drive);
}

struct check {
    const char *name;
    void (*run)(void);
};

static const struct check checks[] = {
    {"entry and table", check_entry},
    {"a host of another major version", check_other_major},
    {"description of the model", check_info},
    {"life cycle, three times", check_life_cycle},
    {"one request, all outputs and each alone", check_run},
    {"a later host with larger structs", check_growth},
    {"unaligned inputs", check_unaligned},
    {"instances at the same time", check_concurrency},
    {"models that cannot be loaded", check_refusals},
    {"little room for the error", check_short_error_text},
    {"requests that contradict the model", check_bad_inputs},
    {"no memory for outputs", check_no_buffers},
    {"cancel", check_cancel},
    {"a gathered batch", check_batch},
    {"memory after unload", check_memory},
};

/* Runs in a child that ends after CHECK_SECONDS. True when it found nothing. */
static bool run_apart(void (*run)(void))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(CHECK_SECONDS);
        run();
        EXPECT(fake_host_breaches() == 0, "the contract was broken");
        fflush(stdout);
        exit(problems != 0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        printf("  fork: %s\n", strerror(errno));
        return false;
    }
    if (WIFSIGNALED(status)) {
        printf("  %s\n", WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* Damaged model files. The child works through the variants and leaves the number of the one that
 * it is at, so that after a crash the next child goes on behind it. */
struct progress {
    atomic_uint at;
    atomic_uint refused;
    atomic_uint loaded;
    char last_error[256];
};

static struct progress *progress;
static void *original;
static uint64_t original_bytes;
static char variant_folder[] = "/tmp/modeld-check-XXXXXX";

/* Even variants are cut off, odd ones have bits turned: spread over the file, the same in each run.
 */
static bool write_variant(uint32_t variant)
{
    char path[4200];
    uint64_t bytes = original_bytes;
    unsigned char *data = malloc(bytes);
    memcpy(data, original, bytes);
    uint64_t random = variant * 0x9e3779b97f4a7c15u + 1;
    if (variant % 2 == 0) {
        bytes = original_bytes * (variant / 2) / ((mutations + 1) / 2);
    } else {
        for (uint32_t i = 0; i < 1 + variant % 5; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            data[(random >> 20) % bytes] ^= (unsigned char)(1u << ((random >> 10) & 7));
        }
    }
    snprintf(path, sizeof path, "%s/%s", variant_folder,
             config.filename ? config.filename : "model.onnx");
    FILE *file = fopen(path, "wb");
    bool good = file && fwrite(data, 1, bytes, file) == bytes;
    good = file && fclose(file) == 0 && good;
    free(data);
    return good;
}

static void check_variants(void)
{
    struct drive drive;
    struct drive_tensor inputs[TENSORS_MAX];
    struct drive_config with = config;
    with.directory = variant_folder;
    fake_host_set_quiet(true);
    if (!EXPECT(drive_open(&drive, &with) && drive_start(&drive), "%s", drive.error)) {
        return;
    }
    for (; progress->at < mutations; progress->at++) {
        alarm(CHECK_SECONDS / 4);
        if (!EXPECT(write_variant(progress->at), "%s", strerror(errno))) {
            return;
        }
        if (!drive_load(&drive)) {
            progress->refused++;
            EXPECT(drive.error[0], "variant %u is refused without a sentence", progress->at);
            continue;
        }
        progress->loaded++;
        uint32_t count = make_inputs(&drive, inputs, 2);
        fake_request_destroy(drive_run(&drive, inputs, count));
        drive_tensors_free(inputs, count);
        drive_unload(&drive);
    }
    drive_close(&drive);
}

static bool check_damaged_files(void)
{
    char path[4200];
    bool good = true;
    snprintf(path, sizeof path, "%s/%s", config.directory,
             config.filename ? config.filename : "model.onnx");
    original = read_file(path, &original_bytes);
    progress =
        mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!original || progress == MAP_FAILED || !mkdtemp(variant_folder)) {
        printf("  %s: %s\n", path, strerror(errno));
        return false;
    }
    while (progress->at < mutations) {
        uint32_t from = progress->at;
        if (!run_apart(check_variants)) {
            printf("  at variant %u (from %u)\n", progress->at, from);
            progress->at++;
            good = false;
        }
    }
    printf("  %u variants: %u refused, %u loaded and ran\n", mutations, progress->refused,
           progress->loaded);
    snprintf(path, sizeof path, "%s/%s", variant_folder,
             config.filename ? config.filename : "model.onnx");
    unlink(path);
    rmdir(variant_folder);
    free(original);
    return good;
}

/* NAME:DTYPE:DIMS[=FILE], DIMS like 2,3 or empty for a scalar. */
static bool parse_tensor(char *text)
{
    struct drive_tensor *tensor = &given[given_count];
    int64_t shape[FAKE_RANK_MAX];
    uint32_t rank = 0;
    char *file = strchr(text, '=');
    char *dtype = strchr(text, ':');
    char *dims = dtype ? strchr(dtype + 1, ':') : NULL;
    if (!dims || given_count == TENSORS_MAX) {
        return false;
    }
    if (file) {
        *file++ = '\0';
    }
    *dtype++ = '\0';
    *dims++ = '\0';
    for (char *at = dims; *at && rank < FAKE_RANK_MAX;) {
        shape[rank++] = strtoll(at, &at, 10);
        at += *at == ',';
    }
    drive_tensor_fill(tensor, text, fake_dtype_from_name(dtype), shape, rank);
    if (file) {
        free(tensor->data);
        tensor->data = read_file(file, &tensor->bytes);
    }
    given_count++;
    return tensor->dtype != MODELD_DTYPE_INVALID && tensor->data;
}

static bool parse_pair(char *text, struct modeld_option *options, uint32_t *count)
{
    char *value = strchr(text, '=');
    if (!value || *count == DRIVE_OPTIONS_MAX) {
        return false;
    }
    *value++ = '\0';
    options[(*count)++] = (struct modeld_option){text, value};
    return true;
}

static bool parse_number(const char *text, uint32_t *out)
{
    *out = (uint32_t)strtoul(text, NULL, 10);
    return true;
}

static const char usage[] =
    "usage: modeld_backend_check [options] BACKEND.so MODEL_FOLDER\n"
    "Takes a backend library through the modeld backend interface with one model.\n"
    "  --file NAME            file of the model in its folder (default_model_filename)\n"
    "  --config FILE          model configuration as JSON\n"
    "  --max-batch-size N     as in the configuration (0)\n"
    "  --parameter KEY=VALUE  of the model; may be repeated\n"
    "  --option KEY=VALUE     of the backend; may be repeated\n"
    "  --threads N            size of the engine's thread pool (1)\n"
    "  --tensor NAME:DTYPE:DIMS[=FILE]\n"
    "                         an input, with raw bytes from a file; without any, inputs are made up\n"
    "  --expect NAME=FILE     raw bytes that an output must have\n"
    "  --runs N               requests of each thread (50)\n"
    "  --damage N             also loads N damaged variants of the model file\n"
    "  --rss-slack MIB        how much resident memory may grow in repeated loads (8)\n"
    "  --no-files             the backend reads no files: models without one are right\n"
    "  --only TEXT            only the checks whose name contains it\n";

static const char *only;

/* Returns how many arguments were used; 0 = cannot be understood. */
static int parse_option(const char *name, char *value)
{
    uint32_t number = 0;
    bool good = value;
    if (!strcmp(name, "--no-files")) {
        loads_files = false;
        return 1;
    }
    if (!value) {
        return 0;
    }
    if (!strcmp(name, "--file")) {
        config.filename = value;
    } else if (!strcmp(name, "--config")) {
        uint64_t bytes = 0;
        char *json = read_file(value, &bytes);
        if (json) {
            json[bytes] = '\0';
        }
        config.config_json = json;
        good = json;
    } else if (!strcmp(name, "--max-batch-size")) {
        good = parse_number(value, &number);
        config.max_batch_size = number;
    } else if (!strcmp(name, "--parameter")) {
        good = parse_pair(value, config.parameters, &config.parameter_count);
    } else if (!strcmp(name, "--option")) {
        good = parse_pair(value, config.options, &config.option_count);
    } else if (!strcmp(name, "--threads")) {
        good = parse_number(value, &config.engine_threads);
    } else if (!strcmp(name, "--tensor")) {
        good = parse_tensor(value);
    } else if (!strcmp(name, "--expect")) {
        struct modeld_option pair[DRIVE_OPTIONS_MAX];
        uint32_t count = 0;
        good = expectation_count < TENSORS_MAX && parse_pair(value, pair, &count);
        if (good) {
            struct expectation *expectation = &expectations[expectation_count++];
            snprintf(expectation->name, sizeof expectation->name, "%s", pair[0].key);
            expectation->file = pair[0].value;
        }
    } else if (!strcmp(name, "--runs")) {
        good = parse_number(value, &runs);
    } else if (!strcmp(name, "--damage")) {
        good = parse_number(value, &mutations);
    } else if (!strcmp(name, "--rss-slack")) {
        rss_slack_mib = strtod(value, NULL);
    } else if (!strcmp(name, "--only")) {
        only = value;
    } else {
        good = false;
    }
    return good ? 2 : 0;
}

int main(int argc, char **argv)
{
    /* As the server does first thing: large blocks go back to the system when they are freed. */
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    int at = 1;
    if (argc == 2 && !strcmp(argv[1], "--help")) {
        fputs(usage, stdout);
        return 0;
    }
    while (at < argc && argv[at][0] == '-') {
        int used = parse_option(argv[at], at + 1 < argc ? argv[at + 1] : NULL);
        if (!used) {
            fprintf(stderr, "cannot understand %s\n%s", argv[at], usage);
            return 2;
        }
        at += used;
    }
    if (argc - at != 2) {
        fputs(usage, stderr);
        return 2;
    }
    config.library = argv[at];
    config.directory = argv[at + 1];
    uint32_t passed = 0;
    uint32_t failed = 0;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        if (only && !strstr(checks[i].name, only)) {
            continue;
        }
        bool good = run_apart(checks[i].run);
        printf("%s - %s\n", good ? "ok" : "BAD", checks[i].name);
        passed += good;
        failed += !good;
    }
    if (mutations && (!only || strstr("damaged files", only))) {
        bool good = check_damaged_files();
        printf("%s - damaged files\n", good ? "ok" : "BAD");
        passed += good;
        failed += !good;
    }
    drive_tensors_free(given, given_count);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}
