/*
 * Traces of inferences: settings over REST, the spans that leave, and what answers say.
 * The receiver is a function; what it gets is what an OTLP receiver would.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"
#include "component/api/pb_path.h"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
#define REQUEST \
    "{\"id\":\"x\",\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2]}]}"

static struct fake_server server;
static struct md_bytes spans; /* what the receiver got: a list of them */

static void keep_spans(struct md_str list)
{
    md_bytes_append_str(&spans, list);
}

/* Calls are let through as this flag says. */
static void restrict_to(const char *flag)
{
    char *argv[] = {(char *)(uintptr_t) "modeld", (char *)(uintptr_t)flag, NULL};
    static struct md_options options;
    struct md_error err;

    assert_true(
        md_options_parse(2, argv, NULL, false, NULL, &server.arena, &options, &server.diagnostics));
    fake_demand(md_access_create(&options, &server.arena, &server.oip.access, &err), &err);
}

static int setup(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "one", 8, "FP32", "2", 1, "");
    fake_model(&server, "other", 8, "FP32", "2", 1, "");
    fake_model(&server, "line", 0, "FP32", "-1", 1, "");
    fake_server_on_spans = keep_spans;
    fake_server_start(&server, 1 << 26);
    restrict_to("--management=open");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_server_stop(&server);
    md_bytes_deinit(&spans);
    memset(&spans, 0, sizeof spans);
    return 0;
}

/* --- requests -------------------- */

static struct fake_exchange fake;

static void get(const char *path)
{
    fake_send(&server, &fake, MD_HTTP_GET, path, MD_STR(""), -1);
}

static void post(const char *path, const char *body)
{
    fake_send(&server, &fake, MD_HTTP_POST, path, md_str_of(body), -1);
}

static void expect(unsigned status, const char *body)
{
    if (fake.status != status || !md_str_eq_c(md_bytes_view(&fake.body), body)) {
        fail_msg("%u %.*s", fake.status, MD_STR_ARG(md_bytes_view(&fake.body)));
    }
    fake_free(&fake);
}

static void change(const char *path, const char *body)
{
    post(path, body);
    if (fake.status != 200) {
        fail_msg("%s: %u %.*s", body, fake.status, MD_STR_ARG(md_bytes_view(&fake.body)));
    }
    fake_free(&fake);
}

static void infer(const char *model, const char *body, const struct md_http_header *headers,
                  size_t count)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    server.headers = headers;
    server.header_count = count;
    post(path, body);
    server.header_count = 0;
}

/* All that waits arrives. */
static void flush(void)
{
    md_tracer_destroy(server.tracer);
    server.tracer = NULL;
}

static size_t count_spans(void)
{
    struct md_pb_field ignored;
    size_t count = 0;

    while (spans.len && pb_field(md_bytes_view(&spans), 2, count, &ignored)) {
        count++;
    }
    return count;
}

static struct md_str span(size_t index)
{
    char path[32];

    (void)snprintf(path, sizeof path, "2[%zu]", index);
    return pb_text(md_bytes_view(&spans), path);
}

static const char *hex(struct md_str bytes)
{
    static char text[2][64];
    static unsigned turn;
    char *out = text[turn++ % 2];

    out[0] = '\0';
    for (size_t i = 0; i < bytes.len; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", (unsigned char)bytes.ptr[i]);
    }
    return out;
}

/* The attribute's value, an AnyValue; fails if there is none. */
static struct md_str attribute(struct md_str of, const char *key)
{
    struct md_pb_field field;

    for (size_t i = 0; pb_field(of, 9, i, &field); i++) {
        if (md_str_eq_c(pb_text(field.bytes, "1"), key)) {
            return pb_text(field.bytes, "2");
        }
    }
    fail_msg("there is no attribute %s", key);
    return MD_STR("");
}

/* --- settings -------------------- */

