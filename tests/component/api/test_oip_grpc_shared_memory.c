/*
 * Shared memory over gRPC in front of identity models: registering, tensors in place, and owners
 * that take their memory away.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
#include <cmocka.h>

#include "api/oip/grpc_infer.h"
#include "component/api/fake_call.h"
#include "component/api/grpc_messages.h"
#include "os/signal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define METHOD(name) "/inference.GRPCInferenceService/" name

enum { INFLIGHT_BYTES = 64 << 20, REGION_BYTES = 4 << 20 };

static struct fake_server server;
static struct fake_call call; /* large */
static struct md_bytes request;
static char key[64];
static int fd;
static char *memory; /* the client's own view of the region */

static int start(void **state)
{
    (void)state;
    fake_server_init(&server);
    fake_model(&server, "fp32", 0, "FP32", "-1", 1, "");
    fake_model(&server, "text", 0, "STRING", "-1", 1, "");
    fake_model(&server, "two", 0, "FP32", "-1", 2, "");
    fake_model(&server, "slow", 0, "FP32", "-1", 1,
               "parameters { key: \"execute_delay_ms\" value { string_value: \"50\" } }");
    fake_server_start(&server, INFLIGHT_BYTES);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    md_bytes_deinit(&request);
    fake_server_stop(&server);
    return 0;
}

/* --- calls that are no inference -------------------- */

/* The status of a call of the built request, as "CODE: text"; its response is left in `call`. */
static const char *status_of(const char *path)
{
    static char text[MD_ERROR_TEXT_MAX + 16];

    fake_call_open(&server, &call, path, NULL);
    fake_call_send(&server, &call, md_bytes_view(&request));
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.ends, 1);
    (void)snprintf(text, sizeof text, "%d: %s", (int)call.error.code,
                   call.error.code ? call.error.text : "");
    md_bytes_clear(&request);
    return text;
}

static void call_with_name(const char *path, const char *name, const char *status)
{
    md_pb_put_bytes(&request, 1, md_str_of(name));
    assert_string_equal(status_of(path), status);
    fake_call_free(&call);
}

static void register_region(const char *name, const char *object, uint64_t offset, uint64_t bytes,
                            const char *status)
{
    md_pb_put_bytes(&request, 1, md_str_of(name));
    md_pb_put_bytes(&request, 2, md_str_of(object));
    md_pb_put_varint(&request, 3, offset);
    md_pb_put_varint(&request, 4, bytes);
    assert_string_equal(status_of(METHOD("SystemSharedMemoryRegister")), status);
    fake_call_free(&call);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(key, sizeof key, "/modeld-test-%d", (int)getpid());
    fd = shm_open(key, O_CREAT | O_EXCL | O_RDWR, 0600);
    if (fd < 0 || ftruncate(fd, REGION_BYTES) != 0) {
        return -1;
    }
    memory = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    register_region("r", key, 0, REGION_BYTES, "0: ");
    return memory == MAP_FAILED;
}

static int tear_down(void **state)
{
    (void)state;
    call_with_name(METHOD("SystemSharedMemoryUnregister"), "", "0: ");
    (void)munmap(memory, REGION_BYTES);
    close(fd);
    return shm_unlink(key);
}

