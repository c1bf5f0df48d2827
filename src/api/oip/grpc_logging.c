/*
 * LogSettings: without settings it tells, with settings it changes and then tells.
 */
#include "api/oip/facts.h"
#include "api/oip/grpc_calls.h"
#include "codec/protobuf.h"

/* Of a SettingValue. */
enum { BOOL_PARAM = 1, UINT32_PARAM = 2, STRING_PARAM = 3 };

static bool read_value(struct md_str message, struct md_oip_setting *out, bool *is_set)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        switch (field.tag) {
        case MD_PB_TAG(BOOL_PARAM, MD_PB_VARINT):
            *out =
                (struct md_oip_setting){.kind = MD_OIP_SETTING_BOOL, .boolean = field.value != 0};
            *is_set = true;
            break;
        case MD_PB_TAG(UINT32_PARAM, MD_PB_VARINT):
            *out = (struct md_oip_setting){.kind = MD_OIP_SETTING_UINT,
                                           .natural = (uint32_t)field.value};
            *is_set = true;
            break;
        case MD_PB_TAG(STRING_PARAM, MD_PB_BYTES):
            *out = (struct md_oip_setting){.kind = MD_OIP_SETTING_STRING, .string = field.bytes};
            *is_set = true;
            break;
        default:
            break;
        }
    }
    return !reader.failed;
}

/* An entry of the request's map. A value of no kind leaves the setting as it is. */
static bool take_entry(struct md_str entry, struct md_oip_log_change *change, struct md_error *err)
{
    struct md_oip_names setting; /* name and SettingValue */
    struct md_oip_setting value;
    bool is_set = false;

    if (!md_oip_entry_read(entry, &setting, err)) {
        return false;
    }
    if (!read_value(setting.second, &value, &is_set)) {
        return md_oip_unary_malformed(err);
    }
    return !is_set || md_oip_log_change_set(change, setting.first, &value, err);
}

/* *count: of the settings that the request names. */
static bool read_change(struct md_str request, struct md_oip_log_change *change, size_t *count,
                        struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(request);
    struct md_pb_field field;

    *count = 0;
    md_oip_log_change_begin(change);
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            ++*count;
            if (!take_entry(field.bytes, change, err)) {
                return false;
            }
        }
    }
    return !reader.failed || md_oip_unary_malformed(err);
}

static void put_setting(struct md_bytes *out, const char *name, const struct md_oip_setting *value)
{
    size_t entry = md_pb_begin(out, 1);

    md_pb_put_bytes(out, 1, md_str_of(name));
    size_t begin = md_pb_begin(out, 2);
    if (value->kind == MD_OIP_SETTING_BOOL) {
        md_pb_put_varint(out, BOOL_PARAM, value->boolean);
    } else if (value->kind == MD_OIP_SETTING_UINT) {
        md_pb_put_varint(out, UINT32_PARAM, value->natural);
    } else {
        md_pb_put_bytes(out, STRING_PARAM, value->string);
    }
    md_pb_end(out, begin);
    md_pb_end(out, entry);
}

enum md_progress md_oip_grpc_log_settings(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_setting settings[MD_OIP_LOG_SETTINGS];
    struct md_oip_log_change change;
    size_t count;

    if (!read_change(call->request, &change, &count, err) ||
        (count && !md_access_may_manage(call->oip->access, call->x, err))) {
        return MD_PROGRESS_ERROR;
    }
    if (count) {
        md_oip_log_change_apply(&change);
    }
    md_oip_log_settings_list(call->oip, settings);
    for (size_t i = 0; i < MD_OIP_LOG_SETTINGS; i++) {
        put_setting(&call->out, md_oip_log_setting_names[i], &settings[i]);
    }
    return MD_PROGRESS_DONE;
}
