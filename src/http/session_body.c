/*
 * Session: receiving bodies.
 *
 * A body goes into one block, contiguous. With a known length the block is as large as the body
 * (address space alone: it is counted against the budget as it fills) and what the read buffer did
 * not hold is received straight into it. A chunked body grows by factors of four. When memory is
 * short the session stops reading and tries again.
 */
#include "http/session_internal.h"

#include "base/clock.h"

#include <string.h>

enum {
    TENSOR_ALIGNMENT = 64,
    RECV_FIRST = 256 * 1024,
    CHUNKED_FIRST_BYTES = 4 * 1024,
    WAITING_BYTES = 4 * 1024, /* read buffer of a connection that is slow to send */
    RETRY_MS = 10,
    RETRY_MS_MOST = 640,
    LINGER_MS = 2000,
};

static void end_stall(struct md_session *session)
{
    if (session->stalled_bytes) {
        md_pool_unstall(md_loop_pool(session->x.loop), session->stalled_bytes);
        session->stalled_bytes = 0;
    }
}

void md_session_release_body(struct md_session *session)
{
    end_stall(session);
    md_block_unref(session->body);
    md_unpack_deinit(&session->unpack);
    md_pack_deinit(&session->pack);
    session->body = NULL;
}

void md_session_drop_buffer(struct md_session *session)
{
    md_block_unref(session->in);
    session->in = NULL;
}

void md_session_retry_later(struct md_session *session)
{
    /* Reading stops; the deadline that runs bounds for how long. More and more seldom: thousands
     * may wait. */
    md_conn_want(session->conn, 0);
    session->retrying = true;
    session->retry_ms =
        session->retry_ms ? (unsigned)md_size_min(session->retry_ms * 2, RETRY_MS_MOST) : RETRY_MS;
    md_loop_timer_set(session->x.loop, &session->timer,
                      md_loop_now_ns(session->x.loop) + session->retry_ms * (uint64_t)MD_NS_PER_MS);
}

/* Makes room in the read buffer; false when memory is short. */
static bool make_room(struct md_session *session)
{
    bool over_budget;

    if (!session->in) {
        session->in =
            md_pool_alloc_urgent(md_loop_pool(session->x.loop), MD_SESSION_IN_BYTES, &over_budget);
        session->in_at = session->in_end = 0;
        return session->in != NULL;
    }
    if (session->in_at == session->in_end) {
        session->in_at = session->in_end = 0;
    }
    if (session->in_end < session->in->capacity) {
        return true;
    }
    size_t used = session->in_end - session->in_at;
    if (session->in_at > 0) {
        memmove(session->in->data, session->in->data + session->in_at, used);
    } else {
        struct md_block *larger = md_pool_alloc_urgent(md_loop_pool(session->x.loop),
                                                       session->in->capacity * 4, &over_budget);
        if (!larger) {
            return false;
        }
        memcpy(larger->data, session->in->data, used);
        md_block_unref(session->in);
        session->in = larger;
    }
    session->in_at = 0;
    session->in_end = used;
    return true;
}

/* The peer is slow: what it has sent waits in as little as holds it. */
static void shrink_buffer(struct md_session *session)
{
    size_t used = session->in ? session->in_end - session->in_at : 0;
    bool over_budget;

    if (used == 0 || used > WAITING_BYTES / 2 || session->in->capacity <= WAITING_BYTES) {
        return;
    }
    struct md_block *smaller =
        md_pool_alloc(md_loop_pool(session->x.loop), WAITING_BYTES, &over_budget);
    if (smaller) {
        memcpy(smaller->data, session->in->data + session->in_at, used);
        md_block_unref(session->in);
        session->in = smaller;
        session->in_at = 0;
        session->in_end = used;
    }
}

/* Handles what a read gave; true: some bytes. */
static bool after_recv(struct md_session *session, enum md_io outcome, size_t count)
{
    switch (outcome) {
    case MD_IO_OK:
        md_counter_add(&session->counters->received_bytes, count);
        session->retry_ms = 0;
        session->turn_bytes += count;
        return true;
    case MD_IO_AGAIN:
        shrink_buffer(session);
        md_conn_want(session->conn, MD_LOOP_READ);
        return false;
    default:
        md_session_lost(session);
        return false;
    }
}

