/*
 * Sessions without a network: the functions of net/conn.h over memory, a real loop on a virtual
 * clock, and handlers that do what handlers may do.
 *
 * Included by exactly one file of a program: it defines the functions of net/conn.h. One thread. A
 * peer is the other end of one connection: what it says lies in `in`, what it was told in `out`;
 * how much a receive or a send takes at a time is the test's choice.
 */
#ifndef TESTS_COMPONENT_HTTP_FAKE_CONN_H
#define TESTS_COMPONENT_HTTP_FAKE_CONN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fault.h"
#include "codec/deflate.h"
#include "http/session_internal.h"

enum { RIG_LOG_MAX = 64, RIG_QUIET_TURNS = 4, BIG_BYTES = 300000 };

struct md_conn {
    struct md_loop *loop;
    const struct md_conn_handler *handler;
    void *handler_arg;
    uint32_t want;
    struct md_bytes in, out; /* own */
    size_t in_at;
    size_t recv_step; /* most a receive gives; 0: all there is */
    size_t send_step; /* most a send takes */
    size_t send_room; /* until it says AGAIN */
    size_t unsent;    /* of what it took */
    size_t low_water; /* 0: was never set */
    bool ended;       /* the peer has closed its direction, after `in` */
    bool broken;      /* sending fails */
    bool shut_down, closed;
    unsigned activity; /* calls that did something */
    unsigned recv_calls, send_calls;
};

/* --- net/conn.h -------------------- */

enum md_io md_conn_recv(struct md_conn *conn, void *data, size_t len, size_t *count,
                        struct md_error *err)
{
    size_t left = conn->in.len - conn->in_at;

    assert_false(conn->closed);
    assert_true(len > 0);
    conn->recv_calls++;
    *count = md_size_min(left, len);
    if (conn->recv_step) {
        *count = md_size_min(*count, conn->recv_step);
    }
    if (*count) {
        memcpy(data, conn->in.data + conn->in_at, *count);
        conn->in_at += *count;
        conn->activity++;
        return MD_IO_OK;
    }
    (void)err;
    return conn->ended ? MD_IO_EOF : MD_IO_AGAIN;
}

enum md_io md_conn_recv_parts(struct md_conn *conn, const struct iovec *parts, int part_count,
                              size_t *count, struct md_error *err)
{
    enum md_io outcome = MD_IO_OK;
    size_t n = 0;

    *count = 0;
    for (int i = 0; i < part_count && outcome == MD_IO_OK; i++) {
        outcome = md_conn_recv(conn, parts[i].iov_base, parts[i].iov_len, &n, err);
        *count += n;
        if (n < parts[i].iov_len) {
            break;
        }
    }
    return *count ? MD_IO_OK : outcome;
}

enum md_io md_conn_send(struct md_conn *conn, const struct iovec *parts, int part_count,
                        size_t *count, struct md_error *err)
{
    size_t room = md_size_min(conn->send_room, conn->send_step);

    assert_false(conn->closed);
    assert_false(conn->shut_down);
    conn->send_calls++;
    *count = 0;
    if (conn->broken) {
        (void)md_error_set(err, MD_REASON_IO, "broken");
        return MD_IO_ERROR;
    }
    for (int i = 0; i < part_count; i++) {
        size_t n = md_size_min(parts[i].iov_len, room - *count);
        /* tests that make allocations fail reserve before */
        md_bytes_append(&conn->out, parts[i].iov_base, n);
        *count += n;
    }
    conn->send_room -= *count;
    conn->activity += *count > 0;
    return *count ? MD_IO_OK : MD_IO_AGAIN;
}

void md_conn_set_handler(struct md_conn *conn, const struct md_conn_handler *handler, void *arg)
{
    conn->handler = handler;
    conn->handler_arg = arg;
}

void md_conn_want(struct md_conn *conn, uint32_t events)
{
    assert_false(conn->closed);
    conn->want = events;
}

void md_conn_shutdown(struct md_conn *conn)
{
    conn->shut_down = true;
}

void md_conn_set_low_water(struct md_conn *conn, size_t bytes)
{
    conn->low_water = bytes;
}

size_t md_conn_unsent(const struct md_conn *conn)
{
    return conn->unsent;
}

void md_conn_close(struct md_conn *conn)
{
    assert_false(conn->closed);
    conn->closed = true;
    conn->activity++;
}

