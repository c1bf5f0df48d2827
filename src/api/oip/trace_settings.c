/*
 * Settings of traces, of the server and of single models, as the field's extension has them: every
 * value is a string, the level a list of them; null takes a setting back to what is below it. A
 * change is checked whole before any of it counts.
 */
#include "api/oip/endpoints.h"
#include "api/oip/facts.h"
#include "api/oip/reply.h"
#include "codec/json.h"

#include <stdio.h>

enum { NUMBER_TEXT_MAX = 24 };

/* Settings that can be changed; with the range of numbers. */
static const struct {
    const char *name;
    enum md_trace_field field;
    int64_t low, high;
} numbers[] = {
    {"trace_rate", MD_TRACE_RATE, 0, UINT32_MAX},
    {"trace_count", MD_TRACE_COUNT, -1, INT32_MAX},
    {"log_frequency", MD_TRACE_LOG_FREQUENCY, 0, UINT32_MAX},
};

static const struct {
    const char *name;
    enum md_trace_level level;
} levels[] = {{"TIMESTAMPS", MD_TRACE_TIMESTAMPS}, {"TENSORS", MD_TRACE_TENSORS}};

/* --- what there is -------------------- */

struct list {
    void (*setting)(void *arg, const char *name, const struct md_str *values, size_t count);
    void *arg;
};

static void tell_text(const struct list *list, const char *name, struct md_str text)
{
    list->setting(list->arg, name, &text, 1);
}

static void tell_number(const struct list *list, const char *name, int64_t number)
{
    char text[NUMBER_TEXT_MAX];
    int len = snprintf(text, sizeof text, "%lld", (long long)number);

    tell_text(list, name, md_str_make(text, (size_t)len));
}

static void tell_level(const struct list *list, int64_t level)
{
    struct md_str texts[MD_COUNT_OF(levels)];
    size_t count = 0;

    for (size_t i = 0; i < MD_COUNT_OF(levels); i++) {
        if (level & levels[i].level) {
            texts[count++] = md_str_of(levels[i].name);
        }
    }
    if (count == 0) {
        texts[count++] = MD_STR("OFF");
    }
    list->setting(list->arg, "trace_level", texts, count);
}

static struct md_str print_resource(const struct md_trace_pairs *pairs, struct md_arena *arena)
{
    struct md_bytes text = {0};

    for (size_t i = 0; i < pairs->count; i++) {
        md_bytes_printf(&text, "%s%.*s=%.*s", i ? "," : "", MD_STR_ARG(pairs->items[i].key),
                        MD_STR_ARG(pairs->items[i].value));
    }
    struct md_str copy = md_arena_copy(arena, md_bytes_view(&text));
    md_bytes_deinit(&text);
    return copy;
}

void md_oip_trace_settings_list(const struct md_oip *oip, struct md_str model,
                                struct md_arena *arena,
                                void (*setting)(void *arg, const char *name,
                                                const struct md_str *values, size_t count),
                                void *arg)
{
    const struct md_trace_config *config = &oip->options->trace;
    const struct list list = {.setting = setting, .arg = arg};
    int64_t values[MD_TRACE_FIELD_COUNT];

    md_tracer_get(oip->tracer, model, values);
    tell_level(&list, values[MD_TRACE_LEVEL]);
    tell_number(&list, "trace_rate", values[MD_TRACE_RATE]);
    tell_number(&list, "trace_count", values[MD_TRACE_COUNT]);
    if (config->is_triton) {
        tell_number(&list, "log_frequency", values[MD_TRACE_LOG_FREQUENCY]);
        tell_text(&list, "trace_file", md_str_of(config->file));
        tell_text(&list, "trace_mode", MD_STR("triton"));
        return;
    }
    tell_text(&list, "trace_mode", MD_STR("opentelemetry"));
    tell_text(&list, "url", md_str_of(config->shown_url));
    tell_text(&list, "resource", print_resource(&config->resource, arena));
    tell_number(&list, "bsp_max_queue_size", config->max_queue);
    tell_number(&list, "bsp_schedule_delay", config->delay_ms);
    tell_number(&list, "bsp_max_export_batch_size", config->max_batch);
}

