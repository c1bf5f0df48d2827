/*
 * Session of HTTP/2: receiving requests.
 *
 * A body goes into one block, contiguous, as in HTTP/1: as large as it says it is, or growing by
 * factors of four. Blocks are counted as they fill; when memory is short the connection is not read
 * for a while (md_call_wait_for_memory), then the request is refused. Bodies of gRPC are cut into
 * messages by session_grpc.c, which have a limit each, and none together.
 */
#include "base/clock.h"
#include "http/session_http2_internal.h"

enum {
    TENSOR_ALIGNMENT = 64,
    FIRST_BYTES = 4 * 1024,
    BACKLOG_SPARE = 64 * 1024,
    RETRY_MS = 10,
    STARVED_MS = 2000,
};

void md_call_release_body(struct md_call *call)
{
    md_block_unref(call->block);
    call->block = NULL;
    call->data = NULL;
    call->bytes = call->capacity = 0;
}

/* --- memory -------------------- */

static size_t lead_of(const struct md_call *call)
{
    return (TENSOR_ALIGNMENT - call->x.body_lead % TENSOR_ALIGNMENT) % TENSOR_ALIGNMENT;
}

static size_t offset_of(const struct md_call *call)
{
    return (size_t)(call->data - call->block->data);
}

/* A larger block with what is there. */
static bool move_to(struct md_call *call, size_t capacity, size_t lead)
{
    bool over_budget;
    struct md_block *block =
        md_pool_alloc_lazy(md_call_pool(call), capacity + lead, 1, &over_budget);

    if (!block || !md_block_charge(block, lead + call->bytes + 1)) {
        md_block_unref(block);
        return false;
    }
    if (call->bytes) {
        memcpy(block->data + lead, call->data, call->bytes);
    }
    md_block_unref(call->block);
    call->block = block;
    call->data = block->data + lead;
    call->capacity = block->capacity - lead;
    return true;
}

/* Room for `extra` more bytes of the body, counted. */
static bool reserve(struct md_call *call, size_t extra)
{
    const int64_t length = call->request.head.content_length;
    const size_t need = call->bytes + extra;

    if (!call->block || need > call->capacity) {
        size_t capacity = length >= 0
                              ? md_size_max((size_t)length, need)
                              : md_size_max(need, call->block ? call->capacity * 4 : FIRST_BYTES);
        if (!move_to(call, capacity, lead_of(call))) {
            return false;
        }
    }
    if (!md_block_charge(call->block, offset_of(call) + need)) {
        return false;
    }
    md_call_end_wait(call);
    return true;
}

static void refuse_memory(struct md_call *call)
{
    struct md_error err;

    (void)md_error_over_budget(&err);
    md_call_refuse(call, MD_REFUSAL_MEMORY, &err);
}

static void refuse_length(struct md_call *call)
{
    md_call_refuse_for(call, MD_REFUSAL_BODY_SIZE, MD_REASON_TOO_LARGE,
                       "the request body is larger than the server accepts");
}

/* --- waiting for memory -------------------- */

void md_call_end_wait(struct md_call *call)
{
    if (call->stalled_bytes) {
        md_pool_unstall(md_call_pool(call), call->stalled_bytes);
        call->stalled_bytes = 0;
    }
    if (call->is_starved) {
        call->is_starved = false;
        if (--call->session->starved_count == 0) { /* the others of the connection go on */
            md_http2_session_work_soon(call->session);
        }
    }
}

/* As in HTTP/1 those that wait hold what they have, so not all may, and none for each other. Not
 * for long either: what the peer does to let other answers go is not read meanwhile. */
bool md_call_wait_for_memory(struct md_call *call, size_t need)
{
    struct md_http2_session *session = call->session;
    struct md_pool *pool = md_call_pool(call);
    const uint64_t now_ns = md_loop_now_ns(session->loop);

    if (!call->is_starved) {
        call->is_starved = true;
        call->starved_ns = now_ns;
        session->starved_count++;
    }
    if (call->stalled_bytes) {
        md_pool_unstall(pool, call->stalled_bytes);
    }
    call->stalled_bytes = call->block ? call->block->counted_bytes : 0;
    const size_t others = md_pool_stall(pool, call->stalled_bytes);
    if (md_pool_is_crowded(pool) || (call->block && need + others > md_pool_limit_bytes(pool)) ||
        now_ns - call->starved_ns > STARVED_MS * (uint64_t)MD_NS_PER_MS) {
        md_call_end_wait(call);
        refuse_memory(call);
        return false;
    }
    session->retry_ns = md_http2_session_watch_for(session, RETRY_MS * (uint64_t)MD_NS_PER_MS);
    return true;
}

