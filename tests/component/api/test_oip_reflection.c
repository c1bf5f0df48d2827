/*
 * api/oip/grpc_reflection.c over the files that the server really has: what is found by file name
 * and by symbol, what is not, and clients that ask badly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/oip/proto_files.h"
#include "base/fault.h"
#include "codec/descriptors.h"
#include "component/api/fake_call.h"
#include "component/api/pb_path.h"

#define PATH(version) "/grpc.reflection." version ".ServerReflection/ServerReflectionInfo"

enum { BY_FILE = 3, BY_SYMBOL = 4, BY_EXTENSION = 5, EXTENSIONS_OF = 6, SERVICES = 7 };

static struct fake_server server;
static struct fake_call call; /* large */

static int setup(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_server_start(&server, 1 << 26);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

/* Asks one question on the stream; the answer is the last message. */
static struct md_str ask(uint32_t kind, const char *text)
{
    struct md_bytes question = {0};

    md_pb_put_bytes(&question, 1, MD_STR("here"));
    md_pb_put_bytes(&question, kind, md_str_of(text));
    fake_call_send(&server, &call, md_bytes_view(&question));
    struct md_str answer = md_bytes_view(&call.messages[call.message_count - 1]);
    assert_true(md_str_eq_c(pb_text(answer, "1"), "here"));
    assert_true(md_str_eq(pb_text(answer, "2"), md_bytes_view(&question)));
    md_bytes_deinit(&question);
    return answer;
}

static void test_reflection_answers_questions(void **state)
{
    static const struct {
        uint32_t kind;
        const char *text;
        const char *files[2]; /* of the answer; none: NOT_FOUND */
    } rows[] = {
        {BY_FILE, "model_config.proto", {"model_config.proto"}},
        {BY_FILE, "grpc_service.proto", {"grpc_service.proto", "model_config.proto"}},
        {BY_FILE, "grpc/health/v1/health.proto", {"grpc/health/v1/health.proto"}},
        {BY_FILE, "absent.proto", {NULL}},
        {BY_SYMBOL, "inference.GRPCInferenceService", {"grpc_service.proto", "model_config.proto"}},
        {BY_SYMBOL,
         "inference.GRPCInferenceService.ModelInfer",
         {"grpc_service.proto", "model_config.proto"}},
        {BY_SYMBOL, "inference.ModelConfig", {"model_config.proto"}},
        {BY_SYMBOL, "inference.ModelInput.Format", {"model_config.proto"}},
        {BY_SYMBOL, "inference.DataType", {"model_config.proto"}},
        {BY_SYMBOL, "grpc.health.v1.Health.Watch", {"grpc/health/v1/health.proto"}},
        {BY_SYMBOL,
         "grpc.reflection.v1alpha.ServerReflection",
         {"grpc/reflection/v1alpha/reflection.proto"}},
        {BY_SYMBOL, "inference.GRPCInferenceService.Absent", {NULL}},
        {BY_SYMBOL, "inference", {NULL}},
        {BY_SYMBOL, "", {NULL}},
        {BY_EXTENSION, "\x0a\x15inference.ModelConfig\x10\x01", {NULL}},
        {EXTENSIONS_OF, "inference.Absent", {NULL}},
        {EXTENSIONS_OF, "inference.GRPCInferenceService", {NULL}},
    };

    (void)state;
    fake_call_open(&server, &call, PATH("v1"), NULL);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_str answer = ask(rows[i].kind, rows[i].text);
        size_t count = 0;
        for (; count < 2 && rows[i].files[count]; count++) {
            struct md_str file = pb_text(answer, count ? "4.1[1]" : "4.1");
            if (!md_str_eq_c(pb_text(file, "1"), rows[i].files[count])) {
                fail_msg("'%s': '%.*s'", rows[i].text, MD_STR_ARG(pb_text(answer, "7.2")));
            }
        }
        assert_int_equal(pb_count(pb_text(answer, "4"), 1), count);
        if (!count && pb_number(answer, "7.1") != MD_CODE_NOT_FOUND) {
            fail_msg("'%s' was found", rows[i].text);
        }
    }
    fake_call_close(&server, &call);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_OK);
    assert_int_equal(call.message_count, MD_COUNT_OF(rows));
    fake_call_free(&call);
}

