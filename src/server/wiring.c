/*
 * Wiring: makes the parts in the order in which they need each other, from the options.
 */
#include "server/server_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "os/memory.h"
#include "os/process.h"

#include <stdio.h>

enum {
    LOOP_CACHE_BYTES = 128 << 20,
    INLINE_LIMIT_NS = 20000,
    METRICS_CONNECTIONS = 64,
    INFLIGHT_LEAST = 64 << 20,
};

void md_server_log_diagnostics(const struct md_diagnostics *diagnostics, size_t from)
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

/* --- HTTP -------------------- */

static void access_log(void *arg, const struct md_exchange *x, unsigned status, uint64_t sent_bytes)
{
    uint64_t us = (md_clock_monotonic_ns() - x->begin_ns) / MD_NS_PER_US;

    (void)arg;
    const struct md_log_context *before = md_log_set_context(&x->log);
    char code[16] = "";
    if (x->is_grpc && status == 200) {
        (void)snprintf(code, sizeof code, " grpc %u", x->grpc_status);
    }
    md_log(MD_LOG_INFO, "access %s %.*s %.*s %u%s %llu bytes %llu us", x->peer,
           MD_STR_ARG(x->head.method_name), MD_STR_ARG(x->head.path), status, code,
           (unsigned long long)sent_bytes, (unsigned long long)us);
    md_log_set_context(before);
}

static uint64_t seconds(uint64_t value)
{
    return value * MD_NS_PER_S;
}

static uint64_t milliseconds(uint64_t value)
{
    return value * MD_NS_PER_MS;
}

/* What a client may have in work, and how its connection lives. */
static void configure_http2(struct md_server *server)
{
    enum { MAX_FRAME_BYTES = 1 << 20, INITIAL_WINDOW_BYTES = 1 << 20 };
    const struct md_options *options = &server->options;

    server->http2_options = (struct md_http2_options){
        .limits = {.max_concurrent_streams = (uint32_t)options->http2_max_concurrent_streams,
                   .max_frame_size = MAX_FRAME_BYTES,
                   .initial_window = INITIAL_WINDOW_BYTES,
                   .max_header_bytes = options->http_max_header_size,
                   .max_header_count = options->http_max_header_count},
        .max_message_bytes =
            md_size_min(options->grpc_max_message_size, server->budget.limit_bytes),
        .compresses = strcmp(options->grpc_infer_response_compression_level, "none") != 0,
        .keepalive_time_ns = milliseconds(options->grpc_keepalive_time),
        .keepalive_timeout_ns = milliseconds(options->grpc_keepalive_timeout),
        .keepalive_without_calls = options->grpc_keepalive_permit_without_calls,
        .min_ping_interval_ns = milliseconds(options->grpc_min_recv_ping_interval),
        .max_ping_strikes = (unsigned)options->grpc_max_ping_strikes,
        .max_age_ns = milliseconds(options->grpc_max_connection_age),
        .max_age_grace_ns = milliseconds(options->grpc_max_connection_age_grace),
    };
}

/* The port of metrics tells of health too. */
static void route_metrics(void *arg, struct md_exchange *x)
{
    struct md_server *server = arg;

    if (md_str_starts_with(x->head.path, MD_STR("/v2/health/"))) {
        md_oip_route(&server->oip, x);
    } else {
        md_metrics_route(&server->metrics, x);
    }
}

static bool configure_http(struct md_server *server, struct md_error *err)
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
        .http2 = &server->http2_options,
    };
    configure_http2(server);
    server->metrics_config = server->http_config;
    server->metrics_config.route = route_metrics;
    server->metrics_config.route_arg = server;
    server->metrics_config.counters = server->metrics_counters;
    server->metrics_config.access_log = NULL;
    return true;
}

static bool create_loops(struct md_server *server, struct md_error *err)
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
    struct md_server *server = arg;

    md_session_start(conn, &server->http_config,
                     &server->parts[md_loop_index(md_conn_loop(conn))].http);
}

static void accepted_metrics(void *arg, struct md_conn *conn)
{
    struct md_server *server = arg;

    md_session_start(conn, &server->metrics_config,
                     &server->parts[md_loop_index(md_conn_loop(conn))].metrics);
}

static bool listen_on(struct md_server *server, const char *name, const char *address,
                      uint64_t port, bool reuse_port, size_t connections,
                      struct md_tls_context *tls, void (*accepted)(void *arg, struct md_conn *conn),
                      struct md_listener **out, struct md_error *err)
{
    const struct md_listener_options options = {
        .address = address,
        .port = (uint16_t)port,
        .reuse_port = reuse_port,
        .name = name,
        .max_connections = connections,
        .tls = tls,
        .handshake_timeout_ns = seconds(server->options.http_header_timeout_secs),
        .loops = server->loops,
        .loop_count = server->loop_count,
        .accepted = accepted,
        .arg = server,
    };

