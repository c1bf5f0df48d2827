/*
 * TLS options: what each needs of the others, and what metrics take from HTTP.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/option_tls.h"

static const struct row {
    struct md_tls_settings http, metrics;
    bool ok, warns;
    const char *says;
    struct md_tls_settings metrics_after; /* where ok */
} rows[] = {
    {.ok = true},
    {.http = {.use = true, .server_cert = "c", .server_key = "k"}, .ok = true},
    {.http = {.mutual = true, .server_cert = "c", .server_key = "k", .root_cert = "r"}, .ok = true},
    {.http = {.use = true}, .says = "--http-use-ssl needs --http-server-cert: name a PEM file"},
    {.http = {.use = true, .server_cert = "c", .server_key = ""},
     .says = "--http-use-ssl needs --http-server-key: name a PEM file"},
    {.http = {.mutual = true, .server_cert = "c", .server_key = "k"},
     .says = "--http-use-ssl-mutual needs --http-root-cert: name a PEM file"},
    {.http = {.server_cert = "c"},
     .ok = true,
     .warns = true,
     .says = "certificate files of http have no effect without --http-use-ssl"},
    {.http = {.use = true, .server_cert = "c", .server_key = "k", .root_cert = "r"},
     .ok = true,
     .warns = true,
     .says = "--http-root-cert has no effect with --http-use-ssl: --http-use-ssl-mutual demands "
             "certificates of clients"},
    /* metrics: HTTP's files, its own, or both */
    {.http = {.use = true, .server_cert = "c", .server_key = "k"},
     .metrics = {.use = true},
     .ok = true,
     .metrics_after = {.use = true, .server_cert = "c", .server_key = "k"}},
    {.http = {.mutual = true, .server_cert = "c", .server_key = "k", .root_cert = "r"},
     .metrics = {.use = true},
     .ok = true,
     .metrics_after = {.use = true, .server_cert = "c", .server_key = "k"}},
    {.http = {.mutual = true, .server_cert = "c", .server_key = "k", .root_cert = "r"},
     .metrics = {.mutual = true, .root_cert = "own"},
     .ok = true,
     .metrics_after =
         {.use = true, .mutual = true, .server_cert = "c", .server_key = "k", .root_cert = "own"}},
    {.http = {.use = true, .server_cert = "c", .server_key = "k"},
     .metrics = {.use = true, .server_cert = "own"},
     .says = "--metrics-use-ssl needs --metrics-server-key: name a PEM file"},
    {.metrics = {.use = true},
     .says = "--metrics-use-ssl needs --metrics-server-cert: name a PEM file"},
};

static void assert_same(const char *a, const char *b)
{
    assert_true(a == b || (a && b && strcmp(a, b) == 0));
}

static void test_option_tls_needs(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        const struct row *row = &rows[i];
        struct md_arena arena = {0};
        struct md_diagnostics diagnostics;
        struct md_options options = {.http_tls = row->http, .metrics_tls = row->metrics};
        const struct md_tls_settings *after = &options.metrics_tls, *wanted = &row->metrics_after;
        print_message("[  row   ] %zu %s\n", i, row->says ? row->says : "");
        md_diagnostics_init(&diagnostics, &arena);
        md_options_settle_tls(&options, &diagnostics);
        assert_int_equal(diagnostics.error_count == 0, row->ok);
        assert_int_equal(diagnostics.warning_count, row->warns);
        if (row->says) {
            assert_string_equal(diagnostics.items[0].text, row->says);
        }
        if (row->ok) {
            assert_int_equal(options.http_tls.use, row->http.use || row->http.mutual);
            assert_int_equal(after->use, wanted->use);
            assert_same(after->server_cert, wanted->server_cert);
            assert_same(after->server_key, wanted->server_key);
            assert_same(after->root_cert, wanted->root_cert);
        }
        md_arena_deinit(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_option_tls_needs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
