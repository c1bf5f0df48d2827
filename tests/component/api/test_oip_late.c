/*
 * Limits of a request's time, and answers that leave before it has ended: over REST, gRPC and
 * streams, in front of identity models and the decoupled `repeat`.
 *
 * What infer/ does when a limit is over is done here by hand: `late` is called while an executor is
 * in the backend.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
#include <cmocka.h>

#include "api/oip/grpc_infer.h"
#include "api/oip/grpc_stream.h"
#include "api/oip/infer.h"
#include "base/clock.h"
#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"

enum { INFLIGHT_BYTES = 64 << 20, IN_FLIGHT_TURNS = 3 };

#define TOO_LATE "Deadline Exceeded"
#define MS(n)    ((uint64_t)(n)*MD_NS_PER_MS)

static struct fake_server server;
static struct fake_exchange fake;
static struct fake_call call;
static struct md_bytes message; /* that the test builds */

static int start(void **state)
{
    char path[256];

    (void)state;
    fake_server_init(&server);
    server.executor_count = 2;
    fake_model(&server, "fast", 0, "FP32", "-1", 1, "");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"40\" } }");
    fake_model(&server, "slower", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"200\" } }");
    fake_model(&server, "repeat", 0, "FP32", "-1", 0, "");
    (void)snprintf(path, sizeof path, "%s/repeat/config.pbtxt", server.folder);
    fake_write(path, "backend: \"repeat\"\n");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    md_bytes_deinit(&message);
    fake_server_stop(&server);
    return 0;
}

static void late(struct md_request *request)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_DEADLINE, TOO_LATE);
    request->responder->late(request, &err);
    memset(&err, '#', sizeof err);
}

static void wait_for_release(const struct md_exchange *x)
{
    for (int turn = 0; x->holds && turn < FAKE_TURNS_MAX; turn++) {
        fake_call_turn(&server);
    }
    assert_int_equal(x->holds, 0);
}

/* --- REST -------------------- */

#define BODY(parameters)                                                                  \
    "{\"id\":\"x\"," parameters "\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\"," \
    "\"shape\":[2],\"data\":[1,2]}]}"

static void send_rest(const char *path, const char *body, const char *timeout)
{
    const struct md_http_header header = {MD_STR("Modeld-Timeout-Ms"),
                                          md_str_of(timeout ? timeout : "")};

    server.headers = &header;
    server.header_count = timeout != NULL;
    fake_send(&server, &fake, MD_HTTP_POST, path, md_str_of(body), -1);
    server.header_count = 0;
}

static const struct md_request *rest_request(void)
{
    return &((struct md_oip_infer *)fake.x.dialect)->base.request;
}

static bool rest_says(const char *text)
{
    return memmem(fake.body.data, fake.body.len, text, strlen(text)) != NULL;
}

static void test_oip_late_rest_limits_reach_the_request(void **state)
{
    static const struct {
        const char *parameters, *timeout;
        uint64_t priority, timeout_ns, deadline_ns; /* the last from the request's begin */
    } table[] = {
        {BODY(""), NULL, 0, 0, 0},
        {BODY("\"parameters\":{\"priority\":3},"), NULL, 3, 0, 0},
        {BODY("\"parameters\":{\"timeout\":1500},"), NULL, 0, 1500000, 0},
        {BODY("\"parameters\":{\"timeout\":9223372036854775807,\"priority\":0},"), NULL, 0,
         UINT64_MAX, 0},
        {BODY("\"parameters\":{\"other\":\"timeout\"},"), "20000", 0, 0, MS(20000)},
        {BODY(""), "18446744073709551615", 0, 0, UINT64_MAX / 2 / MD_NS_PER_MS * MD_NS_PER_MS},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        send_rest("/v2/models/fast/infer", table[i].parameters, table[i].timeout);
        const struct md_request *request = rest_request();
        const uint64_t deadline_ns =
            request->deadline_ns ? request->deadline_ns - fake.x.begin_ns : 0;
        assert_int_equal(fake.status, 200);
        assert_int_equal(request->priority, table[i].priority);
        assert_int_equal(request->timeout_ns, table[i].timeout_ns);
        assert_int_equal(deadline_ns, table[i].deadline_ns);
        assert_int_equal(fake.x.deadline_ns, request->deadline_ns);
        fake_free(&fake);
    }
}

