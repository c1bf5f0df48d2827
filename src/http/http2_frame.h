/*
 * Frames of HTTP/2 (RFC 9113 4, 6): their heads, kinds and codes. Plain values; any thread.
 */
#ifndef MD_HTTP_HTTP2_FRAME_H
#define MD_HTTP_HTTP2_FRAME_H

#include "base/compiler.h"

enum {
    MD_HTTP2_FRAME_HEAD_BYTES = 9,
    MD_HTTP2_FRAME_LEAST_MAX = 16384, /* what everybody accepts */
    MD_HTTP2_FRAME_MOST_MAX = (1 << 24) - 1,
    MD_HTTP2_WINDOW_DEFAULT = 65535,
    MD_HTTP2_WINDOW_MAX = INT32_MAX,
};

/* What a client says first (3.4). */
#define MD_HTTP2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum md_http2_frame_kind {
    MD_HTTP2_DATA_FRAME,
    MD_HTTP2_HEADERS_FRAME,
    MD_HTTP2_PRIORITY_FRAME,
    MD_HTTP2_RST_STREAM_FRAME,
    MD_HTTP2_SETTINGS_FRAME,
    MD_HTTP2_PUSH_PROMISE_FRAME,
    MD_HTTP2_PING_FRAME,
    MD_HTTP2_GOAWAY_FRAME,
    MD_HTTP2_WINDOW_UPDATE_FRAME,
    MD_HTTP2_CONTINUATION_FRAME,
};

enum {
    MD_HTTP2_FLAG_ACK = 1,
    MD_HTTP2_FLAG_END_STREAM = 1,
    MD_HTTP2_FLAG_END_HEADERS = 4,
    MD_HTTP2_FLAG_PADDED = 8,
    MD_HTTP2_FLAG_PRIORITY = 32,
};

enum md_http2_error {
    MD_HTTP2_NO_ERROR,
    MD_HTTP2_PROTOCOL_ERROR,
    MD_HTTP2_INTERNAL_ERROR,
    MD_HTTP2_FLOW_CONTROL_ERROR,
    MD_HTTP2_SETTINGS_TIMEOUT,
    MD_HTTP2_STREAM_CLOSED,
    MD_HTTP2_FRAME_SIZE_ERROR,
    MD_HTTP2_REFUSED_STREAM,
    MD_HTTP2_CANCEL,
    MD_HTTP2_COMPRESSION_ERROR,
    MD_HTTP2_CONNECT_ERROR,
    MD_HTTP2_ENHANCE_YOUR_CALM,
};

enum {
    MD_HTTP2_SETTING_HEADER_TABLE_SIZE = 1,
    MD_HTTP2_SETTING_ENABLE_PUSH,
    MD_HTTP2_SETTING_MAX_CONCURRENT_STREAMS,
    MD_HTTP2_SETTING_INITIAL_WINDOW_SIZE,
    MD_HTTP2_SETTING_MAX_FRAME_SIZE,
    MD_HTTP2_SETTING_MAX_HEADER_LIST_SIZE,
};

struct md_http2_frame {
    size_t len; /* of what follows the head */
    unsigned kind;
    unsigned flags;
    uint32_t stream_id;
};

static inline uint32_t md_http2_get_u32(const char *at)
{
    const unsigned char *u = (const unsigned char *)at;

    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static inline void md_http2_put_u32(char *at, uint32_t value)
{
    at[0] = (char)(value >> 24);
    at[1] = (char)(value >> 16);
    at[2] = (char)(value >> 8);
    at[3] = (char)value;
}

static inline struct md_http2_frame md_http2_get_frame(const char *at)
{
    return (struct md_http2_frame){.len = md_http2_get_u32(at) >> 8,
                                   .kind = (unsigned char)at[3],
                                   .flags = (unsigned char)at[4],
                                   .stream_id = md_http2_get_u32(at + 5) & INT32_MAX};
}

static inline void md_http2_put_frame(char *at, const struct md_http2_frame *frame)
{
    md_http2_put_u32(at, (uint32_t)frame->len << 8 | frame->kind);
    at[4] = (char)frame->flags;
    md_http2_put_u32(at + 5, frame->stream_id);
}

#endif
