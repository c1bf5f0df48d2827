/*
 * Every option, as data. Flags of Triton that concern what this version does not have
 * are here too: a command line that worked there works here, or says why not and what to do.
 *
 * A flag is refused where ignoring it would change results or open what is meant to be closed.
 */
#include "config/option_table.h"

#define ROW(row_name, row_kind, row_status, ...)                                          \
    {                                                                                     \
        .name = row_name, .kind = MD_OPTION_##row_kind, .status = MD_OPTION_##row_status, \
        __VA_ARGS__                                                                       \
    }
#define AT(field) .offset = offsetof(struct md_options, field)
#define NOWHERE   .offset = SIZE_MAX
#define GROUP(title)                         \
    {                                        \
        .name = NULL, NOWHERE, .help = title \
    }

/* A flag that is no setting; one default; two. */
#define ACTION(name, field, text) \
    ROW(name, ACTION, WORKS, AT(field), .value = "false", .help = text)
#define OPTION(name, kind, field, ours, limits, text) \
    ROW(name, kind, WORKS, AT(field), .value = ours, .range = limits, .help = text)
#define DIFFERS(name, kind, field, ours, triton, limits, text)                                \
    ROW(name, kind, WORKS, AT(field), .value = ours, .triton_value = triton, .range = limits, \
        .help = text)
#define ALIAS(name, kind, of) \
    ROW(name, kind, WORKS, NOWHERE, .help = "Other name of --" of ".", .alias_of = of)
#define NO_EFFECT(name, kind, silent, why) \
    ROW(name, kind, NO_EFFECT, NOWHERE, .fine = silent, .help = why)
#define REFUSED(name, kind, silent, remedy) \
    ROW(name, kind, REFUSED, NOWHERE, .fine = silent, .help = remedy)

/* The same five for each listener. */
#define TLS_OPTIONS(listener, field, what, otherwise)                                             \
    OPTION(listener "-use-ssl", BOOL, field.use, "false", NULL, "Serve " what " with TLS."),      \
        OPTION(listener "-use-ssl-mutual", BOOL, field.mutual, "false", NULL,                     \
               "The same, and demand a certificate of clients, signed by --" listener             \
               "-root-cert."),                                                                    \
        OPTION(                                                                                   \
            listener "-server-cert", TEXT, field.server_cert, NULL, NULL,                         \
            "PEM file with the server's certificate, then those that lead to a root." otherwise), \
        OPTION(listener "-server-key", TEXT, field.server_key, NULL, NULL,                        \
               "PEM file with its key, without a passphrase." otherwise),                         \
        OPTION(listener "-root-cert", TEXT, field.root_cert, NULL, NULL,                          \
               "PEM file with the certificates that sign those of clients." otherwise)

#define COMPLETED    "what a configuration leaves out always comes from the model"
#define NO_SAGEMAKER "there is no SageMaker endpoint"
#define NO_VERTEX    "there is no Vertex AI endpoint"
#define NO_CACHE     "every response is computed"
#define NO_GPU       "this version runs on CPUs"

