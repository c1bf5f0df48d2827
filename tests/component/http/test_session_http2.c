/*
 * Sessions of HTTP/2 beside a client of another make: requests and gRPC calls of every shape,
 * however the bytes are cut; what is given up, by whom and when; limits of time.
 */
#include "component/http/fake_http2.h"

enum { BUDGET = 64 * 1024 * 1024, SECOND = 1000 };

static struct rig rig;
static struct client client;

static int set_up(void **state)
{
    (void)state;
    http2_rig_open(&rig, BUDGET);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http2_rig_close(&rig);
    return 0;
}

static struct md_str letters(size_t len)
{
    return md_str_make(big_bytes, len);
}

static void assert_body(const struct client_call *call, struct md_str body)
{
    assert_int_equal(call->body.len, body.len);
    assert_true(!body.len || memcmp(call->body.data, body.ptr, body.len) == 0);
}

/* One message, not compressed, and OK. */
static void assert_message(const struct client_call *call, struct md_str message)
{
    struct md_bytes framed = {0};

    grpc_frame(&framed, 0, message);
    assert_body(call, md_bytes_view(&framed));
    assert_int_equal(call->grpc_status, 0);
    assert_int_equal(call->status, 200);
    assert_true(call->ended && call->closed);
    md_bytes_deinit(&framed);
}

static struct md_bytes packed(enum md_coding coding, struct md_str text)
{
    struct md_bytes out = {0};
    struct md_deflate *deflate;
    struct md_error err;
    size_t consumed, produced;

    assert_true(md_deflate_create(coding, NULL, &deflate, &err));
    assert_true(md_bytes_reserve(&out, text.len + 1024));
    assert_int_equal(md_deflate_step(deflate, text.ptr, text.len, true, out.data, out.capacity,
                                     &consumed, &produced),
                     MD_PROGRESS_DONE);
    out.len = produced;
    md_deflate_destroy(deflate);
    return out;
}

/* --- requests -------------------- */

struct cut {
    size_t recv_step, send_step;
};

static const struct cut cuts[] = {{0, SIZE_MAX}, {1, 1}, {7, 11}, {9, 16384}, {4096, 100}};

static void test_session_http2_answers_requests_however_bytes_are_cut(void **state)
{
    static const struct {
        const char *method, *path;
        size_t body;
        unsigned status;
        const char *answer; /* NULL: the body */
    } asked[] = {
        {"GET", "/", 0, 200, "hello"},
        {"HEAD", "/", 0, 200, ""},
        {"GET", "/nowhere?x=1", 0, 404, "nothing here"},
        {"POST", "/echo", 1, 200, NULL},
        {"POST", "/echo", 3000, 200, NULL},
        {"POST", "/echo", 20000, 200, NULL},
        {"POST", "/lead", 5000, 200, NULL},
        {"POST", "/refuse", 100, 403, "no"},
        {"POST", "/hundred", 100, 200, NULL},
        {"GET", "/stream-at-once", 0, 200, "one-two"},
        {"POST", "/stream-at-head", 10, 200, "one-two"},
        {"HEAD", "/stream-at-once", 0, 200, ""},
        {"GET", "/stream", 0, 200, "piece,piece,piece,"},
        {"HEAD", "/stream", 0, 200, ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cuts); i++) {
        client_open(&client, &rig);
        client.conn.recv_step = cuts[i].recv_step;
        client.conn.send_step = cuts[i].send_step;
        for (size_t j = 0; j < MD_COUNT_OF(asked); j++) {
            rig.stream_left = 3;
            struct client_call *call = client_ask(&client, asked[j].method, asked[j].path, NULL,
                                                  letters(asked[j].body), false);
            client_run(&client);
            assert_int_equal(call->status, asked[j].status);
            assert_true(call->closed && call->ended);
            assert_int_equal(call->error, MD_HTTP2_NO_ERROR);
            assert_body(call,
                        asked[j].answer ? md_str_of(asked[j].answer) : letters(asked[j].body));
        }
        client_close(&client);
        assert_int_equal(http2_logged, MD_COUNT_OF(asked) * (i + 1));
    }
}

static void test_session_http2_answers_many_requests_at_once(void **state)
{
    enum { COUNT = 90 };

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < COUNT; i++) {
        const size_t bytes = i % 3 == 0 ? 20000 : i;
        (void)client_ask(&client, "POST", "/echo", NULL, letters(bytes), false);
    }
    client_run(&client);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(client.calls[i].status, 200);
        assert_body(&client.calls[i], letters(i % 3 == 0 ? 20000 : i));
    }
    client_close(&client);
}

static void test_session_http2_takes_and_gives_large_bodies(void **state)
{
    static const size_t sizes[] = {65535, 65536, 200000, BIG_BYTES};

    (void)state;
    for (size_t sized = 0; sized < 2; sized++) {
        client_open(&client, &rig);
        client.conn.send_step = 60000;
        for (size_t i = 0; i < MD_COUNT_OF(sizes); i++) {
            char length[24];
            (void)snprintf(length, sizeof length, "%zu", sizes[i]);
            const char *fields[] = {"content-length", length, NULL};
            struct client_call *call = client_ask(&client, "POST", "/echo", sized ? fields : NULL,
                                                  letters(sizes[i]), false);
            client_run(&client);
            assert_int_equal(call->status, 200);
            assert_body(call, letters(sizes[i]));
        }
        client_close(&client);
    }
}

static void test_session_http2_unpacks_requests_and_packs_answers(void **state)
{
    static const struct {
        enum md_coding coding;
        const char *name;
        size_t size;
    } table[] = {{MD_CODING_GZIP, "gzip", 10},
                 {MD_CODING_GZIP, "gzip", BIG_BYTES},
                 {MD_CODING_DEFLATE, "deflate", BIG_BYTES}};

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        const char *fields[] = {"content-encoding", table[i].name, "accept-encoding", table[i].name,
                                NULL};
        struct md_bytes body = packed(table[i].coding, letters(table[i].size));
        struct client_call *call =
            client_ask(&client, "POST", "/echo", fields, md_bytes_view(&body), false);
        client_run(&client);
        assert_int_equal(call->status, 200);
        if (table[i].size > 1024) {
            assert_body(call, md_bytes_view(&body));
            assert_true(call_says(call, "content-encoding: "));
        } else {
            assert_body(call, letters(table[i].size));
        }
        md_bytes_deinit(&body);
    }
    client_close(&client);
}

