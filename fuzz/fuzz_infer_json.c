/*
 * Inference requests as JSON, through the whole dialect: decode, check, identity, encode. The first
 * byte picks the model.
 */
#include "../tests/component/api/fake_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_server server;

static void stop(void)
{
    fake_server_stop(&server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/v2/models/fp32/infer", "/v2/models/int64/infer",
                                        "/v2/models/text/infer", "/v2/models/batched/infer"};
    struct fake_exchange fake;

    if (!server.loop) {
        fake_server_init(&server);
        fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
        fake_model(&server, "int64", 0, "INT64", "-1", 2, "");
        fake_model(&server, "text", 0, "STRING", "-1", 1, "");
        fake_model(&server, "batched", 8, "FP16", "4", 1, "");
        fake_server_start(&server, 64 << 20);
        if (atexit(stop) != 0) {
            abort();
        }
    }
    if (size == 0) {
        return 0;
    }
    fake_send(&server, &fake, MD_HTTP_POST, paths[data[0] % MD_COUNT_OF(paths)],
              md_str_make((const char *)data + 1, size - 1), -1);
    if (fake.answers != 1) {
        abort();
    }
    fake_free(&fake);
    return 0;
}
