/*
 * One table of element types drives everything but strings. Strings are the engine's own objects,
 * so they are copied in and out one by one, with their lengths: zero bytes inside are kept.
 */
#include "tensor.h"

#include <stdlib.h>
#include <string.h>

enum { TYPE_COUNT = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4 + 1 };

static const struct {
    const char *name;
    uint32_t dtype;
    uint32_t bytes;
} types[TYPE_COUNT] = {
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT] = {"FLOAT", MODELD_DTYPE_FP32, 4},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8] = {"UINT8", MODELD_DTYPE_UINT8, 1},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8] = {"INT8", MODELD_DTYPE_INT8, 1},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16] = {"UINT16", MODELD_DTYPE_UINT16, 2},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16] = {"INT16", MODELD_DTYPE_INT16, 2},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32] = {"INT32", MODELD_DTYPE_INT32, 4},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64] = {"INT64", MODELD_DTYPE_INT64, 8},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING] = {"STRING", MODELD_DTYPE_BYTES, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL] = {"BOOL", MODELD_DTYPE_BOOL, 1},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16] = {"FLOAT16", MODELD_DTYPE_FP16, 2},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE] = {"DOUBLE", MODELD_DTYPE_FP64, 8},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32] = {"UINT32", MODELD_DTYPE_UINT32, 4},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64] = {"UINT64", MODELD_DTYPE_UINT64, 8},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX64] = {"COMPLEX64", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_COMPLEX128] = {"COMPLEX128", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16] = {"BFLOAT16", MODELD_DTYPE_BF16, 2},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN] = {"FLOAT8E4M3FN", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FNUZ] = {"FLOAT8E4M3FNUZ", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2] = {"FLOAT8E5M2", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2FNUZ] = {"FLOAT8E5M2FNUZ", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4] = {"UINT4", 0, 0},
    [ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4] = {"INT4", 0, 0},
};

uint32_t md_ort_dtype_from(ONNXTensorElementDataType type)
{
    return (unsigned)type < TYPE_COUNT ? types[type].dtype : (uint32_t)MODELD_DTYPE_INVALID;
}

ONNXTensorElementDataType md_ort_dtype_to(uint32_t dtype)
{
    for (unsigned i = 0; i < TYPE_COUNT; i++) {
        if (types[i].dtype == dtype && dtype != MODELD_DTYPE_INVALID) {
            return (ONNXTensorElementDataType)i;
        }
    }
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

const char *md_ort_type_name(ONNXTensorElementDataType type)
{
    return (unsigned)type < TYPE_COUNT && types[type].name ? types[type].name : "unknown";
}

size_t md_ort_dtype_bytes(uint32_t dtype)
{
    return types[md_ort_dtype_to(dtype)].bytes;
}

/* Elements of a shape; false when the product does not fit or a dimension is negative. */
static bool count_elements(const struct modeld_tensor *tensor, uint64_t *count)
{
    uint64_t product = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] < 0 ||
            __builtin_mul_overflow(product, (uint64_t)tensor->shape[i], &product)) {
            return false;
        }
    }
    *count = product;
    return true;
}

static int32_t fill_strings(OrtValue *value, const struct modeld_tensor *tensor, uint64_t count,
                            struct modeld_text *error)
{
    const unsigned char *at = tensor->data;
    uint64_t left = tensor->bytes;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t length;
        if (left >= sizeof length) {
            memcpy(&length, at, sizeof length);
        }
        if (left < sizeof length || left - sizeof length < length) {
            return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                               "input '%s' ends within string %llu of %llu", tensor->name,
                               (unsigned long long)i, (unsigned long long)count);
        }
        char *string = NULL;
        int32_t code =
            md_ort_check(md_ort.api->GetResizedStringTensorElementBuffer(value, i, length, &string),
                         error, "input '%s'", tensor->name);
        if (code) {
            return code;
        }
        memcpy(string, at + sizeof length, length);
        at += sizeof length + length;
        left -= sizeof length + length;
    }
    if (left) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "input '%s' has %llu bytes behind its last string", tensor->name,
                           (unsigned long long)left);
    }
    return MODELD_OK;
}

