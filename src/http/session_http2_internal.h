/*
 * What a session of HTTP/2 is made of; for session_http2.c (its turns and its life),
 * session_http2_io.c (input and output), session_http2_time.c (limits of time),
 * session_http2_call.c (calls), session_http2_body.c (what they receive), session_http2_reply.c
 * (what they answer), session_grpc.c (gRPC).
 *
 * A call is a stream's exchange. Its memory is its own arena's first chunk. It is freed when its
 * stream is over (all has been written, or it was reset), its handler has answered, and nobody
 * holds its exchange; a handler may answer from inside its callbacks, so these run `pinned`.
 *
 *      RECEIVING --> UNPACKING --> WORKING --> PACKING --> REPLYING
 *        ^  |                        ^
 *        +--+ messages of a stream   +-- no content coding
 */
#ifndef MD_HTTP_SESSION_HTTP2_INTERNAL_H
#define MD_HTTP_SESSION_HTTP2_INTERNAL_H

#include "http/coding.h"
#include "http/grpc.h"
#include "http/grpc_frame.h"
#include "http/http2_head.h"
#include "http/session_http2.h"
#include "http/session_internal.h"

enum {
    MD_HTTP2_LINGER_MS = 2000, /* for a peer to see the end */
    MD_HTTP2_BULK_WAIT_MS = 5, /* for a turn's worth of a large body */
};

enum md_call_state {
    MD_CALL_RECEIVING, /* a body, or messages */
    MD_CALL_UNPACKING, /* a body or message, in slices */
    MD_CALL_WORKING,   /* the handler has it all */
    MD_CALL_PACKING,   /* the answer, in slices */
    MD_CALL_REPLYING,
};

struct md_call {
    struct md_exchange x; /* first */
    struct md_http2_stream stream;
    struct md_http2_session *session;
    struct md_http2_head
        *head; /* own reference: what `request` views, unless that is the arena's */
    struct md_http2_request request;
    enum md_call_state state;

    /* receiving: a body, or the message that is coming */
    struct md_block *block; /* own; NULL: in the arena, or nothing yet */
    char *data;             /* where its bytes go */
    size_t bytes;           /* there */
    size_t capacity;        /* of data */
    uint64_t received_bytes;
    char prefix[MD_GRPC_PREFIX_BYTES];
    size_t prefix_bytes;
    size_t message_bytes; /* of the message that is coming */
    bool in_message;
    bool is_packed;          /* the message is compressed */
    unsigned message_count;  /* complete */
    bool discards;           /* what still comes is dropped */
    bool is_paused;          /* by the handler */
    bool requested;          /* on_request was called, or is not to be */
    bool is_starved;         /* no memory for it: the session reads nothing until there is */
    size_t stalled_bytes;    /* that it holds meanwhile */
    uint64_t starved_ns;     /* since */
    struct md_bytes backlog; /* own: came while it was paused or unpacked; bounded by the window */
    struct md_unpack unpack;

    /* answering */
    bool pinned;         /* a callback of the handler runs */
    bool handler_has_it; /* a callback was called and the answer is not complete */
    bool answered;       /* the end of the answer is known */
    bool head_sent;
    bool streaming; /* md_exchange_begin */
    unsigned status;
    uint64_t sent_bytes; /* of the body */
    struct md_http_response response;
    void (*drained)(struct md_exchange *x);
    struct md_bytes trailers; /* own: fields that the handler added */
    struct md_pack pack;
    const char *coding;
    bool grpc_packs;           /* a message is being packed; its end follows */
    bool grpc_ends;            /* meanwhile its status came: */
    struct md_str grpc_status; /* its trailers */
    void (*message_sent)(void *arg);
    void *message_arg;

    /* time */
    uint64_t deadline_ns; /* for the next bytes of the request; 0: none */
    uint64_t send_ns;     /* for the next bytes of the answer to leave; 0: none */
    uint64_t send_seen;   /* of them that had left when this was set */
    struct md_call *work_next;
    bool has_work; /* in the session's list of those that go on in the next turn */
    bool has_left; /* its stream is over; it is there for those who hold its exchange */
};

