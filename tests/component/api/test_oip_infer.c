/*
 * Inference over REST in front of identity models: what is answered, and how.
 */
#include "base/fault.h"
#include "component/api/fake_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { INFLIGHT_BYTES = 64 << 20, IMAGE_ELEMENTS = 150528 };

static struct fake_server server;

static int start(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "int8", 0, "INT8", "-1", 1, "");
    fake_model(&server, "int64", 0, "INT64", "-1", 1, "");
    fake_model(&server, "uint64", 0, "UINT64", "-1", 1, "");
    fake_model(&server, "bool", 0, "BOOL", "-1", 1, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "two", 0, "FP32", "-1", 2, "");
    fake_model(&server, "batched", 8, "FP32", "4", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"20\" } }");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

static const char *text_of(struct fake_exchange *fake)
{
    md_bytes_append_char(&fake->body, '\0');
    return fake->body.data;
}

/* One JSON request and its whole answer. */
static void expect(const char *model, const char *json, unsigned status, const char *answer)
{
    struct fake_exchange fake;
    char path[128];

    (void)snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    fake_send(&server, &fake, MD_HTTP_POST, path, md_str_of(json), -1);
    assert_int_equal(fake.answers, 1);
    assert_string_equal(text_of(&fake), answer);
    assert_int_equal(fake.status, status);
    assert_string_equal(fake.content_type, "application/json");
    fake_free(&fake);
}

/* One JSON request that is refused with a sentence that contains `part`. */
static void expect_refusal(const char *model, const char *json, unsigned status, const char *part)
{
    struct fake_exchange fake;
    char path[128];

    (void)snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    fake_send(&server, &fake, MD_HTTP_POST, path, md_str_of(json), -1);
    const char *text = text_of(&fake);
    if (fake.answers != 1 || fake.status != status || !strstr(text, part) ||
        strncmp(text, "{\"error\":", 9) != 0) {
        fail_msg("%s\n  got %u answers, status %u: %s\n  wanted %u: %s", json, fake.answers,
                 fake.status, text, status, part);
    }
    fake_free(&fake);
}

#define INPUT(fields) "{\"inputs\":[{\"name\":\"INPUT0\"," fields "}]}"
#define HEAD(model)   "{\"model_name\":\"" model "\",\"model_version\":\"1\",\"outputs\":["

