/*
 * api/oip/grpc: the table of methods, statuses, and the calls that are no inference.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/oip/grpc_unary.h"
#include "base/fault.h"
#include "component/api/fake_call.h"
#include "component/api/pb_path.h"
#include "os/log_file.h"

#define METHOD(name) "/inference.GRPCInferenceService/" name

static struct fake_server server;

/* Calls are let through as these options say. */
static void restrict_to(const char *flag)
{
    struct md_error err;
    char *argv[] = {(char *)(uintptr_t) "modeld", (char *)(uintptr_t)flag, NULL};
    static struct md_options options;

    assert_true(
        md_options_parse(2, argv, NULL, false, NULL, &server.arena, &options, &server.diagnostics));
    fake_demand(md_access_create(&options, &server.arena, &server.oip.access, &err), &err);
}

static int setup(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "batched", 8, "FP32", "4, -1", 1, "");
    fake_model(&server, "two", 0, "INT64", "2", 2, "");
    fake_model(&server, "broken", 0, "FP32", "2", 1, "parameters { key: \"x\" }");
    char path[128];
    (void)snprintf(path, sizeof path, "%s/broken/config.pbtxt", server.folder);
    fake_write(path, "backend: \"absent\"");
    fake_server_start(&server, 1 << 26);
    restrict_to("--management=open");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

/* One unary call; the caller frees it. */
static void call_method(struct fake_call *call, const char *path, struct md_str message)
{
    fake_call_open(&server, call, path, NULL);
    fake_call_send(&server, call, message);
    fake_call_close(&server, call);
    fake_call_wait(&server, call, SIZE_MAX);
    assert_int_equal(call->ends, 1);
    assert_int_equal(call->fake.answers, 0);
    assert_int_equal(call->message_count, call->error.code == MD_CODE_OK);
}

/* Fields of the request: name, version. */
static struct md_str names(const char *name, const char *version)
{
    static char memory[256];
    struct md_bytes out = {0};

    md_pb_put_bytes(&out, 1, md_str_of(name));
    if (version) {
        md_pb_put_bytes(&out, 2, md_str_of(version));
    }
    assert_true(out.len <= sizeof memory);
    memcpy(memory, out.data, out.len);
    struct md_str view = md_str_make(memory, out.len);
    md_bytes_deinit(&out);
    return view;
}

static struct fake_call call; /* large */

static struct md_str response(void)
{
    assert_int_equal(call.message_count, 1);
    return md_bytes_view(&call.messages[0]);
}

/* --- what there is and what is refused -------------------- */

