/*
 * Reading the document of an inference request.
 *
 * The pull reader hands out tokens; `place` says in which part of the document they stand. Numbers
 * of `data` go straight into the tensor's memory.
 */
#include "api/oip/infer.h"

#include "api/oip/placing.h"

#include <stdarg.h>
#include <stdio.h>

enum { PLACE_BEGIN, PLACE_TOP, PLACE_INPUTS, PLACE_INPUT, PLACE_OUTPUTS, PLACE_OUTPUT, PLACE_END };

/* --- errors -------------------- */

bool md_oip_fail(struct md_oip_infer *infer, const char *format, ...)
{
    char text[512];
    va_list args;

    if (infer->json.failed) { /* a syntax error says more than what was missed for it */
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    infer->json.failed = true;
    return md_error_set(&infer->json.error, MD_REASON_INVALID_ARGUMENT, "%s", text);
}

static bool no_memory(struct md_oip_infer *infer)
{
    infer->json.failed = true;
    return md_error_no_memory(&infer->json.error, "the request");
}

/* --- memory -------------------- */

/* Passes on what a call with json.error has answered. */
static bool noted(struct md_oip_infer *infer, bool ok)
{
    infer->json.failed |= !ok;
    return ok;
}

char *md_oip_tensor_memory(struct md_oip_infer *infer, size_t bytes)
{
    char *data = md_oip_inference_memory(&infer->base, bytes, &infer->json.error);

    (void)noted(infer, data != NULL);
    return data;
}

/* Memory for all BYTES inputs of the document, one behind the other. An element takes four bytes
 * more than its text, and at least three more of the document: so they take at most 4/3 of it. The
 * memory is counted as it fills. */
static bool begin_strings(struct md_oip_infer *infer)
{
    size_t bytes = infer->json_bytes + infer->json_bytes / 3 + sizeof(uint32_t);
    char *data;

    if (infer->strings.data) {
        return true;
    }
    if (md_oip_inference_is_small(bytes)) {
        data = md_oip_tensor_memory(infer, bytes);
    } else {
        infer->string_block = md_oip_inference_block(
            &infer->base, bytes, md_size_min(bytes, MD_OIP_SLICE_BYTES), &infer->json.error);
        data = noted(infer, infer->string_block != NULL) ? infer->string_block->data : NULL;
    }
    infer->strings = (struct md_bytes){.data = data, .capacity = bytes, .max = bytes};
    return data != NULL;
}

/* Before a slice is read. */
static bool count_strings(struct md_oip_infer *infer)
{
    return !infer->string_block ||
           md_block_charge(
               infer->string_block,
               md_size_min(infer->strings.len + 2 * MD_OIP_SLICE_BYTES, infer->strings.capacity)) ||
           noted(infer, md_error_over_budget(&infer->json.error));
}

/* Room for one more item in an arena array that holds `max` at most. */
static bool grow(struct md_oip_infer *infer, void **items, size_t count, size_t max,
                 size_t *capacity, size_t size)
{
    if (count == max) {
        return md_oip_fail(infer, "a request has more than %zu inputs, outputs or parameters", max);
    }
    if (count < *capacity) {
        return true;
    }
    size_t larger = *capacity ? *capacity * 2 : 4;
    char *more = md_arena_calloc(&infer->base.x->arena, larger, size);
    if (!more) {
        return no_memory(infer);
    }
    if (count) {
        memcpy(more, *items, count * size);
    }
    *items = more;
    *capacity = larger;
    return true;
}

/* A copy with a zero byte behind it. */
static bool copy_text(struct md_oip_infer *infer, struct md_str *out)
{
    *out = md_arena_copy(&infer->base.x->arena, infer->json.text);
    return out->ptr || no_memory(infer);
}

/* A key may come once: which of two values counts is anybody's guess. */
static bool once(struct md_oip_infer *infer, unsigned *seen, enum md_oip_key key, const char *name)
{
    const unsigned bit = 1U << key;
    const bool twice = *seen & bit;

    *seen |= bit;
    return !twice || md_oip_fail(infer, "the key '%s' stands twice in one object", name);
}

/* --- parameters -------------------- */

/* Skips the rest of the array or object whose bracket was taken last. */
static bool leave_level(struct md_oip_infer *infer)
{
    const uint32_t depth = infer->json.depth;

    while (infer->json.depth >= depth) {
        if (md_json_next(&infer->json) == MD_JSON_ERROR) {
            return false;
        }
    }
    return true;
}

/* Reads the value of a parameter. */
static bool read_parameter_value(struct md_oip_infer *infer, struct md_parameter *out)
{
    const enum md_json_token token = md_json_next(&infer->json);

    switch (token) {
    case MD_JSON_TRUE:
    case MD_JSON_FALSE:
        out->kind = MD_PARAMETER_BOOL;
        out->value.boolean = token == MD_JSON_TRUE;
        return true;
    case MD_JSON_STRING:
        out->kind = MD_PARAMETER_STRING;
        return copy_text(infer, &out->value.string);
    case MD_JSON_NUMBER:
        out->kind = MD_PARAMETER_INT;
        if (md_json_to_i64(infer->json.text, &out->value.integer)) {
            return true;
        }
        out->kind = MD_PARAMETER_DOUBLE;
        return md_json_to_f64(infer->json.text, &out->value.number) ||
               md_oip_fail(infer, "a parameter is not a number");
    case MD_JSON_ARRAY_BEGIN:
    case MD_JSON_OBJECT_BEGIN:
        out->kind = MD_PARAMETER_NONE;
        return leave_level(infer);
    default:
        out->kind = MD_PARAMETER_NONE;
        return token == MD_JSON_NULL;
    }
}

typedef bool (*parameter_taker)(struct md_oip_infer *infer, const struct md_parameter *parameter);

/* Reads an object of parameters and hands out each; null is none. */
static bool read_parameters(struct md_oip_infer *infer, parameter_taker take)
{
    enum md_json_token token = md_json_next(&infer->json);

    if (token != MD_JSON_OBJECT_BEGIN) {
        return token == MD_JSON_NULL || md_oip_fail(infer, "'parameters' must be an object");
    }
    while ((token = md_json_next(&infer->json)) == MD_JSON_KEY) {
        struct md_parameter parameter;
        if (!copy_text(infer, &parameter.name) || !read_parameter_value(infer, &parameter) ||
            !take(infer, &parameter)) {
            return false;
        }
    }
    return token == MD_JSON_OBJECT_END;
}

static bool is_bool(const struct md_parameter *parameter)
{
    return parameter->kind == MD_PARAMETER_BOOL;
}

static bool is_natural(const struct md_parameter *parameter)
{
    return parameter->kind == MD_PARAMETER_INT && parameter->value.integer >= 0;
}

static bool is_sequence_id(const struct md_parameter *parameter)
{
    return parameter->kind == MD_PARAMETER_STRING || is_natural(parameter);
}

/* Parameters that mean something to a scheduler have a type. */
static bool check_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    static const struct {
        const char *name;
        bool (*fits)(const struct md_parameter *parameter);
        const char *what;
    } known[] = {
        {"sequence_id", is_sequence_id, "a natural number or a string"},
        {"sequence_start", is_bool, "a boolean"},
        {"sequence_end", is_bool, "a boolean"},
        {"priority", is_natural, "a natural number"},
        {"timeout", is_natural, "a natural number"},
        {"binary_data_output", is_bool, "a boolean"},
    };

    for (size_t i = 0; i < MD_COUNT_OF(known); i++) {
        if (md_str_eq_c(parameter->name, known[i].name)) {
            return known[i].fits(parameter) ||
                   md_oip_fail(infer, "Unable to parse '%s': it must be %s", known[i].name,
                               known[i].what);
        }
    }
    if (md_str_starts_with(parameter->name, MD_STR("triton_"))) {
        return md_oip_fail(infer,
                           "parameter keys starting with 'triton_' are reserved for Triton usage "
                           "and should not be specified.");
    }
    return parameter->kind != MD_PARAMETER_NONE ||
           md_oip_fail(
               infer,
               "parameter '%s' has invalid type. It should be either 'int', 'bool', or 'string'.",
               parameter->name.ptr);
}

