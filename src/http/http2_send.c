/*
 * HTTP/2, sending: flow control, and what is written next.
 *
 * Control frames, heads and small bodies are copied into `text`. A large body stays where it lies:
 * committing it puts the heads of its DATA frames into the text and notes segments that point at
 * the body between them. Text behind the last segment is written after it. Streams that may send
 * wait in a ring and take turns.
 */
#include "http/http2.h"

#include "base/alloc.h"

enum {
    COPY_MAX = 4096,          /* a body up to this is copied beside its head */
    TEXT_KEPT = 2048,         /* capacity that an idle connection keeps */
    TEXT_FULL = 256 * 1024,   /* unwritten: more is not copied */
    TURN_OF_ONE = 256 * 1024, /* committed of one stream before others have their turn */
    GOAWAY_TEXT_MAX = 256,
};

/* --- frames -------------------- */

char *md_http2_put(struct md_http2 *h2, unsigned kind, unsigned flags, uint32_t id, size_t len)
{
    struct md_bytes *text = &h2->text;

    if (h2->text_at > TEXT_KEPT && h2->text_at > text->len / 2) { /* it is never empty for long */
        text->len -= h2->text_at;
        memmove(text->data, text->data + h2->text_at, text->len);
        h2->text_at = 0;
    }
    if (!md_bytes_reserve(text, MD_HTTP2_FRAME_HEAD_BYTES + len)) {
        return NULL;
    }
    char *at = text->data + text->len;
    md_http2_put_frame(at, &(struct md_http2_frame){len, kind, flags, id});
    h2->has_said |= id != 0;
    text->len += MD_HTTP2_FRAME_HEAD_BYTES + len;
    return at + MD_HTTP2_FRAME_HEAD_BYTES;
}

/* END_STREAM is in the text. The client need not go on with what it still sends. */
static void ended(struct md_http2 *h2, struct md_http2_stream *stream)
{
    enum { CREDIT_MAX = 1000 };

    stream->send_ended = true;
    h2->reset_credit = h2->reset_credit < CREDIT_MAX ? h2->reset_credit + 1 : CREDIT_MAX;
    if (!stream->recv_ended && !stream->was_reset) {
        char *at = md_http2_put(h2, MD_HTTP2_RST_STREAM_FRAME, 0, stream->id, 4);
        if (at) {
            md_http2_put_u32(at, MD_HTTP2_NO_ERROR);
        }
        stream->was_reset = stream->was_reset_by_us = true;
    }
}

void md_http2_put_head(struct md_http2 *h2, struct md_http2_stream *stream, struct md_str block,
                       bool ends)
{
    unsigned kind = MD_HTTP2_HEADERS_FRAME, flags = ends ? MD_HTTP2_FLAG_END_STREAM : 0;
    size_t prefix = h2->says_no_table;

    h2->says_no_table = false;
    do {
        size_t len = md_size_min(block.len, h2->peer_max_frame - prefix);
        flags |= len == block.len ? MD_HTTP2_FLAG_END_HEADERS : 0;
        char *at = md_http2_put(h2, kind, flags, stream->id, prefix + len);
        if (!at) {
            return;
        }
        if (prefix) {
            *at++ = 0x20; /* the table's size is 0 from now on (RFC 7541 6.3) */
        }
        memcpy(at, block.ptr, len);
        block = md_str_make(block.ptr + len, block.len - len);
        kind = MD_HTTP2_CONTINUATION_FRAME;
        prefix = flags = 0;
    } while (block.len);
    if (ends) {
        ended(h2, stream);
    }
}

void md_http2_put_ping(struct md_http2 *h2)
{
    char *at = md_http2_put(h2, MD_HTTP2_PING_FRAME, 0, 0, 8);

    h2->ping_acked = false;
    if (at) {
        memset(at, 0, 8);
    }
}