static void test_grpc_statuses(void **state)
{
    static const char no_load[] =
        "models are loaded at start for now: restart the server with --load-model to change them";
    static const struct {
        const char *path, *name, *version;
        enum md_code code;
        const char *text;
    } rows[] = {
        {METHOD("ServerLive"), "", NULL, MD_CODE_OK, ""},
        {METHOD("Other"), "", NULL, MD_CODE_UNIMPLEMENTED,
         "there is no method '/inference.GRPCInferenceService/Other'"},
        {"/inference.GRPCInferenceService", "", NULL, MD_CODE_UNIMPLEMENTED,
         "there is no method '/inference.GRPCInferenceService'"},
        {METHOD("RepositoryModelLoad"), "", "two", MD_CODE_UNIMPLEMENTED, no_load},
        {METHOD("RepositoryModelUnload"), "", "two", MD_CODE_UNIMPLEMENTED, no_load},
        {METHOD("SystemSharedMemoryStatus"), "r", NULL, MD_CODE_NOT_FOUND,
         "Unable to find system shared memory region: 'r'"},
        {METHOD("TraceSetting"), "", "absent", MD_CODE_INVALID_ARGUMENT,
         "'' is no trace setting that can be changed"}, /* an entry without a name comes first */
        {METHOD("ModelReady"), "absent", NULL, MD_CODE_NOT_FOUND,
         "Request for unknown model: 'absent' is not found"},
        {METHOD("ModelReady"), "two", "7", MD_CODE_NOT_FOUND,
         "Request for unknown model: 'two' version 7 is not found"},
        {METHOD("ModelReady"), "two", "x", MD_CODE_INVALID_ARGUMENT,
         "failed to get model version from specified version string 'x' (details: stol), version "
         "should be an integral value > 0"},
        {METHOD("ModelReady"), "two", "-1", MD_CODE_INVALID_ARGUMENT,
         "invalid model version specified '-1' , version should be an integral value > 0"},
        {METHOD("ModelMetadata"), "absent", NULL, MD_CODE_NOT_FOUND,
         "Request for unknown model: 'absent' is not found"},
        {METHOD("ModelMetadata"), "broken", "1", MD_CODE_UNAVAILABLE,
         "Request for unknown model: 'broken' version 1 is not at ready state"},
        {METHOD("ModelConfig"), "", NULL, MD_CODE_NOT_FOUND,
         "Request for unknown model: '' is not found"},
        {METHOD("ModelStatistics"), "absent", NULL, MD_CODE_INVALID_ARGUMENT,
         "requested model 'absent' is not available"},
        {METHOD("ModelStatistics"), "two", "x", MD_CODE_INVALID_ARGUMENT,
         "failed to get model version from specified version string 'x' (details: stol), version "
         "should be an integral value > 0"},
        {METHOD("RepositoryIndex"), "r", NULL, MD_CODE_UNIMPLEMENTED,
         "'repository_name' specification is not supported"},
        {METHOD("ModelStatistics"), "two", "7", MD_CODE_INVALID_ARGUMENT,
         "requested model version is not available for model 'two'"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        call_method(&call, rows[i].path, names(rows[i].name, rows[i].version));
        if (call.error.code != rows[i].code || strcmp(call.error.text, rows[i].text) != 0) {
            fail_msg("%s: %d '%s'", rows[i].path, call.error.code, call.error.text);
        }
        fake_call_free(&call);
    }
}

static void test_grpc_requests_that_are_no_messages(void **state)
{
    static const struct {
        const char *path;
        struct md_str message;
    } rows[] = {
        {METHOD("ServerLive"), MD_STR("\x0a\x05two")},
        {METHOD("ModelReady"), MD_STR("\x0a\x05two")},
        {METHOD("ModelReady"), MD_STR("\x0a\x01\xff")},
        {METHOD("ModelMetadata"), MD_STR("\x0a\x03two\x12\x01\xff")},
        {METHOD("ModelStatistics"), MD_STR("\x0a\x05two")},
        {METHOD("RepositoryIndex"), MD_STR("\x10")},
        {METHOD("RepositoryIndex"), MD_STR("\x0a\x01\xff")},
        {METHOD("RepositoryModelLoad"), MD_STR("\x0a\x05two")},
        {METHOD("LogSettings"), MD_STR("\x0a\x01\x0a")},         /* in an entry */
        {METHOD("LogSettings"), MD_STR("\x0a\x03\x12\x01\x0a")}, /* in its value */
        {METHOD("LogSettings"), MD_STR("\x0a\x03\x0a\x01\xff")},
        {METHOD("TraceSetting"), MD_STR("\x0a\x01\x0a")},
        {METHOD("TraceSetting"), MD_STR("\x0a\x03\x12\x01\x0a")},
        {"/grpc.health.v1.Health/Check", MD_STR("\x0a\x05two")},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        call_method(&call, rows[i].path, rows[i].message);
        if (call.error.code != MD_CODE_INTERNAL ||
            strcmp(call.error.text, "Unable to parse request") != 0) {
            fail_msg("case %zu, %s: %d '%s'", i, rows[i].path, call.error.code, call.error.text);
        }
        fake_call_free(&call);
    }
}

static void test_grpc_codes_of_reasons(void **state)
{
    static const struct {
        enum md_reason reason;
        enum md_code code;
    } rows[] = {
        {MD_REASON_RESTRICTED, MD_CODE_UNAVAILABLE},
        {MD_REASON_EXITING, MD_CODE_UNAVAILABLE},
        {MD_REASON_UNKNOWN_MODEL, MD_CODE_NOT_FOUND},
        {MD_REASON_UNSUPPORTED, MD_CODE_UNIMPLEMENTED},
        {MD_REASON_BACKEND, MD_CODE_INTERNAL},
        {MD_REASON_ALREADY_EXISTS, MD_CODE_ALREADY_EXISTS},
        {MD_REASON_CANCELLED, MD_CODE_CANCELLED},
        {MD_REASON_DEADLINE, MD_CODE_DEADLINE_EXCEEDED},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_error err;
        (void)md_error_set(&err, rows[i].reason, "x");
        assert_int_equal(md_oip_grpc_code(&err), rows[i].code);
    }
    struct md_error own;
    (void)md_error_set_code(&own, MD_REASON_BACKEND, MD_CODE_DATA_LOSS, "x");
    assert_int_equal(md_oip_grpc_code(&own), MD_CODE_DATA_LOSS);
}

static void test_grpc_restricted_calls_end_at_their_head(void **state)
{
    const struct md_access *before = server.oip.access;
    const struct md_http_header shown = {MD_STR("triton-grpc-protocol-k"), MD_STR("v")};

    (void)state;
    restrict_to("--grpc-restricted-protocol=metadata,health:k=v");
    fake_call_open(&server, &call, METHOD("ServerMetadata"), NULL);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_UNAVAILABLE);
    fake_call_free(&call);
    fake_call_open(&server, &call, "/grpc.health.v1.Health/Watch", NULL);
    assert_int_equal(call.ends, 1);
    fake_call_free(&call);
    fake_call_open(&server, &call, METHOD("ServerMetadata"), &shown);
    assert_int_equal(call.ends, 0);
    fake_call_close(&server, &call);
    assert_int_equal(call.error.code, MD_CODE_OK);
    fake_call_free(&call);
    server.oip.access = before;
}

