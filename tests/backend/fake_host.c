/*
 * One lock around fixed tables. A handle is slot number + generation, so that a stale one is
 * noticed.
 */
#include "fake_host.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { REQUESTS_MAX = 4096, BUFFERS_MAX = 4096, RELEASES_MAX = 4096, GENERATION_SHIFT = 16 };

struct request {
    uint64_t generation;
    bool used;
    bool cancelled;
    struct fake_result *result;
};

struct buffer {
    uint64_t generation;
    void *data; /* own; NULL = free slot */
    uint64_t bytes;
    modeld_request request;
};

struct release {
    void (*run)(void *arg);
    void *arg;
    const void *data; /* what the backend promised to keep until then */
    void *copy;       /* own */
    uint64_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finished = PTHREAD_COND_INITIALIZER;
static struct request requests[REQUESTS_MAX];
static struct buffer buffers[BUFFERS_MAX];
static struct release releases[RELEASES_MAX];
static uint32_t release_count;
static uint32_t breaches;
static uint32_t log_lines[MODELD_LOG_VERBOSE + 1];
static enum fake_release release_mode;
static bool refuses_buffers;
static bool is_quiet;

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    [MODELD_DTYPE_BOOL] = {"BOOL", 1},     [MODELD_DTYPE_UINT8] = {"UINT8", 1},
    [MODELD_DTYPE_UINT16] = {"UINT16", 2}, [MODELD_DTYPE_UINT32] = {"UINT32", 4},
    [MODELD_DTYPE_UINT64] = {"UINT64", 8}, [MODELD_DTYPE_INT8] = {"INT8", 1},
    [MODELD_DTYPE_INT16] = {"INT16", 2},   [MODELD_DTYPE_INT32] = {"INT32", 4},
    [MODELD_DTYPE_INT64] = {"INT64", 8},   [MODELD_DTYPE_FP16] = {"FP16", 2},
    [MODELD_DTYPE_FP32] = {"FP32", 4},     [MODELD_DTYPE_FP64] = {"FP64", 8},
    [MODELD_DTYPE_BYTES] = {"BYTES", 0},   [MODELD_DTYPE_BF16] = {"BF16", 2},
};
enum { DTYPE_COUNT = sizeof dtypes / sizeof dtypes[0] };

size_t fake_dtype_bytes(uint32_t dtype)
{
    return dtype < DTYPE_COUNT ? dtypes[dtype].bytes : 0;
}

const char *fake_dtype_name(uint32_t dtype)
{
    return dtype < DTYPE_COUNT && dtypes[dtype].name ? dtypes[dtype].name : "INVALID";
}

uint32_t fake_dtype_from_name(const char *name)
{
    for (uint32_t i = 1; i < DTYPE_COUNT; i++) {
        if (!strcmp(dtypes[i].name, name)) {
            return i;
        }
    }
    return MODELD_DTYPE_INVALID;
}

__attribute__((format(printf, 1, 2))) static void breach(const char *format, ...)
{
    va_list args;
    breaches++;
    fputs("  breach of the contract: ", stdout);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

/* Under the lock. NULL for a handle that is not alive. */
static struct request *find_request(modeld_request handle)
{
    uint64_t slot = handle & ((1u << GENERATION_SHIFT) - 1);
    if (slot >= REQUESTS_MAX || !requests[slot].used ||
        requests[slot].generation != handle >> GENERATION_SHIFT) {
        return NULL;
    }
    return &requests[slot];
}

static struct buffer *find_buffer(modeld_buffer handle)
{
    uint64_t slot = handle & ((1u << GENERATION_SHIFT) - 1);
    if (slot >= BUFFERS_MAX || !buffers[slot].data ||
        buffers[slot].generation != handle >> GENERATION_SHIFT) {
        return NULL;
    }
    return &buffers[slot];
}

static void drop_buffer(struct buffer *buffer)
{
    free(buffer->data);
    buffer->data = NULL;
}

static void host_log(uint32_t level, const char *text)
{
    static const char *const names[] = {"error", "warning", "info", "verbose"};
    pthread_mutex_lock(&lock);
    if (level > MODELD_LOG_VERBOSE) {
        breach("log level %u", level);
    } else {
        log_lines[level]++;
        if (!is_quiet) {
            printf("  backend %s: %s\n", names[level], text);
        }
    }
    pthread_mutex_unlock(&lock);
}

static modeld_buffer host_buffer_create(modeld_request request, uint64_t bytes, void **data)
{
    modeld_buffer handle = 0;
    pthread_mutex_lock(&lock);
    if (!find_request(request)) {
        breach("buffer_create for a request that is not alive");
    }
    for (uint64_t i = 0; !refuses_buffers && i < BUFFERS_MAX; i++) {
        if (!buffers[i].data) {
            buffers[i].data = aligned_alloc(64, (bytes + 64) / 64 * 64);
            buffers[i].bytes = bytes;
            buffers[i].request = request;
            buffers[i].generation++;
            *data = buffers[i].data;
            handle = buffers[i].generation << GENERATION_SHIFT | i;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return handle;
}

static void host_buffer_destroy(modeld_buffer handle)
{
    pthread_mutex_lock(&lock);
    struct buffer *buffer = find_buffer(handle);
    if (buffer) {
        drop_buffer(buffer);
    } else {
        breach("buffer_destroy of a buffer that the backend does not own");
    }
    pthread_mutex_unlock(&lock);
}

/* Checks that bytes, shape and type agree; BYTES element by element. */
static bool is_consistent(const struct modeld_tensor *tensor)
{
    uint64_t count = 1;
    if (!tensor->name || tensor->dtype == 0 || tensor->dtype >= DTYPE_COUNT ||
        tensor->rank > FAKE_RANK_MAX || (tensor->rank && !tensor->shape)) {
        return false;
    }
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] < 0 ||
            __builtin_mul_overflow(count, (uint64_t)tensor->shape[i], &count)) {
            return false;
        }
    }
    if (tensor->dtype != MODELD_DTYPE_BYTES) {
        return count * dtypes[tensor->dtype].bytes == tensor->bytes &&
               (tensor->data || !tensor->bytes);
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t length;
        if (tensor->bytes - at < sizeof length) {
            return false;
        }
        memcpy(&length, (const char *)tensor->data + at, sizeof length);
        at += sizeof length;
        if (tensor->bytes - at < length) {
            return false;
        }
        at += length;
    }
    return at == tensor->bytes;
}

