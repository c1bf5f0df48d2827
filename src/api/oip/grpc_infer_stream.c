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
 */
#include "api/oip/grpc.h"
#include "api/oip/grpc_infer.h"
#include "api/oip/grpc_infer_internal.h"
#include "api/oip/placing.h"
#include "api/oip/reply.h"
#include "api/oip/tracing.h"

enum {
    ALIVE_MAX = 64,                /* inferences of a stream */
    UNSENT_BYTES_MAX = 256 * 1024, /* beyond which nothing more is asked for */
    LOOK_AGAIN_NS = 2 * 1000 * 1000,
    ARENA_CHUNK_BYTES = 8192 - 64, /* as of exchanges: they use the same ones */
};

struct answer_list {
    struct md_response *first, *last;
};

/* One message; in its own arena. */
struct part {
    struct md_arena arena;        /* own */
    struct md_block *block;       /* own: the message */
    struct part *next, *previous; /* all of the stream */
    struct part *next_in_order;
    struct answer_list answers; /* to be written */
    size_t held;                /* messages that are unsent, and streamed responses kept */
    bool is_ordered, has_ended, has_failed, is_over;
    bool is_writing;                /* further up on the stack */
    bool is_deferred;               /* its task will write on */
    struct md_oip_grpc_infer infer; /* last: its error needs no zeroes */
};

struct md_oip_grpc_stream {
    struct md_exchange *x; /* borrow */
    struct part *parts;
    struct part *first_in_order, *last_in_order;
    size_t alive, running;      /* running: those that are not over */
    struct answer_list stalled; /* sent, but kept from the backend */
    struct md_loop_timer timer; /* looks whether a slow reader has read */
    bool ends_on_error;         /* triton_grpc_error */
    bool is_half_closed, is_closing, has_ended, is_paused;
    bool has_error;
    struct md_error error; /* the call's status, if it is one */
};

static struct part *part_of(struct md_oip_grpc_infer *infer)
{
    return MD_CONTAINER_OF(infer, struct part, infer);
}

/* --- lists -------------------- */

static void append(struct answer_list *list, struct md_response *response)
{
    response->next = NULL;
    if (list->last) {
        list->last->next = response;
    } else {
        list->first = response;
    }
    list->last = response;
}

static struct md_response *take_first(struct answer_list *list)
{
    struct md_response *response = list->first;

    list->first = response->next;
    if (!list->first) {
        list->last = NULL;
    }
    return response;
}

static void append_in_order(struct md_oip_grpc_stream *stream, struct part *part)
{
    part->is_ordered = true;
    if (stream->last_in_order) {
        stream->last_in_order->next_in_order = part;
    } else {
        stream->first_in_order = part;
    }
    stream->last_in_order = part;
}

static void remove_first_in_order(struct md_oip_grpc_stream *stream)
{
    stream->first_in_order = stream->first_in_order->next_in_order;
    if (!stream->first_in_order) {
        stream->last_in_order = NULL;
    }
}

/* --- life of a part -------------------- */

static struct part *part_create(struct md_oip_grpc_stream *stream)
{
    struct md_exchange *x = stream->x;
    struct md_arena arena;

    md_arena_init(&arena, ARENA_CHUNK_BYTES);
    md_arena_cache_lend(md_loop_arenas(x->loop), &arena);
    struct part *part = md_arena_alloc(&arena, sizeof *part);
    if (!part) {
        md_arena_deinit(&arena);
        return NULL;
    }
    memset(part, 0, offsetof(struct part, infer));
    part->arena = arena;
    part->block = x->body_block;
    if (part->block) {
        md_block_ref(part->block);
    }
    md_oip_grpc_infer_init(&part->infer, x, &part->arena, x->body);
    part->infer.stream = stream;
    part->next = stream->parts;
    if (part->next) {
        part->next->previous = part;
    }
    stream->parts = part;
    stream->alive++;
    stream->running++;
    return part;
}

static void maybe_resume(struct md_oip_grpc_stream *stream);

