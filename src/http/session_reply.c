/*
 * Session: answers. One writev of head and body parts; what does not fit is sent when the socket
 * takes more.
 */
#include "http/session_internal.h"

#include "base/clock.h"

enum {
    PARTS_A_SEND = 64,
};

struct md_http_response md_session_refusal(struct md_arena *arena, unsigned status, unsigned cause,
                                           const char *sentence)
{
    static const struct md_http_header accepted = {.name = MD_STR("Accept-Encoding"),
                                                   .value = MD_STR("gzip, deflate")};
    struct md_http_response response = {
        .status = status, .content_type = "application/json", .close = true};
    struct md_bytes text = {0};
    struct md_str copy;
    struct iovec *part = md_arena_alloc(arena, sizeof *part);

    md_bytes_append_str(&text, MD_STR("{\"error\":"));
    md_json_append_string(&text, md_str_of(sentence));
    md_bytes_append_char(&text, '}');
    copy = text.failed ? MD_STR("") : md_arena_copy(arena, md_bytes_view(&text));
    md_bytes_deinit(&text);
    if (cause == MD_REFUSAL_ENCODING || cause == MD_REFUSAL_MEMORY) {
        response.headers = cause == MD_REFUSAL_ENCODING ? &accepted : md_http_retry_after();
        response.header_count = 1;
    }
    if (part && copy.len) {
        *part = (struct iovec){.iov_base = (void *)(uintptr_t)copy.ptr, .iov_len = copy.len};
        response.parts = part;
        response.part_count = 1;
    }
    return response;
}

void md_session_refuse(struct md_session *session, unsigned status, unsigned cause,
                       const char *sentence)
{
    md_counter_add(&session->counters->refused[cause], 1);
    session->response = md_session_refusal(&session->x.arena, status, cause, sentence);
    session->answered = true;
    session->close_after = session->early = true;
    md_session_begin_reply(session);
}

/* --- from the handler -------------------- */

/* The arena is somebody else's: the answer goes without it, and nothing follows it. */
static void copy_answer(struct md_session *session)
{
    struct md_http_response *response = &session->response;

    md_bytes_clear(&session->stream);
    for (size_t i = 0; i < response->part_count; i++) {
        md_bytes_append(&session->stream, response->parts[i].iov_base, response->parts[i].iov_len);
    }
    session->held_part = (struct iovec){session->stream.data, session->stream.len};
    response->parts = &session->held_part;
    response->part_count = !session->stream.failed; /* without memory: the status alone */
    response->may_compress = false;
    session->close_after = true;
}

static void note_answer(struct md_session *session, const struct md_http_response *response)
{
    session->response = *response;
    session->answered = true;
    session->close_after |= response->close;
    if (session->x.holds) {
        copy_answer(session);
    }
}

static struct md_session *session_of(struct md_exchange *x)
{
    return MD_CONTAINER_OF(x, struct md_session, x);
}

static void respond(struct md_exchange *x, const struct md_http_response *response)
{
    struct md_session *session = session_of(x);

    if (session->state == MD_SESSION_CLOSED) {
        session->handler_has_it = false;
    } else {
        note_answer(session, response);
    }
    md_session_run(session);
}

static bool begin_deflate(struct md_session *session);

static void stream_begin(struct md_exchange *x, const struct md_http_response *response,
                         void (*drained)(struct md_exchange *x))
{
    struct md_session *session = session_of(x);

    session->streaming = true;
    session->stream_ended = false;
    session->stream_chunked = session->request.minor_version > 0;
    session->stream.max = MD_SESSION_STREAM_MAX_BYTES;
    session->drained = drained;
    session->stream_at = 0;
    md_bytes_clear(&session->stream);
    if (session->state != MD_SESSION_CLOSED) {
        session->handler_has_it = true; /* also if it answers the head: until md_exchange_end */
        note_answer(session, response);
        (void)begin_deflate(session);
        md_session_run(session);
    }
}

/* What has gone out makes room, once it is the larger part: each byte is moved once at most. */
static void drop_sent(struct md_session *session)
{
    struct md_bytes *stream = &session->stream;

    if (session->stream_at > stream->len / 2) {
        stream->len -= session->stream_at;
        memmove(stream->data, stream->data + session->stream_at, stream->len);
        session->stream_at = 0;
    }
}

static void append_piece(struct md_session *session, struct md_str piece)
{
    drop_sent(session);
    if (session->stream_chunked) {
        md_bytes_printf(&session->stream, "%zx\r\n", piece.len);
    }
    md_bytes_append_str(&session->stream, piece);
    if (session->stream_chunked) {
        md_bytes_append_str(&session->stream, MD_STR("\r\n"));
    }
}

