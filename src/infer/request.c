/*
 * Life of a request: submit, respond, finish, cancel, deliver.
 *
 * Invariants
 *  1. `end` is called exactly once for each submitted request, on its home loop; `late` at most
 * once, before it.
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
    memset(request, 0, offsetof(struct md_request, waiter));
    request->waiter.waits = false;
    request->target = target;
    request->loop = loop;
    request->arena = arena;
    request->responder = responder;
    request->dialect = dialect;
    request->id = MD_STR("");
    request->rows = 1;
    atomic_init(&request->state, 0);
}

/* --- the end -------------------- */

static void stop_timer(struct md_request *request)
{
    md_loop_timer_cancel(request->loop, &request->timer);
    md_loop_timer_unreserve(request->loop);
    request->has_timer = false;
}

static void set_late(struct md_request *request, struct md_error *err)
{
    const struct md_target *target = request->target;

    if (request->late == MD_LATE_DEADLINE) {
        (void)md_error_set(err, MD_REASON_DEADLINE,
                           "the request's deadline passed while it was executed");
    } else {
        (void)md_error_set_code(err, MD_REASON_BACKEND, MD_CODE_DEADLINE_EXCEEDED,
                                "model '%s' version %s did not end an execution in %llu ms",
                                target->model_name.ptr, target->version_text.ptr,
                                (unsigned long long)(target->execution_timeout_ns / MD_NS_PER_MS));
    }
}

static void record(const struct md_request *request, const struct md_error *error)
{
    md_statistics_record(request, error, md_clock_monotonic_ns());
}

/* The client has its answer, or gets it now where the dialect can only answer at the end. */
static void deliver_late_end(struct md_request *request)
{
    set_late(request, &request->error);
    request->failed = true;
    if (!request->responder->late) {
        record(request, &request->error);
    }
    request->responder->end(request, &request->error);
}

static void deliver_end(struct md_request *request)
{
    const struct md_error *error = request->failed ? &request->error : NULL;

    if (request->has_timer) {
        stop_timer(request);
        if (request->late) {
            deliver_late_end(request);
            return;
        }
    }
    if (!error && !request->target->decoupled) {
        request->responder->response(request, &request->first_response);
    }
    record(request, error);
    request->responder->end(request, error);
}

static void run_delivery(struct md_loop_task *task)
{
    deliver_end(MD_CONTAINER_OF(task, struct md_request, task));
}

