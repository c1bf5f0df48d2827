/*
 * The other end of a connection that speaks HTTP/2: a client of libnghttp2 over fake_conn.h, which
 * refuses whatever breaks the protocol, and gRPC methods that do what handlers may do, and check
 * what they are promised.
 *
 * Included by exactly one file of a program. One thread.
 */
#ifndef TESTS_COMPONENT_HTTP_FAKE_HTTP2_H
#define TESTS_COMPONENT_HTTP_FAKE_HTTP2_H

#include "component/http/fake_conn.h"
#include "http/session_http2_internal.h"

#include <nghttp2/nghttp2.h>

/* --- methods -------------------- */

/* What a method does in one of its callbacks. */
enum deed {
    DO_NOTHING,
    DO_ECHO,        /* the message, copied */
    DO_ECHO_END,    /* and the end */
    DO_ECHO_PAUSE,  /* and no more until the test says so */
    DO_END,         /* OK */
    DO_FAIL,        /* with trailers, and a text that needs encoding */
    DO_HOLD,        /* the test answers */
    DO_BIG_END,     /* bytes that stay where they lie */
    DO_END_IN_SENT, /* the end when the message has left */
    DO_PLAIN,       /* an answer of HTTP */
    DO_END_UNHELD,  /* of a call that was held */
    DO_END_ALL,     /* of all that are held */
    DO_LIMIT,       /* messages of at most a hundred bytes */
};

struct method {
    const char *path;
    bool takes_messages, compresses;
    enum deed on_head, on_message, on_request, on_cancel;
};

static const struct method methods[] = {
    {"/g/echo", false, true, DO_NOTHING, DO_NOTHING, DO_ECHO_END, DO_NOTHING},
    {"/g/plain-echo", false, false, DO_NOTHING, DO_NOTHING, DO_ECHO_END, DO_NOTHING},
    {"/g/fail", false, false, DO_NOTHING, DO_NOTHING, DO_FAIL, DO_NOTHING},
    {"/g/head", false, false, DO_FAIL, DO_NOTHING, DO_END, DO_NOTHING},
    {"/g/hold", false, true, DO_NOTHING, DO_NOTHING, DO_HOLD, DO_END_UNHELD},
    {"/g/hold-on", false, false, DO_NOTHING, DO_NOTHING, DO_HOLD, DO_NOTHING},
    {"/g/hold-all", false, false, DO_NOTHING, DO_NOTHING, DO_HOLD, DO_END_ALL},
    {"/g/end-all", false, false, DO_NOTHING, DO_NOTHING, DO_END_ALL, DO_NOTHING},
    {"/g/big", false, false, DO_NOTHING, DO_NOTHING, DO_BIG_END, DO_NOTHING},
    {"/g/packed-big", false, true, DO_NOTHING, DO_NOTHING, DO_BIG_END, DO_NOTHING},
    {"/g/end-in-sent", false, false, DO_NOTHING, DO_NOTHING, DO_END_IN_SENT, DO_NOTHING},
    {"/g/packed-end-in-sent", false, true, DO_NOTHING, DO_NOTHING, DO_END_IN_SENT, DO_NOTHING},
    {"/g/hundred", false, false, DO_LIMIT, DO_NOTHING, DO_ECHO_END, DO_NOTHING},
    {"/g/not-here", false, false, DO_NOTHING, DO_NOTHING, DO_PLAIN, DO_NOTHING},
    {"/g/stream", true, false, DO_NOTHING, DO_ECHO, DO_END, DO_END},
    {"/g/stream-pause", true, false, DO_NOTHING, DO_ECHO_PAUSE, DO_END, DO_END_UNHELD},
    {"/g/stream-early", true, false, DO_NOTHING, DO_FAIL, DO_END, DO_NOTHING},
    {"/g/stream-hold", true, false, DO_NOTHING, DO_HOLD, DO_HOLD, DO_END_UNHELD},
    {"/g/stream-big", true, false, DO_NOTHING, DO_END_IN_SENT, DO_NOTHING, DO_END},
};

/* What a call has seen, in its arena. */
struct seen {
    unsigned messages, requests, cancels;
    bool ended, paused, held;
    struct md_exchange *next_held;
};

