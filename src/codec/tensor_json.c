/*
 * Tensor data as JSON arrays.
 */
#include "codec/tensor_json.h"

#include "codec/number.h"

#include <math.h>

void md_tensor_reader_init(struct md_tensor_reader *reader, enum md_dtype dtype, size_t element_count, char *data,
                           struct md_bytes *strings)
{
    *reader = (struct md_tensor_reader){
        .dtype = dtype, .element_count = element_count, .data = data, .strings = strings, .after_comma = true};
}

static bool bad_element(struct md_tensor_reader *reader, struct md_json *json, const char *why)
{
    return md_json_fail(json, "element %zu of a %s tensor %s", reader->read_count, md_dtype_name(reader->dtype), why);
}

/* --- one element ------------------------------------------------------------------------------------------------------- */

static bool read_integer(struct md_tensor_reader *reader, struct md_json *json)
{
    static const struct {
        uint64_t positive, negative; /* largest magnitudes */
    } range[MD_DTYPE_COUNT] = {
        [MD_DTYPE_UINT8] = {UINT8_MAX, 0},     [MD_DTYPE_UINT16] = {UINT16_MAX, 0},
        [MD_DTYPE_UINT32] = {UINT32_MAX, 0},   [MD_DTYPE_UINT64] = {UINT64_MAX, 0},
        [MD_DTYPE_INT8] = {INT8_MAX, 128},     [MD_DTYPE_INT16] = {INT16_MAX, 32768},
        [MD_DTYPE_INT32] = {INT32_MAX, 1U << 31}, [MD_DTYPE_INT64] = {INT64_MAX, 1ULL << 63},
    };
    bool negative;
    uint64_t magnitude;
    const char *at = json->at;
    enum md_integer_read outcome = md_number_read_integer(&at, json->end, &negative, &magnitude);

    if (outcome == MD_INTEGER_NOT_ONE) {
        return bad_element(reader, json, "is not an integer");
    }
    if (outcome == MD_INTEGER_RANGE ||
        magnitude > (negative ? range[reader->dtype].negative : range[reader->dtype].positive)) {
        return bad_element(reader, json, "is out of the type's range");
    }
    uint64_t value = negative ? 0 - magnitude : magnitude;
    size_t size = md_dtype_size(reader->dtype);
    memcpy(reader->data + reader->read_count * size, &value, size); /* little-endian: the low bytes */
    json->at = at;
    return true;
}

static bool read_fp32(struct md_tensor_reader *reader, struct md_json *json)
{
    float value;
    const char *next = md_number_read_f32(json->at, json->end, &value);

    if (MD_UNLIKELY(!next)) {
        return bad_element(reader, json, "is not a number");
    }
    if (MD_UNLIKELY(isinf(value)) && next[-1] != 'y' && next[-1] != 'f') {
        return bad_element(reader, json, "is out of the type's range");
    }
    memcpy(reader->data + reader->read_count * sizeof value, &value, sizeof value);
    json->at = next;
    return true;
}

static bool read_other_float(struct md_tensor_reader *reader, struct md_json *json)
{
    double value;
    const char *next = md_number_read_f64(json->at, json->end, &value);

    if (!next) {
        return bad_element(reader, json, "is not a number");
    }
    bool spelled = next[-1] == 'y' || next[-1] == 'f';
    if (reader->dtype == MD_DTYPE_FP64) {
        memcpy(reader->data + reader->read_count * sizeof value, &value, sizeof value);
    } else {
        bool half = reader->dtype == MD_DTYPE_FP16;
        uint16_t bits = half ? md_number_to_fp16(value) : md_number_to_bf16(value);
        memcpy(reader->data + reader->read_count * sizeof bits, &bits, sizeof bits);
        value = (double)(half ? md_number_from_fp16(bits) : md_number_from_bf16(bits));
    }
    if (isinf(value) && !spelled) {
        return bad_element(reader, json, "is out of the type's range");
    }
    json->at = next;
    return true;
}

static bool read_bool(struct md_tensor_reader *reader, struct md_json *json)
{
    size_t left = (size_t)(json->end - json->at);
    bool is_true = left >= 4 && memcmp(json->at, "true", 4) == 0;
    bool is_false = left >= 5 && memcmp(json->at, "false", 5) == 0;

    if (!is_true && !is_false) {
        return bad_element(reader, json, "is not true or false");
    }
    reader->data[reader->read_count] = is_true;
    json->at += is_true ? 4 : 5;
    return true;
}

static bool read_string(struct md_tensor_reader *reader, struct md_json *json)
{
    struct md_json one;

    if (*json->at != '"') {
        return bad_element(reader, json, "is not a string");
    }
    /* A reader of its own at this position: it takes exactly one string. */
    md_json_init(&one, md_str_make(json->at, (size_t)(json->end - json->at)), json->arena, 1);
    if (md_json_next(&one) != MD_JSON_STRING) {
        return bad_element(reader, json, "is not a valid string");
    }
    uint32_t len = (uint32_t)one.text.len;
    md_bytes_append(reader->strings, &len, sizeof len);
    md_bytes_append_str(reader->strings, one.text);
    if (reader->strings->failed) {
        return bad_element(reader, json, "makes the tensor too large");
    }
    json->at = one.at;
    return true;
}

static bool read_element(struct md_tensor_reader *reader, struct md_json *json)
{
    switch (reader->dtype) {
    case MD_DTYPE_FP32:
        return read_fp32(reader, json);
    case MD_DTYPE_FP16:
    case MD_DTYPE_BF16:
    case MD_DTYPE_FP64:
        return read_other_float(reader, json);
    case MD_DTYPE_BOOL:
        return read_bool(reader, json);
    case MD_DTYPE_BYTES:
        return read_string(reader, json);
    default:
        return read_integer(reader, json);
    }
}