#define SETTINGS(level, rate, count)                                                    \
    "{\"trace_level\":[" level "],\"trace_rate\":\"" rate "\",\"trace_count\":\"" count \
    "\",\"trace_mode\":\"opentelemetry\",\"url\":\"http://localhost:4318/v1/traces\","  \
    "\"resource\":\"service.name=modeld,service.version=" MODELD_VERSION                \
    "\",\"bsp_max_queue_size\":\"2048\",\"bsp_schedule_delay\":\"5000\","               \
    "\"bsp_max_export_batch_size\":\"512\"}"

static void test_trace_settings_tell(void **state)
{
    (void)state;
    get("/v2/trace/setting");
    expect(200, SETTINGS("\"OFF\"", "1000", "-1"));
    get("/v2/models/one/trace/setting");
    expect(200, SETTINGS("\"OFF\"", "1000", "-1"));
}

static void test_trace_settings_change_and_clear(void **state)
{
    (void)state;
    post("/v2/models/one/trace/setting", "{\"trace_rate\":\"12\"}");
    expect(200, SETTINGS("\"OFF\"", "12", "-1"));
    post("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\",\"TENSORS\"],\"trace_count\":7}");
    expect(200, SETTINGS("\"TIMESTAMPS\",\"TENSORS\"", "1000", "7"));
    get("/v2/models/one/trace/setting");
    expect(200, SETTINGS("\"TIMESTAMPS\",\"TENSORS\"", "12", "7"));
    post("/v2/models/one/trace/setting", "{\"trace_rate\":null,\"trace_file\":null}");
    expect(200, SETTINGS("\"TIMESTAMPS\",\"TENSORS\"", "1000", "7"));
    post("/v2/trace/setting", "{\"trace_level\":null,\"trace_count\":null}");
    expect(200, SETTINGS("\"OFF\"", "1000", "-1"));
    post("/v2/trace/setting", "{}");
    expect(200, SETTINGS("\"OFF\"", "1000", "-1"));
}

