/*
 * Tensors and what a model expects of them. Plain values; whoever holds one keeps the memory behind
 * its views alive.
 */
#ifndef MD_INFER_TENSOR_H
#define MD_INFER_TENSOR_H

#include "base/bytes.h"
#include "base/dtype.h"
#include "base/error.h"

enum { MD_TENSOR_RANK_MAX = 32 };

struct md_tensor {
    struct md_str name;
    enum md_dtype dtype;
    uint32_t rank;
    const int64_t *shape; /* rank entries, each >= 0 */
    const char *data;     /* little-endian, row-major; BYTES: u32 length + bytes for each element */
    size_t bytes;
};

enum { MD_RANK_ANY = UINT32_MAX }; /* of a spec: shapes of every rank fit */

/* A tensor that a target takes or gives. Immutable, owned by the target. */
struct md_tensor_spec {
    struct md_str name; /* zero-terminated */
    enum md_dtype dtype;
    uint32_t rank;        /* or MD_RANK_ANY: then there is no shape */
    const int64_t *shape; /* with the batch dimension where there is one; -1 = any */
    bool optional;
    const struct md_str *class_labels; /* label_filename's lines; NULL = none */
    size_t class_label_count;
};

/* Number of elements; false on overflow or a negative dimension. */
bool md_shape_elements(const int64_t *shape, uint32_t rank, size_t *out) MD_MUST_CHECK;

/* "[2,3]", "[-1,4]", "[]" as the field prints shapes; "[]" too for MD_RANK_ANY. */
void md_shape_print(const int64_t *shape, uint32_t rank, struct md_bytes *out);

/* True if every dimension of the spec is the shape's or -1, and the ranks agree; always true for
 * MD_RANK_ANY. */
bool md_shape_matches(const int64_t *spec, uint32_t spec_rank, const int64_t *shape, uint32_t rank);

/* Checks that BYTES data holds exactly `elements` length-prefixed elements. */
bool md_bytes_tensor_check(const char *data, size_t bytes, size_t elements) MD_MUST_CHECK;

#endif
