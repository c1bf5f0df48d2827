/*
 * From start to end.
 *
 * Start: loops run and listeners are bound -> HTTP answers (live, not ready) -> models are loaded
 * -> ready. End (SIGTERM, SIGINT, /v2/drain): readiness turns -> after --drain-delay-secs listeners
 * close and connections are told -> requests in flight finish within --exit-timeout-secs; then
 * those that still wait are refused, and those that run are cut off -> everything is freed in the
 * reverse order. A second signal ends at once; the one that follows /v2/drain, as in a preStop
 * hook, is the first.
 *
 * Who waits for an answer has a connection. A session without one is kept by an execution whose
 * client was answered before its end, or has gone: nobody's time is spent on that.
 */
#include "server/server_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "os/log_file.h"
#include "os/memory.h"
#include "os/process.h"
#include "os/signal.h"

enum {
    WAIT_STEP_MS = 20,
    PROGRESS_MS = 3000, /* between lines about loading */
    LOOK_MS = 1000,     /* between looks at certificate files */
    WRITE_MS = 1000,    /* for the answers to those that waited too long */
    LET_GO_MS = 1000,   /* for backends, to let go of requests that nobody waits for */
};

static uint64_t seconds(uint64_t value)
{
    return value * MD_NS_PER_S;
}

/* --- what dialects ask -------------------- */

bool md_server_is_live(void *arg)
{
    (void)arg;
    return true;
}

bool md_server_is_exiting(void *arg)
{
    return atomic_load(&((struct md_server *)arg)->phase) >= MD_SERVER_DRAINING;
}

bool md_server_is_ready(void *arg)
{
    struct md_server *server = arg;

    return atomic_load(&server->phase) == MD_SERVER_SERVING &&
           (!server->options.strict_readiness ||
            (md_models_failed_count(server->models) == 0 &&
             md_models_out_of_service_count(server->models) == 0));
}

/* Turns readiness at once; the main thread, which is waiting, does the rest. False: it was asked
 * before. */
static bool turn_unready(struct md_server *server)
{
    int before = atomic_load(&server->phase);

    while (before < MD_SERVER_DRAINING) {
        if (atomic_compare_exchange_weak(&server->phase, &before, MD_SERVER_DRAINING)) {
            md_os_signal_wake();
            return true;
        }
    }
    return false;
}

static void begin_drain(struct md_server *server, const char *who)
{
    if (turn_unready(server)) {
        md_log(MD_LOG_INFO, "%s asks to end: not ready from now on", who);
    }
}

void md_server_drain(void *arg)
{
    begin_drain(arg, "/v2/drain");
}

/* A signal to the main thread. */
static void take_signal(struct md_server *server, int number)
{
    if (md_os_signal_is_reload(number)) {
        md_os_log_reopen();
        md_server_reload_tls(server);
    }
    if (!md_os_signal_is_end(number)) {
        return;
    }
    if (server->signalled) {
        md_log(MD_LOG_WARNING, "second signal: ending now");
        md_os_process_exit_now(MD_EXIT_FAILED);
    }
    server->signalled = true;
    begin_drain(server, "a signal");
}

/* --- end -------------------- */

static void drain_sessions(struct md_loop_task *task)
{
    struct md_server_loop *part = MD_CONTAINER_OF(task, struct md_server_loop, drain);

    md_session_list_drain(&part->http);
    md_session_list_drain(&part->metrics);
}

static void abort_sessions(struct md_loop_task *task)
{
    struct md_server_loop *part = MD_CONTAINER_OF(task, struct md_server_loop, abort);

    md_session_list_abort(&part->http);
    md_session_list_abort(&part->metrics);
}

static void probe_sessions(struct md_loop_task *task)
{
    struct md_server_loop *part = MD_CONTAINER_OF(task, struct md_server_loop, probe);

    atomic_store(&part->sessions, part->http.count + part->metrics.count);
    atomic_fetch_sub(&part->server->probes, 1);
}

/* Also of those on their way from the loop that accepted them to the loop that serves them. */
static size_t open_connections(const struct md_server *server)
{
    const struct md_listener *const listeners[] = {server->http, server->unix_socket, server->grpc,
                                                   server->metrics_listener};
    size_t count = 0;

    for (size_t i = 0; i < MD_COUNT_OF(listeners); i++) {
        count += listeners[i] ? md_listener_open_count(listeners[i]) : 0;
    }
    return count;
}

static bool all_answered(const struct md_server *server)
{
    return open_connections(server) == 0;
}

static bool all_gone(const struct md_server *server)
{
    size_t left = open_connections(server);

    for (size_t i = 0; i < server->loop_count; i++) {
        left += atomic_load(&server->parts[i].sessions);
    }
    return left == 0;
}

/* None of them is inside a backend. */
static bool loops_turn(const struct md_server *server)
{
    (void)server;
    return true;
}

static void ask_loops(struct md_server *server)
{
    atomic_store(&server->probes, server->loop_count);
    for (size_t i = 0; i < server->loop_count; i++) {
        server->parts[i].probe.run = probe_sessions;
        md_loop_post(server->loops[i], &server->parts[i].probe);
    }
}

/* False: the time is over before. Every step asks the loops anew: what one of them had accepted
 * before it answered is counted by then. */
