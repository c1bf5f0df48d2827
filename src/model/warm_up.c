/*
 * Samples of model_warmup, and times that are learned.
 */
#include "model/warm_up.h"

#include "base/clock.h"
#include "base/log.h"
#include "config/model_config.h"
#include "infer/trial.h"
#include "model/synthetic.h"
#include "os/file.h"

#include <stdio.h>

enum {
    PROGRESS_S = 3,         /* between two lines */
    LEARN_MS = 250,         /* in all, the probe included */
    LEARN_RUNS = 3,         /* of each size on each instance, as far as there is time */
    LEARN_BYTES = 64 << 20, /* largest inputs that are made up */
    CHEAP_NS = 20000,       /* what is faster and may run inline does so */
    SEED = 10,
};

struct sample {
    char title[160]; /* "warm-up sample 'NAME'" */
    struct md_tensor *inputs;
    size_t input_count;
    uint32_t rows;
    uint64_t times;
};

/* --- building samples -------------------- */

static bool fail_shape(struct md_mapping_build *b, const struct sample *sample,
                       const struct md_tensor_spec *spec, const struct md_tensor *tensor)
{
    struct md_bytes ours = {0}, theirs = {0};

    md_shape_print(tensor->shape, tensor->rank, &ours);
    md_shape_print(spec->shape, spec->rank, &theirs);
    (void)md_error_set(b->err, MD_REASON_CONFLICT,
                       "%s, input '%s': it is %s %.*s, the model takes %s %.*s; correct data_type "
                       "and dims in model_warmup%s",
                       sample->title, spec->name.ptr, md_dtype_name(tensor->dtype),
                       MD_STR_ARG(md_bytes_view(&ours)), md_dtype_name(spec->dtype),
                       MD_STR_ARG(md_bytes_view(&theirs)),
                       md_mapping_has_rows(b) ? " (batch_size adds the first dimension)" : "");
    md_bytes_deinit(&ours);
    md_bytes_deinit(&theirs);
    return false;
}

static bool check_input(struct md_mapping_build *b, const struct sample *sample,
                        const struct md_tensor *tensor)
{
    const struct md_target *target = &b->version->target;
    const struct md_tensor_spec *spec = md_target_find_input(target, tensor->name);

    if (!spec) {
        return target->any_io ||
               md_error_set(b->err, MD_REASON_CONFLICT,
                            "%s: the model has no input '%s'; take it out of model_warmup",
                            sample->title, tensor->name.ptr);
    }
    return (spec->dtype == tensor->dtype &&
            md_shape_matches(spec->shape, spec->rank, tensor->shape, tensor->rank)) ||
           fail_shape(b, sample, spec, tensor);
}

static bool check_complete(struct md_mapping_build *b, const struct sample *sample)
{
    const struct md_target *target = &b->version->target;

    for (size_t i = 0; i < target->input_count; i++) {
        bool there = target->inputs[i].optional;
        for (size_t k = 0; k < sample->input_count && !there; k++) {
            there = md_str_eq(sample->inputs[k].name, target->inputs[i].name);
        }
        if (!there) {
            return md_error_set(b->err, MD_REASON_CONFLICT,
                                "%s: the input '%s' is missing; add it in model_warmup",
                                sample->title, target->inputs[i].name.ptr);
        }
    }
    return true;
}

/* One row from a file of the folder warmup. */
static bool read_row(struct md_mapping_build *b, const struct sample *sample,
                     const struct md_tensor *tensor, const char *file, size_t elements,
                     struct md_arena *arena, struct md_str *row)
{
    const struct md_model *model = b->version->model;
    const char *path =
        md_arena_printf(arena, "%s/" MD_WARMUP_FOLDER "/%s", model->files->directory, file);
    size_t bytes;