struct md_loop *md_conn_loop(const struct md_conn *conn)
{
    return conn->loop;
}

bool md_conn_is_unix(const struct md_conn *conn)
{
    (void)conn;
    return true;
}

const char *md_conn_peer(const struct md_conn *conn)
{
    (void)conn;
    return "peer:1";
}

/* --- rig: the server's side -------------------- */

struct rig {
    struct md_budget budget;
    struct md_loop *loop;
    struct md_session_list list;
    struct md_http_config config;
    struct md_http_counters counters;
    struct md_exchange *held; /* by /slow and /hold-stream, not answered yet */
    unsigned requests, cancels;
    int cleanups; /* of exchanges that are under way, below 0 */
    bool answer_on_cancel;
    unsigned stream_left; /* pieces that /stream still writes */
    unsigned drained_calls;
    struct {
        unsigned status;
        uint64_t sent_bytes;
        char path[64];
    } log[RIG_LOG_MAX];
    unsigned log_count;
    char seen_body[128]; /* start of the last body that /echo got */
    size_t seen_bytes, seen_alignment;
};

static uint64_t virtual_ns;
static struct rig *rig_now; /* handlers have no other way to it */

static uint64_t virtual_clock(void)
{
    return virtual_ns;
}

static void count_cleanup(void *arg)
{
    (*(int *)arg)++;
}

static void respond_text(struct md_exchange *x, unsigned status, struct md_str text)
{
    struct iovec *part = md_arena_alloc(&x->arena, sizeof *part);
    struct md_http_response response = {.status = part ? status : 503,
                                        .content_type = "text/plain"};

    if (part) {
        *part = (struct iovec){.iov_base = (void *)(uintptr_t)text.ptr, .iov_len = text.len};
        response.parts = part;
        response.part_count = 1;
    }
    md_exchange_respond(x, &response);
}

/* The body comes back in two parts and an empty one. */
static void on_echo(struct md_exchange *x)
{
    struct iovec *parts = md_arena_calloc(&x->arena, 3, sizeof *parts);
    struct md_http_response response = {
        .status = 200, .content_type = "text/plain", .part_count = 3, .may_compress = true};
    size_t half = x->body.len / 2;

    rig_now->requests++;
    rig_now->seen_bytes = x->body.len;
    rig_now->seen_alignment = (uintptr_t)(x->body.ptr + x->body_lead) % 64;
    memcpy(rig_now->seen_body, x->body.ptr, md_size_min(x->body.len, sizeof rig_now->seen_body));
    if (!parts || !md_arena_on_reset(&x->arena, count_cleanup, &rig_now->cleanups)) {
        respond_text(x, 503, MD_STR("out of memory"));
        return;
    }
    rig_now->cleanups--;
    parts[0] = (struct iovec){.iov_base = (void *)(uintptr_t)x->body.ptr, .iov_len = half};
    parts[2] = (struct iovec){.iov_base = (void *)(uintptr_t)(x->body.ptr + half),
                              .iov_len = x->body.len - half};
    response.parts = parts;
    md_exchange_respond(x, &response);
}

static void on_get(struct md_exchange *x)
{
    rig_now->requests++;
    respond_text(x, 200, MD_STR("hello"));
}

static void on_big(struct md_exchange *x)
{
    static char bytes[BIG_BYTES];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)('a' + i % 26);
    }
    respond_text(x, 200, md_str_make(bytes, sizeof bytes));
}

static void on_hold(struct md_exchange *x)
{
    rig_now->requests++;
    rig_now->held = x;
}

/* What somebody else still reads and writes while the client has its answer. */
struct late {
    char bytes[2000];
};

static void on_late(struct md_exchange *x)
{
    struct late *late = md_arena_alloc(&x->arena, sizeof *late);

    rig_now->requests++;
    if (!late || !md_arena_on_reset(&x->arena, count_cleanup, &rig_now->cleanups)) {
        respond_text(x, 503, MD_STR("out of memory"));
        return;
    }
    rig_now->cleanups--;
    memset(late->bytes, 'L', sizeof late->bytes);
    x->dialect = late;
    rig_now->held = x;
}