static bool take_request_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    if (!check_parameter(infer, parameter)) {
        return false;
    }
    if (md_str_eq_c(parameter->name, "binary_data_output")) {
        infer->binary_output = parameter->value.boolean;
        return true;
    }
    if (!grow(infer, (void **)&infer->base.parameters, infer->base.parameter_count,
              MD_OIP_ITEMS_MAX, &infer->base.parameter_capacity, sizeof *infer->base.parameters)) {
        return false;
    }
    infer->base.parameters[infer->base.parameter_count++] = *parameter;
    return true;
}

/* True if it was one of those that place a tensor in shared memory, or is wrong. */
static bool take_place(struct md_oip_infer *infer, struct md_region_place *region,
                       const struct md_parameter *parameter)
{
    bool taken;

    (void)noted(infer, md_region_place_take(region, parameter, &taken, &infer->json.error));
    return taken;
}

static bool take_input_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];

    if (take_place(infer, &input->region, parameter)) {
        return !infer->json.failed;
    }
    if (md_str_eq_c(parameter->name, "binary_data_size")) {
        if (!is_natural(parameter)) {
            return md_oip_fail(infer, "'binary_data_size' must be a natural number");
        }
        input->has_binary_size = true;
        input->binary_size = (size_t)parameter->value.integer;
    }
    return true;
}