static void test_session_http2_refuses_what_it_cannot_take(void **state)
{
    static const struct {
        const char *path, *name, *value;
        size_t body;
        unsigned status;
        enum md_http2_error error;
    } table[] = {
        {"/hundred", NULL, NULL, 101, 413, MD_HTTP2_NO_ERROR},
        {"/hundred", "content-length", "101", 101, 413, MD_HTTP2_NO_ERROR},
        {"/echo", "content-encoding", "br", 10, 501, MD_HTTP2_NO_ERROR},
        {"/echo", "content-encoding", "gzip", 10, 400, MD_HTTP2_NO_ERROR},
        {"/echo", "content-length", "9", 10, 0, MD_HTTP2_PROTOCOL_ERROR},
        {"/echo", "content-length", "11", 10, 0, MD_HTTP2_PROTOCOL_ERROR},
        {"/echo", "content-length", "x", 10, 0, MD_HTTP2_PROTOCOL_ERROR},
        {"/echo", "connection", "close", 10, 0, MD_HTTP2_PROTOCOL_ERROR},
        {"/echo", "te", "gzip", 10, 0, MD_HTTP2_PROTOCOL_ERROR},
    };

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        const char *fields[] = {table[i].name, table[i].value, NULL};
        struct client_call *call =
            client_ask(&client, "POST", table[i].path, fields, letters(table[i].body), false);
        client_run(&client);
        assert_int_equal(call->status, table[i].status);
        assert_true(call->closed);
        assert_int_equal(call->error, table[i].error);
    }
    assert_int_equal(rig.requests, 0);
    client_close(&client);
}

static void test_session_http2_refuses_heads_that_are_too_large(void **state)
{
    char value[5000];

    (void)state;
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    client_open(&client, &rig);
    const char *fields[] = {"x", value, "y", value, NULL};
    struct client_call *call = client_ask(&client, "GET", "/", fields, MD_STR(""), false);
    client_run(&client);
    assert_int_equal(call->status, 431);
    call = client_ask(&client, "GET", "/", NULL, MD_STR(""), false);
    client_run(&client);
    assert_int_equal(call->status, 200);
    client_close(&client);
}

static void test_session_http2_says_continue(void **state)
{
    const char *fields[] = {"expect", "100-continue", NULL};

    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_ask(&client, "POST", "/echo", fields, MD_STR(""), true);
    client_run(&client);
    assert_int_equal(call->status, 100);
    client_say(&client, call, letters(10), false);
    client_run(&client);
    assert_int_equal(call->status, 200);
    assert_body(call, letters(10));
    client_close(&client);
}

static void test_session_http2_resets_answers_that_cannot_be_completed(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_ask(&client, "GET", "/abort", NULL, MD_STR(""), false);
    client_run(&client);
    assert_int_equal(call->status, 200);
    assert_false(call->ended);
    assert_int_equal(call->error, MD_HTTP2_INTERNAL_ERROR);
    client_close(&client);
}

static void test_session_http2_packs_answers_piece_by_piece(void **state)
{
    static const char *const paths[] = {"/stream", "/stream-at-once"};
    static const char *const texts[] = {"piece,piece,piece,", "one-two"};
    const char *fields[] = {"accept-encoding", "gzip", NULL};

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        struct md_inflate *inflate;
        struct md_error err;
        char text[64];
        size_t consumed, produced;
        rig.stream_left = 3;
        struct client_call *call = client_ask(&client, "GET", paths[i], fields, MD_STR(""), false);
        client_run(&client);
        assert_true(call->ended && call_says(call, "content-encoding: gzip\n"));
        assert_true(md_inflate_create(MD_CODING_GZIP, NULL, &inflate, &err));
        assert_int_equal(md_inflate_step(inflate, call->body.data, call->body.len, text,
                                         sizeof text, &consumed, &produced, &err),
                         MD_PROGRESS_DONE);
        assert_true(md_str_eq_c(md_str_make(text, produced), texts[i]));
        md_inflate_destroy(inflate);
    }
    client_close(&client);
}

static void test_session_http2_says_what_servers_say(void **state)
{
    static const struct md_str origins[] = {MD_STR("http://o")};
    const char *fields[] = {"origin", "http://o", "access-control-request-method", "POST", NULL};
    static const struct {
        const char *method, *path;
        unsigned status;
        const char *says;
    } table[] = {
        {"GET", "/", 200, "server: me\n"},
        {"GET", "/", 200, "date: "},
        {"GET", "/", 200, "access-control-allow-origin: http://o\n"},
        {"GET", "/no-method", 405, "allow: GET, HEAD\n"},
        {"OPTIONS", "/echo", 204, "access-control-allow-methods: "},
    };

    (void)state;
    rig.config.server_name = "me";
    rig.config.cors_origins = origins;
    rig.config.cors_origin_count = MD_COUNT_OF(origins);
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct client_call *call =
            client_ask(&client, table[i].method, table[i].path, fields, MD_STR(""), false);
        client_run(&client);
        assert_int_equal(call->status, table[i].status);
        if (!call_says(call, table[i].says)) {
            fail_msg("row %zu: %s", i, call->fields);
        }
    }
    client_close(&client);
}

static void say_trailers(struct client_call *call, const char *hex_block, size_t len)
{
    char frame[64];

    client_run(&client);
    md_http2_put_frame(
        frame, &(struct md_http2_frame){len, MD_HTTP2_HEADERS_FRAME, 5, (uint32_t)call->id});
    memcpy(frame + MD_HTTP2_FRAME_HEAD_BYTES, hex_block, len);
    client_say_raw(&client, frame, MD_HTTP2_FRAME_HEAD_BYTES + len);
}

static void test_session_http2_takes_trailers(void **state)
{
    static const char good[] = "\0\1a\1b", bad[] = "\0\1A\1b";

    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_ask(&client, "POST", "/echo", NULL, letters(9), true);
    say_trailers(call, good, sizeof good - 1);
    assert_int_equal(call->status, 200);
    assert_body(call, letters(9));
    call = client_grpc(&client, "/g/plain-echo", letters(5), true);
    say_trailers(call, good, sizeof good - 1);
    assert_int_equal(call->grpc_status, 0);
    call = client_ask(&client, "POST", "/echo", NULL, letters(9), true);
    say_trailers(call, bad, sizeof bad - 1);
    assert_int_equal(call->status, 0);
    assert_int_equal(call->error, MD_HTTP2_PROTOCOL_ERROR);
    client_close(&client);
}

static void test_session_http2_refuses_bodies_that_grow_too_large(void **state)
{
    (void)state;
    rig.config.max_body_bytes = 100000;
    client_open(&client, &rig);
    client.conn.recv_step = 5000; /* in place, too */
    struct client_call *call =
        client_ask(&client, "POST", "/echo", NULL, letters(BIG_BYTES), false);
    client_run(&client);
    assert_int_equal(call->status, 413);
    call = client_ask(&client, "POST", "/echo", NULL, letters(100000), false);
    client_run(&client);
    assert_int_equal(call->status, 200);
    client_close(&client);
}