/* --- the request is complete -------------------- */

void md_call_request(struct md_call *call)
{
    struct md_exchange *x = &call->x;

    x->body_ns = md_loop_now_ns(x->loop);
    call->deadline_ns = 0;
    if (call->block) {
        x->body_block = call->block;
        x->body = md_str_make(call->data, call->bytes);
    }
    call->state = MD_CALL_WORKING;
    call->requested = call->handler_has_it = true;
    const bool was_pinned = md_call_pin(call);
    x->handler->on_request(x);
    md_call_unpin(call, was_pinned);
}

static void end_body(struct md_call *call)
{
    enum md_coding coding;
    struct md_error err;
    const int64_t length = call->request.head.content_length;

    if (length >= 0 && (uint64_t)length != call->received_bytes) {
        md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_PROTOCOL_ERROR);
        md_call_cancel(call);
        return;
    }
    if (call->request.content_encoding.len == 0 || call->bytes == 0) {
        md_call_request(call);
        return;
    }
    (void)md_coding_from_name(call->request.content_encoding, &coding);
    if (!md_unpack_begin(&call->unpack, coding, md_call_pool(call), &err)) {
        md_call_refuse(call, MD_REFUSAL_MEMORY, &err);
        return;
    }
    call->state = MD_CALL_UNPACKING;
    call->deadline_ns = 0;
    md_call_work_soon(call);
}

/* --- the body -------------------- */

static bool knows_coding(struct md_str name)
{
    enum md_coding coding;

    return name.len == 0 || md_coding_from_name(name, &coding);
}

/* What the body's bytes do to the call, before they are taken; false: nothing is to be done with
 * them. */
static bool accepts(struct md_call *call, size_t bytes)
{
    const int64_t length = call->request.head.content_length;

    call->received_bytes += bytes;
    if (call->discards || call->answered) {
        md_http2_consumed(&call->session->h2, &call->stream, bytes, 0);
        return false;
    }
    if (length >= 0 && call->received_bytes > (uint64_t)length) {
        md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_PROTOCOL_ERROR);
        md_call_cancel(call);
        return false;
    }
    return true;
}

/* left: what came with them and is kept. */
static void progress(struct md_call *call, size_t bytes, size_t left)
{
    const bool may_wait = call->x.is_grpc && call->x.handler->on_message && !call->in_message;

    md_http2_consumed(&call->session->h2, &call->stream, bytes, left);
    md_call_set_deadline(call, may_wait ? 0 : call->session->config->body_timeout_ns);
}

/* Keeps what cannot be taken now; the window bounds it, which was widened for the last message
 * while a frame was still to come. */
static void keep(struct md_call *call, struct md_str bytes)
{
    call->backlog.max =
        call->session->config->http2->limits.initial_window + call->message_bytes + BACKLOG_SPARE;
    md_bytes_append_str(&call->backlog, bytes);
    if (call->backlog.failed) {
        refuse_memory(call);
    }
}

/* Bytes of a body that is no gRPC. */
static void take_plain(struct md_call *call, struct md_str bytes)
{
    const int64_t length = call->request.head.content_length;

    if (call->bytes + bytes.len > call->x.body_max) {
        refuse_length(call);
    } else if (call->backlog.len) {
        keep(call, bytes);
    } else if (!reserve(call, bytes.len)) {
        if (md_call_wait_for_memory(
                call, md_size_max(length > 0 ? (size_t)length : 0, call->bytes + bytes.len))) {
            keep(call, bytes);
        }
    } else {
        memcpy(call->data + call->bytes, bytes.ptr, bytes.len);
        call->bytes += bytes.len;
        progress(call, bytes.len, 0);
    }
}

static void take_messages(struct md_call *call, struct md_str bytes)
{
    size_t taken = 0;

    if (call->backlog.len == 0) {
        taken = md_grpc_take(call, bytes);
        progress(call, taken, bytes.len - taken);
    }
    if (taken < bytes.len && !call->discards && !call->answered) {
        keep(call, md_str_make(bytes.ptr + taken, bytes.len - taken));
    }
}

static void ended(struct md_call *call)
{
    if (call->answered || call->discards || call->requested || call->is_starved) {
        return;
    }
    if (!call->x.is_grpc) {
        end_body(call);
    } else if (call->backlog.len == 0 && call->state == MD_CALL_RECEIVING && !call->is_paused) {
        md_grpc_ended(call);
    }
}

