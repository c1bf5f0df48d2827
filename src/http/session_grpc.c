/*
 * gRPC on HTTP/2: messages in and out.
 *
 * A message of a unary call lies in the call's arena if it is small, else in a block whose END is
 * aligned to 64 bytes: raw tensors stand last in their message, so one whose size is a multiple of
 * 64 is aligned where it lies.
 */
#include "base/alloc.h"
#include "codec/base64.h"
#include "http/session_http2_internal.h"

enum {
    ALIGNMENT = 64,
    SMALL_BYTES = 2048,    /* a message in the arena */
    PARTS_MAX = 16,        /* of an answer, beside the list in the arena */
    PACK_FROM_BYTES = 256, /* messages below are not compressed */
};

/* --- receiving -------------------- */

static void refuse_malformed(struct md_call *call, const char *text)
{
    md_call_refuse_for(call, MD_REFUSAL_MALFORMED, MD_REASON_INTERNAL, text);
}

bool md_grpc_begin(struct md_call *call)
{
    static const struct md_http_header accepted = {MD_STR("grpc-accept-encoding"),
                                                   MD_STR("identity,gzip,deflate")};
    const struct md_http2_request *request = &call->request;
    struct md_exchange *x = &call->x;
    enum md_coding coding;
    uint64_t timeout_ns;

    call->session->serves_grpc = true;
    if (request->grpc_timeout.len) {
        if (!md_grpc_parse_timeout(request->grpc_timeout, &timeout_ns)) {
            refuse_malformed(call, "grpc-timeout is not digits and a unit");
            return false;
        }
        x->deadline_ns = x->begin_ns + timeout_ns;
    }
    if (request->grpc_encoding.len && !md_str_eq(request->grpc_encoding, MD_STR("identity")) &&
        !md_coding_from_name(request->grpc_encoding, &coding)) {
        md_grpc_add_trailer(x, accepted.name, accepted.value);
        md_call_refuse_for(call, MD_REFUSAL_ENCODING, MD_REASON_UNSUPPORTED,
                           "this grpc-encoding is not known; send identity, gzip or deflate");
        return false;
    }
    return true;
}

static bool takes(const struct md_call *call)
{
    return call->state == MD_CALL_RECEIVING && !call->is_paused && !call->answered &&
           !call->discards && !call->stream.was_reset;
}

static bool is_unary(const struct md_call *call)
{
    return !call->x.handler->on_message;
}

/* Memory for a message whose length is known. */
static bool begin_memory(struct md_call *call, size_t len)
{
    const size_t lead = (ALIGNMENT - len % ALIGNMENT) % ALIGNMENT;
    bool over_budget;

    if (len <= SMALL_BYTES && is_unary(call) && !call->is_packed) {
        char *data = md_arena_alloc(&call->x.arena, len + ALIGNMENT);
        if (!data) {
            return false;
        }
        const uintptr_t end = md_size_align((uintptr_t)data + len, ALIGNMENT);
        call->data = (char *)(end - len);
        return true;
    }
    call->block = md_pool_alloc_lazy(md_call_pool(call), len + lead, 1, &over_budget);
    if (!call->block || !md_block_charge(call->block, lead + 1)) {
        md_call_release_body(call);
        return false;
    }
    call->data = call->block->data + lead;
    return true;
}

static void begin_message(struct md_call *call)
{
    const size_t len = md_http2_get_u32(call->prefix + 1);
    const unsigned flag = (unsigned char)call->prefix[0];

    call->is_packed = flag == 1;
    if (flag > 1) {
        refuse_malformed(call, "a message begins with an unknown flag");
    } else if (call->is_packed && (!call->request.grpc_encoding.len ||
                                   md_str_eq(call->request.grpc_encoding, MD_STR("identity")))) {
        refuse_malformed(call, "a message is compressed, but grpc-encoding does not say how");
    } else if (is_unary(call) && call->message_count) {
        refuse_malformed(call, "a unary call has more than one message");
    } else if (len > call->x.body_max) {
        md_call_refuse_for(call, MD_REFUSAL_BODY_SIZE, MD_REASON_TOO_LARGE,
                           "the message is larger than the server accepts");
    } else if (!begin_memory(call, len)) {
        (void)md_call_wait_for_memory(call, len);
    } else {
        md_call_end_wait(call);
        call->prefix_bytes = 0;
        call->message_bytes = call->capacity = len;
        call->bytes = 0;
        call->in_message = true;
        md_http2_expect(&call->session->h2, &call->stream, (uint64_t)len + MD_GRPC_PREFIX_BYTES);
    }
}

