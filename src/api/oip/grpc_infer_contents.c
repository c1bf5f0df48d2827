/*
 * Typed contents of inputs. Floats that lie in one piece are used where they are; the rest is
 * converted, in slices. The fields of a tensor may come in any number of pieces: the message is
 * walked through three readers, one for each level.
 */
#include "api/oip/grpc_infer_internal.h"

/* A field of InferTensorContents. */
struct md_oip_grpc_kind {
    enum md_pb_wire wire; /* of one element */
    enum md_dtype dtype;  /* the field's own; of integers the widest */
    unsigned dtypes;      /* that it may be, a bit each */
    bool is_signed;
};

#define DTYPE_BIT(suffix) (1U << MD_DTYPE_##suffix)

static const struct md_oip_grpc_kind kinds[] = {
    [1] = {MD_PB_VARINT, MD_DTYPE_BOOL, DTYPE_BIT(BOOL), false},
    [2] = {MD_PB_VARINT, MD_DTYPE_INT32, DTYPE_BIT(INT8) | DTYPE_BIT(INT16) | DTYPE_BIT(INT32),
           true},
    [3] = {MD_PB_VARINT, MD_DTYPE_INT64, DTYPE_BIT(INT64), true},
    [4] = {MD_PB_VARINT, MD_DTYPE_UINT32, DTYPE_BIT(UINT8) | DTYPE_BIT(UINT16) | DTYPE_BIT(UINT32),
           false},
    [5] = {MD_PB_VARINT, MD_DTYPE_UINT64, DTYPE_BIT(UINT64), false},
    [6] = {MD_PB_FIXED32, MD_DTYPE_FP32, DTYPE_BIT(FP32), false},
    [7] = {MD_PB_FIXED64, MD_DTYPE_FP64, DTYPE_BIT(FP64), false},
    [8] = {MD_PB_BYTES, MD_DTYPE_BYTES, DTYPE_BIT(BYTES), false},
};

enum { FIELD_COST = 16 /* of a slice's bytes */ };

static struct md_tensor *tensor_of(struct md_oip_grpc_infer *infer)
{
    return &infer->base.request.inputs[infer->contents.input];
}

static size_t message_bytes(const struct md_oip_grpc_infer *infer)
{
    return infer->inputs[infer->contents.input].message.len;
}

static bool malformed(const struct md_oip_grpc_infer *infer, struct md_error *err)
{
    return md_error_set(err, MD_REASON_MALFORMED,
                        "the contents of input '%s' are no valid protobuf message",
                        infer->base.request.inputs[infer->contents.input].name.ptr);
}

/* --- memory -------------------- */

static bool make_data(struct md_oip_grpc_infer *infer, size_t capacity, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;

    contents->capacity = capacity;
    contents->data = md_oip_inference_memory(&infer->base, capacity, err);
    return contents->data != NULL;
}

/* Memory for strings: an element takes four bytes more than its text, and at least two more of the
 * message. It is counted as it fills. */
static bool make_string_data(struct md_oip_grpc_infer *infer, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    const size_t capacity = 2 * message_bytes(infer);

    if (md_oip_inference_is_small(capacity)) {
        return make_data(infer, capacity, err);
    }
    contents->counted = md_size_min(capacity, MD_OIP_SLICE_BYTES);
    contents->block = md_oip_inference_block(&infer->base, capacity, contents->counted, err);
    if (!contents->block) {
        return false;
    }
    contents->data = contents->block->data;
    contents->capacity = capacity;
    return true;
}

static bool count_strings(struct md_oip_grpc_contents *contents, size_t bytes, struct md_error *err)
{
    if (!contents->block || contents->bytes + bytes <= contents->counted) {
        return true;
    }
    contents->counted =
        md_size_min(contents->bytes + bytes + MD_OIP_SLICE_BYTES, contents->capacity);
    return md_block_charge(contents->block, contents->counted) || md_error_over_budget(err);
}

