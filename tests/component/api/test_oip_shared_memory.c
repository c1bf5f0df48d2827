/*
 * Shared memory over REST in front of identity models: registering, tensors in place, and owners
 * that take their memory away.
 */
#include "component/api/fake_server.h"
#include "os/signal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { INFLIGHT_BYTES = 64 << 20, REGION_BYTES = 4 << 20, HALF = REGION_BYTES / 2 };

static struct fake_server server;
static char key[64];
static int fd;
static float *memory; /* the client's own view of the region */

static int start(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "two", 0, "FP32", "-1", 2, "");
    fake_model(&server, "batched", 8, "FP32", "4", 1, "");
    fake_model(&server, "labelled", 0, "FP32", "-1", 1, "");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"50\" } }");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

static const char *text_of(struct fake_exchange *fake)
{
    md_bytes_append_char(&fake->body, '\0');
    return fake->body.data;
}

static void expect_on(enum md_http_method method, const char *path, const char *body,
                      unsigned status, const char *answer)
{
    struct fake_exchange fake;

    fake_send(&server, &fake, method, path, md_str_of(body), -1);
    assert_int_equal(fake.answers, 1);
    assert_string_equal(text_of(&fake), answer);
    assert_int_equal(fake.status, status);
    fake_free(&fake);
}

static void expect(const char *model, const char *json, unsigned status, const char *answer)
{
    char path[128];

    (void)snprintf(path, sizeof path, "/v2/models/%s/infer", model);
    expect_on(MD_HTTP_POST, path, json, status, answer);
}

static void post(const char *path, const char *body, unsigned status, const char *answer)
{
    expect_on(MD_HTTP_POST, path, body, status, answer);
}

static void status_is(const char *answer)
{
    expect_on(MD_HTTP_GET, "/v2/systemsharedmemory/status", "", 200, answer);
}

/* An object with a region "r" that is all of it. */
static int set_up(void **state)
{
    char body[128];

    (void)state;
    (void)snprintf(key, sizeof key, "/modeld-test-%d", (int)getpid());
    fd = shm_open(key, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0 || ftruncate(fd, REGION_BYTES) != 0) {
        return -1;
    }
    memory = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)snprintf(body, sizeof body, "{\"key\":\"%s\",\"byte_size\":%d}", key, REGION_BYTES);
    post("/v2/systemsharedmemory/region/r/register", body, 200, "");
    return memory == MAP_FAILED;
}

static int tear_down(void **state)
{
    (void)state;
    post("/v2/systemsharedmemory/unregister", "", 200, "");
    (void)munmap(memory, REGION_BYTES);
    close(fd);
    return shm_unlink(key);
}

/* --- registering -------------------- */

static void test_oip_shared_memory_is_registered_and_listed(void **state)
{
    char body[256];

    (void)state;
    (void)snprintf(body, sizeof body, "{\"offset\":100,\"byte_size\":50,\"key\":\"%s\"}", key);
    post("/v2/systemsharedmemory/region/a%20%C3%A4%2Fb%22/register", body, 200, "");
    (void)snprintf(body, sizeof body,
                   "[{\"name\":\"a \u00e4/b\\\"\",\"key\":\"%s\",\"offset\":100,\"byte_size\":50},"
                   "{\"name\":\"r\",\"key\":\"%s\",\"offset\":0,\"byte_size\":%d}]",
                   key, key, REGION_BYTES);
    status_is(body);
    (void)snprintf(body, sizeof body,
                   "[{\"name\":\"r\",\"key\":\"%s\",\"offset\":0,\"byte_size\":%d}]", key,
                   REGION_BYTES);
    expect_on(MD_HTTP_GET, "/v2/systemsharedmemory/region/r/status", "", 200, body);
    post("/v2/systemsharedmemory/region/a%20%C3%A4%2Fb%22/unregister", "", 200, "");
    status_is(body);
    post("/v2/systemsharedmemory/region/unknown/unregister", "", 200, "");
    post("/v2/systemsharedmemory/unregister", "", 200, "");
    status_is("[]");
}