void md_grpc_deliver(struct md_call *call)
{
    struct md_exchange *x = &call->x;
    enum md_coding coding;
    struct md_error err;

    call->in_message = false;
    if (call->is_packed) {
        (void)md_coding_from_name(call->request.grpc_encoding, &coding);
        if (!md_unpack_begin(&call->unpack, coding, md_call_pool(call), &err)) {
            md_call_refuse(call, MD_REFUSAL_MEMORY, &err);
            return;
        }
        call->state = MD_CALL_UNPACKING;
        md_call_work_soon(call);
        return;
    }
    call->message_count++;
    x->body = md_str_make(call->data, call->bytes);
    x->body_block = call->block;
    if (is_unary(call)) {
        return; /* asked for when the client has ended the call */
    }
    x->body_ns = md_loop_since_ns(x->loop); /* its time is counted from here */
    call->deadline_ns = 0;                  /* the next one may be long in coming */
    call->handler_has_it = true;
    const bool was_pinned = md_call_pin(call);
    x->handler->on_message(x);
    call->pinned = was_pinned;
    x->body = MD_STR("");
    x->body_block = NULL;
    md_call_release_body(call);
}

static size_t take_prefix(struct md_call *call, struct md_str bytes)
{
    const size_t n = md_size_min(bytes.len, MD_GRPC_PREFIX_BYTES - call->prefix_bytes);

    memcpy(call->prefix + call->prefix_bytes, bytes.ptr, n);
    call->prefix_bytes += n;
    return n;
}

static size_t take_message(struct md_call *call, struct md_str bytes)
{
    const size_t n = md_size_min(bytes.len, call->message_bytes - call->bytes);

    if (call->block &&
        !md_block_charge(call->block, (size_t)(call->data - call->block->data) + call->bytes + n)) {
        (void)md_call_wait_for_memory(call, call->message_bytes);
        return 0;
    }
    md_call_end_wait(call);
    if (n) {
        memcpy(call->data + call->bytes, bytes.ptr, n);
    }
    call->bytes += n;
    return n;
}

size_t md_grpc_take(struct md_call *call, struct md_str bytes)
{
    size_t at = 0;
    bool waits = false;

    while (!waits && takes(call)) {
        struct md_str rest = md_str_make(bytes.ptr + at, bytes.len - at);
        if (call->in_message) {
            at += take_message(call, rest);
        } else if (call->prefix_bytes < MD_GRPC_PREFIX_BYTES && rest.len) {
            at += take_prefix(call, rest);
        }
        if (!call->in_message && call->prefix_bytes == MD_GRPC_PREFIX_BYTES) {
            begin_message(call);
        }
        if (call->in_message && call->bytes == call->message_bytes && takes(call)) {
            md_grpc_deliver(call);
        }
        waits = call->is_starved || at == bytes.len;
    }
    return at;
}

void md_grpc_ended(struct md_call *call)
{
    if (call->in_message || call->prefix_bytes) {
        refuse_malformed(call, "the call ends inside a message");
        return;
    }
    if (is_unary(call) && !call->message_count) {
        refuse_malformed(call, "the call has no message");
        return;
    }
    md_call_request(call);
}

void md_grpc_pause(struct md_exchange *x)
{
    md_call_of(x)->is_paused = true;
}

void md_grpc_resume(struct md_exchange *x)
{
    struct md_call *call = md_call_of(x);

    if (call->is_paused) {
        call->is_paused = false;
        if (!call->stream.was_reset) {
            md_call_work_soon(call);
        }
    }
}

/* --- sending -------------------- */

/* ":status" 200, "content-type" "application/grpc" */
static const char head_block[] = "\x88\x0f\x10\x10"
                                 "application/grpc";

static bool choose_coding(const struct md_call *call, enum md_coding *coding)
{
    struct md_str accepted = call->request.grpc_accept_encoding, name;

    while (md_str_split(&accepted, ',', &name)) {
        if (md_coding_from_name(md_str_trim(name), coding)) {
            return true;
        }
    }
    return false;
}

/* Whether messages are compressed for this client, and how. */
static bool may_pack(const struct md_call *call, enum md_coding *coding)
{
    return call->x.may_compress && call->session->config->http2->compresses &&
           !call->stream.was_reset && choose_coding(call, coding);
}

