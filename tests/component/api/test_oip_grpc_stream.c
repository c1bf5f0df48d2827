/*
 * ModelStreamInfer in front of identity models and the decoupled `repeat`: what is answered, in
 * which order, and when the stream ends.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
#include <cmocka.h>

#include "api/oip/grpc_infer.h"
#include "base/fault.h"
#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"

enum { INFLIGHT_BYTES = 64 << 20 };

static struct fake_server server;
static struct fake_call call;
static struct md_bytes request; /* that the test builds */

/* A model of the backend `repeat`, which says itself what it takes and gives. */
static void repeat_model(const char *name)
{
    char path[256];

    fake_model(&server, name, 0, "FP32", "-1", 0, "");
    (void)snprintf(path, sizeof path, "%s/%s/config.pbtxt", server.folder, name);
    fake_write(path, "backend: \"repeat\"\n");
}

static int start(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fast", 0, "FP32", "-1", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "executor", 0, "FP32", "-1", 1,
               "parameters { key: \"modeld_inline\" value { string_value: \"off\" } }");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"10\" } }");
    repeat_model("repeat");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    md_bytes_deinit(&request);
    fake_server_stop(&server);
    return 0;
}

static int begin(void **state)
{
    (void)state;
    fake_call_begin(&server, &call, &md_oip_grpc_stream_infer_handler);
    return 0;
}

/* A stream with the metadata triton_grpc_error. */
static int begin_with_errors(void **state)
{
    const struct md_http_header header = {MD_STR("triton_grpc_error"), MD_STR("true")};

    (void)state;
    fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelStreamInfer", &header);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    assert_int_equal(call.ends, 1);
    fake_call_free(&call);
    return 0;
}

static void send_request(void)
{
    assert_false(request.failed);
    fake_call_send(&server, &call, md_bytes_view(&request));
    md_bytes_clear(&request);
}

static void send(const char *model, const char *id, struct md_str raw)
{
    put_request(&request, model, id, "FP32", (int64_t)(raw.len / 4), raw);
    send_request();
}

/* `values` responses, the first after `delay_ms`. */
static void send_repeat(const char *id, const char *model, size_t values, uint32_t delay_ms,
                        bool wants_final)
{
    struct md_bytes in = {0};

    for (uint32_t i = 0; i < values; i++) {
        md_bytes_append(&in, &i, sizeof i);
    }
    put_model(&request, model, id);
    put_tensor(&request, "IN", "INT32", (int64_t)values);
    put_tensor(&request, "DELAY", "UINT32", 1);
    if (wants_final) {
        put_parameter(&request, 4, "triton_enable_empty_final_response", BOOL_PARAM(1));
    }
    put_raw(&request, md_bytes_view(&in));
    put_raw(&request, md_str_make((const char *)&delay_ms, sizeof delay_ms));
    md_bytes_deinit(&in);
    send_request();
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

static void expect_end(enum md_code code, const char *text)
{
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.ends, 1);
    assert_string_equal(call.error.text, text);
    assert_int_equal(call.error.code, code);
}

/* --- order -------------------- */

static void test_grpc_stream_without_messages(void **state)
{
    (void)state;
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 0);
}

