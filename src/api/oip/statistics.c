/*
 * Statistics of models, as the field's extension has them.
 */
#include "api/oip/reply.h"
#include "codec/json.h"
#include "api/oip/walk.h"
#include "base/clock.h"

static bool is_ready(const struct md_version *version)
{
    return atomic_load(&((struct md_version *)(uintptr_t)version)->state) == MD_VERSION_READY;
}

static void append_duration(struct md_bytes *text, const char *name, uint64_t count, uint64_t ns)
{
    md_bytes_printf(text, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name, (unsigned long long)count,
                    (unsigned long long)ns);
}

static void append_batches(struct md_bytes *text, const struct md_target *target)
{
    bool first = true;

    for (size_t size = 1; size <= MD_BATCH_SIZES; size++) {
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

static void append_stats(struct md_bytes *text, const struct md_version *version)
{
    struct md_target_totals t;

    md_target_sum(&version->target, &t);
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, version->model->name);
    md_bytes_printf(
        text,
        ",\"version\":\"%lld\",\"last_inference\":%llu,\"inference_count\":%llu,\"execution_count\":%llu,"
        "\"inference_stats\":{",
        (long long)version->number, (unsigned long long)since_1970_ms(t.last_inference_ns),
        (unsigned long long)t.inference_count, (unsigned long long)t.execution_count);
    const struct {
        const char *name;
        uint64_t count, ns;
    } rows[] = {
        {"success", t.success.count, t.success.ns},
        {"fail", t.fail.count, t.fail.ns},
        {"queue", t.success.count, t.queue_ns},
        {"compute_input", t.success.count, t.compute_input_ns},
        {"compute_infer", t.success.count, t.compute_infer_ns},
        {"compute_output", t.success.count, t.compute_output_ns},
        {"cache_hit", 0, 0},
        {"cache_miss", 0, 0},
    };
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        if (i) {
            md_bytes_append_char(text, ',');
        }
        append_duration(text, rows[i].name, rows[i].count, rows[i].ns);
    }
    md_bytes_append_c(text, "},\"response_stats\":{},\"batch_stats\":[");
    append_batches(text, &version->target);
    md_bytes_append_c(text, "],\"memory_usage\":[");
    uint64_t memory = atomic_load(&((struct md_version *)(uintptr_t)version)->memory_bytes);
    if (memory) {
        md_bytes_printf(text, "{\"type\":\"CPU\",\"id\":0,\"byte_size\":%llu}",
                        (unsigned long long)memory);
    }
    md_bytes_append_c(text, "]}");
}

/* The field has sentences and a status of its own for those. */
static void refuse_stats(struct md_exchange *x)
{
    struct md_error err;
    const bool served =
        md_models_resolve(md_oip_of(x)->models, x->captures[0], MD_STR(""), &err) != NULL;

    (void)md_error_set(&err, MD_REASON_INVALID_ARGUMENT,
                       served ? "requested model version is not available for model '%s'"
                              : "requested model '%s' is not available",
                       x->captures[0].ptr);
    md_oip_reply_error(x, &err);
}

void md_oip_get_statistics(struct md_exchange *x)
{
    struct md_error err;
    const struct md_version *version =
        md_models_resolve(md_oip_of(x)->models, x->captures[0], x->captures[1], &err);
    struct md_bytes text = {0};
    bool first = true;

    if (!version) {
        refuse_stats(x);
        return;
    }
    md_bytes_append_c(&text, "{\"model_stats\":[");
    for (size_t i = 0; i < version->model->version_count; i++) {
        const struct md_version *other = &version->model->versions[i];
        if (x->captures[1].len ? other == version : is_ready(other)) {
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
        if (is_ready(&model->versions[k])) {
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
