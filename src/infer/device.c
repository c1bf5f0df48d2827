/*
 * Device: its life, and targets that come and go.
 *
 * The mutex guards schedulers, idle lists, turns and counters; it is released before a backend or
 * the responder is called.
 */
#include "infer/device_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { DETACH_PATIENCE_S = 10, WATCH_MS = 20 };

/* --- memory -------------------- */

struct md_block *md_device_block(struct md_device *device, size_t bytes)
{
    struct md_loop *loop = md_loop_current();
    const struct md_executor *executor = md_executor_current();
    bool over_budget;

    if (loop) {
        return md_pool_alloc(md_loop_pool(loop), bytes, &over_budget);
    }
    if (executor && executor->pool) {
        return md_pool_alloc(executor->pool, bytes, &over_budget);
    }
    return md_block_create(device->budget, bytes, &over_budget);
}

bool md_device_is_given_up(const struct md_device *device)
{
    return atomic_load((atomic_bool *)(uintptr_t)&device->is_given_up);
}

struct md_budget *md_device_budget(struct md_device *device)
{
    return device->budget;
}

/* --- life -------------------- */

static void init_conditions(struct md_device *device)
{
    pthread_cond_t *const all[] = {&device->work, &device->bound_work, &device->parked,
                                   &device->changed};
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    for (size_t i = 0; i < MD_COUNT_OF(all); i++) {
        pthread_cond_init(all[i], &attributes);
    }
    pthread_condattr_destroy(&attributes);
}

bool md_device_create(const struct md_device_options *options, struct md_device **out,
                      struct md_error *err)
{
    struct md_device *device = md_alloc_aligned(MD_CACHE_LINE, sizeof *device);

    if (!device) {
        return md_error_no_memory(err, "a device");
    }
    *device = (struct md_device){
        .budget = options->budget,
        .inline_limit_ns = options->inline_limit_ns,
        .detach_patience_ns = options->detach_patience_ns
                                  ? options->detach_patience_ns
                                  : DETACH_PATIENCE_S * (uint64_t)MD_NS_PER_S,
        .executor_count = options->executor_count,
        .again_ns = UINT64_MAX,
        .watch_ns = UINT64_MAX,
    };
    pthread_mutex_init(&device->mutex, NULL);
    init_conditions(device);
    if (!md_executors_start(device, err)) {
        md_device_destroy(device);
        return false;
    }
    *out = device;
    return true;
}

void md_device_destroy(struct md_device *device)
{
    if (!device || !md_executors_stop(device)) {
        return;
    }
    pthread_cond_destroy(&device->work);
    pthread_cond_destroy(&device->bound_work);
    pthread_cond_destroy(&device->parked);
    pthread_cond_destroy(&device->changed);
    pthread_mutex_destroy(&device->mutex);
    md_fair_deinit(&device->fair);
    md_free(device->executors);
    md_free(device);
}

/* --- targets -------------------- */

static size_t least_capacity(struct md_instance *const *instances, size_t count)
{
    size_t least = UINT32_MAX;

    for (size_t i = 0; i < count; i++) {
        md_instance_prepare(instances[i]);
        least = md_size_min(least, instances[i]->capacity);
    }
    return least;
}

/* Streamed responses take the mailbox: the end must not overtake them. What needs padding, a limit
 * for the execution, its place in the order, or is to wait for others goes the long way. */
static bool may_inline(const struct md_target *target)
{
    const struct md_batcher_config *config = &target->scheduler.batcher.config;

    return target->inline_safe && target->inline_mode != MD_INLINE_OFF && !target->decoupled &&
           !target->execution_timeout_ns && !target->scheduler.keeps_order &&
           !config->allowed_count && !config->delay_ns;
}

/* mutex held */
static void open_target(struct md_device *device, struct md_target *target,
                        struct md_instance *const *instances, size_t count)
{
    target->instances = instances;
    target->instance_count = count;
    target->typical = instances[0];
    target->suspended = 0;
    target->suspended_ns = 0;
    target->backlog.picked_ns = 0;
    target->backlog.stretch_permille = 1000;
    target->share.weight = target->share.weight ? target->share.weight : 1;
    for (size_t i = count; i-- > 0;) {
        target->has_bound = instances[i]->bound;
        md_dispatch_idle(instances[i]);
    }
    /* Nothing is known of it yet: executors try it out. relaxed: an estimate */
    atomic_store_explicit(&target->inline_ns, 2 * device->inline_limit_ns, memory_order_relaxed);
    target->may_inline = may_inline(target);
    target->accepting = true;
    atomic_store(&target->in_service, (uint32_t)count);
    atomic_store(&target->out_of_service, 0);
    atomic_store(&target->shown_until_ns, 0);
}

