/*
 * Element types of tensors. The numbers are those of `DataType` in the model configuration's
 * schema.
 */
#ifndef MD_BASE_DTYPE_H
#define MD_BASE_DTYPE_H

#include "base/str.h"

enum md_dtype {
    MD_DTYPE_INVALID = 0,
    MD_DTYPE_BOOL = 1,
    MD_DTYPE_UINT8 = 2,
    MD_DTYPE_UINT16 = 3,
    MD_DTYPE_UINT32 = 4,
    MD_DTYPE_UINT64 = 5,
    MD_DTYPE_INT8 = 6,
    MD_DTYPE_INT16 = 7,
    MD_DTYPE_INT32 = 8,
    MD_DTYPE_INT64 = 9,
    MD_DTYPE_FP16 = 10,
    MD_DTYPE_FP32 = 11,
    MD_DTYPE_FP64 = 12,
    MD_DTYPE_BYTES =
        13, /* elements are u32 little-endian length + bytes; TYPE_STRING in configurations */
    MD_DTYPE_BF16 = 14,
    MD_DTYPE_COUNT,
};

/* Bytes of one element; 0 for BYTES (variable) and INVALID. */
size_t md_dtype_size(enum md_dtype dtype);

static inline bool md_dtype_is_float(enum md_dtype dtype)
{
    return dtype == MD_DTYPE_FP16 || dtype == MD_DTYPE_BF16 || dtype == MD_DTYPE_FP32 ||
           dtype == MD_DTYPE_FP64;
}

/* Name on the wire: "FP32", "BYTES". "INVALID" for anything unknown. */
const char *md_dtype_name(enum md_dtype dtype);
/* Name in a model configuration: "TYPE_FP32", "TYPE_STRING". */
const char *md_dtype_config_name(enum md_dtype dtype);

/* From the wire name; MD_DTYPE_INVALID when unknown. */
enum md_dtype md_dtype_from_name(struct md_str name);

#endif
