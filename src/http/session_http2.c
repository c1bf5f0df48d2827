/*
 * Session of HTTP/2: life, input and output, time.
 *
 * One timer for the connection: it fires at the earliest limit that was set and looks at all of
 * them then.
 */
#include "http/session_http2_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    ARENA_CHUNK_BYTES = 8192 - 64, /* as of HTTP/1: they share the loop's cache */
    CALL_BYTES = 8192,             /* counted for a call */
    PARTS_A_SEND = MD_HTTP2_SEGMENTS + 1,
    EVENTS_A_TURN = 256,
    OUT_A_TURN = 512 * 1024,
    GOAWAY_NOTICE_MS = 500, /* from the first GOAWAY to the second, if the peer answers no PING */
    LINGER_MS = 2000,
};

static void session_close(struct md_http2_session *session);

/* --- time -------------------- */

void md_http2_session_watch(struct md_http2_session *session, uint64_t deadline_ns)
{
    if (session->conn && deadline_ns &&
        (!session->timer.position || session->timer.deadline_ns > deadline_ns)) {
        md_loop_timer_set(session->loop, &session->timer, deadline_ns);
    }
}

void md_call_set_deadline(struct md_call *call, uint64_t timeout_ns)
{
    call->deadline_ns = timeout_ns ? md_loop_now_ns(call->x.loop) + timeout_ns : 0;
    md_http2_session_watch(call->session, call->deadline_ns);
}

/* --- calls -------------------- */

static struct md_http2_stream *open_call(void *arg)
{
    struct md_http2_session *session = arg;
    struct md_pool *pool = md_loop_pool(session->loop);
    struct md_arena arena;

    if (!md_pool_count(pool, CALL_BYTES)) {
        return NULL;
    }
    md_arena_init(&arena, ARENA_CHUNK_BYTES);
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
    call->x.begin_ns = md_loop_now_ns(session->loop);
    call->stream.arena = &call->x.arena;
    call->session = session;
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

static void call_free(struct md_call *call)
{
    struct md_http2_session *session = call->session;
    struct md_arena arena;

    log_call(call);
    md_http2_forget(&session->h2, &call->stream);
    md_call_release_body(call);
    md_bytes_deinit(&call->backlog);
    md_bytes_deinit(&call->trailers);
    md_unpack_deinit(&call->unpack);
    md_pack_deinit(&call->pack);
    struct md_http2_head *head = call->head;
    arena = call->x.arena; /* the call lies in it: its cleanups still find it */
    md_arena_reset(&arena);
    md_arena_cache_take_back(md_loop_arenas(session->loop), &arena);
    md_http2_head_unref(head);
    md_pool_uncount(md_loop_pool(session->loop), CALL_BYTES);
    if (session->h2.stream_count == 0) {
        session->idle_ns = md_loop_now_ns(session->loop);
        md_http2_session_watch(session, session->idle_ns + (session->config->idle_timeout_ns
                                                                ? session->config->idle_timeout_ns
                                                                : UINT64_MAX / 2));
    }
}

void md_call_settle(struct md_call *call)
{
    const struct md_http2_stream *stream = &call->stream;

    if (call->pinned || call->handler_has_it || call->has_work || stream->committed_bytes ||
        !(stream->send_ended || stream->was_reset)) {
        return;
    }
    call_free(call);
}

static void call_sent(void *arg, struct md_http2_stream *stream)
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

static void work_later(struct md_http2_session *session)
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
    work_later(session);
}

static void step_call(struct md_call *call)
{
    if (call->stream.was_reset && !call->stream.send_ended) {
        md_call_settle(call);
    } else if (call->state == MD_CALL_PACKING) {
        md_call_pack_step(call);
    } else {
        md_call_receive_step(call);
    }
}

/* --- output -------------------- */

static void lost(struct md_http2_session *session)
{
    session->lost = true;
}

