/*
 * Start, wiring, drain, shutdown.
 *
 * Start: options -> repositories scanned -> loops, listeners bound -> HTTP answers (live, not
 * ready) -> models loaded -> ready. End (SIGTERM, /v2/drain): readiness turns -> after
 * --drain-delay-secs listeners close and connections are told -> requests in flight finish within
 * --exit-timeout-secs -> everything is freed in the reverse order. A second signal ends at once.
 */
#include "server/server.h"

#include "api/metrics.h"
#include "api/oip/oip.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/cpu_plan.h"
#include "os/file.h"
#include "os/log_file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/signal.h"

#include <stdio.h>

enum {
    EXIT_FAILED = 1,
    EXIT_OPTIONS = 2,
    CONFIG_FILE_MAX = 1 << 20,
    LOOPS_MAX = 256,
    LOOP_CACHE_BYTES = 32 << 20,
    INLINE_LIMIT_NS = 20000,
    WAIT_STEP_MS = 20,
    METRICS_CONNECTIONS = 64,
    INFLIGHT_LEAST = 64 << 20,
};

enum phase { PHASE_STARTING, PHASE_SERVING, PHASE_DRAINING, PHASE_ENDING };

/* What one loop keeps for the server. */
struct loop_part {
    struct md_session_list http, metrics;
    struct md_loop_task drain, abort, probe;
    struct server *server;
    struct md_loop *loop;
    atomic_size_t sessions; /* as of the last probe */
};

struct server {
    struct md_arena arena;
    struct md_options options;
    struct md_diagnostics diagnostics;
    struct md_cpu_plan plan;
    struct md_budget budget;
    struct md_loop *loops[LOOPS_MAX];
    struct loop_part *parts; /* own, one for each loop */
    size_t loop_count;
    struct md_http_counters *http_counters, *metrics_counters;
    struct md_http_config http_config, metrics_config;
    struct md_listener *http, *unix_socket, *metrics_listener;
    struct md_device *device;
    struct md_backends *backends;
    struct md_models *models;
    struct md_oip oip;
    struct md_metrics metrics;
    atomic_int phase; /* enum phase */
    bool loops_running;
    atomic_size_t probes; /* loops that have not answered the current probe */
};

/* --- what dialects ask -------------------- */

static bool is_live(void *arg)
{
    (void)arg;
    return true;
}

static bool is_exiting(void *arg)
{
    return atomic_load(&((struct server *)arg)->phase) >= PHASE_DRAINING;
}

static bool is_ready(void *arg)
{
    struct server *server = arg;

    return atomic_load(&server->phase) == PHASE_SERVING &&
           (!server->options.strict_readiness || md_models_failed_count(server->models) == 0);
}

static void drain(void *arg)
{
    struct server *server = arg;
    int serving = PHASE_SERVING;

    if (atomic_compare_exchange_strong(&server->phase, &serving, PHASE_DRAINING)) {
        md_log(MD_LOG_INFO, "asked to drain: not ready from now on");
    }
}

/* --- options -------------------- */

static bool read_config_file(void *arg, const char *path, struct md_arena *arena,
                             struct md_str *out, struct md_error *err)
{
    (void)arg;
    return md_os_file_read(path, CONFIG_FILE_MAX, arena, out, err);
}

static void print_diagnostics(const struct md_diagnostics *diagnostics, size_t from)
{
    struct md_bytes text = {0};

    for (size_t i = from; i < diagnostics->count; i++) {
        md_diagnostic_print(&diagnostics->items[i], &text);
        md_bytes_append_char(&text, '\n');
    }
    if (diagnostics->count == MD_DIAGNOSTICS_MAX) {
        md_bytes_append_c(&text, "there is more: fix these first\n");
    }
    md_os_process_write(2, md_bytes_view(&text));
    md_bytes_deinit(&text);
}

static void print_page(void (*print)(struct md_bytes *out))
{
    struct md_bytes text = {0};

    print(&text);
    md_os_process_write(1, md_bytes_view(&text));
    md_bytes_deinit(&text);
}

static void print_version(struct md_bytes *out)
{
    md_bytes_append_c(out, "modeld " MODELD_VERSION "\n");
}

