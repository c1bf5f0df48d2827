/*
 * Session: life of a connection, its states and its time limits.
 */
#include "http/session_http2.h"
#include "http/session_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"

/* A connection that comes while the server drains or just before, or that was promised to stay:
 * time for the request that it came for, or that is on its way. */
enum { LATE_IDLE_NS = 500 * MD_NS_PER_MS };

/* --- time -------------------- */

void md_session_set_deadline(struct md_session *session, uint64_t timeout_ns)
{
    struct md_loop *loop = session->x.loop;

    session->deadline_ns = timeout_ns ? md_loop_now_ns(loop) + timeout_ns : 0;
    if (session->state == MD_SESSION_BODY && session->x.deadline_ns &&
        (!session->deadline_ns || session->x.deadline_ns < session->deadline_ns)) {
        session->deadline_ns = session->x.deadline_ns;
    }
    /* The timer fires at the earliest deadline that was set and looks again: no heap work for each
     * request. */
    if (session->deadline_ns &&
        (!session->timer.position || session->timer.deadline_ns > session->deadline_ns)) {
        md_loop_timer_set(loop, &session->timer, session->deadline_ns);
    }
}

void md_session_set_idle_deadline(struct md_session *session)
{
    md_session_set_deadline(session, session->list->draining ? LATE_IDLE_NS
                                                             : session->config->idle_timeout_ns);
}

static void session_close(struct md_session *session);
static void refuse_head(struct md_session *session, unsigned status, unsigned cause,
                        const char *sentence);

/* The deadline of a request that is not complete has passed. */
static void refuse_late(struct md_session *session, bool short_of_memory)
{
    if (session->answered) { /* the rest of the body was to be dropped: not at any price */
        session->close_after = session->early = true;
        md_session_begin_reply(session);
        return;
    }
    const uint64_t wanted_ns = session->state == MD_SESSION_BODY ? session->x.deadline_ns : 0;
    if (wanted_ns && wanted_ns <= md_loop_now_ns(session->x.loop)) {
        md_session_refuse(session, 504, MD_REFUSAL_DEADLINE, MD_SESSION_TOO_LATE);
        return;
    }
    unsigned status = short_of_memory ? 503 : 408;
    unsigned cause = short_of_memory ? MD_REFUSAL_MEMORY : MD_REFUSAL_TIMEOUT;
    const char *sentence = short_of_memory ? "too many bytes are in flight: try again"
                                           : "the request did not arrive in time";
    if (session->state == MD_SESSION_HEAD) {
        refuse_head(session, status, cause, sentence);
    } else {
        md_session_refuse(session, status, cause, sentence);
    }
}

static void timeout(struct md_loop_timer *timer)
{
    struct md_session *session = MD_CONTAINER_OF(timer, struct md_session, timer);
    bool retry = session->retrying;

    session->retrying = false;
    if (session->deadline_ns && session->deadline_ns > md_loop_now_ns(session->x.loop)) {
        md_loop_timer_set(session->x.loop, timer, session->deadline_ns);
    }
    if (!session->deadline_ns || session->deadline_ns > md_loop_now_ns(session->x.loop)) {
        if (retry) {
            md_session_run(session);
        }
        return;
    }
    bool in_request =
        (session->state == MD_SESSION_HEAD && session->in) || session->state == MD_SESSION_BODY;
    if (in_request) {
        refuse_late(session, retry);
        md_session_run(session);
    } else if (session->state == MD_SESSION_REPLY && md_session_peer_reads(session)) {
        md_session_set_deadline(session, session->config->body_timeout_ns);
    } else {
        session_close(session);
    }
}

/* --- life -------------------- */

void md_session_link(struct md_session_list *list, struct md_session_link *link)
{
    link->previous = NULL;
    link->next = list->first;
    if (list->first) {
        list->first->previous = link;
    }
    list->first = link;
    list->count++;
}

void md_session_unlink(struct md_session_list *list, struct md_session_link *link)
{
    if (link->previous) {
        link->previous->next = link->next;
    } else {
        list->first = link->next;
    }
    if (link->next) {
        link->next->previous = link->previous;
    }
    list->count--;
}

static void session_free(struct md_session *session)
{
    md_session_unlink(session->list, &session->link);
    md_loop_timer_cancel(session->x.loop, &session->timer);
    md_loop_timer_unreserve(session->x.loop);
    md_arena_deinit(&session->x.arena);
    md_session_release_body(session);
    md_block_unref(session->in);
    md_bytes_deinit(&session->head);
    md_bytes_deinit(&session->stream);
    md_free(session);
}

