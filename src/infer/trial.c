/*
 * Trials: a request that no loop owns, handed to an executor as a batch that is decided.
 *
 * It lies on the heap, since a backend that does not come back keeps it: then it hangs on its
 * instance, for the case that the backend does so later.
 */
#include "infer/trial.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "infer/device_internal.h"

enum { PATIENCE = 10 }; /* as many times as it may take it waits for an executor */

struct md_trial {
    struct md_request request;
    struct md_arena arena;  /* own: copies of the inputs' descriptions, the response */
    struct md_arena inputs; /* own: of one that is stuck, what these point at */
};

void md_trial_destroy(struct md_trial *trial)
{
    if (trial) {
        md_arena_deinit(&trial->arena);
        md_arena_deinit(&trial->inputs);
        md_free(trial);
    }
}

static struct md_trial *trial_create(struct md_target *target, const struct md_tensor *inputs,
                                     size_t input_count, struct md_error *err)
{
    struct md_trial *trial = md_calloc(1, sizeof *trial);
    struct md_tensor *copies =
        trial ? md_arena_calloc(&trial->arena, input_count, sizeof *copies) : NULL;

    if (!copies) {
        md_trial_destroy(trial);
        (void)md_error_no_memory(err, "trying a model");
        return NULL;
    }
    if (input_count) {
        memcpy(copies, inputs, input_count * sizeof *copies);
    }
    md_request_init(&trial->request, target, NULL, &trial->arena, NULL, NULL);
    trial->request.inputs = copies;
    trial->request.input_count = input_count;
    if (!md_request_check(&trial->request, err)) {
        md_trial_destroy(trial);
        return NULL;
    }
    return trial;
}

/* mutex held */
static void begin(struct md_instance *instance, struct md_request *request, uint64_t now_ns)
{
    instance->count = 1;
    instance->learn_ns = instance->learn_rows = 0;
    instance->expected_ns = 0;
    instance->is_tried = true;
    md_submit_fill_waiter(request);
    instance->record =
        (struct md_batch_record){.requests = 1, .rows = request->waiter.rows, .begun_ns = now_ns};
    request->queued_ns = now_ns;
    request->instance = instance;
    instance->slots[0].turn = MD_SLOT_RUNS;
    md_slot_open(&instance->slots[0], request);
    atomic_store(&request->state, MD_REQUEST_RUNNING);
}

/* mutex held on entry and return; true: it has ended */
static bool wait_for(struct md_device *device, const struct md_instance *instance,
                     uint64_t until_ns)
{
    while (instance->is_tried && md_clock_monotonic_ns() < until_ns) {
        md_device_wait(&device->changed, &device->mutex, until_ns);
    }
    return !instance->is_tried;
}

/* mutex held on entry and return; true: it has ended, in time from when it began. */
static bool wait_in_time(struct md_device *device, const struct md_instance *instance,
                         uint64_t timeout_ns)
{
    const uint64_t begin_ns = md_clock_monotonic_ns();
    uint64_t until_ns = timeout_ns ? md_clock_later(begin_ns, timeout_ns) : UINT64_MAX;

    while (!wait_for(device, instance, until_ns)) {
        /* relaxed: a run that began a moment ago is no matter */
        uint64_t run_ns = atomic_load_explicit(&instance->run_ns, memory_order_relaxed);
        uint64_t now_ns = md_clock_monotonic_ns();
        bool has_begun = !instance->is_ready && run_ns;
        uint64_t end_ns = md_clock_later(has_begun ? run_ns : now_ns, timeout_ns);
        if (end_ns <= now_ns || (now_ns - begin_ns) / PATIENCE >= timeout_ns) {
            return false;
        }
        until_ns = end_ns;
    }
    return true;
}

/* mutex held on entry and return: false: the backend keeps it. */
static bool run(struct md_device *device, struct md_instance *instance, struct md_trial *trial,
                uint64_t timeout_ns, bool *in_time)
{
    *in_time = wait_in_time(device, instance, timeout_ns);
    if (*in_time) {
        return true;
    }
    if (instance->is_ready) { /* no executor was free for it */
        md_dispatch_unready(device, instance);
        instance->is_tried = false;
        return true;
    }
    pthread_mutex_unlock(&device->mutex);
    md_request_stop(&trial->request);
    pthread_mutex_lock(&device->mutex);
    if (wait_for(device, instance, md_clock_monotonic_ns() + device->detach_patience_ns)) {
        return true;
    }
    bool is_short = md_executors_block(device, instance);
    device->is_kept |= instance->asynchronous; /* with no executor inside, which would keep it */
    instance->is_stuck = true;
    instance->trial = trial;
    if (is_short) {
        pthread_mutex_unlock(&device->mutex);
        md_executors_replace(device);
        pthread_mutex_lock(&device->mutex);
    }
    return false;
}

