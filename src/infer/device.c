/*
 * Device: one mutex, the targets with waiting requests in a ring, the executors that ask for work.
 *
 * Invariants
 *  1. The mutex guards schedulers, idle lists, the ring and the counters; it is released before a
 * backend or the responder is called.
 *  2. An instance is idle (in its target's list) or runs exactly one batch. THREAD_BOUND instances
 * are never in a list: their own executor knows them.
 *  3. A target is in the ring if and only if requests wait in its scheduler.
 */
#include "infer/device.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "os/thread.h"

#include <pthread.h>

enum { EXECUTOR_CACHE_BYTES = 16 << 20, LOGGED_ID_MAX = 127 };

struct md_executor {
    struct md_device *device;
    struct md_instance *bound; /* runs this instance alone; NULL: any */
    struct md_bound_calls calls;
    struct md_pool
        *pool; /* own; NULL for a bound one, which may end before the blocks that it made */
    struct md_os_thread thread;
    struct md_error *start_error; /* bound: where start reports, until `started` */
    bool started, start_ok, stop; /* under the mutex */
};

struct md_device {
    struct md_budget *budget;
    uint64_t inline_limit_ns;
    struct md_executor *executors; /* own */
    size_t executor_count;

    _Alignas(MD_CACHE_LINE) pthread_mutex_t mutex;
    pthread_cond_t work;       /* an executor may find something to run */
    pthread_cond_t bound_work; /* a bound executor may, or is to end: all look */
    pthread_cond_t changed;    /* a batch has ended, a bound executor has started */
    struct md_target *ring;    /* last of the ring; its ring_next is the first */
    size_t waiting;            /* executors that sleep, bound ones apart */
    bool stop;
};

static _Thread_local struct md_executor *current_executor;

/* --- ring of targets with waiting requests (mutex held) -------------------- */

static void ring_add(struct md_device *device, struct md_target *target)
{
    if (target->in_ring) {
        return;
    }
    if (device->ring) {
        target->ring_next = device->ring->ring_next;
        device->ring->ring_next = target;
    } else {
        target->ring_next = target;
    }
    device->ring = target;
    target->in_ring = true;
}

static void ring_remove_after(struct md_device *device, struct md_target *previous)
{
    struct md_target *target = previous->ring_next;

    previous->ring_next = target->ring_next;
    if (device->ring == target) {
        device->ring = target == previous ? NULL : previous;
    }
    target->ring_next = NULL;
    target->in_ring = false;
}

static void note_queue_length(struct md_device *device, struct md_target *target)
{
    /* relaxed: a gauge */
    atomic_store_explicit(&target->pending, target->scheduler.length, memory_order_relaxed);
    if (target->scheduler.length == 0 && target->in_ring) {
        struct md_target *previous = device->ring;
        while (previous->ring_next != target) {
            previous = previous->ring_next;
        }
        ring_remove_after(device, previous);
    }
}

/* --- picking (mutex held) -------------------- */

static void instance_push(struct md_instance *instance)
{
    instance->idle_next = instance->target->idle;
    instance->target->idle = instance;
}

static struct md_instance *instance_pop(struct md_target *target)
{
    struct md_instance *instance = target->idle;

    if (instance) {
        target->idle = instance->idle_next;
    }
    return instance;
}

static bool fill_batch(struct md_device *device, struct md_target *target,
                       struct md_instance *instance)
{
    size_t count = target->scheduler.ops->pick(&target->scheduler, instance->batch,
                                               MD_INSTANCE_BATCH_MAX, md_clock_monotonic_ns());

    note_queue_length(device, target);
    instance->batch_count = count;
    target->running += count > 0;
    for (size_t i = 0; i < count; i++) {
        instance->batch[i]->instance = instance;
        md_slot_open(&instance->slots[i], instance->batch[i]);
        atomic_store(&instance->batch[i]->state, MD_REQUEST_RUNNING);
    }
    return count > 0;
}

/* The next target in turn that has both a waiting request and an idle instance. */
static struct md_instance *pick(struct md_device *device)
{
    struct md_target *previous = device->ring;

