/*
 * Options from flags, environment and file; both default columns; the generated reference page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "config/options.h"

#include <stdio.h>

struct run {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_options options;
    bool ok;
    char said[8192];
};

static const char *file_text;

static bool read_file(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                      struct md_error *err)
{
    (void)arg;
    (void)arena;
    if (!file_text) {
        return md_error_set(err, MD_REASON_NOT_FOUND, "cannot open %s", path);
    }
    *out = md_str_of(file_text);
    return true;
}

static void parse(struct run *r, char *const *argv, char *const *environment)
{
    const struct md_file_reader reader = {.read = read_file};
    struct md_bytes text = {0};
    int argc = 0;

    memset(r, 0, sizeof *r);
    while (argv[argc]) {
        argc++;
    }
    md_diagnostics_init(&r->diagnostics, &r->arena);
    r->ok = md_options_parse(argc, argv, environment, false, &reader, &r->arena, &r->options,
                             &r->diagnostics);
    for (size_t i = 0; i < r->diagnostics.count; i++) {
        md_diagnostic_print(&r->diagnostics.items[i], &text);
        md_bytes_append_char(&text, '\n');
    }
    if (text.len) {
        memcpy(r->said, text.data, md_size_min(text.len, sizeof r->said - 1));
    }
    md_bytes_deinit(&text);
}

#define ARGV(...) ((char *[]){(char[]){"modeld"}, __VA_ARGS__, NULL})
#define ARG(text) ((char[]){text})

static void test_options_have_two_default_columns(void **state)
{
    struct run r;

    (void)state;
    parse(&r, ARGV(ARG("--model-repository=/m")), NULL);
    assert_true(r.ok);
    assert_false(r.options.exit_on_error);
    assert_int_equal(r.options.not_ready_status, 503);
    assert_string_equal(r.options.http_address, "127.0.0.1");
    assert_string_equal(r.options.gpu_fallback, "cpu");
    md_arena_deinit(&r.arena);
    parse(&r, ARGV(ARG("--compat"), ARG("triton")), NULL);
    assert_true(r.options.exit_on_error && r.options.strict_readiness);
    assert_int_equal(r.options.not_ready_status, 400);
    assert_string_equal(r.options.http_address, "0.0.0.0");
    assert_string_equal(r.options.gpu_fallback, "error");
    md_arena_deinit(&r.arena);
    parse(&r, (char *[]){ARG("/opt/bin/tritonserver"), NULL}, NULL);
    assert_true(r.options.strict_readiness);
    md_arena_deinit(&r.arena);
}

static void test_options_follow_precedence(void **state)
{
    char *environment[] = {ARG("MODELD_HTTP_PORT=2"), ARG("MODELD_ID=env"), ARG("MODELD_OTHER=x"),
                           NULL};
    struct run r;

    (void)state;
    file_text = "http-port: 3\nid: file\nmetrics_port: 4\nmodel-repository: [/a, /b]\n";
    parse(&r, ARGV(ARG("--config=c"), ARG("--http-port=1")), environment);
    assert_true(r.ok);
    assert_int_equal(r.options.http_port, 1);
    assert_string_equal(r.options.id, "env");
    assert_int_equal(r.options.metrics_port, 4);
    assert_int_equal(r.options.model_repository.count, 2);
    md_arena_deinit(&r.arena);
}

static void test_options_read_values(void **state)
{
    struct run r;

    (void)state;
    parse(&r,
          ARGV(ARG("--inflight-bytes"), ARG("64M"), ARG("--access-log"), ARG("--log-info"),
               ARG("off"), ARG("--model-store=/x"), ARG("--model-repository=/y"),
               ARG("--inline=off")),
          NULL);
    assert_true(r.ok);
    assert_int_equal(r.options.inflight_bytes, 64 << 20);
    assert_true(r.options.access_log);
    assert_false(r.options.log_info);
    assert_int_equal(r.options.model_repository.count, 2);
    assert_string_equal(r.options.inline_mode, "off");
    md_arena_deinit(&r.arena);
}

static void test_options_report_all_problems(void **state)
{
    struct run r;

    (void)state;
    parse(&r,
          ARGV(ARG("--http-prot=1"), ARG("--http-port=70000"), ARG("--exit-on-error=maybe"),
               ARG("stray"), ARG("--inline=sometimes"), ARG("--grpc-use-ssl=true"), ARG("--id")),
          NULL);
    assert_false(r.ok);
    assert_non_null(strstr(r.said, "unknown option '--http-prot', did you mean '--http-port'?"));
    assert_non_null(strstr(r.said, "--http-port must be a number in 0..65535, got '70000'"));
    assert_non_null(strstr(r.said, "--exit-on-error must be true or false"));
    assert_non_null(strstr(r.said, "unexpected argument 'stray'"));
    assert_non_null(strstr(r.said, "--inline must be one of auto|on|off"));
    assert_non_null(strstr(r.said, "--grpc-use-ssl is not supported"));
    assert_non_null(strstr(r.said, "--id needs a value"));
    md_arena_deinit(&r.arena);
}

static void test_options_warn_once_of_what_has_no_effect(void **state)
{
    struct run r;

    (void)state;
    parse(&r, ARGV(ARG("--grpc-port=1"), ARG("--grpc-port=2"), ARG("--allow-client-shm=false")),
          NULL);
    assert_true(r.ok);
    assert_int_equal(r.diagnostics.warning_count, 1);
    md_arena_deinit(&r.arena);
}

static void test_options_file_reports_lines(void **state)
{
    struct run r;

    (void)state;
    file_text = "http-port: 1\nhttp-pots: 2\nmodels:\n  - pattern: \"r*\"\n"
                "    config: { max_batch_size: 4, input: [ { name: x } ] }\n";
    parse(&r, ARGV(ARG("--config=c.yaml")), NULL);
    assert_false(r.ok);
    assert_non_null(
        strstr(r.said, "c.yaml:2: error: unknown option 'http-pots', did you mean 'http-port'?"));
    assert_int_equal(r.options.overlay_count, 1);
    assert_string_equal(r.options.overlays[0].pattern, "r*");
    assert_string_equal(r.options.overlays[0].config_json.ptr,
                        "{\"max_batch_size\":4,\"input\":[{\"name\":\"x\"}]}");
    md_arena_deinit(&r.arena);
    file_text = "a: &x 1\nb: *x\n";
    parse(&r, ARGV(ARG("--config=c.yaml")), NULL);
    assert_non_null(strstr(r.said, "aliases are not accepted"));
    md_arena_deinit(&r.arena);
    file_text = NULL;
    parse(&r, ARGV(ARG("--config=none.yaml")), NULL);
    assert_non_null(strstr(r.said, "cannot open none.yaml"));
    md_arena_deinit(&r.arena);
}

static void test_options_reference_page_is_current(void **state)
{
    struct md_bytes page = {0};
    static char text[65536];

    (void)state;
    md_options_print_markdown(&page);
    FILE *f = fopen("../docs/options.md", "rb"); /* tests run in tests/ */
    assert_non_null(f);
    size_t len = fread(text, 1, sizeof text, f);
    (void)fclose(f);
    if (len != page.len || memcmp(text, page.data, len) != 0) {
        fail_msg(
            "docs/options.md is not what the table says: modeld --help-markdown > docs/options.md");
    }
    md_bytes_deinit(&page);
}

static void test_options_survive_failing_memory(void **state)
{
    (void)state;
    file_text = "id: file\nmodels: [ { pattern: a, config: { max_batch_size: 1 } } ]\n";
    for (long n = 0;; n++) {
        struct run r;
        md_fault_arm(MD_FAULT_ALLOC, n);
        parse(&r, ARGV(ARG("--config=c"), ARG("--model-repository=/a")), NULL);
        bool hit = md_fault_disarm(MD_FAULT_ALLOC);
        md_arena_deinit(&r.arena);
        if (!hit) {
            assert_true(r.ok);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_have_two_default_columns),
        cmocka_unit_test(test_options_follow_precedence),
        cmocka_unit_test(test_options_read_values),
        cmocka_unit_test(test_options_report_all_problems),
        cmocka_unit_test(test_options_warn_once_of_what_has_no_effect),
        cmocka_unit_test(test_options_file_reports_lines),
        cmocka_unit_test(test_options_reference_page_is_current),
        cmocka_unit_test(test_options_survive_failing_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
