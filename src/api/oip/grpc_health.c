/*
 * gRPC's health service. Known are "" and the services (the server as a whole), each model that is
 * wanted as NAME, and its versions as NAME/VERSION. Once the server is exiting nothing serves.
 */
#include "api/oip/facts.h"
#include "api/oip/grpc.h"
#include "api/oip/grpc_calls.h"
#include "api/oip/proto_files.h"
#include "base/clock.h"
#include "codec/descriptors.h"
#include "codec/protobuf.h"

#include <stdio.h>

enum serving { UNKNOWN, SERVING, NOT_SERVING, SERVICE_UNKNOWN };

static bool is_service(struct md_str name)
{
    struct md_str file;

    return md_descriptors_find_symbol(md_proto_files, name, &file) == MD_SYMBOL_SERVICE;
}

static enum serving state_of(const struct md_oip *oip, struct md_str name)
{
    const bool is_exiting = oip->is_exiting(oip->server);
    struct md_str model = name, version = {0};
    struct md_error err;
    bool ready = false;

    if (name.len == 0 || is_service(name)) {
        return !is_exiting && oip->is_ready(oip->server) ? SERVING : NOT_SERVING;
    }
    ptrdiff_t slash = md_str_find(name, '/');
    if (slash >= 0) {
        model.len = (size_t)slash;
        version = md_str_make(name.ptr + slash + 1, name.len - model.len - 1);
    }
    if ((slash >= 0 && !version.len) || !md_oip_model_is_ready(oip, model, version, &ready, &err)) {
        return SERVICE_UNKNOWN;
    }
    return ready && !is_exiting ? SERVING : NOT_SERVING;
}

static bool read_service(struct md_str message, struct md_str *name, struct md_error *err)
{
    struct md_oip_names names;

    if (!md_oip_names_read(message, &names, err)) {
        return false;
    }
    *name = names.first;
    return true;
}

/* --- Check, List -------------------- */

enum md_progress md_oip_grpc_health_check(struct md_oip_unary *call, struct md_error *err)
{
    struct md_str name;

    if (!read_service(call->request, &name, err)) {
        return MD_PROGRESS_ERROR;
    }
    enum serving state = state_of(call->oip, name);
    if (state == SERVICE_UNKNOWN) {
        (void)md_error_set(err, MD_REASON_NOT_FOUND, "there is no service and no model '%.*s'",
                           MD_STR_ARG(name));
        return MD_PROGRESS_ERROR;
    }
    md_pb_put_varint(&call->out, 1, state);
    return MD_PROGRESS_DONE;
}

/* An entry of the map of states. */
static void put_state(struct md_oip_unary *call, struct md_str name)
{
    size_t entry = md_pb_begin(&call->out, 1);

    md_pb_put_bytes(&call->out, 1, name);
    size_t response = md_pb_begin(&call->out, 2);
    md_pb_put_varint(&call->out, 1, state_of(call->oip, name));
    md_pb_end(&call->out, response);
    md_pb_end(&call->out, entry);
}

static void put_service(void *arg, struct md_str package, struct md_str name)
{
    char full[128];
    int len = snprintf(full, sizeof full, "%.*s.%.*s", MD_STR_ARG(package), MD_STR_ARG(name));

    put_state(arg, md_str_make(full, (size_t)len));
}

static void put_model(struct md_oip_unary *call, const struct md_model *model)
{
    if (model->is_wanted) {
        put_state(call, model->name);
    }
}

enum md_progress md_oip_grpc_health_list(struct md_oip_unary *call, struct md_error *err)
{
    if (call->at == 0) {
        put_state(call, MD_STR(""));
        md_descriptors_each_service(md_proto_files, put_service, call);
    }
    return md_oip_unary_walk(call, put_model, err);
}

/* --- Watch -------------------- */

/* States change without telling, so they are looked at. */
#define LOOK_EVERY_NS MD_NS_PER_S

struct watch {
    struct md_exchange *x;
    struct md_loop_timer timer;
    struct md_str name; /* in the exchange's body */
    enum serving told;
};

static void end_watch(struct watch *w, const struct md_error *err)
{
    md_loop_timer_cancel(w->x->loop, &w->timer);
    md_loop_timer_unreserve(w->x->loop);
    w->x->dialect = NULL;
    if (err) {
        md_oip_grpc_fail(w->x, err);
    } else {
        md_grpc_end(w->x, NULL);
    }
}

/* HealthCheckResponse of each state. */
static const char messages[][2] = {
    {MD_PB_TAG(1, MD_PB_VARINT), UNKNOWN},
    {MD_PB_TAG(1, MD_PB_VARINT), SERVING},
    {MD_PB_TAG(1, MD_PB_VARINT), NOT_SERVING},
    {MD_PB_TAG(1, MD_PB_VARINT), SERVICE_UNKNOWN},
};

/* A client that does not read is told the latest state when it does. The stream of a server that
 * exits ends, so that it does not hold the server up. */
static void look(struct md_loop_timer *timer)
{
    struct watch *w = MD_CONTAINER_OF(timer, struct watch, timer);
    const struct md_oip *oip = w->x->route_data;
    const enum serving state = state_of(oip, w->name);
    struct md_error err;

    if (state != w->told && md_grpc_unsent_bytes(w->x) == 0) {
        const struct iovec part = {(void *)(uintptr_t)messages[state], sizeof messages[state]};
        md_grpc_send(w->x, &part, 1, NULL, NULL);
        w->told = state;
    }
    if (oip->is_exiting(oip->server)) {
        (void)md_error_set(&err, MD_REASON_EXITING, "Server exiting");
        end_watch(w, &err);
    } else {
        md_loop_timer_set(w->x->loop, timer, md_loop_now_ns(w->x->loop) + LOOK_EVERY_NS);
    }
}

static void on_watch_head(struct md_exchange *x)
{
    x->body_max = md_size_min(x->body_max, MD_OIP_UNARY_REQUEST_MAX);
}

static void on_watch_request(struct md_exchange *x)
{
    struct watch *w = md_arena_calloc(&x->arena, 1, sizeof *w);
    struct md_error err;
    struct md_str name;

    if (!w) {
        (void)md_error_no_memory(&err, "a call");
        md_oip_grpc_fail(x, &err);
        return;
    }
    if (!read_service(x->body, &name, &err) || !md_loop_timer_reserve(x->loop, &err)) {
        md_oip_grpc_fail(x, &err);
        return;
    }
    *w = (struct watch){.x = x, .timer.fire = look, .name = name, .told = UNKNOWN};
    x->dialect = w;
    look(&w->timer);
}

static void on_watch_cancel(struct md_exchange *x)
{
    if (x->dialect) {
        end_watch(x->dialect, NULL); /* to nobody */
    }
}

const struct md_http_handler md_oip_grpc_health_watch_handler = {
    .on_head = on_watch_head, .on_request = on_watch_request, .on_cancel = on_watch_cancel};