/* --- elements -------------------- */

static bool take_string(struct md_oip_grpc_infer *infer, struct md_str text, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    const uint32_t len = (uint32_t)text.len;

    if ((!contents->data && !make_string_data(infer, err)) ||
        !count_strings(contents, sizeof len + text.len, err)) {
        return false;
    }
    char *at = contents->data + contents->bytes;
    memcpy(at, &len, sizeof len);
    if (len) {
        memcpy(at + sizeof len, text.ptr, len);
    }
    contents->bytes += sizeof len + len;
    return true;
}

/* Floats: the first piece stays where it is, unless more come. */
static bool take_floats(struct md_oip_grpc_infer *infer, struct md_str piece, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;

    if (piece.len % md_dtype_size(contents->kind->dtype)) {
        return malformed(infer, err);
    }
    if (!contents->bytes) {
        contents->view = piece.ptr;
        contents->bytes = piece.len;
        return true;
    }
    if (!contents->data) {
        if (!make_data(infer, message_bytes(infer), err)) {
            return false;
        }
        memcpy(contents->data, contents->view, contents->bytes);
    }
    memcpy(contents->data + contents->bytes, piece.ptr, piece.len);
    contents->bytes += piece.len;
    return true;
}

/* Memory for as many elements as the shape has, if there can be so many; more are only counted. */
static bool make_integer_data(struct md_oip_grpc_infer *infer, struct md_error *err)
{
    const struct md_tensor *tensor = tensor_of(infer);
    size_t elements;

    if (!md_shape_elements(tensor->shape, tensor->rank, &elements)) {
        elements = 0;
    }
    return make_data(
        infer, md_size_min(elements, message_bytes(infer)) * md_dtype_size(tensor->dtype), err);
}

static void store(char *at, uint64_t value, size_t size)
{
    switch (size) {
    case 1:
        *at = (char)value;
        break;
    case 2:
        memcpy(at, &value, 2);
        break;
    case 4:
        memcpy(at, &value, 4);
        break;
    default:
        memcpy(at, &value, 8);
    }
}

/* The value that the field's type makes of a varint, and whether the tensor's holds it. */
static bool narrow(const struct md_oip_grpc_kind *kind, enum md_dtype dtype, uint64_t *value)
{
    const unsigned shift = 64 - 8 * (unsigned)md_dtype_size(dtype);

    if (dtype == MD_DTYPE_BOOL) {
        *value = *value != 0;
        return true;
    }
    if (kind->dtype == MD_DTYPE_INT32) {
        *value = (uint64_t)(int64_t)(int32_t)(uint32_t)*value;
    } else if (kind->dtype == MD_DTYPE_UINT32) {
        *value = (uint32_t)*value;
    }
    return kind->is_signed ? (uint64_t)((int64_t)(*value << shift) >> shift) == *value
                           : *value << shift >> shift == *value;
}

/* Converts varints, as many as the slice has bytes left. */
static bool take_integers(struct md_oip_grpc_infer *infer, ptrdiff_t *left, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    const struct md_tensor *tensor = tensor_of(infer);
    const size_t size = md_dtype_size(tensor->dtype);
    const char *begin = contents->elements.at;
    uint64_t value;

    if (!contents->data && !make_integer_data(infer, err)) {
        return false;
    }
    while (contents->elements.at - begin < *left &&
           md_pb_next_varint(&contents->elements, &value)) {
        if (!narrow(contents->kind, tensor->dtype, &value)) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "a value of input '%s' does not fit its datatype %s",
                                tensor->name.ptr, md_dtype_name(tensor->dtype));
        }
        if (contents->bytes + size <= contents->capacity) {
            store(contents->data + contents->bytes, value, size);
        }
        contents->bytes += size;
    }
    *left -= contents->elements.at - begin;
    return !contents->elements.failed || malformed(infer, err);
}

/* --- fields -------------------- */

