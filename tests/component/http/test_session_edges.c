/*
 * Sessions at the edges of their buffers: pipelines that do not fit, answers of many parts, streams
 * whose handlers do not listen, lists of codings that are half nonsense.
 */
#include "component/http/fake_conn.h"

enum { BUDGET = 64 * 1024 * 1024, PIPELINED = 2000, PARTS = 200 };

#define HOST "Host: x\r\n"

static size_t count_answers(const struct md_conn *peer, const char *body)
{
    struct answer answer = {0};
    size_t at = 0, count = 0;

    while (peer_answer(peer, &at, false, &answer)) {
        assert_int_equal(answer.status, 200);
        assert_true(md_str_eq_c(answer.body, body));
        count++;
    }
    assert_int_equal(at, peer->out.len);
    md_bytes_deinit(&answer.unchunked);
    return count;
}

/* Heads lie across the end of the read buffer, wherever it ends. */
static void test_session_answers_a_pipeline_larger_than_its_buffer(void **state)
{
    (void)state;
    for (size_t padding = 0; padding < 40; padding += 3) {
        struct rig rig;
        struct md_conn peer;
        struct md_bytes said = {0};
        rig_open(&rig, BUDGET);
        rig.config.access_log = NULL;
        peer_open(&peer, &rig);
        for (size_t i = 0; i < PIPELINED; i++) {
            md_bytes_printf(&said, "GET / HTTP/1.1\r\n" HOST "P: %.*s\r\n\r\n", (int)padding,
                            "........................................");
        }
        peer_say(&peer, &rig, said.data, said.len);
        assert_int_equal(count_answers(&peer, "hello"), PIPELINED);
        assert_int_equal(rig.requests, PIPELINED);
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&said);
        peer_free(&peer);
        rig_close(&rig);
    }
}

/* --- handlers of this file -------------------- */

static struct iovec parts[PARTS];
static char seen_header[32];
static bool seen_missing;

static void on_parts(struct md_exchange *x)
{
    const struct md_http_response response = {
        .status = 200, .content_type = "text/plain", .parts = parts, .part_count = PARTS};

    (void)snprintf(seen_header, sizeof seen_header, "%.*s",
                   MD_STR_ARG(md_exchange_header(x, "x-MINE")));
    seen_missing = md_exchange_header(x, "x-min").ptr == NULL;
    md_exchange_respond(x, &response);
}

static void on_silent_stream(struct md_exchange *x)
{
    rig_now->held = x;
    md_exchange_begin(x, &stream_response, NULL);
}

/* Routes that take memory and do not get it are no reason to believe the path. */
static void on_route(void *arg, struct md_exchange *x)
{
    static const struct md_http_handler parts_handler = {.on_request = on_parts};
    static const struct md_http_handler silent_handler = {.on_request = on_silent_stream};

    (void)arg;
    if (md_str_eq_c(x->head.path, "/no-memory")) {
        md_fault_arm(MD_FAULT_REGION, 0);
        assert_null(md_arena_alloc(&x->arena, 1));
        (void)md_fault_disarm(MD_FAULT_REGION);
    }
    x->handler = md_str_eq_c(x->head.path, "/silent") ? &silent_handler : &parts_handler;
}

static void open_with_route(struct rig *rig, struct md_conn *peer)
{
    rig_open(rig, BUDGET);
    rig->config.route = on_route;
    peer_open(peer, rig);
}

