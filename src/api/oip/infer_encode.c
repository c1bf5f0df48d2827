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

static double element(const struct md_tensor *tensor, size_t index)
{
    const char *at = tensor->data + index * md_dtype_size(tensor->dtype);
    union {
        uint8_t u8;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        float f32;
        double f64;
    } v;

    memcpy(&v, at, md_dtype_size(tensor->dtype));
    switch (tensor->dtype) {
    case MD_DTYPE_BOOL:
    case MD_DTYPE_UINT8:
        return v.u8;
    case MD_DTYPE_UINT16:
        return v.u16;
    case MD_DTYPE_UINT32:
        return v.u32;
    case MD_DTYPE_UINT64:
        return (double)v.u64;
    case MD_DTYPE_INT8:
        return v.i8;
    case MD_DTYPE_INT16:
        return v.i16;
    case MD_DTYPE_INT32:
        return v.i32;
    case MD_DTYPE_INT64:
        return (double)v.i64;
    case MD_DTYPE_FP16:
        return (double)md_number_from_fp16(v.u16);
    case MD_DTYPE_BF16:
        return (double)md_number_from_bf16(v.u16);
    case MD_DTYPE_FP32:
        return (double)v.f32;
    default:
        return v.f64;
    }
}

/* Appends one class as an element of a BYTES tensor. */
static void append_class(const struct md_tensor *tensor, size_t at, size_t index,
                         const struct md_tensor_spec *spec, struct md_bytes *out)
{
    char text[512];
    bool is_float = tensor->dtype >= MD_DTYPE_FP16 && tensor->dtype != MD_DTYPE_BYTES;
    int len = is_float ? snprintf(text, sizeof text, "%f:%zu", element(tensor, at), index)
                       : snprintf(text, sizeof text, "%.0f:%zu", element(tensor, at), index);
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
    double x = element(tensor, first + a), y = element(tensor, first + b);

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
        return md_error_set(
            err, MD_REASON_INVALID_ARGUMENT,
            "class result not available for output '%s' due to unsupported type '%s'",
            tensor->name.ptr, md_dtype_name(tensor->dtype));
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

/* --- head -------------------- */

static void begin_document(struct md_oip_infer *infer)
{
    struct md_bytes *head = &infer->head;
    const struct md_target *target = infer->request.target;

    md_bytes_append_char(head, '{');
    if (infer->request.id.len) {
        md_bytes_append_str(head, MD_STR("\"id\":"));
        md_json_append_string(head, infer->request.id);
        md_bytes_append_char(head, ',');
    }
    md_bytes_append_str(head, MD_STR("\"model_name\":"));
    md_json_append_string(head, target->model_name);
    md_bytes_append_str(head, MD_STR(",\"model_version\":\""));
    md_bytes_append_str(head, target->version_text);
    md_bytes_append_char(head, '"');
    md_bytes_append_str(head, MD_STR(",\"outputs\":["));
}

static void begin_output(struct md_oip_infer *infer, const struct md_tensor *tensor)
{
    struct md_bytes *head = &infer->head;

    if (infer->output_at) {
        md_bytes_append_char(head, ',');
    }
    md_bytes_append_str(head, MD_STR("{\"name\":"));
    md_json_append_string(head, tensor->name);
    md_bytes_append_str(head, MD_STR(",\"datatype\":\""));
    md_bytes_append_c(head, md_dtype_name(tensor->dtype));
    md_bytes_append_str(head, MD_STR("\",\"shape\":"));
    md_shape_print(tensor->shape, tensor->rank, head);
    if (is_binary(infer, tensor->name)) {
        md_bytes_append_str(head, MD_STR(",\"parameters\":{\"binary_data_size\":"));
        md_bytes_append_u64(head, tensor->bytes);
        md_bytes_append_str(head, MD_STR("}}"));
    } else {
        md_bytes_append_str(head, MD_STR(",\"data\":["));
        md_tensor_writer_init(&infer->writer, tensor->dtype, tensor->data, tensor->bytes);
        infer->writes = true;
    }
}

/* --- answer -------------------- */

static void answer(struct md_oip_infer *infer)
{
    struct md_arena *arena = &infer->x->arena;
    const struct md_response *response = infer->response;
    struct iovec *parts = md_arena_alloc(arena, (response->output_count + 1) * sizeof *parts);
    struct md_http_header *header = md_arena_alloc(arena, sizeof *header);
    size_t count = 1, binary = 0;

    if (infer->head.failed || !parts || !header) {
        md_oip_reply_sentence(infer->x, 503, "out of memory: the response");
        return;
    }
    parts[0] = (struct iovec){infer->head.data, infer->head.len};
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
        char *length = md_arena_printf(arena, "%zu", infer->head.len);
        *header = (struct md_http_header){MD_STR("Inference-Header-Content-Length"),
                                          md_str_of(length ? length : "0")};
        answer.content_type = "application/octet-stream";
        answer.headers = header;
        answer.header_count = 1;
    }
    md_exchange_respond(infer->x, &answer);
}

/* Large answers count against the bound on bytes in flight, as they grow. */
static bool count_head(struct md_oip_infer *infer)
{
    size_t bytes = infer->head.len;

    if (bytes <= MD_OIP_SLICE_BYTES) {
        return true;
    }
    if (!md_pool_charge(md_loop_pool(infer->x->loop), bytes - infer->head_counted_bytes)) {
        return false;
    }
    infer->head_counted_bytes = bytes;
    return true;
}

void md_oip_encode_step(struct md_oip_infer *infer)
{
    const struct md_response *response = infer->response;

    while (infer->output_at < response->output_count) {
        if (!infer->writes) {
            begin_output(infer, &response->outputs[infer->output_at]);
        }
        if (infer->writes) {
            enum md_progress progress =
                md_tensor_writer_step(&infer->writer, &infer->head, MD_OIP_SLICE_BYTES);
            if (!count_head(infer)) {
                struct md_error err;
                (void)md_error_set(&err, MD_REASON_INFLIGHT_BYTES,
                                   "too many bytes are in flight for the answer: try again");
                md_oip_reply_error(infer->x, &err);
                return;
            }
            if (progress == MD_PROGRESS_AGAIN) {
                md_loop_defer(infer->x->loop, &infer->task);
                return;
            }
            md_bytes_append_str(&infer->head, MD_STR("]}"));
            infer->writes = false;
        }
        infer->output_at++;
    }
    md_bytes_append_str(&infer->head, MD_STR("]}"));
    answer(infer);
}

void md_oip_encode_begin(struct md_oip_infer *infer, const struct md_response *response)
{
    infer->response = response;
    infer->phase = MD_OIP_ENCODE;
    infer->output_at = 0;
    begin_document(infer);
}

/* --- responder -------------------- */

static void on_response(struct md_request *request, struct md_response *response)
{
    md_oip_encode_begin(request->dialect, response);
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
