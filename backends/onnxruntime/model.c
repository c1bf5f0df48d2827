/*
 * Loading a model file and describing it.
 *
 * Initializers that the graph also lists as inputs may be overridden by a request: they are shown
 * as optional inputs. Where the model has a batch dimension, those without one of their own cannot
 * differ from request to request; they are not shown and keep the model's value.
 */
#include "model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"
#include "tensor.h"

static const char default_name[] = "model.onnx";

/* Whether a path stays inside the folder that it is relative to. */
static bool is_inside(const char *path)
{
    if (*path == '/' || *path == '\0') {
        return false;
    }
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (!strncmp(part, "..", 2) && (part[2] == '/' || part[2] == '\0')) {
            return false;
        }
    }
    return true;
}

/* <directory>/<filename>; where that is a folder (a model with external data), model.onnx inside
 * it. */
static int32_t find_file(const struct modeld_model_args *args, char *path, size_t capacity,
                         struct modeld_text *error)
{
    const char *filename = args->filename && *args->filename ? args->filename : default_name;
    if (!is_inside(filename)) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "default_model_filename '%s' must be a path inside the version's folder",
                           filename);
    }
    struct stat status;
    int n = snprintf(path, capacity, "%s/%s", args->directory, filename);
    if (n > 0 && (size_t)n < capacity && stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
        n = snprintf(path, capacity, "%s/%s/%s", args->directory, filename, default_name);
    }
    if (n < 0 || (size_t)n >= capacity) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "the path of model file '%s' is too long", filename);
    }
    if (stat(path, &status) != 0) {
        return md_ort_fail(error, MODELD_NOT_FOUND, "there is no model file '%s': %s", path,
                           strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) {
        return md_ort_fail(error, MODELD_NOT_FOUND, "model file '%s' is not a regular file", path);
    }
    if (access(path, R_OK) != 0) {
        return md_ort_fail(error, MODELD_FAILED_PRECONDITION,
                           "model file '%s' may not be read: %s; give the server's user the right",
                           path, strerror(errno));
    }
    return MODELD_OK;
}

/* What the weights take: the model file and everything beside it that is not another model
 * (external data). */
static uint64_t estimate_bytes(const char *path)
{
    uint64_t bytes = 0;
    char directory[4096];
    struct stat status;
    const char *slash = strrchr(path, '/');
    if (stat(path, &status) == 0) {
        bytes = (uint64_t)status.st_size;
    }
    snprintf(directory, sizeof directory, "%.*s", (int)(slash - path), path);
    DIR *stream = opendir(directory);
    if (!stream) {
        return bytes;
    }
    for (struct dirent *entry = readdir(stream); entry; entry = readdir(stream)) {
        const char *dot = strrchr(entry->d_name, '.');
        if ((dot && !strcmp(dot, ".onnx")) || !strcmp(entry->d_name, slash + 1)) {
            continue;
        }
        if (fstatat(dirfd(stream), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode)) {
            bytes += (uint64_t)status.st_size;
        }
    }
    closedir(stream);
    return bytes;
}

static int32_t read_shape(const OrtTensorTypeAndShapeInfo *info, struct modeld_tensor_spec *spec,
                          struct modeld_text *error)
{
    size_t rank;
    size_t count;
    int32_t code =
        md_ort_check(md_ort.api->GetDimensionsCount(info, &rank), error, "tensor '%s'", spec->name);
    if (code) {
        return code;
    }
    if (rank == 0) {
        /* A scalar has one element; a tensor whose rank the model leaves open has none. */
        code = md_ort_check(md_ort.api->GetTensorShapeElementCount(info, &count), error,
                            "tensor '%s'", spec->name);
        spec->rank = !code && count == 0 ? MODELD_RANK_ANY : 0;
        return code;
    }
    int64_t *shape = calloc(rank, sizeof *shape);
    if (!shape) {
        return md_ort_no_memory(error);
    }
    spec->shape = shape;
    spec->rank = (uint32_t)rank;
    return md_ort_check(md_ort.api->GetDimensions(info, shape, rank), error, "tensor '%s'",
                        spec->name);
}

