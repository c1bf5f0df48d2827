/*
 * Finding the engine's library, starting its environment, turning its errors into ours.
 *
 * The library is opened when the first model needs the backend, never at link time: a server
 * without ONNX models pays nothing. One environment has one pool of threads for all sessions; idle
 * workers sleep instead of spinning, because the cores belong to the loops and executors between
 * two batches.
 */
#include "engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct modeld_host_api *md_ort_host;
struct md_ort_engine md_ort;

/* Some of the engine's messages end with line breaks. */
static int line_length(const char *message)
{
    size_t length = strlen(message);
    while (length && (message[length - 1] == '\n' || message[length - 1] == ' ')) {
        length--;
    }
    return length < INT_MAX ? (int)length : INT_MAX;
}

static void set_text(struct modeld_text *error, const char *detail, const char *format,
                     va_list args)
{
    if (!error || error->capacity == 0) {
        return;
    }
    int n = vsnprintf(error->text, error->capacity, format, args);
    if (n < 0) {
        n = 0;
        error->text[0] = '\0';
    }
    size_t used = (size_t)n;
    if (detail && used < error->capacity) {
        snprintf(error->text + used, error->capacity - used, ": %.*s", line_length(detail), detail);
    }
}

int32_t md_ort_fail(struct modeld_text *error, int32_t code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_text(error, NULL, format, args);
    va_end(args);
    return code;
}

int32_t md_ort_no_memory(struct modeld_text *error)
{
    return md_ort_fail(error, MODELD_RESOURCE_EXHAUSTED, "out of memory");
}

static int32_t code_of(OrtErrorCode code, const char *message)
{
    static const int32_t codes[] = {
        [ORT_FAIL] = MODELD_INTERNAL,
        [ORT_INVALID_ARGUMENT] = MODELD_INVALID_ARGUMENT,
        [ORT_NO_SUCHFILE] = MODELD_NOT_FOUND,
        [ORT_NO_MODEL] = MODELD_NOT_FOUND,
        [ORT_ENGINE_ERROR] = MODELD_INTERNAL,
        [ORT_RUNTIME_EXCEPTION] = MODELD_INTERNAL,
        [ORT_INVALID_PROTOBUF] = MODELD_INVALID_ARGUMENT,
        [ORT_MODEL_LOADED] = MODELD_FAILED_PRECONDITION,
        [ORT_NOT_IMPLEMENTED] = MODELD_UNIMPLEMENTED,
        [ORT_INVALID_GRAPH] = MODELD_INVALID_ARGUMENT,
        [ORT_EP_FAIL] = MODELD_INTERNAL,
    };
    /* The engine has no code of its own for exhausted memory: these are its words for it. */
    if (strstr(message, "bad_alloc") || strstr(message, "Failed to allocate memory")) {
        return MODELD_RESOURCE_EXHAUSTED;
    }
    if ((size_t)code < sizeof codes / sizeof codes[0] && codes[code]) {
        return codes[code];
    }
    return MODELD_INTERNAL;
}

int32_t md_ort_check(OrtStatus *status, struct modeld_text *error, const char *format, ...)
{
    if (!status) {
        return MODELD_OK;
    }
    const char *message = md_ort.api->GetErrorMessage(status);
    int32_t code = code_of(md_ort.api->GetErrorCode(status), message);
    va_list args;
    va_start(args, format);
    set_text(error, message, format, args);
    va_end(args);
    md_ort.api->ReleaseStatus(status);
    return code;
}

void md_ort_log(uint32_t level, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    md_ort_host->log(level, text);
}

bool md_ort_parse_int(const char *text, int32_t low, int32_t high, int32_t *out)
{
    char *end = NULL;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end != '\0' || value < low || value > high) {
        return false;
    }
    *out = (int32_t)value;
    return true;
}

static void ORT_API_CALL on_engine_log(void *param, OrtLoggingLevel severity, const char *category,
                                       const char *log_id, const char *code_location,
                                       const char *message)
{
    (void)param;
    (void)category;
    (void)code_location;
    static const uint32_t levels[] = {
        [ORT_LOGGING_LEVEL_VERBOSE] = MODELD_LOG_VERBOSE,
        [ORT_LOGGING_LEVEL_INFO] = MODELD_LOG_INFO,
        [ORT_LOGGING_LEVEL_WARNING] = MODELD_LOG_WARNING,
        [ORT_LOGGING_LEVEL_ERROR] = MODELD_LOG_ERROR,
        [ORT_LOGGING_LEVEL_FATAL] = MODELD_LOG_ERROR,
    };
    uint32_t level = (size_t)severity < sizeof levels / sizeof levels[0]
                         ? levels[severity]
                         : (uint32_t)MODELD_LOG_ERROR;
    if (log_id && *log_id) {
        md_ort_log(level, "%s: %.*s", log_id, line_length(message), message);
    } else {
        md_ort_log(level, "%.*s", line_length(message), message);
    }
}

/* Tries the names that the library has in its packages. A file that is there but cannot be opened
 * is the answer. */
static void *open_in(const char *directory, char *problem, size_t problem_bytes)
{
    static const char *const names[] = {"libonnxruntime.so.1.32.0", "libonnxruntime.so.1",
                                        "libonnxruntime.so"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[4096];
        int n = snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        if (n < 0 || (size_t)n >= sizeof path || access(path, F_OK) != 0) {
            continue;
        }
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library) {
            return library;
        }
        snprintf(problem, problem_bytes, "%s", dlerror());
    }
    return NULL;
}

