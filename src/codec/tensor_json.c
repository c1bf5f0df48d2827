/*
 * Tensor data as JSON arrays.
 *
 * Reading has two levels: read_run takes elements as long as each is followed by a comma and the
 * next (the whole of a flat array), `step` takes the brackets, and the white space in unusual
 * places. Both leave off anywhere between two tokens.
 */
#include "codec/tensor_json.h"

#include "codec/number.h"

#include <math.h>

void md_tensor_reader_init(struct md_tensor_reader *reader, enum md_dtype dtype,
                           size_t element_count, char *data, struct md_bytes *strings)
{
    *reader = (struct md_tensor_reader){.dtype = dtype,
                                        .element_count = element_count,
                                        .data = data,
                                        .strings = strings,
                                        .after_comma = true};
}

/* --- one element -------------------- */

static bool bad_element(struct md_tensor_reader *reader, struct md_json *json, const char *why)
{
    size_t len = 0, left = md_size_min((size_t)(json->end - json->at), 40);

    while (len < left && json->at[len] > ' ' && json->at[len] <= '~' &&
           !strchr(",[]{}", json->at[len])) {
        len++;
    }
    return md_json_fail(json, "element %zu of a %s tensor %s: '%.*s'", reader->read_count,
                        md_dtype_name(reader->dtype), why, (int)len, json->at);
}

static const char out_of_range[] = "is out of the type's range";

static bool read_integer(struct md_tensor_reader *reader, struct md_json *json)
{
    static const struct {
        uint64_t positive, negative; /* largest magnitudes */
    } range[MD_DTYPE_COUNT] = {
        [MD_DTYPE_UINT8] = {UINT8_MAX, 0},        [MD_DTYPE_UINT16] = {UINT16_MAX, 0},
        [MD_DTYPE_UINT32] = {UINT32_MAX, 0},      [MD_DTYPE_UINT64] = {UINT64_MAX, 0},
        [MD_DTYPE_INT8] = {INT8_MAX, 128},        [MD_DTYPE_INT16] = {INT16_MAX, 32768},
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
        return bad_element(reader, json, out_of_range);
    }
    uint64_t value = negative ? 0 - magnitude : magnitude;
    size_t size = md_dtype_size(reader->dtype);
    memcpy(reader->data + reader->read_count * size, &value,
           size); /* little-endian: the low bytes */
    json->at = at;
    return true;
}

/* `next` follows the number's text, or is NULL when there is none. */
static inline bool float_read(struct md_tensor_reader *reader, struct md_json *json,
                              const char *next, bool infinite)
{
    if (MD_UNLIKELY(!next)) {
        return bad_element(reader, json, "is not a number");
    }
    if (MD_UNLIKELY(infinite) && next[-1] >= '0' && next[-1] <= '9') { /* a number, not the word */
        return bad_element(reader, json, out_of_range);
    }
    json->at = next;
    return true;
}

static inline bool read_fp32(struct md_tensor_reader *reader, struct md_json *json)
{
    float value;
    const char *next = md_number_read_f32(json->at, json->end, &value);

    memcpy(reader->data + reader->read_count * sizeof value, &value, sizeof value);
    return float_read(reader, json, next, isinf(value));
}

static bool read_fp64(struct md_tensor_reader *reader, struct md_json *json)
{
    double value;
    const char *next = md_number_read_f64(json->at, json->end, &value);

    memcpy(reader->data + reader->read_count * sizeof value, &value, sizeof value);
    return float_read(reader, json, next, isinf(value));
}

static bool read_16_bits(struct md_tensor_reader *reader, struct md_json *json)
{
    bool half = reader->dtype == MD_DTYPE_FP16;
    uint16_t bits;
    const char *next = half ? md_number_read_fp16(json->at, json->end, &bits)
                            : md_number_read_bf16(json->at, json->end, &bits);

    memcpy(reader->data + reader->read_count * sizeof bits, &bits, sizeof bits);
    return float_read(reader, json, next, (bits & INT16_MAX) == (half ? 0x7c00 : 0x7f80));
}

static bool read_bool(struct md_tensor_reader *reader, struct md_json *json)
{
    struct md_str rest = md_str_make(json->at, (size_t)(json->end - json->at));
    bool is_true = md_str_starts_with(rest, MD_STR("true"));

    if (!is_true && !md_str_starts_with(rest, MD_STR("false"))) {
        return bad_element(reader, json, "is not true or false");
    }
    reader->data[reader->read_count] = is_true;
    json->at += is_true ? 4 : 5;
    return true;
}

