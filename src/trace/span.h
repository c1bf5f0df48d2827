/*
 * Spans as OTLP has them (opentelemetry-proto, trace/v1/trace.proto and
 * collector/trace/v1/trace_service.proto, protocol version 1): the encoder.
 *
 * A request's spans are encoded where the request ends, so that nothing of it has to outlive it,
 * one after the other; the exporter puts a head before those of many requests, and that is a whole
 * ExportTraceServiceRequest. Plain values, no state; any thread.
 */
#ifndef MD_TRACE_SPAN_H
#define MD_TRACE_SPAN_H

#include "base/bytes.h"
#include "trace/context.h"

enum md_span_kind { MD_SPAN_INTERNAL = 1, MD_SPAN_SERVER = 2 }; /* the numbers of the protocol */

/* Longer texts of requests (a model's name, a request's id, an error) are cut. */
enum { MD_SPAN_TEXT_MAX = 256 };

struct md_span_attribute {
    const char *key;
    struct md_str text; /* ptr NULL: the number counts */
    int64_t number;
};

struct md_span {
    struct md_trace_context context; /* of the span itself */
    const uint8_t *parent_id;        /* MD_SPAN_ID_BYTES; NULL: it begins the trace */
    bool has_remote_parent;          /* another process's */
    struct md_str tracestate;
    const char *name;
    enum md_span_kind kind;
    uint64_t begin_ns, end_ns; /* since 1970 */
    const struct md_span_attribute *attributes;
    size_t attribute_count;
    const char *error; /* the sentence; NULL: the span's status is left unset */
};

/* Appends the span as the next one of a list. */
void md_span_append(const struct md_span *span, struct md_bytes *out);

/* Appends what stands before a list of `span_bytes` bytes: the resource, as
 * md_span_print_resource made it, and who made the spans. */
void md_span_append_head(struct md_str resource, size_t span_bytes, struct md_bytes *out);

struct md_span_resource {
    struct md_str key, value;
};
/* The resource's attributes, encoded. */
void md_span_print_resource(const struct md_span_resource *attributes, size_t count,
                            struct md_bytes *out);

/* Spans that the receiver says it has rejected, and its reason as a view into the answer
 * (ExportTracePartialSuccess); 0 where the answer says nothing of that, or is none. */
uint64_t md_span_rejected(struct md_str answer, struct md_str *reason);

#endif
