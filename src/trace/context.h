/*
 * The context of a trace as it travels between processes (W3C Trace Context, level 1 and 2):
 * `traceparent` names the trace and the caller's span, `tracestate` is passed on unread.
 *
 * Plain values; any thread.
 */
#ifndef MD_TRACE_CONTEXT_H
#define MD_TRACE_CONTEXT_H

#include "base/str.h"

enum {
    MD_TRACE_ID_BYTES = 16,
    MD_SPAN_ID_BYTES = 8,
    MD_TRACEPARENT_BYTES = 55, /* of version 00, without a terminator */
    MD_TRACESTATE_MAX = 512,   /* bytes that are passed on */
};

enum { MD_TRACE_SAMPLED = 1 }; /* flags: the caller records this trace */

struct md_trace_context {
    uint8_t trace_id[MD_TRACE_ID_BYTES];
    uint8_t span_id[MD_SPAN_ID_BYTES];
    uint8_t flags;
};

/* False: it is none, and the request begins a trace of its own. Of a version after 00 what 00 has
 * is read, as section 3.2.4 ("Versioning of traceparent") wants it; of its flags the sampled one.
 */
bool md_traceparent_parse(struct md_str text, struct md_trace_context *out) MD_MUST_CHECK;

/* Version 00; out is terminated. */
void md_traceparent_print(const struct md_trace_context *context,
                          char out[MD_TRACEPARENT_BYTES + 1]);

/* Appends one `tracestate` header's list to `text`, which holds *len bytes: list members whole, in
 * their order, without white space around them, at most MD_TRACESTATE_MAX bytes in all; a header
 * that holds what no member may hold is left out. */
void md_tracestate_append(struct md_str header, char text[MD_TRACESTATE_MAX], size_t *len);

#endif
