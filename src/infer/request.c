/*
 * Life of a request: submit, respond, finish, cancel, deliver.
 *
 * Invariants
 *  1. `end` is called exactly once for each submitted request, on its home loop.
 *  2. Between submit and delivery the arena is touched by the execution alone.
 *  3. While the home loop is inside the backend for a request (HELD), the request is not completed:
 * its instance lives.
 */
#include "infer/request.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "infer/device.h"
#include "infer/statistics.h"

enum {
    STREAM_CREDIT = 16,
    SMALL_OUTPUT_BYTES = 1024,
    COUNTED_FROM = 4096,
    OUTPUTS_MAX = 4096, /* of a response, where the target does not have more */
    RANK_MAX = 64,
};

void md_request_init(struct md_request *request, struct md_target *target, struct md_loop *loop,
                     struct md_arena *arena, const struct md_responder *responder, void *dialect)
{
    memset(request, 0,
           sizeof *request - sizeof request->error); /* the error text needs no zeroes */
    request->target = target;
    request->loop = loop;
    request->arena = arena;
    request->responder = responder;
    request->dialect = dialect;
    request->id = MD_STR("");
    request->rows = 1;
    atomic_init(&request->state, 0);
}

static void deliver_end(struct md_request *request)
{
    const struct md_error *error = request->failed ? &request->error : NULL;

    if (!error && !request->target->decoupled) {
        request->responder->response(request, &request->first_response);
    }
    md_statistics_record(request, error, md_clock_monotonic_ns());
    request->responder->end(request, error);
}

static void run_delivery(struct md_loop_task *task)
{
    deliver_end(MD_CONTAINER_OF(task, struct md_request, task));
}

void md_infer_submit(struct md_request *request)
{
    MD_ON_LOOP(request->loop);
    request->task.run = run_delivery;
    md_device_submit(request->target->device, request);
}

void md_request_deliver(struct md_request *request)
{
    if (request->on_loop) {
        deliver_end(request);
    } else {
        md_loop_post(request->loop, &request->task);
    }
}

void md_request_reject(struct md_request *request)
{
    request->failed = true;
    md_request_deliver(request);
}

/* --- handles -------------------- */

enum { GENERATION_BITS = 16 };
_Static_assert(sizeof(uintptr_t) == 8, "an address of a process has 48 bits");

void md_slot_open(struct md_slot *slot, struct md_request *request)
{
    request->handle = (uint64_t)(uintptr_t)slot << GENERATION_BITS | ++slot->generation;
    slot->request = request;
    /* release: who finds the handle alive sees the request */
    atomic_store_explicit(&slot->live, request->handle, memory_order_release);
}

static struct md_slot *slot_of(modeld_request handle)
{
    return (struct md_slot *)(uintptr_t)(handle >> GENERATION_BITS);
}

/* NULL: it is finished. */
static struct md_request *request_of(modeld_request handle)
{
    struct md_slot *slot = slot_of(handle);

    /* acquire: pairs with the release above */
    return slot && atomic_load_explicit(&slot->live, memory_order_acquire) == handle ? slot->request
                                                                                     : NULL;
}

bool md_request_is_live(modeld_request handle)
{
    return request_of(handle) != NULL;
}

static int32_t refuse_dead_handle(const char *call)
{
    md_log(MD_LOG_ERROR, "the backend calls %s for a request that is finished", call);
    return MODELD_FAILED_PRECONDITION;
}

/* --- holding a running request -------------------- */

static bool hold(struct md_request *request, unsigned also)
{
    unsigned state = atomic_load(&request->state);

    do {
        if ((state & (MD_REQUEST_RUNNING | MD_REQUEST_FINISHED)) != MD_REQUEST_RUNNING) {
            return false;
        }
    } while (
        !atomic_compare_exchange_weak(&request->state, &state, state | MD_REQUEST_HELD | also));
    return true;
}

/* The last of holder and finisher gives the instance back and delivers. */
static void complete(struct md_request *request)
{
    struct md_instance *instance = request->instance;

    request->finished_ns = md_clock_monotonic_ns();
    if (request->on_loop) {
        return; /* the device delivers it when the backend has returned */
    }
    md_request_deliver(request);
    md_device_request_done(instance);
}

