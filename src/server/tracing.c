/*
 * The tracer, as the options want it.
 */
#include "server/server_internal.h"

#include "base/clock.h"
#include "trace/otlp_http.h"
#include "trace/trace_file.h"

static bool open_otlp(struct md_server *server, struct md_trace_sink *out, struct md_error *err)
{
    const struct md_trace_config *config = &server->options.trace;
    struct md_otlp_http_options options = {
        .url = config->url, .name = config->shown_url, .ca_file = config->ca_file};
    struct md_arena arena = {0};
    const char **headers = md_arena_calloc(&arena, config->headers.count, sizeof *headers);
    struct md_span_resource *resource =
        md_arena_calloc(&arena, config->resource.count, sizeof *resource);

    for (size_t i = 0; headers && i < config->headers.count; i++) {
        headers[i] = md_arena_printf(&arena, "%.*s: %.*s", MD_STR_ARG(config->headers.items[i].key),
                                     MD_STR_ARG(config->headers.items[i].value));
    }
    for (size_t i = 0; resource && i < config->resource.count; i++) {
        resource[i] = (struct md_span_resource){config->resource.items[i].key,
                                                config->resource.items[i].value};
    }
    options.headers = headers;
    options.header_count = config->headers.count;
    options.resource = resource;
    options.resource_count = config->resource.count;
    bool ok = md_arena_failed(&arena) ? md_error_no_memory(err, "the exporter of traces")
                                      : md_otlp_http_open(&options, out, err);
    md_arena_deinit(&arena);
    return ok;
}

static bool open_sink(void *arg, struct md_trace_sink *out, struct md_error *err)
{
    struct md_server *server = arg;
    const struct md_trace_config *config = &server->options.trace;

    return config->is_triton
               ? md_trace_file_open(config->file, (uint64_t)config->log_frequency, out, err)
               : open_otlp(server, out, err);
}

bool md_server_create_tracer(struct md_server *server, struct md_error *err)
{
    const struct md_trace_config *config = &server->options.trace;
    const struct md_tracer_options options = {
        .settings =
            {
                [MD_TRACE_LEVEL] = (config->timestamps ? MD_TRACE_TIMESTAMPS : MD_TRACE_OFF) |
                                   (config->tensors ? MD_TRACE_TENSORS : MD_TRACE_OFF),
                [MD_TRACE_RATE] = config->rate,
                [MD_TRACE_COUNT] = config->count,
                [MD_TRACE_LOG_FREQUENCY] = config->log_frequency,
            },
        .exporter = {.max_queue = (size_t)config->max_queue,
                     .max_batch = (size_t)config->max_batch,
                     .delay_ns = (uint64_t)config->delay_ms * MD_NS_PER_MS,
                     .timeout_ns = (uint64_t)config->timeout_ms * MD_NS_PER_MS},
        .open_sink = open_sink,
        .arg = server,
    };

    return md_tracer_create(&options, &server->tracer, err);
}
