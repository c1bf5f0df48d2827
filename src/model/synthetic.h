/*
 * Synthetic data: tensors that are made up, for warming up and for trying models out.
 *
 * What is made depends on type, shape and row alone, so that every start makes the same. Plain
 * values in the caller's arena; loader threads.
 */
#ifndef MD_MODEL_SYNTHETIC_H
#define MD_MODEL_SYNTHETIC_H

#include "model/mapping_internal.h"

/* Bytes of so many elements; of BYTES as many empty strings. False on overflow. */
bool md_synthetic_bytes(enum md_dtype dtype, size_t elements, size_t *out) MD_MUST_CHECK;

/* Zeros; of BYTES empty strings. */
void md_synthetic_zero(enum md_dtype dtype, size_t elements, char *out);

/* What integers become. Flags are what nearly every model takes, as an index too; bytes are nearer
 * to what some are made for. */
enum md_synthetic_integers {
    MD_SYNTHETIC_FLAGS, /* 0 or 1; the first of a row is 1 where there are more, so that no mask
                           masks all */
    MD_SYNTHETIC_BYTES, /* 0 to 255, or 127 */
};

/* Floats from [0,1); integers; booleans 0 or 1; empty strings. Rows of a few elements differ from
 * the next row's. */
void md_synthetic_random(enum md_dtype dtype, size_t elements, size_t row,
                         enum md_synthetic_integers integers, uint64_t seed, char *out);

/* Rows of all inputs of a target. */
struct md_synthetic_rows {
    struct md_tensor *tensors; /* one for each input that is sent, with one row's shape */
    size_t count, rows;
    bool has_rows;     /* dimension 0 is the batch's; else rows is 1 */
    size_t *row_bytes; /* of each tensor */
};

enum md_synthetic_result {
    MD_SYNTHETIC_MADE,
    MD_SYNTHETIC_STRINGS,   /* an input is of strings, which cannot be made up */
    MD_SYNTHETIC_UNKNOWN,   /* a rank, or a dimension where `variable` is 0, is not known */
    MD_SYNTHETIC_TOO_LARGE, /* more than max_bytes */
    MD_SYNTHETIC_OUT_OF_MEMORY,
};

struct md_synthetic_wish {
    size_t rows;
    int64_t
        variable; /* what dimensions become that may be any, but the batch's; 0: there are none */
    bool with_optional; /* inputs */
    enum md_synthetic_integers integers;
    size_t max_bytes;
};

/* Random ones for the target that is being put together; what is missing is named in *input. */
enum md_synthetic_result md_synthetic_rows_make(const struct md_mapping_build *build,
                                                const struct md_synthetic_wish *wish,
                                                struct md_arena *arena,
                                                struct md_synthetic_rows *out,
                                                struct md_str *input);

/* So many of them from the first on, as tensors of a request: views. NULL: no memory. */
struct md_tensor *md_synthetic_rows_view(const struct md_synthetic_rows *rows, size_t first,
                                         size_t count, struct md_arena *arena) MD_MUST_CHECK;
/* The rows of these numbers, one after another: copies. NULL: no memory. */
struct md_tensor *md_synthetic_rows_gather(const struct md_synthetic_rows *rows,
                                           const size_t *numbers, size_t count,
                                           struct md_arena *arena) MD_MUST_CHECK;

#endif