static inline bool late_is_whole(const struct md_exchange *x)
{
    const struct late *late = x->dialect;
    bool is_whole = true;

    for (size_t i = 0; i < sizeof late->bytes; i++) {
        is_whole = is_whole && late->bytes[i] == 'L';
    }
    for (size_t i = 0; i < x->body.len; i++) {
        is_whole = is_whole && x->body.ptr[i] == 'b';
    }
    return is_whole;
}

#define LATE_TEXT "{\"error\":\"it takes too long\"}"

/* The answer to on_late; the exchange is held then. None of its memory is touched for it. */
static inline struct md_exchange *late_answer(struct rig *rig)
{
    static const struct md_http_header retry = {MD_STR("Retry-After"), MD_STR("1")};
    struct md_exchange *x = rig->held;
    char text[] = LATE_TEXT;
    const struct iovec parts[] = {{text, 10}, {NULL, 0}, {text + 10, sizeof text - 11}};
    const struct md_arena before = x->arena;

    rig->held = NULL;
    md_exchange_hold(x);
    md_exchange_respond(x, &(struct md_http_response){.status = 504,
                                                      .content_type = "application/json",
                                                      .headers = &retry,
                                                      .header_count = 1,
                                                      .parts = parts,
                                                      .part_count = MD_COUNT_OF(parts),
                                                      .may_compress = true});
    memset(text, '#', sizeof text);
    assert_memory_equal(&before, &x->arena, sizeof before);
    return x;
}

static void on_cancel(struct md_exchange *x)
{
    assert_true(x->cancelled);
    rig_now->cancels++;
    if (rig_now->answer_on_cancel && rig_now->held == x) {
        rig_now->held = NULL;
        respond_text(x, 200, MD_STR("too late"));
    }
}

static void refuse_at_head(struct md_exchange *x)
{
    respond_text(x, 403, MD_STR("no"));
}

static void lead_ten(struct md_exchange *x)
{
    x->body_lead = 10;
}

static void within_a_second(struct md_exchange *x)
{
    x->deadline_ns = x->begin_ns + MD_NS_PER_S;
}

static void at_most_hundred(struct md_exchange *x)
{
    x->body_max = 100;
}

static const struct md_http_response stream_response = {
    .status = 200, .content_type = "text/plain", .may_compress = true};

static void stream_piece(struct md_exchange *x)
{
    rig_now->drained_calls++;
    if (rig_now->stream_left == 0) {
        md_exchange_end(x);
        return;
    }
    rig_now->stream_left--;
    if (!md_exchange_write(x, MD_STR("piece,"))) {
        md_exchange_end(x);
    }
}

static void on_stream(struct md_exchange *x)
{
    md_exchange_begin(x, &stream_response, stream_piece);
}

static void on_stream_at_once(struct md_exchange *x)
{
    md_exchange_begin(x, &stream_response, NULL);
    (void)md_exchange_write(x, MD_STR("one"));
    (void)md_exchange_write(x, MD_STR(""));
    (void)md_exchange_write(x, MD_STR("-two"));
    md_exchange_end(x);
}

static void on_hold_stream(struct md_exchange *x)
{
    rig_now->held = x;
    md_exchange_begin(x, &stream_response, NULL);
}

static void end_on_cancel(struct md_exchange *x)
{
    rig_now->cancels++;
    rig_now->held = NULL;
    md_exchange_end(x);
}

static void not_found(struct md_exchange *x)
{
    respond_text(x, 404, MD_STR("nothing here"));
}

static const struct md_http_handler not_found_handler = {.on_request = not_found};

static void rig_route(void *arg, struct md_exchange *x)
{
    static const struct {
        const char *path;
        struct md_http_handler handler;
    } table[] = {
        {"/", {.on_request = on_get}},
        {"/echo", {.on_request = on_echo}},
        {"/lead", {.on_head = lead_ten, .on_request = on_echo}},
        {"/hundred", {.on_head = at_most_hundred, .on_request = on_echo}},
        {"/big", {.on_request = on_big}},
        {"/slow", {.on_request = on_hold, .on_cancel = on_cancel}},
        {"/soon", {.on_head = within_a_second, .on_request = on_echo}},
        {"/late", {.on_request = on_late, .on_cancel = on_cancel}},
        {"/refuse", {.on_head = refuse_at_head, .on_request = on_get}},
        {"/stream", {.on_request = on_stream}},
        {"/stream-at-once", {.on_request = on_stream_at_once}},
        {"/stream-at-head", {.on_head = on_stream_at_once}},
        {"/hold-stream", {.on_request = on_hold_stream, .on_cancel = end_on_cancel}},
    };

    assert_ptr_equal(arg, rig_now);
    x->handler = &not_found_handler;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        if (md_str_eq_c(x->head.path, table[i].path)) {
            x->handler = &table[i].handler;
        }
    }
}