/* Writes what is queued, a turn's worth; true: there may be more. */
static bool write_some(struct md_http2_session *session)
{
    struct iovec parts[PARTS_A_SEND];
    struct md_error err;
    size_t sent = 0, offered = 0;
    int count = md_http2_gather(&session->h2, parts, PARTS_A_SEND, OUT_A_TURN);

    if (!count) {
        session->stall_ns = 0;
        return false;
    }
    for (int i = 0; i < count; i++) {
        offered += parts[i].iov_len;
    }
    enum md_io outcome = md_conn_send(session->conn, parts, count, &sent, &err);
    if (outcome != MD_IO_OK && outcome != MD_IO_AGAIN) {
        lost(session);
        return false;
    }
    md_counter_add(&session->counters->sent_bytes, sent);
    session->turn_bytes += sent;
    md_http2_wrote(&session->h2, sent);
    if (sent < offered) {
        if (sent || !session->stall_ns) {
            session->stall_ns = md_loop_now_ns(session->loop);
            md_http2_session_watch(session,
                                   session->config->body_timeout_ns
                                       ? session->stall_ns + session->config->body_timeout_ns
                                       : 0);
        }
        session->unsent_bytes = md_conn_unsent(session->conn);
        md_conn_want(session->conn, MD_LOOP_READ | MD_LOOP_WRITE);
        return false;
    }
    return true;
}

