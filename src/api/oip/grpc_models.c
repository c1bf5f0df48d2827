/*
 * Statistics and the repository index: answers with an entry for each version.
 */
#include "api/oip/facts.h"
#include "api/oip/grpc_calls.h"
#include "codec/protobuf.h"

/* --- ModelStatistics -------------------- */

static void put_duration(struct md_bytes *out, uint32_t number, uint64_t count, uint64_t ns)
{
    size_t begin = md_pb_begin(out, number);

    md_pb_put_varint(out, 1, count);
    md_pb_put_varint(out, 2, ns);
    md_pb_end(out, begin);
}

static void put_batches(struct md_bytes *out, const struct md_target *target)
{
    for (size_t size = 1; size <= target->batch_sizes; size++) {
        uint64_t count, input_ns, infer_ns, output_ns;
        if (md_target_sum_batch(target, size, &count, &input_ns, &infer_ns, &output_ns)) {
            size_t begin = md_pb_begin(out, 7);
            md_pb_put_varint(out, 1, size);
            put_duration(out, 2, count, input_ns);
            put_duration(out, 3, count, infer_ns);
            put_duration(out, 4, count, output_ns);
            md_pb_end(out, begin);
        }
    }
}

static void put_statistics(struct md_bytes *out, const struct md_version *version)
{
    struct md_oip_statistics stats;
    size_t begin = md_pb_begin(out, 1);

    md_oip_statistics_read(version, &stats);
    md_pb_put_bytes(out, 1, version->model->name);
    md_oip_put_decimal(out, 2, version->number);
    md_pb_put_varint(out, 3, stats.last_inference_ms);
    md_pb_put_varint(out, 4, stats.inference_count);
    md_pb_put_varint(out, 5, stats.execution_count);
    size_t durations = md_pb_begin(out, 6);
    for (uint32_t i = 0; i < MD_OIP_DURATIONS; i++) {
        put_duration(out, i + 1, stats.durations[i].count, stats.durations[i].ns);
    }
    md_pb_end(out, durations);
    put_batches(out, &version->target);
    if (stats.memory_bytes) {
        size_t memory = md_pb_begin(out, 8);
        md_pb_put_bytes(out, 1, MD_STR("CPU"));
        md_pb_put_varint(out, 3, stats.memory_bytes);
        md_pb_end(out, memory);
    }
    md_pb_end(out, begin);
}

static void put_statistics_of_ready(struct md_oip_unary *call, const struct md_model *model)
{
    for (size_t i = 0; i < model->version_count; i++) {
        if (md_version_is_ready(&model->versions[i])) {
            put_statistics(&call->out, &model->versions[i]);
        }
    }
}

enum md_progress md_oip_grpc_statistics(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_names names;

    if (!md_oip_names_read(call->request, &names, err)) {
        return MD_PROGRESS_ERROR;
    }
    if (!names.first.len) {
        return md_oip_unary_walk(call, put_statistics_of_ready, err);
    }
    const struct md_version *version =
        md_oip_statistics_find(call->oip, names.first, names.second, err);
    if (!version) {
        return MD_PROGRESS_ERROR;
    }
    if (names.second.len) {
        put_statistics(&call->out, version);
    } else {
        put_statistics_of_ready(call, version->model);
    }
    return MD_PROGRESS_DONE;
}

/* --- RepositoryIndex -------------------- */

static void put_entry(void *arg, const struct md_oip_index_entry *entry)
{
    struct md_bytes *out = arg;
    size_t begin = md_pb_begin(out, 1);

    md_pb_put_bytes(out, 1, entry->name);
    if (entry->version && *entry->state) {
        md_oip_put_decimal(out, 2, entry->version);
    }
    md_pb_put_bytes(out, 3, md_str_of(entry->state));
    md_pb_put_bytes(out, 4, md_str_of(entry->reason));
    md_pb_end(out, begin);
}

static void put_entries(struct md_oip_unary *call, const struct md_model *model)
{
    md_oip_index_entries(model, false, put_entry, &call->out);
}

static void put_ready_entries(struct md_oip_unary *call, const struct md_model *model)
{
    md_oip_index_entries(model, true, put_entry, &call->out);
}

enum md_progress md_oip_grpc_index(struct md_oip_unary *call, struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(call->request);
    struct md_pb_field field;
    struct md_oip_names names; /* of the repository alone */
    bool ready_only = false;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(2, MD_PB_VARINT)) {
            ready_only = field.value != 0;
        }
    }
    if (!md_oip_names_read(call->request, &names, err)) {
        return MD_PROGRESS_ERROR;
    }
    if (names.first.len) {
        (void)md_error_set(err, MD_REASON_UNSUPPORTED,
                           "'repository_name' specification is not supported");
        return MD_PROGRESS_ERROR;
    }
    return md_oip_unary_walk(call, ready_only ? put_ready_entries : put_entries, err);
}
