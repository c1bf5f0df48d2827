/*
 * The metrics page. A table of families; each is printed over all versions before the next begins.
 */
#include "api/metrics.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "codec/json.h"
#include "http/page.h"
#include "os/process.h"

#include <stdio.h>

enum { MAX_MODELS_DEFAULT = 10000 };

/* --- one version's values -------------------- */

/* From SHAPE_BATCHES on: of what has never been there is no sample. */
enum family_shape {
    SHAPE_VALUE,
    SHAPE_LATENCY,
    SHAPE_FAILURES,
    SHAPE_BATCHES,
    SHAPE_HISTOGRAMS,
    SHAPE_STARTS,
    SHAPE_USED, /* a value of a version that has run something */
    SHAPE_INSTANCES,
    SHAPE_LEARNED,
};

struct family {
    const char *name, *type, *help;
    enum family_shape shape;
    double (*value)(const struct md_version *version,
                    const struct md_target_totals *t); /* version NULL: "other" */
};

static double us(uint64_t ns)
{
    uint64_t whole = ns / MD_NS_PER_US; /* the field counts whole microseconds */

    return (double)whole;
}

static double success(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->success.count;
}

static double inference_count(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->inference_count;
}

static double execution_count(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->execution_count;
}

static double request_us(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return us(t->success.ns);
}

static double queue_us(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return us(t->queue_ns);
}

static double input_us(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return us(t->compute_input_ns);
}

static double infer_us(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return us(t->compute_infer_ns);
}

static double output_us(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return us(t->compute_output_ns);
}

static double pending(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->pending;
}

static double in_flight(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->in_flight;
}

static double queue_bytes(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->queue_bytes;
}

static double device_seconds(const struct md_version *v, const struct md_target_totals *t)
{
    (void)v;
    return (double)t->device_ns / MD_NS_PER_S;
}

static double load_seconds(const struct md_version *v, const struct md_target_totals *t)
{
    (void)t;
    return v ? (double)md_counter_read(&v->load_ns) / MD_NS_PER_S : 0;
}

static double loads(const struct md_version *v, const struct md_target_totals *t)
{
    (void)t;
    return v ? (double)md_counter_read(&v->load_count) : 0;
}

static double load_failures(const struct md_version *v, const struct md_target_totals *t)
{
    (void)t;
    return v ? (double)md_counter_read(&v->load_failure_count) : 0;
}

static double memory_bytes(const struct md_version *v, const struct md_target_totals *t)
{
    (void)t;
    return v ? (double)md_counter_read(&v->memory_bytes) : 0;
}

static const struct family families[] = {
    {"nv_inference_request_success", "counter", "Requests that were answered", SHAPE_VALUE,
     success},
    {"nv_inference_request_failure", "counter", "Requests that failed, by reason", SHAPE_FAILURES,
     NULL},
    {"nv_inference_count", "counter", "Inferences: a batch of n counts n", SHAPE_VALUE,
     inference_count},
    {"nv_inference_exec_count", "counter", "Executions: a batch counts 1", SHAPE_VALUE,
     execution_count},
    {"nv_inference_request_duration_us", "counter", "Microseconds of answered requests, all phases",
     SHAPE_LATENCY, request_us},
    {"nv_inference_queue_duration_us", "counter", "Microseconds of waiting", SHAPE_LATENCY,
     queue_us},
    {"nv_inference_compute_input_duration_us", "counter", "Microseconds of preparing inputs",
     SHAPE_LATENCY, input_us},
    {"nv_inference_compute_infer_duration_us", "counter", "Microseconds in the engine",
     SHAPE_LATENCY, infer_us},
    {"nv_inference_compute_output_duration_us", "counter", "Microseconds of handing out outputs",
     SHAPE_LATENCY, output_us},
    {"nv_inference_pending_request_count", "gauge", "Requests that wait", SHAPE_VALUE, pending},
    {"nv_model_load_duration_secs", "gauge", "Seconds of the last load", SHAPE_VALUE, load_seconds},
    {"modeld_requests_in_flight", "gauge", "Requests between their head and their answer",
     SHAPE_VALUE, in_flight},
    {"modeld_model_loads_total", "counter", "Loads that succeeded", SHAPE_VALUE, loads},
    {"modeld_model_load_failures_total", "counter", "Loads that failed", SHAPE_VALUE,
     load_failures},
    {"modeld_model_memory_bytes", "gauge", "What the backend estimates the version holds",
     SHAPE_VALUE, memory_bytes},
    {"modeld_batches_total", "counter", "Executions by batch size", SHAPE_BATCHES, NULL},
    {"modeld_batch_starts_total", "counter", "Batches by why they were started when they were",
     SHAPE_STARTS, NULL},
    {"modeld_queue_bytes", "gauge", "Bytes of inputs that wait", SHAPE_USED, queue_bytes},
    {"modeld_device_seconds_total", "counter", "Time that executions have taken", SHAPE_USED,
     device_seconds},
    {"modeld_instances", "gauge", "Instances by whether they take requests", SHAPE_INSTANCES, NULL},
    {"modeld_execution_seconds", "gauge", "Learned time of an execution, by batch size",
     SHAPE_LEARNED, NULL},
    {"modeld_request_duration_seconds", "histogram", "Duration of requests by phase",
     SHAPE_HISTOGRAMS, NULL},
};