static bool take_output_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    struct md_oip_output *output = &infer->base.outputs[infer->base.output_count - 1];

    if (take_place(infer, &output->region, parameter)) {
        return !infer->json.failed;
    }
    if (md_str_eq_c(parameter->name, "binary_data")) {
        output->binary = is_bool(parameter) && parameter->value.boolean;
        return is_bool(parameter) || md_oip_fail(infer, "'binary_data' must be a boolean");
    }
    if (md_str_eq_c(parameter->name, "classification")) {
        output->class_count = is_natural(parameter) ? parameter->value.integer : 0;
        return is_natural(parameter) ||
               md_oip_fail(infer, "'classification' must be a natural number");
    }
    return true;
}

/* --- data -------------------- */

static bool begin_tensor(struct md_oip_infer *infer, struct md_oip_input *input)
{
    size_t elements, bytes;
    char *data = NULL;

    if (!md_shape_elements(input->tensor.shape, input->tensor.rank, &elements) ||
        !md_size_mul(elements, md_size_max(md_dtype_size(input->tensor.dtype), 1), &bytes)) {
        return md_oip_fail(infer, "input '%s' has a shape with too many elements",
                           input->tensor.name.ptr ? input->tensor.name.ptr : "");
    }
    /* An element takes a byte of JSON at least: a shape beyond the body is wrong before memory is
     * taken for it. */
    if (elements > infer->json_bytes) {
        return md_oip_fail(infer,
                           "the data of input '%s' has fewer than the %zu elements of its shape",
                           input->tensor.name.ptr ? input->tensor.name.ptr : "", elements);
    }
    if (input->tensor.dtype == MD_DTYPE_BYTES) {
        if (!begin_strings(infer)) {
            return false;
        }
        input->tensor.data = infer->strings.data + infer->strings.len;
    } else {
        data = md_oip_tensor_memory(infer, bytes);
        if (!data) {
            return false;
        }
        input->tensor.data = data;
        input->tensor.bytes = bytes;
    }
    md_tensor_reader_init(&infer->reader, input->tensor.dtype, elements, data, &infer->strings);
    infer->phase = MD_OIP_DECODE_TENSOR;
    return true;
}