static void test_oip_infer_answers_json(void **state)
{
    (void)state;
    static const struct {
        const char *model, *json, *answer;
    } cases[] = {
        {"fp32", INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,0.1]"),
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1.0,0.1]}]}"},
        {"fp32",
         "{\"id\":\"a\\u00e4\",\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         "{\"id\":\"a\xc3\xa4\",\"model_name\":\"fp32\",\"model_version\":\"1\",\"outputs\":[{\"name\":\"OUTPUT0\","
         "\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]}]}"},
        {"fp32", INPUT("\"data\":[[1],[2]],\"datatype\":\"FP32\",\"shape\":[2]"),
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1.0,2.0]}]}"},
        {"fp32", INPUT("\"shape\":[0],\"datatype\":\"FP32\",\"data\":[]"),
         HEAD("fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[0],\"data\":[]}]}"},
        {"fp32", INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[NaN,-Infinity]"),
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[NaN,-Infinity]}]}"},
        {"int64",
         INPUT(
             "\"shape\":[2],\"datatype\":\"INT64\",\"data\":[9007199254740993,-9223372036854775808]"),
         HEAD("int64") "{\"name\":\"OUTPUT0\",\"datatype\":\"INT64\",\"shape\":[2],"
                       "\"data\":[9007199254740993,-9223372036854775808]}]}"},
        {"bool", INPUT("\"shape\":[2],\"datatype\":\"BOOL\",\"data\":[true,false]"),
         HEAD(
             "bool") "{\"name\":\"OUTPUT0\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,false]}]}"},
        {"text", INPUT("\"shape\":[2],\"datatype\":\"BYTES\",\"data\":[\"\",\"a\\n\\\"\"]"),
         HEAD(
             "text") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"\",\"a\\n\\\"\"]}]}"},
        {"fp32",
         "{\"unknown\":{\"a\":[1,{}]},\"inputs\":[{\"x\":null,\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\","
         "\"data\":[1]}]}",
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]}]}"},
        {"two",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},{\"name\":\"INPUT1\","
         "\"shape\":[1],\"datatype\":\"FP32\",\"data\":[2]}],\"outputs\":[{\"name\":\"OUTPUT1\"}],"
         "\"parameters\":{\"binary_data_output\":true}}",
         HEAD("two") "{\"name\":\"OUTPUT1\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[2.0]}]}"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":"
         "{\"sequence_id\":7,\"sequence_start\":true,\"priority\":1,\"timeout\":5,\"mine\":\"x\",\"f\":1.5}}",
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]}]}"},
        {"two",
         "{\"inputs\":[{\"name\":\"INPUT1\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[2]},{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         HEAD(
             "two") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]},{\"name\":\"OUTPUT1\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[2.0]}]}"},
        {"fp32",
         "{\"parameters\":null,\"inputs\":[{\"parameters\":null,\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":null}]}",
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]}]}"},
        {"fp32",
         "{\"inputs\":[{\"parameters\":{\"mine\":[1,{}],\"b\":null},\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"x\":{},\"classification\":0}}]}",
         HEAD(
             "fp32") "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1.0]}]}"},
        {"int64",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[3],\"datatype\":\"INT64\",\"data\":[9223372036854775806,-5,9223372036854775807]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":3}}]}",
         HEAD(
             "int64") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[3],\"data\":[\"9223372036854775807:2\",\"9223372036854775806:0\",\"-5:1\"]}]}"},
        {"uint64",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[2],\"datatype\":\"UINT64\",\"data\":[18446744073709551614,18446744073709551615]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":2}}]}",
         HEAD(
             "uint64") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[2],\"data\":[\"18446744073709551615:1\",\"18446744073709551614:0\"]}]}"},
    };

    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        expect(cases[i].model, cases[i].json, 200, cases[i].answer);
    }
}

