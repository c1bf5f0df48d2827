/*
 * Listener: one socket, watched by every loop (only one is woken for a connection). The loop that
 * accepts hands the connection to the loop with the fewest, so that a few long connections are
 * spread as well.
 */
#include "net/listener.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/conn_internal.h"
#include "os/poll.h"

enum { ACCEPTS_A_TURN = 32, PAUSE_MS = 100 };

/* One loop's watch on the socket. */
struct watch {
    struct md_loop_fd fd;
    struct md_loop_timer retry;     /* out of descriptors: try again later */
    struct md_loop_task begin, end; /* carry start and stop to the loop */
    struct md_loop *loop;
    struct md_listener *listener;
    bool is_watching, has_timer;
};

struct md_listener {
    struct md_listener_options options;
    char *address; /* own */
    int fd;
    uint16_t port;
    bool is_unix;
    struct watch *watches; /* own, one for each loop */

    _Alignas(MD_CACHE_LINE) atomic_size_t open_count; /* shared */
    _Atomic uint64_t accepted_count;
    _Atomic uint64_t warned_ns;
    atomic_bool stopped;
    atomic_size_t watching; /* loops that still watch; the last one to let go closes the socket */
};

static bool may_warn(struct md_listener *listener, uint64_t now_ns)
{
    uint64_t last = atomic_load(&listener->warned_ns);

    return now_ns - last > MD_NS_PER_S &&
           atomic_compare_exchange_strong(&listener->warned_ns, &last, now_ns);
}

static struct md_loop *least_loaded(const struct md_listener *listener, struct md_loop *own)
{
    struct md_loop *best = own;
    size_t fewest = md_loop_connection_count(own);

    for (size_t i = 0; i < listener->options.loop_count; i++) {
        size_t count = md_loop_connection_count(listener->options.loops[i]);
        if (count < fewest) {
            fewest = count;
            best = listener->options.loops[i];
        }
    }
    return best;
}

static void arrive(struct md_loop_task *task)
{
    struct md_conn *conn = MD_CONTAINER_OF(task, struct md_conn, arrival);
    struct md_listener *listener = conn->listener;
    struct md_error err;

    if ((listener->options.tls &&
         !md_conn_start_tls(conn, listener->options.tls, listener->options.handshake_timeout_ns,
                            &err)) ||
        !md_loop_fd_add(conn->loop, &conn->fd, MD_LOOP_READ, &err)) {
        md_log(MD_LOG_WARNING, "%s: connection from %s dropped: %s", listener->options.name,
               conn->peer, err.text);
        md_conn_close(conn);
        return;
    }
    conn->is_polled = true;
    listener->options.accepted(listener->options.arg, conn);
}

static void take_connection(struct watch *watch, struct md_loop *loop, int fd, const char *peer)
{
    struct md_listener *listener = watch->listener;
    struct md_conn *conn = NULL;
    bool full = atomic_load_explicit(&listener->open_count, memory_order_relaxed) >=
                listener->options.max_connections;

    if (!full) {
        conn = md_conn_create(fd, peer, loop);
    }
    if (!conn) {
        if (may_warn(listener, md_loop_now_ns(watch->loop))) {
            md_log(MD_LOG_WARNING, "%s: connection from %s refused: %s", listener->options.name,
                   peer, full ? "--max-connections are open" : "out of memory");
        }
        md_os_close(fd);
        return;
    }
    conn->listener = listener;
    conn->is_unix = listener->is_unix;
    conn->open_count = &listener->open_count;
    conn->arrival.run = arrive;
    atomic_fetch_add_explicit(&listener->open_count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&listener->accepted_count, 1, memory_order_relaxed);
    md_loop_count_connection(loop, 1);
    if (loop == watch->loop) {
        arrive(&conn->arrival);
    } else {
        md_loop_post(loop, &conn->arrival);
    }
}

static void watch_stop(struct watch *watch)
{
    if (watch->is_watching) {
        watch->is_watching = false;
        md_loop_fd_remove(watch->loop, &watch->fd);
    }
}

static void accept_some(struct md_loop_fd *self, uint32_t events)
{
    struct watch *watch = MD_CONTAINER_OF(self, struct watch, fd);
    char peer[MD_OS_PEER_MAX];
    int fd;

    (void)events;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        enum md_os_accept outcome = md_os_socket_accept(watch->fd.fd, &fd, peer);
        if (outcome == MD_OS_ACCEPT_OK) {
            take_connection(watch, least_loaded(watch->listener, watch->loop), fd, peer);
            continue;
        }
        if (outcome == MD_OS_ACCEPT_EXHAUSTED) {
            if (may_warn(watch->listener, md_loop_now_ns(watch->loop))) {
                md_log(MD_LOG_WARNING,
                       "%s: out of file descriptors: connections wait; raise the limit (ulimit -n)",
                       watch->listener->options.name);
            }
            watch_stop(watch);
            md_loop_timer_set(watch->loop, &watch->retry,
                              md_loop_now_ns(watch->loop) + PAUSE_MS * (uint64_t)MD_NS_PER_MS);
        }
        return;
    }
}

