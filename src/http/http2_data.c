/*
 * HTTP/2, receiving: bodies, and the windows that let them come.
 */
#include "http/http2_internal.h"

/* --- bodies -------------------- */

/* Counts the whole frame against the connection's window, which never holds anybody up. */
static bool charge_connection(struct md_http2 *h2, size_t bytes)
{
    h2->recv_window -= (int64_t)bytes;
    h2->recv_taken += (int64_t)bytes;
    if (h2->recv_window < 0) {
        return false;
    }
    if (h2->recv_taken > MD_HTTP2_WINDOW_MAX / 2) {
        char *at = md_http2_put(h2, MD_HTTP2_WINDOW_UPDATE_FRAME, 0, 0, 4);
        if (at) {
            md_http2_put_u32(at, (uint32_t)h2->recv_taken);
            h2->recv_window += h2->recv_taken;
            h2->recv_taken = 0;
        }
    }
    return true;
}

/* The stream that gets the frame's bytes; NULL: nobody. */
static enum md_http2_event_kind begin_data(struct md_http2 *h2, struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    struct md_http2_stream *stream = md_http2_find(h2, id);
    bool by_us = false;

    h2->data_stream = NULL;
    if (id == 0 || md_http2_is_idle(h2, id)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "DATA of no stream");
    }
    if (!charge_connection(h2, h2->frame.len)) {
        return md_http2_fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "more DATA than the window holds");
    }
    if (!stream || stream->was_reset) {
        if (stream) {
            by_us = stream->was_reset_by_us;
        } else if (!md_http2_was_closed(h2, id, &by_us)) {
            by_us = true; /* long ago */
        }
        if (by_us) {
            return md_http2_idle_frame(h2);
        }
        md_http2_put_reset(h2, id, MD_HTTP2_STREAM_CLOSED);
        return md_http2_answered_frame(h2);
    }
    stream->recv_window -= (int64_t)h2->frame.len;
    if (stream->recv_ended) {
        return md_http2_break(h2, event, stream, MD_HTTP2_STREAM_CLOSED);
    }
    if (stream->recv_window < 0) {
        return md_http2_break(h2, event, stream, MD_HTTP2_FLOW_CONTROL_ERROR);
    }
    h2->data_stream = stream;
    return h2->frame.len || (h2->frame.flags & MD_HTTP2_FLAG_END_STREAM) ? MD_HTTP2_PROGRESS
                                                                         : md_http2_idle_frame(h2);
}

static bool ends_request(const struct md_http2 *h2)
{
    return h2->data_left == 0 && (h2->frame.flags & MD_HTTP2_FLAG_END_STREAM);
}

/* A piece of the body that has come. */
enum md_http2_event_kind md_http2_take_data(struct md_http2 *h2, struct md_str *data,
                                            struct md_http2_event *event)
{
    struct md_http2_stream *stream = h2->data_stream;
    const size_t len = md_size_min(h2->data_left, data->len);

    event->stream = stream;
    event->bytes = md_str_make(data->ptr, len);
    *data = md_str_make(data->ptr + len, data->len - len);
    h2->data_left -= len;
    if (h2->data_left == 0) {
        h2->state = h2->skip_left ? MD_HTTP2_STATE_SKIP : MD_HTTP2_STATE_FRAME;
    }
    if (!stream) {
        return MD_HTTP2_PROGRESS;
    }
    event->ends = ends_request(h2);
    stream->recv_ended |= event->ends;
    if (len) {
        h2->idle_frames = 0;
    }
    return MD_HTTP2_DATA;
}

enum md_http2_event_kind md_http2_take_data_head(struct md_http2 *h2, struct md_str *data,
                                                 struct md_http2_event *event)
{
    const bool padded = h2->frame.flags & MD_HTTP2_FLAG_PADDED;
    size_t padding =
        padded && h2->frame.len ? (unsigned char)data->ptr[MD_HTTP2_FRAME_HEAD_BYTES] : 0;
    const size_t head = MD_HTTP2_FRAME_HEAD_BYTES + (size_t)padded;