const struct md_option md_option_table[] = {
    GROUP("General"),
    ACTION("help", help, "Print this page."),
    ACTION("version", version, "Print the version."),
    ACTION("help-markdown", help_markdown, "Print the reference page docs/options.md."),
    ACTION("help-schema", help_schema, "Print the JSON Schema of the --config file, for editors."),
    ACTION("check-config", check_config,
           "Check options and model configurations, print everything that is wrong, and end."),
    OPTION("config", TEXT, config_file, NULL, NULL,
           "YAML file with options, and with model settings by name pattern."),
    DIFFERS("compat", CHOICE, compat, "none", "triton", "none|triton",
            "Take the defaults of another server; a program called tritonserver does."),
    DIFFERS("id", TEXT, id, "modeld", "triton", NULL, "Name of this server in its metadata."),
    OPTION("exit-timeout-secs", NUMBER, exit_timeout_secs, "30", "0..86400",
           "How long requests in flight may take to finish at shutdown."),
    OPTION("drain-delay-secs", NUMBER, drain_delay_secs, "0", "0..3600",
           "How long to go on accepting after SIGTERM or /v2/drain while readiness says no."),
    DIFFERS("management", CHOICE, management, "unix", "open", "unix|key|open",
            "How what changes the server is reached (/v2/drain, settings of log and trace): over "
            "--http-unix-socket alone, with the key of --management-key-file, or by everybody."),
    OPTION("management-key-file", TEXT, management_key_file, NULL, NULL,
           "File with the key that --management=key expects: Authorization: Bearer KEY."),
    OPTION("allow-client-shm", BOOL, allow_client_shm, "false", NULL,
           "Let clients on this machine pass tensors in POSIX shared memory that they register."),

    GROUP("Models"),
    OPTION("model-repository", LIST, model_repository, NULL, NULL,
           "Folder with models, or that is one model."),
    ALIAS("model-store", LIST, "model-repository"),
    ALIAS("model-repo", LIST, "model-repository"),
    OPTION("model-name", TEXT, model_name, NULL, NULL,
           "Name of the model, for a folder that is one; otherwise the folder's name."),
    OPTION("model-control-mode", CHOICE, model_control_mode, "none", "none|explicit",
           "none: load all models; explicit: load those named with --load-model."),
    OPTION("load-model", LIST, load_model, NULL, NULL,
           "Model to load in explicit mode, * for all."),
    OPTION("model-load-thread-count", NUMBER, model_load_thread_count, "4", "1..1024",
           "Models loaded at the same time, 64 at most."),
    DIFFERS("default-max-batch-size", NUMBER, default_max_batch_size, "0", "4", "0..2147483647",
            "max_batch_size of a model whose configuration has none and whose tensors can be "
            "batched. Also as --backend-config default-max-batch-size=N."),
    DIFFERS("auto-batching", BOOL, auto_batching, "true", "false", NULL,
            "Try models out before they are ready: batch those that no configuration batches where "
            "joint answers prove to be those given one by one, and learn how long each takes."),
    DIFFERS("exit-on-error", BOOL, exit_on_error, "false", "true", NULL,
            "End when a model cannot be loaded at start."),
    DIFFERS("strict-readiness", BOOL, strict_readiness, "false", "true", NULL,
            "Be ready only while every model is: one failed model takes the server out."),
    DIFFERS("not-ready-status", NUMBER, not_ready_status, "503", "400", "400..599",
            "HTTP status of 'not ready'."),
    DIFFERS(
        "health-body", BOOL, health_body, "true", "false", NULL,
        "Answer health over HTTP with JSON, as the protocol has it and KServe's client reads it."),
    DIFFERS("gpu-fallback", CHOICE, gpu_fallback, "cpu", "error", "cpu|error",
            "What a model gets that asks for a GPU where there is none."),
    OPTION(
        "allow-op-library", BOOL, allow_op_library, "false", NULL,
        "Trust models with native code: operators that they name (model_operations), backends in their folders."),
    NO_EFFECT("disable-auto-complete-config", BOOL, "false", COMPLETED),
    NO_EFFECT("strict-model-config", BOOL, "false", COMPLETED),
    NO_EFFECT("repository-poll-secs", NUMBER, NULL, "repositories are read at start"),
    NO_EFFECT("model-load-retry-count", NUMBER, "0", "a model that cannot be loaded says why"),
    REFUSED("model-namespacing", BOOL, "false", "give the models different names"),
    REFUSED("model-config-name", TEXT, "",
            "put the settings into the model's config.pbtxt, or into a --config file"),

    GROUP("Backends"),
    OPTION("backend-directory", TEXT, backend_directory, NULL, NULL,
           "Folder with one folder for each backend; otherwise backends/ beside the program or "
           "../lib/modeld/backends/."),
    OPTION("backend-config", SETTINGS, backend_config, NULL, NULL,
           "NAME,key=value for one backend, or key=value for all."),

    GROUP("HTTP"),
    OPTION("allow-http", BOOL, allow_http, "true", NULL, "Serve HTTP."),
    DIFFERS("http-address", TEXT, http_address, "auto", "0.0.0.0", NULL,
            "Address to listen on; auto: 127.0.0.1 outside of a container, 0.0.0.0 inside."),
    OPTION("http-port", NUMBER, http_port, "8000", "0..65535",
           "Port to listen on; 0: any free one."),
    OPTION("http-unix-socket", TEXT, http_unix_socket, NULL, NULL,
           "Path of a unix socket to listen on too."),
    OPTION("reuse-http-port", BOOL, reuse_http_port, "false", NULL,
           "Let several processes share the port, and that of metrics."),
    OPTION("http-thread-count", NUMBER, http_thread_count, "0", "0..256",
           "Event loops; 0: as the CPU plan says."),
    OPTION("http-max-input-size", SIZE, http_max_input_size, "64M", "1..1T",
           "Largest request body as JSON, raw or decompressed."),
    OPTION("http-max-header-size", SIZE, http_max_header_size, "64K", "1K..16M",
           "Largest request line and headers together."),
    OPTION("http-max-header-count", NUMBER, http_max_header_count, "100", "1..10000",
           "Most headers of a request."),
    OPTION("http-idle-timeout-secs", NUMBER, http_idle_timeout_secs, "600", "0..86400",
           "Close a connection without requests after this long; 0: never."),
    OPTION("http-header-timeout-secs", NUMBER, http_header_timeout_secs, "30", "0..86400",
           "Longest time for a request's head; 0: no limit."),
    OPTION("http-body-timeout-secs", NUMBER, http_body_timeout_secs, "60", "0..86400",
           "Longest time without progress of a body, in or out; 0: no limit."),
    OPTION("json-max-depth", NUMBER, json_max_depth, "100", "4..512",
           "Most nested levels of a request's JSON."),
    OPTION("max-connections", NUMBER, max_connections, "10000", "1..1000000",
           "Most connections of each listener at the same time (metrics: 64)."),
    OPTION("inflight-bytes", SIZE, inflight_bytes, "0", "0..1T",
           "Bound on all bodies and answers in memory; 0: an eighth of the memory limit, at least "
           "64 MiB."),
    OPTION("http-cors-allow-origin", LIST, http_cors_allow_origin, NULL, NULL,
           "Origin whose pages may call this server, * for all."),
    TLS_OPTIONS("http", http_tls, "HTTP", ""),
    OPTION("tls-min-version", CHOICE, tls_min_version, "1.2", "1.2|1.3",
           "Lowest version of TLS that any listener speaks."),
    REFUSED("http-header-forward-pattern", TEXT, "",
            "headers are not forwarded yet; send the values as request parameters"),
    OPTION(
        "http-restricted-api", LIST, http_restricted_api, NULL, NULL,
        "GROUP[,GROUP...]:KEY=VALUE: these APIs answer requests with the header KEY: VALUE alone. "
        "Groups: health, metadata, inference, shared-memory, model-config, model-repository, "
        "statistics, trace, logging."),

    GROUP("gRPC and HTTP/2"),
    OPTION("allow-grpc", BOOL, allow_grpc, "true", NULL,
           "Listen on the port for gRPC. It and the port for HTTP serve REST and gRPC alike."),
    DIFFERS("grpc-address", TEXT, grpc_address, "auto", "0.0.0.0", NULL,
            "Address to listen on; auto: that of --http-address."),
    OPTION("grpc-port", NUMBER, grpc_port, "8001", "0..65535",
           "Port to listen on; 0: any free one."),
    OPTION("reuse-grpc-port", BOOL, reuse_grpc_port, "false", NULL,
           "Let several processes share the port."),
    OPTION("grpc-max-message-size", SIZE, grpc_max_message_size, "2147483647", "1K..2147483647",
           "Largest message, also decompressed; --inflight-bytes bounds it too."),
    OPTION("grpc-infer-response-compression-level", CHOICE, grpc_infer_response_compression_level,
           "none", "none|low|medium|high",
           "Compress the answers of inferences for clients that take it (all levels are one)."),
    OPTION("grpc-keepalive-time", NUMBER, grpc_keepalive_time, "7200000", "1..2147483647",
           "Milliseconds without a sign of life after which a client is asked for one."),
    OPTION("grpc-keepalive-timeout", NUMBER, grpc_keepalive_timeout, "20000", "1..2147483647",
           "Milliseconds that it has to answer."),
    OPTION("grpc-keepalive-permit-without-calls", BOOL, grpc_keepalive_permit_without_calls,
           "false", NULL, "Ask also while there are no calls."),
    OPTION("grpc-http2-min-recv-ping-interval-without-data", NUMBER, grpc_min_recv_ping_interval,
           "300000", "0..2147483647",
           "Milliseconds that have to lie between a client's PINGs while nothing is sent to it."),
    OPTION("grpc-http2-max-ping-strikes", NUMBER, grpc_max_ping_strikes, "2", "0..2147483647",
           "How many PINGs may come sooner before the connection is closed; 0: any number."),
    OPTION("grpc-max-connection-age", NUMBER, grpc_max_connection_age, "0", "0..2147483647",
           "Milliseconds after which a connection takes no new requests; 0: never."),
    OPTION("grpc-max-connection-age-grace", NUMBER, grpc_max_connection_age_grace, "0",
           "0..2147483647", "Milliseconds that those in work have then; 0: any time."),
    OPTION("http2-max-concurrent-streams", NUMBER, http2_max_concurrent_streams, "1024",
           "1..1000000", "Most requests at the same time on one connection."),
    NO_EFFECT("grpc-http2-max-pings-without-data", NUMBER, NULL,
              "PINGs are sent by --grpc-keepalive-time alone"),
    NO_EFFECT("grpc-infer-thread-count", NUMBER, NULL, "all ports share the event loops"),
    NO_EFFECT("grpc-infer-cq-count", NUMBER, NULL, "all ports share the event loops"),
    NO_EFFECT("grpc-infer-allocation-pool-size", NUMBER, NULL, "memory is pooled for each loop"),
    NO_EFFECT("grpc-max-response-pool-size", NUMBER, NULL, "memory is pooled for each loop"),
    REFUSED("grpc-header-forward-pattern", TEXT, "",
            "headers are not forwarded yet; send the values as request parameters"),
    TLS_OPTIONS("grpc", grpc_tls, "gRPC", ""),
    OPTION("grpc-restricted-protocol", LIST, grpc_restricted_protocol, NULL, NULL,
           "As --http-restricted-api, for the metadata triton-grpc-protocol-KEY of gRPC calls."),

    GROUP("Metrics"),
    OPTION("allow-metrics", BOOL, allow_metrics, "true", NULL, "Serve Prometheus metrics."),
    OPTION("allow-cpu-metrics", BOOL, allow_cpu_metrics, "true", NULL,
           "Serve nv_cpu_*, the use of the machine's CPUs and memory."),
    OPTION("metrics-address", TEXT, metrics_address, "auto", NULL,
           "Address of /metrics; auto: that of --http-address."),
    OPTION("metrics-port", NUMBER, metrics_port, "8002", "0..65535",
           "Port of /metrics; 0: any free one."),
    OPTION(
        "metrics-config", SETTINGS, metrics_config, NULL, NULL,
        "max_models=N (10000): further models share the series of model=\"other\"; detail=PATTERN: "
        "histograms for these models alone; counter_latencies=false: no nv_*_duration_us."),
    TLS_OPTIONS("metrics", metrics_tls, "/metrics", " Otherwise HTTP's."),
    NO_EFFECT("allow-gpu-metrics", BOOL, "false", NO_GPU),
    NO_EFFECT("metrics-interval-ms", NUMBER, NULL, "metrics are read when they are asked for"),

    GROUP("Logging"),
    OPTION("log-verbose", NUMBER, log_verbose, "0", "0..255",
           "Verbose lines, such as the errors of requests that are their sender's fault; 0: none."),
    OPTION("log-info", BOOL, log_info, "true", NULL, "Informational lines."),
    OPTION("log-warning", BOOL, log_warning, "true", NULL, "Warnings."),
    OPTION("log-error", BOOL, log_error, "true", NULL, "Errors."),
    OPTION("log-format", CHOICE, log_format, "default", "default|text|ISO8601|json",
           "Form of a line; text is another name for default."),
    OPTION("log-file", TEXT, log_file, NULL, NULL,
           "File to append to, opened again on SIGHUP; otherwise standard error."),
    OPTION("access-log", BOOL, access_log, "false", NULL,
           "One line for each request: its status, of gRPC calls also theirs, bytes and time."),

    GROUP("Traces"),
    OPTION(
        "trace-config", SETTINGS, trace_config, NULL, NULL,
        "level=OFF|TIMESTAMPS; rate=N: one in N requests (1000), those of callers that trace are "
        "always; count=N: so many and no more; mode=opentelemetry|triton; opentelemetry,url=URL, "
        "opentelemetry,resource=KEY=VALUE, opentelemetry,bsp_*=N; triton,file=PATH. See "
        "docs/tracing.md."),
    DIFFERS("trace-mode", CHOICE, trace_mode, "opentelemetry", "triton", "opentelemetry|triton",
            "Mode of --trace-config that says none."),
    DIFFERS("trace-service-name", TEXT, trace_service_name, "modeld", "triton-inference-server",
            NULL, "service.name of traces that nothing else names."),
    NO_EFFECT("trace-file", TEXT, "", "say --trace-config triton,file=PATH"),
    NO_EFFECT("trace-level", TEXT, "OFF", "say --trace-config level=TIMESTAMPS"),
    NO_EFFECT("trace-rate", NUMBER, NULL, "say --trace-config rate=N"),
    NO_EFFECT("trace-count", NUMBER, NULL, "say --trace-config count=N"),
    NO_EFFECT("trace-log-frequency", NUMBER, NULL, "say --trace-config triton,log-frequency=N"),

    GROUP("Threads"),
    OPTION("cpu-count", NUMBER, cpu_count, "0", "0..1024",
           "CPUs to plan for; 0: what the system grants (affinity, quota)."),
    OPTION("executor-threads", NUMBER, executor_threads, "0", "0..1024",
           "Batches run at the same time; 0: one for each CPU."),
    OPTION("engine-threads", NUMBER, engine_threads, "0", "0..1024",
           "Threads of the pool that engines share; 0: one for each CPU."),
    OPTION("spin-us", NUMBER, spin_us, "50", "0..1000",
           "Longest busy wait of a loop with one active connection; 0: never."),
    OPTION("inline", CHOICE, inline_mode, "auto", "auto|on|off",
           "Run cheap models on the event loop, without a hop to an executor."),

    GROUP("Other flags of Triton"),
    REFUSED("allow-sagemaker", BOOL, "false", NO_SAGEMAKER "; call the paths under /v2"),
    NO_EFFECT("sagemaker-port", NUMBER, NULL, NO_SAGEMAKER),
    NO_EFFECT("sagemaker-safe-port-range", TEXT, NULL, NO_SAGEMAKER),
    NO_EFFECT("sagemaker-thread-count", NUMBER, NULL, NO_SAGEMAKER),
    REFUSED("allow-vertex-ai", BOOL, "false", NO_VERTEX "; call the paths under /v2"),
    NO_EFFECT("vertex-ai-port", NUMBER, NULL, NO_VERTEX),
    NO_EFFECT("vertex-ai-thread-count", NUMBER, NULL, NO_VERTEX),
    NO_EFFECT("vertex-ai-default-model", TEXT, NULL, NO_VERTEX),
    NO_EFFECT("cache-config", LIST, NULL, NO_CACHE),
    NO_EFFECT("cache-directory", TEXT, NULL, NO_CACHE),
    NO_EFFECT("response-cache-byte-size", SIZE, "0", NO_CACHE),
    REFUSED("rate-limit", TEXT, "off",
            "resources of instances are not counted yet; bound them with --executor-threads"),
    NO_EFFECT("rate-limit-resource", LIST, NULL,
              "it counts with --rate-limit=execution_count only"),
    REFUSED("repoagent-directory", TEXT, "",
            "there are no repository agents yet; a model that needs one would be served unchecked"),
    NO_EFFECT("pinned-memory-pool-byte-size", SIZE, "0", NO_GPU),
    NO_EFFECT("cuda-memory-pool-byte-size", LIST, NULL, NO_GPU),
    NO_EFFECT("cuda-virtual-address-size", LIST, NULL, NO_GPU),
    NO_EFFECT("min-supported-compute-capability", TEXT, NULL, NO_GPU),
    NO_EFFECT("enable-peer-access", BOOL, "false", NO_GPU),
    NO_EFFECT("model-load-gpu-limit", LIST, NULL, NO_GPU),
    NO_EFFECT("buffer-manager-thread-count", NUMBER, "0", "tensors are not copied between buffers"),
    NO_EFFECT("host-policy", LIST, NULL, "threads are placed by the CPU plan"),
};

