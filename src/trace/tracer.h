/*
 * Tracer: decides which requests are traced, gives them their ids and hands their spans to the
 * exporter.
 *
 * One for the process; created and destroyed by server/, in between shared by all threads. The
 * exporter, with its thread and what it loads, exists from the first time on that something is to
 * be traced; while nothing is, a request costs one relaxed load.
 */
#ifndef MD_TRACE_TRACER_H
#define MD_TRACE_TRACER_H

#include "trace/context.h"
#include "trace/exporter.h"
#include "trace/settings.h"

enum { MD_TRACE_CHILDREN_MAX = 4 };

struct md_tracer_options {
    int64_t settings[MD_TRACE_FIELD_COUNT];
    struct md_trace_exporter_options exporter;
    /* Makes the exporter's sink when it is first needed; on the thread that turns traces on. */
    bool (*open_sink)(void *arg, struct md_trace_sink *out, struct md_error *err);
    void *arg;
};

struct md_tracer;

/* Ids of one request that is traced. */
struct md_trace {
    struct md_trace_context context;     /* of its own span */
    uint8_t parent_id[MD_SPAN_ID_BYTES]; /* the caller's span */
    bool has_parent;
    uint64_t number; /* from 1, in the order in which traces began */
    uint8_t children[MD_TRACE_CHILDREN_MAX][MD_SPAN_ID_BYTES];
};

/* Fails if the settings turn traces on and the sink cannot be opened. */
bool md_tracer_create(const struct md_tracer_options *options, struct md_tracer **out,
                      struct md_error *err) MD_MUST_CHECK;
/* Sends what waits, see md_trace_exporter_destroy; NULL is fine. */
void md_tracer_destroy(struct md_tracer *tracer);

/* Whether any request may be traced: what the request path asks first. */
static inline bool md_tracer_is_on(const struct md_tracer *tracer)
{
    /* relaxed: a change counts a little later; the flag is the first member */
    return atomic_load_explicit((atomic_bool *)(uintptr_t)tracer, memory_order_relaxed);
}

/* Decides on a request to a model; `parent` as the client sent it, empty if it did not. True: it is
 * traced, and *out is filled. */
bool md_tracer_begin(struct md_tracer *tracer, struct md_str model, struct md_str parent,
                     struct md_trace *out) MD_MUST_CHECK;
/* The spans of a request, see trace/span.h. */
void md_tracer_submit(struct md_tracer *tracer, struct md_str spans, size_t span_count);

/* Settings of a model, or of the server (an empty name). */
void md_tracer_get(const struct md_tracer *tracer, struct md_str model,
                   int64_t values[MD_TRACE_FIELD_COUNT]);
/* May wait for another change, and for the sink to be opened; if that fails, nothing changes. */
bool md_tracer_change(struct md_tracer *tracer, struct md_str model,
                      const struct md_trace_change *change, struct md_error *err) MD_MUST_CHECK;

void md_tracer_count(const struct md_tracer *tracer, struct md_trace_counters *out);

#endif