bool md_session_fill(struct md_session *session)
{
    struct md_error err;
    size_t count;

    if (!make_room(session)) {
        md_session_retry_later(session);
        return false;
    }
    enum md_io outcome = md_conn_recv(session->conn, session->in->data + session->in_end,
                                      session->in->capacity - session->in_end, &count, &err);
    session->in_end += count;
    if (session->in_at == session->in_end) { /* an idle connection holds no buffer */
        md_session_drop_buffer(session);
    }
    return after_recv(session, outcome, count);
}

/* --- begin and end -------------------- */

static void body_complete(struct md_session *session)
{
    struct md_exchange *x = &session->x;

    x->body_ns = md_loop_now_ns(x->loop);
    session->deadline_ns = 0;
    if (session->answered) {
        md_session_begin_reply(session);
        return;
    }
    if (session->body) {
        x->body_block = session->body;
        x->body = md_str_make(session->body->data + session->body_lead, session->body_bytes);
    }
    session->state = MD_SESSION_WORK;
    session->handler_has_it = true;
    x->handler->on_request(x);
}

/* No coding counts as known. */
static bool knows_coding(struct md_str name, enum md_coding *coding)
{
    return name.len == 0 || md_coding_from_name(name, coding);
}

static void end_body(struct md_session *session)
{
    enum md_coding coding = MD_CODING_GZIP;
    struct md_error err;

    /* a coding of nothing is nothing: some clients name one on every request */
    if (session->answered || session->body_bytes == 0 ||
        session->request.content_encoding.len == 0) {
        body_complete(session);
        return;
    }
    session->state = MD_SESSION_INFLATE;
    session->deadline_ns = 0;
    md_conn_want(session->conn, 0);
    (void)knows_coding(session->request.content_encoding, &coding);
    if (!md_unpack_begin(&session->unpack, coding, md_loop_pool(session->x.loop), &err)) {
        md_session_refuse(session, 503, MD_REFUSAL_MEMORY, err.text);
    }
}

static void refuse_length(struct md_session *session)
{
    md_session_refuse(session, 413, MD_REFUSAL_BODY_SIZE,
                      "the request body is larger than the server accepts");
}

static void send_continue(struct md_session *session)
{
    static const struct iovec part = {
        .iov_base = (void *)(uintptr_t) "HTTP/1.1 100 Continue\r\n\r\n", .iov_len = 25};
    struct md_error err;
    size_t count;

    /* 25 bytes with nothing else under way: they go out whole, or the peer does not read its
     * answers. If none goes out, it sends all the same after a while (RFC 9110 10.1.1). */
    enum md_io outcome = md_conn_send(session->conn, &part, 1, &count, &err);
    if (outcome != MD_IO_AGAIN && (outcome != MD_IO_OK || count != part.iov_len)) {
        md_session_lost(session);
    }
}

void md_session_begin_body(struct md_session *session)
{
    const struct md_http_head *head = &session->request.head;
    enum md_coding coding;

    session->x.body_max =
        md_size_min(session->x.body_max, md_pool_limit_bytes(md_loop_pool(session->x.loop)));
    session->state = MD_SESSION_BODY;
    if (!session->answered && !knows_coding(session->request.content_encoding, &coding)) {
        md_session_refuse(session, 501, MD_REFUSAL_ENCODING, "Unsupported compression type");
        return;
    }
    if (!head->has_body) {
        end_body(session);
        return;
    }
    md_session_set_deadline(session, session->config->body_timeout_ns);
    if (session->answered) {
        /* Reading the rest keeps the connection; a large rest is cut off. */
        session->discard = true;
        if (session->request.expects_continue || head->content_length < 0 ||
            head->content_length > MD_SESSION_DISCARD_MAX) {
            session->close_after = session->early = true;
            md_session_begin_reply(session);
        }
        return;
    }
    if (head->content_length > 0 && (uint64_t)head->content_length > session->x.body_max) {
        refuse_length(session);
        return;
    }
    if (session->request.expects_continue && (!session->in || session->in_at == session->in_end)) {
        send_continue(session);
    }
}

/* --- identity bodies -------------------- */

static size_t lead_of(const struct md_session *session)
{
    return (TENSOR_ALIGNMENT - session->x.body_lead % TENSOR_ALIGNMENT) % TENSOR_ALIGNMENT;
}

