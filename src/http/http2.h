/*
 * HTTP/2 as a state machine over bytes, the server's side (RFC 9113). No I/O.
 *
 * One a connection, one thread. Receiving (http2_receive.c): bytes go in, events come out; what the
 * protocol itself has to answer is queued. Sending (http2_send.c): the owner queues heads and
 * pieces of bodies; gather says what to write next, with the bytes of large pieces left where they
 * lie. The owner embeds struct md_http2_stream in what it keeps for a request.
 *
 *      open: HEAD --> DATA ... end_stream --> (recv_ended)
 *                 \--> put_head, send ..., finish --> (send_ended) --> all written: `sent`
 *
 * Invariants
 *  1. A stream is in the table from `open` until md_http2_forget; its memory is the owner's.
 *  2. Whatever was committed to the output is written whole: a stream with committed bytes keeps
 *     its memory until `sent` (or the connection's end), also after it was reset.
 *  3. Everything that a peer can make us queue is bounded; above it the connection ends with
 *     ENHANCE_YOUR_CALM.
 */
#ifndef MD_HTTP_HTTP2_H
#define MD_HTTP_HTTP2_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/progress.h"
#include "http/exchange.h"
#include "http/hpack.h"
#include "http/http2_frame.h"
#include "http/http2_head.h"

/* Immutable while connections live. */
struct md_http2_limits {
    uint32_t max_concurrent_streams;
    uint32_t max_frame_size; /* that we accept from who sends large bodies */
    uint32_t initial_window; /* of a stream, for what we receive */
    size_t max_header_bytes; /* of a request's fields, decoded */
    size_t max_header_count;
};

/* A part of a stream's body that waits to be sent; the owner's memory. */
struct md_http2_piece {
    struct md_http2_piece *next;
    const char *data;
    size_t len;
    void (*sent)(struct md_http2_piece *piece); /* it has left or never will; NULL: nobody asks */
    void *arg;                                  /* the owner's */
};

struct md_http2_stream {
    uint32_t id;
    struct md_arena *arena; /* borrow: for the fields of its head; set by `open` */
    struct md_http2_stream *bucket_next;
    struct md_http2_stream *next, *previous; /* all of the connection, newest first */

    int64_t recv_window; /* what the peer may still send */
    int64_t recv_taken;  /* of what it has sent, not granted again yet */
    bool recv_ended;     /* END_STREAM has come */
    bool was_reset;      /* by either side: */
    bool was_reset_by_us;

    int64_t send_window;
    struct md_http2_piece *first, *last; /* not committed, or in part */
    size_t first_at;                     /* committed of the first */
    size_t queued_bytes;                 /* not committed */
    size_t committed_bytes;              /* not written */
    bool send_ending;                    /* nothing follows what is queued */
    bool send_ended;                     /* END_STREAM is committed */
    struct md_str trailers;              /* header block after the body; empty: none */
    struct md_http2_stream *ready_next;
    bool is_ready; /* in the ring of those that have something to send */
};

/* What the state machine asks of its owner. */
struct md_http2_owner {
    /* A request begins: its stream, zeroed but for the arena. NULL: it is refused. */
    struct md_http2_stream *(*open)(void *arg);
    /* Everything of a stream whose end was committed has been written. May forget the stream. */
    void (*sent)(void *arg, struct md_http2_stream *stream);
    void *arg;
};

enum { MD_HTTP2_SEGMENTS = 128, MD_HTTP2_CLOSED_IDS = 32 };

/* Bytes to write, in order: of `text`, or of a stream's piece. */
struct md_http2_segment {
    const char *data; /* NULL: the next bytes of the text */
    size_t len;
    struct md_http2_stream *stream; /* whose bytes these are; NULL: nobody's */
    struct md_http2_piece *piece;   /* ends with this segment */
};

struct md_http2 {
    const struct md_http2_limits *limits; /* borrow */
    struct md_http2_owner owner;
    struct md_hpack_decoder *decoder; /* own */

