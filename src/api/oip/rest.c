/*
 * Routes and the endpoints that are no inference.
 */
#include "api/access/management.h"
#include "api/oip/infer.h"
#include "api/oip/reply.h"
#include "base/clock.h"
#include "http/page.h"
#include "http/router.h"
#include "os/log_file.h"

/* --- health -------------------- */

static const struct md_oip *oip_of(const struct md_exchange *x)
{
    return x->route_data;
}

static void get_live(struct md_exchange *x)
{
    const struct md_oip *oip = oip_of(x);

    md_oip_reply_empty(x, oip->is_live(oip->server) ? 200 : 503);
}

static void get_ready(struct md_exchange *x)
{
    const struct md_oip *oip = oip_of(x);

    if (oip->is_exiting(oip->server)) {
        md_oip_reply_sentence(x, 503, "Server exiting");
    } else {
        md_oip_reply_empty(
            x, oip->is_ready(oip->server) ? 200 : (unsigned)oip->options->not_ready_status);
    }
}

static void drain(struct md_exchange *x)
{
    const struct md_oip *oip = oip_of(x);
    struct md_error err;

    if (!md_management_allows(oip->options, x, &err)) {
        md_oip_reply_error(x, &err);
        return;
    }
    oip->drain(oip->server);
    md_oip_reply_empty(x, 200);
}

/* --- server metadata -------------------- */

static void get_server(struct md_exchange *x)
{
    static const char *const extensions[] = {"classification",     "model_configuration",
                                             "binary_tensor_data", "parameters",
                                             "statistics",         "logging"};
    const struct md_oip *oip = oip_of(x);
    struct md_bytes text = {0};

    md_bytes_append_c(&text, "{\"name\":");
    md_json_append_string(&text, md_str_of(oip->options->id));
    md_bytes_append_c(&text, ",\"version\":");
    md_json_append_string(&text, md_str_of(oip->version));
    md_bytes_append_c(&text, ",\"extensions\":[");
    for (size_t i = 0; i < MD_COUNT_OF(extensions); i++) {
        md_bytes_printf(&text, "%s\"%s\"", i ? "," : "", extensions[i]);
    }
    md_bytes_append_c(&text, "]}");
    md_oip_reply_json(x, 200, &text);
}

/* --- models -------------------- */

/* The version of the path, or an answered error. */
static struct md_version *resolve(struct md_exchange *x)
{
    struct md_error err;
    struct md_version *version =
        md_models_resolve(oip_of(x)->models, x->captures[0], x->captures[1], &err);

    if (!version) {
        md_oip_reply_error(x, &err);
        return NULL;
    }
    x->log.model = version->model->name.ptr;
    x->log.version = version->number;
    return version;
}

static void append_tensors(struct md_bytes *text, const struct md_tensor_spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        md_bytes_append_c(text, i ? ",{\"name\":" : "{\"name\":");
        md_json_append_string(text, specs[i].name);
        md_bytes_printf(text, ",\"datatype\":\"%s\",\"shape\":", md_dtype_name(specs[i].dtype));
        md_shape_print(specs[i].shape, specs[i].rank, text);
        md_bytes_append_char(text, '}');
    }
}

static bool is_ready(const struct md_version *version)
{
    return atomic_load(&((struct md_version *)(uintptr_t)version)->state) == MD_VERSION_READY;
}

