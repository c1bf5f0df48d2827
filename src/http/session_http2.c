/*
 * Session of HTTP/2: its turns and its life.
 */
#include "http/session_http2_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum { EVENTS_A_TURN = 256 };

static void session_close(struct md_http2_session *session);

/* --- a turn -------------------- */

/* False: the connection must end. */
static bool handle(struct md_http2_session *session, const struct md_http2_event *event)
{
    struct md_call *call =
        event->stream ? MD_CONTAINER_OF(event->stream, struct md_call, stream) : NULL;

    switch (event->kind) {
    case MD_HTTP2_HEAD:
        md_counter_add(&session->counters->requests, 1);
        md_call_take_head(call, event);
        return true;
    case MD_HTTP2_TRAILERS:
        md_call_take_trailers(call);
        return true;
    case MD_HTTP2_DATA:
        md_call_take_data(call, event->bytes, event->ends);
        return true;
    case MD_HTTP2_RESET:
        md_call_cancel(call);
        return true;
    case MD_HTTP2_FAILED:
        md_counter_add(&session->counters->refused[MD_REFUSAL_MALFORMED], 1);
        session->last_goaway = true;
        md_http2_session_cancel_all(session);
        session->ending = true;
        return false;
    default:
        return true;
    }
}

/* What has been received already. False: that was enough for now, or for ever. */
static bool take_events(struct md_http2_session *session, unsigned *events)
{
    struct md_http2_event event;

    while (session->in && session->in_at < session->in_end) {
        if (session->starved_count) {
            session->holds_input = true;
            return false;
        }
        struct md_str data =
            md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
        if (++*events > EVENTS_A_TURN) { /* the peer may read what it was told, and others first */
            md_http2_session_work_soon(session);
            return false;
        }
        md_http2_next(&session->h2, &data, &event);
        session->in_at = session->in_end - data.len;
        if (event.kind == MD_HTTP2_AGAIN) {
            return true;
        }
        session->frame_ns = 0;
        if (!handle(session, &event)) {
            return false;
        }
    }
    md_http2_session_drop_buffer(session);
    return true;
}

/* A frame that has begun to come must come whole, unless it is us who wait. */
static void watch_frame(struct md_http2_session *session)
{
    if (!session->in || session->in_at == session->in_end || session->holds_input) {
        session->frame_ns = 0;
    } else if (!session->frame_ns) {
        session->frame_ns = md_loop_now_ns(session->loop);
        (void)md_http2_session_watch_for(session, session->config->header_timeout_ns);
    }
}

static void take_input(struct md_http2_session *session)
{
    unsigned events = 0;
    bool more = true;

    for (;;) {
        session->holds_input = !md_http2_session_takes_more(session);
        if (session->holds_input || !take_events(session, &events) || !more || session->lost) {
            return;
        }
        if (session->turn_bytes >= MD_SESSION_TURN_BYTES) {
            md_http2_session_work_soon(session);
            return;
        }
        more = md_http2_session_receive(session) == MD_INTAKE_FULL;
    }
}

/* Reads and drops until the peer has seen the end: a reset would take the last answer with it. */
static void linger(struct md_http2_session *session)
{
    size_t count;

    if (!session->lingering) {
        session->lingering = true;
        md_conn_shutdown(session->conn);
        session->going_ns = md_loop_now_ns(session->loop);
        (void)md_http2_session_watch_for(session, MD_HTTP2_LINGER_MS * (uint64_t)MD_NS_PER_MS);
    }
    md_conn_want(session->conn, MD_LOOP_READ);
    if (!md_http2_session_make_room(session, 1)) {
        md_http2_session_lost(session);
    }
    while (!session->lost && session->turn_bytes < MD_SESSION_TURN_BYTES &&
           md_http2_session_receive_to(session, session->in->data, session->in->capacity, &count) ==
               MD_INTAKE_FULL) {}
    session->in_at = session->in_end = 0;
    md_http2_session_drop_buffer(session);
}

/* After a turn: whether the connection goes on. */
static void conclude(struct md_http2_session *session)
{
    struct md_http2 *h2 = &session->h2;

    if (h2->text.failed) { /* something that had to be said is not */
        md_http2_session_lost(session);
    }
    if (session->notified && !session->last_goaway && h2->ping_acked) {
        md_http2_session_refuse_new(session, MD_HTTP2_NO_ERROR, "");
    }
    if ((session->last_goaway || h2->peer_going_away) && h2->stream_count == 0) {
        session->ending = true;
    }
    if (session->ending && !session->lost && md_http2_pending_bytes(h2) == 0) {
        linger(session);
    }
    if (session->lost) {
        session_close(session);
    }
}

static void session_release(struct md_http2_session *session);

static void run(struct md_http2_session *session)
{
    if (!session->conn || session->running) {
        return;
    }
    session->running = true;
    session->turn_bytes = 0;
    if (!session->lingering && !session->ending) {
        take_input(session);
        md_http2_session_wait_for_bulk(session);
        watch_frame(session);
        md_http2_session_judge_pings(session);
    }
    md_http2_session_write(session);
    session->running = false;
    conclude(session);
    session_release(session);
}

