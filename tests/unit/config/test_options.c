/*
 * config/options: sources and their precedence, both columns of defaults, every kind of value, what
 * is refused or warned about, the --config file with overlays, and the pages made of the table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/fault.h"
#include "config/option_table.h"
#include "config/option_value.h"

enum { WORDS_MAX = 64 };

/* One run of the parser. */
struct run {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_options options;
    char words[2][4096];
    bool ok;
};

struct input {
    const char *program, *flags, *environment; /* words between single spaces */
    const char *file;                          /* NULL: it cannot be read */
    bool in_container;
};

static bool read_text(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                      struct md_error *err)
{
    (void)arena;
    if (!arg) {
        return md_error_set(err, MD_REASON_IO, "%s cannot be read", path);
    }
    *out = md_str_of(arg);
    return true;
}

static size_t split(const char *text, char buffer[4096], char *words[WORDS_MAX], size_t count)
{
    size_t len = text ? strlen(text) : 0;

    assert_true(len < 4096);
    memcpy(buffer, text ? text : "", len + 1);
    for (char *word = strtok(buffer, " "); word; word = strtok(NULL, " ")) {
        assert_true(count < WORDS_MAX - 1);
        words[count++] = word;
    }
    words[count] = NULL;
    return count;
}

static struct run *parse(const struct input *input)
{
    static struct run run;
    char program[64], *argv[WORDS_MAX], *environment[WORDS_MAX];
    const struct md_file_reader reader = {.read = read_text, .arg = (void *)(uintptr_t)input->file};

    md_arena_deinit(&run.arena);
    memset(&run.options, 0xA5, sizeof run.options);
    md_diagnostics_init(&run.diagnostics, &run.arena);
    (void)snprintf(program, sizeof program, "%s", input->program ? input->program : "modeld");
    argv[0] = program;
    int argc = (int)split(input->flags, run.words[0], argv, 1);
    (void)split(input->environment, run.words[1], environment, 0);
    run.ok = md_options_parse(argc, argv, environment, input->in_container, &reader, &run.arena,
                              &run.options, &run.diagnostics);
    assert_int_equal(run.ok, run.diagnostics.error_count == 0);
    return &run;
}

static struct run *parse_flags(const char *flags)
{
    return parse(&(struct input){.flags = flags});
}

static struct run *parse_file(const char *file)
{
    return parse(&(struct input){.flags = "--config m.yaml", .file = file});
}

/* All diagnostics, one a line. */
static const char *texts(const struct run *run)
{
    static char text[32 * 1024];
    struct md_bytes bytes = {0};

    for (size_t i = 0; i < run->diagnostics.count; i++) {
        md_diagnostic_print(&run->diagnostics.items[i], &bytes);
        md_bytes_append_char(&bytes, '\n');
    }
    assert_false(bytes.failed);
    assert_true(bytes.len < sizeof text);
    memcpy(text, bytes.len ? bytes.data : "", bytes.len);
    text[bytes.len] = '\0';
    md_bytes_deinit(&bytes);
    return text;
}

/* The option's value as text, whatever its kind. */
static const char *value_of(const struct md_options *options, const struct md_option *option)
{
    static char text[1024];
    const char *field = (const char *)options + option->offset;
    struct md_string_list list;
    const char *string;
    uint64_t number;

    text[0] = '\0';
    switch (option->kind) {
    case MD_OPTION_ACTION:
    case MD_OPTION_BOOL:
        return *(const bool *)(const void *)field ? "true" : "false";
    case MD_OPTION_NUMBER:
    case MD_OPTION_SIZE:
        memcpy(&number, field, sizeof number);
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
        return text;
    case MD_OPTION_LIST:
    case MD_OPTION_SETTINGS:
        memcpy(&list, field, sizeof list);
        for (size_t i = 0; i < list.count; i++) {
            size_t len = strlen(text);
            (void)snprintf(text + len, sizeof text - len, "%s%s", i ? " " : "", list.items[i]);
        }
        return text;
    default:
        memcpy(&string, field, sizeof string);
        return string ? string : "(unset)";
    }
}

static const char *value(const struct run *run, const char *name)
{
    const struct md_option *option = md_option_find(md_str_of(name));

    assert_non_null(option);
    return value_of(&run->options, option);
}

#define assert_says(run, text)                                    \
    do {                                                          \
        if (!strstr(texts(run), text)) {                          \
            fail_msg("'%s' is missing in: %s", text, texts(run)); \
        }                                                         \
    } while (0)

/* --- the table -------------------- */

static void test_options_table_is_consistent(void **state)
{
    struct md_options scratch;
    struct md_arena arena = {0};
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        assert_true(option->help && *option->help);
        if (!option->name) {
            continue;
        }
        print_message("[  row   ] %s\n", option->name);
        assert_ptr_equal(md_option_find(md_str_of(option->name)), option); /* the only one */
        bool kept = option->status == MD_OPTION_WORKS && !option->alias_of;
        assert_int_equal(kept, option->offset != SIZE_MAX);
        assert_true(!option->alias_of || md_option_target(option)->kind == option->kind);
        assert_true(!option->value || option->offset < sizeof scratch);
        bool is_text = option->kind == MD_OPTION_TEXT || md_option_is_list(option);
        assert_true(!kept || is_text || option->value); /* no field is left undecided */
        const char *values[] = {option->value, option->triton_value};
        for (size_t k = 0; k < 2; k++) {
            assert_true(!values[k] ||
                        md_option_store(option, md_str_of(values[k]), &arena, &scratch, &err));
        }
    }
    md_arena_deinit(&arena);
}

/* Every flag of the server that --compat triton stands for, with a value as its users write it
 * (NULL: it takes none) and others that it needs, and what becomes of it. --load-model is among the
 * values. */
