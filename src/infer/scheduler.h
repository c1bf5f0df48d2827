/*
 * Scheduler: which waiting requests of one target form the next batch.
 *
 * Embedded in a target, called only under the mutex of the target's device; pure bookkeeping, no
 * system calls. The default scheduler hands out one request at a time in order of arrival. Dynamic
 * batching, sequences and ensembles are further tables of operations.
 */
#ifndef MD_INFER_SCHEDULER_H
#define MD_INFER_SCHEDULER_H

#include "policy/batcher.h"

struct md_request;
struct md_scheduler;

struct md_scheduler_ops {
    /* Takes the request, or refuses it (QUEUE_FULL). */
    bool (*submit)(struct md_scheduler *scheduler, struct md_request *request,
                   struct md_error *err);
    /* Takes a waiting request back out; false if it does not hold it. */
    bool (*cancel)(struct md_scheduler *scheduler, struct md_request *request);
    /* Moves the next batch into requests[0..max); returns how many, 0 = nothing to run now. */
    size_t (*pick)(struct md_scheduler *scheduler, struct md_request **requests, size_t max,
                   uint64_t now_ns);
    /* A batch of this target has ended. */
    void (*done)(struct md_scheduler *scheduler, size_t batch_count, uint64_t execution_ns);
};

struct md_scheduler {
    const struct md_scheduler_ops *ops;
    struct md_request *first, *last; /* in order of arrival */
    size_t length;
    size_t length_limit;       /* 0: bounded by the bytes in flight alone */
    struct md_batcher batcher; /* its config is set before the target is attached */
    bool keeps_order;          /* answers leave in the order in which requests left the queue */
};

extern const struct md_scheduler_ops md_scheduler_default;

#endif
