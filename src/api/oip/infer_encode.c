/*
 * Encoding of inference responses: the JSON head, then binary tensors straight from the memory that
 * the engine wrote.
 *
 * JSON data is printed in slices; between them other connections have their turn. The
 * classification extension turns an output into BYTES "value:index[:label]", the best first.
 */
#include "api/oip/infer.h"

#include "api/oip/reply.h"
#include "codec/number.h"

#include <math.h>
#include <stdio.h>

static const struct md_oip_output *wanted(const struct md_oip_infer *infer, struct md_str name)
{
    for (size_t i = 0; i < infer->output_count; i++) {
        if (md_str_eq(infer->outputs[i].name, name)) {
            return &infer->outputs[i];
        }
    }
    return NULL;
}

static bool is_binary(const struct md_oip_infer *infer, struct md_str name)
{
    const struct md_oip_output *output = wanted(infer, name);

    return output ? output->binary : infer->output_count == 0 && infer->binary_output;
}

/* --- classification -------------------- */

static double float_element(const struct md_tensor *tensor, size_t index)
{
    const char *at = tensor->data + index * md_dtype_size(tensor->dtype);
    uint16_t half;
    float single;
    double number;

    switch (tensor->dtype) {
    case MD_DTYPE_FP16:
    case MD_DTYPE_BF16:
        memcpy(&half, at, sizeof half);
        return (double)(tensor->dtype == MD_DTYPE_FP16 ? md_number_from_fp16(half)
                                                       : md_number_from_bf16(half));
    case MD_DTYPE_FP32:
        memcpy(&single, at, sizeof single);
        return (double)single;
    default:
        memcpy(&number, at, sizeof number);
        return number;
    }
}

static bool is_float(enum md_dtype dtype)
{
    return dtype >= MD_DTYPE_FP16 && dtype != MD_DTYPE_BYTES;
}

static bool is_signed(enum md_dtype dtype)
{
    return dtype >= MD_DTYPE_INT8 && dtype <= MD_DTYPE_INT64;
}

/* The element's 64 bits, sign extended if its type has one. */
static uint64_t integer_element(const struct md_tensor *tensor, size_t index)
{
    const size_t size = md_dtype_size(tensor->dtype);
    const unsigned shift = (unsigned)(64 - 8 * size);
    uint64_t bits = 0;

    memcpy(&bits, tensor->data + index * size, size);
    return is_signed(tensor->dtype) ? (uint64_t)((int64_t)(bits << shift) >> shift) : bits;
}

/* Appends one class as an element of a BYTES tensor. */
static void append_class(const struct md_tensor *tensor, size_t at, size_t index,
                         const struct md_tensor_spec *spec, struct md_bytes *out)
{
    char text[512];
    int len;

    if (is_float(tensor->dtype)) {
        len = snprintf(text, sizeof text, "%f:%zu", float_element(tensor, at), index);
    } else if (is_signed(tensor->dtype)) {
        len =
            snprintf(text, sizeof text, "%lld:%zu", (long long)integer_element(tensor, at), index);
    } else {
        len = snprintf(text, sizeof text, "%llu:%zu",
                       (unsigned long long)integer_element(tensor, at), index);
    }
    struct md_str label =
        spec && index < spec->class_label_count ? spec->class_labels[index] : MD_STR("");
    uint32_t total = (uint32_t)((size_t)len + (label.len ? label.len + 1 : 0));

    md_bytes_append(out, &total, sizeof total);
    md_bytes_append(out, text, (size_t)len);
    if (label.len) {
        md_bytes_append_char(out, ':');
        md_bytes_append_str(out, label);
    }
}

/* Order of classes: the larger value first, of equal ones the lower index; NaN comes last. */
static bool is_better(const struct md_tensor *tensor, size_t first, size_t a, size_t b)
{
    if (!is_float(tensor->dtype)) {
        /* with the top bit turned, signed numbers compare as unsigned ones */
        const uint64_t turn = is_signed(tensor->dtype) ? 1ULL << 63 : 0;
        uint64_t x = integer_element(tensor, first + a) ^ turn;
        uint64_t y = integer_element(tensor, first + b) ^ turn;
        return x > y || (x == y && a < b);
    }
    double x = float_element(tensor, first + a), y = float_element(tensor, first + b);

    if (isnan(x) || isnan(y)) {
        return isnan(x) == isnan(y) ? a < b : isnan(y);
    }
    return x > y || (x == y && a < b);
}

/* Restores the heap (worst on top) below `at`. */
static void sink(const struct md_tensor *tensor, size_t first, size_t *heap, size_t count,
                 size_t at)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        child += child + 1 < count && is_better(tensor, first, heap[child], heap[child + 1]);
        if (!is_better(tensor, first, heap[at], heap[child])) {
            return;
        }
        size_t swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
    }
}

/* The k best of one row, best first; k is the client's to choose, so the heap keeps the cost at n
 * log k. */
