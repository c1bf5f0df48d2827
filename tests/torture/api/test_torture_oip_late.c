/*
 * Answers that leave before their request has ended, with every allocation failing once, or all
 * from one on: each client has one answer, which says that it is too late or that the server has no
 * memory; what is held is let go; no reference and no byte of the budget stays behind.
 */
#include "torture/torture.h"

#include "api/oip/grpc_infer.h"
#include "api/oip/grpc_stream.h"
#include "api/oip/infer.h"
#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"

enum { INFLIGHT_BYTES = 64 << 20 };

static struct fake_server server;
static struct fake_call call;
static struct fake_exchange fake;
static struct torture torture;

static int start(void **state)
{
    (void)state;
    fake_server_init(&server);
    server.executor_count = 2;
    fake_model(&server, "fast", 0, "FP32", "-1", 1, "");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"3\" } }");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

static void late(struct md_request *request)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_DEADLINE, "Deadline Exceeded");
    torture_arm(&torture);
    request->responder->late(request, &err);
    (void)torture_disarm(&torture);
}

static void wait_for_release(const struct md_exchange *x)
{
    for (int turn = 0; x->holds && turn < FAKE_TURNS_MAX; turn++) {
        fake_call_turn(&server);
    }
    torture_check(&torture, x->holds == 0);
}

static bool says(const struct md_bytes *text, const char *words)
{
    return memmem(text->data, text->len, words, strlen(words)) != NULL;
}

/* --- REST -------------------- */

static void rest_is_late(struct md_loop_task *task)
{
    (void)task;
    late(&((struct md_oip_infer *)fake.x.dialect)->base.request);
}

static void test_torture_late_rest(void **state)
{
    static const struct md_str body = MD_STR(
        "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1]}]}");
    struct md_loop_task task = {.run = rest_is_late};

    (void)state;
    for (torture = (struct torture){.kind = MD_FAULT_ALLOC}; torture_next(&torture);) {
        md_loop_defer(server.loop, &task);
        fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/slow/infer", body, -1);
        torture_check(&torture, fake.status == 504 || (torture.delivered && fake.status == 503));
        wait_for_release(&fake.x);
        torture_check(&torture, fake.answers == 1);
        fake_free(&fake);
    }
}

/* --- gRPC -------------------- */

static struct md_str message_for(struct md_bytes *text, const char *model)
{
    md_bytes_clear(text);
    put_request(text, model, "id", "FP32", 1, RAW("abcd"));
    return md_bytes_view(text);
}

static void open_stream(void)
{
    fake_call_open(&server, &call, "/inference.GRPCInferenceService/ModelStreamInfer", NULL);
}

static struct md_request *newest_request(void)
{
    const struct md_oip_grpc_stream *stream = call.fake.x.dialect;

    return &stream->parts->infer.base.request;
}

/* A message at once, one behind it that has to wait for its turn. */
static void test_torture_late_stream(void **state)
{
    struct md_bytes text = {0};

    (void)state;
    for (int waits = 0; waits < 2; waits++) {
        for (torture = (struct torture){.kind = MD_FAULT_ALLOC}; torture_next(&torture);) {
            open_stream();
            if (waits) {
                fake_call_send(&server, &call, message_for(&text, "slow"));
            }
            fake_call_send(&server, &call, message_for(&text, "slow"));
            assert_true(md_bytes_reserve(&call.messages[waits], 4096)); /* the client's own */
            late(newest_request());
            fake_call_send(&server, &call, message_for(&text, "fast"));
            fake_call_close(&server, &call);
            fake_call_wait(&server, &call, SIZE_MAX);
            torture_check(&torture, call.ends == 1 && call.error.code == MD_CODE_OK);
            torture_check(&torture, call.message_count == (size_t)waits + 2);
            const struct md_bytes *told = &call.messages[waits];
            torture_check(&torture, says(told, "Deadline Exceeded") ||
                                        (torture.delivered && says(told, "out of memory")));
            wait_for_release(&call.fake.x);
            fake_call_free(&call);
        }
    }
    md_bytes_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_late_rest),
        cmocka_unit_test(test_torture_late_stream),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
