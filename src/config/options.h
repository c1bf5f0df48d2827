/*
 * The server's options: one table (option_table.c), filled into one plain struct that server/
 * applies.
 *
 * Precedence: flag, environment MODELD_<OPTION>, --config file, default. The table has two default
 * columns: ours, and that of the server being replaced (--compat triton, or a program called
 * tritonserver). Everything lives in the caller's arena; all problems of one run are reported
 * together.
 */
#ifndef MD_CONFIG_OPTIONS_H
#define MD_CONFIG_OPTIONS_H

#include "base/diagnostics.h"
#include "base/error.h"
#include "config/trace_config.h"

struct md_string_list {
    const char **items; /* zero-terminated */
    size_t count;
};

/* Settings of models by name pattern, from the --config file; a later one wins over an earlier. The
 * JSON has been checked against the schema, and its lines are those of the file: it begins with
 * empty ones. */
struct md_overlay {
    const char *pattern; /* shell style */
    struct md_str config_json;
    unsigned line; /* where the overlay begins in options.config_file */
};

/* TLS of one listener. */
struct md_tls_settings {
    bool use, mutual; /* mutual: it is used, and clients need a certificate */
    const char *server_cert, *server_key, *root_cert; /* files, NULL if not given */
};

struct md_options {
    /* repository */
    struct md_string_list model_repository, load_model;
    const char *model_name, *model_control_mode;
    bool auto_batching, exit_on_error, strict_readiness, health_body, allow_op_library;
    uint64_t not_ready_status, model_load_thread_count, default_max_batch_size;
    const char *gpu_fallback;
    struct md_string_list backend_config;
    const char *backend_directory;
    /* server */
    const char *id, *compat, *config_file;
    bool allow_client_shm;
    bool check_config, help, version, help_markdown, help_schema;
    uint64_t exit_timeout_secs, drain_delay_secs;
    const char *management, *management_key_file;
    /* HTTP */
    bool allow_http, reuse_http_port;
    const char *http_address, *http_unix_socket;
    uint64_t http_port, http_thread_count, http_max_input_size, http_max_header_size,
        http_max_header_count;
    uint64_t http_idle_timeout_secs, http_header_timeout_secs, http_body_timeout_secs,
        json_max_depth;
    uint64_t max_connections, inflight_bytes;
    struct md_string_list http_cors_allow_origin, http_restricted_api, grpc_restricted_protocol;
    /* gRPC and HTTP/2 */
    bool allow_grpc, reuse_grpc_port, grpc_keepalive_permit_without_calls;
    const char *grpc_address, *grpc_infer_response_compression_level;
    uint64_t grpc_port, grpc_max_message_size, http2_max_concurrent_streams;
    uint64_t grpc_keepalive_time, grpc_keepalive_timeout, grpc_min_recv_ping_interval,
        grpc_max_ping_strikes, grpc_max_connection_age, grpc_max_connection_age_grace;
    /* metrics */
    bool allow_metrics, allow_cpu_metrics;
    const char *metrics_address;
    uint64_t metrics_port;
    struct md_string_list metrics_config;
    /* TLS; where `use` is true, the files are there that it needs */
    struct md_tls_settings http_tls, grpc_tls, metrics_tls;
    const char *tls_min_version;
    /* traces */
    const char *trace_mode, *trace_service_name;
    struct md_string_list trace_config;
    struct md_trace_config trace; /* what they and OTEL_* say together */
    /* logging */
    bool log_info, log_warning, log_error, access_log;
    uint64_t log_verbose;
    const char *log_format, *log_file;
    /* CPU plan */
    uint64_t cpu_count, executor_threads, engine_threads, spin_us;
    const char *inline_mode;
    /* from the --config file */
    const struct md_overlay *overlays;
    size_t overlay_count;
};

/* How this room reads files (it does no I/O of its own). */
struct md_file_reader {
    bool (*read)(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                 struct md_error *err);
    void *arg;
};

/* Fills *out from all sources. argv[0] is the program's name; environment is as in main(), or NULL.
 * Texts in *out live in the arena. False if this added an error to the diagnostics;
 * *out is complete even then, as if what is wrong had not been given, unless memory ran out. An
 * unknown MODELD_* variable is no error: whoever starts programs sets variables of that form too.
 */
bool md_options_parse(int argc, char *const *argv, char *const *environment, bool in_container,
                      const struct md_file_reader *reader, struct md_arena *arena,
                      struct md_options *out, struct md_diagnostics *diagnostics) MD_MUST_CHECK;

/* The pages for --help (100 columns) and docs/options.md, from the table. */
void md_options_print_help(struct md_bytes *out);
void md_options_print_markdown(struct md_bytes *out);
/* The JSON Schema of the --config file. */
void md_options_print_schema(struct md_bytes *out);

#endif