bool md_device_attach(struct md_device *device, struct md_target *target,
                      struct md_instance *const *instances, size_t count, struct md_error *err)
{
    assert(target->device == device && count > 0);
    md_scheduler_prepare(&target->scheduler, (uint32_t)least_capacity(instances, count));
    pthread_mutex_lock(&device->mutex);
    bool ok = md_fair_reserve(&device->fair);
    if (ok) {
        open_target(device, target, instances, count);
    }
    pthread_mutex_unlock(&device->mutex);
    return ok || md_error_no_memory(err, "a model's share of the device");
}

/* mutex held: nobody else may look after them any more, as when loops have ended */
static void suspend_overdue(struct md_device *device, struct md_target *target)
{
    const uint64_t now_ns = md_clock_monotonic_ns();

    for (size_t i = 0; target->execution_timeout_ns && i < target->instance_count; i++) {
        struct md_instance *instance = target->instances[i];
        /* relaxed: a run that began a moment ago is no matter */
        uint64_t run_ns = atomic_load_explicit(&instance->run_ns, memory_order_relaxed);
        if (run_ns && run_ns < now_ns && now_ns - run_ns >= target->execution_timeout_ns) {
            (void)md_service_suspend(device, instance);
        }
    }
}

/* mutex held on entry and return; false: some batches do not end */
static bool wait_for_batches(struct md_device *device, struct md_target *target)
{
    uint64_t patient_until_ns = 0;

    while (target->running > 0) {
        uint64_t now_ns = md_clock_monotonic_ns();
        suspend_overdue(device, target);
        if (target->running > target->suspended) {
            patient_until_ns = 0;
        } else if (!patient_until_ns) {
            patient_until_ns = now_ns + device->detach_patience_ns;
        } else if (patient_until_ns <= now_ns) {
            return false;
        }
        md_device_wait(&device->changed, &device->mutex,
                       target->execution_timeout_ns ? now_ns + WATCH_MS * (uint64_t)MD_NS_PER_MS
                                                    : UINT64_MAX);
    }
    return true;
}

static size_t fail_waiting(const struct md_target *target, struct md_waiter *waiting,
                           const char *why)
{
    size_t count = 0;

    for (struct md_waiter *next; waiting; waiting = next) {
        struct md_request *request = md_request_of_waiter(waiting);
        next = waiting->next;
        md_error_set(&request->error, MD_REASON_EXITING, "'%s' version %s %s",
                     target->model_name.ptr, target->version_text.ptr, why);
        md_request_reject(request);
        count++;
    }
    return count;
}

static size_t close_target(struct md_device *device, struct md_target *target, const char *why)
{
    pthread_mutex_lock(&device->mutex);
    target->accepting = false;
    struct md_waiter *waiting = target->scheduler.ops->drain(&target->scheduler);
    md_dispatch_undefer(device, target);
    md_dispatch_review(device, target);
    pthread_mutex_unlock(&device->mutex);
    return fail_waiting(target, waiting, why);
}

size_t md_device_end(struct md_device *device, struct md_target *target)
{
    return close_target(device, target, MD_DEVICE_ENDS);
}

bool md_device_detach(struct md_device *device, struct md_target *target)
{
    (void)close_target(device, target, "is being unloaded");
    pthread_mutex_lock(&device->mutex);
    bool ended = wait_for_batches(device, target);
    md_fair_unreserve(&device->fair, &target->share);
    atomic_store(&target->in_service, 0);
    device->is_kept |= !ended && target->instances[0]->asynchronous; /* no executor is inside */
    if (ended) {
        atomic_store(&target->out_of_service, 0);
        target->idle = target->typical = NULL;
        target->instances = NULL;
        target->instance_count = 0;
    }
    pthread_mutex_unlock(&device->mutex);
    return ended;
}

/* --- what it did -------------------- */

size_t md_target_recent_batches(struct md_target *target, struct md_batch_record *out, size_t max)
{
    if (!target->device) {
        return 0;
    }
    pthread_mutex_lock(&target->device->mutex);
    size_t count = md_size_min(max, md_size_min(target->recent_count, MD_TARGET_BATCHES_KEPT));
    for (size_t i = 0; i < count; i++) {
        out[i] = target->recent[(target->recent_count - 1 - i) % MD_TARGET_BATCHES_KEPT];
    }
    pthread_mutex_unlock(&target->device->mutex);
    return count;
}

bool md_target_is_running(struct md_target *target)
{
    if (!target->device) {
        return false;
    }
    pthread_mutex_lock(&target->device->mutex);
    const bool is_running = target->running > 0;
    pthread_mutex_unlock(&target->device->mutex);
    return is_running;
}

bool md_target_learned(struct md_target *target, size_t instance, struct md_learned_time *out)
{
    if (!target->device) {
        return false;
    }
    pthread_mutex_lock(&target->device->mutex);
    const bool is_there = instance < target->instance_count;
    if (is_there) {
        *out = target->instances[instance]->time;
    }
    pthread_mutex_unlock(&target->device->mutex);
    return is_there;
}
