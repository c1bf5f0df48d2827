/*
 * ModelStreamInfer: each message is an inference with an arena of its own.
 *
 * An inference of a model that gives one response stands in the stream's order and is written when
 * all before it are; one of a decoupled model does not: what it gives is written as it comes. What
 * is written is held until the session has sent it; streamed responses count for the backend as not
 * delivered until then, and while a slow reader leaves too much unsent, so that he slows the
 * backend down. The stream takes no further message while too many inferences are alive or too many
 * bytes are unsent.
 *
 *      message -> read, submitted -> responses -> end -> written: over -> nothing held -> freed
 *
 * Invariants
 *  1. The call is ended once: when the client has half-closed, or the stream is closing (an error
 *     that ends it, a cancelled call), and every inference is over.
 *  2. While it is closing nothing is written: inferences are cancelled and dropped.
 *  3. An inference that is written may be entered again, never left freed: see is_writing.
 *  4. One whose client is told that it failed while it still runs (late) is written, and over, as
 *     any other; until its end it is held, and holds the exchange, which may be over before it.
 */
#include "api/oip/grpc.h"
#include "api/oip/grpc_infer.h"
#include "api/oip/grpc_stream.h"
#include "api/oip/placing.h"
#include "api/oip/reply.h"
#include "api/oip/tracing.h"

/* --- writing -------------------- */

/* The session has let go of a response's message. */
static void response_sent(void *arg)
{
    struct md_response *response = arg;
    struct md_oip_stream_part *part = md_oip_stream_part_of(response->request->dialect);
    struct md_oip_grpc_stream *stream = part->infer.stream;

    if (part->is_ordered) {
        part->held--;
        md_oip_stream_part_release(part);
    } else if (md_oip_stream_is_slow(stream)) {
        md_oip_stream_append(&stream->stalled, response);
        md_oip_stream_look_later(stream);
    } else {
        md_oip_stream_response_done(response);
        md_oip_stream_release_stalled(stream);
    }
}

static void bare_sent(void *arg)
{
    struct md_oip_stream_part *part = arg;

    part->held--;
    md_oip_stream_part_release(part);
}

static void send_bare(struct md_oip_stream_part *part, const struct md_error *error,
                      enum md_oip_grpc_final final)
{
    struct md_oip_grpc_infer *infer = &part->infer;

    md_oip_grpc_encode_bare(infer, part->is_late ? &part->late_arena : &part->arena, error, final);
    part->held++;
    md_grpc_send(infer->base.x, infer->parts, infer->part_count, bare_sent, part);
}

static void close_stream(struct md_oip_grpc_stream *stream, const struct md_error *error);

/* An error is an answer, or the end of the stream. */
static void write_error(struct md_oip_stream_part *part, const struct md_error *error,
                        enum md_oip_grpc_final final)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;

    if (stream->ends_on_error) {
        close_stream(stream, error);
        return;
    }
    md_oip_log_error(stream->x, error);
    send_bare(part, error, final);
}

/* Writes the next response; AGAIN: its task goes on. */
static enum md_progress write_response(struct md_oip_stream_part *part)
{
    struct md_oip_grpc_infer *infer = &part->infer;
    const enum md_oip_grpc_final final =
        part->is_ordered ? MD_OIP_GRPC_FINAL : MD_OIP_GRPC_MORE_FOLLOW;
    struct md_error err;

    enum md_progress progress = md_oip_grpc_encode(infer, part->answers.first, final, &err);
    if (progress == MD_PROGRESS_AGAIN) {
        infer->phase = MD_OIP_GRPC_ENCODE;
        part->is_deferred = true;
        md_loop_defer(infer->base.loop, &infer->task);
        return progress;
    }
    struct md_response *response = md_oip_stream_take_first(&part->answers);
    if (progress == MD_PROGRESS_DONE) {
        part->held += part->is_ordered; /* the others are held since they came */
        md_grpc_send(infer->base.x, infer->parts, infer->part_count, response_sent, response);
    } else {
        write_error(part, &err, final);
        if (!part->is_ordered) {
            md_oip_stream_response_done(response);
        }
    }
    return MD_PROGRESS_DONE;
}

