/*
 * Input and output of an HTTP/2 session.
 */
#include "http/session_http2_internal.h"

#include "base/clock.h"

enum {
    PARTS_A_SEND = MD_HTTP2_SEGMENTS + 1,
    OUT_A_TURN = 1024 * 1024,
    SPREAD_FRAMES = 32,
    SPREAD_LEAST_BYTES = 4096, /* of a frame: smaller ones are copied */
    BULK_LEAST_BYTES = 64 * 1024,
};

/* --- output -------------------- */

void md_http2_session_lost(struct md_http2_session *session)
{
    session->lost = true;
}

bool md_http2_session_takes_more(const struct md_http2_session *session)
{
    enum { UNREAD_MAX = 1024 * 1024 };

    return !session->ending && !session->starved_count &&
           session->h2.text.len - session->h2.text_at < UNREAD_MAX;
}

/* Writes what is queued, a turn's worth; true: there may be more. */
static bool write_some(struct md_http2_session *session)
{
    struct iovec parts[PARTS_A_SEND];
    struct md_error err;
    size_t sent = 0;
    int count = md_http2_gather(&session->h2, parts, PARTS_A_SEND, OUT_A_TURN);

    if (!count) {
        session->stall_ns = 0;
        return false;
    }
    const size_t offered = md_http_parts_bytes(parts, (size_t)count);
    enum md_io outcome = md_conn_send(session->conn, parts, count, &sent, &err);
    if (outcome != MD_IO_OK && outcome != MD_IO_AGAIN) {
        md_http2_session_lost(session);
        return false;
    }
    md_counter_add(&session->counters->sent_bytes, sent);
    session->turn_bytes += sent;
    md_http2_wrote(&session->h2, sent);
    if (sent < offered) {
        if (sent || !session->stall_ns) {
            session->stall_ns = md_loop_now_ns(session->loop);
            (void)md_http2_session_watch_for(session, session->config->body_timeout_ns);
        }
        session->unsent_bytes = md_conn_unsent(session->conn);
        md_conn_want(session->conn,
                     MD_LOOP_WRITE | (md_http2_session_takes_more(session) ? MD_LOOP_READ : 0));
        return false;
    }
    return true;
}

void md_http2_session_write(struct md_http2_session *session)
{
    while (!session->lost && write_some(session)) {
        if (session->turn_bytes > OUT_A_TURN) { /* others first */
            md_http2_session_work_soon(session);
            break;
        }
    }
    if (session->turn_bytes > MD_SESSION_BULK_BYTES) {
        md_loop_note_bulk(session->loop);
    }
    if (!session->lost && !session->stall_ns) {
        md_conn_want(session->conn, session->starved_count ? 0 : MD_LOOP_READ);
    }
    if (session->holds_input && md_http2_session_takes_more(session)) {
        session->holds_input = false;
        md_http2_session_work_soon(session);
    }
}

void md_http2_session_flush_soon(struct md_http2_session *session)
{
    if (!session->running && !session->flush_pending && session->conn) {
        session->flush_pending = true;
        md_loop_finish(session->loop, &session->flush_task);
    }
}

/* --- input -------------------- */

/* Makes room for at least `wanted` bytes in the read buffer. */
bool md_http2_session_make_room(struct md_http2_session *session, size_t wanted)
{
    const size_t used = session->in ? session->in_end - session->in_at : 0;
    bool over_budget;

    if (session->in && used == 0) {
        session->in_at = session->in_end = 0;
    }
    if (session->in && session->in->capacity - session->in_at >= wanted &&
        session->in_end < session->in->capacity) {
        return true;
    }
    if (session->in && session->in->capacity >= wanted && session->in_at) {
        memmove(session->in->data, session->in->data + session->in_at, used);
    } else {
        struct md_block *larger = md_pool_alloc_urgent(
            md_loop_pool(session->loop), md_size_max(wanted, MD_SESSION_IN_BYTES), &over_budget);
        if (!larger) {
            return false;
        }
        if (used) {
            memcpy(larger->data, session->in->data + session->in_at, used);
        }
        md_block_unref(session->in);
        session->in = larger;
    }
    session->in_at = 0;
    session->in_end = used;
    return true;
}