static bool open_log(struct server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    enum md_log_format format = strcmp(options->log_format, "json") == 0 ? MD_LOG_FORMAT_JSON
                                : strcmp(options->log_format, "ISO8601") == 0
                                    ? MD_LOG_FORMAT_ISO8601
                                    : MD_LOG_FORMAT_DEFAULT;

    md_log_set_enabled(MD_LOG_INFO, options->log_info);
    md_log_set_enabled(MD_LOG_WARNING, options->log_warning);
    md_log_set_enabled(MD_LOG_ERROR, options->log_error);
    md_log_set_enabled(MD_LOG_VERBOSE, options->log_verbose > 0);
    return md_os_log_open(options->log_file && *options->log_file ? options->log_file : NULL,
                          format, err);
}

static void log_diagnostics(const struct md_diagnostics *diagnostics, size_t from)
{
    static const enum md_log_level levels[] = {MD_LOG_ERROR, MD_LOG_WARNING, MD_LOG_INFO};

    for (size_t i = from; i < diagnostics->count; i++) {
        struct md_bytes text = {0};
        md_diagnostic_print(&diagnostics->items[i], &text);
        md_log(levels[diagnostics->items[i].severity], "%.*s", MD_STR_ARG(md_bytes_view(&text)));
        md_bytes_deinit(&text);
    }
}

/* --- wiring -------------------- */

static void access_log(void *arg, const struct md_exchange *x, unsigned status, uint64_t sent_bytes)
{
    uint64_t us = (md_clock_monotonic_ns() - x->begin_ns) / MD_NS_PER_US;

    (void)arg;
    md_log(MD_LOG_INFO, "access %s %.*s %.*s %u %llu bytes %llu us", x->peer,
           MD_STR_ARG(x->head.method_name), MD_STR_ARG(x->head.path), status,
           (unsigned long long)sent_bytes, (unsigned long long)us);
}

static uint64_t seconds(uint64_t value)
{
    return value * MD_NS_PER_S;
}

static bool configure_http(struct server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    struct md_str *origins =
        md_arena_alloc(&server->arena, options->http_cors_allow_origin.count * sizeof *origins);

    server->http_counters =
        md_alloc_aligned(MD_CACHE_LINE, server->loop_count * sizeof *server->http_counters);
    server->metrics_counters =
        md_alloc_aligned(MD_CACHE_LINE, server->loop_count * sizeof *server->metrics_counters);
    if (!origins || !server->http_counters || !server->metrics_counters) {
        return md_error_no_memory(err, "the HTTP configuration");
    }
    memset(server->http_counters, 0, server->loop_count * sizeof *server->http_counters);
    memset(server->metrics_counters, 0, server->loop_count * sizeof *server->metrics_counters);
    for (size_t i = 0; i < options->http_cors_allow_origin.count; i++) {
        origins[i] = md_str_of(options->http_cors_allow_origin.items[i]);
    }
    server->http_config = (struct md_http_config){
        .route = md_oip_route,
        .route_arg = &server->oip,
        .max_header_bytes = options->http_max_header_size,
        .max_header_count = options->http_max_header_count,
        .max_body_bytes = options->http_max_input_size,
        .idle_timeout_ns = seconds(options->http_idle_timeout_secs),
        .header_timeout_ns = seconds(options->http_header_timeout_secs),
        .body_timeout_ns = seconds(options->http_body_timeout_secs),
        .cors_origins = origins,
        .cors_origin_count = options->http_cors_allow_origin.count,
        .access_log = options->access_log ? access_log : NULL,
        .counters = server->http_counters,
    };
    server->metrics_config = server->http_config;
    server->metrics_config.route = md_metrics_route;
    server->metrics_config.route_arg = &server->metrics;
    server->metrics_config.counters = server->metrics_counters;
    server->metrics_config.access_log = NULL;
    return true;
}

