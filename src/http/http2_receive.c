/*
 * HTTP/2, receiving: frames are checked, header blocks decoded, streams opened; the rest is a table
 * of what each kind of frame does.
 */
#include "http/http2.h"

#include "base/alloc.h"

enum {
    STATE_SETTINGS, /* the client's first frame */
    STATE_FRAME,    /* between frames */
    STATE_DATA,     /* inside a DATA frame */
    STATE_SKIP,     /* bytes that nobody wants: padding, unknown frames */
    STATE_FAILED,
};

/* What a peer may do without getting anybody further (8.4 of RFC 9113's considerations): then the
 * connection ends. */
enum {
    IDLE_FRAMES_MAX = 10000,
    HEAD_FRAMES_MAX = 64,
    ACKS_MAX = 1000,    /* answers to its control frames that it does not read */
    RESET_BURST = 1000, /* requests given up early, beyond those that were answered */
    BLOCK_SPARE = 4096, /* of a header block beyond its fields: what HPACK adds */
};

/* --- failures -------------------- */

static enum md_http2_event_kind fail(struct md_http2 *h2, enum md_http2_error error,
                                     const char *text)
{
    if (h2->state != STATE_FAILED) {
        h2->state = STATE_FAILED;
        h2->failure = error;
        h2->failure_text = text;
        md_http2_put_goaway(h2, error, text);
    }
    return MD_HTTP2_FAILED;
}

static enum md_http2_event_kind reset(struct md_http2 *h2, struct md_http2_event *event,
                                      struct md_http2_stream *stream, enum md_http2_error error)
{
    event->stream = stream;
    event->error = error;
    md_http2_reset(h2, stream, error);
    return MD_HTTP2_RESET;
}

/* A frame that got nobody further. */
static enum md_http2_event_kind idle_frame(struct md_http2 *h2)
{
    if (++h2->idle_frames > IDLE_FRAMES_MAX) {
        return fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "too many frames that do nothing");
    }
    return MD_HTTP2_PROGRESS;
}

/* A frame that is answered by one of ours, which the peer has to read. */
static enum md_http2_event_kind answered_frame(struct md_http2 *h2)
{
    return ++h2->ack_count > ACKS_MAX ? fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "answers are not read")
                                      : idle_frame(h2);
}

static void put_reset(struct md_http2 *h2, uint32_t id, enum md_http2_error error)
{
    char *at = md_http2_put(h2, MD_HTTP2_RST_STREAM_FRAME, 0, id, 4);

    if (at) {
        md_http2_put_u32(at, error);
    }
}

/* --- streams that are no more -------------------- */

static bool was_closed(const struct md_http2 *h2, uint32_t id, bool *by_us)
{
    for (size_t i = 0; i < MD_HTTP2_CLOSED_IDS; i++) {
        if (h2->closed[i].id == id) {
            *by_us = h2->closed[i].by_us;
            return true;
        }
    }
    return false;
}

static bool is_idle(const struct md_http2 *h2, uint32_t id)
{
    return id > h2->last_id || id % 2 == 0;
}

/* --- header blocks -------------------- */

/* Room for one more field in the stream's arena. */
static struct md_http_header *next_field(struct md_http2 *h2)
{
    if (h2->field_count == h2->field_capacity) {
        size_t capacity = h2->field_capacity ? h2->field_capacity * 2 : 16;
        struct md_http_header *more =
            md_arena_alloc(h2->head_stream->arena, capacity * sizeof *more);
        if (!more) {
            return NULL;
        }
        if (h2->field_count) {
            memcpy(more, h2->fields, h2->field_count * sizeof *more);
        }
        h2->fields = more;
        h2->field_capacity = capacity;
    }
    return &h2->fields[h2->field_count];
}

