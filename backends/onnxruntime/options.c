/*
 * A table of keys with an applier each. A key with a dot that the table does not have and that
 * begins like one of the engine's own ("session.", "optimization.", "ep.") is handed to the engine
 * as it is; every other key belongs to somebody else.
 *
 * Threads: sessions share the process's pool. A model that sets a thread count or runs its branches
 * in parallel gets pools of its own, since the shared one has one size for all.
 */
#include "options.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { THREADS_MAX = 1024 };

struct applier {
    const char *key;
    int32_t low;
    int32_t high;
    OrtStatus *(*apply)(OrtSessionOptions *options, int32_t value);
};

static OrtStatus *set_intra_op(OrtSessionOptions *options, int32_t value)
{
    return md_ort.api->SetIntraOpNumThreads(options, value);
}

static OrtStatus *set_inter_op(OrtSessionOptions *options, int32_t value)
{
    return md_ort.api->SetInterOpNumThreads(options, value);
}

static OrtStatus *set_execution_mode(OrtSessionOptions *options, int32_t value)
{
    return md_ort.api->SetSessionExecutionMode(options, value ? ORT_PARALLEL : ORT_SEQUENTIAL);
}

static OrtStatus *set_arena(OrtSessionOptions *options, int32_t value)
{
    return value ? md_ort.api->EnableCpuMemArena(options) : md_ort.api->DisableCpuMemArena(options);
}

static OrtStatus *set_pattern(OrtSessionOptions *options, int32_t value)
{
    return value ? md_ort.api->EnableMemPattern(options) : md_ort.api->DisableMemPattern(options);
}

static OrtStatus *set_log_severity(OrtSessionOptions *options, int32_t value)
{
    return md_ort.api->SetSessionLogSeverityLevel(options, value);
}

static const struct applier appliers[] = {
    {"intra_op_thread_count", 0, THREADS_MAX, set_intra_op},
    {"inter_op_thread_count", 0, THREADS_MAX, set_inter_op},
    {"execution_mode", 0, 1, set_execution_mode},
    {"enable_mem_arena", 0, 1, set_arena},
    {"enable_mem_pattern", 0, 1, set_pattern},
    {"log_severity_level", 0, 4, set_log_severity},
};

static const char *const passed_on[] = {"session.", "optimization.", "ep."};

const char *md_ort_parameter(const struct modeld_model_args *args, const char *key)
{
    for (uint32_t i = 0; i < args->parameter_count; i++) {
        const struct modeld_option *option =
            md_ort_option(args->parameters, args->parameter_stride, i);
        if (!strcmp(option->key, key)) {
            return option->value;
        }
    }
    return NULL;
}

static int32_t apply_parameter(OrtSessionOptions *options, const struct modeld_option *option,
                               struct modeld_text *error)
{
    for (size_t i = 0; i < sizeof appliers / sizeof appliers[0]; i++) {
        if (strcmp(option->key, appliers[i].key) != 0) {
            continue;
        }
        int32_t value;
        if (!md_ort_parse_int(option->value, appliers[i].low, appliers[i].high, &value)) {
            return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                               "parameter %s is '%s', expected a number from %d to %d", option->key,
                               option->value, appliers[i].low, appliers[i].high);
        }
        return md_ort_check(appliers[i].apply(options, value), error, "parameter %s = %s",
                            option->key, option->value);
    }
    for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++) {
        if (!strncmp(option->key, passed_on[i], strlen(passed_on[i]))) {
            return md_ort_check(
                md_ort.api->AddSessionConfigEntry(options, option->key, option->value), error,
                "parameter %s = %s", option->key, option->value);
        }
    }
    return MODELD_OK;
}

static int32_t choose_threads(const struct modeld_model_args *args, OrtSessionOptions *options,
                              struct modeld_text *error)
{
    static const char what[] = "threads of the session";
    const char *intra_op = md_ort_parameter(args, "intra_op_thread_count");
    const char *inter_op = md_ort_parameter(args, "inter_op_thread_count");
    const char *mode = md_ort_parameter(args, "execution_mode");
    bool parallel = mode && !strcmp(mode, "1");
    if (!intra_op && !inter_op && !parallel) {
        return md_ort_check(md_ort.api->DisablePerSessionThreads(options), error, what);
    }
    int32_t code = MODELD_OK;
    if (!intra_op) {
        code = md_ort_check(set_intra_op(options, md_ort.intra_op_thread_count), error, what);
    }
    if (!code && !inter_op) {
        code = md_ort_check(set_inter_op(options, parallel ? md_ort.intra_op_thread_count : 1),
                            error, what);
    }
    static const char *const spinning[] = {"session.intra_op.allow_spinning",
                                           "session.inter_op.allow_spinning"};
    for (size_t i = 0; !code && i < sizeof spinning / sizeof spinning[0]; i++) {
        code =
            md_ort_check(md_ort.api->AddSessionConfigEntry(options, spinning[i], "0"), error, what);
    }
    return code;
}

