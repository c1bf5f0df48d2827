/*
 * What a connection is made of; for conn.c, conn_tls.c and listener.c.
 */
#ifndef MD_NET_CONN_INTERNAL_H
#define MD_NET_CONN_INTERNAL_H

#include "net/conn.h"
#include "net/tls_stream.h"
#include "os/socket.h"

struct md_listener;

/* What a connection with TLS has beside. */
struct md_conn_tls {
    struct md_conn *conn;          /* whose this is */
    struct md_tls_stream *stream;  /* own */
    struct md_loop_timer deadline; /* of the handshake */
    struct md_loop_task again;     /* tells of what was received and not taken */
    bool is_pending;               /* `again` is to run */
    bool is_open;                  /* the handshake is over, well or not */
    bool is_failed;                /* it was not done in time */
    bool ends;                     /* half-close once the last bytes are out */
    bool is_closed;                /* to be freed by `again` */
};

struct md_conn {
    struct md_loop_fd fd;
    struct md_loop *loop; /* borrow: serves it for life */
    const struct md_conn_handler *handler;
    void *handler_arg;
    struct md_conn_tls *tls; /* own; NULL: plain */
    uint32_t wanted;         /* with TLS: what the layer above has asked for */
    bool is_polled, is_unix;
    char peer[MD_OS_PEER_MAX];
    struct md_listener *listener; /* while it is handed over */
    struct md_loop_task arrival;
    atomic_size_t *open_count; /* the listener's; NULL before it is counted */
};

/* NULL when out of memory; then the descriptor still belongs to the caller. */
struct md_conn *md_conn_create(int fd, const char *peer, struct md_loop *loop) MD_MUST_CHECK;
/* Makes it a TLS connection, whose handshake may take so long (0: no limit). Before it is polled,
 * on its loop. */
bool md_conn_start_tls(struct md_conn *conn, struct md_tls_context *context,
                       uint64_t handshake_timeout_ns, struct md_error *err) MD_MUST_CHECK;

/* conn_tls.c, for conn.c: the same as md_conn_want, _shutdown and _close, where they differ. */
void md_conn_tls_arm(struct md_conn *conn);
void md_conn_tls_want(struct md_conn *conn, uint32_t events);
void md_conn_tls_shutdown(struct md_conn *conn);
enum md_io md_conn_tls_recv(struct md_conn *conn, void *data, size_t len, size_t *count,
                            struct md_error *err);
enum md_io md_conn_tls_send(struct md_conn *conn, const struct iovec *parts, int part_count,
                            size_t *count, struct md_error *err);
/* Says goodbye to the peer; before the descriptor is closed. */
void md_conn_tls_end(struct md_conn *conn);
/* Frees the connection, now or when its task has run; after the descriptor is closed. */
void md_conn_tls_free(struct md_conn *conn);

#endif