static void flush(struct md_http2_session *session)
{
    while (!session->lost && write_some(session)) {
        if (session->turn_bytes > OUT_A_TURN) { /* others first */
            work_later(session);
            break;
        }
    }
    if (!session->lost && !session->stall_ns) {
        md_conn_want(session->conn, MD_LOOP_READ);
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
static bool make_room(struct md_http2_session *session, size_t wanted)
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

enum intake {
    INTAKE_NONE,
    INTAKE_SOME, /* less than there was room for: the socket is empty */
    INTAKE_FULL,
};

static enum intake receive_to(struct md_http2_session *session, char *at, size_t room,
                              size_t *count)
{
    struct md_error err;

    switch (md_conn_recv(session->conn, at, room, count, &err)) {
    case MD_IO_OK:
        md_counter_add(&session->counters->received_bytes, *count);
        session->turn_bytes += *count;
        session->alive_ns = md_loop_now_ns(session->loop);
        return *count == room ? INTAKE_FULL : INTAKE_SOME;
    case MD_IO_AGAIN:
        break;
    default:
        lost(session);
    }
    *count = 0;
    return INTAKE_NONE;
}

/* The call whose body comes next and has its memory already. */
static struct md_call *receives_in_place(struct md_http2_session *session, char **at, size_t *room)
{
    size_t left;
    struct md_http2_stream *stream = md_http2_in_data(&session->h2, &left);

    if (!stream || (session->in && session->in_at < session->in_end)) {
        return NULL;
    }
    struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
    *room = md_call_room(call, md_size_min(left, MD_SESSION_TURN_BYTES), at);
    return *room ? call : NULL;
}

static enum intake receive(struct md_http2_session *session)
{
    struct md_str data = MD_STR("");
    size_t room, count;
    char *at;
    struct md_call *call = receives_in_place(session, &at, &room);

    if (call) {
        enum intake intake = receive_to(session, at, room, &count);
        md_call_took(call, count, count && md_http2_took_data(&session->h2, count));
        return intake;
    }
    if (session->in) {
        data = md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
    }
    if (!make_room(session, md_size_max(md_http2_wanted(&session->h2, data), 1))) {
        lost(session); /* not even a read buffer */
        return INTAKE_NONE;
    }
    enum intake intake = receive_to(session, session->in->data + session->in_end,
                                    session->in->capacity - session->in_end, &count);
    session->in_end += count;
    return intake;
}

static void drop_buffer_when_empty(struct md_http2_session *session)
{
    if (session->in && session->in_at == session->in_end) {
        md_block_unref(session->in);
        session->in = NULL;
    }
}

/* --- going away -------------------- */

static void cancel_all(struct md_http2_session *session)
{
    struct md_http2 *h2 = &session->h2;

    for (struct md_http2_stream *stream = h2->streams, *next; stream; stream = next) {
        next = stream->next;
        md_http2_reset(h2, stream, MD_HTTP2_NO_ERROR);
        md_call_cancel(MD_CONTAINER_OF(stream, struct md_call, stream));
    }
}

/* The first of two steps (RFC 9113 6.8): requests that are on their way are still served. */
static void notify(struct md_http2_session *session)
{
    if (!session->notified) {
        session->notified = true;
        session->going_ns = md_loop_now_ns(session->loop);
        md_http2_put_goaway_notice(&session->h2);
        md_http2_put_ping(&session->h2);
        md_http2_session_watch(session,
                               session->going_ns + GOAWAY_NOTICE_MS * (uint64_t)MD_NS_PER_MS);
        md_http2_session_flush_soon(session);
    }
}

static void refuse_new(struct md_http2_session *session, enum md_http2_error error,
                       const char *text)
{
    if (!session->last_goaway) {
        session->notified = session->last_goaway = true;
        md_http2_put_goaway(&session->h2, error, text);
        md_http2_session_flush_soon(session);
    }
}

/* The peer's PINGs keep connections open for nothing (grpc/doc/keepalive.md). */
static void judge_pings(struct md_http2_session *session)
{
    const struct md_http2_options *options = session->config->http2;
    const uint64_t now_ns = md_loop_now_ns(session->loop);

    if (session->h2.has_said) {
        session->h2.has_said = false;
        session->ping_strikes = 0;
        session->ping_ns = 0;
    }
    if (session->seen_pings == session->h2.ping_count) {
        return;
    }
    session->seen_pings = session->h2.ping_count;
    if (session->ping_ns && now_ns - session->ping_ns < options->min_ping_interval_ns &&
        session->serves_grpc && ++session->ping_strikes > options->max_ping_strikes &&
        options->max_ping_strikes) {
        refuse_new(session, MD_HTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
        cancel_all(session);
    }
    session->ping_ns = now_ns;
}

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
        cancel_all(session);
        session->ending = true;
        return false;
    default:
        return true;
    }
}

/* What has been received already. False: that was enough for now, or for ever. */
static bool take_events(struct md_http2_session *session)
{
    struct md_http2_event event;

    for (unsigned events = 0; session->in && session->in_at < session->in_end; events++) {
        struct md_str data =
            md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
        if (events == EVENTS_A_TURN) {
            work_later(session);
            return false;
        }
        md_http2_next(&session->h2, &data, &event);
        session->in_at = session->in_end - data.len;
        if (event.kind == MD_HTTP2_AGAIN) {
            return true;
        }
        if (!handle(session, &event)) {
            return false;
        }
    }
    drop_buffer_when_empty(session);
    return true;
}

static void take_input(struct md_http2_session *session)
{
    bool more = true;

    while (take_events(session) && more && !session->lost) {
        if (session->turn_bytes >= MD_SESSION_TURN_BYTES) {
            work_later(session);
            return;
        }
        more = receive(session) == INTAKE_FULL;
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
        md_http2_session_watch(session, session->going_ns + LINGER_MS * (uint64_t)MD_NS_PER_MS);
    }
    md_conn_want(session->conn, MD_LOOP_READ);
    if (!make_room(session, 1)) {
        lost(session);
    }
    while (!session->lost &&
           receive_to(session, session->in->data, session->in->capacity, &count) == INTAKE_FULL) {}
    session->in_at = session->in_end = 0;
    drop_buffer_when_empty(session);
}

/* After a turn: whether the connection goes on. */
static void conclude(struct md_http2_session *session)
{
    struct md_http2 *h2 = &session->h2;

    if (session->notified && !session->last_goaway && h2->ping_acked) {
        refuse_new(session, MD_HTTP2_NO_ERROR, "");
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
        judge_pings(session);
    }
    flush(session);
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
        flush(session);
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
        step_call(call);
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
    (void)events; /* receiving tells whether the peer has gone */
    run(arg);
}

/* --- limits of time -------------------- */

struct clock {
    uint64_t now_ns;
    uint64_t next_ns; /* the earliest limit that is still to come */
};

/* Whether the limit, `after_ns` (0: none) from `from_ns`, has passed. */
static bool is_due(struct clock *clock, uint64_t from_ns, uint64_t after_ns)
{
    if (!after_ns || after_ns > UINT64_MAX - from_ns) {
        return false;
    }
    if (from_ns + after_ns <= clock->now_ns) {
        return true;
    }
    if (from_ns + after_ns < clock->next_ns) {
        clock->next_ns = from_ns + after_ns;
    }
    return false;
}

static void call_is_late(struct md_call *call)
{
    struct md_error err;

    call->deadline_ns = 0;
    if (call->state == MD_CALL_RECEIVING && !call->answered) {
        (void)md_error_set(&err, MD_REASON_DEADLINE, "the request did not arrive in time");
        md_call_refuse(call, MD_REFUSAL_TIMEOUT, &err);
    } else if (call->stream.queued_bytes) { /* its reader keeps the window shut */
        md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_CANCEL);
        md_call_cancel(call);
    }
}

