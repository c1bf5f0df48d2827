/*
 * Tensors as JSON: numbers stream straight into (and out of) the tensor's memory, in slices.
 *
 * One owner, one thread. Reading takes the position of a struct md_json that stands before an array
 * and leaves it behind the array. The array is flat or nested, evenly or not: only the number of
 * elements must be right, as in the field. Floats accept NaN and Infinity; a finite number that
 * rounds to infinity is an error, as are integers that are out of range or have a fraction (errors
 * name the element's index, the type and the value). FP16 and BF16 are decimals like the others,
 * rounded once to nearest even and printed as the shortest decimal that reads back equal. BOOL is
 * true and false. BYTES are strings.
 */
#ifndef MD_CODEC_TENSOR_JSON_H
#define MD_CODEC_TENSOR_JSON_H

#include "base/dtype.h"
#include "base/progress.h"
#include "codec/json.h"

struct md_tensor_reader {
    enum md_dtype dtype;
    size_t element_count;     /* expected */
    char *data;               /* borrow: element_count * size bytes; NULL for BYTES */
    struct md_bytes *strings; /* borrow: for BYTES, grows (its max bounds it) */
    size_t read_count;
    uint32_t depth;
    bool after_value; /* ',' or ']' comes next */
    bool after_comma; /* a value or '[' must come next */
};

void md_tensor_reader_init(struct md_tensor_reader *reader, enum md_dtype dtype,
                           size_t element_count, char *data, struct md_bytes *strings);
/* Consumes about `budget` bytes (a single string is taken whole). DONE: the whole array was read
 * and has the right number of elements. ERROR: json->error says why: MALFORMED, and for BYTES also
 * TOO_LARGE or OUT_OF_MEMORY. */
enum md_progress md_tensor_reader_step(struct md_tensor_reader *reader, struct md_json *json,
                                       size_t budget) MD_MUST_CHECK;

enum {
    MD_TENSOR_WRITER_SLICE_MAX = 1 << 20, /* larger budgets count as this */
    MD_TENSOR_WRITER_SPARE = 64, /* bytes beyond the budget that one step may append or reserve */
};

struct md_tensor_writer {
    enum md_dtype dtype;
    const char *data; /* borrow */
    const char *end;
    struct md_str string; /* rest of the BYTES element that is being written */
    bool first;
    bool in_string;
};

void md_tensor_writer_init(struct md_tensor_writer *writer, enum md_dtype dtype, const char *data,
                           size_t bytes);
/* Appends elements, separated by commas and without brackets, until `budget` bytes were written,
 * and never more than MD_TENSOR_WRITER_SPARE bytes beyond it, whatever the elements: long strings
 * are cut. DONE: nothing is left. ERROR: out->failed, or else the data ends within an element.
 * BYTES elements that are no UTF-8 have their bad bytes replaced by U+FFFD. */
enum md_progress md_tensor_writer_step(struct md_tensor_writer *writer, struct md_bytes *out,
                                       size_t budget) MD_MUST_CHECK;

#endif
