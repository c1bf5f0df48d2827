/*
 * api/access: who may call what, by headers, by the listener and by a key; and that requests are
 * refused when their head is there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "component/api/fake_server.h"

#include <unistd.h>

struct rig {
    struct md_arena arena;
    struct md_options options;
    const struct md_access *access;
};

/* The options as a command line has them. */
static void rig_open(struct rig *rig, const char *flag1, const char *flag2)
{
    char *argv[] = {(char *)(uintptr_t) "modeld", (char *)(uintptr_t)flag1,
                    (char *)(uintptr_t)flag2, NULL};
    struct md_diagnostics diagnostics;
    struct md_error err = {0};

    md_arena_init(&rig->arena, 4096);
    md_diagnostics_init(&diagnostics, &rig->arena);
    assert_true(md_options_parse(flag2   ? 3
                                 : flag1 ? 2
                                         : 1,
                                 argv, NULL, false, NULL, &rig->arena, &rig->options,
                                 &diagnostics));
    fake_demand(md_access_create(&rig->options, &rig->arena, &rig->access, &err), &err);
}

static void rig_close(struct rig *rig)
{
    md_arena_deinit(&rig->arena);
}

/* --- restricted groups -------------------- */

static void test_access_groups_take_their_header_alone(void **state)
{
    static const struct {
        enum md_api_group group;
        enum md_access_protocol protocol;
        const char *name, *value;
        const char *says; /* NULL: allowed */
    } rows[] = {
        {MD_API_HEALTH, MD_ACCESS_HTTP, NULL, NULL, NULL},
        {MD_API_UNGROUPED, MD_ACCESS_HTTP, NULL, NULL, NULL},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, NULL, NULL,
         "This API is restricted, expecting header 'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "s3cret", NULL},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "Infer-Key", "s3cret", NULL},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "S3cret", "'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "s3cre", "'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "s3crets", "'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "s3crets3cret", "'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "infer-key", "", "'infer-key'"},
        {MD_API_INFERENCE, MD_ACCESS_HTTP, "other-key", "s3cret", "'infer-key'"},
        {MD_API_TRACE, MD_ACCESS_HTTP, "infer-key", "s3cret", NULL},
        {MD_API_INFERENCE, MD_ACCESS_GRPC, NULL, NULL, NULL},
        {MD_API_STATISTICS, MD_ACCESS_HTTP, NULL, NULL, NULL},
        {MD_API_STATISTICS, MD_ACCESS_GRPC, NULL, NULL,
         "This protocol is restricted, expecting header 'triton-grpc-protocol-stat-key'"},
        {MD_API_STATISTICS, MD_ACCESS_GRPC, "stat-key", "v", "'triton-grpc-protocol-stat-key'"},
        {MD_API_STATISTICS, MD_ACCESS_GRPC, "triton-grpc-protocol-stat-key", "v", NULL},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig, "--http-restricted-api=inference,trace:infer-key=s3cret",
             "--grpc-restricted-protocol=statistics:stat-key=v");
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        const struct md_http_header header = {md_str_of(rows[i].name), md_str_of(rows[i].value)};
        const struct md_exchange x = {
            .head = {.headers = &header, .header_count = rows[i].name != NULL}};
        struct md_error err = {0};
        print_message("[  row   ] %zu\n", i);
        assert_int_equal(md_access_allows(rig.access, rows[i].group, rows[i].protocol, &x, &err),
                         !rows[i].says);
        if (rows[i].says) {
            assert_int_equal(err.reason, MD_REASON_RESTRICTED);
            assert_int_equal(err.code, rows[i].protocol == MD_ACCESS_GRPC
                                           ? MD_CODE_UNAVAILABLE
                                           : MD_CODE_PERMISSION_DENIED);
            assert_non_null(strstr(err.text, rows[i].says));
        }
    }
    rig_close(&rig);
}

/* --- management -------------------- */

static bool may_manage(const struct rig *rig, bool over_unix_socket, const char *name,
                       const char *value, struct md_error *err)
{
    const struct md_http_header header = {md_str_of(name), md_str_of(value)};
    const struct md_exchange x = {.peer = over_unix_socket ? "unix:" : "127.0.0.1:4711",
                                  .over_unix_socket = over_unix_socket,
                                  .head = {.headers = &header, .header_count = name != NULL}};
    bool allowed = md_access_may_manage(rig->access, &x, err);

    assert_true(allowed || err->reason == MD_REASON_RESTRICTED);
    return allowed;
}

static void test_access_management_is_over_the_unix_socket(void **state)
{
    static const struct {
        const char *name, *value;
        bool allowed;
    } rows[] = {
        {NULL, NULL, true},
        {"User-Agent", "curl", true},
        {"Sec-Fetch-Site", "none", true},
        {"Sec-Fetch-Site", "cross-site", false},
        {"Sec-Fetch-Site", "same-origin", false},
        {"Origin", "http://example.org", false},
        {"Origin", "null", false},
    };
    struct md_error err = {0};
    struct rig rig;

    (void)state;
    rig_open(&rig, NULL, NULL);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s: %s\n", rows[i].name, rows[i].value);
        assert_int_equal(may_manage(&rig, true, rows[i].name, rows[i].value, &err),
                         rows[i].allowed);
        assert_false(may_manage(&rig, false, rows[i].name, rows[i].value, &err));
        assert_non_null(strstr(err.text, "--http-unix-socket"));
        assert_non_null(strstr(err.text, "--management=key"));
    }
    rig_close(&rig);
}