static void release_hold(struct md_request *request)
{
    unsigned before = atomic_fetch_and(&request->state, ~(unsigned)MD_REQUEST_HELD);

    if (before & MD_REQUEST_FINISHED) {
        complete(request);
    }
}

void md_infer_cancel(struct md_request *request)
{
    MD_ON_LOOP(request->loop);
    if (md_device_withdraw(request->target->device, request)) {
        md_error_set(&request->error, MD_REASON_CANCELLED, "the request was cancelled");
        md_request_reject(request);
        return;
    }
    if (hold(request, MD_REQUEST_CANCELLED)) {
        struct md_instance *instance = request->instance;
        if (instance->api->cancel) {
            instance->api->cancel(instance->handle, request->handle);
        }
        release_hold(request);
    }
}

static bool is_cancelled(struct md_request *request)
{
    /* relaxed: a hint that may come late */
    return atomic_load_explicit(&request->state, memory_order_relaxed) & MD_REQUEST_CANCELLED;
}

bool md_request_is_cancelled(modeld_request handle)
{
    struct md_request *request = request_of(handle);

    return !request || is_cancelled(request);
}

/* --- responses -------------------- */

static const struct modeld_output *output_at(const struct modeld_response *response, uint32_t i)
{
    const char *base = (const char *)response->outputs;

    return (const struct modeld_output *)(const void *)(base + (size_t)i * response->output_stride);
}

/* Gives back what a response would have handed over. */
static void release_output(const struct modeld_output *output)
{
    if (output->memory == MODELD_OUTPUT_BUFFER) {
        md_block_unref((struct md_block *)(uintptr_t)output->buffer);
    } else if (output->memory == MODELD_OUTPUT_OWN && output->release) {
        output->release(output->release_arg);
    }
}

static void release_outputs(const struct modeld_response *response)
{
    for (uint32_t i = 0; response && i < response->output_count; i++) {
        release_output(output_at(response, i));
    }
}

/* Whether the list of outputs can be walked at all. */
static bool check_response(const struct md_request *request, const struct modeld_response *response,
                           struct md_error *err)
{
    const char *model = request->target->model_name.ptr;

    if (!response || response->struct_size < sizeof *response) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave a response without size",
                            model);
    }
    if (response->output_count > md_size_max(OUTPUTS_MAX, request->target->output_count)) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave a response of %u outputs",
                            model, response->output_count);
    }
    if (response->output_count &&
        (!response->outputs || response->output_stride < sizeof *response->outputs)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s' gave a response of %u outputs without the list of them",
                            model, response->output_count);
    }
    return true;
}

/* Whether an output is described, and is the target's. */
static bool check_description(const struct md_target *target, const struct modeld_tensor *tensor,
                              struct md_error *err)
{
    const char *model = target->model_name.ptr;

    if (!tensor->name) {
        return md_error_set(err, MD_REASON_BACKEND, "model '%s' gave an output without a name",
                            model);
    }
    if (tensor->rank > RANK_MAX || (tensor->rank && !tensor->shape) ||
        (tensor->bytes && !tensor->data)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' of rank %u lacks its shape or its data", model,
                            tensor->name, tensor->rank);
    }
    const struct md_tensor_spec *spec = md_target_find_output(target, md_str_of(tensor->name));
    if (target->output_count && !spec) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s' gave an output '%s', which it does not have", model,
                            tensor->name);
    }
    if (spec && (uint32_t)spec->dtype != tensor->dtype) {
        return md_error_set(
            err, MD_REASON_BACKEND, "model '%s': output '%s' has type %s, expected %s", model,
            tensor->name, md_dtype_name((enum md_dtype)tensor->dtype), md_dtype_name(spec->dtype));
    }
    return true;
}

static bool inside_inputs(const struct md_request *request, const struct modeld_tensor *tensor)
{
    const char *data = tensor->data;

    for (size_t i = 0; i < request->input_count; i++) {
        const struct md_tensor *input = &request->inputs[i];
        if (data >= input->data && tensor->bytes <= input->bytes &&
            (size_t)(data - input->data) <= input->bytes - tensor->bytes) {
            return true;
        }
    }
    return false;
}

