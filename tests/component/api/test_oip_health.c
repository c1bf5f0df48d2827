/*
 * api/oip/grpc_health.c: the states of server and models, asked for once, listed and watched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "component/api/fake_call.h"
#include "component/api/pb_path.h"

#define HEALTH(name) "/grpc.health.v1.Health/" name

enum { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

static struct fake_server server;
static struct fake_call call; /* large */
static bool server_ready = true, server_exiting;
static uint64_t now_ns = 1000;

static bool is_ready(void *arg)
{
    (void)arg;
    return server_ready;
}

static bool is_exiting(void *arg)
{
    (void)arg;
    return server_exiting;
}

static uint64_t virtual_now(void)
{
    return now_ns;
}

static int setup(void **state)
{
    (void)state;
    fake_server_init(&server);
    md_clock_monotonic_ns = virtual_now;
    fake_model(&server, "good", 0, "FP32", "4", 1, "");
    fake_model(&server, "bad", 0, "FP32", "4", 1, "");
    char path[128];
    (void)snprintf(path, sizeof path, "%s/bad/config.pbtxt", server.folder);
    fake_write(path, "backend: \"absent\"");
    fake_server_start(&server, 1 << 26);
    server.oip.is_ready = is_ready;
    server.oip.is_exiting = is_exiting;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    md_os_clock_install();
    fake_server_stop(&server);
    return 0;
}

static int serve_again(void **state)
{
    (void)state;
    server_ready = true;
    server_exiting = false;
    return 0;
}

/* HealthCheckRequest */
static struct md_str service(const char *name)
{
    static char memory[128];

    memory[0] = 0x0a;
    memory[1] = (char)strlen(name);
    memcpy(memory + 2, name, strlen(name));
    return md_str_make(memory, strlen(name) + 2);
}

static uint64_t state_of_message(size_t index)
{
    assert_true(index < call.message_count);
    return pb_number(md_bytes_view(&call.messages[index]), "1");
}

/* --- Check, List -------------------- */

static void test_health_check(void **state)
{
    static const struct {
        const char *name;
        bool ready, exiting;
        uint64_t state; /* 0: NOT_FOUND */
    } rows[] = {
        {"", true, false, SERVING},
        {"", false, false, NOT_SERVING},
        {"", true, true, NOT_SERVING},
        {"inference.GRPCInferenceService", true, false, SERVING},
        {"inference.GRPCInferenceService", false, false, NOT_SERVING},
        {"grpc.health.v1.Health", true, false, SERVING},
        {"good", true, false, SERVING},
        {"good", false, false, SERVING},
        {"good", true, true, NOT_SERVING},
        {"good/1", true, false, SERVING},
        {"bad", true, false, NOT_SERVING},
        {"bad/1", true, false, NOT_SERVING},
        {"good/2", true, false, 0},
        {"good/x", true, false, 0},
        {"good/", true, false, 0},
        {"good/1/1", true, false, 0},
        {"/1", true, false, 0},
        {"absent", true, false, 0},
        {"inference.ModelConfig", true, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        server_ready = rows[i].ready;
        server_exiting = rows[i].exiting;
        fake_call_open(&server, &call, HEALTH("Check"), NULL);
        fake_call_send(&server, &call, service(rows[i].name));
        fake_call_close(&server, &call);
        assert_int_equal(call.ends, 1);
        if (call.error.code != (rows[i].state ? MD_CODE_OK : MD_CODE_NOT_FOUND) ||
            (rows[i].state && state_of_message(0) != rows[i].state)) {
            fail_msg("case %zu, '%s': %s", i, rows[i].name, call.error.text);
        }
        fake_call_free(&call);
    }
}

static uint64_t checked(const char *name)
{
    fake_call_open(&server, &call, HEALTH("Check"), NULL);
    fake_call_send(&server, &call, service(name));
    fake_call_close(&server, &call);
    uint64_t told = state_of_message(0);
    fake_call_free(&call);
    return told;
}

static void ask(enum md_http_method method, const char *path, unsigned status, const char *text)
{
    struct fake_exchange fake;

    fake_send(&server, &fake, method, path, MD_STR(""), -1);
    md_bytes_append_char(&fake.body, '\0');
    assert_int_equal(fake.status, status);
    if (!strstr(fake.body.data, text)) {
        fail_msg("%s: %s", path, fake.body.data);
    }
    fake_free(&fake);
}

/* A model whose instances do not come back is not ready, whoever is asked. */
static void test_health_of_what_is_out_of_service(void **state)
{
    struct md_version *version = &md_models_find(server.models, MD_STR("good"))->versions[0];
    struct md_target *target = &version->target;

    (void)state;
    for (unsigned in_service = 2; in_service-- > 0;) {
        atomic_store(&target->in_service, in_service);
        atomic_store(&target->out_of_service, 2 - in_service);
        assert_int_equal(md_version_is_out_of_service(version), !in_service);
        assert_int_equal(md_models_out_of_service_count(server.models), !in_service);
        assert_true(md_version_is_ready(version));
        assert_int_equal(checked("good"), in_service ? SERVING : NOT_SERVING);
        assert_int_equal(checked("good/1"), in_service ? SERVING : NOT_SERVING);
        ask(MD_HTTP_GET, "/v2/models/good/ready", in_service ? 200 : 503,
            in_service ? "" : "not ready");
        ask(MD_HTTP_POST, "/v2/repository/index", 200,
            in_service ? "\"good\",\"version\":\"1\",\"state\":\"READY\"}"
                       : "\"good\",\"version\":\"1\",\"state\":\"UNAVAILABLE\",\"reason\":\"every "
                         "instance is out of service");
    }
    atomic_store(&target->in_service, 1);
    atomic_store(&target->out_of_service, 0);
    assert_int_equal(checked("good"), SERVING);
}

static void test_health_list(void **state)
{
    static const struct {
        const char *name;
        uint64_t state;
    } rows[] = {
        {"", SERVING},
        {"inference.GRPCInferenceService", SERVING},
        {"grpc.health.v1.Health", SERVING},
        {"grpc.reflection.v1.ServerReflection", SERVING},
        {"grpc.reflection.v1alpha.ServerReflection", SERVING},
        {"bad", NOT_SERVING},
        {"good", SERVING},
    };
    char path[32];

    (void)state;
    fake_call_open(&server, &call, HEALTH("List"), NULL);
    fake_call_close(&server, &call);
    assert_int_equal(call.message_count, 1);
    struct md_str list = md_bytes_view(&call.messages[0]);
    assert_int_equal(pb_count(list, 1), MD_COUNT_OF(rows));
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        (void)snprintf(path, sizeof path, "1[%zu].1", i);
        assert_true(md_str_eq_c(pb_text(list, path), rows[i].name));
        (void)snprintf(path, sizeof path, "1[%zu].2.1", i);
        assert_int_equal(pb_number(list, path), rows[i].state);
    }
    fake_call_free(&call);
}