/* A part of the body; compressed it goes out at once, too, so that its reader waits for nothing. */
static void append_body(struct md_session *session, struct md_str bytes, bool last)
{
    struct md_bytes deflated = {.max = MD_SESSION_STREAM_MAX_BYTES};

    if (session->pack.deflate) {
        if (!md_deflate_append(session->pack.deflate, bytes, last, &deflated)) {
            md_session_lost(session);
        }
        bytes = md_bytes_view(&deflated);
    }
    if (bytes.len) { /* an empty chunk would end the body */
        append_piece(session, bytes);
    }
    md_bytes_deinit(&deflated);
    if (session->stream.failed) {
        md_session_lost(session);
    }
}

static bool stream_write(struct md_exchange *x, struct md_str bytes)
{
    struct md_session *session = session_of(x);
    const bool was_pinned = session->pinned;

    if (session->state == MD_SESSION_CLOSED || session->peer_gone ||
        x->head.method == MD_HTTP_HEAD) {
        return false;
    }
    if (bytes.len) {
        append_body(session, bytes, false);
    }
    session->pinned = true; /* on_cancel may end the exchange meanwhile */
    md_session_run(session);
    session->pinned = was_pinned;
    bool wanted = session->state != MD_SESSION_CLOSED && !session->peer_gone;
    md_session_release_when_unused(session);
    return wanted;
}

static void stream_end(struct md_exchange *x)
{
    struct md_session *session = session_of(x);

    session->stream_ended = true;
    if (session->state == MD_SESSION_CLOSED) {
        session->handler_has_it = false;
    } else if (x->head.method != MD_HTTP_HEAD) {
        append_body(session, MD_STR(""), true);
        if (session->stream_chunked) {
            md_bytes_append_str(&session->stream, MD_STR("0\r\n\r\n"));
        }
        if (session->stream.failed) {
            md_session_lost(session);
        }
    }
    md_session_run(session);
}

static void released(struct md_exchange *x)
{
    struct md_session *session = session_of(x);

    if (session->state == MD_SESSION_LINGER) { /* its answer has gone out */
        md_session_reset_exchange(session);
    }
    md_session_release_when_unused(session);
}

static void stream_abort(struct md_exchange *x)
{
    struct md_session *session = session_of(x);

    session->stream_ended = true;
    if (session->state == MD_SESSION_CLOSED) {
        session->handler_has_it = false;
    } else {
        md_session_lost(session);
    }
    md_session_run(session);
}

const struct md_exchange_calls md_session_calls = {.respond = respond,
                                                   .begin = stream_begin,
                                                   .write = stream_write,
                                                   .end = stream_end,
                                                   .abort = stream_abort,
                                                   .released = released};

/* --- head -------------------- */

/* Whether the answer that was noted may be compressed for this client; then it is to be. */
static bool begin_deflate(struct md_session *session)
{
    const struct md_str accept = session->request.accept_encoding;
    enum md_coding coding;
    struct md_error err;

    if (!session->response.may_compress || !accept.len || !md_coding_choose(accept, &coding) ||
        !md_pack_begin(&session->pack, coding, md_loop_pool(session->x.loop), &err)) {
        return false;
    }
    session->coding = md_coding_name(coding);
    return true;
}

static bool origin_allowed(const struct md_http_config *config, struct md_str origin)
{
    for (size_t i = 0; i < config->cors_origin_count; i++) {
        if (md_str_eq_c(config->cors_origins[i], "*") ||
            md_str_eq(config->cors_origins[i], origin)) {
            return true;
        }
    }
    return false;
}

size_t md_session_cors(const struct md_http_config *config, struct md_str origin,
                       struct md_http_header fields[MD_SESSION_CORS_FIELDS])
{
    if (!origin.len || !origin_allowed(config, origin)) {
        return 0;
    }
    fields[0] = (struct md_http_header){MD_STR("Access-Control-Allow-Origin"), origin};
    fields[1] = (struct md_http_header){MD_STR("Access-Control-Expose-Headers"),
                                        MD_STR("Inference-Header-Content-Length")};
    fields[2] = (struct md_http_header){MD_STR("Vary"), MD_STR("Origin")};
    return MD_SESSION_CORS_FIELDS;
}

/* CORS headers come before the handler's own; written as text, since they vary. */
static void print_cors(struct md_session *session, struct md_http1_response_head *head,
                       struct md_http_header extra[8])
{
    size_t count = head->header_count > 5
                       ? 0
                       : md_session_cors(session->config, session->request.origin, extra);

    for (size_t i = 0; count && i < head->header_count; i++) {
        extra[count + i] = head->headers[i];
    }
    if (count) {
        head->headers = extra;
        head->header_count += count;
    }
}