static void end_tensor(struct md_oip_infer *infer)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];

    infer->phase = MD_OIP_DECODE_JSON;
    if (input->tensor.dtype == MD_DTYPE_BYTES) {
        input->tensor.bytes =
            (size_t)(infer->strings.data + infer->strings.len - input->tensor.data);
    }
}

/* --- inputs -------------------- */

static bool read_shape(struct md_oip_infer *infer, struct md_oip_input *input)
{
    int64_t shape[MD_TENSOR_RANK_MAX];
    uint32_t rank = 0;
    enum md_json_token token;

    if (md_json_next(&infer->json) != MD_JSON_ARRAY_BEGIN) {
        return md_oip_fail(infer, "'shape' must be an array");
    }
    while ((token = md_json_next(&infer->json)) == MD_JSON_NUMBER) {
        if (rank == MD_TENSOR_RANK_MAX) {
            return md_oip_fail(infer, "a shape has more than %d dimensions", MD_TENSOR_RANK_MAX);
        }
        if (!md_json_to_i64(infer->json.text, &shape[rank])) {
            return md_oip_fail(infer, "a dimension of a shape is not an integer");
        }
        if (shape[rank++] < 0) {
            return md_oip_fail(infer, "a dimension of a shape is negative");
        }
    }
    if (token != MD_JSON_ARRAY_END) {
        return md_oip_fail(infer, "'shape' must hold integers");
    }
    int64_t *copy = md_arena_alloc(&infer->base.x->arena, rank * sizeof *copy);
    if (!copy) {
        return no_memory(infer);
    }
    memcpy(copy, shape, rank * sizeof *copy);
    input->tensor.shape = copy;
    input->tensor.rank = rank;
    input->has_shape = true;
    return true;
}

static bool read_dtype(struct md_oip_infer *infer, struct md_oip_input *input)
{
    if (md_json_next(&infer->json) != MD_JSON_STRING) {
        return md_oip_fail(infer, "'datatype' must be a string");
    }
    input->tensor.dtype = md_dtype_from_name(infer->json.text);
    input->has_dtype = true;
    return input->tensor.dtype != MD_DTYPE_INVALID ||
           md_oip_fail(infer, "invalid datatype for input %s",
                       input->tensor.name.ptr ? input->tensor.name.ptr : "");
}

static bool read_data(struct md_oip_infer *infer, struct md_oip_input *input)
{
    input->has_data = true;
    if (!input->has_dtype || !input->has_shape) {
        (void)md_json_peek(&infer->json); /* takes the colon */
        input->data_at = infer->json.at;
        return md_json_skip(&infer->json);
    }
    infer->reads_late = false;
    return begin_tensor(infer, input);
}

static bool begin_input(struct md_oip_infer *infer)
{
    if (!grow(infer, (void **)&infer->inputs, infer->input_count,
              md_size_max(infer->base.request.target->input_count, MD_OIP_ITEMS_MAX),
              &infer->input_capacity, sizeof *infer->inputs)) {
        return false;
    }
    infer->input_count++;
    infer->place = PLACE_INPUT;
    return true;
}

static bool fail_sources(struct md_oip_infer *infer, const struct md_oip_input *input)
{
    const bool has_region = input->region.region.ptr;
    const bool has_any = input->has_data || input->has_binary_size || has_region;

    return md_oip_fail(
        infer,
        "Input must set only one of the following fields: 'data', 'binary_data_size' in "
        "'parameters', 'shared_memory_region' in 'parameters'. But %s%s%s%s",
        has_any ? "set" : "no field is set", input->has_data ? " 'data'" : "",
        input->has_binary_size ? " 'binary_data_size'" : "",
        has_region ? " 'shared_memory_region'" : "");
}

