/*
 * Answers that go out while somebody still works in the exchange's memory: the client has its
 * answer at once, the memory stays until it is released, whatever becomes of the connection.
 */
#include "component/http/fake_http2.h"

enum { BUDGET = 64 * 1024 * 1024, BODY_BYTES = 300000 };

static struct rig rig;
static struct client client;
static char body_bytes[BODY_BYTES];

static int set_up(void **state)
{
    (void)state;
    memset(body_bytes, 'b', sizeof body_bytes);
    http2_rig_open(&rig, BUDGET);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http2_rig_close(&rig);
    return 0;
}

static struct md_str body_of(size_t len)
{
    return md_str_make(body_bytes, len);
}

/* What becomes of a connection whose exchange is held. */
enum fate {
    IS_RELEASED_FIRST, /* before the answer is read */
    READS,             /* the answer, and hangs up; then it is released */
    STAYS,             /* reads the answer and waits */
    VANISHES,          /* without reading it */
    IS_ABORTED,
    FATE_COUNT,
};

/* --- HTTP/1 -------------------- */

static void post_late(struct md_conn *peer, const char *fields, size_t len)
{
    char head[256];

    (void)snprintf(head, sizeof head,
                   "POST /late HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", fields, len);
    md_bytes_append_c(&peer->in, head);
    md_bytes_append_str(&peer->in, body_of(len));
    peer_run(peer, &rig);
    assert_non_null(rig.held);
}

static void assert_late_answer(const struct md_conn *peer)
{
    struct answer answer = {0};

    peer_only_answer(peer, &answer);
    assert_int_equal(answer.status, 504);
    assert_true(md_str_eq_c(answer.body, LATE_TEXT));
    assert_true(answer_says(&answer, "Connection", "close"));
    assert_true(answer_says(&answer, "Retry-After", "1"));
    assert_null(answer_header(&answer, "Content-Encoding").ptr);
}

static void meet_fate(struct md_conn *peer, struct md_exchange *x, enum fate fate)
{
    switch (fate) {
    case IS_RELEASED_FIRST:
        md_exchange_release(x);
        peer->send_room = SIZE_MAX;
        peer_run(peer, &rig);
        assert_late_answer(peer);
        peer_hang_up(peer, &rig);
        return;
    case READS:
    case STAYS:
        peer->send_room = SIZE_MAX;
        peer_run(peer, &rig);
        assert_late_answer(peer);
        assert_true(peer->shut_down);
        if (fate == READS) {
            peer_hang_up(peer, &rig);
        }
        break;
    case VANISHES:
        peer->broken = true;
        peer_hang_up(peer, &rig);
        break;
    default:
        md_session_list_abort(&rig.list);
    }
    assert_int_equal(peer->closed, fate != STAYS);
    assert_int_equal(rig.list.count, 1); /* shutdown waits for it */
    assert_int_equal(rig.cleanups, -1);
    assert_true(late_is_whole(x));
    md_exchange_release(x);
    assert_int_equal(rig.cleanups, 0);
    if (fate == STAYS) {
        assert_int_equal(rig.list.count, 1);
        peer_hang_up(peer, &rig);
    }
}

static void test_session_late_answers_leave_at_once(void **state)
{
    static const size_t lengths[] = {0, 10, 5000, BODY_BYTES};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(lengths); i++) {
        for (enum fate fate = 0; fate < FATE_COUNT; fate++) {
            struct md_conn peer;
            peer_open(&peer, &rig);
            post_late(&peer, "Accept-Encoding: gzip\r\n", lengths[i]);
            peer.send_room = fate == READS || fate == STAYS ? SIZE_MAX : 30;
            struct md_exchange *x = late_answer(&rig);
            assert_true(rig.budget.used_bytes >= lengths[i]);
            meet_fate(&peer, x, fate);
            assert_true(peer.closed);
            assert_int_equal(rig.cancels, 0);
            assert_null(rig.list.first);
            peer_free(&peer);
        }
    }
    assert_int_equal(http2_logged, MD_COUNT_OF(lengths) * FATE_COUNT);
}

/* Nothing that follows on the connection is answered, and nothing of it touches the memory. */
static void test_session_late_answers_end_the_connection(void **state)
{
    struct md_conn peer;

    (void)state;
    peer_open(&peer, &rig);
    post_late(&peer, "", 10);
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    struct md_exchange *x = late_answer(&rig);
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_late_answer(&peer);
    assert_int_equal(rig.requests, 1);
    rig_wait(&rig, 3000); /* longer than it waits for the peer to see the end */
    assert_true(peer.closed);
    assert_true(late_is_whole(x));
    md_exchange_release(x);
    assert_null(rig.list.first);
    peer_free(&peer);
}

static void test_session_late_answers_have_as_many_holds_as_wanted(void **state)
{
    struct md_conn peer;

    (void)state;
    peer_open(&peer, &rig);
    post_late(&peer, "", 10);
    md_exchange_hold(rig.held);
    md_exchange_hold(rig.held);
    struct md_exchange *x = late_answer(&rig);
    peer_hang_up(&peer, &rig);
    md_exchange_release(x);
    md_exchange_release(x);
    assert_int_equal(rig.cleanups, -1);
    md_exchange_release(x);
    assert_null(rig.list.first);
    peer_free(&peer);
}

