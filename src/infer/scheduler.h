/*
 * Scheduler: which waiting requests of one target form the next batch, and which are given up.
 *
 * Embedded in a target, called only under the mutex of the target's device; pure bookkeeping, no
 * system calls. The default scheduler is policy/batcher.h. Sequences and ensembles are further
 * tables of operations.
 *
 * Requests come and go as their waiters (md_request_of_waiter), linked by `next` where several do.
 */
#ifndef MD_INFER_SCHEDULER_H
#define MD_INFER_SCHEDULER_H

#include "policy/batcher.h"

struct md_request;
struct md_scheduler;

struct md_scheduler_ops {
    /* Takes the request, or refuses it, as md_batcher_submit. */
    bool (*submit)(struct md_scheduler *scheduler, struct md_waiter *waiter,
                   const struct md_learned_time *time, const struct md_forecast *forecast,
                   uint64_t now_ns, struct md_error *err);
    /* Takes a waiting request back out; false if it does not hold it. */
    bool (*cancel)(struct md_scheduler *scheduler, struct md_waiter *waiter);
    /* Gives up those whose time is over; why says md_batcher_verdict. */
    struct md_waiter *(*expire)(struct md_scheduler *scheduler, const struct md_learned_time *time,
                                uint64_t now_ns);
    /* The next batch, for an instance that has learned these times, as md_batcher_pick. */
    void (*pick)(struct md_scheduler *scheduler, const struct md_learned_time *time,
                 uint64_t now_ns, struct md_batch_choice *choice);
    /* A batch of so many requests has ended. */
    void (*done)(struct md_scheduler *scheduler, uint32_t requests, uint64_t executed_ns);
    /* All that wait: none does any more. */
    struct md_waiter *(*drain)(struct md_scheduler *scheduler);
};

struct md_scheduler {
    const struct md_scheduler_ops *ops;
    /* set before the target is attached */
    struct md_batcher batcher; /* its config; zeroed: batches of one, no limits */
    bool keeps_order;          /* answers leave in the order in which requests left the queue */
    /* the operations' */
    size_t length;  /* requests that wait */
    uint64_t bytes; /* of their inputs */
};

extern const struct md_scheduler_ops md_scheduler_default;

/* Completes the configuration: what is zero becomes the least that works, and no batch has more
 * requests than an instance has room for. */
void md_scheduler_prepare(struct md_scheduler *scheduler, uint32_t max_requests);

#endif