/* --- the page as a sequence -------------------- */

struct page {
    struct md_metrics *metrics;
    size_t family, model, version;
    bool began_family;
    bool printed_process;
    struct md_target_totals *totals; /* own: of each version, as the first family found them */
    size_t total_at;
    struct md_target_totals other; /* of the models beyond the bound */
    struct md_phase_totals other_phases;
    bool has_other;
    struct md_bytes *text;                     /* the slice */
    struct md_bytes labels;                    /* of the samples that are being written */
    char bounds[MD_HISTOGRAM_BUCKETS + 1][16]; /* in seconds, as labels say them */
};

/* Adds structs of nothing but uint64_t, or pairs of small uint32_t. */
static void add_totals(void *sum, const void *totals, size_t bytes)
{
    uint64_t *to = sum;
    const uint64_t *from = totals;

    for (size_t i = 0; i < bytes / sizeof *to; i++) {
        to[i] += from[i];
    }
}

static bool is_shown(const struct md_version *version)
{
    return atomic_load(&((struct md_version *)(uintptr_t)version)->state) != MD_VERSION_REGISTERED;
}

/* Models with series of their own. */
static size_t shown_models(const struct md_metrics *metrics)
{
    return md_size_min(md_models_count(metrics->models), metrics->max_models);
}

static void sum_others(struct page *page)
{
    const struct md_models *models = page->metrics->models;

    for (size_t i = page->metrics->max_models; i < md_models_count(models); i++) {
        const struct md_model *model = md_models_at(models, i);
        for (size_t k = 0; k < model->version_count; k++) {
            struct md_target_totals t;
            struct md_phase_totals phases;
            if (model->versions[k].target.shards) {
                md_target_sum(&model->versions[k].target, &t);
                md_target_sum_phases(&model->versions[k].target, &phases);
                add_totals(&page->other, &t, sizeof t);
                add_totals(&page->other_phases, &phases, sizeof phases);
                page->has_other = true;
            }
        }
    }
}

static void append_labels(struct md_bytes *text, const struct md_version *version)
{
    md_bytes_append_char(text, '{');
    if (version) {
        md_bytes_append_str(text, version->model->metric_labels);
        md_bytes_append_c(text, ",version=\"");
        md_bytes_append_i64(text, version->number);
        md_bytes_append_char(text, '"');
    } else {
        md_bytes_append_c(text, "model=\"other\",version=\"\"");
    }
}

static void append_number(struct md_bytes *text, double value)
{
    if (value >= 0 && value < 9e15 && value == (double)(uint64_t)value) {
        md_bytes_append_u64(text, (uint64_t)value);
    } else {
        md_json_append_f64(text, value);
    }
    md_bytes_append_char(text, '\n');
}

