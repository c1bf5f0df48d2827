/*
 * What is traced and where it goes: --trace-config and the variables that every program with
 * OpenTelemetry knows (OTEL_*), read into one plain struct.
 *
 * A setting of --trace-config wins over a variable, that over the default. Texts live in the arena
 * given; nothing here does I/O.
 */
#ifndef MD_CONFIG_TRACE_CONFIG_H
#define MD_CONFIG_TRACE_CONFIG_H

#include "base/arena.h"
#include "base/diagnostics.h"

struct md_trace_pair {
    struct md_str key, value; /* zero-terminated */
};

struct md_trace_pairs {
    const struct md_trace_pair *items;
    size_t count;
};

struct md_trace_config {
    bool timestamps, tensors; /* the level; none: OFF */
    int64_t rate, count, log_frequency;
    bool is_triton; /* mode; else opentelemetry */
    const char *file;
    const char *url, *shown_url; /* shown: without credentials */
    struct md_trace_pairs headers, resource;
    const char *ca_file; /* NULL: the system's certificates */
    int64_t max_queue, max_batch, delay_ms, timeout_ms;
};

struct md_trace_sources {
    const char *const *settings; /* of --trace-config: [mode,]key=value */
    size_t setting_count;
    const char *given;        /* how the option was given: "--trace-config" */
    const char *mode;         /* if no setting says */
    const char *service_name; /* the same */
    char *const *environment; /* NULL: none */
};

/* False if this added an error to the diagnostics; *out is complete even then. */
bool md_trace_config_read(const struct md_trace_sources *sources, struct md_arena *arena,
                          struct md_trace_config *out, struct md_diagnostics *diagnostics)
    MD_MUST_CHECK;

#endif
