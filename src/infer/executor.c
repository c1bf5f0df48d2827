/*
 * Executors: threads that ask the device for something to run, run it, and sleep.
 *
 * A sleeping one is woken when there may be something for it. While targets let a batch grow, one
 * of those that sleep does so only until the first of them is to be looked at again.
 *
 * One whose instance is out of service counts as blocked; another takes its place: one that rests,
 * or a new thread. When it comes back there is one too many, which rests.
 */
#include "infer/device_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { EXECUTOR_CACHE_BYTES = 16 << 20 };

static _Thread_local struct md_executor *current_executor;

struct md_executor *md_executor_current(void)
{
    return current_executor;
}

void md_device_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t until_ns)
{
    if (until_ns == UINT64_MAX) {
        pthread_cond_wait(condition, mutex);
        return;
    }
    const struct timespec until = {.tv_sec = (time_t)(until_ns / MD_NS_PER_S),
                                   .tv_nsec = (long)(until_ns % MD_NS_PER_S)};
    pthread_cond_timedwait(condition, mutex, &until);
}

/* mutex held on entry and return */
static void run_unlocked(struct md_executor *executor, struct md_instance *instance)
{
    struct md_device *device = executor->device;

    executor->inside = instance;
    pthread_mutex_unlock(&device->mutex);
    md_batch_run(instance);
    pthread_mutex_lock(&device->mutex);
    executor->inside = NULL;
    if (executor->is_blocked) { /* an asynchronous backend has returned, its batch goes on */
        executor->is_blocked = false;
        device->blocked--;
    }
}

/* mutex held on entry and return */
static void reject_unlocked(struct md_device *device, struct md_waiter *given_up)
{
    if (given_up) {
        pthread_mutex_unlock(&device->mutex);
        md_dispatch_reject(given_up, md_clock_monotonic_ns());
        pthread_mutex_lock(&device->mutex);
    }
}

/* mutex held on entry and return: nothing is to be run */
static void sleep_for_work(struct md_device *device)
{
    uint64_t until_ns = UINT64_MAX;

    device->waiting++;
    if (device->again_ns < device->watch_ns) {
        device->watch_ns = until_ns = device->again_ns;
    }
    md_device_wait(&device->work, &device->mutex, until_ns);
    if (until_ns != UINT64_MAX && device->watch_ns == until_ns) {
        device->watch_ns = UINT64_MAX;
    }
    device->waiting--;
    device->woken -= device->woken > 0;
}

/* mutex held on entry and return: there is enough for one more, or nobody looks when a batch that
 * grows is due */
static void wake_another(struct md_device *device)
{
    if ((device->ready_first || md_fair_next(&device->fair) ||
         device->again_ns < device->watch_ns) &&
        md_dispatch_take_sleeper(device)) {
        pthread_mutex_unlock(&device->mutex);
        pthread_cond_signal(&device->work);
        pthread_mutex_lock(&device->mutex);
    }
}

static size_t count_active(const struct md_device *device)
{
    return device->threads - device->blocked - device->resting - device->lost;
}

static void executor_loop(struct md_executor *executor)
{
    struct md_device *device = executor->device;

    pthread_mutex_lock(&device->mutex);
    while (!device->stop) {
        struct md_waiter *given_up = NULL;
        struct md_instance *instance = NULL;
        if (count_active(device) > device->executor_count) {
            wake_another(device); /* it may have been woken for something */
            if (device->stop || count_active(device) <= device->executor_count) {
                continue; /* one was blocked meanwhile */
            }
            device->resting++;
            pthread_cond_wait(&device->parked, &device->mutex);
            device->resting--;
            continue;
        }
        instance = md_dispatch_next(device, &given_up);
        if (instance) {
            executor->inside = instance;
            wake_another(device);
        }
        reject_unlocked(device, given_up);
        if (instance) {
            run_unlocked(executor, instance);
        } else if (!given_up && !device->stop) {
            sleep_for_work(device);
        }
    }
    pthread_mutex_unlock(&device->mutex);
}

/* mutex held on entry and return; false: there is nothing to run for now */
static bool bound_turn(struct md_executor *executor, uint64_t *again_ns)
{
    struct md_device *device = executor->device;
    struct md_instance *instance = executor->bound;
    struct md_waiter *given_up = NULL;
    bool runs = instance->is_ready;

    *again_ns = UINT64_MAX;
    if (runs) {
        md_dispatch_unready(device, instance);
    } else if (instance->target->accepting && instance->is_idle) {
        runs = md_dispatch_take(device, instance, md_clock_monotonic_ns(), &given_up, again_ns);
    }
    instance->is_idle = instance->is_idle && !runs;
    reject_unlocked(device, given_up);
    if (runs) {
        run_unlocked(executor, instance);
    }
    return runs || given_up;
}

static void bound_loop(struct md_executor *executor)
{
    struct md_device *device = executor->device;
    struct md_error err;
    bool ok = executor->calls.start(executor->calls.start_arg, &err);

    pthread_mutex_lock(&device->mutex);
    if (!ok) {
        *executor->start_error = err;
    }
    executor->start_ok = ok;
    executor->started = true;
    pthread_cond_broadcast(&device->changed);
    while (!executor->stop) {
        uint64_t again_ns = UINT64_MAX;
        if (!ok || !bound_turn(executor, &again_ns)) {
            md_device_wait(&device->bound_work, &device->mutex, again_ns);
        }
    }
    pthread_mutex_unlock(&device->mutex);
    if (ok) {
        executor->calls.stop(executor->calls.stop_arg);
    }
}

