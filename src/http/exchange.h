/*
 * Exchange: one HTTP request and its response, whatever the HTTP version.
 *
 * Lives on its connection's loop; every call on that loop's thread. The session creates it when a
 * request's head is complete and frees it when the response has been written AND the handler has
 * answered. The handler answers each exchange whose on_request was called exactly once, also after
 * on_cancel (then the answer is dropped): until then the exchange stays valid. An exchange that
 * ends before on_request needs no answer; what on_head made is undone by cleanups of the arena.
 *
 *      head -> on_head -> body arrives -> on_request -> ... -> md_exchange_respond -> written,
 * freed |                           |
 *                 +-- may answer at once      +-- on_cancel if the client goes away before the
 * answer
 *
 * All memory of an answer lives in the exchange's arena or is kept alive by a cleanup of that arena
 * (unref of a block): the arena is reset after the last byte has gone out.
 *
 * A handler that answers while somebody else still works in that memory holds the exchange first
 * (md_exchange_hold): the answer goes out, and arena and body stay until it is released.
 */
#ifndef MD_HTTP_EXCHANGE_H
#define MD_HTTP_EXCHANGE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/log.h"
#include "base/pool.h"
#include "loop/loop.h"

#include <sys/uio.h>

enum md_http_method {
    MD_HTTP_GET,
    MD_HTTP_HEAD,
    MD_HTTP_POST,
    MD_HTTP_PUT,
    MD_HTTP_DELETE,
    MD_HTTP_OPTIONS,
    MD_HTTP_PATCH,
    MD_HTTP_OTHER,
};

struct md_http_header {
    struct md_str name;  /* as sent; compare with md_str_eq_nocase */
    struct md_str value; /* trimmed */
};

/* Retry-After: MD_RETRY_AFTER_S. */
static inline const struct md_http_header *md_http_retry_after(void)
{
    static const struct md_http_header header = {.name = MD_STR("Retry-After"),
                                                 .value = MD_STR(MD_RETRY_AFTER_TEXT)};

    return &header;
}

/* The head of a request; views into memory of the exchange. */
struct md_http_head {
    enum md_http_method method;
    struct md_str method_name;
    struct md_str path;  /* raw, without the query; begins with '/' (or is "*") */
    struct md_str query; /* raw, without '?' */
    const struct md_http_header *headers;
    size_t header_count;
    int64_t content_length; /* of the body as sent; -1 = chunked (unknown) */
    bool has_body;
};

enum { MD_HTTP_CAPTURES_MAX = 4 };

struct md_exchange;
struct md_exchange_calls;

/* A dialect's handler for what a router has found. Set by on_head's caller; all callbacks on the
 * loop. */
struct md_http_handler {
    /* The head is there. May set x->body_max, x->body_lead; may answer at once (an error): the body
     * is then drained or the connection closed by the session. */
    void (*on_head)(struct md_exchange *x);
    /* The whole body is in x->body (decoded from its content coding); of a gRPC call: its one
     * message. With on_message: the client has sent its last one. */
    void (*on_request)(struct md_exchange *x);
    /* gRPC methods whose clients may send any number of messages: each is in x->body until this
     * returns (keep a reference of x->body_block to keep it). Optional. */
    void (*on_message)(struct md_exchange *x);
    /* After on_request: nobody waits for the answer any more. Optional. */
    void (*on_cancel)(struct md_exchange *x);
};

struct md_exchange {
    const struct md_exchange_calls *calls; /* borrow: the session that it belongs to */
    struct md_loop *loop;                  /* borrow */
    struct md_arena arena;                 /* of this exchange */
    struct md_http_head head;
    const struct md_http_handler *handler; /* borrow */
    const void *route_data;                /* borrow: what the router's table says of the route */
    struct md_str captures[MD_HTTP_CAPTURES_MAX]; /* parts of the path, decoded, zero-terminated;
                                                     empty if absent */
    const char *allow; /* borrow: the methods of this path, which an answer of 405 names; NULL: none
                          are known */
    void *dialect;     /* the handler's own, from the arena */

    /* Set by on_head, before the body is received. */
    size_t body_max;  /* larger bodies, or messages of gRPC, are refused; default: the session's
                         limit */
    size_t body_lead; /* the byte at this offset of the body will be aligned to 64 bytes (tensors
                         after a JSON head) */