void md_session_release_when_unused(struct md_session *session)
{
    if (session->state == MD_SESSION_CLOSED && !session->handler_has_it && !session->x.holds &&
        !session->running && !session->pinned && !session->task_pending) {
        session_free(session);
    }
}

/* An exchange whose answer does not leave whole is logged here, all others by end_exchange. */
static void log_cut_off(const struct md_session *session)
{
    const struct md_http_config *config = session->config;
    bool replying = session->state == MD_SESSION_REPLY;
    bool in_exchange = session->state > MD_SESSION_HEAD && session->state < MD_SESSION_LINGER;

    if (config->access_log && in_exchange) {
        config->access_log(config->access_log_arg, &session->x,
                           replying ? session->response.status : 499,
                           replying ? session->reply_bytes : 0);
    }
}

static void session_close(struct md_session *session)
{
    log_cut_off(session);
    if (session->conn) {
        md_conn_close(session->conn);
        session->conn = NULL;
        session->x.peer = "";
    }
    session->deadline_ns = 0;
    session->state = MD_SESSION_CLOSED;
    if (session->handler_has_it && session->answered &&
        (!session->streaming || session->stream_ended)) {
        session->handler_has_it = false;
    } else if (session->handler_has_it && !session->x.cancelled) {
        const bool was_running = session->running;
        session->x.cancelled = true;
        session->running = true; /* the handler may answer from inside on_cancel: the session is
                                    freed below, not there */
        if (session->x.handler->on_cancel) {
            session->x.handler->on_cancel(&session->x);
        } else if (session->streaming && session->drained) {
            session->drained(&session->x);
        }
        session->running = was_running;
    }
    md_session_release_when_unused(session);
}

void md_session_lost(struct md_session *session)
{
    session->peer_gone = true;
}

static void run_task(struct md_loop_task *task)
{
    struct md_session *session = MD_CONTAINER_OF(task, struct md_session, task);

    session->task_pending = false;
    if (session->state == MD_SESSION_CLOSED) {
        md_session_release_when_unused(session);
    } else {
        md_session_run(session);
    }
}

void md_session_yield(struct md_session *session)
{
    if (!session->task_pending) {
        session->task_pending = true;
        session->task.run = run_task;
        md_loop_defer(session->x.loop, &session->task);
    }
}

/* Nothing is to be read or written: work for a peer that has gone can be spared. */
static bool awaits_handler(const struct md_session *session)
{
    return session->state == MD_SESSION_WORK || session->state == MD_SESSION_INFLATE ||
           (session->state == MD_SESSION_REPLY && session->streaming && !session->stream_ended &&
            session->head_at == session->head.len && session->stream_at == session->stream.len);
}

static void ready(void *arg, uint32_t events)
{
    struct md_session *session = arg;
    /* A broken connection is writable too, a half-closed one is not: that may still have sent all.
     */
    bool is_broken = (events & MD_LOOP_HANGUP) && (events & MD_LOOP_WRITE);

    if (((events & MD_LOOP_HANGUP) && awaits_handler(session)) ||
        (is_broken && session->retrying)) {
        session_close(session);
        return;
    }
    md_session_run(session);
}

static const struct md_conn_handler conn_handler = {.ready = ready};

static void drain(struct md_session_link *link);
static void abort_session(struct md_session_link *link);

void md_session_start(struct md_conn *conn, const struct md_http_config *config,
                      struct md_session_list *list)
{
    struct md_session *session = md_calloc(1, sizeof *session);
    struct md_loop *loop = md_conn_loop(conn);
    struct md_error err;

    if (!session || !md_loop_timer_reserve(loop, &err)) {
        md_log(MD_LOG_WARNING, "connection from %s dropped: out of memory", md_conn_peer(conn));
        md_free(session);
        md_conn_close(conn);
        return;
    }
    session->x.calls = &md_session_calls;
    session->x.loop = loop;
    session->x.peer = md_conn_peer(conn);
    session->x.over_unix_socket = md_conn_is_unix(conn);
    md_arena_init(&session->x.arena, MD_LOOP_ARENA_BYTES);
    session->conn = conn;
    session->config = config;
    session->counters = &config->counters[md_loop_index(loop)];
    session->list = list;
    session->timer.fire = timeout;
    session->link.drain = drain;
    session->link.abort = abort_session;
    md_session_link(list, &session->link);
    md_conn_set_handler(conn, &conn_handler, session);
    md_session_set_idle_deadline(session);
}

static bool is_idle(const struct md_session *session)
{
    return session->state == MD_SESSION_HEAD && !session->in;
}