static void take_field(struct md_http2 *h2, const struct md_hpack_field *field)
{
    enum { FIELD_OVERHEAD = 32 }; /* as 6.5.2 counts */
    struct md_arena *arena;

    if (!h2->head_stream || h2->fields_failed) {
        return;
    }
    h2->field_bytes += field->name.len + field->value.len + FIELD_OVERHEAD;
    if (h2->field_bytes > h2->limits->max_header_bytes ||
        h2->field_count == h2->limits->max_header_count) {
        h2->fields_too_large = true;
        return;
    }
    arena = h2->head_stream->arena;
    struct md_http_header *to = next_field(h2);
    char *text = md_arena_alloc(arena, field->name.len + field->value.len + 2);
    if (!to || !text) {
        h2->fields_failed = true;
        return;
    }
    memcpy(text, field->name.ptr, field->name.len);
    to->name = md_str_make(text, field->name.len);
    text += field->name.len;
    *text++ = '\0';
    if (field->value.len) {
        memcpy(text, field->value.ptr, field->value.len);
    }
    text[field->value.len] = '\0';
    to->value = md_str_make(text, field->value.len);
    h2->field_count++;
}

static enum md_http2_event_kind end_head(struct md_http2 *h2, struct md_http2_event *event)
{
    struct md_http2_stream *stream = h2->head_stream;

    h2->head_id = 0;
    if (!stream) {
        return answered_frame(h2);
    }
    event->stream = stream;
    event->ends = h2->head_ends_stream;
    stream->recv_ended |= event->ends;
    if (h2->head_is_trailers) {
        return event->ends ? MD_HTTP2_TRAILERS : reset(h2, event, stream, MD_HTTP2_PROTOCOL_ERROR);
    }
    return MD_HTTP2_HEAD;
}

static void forget_block(struct md_http2 *h2)
{
    md_http2_head_unref(h2->shared);
    h2->shared = NULL;
    h2->last_block_bytes = 0;
    h2->block_came_again = false;
}

/* Whether the block leaves the table as it is, and whether the one before was the same. */
static bool remember(struct md_http2 *h2, struct md_str block)
{
    if (block.len > sizeof h2->last_block || !md_http2_block_is_stable(block)) {
        return false;
    }
    h2->block_came_again = md_str_eq(block, md_str_make(h2->last_block, h2->last_block_bytes));
    if (!h2->block_came_again && block.len) {
        memcpy(h2->last_block, block.ptr, block.len);
        h2->last_block_bytes = block.len;
    }
    return true;
}

/* What has come twice comes again: it is not decoded a third time. */
static void share(struct md_http2 *h2)
{
    if (h2->block_came_again && h2->head_stream && !h2->head_is_trailers && !h2->fields_too_large &&
        !h2->fields_failed) {
        md_http2_head_unref(h2->shared);
        h2->shared = md_http2_head_create(md_str_make(h2->last_block, h2->last_block_bytes),
                                          h2->head_ends_stream, h2->fields, h2->field_count);
    }
}

/* The head that was seen last once more. */
static bool is_shared(const struct md_http2 *h2, struct md_str block)
{
    return h2->shared && (h2->frame.flags & MD_HTTP2_FLAG_END_HEADERS) &&
           h2->shared->ends == h2->head_ends_stream && md_str_eq(h2->shared->block, block);
}

static enum md_http2_event_kind take_block(struct md_http2 *h2, struct md_str block, bool last,
                                           struct md_http2_event *event)
{
    struct md_hpack_field field;

    h2->head_bytes += block.len;
    if (h2->head_bytes > h2->limits->max_header_bytes + BLOCK_SPARE ||
        ++h2->head_frames > HEAD_FRAMES_MAX) {
        return fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "a header block is too large");
    }
    if (!last || h2->head_frames > 1 || !remember(h2, block)) {
        forget_block(h2);
    }
    for (;;) {
        switch (md_hpack_decode(h2->decoder, &block, last, &field)) {
        case MD_PROGRESS_DONE:
            share(h2);
            return end_head(h2, event);
        case MD_PROGRESS_AGAIN:
            if (!field.name.ptr) {
                return MD_HTTP2_PROGRESS;
            }
            take_field(h2, &field);
            break;
        default:
            return fail(h2, MD_HTTP2_COMPRESSION_ERROR, "a header block cannot be decoded");
        }
    }
}

/* Twice as many buckets; without memory for them it stays as it is. */
static void grow_table(struct md_http2 *h2)
{
    const size_t count = h2->bucket_count * 2;
    struct md_http2_stream **buckets = md_calloc(count, sizeof *buckets);

    if (!buckets) {
        return;
    }
    for (struct md_http2_stream *stream = h2->streams; stream; stream = stream->next) {
        struct md_http2_stream **bucket = &buckets[stream->id / 2 & (count - 1)];
        stream->bucket_next = *bucket;
        *bucket = stream;
    }
    if (h2->buckets != h2->few) {
        md_free(h2->buckets);
    }
    h2->buckets = buckets;
    h2->bucket_count = count;
}