static void test_oip_late_rest_reads_the_deadline_as_it_is_meant(void **state)
{
    static const struct {
        const char *timeout;
        unsigned status;
        const char *says;
    } table[] = {
        {"0", 504, TOO_LATE},
        {"000", 504, TOO_LATE},
        {"", 400, "modeld-timeout-ms '': a natural number of milliseconds was expected"},
        {"-1", 400, "modeld-timeout-ms '-1'"},
        {"1.5", 400, "modeld-timeout-ms '1.5'"},
        {"1s", 400, "modeld-timeout-ms '1s'"},
        {"99999999999999999999", 400, "modeld-timeout-ms '99999999999999999999'"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        send_rest("/v2/models/fast/infer", BODY(""), table[i].timeout);
        assert_int_equal(fake.answers, 1);
        assert_int_equal(fake.status, table[i].status);
        assert_true(rest_says(table[i].says));
        assert_false(fake.retry_after);
        fake_free(&fake);
    }
}

/* What a turn of the loop does to the exchange once its request is in the backend. */
struct deed {
    struct md_loop_task task;
    void (*act)(void);
    int turns;
};

static void run_deed(struct md_loop_task *task)
{
    struct deed *deed = MD_CONTAINER_OF(task, struct deed, task);

    if (--deed->turns) {
        md_loop_defer(server.loop, task);
    } else {
        deed->act();
    }
}

static void rest_is_late(void)
{
    late(&((struct md_oip_infer *)fake.x.dialect)->base.request);
}

static void test_oip_late_rest_answers_at_once(void **state)
{
    struct deed deed = {.task = {.run = run_deed}, .act = rest_is_late, .turns = IN_FLIGHT_TURNS};

    (void)state;
    md_loop_defer(server.loop, &deed.task);
    send_rest("/v2/models/slow/infer", BODY(""), NULL);
    assert_int_equal(fake.status, 504);
    assert_true(rest_says(TOO_LATE));
    assert_int_equal(fake.x.holds, 1);
    wait_for_release(&fake.x);
    assert_int_equal(fake.answers, 1);
    fake_free(&fake);
}

static void rest_goes_then_is_late(void)
{
    fake.x.cancelled = true;
    fake.x.handler->on_cancel(&fake.x);
    rest_is_late();
    assert_int_equal(fake.answers, 0);
    assert_int_equal(fake.x.holds, 0);
}

static void test_oip_late_rest_tells_nobody_who_has_gone(void **state)
{
    struct deed deed = {
        .task = {.run = run_deed}, .act = rest_goes_then_is_late, .turns = IN_FLIGHT_TURNS};

    (void)state;
    md_loop_defer(server.loop, &deed.task);
    send_rest("/v2/models/slow/infer", BODY(""), NULL);
    assert_int_equal(fake.answers, 1); /* dropped by the session */
    assert_int_equal(fake.x.holds, 0);
    fake_free(&fake);
}

/* --- gRPC -------------------- */

static struct md_str message_for(const char *model, const char *id)
{
    md_bytes_clear(&message);
    put_request(&message, model, id, "FP32", 1, RAW("\0\0\x80\x3f"));
    return md_bytes_view(&message);
}

static void open_call(const char *method, const char *timeout)
{
    const struct md_http_header header = {MD_STR("modeld-timeout-ms"),
                                          md_str_of(timeout ? timeout : "")};
    char path[128];

    (void)snprintf(path, sizeof path, "/inference.GRPCInferenceService/%s", method);
    fake_call_open(&server, &call, path, timeout ? &header : NULL);
}

static void test_oip_late_grpc_limits_reach_the_request(void **state)
{
    static const struct {
        const char *name;
        struct choice value;
        const char *timeout;
        uint64_t priority, timeout_ns, deadline_ns;
    } table[] = {
        {"priority", UINT64_PARAM(2), NULL, 2, 0, 0},
        {"priority", INT64_PARAM(4), "300", 4, 0, MS(300)},
        {"timeout", INT64_PARAM(7), NULL, 0, 7000, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        open_call("ModelInfer", table[i].timeout);
        (void)message_for("fast", "");
        put_parameter(&message, 4, table[i].name, table[i].value);
        fake_call_send(&server, &call, md_bytes_view(&message));
        fake_call_close(&server, &call);
        fake_call_wait(&server, &call, SIZE_MAX);
        assert_int_equal(call.error.code, MD_CODE_OK);
        const struct md_oip_grpc_infer *infer = call.fake.x.dialect;
        const struct md_request *request = &infer->base.request;
        assert_int_equal(request->priority, table[i].priority);
        assert_int_equal(request->timeout_ns, table[i].timeout_ns);
        assert_int_equal(request->deadline_ns ? request->deadline_ns - call.fake.x.begin_ns : 0,
                         table[i].deadline_ns);
        fake_call_free(&call);
    }
}

static void test_oip_late_grpc_reads_the_deadline_as_it_is_meant(void **state)
{
    static const char *const methods[] = {"ModelInfer", "ModelStreamInfer"};
    static const struct {
        const char *timeout;
        enum md_code code;
    } table[] = {{"0", MD_CODE_DEADLINE_EXCEEDED}, {"soon", MD_CODE_INVALID_ARGUMENT}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(methods) * MD_COUNT_OF(table); i++) {
        open_call(methods[i / 2], table[i % 2].timeout);
        assert_int_equal(call.ends, 1);
        assert_int_equal(call.error.code, table[i % 2].code);
        fake_call_free(&call);
    }
}

/* The sooner one counts, whichever that is. */
static void test_oip_late_grpc_the_sooner_deadline_counts(void **state)
{
    (void)state;
    for (int sooner = 0; sooner < 2; sooner++) {
        fake_call_init(&server, &call);
        struct md_exchange *x = &call.fake.x;
        call.fake.headers[0] = (struct md_http_header){MD_STR("modeld-timeout-ms"), MD_STR("500")};
        x->head.header_count = 1;
        x->deadline_ns = x->begin_ns + MS(sooner ? 400 : 600); /* grpc-timeout */
        md_oip_grpc_infer_handler.on_head(x);
        assert_int_equal(x->deadline_ns, x->begin_ns + MS(sooner ? 400 : 500));
        fake_call_free(&call);
    }
}

static void test_oip_late_grpc_answers_at_once(void **state)
{
    (void)state;
    open_call("ModelInfer", NULL);
    fake_call_send(&server, &call, message_for("slow", "x"));
    fake_call_close(&server, &call);
    late(&((struct md_oip_grpc_infer *)call.fake.x.dialect)->base.request);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_DEADLINE_EXCEEDED);
    assert_string_equal(call.error.text, TOO_LATE);
    assert_int_equal(call.fake.x.holds, 1);
    wait_for_release(&call.fake.x);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.message_count, 0);
    fake_call_free(&call);
}