static int32_t read_type(const OrtTypeInfo *type_info, struct modeld_tensor_spec *spec,
                         struct modeld_text *error)
{
    static const char *const kinds[] = {
        [ONNX_TYPE_SEQUENCE] = "a sequence",        [ONNX_TYPE_MAP] = "a map",
        [ONNX_TYPE_OPAQUE] = "an opaque value",     [ONNX_TYPE_SPARSETENSOR] = "a sparse tensor",
        [ONNX_TYPE_OPTIONAL] = "an optional value",
    };
    enum ONNXType kind;
    int32_t code = md_ort_check(md_ort.api->GetOnnxTypeFromTypeInfo(type_info, &kind), error,
                                "tensor '%s'", spec->name);
    if (code) {
        return code;
    }
    if (kind != ONNX_TYPE_TENSOR) {
        bool known = (size_t)kind < sizeof kinds / sizeof kinds[0] && kinds[kind];
        return md_ort_fail(
            error, MODELD_UNIMPLEMENTED,
            "'%s' is %s, only tensors can be sent: convert the model so that it takes and gives tensors",
            spec->name, known ? kinds[kind] : "not a tensor");
    }
    const OrtTensorTypeAndShapeInfo *info = NULL;
    enum ONNXTensorElementDataType type;
    code = md_ort_check(md_ort.api->CastTypeInfoToTensorInfo(type_info, &info), error,
                        "tensor '%s'", spec->name);
    if (!code) {
        code = md_ort_check(md_ort.api->GetTensorElementType(info, &type), error, "tensor '%s'",
                            spec->name);
    }
    if (code) {
        return code;
    }
    spec->dtype = md_ort_dtype_from(type);
    if (spec->dtype == MODELD_DTYPE_INVALID) {
        return md_ort_fail(error, MODELD_UNIMPLEMENTED,
                           "tensor '%s' has element type %s, which the protocol cannot carry",
                           spec->name, md_ort_type_name(type));
    }
    return read_shape(info, spec, error);
}

/* Inputs, initializers and outputs are described by the same pair of functions. */
struct side {
    OrtStatus *(ORT_API_CALL *name)(const OrtSession *, size_t, OrtAllocator *, char **);
    OrtStatus *(ORT_API_CALL *type_info)(const OrtSession *, size_t, OrtTypeInfo **);
};

static int32_t read_spec(const OrtSession *session, const struct side *side, size_t index,
                         struct modeld_tensor_spec *spec, struct modeld_text *error)
{
    char *name = NULL;
    OrtTypeInfo *type_info = NULL;
    int32_t code = md_ort_check(side->name(session, index, md_ort.allocator, &name), error,
                                "tensor %zu", index);
    spec->name = name;
    if (!code) {
        code =
            md_ort_check(side->type_info(session, index, &type_info), error, "tensor '%s'", name);
    }
    if (!code) {
        code = read_type(type_info, spec, error);
    }
    if (type_info) {
        md_ort.api->ReleaseTypeInfo(type_info);
    }
    return code;
}

static void clear_spec(struct modeld_tensor_spec *spec)
{
    free((void *)(uintptr_t)spec->shape);
    if (spec->name) {
        md_ort.allocator->Free(md_ort.allocator, (void *)(uintptr_t)spec->name);
    }
    memset(spec, 0, sizeof *spec);
}

static bool is_batchable(const struct modeld_tensor_spec *spec)
{
    return spec->rank > 0 && spec->rank != MODELD_RANK_ANY && spec->shape[0] < 0;
}

