/*
 * Checks of dynamic_batching. Where the field's server refuses, so does this; what it passes over
 * in silence is a warning.
 */
#include "config/model_config.h"
#include "config/model_config_internal.h"

enum { TIMEOUT_ACTION_DELAY = 1 };

static void check_preferred(const struct md_message *config, const struct md_message *dynamic,
                            struct md_diagnostics *diagnostics)
{
    const bool bounded = md_message_has(config, "max_batch_size");
    const int64_t max = integer_of(config, "max_batch_size", 0);

    if (md_message_count(dynamic, "preferred_batch_size") > MD_PREFERRED_SIZES_MAX) {
        complain(diagnostics, dynamic, "preferred_batch_size",
                 "preferred_batch_size has at most %d sizes", MD_PREFERRED_SIZES_MAX);
    }
    for (size_t i = 0; i < md_message_count(dynamic, "preferred_batch_size"); i++) {
        int64_t size = integer_of(dynamic, "preferred_batch_size", i);
        if (size < 1 || (bounded && size > max)) {
            complain(diagnostics, dynamic, "preferred_batch_size",
                     "preferred_batch_size %lld does not lie between 1 and max_batch_size",
                     (long long)size);
        }
    }
}

static void check_levels(const struct md_message *dynamic, struct md_diagnostics *diagnostics)
{
    const uint64_t levels = natural_of(dynamic, "priority_levels");
    const uint64_t usual = natural_of(dynamic, "default_priority_level");

    if (levels > MD_PRIORITY_LEVELS_MAX) {
        complain(diagnostics, dynamic, "priority_levels",
                 "priority_levels is at most %d here, got %llu", MD_PRIORITY_LEVELS_MAX,
                 (unsigned long long)levels);
        return;
    }
    if (levels && (usual < 1 || usual > levels)) {
        complain(
            diagnostics, dynamic, "default_priority_level",
            "default_priority_level must say a level from 1 to priority_levels (%llu), got %llu",
            (unsigned long long)levels, (unsigned long long)usual);
    }
    for (size_t i = 0; levels && i < md_message_count(dynamic, "priority_queue_policy"); i++) {
        const struct md_message *entry = item(dynamic, "priority_queue_policy", i);
        const uint64_t level = natural_of(entry, "key");
        if (level < 1 || level > levels) {
            complain(diagnostics, entry, "key",
                     "priority_queue_policy: there is no level %llu, they are numbered from 1 to "
                     "priority_levels (%llu)",
                     (unsigned long long)level, (unsigned long long)levels);
        }
    }
    if (!levels && (usual || md_message_has(dynamic, "priority_queue_policy"))) {
        const char *field = usual ? "default_priority_level" : "priority_queue_policy";
        warn(diagnostics, dynamic, field, "%s has no effect without priority_levels", field);
    }
}

static bool may_delay(const struct md_message *policy)
{
    return policy && natural_of(policy, "default_timeout_microseconds") &&
           integer_of(policy, "timeout_action", 0) == TIMEOUT_ACTION_DELAY;
}

static void check_ordering(const struct md_message *dynamic, struct md_diagnostics *diagnostics)
{
    static const char conflict[] =
        "requests that a timeout_action DELAY puts behind others cannot be answered in order: use "
        "REJECT, or leave preserve_ordering out";

    if (!md_message_get(dynamic, "preserve_ordering", 0).as.boolean) {
        return;
    }
    if (natural_of(dynamic, "priority_levels") > 1) {
        complain(diagnostics, dynamic, "preserve_ordering",
                 "preserve_ordering allows one priority level alone");
    }
    if (may_delay(md_message_child(dynamic, "default_queue_policy"))) {
        complain(diagnostics, dynamic, "default_queue_policy", "%s", conflict);
    }
    for (size_t i = 0; i < md_message_count(dynamic, "priority_queue_policy"); i++) {
        const struct md_message *entry = item(dynamic, "priority_queue_policy", i);
        if (may_delay(md_message_child(entry, "value"))) {
            complain(diagnostics, entry, "value", "%s", conflict);
        }
    }
}

void md_model_config_check_batching(const struct md_message *config,
                                    struct md_diagnostics *diagnostics)
{
    const struct md_message *dynamic = md_message_child(config, "dynamic_batching");

    if (!dynamic) {
        return;
    }
    if (md_message_has(config, "max_batch_size") && integer_of(config, "max_batch_size", 0) == 0) {
        warn(diagnostics, config, "dynamic_batching",
             "no batches are formed with max_batch_size 0: say how many rows one may have; what "
             "dynamic_batching says of the queue counts");
    }
    check_preferred(config, dynamic, diagnostics);
    check_levels(dynamic, diagnostics);
    check_ordering(dynamic, diagnostics);
}