/* A new stream, or NULL: then its fields are decoded and dropped. */
static void open_stream(struct md_http2 *h2, uint32_t id)
{
    struct md_http2_stream *stream = NULL;
    const bool refused = h2->stream_count >= h2->limits->max_concurrent_streams ||
                         (h2->refuse_from && id >= h2->refuse_from);

    h2->last_id = id;
    h2->head_is_trailers = false;
    if (!refused) {
        stream = h2->owner.open(h2->owner.arg);
    }
    h2->head_stream = stream;
    if (!stream) {
        put_reset(h2, id, MD_HTTP2_REFUSED_STREAM);
        md_http2_note_closed(h2, id, true);
        return;
    }
    if (h2->stream_count >= 2 * h2->bucket_count) {
        grow_table(h2);
    }
    h2->idle_frames = 0;
    stream->id = id;
    stream->recv_window = h2->limits->initial_window;
    stream->send_window = h2->peer_initial_window;
    const size_t bucket = id / 2 & (h2->bucket_count - 1);
    stream->bucket_next = h2->buckets[bucket];
    h2->buckets[bucket] = stream;
    stream->next = h2->streams;
    if (h2->streams) {
        h2->streams->previous = stream;
    }
    h2->streams = stream;
    h2->stream_count++;
}

/* HEADERS of a stream that is there already, or was. */
static enum md_http2_event_kind reopen(struct md_http2 *h2, struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    struct md_http2_stream *stream = md_http2_find(h2, id);
    bool by_us;

    h2->head_stream = NULL;
    if (stream && stream->was_reset) {
        return stream->was_reset_by_us ? MD_HTTP2_PROGRESS
                                       : fail(h2, MD_HTTP2_STREAM_CLOSED,
                                              "a request follows on a stream that was reset");
    }
    if (stream && stream->recv_ended) {
        return reset(h2, event, stream, MD_HTTP2_STREAM_CLOSED);
    }
    if (stream) {
        h2->head_stream = stream;
        h2->head_is_trailers = true;
        return MD_HTTP2_PROGRESS;
    }
    if (!was_closed(h2, id, &by_us)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a stream's number is smaller than the last");
    }
    return by_us ? MD_HTTP2_PROGRESS
                 : fail(h2, MD_HTTP2_STREAM_CLOSED, "a request follows on a stream that has ended");
}

/* Takes the padding and the priority off a HEADERS frame. */
static bool unwrap_headers(const struct md_http2 *h2, struct md_str *block, bool *depends_on_itself)
{
    size_t padding = 0;

    if (h2->frame.flags & MD_HTTP2_FLAG_PADDED) {
        if (block->len < 1) {
            return false;
        }
        padding = (unsigned char)block->ptr[0];
        *block = md_str_make(block->ptr + 1, block->len - 1);
    }
    if (h2->frame.flags & MD_HTTP2_FLAG_PRIORITY) {
        if (block->len < 5) {
            return false;
        }
        *depends_on_itself = (md_http2_get_u32(block->ptr) & INT32_MAX) == h2->frame.stream_id;
        *block = md_str_make(block->ptr + 5, block->len - 5);
    }
    if (padding > block->len) {
        return false;
    }
    block->len -= padding;
    return true;
}

static enum md_http2_event_kind on_headers(struct md_http2 *h2, struct md_str block,
                                           struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    bool depends_on_itself = false;

    if (id % 2 == 0 || !unwrap_headers(h2, &block, &depends_on_itself)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a HEADERS frame is malformed");
    }
    h2->fields = NULL;
    h2->field_count = h2->field_capacity = h2->field_bytes = h2->head_bytes = 0;
    h2->head_frames = 0;
    h2->fields_too_large = h2->fields_failed = false;
    h2->head_ends_stream = h2->frame.flags & MD_HTTP2_FLAG_END_STREAM;
    enum md_http2_event_kind kind = MD_HTTP2_PROGRESS;
    if (is_idle(h2, id)) {
        open_stream(h2, id);
    } else {
        kind = reopen(h2, event);
    }
    if (kind == MD_HTTP2_FAILED) {
        return kind;
    }
    h2->head_id = id;
    const bool shares = is_shared(h2, block) && !h2->head_is_trailers;
    event->shared = shares ? h2->shared : NULL;
    enum md_http2_event_kind of_block =
        shares ? end_head(h2, event)
               : take_block(h2, block, h2->frame.flags & MD_HTTP2_FLAG_END_HEADERS, event);
    if (of_block == MD_HTTP2_HEAD && depends_on_itself) {
        return reset(h2, event, event->stream, MD_HTTP2_PROTOCOL_ERROR);
    }
    return of_block == MD_HTTP2_PROGRESS ? kind : of_block;
}

