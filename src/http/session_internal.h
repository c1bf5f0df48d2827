/*
 * What a session is made of; for session.c (states, life), session_body.c (receiving) and
 * session_reply.c (sending).
 *
 * States:
 *
 *      HEAD ----------> BODY ----------> WORK ----------> REPLY ---> HEAD (keep-alive) or CLOSING
 *       |  no body       ^                ^  answered       ^
 *       +----------------|----------------+                 |
 *       +-- answered at once, body discarded or cut short --+
 *
 * md_session_run moves from state to state until one has to wait; handlers may answer from inside
 * it, so answering only notes the answer (`answered`) and runs the session when nobody else does
 * (`running`): no recursion.
 */
#ifndef MD_HTTP_SESSION_INTERNAL_H
#define MD_HTTP_SESSION_INTERNAL_H

#include "base/bytes.h"
#include "codec/json.h"
#include "http/coding.h"
#include "http/http1.h"
#include "http/session.h"

enum {
    MD_SESSION_IN_BYTES = 16 * 1024, /* read buffer; a larger head takes a larger block */
    MD_SESSION_DISCARD_MAX =
        1024 * 1024, /* unread body that is worth reading to keep the connection */
    MD_SESSION_TURN_BYTES = 1024 * 1024,   /* received and sent between them: the kernel copies that
                                             in a fifth of a millisecond */
    MD_SESSION_BULK_BYTES = 32 * 1024,     /* of a turn: more is part of something large */
    MD_SESSION_COMPRESS_FROM_BYTES = 1024, /* an answer of less would grow */
    MD_SESSION_STREAM_MAX_BYTES =
        16 * 1024 * 1024, /* written ahead of a slow reader; then it is given up */
};

#define MD_SESSION_TOO_LATE "Deadline Exceeded" /* as gRPC says it */

enum md_session_state {
    MD_SESSION_HEAD,
    MD_SESSION_BODY,
    MD_SESSION_INFLATE, /* the body is decoded from its content coding, in slices */
    MD_SESSION_WORK,    /* the handler has it */
    MD_SESSION_DEFLATE, /* the answer is compressed, in slices */
    MD_SESSION_REPLY,
    MD_SESSION_LINGER, /* the answer is out, the peer may still send: read and drop until it has
                          seen it */
    MD_SESSION_CLOSED,
};

struct md_session {
    struct md_exchange x; /* first: an exchange is its session */
    struct md_conn *conn; /* own; NULL when closed */
    const struct md_http_config *config;
    struct md_http_counters *counters;
    struct md_session_list *list;
    struct md_session_link link;
    enum md_session_state state;

    /* reading */
    bool has_begun;      /* what came first was no preface of HTTP/2 */
    struct md_block *in; /* own: only while there is something in it */
    size_t in_at, in_end;
    struct md_http1_scan scan;
    struct md_http1_request request;
    struct md_http1_chunked chunked;
    struct md_block *body; /* own: the raw body being received */
    size_t body_lead;      /* bytes before the body in its block, for alignment */
    size_t body_bytes;     /* received */
    size_t stalled_bytes;  /* held by this body while it waits for memory */
    bool awaited;          /* the body's first byte: no memory is taken before */
    bool discard;          /* the answer is decided: read the rest of the body and drop it */
    struct md_unpack unpack;

    /* answering */
    bool pinned; /* a caller still needs it: not to be freed */
    bool running, answered, close_after, peer_gone;
    bool handler_has_it; /* on_request was called and the answer is not complete */
    bool early;          /* answered before the whole request was there: the peer may still send */
    bool lingering, retrying;
    size_t unsent_bytes; /* in the socket when it was last looked at */
    unsigned retry_ms;   /* of the next wait for memory; 0: the first */
    struct md_http_response response;
    struct iovec held_part; /* the body of an answer of an exchange that is held, in `stream` */
    struct md_bytes head;   /* of the response; kept for the next */
    size_t head_at;
    const struct iovec *reply_parts; /* borrow: the response's, or of `pack` */
    size_t reply_part_count, part_at, part_offset;
    size_t reply_left;
    uint64_t reply_bytes; /* sent */
    size_t turn_bytes;    /* received and sent since other connections had their turn */
    struct md_pack pack;  /* own: the compressed answer */
    const char *coding;   /* of it */
    /* streaming answer */
    bool streaming, stream_ended, stream_chunked;
    struct md_bytes stream;
    size_t stream_at;
    void (*drained)(struct md_exchange *x);