/* Which kind of contents a field is; NULL: none. */
static const struct md_oip_grpc_kind *kind_of(const struct md_pb_field *field)
{
    const uint32_t number = field->tag >> 3;
    const enum md_pb_wire wire = (enum md_pb_wire)(field->tag & 7);

    if (number >= MD_COUNT_OF(kinds) || (wire != MD_PB_BYTES && wire != kinds[number].wire)) {
        return NULL;
    }
    return &kinds[number];
}

static bool take_field(struct md_oip_grpc_infer *infer, const struct md_pb_field *field,
                       struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    const struct md_oip_grpc_kind *kind = kind_of(field);
    const struct md_tensor *tensor = tensor_of(infer);

    if (!kind || (field->bytes.len == 0 && kind->wire != MD_PB_BYTES)) {
        return true;
    }
    if (!(kind->dtypes & 1U << tensor->dtype)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "unexpected explicit tensor data for input tensor '%s' for model '%s' "
                            "of type '%s', expected datatype '%s'",
                            tensor->name.ptr, infer->base.request.target->model_name.ptr,
                            md_dtype_name(kind->dtype), md_dtype_name(tensor->dtype));
    }
    contents->kind = kind;
    switch (kind->wire) {
    case MD_PB_BYTES:
        return take_string(infer, field->bytes, err);
    case MD_PB_VARINT:
        contents->elements = md_pb_reader_of(field->bytes);
        return true;
    default:
        return take_floats(infer, field->bytes, err);
    }
}

static void begin_input(struct md_oip_grpc_infer *infer)
{
    const size_t input = infer->contents.input;

    infer->contents = (struct md_oip_grpc_contents){
        .input = input, .begun = true, .occurrence = md_pb_reader_of(infer->inputs[input].message)};
}

static void end_input(struct md_oip_grpc_infer *infer)
{
    const struct md_oip_grpc_contents *contents = &infer->contents;
    struct md_tensor *tensor = tensor_of(infer);

    if (contents->bytes) {
        tensor->data = contents->data ? contents->data : contents->view;
        tensor->bytes = contents->bytes;
    }
}

/* Reads on in the input; `left` bytes of the slice are left, none: AGAIN. */
static enum md_progress read_input(struct md_oip_grpc_infer *infer, ptrdiff_t *left,
                                   struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    struct md_pb_field field;
    bool ok = true;

    while (ok && *left > 0) {
        if (contents->elements.at != contents->elements.end) {
            ok = take_integers(infer, left, err);
        } else if (md_pb_next(&contents->fields, &field)) {
            *left -= FIELD_COST + (ptrdiff_t)(contents->fields.at - field.bytes.ptr) / 8;
            ok = take_field(infer, &field, err);
        } else if (contents->fields.failed) {
            ok = malformed(infer, err);
        } else if (md_pb_next(&contents->occurrence, &field)) {
            if (field.tag == MD_PB_TAG(5, MD_PB_BYTES)) {
                contents->fields = md_pb_reader_of(field.bytes);
            }
        } else {
            return MD_PROGRESS_DONE;
        }
    }
    return ok ? MD_PROGRESS_AGAIN : MD_PROGRESS_ERROR;
}

enum md_progress md_oip_grpc_read_contents(struct md_oip_grpc_infer *infer, struct md_error *err)
{
    struct md_oip_grpc_contents *contents = &infer->contents;
    ptrdiff_t left = MD_OIP_SLICE_BYTES;

    for (; contents->input < infer->base.request.input_count; contents->input++) {
        if (!infer->inputs[contents->input].has_contents) {
            continue;
        }
        if (!contents->begun) {
            begin_input(infer);
        }
        enum md_progress progress = read_input(infer, &left, err);
        if (progress != MD_PROGRESS_DONE) {
            return progress;
        }
        end_input(infer);
        contents->begun = false;
    }
    return MD_PROGRESS_DONE;
}