static void rig_log(void *arg, const struct md_exchange *x, unsigned status, uint64_t sent_bytes)
{
    struct rig *rig = arg;

    assert_true(rig->log_count < RIG_LOG_MAX);
    rig->log[rig->log_count].status = status;
    rig->log[rig->log_count].sent_bytes = sent_bytes;
    (void)snprintf(rig->log[rig->log_count].path, sizeof rig->log[0].path, "%.*s",
                   MD_STR_ARG(x->head.path));
    assert_string_equal(x->peer, "peer:1");
    assert_true(x->over_unix_socket);
    rig->log_count++;
}

static inline void rig_open(struct rig *rig, size_t budget_bytes)
{
    struct md_error err;

    *rig = (struct rig){0};
    rig_now = rig;
    virtual_ns = 1000 * (uint64_t)MD_NS_PER_S;
    md_clock_monotonic_ns = virtual_clock;
    md_clock_realtime_ns = virtual_clock;
    md_budget_init(&rig->budget, budget_bytes);
    const struct md_loop_options options = {.cpu = -1, .budget = &rig->budget};
    assert_true(md_loop_create(&options, &rig->loop, &err));
    rig->config = (struct md_http_config){
        .route = rig_route,
        .route_arg = rig,
        .max_header_bytes = 4096,
        .max_header_count = 20,
        .max_body_bytes = 1000000,
        .idle_timeout_ns = 60 * (uint64_t)MD_NS_PER_S,
        .header_timeout_ns = 10 * (uint64_t)MD_NS_PER_S,
        .body_timeout_ns = 20 * (uint64_t)MD_NS_PER_S,
        .access_log = rig_log,
        .access_log_arg = rig,
        .counters = &rig->counters,
    };
}

/* Everything that was taken has been given back. */
static inline void rig_close(struct rig *rig)
{
    assert_null(rig->list.first);
    assert_int_equal(rig->list.count, 0);
    assert_int_equal(rig->cleanups, 0);
    md_loop_destroy(rig->loop);
    assert_int_equal(rig->budget.used_bytes, 0);
    assert_int_equal(rig->budget.stalled_bytes, 0);
}

static inline void rig_turn(struct rig *rig)
{
    struct md_error err;

    assert_true(md_loop_run_once(rig->loop, 0, &err));
}

static inline void rig_wait(struct rig *rig, uint64_t ms)
{
    virtual_ns += ms * MD_NS_PER_MS;
    rig_turn(rig);
}

/* --- peer: the client's side -------------------- */

static inline void peer_open(struct md_conn *peer, struct rig *rig)
{
    *peer = (struct md_conn){
        .loop = rig->loop, .want = MD_LOOP_READ, .send_step = SIZE_MAX, .send_room = SIZE_MAX};
    rig_turn(rig);
    md_session_start(peer, &rig->config, &rig->list);
}

static inline void peer_free(struct md_conn *peer)
{
    md_bytes_deinit(&peer->in);
    md_bytes_deinit(&peer->out);
}

/* The session that began last, or NULL. */
static inline struct md_session *rig_session(const struct rig *rig)
{
    return rig->list.first ? MD_CONTAINER_OF(rig->list.first, struct md_session, link) : NULL;
}

/* Lets both sides work until nothing moves any more. Slices of long work take a turn each. */
static inline void peer_run(struct md_conn *peer, struct rig *rig)
{
    for (unsigned quiet = 0; quiet < RIG_QUIET_TURNS; quiet++) {
        unsigned before = peer->activity;
        bool readable = peer->in_at < peer->in.len || peer->ended;
        bool writable = peer->send_room > 0 || peer->broken;
        rig_turn(rig);
        if (!peer->closed && (peer->want & MD_LOOP_READ) && readable) {
            peer->handler->ready(peer->handler_arg,
                                 MD_LOOP_READ | (peer->ended ? MD_LOOP_HANGUP : 0));
        }
        if (!peer->closed && (peer->want & MD_LOOP_WRITE) && writable) {
            peer->handler->ready(peer->handler_arg, MD_LOOP_WRITE);
        }
        struct md_session *session = rig_session(rig);
        bool in_slices = session && session->task_pending;
        if (peer->activity != before || in_slices) {
            quiet = 0;
        }
    }
}