static void keep_output(struct fake_output *kept, const struct modeld_output *output)
{
    const struct modeld_tensor *tensor = &output->tensor;
    snprintf(kept->name, sizeof kept->name, "%s", tensor->name);
    kept->dtype = tensor->dtype;
    kept->rank = tensor->rank;
    if (tensor->rank) {
        memcpy(kept->shape, tensor->shape, tensor->rank * sizeof *tensor->shape);
    }
    kept->bytes = tensor->bytes;
    kept->memory = output->memory;
    free(kept->data);
    kept->data = malloc(tensor->bytes + 1);
    if (tensor->bytes) {
        memcpy(kept->data, tensor->data, tensor->bytes);
    }
}

/* Takes an output's memory over, whatever becomes of the response. Outside the lock: release may
 * call the host. */
static void take_memory(const struct modeld_output *output)
{
    if (output->memory == MODELD_OUTPUT_BUFFER) {
        pthread_mutex_lock(&lock);
        struct buffer *buffer = find_buffer(output->buffer);
        if (buffer) {
            drop_buffer(buffer);
        } else {
            breach("output '%s' hands over a buffer that the backend does not own",
                   output->tensor.name);
        }
        pthread_mutex_unlock(&lock);
    } else if (output->memory == MODELD_OUTPUT_OWN) {
        if (release_mode == FAKE_RELEASE_AT_ONCE) {
            output->release(output->release_arg);
            return;
        }
        pthread_mutex_lock(&lock);
        struct release *release = &releases[release_count++ % RELEASES_MAX];
        *release = (struct release){output->release, output->release_arg, output->tensor.data,
                                    malloc(output->tensor.bytes + 1), output->tensor.bytes};
        if (release->bytes) {
            memcpy(release->copy, release->data, release->bytes);
        }
        pthread_mutex_unlock(&lock);
    }
}

/* Under the lock: what becomes of a response, before anything is taken over. */
static int32_t judge(modeld_request handle, const struct modeld_response *response)
{
    struct request *request = find_request(handle);
    if (!request) {
        breach("respond for a request that is not alive");
        return MODELD_INVALID_ARGUMENT;
    }
    if (request->result->finish_count) {
        breach("respond after finish");
        return MODELD_INVALID_ARGUMENT;
    }
    if (response->struct_size < sizeof *response ||
        response->output_stride < sizeof(struct modeld_output)) {
        breach("a response with struct_size %u, output_stride %u", response->struct_size,
               response->output_stride);
        return MODELD_INVALID_ARGUMENT;
    }
    return request->cancelled ? MODELD_CANCELLED : MODELD_OK;
}

static const struct modeld_output *output_at(const struct modeld_response *response, uint32_t i)
{
    return (const struct modeld_output *)((const char *)response->outputs +
                                          (size_t)response->output_stride * i);
}

static int32_t host_respond(modeld_request handle, const struct modeld_response *response)
{
    pthread_mutex_lock(&lock);
    int32_t code = judge(handle, response);
    struct request *request = find_request(handle);
    for (uint32_t i = 0; code == MODELD_OK && i < response->output_count; i++) {
        const struct modeld_output *output = output_at(response, i);
        if (i >= FAKE_OUTPUTS_MAX || !is_consistent(&output->tensor)) {
            breach("output '%s' contradicts itself: %s, rank %u, %llu bytes", output->tensor.name,
                   fake_dtype_name(output->tensor.dtype), output->tensor.rank,
                   (unsigned long long)output->tensor.bytes);
            code = MODELD_INVALID_ARGUMENT;
            break;
        }
        keep_output(&request->result->outputs[i], output);
    }
    if (code == MODELD_OK) {
        request->result->response_count++;
        request->result->output_count = response->output_count;
    }
    pthread_mutex_unlock(&lock);
    for (uint32_t i = 0; i < response->output_count; i++) {
        take_memory(output_at(response, i));
    }
    return code;
}