static void put_goaway(struct md_http2 *h2, uint32_t last_id, enum md_http2_error error,
                       struct md_str text)
{
    char *at = md_http2_put(h2, MD_HTTP2_GOAWAY_FRAME, 0, 0, 8 + text.len);

    if (at) {
        md_http2_put_u32(at, last_id);
        md_http2_put_u32(at + 4, error);
        if (text.len) {
            memcpy(at + 8, text.ptr, text.len);
        }
    }
}

void md_http2_put_goaway_notice(struct md_http2 *h2)
{
    put_goaway(h2, INT32_MAX, MD_HTTP2_NO_ERROR, MD_STR(""));
}

void md_http2_put_goaway(struct md_http2 *h2, enum md_http2_error error, const char *text)
{
    struct md_str reason = md_str_of(text);

    reason.len = md_size_min(reason.len, GOAWAY_TEXT_MAX);
    h2->refuse_from = h2->last_id + 1;
    put_goaway(h2, h2->last_id, error, reason);
}

/* --- streams -------------------- */

static struct md_http2_stream **bucket_of(const struct md_http2 *h2, uint32_t id)
{
    return &h2->buckets[id / 2 & (h2->bucket_count - 1)];
}

struct md_http2_stream *md_http2_find(const struct md_http2 *h2, uint32_t id)
{
    struct md_http2_stream *stream = *bucket_of(h2, id);

    while (stream && stream->id != id) {
        stream = stream->bucket_next;
    }
    return stream;
}

static void drop_pieces(struct md_http2_stream *stream)
{
    struct md_http2_piece *piece = stream->first;

    /* one that is committed in part is told when that has been written */
    if (piece && stream->first_at && stream->committed_bytes) {
        piece = piece->next;
        stream->first->next = NULL;
        stream->last = stream->first;
    } else {
        stream->first = stream->last = NULL;
        stream->first_at = 0;
    }
    while (piece) {
        struct md_http2_piece *next = piece->next;
        if (piece->sent) {
            piece->sent(piece);
        }
        piece = next;
    }
    stream->queued_bytes = 0;
}

static void leave_ring(struct md_http2 *h2, struct md_http2_stream *stream)
{
    struct md_http2_stream **at = &h2->ready_first, *previous = NULL;

    if (!stream->is_ready) {
        return;
    }
    while (*at != stream) {
        previous = *at;
        at = &previous->ready_next;
    }
    *at = stream->ready_next;
    if (h2->ready_last == stream) {
        h2->ready_last = previous;
    }
    stream->is_ready = false;
}

void md_http2_note_closed(struct md_http2 *h2, uint32_t id, bool by_us)
{
    h2->closed[h2->closed_at].id = id;
    h2->closed[h2->closed_at].by_us = by_us;
    h2->closed_at = (h2->closed_at + 1) % MD_HTTP2_CLOSED_IDS;
}

void md_http2_forget(struct md_http2 *h2, struct md_http2_stream *stream)
{
    struct md_http2_stream **at = bucket_of(h2, stream->id);

    leave_ring(h2, stream);
    stream->committed_bytes = 0;
    drop_pieces(stream);
    while (*at != stream) {
        at = &(*at)->bucket_next;
    }
    *at = stream->bucket_next;
    if (stream->previous) {
        stream->previous->next = stream->next;
    } else {
        h2->streams = stream->next;
    }
    if (stream->next) {
        stream->next->previous = stream->previous;
    }
    h2->stream_count--;
    md_http2_note_closed(h2, stream->id, stream->was_reset_by_us);
    if (h2->data_stream == stream) {
        h2->data_stream = NULL;
    }
    if (h2->head_stream == stream) {
        h2->head_stream = NULL;
    }
}

