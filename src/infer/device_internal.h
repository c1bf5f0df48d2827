/*
 * What the parts of a device share: its struct, and what each part does for the others.
 *
 * device.c: life of the device, targets come and go. executor.c: the threads. submit.c: requests
 * come. dispatch.c: a batch is picked, it has ended. service.c: limits of time, instances out of
 * service. batch.c: running a batch. gather.c: its inputs. order.c: order of answers. trial.c:
 * trials.
 */
#ifndef MD_INFER_DEVICE_INTERNAL_H
#define MD_INFER_DEVICE_INTERNAL_H

#include "infer/device.h"
#include "os/thread.h"
#include "policy/fair.h"

#include <pthread.h>

/* Beyond those that the options ask for: in place of some that do not come back. */
enum { MD_EXECUTORS_SPARE = 32 };

struct md_executor {
    struct md_device *device;
    struct md_instance *bound; /* runs this instance alone; NULL: any */
    struct md_bound_calls calls;
    struct md_pool
        *pool; /* own; NULL for a bound one, which may end before the blocks that it made */
    struct md_os_thread thread;
    struct md_error *start_error; /* bound: where start reports, until `started` */
    /* under the mutex */
    struct md_instance *inside; /* runs it */
    bool started, start_ok, stop;
    bool is_blocked; /* `inside` is out of service */
};

struct md_device {
    struct md_budget *budget;
    uint64_t inline_limit_ns, detach_patience_ns;
    struct md_executor *executors; /* own */
    size_t executor_count;         /* that work at a time */
    size_t capacity;

    _Alignas(MD_CACHE_LINE) pthread_mutex_t mutex;
    pthread_cond_t work;       /* an executor may find something to run */
    pthread_cond_t bound_work; /* a bound executor may, or is to end: all look */
    pthread_cond_t parked;     /* one that waits for another to be blocked may work */
    pthread_cond_t changed;    /* a batch or a trial has ended, a bound executor has started */
    /* under the mutex */
    struct md_fair fair;        /* targets with an idle instance and something that may start */
    struct md_target *deferred; /* that let a batch grow */
    uint64_t again_ns;          /* earliest of them; UINT64_MAX: none */
    uint64_t watch_ns;          /* until then an executor sleeps; UINT64_MAX: none does */
    struct md_instance *ready_first, *ready_last; /* instances with a run to go on with */
    size_t threads;                               /* executors that exist */
    size_t waiting;                               /* that sleep for work */
    size_t woken;            /* of those, that were signalled and have not come to the mutex yet */
    size_t blocked, resting; /* that do not come back; that wait for that */
    size_t lost;             /* that could not be started */
    size_t bound_count;      /* executors of one instance */
    bool hurries;            /* no delays any more */
    bool stop;
    bool is_kept;            /* a backend has something of it for ever: never freed */
    atomic_bool is_given_up; /* destroyed, but some did not come back */
};

/* --- executor.c -------------------- */

/* Until somebody signals, or a time on the monotonic clock (UINT64_MAX: never); mutex held on entry
 * and return. */
void md_device_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns);

/* The executor that the calling thread is, or NULL. */
struct md_executor *md_executor_current(void);
bool md_executors_start(struct md_device *device, struct md_error *err) MD_MUST_CHECK;
/* False if some do not come back: what they use stays. */
bool md_executors_stop(struct md_device *device);
/* Mutex held: notes who is inside an instance that is out of service; true: md_executors_replace is
 * to be called, without the mutex. */
bool md_executors_block(struct md_device *device, const struct md_instance *instance);
void md_executors_unblock(struct md_device *device, const struct md_instance *instance);
void md_executors_replace(struct md_device *device);

/* --- dispatch.c, mutex held -------------------- */

/* Whom to wake, once the mutex is released. */
enum md_wake { MD_WAKE_NOBODY, MD_WAKE_ANY, MD_WAKE_BOUND };

/* What an executor is to run now, if anything; what was given up meanwhile is linked to
 * `given_up`. */
struct md_instance *md_dispatch_next(struct md_device *device, struct md_waiter **given_up);
/* The same for one instance that is not in its target's list, being idle. *again_ns: when to ask
 * next, if nothing is to run. */
