/*
 * Life of a mapping: a version loaded by a backend, with its instances.
 */
#include "model/mapping_internal.h"

#include "base/alloc.h"
#include "base/log.h"
#include "infer/trial.h"
#include "model/model_check.h"
#include "model/probe.h"
#include "model/warm_up.h"
#include "os/memory.h"

enum { INSTANCES_MAX = 1024, WORTH_A_TRIM = 1 << 20 };

/* --- instances -------------------- */

static size_t count_instances(const struct md_mapping_build *b)
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

struct instance_start {
    struct md_mapping_build *build;
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

static bool create_instance(struct md_mapping_build *b, size_t index)
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
    bool ok = md_instance_reserve(
                  instance, b->version->target.scheduler.batcher.config.max_requests, b->err) &&
              (bound ? md_device_bind(b->options->device, instance, &calls, b->err)
                     : start_instance(&start, b->err));
    if (!ok) {
        md_instance_deinit(instance);
        md_free(instance);
        return false;
    }
    mapping->instances[mapping->instance_count++] = instance;
    return true;
}

/* --- life -------------------- */

static bool has_stuck_instance(const struct md_mapping *mapping)
{
    for (size_t i = 0; i < mapping->instance_count; i++) {
        if (md_instance_is_stuck(mapping->instances[i])) {
            return true;
        }
    }
    return false;
}

static void mapping_free(struct md_mapping *mapping, const struct md_models_options *options)
{
    for (size_t i = 0; i < mapping->instance_count; i++) {
        struct md_instance *instance = mapping->instances[i];
        if (instance->bound) {
            md_device_unbind(options->device, instance);
        } else {
            stop_instance(instance);
        }
        md_instance_deinit(instance);
        md_free(instance);
    }
    if (mapping->model) {
        mapping->backend->api->model_destroy(mapping->model);
    }
    md_free(mapping->instances);
    md_free(mapping);
}

static bool build(struct md_mapping_build *b)
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
    if (!md_mapping_create_model(b) || !md_mapping_decide_batch_size(b) ||
        !md_mapping_complete_groups(b) || !md_mapping_complete_names(b) ||
        !md_mapping_make_target(b)) {
        return false;
    }
    for (size_t i = 0; i < instances; i++) {
        if (!create_instance(b, i)) {
            return false;
        }
    }
    return md_warm_up_run(b) && md_probe_run(b) && md_warm_up_learn(b) &&
           md_mapping_publish_config(b);
}

/* A backend is still inside: neither its mapping nor the target may ever go. */
static void hold(struct md_version *version)
{
    version->is_held = true;
    version->mapping = NULL;
    md_log(MD_LOG_ERROR,
           "model '%s' version %s: an execution does not end, so that it stays in memory",
           version->model->name.ptr, version->target.version_text.ptr);
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
    struct md_mapping_build b = {
        .version = version, .options = options, .arena = &version->arena, .err = err};

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
    if (has_stuck_instance(b.mapping)) {
        hold(version);
        return false;
    }
    if (!built || !md_device_attach(options->device, &version->target, b.mapping->instances,
                                    b.mapping->instance_count, err)) {
        mapping_free(b.mapping, options);
        give_memory_back(options);
        return false;
    }
    version->mapping = b.mapping;
    atomic_store(&version->memory_bytes, b.info->memory_bytes);
    return true;
}

void md_mapping_destroy(struct md_version *version, const struct md_models_options *options)
{
    uint64_t held_bytes = atomic_exchange(&version->memory_bytes, 0);

    if (!md_device_detach(options->device, &version->target)) {
        hold(version);
        return;
    }
    mapping_free(version->mapping, options);
    version->mapping = NULL;
    if (held_bytes >= WORTH_A_TRIM) {
        give_memory_back(options);
    }
}