    /* The body: contiguous, in a block of the loop's pool (NULL when empty). The handler may keep a
     * reference. */
    struct md_block *body_block;
    struct md_str body;

    uint64_t begin_ns; /* the earliest time its first byte may have come */
    uint64_t body_ns;  /* last byte of the body seen; of a stream's newest message as begin_ns */
    const char *peer;  /* who asks: "127.0.0.1:4711", "[::1]:4711", "unix:"; "" once it has gone */
    bool over_unix_socket; /* as the listener knows */
    struct md_log_context
        log; /* what it is about, as far as the handler knows; for the access log */
    bool cancelled;
    unsigned holds; /* md_exchange_hold without md_exchange_release yet */

    /* Of a gRPC call, see http/grpc.h. */
    bool is_grpc;
    bool may_compress;    /* set by on_head: messages are compressed if the server is told to and
                             the client takes it */
    unsigned grpc_status; /* once it has ended: for the access log */

    /* Loop time by which the client wants its answer; 0: none. Set by on_head, of gRPC by the
     * session before it. A request that has not come whole by then is refused; from on_request on
     * it is the handler's affair, but for gRPC, see http/grpc.h. */
    uint64_t deadline_ns;
};

/* Value of a header, or an empty view with NULL pointer. The first one, if there are several. */
struct md_str md_exchange_header(const struct md_exchange *x, const char *name);

struct md_http_response {
    unsigned status;
    const char *content_type;             /* NULL: none */
    const struct md_http_header *headers; /* further ones; memory of the exchange or static */
    size_t header_count;
    const struct iovec *parts; /* body; array and bytes: memory of the exchange or kept by it */
    size_t part_count;
    bool close;        /* ask for the end of the connection */
    bool may_compress; /* compress if the client accepts it (Accept-Encoding) and it is worth it:
                          above 1 KiB, or produced piece by piece */
};

/* Bytes of all parts together. */
static inline size_t md_http_parts_bytes(const struct iovec *parts, size_t part_count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < part_count; i++) {
        bytes += parts[i].iov_len;
    }
    return bytes;
}

/* How a session takes answers: the functions below, by the exchange's version of HTTP. */
struct md_exchange_calls {
    void (*respond)(struct md_exchange *x, const struct md_http_response *response);
    void (*begin)(struct md_exchange *x, const struct md_http_response *response,
                  void (*drained)(struct md_exchange *x));
    bool (*write)(struct md_exchange *x, struct md_str bytes);
    void (*end)(struct md_exchange *x);
    void (*abort)(struct md_exchange *x);
    void (*released)(struct md_exchange *x); /* nobody holds it any more */
};

/* Answers with a body of known length. HEAD requests get the headers alone. */
void md_exchange_respond(struct md_exchange *x, const struct md_http_response *response);

/* A body that is produced piece by piece (chunked for HTTP/1.1): begin, then write..., then end.
 * `write` takes a copy; it returns false when nothing more is wanted (the client has gone, or asked
 * for the head alone): then only end is left to call. `drained` is called when what was written has
 * left and more is wanted (NULL: not interested); and once when the client has gone, if the handler
 * has no on_cancel. At most 16 MiB wait for a slow client: whoever writes more ahead loses it. */
void md_exchange_begin(struct md_exchange *x, const struct md_http_response *response,
                       void (*drained)(struct md_exchange *x));
bool md_exchange_write(struct md_exchange *x, struct md_str bytes);
void md_exchange_end(struct md_exchange *x);
/* Instead of end: the rest cannot be produced. The connection is cut, so that nobody takes what
 * went out for the whole. */
void md_exchange_abort(struct md_exchange *x);

/* Before an answer that is complete at once (md_exchange_respond, or md_grpc_end): the exchange,
 * its arena and its body stay until as many releases, however long after the answer and whatever
 * becomes of the connection, which does not wait for them: over HTTP/1 it ends after the answer,
 * over HTTP/2 the stream does. Nothing is allocated in the arena from then on; so the answer's body
 * is copied by md_exchange_respond, is not compressed, and its headers are static. The last release
 * may free the exchange. */
void md_exchange_hold(struct md_exchange *x);
void md_exchange_release(struct md_exchange *x);

#endif
