/*
 * Options from their sources into the struct.
 *
 * Sources are read from the strongest to the weakest: flags, environment, file, defaults. An option
 * remembers which source set it, and weaker ones leave it alone; so the program's name, a flag, a
 * variable and the file can each choose the column of defaults, which are filled in last. Further
 * values of the same source replace a single value and extend a list.
 */
#include "config/options.h"

#include "config/api_restriction.h"
#include "config/option_table.h"
#include "config/option_tls.h"
#include "config/option_value.h"
#include "config/schema.h"
#include "config/yaml.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

enum source { SOURCE_DEFAULT, SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG };

enum { NAME_MAX_BYTES = 80, ORIGIN_MAX = 128 };

static const char environment_prefix[] = "MODELD_";
static const char overlays_key[] = "models";

/* What is known about one row of the table. */
struct state {
    enum source source;      /* that set it */
    struct md_yaml_place at; /* where its key stands in the file; line 0: it does not */
    bool warned;
};

struct parse {
    struct md_options *out;
    struct md_arena *arena;
    struct md_diagnostics *diagnostics;
    struct state *states; /* of md_option_table */
    enum source source;   /* being read */
    struct md_yaml_place at;
    const struct md_option *key; /* of the file, whose value follows */
    struct md_yaml_place overlays_at;
    size_t overlay_capacity;
    struct md_overlay *overlays;
};

static struct state *state_of(const struct parse *p, const struct md_option *option)
{
    return &p->states[option - md_option_table];
}

static void report(struct parse *p, enum md_severity severity, const char *format, ...)
    MD_PRINTF(3, 4);

static void report(struct parse *p, enum md_severity severity, const char *format, ...)
{
    bool in_file = p->source == SOURCE_FILE;
    char text[MD_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)md_diagnose(p->diagnostics, severity, in_file ? p->out->config_file : NULL,
                      in_file ? p->at.line : 0, in_file ? p->at.column : 0, "%s", text);
}

#define COMPLAIN(p, ...) report(p, MD_SEVERITY_ERROR, __VA_ARGS__)

/* How a name is written in a source: --http-port, MODELD_HTTP_PORT, http-port. */
static const char *spell(enum source source, struct md_str name, char out[ORIGIN_MAX])
{
    const char *prefix = source == SOURCE_ENVIRONMENT ? environment_prefix
                         : source == SOURCE_FILE      ? ""
                                                      : "--";

    (void)snprintf(out, ORIGIN_MAX, "%s%.*s", prefix, MD_STR_ARG(name));
    for (char *c = out; source == SOURCE_ENVIRONMENT && *c; c++) {
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    }
    return out;
}

/* --- one value -------------------- */

static void unknown_option(struct parse *p, struct md_str name)
{
    bool is_shown = p->diagnostics->count < MD_DIAGNOSTICS_MAX;
    const char *nearest = is_shown ? md_option_nearest(name) : NULL;
    char given[ORIGIN_MAX], meant[ORIGIN_MAX];

    if (p->source == SOURCE_FILE &&
        md_str_distance(name, md_str_of(overlays_key), 2) <= 2) { /* no option, but a key */
        nearest = overlays_key;
    }
    (void)spell(p->source, name, given);
    if (nearest) {
        COMPLAIN(p, "unknown option '%s', did you mean '%s'?", given,
                 spell(p->source, md_str_of(nearest), meant));
    } else {
        COMPLAIN(p, "unknown option '%s'; --help lists all", given);
    }
}