static void append_failures(struct md_bytes *text, const struct family *family,
                            const struct md_version *version, const struct md_target_totals *t)
{
    static const char *const reasons[] = {[MD_FAILURE_REJECTED] = "REJECTED",
                                          [MD_FAILURE_CANCELED] = "CANCELED",
                                          [MD_FAILURE_BACKEND] = "BACKEND",
                                          [MD_FAILURE_OTHER] = "OTHER"};

    for (size_t i = 0; i < MD_FAILURE_COUNT; i++) {
        md_bytes_append_c(text, family->name);
        append_labels(text, version);
        md_bytes_printf(text, ",reason=\"%s\"} %llu\n", reasons[i],
                        (unsigned long long)t->failures[i]);
    }
}

/* The sum or the count of the histogram whose labels were written last. */
static void append_whole(struct page *page, const struct family *family, const char *suffix,
                         double value)
{
    md_bytes_append_c(page->text, family->name);
    md_bytes_append_c(page->text, suffix);
    md_bytes_append_str(page->text, md_bytes_view(&page->labels));
    md_bytes_append_c(page->text, "\"} ");
    append_number(page->text, value);
}

/* All samples of a histogram bear the same labels: they are written once, then copied. */
static void append_histogram(struct page *page, const struct family *family,
                             const struct md_version *version, const char *phase,
                             const uint64_t *buckets, uint64_t sum_ns)
{
    struct md_bytes *text = page->text, *labels = &page->labels;
    uint64_t sum = 0;

    md_bytes_clear(labels);
    append_labels(labels, version);
    md_bytes_append_c(labels, ",phase=\"");
    md_bytes_append_c(labels, phase);
    text->failed |= labels->failed;
    for (size_t i = 0; i <= MD_HISTOGRAM_BUCKETS; i++) {
        sum += buckets[i];
        md_bytes_append_c(text, family->name);
        md_bytes_append_c(text, "_bucket");
        md_bytes_append_str(text, md_bytes_view(labels));
        md_bytes_append_c(text, "\",le=\"");
        md_bytes_append_c(text, page->bounds[i]);
        md_bytes_append_c(text, "\"} ");
        md_bytes_append_u64(text, sum);
        md_bytes_append_char(text, '\n');
    }
    append_whole(page, family, "_sum", (double)sum_ns / 1e9);
    append_whole(page, family, "_count", (double)sum);
}

static void append_histograms(struct page *page, const struct family *family,
                              const struct md_version *version)
{
    static const char *const phases[] = {
        [MD_PHASE_QUEUE] = "queue", [MD_PHASE_COMPUTE] = "compute", [MD_PHASE_TOTAL] = "total"};

    struct md_phase_totals sums = page->other_phases;

    if (version) {
        md_target_sum_phases(&version->target, &sums);
    }
    for (size_t i = 0; i < MD_PHASE_COUNT; i++) {
        append_histogram(page, family, version, phases[i], sums.buckets[i], sums.sum_ns[i]);
    }
}

static void append_batches(struct md_bytes *text, const struct family *family,
                           const struct md_version *version)
{
    uint64_t count, input_ns, infer_ns, output_ns;

    for (size_t size = 1; version && size <= version->target.batch_sizes; size++) {
        if (md_target_sum_batch(&version->target, size, &count, &input_ns, &infer_ns, &output_ns)) {
            md_bytes_append_c(text, family->name);
            append_labels(text, version);
            md_bytes_printf(text, ",batch_size=\"%zu\"} %llu\n", size, (unsigned long long)count);
        }
    }
}

static void append_starts(struct md_bytes *text, const struct family *family,
                          const struct md_version *version, const struct md_target_totals *t)
{
    for (size_t i = 0; i < MD_START_COUNT; i++) {
        if (t->starts[i]) {
            md_bytes_append_c(text, family->name);
            append_labels(text, version);
            md_bytes_printf(text, ",reason=\"%s\"} %llu\n", md_start_name((enum md_start)i),
                            (unsigned long long)t->starts[i]);
        }
    }
}

static bool has_run(const struct md_target_totals *t)
{
    return t->device_ns || t->out_of_service || t->queue_bytes;
}

