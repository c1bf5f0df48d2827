/*
 * What the server is made of; for server.c (the command line), wiring.c (what is put together),
 * tls.c (its certificates) and lifecycle.c (start, drain, end).
 *
 *      STARTING -- models loaded --> SERVING -- asked to end --> DRAINING -- delay over --> ENDING
 *          +------------------------- asked to end ------------------^
 */
#ifndef MD_SERVER_SERVER_INTERNAL_H
#define MD_SERVER_SERVER_INTERNAL_H

#include "api/metrics.h"
#include "api/oip/oip.h"
#include "loop/cpu_plan.h"
#include "net/tls.h"

enum { MD_EXIT_FAILED = 1, MD_EXIT_OPTIONS = 2, MD_SERVER_LOOPS_MAX = 256 };

enum md_server_phase {
    MD_SERVER_STARTING,
    MD_SERVER_SERVING,
    MD_SERVER_DRAINING,
    MD_SERVER_ENDING,
};

/* What one loop keeps for the server. */
struct md_server_loop {
    struct md_session_list http, metrics;
    struct md_loop_task drain, abort, probe;
    struct md_server *server;
    struct md_loop *loop;
    atomic_size_t sessions; /* as of the last probe */
};

struct md_server {
    struct md_arena arena;
    struct md_options options;
    struct md_diagnostics diagnostics;
    struct md_cpu_plan plan;
    struct md_budget budget;
    struct md_loop *loops[MD_SERVER_LOOPS_MAX];
    struct md_server_loop *parts; /* own, one for each loop */
    size_t loop_count;
    struct md_http_counters *http_counters, *metrics_counters;
    struct md_http_config http_config, metrics_config;
    struct md_http2_options http2_options;
    struct md_listener *http, *unix_socket, *grpc, *metrics_listener;
    struct md_tls_context *http_tls, *grpc_tls, *metrics_tls; /* NULL: plain */
    struct md_device *device;
    struct md_backends *backends;
    struct md_models *models;
    const struct md_access *access; /* in the arena */
    struct md_tracer *tracer;
    struct md_regions *regions; /* own; NULL: not allowed */
    struct md_oip oip;
    struct md_metrics metrics;
    uint64_t begin_ns;
    atomic_int phase;        /* enum md_server_phase; only grows */
    atomic_bool load_failed; /* and --exit-on-error ends the server for it */
    bool signalled;          /* main thread */
    bool loops_running;
    atomic_size_t probes; /* loops that have not answered the current probe */
};

/* wiring.c, main thread: counts CPUs and memory; makes loops, device, backends, models and
 * listeners; lets them run; stops the loops; frees everything, also what is only half made. */
void md_server_make_plan(struct md_server *server);
bool md_server_wire(struct md_server *server, struct md_error *err) MD_MUST_CHECK;
bool md_server_start_loops(struct md_server *server, struct md_error *err) MD_MUST_CHECK;
void md_server_stop_loops(struct md_server *server);
void md_server_unwire(struct md_server *server);
/* Part of wiring, alone for --check-config. */
bool md_server_create_backends(struct md_server *server, struct md_error *err) MD_MUST_CHECK;

/* tls.c, main thread: contexts of the listeners that use TLS, also alone for --check-config. */
bool md_server_create_tls(struct md_server *server, struct md_error *err) MD_MUST_CHECK;
bool md_server_uses_tls(const struct md_server *server);
/* Reads certificates again: at once, or where files have changed (about once a second). */
void md_server_reload_tls(struct md_server *server);
void md_server_look_at_tls(struct md_server *server);
void md_server_destroy_tls(struct md_server *server);

/* tracing.c, part of wiring. */
bool md_server_create_tracer(struct md_server *server, struct md_error *err) MD_MUST_CHECK;

/* Problems from `from` on, as lines of the log. */
void md_server_log_diagnostics(const struct md_diagnostics *diagnostics, size_t from);

/* lifecycle.c: from start to end; the exit status. */
int md_server_run(struct md_server *server);
/* For dialects; arg: struct md_server. Any thread. */
bool md_server_is_live(void *arg);
bool md_server_is_ready(void *arg);
bool md_server_is_exiting(void *arg);
void md_server_drain(void *arg);

#endif