static void test_oip_shared_memory_refuses_bad_registrations(void **state)
{
    static const struct {
        const char *name, *body; /* %s: the key */
        unsigned status;
        const char *error;
    } rows[] = {
        {"r", "{\"key\":\"%s\",\"byte_size\":1}", 400,
         "shared memory region 'r' already in manager"},
        {"n", "{\"key\":\"%s\",\"byte_size\":4194305}", 400,
         "failed to register shared memory region 'n': invalid args"},
        {"n", "{\"key\":\"%s\",\"byte_size\":4194304,\"offset\":1}", 400,
         "failed to register shared memory region 'n': invalid args"},
        {"n", "{\"key\":\"%s\",\"byte_size\":2,\"offset\":18446744073709551615}", 400,
         "failed to register shared memory region 'n': invalid args"},
        {"n", "{\"key\":\"%s\",\"byte_size\":0}", 400,
         "failed to register shared memory region 'n': invalid args"},
        {"n", "{\"key\":\"%s\",\"byte_size\":-1}", 400,
         "Unable to parse 'byte_size': it must be a natural number"},
        {"n", "{\"key\":\"%s\",\"byte_size\":1,\"offset\":\"0\"}", 400,
         "Unable to parse 'offset': it must be a natural number"},
        {"n", "{\"key\":7,\"byte_size\":1}", 400, "Unable to parse 'key': it must be a string"},
        {"n", "{\"key\":\"%s\"}", 400, "Shared memory register request has no 'byte_size' field"},
        {"n", "{\"byte_size\":1}", 400, "Shared memory register request has no 'key' field"},
        {"n", "", 400, "Shared memory register request has no 'key' field"},
        {"n", "[]", 400, "the request must be a JSON object"},
        {"n", "{\"key\":\"/modeld-test-there-is-none\",\"byte_size\":1}", 500,
         "Unable to open shared memory region: '/modeld-test-there-is-none'"},
        {"n", "{\"key\":\"/../etc/passwd\",\"byte_size\":1}", 400,
         "failed to register shared memory region 'n': invalid shm key '/../etc/passwd'"},
        {"n", "{\"key\":\"//\",\"byte_size\":1}", 400,
         "cannot register shared memory region 'n' - invalid shm key '//'"},
        {"n", "{\"key\":\"/triton_python_backend_shm_region_1\",\"byte_size\":1}", 400,
         "cannot register shared memory region 'n' with key '/triton_python_backend_shm_region_1' as "
         "the key contains the reserved prefix 'triton_python_backend_shm_region_'"},
        {"%FF", "{\"key\":\"%s\",\"byte_size\":1}", 400,
         "the name of a shared memory region must be UTF-8 of 1 to 4096 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char path[128], body[256], answer[512];
        print_message("[  row   ] %s\n", rows[i].body);
        (void)snprintf(path, sizeof path, "/v2/systemsharedmemory/region/%s/register",
                       rows[i].name);
        const char *at = strstr(rows[i].body, "%s");
        (void)snprintf(body, sizeof body, "%.*s%s%s",
                       at ? (int)(at - rows[i].body) : (int)strlen(rows[i].body), rows[i].body,
                       at ? key : "", at ? at + 2 : "");
        (void)snprintf(answer, sizeof answer, "{\"error\":\"%s\"}", rows[i].error);
        post(path, body, rows[i].status, answer);
    }
    expect_on(MD_HTTP_GET, "/v2/systemsharedmemory/region/n/status", "", 404,
              "{\"error\":\"Unable to find system shared memory region: 'n'\"}");
}

static void test_oip_shared_memory_of_cuda_is_refused(void **state)
{
    (void)state;
    expect_on(MD_HTTP_GET, "/v2/cudasharedmemory/status", "", 200, "[]");
    expect_on(MD_HTTP_GET, "/v2/cudasharedmemory/region/x/status", "", 404,
              "{\"error\":\"Unable to find cuda shared memory region: 'x'\"}");
    expect_on(MD_HTTP_GET, "/v2/cudasharedmemory/region/r/status", "", 404,
              "{\"error\":\"The region named 'r' is registered as system shared memory, not CUDA "
              "shared memory\"}");
    post("/v2/cudasharedmemory/region/x/register", "{}", 400,
         "{\"error\":\"failed to register CUDA shared memory region: 'x', GPUs not supported\"}");
    post("/v2/cudasharedmemory/region/r/unregister", "", 200, "");
    post("/v2/cudasharedmemory/unregister", "", 200, "");
}

#define DISABLED                                                            \
    "{\"error\":\"Client shared memory is disabled. Start the server with " \
    "'--allow-client-shm=true' to enable.\"}"

static void test_oip_shared_memory_says_how_to_allow_it(void **state)
{
    static const char *const calls[] = {
        "/v2/systemsharedmemory/region/x/register",
        "/v2/systemsharedmemory/unregister",
        "/v2/systemsharedmemory/region/x/unregister",
        "/v2/cudasharedmemory/region/x/register",
        "/v2/cudasharedmemory/unregister",
    };

    (void)state;
    server.oip.regions = NULL;
    for (size_t i = 0; i < MD_COUNT_OF(calls); i++) {
        post(calls[i], "{\"key\":\"/k\",\"byte_size\":1}", 501, DISABLED);
    }
    status_is("[]");
    expect_on(MD_HTTP_GET, "/v2/cudasharedmemory/status", "", 200, "[]");
    expect("fp32",
           "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
           "\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":4}}]}",
           404,
           "{\"error\":\"Unable to find shared memory region: 'r': the server was started without "
           "--allow-client-shm\"}");
    server.oip.regions = server.regions;
}