void md_http2_reset(struct md_http2 *h2, struct md_http2_stream *stream, enum md_http2_error error)
{
    /* NO_ERROR here: the peer was first */
    if (error != MD_HTTP2_NO_ERROR) {
        char *at = md_http2_put(h2, MD_HTTP2_RST_STREAM_FRAME, 0, stream->id, 4);
        if (at) {
            md_http2_put_u32(at, error);
        }
        stream->was_reset_by_us = true;
    }
    stream->was_reset = true;
    leave_ring(h2, stream);
    drop_pieces(stream);
    if (h2->data_stream == stream) {
        h2->data_stream = NULL; /* the rest of the frame is skipped */
    }
}

/* --- queueing -------------------- */

/* Whether the stream has something that the windows let go. */
static bool may_send(const struct md_http2_stream *stream)
{
    return !stream->was_reset && !stream->send_ended && stream->queued_bytes &&
           stream->send_window > 0;
}

static void join_ring(struct md_http2 *h2, struct md_http2_stream *stream)
{
    if (stream->is_ready || !may_send(stream)) {
        return;
    }
    stream->is_ready = true;
    stream->ready_next = NULL;
    if (h2->ready_first) {
        h2->ready_last->ready_next = stream;
    } else {
        h2->ready_first = stream;
    }
    h2->ready_last = stream;
}

void md_http2_window_grew(struct md_http2 *h2, struct md_http2_stream *stream)
{
    join_ring(h2, stream);
}

static void put_end(struct md_http2 *h2, struct md_http2_stream *stream)
{
    if (stream->trailers.len) {
        md_http2_put_head(h2, stream, stream->trailers, true);
    } else {
        (void)md_http2_put(h2, MD_HTTP2_DATA_FRAME, MD_HTTP2_FLAG_END_STREAM, stream->id, 0);
        ended(h2, stream);
    }
}

bool md_http2_try_send(struct md_http2 *h2, struct md_http2_stream *stream,
                       const struct iovec *parts, size_t part_count, size_t total, bool ends)
{
    const int64_t window =
        stream->send_window < h2->send_window ? stream->send_window : h2->send_window;

    if (stream->queued_bytes || stream->was_reset || total > COPY_MAX || (int64_t)total > window ||
        h2->text.len - h2->text_at > TEXT_FULL) {
        return false;
    }
    if (total || ends) {
        char *at = md_http2_put(h2, MD_HTTP2_DATA_FRAME, ends ? MD_HTTP2_FLAG_END_STREAM : 0,
                                stream->id, total);
        for (size_t i = 0; at && i < part_count; i++) {
            if (parts[i].iov_len) {
                memcpy(at, parts[i].iov_base, parts[i].iov_len);
                at += parts[i].iov_len;
            }
        }
        stream->send_window -= (int64_t)total;
        h2->send_window -= (int64_t)total;
    }
    h2->idle_frames = 0;
    if (ends) {
        ended(h2, stream);
    }
    return true;
}

void md_http2_send(struct md_http2 *h2, struct md_http2_stream *stream,
                   struct md_http2_piece *piece)
{
    piece->next = NULL;
    if (stream->was_reset || piece->len == 0) {
        if (piece->sent) {
            piece->sent(piece);
        }
        return;
    }
    if (stream->first) {
        stream->last->next = piece;
    } else {
        stream->first = piece;
    }
    stream->last = piece;
    stream->queued_bytes += piece->len;
    join_ring(h2, stream);
}

void md_http2_finish(struct md_http2 *h2, struct md_http2_stream *stream, struct md_str trailers)
{
    stream->send_ending = true;
    stream->trailers = trailers;
    if (!stream->queued_bytes && !stream->was_reset) {
        put_end(h2, stream);
    }
}

/* --- committing -------------------- */

static bool has_segments(struct md_http2 *h2)
{
    if (!h2->segments) {
        h2->segments = md_alloc(MD_HTTP2_SEGMENTS * sizeof *h2->segments);
        h2->text.failed |= !h2->segments;
    }
    return h2->segments != NULL;
}

