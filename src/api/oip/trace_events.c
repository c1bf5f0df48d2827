/*
 * Times of an inference as JSON objects.
 */
#include "api/oip/trace_events.h"

#include "codec/json.h"

/* In the field's order: of the request, then of the protocol that it came over. The end of sending
 * is when the session has the answer. */
enum { REQUEST_EVENTS = 7, EVENTS = REQUEST_EVENTS + 4 };

static void append_event(struct md_bytes *out, uint64_t number, const char *prefix,
                         const char *name, uint64_t ns)
{
    md_bytes_append_str(out, MD_STR(",{\"id\":"));
    md_bytes_append_u64(out, number);
    md_bytes_append_str(out, MD_STR(",\"timestamps\":[{\"name\":\""));
    md_bytes_append_c(out, prefix);
    md_bytes_append_c(out, name);
    md_bytes_append_str(out, MD_STR("\",\"ns\":"));
    md_bytes_append_u64(out, ns);
    md_bytes_append_str(out, MD_STR("}]}"));
}

void md_oip_trace_events_append(const struct md_oip_inference *inference, uint64_t number,
                                uint64_t now_ns, struct md_bytes *out)
{
    const struct md_request *request = &inference->request;
    const struct md_exchange *x = inference->x;
    const uint64_t begin_ns = request->begin_ns ? request->begin_ns : x->begin_ns;
    const bool has_run = request->picked_ns && request->finished_ns;
    const uint64_t respond_ns = request->respond_ns ? request->respond_ns : request->finished_ns;
    const struct {
        const char *name;
        uint64_t ns; /* 0: not reached */
    } events[EVENTS] = {
        {"REQUEST_START", md_size_max(begin_ns, x->body_ns)},
        {"QUEUE_START", request->queued_ns},
        {"COMPUTE_START", request->picked_ns},
        {"COMPUTE_INPUT_END", request->infer_ns},
        {"COMPUTE_OUTPUT_START", has_run ? respond_ns : 0},
        {"COMPUTE_END", has_run ? request->finished_ns : 0},
        {"REQUEST_END", has_run ? request->finished_ns : now_ns},
        {x->is_grpc ? "WAITREAD_START" : "RECV_START", begin_ns},
        {x->is_grpc ? "WAITREAD_END" : "RECV_END", md_size_max(begin_ns, x->body_ns)},
        {"SEND_START", now_ns},
        {"SEND_END", now_ns},
    };

    md_bytes_append_str(out, MD_STR(",{\"id\":"));
    md_bytes_append_u64(out, number);
    md_bytes_append_str(out, MD_STR(",\"model_name\":"));
    md_json_append_string(out, request->target->model_name);
    md_bytes_append_str(out, MD_STR(",\"model_version\":"));
    md_bytes_append_i64(out, request->target->version);
    if (request->id.len) {
        md_bytes_append_str(out, MD_STR(",\"request_id\":"));
        md_json_append_string(out, request->id);
    }
    md_bytes_append_char(out, '}');
    for (size_t i = 0; i < EVENTS; i++) {
        if (events[i].ns) {
            const char *prefix = i < REQUEST_EVENTS ? "" : x->is_grpc ? "GRPC_" : "HTTP_";
            append_event(out, number, prefix, events[i].name, events[i].ns);
        }
    }
    md_bytes_append_char(out, '\n');
}