static void watch_start(struct watch *watch)
{
    struct md_error err;

    if (atomic_load(&watch->listener->stopped)) {
        return;
    }
    watch->is_watching =
        md_loop_fd_add(watch->loop, &watch->fd, MD_LOOP_READ | MD_LOOP_EXCLUSIVE, &err);
    if (!watch->is_watching) {
        md_log(MD_LOG_ERROR, "%s: cannot watch the listening socket: %s",
               watch->listener->options.name, err.text);
        md_loop_timer_set(watch->loop, &watch->retry,
                          md_loop_now_ns(watch->loop) + PAUSE_MS * (uint64_t)MD_NS_PER_MS);
    }
}

static void retry(struct md_loop_timer *timer)
{
    watch_start(MD_CONTAINER_OF(timer, struct watch, retry));
}

static void begin_watch(struct md_loop_task *task)
{
    struct watch *watch = MD_CONTAINER_OF(task, struct watch, begin);
    struct md_error err;

    if (atomic_load(&watch->listener->stopped)) {
        return;
    }
    watch->has_timer = md_loop_timer_reserve(watch->loop, &err);
    if (watch->has_timer) {
        watch_start(watch);
    } else {
        md_loop_defer(watch->loop,
                      task); /* without a timer: in each turn until there is memory for one */
    }
}

/* The path goes first: as long as it exists and is listened on, no other server takes it. */
static void close_socket(struct md_listener *listener)
{
    if (listener->fd >= 0) {
        md_os_socket_forget(listener->address);
        md_os_close(listener->fd);
        listener->fd = -1;
    }
}

/* Connections that the kernel has accepted would be reset with the socket. */
static void take_the_rest(struct watch *watch)
{
    char peer[MD_OS_PEER_MAX];
    int fd;

    for (size_t i = 0; i < watch->listener->options.max_connections &&
                       md_os_socket_accept(watch->fd.fd, &fd, peer) == MD_OS_ACCEPT_OK;
         i++) {
        take_connection(watch, watch->loop, fd, peer); /* they are there when this has returned */
    }
}

static void end_watch(struct md_loop_task *task)
{
    struct watch *watch = MD_CONTAINER_OF(task, struct watch, end);
    struct md_listener *listener = watch->listener;

    watch_stop(watch);
    md_loop_timer_cancel(watch->loop, &watch->retry);
    if (watch->has_timer) {
        md_loop_timer_unreserve(watch->loop);
    }
    if (atomic_fetch_sub(&listener->watching, 1) == 1) {
        take_the_rest(watch);
        close_socket(listener);
    }
}

bool md_listener_create(const struct md_listener_options *options, struct md_listener **out,
                        struct md_error *err)
{
    struct md_listener *listener = md_alloc_aligned(MD_CACHE_LINE, sizeof *listener);

    if (!listener) {
        return md_error_no_memory(err, "a listener");
    }
    *listener = (struct md_listener){
        .options = *options,
        .fd = -1,
        .is_unix = md_str_starts_with(md_str_of(options->address), MD_STR("unix:")),
    };
    listener->address = md_strdup(options->address);
    listener->watches = md_calloc(options->loop_count, sizeof *listener->watches);
    if (!listener->address || !listener->watches) {
        md_error_no_memory(err, "a listener");
        goto out;
    }
    if (!md_os_socket_listen(options->address, options->port, options->reuse_port, &listener->fd,
                             &listener->port, err)) {
        md_error_prefix(err, "%s", options->name);
        goto out;
    }
    for (size_t i = 0; i < options->loop_count; i++) {
        listener->watches[i] = (struct watch){
            .fd = {.fd = listener->fd, .ready = accept_some},
            .retry.fire = retry,
            .begin.run = begin_watch,
            .end.run = end_watch,
            .loop = options->loops[i],
            .listener = listener,
        };
    }
    *out = listener;
    return true;
out:
    md_listener_destroy(listener);
    return false;
}

uint16_t md_listener_port(const struct md_listener *listener)
{
    return listener->port;
}

bool md_listener_start(struct md_listener *listener, struct md_error *err)
{
    (void)err;
    atomic_store(&listener->watching, listener->options.loop_count);
    for (size_t i = 0; i < listener->options.loop_count; i++) {
        md_loop_post(listener->options.loops[i], &listener->watches[i].begin);
    }
    return true;
}

void md_listener_stop(struct md_listener *listener)
{
    if (atomic_exchange(&listener->stopped, true)) {
        return;
    }
    if (atomic_load(&listener->watching) == 0) { /* never started */
        close_socket(listener);
        return;
    }
    for (size_t i = 0; i < listener->options.loop_count; i++) {
        md_loop_post(listener->options.loops[i], &listener->watches[i].end);
    }
}

void md_listener_destroy(struct md_listener *listener)
{
    if (!listener) {
        return;
    }
    close_socket(listener);
    md_free(listener->address);
    md_free(listener->watches);
    md_free(listener);
}

size_t md_listener_open_count(const struct md_listener *listener)
{
    return atomic_load_explicit(&((struct md_listener *)(uintptr_t)listener)->open_count,
                                memory_order_relaxed);
}

uint64_t md_listener_accepted_count(const struct md_listener *listener)
{
    return atomic_load_explicit(&((struct md_listener *)(uintptr_t)listener)->accepted_count,
                                memory_order_relaxed);
}