struct md_http2_session {
    struct md_conn *conn; /* own; NULL when closed */
    struct md_loop *loop;
    const struct md_http_config *config;
    struct md_http_counters *counters;
    struct md_session_list *list;
    struct md_session_link link;
    struct md_http2 h2;
    struct md_block *in; /* own: only while there is something in it */
    size_t in_at, in_end;
    struct md_bytes scratch; /* own: header blocks */
    size_t low_water;        /* bytes that must be there before more are received; 0: any */
    uint64_t low_ns;         /* since */
    uint32_t slow_id;        /* the stream whose body came too slowly to wait for so many */
    bool holds_input;        /* until the peer has read more of what it was told */
    bool running;            /* inside run(): what is left to write is written at its end */
    bool lost;               /* the peer cannot be reached any more */
    bool ending;             /* close when all has been written */
    bool notified;           /* the first GOAWAY is out */
    bool last_goaway;        /* the second too */
    bool lingering;          /* all has been said: until the peer has seen it */
    bool serves_grpc;
    size_t turn_bytes;
    struct md_loop_task flush_task, work_task;
    bool flush_pending, work_pending;
    struct md_call *work_first, *work_last;
    unsigned seen_pings, ping_strikes;
    uint64_t ping_ns;       /* the peer's last PING */
    uint64_t frame_ns;      /* a frame that is not complete began to come; 0: none */
    uint64_t alive_ns;      /* bytes were received */
    uint64_t age_ns;        /* connection's begin */
    uint64_t probe_ns;      /* our PING that is not answered; 0: none */
    uint64_t going_ns;      /* the first GOAWAY */
    uint64_t idle_ns;       /* no call since */
    size_t held_count;      /* calls that have left and are held: they are not in h2 any more */
    unsigned starved_count; /* calls that wait for memory */
    uint64_t retry_ns;      /* when they try again */
    uint64_t stall_ns;      /* output that does not go out since; 0: it does */
    size_t unsent_bytes;    /* in the socket when it was last looked at */
    struct md_loop_timer timer;
};

/* --- session_http2_io.c -------------------- */

enum md_intake {
    MD_INTAKE_NONE,
    MD_INTAKE_SOME, /* less than there was room for: the socket is empty */
    MD_INTAKE_FULL,
};

/* Receives into the read buffer, or straight into the body that comes next. */
enum md_intake md_http2_session_receive(struct md_http2_session *session);
enum md_intake md_http2_session_receive_to(struct md_http2_session *session, char *at, size_t room,
                                           size_t *count);
/* Room for at least `wanted` bytes in the read buffer; false: no memory. */
bool md_http2_session_make_room(struct md_http2_session *session, size_t wanted);
void md_http2_session_drop_buffer(struct md_http2_session *session); /* when it is empty */
/* While a large body comes, waking up for each segment costs more than receiving it: the socket is
 * left alone until there is a turn's worth, or the rest. The second: it takes too long, and what
 * the peer says may be something else. */
void md_http2_session_wait_for_bulk(struct md_http2_session *session);
void md_http2_session_end_wait_for_bulk(struct md_http2_session *session);
/* Whether it goes on with what the peer says: not while that does not read what it is told, or
 * calls wait for memory. */
bool md_http2_session_takes_more(const struct md_http2_session *session);
/* Writes what is queued, a turn's worth. */
void md_http2_session_write(struct md_http2_session *session);
/* The peer cannot be reached any more. */
void md_http2_session_lost(struct md_http2_session *session);
/* Everything that is queued goes out at the end of this turn. */
void md_http2_session_flush_soon(struct md_http2_session *session);

/* --- session_http2_time.c -------------------- */

/* The timer fires at this time at the latest. */
void md_http2_session_watch(struct md_http2_session *session, uint64_t deadline_ns);
/* The same for a limit from now on; returns its time. 0: none. */
uint64_t md_http2_session_watch_for(struct md_http2_session *session, uint64_t timeout_ns);
/* Looks at all limits; the next one's time, UINT64_MAX: none. */
uint64_t md_http2_session_look_at_limits(struct md_http2_session *session);
/* The peer's PINGs keep connections open for nothing: too many too soon end it. */
void md_http2_session_judge_pings(struct md_http2_session *session);
/* The first of two steps of going away (RFC 9113 6.8): requests on their way are still served. */
void md_http2_session_notify(struct md_http2_session *session);
/* The second: new requests are refused. */
void md_http2_session_refuse_new(struct md_http2_session *session, enum md_http2_error error,
                                 const char *text);
void md_http2_session_cancel_all(struct md_http2_session *session);

/* --- session_http2_call.c -------------------- */

