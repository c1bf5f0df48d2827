/*
 * Connections over os/socket; conn_tls.c is what TLS does otherwise.
 */
#include "net/conn.h"

#include "base/alloc.h"
#include "net/conn_internal.h"
#include "os/poll.h"

#include <string.h>

_Static_assert((int)MD_IO_OK == (int)MD_OS_IO_OK && (int)MD_IO_AGAIN == (int)MD_OS_IO_AGAIN &&
                   (int)MD_IO_EOF == (int)MD_OS_IO_EOF && (int)MD_IO_ERROR == (int)MD_OS_IO_ERROR,
               "the same four outcomes");

static void conn_ready(struct md_loop_fd *self, uint32_t events)
{
    struct md_conn *conn = MD_CONTAINER_OF(self, struct md_conn, fd);

    conn->handler->ready(conn->handler_arg, events);
}

struct md_conn *md_conn_create(int fd, const char *peer, struct md_loop *loop)
{
    struct md_conn *conn = md_calloc(1, sizeof *conn);

    if (conn) {
        conn->fd.fd = fd;
        conn->fd.ready = conn_ready;
        conn->loop = loop;
        memcpy(conn->peer, peer, sizeof conn->peer);
    }
    return conn;
}

enum md_io md_conn_recv(struct md_conn *conn, void *data, size_t len, size_t *count,
                        struct md_error *err)
{
    if (conn->tls) {
        return md_conn_tls_recv(conn, data, len, count, err);
    }
    return (enum md_io)md_os_socket_recv(conn->fd.fd, data, len, count, err);
}

/* Records are decrypted one by one: into each place as long as there is more. */
static enum md_io recv_parts_tls(struct md_conn *conn, const struct iovec *parts, int part_count,
                                 size_t *count, struct md_error *err)
{
    enum md_io outcome = MD_IO_OK;

    *count = 0;
    for (int i = 0; i < part_count; i++) {
        size_t n;
        outcome = md_conn_recv(conn, parts[i].iov_base, parts[i].iov_len, &n, err);
        if (outcome != MD_IO_OK) {
            break;
        }
        *count += n;
        if (n < parts[i].iov_len) {
            break;
        }
    }
    return *count ? MD_IO_OK : outcome; /* an end is met again in the next call */
}

enum md_io md_conn_recv_parts(struct md_conn *conn, const struct iovec *parts, int part_count,
                              size_t *count, struct md_error *err)
{
    if (conn->tls) {
        return recv_parts_tls(conn, parts, part_count, count, err);
    }
    return (enum md_io)md_os_socket_recv_parts(conn->fd.fd, parts, part_count, count, err);
}

enum md_io md_conn_send(struct md_conn *conn, const struct iovec *parts, int part_count,
                        size_t *count, struct md_error *err)
{
    if (conn->tls) {
        return md_conn_tls_send(conn, parts, part_count, count, err);
    }
    return (enum md_io)md_os_socket_send(conn->fd.fd, parts, part_count, count, err);
}

void md_conn_set_handler(struct md_conn *conn, const struct md_conn_handler *handler, void *arg)
{
    conn->handler = handler;
    conn->handler_arg = arg;
}

void md_conn_want(struct md_conn *conn, uint32_t events)
{
    if (conn->tls) {
        md_conn_tls_want(conn, events);
    } else {
        md_loop_fd_set(conn->loop, &conn->fd, events);
    }
}

void md_conn_set_low_water(struct md_conn *conn, size_t bytes)
{
    if (!conn->tls && !conn->is_unix) { /* in TLS some of them may have come already */
        md_os_socket_set_low_water(conn->fd.fd, bytes);
    }
}

void md_conn_shutdown(struct md_conn *conn)
{
    if (conn->tls) {
        md_conn_tls_shutdown(conn);
    } else {
        md_os_socket_shutdown_write(conn->fd.fd);
    }
}

size_t md_conn_unsent(const struct md_conn *conn)
{
    size_t unsent = md_os_socket_unsent(conn->fd.fd);

    return conn->tls ? unsent + md_tls_stream_unsent(conn->tls->stream) : unsent;
}

void md_conn_close(struct md_conn *conn)
{
    if (conn->tls) {
        md_conn_tls_end(conn);
    }
    if (conn->is_polled) {
        md_loop_fd_remove(conn->loop, &conn->fd);
    }
    md_os_close(conn->fd.fd);
    if (conn->open_count) {
        /* relaxed: a gauge */
        atomic_fetch_sub_explicit(conn->open_count, 1, memory_order_relaxed);
        md_loop_count_connection(conn->loop, -1);
    }
    if (conn->tls) {
        md_conn_tls_free(conn);
    } else {
        md_free(conn);
    }
}

struct md_loop *md_conn_loop(const struct md_conn *conn)
{
    return conn->loop;
}

bool md_conn_is_unix(const struct md_conn *conn)
{
    return conn->is_unix;
}

const char *md_conn_peer(const struct md_conn *conn)
{
    return conn->peer;
}