static const struct {
    const char *flag, *value;
    enum md_option_status status;
} triton_flags[] = {
    {"help", NULL, MD_OPTION_WORKS},
    {"id", "triton", MD_OPTION_WORKS},
    {"exit-timeout-secs", "30", MD_OPTION_WORKS},
    {"log-verbose", "1", MD_OPTION_WORKS},
    {"log-info", "true", MD_OPTION_WORKS},
    {"log-warning", "1", MD_OPTION_WORKS},
    {"log-error", "True", MD_OPTION_WORKS},
    {"log-format", "ISO8601", MD_OPTION_WORKS},
    {"log-file", "/tmp/log", MD_OPTION_WORKS},
    {"model-store", "/models", MD_OPTION_WORKS},
    {"model-repository", "/models", MD_OPTION_WORKS},
    {"model-repo", "/models", MD_OPTION_WORKS},
    {"exit-on-error", "false", MD_OPTION_WORKS},
    {"disable-auto-complete-config", NULL, MD_OPTION_NO_EFFECT},
    {"strict-readiness", "true", MD_OPTION_WORKS},
    {"model-control-mode", "none", MD_OPTION_WORKS},
    {"model-control-mode", "poll", MD_OPTION_REFUSED},
    {"repository-poll-secs", "15", MD_OPTION_NO_EFFECT},
    {"model-config-name", "h100", MD_OPTION_REFUSED},
    {"model-load-thread-count", "4", MD_OPTION_WORKS},
    {"model-load-retry-count", "3", MD_OPTION_NO_EFFECT},
    {"model-namespacing", "true", MD_OPTION_REFUSED},
    {"enable-peer-access", "true", MD_OPTION_NO_EFFECT},
    {"allow-http", "true", MD_OPTION_WORKS},
    {"http-address", "0.0.0.0", MD_OPTION_WORKS},
    {"http-port", "8000", MD_OPTION_WORKS},
    {"reuse-http-port", "true", MD_OPTION_WORKS},
    {"http-header-forward-pattern", "x-.*", MD_OPTION_REFUSED},
    {"http-thread-count", "8", MD_OPTION_WORKS},
    {"http-max-input-size", "67108864", MD_OPTION_WORKS},
    {"http-restricted-api", "model-repository,health:key=value", MD_OPTION_WORKS},
    {"allow-grpc", "true", MD_OPTION_WORKS},
    {"grpc-address", "0.0.0.0", MD_OPTION_WORKS},
    {"grpc-port", "8001", MD_OPTION_WORKS},
    {"reuse-grpc-port", "true", MD_OPTION_WORKS},
    {"grpc-header-forward-pattern", "x-.*", MD_OPTION_REFUSED},
    {"grpc-infer-thread-count", "2", MD_OPTION_NO_EFFECT},
    {"grpc-infer-cq-count", "1", MD_OPTION_NO_EFFECT},
    {"grpc-infer-allocation-pool-size", "8", MD_OPTION_NO_EFFECT},
    {"grpc-max-response-pool-size", "100", MD_OPTION_NO_EFFECT},
    {"grpc-use-ssl", "true --grpc-server-cert=/c --grpc-server-key=/k", MD_OPTION_WORKS},
    {"grpc-use-ssl-mutual", "1 --grpc-server-cert=/c --grpc-server-key=/k --grpc-root-cert=/r",
     MD_OPTION_WORKS},
    {"grpc-server-cert", "/c.pem --grpc-use-ssl=1 --grpc-server-key=/k", MD_OPTION_WORKS},
    {"grpc-server-key", "/k.pem --grpc-use-ssl=1 --grpc-server-cert=/c", MD_OPTION_WORKS},
    {"grpc-root-cert", "/r.pem --grpc-use-ssl-mutual=1 --grpc-server-cert=/c --grpc-server-key=/k",
     MD_OPTION_WORKS},
    {"grpc-infer-response-compression-level", "high", MD_OPTION_WORKS},
    {"grpc-keepalive-time", "7200000", MD_OPTION_WORKS},
    {"grpc-keepalive-timeout", "20000", MD_OPTION_WORKS},
    {"grpc-keepalive-permit-without-calls", "0", MD_OPTION_WORKS},
    {"grpc-http2-max-pings-without-data", "2", MD_OPTION_NO_EFFECT},
    {"grpc-http2-min-recv-ping-interval-without-data", "300000", MD_OPTION_WORKS},
    {"grpc-http2-max-ping-strikes", "2", MD_OPTION_WORKS},
    {"grpc-max-connection-age", "1000", MD_OPTION_WORKS},
    {"grpc-max-connection-age-grace", "1000", MD_OPTION_WORKS},
    {"grpc-restricted-protocol", "model-repository:key=value", MD_OPTION_WORKS},
    {"allow-sagemaker", "true", MD_OPTION_REFUSED},
    {"sagemaker-port", "8080", MD_OPTION_NO_EFFECT},
    {"sagemaker-safe-port-range", "8080-8090", MD_OPTION_NO_EFFECT},
    {"sagemaker-thread-count", "8", MD_OPTION_NO_EFFECT},
    {"allow-vertex-ai", "true", MD_OPTION_REFUSED},
    {"vertex-ai-port", "8080", MD_OPTION_NO_EFFECT},
    {"vertex-ai-thread-count", "8", MD_OPTION_NO_EFFECT},
    {"vertex-ai-default-model", "m", MD_OPTION_NO_EFFECT},
    {"allow-metrics", "true", MD_OPTION_WORKS},
    {"allow-gpu-metrics", "true", MD_OPTION_NO_EFFECT},
    {"allow-cpu-metrics", "false", MD_OPTION_WORKS},
    {"metrics-address", "0.0.0.0", MD_OPTION_WORKS},
    {"metrics-port", "8002", MD_OPTION_WORKS},
    {"metrics-interval-ms", "2000.0", MD_OPTION_NO_EFFECT},
    {"metrics-config", "counter_latencies=true", MD_OPTION_WORKS},
    {"metrics-config", "summary_latencies=true", MD_OPTION_NO_EFFECT},
    {"metrics-config", "summary_quantiles=0.5:0.05,0.9:0.01", MD_OPTION_NO_EFFECT},
    {"metrics-config", "histogram_latencies=true", MD_OPTION_NO_EFFECT},
    {"trace-config", "level=TIMESTAMPS", MD_OPTION_WORKS},
    {"trace-config", "level=OFF --trace-config triton,file=/tmp/trace.json", MD_OPTION_WORKS},
    {"trace-config", "level=OFF --trace-config triton,log-frequency=10", MD_OPTION_WORKS},
    {"trace-config", "level=OFF --trace-config rate=1 --trace-config count=-1", MD_OPTION_WORKS},
    {"trace-config", "level=OFF --trace-config opentelemetry,url=localhost:4318/v1/traces",
     MD_OPTION_WORKS},
    {"trace-config", "level=OFF --trace-config opentelemetry,resource=service.name=x",
     MD_OPTION_WORKS},
    {"backend-directory", "/backends", MD_OPTION_WORKS},
    {"backend-config", "onnxruntime,default-max-batch-size=8", MD_OPTION_WORKS},
    {"backend-config", "default-max-batch-size=8", MD_OPTION_WORKS},
    {"repoagent-directory", "/agents", MD_OPTION_REFUSED},
    {"cache-config", "local,size=1048576", MD_OPTION_NO_EFFECT},
    {"cache-directory", "/caches", MD_OPTION_NO_EFFECT},
    {"rate-limit", "execution_count", MD_OPTION_REFUSED},
    {"rate-limit-resource", "R1:10", MD_OPTION_NO_EFFECT},
    {"rate-limit-resource", "R1:10:0", MD_OPTION_NO_EFFECT},
    {"pinned-memory-pool-byte-size", "268435456", MD_OPTION_NO_EFFECT},
    {"cuda-memory-pool-byte-size", "0:67108864", MD_OPTION_NO_EFFECT},
    {"cuda-virtual-address-size", "0:1073741824", MD_OPTION_NO_EFFECT},
    {"min-supported-compute-capability", "6.0", MD_OPTION_NO_EFFECT},
    {"buffer-manager-thread-count", "2", MD_OPTION_NO_EFFECT},
    {"host-policy", "cpu_0,numa-node=0", MD_OPTION_NO_EFFECT},
    {"model-load-gpu-limit", "0:0.5", MD_OPTION_NO_EFFECT},
    {"allow-client-shm", "true", MD_OPTION_WORKS},
    {"strict-model-config", "true", MD_OPTION_NO_EFFECT},
    {"response-cache-byte-size", "1048576", MD_OPTION_NO_EFFECT},
    {"trace-file", "/tmp/trace.json", MD_OPTION_NO_EFFECT},
    {"trace-level", "TIMESTAMPS", MD_OPTION_NO_EFFECT},
    {"trace-rate", "1000", MD_OPTION_NO_EFFECT},
    {"trace-count", "-1", MD_OPTION_NO_EFFECT},
    {"trace-log-frequency", "0", MD_OPTION_NO_EFFECT},
};

