/*
 * Traces of inferences: the same for REST and gRPC.
 *
 * md_oip_inference_begin begins a trace where one is wanted: because the tracer chose the request,
 * or because the client asked for Server-Timing. All others have none, and everything here is a
 * comparison with NULL for them. A trace's memory is the inference's arena. On the home loop.
 *
 *      span                from                       to
 *      InferRequest        first byte of the request  the answer is handed to the session
 *        decode            last byte of the request   in the queue
 *        queue             in the queue               picked by an executor
 *        compute           picked                     the backend is done
 *        encode            the backend is done        the end of InferRequest
 * A span is there if its begin was reached; the last one of a failed request ends with it. Of a
 * request that is answered late all ends with its execution, which writes these times.
 */
#ifndef MD_API_OIP_TRACING_H
#define MD_API_OIP_TRACING_H

#include "api/oip/inference.h"

/* Ask for it with this header, or metadata of a call: "true". */
#define MD_OIP_TIMING_REQUEST "modeld-server-timing"

/* For md_oip_inference_begin, once the request is made ready. */
void md_oip_trace_begin_wanted(struct md_oip_inference *inference);

enum { MD_OIP_TRACE_HEADERS = 2 };

/* Of an inference that has a trace: what a successful answer says of it, as headers or as a call's
 * trailers (names in lower case; memory of the arena): `server-timing` if the client asked for it,
 * `traceparent` if the request is traced. Returns their number. */
size_t md_oip_trace_headers(const struct md_oip_inference *inference,
                            struct md_http_header out[MD_OIP_TRACE_HEADERS]);

/* Right before the answer is handed over, the last one of several: sends the spans on their way.
 * http_status: of an answer over REST; err: NULL after a success. Later calls do nothing. */
void md_oip_trace_finish(struct md_oip_inference *inference, unsigned http_status,
                         const struct md_error *err);

static inline void md_oip_trace_begin(struct md_oip_inference *inference)
{
    const struct md_http_header *header = inference->x->head.headers;
    const struct md_http_header *end = header + inference->x->head.header_count;

    while (header < end && header->name.len != sizeof MD_OIP_TIMING_REQUEST - 1) {
        header++;
    }
    if (MD_UNLIKELY(header < end) || md_tracer_is_on(inference->oip->tracer)) {
        md_oip_trace_begin_wanted(inference);
    }
}

static inline void md_oip_trace_end(struct md_oip_inference *inference, unsigned http_status,
                                    const struct md_error *err)
{
    if (MD_UNLIKELY(inference->trace)) {
        md_oip_trace_finish(inference, http_status, err);
    }
}

#endif
