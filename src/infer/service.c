/*
 * Limits of time: what becomes of requests that are over one, and instances out of service.
 *
 * Each request's timer, on its home loop, asks here when a limit may be over. A request that waits
 * is given up by its scheduler; one that runs is late, which its home loop tells the client and the
 * backend. A run that takes longer than the target allows takes its instance out of service, until
 * the backend is done with it. While all instances of a target are, it takes no requests; those
 * that wait are given up when that has lasted as long as an execution may.
 */
#include "infer/device_internal.h"

#include "base/clock.h"
#include "base/log.h"

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

/* --- instances (mutex held) -------------------- */

bool md_service_suspend(struct md_device *device, struct md_instance *instance)
{
    struct md_target *target = instance->target;

    if (instance->is_suspended) { /* by another run of its batch */
        return md_executors_block(device, instance);
    }
    instance->is_suspended = true;
    target->suspended++;
    if (target->suspended == target->instance_count) {
        target->suspended_ns = md_clock_monotonic_ns();
    }
    atomic_store(&target->in_service, (uint32_t)target->instance_count - target->suspended);
    atomic_store(&target->out_of_service, target->suspended);
    return md_executors_block(device, instance);
}

void md_service_resume(struct md_device *device, struct md_instance *instance)
{
    struct md_target *target = instance->target;

    if (target->suspended == target->instance_count) {
        atomic_store(&target->shown_until_ns,
                     md_clock_later(md_clock_monotonic_ns(), MD_TARGET_SHOWN_NS));
    }
    instance->is_suspended = false;
    target->backlog.picked_ns = 0; /* what waited meanwhile waited for no execution */
    target->suspended--;
    target->suspended_ns = 0;
    atomic_store(&target->in_service, (uint32_t)target->instance_count - target->suspended);
    atomic_store(&target->out_of_service, target->suspended);
    md_executors_unblock(device, instance);
}

/* --- requests -------------------- */

uint64_t md_service_limit(const struct md_request *request)
{
    uint64_t limit_ns = request->waiter.expiry_ns;
    uint64_t timeout_ns = request->target->execution_timeout_ns;

    if (request->deadline_ns) {
        limit_ns = earlier(limit_ns, request->deadline_ns);
    }
    return timeout_ns ? earlier(limit_ns, md_clock_later(request->queued_ns, timeout_ns))
                      : limit_ns;
}

/* mutex held; a request that waits. True: it is given up, too. */
static bool expire_waiting(struct md_request *request, uint64_t now_ns, uint64_t *again_ns)
{
    struct md_target *target = request->target;
    uint64_t timeout_ns = target->execution_timeout_ns;

    *again_ns = request->waiter.expiry_ns;
    if (request->deadline_ns) {
        *again_ns = earlier(*again_ns, request->deadline_ns);
    }
    if (!timeout_ns) {
        return false;
    }
    uint64_t patient_ns =
        md_clock_later(target->suspended_ns ? target->suspended_ns : now_ns, timeout_ns);
    if (patient_ns <= now_ns) {
        *again_ns = UINT64_MAX;
        return target->scheduler.ops->cancel(&target->scheduler, &request->waiter);
    }
    *again_ns = earlier(*again_ns, patient_ns);
    return false;
}

/* mutex held: so that its batch cannot end */
static enum md_late expire_running(const struct md_request *request, unsigned state,
                                   uint64_t now_ns, uint64_t *again_ns)
{
    struct md_instance *instance = request->instance;
    uint64_t timeout_ns = request->target->execution_timeout_ns;
    bool is_wanted = !(state & MD_REQUEST_CANCELLED);

    if (is_wanted && request->deadline_ns) {
        if (request->deadline_ns <= now_ns) {
            return MD_LATE_DEADLINE;
        }
        *again_ns = request->deadline_ns;
    }
    if (timeout_ns && (is_wanted || !instance->is_suspended)) {
        /* relaxed: a run that began a moment ago is no matter */
        uint64_t run_ns = atomic_load_explicit(&instance->run_ns, memory_order_relaxed);
        uint64_t end_ns = md_clock_later(run_ns ? run_ns : now_ns, timeout_ns);
        if (end_ns <= now_ns) {
            return MD_LATE_EXECUTION;
        }
        *again_ns = earlier(*again_ns, end_ns);
    }
    return MD_LATE_NOT;
}

enum md_late md_device_expire(struct md_device *device, struct md_request *request,
                              uint64_t *again_ns)
{
    struct md_target *target = request->target;
    const uint64_t now_ns = md_clock_monotonic_ns();
    enum md_late late = MD_LATE_NOT;
    bool rejected = false;

    *again_ns = UINT64_MAX;
    pthread_mutex_lock(&device->mutex);
    struct md_waiter *given_up = NULL;
    if (target->scheduler.length) { /* else it may have been detached since */
        given_up =
            target->scheduler.ops->expire(&target->scheduler, md_dispatch_fastest(target), now_ns);
    }
    unsigned state = atomic_load(&request->state);
    if (request->waiter.waits) {
        rejected = expire_waiting(request, now_ns, again_ns);
    } else if ((state & MD_REQUEST_RUNNING) &&
               (!(state & MD_REQUEST_FINISHED) || (state & MD_REQUEST_AGAIN))) {
        late = expire_running(request, state, now_ns, again_ns);
    }
    if (rejected) {
        (void)md_submit_refuse(target, &request->error);
    }
    /* one with the action DELAY has moved, which nobody says */
    const bool may_have_moved =
        target->scheduler.length && target->scheduler.batcher.config.delay_ns;
    const enum md_wake wake = given_up || rejected || may_have_moved
                                  ? md_dispatch_reconsider(device, target)
                                  : MD_WAKE_NOBODY;
    pthread_mutex_unlock(&device->mutex);
    md_dispatch_wake(device, wake);
    md_dispatch_reject(given_up, now_ns);
    if (rejected) {
        md_request_reject(request);
    }
    return late;
}

void md_device_suspend(struct md_instance *instance)
{
    struct md_target *target = instance->target;
    struct md_device *device = target->device;

    pthread_mutex_lock(&device->mutex);
    bool is_new = !instance->is_suspended;
    bool is_short = md_service_suspend(device, instance);
    pthread_mutex_unlock(&device->mutex);
    if (is_new) {
        md_log(MD_LOG_ERROR,
               "model '%s' version %s: an execution takes longer than %llu ms, its instance is out "
               "of service until the backend returns",
               target->model_name.ptr, target->version_text.ptr,
               (unsigned long long)(target->execution_timeout_ns / MD_NS_PER_MS));
    }
    if (is_short) {
        md_executors_replace(device);
    }
}
