/*
 * Target: what a request is aimed at (a version of a model): its tensors, its queue, its
 * statistics.
 *
 * Embedded in model/version, which creates and destroys it; requests point at it and never further
 * up. Specs are immutable after init. The queue belongs to the device (its mutex). References and
 * statistics are kept in one shard for each loop, written by that loop alone, so that the request
 * path shares no cache line.
 */
#ifndef MD_INFER_TARGET_H
#define MD_INFER_TARGET_H

#include "infer/scheduler.h"
#include "infer/tensor.h"
#include "policy/fair.h"

#include <stdatomic.h>

struct md_device;
struct md_instance;
struct md_request;

/* Bounds of the histograms; one more bucket for +Inf. */
enum { MD_HISTOGRAM_BUCKETS = 16 };
extern const uint64_t md_histogram_bounds_ns[MD_HISTOGRAM_BUCKETS];

struct md_duration {
    _Atomic uint64_t count;
    _Atomic uint64_t ns;
};

enum md_phase { MD_PHASE_QUEUE, MD_PHASE_COMPUTE, MD_PHASE_TOTAL, MD_PHASE_COUNT };

/* Batch sizes that are counted one by one; larger ones share the last entry. */
enum {
    MD_BATCH_SIZES = 64,       /* of a target that sets its batches no bound */
    MD_BATCH_SIZES_MAX = 1024, /* of others up to their bound */
};

/* Statistics of one loop's requests: one writer (relaxed stores), any reader. */
struct md_target_shard {
    uint64_t refs; /* owner: requests of this loop in flight; not atomic, see in_flight */
    _Atomic uint64_t in_flight;
    struct md_duration success, fail;
    _Atomic uint64_t fail_built_ns; /* of fail, without the refusals */
    /* of the successes: */
    _Atomic uint64_t queue_ns, compute_input_ns, compute_infer_ns, compute_output_ns;
    _Atomic uint64_t failures[MD_FAILURE_COUNT];
    _Atomic uint64_t inference_count; /* rows */
    _Atomic uint64_t execution_count;
    _Atomic uint64_t last_inference_ns;                                /* monotonic; 0: none yet */
    _Atomic uint64_t phases[MD_PHASE_COUNT][MD_HISTOGRAM_BUCKETS + 1]; /* not cumulated */
    struct md_batch_counters {
        _Atomic uint64_t count, input_ns, infer_ns, output_ns;
    } * batches; /* own: batch_sizes + 1 entries; NULL where a batch never has more than one row,
                    neither by the model's batch dimension nor by what the scheduler joins:
                    executions are all of size 1 then, and counted above */
    char padding[MD_CACHE_LINE];
};

enum { MD_TARGET_BATCHES_KEPT = 64, MD_TARGET_SHOWN_NS = 1000000000 };

/* One of a target's last batches. */
struct md_batch_record {
    enum md_start start; /* why then */
    uint32_t requests, rows, padding;
    uint32_t failed;                           /* requests, for whatever reason */
    uint32_t retried;                          /* requests that ran again alone */
    uint64_t begun_ns, waited_ns, executed_ns; /* monotonic; its first request's; with retries */
};

enum md_inline_mode { MD_INLINE_AUTO, MD_INLINE_ON, MD_INLINE_OFF };

struct md_target {
    /* immutable after init */
    struct md_str model_name; /* zero-terminated */
    int64_t version;
    struct md_str version_text;
    struct md_str platform;
    const struct md_tensor_spec *inputs;
    size_t input_count;
    size_t required_input_count;
    const struct md_tensor_spec *outputs;
    size_t output_count;
    int64_t max_batch_size; /* 0: no batch dimension */
    bool decoupled;
    bool any_io;                    /* takes whatever tensors come (a backend without specs) */
    struct md_target_shard *shards; /* own, one for each loop */
    size_t shard_count;
    struct md_device *device;      /* borrow */
    uint64_t deadline_default_ns;  /* of requests that bring none, from their begin on; 0: none */
    uint64_t execution_timeout_ns; /* a longer execution fails its requests and takes its instance
                                      out of service until the backend returns; 0: none */

