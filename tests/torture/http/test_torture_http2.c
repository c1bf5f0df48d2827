/*
 * Sessions of HTTP/2 in which every allocation fails once, or all from one on: requests and calls
 * are answered right, refused or reset, or the connection ends; the next client is served as ever;
 * no byte of the budget stays behind, and every promise to a handler is kept.
 */
#include "component/http/fake_http2.h"
#include "torture/torture.h"

enum { BUDGET = 64 * 1024 * 1024, OUT_BYTES = 2 * 1024 * 1024, WAITS_MAX = 75 };

/* What one client asks, all at once. */
struct question {
    const char *path;
    bool is_grpc, packs;
    size_t bytes;          /* of the body or message */
    const char *answer;    /* NULL: the body */
    unsigned resets_after; /* steps; 0: never */
};

struct script {
    const struct question *questions;
    size_t count, recv_step, send_step;
};

static struct client client;

static struct md_bytes pack(struct md_str text)
{
    struct md_bytes out = {0};
    struct md_deflate *deflate;
    struct md_error err;
    size_t consumed, produced;

    assert_true(md_deflate_create(MD_CODING_GZIP, NULL, &deflate, &err));
    assert_true(md_bytes_reserve(&out, text.len + 1024));
    assert_int_equal(md_deflate_step(deflate, text.ptr, text.len, true, out.data, out.capacity,
                                     &consumed, &produced),
                     MD_PROGRESS_DONE);
    out.len = produced;
    md_deflate_destroy(deflate);
    return out;
}

static bool unpacks_to(struct md_str packed, struct md_str text)
{
    struct md_bytes out = {0};
    struct md_inflate *inflate;
    struct md_error err;
    size_t consumed, produced;

    assert_true(md_bytes_reserve(&out, text.len + 1));
    assert_true(md_inflate_create(MD_CODING_GZIP, NULL, &inflate, &err));
    bool ok = md_inflate_step(inflate, packed.ptr, packed.len, out.data, out.capacity, &consumed,
                              &produced, &err) == MD_PROGRESS_DONE &&
              md_str_eq(md_str_make(out.data, produced), text);
    md_inflate_destroy(inflate);
    md_bytes_deinit(&out);
    return ok;
}

static void ask(const struct question *q)
{
    const char *plain[] = {"accept-encoding", q->packs ? "gzip" : "identity",
                           q->packs ? "content-encoding" : NULL, "gzip", NULL};
    const char *grpc[] = {"content-type",
                          "application/grpc",
                          "grpc-accept-encoding",
                          q->packs ? "gzip" : "identity",
                          q->packs ? "grpc-encoding" : NULL,
                          "gzip",
                          NULL};
    struct md_bytes body = {0}, framed = {0};

    if (q->packs) {
        body = pack(md_str_make(big_bytes, q->bytes));
    } else {
        md_bytes_append(&body, big_bytes, q->bytes);
    }
    if (q->is_grpc) {
        grpc_frame(&framed, q->packs, md_bytes_view(&body));
    }
    struct client_call *call =
        client_ask(&client, q->bytes || q->is_grpc ? "POST" : "GET", q->path,
                   q->is_grpc ? grpc : plain, md_bytes_view(q->is_grpc ? &framed : &body), false);
    assert_true(md_bytes_reserve(&call->body, BIG_BYTES + 4096));
    md_bytes_deinit(&body);
    md_bytes_deinit(&framed);
}

static bool is_right(const struct question *q, const struct client_call *call)
{
    const struct md_str text = q->answer ? md_str_of(q->answer) : md_str_make(big_bytes, q->bytes);
    struct md_str body = md_bytes_view(&call->body);
    bool packed = call_says(call, "content-encoding: gzip\n");

    if (!call->ended || call->status != 200 || (q->is_grpc && call->grpc_status != 0)) {
        return false;
    }
    if (q->is_grpc) {
        if (body.len < MD_GRPC_PREFIX_BYTES ||
            md_http2_get_u32(body.ptr + 1) != body.len - MD_GRPC_PREFIX_BYTES) {
            return false;
        }
        packed = body.ptr[0] == 1;
        body = md_str_make(body.ptr + MD_GRPC_PREFIX_BYTES, body.len - MD_GRPC_PREFIX_BYTES);
    }
    return packed ? unpacks_to(body, text) : md_str_eq(body, text);
}

static bool is_refused(const struct client_call *call)
{
    return call->status == 503 || call->grpc_status == 8 || call->grpc_status == 14 ||
           (call->closed && call->error != MD_HTTP2_NO_ERROR) || client.conn.closed ||
           client.conn.shut_down;
}

static void judge(const struct torture *t, const struct script *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct client_call *call = &client.calls[i];
        if (!s->questions[i].resets_after && !is_right(&s->questions[i], call)) {
            torture_check(t, t->delivered && is_refused(call));
        }
    }
}

static bool all_closed(void)
{
    for (size_t i = 0; i < client.call_count; i++) {
        if (!client.calls[i].closed) {
            return false;
        }
    }
    return true;
}