static void get_model(struct md_exchange *x)
{
    const struct md_version *version = resolve(x);
    struct md_bytes text = {0};
    bool first = true;

    if (!version) {
        return;
    }
    const struct md_target *target = &version->target;
    md_bytes_append_c(&text, "{\"name\":");
    md_json_append_string(&text, target->model_name);
    md_bytes_append_c(&text, ",\"versions\":[");
    for (size_t i = 0; i < version->model->version_count; i++) {
        const struct md_version *other = &version->model->versions[i];
        bool named = x->captures[1].len ? other == version : is_ready(other);
        if (named) {
            md_bytes_printf(&text, "%s\"%lld\"", first ? "" : ",", (long long)other->number);
            first = false;
        }
    }
    md_bytes_append_c(&text, "],\"platform\":");
    md_json_append_string(&text, target->platform);
    md_bytes_append_c(&text, ",\"inputs\":[");
    append_tensors(&text, target->inputs, target->input_count);
    md_bytes_append_c(&text, "],\"outputs\":[");
    append_tensors(&text, target->outputs, target->output_count);
    md_bytes_append_c(&text, "]}");
    md_oip_reply_json(x, 200, &text);
}

static void get_model_ready(struct md_exchange *x)
{
    const struct md_oip *oip = oip_of(x);
    struct md_error err;

    if (md_models_resolve(oip->models, x->captures[0], x->captures[1], &err)) {
        md_oip_reply_empty(x, 200);
    } else if (err.reason == MD_REASON_NOT_READY ||
               (x->captures[1].len == 0 && md_models_find(oip->models, x->captures[0]))) {
        md_oip_reply_sentence(x, (unsigned)oip->options->not_ready_status,
                              "Model version not ready");
    } else {
        md_oip_reply_error(x, &err);
    }
}

static void get_config(struct md_exchange *x)
{
    const struct md_version *version = resolve(x);
    struct md_bytes text = {0};

    if (version) {
        md_bytes_append_str(&text, version->config_json);
        md_oip_reply_json(x, 200, &text);
    }
}

/* --- pages over all models -------------------- */

struct walk {
    const char *open, *close;
    void (*append)(struct walk *walk, const struct md_model *model, struct md_bytes *out);
    bool ready_only;
    const struct md_models *models;
    size_t at;
    bool began, has_entries;
};

static void append_comma(struct walk *walk, struct md_bytes *out)
{
    md_bytes_append_c(out, walk->has_entries ? "," : "");
    walk->has_entries = true;
}

static bool fill_walk(void *arg, struct md_bytes *out)
{
    struct walk *walk = arg;

    md_bytes_append_c(out, walk->began ? "" : walk->open);
    walk->began = true;
    while (walk->at < md_models_count(walk->models)) {
        if (out->len > MD_PAGE_SLICE_BYTES) {
            return true;
        }
        walk->append(walk, md_models_at(walk->models, walk->at++), out);
    }
    md_bytes_append_c(out, walk->close);
    return false;
}

static void reply_walk(struct md_exchange *x, const struct walk *begin)
{
    const struct md_http_response response = {.status = 200, .content_type = "application/json"};
    struct walk *walk = md_arena_alloc(&x->arena, sizeof *walk);
    struct md_error err;

    if (!walk) {
        (void)md_error_no_memory(&err, "the answer");
        md_oip_reply_error(x, &err);
        return;
    }
    *walk = *begin;
    walk->models = oip_of(x)->models;
    md_page_respond(x, &response, fill_walk, walk);
}

/* --- statistics -------------------- */

static void append_duration(struct md_bytes *text, const char *name, uint64_t count, uint64_t ns)
{
    md_bytes_printf(text, "\"%s\":{\"count\":%llu,\"ns\":%llu}", name, (unsigned long long)count,
                    (unsigned long long)ns);
}

static void append_batches(struct md_bytes *text, const struct md_target *target)
{
    bool first = true;

    for (size_t size = 1; size <= MD_BATCH_SIZES; size++) {
        uint64_t count, input_ns, infer_ns, output_ns;
        if (!md_target_sum_batch(target, size, &count, &input_ns, &infer_ns, &output_ns)) {
            continue;
        }
        md_bytes_printf(text, "%s{\"batch_size\":%zu,", first ? "" : ",", size);
        append_duration(text, "compute_input", count, input_ns);
        md_bytes_append_char(text, ',');
        append_duration(text, "compute_infer", count, infer_ns);
        md_bytes_append_char(text, ',');
        append_duration(text, "compute_output", count, output_ns);
        md_bytes_append_char(text, '}');
        first = false;
    }
}