static bool create_loops(struct server *server, struct md_error *err)
{
    server->parts = md_calloc(server->plan.loops, sizeof *server->parts);
    if (!server->parts) {
        return md_error_no_memory(err, "the loops");
    }
    for (unsigned i = 0; i < server->plan.loops; i++) {
        const struct md_loop_options options = {
            .index = i,
            .spin_us = server->plan.may_spin ? (unsigned)server->options.spin_us : 0,
            .cpu = -1,
            .budget = &server->budget,
            .cache_bytes = LOOP_CACHE_BYTES,
        };
        if (!md_loop_create(&options, &server->loops[i], err)) {
            return false;
        }
        server->parts[i].server = server;
        server->parts[i].loop = server->loops[i];
        server->loop_count++;
    }
    return true;
}

static void accepted_http(void *arg, struct md_conn *conn)
{
    struct server *server = arg;

    md_session_start(conn, &server->http_config,
                     &server->parts[md_loop_index(md_conn_loop(conn))].http);
}

static void accepted_metrics(void *arg, struct md_conn *conn)
{
    struct server *server = arg;

    md_session_start(conn, &server->metrics_config,
                     &server->parts[md_loop_index(md_conn_loop(conn))].metrics);
}

static bool listen_on(struct server *server, const char *name, const char *address, uint64_t port,
                      size_t connections, void (*accepted)(void *arg, struct md_conn *conn),
                      struct md_listener **out, struct md_error *err)
{
    const struct md_listener_options options = {
        .address = address,
        .port = (uint16_t)port,
        .reuse_port = server->options.reuse_http_port,
        .name = name,
        .max_connections = connections,
        .loops = server->loops,
        .loop_count = server->loop_count,
        .accepted = accepted,
        .arg = server,
    };

    if (!md_listener_create(&options, out, err)) {
        return false;
    }
    md_log(MD_LOG_INFO, "%s on %s%s%.0u", name, address, md_listener_port(*out) ? " port " : "",
           md_listener_port(*out));
    return true;
}

static bool listen_all(struct server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    char unix_address[4096];

    if (options->allow_http &&
        !listen_on(server, "http", options->http_address, options->http_port,
                   options->max_connections, accepted_http, &server->http, err)) {
        return false;
    }
    if (options->http_unix_socket) {
        (void)snprintf(unix_address, sizeof unix_address, "unix:%s", options->http_unix_socket);
        if (!listen_on(server, "http", unix_address, 0, options->max_connections, accepted_http,
                       &server->unix_socket, err)) {
            return false;
        }
    }
    return !options->allow_metrics ||
           listen_on(server, "metrics", options->metrics_address, options->metrics_port,
                     METRICS_CONNECTIONS, accepted_metrics, &server->metrics_listener, err);
}

/* --- backends' options -------------------- */

static bool create_backends(struct server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    struct md_backend_setting *settings =
        md_arena_calloc(&server->arena, options->backend_config.count, sizeof *settings);
    const char **directories = md_arena_calloc(&server->arena, 3, sizeof *directories);
    struct md_backends_options backends = {.settings = settings,
                                           .directories = directories,
                                           .engine_threads = server->plan.engine_threads};
    const char *program;

    if (!settings || !directories || !md_os_process_directory(&server->arena, &program, err)) {
        return md_error_no_memory(err, "the backends");
    }
    for (size_t i = 0; i < options->backend_config.count; i++) {
        struct md_str rest = md_str_of(options->backend_config.items[i]), backend = MD_STR(""), key;
        if (md_str_find(rest, ',') >= 0) {
            (void)md_str_split(&rest, ',', &backend);
        }
        (void)md_str_split(&rest, '=', &key);
        settings[i].backend = md_arena_copy(&server->arena, backend);
        settings[i].key = md_arena_copy(&server->arena, key);
        settings[i].value = md_arena_copy(&server->arena, rest.ptr ? rest : MD_STR(""));
    }
    backends.setting_count = options->backend_config.count;
    if (options->backend_directory) {
        directories[backends.directory_count++] = options->backend_directory;
    } else {
        directories[backends.directory_count++] =
            md_arena_printf(&server->arena, "%s/backends", program);
        directories[backends.directory_count++] =
            md_arena_printf(&server->arena, "%s/../lib/modeld/backends", program);
    }
    return md_backends_create(&backends, &server->backends, err);
}