static void release_block(void *arg)
{
    md_block_unref(arg);
}

static bool too_many_bytes(size_t bytes, struct md_error *err)
{
    return md_error_set(err, MD_REASON_INFLIGHT_BYTES,
                        "too many bytes are in flight for an output of %zu: try again", bytes);
}

/* Small ones live in the arena, large ones are counted. */
static bool copy_output(struct md_request *request, struct md_arena *arena,
                        struct md_tensor *tensor, struct md_error *err)
{
    char *copy;

    if (tensor->bytes <= SMALL_OUTPUT_BYTES) {
        copy = md_arena_alloc(arena, tensor->bytes);
        if (!copy) {
            return md_error_no_memory(err, "an output");
        }
    } else {
        struct md_block *block = md_device_block(request->target->device, tensor->bytes);
        if (!block || !md_arena_on_reset(arena, release_block, block)) {
            md_block_unref(block);
            return too_many_bytes(tensor->bytes, err);
        }
        copy = block->data;
    }
    if (tensor->bytes) {
        memcpy(copy, tensor->data, tensor->bytes);
    }
    tensor->data = copy;
    return true;
}

/* Memory of an output that is no block, counted against the bound on bytes in flight until the
 * answer has gone out. */
struct counted {
    struct md_budget *budget;
    size_t bytes;
};

static void uncount(void *arg)
{
    const struct counted *counted = arg;

    md_budget_give(counted->budget, counted->bytes);
}

static bool count_output(struct md_request *request, struct md_arena *arena, size_t bytes,
                         struct md_error *err)
{
    if (bytes < COUNTED_FROM) {
        return true;
    }
    struct counted *counted = md_arena_alloc(arena, sizeof *counted);
    if (!counted) {
        return md_error_no_memory(err, "an output");
    }
    *counted = (struct counted){md_device_budget(request->target->device), bytes};
    if (!md_budget_take(counted->budget, bytes)) {
        return too_many_bytes(bytes, err);
    }
    if (!md_arena_on_reset(arena, uncount, counted)) {
        uncount(counted);
        return md_error_no_memory(err, "an output");
    }
    return true;
}

static bool take_output_memory(struct md_request *request, struct md_arena *arena,
                               const struct modeld_output *output, struct md_tensor *tensor,
                               struct md_error *err)
{
    struct md_block *block = (struct md_block *)(uintptr_t)output->buffer;

    tensor->data = output->tensor.data;
    switch (output->memory) {
    case MODELD_OUTPUT_INPUT:
        return output->tensor.bytes == 0 || inside_inputs(request, &output->tensor) ||
               md_error_set(err, MD_REASON_BACKEND, "output '%s' does not lie inside an input",
                            output->tensor.name);
    case MODELD_OUTPUT_BUFFER:
        if (!block || tensor->data < block->data || tensor->bytes > block->capacity ||
            (size_t)(tensor->data - block->data) > block->capacity - tensor->bytes) {
            md_block_unref(block);
            return md_error_set(err, MD_REASON_BACKEND,
                                "output '%s' does not lie inside its buffer", output->tensor.name);
        }
        if (!md_arena_on_reset(arena, release_block, block)) {
            md_block_unref(block);
            return md_error_no_memory(err, "an output");
        }
        return true;
    case MODELD_OUTPUT_OWN:
        if (output->release && !md_arena_on_reset(arena, output->release, output->release_arg)) {
            output->release(output->release_arg);
            return md_error_no_memory(err, "an output");
        }
        return count_output(request, arena, output->tensor.bytes, err);
    case MODELD_OUTPUT_COPY:
        return copy_output(request, arena, tensor, err);
    default:
        return md_error_set(err, MD_REASON_BACKEND, "output '%s' has the unknown memory kind %u",
                            output->tensor.name, output->memory);
    }
}

static bool check_output(const struct md_request *request, const struct md_tensor *tensor,
                         struct md_error *err)
{
    size_t elements, bytes;