static struct {
    unsigned sends, sent; /* messages whose `sent` was asked for, and was called */
    unsigned messages;    /* that handlers have got */
    size_t message_bytes;
    struct md_exchange *held; /* all that wait for the test; rig.held is the last */
} methods_seen;

static char big_bytes[BIG_BYTES];

static struct seen *seen_of(struct md_exchange *x)
{
    return x->dialect;
}

static void message_freed(void *arg)
{
    methods_seen.sent++;
    md_free(arg);
}

static void message_left(void *arg)
{
    (void)arg;
    methods_seen.sent++;
}

static void hold(struct md_exchange *x)
{
    rig_now->held = x;
    if (!seen_of(x)->held) {
        seen_of(x)->held = true;
        seen_of(x)->next_held = methods_seen.held;
        methods_seen.held = x;
    }
}

static void let_go(struct md_exchange *x)
{
    struct md_exchange **at = &methods_seen.held;

    while (*at && *at != x) {
        at = &seen_of(*at)->next_held;
    }
    if (*at) {
        *at = seen_of(x)->next_held;
        seen_of(x)->held = false;
    }
}

static void end_call(struct md_exchange *x, const struct md_error *err)
{
    assert_false(seen_of(x)->ended);
    seen_of(x)->ended = true;
    let_go(x);
    if (rig_now->held == x) {
        rig_now->held = NULL;
    }
    md_grpc_end(x, err);
}

static void message_left_end(void *arg)
{
    methods_seen.sent++;
    if (!seen_of(arg)->ended) {
        end_call(arg, NULL);
    }
}

static void fail_call(struct md_exchange *x, enum md_reason reason, const char *text)
{
    struct md_error err;

    (void)md_error_set(&err, reason, "%s", text);
    end_call(x, &err);
}

static bool echo(struct md_exchange *x)
{
    char *copy = md_alloc(x->body.len + 1);
    const size_t half = x->body.len / 2;

    if (!copy) {
        fail_call(x, MD_REASON_OUT_OF_MEMORY, "out of memory");
        return false;
    }
    if (x->body.len) {
        memcpy(copy, x->body.ptr, x->body.len);
    }
    const struct iovec parts[] = {{copy, half}, {copy, 0}, {copy + half, x->body.len - half}};
    methods_seen.sends++;
    md_grpc_send(x, parts, MD_COUNT_OF(parts), message_freed, copy);
    return true;
}

static void send_big(struct md_exchange *x, void (*sent)(void *arg))
{
    const struct iovec part = {big_bytes, sizeof big_bytes};

    methods_seen.sends++;
    md_grpc_send(x, &part, 1, sent, x);
}

static void act(struct md_exchange *x, enum deed deed)
{
    switch (deed) {
    case DO_NOTHING:
        break;
    case DO_ECHO:
        (void)echo(x);
        break;
    case DO_ECHO_END:
        if (echo(x)) {
            end_call(x, NULL);
        }
        break;
    case DO_ECHO_PAUSE:
        if (echo(x)) {
            hold(x);
            seen_of(x)->paused = true;
            md_grpc_pause(x);
        }
        break;
    case DO_END:
        if (!seen_of(x)->ended) {
            end_call(x, NULL);
        }
        break;
    case DO_FAIL:
        md_grpc_add_trailer(x, MD_STR("x-why"), MD_STR("because"));
        md_grpc_add_trailer(x, MD_STR("x-why-bin"), MD_STR("\x01\x02"));
        fail_call(x, MD_REASON_NOT_FOUND, "100 % \xc3\xa4");
        break;
    case DO_HOLD:
        hold(x);
        break;
    case DO_BIG_END:
        send_big(x, message_left);
        end_call(x, NULL);
        break;
    case DO_END_IN_SENT:
        send_big(x, message_left_end);
        break;
    case DO_PLAIN:
        seen_of(x)->ended = true;
        respond_text(x, 404, MD_STR("nothing here"));
        break;
    case DO_LIMIT:
        x->body_max = 100;
        break;
    case DO_END_ALL:
        while (methods_seen.held) {
            end_call(methods_seen.held, NULL);
        }
        if (!seen_of(x)->ended) {
            end_call(x, NULL);
        }
        break;
    case DO_END_UNHELD:
        if (!seen_of(x)->ended) {
            end_call(x, NULL);
        }
        break;
    }
}

