/*
 * http/router: templates, captures, methods.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "http/router.h"

static const struct md_http_handler model, version, stats, file;
static const int model_data;

static const struct md_route routes[] = {
    {"/v2/models/stats", MD_ROUTE_GET, &stats, NULL},
    {"/v2/models/{0}", MD_ROUTE_GET, &model, &model_data},
    {"/v2/models/{0}", MD_ROUTE_POST, &version, NULL},
    {"/v2/models/{0}/versions/{1}/infer", MD_ROUTE_POST, &version, NULL},
    {"/v2/models/{0}/infer", MD_ROUTE_POST, &model, NULL},
    {"/{3}/{2}.txt", MD_ROUTE_GET, &file, NULL},
};

static enum md_route_match match(struct md_exchange *x, enum md_http_method method,
                                 const char *path)
{
    x->head.method = method;
    x->head.path = md_str_of(path);
    x->handler = NULL;
    for (size_t i = 0; i < MD_HTTP_CAPTURES_MAX; i++) {
        x->captures[i] = MD_STR("of the request before");
    }
    return md_router_match(routes, MD_COUNT_OF(routes), x);
}

static void test_router_finds(void **state)
{
    static const struct {
        enum md_http_method method;
        const char *path;
        enum md_route_match outcome;
        const struct md_http_handler *handler;
        const char *captures[2];
    } cases[] = {
        {MD_HTTP_GET, "/v2/models/a", MD_ROUTE_FOUND, &model, {"a", ""}},
        {MD_HTTP_HEAD, "/v2/models/a", MD_ROUTE_FOUND, &model, {"a", ""}},
        {MD_HTTP_POST, "/v2/models/a", MD_ROUTE_FOUND, &version, {"a", ""}},
        {MD_HTTP_GET, "/v2/models/stats", MD_ROUTE_FOUND, &stats, {"", ""}},
        {MD_HTTP_POST, "/v2/models/stats", MD_ROUTE_FOUND, &version, {"stats", ""}},
        {MD_HTTP_POST, "/v2/models/a/versions/3/infer", MD_ROUTE_FOUND, &version, {"a", "3"}},
        {MD_HTTP_POST,
         "/v2/models/a%2Fb%20%c3%A9/infer",
         MD_ROUTE_FOUND,
         &model,
         {"a/b \xc3\xa9", ""}},
        {MD_HTTP_POST, "/v2/models/%41/infer", MD_ROUTE_FOUND, &model, {"A", ""}},
        {MD_HTTP_GET, "/v2/models/a/infer", MD_ROUTE_WRONG_METHOD, NULL, {"", ""}},
        {MD_HTTP_DELETE, "/v2/models/a", MD_ROUTE_WRONG_METHOD, NULL, {"", ""}},
        {MD_HTTP_OTHER, "/v2/models/a", MD_ROUTE_WRONG_METHOD, NULL, {"", ""}},
        {MD_HTTP_GET, "/v2/models/", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_GET, "/v2/models/a/", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_GET, "/v2/models", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_GET, "/v2/models//infer", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_GET, "/v2/models/a/infers", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_GET, "/", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_OPTIONS, "*", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_POST, "/v2/models/%/infer", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_POST, "/v2/models/%4/infer", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_POST, "/v2/models/%4g/infer", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
        {MD_HTTP_POST, "/v2/models/a%00b/infer", MD_ROUTE_NOT_FOUND, NULL, {"", ""}},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_exchange x = {0};
        enum md_route_match outcome = match(&x, cases[i].method, cases[i].path);
        if (outcome != cases[i].outcome || x.handler != cases[i].handler) {
            fail_msg("case %zu '%s'", i, cases[i].path);
        }
        for (size_t k = 0; k < 2; k++) {
            assert_true(md_str_eq_c(x.captures[k], cases[i].captures[k]));
            assert_true(outcome != MD_ROUTE_FOUND || !x.captures[k].len ||
                        x.captures[k].ptr[x.captures[k].len] == '\0');
        }
        md_arena_deinit(&x.arena);
    }
}

static void test_router_names_the_methods_of_a_path(void **state)
{
    static const struct {
        enum md_http_method method;
        const char *path, *allow;
    } cases[] = {
        {MD_HTTP_DELETE, "/v2/models/a", "GET, HEAD, POST"},
        {MD_HTTP_GET, "/v2/models/a/infer", "POST"},
        {MD_HTTP_POST, "/nowhere", NULL},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_exchange x = {0};
        assert_int_not_equal(match(&x, cases[i].method, cases[i].path), MD_ROUTE_FOUND);
        assert_int_equal(x.allow != NULL, cases[i].allow != NULL);
        assert_true(!x.allow || strcmp(x.allow, cases[i].allow) == 0);
        md_arena_deinit(&x.arena);
    }
}

static void test_router_gives_the_routes_data(void **state)
{
    struct md_exchange x = {0};

    (void)state;
    assert_int_equal(match(&x, MD_HTTP_GET, "/v2/models/a"), MD_ROUTE_FOUND);
    assert_ptr_equal(x.route_data, &model_data);
    md_arena_deinit(&x.arena);
}

static void test_router_out_of_memory_is_noted_in_the_arena(void **state)
{
    struct md_exchange x = {0};

    (void)state;
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_int_equal(match(&x, MD_HTTP_POST, "/v2/models/a/infer"), MD_ROUTE_NOT_FOUND);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_true(md_arena_failed(&x.arena));
    md_arena_deinit(&x.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_router_finds),
        cmocka_unit_test(test_router_names_the_methods_of_a_path),
        cmocka_unit_test(test_router_gives_the_routes_data),
        cmocka_unit_test(test_router_out_of_memory_is_noted_in_the_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
