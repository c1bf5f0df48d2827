/*
 * Session of HTTP/2: answers. Small ones are copied beside their head and are done with at once;
 * large ones are queued where they lie.
 */
#include "http/session_http2_internal.h"

#include "base/alloc.h"

enum {
    COPY_MAX = 4096, /* of a body that waits: more is left where it lies */
};

/* --- heads -------------------- */

struct md_bytes *md_call_begin_block(struct md_call *call)
{
    struct md_bytes *block = &call->session->scratch;

    md_bytes_clear(block);
    return block;
}

void md_call_put_block(struct md_call *call, bool ends)
{
    struct md_http2_session *session = call->session;

    if (session->scratch.failed) {
        session->h2.text.failed = true; /* the connection ends for it */
        return;
    }
    md_http2_put_head(&session->h2, &call->stream, md_bytes_view(&session->scratch), ends);
    call->head_sent = true;
}

static void put_head(struct md_call *call, int64_t content_length, const char *coding, bool ends)
{
    const struct md_http_response *response = &call->response;
    const struct md_http_config *config = call->session->config;
    struct md_http_header cors[MD_SESSION_CORS_FIELDS];
    struct md_bytes *block = md_call_begin_block(call);
    size_t cors_count = md_session_cors(config, call->request.origin, cors);

    md_hpack_put_status(block, response->status);
    if (config->server_name) {
        md_hpack_put(block, MD_STR("server"), md_str_of(config->server_name));
    }
    md_hpack_put(block, MD_STR("date"),
                 md_str_of(md_session_date(call->session->list, call->x.loop)));
    if (response->content_type) {
        md_hpack_put(block, MD_STR("content-type"), md_str_of(response->content_type));
    }
    if (response->status == 405 && call->x.allow) {
        md_hpack_put(block, MD_STR("allow"), md_str_of(call->x.allow));
    }
    for (size_t i = 0; i < cors_count; i++) {
        md_hpack_put(block, cors[i].name, cors[i].value);
    }
    for (size_t i = 0; i < response->header_count; i++) {
        md_hpack_put(block, response->headers[i].name, response->headers[i].value);
    }
    if (coding) {
        md_hpack_put(block, MD_STR("content-encoding"), md_str_of(coding));
    }
    if (content_length >= 0 && response->status != 204) {
        md_hpack_put_number(block, MD_STR("content-length"), (uint64_t)content_length);
    }
    md_call_put_block(call, ends);
}

/* --- bodies -------------------- */

/* Keeps the pieces of what was sent together, and a copy of their bytes if that was asked for,
 * until the last has left. */
struct keeper {
    struct md_call *call;
    void (*sent)(void *arg);
    void *arg;
    size_t left;                   /* pieces that have not left */
    char head[MD_CALL_HEAD_BYTES]; /* copy of a first part that is as small */
    struct md_http2_piece pieces[];
};

static bool is_drained(const struct md_call *call)
{
    return call->streaming && !call->answered && call->drained && !call->stream.queued_bytes &&
           (!call->stream.was_reset || call->stream.send_ended); /* the latter: to a HEAD */
}

/* Never from inside a call of the handler's, which would call itself without end. */
static void drained_soon(struct md_call *call)
{
    if (is_drained(call)) {
        md_call_work_soon(call);
    }
}

void md_call_drained(struct md_call *call)
{
    const bool was_pinned = md_call_pin(call);

    if (is_drained(call)) {
        call->drained(&call->x);
    }
    md_call_unpin(call, was_pinned);
}

static void piece_sent(struct md_http2_piece *piece)
{
    struct keeper *keeper = piece->arg;
    struct md_call *call = keeper->call;

    if (--keeper->left) {
        return;
    }
    if (keeper->sent) {
        const bool was_pinned = md_call_pin(call); /* whoever told us looks whether it is over */
        keeper->sent(keeper->arg);
        call->pinned = was_pinned;
    }
    md_free(keeper);
    drained_soon(call);
}

static void queue(struct md_call *call, struct keeper *keeper)
{
    const size_t count = keeper->left;

    for (size_t i = 0; i < count; i++) { /* the last one may free the keeper */
        keeper->pieces[i].sent = piece_sent;
        keeper->pieces[i].arg = keeper;
        md_http2_send(&call->session->h2, &call->stream, &keeper->pieces[i]);
    }
}

static struct keeper *keep_copy(const struct iovec *parts, size_t part_count, size_t total)
{
    struct keeper *keeper = md_alloc(sizeof *keeper + sizeof(struct md_http2_piece) + total);

    if (!keeper) {
        return NULL;
    }
    char *at = (char *)&keeper->pieces[1];
    keeper->pieces[0] = (struct md_http2_piece){.data = at, .len = total};
    keeper->left = 1;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len) {
            memcpy(at, parts[i].iov_base, parts[i].iov_len);
            at += parts[i].iov_len;
        }
    }
    return keeper;
}

static struct keeper *keep_parts(const struct iovec *parts, size_t part_count)
{
    struct keeper *keeper = md_alloc(sizeof *keeper + part_count * sizeof(struct md_http2_piece));