    /* time */
    struct md_loop_timer timer;
    uint64_t deadline_ns;     /* 0: none */
    struct md_loop_task task; /* next slice, or a retry */
    bool task_pending;
};

void md_session_link(struct md_session_list *list, struct md_session_link *link);
void md_session_unlink(struct md_session_list *list, struct md_session_link *link);
/* The Date header's value; made once a second, for all sessions of the loop. */
const char *md_session_date(struct md_session_list *list, const struct md_loop *loop);
/* The CORS fields of an answer to this origin; 0: it may not read it. */
enum { MD_SESSION_CORS_FIELDS = 3 };
size_t md_session_cors(const struct md_http_config *config, struct md_str origin,
                       struct md_http_header fields[MD_SESSION_CORS_FIELDS]);
extern const struct md_http_response md_session_preflight;
/* An answer of the session itself, {"error": sentence}, in the arena; without memory it has no
 * body. */
struct md_http_response md_session_refusal(struct md_arena *arena, unsigned status, unsigned cause,
                                           const char *sentence);

extern const struct md_exchange_calls md_session_calls; /* session_reply.c */

void md_session_run(struct md_session *session);
void md_session_set_deadline(struct md_session *session,
                             uint64_t timeout_ns);             /* from now; 0: none */
void md_session_set_idle_deadline(struct md_session *session); /* for the next request */
/* An answer of the session itself: `{"error": sentence}`; the connection ends after it. */
void md_session_refuse(struct md_session *session, unsigned status, unsigned cause,
                       const char *sentence);
/* Goes on in the loop's next turn. */
void md_session_yield(struct md_session *session);
/* Tries again after 10 ms (memory is short). */
void md_session_retry_later(struct md_session *session);
/* The peer cannot be reached any more. */
void md_session_lost(struct md_session *session);
/* Frees a session that is closed, once nobody needs it any more. */
void md_session_release_when_unused(struct md_session *session);

/* Steps of md_session_run: true = the state may have changed, go on; false = wait for an event. */
bool md_session_step_body(struct md_session *session);
bool md_session_step_inflate(struct md_session *session);
bool md_session_step_deflate(struct md_session *session);
bool md_session_step_reply(struct md_session *session);
bool md_session_step_linger(struct md_session *session);

/* Reads into the input buffer; false: nothing came (waits, or the peer is lost). */
bool md_session_fill(struct md_session *session);
/* Begins receiving the body of session->request. */
void md_session_begin_body(struct md_session *session);
/* Turns session->response into bytes. */
void md_session_begin_reply(struct md_session *session);
void md_session_release_body(struct md_session *session);
/* Gives back what the exchange had, once its answer has gone out. */
void md_session_reset_exchange(struct md_session *session);
/* Whether something of the answer has reached the peer since this was last asked. */
bool md_session_peer_reads(struct md_session *session);
void md_session_drop_buffer(struct md_session *session);

enum md_refusal {
    MD_REFUSAL_MALFORMED,
    MD_REFUSAL_HEADER_SIZE,
    MD_REFUSAL_BODY_SIZE,
    MD_REFUSAL_TIMEOUT,
    MD_REFUSAL_MEMORY,
    MD_REFUSAL_ENCODING,
    MD_REFUSAL_DEADLINE, /* the client's own */
};

static inline void md_counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    /* one writer, relaxed: readers only want a recent number */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + amount,
                          memory_order_relaxed);
}

#endif
