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

enum { STREAM_CREDIT = 16, SMALL_OUTPUT_BYTES = 1024 };

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
            instance->api->cancel(instance->handle, (modeld_request)(uintptr_t)request);
        }
        release_hold(request);
    }
}

bool md_request_is_cancelled(const struct md_request *request)
{
    /* relaxed: a hint that may come late */
    return atomic_load_explicit(&((struct md_request *)(uintptr_t)request)->state,
                                memory_order_relaxed) &
           MD_REQUEST_CANCELLED;
}

/* --- responses -------------------- */

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

/* Small ones live in the arena, large ones are counted. */
static bool copy_output(struct md_request *request, struct md_arena *arena,
                        struct md_tensor *tensor, struct md_error *err)
{
    char *copy;

    if (tensor->bytes <= SMALL_OUTPUT_BYTES) {
        copy = md_arena_alloc(arena, tensor->bytes);
    } else {
        struct md_block *block = md_request_block(request, tensor->bytes);
        if (block && !md_arena_on_reset(arena, release_block, block)) {
            md_block_unref(block);
            block = NULL;
        }
        copy = block ? block->data : NULL;
    }
    if (!copy) {
        return md_error_no_memory(err, "an output");
    }
    if (tensor->bytes) {
        memcpy(copy, tensor->data, tensor->bytes);
    }
    tensor->data = copy;
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
        return true;
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
    const char *at = (const char *)response->outputs;
    struct md_error ignored;
    bool ok = true;

    out->outputs = md_arena_calloc(arena, response->output_count, sizeof *out->outputs);
    out->output_count = response->output_count;
    if (!out->outputs) {
        ok = md_error_no_memory(err, "a response");
    }
    for (uint32_t i = 0; i < response->output_count; i++, at += response->output_stride) {
        struct md_tensor scratch;
        struct md_tensor *tensor = out->outputs ? &out->outputs[i] : &scratch;
        if (!take_output(request, arena, (const struct modeld_output *)(const void *)at, tensor,
                         ok ? err : &ignored)) {
            ok = false;
        }
    }
    return ok;
}

static void run_stream_response(struct md_loop_task *task)
{
    struct md_response *response = MD_CONTAINER_OF(task, struct md_response, task);
    struct md_request *request = response->request;

    if (!md_request_is_cancelled(request)) {
        request->responder->response(request, response);
    }
    md_arena_deinit(&response->own_arena);
    md_free(response);
    atomic_fetch_sub(&request->outstanding, 1);
    if (atomic_exchange(&request->blocked, false) && hold(request, 0)) {
        struct md_instance *instance = request->instance;
        if (instance->api->resume) {
            instance->api->resume(instance->handle, (modeld_request)(uintptr_t)request);
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

int32_t md_request_respond(struct md_request *request, const struct modeld_response *response)
{
    if (!request->respond_ns) {
        request->respond_ns = md_clock_monotonic_ns();
    }
    int32_t code = request->target->decoupled ? respond_stream(request, response)
                                              : respond_unary(request, response);
    return code == MODELD_OK && md_request_is_cancelled(request) ? MODELD_CANCELLED : code;
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
    } else if (code == MODELD_CANCELLED ||
               (code != MODELD_OK && md_request_is_cancelled(request))) {
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

int32_t md_request_finish(struct md_request *request, int32_t code, const char *text, uint32_t how)
{
    judge_finish(request, code, text, how);
    request->instance->finished[request->batch_index] = true;
    unsigned before = atomic_fetch_or(&request->state, MD_REQUEST_FINISHED);
    if (!(before & MD_REQUEST_HELD)) {
        complete(request);
    }
    return how == MODELD_FINISH_FINAL ? MODELD_OK : MODELD_UNIMPLEMENTED;
}

struct md_block *md_request_block(struct md_request *request, size_t bytes)
{
    return md_device_block(request->target->device, bytes);
}