/* Text up to here is written before what follows. */
static void cover_text(struct md_http2 *h2)
{
    size_t len = h2->text.len - h2->text_at - h2->text_covered;

    if (len) {
        h2->segments[h2->segment_count++] = (struct md_http2_segment){.len = len};
        h2->text_covered += len;
    }
}

/* One DATA frame of the stream's first pieces; false: it is time for others. */
static bool commit_frame(struct md_http2 *h2, struct md_http2_stream *stream, size_t *room)
{
    size_t len = md_size_min(stream->queued_bytes, h2->peer_max_frame);

    len = md_size_min(len, (size_t)stream->send_window);
    len = md_size_min(len, (size_t)h2->send_window);
    len = md_size_min(len, *room);
    const bool ends =
        len == stream->queued_bytes && stream->send_ending && stream->trailers.len == 0;
    if (!md_http2_put(h2, MD_HTTP2_DATA_FRAME, ends ? MD_HTTP2_FLAG_END_STREAM : 0, stream->id,
                      0)) {
        return false;
    }
    cover_text(h2);
    size_t left = len;
    while (left && h2->segment_count < MD_HTTP2_SEGMENTS - 2) {
        struct md_http2_piece *piece = stream->first;
        size_t n = md_size_min(left, piece->len - stream->first_at);
        bool is_last = stream->first_at + n == piece->len;
        h2->segments[h2->segment_count++] =
            (struct md_http2_segment){.data = piece->data + stream->first_at,
                                      .len = n,
                                      .stream = stream,
                                      .piece = is_last ? piece : NULL};
        left -= n;
        stream->first_at += n;
        if (is_last) {
            stream->first = piece->next;
            stream->first_at = 0;
        }
    }
    len -= left; /* as far as there was room for segments */
    md_http2_put_frame(h2->text.data + h2->text.len - MD_HTTP2_FRAME_HEAD_BYTES,
                       &(struct md_http2_frame){len, MD_HTTP2_DATA_FRAME,
                                                ends && !left ? MD_HTTP2_FLAG_END_STREAM : 0,
                                                stream->id});
    stream->queued_bytes -= len;
    stream->committed_bytes += len;
    stream->send_window -= (int64_t)len;
    h2->send_window -= (int64_t)len;
    *room -= len;
    if (ends && !left) {
        ended(h2, stream);
    }
    return !left;
}

/* One stream's turn. */
static void commit_stream(struct md_http2 *h2, struct md_http2_stream *stream, size_t *room)
{
    size_t turn = md_size_min(*room, TURN_OF_ONE);
    const size_t before = turn;

    while (stream->queued_bytes && turn && stream->send_window > 0 && h2->send_window > 0 &&
           h2->segment_count < MD_HTTP2_SEGMENTS - 3) {
        if (!commit_frame(h2, stream, &turn)) {
            break;
        }
    }
    *room -= before - turn;
    if (before != turn) {
        h2->idle_frames = 0;
    }
    if (!stream->queued_bytes && stream->send_ending && !stream->send_ended) {
        put_end(h2, stream);
    }
}

static void commit(struct md_http2 *h2, size_t most)
{
    size_t room = most;

    while (h2->ready_first && room && h2->segment_count < MD_HTTP2_SEGMENTS - 3 &&
           !h2->text.failed) {
        struct md_http2_stream *stream = h2->ready_first;
        if (stream->queued_bytes && h2->send_window <= 0) {
            break; /* a WINDOW_UPDATE of the connection makes it go on */
        }
        h2->ready_first = stream->ready_next;
        stream->is_ready = false;
        commit_stream(h2, stream, &room);
        join_ring(h2, stream);
        if (stream->send_ended && !stream->committed_bytes) {
            h2->owner.sent(h2->owner.arg, stream);
        }
    }
}

