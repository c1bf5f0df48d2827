/*
 * Health and metadata of server and models, and their configuration.
 */
#include "api/oip/facts.h"
#include "api/oip/grpc_calls.h"
#include "codec/protobuf.h"

/* A bool that is false is left out, as all defaults are. */
static enum md_progress answer_bool(struct md_oip_unary *call, bool value)
{
    if (value) {
        md_pb_put_varint(&call->out, 1, 1);
    }
    return MD_PROGRESS_DONE;
}

enum md_progress md_oip_grpc_server_live(struct md_oip_unary *call, struct md_error *err)
{
    (void)err;
    return answer_bool(call, call->oip->is_live(call->oip->server));
}

enum md_progress md_oip_grpc_server_ready(struct md_oip_unary *call, struct md_error *err)
{
    if (call->oip->is_exiting(call->oip->server)) {
        (void)md_error_set(err, MD_REASON_EXITING, "Server exiting");
        return MD_PROGRESS_ERROR;
    }
    return answer_bool(call, call->oip->is_ready(call->oip->server));
}

enum md_progress md_oip_grpc_model_ready(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_names names;
    bool ready;

    if (!md_oip_names_read(call->request, &names, err) ||
        !md_oip_model_is_ready(call->oip, names.first, names.second, &ready, err)) {
        return MD_PROGRESS_ERROR;
    }
    return answer_bool(call, ready);
}

enum md_progress md_oip_grpc_server_metadata(struct md_oip_unary *call, struct md_error *err)
{
    (void)err;
    md_pb_put_bytes(&call->out, 1, md_str_of(call->oip->options->id));
    md_pb_put_bytes(&call->out, 2, md_str_of(call->oip->version));
    for (size_t i = 0; md_oip_extensions[i]; i++) {
        md_pb_put_bytes(&call->out, 3, md_str_of(md_oip_extensions[i]));
    }
    for (size_t i = 0; call->oip->regions && md_oip_shared_extensions[i]; i++) {
        md_pb_put_bytes(&call->out, 3, md_str_of(md_oip_shared_extensions[i]));
    }
    return MD_PROGRESS_DONE;
}

/* --- models -------------------- */

/* The version that the request names, or NULL with the error. */
static const struct md_version *resolve(const struct md_oip_unary *call, bool *is_named,
                                        struct md_error *err)
{
    struct md_oip_names names;

    if (!md_oip_names_read(call->request, &names, err)) {
        return NULL;
    }
    const struct md_version *version =
        md_models_resolve(call->oip->models, names.first, names.second, err);
    if (version) {
        call->x->log.model = version->model->name.ptr;
        call->x->log.version = version->number;
    }
    *is_named = names.second.len > 0;
    return version;
}

static void put_tensors(struct md_bytes *out, uint32_t number, const struct md_tensor_spec *specs,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t begin = md_pb_begin(out, number);
        md_pb_put_bytes(out, 1, specs[i].name);
        md_pb_put_bytes(out, 2, md_str_of(md_dtype_name(specs[i].dtype)));
        md_pb_put_packed(out, 3, specs[i].shape, specs[i].rank == MD_RANK_ANY ? 0 : specs[i].rank);
        md_pb_end(out, begin);
    }
}

enum md_progress md_oip_grpc_model_metadata(struct md_oip_unary *call, struct md_error *err)
{
    bool is_named;
    const struct md_version *version = resolve(call, &is_named, err);
    struct md_bytes *out = &call->out;

    if (!version) {
        return MD_PROGRESS_ERROR;
    }
    const struct md_target *target = &version->target;
    md_pb_put_bytes(out, 1, target->model_name);
    for (size_t i = 0; i < version->model->version_count; i++) {
        const struct md_version *other = &version->model->versions[i];
        if (is_named ? other == version : md_version_is_ready(other)) {
            md_oip_put_decimal(out, 2, other->number);
        }
    }
    md_pb_put_bytes(out, 3, target->platform);
    put_tensors(out, 4, target->inputs, target->input_count);
    put_tensors(out, 5, target->outputs, target->output_count);
    return MD_PROGRESS_DONE;
}

enum md_progress md_oip_grpc_model_config(struct md_oip_unary *call, struct md_error *err)
{
    bool is_named;
    const struct md_version *version = resolve(call, &is_named, err);

    if (!version) {
        return MD_PROGRESS_ERROR;
    }
    md_pb_put_bytes(&call->out, 1, version->config_protobuf);
    return MD_PROGRESS_DONE;
}