/* The session has told the client, and the handler, that its time is over. */
static void test_oip_late_grpc_says_nothing_after_the_session(void **state)
{
    (void)state;
    open_call("ModelInfer", NULL);
    fake_call_send(&server, &call, message_for("slow", "x"));
    fake_call_close(&server, &call);
    fake_call_cancel(&call);
    late(&((struct md_oip_grpc_infer *)call.fake.x.dialect)->base.request);
    assert_int_equal(call.ends, 0);
    assert_int_equal(call.fake.x.holds, 0);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.ends, 1);
    fake_call_free(&call);
}

/* --- streams -------------------- */

static struct md_oip_grpc_stream *stream_of_call(void)
{
    return call.fake.x.dialect;
}

/* The one whose message came last is the first. */
static struct md_request *newest_request(void)
{
    return &stream_of_call()->parts->infer.base.request;
}

static void expect_message(size_t at, const char *expected)
{
    struct md_bytes text = {0};

    assert_true(at < call.message_count);
    print_stream_response(&text, md_bytes_view(&call.messages[at]));
    md_bytes_append_char(&text, '\0');
    assert_string_equal(text.data, expected);
    md_bytes_deinit(&text);
}

#define LATE_MESSAGE(id) "error='" TOO_LATE "' id=" id " triton_final_response=true"
#define GOOD_MESSAGE(model, id) \
    model " 1 id=" id " triton_final_response=true OUTPUT0 FP32[1] raw=0000803f"

static void test_oip_late_stream_answers_at_once_and_goes_on(void **state)
{
    (void)state;
    open_call("ModelStreamInfer", NULL);
    fake_call_send(&server, &call, message_for("slow", "a"));
    late(newest_request());
    assert_int_equal(call.message_count, 1);
    expect_message(0, LATE_MESSAGE("a"));
    assert_int_equal(call.fake.x.holds, 1);
    fake_call_send(&server, &call, message_for("fast", "b"));
    fake_call_wait(&server, &call, 2);
    expect_message(1, GOOD_MESSAGE("fast", "b"));
    wait_for_release(&call.fake.x);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_OK);
    assert_int_equal(call.message_count, 2);
    fake_call_free(&call);
}

static void test_oip_late_stream_keeps_the_order(void **state)
{
    (void)state;
    open_call("ModelStreamInfer", NULL);
    fake_call_send(&server, &call, message_for("slow", "a"));
    struct md_request *first = newest_request();
    fake_call_send(&server, &call, message_for("slow", "b"));
    late(newest_request());
    fake_call_send(&server, &call, message_for("fast", "c"));
    assert_int_equal(call.message_count, 0); /* the first has its turn */
    late(first);
    fake_call_wait(&server, &call, 3);
    expect_message(0, LATE_MESSAGE("a"));
    expect_message(1, LATE_MESSAGE("b"));
    expect_message(2, GOOD_MESSAGE("fast", "c"));
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.error.code, MD_CODE_OK);
    wait_for_release(&call.fake.x);
    fake_call_free(&call);
}

