/*
 * Inferences over gRPC in which every allocation fails once, or all from one on: one status, which
 * is the right one or says that the server has no memory; the next call is served as ever; no
 * reference and no byte of the budget stays behind.
 */
#include "torture/torture.h"

#include "api/oip/grpc_infer.h"
#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"

enum { INFLIGHT_BYTES = 64 << 20, MANY_ELEMENTS = 100000, MESSAGES_MAX = 4 };

static struct fake_server server;
static struct fake_call call;

static int start(void **state)
{
    char path[256];

    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "int32", 0, "INT32", "-1", 1, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "executor", 0, "FP32", "-1", 1,
               "parameters { key: \"modeld_inline\" value { string_value: \"off\" } }");
    fake_model(&server, "repeat", 0, "FP32", "-1", 0, "");
    (void)snprintf(path, sizeof path, "%s/repeat/config.pbtxt", server.folder);
    fake_write(path, "backend: \"repeat\"\n");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

/* --- requests -------------------- */

static void put_raw_fp32(struct md_bytes *out)
{
    put_request(out, "fp32", "an id", "FP32", 2, RAW("abcdefgh"));
    put_parameter(out, 4, "sequence_id", STRING_PARAM("s"));
    put_parameter(out, 4, "mine", INT64_PARAM(1));
}

static void put_executor(struct md_bytes *out)
{
    put_request(out, "executor", "", "FP32", 1, RAW("abcd"));
}

static void put_contents(struct md_bytes *out, const char *model, const char *dtype, size_t count,
                         void (*put)(struct md_bytes *out, uint32_t i))
{
    put_model(out, model, "");
    size_t input = begin_tensor(out, "INPUT0", dtype, (int64_t)count);
    size_t contents = md_pb_begin(out, 5);
    for (uint32_t i = 0; i < count; i++) {
        put(out, i);
    }
    md_pb_end(out, contents);
    md_pb_end(out, input);
}

static void put_integer(struct md_bytes *out, uint32_t i)
{
    md_pb_put_varint(out, 2, i);
}

static void put_float(struct md_bytes *out, uint32_t i)
{
    md_pb_put_float(out, 6, (float)i);
}

static void put_string(struct md_bytes *out, uint32_t i)
{
    md_pb_put_bytes(out, 8, md_str_make((const char *)&i, i % 5));
}

static void put_integers(struct md_bytes *out)
{
    put_contents(out, "int32", "INT32", MANY_ELEMENTS, put_integer);
}

static void put_floats(struct md_bytes *out)
{
    put_contents(out, "fp32", "FP32", 1000, put_float);
}

static void put_strings(struct md_bytes *out)
{
    put_contents(out, "text", "BYTES", MANY_ELEMENTS, put_string);
}

static void put_classes(struct md_bytes *out)
{
    put_request(out, "labelled", "", "FP32", 2, RAW("\0\0\x80\x3f\0\0\0\x40"));
    size_t output = md_pb_begin(out, 6);
    md_pb_put_bytes(out, 1, MD_STR("OUTPUT0"));
    put_parameter(out, 2, "classification", INT64_PARAM(2));
    md_pb_end(out, output);
}

static void put_unknown_model(struct md_bytes *out)
{
    put_request(out, "none", "an id", "FP32", 1, RAW("abcd"));
}

static void put_wrong_size(struct md_bytes *out)
{
    put_request(out, "fp32", "an id", "FP32", 2, RAW("abcd"));
}

static void put_repeat(struct md_bytes *out)
{
    put_model(out, "repeat", "r");
    put_tensor(out, "IN", "INT32", 3);
    put_parameter(out, 4, "triton_enable_empty_final_response", BOOL_PARAM(1));
    put_raw(out, RAW("aaaabbbbcccc"));
}

/* A call: its messages, the status that is right, and the number of answers. */
struct scenario {
    const char *name;
    bool is_stream;
    enum md_code code;
    size_t answers;
    void (*put[MESSAGES_MAX])(struct md_bytes *out);
};