static void put_head(struct md_call *call)
{
    enum md_coding coding;
    struct md_bytes *block;

    if (call->head_sent || call->stream.was_reset) {
        return;
    }
    call->status = 200;
    call->head_sent = true;
    if (!is_unary(call) && may_pack(call, &coding)) { /* any of its messages */
        call->coding = md_coding_name(coding);
    }
    if (!call->coding) {
        md_http2_put_head(&call->session->h2, &call->stream,
                          md_str_make(head_block, sizeof head_block - 1), false);
        return;
    }
    block = md_call_begin_block(call);
    md_bytes_append(block, head_block, sizeof head_block - 1);
    md_hpack_put(block, MD_STR("grpc-encoding"), md_str_of(call->coding));
    md_call_put_block(call, false);
}

/* How a message goes: its flag, and whether its bytes are copied in any case. */
struct framing {
    bool is_packed, copies;
};

/* Sends a message whose bytes are ready: its prefix, then the parts. */
static void send_framed(struct md_call *call, struct framing framing, const struct iovec *parts,
                        size_t part_count, void (*sent)(void *arg), void *arg)
{
    struct iovec few[PARTS_MAX], *many = NULL, *all = few;
    char prefix[MD_GRPC_PREFIX_BYTES];
    const size_t total = md_http_parts_bytes(parts, part_count);

    if (part_count >= PARTS_MAX) {
        all = many = md_alloc((part_count + 1) * sizeof *all);
    }
    if (!all || total > UINT32_MAX) {
        if (sent) {
            sent(arg);
        }
        md_call_lose(call);
    } else {
        prefix[0] = framing.is_packed;
        md_http2_put_u32(prefix + 1, (uint32_t)total);
        all[0] = (struct iovec){prefix, sizeof prefix};
        if (part_count) {
            memcpy(all + 1, parts, part_count * sizeof *all);
        }
        put_head(call);
        (void)md_call_send(call, all, part_count + 1, framing.copies, sent, arg);
    }
    md_free(many);
}

/* Compressed in slices; its end waits for it. False: it goes as it is. */
static bool pack_message(struct md_call *call, const struct iovec *parts, size_t part_count,
                         void (*sent)(void *arg), void *arg)
{
    struct iovec *copy;
    enum md_coding coding;
    struct md_error err;

    if (!is_unary(call) || md_http_parts_bytes(parts, part_count) < PACK_FROM_BYTES ||
        !may_pack(call, &coding)) {
        return false;
    }
    copy = md_arena_alloc(&call->x.arena, part_count * sizeof *copy);
    if (!copy || !md_pack_begin(&call->pack, coding, md_call_pool(call), &err)) {
        return false;
    }
    memcpy(copy, parts, part_count * sizeof *copy);
    call->response.parts = copy;
    call->response.part_count = part_count;
    call->coding = md_coding_name(coding);
    call->message_sent = sent;
    call->message_arg = arg;
    call->grpc_packs = true;
    call->state = MD_CALL_PACKING;
    md_call_work_soon(call);
    return true;
}

/* A message of a stream: at once, since others follow it. False: it goes as it is; the large ones
 * do, for they would keep the loop from its other connections. */
static bool pack_at_once(struct md_call *call, const struct iovec *parts, size_t part_count)
{
    const size_t total = md_http_parts_bytes(parts, part_count);
    struct md_bytes text = {0};
    struct md_deflate *deflate;
    enum md_coding coding;
    struct md_error err;

    if (is_unary(call) || total < PACK_FROM_BYTES || total > MD_CODING_SLICE_BYTES ||
        !may_pack(call, &coding) ||
        !md_deflate_create(coding, md_pool_budget(md_call_pool(call)), &deflate, &err)) {
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < part_count; i++) {
        ok = md_deflate_append(deflate, md_str_make(parts[i].iov_base, parts[i].iov_len),
                               i + 1 == part_count, &text);
    }
    md_deflate_destroy(deflate);
    if (ok) {
        const struct iovec part = {text.data, text.len};
        send_framed(call, (struct framing){.is_packed = true, .copies = true}, &part, 1, NULL,
                    NULL);
    }
    md_bytes_deinit(&text);
    return ok;
}

