/*
 * Routes; health, drain and metadata.
 */
#include "api/oip/endpoints.h"
#include "api/oip/grpc.h"
#include "api/oip/facts.h"
#include "api/oip/infer.h"
#include "api/oip/reply.h"
#include "http/page.h"
#include "http/router.h"

/* --- health -------------------- */

/* Of what is not so, the status tells. */
static void reply_health(struct md_exchange *x, bool is_so, unsigned status_if_not,
                         const char *document)
{
    struct md_bytes text = {0};

    if (is_so && md_oip_of(x)->options->health_body) {
        md_bytes_append_c(&text, document);
        md_oip_reply_json(x, 200, &text);
    } else {
        md_oip_reply_empty(x, is_so ? 200 : status_if_not);
    }
}

static void get_live(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);

    reply_health(x, oip->is_live(oip->server), 503, "{\"live\":true}");
}

static void get_ready(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);

    if (oip->is_exiting(oip->server)) {
        md_oip_reply_sentence(x, 503, "Server exiting");
    } else {
        reply_health(x, oip->is_ready(oip->server), (unsigned)oip->options->not_ready_status,
                     "{\"ready\":true}");
    }
}

static void drain(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);

    oip->drain(oip->server);
    md_oip_reply_empty(x, 200);
}

/* --- server metadata -------------------- */

const char *const md_oip_extensions[] = {
    "classification",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    NULL,
};
const char *const md_oip_shared_extensions[] = {"system_shared_memory", "cuda_shared_memory", NULL};

