/*
 * Mapping: a version loaded by a backend, with its instances; and the target that requests see.
 *
 * What the configuration leaves out comes from the model; what it says must agree with the model.
 * Both are named when they do not.
 */
#include "model/model_check.h"

#include "base/alloc.h"
#include "base/log.h"
#include "config/model_config.h"
#include "os/memory.h"

#include <stdarg.h>
#include <stdio.h>

enum { INSTANCES_MAX = 1024, WORTH_A_TRIM = 1 << 20 };

struct md_mapping {
    const struct md_backend *backend;
    void *model;
    struct md_instance **instances; /* own */
    size_t instance_count;
    bool attached;
};

/* What is being put together. */
struct build {
    struct md_version *version;
    const struct md_models_options *options;
    struct md_mapping *mapping;
    struct md_message *config; /* a copy that is completed */
    const struct modeld_model_info *info;
    int64_t max_batch_size;
    struct md_arena *arena;
    struct md_error *err;
};

static bool fail_config(struct build *b, const char *format, ...) MD_PRINTF(2, 3);

static bool fail_config(struct build *b, const char *format, ...)
{
    char text[MD_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return md_error_set(b->err, MD_REASON_CONFLICT, "%s", text);
}

/* A copy of the text as a field's value; false when out of memory. */
static bool set_string(struct build *b, struct md_message *message, const char *field,
                       const char *text)
{
    struct md_str copy = md_arena_copy(b->arena, md_str_of(text));

    return copy.ptr &&
           md_message_set(message, field, (struct md_value){.as.string = copy}, b->arena);
}

/* --- arguments for the backend -------------------- */

static bool make_parameters(struct build *b, struct modeld_model_args *args)
{
    size_t count = md_message_count(b->config, "parameters");
    struct modeld_option *items = md_arena_calloc(b->arena, count, sizeof *items);

    for (size_t i = 0; items && i < count; i++) {
        const struct md_message *entry = md_message_get(b->config, "parameters", i).as.message;
        const struct md_message *value = md_message_child(entry, "value");
        struct md_str text = md_message_get(value, "string_value", 0).as.string;
        items[i].key = md_message_get(entry, "key", 0).as.string.ptr;
        items[i].key = items[i].key ? items[i].key : "";
        items[i].value = text.ptr ? text.ptr : "";
    }
    args->parameters = items;
    args->parameter_count = (uint32_t)count;
    args->parameter_stride = sizeof *items;
    return items || md_error_no_memory(b->err, "a model's parameters");
}

static bool make_op_libraries(struct build *b, struct modeld_model_args *args)
{
    const struct md_message *operations = md_message_child(b->config, "model_operations");
    size_t count = md_message_count(operations, "op_library_filename");
    const char **paths = md_arena_calloc(b->arena, count, sizeof *paths);

    for (size_t i = 0; paths && i < count; i++) {
        struct md_str file = md_message_get(operations, "op_library_filename", i).as.string;
        paths[i] =
            file.ptr[0] == '/'
                ? file.ptr
                : md_arena_printf(b->arena, "%s/%s", b->version->model->files->directory, file.ptr);
    }
    args->op_libraries = paths;
    args->op_library_count = (uint32_t)count;
    return !md_arena_failed(b->arena) || md_error_no_memory(b->err, "a model's libraries");
}

static bool make_accelerators(struct build *b, struct modeld_model_args *args)
{
    static const char *const kinds[] = {"cpu_execution_accelerator", "gpu_execution_accelerator"};
    const struct md_message *accelerators = md_message_child(
        md_message_child(b->config, "optimization") ? md_message_child(b->config, "optimization")
                                                    : NULL,
        "execution_accelerators");
    const char **names = md_arena_calloc(b->arena, 64, sizeof *names);

    for (size_t k = 0; names && k < 2; k++) {
        for (size_t i = 0;
             i < md_message_count(accelerators, kinds[k]) && args->accelerator_count < 64; i++) {
            const struct md_message *one = md_message_get(accelerators, kinds[k], i).as.message;
            struct md_str name = md_message_get(one, "name", 0).as.string;
            names[args->accelerator_count++] = name.ptr ? name.ptr : "";
        }
    }
    args->accelerators = names;
    return names || md_error_no_memory(b->err, "a model's accelerators");
}

/* kind: "input" or "output". NULL when out of memory. */
static const char *join_names(struct build *b, const char *kind)
{
    struct md_bytes text = {0};

    for (size_t i = 0; i < md_message_count(b->config, kind); i++) {
        const struct md_message *tensor = md_message_get(b->config, kind, i).as.message;
        if (i) {
            md_bytes_append_char(&text, ',');
        }
        md_bytes_append_str(&text, md_message_get(tensor, "name", 0).as.string);
    }
    const char *joined = text.failed ? NULL : md_arena_copy(b->arena, md_bytes_view(&text)).ptr;
    md_bytes_deinit(&text);
    return joined;
}

static size_t count_instances(const struct build *b)
{
    size_t total = 0;

    for (size_t i = 0; i < md_message_count(b->config, "instance_group"); i++) {
        const struct md_message *group = md_message_get(b->config, "instance_group", i).as.message;
        total += md_message_has(group, "count")
                     ? (size_t)md_message_get(group, "count", 0).as.integer
                     : 1;
    }
    return total ? md_size_min(total, INSTANCES_MAX) : 1;
}

static bool create_model(struct build *b)
{
    struct md_mapping *mapping = b->mapping;
    const struct md_message *graph =
        md_message_child(md_message_child(b->config, "optimization"), "graph");
    struct md_bytes json = {0};
    struct modeld_text text = {.text = b->err->text, .capacity = sizeof b->err->text};
    struct md_str filename = md_message_get(b->config, "default_model_filename", 0).as.string;
    struct modeld_model_args args = {
        .struct_size = sizeof args,
        .instance_count = (uint32_t)mapping->instance_count,
        .name = b->version->model->name.ptr,
        .version = b->version->number,
        .directory = b->version->directory,
        .filename = filename.len ? filename.ptr : NULL,
        .max_batch_size = b->max_batch_size,
        .optimization_level = graph ? (int32_t)md_message_get(graph, "level", 0).as.integer : 0,
        .output_names = join_names(b, "output"),
        .input_names = join_names(b, "input"),
    };

    md_message_print_json(b->config, &json);
    md_bytes_append_char(&json, '\0');
    args.config_json = json.data;
    bool ok = (!json.failed && args.output_names) || md_error_no_memory(b->err, "a model");
    ok = ok && make_parameters(b, &args) && make_op_libraries(b, &args) &&
         make_accelerators(b, &args);
    if (ok) {
        b->err->text[0] = '\0';
        int32_t code = mapping->backend->api->model_create(mapping->backend->handle, &args,
                                                           &mapping->model, &text);
        ok = code == MODELD_OK;
        if (!ok) {
            mapping->model = NULL;
            (void)md_backend_failed(code, b->err);
        }
    }
    md_bytes_deinit(&json);
    if (ok) {
        b->info = mapping->backend->api->model_info(mapping->model);
        ok = md_backend_check_model_info(b->info, b->err);
    }
    return ok;
}

/* --- tensors -------------------- */

static const struct modeld_tensor_spec *info_spec(const struct build *b, bool output,
                                                  uint32_t index)
{
    const char *base = (const char *)(output ? b->info->outputs : b->info->inputs);

    return (const struct modeld_tensor_spec *)(const void *)(base +
                                                             (size_t)index * b->info->spec_stride);
}

/* An entry of the configuration for a tensor that only the model names. */
static bool complete_from_model(struct build *b, const char *field,
                                const struct modeld_tensor_spec *spec)
{
    int index = md_message_field(&md_model_config_desc, md_str_of(field));
    struct md_message *io = md_message_create(md_model_config_desc.fields[index].message, b->arena);
    bool ok =
        io && set_string(b, io, "name", spec->name) &&
        md_message_set(io, "data_type", (struct md_value){.as.integer = spec->dtype}, b->arena);

    for (uint32_t i = b->max_batch_size > 0 ? 1 : 0;
         ok && spec->rank != MODELD_RANK_ANY && i < spec->rank; i++) {
        ok = md_message_set(io, "dims", (struct md_value){.as.integer = spec->shape[i]}, b->arena);
    }
    if (ok && spec->optional && strcmp(field, "input") == 0) {
        ok = md_message_set(io, "optional", (struct md_value){.as.boolean = true}, b->arena);
    }
    return (ok && md_message_add(b->config, (size_t)index, (struct md_value){.as.message = io},
                                 b->arena)) ||
           md_error_no_memory(b->err, "a model's tensors");
}

static bool contradiction(struct build *b, const char *field, const struct md_tensor_spec *spec,
                          const struct modeld_tensor_spec *model)
{
    struct md_bytes ours = {0}, theirs = {0};

    md_shape_print(spec->shape, spec->rank, &ours);
    md_shape_print(model->shape, model->rank, &theirs);
    (void)fail_config(b, "%s '%s': %s says %s %.*s%s, the model has %s %.*s", field, spec->name.ptr,
                      b->version->model->files->config_path ? b->version->model->files->config_path
                                                            : "the configuration",
                      md_dtype_name(spec->dtype), MD_STR_ARG(md_bytes_view(&ours)),
                      b->max_batch_size > 0 ? " (max_batch_size adds the first dimension)" : "",
                      md_dtype_name((enum md_dtype)model->dtype),
                      MD_STR_ARG(md_bytes_view(&theirs)));
    md_bytes_deinit(&ours);
    md_bytes_deinit(&theirs);
    return false;
}

static bool agrees(const struct build *b, const struct md_tensor_spec *spec,
                   const struct modeld_tensor_spec *model)
{
    if (b->max_batch_size > 1 && model->rank != MODELD_RANK_ANY && model->rank > 0 &&
        model->shape[0] != -1) {
        return false; /* no batch dimension */
    }
    if ((uint32_t)spec->dtype != model->dtype) {
        return false;
    }
    if (model->rank == MODELD_RANK_ANY) {
        return true;
    }
    if (spec->rank != model->rank) {
        return false;
    }
    for (uint32_t i = 0; i < spec->rank; i++) {
        if (spec->shape[i] != -1 && model->shape[i] != -1 && spec->shape[i] != model->shape[i]) {
            return false;
        }
    }
    return true;
}

static const struct modeld_tensor_spec *find_in_model(const struct build *b, bool output,
                                                      struct md_str name)
{
    uint32_t count = output ? b->info->output_count : b->info->input_count;

    for (uint32_t i = 0; count != UINT32_MAX && i < count; i++) {
        const struct modeld_tensor_spec *spec = info_spec(b, output, i);
        if (md_str_eq_c(name, spec->name)) {
            return spec;
        }
    }
    return NULL;
}

/* Elements of one item of a batch; -1: not known before. */
static int64_t count_classes(const struct md_tensor_spec *spec, uint32_t lead)
{
    int64_t classes = 1;

    for (uint32_t i = lead; i < spec->rank; i++) {
        if (spec->shape[i] < 0 || __builtin_mul_overflow(classes, spec->shape[i], &classes)) {
            return -1;
        }
    }
    return classes;
}

/* A file of another length than there are classes is a slip; what is there is used. */
static bool read_labels(struct build *b, const struct md_message *output,
                        struct md_tensor_spec *spec)
{
    int64_t classes = count_classes(spec, b->max_batch_size > 0 ? 1 : 0);

    if (!md_model_read_labels(b->version->model, output, b->arena, &spec->class_labels,
                              &spec->class_label_count, b->err)) {
        return false;
    }
    if (classes >= 0 && (uint64_t)classes != spec->class_label_count) {
        md_log(MD_LOG_WARNING, "model '%s': output '%s' has %lld classes, its label file %zu lines",
               b->version->model->name.ptr, spec->name.ptr, (long long)classes,
               spec->class_label_count);
    }
    return true;
}

/* One entry of the configuration as a spec, compared with the model's. */
static bool make_spec(struct build *b, const char *field, const struct md_message *io,
                      struct md_tensor_spec *spec)
{
    bool output = strcmp(field, "output") == 0;
    size_t dims = md_message_count(io, "dims");
    uint32_t lead = b->max_batch_size > 0 ? 1 : 0;
    int64_t *shape = md_arena_alloc(b->arena, (dims + lead + 1) * sizeof *shape);

    spec->name = md_message_get(io, "name", 0).as.string;
    const struct modeld_tensor_spec *model = find_in_model(b, output, spec->name);
    bool is_open = model && !md_message_has(io, "dims") && model->rank == MODELD_RANK_ANY;
    bool from_model = model && !md_message_has(io, "dims") && !is_open && model->rank >= lead;
    uint32_t rank = from_model ? model->rank : (uint32_t)dims + lead;
    if (from_model) {
        shape = md_arena_alloc(b->arena, (rank + 1) * sizeof *shape);
    }
    if (!shape) {
        return md_error_no_memory(b->err, "a model's tensors");
    }
    for (uint32_t i = 0; i < rank; i++) {
        shape[i] = i < lead     ? -1
                   : from_model ? model->shape[i]
                                : md_message_get(io, "dims", i - lead).as.integer;
    }
    spec->shape = shape;
    spec->rank = is_open ? (uint32_t)MD_RANK_ANY : rank;
    spec->dtype = md_message_has(io, "data_type")
                      ? (enum md_dtype)md_message_get(io, "data_type", 0).as.integer
                  : model ? (enum md_dtype)model->dtype
                          : MD_DTYPE_INVALID;
    spec->optional =
        !output && (md_message_get(io, "optional", 0).as.boolean || (model && model->optional));
    if (!model && b->info->input_count != UINT32_MAX) {
        return fail_config(b, "the configuration names the %s '%s', which the model does not have",
                           field, spec->name.ptr);
    }
    if (spec->dtype == MD_DTYPE_INVALID) {
        return fail_config(b, "%s '%s' has no data_type", field, spec->name.ptr);
    }
    if (model && !agrees(b, spec, model)) {
        return contradiction(b, field, spec, model);
    }
    bool has_labels = output && md_message_get(io, "label_filename", 0).as.string.len;
    return !has_labels || read_labels(b, io, spec);
}

static bool make_specs(struct build *b, const char *field, const struct md_tensor_spec **out,
                       size_t *count)
{
    bool output = strcmp(field, "output") == 0;
    uint32_t known = output ? b->info->output_count : b->info->input_count;

    for (uint32_t i = 0; known != UINT32_MAX && i < known; i++) {
        const struct modeld_tensor_spec *spec = info_spec(b, output, i);
        bool there = false;
        for (size_t k = 0; k < md_message_count(b->config, field) && !there; k++) {
            there = md_str_eq_c(
                md_message_get(md_message_get(b->config, field, k).as.message, "name", 0).as.string,
                spec->name);
        }
        if (!there && !complete_from_model(b, field, spec)) {
            return false;
        }
    }
    *count = md_message_count(b->config, field);
    struct md_tensor_spec *specs = md_arena_calloc(b->arena, *count, sizeof *specs);
    if (!specs) {
        return md_error_no_memory(b->err, "a model's tensors");
    }
    for (size_t i = 0; i < *count; i++) {
        if (!make_spec(b, field, md_message_get(b->config, field, i).as.message, &specs[i])) {
            return false;
        }
    }
    *out = specs;
    return true;
}

/* --- batch size and instances -------------------- */

/* The model is loaded once to learn whether it can be batched; a batch size that the file gives is
 * known before. */
static bool decide_batch_size(struct build *b)
{
    if (!md_message_has(b->config, "max_batch_size") && b->info->batchable) {
        b->max_batch_size = (int64_t)b->options->options->default_max_batch_size;
    }
    return md_message_set(b->config, "max_batch_size",
                          (struct md_value){.as.integer = b->max_batch_size}, b->arena) ||
           md_error_no_memory(b->err, "a model");
}

static bool complete_groups(struct build *b)
{
    int index = md_message_field(&md_model_config_desc, MD_STR("instance_group"));

    if (!md_message_count(b->config, "instance_group")) {
        struct md_message *group =
            md_message_create(md_model_config_desc.fields[index].message, b->arena);
        if (!group || !md_message_add(b->config, (size_t)index,
                                      (struct md_value){.as.message = group}, b->arena)) {
            return md_error_no_memory(b->err, "a model");
        }
    }
    for (size_t i = 0; i < md_message_count(b->config, "instance_group"); i++) {
        struct md_message *group = md_message_get(b->config, "instance_group", i).as.message;
        enum { KIND_CPU = 2 };
        md_message_clear(group, "gpus");
        bool ok =
            md_message_set(group, "kind", (struct md_value){.as.integer = KIND_CPU}, b->arena);
        if (ok && !md_message_has(group, "count")) {
            ok = md_message_set(group, "count", (struct md_value){.as.integer = 1}, b->arena);
        }
        if (ok && !md_message_has(group, "name")) {
            char *name = md_arena_printf(b->arena, "%s_%zu", b->version->model->name.ptr, i);
            ok = name && md_message_set(group, "name",
                                        (struct md_value){.as.string = md_str_of(name)}, b->arena);
        }
        if (!ok) {
            return md_error_no_memory(b->err, "a model");
        }
    }
    return true;
}

struct instance_start {
    struct build *build;
    struct md_instance *instance;
    size_t index;
};

static bool start_instance(void *arg, struct md_error *err)
{
    struct instance_start *start = arg;
    struct md_mapping *mapping = start->build->mapping;
    struct modeld_text text = {.text = err->text, .capacity = sizeof err->text};
    const struct modeld_instance_args args = {.struct_size = sizeof args,
                                              .index = (uint32_t)start->index,
                                              .name = start->build->version->model->name.ptr};

    err->text[0] = '\0';
    int32_t code = mapping->backend->api->instance_create(mapping->model, &args,
                                                          &start->instance->handle, &text);
    if (code != MODELD_OK) {
        (void)md_backend_failed(code, err);
        return md_error_prefix(err, "instance %zu", start->index);
    }
    return true;
}

static void stop_instance(void *arg)
{
    struct md_instance *instance = arg;

    instance->api->instance_destroy(instance->handle);
}

static bool create_instance(struct build *b, size_t index)
{
    struct md_mapping *mapping = b->mapping;
    struct md_instance *instance = md_calloc(1, sizeof *instance);
    struct instance_start start = {.build = b, .instance = instance, .index = index};
    bool bound = mapping->backend->api->flags & MODELD_BACKEND_THREAD_BOUND;

    if (!instance) {
        return md_error_no_memory(b->err, "an instance");
    }
    instance->target = &b->version->target;
    instance->api = mapping->backend->api;
    instance->asynchronous = mapping->backend->api->flags & MODELD_BACKEND_ASYNCHRONOUS;
    const struct md_bound_calls calls = {
        .start = start_instance, .stop = stop_instance, .start_arg = &start, .stop_arg = instance};
    bool ok = bound ? md_device_bind(b->options->device, instance, &calls, b->err)
                    : start_instance(&start, b->err);
    if (!ok) {
        md_free(instance);
        return false;
    }
    mapping->instances[mapping->instance_count++] = instance;
    return true;
}

/* --- the target -------------------- */

static enum md_inline_mode inline_mode(const struct build *b)
{
    struct md_str mode = md_model_config_parameter(b->config, MD_STR("modeld_inline"));

    if (!mode.len) {
        mode = md_str_of(b->options->options->inline_mode);
    }
    return md_str_eq_c(mode, "on")    ? MD_INLINE_ON
           : md_str_eq_c(mode, "off") ? MD_INLINE_OFF
                                      : MD_INLINE_AUTO;
}

static bool make_target(struct build *b)
{
    struct md_target *target = &b->version->target;
    const struct modeld_backend_api *api = b->mapping->backend->api;
    const struct md_message *policy = md_message_child(b->config, "model_transaction_policy");
    bool may_block =
        b->info->struct_size >= offsetof(struct modeld_model_info, may_block) + sizeof(uint32_t) &&
        b->info->may_block;

    if (!make_specs(b, "input", &target->inputs, &target->input_count) ||
        !make_specs(b, "output", &target->outputs, &target->output_count)) {
        return false;
    }
    target->required_input_count = 0;
    for (size_t i = 0; i < target->input_count; i++) {
        target->required_input_count += !target->inputs[i].optional;
    }
    target->any_io = b->info->input_count == UINT32_MAX && target->input_count == 0;
    target->max_batch_size = b->max_batch_size;
    target->decoupled = b->info->decoupled || md_message_get(policy, "decoupled", 0).as.boolean;
    target->platform = md_message_get(b->config, "platform", 0).as.string;
    target->inline_safe =
        (api->flags & MODELD_BACKEND_INLINE_SAFE) && !may_block &&
        !(api->flags & (MODELD_BACKEND_ASYNCHRONOUS | MODELD_BACKEND_THREAD_BOUND));
    target->inline_mode = inline_mode(b);
    target->scheduler.ops = &md_scheduler_default;
    target->device = b->options->device;
    return target->shards || md_target_init(target, b->options->loop_count, b->err);
}

/* A new message in the field of that name; NULL without memory. */
static struct md_message *add_child(struct build *b, struct md_message *parent, const char *name)
{
    const int index = md_message_field(parent->desc, md_str_of(name));
    struct md_message *child = md_message_create(parent->desc->fields[index].message, b->arena);
    bool ok =
        child && md_message_set(parent, name, (struct md_value){.as.message = child}, b->arena);

    return ok ? child : NULL;
}

static bool complete_version_policy(struct build *b)
{
    if (md_message_child(b->config, "version_policy")) {
        return true;
    }
    struct md_message *policy = add_child(b, b->config, "version_policy");
    struct md_message *latest = policy ? add_child(b, policy, "latest") : NULL;

    return latest &&
           md_message_set(latest, "num_versions", (struct md_value){.as.natural = 1}, b->arena);
}

/* What the field completes, for programs that look for it. */
static bool complete_optimization(struct build *b)
{
    static const char *const pinned[] = {"input_pinned_memory", "output_pinned_memory"};

    if (md_message_child(b->config, "optimization")) {
        return true;
    }
    struct md_message *optimization = add_child(b, b->config, "optimization");
    bool ok = optimization;
    for (size_t i = 0; ok && i < MD_COUNT_OF(pinned); i++) {
        struct md_message *memory = add_child(b, optimization, pinned[i]);
        ok = memory &&
             md_message_set(memory, "enable", (struct md_value){.as.boolean = true}, b->arena);
    }
    return ok;
}

static bool complete_names(struct build *b)
{
    const struct md_backend *backend = b->mapping->backend;
    const char *platform = b->info->platform ? b->info->platform : backend->name.ptr;
    bool ok = md_message_set(b->config, "name",
                             (struct md_value){.as.string = b->version->model->name}, b->arena) &&
              md_message_set(b->config, "backend", (struct md_value){.as.string = backend->name},
                             b->arena);

    if (ok && !md_message_get(b->config, "platform", 0).as.string.len) {
        ok = set_string(b, b->config, "platform", platform);
    }
    const char *file = md_backend_default_file(backend->name);
    if (ok && file && !md_message_get(b->config, "default_model_filename", 0).as.string.len) {
        ok = set_string(b, b->config, "default_model_filename", file);
    }
    return (ok && complete_version_policy(b) && complete_optimization(b)) ||
           md_error_no_memory(b->err, "a model");
}

static bool publish_config(struct build *b)
{
    struct md_bytes json = {0};

    md_message_print_json(b->config, &json);
    struct md_str copy = md_arena_copy(b->arena, md_bytes_view(&json));
    bool ok = !json.failed && copy.ptr;
    md_bytes_deinit(&json);
    if (!ok) {
        return md_error_no_memory(b->err, "a model's configuration");
    }
    b->version->config_json = copy;
    return true;
}

/* --- life -------------------- */

static void mapping_free(struct md_mapping *mapping, const struct md_models_options *options)
{
    for (size_t i = 0; i < mapping->instance_count; i++) {
        struct md_instance *instance = mapping->instances[i];
        if (instance->bound) {
            md_device_unbind(options->device, instance);
        } else {
            stop_instance(instance);
        }
        md_free(instance);
    }
    if (mapping->model) {
        mapping->backend->api->model_destroy(mapping->model);
    }
    md_free(mapping->instances);
    md_free(mapping);
}

static bool build(struct build *b)
{
    struct md_str name;
    struct md_str runtime = md_message_get(b->config, "runtime", 0).as.string;

    if (!md_model_find_backend(b->config, b->version->directory, b->arena, &name, b->err)) {
        return false;
    }
    b->mapping->backend =
        md_backends_get(b->options->backends, name, runtime.len ? runtime.ptr : NULL,
                        b->version->model->files->directory, b->version->directory, b->err);
    size_t instances = count_instances(b);
    b->mapping->instances = md_calloc(instances, sizeof *b->mapping->instances);
    if (!b->mapping->backend || !b->mapping->instances) {
        return b->mapping->instances ? false : md_error_no_memory(b->err, "instances");
    }
    if (!create_model(b) || !decide_batch_size(b) || !complete_groups(b) || !complete_names(b) ||
        !make_target(b)) {
        return false;
    }
    for (size_t i = 0; i < instances; i++) {
        if (!create_instance(b, i)) {
            return false;
        }
    }
    return publish_config(b);
}

/* To the system: the heap keeps what was freed. */
static void give_memory_back(const struct md_models_options *options)
{
    md_backends_trim(options->backends);
    md_os_memory_trim();
}

bool md_mapping_create(struct md_version *version, const struct md_models_options *options,
                       struct md_error *err)
{
    struct build b = {.version = version, .options = options, .arena = &version->arena, .err = err};

    b.mapping = md_calloc(1, sizeof *b.mapping);
    b.config = md_message_create(&md_model_config_desc, b.arena);
    if (!b.mapping || !b.config || !md_message_merge(b.config, version->model->config, b.arena)) {
        md_free(b.mapping);
        return md_error_no_memory(err, "a model");
    }
    b.max_batch_size = md_message_get(b.config, "max_batch_size", 0).as.integer;
    const struct md_log_context context = {.model = version->model->name.ptr,
                                           .version = version->number};
    const struct md_log_context *before = md_log_set_context(&context);
    bool built = build(&b);
    md_log_set_context(before);
    if (!built) {
        mapping_free(b.mapping, options);
        give_memory_back(options);
        return false;
    }
    version->mapping = b.mapping;
    atomic_store(&version->memory_bytes, b.info->memory_bytes);
    md_device_attach(options->device, &version->target, b.mapping->instances,
                     b.mapping->instance_count);
    return true;
}

void md_mapping_destroy(struct md_version *version, const struct md_models_options *options)
{
    uint64_t held_bytes = atomic_exchange(&version->memory_bytes, 0);

    md_device_detach(options->device, &version->target);
    mapping_free(version->mapping, options);
    version->mapping = NULL;
    if (held_bytes >= WORTH_A_TRIM) {
        give_memory_back(options);
    }
}