    if (!path) {
        return md_error_no_memory(b->err, "a warm-up sample");
    }
    if (!md_os_file_read(path, md_device_budget(b->options->device)->limit_bytes, arena, row,
                         b->err)) {
        return md_error_prefix(b->err, "%s, input '%s'", sample->title, tensor->name.ptr);
    }
    if (tensor->dtype == MD_DTYPE_BYTES) {
        return md_bytes_tensor_check(row->ptr, row->len, elements) ||
               md_error_set(b->err, MD_REASON_CONFLICT,
                            "%s, input '%s': %s does not hold %zu strings, each behind its length "
                            "of 4 bytes (little-endian)",
                            sample->title, tensor->name.ptr, path, elements);
    }
    if (!md_synthetic_bytes(tensor->dtype, elements, &bytes) || bytes > row->len) {
        return md_error_set(b->err, MD_REASON_CONFLICT,
                            "%s, input '%s': %s has %zu bytes, %zu elements of %s are %zu",
                            sample->title, tensor->name.ptr, path, row->len, elements,
                            md_dtype_name(tensor->dtype), bytes);
    }
    if (bytes < row->len) {
        md_log(MD_LOG_WARNING,
               "model '%s': %s, input '%s': of the %zu bytes of %s the first %zu are used",
               model->name.ptr, sample->title, tensor->name.ptr, row->len, path, bytes);
    }
    *row = md_str_make(row->ptr, bytes);
    return true;
}

/* Memory for data of an input; NULL: more than there may be. */
static char *make_room(struct md_mapping_build *b, const struct sample *sample,
                       const struct md_tensor *tensor, size_t bytes, struct md_arena *arena)
{
    char *room = bytes <= md_device_budget(b->options->device)->limit_bytes
                     ? md_arena_alloc(arena, md_size_max(bytes, 1))
                     : NULL;

    if (!room) {
        (void)md_error_set(b->err, MD_REASON_OUT_OF_MEMORY,
                           "%s, input '%s' is larger than memory allows (--inflight-bytes)",
                           sample->title, tensor->name.ptr);
    }
    return room;
}

/* One row that is made up. */
static bool make_row(struct md_mapping_build *b, const struct sample *sample,
                     const struct md_tensor *tensor, const struct md_message *data, size_t elements,
                     struct md_arena *arena, struct md_str *row)
{
    size_t bytes;

    if (!md_synthetic_bytes(tensor->dtype, elements, &bytes)) {
        bytes = SIZE_MAX;
    }
    char *out = make_room(b, sample, tensor, bytes, arena);
    if (!out) {
        return false;
    }
    if (md_message_get(data, "random_data", 0).as.boolean) {
        md_synthetic_random(tensor->dtype, elements, 0, MD_SYNTHETIC_FLAGS, SEED, out);
    } else {
        md_synthetic_zero(tensor->dtype, elements, out);
    }
    *row = md_str_make(out, bytes);
    return true;
}

/* The row as often as the batch wants it. */
static bool repeat_row(struct md_mapping_build *b, const struct sample *sample, struct md_str row,
                       struct md_arena *arena, struct md_tensor *tensor)
{
    if (sample->rows == 1) {
        tensor->data = row.ptr;
        tensor->bytes = row.len;
        return true;
    }
    if (!md_size_mul(row.len, sample->rows, &tensor->bytes)) {
        tensor->bytes = SIZE_MAX;
    }
    char *all = make_room(b, sample, tensor, tensor->bytes, arena);
    if (!all) {
        return false;
    }
    for (uint32_t i = 0; i < sample->rows; i++) {
        memcpy(all + i * row.len, row.ptr, row.len);
    }
    tensor->data = all;
    return true;
}