static const struct scenario scenarios[] = {
    {"raw", false, MD_CODE_OK, 1, {put_raw_fp32}},
    {"executor", false, MD_CODE_OK, 1, {put_executor}},
    {"integers", false, MD_CODE_OK, 1, {put_integers}},
    {"floats", false, MD_CODE_OK, 1, {put_floats}},
    {"strings", false, MD_CODE_OK, 1, {put_strings}},
    {"classes", false, MD_CODE_OK, 1, {put_classes}},
    {"unknown_model", false, MD_CODE_NOT_FOUND, 0, {put_unknown_model}},
    {"wrong_size", false, MD_CODE_INVALID_ARGUMENT, 0, {put_wrong_size}},
    {"decoupled", false, MD_CODE_UNIMPLEMENTED, 0, {put_repeat}},
    {"stream", true, MD_CODE_OK, 3, {put_executor, put_raw_fp32, put_classes}},
    {"stream_of_errors", true, MD_CODE_OK, 2, {put_unknown_model, put_wrong_size}},
    {"stream_of_contents", true, MD_CODE_OK, 2, {put_integers, put_strings}},
    {"stream_of_repeat", true, MD_CODE_OK, 5, {put_repeat, put_executor}},
};

static void make_call(const struct scenario *scenario, const struct md_bytes *messages)
{
    fake_call_begin(&server, &call,
                    scenario->is_stream ? &md_oip_grpc_stream_infer_handler
                                        : &md_oip_grpc_infer_handler);
    for (size_t i = 0; i < MESSAGES_MAX && scenario->put[i]; i++) {
        fake_call_send(&server, &call, md_bytes_view(&messages[i]));
    }
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
}

/* --- judging -------------------- */

static bool has_no_memory(enum md_code code)
{
    return code == MD_CODE_UNAVAILABLE || code == MD_CODE_RESOURCE_EXHAUSTED ||
           code == MD_CODE_CANCELLED; /* of a stream whose message the session has no memory for */
}

static void nothing_is_in_flight(const struct torture *t)
{
    for (size_t i = 0; i < md_models_count(server.models); i++) {
        struct md_target_totals totals;
        md_target_sum(&md_models_at(server.models, i)->versions[0].target, &totals);
        torture_check(t, totals.in_flight == 0 && totals.pending == 0);
    }
}

static void next_call_is_served(const struct torture *t)
{
    static const struct scenario plain = {"", false, MD_CODE_OK, 1, {put_executor}};
    struct md_bytes message = {0};

    put_executor(&message);
    make_call(&plain, &message);
    torture_check(t, call.ends == 1 && call.error.code == MD_CODE_OK);
    fake_call_free(&call);
    md_bytes_deinit(&message);
}

static void torture_scenario(const struct scenario *scenario, enum md_fault_kind kind)
{
    struct md_bytes messages[MESSAGES_MAX] = {{0}};

    for (size_t i = 0; i < MESSAGES_MAX && scenario->put[i]; i++) {
        scenario->put[i](&messages[i]);
    }
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        md_pool_trim(md_loop_pool(server.loop), 0); /* so that each block is an allocation */
        md_arena_cache_deinit(md_loop_arenas(server.loop));
        torture_arm(&t);
        make_call(scenario, messages);
        bool delivered = torture_disarm(&t);
        bool is_right = call.error.code == scenario->code &&
                        (delivered || call.message_count == scenario->answers);
        bool is_refusal = delivered && has_no_memory(call.error.code);
        unsigned ends = call.ends;
        if (!is_right && !is_refusal) {
            print_error("status %d: %s\n", (int)call.error.code, call.error.text);
        }
        fake_call_free(&call);
        torture_check(&t, ends == 1);
        torture_check(&t, is_right || is_refusal);
        nothing_is_in_flight(&t);
        next_call_is_served(&t);
    }
    for (size_t i = 0; i < MESSAGES_MAX; i++) {
        md_bytes_deinit(&messages[i]);
    }
}

static void test_torture_grpc_infer(void **state)
{
    torture_scenario(*state, MD_FAULT_ALLOC);
    torture_scenario(*state, MD_FAULT_REGION);
}

int main(void)
{
    enum { COUNT = MD_COUNT_OF(scenarios) };
    static char names[COUNT][64];
    struct CMUnitTest tests[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof names[i], "test_torture_grpc_infer_%s", scenarios[i].name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = test_torture_grpc_infer,
                                       .initial_state = (void *)(uintptr_t)&scenarios[i]};
    }
    return cmocka_run_group_tests(tests, start, stop);
}