/* --- the result -------------------- */

static char *copy_bytes(struct md_arena *arena, const void *data, size_t bytes)
{
    char *copy = md_arena_alloc(arena, bytes);

    if (copy && bytes) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

static bool copy_result(const struct md_request *request, struct md_trial_result *out,
                        struct md_error *err)
{
    const struct md_response *response = &request->first_response;

    out->executed_ns = request->finished_ns - request->infer_ns;
    out->output_count = response->output_count;
    out->outputs = md_arena_calloc(&out->arena, response->output_count, sizeof *out->outputs);
    for (size_t i = 0; out->outputs && i < response->output_count; i++) {
        const struct md_tensor *from = &response->outputs[i];
        struct md_tensor *to = &out->outputs[i];
        *to = *from;
        to->name = md_arena_copy(&out->arena, from->name);
        to->shape = (const int64_t *)(const void *)copy_bytes(&out->arena, from->shape,
                                                              from->rank * sizeof *from->shape);
        to->data = copy_bytes(&out->arena, from->data, from->bytes);
    }
    return !md_arena_failed(&out->arena) || md_error_no_memory(err, "what a model answered");
}

void md_trial_result_deinit(struct md_trial_result *result)
{
    md_arena_deinit(&result->arena);
    *result = (struct md_trial_result){.outputs = NULL};
}

bool md_instance_is_stuck(const struct md_instance *instance)
{
    return instance->is_stuck;
}

void md_trial_release_inputs(struct md_device *device, struct md_instance *const *instances,
                             size_t count, struct md_arena *inputs)
{
    struct md_arena rest = *inputs;

    *inputs = (struct md_arena){.chunks = NULL};
    pthread_mutex_lock(&device->mutex);
    for (size_t i = 0; i < count; i++) {
        if (instances[i]->trial) { /* not since it came back */
            instances[i]->trial->inputs = rest;
            rest = (struct md_arena){.chunks = NULL};
            break;
        }
    }
    pthread_mutex_unlock(&device->mutex);
    md_arena_deinit(&rest);
}

/* mutex held */
static void learn(struct md_instance *instance)
{
    if (instance->slots[0].turn == MD_SLOT_ANSWERED) {
        md_learned_time_add(&instance->time, instance->run_rows, instance->record.executed_ns);
    }
}

bool md_trial_run(struct md_device *device, struct md_target *target, struct md_instance *instance,
                  const struct md_tensor *inputs, size_t input_count, bool learns,
                  uint64_t timeout_ns, struct md_trial_result *out, struct md_error *err)
{
    bool in_time;

    *out = (struct md_trial_result){.outputs = NULL};
    assert(!instance->is_stuck && target->device == device);
    struct md_trial *trial = trial_create(target, inputs, input_count, err);
    if (!trial) {
        return false;
    }
    struct md_request *request = &trial->request;
    md_instance_prepare(instance);
    pthread_mutex_lock(&device->mutex);
    begin(instance, request, md_clock_monotonic_ns());
    enum md_wake wake = md_dispatch_ready(device, instance);
    pthread_mutex_unlock(&device->mutex);
    md_dispatch_wake(device, wake);
    pthread_mutex_lock(&device->mutex);
    bool came_back = run(device, instance, trial, timeout_ns, &in_time);
    if (in_time && learns) {
        learn(instance);
    }
    pthread_mutex_unlock(&device->mutex);
    bool ok = false;
    if (!in_time) {
        (void)md_error_set(err, MD_REASON_DEADLINE, "model '%s' gave no answer in %llu ms",
                           target->model_name.ptr, (unsigned long long)(timeout_ns / MD_NS_PER_MS));
    } else if (request->failed) {
        *err = request->error;
    } else {
        ok = copy_result(request, out, err);
    }
    if (came_back) {
        md_trial_destroy(trial);
    }
    return ok;
}
