/*
 * gRPC calls without a network: messages, trailers and the status of a call are captured, in front
 * of the real core (fake_server.h).
 *
 * Included by exactly one file of a program: it defines the functions of http/grpc.h. One thread.
 *
 *      fake_call_begin(&server, &call, &handler);      the head; or fake_call_open with a path
 *      fake_call_send(&server, &call, message);        a client's message, any number for streams
 *      fake_call_close(&server, &call);                half-close: of a unary call, hands over
 *                                                      its message
 *      fake_call_wait(&server, &call, n);              until n messages came back, or the status
 *      fake_call_free(&call);
 */
#ifndef TESTS_COMPONENT_API_FAKE_CALL_H
#define TESTS_COMPONENT_API_FAKE_CALL_H

#include "api/oip/grpc.h"
#include "component/api/fake_server.h"
#include "http/grpc.h"

enum { FAKE_MESSAGES_MAX = 4096, FAKE_TRAILERS_MAX = 8 };

/* Bytes that a slow reader has not taken yet. */
struct fake_unsent {
    void (*sent)(void *arg);
    void *arg;
    size_t bytes;
};

struct fake_call {
    struct fake_exchange fake; /* first: the exchange; answers > 0: it was answered as plain HTTP */
    struct md_bytes messages[FAKE_MESSAGES_MAX]; /* own: what the handler sent */
    size_t message_count;
    bool is_slow; /* set by the test: the client reads nothing until fake_call_read */
    struct fake_unsent unsent[FAKE_MESSAGES_MAX];
    size_t unsent_count;
    size_t copied_bytes; /* set by the test: what waits in the session's own memory */
    struct md_http_header trailers[FAKE_TRAILERS_MAX];
    size_t trailer_count;
    unsigned ends;
    struct md_error error; /* of md_grpc_end; code OK: none */
    unsigned pauses;       /* how often it was paused */
    bool paused;
};

static inline struct fake_call *fake_call_of(const struct md_exchange *x)
{
    return (struct fake_call *)(uintptr_t)x;
}

/* --- http/grpc.h -------------------- */

void md_grpc_send(struct md_exchange *x, const struct iovec *parts, size_t part_count,
                  void (*sent)(void *arg), void *arg)
{
    struct fake_call *call = fake_call_of(x);

    if (call->ends || call->message_count == FAKE_MESSAGES_MAX) {
        abort();
    }
    struct md_bytes *message = &call->messages[call->message_count++];
    for (size_t i = 0; i < part_count; i++) {
        md_bytes_append(message, parts[i].iov_base, parts[i].iov_len);
    }
    if (call->is_slow && !x->cancelled) {
        call->unsent[call->unsent_count++] =
            (struct fake_unsent){.sent = sent, .arg = arg, .bytes = message->len};
    } else if (sent) {
        sent(arg);
    }
}

size_t md_grpc_unsent_bytes(const struct md_exchange *x)
{
    const struct fake_call *call = fake_call_of(x);
    size_t bytes = call->copied_bytes;

    for (size_t i = 0; i < call->unsent_count; i++) {
        bytes += call->unsent[i].bytes;
    }
    return bytes;
}

void md_grpc_add_trailer(struct md_exchange *x, struct md_str name, struct md_str value)
{
    struct fake_call *call = fake_call_of(x);

    if (call->trailer_count == FAKE_TRAILERS_MAX) {
        abort();
    }
    call->trailers[call->trailer_count++] = (struct md_http_header){name, value};
}

void md_grpc_end(struct md_exchange *x, const struct md_error *err)
{
    struct fake_call *call = fake_call_of(x);

    call->ends++;
    if (err) {
        call->error = *err;
    } else {
        md_error_clear(&call->error);
    }
}

void md_grpc_pause(struct md_exchange *x)
{
    fake_call_of(x)->pauses++;
    fake_call_of(x)->paused = true;
}

void md_grpc_resume(struct md_exchange *x)
{
    fake_call_of(x)->paused = false;
}

/* --- the client -------------------- */

static inline void fake_call_turn(struct fake_server *server)
{
    struct md_error err;

    fake_demand(md_loop_run_once(server->loop, 1000, &err), &err);
}

static inline bool fake_call_is_over(const struct fake_call *call)
{
    return call->ends || call->fake.answers;
}

static inline void fake_call_init(struct fake_server *server, struct fake_call *call)
{
    struct md_exchange *x = &call->fake.x;

    memset(call, 0, sizeof *call);
    md_arena_init(&x->arena, 4096 - 64);
    x->loop = server->loop;
    x->peer = "unix:";
    x->body = MD_STR("");
    x->is_grpc = true;
    x->route_data = &server->oip;
    x->begin_ns = x->body_ns = md_loop_now_ns(server->loop);
    x->head = (struct md_http_head){.method = MD_HTTP_POST,
                                    .method_name = MD_STR("POST"),
                                    .path = MD_STR("/fake.Service/Call"),
                                    .headers = call->fake.headers,
                                    .content_length = -1,
                                    .has_body = true};
    x->body_max = SIZE_MAX;
}

