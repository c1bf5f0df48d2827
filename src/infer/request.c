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
#include "infer/response.h"
#include "infer/statistics.h"

enum { STREAM_CREDIT = 16 };

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

void md_response_keep(struct md_response *response)
{
    MD_ON_LOOP(response->request->loop);
    response->holds++;
}

void md_response_done(struct md_response *response)
{
    struct md_request *request = response->request;

    MD_ON_LOOP(request->loop);
    if (--response->holds) {
        return;
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

static void run_stream_response(struct md_loop_task *task)
{
    struct md_response *response = MD_CONTAINER_OF(task, struct md_response, task);
    struct md_request *request = response->request;

    if (!is_cancelled(request)) {
        request->responder->response(request, response);
    }
    md_response_done(response);
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
        md_response_release(response);
        return fail_request(request, &err);
    }
    out->request = request;
    out->arena = request->arena;
    if (!md_response_take(request, request->arena, response, out, &err)) {
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
        md_response_release(response);
        md_error_no_memory(&err, "a response");
        return fail_request(request, &err);
    }
    out->request = request;
    out->arena = &out->own_arena;
    out->holds = 1;
    out->task.run = run_stream_response;
    if (!md_response_take(request, out->arena, response, out, &err)) {
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

    if (!request) {
        md_response_release(response);
        return refuse_dead_handle("respond");
    }
    if (!request->respond_ns) {
        request->respond_ns = md_clock_monotonic_ns();
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
