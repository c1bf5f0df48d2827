/*
 * The ONNX Runtime backend: what it says of models, the numbers it gives against a bare call of the
 * engine, what it refuses and with which words. The models are those of make_models.py; their
 * folder is in MODELD_TEST_MODELS.
 */
#include <dlfcn.h>
#include <malloc.h>
#include <onnxruntime_c_api.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "drive.h"

enum { SKIPPED = 77 };

static const char *models;

static struct drive_config config_for(const char *model)
{
    static char directory[4096];
    snprintf(directory, sizeof directory, "%s/%s/1", models, model);
    return (struct drive_config){.library = MODELD_BACKEND_LIBRARY,
                                 .engine_threads = 1,
                                 .directory = directory,
                                 .instance_count = 1};
}

static void up(struct drive *drive, const struct drive_config *config)
{
    if (!drive_up(drive, config)) {
        fail_msg("%s: code %d: %s", config->directory, drive->code, drive->error);
    }
}

static void down(struct drive *drive)
{
    drive_close(drive);
    assert_int_equal(fake_host_breaches(), 0);
}

static void set_parameter(struct drive_config *config, const char *key, const char *value)
{
    config->parameters[config->parameter_count++] = (struct modeld_option){key, value};
}

/* A good run of one request whose outputs are the caller's to look at until it destroys it. */
static modeld_request run(const struct drive *drive, const struct drive_tensor *inputs,
                          uint32_t count)
{
    modeld_request request = drive_run(drive, inputs, count);
    const struct fake_result *result = fake_request_result(request);
    if (result->code) {
        fail_msg("code %d: %s", result->code, result->text);
    }
    assert_int_equal(result->response_count, 1);
    return request;
}

static void expect_error(const struct drive *drive, const struct drive_tensor *inputs,
                         uint32_t count, int32_t code, const char *words)
{
    modeld_request request = drive_run(drive, inputs, count);
    const struct fake_result *result = fake_request_result(request);
    if (result->code != code || !strstr(result->text, words)) {
        fail_msg("code %d: '%s', expected %d and '%s'", result->code, result->text, code, words);
    }
    fake_request_destroy(request);
}

static void expect_refusal(const struct drive_config *config, int32_t code, const char *words)
{
    struct drive drive;
    assert_true(drive_open(&drive, config) && drive_start(&drive));
    if (drive_load(&drive) || drive.code != code || !strstr(drive.error, words)) {
        fail_msg("%s: code %d: '%s', expected %d and '%s'", config->directory, drive.code,
                 drive.error, code, words);
    }
    down(&drive);
}

static void assert_spec(const struct modeld_tensor_spec *spec, const char *name, uint32_t dtype,
                        uint32_t rank, int64_t first, uint32_t optional)
{
    assert_string_equal(spec->name, name);
    assert_int_equal(spec->dtype, dtype);
    assert_int_equal(spec->rank, rank);
    assert_int_equal(spec->optional, optional);
    if (rank && rank != MODELD_RANK_ANY) {
        assert_int_equal(spec->shape[0], first);
    }
}

static void test_onnxruntime_describes_models(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        const char *input;
        uint32_t dtype;
        uint32_t rank;
        int64_t first;
        uint32_t inputs;
        uint32_t outputs;
        uint32_t batchable;
        int64_t max_batch_size;
    } rows[] = {
        {"linear", "x", MODELD_DTYPE_FP32, 2, -1, 1, 1, 1, 0},
        {"multi", "x", MODELD_DTYPE_FP32, 2, -1, 1, 3, 1, 4},
        {"scalar", "x", MODELD_DTYPE_FP32, 0, 0, 1, 1, 0, 0},
        {"any_rank", "x", MODELD_DTYPE_FP32, MODELD_RANK_ANY, 0, 1, 1, 0, 0},
        {"identity_one", "x", MODELD_DTYPE_FP32, 1, 1, 1, 1, 0, 0},
        {"identity_bf16", "x", MODELD_DTYPE_BF16, 1, -1, 1, 1, 1, 0},
        {"identity_bytes", "x", MODELD_DTYPE_BYTES, 1, -1, 1, 1, 1, 0},
        {"optional", "x", MODELD_DTYPE_FP32, 2, -1, 2, 1, 0, 0},
        {"optional", "x", MODELD_DTYPE_FP32, 2, -1, 1, 1, 1, 4}, /* scale has no rows */
        {"external", "x", MODELD_DTYPE_FP32, 2, -1, 1, 1, 1, 0}, /* the model is a folder */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drive drive;
        struct drive_config config = config_for(rows[i].model);
        config.max_batch_size = rows[i].max_batch_size;
        up(&drive, &config);
        assert_int_equal(drive.info->input_count, rows[i].inputs);
        assert_int_equal(drive.info->output_count, rows[i].outputs);
        assert_int_equal(drive.info->batchable, rows[i].batchable);
        assert_string_equal(drive.info->platform, "onnxruntime_onnx");
        assert_true(drive.info->memory_bytes > 32);
        assert_spec(drive_input(&drive, 0), rows[i].input, rows[i].dtype, rows[i].rank,
                    rows[i].first, 0);
        if (rows[i].inputs == 2) {
            assert_spec(drive_input(&drive, 1), "scale", MODELD_DTYPE_FP32, 1, 1, 1);
        }
        down(&drive);
    }
}

