/*
 * Traces with every allocation and every system call failing, once or from one on: what is not
 * there is told or counted, and nothing else suffers.
 */
#include "torture/torture.h"

#include "base/clock.h"
#include "os/clock.h"
#include "trace/otlp_http.h"
#include "trace/trace_file.h"
#include "trace/tracer.h"

#include <stdio.h>
#include <unistd.h>

enum { REQUESTS = 20 };

static atomic_size_t received; /* spans of one byte each */

static enum md_trace_result take(void *arg, const struct md_trace_message *message,
                                 struct md_trace_answer *answer)
{
    (void)arg;
    (void)answer;
    atomic_fetch_add(&received, message->body.len);
    return MD_TRACE_TAKEN;
}

static void close_sink(void *arg)
{
    --*(int *)arg;
}

static bool open_sink(void *arg, struct md_trace_sink *out, struct md_error *err)
{
    (void)err;
    ++*(int *)arg;
    *out = (struct md_trace_sink){.arg = arg, .name = "fake", .send = take, .destroy = close_sink};
    return true;
}

/* A tracer that is turned on, and used as far as that goes. */
static void use(int *sinks, bool *created, struct md_trace_counters *counters, size_t *submitted,
                struct md_error *err)
{
    const struct md_tracer_options options = {
        .settings = {[MD_TRACE_RATE] = 1, [MD_TRACE_COUNT] = -1},
        .exporter = {.max_queue = 1000, .max_batch = 4, .delay_ns = MD_NS_PER_S},
        .open_sink = open_sink,
        .arg = sinks,
    };
    const struct md_trace_change on = {.what = {[MD_TRACE_LEVEL] = MD_TRACE_SET},
                                       .values = {[MD_TRACE_LEVEL] = MD_TRACE_TIMESTAMPS}};
    struct md_tracer *tracer;

    *created = md_tracer_create(&options, &tracer, err);
    if (!*created) {
        return;
    }
    *created = md_tracer_change(tracer, MD_STR("model"), &on, err);
    for (int i = 0; i < REQUESTS; i++) {
        struct md_trace ids;
        if (md_tracer_begin(tracer, MD_STR("model"), MD_STR(""), &ids)) {
            md_tracer_submit(tracer, MD_STR("s"), 1);
            ++*submitted;
        }
    }
    md_tracer_count(tracer, counters);
    md_tracer_destroy(tracer);
}

static void tracer(enum md_fault_kind kind)
{
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct md_trace_counters counters = {0};
        struct md_error err = {0};
        size_t submitted = 0;
        int sinks = 0;
        bool created;

        atomic_store(&received, 0);
        torture_arm(&t);
        use(&sinks, &created, &counters, &submitted, &err);
        bool delivered = torture_disarm(&t);
        torture_check(&t, created || (delivered && *err.text));
        torture_check(&t, submitted == (created ? REQUESTS : 0));
        torture_check(&t, sinks == 0); /* what was opened was closed */
        torture_check(&t, atomic_load(&received) <= submitted - counters.dropped_full);
        torture_check(&t, delivered || atomic_load(&received) == REQUESTS);
    }
}

static void test_torture_tracer_allocations(void **state)
{
    (void)state;
    tracer(MD_FAULT_ALLOC);
}

static void test_torture_tracer_system_calls(void **state)
{
    (void)state;
    tracer(MD_FAULT_SYSCALL);
}

static void test_torture_otlp_sink(void **state)
{
    static const enum md_fault_kind kinds[] = {MD_FAULT_ALLOC, MD_FAULT_SYSCALL};
    static const char *const headers[] = {"x-key: secret"};
    static const struct md_span_resource resource = {{"service.name", 12}, {"modeld", 6}};
    const struct md_otlp_http_options options = {.url = "http://127.0.0.1:1/v1/traces",
                                                 .name = "nobody",
                                                 .headers = headers,
                                                 .header_count = 1,
                                                 .resource = &resource,
                                                 .resource_count = 1};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(kinds); i++) {
        for (struct torture t = {.kind = kinds[i]}; torture_next(&t);) {
            struct md_trace_sink sink;
            struct md_error err;
            torture_arm(&t);
            bool ok = md_otlp_http_open(&options, &sink, &err);
            bool delivered = torture_disarm(&t);
            torture_check(&t, ok != delivered);
            if (ok) {
                sink.destroy(sink.arg);
            }
        }
    }
}

static void test_torture_trace_file(void **state)
{
    static const enum md_fault_kind kinds[] = {MD_FAULT_ALLOC, MD_FAULT_SYSCALL};
    const struct md_trace_message message = {.body = MD_STR(",{}\n,{}\n,{}\n")};
    char path[64], name[80];

    (void)state;
    (void)snprintf(path, sizeof path, "/tmp/modeld-trace-%d", (int)getpid());
    for (size_t i = 0; i < MD_COUNT_OF(kinds); i++) {
        for (struct torture t = {.kind = kinds[i]}; torture_next(&t);) {
            struct md_trace_answer answer = {0};
            struct md_trace_sink sink;
            struct md_error err;
            torture_arm(&t);
            bool ok = md_trace_file_open(path, 2, &sink, &err);
            const bool opened = ok;
            ok = ok && sink.send(sink.arg, &message, &answer) == MD_TRACE_TAKEN;
            if (opened) {
                sink.destroy(sink.arg);
            }
            bool delivered = torture_disarm(&t);
            torture_check(&t, ok || delivered);
            torture_check(&t, ok || !opened || *answer.text);
        }
    }
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof name, "%s.%d", path, i);
        (void)unlink(name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_tracer_allocations),
        cmocka_unit_test(test_torture_tracer_system_calls),
        cmocka_unit_test(test_torture_otlp_sink),
        cmocka_unit_test(test_torture_trace_file),
    };

    md_os_clock_install();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
