/*
 * ModelInfer in front of identity models: what is answered, and how.
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

static int start(void **state)
{
    static const char *const dtypes[] = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64",
                                         "INT8", "INT16", "INT32",  "INT64",  "FP16",
                                         "FP32", "FP64",  "STRING", "BF16"};
    (void)state;
    fake_server_init(&server);
    for (size_t i = 0; i < MD_COUNT_OF(dtypes); i++) {
        fake_model(&server, dtypes[i], 0, dtypes[i], "-1", 1, "");
    }
    fake_model(&server, "two", 0, "FP32", "-1", 2, "");
    fake_model(&server, "batched", 8, "FP32", "2", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "scalar", 0, "FP32", "", 1, "");
    fake_model(&server, "executor", 0, "FP32", "-1", 1,
               "parameters { key: \"modeld_inline\" value { string_value: \"off\" } }");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"20\" } }");
    fake_model(&server, "decoupled", 0, "FP32", "-1", 1,
               "model_transaction_policy { decoupled: true }");
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

static int clear(void **state)
{
    (void)state;
    md_bytes_clear(&request);
    return 0;
}

/* Sends the request that was built; its answer as text, which begins with "CODE: " on errors. */
static struct md_bytes answer(void)
{
    struct md_bytes text = {0};

    assert_false(request.failed);
    fake_call_unary(&server, &call, &md_oip_grpc_infer_handler, md_bytes_view(&request));
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.fake.answers, 0);
    if (call.error.code != MD_CODE_OK) {
        assert_int_equal(call.message_count, 0);
        md_bytes_printf(&text, "%d: %s", (int)call.error.code, call.error.text);
    } else {
        assert_int_equal(call.message_count, 1);
        print_response(&text, md_bytes_view(&call.messages[0]));
    }
    fake_call_free(&call);
    md_bytes_clear(&request);
    return text;
}

static void expect(const char *expected)
{
    struct md_bytes text = answer();

    md_bytes_append_char(&text, '\0');
    assert_string_equal(text.data, expected);
    md_bytes_deinit(&text);
}

/* --- raw tensors -------------------- */