static const struct method *method_of(const struct md_exchange *x)
{
    return x->route_data;
}

static void method_head(struct md_exchange *x)
{
    x->dialect = md_arena_calloc(&x->arena, 1, sizeof(struct seen));
    if (!x->dialect || !md_arena_on_reset(&x->arena, count_cleanup, &rig_now->cleanups)) {
        struct md_error err;
        (void)md_error_set(&err, MD_REASON_OUT_OF_MEMORY, "out of memory");
        md_grpc_end(x, &err);
        return;
    }
    rig_now->cleanups--;
    x->may_compress = method_of(x)->compresses;
    act(x, method_of(x)->on_head);
}

static void method_message(struct md_exchange *x)
{
    struct seen *seen = seen_of(x);

    assert_true(method_of(x)->takes_messages);
    assert_int_equal(seen->requests, 0);
    assert_false(seen->ended);
    assert_false(seen->paused);
    assert_false(x->cancelled);
    seen->messages++;
    methods_seen.messages++;
    methods_seen.message_bytes += x->body.len;
    act(x, method_of(x)->on_message);
}

static void method_request(struct md_exchange *x)
{
    struct seen *seen = seen_of(x);

    assert_int_equal(seen->requests, 0);
    assert_false(seen->ended);
    assert_false(seen->paused);
    assert_false(x->cancelled);
    seen->requests++;
    rig_now->requests++;
    act(x, method_of(x)->on_request);
}

static void method_cancel(struct md_exchange *x)
{
    struct seen *seen = seen_of(x);

    assert_true(x->cancelled);
    assert_true(seen->requests || seen->messages);
    assert_false(seen->ended);
    assert_int_equal(seen->cancels, 0);
    seen->cancels++;
    rig_now->cancels++;
    act(x, method_of(x)->on_cancel);
}

static const struct md_http_handler unary_handler = {
    .on_head = method_head, .on_request = method_request, .on_cancel = method_cancel};
static const struct md_http_handler stream_handler = {.on_head = method_head,
                                                      .on_request = method_request,
                                                      .on_message = method_message,
                                                      .on_cancel = method_cancel};

/* Half an answer, then none. */
static void abort_answer(struct md_exchange *x)
{
    md_exchange_begin(x, &stream_response, NULL);
    (void)md_exchange_write(x, MD_STR("half"));
    md_exchange_abort(x);
}

static void refuse_method(struct md_exchange *x)
{
    x->allow = "GET, HEAD";
    respond_text(x, 405, MD_STR("no"));
}

static const struct md_http_handler abort_handler = {.on_request = abort_answer};
static const struct md_http_handler method_handler = {.on_request = refuse_method};

static void http2_route(void *arg, struct md_exchange *x)
{
    if (md_str_eq_c(x->head.path, "/abort")) {
        x->handler = &abort_handler;
        return;
    }
    if (md_str_eq_c(x->head.path, "/no-method")) {
        x->handler = &method_handler;
        return;
    }
    for (size_t i = 0; i < MD_COUNT_OF(methods); i++) {
        if (x->is_grpc && md_str_eq_c(x->head.path, methods[i].path)) {
            x->handler = methods[i].takes_messages ? &stream_handler : &unary_handler;
            x->route_data = &methods[i];
            return;
        }
    }
    rig_route(arg, x);
}

static inline void resume(struct md_exchange *x)
{
    let_go(x);
    seen_of(x)->paused = false;
    md_grpc_resume(x);
}

/* --- options -------------------- */

static struct md_http2_options http2_options;

static unsigned http2_logged;

static void http2_log(void *arg, const struct md_exchange *x, unsigned status, uint64_t sent_bytes)
{
    (void)sent_bytes;
    assert_ptr_equal(arg, rig_now);
    assert_true(status == 499 || (status >= 100 && status < 600));
    assert_non_null(x->peer);
    http2_logged++;
}