static void test_grpc_shared_memory_is_registered_and_listed(void **state)
{
    char regions[256];

    (void)state;
    register_region("b", key, 100, 50, "0: ");
    assert_string_equal(status_of(METHOD("SystemSharedMemoryStatus")), "0: ");
    struct md_bytes hex = {0};
    struct md_pb_reader reader = md_pb_reader_of(md_bytes_view(&call.messages[0]));
    struct md_pb_field entry;
    while (md_pb_next(&reader, &entry)) {
        struct md_pb_reader fields = md_pb_reader_of(entry.bytes);
        struct md_pb_field field;
        while (md_pb_next(&fields, &field)) {
            if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
                md_bytes_printf(&hex, "%.*s:", MD_STR_ARG(field.bytes));
                continue;
            }
            struct md_pb_reader inner = md_pb_reader_of(field.bytes);
            while (md_pb_next(&inner, &field)) {
                if ((field.tag & 7) == MD_PB_BYTES) {
                    md_bytes_printf(&hex, " %.*s", MD_STR_ARG(field.bytes));
                } else {
                    md_bytes_printf(&hex, " %llu", (unsigned long long)field.value);
                }
            }
            md_bytes_append_char(&hex, ';');
        }
    }
    md_bytes_append_char(&hex, '\0');
    (void)snprintf(regions, sizeof regions, "b: b %s 100 50;r: r %s 0 %d;", key, key, REGION_BYTES);
    assert_string_equal(hex.data, regions);
    md_bytes_deinit(&hex);
    fake_call_free(&call);
    call_with_name(METHOD("SystemSharedMemoryUnregister"), "b", "0: ");
    call_with_name(METHOD("SystemSharedMemoryUnregister"), "b", "0: ");
    call_with_name(METHOD("SystemSharedMemoryStatus"), "r", "0: ");
    call_with_name(METHOD("SystemSharedMemoryStatus"), "b",
                   "5: Unable to find system shared memory region: 'b'");
}

static void test_grpc_shared_memory_refuses_bad_registrations(void **state)
{
    (void)state;
    register_region("r", key, 0, 1, "6: shared memory region 'r' already in manager");
    register_region("n", key, 1, REGION_BYTES,
                    "3: failed to register shared memory region 'n': invalid args");
    register_region("n", key, UINT64_MAX, 2,
                    "3: failed to register shared memory region 'n': invalid args");
    register_region("n", "/modeld-test-there-is-none", 0, 1,
                    "13: Unable to open shared memory region: '/modeld-test-there-is-none'");
    register_region("", key, 0, 1,
                    "3: the name of a shared memory region must be UTF-8 of 1 to 4096 bytes");
    register_region("n", "\xff", 0, 1, "13: Unable to parse request");
    register_region("n", "", 0, 1,
                    "3: cannot register shared memory region 'n' - invalid shm key ''");
}

static void test_grpc_shared_memory_of_cuda_is_refused(void **state)
{
    (void)state;
    call_with_name(METHOD("CudaSharedMemoryStatus"), "", "0: ");
    call_with_name(METHOD("CudaSharedMemoryStatus"), "x",
                   "5: Unable to find cuda shared memory region: 'x'");
    call_with_name(METHOD("CudaSharedMemoryRegister"), "x",
                   "3: failed to register CUDA shared memory region: 'x', GPUs not supported");
    md_pb_put_bytes(&request, 1, MD_STR("x"));
    md_pb_put_bytes(&request, 2, MD_STR("\xff\xfe")); /* a handle is no text */
    assert_string_equal(status_of(METHOD("CudaSharedMemoryRegister")),
                        "3: failed to register CUDA shared memory region: 'x', GPUs not supported");
    fake_call_free(&call);
    call_with_name(METHOD("CudaSharedMemoryUnregister"), "r", "0: ");
}

static void test_grpc_shared_memory_says_how_to_allow_it(void **state)
{
    static const char *const methods[] = {
        METHOD("SystemSharedMemoryRegister"), METHOD("SystemSharedMemoryUnregister"),
        METHOD("CudaSharedMemoryRegister"), METHOD("CudaSharedMemoryUnregister")};

    (void)state;
    server.oip.regions = NULL;
    for (size_t i = 0; i < MD_COUNT_OF(methods); i++) {
        call_with_name(methods[i], "r",
                       "12: Client shared memory is disabled. Start the server with "
                       "'--allow-client-shm=true' to enable.");
    }
    call_with_name(METHOD("SystemSharedMemoryStatus"), "", "0: ");
    server.oip.regions = server.regions;
}

/* --- tensors -------------------- */

static void put_place(uint32_t number, int64_t offset, int64_t bytes)
{
    put_parameter(&request, number, "shared_memory_region", STRING_PARAM("r"));
    put_parameter(&request, number, "shared_memory_offset", INT64_PARAM(offset));
    put_parameter(&request, number, "shared_memory_byte_size", INT64_PARAM(bytes));
}