    if (!md_shape_elements(tensor->shape, tensor->rank, &elements)) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' has an impossible shape",
                            request->target->model_name.ptr, tensor->name.ptr);
    }
    if (tensor->dtype == MD_DTYPE_BYTES) {
        return md_bytes_tensor_check(tensor->data, tensor->bytes, elements) ||
               md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' is not %zu length-prefixed elements",
                            request->target->model_name.ptr, tensor->name.ptr, elements);
    }
    if (md_dtype_size(tensor->dtype) == 0 ||
        !md_size_mul(elements, md_dtype_size(tensor->dtype), &bytes) || bytes != tensor->bytes) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "model '%s': output '%s' has %zu bytes, its shape and type %s say %zu",
                            request->target->model_name.ptr, tensor->name.ptr, tensor->bytes,
                            md_dtype_name(tensor->dtype), elements * md_dtype_size(tensor->dtype));
    }
    return true;
}

static bool take_output(struct md_request *request, struct md_arena *arena,
                        const struct modeld_output *output, struct md_tensor *tensor,
                        struct md_error *err)
{
    const struct modeld_tensor *from = &output->tensor;

    if (!check_description(request->target, from, err)) {
        release_output(output);
        return false;
    }
    int64_t *shape = md_arena_alloc(arena, from->rank * sizeof *shape);
    tensor->name = md_arena_copy(arena, md_str_of(from->name));
    tensor->dtype = (enum md_dtype)from->dtype;
    tensor->rank = from->rank;
    tensor->bytes = from->bytes;
    if (!take_output_memory(request, arena, output, tensor, err)) {
        return false;
    }
    if (!shape || !tensor->name.ptr) {
        return md_error_no_memory(err, "an output");
    }
    if (from->rank) {
        memcpy(shape, from->shape, from->rank * sizeof *shape);
    }
    tensor->shape = shape;
    return check_output(request, tensor, err);
}

/* Takes over what the backend hands us, all of it even when one output is refused. */
static bool take_outputs(struct md_request *request, struct md_arena *arena,
                         const struct modeld_response *response, struct md_response *out,
                         struct md_error *err)
{
    struct md_error ignored;
    bool ok = true;

    out->outputs = md_arena_calloc(arena, response->output_count, sizeof *out->outputs);
    out->output_count = response->output_count;
    if (!out->outputs) {
        ok = md_error_no_memory(err, "a response");
    }
    for (uint32_t i = 0; i < response->output_count; i++) {
        struct md_tensor scratch;
        struct md_tensor *tensor = out->outputs ? &out->outputs[i] : &scratch;
        if (!take_output(request, arena, output_at(response, i), tensor, ok ? err : &ignored)) {
            ok = false;
        }
    }
    return ok;
}

static void run_stream_response(struct md_loop_task *task)
{
    struct md_response *response = MD_CONTAINER_OF(task, struct md_response, task);
    struct md_request *request = response->request;

    if (!is_cancelled(request)) {
        request->responder->response(request, response);
    }
    md_arena_deinit(&response->own_arena);
    md_free(response);
    atomic_fetch_sub(&request->outstanding, 1);
    if (atomic_exchange(&request->blocked, false) && hold(request, 0)) {
        struct md_instance *instance = request->instance;
        if (instance->api->resume) {
            instance->api->resume(instance->handle, request->handle);
        }
        release_hold(request);
    }
}

static int32_t fail_request(struct md_request *request, const struct md_error *err)
{
    if (!request->failed) {
        request->failed = true;
        request->error = *err;
    }
    return MODELD_INVALID_ARGUMENT;
}

static int32_t respond_unary(struct md_request *request, const struct modeld_response *response)
{
    struct md_response *out = &request->first_response;
    struct md_error err;

    if (request->response_count > 0) {
        md_error_set(&err, MD_REASON_BACKEND,
                     "model '%s' gave a second response to one request, but is not decoupled",
                     request->target->model_name.ptr);
        release_outputs(response);
        return fail_request(request, &err);
    }
    out->request = request;
    out->arena = request->arena;
    if (!take_outputs(request, request->arena, response, out, &err)) {
        return fail_request(request, &err);
    }
    request->response_count = 1;
    return MODELD_OK;
}