static inline void http2_rig_open(struct rig *rig, size_t budget_bytes)
{
    rig_open(rig, budget_bytes);
    memset(&methods_seen, 0, sizeof methods_seen);
    http2_logged = 0;
    for (size_t i = 0; i < sizeof big_bytes; i++) {
        big_bytes[i] = (char)('a' + i % 23);
    }
    http2_options = (struct md_http2_options){
        .limits = {.max_concurrent_streams = 100,
                   .max_frame_size = 1024 * 1024,
                   .initial_window = 65535,
                   .max_header_bytes = 8192,
                   .max_header_count = 100},
        .max_message_bytes = 4 * 1024 * 1024,
        .compresses = true,
        .keepalive_time_ns = 7200 * (uint64_t)MD_NS_PER_S,
        .keepalive_timeout_ns = 20 * (uint64_t)MD_NS_PER_S,
        .min_ping_interval_ns = 300 * (uint64_t)MD_NS_PER_S,
        .max_ping_strikes = 2,
    };
    rig->config.route = http2_route;
    rig->config.access_log = http2_log;
    rig->config.http2 = &http2_options;
}

static inline void http2_rig_close(struct rig *rig)
{
    rig_close(rig);
    assert_int_equal(methods_seen.sends, methods_seen.sent);
}

/* --- client -------------------- */

enum { CALLS_MAX = 256, HEADERS_TEXT_MAX = 512 };

struct client_call {
    int32_t id;
    struct md_bytes body; /* own: what came */
    struct md_bytes says; /* own: what goes */
    size_t says_at;
    bool says_more; /* the request is not complete */
    bool closed, ended;
    uint32_t error; /* of RST_STREAM, once closed */
    unsigned status;
    int grpc_status;               /* -1: none */
    char fields[HEADERS_TEXT_MAX]; /* "name: value\n", of heads and trailers */
};

struct client {
    struct rig *rig;
    struct md_conn conn;
    nghttp2_session *ng;
    size_t out_at;
    struct client_call calls[CALLS_MAX];
    size_t call_count;
    unsigned goaways, pings;
    uint32_t goaway_error, goaway_last;
    bool deaf; /* what it is told lies in conn.out */
    bool lost; /* the connection ended badly */
};

static int client_on_header(nghttp2_session *ng, const nghttp2_frame *frame, const uint8_t *name,
                            size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                            void *arg)
{
    struct client_call *call = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);
    const struct md_str key = md_str_make((const char *)name, name_len);
    size_t at;

    (void)flags;
    (void)arg;
    if (!call) {
        return 0;
    }
    if (md_str_eq(key, MD_STR(":status"))) {
        call->status = (unsigned)strtoul((const char *)value, NULL, 10);
    } else if (md_str_eq(key, MD_STR("grpc-status"))) {
        call->grpc_status = atoi((const char *)value);
    }
    at = strlen(call->fields);
    (void)snprintf(call->fields + at, sizeof call->fields - at, "%.*s: %.*s\n", (int)name_len,
                   (const char *)name, (int)value_len, (const char *)value);
    return 0;
}

static int client_on_data(nghttp2_session *ng, uint8_t flags, int32_t id, const uint8_t *data,
                          size_t len, void *arg)
{
    struct client_call *call = nghttp2_session_get_stream_user_data(ng, id);

    (void)flags;
    (void)arg;
    if (call) {
        md_bytes_append(&call->body, data, len);
    }
    return 0;
}

static int client_on_close(nghttp2_session *ng, int32_t id, uint32_t error, void *arg)
{
    struct client_call *call = nghttp2_session_get_stream_user_data(ng, id);

    (void)arg;
    if (call) {
        call->closed = true;
        call->error = error;
    }
    return 0;
}

static int client_on_frame(nghttp2_session *ng, const nghttp2_frame *frame, void *arg)
{
    struct client *client = arg;
    struct client_call *call = nghttp2_session_get_stream_user_data(ng, frame->hd.stream_id);

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->goaways++;
        client->goaway_error = frame->goaway.error_code;
        client->goaway_last = (uint32_t)frame->goaway.last_stream_id;
    } else if (frame->hd.type == NGHTTP2_PING && !(frame->hd.flags & NGHTTP2_FLAG_ACK)) {
        client->pings++;
    } else if (call && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
               (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS)) {
        call->ended = true;
    }
    return 0;
}

/* Whatever the server says wrong. */
static int client_on_invalid(nghttp2_session *ng, const nghttp2_frame *frame, int error, void *arg)
{
    (void)ng;
    (void)arg;
    fail_msg("frame of kind %d: %s", frame->hd.type, nghttp2_strerror(error));
    return 0;
}

