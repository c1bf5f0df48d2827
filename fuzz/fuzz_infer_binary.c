/*
 * Inference requests with binary tensors and raw ones. The first byte picks the model, the next two
 * are the length of the JSON (beyond the body: as long as the body).
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
    static const char *const paths[] = {"/v2/models/fp32/infer", "/v2/models/text/infer",
                                        "/v2/models/batched/infer", "/v2/models/two/infer"};
    struct fake_exchange fake;

    if (!server.loop) {
        fake_server_init(&server);
        fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
        fake_model(&server, "text", 0, "STRING", "-1", 1, "");
        fake_model(&server, "batched", 8, "INT16", "2, -1", 1, "");
        fake_model(&server, "two", 0, "UINT8", "-1", 2, "");
        fake_server_start(&server, 64 << 20);
        if (atexit(stop) != 0) {
            abort();
        }
    }
    if (size < 3) {
        return 0;
    }
    size_t json_bytes = md_size_min((size_t)data[1] << 8 | data[2], size - 3);
    fake_send(&server, &fake, MD_HTTP_POST, paths[data[0] % MD_COUNT_OF(paths)],
              md_str_make((const char *)data + 3, size - 3), (long)json_bytes);
    if (fake.answers != 1) {
        abort();
    }
    fake_free(&fake);
    return 0;
}