static void test_grpc_refusals_without_memory(void **state)
{
    const struct md_access *before = server.oip.access;

    (void)state;
    restrict_to("--grpc-restricted-protocol=metadata:k=v");
    md_fault_arm(MD_FAULT_ALLOC, 0);
    fake_call_open(&server, &call, METHOD("ServerMetadata"), NULL);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(call.error.code, MD_CODE_RESOURCE_EXHAUSTED);
    fake_call_free(&call);
    server.oip.access = before;
}

/* --- metadata -------------------- */

static void test_grpc_server_state(void **state)
{
    (void)state;
    call_method(&call, METHOD("ServerLive"), MD_STR(""));
    assert_int_equal(pb_number(response(), "1"), 1);
    fake_call_free(&call);
    call_method(&call, METHOD("ServerReady"), MD_STR(""));
    assert_int_equal(pb_number(response(), "1"), 1);
    fake_call_free(&call);

    server.oip.is_ready = fake_false;
    call_method(&call, METHOD("ServerReady"), MD_STR(""));
    assert_int_equal(pb_number(response(), "1"), 0);
    fake_call_free(&call);
    server.oip.is_exiting = fake_true;
    call_method(&call, METHOD("ServerReady"), MD_STR(""));
    assert_int_equal(call.error.code, MD_CODE_UNAVAILABLE);
    assert_string_equal(call.error.text, "Server exiting");
    fake_call_free(&call);
    server.oip.is_ready = fake_true;
    server.oip.is_exiting = fake_false;
}

