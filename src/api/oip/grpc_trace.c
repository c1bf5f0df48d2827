/*
 * TraceSetting: without settings it tells, with settings it changes and then tells. A setting
 * without values goes back to what is below it.
 */
#include "api/oip/facts.h"
#include "api/oip/grpc_calls.h"
#include "codec/protobuf.h"

/* Of the request; a SettingValue has its values in field 1. */
enum { SETTINGS = 1, MODEL_NAME = 2, VALUES_MAX = 4 };

/* An entry of the request's map. */
static bool take_entry(struct md_str entry, struct md_trace_change *change, struct md_error *err)
{
    struct md_oip_names setting; /* name and SettingValue */
    struct md_str values[VALUES_MAX];
    struct md_pb_field field;
    size_t count = 0;

    if (!md_oip_entry_read(entry, &setting, err)) {
        return false;
    }
    struct md_pb_reader reader = md_pb_reader_of(setting.second);
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            if (count == VALUES_MAX) {
                return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                    "a setting has too many values");
            }
            values[count++] = field.bytes;
        }
    }
    return reader.failed ? md_oip_unary_malformed(err)
                         : md_oip_trace_change_set(change, setting.first, values, count, err);
}

struct trace_request {
    struct md_str model;
    struct md_trace_change change;
    size_t settings; /* how many it has */
};

static bool read_request(struct md_str message, struct trace_request *out, struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    *out = (struct trace_request){.model = MD_STR("")};
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(MODEL_NAME, MD_PB_BYTES)) {
            out->model = field.bytes;
        } else if (field.tag == MD_PB_TAG(SETTINGS, MD_PB_BYTES)) {
            out->settings++;
            if (!take_entry(field.bytes, &out->change, err)) {
                return false;
            }
        }
    }
    return !reader.failed || md_oip_unary_malformed(err);
}

static void put_setting(void *arg, const char *name, const struct md_str *values, size_t count)
{
    struct md_bytes *out = arg;
    size_t entry = md_pb_begin(out, SETTINGS);

    md_pb_put_bytes(out, 1, md_str_of(name));
    size_t value = md_pb_begin(out, 2);
    for (size_t i = 0; i < count; i++) {
        md_pb_put_bytes(out, 1, values[i]);
    }
    md_pb_end(out, value);
    md_pb_end(out, entry);
}

enum md_progress md_oip_grpc_trace_setting(struct md_oip_unary *call, struct md_error *err)
{
    const struct md_oip *oip = call->oip;
    struct trace_request request;

    if (!read_request(call->request, &request, err) ||
        !md_oip_trace_model_exists(oip, request.model, err)) {
        return MD_PROGRESS_ERROR;
    }
    if (request.settings &&
        (!md_access_may_manage(oip->access, call->x, err) ||
         !md_oip_trace_change_apply(oip, request.model, &request.change, err))) {
        return MD_PROGRESS_ERROR;
    }
    md_oip_trace_settings_list(oip, request.model, &call->x->arena, put_setting, &call->out);
    return MD_PROGRESS_DONE;
}