    if (padded && (h2->frame.len == 0 || padding > h2->frame.len - 1)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "padding is longer than its frame");
    }
    enum md_http2_event_kind kind = begin_data(h2, event);
    if (kind == MD_HTTP2_FAILED) {
        return kind;
    }
    *data = md_str_make(data->ptr + head, data->len - head);
    h2->data_left = h2->frame.len - (size_t)padded - padding;
    h2->skip_left = padding;
    h2->state = MD_HTTP2_STATE_DATA;
    if (h2->data_stream && (padded || padding)) {
        h2->data_stream->recv_taken += (int64_t)padding + padded;
    }
    return kind == MD_HTTP2_RESET ? kind : md_http2_take_data(h2, data, event);
}

struct md_http2_stream *md_http2_in_data(const struct md_http2 *h2, size_t *left)
{
    *left = h2->data_left;
    return h2->state == MD_HTTP2_STATE_DATA && h2->data_left ? h2->data_stream : NULL;
}

bool md_http2_took_data(struct md_http2 *h2, size_t count)
{
    struct md_http2_stream *stream = h2->data_stream;

    h2->data_left -= count;
    h2->idle_frames = 0;
    if (h2->data_left == 0) {
        h2->state = h2->skip_left ? MD_HTTP2_STATE_SKIP : MD_HTTP2_STATE_FRAME;
    }
    stream->recv_ended |= ends_request(h2);
    return stream->recv_ended;
}

bool md_http2_begins_data(struct md_http2 *h2, const char *head, uint32_t id, size_t count,
                          bool is_last)
{
    const struct md_http2_frame frame = md_http2_get_frame(head);
    const size_t len = frame.len;
    struct md_http2_stream *stream = md_http2_find(h2, id);

    if (h2->state != MD_HTTP2_STATE_FRAME || h2->head_id || frame.kind != MD_HTTP2_DATA_FRAME ||
        frame.stream_id != id || len == 0 || len > h2->max_frame ||
        (is_last ? len < count : len != count) || (frame.flags & MD_HTTP2_FLAG_PADDED) || !stream ||
        stream->was_reset || stream->recv_ended || stream->recv_window < (int64_t)len ||
        h2->recv_window < (int64_t)len) {
        return false;
    }
    h2->frame = frame;
    (void)charge_connection(h2, len);
    stream->recv_window -= (int64_t)len;
    h2->data_stream = stream;
    h2->data_left = len;
    h2->skip_left = 0;
    h2->state = MD_HTTP2_STATE_DATA;
    return true;
}

/* --- windows -------------------- */

/* Large frames are received straight into the body's memory. They are offered once there is such a
 * body: header blocks have no use for them. */
static void offer_large_frames(struct md_http2 *h2)
{
    const uint32_t settings[][2] = {{MD_HTTP2_SETTING_MAX_FRAME_SIZE, h2->limits->max_frame_size}};

    h2->max_frame = h2->limits->max_frame_size;
    md_http2_put_settings(h2, settings, MD_COUNT_OF(settings));
}

static void widen(struct md_http2 *h2, struct md_http2_stream *stream, int64_t wanted)
{
    if (stream->recv_ended || stream->was_reset || stream->recv_window >= wanted) {
        return;
    }
    char *at = md_http2_put(h2, MD_HTTP2_WINDOW_UPDATE_FRAME, 0, stream->id, 4);
    if (at) {
        md_http2_put_u32(at, (uint32_t)(wanted - stream->recv_window));
        stream->recv_window = wanted;
        stream->recv_taken = 0;
    }
}

void md_http2_consumed(struct md_http2 *h2, struct md_http2_stream *stream, size_t bytes,
                       size_t held)
{
    stream->recv_taken += (int64_t)bytes;
    if (stream->recv_taken > (int64_t)h2->limits->initial_window / 2) {
        widen(h2, stream, (int64_t)h2->limits->initial_window - (int64_t)held);
    }
}

void md_http2_expect(struct md_http2 *h2, struct md_http2_stream *stream, uint64_t bytes)
{
    if (bytes > h2->max_frame && h2->max_frame < h2->limits->max_frame_size) {
        offer_large_frames(h2);
    }
    widen(h2, stream, (int64_t)md_size_min(bytes, MD_HTTP2_WINDOW_MAX));
}