/* When it was by the wall clock; 0 stays 0, for never. */
static uint64_t since_1970_ms(uint64_t monotonic_ns)
{
    uint64_t ago_ns = md_clock_monotonic_ns() - monotonic_ns;

    return monotonic_ns ? (md_clock_realtime_ns() - ago_ns) / MD_NS_PER_MS : 0;
}

static void append_stats(struct md_bytes *text, const struct md_version *version)
{
    struct md_target_totals t;

    md_target_sum(&version->target, &t);
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, version->model->name);
    md_bytes_printf(
        text,
        ",\"version\":\"%lld\",\"last_inference\":%llu,\"inference_count\":%llu,\"execution_count\":%llu,"
        "\"inference_stats\":{",
        (long long)version->number, (unsigned long long)since_1970_ms(t.last_inference_ns),
        (unsigned long long)t.inference_count, (unsigned long long)t.execution_count);
    const struct {
        const char *name;
        uint64_t count, ns;
    } rows[] = {
        {"success", t.success.count, t.success.ns},
        {"fail", t.fail.count, t.fail.ns},
        {"queue", t.success.count, t.queue_ns},
        {"compute_input", t.success.count, t.compute_input_ns},
        {"compute_infer", t.success.count, t.compute_infer_ns},
        {"compute_output", t.success.count, t.compute_output_ns},
        {"cache_hit", 0, 0},
        {"cache_miss", 0, 0},
    };
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        if (i) {
            md_bytes_append_char(text, ',');
        }
        append_duration(text, rows[i].name, rows[i].count, rows[i].ns);
    }
    md_bytes_append_c(text, "},\"response_stats\":{},\"batch_stats\":[");
    append_batches(text, &version->target);
    md_bytes_append_c(text, "],\"memory_usage\":[");
    uint64_t memory = atomic_load(&((struct md_version *)(uintptr_t)version)->memory_bytes);
    if (memory) {
        md_bytes_printf(text, "{\"type\":\"CPU\",\"id\":0,\"byte_size\":%llu}",
                        (unsigned long long)memory);
    }
    md_bytes_append_c(text, "]}");
}

/* The field has sentences and a status of its own for those. */
static void refuse_stats(struct md_exchange *x)
{
    struct md_error err;
    const bool served =
        md_models_resolve(oip_of(x)->models, x->captures[0], MD_STR(""), &err) != NULL;

    (void)md_error_set(&err, MD_REASON_INVALID_ARGUMENT,
                       served ? "requested model version is not available for model '%s'"
                              : "requested model '%s' is not available",
                       x->captures[0].ptr);
    md_oip_reply_error(x, &err);
}

static void get_stats(struct md_exchange *x)
{
    struct md_error err;
    const struct md_version *version =
        md_models_resolve(oip_of(x)->models, x->captures[0], x->captures[1], &err);
    struct md_bytes text = {0};
    bool first = true;

    if (!version) {
        refuse_stats(x);
        return;
    }
    md_bytes_append_c(&text, "{\"model_stats\":[");
    for (size_t i = 0; i < version->model->version_count; i++) {
        const struct md_version *other = &version->model->versions[i];
        if (x->captures[1].len ? other == version : is_ready(other)) {
            md_bytes_append_c(&text, first ? "" : ",");
            append_stats(&text, other);
            first = false;
        }
    }
    md_bytes_append_c(&text, "]}");
    md_oip_reply_json(x, 200, &text);
}

static void append_model_stats(struct walk *walk, const struct md_model *model,
                               struct md_bytes *out)
{
    for (size_t k = 0; k < model->version_count; k++) {
        if (is_ready(&model->versions[k])) {
            append_comma(walk, out);
            append_stats(out, &model->versions[k]);
        }
    }
}