static bool wait_until(struct md_server *server, bool (*is_so)(const struct md_server *server),
                       uint64_t timeout_ns)
{
    const uint64_t deadline_ns = md_clock_monotonic_ns() + timeout_ns;

    for (bool asked = false;;) {
        if (atomic_load(&server->probes) == 0) {
            if (asked && is_so(server)) {
                return true;
            }
            ask_loops(server);
            asked = true;
        }
        if (md_clock_monotonic_ns() >= deadline_ns) {
            return false;
        }
        take_signal(server, md_os_signal_wait(WAIT_STEP_MS));
    }
}

static void post_all(struct md_server *server, void (*run)(struct md_loop_task *task), bool abort)
{
    for (size_t i = 0; i < server->loop_count; i++) {
        struct md_loop_task *task = abort ? &server->parts[i].abort : &server->parts[i].drain;
        task->run = run;
        md_loop_post(server->loops[i], task);
    }
}

static void stop_listening(struct md_server *server)
{
    struct md_listener *listeners[] = {server->http, server->unix_socket, server->grpc,
                                       server->metrics_listener};

    for (size_t i = 0; i < MD_COUNT_OF(listeners); i++) {
        if (listeners[i]) {
            md_listener_stop(listeners[i]);
        }
    }
}

/* What waits is told so, while that can still be written; what runs is cut off. */
static void cut_off(struct md_server *server)
{
    const size_t refused = md_models_refuse_waiting(server->models);

    md_log(MD_LOG_WARNING,
           "--exit-timeout-secs is over: %zu requests that waited are refused, those in flight are "
           "cut off",
           refused);
    if (refused) {
        (void)wait_until(server, all_answered, WRITE_MS * (uint64_t)MD_NS_PER_MS);
    }
    post_all(server, abort_sessions, true);
}

/* 0 when every request was answered. */
static int end_sessions(struct md_server *server)
{
    int status = 0;

    atomic_store(&server->phase, MD_SERVER_ENDING);
    stop_listening(server);
    md_device_hurry(server->device);
    post_all(server, drain_sessions, false);
    if (wait_until(server, all_answered, seconds(server->options.exit_timeout_secs))) {
        md_log(MD_LOG_INFO, "ended: every request was answered");
    } else {
        cut_off(server);
        status = MD_EXIT_FAILED;
    }
    return status;
}

/* A backend does not let go of a request: nothing that it may use can be freed. Traces still go
 * out, unless it keeps a loop from its end. */
static void leave_behind(struct md_server *server, int status)
{
    md_models_log_running(server->models);
    if (wait_until(server, loops_turn, WRITE_MS * (uint64_t)MD_NS_PER_MS)) {
        md_server_stop_loops(server);
        md_tracer_destroy(server->tracer);
    }
    md_os_process_exit_now(status);
}

/* --- run -------------------- */

/* The last load has ended; on its loader thread. */
static void loaded(void *arg)
{
    struct md_server *server = arg;
    size_t failed = md_models_failed_count(server->models);
    size_t wanted = md_models_wanted_count(server->models);
    int starting = MD_SERVER_STARTING;

    if (failed && server->options.exit_on_error) {
        md_log(MD_LOG_ERROR, "%zu of %zu models are unavailable: ending, as --exit-on-error says",
               failed, wanted);
        atomic_store(&server->load_failed, true);
        (void)turn_unready(server);
    } else if (atomic_compare_exchange_strong(&server->phase, &starting, MD_SERVER_SERVING)) {
        md_log(MD_LOG_INFO, "ready: %zu of %zu models, %.1f ms after start", wanted - failed,
               wanted, (double)(md_clock_monotonic_ns() - server->begin_ns) / MD_NS_PER_MS);
        md_os_signal_wake();
    }
}

/* Until the server is asked to end; then the drain delay. */
static void serve(struct md_server *server)
{
    while (atomic_load(&server->phase) < MD_SERVER_DRAINING) {
        bool loading = !md_models_are_loaded(server->models);
        if (!loading) {
            md_models_load_join(server->models); /* they have woken this thread as their last act */
        }
        int number = md_os_signal_wait(loading                      ? PROGRESS_MS
                                       : md_server_uses_tls(server) ? LOOK_MS
                                                                    : -1);
        take_signal(server, number);
        if (!number && loading) {
            md_models_log_progress(server->models);
        }
        if (!number) {
            md_server_look_at_tls(server);
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

int md_server_run(struct md_server *server)
{
    struct md_error err;
    int status = MD_EXIT_FAILED;

    server->begin_ns = md_clock_monotonic_ns();
    md_os_process_raise_descriptor_limit();
    md_server_make_plan(server);
    if (!md_server_wire(server, &err) || !md_server_start_loops(server, &err)) {
        md_log(MD_LOG_ERROR, "%s", err.text);
        goto out;
    }
    md_models_load_start(server->models, loaded, server);
    serve(server);
    status = end_sessions(server);
    if (atomic_load(&server->load_failed)) {
        status = MD_EXIT_FAILED;
    }
    if (!wait_until(server, all_gone, LET_GO_MS * (uint64_t)MD_NS_PER_MS)) {
        leave_behind(server, status);
    }
    if (!md_models_are_loaded(server->models)) {
        md_log(MD_LOG_INFO, "ended before the models were loaded");
        md_os_process_exit_now(status); /* an engine that loads cannot be stopped */
    }
out:
    md_server_unwire(server);
    return status;
}