static void test_session_sends_any_number_of_parts(void **state)
{
    static char bytes[PARTS];
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    for (size_t i = 0; i < PARTS; i++) {
        bytes[i] = (char)('a' + i % 26);
        parts[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
    }
    for (size_t step = 1; step < 300; step += 31) {
        open_with_route(&rig, &peer);
        peer.send_step = step;
        peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "X-Mine:  a b \r\n\r\n");
        peer_only_answer(&peer, &answer);
        assert_true(md_str_eq(answer.body, md_str_make(bytes, PARTS)));
        peer_hang_up(&peer, &rig);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_session_shows_headers_to_handlers(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    open_with_route(&rig, &peer);
    peer_say_c(&peer, &rig, "GET / HTTP/1.1\r\n" HOST "X-Mine: \t a b \r\nX-Mine: c\r\n\r\n");
    assert_string_equal(seen_header, "a b"); /* the first of two */
    assert_true(seen_missing);
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_refuses_what_could_not_be_routed(void **state)
{
    struct rig rig;
    struct md_conn peer;
    struct answer answer = {0};

    (void)state;
    open_with_route(&rig, &peer);
    peer_say_c(&peer, &rig, "GET /no-memory HTTP/1.1\r\n" HOST "\r\n");
    peer_only_answer(&peer, &answer);
    assert_int_equal(answer.status, 503);
    assert_true(answer_says(&answer, "Retry-After", "1"));
    peer_hang_up(&peer, &rig);
    peer_free(&peer);
    rig_close(&rig);
}

/* Neither on_cancel nor drained: the exchange waits for the handler's end. */
static void test_session_stream_of_a_handler_that_does_not_listen(void **state)
{
    struct rig rig;
    struct md_conn peer;

    (void)state;
    open_with_route(&rig, &peer);
    peer_say_c(&peer, &rig, "GET /silent HTTP/1.1\r\n" HOST "\r\n");
    peer_hang_up(&peer, &rig);
    assert_true(peer.closed);
    assert_int_equal(rig.list.count, 1); /* it may still be written to */
    assert_true(rig.held->cancelled);
    assert_false(md_exchange_write(rig.held, MD_STR("x")));
    md_exchange_end(rig.held);
    peer_free(&peer);
    rig_close(&rig);
}

static void test_session_reads_lists_of_codings(void **state)
{
    static const struct {
        const char *accept, *coding; /* NULL: not compressed */
    } cases[] = {
        {"gzip", "gzip"},
        {",, gzip ,", "gzip"},
        {" ; q=1, deflate", "deflate"},
        {"gzip;q=0", NULL},
        {"gzip;q=0.000, deflate;q=0.001", "deflate"},
        {"gzip;q=0.5, deflate;q=0.51", "deflate"},
        {"gzip;q=0.5, identity;q=0.6", NULL},
        {"*", "gzip"},
        {"*;q=0", NULL},
        {"br, *;q=0.1", "gzip"},
        {"gzip;q=", NULL},
        {"gzip;q=x", NULL},
        {"gzip;q", NULL},
        {"gzip;level=1", NULL},
        {"gzip;q=1x", NULL},
        {"gzip;q=0.1:", NULL},
        {"GZIP;Q=1", "gzip"},
        {"x-gzip", NULL},
        {"identity", NULL},
    };
    struct md_bytes body = {0};

    (void)state;
    for (int i = 0; i < 3000; i++) {
        md_bytes_append_char(&body, (char)('a' + i % 3));
    }
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct rig rig;
        struct md_conn peer;
        struct answer answer = {0};
        struct md_bytes said = {0};
        rig_open(&rig, BUDGET);
        peer_open(&peer, &rig);
        md_bytes_printf(&said,
                        "POST /echo HTTP/1.1\r\n" HOST
                        "Accept-Encoding: %s\r\nContent-Length: %zu\r\n\r\n",
                        cases[i].accept, body.len);
        md_bytes_append_str(&said, md_bytes_view(&body));
        peer_say(&peer, &rig, said.data, said.len);
        peer_only_answer(&peer, &answer);
        struct md_str coding = answer_header(&answer, "Content-Encoding");
        if (!md_str_eq(coding, md_str_of(cases[i].coding))) {
            fail_msg("%s: %.*s", cases[i].accept, MD_STR_ARG(coding));
        }
        peer_hang_up(&peer, &rig);
        md_bytes_deinit(&said);
        peer_free(&peer);
        rig_close(&rig);
    }
    md_bytes_deinit(&body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_answers_a_pipeline_larger_than_its_buffer),
        cmocka_unit_test(test_session_sends_any_number_of_parts),
        cmocka_unit_test(test_session_shows_headers_to_handlers),
        cmocka_unit_test(test_session_refuses_what_could_not_be_routed),
        cmocka_unit_test(test_session_stream_of_a_handler_that_does_not_listen),
        cmocka_unit_test(test_session_reads_lists_of_codings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