static ssize_t client_read(nghttp2_session *ng, int32_t id, uint8_t *to, size_t room,
                           uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct client_call *call = source->ptr;
    const size_t n = md_size_min(room, call->says.len - call->says_at);

    (void)ng;
    (void)id;
    (void)arg;
    if (!n && call->says_more) {
        return NGHTTP2_ERR_DEFERRED;
    }
    if (n) {
        memcpy(to, call->says.data + call->says_at, n);
    }
    call->says_at += n;
    if (call->says_at == call->says.len && !call->says_more) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

/* Own windows: nothing is granted but by the test (`stingy`). */
static inline void client_open_with(struct client *client, struct rig *rig, bool stingy,
                                    const nghttp2_settings_entry *settings, size_t setting_count)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;

    *client = (struct client){.rig = rig};
    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, client_on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, client_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, client_on_close);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, client_on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, client_on_invalid);
    assert_int_equal(nghttp2_option_new(&option), 0);
    nghttp2_option_set_no_auto_window_update(option, stingy);
    assert_int_equal(nghttp2_session_client_new2(&client->ng, callbacks, client, option), 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(client->ng, 0, settings, setting_count), 0);
    client->conn = (struct md_conn){
        .loop = rig->loop, .want = MD_LOOP_READ, .send_step = SIZE_MAX, .send_room = SIZE_MAX};
    rig_turn(rig);
    md_session_start(&client->conn, &rig->config, &rig->list);
}

static inline void client_open(struct client *client, struct rig *rig)
{
    client_open_with(client, rig, false, NULL, 0);
}

static inline void client_free(struct client *client)
{
    nghttp2_session_del(client->ng);
    md_bytes_deinit(&client->conn.in);
    md_bytes_deinit(&client->conn.out);
    for (size_t i = 0; i < client->call_count; i++) {
        md_bytes_deinit(&client->calls[i].body);
        md_bytes_deinit(&client->calls[i].says);
    }
}

/* The one session of the rig, once the preface is there. */
static inline struct md_http2_session *client_session(const struct client *client)
{
    return client->conn.in_at >= sizeof MD_HTTP2_PREFACE - 1 && client->rig->list.first
               ? MD_CONTAINER_OF(client->rig->list.first, struct md_http2_session, link)
               : NULL;
}

static inline bool client_exchange(struct client *client)
{
    struct md_conn *conn = &client->conn;
    const uint8_t *data;
    bool moved = false;
    ssize_t len;

    while (!conn->ended && (len = nghttp2_session_mem_send(client->ng, &data)) > 0) {
        md_bytes_append(&conn->in, data, (size_t)len);
        moved = true;
    }
    if (!client->deaf && client->out_at < conn->out.len) {
        len = nghttp2_session_mem_recv(client->ng, (uint8_t *)conn->out.data + client->out_at,
                                       conn->out.len - client->out_at);
        if (len < 0) {
            fail_msg("the client: %s", nghttp2_strerror((int)len));
        }
        client->out_at = conn->out.len;
        moved = true;
    }
    return moved;
}

/* Lets both sides work until nothing moves any more. */
static inline void client_run(struct client *client)
{
    struct md_conn *conn = &client->conn;

    for (unsigned quiet = 0; quiet < RIG_QUIET_TURNS; quiet++) {
        const unsigned before = conn->activity;
        bool moved = client_exchange(client);
        rig_turn(client->rig);
        if (!conn->closed && (conn->want & MD_LOOP_READ) &&
            (conn->in_at < conn->in.len || conn->ended)) {
            conn->handler->ready(conn->handler_arg,
                                 MD_LOOP_READ | (conn->ended ? MD_LOOP_HANGUP : 0));
        }
        if (!conn->closed && (conn->want & MD_LOOP_WRITE) && (conn->send_room || conn->broken)) {
            conn->handler->ready(conn->handler_arg, MD_LOOP_WRITE);
        }
        const struct md_http2_session *session = client_session(client);
        if (moved || conn->activity != before || (session && session->work_pending)) {
            quiet = 0;
        }
    }
}