int md_http2_gather(struct md_http2 *h2, struct iovec *parts, int part_count, size_t most)
{
    size_t text_at = h2->text_at;
    int count = 0;

    if (h2->ready_first && !h2->segment_count && has_segments(h2)) {
        commit(h2, most);
    }
    for (size_t i = h2->segment_at; i < h2->segment_count && count < part_count - 1; i++) {
        const struct md_http2_segment *segment = &h2->segments[i];
        const size_t written = i == h2->segment_at ? h2->segment_written : 0;
        const char *data = segment->data ? segment->data + written : h2->text.data + text_at;
        const size_t len = segment->len - written;
        text_at += segment->data ? 0 : len;
        parts[count++] = (struct iovec){(void *)(uintptr_t)data, len};
        if (count == part_count - 1 && i + 1 < h2->segment_count) {
            return count;
        }
    }
    if (text_at < h2->text.len) {
        parts[count++] = (struct iovec){h2->text.data + text_at, h2->text.len - text_at};
    }
    return count;
}

static void segment_written(struct md_http2 *h2, const struct md_http2_segment *segment)
{
    struct md_http2_stream *stream = segment->stream;

    if (segment->piece && segment->piece->sent) {
        segment->piece->sent(segment->piece);
    }
    if (!stream || stream->committed_bytes) {
        return;
    }
    if (stream->was_reset && stream->first && stream->first_at) { /* dropped while half written */
        drop_pieces(stream);
    }
    if (stream->send_ended || stream->was_reset) {
        h2->owner.sent(h2->owner.arg, stream);
    }
}

void md_http2_wrote(struct md_http2 *h2, size_t bytes)
{
    while (h2->segment_at < h2->segment_count) {
        const struct md_http2_segment segment = h2->segments[h2->segment_at];
        const size_t n = md_size_min(bytes, segment.len - h2->segment_written);
        bytes -= n;
        h2->segment_written += n;
        if (!segment.data) {
            h2->text_at += n;
            h2->text_covered -= n;
        }
        if (segment.stream) {
            segment.stream->committed_bytes -= n;
        }
        if (h2->segment_written < segment.len) {
            return;
        }
        h2->segment_at++;
        h2->segment_written = 0;
        segment_written(h2, &segment);
    }
    h2->segment_at = h2->segment_count = 0;
    h2->text_at += bytes;
    if (h2->text_at == h2->text.len) {
        h2->text_at = 0;
        h2->ack_count = 0;
        if (h2->text.capacity > TEXT_KEPT) {
            bool failed = h2->text.failed;
            md_bytes_deinit(&h2->text);
            h2->text.failed = failed;
        } else {
            h2->text.len = 0;
        }
    }
}

size_t md_http2_pending_bytes(const struct md_http2 *h2)
{
    size_t bytes = h2->text.len - h2->text_at;

    for (size_t i = h2->segment_at; i < h2->segment_count; i++) {
        bytes += h2->segments[i].data ? h2->segments[i].len : 0;
    }
    return bytes;
}

/* --- life -------------------- */

void md_http2_drop_output(struct md_http2 *h2)
{
    for (size_t i = h2->segment_at; i < h2->segment_count; i++) {
        struct md_http2_piece *piece = h2->segments[i].piece;
        if (piece && piece->sent) {
            piece->sent(piece);
        }
        if (h2->segments[i].stream) {
            h2->segments[i].stream->committed_bytes = 0;
        }
    }
    h2->segment_at = h2->segment_count = h2->segment_written = 0;
    md_bytes_deinit(&h2->text);
    h2->text_at = h2->text_covered = 0;
}

void md_http2_deinit(struct md_http2 *h2)
{
    md_http2_drop_output(h2);
    md_hpack_decoder_destroy(h2->decoder);
    md_http2_head_unref(h2->shared);
    h2->shared = NULL;
    md_free(h2->segments);
    if (h2->buckets != h2->few) {
        md_free(h2->buckets);
    }
    h2->decoder = NULL;
    h2->segments = NULL;
}