/* --- tensors -------------------- */

#define IN(offset, bytes, shape)                                                        \
    "{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[" shape "],\"parameters\":{" \
    "\"shared_memory_region\":\"r\",\"shared_memory_offset\":" offset                   \
    ",\"shared_memory_byte_size\":" bytes "}}"
#define OUT(offset, bytes)                                                  \
    "{\"name\":\"OUTPUT0\",\"parameters\":{\"shared_memory_region\":\"r\"," \
    "\"shared_memory_offset\":" offset ",\"shared_memory_byte_size\":" bytes "}}"
#define HEAD(model)    "{\"model_name\":\"" model "\",\"model_version\":\"1\",\"outputs\":["
#define OUTPUT0(shape) "{\"name\":\"OUTPUT0\",\"datatype\":\"FP32\",\"shape\":[" shape "]"

static void test_oip_shared_memory_takes_inputs_where_they_lie(void **state)
{
    (void)state;
    memory[0] = 1.5F;
    memory[1] = -2;
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "]}", 200,
           HEAD("fp32") OUTPUT0("2") ",\"data\":[1.5,-2.0]}]}");
    expect("fp32", "{\"inputs\":[" IN("4194300", "4", "1") "]}", 200,
           HEAD("fp32") OUTPUT0("1") ",\"data\":[0.0]}]}");
    expect("fp32", "{\"inputs\":[" IN("4", "0", "0") "]}", 200,
           HEAD("fp32") OUTPUT0("0") ",\"data\":[]}]}");
    expect("batched", "{\"inputs\":[" IN("0", "16", "1,4") "]}", 200,
           HEAD("batched") OUTPUT0("1,4") ",\"data\":[1.5,-2.0,0.0,0.0]}]}");
}

static void test_oip_shared_memory_takes_outputs(void **state)
{
    (void)state;
    memory[0] = 3;
    memory[1] = 4;
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "],\"outputs\":[" OUT("100", "8") "]}", 200,
           HEAD("fp32") OUTPUT0("2") "}]}");
    assert_true(memory[25] == 3 && memory[26] == 4);
    /* more room than is needed; what comes as JSON; where the input lies */
    expect("fp32",
           "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[9]}],"
           "\"outputs\":[" OUT("8", "4000") "]}",
           200, HEAD("fp32") OUTPUT0("1") "}]}");
    assert_true(memory[2] == 9 && memory[3] == 0);
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "],\"outputs\":[" OUT("0", "8") "]}", 200,
           HEAD("fp32") OUTPUT0("2") "}]}");
    expect("fp32", "{\"inputs\":[" IN("0", "12", "3") "],\"outputs\":[" OUT("4", "12") "]}", 200,
           HEAD("fp32") OUTPUT0("3") "}]}");
    assert_true(memory[0] == 3 && memory[1] == 3 && memory[2] == 4 && memory[3] == 9);
}

static void test_oip_shared_memory_takes_strings(void **state)
{
    (void)state;
    memcpy(memory, "\2\0\0\0hi\0\0\0\0", 10);
    expect("text",
           "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"BYTES\",\"shape\":[2],\"parameters\":{"
           "\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":10}}],\"outputs\":["
           "{\"name\":\"OUTPUT0\",\"parameters\":{\"shared_memory_region\":\"r\","
           "\"shared_memory_offset\":64,\"shared_memory_byte_size\":64}}]}",
           200, HEAD("text") "{\"name\":\"OUTPUT0\",\"datatype\":\"BYTES\",\"shape\":[2]}]}");
    assert_memory_equal((char *)memory + 64, "\2\0\0\0hi\0\0\0\0", 10);
}

static void test_oip_shared_memory_large_tensors_go_in_slices(void **state)
{
    enum { COUNT = HALF / sizeof(float) };

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        memory[i] = (float)i;
    }
    expect("fp32",
           "{\"inputs\":[" IN("0", "2097152", "524288") "],\"outputs\":[" OUT("2097152",
                                                                              "2097152") "]}",
           200, HEAD("fp32") OUTPUT0("524288") "}]}");
    assert_memory_equal(memory, memory + COUNT, HALF);
}

