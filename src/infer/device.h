/*
 * Device: where batches run. Its executors, its one mutex, and the decision what runs next.
 *
 * Created by server/ with as many executors as the CPU plan grants. Targets are attached with their
 * instances by model/ on a loader thread and detached before their mapping is destroyed. The mutex
 * guards the queues of all its targets and is never held across a backend call or a system call,
 * but for memory that is taken once. An idle executor asks for (target, instance, batch); there is
 * no batcher thread between.
 *
 * An execution that takes longer than its target allows takes its instance out of service until the
 * backend returns. The executor in it is replaced meanwhile.
 */
#ifndef MD_INFER_DEVICE_H
#define MD_INFER_DEVICE_H

#include "infer/request.h"

struct md_device;

/*
 * Permission to run one batch of a mapping at a time. Created by model/ (zeroed, with the first
 * group), owned by the mapping.
 *
 *      idle -> picked -> a run of all, or of those that go together -> idle
 *                              |                                        ^
 *                              +-> runs of one each: who had to wait, --+
 *                                  and who failed in company
 */
struct md_instance {
    /* immutable */
    struct md_target *target; /* borrow */
    const struct modeld_backend_api *api;
    void *handle; /* the backend's instance */
    bool asynchronous;
    /* immutable after md_instance_reserve */
    size_t capacity;       /* requests in a batch; 0: not reserved, one */
    void *memory;          /* own: of the following */
    struct md_slot *slots; /* one for each request of the batch */
    modeld_request *handles;
    int64_t *rows;
    struct {
        struct md_slot slot;
        modeld_request handle;
        int64_t rows;
    } single; /* where nothing was reserved */

    /* under the device's mutex */
    struct md_instance *next; /* in the target's list of idle ones, or the device's of ready ones */
    bool is_idle, is_ready;
    bool is_suspended;        /* out of service */
    bool is_tried;            /* a trial runs */
    bool is_stuck;            /* a trial did not end: */
    struct md_trial *trial;   /* own: it, until it ends after all */
    uint64_t expected_ns;     /* what its batch was to take, as its target was charged */
    uint64_t expected_end_ns; /* when it should end */
    struct md_learned_time time;
    uint32_t learned_runs; /* inline: only some of them are learned from */

    /* owner: whoever runs the batch */
    uint32_t count;                /* requests of the batch */
    struct md_batch_record record; /* as it grows */
    struct modeld_batch batch;     /* of the run that is on, as the backend sees it */
    struct md_block *gathered;     /* own: what it points at, where that is no request's */
    _Atomic uint64_t run_ns; /* since when the run is on; 0: none. Read under the mutex, too */
    uint32_t run_rows;       /* padding included */
    uint32_t learn_rows;     /* what its first run is to be learned as; 0: not at all */
    uint64_t learn_ns;
    atomic_uint unfinished; /* requests that were not completed, and one for execute itself */
    atomic_bool is_counted; /* a request of the run counts it in the statistics */
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
/* After md_device_hurry, when the server waits no longer: refuses further requests of the target
 * and fails those that wait, both as EXITING; what runs goes on. Returns how many waited. Any
 * thread. */
size_t md_device_end(struct md_device *device, struct md_target *target);
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

/* --- for request.c -------------------- */

/* Queues or runs it. Returns the first time at which md_device_expire is to be asked about it:
 * UINT64_MAX: never; 0: it is over, the request may be gone. */
uint64_t md_device_submit(struct md_device *device, struct md_request *request);
/* From now on no batch waits to grow, whatever delay was asked for: the server ends. Any thread. */
void md_device_hurry(struct md_device *device);
/* Takes it back; true: it was still waiting. */
bool md_device_withdraw(struct md_device *device, struct md_request *request);
/* A limit of a request's time may be over: gives up what waits too long of its target. Returns why
 * a running request is late, which is the caller's to deal with; *again_ns: when to ask next,
 * UINT64_MAX: never. Home loop. */
enum md_late md_device_expire(struct md_device *device, struct md_request *request,
                              uint64_t *again_ns);
/* The instance, held by the caller, is out of service until its batch has ended. */
void md_device_suspend(struct md_instance *instance);
/* A request of the instance's run was completed; the last one, or execute's return, ends the run.
 */
void md_device_request_done(struct md_instance *instance);
/* It leaves when those before it have left; on the thread that completes it. */
void md_order_leave(struct md_request *request);
/* Nobody waits for its answer any more: others do not wait for it. Home loop, while it runs. */
void md_order_skip(struct md_request *request);

/* It was destroyed before all executors came back: loops may be gone, nothing can be delivered. */
bool md_device_is_given_up(const struct md_device *device);
/* Memory from the calling thread's pool (from the heap on foreign threads). */
struct md_block *md_device_block(struct md_device *device, size_t bytes);
struct md_budget *md_device_budget(struct md_device *device);

#endif