static void check_triton_flag(const char *flags, const char *flag, enum md_option_status status)
{
    struct run *run = parse_flags(flags);
    const char *text = texts(run);
    char warning[96], error[96];

    print_message("[  row   ] %s\n", flags);
    (void)snprintf(warning, sizeof warning, "warning: --%s", flag);
    (void)snprintf(error, sizeof error, "error: --%s", flag);
    assert_int_equal(run->ok, status != MD_OPTION_REFUSED);
    assert_int_equal(run->diagnostics.count, status == MD_OPTION_WORKS ? 0 : 1);
    assert_true(status != MD_OPTION_NO_EFFECT ||
                (md_str_starts_with(md_str_of(text), md_str_of(warning)) &&
                 strstr(text, " has no effect: ")));
    assert_true(status != MD_OPTION_REFUSED ||
                (md_str_starts_with(md_str_of(text), md_str_of(error)) &&
                 strstr(text, " is not supported: ")));
}

static void test_options_take_every_flag_of_triton(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(triton_flags); i++) {
        const char *flag = triton_flags[i].flag, *value = triton_flags[i].value;
        char flags[256];
        (void)snprintf(flags, sizeof flags, value ? "--%s=%s" : "--%s", flag, value ? value : "");
        check_triton_flag(flags, flag, triton_flags[i].status);
        if (value) {
            (void)snprintf(flags, sizeof flags, "--%s %s", flag, value);
            check_triton_flag(flags, flag, triton_flags[i].status);
        }
        if (triton_flags[i].status == MD_OPTION_NO_EFFECT) { /* one warning, however often */
            (void)snprintf(flags, sizeof flags, "--%s%s%s --%s%s%s", flag, value ? "=" : "",
                           value ? value : "", flag, value ? "=" : "", value ? value : "");
            check_triton_flag(flags, flag, MD_OPTION_NO_EFFECT);
        }
    }
}

/* What has no effect or is refused is there for the sake of that server: the list above is whole.
 */