static void append_instances(struct md_bytes *text, const struct family *family,
                             const struct md_version *version, const struct md_target_totals *t)
{
    const struct {
        const char *state;
        uint32_t count;
    } states[] = {{"in_service", t->instances - t->out_of_service},
                  {"out_of_service", t->out_of_service}};

    for (size_t i = 0; i < MD_COUNT_OF(states); i++) {
        md_bytes_append_c(text, family->name);
        append_labels(text, version);
        md_bytes_printf(text, ",state=\"%s\"} %u\n", states[i].state, states[i].count);
    }
}

static void append_learned_one(struct md_bytes *text, const struct family *family,
                               const struct md_version *version, size_t instance, uint32_t rows,
                               const struct md_learned_time *time)
{
    const struct {
        const char *estimate;
        uint64_t ns;
    } values[] = {{"mean", md_learned_time_mean(time, rows)},
                  {"high", md_learned_time_high(time, rows)}};

    for (size_t i = 0; i < MD_COUNT_OF(values); i++) {
        md_bytes_append_c(text, family->name);
        append_labels(text, version);
        md_bytes_printf(text, ",instance=\"%zu\",batch_size=\"%u\",estimate=\"%s\"} ", instance,
                        rows, values[i].estimate);
        append_number(text, (double)values[i].ns / MD_NS_PER_S);
    }
}

static void append_learned(struct md_bytes *text, const struct family *family,
                           const struct md_version *version, const struct md_target_totals *t)
{
    struct md_learned_time time;

    for (size_t i = 0; version && i < t->instances; i++) {
        struct md_target *target = &((struct md_version *)(uintptr_t)version)->target;
        if (!md_target_learned(target, i, &time)) {
            continue;
        }
        for (uint32_t rows = 1; rows <= MD_LEARNED_SIZES; rows++) {
            if (time.sizes[rows].count) {
                append_learned_one(text, family, version, i, rows, &time);
            }
        }
    }
}

/* Whether a setting `name=value` has that name. */
static bool setting_value(const char *setting, const char *name, struct md_str *value)
{
    struct md_str key;

    *value = md_str_of(setting);
    return md_str_split(value, '=', &key) && md_str_eq_c(key, name);
}

static bool wants_detail(const struct page *page, const struct md_version *version,
                         const struct md_target_totals *t)
{
    const struct md_string_list *config = page->metrics->config;
    bool wanted = page->metrics->all_detailed || !version;

    for (size_t i = 0; i < config->count && !wanted; i++) {
        struct md_str value;
        wanted = setting_value(config->items[i], "detail", &value) &&
                 md_str_glob(version->model->name, value);
    }
    return wanted && t->success.count + t->fail.count > 0;
}

static void append_sample(struct page *page, const struct family *family,
                          const struct md_version *version, const struct md_target_totals *t)
{
    struct md_bytes *text = page->text;

    const bool is_idle = !has_run(t);

    if (is_idle && (family->shape == SHAPE_USED || family->shape == SHAPE_INSTANCES)) {
        return;
    }
    switch (family->shape) {
    case SHAPE_VALUE:
    case SHAPE_LATENCY:
    case SHAPE_USED:
        md_bytes_append_c(text, family->name);
        append_labels(text, version);
        md_bytes_append_c(text, "} ");
        append_number(text, family->value(version, t));
        break;
    case SHAPE_FAILURES:
        append_failures(text, family, version, t);
        break;
    case SHAPE_BATCHES:
        append_batches(text, family, version);
        break;
    case SHAPE_STARTS:
        append_starts(text, family, version, t);
        break;
    case SHAPE_INSTANCES:
        append_instances(text, family, version, t);
        break;
    case SHAPE_LEARNED:
        append_learned(text, family, version, t);
        break;
    case SHAPE_HISTOGRAMS:
        if (wants_detail(page, version, t)) {
            append_histograms(page, family, version);
        }
        break;
    }
}