/* --- calls -------------------- */

static void test_session_http2_answers_unary_calls_however_bytes_are_cut(void **state)
{
    static const size_t sizes[] = {0, 1, 64, 2048, 2049, 20000};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cuts); i++) {
        client_open(&client, &rig);
        client.conn.recv_step = cuts[i].recv_step;
        client.conn.send_step = cuts[i].send_step;
        for (size_t j = 0; j < MD_COUNT_OF(sizes); j++) {
            struct client_call *call =
                client_grpc(&client, "/g/plain-echo", letters(sizes[j]), false);
            client_run(&client);
            assert_message(call, letters(sizes[j]));
        }
        client_close(&client);
    }
}

static void test_session_http2_ends_calls_as_their_methods_say(void **state)
{
    static const struct {
        const char *path;
        unsigned status;
        int grpc_status;
        const char *says;
    } table[] = {
        {"/g/fail", 200, 5, "grpc-message: 100 %25 %C3%A4\n"},
        {"/g/fail", 200, 5, "x-why: because\nx-why-bin: AQI=\n"},
        {"/g/fail", 200, 5, "grpc-status-details-bin: "},
        {"/g/head", 200, 5, "content-type: application/grpc\n"},
        {"/g/not-here", 404, -1, "content-type: text/plain\n"},
        {"/nowhere", 404, -1, ""},
    };

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct client_call *call = client_grpc(&client, table[i].path, letters(9), false);
        client_run(&client);
        assert_int_equal(call->status, table[i].status);
        assert_int_equal(call->grpc_status, table[i].grpc_status);
        assert_true(call->ended && call->closed);
        assert_true(call_says(call, table[i].says));
    }
    client_close(&client);
}

static void test_session_http2_refuses_calls_that_break_the_framing(void **state)
{
    static const struct {
        const char *name, *value, *body;
        size_t len;
        int grpc_status;
    } table[] = {
        {NULL, NULL, "", 0, 13},                              /* no message */
        {NULL, NULL, "\0\0\0", 3, 13},                        /* half a prefix */
        {NULL, NULL, "\0\0\0\0\5abc", 8, 13},                 /* half a message */
        {NULL, NULL, "\2\0\0\0\1a", 6, 13},                   /* a flag of no meaning */
        {NULL, NULL, "\1\0\0\0\1a", 6, 13},                   /* compressed by nothing */
        {"grpc-encoding", "identity", "\1\0\0\0\1a", 6, 13},  /* the same */
        {"grpc-encoding", "gzip", "\1\0\0\0\1a", 6, 3},       /* not gzip */
        {"grpc-encoding", "br", "\0\0\0\0\1a", 6, 12},        /* unknown */
        {NULL, NULL, "\0\0\0\0\1a\0\0\0\0\1b", 12, 13},       /* two messages */
        {NULL, NULL, "\0\xff\0\0\0a", 6, 8},                  /* too large */
        {"grpc-timeout", "1x", "\0\0\0\0\1a", 6, 13},         /* no time */
        {"grpc-timeout", "123456789S", "\0\0\0\0\1a", 6, 13}, /* too many digits */
    };

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        const char *fields[] = {"content-type", "application/grpc+proto", table[i].name,
                                table[i].value, NULL};
        struct client_call *call = client_ask(&client, "POST", "/g/echo", fields,
                                              md_str_make(table[i].body, table[i].len), false);
        client_run(&client);
        if (call->grpc_status != table[i].grpc_status) {
            fail_msg("row %zu: %d", i, call->grpc_status);
        }
        assert_int_equal(call->status, 200);
        assert_true(call->closed);
    }
    assert_int_equal(rig.requests, 0);
    client_close(&client);
}

/* The limit is one of messages: what the whole call has, or says that it has, is none. */
static void test_session_http2_bounds_messages_as_their_methods_say(void **state)
{
    static const struct {
        const char *path, *length;
        size_t bytes;
        int grpc_status;
    } table[] = {
        {"/g/hundred", NULL, 100, 0},
        {"/g/hundred", NULL, 101, 8},
        {"/g/hundred", "105", 100, 0},
        {"/g/plain-echo", "200005", 200000, 0}, /* beyond the limit of bodies */
    };

    (void)state;
    rig.config.max_body_bytes = 100000;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        const char *const name = table[i].length ? "content-length" : NULL;
        struct client_call *call = client_call_with(&client, table[i].path, name, table[i].length,
                                                    letters(table[i].bytes), false);
        client_run(&client);
        assert_int_equal(call->grpc_status, table[i].grpc_status);
        if (table[i].grpc_status == 0) {
            assert_message(call, letters(table[i].bytes));
        }
    }
    client_close(&client);
}

static void test_session_http2_unpacks_and_packs_messages(void **state)
{
    static const struct {
        const char *encoding, *accepts, *path;
        enum md_coding coding;
        size_t size;
        bool packs;
    } table[] = {
        {"gzip", "gzip", "/g/echo", MD_CODING_GZIP, BIG_BYTES, true},
        {"deflate", "br, deflate", "/g/echo", MD_CODING_DEFLATE, BIG_BYTES, true},
        {"gzip", "identity", "/g/echo", MD_CODING_GZIP, 1000, false},
        {"gzip", "gzip", "/g/echo", MD_CODING_GZIP, 255, false},
        {"gzip", "gzip", "/g/echo", MD_CODING_GZIP, 0, false},
        {"gzip", "gzip", "/g/plain-echo", MD_CODING_GZIP, 5000, false},
        {"gzip", "gzip", "/g/stream", MD_CODING_GZIP, 5000, false},
    };

    (void)state;
    client_open(&client, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        const char *fields[] = {"content-type",
                                "application/grpc",
                                "grpc-encoding",
                                table[i].encoding,
                                "grpc-accept-encoding",
                                table[i].accepts,
                                NULL};
        struct md_bytes body = packed(table[i].coding, letters(table[i].size)), framed = {0};
        grpc_frame(&framed, 1, md_bytes_view(&body));
        struct client_call *call =
            client_ask(&client, "POST", table[i].path, fields, md_bytes_view(&framed), false);
        client_run(&client);
        if (table[i].packs) {
            assert_body(call, md_bytes_view(&framed));
            assert_int_equal(call->grpc_status, 0);
            assert_true(call_says(call, "grpc-encoding: "));
        } else {
            assert_message(call, letters(table[i].size));
        }
        md_bytes_deinit(&body);
        md_bytes_deinit(&framed);
    }
    client_close(&client);
}

