/*
 * For the files of the receiving half: http2_receive.c (steps, failures, life), http2_block.c
 * (header blocks and the streams that they open), http2_control.c (the other frames), http2_data.c
 * (bodies and windows).
 */
#ifndef MD_HTTP_HTTP2_INTERNAL_H
#define MD_HTTP_HTTP2_INTERNAL_H

#include "http/http2.h"

enum {
    MD_HTTP2_STATE_SETTINGS, /* the client's first frame */
    MD_HTTP2_STATE_FRAME,    /* between frames */
    MD_HTTP2_STATE_DATA,     /* inside a DATA frame */
    MD_HTTP2_STATE_SKIP,     /* bytes that nobody wants: padding, unknown frames */
    MD_HTTP2_STATE_FAILED,
};

/* Of a header block beyond its fields: what HPACK adds. */
enum { MD_HTTP2_BLOCK_SPARE = 4096 };

/* --- http2_receive.c -------------------- */

/* The connection must end: GOAWAY. */
enum md_http2_event_kind md_http2_fail(struct md_http2 *h2, enum md_http2_error error,
                                       const char *text);
/* The stream broke a rule: RST_STREAM, and the event for its owner. */
enum md_http2_event_kind md_http2_break(struct md_http2 *h2, struct md_http2_event *event,
                                        struct md_http2_stream *stream, enum md_http2_error error);
/* A frame that got nobody further; one that is answered by one of ours, which the peer has to read:
 * too many of them end the connection. */
enum md_http2_event_kind md_http2_idle_frame(struct md_http2 *h2);
enum md_http2_event_kind md_http2_answered_frame(struct md_http2 *h2);
void md_http2_put_reset(struct md_http2 *h2, uint32_t id, enum md_http2_error error);
/* Whether the stream is one of the last that were closed, and by whom. */
bool md_http2_was_closed(const struct md_http2 *h2, uint32_t id, bool *by_us);
/* Whether it was never opened. */
bool md_http2_is_idle(const struct md_http2 *h2, uint32_t id);
void md_http2_put_settings(struct md_http2 *h2, const uint32_t settings[][2], size_t count);

/* --- frames, whole: their payload -------------------- */

typedef enum md_http2_event_kind md_http2_frame_taker(struct md_http2 *h2, struct md_str payload,
                                                      struct md_http2_event *event);

md_http2_frame_taker md_http2_on_headers, md_http2_on_continuation; /* http2_block.c */
md_http2_frame_taker md_http2_on_priority, md_http2_on_rst_stream, md_http2_on_settings,
    md_http2_on_push_promise, md_http2_on_ping, md_http2_on_goaway,
    md_http2_on_window_update; /* http2_control.c */

/* --- http2_data.c: as it comes -------------------- */

/* A DATA frame's head and what there is of its bytes. */
enum md_http2_event_kind md_http2_take_data_head(struct md_http2 *h2, struct md_str *data,
                                                 struct md_http2_event *event);
/* More of them. */
enum md_http2_event_kind md_http2_take_data(struct md_http2 *h2, struct md_str *data,
                                            struct md_http2_event *event);

#endif
