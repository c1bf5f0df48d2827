/*
 * The k best of a row are kept in a heap with the worst on top, so the cost is n log k.
 *
 * A row goes through the stages below; each can be left and entered again at any element.
 */
#include "api/oip/classes.h"

#include "codec/number.h"

#include <math.h>
#include <stdio.h>

enum stage { STAGE_FILL, STAGE_HEAP, STAGE_SCAN, STAGE_SORT, STAGE_PRINT };

/* What one element costs in each stage, and what a slice may: less than a millisecond. */
static const unsigned cost[] = {
    [STAGE_FILL] = 1, [STAGE_HEAP] = 8, [STAGE_SCAN] = 2, [STAGE_SORT] = 16, [STAGE_PRINT] = 32,
};
enum { SLICE_COST = 64 * 1024 };

enum {
    VALUE_TEXT_MAX = 512,  /* "value:index", and its length */
    USUAL_CLASS_BYTES = 24 /* of one class */
};

struct md_oip_classes {
    struct md_pool *pool;              /* borrow */
    struct md_tensor *tensor;          /* borrow */
    const struct md_tensor_spec *spec; /* borrow; NULL: no labels */
    size_t rows, row_elements, k;
    int64_t shape[2]; /* of the result */
    uint32_t rank;
    /* where it stands */
    enum stage stage;
    size_t row, at;
    struct md_block *heap; /* own: k indexes */
    struct md_block *text; /* own: the result */
    size_t text_bytes;
};

/* --- elements -------------------- */

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