bool md_dispatch_take(struct md_device *device, struct md_instance *instance, uint64_t now_ns,
                      struct md_waiter **given_up, uint64_t *again_ns);
/* The learned times of the instance in service that is the fastest: who cannot be in time with
 * these cannot be at all. */
const struct md_learned_time *md_dispatch_fastest(const struct md_target *target);
/* The target's queue or idle instances have changed: it takes part in turns, or not. */
void md_dispatch_review(struct md_device *device, struct md_target *target);
void md_dispatch_undefer(struct md_device *device, struct md_target *target);
/* Who waits has changed: what runs next, also a batch that is deferred, is decided anew. Says who
 * is to be woken for it. */
enum md_wake md_dispatch_reconsider(struct md_device *device, struct md_target *target);
void md_dispatch_idle(struct md_instance *instance);
struct md_instance *md_dispatch_idle_pop(struct md_target *target); /* there is one */
/* Who sleeps that could run the target's next batch. Nobody where enough have been woken: each,
 * once it has something to run, wakes another if there is more. */
enum md_wake md_dispatch_sleeper(struct md_device *device, const struct md_target *target);
/* An executor that sleeps, if one does that was not woken: true: it is to be signalled. */
bool md_dispatch_take_sleeper(struct md_device *device);
/* The instance has a run to go on with. */
enum md_wake md_dispatch_ready(struct md_device *device, struct md_instance *instance);
void md_dispatch_unready(struct md_device *device, struct md_instance *instance);

/* --- dispatch.c, without the mutex -------------------- */

void md_dispatch_wake(struct md_device *device, enum md_wake wake);
/* An inline run is over; the request is delivered afterwards. */
void md_dispatch_end_inline(struct md_instance *instance, const struct md_request *request);
/* Rejects what was given up at that time. */
void md_dispatch_reject(struct md_waiter *given_up, uint64_t now_ns);

/* --- submit.c -------------------- */

/* Behind model and version: why there are no requests any more once md_device_end was called. */
#define MD_DEVICE_ENDS "takes no more requests: the server is ending"

/* What the scheduler is told of the request, from what it says of itself; mutex held. */
void md_submit_fill_waiter(struct md_request *request);
/* The sentence for a target that takes no requests; mutex held. Returns false. */
bool md_submit_refuse(const struct md_target *target, struct md_error *err);

/* --- service.c -------------------- */

/* Mutex held: the instance is out of service from now on, if it was not; as md_executors_block. */
bool md_service_suspend(struct md_device *device, struct md_instance *instance);
/* Mutex held: the batch that took it out of service has ended. */
void md_service_resume(struct md_device *device, struct md_instance *instance);
/* The first limit of the request's time, as it waits. */
uint64_t md_service_limit(const struct md_request *request);

/* --- batch.c -------------------- */

/* Before it is used at all: one without room has some for one request. */
void md_instance_prepare(struct md_instance *instance);

/* Runs what was picked, or goes on with it: without the mutex. */
void md_batch_run(struct md_instance *instance);
/* One request, on the loop, which delivers it afterwards. */
void md_batch_run_inline(struct md_instance *instance, struct md_request *request);
/* The last of a run was completed: true if another run is to follow; false: the batch has ended. */
bool md_batch_end_run(struct md_instance *instance, uint64_t now_ns);

/* --- gather.c -------------------- */

/* All its inputs have its rows, which may be followed by padding. */
bool md_gather_has_rows(const struct md_request *request);
/* Whether two requests of the same shape key may really run together. */
bool md_gather_agrees(const struct md_request *a, const struct md_request *b);
/* The run's inputs in one block, each input's rows one after another and `padding` copies of the
 * last row behind them: fills instance->batch and ->gathered, and what the requests have of it. The
 * run's requests are those of the slots with turn MD_SLOT_RUNS. False: no memory. */
bool md_gather_inputs(struct md_instance *instance, uint32_t padding) MD_MUST_CHECK;
void md_gather_release(struct md_instance *instance);

/* --- order.c, mutex held -------------------- */

void md_order_enter(struct md_request *request);

/* --- trial.c -------------------- */

void md_trial_destroy(struct md_trial *trial);

static inline struct md_request *md_request_of_waiter(struct md_waiter *waiter)
{
    return MD_CONTAINER_OF(waiter, struct md_request, waiter);
}

#endif