static void test_trace_settings_refuse_whole_changes(void **state)
{
    static const struct {
        const char *path, *body;
        unsigned status;
        const char *error;
    } rows[] = {
        {"/v2/trace/setting", "{\"trace_rate\":\"3\",\"trace_file\":\"x\"}", 501,
         "trace file location can not be updated through network protocol"},
        {"/v2/trace/setting", "{\"trace_rate\":\"3\",\"trace_level\":[\"OFF\",\"TIMESTAMPS\"]}",
         400, "Expect only one trace level 'OFF' is specified"},
        {"/v2/trace/setting", "{\"trace_rate\":\"3\",\"trace_level\":\"ALL\"}", 400,
         "'trace_level' is OFF, TIMESTAMPS or TENSORS, got 'ALL'"},
        {"/v2/trace/setting", "{\"trace_rate\":\"-3\"}", 400,
         "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: -3"},
        {"/v2/trace/setting", "{\"trace_rate\":\"3\",\"trace_count\":\"-2\"}", 400,
         "Unable to parse 'trace_count'. Expecting value >= -1, got:-2"},
        {"/v2/trace/setting", "{\"trace_rate\":[\"3\",\"4\"]}", 400,
         "Unable to parse 'trace_rate', got: 3"},
        {"/v2/trace/setting", "{\"trace_rate\":true}", 400,
         "a trace setting is a string, a list of strings or null"},
        {"/v2/trace/setting", "{\"trace_level\":[null]}", 400,
         "a trace setting is a string, a list of strings or null"},
        {"/v2/trace/setting", "{\"trace_rates\":\"3\"}", 400,
         "'trace_rates' is no trace setting that can be changed"},
        {"/v2/trace/setting", "[]", 400, "the request must be a JSON object"},
        {"/v2/models/none/trace/setting", "{\"trace_rate\":\"3\"}", 400,
         "Request for unknown model : none"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char body[256];
        (void)snprintf(body, sizeof body, "{\"error\":\"%s\"}", rows[i].error);
        post(rows[i].path, rows[i].body);
        expect(rows[i].status, body);
        get("/v2/trace/setting");
        expect(200, SETTINGS("\"OFF\"", "1000", "-1"));
    }
    post("/v2/trace/setting", "{\"trace_rate\":\"3\"");
    assert_int_equal(fake.status, 400);
    fake_free(&fake);
    get("/v2/models/none/trace/setting");
    expect(400, "{\"error\":\"Request for unknown model : none\"}");
}

/* --- spans -------------------- */

static void test_trace_of_a_request_has_its_phases(void **state)
{
    static const char *const names[] = {"InferRequest", "decode", "queue", "compute", "encode"};
    uint64_t at_ns = 0;

    (void)state;
    change("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1\"}");
    infer("one", REQUEST, NULL, 0);
    assert_int_equal(fake.status, 200);
    assert_true(strlen(fake.traceparent) == 55);
    assert_string_equal(fake.server_timing, "");
    fake_free(&fake);
    flush();
    assert_int_equal(count_spans(), MD_COUNT_OF(names));
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        const uint64_t begin_ns = pb_number(span(i), "7"), end_ns = pb_number(span(i), "8");
        assert_true(md_str_eq_c(pb_text(span(i), "5"), names[i]));
        assert_true(md_str_eq(pb_text(span(i), "1"), pb_text(span(0), "1")));
        assert_true(end_ns >= begin_ns);
        assert_true(begin_ns >= at_ns); /* one after the other, within the first */
        assert_true(end_ns <= pb_number(span(0), "8"));
        at_ns = i ? end_ns : begin_ns;
        assert_int_equal(pb_number(span(i), "6"), i ? 1 : 2); /* internal, server */
        if (i) {
            assert_true(md_str_eq(pb_text(span(i), "4"), pb_text(span(0), "2")));
            assert_false(md_str_eq(pb_text(span(i), "2"), pb_text(span(0), "2")));
        }
    }
    struct md_pb_field ignored;
    assert_false(pb_field(span(0), 4, 0, &ignored)); /* it begins the trace */
    assert_true(md_str_eq_c(pb_text(attribute(span(0), "triton.model_name"), "1"), "one"));
    assert_int_equal(pb_number(attribute(span(0), "triton.model_version"), "3"), 1);
    assert_true(md_str_eq_c(pb_text(attribute(span(0), "triton.request_id"), "1"), "x"));
    assert_int_equal(pb_number(attribute(span(0), "modeld.batch_size"), "3"), 1);
    assert_int_equal(pb_number(attribute(span(0), "http.response.status_code"), "3"), 200);
    assert_int_equal(pb_number(attribute(span(3), "modeld.executed_batch_size"), "3"), 1);
}

static void test_trace_goes_on_with_the_callers(void **state)
{
    static const struct md_http_header headers[] = {
        {MD_STR("TraceParent"), MD_STR("00-" TRACE "-" PARENT "-01")},
        {MD_STR("tracestate"), MD_STR("a=1")},
        {MD_STR("tracestate"), MD_STR("b=2")},
    };

    (void)state;
    change("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1000000\"}");
    infer("one", REQUEST, headers, MD_COUNT_OF(headers));
    assert_memory_equal(fake.traceparent, "00-" TRACE "-", 36);
    char own[17] = "";
    memcpy(own, fake.traceparent + 36, 16);
    fake_free(&fake);
    flush();
    assert_string_equal(hex(pb_text(span(0), "1")), TRACE);
    assert_string_equal(hex(pb_text(span(0), "4")), PARENT);
    assert_string_equal(hex(pb_text(span(0), "2")), own);
    assert_true(md_str_eq_c(pb_text(span(0), "3"), "a=1,b=2"));
    assert_int_equal(pb_number(span(0), "16"), 0x301); /* sampled, the parent is remote */
    assert_int_equal(pb_number(span(1), "16"), 0x101);
}