/* --- the array ------------------------------------------------------------------------------------------------------------ */

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) {
        at++;
    }
    return at;
}

/* Takes a bracket, comma or element; false on an error. */
static bool step(struct md_tensor_reader *reader, struct md_json *json)
{
    char c = *json->at;

    if (reader->after_value && c == ',') {
        json->at++;
        reader->after_value = false;
        reader->after_comma = true;
        return true;
    }
    if (c == ']' && reader->depth && !(reader->after_comma && !reader->after_value)) {
        json->at++;
        reader->depth--;
        reader->after_value = true;
        return true;
    }
    if (reader->after_value) {
        return md_json_fail(json, "',' or ']' was expected in the data of a tensor");
    }
    reader->after_comma = false;
    if (c == '[') {
        if (++reader->depth + json->depth > json->max_depth) {
            return md_json_fail(json, "too many nested levels in the data of a tensor");
        }
        json->at++;
        return true;
    }
    if (!reader->depth) {
        return md_json_fail(json, "the data of a tensor is not an array");
    }
    if (MD_UNLIKELY(reader->read_count == reader->element_count)) {
        return md_json_fail(json, "the data of a tensor has more than the %zu elements of its shape",
                            reader->element_count);
    }
    if (!read_element(reader, json)) {
        return false;
    }
    reader->read_count++;
    reader->after_value = true;
    return true;
}

enum md_progress md_tensor_reader_step(struct md_tensor_reader *reader, struct md_json *json, size_t budget)
{
    if (!reader->depth && !reader->after_value && md_json_peek(json) != MD_JSON_ARRAY_BEGIN) {
        (void)md_json_fail(json, "the data of a tensor is not an array");
        return MD_PROGRESS_ERROR;
    }
    const char *stop = (size_t)(json->end - json->at) > budget ? json->at + budget : json->end;
    while (json->at < stop) {
        if (!step(reader, json)) {
            return MD_PROGRESS_ERROR;
        }
        if (!reader->depth) {
            if (reader->read_count != reader->element_count) {
                (void)md_json_fail(json, "the data of a tensor has %zu elements, its shape says %zu", reader->read_count,
                                   reader->element_count);
                return MD_PROGRESS_ERROR;
            }
            md_json_value_taken(json);
            return MD_PROGRESS_DONE;
        }
        json->at = skip_space(json->at, json->end);
    }
    if (json->at == json->end) {
        (void)md_json_fail(json, "the document ends inside the data of a tensor");
        return MD_PROGRESS_ERROR;
    }
    return MD_PROGRESS_AGAIN;
}

/* --- writing -------------------------------------------------------------------------------------------------------------- */

void md_tensor_writer_init(struct md_tensor_writer *writer, enum md_dtype dtype, const char *data, size_t bytes)
{
    *writer = (struct md_tensor_writer){.dtype = dtype, .data = data, .end = data + bytes, .first = true};
}

static size_t print_integer(enum md_dtype dtype, const char *data, char *out)
{
    uint64_t u = 0;
    size_t size = md_dtype_size(dtype);

    memcpy(&u, data, size);
    if (dtype >= MD_DTYPE_INT8 && dtype <= MD_DTYPE_INT64) {
        int shift = (int)(64 - 8 * size);
        return md_number_print_i64((int64_t)(u << shift) >> shift, out);
    }
    return md_number_print_u64(u, out);
}

static size_t print_fixed(enum md_dtype dtype, const char *data, char *out)
{
    float single;
    double number;
    uint16_t half;

    switch (dtype) {
    case MD_DTYPE_FP32:
        memcpy(&single, data, sizeof single);
        return md_number_print_f32(single, out);
    case MD_DTYPE_FP64:
        memcpy(&number, data, sizeof number);
        return md_number_print_f64(number, out);
    case MD_DTYPE_FP16:
    case MD_DTYPE_BF16:
        memcpy(&half, data, sizeof half);
        return md_number_print_f32(dtype == MD_DTYPE_FP16 ? md_number_from_fp16(half) : md_number_from_bf16(half), out);
    case MD_DTYPE_BOOL:
        memcpy(out, *data ? "true" : "false", *data ? 4 : 5);
        return *data ? 4 : 5;
    default:
        return print_integer(dtype, data, out);
    }
}

static void write_string(struct md_tensor_writer *writer, struct md_bytes *out)
{
    uint32_t len;

    memcpy(&len, writer->data, sizeof len);
    md_json_append_string(out, md_str_make(writer->data + sizeof len, len));
    writer->data += sizeof len + len;
}

enum md_progress md_tensor_writer_step(struct md_tensor_writer *writer, struct md_bytes *out, size_t budget)
{
    const size_t stop = out->len + budget;
    const size_t size = md_dtype_size(writer->dtype);

    if (writer->data < writer->end && !md_bytes_reserve(out, budget + MD_NUMBER_TEXT_MAX + 1)) {
        return MD_PROGRESS_ERROR;
    }
    while (writer->data < writer->end) {
        if (out->len >= stop) {
            return MD_PROGRESS_AGAIN;
        }
        if (size == 0) {
            if (!writer->first) {
                md_bytes_append_char(out, ',');
            }
            write_string(writer, out);
        } else {
            char *at = out->data + out->len; /* room was reserved for the whole slice */
            *at = ',';
            at += !writer->first;
            out->len += !writer->first + print_fixed(writer->dtype, writer->data, at);
            writer->data += size;
        }
        writer->first = false;
    }
    return out->failed ? MD_PROGRESS_ERROR : MD_PROGRESS_DONE;
}