static inline void client_wait(struct client *client, uint64_t ms)
{
    virtual_ns += ms * MD_NS_PER_MS;
    client_run(client);
}

static inline nghttp2_nv client_field(const char *name, const char *value)
{
    return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
                        .value = (uint8_t *)(uintptr_t)value,
                        .namelen = strlen(name),
                        .valuelen = strlen(value)};
}

/* A request with further fields, "name", "value", ..., NULL. `says_more`: its body is not all. */
static inline struct client_call *client_ask(struct client *client, const char *method,
                                             const char *path, const char *const *fields,
                                             struct md_str body, bool says_more)
{
    struct client_call *call = &client->calls[client->call_count++];
    nghttp2_nv nv[32] = {client_field(":method", method), client_field(":scheme", "http"),
                         client_field(":path", path), client_field(":authority", "x")};
    const nghttp2_data_provider provider = {.source.ptr = call, .read_callback = client_read};
    size_t count = 4;

    assert_true(client->call_count <= CALLS_MAX);
    for (; fields && fields[0]; fields += 2) {
        nv[count++] = client_field(fields[0], fields[1]);
    }
    md_bytes_append_str(&call->says, body);
    call->says_more = says_more;
    call->grpc_status = -1;
    call->id = nghttp2_submit_request(client->ng, NULL, nv, count,
                                      body.len || says_more ? &provider : NULL, call);
    assert_true(call->id > 0);
    return call;
}

/* More of the body; then it is complete unless `says_more`. */
static inline void client_say(struct client *client, struct client_call *call, struct md_str more,
                              bool says_more)
{
    md_bytes_append_str(&call->says, more);
    call->says_more = says_more;
    (void)nghttp2_session_resume_data(client->ng, call->id);
}

static inline void client_reset(struct client *client, const struct client_call *call)
{
    assert_int_equal(nghttp2_submit_rst_stream(client->ng, 0, call->id, MD_HTTP2_CANCEL), 0);
}

static inline void client_hang_up(struct client *client)
{
    client->conn.ended = true;
    client_run(client);
    if (!client->conn.closed && client->conn.want == 0) { /* loops tell of it all the same */
        client->conn.handler->ready(client->conn.handler_arg, MD_LOOP_READ | MD_LOOP_HANGUP);
        client_run(client);
    }
}

/* Bytes that no library would say. */
static inline void client_say_raw(struct client *client, const void *data, size_t len)
{
    (void)client_exchange(client);
    md_bytes_append(&client->conn.in, data, len);
    client_run(client);
}

/* The server's end of it: everything is given back. */
static inline void client_close(struct client *client)
{
    client_hang_up(client);
    assert_true(client->conn.closed);
    client_free(client);
}

/* --- gRPC of the client -------------------- */

static inline void grpc_frame(struct md_bytes *to, unsigned flag, struct md_str message)
{
    char prefix[MD_GRPC_PREFIX_BYTES] = {(char)flag};

    md_http2_put_u32(prefix + 1, (uint32_t)message.len);
    md_bytes_append(to, prefix, sizeof prefix);
    md_bytes_append_str(to, message);
}

/* A call with one message so far. */
static inline struct client_call *client_call_with(struct client *client, const char *path,
                                                   const char *name, const char *value,
                                                   struct md_str message, bool says_more)
{
    const char *fields[] = {
        "content-type", "application/grpc", "te", "trailers", name, value, NULL};
    struct md_bytes framed = {0};

    grpc_frame(&framed, 0, message);
    struct client_call *call =
        client_ask(client, "POST", path, fields, md_bytes_view(&framed), says_more);
    md_bytes_deinit(&framed);
    return call;
}

static inline struct client_call *client_grpc(struct client *client, const char *path,
                                              struct md_str message, bool says_more)
{
    return client_call_with(client, path, NULL, NULL, message, says_more);
}

static inline void client_send_message(struct client *client, struct client_call *call,
                                       struct md_str message, bool says_more)
{
    struct md_bytes framed = {0};

    grpc_frame(&framed, 0, message);
    client_say(client, call, md_bytes_view(&framed), says_more);
    md_bytes_deinit(&framed);
}

static inline bool call_says(const struct client_call *call, const char *line)
{
    return strstr(call->fields, line) != NULL;
}

#endif
