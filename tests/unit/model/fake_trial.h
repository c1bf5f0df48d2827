/*
 * A version that is being put together, with trials that run a function of the test: the linker
 * puts them in the place of infer/trial.h (see CMakeLists.txt).
 *
 * One thread. The configuration is text; the model has FP32 inputs and outputs that a test names.
 */
#ifndef TESTS_UNIT_MODEL_FAKE_TRIAL_H
#define TESTS_UNIT_MODEL_FAKE_TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "config/model_config.h"
#include "config/model_parameter.h"
#include "infer/trial.h"
#include "model/mapping_internal.h"
#include "os/clock.h"

enum { TRIALS_MAX = 1024, INSTANCES = 2 };

/* What the model does: fills outputs in the result's arena, or fails. */
typedef bool (*fake_model)(const struct md_tensor *inputs, size_t input_count,
                           struct md_trial_result *out, struct md_error *err);

struct trial {
    size_t instance;
    uint32_t learned; /* rows that its time counts for, padding included; 0: it does not */
    int64_t rows;     /* of the first input */
};

static struct {
    char folder[64];
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_options options;
    struct md_budget budget;
    struct md_device *device;
    struct md_models_options models;
    struct md_repository_model files;
    struct md_model model;
    struct md_version version;
    struct md_mapping mapping;
    struct md_instance instances[INSTANCES], *list[INSTANCES];
    struct modeld_model_info info;
    struct md_mapping_build build;
    struct md_error err;
    fake_model run;
    struct trial trials[TRIALS_MAX];
    size_t trial_count;
    uint64_t trial_ns;       /* what each takes, of a clock that stands still otherwise */
    uint64_t row_ns;         /* and for each row */
    _Atomic uint64_t now_ns; /* the device looks at it, too */
    bool stuck;
    struct md_arena kept; /* own: inputs that the one that is stuck has */
    struct md_bytes log;  /* own: what was said */
} world;

static inline const struct md_batcher_config *batcher(void)
{
    return &world.version.target.scheduler.batcher.config;
}

/* --- trials -------------------- */

bool __wrap_md_trial_run(struct md_device *device, struct md_target *target,
                         struct md_instance *instance, const struct md_tensor *inputs,
                         size_t input_count, bool learns, uint64_t timeout_ns,
                         struct md_trial_result *out, struct md_error *err);
void __wrap_md_trial_result_deinit(struct md_trial_result *result);
bool __wrap_md_instance_is_stuck(const struct md_instance *instance);
void __wrap_md_trial_release_inputs(struct md_device *device, struct md_instance *const *instances,
                                    size_t count, struct md_arena *inputs);

bool __wrap_md_trial_run(struct md_device *device, struct md_target *target,
                         struct md_instance *instance, const struct md_tensor *inputs,
                         size_t input_count, bool learns, uint64_t timeout_ns,
                         struct md_trial_result *out, struct md_error *err)
{
    struct trial *trial = &world.trials[world.trial_count++];
    const int64_t rows = input_count && inputs[0].rank ? inputs[0].shape[0] : 1;

    (void)timeout_ns;
    assert_ptr_equal(device, world.device);
    assert_ptr_equal(target, &world.version.target);
    assert_true(world.trial_count < TRIALS_MAX);
    *trial = (struct trial){.instance = (size_t)(instance - world.instances),
                            .learned = learns ? md_batcher_padded(batcher(), (uint32_t)rows) : 0,
                            .rows = rows};
    *out = (struct md_trial_result){.executed_ns =
                                        world.trial_ns + world.row_ns * (uint64_t)trial->rows};
    world.now_ns += out->executed_ns;
    bool ok = world.run(inputs, input_count, out, err);
    if (ok && learns) {
        md_learned_time_add(&instance->time, trial->learned, out->executed_ns);
    }
    assert_true(!ok || !md_arena_failed(&out->arena));
    return ok;
}

void __wrap_md_trial_result_deinit(struct md_trial_result *result)
{
    md_arena_deinit(&result->arena);
    *result = (struct md_trial_result){.outputs = NULL};
}

bool __wrap_md_instance_is_stuck(const struct md_instance *instance)
{
    (void)instance;
    return world.stuck;
}

void __wrap_md_trial_release_inputs(struct md_device *device, struct md_instance *const *instances,
                                    size_t count, struct md_arena *inputs)
{
    assert_ptr_equal(device, world.device);
    assert_ptr_equal(instances, world.list);
    assert_int_equal(count, INSTANCES);
    if (world.stuck) {
        world.kept = *inputs;
        *inputs = (struct md_arena){.chunks = NULL};
    }
    md_arena_deinit(inputs);
}