/* Counted as it fills. */
static struct md_block *allocate(struct md_session *session, size_t bytes)
{
    bool over_budget;

    return md_pool_alloc_lazy(md_loop_pool(session->x.loop), bytes, 1, &over_budget);
}

/* There is no memory for the body now; `need` is what it must hold in the end, or soon. Those that
 * wait hold what they have read already, so not all may, and none for each other: then the request
 * is refused. */
static void wait_for_memory(struct md_session *session, size_t need)
{
    struct md_pool *pool = md_loop_pool(session->x.loop);
    const size_t limit = md_pool_limit_bytes(pool);
    const size_t unread = session->in ? session->in->counted_bytes : 0;

    session->stalled_bytes = session->body ? session->body->counted_bytes + unread : 0;
    size_t others = md_pool_stall(pool, session->stalled_bytes);
    if (md_pool_is_crowded(pool) || (session->body && need + unread + others > limit)) {
        end_stall(session);
        md_session_refuse(session, 503, MD_REFUSAL_MEMORY,
                          "too many bytes are in flight: try again");
    } else {
        md_session_retry_later(session);
    }
}

/* Takes memory once there is something to put there: who only announces a body costs nothing. */
static bool begin_sized(struct md_session *session, size_t length)
{
    bool buffered = session->in && session->in_at < session->in_end;

    if (!buffered && !session->awaited) {
        session->awaited = true;
        md_session_drop_buffer(session);
        md_conn_want(session->conn, MD_LOOP_READ);
        return false;
    }
    session->body_lead = lead_of(session);
    size_t there = session->in ? md_size_min(length, session->in_end - session->in_at) : 0;
    struct md_block *body = allocate(session, length + session->body_lead);
    if (!body || !md_block_charge(body, session->body_lead + there)) {
        md_block_unref(body);
        wait_for_memory(session, 0);
        return false;
    }
    session->body = body;
    return true;
}

/* Moves what the read buffer holds of the body into its block. */
static void take_from_buffer(struct md_session *session, size_t wanted)
{
    size_t take = session->in ? md_size_min(wanted, session->in_end - session->in_at) : 0;

    if (!take) {
        return;
    }
    if (!session->discard) {
        memcpy(session->body->data + session->body_lead + session->body_bytes,
               session->in->data + session->in_at, take);
    }
    session->in_at += take;
    session->body_bytes += take;
    if (session->in_at == session->in_end) { /* the rest goes straight into the body */
        md_session_drop_buffer(session);
    }
}

static bool receive_direct(struct md_session *session, size_t wanted)
{
    /* no more than has come already: what is asked for is counted */
    size_t step = md_size_min(md_size_max(session->body_bytes, RECV_FIRST),
                              MD_SESSION_TURN_BYTES - session->turn_bytes);
    size_t room = md_size_min(wanted, step);
    struct md_error err;
    size_t count;

    /* Counted for what may come, then for what has come. */
    if (!md_block_charge(session->body, session->body_lead + session->body_bytes + room)) {
        wait_for_memory(session, session->body_lead + session->body_bytes + wanted);
        return false;
    }
    enum md_io outcome =
        md_conn_recv(session->conn, session->body->data + session->body_lead + session->body_bytes,
                     room, &count, &err);
    session->body_bytes += count;
    md_block_discharge(session->body, session->body_lead + session->body_bytes);
    if (!after_recv(session, outcome, count)) {
        return false;
    }
    md_session_set_deadline(session, session->config->body_timeout_ns);
    if (count < room) { /* the socket is empty: no need to hear it say so */
        md_conn_want(session->conn, MD_LOOP_READ);
        return false;
    }
    return true;
}

static bool step_sized(struct md_session *session)
{
    size_t length = (size_t)session->request.head.content_length;

    if (!session->discard && !session->body && !begin_sized(session, length)) {
        return session->state != MD_SESSION_BODY;
    }
    take_from_buffer(session, length - session->body_bytes);
    if (session->body_bytes == length) {
        end_body(session);
        return true;
    }
    if (session->discard) {
        return md_session_fill(session);
    }
    bool more = receive_direct(session, length - session->body_bytes);
    if (session->body_bytes == length) {
        end_body(session);
        return true;
    }
    return more || session->state != MD_SESSION_BODY;
}

/* --- chunked bodies -------------------- */

