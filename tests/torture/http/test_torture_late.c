/*
 * Answers of exchanges that are held, with every allocation failing once, or all from one on: the
 * client has its status or loses its connection, the held memory stays as it is until it is
 * released, and no byte of the budget stays behind.
 */
#include "component/http/fake_http2.h"
#include "torture/torture.h"

enum { BUDGET = 64 * 1024 * 1024, BODY_BYTES = 20000, OUT_BYTES = 256 * 1024 };

static struct client client;
static char body_bytes[BODY_BYTES];

static void check_answer(const struct torture *t, struct md_conn *peer)
{
    struct answer answer = {0};
    size_t at = 0;

    if (!peer_answer(peer, &at, false, &answer)) {
        torture_check(t, t->delivered && peer->closed);
        return;
    }
    torture_check(t, answer.status == 504);
    torture_check(t, md_str_eq_c(answer.body, LATE_TEXT) || (t->delivered && !answer.body.len));
}

static void test_torture_late_answers(void **state)
{
    static const char head[] = "POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n";

    (void)state;
    for (struct torture t = {.kind = MD_FAULT_ALLOC}; torture_next(&t);) {
        struct rig rig;
        struct md_conn peer;
        http2_rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        peer_say_c(&peer, &rig, head);
        peer_say(&peer, &rig, body_bytes, sizeof body_bytes);
        assert_true(md_bytes_reserve(&peer.out, OUT_BYTES));
        torture_arm(&t);
        struct md_exchange *x = late_answer(&rig);
        peer_run(&peer, &rig);
        (void)torture_disarm(&t);
        check_answer(&t, &peer);
        torture_check(&t, rig.list.count == 1 && late_is_whole(x));
        if (t.at % 2) {
            peer_hang_up(&peer, &rig);
        }
        md_exchange_release(x);
        peer_hang_up(&peer, &rig);
        peer_free(&peer);
        http2_rig_close(&rig);
    }
}

static void check_call(const struct torture *t, const struct client_call *call, bool is_grpc)
{
    if (is_grpc ? call->grpc_status != 4 : call->status != 504) {
        torture_check(t, t->delivered && (call->error != MD_HTTP2_NO_ERROR || client.conn.closed ||
                                          client.conn.shut_down));
    }
}

static void torture_stream(bool is_grpc)
{
    for (struct torture t = {.kind = MD_FAULT_ALLOC}; torture_next(&t);) {
        struct rig rig;
        const struct md_str body = md_str_make(body_bytes, sizeof body_bytes);
        http2_rig_open(&rig, BUDGET);
        client_open(&client, &rig);
        struct client_call *call = is_grpc
                                       ? client_grpc(&client, "/g/hold", body, false)
                                       : client_ask(&client, "POST", "/late", NULL, body, false);
        client_run(&client);
        assert_true(md_bytes_reserve(&client.conn.out, OUT_BYTES));
        assert_true(md_bytes_reserve(&client.conn.in, OUT_BYTES));
        assert_true(md_bytes_reserve(&call->body, OUT_BYTES));
        struct md_exchange *x = rig.held;
        torture_arm(&t);
        if (is_grpc) {
            md_exchange_hold(x);
            fail_call(x, MD_REASON_DEADLINE, "Deadline Exceeded");
        } else {
            (void)late_answer(&rig);
        }
        client_run(&client);
        (void)torture_disarm(&t);
        check_call(&t, call, is_grpc);
        torture_check(&t, rig.list.count == 1 && rig.cleanups == -1);
        if (t.at % 2) {
            client_hang_up(&client);
        }
        md_exchange_release(x);
        torture_check(&t, rig.cleanups == 0);
        client_run(&client);
        client_close(&client);
        http2_rig_close(&rig);
    }
}

static void test_torture_late_streams(void **state)
{
    (void)state;
    torture_stream(false);
}

static void test_torture_late_calls(void **state)
{
    (void)state;
    torture_stream(true);
}

static int set_up(void **state)
{
    (void)state;
    memset(body_bytes, 'b', sizeof body_bytes);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_late_answers),
        cmocka_unit_test(test_torture_late_streams),
        cmocka_unit_test(test_torture_late_calls),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