/* What follows the last response. */
static void write_end(struct md_oip_stream_part *part)
{
    if (part->has_failed) {
        write_error(part, part->is_late ? part->late : &part->infer.base.request.error,
                    MD_OIP_GRPC_FINAL);
    } else if (!part->is_ordered && part->infer.wants_empty_final) {
        send_bare(part, NULL, MD_OIP_GRPC_FINAL);
    }
}

/* Lets go of what will not be written. */
static void drop(struct md_oip_stream_part *part)
{
    while (part->answers.first) {
        struct md_response *response = md_oip_stream_take_first(&part->answers);
        if (!part->is_ordered) {
            md_oip_stream_response_done(response);
        }
    }
    if (part->has_ended) {
        (void)md_oip_stream_part_over(part);
    }
}

/* Writes what is there; true: it is over, and the stream goes on. */
static bool write_part(struct md_oip_stream_part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;

    if (part->is_writing || part->is_deferred || part->is_over) {
        return false;
    }
    part->is_writing = true;
    while (part->answers.first && !stream->is_closing) {
        if (write_response(part) == MD_PROGRESS_AGAIN) {
            part->is_writing = false;
            return false;
        }
    }
    if (part->has_ended && !stream->is_closing) {
        write_end(part);
    }
    part->is_writing = false;
    if (stream->is_closing) {
        drop(part);
        return false;
    }
    if (!part->has_ended) {
        return false;
    }
    if (part->is_ordered) {
        md_oip_stream_remove_first_in_order(stream);
    }
    return md_oip_stream_part_over(part);
}

/* Writes all whose turn it is. */
static void write_in_order(struct md_oip_grpc_stream *stream)
{
    while (!stream->is_closing && stream->first_in_order && stream->first_in_order->has_ended &&
           write_part(stream->first_in_order)) {}
}

static void advance(struct md_oip_stream_part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;

    if (stream->is_closing && !part->is_writing && !part->is_deferred) {
        drop(part);
    } else if (part->is_ordered) {
        write_in_order(stream);
    } else {
        (void)write_part(part);
    }
}

/* --- callbacks of the inference -------------------- */

static void encode(struct md_oip_grpc_infer *infer)
{
    md_oip_stream_part_of(infer)->is_deferred = false;
    infer->phase = MD_OIP_GRPC_IN_FLIGHT;
    advance(md_oip_stream_part_of(infer));
}

static void ended(struct md_oip_grpc_infer *infer, const struct md_error *error)
{
    struct md_oip_stream_part *part = md_oip_stream_part_of(infer);

    part->has_ended = true;
    part->has_failed = error != NULL;
    advance(part);
}

static void on_response(struct md_request *request, struct md_response *response)
{
    struct md_oip_stream_part *part = md_oip_stream_part_of(request->dialect);

    if (part->is_late) {
        return; /* its client has been told that there is no more */
    }
    md_oip_stream_append(&part->answers, response);
    if (!part->is_ordered) {
        md_response_keep(response);
        part->held++;
        advance(part);
    } /* else its end follows at once */
}

/* The error outlives the call, for it may have to wait for its turn. */
static void note_late(struct md_oip_stream_part *part, const struct md_error *error)
{
    static const struct md_error no_memory = {
        .code = MD_CODE_UNAVAILABLE, .reason = MD_REASON_OUT_OF_MEMORY, .text = "out of memory"};
    struct md_error *copy = md_arena_alloc(&part->late_arena, sizeof *copy);

    if (copy) {
        *copy = *error;
    }
    part->late = copy ? copy : &no_memory;
    part->is_late = part->has_ended = part->has_failed = true;
}

static void on_late(struct md_request *request, const struct md_error *error)
{
    struct md_oip_stream_part *part = md_oip_stream_part_of(request->dialect);

    if (!part->infer.cancelled) { /* else its end is waited for */
        md_exchange_hold(part->infer.base.x);
        part->held++;
        note_late(part, error);
        advance(part);
    }
}

static void end_late(struct md_oip_stream_part *part, const struct md_error *error)
{
    struct md_exchange *x = part->infer.base.x;

    md_oip_trace_end(&part->infer.base, 0, error);
    part->held--;
    md_oip_stream_part_release(part);
    md_exchange_release(x); /* the stream may go with it */
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct md_oip_grpc_infer *infer = request->dialect;

    if (md_oip_stream_part_of(infer)->is_late) {
        end_late(md_oip_stream_part_of(infer), error);
    } else {
        ended(infer, md_oip_placing_blame(&infer->base, error));
    }
}