static bool make_input(struct md_mapping_build *b, struct sample *sample,
                       const struct md_message *entry, struct md_arena *arena)
{
    const struct md_message *data = md_message_child(entry, "value");
    const char *file = md_message_get(data, "input_data_file", 0).as.string.ptr;
    const uint32_t lead = b->max_batch_size > 0, dims = (uint32_t)md_message_count(data, "dims");
    struct md_tensor *tensor = &sample->inputs[sample->input_count];
    int64_t *shape = md_arena_calloc(arena, dims + lead, sizeof *shape);
    size_t elements;
    struct md_str row = MD_STR("");

    if (!shape) {
        return md_error_no_memory(b->err, "a warm-up sample");
    }
    *tensor = (struct md_tensor){
        .name = md_message_get(entry, "key", 0).as.string,
        .dtype = (enum md_dtype)md_message_get(data, "data_type", 0).as.integer,
        .rank = dims + lead,
        .shape = shape,
    };
    for (uint32_t i = 0; i < tensor->rank; i++) {
        shape[i] = i < lead ? 1 : md_message_get(data, "dims", i - lead).as.integer;
    }
    if (tensor->rank > MD_TENSOR_RANK_MAX || !md_shape_elements(shape, tensor->rank, &elements)) {
        return md_error_set(b->err, MD_REASON_CONFLICT, "%s, input '%s': the dims are too large",
                            sample->title, tensor->name.ptr);
    }
    if (lead) {
        shape[0] = sample->rows;
    }
    if (!check_input(b, sample, tensor) ||
        !(file ? read_row(b, sample, tensor, file, elements, arena, &row)
               : make_row(b, sample, tensor, data, elements, arena, &row)) ||
        !repeat_row(b, sample, row, arena, tensor)) {
        return false;
    }
    sample->input_count++;
    return true;
}

static bool make_sample(struct md_mapping_build *b, size_t index, struct md_arena *arena,
                        struct sample *sample)
{
    const struct md_message *message = md_message_get(b->config, "model_warmup", index).as.message;
    const size_t count = md_message_count(message, "inputs");
    const uint64_t rows = md_message_get(message, "batch_size", 0).as.natural;
    const uint64_t times = md_message_get(message, "count", 0).as.natural;

    *sample = (struct sample){.rows = (uint32_t)rows, .times = times ? times : 1};
    md_model_config_warmup_title(message, index, sample->title, sizeof sample->title);
    if (rows == 0) {
        return true; /* said when the configuration was checked */
    }
    if (rows > 1 && rows > (uint64_t)b->max_batch_size) {
        return md_error_set(b->err, MD_REASON_CONFLICT,
                            "%s: batch_size %llu is larger than max_batch_size %lld allows",
                            sample->title, (unsigned long long)rows, (long long)b->max_batch_size);
    }
    sample->inputs = md_arena_calloc(arena, count, sizeof *sample->inputs);
    if (!sample->inputs) {
        return md_error_no_memory(b->err, "a warm-up sample");
    }
    for (size_t i = 0; i < count; i++) {
        if (!make_input(b, sample, md_message_get(message, "inputs", i).as.message, arena)) {
            return false;
        }
    }
    return check_complete(b, sample);
}

/* --- running them -------------------- */

bool md_warm_up_has_survived(struct md_mapping_build *b, const struct md_instance *instance)
{
    return !md_instance_is_stuck(instance) ||
           md_error_set(b->err, MD_REASON_BACKEND,
                        "an execution does not end, not even when its backend is asked to stop");
}

void md_warm_up_release_inputs(struct md_mapping_build *b, struct md_arena *inputs)
{
    md_trial_release_inputs(b->options->device, b->mapping->instances, b->mapping->instance_count,
                            inputs);
}

static void note_progress(const struct md_mapping_build *b, const struct sample *sample,
                          uint64_t done, size_t instance, uint64_t *said_ns)
{
    const uint64_t now = md_clock_monotonic_ns();

    if (now - *said_ns >= (uint64_t)PROGRESS_S * MD_NS_PER_S) {
        *said_ns = now;
        md_log(MD_LOG_INFO, "model '%s': %s has run %llu of %llu times on instance %zu of %zu",
               b->version->model->name.ptr, sample->title, (unsigned long long)done,
               (unsigned long long)sample->times, instance + 1, b->mapping->instance_count);
    }
}