static void test_onnxruntime_keeps_every_data_type(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 23};
    for (uint32_t dtype = MODELD_DTYPE_BOOL; dtype <= MODELD_DTYPE_BF16; dtype++) {
        char model[32] = "identity_";
        for (size_t i = 0; fake_dtype_name(dtype)[i]; i++) {
            model[9 + i] = (char)(fake_dtype_name(dtype)[i] | 0x20);
        }
        struct drive drive;
        struct drive_config config = config_for(model);
        up(&drive, &config);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct drive_tensor x;
            drive_tensor_fill(&x, "x", dtype, &sizes[i], 1);
            modeld_request request = run(&drive, &x, 1);
            const struct fake_output *y = &fake_request_result(request)->outputs[0];
            assert_int_equal(y->dtype, dtype);
            assert_int_equal(y->rank, 1);
            assert_int_equal(y->shape[0], sizes[i]);
            assert_int_equal(y->bytes, x.bytes);
            assert_true(!memcmp(y->data, x.data, x.bytes));
            assert_int_equal(y->memory, dtype == MODELD_DTYPE_BYTES ? MODELD_OUTPUT_BUFFER
                                                                    : MODELD_OUTPUT_OWN);
            fake_request_destroy(request);
            drive_tensors_free(&x, 1);
        }
        down(&drive);
    }
}

static float value_of(modeld_request request, uint32_t output, uint32_t index)
{
    float value;
    memcpy(&value,
           (char *)fake_request_result(request)->outputs[output].data + index * sizeof value,
           sizeof value);
    return value;
}

static struct drive_tensor floats(const char *name, const float *values, const int64_t *shape,
                                  uint32_t rank)
{
    struct drive_tensor tensor;
    drive_tensor_fill(&tensor, name, MODELD_DTYPE_FP32, shape, rank);
    memcpy(tensor.data, values, tensor.bytes);
    return tensor;
}

static void test_onnxruntime_takes_scalars(void **state)
{
    (void)state;
    struct drive drive;
    struct drive_config config = config_for("scalar");
    const float two = 2;
    up(&drive, &config);
    struct drive_tensor x = floats("x", &two, NULL, 0);
    modeld_request request = run(&drive, &x, 1);
    assert_int_equal(fake_request_result(request)->outputs[0].rank, 0);
    assert_true(value_of(request, 0, 0) == 3);
    fake_request_destroy(request);
    drive_tensors_free(&x, 1);
    down(&drive);
}

static void test_onnxruntime_optional_input_has_default(void **state)
{
    (void)state;
    static const int64_t shape[] = {1, 2};
    static const int64_t one = 1;
    const float values[] = {1, 2};
    const float five = 5;
    struct drive drive;
    struct drive_config config = config_for("optional");
    up(&drive, &config);
    struct drive_tensor inputs[] = {floats("x", values, shape, 2), floats("scale", &five, &one, 1)};
    modeld_request request = run(&drive, inputs, 1);
    assert_true(value_of(request, 0, 1) == 6);
    fake_request_destroy(request);
    request = run(&drive, inputs, 2);
    assert_true(value_of(request, 0, 1) == 10);
    fake_request_destroy(request);
    expect_error(&drive, &inputs[1], 1, MODELD_INVALID_ARGUMENT, "input 'x' is missing");
    drive_tensors_free(inputs, 2);
    down(&drive);
}