    /* under the device's mutex */
    struct md_scheduler scheduler;
    struct md_fair_share share; /* weight (0 counts as 1) and band are set before it is attached */
    struct md_instance *const *instances; /* borrow: of the mapping, while attached */
    size_t instance_count;
    struct md_instance *idle;        /* instances that may run a batch now */
    struct md_instance *typical;     /* the one that ended a batch last: its times are forecast */
    struct md_target *deferred_next; /* in the device's list of those that let a batch grow */
    uint64_t again_ns;               /* deferred: until then */
    bool is_deferred;
    bool has_bound;        /* its instances are THREAD_BOUND */
    bool accepting;        /* false: submit is refused (not mapped, or unmapping) */
    bool may_inline;       /* as far as backend and configuration go */
    uint32_t running;      /* batches */
    uint32_t suspended;    /* instances that are out of service */
    uint64_t suspended_ns; /* since when all of them are; 0: they are not */
    struct {
        uint64_t picked_ns;   /* of the last batch, if others waited on; 0: none did */
        uint64_t expected_ns; /* what it was to take */
        uint32_t stretch_permille;
    } backlog; /* see md_forecast */
    struct {
        struct md_request *first, *last;
        bool is_leaving; /* a thread delivers what is ready */
    } order;
    struct md_batch_record
        *recent;           /* own: a ring of MD_TARGET_BATCHES_KEPT, NULL before the first */
    uint64_t recent_count; /* that were written in all */

    /* shared */
    _Alignas(MD_CACHE_LINE) _Atomic uint64_t pending; /* queue_length for metrics */
    _Atomic uint64_t pending_bytes;                   /* of the inputs that wait */
    _Atomic uint64_t starts[MD_START_COUNT];          /* batches, by why they were started */
    _Atomic uint64_t device_ns; /* time that its batches have taken, on executors and loops */
    _Atomic uint32_t in_service, out_of_service; /* instances; both 0: not attached */
    _Atomic uint64_t shown_until_ns; /* that none was in service, which may have been short */
    _Atomic uint64_t
        inline_ns; /* moving average of an inline execution; above the bound it goes to executors */
    size_t batch_sizes;              /* immutable after init: sizes that are counted */
    enum md_inline_mode inline_mode; /* immutable */
    bool inline_safe;                /* immutable: the backend says so */
};

/* The caller has set the immutable fields and configured the scheduler; this creates the shards. */
bool md_target_init(struct md_target *target, size_t loop_count, struct md_error *err)
    MD_MUST_CHECK;
void md_target_deinit(struct md_target *target);

const struct md_tensor_spec *md_target_find_input(const struct md_target *target,
                                                  struct md_str name);
const struct md_tensor_spec *md_target_find_output(const struct md_target *target,
                                                   struct md_str name);

/* Taken before a request is built for the target and dropped when the request is over; on the loop
 * of that index. */
void md_target_ref(struct md_target *target, unsigned loop_index);
void md_target_unref(struct md_target *target, unsigned loop_index);

/* Sums of all shards; any thread. Plain numbers for the statistics endpoint and the metrics page.
 */
struct md_target_totals {
    uint64_t in_flight, pending;
    struct {
        uint64_t count, ns;
    } success, fail;
    uint64_t queue_ns, compute_input_ns, compute_infer_ns, compute_output_ns;
    uint64_t failures[MD_FAILURE_COUNT];
    uint64_t inference_count, execution_count;
    uint64_t last_inference_ns; /* monotonic; 0: none yet */
    uint64_t starts[MD_START_COUNT];
    uint64_t queue_bytes, device_ns;
    uint32_t instances, out_of_service; /* out of service: of the instances */
};
void md_target_sum(const struct md_target *target, struct md_target_totals *out);

/* Histograms of all shards; any thread. */
struct md_phase_totals {
    uint64_t buckets[MD_PHASE_COUNT][MD_HISTOGRAM_BUCKETS + 1]; /* not cumulated */
    uint64_t sum_ns[MD_PHASE_COUNT];
};
void md_target_sum_phases(const struct md_target *target, struct md_phase_totals *out);

/* Totals of one batch size (1..batch_sizes; the last stands for all larger); false if there were
 * none. */
bool md_target_sum_batch(const struct md_target *target, size_t batch_size, uint64_t *count,
                         uint64_t *input_ns, uint64_t *infer_ns, uint64_t *output_ns);

/* The last batches that have ended, newest first; returns how many. Any thread; takes the device's
 * mutex. */
size_t md_target_recent_batches(struct md_target *target, struct md_batch_record *out, size_t max);

/* Whether a batch runs. Any thread; takes the device's mutex. */
bool md_target_is_running(struct md_target *target);

/* A copy of what an instance has learned, by rows (padding included); false if there is no such
 * instance now. Any thread; takes the device's mutex. */
bool md_target_learned(struct md_target *target, size_t instance, struct md_learned_time *out);

#endif
