/*
 * Settings of the log, as the field's extension has them: a change is checked whole before any of
 * it counts.
 */
#include "api/oip/endpoints.h"
#include "api/oip/facts.h"
#include "api/oip/reply.h"
#include "codec/json.h"
#include "os/log_file.h"

enum { LOG_FILE, FIRST_SWITCH, VERBOSITY = FIRST_SWITCH + 3, FORMAT };

const char *const md_oip_log_setting_names[MD_OIP_LOG_SETTINGS] = {
    [LOG_FILE] = "log_file",           [FIRST_SWITCH] = "log_info", "log_warning", "log_error",
    [VERBOSITY] = "log_verbose_level", [FORMAT] = "log_format",
};

static const enum md_log_level switch_levels[] = {MD_LOG_INFO, MD_LOG_WARNING, MD_LOG_ERROR};

void md_oip_log_settings_list(const struct md_oip *oip,
                              struct md_oip_setting out[MD_OIP_LOG_SETTINGS])
{
    out[LOG_FILE] = (struct md_oip_setting){.kind = MD_OIP_SETTING_STRING,
                                            .string = md_str_of(oip->options->log_file)};
    for (size_t i = 0; i < MD_COUNT_OF(switch_levels); i++) {
        out[FIRST_SWITCH + i] = (struct md_oip_setting){
            .kind = MD_OIP_SETTING_BOOL, .boolean = md_log_is_enabled(switch_levels[i])};
    }
    out[VERBOSITY] =
        (struct md_oip_setting){.kind = MD_OIP_SETTING_UINT, .natural = md_log_verbosity()};
    out[FORMAT] =
        (struct md_oip_setting){.kind = MD_OIP_SETTING_STRING,
                                .string = md_str_of(md_os_log_format_name(md_os_log_format()))};
}

void md_oip_log_change_begin(struct md_oip_log_change *change)
{
    for (size_t i = 0; i < MD_COUNT_OF(switch_levels); i++) {
        change->enabled[i] = md_log_is_enabled(switch_levels[i]);
    }
    change->verbosity = md_log_verbosity();
    change->format = md_os_log_format();
}

void md_oip_log_change_apply(const struct md_oip_log_change *change)
{
    for (size_t i = 0; i < MD_COUNT_OF(switch_levels); i++) {
        md_log_set_enabled(switch_levels[i], change->enabled[i]);
    }
    md_log_set_verbosity(change->verbosity);
    md_os_log_set_format(change->format);
}

static bool set_verbosity(struct md_oip_log_change *change, const struct md_oip_setting *value,
                          struct md_error *err)
{
    if (value->kind != MD_OIP_SETTING_UINT || value->natural > UINT32_MAX) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "'log_verbose_level' must be a natural number");
    }
    change->verbosity = (unsigned)value->natural;
    return true;
}

static bool set_format(struct md_oip_log_change *change, const struct md_oip_setting *value,
                       struct md_error *err)
{
    if (value->kind != MD_OIP_SETTING_STRING) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'log_format' must be a string");
    }
    return md_os_log_format_find(value->string, &change->format) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "invalid argument for --log_format, got: %.*s", MD_STR_ARG(value->string));
}

bool md_oip_log_change_set(struct md_oip_log_change *change, struct md_str name,
                           const struct md_oip_setting *value, struct md_error *err)
{
    size_t i = 0;

    while (i < MD_OIP_LOG_SETTINGS && !md_str_eq_c(name, md_oip_log_setting_names[i])) {
        i++;
    }
    switch (i) {
    case LOG_FILE:
        return md_error_set(err, MD_REASON_UNSUPPORTED,
                            "log file location can not be updated through network protocol");
    case VERBOSITY:
        return set_verbosity(change, value, err);
    case FORMAT:
        return set_format(change, value, err);
    case MD_OIP_LOG_SETTINGS:
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "unknown log setting '%.*s'",
                            MD_STR_ARG(name));
    default:
        change->enabled[i - FIRST_SWITCH] = value->boolean;
        return value->kind == MD_OIP_SETTING_BOOL ||
               md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'%s' must be a boolean",
                            md_oip_log_setting_names[i]);
    }
}

/* --- as JSON -------------------- */

void md_oip_get_logging(struct md_exchange *x)
{
    struct md_oip_setting settings[MD_OIP_LOG_SETTINGS];
    struct md_bytes text = {0};

    md_oip_log_settings_list(md_oip_of(x), settings);
    for (size_t i = 0; i < MD_OIP_LOG_SETTINGS; i++) {
        md_bytes_printf(&text, "%c\"%s\":", i ? ',' : '{', md_oip_log_setting_names[i]);
        if (settings[i].kind == MD_OIP_SETTING_STRING) {
            md_json_append_string(&text, settings[i].string);
        } else if (settings[i].kind == MD_OIP_SETTING_UINT) {
            md_bytes_append_u64(&text, settings[i].natural);
        } else {
            md_bytes_append_c(&text, settings[i].boolean ? "true" : "false");
        }
    }
    md_bytes_append_char(&text, '}');
    md_oip_reply_json(x, 200, &text);
}

static bool take_log_setting(struct md_json *json, struct md_str key,
                             struct md_oip_log_change *change, struct md_error *err)
{
    enum md_json_token token = md_json_next(json);
    struct md_oip_setting value = {.kind = MD_OIP_SETTING_OTHER};

    if (json->failed || token == MD_JSON_NULL) { /* null: as it is */
        return true;
    }
    if (token == MD_JSON_TRUE || token == MD_JSON_FALSE) {
        value.kind = MD_OIP_SETTING_BOOL;
        value.boolean = token == MD_JSON_TRUE;
    } else if (token == MD_JSON_STRING) {
        value.kind = MD_OIP_SETTING_STRING;
        value.string = json->text;
    } else if (token == MD_JSON_NUMBER && md_json_to_u64(json->text, &value.natural)) {
        value.kind = MD_OIP_SETTING_UINT;
    }
    return md_oip_log_change_set(change, key, &value, err);
}

void md_oip_post_logging(struct md_exchange *x)
{
    struct md_oip_log_change change;
    struct md_json json;
    struct md_error err;
    bool ok = true;

    md_json_init(&json, x->body, &x->arena, 16);
    if (md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        md_oip_reply_sentence(x, 400, "the request must be a JSON object");
        return;
    }
    md_oip_log_change_begin(&change);
    while (ok && md_json_next(&json) == MD_JSON_KEY) {
        ok = take_log_setting(&json, json.text, &change, &err);
    }
    if (ok && !json.failed && md_json_next(&json) != MD_JSON_END) {
        ok = md_json_fail(&json, "nothing may follow the settings");
    }
    if (json.failed || !ok) {
        md_oip_reply_error(x, json.failed ? &json.error : &err);
    } else {
        md_oip_log_change_apply(&change);
        md_oip_get_logging(x);
    }
}