static void get_all_stats(struct md_exchange *x)
{
    reply_walk(x, &(const struct walk){
                      .open = "{\"model_stats\":[", .close = "]}", .append = append_model_stats});
}

/* --- repository index -------------------- */

static void append_entry(struct md_bytes *text, struct md_str name, int64_t version,
                         const char *state, const char *reason)
{
    md_bytes_append_c(text, "{\"name\":");
    md_json_append_string(text, name);
    if (*state) {
        if (version) {
            md_bytes_printf(text, ",\"version\":\"%lld\"", (long long)version);
        }
        md_bytes_printf(text, ",\"state\":\"%s\"", state);
    }
    if (*reason) {
        md_bytes_append_c(text, ",\"reason\":");
        md_json_append_string(text, md_str_of(reason));
    }
    md_bytes_append_char(text, '}');
}

static bool wants_ready_only(struct md_exchange *x, bool *ready, struct md_error *err)
{
    struct md_json json;

    *ready = false;
    if (!x->body.len) {
        return true;
    }
    md_json_init(&json, x->body, &x->arena, 16);
    if (md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        return md_error_set(err, MD_REASON_MALFORMED, "the request must be a JSON object");
    }
    while (md_json_next(&json) == MD_JSON_KEY) {
        bool is_ready_key = md_str_eq_c(json.text, "ready");
        enum md_json_token token = is_ready_key ? md_json_next(&json) : MD_JSON_NULL;
        if (is_ready_key && token != MD_JSON_TRUE && token != MD_JSON_FALSE) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'ready' must be a boolean");
        }
        *ready |= token == MD_JSON_TRUE;
        if (!is_ready_key && !md_json_skip(&json)) {
            break;
        }
    }
    if (json.failed || md_json_next(&json) != MD_JSON_END) {
        *err = json.error;
        return false;
    }
    return true;
}

static void append_versions(struct walk *walk, const struct md_model *model, struct md_bytes *out)
{
    for (size_t k = 0; k < model->version_count; k++) {
        const struct md_version *version = &model->versions[k];
        enum md_version_state state =
            (enum md_version_state)atomic_load(&((struct md_version *)(uintptr_t)version)->state);
        if (!walk->ready_only || state == MD_VERSION_READY) {
            append_comma(walk, out);
            append_entry(out, model->name, version->number, md_version_state_name(state),
                         version->reason);
        }
    }
}

static void append_model_entries(struct walk *walk, const struct md_model *model,
                                 struct md_bytes *out)
{
    const bool is_unavailable = *model->reason != '\0';
    const size_t count = model->version_count;

    if (!is_unavailable && model->is_wanted) {
        append_versions(walk, model, out);
    } else if (!walk->ready_only) {
        append_comma(walk, out);
        append_entry(out, model->name, count ? model->versions[count - 1].number : 0,
                     is_unavailable ? "UNAVAILABLE" : "", model->reason);
    }
}

static void post_index(struct md_exchange *x)
{
    struct walk walk = {.open = "[", .close = "]", .append = append_model_entries};
    struct md_error err;

    if (wants_ready_only(x, &walk.ready_only, &err)) {
        reply_walk(x, &walk);
    } else {
        md_oip_reply_error(x, &err);
    }
}

/* --- logging -------------------- */

static const struct {
    const char *name;
    enum md_log_level level;
} log_switches[] = {
    {"log_info", MD_LOG_INFO}, {"log_warning", MD_LOG_WARNING}, {"log_error", MD_LOG_ERROR}};

static void reply_log_settings(struct md_exchange *x)
{
    const struct md_options *options = oip_of(x)->options;
    struct md_bytes text = {0};

    md_bytes_append_c(&text, "{\"log_file\":");
    md_json_append_string(&text, md_str_of(options->log_file));
    for (size_t i = 0; i < MD_COUNT_OF(log_switches); i++) {
        md_bytes_printf(&text, ",\"%s\":%s", log_switches[i].name,
                        md_log_is_enabled(log_switches[i].level) ? "true" : "false");
    }
    md_bytes_printf(&text, ",\"log_verbose_level\":%u,\"log_format\":\"%s\"}", md_log_verbosity(),
                    md_os_log_format_name(md_os_log_format()));
    md_oip_reply_json(x, 200, &text);
}