static void test_session_http2_streams_messages_both_ways(void **state)
{
    static const size_t sizes[] = {0, 5, 0, 3000, 70000, 1};
    struct md_bytes all = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(sizes); i++) {
        grpc_frame(&all, 0, letters(sizes[i]));
    }
    for (size_t i = 0; i < MD_COUNT_OF(cuts); i++) {
        const char *fields[] = {"content-type", "application/grpc", NULL};
        client_open(&client, &rig);
        client.conn.recv_step = cuts[i].recv_step == 1 ? 5 : cuts[i].recv_step;
        client.conn.send_step = cuts[i].send_step == 1 ? 100 : cuts[i].send_step;
        struct client_call *call =
            client_ask(&client, "POST", "/g/stream", fields, md_bytes_view(&all), true);
        client_run(&client);
        assert_body(call, md_bytes_view(&all));
        assert_false(call->ended);
        client_say(&client, call, MD_STR(""), false);
        client_run(&client);
        assert_int_equal(call->grpc_status, 0);
        assert_true(call->ended);
        client_close(&client);
    }
    assert_int_equal(methods_seen.messages, MD_COUNT_OF(sizes) * MD_COUNT_OF(cuts));
    md_bytes_deinit(&all);
}

static void test_session_http2_holds_messages_back_while_paused(void **state)
{
    enum { MESSAGES = 200, BYTES = 1000 };
    unsigned turns = 0;

    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_grpc(&client, "/g/stream-pause", letters(BYTES), true);
    for (int i = 1; i < MESSAGES; i++) {
        client_send_message(&client, call, letters(BYTES), i + 1 < MESSAGES);
    }
    client_run(&client);
    assert_int_equal(methods_seen.messages, 1);
    /* no more than the window was taken */
    assert_true(call->says_at <= 70000);
    for (; rig.held; turns++) {
        struct md_exchange *x = rig.held;
        rig.held = NULL;
        resume(x);
        client_run(&client);
    }
    assert_int_equal(turns, MESSAGES);
    assert_int_equal(methods_seen.messages, MESSAGES);
    assert_int_equal(call->body.len, MESSAGES * (BYTES + 5));
    assert_int_equal(call->grpc_status, 0);
    client_close(&client);
}

static void test_session_http2_ends_a_call_before_its_client_has(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_grpc(&client, "/g/stream-early", letters(10), true);
    client_run(&client);
    assert_int_equal(call->grpc_status, 5);
    assert_true(call->closed);
    assert_int_equal(call->error, MD_HTTP2_NO_ERROR);
    assert_int_equal(rig.requests, 0);
    client_close(&client);
}

static void test_session_http2_tells_when_messages_have_left(void **state)
{
    static const char *const paths[] = {"/g/big", "/g/packed-big", "/g/end-in-sent",
                                        "/g/packed-end-in-sent", "/g/stream-big"};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        client_open(&client, &rig);
        client.conn.send_step = 10000;
        struct client_call *call =
            client_call_with(&client, paths[i], "grpc-accept-encoding", "gzip", letters(1), false);
        client_run(&client);
        assert_int_equal(call->grpc_status, 0);
        if (strstr(paths[i], "packed")) {
            assert_int_equal(call->body.data[0], 1);
        } else {
            assert_message(call, letters(BIG_BYTES));
        }
        client_close(&client);
        assert_int_equal(methods_seen.sends, i + 1);
        assert_int_equal(methods_seen.sent, i + 1);
    }
}

/* --- giving up -------------------- */

/* Everything that a client may have under way when it goes. */
static const struct {
    const char *path;
    size_t message;
    bool says_more, packs, holds;
} stages[] = {
    {"/g/hold", 10, false, false, true},
    {"/g/hold-on", 10, false, false, true},
    {"/g/hold", 10, true, false, false},
    {"/g/echo", 100000, true, false, false},
    {"/g/echo", BIG_BYTES, false, true, false},
    {"/g/big", 10, false, false, false},
    {"/g/packed-big", 10, false, false, false},
    {"/g/end-in-sent", 10, false, false, false},
    {"/g/packed-end-in-sent", 10, false, false, false},
    {"/g/stream", 10, true, false, false},
    {"/g/stream-pause", 5000, true, false, true},
    {"/g/stream-hold", 10, true, false, true},
    {"/g/stream-hold", 10, false, false, true},
    {"/g/stream-big", 10, true, false, false},
    {"/g/stream", BIG_BYTES, true, true, false},
};

static struct client_call *ask_stage(size_t i)
{
    const char *fields[] = {"content-type",
                            "application/grpc",
                            "grpc-encoding",
                            "gzip",
                            "grpc-accept-encoding",
                            "gzip",
                            NULL};
    struct md_bytes body = {0}, framed = {0};

    if (stages[i].packs) {
        body = packed(MD_CODING_GZIP, letters(stages[i].message));
    } else {
        md_bytes_append_str(&body, letters(stages[i].message));
    }
    grpc_frame(&framed, stages[i].packs, md_bytes_view(&body));
    struct client_call *call = client_ask(&client, "POST", stages[i].path, fields,
                                          md_bytes_view(&framed), stages[i].says_more);
    md_bytes_deinit(&body);
    md_bytes_deinit(&framed);
    return call;
}

/* A few steps of both sides, so that something is under way. */
static void client_steps(unsigned steps)
{
    struct md_conn *conn = &client.conn;

    for (unsigned i = 0; i < steps; i++) {
        (void)client_exchange(&client);
        rig_turn(&rig);
        if (!conn->closed && conn->in_at < conn->in.len && (conn->want & MD_LOOP_READ)) {
            conn->handler->ready(conn->handler_arg, MD_LOOP_READ);
        }
        if (!conn->closed && conn->send_room && (conn->want & MD_LOOP_WRITE)) {
            conn->handler->ready(conn->handler_arg, MD_LOOP_WRITE);
        }
    }
}

static void answer_held(void)
{
    if (rig.held) {
        struct md_exchange *x = rig.held;
        rig.held = NULL;
        end_call(x, NULL);
        rig_turn(&rig);
        rig_turn(&rig);
    }
}

static void test_session_http2_bears_resets_at_every_stage(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(stages); i++) {
        for (unsigned steps = 1; steps < 40; steps++) {
            client_open(&client, &rig);
            client.conn.recv_step = 3000;
            client.conn.send_step = 20000;
            struct client_call *call = ask_stage(i);
            client_steps(steps);
            if (!call->closed) {
                client_reset(&client, call);
            }
            client_run(&client);
            answer_held();
            /* the connection is as good as before */
            struct client_call *next = client_grpc(&client, "/g/plain-echo", letters(7), false);
            client_run(&client);
            assert_message(next, letters(7));
            client_close(&client);
        }
    }
}