static enum md_http2_event_kind on_continuation(struct md_http2 *h2, struct md_str block,
                                                struct md_http2_event *event)
{
    if (!h2->head_id) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    }
    event->shared = NULL;
    return take_block(h2, block, h2->frame.flags & MD_HTTP2_FLAG_END_HEADERS, event);
}

/* --- other frames -------------------- */

static enum md_http2_event_kind on_priority(struct md_http2 *h2, struct md_str payload,
                                            struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    enum md_http2_error error = MD_HTTP2_NO_ERROR;

    if (id == 0) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "PRIORITY of no stream");
    }
    if (payload.len != 5) {
        error = MD_HTTP2_FRAME_SIZE_ERROR;
    } else if ((md_http2_get_u32(payload.ptr) & INT32_MAX) == id) {
        error = MD_HTTP2_PROTOCOL_ERROR;
    }
    if (error) {
        struct md_http2_stream *stream = md_http2_find(h2, id);
        if (stream && !stream->was_reset) {
            return reset(h2, event, stream, error);
        }
        if (is_idle(h2, id)) { /* it cannot be reset (6.4) */
            return fail(h2, error, "PRIORITY is malformed");
        }
        put_reset(h2, id, error);
        return answered_frame(h2);
    }
    return idle_frame(h2);
}

static enum md_http2_event_kind on_rst_stream(struct md_http2 *h2, struct md_str payload,
                                              struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;

    if (payload.len != 4) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "RST_STREAM has a wrong size");
    }
    if (id == 0 || is_idle(h2, id)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "RST_STREAM of no stream");
    }
    struct md_http2_stream *stream = md_http2_find(h2, id);
    if (!stream || stream->was_reset) {
        return idle_frame(h2);
    }
    /* A request that is given up early costs work that nobody sees: who does mostly that has to
     * calm down. */
    if (!stream->send_ended && --h2->reset_credit < 0) {
        return fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "too many requests are given up");
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
                          : fail(h2, MD_HTTP2_PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1");
    case MD_HTTP2_SETTING_INITIAL_WINDOW_SIZE:
        return value <= MD_HTTP2_WINDOW_MAX && take_initial_window(h2, value)
                   ? MD_HTTP2_PROGRESS
                   : fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "a window is too large");
    case MD_HTTP2_SETTING_MAX_FRAME_SIZE:
        if (value < MD_HTTP2_FRAME_LEAST_MAX || value > MD_HTTP2_FRAME_MOST_MAX) {
            return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range");
        }
        h2->peer_max_frame = value;
        return MD_HTTP2_PROGRESS;
    default:
        return MD_HTTP2_PROGRESS;
    }
}

static enum md_http2_event_kind on_settings(struct md_http2 *h2, struct md_str payload,
                                            struct md_http2_event *event)
{
    const bool acks = h2->frame.flags & MD_HTTP2_FLAG_ACK;

    (void)event;
    if (h2->frame.stream_id != 0) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "SETTINGS of a stream");
    }
    if (payload.len % 6 != 0 || (acks && payload.len)) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "SETTINGS has a wrong size");
    }
    for (size_t at = 0; at < payload.len; at += 6) {
        unsigned name = md_http2_get_u32(payload.ptr + at) >> 16;
        uint32_t value = md_http2_get_u32(payload.ptr + at + 2);
        if (take_setting(h2, name, value) == MD_HTTP2_FAILED) {
            return MD_HTTP2_FAILED;
        }
    }
    if (acks) {
        return idle_frame(h2);
    }
    (void)md_http2_put(h2, MD_HTTP2_SETTINGS_FRAME, MD_HTTP2_FLAG_ACK, 0, 0);
    return answered_frame(h2);
}

