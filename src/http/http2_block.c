/*
 * HTTP/2, receiving: header blocks are decoded, streams opened.
 */
#include "http/http2_internal.h"

#include "base/alloc.h"

enum {
    HEAD_FRAMES_MAX = 64,
};

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
        return md_http2_answered_frame(h2);
    }
    event->stream = stream;
    event->ends = h2->head_ends_stream;
    stream->recv_ended |= event->ends;
    if (h2->head_is_trailers) {
        return event->ends ? MD_HTTP2_TRAILERS
                           : md_http2_break(h2, event, stream, MD_HTTP2_PROTOCOL_ERROR);
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
    if (h2->head_bytes > h2->limits->max_header_bytes + MD_HTTP2_BLOCK_SPARE ||
        ++h2->head_frames > HEAD_FRAMES_MAX) {
        return md_http2_fail(h2, MD_HTTP2_ENHANCE_YOUR_CALM, "a header block is too large");
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
            return md_http2_fail(h2, MD_HTTP2_COMPRESSION_ERROR,
                                 "a header block cannot be decoded");
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
        md_http2_put_reset(h2, id, MD_HTTP2_REFUSED_STREAM);
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
        return stream->was_reset_by_us
                   ? MD_HTTP2_PROGRESS
                   : md_http2_fail(h2, MD_HTTP2_STREAM_CLOSED,
                                   "a request follows on a stream that was reset");
    }
    if (stream && stream->recv_ended) {
        return md_http2_break(h2, event, stream, MD_HTTP2_STREAM_CLOSED);
    }
    if (stream) {
        h2->head_stream = stream;
        h2->head_is_trailers = true;
        return MD_HTTP2_PROGRESS;
    }
    if (!md_http2_was_closed(h2, id, &by_us)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR,
                             "a stream's number is smaller than the last");
    }
    return by_us ? MD_HTTP2_PROGRESS
                 : md_http2_fail(h2, MD_HTTP2_STREAM_CLOSED,
                                 "a request follows on a stream that has ended");
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

enum md_http2_event_kind md_http2_on_headers(struct md_http2 *h2, struct md_str block,
                                             struct md_http2_event *event)
{
    const uint32_t id = h2->frame.stream_id;
    bool depends_on_itself = false;

    if (id % 2 == 0 || !unwrap_headers(h2, &block, &depends_on_itself)) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "a HEADERS frame is malformed");
    }
    h2->fields = NULL;
    h2->field_count = h2->field_capacity = h2->field_bytes = h2->head_bytes = 0;
    h2->head_frames = 0;
    h2->fields_too_large = h2->fields_failed = false;
    h2->head_ends_stream = h2->frame.flags & MD_HTTP2_FLAG_END_STREAM;
    enum md_http2_event_kind kind = MD_HTTP2_PROGRESS;
    if (md_http2_is_idle(h2, id)) {
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
        return md_http2_break(h2, event, event->stream, MD_HTTP2_PROTOCOL_ERROR);
    }
    return of_block == MD_HTTP2_PROGRESS ? kind : of_block;
}

enum md_http2_event_kind md_http2_on_continuation(struct md_http2 *h2, struct md_str block,
                                                  struct md_http2_event *event)
{
    if (!h2->head_id) {
        return md_http2_fail(h2, MD_HTTP2_PROTOCOL_ERROR, "CONTINUATION without HEADERS");
    }
    event->shared = NULL;
    return take_block(h2, block, h2->frame.flags & MD_HTTP2_FLAG_END_HEADERS, event);
}