/* An output of so many rows, whose data is to be filled. NULL: no memory. */
static inline float *give(struct md_trial_result *out, const char *name, size_t rows,
                          size_t columns)
{
    struct md_tensor *outputs =
        md_arena_calloc(&out->arena, out->output_count + 1, sizeof *outputs);
    int64_t *shape = md_arena_calloc(&out->arena, 2, sizeof *shape);
    float *data = md_arena_calloc(&out->arena, rows * columns + 1, sizeof *data);

    if (!outputs || !shape || !data) {
        return NULL;
    }
    shape[0] = (int64_t)rows;
    shape[1] = (int64_t)columns;
    if (out->output_count) {
        memcpy(outputs, out->outputs, out->output_count * sizeof *outputs);
    }
    outputs[out->output_count] = (struct md_tensor){.name = md_str_of(name),
                                                    .dtype = MD_DTYPE_FP32,
                                                    .rank = 2,
                                                    .shape = shape,
                                                    .data = (const char *)data,
                                                    .bytes = rows * columns * sizeof *data};
    out->outputs = outputs;
    out->output_count++;
    return data;
}

/* --- the version -------------------- */

static uint64_t fake_now(void)
{
    return world.now_ns;
}

static void note_line(void *arg, enum md_log_level level, const struct md_log_context *context,
                      struct md_str text)
{
    (void)arg;
    (void)level;
    (void)context;
    md_bytes_append_str(&world.log, text);
    md_bytes_append_char(&world.log, '\n');
}

static inline bool log_has(const char *words)
{
    md_bytes_append_char(&world.log, '\0');
    bool has = strstr(world.log.data, words) != NULL;
    world.log.len--;
    return has;
}

/* The text of the configuration, and what the model has. */
static inline void build_begin(const char *config, const struct md_tensor_spec *inputs,
                               size_t input_count, const struct md_tensor_spec *outputs,
                               size_t output_count)
{
    static const struct md_log_sink sink = {.write = note_line};
    const struct md_device_options device = {.executor_count = 1, .budget = &world.budget};
    struct md_target *target = &world.version.target;

    memset(&world, 0, sizeof world);
    md_log_set_sink(&sink);
    md_clock_monotonic_ns = fake_now;
    (void)snprintf(world.folder, sizeof world.folder, "/tmp/modeld-trial-XXXXXX");
    assert_non_null(mkdtemp(world.folder));
    md_budget_init(&world.budget, 256 << 20);
    assert_true(md_device_create(&device, &world.device, &world.err));
    md_diagnostics_init(&world.diagnostics, &world.arena);
    world.options.auto_batching = true;
    world.models = (struct md_models_options){
        .options = &world.options, .device = world.device, .loop_count = 1};
    world.files.directory = world.folder;
    world.model.name = MD_STR("m");
    world.model.files = &world.files;
    world.model.config = md_message_create(&md_model_config_desc, &world.arena);
    assert_true(md_pbtxt_parse(md_str_of(config), "config.pbtxt", world.model.config, &world.arena,
                               &world.diagnostics));
    world.version.model = &world.model;
    target->model_name = world.model.name;
    target->inputs = inputs;
    target->outputs = outputs;
    target->output_count = output_count;
    target->input_count = input_count;
    for (size_t i = 0; i < input_count; i++) {
        target->required_input_count += !inputs[i].optional;
    }
    target->device = world.device;
    world.info.batchable = 1;
    for (size_t i = 0; i < INSTANCES; i++) {
        world.instances[i].target = target;
        world.list[i] = &world.instances[i];
    }
    world.mapping = (struct md_mapping){.instances = world.list, .instance_count = INSTANCES};
    world.build = (struct md_mapping_build){
        .version = &world.version,
        .options = &world.models,
        .mapping = &world.mapping,
        .config = world.model.config,
        .info = &world.info,
        .max_batch_size = md_message_get(world.model.config, "max_batch_size", 0).as.integer,
        .arena = &world.arena,
        .err = &world.err};
    target->max_batch_size = world.build.max_batch_size;
}

static inline void build_end(void)
{
    char command[128];

    md_device_destroy(world.device);
    md_arena_deinit(&world.arena);
    md_arena_deinit(&world.kept);
    md_bytes_deinit(&world.log);
    md_log_set_sink(NULL);
    (void)snprintf(command, sizeof command, "rm -r '%s'", world.folder);
    assert_int_equal(system(command), 0);
}

/* What /config would say of batching. */
static inline struct md_str batching(void)
{
    return md_model_parameter_text(world.build.config, MD_STR("modeld_batching"));
}

#endif