static void put_input(const char *name, const char *dtype, int64_t count, int64_t offset,
                      int64_t bytes)
{
    size_t input = begin_tensor(&request, name, dtype, count);

    put_place(4, offset, bytes);
    md_pb_end(&request, input);
}

static void put_output(const char *name, int64_t offset, int64_t bytes)
{
    size_t output = md_pb_begin(&request, 6);

    md_pb_put_bytes(&request, 1, md_str_of(name));
    put_place(2, offset, bytes);
    md_pb_end(&request, output);
}

static void expect(const char *expected)
{
    struct md_bytes text = {0};

    fake_call_unary(&server, &call, &md_oip_grpc_infer_handler, md_bytes_view(&request));
    assert_int_equal(call.ends, 1);
    if (call.error.code != MD_CODE_OK) {
        md_bytes_printf(&text, "%d: %s", (int)call.error.code, call.error.text);
    } else {
        print_response(&text, md_bytes_view(&call.messages[0]));
    }
    md_bytes_append_char(&text, '\0');
    assert_string_equal(text.data, expected);
    md_bytes_deinit(&text);
    fake_call_free(&call);
    md_bytes_clear(&request);
}

static void test_grpc_shared_memory_takes_inputs_where_they_lie(void **state)
{
    (void)state;
    memcpy(memory + 8, "abcdefgh", 8);
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 2, 8, 8);
    expect("fp32 1 OUTPUT0 FP32[2] raw=6162636465666768");
}

/* Raw entries are those of inputs that are not in a region, in their order. */
static void test_grpc_shared_memory_beside_raw_tensors(void **state)
{
    (void)state;
    memcpy(memory, "abcd", 4);
    put_model(&request, "two", "");
    put_input("INPUT0", "FP32", 1, 0, 4);
    put_tensor(&request, "INPUT1", "FP32", 1);
    put_raw(&request, MD_STR("1234"));
    put_output("OUTPUT1", 64, 4);
    put_output("OUTPUT0", 128, 100);
    expect("two 1 OUTPUT0 FP32[1] OUTPUT1 FP32[1] raw= raw=");
    assert_memory_equal(memory + 64, "1234", 4);
    assert_memory_equal(memory + 128, "abcd\0", 5);
}

static void test_grpc_shared_memory_takes_strings(void **state)
{
    (void)state;
    memcpy(memory, "\2\0\0\0hi\0\0\0\0", 10);
    put_model(&request, "text", "");
    put_input("INPUT0", "BYTES", 2, 0, 10);
    put_output("OUTPUT0", 64, 64);
    expect("text 1 OUTPUT0 BYTES[2] raw=");
    assert_memory_equal(memory + 64, "\2\0\0\0hi\0\0\0\0", 10);
}

static void test_grpc_shared_memory_large_tensors_go_in_slices(void **state)
{
    enum { BYTES = REGION_BYTES / 2 };

    (void)state;
    memset(memory, 'x', BYTES);
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", BYTES / 4, 0, BYTES);
    put_output("OUTPUT0", BYTES, BYTES);
    expect("fp32 1 OUTPUT0 FP32[524288] raw=");
    assert_memory_equal(memory, memory + BYTES, BYTES);
}

static void test_grpc_shared_memory_in_a_stream(void **state)
{
    struct md_bytes text = {0};

    (void)state;
    memcpy(memory, "abcd", 4);
    fake_call_begin(&server, &call, &md_oip_grpc_stream_infer_handler);
    put_model(&request, "fp32", "1");
    put_input("INPUT0", "FP32", 1, 0, 4);
    put_output("OUTPUT0", 64, 4);
    fake_call_send(&server, &call, md_bytes_view(&request));
    md_bytes_clear(&request);
    put_model(&request, "fp32", "2");
    put_input("INPUT0", "FP32", 1, 64, 4);
    fake_call_send(&server, &call, md_bytes_view(&request));
    md_bytes_clear(&request);
    fake_call_close(&server, &call);
    fake_call_wait(&server, &call, SIZE_MAX);
    assert_int_equal(call.message_count, 2);
    struct md_pb_reader reader = md_pb_reader_of(md_bytes_view(&call.messages[1]));
    struct md_pb_field field;
    assert_true(md_pb_next(&reader, &field) && field.tag == MD_PB_TAG(2, MD_PB_BYTES));
    print_response(&text, field.bytes);
    md_bytes_append_char(&text, '\0');
    assert_non_null(strstr(text.data, "OUTPUT0 FP32[1] raw=61626364"));
    md_bytes_deinit(&text);
    fake_call_free(&call);
}