static void test_reflection_lists_services_in_both_versions(void **state)
{
    static const char *const paths[] = {PATH("v1"), PATH("v1alpha")};
    static const char *const services[] = {
        "inference.GRPCInferenceService", "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        fake_call_open(&server, &call, paths[i], NULL);
        struct md_str list = pb_text(ask(SERVICES, ""), "6");
        assert_int_equal(pb_count(list, 1), MD_COUNT_OF(services));
        for (size_t k = 0; k < MD_COUNT_OF(services); k++) {
            char path[16];
            (void)snprintf(path, sizeof path, "1[%zu].1", k);
            assert_true(md_str_eq_c(pb_text(list, path), services[k]));
        }
        fake_call_close(&server, &call);
        fake_call_free(&call);
    }
}

static void test_reflection_knows_no_extensions(void **state)
{
    (void)state;
    fake_call_open(&server, &call, PATH("v1"), NULL);
    struct md_str answer = ask(EXTENSIONS_OF, "inference.ModelConfig");
    assert_true(md_str_eq_c(pb_text(answer, "5.1"), "inference.ModelConfig"));
    assert_int_equal(pb_count(pb_text(answer, "5"), 2), 0);
    fake_call_close(&server, &call);
    fake_call_free(&call);
}

/* Every method that the files declare is in the server's table. */
static void test_reflection_declares_what_is_served(void **state)
{
    struct md_pb_reader files = md_pb_reader_of(md_proto_files);
    struct md_pb_field file, service, method;
    size_t count = 0;

    (void)state;
    while (md_pb_next(&files, &file)) {
        for (size_t s = 0; pb_field(file.bytes, 6, s, &service); s++) {
            for (size_t m = 0; pb_field(service.bytes, 2, m, &method); m++) {
                char path[256];
                (void)snprintf(path, sizeof path, "/%.*s.%.*s/%.*s",
                               MD_STR_ARG(pb_text(file.bytes, "2")),
                               MD_STR_ARG(pb_text(service.bytes, "1")),
                               MD_STR_ARG(pb_text(method.bytes, "1")));
                fake_call_open(&server, &call, path, NULL);
                if (strstr(call.error.text, "there is no method")) {
                    fail_msg("%s is not served", path);
                }
                fake_call_free(&call);
                count++;
            }
        }
    }
    assert_int_equal(count, 25);
}

static void test_reflection_ends_at_what_is_no_question(void **state)
{
    static const struct {
        struct md_str message;
        enum md_code code;
    } rows[] = {
        {MD_STR(""), MD_CODE_INVALID_ARGUMENT},
        {MD_STR("\x0a\x01h"), MD_CODE_INVALID_ARGUMENT},          /* a host alone */
        {MD_STR("\x38\x01"), MD_CODE_INVALID_ARGUMENT},           /* of another type */
        {MD_STR("\x3a\x05"), MD_CODE_INTERNAL},                   /* cut off */
        {MD_STR("\x42\x01x\x12\x01x"), MD_CODE_INVALID_ARGUMENT}, /* other fields */
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        fake_call_open(&server, &call, PATH("v1"), NULL);
        fake_call_send(&server, &call, rows[i].message);
        assert_int_equal(call.ends, 1);
        assert_int_equal(call.error.code, rows[i].code);
        assert_int_equal(call.message_count, 0);
        fake_call_free(&call);
    }
}

static void test_reflection_ends_for_who_does_not_read(void **state)
{
    static const struct md_str question = MD_STR("\x1a\x12grpc_service.proto");

    (void)state;
    fake_call_open(&server, &call, PATH("v1"), NULL);
    call.is_slow = true;
    for (int i = 0; i < 1000 && !call.ends; i++) {
        fake_call_send(&server, &call, question);
    }
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_RESOURCE_EXHAUSTED);
    assert_in_range(md_grpc_unsent_bytes(&call.fake.x), 1 << 20, 2 << 20);
    fake_call_free(&call);
}

static void test_reflection_without_memory(void **state)
{
    struct md_bytes question = {0};

    (void)state;
    md_pb_put_bytes(&question, SERVICES, MD_STR(""));
    fake_call_open(&server, &call, PATH("v1"), NULL);
    fake_call_send(&server, &call, md_bytes_view(&question)); /* the pool has its block */
    assert_int_equal(call.message_count, 1);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    call.fake.x.handler->on_message(&call.fake.x);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_RESOURCE_EXHAUSTED);
    fake_call_free(&call);
    md_bytes_deinit(&question);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reflection_answers_questions),
        cmocka_unit_test(test_reflection_lists_services_in_both_versions),
        cmocka_unit_test(test_reflection_knows_no_extensions),
        cmocka_unit_test(test_reflection_declares_what_is_served),
        cmocka_unit_test(test_reflection_ends_at_what_is_no_question),
        cmocka_unit_test(test_reflection_ends_for_who_does_not_read),
        cmocka_unit_test(test_reflection_without_memory),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