static void set(struct parse *p, const struct md_option *option, struct md_str value)
{
    const struct md_option *target = md_option_target(option);
    struct state *state = state_of(p, target);
    char given[ORIGIN_MAX];
    struct md_error err;

    (void)spell(p->source, md_str_of(option->name), given);
    if (md_option_is_fine(option, value)) {
        return;
    }
    const char *refusal = md_option_refusal(option, value);
    if (refusal) { /* the value of a refused option may be a secret */
        bool is_value = option->status != MD_OPTION_REFUSED;
        struct md_str shown = is_value ? value : MD_STR("");
        COMPLAIN(p, "%s%s%.*s is not supported: %s", given, is_value ? "=" : "", MD_STR_ARG(shown),
                 refusal);
        return;
    }
    if (option->status == MD_OPTION_NO_EFFECT) {
        if (!state->warned) {
            report(p, MD_SEVERITY_WARNING, "%s has no effect: %s", given, option->help);
        }
        state->warned = true;
        return;
    }
    if (state->source > p->source) {
        return;
    }
    const enum source before = state->source;
    state->source = p->source;
    if (!md_option_store(target, value, p->arena, p->out, &err)) {
        state->source = md_option_is_list(target) ? p->source : before; /* as if not given */
        COMPLAIN(p, "%s %s", given, err.text);
    }
}

/* --- flags -------------------- */

/* The value that follows a flag as an argument of its own; false if there is none. */
static bool take_argument(const struct md_option *option, int argc, char *const *argv, int *i,
                          struct md_str *value)
{
    struct md_str follows = *i + 1 < argc ? md_str_of(argv[*i + 1]) : MD_STR("--");
    bool is_bool = option && (option->kind == MD_OPTION_BOOL || option->kind == MD_OPTION_ACTION);
    bool ignored;

    if (is_bool && !md_option_read_bool(follows, &ignored)) {
        *value = MD_STR("true");
        return true;
    }
    if (md_str_starts_with(follows, MD_STR("--"))) {
        return false;
    }
    *value = follows;
    ++*i;
    return true;
}

static void take_flags(struct parse *p, int argc, char *const *argv)
{
    p->source = SOURCE_FLAG;
    for (int i = 1; i < argc; i++) {
        struct md_str flag = md_str_of(argv[i]), value;
        if (!md_str_starts_with(flag, MD_STR("--"))) {
            bool is_path = argv[i][0] != '-';
            COMPLAIN(p, "unexpected argument '%s': options begin with --%s%s%s", argv[i],
                     is_path ? ", did you mean --model-repository=" : "", is_path ? argv[i] : "",
                     is_path ? "?" : "");
            continue;
        }
        ptrdiff_t equals = md_str_find(flag, '=');
        size_t end = equals < 0 ? flag.len : (size_t)equals;
        struct md_str name = md_str_make(flag.ptr + 2, md_size_max(end, 2) - 2);
        const struct md_option *option = md_option_find(name);
        bool has_value = equals >= 0;
        if (has_value) {
            value = md_str_make(flag.ptr + end + 1, flag.len - end - 1);
        } else {
            has_value = take_argument(option, argc, argv, &i, &value);
        }
        if (!option) {
            unknown_option(p, name);
        } else if (!has_value) {
            COMPLAIN(p, "--%s needs a value", option->name);
        } else {
            set(p, option, value);
        }
    }
}

/* --- environment -------------------- */

static void set_from_variable(struct parse *p, const struct md_option *option, struct md_str value)
{
    char given[ORIGIN_MAX];
    struct md_str piece;

    /* Kubernetes sets MODELD_HTTP_PORT=tcp://... in every pod beside a service called modeld-http.
     */
    if (option->kind == MD_OPTION_NUMBER && (md_str_starts_with(value, MD_STR("tcp://")) ||
                                             md_str_starts_with(value, MD_STR("udp://")))) {
        report(p, MD_SEVERITY_WARNING, "%s is left out: it names a service, not a number",
               spell(p->source, md_str_of(option->name), given));
        return;
    }
    if (!md_option_is_list(option)) {
        set(p, option, value);
        return;
    }
    while (md_str_split(&value, ';', &piece)) {
        if (md_str_trim(piece).len) {
            set(p, option, md_str_trim(piece));
        }
    }
}

