/*
 * Shapes and the well-formedness of BYTES data.
 */
#include "infer/tensor.h"

bool md_shape_elements(const int64_t *shape, uint32_t rank, size_t *out)
{
    size_t elements = 1;

    for (uint32_t i = 0; i < rank; i++) {
        if (shape[i] < 0 || !md_size_mul(elements, (size_t)shape[i], &elements)) {
            return false;
        }
    }
    *out = elements;
    return true;
}

void md_shape_print(const int64_t *shape, uint32_t rank, struct md_bytes *out)
{
    md_bytes_append_char(out, '[');
    for (uint32_t i = 0; rank != MD_RANK_ANY && i < rank; i++) {
        if (i) {
            md_bytes_append_char(out, ',');
        }
        md_bytes_append_i64(out, shape[i]);
    }
    md_bytes_append_char(out, ']');
}

bool md_shape_matches(const int64_t *spec, uint32_t spec_rank, const int64_t *shape, uint32_t rank)
{
    if (spec_rank == MD_RANK_ANY || spec_rank != rank) {
        return spec_rank == MD_RANK_ANY;
    }
    for (uint32_t i = 0; i < rank; i++) {
        if (spec[i] != -1 && spec[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

bool md_bytes_tensor_check(const char *data, size_t bytes, size_t elements)
{
    size_t at = 0;

    for (size_t i = 0; i < elements; i++) {
        uint32_t len;
        if (bytes - at < sizeof len) {
            return false;
        }
        memcpy(&len, data + at, sizeof len);
        at += sizeof len;
        if (bytes - at < len) {
            return false;
        }
        at += len;
    }
    return at == bytes;
}