static void run_flush(struct md_loop_task *task)
{
    struct md_http2_session *session = MD_CONTAINER_OF(task, struct md_http2_session, flush_task);

    session->flush_pending = false;
    if (session->conn) {
        session->turn_bytes = 0;
        md_http2_session_write(session);
        conclude(session);
    }
    session_release(session);
}

/* Slices of work, one for each call that has some; then what is still in the buffer. */
static void run_work(struct md_loop_task *task)
{
    struct md_http2_session *session = MD_CONTAINER_OF(task, struct md_http2_session, work_task);
    struct md_call *call = session->work_first;

    session->work_pending = false;
    session->work_first = session->work_last = NULL;
    while (call) {
        struct md_call *next = call->work_next;
        call->has_work = false;
        md_call_step(call);
        call = next;
    }
    if (session->conn) {
        run(session);
    } else {
        session_release(session);
    }
}

static void ready(void *arg, uint32_t events)
{
    struct md_http2_session *session = arg;

    /* else receiving tells whether the peer has gone */
    if ((events & MD_LOOP_HANGUP) && session->starved_count) {
        md_http2_session_lost(session);
    }
    run(session);
}

static void timeout(struct md_loop_timer *timer)
{
    struct md_http2_session *session = MD_CONTAINER_OF(timer, struct md_http2_session, timer);

    if (!session->conn) {
        return;
    }
    session->running = true; /* what is answered meanwhile is written below */
    const uint64_t next_ns = md_http2_session_look_at_limits(session);
    session->running = false;
    if (next_ns != UINT64_MAX) {
        md_http2_session_watch(session, next_ns);
    }
    session->turn_bytes = 0;
    md_http2_session_write(session);
    conclude(session);
    session_release(session);
}

/* --- life -------------------- */

static void session_close(struct md_http2_session *session)
{
    if (!session->conn) {
        return;
    }
    session->running = true;
    md_conn_close(session->conn);
    session->conn = NULL;
    md_loop_timer_cancel(session->loop, &session->timer);
    md_http2_drop_output(&session->h2);
    for (struct md_http2_stream *stream = session->h2.streams; stream; stream = stream->next) {
        MD_CONTAINER_OF(stream, struct md_call, stream)->x.peer = "";
    }
    md_http2_session_cancel_all(session);
    session->running = false;
}

/* Frees a session that is closed, once nobody needs it any more. */
static void session_release(struct md_http2_session *session)
{
    if (session->conn || session->running || session->h2.stream_count || session->held_count ||
        session->flush_pending || session->work_pending) {
        return;
    }
    md_session_unlink(session->list, &session->link);
    md_loop_timer_unreserve(session->loop);
    md_http2_deinit(&session->h2);
    md_block_unref(session->in);
    md_bytes_deinit(&session->scratch);
    md_free(session);
}

static void drain(struct md_session_link *link)
{
    struct md_http2_session *session = MD_CONTAINER_OF(link, struct md_http2_session, link);

    md_http2_session_notify(session);
}

static void abort_session(struct md_session_link *link)
{
    struct md_http2_session *session = MD_CONTAINER_OF(link, struct md_http2_session, link);

    session_close(session);
    session_release(session);
}

static const struct md_conn_handler conn_handler = {.ready = ready};

void md_session_http2_start(struct md_conn *conn, const struct md_http_config *config,
                            struct md_session_list *list, struct md_block *in, size_t in_at,
                            size_t in_end)
{
    struct md_http2_session *session = md_calloc(1, sizeof *session);
    struct md_loop *loop = md_conn_loop(conn);
    const struct md_http2_owner owner = {
        .open = md_call_open, .sent = md_call_sent, .arg = session};
    struct md_error err;

    if (!session || !md_loop_timer_reserve(loop, &err)) {
        goto out;
    }
    if (!md_http2_init(&session->h2, &config->http2->limits, &owner)) {
        md_loop_timer_unreserve(loop);
        goto out;
    }
    session->conn = conn;
    session->loop = loop;
    session->config = config;
    session->counters = &config->counters[md_loop_index(loop)];
    session->list = list;
    session->link.drain = drain;
    session->link.abort = abort_session;
    session->in = in;
    session->in_at = in_at;
    session->in_end = in_end;
    session->flush_task.run = run_flush;
    session->work_task.run = run_work;
    session->timer.fire = timeout;
    session->age_ns = session->idle_ns = session->alive_ns = md_loop_now_ns(loop);
    md_session_link(list, &session->link);
    md_conn_set_handler(conn, &conn_handler, session);
    if (list->draining) {
        md_http2_session_notify(session);
    }
    md_http2_session_watch(session, session->age_ns + 1); /* looks at all limits once */
    run(session);
    return;
out:
    md_log(MD_LOG_WARNING, "connection from %s dropped: out of memory", md_conn_peer(conn));
    md_free(session);
    md_block_unref(in);
    md_conn_close(conn);
}
