/*
 * The handler of unary calls.
 */
#include "api/oip/grpc_unary.h"

#include "api/oip/grpc.h"
#include "codec/protobuf.h"
#include "codec/utf8.h"

#include <stdio.h>

struct state {
    struct md_oip_unary call;
    const struct md_oip_grpc_method *method;
    struct md_loop_task task;
    size_t counted_bytes;
};

static struct md_budget *budget_of(const struct state *s)
{
    return md_pool_budget(md_loop_pool(s->call.x->loop));
}

static void free_state(void *arg)
{
    struct state *s = arg;

    md_bytes_deinit(&s->call.out);
    md_budget_give(budget_of(s), s->counted_bytes);
}

/* Counts what the response has grown by. */
static bool count(struct state *s, struct md_error *err)
{
    const size_t more = s->call.out.capacity - s->counted_bytes;

    if (s->call.out.failed) {
        return md_error_no_memory(err, "the response");
    }
    if (more && !md_budget_take(budget_of(s), more)) {
        return md_error_over_budget(err);
    }
    s->counted_bytes += more;
    return true;
}

static void respond(struct state *s)
{
    const struct iovec part = {s->call.out.data, s->call.out.len};

    md_grpc_send(s->call.x, &part, 1, NULL, NULL);
    md_grpc_end(s->call.x, NULL);
}

static void step(struct state *s)
{
    struct md_error err;
    enum md_progress progress = s->method->answer(&s->call, &err);

    if (progress != MD_PROGRESS_ERROR && !count(s, &err)) {
        progress = MD_PROGRESS_ERROR;
    }
    if (progress == MD_PROGRESS_AGAIN) {
        md_loop_defer(s->call.x->loop, &s->task);
    } else if (progress == MD_PROGRESS_DONE) {
        respond(s);
    } else {
        md_oip_grpc_fail(s->call.x, &err);
    }
}

static void step_later(struct md_loop_task *task)
{
    struct state *s = MD_CONTAINER_OF(task, struct state, task);

    if (s->call.x->cancelled) {
        md_grpc_end(s->call.x, NULL); /* to nobody */
    } else {
        step(s);
    }
}

static void on_head(struct md_exchange *x)
{
    x->body_max = md_size_min(x->body_max, MD_OIP_UNARY_REQUEST_MAX);
}

static bool is_message(struct md_str bytes)
{
    struct md_pb_reader reader = md_pb_reader_of(bytes);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {}
    return !reader.failed;
}

static void on_request(struct md_exchange *x)
{
    const struct md_oip_grpc_method *method = x->dialect;
    struct state *s = md_arena_calloc(&x->arena, 1, sizeof *s);
    struct md_error err;

    if (!is_message(x->body)) {
        (void)md_oip_unary_malformed(&err);
        md_oip_grpc_fail(x, &err);
    } else if (method->refusal) {
        (void)md_error_set(&err, MD_REASON_UNSUPPORTED, "%s", method->refusal);
        md_oip_grpc_fail(x, &err);
    } else if (!s || !md_arena_on_reset(&x->arena, free_state, s)) {
        (void)md_error_no_memory(&err, "a call");
        md_oip_grpc_fail(x, &err);
    } else {
        s->method = method;
        s->task.run = step_later;
        s->call.x = x;
        s->call.oip = x->route_data;
        s->call.request = x->body;
        step(s);
    }
}

const struct md_http_handler md_oip_unary_handler = {.on_head = on_head, .on_request = on_request};

/* --- what the functions have in common -------------------- */

bool md_oip_unary_malformed(struct md_error *err)
{
    return md_error_set(err, MD_REASON_MALFORMED, "Unable to parse request");
}

bool md_oip_entry_read(struct md_str entry, struct md_oip_names *out, struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(entry);
    struct md_pb_field field;

    *out = (struct md_oip_names){MD_STR(""), MD_STR("")};
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            out->first = field.bytes;
        } else if (field.tag == MD_PB_TAG(2, MD_PB_BYTES)) {
            out->second = field.bytes;
        }
    }
    return (!reader.failed && md_utf8_is_valid(out->first)) || md_oip_unary_malformed(err);
}

bool md_oip_names_read(struct md_str message, struct md_oip_names *out, struct md_error *err)
{
    return md_oip_entry_read(message, out, err) &&
           (md_utf8_is_valid(out->second) || md_oip_unary_malformed(err));
}

void md_oip_put_decimal(struct md_bytes *out, uint32_t number, int64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)value);

    md_pb_put_bytes(out, number, md_str_make(text, (size_t)len));
}

enum md_progress md_oip_unary_walk(struct md_oip_unary *call,
                                   void (*append)(struct md_oip_unary *call,
                                                  const struct md_model *model),
                                   struct md_error *err)
{
    const struct md_models *models = call->oip->models;
    const size_t end = call->out.len + MD_OIP_UNARY_SLICE_BYTES;

    while (call->at < md_models_count(models)) {
        if (call->out.len > MD_OIP_UNARY_RESPONSE_MAX) {
            (void)md_error_set(err, MD_REASON_TOO_LARGE,
                               "there are too many models for one message: ask for them one by one "
                               "or over HTTP");
            return MD_PROGRESS_ERROR;
        }
        if (call->out.len > end) {
            return MD_PROGRESS_AGAIN;
        }
        append(call, md_models_at(models, call->at++));
    }
    return MD_PROGRESS_DONE;
}