static void test_trace_is_the_callers_decision(void **state)
{
    static const struct {
        const char *parent;
        size_t copies, spans;
    } rows[] = {
        {"00-" TRACE "-" PARENT "-00", 1, 0},       /* it does not trace */
        {"00-" TRACE "-" PARENT "-01", 2, 5},       /* two are none: the rate counts */
        {"00-" TRACE "-0000000000000000-01", 1, 5}, /* as does one that is none */
        {"00-" TRACE "-" PARENT "-01", 1, 5},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_http_header headers[2];
        (void)setup(NULL);
        change("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1\"}");
        for (size_t n = 0; n < rows[i].copies; n++) {
            headers[n] = (struct md_http_header){MD_STR("traceparent"), md_str_of(rows[i].parent)};
        }
        infer("one", REQUEST, headers, rows[i].copies);
        assert_int_equal(fake.status, 200);
        fake_free(&fake);
        flush();
        assert_int_equal(count_spans(), rows[i].spans);
        (void)teardown(NULL);
    }
}

static void test_trace_of_a_failure_names_it(void **state)
{
    (void)state;
    change("/v2/models/one/trace/setting",
           "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1\"}");
    infer("one", "{\"inputs\":[]}", NULL, 0);
    assert_int_equal(fake.status, 400);
    fake_free(&fake);
    infer("other", REQUEST, NULL, 0); /* it is not traced */
    assert_int_equal(fake.status, 200);
    fake_free(&fake);
    flush();
    assert_int_equal(count_spans(), 2); /* it never waited, nor ran */
    assert_true(md_str_eq_c(pb_text(span(1), "5"), "decode"));
    assert_int_equal(pb_number(attribute(span(0), "http.response.status_code"), "3"), 400);
    assert_true(md_str_eq_c(pb_text(attribute(span(0), "error.type"), "1"), "invalid_argument"));
    struct md_pb_field ignored;
    assert_false(pb_field(span(0), 15, 0, &ignored)); /* the client's fault is no error of ours */
}

static void test_trace_counts_by_rate(void **state)
{
    (void)state;
    change("/v2/trace/setting",
           "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"4\",\"trace_count\":\"2\"}");
    for (int i = 0; i < 20; i++) {
        infer("one", REQUEST, NULL, 0);
        assert_int_equal(fake.traceparent[0] != '\0', i == 3 || i == 7);
        fake_free(&fake);
    }
    get("/v2/trace/setting");
    expect(200, SETTINGS("\"TIMESTAMPS\"", "4", "0"));
    flush();
    assert_int_equal(count_spans(), 10);
}

/* --- over gRPC -------------------- */

static struct fake_call call; /* large */

/* Sends one inference to `model`. */
static void send_inference(const char *model, const char *id)
{
    struct md_bytes message = {0};

    put_request(&message, model, id, "FP32", 1, RAW("\0\0\200\077"));
    fake_call_send(&server, &call, md_bytes_view(&message));
    md_bytes_deinit(&message);
}

static const char *trailer(const char *name)
{
    for (size_t i = 0; i < call.trailer_count; i++) {
        if (md_str_eq_c(call.trailers[i].name, name)) {
            return call.trailers[i].value.ptr;
        }
    }
    return NULL;
}

static void expect_text(struct md_str of, const char *key, const char *text)
{
    if (!md_str_eq_c(pb_text(attribute(of, key), "1"), text)) {
        fail_msg("%s is %.*s", key, MD_STR_ARG(pb_text(attribute(of, key), "1")));
    }
}

static void test_trace_of_a_call(void **state)
{
    const struct md_http_header parent = {MD_STR("traceparent"),
                                          MD_STR("00-" TRACE "-" PARENT "-01")};

    (void)state;
    change("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\"]}");
    fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelInfer", &parent);
    send_inference("line", "x");
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.error.code, MD_CODE_OK);
    assert_memory_equal(trailer("traceparent"), "00-" TRACE "-", 36);
    assert_null(trailer("server-timing"));
    fake_call_free(&call);
    flush();
    assert_int_equal(count_spans(), 5);
    assert_string_equal(hex(pb_text(span(0), "4")), PARENT);
    expect_text(span(0), "rpc.system", "grpc");
    expect_text(span(0), "rpc.service", "inference.GRPCInferenceService");
    expect_text(span(0), "rpc.method", "ModelInfer");
    expect_text(span(0), "triton.request_id", "x");
    assert_int_equal(pb_number(attribute(span(0), "rpc.grpc.status_code"), "3"), 0);
}