static void classify_row(const struct md_tensor *tensor, size_t first, size_t classes, size_t k,
                         size_t *best, const struct md_tensor_spec *spec, struct md_bytes *out)
{
    for (size_t i = 0; i < k; i++) {
        best[i] = i;
    }
    for (size_t at = k / 2; at-- > 0;) {
        sink(tensor, first, best, k, at);
    }
    for (size_t i = k; k && i < classes; i++) {
        if (is_better(tensor, first, i, best[0])) {
            best[0] = i;
            sink(tensor, first, best, k, 0);
        }
    }
    for (size_t count = k; count > 1; count--) {
        size_t worst = best[0];
        best[0] = best[count - 1];
        best[count - 1] = worst;
        sink(tensor, first, best, count - 1, 0);
    }
    for (size_t i = 0; i < k; i++) {
        append_class(tensor, first + best[i], best[i], spec, out);
    }
}

static bool classify(struct md_oip_infer *infer, struct md_tensor *tensor, int64_t class_count,
                     struct md_error *err)
{
    const struct md_target *target = infer->request.target;
    bool batched = target->max_batch_size > 0 && tensor->rank > 0;
    size_t rows = batched ? (size_t)tensor->shape[0] : 1;
    size_t elements;
    struct md_bytes out = {0};

    if (tensor->dtype == MD_DTYPE_BYTES ||
        !md_shape_elements(tensor->shape, tensor->rank, &elements)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "class result not available for output due to unsupported type '%s'",
                            md_dtype_name(tensor->dtype));
    }
    size_t classes = rows ? elements / rows : 0;
    size_t k = md_size_min((size_t)class_count, classes);
    size_t *best = md_arena_alloc(&infer->x->arena, k * sizeof *best);
    int64_t *shape = md_arena_alloc(&infer->x->arena, 2 * sizeof *shape);
    const struct md_tensor_spec *spec = md_target_find_output(target, tensor->name);
    for (size_t row = 0; best && row < rows; row++) {
        classify_row(tensor, row * classes, classes, k, best, spec, &out);
    }
    struct md_str copy = md_arena_copy(&infer->x->arena, md_bytes_view(&out));
    bool ok = !out.failed && best && shape && copy.ptr;
    md_bytes_deinit(&out);
    if (!ok) {
        return md_error_no_memory(err, "a classification");
    }
    shape[0] = batched ? (int64_t)rows : (int64_t)k;
    shape[1] = (int64_t)k;
    tensor->dtype = MD_DTYPE_BYTES;
    tensor->rank = batched ? 2 : 1;
    tensor->shape = shape;
    tensor->data = copy.ptr;
    tensor->bytes = copy.len;
    return true;
}

/* --- document -------------------- */

enum {
    ESCAPED_BYTES = 6,    /* of a byte in a JSON string, at most */
    FIXED_BYTES = 256,    /* keys and punctuation around names, at most */
    DIMENSION_BYTES = 24, /* of a shape */
    DATA_BYTES = 512,     /* of data in one step, at least */
};

static struct md_bytes *room(struct md_oip_infer *infer, size_t bytes)
{
    return md_chain_room(&infer->document, md_loop_pool(infer->x->loop), bytes);
}

static bool begin_document(struct md_oip_infer *infer)
{
    const struct md_target *target = infer->request.target;
    struct md_str id = infer->request.id;
    struct md_bytes *out =
        room(infer, FIXED_BYTES + ESCAPED_BYTES * (id.len + target->model_name.len));

    if (!out) {
        return false;
    }
    md_bytes_append_char(out, '{');
    if (id.len) {
        md_bytes_append_str(out, MD_STR("\"id\":"));
        md_json_append_string(out, id);
        md_bytes_append_char(out, ',');
    }
    md_bytes_append_str(out, MD_STR("\"model_name\":"));
    md_json_append_string(out, target->model_name);
    md_bytes_append_str(out, MD_STR(",\"model_version\":\""));
    md_bytes_append_str(out, target->version_text);
    md_bytes_append_str(out, MD_STR("\",\"outputs\":["));
    return true;
}

static bool begin_output(struct md_oip_infer *infer, const struct md_tensor *tensor)
{
    struct md_bytes *out = room(infer, FIXED_BYTES + ESCAPED_BYTES * tensor->name.len +
                                           DIMENSION_BYTES * tensor->rank);

    if (!out) {
        return false;
    }
    if (infer->output_at) {
        md_bytes_append_char(out, ',');
    }
    md_bytes_append_str(out, MD_STR("{\"name\":"));
    md_json_append_string(out, tensor->name);
    md_bytes_append_str(out, MD_STR(",\"datatype\":\""));
    md_bytes_append_c(out, md_dtype_name(tensor->dtype));
    md_bytes_append_str(out, MD_STR("\",\"shape\":"));
    md_shape_print(tensor->shape, tensor->rank, out);
    if (is_binary(infer, tensor->name)) {
        md_bytes_append_str(out, MD_STR(",\"parameters\":{\"binary_data_size\":"));
        md_bytes_append_u64(out, tensor->bytes);
        md_bytes_append_str(out, MD_STR("}}"));
    } else {
        md_bytes_append_str(out, MD_STR(",\"data\":["));
        md_tensor_writer_init(&infer->writer, tensor->dtype, tensor->data, tensor->bytes);
        infer->writes = true;
    }
    return true;
}