/* The model hands on its input: the answer must not be sent out of the client's memory. */
static void test_oip_shared_memory_is_not_sent_from(void **state)
{
    struct fake_exchange fake;

    (void)state;
    memory[0] = 7;
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer",
              MD_STR("{\"inputs\":[" IN("0", "2097152", "524288") "],\"parameters\":{"
                                                                  "\"binary_data_output\":true}}"),
              -1);
    assert_int_equal(fake.status, 200);
    assert_int_equal(fake.body.len, fake.json_bytes + HALF);
    assert_true(server.budget.used_bytes >= HALF); /* it is a copy, which counts */
    fake_free(&fake);
    assert_true(server.budget.used_bytes < HALF);
}

static void test_oip_shared_memory_refuses_bad_places(void **state)
{
    static const struct {
        const char *model, *json;
        unsigned status;
        const char *error;
    } rows[] = {
        {"fp32", "{\"inputs\":[" IN("4194304", "0", "0") "]}", 400,
         "Invalid offset for shared memory region: 'r'"},
        {"fp32", "{\"inputs\":[" IN("9223372036854775807", "9223372036854775807", "0") "]}", 400,
         "Invalid offset for shared memory region: 'r'"},
        {"fp32", "{\"inputs\":[" IN("4194300", "8", "2") "]}", 400,
         "Invalid offset + byte size for shared memory region: 'r'"},
        {"fp32", "{\"inputs\":[" IN("4", "9223372036854775807", "2") "]}", 400,
         "Invalid offset + byte size for shared memory region: 'r'"},
        {"fp32", "{\"inputs\":[" IN("0", "4", "2") "]}", 400,
         "[request id: <id_unknown>] input byte size mismatch for input 'INPUT0' for model 'fp32'. "
         "Expected 8, got 4"},
        {"fp32", "{\"inputs\":[" IN("-1", "4", "1") "]}", 400,
         "Unable to parse 'shared_memory_offset': it must be a natural number"},
        {"fp32", "{\"inputs\":[" IN("0", "\"4\"", "1") "]}", 400,
         "Unable to parse 'shared_memory_byte_size': it must be a natural number"},
        {"fp32", "{\"inputs\":[" IN("0", "8", "2") "],\"outputs\":[" OUT("0", "4") "]}", 500,
         "shared memory size specified with the request for output 'OUTPUT0' (4 bytes) should be at "
         "least 8 bytes to hold the results"},
        {"batched", "{\"inputs\":[" IN("0", "32", "2,4") "],\"outputs\":[" OUT("0", "31") "]}", 500,
         "shared memory size specified with the request for output 'OUTPUT0' (31 bytes) should be "
         "at least 32 bytes to hold the results"},
        {"fp32", "{\"inputs\":[" IN("0", "8", "2") "],\"outputs\":[" OUT("4194304", "4") "]}", 400,
         "Invalid offset for shared memory region: 'r'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
         "\"shared_memory_region\":\"nope\",\"shared_memory_byte_size\":4}}]}",
         404, "Unable to find shared memory region: 'nope'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
         "\"shared_memory_region\":\"r\"}}]}",
         400,
         "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter "
         "for tensor 'INPUT0'"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"parameters\":{"
         "\"shared_memory_region\":7,\"shared_memory_byte_size\":4}}]}",
         400, "Unable to parse 'shared_memory_region': it must be the name of a region"},
        {"fp32",
         "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[1],"
         "\"parameters\":{\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":4}}]}",
         400,
         "Input must set only one of the following fields: 'data', 'binary_data_size' in "
         "'parameters', 'shared_memory_region' in 'parameters'. But set 'data' "
         "'shared_memory_region'"},
        {"labelled",
         "{\"inputs\":[" IN(
             "0", "8",
             "2") "],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{"
                  "\"classification\":1,\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":4}}]}",
         400, "Output can't set both 'shared_memory_region' and 'classification'"},
        {"fp32",
         "{\"inputs\":[" IN(
             "0", "8",
             "2") "],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{"
                  "\"binary_data\":true,\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":4}}]}",
         400, "Output can't set both 'shared_memory_region' and 'binary_data'"},
        {"fp32",
         "{\"inputs\":[" IN("0", "8", "2") "],\"outputs\":[{\"name\":\"OUTPUT0\",\"parameters\":{"
                                           "\"shared_memory_byte_size\":4}}]}",
         400,
         "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter "
         "for tensor 'OUTPUT0'"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char answer[512];
        print_message("[  row   ] %s\n", rows[i].json);
        (void)snprintf(answer, sizeof answer, "{\"error\":\"%s\"}", rows[i].error);
        expect(rows[i].model, rows[i].json, rows[i].status, answer);
    }
}

