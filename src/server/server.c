/*
 * Start, wiring, drain, shutdown.
 *
 * Start: options -> repositories scanned -> loops, listeners bound -> HTTP answers (live, not
 * ready) -> models loaded -> ready. End (SIGTERM, SIGINT, /v2/drain): readiness turns -> after
 * --drain-delay-secs listeners close and connections are told -> requests in flight finish within
 * --exit-timeout-secs -> everything is freed in the reverse order. A second signal ends at once;
 * the one that follows /v2/drain, as in a preStop hook, is the first.
 */
#include "server/server.h"

#include "api/metrics.h"
#include "api/oip/oip.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "loop/cpu_plan.h"
#include "model/model_check.h"
#include "os/file.h"
#include "os/log_file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/signal.h"
#include "os/thread.h"

#include <stdio.h>

enum {
    EXIT_FAILED = 1,
    EXIT_OPTIONS = 2,
    CONFIG_FILE_MAX = 1 << 20,
    LOOPS_MAX = 256,
    LOOP_CACHE_BYTES = 32 << 20,
    INLINE_LIMIT_NS = 20000,
    WAIT_STEP_MS = 20,
    PROGRESS_MS = 3000, /* between lines about loading */
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
    uint64_t begin_ns;
    atomic_int phase;        /* enum phase; only grows */
    atomic_bool load_failed; /* and --exit-on-error ends the server for it */
    bool signalled;          /* main thread */
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

/* Turns readiness at once; the main thread, which is waiting, does the rest. False: it was asked
 * before. */
static bool turn_unready(struct server *server)
{
    int before = atomic_load(&server->phase);

    while (before < PHASE_DRAINING) {
        if (atomic_compare_exchange_weak(&server->phase, &before, PHASE_DRAINING)) {
            md_os_signal_wake();
            return true;
        }
    }
    return false;
}

static void begin_drain(struct server *server, const char *who)
{
    if (turn_unready(server)) {
        md_log(MD_LOG_INFO, "%s asks to end: not ready from now on", who);
    }
}

static void drain(void *arg)
{
    begin_drain(arg, "/v2/drain");
}

/* A signal to the main thread. */
static void take_signal(struct server *server, int number)
{
    if (md_os_signal_is_reload(number)) {
        md_os_log_reopen();
    }
    if (!md_os_signal_is_end(number)) {
        return;
    }
    if (server->signalled) {
        md_log(MD_LOG_WARNING, "second signal: ending now");
        md_os_process_exit_now(EXIT_FAILED);
    }
    server->signalled = true;
    begin_drain(server, "a signal");
}

/* --- options -------------------- */

static bool read_config_file(void *arg, const char *path, struct md_arena *arena,
                             struct md_str *out, struct md_error *err)
{
    (void)arg;
    return md_os_file_read(path, CONFIG_FILE_MAX, arena, out, err);
}

/* Frees the text. False, and a word instead of half a text, if there was no memory for it. */
static bool print_text(int stream, struct md_bytes *text)
{
    bool ok = !text->failed;

    md_os_process_write(ok ? stream : 2,
                        ok ? md_bytes_view(text) : MD_STR("modeld: out of memory\n"));
    md_bytes_deinit(text);
    return ok;
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
    (void)print_text(2, &text);
}

static bool print_page(void (*print)(struct md_bytes *out))
{
    struct md_bytes text = {0};

    print(&text);
    return print_text(1, &text);
}

static void print_version(struct md_bytes *out)
{
    md_bytes_append_c(out, "modeld " MODELD_VERSION "\n");
}

static void (*page_asked_for(const struct md_options *options))(struct md_bytes *out)
{
    return options->help            ? md_options_print_help
           : options->help_markdown ? md_options_print_markdown
           : options->help_schema   ? md_options_print_schema
           : options->version       ? print_version
                                    : NULL;
}

static bool open_log(struct server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    enum md_log_format format;

    md_log_set_enabled(MD_LOG_INFO, options->log_info);
    md_log_set_enabled(MD_LOG_WARNING, options->log_warning);
    md_log_set_enabled(MD_LOG_ERROR, options->log_error);
    md_log_set_verbosity((unsigned)options->log_verbose);
    (void)md_os_log_format_find(md_str_of(options->log_format), &format); /* the table checked it */
    return md_os_log_open(options->log_file && *options->log_file ? options->log_file : NULL,
                          format, err);
}

static void log_diagnostics(const struct md_diagnostics *diagnostics, size_t from)
{
    static const enum md_log_level levels[] = {MD_LOG_ERROR, MD_LOG_WARNING, MD_LOG_INFO};

    for (size_t i = from; i < diagnostics->count; i++) {
        struct md_bytes text = {0};
        md_diagnostic_print(&diagnostics->items[i], &text);
        struct md_str line =
            text.failed ? md_str_of(diagnostics->items[i].text) : md_bytes_view(&text);
        md_log(levels[diagnostics->items[i].severity], "%.*s", MD_STR_ARG(line));
        md_bytes_deinit(&text);
    }
}

/* --- wiring -------------------- */

static void access_log(void *arg, const struct md_exchange *x, unsigned status, uint64_t sent_bytes)
{
    uint64_t us = (md_clock_monotonic_ns() - x->begin_ns) / MD_NS_PER_US;

    (void)arg;
    const struct md_log_context *before = md_log_set_context(&x->log);
    md_log(MD_LOG_INFO, "access %s %.*s %.*s %u %llu bytes %llu us", x->peer,
           MD_STR_ARG(x->head.method_name), MD_STR_ARG(x->head.path), status,
           (unsigned long long)sent_bytes, (unsigned long long)us);
    md_log_set_context(before);
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
            .cache_bytes =
                md_size_min(LOOP_CACHE_BYTES, server->budget.limit_bytes / 8 / server->plan.loops),
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

    if (strcmp(options->management, "open") == 0) {
        md_log(MD_LOG_WARNING, "--management=open: whoever reaches a port can drain this server");
    }
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
                                           .search_model_folders = options->allow_op_library,
                                           .engine_threads = server->plan.engine_threads};
    const char *program;