static void test_grpc_stream_answers_each_message(void **state)
{
    (void)state;
    send("fast", "a", RAW("abcd"));
    fake_call_wait(&server, &call, 1);
    expect_message(0, "fast 1 id=a triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
    assert_int_equal(call.ends, 0);
    send("executor", "", RAW("efgh"));
    fake_call_wait(&server, &call, 2);
    expect_message(1, "executor 1 triton_final_response=true OUTPUT0 FP32[1] raw=65666768");
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
}

/* What is ready first waits for what was asked first. */
static void test_grpc_stream_keeps_the_order(void **state)
{
    (void)state;
    send("slow", "1", RAW("abcd"));
    send("fast", "2", RAW("abcd"));
    send("none", "3", RAW("abcd"));
    send("fast", "4", RAW("abcd"));
    assert_int_equal(call.message_count, 0);
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 4);
    expect_message(0, "slow 1 id=1 triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
    expect_message(1, "fast 1 id=2 triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
    expect_message(2, "error='Request for unknown model: 'none' is not found' id=3 "
                      "triton_final_response=true");
    expect_message(3, "fast 1 id=4 triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
}

static void test_grpc_stream_classification(void **state)
{
    (void)state;
    put_request(&request, "labelled", "", "FP32", 1, RAW("\0\0\x80\x3f"));
    size_t output = md_pb_begin(&request, 6);
    md_pb_put_bytes(&request, 1, MD_STR("OUTPUT0"));
    put_parameter(&request, 2, "classification", INT64_PARAM(1));
    md_pb_end(&request, output);
    send_request();
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    expect_message(0, "labelled 1 triton_final_response=true OUTPUT0 BYTES[1] "
                      "raw=0e000000312e3030303030303a303a636174");
}

/* More than may be alive: the stream is paused, and all are answered. */
static void test_grpc_stream_bounds_what_is_alive(void **state)
{
    enum { REQUESTS = 200 };

    (void)state;
    for (int i = 0; i < REQUESTS; i++) {
        send("executor", "", RAW("abcd"));
    }
    assert_true(call.pauses > 0);
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, REQUESTS);
}

/* --- decoupled models -------------------- */

static void test_grpc_stream_decoupled(void **state)
{
    (void)state;
    send_repeat("r", "repeat", 3, 0, false);
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 3);
    expect_message(2, "repeat 1 id=r triton_final_response=false OUT INT32[1] IDX UINT32[1] "
                      "raw=02000000 raw=02000000");
}

static void test_grpc_stream_empty_final_response(void **state)
{
    (void)state;
    send_repeat("r", "repeat", 1, 0, true);
    send_repeat("none", "repeat", 0, 0, true);
    send_repeat("not wanted", "repeat", 0, 0, false);
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 3);
    expect_message(0, "repeat 1 id=r triton_final_response=false OUT INT32[1] IDX UINT32[1] "
                      "raw=00000000 raw=00000000");
    expect_message(1, "repeat 1 id=r triton_final_response=true");
    expect_message(2, "repeat 1 id=none triton_final_response=true");
}

/* A decoupled model holds nobody up, and waits for nobody. */
static void test_grpc_stream_decoupled_is_not_in_order(void **state)
{
    (void)state;
    send_repeat("late", "repeat", 1, 30, false);
    send("fast", "early", RAW("abcd"));
    fake_call_wait(&server, &call, 1);
    expect_message(0, "fast 1 id=early triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 2);
}

/* A request that is refused before it runs is answered, whatever the model is. */
static void test_grpc_stream_decoupled_refusal(void **state)
{
    (void)state;
    send("repeat", "r", RAW("abcd"));
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 1);
    expect_message(0, "error='unexpected inference input 'INPUT0' for model 'repeat'' id=r "
                      "triton_final_response=true");
}

/* While the client reads nothing, the backend gets no further than its credit. */
static void test_grpc_stream_slow_reader_of_decoupled(void **state)
{
    enum { VALUES = 500, CREDIT = 16 };

    (void)state;
    call.is_slow = true;
    send_repeat("r", "repeat", VALUES, 0, false);
    fake_call_wait(&server, &call, CREDIT);
    send("fast", "f", RAW("abcd"));
    assert_int_equal(call.message_count, CREDIT + 1);
    fake_call_read(&call);
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, VALUES + 1);
}

/* The session says "sent" of what it has copied, but it waits: neither more messages are taken nor
 * does the backend go on, until it has left. */
static void test_grpc_stream_slow_reader_of_copies(void **state)
{
    enum { VALUES = 100, CREDIT = 16 };

    (void)state;
    call.copied_bytes = 1 << 20;
    send_repeat("r", "repeat", VALUES, 0, false);
    assert_true(call.paused);
    fake_call_wait(&server, &call, CREDIT);
    for (int turn = 0; turn < 3; turn++) {
        fake_call_turn(&server);
    }
    assert_int_equal(call.message_count, CREDIT);
    assert_true(call.paused);
    call.copied_bytes = 0;
    fake_call_close(&server, &call); /* waits until it goes on */
    assert_false(call.paused);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, VALUES);
}

/* --- errors -------------------- */