static enum md_http2_event_kind on_push_promise(struct md_http2 *h2, struct md_str payload,
                                                struct md_http2_event *event)
{
    (void)payload;
    (void)event;
    return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a client does not promise");
}

static enum md_http2_event_kind on_ping(struct md_http2 *h2, struct md_str payload,
                                        struct md_http2_event *event)
{
    (void)event;
    if (h2->frame.stream_id != 0) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "PING of a stream");
    }
    if (payload.len != 8) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "PING has a wrong size");
    }
    if (h2->frame.flags & MD_HTTP2_FLAG_ACK) {
        h2->ping_acked = true;
        return idle_frame(h2);
    }
    char *at = md_http2_put(h2, MD_HTTP2_PING_FRAME, MD_HTTP2_FLAG_ACK, 0, payload.len);
    if (at) {
        memcpy(at, payload.ptr, payload.len);
    }
    h2->ping_count++;
    return answered_frame(h2);
}

static enum md_http2_event_kind on_goaway(struct md_http2 *h2, struct md_str payload,
                                          struct md_http2_event *event)
{
    (void)event;
    if (h2->frame.stream_id != 0) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "GOAWAY of a stream");
    }
    if (payload.len < 8) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "GOAWAY has a wrong size");
    }
    h2->peer_going_away = true;
    return idle_frame(h2);
}

static enum md_http2_event_kind on_window_update(struct md_http2 *h2, struct md_str payload,
                                                 struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;

    if (payload.len != 4) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "WINDOW_UPDATE has a wrong size");
    }
    const uint32_t increment = md_http2_get_u32(payload.ptr) & INT32_MAX;
    if (id == 0) {
        if (!increment) {
            return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
        }
        h2->send_window += increment;
        return h2->send_window > MD_HTTP2_WINDOW_MAX
                   ? fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "a window is too large")
                   : idle_frame(h2);
    }
    if (is_idle(h2, id)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "WINDOW_UPDATE of no stream");
    }
    struct md_http2_stream *stream = md_http2_find(h2, id);
    if (!stream || stream->was_reset) {
        return idle_frame(h2);
    }
    stream->send_window += increment;
    if (!increment || stream->send_window > MD_HTTP2_WINDOW_MAX) {
        return reset(h2, event, stream,
                     increment ? MD_HTTP2_FLOW_CONTROL_ERROR : MD_HTTP2_PROTOCOL_ERROR);
    }
    md_http2_window_grew(h2, stream);
    return idle_frame(h2);
}

/* By kind; DATA is taken as it comes, unknown ones are skipped. */
static enum md_http2_event_kind (*const on_frame[])(struct md_http2 *h2, struct md_str payload,
                                                    struct md_http2_event *event) = {
    [MD_HTTP2_HEADERS_FRAME] = on_headers,
    [MD_HTTP2_PRIORITY_FRAME] = on_priority,
    [MD_HTTP2_RST_STREAM_FRAME] = on_rst_stream,
    [MD_HTTP2_SETTINGS_FRAME] = on_settings,
    [MD_HTTP2_PUSH_PROMISE_FRAME] = on_push_promise,
    [MD_HTTP2_PING_FRAME] = on_ping,
    [MD_HTTP2_GOAWAY_FRAME] = on_goaway,
    [MD_HTTP2_WINDOW_UPDATE_FRAME] = on_window_update,
    [MD_HTTP2_CONTINUATION_FRAME] = on_continuation,
};

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
    if (id == 0 || is_idle(h2, id)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "DATA of no stream");
    }
    if (!charge_connection(h2, h2->frame.len)) {
        return fail(h2, MD_HTTP2_FLOW_CONTROL_ERROR, "more DATA than the window holds");
    }
    if (!stream || stream->was_reset) {
        if (stream) {
            by_us = stream->was_reset_by_us;
        } else if (!was_closed(h2, id, &by_us)) {
            by_us = true; /* long ago */
        }
        if (by_us) {
            return idle_frame(h2);
        }
        put_reset(h2, id, MD_HTTP2_STREAM_CLOSED);
        return answered_frame(h2);
    }
    stream->recv_window -= (int64_t)h2->frame.len;
    if (stream->recv_ended) {
        return reset(h2, event, stream, MD_HTTP2_STREAM_CLOSED);
    }
    if (stream->recv_window < 0) {
        return reset(h2, event, stream, MD_HTTP2_FLOW_CONTROL_ERROR);
    }
    h2->data_stream = stream;
    return h2->frame.len || (h2->frame.flags & MD_HTTP2_FLAG_END_STREAM) ? MD_HTTP2_PROGRESS
                                                                         : idle_frame(h2);
}

