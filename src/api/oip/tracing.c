/*
 * Spans of inferences, from the times that their requests keep.
 */
#include "api/oip/tracing.h"

#include "api/oip/trace_events.h"
#include "base/clock.h"
#include "trace/span.h"
#include "trace/tracer.h"

#include <stdio.h>

enum { PHASES = MD_TRACE_CHILDREN_MAX, ATTRIBUTES_MAX = 12, SPANS_BYTES = 1024 };
enum { DECODE, QUEUE, COMPUTE, ENCODE };

static const char *const phase_names[PHASES] = {"decode", "queue", "compute", "encode"};

struct md_oip_trace {
    struct md_trace ids;
    bool is_traced, wants_timing;
    uint64_t begin_ns;
    char tracestate[MD_TRACESTATE_MAX];
    size_t tracestate_len;
};

/* --- begin -------------------- */

static bool asks_for_timing(const struct md_exchange *x)
{
    return md_str_eq_nocase(md_exchange_header(x, MD_OIP_TIMING_REQUEST), MD_STR("true"));
}

static void read_tracestate(const struct md_exchange *x, struct md_oip_trace *trace)
{
    for (size_t i = 0; i < x->head.header_count; i++) {
        if (md_str_eq_nocase(x->head.headers[i].name, MD_STR("tracestate"))) {
            md_tracestate_append(x->head.headers[i].value, trace->tracestate,
                                 &trace->tracestate_len);
        }
    }
}

/* Several of them are none: nobody knows which one is meant. */
static struct md_str find_traceparent(const struct md_exchange *x)
{
    struct md_str found = MD_STR("");
    unsigned count = 0;

    for (size_t i = 0; i < x->head.header_count; i++) {
        if (md_str_eq_nocase(x->head.headers[i].name, MD_STR("traceparent"))) {
            found = x->head.headers[i].value;
            count++;
        }
    }
    return count == 1 ? found : MD_STR("");
}

void md_oip_trace_begin_wanted(struct md_oip_inference *inference)
{
    const struct md_exchange *x = inference->x;
    struct md_tracer *tracer = inference->oip->tracer;
    const bool wants_timing = asks_for_timing(x);
    struct md_trace ids;
    const bool is_traced =
        md_tracer_is_on(tracer) &&
        md_tracer_begin(tracer, inference->request.target->model_name, find_traceparent(x), &ids);

    if (!is_traced && !wants_timing) {
        return;
    }
    struct md_oip_trace *trace = md_arena_calloc(inference->arena, 1, sizeof *trace);
    if (!trace) {
        return; /* an inference without its trace is better than none */
    }
    trace->is_traced = is_traced;
    trace->wants_timing = wants_timing;
    trace->begin_ns = x->begin_ns;
    if (is_traced) {
        trace->ids = ids;
        if (ids.has_parent) {
            read_tracestate(x, trace);
        }
    }
    inference->trace = trace;
}

/* --- times -------------------- */

struct span_times {
    uint64_t begin_ns, end_ns; /* begin 0: not reached */
};

/* Monotonic; `now_ns` is the end of all. The last element is the whole request. */
static void read_times(const struct md_oip_inference *inference, uint64_t now_ns,
                       struct span_times out[PHASES + 1])
{
    const struct md_request *request = &inference->request;
    const uint64_t began_ns = request->begin_ns ? request->begin_ns : inference->trace->begin_ns;
    const uint64_t body_ns = inference->x->body_ns; /* of a stream: of its newest message */
    const bool is_its_own =
        body_ns > began_ns && (!request->queued_ns || body_ns <= request->queued_ns);
    const uint64_t begins_ns[PHASES + 1] = {
        [DECODE] = is_its_own ? body_ns : began_ns,
        [QUEUE] = request->queued_ns,
        [COMPUTE] = request->picked_ns,
        [ENCODE] = request->picked_ns ? request->finished_ns : 0,
        [PHASES] = now_ns,
    };