static void take_variable(struct parse *p, struct md_str name, struct md_str value)
{
    enum { SURELY = 2 }; /* edits that are a slip, not another program's variable */
    const struct md_option *option = md_option_find(name);
    char given[ORIGIN_MAX], meant[ORIGIN_MAX];

    if (option && option->kind != MD_OPTION_ACTION) {
        set_from_variable(p, option, value);
        return;
    }
    const char *nearest = option ? NULL : md_option_nearest(name);
    if (nearest && md_str_distance(name, md_str_of(nearest), SURELY) <= SURELY) {
        report(p, MD_SEVERITY_WARNING, "%s is no option, did you mean %s?",
               spell(p->source, name, given), spell(p->source, md_str_of(nearest), meant));
    }
}

static void take_environment(struct parse *p, char *const *environment)
{
    const size_t prefix = sizeof environment_prefix - 1;
    char name[NAME_MAX_BYTES];

    p->source = SOURCE_ENVIRONMENT;
    for (; environment && *environment; environment++) {
        struct md_str entry = md_str_of(*environment);
        ptrdiff_t equals = md_str_find(entry, '=');
        size_t len = 0;
        if (!md_str_starts_with(entry, md_str_of(environment_prefix)) ||
            equals <= (ptrdiff_t)prefix || (size_t)equals - prefix > sizeof name) {
            continue;
        }
        for (size_t i = prefix; i < (size_t)equals; i++) {
            name[len++] = entry.ptr[i] == '_' ? '-' : (char)tolower((unsigned char)entry.ptr[i]);
        }
        take_variable(p, md_str_make(name, len),
                      md_str_make(entry.ptr + equals + 1, entry.len - (size_t)equals - 1));
    }
}

/* --- the file -------------------- */

/* True if a key stands for the first time. */
static bool is_first(struct parse *p, const char *name, struct md_yaml_place *at)
{
    if (at->line) {
        COMPLAIN(p, "'%s' is given twice, first in line %u", name, at->line);
        return false;
    }
    *at = p->at;
    return true;
}

static enum md_yaml_shape on_key(void *arg, struct md_str name, struct md_yaml_place place)
{
    struct parse *p = arg;
    char dashed[NAME_MAX_BYTES];
    size_t len = md_size_min(name.len, sizeof dashed);

    p->at = place;
    for (size_t i = 0; i < len; i++) {
        dashed[i] = name.ptr[i] == '_' ? '-' : name.ptr[i];
    }
    if (md_str_eq_c(name, overlays_key)) {
        return is_first(p, overlays_key, &p->overlays_at) ? MD_YAML_OVERLAYS : MD_YAML_SKIP;
    }
    p->key = md_option_find(md_str_make(dashed, len));
    if (!p->key) {
        unknown_option(p, md_str_make(dashed, len));
        return MD_YAML_SKIP;
    }
    if (p->key->kind == MD_OPTION_ACTION ||
        p->key->offset == offsetof(struct md_options, config_file)) {
        COMPLAIN(p, "'%s' cannot stand in a file", p->key->name);
        return MD_YAML_SKIP;
    }
    if (!is_first(p, p->key->name, &state_of(p, p->key)->at)) {
        return MD_YAML_SKIP;
    }
    return md_option_is_list(p->key) ? MD_YAML_LIST : MD_YAML_VALUE;
}

static void on_value(void *arg, struct md_str value, struct md_yaml_place place)
{
    struct parse *p = arg;

    p->at = place;
    set(p, p->key, value);
}

static bool has_room_for_overlay(struct parse *p)
{
    size_t count = p->out->overlay_count;

    if (count < p->overlay_capacity) {
        return true;
    }
    size_t capacity = count ? count * 2 : 8;
    struct md_overlay *overlays = md_arena_alloc(p->arena, capacity * sizeof *overlays);
    if (!overlays) {
        return false;
    }
    if (count) {
        memcpy(overlays, p->overlays, count * sizeof *overlays);
    }
    p->out->overlays = p->overlays = overlays;
    p->overlay_capacity = capacity;
    return true;
}