static void executor_main(void *arg)
{
    struct md_executor *executor = arg;

    current_executor = executor;
    if (executor->bound) {
        bound_loop(executor);
    } else {
        executor_loop(executor);
    }
    current_executor = NULL;
}

/* --- those of the device -------------------- */

static bool executor_start(struct md_device *device, struct md_executor *executor,
                           struct md_error *err)
{
    size_t cache_bytes =
        md_size_min(EXECUTOR_CACHE_BYTES, device->budget->limit_bytes / 8 / device->executor_count);

    executor->device = device;
    if (!md_pool_create(device->budget, cache_bytes, &executor->pool)) {
        return md_error_no_memory(err, "an executor");
    }
    if (!md_os_thread_start(&executor->thread, "executor", -1, executor_main, executor, err)) {
        md_pool_destroy(executor->pool);
        executor->pool = NULL;
        return false;
    }
    return true;
}

bool md_executors_start(struct md_device *device, struct md_error *err)
{
    device->capacity = device->executor_count + MD_EXECUTORS_SPARE;
    device->executors = md_calloc(device->capacity, sizeof *device->executors);
    if (!device->executors) {
        return md_error_no_memory(err, "a device");
    }
    for (size_t i = 0; i < device->executor_count; i++) {
        if (!executor_start(device, &device->executors[i], err)) {
            return false;
        }
        pthread_mutex_lock(&device->mutex);
        device->threads++;
        pthread_mutex_unlock(&device->mutex);
    }
    return true;
}

bool md_executors_stop(struct md_device *device)
{
    pthread_mutex_lock(&device->mutex);
    device->stop = true;
    const bool is_kept = device->is_kept || device->blocked || device->bound_count;
    pthread_mutex_unlock(&device->mutex);
    pthread_cond_broadcast(&device->work);
    pthread_cond_broadcast(&device->parked);
    if (is_kept) {
        atomic_store(&device->is_given_up, true);
        return false;
    }
    for (size_t i = 0; i < device->threads; i++) {
        if (device->executors[i].pool) {
            md_os_thread_join(&device->executors[i].thread);
            md_pool_destroy(device->executors[i].pool);
        }
    }
    return true;
}

bool md_executors_block(struct md_device *device, const struct md_instance *instance)
{
    bool found = false;

    for (size_t i = 0; i < device->threads; i++) {
        struct md_executor *executor = &device->executors[i];
        if (executor->inside == instance && !executor->is_blocked) {
            executor->is_blocked = found = true;
            device->blocked++;
        }
    }
    return found;
}

void md_executors_unblock(struct md_device *device, const struct md_instance *instance)
{
    for (size_t i = 0; i < device->threads; i++) {
        struct md_executor *executor = &device->executors[i];
        if (executor->inside == instance) {
            device->blocked -= executor->is_blocked;
            executor->is_blocked = false;
        }
    }
}

void md_executors_replace(struct md_device *device)
{
    struct md_executor *executor = NULL;
    struct md_error err;

    pthread_mutex_lock(&device->mutex);
    bool is_short = !device->stop && count_active(device) < device->executor_count;
    if (is_short && count_active(device) + device->resting < device->executor_count &&
        device->threads < device->capacity) {
        executor = &device->executors[device->threads++];
    }
    pthread_mutex_unlock(&device->mutex);
    if (executor && !executor_start(device, executor, &err)) {
        pthread_mutex_lock(&device->mutex);
        device->lost++;
        pthread_mutex_unlock(&device->mutex);
        md_log(MD_LOG_WARNING, "no thread in place of one that does not come back: %s", err.text);
    }
    if (is_short) {
        pthread_cond_signal(&device->parked); /* who rests takes a place, too */
    }
}

/* --- of one instance -------------------- */

bool md_device_bind(struct md_device *device, struct md_instance *instance,
                    const struct md_bound_calls *calls, struct md_error *err)
{
    struct md_executor *executor = md_calloc(1, sizeof *executor);

    if (!executor) {
        return md_error_no_memory(err, "an executor");
    }
    *executor = (struct md_executor){
        .device = device, .bound = instance, .calls = *calls, .start_error = err};
    if (!md_os_thread_start(&executor->thread, "bound", -1, executor_main, executor, err)) {
        md_free(executor);
        return false;
    }
    instance->bound = executor;
    pthread_mutex_lock(&device->mutex);
    device->bound_count++;
    while (!executor->started) {
        pthread_cond_wait(&device->changed, &device->mutex);
    }
    bool ok = executor->start_ok;
    pthread_mutex_unlock(&device->mutex);
    if (!ok) {
        md_device_unbind(device, instance);
    }
    return ok;
}

void md_device_unbind(struct md_device *device, struct md_instance *instance)
{
    struct md_executor *executor = instance->bound;

    pthread_mutex_lock(&device->mutex);
    executor->stop = true;
    device->bound_count--;
    pthread_cond_broadcast(&device->bound_work);
    pthread_mutex_unlock(&device->mutex);
    md_os_thread_join(&executor->thread);
    md_free(executor);
    instance->bound = NULL;
}