/* The head. Metadata: set call->fake.headers and head.header_count after this, before messages. */
static inline void fake_call_begin(struct fake_server *server, struct fake_call *call,
                                   const struct md_http_handler *handler)
{
    fake_call_init(server, call);
    call->fake.x.handler = handler;
    if (handler->on_head) {
        handler->on_head(&call->fake.x);
    }
}

/* The head of a call of the method at this path. `header` (or NULL) is its metadata. */
static inline void fake_call_open(struct fake_server *server, struct fake_call *call,
                                  const char *path, const struct md_http_header *header)
{
    struct md_exchange *x = &call->fake.x;

    fake_call_init(server, call);
    x->head.path = md_str_of(path);
    if (header) {
        call->fake.headers[0] = *header;
        x->head.header_count = 1;
    }
    md_oip_grpc_route(&server->oip, x);
    if (x->handler->on_head) {
        x->handler->on_head(x);
    }
}

/* A slow client takes what waits for it, and what comes from now on. */
static inline void fake_call_read(struct fake_call *call)
{
    call->is_slow = false;
    for (size_t i = 0; i < call->unsent_count; i++) {
        struct fake_unsent unsent = call->unsent[i];
        call->unsent[i].bytes = 0;
        if (unsent.sent) {
            unsent.sent(unsent.arg);
        }
    }
    call->unsent_count = 0;
}

/* The client resets the stream, or its deadline passes. */
static inline void fake_call_cancel(struct fake_call *call)
{
    if (fake_call_is_over(call)) {
        return;
    }
    call->fake.x.cancelled = true;
    fake_call_read(call);
    if (call->fake.x.handler->on_cancel) {
        call->fake.x.handler->on_cancel(&call->fake.x);
    }
}

/* One message: it ends at a multiple of 64, as those of a session do. Waits while the call is
 * paused. A unary call's handler sees it when the client half-closes. */
static inline void fake_call_send(struct fake_server *server, struct fake_call *call,
                                  struct md_str message)
{
    struct md_exchange *x = &call->fake.x;
    bool over_budget;

    for (int turn = 0; call->paused && turn < FAKE_TURNS_MAX; turn++) {
        fake_call_turn(server);
    }
    if (fake_call_is_over(call)) {
        return;
    }
    size_t lead = (FAKE_ALIGNMENT - message.len % FAKE_ALIGNMENT) % FAKE_ALIGNMENT;
    md_block_unref(x->body_block);
    x->body_block = NULL;
    x->body = MD_STR("");
    if (message.len) {
        x->body_block = md_pool_alloc(md_loop_pool(server->loop), message.len + lead, &over_budget);
        if (!x->body_block && x->handler->on_message) { /* as a session would: it resets a stream */
            fake_call_cancel(call);
            return;
        }
        if (!x->body_block) {
            call->ends++;
            (void)md_error_set(&call->error, MD_REASON_INFLIGHT_BYTES, "no memory for the body");
            return;
        }
        memcpy(x->body_block->data + lead, message.ptr, message.len);
        x->body = md_str_make(x->body_block->data + lead, message.len);
    }
    x->body_ns = md_loop_now_ns(server->loop);
    if (x->handler->on_message) {
        x->handler->on_message(x);
    }
}

static inline void fake_call_close(struct fake_server *server, struct fake_call *call)
{
    for (int turn = 0; call->paused && turn < FAKE_TURNS_MAX; turn++) {
        fake_call_turn(server);
    }
    if (!fake_call_is_over(call)) {
        call->fake.x.handler->on_request(&call->fake.x);
    }
}

/* Runs the loop until `count` messages came back, or the call has ended. */
static inline void fake_call_wait(struct fake_server *server, struct fake_call *call, size_t count)
{
    for (int turn = 0;
         call->message_count < count && !fake_call_is_over(call) && turn < FAKE_TURNS_MAX; turn++) {
        fake_call_turn(server);
    }
}

/* One unary call from its head to its status. */
static inline void fake_call_unary(struct fake_server *server, struct fake_call *call,
                                   const struct md_http_handler *handler, struct md_str message)
{
    fake_call_begin(server, call, handler);
    fake_call_send(server, call, message);
    fake_call_close(server, call);
    fake_call_wait(server, call, SIZE_MAX);
}

static inline void fake_call_free(struct fake_call *call)
{
    fake_call_read(call);
    md_arena_deinit(&call->fake.x.arena);
    md_block_unref(call->fake.x.body_block);
    for (size_t i = 0; i < call->message_count; i++) {
        md_bytes_deinit(&call->messages[i]);
    }
    md_bytes_deinit(&call->fake.body);
}

#endif