static int32_t host_finish(modeld_request handle, int32_t code, const char *text, uint32_t how)
{
    int32_t answer = how == MODELD_FINISH_FINAL ? MODELD_OK : MODELD_UNIMPLEMENTED;
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    if (!request || request->result->finish_count) {
        breach(request ? "a request is finished twice" : "finish of a request that is not alive");
        answer = MODELD_INVALID_ARGUMENT;
    } else if (answer == MODELD_OK) {
        request->result->finish_count++;
        request->result->code = code;
        snprintf(request->result->text, sizeof request->result->text, "%s", text ? text : "");
        pthread_cond_broadcast(&finished);
    }
    pthread_mutex_unlock(&lock);
    return answer;
}

static int32_t host_is_cancelled(modeld_request handle)
{
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    if (!request || request->result->finish_count) {
        breach("is_cancelled for a request that is finished");
    }
    int32_t cancelled = request && request->cancelled;
    pthread_mutex_unlock(&lock);
    return cancelled;
}

#define HOST_FUNCTIONS                                                             \
    .abi_major = MODELD_ABI_MAJOR, .abi_minor = MODELD_ABI_MINOR, .log = host_log, \
    .buffer_create = host_buffer_create, .buffer_destroy = host_buffer_destroy,    \
    .respond = host_respond, .finish = host_finish, .is_cancelled = host_is_cancelled

const struct modeld_host_api *fake_host_api(bool grown)
{
    static const struct modeld_host_api plain = {.struct_size = sizeof plain, HOST_FUNCTIONS};
    static const struct {
        struct modeld_host_api api;
        void *unknown[16];
    } later = {.api = {.struct_size = sizeof later, HOST_FUNCTIONS},
               .unknown = {(void *)(uintptr_t)0xdead, (void *)(uintptr_t)0xdead}};
    return grown ? &later.api : &plain;
}

void fake_host_set_release(enum fake_release when)
{
    release_mode = when;
}

static void *release_thread(void *arg)
{
    (void)arg;
    for (uint32_t i = 0; i < release_count && i < RELEASES_MAX; i++) {
        struct release *release = &releases[i];
        if (release->bytes && memcmp(release->data, release->copy, release->bytes) != 0) {
            pthread_mutex_lock(&lock);
            breach("an output changed before it was released");
            pthread_mutex_unlock(&lock);
        }
        free(release->copy);
        release->run(release->arg);
    }
    release_count = 0;
    return NULL;
}

void fake_host_release_all(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, release_thread, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

void fake_host_refuse_buffers(bool yes)
{
    refuses_buffers = yes;
}

void fake_host_set_quiet(bool yes)
{
    is_quiet = yes;
}

uint32_t fake_host_breaches(void)
{
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < BUFFERS_MAX; i++) {
        if (buffers[i].data) {
            breach("a buffer of %llu bytes was never handed over or destroyed",
                   (unsigned long long)buffers[i].bytes);
            drop_buffer(&buffers[i]);
        }
    }
    uint32_t count = breaches;
    pthread_mutex_unlock(&lock);
    return count;
}

uint32_t fake_host_log_lines(uint32_t level)
{
    pthread_mutex_lock(&lock);
    uint32_t count = log_lines[level];
    log_lines[level] = 0;
    pthread_mutex_unlock(&lock);
    return count;
}

modeld_request fake_request_create(void)
{
    modeld_request handle = 0;
    pthread_mutex_lock(&lock);
    for (uint64_t i = 0; i < REQUESTS_MAX; i++) {
        struct request *request = &requests[i];
        if (!request->used) {
            request->used = true;
            request->cancelled = false;
            request->result = calloc(1, sizeof *request->result);
            handle = ++request->generation << GENERATION_SHIFT | i;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return handle;
}

void fake_request_cancel(modeld_request handle)
{
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    if (request) {
        request->cancelled = true;
    }
    pthread_mutex_unlock(&lock);
}

bool fake_request_wait(modeld_request handle, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    int rc = 0;
    while (request && !request->result->finish_count && rc == 0) {
        rc = pthread_cond_timedwait(&finished, &lock, &until);
    }
    bool done = request && request->result->finish_count;
    if (!done) {
        breach("a request was not finished within %d ms", timeout_ms);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

const struct fake_result *fake_request_result(modeld_request handle)
{
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    const struct fake_result *result = request ? request->result : NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

void fake_request_destroy(modeld_request handle)
{
    pthread_mutex_lock(&lock);
    struct request *request = find_request(handle);
    if (request) {
        for (uint32_t i = 0; i < FAKE_OUTPUTS_MAX; i++) {
            free(request->result->outputs[i].data);
        }
        free(request->result);
        request->result = NULL;
        request->used = false;
    }
    pthread_mutex_unlock(&lock);
}
