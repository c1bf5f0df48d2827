/*
 * HTTP/2, receiving: bytes are cut into frames, which are checked and handed on by their kind.
 */
#include "http/http2_internal.h"

/* What a peer may do without getting anybody further (RFC 9113 10.5): then the connection ends. */
enum {
    IDLE_FRAMES_MAX = 10000,
    ACKS_MAX = 1000,    /* answers to its control frames that it does not read */
    RESET_BURST = 1000, /* requests given up early, beyond those that were answered */
};

/* --- failures -------------------- */

enum md_http2_event_kind md_http2_fail(struct md_http2 *h2, enum md_http2_error error,
                                       const char *text)
{
    if (h2->state != MD_HTTP2_STATE_FAILED) {
        h2->state = MD_HTTP2_STATE_FAILED;
        h2->failure = error;
        h2->failure_text = text;
        md_http2_put_goaway(h2, error, text);
    }
    return MD_HTTP2_FAILED;
}

enum md_http2_event_kind md_http2_break(struct md_http2 *h2, struct md_http2_event *event,
                                        struct md_http2_stream *stream, enum md_http2_error error)
{
    event->stream = stream;
    event->error = error;
    md_http2_reset(h2, stream, error);
    return MD_HTTP2_RESET;
}

/* A frame that got nobody further. */
enum md_http2_event_kind md_http2_idle_frame(struct md_http2 *h2)
{
    if (++h2->idle_frames > IDLE_FRAMES_MAX) {
        return md_http2_fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "too many frames that do nothing");
    }
    return MD_HTTP2_PROGRESS;
}

/* A frame that is answered by one of ours, which the peer has to read. */
enum md_http2_event_kind md_http2_answered_frame(struct md_http2 *h2)
{
    return ++h2->ack_count > ACKS_MAX
               ? md_http2_fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "answers are not read")
               : md_http2_idle_frame(h2);
}

void md_http2_put_reset(struct md_http2 *h2, uint32_t id, enum md_http2_error error)
{
    char *at = md_http2_put(h2, MD_HTTP2_RST_STREAM_FRAME, 0, id, 4);

    if (at) {
        md_http2_put_u32(at, error);
    }
}

/* --- streams that are no more -------------------- */

bool md_http2_was_closed(const struct md_http2 *h2, uint32_t id, bool *by_us)
{
    for (size_t i = 0; i < MD_HTTP2_CLOSED_IDS; i++) {
        if (h2->closed[i].id == id) {
            *by_us = h2->closed[i].by_us;
            return true;
        }
    }
    return false;
}

bool md_http2_is_idle(const struct md_http2 *h2, uint32_t id)
{
    return id > h2->last_id || id % 2 == 0;
}

void md_http2_put_settings(struct md_http2 *h2, const uint32_t settings[][2], size_t count)
{
    char *at = md_http2_put(h2, MD_HTTP2_SETTINGS_FRAME, 0, 0, 6 * count);

    for (size_t i = 0; at && i < count; i++, at += 6) {
        at[0] = 0;
        at[1] = (char)settings[i][0];
        md_http2_put_u32(at + 2, settings[i][1]);
    }
}

/* By kind; DATA is taken as it comes, unknown ones are skipped. */
static md_http2_frame_taker *const on_frame[] = {
    [MD_HTTP2_HEADERS_FRAME] = md_http2_on_headers,
    [MD_HTTP2_PRIORITY_FRAME] = md_http2_on_priority,
    [MD_HTTP2_RST_STREAM_FRAME] = md_http2_on_rst_stream,
    [MD_HTTP2_SETTINGS_FRAME] = md_http2_on_settings,
    [MD_HTTP2_PUSH_PROMISE_FRAME] = md_http2_on_push_promise,
    [MD_HTTP2_PING_FRAME] = md_http2_on_ping,
    [MD_HTTP2_GOAWAY_FRAME] = md_http2_on_goaway,
    [MD_HTTP2_WINDOW_UPDATE_FRAME] = md_http2_on_window_update,
    [MD_HTTP2_CONTINUATION_FRAME] = md_http2_on_continuation,
};

/* --- steps -------------------- */

/* Between frames: what comes next, as far as its head says. */
static enum md_http2_event_kind check_frame(struct md_http2 *h2)
{
    const struct md_http2_frame *frame = &h2->frame;

    if (frame->len > h2->max_frame) {
        return md_http2_fail(h2, MD_HTTP2_FRAME_SIZE_ERROR,
                             "a frame is larger than MAX_FRAME_SIZE");
    }
    if (h2->state == MD_HTTP2_STATE_SETTINGS &&
        (frame->kind != MD_HTTP2_SETTINGS_FRAME || (frame->flags & MD_HTTP2_FLAG_ACK))) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "the first frame is not SETTINGS");
    }
    if (h2->head_id &&
        (frame->kind != MD_HTTP2_CONTINUATION_FRAME || frame->stream_id != h2->head_id)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a header block is interrupted");
    }
    const bool is_control = frame->kind != MD_HTTP2_DATA_FRAME;
    if (is_control && frame->kind < MD_COUNT_OF(on_frame) &&
        frame->len > h2->limits->max_header_bytes + MD_HTTP2_BLOCK_SPARE) {
        return md_http2_fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "a frame is too large for its kind");
    }
    return MD_HTTP2_PROGRESS;
}