/* For the state machine, as struct md_http2_owner has them. */
struct md_http2_stream *md_call_open(void *arg);
void md_call_sent(void *arg, struct md_http2_stream *stream);
/* What is in the list of those that have work, or in the read buffer, goes on in the next turn. */
void md_http2_session_work_soon(struct md_http2_session *session);
/* A slice of the call's work. */
void md_call_step(struct md_call *call);
/* The call goes on in the next turn: a slice of work, or its backlog. */
void md_call_work_soon(struct md_call *call);
/* Looks whether the call is over, and frees it unless it is held. */
void md_call_settle(struct md_call *call);
/* Nobody waits for the answer any more. */
void md_call_cancel(struct md_call *call);
void md_call_set_deadline(struct md_call *call, uint64_t timeout_ns); /* from now; 0: none */
/* Something of the answer waits for its reader. */
void md_call_watch_reader(struct md_call *call);

static inline struct md_call *md_call_of(struct md_exchange *x)
{
    return MD_CONTAINER_OF(x, struct md_call, x);
}

/* Around whatever may end the call: it is not freed meanwhile, but in the last unpin. */
static inline bool md_call_pin(struct md_call *call)
{
    const bool was_pinned = call->pinned;

    call->pinned = true;
    return was_pinned;
}

static inline void md_call_unpin(struct md_call *call, bool was_pinned)
{
    call->pinned = was_pinned;
    md_call_settle(call);
}

/* Of the answer's body, what the windows have let go. */
static inline uint64_t md_call_left_bytes(const struct md_call *call)
{
    return call->sent_bytes - call->stream.queued_bytes;
}

static inline struct md_pool *md_call_pool(const struct md_call *call)
{
    return md_loop_pool(call->x.loop);
}

/* --- session_http2_body.c -------------------- */

void md_call_take_head(struct md_call *call, const struct md_http2_event *event);
void md_call_take_trailers(struct md_call *call);
void md_call_take_data(struct md_call *call, struct md_str bytes, bool ends);
/* Where the next bytes of the body can be received in place; 0: nowhere. */
size_t md_call_room(struct md_call *call, size_t wanted, char **at);
void md_call_took(struct md_call *call, size_t count, bool ends);
/* A slice of unpacking, or of the backlog. */
void md_call_receive_step(struct md_call *call);
void md_call_release_body(struct md_call *call);
/* All has come: the handler is asked. */
void md_call_request(struct md_call *call);
/* There is no memory for what has come; the call needs `need` bytes in the end, or soon. True: it
 * waits, and tries again what it was about to do. False: it was refused. */
bool md_call_wait_for_memory(struct md_call *call, size_t need);
void md_call_end_wait(struct md_call *call); /* it has got it; fine if it did not wait */

/* --- session_http2_reply.c -------------------- */

extern const struct md_exchange_calls md_call_calls;
/* An answer of the session itself, in the call's own protocol. */
void md_call_refuse(struct md_call *call, unsigned cause, const struct md_error *err);
void md_call_refuse_for(struct md_call *call, unsigned cause, enum md_reason reason,
                        const char *sentence);
void md_call_pack_step(struct md_call *call);
/* Asks a handler that answers piece by piece for more, once all that it wrote has left. */
void md_call_drained(struct md_call *call);
/* The head's block in the session's scratch; then put it. */
struct md_bytes *md_call_begin_block(struct md_call *call);
void md_call_put_block(struct md_call *call, bool ends);
enum { MD_CALL_HEAD_BYTES = 8 }; /* a first part of so many is copied in any case */

/* Sends parts of a body: copied if they are few or `copy` says so, else where they lie; `sent` when
 * they have left or never will. False: the stream is over, or was reset without memory. */
bool md_call_send(struct md_call *call, const struct iovec *parts, size_t part_count, bool copy,
                  void (*sent)(void *arg), void *arg);
/* Resets the stream: the answer cannot be completed. */
void md_call_lose(struct md_call *call);

/* --- session_grpc.c -------------------- */

/* Bytes of a call's body that hold messages; returns how many were taken (less: it is paused or
 * unpacking). */
size_t md_grpc_take(struct md_call *call, struct md_str bytes);
void md_grpc_ended(struct md_call *call);
/* The message is complete (and unpacked). */
void md_grpc_deliver(struct md_call *call);
/* The answer's message is compressed, or (not ok) cannot be. */
void md_grpc_packed(struct md_call *call, bool ok);
/* grpc-timeout, grpc-encoding; false: answered. */
bool md_grpc_begin(struct md_call *call);
/* The time limit has passed: the client gets its status, the handler is told. */
void md_grpc_out_of_time(struct md_call *call);
/* The end of the answer, if it has none yet. */
void md_grpc_put_end(struct md_call *call, const struct md_error *err);

#endif