static void test_trace_timing_of_a_call(void **state)
{
    const struct md_http_header asks = {MD_STR("modeld-server-timing"), MD_STR("true")};

    (void)state;
    fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelInfer", &asks);
    send_inference("line", "x");
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_non_null(strstr(trailer("server-timing"), "compute;dur="));
    fake_call_free(&call);
}

static void test_trace_of_a_stream_is_one_for_each_message(void **state)
{
    static const char *const ids[] = {"first", "bad", "last"};

    (void)state;
    change("/v2/trace/setting", "{\"trace_level\":[\"TIMESTAMPS\"],\"trace_rate\":\"1\"}");
    fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelStreamInfer", NULL);
    send_inference("line", ids[0]);
    send_inference("one", ids[1]); /* its input has another shape */
    send_inference("line", ids[2]);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.error.code, MD_CODE_OK);
    fake_call_free(&call);
    flush();
    assert_int_equal(count_spans(), 5 + 2 + 5);
    const size_t roots[] = {0, 5, 7};
    for (size_t i = 0; i < MD_COUNT_OF(roots); i++) {
        assert_true(md_str_eq_c(pb_text(span(roots[i]), "5"), "InferRequest"));
        expect_text(span(roots[i]), "triton.request_id", ids[i]);
        expect_text(span(roots[i]), "rpc.method", "ModelStreamInfer");
    }
    assert_int_equal(pb_number(attribute(span(5), "rpc.grpc.status_code"), "3"),
                     MD_CODE_INVALID_ARGUMENT);
    assert_false(md_str_eq(pb_text(span(0), "1"), pb_text(span(5), "1")));
}

/* --- Server-Timing -------------------- */

static void test_trace_timing_is_told_on_request(void **state)
{
    static const struct {
        const char *value;
        bool is_told;
    } rows[] = {{"true", true}, {"True", true}, {"false", false}, {"", false}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        const struct md_http_header header = {MD_STR("Modeld-Server-Timing"),
                                              md_str_of(rows[i].value)};
        infer("one", REQUEST, &header, 1);
        assert_int_equal(fake.status, 200);
        assert_int_equal(fake.server_timing[0] != '\0', rows[i].is_told);
        assert_string_equal(fake.traceparent, "");
        if (rows[i].is_told) {
            double decode, queue, compute, encode, total;
            assert_int_equal(sscanf(fake.server_timing,
                                    "decode;dur=%lf, queue;dur=%lf, compute;dur=%lf, "
                                    "encode;dur=%lf, total;dur=%lf",
                                    &decode, &queue, &compute, &encode, &total),
                             5);
            assert_true(decode + queue + compute + encode <= total + 0.01);
        }
        fake_free(&fake);
    }
    flush();
    assert_int_equal(count_spans(), 0);
}

#define TRACE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TRACE_TEST(test_trace_settings_tell),
        TRACE_TEST(test_trace_settings_change_and_clear),
        TRACE_TEST(test_trace_settings_refuse_whole_changes),
        TRACE_TEST(test_trace_of_a_request_has_its_phases),
        TRACE_TEST(test_trace_goes_on_with_the_callers),
        cmocka_unit_test(test_trace_is_the_callers_decision),
        TRACE_TEST(test_trace_of_a_failure_names_it),
        TRACE_TEST(test_trace_counts_by_rate),
        TRACE_TEST(test_trace_of_a_call),
        TRACE_TEST(test_trace_timing_of_a_call),
        TRACE_TEST(test_trace_of_a_stream_is_one_for_each_message),
        TRACE_TEST(test_trace_timing_is_told_on_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