    if (!keeper) {
        return NULL;
    }
    for (size_t i = 0; i < part_count; i++) {
        keeper->pieces[i] =
            (struct md_http2_piece){.data = parts[i].iov_base, .len = parts[i].iov_len};
    }
    if (parts[0].iov_len <= sizeof keeper->head) {
        memcpy(keeper->head, parts[0].iov_base, parts[0].iov_len);
        keeper->pieces[0].data = keeper->head;
    }
    keeper->left = part_count;
    return keeper;
}

void md_call_lose(struct md_call *call)
{
    md_http2_reset(&call->session->h2, &call->stream, MD_HTTP2_INTERNAL_ERROR);
    md_http2_session_flush_soon(call->session);
}

bool md_call_send(struct md_call *call, const struct iovec *parts, size_t part_count, bool copy,
                  void (*sent)(void *arg), void *arg)
{
    struct md_http2_session *session = call->session;
    const size_t total = md_http_parts_bytes(parts, part_count);
    struct keeper *keeper = NULL;
    const bool is_over = call->stream.was_reset || call->stream.send_ended;

    if (is_over ||
        md_http2_try_send(&session->h2, &call->stream, parts, part_count, total, false)) {
        call->sent_bytes += is_over ? 0 : total;
        if (sent) {
            sent(arg);
        }
        return !is_over;
    }
    keeper = copy || total <= COPY_MAX ? keep_copy(parts, part_count, total)
                                       : keep_parts(parts, part_count);
    if (!keeper) {
        if (sent) {
            sent(arg);
        }
        md_call_lose(call);
        return false;
    }
    keeper->call = call;
    keeper->sent = sent;
    keeper->arg = arg;
    call->sent_bytes += total;
    queue(call, keeper);
    md_call_watch_reader(call);
    return true;
}

/* --- answers -------------------- */

static bool is_head(const struct md_call *call)
{
    return call->x.head.method == MD_HTTP_HEAD;
}

/* The answer is complete, as far as its handler is concerned. */
static void handler_is_done(struct md_call *call)
{
    call->handler_has_it = false;
    md_http2_session_flush_soon(call->session);
    md_call_settle(call);
}

static void reply(struct md_call *call, const struct iovec *parts, size_t part_count,
                  const char *coding)
{
    struct md_http2 *h2 = &call->session->h2;
    const size_t total = md_http_parts_bytes(parts, part_count);
    const bool ends = is_head(call) || total == 0;

    call->state = MD_CALL_REPLYING;
    put_head(call, (int64_t)total, coding, ends);
    if (ends) {
        return;
    }
    if (md_http2_try_send(h2, &call->stream, parts, part_count, total, true)) {
        call->sent_bytes += total;
    } else if (md_call_send(call, parts, part_count, call->x.holds > 0, NULL, NULL)) {
        md_http2_finish(h2, &call->stream, MD_STR(""));
    }
}

static void note(struct md_call *call, const struct md_http_response *response)
{
    call->response = *response;
    call->status = response->status;
    call->deadline_ns = 0;
}

/* Whether the answer that was noted may be compressed for this client; then it is to be. */
static bool begin_pack(struct md_call *call)
{
    const struct md_str accept = call->request.accept_encoding;
    enum md_coding coding;
    struct md_error err;

    if (!call->response.may_compress || !accept.len || is_head(call) || call->x.holds ||
        !md_coding_choose(accept, &coding) ||
        !md_pack_begin(&call->pack, coding, md_call_pool(call), &err)) {
        return false;
    }
    call->coding = md_coding_name(coding);
    return true;
}

static void respond(struct md_exchange *x, const struct md_http_response *response)
{
    struct md_call *call = md_call_of(x);

    if (!call->stream.was_reset && !call->answered) {
        call->answered = true;
        note(call, response);
        if (md_http_parts_bytes(response->parts, response->part_count) >
                MD_SESSION_COMPRESS_FROM_BYTES &&
            begin_pack(call)) {
            call->state = MD_CALL_PACKING;
            md_call_work_soon(call);
        } else {
            reply(call, response->parts, response->part_count, NULL);
        }
    }
    handler_is_done(call);
}

static void packed(struct md_call *call)
{
    const struct md_chain *chain = &call->pack.chain;
    struct iovec *parts = md_arena_alloc(&call->x.arena, chain->part_count * sizeof *parts);

    if (parts) {
        md_chain_parts(chain, parts);
        reply(call, parts, chain->part_count, call->coding);
    } else {
        reply(call, call->response.parts, call->response.part_count, NULL);
    }
}

/* It goes as it is; of a message nothing is known that could be sent instead. */
static void not_packed(struct md_call *call)
{
    if (call->grpc_packs) {
        md_grpc_packed(call, false);
    } else if (!call->stream.was_reset) {
        reply(call, call->response.parts, call->response.part_count, NULL);
    }
}