    if (!previous) {
        return NULL;
    }
    struct md_target *const end = previous;
    do {
        struct md_target *target = previous->ring_next;
        struct md_instance *instance = instance_pop(target);
        if (instance && fill_batch(device, target, instance)) {
            if (target->in_ring) {
                device->ring = target; /* it goes to the end of the turn */
            }
            return instance;
        }
        if (instance) {
            instance_push(instance);
        }
        previous = target;
    } while (previous != end);
    return NULL;
}

/* --- running a batch -------------------- */

static struct modeld_tensor *make_inputs(struct md_request *request)
{
    struct modeld_tensor *tensors =
        md_arena_calloc(request->arena, request->input_count, sizeof *tensors);

    for (size_t i = 0; tensors && i < request->input_count; i++) {
        const struct md_tensor *input = &request->inputs[i];
        tensors[i] = (struct modeld_tensor){
            .name = input->name.ptr,
            .dtype = (uint32_t)input->dtype,
            .rank = input->rank,
            .shape = input->shape,
            .data = input->data,
            .bytes = input->bytes,
        };
    }
    return tensors;
}

static const char **make_output_names(struct md_request *request)
{
    const char **names = md_arena_calloc(request->arena, request->output_count, sizeof *names);

    for (size_t i = 0; names && i < request->output_count; i++) {
        names[i] = request->outputs[i].ptr;
    }
    return names;
}

static void execute(struct md_instance *instance)
{
    struct md_request *request = instance->batch[0];
    const modeld_request id = request->handle;
    struct modeld_tensor *inputs = make_inputs(request);
    const char **names = make_output_names(request);

    if (!inputs || !names) {
        md_request_finish(id, MODELD_RESOURCE_EXHAUSTED, "out of memory", MODELD_FINISH_FINAL);
        return;
    }
    const struct modeld_batch batch = {
        .struct_size = sizeof batch,
        .request_count = 1,
        .requests = &id,
        .rows = &request->rows,
        .input_count = (uint32_t)request->input_count,
        .input_stride = sizeof *inputs,
        .inputs = inputs,
        .output_count = (uint32_t)request->output_count,
        .output_names = names,
    };
    /* A copy: once the backend has finished the request, its memory may be gone while execute still
     * runs. */
    char id_text[LOGGED_ID_MAX + 1];
    size_t id_len = md_size_min(request->id.len, LOGGED_ID_MAX);
    memcpy(id_text, request->id.ptr, id_len);
    id_text[id_len] = '\0';
    const struct md_log_context context = {
        .model = instance->target->model_name.ptr,
        .version = instance->target->version,
        .request_id = id_len ? id_text : NULL,
    };
    request->infer_ns = md_clock_monotonic_ns();
    const struct md_log_context *before = md_log_set_context(&context);
    instance->api->execute(instance->handle, &batch);
    md_log_set_context(before);
}

static void run_batch(struct md_instance *instance, bool on_loop)
{
    struct md_request *request = instance->batch[0];
    const modeld_request id = request->handle;

    atomic_store(&instance->unfinished, (unsigned)instance->batch_count + 1);
    request->picked_ns = request->infer_ns = md_clock_monotonic_ns();
    request->on_loop = on_loop;
    request->leads_batch = true;
    request->batch_rows = request->rows;
    execute(instance);
    if (!instance->asynchronous && md_request_is_live(id)) {
        md_request_finish(id, MODELD_INTERNAL, "the backend returned without finishing the request",
                          MODELD_FINISH_FINAL);
    }
}

/* Learns from every execution, on a loop or on an executor, so that a target that was slow for a
 * while comes back. One outlier (a preempted thread) counts no more than twice the limit. */
static void learn_inline(const struct md_device *device, struct md_target *target, uint64_t ns)
{
    ns = md_size_min(ns, 2 * device->inline_limit_ns);
    uint64_t average = atomic_load_explicit(&target->inline_ns, memory_order_relaxed);

    /* relaxed: an estimate; a lost update of another loop does no harm. A quarter weight to the
     * newest run. */
    atomic_store_explicit(&target->inline_ns, average - average / 4 + ns / 4, memory_order_relaxed);
}