static void test_oip_infer_refuses_bad_requests(void **state)
{
    (void)state;
    static const struct {
        const char *model, *json;
        unsigned status;
        const char *part;
    } cases[] = {
        {"fp32", "", 400, ""},
        {"fp32", "{", 400, "failed to parse the request JSON"},
        {"fp32", "[]", 400, "object"},
        {"fp32", "{\"inputs\":[]} x", 400, "failed to parse the request JSON"},
        {"fp32", "{\"inputs\":{}}", 400, "'inputs'"},
        {"fp32", "{\"inputs\":[]}", 400,
         "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'fp32'. Got input(s) [], "
         "but missing required input(s) ['INPUT0']"},
        {"fp32", "{\"id\":\"q\",\"inputs\":[]}", 400, "[request id: q] expected 1 inputs"},
        {"fp32", "{\"id\":7,\"inputs\":[]}", 400, "'id'"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"INT32\",\"data\":[1]"), 400,
         "inference input 'INPUT0' data-type is 'INT32', but model 'fp32' expects 'FP32'"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP99\",\"data\":[1]"), 400,
         "invalid datatype for input INPUT0"},
        {"fp32", INPUT("\"shape\":[1,1],\"datatype\":\"FP32\",\"data\":[1]"), 400,
         "unexpected shape for input 'INPUT0' for model 'fp32'. Expected [-1], got [1,1]"},
        {"fp32", INPUT("\"shape\":[-1],\"datatype\":\"FP32\",\"data\":[1]"), 400, "shape"},
        {"fp32",
         INPUT("\"shape\":[1099511627776,1099511627776],\"datatype\":\"FP32\",\"data\":[1]"), 400,
         "elements"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1,2]"), 400, "elements"},
        {"fp32", INPUT("\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1]"), 400, "elements"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[\"a\"]"), 400, "FP32"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":1"), 400, "array"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\""), 400, "'data'"},
        {"fp32",
         INPUT(
             "\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"parameters\":{\"binary_data_size\":4}"),
         400, "'binary_data_size'"},
        {"fp32", "{\"inputs\":[{\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}", 400,
         "'name'"},
        {"fp32", INPUT("\"shape\":[1],\"data\":[1]"), 400, "'datatype'"},
        {"fp32", INPUT("\"datatype\":\"FP32\",\"data\":[1]"), 400, "'shape'"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"data\":[1]"), 400,
         "the key 'data' stands twice"},
        {"int8", INPUT("\"shape\":[1],\"datatype\":\"INT8\",\"data\":[128]"), 400, "INT8"},
        {"int8", INPUT("\"shape\":[1],\"datatype\":\"INT8\",\"data\":[1.5]"), 400, "INT8"},
        {"uint64", INPUT("\"shape\":[1],\"datatype\":\"UINT64\",\"data\":[18446744073709551616]"),
         400, "UINT64"},
        {"fp32", "{\"inputs\":[],\"parameters\":{\"triton_x\":1}}", 400,
         "parameter keys starting with 'triton_' are reserved for Triton usage"},
        {"fp32", "{\"inputs\":[],\"parameters\":{\"x\":[]}}", 400, "'x'"},
        {"fp32", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]") " ", 200, ""},
        {"two",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]},{\"name\":\"INPUT0\","
         "\"shape\":[1],\"datatype\":\"FP32\",\"data\":[2]}]}",
         400, "input 'INPUT0' already exists in request"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"outputs\":"
         "[{\"name\":\"OUTPUT0\"},{\"name\":\"OUTPUT0\"}]}",
         400, "output 'OUTPUT0' already exists in request"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"outputs\":"
         "[{\"name\":\"Y\"}]}",
         400, "unexpected inference output 'Y' for model 'fp32'"},
        {"fp32",
         INPUT(
             "\"shape\":[1],\"datatype\":\"FP32\",\"parameters\":{\"shared_memory_region\":\"r\"}"),
         400, "'shared_memory_byte_size' must be specified"},
        {"batched",
         INPUT(
             "\"shape\":[9,4],\"datatype\":\"FP32\",\"data\":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,"
             "0,0,0,0,0,0,0,0,0,0,0]"),
         400, "[request id: <id_unknown>] inference request batch-size must be <= 8 for 'batched'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"inputs\":[]}",
         400, "the key 'inputs' stands twice"},
        {"fp32",
         "{\"id\":\"a\",\"id\":\"b\",\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         400, "the key 'id' stands twice"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         400, "the key 'name' stands twice"},
        {"fp32",
         "{\"outputs\":[{\"name\":\"OUTPUT0\",\"name\":\"OUTPUT0\"}],\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         400, "the key 'name' stands twice"},
        {"fp32",
         "{\"id\":\"q\",\"inputs\":[{\"name\":\"Z\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}]}",
         400, "{\"error\":\"unexpected inference input 'Z' for model 'fp32'\"}"},
        {"fp32", "{\"inputs\":[],\"id\":\"\\x\"}", 400, "invalid escape"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":{\"priority\":-1}}",
         400, "Unable to parse 'priority'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":{\"timeout\":\"1\"}}",
         400, "Unable to parse 'timeout'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":{\"sequence_id\":true}}",
         400, "Unable to parse 'sequence_id'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":{\"sequence_start\":1}}",
         400, "Unable to parse 'sequence_start'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"parameters\":{\"binary_data_output\":1}}",
         400, "Unable to parse 'binary_data_output'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":-1}}]}",
         400, "'classification'"},
        {"batched",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[0,4],\"datatype\":\"FP32\",\"data\":[]}]}",
         400, "batch-size must be > 0"},
        {"nope", "{}", 404, "Request for unknown model: 'nope' is not found"},
    };

    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        if (cases[i].status != 200) {
            expect_refusal(cases[i].model, cases[i].json, cases[i].status, cases[i].part);
        }
    }
}