static inline void peer_say(struct md_conn *peer, struct rig *rig, const void *data, size_t len)
{
    md_bytes_append(&peer->in, data, len);
    peer_run(peer, rig);
}

static inline void peer_say_c(struct md_conn *peer, struct rig *rig, const char *text)
{
    peer_say(peer, rig, text, strlen(text));
}

static inline void peer_hang_up(struct md_conn *peer, struct rig *rig)
{
    peer->ended = true;
    if (!peer->closed && peer->want == 0) {
        peer->handler->ready(peer->handler_arg, MD_LOOP_READ | MD_LOOP_HANGUP);
    }
    peer_run(peer, rig);
}

/* One answer, taken off the front of peer->out. */
struct answer {
    unsigned status; /* 0: none, or not complete */
    struct md_str head, body;
    struct md_bytes unchunked; /* own */
};

static inline struct md_str answer_header(const struct answer *answer, const char *name)
{
    struct md_str rest = answer->head, line, key;

    while (md_str_split(&rest, '\n', &line)) {
        if (md_str_split(&line, ':', &key) && line.ptr && md_str_eq_nocase(key, md_str_of(name))) {
            return md_str_make(line.ptr + 1, line.len - 2); /* ": value\r" less the colon */
        }
    }
    return (struct md_str){NULL, 0};
}

static inline bool answer_says(const struct answer *answer, const char *name, const char *value)
{
    return md_str_eq_c(answer_header(answer, name), value);
}

static inline size_t answer_unchunk(struct answer *answer, struct md_str data)
{
    struct md_http1_chunked chunked = {0};
    struct md_str piece, left = data;
    struct md_error err;
    enum md_progress progress = MD_PROGRESS_AGAIN;

    while (progress == MD_PROGRESS_AGAIN && left.len) {
        progress = md_http1_chunked_step(&chunked, &left, &piece, &err);
        md_bytes_append_str(&answer->unchunked, piece);
    }
    answer->body = md_bytes_view(&answer->unchunked);
    return progress == MD_PROGRESS_DONE ? data.len - left.len : SIZE_MAX;
}

/* `at` moves behind the answer. A body without a length runs to the end. */
static inline bool peer_answer(const struct md_conn *peer, size_t *at, bool to_head,
                               struct answer *answer)
{
    struct md_str data = md_str_make(peer->out.data + *at, peer->out.len - *at);
    const char *end = data.len ? memmem(data.ptr, data.len, "\r\n\r\n", 4) : NULL;
    uint64_t length = 0;

    md_bytes_deinit(&answer->unchunked);
    *answer = (struct answer){0};
    if (!end) {
        return false;
    }
    size_t head_bytes = (size_t)(end - data.ptr) + 4;
    answer->head = md_str_make(data.ptr, head_bytes - 2);
    struct md_str rest = md_str_make(data.ptr + head_bytes, data.len - head_bytes);
    answer->status = (unsigned)strtoul(data.ptr + 9, NULL, 10);
    struct md_str sized = answer_header(answer, "Content-Length");
    if (to_head || answer->status == 204 || answer->status == 100) {
        length = 0;
    } else if (sized.ptr) {
        assert_true(md_str_to_u64(md_str_trim(sized), &length));
    } else if (answer_header(answer, "Transfer-Encoding").ptr) {
        length = answer_unchunk(answer, rest);
    } else {
        length = rest.len;
    }
    if (length > rest.len) {
        answer->status = 0;
        return false;
    }
    if (!answer->unchunked.data) {
        answer->body = md_str_make(rest.ptr, length);
    }
    *at += head_bytes + length;
    return true;
}

/* The only answer, and all that came. */
static inline void peer_only_answer(const struct md_conn *peer, struct answer *answer)
{
    size_t at = 0;

    assert_true(peer_answer(peer, &at, false, answer));
    assert_int_equal(at, peer->out.len);
}

#endif
