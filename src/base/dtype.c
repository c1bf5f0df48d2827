/*
 * The table of element types.
 */
#include "base/dtype.h"

struct dtype_row {
    const char *name;
    const char *config_name;
    size_t size;
};

static const struct dtype_row dtype_table[MD_DTYPE_COUNT] = {
    [MD_DTYPE_INVALID] = {"INVALID", "TYPE_INVALID", 0},
    [MD_DTYPE_BOOL] = {"BOOL", "TYPE_BOOL", 1},
    [MD_DTYPE_UINT8] = {"UINT8", "TYPE_UINT8", 1},
    [MD_DTYPE_UINT16] = {"UINT16", "TYPE_UINT16", 2},
    [MD_DTYPE_UINT32] = {"UINT32", "TYPE_UINT32", 4},
    [MD_DTYPE_UINT64] = {"UINT64", "TYPE_UINT64", 8},
    [MD_DTYPE_INT8] = {"INT8", "TYPE_INT8", 1},
    [MD_DTYPE_INT16] = {"INT16", "TYPE_INT16", 2},
    [MD_DTYPE_INT32] = {"INT32", "TYPE_INT32", 4},
    [MD_DTYPE_INT64] = {"INT64", "TYPE_INT64", 8},
    [MD_DTYPE_FP16] = {"FP16", "TYPE_FP16", 2},
    [MD_DTYPE_FP32] = {"FP32", "TYPE_FP32", 4},
    [MD_DTYPE_FP64] = {"FP64", "TYPE_FP64", 8},
    [MD_DTYPE_BYTES] = {"BYTES", "TYPE_STRING", 0},
    [MD_DTYPE_BF16] = {"BF16", "TYPE_BF16", 2},
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
    return row_of(dtype)->name;
}

const char *md_dtype_config_name(enum md_dtype dtype)
{
    return row_of(dtype)->config_name;
}

enum md_dtype md_dtype_from_name(struct md_str name)
{
    for (int i = MD_DTYPE_INVALID + 1; i < MD_DTYPE_COUNT; i++) {
        if (md_str_eq_c(name, dtype_table[i].name)) {
            return (enum md_dtype)i;
        }
    }
    return MD_DTYPE_INVALID;
}