static bool run_sample(struct md_mapping_build *b, const struct sample *sample, size_t index,
                       uint64_t *said_ns)
{
    struct md_instance *instance = b->mapping->instances[index];

    for (uint64_t i = 0; sample->rows && i < sample->times; i++) {
        struct md_trial_result result;
        struct md_error err;
        bool ok = md_trial_run(b->options->device, &b->version->target, instance, sample->inputs,
                               sample->input_count, true, b->version->target.execution_timeout_ns,
                               &result, &err);
        md_trial_result_deinit(&result);
        if (!ok) {
            return md_error_set(b->err, err.reason,
                                "%s fails on instance %zu: %s; correct it in model_warmup, or take "
                                "it out",
                                sample->title, index, err.text);
        }
        note_progress(b, sample, i + 1, index, said_ns);
    }
    return true;
}

static bool run_samples(struct md_mapping_build *b, struct md_arena *arena)
{
    const size_t count = md_message_count(b->config, "model_warmup");
    struct sample *samples = md_arena_calloc(arena, count, sizeof *samples);
    uint64_t said_ns = md_clock_monotonic_ns();

    if (!samples) {
        return md_error_no_memory(b->err, "the warm-up samples");
    }
    for (size_t i = 0; i < count; i++) {
        if (!make_sample(b, i, arena, &samples[i])) {
            return false;
        }
    }
    for (size_t k = 0; k < b->mapping->instance_count; k++) {
        for (size_t i = 0; i < count; i++) {
            if (!run_sample(b, &samples[i], k, &said_ns)) {
                return false;
            }
        }
    }
    return true;
}

bool md_warm_up_run(struct md_mapping_build *b)
{
    struct md_arena arena;

    md_arena_init(&arena, 0);
    bool ok = !md_message_has(b->config, "model_warmup") || run_samples(b, &arena);
    md_warm_up_release_inputs(b, &arena);
    return ok;
}

/* --- learning -------------------- */

struct lesson {
    struct md_synthetic_rows rows;
    uint64_t begin_ns, last_ns; /* of the last execution */
    uint32_t size;              /* rows of the executions that are under way */
    struct md_error err;        /* of the one that failed */
    bool failed;
};

static bool has_time(const struct lesson *lesson, uint64_t expected_ns)
{
    return md_clock_monotonic_ns() - lesson->begin_ns + expected_ns <=
           (uint64_t)LEARN_MS * MD_NS_PER_MS;
}

/* Rows that run where so many are given. */
static uint32_t padded_size(const struct md_mapping_build *b, uint32_t size)
{
    return md_batcher_padded(&b->version->target.scheduler.batcher.config, size);
}

/* Some runs of one size on one instance, as far as samples and probe have not been enough. False:
 * there is no time for more, or nothing worth knowing, or it failed. */
static bool learn_size(struct md_mapping_build *b, struct lesson *lesson,
                       struct md_instance *instance, const struct md_tensor *inputs)
{
    const size_t known = md_size_min(padded_size(b, lesson->size), MD_LEARNED_SIZES);
    const uint32_t learned = instance->time.sizes[known].count; /* nobody else learns yet */

    for (uint32_t run = learned; run < LEARN_RUNS; run++) {
        struct md_trial_result result;
        if (!has_time(lesson, lesson->last_ns)) {
            return false;
        }
        bool ok =
            md_trial_run(b->options->device, &b->version->target, instance, inputs,
                         lesson->rows.count, true, MD_TRIAL_PATIENCE_NS, &result, &lesson->err);
        lesson->last_ns = result.executed_ns;
        md_trial_result_deinit(&result);
        if (!ok) {
            lesson->failed = true;
            return false;
        }
        if (b->version->target.inline_safe && lesson->last_ns < CHEAP_NS) {
            return false;
        }
    }
    return true;
}