static void test_grpc_model_ready(void **state)
{
    static const struct {
        const char *name, *version;
        uint64_t ready;
    } rows[] = {{"two", NULL, 1}, {"two", "1", 1}, {"broken", NULL, 0}, {"broken", "1", 0}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        call_method(&call, METHOD("ModelReady"), names(rows[i].name, rows[i].version));
        assert_int_equal(pb_number(response(), "1"), rows[i].ready);
        fake_call_free(&call);
    }
}

static void test_grpc_server_metadata(void **state)
{
    (void)state;
    call_method(&call, METHOD("ServerMetadata"), MD_STR(""));
    assert_true(md_str_eq_c(pb_text(response(), "1"), server.options.id));
    assert_true(md_str_eq_c(pb_text(response(), "2"), "1.2.3"));
    assert_true(md_str_eq_c(pb_text(response(), "3"), "classification"));
    assert_true(pb_count(response(), 3) > 4);
    fake_call_free(&call);
}

static void test_grpc_model_metadata(void **state)
{
    (void)state;
    call_method(&call, METHOD("ModelMetadata"), names("batched", NULL));
    assert_true(md_str_eq_c(pb_text(response(), "1"), "batched"));
    assert_true(md_str_eq_c(pb_text(response(), "2"), "1"));
    assert_int_equal(pb_count(response(), 2), 1);
    assert_true(md_str_eq_c(pb_text(response(), "3"), "identity"));
    assert_true(md_str_eq_c(pb_text(response(), "4.1"), "INPUT0"));
    assert_true(md_str_eq_c(pb_text(response(), "4.2"), "FP32"));
    assert_true(
        md_str_eq(pb_text(response(), "4.3"), MD_STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x04"
                                                     "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")));
    assert_true(md_str_eq_c(pb_text(response(), "5.1"), "OUTPUT0"));
    fake_call_free(&call);

    call_method(&call, METHOD("ModelMetadata"), names("two", "1"));
    assert_int_equal(pb_count(response(), 2), 1);
    assert_int_equal(pb_count(response(), 4), 2);
    assert_true(md_str_eq_c(pb_text(response(), "5[1].1"), "OUTPUT1"));
    fake_call_free(&call);
}

static void test_grpc_model_config(void **state)
{
    (void)state;
    call_method(&call, METHOD("ModelConfig"), names("batched", NULL));
    assert_true(md_str_eq_c(pb_text(response(), "1.1"), "batched"));
    assert_int_equal(pb_number(response(), "1.4"), 8);
    assert_true(md_str_eq_c(pb_text(response(), "1.17"), "identity"));
    fake_call_free(&call);
}

/* --- statistics and index -------------------- */

static void test_grpc_statistics_of_one(void **state)
{
    struct fake_exchange fake;
    static const char body[] =
        "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[2,4,1],"
        "\"data\":[1,2,3,4,5,6,7,8]}]}";

    (void)state;
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/batched/infer", MD_STR(body), -1);
    assert_int_equal(fake.status, 200);
    fake_free(&fake);
    call_method(&call, METHOD("ModelStatistics"), names("batched", "1"));
    assert_int_equal(pb_count(response(), 1), 1);
    assert_true(md_str_eq_c(pb_text(response(), "1.1"), "batched"));
    assert_true(md_str_eq_c(pb_text(response(), "1.2"), "1"));
    assert_true(pb_number(response(), "1.3") > 1600000000000);
    assert_int_equal(pb_number(response(), "1.4"), 2); /* rows */
    assert_int_equal(pb_number(response(), "1.5"), 1);
    assert_int_equal(pb_number(response(), "1.6.1.1"), 1); /* success */
    assert_true(pb_number(response(), "1.6.1.2") > 0);
    assert_int_equal(pb_number(response(), "1.6.2.1"), 0); /* fail */
    assert_int_equal(pb_number(response(), "1.6.5.1"), 1); /* compute_infer */
    assert_int_equal(pb_number(response(), "1.7.1"), 2);   /* a batch of two */
    assert_int_equal(pb_number(response(), "1.7.3.1"), 1);
    fake_call_free(&call);
}