    for (size_t i = 0; i < PHASES; i++) {
        size_t next = i + 1;
        while (begins_ns[next] == 0) {
            next++;
        }
        out[i].begin_ns = begins_ns[i];
        out[i].end_ns = md_size_max(begins_ns[next], begins_ns[i]);
    }
    out[PHASES] =
        (struct span_times){.begin_ns = began_ns, .end_ns = md_size_max(now_ns, began_ns)};
}

/* --- headers -------------------- */

static struct md_str print_timing(const struct md_oip_inference *inference)
{
    enum { ENTRY_MAX = 48 };
    struct span_times times[PHASES + 1];
    char *text = md_arena_alloc(inference->arena, (PHASES + 1) * ENTRY_MAX);
    size_t len = 0;

    read_times(inference, md_clock_monotonic_ns(), times);
    for (size_t i = 0; text && i <= PHASES; i++) {
        if (times[i].begin_ns) {
            len += (size_t)snprintf(text + len, ENTRY_MAX, "%s%s;dur=%.3f", len ? ", " : "",
                                    i == PHASES ? "total" : phase_names[i],
                                    (double)(times[i].end_ns - times[i].begin_ns) / MD_NS_PER_MS);
        }
    }
    return md_str_make(text, text ? len : 0);
}

size_t md_oip_trace_headers(const struct md_oip_inference *inference,
                            struct md_http_header out[MD_OIP_TRACE_HEADERS])
{
    const struct md_oip_trace *trace = inference->trace;
    size_t count = 0;

    if (trace->wants_timing) {
        struct md_str text = print_timing(inference);
        if (text.len) {
            out[count++] = (struct md_http_header){MD_STR("server-timing"), text};
        }
    }
    if (trace->is_traced && !inference->oip->options->trace.is_triton) {
        char *text = md_arena_alloc(inference->arena, MD_TRACEPARENT_BYTES + 1);
        if (text) {
            md_traceparent_print(&trace->ids.context, text);
            out[count++] = (struct md_http_header){MD_STR("traceparent"),
                                                   md_str_make(text, MD_TRACEPARENT_BYTES)};
        }
    }
    return count;
}

/* --- spans -------------------- */

struct attributes {
    struct md_span_attribute items[ATTRIBUTES_MAX];
    size_t count;
};

static void add_text(struct attributes *list, const char *key, struct md_str text)
{
    if (text.len) {
        list->items[list->count++] = (struct md_span_attribute){.key = key, .text = text};
    }
}

static void add_number(struct attributes *list, const char *key, int64_t number)
{
    list->items[list->count++] = (struct md_span_attribute){.key = key, .number = number};
}

/* The conventions of OpenTelemetry for servers of HTTP and of RPCs. */
static void add_protocol(struct attributes *list, const struct md_exchange *x, unsigned http_status,
                         const struct md_error *err)
{
    struct md_str path = x->head.path, service;

    if (!x->is_grpc) {
        add_text(list, "http.request.method", x->head.method_name);
        add_text(list, "http.route",
                 x->captures[1].len ? MD_STR("/v2/models/{model}/versions/{version}/infer")
                                    : MD_STR("/v2/models/{model}/infer"));
        add_text(list, "url.path", path);
        add_number(list, "http.response.status_code", http_status);
        return;
    }
    (void)md_str_split(&path, '/', &service); /* what stands before the first slash: nothing */
    (void)md_str_split(&path, '/', &service);
    add_text(list, "rpc.system", MD_STR("grpc"));
    add_text(list, "rpc.service", service);
    add_text(list, "rpc.method", path);
    add_number(list, "rpc.grpc.status_code", err ? err->code : MD_CODE_OK);
}

/* Whose fault it is: errors of clients are none of the span's. */
static bool is_servers_fault(const struct md_exchange *x, unsigned http_status,
                             const struct md_error *err)
{
    static const enum md_code codes[] = {MD_CODE_UNKNOWN,       MD_CODE_DEADLINE_EXCEEDED,
                                         MD_CODE_UNIMPLEMENTED, MD_CODE_INTERNAL,
                                         MD_CODE_UNAVAILABLE,   MD_CODE_DATA_LOSS};

    if (!err || !x->is_grpc) {
        return err && http_status >= 500;
    }
    for (size_t i = 0; i < MD_COUNT_OF(codes); i++) {
        if (err->code == codes[i]) {
            return true;
        }
    }
    return false;
}