static bool has_credit(struct md_request *request)
{
    if (atomic_load(&request->outstanding) < STREAM_CREDIT) {
        return true;
    }
    atomic_store(&request->blocked, true);
    /* The loop may have drained everything before it could see `blocked`: look again. */
    return atomic_load(&request->outstanding) == 0;
}

static int32_t respond_stream(struct md_request *request, const struct modeld_response *response)
{
    struct md_error err;

    if (!has_credit(request)) {
        return MODELD_WOULD_BLOCK;
    }
    struct md_response *out = md_calloc(1, sizeof *out);
    if (!out) {
        release_outputs(response);
        md_error_no_memory(&err, "a response");
        return fail_request(request, &err);
    }
    out->request = request;
    out->arena = &out->own_arena;
    out->task.run = run_stream_response;
    if (!take_outputs(request, out->arena, response, out, &err)) {
        md_arena_deinit(&out->own_arena);
        md_free(out);
        return fail_request(request, &err);
    }
    request->response_count++;
    atomic_fetch_add(&request->outstanding, 1);
    md_loop_post(request->loop, &out->task);
    return MODELD_OK;
}

int32_t md_request_respond(modeld_request handle, const struct modeld_response *response)
{
    struct md_request *request = request_of(handle);
    struct md_error err;

    if (!request) {
        release_outputs(response);
        return refuse_dead_handle("respond");
    }
    if (!request->respond_ns) {
        request->respond_ns = md_clock_monotonic_ns();
    }
    if (!check_response(request, response, &err)) {
        return fail_request(request, &err);
    }
    int32_t code = request->target->decoupled ? respond_stream(request, response)
                                              : respond_unary(request, response);
    return code == MODELD_OK && is_cancelled(request) ? MODELD_CANCELLED : code;
}

static void judge_finish(struct md_request *request, int32_t code, const char *text, uint32_t how)
{
    struct md_error *err = &request->error;

    if (request->failed) {
        return;
    }
    request->failed = true;
    if (how != MODELD_FINISH_FINAL) {
        md_error_set(err, MD_REASON_UNSUPPORTED,
                     "model '%s' asked to be rescheduled, which this server does not offer",
                     request->target->model_name.ptr);
    } else if (code == MODELD_CANCELLED || (code != MODELD_OK && is_cancelled(request))) {
        md_error_set(err, MD_REASON_CANCELLED, "the request was cancelled");
    } else if (code != MODELD_OK) {
        md_error_set_code(err, MD_REASON_BACKEND,
                          code > 0 && code <= MD_CODE_UNAUTHENTICATED ? (enum md_code)code
                                                                      : MD_CODE_INTERNAL,
                          "%s", text && *text ? text : "the backend failed without saying why");
    } else if (!request->target->decoupled && request->response_count == 0) {
        md_error_set(err, MD_REASON_BACKEND, "model '%s' finished a request without a response",
                     request->target->model_name.ptr);
    } else {
        request->failed = false;
    }
}

int32_t md_request_finish(modeld_request handle, int32_t code, const char *text, uint32_t how)
{
    struct md_slot *slot = slot_of(handle);
    struct md_request *request = request_of(handle);
    uint64_t live = handle;

    /* acq_rel: what was done for the request is seen by the slot's next user */
    if (!request || !atomic_compare_exchange_strong_explicit(
                        &slot->live, &live, 0, memory_order_acq_rel, memory_order_relaxed)) {
        return refuse_dead_handle("finish");
    }
    judge_finish(request, code, text, how);
    unsigned before = atomic_fetch_or(&request->state, MD_REQUEST_FINISHED);
    if (!(before & MD_REQUEST_HELD)) {
        complete(request);
    }
    return how == MODELD_FINISH_FINAL ? MODELD_OK : MODELD_UNIMPLEMENTED;
}

struct md_block *md_request_block(modeld_request handle, size_t bytes)
{
    struct md_request *request = request_of(handle);

    return request ? md_device_block(request->target->device, bytes) : NULL;
}