static void make_plan(struct server *server)
{
    const struct md_options *options = &server->options;
    const struct md_cpu_grant grant = {
        .cpus = md_os_process_cpu_count(),
        .quota = md_os_process_cpu_quota(),
        .wanted_cpus = (unsigned)options->cpu_count,
        .wanted_loops = (unsigned)options->http_thread_count,
        .wanted_executors = (unsigned)options->executor_threads,
        .wanted_engine_threads = (unsigned)options->engine_threads,
    };

    md_cpu_plan_make(&grant, &server->plan);
    size_t inflight = options->inflight_bytes ? options->inflight_bytes : md_os_memory_limit() / 8;
    md_budget_init(&server->budget,
                   md_size_max(inflight, options->inflight_bytes ? 1 : INFLIGHT_LEAST));
    md_log(
        MD_LOG_INFO,
        "modeld %s: %u CPUs, %u loops, %u executors, %u engine threads, %zu MiB may be in flight",
        MODELD_VERSION, server->plan.cpus, server->plan.loops, server->plan.executors,
        server->plan.engine_threads, server->budget.limit_bytes >> 20);
}

static bool create_models(struct server *server, struct md_error *err)
{
    const struct md_models_options options = {.options = &server->options,
                                              .backends = server->backends,
                                              .device = server->device,
                                              .loop_count = server->loop_count};
    size_t before = server->diagnostics.count;

    if (!md_models_create(&options, &server->diagnostics, &server->models, err)) {
        return false;
    }
    if (!server->options.check_config) {
        log_diagnostics(&server->diagnostics, before);
    }
    return true;
}

static bool wire(struct server *server, struct md_error *err)
{
    const struct md_device_options device = {.executor_count = server->plan.executors,
                                             .budget = &server->budget,
                                             .inline_limit_ns = INLINE_LIMIT_NS};

    if (!create_loops(server, err) || !configure_http(server, err) ||
        !create_backends(server, err) || !md_device_create(&device, &server->device, err) ||
        !create_models(server, err)) {
        return false;
    }
    server->oip = (struct md_oip){
        .models = server->models,
        .options = &server->options,
        .version = MODELD_VERSION,
        .max_binary_bytes = server->budget.limit_bytes,
        .server = server,
        .is_live = is_live,
        .is_ready = is_ready,
        .is_exiting = is_exiting,
        .drain = drain,
    };
    server->metrics.models = server->models;
    server->metrics.http = server->http_counters;
    server->metrics.loop_count = server->loop_count;
    server->metrics.budget = &server->budget;
    server->metrics.version = MODELD_VERSION;
    if (!md_metrics_configure(&server->metrics, &server->options.metrics_config, err) ||
        !listen_all(server, err)) {
        return false;
    }
    server->metrics.listener = server->http;
    return true;
}

static bool start_loops(struct server *server, struct md_error *err)
{
    struct md_listener *listeners[] = {server->http, server->unix_socket, server->metrics_listener};

    for (size_t i = 0; i < server->loop_count; i++) {
        if (!md_loop_start(server->loops[i], err)) {
            server->loop_count = i; /* what runs is stopped */
            server->loops_running = i > 0;
            return false;
        }
    }
    server->loops_running = true;
    for (size_t i = 0; i < MD_COUNT_OF(listeners); i++) {
        if (listeners[i] && !md_listener_start(listeners[i], err)) {
            return false;
        }
    }
    return true;
}

/* --- end -------------------- */

static void drain_sessions(struct md_loop_task *task)
{
    struct loop_part *part = MD_CONTAINER_OF(task, struct loop_part, drain);

    md_session_list_drain(&part->http);
    md_session_list_drain(&part->metrics);
}

static void abort_sessions(struct md_loop_task *task)
{
    struct loop_part *part = MD_CONTAINER_OF(task, struct loop_part, abort);

    md_session_list_abort(&part->http);
    md_session_list_abort(&part->metrics);
}

static void probe_sessions(struct md_loop_task *task)
{
    struct loop_part *part = MD_CONTAINER_OF(task, struct loop_part, probe);

    atomic_store(&part->sessions, part->http.count + part->metrics.count);
    atomic_fetch_sub(&part->server->probes, 1);
}