static void test_session_http2_bears_loss_of_the_connection_at_every_stage(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(stages); i++) {
        for (unsigned steps = 1; steps < 80; steps++) {
            client_open(&client, &rig);
            client.conn.recv_step = 3000;
            client.conn.send_step = 20000;
            client.conn.send_room = steps % 2 ? SIZE_MAX : 100000;
            (void)ask_stage(i);
            client_steps(steps / 2);
            client.conn.broken = steps % 4 < 2;
            client_hang_up(&client);
            assert_true(client.conn.closed);
            answer_held();
            client_free(&client);
            assert_null(rig.list.first);
        }
    }
}

static void test_session_http2_is_aborted_at_every_stage(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(stages); i++) {
        for (unsigned steps = 1; steps < 40; steps++) {
            client_open(&client, &rig);
            client.conn.recv_step = 3000;
            client.conn.send_step = 20000;
            (void)ask_stage(i);
            client_steps(steps);
            md_session_list_abort(&rig.list);
            assert_true(client.conn.closed);
            rig_turn(&rig);
            answer_held();
            rig_turn(&rig);
            rig_turn(&rig);
            client_free(&client);
            assert_null(rig.list.first);
        }
    }
}

/* One that is told that nobody waits may end others of its connection, which go before their turn.
 */
static void test_session_http2_bears_handlers_that_end_others(void **state)
{
    enum { COUNT = 5 };

    (void)state;
    for (int how = 0; how < 5; how++) {
        client_open(&client, &rig);
        for (int i = 0; i < COUNT; i++) {
            (void)client_call_with(&client, "/g/hold-all", how == 3 ? "grpc-timeout" : NULL, "1S",
                                   letters(3), false);
        }
        client_run(&client);
        if (how == 0) {
            client_hang_up(&client);
        } else if (how == 1) {
            md_session_list_abort(&rig.list);
            rig_turn(&rig);
        } else if (how == 2) {
            client_reset(&client, &client.calls[2]);
        } else if (how == 3) {
            client_wait(&client, 2 * SECOND);
        } else {
            (void)client_grpc(&client, "/g/end-all", letters(1), false);
        }
        client_run(&client);
        assert_null(methods_seen.held);
        if (how < 2) {
            assert_true(client.conn.closed);
            client_free(&client);
            continue;
        }
        for (int i = 0; i < COUNT; i++) {
            assert_true(client.calls[i].closed);
        }
        client_close(&client);
    }
}

static void test_session_http2_tells_plain_handlers_that_nobody_waits(void **state)
{
    static const struct {
        const char *path;
        bool answers;
    } table[] = {{"/slow", true}, {"/slow", false}, {"/hold-stream", true}, {"/stream", true}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        for (int hangs_up = 0; hangs_up < 2; hangs_up++) {
            client_open(&client, &rig);
            rig.stream_left = UINT32_MAX;
            rig.answer_on_cancel = table[i].answers;
            client.conn.send_room = 200;
            struct client_call *call =
                client_ask(&client, "GET", table[i].path, NULL, MD_STR(""), false);
            client_steps(20);
            if (hangs_up) {
                client_hang_up(&client);
            } else {
                client_reset(&client, call);
                client_steps(20);
                client.conn.send_room = SIZE_MAX;
                client_run(&client);
            }
            if (rig.held) {
                struct md_exchange *x = rig.held;
                rig.held = NULL;
                respond_text(x, 200, MD_STR("too late"));
            }
            client_close(&client);
        }
    }
}

/* --- time -------------------- */