static bool read_string(struct md_tensor_reader *reader, struct md_json *json)
{
    struct md_bytes *strings = reader->strings;
    const size_t prefix_at = strings->len;
    uint32_t len;

    if (*json->at != '"') {
        return bad_element(reader, json, "is not a string");
    }
    if (json->end - json->at > UINT32_MAX && !memchr(json->at + 1, '"', UINT32_MAX)) {
        return bad_element(reader, json, "is too long");
    }
    if (!md_json_take_string(json, sizeof len, strings)) {
        return md_error_prefix(&json->error, "element %zu of a BYTES tensor", reader->read_count);
    }
    len = (uint32_t)(strings->len - prefix_at - sizeof len);
    memcpy(strings->data + prefix_at, &len, sizeof len);
    return true;
}

static inline bool read_element(struct md_tensor_reader *reader, struct md_json *json)
{
    switch (reader->dtype) {
    case MD_DTYPE_FP32:
        return read_fp32(reader, json);
    case MD_DTYPE_FP64:
        return read_fp64(reader, json);
    case MD_DTYPE_FP16:
    case MD_DTYPE_BF16:
        return read_16_bits(reader, json);
    case MD_DTYPE_BOOL:
        return read_bool(reader, json);
    case MD_DTYPE_BYTES:
        return read_string(reader, json);
    default:
        return read_integer(reader, json);
    }
}

/* --- the array -------------------- */

static inline bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Takes elements up to `stop`, and the commas between them. */
static bool read_run(struct md_tensor_reader *reader, struct md_json *json, const char *stop)
{
    for (;;) {
        if (MD_UNLIKELY(reader->read_count == reader->element_count)) {
            return md_json_fail(json,
                                "the data of a tensor has more than the %zu elements of its shape",
                                reader->element_count);
        }
        if (MD_UNLIKELY(!read_element(reader, json))) {
            return false;
        }
        reader->read_count++;
        /* a comma, perhaps a space, and the next element? */
        if (stop - json->at < 3 || json->at[0] != ',') {
            break;
        }
        const char *next = json->at + 1 + (json->at[1] == ' ');
        if (is_space(*next) || *next == '[' || *next == ']') {
            break;
        }
        json->at = next;
    }
    reader->after_value = true;
    return true;
}

/* Takes a bracket, a comma or elements; false on an error. */
static bool step(struct md_tensor_reader *reader, struct md_json *json, const char *stop)
{
    char c = *json->at;

    if (reader->after_value && c == ',') {
        json->at++;
        reader->after_value = false;
        reader->after_comma = true;
        return true;
    }
    if (c == ']' && reader->depth && !reader->after_comma) {
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
        if (reader->depth + json->depth == json->max_depth) {
            return md_json_fail(json, "too many nested levels in the data of a tensor");
        }
        reader->depth++;
        json->at++;
        return true;
    }
    return read_run(reader, json, stop);
}

static bool finish(const struct md_tensor_reader *reader, struct md_json *json)
{
    if (reader->read_count != reader->element_count) {
        return md_json_fail(json, "the data of a tensor has %zu elements, its shape says %zu",
                            reader->read_count, reader->element_count);
    }
    md_json_value_taken(json);
    return true;
}

enum md_progress md_tensor_reader_step(struct md_tensor_reader *reader, struct md_json *json,
                                       size_t budget)
{
    if (!reader->depth && md_json_peek(json) != MD_JSON_ARRAY_BEGIN) {
        (void)md_json_fail(json, "the data of a tensor is not an array");
        return MD_PROGRESS_ERROR;
    }
    const char *stop = (size_t)(json->end - json->at) > budget ? json->at + budget : json->end;
    while (json->at < stop) {
        if (is_space(*json->at)) {
            json->at++;
            continue;
        }
        if (!step(reader, json, stop)) {
            return MD_PROGRESS_ERROR;
        }
        if (!reader->depth) {
            return finish(reader, json) ? MD_PROGRESS_DONE : MD_PROGRESS_ERROR;
        }
    }
    if (json->at == json->end) {
        (void)md_json_fail(json, "the document ends inside the data of a tensor");
        return MD_PROGRESS_ERROR;
    }
    return MD_PROGRESS_AGAIN;
}

/* --- writing -------------------- */

void md_tensor_writer_init(struct md_tensor_writer *writer, enum md_dtype dtype, const char *data,
                           size_t bytes)
{
    *writer = (struct md_tensor_writer){
        .dtype = dtype, .data = data, .end = bytes ? data + bytes : data, .first = true};
}

static size_t print_integer(enum md_dtype dtype, const char *data, char *out)
{
    uint64_t value = 0;
    size_t size = md_dtype_size(dtype);

    memcpy(&value, data, size);
    if (dtype >= MD_DTYPE_INT8 && dtype <= MD_DTYPE_INT64) {
        int shift = (int)(64 - 8 * size);
        return md_number_print_i64((int64_t)(value << shift) >> shift, out);
    }
    return md_number_print_u64(value, out);
}