static void test_grpc_statistics_of_all(void **state)
{
    (void)state;
    call_method(&call, METHOD("ModelStatistics"), MD_STR(""));
    assert_int_equal(pb_count(response(), 1), 2); /* those that are ready */
    assert_true(md_str_eq_c(pb_text(response(), "1[1].1"), "two"));
    fake_call_free(&call);
    call_method(&call, METHOD("ModelStatistics"), names("two", NULL));
    assert_int_equal(pb_count(response(), 1), 1);
    fake_call_free(&call);
}

static void test_grpc_index(void **state)
{
    (void)state;
    call_method(&call, METHOD("RepositoryIndex"), MD_STR(""));
    assert_int_equal(pb_count(response(), 1), 3);
    assert_true(md_str_eq_c(pb_text(response(), "1[1].1"), "broken"));
    assert_true(md_str_eq_c(pb_text(response(), "1[1].2"), "1"));
    assert_true(md_str_eq_c(pb_text(response(), "1[1].3"), "UNAVAILABLE"));
    assert_true(pb_text(response(), "1[1].4").len > 0);
    assert_true(md_str_eq_c(pb_text(response(), "1[2].3"), "READY"));
    fake_call_free(&call);
    call_method(&call, METHOD("RepositoryIndex"), MD_STR("\x10\x01")); /* ready */
    assert_int_equal(pb_count(response(), 1), 2);
    fake_call_free(&call);
}

/* Enough models for an index of several slices. */
static void start_large(struct fake_server *large)
{
    char name[16], path[128];

    fake_server_init(large);
    for (int i = 0; i < 600; i++) {
        (void)snprintf(name, sizeof name, "m%03d", i);
        fake_model(large, name, 0, "FP32", "2", 1, "");
        (void)snprintf(path, sizeof path, "%s/%s/config.pbtxt", large->folder, name);
        fake_write(path, "backend: \"absent\"");
    }
    fake_server_start(large, 1 << 26);
}

static void test_grpc_long_answers_yield(void **state)
{
    struct fake_server large;

    (void)state;
    start_large(&large);
    for (int is_cancelled = 0; is_cancelled < 2; is_cancelled++) {
        fake_call_open(&large, &call, METHOD("RepositoryIndex"), NULL);
        fake_call_close(&large, &call);
        assert_int_equal(call.ends, 0); /* others have their turn */
        if (is_cancelled) {
            fake_call_cancel(&call);
        }
        fake_call_wait(&large, &call, SIZE_MAX);
        assert_int_equal(call.ends, 1);
        assert_int_equal(call.message_count, !is_cancelled);
        if (!is_cancelled) {
            assert_true(response().len > MD_OIP_UNARY_SLICE_BYTES);
            assert_int_equal(pb_count(response(), 1), 600);
            assert_true(md_str_eq_c(pb_text(response(), "1[599].1"), "m599"));
        }
        fake_call_free(&call);
    }
    fake_server_stop(&large);
}

/* --- log settings -------------------- */

/* An entry of the settings: the value is what stands in a SettingValue. */
static void put_setting(struct md_bytes *out, const char *name, struct md_str value)
{
    size_t begin = md_pb_begin(out, 1);

    md_pb_put_bytes(out, 1, md_str_of(name));
    md_pb_put_bytes(out, 2, value);
    md_pb_end(out, begin);
}

#define BOOL(value)   MD_STR("\x08" value)
#define UINT(value)   MD_STR("\x10" value)
#define TEXT(literal) MD_STR("\x1a\x07" literal)

