/*
 * Requests of the dialect in which every allocation fails once, or all from one on: one answer,
 * which is the right one or says that the server has no memory; the next request is served as ever;
 * no reference and no byte of the budget stays behind.
 */
#include "component/api/fake_metrics.h"
#include "torture/torture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { INFLIGHT_BYTES = 64 << 20, MANY_ELEMENTS = 20000, SHARED_BYTES = 16384 };

static struct fake_server server;
static char shared_key[64];

/* The region "r" is registered, and holds zeroes. */
static bool share(struct md_str name, struct md_error *err)
{
    const struct md_region_info info = {
        .name = name, .key = md_str_of(shared_key), .bytes = SHARED_BYTES};

    return md_regions_register(server.regions, &info, err);
}

static void start_sharing(void)
{
    struct md_error err;

    (void)snprintf(shared_key, sizeof shared_key, "/modeld-torture-%d", (int)getpid());
    int fd = shm_open(shared_key, O_CREAT | O_EXCL | O_RDWR, 0600);
    assert_true(fd >= 0 && ftruncate(fd, SHARED_BYTES) == 0);
    close(fd);
    assert_true(share(MD_STR("r"), &err));
}

static int start(void **state)
{
    static const char on_executor[] =
        "parameters { key: \"modeld_inline\" value { string_value: \"off\" } }";

    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "two", 0, "INT64", "-1", 2, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "batched", 8, "FP32", "4", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "fp32_executor", 0, "FP32", "-1", 1, on_executor);
    fake_model(&server, "text_executor", 0, "STRING", "-1", 1, on_executor);
    fake_server_start(&server, INFLIGHT_BYTES);
    fake_metrics_init(&server);
    start_sharing();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    (void)shm_unlink(shared_key);
    fake_server_stop(&server);
    return 0;
}

/* --- requests -------------------- */

#define INPUT(name, type, shape, data) \
    "{\"name\":\"" name "\",\"datatype\":\"" type "\",\"shape\":[" shape "],\"data\":[" data "]}"
#define FP32_INPUT "{\"inputs\":[" INPUT("INPUT0", "FP32", "2", "1,2.5") "]"
#define BINARY_HEAD                                                                       \
    "{\"id\":\"i\",\"inputs\":[{\"name\":\"INPUT0\",\"shape\":[2],\"datatype\":\"FP32\"," \
    "\"parameters\":{\"binary_data_size\":8}}],\"outputs\":[{\"name\":\"OUTPUT0\","       \
    "\"parameters\":{\"binary_data\":true}}]}"

#define SHARED(bytes) "\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":" bytes
#define SHARED_INPUT(type, shape, bytes)                                            \
    "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"" type "\",\"shape\":[" shape \
    "],\"parameters\":{" SHARED(bytes) "}}]"

struct request {
    const char *name, *path, *body;
    size_t body_len;
    long json_bytes;
    unsigned status;
    bool varies; /* its answer is another each time */
};

#define POST(name, path, body, status)                       \
    {                                                        \
        name, path, body, sizeof body - 1, -1, status, false \
    }
#define GET(name, path, status)              \
    {                                        \
        name, path, "", 0, -1, status, false \
    }

