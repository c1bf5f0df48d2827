/*
 * The table of element types.
 */
#include "base/dtype.h"

struct dtype_row {
    struct md_str name;
    const char *config_name;
    size_t size;
};

static const struct dtype_row dtype_table[MD_DTYPE_COUNT] = {
    [MD_DTYPE_INVALID] = {{"INVALID", sizeof "INVALID" - 1}, "TYPE_INVALID", 0},
    [MD_DTYPE_BOOL] = {{"BOOL", sizeof "BOOL" - 1}, "TYPE_BOOL", 1},
    [MD_DTYPE_UINT8] = {{"UINT8", sizeof "UINT8" - 1}, "TYPE_UINT8", 1},
    [MD_DTYPE_UINT16] = {{"UINT16", sizeof "UINT16" - 1}, "TYPE_UINT16", 2},
    [MD_DTYPE_UINT32] = {{"UINT32", sizeof "UINT32" - 1}, "TYPE_UINT32", 4},
    [MD_DTYPE_UINT64] = {{"UINT64", sizeof "UINT64" - 1}, "TYPE_UINT64", 8},
    [MD_DTYPE_INT8] = {{"INT8", sizeof "INT8" - 1}, "TYPE_INT8", 1},
    [MD_DTYPE_INT16] = {{"INT16", sizeof "INT16" - 1}, "TYPE_INT16", 2},
    [MD_DTYPE_INT32] = {{"INT32", sizeof "INT32" - 1}, "TYPE_INT32", 4},
    [MD_DTYPE_INT64] = {{"INT64", sizeof "INT64" - 1}, "TYPE_INT64", 8},
    [MD_DTYPE_FP16] = {{"FP16", sizeof "FP16" - 1}, "TYPE_FP16", 2},
    [MD_DTYPE_FP32] = {{"FP32", sizeof "FP32" - 1}, "TYPE_FP32", 4},
    [MD_DTYPE_FP64] = {{"FP64", sizeof "FP64" - 1}, "TYPE_FP64", 8},
    [MD_DTYPE_BYTES] = {{"BYTES", sizeof "BYTES" - 1}, "TYPE_STRING", 0},
    [MD_DTYPE_BF16] = {{"BF16", sizeof "BF16" - 1}, "TYPE_BF16", 2},
};

static const struct dtype_row *row_of(enum md_dtype dtype)
{
    return &dtype_table[(unsigned)dtype < MD_DTYPE_COUNT ? dtype : MD_DTYPE_INVALID];
}

size_t md_dtype_size(enum md_dtype dtype)
{
    return row_of(dtype)->size;
}

const char *md_dtype_name(enum md_dtype dtype)
{
    return row_of(dtype)->name.ptr;
}

const char *md_dtype_config_name(enum md_dtype dtype)
{
    return row_of(dtype)->config_name;
}

enum md_dtype md_dtype_from_name(struct md_str name)
{
    for (int i = MD_DTYPE_INVALID + 1; i < MD_DTYPE_COUNT; i++) {
        if (md_str_eq(name, dtype_table[i].name)) {
            return (enum md_dtype)i;
        }
    }
    return MD_DTYPE_INVALID;
}
