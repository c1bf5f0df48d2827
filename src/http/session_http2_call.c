/*
 * Calls of an HTTP/2 session: from the stream's begin to its end.
 */
#include "http/session_http2_internal.h"

enum {
    CALL_BYTES = 8192, /* counted for a call */
};

/* --- time -------------------- */

void md_http2_session_watch(struct md_http2_session *session, uint64_t deadline_ns)
{
    if (session->conn && deadline_ns &&
        (!session->timer.position || session->timer.deadline_ns > deadline_ns)) {
        md_loop_timer_set(session->loop, &session->timer, deadline_ns);
    }
}

uint64_t md_http2_session_watch_for(struct md_http2_session *session, uint64_t timeout_ns)
{
    const uint64_t deadline_ns = timeout_ns ? md_loop_now_ns(session->loop) + timeout_ns : 0;

    md_http2_session_watch(session, deadline_ns);
    return deadline_ns;
}

void md_call_set_deadline(struct md_call *call, uint64_t timeout_ns)
{
    call->deadline_ns = md_http2_session_watch_for(call->session, timeout_ns);
}

void md_call_watch_reader(struct md_call *call)
{
    call->send_ns =
        md_http2_session_watch_for(call->session, call->session->config->body_timeout_ns);
    call->send_seen = md_call_left_bytes(call);
}

/* --- calls -------------------- */

struct md_http2_stream *md_call_open(void *arg)
{
    struct md_http2_session *session = arg;
    struct md_pool *pool = md_loop_pool(session->loop);
    struct md_arena arena;

    if (!md_pool_count(pool, CALL_BYTES)) {
        return NULL;
    }
    md_arena_init(&arena, MD_LOOP_ARENA_BYTES);
    md_arena_cache_lend(md_loop_arenas(session->loop), &arena);
    struct md_call *call = md_arena_calloc(&arena, 1, sizeof *call);
    if (!call) {
        md_arena_deinit(&arena);
        md_pool_uncount(pool, CALL_BYTES);
        return NULL;
    }
    call->x.arena = arena;
    call->x.calls = &md_call_calls;
    call->x.loop = session->loop;
    call->x.peer = md_conn_peer(session->conn);
    call->x.over_unix_socket = md_conn_is_unix(session->conn);
    call->x.body = MD_STR("");
    call->x.begin_ns = md_loop_since_ns(session->loop);
    call->stream.arena = &call->x.arena;
    call->session = session;
    md_call_set_deadline(call, session->config->header_timeout_ns);
    return &call->stream;
}

static void log_call(struct md_call *call)
{
    const struct md_http_config *config = call->session->config;
    const unsigned status = call->answered ? call->status : 499;

    if (call->answered) {
        md_counter_add(&call->session->counters->responses[md_size_min(status / 100, 5)], 1);
    }
    if (config->access_log) {
        config->access_log(config->access_log_arg, &call->x, status, call->sent_bytes);
    }
}

/* The session has nothing to do any more when its last call is over after its connection. */
static void release_soon(struct md_http2_session *session)
{
    if (!session->h2.stream_count && !session->conn && !session->running) {
        md_http2_session_work_soon(session); /* nobody else comes by */
    }
}

/* The stream is over: all of the call that is not its exchange's memory goes. */
static void call_leave(struct md_call *call)
{
    struct md_http2_session *session = call->session;

    call->has_left = true;
    session->held_count++;
    log_call(call);
    call->x.peer = ""; /* the connection may go before it */
    md_http2_forget(&session->h2, &call->stream);
    md_call_end_wait(call);
    md_bytes_deinit(&call->backlog);
    md_bytes_deinit(&call->trailers);
    md_unpack_deinit(&call->unpack);
    md_pack_deinit(&call->pack);
    if (session->h2.stream_count == 0 && session->conn) {
        session->idle_ns = md_loop_now_ns(session->loop);
        (void)md_http2_session_watch_for(session, session->config->idle_timeout_ns);
    }
}

static void call_free(struct md_call *call)
{
    struct md_http2_session *session = call->session;
    struct md_http2_head *head = call->head;
    struct md_arena arena;

    session->held_count--;
    md_call_release_body(call);
    arena = call->x.arena; /* the call lies in it: its cleanups still find it */
    md_arena_reset(&arena);
    md_arena_cache_take_back(md_loop_arenas(session->loop), &arena);
    md_http2_head_unref(head);
    md_pool_uncount(md_loop_pool(session->loop), CALL_BYTES);
    release_soon(session);
}

void md_call_settle(struct md_call *call)
{
    const struct md_http2_stream *stream = &call->stream;

    if (call->pinned || call->handler_has_it || call->has_work || stream->committed_bytes ||
        !(stream->send_ended || stream->was_reset)) {
        return;
    }
    if (!call->has_left) {
        call_leave(call);
    }
    if (!call->x.holds) {
        call_free(call);
    }
}

void md_call_sent(void *arg, struct md_http2_stream *stream)
{
    (void)arg;
    md_call_settle(MD_CONTAINER_OF(stream, struct md_call, stream));
}

void md_call_cancel(struct md_call *call)
{
    struct md_exchange *x = &call->x;
    const bool was_pinned = md_call_pin(call);

    if (call->handler_has_it && !x->cancelled) {
        x->cancelled = true;
        if (x->handler->on_cancel) {
            x->handler->on_cancel(x);
        } else if (call->streaming && call->drained) {
            call->drained(x);
        }
    }
    x->cancelled = true;
    md_call_unpin(call, was_pinned);
}

void md_http2_session_work_soon(struct md_http2_session *session)
{
    if (!session->work_pending) {
        session->work_pending = true;
        md_loop_defer(session->loop, &session->work_task);
    }
}

void md_call_work_soon(struct md_call *call)
{
    struct md_http2_session *session = call->session;

    if (call->has_work) {
        return;
    }
    call->has_work = true;
    call->work_next = NULL;
    if (session->work_first) {
        session->work_last->work_next = call;
    } else {
        session->work_first = call;
    }
    session->work_last = call;
    md_http2_session_work_soon(session);
}

void md_call_step(struct md_call *call)
{
    if (call->state == MD_CALL_PACKING) {
        md_call_pack_step(call);
    } else if (call->streaming) {
        md_call_drained(call);
    } else {
        md_call_receive_step(call);
    }
}
