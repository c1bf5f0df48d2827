/*
 * Sessions against the clock, against the bound on memory, at shutdown, and with every allocation
 * failing once.
 */
#include "component/http/fake_conn.h"

enum { BUDGET = 64 * 1024 * 1024, KIB = 1024, MIB = 1024 * 1024 };

#define HOST "Host: x\r\n"

static void test_session_limits_time(void **state)
{
    static const struct {
        const char *said;
        uint64_t before_ms; /* still nothing then */
        uint64_t after_ms;
        unsigned status; /* 0: closed without a word */
    } cases[] = {
        {"", 59000, 61000, 0},
        {"G", 9000, 11000, 408},
        {"GET / HTTP/1.1\r\nHo", 9000, 11000, 408},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", 19000, 21000, 408},
        {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel", 19000, 21000, 408},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", 19000, 21000,
         408},
        {"POST /refuse HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhel", 19000, 21000, 403},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, cases[i].said);
        rig_wait(&rig, cases[i].before_ms);
        peer_run(&peer, &rig);
        assert_int_equal(peer.out.len, 0);
        assert_false(peer.closed);
        rig_wait(&rig, cases[i].after_ms - cases[i].before_ms);
        if (cases[i].status) {
            peer_only_answer(&peer, &answer);
            assert_int_equal(answer.status, cases[i].status);
            assert_true(answer_says(&answer, "Connection", "close"));
            assert_int_equal(rig.counters.refused[MD_REFUSAL_TIMEOUT], cases[i].status == 408);
            peer_hang_up(&peer, &rig);
        }
        assert_true(peer.closed);
        assert_int_equal(peer.out.len > 0, cases[i].status != 0);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_progress_moves_the_deadline(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n");
    for (int i = 0; i < 5; i++) {
        rig_wait(&rig, 15000);
        peer_say_c(&peer, &rig, "x");
    }
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.status, 200);
    for (int i = 0; i < 3; i++) { /* so do requests */
        rig_wait(&rig, 50000);
        peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_false(peer.closed);
    }
    rig_wait(&rig, 61000);
    assert_true(peer.closed);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_work_takes_the_time_it_takes(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "POST /slow HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    rig_wait(&rig, 3600 * 1000);
    assert_false(peer.closed);
    respond_text(rig.held, 200, MD_STR("done"));
    peer_only_answer(&peer, &answer);
    assert_true(md_str_eq_c(answer.body, "done"));
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_reader_that_stops_is_closed(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&peer, &rig);
    peer.send_room = 1000;
    peer_say_c(&peer, &rig, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    rig_wait(&rig, 19000);
    peer.send_room = 1; /* one byte is progress */
    peer.unsent = 900;
    peer_run(&peer, &rig);
    rig_wait(&rig, 19000);
    assert_false(peer.closed);
    peer.unsent = 899; /* so is one that leaves the socket */
    rig_wait(&rig, 2000);
    assert_false(peer.closed);
    rig_wait(&rig, 19000);
    assert_false(peer.closed);
    rig_wait(&rig, 2000);
    assert_true(peer.closed);
    assert_int_equal(rig.log[0].status, 200);
    assert_int_equal(rig.log[0].sent_bytes, 1001);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_no_timeouts_when_they_are_off(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    rig_open(&rig, BUDGET);
    rig.config.idle_timeout_ns = rig.config.header_timeout_ns = rig.config.body_timeout_ns = 0;
    peer_open(&peer, &rig);
    rig_wait(&rig, 100000);
    peer_say_c(&peer, &rig, "POST /echo HTTP/1.1\r\n" HOST);
    rig_wait(&rig, 100000);
    peer_say_c(&peer, &rig, "Content-Length: 5\r\n\r\nhel");
    rig_wait(&rig, 100000);
    assert_false(peer.closed);
    assert_int_equal(peer.out.len, 0);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

/* --- memory -------------------- */

static void test_session_announced_bodies_cost_nothing(void **state)
{
    enum { PEERS = 300 };
    static struct md_conn peers[PEERS];
    struct rig rig;

    (void)state;
    rig_open(&rig, BUDGET);
    rig.config.max_body_bytes = 64 * MIB;
    rig.config.access_log = NULL;
    for (size_t i = 0; i < PEERS; i++) {
        peer_open(&peers[i], &rig);
        peer_say_c(&peers[i], &rig,
                   "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 67108864\r\n\r\n");
    }
    md_pool_trim(md_loop_pool(rig.loop), 0);
    assert_int_equal(rig.budget.used_bytes, 0);
    for (size_t i = 0; i < PEERS; i++) { /* a few bytes each: the bound holds */
        peer_say_c(&peers[i], &rig, "some");
        assert_true(rig.budget.used_bytes <= BUDGET);
    }
    struct md_conn good;
    struct answer answer = {0};
    peer_open(&good, &rig);
    peer_say_c(&good, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    if (good.out.len ==
        0) { /* all memory is taken: it waits, and those that hold it up are ended */
        rig_wait(&rig, 25000);
        for (size_t i = 0; i < PEERS; i++) {
            peer_run(&peers[i], &rig);
        }
        rig_wait(&rig, 20);
        peer_run(&good, &rig);
    }
    peer_only_answer(&good, &answer);
    assert_int_equal(answer.status, 200);
    peer_hang_up(&good, &rig);
    peer_free(&good);
    for (size_t i = 0; i < PEERS; i++) {
        if (!peers[i].closed) {
            peer_hang_up(&peers[i], &rig);
        }
        peer_free(&peers[i]);
    }
    rig_close(&rig);
}

/* Somebody else holds nearly all of the budget. */
static struct md_block *take_budget(struct rig *rig, size_t leave)
{
    bool over_budget;
    struct md_block *block =
        md_block_create(&rig->budget, rig->budget.limit_bytes - leave, &over_budget);

    assert_non_null(block);
    return block;
}

static void fill(struct md_bytes *out, size_t len)
{
    assert_true(md_bytes_reserve(out, len));
    memset(out->data + out->len, 'b', len);
    out->len += len;
}

static void large_request(struct md_bytes *request, bool is_chunked)
{
    md_bytes_append_c(
        request, is_chunked ? "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                            : "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n\r\n");
    for (size_t i = 0; i < 9; i++) {
        md_bytes_append_c(request, is_chunked ? "186a0\r\n" : "");
        fill(request, 100000);
        md_bytes_append_c(request, is_chunked ? "\r\n" : "");
    }
    md_bytes_append_c(request, is_chunked ? "0\r\n\r\n" : "");
}

static void test_session_waits_for_memory(void **state)
{
    (void)state;
    for (int is_chunked = 0; is_chunked < 2; is_chunked++) {
        for (size_t leave = 0; leave < 2000 * KIB; leave += 100 * KIB) {
            struct rig rig;
            struct md_conn peer;
            struct answer answer = {0};
            struct md_bytes request = {0};
            rig_open(&rig, 16 * MIB);
            struct md_block *taken = take_budget(&rig, leave);
            peer_open(&peer, &rig);
            large_request(&request, is_chunked);
            peer_say(&peer, &rig, request.data, request.len);
            bool had_to_wait = peer.out.len == 0;
            assert_true(had_to_wait || leave >= 900 * KIB);
            for (int i = 0; i < 20; i++) {
                rig_wait(&rig, 10);
                peer_run(&peer, &rig);
                assert_true(rig.budget.used_bytes <= rig.budget.limit_bytes / 8 * 9);
            }
            assert_int_equal(peer.out.len == 0, had_to_wait);
            md_block_unref(taken);
            rig_wait(&rig, 640); /* who waits asks more and more seldom */
            peer_run(&peer, &rig);
            peer_only_answer(&peer, &answer);
            assert_int_equal(answer.status, 200);
            assert_int_equal(answer.body.len, 900000);
            peer_hang_up(&peer, &rig);
            md_bytes_deinit(&request);
            peer_free(&peer);
            rig_close(&rig);
        }
    }
}

static void test_session_does_not_wait_for_ever(void **state)
{
    (void)state;
    for (int is_chunked = 0; is_chunked < 2; is_chunked++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes request = {0};
        rig_open(&rig, 16 * MIB);
        struct md_block *taken = take_budget(&rig, 400 * KIB);
        peer_open(&peer, &rig);
        large_request(&request, is_chunked);
        peer_say(&peer, &rig, request.data, request.len);
        for (int i = 0; i < 30 && peer.out.len == 0; i++) {
            rig_wait(&rig, 1000);
            peer_run(&peer, &rig);
        }
        peer_only_answer(&peer, &answer);
        assert_int_equal(answer.status, 503);
        assert_true(answer_says(&answer, "Retry-After", "1"));
        assert_int_equal(rig.counters.refused[MD_REFUSAL_MEMORY], 1);
        peer_hang_up(&peer, &rig);
        md_block_unref(taken);
        md_bytes_deinit(&request);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_decoding_is_bounded_too(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};
    struct md_bytes zeros = {0}, request = {0};
    struct md_deflate *deflate = NULL;
    struct md_error err;
    size_t consumed, produced;
    char packed[8192];

    (void)state;
    rig_open(&rig, 16 * MIB);
    rig.config.max_body_bytes = 64 * MIB;
    fill(&zeros, 2 * MIB);
    assert_true(md_deflate_create(MD_CODING_GZIP, NULL, &deflate, &err));
    size_t packed_bytes = 0;
    assert_int_equal(md_deflate_step(deflate, zeros.data, zeros.len, true, packed, sizeof packed,
                                     &consumed, &produced),
                     MD_PROGRESS_AGAIN);
    packed_bytes = produced; /* what fits is enough of a bomb */
    md_deflate_destroy(deflate);
    struct md_block *taken = take_budget(&rig, 600 * KIB);
    peer_open(&peer, &rig);
    md_bytes_printf(&request,
                    "POST /echo HTTP/1.1\r\n" HOST
                    "Content-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
                    packed_bytes);
    md_bytes_append(&request, packed, packed_bytes);
    peer_say(&peer, &rig, request.data, request.len);
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.status, 503);
    assert_true(answer_says(&answer, "Retry-After", "1"));
    peer_hang_up(&peer, &rig);
    md_block_unref(taken);
    md_bytes_deinit(&zeros);
    md_bytes_deinit(&request);
    peer_free(&peer);
    rig_close(&rig);
}

/* Together they are too large: one is told to try again, not both after a minute. */
static void test_session_bodies_do_not_wait_for_each_other(void **state)
{
    (void)state;
    for (int is_chunked = 0; is_chunked <= 1; is_chunked++) {
        struct rig rig;
        struct md_conn peers[2];
        struct md_bytes part = {0};
        size_t statuses[2] = {0};
        const size_t half = 7 * MIB, rest = 4 * MIB;
        rig_open(&rig, 16 * MIB);
        rig.config.max_body_bytes = 64 * MIB;
        fill(&part, half);
        for (size_t i = 0; i < MD_COUNT_OF(peers); i++) {
            peer_open(&peers[i], &rig);
            md_bytes_printf(&peers[i].in, "POST /echo HTTP/1.1\r\n" HOST "%s: ",
                            is_chunked ? "Transfer-Encoding" : "Content-Length");
            if (is_chunked) {
                md_bytes_printf(&peers[i].in, "chunked\r\n\r\n%zx\r\n", half + rest);
            } else {
                md_bytes_printf(&peers[i].in, "%zu\r\n\r\n", half + rest);
            }
            peer_say(&peers[i], &rig, part.data, half);
        }
        for (size_t i = 0; i < MD_COUNT_OF(peers); i++) {
            md_bytes_append(&peers[i].in, part.data, rest);
            peer_say_c(&peers[i], &rig, is_chunked ? "\r\n0\r\n\r\n" : "");
        }
        rig_wait(&rig, 640);
        for (size_t i = 0; i < MD_COUNT_OF(peers); i++) {
            struct answer answer = {0};
            peer_run(&peers[i], &rig);
            peer_only_answer(&peers[i], &answer);
            statuses[i] = answer.status;
            peer_hang_up(&peers[i], &rig);
            peer_free(&peers[i]);
        }
        assert_int_equal(statuses[0] + statuses[1], 200 + 503);
        md_bytes_deinit(&part);
        rig_close(&rig);
    }
}

/* --- shutdown -------------------- */

static void test_session_drain_lets_requests_finish(void **state)
{
    struct rig rig;
    struct md_conn idle, busy, begun, unread, fresh, later, silent;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    peer_open(&idle, &rig);
    peer_open(&busy, &rig);
    peer_open(&begun, &rig);
    peer_say_c(&idle, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    peer_say_c(&busy, &rig, "GET /slow HTTP/1.1\r\n" HOST "\r\n");
    peer_say_c(&begun, &rig, "GET / HT");
    peer_open(&fresh, &rig);
    peer_open(&unread, &rig);
    md_bytes_append_c(&unread.in, "GET / HTTP/1.1\r\n" HOST "\r\n"); /* nobody has looked yet */
    md_session_list_drain(&rig.list);
    assert_true(idle.closed);
    assert_false(busy.closed);
    assert_false(begun.closed);
    assert_false(fresh.closed); /* nobody connects without a reason */
    peer_open(&silent, &rig);
    peer_open(&later, &rig);
    peer_say_c(&fresh, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    peer_say_c(&later, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    peer_say_c(&begun, &rig, "TP/1.1\r\n" HOST "\r\n");
    respond_text(rig.held, 200, MD_STR("done"));
    assert_false(silent.closed);
    rig_wait(&rig, 500);
    assert_true(silent.closed);
    struct md_conn *const rest[] = {&busy, &begun, &unread, &fresh, &later};
    for (size_t i = 0; i < MD_COUNT_OF(rest); i++) {
        at = 0;
        assert_true(peer_answer(rest[i], &at, false, &answer));
        assert_int_equal(answer.status, 200);
        assert_true(answer_says(&answer, "Connection", "close"));
        /* What was sent before that was read is taken off the wire: a reset would take the answer
         * with it. */
        assert_true(rest[i]->shut_down);
        peer_say_c(rest[i], &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
        assert_int_equal(rest[i]->in_at, rest[i]->in.len);
        assert_int_equal(at, rest[i]->out.len);
        peer_hang_up(rest[i], &rig);
        assert_true(rest[i]->closed);
        peer_free(rest[i]);
    }
    peer_free(&idle);
    peer_free(&silent);
    rig_close(&rig);
}

/* Its answer promised to keep the connection, and was still going out when the drain began. */
static void test_session_drain_ends_connections_that_were_promised_to_stay(void **state)
{
    struct rig rig;
    struct md_conn silent, busy;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    rig_open(&rig, BUDGET);
    rig.config.idle_timeout_ns = 0;
    struct md_conn *const peers[] = {&silent, &busy};
    for (size_t i = 0; i < MD_COUNT_OF(peers); i++) {
        peer_open(peers[i], &rig);
        peers[i]->send_room = 1000;
        peer_say_c(peers[i], &rig, "GET /big HTTP/1.1\r\n" HOST "\r\n");
    }
    md_session_list_drain(&rig.list);
    for (size_t i = 0; i < MD_COUNT_OF(peers); i++) {
        peers[i]->send_room = SIZE_MAX;
        peer_run(peers[i], &rig);
        assert_false(peers[i]->closed);
    }
    assert_true(peer_answer(&busy, &at, false, &answer));
    assert_null(answer_header(&answer, "Connection").ptr);
    peer_say_c(&busy, &rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    assert_true(peer_answer(&busy, &at, false, &answer));
    assert_true(answer_says(&answer, "Connection", "close"));
    peer_hang_up(&busy, &rig);
    rig_wait(&rig, 500);
    assert_true(silent.closed);
    peer_free(&silent);
    peer_free(&busy);
    rig_close(&rig);
}

static void test_session_abort_cancels(void **state)
{
    struct rig rig;
    struct md_conn idle, busy, body;

    (void)state;
    rig_open(&rig, BUDGET);
    rig.answer_on_cancel = true;
    peer_open(&idle, &rig);
    peer_open(&busy, &rig);
    peer_open(&body, &rig);
    peer_say_c(&busy, &rig, "GET /slow HTTP/1.1\r\n" HOST "\r\n");
    peer_say_c(&body, &rig, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    md_session_list_abort(&rig.list);
    assert_true(idle.closed && busy.closed && body.closed);
    assert_int_equal(rig.cancels, 1);
    assert_int_equal(rig.log_count, 2);
    peer_free(&idle);
    peer_free(&busy);
    peer_free(&body);
    rig_close(&rig);
}

static void test_session_refusals_have_names(void **state)
{
    (void)state;
    assert_string_equal(md_http_refusal_name(MD_REFUSAL_MALFORMED), "malformed");
    assert_string_equal(md_http_refusal_name(MD_REFUSAL_DEADLINE), "deadline");
    assert_null(md_http_refusal_name(MD_REFUSAL_DEADLINE + 1));
}

/* --- torture -------------------- */

static void torture_requests(struct md_bytes *out)
{
    struct md_deflate *deflate = NULL;
    struct md_error err;
    struct md_bytes text = {0};
    char packed[4096];
    size_t consumed, produced;

    for (int i = 0; i < 5000; i++) {
        md_bytes_append_char(&text, (char)('a' + i % 7));
    }
    assert_true(md_deflate_create(MD_CODING_GZIP, NULL, &deflate, &err));
    assert_int_equal(md_deflate_step(deflate, text.data, text.len, true, packed, sizeof packed,
                                     &consumed, &produced),
                     MD_PROGRESS_DONE);
    md_deflate_destroy(deflate);
    md_bytes_append_c(out, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    md_bytes_printf(out,
                    "POST /echo HTTP/1.1\r\n" HOST
                    "Accept-Encoding: gzip\r\nContent-Encoding: gzip\r\n"
                    "Content-Length: %zu\r\n\r\n",
                    produced);
    md_bytes_append(out, packed, produced);
    md_bytes_append_c(out, "GET /stream HTTP/1.1\r\n" HOST "\r\n"
                           "GET /stream-at-once HTTP/1.1\r\n" HOST "Accept-Encoding: gzip\r\n\r\n"
                           "POST /lead HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 10; i++) {
        md_bytes_printf(out, "%x\r\n", 5000);
        md_bytes_append_str(out, md_bytes_view(&text));
        md_bytes_append_c(out, "\r\n");
    }
    md_bytes_append_c(out, "0\r\n\r\n"
                           "GET / HTTP/1.1\r\n" HOST
                           "a:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\nf:1\r\ng:1\r\nh:1\r\ni:1\r\n"
                           "j:1\r\nk:1\r\nl:1\r\nm:1\r\nn:1\r\no:1\r\np:1\r\nq:1\r\n\r\n"
                           "GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n");
    md_bytes_deinit(&text);
}

/* The Nth allocation fails: every answer is a right one or says what is wrong, and nothing is lost.
 */
static void test_session_every_allocation_may_fail(void **state)
{
    struct md_bytes requests = {0};
    bool delivered = true;
    long n;

    (void)state;
    torture_requests(&requests);
    for (n = 0; delivered; n++) {
        struct rig rig;
        struct md_conn peer = {0};
        struct answer answer = {0};
        size_t at = 0, count = 0;
        unsigned last = 0;
        rig_open(&rig, BUDGET);
        rig.stream_left = 40;
        peer_open(&peer, &rig);
        assert_true(md_bytes_reserve(&peer.in, requests.len));
        assert_true(md_bytes_reserve(&peer.out, 200000));
        md_fault_arm(MD_FAULT_ALLOC, n);
        peer_say(&peer, &rig, requests.data, requests.len);
        for (int i = 0; i < 5 && !peer.shut_down && !peer.closed;
             i++) { /* short memory is tried again */
            rig_wait(&rig, 10);
            peer_run(&peer, &rig);
        }
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        while (peer_answer(&peer, &at, false, &answer)) {
            last = answer.status;
            assert_true(last == 200 || last == 503 || last == 400);
            count++;
        }
        assert_true(delivered || (count == 7 && last == 400));
        assert_true(peer.shut_down || peer.closed);
        if (!peer.closed) {
            peer_hang_up(&peer, &rig);
        }
        assert_true(peer.closed);
        md_bytes_deinit(&answer.unchunked);
        peer_free(&peer);
        rig_close(&rig);
    }
    assert_true(n > 10);
    md_bytes_deinit(&requests);
}

static void test_session_start_may_fail(void **state)
{
    (void)state;
    for (long n = 0; n < 2; n++) {
        struct rig rig;
        struct md_conn peer = {0};
        rig_open(&rig, BUDGET);
        peer.loop = rig.loop;
        md_fault_arm(MD_FAULT_ALLOC, n);
        md_session_start(&peer, &rig.config, &rig.list);
        if (!md_fault_disarm(MD_FAULT_ALLOC)) {
            peer_hang_up(&peer, &rig);
        }
        assert_true(peer.closed);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_limits_time),
        cmocka_unit_test(test_session_progress_moves_the_deadline),
        cmocka_unit_test(test_session_work_takes_the_time_it_takes),
        cmocka_unit_test(test_session_reader_that_stops_is_closed),
        cmocka_unit_test(test_session_no_timeouts_when_they_are_off),
        cmocka_unit_test(test_session_announced_bodies_cost_nothing),
        cmocka_unit_test(test_session_waits_for_memory),
        cmocka_unit_test(test_session_does_not_wait_for_ever),
        cmocka_unit_test(test_session_decoding_is_bounded_too),
        cmocka_unit_test(test_session_bodies_do_not_wait_for_each_other),
        cmocka_unit_test(test_session_drain_lets_requests_finish),
        cmocka_unit_test(test_session_drain_ends_connections_that_were_promised_to_stay),
        cmocka_unit_test(test_session_abort_cancels),
        cmocka_unit_test(test_session_refusals_have_names),
        cmocka_unit_test(test_session_every_allocation_may_fail),
        cmocka_unit_test(test_session_start_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