/* --- changes -------------------- */

static bool set_level(struct md_trace_change *change, const struct md_str *values, size_t count,
                      struct md_error *err)
{
    int64_t level = MD_TRACE_OFF;

    for (size_t i = 0; i < count; i++) {
        const bool is_off = md_str_eq_c(values[i], "OFF");
        size_t at = 0;
        if (is_off && count > 1) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "Expect only one trace level 'OFF' is specified");
        }
        while (at < MD_COUNT_OF(levels) && !md_str_eq_c(values[i], levels[at].name)) {
            at++;
        }
        if (!is_off && at == MD_COUNT_OF(levels)) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "'trace_level' is OFF, TIMESTAMPS or TENSORS, got '%.*s'",
                                MD_STR_ARG(values[i]));
        }
        level |= is_off ? MD_TRACE_OFF : levels[at].level;
    }
    change->what[MD_TRACE_LEVEL] = MD_TRACE_SET;
    change->values[MD_TRACE_LEVEL] = level;
    return true;
}

static bool is_integer(struct md_str text)
{
    size_t first = text.len && text.ptr[0] == '-', at = first;

    while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9') {
        at++;
    }
    return at == text.len && at > first;
}

static bool set_number(struct md_trace_change *change, size_t row, const struct md_str *values,
                       size_t count, struct md_error *err)
{
    const char *name = numbers[row].name;
    int64_t number;

    if (count != 1 || !is_integer(values[0])) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "Unable to parse '%s', got: %.*s",
                            name, MD_STR_ARG(values[0]));
    }
    const bool fits = md_str_to_i64(values[0], &number);
    if (fits && number < numbers[row].low && numbers[row].low < 0) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse '%s'. Expecting value >= %lld, got:%lld", name,
                            (long long)numbers[row].low, (long long)number);
    }
    if (!fits || number < numbers[row].low || number > numbers[row].high) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse '%s', value is out of range [ %lld, %lld ], got: %.*s",
                            name, (long long)numbers[row].low, (long long)numbers[row].high,
                            MD_STR_ARG(values[0]));
    }
    change->what[numbers[row].field] = MD_TRACE_SET;
    change->values[numbers[row].field] = number;
    return true;
}

bool md_oip_trace_change_set(struct md_trace_change *change, struct md_str name,
                             const struct md_str *values, size_t count, struct md_error *err)
{
    size_t row = 0;

    if (md_str_eq_c(name, "trace_level")) {
        if (count) {
            return set_level(change, values, count, err);
        }
        change->what[MD_TRACE_LEVEL] = MD_TRACE_CLEAR;
        return true;
    }
    if (md_str_eq_c(name, "trace_file")) {
        return count == 0 || md_error_set(err, MD_REASON_UNSUPPORTED,
                                          "trace file location can not be updated through network "
                                          "protocol");
    }
    while (row < MD_COUNT_OF(numbers) && !md_str_eq_c(name, numbers[row].name)) {
        row++;
    }
    if (row == MD_COUNT_OF(numbers)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "'%.*s' is no trace setting that can be changed", MD_STR_ARG(name));
    }
    if (count) {
        return set_number(change, row, values, count, err);
    }
    change->what[numbers[row].field] = MD_TRACE_CLEAR;
    return true;
}

bool md_oip_trace_model_exists(const struct md_oip *oip, struct md_str model, struct md_error *err)
{
    return !model.len || md_models_find(oip->models, model) ||
           md_error_set_code(err, MD_REASON_UNKNOWN_MODEL, MD_CODE_INVALID_ARGUMENT,
                             "Request for unknown model : %.*s", MD_STR_ARG(model));
}