static const struct request requests[] = {
    POST(
        "shared_both_ways", "/v2/models/fp32/infer",
        SHARED_INPUT("FP32", "2048", "8192") ",\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{"
                                             "\"shared_memory_offset\":8192," SHARED("8192") "}}]}",
        200),
    POST("shared_and_sent", "/v2/models/fp32_executor/infer",
         SHARED_INPUT("FP32", "2048", "8192") ",\"parameters\":{\"binary_data_output\":true}}",
         200),
    POST("shared_text", "/v2/models/text/infer", SHARED_INPUT("BYTES", "1024", "4096") "}", 200),
    POST("shared_out_of_bounds", "/v2/models/fp32/infer", SHARED_INPUT("FP32", "8192", "32768") "}",
         400),
    GET("shared_status", "/v2/systemsharedmemory/status", 200),
    POST("shared_twice", "/v2/systemsharedmemory/region/r/register",
         "{\"key\":\"/x\",\"byte_size\":1}", 400),
    POST("json", "/v2/models/fp32/infer", FP32_INPUT "}", 200),
    POST(
        "json_data_first", "/v2/models/fp32/infer",
        "{\"inputs\":[{\"data\":[[1],[2]],\"name\":\"INPUT0\",\"shape\":[2],\"datatype\":\"FP32\"}]}",
        200),
    POST("json_on_executor", "/v2/models/fp32_executor/infer", FP32_INPUT "}", 200),
    POST("json_id_and_parameters", "/v2/models/fp32/versions/1/infer",
         FP32_INPUT ",\"id\":\"a\\u00e4\",\"parameters\":{\"sequence_id\":\"s\\n\",\"mine\":1.5,"
                    "\"other\":true},\"outputs\":[{\"name\":\"OUTPUT0\"}]}",
         200),
    POST("two_tensors", "/v2/models/two/infer",
         "{\"inputs\":[" INPUT("INPUT0", "INT64", "3", "1,2,9007199254740993") "," INPUT(
             "INPUT1", "INT64", "1", "-4") "],\"parameters\":{\"binary_data_output\":true}}",
         200),
    POST("strings", "/v2/models/text/infer",
         "{\"inputs\":[" INPUT("INPUT0", "BYTES", "3",
                               "\"\",\"a\\n\\\"\",\"\\u20ac and more of it\"") "]}",
         200),
    POST("strings_on_executor", "/v2/models/text_executor/infer",
         "{\"inputs\":[" INPUT("INPUT0", "BYTES", "1", "\"x\"") "]}", 200),
    POST("batched", "/v2/models/batched/infer",
         "{\"inputs\":[" INPUT("INPUT0", "FP32", "2,4", "[1,2,3,4],[5,6,7,8]") "]}", 200),
    POST("classes", "/v2/models/labelled/infer",
         FP32_INPUT ",\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{\"classification\":2}}]}",
         200),
    {"binary", "/v2/models/fp32/infer", BINARY_HEAD "12345678", sizeof BINARY_HEAD - 1 + 8,
     sizeof BINARY_HEAD - 1, 200, false},
    {"binary_on_executor", "/v2/models/fp32_executor/infer", BINARY_HEAD "12345678",
     sizeof BINARY_HEAD - 1 + 8, sizeof BINARY_HEAD - 1, 200, false},
    {"binary_too_short", "/v2/models/fp32/infer", BINARY_HEAD "1234", sizeof BINARY_HEAD - 1 + 4,
     sizeof BINARY_HEAD - 1, 400, false},
    {"raw", "/v2/models/fp32/infer", "0123456789abcdef", 16, 0, 200, false},
    POST("no_json", "/v2/models/fp32/infer", "{\"inputs\":", 400),
    POST("bad_string", "/v2/models/text/infer", "{\"id\":\"\\ud800\"", 400),
    POST("wrong_type", "/v2/models/fp32/infer",
         "{\"inputs\":[" INPUT("INPUT0", "INT32", "1", "1") "]}", 400),
    POST("wrong_shape", "/v2/models/fp32/infer",
         "{\"inputs\":[" INPUT("INPUT0", "FP32", "1,1", "1") "]}", 400),
    POST("missing_inputs", "/v2/models/two/infer", "{\"inputs\":[]}", 400),
    POST("unknown_output", "/v2/models/fp32/infer", FP32_INPUT ",\"outputs\":[{\"name\":\"Y\"}]}",
         400),
    POST("unknown_model", "/v2/models/no%20such/infer", FP32_INPUT "}", 404),
    GET("unknown_path", "/v3", 404),
    GET("wrong_method", "/v2/models/fp32/infer", 405),
    GET("server", "/v2", 200),
    GET("model", "/v2/models/two", 200),
    GET("escaped_model", "/v2/models/%66p32/versions/1", 200),
    GET("model_ready", "/v2/models/fp32/ready", 200),
    GET("config", "/v2/models/labelled/config", 200),
    {"statistics", "/v2/models/fp32/versions/1/stats", "", 0, -1, 200, true},
    {"all_statistics", "/v2/models/stats", "", 0, -1, 200, true},
    {"index", "/v2/repository/index", "", 0, -1, 200, false},
    POST("index_ready", "/v2/repository/index",
         "{\"\\u0072eady\":true,\"a long key that is \\u0065scaped\":[{}]}", 200),
    POST("index_wrong", "/v2/repository/index", "{\"ready\":1}", 400),
    GET("logging", "/v2/logging", 200),
    POST("set_logging", "/v2/logging", "{\"log_in\\u0066o\":true,\"log_verbose_level\":0}", 200),
    POST("set_logging_wrong", "/v2/logging", "{\"x\\n\":true}", 400),
    POST("load", "/v2/repository/models/fp32/load", "{}", 501),
};

static void send_request(const struct request *request, struct fake_exchange *fake)
{
    bool is_post = request->body_len || strcmp(request->name, "index") == 0;

    fake_send(&server, fake, is_post ? MD_HTTP_POST : MD_HTTP_GET, request->path,
              md_str_make(request->body, request->body_len), request->json_bytes);
}

/* --- judging -------------------- */

static void nothing_is_in_flight(const struct torture *t)
{
    for (size_t i = 0; i < md_models_count(server.models); i++) {
        struct md_target_totals totals;
        md_target_sum(&md_models_at(server.models, i)->versions[0].target, &totals);
        torture_check(t, totals.in_flight == 0 && totals.pending == 0);
    }
}

static void next_request_is_served(const struct torture *t)
{
    for (size_t i = 0; i < 3; i += 2) { /* inline, and on an executor */
        struct fake_exchange fake;
        send_request(&requests[i], &fake);
        torture_check(t, fake.status == 200);
        fake_free(&fake);
    }
}