/* The field's numbers: 0 is everything, -1 basic, 1 extended, 2 nothing. */
static int32_t set_level(int32_t level, OrtSessionOptions *options, struct modeld_text *error)
{
    static const GraphOptimizationLevel levels[] = {ORT_ENABLE_BASIC, ORT_ENABLE_ALL,
                                                    ORT_ENABLE_EXTENDED, ORT_DISABLE_ALL};
    if (level < -1 || level > 2) {
        return md_ort_fail(
            error, MODELD_INVALID_ARGUMENT,
            "optimization.graph.level is %d, expected -1 (basic), 0 (all), 1 (extended) or 2 (none)",
            level);
    }
    return md_ort_check(md_ort.api->SetSessionGraphOptimizationLevel(options, levels[level + 1]),
                        error, "optimization.graph.level %d", level);
}

static int32_t append_provider(const char *accelerator, OrtSessionOptions *options,
                               struct modeld_text *error)
{
    static const char suffix[] = "ExecutionProvider";
    char **providers = NULL;
    int count = 0;
    if (!strcasecmp(accelerator, "cpu")) {
        return MODELD_OK; /* always there, behind all others */
    }
    int32_t code = md_ort_check(md_ort.api->GetAvailableProviders(&providers, &count), error,
                                "execution accelerator '%s'", accelerator);
    if (code) {
        return code;
    }
    char names[512] = "";
    char name[64] = ""; /* "XNNPACK" for "XNNPACKExecutionProvider", in the engine's own spelling */
    for (int i = 0; i < count; i++) {
        size_t length = strlen(providers[i]);
        length -= length > sizeof suffix - 1 ? sizeof suffix - 1 : 0;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%.*s", used ? ", " : "", (int)length,
                 providers[i]);
        if (strlen(accelerator) == length && !strncasecmp(accelerator, providers[i], length)) {
            snprintf(name, sizeof name, "%.*s", (int)length, providers[i]);
        }
    }
    code = md_ort_check(md_ort.api->ReleaseAvailableProviders(providers, count), error,
                        "execution accelerator");
    if (code) {
        return code;
    }
    if (!*name) {
        return md_ort_fail(error, MODELD_UNIMPLEMENTED,
                           "execution accelerator '%s' is not in this ONNX Runtime, which has: %s",
                           accelerator, names);
    }
    return md_ort_check(
        md_ort.api->SessionOptionsAppendExecutionProvider(options, name, NULL, NULL, 0), error,
        "execution accelerator '%s'", accelerator);
}

static int32_t configure(const struct modeld_model_args *args, OrtSessionOptions *options,
                         struct modeld_text *error)
{
    char log_id[256];
    snprintf(log_id, sizeof log_id, "model '%s' version %lld", args->name,
             (long long)args->version);
    int32_t code = md_ort_check(md_ort.api->SetSessionLogId(options, log_id), error, "log id");
    if (!code) {
        /* The engine's warnings repeat with every run: a request must not be able to fill the log.
         */
        code =
            md_ort_check(set_log_severity(options, ORT_LOGGING_LEVEL_ERROR), error, "log severity");
    }
    if (!code) {
        code = choose_threads(args, options, error);
    }
    if (!code) {
        code = set_level(args->optimization_level, options, error);
    }
    for (uint32_t i = 0; !code && i < args->parameter_count; i++) {
        code = apply_parameter(options, md_ort_option(args->parameters, args->parameter_stride, i),
                               error);
    }
    for (uint32_t i = 0; !code && i < args->accelerator_count; i++) {
        code = append_provider(args->accelerators[i], options, error);
    }
    for (uint32_t i = 0; !code && i < args->op_library_count; i++) {
        code = md_ort_check(md_ort.api->RegisterCustomOpsLibrary_V2(options, args->op_libraries[i]),
                            error, "custom-op library '%s'", args->op_libraries[i]);
    }
    return code;
}

int32_t md_ort_options_create(const struct modeld_model_args *args, OrtSessionOptions **options,
                              struct modeld_text *error)
{
    *options = NULL;
    int32_t code =
        md_ort_check(md_ort.api->CreateSessionOptions(options), error, "session options");
    if (!code) {
        code = configure(args, *options, error);
    }
    if (code && *options) {
        md_ort.api->ReleaseSessionOptions(*options);
        *options = NULL;
    }
    return code;
}