static void pack_step(struct md_call *call)
{
    if (call->stream.was_reset) {
        not_packed(call);
        return;
    }
    switch (md_pack_step(&call->pack, md_call_pool(call), call->response.parts,
                         call->response.part_count)) {
    case MD_PROGRESS_AGAIN:
        md_call_work_soon(call);
        return;
    case MD_PROGRESS_DONE:
        if (call->grpc_packs) {
            md_grpc_packed(call, true);
        } else {
            packed(call);
        }
        break;
    default:
        not_packed(call);
    }
}

void md_call_pack_step(struct md_call *call)
{
    const bool was_pinned = md_call_pin(call);

    pack_step(call);
    md_http2_session_flush_soon(call->session);
    md_call_unpin(call, was_pinned);
}

/* --- piece by piece -------------------- */

static void stream_begin(struct md_exchange *x, const struct md_http_response *response,
                         void (*drained)(struct md_exchange *x))
{
    struct md_call *call = md_call_of(x);

    call->streaming = call->handler_has_it = true;
    call->drained = drained;
    if (call->stream.was_reset) {
        return;
    }
    note(call, response);
    (void)begin_pack(call);
    call->state = MD_CALL_REPLYING;
    put_head(call, -1, call->pack.deflate ? call->coding : NULL, is_head(call));
    md_http2_session_flush_soon(call->session);
    drained_soon(call);
}

/* A part of the body; compressed it goes out at once, too, so that its reader waits for nothing. */
static bool append(struct md_call *call, struct md_str bytes, bool last)
{
    struct md_bytes deflated = {.max = MD_SESSION_STREAM_MAX_BYTES};
    bool ok = true;

    if (call->pack.deflate) {
        ok = md_deflate_append(call->pack.deflate, bytes, last, &deflated);
        bytes = md_bytes_view(&deflated);
    }
    const struct iovec part = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    ok = ok && call->stream.queued_bytes + bytes.len <= MD_SESSION_STREAM_MAX_BYTES &&
         (!bytes.len || md_call_send(call, &part, 1, true, NULL, NULL));
    md_bytes_deinit(&deflated);
    return ok;
}

static bool stream_write(struct md_exchange *x, struct md_str bytes)
{
    struct md_call *call = md_call_of(x);

    if (call->stream.was_reset || is_head(call)) {
        return false;
    }
    if (!append(call, bytes, false)) {
        md_call_lose(call);
        return false;
    }
    md_http2_session_flush_soon(call->session);
    drained_soon(call);
    return !call->stream.was_reset;
}

static void stream_end(struct md_exchange *x)
{
    struct md_call *call = md_call_of(x);

    call->answered = true;
    if (!call->stream.was_reset && !call->stream.send_ended) {
        if (!call->pack.deflate || append(call, MD_STR(""), true)) {
            md_http2_finish(&call->session->h2, &call->stream, MD_STR(""));
        } else {
            md_call_lose(call);
        }
    }
    handler_is_done(call);
}

static void stream_abort(struct md_exchange *x)
{
    struct md_call *call = md_call_of(x);

    if (!call->stream.was_reset) {
        md_call_lose(call);
    }
    handler_is_done(call);
}

static void released(struct md_exchange *x)
{
    md_call_settle(md_call_of(x));
}

const struct md_exchange_calls md_call_calls = {.respond = respond,
                                                .begin = stream_begin,
                                                .write = stream_write,
                                                .end = stream_end,
                                                .abort = stream_abort,
                                                .released = released};

/* --- refusals -------------------- */

static const unsigned refusal_status[] = {
    [MD_REFUSAL_MALFORMED] = 400, [MD_REFUSAL_HEADER_SIZE] = 431, [MD_REFUSAL_BODY_SIZE] = 413,
    [MD_REFUSAL_TIMEOUT] = 408,   [MD_REFUSAL_MEMORY] = 503,      [MD_REFUSAL_ENCODING] = 501,
    [MD_REFUSAL_DEADLINE] = 504,
};

static void refuse_plain(struct md_call *call, unsigned cause, const struct md_error *err)
{
    const struct md_http_response response =
        md_session_refusal(&call->x.arena, refusal_status[cause], cause, err->text);

    call->answered = true;
    note(call, &response);
    reply(call, response.parts, response.part_count, NULL);
}

void md_call_refuse_for(struct md_call *call, unsigned cause, enum md_reason reason,
                        const char *sentence)
{
    struct md_error err;

    (void)md_error_set(&err, reason, "%s", sentence);
    md_call_refuse(call, cause, &err);
}

void md_call_refuse(struct md_call *call, unsigned cause, const struct md_error *err)
{
    const bool was_pinned = md_call_pin(call);

    md_counter_add(&call->session->counters->refused[cause], 1);
    call->discards = true;
    if (call->stream.was_reset || call->answered) {
        /* it has its answer */
    } else if (call->x.is_grpc) {
        md_grpc_put_end(call, err);
    } else {
        refuse_plain(call, cause, err);
    }
    md_http2_session_flush_soon(call->session);
    md_call_cancel(call); /* a handler that has part of it */
    md_call_unpin(call, was_pinned);
}