static void test_onnxruntime_splits_strings_by_rows(void **state)
{
    (void)state;
    static const int64_t shape[] = {3, 1};
    static const int64_t rows[] = {1, 2};
    struct drive drive;
    struct drive_tensor x;
    struct drive_config config = config_for("strings");
    config.max_batch_size = 4;
    up(&drive, &config);
    drive_tensor_fill(&x, "x", MODELD_DTYPE_BYTES, shape, 2); /* "", "a", "a\0" */
    modeld_request requests[] = {fake_request_create(), fake_request_create()};
    const struct drive_batch batch = {
        .inputs = &x, .input_count = 1, .requests = requests, .rows = rows, .request_count = 2};
    drive_execute(&drive, drive.instances[0], &batch);
    const struct fake_output *first = &fake_request_result(requests[0])->outputs[0];
    const struct fake_output *second = &fake_request_result(requests[1])->outputs[0];
    static const char three_empty[12];
    static const char tripled[] = "\1\0\0\0a\1\0\0\0a\1\0\0\0a\2\0\0\0a\0\2\0\0\0a\0\2\0\0\0a";
    assert_int_equal(first->shape[0], 1);
    assert_int_equal(first->bytes, sizeof three_empty);
    assert_memory_equal(first->data, three_empty, sizeof three_empty);
    assert_int_equal(second->shape[0], 2);
    assert_int_equal(second->shape[1], 3);
    assert_int_equal(second->bytes, sizeof tripled);
    assert_memory_equal(second->data, tripled, sizeof tripled);
    fake_request_destroy(requests[0]);
    fake_request_destroy(requests[1]);
    drive_tensors_free(&x, 1);
    down(&drive);
}

/* The engine called with nothing between. */
struct bare {
    const OrtApi *api;
    OrtEnv *env;
    OrtMemoryInfo *memory;
    OrtSession *session;
};

#define ORT_OK(call) assert_null(call)

static void bare_open(struct bare *bare, const char *directory)
{
    char path[4200];
    union {
        void *object;
        const OrtApiBase *(*function)(void);
    } symbol;
    OrtSessionOptions *options;
    void *library = dlopen(MODELD_ORT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    symbol.object = dlsym(library, "OrtGetApiBase");
    bare->api = symbol.function()->GetApi(21);
    ORT_OK(bare->api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &bare->env));
    ORT_OK(bare->api->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &bare->memory));
    ORT_OK(bare->api->CreateSessionOptions(&options));
    ORT_OK(bare->api->SetIntraOpNumThreads(options, 1));
    snprintf(path, sizeof path, "%s/model.onnx", directory);
    ORT_OK(bare->api->CreateSession(bare->env, path, options, &bare->session));
    bare->api->ReleaseSessionOptions(options);
}

static void bare_close(struct bare *bare)
{
    bare->api->ReleaseSession(bare->session);
    bare->api->ReleaseMemoryInfo(bare->memory);
    bare->api->ReleaseEnv(bare->env);
}

static OrtValue *bare_run(const struct bare *bare, const struct drive_tensor *x, const char *output)
{
    OrtValue *value;
    OrtValue *result = NULL;
    const char *name = x->name;
    ORT_OK(bare->api->CreateTensorWithDataAsOrtValue(bare->memory, x->data, x->bytes, x->shape,
                                                     x->rank, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                     &value));
    ORT_OK(bare->api->Run(bare->session, NULL, &name, (const OrtValue *const *)&value, 1, &output,
                          1, &result));
    bare->api->ReleaseValue(value);
    return result;
}

static void test_onnxruntime_equals_bare_engine(void **state)
{
    (void)state;
    static const char *const names[] = {"linear", "multi", "deep", "heavy"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct drive drive;
        struct bare bare;
        struct drive_tensor x;
        struct drive_config config = config_for(names[i]);
        up(&drive, &config);
        bare_open(&bare, config.directory);
        drive_tensor_for(&x, drive_input(&drive, 0), 5);
        modeld_request request = run(&drive, &x, 1);
        const struct fake_result *result = fake_request_result(request);
        for (uint32_t k = 0; k < result->output_count; k++) {
            OrtValue *expected = bare_run(&bare, &x, result->outputs[k].name);
            void *data;
            ORT_OK(bare.api->GetTensorMutableData(expected, &data));
            assert_memory_equal(result->outputs[k].data, data, result->outputs[k].bytes);
            bare.api->ReleaseValue(expected);
        }
        fake_request_destroy(request);
        drive_tensors_free(&x, 1);
        bare_close(&bare);
        down(&drive);
    }
}