/* What a request asks for; nothing changes before all of it has been read. */
struct log_change {
    bool enabled[MD_COUNT_OF(log_switches)];
    unsigned verbosity;
    enum md_log_format format;
};

static void read_log_settings(struct log_change *change)
{
    for (size_t i = 0; i < MD_COUNT_OF(log_switches); i++) {
        change->enabled[i] = md_log_is_enabled(log_switches[i].level);
    }
    change->verbosity = md_log_verbosity();
    change->format = md_os_log_format();
}

static void apply_log_settings(const struct log_change *change)
{
    for (size_t i = 0; i < MD_COUNT_OF(log_switches); i++) {
        md_log_set_enabled(log_switches[i].level, change->enabled[i]);
    }
    md_log_set_verbosity(change->verbosity);
    md_os_log_set_format(change->format);
}

static bool take_verbosity(const struct md_json *json, enum md_json_token token,
                           struct log_change *change, struct md_error *err)
{
    uint64_t level;

    if (token != MD_JSON_NUMBER || !md_json_to_u64(json->text, &level) || level > UINT32_MAX) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "'log_verbose_level' must be a natural number");
    }
    change->verbosity = (unsigned)level;
    return true;
}

static bool take_format(const struct md_json *json, enum md_json_token token,
                        struct log_change *change, struct md_error *err)
{
    if (token != MD_JSON_STRING) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'log_format' must be a string");
    }
    return md_os_log_format_find(json->text, &change->format) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "invalid argument for --log_format, got: %.*s", MD_STR_ARG(json->text));
}

static bool take_log_setting(struct md_json *json, struct md_str key, struct log_change *change,
                             struct md_error *err)
{
    enum md_json_token token = md_json_next(json);

    if (json->failed || token == MD_JSON_NULL) { /* null: as it is */
        return true;
    }
    for (size_t i = 0; i < MD_COUNT_OF(log_switches); i++) {
        if (md_str_eq_c(key, log_switches[i].name)) {
            change->enabled[i] = token == MD_JSON_TRUE;
            return token == MD_JSON_TRUE || token == MD_JSON_FALSE ||
                   md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'%s' must be a boolean",
                                log_switches[i].name);
        }
    }
    if (md_str_eq_c(key, "log_verbose_level")) {
        return take_verbosity(json, token, change, err);
    }
    if (md_str_eq_c(key, "log_format")) {
        return take_format(json, token, change, err);
    }
    if (md_str_eq_c(key, "log_file")) {
        return md_error_set(err, MD_REASON_UNSUPPORTED,
                            "log file location can not be updated through network protocol");
    }
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "unknown log setting '%.*s'",
                        MD_STR_ARG(key));
}

static void post_logging(struct md_exchange *x)
{
    struct log_change change;
    struct md_json json;
    struct md_error err;
    bool ok = true;

    if (!md_management_allows(oip_of(x)->options, x, &err)) {
        md_oip_reply_error(x, &err);
        return;
    }
    md_json_init(&json, x->body, &x->arena, 16);
    if (md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        md_oip_reply_sentence(x, 400, "the request must be a JSON object");
        return;
    }
    read_log_settings(&change);
    while (ok && md_json_next(&json) == MD_JSON_KEY) {
        ok = take_log_setting(&json, json.text, &change, &err);
    }
    if (ok && !json.failed && md_json_next(&json) != MD_JSON_END) {
        ok = md_json_fail(&json, "nothing may follow the settings");
    }
    if (json.failed || !ok) {
        md_oip_reply_error(x, json.failed ? &json.error : &err);
    } else {
        apply_log_settings(&change);
        reply_log_settings(x);
    }
}

