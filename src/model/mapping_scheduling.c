/*
 * How a target's requests wait, which are joined, and what share of the device they get.
 */
#include "model/mapping_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "config/model_config.h"
#include "config/model_parameter.h"

#include <stdlib.h>

_Static_assert((int)MD_PRIORITY_LEVELS_MAX == (int)MD_BATCHER_LEVELS_MAX, "checked there");
_Static_assert((int)MD_PREFERRED_SIZES_MAX == (int)MD_BATCHER_PREFERRED_MAX, "checked there");
_Static_assert((int)MD_MODEL_PARAMETER_NUMBERS_MAX == (int)MD_BATCHER_ALLOWED_MAX, "checked there");

enum {
    BATCH_REQUESTS_MAX = MD_BATCHER_LOOK_AHEAD, /* no batcher looks at more */
    QUEUE_SHARE = 4,                            /* of the bytes in flight: a quarter */
};

static uint64_t natural_of(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.natural;
}

static const struct md_message *dynamic_of(const struct md_mapping_build *b)
{
    return md_message_child(b->config, "dynamic_batching");
}

/* --- which batches -------------------- */

static bool is_free(const struct md_tensor_spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (specs[i].rank == MD_RANK_ANY || specs[i].rank == 0 || specs[i].shape[0] != -1) {
            return false;
        }
    }
    return true;
}

/* Dimension 0 is free in the model and in what the configuration says of its tensors. */
static bool has_free_rows(const struct md_mapping_build *b)
{
    const struct md_target *target = &b->version->target;

    return b->info->batchable && target->input_count > 0 &&
           is_free(target->inputs, target->input_count) &&
           is_free(target->outputs, target->output_count);
}

static uint32_t largest_preferred(const struct md_message *dynamic)
{
    int64_t largest = 0;

    for (size_t i = 0; i < md_message_count(dynamic, "preferred_batch_size"); i++) {
        int64_t size = md_message_get(dynamic, "preferred_batch_size", i).as.integer;
        largest = size > largest ? size : largest;
    }
    return (uint32_t)largest;
}

/* Of a configuration with dynamic_batching. A max_batch_size of 0 that it says forms no batches;
 * one that it leaves out leaves it to the model. */
static uint32_t configured_rows(const struct md_mapping_build *b)
{
    const bool says_none = md_message_has(b->version->model->config, "max_batch_size");

    if (b->version->target.decoupled || (b->max_batch_size <= 0 && says_none)) {
        return 1;
    }
    if (b->max_batch_size > 0) {
        return (uint32_t)b->max_batch_size;
    }
    return has_free_rows(b)
               ? (uint32_t)md_size_max(MD_OPEN_BATCH_ROWS, largest_preferred(dynamic_of(b)))
               : 1;
}

/* Why a model without dynamic_batching is not even tried; NULL: it is. */
static const char *why_not_probed(const struct md_mapping_build *b)
{
    struct md_str wish = md_model_parameter_choice(b->config, MD_STR("modeld_batching"));

    return md_str_eq_c(wish, "off")       ? "off: the configuration says so"
           : b->version->target.decoupled ? "off: the model is decoupled"
           : b->max_batch_size == 1       ? "off: max_batch_size is 1"
           : !b->info->batchable
               ? "off: the model does not leave the first dimension of all tensors free"
           : !has_free_rows(b)
               ? "off: the configuration does not leave the first dimension of all tensors free"
               : NULL;
}

static bool decide_batching(struct md_mapping_build *b)
{
    b->batching = MD_BATCHING_OFF;
    b->batch_rows = 1;
    if (dynamic_of(b)) {
        b->batch_rows = configured_rows(b);
        b->batching = b->batch_rows > 1 ? MD_BATCHING_ON : MD_BATCHING_OFF;
        if (b->batch_rows == 1 && b->max_batch_size != 1) {
            md_log(MD_LOG_WARNING, "model '%s': dynamic_batching forms no batches: %s",
                   b->version->model->name.ptr,
                   b->version->target.decoupled ? "the model is decoupled"
                                                : "there is no max_batch_size from 1 on");
        }
        return true;
    }
    if (!b->options->options->auto_batching || (!b->info->batchable && !b->info->input_count)) {
        return true; /* not asked for; or the backend knows nothing of tensors */
    }
    const char *reason = why_not_probed(b);
    if (!reason) {
        b->batching = MD_BATCHING_PROBE;
        b->batch_rows =
            b->max_batch_size > 0 ? (uint32_t)b->max_batch_size : (uint32_t)MD_OPEN_BATCH_ROWS;
    }
    return !reason || md_mapping_say_batching(b, reason);
}

