/*
 * Settings of traces by name, from two tables: those of --trace-config and the OTEL_* variables.
 */
#include "config/trace_config.h"

#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

enum { PAIRS_MAX = 64 };

struct reading {
    struct md_trace_config *out;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    const struct md_trace_sources *sources;
    bool has_level, has_mode;
    struct md_trace_pair *headers, *resource; /* PAIRS_MAX each */
};

static bool complain(struct reading *r, enum md_severity severity, const char *format, ...)
    MD_PRINTF(3, 4);

static bool complain(struct reading *r, enum md_severity severity, const char *format, ...)
{
    char text[MD_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return md_diagnose(r->diagnostics, severity, NULL, 0, 0, "%s", text);
}

/* --- pairs -------------------- */

/* A later pair of the same key replaces the earlier one. */
static bool put_pair(struct reading *r, struct md_trace_pair *items, size_t *count,
                     struct md_str key, struct md_str value)
{
    size_t i = 0;

    while (i < *count && !md_str_eq(items[i].key, key)) {
        i++;
    }
    if (i == PAIRS_MAX) {
        return false;
    }
    items[i].key = md_arena_copy(r->arena, key);
    items[i].value = md_arena_copy(r->arena, value);
    *count += i == *count;
    return true;
}

static bool put_resource(struct reading *r, struct md_str key, struct md_str value)
{
    return put_pair(r, r->resource, &r->out->resource.count, key, value);
}

/* Percent-decoded, as in W3C Baggage. */
static struct md_str decode(struct reading *r, struct md_str text)
{
    char *out = md_arena_alloc(r->arena, text.len + 1);
    size_t len = 0;

    for (size_t i = 0; out && i < text.len; i++) {
        const bool is_code = text.ptr[i] == '%' && i + 2 < text.len &&
                             md_hex_digit(text.ptr[i + 1]) >= 0 &&
                             md_hex_digit(text.ptr[i + 2]) >= 0;
        out[len++] =
            (char)(is_code ? md_hex_digit(text.ptr[i + 1]) << 4 | md_hex_digit(text.ptr[i + 2])
                           : text.ptr[i]);
        i += is_code ? 2 : 0;
    }
    return md_str_make(out ? out : "", len);
}

/* "a=1,b=2" of a variable. */
static void put_list(struct reading *r, const char *variable, struct md_trace_pair *items,
                     size_t *count, struct md_str list)
{
    struct md_str item, key;

    while (md_str_split(&list, ',', &item)) {
        if (!md_str_trim(item).len) {
            continue;
        }
        const bool has_value = md_str_find(item, '=') > 0;
        (void)md_str_split(&item, '=', &key);
        if (!has_value ||
            !put_pair(r, items, count, md_str_trim(key), decode(r, md_str_trim(item)))) {
            (void)complain(r, MD_SEVERITY_WARNING, "%s: '%.*s' is left out, it is no key=value",
                           variable, MD_STR_ARG(key));
        }
    }
}

/* Of HTTP, also without its scheme; NULL for another, and for nothing. */
static const char *complete_url(struct reading *r, struct md_str url, const char *path)
{
    const ptrdiff_t colon = md_str_find(url, ':');
    const bool has_scheme =
        colon > 0 &&
        md_str_starts_with(md_str_make(url.ptr + colon, url.len - (size_t)colon), MD_STR("://"));

    if (!url.len || (has_scheme && !md_str_starts_with(url, MD_STR("http://")) &&
                     !md_str_starts_with(url, MD_STR("https://")))) {
        return NULL;
    }
    const char *text =
        md_arena_printf(r->arena, "%s%.*s%s", has_scheme ? "" : "http://", MD_STR_ARG(url), path);
    return text ? text : "";
}

/* --- settings -------------------- */

static bool take_level(struct reading *r, struct md_str value)
{
    r->has_level = true;
    if (md_str_eq_nocase(value, MD_STR("OFF"))) {
        r->out->timestamps = r->out->tensors = false;
    } else if (md_str_eq_nocase(value, MD_STR("TIMESTAMPS"))) {
        r->out->timestamps = true;
    } else if (md_str_eq_nocase(value, MD_STR("TENSORS"))) {
        r->out->tensors = true;
        (void)complain(r, MD_SEVERITY_WARNING,
                       "%s level=TENSORS: timestamps are traced, tensors are not",
                       r->sources->given);
    } else {
        return complain(r, MD_SEVERITY_ERROR,
                        "%s level must be OFF, TIMESTAMPS or TENSORS, got '%.*s'",
                        r->sources->given, MD_STR_ARG(value));
    }
    return true;
}

static bool take_mode(struct reading *r, struct md_str value)
{
    r->has_mode = true;
    r->out->is_triton = md_str_eq_c(value, "triton");
    return r->out->is_triton || md_str_eq_c(value, "opentelemetry") ||
           complain(r, MD_SEVERITY_ERROR, "%s mode must be triton or opentelemetry, got '%.*s'",
                    r->sources->given, MD_STR_ARG(value));
}

static bool take_resource(struct reading *r, struct md_str value)
{
    struct md_str key;
    const bool is_pair = md_str_find(value, '=') > 0;

    (void)md_str_split(&value, '=', &key);
    return (is_pair && put_resource(r, key, value)) ||
           complain(r, MD_SEVERITY_ERROR,
                    "%s opentelemetry,resource must be key=value (at most %d), got '%.*s'",
                    r->sources->given, PAIRS_MAX, MD_STR_ARG(key));
}

static bool take_url(struct reading *r, struct md_str value)
{
    r->out->url = complete_url(r, value, "");
    return r->out->url || complain(r, MD_SEVERITY_ERROR,
                                   "%s opentelemetry,url must be http:// or https://, got "
                                   "'%.*s'",
                                   r->sources->given, MD_STR_ARG(value));
}

static bool take_file(struct reading *r, struct md_str value)
{
    r->out->file = md_arena_copy(r->arena, value).ptr;
    return true;
}

/* mode NULL: general. Numbers have no `take`. */
static const struct setting {
    const char *mode, *key;
    bool (*take)(struct reading *r, struct md_str value);
    size_t offset; /* int64_t in struct md_trace_config */
    int64_t low, high;
    const char *variable; /* for numbers: where they may come from, too */
} settings[] = {
    {NULL, "level", take_level, 0, 0, 0, NULL},
    {NULL, "mode", take_mode, 0, 0, 0, NULL},
    {NULL, "rate", NULL, offsetof(struct md_trace_config, rate), 0, UINT32_MAX, NULL},
    {NULL, "count", NULL, offsetof(struct md_trace_config, count), -1, INT32_MAX, NULL},
    {"triton", "file", take_file, 0, 0, 0, NULL},
    {"triton", "log-frequency", NULL, offsetof(struct md_trace_config, log_frequency), 0,
     UINT32_MAX, NULL},
    {"opentelemetry", "url", take_url, 0, 0, 0, NULL},
    {"opentelemetry", "resource", take_resource, 0, 0, 0, NULL},
    {"opentelemetry", "bsp_max_queue_size", NULL, offsetof(struct md_trace_config, max_queue), 1,
     1 << 20, "OTEL_BSP_MAX_QUEUE_SIZE"},
    {"opentelemetry", "bsp_schedule_delay", NULL, offsetof(struct md_trace_config, delay_ms), 1,
     3600000, "OTEL_BSP_SCHEDULE_DELAY"},
    {"opentelemetry", "bsp_max_export_batch_size", NULL,
     offsetof(struct md_trace_config, max_batch), 1, 1 << 16, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"},
    {NULL, NULL, NULL, offsetof(struct md_trace_config, timeout_ms), 1, 600000,
     "OTEL_EXPORTER_OTLP_TIMEOUT"},
};

static bool read_number(const struct setting *setting, struct md_str value,
                        struct md_trace_config *out)
{
    int64_t number;

    if (!md_str_to_i64(value, &number) || number < setting->low || number > setting->high) {
        return false;
    }
    memcpy((char *)out + setting->offset, &number, sizeof number);
    return true;
}

static bool is_of_mode(const struct setting *setting, struct md_str mode)
{
    return setting->mode ? md_str_eq_c(mode, setting->mode) : mode.len == 0;
}

static bool unknown(struct reading *r, struct md_str mode, struct md_str key)
{
    enum { EDITS = 3 };
    const struct setting *nearest = NULL;
    unsigned best = EDITS + 1;

    for (size_t i = 0; i < MD_COUNT_OF(settings) && settings[i].key; i++) {
        unsigned distance = md_str_distance(key, md_str_of(settings[i].key), best);
        if (distance < best) {
            best = distance;
            nearest = &settings[i];
        }
    }
    return complain(
        r, MD_SEVERITY_ERROR, "%s has no setting '%.*s%s%.*s'%s%s%s%s%s", r->sources->given,
        MD_STR_ARG(mode), mode.len ? "," : "", MD_STR_ARG(key), nearest ? ", did you mean '" : "",
        nearest && nearest->mode ? nearest->mode : "", nearest && nearest->mode ? "," : "",
        nearest ? nearest->key : "", nearest ? "'?" : "");
}

static bool take_setting(struct reading *r, struct md_str text)
{
    struct md_str mode = MD_STR(""), key = MD_STR("");
    const ptrdiff_t comma = md_str_find(text, ','), equals = md_str_find(text, '=');
    const struct setting *setting = NULL;

    if (comma >= 0 && comma < equals) {
        (void)md_str_split(&text, ',', &mode);
    }
    (void)md_str_split(&text, '=', &key);
    for (size_t i = 0; i < MD_COUNT_OF(settings) && settings[i].key; i++) {
        if (md_str_eq_c(key, settings[i].key) && is_of_mode(&settings[i], mode)) {
            setting = &settings[i];
        }
    }
    if (!setting) {
        return unknown(r, mode, key);
    }
    if (setting->take) {
        return setting->take(r, text);
    }
    return read_number(setting, text, r->out) ||
           complain(r, MD_SEVERITY_ERROR, "%s %s must be a number in %lld..%lld, got '%.*s'",
                    r->sources->given, setting->key, (long long)setting->low,
                    (long long)setting->high, MD_STR_ARG(text));
}

/* --- variables -------------------- */

/* Empty if it is not set, which is the same. */
static struct md_str variable(const struct reading *r, const char *name)
{
    for (char *const *at = r->sources->environment; at && *at; at++) {
        struct md_str entry = md_str_of(*at), key;
        const bool has_value = md_str_find(entry, '=') >= 0;
        (void)md_str_split(&entry, '=', &key);
        if (has_value && md_str_eq_c(key, name)) {
            return md_str_trim(entry);
        }
    }
    return MD_STR("");
}

/* The one for traces alone, or the one for all signals. */
static struct md_str exporter_variable(const struct reading *r, const char *what, bool *is_own)
{
    char name[64];

    (void)snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_TRACES_%s", what);
    struct md_str value = variable(r, name);
    *is_own = value.len > 0;
    if (!*is_own) {
        (void)snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_%s", what);
        value = variable(r, name);
    }
    return value;
}

static void take_endpoint(struct reading *r)
{
    bool is_own;
    struct md_str url = exporter_variable(r, "ENDPOINT", &is_own);

    if (!url.len) {
        return;
    }
    while (!is_own && md_str_ends_with(url, MD_STR("/"))) {
        url.len--;
    }
    const char *text = complete_url(r, url, is_own ? "" : "/v1/traces");
    if (text) {
        r->out->url = text;
    } else {
        (void)complain(r, MD_SEVERITY_WARNING,
                       "OTEL_EXPORTER_OTLP_ENDPOINT is left out: it is neither http:// nor "
                       "https://");
    }
}

static void take_variables(struct reading *r)
{
    struct md_str value;
    bool is_own;

    take_endpoint(r);
    value = exporter_variable(r, "HEADERS", &is_own);
    put_list(r, "OTEL_EXPORTER_OTLP_HEADERS", r->headers, &r->out->headers.count, value);
    value = exporter_variable(r, "CERTIFICATE", &is_own);
    r->out->ca_file = value.len ? md_arena_copy(r->arena, value).ptr : NULL;
    put_list(r, "OTEL_RESOURCE_ATTRIBUTES", r->resource, &r->out->resource.count,
             variable(r, "OTEL_RESOURCE_ATTRIBUTES"));
    value = variable(r, "OTEL_SERVICE_NAME");
    if (value.len) {
        (void)put_resource(r, MD_STR("service.name"), value);
    }
    for (size_t i = 0; i < MD_COUNT_OF(settings); i++) {
        const char *name = settings[i].variable;
        value = name ? variable(r, name) : MD_STR("");
        if (value.len && !read_number(&settings[i], value, r->out)) {
            (void)complain(r, MD_SEVERITY_WARNING, "%s is left out: it is no number in %lld..%lld",
                           name, (long long)settings[i].low, (long long)settings[i].high);
        }
    }
}

/* --- all of it -------------------- */

/* "http://user:password@host/" is shown as "http://host/". */
static const char *without_credentials(struct reading *r, const char *url)
{
    const char *authority = strstr(url, "://") + 3;
    const char *at = authority + strcspn(authority, "/@");

    return *at == '@' ? md_arena_printf(r->arena, "%.*s%s", (int)(authority - url), url, at + 1)
                      : url;
}

static void look_at_the_whole(struct reading *r)
{
    const bool is_on = r->out->timestamps || r->out->tensors;

    if (is_on && r->out->is_triton && !*r->out->file) {
        (void)complain(r, MD_SEVERITY_WARNING,
                       "%s names no file for mode triton, so nothing is traced: add "
                       "triton,file=PATH, or take mode=opentelemetry",
                       r->sources->given);
        r->out->timestamps = r->out->tensors = false;
    } else if (r->sources->setting_count && !r->has_level) {
        (void)complain(r, MD_SEVERITY_WARNING,
                       "%s says no level, so nothing is traced: add level=TIMESTAMPS",
                       r->sources->given);
    }
    if (r->out->max_batch > r->out->max_queue) {
        r->out->max_batch = r->out->max_queue;
    }
}

bool md_trace_config_read(const struct md_trace_sources *sources, struct md_arena *arena,
                          struct md_trace_config *out, struct md_diagnostics *diagnostics)
{
    struct reading r = {.out = out, .arena = arena, .diagnostics = diagnostics, .sources = sources};
    bool ok = true;

    *out = (struct md_trace_config){
        .rate = 1000,
        .count = -1,
        .is_triton = strcmp(sources->mode, "triton") == 0,
        .file = "",
        .url = "http://localhost:4318/v1/traces",
        .max_queue = 2048,
        .max_batch = 512,
        .delay_ms = 5000,
        .timeout_ms = 10000,
    };
    r.headers = md_arena_calloc(arena, PAIRS_MAX, sizeof *r.headers);
    r.resource = md_arena_calloc(arena, PAIRS_MAX, sizeof *r.resource);
    if (!r.headers || !r.resource) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "out of memory");
    }
    out->headers.items = r.headers;
    out->resource.items = r.resource;
    (void)put_resource(&r, MD_STR("service.name"), md_str_of(sources->service_name));
    (void)put_resource(&r, MD_STR("service.version"), MD_STR(MODELD_VERSION));
    take_variables(&r);
    for (size_t i = 0; i < sources->setting_count; i++) {
        ok = take_setting(&r, md_str_of(sources->settings[i])) && ok;
    }
    if (ok) {
        look_at_the_whole(&r);
        out->shown_url = without_credentials(&r, out->url);
    }
    if (md_arena_failed(arena)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "out of memory");
    }
    return ok;
}