/* --- routes -------------------- */

static void not_found(struct md_exchange *x)
{
    md_oip_reply_sentence(x, 404, "Not Found");
}

static void no_memory(struct md_exchange *x)
{
    struct md_error err;

    (void)md_error_no_memory(&err, "a request");
    md_oip_reply_error(x, &err);
}

static void wrong_method(struct md_exchange *x)
{
    md_oip_reply_sentence(x, 405, "Method Not Allowed");
}

static void no_load(struct md_exchange *x)
{
    md_oip_reply_sentence(
        x, 501,
        "models are loaded at start for now: restart the server with --load-model to change them");
}

static void no_repository(struct md_exchange *x)
{
    md_oip_reply_sentence(x, 501, "'repository_name' specification is not supported");
}

static void no_generate(struct md_exchange *x)
{
    md_oip_reply_sentence(
        x, 501, "the generate extension is not implemented yet: send tensors to .../infer");
}

static void no_shared_memory(struct md_exchange *x)
{
    md_oip_reply_sentence(
        x, 501, "shared memory is not implemented yet: send tensors as JSON or binary data");
}

static void no_trace(struct md_exchange *x)
{
    md_oip_reply_sentence(
        x, 501, "traces are not implemented yet: the metrics page has histograms of each phase");
}

#define SIMPLE(name, function) static const struct md_http_handler name = {.on_request = function}
#define PAGE(name, function)                                            \
    static const struct md_http_handler name = {.on_request = function, \
                                                .on_cancel = md_page_on_cancel}
SIMPLE(live_handler, get_live);
SIMPLE(ready_handler, get_ready);
SIMPLE(drain_handler, drain);
SIMPLE(server_handler, get_server);
SIMPLE(model_handler, get_model);
SIMPLE(model_ready_handler, get_model_ready);
SIMPLE(config_handler, get_config);
SIMPLE(stats_handler, get_stats);
PAGE(all_stats_handler, get_all_stats);
PAGE(index_handler, post_index);
SIMPLE(get_logging_handler, reply_log_settings);
SIMPLE(post_logging_handler, post_logging);
SIMPLE(not_found_handler, not_found);
SIMPLE(wrong_method_handler, wrong_method);
SIMPLE(no_memory_handler, no_memory);
SIMPLE(no_load_handler, no_load);
SIMPLE(no_repository_handler, no_repository);
SIMPLE(no_generate_handler, no_generate);
SIMPLE(no_shared_memory_handler, no_shared_memory);
SIMPLE(no_trace_handler, no_trace);

enum { BOTH = MD_ROUTE_GET | MD_ROUTE_POST };