/* What has come already is a request in flight. */
static void drain_idle(struct md_session *session)
{
    session->pinned = true;
    md_session_run(session);
    session->pinned = false;
    if (!is_idle(session)) {
        md_session_release_when_unused(session);
    } else if (session->x.begin_ns == 0) { /* it has just connected */
        md_session_set_idle_deadline(session);
    } else {
        session_close(session);
    }
}

static void drain(struct md_session_link *link)
{
    struct md_session *session = MD_CONTAINER_OF(link, struct md_session, link);

    if (is_idle(session)) {
        drain_idle(session);
    }
}

static void abort_session(struct md_session_link *link)
{
    struct md_session *session = MD_CONTAINER_OF(link, struct md_session, link);

    if (session->state != MD_SESSION_CLOSED) {
        session_close(session);
    }
}

void md_session_list_drain(struct md_session_list *list)
{
    list->draining = true;
    for (struct md_session_link *link = list->first, *next; link; link = next) {
        next = link->next;
        link->drain(link);
    }
}

void md_session_list_abort(struct md_session_list *list)
{
    for (struct md_session_link *link = list->first, *next; link; link = next) {
        next = link->next;
        link->abort(link);
    }
}

/* --- head -------------------- */

static void begin_exchange(struct md_session *session)
{
    struct md_exchange *x = &session->x;

    md_arena_cache_lend(md_loop_arenas(x->loop), &x->arena);
    x->handler = NULL;
    x->allow = NULL;
    x->dialect = NULL;
    x->log = (struct md_log_context){0};
    x->route_data = NULL;
    x->body_block = NULL;
    x->body = MD_STR("");
    x->body_max = session->config->max_body_bytes;
    x->body_lead = 0;
    x->cancelled = false;
    x->deadline_ns = 0;
    session->answered = session->handler_has_it = session->discard = session->close_after = false;
    session->streaming = session->stream_ended = session->early = false;
    session->awaited = false;
    session->body_bytes = 0;
    session->scan = (struct md_http1_scan){0};
    session->chunked = (struct md_http1_chunked){0};
}

/* Refuses a request of which nothing is known. */
static void refuse_head(struct md_session *session, unsigned status, unsigned cause,
                        const char *sentence)
{
    begin_exchange(session);
    session->request = (struct md_http1_request){.head = {.method = MD_HTTP_OTHER}};
    session->x.head = session->request.head;
    md_session_refuse(session, status, cause, sentence);
}

static unsigned refusal_of(unsigned status)
{
    return status == 414 || status == 431 ? MD_REFUSAL_HEADER_SIZE
           : status == 503                ? MD_REFUSAL_MEMORY
                                          : MD_REFUSAL_MALFORMED;
}

static const struct md_http_header preflight_headers[] = {
    {.name = MD_STR("Access-Control-Allow-Methods"), .value = MD_STR("GET, POST, OPTIONS")},
    {.name = MD_STR("Access-Control-Allow-Headers"), .value = MD_STR("*")},
    {.name = MD_STR("Access-Control-Max-Age"), .value = MD_STR("600")},
};
const struct md_http_response md_session_preflight = {
    .status = 204, .headers = preflight_headers, .header_count = MD_COUNT_OF(preflight_headers)};

/* Another protocol, or HTTP/2 with a wrong preface: an answer would say nothing to its peer. */
static bool is_foreign(struct md_str text)
{
    struct md_str line, method;

    (void)md_str_split(&text, '\n', &line);
    struct md_str rest = line;
    return md_str_split(&rest, ' ', &method) && md_http_method_of(method) == MD_HTTP_OTHER &&
           !memmem(line.ptr, line.len, "HTTP/", 5);
}

/* The head is complete: parse, route, ask the handler. */
static void take_head(struct md_session *session, struct md_str data)
{
    const struct md_http_config *config = session->config;
    const struct md_http1_limits limits = {config->max_header_bytes, config->max_header_count};
    struct md_exchange *x = &session->x;
    size_t start = session->scan.head_start, bytes = session->scan.head_bytes;
    unsigned status = 400;
    struct md_error err;

    md_arena_cache_lend(md_loop_arenas(x->loop), &x->arena);
    /* A copy, so that the views outlive the read buffer. */
    struct md_str text = md_arena_copy(&x->arena, md_str_make(data.ptr + start, bytes - start));
    session->in_at += bytes;
    md_counter_add(&session->counters->requests, 1);
    if (!text.ptr) {
        refuse_head(session, 503, MD_REFUSAL_MEMORY, "out of memory");
        return;
    }
    begin_exchange(session);
    bool is_valid = md_http1_parse_head(text, &limits, &x->arena, &session->request, &status, &err);
    x->head = session->request.head;
    if (!is_valid && is_foreign(text)) {
        md_counter_add(&session->counters->refused[MD_REFUSAL_MALFORMED], 1);
        md_session_lost(session);
        return;
    }
    if (!is_valid) {
        md_session_refuse(session, status, refusal_of(status), err.text);
        return;
    }
    session->close_after = !session->request.keep_alive;
    if (session->request.is_preflight && x->head.method == MD_HTTP_OPTIONS &&
        config->cors_origin_count) {
        md_exchange_respond(&session->x, &md_session_preflight);
    } else {
        config->route(config->route_arg, x);
        if (md_arena_failed(&x->arena)) {
            md_session_refuse(session, 503, MD_REFUSAL_MEMORY, "out of memory");
            return;
        }
        if (x->handler->on_head) {
            x->handler->on_head(x);
        }
    }
    md_session_begin_body(session);
}