static void test_session_late_answers_to_head_requests_have_no_body(void **state)
{
    struct md_conn peer;
    struct answer answer = {0};
    size_t at = 0;

    (void)state;
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "HEAD /late HTTP/1.0\r\n\r\n");
    struct md_exchange *x = late_answer(&rig);
    peer_run(&peer, &rig);
    assert_true(peer_answer(&peer, &at, true, &answer));
    assert_int_equal(at, peer.out.len);
    assert_int_equal(answer.status, 504);
    assert_true(peer.closed);
    md_exchange_release(x);
    peer_free(&peer);
}

/* A drain waits for what is held, and it is cut off no sooner than any other. */
static void test_session_late_answers_are_waited_for_by_a_drain(void **state)
{
    struct md_conn peer;

    (void)state;
    peer_open(&peer, &rig);
    post_late(&peer, "", 10);
    md_session_list_drain(&rig.list);
    struct md_exchange *x = late_answer(&rig);
    peer_hang_up(&peer, &rig);
    md_session_list_drain(&rig.list);
    assert_int_equal(rig.list.count, 1);
    md_session_list_abort(&rig.list);
    assert_int_equal(rig.list.count, 1);
    md_exchange_release(x);
    assert_int_equal(rig.list.count, 0);
    peer_free(&peer);
}

/* --- HTTP/2 -------------------- */

static struct client_call *ask_late(size_t len)
{
    static const char *const fields[] = {"accept-encoding", "gzip", NULL};
    struct client_call *call = client_ask(&client, "POST", "/late", fields, body_of(len), false);

    client_run(&client);
    assert_non_null(rig.held);
    return call;
}

static void assert_late_call(const struct client_call *call)
{
    assert_int_equal(call->status, 504);
    assert_true(call->ended);
    assert_true(call_says(call, "retry-after: 1\n") || call_says(call, "Retry-After: 1\n"));
    assert_false(call_says(call, "content-encoding"));
    assert_true(md_str_eq_c(md_bytes_view(&call->body), LATE_TEXT));
}

static void assert_connection_goes_on(void)
{
    struct client_call *call = client_ask(&client, "GET", "/", NULL, MD_STR(""), false);

    client_run(&client);
    assert_int_equal(call->status, 200);
    assert_true(call->closed);
}

static void test_session_late_streams_end_at_once(void **state)
{
    static const size_t lengths[] = {0, 10, 5000, BODY_BYTES};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(lengths); i++) {
        for (enum fate fate = 0; fate < FATE_COUNT; fate++) {
            client_open(&client, &rig);
            struct client_call *call = ask_late(lengths[i]);
            client.deaf = fate == VANISHES || fate == IS_ABORTED;
            struct md_exchange *x = late_answer(&rig);
            assert_true(rig.budget.used_bytes >= lengths[i]);
            if (fate == IS_RELEASED_FIRST) {
                md_exchange_release(x);
                assert_int_equal(rig.cleanups, 0);
            }
            client_run(&client);
            if (fate < VANISHES) {
                assert_late_call(call);
                assert_connection_goes_on();
            }
            if (fate == READS || fate == VANISHES) {
                client_hang_up(&client);
            } else if (fate == IS_ABORTED) {
                md_session_list_abort(&rig.list);
            }
            if (fate == IS_RELEASED_FIRST) {
                client_close(&client);
                continue;
            }
            assert_int_equal(client.conn.closed, fate != STAYS);
            assert_int_equal(rig.list.count, 1);
            assert_int_equal(rig.cleanups, -1);
            assert_true(late_is_whole(x));
            md_exchange_release(x);
            assert_int_equal(rig.cleanups, 0);
            rig_turn(&rig);
            rig_turn(&rig);
            assert_int_equal(rig.list.count, fate == STAYS);
            if (fate == STAYS) {
                assert_connection_goes_on();
                client_close(&client);
            } else {
                client_free(&client);
            }
            assert_int_equal(rig.cancels, 0);
        }
    }
}

/* Streams that are over do not count against those that a client may have. */
static void test_session_late_streams_make_room_for_others(void **state)
{
    enum { ALLOWED = 3, ROUNDS = 5 };
    struct md_exchange *held[ROUNDS];

    (void)state;
    http2_options.limits.max_concurrent_streams = ALLOWED;
    client_open(&client, &rig);
    for (int i = 0; i < ROUNDS; i++) {
        struct client_call *call = ask_late(100);
        held[i] = late_answer(&rig);
        client_run(&client);
        assert_late_call(call);
    }
    assert_int_equal(rig.cleanups, -ROUNDS);
    md_exchange_release(held[1]);
    md_exchange_release(held[4]);
    client_hang_up(&client);
    assert_true(client.conn.closed);
    md_exchange_release(held[0]);
    md_exchange_release(held[3]);
    assert_int_equal(rig.list.count, 1);
    assert_true(late_is_whole(held[2]));
    md_exchange_release(held[2]);
    rig_turn(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.list.count, 0);
    client_free(&client);
}