static void talk(const struct script *s)
{
    bool resets = false;

    for (size_t i = 0; i < s->count; i++) {
        resets |= s->questions[i].resets_after;
    }
    for (unsigned step = 1; resets && step < 20 && !client.conn.closed; step++) {
        (void)client_exchange(&client);
        rig_turn(client.rig);
        if (!client.conn.closed && client.conn.in_at < client.conn.in.len) {
            client.conn.handler->ready(client.conn.handler_arg, MD_LOOP_READ);
        }
        for (size_t i = 0; i < s->count; i++) {
            if (s->questions[i].resets_after == step && !client.calls[i].closed) {
                client_reset(&client, &client.calls[i]);
            }
        }
    }
    client_run(&client);
    for (int wait = 0; wait < WAITS_MAX && !client.conn.closed && !all_closed(); wait++) {
        client_wait(&client, wait < 10 ? 10 : 1000);
    }
}

static void next_client_is_served(const struct torture *t, struct rig *rig)
{
    client_open(&client, rig);
    struct client_call *call =
        client_grpc(&client, "/g/plain-echo", md_str_make(big_bytes, 10), false);
    client_run(&client);
    torture_check(t, call->grpc_status == 0);
    client_close(&client);
}

static void torture_script(const struct script *s, enum md_fault_kind kind)
{
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct rig rig;
        http2_rig_open(&rig, BUDGET);
        client_open(&client, &rig);
        client.conn.recv_step = s->recv_step;
        client.conn.send_step = s->send_step ? s->send_step : SIZE_MAX;
        rig.stream_left = 3;
        for (size_t i = 0; i < s->count; i++) {
            ask(&s->questions[i]);
        }
        assert_true(md_bytes_reserve(&client.conn.in, OUT_BYTES));
        assert_true(md_bytes_reserve(&client.conn.out, OUT_BYTES));
        torture_arm(&t);
        talk(s);
        (void)torture_disarm(&t);
        judge(&t, s);
        client_hang_up(&client);
        torture_check(&t, client.conn.closed);
        client_free(&client);
        next_client_is_served(&t, &rig);
        http2_rig_close(&rig);
    }
}

static void test_torture_http2(void **state)
{
    const struct script *script = *state;

    torture_script(script, MD_FAULT_ALLOC);
    torture_script(script, MD_FAULT_REGION);
}

#define SCRIPT(name, ...)                                                                          \
    static const struct question name##_questions[] = {__VA_ARGS__};                               \
    static const struct script name##_script = {name##_questions, MD_COUNT_OF(name##_questions),   \
                                                0, 0};                                             \
    static const struct CMUnitTest name##_test = {"test_torture_http2_" #name, test_torture_http2, \
                                                  NULL, NULL, (void *)(uintptr_t)&name##_script}

SCRIPT(requests, {"/", false, false, 0, "hello", 0}, {"/echo", false, false, 3000, NULL, 0},
       {"/echo", false, false, 100000, NULL, 0}, {"/", false, false, 0, "hello", 0},
       {"/stream-at-once", false, false, 0, "one-two", 0},
       {"/stream", false, false, 0, "piece,piece,piece,", 0});
SCRIPT(packed_requests, {"/echo", false, true, 30, NULL, 0},
       {"/echo", false, true, 200000, NULL, 0});
SCRIPT(calls, {"/g/echo", true, false, 0, NULL, 0}, {"/g/echo", true, false, 3000, NULL, 0},
       {"/g/plain-echo", true, false, 100000, NULL, 0}, {"/g/stream", true, false, 50000, NULL, 0},
       {"/g/big", true, false, BIG_BYTES, NULL, 0}, {"/g/echo", true, false, 10, NULL, 0});
SCRIPT(packed_calls, {"/g/echo", true, true, 3000, NULL, 0},
       {"/g/echo", true, true, 200000, NULL, 0}, {"/g/packed-big", true, true, BIG_BYTES, NULL, 0},
       {"/g/packed-end-in-sent", true, true, BIG_BYTES, NULL, 0});
SCRIPT(resets, {"/g/big", true, false, BIG_BYTES, NULL, 3}, {"/g/hold", true, false, 10, NULL, 4},
       {"/g/packed-big", true, true, BIG_BYTES, NULL, 6}, {"/g/echo", true, true, 200000, NULL, 5},
       {"/g/stream-hold", true, false, 20000, NULL, 2}, {"/g/echo", true, false, 10, NULL, 0});

static const struct script in_small_pieces_script = {calls_questions, MD_COUNT_OF(calls_questions),
                                                     700, 900};
static const struct CMUnitTest in_small_pieces_test = {"test_torture_http2_in_small_pieces",
                                                       test_torture_http2, NULL, NULL,
                                                       (void *)(uintptr_t)&in_small_pieces_script};

int main(void)
{
    const struct CMUnitTest tests[] = {
        requests_test,     packed_requests_test, calls_test,
        packed_calls_test, resets_test,          in_small_pieces_test,
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