/* Whether the connection begins as those of HTTP/2 do. DONE: it does. ERROR: it does not. */
static enum md_progress look_for_preface(struct md_session *session)
{
    const struct md_str preface = MD_STR(MD_HTTP2_PREFACE);
    const char *data = session->in->data + session->in_at;
    size_t len = md_size_min(session->in_end - session->in_at, preface.len);

    if (memcmp(data, preface.ptr, len) != 0) {
        session->has_begun = true;
        return MD_PROGRESS_ERROR;
    }
    return len == preface.len ? MD_PROGRESS_DONE : MD_PROGRESS_AGAIN;
}

/* The connection goes on without this session. */
static void hand_over(struct md_session *session)
{
    session->in_at += sizeof MD_HTTP2_PREFACE - 1;
    md_session_http2_start(session->conn, session->config, session->list, session->in,
                           session->in_at, session->in_end);
    session->conn = NULL;
    session->in = NULL;
    session->state = MD_SESSION_CLOSED;
}

static bool step_head(struct md_session *session)
{
    const struct md_http1_limits limits = {session->config->max_header_bytes,
                                           session->config->max_header_count};
    unsigned status = 400;
    struct md_error err;

    if (!session->in || session->in_at == session->in_end) {
        if (!md_session_fill(session)) {
            return false;
        }
    }
    if (session->scan.at == 0) {
        session->x.begin_ns = md_loop_since_ns(session->x.loop);
        md_session_set_deadline(session, session->config->header_timeout_ns);
    }
    if (!session->has_begun) {
        switch (look_for_preface(session)) {
        case MD_PROGRESS_DONE:
            hand_over(session);
            return false;
        case MD_PROGRESS_AGAIN:
            return md_session_fill(session);
        default:
            break;
        }
    }
    struct md_str data =
        md_str_make(session->in->data + session->in_at, session->in_end - session->in_at);
    switch (md_http1_scan_head(&session->scan, data, &limits, &status, &err)) {
    case MD_PROGRESS_DONE:
        take_head(session, data);
        return true;
    case MD_PROGRESS_AGAIN:
        return md_session_fill(session);
    default:
        refuse_head(session, status, refusal_of(status), err.text);
        return true;
    }
}

/* --- states -------------------- */

static bool step_work(struct md_session *session)
{
    if (session->answered) {
        md_session_begin_reply(session);
        return true;
    }
    session->deadline_ns = 0;
    md_conn_want(session->conn, 0);
    return false;
}

static bool step(struct md_session *session)
{
    switch (session->state) {
    case MD_SESSION_HEAD:
        return step_head(session);
    case MD_SESSION_BODY:
        return md_session_step_body(session);
    case MD_SESSION_INFLATE:
        return md_session_step_inflate(session);
    case MD_SESSION_WORK:
        return step_work(session);
    case MD_SESSION_DEFLATE:
        return md_session_step_deflate(session);
    case MD_SESSION_REPLY:
        return md_session_step_reply(session);
    case MD_SESSION_LINGER:
        return md_session_step_linger(session);
    default:
        return false;
    }
}

void md_session_run(struct md_session *session)
{
    enum { STEPS_A_TURN = 64 }; /* of one connection, before others have their turn */
    int steps = 0;

    if (session->running) {
        return;
    }
    session->running = true;
    session->turn_bytes = 0;
    while (!session->peer_gone && step(session)) {
        if (++steps == STEPS_A_TURN || session->turn_bytes >= MD_SESSION_TURN_BYTES) {
            md_session_yield(session);
            break;
        }
    }
    session->running = false;
    if (session->turn_bytes > MD_SESSION_BULK_BYTES) {
        md_loop_note_bulk(session->x.loop);
    }
    if (session->peer_gone && session->state != MD_SESSION_CLOSED) {
        session_close(session);
    } else {
        md_session_release_when_unused(session);
    }
}