/* What made it fail at this size would make requests fail that nobody wanted to be joined. */
static bool keep_to_what_worked(struct md_mapping_build *b, const struct lesson *lesson)
{
    char text[MD_ERROR_TEXT_MAX];

    const bool matters = b->batching == MD_BATCHING_PROBE && lesson->size <= b->batch_rows;

    if (lesson->err.reason == MD_REASON_OUT_OF_MEMORY) {
        *b->err = lesson->err;
        return false;
    }
    md_log(matters ? MD_LOG_INFO : MD_LOG_VERBOSE, "model '%s' cannot be tried with %u rows: %s",
           b->version->model->name.ptr, lesson->size, lesson->err.text);
    if (!matters) {
        return true;
    }
    md_mapping_set_batch_rows(b, lesson->size / 2);
    if (b->batch_rows > 1) {
        (void)snprintf(text, sizeof text, "on: up to %u rows; %u fail (%.400s)", b->batch_rows,
                       lesson->size, lesson->err.text);
    } else {
        (void)snprintf(text, sizeof text, "off: batches fail (%.400s)", lesson->err.text);
    }
    return md_mapping_say_batching(b, text);
}

/* Where there was no time to try an instance, it should take what the first takes. */
static void share_times(struct md_mapping *mapping)
{
    for (size_t i = 1; i < mapping->instance_count; i++) {
        if (!mapping->instances[i]->time.known) {
            mapping->instances[i]->time = mapping->instances[0]->time;
        }
    }
}

static bool learn_all(struct md_mapping_build *b, struct md_arena *arena)
{
    const bool one_by_one = b->tried_ns && b->batching == MD_BATCHING_OFF; /* as was found */
    const uint32_t most = b->batch_rows > 1                       ? b->batch_rows
                          : md_mapping_has_rows(b) && !one_by_one ? (uint32_t)b->max_batch_size
                                                                  : 1;
    struct lesson lesson = {.begin_ns = md_clock_monotonic_ns() - b->tried_ns};
    struct md_synthetic_wish wish = {.rows = md_size_min(most, MD_LEARNED_SIZES),
                                     .integers = MD_SYNTHETIC_FLAGS,
                                     .max_bytes = LEARN_BYTES};
    struct md_str input;
    enum md_synthetic_result made;

    while ((made = md_synthetic_rows_make(b, &wish, arena, &lesson.rows, &input)) ==
               MD_SYNTHETIC_TOO_LARGE &&
           wish.rows > 1) {
        md_arena_reset(arena);
        wish.rows /= 2;
    }
    if (made != MD_SYNTHETIC_MADE) {
        return true; /* nothing to go by */
    }
    bool go_on = true;
    for (uint64_t size = 1; go_on && size <= wish.rows;
         size = 2 * (uint64_t)padded_size(b, lesson.size)) {
        struct md_tensor *inputs = md_synthetic_rows_view(&lesson.rows, 0, (size_t)size, arena);
        lesson.size = (uint32_t)size;
        for (size_t i = 0; inputs && go_on && i < b->mapping->instance_count; i++) {
            go_on = learn_size(b, &lesson, b->mapping->instances[i], inputs);
            if (lesson.failed && !md_warm_up_has_survived(b, b->mapping->instances[i])) {
                return false;
            }
        }
        go_on = go_on && inputs;
        lesson.last_ns *= 2; /* what twice as many rows may take */
    }
    share_times(b->mapping);
    return !lesson.failed || keep_to_what_worked(b, &lesson);
}

bool md_warm_up_learn(struct md_mapping_build *b)
{
    struct md_arena arena;
    const struct md_target *target = &b->version->target;

    if (!b->options->options->auto_batching || target->decoupled) {
        return true;
    }
    md_arena_init(&arena, 0);
    bool ok = learn_all(b, &arena);
    md_warm_up_release_inputs(b, &arena);
    return ok;
}