static void test_onnxruntime_refuses_models(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        int32_t code;
        const char *words;
    } rows[] = {
        {"sequence_in", MODELD_UNIMPLEMENTED, "'x' is a sequence"},
        {"sequence_out", MODELD_UNIMPLEMENTED, "'y' is a sequence"},
        {"float8", MODELD_UNIMPLEMENTED, "tensor 'y' has element type FLOAT8E4M3FN"},
        {"int4", MODELD_UNIMPLEMENTED, "tensor 'y' has element type INT4"},
        {"external_escape", MODELD_INTERNAL, "external_escape/1/model.onnx'"},
        {"external_absolute", MODELD_INTERNAL, "external_absolute/1/model.onnx'"},
        {"no_such_model", MODELD_NOT_FOUND, "no_such_model/1/model.onnx'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drive_config config = config_for(rows[i].model);
        expect_refusal(&config, rows[i].code, rows[i].words);
    }
}

static void test_onnxruntime_refuses_parameters(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"intra_op_thread_count", "many",
         "intra_op_thread_count is 'many', expected a number from 0 to 1024"},
        {"inter_op_thread_count", "-1", "inter_op_thread_count"},
        {"execution_mode", "2", "execution_mode is '2'"},
        {"enable_mem_arena", "", "enable_mem_arena"},
        {"enable_mem_pattern", "1x", "enable_mem_pattern"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drive_config config = config_for("linear");
        set_parameter(&config, rows[i][0], rows[i][1]);
        expect_refusal(&config, MODELD_INVALID_ARGUMENT, rows[i][2]);
    }
    struct drive_config config = config_for("linear");
    config.optimization_level = 3;
    expect_refusal(&config, MODELD_INVALID_ARGUMENT, "optimization.graph.level is 3");
    config = config_for("linear");
    config.filename = "../model.onnx";
    expect_refusal(&config, MODELD_INVALID_ARGUMENT, "'../model.onnx' must be a path inside");
    config = config_for("linear");
    config.accelerators[config.accelerator_count++] = "openvino";
    expect_refusal(&config, MODELD_UNIMPLEMENTED,
                   "'openvino' is not in this ONNX Runtime, which has: ");
    config = config_for("linear");
    config.op_libraries[config.op_library_count++] = "/nonexistent/ops.so";
    expect_refusal(&config, MODELD_INTERNAL, "custom-op library '/nonexistent/ops.so'");
}

/* Whatever way the session is set up, the numbers are the same. */
static void test_onnxruntime_accepts_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        const char *value;
        int32_t level;
    } rows[] = {
        {"intra_op_thread_count", "2", 0},
        {"inter_op_thread_count", "2", -1},
        {"execution_mode", "1", 1},
        {"enable_mem_arena", "0", 2},
        {"enable_mem_pattern", "0", 0},
        {"memory.enable_memory_arena_shrinkage", "cpu:0", 0},
        {"session.use_device_allocator_for_initializers", "1", 0},
        {"session.intra_op.allow_spinning", "1", 0},
        {"modeld_anything", "not ours", 0},
    };
    static const int64_t shape[] = {1, 4};
    const float values[] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct drive drive;
        struct drive_config config = config_for("linear");
        set_parameter(&config, rows[i].key, rows[i].value);
        config.optimization_level = rows[i].level;
        config.accelerators[config.accelerator_count++] = "cpu";
        up(&drive, &config);
        struct drive_tensor x = floats("x", values, shape, 2);
        modeld_request request = run(&drive, &x, 1);
        assert_true(value_of(request, 0, 0) == 11 && value_of(request, 0, 1) == 12);
        fake_request_destroy(request);
        drive_tensors_free(&x, 1);
        down(&drive);
    }
}

static void test_onnxruntime_survives_failing_runs(void **state)
{
    (void)state;
    static const int64_t sizes[] = {4, 3, 4};
    struct drive drive;
    struct drive_config config = config_for("throws");
    up(&drive, &config);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct drive_tensor x;
        drive_tensor_fill(&x, "x", MODELD_DTYPE_FP32, &sizes[i], 1);
        if (sizes[i] == 4) {
            fake_request_destroy(run(&drive, &x, 1));
        } else {
            expect_error(&drive, &x, 1, MODELD_INTERNAL, "Reshape");
        }
        drive_tensors_free(&x, 1);
    }
    down(&drive);
}

static void test_onnxruntime_notices_lost_rows(void **state)
{
    (void)state;
    static const int64_t shape[] = {2, 3};
    struct drive drive;
    struct drive_tensor x;
    struct drive_config config = config_for("shrinks");
    drive_tensor_fill(&x, "x", MODELD_DTYPE_FP32, shape, 2);
    up(&drive, &config);
    fake_request_destroy(run(&drive, &x, 1));
    down(&drive);
    config.max_batch_size = 8;
    up(&drive, &config);
    modeld_request request = fake_request_create();
    static const int64_t rows = 2;
    const struct drive_batch batch = {
        .inputs = &x, .input_count = 1, .requests = &request, .rows = &rows, .request_count = 1};
    drive_execute(&drive, drive.instances[0], &batch);
    assert_int_equal(fake_request_result(request)->code, MODELD_INTERNAL);
    assert_non_null(
        strstr(fake_request_result(request)->text, "output 'y' is 1, expected the batch's 2 rows"));
    fake_request_destroy(request);
    drive_tensors_free(&x, 1);
    down(&drive);
}