void md_call_take_data(struct md_call *call, struct md_str bytes, bool ends)
{
    const bool was_pinned = md_call_pin(call);
    const bool accepted = accepts(call, bytes.len);

    if (accepted && bytes.len) {
        if (call->x.is_grpc) {
            take_messages(call, bytes);
        } else {
            take_plain(call, bytes);
        }
    }
    if (accepted && ends) {
        ended(call);
    }
    md_call_unpin(call, was_pinned);
}

void md_call_take_trailers(struct md_call *call)
{
    const struct md_http2 *h2 = &call->session->h2;

    if (!md_http2_check_trailers(h2->fields, h2->field_count)) {
        md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_PROTOCOL_ERROR);
        md_call_cancel(call);
        return;
    }
    md_call_take_data(call, MD_STR(""), true);
}

/* --- in place -------------------- */

size_t md_call_room(struct md_call *call, size_t wanted, char **at)
{
    const int64_t length = call->request.head.content_length;
    const bool complete = call->x.is_grpc && !call->in_message;
    size_t room;

    if (call->discards || call->answered || complete || !call->block || call->backlog.len ||
        call->is_paused || call->state != MD_CALL_RECEIVING) {
        return 0;
    }
    room = call->x.is_grpc ? call->message_bytes - call->bytes : call->capacity - call->bytes;
    if (!call->x.is_grpc && length >= 0) {
        room = md_size_min(room, (size_t)length - call->bytes);
    }
    room = md_size_min(room, wanted);
    if (!room || !md_block_charge(call->block, offset_of(call) + call->bytes + room)) {
        return 0; /* the way through the read buffer says why */
    }
    *at = call->data + call->bytes;
    return room;
}

void md_call_took(struct md_call *call, size_t count, bool ends)
{
    call->bytes += count;
    call->received_bytes += count;
    md_block_discharge(call->block, offset_of(call) + call->bytes);
    if (!count) {
        return;
    }
    const bool was_pinned = md_call_pin(call);
    progress(call, count, 0);
    if (call->x.is_grpc) {
        if (call->bytes == call->message_bytes) {
            md_grpc_deliver(call);
        }
    } else if (call->bytes > call->x.body_max) {
        refuse_length(call);
    }
    if (ends) {
        ended(call);
    }
    md_call_unpin(call, was_pinned);
}

/* --- slices -------------------- */

static void unpacked(struct md_call *call)
{
    const size_t lead = call->x.is_grpc ? 0 : lead_of(call);

    md_block_unref(call->block);
    call->block = call->unpack.block;
    call->unpack.block = NULL;
    call->data = call->block->data + lead;
    call->capacity = call->block->capacity - lead;
    call->bytes = call->unpack.bytes;
    if (call->x.is_grpc) {
        call->state = MD_CALL_RECEIVING;
        call->is_packed = false;
        md_grpc_deliver(call);
    } else {
        md_call_request(call);
    }
}

static void unpack_step(struct md_call *call)
{
    const size_t lead = call->x.is_grpc ? 0 : lead_of(call);
    struct md_error err;

    switch (md_unpack_step(&call->unpack, md_call_pool(call), md_str_make(call->data, call->bytes),
                           lead, call->x.body_max, &err)) {
    case MD_PROGRESS_DONE:
        unpacked(call);
        break;
    case MD_PROGRESS_AGAIN:
        md_call_work_soon(call);
        break;
    default:
        md_call_refuse(call,
                       err.reason == MD_REASON_TOO_LARGE   ? MD_REFUSAL_BODY_SIZE
                       : err.reason == MD_REASON_MALFORMED ? MD_REFUSAL_MALFORMED
                                                           : MD_REFUSAL_MEMORY,
                       &err);
    }
}

static void take_backlog(struct md_call *call)
{
    struct md_bytes backlog = call->backlog;

    call->backlog = (struct md_bytes){0};
    if (!call->x.is_grpc) {
        take_plain(call, md_bytes_view(&backlog));
        md_bytes_deinit(&backlog);
        return;
    }
    size_t taken = md_grpc_take(call, md_bytes_view(&backlog));
    if (!call->answered && !call->discards && !call->stream.was_reset) {
        progress(call, taken, backlog.len - taken);
        if (taken < backlog.len) {
            keep(call, md_str_make(backlog.data + taken, backlog.len - taken));
        }
    }
    md_bytes_deinit(&backlog);
}