    /* receiving */
    unsigned state;
    struct md_http2_frame frame; /* the one that data_left or skip_left belong to */
    size_t data_left;            /* of a DATA frame, without padding */
    size_t skip_left;
    size_t max_frame; /* that we have offered to accept */
    int64_t recv_window, recv_taken;
    struct md_http2_stream *data_stream; /* NULL: of no stream that wants it */
    uint32_t head_id;                    /* whose header block is not complete; 0: none */
    struct md_http2_stream *head_stream; /* NULL: its fields are dropped */
    bool head_is_trailers, head_ends_stream;
    size_t head_bytes; /* of the block, as received */
    unsigned head_frames;
    struct md_http_header *fields; /* in the stream's arena */
    size_t field_count, field_capacity, field_bytes;
    bool fields_too_large, fields_failed;
    struct md_http2_head *shared; /* own: the last head, if the next may be the same */
    char last_block[MD_HTTP2_SHARED_BLOCK_MAX]; /* that left the table as it was */
    size_t last_block_bytes;                    /* 0: none */
    bool block_came_again;
    uint32_t last_id;     /* highest stream that was opened */
    uint32_t refuse_from; /* streams from this on are refused: we are going away; 0: none */
    bool peer_going_away;
    unsigned ack_count;   /* answers to control frames since everything was written */
    unsigned idle_frames; /* since the last that got somebody further */
    int64_t reset_credit;
    unsigned ping_count; /* received */
    bool ping_acked;     /* the peer has answered our last PING */
    bool has_said;       /* something of a stream was queued; the owner looks and clears it */
    struct {
        uint32_t id;
        bool by_us;
    } closed[MD_HTTP2_CLOSED_IDS]; /* the last that were closed */
    unsigned closed_at;
    enum md_http2_error failure;
    const char *failure_text;

    /* streams */
    struct md_http2_stream **buckets; /* own once there are many */
    struct md_http2_stream *few[16];
    size_t bucket_count;
    struct md_http2_stream *streams; /* newest first */
    size_t stream_count;

    /* sending */
    uint32_t peer_max_frame;
    int64_t peer_initial_window;
    int64_t send_window;
    bool says_no_table;                /* the next header block must say that no table is used */
    struct md_bytes text;              /* own: control frames, heads, small bodies */
    size_t text_at;                    /* written */
    size_t text_covered;               /* by segments; the rest is written after them */
    struct md_http2_segment *segments; /* own; from the first large body on */
    size_t segment_at, segment_count;
    size_t segment_written; /* of the first */
    struct md_http2_stream *ready_first, *ready_last;
};

/* The client's preface has been read already. Queues our SETTINGS. */
bool md_http2_init(struct md_http2 *h2, const struct md_http2_limits *limits,
                   const struct md_http2_owner *owner) MD_MUST_CHECK;
/* The connection is lost: nothing more is written; pieces that were committed are told. */
void md_http2_drop_output(struct md_http2 *h2);
/* All streams have been forgotten. */
void md_http2_deinit(struct md_http2 *h2);

/* --- receiving -------------------- */

enum md_http2_event_kind {
    MD_HTTP2_AGAIN,    /* more bytes are needed */
    MD_HTTP2_HEAD,     /* a request's head: `shared`, or h2->fields; too large, or no memory: flags
                          beside them */
    MD_HTTP2_TRAILERS, /* the same after the body; the stream has ended */
    MD_HTTP2_DATA,     /* bytes of a body */
    MD_HTTP2_RESET,    /* the peer has reset the stream, or it broke a rule and was reset */
    MD_HTTP2_PROGRESS, /* nothing for a request: a window, settings, ping, goaway */
    MD_HTTP2_FAILED,   /* the connection must end; GOAWAY is queued */
};

struct md_http2_event {
    enum md_http2_event_kind kind;
    struct md_http2_stream *stream;
    struct md_str bytes;          /* DATA */
    bool ends;                    /* the request is complete */
    enum md_http2_error error;    /* RESET */
    struct md_http2_head *shared; /* HEAD; who keeps it takes a reference */
};