static enum md_intake receive_parts(struct md_http2_session *session, const struct iovec *parts,
                                    int part_count, size_t *count)
{
    struct md_error err;
    const size_t room = md_http_parts_bytes(parts, (size_t)part_count);

    switch (md_conn_recv_parts(session->conn, parts, part_count, count, &err)) {
    case MD_IO_OK:
        md_counter_add(&session->counters->received_bytes, *count);
        session->turn_bytes += *count;
        session->alive_ns = md_loop_now_ns(session->loop);
        return *count == room ? MD_INTAKE_FULL : MD_INTAKE_SOME;
    case MD_IO_AGAIN:
        break;
    default:
        md_http2_session_lost(session);
    }
    *count = 0;
    return MD_INTAKE_NONE;
}

enum md_intake md_http2_session_receive_to(struct md_http2_session *session, char *at, size_t room,
                                           size_t *count)
{
    const struct iovec part = {at, room};

    return receive_parts(session, &part, 1, count);
}

/* --- bodies in place -------------------- */

/* What one receive is spread over: the rest of a DATA frame, then as many frames of the same size
 * as fit the body, their heads beside it. Clients send large bodies just so. */
struct spread {
    struct iovec parts[2 * SPREAD_FRAMES + 1]; /* body, head, body, head, body ... */
    char heads[SPREAD_FRAMES][MD_HTTP2_FRAME_HEAD_BYTES];
    int part_count;
};

static void plan_spread(struct spread *spread, char *at, size_t room, size_t left, size_t frame)
{
    size_t n = md_size_min(left, room);

    spread->parts[0] = (struct iovec){at, n};
    spread->part_count = 1;
    room = frame >= SPREAD_LEAST_BYTES ? room - n : 0;
    for (int i = 0; room && i < SPREAD_FRAMES; i++) {
        at += n;
        n = md_size_min(frame, room);
        room -= n;
        spread->parts[spread->part_count++] =
            (struct iovec){spread->heads[i], MD_HTTP2_FRAME_HEAD_BYTES};
        spread->parts[spread->part_count++] = (struct iovec){at, n};
    }
}

/* Bytes that are not what was expected go the usual way: `count` of them from this part on. */
static void take_back(struct md_http2_session *session, const struct spread *spread, int part,
                      size_t count)
{
    if (!md_http2_session_make_room(session, count)) {
        md_http2_session_lost(session);
        return;
    }
    for (; count && part < spread->part_count; part++) {
        size_t n = md_size_min(count, spread->parts[part].iov_len);
        memcpy(session->in->data + session->in_end, spread->parts[part].iov_base, n);
        session->in_end += n;
        count -= n;
    }
}

static void took(struct md_http2_session *session, struct md_call *call, size_t count)
{
    md_call_took(call, count, md_http2_took_data(&session->h2, count));
}

/* Whether the call goes on with its body just there. */
static struct md_call *goes_on(struct md_http2_session *session, uint32_t id, const char *at)
{
    struct md_http2_stream *stream = md_http2_find(&session->h2, id);
    struct md_call *call = stream ? MD_CONTAINER_OF(stream, struct md_call, stream) : NULL;
    char *next;

    return call && md_call_room(call, 1, &next) && next == at ? call : NULL;
}