static bool end_input(struct md_oip_infer *infer)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];
    const char *name = input->has_name ? input->tensor.name.ptr : "";

    infer->place = PLACE_INPUTS;
    if (!input->has_name || !input->has_dtype || !input->has_shape) {
        return md_oip_fail(infer, "an input '%s' lacks its %s", name,
                           !input->has_name    ? "'name'"
                           : !input->has_dtype ? "'datatype'"
                                               : "'shape'");
    }
    if (input->has_data + input->has_binary_size + (input->region.region.ptr != NULL) != 1) {
        return fail_sources(infer, input);
    }
    if (input->region.region.ptr) {
        return noted(infer, md_oip_place_input(&infer->base, &input->region, &input->tensor,
                                               &infer->json.error));
    }
    if (input->data_at) {
        infer->reads_late = true;
        infer->tensor_json = infer->json;
        md_json_init(&infer->tensor_json,
                     md_str_make(input->data_at, (size_t)(infer->json.end - input->data_at)),
                     &infer->base.x->arena, infer->json.max_depth);
        input->data_at = NULL;
        return begin_tensor(infer, input);
    }
    return true;
}

static bool input_field(struct md_oip_infer *infer)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];
    struct md_str key = infer->json.text;

    if (md_str_eq_c(key, "name")) {
        input->has_name = true;
        return once(infer, &input->keys, MD_OIP_KEY_NAME, "name") &&
               (md_json_next(&infer->json) == MD_JSON_STRING ||
                md_oip_fail(infer, "the 'name' of an input must be a string")) &&
               copy_text(infer, &input->tensor.name);
    }
    if (md_str_eq_c(key, "datatype")) {
        return once(infer, &input->keys, MD_OIP_KEY_DATATYPE, "datatype") &&
               read_dtype(infer, input);
    }
    if (md_str_eq_c(key, "shape")) {
        return once(infer, &input->keys, MD_OIP_KEY_SHAPE, "shape") && read_shape(infer, input);
    }
    if (md_str_eq_c(key, "data")) {
        return once(infer, &input->keys, MD_OIP_KEY_DATA, "data") && read_data(infer, input);
    }
    if (md_str_eq_c(key, "parameters")) {
        return once(infer, &input->keys, MD_OIP_KEY_PARAMETERS, "parameters") &&
               read_parameters(infer, take_input_parameter);
    }
    return md_json_skip(&infer->json);
}

/* --- outputs -------------------- */

static bool begin_output(struct md_oip_infer *infer)
{
    if (!grow(infer, (void **)&infer->base.outputs, infer->base.output_count,
              md_size_max(infer->base.request.target->output_count, MD_OIP_ITEMS_MAX),
              &infer->base.output_capacity, sizeof *infer->base.outputs)) {
        return false;
    }
    infer->base.output_count++;
    infer->place = PLACE_OUTPUT;
    return true;
}

static bool end_output(struct md_oip_infer *infer)
{
    struct md_oip_output *output = &infer->base.outputs[infer->base.output_count - 1];

    infer->place = PLACE_OUTPUTS;
    if (!output->name.ptr) {
        return md_oip_fail(infer, "an output lacks its 'name'");
    }
    for (size_t i = 0; i + 1 < infer->base.output_count; i++) {
        if (md_str_eq(infer->base.outputs[i].name, output->name)) {
            return md_oip_fail(infer, "output '%s' already exists in request", output->name.ptr);
        }
    }
    return noted(infer, md_oip_place_output(&infer->base, output, &infer->json.error));
}

static bool output_field(struct md_oip_infer *infer)
{
    struct md_oip_output *output = &infer->base.outputs[infer->base.output_count - 1];
    struct md_str key = infer->json.text;

    if (md_str_eq_c(key, "name")) {
        return once(infer, &output->keys, MD_OIP_KEY_NAME, "name") &&
               (md_json_next(&infer->json) == MD_JSON_STRING ||
                md_oip_fail(infer, "the 'name' of an output must be a string")) &&
               copy_text(infer, &output->name);
    }
    if (md_str_eq_c(key, "parameters")) {
        return once(infer, &output->keys, MD_OIP_KEY_PARAMETERS, "parameters") &&
               read_parameters(infer, take_output_parameter);
    }
    return md_json_skip(&infer->json);
}

/* --- the document -------------------- */