static void test_grpc_log_settings_tell(void **state)
{
    (void)state;
    call_method(&call, METHOD("LogSettings"), MD_STR(""));
    assert_int_equal(pb_count(response(), 1), 6);
    assert_true(md_str_eq_c(pb_text(response(), "1.1"), "log_file"));
    assert_true(md_str_eq_c(pb_text(response(), "1[1].1"), "log_info"));
    assert_int_equal(pb_number(response(), "1[1].2.1"), md_log_is_enabled(MD_LOG_INFO));
    assert_true(md_str_eq_c(pb_text(response(), "1[4].1"), "log_verbose_level"));
    assert_int_equal(pb_number(response(), "1[4].2.2"), md_log_verbosity());
    assert_true(
        md_str_eq_c(pb_text(response(), "1[5].2.3"), md_os_log_format_name(md_os_log_format())));
    fake_call_free(&call);
}

static void test_grpc_log_settings_change(void **state)
{
    struct md_bytes request = {0};
    const unsigned verbosity = md_log_verbosity();
    const bool info = md_log_is_enabled(MD_LOG_INFO);
    const enum md_log_format format = md_os_log_format();

    (void)state;
    put_setting(&request, "log_info", BOOL("\x00"));
    put_setting(&request, "log_verbose_level", UINT("\x07"));
    put_setting(&request, "log_format", TEXT("ISO8601"));
    put_setting(&request, "log_error", MD_STR("")); /* no value: as it is */
    call_method(&call, METHOD("LogSettings"), md_bytes_view(&request));
    assert_int_equal(call.error.code, MD_CODE_OK);
    assert_false(md_log_is_enabled(MD_LOG_INFO));
    assert_true(md_log_is_enabled(MD_LOG_ERROR));
    assert_int_equal(md_log_verbosity(), 7);
    assert_int_equal(pb_number(response(), "1[4].2.2"), 7);
    assert_true(md_str_eq_c(pb_text(response(), "1[5].2.3"), "ISO8601"));
    fake_call_free(&call);
    md_bytes_deinit(&request);
    md_log_set_enabled(MD_LOG_INFO, info);
    md_log_set_verbosity(verbosity);
    md_os_log_set_format(format);
}