/* What a body holds that has got `extra` more bytes; while it moves, it lies in two blocks. */
static size_t need_of(const struct md_session *session, size_t extra)
{
    const struct md_block *body = session->body;
    size_t need = lead_of(session) + session->body_bytes + extra;

    return body && need > body->capacity ? need + body->counted_bytes : need;
}

/* Room for `extra` more bytes, counted against the budget. */
static bool grow_body(struct md_session *session, size_t extra)
{
    struct md_block *before = session->body;
    size_t lead = lead_of(session), need = lead + session->body_bytes + extra;

    if (before && need <= before->capacity) {
        return md_block_charge(before, need);
    }
    size_t capacity = md_size_max(need, before ? before->capacity * 4 : CHUNKED_FIRST_BYTES);
    struct md_block *larger =
        allocate(session, md_size_min(capacity, md_size_max(need, session->x.body_max)));
    if (!larger || !md_block_charge(larger, need)) {
        md_block_unref(larger);
        return false;
    }
    if (before) {
        memcpy(larger->data + lead, before->data + lead, session->body_bytes);
        md_block_unref(before);
    }
    session->body = larger;
    session->body_lead = lead;
    return true;
}

static bool step_chunked(struct md_session *session)
{
    struct md_error err;
    struct md_str piece;

    if (!session->in || session->in_at == session->in_end) {
        return md_session_fill(session);
    }
    struct md_str data =
        md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
    const struct md_http1_chunked before = session->chunked;
    const size_t before_len = data.len;
    enum md_progress progress = md_http1_chunked_step(&session->chunked, &data, &piece, &err);
    if (progress == MD_PROGRESS_ERROR) {
        md_session_refuse(session, 400, MD_REFUSAL_MALFORMED, err.text);
        return true;
    }
    if (session->body_bytes + piece.len > session->x.body_max) {
        refuse_length(session);
        return true;
    }
    if (piece.len) {
        if (!grow_body(session, piece.len)) {
            session->chunked = before; /* nothing was taken */
            wait_for_memory(session, need_of(session, piece.len));
            return session->state != MD_SESSION_BODY;
        }
        memcpy(session->body->data + session->body_lead + session->body_bytes, piece.ptr,
               piece.len);
        session->body_bytes += piece.len;
        md_session_set_deadline(session, session->config->body_timeout_ns);
    }
    session->in_at += before_len - data.len;
    if (progress == MD_PROGRESS_DONE) {
        end_body(session);
    }
    return true;
}

bool md_session_step_body(struct md_session *session)
{
    end_stall(session);
    return session->request.chunked ? step_chunked(session) : step_sized(session);
}

/* --- content coding -------------------- */

static void unpacked(struct md_session *session)
{
    md_block_unref(session->body);
    session->body = session->unpack.block;
    session->unpack.block = NULL;
    session->body_lead = lead_of(session);
    session->body_bytes = session->unpack.bytes;
    body_complete(session);
}

bool md_session_step_inflate(struct md_session *session)
{
    const char *in = session->body ? session->body->data + session->body_lead : "";
    struct md_error err;

    switch (md_unpack_step(&session->unpack, md_loop_pool(session->x.loop),
                           md_str_make(in, session->body_bytes), lead_of(session),
                           session->x.body_max, &err)) {
    case MD_PROGRESS_DONE:
        unpacked(session);
        return true;
    case MD_PROGRESS_AGAIN:
        md_session_yield(session);
        return false;
    default:
        break;
    }
    if (err.reason == MD_REASON_TOO_LARGE) {
        refuse_length(session);
    } else if (err.reason == MD_REASON_MALFORMED) {
        md_session_refuse(session, 400, MD_REFUSAL_MALFORMED, err.text);
    } else {
        md_session_refuse(session, 503, MD_REFUSAL_MEMORY, err.text);
    }
    return true;
}

/* --- lingering -------------------- */

bool md_session_step_linger(struct md_session *session)
{
    if (!session->lingering) {
        session->lingering = true;
        md_conn_shutdown(session->conn);
        md_session_set_deadline(session, LINGER_MS * (uint64_t)MD_NS_PER_MS);
    }
    if (session->in) {
        session->in_at = session->in_end;
    }
    if (md_session_fill(session)) {
        session->in_at = session->in_end;
        return true;
    }
    return false;
}
