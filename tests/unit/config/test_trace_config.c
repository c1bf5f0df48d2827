/*
 * config/trace_config: settings and variables, and which of them counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/trace_config.h"

#include <stdio.h>

enum { WORDS_MAX = 8 };

struct run {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_trace_config config;
    bool ok;
};

/* Words between single spaces. */
static size_t split(const char *text, char buffer[1024], char *words[WORDS_MAX])
{
    size_t count = 0;

    (void)snprintf(buffer, 1024, "%s", text);
    for (char *at = buffer; *at; count++) {
        words[count] = at;
        at += strcspn(at, " ");
        if (*at) {
            *at++ = '\0';
        }
    }
    words[count] = NULL;
    return count;
}

static struct run *read_config(const char *settings, const char *environment)
{
    static struct run run;
    static char buffers[2][1024];
    char *words[WORDS_MAX], *variables[WORDS_MAX];

    md_arena_deinit(&run.arena);
    md_diagnostics_init(&run.diagnostics, &run.arena);
    const size_t count = split(settings, buffers[0], words);
    (void)split(environment, buffers[1], variables);
    const struct md_trace_sources sources = {.settings = (const char *const *)words,
                                             .setting_count = count,
                                             .given = "--trace-config",
                                             .mode = "opentelemetry",
                                             .service_name = "modeld",
                                             .environment = variables};
    run.ok = md_trace_config_read(&sources, &run.arena, &run.config, &run.diagnostics);
    assert_int_equal(run.ok, run.diagnostics.error_count == 0);
    return &run;
}

static const char *print_pairs(const struct md_trace_pairs *pairs)
{
    static char text[1024];
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < pairs->count; i++) {
        if (!md_str_eq_c(pairs->items[i].key, "service.version")) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%.*s=%.*s;",
                                    MD_STR_ARG(pairs->items[i].key),
                                    MD_STR_ARG(pairs->items[i].value));
        }
    }
    return text;
}