static void test_grpc_log_settings_refused(void **state)
{
    static const struct {
        const char *name, *value;
        size_t len;
        enum md_code code;
        const char *text;
    } rows[] = {
        {"log_file", "\x1a\x01x", 3, MD_CODE_UNIMPLEMENTED,
         "log file location can not be updated through network protocol"},
        {"log_info", "\x10\x01", 2, MD_CODE_INVALID_ARGUMENT, "'log_info' must be a boolean"},
        {"log_verbose_level", "\x08\x01", 2, MD_CODE_INVALID_ARGUMENT,
         "'log_verbose_level' must be a natural number"},
        {"log_format", "\x1a\x01x", 3, MD_CODE_INVALID_ARGUMENT,
         "invalid argument for --log_format, got: x"},
        {"log_format", "\x10\x01", 2, MD_CODE_INVALID_ARGUMENT, "'log_format' must be a string"},
        {"log_infos", "\x08\x01", 2, MD_CODE_INVALID_ARGUMENT, "unknown log setting 'log_infos'"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_bytes request = {0};
        const bool warning = md_log_is_enabled(MD_LOG_WARNING);
        put_setting(&request, "log_warning", warning ? BOOL("\x00") : BOOL("\x01"));
        put_setting(&request, rows[i].name, md_str_make(rows[i].value, rows[i].len));
        call_method(&call, METHOD("LogSettings"), md_bytes_view(&request));
        if (call.error.code != rows[i].code || strcmp(call.error.text, rows[i].text) != 0) {
            fail_msg("%s: %d '%s'", rows[i].name, call.error.code, call.error.text);
        }
        assert_int_equal(md_log_is_enabled(MD_LOG_WARNING), warning); /* nothing half done */
        fake_call_free(&call);
        md_bytes_deinit(&request);
    }
}

static void test_grpc_log_settings_are_management(void **state)
{
    const struct md_access *before = server.oip.access;
    struct md_bytes request = {0};

    (void)state;
    restrict_to("--management=unix");
    put_setting(&request, "log_info", BOOL("\x00"));
    call_method(&call, METHOD("LogSettings"), md_bytes_view(&request));
    assert_int_equal(call.error.reason, MD_REASON_RESTRICTED);
    assert_int_equal(call.error.code, MD_CODE_UNAVAILABLE);
    assert_true(md_log_is_enabled(MD_LOG_INFO));
    fake_call_free(&call);
    call_method(&call, METHOD("LogSettings"), MD_STR("")); /* telling is for all */
    assert_int_equal(call.error.code, MD_CODE_OK);
    fake_call_free(&call);
    md_bytes_deinit(&request);
    server.oip.access = before;
}

/* --- trace settings -------------------- */

/* A TraceSettingRequest of one setting (name NULL: none) with one value (NULL: none). */
static struct md_str trace_request(struct md_bytes *out, const char *model, const char *name,
                                   const char *value)
{
    struct md_bytes values = {0};

    md_bytes_clear(out);
    if (value) {
        md_pb_put_bytes(&values, 1, md_str_of(value));
    }
    if (name) {
        put_setting(out, name, md_bytes_view(&values));
    }
    md_pb_put_bytes(out, 2, md_str_of(model));
    md_bytes_deinit(&values);
    return md_bytes_view(out);
}

/* The one value of a setting in the answer. */
static struct md_str trace_value(const char *name)
{
    struct md_pb_field entry;

    for (size_t i = 0; pb_field(response(), 1, i, &entry); i++) {
        if (md_str_eq_c(pb_text(entry.bytes, "1"), name)) {
            assert_int_equal(pb_count(pb_text(entry.bytes, "2"), 1), 1);
            return pb_text(entry.bytes, "2.1");
        }
    }
    return MD_STR("");
}

static void test_grpc_trace_settings_change_and_tell(void **state)
{
    static const struct {
        const char *model, *name, *value;
        const char *rate; /* of the answer */
    } rows[] = {
        {"", NULL, NULL, "1000"}, {"two", "trace_rate", "3", "3"},     {"two", NULL, NULL, "3"},
        {"", NULL, NULL, "1000"}, {"two", "trace_rate", NULL, "1000"}, /* back to the server's */
    };
    struct md_bytes request = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        call_method(&call, METHOD("TraceSetting"),
                    trace_request(&request, rows[i].model, rows[i].name, rows[i].value));
        if (!md_str_eq_c(trace_value("trace_rate"), rows[i].rate)) {
            fail_msg("case %zu: %.*s", i, MD_STR_ARG(trace_value("trace_rate")));
        }
        assert_true(md_str_eq_c(trace_value("trace_level"), "OFF"));
        fake_call_free(&call);
    }
    md_bytes_deinit(&request);
}

static void test_grpc_trace_settings_refused(void **state)
{
    static const struct {
        const char *model, *name, *value;
        enum md_code code;
        const char *text;
    } rows[] = {
        {"absent", NULL, NULL, MD_CODE_INVALID_ARGUMENT, "Request for unknown model : absent"},
        {"", "trace_file", "f", MD_CODE_UNIMPLEMENTED,
         "trace file location can not be updated through network protocol"},
        {"", "trace_rates", "1", MD_CODE_INVALID_ARGUMENT,
         "'trace_rates' is no trace setting that can be changed"},
    };
    struct md_bytes request = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        call_method(&call, METHOD("TraceSetting"),
                    trace_request(&request, rows[i].model, rows[i].name, rows[i].value));
        if (call.error.code != rows[i].code || strcmp(call.error.text, rows[i].text) != 0) {
            fail_msg("%zu: %d '%s'", i, call.error.code, call.error.text);
        }
        fake_call_free(&call);
    }
    md_bytes_clear(&request);
    put_setting(&request, "trace_level", MD_STR("\x0a\x00\x0a\x00\x0a\x00\x0a\x00\x0a\x00"));
    call_method(&call, METHOD("TraceSetting"), md_bytes_view(&request));
    assert_string_equal(call.error.text, "a setting has too many values");
    fake_call_free(&call);
    md_bytes_deinit(&request);
}