static const struct md_responder responder = {
    .response = on_response, .end = on_end, .late = on_late};

/* --- the call -------------------- */

/* Cancels everything; the call ends when nothing runs any more. The error is its status. */
static void close_stream(struct md_oip_grpc_stream *stream, const struct md_error *error)
{
    if (stream->is_closing || stream->has_ended) {
        return;
    }
    stream->is_closing = true;
    stream->has_error = true;
    stream->error = *error;
    stream->running++; /* until everything is cancelled */
    md_oip_stream_release_stalled(stream);
    for (struct md_oip_stream_part *part = stream->parts, *next; part; part = next) {
        next = part->next;
        part->infer.cancelled = true;
        if (!part->has_ended && part->infer.phase != MD_OIP_GRPC_READ) {
            md_oip_inference_cancel(&part->infer.base);
        } else if (part->has_ended && !part->is_over && !part->is_writing && !part->is_deferred) {
            drop(part);
        } /* else its task, or who is writing, sees that it is closing */
    }
    stream->running--;
    (void)md_oip_stream_maybe_end(stream);
}

static void forget_timer(void *arg)
{
    struct md_oip_grpc_stream *stream = arg;

    md_loop_timer_cancel(stream->x->loop, &stream->timer);
    md_loop_timer_unreserve(stream->x->loop);
}

static void on_head(struct md_exchange *x)
{
    struct md_oip_grpc_stream *stream = md_arena_calloc(&x->arena, 1, sizeof *stream);
    struct md_error err;

    x->may_compress = true;
    if (!stream) {
        (void)md_error_no_memory(&err, "a stream");
        md_oip_grpc_fail(x, &err);
        return;
    }
    if (!md_oip_read_deadline(x, &err)) {
        md_oip_grpc_fail(x, &err);
        return;
    }
    if (!md_loop_timer_reserve(x->loop, &err)) {
        md_oip_grpc_fail(x, &err);
        return;
    }
    if (!md_arena_on_reset(&x->arena, forget_timer, stream)) {
        md_loop_timer_unreserve(x->loop);
        (void)md_error_no_memory(&err, "a stream");
        md_oip_grpc_fail(x, &err);
        return;
    }
    stream->x = x;
    stream->timer.fire = md_oip_stream_look;
    stream->ends_on_error = md_str_eq_c(md_exchange_header(x, "triton_grpc_error"), "true");
    x->dialect = stream;
}

static void take_message(struct md_oip_grpc_stream *stream)
{
    struct md_oip_stream_part *part = md_oip_stream_part_create(stream);

    if (!part) {
        struct md_error err;
        (void)md_error_no_memory(&err, "a request");
        close_stream(stream, &err);
        return;
    }
    part->infer.ended = ended;
    part->infer.encode = encode;
    bool is_ready = md_oip_grpc_read(&part->infer, &responder);
    if (!is_ready || !part->infer.base.request.target->decoupled) {
        md_oip_stream_append_in_order(stream, part);
    }
    md_oip_grpc_infer_run(&part->infer, is_ready);
}

static void on_message(struct md_exchange *x)
{
    struct md_oip_grpc_stream *stream = x->dialect;

    if (stream->is_closing) {
        return;
    }
    stream->running++; /* so that it stays for what follows */
    take_message(stream);
    if (!stream->is_closing && !stream->is_paused &&
        (stream->alive >= MD_OIP_STREAM_ALIVE_MAX || md_oip_stream_is_slow(stream))) {
        stream->is_paused = true;
        md_grpc_pause(x);
        md_oip_stream_look_later(stream);
    }
    stream->running--;
    (void)md_oip_stream_maybe_end(stream);
}

static void on_request(struct md_exchange *x)
{
    struct md_oip_grpc_stream *stream = x->dialect;

    stream->is_half_closed = true;
    (void)md_oip_stream_maybe_end(stream);
}

static void on_cancel(struct md_exchange *x)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_CANCELLED, "the stream was cancelled");
    close_stream(x->dialect, &err);
}

const struct md_http_handler md_oip_grpc_stream_infer_handler = {
    .on_head = on_head, .on_message = on_message, .on_request = on_request, .on_cancel = on_cancel};