    if (!settings || !directories) {
        return md_error_no_memory(err, "the backends");
    }
    if (!md_os_process_directory(&server->arena, &program, err)) {
        return false;
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
    return md_arena_failed(&server->arena) ? md_error_no_memory(err, "the backends")
                                           : md_backends_create(&backends, &server->backends, err);
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
    md_metrics_configure(&server->metrics, &server->options);
    if (!listen_all(server, err)) {
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

/* Waits until no session is left, or the time is over. Every step asks the loops anew. */
static bool wait_for_sessions(struct server *server, uint64_t deadline_ns)
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
        take_signal(server, md_os_signal_wait(WAIT_STEP_MS));
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
    if (wait_for_sessions(server, md_clock_monotonic_ns() + timeout_ns)) {
        md_log(MD_LOG_INFO, "ended: every request was answered");
        return 0;
    }
    md_log(MD_LOG_WARNING, "--exit-timeout-secs is over: requests in flight are cut off");
    post_all(server, abort_sessions, true);
    if (!wait_for_sessions(server, md_clock_monotonic_ns() + MD_NS_PER_S)) {
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

/* The last load has ended; on its loader thread. */
static void loaded(void *arg)
{
    struct server *server = arg;
    size_t failed = md_models_failed_count(server->models);
    size_t wanted = md_models_wanted_count(server->models);
    int starting = PHASE_STARTING;

    if (failed && server->options.exit_on_error) {
        md_log(MD_LOG_ERROR, "%zu of %zu models are unavailable: ending, as --exit-on-error says",
               failed, wanted);
        atomic_store(&server->load_failed, true);
        (void)turn_unready(server);
    } else if (atomic_compare_exchange_strong(&server->phase, &starting, PHASE_SERVING)) {
        md_log(MD_LOG_INFO, "ready: %zu of %zu models, %.1f ms after start", wanted - failed,
               wanted, (double)(md_clock_monotonic_ns() - server->begin_ns) / MD_NS_PER_MS);
        md_os_signal_wake();
    }
}

/* Until the server is asked to end; then the drain delay. */
static void serve(struct server *server)
{
    while (atomic_load(&server->phase) < PHASE_DRAINING) {
        bool loading = !md_models_are_loaded(server->models);
        int number = md_os_signal_wait(loading ? PROGRESS_MS : -1);
        take_signal(server, number);
        if (!number) {
            md_models_log_progress(server->models);
        }
    }
    md_models_load_stop(server->models);
    uint64_t delay_ns =
        atomic_load(&server->load_failed) ? 0 : seconds(server->options.drain_delay_secs);
    const uint64_t end_ns = md_clock_monotonic_ns() + delay_ns;
    while (md_clock_monotonic_ns() < end_ns) {
        take_signal(server, md_os_signal_wait(WAIT_STEP_MS));
    }
}

static int run(struct server *server)
{
    struct md_error err;
    int status = EXIT_FAILED;

    server->begin_ns = md_clock_monotonic_ns();
    md_os_process_raise_descriptor_limit();
    make_plan(server);
    if (!wire(server, &err) || !start_loops(server, &err)) {
        md_log(MD_LOG_ERROR, "%s", err.text);
        goto out;
    }
    md_models_load_start(server->models, loaded, server);
    serve(server);
    status = end_sessions(server);
    if (atomic_load(&server->load_failed)) {
        status = EXIT_FAILED;
    }
    if (!md_models_are_loaded(server->models)) {
        md_log(MD_LOG_INFO, "ended before the models were loaded");
        md_os_process_exit_now(status); /* an engine that loads cannot be stopped */
    }
out:
    unwire(server);
    return status;
}

/* What is wrong goes to standard error, what there is to standard output. */
static int check_config(struct server *server)
{
    struct md_bytes text = {0};
    struct md_error err;
    bool ok = create_backends(server, &err);
    const struct md_models_options options = {.options = &server->options,
                                              .backends = server->backends};

    if (!ok || !md_models_create(&options, &server->diagnostics, &server->models, &err)) {
        (void)md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "%s", err.text);
    }
    print_diagnostics(&server->diagnostics, 0);
    size_t count = server->models ? md_models_count(server->models) : 0;
    for (size_t i = 0; i < count; i++) {
        md_model_describe(md_models_at(server->models, i), &text);
    }
    md_bytes_printf(&text, "%zu models, %zu errors, %zu warnings\n", count,
                    server->diagnostics.error_count, server->diagnostics.warning_count);
    ok = print_text(1, &text) && server->diagnostics.error_count == 0;
    md_models_destroy(server->models);
    md_backends_destroy(server->backends);
    return ok ? 0 : EXIT_FAILED;
}

static int with_options(struct server *server, bool ok)
{
    struct md_error err;

    if (server->options.model_repository.count == 0) {
        ok = md_diagnose(&server->diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0,
                         "--model-repository is missing: name a folder with models; --help lists "
                         "all options");
    }
    if (server->options.check_config && !md_arena_failed(&server->arena)) {
        return check_config(server);
    }
    if (!ok) {
        print_diagnostics(&server->diagnostics, 0);
        return EXIT_OPTIONS;
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
    char *const *environment = md_os_process_environment();
    bool ok = md_options_parse(argc, argv, environment, md_os_process_in_container("", environment),
                               &reader, &server->arena, &server->options, &server->diagnostics);
    void (*page)(struct md_bytes * out) = page_asked_for(&server->options);
    if (page) {
        status = print_page(page) ? 0 : EXIT_FAILED;
    } else {
        status = with_options(server, ok);
    }
    md_arena_deinit(&server->arena);
    md_free(server);
    return status;
}