const size_t md_option_count = MD_COUNT_OF(md_option_table);

static const struct md_option_refused_value refused_values[] = {
    {"model-control-mode", "poll",
     "repositories are not read again yet; use none or explicit, and restart to take changes"},
};

const struct md_option *md_option_find(struct md_str name)
{
    for (size_t i = 0; i < md_option_count; i++) {
        if (md_option_table[i].name && md_str_eq_c(name, md_option_table[i].name)) {
            return &md_option_table[i];
        }
    }
    return NULL;
}

const struct md_option *md_option_target(const struct md_option *option)
{
    return option->alias_of ? md_option_find(md_str_of(option->alias_of)) : option;
}

const char *md_option_nearest(struct md_str name)
{
    enum { PREFIX_LEAST = 4, DISTANCE_MOST = 5 };
    unsigned best = 1 + (unsigned)md_size_min(md_size_max(name.len / 3, 1), DISTANCE_MOST);
    const char *found = NULL;

    for (size_t i = 0; i < md_option_count; i++) {
        struct md_str candidate = md_str_of(md_option_table[i].name);
        if (!candidate.len) {
            continue;
        }
        if (name.len >= PREFIX_LEAST && md_str_starts_with(candidate, name)) {
            return candidate.ptr;
        }
        size_t longer = md_size_max(name.len, candidate.len);
        if (longer - md_size_min(name.len, candidate.len) >= best) {
            continue; /* each missing letter is an edit */
        }
        unsigned distance = md_str_distance(name, candidate, best);
        if (distance < best) {
            best = distance;
            found = candidate.ptr;
        }
    }
    return found;
}

const char *md_option_refusal(const struct md_option *option, struct md_str value)
{
    if (option->status == MD_OPTION_REFUSED) {
        return option->help;
    }
    for (size_t i = 0; i < MD_COUNT_OF(refused_values); i++) {
        if (strcmp(option->name, refused_values[i].option) == 0 &&
            md_str_eq_c(value, refused_values[i].value)) {
            return refused_values[i].remedy;
        }
    }
    return NULL;
}