static void append_head(struct md_bytes *text, const char *name, const char *type, const char *help)
{
    md_bytes_printf(text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* --- what concerns the process -------------------- */

static void append_plain(struct md_bytes *text, const char *name, const char *type,
                         const char *help, double value)
{
    append_head(text, name, type, help);
    md_bytes_printf(text, "%s ", name);
    append_number(text, value);
}

static uint64_t sum_http(const struct md_metrics *metrics, size_t offset)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < metrics->loop_count; i++) {
        sum += md_counter_read(
            (const _Atomic uint64_t *)(const void *)((const char *)&metrics->http[i] + offset));
    }
    return sum;
}

static void append_connections(struct md_bytes *text, const struct md_metrics *metrics)
{
    double open = 0, accepted = 0;

    for (size_t i = 0; i < MD_COUNT_OF(metrics->listeners); i++) {
        if (metrics->listeners[i]) {
            open += (double)md_listener_open_count(metrics->listeners[i]);
            accepted += (double)md_listener_accepted_count(metrics->listeners[i]);
        }
    }
    append_plain(text, "modeld_http_connections", "gauge", "Open connections", open);
    append_plain(text, "modeld_http_connections_accepted_total", "counter", "Connections accepted",
                 accepted);
}

static void append_http(struct md_bytes *text, const struct md_metrics *metrics)
{
#define HTTP_SUM(field) (double)sum_http(metrics, offsetof(struct md_http_counters, field))
    append_plain(text, "modeld_http_requests_total", "counter", "HTTP requests",
                 HTTP_SUM(requests));
    append_plain(text, "modeld_http_received_bytes_total", "counter", "Bytes received",
                 HTTP_SUM(received_bytes));
    append_plain(text, "modeld_http_sent_bytes_total", "counter", "Bytes sent",
                 HTTP_SUM(sent_bytes));
#undef HTTP_SUM
    append_head(text, "modeld_http_responses_total", "counter",
                "HTTP responses by class of status");
    for (size_t i = 2; i < 6; i++) {
        md_bytes_printf(text, "modeld_http_responses_total{status=\"%zuxx\"} %llu\n", i,
                        (unsigned long long)sum_http(
                            metrics, offsetof(struct md_http_counters, responses) + i * 8));
    }
    append_head(text, "modeld_http_refused_total", "counter",
                "Requests that HTTP itself refused, by cause");
    for (unsigned i = 0; md_http_refusal_name(i); i++) {
        md_bytes_printf(text, "modeld_http_refused_total{cause=\"%s\"} %llu\n",
                        md_http_refusal_name(i),
                        (unsigned long long)sum_http(
                            metrics, offsetof(struct md_http_counters, refused) + i * 8));
    }
    append_connections(text, metrics);
}

/* Ends of calls, by their status; statuses that never were have no line. */
static void append_grpc(struct md_bytes *text, const struct md_metrics *metrics)
{
    append_head(text, "modeld_grpc_calls_total", "counter",
                "gRPC calls that have ended, by status");
    for (unsigned code = 0; md_code_name((enum md_code)code); code++) {
        uint64_t count =
            sum_http(metrics, offsetof(struct md_http_counters, grpc_statuses) + code * 8);
        if (count || code == MD_CODE_OK) {
            md_bytes_printf(text, "modeld_grpc_calls_total{code=\"%s\"} %llu\n",
                            md_code_name((enum md_code)code), (unsigned long long)count);
        }
    }
}

static void append_traces(struct md_bytes *text, const struct md_tracer *tracer)
{
    struct md_trace_counters counters;

    md_tracer_count(tracer, &counters);
    append_plain(text, "modeld_trace_spans_exported_total", "counter",
                 "Spans that the receiver has taken", (double)counters.exported);
    append_head(text, "modeld_trace_spans_dropped_total", "counter",
                "Spans that nobody has, by cause");
    md_bytes_printf(text, "modeld_trace_spans_dropped_total{cause=\"queue_full\"} %llu\n",
                    (unsigned long long)counters.dropped_full);
    md_bytes_printf(text, "modeld_trace_spans_dropped_total{cause=\"export\"} %llu\n",
                    (unsigned long long)counters.dropped_failed);
    append_plain(text, "modeld_trace_export_failures_total", "counter",
                 "Batches of spans that were not taken, each try", (double)counters.failures);
}

