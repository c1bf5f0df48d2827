/*
 * Elements that are made up, and rows of them.
 */
#include "model/synthetic.h"

enum { BYTES_LENGTH = 4, SEED = 20 };

bool md_synthetic_bytes(enum md_dtype dtype, size_t elements, size_t *out)
{
    const size_t size = dtype == MD_DTYPE_BYTES ? BYTES_LENGTH : md_dtype_size(dtype);

    return !__builtin_mul_overflow(elements, size, out);
}

void md_synthetic_zero(enum md_dtype dtype, size_t elements, char *out)
{
    size_t bytes;

    if (md_synthetic_bytes(dtype, elements, &bytes)) {
        memset(out, 0, bytes);
    }
}

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* k / 1024 as half precision; k < 1024 */
static uint16_t half_of(unsigned k)
{
    unsigned exponent = 9;

    if (k == 0) {
        return 0;
    }
    while (!(k >> exponent)) {
        exponent--;
    }
    return (uint16_t)(((exponent + 5) << 10) | ((k << (10 - exponent)) & 0x3ff));
}

static void store_float(enum md_dtype dtype, uint64_t random, char *out)
{
    const double number = (double)(random >> 40) / (double)(1 << 24);
    const float single = (float)number;
    uint32_t bits;
    uint16_t half;

    memcpy(&bits, &single, sizeof bits);
    switch (dtype) {
    case MD_DTYPE_FP64:
        memcpy(out, &number, sizeof number);
        break;
    case MD_DTYPE_FP32:
        memcpy(out, &single, sizeof single);
        break;
    case MD_DTYPE_BF16:
        half = (uint16_t)(bits >> 16);
        memcpy(out, &half, sizeof half);
        break;
    default:
        half = half_of((unsigned)(random >> 54));
        memcpy(out, &half, sizeof half);
    }
}

static bool flag(size_t elements, size_t row, size_t i, uint64_t random)
{
    if (elements == 1 || i == 1) {
        return row & 1;
    }
    return i == 0 || random >> 63;
}

void md_synthetic_random(enum md_dtype dtype, size_t elements, size_t row,
                         enum md_synthetic_integers integers, uint64_t seed, char *out)
{
    const size_t size = md_dtype_size(dtype);
    const bool is_flag = integers == MD_SYNTHETIC_FLAGS || dtype == MD_DTYPE_BOOL;
    const unsigned shift = dtype == MD_DTYPE_INT8 ? 57 : 56;
    uint64_t state = seed + row * 0x632be59bd9b4e019u;

    md_synthetic_zero(dtype, elements, out);
    for (size_t i = 0; size && i < elements; i++) {
        const uint64_t random = next(&state);
        if (md_dtype_is_float(dtype)) {
            store_float(dtype, random, out + i * size);
        } else { /* little-endian: the first byte is the number */
            uint8_t number = (uint8_t)(random >> shift);
            if (is_flag) {
                number = flag(elements, row, i, random);
            }
            memcpy(out + i * size, &number, 1);
        }
    }
}

/* --- rows of all inputs -------------------- */

static bool is_variable(const struct md_tensor_spec *spec, uint32_t first)
{
    for (uint32_t i = first; i < spec->rank; i++) {
        if (spec->shape[i] < 0) {
            return true;
        }
    }
    return false;
}

static enum md_synthetic_result make_tensor(const struct md_tensor_spec *spec,
                                            const struct md_synthetic_wish *wish,
                                            struct md_arena *arena, struct md_synthetic_rows *rows,
                                            size_t *total)
{
    const uint32_t first = rows->has_rows;
    struct md_tensor *tensor = &rows->tensors[rows->count];
    int64_t *shape;
    size_t elements, bytes;

    if (spec->dtype == MD_DTYPE_BYTES) {
        return MD_SYNTHETIC_STRINGS;
    }
    if (spec->rank > MD_TENSOR_RANK_MAX || spec->rank < first ||
        (wish->variable == 0 && is_variable(spec, first))) {
        return MD_SYNTHETIC_UNKNOWN;
    }
    shape = md_arena_calloc(arena, spec->rank, sizeof *shape);
    if (!shape) {
        return MD_SYNTHETIC_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < spec->rank; i++) {
        shape[i] = i < first ? 1 : spec->shape[i] < 0 ? wish->variable : spec->shape[i];
    }
    if (!md_shape_elements(shape, spec->rank, &elements) ||
        !md_synthetic_bytes(spec->dtype, elements, &rows->row_bytes[rows->count]) ||
        __builtin_mul_overflow(rows->row_bytes[rows->count], rows->rows, &bytes) ||
        __builtin_add_overflow(*total, bytes, total) || *total > wish->max_bytes) {
        return MD_SYNTHETIC_TOO_LARGE;
    }
    char *data = md_arena_alloc(arena, md_size_max(bytes, 1));
    if (!data) {
        return MD_SYNTHETIC_OUT_OF_MEMORY;
    }
    for (size_t row = 0; row < rows->rows; row++) {
        md_synthetic_random(spec->dtype, elements, row, wish->integers, SEED + rows->count,
                            data + row * rows->row_bytes[rows->count]);
    }
    *tensor = (struct md_tensor){.name = spec->name,
                                 .dtype = spec->dtype,
                                 .rank = spec->rank,
                                 .shape = shape,
                                 .data = data,
                                 .bytes = bytes};
    rows->count++;
    return MD_SYNTHETIC_MADE;
}