static void torture_request(const struct request *request, enum md_fault_kind kind)
{
    struct fake_exchange first;

    send_request(request, &first);
    assert_int_equal(first.status, request->status);
    struct md_bytes right = first.body;
    first.body = (struct md_bytes){0};
    fake_free(&first);
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct fake_exchange fake;
        md_pool_trim(md_loop_pool(server.loop), 0); /* so that each block is an allocation */
        torture_arm(&t);
        send_request(request, &fake);
        bool delivered = torture_disarm(&t);
        /* a sentence may lack the names that there was no memory for */
        bool may_differ =
            request->varies || (delivered && (request->status >= 400 || fake.body.failed));
        bool is_right = fake.status == request->status &&
                        (md_str_eq(md_bytes_view(&fake.body), md_bytes_view(&right)) ||
                         (may_differ && (fake.body.failed || fake.body.data[0] == '{')));
        bool is_refusal = delivered && fake.status == 503 && fake.retry_after;
        unsigned answers = fake.answers;
        if (!is_right && !is_refusal) {
            print_error("status %u: %.*s\n", fake.status, (int)fake.body.len, fake.body.data);
        }
        fake_free(&fake);
        torture_check(&t, answers == 1);
        torture_check(&t, is_right || is_refusal);
        nothing_is_in_flight(&t);
        next_request_is_served(&t);
    }
    md_bytes_deinit(&right);
}

static void test_torture_infer(void **state)
{
    torture_request(*state, MD_FAULT_ALLOC);
    torture_request(*state, MD_FAULT_REGION);
}

/* A body whose decoding and encoding yield in between. */
static void test_torture_infer_large(void **state)
{
    struct md_bytes json = {0};
    static const char *const paths[] = {"/v2/models/fp32/infer", "/v2/models/fp32_executor/infer"};

    (void)state;
    md_bytes_printf(&json,
                    "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[%d],"
                    "\"data\":[0",
                    MANY_ELEMENTS);
    for (size_t i = 1; i < MANY_ELEMENTS; i++) {
        md_bytes_printf(&json, ",%zu.5", i);
    }
    md_bytes_append_c(&json, "]}]}");
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        const struct request request = {"large", paths[i], json.data, json.len, -1, 200, false};
        torture_request(&request, MD_FAULT_ALLOC);
        torture_request(&request, MD_FAULT_REGION);
    }
    md_bytes_deinit(&json);
}

/* The page comes in pieces; without memory it ends early, once. */
static void torture_metrics(enum md_fault_kind kind)
{
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct fake_exchange fake = {0};
        fake.x.loop = server.loop;
        fake.x.head = (struct md_http_head){.method = MD_HTTP_GET, .path = MD_STR("/metrics")};
        assert_true(md_bytes_reserve(&fake.body, 1 << 20));
        torture_arm(&t);
        md_metrics_route(&metrics, &fake.x);
        fake.x.handler->on_request(&fake.x);
        for (int turn = 0; turn < 1000 && !fake.ends && fake.drained; turn++) {
            struct md_error err;
            fake.drained(&fake.x);
            assert_true(md_loop_run_once(server.loop, 0, &err));
        }
        bool delivered = torture_disarm(&t);
        md_bytes_append_char(&fake.body, '\0');
        torture_check(&t, fake.answers == 1);
        torture_check(&t, fake.status == 200 || (delivered && fake.status == 503));
        torture_check(&t, fake.ends == (fake.drained != NULL));
        torture_check(&t, delivered || strstr(fake.body.data, "modeld_build_info{"));
        fake_free(&fake);
    }
}

static void test_torture_infer_metrics(void **state)
{
    (void)state;
    torture_metrics(MD_FAULT_ALLOC);
    torture_metrics(MD_FAULT_REGION);
}

static void torture_sharing(enum md_fault_kind kind)
{
    struct md_error err;

    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        torture_arm(&t);
        bool ok = share(MD_STR("s"), &err);
        bool delivered = torture_disarm(&t);
        torture_check(&t, ok || delivered);
        assert_true(md_regions_unregister(server.regions, MD_STR("s"), &err));
        assert_true(share(MD_STR("s"), &err)); /* nothing stayed behind */
        assert_true(md_regions_unregister(server.regions, MD_STR("s"), &err));
    }
}

static void test_torture_infer_sharing(void **state)
{
    (void)state;
    torture_sharing(MD_FAULT_ALLOC);
    torture_sharing(MD_FAULT_SYSCALL);
}

int main(void)
{
    enum { COUNT = MD_COUNT_OF(requests) };
    static char names[COUNT][64];
    struct CMUnitTest tests[COUNT + 3] = {cmocka_unit_test(test_torture_infer_large),
                                          cmocka_unit_test(test_torture_infer_sharing),
                                          cmocka_unit_test(test_torture_infer_metrics)};

    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof names[i], "test_torture_infer_%s", requests[i].name);
        tests[3 + i] = (struct CMUnitTest){.name = names[i],
                                           .test_func = test_torture_infer,
                                           .initial_state = (void *)(uintptr_t)&requests[i]};
    }
    return cmocka_run_group_tests(tests, start, stop);
}
