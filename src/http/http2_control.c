/*
 * HTTP/2, receiving: frames that are neither heads nor bodies.
 */
#include "http/http2_internal.h"

enum md_http2_event_kind md_http2_on_priority(struct md_http2 *h2, struct md_str payload,
                                              struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    enum md_http2_error error = MD_HTTP2_NO_ERROR;

    if (id == 0) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "PRIORITY of no stream");
    }
    if (payload.len != 5) {
        error = MD_HTTP2_FRAME_SIZE_ERROR;
    } else if ((md_http2_get_u32(payload.ptr) & INT32_MAX) == id) {
        error = MD_HTTP2_PROTOCOL_ERROR;
    }
    if (error) {
        struct md_http2_stream *stream = md_http2_find(h2, id);
        if (stream && !stream->was_reset) {
            return md_http2_break(h2, event, stream, error);
        }
        if (md_http2_is_idle(h2, id)) { /* it cannot be reset (6.4) */
            return md_http2_fail(h2, error, "PRIORITY is malformed");
        }
        md_http2_put_reset(h2, id, error);
        return md_http2_answered_frame(h2);
    }
    return md_http2_idle_frame(h2);
}

enum md_http2_event_kind md_http2_on_rst_stream(struct md_http2 *h2, struct md_str payload,
                                                struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;

    if (payload.len != 4) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "RST_STREAM has a wrong size");
    }
    if (id == 0 || md_http2_is_idle(h2, id)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "RST_STREAM of no stream");
    }
    struct md_http2_stream *stream = md_http2_find(h2, id);
    if (!stream || stream->was_reset) {
        return md_http2_idle_frame(h2);
    }
    /* A request that is given up early costs work that nobody sees: who does mostly that has to
     * calm down. */
    if (!stream->send_ended && --h2->reset_credit < 0) {
        return md_http2_fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "too many requests are given up");
    }
    event->stream = stream;
    event->error = (enum md_http2_error)md_http2_get_u32(payload.ptr);
    md_http2_reset(h2, stream, MD_HTTP2_NO_ERROR);
    return MD_HTTP2_RESET;
}

static bool take_initial_window(struct md_http2 *h2, uint32_t value)
{
    const int64_t change = (int64_t)value - h2->peer_initial_window;

    h2->peer_initial_window = value;
    for (struct md_http2_stream *stream = h2->streams; stream; stream = stream->next) {
        stream->send_window += change;
        if (stream->send_window > MD_HTTP2_WINDOW_MAX) {
            return false;
        }
        if (change > 0) {
            md_http2_window_grew(h2, stream);
        }
    }
    return true;
}

static enum md_http2_event_kind take_setting(struct md_http2 *h2, unsigned name, uint32_t value)
{
    switch (name) {
    case MD_HTTP2_SETTING_HEADER_TABLE_SIZE:
        h2->says_no_table |= value < MD_HPACK_TABLE_BYTES;
        return MD_HTTP2_PROGRESS;
    case MD_HTTP2_SETTING_ENABLE_PUSH:
        return value <= 1 ? MD_HTTP2_PROGRESS
                          : md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1");
    case MD_HTTP2_SETTING_INITIAL_WINDOW_SIZE:
        return value <= MD_HTTP2_WINDOW_MAX && take_initial_window(h2, value)
                   ? MD_HTTP2_PROGRESS
                   : md_http2_fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "a window is too large");
    case MD_HTTP2_SETTING_MAX_FRAME_SIZE:
        if (value < MD_HTTP2_FRAME_LEAST_MAX || value > MD_HTTP2_FRAME_MOST_MAX) {
            return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range");
        }
        h2->peer_max_frame = value;
        return MD_HTTP2_PROGRESS;
    default:
        return MD_HTTP2_PROGRESS;
    }
}

enum md_http2_event_kind md_http2_on_settings(struct md_http2 *h2, struct md_str payload,
                                              struct md_http2_event *event)
{
    const bool acks = h2->frame.flags & MD_HTTP2_FLAG_ACK;

    (void)event;
    if (h2->frame.stream_id != 0) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "SETTINGS of a stream");
    }
    if (payload.len % 6 != 0 || (acks && payload.len)) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "SETTINGS has a wrong size");
    }
    for (size_t at = 0; at < payload.len; at += 6) {
        unsigned name = md_http2_get_u32(payload.ptr + at) >> 16;
        uint32_t value = md_http2_get_u32(payload.ptr + at + 2);
        if (take_setting(h2, name, value) == MD_HTTP2_FAILED) {
            return MD_HTTP2_FAILED;
        }
    }
    if (acks) {
        return md_http2_idle_frame(h2);
    }
    (void)md_http2_put(h2, MD_HTTP2_SETTINGS_FRAME, MD_HTTP2_FLAG_ACK, 0, 0);
    return md_http2_answered_frame(h2);
}

enum md_http2_event_kind md_http2_on_push_promise(struct md_http2 *h2, struct md_str payload,
                                                  struct md_http2_event *event)
{
    (void)payload;
    (void)event;
    return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a client does not promise");
}

enum md_http2_event_kind md_http2_on_ping(struct md_http2 *h2, struct md_str payload,
                                          struct md_http2_event *event)
{
    (void)event;
    if (h2->frame.stream_id != 0) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "PING of a stream");
    }
    if (payload.len != 8) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "PING has a wrong size");
    }
    if (h2->frame.flags & MD_HTTP2_FLAG_ACK) {
        h2->ping_acked = true;
        return md_http2_idle_frame(h2);
    }
    char *at = md_http2_put(h2, MD_HTTP2_PING_FRAME, MD_HTTP2_FLAG_ACK, 0, payload.len);
    if (at) {
        memcpy(at, payload.ptr, payload.len);
    }
    h2->ping_count++;
    return md_http2_answered_frame(h2);
}

enum md_http2_event_kind md_http2_on_goaway(struct md_http2 *h2, struct md_str payload,
                                            struct md_http2_event *event)
{
    (void)event;
    if (h2->frame.stream_id != 0) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "GOAWAY of a stream");
    }
    if (payload.len < 8) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "GOAWAY has a wrong size");
    }
    h2->peer_going_away = true;
    return md_http2_idle_frame(h2);
}

enum md_http2_event_kind md_http2_on_window_update(struct md_http2 *h2, struct md_str payload,
                                                   struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;

    if (payload.len != 4) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "WINDOW_UPDATE has a wrong size");
    }
    const uint32_t increment = md_http2_get_u32(payload.ptr) & INT32_MAX;
    if (id == 0) {
        if (!increment) {
            return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
        }
        h2->send_window += increment;
        return h2->send_window > MD_HTTP2_WINDOW_MAX
                   ? md_http2_fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "a window is too large")
                   : md_http2_idle_frame(h2);
    }
    if (md_http2_is_idle(h2, id)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "WINDOW_UPDATE of no stream");
    }
    struct md_http2_stream *stream = md_http2_find(h2, id);
    if (!stream || stream->was_reset) {
        return md_http2_idle_frame(h2);
    }
    stream->send_window += increment;
    if (!increment || stream->send_window > MD_HTTP2_WINDOW_MAX) {
        return md_http2_break(h2, event, stream,
                              increment ? MD_HTTP2_FLOW_CONTROL_ERROR : MD_HTTP2_PROTOCOL_ERROR);
    }
    md_http2_window_grew(h2, stream);
    return md_http2_idle_frame(h2);
}