static void test_grpc_trace_settings_are_management(void **state)
{
    const struct md_access *before = server.oip.access;
    struct md_bytes request = {0};

    (void)state;
    restrict_to("--management=unix");
    call_method(&call, METHOD("TraceSetting"), trace_request(&request, "", "trace_rate", "3"));
    assert_int_equal(call.error.reason, MD_REASON_RESTRICTED);
    fake_call_free(&call);
    call_method(&call, METHOD("TraceSetting"), trace_request(&request, "", NULL, NULL));
    assert_true(md_str_eq_c(trace_value("trace_rate"), "1000"));
    fake_call_free(&call);
    md_bytes_deinit(&request);
    server.oip.access = before;
}

/* --- memory and cancelling -------------------- */

static void test_grpc_unary_without_memory(void **state)
{
    long n = 0;

    (void)state;
    for (; n < 100; n++) {
        fake_call_open(&server, &call, METHOD("ModelStatistics"), NULL);
        fake_call_send(&server, &call, names("two", NULL));
        md_fault_arm(MD_FAULT_ALLOC, n);
        call.fake.x.handler->on_request(&call.fake.x);
        bool failed = md_fault_disarm(MD_FAULT_ALLOC);
        bool answered = call.error.code == MD_CODE_OK;
        assert_int_equal(call.ends, 1);
        if (!answered) {
            assert_int_equal(call.error.code, MD_CODE_RESOURCE_EXHAUSTED);
            assert_int_equal(call.message_count, 0);
        }
        fake_call_free(&call);
        if (!failed) {
            assert_true(answered);
            break;
        }
    }
    assert_in_range(n, 2, 99);
}

static void test_grpc_unary_counts_its_response(void **state)
{
    (void)state;
    fake_call_open(&server, &call, METHOD("ModelStatistics"), NULL);
    fake_call_send(&server, &call, MD_STR(""));
    const size_t limit = server.budget.limit_bytes;
    server.budget.limit_bytes = 0;
    fake_call_close(&server, &call);
    server.budget.limit_bytes = limit;
    assert_int_equal(call.error.reason, MD_REASON_INFLIGHT_BYTES);
    fake_call_free(&call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_statuses),
        cmocka_unit_test(test_grpc_requests_that_are_no_messages),
        cmocka_unit_test(test_grpc_codes_of_reasons),
        cmocka_unit_test(test_grpc_restricted_calls_end_at_their_head),
        cmocka_unit_test(test_grpc_refusals_without_memory),
        cmocka_unit_test(test_grpc_server_state),
        cmocka_unit_test(test_grpc_model_ready),
        cmocka_unit_test(test_grpc_server_metadata),
        cmocka_unit_test(test_grpc_model_metadata),
        cmocka_unit_test(test_grpc_model_config),
        cmocka_unit_test(test_grpc_statistics_of_one),
        cmocka_unit_test(test_grpc_statistics_of_all),
        cmocka_unit_test(test_grpc_index),
        cmocka_unit_test(test_grpc_long_answers_yield),
        cmocka_unit_test(test_grpc_log_settings_tell),
        cmocka_unit_test(test_grpc_log_settings_change),
        cmocka_unit_test(test_grpc_log_settings_refused),
        cmocka_unit_test(test_grpc_log_settings_are_management),
        cmocka_unit_test(test_grpc_trace_settings_change_and_tell),
        cmocka_unit_test(test_grpc_trace_settings_refused),
        cmocka_unit_test(test_grpc_trace_settings_are_management),
        cmocka_unit_test(test_grpc_unary_without_memory),
        cmocka_unit_test(test_grpc_unary_counts_its_response),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
