/*
 * The inferences of a stream: their life, their order, and what a slow reader leaves unsent.
 */
#include "api/oip/grpc_stream.h"

#include "api/oip/grpc.h"
#include "api/oip/tracing.h"

enum {
    UNSENT_BYTES_MAX = 256 * 1024, /* beyond which nothing more is asked for */
    LOOK_AGAIN_NS = 2 * 1000 * 1000,
};

/* --- lists -------------------- */

void md_oip_stream_append(struct md_oip_answer_list *list, struct md_response *response)
{
    response->next = NULL;
    if (list->last) {
        list->last->next = response;
    } else {
        list->first = response;
    }
    list->last = response;
}

struct md_response *md_oip_stream_take_first(struct md_oip_answer_list *list)
{
    struct md_response *response = list->first;

    list->first = response->next;
    if (!list->first) {
        list->last = NULL;
    }
    return response;
}

void md_oip_stream_append_in_order(struct md_oip_grpc_stream *stream,
                                   struct md_oip_stream_part *part)
{
    part->is_ordered = true;
    if (stream->last_in_order) {
        stream->last_in_order->next_in_order = part;
    } else {
        stream->first_in_order = part;
    }
    stream->last_in_order = part;
}

void md_oip_stream_remove_first_in_order(struct md_oip_grpc_stream *stream)
{
    stream->first_in_order = stream->first_in_order->next_in_order;
    if (!stream->first_in_order) {
        stream->last_in_order = NULL;
    }
}

/* --- life of a part -------------------- */

struct md_oip_stream_part *md_oip_stream_part_create(struct md_oip_grpc_stream *stream)
{
    struct md_exchange *x = stream->x;
    struct md_pool *pool = md_loop_pool(x->loop);
    struct md_arena arena;

    if (!md_pool_count(pool, MD_LOOP_ARENA_BYTES)) {
        return NULL;
    }
    md_arena_init(&arena, MD_LOOP_ARENA_BYTES);
    md_arena_cache_lend(md_loop_arenas(x->loop), &arena);
    struct md_oip_stream_part *part = md_arena_alloc(&arena, sizeof *part);
    if (!part) {
        md_arena_deinit(&arena);
        md_pool_uncount(pool, MD_LOOP_ARENA_BYTES);
        return NULL;
    }
    memset(part, 0, offsetof(struct md_oip_stream_part, infer));
    part->arena = arena;
    part->block = x->body_block;
    if (part->block) {
        md_block_ref(part->block);
    }
    md_oip_grpc_infer_init(&part->infer, x, &part->arena, x->body);
    part->infer.stream = stream;
    part->next = stream->parts;
    if (part->next) {
        part->next->previous = part;
    }
    stream->parts = part;
    stream->alive++;
    stream->running++;
    return part;
}

static void maybe_resume(struct md_oip_grpc_stream *stream);

void md_oip_stream_part_release(struct md_oip_stream_part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;
    struct md_loop *loop = part->infer.base.loop;

    if (!part->is_over || part->held) {
        return;
    }
    if (part->next) {
        part->next->previous = part->previous;
    }
    if (part->previous) {
        part->previous->next = part->next;
    } else {
        stream->parts = part->next;
    }
    stream->alive--;
    struct md_block *block = part->block;
    struct md_arena arena = part->arena; /* it lives in itself */
    md_arena_deinit(&part->late_arena);
    md_arena_reset(&arena);
    md_arena_cache_take_back(md_loop_arenas(loop), &arena);
    md_pool_uncount(md_loop_pool(loop), MD_LOOP_ARENA_BYTES);
    md_block_unref(block);
    maybe_resume(stream);
}

bool md_oip_stream_is_slow(const struct md_oip_grpc_stream *stream)
{
    return !stream->is_closing && !stream->has_ended &&
           md_grpc_unsent_bytes(stream->x) > UNSENT_BYTES_MAX;
}

bool md_oip_stream_maybe_end(struct md_oip_grpc_stream *stream)
{
    if (stream->running || stream->has_ended || !(stream->is_closing || stream->is_half_closed)) {
        return false;
    }
    stream->has_ended = true;
    md_oip_stream_release_stalled(stream);
    if (stream->has_error) {
        md_oip_grpc_fail(stream->x, &stream->error);
    } else {
        md_grpc_end(stream->x, NULL);
    }
    return true;
}

bool md_oip_stream_part_over(struct md_oip_stream_part *part)
{
    struct md_oip_grpc_stream *stream = part->infer.stream;

    part->is_over = true;
    if (!part->is_late) { /* else with its execution */
        md_oip_trace_end(&part->infer.base, 0,
                         part->has_failed     ? &part->infer.base.request.error
                         : stream->is_closing ? &stream->error
                                              : NULL);
    }
    stream->running--;
    md_oip_stream_part_release(part);
    return !md_oip_stream_maybe_end(stream);
}

/* --- slow readers -------------------- */

void md_oip_stream_response_done(struct md_response *response)
{
    struct md_oip_stream_part *part = md_oip_stream_part_of(response->request->dialect);

    md_response_done(response);
    part->held--;
    md_oip_stream_part_release(part);
}

void md_oip_stream_look_later(struct md_oip_grpc_stream *stream)
{
    struct md_loop *loop = stream->x->loop;

    if (md_oip_stream_is_slow(stream)) {
        md_loop_timer_set(loop, &stream->timer, md_loop_now_ns(loop) + LOOK_AGAIN_NS);
    }
}

void md_oip_stream_release_stalled(struct md_oip_grpc_stream *stream)
{
    while (stream->stalled.first && !md_oip_stream_is_slow(stream)) {
        md_oip_stream_response_done(md_oip_stream_take_first(&stream->stalled));
    }
}

static void maybe_resume(struct md_oip_grpc_stream *stream)
{
    if (stream->is_paused && !stream->is_closing && !stream->has_ended &&
        stream->alive < MD_OIP_STREAM_ALIVE_MAX && !md_oip_stream_is_slow(stream)) {
        stream->is_paused = false;
        md_grpc_resume(stream->x);
    }
}

void md_oip_stream_look(struct md_loop_timer *timer)
{
    struct md_oip_grpc_stream *stream = MD_CONTAINER_OF(timer, struct md_oip_grpc_stream, timer);

    md_oip_stream_look_later(stream);
    md_oip_stream_release_stalled(stream);
    maybe_resume(stream);
}