static bool top_field(struct md_oip_infer *infer)
{
    struct md_str key = infer->json.text;

    if (md_str_eq_c(key, "inputs") || md_str_eq_c(key, "outputs")) {
        bool inputs = key.ptr[0] == 'i';
        const char *name = inputs ? "inputs" : "outputs";
        infer->place = inputs ? PLACE_INPUTS : PLACE_OUTPUTS;
        return once(infer, &infer->keys, inputs ? MD_OIP_KEY_INPUTS : MD_OIP_KEY_OUTPUTS, name) &&
               (md_json_next(&infer->json) == MD_JSON_ARRAY_BEGIN ||
                md_oip_fail(infer, "'%s' must be an array", name));
    }
    if (md_str_eq_c(key, "id")) {
        return once(infer, &infer->keys, MD_OIP_KEY_ID, "id") &&
               (md_json_next(&infer->json) == MD_JSON_STRING ||
                md_oip_fail(infer, "'id' must be a string")) &&
               copy_text(infer, &infer->base.request.id);
    }
    if (md_str_eq_c(key, "parameters")) {
        return once(infer, &infer->keys, MD_OIP_KEY_PARAMETERS, "parameters") &&
               read_parameters(infer, take_request_parameter);
    }
    return md_json_skip(&infer->json);
}

/* One token, or one field. */
static bool decode_step(struct md_oip_infer *infer)
{
    enum md_json_token token = md_json_next(&infer->json);

    if (token == MD_JSON_ERROR) {
        return false;
    }
    switch (infer->place) {
    case PLACE_BEGIN:
        infer->place = PLACE_TOP;
        return token == MD_JSON_OBJECT_BEGIN ||
               md_oip_fail(infer, "the request must be a JSON object");
    case PLACE_TOP:
        if (token == MD_JSON_KEY) {
            return top_field(infer);
        }
        infer->place = PLACE_END;
        return md_json_next(&infer->json) == MD_JSON_END;
    case PLACE_INPUTS:
    case PLACE_OUTPUTS:
        if (token == MD_JSON_ARRAY_END) {
            infer->place = PLACE_TOP;
            return true;
        }
        if (token != MD_JSON_OBJECT_BEGIN) {
            return md_oip_fail(infer, "'%s' must hold objects",
                               infer->place == PLACE_INPUTS ? "inputs" : "outputs");
        }
        return infer->place == PLACE_INPUTS ? begin_input(infer) : begin_output(infer);
    case PLACE_INPUT:
        return token == MD_JSON_KEY ? input_field(infer) : end_input(infer);
    default:
        return token == MD_JSON_KEY ? output_field(infer) : end_output(infer);
    }
}

/* --- slices -------------------- */

/* A slice of the data that the reader stands in. */
static enum md_progress read_data_slice(struct md_oip_infer *infer)
{
    struct md_json *json = infer->reads_late ? &infer->tensor_json : &infer->json;
    enum md_progress progress = MD_PROGRESS_ERROR;

    if (count_strings(infer)) {
        progress = md_tensor_reader_step(&infer->reader, json, MD_OIP_SLICE_BYTES);
    }
    if (progress == MD_PROGRESS_ERROR && json->failed && json != &infer->json) {
        infer->json.failed = true;
        infer->json.error = json->error;
    }
    return progress;
}

enum md_progress md_oip_read_step(struct md_oip_infer *infer)
{
    const char *begin = infer->json.at;

    while (infer->place != PLACE_END) {
        if (infer->phase == MD_OIP_DECODE_TENSOR) {
            enum md_progress progress = read_data_slice(infer);
            if (progress != MD_PROGRESS_DONE) {
                return progress;
            }
            end_tensor(infer);
        } else if (!decode_step(infer)) {
            return MD_PROGRESS_ERROR;
        }
        if (infer->json.at - begin > MD_OIP_SLICE_BYTES && infer->place != PLACE_END) {
            return MD_PROGRESS_AGAIN;
        }
    }
    return MD_PROGRESS_DONE;
}