static bool append_end(struct md_oip_infer *infer)
{
    struct md_bytes *out = room(infer, 2);

    if (out) {
        md_bytes_append_str(out, MD_STR("]}"));
    }
    return out != NULL;
}

/* Data of the current output, as much as fits the block. */
static enum md_progress append_data(struct md_oip_infer *infer)
{
    struct md_bytes *out = room(infer, DATA_BYTES + MD_TENSOR_WRITER_SPARE);

    return out ? md_tensor_writer_step(&infer->writer, out,
                                       out->capacity - out->len - MD_TENSOR_WRITER_SPARE)
               : MD_PROGRESS_ERROR;
}

/* --- answer -------------------- */

static void refuse(struct md_oip_infer *infer)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_INFLIGHT_BYTES, "too many bytes are in flight: try again");
    md_oip_reply_error(infer->x, &err);
}

static void answer(struct md_oip_infer *infer)
{
    struct md_arena *arena = &infer->x->arena;
    const struct md_response *response = infer->response;
    size_t count = infer->document.part_count, binary = 0;
    struct iovec *parts = md_arena_alloc(arena, (count + response->output_count) * sizeof *parts);
    struct md_http_header *header = md_arena_alloc(arena, sizeof *header);

    if (!parts || !header) {
        struct md_error err;
        (void)md_error_no_memory(&err, "the response");
        md_oip_reply_error(infer->x, &err);
        return;
    }
    md_chain_parts(&infer->document, parts);
    for (size_t i = 0; i < response->output_count; i++) {
        const struct md_tensor *tensor = &response->outputs[i];
        if (is_binary(infer, tensor->name) && tensor->bytes) {
            parts[count++] = (struct iovec){(void *)(uintptr_t)tensor->data, tensor->bytes};
            binary += tensor->bytes;
        }
    }
    struct md_http_response answer = {.status = 200,
                                      .content_type = "application/json",
                                      .parts = parts,
                                      .part_count = count,
                                      .may_compress = true};
    if (binary) {
        char *length = md_arena_printf(arena, "%zu", md_chain_bytes(&infer->document));
        *header =
            (struct md_http_header){MD_STR(MD_OIP_LENGTH_HEADER), md_str_of(length ? length : "0")};
        answer.content_type = "application/octet-stream";
        answer.headers = header;
        answer.header_count = 1;
    }
    md_exchange_respond(infer->x, &answer);
}

void md_oip_encode_step(struct md_oip_infer *infer)
{
    const struct md_response *response = infer->response;
    const size_t yield_at = md_chain_bytes(&infer->document) + MD_OIP_SLICE_BYTES;
    bool ok = infer->document.part_count > 0 || begin_document(infer);

    while (ok && infer->output_at < response->output_count) {
        if (!infer->writes) {
            ok = begin_output(infer, &response->outputs[infer->output_at]);
        } else if (md_chain_bytes(&infer->document) >= yield_at) {
            md_loop_defer(infer->x->loop, &infer->task);
            return;
        } else {
            enum md_progress progress = append_data(infer);
            infer->writes = progress != MD_PROGRESS_DONE;
            ok = progress != MD_PROGRESS_ERROR && (infer->writes || append_end(infer));
        }
        infer->output_at += !infer->writes;
    }
    if (ok && append_end(infer)) {
        answer(infer);
    } else {
        refuse(infer);
    }
}

/* --- responder -------------------- */

static void on_response(struct md_request *request, struct md_response *response)
{
    struct md_oip_infer *infer = request->dialect;

    infer->response = response;
    infer->phase = MD_OIP_ENCODE;
}

static bool classify_all(struct md_oip_infer *infer, struct md_error *err)
{
    for (size_t i = 0; i < infer->response->output_count; i++) {
        struct md_tensor *tensor = &infer->response->outputs[i];
        const struct md_oip_output *output = wanted(infer, tensor->name);
        if (output && output->class_count && !classify(infer, tensor, output->class_count, err)) {
            return false;
        }
    }
    return true;
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct md_oip_infer *infer = request->dialect;
    struct md_error err;

    if (error) {
        md_oip_reply_error(infer->x, error);
    } else if (infer->cancelled) {
        md_oip_reply_empty(infer->x, 499);
    } else if (!classify_all(infer, &err)) {
        md_oip_reply_error(infer->x, &err);
    } else {
        md_oip_encode_step(infer);
    }
}

const struct md_responder md_oip_responder = {.response = on_response, .end = on_end};