bool md_mapping_say_batching(struct md_mapping_build *b, const char *text)
{
    return md_model_parameter_set(b->config, "modeld_batching", text, b->arena) ||
           md_error_no_memory(b->err, "a model");
}

bool md_mapping_has_rows(const struct md_mapping_build *b)
{
    return b->max_batch_size > 0 || b->batch_rows > 1;
}

/* --- sizes -------------------- */

static int compare_sizes(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static bool take_preferred(struct md_mapping_build *b, struct md_batcher_config *out)
{
    const struct md_message *dynamic = dynamic_of(b);
    const uint32_t largest = largest_preferred(dynamic);

    if (b->batch_rows > 1 && largest > b->batch_rows) {
        return md_error_set(b->err, MD_REASON_CONFLICT,
                            "preferred_batch_size %u is larger than max_batch_size %lld", largest,
                            (long long)b->max_batch_size);
    }
    for (size_t i = 0; i < md_message_count(dynamic, "preferred_batch_size"); i++) {
        out->preferred[out->preferred_count++] =
            (uint32_t)md_message_get(dynamic, "preferred_batch_size", i).as.integer;
    }
    qsort(out->preferred, out->preferred_count, sizeof out->preferred[0], compare_sizes);
    return true;
}

/* As the field completes it, for programs that read /config: batches of that size are full anyway.
 */
static bool complete_preferred(struct md_mapping_build *b)
{
    struct md_message *dynamic = md_message_get(b->config, "dynamic_batching", 0).as.message;

    return !dynamic || b->max_batch_size <= 0 || md_message_has(dynamic, "preferred_batch_size") ||
           md_message_set(dynamic, "preferred_batch_size",
                          (struct md_value){.as.integer = b->max_batch_size}, b->arena) ||
           md_error_no_memory(b->err, "a model");
}

static bool take_allowed(struct md_mapping_build *b, struct md_batcher_config *out)
{
    uint64_t sizes[MD_MODEL_PARAMETER_NUMBERS_MAX];
    size_t count =
        md_model_parameter_numbers(b->config, MD_STR("modeld_allowed_batch_sizes"), sizes);

    for (size_t i = 0; i < count; i++) {
        out->allowed[out->allowed_count++] = (uint32_t)sizes[i];
    }
    if (count && b->batch_rows > 1 && sizes[count - 1] > b->batch_rows) {
        md_log(
            MD_LOG_WARNING,
            "model '%s': of modeld_allowed_batch_sizes those above %u, the rows that a batch may "
            "have, are not used",
            b->version->model->name.ptr, b->batch_rows);
    }
    if (count && b->batch_rows > 1 && sizes[0] > b->batch_rows) {
        return md_error_set(b->err, MD_REASON_CONFLICT,
                            "parameter 'modeld_allowed_batch_sizes' has no size up to the %u rows "
                            "that a batch may have",
                            b->batch_rows);
    }
    return true;
}

void md_mapping_set_batch_rows(struct md_mapping_build *b, uint32_t rows)
{
    struct md_batcher_config *config = &b->version->target.scheduler.batcher.config;

    while (config->allowed_count && config->allowed[config->allowed_count - 1] > rows) {
        config->allowed_count--;
    }
    if (config->allowed_count) {
        rows = config->allowed[config->allowed_count - 1];
    }
    b->batch_rows = (uint32_t)md_size_max(rows, 1);
    config->max_rows = b->batch_rows;
    config->max_requests = (uint32_t)md_size_min(b->batch_rows, BATCH_REQUESTS_MAX);
}

/* --- queue -------------------- */

static void take_policy(const struct md_message *policy, struct md_queue_policy *out)
{
    enum { DELAY = 1 };

    *out = (struct md_queue_policy){
        .delays = md_message_get(policy, "timeout_action", 0).as.integer == DELAY,
        .timeout_ns = natural_of(policy, "default_timeout_microseconds"),
        .allows_override = md_message_get(policy, "allow_timeout_override", 0).as.boolean,
        .max_size = natural_of(policy, "max_queue_size"),
    };
    if (__builtin_mul_overflow(out->timeout_ns, MD_NS_PER_US, &out->timeout_ns)) {
        out->timeout_ns = 0; /* that is never */
    }
}

static bool take_levels(struct md_mapping_build *b, const struct md_message *dynamic,
                        struct md_batcher *out)
{
    const uint64_t levels = natural_of(dynamic, "priority_levels");
    const uint32_t count = levels ? (uint32_t)levels : 1;

    out->config.level_count = count;
    out->config.default_level =
        levels ? (uint32_t)natural_of(dynamic, "default_priority_level") : 1;
    out->levels = md_arena_calloc(b->arena, count, sizeof *out->levels);
    if (!out->levels) {
        return md_error_no_memory(b->err, "the levels of a queue");
    }
    for (uint32_t i = 0; i < count; i++) {
        take_policy(md_message_child(dynamic, "default_queue_policy"), &out->levels[i].policy);
    }
    for (size_t i = 0; levels && i < md_message_count(dynamic, "priority_queue_policy"); i++) {
        const struct md_message *entry =
            md_message_get(dynamic, "priority_queue_policy", i).as.message;
        take_policy(md_message_child(entry, "value"),
                    &out->levels[natural_of(entry, "key") - 1].policy);
    }
    return true;
}

static uint64_t queue_bytes(const struct md_mapping_build *b)
{
    uint64_t bytes = md_model_parameter_number(b->config, MD_STR("modeld_max_queue_bytes"), 0);

    return bytes ? bytes : md_device_budget(b->options->device)->limit_bytes / QUEUE_SHARE;
}

static void take_delay(const struct md_mapping_build *b, struct md_batcher_config *out)
{
    const uint64_t us = natural_of(dynamic_of(b), "max_queue_delay_microseconds");

    if (b->batch_rows == 1 || us == 0) {
        return;
    }
    if (__builtin_mul_overflow(us, MD_NS_PER_US, &out->delay_ns)) {
        out->delay_ns = INT64_MAX;
    }
    md_log(MD_LOG_INFO,
           "model '%s': batches wait for up to %llu us, as max_queue_delay_microseconds says; "
           "without it they form while instances are busy, and nobody waits for nothing",
           b->version->model->name.ptr, (unsigned long long)us);
}

static bool take_order(const struct md_mapping_build *b)
{
    const bool keeps = md_message_get(dynamic_of(b), "preserve_ordering", 0).as.boolean;

    if (keeps && b->version->target.decoupled) {
        md_log(
            MD_LOG_WARNING,
            "model '%s': it is decoupled, so preserve_ordering holds for the ends of its streams "
            "alone; responses leave when they are there",
            b->version->model->name.ptr);
    }
    return keeps;
}

/* --- the target -------------------- */

static uint64_t milliseconds(const struct md_mapping_build *b, struct md_str key)
{
    return md_model_parameter_number(b->config, key, 0) * MD_NS_PER_MS;
}

/* optimization.priority: DEFAULT 0, MAX 1, MIN 2. */
static uint32_t band_of(const struct md_mapping_build *b)
{
    static const uint32_t bands[MD_FAIR_BANDS] = {1, 0, 2};
    const int64_t priority =
        md_message_get(md_message_child(b->config, "optimization"), "priority", 0).as.integer;

    return bands[priority];
}

bool md_mapping_make_scheduling(struct md_mapping_build *b)
{
    struct md_target *target = &b->version->target;
    struct md_batcher_config *config = &target->scheduler.batcher.config;
    const struct md_message *dynamic = dynamic_of(b);

    if (!decide_batching(b)) {
        return false;
    }
    *config = (struct md_batcher_config){.max_bytes = queue_bytes(b)};
    if (!take_preferred(b, config) || !complete_preferred(b) || !take_allowed(b, config)) {
        return false;
    }
    md_mapping_set_batch_rows(b, b->batch_rows);
    take_delay(b, config);
    if (!take_levels(b, dynamic, &target->scheduler.batcher)) {
        return false;
    }
    target->scheduler.keeps_order = take_order(b);
    target->deadline_default_ns = milliseconds(b, MD_STR("modeld_deadline_ms"));
    target->execution_timeout_ns = milliseconds(b, MD_STR("modeld_execution_timeout_ms"));
    target->share.weight =
        (uint32_t)md_model_parameter_number(b->config, MD_STR("modeld_weight"), 1);
    target->share.band = band_of(b);
    return true;
}