static void test_grpc_infer_raw_of_every_dtype(void **state)
{
    static const struct {
        const char *model, *dtype;
        int64_t count;
        struct md_str raw;
        const char *answer;
    } cases[] = {
        {"BOOL", "BOOL", 2, RAW("\0\x01"), "BOOL 1 OUTPUT0 BOOL[2] raw=0001"},
        {"UINT8", "UINT8", 1, RAW("\xff"), "UINT8 1 OUTPUT0 UINT8[1] raw=ff"},
        {"UINT16", "UINT16", 1, RAW("\x01\xff"), "UINT16 1 OUTPUT0 UINT16[1] raw=01ff"},
        {"UINT32", "UINT32", 1, RAW("\x01\x02\x03\x04"), "UINT32 1 OUTPUT0 UINT32[1] raw=01020304"},
        {"UINT64", "UINT64", 1, RAW("\x01\x02\x03\x04\x05\x06\x07\x08"),
         "UINT64 1 OUTPUT0 UINT64[1] raw=0102030405060708"},
        {"INT8", "INT8", 1, RAW("\x80"), "INT8 1 OUTPUT0 INT8[1] raw=80"},
        {"INT16", "INT16", 1, RAW("\0\x80"), "INT16 1 OUTPUT0 INT16[1] raw=0080"},
        {"INT32", "INT32", 0, RAW(""), "INT32 1 OUTPUT0 INT32[0] raw="},
        {"INT64", "INT64", 1, RAW("\xff\xff\xff\xff\xff\xff\xff\xff"),
         "INT64 1 OUTPUT0 INT64[1] raw=ffffffffffffffff"},
        {"FP16", "FP16", 1, RAW("\0\x3c"), "FP16 1 OUTPUT0 FP16[1] raw=003c"},
        {"FP32", "FP32", 2, RAW("\0\0\x80\x3f\0\0\0\x40"),
         "FP32 1 OUTPUT0 FP32[2] raw=0000803f00000040"},
        {"FP64", "FP64", 1, RAW("\0\0\0\0\0\0\xf0\x3f"),
         "FP64 1 OUTPUT0 FP64[1] raw=000000000000f03f"},
        {"BF16", "BF16", 1, RAW("\x80\x3f"), "BF16 1 OUTPUT0 BF16[1] raw=803f"},
        {"STRING", "BYTES", 2, RAW("\x02\0\0\0hi\0\0\0\0"),
         "STRING 1 OUTPUT0 BYTES[2] raw=02000000686900000000"},
        {"executor", "FP32", 1, RAW("\0\0\x80\x3f"), "executor 1 OUTPUT0 FP32[1] raw=0000803f"},
        {"scalar", "FP32", -1, RAW("\0\0\x80\x3f"), "scalar 1 OUTPUT0 FP32 raw=0000803f"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_request(&request, cases[i].model, "", cases[i].dtype, cases[i].count, cases[i].raw);
        expect(cases[i].answer);
    }
}

static void test_grpc_infer_id_and_version(void **state)
{
    (void)state;
    put_request(&request, "FP32", "my request \xc3\xa4", "FP32", 1, RAW("1234"));
    md_pb_put_bytes(&request, 2, MD_STR("1"));
    expect("FP32 1 id=my request \xc3\xa4 OUTPUT0 FP32[1] raw=31323334");
}

/* Bytes as a real encoder writes them (tritonclient's request of one FP32). */
static void test_grpc_infer_bytes_of_a_client(void **state)
{
    static const char bytes[] = "\x0a\x04"
                                "FP32"
                                "\x2a\x11\x0a\x06INPUT0\x12\x04"
                                "FP32\x1a\x01\x01"
                                "\x32\x09\x0a\x07OUTPUT0\x3a\x04\0\0\x80\x3f";
    (void)state;
    md_bytes_append(&request, bytes, sizeof bytes - 1);
    expect("FP32 1 OUTPUT0 FP32[1] raw=0000803f");
}

/* The order of fields is nobody's promise; the last of a singular one counts. */
static void test_grpc_infer_fields_in_any_order(void **state)
{
    (void)state;
    put_raw(&request, RAW("abcd"));
    md_pb_put_bytes(&request, 3, MD_STR("first"));
    put_tensor(&request, "INPUT1", "FP32", 1);
    md_pb_put_bytes(&request, 1, MD_STR("unknown"));
    put_tensor(&request, "INPUT0", "FP32", 1);
    md_pb_put_varint(&request, 99, 1);
    md_pb_put_bytes(&request, 3, MD_STR("second"));
    put_raw(&request, RAW("efgh"));
    md_pb_put_bytes(&request, 1, MD_STR("two"));
    expect("two 1 id=second OUTPUT0 FP32[1] OUTPUT1 FP32[1] raw=65666768 raw=61626364");
}

/* Shapes may come packed or not, and mixed. */
static void test_grpc_infer_unpacked_shape(void **state)
{
    const int64_t two = 2;

    (void)state;
    put_model(&request, "batched", "");
    size_t input = begin_tensor(&request, "INPUT0", "FP32", -1);
    md_pb_put_varint(&request, 3, 1);
    md_pb_put_packed(&request, 3, &two, 1);
    md_pb_end(&request, input);
    put_raw(&request, RAW("abcdefgh"));
    expect("batched 1 OUTPUT0 FP32[1][2] raw=6162636465666768");
}

/* The budget has room for the message alone. */
static void test_grpc_infer_copies_no_tensor(void **state)
{
    enum { ELEMENTS = 1 << 20 };
    char *data = calloc(ELEMENTS, 4);

    (void)state;
    assert_non_null(data);
    put_request(&request, "FP32", "", "FP32", ELEMENTS, md_str_make(data, ELEMENTS * 4));
    free(data);
    const size_t before = server.budget.used_bytes;
    fake_call_unary(&server, &call, &md_oip_grpc_infer_handler, md_bytes_view(&request));
    assert_int_equal(call.error.code, MD_CODE_OK);
    assert_true(server.budget.used_bytes - before < 2 * (size_t)ELEMENTS * 4);
    fake_call_free(&call);
}

/* --- typed contents -------------------- */

static void put_contents(const char *model, const char *dtype, int64_t count,
                         struct md_str contents)
{
    put_model(&request, model, "");
    size_t input = begin_tensor(&request, "INPUT0", dtype, count);
    md_pb_put_bytes(&request, 5, contents);
    md_pb_end(&request, input);
}

static void test_grpc_infer_contents(void **state)
{
    static const struct {
        const char *model, *dtype;
        int64_t count;
        struct md_str contents;
        const char *answer;
    } cases[] = {
        {"BOOL", "BOOL", 3, RAW("\x0a\x03\x01\0\x05"), "BOOL 1 OUTPUT0 BOOL[3] raw=010001"},
        {"INT8", "INT8", 2, RAW("\x12\x0b\x80\xff\xff\xff\xff\xff\xff\xff\xff\x01\x7f"),
         "INT8 1 OUTPUT0 INT8[2] raw=807f"},
        {"INT16", "INT16", 1, RAW("\x10\xff\xff\x01"), "INT16 1 OUTPUT0 INT16[1] raw=ff7f"},
        {"INT32", "INT32", 1, RAW("\x12\x05\xff\xff\xff\xff\x0f"),
         "INT32 1 OUTPUT0 INT32[1] raw=ffffffff"},
        {"INT64", "INT64", 2, RAW("\x1a\x02\x01\x02"),
         "INT64 1 OUTPUT0 INT64[2] raw=01000000000000000200000000000000"},
        {"UINT8", "UINT8", 1, RAW("\x22\x02\xff\x01"), "UINT8 1 OUTPUT0 UINT8[1] raw=ff"},
        {"UINT16", "UINT16", 1, RAW("\x22\x03\xff\xff\x03"), "UINT16 1 OUTPUT0 UINT16[1] raw=ffff"},
        {"UINT32", "UINT32", 1, RAW("\x22\x05\xff\xff\xff\xff\x0f"),
         "UINT32 1 OUTPUT0 UINT32[1] raw=ffffffff"},
        {"UINT64", "UINT64", 1, RAW("\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
         "UINT64 1 OUTPUT0 UINT64[1] raw=ffffffffffffffff"},
        {"FP32", "FP32", 2, RAW("\x32\x08\0\0\x80\x3f\0\0\0\x40"),
         "FP32 1 OUTPUT0 FP32[2] raw=0000803f00000040"},
        /* unpacked, then packed: the pieces are put together */
        {"FP32", "FP32", 4,
         RAW("\x35"
             "abcd"
             "\x35"
             "efgh"
             "\x32\x08"
             "ijklmnop"),
         "FP32 1 OUTPUT0 FP32[4] raw=6162636465666768696a6b6c6d6e6f70"},
        {"FP64", "FP64", 1, RAW("\x39\0\0\0\0\0\0\xf0\x3f"),
         "FP64 1 OUTPUT0 FP64[1] raw=000000000000f03f"},
        {"STRING", "BYTES", 3, RAW("\x42\x02hi\x42\0\x42\x01!"),
         "STRING 1 OUTPUT0 BYTES[3] raw=0200000068690000000001000000"
         "21"},
        /* nothing at all, and empty fields of other kinds */
        {"FP32", "FP32", 0, RAW(""), "FP32 1 OUTPUT0 FP32[0] raw="},
        {"FP32", "FP32", 1,
         RAW("\x0a\0\x32\x04"
             "abcd"
             "\x12\0"),
         "FP32 1 OUTPUT0 FP32[1] raw=61626364"},
        /* an unknown field, and a known one of another wire type */
        {"INT32", "INT32", 1, RAW("\x48\x01\x15\0\0\0\0\x10\x07"),
         "INT32 1 OUTPUT0 INT32[1] raw=07000000"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_contents(cases[i].model, cases[i].dtype, cases[i].count, cases[i].contents);
        expect(cases[i].answer);
    }
}

/* Sub-messages of the same field are one message. */
static void test_grpc_infer_contents_in_two_messages(void **state)
{
    (void)state;
    put_model(&request, "INT32", "");
    size_t input = begin_tensor(&request, "INPUT0", "INT32", 3);
    md_pb_put_bytes(&request, 5, RAW("\x12\x02\x01\x02"));
    md_pb_put_bytes(&request, 5, RAW("\x10\x03"));
    md_pb_end(&request, input);
    expect("INT32 1 OUTPUT0 INT32[3] raw=010000000200000003000000");
}

/* Long contents take several turns of the loop, and come out whole. */
static void test_grpc_infer_long_contents(void **state)
{
    enum { ELEMENTS = 300000 };
    struct md_bytes contents = {0};

    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        size_t field = kind == 0 ? md_pb_begin(&contents, 2) : 0;
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            if (kind == 0 && md_bytes_reserve(&contents, MD_PB_VARINT_MAX)) {
                contents.len =
                    (size_t)(md_pb_store_varint(contents.data + contents.len, i) - contents.data);
            } else if (kind == 1) {
                md_pb_put_varint(&contents, 2, i);
            } else if (kind == 2) {
                md_pb_put_bytes(&contents, 8, md_str_make((const char *)&i, sizeof i));
            }
        }
        if (kind == 0) {
            md_pb_end(&contents, field);
        }
        put_contents(kind == 2 ? "STRING" : "INT32", kind == 2 ? "BYTES" : "INT32", ELEMENTS,
                     md_bytes_view(&contents));
        fake_call_begin(&server, &call, &md_oip_grpc_infer_handler);
        fake_call_send(&server, &call, md_bytes_view(&request));
        fake_call_close(&server, &call);
        assert_int_equal(call.ends, 0);
        fake_call_wait(&server, &call, SIZE_MAX);
        assert_int_equal(call.error.code, MD_CODE_OK);
        const struct md_bytes *message = &call.messages[0];
        const size_t size = kind == 2 ? 8 : 4;
        const char *raw = message->data + message->len - size * ELEMENTS;
        for (uint32_t i = 0; i < ELEMENTS; i++) {
            assert_memory_equal(raw + size * i + size - 4, &i, 4);
        }
        fake_call_free(&call);
        md_bytes_clear(&request);
        md_bytes_clear(&contents);
    }
    md_bytes_deinit(&contents);
}

/* --- what is wanted of outputs -------------------- */

static void put_output(const char *name, const char *parameter, struct choice choice)
{
    size_t output = md_pb_begin(&request, 6);

    md_pb_put_bytes(&request, 1, md_str_of(name));
    if (parameter) {
        put_parameter(&request, 2, parameter, choice);
    }
    md_pb_end(&request, output);
}

static void test_grpc_infer_wanted_outputs(void **state)
{
    (void)state;
    put_model(&request, "two", "");
    put_tensor(&request, "INPUT0", "FP32", 1);
    put_tensor(&request, "INPUT1", "FP32", 1);
    put_output("OUTPUT1", NULL, NO_PARAM);
    put_raw(&request, RAW("abcd"));
    put_raw(&request, RAW("efgh"));
    expect("two 1 OUTPUT1 FP32[1] raw=65666768");
}

static void test_grpc_infer_classification(void **state)
{
    struct md_bytes text;

    (void)state;
    put_request(&request, "labelled", "", "FP32", 3, RAW("\0\0\x80\x3f\0\0\x40\x40\0\0\0\x40"));
    put_output("OUTPUT0", "classification", INT64_PARAM(2));
    text = answer();
    static const char *const expected = "labelled 1 OUTPUT0 BYTES[2] raw=";
    assert_true(md_str_starts_with(md_bytes_view(&text), md_str_of(expected)));
    struct md_bytes strings = {0};
    print_hex(&strings, RAW("\x0e\0\0\0"
                            "3.000000:1:dog"
                            "\x0f\0\0\0"
                            "2.000000:2:bird"));
    assert_true(md_str_eq(md_str_make(text.data + strlen(expected), text.len - strlen(expected)),
                          md_bytes_view(&strings)));
    md_bytes_deinit(&strings);
    md_bytes_deinit(&text);
}

/* --- parameters -------------------- */

static void test_grpc_infer_parameters_are_taken(void **state)
{
    static const struct {
        const char *name;
        struct choice choice;
    } cases[] = {
        {"sequence_id", INT64_PARAM(42)},
        {"sequence_id", STRING_PARAM("s")},
        {"sequence_start", BOOL_PARAM(1)},
        {"sequence_end", BOOL_PARAM(0)},
        {"priority", INT64_PARAM(1)},
        {"priority", UINT64_PARAM(2)},
        {"timeout", INT64_PARAM(1000000)},
        {"triton_enable_empty_final_response", BOOL_PARAM(1)},
        {"mine", STRING_PARAM("text")},
        {"mine", DOUBLE_PARAM(1)},
        {"mine", NO_PARAM},
        {"mine", UINT64_PARAM(1)},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
        put_parameter(&request, 4, cases[i].name, cases[i].choice);
        expect("FP32 1 OUTPUT0 FP32[1] raw=61626364");
    }
}

/* --- errors -------------------- */

static void test_grpc_infer_refuses_parameters(void **state)
{
    static const struct {
        const char *name;
        struct choice choice;
        const char *answer;
    } cases[] = {
        {"sequence_id", BOOL_PARAM(1),
         "3: invalid value type for 'sequence_id' parameter, expected int64_param or "
         "string_param."},
        {"sequence_start", INT64_PARAM(1),
         "3: invalid value type for 'sequence_start' parameter, expected bool_param."},
        {"sequence_end", STRING_PARAM("x"),
         "3: invalid value type for 'sequence_end' parameter, expected bool_param."},
        {"priority", STRING_PARAM("x"),
         "3: invalid value type for 'priority' parameter, expected int64_param or uint64_param."},
        {"priority", INT64_PARAM(-1), "3: invalid value for 'priority', expected value >= 0."},
        {"priority", UINT64_PARAM(1ULL << 63),
         "3: invalid value for 'priority', expected value <= 9223372036854775807."},
        {"timeout", UINT64_PARAM(1),
         "3: invalid value type for 'timeout' parameter, expected int64_param."},
        {"timeout", INT64_PARAM(-1), "3: invalid value for 'timeout', expected value >= 0."},
        {"timeout", NO_PARAM,
         "3: invalid value type for 'timeout' parameter, expected int64_param."},
        {"triton_enable_empty_final_response", INT64_PARAM(1),
         "3: invalid value type for 'triton_enable_empty_final_response' parameter, expected "
         "bool_param."},
        {"triton_other", BOOL_PARAM(1),
         "3: parameter keys starting with 'triton_' are reserved for Triton usage. Only the "
         "following keys starting with 'triton_' are allowed: triton_enable_empty_final_response"},
        {"\xff", BOOL_PARAM(1), "13: a string of the request is not valid UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
        put_parameter(&request, 4, cases[i].name, cases[i].choice);
        expect(cases[i].answer);
    }
}

static void test_grpc_infer_refuses_output_parameters(void **state)
{
    static const struct {
        const char *name;
        struct choice choice;
        const char *answer;
    } cases[] = {
        {"classification", STRING_PARAM("1"),
         "3: invalid value type for 'classification' parameter, expected int64_param"},
        {"classification", INT64_PARAM(0),
         "3: invalid value for 'classification' parameter, expected >= 0"},
        {"shared_memory_region", INT64_PARAM(0),
         "3: invalid value type for 'shared_memory_region' parameter, expected string_param."},
        {"shared_memory_byte_size", STRING_PARAM("1"),
         "3: invalid value type for 'shared_memory_byte_size' parameter, expected int64_param."},
        {"shared_memory_region", STRING_PARAM("r"),
         "3: 'shared_memory_byte_size' must be specified along with 'shared_memory_region' "
         "parameter for tensor 'OUTPUT0'"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
        put_output("OUTPUT0", cases[i].name, cases[i].choice);
        expect(cases[i].answer);
    }
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    size_t output = md_pb_begin(&request, 6);
    md_pb_put_bytes(&request, 1, MD_STR("OUTPUT0"));
    put_parameter(&request, 2, "shared_memory_region", STRING_PARAM("r"));
    put_parameter(&request, 2, "classification", INT64_PARAM(1));
    md_pb_end(&request, output);
    expect("3: output can't set both 'shared_memory_region' and 'classification'");
}

static void test_grpc_infer_refuses_input_in_unknown_shared_memory(void **state)
{
    (void)state;
    put_model(&request, "FP32", "");
    size_t input = begin_tensor(&request, "INPUT0", "FP32", 1);
    put_parameter(&request, 4, "shared_memory_region", STRING_PARAM("r"));
    put_parameter(&request, 4, "shared_memory_offset", INT64_PARAM(4));
    put_parameter(&request, 4, "shared_memory_byte_size", INT64_PARAM(4));
    md_pb_end(&request, input);
    expect("5: Unable to find shared memory region: 'r'");
}

static void test_grpc_infer_refuses_contents(void **state)
{
    static const struct {
        const char *model, *dtype;
        int64_t count;
        struct md_str contents;
        const char *answer;
    } cases[] = {
        {"FP32", "FP32", 1, RAW("\x10\x01"),
         "3: unexpected explicit tensor data for input tensor 'INPUT0' for model 'FP32' of type "
         "'INT32', expected datatype 'FP32'"},
        {"FP16", "FP16", 1,
         RAW("\x35"
             "abcd"),
         "3: unexpected explicit tensor data for input tensor 'INPUT0' for model 'FP16' of type "
         "'FP32', expected datatype 'FP16'"},
        {"INT32", "INT32", 1, RAW("\x10\x01\x42\x01x"),
         "3: unexpected explicit tensor data for input tensor 'INPUT0' for model 'INT32' of type "
         "'BYTES', expected datatype 'INT32'"},
        {"INT8", "INT8", 1, RAW("\x10\x80\x01"),
         "3: a value of input 'INPUT0' does not fit its datatype INT8"},
        {"UINT16", "UINT16", 1, RAW("\x20\x80\x80\x04"),
         "3: a value of input 'INPUT0' does not fit its datatype UINT16"},
        {"INT32", "INT32", 1, RAW("\x12\x01\x80"),
         "13: the contents of input 'INPUT0' are no valid protobuf message"},
        {"FP32", "FP32", 1,
         RAW("\x32\x03"
             "abc"),
         "13: the contents of input 'INPUT0' are no valid protobuf message"},
        {"FP32", "FP32", 1,
         RAW("\x32\x04"
             "abc"),
         "13: the contents of input 'INPUT0' are no valid protobuf message"},
        {"INT32", "INT32", 3, RAW("\x12\x02\x01\x02"),
         "3: [request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model "
         "'INT32'. Expected 12, got 8"},
        {"INT32", "INT32", 1, RAW("\x12\x02\x01\x02"),
         "3: [request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model "
         "'INT32'. Expected 4, got 8"},
        {"FP32", "FP32", 2,
         RAW("\x35"
             "abcd"),
         "3: [request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model "
         "'FP32'. Expected 8, got 4"},
        {"STRING", "BYTES", 2, RAW("\x42\x01x"),
         "3: [request id: <id_unknown>] expected 2 string elements for inference input 'INPUT0' "
         "for model 'STRING', got 1"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_contents(cases[i].model, cases[i].dtype, cases[i].count, cases[i].contents);
        expect(cases[i].answer);
    }
}

static void test_grpc_infer_refuses_contents_beside_raw(void **state)
{
    (void)state;
    put_contents("FP32", "FP32", 1,
                 RAW("\x35"
                     "abcd"));
    put_raw(&request, RAW("abcd"));
    expect("3: contents field must not be specified when using raw_input_contents for 'INPUT0' for "
           "model 'FP32'");
}

static void test_grpc_infer_refuses_raw(void **state)
{
    static const struct {
        const char *model, *dtype;
        int64_t count;
        struct md_str raw;
        const char *answer;
    } cases[] = {
        {"FP32", "FP32", 2, RAW("abcd"),
         "3: [request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model "
         "'FP32'. Expected 8, got 4"},
        {"FP32", "INT32", 1, RAW("abcd"),
         "3: [request id: <id_unknown>] inference input 'INPUT0' data-type is 'INT32', but model "
         "'FP32' expects 'FP32'"},
        {"FP32", "FLOAT", 1, RAW("abcd"), "3: invalid datatype for input INPUT0"},
        {"STRING", "BYTES", 1, RAW("\x05\0\0\0x"),
         "3: [request id: <id_unknown>] incomplete string data for inference input 'INPUT0', "
         "expecting string of length 5 but only 1 bytes available"},
        {"decoupled", "FP32", 1, RAW("abcd"),
         "12: ModelInfer RPC doesn't support models with decoupled transaction policy"},
        {"none", "FP32", 1, RAW("abcd"), "5: Request for unknown model: 'none' is not found"},
        {"two", "FP32", 1, RAW("abcd"),
         "3: [request id: <id_unknown>] expected 2 inputs but got 1 inputs for model 'two'. Got "
         "input(s) ['INPUT0'], but missing required input(s) ['INPUT1']. Please provide all "
         "required input(s)."},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_request(&request, cases[i].model, "", cases[i].dtype, cases[i].count, cases[i].raw);
        expect(cases[i].answer);
    }
}

static void test_grpc_infer_refuses_versions(void **state)
{
    (void)state;
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    md_pb_put_bytes(&request, 2, MD_STR("one"));
    expect("3: failed to get model version from specified version string 'one' (details: stol), "
           "version should be an integral value > 0");
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    md_pb_put_bytes(&request, 2, MD_STR("7"));
    expect("5: Request for unknown model: 'FP32' version 7 is not found");
}

static void test_grpc_infer_refuses_missing_and_surplus_data(void **state)
{
    (void)state;
    put_model(&request, "FP32", "");
    put_tensor(&request, "INPUT0", "FP32", 1);
    expect("3: unable to find data for input tensor 'INPUT0' for model 'FP32' in request.");
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    put_raw(&request, RAW("abcd"));
    expect("3: unexpected additional input data for model 'FP32'");
}

static void test_grpc_infer_refuses_names(void **state)
{
    (void)state;
    put_model(&request, "FP32", "an id");
    put_tensor(&request, "OTHER", "FP32", 1);
    put_raw(&request, RAW("abcd"));
    expect("3: unexpected inference input 'OTHER' for model 'FP32'");
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    put_output("OTHER", NULL, NO_PARAM);
    expect("3: unexpected inference output 'OTHER' for model 'FP32'");
    put_request(&request, "FP32", "", "FP32", 1, RAW("abcd"));
    put_output("OUTPUT0", NULL, NO_PARAM);
    put_output("OUTPUT0", NULL, NO_PARAM);
    expect("3: output 'OUTPUT0' already exists in request");
    put_request(&request, "FP32", "\xff", "FP32", 1, RAW("abcd"));
    expect("13: a string of the request is not valid UTF-8");
}

static void test_grpc_infer_refuses_shapes(void **state)
{
    int64_t shape[33] = {1, -1};

    (void)state;
    for (int i = 0; i < 2; i++) {
        put_model(&request, "FP32", "");
        size_t input = begin_tensor(&request, "INPUT0", "FP32", -1);
        md_pb_put_packed(&request, 3, shape, i == 0 ? 2 : 33);
        md_pb_end(&request, input);
        put_raw(&request, RAW("abcd"));
        expect(i == 0 ? "3: a dimension of a shape is negative"
                      : "3: a shape has more than 32 dimensions");
        shape[1] = 1;
    }
}

static void test_grpc_infer_refuses_malformed(void **state)
{
    static const struct {
        struct md_str message;
        const char *answer;
    } cases[] = {
        {RAW("\x0a\x05"
             "FP32"),
         "13: the ModelInferRequest is no valid protobuf message"},
        {RAW("\x0a\x04"
             "FP\xff\xfe"),
         "13: a string of the request is not valid UTF-8"},
        {RAW("\x0a\x04"
             "FP32"
             "\x12\x01\xff"),
         "13: a string of the request is not valid UTF-8"},
        {RAW("\x0a\x04"
             "FP32"
             "\x2a\x02\x0a\x05"),
         "13: an input is no valid protobuf message"},
        {RAW("\x0a\x04"
             "FP32"
             "\x2a\x03\x1a\x01\x80"),
         "13: a shape is no valid protobuf message"},
        {RAW("\x0a\x04"
             "FP32"
             "\x32\x02\x0a\x05"),
         "13: an output is no valid protobuf message"},
        {RAW("\x0a\x04"
             "FP32"
             "\x22\x02\x0a\x05"),
         "13: a parameter is no valid protobuf message"},
        {RAW("\x0a\x04"
             "FP32"
             "\x22\x04\x12\x02\x08\x80"),
         "13: a parameter is no valid protobuf message"},
        {RAW(""), "5: Request for unknown model: '' is not found"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        md_bytes_append_str(&request, cases[i].message);
        expect(cases[i].answer);
    }
}

static void test_grpc_infer_bounds_lists(void **state)
{
    (void)state;
    put_model(&request, "FP32", "");
    for (int i = 0; i < 1025; i++) {
        put_raw(&request, RAW(""));
    }
    expect("3: a request has more than 1024 inputs, outputs or parameters");
    put_model(&request, "FP32", "");
    for (int i = 0; i < 65536; i++) {
        md_pb_put_varint(&request, 99, 1);
    }
    expect("3: a request has more than 65536 fields");
}

/* --- life -------------------- */

static void test_grpc_infer_cancel(void **state)
{
    (void)state;
    put_request(&request, "slow", "", "FP32", 1, RAW("abcd"));
    fake_call_begin(&server, &call, &md_oip_grpc_infer_handler);
    fake_call_send(&server, &call, md_bytes_view(&request));
    fake_call_close(&server, &call);
    assert_int_equal(call.ends, 0);
    fake_call_cancel(&call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.ends, 1);
    fake_call_free(&call);
}

static void test_grpc_infer_cancel_while_it_is_read(void **state)
{
    static char zeroes[200000];

    (void)state;
    put_model(&request, "INT32", "");
    size_t input = begin_tensor(&request, "INPUT0", "INT32", sizeof zeroes);
    size_t contents = md_pb_begin(&request, 5);
    md_pb_put_bytes(&request, 2, md_str_make(zeroes, sizeof zeroes));
    md_pb_end(&request, contents);
    md_pb_end(&request, input);
    fake_call_begin(&server, &call, &md_oip_grpc_infer_handler);
    fake_call_send(&server, &call, md_bytes_view(&request));
    fake_call_close(&server, &call);
    assert_int_equal(call.ends, 0);
    fake_call_cancel(&call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.error.code, MD_CODE_CANCELLED);
    fake_call_free(&call);
}

static void test_grpc_infer_counts_refusals(void **state)
{
    struct md_target_totals before, after;
    struct md_error err;
    struct md_version *version = md_models_resolve(server.models, MD_STR("FP32"), MD_STR(""), &err);

    (void)state;
    assert_non_null(version);
    md_target_sum(&version->target, &before);
    put_request(&request, "FP32", "", "FP32", 2, RAW("abcd"));
    struct md_bytes text = answer();
    md_bytes_deinit(&text);
    md_target_sum(&version->target, &after);
    assert_int_equal(after.fail.count, before.fail.count + 1);
    assert_int_equal(after.in_flight, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_grpc_infer_raw_of_every_dtype, clear),
        cmocka_unit_test_setup(test_grpc_infer_id_and_version, clear),
        cmocka_unit_test_setup(test_grpc_infer_bytes_of_a_client, clear),
        cmocka_unit_test_setup(test_grpc_infer_fields_in_any_order, clear),
        cmocka_unit_test_setup(test_grpc_infer_unpacked_shape, clear),
        cmocka_unit_test_setup(test_grpc_infer_copies_no_tensor, clear),
        cmocka_unit_test_setup(test_grpc_infer_contents, clear),
        cmocka_unit_test_setup(test_grpc_infer_contents_in_two_messages, clear),
        cmocka_unit_test_setup(test_grpc_infer_long_contents, clear),
        cmocka_unit_test_setup(test_grpc_infer_wanted_outputs, clear),
        cmocka_unit_test_setup(test_grpc_infer_classification, clear),
        cmocka_unit_test_setup(test_grpc_infer_parameters_are_taken, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_parameters, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_output_parameters, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_input_in_unknown_shared_memory, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_contents, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_contents_beside_raw, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_raw, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_versions, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_missing_and_surplus_data, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_names, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_shapes, clear),
        cmocka_unit_test_setup(test_grpc_infer_refuses_malformed, clear),
        cmocka_unit_test_setup(test_grpc_infer_bounds_lists, clear),
        cmocka_unit_test_setup(test_grpc_infer_cancel, clear),
        cmocka_unit_test_setup(test_grpc_infer_cancel_while_it_is_read, clear),
        cmocka_unit_test_setup(test_grpc_infer_counts_refusals, clear),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