static int32_t read_specs(struct md_ort_model *model, struct modeld_text *error)
{
    const OrtApi *api = md_ort.api;
    const struct side inputs = {api->SessionGetInputName, api->SessionGetInputTypeInfo};
    const struct side initializers = {api->SessionGetOverridableInitializerName,
                                      api->SessionGetOverridableInitializerTypeInfo};
    const struct side outputs = {api->SessionGetOutputName, api->SessionGetOutputTypeInfo};
    size_t input_count;
    size_t initializer_count;
    size_t output_count;
    int32_t code =
        md_ort_check(api->SessionGetInputCount(model->session, &input_count), error, "inputs");
    if (!code) {
        code = md_ort_check(
            api->SessionGetOverridableInitializerCount(model->session, &initializer_count), error,
            "initializers");
    }
    if (!code) {
        code = md_ort_check(api->SessionGetOutputCount(model->session, &output_count), error,
                            "outputs");
    }
    if (code) {
        return code;
    }
    struct modeld_tensor_spec *spec =
        calloc(input_count + initializer_count + output_count + 1, sizeof *spec);
    if (!spec) {
        return md_ort_no_memory(error);
    }
    model->specs = spec;
    for (size_t i = 0; !code && i < input_count; i++) {
        code = read_spec(model->session, &inputs, i, spec++, error);
    }
    model->required_count = (uint32_t)input_count;
    for (size_t i = 0; !code && i < initializer_count; i++) {
        code = read_spec(model->session, &initializers, i, spec, error);
        if (!code && model->has_batch_dimension && !is_batchable(spec)) {
            clear_spec(spec);
        } else {
            spec->optional = 1;
            spec++;
        }
    }
    model->info.input_count = (uint32_t)(spec - model->specs);
    model->info.inputs = model->specs;
    model->info.outputs = spec;
    model->info.output_count = (uint32_t)output_count;
    for (size_t i = 0; !code && i < output_count; i++) {
        code = read_spec(model->session, &outputs, i, spec++, error);
    }
    return code;
}

static void describe(struct md_ort_model *model, const char *path)
{
    struct modeld_model_info *info = &model->info;
    info->struct_size = sizeof *info;
    info->spec_stride = sizeof *model->specs;
    info->memory_bytes = estimate_bytes(path);
    info->platform = "onnxruntime_onnx";
    info->batchable = info->input_count + info->output_count > 0;
    for (uint32_t i = 0; i < info->input_count + info->output_count; i++) {
        info->batchable &= is_batchable(&model->specs[i]);
    }
}

static int32_t load(struct md_ort_model *model, const struct modeld_model_args *args,
                    const char *path, struct modeld_text *error)
{
    OrtSessionOptions *options = NULL;
    const char *shrinkage = md_ort_parameter(args, "memory.enable_memory_arena_shrinkage");
    model->has_batch_dimension = args->max_batch_size > 0;
    if (shrinkage && !(model->arena_shrinkage = strdup(shrinkage))) {
        return md_ort_no_memory(error);
    }
    int32_t code = md_ort_options_create(args, &options, error);
    if (!code) {
        code = md_ort_check(md_ort.api->CreateSession(md_ort.env, path, options, &model->session),
                            error,
                            "ONNX Runtime cannot load '%s' (files that are damaged or cut short "
                            "must be copied again)",
                            path);
        md_ort.api->ReleaseSessionOptions(options);
    }
    if (!code) {
        code = read_specs(model, error);
    }
    if (!code) {
        describe(model, path);
        model->info.may_block = args->op_library_count > 0; /* nobody knows what they do */
    }
    return code;
}

int32_t md_ort_model_create(const struct modeld_model_args *args, struct md_ort_model **model,
                            struct modeld_text *error)
{
    char path[4096];
    *model = NULL;
    int32_t code = find_file(args, path, sizeof path, error);
    if (code) {
        return code;
    }
    struct md_ort_model *created = calloc(1, sizeof *created);
    if (!created) {
        return md_ort_no_memory(error);
    }
    code = load(created, args, path, error);
    if (code) {
        md_ort_model_destroy(created);
        return code;
    }
    *model = created;
    return MODELD_OK;
}

void md_ort_model_destroy(struct md_ort_model *model)
{
    if (model->session) {
        md_ort.api->ReleaseSession(model->session);
    }
    /* A load that failed half-way has counts that do not cover what was read: the list ends with a
     * spec without name. */
    for (struct modeld_tensor_spec *spec = model->specs; spec && spec->name; spec++) {
        clear_spec(spec);
    }
    free(model->specs);
    free(model->arena_shrinkage);
    free(model);
}