/* Its execution ends before its turn comes. */
static void test_oip_late_stream_may_end_before_it_is_written(void **state)
{
    (void)state;
    open_call("ModelStreamInfer", NULL);
    fake_call_send(&server, &call, message_for("slower", "a"));
    fake_call_send(&server, &call, message_for("slow", "b"));
    late(newest_request());
    wait_for_release(&call.fake.x);
    assert_int_equal(call.message_count, 0);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    expect_message(0, GOOD_MESSAGE("slower", "a"));
    expect_message(1, LATE_MESSAGE("b"));
    assert_int_equal(call.ends, 1);
    fake_call_free(&call);
}

/* The call ends while executions go on. */
static void test_oip_late_stream_ends_before_its_executions(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        const struct md_http_header header = {MD_STR("triton_grpc_error"), MD_STR("true")};
        fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelStreamInfer",
                       how == 1 ? &header : NULL);
        fake_call_send(&server, &call, message_for("slow", "a"));
        struct md_request *first = newest_request();
        fake_call_send(&server, &call, message_for("slow", "b"));
        struct md_request *second = newest_request();
        late(first);
        if (how == 0) {
            fake_call_close(&server, &call);
            late(second);
            assert_int_equal(call.message_count, 2);
            assert_int_equal(call.ends, 1);
            assert_int_equal(call.fake.x.holds, 2);
        } else if (how == 1) { /* the second is cancelled, and waited for */
            assert_int_equal(call.message_count, 0);
            late(second);
            assert_int_equal(call.fake.x.holds, 1);
        } else { /* the client goes */
            fake_call_cancel(&call);
            late(second);
            assert_int_equal(call.fake.x.holds, 1);
        }
        fake_call_wait(&server, &call, SIZE_MAX);
        assert_int_equal(call.ends, 1);
        assert_int_equal(call.error.code, how == 0   ? MD_CODE_OK
                                          : how == 1 ? MD_CODE_DEADLINE_EXCEEDED
                                                     : MD_CODE_CANCELLED);
        wait_for_release(&call.fake.x);
        fake_call_free(&call);
    }
}

static void send_repeat(const char *id, size_t values, uint32_t delay_ms)
{
    struct md_bytes in = {0};

    for (uint32_t i = 0; i < values; i++) {
        md_bytes_append(&in, &i, sizeof i);
    }
    md_bytes_clear(&message);
    put_model(&message, "repeat", id);
    put_tensor(&message, "IN", "INT32", (int64_t)values);
    put_tensor(&message, "DELAY", "UINT32", (int64_t)values);
    put_raw(&message, md_bytes_view(&in));
    md_bytes_clear(&in);
    for (size_t i = 0; i < values; i++) {
        const uint32_t delay = i ? delay_ms : 0;
        md_bytes_append(&in, &delay, sizeof delay);
    }
    put_raw(&message, md_bytes_view(&in));
    fake_call_send(&server, &call, md_bytes_view(&message));
    md_bytes_deinit(&in);
}

/* What a decoupled model still gives is dropped. */
static void test_oip_late_stream_of_a_decoupled_model(void **state)
{
    (void)state;
    open_call("ModelStreamInfer", NULL);
    send_repeat("r", 3, 20);
    struct md_request *request = newest_request();
    fake_call_wait(&server, &call, 1);
    late(request);
    assert_int_equal(call.message_count, 2);
    expect_message(1, LATE_MESSAGE("r"));
    fake_call_send(&server, &call, message_for("fast", "b"));
    fake_call_wait(&server, &call, 3);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    wait_for_release(&call.fake.x);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.message_count, 3);
    fake_call_free(&call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oip_late_rest_limits_reach_the_request),
        cmocka_unit_test(test_oip_late_rest_reads_the_deadline_as_it_is_meant),
        cmocka_unit_test(test_oip_late_rest_answers_at_once),
        cmocka_unit_test(test_oip_late_rest_tells_nobody_who_has_gone),
        cmocka_unit_test(test_oip_late_grpc_limits_reach_the_request),
        cmocka_unit_test(test_oip_late_grpc_reads_the_deadline_as_it_is_meant),
        cmocka_unit_test(test_oip_late_grpc_the_sooner_deadline_counts),
        cmocka_unit_test(test_oip_late_grpc_answers_at_once),
        cmocka_unit_test(test_oip_late_grpc_says_nothing_after_the_session),
        cmocka_unit_test(test_oip_late_stream_answers_at_once_and_goes_on),
        cmocka_unit_test(test_oip_late_stream_keeps_the_order),
        cmocka_unit_test(test_oip_late_stream_may_end_before_it_is_written),
        cmocka_unit_test(test_oip_late_stream_ends_before_its_executions),
        cmocka_unit_test(test_oip_late_stream_of_a_decoupled_model),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