/* Each item of a list is compared with all others and lies in memory that is not counted. */
static void test_oip_infer_bounds_the_lists_of_a_request(void **state)
{
    static const struct {
        const char *begin, *before, *behind, *end;
    } cases[] = {
        {"{\"inputs\":[", "{\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1],\"name\":\"", "\"}",
         "]}"},
        {"{\"outputs\":[", "{\"name\":\"", "\"}", "]}"},
        {"{\"parameters\":{", "\"", "\":1", "}}"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes json = {0};
        md_bytes_append_c(&json, cases[i].begin);
        for (size_t k = 0; k < 1025; k++) {
            md_bytes_printf(&json, "%s%s%zu%s", k ? "," : "", cases[i].before, k, cases[i].behind);
        }
        md_bytes_append_c(&json, cases[i].end);
        md_bytes_append_char(&json, '\0');
        expect_refusal("fp32", json.data, 400, "more than 1024 inputs, outputs or parameters");
        md_bytes_deinit(&json);
    }
}

static void test_oip_infer_bounds_the_depth_of_data(void **state)
{
    char json[1024];
    int len =
        snprintf(json, sizeof json, "%s",
                 "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[1],\"datatype\":\"FP32\",\"data\":");

    (void)state;
    for (int i = 0; i < 200; i++) {
        json[len++] = '[';
    }
    json[len] = '\0';
    expect_refusal("fp32", json, 400, "too many nested levels");
}

/* --- binary tensors
 * -------------------------------------------------------------------------------------------------
 */

#define BINARY_HEAD(size)                                                                                              \
    "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[2],\"datatype\":\"FP32\",\"parameters\":{\"binary_data_size\":" size \
    "}}],"                                                                                                             \
    "\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"binary_data\":true}}]}"

static void send_binary(struct fake_exchange *fake, const char *head, const void *tail,
                        size_t tail_len)
{
    struct md_bytes body = {0};

    md_bytes_append_c(&body, head);
    md_bytes_append(&body, tail, tail_len);
    fake_send(&server, fake, MD_HTTP_POST, "/v2/models/fp32/infer", md_bytes_view(&body),
              (long)strlen(head));
    md_bytes_deinit(&body);
}

static void test_oip_infer_passes_binary_tensors_through(void **state)
{
    static const float values[] = {1.5f, -2.0f};
    struct fake_exchange fake;

    (void)state;
    send_binary(&fake, BINARY_HEAD("8"), values, sizeof values);
    assert_int_equal(fake.status, 200);
    assert_string_equal(fake.content_type, "application/octet-stream");
    assert_int_equal(fake.body.len - fake.json_bytes, sizeof values);
    assert_memory_equal(fake.body.data + fake.json_bytes, values, sizeof values);
    assert_true(memcmp(fake.body.data + fake.json_bytes - 2, "]}", 2) == 0);
    fake_free(&fake);
}

static void test_oip_infer_counts_binary_bytes(void **state)
{
    static const struct {
        size_t len;
        const char *part;
    } cases[] = {
        {4, "unexpected size for input 'INPUT0', expecting 4 additional bytes for model 'fp32'"},
        {9, "unexpected additional input data for model 'fp32'"}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct fake_exchange fake;
        send_binary(&fake, BINARY_HEAD("8"), "123456789", cases[i].len);
        assert_int_equal(fake.status, 400);
        assert_non_null(strstr(text_of(&fake), cases[i].part));
        fake_free(&fake);
    }
}

static void test_oip_infer_takes_a_raw_body(void **state)
{
    static const float values[] = {1.5f, -2.0f, 3.0f};
    struct fake_exchange fake;

    (void)state;
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer",
              md_str_make((const char *)values, sizeof values), 0);
    assert_int_equal(fake.status, 200);
    assert_memory_equal(fake.body.data + fake.json_bytes, values, sizeof values);
    fake_free(&fake);
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/two/infer",
              md_str_make((const char *)values, sizeof values), 0);
    assert_int_equal(fake.status, 400);
    fake_free(&fake);
}