static void look_at_calls(struct md_http2_session *session, struct clock *clock)
{
    for (struct md_http2_stream *stream = session->h2.streams, *next; stream; stream = next) {
        struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
        next = stream->next;
        if (call->x.deadline_ns && !call->answered && is_due(clock, 0, call->x.deadline_ns)) {
            md_grpc_out_of_time(call);
        } else if (is_due(clock, 0, call->deadline_ns)) {
            call_is_late(call);
        }
    }
}

/* Without a sign of life the peer is asked for one. */
static void look_for_life(struct md_http2_session *session, struct clock *clock)
{
    const struct md_http2_options *options = session->config->http2;

    if (!session->h2.stream_count && !options->keepalive_without_calls) {
        session->probe_ns = 0;
        return;
    }
    if (session->probe_ns > session->alive_ns) {
        if (is_due(clock, session->probe_ns, options->keepalive_timeout_ns)) {
            lost(session);
        }
    } else if (is_due(clock, session->alive_ns, options->keepalive_time_ns)) {
        session->probe_ns = clock->now_ns;
        md_http2_put_ping(&session->h2);
        (void)is_due(clock, session->probe_ns, options->keepalive_timeout_ns);
    }
}

static void look_at_age(struct md_http2_session *session, struct clock *clock)
{
    const struct md_http2_options *options = session->config->http2;

    if (is_due(clock, session->age_ns, options->max_age_ns)) {
        notify(session);
        if (options->max_age_grace_ns &&
            is_due(clock, session->age_ns + options->max_age_ns, options->max_age_grace_ns)) {
            lost(session);
        }
    }
    if (session->notified && !session->last_goaway &&
        is_due(clock, session->going_ns, GOAWAY_NOTICE_MS * (uint64_t)MD_NS_PER_MS)) {
        refuse_new(session, MD_HTTP2_NO_ERROR, "");
    }
    if (session->lingering &&
        is_due(clock, session->going_ns, LINGER_MS * (uint64_t)MD_NS_PER_MS)) {
        lost(session);
    }
}

static void look_at_connection(struct md_http2_session *session, struct clock *clock)
{
    const struct md_http_config *config = session->config;
    const bool in_frame = session->in && session->in_at < session->in_end;

    if (!session->h2.stream_count && !session->lingering &&
        is_due(clock, session->idle_ns, config->idle_timeout_ns)) {
        refuse_new(session, MD_HTTP2_NO_ERROR, "idle");
    }
    if (in_frame && is_due(clock, session->alive_ns, config->header_timeout_ns)) {
        lost(session);
    }
    if (session->stall_ns && is_due(clock, session->stall_ns, config->body_timeout_ns)) {
        const size_t before = session->unsent_bytes;
        session->unsent_bytes = md_conn_unsent(session->conn);
        session->stall_ns = clock->now_ns;
        if (session->unsent_bytes >= before) {
            lost(session);
        }
        (void)is_due(clock, session->stall_ns, config->body_timeout_ns);
    }
}

static void timeout(struct md_loop_timer *timer)
{
    struct md_http2_session *session = MD_CONTAINER_OF(timer, struct md_http2_session, timer);
    struct clock clock = {.now_ns = md_loop_now_ns(session->loop), .next_ns = UINT64_MAX};

    if (!session->conn) {
        return;
    }
    session->running = true; /* what is answered meanwhile is written below */
    look_at_calls(session, &clock);
    look_at_connection(session, &clock);
    look_for_life(session, &clock);
    look_at_age(session, &clock);
    session->running = false;
    if (clock.next_ns != UINT64_MAX) {
        md_http2_session_watch(session, clock.next_ns);
    }
    session->turn_bytes = 0;
    flush(session);
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
    cancel_all(session);
    session->running = false;
}

/* Frees a session that is closed, once nobody needs it any more. */
static void session_release(struct md_http2_session *session)
{
    if (session->conn || session->running || session->h2.stream_count || session->flush_pending ||
        session->work_pending) {
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

    notify(session);
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
    const struct md_http2_owner owner = {.open = open_call, .sent = call_sent, .arg = session};
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
        notify(session);
    }
    session->turn_bytes = 0;
    md_http2_session_watch(session, session->age_ns + 1); /* looks at all limits once */
    run(session);
    return;
out:
    md_log(MD_LOG_WARNING, "connection from %s dropped: out of memory", md_conn_peer(conn));
    md_free(session);
    md_block_unref(in);
    md_conn_close(conn);
}
