/*
 * gRPC calls that are no inference: the first byte picks the method, the rest is its message. Each
 * is answered once, with a message or an error.
 */
#include "component/api/fake_call.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_server server;

static void stop(void)
{
    fake_server_stop(&server);
}

static void start(void)
{
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "batched", 8, "FP16", "4", 1, "");
    fake_server_start(&server, 64 << 20);
    if (atexit(stop) != 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {
        "/inference.GRPCInferenceService/ModelReady",
        "/inference.GRPCInferenceService/ModelMetadata",
        "/inference.GRPCInferenceService/ModelConfig",
        "/inference.GRPCInferenceService/ModelStatistics",
        "/inference.GRPCInferenceService/RepositoryIndex",
        "/inference.GRPCInferenceService/LogSettings",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/inference.GRPCInferenceService/TraceSetting",
    };
    static struct fake_call call;

    if (!server.loop) {
        start();
    }
    if (size == 0) {
        return 0;
    }
    fake_call_open(&server, &call, paths[data[0] % MD_COUNT_OF(paths)], NULL);
    fake_call_send(&server, &call, md_str_make((const char *)data + 1, size - 1));
    fake_call_close(&server, &call);
    fake_call_cancel(&call); /* of what goes on */
    if (call.ends != 1 || (call.error.code == MD_CODE_OK && call.message_count != 1)) {
        abort();
    }
    fake_call_free(&call);
    return 0;
}