void md_call_receive_step(struct md_call *call)
{
    const bool was_pinned = md_call_pin(call);

    if (call->answered || call->discards || call->stream.was_reset) {
        md_call_end_wait(call);
        md_call_unpin(call, was_pinned);
        return;
    }
    if (call->state == MD_CALL_UNPACKING) {
        unpack_step(call);
    }
    if (call->state == MD_CALL_RECEIVING && (call->backlog.len || call->is_starved) &&
        !call->is_paused) {
        take_backlog(call);
    }
    if (call->stream.recv_ended && call->state == MD_CALL_RECEIVING) {
        ended(call);
    }
    md_call_unpin(call, was_pinned);
    /* whatever was answered goes out at the end of the turn */
}

/* --- heads -------------------- */

static void begin_body(struct md_call *call, bool ends)
{
    struct md_http2_session *session = call->session;
    const int64_t length = call->request.head.content_length;

    call->x.body_max = md_size_min(call->x.body_max, md_pool_limit_bytes(md_call_pool(call)));
    if (call->answered || call->streaming || call->stream.was_reset) {
        call->discards = true;
        return;
    }
    if (!call->x.is_grpc && !knows_coding(call->request.content_encoding)) {
        md_call_refuse_for(call, MD_REFUSAL_ENCODING, MD_REASON_UNSUPPORTED,
                           "Unsupported compression type");
        return;
    }
    if (!call->x.is_grpc && length > 0 && (uint64_t)length > call->x.body_max) {
        refuse_length(call);
        return;
    }
    if (ends) {
        ended(call);
        return;
    }
    if (call->request.expects_continue) {
        struct md_bytes *block = md_call_begin_block(call);
        md_hpack_put_status(block, 100);
        md_http2_put_head(&session->h2, &call->stream, md_bytes_view(block), false);
    }
    if (!call->x.is_grpc && length > 0) {
        md_http2_expect(&session->h2, &call->stream, (uint64_t)length);
    }
    progress(call, 0, call->backlog.len);
}

/* Routes the request and asks its handler. */
static void begin_request(struct md_call *call, bool ends)
{
    const struct md_http_config *config = call->session->config;
    struct md_exchange *x = &call->x;

    if (call->request.is_preflight && x->head.method == MD_HTTP_OPTIONS &&
        config->cors_origin_count) {
        md_exchange_respond(x, &md_session_preflight);
    } else if (!x->is_grpc || md_grpc_begin(call)) {
        config->route(config->route_arg, x);
        if (md_arena_failed(&x->arena)) {
            md_call_refuse_for(call, MD_REFUSAL_MEMORY, MD_REASON_OUT_OF_MEMORY, "out of memory");
            return;
        }
        if (x->handler->on_head) {
            x->handler->on_head(x);
        }
    }
    md_http2_session_watch(call->session, x->deadline_ns);
    begin_body(call, ends);
}

/* What the head says; false: it is malformed. */
static bool read_head(struct md_call *call, const struct md_http2_event *event)
{
    const struct md_http2 *h2 = &call->session->h2;

    if (event->shared) {
        call->head = event->shared;
        call->head->refs++;
        call->request = call->head->request;
        return true;
    }
    return md_http2_parse_head(h2->fields, h2->field_count, event->ends, &call->request);
}

void md_call_take_head(struct md_call *call, const struct md_http2_event *event)
{
    struct md_http2_session *session = call->session;
    const struct md_http2 *h2 = &session->h2;
    struct md_exchange *x = &call->x;
    bool is_valid = read_head(call, event);

    x->head = call->request.head;
    x->is_grpc = call->request.is_grpc;
    x->body_max =
        x->is_grpc ? session->config->http2->max_message_bytes : session->config->max_body_bytes;
    const bool was_pinned = md_call_pin(call);
    if (h2->fields_failed) {
        md_call_refuse_for(call, MD_REFUSAL_MEMORY, MD_REASON_OUT_OF_MEMORY, "out of memory");
    } else if (h2->fields_too_large) {
        x->is_grpc = false;
        md_call_refuse_for(call, MD_REFUSAL_HEADER_SIZE, MD_REASON_TOO_LARGE,
                           "the request's headers are larger than the server accepts");
    } else if (!is_valid) {
        md_http2_reset(&session->h2, &call->stream, MD_HTTP2_PROTOCOL_ERROR);
        x->cancelled = true;
    } else {
        begin_request(call, event->ends);
    }
    md_call_unpin(call, was_pinned);
}