static void test_access_management_open_takes_everybody(void **state)
{
    struct md_error err = {0};
    struct rig rig;

    (void)state;
    rig_open(&rig, "--management=open", NULL);
    assert_true(may_manage(&rig, false, "Origin", "http://example.org", &err));
    rig_close(&rig);
}

static void write_key(char *path, size_t size, const char *text)
{
    (void)snprintf(path, size, "/tmp/modeld-test-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    fake_write(path, text);
}

static void test_access_management_takes_the_key_from_anywhere(void **state)
{
    static const struct {
        const char *name, *value;
        bool allowed;
    } rows[] = {
        {NULL, NULL, false},
        {"Authorization", "Bearer k3y-of-ours", true},
        {"authorization", "bearer   k3y-of-ours", true},
        {"Authorization", "Bearer k3y-of-our", false},
        {"Authorization", "Bearer k3y-of-oursk3y-of-ours", false},
        {"Authorization", "Bearer ", false},
        {"Authorization", "Bearer", false},
        {"Authorization", "Basic k3y-of-ours", false},
        {"Authorization", "k3y-of-ours", false},
        {"X-Key", "k3y-of-ours", false},
    };
    char path[64], flag[128];
    struct md_error err = {0};
    struct rig rig;

    (void)state;
    write_key(path, sizeof path, "  k3y-of-ours \r\n");
    (void)snprintf(flag, sizeof flag, "--management-key-file=%s", path);
    rig_open(&rig, "--management=key", flag);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s: %s\n", rows[i].name, rows[i].value);
        assert_int_equal(may_manage(&rig, false, rows[i].name, rows[i].value, &err),
                         rows[i].allowed);
        assert_int_equal(may_manage(&rig, true, rows[i].name, rows[i].value, &err),
                         rows[i].allowed);
    }
    assert_non_null(strstr(err.text, "--management-key-file"));
    rig_close(&rig);
    (void)unlink(path);
}

static void test_access_refuses_files_without_a_key(void **state)
{
    static const char *const texts[] = {"", "\n", "   \n", "one\ntwo\n"};
    struct md_options options = {.management = "key"};
    const struct md_access *access;
    struct md_arena arena;
    struct md_error err;
    char path[64];

    (void)state;
    md_arena_init(&arena, 4096);
    for (size_t i = 0; i < MD_COUNT_OF(texts); i++) {
        write_key(path, sizeof path, texts[i]);
        options.management_key_file = path;
        assert_false(md_access_create(&options, &arena, &access, &err));
        assert_non_null(strstr(err.text, path));
        (void)unlink(path);
    }
    assert_false(md_access_create(&options, &arena, &access, &err));
    assert_non_null(strstr(err.text, "--management-key-file: cannot open"));
    md_arena_deinit(&arena);
}

/* --- routes -------------------- */

static void test_access_routes_refuse_at_the_head(void **state)
{
    static const struct {
        enum md_http_method method;
        const char *path;
        bool over_unix_socket;
        bool refused;
    } rows[] = {
        {MD_HTTP_GET, "/v2/health/live", false, false},
        {MD_HTTP_GET, "/v2", false, true},
        {MD_HTTP_GET, "/v2/models/m", false, true},
        {MD_HTTP_GET, "/v2/models/m/versions/1", false, true},
        {MD_HTTP_GET, "/v2/models/m/ready", false, false},
        {MD_HTTP_POST, "/v2/models/m/infer", false, true},
        {MD_HTTP_POST, "/v2/models/m/versions/1/generate_stream", false, true},
        {MD_HTTP_GET, "/v2/models/m/stats", false, false},
        {MD_HTTP_GET, "/v2/models/m/batches", false, false},
        {MD_HTTP_GET, "/v2/logging", false, false},
        {MD_HTTP_POST, "/v2/logging", false, true},
        {MD_HTTP_POST, "/v2/logging", true, false},
        {MD_HTTP_GET, "/v2/drain", false, true},
        {MD_HTTP_GET, "/v2/drain", true, false},
        {MD_HTTP_POST, "/v2/repository/index", false, false},
        {MD_HTTP_POST, "/v2/repository/models/m/load", false, true},
        {MD_HTTP_POST, "/v2/repository/models/m/unload", false, true},
        {MD_HTTP_POST, "/v2/repository/models/m/load", true, false},
    };
    struct rig rig;

    (void)state;
    rig_open(&rig, "--http-restricted-api=inference,metadata:k=v", NULL);
    const struct md_oip oip = {.options = &rig.options, .access = rig.access};
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct fake_exchange fake = {.x = {.over_unix_socket = rows[i].over_unix_socket,
                                           .head = {.method = rows[i].method,
                                                    .method_name = MD_STR("?"),
                                                    .path = md_str_of(rows[i].path)}}};
        print_message("[  row   ] %s\n", rows[i].path);
        md_arena_init(&fake.x.arena, 4096);
        md_oip_route((void *)(uintptr_t)&oip, &fake.x);
        assert_non_null(fake.x.handler);
        if (rows[i].refused) {
            assert_non_null(fake.x.handler->on_head);
            fake.x.handler->on_head(&fake.x);
        }
        assert_int_equal(fake.status, rows[i].refused ? 403 : 0);
        fake_free(&fake);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_access_groups_take_their_header_alone),
        cmocka_unit_test(test_access_management_is_over_the_unix_socket),
        cmocka_unit_test(test_access_management_open_takes_everybody),
        cmocka_unit_test(test_access_management_takes_the_key_from_anywhere),
        cmocka_unit_test(test_access_refuses_files_without_a_key),
        cmocka_unit_test(test_access_routes_refuse_at_the_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