static void test_oip_infer_refuses_a_header_beyond_the_body(void **state)
{
    struct fake_exchange fake;

    (void)state;
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer", MD_STR("{}"), 3);
    assert_int_equal(fake.status, 400);
    fake_free(&fake);
}

/* --- classes, large bodies, budget, cancellation
 * ------------------------------------------------------------------------ */

static void test_oip_infer_finds_classes(void **state)
{
    (void)state;
    expect(
        "labelled",
        "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[4],\"datatype\":\"FP32\",\"data\":[0.1,0.7,0.7,0.05]}],"
        "\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":9}}]}",
        200,
        HEAD(
            "labelled") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[4],\"data\":[\"0.700000:1:dog\","
                        "\"0.700000:2:bird\",\"0.100000:0:cat\",\"0.050000:3:fish\"]}]}");
    expect(
        "batched",
        "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[2,4],\"datatype\":\"FP32\",\"data\":[1,2,3,4,8,7,6,5]}],"
        "\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":1}}]}",
        200,
        HEAD(
            "batched") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[2,1],\"data\":[\"4.000000:3\","
                       "\"8.000000:0\"]}]}");
}

/* Many elements, many equal: the order is that of values, then of indexes, and k cuts it off. */
static void test_oip_infer_orders_many_classes(void **state)
{
    enum { ELEMENTS = 1000, DISTINCT = 97 };
    static const size_t wanted[] = {1, 2, 500, ELEMENTS - 1, ELEMENTS, 2 * ELEMENTS};

    (void)state;
    for (size_t w = 0; w < MD_COUNT_OF(wanted); w++) {
        struct md_bytes json = {0};
        struct fake_exchange fake;
        md_bytes_printf(
            &json,
            "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[%d],\"datatype\":\"FP32\",\"data\":[",
            ELEMENTS);
        for (size_t i = 0; i < ELEMENTS; i++) {
            md_bytes_printf(&json, "%s%zu", i ? "," : "", i * 7919 % DISTINCT);
        }
        md_bytes_printf(
            &json,
            "]}],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":%zu}}]}",
            wanted[w]);
        fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer", md_bytes_view(&json), -1);
        assert_int_equal(fake.status, 200);
        const char *at = strstr(text_of(&fake), "\"data\":[");
        assert_non_null(at);
        at += strlen("\"data\"");
        size_t count = 0, before_index = 0, index;
        double before = DISTINCT, value;
        while (at && (at = strchr(at + 1, '"')) && sscanf(at, "\"%lf:%zu\"", &value, &index) == 2) {
            assert_true(value < before || (value == before && index > before_index));
            assert_true(value == (double)(index * 7919 % DISTINCT));
            before = value;
            before_index = index;
            at = strchr(at + 1, '"');
            count++;
        }
        assert_int_equal(count, md_size_min(wanted[w], ELEMENTS));
        fake_free(&fake);
        md_bytes_deinit(&json);
    }
}

/* A request of `count` elements that are all 0.5. */
static struct md_str make_image(struct md_bytes *json, size_t count)
{
    md_bytes_printf(
        json, "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[%zu],\"datatype\":\"FP32\",\"data\":[",
        count);
    for (size_t i = 0; i < count; i++) {
        md_bytes_append_c(json, i ? ",0.5" : "0.5");
    }
    md_bytes_append_c(json, "]}]}");
    return md_bytes_view(json);
}