static int32_t create_strings(const struct modeld_tensor *tensor, uint64_t count, OrtValue **value,
                              struct modeld_text *error)
{
    /* Before the engine allocates anything for the shape: each string takes at least its length. */
    if (count > tensor->bytes / sizeof(uint32_t)) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "input '%s' has %llu bytes, too few for %llu strings", tensor->name,
                           (unsigned long long)tensor->bytes, (unsigned long long)count);
    }
    int32_t code = md_ort_check(
        md_ort.api->CreateTensorAsOrtValue(md_ort.allocator, tensor->shape, tensor->rank,
                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, value),
        error, "input '%s'", tensor->name);
    return code ? code : fill_strings(*value, tensor, count, error);
}

int32_t md_ort_value_create(const struct modeld_tensor *tensor, OrtValue **value, void **copy,
                            struct modeld_text *error)
{
    static char nothing[64]
        __attribute__((aligned(64))); /* where a tensor without elements points */
    ONNXTensorElementDataType type = md_ort_dtype_to(tensor->dtype);
    uint64_t count;
    uint64_t bytes;
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED ||
        tensor->memory_kind != MODELD_MEMORY_HOST) {
        return md_ort_fail(error, MODELD_UNIMPLEMENTED,
                           "input '%s' has data type %u in memory of kind %u, which "
                           "ONNX Runtime does not take",
                           tensor->name, tensor->dtype, tensor->memory_kind);
    }
    if (!count_elements(tensor, &count) ||
        __builtin_mul_overflow(count, types[type].bytes, &bytes)) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT, "input '%s' has an impossible shape",
                           tensor->name);
    }
    if (tensor->dtype == MODELD_DTYPE_BYTES) {
        return create_strings(tensor, count, value, error);
    }
    if (bytes != tensor->bytes) {
        return md_ort_fail(error, MODELD_INVALID_ARGUMENT,
                           "input '%s' has %llu bytes, its shape needs %llu", tensor->name,
                           (unsigned long long)tensor->bytes, (unsigned long long)bytes);
    }
    /* The engine never writes to a graph's input, so the constness that is cast away is kept. */
    void *data = bytes ? (void *)(uintptr_t)tensor->data : nothing;
    if ((uintptr_t)data % types[type].bytes) {
        *copy = malloc(bytes);
        if (!*copy) {
            return md_ort_no_memory(error);
        }
        memcpy(*copy, data, bytes);
        data = *copy;
    }
    return md_ort_check(md_ort.api->CreateTensorWithDataAsOrtValue(md_ort.host_memory, data, bytes,
                                                                   tensor->shape, tensor->rank,
                                                                   type, value),
                        error, "input '%s'", tensor->name);
}

int32_t md_ort_strings_measure(const OrtValue *value, size_t first, size_t count, uint64_t *bytes,
                               struct modeld_text *error)
{
    *bytes = 0;
    for (size_t i = first; i < first + count; i++) {
        size_t length;
        int32_t code = md_ort_check(md_ort.api->GetStringTensorElementLength(value, i, &length),
                                    error, "string");
        if (code) {
            return code;
        }
        if (length > UINT32_MAX) {
            return md_ort_fail(error, MODELD_RESOURCE_EXHAUSTED, "string %zu is longer than 4 GiB",
                               i);
        }
        *bytes += sizeof(uint32_t) + length;
    }
    return MODELD_OK;
}

int32_t md_ort_strings_write(const OrtValue *value, size_t first, size_t count, unsigned char *out,
                             struct modeld_text *error)
{
    for (size_t i = first; i < first + count; i++) {
        size_t length;
        int32_t code = md_ort_check(md_ort.api->GetStringTensorElementLength(value, i, &length),
                                    error, "string");
        if (code) {
            return code;
        }
        uint32_t prefix = (uint32_t)length;
        memcpy(out, &prefix, sizeof prefix);
        out += sizeof prefix;
        code = md_ort_check(md_ort.api->GetStringTensorElement(value, length, i, out), error,
                            "string");
        if (code) {
            return code;
        }
        out += length;
    }
    return MODELD_OK;
}