/* --- life -------------------- */

static void unregister_soon(struct md_loop_task *task)
{
    struct md_error err;

    (void)task;
    assert_true(md_regions_unregister(server.regions, MD_STR("r"), &err));
}

static void test_oip_shared_memory_outlives_its_name(void **state)
{
    struct md_loop_task task = {.run = unregister_soon};

    (void)state;
    memory[0] = 11;
    md_loop_defer(server.loop, &task);
    expect("slow", "{\"inputs\":[" IN("0", "4", "1") "],\"outputs\":[" OUT("4", "4") "]}", 200,
           HEAD("slow") OUTPUT0("1") "}]}");
    assert_true(memory[1] == 11);
    status_is("[]");
}

/* --- owners that take it away -------------------- */

#define TRUNCATED                                                                              \
    "{\"error\":\"shared memory region 'r' was truncated by its owner, or there is no memory " \
    "left for it: unregister it\"}"

/* cmocka has handlers of its own for each test, so ours come late. */
static void cut(struct md_loop_task *task)
{
    (void)task;
    md_os_signal_setup();
    assert_int_equal(ftruncate(fd, 0), 0);
}

static void test_oip_shared_memory_cut_before_it_is_read(void **state)
{
    (void)state;
    cut(NULL);
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "]}", 400, TRUNCATED);
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "]}", 400, TRUNCATED); /* and from now on */
}

static void test_oip_shared_memory_cut_before_strings_are_read(void **state)
{
    (void)state;
    cut(NULL);
    expect("text",
           "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"BYTES\",\"shape\":[2],\"parameters\":{"
           "\"shared_memory_region\":\"r\",\"shared_memory_byte_size\":10}}]}",
           400, TRUNCATED);
}

static void test_oip_shared_memory_cut_before_it_is_written(void **state)
{
    (void)state;
    cut(NULL);
    expect("fp32",
           "{\"inputs\":[{\"name\":\"INPUT0\",\"datatype\":\"FP32\",\"shape\":[1],\"data\":[9]}],"
           "\"outputs\":[" OUT("8", "4") "]}",
           400, TRUNCATED);
}

static void test_oip_shared_memory_cut_while_the_model_runs(void **state)
{
    struct md_loop_task task = {.run = cut};

    (void)state;
    md_loop_defer(server.loop, &task);
    expect("slow",
           "{\"inputs\":[" IN("0", "2097152", "524288") "],\"outputs\":[" OUT("2097152",
                                                                              "2097152") "]}",
           400, TRUNCATED);
}

static void test_oip_shared_memory_cut_before_a_copy_is_sent(void **state)
{
    struct fake_exchange fake;

    (void)state;
    cut(NULL);
    fake_send(&server, &fake, MD_HTTP_POST, "/v2/models/fp32/infer",
              MD_STR("{\"inputs\":[" IN("0", "2097152", "524288") "],\"parameters\":{"
                                                                  "\"binary_data_output\":true}}"),
              -1);
    assert_string_equal(text_of(&fake), TRUNCATED);
    assert_int_equal(fake.status, 400);
    fake_free(&fake);
}

static void test_oip_shared_memory_can_be_registered_anew(void **state)
{
    char body[128];

    (void)state;
    cut(NULL);
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "]}", 400, TRUNCATED);
    assert_int_equal(ftruncate(fd, REGION_BYTES), 0);
    post("/v2/systemsharedmemory/region/r/unregister", "", 200, "");
    (void)snprintf(body, sizeof body, "{\"key\":\"%s\",\"byte_size\":%d}", key, REGION_BYTES);
    post("/v2/systemsharedmemory/region/r/register", body, 200, "");
    expect("fp32", "{\"inputs\":[" IN("0", "8", "2") "]}", 200,
           HEAD("fp32") OUTPUT0("2") ",\"data\":[0.0,0.0]}]}");
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_oip_shared_memory_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(is_registered_and_listed),
        TEST(refuses_bad_registrations),
        TEST(of_cuda_is_refused),
        TEST(says_how_to_allow_it),
        TEST(takes_inputs_where_they_lie),
        TEST(takes_outputs),
        TEST(takes_strings),
        TEST(large_tensors_go_in_slices),
        TEST(is_not_sent_from),
        TEST(refuses_bad_places),
        TEST(outlives_its_name),
        TEST(cut_before_it_is_read),
        TEST(cut_before_strings_are_read),
        TEST(cut_before_it_is_written),
        TEST(cut_while_the_model_runs),
        TEST(cut_before_a_copy_is_sent),
        TEST(can_be_registered_anew),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