static const struct md_route routes[] = {
    {"/v2/models/{0}/infer", MD_ROUTE_POST, &md_oip_infer_handler, NULL},
    {"/v2/models/{0}/versions/{1}/infer", MD_ROUTE_POST, &md_oip_infer_handler, NULL},
    {"/v2/health/live", MD_ROUTE_GET, &live_handler, NULL},
    {"/v2/health/ready", MD_ROUTE_GET, &ready_handler, NULL},
    {"/v2", MD_ROUTE_GET, &server_handler, NULL},
    {"/v2/models/stats", MD_ROUTE_GET, &all_stats_handler, NULL},
    {"/v2/models/{0}", MD_ROUTE_GET, &model_handler, NULL},
    {"/v2/models/{0}/versions/{1}", MD_ROUTE_GET, &model_handler, NULL},
    {"/v2/models/{0}/ready", MD_ROUTE_GET, &model_ready_handler, NULL},
    {"/v2/models/{0}/versions/{1}/ready", MD_ROUTE_GET, &model_ready_handler, NULL},
    {"/v2/models/{0}/config", MD_ROUTE_GET, &config_handler, NULL},
    {"/v2/models/{0}/versions/{1}/config", MD_ROUTE_GET, &config_handler, NULL},
    {"/v2/models/{0}/stats", MD_ROUTE_GET, &stats_handler, NULL},
    {"/v2/models/{0}/versions/{1}/stats", MD_ROUTE_GET, &stats_handler, NULL},
    {"/v2/repository/index", MD_ROUTE_POST, &index_handler, NULL},
    {"/v2/repository/{0}/index", MD_ROUTE_POST, &index_handler, NULL},
    {"/v2/logging", MD_ROUTE_GET, &get_logging_handler, NULL},
    {"/v2/logging", MD_ROUTE_POST, &post_logging_handler, NULL},
    {"/v2/drain", BOTH, &drain_handler, NULL},
    {"/v2/repository/models/{0}/load", MD_ROUTE_POST, &no_load_handler, NULL},
    {"/v2/repository/models/{0}/unload", MD_ROUTE_POST, &no_load_handler, NULL},
    {"/v2/repository/{0}/models/{2}/load", MD_ROUTE_POST, &no_repository_handler, NULL},
    {"/v2/repository/{0}/models/{2}/unload", MD_ROUTE_POST, &no_repository_handler, NULL},
    {"/v2/models/{0}/generate", MD_ROUTE_POST, &no_generate_handler, NULL},
    {"/v2/models/{0}/generate_stream", MD_ROUTE_POST, &no_generate_handler, NULL},
    {"/v2/models/{0}/versions/{1}/generate", MD_ROUTE_POST, &no_generate_handler, NULL},
    {"/v2/models/{0}/versions/{1}/generate_stream", MD_ROUTE_POST, &no_generate_handler, NULL},
    {"/v2/systemsharedmemory/status", MD_ROUTE_GET, &no_shared_memory_handler, NULL},
    {"/v2/systemsharedmemory/unregister", MD_ROUTE_POST, &no_shared_memory_handler, NULL},
    {"/v2/systemsharedmemory/region/{0}/status", MD_ROUTE_GET, &no_shared_memory_handler, NULL},
    {"/v2/systemsharedmemory/region/{0}/register", MD_ROUTE_POST, &no_shared_memory_handler, NULL},
    {"/v2/systemsharedmemory/region/{0}/unregister", MD_ROUTE_POST, &no_shared_memory_handler,
     NULL},
    {"/v2/cudasharedmemory/status", MD_ROUTE_GET, &no_shared_memory_handler, NULL},
    {"/v2/cudasharedmemory/unregister", MD_ROUTE_POST, &no_shared_memory_handler, NULL},
    {"/v2/cudasharedmemory/region/{0}/status", MD_ROUTE_GET, &no_shared_memory_handler, NULL},
    {"/v2/cudasharedmemory/region/{0}/register", MD_ROUTE_POST, &no_shared_memory_handler, NULL},
    {"/v2/cudasharedmemory/region/{0}/unregister", MD_ROUTE_POST, &no_shared_memory_handler, NULL},
    {"/v2/trace/setting", BOTH, &no_trace_handler, NULL},
    {"/v2/models/{0}/trace/setting", BOTH, &no_trace_handler, NULL},
};

static bool is_digits(struct md_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
    }
    return true;
}

void md_oip_route(void *arg, struct md_exchange *x)
{
    enum md_route_match match = md_router_match(routes, MD_COUNT_OF(routes), x);

    x->route_data = arg;
    if (match == MD_ROUTE_FOUND && !is_digits(x->captures[1])) {
        match = MD_ROUTE_NOT_FOUND; /* the field's route takes digits alone */
    }
    if (match != MD_ROUTE_FOUND) {
        x->handler = match == MD_ROUTE_NOT_FOUND ? &not_found_handler : &wrong_method_handler;
    }
    if (md_arena_failed(&x->arena)) {
        x->handler = &no_memory_handler; /* not a path that does not exist */
    }
}
