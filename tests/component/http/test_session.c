/*
 * A session as its peer sees it: requests in any pieces, answers in order, what is refused and what
 * is lost.
 */
#include "component/http/fake_conn.h"

enum { BUDGET = 64 * 1024 * 1024 };

#define HOST       "Host: x\r\n"
#define POST_HELLO "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"
#define POST_CHUNKED               \
    "POST /echo HTTP/1.1\r\n" HOST \
    "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhe\r\n3\r\nllo\r\n0\r\nT: x\r\n\r\n"

static void test_session_keeps_the_connection_and_no_memory(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    for (unsigned i = 1; i <= 5; i++) {
        peer_say_c(&peer, &rig, i % 2 ? POST_HELLO : POST_CHUNKED);
        assert_true(peer_answer(&peer, &at, false, &answer));
        assert_int_equal(answer.status, 200);
        assert_true(md_str_eq_c(answer.body, "hello"));
        assert_true(answer_says(&answer, "Content-Type", "text/plain"));
        assert_null(answer_header(&answer, "Connection").ptr);
        assert_int_equal(rig.requests, i);
        assert_null(rig_session(&rig)->in);
        assert_null(rig_session(&rig)->body);
    }
    assert_int_equal(at, peer.out.len);
    assert_int_equal(rig.counters.requests, 5);
    assert_int_equal(rig.counters.responses[2], 5);
    assert_int_equal(rig.counters.received_bytes, peer.in.len);
    assert_int_equal(rig.counters.sent_bytes, peer.out.len);
    peer_hang_up(&peer, &rig);
    assert_true(peer.closed);
    assert_int_equal(rig.log_count, 5);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_steady_requests_allocate_nothing(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    assert_true(md_bytes_reserve(&peer.in, 4096));
    assert_true(md_bytes_reserve(&peer.out, 4096));
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    /* the pool of this rig caches no blocks: those are the buffer, of each request one */
    size_t before = peer.out.len;
    md_fault_arm(MD_FAULT_ALLOC, 1);
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_false(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(peer.out.len, 2 * before);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

/* The request in two pieces, cut at every place, and byte by byte. */
static void split_everywhere(const char *text, size_t len, unsigned status, const char *body)
{
    for (size_t cut = 0; cut < len; cut++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        if (cut == 0) {
            peer.recv_step = 1;
            peer_say(&peer, &rig, text, len);
        } else {
            peer_say(&peer, &rig, text, cut);
            assert_int_equal(peer.out.len, 0);
            peer_say(&peer, &rig, text + cut, len - cut);
        }
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, status);
        assert_true(md_str_eq_c(answer.body, body));
        md_bytes_deinit(&answer.unchunked);
        peer_hang_up(&peer, &rig);
        assert_true(peer.closed);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void compress_into(struct md_bytes *out, enum md_coding coding, const void *data, size_t len)
{
    struct md_deflate *deflate = NULL;
    struct md_error err;
    size_t consumed, produced;

    assert_true(md_deflate_create(coding, NULL, &deflate, &err));
    assert_true(md_bytes_reserve(out, len + 1024));
    assert_int_equal(md_deflate_step(deflate, data, len, true, out->data + out->len,
                                     out->capacity - out->len, &consumed, &produced),
                     MD_PROGRESS_DONE);
    out->len += produced;
    md_deflate_destroy(deflate);
}

static void compressed_request(struct md_bytes *request, const char *coding, const void *data,
                               size_t len)
{
    struct md_bytes body = {0};

    compress_into(&body, coding[0] == 'g' ? MD_CODING_GZIP : MD_CODING_DEFLATE, data, len);
    md_bytes_printf(request,
                    "POST /echo HTTP/1.1\r\n" HOST
                    "Content-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
                    coding, body.len);
    md_bytes_append_str(request, md_bytes_view(&body));
    md_bytes_deinit(&body);
}

static void test_session_takes_requests_split_anywhere(void **state)
{
    struct md_bytes gzip = {0};

    (void)state;
    split_everywhere(POST_HELLO, strlen(POST_HELLO), 200, "hello");
    split_everywhere("\r\n" POST_HELLO, strlen(POST_HELLO) + 2, 200, "hello");
    split_everywhere(POST_CHUNKED, strlen(POST_CHUNKED), 200, "hello");
    compressed_request(&gzip, "gzip", "hello hello hello", 17);
    split_everywhere(gzip.data, gzip.len, 200, "hello hello hello");
    md_bytes_deinit(&gzip);
}

static void test_session_answers_pipelined_requests_in_order(void **state)
{
    static const char requests[] = POST_HELLO POST_CHUNKED
        "GET /slow HTTP/1.1\r\n" HOST "\r\n" POST_HELLO "HEAD /big HTTP/1.1\r\n" HOST "\r\n"
        "GET /stream-at-once HTTP/1.1\r\n" HOST "\r\n"
        "GET /nowhere HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
        "GET / HTTP/1.1\r\n" HOST "\r\n";
    static const struct {
        unsigned status;
        const char *body;
    } expected[] = {{200, "hello"}, {200, "hello"},   {200, "held"},        {200, "hello"},
                    {200, ""},      {200, "one-two"}, {404, "nothing here"}};
    struct answer answer = {0};
    size_t at = 0;
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, requests);
    assert_int_equal(rig.requests, 3); /* nothing behind the one in work is looked at */
    assert_non_null(rig.held);
    respond_text(rig.held, 200, MD_STR("held"));
    peer_run(&peer, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(expected); i++) {
        assert_true(peer_answer(&peer, &at, i == 4, &answer));
        assert_int_equal(answer.status, expected[i].status);
        assert_true(md_str_eq_c(answer.body, expected[i].body));
    }
    assert_true(answer_says(&answer, "Connection", "close"));
    assert_int_equal(at, peer.out.len);
    peer_hang_up(&peer, &rig);
    assert_true(peer.closed);
    md_bytes_deinit(&answer.unchunked);
    peer_free(&peer);
    rig_close(&rig);
}

/* --- what is refused -------------------- */

static const struct {
    const char *request;
    unsigned status;
} refused[] = {
    {"GET / HTTP/1.1\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\nHost: x\n\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "A: b\rc\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "A: b\r\n c\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "A\x01: b\r\n\r\n", 400},
    {"GET / HTTP/1.1\r\n" HOST "A: \x7f\r\n\r\n", 400},
    {"GET / HTTP/1.1 \r\n" HOST "\r\n", 400},
    {"GET  / HTTP/1.1\r\n" HOST "\r\n", 400},
    {"GET / HTTP/2.0\r\n" HOST "\r\n", 505},
    {"\x16\x03\x01\x02", 400},
    {"POST /echo HTTP/1.1\r\n" HOST
     "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: -1\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1, 1\r\n\r\na", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: br\r\nContent-Length: 1\r\n\r\na", 501},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip, gzip\r\nContent-Length: 1\r\n\r\na",
     501},
    {"POST /echo HTTP/1.1\r\n" HOST
     "Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
     501},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
     400},
    {"POST /echo HTTP/1.1\r\n" HOST "Expect: tea\r\nContent-Length: 5\r\n\r\nhello", 417},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000001\r\n\r\n", 413},
    {"POST /hundred HTTP/1.1\r\n" HOST "Content-Length: 101\r\n\r\n", 413},
    {"POST /hundred HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n65\r\n"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
     413},
};

static void test_session_refuses_and_lets_the_peer_see_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(refused); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "Origin: http://o\r\n\r\n");
        peer.out.len = 0;
        peer_say_c(&peer, &rig, refused[i].request);
        peer_only_answer(&peer, &answer);
        if (answer.status != refused[i].status) {
            fail_msg("case %zu: %u, expected %u", i, answer.status, refused[i].status);
        }
        assert_true(answer_says(&answer, "Connection", "close"));
        assert_true(answer_says(&answer, "Content-Type", "application/json"));
        assert_true(md_str_starts_with(answer.body, MD_STR("{\"error\":\"")));
        bool names_codings = answer_says(&answer, "Accept-Encoding", "gzip, deflate");
        assert_int_equal(names_codings, answer.status == 501 &&
                                            strstr(refused[i].request, "Content-Encoding") != NULL);
        /* the end is said, but what still comes is read until the peer has closed */
        assert_true(peer.shut_down);
        assert_false(peer.closed);
        peer_say_c(&peer, &rig, "more of it");
        assert_int_equal(peer.in_at, peer.in.len);
        peer_hang_up(&peer, &rig);
        assert_true(peer.closed);
        assert_int_equal(rig.log_count, 2);
        assert_int_equal(rig.log[1].status, refused[i].status);
        assert_int_equal(rig.counters.responses[refused[i].status / 100], 1);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_lingers_no_longer_than_two_seconds(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "nonsense\n");
    rig_wait(&rig, 1900);
    peer_say_c(&peer, &rig, "and on");
    assert_false(peer.closed);
    rig_wait(&rig, 200);
    assert_true(peer.closed);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_large_heads_are_414_or_431(void **state)
{
    static const struct {
        const char *begin, *unit, *end;
        unsigned count, status;
    } cases[] = {
        {"GET /", "aaaaaaaaaa", " HTTP/1.1\r\n" HOST "\r\n", 1000, 414},
        {"GET /", "aaaaaaaaaa", "", 1000, 414},
        {"GET / HTTP/1.1\r\n" HOST "A: ", "aaaaaaaaaa", "\r\n\r\n", 1000, 431},
        {"GET / HTTP/1.1\r\n" HOST "A: ", "aaaaaaaaaa", "", 1000, 431},
        {"GET / HTTP/1.1\r\n" HOST, "A: b\r\n", "\r\n", 21, 431},
        {"GET / HTTP/1.1\r\n" HOST, "A: b\r\n", "", 25, 431},
        {"GET / HTTP/1.1\r\n" HOST, "A: b\r\n", "\r\n", 19, 200},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        for (size_t step = 0; step < 2; step++) {
            struct rig rig;
            struct md_conn peer;
            struct answer answer = {0};
            struct md_bytes text = {0};
            rig_open(&rig, BUDGET);
            peer_open(&peer, &rig);
            peer.recv_step = step;
            md_bytes_append_c(&text, cases[i].begin);
            for (unsigned k = 0; k < cases[i].count; k++) {
                md_bytes_append_c(&text, cases[i].unit);
            }
            md_bytes_append_c(&text, cases[i].end);
            peer_say(&peer, &rig, text.data, text.len);
            peer_only_answer(&peer, &answer);
            assert_int_equal(answer.status, cases[i].status);
            assert_int_equal(rig.counters.refused[MD_REFUSAL_HEADER_SIZE], cases[i].status != 200);
            peer_hang_up(&peer, &rig);
            md_bytes_deinit(&text);
            peer_free(&peer);
            rig_close(&rig);
        }
    }
}

static void test_session_large_head_grows_the_buffer(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    struct md_bytes text = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    rig.config.max_header_bytes = 65536;
    peer_open(&peer, &rig);
    md_bytes_append_c(&text, "GET / HTTP/1.1\r\n" HOST "A: ");
    for (unsigned k = 0; k < 40000; k++) {
        md_bytes_append_char(&text, 'a');
    }
    md_bytes_append_c(&text, "\r\n\r\n" POST_HELLO);
    peer_say(&peer, &rig, text.data, text.len);
    size_t at = 0;
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_true(md_str_eq_c(answer.body, "hello"));
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_true(md_str_eq_c(answer.body, "hello"));
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&text);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_refusal_knows_nothing_of_the_request_before(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    const struct md_str all = MD_STR("*");
    rig.config.cors_origins = &all;
    rig.config.cors_origin_count = 1;
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "HEAD /big HTTP/1.1\r\n" HOST "Origin: http://before\r\n\r\n");
    assert_true(peer_answer(&peer, &at, true, &answer));
    assert_true(answer_says(&answer, "Access-Control-Allow-Origin", "http://before"));
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\nHo");
    rig_wait(&rig, 11000);
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_int_equal(answer.status, 408);
    assert_true(answer.body.len > 0);
    assert_null(answer_header(&answer, "Access-Control-Allow-Origin").ptr);
    assert_string_equal(rig.log[1].path, "");
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

/* --- versions, methods, expectations -------------------- */

static void test_session_connection_rules(void **state)
{
    static const struct {
        const char *head;
        bool stays;
        const char *connection; /* header of the answer */
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST, true, NULL},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\n", false, "close"},
        {"GET / HTTP/1.1\r\n" HOST "Connection: Upgrade, CLOSE\r\n", false, "close"},
        {"GET / HTTP/1.1\r\n" HOST "Connection: close\r\nConnection: keep-alive\r\n", false,
         "close"},
        {"GET / HTTP/1.0\r\n", false, "close"},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n", true, "keep-alive"},
        {"GET / HTTP/1.0\r\nConnection: te, keep-alive\r\n", true, "keep-alive"},
        {"GET / HTTP/1.7\r\n" HOST, true, NULL},
        {"GET /stream-at-once HTTP/1.1\r\n" HOST, true, NULL},
        {"GET /stream-at-once HTTP/1.0\r\nConnection: keep-alive\r\n", false, "close"},
        {"GET / HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\n", true, NULL},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 0\r\n", true,
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, cases[i].head);
        peer_say_c(&peer, &rig, "\r\n");
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, 200);
        assert_int_equal(peer.closed || peer.shut_down, !cases[i].stays);
        assert_true(cases[i].connection ? answer_says(&answer, "Connection", cases[i].connection)
                                        : !answer_header(&answer, "Connection").ptr);
        if (!peer.closed) {
            peer_hang_up(&peer, &rig);
        }
        md_bytes_deinit(&answer.unchunked);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_expect_continue(void **state)
{
    static const struct {
        const char *head;
        const char *first; /* of the body, with the head */
        bool continues;
    } cases[] = {
        {"POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", "",
         true},
        {"POST /echo HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n", "he",
         false},
        {"POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
         "", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        size_t at = 0;
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        md_bytes_append_c(&peer.in, cases[i].head);
        peer_say_c(&peer, &rig, cases[i].first);
        assert_int_equal(peer.out.len,
                         cases[i].continues ? strlen("HTTP/1.1 100 Continue\r\n\r\n") : 0);
        if (cases[i].continues) {
            assert_true(peer_answer(&peer, &at, false, &answer));
            assert_int_equal(answer.status, 100);
        }
        peer_say_c(&peer, &rig, &"hello"[strlen(cases[i].first)]);
        assert_true(peer_answer(&peer, &at, false, &answer));
        assert_true(md_str_eq_c(answer.body, "hello"));
        peer_hang_up(&peer, &rig);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_expect_continue_is_not_said_to_who_is_refused(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig,
               "POST /refuse HTTP/1.1\r\n" HOST
               "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.status, 403);
    assert_true(answer_says(&answer, "Connection", "close"));
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_expect_continue_half_sent_is_lost(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer.send_room = 7;
    peer_say_c(&peer, &rig,
               "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_true(peer.closed);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_head_has_no_body(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    rig.stream_left = 3;
    peer_say_c(&peer, &rig,
               "HEAD /big HTTP/1.1\r\n" HOST "\r\nHEAD /stream HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer_answer(&peer, &at, true, &answer));
    assert_true(answer_says(&answer, "Content-Length", "300000"));
    assert_true(peer_answer(&peer, &at, true, &answer));
    assert_true(answer_says(&answer, "Transfer-Encoding", "chunked"));
    assert_int_equal(at, peer.out.len);
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_true(md_str_eq_c(answer.body, "hello"));
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_date_and_server(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;
    static const struct {
        uint64_t wait_ms;
        const char *date;
    } steps[] = {{0, "Thu, 01 Jan 1970 00:16:40 GMT"},
                 {999, "Thu, 01 Jan 1970 00:16:40 GMT"},
                 {1, "Thu, 01 Jan 1970 00:16:41 GMT"}};

    (void)state;
    rig_open(&rig, BUDGET);
    rig.config.server_name = "modeld";
    peer_open(&peer, &rig);
    for (size_t i = 0; i < MD_COUNT_OF(steps); i++) {
        rig_wait(&rig, steps[i].wait_ms);
        peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_true(peer_answer(&peer, &at, false, &answer));
        assert_true(answer_says(&answer, "Date", steps[i].date));
        assert_true(answer_says(&answer, "Server", "modeld"));
    }
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_cors(void **state)
{
    static const struct md_str allowed[] = {MD_STR("http://a"), MD_STR("http://b")};
    static const struct {
        const char *request;
        unsigned status;
        const char *origin; /* that the answer allows */
    } cases[] = {
        {"GET / HTTP/1.1\r\n" HOST "Origin: http://b\r\n\r\n", 200, "http://b"},
        {"GET / HTTP/1.1\r\n" HOST "Origin: http://c\r\n\r\n", 200, NULL},
        {"GET / HTTP/1.1\r\n" HOST "\r\n", 200, NULL},
        {"OPTIONS /echo HTTP/1.1\r\n" HOST
         "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n\r\n",
         204, "http://a"},
        {"OPTIONS /nowhere HTTP/1.1\r\n" HOST "Origin: http://a\r\n\r\n", 404, "http://a"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        rig.config.cors_origins = allowed;
        rig.config.cors_origin_count = MD_COUNT_OF(allowed);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, cases[i].request);
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, cases[i].status);
        assert_true(cases[i].origin
                        ? answer_says(&answer, "Access-Control-Allow-Origin", cases[i].origin)
                        : !answer_header(&answer, "Access-Control-Allow-Origin").ptr);
        assert_true(answer.status != 204 ||
                    (!answer_header(&answer, "Content-Length").ptr &&
                     answer_header(&answer, "Access-Control-Allow-Methods").ptr));
        peer_hang_up(&peer, &rig);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* --- content codings -------------------- */

static void test_session_decodes_compressed_requests(void **state)
{
    static const char *const codings[] = {"gzip", "deflate", "GZIP"};
    static char text[400000];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)('a' + (i * i >> 7) % 26);
    }
    for (size_t i = 0; i < MD_COUNT_OF(codings); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes request = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        compressed_request(&request, i == 2 ? "gzip" : codings[i], text, sizeof text);
        peer_say(&peer, &rig, request.data, request.len);
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body.len, sizeof text);
        assert_memory_equal(answer.body.ptr, text, sizeof text);
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&request);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* Sends a gzip body with one thing changed: bytes cut off its end (below 0) or added. */
static unsigned status_of_gzip(const void *data, size_t len, int change)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    struct md_bytes body = {0}, request = {0};

    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    compress_into(&body, MD_CODING_GZIP, data, len);
    if (change > 0) {
        md_bytes_append(&body, "extra", (size_t)change);
    } else {
        body.len -= (size_t)-change;
    }
    md_bytes_printf(&request,
                    "POST /echo HTTP/1.1\r\n" HOST
                    "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                    body.len);
    md_bytes_append_str(&request, md_bytes_view(&body));
    peer_say(&peer, &rig, request.data, request.len);
    peer_only_answer(&peer, &answer);
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&body);
    md_bytes_deinit(&request);
    peer_free(&peer);
    rig_close(&rig);
    return answer.status;
}

static void test_session_judges_compressed_bodies(void **state)
{
    char *zeros = md_calloc(1, 1000001);

    (void)state;
    assert_non_null(zeros);
    assert_int_equal(status_of_gzip(zeros, 1000, 0), 200);
    assert_int_equal(status_of_gzip(zeros, 1000, 5), 400);
    assert_int_equal(status_of_gzip(zeros, 1000, -1), 400);
    assert_int_equal(status_of_gzip(zeros, 1000, -15), 400);
    assert_int_equal(status_of_gzip(zeros, 1000000, 0), 200);
    assert_int_equal(status_of_gzip(zeros, 1000001, 0), 413);
    md_free(zeros);
}

static void test_session_compresses_if_the_client_likes(void **state)
{
    static const struct {
        const char *accept;
        const char *coding; /* NULL: none */
    } cases[] = {
        {"gzip", "gzip"},
        {"deflate", "deflate"},
        {"gzip, deflate", "gzip"},
        {"deflate, gzip", "gzip"},
        {"GZIP;q=0.5, deflate;q=0.8", "deflate"},
        {"gzip;q=0", NULL},
        {"gzip;q=0.000, deflate;q=0.001", "deflate"},
        {"*", "gzip"},
        {"*, gzip;q=0", "deflate"},
        {"*;q=0", NULL},
        {"identity", NULL},
        {"identity;q=1, gzip;q=0.5", NULL},
        {"identity;q=0.5, gzip;q=1.000", "gzip"},
        {"br, zstd", NULL},
        {"gzip;q=x", NULL},
        {"gzip;q=0x5", NULL},
        {"gzip;level=9", NULL},
        {"", NULL},
        {",,;", NULL},
    };
    static char text[200000];

    (void)state;
    memset(text, 'z', sizeof text);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes request = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        md_bytes_printf(&request,
                        "POST /echo HTTP/1.1\r\n" HOST
                        "Accept-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
                        cases[i].accept, sizeof text);
        md_bytes_append(&request, text, sizeof text);
        peer_say(&peer, &rig, request.data, request.len);
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, 200);
        assert_true(cases[i].coding ? answer_says(&answer, "Content-Encoding", cases[i].coding)
                                    : !answer_header(&answer, "Content-Encoding").ptr);
        if (cases[i].coding) {
            struct md_inflate *inflate = NULL;
            struct md_error err;
            size_t consumed, produced;
            char *out = md_alloc(sizeof text);
            assert_non_null(out);
            assert_true(
                md_inflate_create(cases[i].coding[0] == 'g' ? MD_CODING_GZIP : MD_CODING_DEFLATE,
                                  NULL, &inflate, &err));
            (void)!md_inflate_step(inflate, answer.body.ptr, answer.body.len, out, sizeof text,
                                   &consumed, &produced, &err);
            assert_int_equal(produced, sizeof text);
            assert_memory_equal(out, text, sizeof text);
            md_inflate_destroy(inflate);
            md_free(out);
        } else {
            assert_int_equal(answer.body.len, sizeof text);
        }
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&request);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_leaves_small_answers_as_they_are(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig,
               "POST /echo HTTP/1.1\r\n" HOST
               "Accept-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello");
    peer_only_answer(&peer, &answer);
    assert_true(md_str_eq_c(answer.body, "hello"));
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

/* --- bodies -------------------- */

static void test_session_large_bodies_go_straight_and_aligned(void **state)
{
    static const char *const paths[] = {"/echo", "/lead"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        bool is_chunked = i >= 2;
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes request = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        md_bytes_printf(&request, "POST %s HTTP/1.1\r\n" HOST "%s\r\n\r\n", paths[i % 2],
                        is_chunked ? "Transfer-Encoding: chunked" : "Content-Length: 900000");
        size_t head = request.len;
        for (size_t k = 0; k < 9; k++) {
            if (is_chunked) {
                md_bytes_append_c(&request, "186A0\r\n");
            }
            for (size_t n = 0; n < 100000; n++) {
                md_bytes_append_char(&request, (char)('a' + (k * 100000 + n) % 23));
            }
            if (is_chunked) {
                md_bytes_append_c(&request, "\r\n");
            }
        }
        md_bytes_append_c(&request, is_chunked ? "0\r\n\r\n" : "");
        peer_say(&peer, &rig, request.data, head); /* the head alone first */
        peer_say(&peer, &rig, request.data + head, request.len - head);
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.body.len, 900000);
        for (size_t n = 0; n < 900000; n++) {
            if (answer.body.ptr[n] != (char)('a' + n % 23)) {
                fail_msg("byte %zu differs", n);
            }
        }
        assert_int_equal(rig.seen_alignment, 0);
        assert_true(is_chunked || peer.recv_calls < 10);
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&request);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* However much has come and fits: other connections of the loop have their turn in between. */
static void test_session_large_bodies_move_in_pieces(void **state)
{
    enum { BYTES = 900000, EXTRA = MD_SESSION_IN_BYTES };
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t most = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    md_bytes_append_c(&peer.in, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n\r\n");
    for (size_t i = 0; i < BYTES; i++) {
        md_bytes_append_char(&peer.in, 'x');
    }
    for (int turn = 0; turn < 40; turn++) {
        size_t before = peer.in_at + peer.out.len;
        if (turn % 2) {
            rig_turn(&rig);
        } else if ((peer.want & MD_LOOP_READ) && peer.in_at < peer.in.len) {
            peer.handler->ready(peer.handler_arg, MD_LOOP_READ);
        }
        most = md_size_max(most, peer.in_at + peer.out.len - before);
    }
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.body.len, BYTES);
    assert_in_range(most, MD_SESSION_TURN_BYTES / 2, MD_SESSION_TURN_BYTES + EXTRA);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_early_answer_drops_the_body(void **state)
{
    static const struct {
        const char *framing;
        size_t body_bytes;
        bool stays;
    } cases[] = {
        {"Content-Length: 5", 5, true},           {"Content-Length: 100000", 100000, true},
        {"Content-Length: 900000", 900000, true}, {"Content-Length: 9000000", 100, false},
        {"Transfer-Encoding: chunked", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes request = {0};
        size_t at = 0;
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        md_bytes_printf(&request, "POST /refuse HTTP/1.1\r\n" HOST "%s\r\n\r\n", cases[i].framing);
        for (size_t n = 0; n < cases[i].body_bytes; n++) {
            md_bytes_append_char(&request, 'b');
        }
        peer_say(&peer, &rig, request.data, request.len);
        assert_true(peer_answer(&peer, &at, false, &answer));
        assert_int_equal(answer.status, 403);
        assert_int_equal(answer_says(&answer, "Connection", "close"), !cases[i].stays);
        assert_int_equal(peer.shut_down, !cases[i].stays);
        if (cases[i].stays) {
            peer_say_c(&peer, &rig, POST_HELLO);
            assert_true(peer_answer(&peer, &at, false, &answer));
            assert_true(md_str_eq_c(answer.body, "hello"));
        }
        peer_hang_up(&peer, &rig);
        assert_true(peer.closed);
        md_bytes_deinit(&request);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* --- slow readers, peers that go -------------------- */

static void test_session_slow_reader_gets_all(void **state)
{
    static const char *const requests[] = {"GET /big HTTP/1.1\r\n" HOST "\r\n",
                                           "GET /stream HTTP/1.1\r\n" HOST "\r\n"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        rig.stream_left = 100;
        peer.send_room = 0;
        peer.send_step = i ? 1 : 997;
        peer_say_c(&peer, &rig, requests[i]);
        while (peer.activity) { /* a little room each time */
            peer.send_room = i ? 3 : 2000;
            peer.activity = 0;
            peer_run(&peer, &rig);
        }
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.body.len, i ? 600 : BIG_BYTES);
        assert_int_equal(rig.log_count, 1);
        assert_int_equal(rig.log[0].sent_bytes, peer.out.len);
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&answer.unchunked);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_cancels_what_nobody_waits_for(void **state)
{
    (void)state;
    for (int at_once = 0; at_once < 2; at_once++) {
        struct rig rig;
        struct md_conn peer;
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        rig.answer_on_cancel = at_once;
        peer_say_c(&peer, &rig, "POST /slow HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
        assert_int_equal(rig.cancels, 0);
        struct md_exchange *held = rig.held;
        peer_hang_up(&peer, &rig);
        assert_int_equal(rig.cancels, 1);
        assert_true(peer.closed);
        assert_int_equal(rig.list.count, at_once ? 0 : 1);
        if (!at_once) { /* the exchange is there until its handler has answered */
            assert_true(md_str_eq_c(held->body, "hello"));
            respond_text(held, 200, MD_STR("too late"));
        }
        assert_int_equal(rig.log_count, 1);
        assert_int_equal(rig.log[0].status, 499);
        assert_string_equal(rig.log[0].path, "/slow");
        assert_int_equal(peer.out.len, 0);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_peer_gone_while_sending(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\n" HOST "\r\n", "GET /big HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream HTTP/1.1\r\n" HOST "\r\n", "GET /stream-at-once HTTP/1.1\r\n" HOST "\r\n"};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(requests); i++) {
        struct rig rig;
        struct md_conn peer;
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        rig.stream_left = 1000;
        peer.send_room = 10;
        peer_say_c(&peer, &rig, requests[i]);
        assert_int_equal(peer.out.len, 10);
        peer.broken = true;
        peer_run(&peer, &rig);
        assert_true(peer.closed);
        assert_int_equal(rig.log_count, 1);
        assert_int_equal(rig.log[0].status, 200);
        assert_int_equal(rig.log[0].sent_bytes, 10);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_peer_gone_before_the_request_is_whole(void **state)
{
    static const char *const begins[] = {
        "", "GET / HT", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nhel",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(begins); i++) {
        struct rig rig;
        struct md_conn peer;
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, begins[i]);
        peer_hang_up(&peer, &rig);
        assert_true(peer.closed);
        assert_int_equal(peer.out.len, 0);
        assert_int_equal(rig.requests, 0);
        assert_int_equal(rig.log_count, i >= 2);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* --- streams -------------------- */

static void test_session_streams_as_fast_as_it_is_read(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    rig.stream_left = 200;
    peer_say_c(&peer, &rig, "GET /stream HTTP/1.1\r\n" HOST "\r\n" POST_HELLO);
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_int_equal(answer.body.len, 200 * 6);
    assert_true(answer_says(&answer, "Transfer-Encoding", "chunked"));
    assert_int_equal(rig.drained_calls, 201);
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_true(md_str_eq_c(answer.body, "hello"));
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&answer.unchunked);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_stream_written_when_there_is_something(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "GET /hold-stream HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer.out.len > 0); /* the head is not held back */
    rig_wait(&rig, 100000);        /* nothing limits the time until the next piece */
    assert_true(md_exchange_write(rig.held, MD_STR("first")));
    assert_non_null(memmem(peer.out.data, peer.out.len, "5\r\nfirst\r\n", 10));
    assert_true(md_exchange_write(rig.held, MD_STR("second")));
    md_exchange_end(rig.held);
    peer_run(&peer, &rig);
    peer_only_answer(&peer, &answer);
    assert_true(md_str_eq_c(answer.body, "firstsecond"));
    assert_false(peer.closed);
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&answer.unchunked);
    peer_free(&peer);
    rig_close(&rig);
}

/* Much in all, but little at a time: that is no reason to lose the reader. */
static void test_session_stream_to_a_reader_that_is_a_little_behind(void **state)
{
    enum { PIECES = 40, PIECE_BYTES = 1024 * 1024 };
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    char *piece = calloc(1, PIECE_BYTES);

    (void)state;
    assert_non_null(piece);
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "GET /hold-stream HTTP/1.1\r\n" HOST "\r\n");
    peer.send_room = PIECE_BYTES / 2;
    for (size_t i = 0; i < PIECES; i++) {
        assert_true(md_exchange_write(rig.held, md_str_make(piece, PIECE_BYTES)));
        peer_run(&peer, &rig);
        assert_int_equal(peer.send_room, 0);
        peer.send_room = PIECE_BYTES;
    }
    md_exchange_end(rig.held);
    peer.send_room = SIZE_MAX;
    peer_run(&peer, &rig);
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.body.len, (size_t)PIECES * PIECE_BYTES);
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&answer.unchunked);
    free(piece);
    peer_free(&peer);
    rig_close(&rig);
}

static size_t unpack(struct md_inflate *inflate, struct md_str packed, char *out, size_t room)
{
    size_t consumed, produced;
    struct md_error err;

    assert_int_not_equal(
        md_inflate_step(inflate, packed.ptr, packed.len, out, room, &consumed, &produced, &err),
        MD_PROGRESS_ERROR);
    assert_int_equal(consumed, packed.len);
    return produced;
}

static void test_session_stream_is_compressed_piece_by_piece(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    struct md_inflate *inflate;
    struct md_error err;
    char text[64];

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "GET /hold-stream HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n");
    size_t head_bytes = peer.out.len;
    assert_true(md_exchange_write(rig.held, MD_STR("first")));
    assert_true(peer.out.len > head_bytes); /* its reader need not wait for the end */
    assert_true(md_exchange_write(rig.held, MD_STR("second")));
    md_exchange_end(rig.held);
    peer_run(&peer, &rig);
    peer_only_answer(&peer, &answer);
    assert_true(answer_says(&answer, "Content-Encoding", "gzip"));
    assert_true(answer_says(&answer, "Transfer-Encoding", "chunked"));
    assert_true(md_inflate_create(MD_CODING_GZIP, NULL, &inflate, &err));
    assert_int_equal(unpack(inflate, answer.body, text, sizeof text), 11);
    assert_memory_equal(text, "firstsecond", 11);
    assert_false(peer.closed);
    md_inflate_destroy(inflate);
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&answer.unchunked);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_stream_without_chunks_for_http10(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "GET /stream-at-once HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    peer_only_answer(&peer, &answer);
    assert_true(md_str_eq_c(answer.body, "one-two"));
    assert_null(answer_header(&answer, "Transfer-Encoding").ptr);
    assert_null(answer_header(&answer, "Content-Length").ptr);
    assert_true(peer.shut_down);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_stream_from_the_head(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig,
               "POST /stream-at-head HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel");
    assert_int_equal(peer.out.len, 0);
    peer_say_c(&peer, &rig, "lo");
    peer_only_answer(&peer, &answer);
    assert_true(md_str_eq_c(answer.body, "one-two"));
    peer_hang_up(&peer, &rig);
    md_bytes_deinit(&answer.unchunked);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_stream_of_a_lost_peer_ends_in_its_cancel(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    for (int how = 0; how < 3; how++) {
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, "GET /hold-stream HTTP/1.1\r\n" HOST "\r\n");
        struct md_exchange *x = rig.held;
        if (how == 0) { /* noticed by a hang-up */
            peer_hang_up(&peer, &rig);
        } else if (how == 1) { /* noticed by writing */
            peer.broken = true;
            assert_false(md_exchange_write(x, MD_STR("piece")));
        } else { /* a reader so slow that it is given up */
            static char much[9 * 1024 * 1024];
            peer.send_room = 0;
            assert_true(md_exchange_write(x, md_str_make(much, sizeof much)));
            assert_false(md_exchange_write(x, md_str_make(much, sizeof much)));
        }
        assert_int_equal(rig.cancels, 1);
        assert_null(rig.held);
        assert_true(peer.closed);
        peer_free(&peer);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_keeps_the_connection_and_no_memory),
        cmocka_unit_test(test_session_steady_requests_allocate_nothing),
        cmocka_unit_test(test_session_takes_requests_split_anywhere),
        cmocka_unit_test(test_session_answers_pipelined_requests_in_order),
        cmocka_unit_test(test_session_refuses_and_lets_the_peer_see_it),
        cmocka_unit_test(test_session_lingers_no_longer_than_two_seconds),
        cmocka_unit_test(test_session_large_heads_are_414_or_431),
        cmocka_unit_test(test_session_large_head_grows_the_buffer),
        cmocka_unit_test(test_session_refusal_knows_nothing_of_the_request_before),
        cmocka_unit_test(test_session_connection_rules),
        cmocka_unit_test(test_session_expect_continue),
        cmocka_unit_test(test_session_expect_continue_is_not_said_to_who_is_refused),
        cmocka_unit_test(test_session_expect_continue_half_sent_is_lost),
        cmocka_unit_test(test_session_head_has_no_body),
        cmocka_unit_test(test_session_date_and_server),
        cmocka_unit_test(test_session_cors),
        cmocka_unit_test(test_session_decodes_compressed_requests),
        cmocka_unit_test(test_session_judges_compressed_bodies),
        cmocka_unit_test(test_session_compresses_if_the_client_likes),
        cmocka_unit_test(test_session_leaves_small_answers_as_they_are),
        cmocka_unit_test(test_session_large_bodies_go_straight_and_aligned),
        cmocka_unit_test(test_session_large_bodies_move_in_pieces),
        cmocka_unit_test(test_session_early_answer_drops_the_body),
        cmocka_unit_test(test_session_slow_reader_gets_all),
        cmocka_unit_test(test_session_cancels_what_nobody_waits_for),
        cmocka_unit_test(test_session_peer_gone_while_sending),
        cmocka_unit_test(test_session_peer_gone_before_the_request_is_whole),
        cmocka_unit_test(test_session_streams_as_fast_as_it_is_read),
        cmocka_unit_test(test_session_stream_written_when_there_is_something),
        cmocka_unit_test(test_session_stream_to_a_reader_that_is_a_little_behind),
        cmocka_unit_test(test_session_stream_is_compressed_piece_by_piece),
        cmocka_unit_test(test_session_stream_without_chunks_for_http10),
        cmocka_unit_test(test_session_stream_from_the_head),
        cmocka_unit_test(test_session_stream_of_a_lost_peer_ends_in_its_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