static void append_request(const struct md_oip_inference *inference, const struct span_times *times,
                           unsigned http_status, const struct md_error *err, struct md_bytes *out)
{
    const struct md_oip_trace *trace = inference->trace;
    const struct md_request *request = &inference->request;
    struct attributes list = {.count = 0};

    add_text(&list, "triton.model_name", request->target->model_name);
    add_number(&list, "triton.model_version", request->target->version);
    add_text(&list, "triton.request_id", request->id);
    add_number(&list, "modeld.batch_size", request->rows);
    add_protocol(&list, inference->x, http_status, err);
    if (err) {
        add_text(&list, "error.type", md_str_of(md_reason_name(err->reason)));
    }
    const struct md_span span = {
        .context = trace->ids.context,
        .parent_id = trace->ids.has_parent ? trace->ids.parent_id : NULL,
        .has_remote_parent = trace->ids.has_parent,
        .tracestate = md_str_make(trace->tracestate, trace->tracestate_len),
        .name = "InferRequest",
        .kind = MD_SPAN_SERVER,
        .begin_ns = times->begin_ns,
        .end_ns = times->end_ns,
        .attributes = list.items,
        .attribute_count = list.count,
        .error = is_servers_fault(inference->x, http_status, err) ? err->text : NULL,
    };
    md_span_append(&span, out);
}

static void append_phase(const struct md_oip_inference *inference, size_t phase,
                         const struct span_times *times, struct md_bytes *out)
{
    const struct md_trace *ids = &inference->trace->ids;
    struct attributes list = {.count = 0};

    if (phase == COMPUTE) {
        add_number(&list, "modeld.executed_batch_size", inference->request.batch_rows);
    }
    struct md_span span = {
        .context = ids->context,
        .parent_id = ids->context.span_id,
        .tracestate = md_str_make(inference->trace->tracestate, inference->trace->tracestate_len),
        .name = phase_names[phase],
        .kind = MD_SPAN_INTERNAL,
        .begin_ns = times->begin_ns,
        .end_ns = times->end_ns,
        .attributes = list.items,
        .attribute_count = list.count,
    };
    memcpy(span.context.span_id, ids->children[phase], MD_SPAN_ID_BYTES);
    md_span_append(&span, out);
}

/* Their number. */
static size_t append_spans(const struct md_oip_inference *inference, uint64_t now_ns,
                           unsigned http_status, const struct md_error *err, struct md_bytes *out)
{
    const uint64_t epoch_ns = md_clock_realtime_ns() - now_ns;
    struct span_times times[PHASES + 1];
    size_t count = 1;

    read_times(inference, now_ns, times);
    for (size_t i = 0; i <= PHASES; i++) {
        times[i].end_ns += epoch_ns;
        times[i].begin_ns += times[i].begin_ns ? epoch_ns : 0;
    }
    append_request(inference, &times[PHASES], http_status, err, out);
    for (size_t i = 0; i < PHASES; i++) {
        if (times[i].begin_ns) {
            append_phase(inference, i, &times[i], out);
            count++;
        }
    }
    return count;
}

void md_oip_trace_finish(struct md_oip_inference *inference, unsigned http_status,
                         const struct md_error *err)
{
    const struct md_oip_trace *trace = inference->trace;
    const uint64_t now_ns = md_clock_monotonic_ns();
    struct md_bytes out = {0};
    size_t count = 1;

    if (trace->is_traced && md_bytes_reserve(&out, SPANS_BYTES)) {
        if (inference->oip->options->trace.is_triton) {
            md_oip_trace_events_append(inference, trace->ids.number, now_ns, &out);
        } else {
            count = append_spans(inference, now_ns, http_status, err, &out);
        }
        if (!out.failed) {
            md_tracer_submit(inference->oip->tracer, md_bytes_view(&out), count);
        }
    }
    md_bytes_deinit(&out);
    inference->trace = NULL;
}
