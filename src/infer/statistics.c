/*
 * Counters and histograms of a target, written by one loop each.
 */
#include "infer/statistics.h"

/* One writer a shard: load and store, no atomic addition needed. */
static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    /* relaxed: readers only want a recent number */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

static void add_duration(struct md_duration *duration, uint64_t ns)
{
    add(&duration->count, 1);
    add(&duration->ns, ns);
}

static void observe(_Atomic uint64_t *buckets, uint64_t ns)
{
    size_t bucket = 0;

    while (bucket < MD_HISTOGRAM_BUCKETS && ns > md_histogram_bounds_ns[bucket]) {
        bucket++;
    }
    add(&buckets[bucket], 1);
}

static uint64_t span(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

void md_statistics_record(const struct md_request *request, const struct md_error *error,
                          uint64_t now_ns)
{
    struct md_target_shard *shard = &request->target->shards[md_loop_index(request->loop)];
    uint64_t total_ns = span(request->begin_ns, now_ns);

    observe(shard->phases[MD_PHASE_TOTAL], total_ns);
    if (error) {
        add(&shard->failures[md_reason_failure(error->reason)], 1);
        add_duration(&shard->fail, total_ns);
        add(&shard->fail_built_ns, total_ns);
        return;
    }
    uint64_t respond_ns = request->respond_ns ? request->respond_ns : request->finished_ns;
    uint64_t queue_ns = span(request->queued_ns, request->picked_ns);
    uint64_t input_ns = span(request->picked_ns, request->infer_ns);
    uint64_t infer_ns = span(request->infer_ns, respond_ns);
    uint64_t output_ns = span(respond_ns, now_ns);

    add_duration(&shard->success, total_ns);
    add(&shard->queue_ns, queue_ns);
    add(&shard->compute_input_ns, input_ns);
    add(&shard->compute_infer_ns, infer_ns);
    add(&shard->compute_output_ns, output_ns);
    observe(shard->phases[MD_PHASE_QUEUE], queue_ns);
    observe(shard->phases[MD_PHASE_COMPUTE], input_ns + infer_ns);
    add(&shard->inference_count, (uint64_t)request->rows);
    if (request->leads_batch) {
        add(&shard->execution_count, 1);
        if (shard->batches) {
            size_t size = md_size_min((size_t)request->batch_rows, request->target->batch_sizes);
            add(&shard->batches[size].count, 1);
            add(&shard->batches[size].input_ns, input_ns);
            add(&shard->batches[size].infer_ns, infer_ns);
            add(&shard->batches[size].output_ns, output_ns);
        }
    }
    atomic_store_explicit(&shard->last_inference_ns, now_ns, memory_order_relaxed);
}

void md_statistics_record_refusal(struct md_target *target, unsigned loop_index,
                                  enum md_reason reason, uint64_t duration_ns)
{
    struct md_target_shard *shard = &target->shards[loop_index];

    add(&shard->failures[md_reason_failure(reason)], 1);
    add_duration(&shard->fail, duration_ns);
}
