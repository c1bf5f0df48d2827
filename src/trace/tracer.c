/*
 * The tracer: settings, ids, and the exporter that is made when it is needed.
 */
#include "trace/tracer.h"

#include "base/alloc.h"
#include "os/random.h"

#include <pthread.h>

struct md_tracer {
    atomic_bool is_on;                            /* first: see md_tracer_is_on */
    struct md_tracer_options options;             /* immutable */
    struct md_trace_settings *settings;           /* own */
    _Atomic(struct md_trace_exporter *) exporter; /* own; set once */
    _Atomic uint64_t traces;                      /* that began */
    pthread_mutex_t mutex;                        /* of who changes settings */
};

static struct md_trace_exporter *exporter_of(const struct md_tracer *tracer)
{
    /* acquire: pairs with the release that put it there */
    return atomic_load_explicit((_Atomic(struct md_trace_exporter *) *)(uintptr_t)&tracer->exporter,
                                memory_order_acquire);
}

/* With the mutex, or before the tracer is shared. */
static bool need_exporter(struct md_tracer *tracer, struct md_error *err)
{
    struct md_trace_exporter *exporter = exporter_of(tracer);
    struct md_trace_sink sink;

    if (exporter) {
        return true;
    }
    if (!tracer->options.open_sink(tracer->options.arg, &sink, err) ||
        !md_trace_exporter_create(&tracer->options.exporter, &sink, &exporter, err)) {
        return false;
    }
    if (!md_trace_exporter_start(exporter, err)) {
        md_trace_exporter_destroy(exporter);
        return false;
    }
    atomic_store_explicit(&tracer->exporter, exporter, memory_order_release);
    return true;
}

bool md_tracer_create(const struct md_tracer_options *options, struct md_tracer **out,
                      struct md_error *err)
{
    struct md_tracer *tracer = md_calloc(1, sizeof *tracer);

    if (!tracer) {
        return md_error_no_memory(err, "traces");
    }
    tracer->options = *options;
    pthread_mutex_init(&tracer->mutex, NULL);
    const bool is_on = options->settings[MD_TRACE_LEVEL] != MD_TRACE_OFF;
    if (!md_trace_settings_create(options->settings, &tracer->settings, err) ||
        (is_on && !need_exporter(tracer, err))) {
        md_tracer_destroy(tracer);
        return false;
    }
    atomic_store(&tracer->is_on, is_on);
    *out = tracer;
    return true;
}

void md_tracer_destroy(struct md_tracer *tracer)
{
    if (!tracer) {
        return;
    }
    md_trace_exporter_destroy(exporter_of(tracer));
    md_trace_settings_destroy(tracer->settings);
    pthread_mutex_destroy(&tracer->mutex);
    md_free(tracer);
}

static enum md_trace_parent parent_of(struct md_str text, struct md_trace_context *out)
{
    if (!text.len || !md_traceparent_parse(text, out)) {
        return MD_TRACE_NO_PARENT;
    }
    return out->flags & MD_TRACE_SAMPLED ? MD_TRACE_PARENT_SAMPLED : MD_TRACE_PARENT_UNSAMPLED;
}

bool md_tracer_begin(struct md_tracer *tracer, struct md_str model, struct md_str parent,
                     struct md_trace *out)
{
    struct md_trace_context above;
    const enum md_trace_parent kind = parent_of(parent, &above);

    if (!exporter_of(tracer) || !md_trace_settings_sample(tracer->settings, model, kind)) {
        return false;
    }
    md_os_random(out, sizeof *out); /* an id of zeroes is as likely as any other: never */
    out->context.flags = MD_TRACE_SAMPLED;
    out->number = atomic_fetch_add_explicit(&tracer->traces, 1, memory_order_relaxed) + 1;
    out->has_parent = kind == MD_TRACE_PARENT_SAMPLED;
    if (out->has_parent) {
        memcpy(out->context.trace_id, above.trace_id, sizeof above.trace_id);
        memcpy(out->parent_id, above.span_id, sizeof above.span_id);
    }
    return true;
}

void md_tracer_submit(struct md_tracer *tracer, struct md_str spans, size_t span_count)
{
    md_trace_exporter_submit(exporter_of(tracer), spans, span_count);
}

void md_tracer_get(const struct md_tracer *tracer, struct md_str model,
                   int64_t values[MD_TRACE_FIELD_COUNT])
{
    md_trace_settings_get(tracer->settings, model, values);
}

bool md_tracer_change(struct md_tracer *tracer, struct md_str model,
                      const struct md_trace_change *change, struct md_error *err)
{
    const bool turns_on = change->what[MD_TRACE_LEVEL] == MD_TRACE_SET &&
                          change->values[MD_TRACE_LEVEL] != MD_TRACE_OFF;

    pthread_mutex_lock(&tracer->mutex);
    bool ok = (!turns_on || need_exporter(tracer, err)) &&
              md_trace_settings_change(tracer->settings, model, change, err);
    atomic_store(&tracer->is_on, md_trace_settings_is_on(tracer->settings));
    pthread_mutex_unlock(&tracer->mutex);
    return ok;
}

void md_tracer_count(const struct md_tracer *tracer, struct md_trace_counters *out)
{
    const struct md_trace_exporter *exporter = exporter_of(tracer);

    *out = (struct md_trace_counters){0};
    if (exporter) {
        md_trace_exporter_count(exporter, out);
    }
}
