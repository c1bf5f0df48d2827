/*
 * Requests come: inline, where the target is cheap and idle, else to its scheduler.
 */
#include "infer/device_internal.h"

#include "base/clock.h"
#include "loop/loop.h"

/* --- what the scheduler is told (mutex held) -------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint64_t mix_name(uint64_t hash, struct md_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ (unsigned char)name.ptr[i]) * 0x100000001b3u;
    }
    return mix(hash, name.len);
}

/* Equal for requests that may run together: names, types, shapes but for the rows. Of one whose
 * inputs do not have the same rows, or nothing in them: its own. */
static uint64_t shape_key(const struct md_request *request, uint32_t *rows)
{
    uint64_t key = request->input_count;

    for (size_t i = 0; i < request->input_count; i++) {
        const struct md_tensor *input = &request->inputs[i];
        if (input->rank == 0 || input->bytes == 0 || input->shape[0] > UINT32_MAX ||
            input->shape[0] != request->inputs[0].shape[0]) {
            *rows = 1;
            return mix(1, (uintptr_t)request);
        }
        key = mix(mix_name(key, input->name), (uint64_t)input->dtype << 32 | input->rank);
        for (uint32_t k = 1; k < input->rank; k++) {
            key = mix(key, (uint64_t)input->shape[k]);
        }
    }
    *rows = request->input_count ? (uint32_t)request->inputs[0].shape[0] : 1;
    return key;
}

void md_submit_fill_waiter(struct md_request *request)
{
    struct md_waiter *waiter = &request->waiter;

    waiter->priority = request->priority;
    waiter->timeout_ns = request->timeout_ns;
    waiter->deadline_ns = request->deadline_ns;
    waiter->bytes = 0;
    for (size_t i = 0; i < request->input_count; i++) {
        waiter->bytes += request->inputs[i].bytes;
    }
    if (request->target->scheduler.batcher.config.max_rows > 1) {
        waiter->shape = shape_key(request, &waiter->rows);
    } else {
        waiter->shape = 0;
        waiter->rows = (uint32_t)md_size_min((size_t)request->rows, UINT32_MAX);
    }
}

static void make_forecast(const struct md_target *target, uint64_t now_ns, struct md_forecast *out)
{
    uint64_t free_ns = UINT64_MAX;

    for (size_t i = 0; !target->idle && i < target->instance_count; i++) {
        const struct md_instance *instance = target->instances[i];
        uint64_t end_ns = instance->is_idle ? now_ns : instance->expected_end_ns;
        if (!instance->is_suspended && end_ns < free_ns) {
            free_ns = end_ns;
        }
    }
    *out = (struct md_forecast){
        .free_ns = free_ns == UINT64_MAX || free_ns < now_ns ? now_ns : free_ns,
        .instances = (uint32_t)target->instance_count - target->suspended,
        .stretch_permille = target->backlog.stretch_permille,
    };
}

bool md_submit_refuse(const struct md_target *target, struct md_error *err)
{
    const bool ends = !target->accepting && target->device->hurries;

    return md_error_set(err, ends ? MD_REASON_EXITING : MD_REASON_NOT_READY, "'%s' version %s %s",
                        target->model_name.ptr, target->version_text.ptr,
                        target->accepting ? "is out of service: an execution does not end"
                        : ends            ? MD_DEVICE_ENDS
                                          : "is not at ready state");
}

static bool may_run_inline(const struct md_device *device, const struct md_request *request)
{
    const struct md_target *target = request->target;

    if (!target->may_inline || target->scheduler.length || !target->idle ||
        (request->deadline_ns && request->deadline_ns <= request->queued_ns)) {
        return false;
    }
    /* relaxed: written under the mutex */
    return target->inline_mode == MD_INLINE_ON ||
           atomic_load_explicit(&target->inline_ns, memory_order_relaxed) < device->inline_limit_ns;
}

static void run_inline(struct md_request *request, struct md_instance *instance)
{
    md_batch_run_inline(instance, request);
    md_dispatch_end_inline(instance, request);
    md_request_deliver(request);
}

/* mutex held */
static bool enqueue(struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_forecast forecast;
    bool has_deadline = request->deadline_ns;

    if (!target->accepting || target->suspended_ns) {
        return md_submit_refuse(target, &request->error);
    }
    md_submit_fill_waiter(request);
    if (has_deadline) {
        make_forecast(target, request->queued_ns, &forecast);
    }
    return target->scheduler.ops->submit(&target->scheduler, &request->waiter,
                                         &target->typical->time, has_deadline ? &forecast : NULL,
                                         request->queued_ns, &request->error);
}

/* others_wait: it is too much that comes, not this one that asks too much. */
static void refuse(struct md_request *request, bool others_wait)
{
    if (others_wait) {
        md_loop_coalesce(request->loop);
    }
    if (request->error.reason == MD_REASON_QUEUE_FULL) {
        (void)md_request_name(request, &request->error);
    }
    request->on_loop = true;
    md_request_reject(request);
}

uint64_t md_device_submit(struct md_device *device, struct md_request *request)
{
    struct md_target *target = request->target;

    request->queued_ns = md_clock_monotonic_ns();
    if (request->deadline_ns > request->begin_ns) {
        md_loop_note_patience(request->loop, request->deadline_ns - request->begin_ns);
    }
    pthread_mutex_lock(&device->mutex);
    if (target->accepting && may_run_inline(device, request)) {
        struct md_instance *instance = md_dispatch_idle_pop(target);
        target->running++;
        pthread_mutex_unlock(&device->mutex);
        run_inline(request, instance);
        return 0;
    }
    const bool ok = enqueue(request), others_wait = target->scheduler.length > 0;
    if (!ok) {
        pthread_mutex_unlock(&device->mutex);
        refuse(request, others_wait);
        return 0;
    }
    const enum md_wake wake = md_dispatch_reconsider(device, target);
    const uint64_t limit_ns = md_service_limit(request);
    pthread_mutex_unlock(&device->mutex);
    md_dispatch_wake(device, wake);
    return limit_ns;
}

bool md_device_withdraw(struct md_device *device, struct md_request *request)
{
    struct md_target *target = request->target;

    pthread_mutex_lock(&device->mutex);
    bool withdrawn = !(atomic_load(&request->state) & MD_REQUEST_RUNNING) &&
                     target->scheduler.ops->cancel(&target->scheduler, &request->waiter);
    const enum md_wake wake = withdrawn ? md_dispatch_reconsider(device, target) : MD_WAKE_NOBODY;
    pthread_mutex_unlock(&device->mutex);
    md_dispatch_wake(device, wake);
    return withdrawn;
}