static void take_spread(struct md_http2_session *session, struct md_call *call,
                        const struct spread *spread, size_t count)
{
    const uint32_t id = call->stream.id;
    size_t n = md_size_min(count, spread->parts[0].iov_len);

    took(session, call, n);
    count -= n;
    for (int i = 1; count && i < spread->part_count; i += 2) {
        const struct iovec *head = &spread->parts[i], *body = &spread->parts[i + 1];
        call = goes_on(session, id, body->iov_base);
        n = count < head->iov_len ? 0 : md_size_min(count - head->iov_len, body->iov_len);
        if (count < head->iov_len || !call ||
            !md_http2_begins_data(&session->h2, head->iov_base, id, n,
                                  n + head->iov_len == count)) {
            take_back(session, spread, i, count);
            return;
        }
        count -= head->iov_len;
        if (n) {
            took(session, call, n);
        }
        count -= n;
    }
}

static enum md_intake receive_in_place(struct md_http2_session *session, struct md_call *call,
                                       char *at, size_t room, size_t left)
{
    struct md_block *block = call->block; /* outlives the call, for what is taken back */
    struct spread spread;
    size_t count;

    plan_spread(&spread, at, room, left, session->h2.frame.len);
    enum md_intake intake = receive_parts(session, spread.parts, spread.part_count, &count);
    if (count) {
        md_block_ref(block);
        take_spread(session, call, &spread, count);
        md_block_unref(block);
    } else {
        md_call_took(call, 0, false);
    }
    return intake;
}

enum md_intake md_http2_session_receive(struct md_http2_session *session)
{
    const bool is_empty = !session->in || session->in_at == session->in_end;
    size_t left, count, room;
    char *at;
    struct md_http2_stream *stream = md_http2_in_data(&session->h2, &left);
    struct md_str data = MD_STR("");

    if (stream && is_empty) {
        struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
        room = md_call_room(call, MD_SESSION_TURN_BYTES, &at);
        if (room) {
            md_http2_session_drop_buffer(session);
            return receive_in_place(session, call, at, room, left);
        }
    }
    if (session->in) {
        data = md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
    }
    if (!md_http2_session_make_room(session, md_size_max(md_http2_wanted(&session->h2, data), 1))) {
        md_http2_session_lost(session); /* not even a read buffer */
        return MD_INTAKE_NONE;
    }
    enum md_intake intake =
        md_http2_session_receive_to(session, session->in->data + session->in_end,
                                    session->in->capacity - session->in_end, &count);
    session->in_end += count;
    return intake;
}

static void set_low_water(struct md_http2_session *session, size_t bytes)
{
    if (session->low_water != bytes) {
        session->low_water = bytes;
        md_conn_set_low_water(session->conn, md_size_max(bytes, 1));
    }
}

/* How much of a body is sure to come next, if the peer goes on with it. */
static size_t bulk_bytes(struct md_http2_session *session)
{
    size_t left;
    char *at;
    struct md_http2_stream *stream = md_http2_in_data(&session->h2, &left);

    if (!stream || stream->id == session->slow_id) {
        return 0;
    }
    struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
    if (stream->recv_window > 0) {
        left += (size_t)stream->recv_window;
    }
    const size_t room = md_call_room(call, md_size_min(left, MD_SESSION_TURN_BYTES), &at);
    if (room) {
        md_call_took(call, 0, false);
    }
    return room >= BULK_LEAST_BYTES ? room : 0;
}

void md_http2_session_wait_for_bulk(struct md_http2_session *session)
{
    if (session->lost) {
        return;
    }
    set_low_water(session, bulk_bytes(session));
    if (session->low_water) {
        session->low_ns = md_loop_now_ns(session->loop);
        (void)md_http2_session_watch_for(session, MD_HTTP2_BULK_WAIT_MS * (uint64_t)MD_NS_PER_MS);
    }
}

void md_http2_session_end_wait_for_bulk(struct md_http2_session *session)
{
    size_t left;
    const struct md_http2_stream *stream = md_http2_in_data(&session->h2, &left);

    session->slow_id = stream ? stream->id : 0;
    set_low_water(session, 0);
}

void md_http2_session_drop_buffer(struct md_http2_session *session)
{
    if (session->in && session->in_at == session->in_end) {
        md_block_unref(session->in);
        session->in = NULL;
    }
}
