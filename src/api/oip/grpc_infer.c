/*
 * An inference over gRPC from its message to its end, and the unary call around one.
 */
#include "api/oip/grpc_infer.h"

#include "api/oip/grpc.h"
#include "api/oip/grpc_infer_internal.h"
#include "api/oip/placing.h"
#include "api/oip/tracing.h"

void md_oip_grpc_infer_init(struct md_oip_grpc_infer *infer, struct md_exchange *x,
                            struct md_arena *arena, struct md_str message)
{
    memset(infer, 0, offsetof(struct md_oip_grpc_infer, base.request));
    infer->base.request.id = MD_STR("");
    infer->base.x = x;
    infer->base.loop = x->loop;
    infer->base.arena = arena;
    infer->base.oip = x->route_data;
    infer->message = message;
}

static void refuse(struct md_oip_grpc_infer *infer)
{
    const struct md_error *err = &infer->base.request.error;

    if (infer->base.version) {
        md_oip_inference_count_refusal(&infer->base, err, infer->base.request.begin_ns);
    }
    infer->ended(infer, err);
}

/* The request's own error serves until it is submitted. */
static void read_slice(struct md_oip_grpc_infer *infer)
{
    struct md_error *err = &infer->base.request.error;

    switch (md_oip_grpc_read_contents(infer, err)) {
    case MD_PROGRESS_AGAIN:
        md_loop_defer(infer->base.loop, &infer->task);
        return;
    case MD_PROGRESS_DONE:
        if (md_oip_inference_check(&infer->base, err)) {
            infer->phase = MD_OIP_GRPC_IN_FLIGHT;
            md_infer_submit(&infer->base.request);
            return;
        }
        break;
    default:
        break;
    }
    refuse(infer);
}

static void run_slice(struct md_loop_task *task)
{
    struct md_oip_grpc_infer *infer = MD_CONTAINER_OF(task, struct md_oip_grpc_infer, task);

    if (infer->phase == MD_OIP_GRPC_ENCODE) {
        infer->encode(infer);
    } else if (infer->cancelled) {
        struct md_error *err = &infer->base.request.error;
        (void)md_error_set(err, MD_REASON_CANCELLED, "the request was cancelled");
        refuse(infer);
    } else {
        read_slice(infer);
    }
}

void md_oip_grpc_infer_run(struct md_oip_grpc_infer *infer, bool is_ready)
{
    infer->task.run = run_slice;
    if (is_ready) {
        read_slice(infer);
    } else {
        refuse(infer);
    }
}

/* --- the unary call -------------------- */

static void fail(struct md_oip_grpc_infer *infer, const struct md_error *err)
{
    md_oip_trace_end(&infer->base, 0, err);
    md_oip_grpc_fail(infer->base.x, err);
}

static void end_trace(struct md_oip_grpc_infer *infer)
{
    struct md_http_header headers[MD_OIP_TRACE_HEADERS];
    const size_t count = md_oip_trace_headers(&infer->base, headers);

    for (size_t i = 0; i < count; i++) {
        md_grpc_add_trailer(infer->base.x, headers[i].name, headers[i].value);
    }
    md_oip_trace_end(&infer->base, 0, NULL);
}

static void encode(struct md_oip_grpc_infer *infer)
{
    struct md_exchange *x = infer->base.x;
    struct md_error err;

    switch (
        md_oip_grpc_encode(infer, &infer->base.request.first_response, MD_OIP_GRPC_UNARY, &err)) {
    case MD_PROGRESS_DONE:
        if (MD_UNLIKELY(infer->base.trace)) {
            end_trace(infer);
        }
        md_grpc_send(x, infer->parts, infer->part_count, NULL, NULL);
        md_grpc_end(x, NULL);
        break;
    case MD_PROGRESS_AGAIN:
        md_loop_defer(x->loop, &infer->task);
        break;
    default:
        fail(infer, &err);
    }
}

static void ended(struct md_oip_grpc_infer *infer, const struct md_error *error)
{
    if (error) {
        fail(infer, error);
    } else {
        infer->phase = MD_OIP_GRPC_ENCODE;
        encode(infer);
    }
}

static void on_response(struct md_request *request, struct md_response *response)
{
    (void)request;
    (void)response; /* the request's first one: its memory is the exchange's */
}

/* What the execution may still be writing is left alone. */
static void on_late(struct md_request *request, const struct md_error *error)
{
    struct md_oip_grpc_infer *infer = request->dialect;

    if (!infer->cancelled) { /* else its client has gone, or has its status */
        infer->is_late = true;
        md_exchange_hold(infer->base.x);
        md_oip_grpc_fail(infer->base.x, error);
    }
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct md_oip_grpc_infer *infer = request->dialect;

    if (infer->is_late) {
        md_oip_trace_end(&infer->base, 0, error);
        md_exchange_release(infer->base.x);
    } else {
        ended(infer, md_oip_placing_blame(&infer->base, error));
    }
}

static const struct md_responder responder = {
    .response = on_response, .end = on_end, .late = on_late};

static void on_head(struct md_exchange *x)
{
    struct md_error err;

    x->may_compress = true;
    if (!md_oip_read_deadline(x, &err)) {
        md_oip_grpc_fail(x, &err);
    }
}

static void on_request(struct md_exchange *x)
{
    struct md_oip_grpc_infer *infer = md_arena_alloc(&x->arena, sizeof *infer);

    if (!infer) {
        struct md_error err;
        (void)md_error_no_memory(&err, "a request");
        md_oip_grpc_fail(x, &err);
        return;
    }
    md_oip_grpc_infer_init(infer, x, &x->arena, x->body);
    x->dialect = infer;
    infer->ended = ended;
    infer->encode = encode;
    md_oip_grpc_infer_run(infer, md_oip_grpc_read(infer, &responder));
}

static void on_cancel(struct md_exchange *x)
{
    struct md_oip_grpc_infer *infer = x->dialect;

    infer->cancelled = true;
    if (infer->phase == MD_OIP_GRPC_IN_FLIGHT) {
        md_oip_inference_cancel(&infer->base);
    }
}

const struct md_http_handler md_oip_grpc_infer_handler = {
    .on_head = on_head, .on_request = on_request, .on_cancel = on_cancel};