static void test_options_of_triton_are_all_listed(void **state)
{
    (void)state;
    for (size_t i = 0; i < md_option_count; i++) {
        const char *name = md_option_table[i].name;
        bool is_listed = false;
        for (size_t k = 0; name && k < MD_COUNT_OF(triton_flags); k++) {
            is_listed |= strcmp(name, triton_flags[k].flag) == 0;
        }
        assert_true(is_listed || !name || md_option_table[i].status == MD_OPTION_WORKS);
    }
}

/* --- values -------------------- */

static void test_options_values_are_read_by_kind(void **state)
{
    static const struct {
        const char *flags, *name, *value;
    } rows[] = {
        {"--exit-on-error", "exit-on-error", "true"},
        {"--exit-on-error=1", "exit-on-error", "true"},
        {"--exit-on-error on", "exit-on-error", "true"},
        {"--exit-on-error=YES", "exit-on-error", "true"},
        {"--log-info=off", "log-info", "false"},
        {"--log-info 0", "log-info", "false"},
        {"--log-info=No", "log-info", "false"},
        {"--log-info false --exit-on-error", "log-info", "false"},
        {"--exit-on-error --id x", "id", "x"},
        {"--http-port=0", "http-port", "0"},
        {"--http-port 65535", "http-port", "65535"},
        {"--http-max-input-size=67108864", "http-max-input-size", "67108864"},
        {"--http-max-input-size=1k", "http-max-input-size", "1024"},
        {"--http-max-input-size=2M", "http-max-input-size", "2097152"},
        {"--http-max-input-size=2MB", "http-max-input-size", "2097152"},
        {"--http-max-input-size=2MiB", "http-max-input-size", "2097152"},
        {"--http-max-input-size=2Mi", "http-max-input-size", "2097152"},
        {"--http-max-input-size=3g", "http-max-input-size", "3221225472"},
        {"--http-max-input-size=1T", "http-max-input-size", "1099511627776"},
        {"--id=", "id", ""},
        {"--id=a=b", "id", "a=b"},
        {"--id=--x", "id", "--x"},
        {"--id -1", "id", "-1"},
        {"--id a --id=b", "id", "b"},
        {"--inline=off", "inline", "off"},
        {"--model-repository a --model-store b --model-repository=c --model-repo d",
         "model-repository", "a b c d"},
        {"--backend-config=x=1 --backend-config onnxruntime,y=a,b=c", "backend-config",
         "x=1 onnxruntime,y=a,b=c"},
        {"--backend-config=default-max-batch-size=7", "default-max-batch-size", "7"},
        {"--backend-config=onnxruntime,default-max-batch-size=8", "default-max-batch-size", "8"},
        {"--backend-config=default-max-batch-size=7 --default-max-batch-size=2",
         "default-max-batch-size", "2"},
        {"--trace-config level=OFF --allow-grpc=false --allow-client-shm 0", "id", "modeld"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = parse_flags(rows[i].flags);
        print_message("[  row   ] %s\n", rows[i].flags);
        assert_string_equal(texts(run), "");
        assert_string_equal(value(run, rows[i].name), rows[i].value);
    }
}

static void test_options_bad_flags_are_named(void **state)
{
    static const struct {
        const char *flags, *text;
    } rows[] = {
        {"--http-port=65536", "error: --http-port must be a number in 0..65535, got '65536'\n"},
        {"--http-port=", "error: --http-port must be a number in 0..65535, got ''\n"},
        {"--http-port=-1", "error: --http-port must be a number in 0..65535, got '-1'\n"},
        {"--http-port=8k", "error: --http-port must be a number in 0..65535, got '8k'\n"},
        {"--http-port=99999999999999999999",
         "error: --http-port must be a number in 0..65535, got '99999999999999999999'\n"},
        {"--inflight-bytes=99999999999999999T",
         "error: --inflight-bytes must be a size (such as 64M) in 0..1T, got "
         "'99999999999999999T'\n"},
        {"--inflight-bytes=2i",
         "error: --inflight-bytes must be a size (such as 64M) in 0..1T, got '2i'\n"},
        {"--inflight-bytes=M",
         "error: --inflight-bytes must be a size (such as 64M) in 0..1T, got 'M'\n"},
        {"--log-info=maybe", "error: --log-info must be true or false, got 'maybe'\n"},
        {"--inline=no", "error: --inline must be one of auto|on|off, got 'no'\n"},
        {"--backend-config=x",
         "error: --backend-config must be key=value or NAME,key=value, got 'x'\n"},
        {"--backend-config==x",
         "error: --backend-config must be key=value or NAME,key=value, got '=x'\n"},
        {"--backend-config=n,=x",
         "error: --backend-config must be key=value or NAME,key=value, got 'n,=x'\n"},
        {"--backend-config=default-max-batch-size=-1",
         "error: --backend-config default-max-batch-size must be a number in 0..2147483647, got "
         "'-1'\n"},
        {"--id", "error: --id needs a value\n"},
        {"--id --log-info", "error: --id needs a value\n"},
        {"models", "error: unexpected argument 'models': options begin with --, did you mean "
                   "--model-repository=models?\n"},
        {"-h", "error: unexpected argument '-h': options begin with --\n"},
        {"--", "error: unknown option '--'; --help lists all\n"},
        {"--=3", "error: unknown option '--'; --help lists all\n"},
        {"--http-prot=1", "error: unknown option '--http-prot', did you mean '--http-port'?\n"},
        {"--model-rep /models",
         "error: unknown option '--model-rep', did you mean '--model-repository'?\n"},
        {"--quux=1", "error: unknown option '--quux'; --help lists all\n"},
        {"--model-control-mode=poll",
         "error: --model-control-mode=poll is not supported: repositories are not read again yet; "
         "use none or explicit, and restart to take changes\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s\n", rows[i].flags);
        assert_string_equal(texts(parse_flags(rows[i].flags)), rows[i].text);
    }
}

static void test_options_all_errors_come_at_once(void **state)
{
    (void)state;
    struct run *run =
        parse(&(struct input){.flags = "--http-port=x --nonsense --inline=y --config=f",
                              .environment = "MODELD_SPIN_US=z",
                              .file = "spin_us: 4\nmax-connections: no\n"});
    assert_int_equal(run->diagnostics.error_count, 5);
    assert_says(run, "error: MODELD_SPIN_US must be a number in 0..1000, got 'z'");
    assert_says(run, "f:2:18: error: max-connections must be a number in 1..1000000, got 'no'");
}

static void test_options_wrong_values_count_as_not_given(void **state)
{
    (void)state;
    struct run *run =
        parse(&(struct input){.flags = "--inline=x --http-port=y --compat=z --config=f --id=a --id",
                              .environment = "MODELD_HTTP_PORT=z",
                              .file = "http-port: 9000\n"});
    assert_int_equal(run->diagnostics.error_count, 5);
    assert_string_equal(run->options.inline_mode, "auto");
    assert_string_equal(run->options.compat, "none");
    assert_string_equal(run->options.http_address, "127.0.0.1");
    assert_int_equal(run->options.http_port, 9000);
    assert_string_equal(run->options.id, "a");
}

static void test_options_list_is_bounded(void **state)
{
    struct md_bytes text = {0};

    (void)state;
    md_bytes_append_c(&text, "load-model:\n");
    for (size_t i = 0; i < 1025; i++) {
        md_bytes_append_c(&text, "  - x\n");
    }
    md_bytes_append_char(&text, '\0');
    assert_says(parse_file(text.data), "m.yaml:1026:5: error: load-model is given more than 1024");
    md_bytes_deinit(&text);
}

/* --- what has no effect, what is refused -------------------- */

static void test_options_without_effect_warn_once(void **state)
{
    (void)state;
    struct run *run = parse(&(struct input){
        .flags = "--grpc-infer-thread-count 1 --grpc-infer-thread-count=2 --cache-config a,b=c",
        .environment = "MODELD_GRPC_INFER_THREAD_COUNT=3"});
    assert_true(run->ok);
    assert_string_equal(texts(run),
                        "warning: --grpc-infer-thread-count has no effect: all ports share "
                        "the event loops\nwarning: --cache-config has no effect: every response is "
                        "computed\n");
}

static void test_options_refused_ones_keep_secrets(void **state)
{
    (void)state;
    struct run *run = parse_flags("--repoagent-directory=hush --rate-limit=hush");
    assert_int_equal(run->diagnostics.error_count, 2);
    assert_says(run, "error: --repoagent-directory is not supported: ");
    assert_null(strstr(texts(run), "hush"));
}

/* A flag that asks for what is the case anyway is silent; anything else is not. */
static void test_options_status_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        char flag[128];
        if (!option->name || option->status == MD_OPTION_WORKS) {
            continue;
        }
        (void)snprintf(flag, sizeof flag, "--%s=something", option->name);
        struct run *run = parse_flags(flag);
        assert_int_equal(run->ok, option->status == MD_OPTION_NO_EFFECT);
        assert_int_equal(run->diagnostics.count, 1);
        if (option->fine) {
            (void)snprintf(flag, sizeof flag, "--%s=%s", option->name, option->fine);
            assert_string_equal(texts(parse_flags(flag)), "");
        }
    }
}

