/*
 * Device: where batches run. Its executors, its one mutex, and the decision what runs next.
 *
 * Created by server/ with as many executors as the CPU plan grants. Targets are attached with their
 * instances by model/ on a loader thread and detached before their mapping is destroyed. The mutex
 * guards the queues of all its targets and is never held across a system call or a backend call. An
 * idle executor asks for (target, instance, batch); there is no batcher thread between.
 */
#ifndef MD_INFER_DEVICE_H
#define MD_INFER_DEVICE_H

#include "infer/request.h"

struct md_device;

/* Requests in one batch. */
enum { MD_INSTANCE_BATCH_MAX = 1 };

/* Permission to run one batch of a mapping at a time. Created by model/, owned by the mapping. */
struct md_instance {
    /* immutable */
    struct md_target *target; /* borrow */
    const struct modeld_backend_api *api;
    void *handle; /* the backend's instance */
    bool asynchronous;
    /* under the device's mutex */
    struct md_instance *idle_next;
    bool is_idle;
    /* owner: whoever runs the batch */
    struct md_request *batch[MD_INSTANCE_BATCH_MAX];
    struct md_slot slots[MD_INSTANCE_BATCH_MAX];
    size_t batch_count;
    atomic_uint unfinished; /* requests that were not completed, and one for execute itself */
    /* THREAD_BOUND: the executor that runs this instance alone; NULL otherwise */
    struct md_executor *bound;
};

struct md_device_options {
    size_t executor_count;
    struct md_budget *budget;    /* shared */
    uint64_t detach_patience_ns; /* how long md_device_detach waits for instances that are out of
                                    service; 0: 10 s */
    uint64_t
        inline_limit_ns; /* an inline execution above this goes to the executors from then on */
};

bool md_device_create(const struct md_device_options *options, struct md_device **out,
                      struct md_error *err) MD_MUST_CHECK;
/* Ends the executors; all targets have been detached. Where an executor does not come back from a
 * backend (detach or a trial has said so), the device stays in memory, so that the process can
 * end. */
void md_device_destroy(struct md_device *device);

/* Room for batches of so many requests; once, before the instance's first trial and before it is
 * attached. Without it batches have one request. */
bool md_instance_reserve(struct md_instance *instance, size_t requests, struct md_error *err)
    MD_MUST_CHECK;
void md_instance_deinit(struct md_instance *instance);

/* Opens the target, whose device this is, for requests with these instances; the list stays until
 * detach. Loader thread. */
bool md_device_attach(struct md_device *device, struct md_target *target,
                      struct md_instance *const *instances, size_t count, struct md_error *err)
    MD_MUST_CHECK;
/* Refuses further requests, fails those that wait (UNAVAILABLE, exiting), and returns when no batch
 * of the target runs any more. False if an instance that is out of service has not come back after
 * a while: its backend still uses the instance, the model and the memory of requests, so that
 * nothing of the mapping, nor of the target, may ever go. Loader thread. */
bool md_device_detach(struct md_device *device, struct md_target *target) MD_MUST_CHECK;

/* An executor of its own for a THREAD_BOUND instance; `start` runs on it before anything else,
 * `stop` as the last. False if the thread cannot be created or start returned false (err is then
 * start's). */
struct md_bound_calls {
    bool (*start)(void *start_arg, struct md_error *err);
    void (*stop)(void *stop_arg);
    void *start_arg; /* borrow during md_device_bind */
    void *stop_arg;
};
bool md_device_bind(struct md_device *device, struct md_instance *instance,
                    const struct md_bound_calls *calls, struct md_error *err) MD_MUST_CHECK;
void md_device_unbind(struct md_device *device, struct md_instance *instance);

/* For request.c: queue or run; what to do about a request whose time is over; take back; one
 * request of the instance's batch was completed (the last one, or execute's return, frees the
 * instance); memory from the calling thread's pool (from the heap on foreign threads). */
void md_device_submit(struct md_device *device, struct md_request *request);
bool md_device_withdraw(struct md_device *device,
                        struct md_request *request); /* true: it was still waiting */
void md_device_request_done(struct md_instance *instance);
struct md_block *md_device_block(struct md_device *device, size_t bytes);
struct md_budget *md_device_budget(struct md_device *device);

#endif
