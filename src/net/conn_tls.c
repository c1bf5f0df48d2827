/*
 * Connections with TLS: the handshake, and readiness as the layer above sees it.
 *
 * 1. The handshake is driven here, by the socket's events; the layer above hears nothing before it
 *    is over. Then it hears all that it wants: it finds data, an end or an error.
 * 2. The socket is watched for writing as long as bytes wait for it, wanted above or not.
 * 3. What was decrypted and not taken makes no event of the socket: a task of the loop stands in.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "net/conn_internal.h"
#include "os/poll.h"

void md_conn_tls_arm(struct md_conn *conn)
{
    uint32_t events = conn->tls->is_open ? conn->wanted : MD_LOOP_READ;

    if (md_tls_stream_unsent(conn->tls->stream)) {
        events |= MD_LOOP_WRITE;
    }
    md_loop_fd_set(conn->loop, &conn->fd, events);
}

/* --- events -------------------- */

static void release_deadline(struct md_conn *conn)
{
    if (conn->tls->deadline.fire) {
        md_loop_timer_cancel(conn->loop, &conn->tls->deadline);
        md_loop_timer_unreserve(conn->loop);
        conn->tls->deadline.fire = NULL;
    }
}

/* It was or was not done. What fails is mostly no fault of ours: for those who look for it. */
static void end_handshake(struct md_conn *conn, enum md_io outcome, const struct md_error *err)
{
    conn->tls->is_open = true;
    release_deadline(conn);
    if (outcome != MD_IO_OK) {
        md_log(MD_LOG_VERBOSE, "connection from %s: no TLS handshake: %s", conn->peer,
               outcome == MD_IO_EOF ? "it was closed meanwhile" : err->text);
    }
}

static void deadline_passed(struct md_loop_timer *timer)
{
    struct md_conn_tls *tls = MD_CONTAINER_OF(timer, struct md_conn_tls, deadline);
    struct md_conn *conn = tls->conn;
    struct md_error err;

    md_error_set(&err, MD_REASON_DEADLINE, "it took too long");
    tls->is_failed = true;
    end_handshake(conn, MD_IO_ERROR, &err);
    conn->handler->ready(conn->handler_arg, MD_LOOP_READ);
}

/* Sends what waits, and ends our direction when that was asked for. */
static void flush(struct md_conn *conn)
{
    struct md_error err;

    if (md_tls_stream_flush(conn->tls->stream, &err) == MD_IO_OK && conn->tls->ends) {
        conn->tls->ends = false;
        md_os_socket_shutdown_write(conn->fd.fd);
    }
}

static void ready(struct md_loop_fd *self, uint32_t events)
{
    struct md_conn *conn = MD_CONTAINER_OF(self, struct md_conn, fd);
    struct md_conn_tls *tls = conn->tls;
    struct md_error err;

    flush(conn);
    if (!tls->is_open) {
        enum md_io outcome = md_tls_stream_handshake(tls->stream, &err);
        if (outcome != MD_IO_AGAIN) {
            end_handshake(conn, outcome, &err);
        }
        events = tls->is_open ? conn->wanted | (events & MD_LOOP_HANGUP) : 0;
    } else if (!(events & MD_LOOP_HANGUP)) {
        events &= conn->wanted;
    }
    md_conn_tls_arm(conn);
    if (events) {
        conn->handler->ready(conn->handler_arg, events);
    }
}

static void run_again(struct md_loop_task *task)
{
    struct md_conn_tls *tls = MD_CONTAINER_OF(task, struct md_conn_tls, again);
    struct md_conn *conn = tls->conn;

    tls->is_pending = false;
    if (tls->is_closed) {
        md_free(conn);
        md_free(tls);
    } else if ((conn->wanted & MD_LOOP_READ) && md_tls_stream_has_more(tls->stream)) {
        conn->handler->ready(conn->handler_arg, MD_LOOP_READ);
    }
}

/* --- life -------------------- */

bool md_conn_start_tls(struct md_conn *conn, struct md_tls_context *context,
                       uint64_t handshake_timeout_ns, struct md_error *err)
{
    struct md_conn_tls *tls = md_calloc(1, sizeof *tls);

    if (!tls) {
        return md_error_no_memory(err, "a TLS connection");
    }
    tls->conn = conn;
    tls->stream = md_tls_stream_create(context, conn->fd.fd);
    if (!tls->stream) {
        md_free(tls);
        return md_error_no_memory(err, "a TLS connection");
    }
    if (handshake_timeout_ns) {
        if (!md_loop_timer_reserve(conn->loop, err)) {
            md_tls_stream_destroy(tls->stream);
            md_free(tls);
            return false;
        }
        tls->deadline.fire = deadline_passed;
        md_loop_timer_set(conn->loop, &tls->deadline,
                          md_loop_now_ns(conn->loop) + handshake_timeout_ns);
    }
    tls->again.run = run_again;
    conn->tls = tls;
    conn->wanted = MD_LOOP_READ;
    conn->fd.ready = ready;
    return true;
}

void md_conn_tls_end(struct md_conn *conn)
{
    release_deadline(conn);
    md_tls_stream_end(conn->tls->stream);
}

void md_conn_tls_free(struct md_conn *conn)
{
    struct md_conn_tls *tls = conn->tls;

    md_tls_stream_destroy(tls->stream);
    tls->stream = NULL;
    if (tls->is_pending) {
        tls->is_closed = true;
    } else {
        md_free(tls);
        md_free(conn);
    }
}

/* --- what conn.c asks -------------------- */

enum md_io md_conn_tls_recv(struct md_conn *conn, void *data, size_t len, size_t *count,
                            struct md_error *err)
{
    *count = 0;
    if (conn->tls->is_failed) {
        md_error_set(err, MD_REASON_DEADLINE, "the TLS handshake took too long");
        return MD_IO_ERROR;
    }
    if (!conn->tls->is_open) {
        return MD_IO_AGAIN;
    }
    enum md_io outcome = md_tls_stream_recv(conn->tls->stream, data, len, count, err);
    if (md_tls_stream_unsent(conn->tls->stream)) { /* an answer of TLS itself */
        md_conn_tls_arm(conn);
    }
    return outcome;
}

enum md_io md_conn_tls_send(struct md_conn *conn, const struct iovec *parts, int part_count,
                            size_t *count, struct md_error *err)
{
    *count = 0;
    return conn->tls->is_open ? md_tls_stream_send(conn->tls->stream, parts, part_count, count, err)
                              : MD_IO_AGAIN;
}

void md_conn_tls_want(struct md_conn *conn, uint32_t events)
{
    struct md_conn_tls *tls = conn->tls;

    conn->wanted = events;
    md_conn_tls_arm(conn);
    if ((events & MD_LOOP_READ) && !tls->is_pending && md_tls_stream_has_more(tls->stream)) {
        tls->is_pending = true;
        md_loop_defer(conn->loop, &tls->again);
    }
}

void md_conn_tls_shutdown(struct md_conn *conn)
{
    md_tls_stream_end(conn->tls->stream);
    conn->tls->ends = true;
    flush(conn);
    md_conn_tls_arm(conn);
}
