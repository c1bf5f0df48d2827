/*
 * Running a batch: one run of all its requests, then runs of one each for those that could not go
 * together or that failed in company.
 *
 * A single request's tensors are passed as they lie. What several have in common lies in the
 * gathered block, since the first of them to be finished may be gone while the others still run.
 * No run begins before all requests of the one before are completed, on whatever thread that is.
 */
#include "infer/device_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { LOGGED_ID_MAX = 127 };

/* --- memory of an instance -------------------- */

bool md_instance_reserve(struct md_instance *instance, size_t requests, struct md_error *err)
{
    const size_t each =
        sizeof *instance->slots + sizeof *instance->handles + sizeof *instance->rows;
    size_t bytes;

    instance->memory = md_size_mul(requests, each, &bytes) ? md_calloc(1, bytes) : NULL;
    if (!instance->memory) {
        return md_error_no_memory(err, "an instance");
    }
    instance->capacity = requests;
    instance->slots = instance->memory;
    instance->handles = (modeld_request *)(void *)(instance->slots + requests);
    instance->rows = (int64_t *)(void *)(instance->handles + requests);
    return true;
}

void md_instance_deinit(struct md_instance *instance)
{
    md_free(instance->memory);
    instance->memory = NULL;
    instance->capacity = 0;
}

void md_instance_prepare(struct md_instance *instance)
{
    if (!instance->capacity) {
        instance->capacity = 1;
        instance->slots = &instance->single.slot;
        instance->handles = &instance->single.handle;
        instance->rows = &instance->single.rows;
    }
}

/* --- one run -------------------- */

static const struct modeld_tensor *make_inputs(struct md_request *request)
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

/* The batch of one request, whose memory it is. */
static bool bind_one(struct md_instance *instance, struct md_request *request)
{
    const struct modeld_tensor *inputs = make_inputs(request);
    const char **names = make_output_names(request);

    instance->batch = (struct modeld_batch){
        .struct_size = sizeof instance->batch,
        .request_count = 1,
        .requests = &request->handle,
        .rows = &request->rows,
        .input_count = (uint32_t)request->input_count,
        .input_stride = sizeof *inputs,
        .inputs = inputs,
        .output_count = (uint32_t)request->output_count,
        .output_names = names,
    };
    return inputs && names;
}

/* id: NULL: several */
static void call_backend(struct md_instance *instance, const struct md_str *id)
{
    /* A copy: once the backend has finished the request, its memory may be gone while execute still
     * runs. */
    char id_text[LOGGED_ID_MAX + 1];
    size_t id_len = id ? md_size_min(id->len, LOGGED_ID_MAX) : 0;

    if (id_len) {
        memcpy(id_text, id->ptr, id_len);
    }
    id_text[id_len] = '\0';
    const struct md_log_context context = {
        .model = instance->target->model_name.ptr,
        .version = instance->target->version,
        .request_id = id_len ? id_text : NULL,
    };
    const struct md_log_context *before = md_log_set_context(&context);
    instance->api->execute(instance->handle, &instance->batch);
    md_log_set_context(before);
}

static void finish_forgotten(modeld_request handle)
{
    if (md_request_is_live(handle)) {
        md_request_finish(handle, MODELD_INTERNAL,
                          "the backend returned without finishing the request",
                          MODELD_FINISH_FINAL);
    }
}

void md_batch_run_inline(struct md_instance *instance, struct md_request *request)
{
    request->instance = instance;
    md_slot_open(&instance->slots[0], request);
    atomic_store_explicit(&request->state, MD_REQUEST_RUNNING,
                          memory_order_relaxed); /* relaxed: this thread's alone */
    request->picked_ns = request->queued_ns;
    request->on_loop = true;
    request->leads_batch = true;
    request->batch_rows = request->rows;
    request->infer_ns = md_clock_monotonic_ns();
    if (!bind_one(instance, request)) {
        md_request_finish(request->handle, MODELD_RESOURCE_EXHAUSTED, "out of memory",
                          MODELD_FINISH_FINAL);
        return;
    }
    call_backend(instance, &request->id);
    finish_forgotten(request->handle);
}

/* --- which requests -------------------- */

/* The requests of the run: those whose turn it is. */
struct run {
    struct md_request *first;
    uint32_t count, rows, padding;
};

/* Rows behind so many, so that the size is an allowed one. */
static uint32_t padding_of(const struct md_instance *instance, uint32_t rows)
{
    return md_batcher_padded(&instance->target->scheduler.batcher.config, rows) - rows;
}

static void count_run(const struct md_instance *instance, struct run *run)
{
    if (instance->count == 1) {
        struct md_request *request = instance->slots[0].request;
        uint32_t rows = request->waiter.rows;
        *run = (struct run){request, 1, rows, padding_of(instance, rows)};
        return;
    }
    *run = (struct run){.count = 0};
    for (uint32_t i = 0; i < instance->count; i++) {
        if (instance->slots[i].turn == MD_SLOT_RUNS) {
            struct md_request *request = instance->slots[i].request;
            run->first = run->first ? run->first : request;
            run->rows += request->waiter.rows;
            run->count++;
        }
    }
    run->padding = padding_of(instance, run->rows);
}

/* Everybody but the first runs alone, later; `if_unlike`: who does not go with the first. */
static void send_back(struct md_instance *instance, bool if_unlike)
{
    const struct md_request *first = NULL;

    for (uint32_t i = 0; i < instance->count; i++) {
        struct md_slot *slot = &instance->slots[i];
        if (slot->turn != MD_SLOT_RUNS) {
            continue;
        }
        if (!first) {
            first = slot->request;
        } else if (!if_unlike || !md_gather_agrees(first, slot->request)) {
            slot->turn = MD_SLOT_ALONE;
        }
    }
}