static void test_oip_infer_yields_over_a_large_body(void **state)
{
    struct md_bytes json = {0};
    struct fake_exchange fake;

    (void)state;
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer",
              make_image(&json, IMAGE_ELEMENTS), -1);
    assert_int_equal(fake.answers, 1);
    assert_int_equal(fake.status, 200);
    assert_true(fake.body.len > IMAGE_ELEMENTS * 4);
    assert_true(memcmp(fake.body.data + fake.body.len - 12, "0.5,0.5]}]}", 11) != 0);
    assert_true(memcmp(fake.body.data + fake.body.len - 11, "0.5,0.5]}]}", 11) == 0);
    fake_free(&fake);
    md_bytes_deinit(&json);
}

/* Turns of the loop. */
struct ticker {
    struct md_loop_task task;
    size_t count;
    bool stop;
};

static void tick(struct md_loop_task *task)
{
    struct ticker *ticker = MD_CONTAINER_OF(task, struct ticker, task);

    ticker->count++;
    if (!ticker->stop) {
        md_loop_defer(server.loop, task);
    }
}

/* All classes of many elements, as the client may ask for. */
static void send_many_classes(struct fake_exchange *fake, size_t count)
{
    struct md_bytes head = {0};
    float *elements = calloc(count, sizeof *elements);

    assert_non_null(elements);
    md_bytes_printf(
        &head,
        "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[%zu],\"datatype\":\"FP32\","
        "\"parameters\":{\"binary_data_size\":%zu}}],\"outputs\":[{\"name\":\"OUTPUT0\","
        "\"parameters\":{\"classification\":%zu,\"binary_data\":true}}]}",
        count, count * sizeof *elements, count);
    md_bytes_append_char(&head, '\0');
    send_binary(fake, head.data, elements, count * sizeof *elements);
    md_bytes_deinit(&head);
    free(elements);
}

static void test_oip_infer_yields_over_many_classes(void **state)
{
    struct fake_exchange fake;
    struct ticker ticker = {.task = {.run = tick}};
    struct md_error err;

    (void)state;
    md_loop_defer(server.loop, &ticker.task);
    send_many_classes(&fake, IMAGE_ELEMENTS);
    ticker.stop = true;
    assert_true(md_loop_run_once(server.loop, 0, &err));
    assert_int_equal(fake.status, 200);
    assert_true(ticker.count > 20);
    fake_free(&fake);
}

static void test_oip_infer_counts_the_memory_of_classes(void **state)
{
    struct fake_exchange fake;
    bool over_budget;

    (void)state;
    struct md_block *hog =
        md_pool_alloc(md_loop_pool(server.loop), INFLIGHT_BYTES - (1 << 20), &over_budget);
    assert_non_null(hog);
    send_many_classes(&fake, 2 * IMAGE_ELEMENTS);
    assert_int_equal(fake.status, 503);
    assert_true(fake.retry_after);
    fake_free(&fake);
    md_block_unref(hog);
    send_many_classes(&fake, 2 * IMAGE_ELEMENTS);
    assert_int_equal(fake.status, 200);
    fake_free(&fake);
}

static void cancel_later(struct md_loop_task *task);

struct canceller {
    struct md_loop_task task;
    struct fake_exchange *fake;
};

static void cancel_later(struct md_loop_task *task)
{
    struct canceller *canceller = MD_CONTAINER_OF(task, struct canceller, task);

    if (!canceller->fake->answers) {
        canceller->fake->x.cancelled = true;
        canceller->fake->x.handler->on_cancel(&canceller->fake->x);
    }
}

static void test_oip_infer_answers_once_after_a_cancel(void **state)
{
    const size_t sizes[] = {1, IMAGE_ELEMENTS};
    const char *const paths[] = {"/v2/models/slow/infer", "/v2/models/fp32/infer"};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(sizes); i++) {
        struct md_bytes json = {0};
        struct fake_exchange fake = {0};
        struct canceller canceller = {.task = {.run = cancel_later}, .fake = &fake};
        md_loop_defer(server.loop, &canceller.task);
        fake_send(&server, &fake, MD_HTTP_POST, paths[i], make_image(&json, sizes[i]), -1);
        assert_int_equal(fake.answers, 1);
        fake_free(&fake);
        md_bytes_deinit(&json);
    }
}