static void send_packed(struct md_call *call)
{
    const struct md_chain *chain = &call->pack.chain;
    struct iovec *parts = md_arena_alloc(&call->x.arena, chain->part_count * sizeof *parts);

    if (!parts) {
        md_call_lose(call);
        return;
    }
    md_chain_parts(chain, parts);
    send_framed(call, (struct framing){.is_packed = true}, parts, chain->part_count, NULL, NULL);
    if (call->grpc_ends && !call->stream.was_reset) {
        md_http2_finish(&call->session->h2, &call->stream, call->grpc_status);
    }
}

void md_grpc_packed(struct md_call *call, bool ok)
{
    call->grpc_packs = false;
    call->state = MD_CALL_REPLYING;
    if (call->stream.was_reset) {
        /* nobody waits for it */
    } else if (ok) {
        send_packed(call);
    } else {
        md_call_lose(call);
    }
    if (call->message_sent) {
        call->message_sent(call->message_arg);
    }
}

void md_grpc_send(struct md_exchange *x, const struct iovec *parts, size_t part_count,
                  void (*sent)(void *arg), void *arg)
{
    struct md_call *call = md_call_of(x);

    if (call->answered || call->stream.was_reset) {
        if (sent) {
            sent(arg);
        }
        return;
    }
    const bool was_pinned = md_call_pin(call); /* `sent` may end it */
    if (pack_at_once(call, parts, part_count)) {
        if (sent) {
            sent(arg);
        }
    } else if (!pack_message(call, parts, part_count, sent, arg)) {
        send_framed(call, (struct framing){0}, parts, part_count, sent, arg);
    }
    md_http2_session_flush_soon(call->session);
    md_call_unpin(call, was_pinned);
}

size_t md_grpc_unsent_bytes(const struct md_exchange *x)
{
    const struct md_call *call =
        MD_CONTAINER_OF((struct md_exchange *)(uintptr_t)x, struct md_call, x);

    return call->stream.queued_bytes + call->stream.committed_bytes;
}

void md_grpc_add_trailer(struct md_exchange *x, struct md_str name, struct md_str value)
{
    struct md_call *call = md_call_of(x);
    struct md_bytes text = {0};

    if (md_str_ends_with(name, MD_STR("-bin"))) {
        md_base64_encode(value, &text);
        if (!text.failed) {
            md_hpack_put(&call->trailers, name, md_bytes_view(&text));
        }
        md_bytes_deinit(&text);
    } else {
        md_hpack_put(&call->trailers, name, value);
    }
}

void md_grpc_put_end(struct md_call *call, const struct md_error *err)
{
    struct md_http2 *h2 = &call->session->h2;
    struct md_bytes *block;

    if (call->answered || call->stream.was_reset) {
        return;
    }
    call->answered = true;
    call->status = 200;
    call->x.grpc_status = err ? err->code : 0;
    block = md_call_begin_block(call);
    const bool trailers_only = !call->head_sent && !call->grpc_packs;
    if (trailers_only) {
        md_bytes_append(block, head_block, sizeof head_block - 1);
    }
    md_grpc_put_status(block, err);
    if (call->trailers.len && !call->trailers.failed) {
        md_bytes_append_str(block, md_bytes_view(&call->trailers));
    }
    md_counter_add(&call->session->counters->grpc_statuses[err ? err->code & 31 : 0], 1);
    if (trailers_only || (!call->stream.queued_bytes && !call->grpc_packs)) {
        md_call_put_block(call, true);
        return;
    }
    struct md_str trailers = md_arena_copy(&call->x.arena, md_bytes_view(block));
    if (block->failed || !trailers.ptr) {
        md_call_lose(call);
    } else if (call->grpc_packs) {
        call->grpc_status = trailers;
        call->grpc_ends = true;
    } else {
        md_http2_finish(h2, &call->stream, trailers);
    }
}

void md_grpc_end(struct md_exchange *x, const struct md_error *err)
{
    struct md_call *call = md_call_of(x);

    md_grpc_put_end(call, err);
    call->handler_has_it = false;
    md_http2_session_flush_soon(call->session);
    md_call_settle(call);
}

void md_grpc_out_of_time(struct md_call *call)
{
    struct md_error err;
    const bool was_pinned = md_call_pin(call);

    (void)md_error_set(&err, MD_REASON_DEADLINE, MD_SESSION_TOO_LATE);
    call->discards = true;
    md_grpc_put_end(call, &err);
    md_call_cancel(call);
    md_call_unpin(call, was_pinned);
}