/* --- Watch -------------------- */

static void watch(const char *name)
{
    fake_call_open(&server, &call, HEALTH("Watch"), NULL);
    fake_call_send(&server, &call, service(name));
    fake_call_close(&server, &call);
}

static void pass_seconds(unsigned seconds)
{
    struct md_error err;

    for (unsigned i = 0; i < seconds; i++) {
        now_ns += MD_NS_PER_S;
        assert_true(md_loop_run_once(server.loop, 0, &err));
        assert_true(md_loop_run_once(server.loop, 0, &err));
    }
}

static void test_health_watch_tells_changes(void **state)
{
    (void)state;
    watch("");
    assert_int_equal(call.message_count, 1); /* at once */
    assert_int_equal(state_of_message(0), SERVING);
    pass_seconds(3);
    assert_int_equal(call.message_count, 1);
    server_ready = false;
    pass_seconds(2);
    assert_int_equal(call.message_count, 2);
    assert_int_equal(state_of_message(1), NOT_SERVING);
    server_ready = true;
    pass_seconds(2);
    assert_int_equal(state_of_message(2), SERVING);
    assert_int_equal(call.ends, 0);
    fake_call_cancel(&call);
    assert_int_equal(call.ends, 1);
    server_ready = false;
    pass_seconds(2); /* nothing is left behind */
    assert_int_equal(call.message_count, 3);
    fake_call_free(&call);
}

static void test_health_watch_of_names(void **state)
{
    static const struct {
        const char *name;
        uint64_t state;
    } rows[] = {{"good", SERVING}, {"bad", NOT_SERVING}, {"absent", SERVICE_UNKNOWN}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        watch(rows[i].name);
        assert_int_equal(state_of_message(0), rows[i].state);
        assert_int_equal(call.ends, 0); /* it may come to be known */
        fake_call_cancel(&call);
        assert_int_equal(call.ends, 1);
        fake_call_free(&call);
    }
}

static void test_health_watch_ends_with_the_server(void **state)
{
    (void)state;
    watch("good");
    server_exiting = true;
    pass_seconds(1);
    assert_int_equal(call.message_count, 2);
    assert_int_equal(state_of_message(1), NOT_SERVING);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_UNAVAILABLE);
    fake_call_free(&call);
}

static void test_health_watch_tells_the_latest_to_slow_readers(void **state)
{
    (void)state;
    fake_call_open(&server, &call, HEALTH("Watch"), NULL);
    fake_call_send(&server, &call, service(""));
    call.is_slow = true;
    fake_call_close(&server, &call);
    server_ready = false;
    pass_seconds(2);
    server_ready = true;
    pass_seconds(2);
    server_ready = false;
    pass_seconds(2);
    assert_int_equal(call.message_count, 1);
    fake_call_read(&call);
    pass_seconds(1);
    assert_int_equal(call.message_count, 2);
    assert_int_equal(state_of_message(1), NOT_SERVING);
    fake_call_cancel(&call);
    fake_call_free(&call);
}

static void test_health_watch_refuses(void **state)
{
    (void)state;
    fake_call_open(&server, &call, HEALTH("Watch"), NULL);
    fake_call_send(&server, &call, MD_STR("\x0a\x7f"));
    fake_call_close(&server, &call);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_INTERNAL);
    fake_call_cancel(&call);
    fake_call_free(&call);
    fake_call_open(&server, &call, HEALTH("Watch"), NULL);
    fake_call_send(&server, &call, service("good"));
    md_fault_arm(MD_FAULT_ALLOC, 0);
    fake_call_close(&server, &call);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.error.code, MD_CODE_RESOURCE_EXHAUSTED);
    fake_call_free(&call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_health_check, serve_again),
        cmocka_unit_test_setup(test_health_of_what_is_out_of_service, serve_again),
        cmocka_unit_test_setup(test_health_list, serve_again),
        cmocka_unit_test_setup(test_health_watch_tells_changes, serve_again),
        cmocka_unit_test_setup(test_health_watch_of_names, serve_again),
        cmocka_unit_test_setup(test_health_watch_ends_with_the_server, serve_again),
        cmocka_unit_test_setup(test_health_watch_tells_the_latest_to_slow_readers, serve_again),
        cmocka_unit_test_setup(test_health_watch_refuses, serve_again),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