const char *md_session_date(struct md_session_list *list, const struct md_loop *loop)
{
    uint64_t now_ns = md_loop_now_ns(loop);

    if (now_ns >= list->date_until_ns) {
        uint64_t realtime_ns = md_clock_realtime_ns();
        md_http1_print_date(realtime_ns, list->date);
        list->date_until_ns = now_ns + MD_NS_PER_S - realtime_ns % MD_NS_PER_S;
    }
    return list->date;
}

static void print_head(struct md_session *session, int64_t content_length, const char *coding)
{
    struct md_http_header extra[8];
    struct md_http1_response_head head = {
        .status = session->response.status,
        .content_type = session->response.content_type,
        .content_encoding = coding,
        .content_length = content_length,
        .allow = session->response.status == 405 ? session->x.allow : NULL,
        .server = session->config->server_name,
        .date = md_session_date(session->list, session->x.loop),
        .close = session->close_after,
        .http10_keep_alive = session->request.minor_version == 0,
        .headers = session->response.headers,
        .header_count = session->response.header_count,
    };

    print_cors(session, &head, extra);
    md_bytes_clear(&session->head);
    md_http1_print_head(&head, &session->head);
    if (session->head.failed) {
        md_session_lost(session);
    }
}

static void set_parts(struct md_session *session, const struct iovec *parts, size_t count,
                      size_t body_bytes)
{
    session->reply_parts = parts;
    session->reply_part_count = session->x.head.method == MD_HTTP_HEAD ? 0 : count;
    session->part_at = session->part_offset = 0;
    session->head_at = 0;
    session->reply_left =
        session->head.len + (session->x.head.method == MD_HTTP_HEAD ? 0 : body_bytes);
    session->reply_bytes = 0;
    session->state = MD_SESSION_REPLY;
    md_session_set_deadline(session, session->config->body_timeout_ns);
}

/* The answer goes out as the handler gave it. */
static void reply_plain(struct md_session *session)
{
    const struct md_http_response *response = &session->response;
    size_t bytes = md_http_parts_bytes(response->parts, response->part_count);

    print_head(session, (int64_t)bytes, NULL);
    set_parts(session, response->parts, response->part_count, bytes);
}

void md_session_begin_reply(struct md_session *session)
{
    session->close_after |= session->list->draining;
    if (session->streaming) {
        session->close_after |= !session->stream_chunked;
        /* HTTP/1.0 has no chunks: the end of the connection ends the body, which Content-Length
         * must not deny */
        print_head(session, session->stream_chunked ? MD_HTTP1_CHUNKED : MD_HTTP1_UNTIL_CLOSE,
                   session->pack.deflate ? session->coding : NULL);
        set_parts(session, NULL, 0, 0);
        return;
    }
    if (md_http_parts_bytes(session->response.parts, session->response.part_count) >
            MD_SESSION_COMPRESS_FROM_BYTES &&
        begin_deflate(session)) {
        session->state = MD_SESSION_DEFLATE;
        session->deadline_ns = 0;
        md_conn_want(session->conn, 0);
        return;
    }
    reply_plain(session);
}

/* --- compression -------------------- */

static void end_deflate(struct md_session *session)
{
    const struct md_chain *packed = &session->pack.chain;
    struct iovec *parts = md_arena_alloc(&session->x.arena, packed->part_count * sizeof *parts);

    if (!parts) {
        reply_plain(session);
        return;
    }
    md_chain_parts(packed, parts);
    print_head(session, (int64_t)md_chain_bytes(packed), session->coding);
    set_parts(session, parts, packed->part_count, md_chain_bytes(packed));
}

bool md_session_step_deflate(struct md_session *session)
{
    switch (md_pack_step(&session->pack, md_loop_pool(session->x.loop), session->response.parts,
                         session->response.part_count)) {
    case MD_PROGRESS_DONE:
        end_deflate(session);
        return true;
    case MD_PROGRESS_AGAIN:
        md_session_yield(session);
        return false;
    default:
        reply_plain(session);
        return true;
    }
}

/* --- sending -------------------- */

static int gather(struct md_session *session, struct iovec parts[PARTS_A_SEND])
{
    int count = 0;

    if (session->head_at < session->head.len) {
        parts[count++] = (struct iovec){session->head.data + session->head_at,
                                        session->head.len - session->head_at};
    }
    size_t offset = session->part_offset;
    for (size_t i = session->part_at; i < session->reply_part_count && count < PARTS_A_SEND - 1;
         i++, offset = 0) {
        const struct iovec *part = &session->reply_parts[i];
        if (part->iov_len > offset) {
            parts[count++] =
                (struct iovec){(char *)part->iov_base + offset, part->iov_len - offset};
        }
    }
    if (session->streaming && session->stream_at < session->stream.len) {
        parts[count++] = (struct iovec){session->stream.data + session->stream_at,
                                        session->stream.len - session->stream_at};
    }
    return count;
}