bool md_oip_trace_change_apply(const struct md_oip *oip, struct md_str model,
                               const struct md_trace_change *change, struct md_error *err)
{
    const struct md_trace_config *config = &oip->options->trace;

    if (change->what[MD_TRACE_LEVEL] == MD_TRACE_SET && change->values[MD_TRACE_LEVEL] &&
        config->is_triton && !*config->file) {
        return md_error_set(
            err, MD_REASON_INVALID_ARGUMENT,
            "Attempting to set invalid trace setting :trace file name is not given");
    }
    return md_tracer_change(oip->tracer, model, change, err);
}

/* --- as JSON -------------------- */

static void append_setting(void *arg, const char *name, const struct md_str *values, size_t count)
{
    struct md_bytes *text = arg;
    const bool is_list = strcmp(name, "trace_level") == 0;

    md_bytes_printf(text, "%c\"%s\":%s", text->len ? ',' : '{', name, is_list ? "[" : "");
    for (size_t i = 0; i < count; i++) {
        md_bytes_append_c(text, i ? "," : "");
        md_json_append_string(text, values[i]);
    }
    md_bytes_append_c(text, is_list ? "]" : "");
}

static void reply(struct md_exchange *x)
{
    struct md_bytes text = {0};

    md_oip_trace_settings_list(md_oip_of(x), x->captures[0], &x->arena, append_setting, &text);
    md_bytes_append_char(&text, '}');
    md_oip_reply_json(x, 200, &text);
}

void md_oip_get_trace_settings(struct md_exchange *x)
{
    struct md_error err;

    if (md_oip_trace_model_exists(md_oip_of(x), x->captures[0], &err)) {
        reply(x);
    } else {
        md_oip_reply_error(x, &err);
    }
}

/* A value, or a list of them; null: none. */
static bool take_values(struct md_json *json, struct md_str *values, size_t max, size_t *count,
                        struct md_error *err)
{
    enum md_json_token token = md_json_next(json);
    const bool is_list = token == MD_JSON_ARRAY_BEGIN;

    *count = 0;
    if (is_list) {
        token = md_json_next(json);
    }
    while (token == MD_JSON_STRING || token == MD_JSON_NUMBER) {
        if (*count == max) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "a setting has too many values");
        }
        values[(*count)++] = json->text;
        if (!is_list) {
            return true;
        }
        token = md_json_next(json);
    }
    return json->failed || token == (is_list ? MD_JSON_ARRAY_END : MD_JSON_NULL) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "a trace setting is a string, a list of strings or null");
}

static bool take_setting(struct md_json *json, struct md_trace_change *change, struct md_error *err)
{
    const struct md_str name = json->text;
    struct md_str values[MD_COUNT_OF(levels) + 1];
    size_t count;

    return take_values(json, values, MD_COUNT_OF(values), &count, err) &&
           (json->failed || md_oip_trace_change_set(change, name, values, count, err));
}

void md_oip_post_trace_settings(struct md_exchange *x)
{
    const struct md_oip *oip = md_oip_of(x);
    struct md_trace_change change = {0};
    struct md_json json;
    struct md_error err;

    bool ok = md_oip_trace_model_exists(oip, x->captures[0], &err);
    md_json_init(&json, x->body, &x->arena, 16);
    if (ok && md_json_next(&json) != MD_JSON_OBJECT_BEGIN) {
        ok = md_error_set(&err, MD_REASON_INVALID_ARGUMENT, "the request must be a JSON object");
    }
    while (ok && md_json_next(&json) == MD_JSON_KEY) {
        ok = take_setting(&json, &change, &err);
    }
    if (ok && !json.failed && md_json_next(&json) != MD_JSON_END) {
        ok = md_json_fail(&json, "nothing may follow the settings");
    }
    if (ok && !json.failed) {
        ok = md_oip_trace_change_apply(oip, x->captures[0], &change, &err);
    }
    if (json.failed || !ok) {
        md_oip_reply_error(x, json.failed ? &json.error : &err);
    } else {
        reply(x);
    }
}