static void test_session_http2_ends_calls_whose_time_is_over(void **state)
{
    static const struct {
        const char *path, *timeout;
        bool says_more;
        unsigned wait_ms;
        int grpc_status;
    } table[] = {
        {"/g/hold", "1S", false, 999, -1},
        {"/g/hold", "1S", false, 1000, 4},
        {"/g/hold", "0S", false, 0, 4},
        {"/g/hold", "99999999H", false, 10000, -1},
        {"/g/hold-on", "500m", false, 600, 4},
        {"/g/stream-hold", "500m", true, 600, 4},
        {"/g/stream-pause", "500m", true, 600, 4},
        {"/g/echo", "500m", true, 600, 4},
        {"/g/plain-echo", "1S", false, 2000, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        client_open(&client, &rig);
        struct client_call *call =
            client_call_with(&client, table[i].path, "grpc-timeout", table[i].timeout, letters(5),
                             table[i].says_more);
        client_run(&client);
        client_wait(&client, table[i].wait_ms);
        if (call->grpc_status != table[i].grpc_status) {
            fail_msg("row %zu: %d", i, call->grpc_status);
        }
        answer_held();
        client_run(&client);
        assert_true(call->closed);
        client_close(&client);
    }
}

static void test_session_http2_delivers_nothing_after_the_end(void **state)
{
    (void)state;
    /* its time is over while the message is unpacked */
    for (unsigned steps = 1; steps < 30; steps++) {
        const char *fields[] = {"content-type",
                                "application/grpc",
                                "grpc-encoding",
                                "gzip",
                                "grpc-timeout",
                                "1S",
                                NULL};
        struct md_bytes body = packed(MD_CODING_GZIP, letters(BIG_BYTES)), framed = {0};
        client_open(&client, &rig);
        grpc_frame(&framed, 1, md_bytes_view(&body));
        struct client_call *call =
            client_ask(&client, "POST", "/g/stream", fields, md_bytes_view(&framed), true);
        client_steps(steps);
        virtual_ns += 2 * (uint64_t)MD_NS_PER_S;
        client_run(&client);
        assert_int_equal(call->grpc_status, 4);
        md_bytes_deinit(&body);
        md_bytes_deinit(&framed);
        client_close(&client);
    }
}

/* Each of these waits for something that does not come. */
static void test_session_http2_waits_for_requests_only_so_long(void **state)
{
    static const char half_frame[] = {0, 0, 8, 6};                           /* of a PING */
    static const char half_head[] = {0, 0, 1, 1, 0, 0, 0, 0, 1, (char)0x82}; /* no END_HEADERS */

    (void)state;
    client_open(&client, &rig);
    client_run(&client);
    client_wait(&client, 59 * SECOND);
    assert_int_equal(client.goaways, 0);
    client_wait(&client, 1 * SECOND);
    assert_int_equal(client.goaways, 1);
    assert_int_equal(client.goaway_error, MD_HTTP2_NO_ERROR);
    assert_true(client.conn.shut_down);
    client_wait(&client, 2 * SECOND);
    assert_true(client.conn.closed);
    client_free(&client);

    client_open(&client, &rig);
    client_run(&client);
    client_wait(&client, 20 * SECOND);
    client_say_raw(&client, half_frame, sizeof half_frame);
    client_wait(&client, 6 * SECOND);
    client_say_raw(&client, "", 1); /* a byte does not buy time */
    client_wait(&client, 4 * SECOND);
    assert_true(client.conn.closed);
    client_free(&client);

    client_open(&client, &rig);
    client_run(&client);
    client_wait(&client, 20 * SECOND);
    client.deaf = true; /* its library knows nothing of this request */
    client_say_raw(&client, half_head, sizeof half_head);
    client_wait(&client, 9 * SECOND);
    assert_int_equal(client_session(&client)->h2.stream_count, 1);
    client_wait(&client, 1 * SECOND);
    assert_int_equal(client_session(&client)->h2.stream_count, 0);
    client_close(&client);
}

static void test_session_http2_waits_for_bodies_only_so_long(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *plain = client_ask(&client, "POST", "/echo", NULL, letters(5), true);
    struct client_call *call = client_grpc(&client, "/g/stream", letters(5), true);
    client_say(&client, call, md_str_make("\0\0", 2), true);
    client_run(&client);
    client_wait(&client, 19 * SECOND);
    client_say(&client, plain, letters(1), true);
    client_run(&client);
    client_wait(&client, 1 * SECOND);
    assert_int_equal(plain->status, 200 * 0);
    client_wait(&client, 18 * SECOND);
    client_wait(&client, 1 * SECOND);
    assert_int_equal(plain->status, 408);
    client_close(&client);
}

/* For a moment it is left to gather in the socket. */
static void test_session_http2_waits_for_much_of_a_large_body_at_once(void **state)
{
    static const char head[] = "\0\x40\0\0\0\0\0\0\x01"; /* DATA of 16 KiB */
    char length[24];
    const char *fields[] = {"content-length", length, NULL};

    (void)state;
    (void)snprintf(length, sizeof length, "%d", BIG_BYTES);
    client_open(&client, &rig);
    struct client_call *call = client_ask(&client, "POST", "/echo", fields, MD_STR(""), true);
    client_run(&client);
    client_say_raw(&client, head, sizeof head - 1);
    client_say_raw(&client, letters(5000).ptr, 5000);
    assert_in_range(client.conn.low_water, 65536, BIG_BYTES - 5000);
    client_wait(&client, MD_HTTP2_BULK_WAIT_MS);
    assert_int_equal(client.conn.low_water, 1);
    client_say_raw(&client, letters(5000).ptr, 5000); /* a client that is slow */
    assert_int_equal(client.conn.low_water, 1);
    assert_int_equal(call->status, 0);
    client_close(&client);
}

static void test_session_http2_lets_streams_of_messages_be_silent(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_grpc(&client, "/g/stream", letters(50000), true);
    client_run(&client);
    client_wait(&client, 3600 * SECOND); /* also after answers that had to wait for their window */
    assert_false(call->closed);
    client_say(&client, call, MD_STR(""), false);
    client_run(&client);
    assert_message(call, letters(50000));
    client_close(&client);
}

static void grant(struct client_call *call, int32_t bytes)
{
    assert_int_equal(nghttp2_session_consume(client.ng, call->id, (size_t)bytes), 0);
}

static void test_session_http2_serves_slow_readers_but_not_those_that_stop(void **state)
{
    enum { BYTES = 40000 };

    (void)state;
    client_open_with(&client, &rig, true, NULL, 0);
    struct client_call *call = client_grpc(&client, "/g/big", letters(1), false);
    client_run(&client);
    assert_int_equal(call->body.len, MD_HTTP2_WINDOW_DEFAULT);
    while (call->body.len + BYTES < BIG_BYTES) { /* together much longer than the limit */
        client_wait(&client, 15 * SECOND);
        assert_false(call->closed);
        grant(call, BYTES);
        client_run(&client);
    }
    client_wait(&client, 15 * SECOND);
    assert_false(call->closed);
    client_wait(&client, 15 * SECOND);
    client_wait(&client, 15 * SECOND);
    assert_true(call->closed);
    assert_int_equal(call->error, MD_HTTP2_CANCEL);
    client_close(&client);
}

static void test_session_http2_leaves_a_client_that_does_not_read(void **state)
{
    (void)state;
    client_open(&client, &rig);
    client.conn.send_room = 1000;
    client.conn.unsent = 1000;
    (void)client_grpc(&client, "/g/big", letters(1), false);
    client_run(&client);
    client_wait(&client, 19 * SECOND);
    assert_false(client.conn.closed);
    client.conn.unsent = 500; /* it has read something */
    client_wait(&client, 1 * SECOND);
    assert_false(client.conn.closed);
    client_wait(&client, 20 * SECOND);
    assert_true(client.conn.closed);
    client_free(&client);
}

/* HEAD /: its answer is a head, which ends the stream at once. */
static const char head_request[] = {0, 0, 8,   1,   5,   0,   0,          0,         0,
                                    2, 4, 'H', 'E', 'A', 'D', (char)0x86, (char)0x84};

static void test_session_http2_takes_no_more_from_a_client_that_does_not_read(void **state)
{
    enum { ROUNDS = 400, AT_ONCE = 50 };
    size_t asked = 0;
    char frame[sizeof head_request];

    (void)state;
    client_open(&client, &rig);
    client_run(&client);
    client.deaf = true;
    client.conn.send_room = 0;
    for (; asked < (size_t)ROUNDS * AT_ONCE; asked++) {
        memcpy(frame, head_request, sizeof frame);
        md_http2_put_u32(frame + 5, (uint32_t)(2 * asked + 1));
        md_bytes_append(&client.conn.in, frame, sizeof frame);
    }
    client_run(&client);
    assert_true(md_http2_pending_bytes(&client_session(&client)->h2) < 4 * 1024 * 1024);
    assert_true(client.conn.in_at < client.conn.in.len);
    client.conn.send_room = SIZE_MAX;
    client_run(&client);
    assert_int_equal(client.conn.in_at, client.conn.in.len);
    assert_int_equal(rig.requests, asked);
    /* what was written is not kept */
    assert_true(client_session(&client)->h2.text.capacity < 4096);
    client_hang_up(&client);
    client_free(&client);
}

static void test_session_http2_keeps_no_text_that_was_written(void **state)
{
    char frame[sizeof head_request];

    (void)state;
    client_open(&client, &rig);
    client_run(&client);
    client.deaf = true;
    client.conn.send_room = 0;
    for (size_t asked = 0; asked < 20000; asked++) { /* never all that there is to read */
        memcpy(frame, head_request, sizeof frame);
        md_http2_put_u32(frame + 5, (uint32_t)(2 * asked + 1));
        md_bytes_append(&client.conn.in, frame, sizeof frame);
        client.conn.send_room = asked < 100 ? 0 : client_session(&client)->h2.text.len / 50;
        client_steps(2);
    }
    assert_true(client_session(&client)->h2.text.capacity < 256 * 1024);
    client_hang_up(&client);
    client_free(&client);
}

static void test_session_http2_asks_for_a_sign_of_life(void **state)
{
    (void)state;
    http2_options.keepalive_time_ns = 30 * (uint64_t)MD_NS_PER_S;
    rig.config.idle_timeout_ns = 0;
    client_open(&client, &rig);
    client_run(&client);
    client_wait(&client, 31 * SECOND);
    assert_int_equal(client.pings, 0); /* nothing is asked */
    struct client_call *call = client_grpc(&client, "/g/hold", letters(1), false);
    client_run(&client);
    client_wait(&client, 31 * SECOND);
    client_wait(&client, 31 * SECOND);
    assert_int_equal(client.pings, 2);
    assert_false(client.conn.closed);
    client.deaf = true;
    client_wait(&client, 31 * SECOND);
    client_wait(&client, 20 * SECOND);
    assert_true(client.conn.closed);
    assert_false(call->closed);
    client_free(&client);
}

static void test_session_http2_ends_connections_that_ping_too_often(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_grpc(&client, "/g/hold", letters(1), false);
    client_run(&client);
    for (int i = 0; i < 10 && !client.goaways; i++) {
        assert_int_equal(nghttp2_submit_ping(client.ng, 0, NULL), 0);
        client_wait(&client, 1 * SECOND);
        assert_true(i < 4);
    }
    assert_int_equal(client.goaway_error, MD_HTTP2_ENHANCE_YOUR_CALM);
    assert_int_equal(rig.cancels, 1);
    assert_false(call->ended);
    client_close(&client);
}

/* --- going away -------------------- */

static void test_session_http2_drains_in_two_steps(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *held = client_grpc(&client, "/g/hold", letters(1), false);
    client_run(&client);
    client.deaf = true;
    md_session_list_drain(&rig.list);
    rig_turn(&rig);
    /* on its way while the client was told */
    struct client_call *late = client_grpc(&client, "/g/plain-echo", letters(2), false);
    client_run(&client);
    client.deaf = false;
    client_run(&client);
    assert_message(late, letters(2));
    assert_int_equal(client.goaways, 2);
    assert_int_equal(client.goaway_last, (uint32_t)late->id);
    assert_false(client.conn.shut_down);
    answer_held();
    client_run(&client);
    assert_int_equal(held->grpc_status, 0);
    assert_true(client.conn.shut_down);
    client_close(&client);
}

static void test_session_http2_drains_without_an_answer_to_its_ping(void **state)
{
    (void)state;
    client_open(&client, &rig);
    client_run(&client);
    client.deaf = true;
    md_session_list_drain(&rig.list);
    client_run(&client);
    assert_false(client.conn.shut_down);
    client_wait(&client, 500);
    assert_true(client.conn.shut_down);
    client_wait(&client, 2 * SECOND);
    assert_true(client.conn.closed);
    client_free(&client);
}

static void test_session_http2_ends_old_connections(void **state)
{
    (void)state;
    http2_options.max_age_ns = 100 * (uint64_t)MD_NS_PER_S;
    http2_options.max_age_grace_ns = 10 * (uint64_t)MD_NS_PER_S;
    rig.config.idle_timeout_ns = 0;
    client_open(&client, &rig);
    (void)client_grpc(&client, "/g/hold", letters(1), false);
    client_run(&client);
    client_wait(&client, 99 * SECOND);
    assert_int_equal(client.goaways, 0);
    client_wait(&client, 1 * SECOND);
    assert_int_equal(client.goaways, 2);
    assert_int_equal(client.goaway_error, MD_HTTP2_NO_ERROR);
    client_wait(&client, 9 * SECOND);
    assert_false(client.conn.closed);
    client_wait(&client, 1 * SECOND);
    assert_true(client.conn.closed);
    assert_int_equal(rig.cancels, 1);
    client_free(&client);
}

static void test_session_http2_ends_after_a_client_that_goes_away(void **state)
{
    (void)state;
    client_open(&client, &rig);
    struct client_call *call = client_grpc(&client, "/g/hold", letters(1), false);
    client_run(&client);
    assert_int_equal(nghttp2_submit_goaway(client.ng, 0, 0, 0, NULL, 0), 0);
    client_run(&client);
    assert_false(client.conn.shut_down);
    answer_held();
    client_run(&client);
    assert_int_equal(call->grpc_status, 0);
    assert_true(client.conn.shut_down);
    md_session_list_drain(&rig.list); /* nothing is said any more */
    client_close(&client);
}

static void test_session_http2_says_why_it_fails(void **state)
{
    static const char ping_of_stream[] = {0, 0, 8, 6, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0};

    (void)state;
    client_open(&client, &rig);
    (void)client_grpc(&client, "/g/hold-on", letters(1), false);
    client_run(&client);
    client_say_raw(&client, ping_of_stream, sizeof ping_of_stream);
    assert_int_equal(client.goaways, 1);
    assert_int_equal(client.goaway_error, MD_HTTP2_PROTOCOL_ERROR);
    assert_true(client.conn.shut_down);
    assert_int_equal(rig.cancels, 1);
    md_session_list_drain(&rig.list);
    client_wait(&client, 1 * SECOND);
    answer_held();
    client_wait(&client, 2 * SECOND);
    assert_true(client.conn.closed);
    client_free(&client);
}

/* --- memory -------------------- */

static void test_session_http2_refuses_what_does_not_fit_into_memory(void **state)
{
    (void)state;
    http2_rig_close(&rig);
    http2_rig_open(&rig, 1024 * 1024);
    client_open(&client, &rig);
    struct md_bytes huge = {0};
    md_bytes_append_str(&huge, letters(BIG_BYTES));
    for (int i = 0; i < 3; i++) {
        md_bytes_append_str(&huge, letters(BIG_BYTES));
    }
    struct client_call *call = client_grpc(&client, "/g/plain-echo", md_bytes_view(&huge), false);
    client_run(&client);
    assert_int_equal(call->grpc_status, 8);
    call = client_grpc(&client, "/g/plain-echo", letters(100), false);
    client_run(&client);
    assert_message(call, letters(100));
    md_bytes_deinit(&huge);
    client_close(&client);
}

/* Others hold most of the memory; then they let go of it, or not, or the client does not wait. */
static void test_session_http2_waits_for_memory_for_a_while(void **state)
{
    static const struct {
        const char *path;
        bool says_more;
        unsigned wait_ms, then; /* memory: 0 never, 1 comes; 2: reset, 3: hang up, 4: deadline */
        int grpc_status;
    } table[] = {
        {"/g/plain-echo", false, 500, 1, 0},  {"/g/plain-echo", false, 2500, 0, 14},
        {"/g/plain-echo", false, 500, 2, -1}, {"/g/plain-echo", false, 500, 3, -1},
        {"/g/plain-echo", false, 1500, 4, 4}, {"/g/stream-hold", true, 1500, 4, 4},
        {"/g/stream-hold", true, 500, 2, -1},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        http2_rig_close(&rig);
        http2_rig_open(&rig, 2 * 1024 * 1024);
        client_open(&client, &rig);
        struct client_call *call =
            client_call_with(&client, table[i].path, table[i].then == 4 ? "grpc-timeout" : NULL,
                             "1S", letters(1), table[i].says_more);
        if (!table[i].says_more) {
            call->says.len = 0;
            grpc_frame(&call->says, 0, letters(BIG_BYTES));
        }
        bool over_budget;
        struct md_pool *pool = md_loop_pool(rig.loop);
        (void)client_exchange(&client);
        struct md_block *hog = NULL;
        if (table[i].says_more) { /* after its first message */
            client_run(&client);
            hog = md_pool_alloc(pool, 1900 * 1024, &over_budget);
            client_send_message(&client, call, letters(BIG_BYTES), true);
        } else {
            hog = md_pool_alloc(pool, 1900 * 1024, &over_budget);
        }
        assert_non_null(hog);
        client_run(&client);
        for (unsigned ms = 0; ms < table[i].wait_ms; ms += 10) {
            client_wait(&client, 10);
        }
        if (table[i].then == 1) {
            assert_false(call->closed);
            md_block_unref(hog);
            hog = NULL;
            client_wait(&client, 20);
            assert_message(call, letters(BIG_BYTES));
        } else if (table[i].then == 2) {
            client_reset(&client, call);
            client_run(&client);
        } else if (table[i].then == 3) {
            client_hang_up(&client);
            assert_true(client.conn.closed);
        }
        if (call->grpc_status != table[i].grpc_status) {
            fail_msg("row %zu: %d", i, call->grpc_status);
        }
        md_block_unref(hog);
        client_wait(&client, 3000);
        answer_held();
        if (table[i].then != 3) {
            struct client_call *next = client_grpc(&client, "/g/plain-echo", letters(7), false);
            client_run(&client);
            assert_message(next, letters(7));
            client_hang_up(&client);
        }
        client_free(&client);
    }
}

int main(void)
{
#define SESSION_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SESSION_TEST(test_session_http2_answers_requests_however_bytes_are_cut),
        SESSION_TEST(test_session_http2_answers_many_requests_at_once),
        SESSION_TEST(test_session_http2_takes_and_gives_large_bodies),
        SESSION_TEST(test_session_http2_unpacks_requests_and_packs_answers),
        SESSION_TEST(test_session_http2_refuses_what_it_cannot_take),
        SESSION_TEST(test_session_http2_refuses_heads_that_are_too_large),
        SESSION_TEST(test_session_http2_says_continue),
        SESSION_TEST(test_session_http2_resets_answers_that_cannot_be_completed),
        SESSION_TEST(test_session_http2_packs_answers_piece_by_piece),
        SESSION_TEST(test_session_http2_says_what_servers_say),
        SESSION_TEST(test_session_http2_takes_trailers),
        SESSION_TEST(test_session_http2_refuses_bodies_that_grow_too_large),
        SESSION_TEST(test_session_http2_answers_unary_calls_however_bytes_are_cut),
        SESSION_TEST(test_session_http2_ends_calls_as_their_methods_say),
        SESSION_TEST(test_session_http2_refuses_calls_that_break_the_framing),
        SESSION_TEST(test_session_http2_bounds_messages_as_their_methods_say),
        SESSION_TEST(test_session_http2_unpacks_and_packs_messages),
        SESSION_TEST(test_session_http2_streams_messages_both_ways),
        SESSION_TEST(test_session_http2_holds_messages_back_while_paused),
        SESSION_TEST(test_session_http2_ends_a_call_before_its_client_has),
        SESSION_TEST(test_session_http2_tells_when_messages_have_left),
        SESSION_TEST(test_session_http2_bears_resets_at_every_stage),
        SESSION_TEST(test_session_http2_bears_loss_of_the_connection_at_every_stage),
        SESSION_TEST(test_session_http2_is_aborted_at_every_stage),
        SESSION_TEST(test_session_http2_bears_handlers_that_end_others),
        SESSION_TEST(test_session_http2_tells_plain_handlers_that_nobody_waits),
        SESSION_TEST(test_session_http2_ends_calls_whose_time_is_over),
        SESSION_TEST(test_session_http2_delivers_nothing_after_the_end),
        SESSION_TEST(test_session_http2_waits_for_requests_only_so_long),
        SESSION_TEST(test_session_http2_waits_for_bodies_only_so_long),
        SESSION_TEST(test_session_http2_waits_for_much_of_a_large_body_at_once),
        SESSION_TEST(test_session_http2_lets_streams_of_messages_be_silent),
        SESSION_TEST(test_session_http2_serves_slow_readers_but_not_those_that_stop),
        SESSION_TEST(test_session_http2_leaves_a_client_that_does_not_read),
        SESSION_TEST(test_session_http2_takes_no_more_from_a_client_that_does_not_read),
        SESSION_TEST(test_session_http2_keeps_no_text_that_was_written),
        SESSION_TEST(test_session_http2_asks_for_a_sign_of_life),
        SESSION_TEST(test_session_http2_ends_connections_that_ping_too_often),
        SESSION_TEST(test_session_http2_drains_in_two_steps),
        SESSION_TEST(test_session_http2_drains_without_an_answer_to_its_ping),
        SESSION_TEST(test_session_http2_ends_old_connections),
        SESSION_TEST(test_session_http2_ends_after_a_client_that_goes_away),
        SESSION_TEST(test_session_http2_says_why_it_fails),
        SESSION_TEST(test_session_http2_refuses_what_does_not_fit_into_memory),
        SESSION_TEST(test_session_http2_waits_for_memory_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