static bool ends_request(const struct md_http2 *h2)
{
    return h2->data_left == 0 && (h2->frame.flags & MD_HTTP2_FLAG_END_STREAM);
}

/* A piece of the body that has come. */
static enum md_http2_event_kind take_data(struct md_http2 *h2, struct md_str *data,
                                          struct md_http2_event *event)
{
    struct md_http2_stream *stream = h2->data_stream;
    const size_t len = md_size_min(h2->data_left, data->len);

    event->stream = stream;
    event->bytes = md_str_make(data->ptr, len);
    *data = md_str_make(data->ptr + len, data->len - len);
    h2->data_left -= len;
    if (h2->data_left == 0) {
        h2->state = h2->skip_left ? STATE_SKIP : STATE_FRAME;
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

static enum md_http2_event_kind take_data_head(struct md_http2 *h2, struct md_str *data,
                                               struct md_http2_event *event)
{
    const bool padded = h2->frame.flags & MD_HTTP2_FLAG_PADDED;
    size_t padding =
        padded && h2->frame.len ? (unsigned char)data->ptr[MD_HTTP2_FRAME_HEAD_BYTES] : 0;
    const size_t head = MD_HTTP2_FRAME_HEAD_BYTES + (size_t)padded;

    if (padded && (h2->frame.len == 0 || padding > h2->frame.len - 1)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "padding is longer than its frame");
    }
    enum md_http2_event_kind kind = begin_data(h2, event);
    if (kind == MD_HTTP2_FAILED) {
        return kind;
    }
    *data = md_str_make(data->ptr + head, data->len - head);
    h2->data_left = h2->frame.len - (size_t)padded - padding;
    h2->skip_left = padding;
    h2->state = STATE_DATA;
    if (h2->data_stream && (padded || padding)) {
        h2->data_stream->recv_taken += (int64_t)padding + padded;
    }
    return kind == MD_HTTP2_RESET ? kind : take_data(h2, data, event);
}

struct md_http2_stream *md_http2_in_data(const struct md_http2 *h2, size_t *left)
{
    *left = h2->data_left;
    return h2->state == STATE_DATA && h2->data_left ? h2->data_stream : NULL;
}

bool md_http2_took_data(struct md_http2 *h2, size_t count)
{
    struct md_http2_stream *stream = h2->data_stream;

    h2->data_left -= count;
    h2->idle_frames = 0;
    if (h2->data_left == 0) {
        h2->state = h2->skip_left ? STATE_SKIP : STATE_FRAME;
    }
    stream->recv_ended |= ends_request(h2);
    return stream->recv_ended;
}

bool md_http2_begins_data(struct md_http2 *h2, const char *head, uint32_t id, size_t len)
{
    const struct md_http2_frame frame = md_http2_get_frame(head);
    struct md_http2_stream *stream = md_http2_find(h2, id);

    if (h2->state != STATE_FRAME || h2->head_id || frame.kind != MD_HTTP2_DATA_FRAME ||
        frame.stream_id != id || frame.len != len || (frame.flags & MD_HTTP2_FLAG_PADDED) ||
        !stream || stream->was_reset || stream->recv_ended || stream->recv_window < (int64_t)len ||
        h2->recv_window < (int64_t)len) {
        return false;
    }
    h2->frame = frame;
    (void)charge_connection(h2, len);
    stream->recv_window -= (int64_t)len;
    h2->data_stream = stream;
    h2->data_left = len;
    h2->skip_left = 0;
    h2->state = STATE_DATA;
    return true;
}

/* --- steps -------------------- */

/* Between frames: what comes next, as far as its head says. */
static enum md_http2_event_kind check_frame(struct md_http2 *h2)
{
    const struct md_http2_frame *frame = &h2->frame;

