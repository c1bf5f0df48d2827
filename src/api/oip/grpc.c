/*
 * The table of methods and the table of statuses.
 */
#include "api/oip/grpc.h"

#include "api/oip/facts.h"
#include "api/oip/grpc_calls.h"
#include "api/oip/grpc_infer.h"
#include "api/oip/reply.h"

#define INFERENCE(name)  "/inference.GRPCInferenceService/" name
#define HEALTH(name)     "/grpc.health.v1.Health/" name
#define REFLECTION(name) "/grpc.reflection." name ".ServerReflection/ServerReflectionInfo"

/* Rows: calls that are answered at once; those that change the server; those that are not
 * implemented; those with a handler of their own. */
#define CALL(name, api, function)                                                                 \
    {                                                                                             \
        .path = name, .handler = &md_oip_unary_handler, .group = MD_API_##api, .answer = function \
    }
#define REFUSED(name, api, changes, sentence)                                                      \
    {                                                                                              \
        .path = name, .handler = &md_oip_unary_handler, .group = MD_API_##api, .manages = changes, \
        .refusal = sentence                                                                        \
    }
#define HANDLED(name, api, own)                              \
    {                                                        \
        .path = name, .handler = &own, .group = MD_API_##api \
    }

static const struct md_oip_grpc_method methods[] = {
    HANDLED(INFERENCE("ModelInfer"), INFERENCE, md_oip_grpc_infer_handler), /* often: so first */
    HANDLED(INFERENCE("ModelStreamInfer"), INFERENCE, md_oip_grpc_stream_infer_handler),
    CALL(INFERENCE("ServerLive"), HEALTH, md_oip_grpc_server_live),
    CALL(INFERENCE("ServerReady"), HEALTH, md_oip_grpc_server_ready),
    CALL(INFERENCE("ModelReady"), HEALTH, md_oip_grpc_model_ready),
    CALL(INFERENCE("ServerMetadata"), METADATA, md_oip_grpc_server_metadata),
    CALL(INFERENCE("ModelMetadata"), METADATA, md_oip_grpc_model_metadata),
    CALL(INFERENCE("ModelConfig"), MODEL_CONFIG, md_oip_grpc_model_config),
    CALL(INFERENCE("ModelStatistics"), STATISTICS, md_oip_grpc_statistics),
    CALL(INFERENCE("RepositoryIndex"), MODEL_REPOSITORY, md_oip_grpc_index),
    REFUSED(INFERENCE("RepositoryModelLoad"), MODEL_REPOSITORY, true, md_oip_no_load),
    REFUSED(INFERENCE("RepositoryModelUnload"), MODEL_REPOSITORY, true, md_oip_no_load),
    CALL(INFERENCE("SystemSharedMemoryStatus"), SHARED_MEMORY, md_oip_grpc_system_status),
    CALL(INFERENCE("SystemSharedMemoryRegister"), SHARED_MEMORY, md_oip_grpc_system_register),
    CALL(INFERENCE("SystemSharedMemoryUnregister"), SHARED_MEMORY, md_oip_grpc_system_unregister),
    CALL(INFERENCE("CudaSharedMemoryStatus"), SHARED_MEMORY, md_oip_grpc_cuda_status),
    CALL(INFERENCE("CudaSharedMemoryRegister"), SHARED_MEMORY, md_oip_grpc_cuda_register),
    CALL(INFERENCE("CudaSharedMemoryUnregister"), SHARED_MEMORY, md_oip_grpc_cuda_unregister),
    CALL(INFERENCE("TraceSetting"), TRACE, md_oip_grpc_trace_setting),
    CALL(INFERENCE("LogSettings"), LOGGING, md_oip_grpc_log_settings),
    CALL(HEALTH("Check"), HEALTH, md_oip_grpc_health_check),
    CALL(HEALTH("List"), HEALTH, md_oip_grpc_health_list),
    HANDLED(HEALTH("Watch"), HEALTH, md_oip_grpc_health_watch_handler),
    HANDLED(REFLECTION("v1"), UNGROUPED, md_oip_grpc_reflection_handler),
    HANDLED(REFLECTION("v1alpha"), UNGROUPED, md_oip_grpc_reflection_handler),
};

/* Reasons whose status is not the one of their code. */
static const struct {
    enum md_reason reason;
    enum md_code code;
} reason_codes[] = {
    {MD_REASON_RESTRICTED, MD_CODE_UNAVAILABLE},
    {MD_REASON_MALFORMED, MD_CODE_INTERNAL}, /* as gRPC itself for what is no message */
};

enum md_code md_oip_grpc_code(const struct md_error *err)
{
    for (size_t i = 0; i < MD_COUNT_OF(reason_codes); i++) {
        if (reason_codes[i].reason == err->reason) {
            return reason_codes[i].code;
        }
    }
    return err->code;
}

void md_oip_grpc_fail(struct md_exchange *x, const struct md_error *err)
{
    struct md_error status = *err;

    md_oip_log_error(x, err);
    status.code = md_oip_grpc_code(err);
    md_grpc_end(x, &status);
}

/* --- routes -------------------- */

static void fail_unknown(struct md_exchange *x)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_UNSUPPORTED, "there is no method '%.*s'",
                       MD_STR_ARG(x->head.path));
    md_oip_grpc_fail(x, &err);
}

/* The kept error, before any message is received. */
static void fail_access(struct md_exchange *x)
{
    struct md_error err;

    if (x->dialect) {
        md_oip_grpc_fail(x, x->dialect);
    } else {
        (void)md_error_no_memory(&err, "a call");
        md_oip_grpc_fail(x, &err);
    }
}

static const struct md_http_handler unknown_handler = {.on_head = fail_unknown};
static const struct md_http_handler refused_handler = {.on_head = fail_access};

static const struct md_oip_grpc_method *find(struct md_str path)
{
    for (size_t i = 0; i < MD_COUNT_OF(methods); i++) {
        if (md_str_eq_c(path, methods[i].path)) {
            return &methods[i];
        }
    }
    return NULL;
}

void md_oip_grpc_route(const struct md_oip *oip, struct md_exchange *x)
{
    const struct md_oip_grpc_method *method = find(x->head.path);
    struct md_error err;

    x->route_data = oip;
    if (!method) {
        x->handler = &unknown_handler;
    } else if (!md_access_allows(oip->access, method->group, MD_ACCESS_GRPC, x, &err) ||
               (method->manages && !md_access_may_manage(oip->access, x, &err))) {
        struct md_error *kept = md_arena_alloc(&x->arena, sizeof *kept);
        if (kept) {
            *kept = err;
        }
        x->handler = &refused_handler;
        x->dialect = kept;
    } else {
        x->handler = method->handler;
        x->dialect = method->handler == &md_oip_unary_handler ? (void *)(uintptr_t)method : NULL;
    }
}