static void release_if_done(struct part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;
    struct md_loop *loop = part->infer.base.loop;

    if (!part->is_over || part->held) {
        return;
    }
    if (part->next) {
        part->next->previous = part->previous;
    }
    if (part->previous) {
        part->previous->next = part->next;
    } else {
        stream->parts = part->next;
    }
    stream->alive--;
    struct md_block *block = part->block;
    struct md_arena arena = part->arena; /* it lives in itself */
    md_arena_reset(&arena);
    md_arena_cache_take_back(md_loop_arenas(loop), &arena);
    md_block_unref(block);
    maybe_resume(stream);
}

static bool is_slow(const struct md_oip_grpc_stream *stream)
{
    return !stream->is_closing && !stream->has_ended &&
           md_grpc_unsent_bytes(stream->x) > UNSENT_BYTES_MAX;
}

static void release_stalled(struct md_oip_grpc_stream *stream);

/* Ends the call if nothing is left to do; true: it has ended, and the stream may be gone. */
static bool maybe_end(struct md_oip_grpc_stream *stream)
{
    if (stream->running || stream->has_ended || !(stream->is_closing || stream->is_half_closed)) {
        return false;
    }
    stream->has_ended = true;
    release_stalled(stream);
    if (stream->has_error) {
        md_oip_grpc_fail(stream->x, &stream->error);
    } else {
        md_grpc_end(stream->x, NULL);
    }
    return true;
}

/* Everything of it is written or dropped; false: so is the stream. */
static bool part_over(struct part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;

    part->is_over = true;
    md_oip_trace_end(&part->infer.base, 0,
                     part->has_failed     ? &part->infer.base.request.error
                     : stream->is_closing ? &stream->error
                                          : NULL);
    stream->running--;
    release_if_done(part);
    return !maybe_end(stream);
}

/* --- slow readers -------------------- */

static void done(struct md_response *response)
{
    struct part *part = part_of(response->request->dialect);

    md_response_done(response);
    part->held--;
    release_if_done(part);
}

static void look_again_later(struct md_oip_grpc_stream *stream)
{
    struct md_loop *loop = stream->x->loop;

    if (is_slow(stream)) {
        md_loop_timer_set(loop, &stream->timer, md_loop_now_ns(loop) + LOOK_AGAIN_NS);
    }
}

static void release_stalled(struct md_oip_grpc_stream *stream)
{
    while (stream->stalled.first && !is_slow(stream)) {
        done(take_first(&stream->stalled));
    }
}

static void maybe_resume(struct md_oip_grpc_stream *stream)
{
    if (stream->is_paused && !stream->is_closing && !stream->has_ended &&
        stream->alive < ALIVE_MAX && !is_slow(stream)) {
        stream->is_paused = false;
        md_grpc_resume(stream->x);
    }
}

static void look(struct md_loop_timer *timer)
{
    struct md_oip_grpc_stream *stream = MD_CONTAINER_OF(timer, struct md_oip_grpc_stream, timer);

    look_again_later(stream);
    release_stalled(stream);
    maybe_resume(stream);
}

/* --- writing -------------------- */

/* The session has let go of a response's message. */
static void response_sent(void *arg)
{
    struct md_response *response = arg;
    struct part *part = part_of(response->request->dialect);
    struct md_oip_grpc_stream *stream = part->infer.stream;

    if (part->is_ordered) {
        part->held--;
        release_if_done(part);
    } else if (is_slow(stream)) {
        append(&stream->stalled, response);
        look_again_later(stream);
    } else {
        done(response);
        release_stalled(stream);
    }
}

static void bare_sent(void *arg)
{
    struct part *part = arg;

    part->held--;
    release_if_done(part);
}

static void send_bare(struct part *part, const struct md_error *error, enum md_oip_grpc_final final)
{
    struct md_oip_grpc_infer *infer = &part->infer;

    md_oip_grpc_encode_bare(infer, error, final);
    part->held++;
    md_grpc_send(infer->base.x, infer->parts, infer->part_count, bare_sent, part);
}

static void close_stream(struct md_oip_grpc_stream *stream, const struct md_error *error);