static inline size_t print_element(enum md_dtype dtype, const char *data, char *out)
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
        return dtype == MD_DTYPE_FP16 ? md_number_print_fp16(half, out)
                                      : md_number_print_bf16(half, out);
    case MD_DTYPE_BOOL:
        memcpy(out, *data ? "true" : "false", *data ? 4 : 5);
        return *data ? 4 : 5;
    default:
        return print_integer(dtype, data, out);
    }
}

/* Room for the slice and the element that crosses its end was reserved. */
static enum md_progress write_fixed(struct md_tensor_writer *writer, struct md_bytes *out,
                                    const char *stop)
{
    const size_t size = md_dtype_size(writer->dtype);
    char *at = out->data + out->len;

    while ((size_t)(writer->end - writer->data) >= size && at < stop) {
        *at = ',';
        at += !writer->first;
        writer->first = false;
        at += print_element(writer->dtype, writer->data, at);
        writer->data += size;
    }
    out->len = (size_t)(at - out->data);
    if (writer->data == writer->end) {
        return MD_PROGRESS_DONE;
    }
    return (size_t)(writer->end - writer->data) < size ? MD_PROGRESS_ERROR : MD_PROGRESS_AGAIN;
}

/* Takes the length prefix of the next element; false when the data ends too early. */
static bool begin_string(struct md_tensor_writer *writer)
{
    size_t left = (size_t)(writer->end - writer->data);
    uint32_t len;

    if (left < sizeof len) {
        return false;
    }
    memcpy(&len, writer->data, sizeof len);
    if (left - sizeof len < len) {
        return false;
    }
    writer->string = md_str_make(writer->data + sizeof len, len);
    writer->data += sizeof len + len;
    writer->in_string = true;
    return true;
}

/* As much of the text as `room` allows (at least four bytes), without cutting a character. */
static size_t piece_length(struct md_str text, size_t room)
{
    if (text.len <= room) {
        return text.len;
    }
    for (size_t back = 0; back < 4; back++) {
        if (((unsigned char)text.ptr[room - back] & 0xc0) != 0x80) {
            return room - back;
        }
    }
    return room; /* four bytes that continue nothing */
}

/* A byte takes at most ESCAPED_BYTES, so each piece fits what is left, or is of PIECE_BYTES and
 * fits the spare. */
enum { ESCAPED_BYTES = 6, PIECE_BYTES = 8 };
_Static_assert(PIECE_BYTES *ESCAPED_BYTES + 3 <= MD_TENSOR_WRITER_SPARE,
               "a piece, quotes and comma fit");
_Static_assert(MD_NUMBER_TEXT_MAX + 1 <= MD_TENSOR_WRITER_SPARE, "a number and its comma fit");

static enum md_progress write_strings(struct md_tensor_writer *writer, struct md_bytes *out,
                                      size_t budget)
{
    const size_t stop = out->len + budget;

    while (writer->in_string || writer->data < writer->end) {
        if (out->len >= stop) {
            return MD_PROGRESS_AGAIN;
        }
        if (!writer->in_string) {
            if (!begin_string(writer)) {
                return MD_PROGRESS_ERROR;
            }
            md_bytes_append_c(out, writer->first ? "\"" : ",\"");
            writer->first = false;
        }
        size_t room = (stop - md_size_min(stop, out->len)) / ESCAPED_BYTES;
        size_t piece = piece_length(writer->string, md_size_max(room, PIECE_BYTES));
        md_json_append_text(out, md_str_make(writer->string.ptr, piece));
        writer->string = md_str_make(writer->string.ptr + piece, writer->string.len - piece);
        if (!writer->string.len) {
            md_bytes_append_char(out, '"');
            writer->in_string = false;
        }
        if (out->failed) {
            return MD_PROGRESS_ERROR;
        }
    }
    return MD_PROGRESS_DONE;
}

enum md_progress md_tensor_writer_step(struct md_tensor_writer *writer, struct md_bytes *out,
                                       size_t budget)
{
    budget = md_size_min(budget, MD_TENSOR_WRITER_SLICE_MAX);
    if (writer->dtype == MD_DTYPE_BYTES) {
        return write_strings(writer, out, budget);
    }
    if (writer->data == writer->end) {
        return MD_PROGRESS_DONE;
    }
    if (!md_bytes_reserve(out, budget + MD_TENSOR_WRITER_SPARE)) {
        return MD_PROGRESS_ERROR;
    }
    return write_fixed(writer, out, out->data + out->len + budget);
}