static void test_grpc_shared_memory_refuses_bad_places(void **state)
{
    (void)state;
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 1, REGION_BYTES, 0);
    expect("3: Invalid offset for shared memory region: 'r'");
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 1, 4, INT64_MAX);
    expect("3: Invalid offset + byte size for shared memory region: 'r'");
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 1, -4, 4);
    expect("3: Unable to parse 'shared_memory_offset': it must be a natural number");
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 1, 0, 4);
    put_raw(&request, MD_STR("1234"));
    expect("3: unexpected additional input data for model 'fp32'");
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 2, 0, 8);
    put_output("OUTPUT0", 0, 4);
    expect("13: shared memory size specified with the request for output 'OUTPUT0' (4 bytes) "
           "should be at least 8 bytes to hold the results");
    put_model(&request, "fp32", "");
    size_t input = begin_tensor(&request, "INPUT0", "FP32", 1);
    put_place(4, 0, 4);
    md_pb_end(&request, md_pb_begin(&request, 5));
    md_pb_end(&request, input);
    expect("3: unexpected 'content' provided when using shared memory for input tensor 'INPUT0' "
           "for model 'fp32'");
    put_model(&request, "fp32", "");
    input = begin_tensor(&request, "INPUT0", "FP32", 1);
    put_parameter(&request, 4, "shared_memory_offset", INT64_PARAM(4));
    md_pb_end(&request, input);
    expect("3: 'shared_memory_offset' can not be specified without 'shared_memory_region' "
           "parameter for tensor 'INPUT0'");
}

/* --- owners that take it away -------------------- */

#define TRUNCATED                                                                             \
    "3: shared memory region 'r' was truncated by its owner, or there is no memory left for " \
    "it: unregister it"

/* cmocka has handlers of its own for each test, so ours come late. */
static void cut(struct md_loop_task *task)
{
    (void)task;
    md_os_signal_setup();
    assert_int_equal(ftruncate(fd, 0), 0);
}

static void test_grpc_shared_memory_cut_before_a_copy_is_sent(void **state)
{
    (void)state;
    cut(NULL);
    put_model(&request, "fp32", "");
    put_input("INPUT0", "FP32", 2, 0, 8);
    expect(TRUNCATED);
}

static void test_grpc_shared_memory_cut_before_it_is_written(void **state)
{
    (void)state;
    cut(NULL);
    put_request(&request, "fp32", "", "FP32", 1, MD_STR("1234"));
    put_output("OUTPUT0", 0, 4);
    expect(TRUNCATED);
}

static void test_grpc_shared_memory_cut_while_the_model_runs(void **state)
{
    struct md_loop_task task = {.run = cut};

    (void)state;
    md_loop_defer(server.loop, &task);
    put_model(&request, "slow", "");
    put_input("INPUT0", "FP32", 524288, 0, 2097152);
    put_output("OUTPUT0", 2097152, 2097152);
    expect(TRUNCATED);
}

#define TEST(name) \
    cmocka_unit_test_setup_teardown(test_grpc_shared_memory_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(is_registered_and_listed),
        TEST(refuses_bad_registrations),
        TEST(of_cuda_is_refused),
        TEST(says_how_to_allow_it),
        TEST(takes_inputs_where_they_lie),
        TEST(beside_raw_tensors),
        TEST(takes_strings),
        TEST(large_tensors_go_in_slices),
        TEST(in_a_stream),
        TEST(refuses_bad_places),
        TEST(cut_before_a_copy_is_sent),
        TEST(cut_before_it_is_written),
        TEST(cut_while_the_model_runs),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
