/*
 * Session: HTTP on one connection. Ties the protocols' state machines to net and loop. This is
 * HTTP/1 (session.c and session_*.c) and where every connection begins; HTTP/2 is session_http2.h.
 *
 * One session for each connection, on its loop. It owns the connection. Reads go into a small
 * buffer; bodies above it go straight into the exchange's body block. Requests of one connection
 * are answered in order (pipelining: the next is parsed when the one before has been answered).
 * Limits and timeouts below hold for every connection; each violation has a clear answer (400, 408,
 * 411, 413, 414, 417, 431, 501, 503, 505) and closes the connection.
 */
#ifndef MD_HTTP_SESSION_H
#define MD_HTTP_SESSION_H

#include "http/exchange.h"
#include "http/http2.h"
#include "net/conn.h"

#include <stdatomic.h>

/* Counters of one loop; written by that loop alone, read by the metrics page. */
struct md_http_counters {
    _Alignas(MD_CACHE_LINE) _Atomic uint64_t requests;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t responses[6];      /* by status class: 1xx.. in [1].. */
    _Atomic uint64_t refused[8];        /* by cause, see md_http_refusal_name */
    _Atomic uint64_t grpc_statuses[32]; /* ends of gRPC calls, by status */
};

const char *md_http_refusal_name(
    unsigned cause); /* "malformed", "header_size", ...; NULL past the last */

/* Of connections that speak HTTP/2. */
struct md_http2_options {
    struct md_http2_limits limits;
    size_t max_message_bytes;      /* of gRPC */
    bool compresses;               /* gRPC answers to inferences, for clients that take it */
    uint64_t keepalive_time_ns;    /* without a sign of life: PING */
    uint64_t keepalive_timeout_ns; /* without an answer to it: closed */
    bool keepalive_without_calls;  /* also while nothing is asked */
    uint64_t min_ping_interval_ns; /* of the peer's PINGs while nothing is sent */
    unsigned max_ping_strikes;     /* more often than that too soon: closed; 0: never */
    uint64_t max_age_ns;           /* then no new requests are taken; 0: none */
    uint64_t max_age_grace_ns;     /* for those in work; 0: none */
};

/* Shared by all sessions of a listener; immutable while they live. */
struct md_http_config {
    /* Routes a request whose head is complete: sets x->handler (never NULL: an unknown path has a
     * handler too). */
    void (*route)(void *arg, struct md_exchange *x);
    void *route_arg;
    size_t max_header_bytes; /* request line and headers together */
    size_t max_header_count;
    size_t max_body_bytes;             /* as sent and decoded, unless a handler sets its own */
    uint64_t idle_timeout_ns;          /* between requests; 0 = none */
    uint64_t header_timeout_ns;        /* from the first byte of a head to its end */
    uint64_t body_timeout_ns;          /* without any progress of a body in or out */
    const struct md_str *cors_origins; /* allowed origins, "*" = all; none: no CORS headers */
    size_t cors_origin_count;
    /* Once for each exchange, when its last byte has gone out or it was cut off (499 if before the
     * answer); or NULL. Parts of the head may be empty if the request was malformed. */
    void (*access_log)(void *arg, const struct md_exchange *x, unsigned status,
                       uint64_t sent_bytes);
    void *access_log_arg;
    struct md_http_counters *counters; /* one for each loop, by index */
    const char *server_name;           /* value of the Server header; NULL: none */
    const struct md_http2_options *http2;
};

/* A session in its list, whatever it speaks. */
struct md_session_link {
    struct md_session_link *next, *previous;
    void (*drain)(struct md_session_link *link);
    void (*abort)(struct md_session_link *link);
};

/* All sessions of one loop, so that shutdown can reach them. One for each loop; zeroed = empty. */
struct md_session_list {
    struct md_session_link *first;
    size_t count;
    bool draining;
    char date[32];          /* value of the Date header */
    uint64_t date_until_ns; /* loop time; then it is made anew */
};

/* Takes over the connection, which speaks HTTP/1 or, if that is how it begins, HTTP/2. On failure
 * the connection is closed and a warning logged. */
void md_session_start(struct md_conn *conn, const struct md_http_config *config,
                      struct md_session_list *list);

/* On the list's loop: idle connections are closed (when nothing has arrived that was not read yet),
 * busy ones after their current answer, which says `Connection: close`; those that have not asked
 * yet, new ones, and those whose current answer has promised to keep the connection, the same after
 * their next answer, for which they have half a second to ask. */
void md_session_list_drain(struct md_session_list *list);
/* On the list's loop: closes everything at once; exchanges in work are cancelled. */
void md_session_list_abort(struct md_session_list *list);

#endif