static void advance(struct md_session *session, size_t sent)
{
    size_t n = md_size_min(sent, session->head.len - session->head_at);

    session->head_at += n;
    sent -= n;
    while (sent && session->part_at < session->reply_part_count) {
        size_t left = session->reply_parts[session->part_at].iov_len - session->part_offset;
        n = md_size_min(sent, left);
        session->part_offset += n;
        sent -= n;
        if (n == left) {
            session->part_at++;
            session->part_offset = 0;
        }
    }
    session->stream_at += sent;
}

void md_session_reset_exchange(struct md_session *session)
{
    md_arena_reset(&session->x.arena);
    md_arena_cache_take_back(md_loop_arenas(session->x.loop), &session->x.arena);
    md_session_release_body(session);
}

/* The whole answer has gone out. */
static void end_exchange(struct md_session *session)
{
    struct md_exchange *x = &session->x;
    unsigned status = session->response.status;

    md_counter_add(&session->counters->responses[md_size_min(status / 100, 5)], 1);
    if (session->config->access_log) {
        session->config->access_log(session->config->access_log_arg, x, status,
                                    session->reply_bytes);
    }
    /* Who did not ask for the end may have sent more: a reset would take the answer with it. */
    bool linger = session->close_after && (session->early || session->request.keep_alive ||
                                           (session->in && session->in_at < session->in_end));
    if (!x->holds) {
        md_session_reset_exchange(session);
    }
    md_bytes_deinit(&session->stream); /* an idle connection keeps no more than a head */
    session->handler_has_it = session->answered = session->streaming = false;
    session->deadline_ns = 0;
    if (session->close_after) {
        session->state = linger ? MD_SESSION_LINGER : MD_SESSION_HEAD;
        session->peer_gone = !linger;
        return;
    }
    session->state = MD_SESSION_HEAD;
    if (!session->in || session->in_at == session->in_end) {
        md_session_drop_buffer(session);
        md_session_set_idle_deadline(session);
        md_conn_want(session->conn, MD_LOOP_READ);
    }
}

static bool all_sent(struct md_session *session)
{
    if (session->streaming) {
        if (session->stream_at == session->stream.len) {
            md_bytes_clear(&session->stream);
            session->stream_at = 0;
        }
        return session->stream_ended && session->stream.len == 0 &&
               session->head_at == session->head.len;
    }
    return session->reply_left == 0;
}

static void wait_for_reader(struct md_session *session)
{
    session->unsent_bytes = md_conn_unsent(session->conn);
    md_conn_want(session->conn, MD_LOOP_WRITE);
}

/* The socket takes more only when a good part of what it holds is gone: a slow reader makes
 * progress before that. */
bool md_session_peer_reads(struct md_session *session)
{
    size_t before = session->unsent_bytes;

    session->unsent_bytes = md_conn_unsent(session->conn);
    return session->unsent_bytes < before;
}

bool md_session_step_reply(struct md_session *session)
{
    struct iovec parts[PARTS_A_SEND];
    struct md_error err;
    const size_t room = MD_SESSION_TURN_BYTES - session->turn_bytes;
    size_t sent = 0, offered = 0;

    int count = gather(session, parts);
    for (int i = 0; i < count; i++) {
        parts[i].iov_len = md_size_min(parts[i].iov_len, room - offered);
        offered += parts[i].iov_len;
    }
    if (count) {
        enum md_io outcome = md_conn_send(session->conn, parts, count, &sent, &err);
        if (outcome == MD_IO_AGAIN) {
            wait_for_reader(session);
            return false;
        }
        if (outcome != MD_IO_OK) {
            md_session_lost(session);
            return false;
        }
        md_counter_add(&session->counters->sent_bytes, sent);
        advance(session, sent);
        session->reply_left -= session->streaming ? 0 : sent;
        session->reply_bytes += sent;
        session->turn_bytes += sent;
        md_session_set_deadline(session, session->config->body_timeout_ns);
    }
    if (sent < offered) { /* the socket is full */
        wait_for_reader(session);
        return false;
    }
    if (all_sent(session)) {
        end_exchange(session);
        return session->state == MD_SESSION_LINGER || (session->in != NULL);
    }
    if (session->streaming && session->stream.len - session->stream_at == 0) {
        md_conn_want(session->conn, 0);
        session->deadline_ns = 0;
        if (!session->stream_ended && session->drained && sent) {
            session->drained(&session->x);
            return session->stream.len > 0 || session->stream_ended;
        }
        return false;
    }
    return true;
}