/* Out of memory is told by the arena, at the end. */
static void on_overlay(void *arg, struct md_str pattern, struct md_str config_json,
                       struct md_yaml_place place)
{
    struct parse *p = arg;
    struct md_message *settings = md_message_create(&md_model_config_desc, p->arena);
    struct md_overlay overlay = {.pattern = md_arena_copy(p->arena, pattern).ptr,
                                 .config_json = md_arena_copy(p->arena, config_json),
                                 .line = place.line};

    if (settings &&
        md_message_parse_json(config_json, p->out->config_file, settings, p->arena,
                              p->diagnostics) &&
        has_room_for_overlay(p)) {
        p->overlays[p->out->overlay_count++] = overlay;
    }
}

static void take_file(struct parse *p, const struct md_file_reader *reader)
{
    const struct md_yaml_handler handler = {
        .arg = p, .key = on_key, .value = on_value, .overlay = on_overlay};
    struct md_str text;
    struct md_error err;

    if (!reader->read(reader->arg, p->out->config_file, p->arena, &text, &err)) {
        COMPLAIN(p, "--config: %s", err.text);
        return;
    }
    p->source = SOURCE_FILE;
    (void)!md_yaml_read(text, p->out->config_file, &handler, p->diagnostics); /* it is counted */
}

/* --- defaults, and what follows from several options -------------------- */

static void take_defaults(struct parse *p, bool triton)
{
    p->source = SOURCE_DEFAULT;
    for (size_t i = 0; i < md_option_count; i++) {
        const struct md_option *option = &md_option_table[i];
        const char *value = triton && option->triton_value ? option->triton_value : option->value;
        if (option->offset != SIZE_MAX && value) {
            set(p, option, md_str_of(value));
        }
    }
}

static bool wants_triton(const struct parse *p, const char *program)
{
    const char *slash = strrchr(program, '/');

    if (p->out->compat) {
        return strcmp(p->out->compat, "triton") == 0;
    }
    return strcmp(slash ? slash + 1 : program, "tritonserver") == 0;
}

static const char *given_name(const struct parse *p, const char *name, char out[ORIGIN_MAX])
{
    return spell(state_of(p, md_option_find(md_str_of(name)))->source, md_str_of(name), out);
}

/* The field's way to say --default-max-batch-size. */
static void take_default_batch_size(struct parse *p)
{
    static const char name[] = "default-max-batch-size";
    const struct md_option *option = md_option_find(md_str_of(name));
    const struct md_string_list *settings = &p->out->backend_config;

    for (size_t i = 0; i < settings->count; i++) {
        struct md_str rest = md_str_of(settings->items[i]), key;
        ptrdiff_t comma = md_str_find(rest, ',');
        struct md_error err;
        rest = md_str_make(rest.ptr + comma + 1, rest.len - (size_t)(comma + 1));
        if (!md_str_split(&rest, '=', &key) || !md_str_eq_c(key, name) ||
            state_of(p, option)->source != SOURCE_DEFAULT) {
            continue;
        }
        if (!md_option_store(option, rest, p->arena, p->out, &err)) {
            COMPLAIN(p, "--backend-config %s %s", name, err.text);
        }
    }
}

static void resolve_address(const char **address, const char *otherwise)
{
    if (strcmp(*address, "auto") == 0) {
        *address = otherwise;
    }
}

/* Settings of --metrics-config: ours, which api/metrics reads, and those of the field's server that
 * change nothing here. */
static const struct {
    const char *name;
    const char *fine, *why; /* for those without effect; the value that says what is the case */
} metrics_settings[] = {
    {"max_models", NULL, NULL},
    {"detail", NULL, NULL},
    {"counter_latencies", NULL, NULL},
    {"histogram_latencies", "false", "modeld_* histograms are always there"},
    {"summary_latencies", "false", "modeld_* histograms serve for quantiles"},
    {"summary_quantiles", "", "modeld_* histograms serve for any quantile"},
};