static void test_oip_infer_says_so_when_too_much_is_in_flight(void **state)
{
    struct md_bytes json = {0};
    struct fake_exchange fake;
    bool over_budget;

    (void)state;
    struct md_str image = make_image(&json, IMAGE_ELEMENTS);
    struct md_block *hog =
        md_pool_alloc(md_loop_pool(server.loop), INFLIGHT_BYTES - (1 << 20), &over_budget);
    assert_non_null(hog);
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer", image, -1);
    assert_int_equal(fake.status, 503);
    assert_true(fake.retry_after);
    fake_free(&fake);
    md_block_unref(hog);
    md_bytes_deinit(&json);
}

/* Whichever allocation fails: one answer, which is right or says that the server could not. */
static void test_oip_infer_survives_each_failed_allocation(void **state)
{
    static const float values[1024];
    static const struct {
        const char *path, *json;
        long json_bytes;
    } cases[] = {
        {"/v2/models/fp32/infer", INPUT("\"shape\":[1],\"datatype\":\"FP32\",\"data\":[1]"), -1},
        {"/v2/models/fp32/infer", INPUT("\"data\":[1],\"shape\":[1],\"datatype\":\"FP32\""), -1},
        {"/v2/models/text/infer", INPUT("\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"a\\n\"]"),
         -1},
        {"/v2/models/labelled/infer",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[2],\"datatype\":\"FP32\",\"data\":[1,2]}],"
         "\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":1}}]}",
         -1},
        {"/v2/models/fp32/infer", NULL, 0},
        {"/v2/models/stats", "", -1},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_str body = cases[i].json ? md_str_of(cases[i].json)
                                           : md_str_make((const char *)values, sizeof values);
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            struct fake_exchange fake;
            md_fault_arm(MD_FAULT_ALLOC, n);
            fake_send(&server, &fake, body.len ? MD_HTTP_POST : MD_HTTP_GET, cases[i].path, body,
                      cases[i].json_bytes);
            delivered = md_fault_disarm(MD_FAULT_ALLOC);
            assert_int_equal(fake.answers, 1);
            if (fake.status != 200 && fake.status != 503) {
                fail_msg("case %zu, allocation %ld: status %u", i, n, fake.status);
            }
            assert_true(delivered || fake.status == 200);
            fake_free(&fake);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oip_infer_answers_json),
        cmocka_unit_test(test_oip_infer_refuses_bad_requests),
        cmocka_unit_test(test_oip_infer_bounds_the_lists_of_a_request),
        cmocka_unit_test(test_oip_infer_bounds_the_depth_of_data),
        cmocka_unit_test(test_oip_infer_passes_binary_tensors_through),
        cmocka_unit_test(test_oip_infer_counts_binary_bytes),
        cmocka_unit_test(test_oip_infer_takes_a_raw_body),
        cmocka_unit_test(test_oip_infer_refuses_a_header_beyond_the_body),
        cmocka_unit_test(test_oip_infer_finds_classes),
        cmocka_unit_test(test_oip_infer_orders_many_classes),
        cmocka_unit_test(test_oip_infer_yields_over_a_large_body),
        cmocka_unit_test(test_oip_infer_yields_over_many_classes),
        cmocka_unit_test(test_oip_infer_counts_the_memory_of_classes),
        cmocka_unit_test(test_oip_infer_answers_once_after_a_cancel),
        cmocka_unit_test(test_oip_infer_says_so_when_too_much_is_in_flight),
        cmocka_unit_test(test_oip_infer_survives_each_failed_allocation),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