/* Waits until no session is left, a signal comes (true), or the time is over. Every step asks the
 * loops anew. */
static bool wait_for_sessions(struct server *server, uint64_t deadline_ns, bool *interrupted)
{
    for (;;) {
        size_t left = 0;
        if (atomic_load(&server->probes) == 0) {
            for (size_t i = 0; i < server->loop_count; i++) {
                left += atomic_load(&server->parts[i].sessions);
            }
            if (left == 0) {
                return true;
            }
            atomic_store(&server->probes, server->loop_count);
            for (size_t i = 0; i < server->loop_count; i++) {
                server->parts[i].probe.run = probe_sessions;
                md_loop_post(server->loops[i], &server->parts[i].probe);
            }
        }
        if (md_clock_monotonic_ns() >= deadline_ns) {
            return false;
        }
        int number = md_os_signal_wait(WAIT_STEP_MS);
        if (number && !md_os_signal_is_reload(number)) {
            *interrupted = true;
            return false;
        }
    }
}

static void post_all(struct server *server, void (*run)(struct md_loop_task *task), bool abort)
{
    for (size_t i = 0; i < server->loop_count; i++) {
        struct md_loop_task *task = abort ? &server->parts[i].abort : &server->parts[i].drain;
        task->run = run;
        md_loop_post(server->loops[i], task);
    }
}

/* 0 when every request was answered. */
static int end_sessions(struct server *server)
{
    struct md_listener *listeners[] = {server->http, server->unix_socket, server->metrics_listener};
    uint64_t timeout_ns = seconds(server->options.exit_timeout_secs);
    bool interrupted = false;

    atomic_store(&server->phase, PHASE_ENDING);
    for (size_t i = 0; i < MD_COUNT_OF(listeners); i++) {
        if (listeners[i]) {
            md_listener_stop(listeners[i]);
        }
    }
    post_all(server, drain_sessions, false);
    for (size_t i = 0; i < server->loop_count; i++) {
        atomic_store(&server->parts[i].sessions, 1); /* unknown until the first probe */
    }
    if (wait_for_sessions(server, md_clock_monotonic_ns() + timeout_ns, &interrupted)) {
        return 0;
    }
    md_log(MD_LOG_WARNING, interrupted
                               ? "ending at once"
                               : "--exit-timeout-secs is over: requests in flight are cut off");
    post_all(server, abort_sessions, true);
    if (!wait_for_sessions(server, md_clock_monotonic_ns() + MD_NS_PER_S, &interrupted)) {
        /* A backend does not let go of a request: nothing can be freed safely. */
        md_os_process_exit_now(EXIT_FAILED);
    }
    return EXIT_FAILED;
}

static void unwire(struct server *server)
{
    if (server->loops_running) {
        for (size_t i = 0; i < server->loop_count; i++) {
            md_loop_stop(server->loops[i]);
        }
        for (size_t i = 0; i < server->loop_count; i++) {
            md_loop_join(server->loops[i]);
        }
    }
    md_models_destroy(server->models);
    md_device_destroy(server->device);
    md_backends_destroy(server->backends);
    md_listener_destroy(server->http);
    md_listener_destroy(server->unix_socket);
    md_listener_destroy(server->metrics_listener);
    for (size_t i = 0; i < LOOPS_MAX; i++) {
        md_loop_destroy(server->loops[i]);
    }
    md_free(server->http_counters);
    md_free(server->metrics_counters);
    md_free(server->parts);
}

/* --- run -------------------- */

/* Until SIGTERM or SIGINT; then the drain delay. */
static void serve(struct server *server)
{
    uint64_t drain_end_ns = 0;

    for (;;) {
        int wait_ms = drain_end_ns ? WAIT_STEP_MS : -1;
        int number = md_os_signal_wait(wait_ms);
        if (number && md_os_signal_is_reload(number)) {
            md_os_log_reopen();
        } else if (number && drain_end_ns) {
            md_log(MD_LOG_WARNING, "second signal: ending now");
            md_os_process_exit_now(EXIT_FAILED);
        } else if (number) {
            md_log(MD_LOG_INFO, "asked to end: not ready from now on");
            atomic_store(&server->phase, PHASE_DRAINING);
            drain_end_ns = md_clock_monotonic_ns() + seconds(server->options.drain_delay_secs);
        }
        if (drain_end_ns && md_clock_monotonic_ns() >= drain_end_ns) {
            return;
        }
    }
}