static void append_machine(struct page *page)
{
    struct md_metrics *metrics = page->metrics;
    struct md_bytes *text = page->text;
    struct md_os_machine_usage usage;

    md_os_machine_usage(&usage);
    const uint64_t busy = usage.cpu_busy - atomic_exchange(&metrics->cpu_busy, usage.cpu_busy);
    const uint64_t total = usage.cpu_total - atomic_exchange(&metrics->cpu_total, usage.cpu_total);
    append_plain(text, "nv_cpu_utilization", "gauge",
                 "Part of the machine's CPU time that was in use since the page before",
                 total && busy <= total ? (double)busy / (double)total : 0);
    append_plain(text, "nv_cpu_memory_total_bytes", "gauge", "Memory of the machine",
                 (double)usage.memory_total_bytes);
    append_plain(text, "nv_cpu_memory_used_bytes", "gauge", "What of it is in use",
                 (double)usage.memory_used_bytes);
}

static void append_process(struct page *page)
{
    const struct md_metrics *metrics = page->metrics;
    struct md_bytes *text = page->text;
    struct md_os_process_usage usage;

    if (metrics->has_machine) {
        append_machine(page);
    }
    append_http(text, metrics);
    append_grpc(text, metrics);
    if (metrics->tracer) {
        append_traces(text, metrics->tracer);
    }
    append_plain(
        text, "modeld_inflight_bytes", "gauge", "Bytes of bodies and answers that are counted",
        (double)atomic_load(&((struct md_budget *)(uintptr_t)metrics->budget)->used_bytes));
    append_plain(text, "modeld_inflight_limit_bytes", "gauge", "Bound on them",
                 (double)metrics->budget->limit_bytes);
    append_head(text, "modeld_build_info", "gauge", "Version of the server");
    md_bytes_printf(text, "modeld_build_info{version=\"%s\"} 1\n", metrics->version);
    md_os_process_usage(&usage);
    append_plain(text, "process_cpu_seconds_total", "counter", "CPU time of the process",
                 usage.cpu_seconds);
    append_plain(text, "process_resident_memory_bytes", "gauge", "Resident memory",
                 (double)usage.resident_bytes);
    append_plain(text, "process_virtual_memory_bytes", "gauge", "Address space",
                 (double)usage.virtual_bytes);
    append_plain(text, "process_open_fds", "gauge", "Open file descriptors",
                 (double)usage.open_descriptors);
    append_plain(text, "process_max_fds", "gauge", "Limit on file descriptors",
                 (double)usage.max_descriptors);
    append_plain(text, "process_threads", "gauge", "Threads", (double)usage.threads);
    append_plain(text, "process_start_time_seconds", "gauge", "Start, in seconds since 1970",
                 usage.start_time_seconds);
}

/* --- slices -------------------- */

/* Prints the next version of the current family; false when the family has ended. */
static bool next_sample(struct page *page)
{
    const struct md_models *models = page->metrics->models;
    const struct family *family = &families[page->family];
    const size_t limit = shown_models(page->metrics);

    while (page->model < limit) {
        const struct md_model *model = md_models_at(models, page->model);
        if (page->version == model->version_count) {
            page->model++;
            page->version = 0;
            continue;
        }
        const struct md_version *version = &model->versions[page->version++];
        struct md_target_totals *totals = &page->totals[page->total_at++];
        if (is_shown(version)) {
            if (page->family == 0) {
                md_target_sum(&version->target, totals);
            }
            append_sample(page, family, version, totals);
            return true;
        }
    }
    if (page->has_other && page->model == limit) {
        page->model++;
        append_sample(page, family, NULL, &page->other);
        return true;
    }
    return false;
}

