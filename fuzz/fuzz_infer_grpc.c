/*
 * ModelInferRequest, unary and as the only message of a stream: one status each, and alike. The
 * first byte picks the model where the message names none that there is.
 */
#include "api/oip/grpc_infer.h"

#include "../tests/component/api/fake_call.h"

#include "codec/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_server server;
static struct fake_call call;

static void stop(void)
{
    fake_server_stop(&server);
}

static void start(void)
{
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "int8", 8, "INT8", "2, -1", 1, "");
    fake_model(&server, "two", 0, "UINT64", "-1", 2, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_server_start(&server, 64 << 20);
    if (atexit(stop) != 0) {
        abort();
    }
}

static void send_stream(struct md_str message)
{
    fake_call_begin(&server, &call, &md_oip_grpc_stream_infer_handler);
    fake_call_send(&server, &call, message);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const models[] = {"fp32", "text", "int8", "two", "labelled"};
    struct md_bytes message = {0};

    if (!server.loop) {
        start();
    }
    if (size == 0) {
        return 0;
    }
    md_pb_put_bytes(&message, 1, md_str_of(models[data[0] % MD_COUNT_OF(models)]));
    md_bytes_append(&message, data + 1, size - 1);
    fake_call_unary(&server, &call, &md_oip_grpc_infer_handler, md_bytes_view(&message));
    const bool is_good = call.error.code == MD_CODE_OK;
    const size_t answers = call.message_count;
    if (call.ends != 1 || answers != is_good) {
        abort();
    }
    fake_call_free(&call);
    send_stream(md_bytes_view(&message));
    const struct md_bytes *answer = &call.messages[0];
    if (call.ends != 1 || call.error.code != MD_CODE_OK || call.message_count != 1 ||
        (answer->data[0] == '\x12') != is_good) {
        abort();
    }
    fake_call_free(&call);
    md_bytes_deinit(&message);
    return 0;
}
