/*
 * Target: shards of references and statistics, and their sums.
 */
#include "infer/target.h"

#include "base/alloc.h"
#include "base/counter.h"

#define US 1000ULL
#define MS (1000 * US)
const uint64_t md_histogram_bounds_ns[MD_HISTOGRAM_BUCKETS] = {
    50 * US, 100 * US, 250 * US, 500 * US, 1 * MS,   2500 * US, 5 * MS,    10 * MS,
    25 * MS, 50 * MS,  100 * MS, 250 * MS, 500 * MS, 1000 * MS, 2500 * MS, 10000 * MS,
};
#undef US
#undef MS

static size_t count_sizes(const struct md_target *target)
{
    if (target->max_batch_size > 0) {
        return md_size_min((size_t)target->max_batch_size, MD_BATCH_SIZES_MAX);
    }
    return target->scheduler.batcher.config.max_rows > 1 ? MD_BATCH_SIZES : 1;
}

bool md_target_init(struct md_target *target, size_t loop_count, struct md_error *err)
{
    size_t bytes;

    if (!md_size_mul(loop_count, sizeof *target->shards, &bytes)) {
        return md_error_no_memory(err, "statistics of a model version");
    }
    target->shards = md_alloc_aligned(MD_CACHE_LINE, bytes);
    if (!target->shards) {
        return md_error_no_memory(err, "statistics of a model version");
    }
    memset(target->shards, 0, bytes);
    target->shard_count = loop_count;
    target->batch_sizes = count_sizes(target);
    for (size_t i = 0; i < loop_count && target->batch_sizes > 1; i++) {
        struct md_target_shard *shard = &target->shards[i];
        shard->batches = md_calloc(target->batch_sizes + 1, sizeof *shard->batches);
        if (!shard->batches) {
            md_target_deinit(target);
            return md_error_no_memory(err, "statistics of a model version");
        }
    }
    return true;
}

void md_target_deinit(struct md_target *target)
{
    for (size_t i = 0; i < target->shard_count; i++) {
        md_free(target->shards[i].batches);
    }
    md_free(target->shards);
    md_free(target->recent);
    target->shards = NULL;
    target->recent = NULL;
    target->shard_count = 0;
}

static const struct md_tensor_spec *find_spec(const struct md_tensor_spec *specs, size_t count,
                                              struct md_str name)
{
    for (size_t i = 0; i < count; i++) {
        if (md_str_eq(specs[i].name, name)) {
            return &specs[i];
        }
    }
    return NULL;
}

const struct md_tensor_spec *md_target_find_input(const struct md_target *target,
                                                  struct md_str name)
{
    return find_spec(target->inputs, target->input_count, name);
}

const struct md_tensor_spec *md_target_find_output(const struct md_target *target,
                                                   struct md_str name)
{
    return find_spec(target->outputs, target->output_count, name);
}

void md_target_ref(struct md_target *target, unsigned loop_index)
{
    struct md_target_shard *shard = &target->shards[loop_index];

    shard->refs++;
    atomic_store_explicit(&shard->in_flight, shard->refs, memory_order_relaxed);
}

void md_target_unref(struct md_target *target, unsigned loop_index)
{
    struct md_target_shard *shard = &target->shards[loop_index];

    shard->refs--;
    atomic_store_explicit(&shard->in_flight, shard->refs, memory_order_relaxed);
}

void md_target_sum(const struct md_target *target, struct md_target_totals *out)
{
    /* relaxed: gauges */
    uint32_t in_service = atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)&target->in_service,
                                               memory_order_relaxed);
    uint32_t out_of_service = atomic_load_explicit(
        (_Atomic uint32_t *)(uintptr_t)&target->out_of_service, memory_order_relaxed);

    *out = (struct md_target_totals){.pending = md_counter_read(&target->pending),
                                     .queue_bytes = md_counter_read(&target->pending_bytes),
                                     .device_ns = md_counter_read(&target->device_ns),
                                     .instances = in_service + out_of_service,
                                     .out_of_service = out_of_service};
    for (int start = 0; start < MD_START_COUNT; start++) {
        out->starts[start] = md_counter_read(&target->starts[start]);
    }
    for (size_t i = 0; i < target->shard_count; i++) {
        const struct md_target_shard *shard = &target->shards[i];
        out->in_flight += md_counter_read(&shard->in_flight);
        out->success.count += md_counter_read(&shard->success.count);
        out->success.ns += md_counter_read(&shard->success.ns);
        out->fail.count += md_counter_read(&shard->fail.count);
        out->fail.ns += md_counter_read(&shard->fail.ns);
        out->queue_ns += md_counter_read(&shard->queue_ns);
        out->compute_input_ns += md_counter_read(&shard->compute_input_ns);
        out->compute_infer_ns += md_counter_read(&shard->compute_infer_ns);
        out->compute_output_ns += md_counter_read(&shard->compute_output_ns);
        for (int k = 0; k < MD_FAILURE_COUNT; k++) {
            out->failures[k] += md_counter_read(&shard->failures[k]);
        }
        out->inference_count += md_counter_read(&shard->inference_count);
        out->execution_count += md_counter_read(&shard->execution_count);
        uint64_t last_ns = md_counter_read(&shard->last_inference_ns);
        out->last_inference_ns =
            last_ns > out->last_inference_ns ? last_ns : out->last_inference_ns;
    }
}

void md_target_sum_phases(const struct md_target *target, struct md_phase_totals *out)
{
    *out = (struct md_phase_totals){0};
    for (size_t i = 0; i < target->shard_count; i++) {
        const struct md_target_shard *shard = &target->shards[i];
        for (int phase = 0; phase < MD_PHASE_COUNT; phase++) {
            for (int k = 0; k <= MD_HISTOGRAM_BUCKETS; k++) {
                out->buckets[phase][k] += md_counter_read(&shard->phases[phase][k]);
            }
        }
        out->sum_ns[MD_PHASE_QUEUE] += md_counter_read(&shard->queue_ns);
        out->sum_ns[MD_PHASE_COMPUTE] +=
            md_counter_read(&shard->compute_input_ns) + md_counter_read(&shard->compute_infer_ns);
        out->sum_ns[MD_PHASE_TOTAL] +=
            md_counter_read(&shard->success.ns) + md_counter_read(&shard->fail_built_ns);
    }
}

bool md_target_sum_batch(const struct md_target *target, size_t batch_size, uint64_t *count,
                         uint64_t *input_ns, uint64_t *infer_ns, uint64_t *output_ns)
{
    *count = *input_ns = *infer_ns = *output_ns = 0;
    for (size_t i = 0; i < target->shard_count; i++) {
        const struct md_target_shard *shard = &target->shards[i];
        if (shard->batches) {
            const struct md_batch_counters *batch = &shard->batches[batch_size];
            *count += md_counter_read(&batch->count);
            *input_ns += md_counter_read(&batch->input_ns);
            *infer_ns += md_counter_read(&batch->infer_ns);
            *output_ns += md_counter_read(&batch->output_ns);
        } else if (batch_size == 1) {
            *count += md_counter_read(&shard->execution_count);
            *input_ns += md_counter_read(&shard->compute_input_ns);
            *infer_ns += md_counter_read(&shard->compute_infer_ns);
            *output_ns += md_counter_read(&shard->compute_output_ns);
        }
    }
    return *count > 0;
}