/* An error is an answer, or the end of the stream. */
static void write_error(struct part *part, const struct md_error *error,
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
static enum md_progress write_response(struct part *part)
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
    struct md_response *response = take_first(&part->answers);
    if (progress == MD_PROGRESS_DONE) {
        part->held += part->is_ordered; /* the others are held since they came */
        md_grpc_send(infer->base.x, infer->parts, infer->part_count, response_sent, response);
    } else {
        write_error(part, &err, final);
        if (!part->is_ordered) {
            done(response);
        }
    }
    return MD_PROGRESS_DONE;
}

/* What follows the last response. */
static void write_end(struct part *part)
{
    if (part->has_failed) {
        write_error(part, &part->infer.base.request.error, MD_OIP_GRPC_FINAL);
    } else if (!part->is_ordered && part->infer.wants_empty_final) {
        send_bare(part, NULL, MD_OIP_GRPC_FINAL);
    }
}

/* Lets go of what will not be written. */
static void drop(struct part *part)
{
    while (part->answers.first) {
        struct md_response *response = take_first(&part->answers);
        if (!part->is_ordered) {
            done(response);
        }
    }
    if (part->has_ended) {
        (void)part_over(part);
    }
}

/* Writes what is there; true: it is over, and the stream goes on. */
static bool write_part(struct part *part)
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
        remove_first_in_order(stream);
    }
    return part_over(part);
}

/* Writes all whose turn it is. */
static void write_in_order(struct md_oip_grpc_stream *stream)
{
    while (!stream->is_closing && stream->first_in_order && stream->first_in_order->has_ended &&
           write_part(stream->first_in_order)) {}
}

static void advance(struct part *part)
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
    part_of(infer)->is_deferred = false;
    infer->phase = MD_OIP_GRPC_IN_FLIGHT;
    advance(part_of(infer));
}

static void ended(struct md_oip_grpc_infer *infer, const struct md_error *error)
{
    struct part *part = part_of(infer);

    part->has_ended = true;
    part->has_failed = error != NULL;
    advance(part);
}

static void on_response(struct md_request *request, struct md_response *response)
{
    struct part *part = part_of(request->dialect);

    append(&part->answers, response);
    if (!part->is_ordered) {
        md_response_keep(response);
        part->held++;
        advance(part);
    } /* else its end follows at once */
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct md_oip_grpc_infer *infer = request->dialect;

    ended(infer, md_oip_placing_blame(&infer->base, error));
}

static const struct md_responder responder = {.response = on_response, .end = on_end};

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
    release_stalled(stream);
    for (struct part *part = stream->parts, *next; part; part = next) {
        next = part->next;
        part->infer.cancelled = true;
        if (!part->has_ended && part->infer.phase != MD_OIP_GRPC_READ) {
            md_infer_cancel(&part->infer.base.request);
        } else if (part->has_ended && !part->is_over && !part->is_writing && !part->is_deferred) {
            drop(part);
        } /* else its task, or who is writing, sees that it is closing */
    }
    stream->running--;
    (void)maybe_end(stream);
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
    stream->timer.fire = look;
    stream->ends_on_error = md_str_eq_c(md_exchange_header(x, "triton_grpc_error"), "true");
    x->dialect = stream;
}

static void take_message(struct md_oip_grpc_stream *stream)
{
    struct part *part = part_create(stream);

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
        append_in_order(stream, part);
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
        (stream->alive >= ALIVE_MAX || is_slow(stream))) {
        stream->is_paused = true;
        md_grpc_pause(x);
        look_again_later(stream);
    }
    stream->running--;
    (void)maybe_end(stream);
}

static void on_request(struct md_exchange *x)
{
    struct md_oip_grpc_stream *stream = x->dialect;

    stream->is_half_closed = true;
    (void)maybe_end(stream);
}

static void on_cancel(struct md_exchange *x)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_CANCELLED, "the stream was cancelled");
    close_stream(x->dialect, &err);
}

const struct md_http_handler md_oip_grpc_stream_infer_handler = {
    .on_head = on_head, .on_message = on_message, .on_request = on_request, .on_cancel = on_cancel};