/* --- executors -------------------- */

/* mutex held on entry and return */
static void run_unlocked(struct md_device *device, struct md_instance *instance)
{
    struct md_target *target = instance->target;

    pthread_mutex_unlock(&device->mutex);
    uint64_t begin_ns = md_clock_monotonic_ns();
    run_batch(instance, false);
    if (target->inline_safe) {
        learn_inline(device, target, md_clock_monotonic_ns() - begin_ns);
    }
    md_device_request_done(instance); /* execute's own share */
    pthread_mutex_lock(&device->mutex);
}

static void executor_loop(struct md_executor *executor)
{
    struct md_device *device = executor->device;

    pthread_mutex_lock(&device->mutex);
    while (!device->stop) {
        struct md_instance *instance = pick(device);
        if (instance) {
            run_unlocked(device, instance);
        } else {
            device->waiting++;
            pthread_cond_wait(&device->work, &device->mutex);
            device->waiting--;
        }
    }
    pthread_mutex_unlock(&device->mutex);
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
        struct md_instance *instance = executor->bound;
        struct md_target *target = instance->target;
        if (ok && target->accepting && instance->is_idle && fill_batch(device, target, instance)) {
            instance->is_idle = false;
            run_unlocked(device, instance);
        } else {
            pthread_cond_wait(&device->bound_work, &device->mutex);
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

static bool executor_start(struct md_executor *executor, const char *name, struct md_error *err)
{
    return md_os_thread_start(&executor->thread, name, -1, executor_main, executor, err);
}

/* --- submit, withdraw, done -------------------- */

static bool may_run_inline(const struct md_device *device, const struct md_target *target)
{
    /* Streamed responses take the mailbox: the end must not overtake them. */
    if (!target->inline_safe || target->decoupled || target->inline_mode == MD_INLINE_OFF ||
        target->scheduler.length || !target->idle) {
        return false;
    }
    /* relaxed: an estimate */
    return target->inline_mode == MD_INLINE_ON ||
           atomic_load_explicit(&target->inline_ns, memory_order_relaxed) < device->inline_limit_ns;
}

static void run_inline(struct md_request *request, struct md_instance *instance)
{
    struct md_target *target = request->target;

    instance->batch[0] = request;
    instance->batch_count = 1;
    request->instance = instance;
    md_slot_open(&instance->slots[0], request);
    atomic_store_explicit(&request->state, MD_REQUEST_RUNNING,
                          memory_order_relaxed); /* relaxed: this thread's alone */
    run_batch(instance, true);
    learn_inline(target->device, target, request->finished_ns - request->infer_ns);
    /* The request (1) and execute itself (1): both are over. */
    atomic_store_explicit(&instance->unfinished, 1, memory_order_relaxed); /* relaxed: as above */
    md_device_request_done(instance);
    md_request_deliver(request);
}

/* mutex held: somebody sleeps who could run the target's next request */
static bool someone_can_run(const struct md_device *device, const struct md_target *target)
{
    return target->has_bound || (device->waiting > 0 && target->idle);
}

static void wake_executors(struct md_device *device, const struct md_target *target)
{
    if (target->has_bound) {
        pthread_cond_broadcast(&device->bound_work);
    } else {
        pthread_cond_signal(&device->work);
    }
}

void md_device_submit(struct md_device *device, struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_instance *instance = NULL;
    bool wake = false;
    bool ok;

    request->queued_ns = md_clock_monotonic_ns();
    pthread_mutex_lock(&device->mutex);
    if (!target->accepting) {
        ok = md_error_set(&request->error, MD_REASON_NOT_READY,
                          "'%s' version %s is not at ready state", target->model_name.ptr,
                          target->version_text.ptr);
    } else if (may_run_inline(device, target)) {
        instance = instance_pop(target);
        target->running++;
        ok = true;
    } else {
        ok = target->scheduler.ops->submit(&target->scheduler, request, &request->error);
        if (ok) {
            ring_add(device, target);
            note_queue_length(device, target);
            wake = someone_can_run(device, target);
        }
    }
    pthread_mutex_unlock(&device->mutex);
    if (instance) {
        run_inline(request, instance);
    } else if (wake) {
        wake_executors(device, target);
    } else if (!ok) {
        request->on_loop = true;
        md_request_reject(request);
    }
}

bool md_device_withdraw(struct md_device *device, struct md_request *request)
{
    struct md_target *target = request->target;

    pthread_mutex_lock(&device->mutex);
    bool withdrawn = !(atomic_load(&request->state) & MD_REQUEST_RUNNING) &&
                     target->scheduler.ops->cancel(&target->scheduler, request);
    note_queue_length(device, target);
    pthread_mutex_unlock(&device->mutex);
    return withdrawn;
}

void md_device_request_done(struct md_instance *instance)
{
    struct md_target *target = instance->target;
    struct md_device *device = target->device;

    /* acq_rel: what other threads did for the batch is seen before the instance is used again */
    if (atomic_fetch_sub_explicit(&instance->unfinished, 1, memory_order_acq_rel) != 1) {
        return;
    }
    pthread_mutex_lock(&device->mutex);
    target->scheduler.ops->done(&target->scheduler, instance->batch_count, 0);
    if (instance->bound) {
        instance->is_idle = true;
    } else {
        instance_push(instance);
    }
    target->running--;
    /* An executor looks for its next batch itself. */
    bool looks = instance->bound ? current_executor == instance->bound : current_executor != NULL;
    bool wake = target->in_ring && !looks && someone_can_run(device, target);
    if (!target->accepting) {
        pthread_cond_broadcast(&device->changed);
    }
    pthread_mutex_unlock(&device->mutex);
    if (wake) {
        wake_executors(device, target);
    }
}

struct md_block *md_device_block(struct md_device *device, size_t bytes)
{
    struct md_loop *loop = md_loop_current();
    bool over_budget;

    if (loop) {
        return md_pool_alloc(md_loop_pool(loop), bytes, &over_budget);
    }
    if (current_executor && current_executor->pool) {
        return md_pool_alloc(current_executor->pool, bytes, &over_budget);
    }
    return md_block_create(device->budget, bytes, &over_budget);
}

struct md_budget *md_device_budget(struct md_device *device)
{
    return device->budget;
}

/* --- life -------------------- */

static void stop_executors(struct md_device *device)
{
    pthread_mutex_lock(&device->mutex);
    device->stop = true;
    pthread_cond_broadcast(&device->work);
    pthread_mutex_unlock(&device->mutex);
    for (size_t i = 0; i < device->executor_count; i++) {
        md_os_thread_join(&device->executors[i].thread);
        md_pool_destroy(device->executors[i].pool);
    }
}

bool md_device_create(const struct md_device_options *options, struct md_device **out,
                      struct md_error *err)
{
    struct md_device *device = md_alloc_aligned(MD_CACHE_LINE, sizeof *device);

    if (!device) {
        return md_error_no_memory(err, "a device");
    }
    *device =
        (struct md_device){.budget = options->budget, .inline_limit_ns = options->inline_limit_ns};
    pthread_mutex_init(&device->mutex, NULL);
    pthread_cond_init(&device->work, NULL);
    pthread_cond_init(&device->bound_work, NULL);
    pthread_cond_init(&device->changed, NULL);
    device->executors = md_calloc(options->executor_count, sizeof *device->executors);
    if (!device->executors) {
        md_device_destroy(device);
        return md_error_no_memory(err, "a device");
    }
    for (size_t i = 0; i < options->executor_count; i++) {
        struct md_executor *executor = &device->executors[i];
        executor->device = device;
        size_t cache_bytes = md_size_min(EXECUTOR_CACHE_BYTES, options->budget->limit_bytes / 8 /
                                                                   options->executor_count);
        if (!md_pool_create(device->budget, cache_bytes, &executor->pool)) {
            md_device_destroy(device);
            return md_error_no_memory(err, "an executor");
        }
        if (!executor_start(executor, "executor", err)) {
            md_pool_destroy(executor->pool);
            md_device_destroy(device);
            return false;
        }
        device->executor_count++;
    }
    *out = device;
    return true;
}

void md_device_destroy(struct md_device *device)
{
    if (!device) {
        return;
    }
    stop_executors(device);
    pthread_cond_destroy(&device->work);
    pthread_cond_destroy(&device->bound_work);
    pthread_cond_destroy(&device->changed);
    pthread_mutex_destroy(&device->mutex);
    md_free(device->executors);
    md_free(device);
}

bool md_instance_reserve(struct md_instance *instance, size_t requests, struct md_error *err)
{
    (void)instance;
    (void)requests;
    (void)err;
    return true;
}

void md_instance_deinit(struct md_instance *instance)
{
    (void)instance;
}

size_t md_target_recent_batches(struct md_target *target, struct md_batch_record *out, size_t max)
{
    (void)target;
    (void)out;
    (void)max;
    return 0;
}

bool md_target_learned(struct md_target *target, size_t instance, uint32_t rows, uint64_t *mean_ns,
                       uint64_t *high_ns, uint32_t *count)
{
    (void)target;
    (void)instance;
    (void)rows;
    *mean_ns = *high_ns = 0;
    *count = 0;
    return false;
}

bool md_device_attach(struct md_device *device, struct md_target *target,
                      struct md_instance *const *instances, size_t count, struct md_error *err)
{
    (void)err;
    assert(target->device == device);
    pthread_mutex_lock(&device->mutex);
    for (size_t i = count; i-- > 0;) {
        if (instances[i]->bound) {
            instances[i]->is_idle = true;
            target->has_bound = true;
        } else {
            instance_push(instances[i]);
        }
    }
    target->instance_count = count;
    /* Nothing is known of it yet: executors try it out. relaxed: an estimate */
    atomic_store_explicit(&target->inline_ns, 2 * device->inline_limit_ns, memory_order_relaxed);
    target->accepting = true;
    atomic_store(&target->in_service, (uint32_t)count);
    pthread_mutex_unlock(&device->mutex);
    return true;
}

bool md_device_detach(struct md_device *device, struct md_target *target)
{
    struct md_request *request;

    pthread_mutex_lock(&device->mutex);
    target->accepting = false;
    while (target->scheduler.ops->pick(&target->scheduler, &request, 1, md_clock_monotonic_ns()) ==
           1) {
        md_error_set(&request->error, MD_REASON_EXITING, "'%s' version %s is being unloaded",
                     target->model_name.ptr, target->version_text.ptr);
        md_request_reject(
            request); /* posts to its home loop: no system call but a wake-up, at the end of life */
    }
    note_queue_length(device, target);
    while (target->running > 0) {
        pthread_cond_wait(&device->changed, &device->mutex);
    }
    target->idle = NULL;
    target->instance_count = 0;
    atomic_store(&target->in_service, 0);
    pthread_mutex_unlock(&device->mutex);
    return true;
}

bool md_device_bind(struct md_device *device, struct md_instance *instance,
                    const struct md_bound_calls *calls, struct md_error *err)
{
    struct md_executor *executor = md_calloc(1, sizeof *executor);

    if (!executor) {
        return md_error_no_memory(err, "an executor");
    }
    *executor = (struct md_executor){
        .device = device, .bound = instance, .calls = *calls, .start_error = err};
    if (!executor_start(executor, "bound", err)) {
        md_free(executor);
        return false;
    }
    instance->bound = executor;
    pthread_mutex_lock(&device->mutex);
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
    pthread_cond_broadcast(&device->bound_work);
    pthread_mutex_unlock(&device->mutex);
    md_os_thread_join(&executor->thread);
    md_free(executor);
    instance->bound = NULL;
}
