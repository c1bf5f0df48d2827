/*
 * Settings of the log, as the field's extension has them: a change is checked whole before any of
 * it counts.
 */
#include "api/oip/endpoints.h"
#include "api/oip/reply.h"
#include "codec/json.h"
#include "os/log_file.h"

static const struct {
    const char *name;
    enum md_log_level level;
} log_switches[] = {
    {"log_info", MD_LOG_INFO}, {"log_warning", MD_LOG_WARNING}, {"log_error", MD_LOG_ERROR}};

void md_oip_get_logging(struct md_exchange *x)
{
    const struct md_options *options = md_oip_of(x)->options;
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

void md_oip_post_logging(struct md_exchange *x)
{
    struct log_change change;
    struct md_json json;
    struct md_error err;
    bool ok = true;

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
        md_oip_get_logging(x);
    }
}