/* Order of classes: the larger value first, of equal ones the lower index; NaN comes last. */
static bool is_better(const struct md_tensor *tensor, size_t first, size_t a, size_t b)
{
    if (!md_dtype_is_float(tensor->dtype)) {
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

/* --- the heap of one row -------------------- */

static size_t *heap_of(const struct md_oip_classes *classes)
{
    return (size_t *)(void *)classes->heap->data;
}

/* Restores the heap (worst on top) below `at`. */
static void sink(const struct md_oip_classes *classes, size_t count, size_t at)
{
    const struct md_tensor *tensor = classes->tensor;
    const size_t first = classes->row * classes->row_elements;
    size_t *heap = heap_of(classes);

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

static void swap_first(const struct md_oip_classes *classes, size_t at)
{
    size_t *heap = heap_of(classes), first = heap[0];

    heap[0] = heap[at];
    heap[at] = first;
}

/* --- the result -------------------- */

/* Where `bytes` can be appended; NULL when too much is in flight. */
static char *room(struct md_oip_classes *classes, size_t bytes)
{
    const size_t need = classes->text_bytes + bytes;
    struct md_block *text = classes->text;
    bool over_budget;

    if (need > text->capacity) {
        text = md_pool_alloc_lazy(classes->pool, md_size_max(need, 2 * text->capacity), 1,
                                  &over_budget);
        if (!text) {
            return NULL;
        }
        if (md_block_charge(text, need)) {
            memcpy(text->data, classes->text->data, classes->text_bytes);
        }
        md_block_unref(classes->text);
        classes->text = text;
    }
    return md_block_charge(text, need) ? text->data + classes->text_bytes : NULL;
}

/* "value:index[:label]" behind its length. */
static bool print_class(struct md_oip_classes *classes, size_t index)
{
    const struct md_tensor *tensor = classes->tensor;
    const struct md_tensor_spec *spec = classes->spec;
    const size_t at = classes->row * classes->row_elements + index;
    struct md_str label =
        spec && index < spec->class_label_count ? spec->class_labels[index] : MD_STR("");
    char *out = room(classes, VALUE_TEXT_MAX + 1 + label.len);
    uint32_t bytes;
    int len;

    if (!out) {
        return false;
    }
    char *text = out + sizeof bytes;
    const size_t max = VALUE_TEXT_MAX - sizeof bytes;
    if (md_dtype_is_float(tensor->dtype)) {
        len = snprintf(text, max, "%f:%zu", float_element(tensor, at), index);
    } else if (is_signed(tensor->dtype)) {
        len = snprintf(text, max, "%lld:%zu", (long long)integer_element(tensor, at), index);
    } else {
        len =
            snprintf(text, max, "%llu:%zu", (unsigned long long)integer_element(tensor, at), index);
    }
    bytes = (uint32_t)len;
    if (label.len) {
        text[bytes++] = ':';
        memcpy(text + bytes, label.ptr, label.len);
        bytes += (uint32_t)label.len;
    }
    memcpy(out, &bytes, sizeof bytes);
    classes->text_bytes += sizeof bytes + bytes;
    return true;
}

/* --- stages -------------------- */

static void enter(struct md_oip_classes *classes, enum stage stage, size_t at)
{
    classes->stage = stage;
    classes->at = at;
}

/* One element of the current stage; false when too much is in flight. */
static bool step(struct md_oip_classes *classes)
{
    const struct md_tensor *tensor = classes->tensor;
    const size_t first = classes->row * classes->row_elements, k = classes->k;
    size_t *heap = heap_of(classes);

    switch (classes->stage) {
    case STAGE_FILL:
        if (classes->at == k) {
            enter(classes, STAGE_HEAP, k / 2);
        } else {
            heap[classes->at] = classes->at;
            classes->at++;
        }
        return true;
    case STAGE_HEAP:
        if (classes->at == 0) {
            enter(classes, STAGE_SCAN, k);
        } else {
            sink(classes, k, --classes->at);
        }
        return true;
    case STAGE_SCAN:
        if (k == 0 || classes->at == classes->row_elements) {
            enter(classes, STAGE_SORT, k);
        } else {
            if (is_better(tensor, first, classes->at, heap[0])) {
                heap[0] = classes->at;
                sink(classes, k, 0);
            }
            classes->at++;
        }
        return true;
    case STAGE_SORT:
        if (classes->at < 2) {
            enter(classes, STAGE_PRINT, 0);
        } else {
            swap_first(classes, --classes->at);
            sink(classes, classes->at, 0);
        }
        return true;
    default:
        if (classes->at < k) {
            return print_class(classes, heap[classes->at++]);
        }
        enter(classes, STAGE_FILL, 0);
        classes->row++;
        return true;
    }
}

static void finish(struct md_oip_classes *classes)
{
    struct md_tensor *tensor = classes->tensor;

    md_block_unref(classes->heap);
    classes->heap = NULL;
    tensor->dtype = MD_DTYPE_BYTES;
    tensor->rank = classes->rank;
    tensor->shape = classes->shape;
    tensor->data = classes->text->data;
    tensor->bytes = classes->text_bytes;
}

static enum md_progress run_slice(struct md_oip_classes *classes)
{
    for (size_t spent = 0; classes->row < classes->rows; spent += cost[classes->stage]) {
        if (spent >= SLICE_COST) {
            return MD_PROGRESS_AGAIN;
        }
        if (!step(classes)) {
            return MD_PROGRESS_ERROR;
        }
    }
    finish(classes);
    return MD_PROGRESS_DONE;
}

/* --- begin -------------------- */

static void release(void *arg)
{
    struct md_oip_classes *classes = arg;

    md_block_unref(classes->heap);
    md_block_unref(classes->text);
}

static bool take_memory(struct md_oip_classes *classes, struct md_error *err)
{
    const size_t usual = classes->rows * classes->k * USUAL_CLASS_BYTES + VALUE_TEXT_MAX;
    bool over_budget;

    classes->heap = md_pool_alloc(classes->pool, classes->k * sizeof(size_t), &over_budget);
    classes->text = md_pool_alloc_lazy(classes->pool, usual, 1, &over_budget);
    return (classes->heap && classes->text) || md_error_over_budget(err);
}

static struct md_oip_classes *begin(struct md_oip_inference *inference, struct md_tensor *tensor,
                                    int64_t count, struct md_error *err)
{
    const bool batched = inference->request.target->max_batch_size > 0 && tensor->rank > 0;
    const size_t rows = batched ? (size_t)tensor->shape[0] : 1;
    size_t elements;

    if (tensor->dtype == MD_DTYPE_BYTES ||
        !md_shape_elements(tensor->shape, tensor->rank, &elements)) {
        md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                     "class result not available for output due to unsupported type '%s'",
                     md_dtype_name(tensor->dtype));
        return NULL;
    }
    struct md_oip_classes *classes = md_arena_calloc(inference->arena, 1, sizeof *classes);
    if (!classes || !md_arena_on_reset(inference->arena, release, classes)) {
        md_error_no_memory(err, "a classification");
        return NULL;
    }
    classes->pool = md_loop_pool(inference->loop);
    classes->tensor = tensor;
    classes->spec = md_target_find_output(inference->request.target, tensor->name);
    classes->rows = rows;
    classes->row_elements = rows ? elements / rows : 0;
    classes->k = md_size_min((size_t)count, classes->row_elements);
    classes->shape[0] = batched ? (int64_t)rows : (int64_t)classes->k;
    classes->shape[1] = (int64_t)classes->k;
    classes->rank = batched ? 2 : 1;
    return take_memory(classes, err) ? classes : NULL;
}

enum md_progress md_oip_classify(struct md_oip_inference *inference, struct md_tensor *tensor,
                                 struct md_oip_classes **classes, struct md_error *err)
{
    const struct md_oip_output *output = md_oip_inference_output(inference, tensor->name);

    if (!output || !output->class_count) {
        return MD_PROGRESS_DONE;
    }
    if (!*classes) {
        *classes = begin(inference, tensor, output->class_count, err);
        if (!*classes) {
            return MD_PROGRESS_ERROR;
        }
    }
    enum md_progress progress = run_slice(*classes);
    if (progress == MD_PROGRESS_ERROR) {
        (void)md_error_over_budget(err);
    } else if (progress == MD_PROGRESS_DONE) {
        *classes = NULL;
    }
    return progress;
}
