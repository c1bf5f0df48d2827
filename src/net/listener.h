/*
 * Listener: accepts connections on an address and gives each to a loop.
 *
 * Created on the main thread before or while loops run. TCP addresses are IPv4, IPv6 ("::1",
 * "[::1]") or host names; "unix:/path" is a unix socket (a stale socket file is replaced, a live
 * one is an error). Each loop has its own SO_REUSEPORT socket when `reuse_port` is set across
 * processes; within the process one socket is accepted by all loops through EPOLLEXCLUSIVE, and an
 * accepting loop hands the connection to the loop with the fewest connections. Out of descriptors:
 * accepting pauses and is tried again after 100 ms, with one warning.
 */
#ifndef MD_NET_LISTENER_H
#define MD_NET_LISTENER_H

#include "net/conn.h"
#include "net/tls.h"

struct md_listener;

struct md_listener_options {
    const char *address; /* borrow during create */
    uint16_t port;       /* 0: the kernel chooses, see md_listener_port */
    bool reuse_port;
    const char *name;           /* borrow: "http", for messages; lives as long as the listener */
    size_t max_connections;     /* over all loops; beyond it new ones are closed at once, with one
                                   warning a second */
    struct md_tls_context *tls; /* borrow: lives as long as the listener; NULL: plain */
    uint64_t handshake_timeout_ns; /* of TLS; 0: no limit */
    struct md_loop *const *loops;  /* borrow: live as long as the listener */
    size_t loop_count;
    /* Called on the serving loop for each new connection, which it now owns. */
    void (*accepted)(void *arg, struct md_conn *conn);
    void *arg;
};

/* Binds and listens; clients can connect (and wait) from here on. Errors name address, port and
 * what holds it. */
bool md_listener_create(const struct md_listener_options *options, struct md_listener **out,
                        struct md_error *err) MD_MUST_CHECK;
uint16_t md_listener_port(const struct md_listener *listener);
/* Starts accepting on the loops. */
bool md_listener_start(struct md_listener *listener, struct md_error *err) MD_MUST_CHECK;
/* Stops accepting, but for clients that the kernel has connected already, and closes the sockets;
 * any thread. Returns at once; loops let go in their next turn. */
void md_listener_stop(struct md_listener *listener);
void md_listener_destroy(struct md_listener *listener); /* after the loops have ended */

/* Counters over all loops; any thread. */
size_t md_listener_open_count(const struct md_listener *listener);
uint64_t md_listener_accepted_count(const struct md_listener *listener);

#endif