static enum md_http2_event_kind take_frame(struct md_http2 *h2, struct md_str *data,
                                           struct md_http2_event *event)
{
    if (data->len < MD_HTTP2_FRAME_HEAD_BYTES) {
        return MD_HTTP2_AGAIN;
    }
    h2->frame = md_http2_get_frame(data->ptr);
    if (check_frame(h2) == MD_HTTP2_FAILED) {
        return MD_HTTP2_FAILED;
    }
    if (data->len < md_http2_wanted(h2, *data)) {
        return MD_HTTP2_AGAIN;
    }
    if (h2->frame.kind == MD_HTTP2_DATA_FRAME) {
        return md_http2_take_data_head(h2, data, event);
    }
    h2->state = MD_HTTP2_STATE_FRAME;
    struct md_str payload = md_str_make(data->ptr + MD_HTTP2_FRAME_HEAD_BYTES, h2->frame.len);
    if (h2->frame.kind >= MD_COUNT_OF(on_frame)) {
        *data = md_str_make(payload.ptr, data->len - MD_HTTP2_FRAME_HEAD_BYTES);
        h2->skip_left = h2->frame.len;
        h2->state = MD_HTTP2_STATE_SKIP;
        return md_http2_idle_frame(h2);
    }
    *data =
        md_str_make(payload.ptr + payload.len, data->len - MD_HTTP2_FRAME_HEAD_BYTES - payload.len);
    return on_frame[h2->frame.kind](h2, payload, event);
}

size_t md_http2_wanted(const struct md_http2 *h2, struct md_str data)
{
    if (h2->state > MD_HTTP2_STATE_FRAME) {
        return 1;
    }
    if (data.len < MD_HTTP2_FRAME_HEAD_BYTES) {
        return MD_HTTP2_FRAME_HEAD_BYTES;
    }
    struct md_http2_frame frame = md_http2_get_frame(data.ptr);
    if (frame.kind == MD_HTTP2_DATA_FRAME) {
        bool padded = (frame.flags & MD_HTTP2_FLAG_PADDED) && frame.len;
        return MD_HTTP2_FRAME_HEAD_BYTES + (size_t)padded;
    }
    return MD_HTTP2_FRAME_HEAD_BYTES + (frame.kind < MD_COUNT_OF(on_frame) ? frame.len : 0);
}

static enum md_http2_event_kind skip(struct md_http2 *h2, struct md_str *data)
{
    const size_t len = md_size_min(h2->skip_left, data->len);

    *data = md_str_make(data->ptr + len, data->len - len);
    h2->skip_left -= len;
    if (h2->skip_left) {
        return MD_HTTP2_AGAIN;
    }
    h2->state = MD_HTTP2_STATE_FRAME;
    return MD_HTTP2_PROGRESS;
}

void md_http2_next(struct md_http2 *h2, struct md_str *data, struct md_http2_event *event)
{
    event->stream = NULL;
    event->bytes = MD_STR("");
    event->ends = false;
    switch (h2->state) {
    case MD_HTTP2_STATE_SETTINGS:
    case MD_HTTP2_STATE_FRAME:
        event->kind = take_frame(h2, data, event);
        break;
    case MD_HTTP2_STATE_DATA:
        event->kind = data->len ? md_http2_take_data(h2, data, event) : MD_HTTP2_AGAIN;
        break;
    case MD_HTTP2_STATE_SKIP:
        event->kind = skip(h2, data);
        break;
    default:
        event->kind = MD_HTTP2_FAILED;
    }
    if (h2->text.failed && event->kind != MD_HTTP2_FAILED) {
        event->kind = md_http2_fail(h2, MD_HTTP2_INTERNAL_ERROR, "out of memory");
    }
}

/* --- life -------------------- */

bool md_http2_init(struct md_http2 *h2, const struct md_http2_limits *limits,
                   const struct md_http2_owner *owner)
{
    const uint32_t settings[][2] = {
        {MD_HTTP2_SETTING_MAX_CONCURRENT_STREAMS, limits->max_concurrent_streams},
        {MD_HTTP2_SETTING_INITIAL_WINDOW_SIZE, limits->initial_window},
        {MD_HTTP2_SETTING_MAX_HEADER_LIST_SIZE, (uint32_t)limits->max_header_bytes},
    };

    memset(h2, 0, sizeof *h2);
    h2->limits = limits;
    h2->owner = *owner;
    h2->buckets = h2->few;
    h2->bucket_count = MD_COUNT_OF(h2->few);
    h2->peer_max_frame = MD_HTTP2_FRAME_LEAST_MAX;
    h2->peer_initial_window = h2->send_window = MD_HTTP2_WINDOW_DEFAULT;
    h2->recv_window = MD_HTTP2_WINDOW_MAX;
    h2->max_frame = MD_HTTP2_FRAME_LEAST_MAX;
    h2->reset_credit = RESET_BURST;
    if (!md_hpack_decoder_create(&h2->decoder)) {
        return false;
    }
    md_http2_put_settings(h2, settings, MD_COUNT_OF(settings));
    char *at = md_http2_put(h2, MD_HTTP2_WINDOW_UPDATE_FRAME, 0, 0, 4);
    if (at) {
        md_http2_put_u32(at, MD_HTTP2_WINDOW_MAX - MD_HTTP2_WINDOW_DEFAULT);
    }
    if (h2->text.failed) {
        md_http2_deinit(h2);
        return false;
    }
    return true;
}