/* --- sources -------------------- */

static void test_options_precedence(void **state)
{
    static const struct {
        struct input input;
        const char *value;
    } rows[] = {
        {{.flags = ""}, "modeld"},
        {{.flags = "--config=f", .file = "id: file"}, "file"},
        {{.flags = "--config=f", .environment = "MODELD_ID=env", .file = "id: file"}, "env"},
        {{.flags = "--config=f --id=flag", .environment = "MODELD_ID=env", .file = "id: file"},
         "flag"},
        {{.environment = "MODELD_CONFIG=f", .file = "id: file"}, "file"},
        {{.flags = "--id=flag --compat=triton"}, "flag"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = parse(&rows[i].input);
        assert_string_equal(texts(run), "");
        assert_string_equal(run->options.id, rows[i].value);
    }
}

static void test_options_stronger_source_replaces_a_list(void **state)
{
    struct input input = {.flags = "--config=f --model-control-mode=explicit",
                          .environment = "MODELD_LOAD_MODEL=a;;b;",
                          .file = "load_model: [c, d]"};

    (void)state;
    assert_string_equal(value(parse(&input), "load-model"), "a b");
    input.environment = "";
    assert_string_equal(value(parse(&input), "load-model"), "c d");
    input.flags = "--config=f --model-control-mode=explicit --load-model=e";
    assert_string_equal(value(parse(&input), "load-model"), "e");
}

static void test_options_file_that_cannot_be_read(void **state)
{
    (void)state;
    struct run *run = parse_flags("--config=none.yaml");
    assert_false(run->ok);
    assert_says(run, "error: --config: none.yaml cannot be read");
}

static void test_options_environment(void **state)
{
    static const struct {
        const char *environment, *text;
    } rows[] = {
        {"MODELD_HTTP_PORT=9000 HTTP_PORT=x MODELD=1 MODELD_=2 =3 NOTHING", ""},
        {"MODELD_BUILD_NUMBER=77 MODELD_SERVICE_HOST=10.0.0.1", ""},
        {"MODELD_VERSION=1.2 MODELD_HELP=x", ""}, /* images set these; they are no settings */
        {"MODELD_PORT=tcp://10.0.0.1:80 MODELD_PORT_80_TCP_ADDR=10.0.0.1", ""},
        {"MODELD_METRICS_PORT=tcp://10.0.0.1:80",
         "warning: MODELD_METRICS_PORT is left out: it names a service, not a number\n"},
        {"MODELD_HTTP_PROT=1", "warning: MODELD_HTTP_PROT is no option, did you mean "
                               "MODELD_HTTP_PORT?\n"},
        {"MODELD_HTTP_PORT=x", "error: MODELD_HTTP_PORT must be a number in 0..65535, got 'x'\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = parse(&(struct input){.environment = rows[i].environment});
        assert_string_equal(texts(run), rows[i].text);
        assert_int_equal(run->options.help || run->options.version, false);
    }
    assert_int_equal(parse(&(struct input){.environment = rows[0].environment})->options.http_port,
                     9000);
}

/* --- defaults -------------------- */

static void test_options_every_default_of_both_columns(void **state)
{
    (void)state;
    for (int triton = 0; triton < 2; triton++) {
        struct run *run = parse_flags(triton ? "--compat=triton" : "");
        struct md_options *expected = test_calloc(1, sizeof *expected);
        struct md_error err;
        assert_string_equal(texts(run), "");
        for (size_t i = 0; i < md_option_count; i++) {
            const struct md_option *option = &md_option_table[i];
            const char *text =
                triton && option->triton_value ? option->triton_value : option->value;
            if (option->offset == SIZE_MAX || !text || strcmp(text, "auto") == 0) {
                continue;
            }
            char found[64];
            (void)snprintf(found, sizeof found, "%s", value_of(&run->options, option));
            assert_true(md_option_store(option, md_str_of(text), &run->arena, expected, &err));
            assert_string_equal(found, value_of(expected, option));
        }
        test_free(expected);
    }
}

static void test_options_who_chooses_the_column(void **state)
{
    static const struct {
        struct input input;
        bool triton;
    } rows[] = {
        {{.program = "/usr/bin/modeld"}, false},
        {{.program = "tritonserver"}, true},
        {{.program = "/opt/tritonserver/bin/tritonserver"}, true},
        {{.program = "/opt/tritonserver/modeld"}, false},
        {{.program = "tritonserver", .flags = "--compat=none"}, false},
        {{.flags = "--compat triton"}, true},
        {{.flags = "--compat=none", .environment = "MODELD_COMPAT=triton"}, false},
        {{.environment = "MODELD_COMPAT=triton"}, true},
        {{.flags = "--config=f", .file = "compat: triton"}, true},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = parse(&rows[i].input);
        assert_string_equal(texts(run), "");
        assert_string_equal(run->options.compat, rows[i].triton ? "triton" : "none");
        assert_int_equal(run->options.exit_on_error, rows[i].triton);
        assert_int_equal(run->options.not_ready_status, rows[i].triton ? 400 : 503);
        assert_int_equal(run->options.health_body, !rows[i].triton);
        assert_int_equal(run->options.default_max_batch_size, rows[i].triton ? 4 : 0);
    }
}

static void test_options_addresses(void **state)
{
    static const struct {
        struct input input;
        const char *http, *metrics;
    } rows[] = {
        {{.flags = ""}, "127.0.0.1", "127.0.0.1"},
        {{.flags = "", .in_container = true}, "0.0.0.0", "0.0.0.0"},
        {{.flags = "--compat=triton"}, "0.0.0.0", "0.0.0.0"},
        {{.flags = "--http-address=10.1.1.1"}, "10.1.1.1", "10.1.1.1"},
        {{.flags = "--compat=triton --http-address=::1"}, "::1", "::1"},
        {{.flags = "--metrics-address=10.2.2.2", .in_container = true}, "0.0.0.0", "10.2.2.2"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct run *run = parse(&rows[i].input);
        assert_string_equal(run->options.http_address, rows[i].http);
        assert_string_equal(run->options.metrics_address, rows[i].metrics);
    }
}

static void test_options_that_contradict_each_other(void **state)
{
    static const struct {
        struct input input;
        const char *text;
    } rows[] = {
        {{.flags = "--load-model=a"}, "error: --load-model needs --model-control-mode=explicit\n"},
        {{.environment = "MODELD_LOAD_MODEL=a"},
         "error: MODELD_LOAD_MODEL needs --model-control-mode=explicit\n"},
        {{.flags = "--model-repository="},
         "error: --model-repository is empty: name a folder with models\n"},
        {{.flags = "--model-repository=a --model-repository=b --model-name=c"},
         "error: --model-name names one model, and there are 2 folders in --model-repository\n"},
        {{.flags = "--http-port=8002"}, "error: --http-port and --metrics-port are both 8002\n"},
        {{.flags = "--http-port=0 --metrics-port=0"}, ""},
        {{.flags = "--http-port=8002 --allow-metrics=false"}, ""},
        {{.flags = "--http-port=8002 --metrics-address=127.0.0.2"}, ""},
        {{.flags = "--http-port=8001 --grpc-port=8002"},
         "error: --grpc-port and --metrics-port are both 8002\n"},
        {{.flags = "--grpc-port=8000"}, "error: --http-port and --grpc-port are both 8000\n"},
        {{.flags = "--allow-http=false"}, ""},
        {{.flags = "--allow-http=false --allow-grpc=false"},
         "warning: --allow-http and --allow-grpc are false and there is no --http-unix-socket: "
         "nothing takes requests\n"},
        {{.flags = "--allow-http=false --http-unix-socket=/s"}, ""},
        {{.flags = "--management=key"},
         "error: --management is key and needs --management-key-file\n"},
        {{.flags = "--management=key --management-key-file=/k"}, ""},
        {{.flags = "--management-key-file=/k"},
         "warning: --management-key-file has no effect: --management is unix\n"},
        {{.flags = "--management=local"},
         "error: --management must be one of unix|key|open, got 'local'\n"},
        {{.flags = "--http-restricted-api=helth:k=hush"},
         "error: --http-restricted-api names the unknown group 'helth', did you mean 'health'?\n"},
        {{.environment = "MODELD_HTTP_RESTRICTED_API=trace:k=v;logging,trace:k=v"},
         "error: MODELD_HTTP_RESTRICTED_API names the group 'trace' twice: which key counts is a "
         "guess\n"},
        {{.flags = "--grpc-restricted-protocol=trace"},
         "error: --grpc-restricted-protocol must be GROUP[,GROUP...]:KEY=VALUE, where KEY is the "
         "name of a header and VALUE is not empty\n"},
        {{.flags = "--http-restricted-api=trace:k=v --grpc-restricted-protocol=trace:k=v"}, ""},
        {{.flags = "--metrics-config=max_models=x"},
         "error: --metrics-config max_models must be a number, got 'x'\n"},
        {{.flags = "--metrics-config=max_modles=3"},
         "error: --metrics-config has no setting 'max_modles', did you mean 'max_models'?\n"},
        {{.flags = "--metrics-config=a,b=3"}, "error: --metrics-config has no setting 'a,b'\n"},
        {{.flags = "--metrics-config=max_models=3 --metrics-config=detail=resnet*"}, ""},
        {{.flags = "--metrics-config=counter_latencies=false"}, ""},
        {{.flags = "--metrics-config=counter_latencies=1"},
         "error: --metrics-config counter_latencies must be true or false, got '1'\n"},
        {{.flags = "--metrics-config=summary_latencies=false"}, ""},
        {{.flags = "--access-log --log-info=false"},
         "warning: --access-log writes informational lines, and --log-info is false\n"},
        {{.flags = "--inflight-bytes=1M"},
         "warning: --inflight-bytes is smaller than "
         "--http-max-input-size: larger bodies are refused\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_string_equal(texts(parse(&rows[i].input)), rows[i].text);
    }
}

/* --- the file -------------------- */

static void test_options_file_errors_have_their_place(void **state)
{
    static const struct {
        const char *file, *text;
    } rows[] = {
        {"http_port: 1\nhttp-port: 2\n",
         "m.yaml:2:1: error: 'http-port' is given twice, first in line 1\n"},
        {"{http-port: 1, http-port: 2}",
         "m.yaml:1:16: error: 'http-port' is given twice, first in line 1\n"},
        {"models:\nmodels:\n", "m.yaml:2:1: error: 'models' is given twice, first in line 1\n"},
        {"\nhttp-prot: 1\n",
         "m.yaml:2:1: error: unknown option 'http-prot', did you mean 'http-port'?\n"},
        {"model: []\n", "m.yaml:1:1: error: unknown option 'model', did you mean 'models'?\n"},
        {"quux: {a: [b]}\nid: x\n", "m.yaml:1:1: error: unknown option 'quux'; --help lists all\n"},
        {"id: [x]\n", "m.yaml:1:5: error: this option takes one value, not a list\n"},
        {"id: \"a\\0b\"\n", "m.yaml:1:5: error: id holds a zero byte\n"},
        {"help: true\n", "m.yaml:1:1: error: 'help' cannot stand in a file\n"},
        {"config: other.yaml\n", "m.yaml:1:1: error: 'config' cannot stand in a file\n"},
        {"allow-sagemaker: yes\n",
         "m.yaml:1:18: error: allow-sagemaker is not supported: there is no SageMaker endpoint; "
         "call the paths under /v2\n"},
        {"grpc-infer-cq-count: 2\n",
         "m.yaml:1:22: warning: grpc-infer-cq-count has no effect: all ports share the event "
         "loops\n"},
        {"models: [{pattern: a, config: {\n\n max_batch_siz: 3}}]",
         "m.yaml:3: error: unknown field 'max_batch_siz' in ModelConfig, did you mean "
         "'max_batch_size'?\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_string_equal(texts(parse_file(rows[i].file)), rows[i].text);
    }
}

static void test_options_file_keys_without_value_are_not_set(void **state)
{
    (void)state;
    struct run *run = parse_file("id:\nhttp-port: ~\nlog-file: ''\nload-model: []\nmodels:\n");
    assert_string_equal(texts(run), "");
    assert_string_equal(run->options.id, "modeld");
    assert_int_equal(run->options.http_port, 8000);
    assert_string_equal(run->options.log_file, "");
}

static void test_options_overlays_are_kept_in_order(void **state)
{
    static const char file[] = "id: x\n"
                               "models:\n"
                               "  - pattern: \"resnet*\"\n"
                               "    config:\n"
                               "      max_batch_size: 16\n"
                               "      instance_group: [{count: 2, kind: KIND_CPU}]\n"
                               "  - config: {parameters: {a: {string_value: \"1\"}}}\n"
                               "    pattern: b\n";

    (void)state;
    struct run *run = parse_file(file);
    assert_string_equal(texts(run), "");
    assert_int_equal(run->options.overlay_count, 2);
    const struct md_overlay *overlays = run->options.overlays;
    assert_string_equal(overlays[0].pattern, "resnet*");
    assert_int_equal(overlays[0].line, 3);
    assert_true(md_str_eq_c(overlays[0].config_json,
                            "\n\n\n\n{\"max_batch_size\":16,\n\"instance_group\":[{\"count\":2,"
                            "\"kind\":\"KIND_CPU\"}]}"));
    assert_string_equal(overlays[1].pattern, "b");
    assert_int_equal(overlays[1].line, 7);
}

static void test_options_many_overlays(void **state)
{
    struct md_bytes text = {0};

    (void)state;
    md_bytes_append_c(&text, "models:\n");
    for (size_t i = 0; i < 500; i++) {
        md_bytes_printf(&text, "- {pattern: m%zu, config: {max_batch_size: %zu}}\n", i, i);
    }
    md_bytes_append_char(&text, '\0');
    struct run *run = parse_file(text.data);
    assert_string_equal(texts(run), "");
    assert_int_equal(run->options.overlay_count, 500);
    assert_string_equal(run->options.overlays[499].pattern, "m499");
    md_bytes_deinit(&text);
}

/* --- pages -------------------- */

static void test_options_help_fits_and_is_complete(void **state)
{
    struct md_bytes page = {0};
    struct md_str line, rest;

    (void)state;
    md_options_print_help(&page);
    assert_false(page.failed);
    for (rest = md_bytes_view(&page); md_str_split(&rest, '\n', &line);) {
        assert_true(line.len <= 100);
        assert_true(!line.len || line.ptr[line.len - 1] != ' ');
    }
    md_bytes_append_char(&page, '\0');
    for (size_t i = 0; i < md_option_count; i++) {
        char flag[96];
        (void)snprintf(flag, sizeof flag, "\n  --%s",
                       md_option_table[i].name ? md_option_table[i].name : "help");
        assert_non_null(strstr(page.data, flag));
    }
    md_bytes_deinit(&page);
}

static void test_options_reference_page_is_up_to_date(void **state)
{
    static char committed[256 * 1024];
    struct md_bytes page = {0};

    (void)state;
    FILE *file = fopen("../docs/options.md", "r");
    assert_non_null(file);
    size_t len = fread(committed, 1, sizeof committed, file);
    (void)fclose(file);
    md_options_print_markdown(&page);
    if (!md_str_eq(md_bytes_view(&page), md_str_make(committed, len))) {
        fail_msg("%s", "refresh it: build/release/modeld --help-markdown > docs/options.md");
    }
    md_bytes_deinit(&page);
}

/* --- torture -------------------- */

static void test_options_survive_any_failed_allocation(void **state)
{
    static const struct input input = {
        .flags = "--config=f --model-repository=a --model-repository=b --grpc-port=1 --nonsense",
        .environment = "MODELD_LOAD_MODEL=a;b MODELD_HTTP_PORT=x",
        .file =
            "id: x\nquux: 1\nmodels:\n- {pattern: a, config: {max_batch_size: 1, input: [{name: x}]}}\n"};

    (void)state;
    for (long i = 0;; i++) {
        md_fault_arm(MD_FAULT_ALLOC, i);
        struct run *run = parse(&input);
        bool delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_false(run->ok);
        if (!delivered) {
            assert_int_equal(run->diagnostics.error_count, 3);
            assert_true(i > 3);
            break;
        }
    }
}

/* The same without anything wrong: only the lack of memory may make it fail. */
static void test_options_lack_of_memory_is_reported(void **state)
{
    static const struct input input = {
        .flags = "--config=f --model-repository=a --model-control-mode=explicit",
        .environment = "MODELD_LOAD_MODEL=a;b",
        .file =
            "id: x\nmodels:\n- {pattern: a, config: {max_batch_size: 1, input: [{name: x}]}}\n"};

    (void)state;
    for (long i = 0;; i++) {
        md_fault_arm(MD_FAULT_ALLOC, i);
        struct run *run = parse(&input);
        if (!md_fault_disarm(MD_FAULT_ALLOC)) {
            assert_true(run->ok);
            break;
        }
        assert_false(run->ok);
        assert_true(run->diagnostics.count > 0);
    }
    for (long i = 0; i < 3; i++) {
        struct md_bytes page = {0};
        md_fault_arm(MD_FAULT_ALLOC, i);
        md_options_print_help(&page);
        assert_true(md_fault_disarm(MD_FAULT_ALLOC));
        assert_true(page.failed);
        md_bytes_deinit(&page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_table_is_consistent),
        cmocka_unit_test(test_options_take_every_flag_of_triton),
        cmocka_unit_test(test_options_of_triton_are_all_listed),
        cmocka_unit_test(test_options_values_are_read_by_kind),
        cmocka_unit_test(test_options_bad_flags_are_named),
        cmocka_unit_test(test_options_all_errors_come_at_once),
        cmocka_unit_test(test_options_wrong_values_count_as_not_given),
        cmocka_unit_test(test_options_list_is_bounded),
        cmocka_unit_test(test_options_without_effect_warn_once),
        cmocka_unit_test(test_options_refused_ones_keep_secrets),
        cmocka_unit_test(test_options_status_decides),
        cmocka_unit_test(test_options_precedence),
        cmocka_unit_test(test_options_stronger_source_replaces_a_list),
        cmocka_unit_test(test_options_file_that_cannot_be_read),
        cmocka_unit_test(test_options_environment),
        cmocka_unit_test(test_options_every_default_of_both_columns),
        cmocka_unit_test(test_options_who_chooses_the_column),
        cmocka_unit_test(test_options_addresses),
        cmocka_unit_test(test_options_that_contradict_each_other),
        cmocka_unit_test(test_options_file_errors_have_their_place),
        cmocka_unit_test(test_options_file_keys_without_value_are_not_set),
        cmocka_unit_test(test_options_overlays_are_kept_in_order),
        cmocka_unit_test(test_options_many_overlays),
        cmocka_unit_test(test_options_help_fits_and_is_complete),
        cmocka_unit_test(test_options_reference_page_is_up_to_date),
        cmocka_unit_test(test_options_survive_any_failed_allocation),
        cmocka_unit_test(test_options_lack_of_memory_is_reported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
