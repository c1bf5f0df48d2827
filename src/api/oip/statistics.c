/*
 * Statistics of models, as the field's extension has them: what they are, and as JSON.
 */
#include "api/oip/facts.h"
#include "api/oip/reply.h"
#include "codec/json.h"
#include "api/oip/walk.h"
#include "base/clock.h"

static void append_duration(struct md_bytes *text, const char *name, uint64_t count, uint64_t ns)
{
    md_bytes_printf(text, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name, (unsigned long long)count,
                    (unsigned long long)ns);
}

static void append_batches(struct md_bytes *text, const struct md_target *target)
{
    bool first = true;

    for (size_t size = 1; size <= target->batch_sizes; size++) {
        uint64_t count, input_ns, infer_ns, output_ns;
        if (!md_target_sum_batch(target, size, &count, &input_ns, &infer_ns, &output_ns)) {
            continue;
        }
        md_bytes_printf(text, "%s{\"batch_size\":%zu,", first ? "" : ",", size);
        append_duration(text, "compute_input", count, input_ns);
        md_bytes_append_char(text, ',');
        append_duration(text, "compute_infer", count, infer_ns);
        md_bytes_append_char(text, ',');
        append_duration(text, "compute_output", count, output_ns);
        md_bytes_append_char(text, '}');
        first = false;
    }
}

/* When it was by the wall clock; 0 stays 0, for never. */
static uint64_t since_1970_ms(uint64_t monotonic_ns)
{
    uint64_t ago_ns = md_clock_monotonic_ns() - monotonic_ns;

    return monotonic_ns ? (md_clock_realtime_ns() - ago_ns) / MD_NS_PER_MS : 0;
}

const char *const md_oip_duration_names[MD_OIP_DURATIONS] = {
    "success",       "fail",           "queue",     "compute_input",
    "compute_infer", "compute_output", "cache_hit", "cache_miss"};

void md_oip_statistics_read(const struct md_version *version, struct md_oip_statistics *out)
{
    struct md_target_totals t;

    md_target_sum(&version->target, &t);
    *out = (struct md_oip_statistics){
        .last_inference_ms = since_1970_ms(t.last_inference_ns),
        .inference_count = t.inference_count,
        .execution_count = t.execution_count,
        .durations = {{t.success.count, t.success.ns},
                      {t.fail.count, t.fail.ns},
                      {t.success.count, t.queue_ns},
                      {t.success.count, t.compute_input_ns},
                      {t.success.count, t.compute_infer_ns},
                      {t.success.count, t.compute_output_ns},
                      {0, 0},
                      {0, 0}},
        .memory_bytes = atomic_load(&((struct md_version *)(uintptr_t)version)->memory_bytes),
    };
}

static void append_stats(struct md_bytes *text, const struct md_version *version)
{
    struct md_oip_statistics stats;

    md_oip_statistics_read(version, &stats);
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, version->model->name);
    md_bytes_printf(
        text,
        ",\"version\":\"%lld\",\"last_inference\":%llu,\"inference_count\":%llu,\"execution_count\":%llu,"
        "\"inference_stats\":{",
        (long long)version->number, (unsigned long long)stats.last_inference_ms,
        (unsigned long long)stats.inference_count, (unsigned long long)stats.execution_count);
    for (size_t i = 0; i < MD_OIP_DURATIONS; i++) {
        if (i) {
            md_bytes_append_char(text, ',');
        }
        append_duration(text, md_oip_duration_names[i], stats.durations[i].count,
                        stats.durations[i].ns);
    }
    md_bytes_append_c(text, "},\"response_stats\":{},\"batch_stats\":[");
    append_batches(text, &version->target);
    md_bytes_append_c(text, "],\"memory_usage\":[");
    if (stats.memory_bytes) {
        md_bytes_printf(text, "{\"type\":\"CPU\",\"id\":0,\"byte_size\":%llu}",
                        (unsigned long long)stats.memory_bytes);
    }
    md_bytes_append_c(text, "]}");
}

const struct md_version *md_oip_statistics_find(const struct md_oip *oip, struct md_str name,
                                                struct md_str version, struct md_error *err)
{
    const struct md_version *found = md_models_resolve(oip->models, name, version, err);

    if (!found && err->reason != MD_REASON_INVALID_ARGUMENT) { /* the version is a number */
        const bool served = md_models_resolve(oip->models, name, MD_STR(""), err) != NULL;
        (void)md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                           served ? "requested model version is not available for model '%.*s'"
                                  : "requested model '%.*s' is not available",
                           MD_STR_ARG(name));
    }
    return found;
}

void md_oip_get_statistics(struct md_exchange *x)
{
    struct md_error err;
    const struct md_version *version =
        md_oip_statistics_find(md_oip_of(x), x->captures[0], x->captures[1], &err);
    struct md_bytes text = {0};
    bool first = true;

    if (!version) {
        md_oip_reply_error(x, &err);
        return;
    }
    md_bytes_append_c(&text, "{\"model_stats\":[");
    for (size_t i = 0; i < version->model->version_count; i++) {
        const struct md_version *other = &version->model->versions[i];
        if (x->captures[1].len ? other == version : md_version_is_ready(other)) {
            md_bytes_append_c(&text, first ? "" : ",");
            append_stats(&text, other);
            first = false;
        }
    }
    md_bytes_append_c(&text, "]}");
    md_oip_reply_json(x, 200, &text);
}

static void append_model_stats(struct md_oip_walk *walk, const struct md_model *model,
                               struct md_bytes *out)
{
    for (size_t k = 0; k < model->version_count; k++) {
        if (md_version_is_ready(&model->versions[k])) {
            md_oip_walk_comma(walk, out);
            append_stats(out, &model->versions[k]);
        }
    }
}

void md_oip_get_all_statistics(struct md_exchange *x)
{
    md_oip_walk_reply(x, &(const struct md_oip_walk){.open = "{\"model_stats\":[",
                                                     .close = "]}",
                                                     .append = append_model_stats});
}