void md_request_deliver(struct md_request *request)
{
    if (request->on_loop) {
        deliver_end(request);
    } else if (request->loop && !md_device_is_given_up(request->target->device)) {
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

enum hold {
    HOLD_NONE,  /* it does not run, or is finished */
    HOLD_NOTED, /* it is to run again: what was to be noted is, but there is nothing to hold */
    HOLD_TAKEN, /* release_hold is to be called */
};

/* `also` is noted with it, unless the request is cancelled already; *before: what was until then.
 */
static enum hold hold(struct md_request *request, unsigned also, unsigned *before)
{
    unsigned state = atomic_load(&request->state), next;
    bool runs;

    do {
        runs = !(state & MD_REQUEST_FINISHED);
        if (!(state & MD_REQUEST_RUNNING) || (!runs && !(state & MD_REQUEST_AGAIN))) {
            return HOLD_NONE;
        }
        next = state | (state & MD_REQUEST_CANCELLED ? 0 : also) | (runs ? MD_REQUEST_HELD : 0);
    } while (!atomic_compare_exchange_weak(&request->state, &state, next));
    *before = state;
    return runs ? HOLD_TAKEN : HOLD_NOTED;
}

/* Ends, in its order; then the instance may be gone. state: what it is in the end. */
static void leave(struct md_request *request, unsigned state)
{
    struct md_instance *instance = request->instance;

    request->finished_ns = md_clock_monotonic_ns();
    /* Of those that the run answered one counts it; in no order: any will do. */
    request->leads_batch =
        !request->failed && !(state & MD_REQUEST_LATE) &&
        !atomic_exchange_explicit(&instance->is_counted, true, memory_order_relaxed);
    if (request->target->scheduler.keeps_order && request->loop) {
        md_order_leave(request);
    } else {
        md_request_deliver(request);
    }
}

/* The last of holder and finisher gives the instance back and delivers. */
static void complete(struct md_request *request, unsigned state)
{
    struct md_instance *instance = request->instance;

    if (!(state & MD_REQUEST_AGAIN)) {
        leave(request, state);
    }
    md_device_request_done(instance);
}

static void release_hold(struct md_request *request)
{
    unsigned before = atomic_fetch_and(&request->state, ~(unsigned)MD_REQUEST_HELD);

    if (before & MD_REQUEST_FINISHED) {
        complete(request, before);
    }
}

static void ask_to_stop(const struct md_request *request)
{
    const struct md_instance *instance = request->instance;

    if (instance->api->cancel) {
        instance->api->cancel(instance->handle, request->handle);
    }
}

void md_request_stop(struct md_request *request)
{
    unsigned before;

    if (hold(request, MD_REQUEST_CANCELLED, &before) == HOLD_TAKEN) {
        if (!(before & MD_REQUEST_CANCELLED)) {
            ask_to_stop(request);
        }
        release_hold(request);
    }
}

static void skip_order(struct md_request *request)
{
    if (request->target->scheduler.keeps_order) {
        md_order_skip(request);
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
    md_request_stop(request);
    skip_order(request);
}

bool md_request_begin_again(struct md_request *request, struct md_slot *slot)
{
    unsigned state = atomic_load(&request->state);

    request->failed = false;
    request->respond_ns = 0;
    request->gathered = NULL;
    md_slot_open(slot, request);
    while (!(state & MD_REQUEST_CANCELLED)) {
        if (atomic_compare_exchange_weak(&request->state, &state, MD_REQUEST_RUNNING)) {
            return true;
        }
    }
    atomic_store(&slot->live, 0);
    request->failed = true;
    md_error_set(&request->error, MD_REASON_CANCELLED, "the request was cancelled");
    leave(request, state);
    return false;
}

/* --- limits of its time -------------------- */

static void set_timer(struct md_request *request, uint64_t at_ns)
{
    if (at_ns != UINT64_MAX) {
        md_loop_timer_set(request->loop, &request->timer, at_ns);
    }
}

/* The client gets its answer now. */
static void answer_late(struct md_request *request, enum md_late late)
{
    struct md_error err;

    request->late = late;
    if (request->responder->late) {
        set_late(request, &err);
        record(request, &err);
        request->responder->late(request, &err);
    }
}

static void look_at_time(struct md_loop_timer *timer)
{
    struct md_request *request = MD_CONTAINER_OF(timer, struct md_request, timer);
    uint64_t again_ns;
    unsigned before;
    enum md_late late = md_device_expire(request->target->device, request, &again_ns);

    if (!late) {
        set_timer(request, again_ns);
        return;
    }
    enum hold held = hold(request, MD_REQUEST_CANCELLED | MD_REQUEST_LATE, &before);
    if (held == HOLD_TAKEN) {
        if (late == MD_LATE_EXECUTION) {
            md_device_suspend(request->instance);
        }
        if (!(before & MD_REQUEST_CANCELLED)) {
            ask_to_stop(request);
        }
        release_hold(request);
    }
    /* The end comes through the mailbox, so the request is still there. */
    if (held && !(before & MD_REQUEST_CANCELLED)) {
        answer_late(request, late);
        skip_order(request);
    }
    if (held && late == MD_LATE_DEADLINE) { /* its instance may have to go out of service */
        bool is_over = md_device_expire(request->target->device, request, &again_ns);
        set_timer(request, is_over ? md_loop_now_ns(request->loop) : again_ns);
    }
}

void md_infer_submit(struct md_request *request)
{
    const struct md_target *target = request->target;
    struct md_error ignored;

    MD_ON_LOOP(request->loop);
    request->task.run = run_delivery;
    if (target->deadline_default_ns && !request->deadline_ns) {
        request->deadline_ns = request->begin_ns + target->deadline_default_ns;
    }
    uint64_t limit_ns = md_device_submit(target->device, request);
    if (MD_LIKELY(limit_ns == 0 || limit_ns == UINT64_MAX)) {
        return;
    }
    /* It may be finished already, but is delivered by this thread. */
    if (md_loop_timer_reserve(request->loop, &ignored)) {
        request->has_timer = true;
        request->timer = (struct md_loop_timer){.fire = look_at_time};
        md_loop_timer_set(request->loop, &request->timer, limit_ns);
    } else if (md_device_withdraw(target->device, request)) {
        (void)md_error_no_memory(&request->error, "a request's limit of time");
        md_request_reject(request);
    }
}

static bool is_cancelled(const struct md_request *request)
{
    /* relaxed: a hint that may come late */
    return atomic_load_explicit((atomic_uint *)(uintptr_t)&request->state, memory_order_relaxed) &
           MD_REQUEST_CANCELLED;
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
    unsigned before;
    if (atomic_exchange(&request->blocked, false) && hold(request, 0, &before) == HOLD_TAKEN) {
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

/* Of a trial of a decoupled target the first is kept. */
static int32_t respond_trial(struct md_request *request, const struct modeld_response *response)
{
    if (request->response_count > 0) {
        md_response_release(response);
        return MODELD_OK;
    }
    return respond_unary(request, response);
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
    int32_t code = !request->target->decoupled ? respond_unary(request, response)
                   : request->loop             ? respond_stream(request, response)
                                               : respond_trial(request, response);
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

static enum md_slot_turn turn_of(const struct md_request *request)
{
    if (!request->failed) {
        return MD_SLOT_ANSWERED;
    }
    if (request->error.reason == MD_REASON_CANCELLED || is_cancelled(request)) {
        return MD_SLOT_CANCELLED;
    }
    return request->may_again && request->error.reason == MD_REASON_BACKEND &&
                   request->response_count == 0
               ? MD_SLOT_AGAIN
               : MD_SLOT_FAILED;
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
    if (request->on_loop) { /* nobody holds it; it is delivered when the backend has returned */
        request->finished_ns = md_clock_monotonic_ns();
        /* relaxed: this thread's alone */
        atomic_store_explicit(&request->state, MD_REQUEST_FINISHED, memory_order_relaxed);
        return how == MODELD_FINISH_FINAL ? MODELD_OK : MODELD_UNIMPLEMENTED;
    }
    const enum md_slot_turn turn = turn_of(request);
    const unsigned also = MD_REQUEST_FINISHED | (turn == MD_SLOT_AGAIN ? MD_REQUEST_AGAIN : 0);
    slot->turn = (uint8_t)turn;
    unsigned before = atomic_fetch_or(&request->state, also);
    if (!(before & MD_REQUEST_HELD)) {
        complete(request, before | also);
    }
    return how == MODELD_FINISH_FINAL ? MODELD_OK : MODELD_UNIMPLEMENTED;
}

struct md_block *md_request_block(modeld_request handle, size_t bytes)
{
    struct md_request *request = request_of(handle);

    return request ? md_device_block(request->target->device, bytes) : NULL;
}