/* Makes instance->batch: of all that go together, or as far as there is memory. False: not even for
 * the first. */
static bool bind_run(struct md_instance *instance, struct run *run)
{
    if (run->count == 1 && run->padding && !md_gather_has_rows(run->first)) {
        run->padding = instance->record.padding = 0; /* its first dimensions are no rows */
    }
    if (run->count > 1) {
        send_back(instance, true);
        count_run(instance, run);
    }
    if (run->count > 1) {
        if (md_gather_inputs(instance, run->padding)) {
            return true;
        }
        send_back(instance, false);
        count_run(instance, run);
    }
    return run->padding ? md_gather_inputs(instance, run->padding) : bind_one(instance, run->first);
}

/* Before anything of the run may be finished. */
static void begin_run(struct md_instance *instance, struct run *run)
{
    const bool may_again = run->count > 1 && instance->api->flags & MODELD_BACKEND_RETRY_SAFE;
    const bool counts_rows = run->count > 1 || run->padding;
    uint32_t k = 0;

    for (uint32_t i = 0; i < instance->count; i++) {
        if (instance->slots[i].turn != MD_SLOT_RUNS) {
            continue;
        }
        struct md_request *request = instance->slots[i].request;
        request->may_again = may_again;
        request->batch_rows = counts_rows ? run->rows : request->rows;
        instance->handles[k] = request->handle;
        instance->rows[k++] = counts_rows ? request->waiter.rows : request->rows;
    }
    atomic_store_explicit(&instance->is_counted, false, memory_order_relaxed); /* nothing runs */
    atomic_store(&instance->unfinished, run->count + 1);
}

static void note_times(struct md_instance *instance, uint64_t begun_ns, uint64_t infer_ns)
{
    for (uint32_t i = 0; i < instance->count; i++) {
        if (instance->slots[i].turn == MD_SLOT_RUNS) {
            instance->slots[i].request->picked_ns = begun_ns;
            instance->slots[i].request->infer_ns = infer_ns;
        }
    }
}

void md_batch_run(struct md_instance *instance)
{
    const uint64_t begun_ns = md_clock_monotonic_ns();
    struct run run;

    count_run(instance, &run);
    bool is_bound = bind_run(instance, &run);
    const uint32_t count = run.count;
    begin_run(instance, &run);
    instance->run_rows = run.rows + run.padding;
    const uint64_t infer_ns = count > 1 || run.padding ? md_clock_monotonic_ns() : begun_ns;
    note_times(instance, begun_ns, infer_ns);
    /* relaxed: whoever reads it only asks whether it was long ago */
    atomic_store_explicit(&instance->run_ns, begun_ns, memory_order_relaxed);
    if (!is_bound) {
        md_request_finish(instance->handles[0], MODELD_RESOURCE_EXHAUSTED, "out of memory",
                          MODELD_FINISH_FINAL);
    } else {
        call_backend(instance, count == 1 ? &run.first->id : NULL);
    }
    for (uint32_t i = 0; !instance->asynchronous && i < count; i++) {
        finish_forgotten(instance->handles[i]);
    }
    md_device_request_done(instance); /* execute's own share */
}

/* --- between runs -------------------- */

/* The first run of a batch is learned from, unless it was cut short: then only that it takes longer
 * than was thought. */
static void learn(struct md_instance *instance, uint64_t spent_ns)
{
    bool answered = false, cancelled = false;

    if (instance->learn_ns) {
        return;
    }
    for (uint32_t i = 0; i < instance->count; i++) {
        answered |= instance->slots[i].turn == MD_SLOT_ANSWERED;
        cancelled |= instance->slots[i].turn == MD_SLOT_CANCELLED;
    }
    instance->learn_ns = spent_ns;
    bool longer = cancelled && instance->expected_ns && spent_ns > instance->expected_ns;
    instance->learn_rows = (answered && !cancelled) || longer ? instance->run_rows : 0;
}

/* The next one that runs alone. */
static bool find_next(struct md_instance *instance)
{
    for (uint32_t i = 0; i < instance->count; i++) {
        struct md_slot *slot = &instance->slots[i];
        bool again = slot->turn == MD_SLOT_AGAIN;
        if (slot->turn != MD_SLOT_ALONE && !again) {
            continue;
        }
        if (again && !md_request_begin_again(slot->request, slot)) {
            slot->turn = MD_SLOT_CANCELLED;
            continue;
        }
        instance->record.retried += again;
        slot->turn = MD_SLOT_RUNS;
        return true;
    }
    return false;
}

bool md_batch_end_run(struct md_instance *instance, uint64_t now_ns)
{
    /* relaxed: as above */
    uint64_t begun_ns = atomic_load_explicit(&instance->run_ns, memory_order_relaxed);
    uint64_t spent_ns = now_ns > begun_ns ? now_ns - begun_ns : 1;

    atomic_store_explicit(&instance->run_ns, 0, memory_order_relaxed); /* as above */
    md_gather_release(instance);
    instance->record.executed_ns += spent_ns;
    learn(instance, spent_ns);
    if (find_next(instance)) {
        return true;
    }
    for (uint32_t i = 0; i < instance->count; i++) {
        instance->record.failed += instance->slots[i].turn != MD_SLOT_ANSWERED;
    }
    return false;
}
