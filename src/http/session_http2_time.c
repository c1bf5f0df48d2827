/*
 * Limits of time of an HTTP/2 session, and how it ends before its peer wants it to.
 *
 * One timer for the connection: it fires at the earliest limit that was set and looks at all of
 * them then.
 */
#include "http/session_http2_internal.h"

#include "base/clock.h"

enum {
    GOAWAY_NOTICE_MS = 500, /* from the first GOAWAY to the second, if the peer answers no PING */
};

/* --- going away -------------------- */

void md_http2_session_cancel_all(struct md_http2_session *session)
{
    struct md_http2 *h2 = &session->h2;

    for (struct md_http2_stream *stream = h2->streams, *next; stream; stream = next) {
        struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
        const bool was_pinned = md_call_pin(call); /* its handler may end others, too */
        md_http2_reset(h2, stream, MD_HTTP2_NO_ERROR);
        md_call_cancel(call);
        next = stream->next;
        md_call_unpin(call, was_pinned);
    }
}

/* The first of two steps (RFC 9113 6.8): requests that are on their way are still served. */
void md_http2_session_notify(struct md_http2_session *session)
{
    if (!session->notified && !session->last_goaway && !session->ending) {
        session->notified = true;
        session->going_ns = md_loop_now_ns(session->loop);
        md_http2_put_goaway_notice(&session->h2);
        md_http2_put_ping(&session->h2);
        (void)md_http2_session_watch_for(session, GOAWAY_NOTICE_MS * (uint64_t)MD_NS_PER_MS);
        md_http2_session_flush_soon(session);
    }
}

void md_http2_session_refuse_new(struct md_http2_session *session, enum md_http2_error error,
                                 const char *text)
{
    if (!session->last_goaway && !session->lingering) {
        session->notified = session->last_goaway = true;
        md_http2_put_goaway(&session->h2, error, text);
        md_http2_session_flush_soon(session);
    }
}

/* The peer's PINGs keep connections open for nothing (grpc/doc/keepalive.md). */
void md_http2_session_judge_pings(struct md_http2_session *session)
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
        md_http2_session_refuse_new(session, MD_HTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
        md_http2_session_cancel_all(session);
    }
    session->ping_ns = now_ns;
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

static void request_is_late(struct md_call *call)
{
    struct md_error err;

    call->deadline_ns = 0;
    if (call->state == MD_CALL_RECEIVING && !call->answered) {
        (void)md_error_set(&err, MD_REASON_DEADLINE, "the request did not arrive in time");
        md_call_refuse(call, MD_REFUSAL_TIMEOUT, &err);
    }
}

/* Whether its reader keeps the window shut. */
static void look_at_reader(struct md_call *call, struct clock *clock)
{
    call->send_ns = 0;
    if (call->stream.queued_bytes && md_call_left_bytes(call) == call->send_seen) {
        md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_CANCEL);
        md_call_cancel(call);
    } else if (call->stream.queued_bytes) {
        md_call_watch_reader(call);
        (void)is_due(clock, 0, call->send_ns);
    }
}

/* The client wants no answer any more. */
static void out_of_time(struct md_call *call)
{
    if (call->x.is_grpc) {
        md_grpc_out_of_time(call);
    } else if (call->state == MD_CALL_RECEIVING || call->state == MD_CALL_UNPACKING) {
        md_call_refuse_for(call, MD_REFUSAL_DEADLINE, MD_REASON_DEADLINE, MD_SESSION_TOO_LATE);
    }
}

static void look_at_call(struct md_call *call, struct clock *clock)
{
    if (call->x.deadline_ns && !call->answered && is_due(clock, 0, call->x.deadline_ns)) {
        out_of_time(call);
    }
    if (is_due(clock, 0, call->deadline_ns)) {
        request_is_late(call);
    }
    if (is_due(clock, 0, call->send_ns)) {
        look_at_reader(call, clock);
    }
}

static void look_at_calls(struct md_http2_session *session, struct clock *clock)
{
    const bool retries = session->starved_count && is_due(clock, session->retry_ns, 1);

    for (struct md_http2_stream *stream = session->h2.streams, *next; stream; stream = next) {
        struct md_call *call = MD_CONTAINER_OF(stream, struct md_call, stream);
        const bool was_pinned = md_call_pin(call); /* what it does may end others, too */
        look_at_call(call, clock);
        if (retries && call->is_starved) {
            md_call_receive_step(call);
        }
        next = stream->next;
        md_call_unpin(call, was_pinned);
    }
}

/* Without a sign of life the peer is asked for one. */
static void look_for_life(struct md_http2_session *session, struct clock *clock)
{
    const struct md_http2_options *options = session->config->http2;

    if (session->lingering || (!session->h2.stream_count && !options->keepalive_without_calls)) {
        session->probe_ns = 0;
        return;
    }
    if (session->probe_ns > session->alive_ns) {
        if (is_due(clock, session->probe_ns, options->keepalive_timeout_ns)) {
            md_http2_session_lost(session);
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
        md_http2_session_notify(session);
        if (options->max_age_grace_ns &&
            is_due(clock, session->age_ns + options->max_age_ns, options->max_age_grace_ns)) {
            md_http2_session_lost(session);
        }
    }
    if (session->notified && !session->last_goaway &&
        is_due(clock, session->going_ns, GOAWAY_NOTICE_MS * (uint64_t)MD_NS_PER_MS)) {
        md_http2_session_refuse_new(session, MD_HTTP2_NO_ERROR, "");
    }
    if (session->lingering &&
        is_due(clock, session->going_ns, MD_HTTP2_LINGER_MS * (uint64_t)MD_NS_PER_MS)) {
        md_http2_session_lost(session);
    }
}

static void look_at_connection(struct md_http2_session *session, struct clock *clock)
{
    const struct md_http_config *config = session->config;

    if (!session->h2.stream_count && !session->lingering &&
        is_due(clock, session->idle_ns, config->idle_timeout_ns)) {
        md_http2_session_refuse_new(session, MD_HTTP2_NO_ERROR, "idle");
    }
    if (session->low_water &&
        is_due(clock, session->low_ns, MD_HTTP2_BULK_WAIT_MS * (uint64_t)MD_NS_PER_MS)) {
        md_http2_session_end_wait_for_bulk(session);
    }
    if (session->frame_ns && is_due(clock, session->frame_ns, config->header_timeout_ns)) {
        md_http2_session_lost(session);
    }
    if (session->stall_ns && is_due(clock, session->stall_ns, config->body_timeout_ns)) {
        const size_t before = session->unsent_bytes;
        session->unsent_bytes = md_conn_unsent(session->conn);
        session->stall_ns = clock->now_ns;
        if (session->unsent_bytes >= before) {
            md_http2_session_lost(session);
        }
        (void)is_due(clock, session->stall_ns, config->body_timeout_ns);
    }
}

uint64_t md_http2_session_look_at_limits(struct md_http2_session *session)
{
    struct clock clock = {.now_ns = md_loop_now_ns(session->loop), .next_ns = UINT64_MAX};

    look_at_calls(session, &clock);
    look_at_connection(session, &clock);
    look_for_life(session, &clock);
    look_at_age(session, &clock);
    return clock.next_ns;
}