static int32_t open_library(const char *path, const char *directory, void **library,
                            struct modeld_text *error)
{
    char problem[512] = "";
    *library = NULL;
    if (path) {
        *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!*library) {
            return md_ort_fail(error, MODELD_NOT_FOUND,
                               "cannot open ONNX Runtime (option library-path): %s", dlerror());
        }
        return MODELD_OK;
    }
    if (directory) {
        *library = open_in(directory, problem, sizeof problem);
    }
    if (!*library) {
        *library = open_in(MODELD_ORT_LIBRARY_DIR, problem, sizeof problem);
    }
    if (!*library) {
        return md_ort_fail(
            error, MODELD_NOT_FOUND,
            "ONNX Runtime's library (libonnxruntime.so.1) is neither in '%s' nor in '%s'%s%s; fetch "
            "it with tools/fetch_onnxruntime.sh or name the file with --backend-config "
            "onnxruntime,library-path=FILE",
            directory ? directory : "", MODELD_ORT_LIBRARY_DIR, *problem ? ": " : "", problem);
    }
    return MODELD_OK;
}

static int32_t find_api(void *library, const OrtApi **api, struct modeld_text *error)
{
    union {
        void *object;
        const OrtApiBase *(*function)(void);
    } symbol = {.object = dlsym(library, "OrtGetApiBase")};
    if (!symbol.object) {
        return md_ort_fail(error, MODELD_FAILED_PRECONDITION, "the library is not ONNX Runtime: %s",
                           dlerror());
    }
    const OrtApiBase *base = symbol.function();
    *api = base->GetApi(MD_ORT_API_VERSION);
    if (!*api) {
        return md_ort_fail(error, MODELD_FAILED_PRECONDITION,
                           "ONNX Runtime %s is too old: version 1.%d or later is needed",
                           base->GetVersionString(), (int)MD_ORT_API_VERSION);
    }
    md_ort_log(MODELD_LOG_INFO, "ONNX Runtime %s", base->GetVersionString());
    return MODELD_OK;
}

static int32_t create_env(int32_t intra_op, int32_t inter_op, struct modeld_text *error)
{
    const OrtApi *api = md_ort.api;
    static const char what[] = "ONNX Runtime cannot start";
    OrtThreadingOptions *threading = NULL;
    int32_t code = md_ort_check(api->CreateThreadingOptions(&threading), error, what);
    if (!code) {
        code = md_ort_check(api->SetGlobalIntraOpNumThreads(threading, intra_op), error, what);
    }
    if (!code) {
        code = md_ort_check(api->SetGlobalInterOpNumThreads(threading, inter_op), error, what);
    }
    if (!code) {
        code = md_ort_check(api->SetGlobalSpinControl(threading, 0), error, what);
    }
    if (!code) {
        code = md_ort_check(
            api->CreateEnvWithCustomLoggerAndGlobalThreadPools(
                on_engine_log, NULL, ORT_LOGGING_LEVEL_WARNING, "", threading, &md_ort.env),
            error, what);
    }
    if (threading) {
        api->ReleaseThreadingOptions(threading);
    }
    if (!code) {
        code = md_ort_check(api->DisableTelemetryEvents(md_ort.env), error, what);
    }
    if (!code) {
        code = md_ort_check(
            api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &md_ort.host_memory),
            error, what);
    }
    if (!code) {
        code = md_ort_check(api->GetAllocatorWithDefaultOptions(&md_ort.allocator), error, what);
    }
    return code;
}

int32_t md_ort_engine_create(const struct modeld_backend_args *args, struct modeld_text *error)
{
    enum { THREADS_MAX = 1024 };
    const char *library_path = NULL;
    int32_t intra_op =
        args->engine_threads < THREADS_MAX ? (int32_t)args->engine_threads : (int32_t)THREADS_MAX;
    int32_t inter_op = 1;
    for (uint32_t i = 0; i < args->option_count; i++) {
        const struct modeld_option *option = md_ort_option(args->options, args->option_stride, i);
        bool good = true;
        if (!strcmp(option->key, "library-path")) {
            library_path = option->value;
        } else if (!strcmp(option->key, "intra_op_thread_count")) {
            good = md_ort_parse_int(option->value, 0, THREADS_MAX, &intra_op);
        } else if (!strcmp(option->key, "inter_op_thread_count")) {
            good = md_ort_parse_int(option->value, 0, THREADS_MAX, &inter_op);
        }
        if (!good) {
            return md_ort_fail(
                error, MODELD_INVALID_ARGUMENT,
                "option %s of backend onnxruntime is '%s', expected a number from 0 to %d",
                option->key, option->value, (int)THREADS_MAX);
        }
    }
    /* The engine reports to its maker over the network and keeps a database for that in the home
     * folder; the call of its API comes too late for the latter. Who wants it sets the variable to
     * 0. */
    (void)setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    void *library = NULL;
    int32_t code = open_library(library_path, args->directory, &library, error);
    if (!code) {
        code = find_api(library, &md_ort.api, error);
    }
    if (!code) {
        md_ort.intra_op_thread_count = intra_op;
        code = create_env(intra_op, inter_op, error);
    }
    if (code) {
        md_ort_engine_destroy();
    }
    return code;
}

void md_ort_engine_destroy(void)
{
    if (md_ort.host_memory) {
        md_ort.api->ReleaseMemoryInfo(md_ort.host_memory);
        md_ort.host_memory = NULL;
    }
    if (md_ort.env) {
        md_ort.api->ReleaseEnv(md_ort.env);
        md_ort.env = NULL;
    }
}
