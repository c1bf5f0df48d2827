/*
 * The target that requests see, and the configuration as /config shows it.
 *
 * What the configuration leaves out comes from the model; what it says must agree with the model.
 * Both are named when they do not.
 */
#include "model/mapping_internal.h"

#include "base/log.h"
#include "config/model_parameter.h"
#include "model/model_check.h"

#include <stdarg.h>
#include <stdio.h>

static bool fail_config(struct md_mapping_build *b, const char *format, ...) MD_PRINTF(2, 3);

static bool fail_config(struct md_mapping_build *b, const char *format, ...)
{
    char text[MD_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return md_error_set(b->err, MD_REASON_CONFLICT, "%s", text);
}

/* A copy of the text as a field's value; false when out of memory. */
static bool set_string(struct md_mapping_build *b, struct md_message *message, const char *field,
                       const char *text)
{
    struct md_str copy = md_arena_copy(b->arena, md_str_of(text));

    return copy.ptr &&
           md_message_set(message, field, (struct md_value){.as.string = copy}, b->arena);
}

/* --- tensors -------------------- */

static const struct modeld_tensor_spec *info_spec(const struct md_mapping_build *b, bool output,
                                                  uint32_t index)
{
    const char *base = (const char *)(output ? b->info->outputs : b->info->inputs);

    return (const struct modeld_tensor_spec *)(const void *)(base +
                                                             (size_t)index * b->info->spec_stride);
}

/* An entry of the configuration for a tensor that only the model names. */
static bool complete_from_model(struct md_mapping_build *b, const char *field,
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

static bool contradiction(struct md_mapping_build *b, const char *field,
                          const struct md_tensor_spec *spec, const struct modeld_tensor_spec *model)
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

static bool agrees(const struct md_mapping_build *b, const struct md_tensor_spec *spec,
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

static const struct modeld_tensor_spec *find_in_model(const struct md_mapping_build *b, bool output,
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
static bool read_labels(struct md_mapping_build *b, const struct md_message *output,
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
static bool make_spec(struct md_mapping_build *b, const char *field, const struct md_message *io,
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

static bool make_specs(struct md_mapping_build *b, const char *field,
                       const struct md_tensor_spec **out, size_t *count)
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

/* --- batch size and groups -------------------- */

/* The model is loaded once to learn whether it can be batched; a batch size that the file gives is
 * known before. */
bool md_mapping_decide_batch_size(struct md_mapping_build *b)
{
    if (!md_message_has(b->config, "max_batch_size") && b->info->batchable) {
        b->max_batch_size = (int64_t)b->options->options->default_max_batch_size;
    }
    return md_message_set(b->config, "max_batch_size",
                          (struct md_value){.as.integer = b->max_batch_size}, b->arena) ||
           md_error_no_memory(b->err, "a model");
}

bool md_mapping_complete_groups(struct md_mapping_build *b)
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

/* --- the target -------------------- */

static enum md_inline_mode inline_mode(const struct md_mapping_build *b)
{
    struct md_str mode = md_model_parameter_choice(b->config, MD_STR("modeld_inline"));

    if (!mode.len) {
        mode = md_str_of(b->options->options->inline_mode);
    }
    return md_str_eq_c(mode, "on")    ? MD_INLINE_ON
           : md_str_eq_c(mode, "off") ? MD_INLINE_OFF
                                      : MD_INLINE_AUTO;
}

bool md_mapping_make_target(struct md_mapping_build *b)
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
    return md_mapping_make_scheduling(b) &&
           (target->shards || md_target_init(target, b->options->loop_count, b->err));
}

/* A new message in the field of that name; NULL without memory. */
static struct md_message *add_child(struct md_mapping_build *b, struct md_message *parent,
                                    const char *name)
{
    const int index = md_message_field(parent->desc, md_str_of(name));
    struct md_message *child = md_message_create(parent->desc->fields[index].message, b->arena);
    bool ok =
        child && md_message_set(parent, name, (struct md_value){.as.message = child}, b->arena);

    return ok ? child : NULL;
}

static bool complete_version_policy(struct md_mapping_build *b)
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
static bool complete_optimization(struct md_mapping_build *b)
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

bool md_mapping_complete_names(struct md_mapping_build *b)
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

/* Keeps what has been printed, which is freed. NULL pointer: no memory. */
static struct md_str keep(struct md_mapping_build *b, struct md_bytes *printed)
{
    struct md_str copy =
        printed->failed ? (struct md_str){0} : md_arena_copy(b->arena, md_bytes_view(printed));

    md_bytes_deinit(printed);
    return copy;
}

bool md_mapping_publish_config(struct md_mapping_build *b)
{
    struct md_bytes json = {0}, protobuf = {0};

    md_message_print_json(b->config, &json);
    md_message_print_protobuf(b->config, &protobuf);
    const struct md_str texts[] = {keep(b, &json), keep(b, &protobuf)};
    if (!texts[0].ptr || !texts[1].ptr) {
        return md_error_no_memory(b->err, "a model's configuration");
    }
    b->version->config_json = texts[0];
    b->version->config_protobuf = texts[1];
    return true;
}