/* Takes from *data what makes one event. Frames other than DATA are taken whole: the caller's
 * buffer must hold them (md_http2_wanted). */
void md_http2_next(struct md_http2 *h2, struct md_str *data, struct md_http2_event *event);
/* After AGAIN: bytes that must be there for the next step. */
size_t md_http2_wanted(const struct md_http2 *h2, struct md_str data);

/* Inside a DATA frame of this stream: how many bytes of its body come next, to be received in
 * place. NULL: something else comes. */
struct md_http2_stream *md_http2_in_data(const struct md_http2 *h2, size_t *left);
/* `count` of them were received in place; true: they were the last of the request. */
bool md_http2_took_data(struct md_http2 *h2, size_t count);

/* Between frames: the head of one that was received beside `count` bytes, which lie where they
 * belong if it is a DATA frame of this stream with so many; `is_last`: or more, which are still to
 * come. True: it is, and has begun. */
bool md_http2_begins_data(struct md_http2 *h2, const char *head, uint32_t id, size_t count,
                          bool is_last);

/* The stream's bytes have been taken, `held` others are here and have not: its window is widened
 * when that is worth a frame, so far that no more than its initial size is held at a time. */
void md_http2_consumed(struct md_http2 *h2, struct md_http2_stream *stream, size_t bytes,
                       size_t held);
/* The stream is going to get so many bytes more: its window is widened for them at once, and the
 * peer may send them in large frames. */
void md_http2_expect(struct md_http2 *h2, struct md_http2_stream *stream, uint64_t bytes);

/* --- sending -------------------- */

/* A header block; `ends`: without body or trailers. */
void md_http2_put_head(struct md_http2 *h2, struct md_http2_stream *stream, struct md_str block,
                       bool ends);
/* A body of `total` bytes in parts, and maybe its end, copied at once if they are few and the
 * windows let them; false: nothing was done. */
bool md_http2_try_send(struct md_http2 *h2, struct md_http2_stream *stream,
                       const struct iovec *parts, size_t part_count, size_t total, bool ends);
void md_http2_send(struct md_http2 *h2, struct md_http2_stream *stream,
                   struct md_http2_piece *piece);
/* Nothing follows. `trailers` lives as long as the stream. */
void md_http2_finish(struct md_http2 *h2, struct md_http2_stream *stream, struct md_str trailers);
/* RST_STREAM; what is queued and not committed is dropped. */
void md_http2_reset(struct md_http2 *h2, struct md_http2_stream *stream, enum md_http2_error error);
/* Takes the stream out of the table; nothing of it is committed any more. */
void md_http2_forget(struct md_http2 *h2, struct md_http2_stream *stream);

void md_http2_put_ping(struct md_http2 *h2);
/* First of two: "no new streams, please" (6.8); they are still served. */
void md_http2_put_goaway_notice(struct md_http2 *h2);
/* Streams above the last one are refused from now on. */
void md_http2_put_goaway(struct md_http2 *h2, enum md_http2_error error, const char *text);

/* Commits what may be sent, about `most` bytes of bodies, and lists what is to be written. 0:
 * nothing. */
int md_http2_gather(struct md_http2 *h2, struct iovec *parts, int part_count, size_t most);
/* So much of it was written. */
void md_http2_wrote(struct md_http2 *h2, size_t bytes);
/* Bytes committed and not written. */
size_t md_http2_pending_bytes(const struct md_http2 *h2);

/* --- for the two halves -------------------- */

struct md_http2_stream *md_http2_find(const struct md_http2 *h2, uint32_t id);
/* Room for a frame in the text: where its head and `len` bytes go; NULL: no memory. */
char *md_http2_put(struct md_http2 *h2, unsigned kind, unsigned flags, uint32_t id, size_t len);
void md_http2_window_grew(struct md_http2 *h2, struct md_http2_stream *stream);
/* The stream is no more: what still comes for it is no surprise if we have ended it. */
void md_http2_note_closed(struct md_http2 *h2, uint32_t id, bool by_us);

#endif