static void test_grpc_stream_errors_are_answers(void **state)
{
    (void)state;
    fake_call_send(&server, &call, RAW("\x0a\x05x"));
    send("fast", "my id", RAW("ab"));
    send("fast", "", RAW("abcd"));
    fake_call_close(&server, &call);
    expect_end(MD_CODE_OK, "");
    assert_int_equal(call.message_count, 3);
    expect_message(0, "error='the ModelInferRequest is no valid protobuf message' "
                      "triton_final_response=true");
    expect_message(1, "error='[request id: my id] input byte size mismatch for input 'INPUT0' for "
                      "model 'fast'. Expected 0, got 2' id=my id triton_final_response=true");
    expect_message(2, "fast 1 triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
}

static void test_grpc_stream_error_as_status(void **state)
{
    (void)state;
    send("slow", "1", RAW("abcd"));
    send("none", "2", RAW("abcd"));
    send("fast", "3", RAW("abcd"));
    expect_end(MD_CODE_NOT_FOUND, "Request for unknown model: 'none' is not found");
    assert_int_equal(call.message_count, 1);
    expect_message(0, "slow 1 id=1 triton_final_response=true OUTPUT0 FP32[1] raw=61626364");
}

/* What runs beside the error is cancelled. */
static void test_grpc_stream_error_as_status_cancels(void **state)
{
    (void)state;
    send_repeat("r", "repeat", 1, 60000, false);
    send("slow", "1", RAW("abcd"));
    send("none", "2", RAW("abcd"));
    send("slow", "3", RAW("abcd"));
    expect_end(MD_CODE_NOT_FOUND, "Request for unknown model: 'none' is not found");
    assert_int_equal(call.message_count, 1);
}

static void test_grpc_stream_first_error_as_status(void **state)
{
    (void)state;
    send("none", "", RAW("abcd"));
    assert_int_equal(call.ends, 1);
    expect_end(MD_CODE_NOT_FOUND, "Request for unknown model: 'none' is not found");
}

/* --- cancelling -------------------- */

static void test_grpc_stream_cancel_reaches_all(void **state)
{
    static char zeroes[200000];

    (void)state;
    send_repeat("r", "repeat", 2, 60000, true);
    send("slow", "1", RAW("abcd"));
    send("fast", "2", RAW("abcd"));
    send("slow", "3", RAW("abcd"));
    put_model(&request, "fast", "");
    size_t input = begin_tensor(&request, "INPUT0", "INT32", sizeof zeroes);
    size_t contents = md_pb_begin(&request, 5);
    md_pb_put_bytes(&request, 2, md_str_make(zeroes, sizeof zeroes));
    md_pb_end(&request, contents);
    md_pb_end(&request, input);
    send_request();
    fake_call_cancel(&call);
    expect_end(MD_CODE_CANCELLED, "the stream was cancelled");
    assert_int_equal(call.message_count, 0);
}

static void test_grpc_stream_cancel_without_messages(void **state)
{
    (void)state;
    fake_call_cancel(&call);
    expect_end(MD_CODE_CANCELLED, "the stream was cancelled");
}

static void test_grpc_stream_cancel_of_a_slow_reader(void **state)
{
    (void)state;
    call.is_slow = true;
    send_repeat("r", "repeat", 100, 0, false);
    send("fast", "", RAW("abcd"));
    fake_call_wait(&server, &call, 10);
    fake_call_cancel(&call);
    expect_end(MD_CODE_CANCELLED, "the stream was cancelled");
}

static void test_grpc_stream_cancel_after_half_close(void **state)
{
    (void)state;
    send("slow", "", RAW("abcd"));
    fake_call_close(&server, &call);
    fake_call_cancel(&call);
    expect_end(MD_CODE_CANCELLED, "the stream was cancelled");
}

int main(void)
{
#define STREAM(name)             cmocka_unit_test_setup_teardown(name, begin, finish)
#define STREAM_WITH_ERRORS(name) cmocka_unit_test_setup_teardown(name, begin_with_errors, finish)
    const struct CMUnitTest tests[] = {
        STREAM(test_grpc_stream_without_messages),
        STREAM(test_grpc_stream_answers_each_message),
        STREAM(test_grpc_stream_keeps_the_order),
        STREAM(test_grpc_stream_classification),
        STREAM(test_grpc_stream_bounds_what_is_alive),
        STREAM(test_grpc_stream_decoupled),
        STREAM(test_grpc_stream_empty_final_response),
        STREAM(test_grpc_stream_decoupled_is_not_in_order),
        STREAM(test_grpc_stream_decoupled_refusal),
        STREAM(test_grpc_stream_slow_reader_of_decoupled),
        STREAM(test_grpc_stream_slow_reader_of_copies),
        STREAM(test_grpc_stream_errors_are_answers),
        STREAM_WITH_ERRORS(test_grpc_stream_error_as_status),
        STREAM_WITH_ERRORS(test_grpc_stream_error_as_status_cancels),
        STREAM_WITH_ERRORS(test_grpc_stream_first_error_as_status),
        STREAM(test_grpc_stream_cancel_reaches_all),
        STREAM(test_grpc_stream_cancel_without_messages),
        STREAM(test_grpc_stream_cancel_of_a_slow_reader),
        STREAM(test_grpc_stream_cancel_after_half_close),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