/* The client resets its stream before it has read the answer. */
static void test_session_late_streams_bear_resets(void **state)
{
    (void)state;
    for (unsigned steps = 0; steps < 10; steps++) {
        client_open(&client, &rig);
        struct client_call *call = ask_late(10);
        client.conn.send_room = steps;
        struct md_exchange *x = late_answer(&rig);
        client_reset(&client, call);
        (void)client_exchange(&client);
        client_run(&client);
        client.conn.send_room = SIZE_MAX;
        client_run(&client);
        assert_int_equal(rig.cancels, 0);
        assert_true(late_is_whole(x));
        md_exchange_release(x);
        assert_connection_goes_on();
        client_close(&client);
    }
}

static void test_session_late_calls_end_at_once(void **state)
{
    static const struct {
        const char *path;
        size_t bytes;
    } table[] = {
        {"/g/hold", 10}, {"/g/hold", BODY_BYTES}, {"/g/stream-hold", 10}, {"/g/hold-on", 3000}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        for (int loses = 0; loses < 2; loses++) {
            client_open(&client, &rig);
            struct client_call *call =
                client_grpc(&client, table[i].path, body_of(table[i].bytes), false);
            client_run(&client);
            struct md_exchange *x = rig.held;
            assert_non_null(x);
            md_exchange_hold(x);
            fail_call(x, MD_REASON_DEADLINE, "Deadline Exceeded");
            if (loses) {
                client_hang_up(&client);
                assert_int_equal(rig.list.count, 1);
            } else {
                client_run(&client);
                assert_int_equal(call->grpc_status, 4);
                assert_true(call->closed);
                assert_connection_goes_on();
            }
            assert_int_equal(rig.cleanups, -1);
            md_exchange_release(x);
            assert_int_equal(rig.cleanups, 0);
            rig_turn(&rig);
            client_close(&client);
            assert_int_equal(rig.cancels, 0);
        }
    }
}

/* --- deadlines of clients -------------------- */

static void test_session_late_bodies_are_not_waited_for(void **state)
{
    (void)state;
    for (int is_http2 = 0; is_http2 < 2; is_http2++) {
        struct md_conn peer;
        struct answer answer = {0};
        struct client_call *call = NULL;
        if (is_http2) {
            client_open(&client, &rig);
            call = client_ask(&client, "POST", "/soon", NULL, MD_STR("hal"), true);
            client_run(&client);
            client_wait(&client, 900);
            assert_int_equal(call->status, 0);
            client_wait(&client, 200);
            assert_int_equal(call->status, 504);
            assert_true(call->closed);
            client_close(&client);
        } else {
            peer_open(&peer, &rig);
            peer_say_c(&peer, &rig,
                       "POST /soon HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhal");
            rig_wait(&rig, 900);
            peer_say_c(&peer, &rig, "l");
            assert_int_equal(peer.out.len, 0);
            rig_wait(&rig, 200);
            peer_only_answer(&peer, &answer);
            assert_int_equal(answer.status, 504);
            peer_hang_up(&peer, &rig);
            assert_true(peer.closed);
            peer_free(&peer);
        }
        assert_int_equal(rig.counters.refused[MD_REFUSAL_DEADLINE], is_http2 + 1);
        assert_int_equal(rig.counters.refused[MD_REFUSAL_TIMEOUT], 0);
    }
    assert_int_equal(rig.requests, 0);
}

/* A deadline is one request's own, and its handler's affair once the request is there. */
static void test_session_late_deadlines_are_forgotten_with_their_request(void **state)
{
    struct md_conn peer;
    size_t at = 0;
    struct answer answer = {0};

    (void)state;
    peer_open(&peer, &rig);
    peer_say_c(&peer, &rig, "POST /soon HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_int_equal(answer.status, 200);
    rig_wait(&rig, 2000);
    peer_say_c(&peer, &rig, "POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel");
    rig_wait(&rig, 2000);
    peer_say_c(&peer, &rig, "lo");
    assert_non_null(rig.held);
    respond_text(rig.held, 200, MD_STR("hello"));
    peer_run(&peer, &rig);
    assert_true(peer_answer(&peer, &at, false, &answer));
    assert_int_equal(answer.status, 200);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_session_late_answers_leave_at_once),
        TEST(test_session_late_answers_end_the_connection),
        TEST(test_session_late_answers_have_as_many_holds_as_wanted),
        TEST(test_session_late_answers_to_head_requests_have_no_body),
        TEST(test_session_late_answers_are_waited_for_by_a_drain),
        TEST(test_session_late_streams_end_at_once),
        TEST(test_session_late_streams_make_room_for_others),
        TEST(test_session_late_streams_bear_resets),
        TEST(test_session_late_calls_end_at_once),
        TEST(test_session_late_bodies_are_not_waited_for),
        TEST(test_session_late_deadlines_are_forgotten_with_their_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