    if (frame->len > h2->max_frame) {
        return fail(h2, MD_HTTP2_FRAME_SIZE_ERROR, "a frame is larger than MAX_FRAME_SIZE");
    }
    if (h2->state == STATE_SETTINGS &&
        (frame->kind != MD_HTTP2_SETTINGS_FRAME || (frame->flags & MD_HTTP2_FLAG_ACK))) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "the first frame is not SETTINGS");
    }
    if (h2->head_id &&
        (frame->kind != MD_HTTP2_CONTINUATION_FRAME || frame->stream_id != h2->head_id)) {
        return fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a header block is interrupted");
    }
    const bool is_control = frame->kind != MD_HTTP2_DATA_FRAME;
    if (is_control && frame->kind < MD_COUNT_OF(on_frame) &&
        frame->len > h2->limits->max_header_bytes + BLOCK_SPARE) {
        return fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "a frame is too large for its kind");
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
        return take_data_head(h2, data, event);
    }
    h2->state = STATE_FRAME;
    struct md_str payload = md_str_make(data->ptr + MD_HTTP2_FRAME_HEAD_BYTES, h2->frame.len);
    if (h2->frame.kind >= MD_COUNT_OF(on_frame)) {
        *data = md_str_make(payload.ptr, data->len - MD_HTTP2_FRAME_HEAD_BYTES);
        h2->skip_left = h2->frame.len;
        h2->state = STATE_SKIP;
        return idle_frame(h2);
    }
    *data =
        md_str_make(payload.ptr + payload.len, data->len - MD_HTTP2_FRAME_HEAD_BYTES - payload.len);
    return on_frame[h2->frame.kind](h2, payload, event);
}

size_t md_http2_wanted(const struct md_http2 *h2, struct md_str data)
{
    if (h2->state > STATE_FRAME) {
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
    h2->state = STATE_FRAME;
    return MD_HTTP2_PROGRESS;
}

void md_http2_next(struct md_http2 *h2, struct md_str *data, struct md_http2_event *event)
{
    event->stream = NULL;
    event->bytes = MD_STR("");
    event->ends = false;
    switch (h2->state) {
    case STATE_SETTINGS:
    case STATE_FRAME:
        event->kind = take_frame(h2, data, event);
        break;
    case STATE_DATA:
        event->kind = data->len ? take_data(h2, data, event) : MD_HTTP2_AGAIN;
        break;
    case STATE_SKIP:
        event->kind = skip(h2, data);
        break;
    default:
        event->kind = MD_HTTP2_FAILED;
    }
    if (h2->text.failed && event->kind != MD_HTTP2_FAILED) {
        event->kind = fail(h2, MD_HTTP2_INTERNAL_ERROR, "out of memory");
    }
}

static void put_settings(struct md_http2 *h2, const uint32_t settings[][2], size_t count)
{
    char *at = md_http2_put(h2, MD_HTTP2_SETTINGS_FRAME, 0, 0, 6 * count);

    for (size_t i = 0; at && i < count; i++, at += 6) {
        at[0] = 0;
        at[1] = (char)settings[i][0];
        md_http2_put_u32(at + 2, settings[i][1]);
    }
}

/* Large frames are received straight into the body's memory. They are offered once there is such a
 * body: header blocks have no use for them. */
static void offer_large_frames(struct md_http2 *h2)
{
    const uint32_t settings[][2] = {{MD_HTTP2_SETTING_MAX_FRAME_SIZE, h2->limits->max_frame_size}};

    h2->max_frame = h2->limits->max_frame_size;
    put_settings(h2, settings, MD_COUNT_OF(settings));
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

void md_http2_consumed(struct md_http2 *h2, struct md_http2_stream *stream, size_t bytes)
{
    stream->recv_taken += (int64_t)bytes;
    if (stream->recv_taken > (int64_t)h2->limits->initial_window / 2) {
        widen(h2, stream, h2->limits->initial_window);
    }
}

void md_http2_expect(struct md_http2 *h2, struct md_http2_stream *stream, uint64_t bytes)
{
    if (bytes > h2->max_frame && h2->max_frame < h2->limits->max_frame_size) {
        offer_large_frames(h2);
    }
    widen(h2, stream, (int64_t)md_size_min(bytes, MD_HTTP2_WINDOW_MAX));
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
    put_settings(h2, settings, MD_COUNT_OF(settings));
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
