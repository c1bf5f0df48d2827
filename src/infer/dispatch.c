/*
 * Dispatch: batches are picked, batches have ended.
 *
 * Invariants
 *  1. A target takes part in the device's turns if and only if requests wait, an instance is idle,
 * it is open, and it is not deferred (letting a batch grow).
 *  2. An instance is idle (in its target's list) or runs exactly one batch. THREAD_BOUND instances
 * are never in a list: their own executor knows them.
 *  3. A target is charged the expected time of a batch when it is picked, and the difference when
 * it has ended: whose batches run at the moment does not get all the others' turns.
 */
#include "infer/device_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

/* The inline path learns from each run only for its own decision; from one in so many, as the
 * statistics of a batch size want them. */
enum { INLINE_LEARNS_FROM = 8, STRETCH_MAX_PERMILLE = 100000 };

static void bump(_Atomic uint64_t *counter, uint64_t amount)
{
    /* relaxed: one writer at a time, under the mutex; readers only want a recent number */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

/* --- turns (mutex held) -------------------- */

void md_dispatch_review(struct md_device *device, struct md_target *target)
{
    /* relaxed: gauges */
    atomic_store_explicit(&target->pending, target->scheduler.length, memory_order_relaxed);
    atomic_store_explicit(&target->pending_bytes, target->scheduler.bytes, memory_order_relaxed);
    if (!target->scheduler.length || !target->accepting || target->is_deferred) {
        md_fair_leave(&device->fair, &target->share);
    } else if (target->idle) {
        md_fair_join(&device->fair, &target->share);
    } else {
        md_fair_hold(&device->fair, &target->share); /* it would if it could */
    }
}

static void note_again(struct md_device *device)
{
    device->again_ns = UINT64_MAX;
    for (struct md_target *target = device->deferred; target; target = target->deferred_next) {
        if (target->again_ns < device->again_ns) {
            device->again_ns = target->again_ns;
        }
    }
}

static void defer(struct md_device *device, struct md_target *target, uint64_t again_ns)
{
    target->is_deferred = true;
    target->again_ns = again_ns;
    target->deferred_next = device->deferred;
    device->deferred = target;
    note_again(device);
}

void md_dispatch_undefer(struct md_device *device, struct md_target *target)
{
    struct md_target **at = &device->deferred;

    if (!target->is_deferred) {
        return;
    }
    while (*at != target) {
        at = &(*at)->deferred_next;
    }
    *at = target->deferred_next;
    target->is_deferred = false;
    note_again(device);
}

static void undefer_due(struct md_device *device, uint64_t now_ns)
{
    struct md_target *next;

    for (struct md_target *target = device->deferred; target; target = next) {
        next = target->deferred_next;
        if (target->again_ns <= now_ns) {
            md_dispatch_undefer(device, target);
            md_dispatch_review(device, target);
        }
    }
}

void md_device_hurry(struct md_device *device)
{
    pthread_mutex_lock(&device->mutex);
    device->hurries = true;
    for (struct md_target *target = device->deferred; target; target = target->deferred_next) {
        target->again_ns = 0;
    }
    note_again(device);
    pthread_cond_broadcast(&device->work);
    pthread_cond_broadcast(&device->bound_work);
    pthread_mutex_unlock(&device->mutex);
}

/* --- idle and ready instances (mutex held) -------------------- */

void md_dispatch_idle(struct md_instance *instance)
{
    if (instance->bound) {
        instance->is_idle = true;
        return;
    }
    instance->next = instance->target->idle;
    instance->target->idle = instance;
}

struct md_instance *md_dispatch_idle_pop(struct md_target *target)
{
    struct md_instance *instance = target->idle;

    target->idle = instance->next;
    return instance;
}

bool md_dispatch_take_sleeper(struct md_device *device)
{
    if (device->waiting <= device->woken) {
        return false;
    }
    device->woken++;
    return true;
}

/* The calling thread is the executor that ran the instance: it looks for more itself. */
static bool looks_itself(const struct md_instance *instance)
{
    const struct md_executor *executor = md_executor_current();

    return executor && executor->inside == instance;
}

enum md_wake md_dispatch_ready(struct md_device *device, struct md_instance *instance)
{
    instance->is_ready = true;
    if (instance->bound) {
        return looks_itself(instance) ? MD_WAKE_NOBODY : MD_WAKE_BOUND;
    }
    instance->next = NULL;
    if (device->ready_last) {
        device->ready_last->next = instance;
    } else {
        device->ready_first = instance;
    }
    device->ready_last = instance;
    return !looks_itself(instance) && md_dispatch_take_sleeper(device) ? MD_WAKE_ANY
                                                                       : MD_WAKE_NOBODY;
}

void md_dispatch_unready(struct md_device *device, struct md_instance *instance)
{
    struct md_instance *previous = NULL;

    instance->is_ready = false;
    if (instance->bound) {
        return;
    }
    if (device->ready_first == instance) {
        device->ready_first = instance->next;
    } else {
        for (previous = device->ready_first; previous->next != instance;) {
            previous = previous->next;
        }
        previous->next = instance->next;
    }
    if (device->ready_last == instance) {
        device->ready_last = previous;
    }
}

/* --- picking (mutex held) -------------------- */

/* How much longer than its executions a backlog takes: from one pick to the next, where others
 * waited on all the time. */
static void note_backlog(struct md_target *target, uint64_t expected_ns, uint64_t now_ns)
{
    if (target->backlog.picked_ns && target->backlog.expected_ns) {
        uint64_t gap_ns = now_ns - target->backlog.picked_ns;
        uint64_t permille = gap_ns * 1000 / target->backlog.expected_ns *
                            (target->instance_count - target->suspended);
        permille = permille < 1000                   ? 1000
                   : permille > STRETCH_MAX_PERMILLE ? STRETCH_MAX_PERMILLE
                                                     : permille;
        uint64_t stretch = target->backlog.stretch_permille;
        target->backlog.stretch_permille = (uint32_t)((stretch * 7 + permille) / 8);
    } else if (target->backlog.stretch_permille > 1000) { /* nobody waited: it is believed less */
        target->backlog.stretch_permille -= (target->backlog.stretch_permille - 1000 + 7) / 8;
    }
    target->backlog.picked_ns = target->scheduler.length ? now_ns : 0;
    target->backlog.expected_ns = expected_ns;
}

static void begin_batch(struct md_device *device, struct md_instance *instance,
                        const struct md_batch_choice *choice, uint64_t now_ns)
{
    struct md_target *target = instance->target;
    struct md_waiter *waiter = choice->first;
    uint32_t i = 0;

    instance->count = choice->count;
    instance->learn_ns = instance->learn_rows = 0;
    instance->record = (struct md_batch_record){
        .start = choice->start,
        .requests = choice->count,
        .rows = choice->rows,
        .padding = choice->padding,
        .begun_ns = now_ns,
        .waited_ns = now_ns > waiter->arrival_ns ? now_ns - waiter->arrival_ns : 0,
    };
    for (struct md_waiter *next; i < choice->count; waiter = next, i++) {
        struct md_request *request = md_request_of_waiter(waiter);
        next = waiter->next;
        request->instance = instance;
        instance->slots[i].turn = MD_SLOT_RUNS;
        md_slot_open(&instance->slots[i], request);
        if (target->scheduler.keeps_order) {
            md_order_enter(request);
        }
        atomic_store(&request->state, MD_REQUEST_RUNNING);
    }
    uint64_t expected_ns = md_learned_time_mean(&instance->time, choice->rows + choice->padding);
    instance->expected_ns = expected_ns;
    instance->expected_end_ns = now_ns + expected_ns;
    md_fair_charge(&device->fair, &target->share, (int64_t)expected_ns);
    note_backlog(target, expected_ns, now_ns);
    target->running++;
    bump(&target->starts[choice->start], 1);
}

static void append(struct md_waiter **list, struct md_waiter *waiters)
{
    while (*list) {
        list = &(*list)->next;
    }
    *list = waiters;
}

const struct md_learned_time *md_dispatch_fastest(const struct md_target *target)
{
    const struct md_instance *fastest = target->instances[0];

    for (size_t i = 1; i < target->instance_count; i++) {
        const struct md_instance *instance = target->instances[i];
        if (fastest->is_suspended ||
            (!instance->is_suspended &&
             md_learned_time_mean(&instance->time, 1) < md_learned_time_mean(&fastest->time, 1))) {
            fastest = instance;
        }
    }
    return &fastest->time;
}

bool md_dispatch_take(struct md_device *device, struct md_instance *instance, uint64_t now_ns,
                      struct md_waiter **given_up, uint64_t *again_ns)
{
    struct md_scheduler *scheduler = &instance->target->scheduler;
    struct md_batch_choice choice;

    if (device->hurries) {
        scheduler->batcher.config.delay_ns = 0;
    }
    append(given_up,
           scheduler->ops->expire(scheduler, md_dispatch_fastest(instance->target), now_ns));
    scheduler->ops->pick(scheduler, &instance->time, now_ns, &choice);
    if (choice.first) {
        begin_batch(device, instance, &choice, now_ns);
    } else {
        *again_ns = choice.again_ns;
    }
    md_dispatch_review(device, instance->target);
    return choice.first;
}

struct md_instance *md_dispatch_next(struct md_device *device, struct md_waiter **given_up)
{
    struct md_instance *instance = device->ready_first;
    struct md_fair_share *share;
    uint64_t now_ns, again_ns;

    if (instance) {
        md_dispatch_unready(device, instance);
        return instance;
    }
    if (device->again_ns == UINT64_MAX && !md_fair_next(&device->fair)) {
        return NULL;
    }
    now_ns = md_clock_monotonic_ns();
    if (device->again_ns <= now_ns) {
        undefer_due(device, now_ns);
    }
    while ((share = md_fair_next(&device->fair))) {
        struct md_target *target = MD_CONTAINER_OF(share, struct md_target, share);
        instance = md_dispatch_idle_pop(target);
        if (md_dispatch_take(device, instance, now_ns, given_up, &again_ns)) {
            return instance;
        }
        md_dispatch_idle(instance);
        if (target->scheduler.length) {
            defer(device, target, again_ns);
        }
        md_dispatch_review(device, target);
    }
    return NULL;
}

/* --- given up -------------------- */

static void judge(struct md_request *request, uint64_t now_ns)
{
    struct md_error *err = &request->error;
    const struct md_target *target = request->target;

    switch (md_batcher_verdict(&request->waiter, now_ns)) {
    case MD_REASON_DEADLINE:
        (void)md_error_set(err, MD_REASON_DEADLINE, "the request's deadline has passed");
        break;
    case MD_REASON_DEADLINE_UNREACHABLE:
        (void)md_error_set(
            err, MD_REASON_DEADLINE_UNREACHABLE,
            "'%s' version %s takes longer than there is until the request's deadline",
            target->model_name.ptr, target->version_text.ptr);
        break;
    default:
        (void)md_error_set(err, MD_REASON_QUEUE_TIMEOUT, "Request timeout expired");
    }
}

void md_dispatch_reject(struct md_waiter *given_up, uint64_t now_ns)
{
    for (struct md_waiter *next; given_up; given_up = next) {
        struct md_request *request = md_request_of_waiter(given_up);
        next = given_up->next;
        judge(request, now_ns);
        md_request_reject(request);
    }
}

/* --- a batch has ended -------------------- */

enum md_wake md_dispatch_sleeper(struct md_device *device, const struct md_target *target)
{
    if (target->has_bound) {
        return MD_WAKE_BOUND;
    }
    if (!target->share.position || device->woken >= md_fair_count(&device->fair)) {
        return MD_WAKE_NOBODY;
    }
    return md_dispatch_take_sleeper(device) ? MD_WAKE_ANY : MD_WAKE_NOBODY;
}

enum md_wake md_dispatch_reconsider(struct md_device *device, struct md_target *target)
{
    md_dispatch_undefer(device, target);
    md_dispatch_review(device, target);
    return target->scheduler.length ? md_dispatch_sleeper(device, target) : MD_WAKE_NOBODY;
}

void md_dispatch_wake(struct md_device *device, enum md_wake wake)
{
    if (wake == MD_WAKE_ANY) {
        pthread_cond_signal(&device->work);
    } else if (wake == MD_WAKE_BOUND) {
        pthread_cond_broadcast(&device->bound_work);
    }
}

/* Learns from every execution of one request, on a loop or on an executor, so that a target that
 * was slow for a while comes back. One outlier (a preempted thread) counts no more than twice the
 * limit. A quarter weight to the newest run. */
static void learn_inline(const struct md_device *device, struct md_target *target, uint64_t ns)
{
    /* relaxed: written under the mutex */
    uint64_t average = atomic_load_explicit(&target->inline_ns, memory_order_relaxed);

    ns = md_size_min(ns, 2 * device->inline_limit_ns);
    atomic_store_explicit(&target->inline_ns, average - average / 4 + ns / 4, memory_order_relaxed);
}

static void keep_record(struct md_target *target, struct md_batch_record record)
{
    if (MD_UNLIKELY(!target->recent)) { /* once: most of very many models are never called */
        target->recent = md_calloc(MD_TARGET_BATCHES_KEPT, sizeof *target->recent);
    }
    if (MD_LIKELY(target->recent)) {
        target->recent[target->recent_count++ % MD_TARGET_BATCHES_KEPT] = record;
    }
    bump(&target->device_ns, record.executed_ns);
}

void md_dispatch_end_inline(struct md_instance *instance, const struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_device *device = target->device;
    const uint64_t spent_ns = request->finished_ns - request->infer_ns;
    enum md_wake wake = MD_WAKE_NOBODY;

    pthread_mutex_lock(&device->mutex);
    learn_inline(device, target, spent_ns);
    if (instance->learned_runs++ % INLINE_LEARNS_FROM == 0 && !request->failed) {
        md_learned_time_add(&instance->time, (uint32_t)request->rows, spent_ns);
    }
    md_fair_charge(&device->fair, &target->share, (int64_t)spent_ns);
    bump(&target->starts[MD_START_IDLE], 1);
    keep_record(target, (struct md_batch_record){
                            .start = MD_START_IDLE,
                            .requests = 1,
                            .rows = (uint32_t)request->rows,
                            .failed = request->failed,
                            .begun_ns = request->queued_ns,
                            .executed_ns = spent_ns,
                        });
    instance->next = target->idle; /* it is not bound */
    target->idle = instance;
    target->running--;
    if (MD_LIKELY(!target->scheduler.length && target->accepting)) {
        pthread_mutex_unlock(&device->mutex);
        return;
    }
    bool is_closing = !target->accepting;
    if (!is_closing) {
        md_dispatch_review(device, target);
        wake = md_dispatch_sleeper(device, target);
    }
    pthread_mutex_unlock(&device->mutex);
    if (is_closing) {
        pthread_cond_broadcast(&device->changed);
    }
    md_dispatch_wake(device, wake);
}

/* mutex held. Of a run that took its instance out of service the target is charged what it may
 * take: another executor has run the others' batches meanwhile. */
static void account(struct md_device *device, struct md_instance *instance, bool was_suspended)
{
    struct md_target *target = instance->target;
    const struct md_batch_record *record = &instance->record;
    uint64_t used_ns = record->executed_ns;

    if (was_suspended && target->execution_timeout_ns < used_ns) {
        used_ns = target->execution_timeout_ns;
    }
    keep_record(target, *record);
    md_fair_charge(&device->fair, &target->share,
                   (int64_t)used_ns - (int64_t)instance->expected_ns);
    target->scheduler.ops->done(&target->scheduler, record->requests, record->executed_ns);
    target->typical = instance;
    if (target->inline_safe && record->requests == 1 && !record->padding) {
        learn_inline(device, target, record->executed_ns);
    }
}

static void end_batch(struct md_device *device, struct md_instance *instance)
{
    struct md_target *target = instance->target;
    const bool looks = looks_itself(instance);
    enum md_wake wake = MD_WAKE_NOBODY;
    bool is_watched;
    struct md_trial *given_up = NULL;
    char name[128];

    pthread_mutex_lock(&device->mutex);
    bool resumed = instance->is_suspended;
    if (instance->learn_rows && !instance->is_tried && !resumed) { /* a hang is no measure */
        md_learned_time_add(&instance->time, instance->learn_rows, instance->learn_ns);
    }
    if (resumed) {
        md_service_resume(device, instance);
        (void)snprintf(name, sizeof name, "'%s' version %s", target->model_name.ptr,
                       target->version_text.ptr);
    }
    if (instance->is_tried) {
        instance->is_tried = false;
        given_up = instance->trial;
        instance->trial = NULL;
        is_watched = true;
    } else {
        account(device, instance, resumed);
        md_dispatch_idle(instance);
        target->running--;
        if (target->scheduler.length) {
            md_dispatch_review(device, target);
            wake = looks ? MD_WAKE_NOBODY : md_dispatch_sleeper(device, target);
        }
        is_watched = !target->accepting;
    }
    pthread_mutex_unlock(&device->mutex); /* from here on the instance may be gone */
    if (is_watched) {
        pthread_cond_broadcast(&device->changed);
    }
    md_dispatch_wake(device, wake);
    md_trial_destroy(given_up);
    if (resumed) {
        md_log(
            MD_LOG_INFO,
            "model %s: an execution that took too long has ended, its instance is back in service",
            name);
    }
}

void md_device_request_done(struct md_instance *instance)
{
    struct md_target *target = instance->target;
    struct md_device *device = target->device;

    /* acq_rel: what other threads did for the run is seen before the instance is used again */
    if (atomic_fetch_sub_explicit(&instance->unfinished, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (!md_batch_end_run(instance, md_clock_monotonic_ns())) {
        end_batch(device, instance);
        return;
    }
    pthread_mutex_lock(&device->mutex);
    enum md_wake wake = md_dispatch_ready(device, instance);
    pthread_mutex_unlock(&device->mutex);
    md_dispatch_wake(device, wake);
}