    if (!md_listener_create(&options, out, err)) {
        return false;
    }
    md_log(MD_LOG_INFO, "%s on %s%s%.0u%s", name, address, md_listener_port(*out) ? " port " : "",
           md_listener_port(*out), tls ? " with TLS" : "");
    return true;
}

static bool listen_all(struct md_server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;
    char unix_address[4096];

    if (strcmp(options->management, "open") == 0) {
        md_log(MD_LOG_WARNING,
               "--management=open: whoever reaches a port can change and drain this server");
    }
    if (options->allow_http && !listen_on(server, "http", options->http_address, options->http_port,
                                          options->reuse_http_port, options->max_connections,
                                          server->http_tls, accepted_http, &server->http, err)) {
        return false;
    }
    if (options->allow_grpc && !listen_on(server, "grpc", options->grpc_address, options->grpc_port,
                                          options->reuse_grpc_port, options->max_connections,
                                          server->grpc_tls, accepted_http, &server->grpc, err)) {
        return false;
    }
    if (options->http_unix_socket) {
        (void)snprintf(unix_address, sizeof unix_address, "unix:%s", options->http_unix_socket);
        if (!listen_on(server, "http", unix_address, 0, false, options->max_connections, NULL,
                       accepted_http, &server->unix_socket, err)) {
            return false;
        }
    }
    return !options->allow_metrics ||
           listen_on(server, "metrics", options->metrics_address, options->metrics_port,
                     options->reuse_http_port, METRICS_CONNECTIONS, server->metrics_tls,
                     accepted_metrics, &server->metrics_listener, err);
}

/* --- backends and models -------------------- */

bool md_server_create_backends(struct md_server *server, struct md_error *err)
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

void md_server_make_plan(struct md_server *server)
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

static bool create_models(struct md_server *server, struct md_error *err)
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
        md_server_log_diagnostics(&server->diagnostics, before);
    }
    return true;
}

bool md_server_wire(struct md_server *server, struct md_error *err)
{
    const struct md_device_options device = {.executor_count = server->plan.executors,
                                             .budget = &server->budget,
                                             .inline_limit_ns = INLINE_LIMIT_NS};

    if (!create_loops(server, err) || !configure_http(server, err) ||
        !md_server_create_tls(server, err) || !md_server_create_backends(server, err) ||
        !md_device_create(&device, &server->device, err) || !create_models(server, err)) {
        return false;
    }
    if (!md_access_create(&server->options, &server->arena, &server->access, err) ||
        (server->options.allow_client_shm && !md_regions_create(&server->regions, err)) ||
        !md_server_create_tracer(server, err)) {
        return false;
    }
    server->oip = (struct md_oip){
        .access = server->access,
        .tracer = server->tracer,
        .regions = server->regions,
        .models = server->models,
        .options = &server->options,
        .version = MODELD_VERSION,
        .max_binary_bytes = server->budget.limit_bytes,
        .server = server,
        .is_live = md_server_is_live,
        .is_ready = md_server_is_ready,
        .is_exiting = md_server_is_exiting,
        .drain = md_server_drain,
    };
    server->metrics.models = server->models;
    server->metrics.http = server->http_counters;
    server->metrics.loop_count = server->loop_count;
    server->metrics.tracer = server->tracer;
    server->metrics.budget = &server->budget;
    server->metrics.version = MODELD_VERSION;
    md_metrics_configure(&server->metrics, &server->options);
    if (!listen_all(server, err)) {
        return false;
    }
    server->metrics.listeners[0] = server->http;
    server->metrics.listeners[1] = server->grpc;
    return true;
}

bool md_server_start_loops(struct md_server *server, struct md_error *err)
{
    struct md_listener *listeners[] = {server->http, server->unix_socket, server->grpc,
                                       server->metrics_listener};

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

void md_server_stop_loops(struct md_server *server)
{
    if (server->loops_running) {
        for (size_t i = 0; i < server->loop_count; i++) {
            md_loop_stop(server->loops[i]);
        }
        for (size_t i = 0; i < server->loop_count; i++) {
            md_loop_join(server->loops[i]);
        }
        server->loops_running = false;
    }
}

void md_server_unwire(struct md_server *server)
{
    md_server_stop_loops(server);
    md_tracer_destroy(server->tracer);
    const bool all_gone = md_models_destroy(server->models);
    md_device_destroy(server->device);
    if (all_gone) {
        md_backends_destroy(server->backends);
    }
    md_listener_destroy(server->http);
    md_listener_destroy(server->unix_socket);
    md_listener_destroy(server->grpc);
    md_listener_destroy(server->metrics_listener);
    md_server_destroy_tls(server);
    for (size_t i = 0; i < MD_SERVER_LOOPS_MAX; i++) {
        md_loop_destroy(server->loops[i]);
    }
    md_regions_destroy(server->regions);
    md_free(server->http_counters);
    md_free(server->metrics_counters);
    md_free(server->parts);
}