static void unknown_metrics_setting(struct parse *p, const char *given, struct md_str key)
{
    enum { EDITS = 3 };
    const char *nearest = NULL;
    unsigned best = EDITS + 1;

    for (size_t i = 0; i < MD_COUNT_OF(metrics_settings); i++) {
        unsigned distance = md_str_distance(key, md_str_of(metrics_settings[i].name), best);
        if (distance < best) {
            best = distance;
            nearest = metrics_settings[i].name;
        }
    }
    COMPLAIN(p, "%s has no setting '%.*s'%s%s%s", given, MD_STR_ARG(key),
             nearest ? ", did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

/* `warned` has a bit for each setting. */
static void check_metrics_setting(struct parse *p, const char *given, struct md_str value,
                                  unsigned *warned)
{
    struct md_str key = MD_STR("");
    uint64_t number;
    size_t i = 0;

    (void)md_str_split(&value, '=', &key);
    while (i < MD_COUNT_OF(metrics_settings) && !md_str_eq_c(key, metrics_settings[i].name)) {
        i++;
    }
    if (i == MD_COUNT_OF(metrics_settings)) {
        unknown_metrics_setting(p, given, key);
    } else if (metrics_settings[i].why && !md_str_eq_c(value, metrics_settings[i].fine) &&
               !(*warned & 1U << i)) {
        *warned |= 1U << i;
        report(p, MD_SEVERITY_WARNING, "%s %s=%.*s has no effect: %s", given,
               metrics_settings[i].name, MD_STR_ARG(value), metrics_settings[i].why);
    } else if (md_str_eq_c(key, "max_models") && !md_str_to_u64(value, &number)) {
        COMPLAIN(p, "%s max_models must be a number, got '%.*s'", given, MD_STR_ARG(value));
    } else if (md_str_eq_c(key, "counter_latencies") && !md_str_eq_c(value, "true") &&
               !md_str_eq_c(value, "false")) {
        COMPLAIN(p, "%s counter_latencies must be true or false, got '%.*s'", given,
                 MD_STR_ARG(value));
    }
}

static void check_restrictions(struct parse *p, const char *name,
                               const struct md_string_list *values)
{
    struct md_api_restriction ignored[MD_API_GROUP_COUNT] = {0};
    char given[ORIGIN_MAX];
    struct md_error err;

    if (!md_api_restrictions_read(values, ignored, &err)) {
        COMPLAIN(p, "%s %s", given_name(p, name, given), err.text);
    }
}

static void check_access(struct parse *p)
{
    const bool by_key = strcmp(p->out->management, "key") == 0;
    char a[ORIGIN_MAX], b[ORIGIN_MAX];

    check_restrictions(p, "http-restricted-api", &p->out->http_restricted_api);
    check_restrictions(p, "grpc-restricted-protocol", &p->out->grpc_restricted_protocol);
    if (by_key && !p->out->management_key_file) {
        COMPLAIN(p, "%s is key and needs --management-key-file", given_name(p, "management", a));
    }
    if (!by_key && p->out->management_key_file) {
        report(p, MD_SEVERITY_WARNING, "%s has no effect: %s is %s",
               given_name(p, "management-key-file", a), given_name(p, "management", b),
               p->out->management);
    }
}

/* Each listener needs a port of its own. */
static void check_ports(struct parse *p)
{
    const struct md_options *o = p->out;
    const struct {
        const char *option, *address;
        bool listens;
        uint64_t port;
    } listeners[] = {
        {"http-port", o->http_address, o->allow_http, o->http_port},
        {"grpc-port", o->grpc_address, o->allow_grpc, o->grpc_port},
        {"metrics-port", o->metrics_address, o->allow_metrics, o->metrics_port},
    };
    char a[ORIGIN_MAX], b[ORIGIN_MAX];

    for (size_t i = 0; i < MD_COUNT_OF(listeners); i++) {
        for (size_t k = i + 1; k < MD_COUNT_OF(listeners); k++) {
            if (listeners[i].listens && listeners[k].listens && listeners[i].port &&
                listeners[i].port == listeners[k].port &&
                strcmp(listeners[i].address, listeners[k].address) == 0) {
                COMPLAIN(p, "%s and %s are both %llu", given_name(p, listeners[i].option, a),
                         given_name(p, listeners[k].option, b),
                         (unsigned long long)listeners[i].port);
            }
        }
    }
}

static void check_together(struct parse *p)
{
    const struct md_options *o = p->out;
    char a[ORIGIN_MAX], b[ORIGIN_MAX];
    unsigned warned = 0;

    for (size_t i = 0; i < o->model_repository.count; i++) {
        if (!*o->model_repository.items[i]) {
            COMPLAIN(p, "%s is empty: name a folder with models",
                     given_name(p, "model-repository", a));
        }
    }
    if (o->load_model.count && strcmp(o->model_control_mode, "explicit") != 0) {
        COMPLAIN(p, "%s needs --model-control-mode=explicit", given_name(p, "load-model", a));
    }
    if (o->model_name && o->model_repository.count > 1) {
        COMPLAIN(p, "%s names one model, and there are %zu folders in %s",
                 given_name(p, "model-name", a), o->model_repository.count,
                 given_name(p, "model-repository", b));
    }
    check_ports(p);
    check_access(p);
    if (!o->allow_http && !o->allow_grpc && !o->http_unix_socket) {
        report(p, MD_SEVERITY_WARNING,
               "%s and %s are false and there is no --http-unix-socket: nothing takes requests",
               given_name(p, "allow-http", a), given_name(p, "allow-grpc", b));
    }
    for (size_t i = 0; i < o->metrics_config.count; i++) {
        check_metrics_setting(p, given_name(p, "metrics-config", a),
                              md_str_of(o->metrics_config.items[i]), &warned);
    }
    if (o->access_log && !o->log_info) {
        report(p, MD_SEVERITY_WARNING, "%s writes informational lines, and %s is false",
               given_name(p, "access-log", a), given_name(p, "log-info", b));
    }
    if (o->inflight_bytes && o->inflight_bytes < o->http_max_input_size) {
        report(p, MD_SEVERITY_WARNING, "%s is smaller than %s: larger bodies are refused",
               given_name(p, "inflight-bytes", a), given_name(p, "http-max-input-size", b));
    }
}

static void read_trace_config(struct parse *p, char *const *environment)
{
    struct md_options *o = p->out;
    char given[ORIGIN_MAX];
    const struct md_trace_sources sources = {.settings = o->trace_config.items,
                                             .setting_count = o->trace_config.count,
                                             .given = given_name(p, "trace-config", given),
                                             .mode = o->trace_mode,
                                             .service_name = o->trace_service_name,
                                             .environment = environment};

    (void)!md_trace_config_read(&sources, p->arena, &o->trace, p->diagnostics); /* it is counted */
}

bool md_options_parse(int argc, char *const *argv, char *const *environment, bool in_container,
                      const struct md_file_reader *reader, struct md_arena *arena,
                      struct md_options *out, struct md_diagnostics *diagnostics)
{
    struct parse p = {.out = out, .arena = arena, .diagnostics = diagnostics};
    size_t errors_before = diagnostics->error_count;

    *out = (struct md_options){0};
    p.states = md_arena_calloc(arena, md_option_count, sizeof *p.states);
    if (!p.states) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "out of memory");
    }
    take_flags(&p, argc, argv);
    take_environment(&p, environment);
    if (out->config_file) {
        take_file(&p, reader);
    }
    take_defaults(&p, wants_triton(&p, argc ? argv[0] : ""));
    if (md_arena_failed(arena)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "out of memory");
    }
    take_default_batch_size(&p);
    read_trace_config(&p, environment);
    resolve_address(&out->http_address, in_container ? "0.0.0.0" : "127.0.0.1");
    resolve_address(&out->grpc_address, out->http_address);
    resolve_address(&out->metrics_address, out->http_address);
    if (diagnostics->error_count == errors_before) { /* else these would be consequences */
        md_options_settle_tls(out, diagnostics);
        check_together(&p);
    }
    return diagnostics->error_count == errors_before;
}