static void test_trace_config_url(void **state)
{
    static const struct {
        const char *settings, *environment, *url;
    } rows[] = {
        {"", "", "http://localhost:4318/v1/traces"},
        {"level=OFF opentelemetry,url=http://a:1/x", "", "http://a:1/x"},
        {"level=OFF opentelemetry,url=a:1/x", "", "http://a:1/x"},
        {"level=OFF opentelemetry,url=https://a/x", "", "https://a/x"},
        {"", "OTEL_EXPORTER_OTLP_ENDPOINT=http://b:2", "http://b:2/v1/traces"},
        {"", "OTEL_EXPORTER_OTLP_ENDPOINT=http://b:2//", "http://b:2/v1/traces"},
        {"", "OTEL_EXPORTER_OTLP_ENDPOINT=", "http://localhost:4318/v1/traces"},
        {"", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c/ OTEL_EXPORTER_OTLP_ENDPOINT=http://b",
         "http://c/"},
        {"level=OFF opentelemetry,url=http://a", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c",
         "http://a"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = read_config(rows[i].settings, rows[i].environment);
        assert_string_equal(run->config.url, rows[i].url);
        assert_int_equal(run->diagnostics.count, 0);
    }
}

static void test_trace_config_shows_no_credentials(void **state)
{
    static const struct {
        const char *url, *shown;
    } rows[] = {
        {"https://me:secret@a:1/x", "https://a:1/x"},
        {"me:secret@a:1/x", "http://a:1/x"},
        {"http://a/x@y", "http://a/x@y"},
        {"http://a", "http://a"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char setting[128];
        (void)snprintf(setting, sizeof setting, "level=OFF opentelemetry,url=%s", rows[i].url);
        assert_string_equal(read_config(setting, "")->config.shown_url, rows[i].shown);
    }
}

static void test_trace_config_pairs(void **state)
{
    static const struct {
        const char *settings, *environment, *resource, *headers;
    } rows[] = {
        {"", "", "service.name=modeld;", ""},
        {"level=OFF opentelemetry,resource=a=b=c", "", "service.name=modeld;a=b=c;", ""},
        {"", "OTEL_RESOURCE_ATTRIBUTES=service.name=x,,a=%20%zz%", "service.name=x;a= %zz%;", ""},
        {"", "OTEL_RESOURCE_ATTRIBUTES=service.name=x OTEL_SERVICE_NAME=y", "service.name=y;", ""},
        {"level=OFF opentelemetry,resource=service.name=z", "OTEL_SERVICE_NAME=y",
         "service.name=z;", ""},
        {"", "OTEL_EXPORTER_OTLP_HEADERS=k=v%3D,l=w", "service.name=modeld;", "k=v=;l=w;"},
        {"", "OTEL_EXPORTER_OTLP_HEADERS=k=v OTEL_EXPORTER_OTLP_TRACES_HEADERS=m=x",
         "service.name=modeld;", "m=x;"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = read_config(rows[i].settings, rows[i].environment);
        assert_string_equal(print_pairs(&run->config.resource), rows[i].resource);
        assert_string_equal(print_pairs(&run->config.headers), rows[i].headers);
        assert_int_equal(run->diagnostics.count, 0);
    }
}

static void test_trace_config_numbers(void **state)
{
    struct run *run = read_config(
        "level=timestamps rate=7 count=3 opentelemetry,bsp_max_queue_size=100",
        "OTEL_BSP_MAX_QUEUE_SIZE=5 OTEL_BSP_SCHEDULE_DELAY=250 OTEL_EXPORTER_OTLP_TIMEOUT=9");

    (void)state;
    assert_true(run->ok && run->config.timestamps && !run->config.tensors);
    assert_int_equal(run->config.rate, 7);
    assert_int_equal(run->config.count, 3);
    assert_int_equal(run->config.max_queue, 100);
    assert_int_equal(run->config.max_batch, 100); /* no more than what may wait */
    assert_int_equal(run->config.delay_ms, 250);
    assert_int_equal(run->config.timeout_ms, 9);
}

static void test_trace_config_tells_what_is_wrong(void **state)
{
    static const struct {
        const char *settings, *environment;
        bool ok;
        const char *text;
    } rows[] = {
        {"level=ALL", "", false,
         "--trace-config level must be OFF, TIMESTAMPS or TENSORS, got 'ALL'"},
        {"mode=zipkin", "", false,
         "--trace-config mode must be triton or opentelemetry, got 'zipkin'"},
        {"rate=-1", "", false, "--trace-config rate must be a number in 0..4294967295, got '-1'"},
        {"opentelemetry,url=ftp://x", "", false,
         "--trace-config opentelemetry,url must be http:// or https://, got 'ftp://x'"},
        {"opentelemetry,resource=name", "", false,
         "--trace-config opentelemetry,resource must be key=value (at most 64), got 'name'"},
        {"url=http://x", "", false,
         "--trace-config has no setting 'url', did you mean 'opentelemetry,url'?"},
        {"triton,xyzzy=1", "", false, "--trace-config has no setting 'triton,xyzzy'"},
        {"rate=1", "", true,
         "--trace-config says no level, so nothing is traced: add level=TIMESTAMPS"},
        {"level=TIMESTAMPS mode=triton", "", true,
         "--trace-config names no file for mode triton, so nothing is traced: add "
         "triton,file=PATH, or take mode=opentelemetry"},
        {"level=TENSORS", "", true,
         "--trace-config level=TENSORS: timestamps are traced, tensors are not"},
        {"", "OTEL_BSP_SCHEDULE_DELAY=soon", true,
         "OTEL_BSP_SCHEDULE_DELAY is left out: it is no number in 1..3600000"},
        {"", "OTEL_EXPORTER_OTLP_ENDPOINT=unix://x", true,
         "OTEL_EXPORTER_OTLP_ENDPOINT is left out: it is neither http:// nor https://"},
        {"", "OTEL_RESOURCE_ATTRIBUTES=x", true,
         "OTEL_RESOURCE_ATTRIBUTES: 'x' is left out, it is no key=value"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = read_config(rows[i].settings, rows[i].environment);
        assert_int_equal(run->ok, rows[i].ok);
        assert_int_equal(run->diagnostics.count, 1);
        assert_string_equal(run->diagnostics.items[0].text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trace_config_url),
        cmocka_unit_test(test_trace_config_shows_no_credentials),
        cmocka_unit_test(test_trace_config_pairs),
        cmocka_unit_test(test_trace_config_numbers),
        cmocka_unit_test(test_trace_config_tells_what_is_wrong),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