static bool fill(void *arg, struct md_bytes *out)
{
    struct page *page = arg;

    page->text = out;
    if (!page->printed_process) {
        page->printed_process = true;
        append_process(page);
    }
    while (page->family < MD_COUNT_OF(families)) {
        const struct family *family = &families[page->family];
        const bool is_left_out = family->shape == SHAPE_LATENCY && !page->metrics->has_latencies;
        if (!page->began_family && !is_left_out) {
            page->began_family = true;
            append_head(page->text, family->name, family->type, family->help);
        }
        while (!is_left_out && next_sample(page)) {
            if (page->text->len > MD_PAGE_SLICE_BYTES) {
                return true;
            }
        }
        page->family++;
        page->model = page->version = page->total_at = 0;
        page->began_family = false;
    }
    return false;
}

static void free_page(void *arg)
{
    struct page *page = arg;

    md_bytes_deinit(&page->labels);
    md_free(page->totals);
}

static void print_bounds(struct page *page)
{
    for (size_t i = 0; i < MD_HISTOGRAM_BUCKETS; i++) {
        (void)snprintf(page->bounds[i], sizeof page->bounds[i], "%g",
                       (double)md_histogram_bounds_ns[i] / 1e9);
    }
    memcpy(page->bounds[MD_HISTOGRAM_BUCKETS], "+Inf", sizeof "+Inf");
}

static bool make_totals(struct page *page, const struct md_metrics *metrics)
{
    size_t count = 0;

    for (size_t i = 0; i < shown_models(metrics); i++) {
        count += md_models_at(metrics->models, i)->version_count;
    }
    page->totals = md_calloc(count + 1, sizeof *page->totals);
    return page->totals;
}

static void get_metrics(struct md_exchange *x)
{
    const struct md_http_response failed = {.status = 503};
    const struct md_http_response response = {.status = 200,
                                              .content_type =
                                                  "text/plain; version=0.0.4; charset=utf-8",
                                              .may_compress = true};
    struct page *page = md_arena_calloc(&x->arena, 1, sizeof *page);

    if (!page || !md_arena_on_reset(&x->arena, free_page, page) ||
        !make_totals(page, x->route_data)) {
        md_exchange_respond(x, &failed);
        return;
    }
    page->metrics = (struct md_metrics *)(uintptr_t)x->route_data;
    print_bounds(page);
    sum_others(page);
    md_page_respond(x, &response, fill, page);
}

static void refuse(struct md_exchange *x)
{
    const bool is_page = md_str_eq_c(x->head.path, "/metrics");
    const struct md_http_response response = {.status = is_page ? 405 : 404,
                                              .content_type = "text/plain"};

    x->allow = "GET, HEAD";
    md_exchange_respond(x, &response);
}

void md_metrics_route(void *arg, struct md_exchange *x)
{
    static const struct md_http_handler page_handler = {.on_request = get_metrics,
                                                        .on_cancel = md_page_on_cancel};
    static const struct md_http_handler other_handler = {.on_request = refuse};
    bool is_page = md_str_eq_c(x->head.path, "/metrics") &&
                   (x->head.method == MD_HTTP_GET || x->head.method == MD_HTTP_HEAD);

    x->route_data = arg;
    x->handler = is_page ? &page_handler : &other_handler;
}

/* --- settings -------------------- */

void md_metrics_configure(struct md_metrics *metrics, const struct md_options *options)
{
    struct md_os_machine_usage usage;

    metrics->config = &options->metrics_config;
    metrics->max_models = MAX_MODELS_DEFAULT;
    metrics->all_detailed = metrics->has_latencies = true;
    metrics->has_machine = options->allow_cpu_metrics;
    md_os_machine_usage(&usage);
    metrics->cpu_busy = usage.cpu_busy;
    metrics->cpu_total = usage.cpu_total;
    for (size_t i = 0; i < metrics->config->count; i++) {
        const char *setting = metrics->config->items[i];
        struct md_str value;
        uint64_t number;
        if (setting_value(setting, "max_models", &value) && md_str_to_u64(value, &number)) {
            metrics->max_models = number;
        } else if (setting_value(setting, "detail", &value)) {
            metrics->all_detailed = false;
        } else if (setting_value(setting, "counter_latencies", &value)) {
            metrics->has_latencies = md_str_eq_c(value, "true");
        }
    }
}