/* A declared shape that the model does not keep is the model's matter: what came out is sent. */
static void test_onnxruntime_sends_the_true_shape(void **state)
{
    (void)state;
    static const int64_t shape[] = {2, 3};
    struct drive drive;
    struct drive_tensor x;
    struct drive_config config = config_for("lies");
    up(&drive, &config);
    drive_tensor_fill(&x, "x", MODELD_DTYPE_FP32, shape, 2);
    modeld_request request = run(&drive, &x, 1);
    assert_int_equal(fake_request_result(request)->outputs[0].shape[1], 3);
    fake_request_destroy(request);
    drive_tensors_free(&x, 1);
    down(&drive);
}

static void test_onnxruntime_says_where_the_engine_was_sought(void **state)
{
    (void)state;
    struct drive drive;
    struct drive_config config = config_for("linear");
    config.options[config.option_count++] =
        (struct modeld_option){"library-path", "/nonexistent/libonnxruntime.so"};
    assert_true(drive_open(&drive, &config));
    assert_false(drive_start(&drive));
    assert_int_equal(drive.code, MODELD_NOT_FOUND);
    assert_non_null(strstr(drive.error, "/nonexistent/libonnxruntime.so"));
    config.options[0] = (struct modeld_option){"intra_op_thread_count", "x"};
    assert_true(drive_open(&drive, &config));
    assert_false(drive_start(&drive));
    assert_non_null(strstr(drive.error, "intra_op_thread_count"));
    config.options[0] = (struct modeld_option){"library-path", MODELD_ORT_LIBRARY};
    up(&drive, &config);
    down(&drive);
}

/* Each in a batch of its own, both cancelled: only when nobody waits any more is the run ended. */
static void test_onnxruntime_cancels_a_batch_when_all_have_left(void **state)
{
    (void)state;
    struct drive drive;
    struct drive_tensor x;
    struct drive_config config = config_for("linear");
    up(&drive, &config);
    drive_tensor_for(&x, drive_input(&drive, 0), 2);
    for (int left = 1; left <= 2; left++) {
        modeld_request requests[] = {fake_request_create(), fake_request_create()};
        const struct drive_batch batch = {
            .inputs = &x, .input_count = 1, .requests = requests, .request_count = 2};
        for (int i = 0; i < left; i++) {
            fake_request_cancel(requests[i]);
            drive.api->cancel(drive.instances[0], requests[i]);
        }
        drive_execute(&drive, drive.instances[0], &batch);
        assert_int_equal(fake_request_result(requests[0])->code, MODELD_CANCELLED);
        assert_int_equal(fake_request_result(requests[1])->code,
                         left == 1 ? MODELD_OK : MODELD_CANCELLED);
        fake_request_destroy(requests[0]);
        fake_request_destroy(requests[1]);
    }
    drive_tensors_free(&x, 1);
    down(&drive);
}

int main(void)
{
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    models = getenv("MODELD_TEST_MODELS");
    if (!models) {
        puts("skipped: MODELD_TEST_MODELS does not name the folder that make_models.py has filled");
        return SKIPPED;
    }
    fake_host_set_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_onnxruntime_describes_models),
        cmocka_unit_test(test_onnxruntime_keeps_every_data_type),
        cmocka_unit_test(test_onnxruntime_takes_scalars),
        cmocka_unit_test(test_onnxruntime_optional_input_has_default),
        cmocka_unit_test(test_onnxruntime_splits_strings_by_rows),
        cmocka_unit_test(test_onnxruntime_equals_bare_engine),
        cmocka_unit_test(test_onnxruntime_refuses_models),
        cmocka_unit_test(test_onnxruntime_refuses_parameters),
        cmocka_unit_test(test_onnxruntime_accepts_parameters),
        cmocka_unit_test(test_onnxruntime_survives_failing_runs),
        cmocka_unit_test(test_onnxruntime_notices_lost_rows),
        cmocka_unit_test(test_onnxruntime_sends_the_true_shape),
        cmocka_unit_test(test_onnxruntime_says_where_the_engine_was_sought),
        cmocka_unit_test(test_onnxruntime_cancels_a_batch_when_all_have_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
