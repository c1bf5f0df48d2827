/*
 * Registering shared memory over gRPC. Names are field 1 of every request.
 */
#include "api/oip/grpc_calls.h"
#include "codec/protobuf.h"
#include "codec/utf8.h"

static enum md_progress progress_of(bool ok)
{
    return ok ? MD_PROGRESS_DONE : MD_PROGRESS_ERROR;
}

/* An entry of the response's map. */
static void put_region(struct md_bytes *out, const struct md_region_info *info)
{
    size_t entry = md_pb_begin(out, 1);

    md_pb_put_bytes(out, 1, info->name);
    size_t status = md_pb_begin(out, 2);
    md_pb_put_bytes(out, 1, info->name);
    md_pb_put_bytes(out, 2, info->key);
    md_pb_put_varint(out, 3, info->offset);
    md_pb_put_varint(out, 4, info->bytes);
    md_pb_end(out, status);
    md_pb_end(out, entry);
}

enum md_progress md_oip_grpc_system_status(struct md_oip_unary *call, struct md_error *err)
{
    struct md_region_info *infos;
    struct md_oip_names names;
    size_t count;

    if (!md_oip_names_read(call->request, &names, err) ||
        !md_regions_list(call->oip->regions, names.first, &call->x->arena, &infos, &count, err)) {
        return MD_PROGRESS_ERROR;
    }
    for (size_t i = 0; i < count; i++) {
        put_region(&call->out, &infos[i]);
    }
    return MD_PROGRESS_DONE;
}

enum md_progress md_oip_grpc_system_register(struct md_oip_unary *call, struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(call->request);
    struct md_region_info info = {.name = MD_STR(""), .key = MD_STR("")};
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        switch (field.tag) {
        case MD_PB_TAG(1, MD_PB_BYTES):
            info.name = field.bytes;
            break;
        case MD_PB_TAG(2, MD_PB_BYTES):
            info.key = field.bytes;
            break;
        case MD_PB_TAG(3, MD_PB_VARINT):
            info.offset = field.value;
            break;
        case MD_PB_TAG(4, MD_PB_VARINT):
            info.bytes = field.value;
            break;
        default:
            break;
        }
    }
    if (reader.failed || !md_utf8_is_valid(info.name) || !md_utf8_is_valid(info.key)) {
        return progress_of(md_oip_unary_malformed(err));
    }
    return progress_of(md_regions_register(call->oip->regions, &info, err));
}

enum md_progress md_oip_grpc_system_unregister(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_names names;

    return progress_of(md_oip_names_read(call->request, &names, err) &&
                       md_regions_unregister(call->oip->regions, names.first, err));
}

/* --- CUDA: there is none -------------------- */

enum md_progress md_oip_grpc_cuda_status(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_names names;

    return progress_of(
        md_oip_names_read(call->request, &names, err) &&
        (!names.first.len || md_regions_find_cuda(call->oip->regions, names.first, err)));
}

enum md_progress md_oip_grpc_cuda_register(struct md_oip_unary *call, struct md_error *err)
{
    struct md_oip_names names; /* the second is a handle */

    return progress_of(md_oip_entry_read(call->request, &names, err) &&
                       md_regions_register_cuda(call->oip->regions, names.first, err));
}

enum md_progress md_oip_grpc_cuda_unregister(struct md_oip_unary *call, struct md_error *err)
{
    return progress_of(call->oip->regions || md_regions_register_cuda(NULL, MD_STR(""), err));
}