static void get_server(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);
    struct md_bytes text = {0};

    md_bytes_append_c(&text, "{\"name\":");
    md_json_append_string(&text, md_str_of(oip->options->id));
    md_bytes_append_c(&text, ",\"version\":");
    md_json_append_string(&text, md_str_of(oip->version));
    md_bytes_append_c(&text, ",\"extensions\":[");
    for (size_t i = 0; md_oip_extensions[i]; i++) {
        md_bytes_printf(&text, "%s\"%s\"", i ? "," : "", md_oip_extensions[i]);
    }
    for (size_t i = 0; oip->regions && md_oip_shared_extensions[i]; i++) {
        md_bytes_printf(&text, ",\"%s\"", md_oip_shared_extensions[i]);
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
        md_models_resolve(md_oip_of(x)->models, x->captures[0], x->captures[1], &err);

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
        bool named = x->captures[1].len ? other == version : md_version_is_ready(other);
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

bool md_oip_model_is_ready(const struct md_oip *oip, struct md_str name, struct md_str version,
                           bool *ready, struct md_error *err)
{
    const struct md_version *found = md_models_resolve(oip->models, name, version, err);

    *ready = found && !md_version_is_out_of_service(found);
    return found || err->reason == MD_REASON_NOT_READY ||
           (version.len == 0 && md_models_find(oip->models, name));
}

static void get_model_ready(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);
    struct md_error err;
    bool ready;

    if (!md_oip_model_is_ready(oip, x->captures[0], x->captures[1], &ready, &err)) {
        md_oip_reply_error(x, &err);
    } else if (ready) {
        md_oip_reply_empty(x, 200);
    } else {
        md_oip_reply_sentence(x, (unsigned)oip->options->not_ready_status,
                              "Model version not ready");
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

const char md_oip_no_load[] =
    "models are loaded at start for now: restart the server with --load-model to change them";

static void no_load(struct md_exchange *x)
{
    md_oip_reply_sentence(x, 501, md_oip_no_load);
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
SIMPLE(stats_handler, md_oip_get_statistics);
SIMPLE(batches_handler, md_oip_get_batches);
PAGE(all_stats_handler, md_oip_get_all_statistics);
PAGE(index_handler, md_oip_post_index);
SIMPLE(get_logging_handler, md_oip_get_logging);
SIMPLE(post_logging_handler, md_oip_post_logging);
SIMPLE(not_found_handler, not_found);
SIMPLE(wrong_method_handler, wrong_method);
SIMPLE(no_memory_handler, no_memory);
SIMPLE(no_load_handler, no_load);
SIMPLE(no_repository_handler, no_repository);
SIMPLE(no_generate_handler, no_generate);
SIMPLE(get_system_handler, md_oip_get_system);
SIMPLE(register_system_handler, md_oip_register_system);
SIMPLE(unregister_system_handler, md_oip_unregister_system);
SIMPLE(get_cuda_handler, md_oip_get_cuda);
SIMPLE(register_cuda_handler, md_oip_register_cuda);
SIMPLE(unregister_cuda_handler, md_oip_unregister_cuda);
SIMPLE(get_trace_handler, md_oip_get_trace_settings);
SIMPLE(post_trace_handler, md_oip_post_trace_settings);

enum { BOTH = MD_ROUTE_GET | MD_ROUTE_POST };

/* What a row says of its calls. */
struct api {
    enum md_api_group group;
    bool manages; /* changes the server */
};
#define EACH_GROUP(manages)                                                                  \
    {                                                                                        \
        {MD_API_HEALTH, manages}, {MD_API_METADATA, manages}, {MD_API_INFERENCE, manages},   \
            {MD_API_SHARED_MEMORY, manages}, {MD_API_MODEL_CONFIG, manages},                 \
            {MD_API_MODEL_REPOSITORY, manages}, {MD_API_STATISTICS, manages},                \
            {MD_API_TRACE, manages}, {MD_API_LOGGING, manages}, {MD_API_UNGROUPED, manages}, \
    }
static const struct api calling[] = EACH_GROUP(false), managing[] = EACH_GROUP(true);

#define CALL(path, methods, handler, group)               \
    {                                                     \
        path, methods, &handler, &calling[MD_API_##group] \
    }
#define CHANGE(path, methods, handler, group)              \
    {                                                      \
        path, methods, &handler, &managing[MD_API_##group] \
    }

static const struct md_route routes[] = {
    CALL("/v2/models/{0}/infer", MD_ROUTE_POST, md_oip_infer_handler, INFERENCE),
    CALL("/v2/models/{0}/versions/{1}/infer", MD_ROUTE_POST, md_oip_infer_handler, INFERENCE),
    CALL("/v2/health/live", MD_ROUTE_GET, live_handler, HEALTH),
    CALL("/v2/health/ready", MD_ROUTE_GET, ready_handler, HEALTH),
    CALL("/v2", MD_ROUTE_GET, server_handler, METADATA),
    CALL("/v2/models/stats", MD_ROUTE_GET, all_stats_handler, STATISTICS),
    CALL("/v2/models/{0}", MD_ROUTE_GET, model_handler, METADATA),
    CALL("/v2/models/{0}/versions/{1}", MD_ROUTE_GET, model_handler, METADATA),
    CALL("/v2/models/{0}/ready", MD_ROUTE_GET, model_ready_handler, HEALTH),
    CALL("/v2/models/{0}/versions/{1}/ready", MD_ROUTE_GET, model_ready_handler, HEALTH),
    CALL("/v2/models/{0}/config", MD_ROUTE_GET, config_handler, MODEL_CONFIG),
    CALL("/v2/models/{0}/versions/{1}/config", MD_ROUTE_GET, config_handler, MODEL_CONFIG),
    CALL("/v2/models/{0}/stats", MD_ROUTE_GET, stats_handler, STATISTICS),
    CALL("/v2/models/{0}/versions/{1}/stats", MD_ROUTE_GET, stats_handler, STATISTICS),
    CALL("/v2/models/{0}/batches", MD_ROUTE_GET, batches_handler, STATISTICS),
    CALL("/v2/models/{0}/versions/{1}/batches", MD_ROUTE_GET, batches_handler, STATISTICS),
    CALL("/v2/repository/index", MD_ROUTE_POST, index_handler, MODEL_REPOSITORY),
    CALL("/v2/repository/{0}/index", MD_ROUTE_POST, index_handler, MODEL_REPOSITORY),
    CALL("/v2/logging", MD_ROUTE_GET, get_logging_handler, LOGGING),
    CHANGE("/v2/logging", MD_ROUTE_POST, post_logging_handler, LOGGING),
    CHANGE("/v2/drain", BOTH, drain_handler, UNGROUPED),
    CHANGE("/v2/repository/models/{0}/load", MD_ROUTE_POST, no_load_handler, MODEL_REPOSITORY),
    CHANGE("/v2/repository/models/{0}/unload", MD_ROUTE_POST, no_load_handler, MODEL_REPOSITORY),
    CHANGE("/v2/repository/{0}/models/{2}/load", MD_ROUTE_POST, no_repository_handler,
           MODEL_REPOSITORY),
    CHANGE("/v2/repository/{0}/models/{2}/unload", MD_ROUTE_POST, no_repository_handler,
           MODEL_REPOSITORY),
    CALL("/v2/models/{0}/generate", MD_ROUTE_POST, no_generate_handler, INFERENCE),
    CALL("/v2/models/{0}/generate_stream", MD_ROUTE_POST, no_generate_handler, INFERENCE),
    CALL("/v2/models/{0}/versions/{1}/generate", MD_ROUTE_POST, no_generate_handler, INFERENCE),
    CALL("/v2/models/{0}/versions/{1}/generate_stream", MD_ROUTE_POST, no_generate_handler,
         INFERENCE),
    CALL("/v2/systemsharedmemory/status", MD_ROUTE_GET, get_system_handler, SHARED_MEMORY),
    CALL("/v2/systemsharedmemory/unregister", MD_ROUTE_POST, unregister_system_handler,
         SHARED_MEMORY),
    CALL("/v2/systemsharedmemory/region/{0}/status", MD_ROUTE_GET, get_system_handler,
         SHARED_MEMORY),
    CALL("/v2/systemsharedmemory/region/{0}/register", MD_ROUTE_POST, register_system_handler,
         SHARED_MEMORY),
    CALL("/v2/systemsharedmemory/region/{0}/unregister", MD_ROUTE_POST, unregister_system_handler,
         SHARED_MEMORY),
    CALL("/v2/cudasharedmemory/status", MD_ROUTE_GET, get_cuda_handler, SHARED_MEMORY),
    CALL("/v2/cudasharedmemory/unregister", MD_ROUTE_POST, unregister_cuda_handler, SHARED_MEMORY),
    CALL("/v2/cudasharedmemory/region/{0}/status", MD_ROUTE_GET, get_cuda_handler, SHARED_MEMORY),
    CALL("/v2/cudasharedmemory/region/{0}/register", MD_ROUTE_POST, register_cuda_handler,
         SHARED_MEMORY),
    CALL("/v2/cudasharedmemory/region/{0}/unregister", MD_ROUTE_POST, unregister_cuda_handler,
         SHARED_MEMORY),
    CALL("/v2/trace/setting", MD_ROUTE_GET, get_trace_handler, TRACE),
    CHANGE("/v2/trace/setting", MD_ROUTE_POST, post_trace_handler, TRACE),
    CALL("/v2/models/{0}/trace/setting", MD_ROUTE_GET, get_trace_handler, TRACE),
    CHANGE("/v2/models/{0}/trace/setting", MD_ROUTE_POST, post_trace_handler, TRACE),
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

/* Refused before a body is received. */
static void refuse_access(struct md_exchange *x)
{
    md_oip_reply_error(x, x->dialect);
}

static const struct md_http_handler refused_handler = {.on_head = refuse_access};

static void check_access(const struct md_oip *oip, const struct api *api, struct md_exchange *x)
{
    struct md_error err;

    if (!md_access_allows(oip->access, api->group, MD_ACCESS_HTTP, x, &err) ||
        (api->manages && !md_access_may_manage(oip->access, x, &err))) {
        struct md_error *kept = md_arena_alloc(&x->arena, sizeof *kept);
        if (kept) {
            *kept = err;
        }
        x->dialect = kept;
        x->handler = &refused_handler;
    }
}

void md_oip_route(void *arg, struct md_exchange *x)
{
    if (x->is_grpc) {
        md_oip_grpc_route(arg, x);
        return;
    }
    enum md_route_match match = md_router_match(routes, MD_COUNT_OF(routes), x);
    const struct api *api = x->route_data;

    x->route_data = arg;
    if (match == MD_ROUTE_FOUND && !is_digits(x->captures[1])) {
        match = MD_ROUTE_NOT_FOUND; /* the field's route takes digits alone */
    }
    if (match == MD_ROUTE_FOUND) {
        check_access(arg, api, x);
    } else {
        x->handler = match == MD_ROUTE_NOT_FOUND ? &not_found_handler : &wrong_method_handler;
    }
    if (md_arena_failed(&x->arena)) {
        x->handler = &no_memory_handler; /* not a path that does not exist */
    }
}