static int run(struct server *server)
{
    struct md_error err;
    uint64_t begin_ns = md_clock_monotonic_ns();
    int status = EXIT_FAILED;

    md_os_process_raise_descriptor_limit();
    make_plan(server);
    if (!wire(server, &err) || !start_loops(server, &err)) {
        md_log(MD_LOG_ERROR, "%s", err.text);
        goto out;
    }
    md_models_load(server->models);
    size_t failed = md_models_failed_count(server->models);
    if (failed && server->options.exit_on_error) {
        md_log(MD_LOG_ERROR, "%zu of %zu models are unavailable: ending, as --exit-on-error says",
               failed, md_models_count(server->models));
        goto out;
    }
    atomic_store(&server->phase, PHASE_SERVING);
    md_log(MD_LOG_INFO, "ready: %zu of %zu models, %.1f ms after start",
           md_models_count(server->models) - failed, md_models_count(server->models),
           (double)(md_clock_monotonic_ns() - begin_ns) / MD_NS_PER_MS);
    md_os_memory_trim(); /* of what only loading needed */
    serve(server);
    status = end_sessions(server);
out:
    unwire(server);
    return status;
}

static int check_config(struct server *server)
{
    const struct md_models_options options = {.options = &server->options};
    struct md_error err;

    if (!md_models_create(&options, &server->diagnostics, &server->models, &err)) {
        (void)md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "%s", err.text);
    }
    print_diagnostics(&server->diagnostics, 0);
    struct md_bytes text = {0};
    md_bytes_printf(&text, "%zu models, %zu errors, %zu warnings\n",
                    server->models ? md_models_count(server->models) : 0,
                    server->diagnostics.error_count, server->diagnostics.warning_count);
    md_os_process_write(1, md_bytes_view(&text));
    md_bytes_deinit(&text);
    md_models_destroy(server->models);
    return server->diagnostics.error_count ? EXIT_FAILED : 0;
}

static int with_options(struct server *server)
{
    struct md_error err;

    if (server->options.model_repository.count == 0) {
        md_os_process_write(
            2,
            MD_STR(
                "modeld: --model-repository is missing; name a folder with models (--help lists all "
                "options)\n"));
        return EXIT_OPTIONS;
    }
    if (server->options.check_config) {
        return check_config(server);
    }
    if (!open_log(server, &err)) {
        md_os_process_write(2, md_str_of(err.text));
        md_os_process_write(2, MD_STR("\n"));
        return EXIT_OPTIONS;
    }
    log_diagnostics(&server->diagnostics, 0);
    return run(server);
}

int md_server_main(int argc, char *const *argv)
{
    static const struct md_file_reader reader = {.read = read_config_file};
    struct server *server = md_alloc_aligned(MD_CACHE_LINE, sizeof *server);
    int status = EXIT_FAILED;

    if (!server) {
        md_os_process_write(2, MD_STR("modeld: out of memory\n"));
        return EXIT_FAILED;
    }
    memset(server, 0, sizeof *server);
    md_arena_init(&server->arena, 64 * 1024);
    md_diagnostics_init(&server->diagnostics, &server->arena);
    bool ok =
        md_options_parse(argc, argv, md_os_process_environment(), md_os_process_in_container(),
                         &reader, &server->arena, &server->options, &server->diagnostics);
    if (server->options.help || server->options.help_markdown || server->options.version) {
        print_page(server->options.help            ? md_options_print_help
                   : server->options.help_markdown ? md_options_print_markdown
                                                   : print_version);
        status = 0;
    } else if (!ok) {
        print_diagnostics(&server->diagnostics, 0);
        status = EXIT_OPTIONS;
    } else {
        status = with_options(server);
    }
    md_arena_deinit(&server->arena);
    md_free(server);
    return status;
}
