/*
 * The state of a ModelStreamInfer (grpc_infer_stream.c) and of the inferences on it
 * (grpc_stream_part.c). On the loop of the exchange, in whose arena the stream lies.
 */
#ifndef MD_API_OIP_GRPC_STREAM_H
#define MD_API_OIP_GRPC_STREAM_H

#include "api/oip/grpc_infer_internal.h"

enum { MD_OIP_STREAM_ALIVE_MAX = 64 }; /* inferences of a stream */

struct md_oip_answer_list {
    struct md_response *first, *last;
};

/* One message; in its own arena. */
struct md_oip_stream_part {
    struct md_arena arena;                      /* own */
    struct md_block *block;                     /* own: the message */
    struct md_oip_stream_part *next, *previous; /* all of the stream */
    struct md_oip_stream_part *next_in_order;
    struct md_oip_answer_list answers; /* to be written */
    size_t held; /* messages that are unsent, streamed responses kept, and what still runs late */
    bool is_ordered, has_ended, has_failed, is_over;
    bool is_writing;                /* further up on the stack */
    bool is_deferred;               /* its task will write on */
    bool is_late;                   /* it has failed for its client, and still runs: it holds the
                                       exchange, and its arena is the execution's */
    struct md_arena late_arena;     /* own: what is written of it then */
    const struct md_error *late;    /* there: its error */
    struct md_oip_grpc_infer infer; /* last: its error needs no zeroes */
};

struct md_oip_grpc_stream {
    struct md_exchange *x; /* borrow */
    struct md_oip_stream_part *parts;
    struct md_oip_stream_part *first_in_order, *last_in_order;
    size_t alive, running;             /* running: those that are not over */
    struct md_oip_answer_list stalled; /* sent, but kept from the backend */
    struct md_loop_timer timer;        /* looks whether a slow reader has read */
    bool ends_on_error;                /* triton_grpc_error */
    bool is_half_closed, is_closing, has_ended, is_paused;
    bool has_error;
    struct md_error error; /* the call's status, if it is one */
};

static inline struct md_oip_stream_part *md_oip_stream_part_of(struct md_oip_grpc_infer *infer)
{
    return MD_CONTAINER_OF(infer, struct md_oip_stream_part, infer);
}

void md_oip_stream_append(struct md_oip_answer_list *list, struct md_response *response);
struct md_response *md_oip_stream_take_first(struct md_oip_answer_list *list);

/* An inference of the exchange's message, alive and running. NULL without memory. */
struct md_oip_stream_part *md_oip_stream_part_create(struct md_oip_grpc_stream *stream)
    MD_MUST_CHECK;
void md_oip_stream_append_in_order(struct md_oip_grpc_stream *stream,
                                   struct md_oip_stream_part *part);
void md_oip_stream_remove_first_in_order(struct md_oip_grpc_stream *stream);

/* Everything of it is written or dropped; false: the stream has ended and may be gone. */
bool md_oip_stream_part_over(struct md_oip_stream_part *part);
/* Frees it if it is over and nothing of it is held. */
void md_oip_stream_part_release(struct md_oip_stream_part *part);
/* Ends the call if nothing is left to do; true: it has ended, and the stream may be gone. */
bool md_oip_stream_maybe_end(struct md_oip_grpc_stream *stream);

/* Too much is unsent. */
bool md_oip_stream_is_slow(const struct md_oip_grpc_stream *stream);
/* A streamed response is let go, and counts as delivered. */
void md_oip_stream_response_done(struct md_response *response);
/* Lets go of those that were kept from the backend, unless the reader is still slow. */
void md_oip_stream_release_stalled(struct md_oip_grpc_stream *stream);
/* The timer: looks whether the reader has read, and goes on then. */
void md_oip_stream_look(struct md_loop_timer *timer);
void md_oip_stream_look_later(struct md_oip_grpc_stream *stream);

#endif
