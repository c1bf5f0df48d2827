/*
 * A sink that posts batches to an OTLP receiver over HTTP (opentelemetry.io, "OTLP specification",
 * OTLP/HTTP with binary protobuf).
 *
 * libcurl does the network's work, on the exporter's thread. It and the thirty libraries that it
 * needs are loaded when the first sink is opened, so a server without traces pays nothing; they
 * stay loaded (some of them cannot be unloaded). The one place outside os/ where system calls
 * happen, inside of libcurl.
 */
#ifndef MD_TRACE_OTLP_HTTP_H
#define MD_TRACE_OTLP_HTTP_H

#include "trace/exporter.h"
#include "trace/span.h"

struct md_otlp_http_options {
    const char *url;
    const char *name;           /* borrow, for the log: what outlives the sink */
    const char *const *headers; /* "Name: value" */
    size_t header_count;
    const char *ca_file; /* certificates to trust; NULL: the system's */
    const struct md_span_resource *resource;
    size_t resource_count;
};

/* Nothing of the options is kept but the name. NOT_FOUND: there is no libcurl; the sentence says
 * what to install. */
bool md_otlp_http_open(const struct md_otlp_http_options *options, struct md_trace_sink *out,
                       struct md_error *err) MD_MUST_CHECK;

#endif
