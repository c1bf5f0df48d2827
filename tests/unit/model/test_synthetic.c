/*
 * model/synthetic.h
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "codec/number.h"
#include "model/synthetic.h"

enum { ELEMENTS = 257, SEED = 7 };

static double value_at(enum md_dtype dtype, const char *data, size_t i)
{
    const char *at = data + i * md_dtype_size(dtype);
    uint64_t number = 0;
    double wide;
    float single;

    memcpy(&number, at, md_dtype_size(dtype));
    memcpy(&wide, &number, sizeof wide);
    memcpy(&single, &number, sizeof single);
    return dtype == MD_DTYPE_FP64   ? wide
           : dtype == MD_DTYPE_FP32 ? (double)single
           : dtype == MD_DTYPE_FP16 ? (double)md_number_from_fp16((uint16_t)number)
           : dtype == MD_DTYPE_BF16 ? (double)md_number_from_bf16((uint16_t)number)
                                    : (double)number;
}

static bool is_float(enum md_dtype dtype)
{
    return dtype == MD_DTYPE_FP16 || dtype == MD_DTYPE_FP32 || dtype == MD_DTYPE_FP64 ||
           dtype == MD_DTYPE_BF16;
}

static void test_synthetic_random_is_what_models_take(void **state)
{
    char data[ELEMENTS * 8];

    (void)state;
    for (enum md_dtype dtype = MD_DTYPE_BOOL; dtype < MD_DTYPE_COUNT; dtype++) {
        double sum = 0;
        if (dtype == MD_DTYPE_BYTES) {
            continue;
        }
        md_synthetic_random(dtype, ELEMENTS, 3, MD_SYNTHETIC_FLAGS, SEED, data);
        for (size_t i = 0; i < ELEMENTS; i++) {
            double value = value_at(dtype, data, i);
            assert_true(is_float(dtype) ? value >= 0 && value < 1 : value == 0 || value == 1);
            sum += value;
        }
        assert_true(sum > ELEMENTS * 0.35 && sum < ELEMENTS * 0.65);
        assert_true(is_float(dtype) || value_at(dtype, data, 0) == 1);
    }
}

static void test_synthetic_rows_differ_and_come_again(void **state)
{
    static const size_t elements[] = {1, 2, 3, ELEMENTS};
    char data[2][ELEMENTS * 8], again[ELEMENTS * 8];
    size_t bytes;

    (void)state;
    for (enum md_dtype dtype = MD_DTYPE_BOOL; dtype < MD_DTYPE_COUNT; dtype++) {
        for (size_t k = 0; dtype != MD_DTYPE_BYTES && k < MD_COUNT_OF(elements); k++) {
            assert_true(md_synthetic_bytes(dtype, elements[k], &bytes));
            for (size_t row = 0; row < 4; row++) {
                md_synthetic_random(dtype, elements[k], row, MD_SYNTHETIC_FLAGS, SEED, data[0]);
                md_synthetic_random(dtype, elements[k], row + 1, MD_SYNTHETIC_FLAGS, SEED, data[1]);
                md_synthetic_random(dtype, elements[k], row, MD_SYNTHETIC_FLAGS, SEED, again);
                assert_memory_not_equal(data[0], data[1], bytes);
                assert_memory_equal(data[0], again, bytes);
            }
        }
    }
}

static void test_synthetic_bytes_fit_their_type(void **state)
{
    int8_t small[ELEMENTS];
    int32_t wide[ELEMENTS], most = 0;

    (void)state;
    md_synthetic_random(MD_DTYPE_INT8, ELEMENTS, 0, MD_SYNTHETIC_BYTES, SEED, (char *)small);
    md_synthetic_random(MD_DTYPE_INT32, ELEMENTS, 0, MD_SYNTHETIC_BYTES, SEED, (char *)wide);
    for (size_t i = 0; i < ELEMENTS; i++) {
        assert_true(small[i] >= 0 && wide[i] >= 0 && wide[i] < 256);
        most = wide[i] > most ? wide[i] : most;
    }
    assert_true(most > 127);
    md_synthetic_random(MD_DTYPE_BOOL, ELEMENTS, 0, MD_SYNTHETIC_BYTES, SEED, (char *)small);
    for (size_t i = 0; i < ELEMENTS; i++) {
        assert_true(small[i] == 0 || small[i] == 1);
    }
}

static void test_synthetic_zero(void **state)
{
    char data[64];
    size_t bytes;

    (void)state;
    memset(data, 0x5a, sizeof data);
    md_synthetic_zero(MD_DTYPE_FP32, 3, data);
    assert_int_equal(data[11], 0);
    assert_int_equal(data[12], 0x5a);
    md_synthetic_random(MD_DTYPE_BYTES, 4, 0, MD_SYNTHETIC_FLAGS, SEED, data); /* empty strings */
    assert_int_equal(data[15], 0);
    assert_int_equal(data[16], 0x5a);
    assert_true(md_synthetic_bytes(MD_DTYPE_BYTES, 4, &bytes));
    assert_int_equal(bytes, 16);
    assert_false(md_synthetic_bytes(MD_DTYPE_FP64, SIZE_MAX / 4, &bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synthetic_random_is_what_models_take),
        cmocka_unit_test(test_synthetic_rows_differ_and_come_again),
        cmocka_unit_test(test_synthetic_bytes_fit_their_type),
        cmocka_unit_test(test_synthetic_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
