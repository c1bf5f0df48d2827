/*
 * What a connection is made of; for conn.c and listener.c.
 */
#ifndef MD_NET_CONN_INTERNAL_H
#define MD_NET_CONN_INTERNAL_H

#include "net/conn.h"
#include "os/socket.h"

struct md_listener;

struct md_conn {
    struct md_loop_fd fd;
    struct md_loop *loop; /* borrow: serves it for life */
    const struct md_conn_handler *handler;
    void *handler_arg;
    bool is_polled, is_unix;
    char peer[MD_OS_PEER_MAX];
    struct md_listener *listener; /* while it is handed over */
    struct md_loop_task arrival;
    atomic_size_t *open_count; /* the listener's; NULL before it is counted */
};

/* NULL when out of memory; then the descriptor still belongs to the caller. */
struct md_conn *md_conn_create(int fd, const char *peer, struct md_loop *loop) MD_MUST_CHECK;

#endif
