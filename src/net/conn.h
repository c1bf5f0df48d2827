/*
 * Connection: a byte stream between a client and this server, over TCP or a unix socket, plain or
 * in TLS. With TLS the same holds for every call; nothing is received or sent before the handshake
 * is done.
 *
 * Created by the listener on the loop that serves it for life; every call on that loop's thread.
 * The layer above (http/session) decides when to read and into which memory: nothing is buffered
 * here.
 */
#ifndef MD_NET_CONN_H
#define MD_NET_CONN_H

#include "base/error.h"
#include "loop/loop.h"

#include <sys/types.h>
#include <sys/uio.h>

struct md_conn;

/* What the layer above wants to hear. */
struct md_conn_handler {
    /* The connection is ready as asked with md_conn_want (a hang-up counts as readable). */
    void (*ready)(void *arg, uint32_t events);
};

enum md_io { MD_IO_OK, MD_IO_AGAIN, MD_IO_EOF, MD_IO_ERROR };

/* Reads what is there, at most len (> 0); OK with *count > 0, AGAIN, EOF, ERROR (errno-like
 * sentence in err). Less than len means that there is no more now: waiting for `ready` is right
 * then, as after AGAIN. */
enum md_io md_conn_recv(struct md_conn *conn, void *data, size_t len, size_t *count,
                        struct md_error *err);
/* The same into several places, one after the other. */
enum md_io md_conn_recv_parts(struct md_conn *conn, const struct iovec *parts, int part_count,
                              size_t *count, struct md_error *err);
/* Writes from the parts, as much as goes; OK with *count > 0, AGAIN, ERROR (also: the peer has
 * gone). Less than all means that the socket is full; what follows must begin with the rest of
 * what it was offered up to the end of a line or frame (in TLS that may have been encrypted
 * already). Once all is taken the connection may be closed. */
enum md_io md_conn_send(struct md_conn *conn, const struct iovec *parts, int part_count,
                        size_t *count, struct md_error *err);

void md_conn_set_handler(struct md_conn *conn, const struct md_conn_handler *handler, void *arg);
/* Events that `ready` is called for: MD_LOOP_READ, MD_LOOP_WRITE, both or none. */
void md_conn_want(struct md_conn *conn, uint32_t events);
/* For those that know what comes next: `ready` is called once so many bytes (1 to 1 MiB) are there,
 * or the end, or when no more fit. Where that cannot be had, for each as before. */
void md_conn_set_low_water(struct md_conn *conn, size_t bytes);
/* Half-closes our direction, so that the peer sees the end after all data. Nothing is sent after
 * it. */
void md_conn_shutdown(struct md_conn *conn);
/* Bytes that were sent and have not reached the peer yet: whether it reads at all. */
size_t md_conn_unsent(const struct md_conn *conn);
/* Closes and frees. */
void md_conn_close(struct md_conn *conn);

struct md_loop *md_conn_loop(const struct md_conn *conn);
/* "127.0.0.1:51234", "[::1]:51234", "unix:"; for logs. Valid while the connection lives. */
const char *md_conn_peer(const struct md_conn *conn);
/* Whether it came over a unix socket; by its listener. */
bool md_conn_is_unix(const struct md_conn *conn);

#endif