enum md_synthetic_result md_synthetic_rows_make(const struct md_mapping_build *build,
                                                const struct md_synthetic_wish *wish,
                                                struct md_arena *arena,
                                                struct md_synthetic_rows *out, struct md_str *input)
{
    const struct md_target *target = &build->version->target;
    size_t total = 0;

    *input = MD_STR("");
    *out = (struct md_synthetic_rows){
        .tensors = md_arena_calloc(arena, target->input_count, sizeof *out->tensors),
        .row_bytes = md_arena_calloc(arena, target->input_count, sizeof *out->row_bytes),
        .rows = wish->rows,
        .has_rows = md_mapping_has_rows(build),
    };
    if (!out->tensors || !out->row_bytes) {
        return MD_SYNTHETIC_OUT_OF_MEMORY;
    }
    if (target->any_io || target->input_count == 0 || (wish->rows > 1 && !out->has_rows)) {
        return MD_SYNTHETIC_UNKNOWN;
    }
    for (size_t i = 0; i < target->input_count; i++) {
        if (target->inputs[i].optional && !wish->with_optional) {
            continue;
        }
        enum md_synthetic_result result = make_tensor(&target->inputs[i], wish, arena, out, &total);
        if (result != MD_SYNTHETIC_MADE) {
            *input = target->inputs[i].name;
            return result;
        }
    }
    return MD_SYNTHETIC_MADE;
}

/* A tensor of so many rows without its data. */
static bool make_frame(const struct md_synthetic_rows *rows, size_t index, size_t count,
                       struct md_arena *arena, struct md_tensor *out)
{
    const struct md_tensor *whole = &rows->tensors[index];
    int64_t *shape = md_arena_calloc(arena, whole->rank, sizeof *shape);

    if (!shape) {
        return false;
    }
    for (uint32_t i = 0; i < whole->rank; i++) {
        shape[i] = i == 0 && rows->has_rows ? (int64_t)count : whole->shape[i];
    }
    *out = *whole;
    out->shape = shape;
    out->bytes = count * rows->row_bytes[index];
    return true;
}

struct md_tensor *md_synthetic_rows_view(const struct md_synthetic_rows *rows, size_t first,
                                         size_t count, struct md_arena *arena)
{
    struct md_tensor *tensors = md_arena_calloc(arena, rows->count, sizeof *tensors);

    for (size_t i = 0; tensors && i < rows->count; i++) {
        if (!make_frame(rows, i, count, arena, &tensors[i])) {
            return NULL;
        }
        tensors[i].data += first * rows->row_bytes[i];
    }
    return tensors;
}

struct md_tensor *md_synthetic_rows_gather(const struct md_synthetic_rows *rows,
                                           const size_t *numbers, size_t count,
                                           struct md_arena *arena)
{
    struct md_tensor *tensors = md_arena_calloc(arena, rows->count, sizeof *tensors);

    for (size_t i = 0; tensors && i < rows->count; i++) {
        const size_t bytes = rows->row_bytes[i];
        char *data = md_arena_alloc(arena, md_size_max(count * bytes, 1));
        if (!data || !make_frame(rows, i, count, arena, &tensors[i])) {
            return NULL;
        }
        for (size_t k = 0; k < count; k++) {
            memcpy(data + k * bytes, rows->tensors[i].data + numbers[k] * bytes, bytes);
        }
        tensors[i].data = data;
    }
    return tensors;
}
