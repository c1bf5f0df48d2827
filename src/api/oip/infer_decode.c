/*
 * Decoding of inference requests.
 *
 * The document is read with the pull reader; `place` says in which part of it the reader stands.
 * Numbers of `data` go straight into the tensor's memory. After a slice the work yields to the
 * loop's other connections.
 */
#include "api/oip/infer.h"

#include "api/oip/reply.h"
#include "infer/statistics.h"

#include <stdarg.h>
#include <stdio.h>

enum { PLACE_BEGIN, PLACE_TOP, PLACE_INPUTS, PLACE_INPUT, PLACE_OUTPUTS, PLACE_OUTPUT, PLACE_END };
enum { SMALL_TENSOR_BYTES = 1024, TENSOR_ALIGNMENT = 64 };

/* --- errors -------------------- */

static void drop_target(void *arg)
{
    struct md_oip_infer *infer = arg;

    md_target_unref(&infer->version->target, md_loop_index(infer->x->loop));
    md_bytes_deinit(&infer->strings);
    md_bytes_deinit(&infer->head);
    md_pool_discharge(md_loop_pool(infer->x->loop), infer->head_counted_bytes);
}

static void refuse(struct md_oip_infer *infer, const struct md_error *err)
{
    md_statistics_record_refusal(&infer->version->target, md_loop_index(infer->x->loop),
                                 err->reason, md_loop_now_ns(infer->x->loop) - infer->x->begin_ns);
    md_oip_reply_error(infer->x, err);
}

static bool fail(struct md_oip_infer *infer, const char *format, ...) MD_PRINTF(2, 3);

static bool fail(struct md_oip_infer *infer, const char *format, ...)
{
    char text[512];
    va_list args;

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

static void release_block(void *arg)
{
    md_block_unref(arg);
}

/* Memory of a tensor: small from the arena, large from the loop's pool, returned with the arena. */
static char *tensor_memory(struct md_oip_infer *infer, size_t bytes)
{
    struct md_exchange *x = infer->x;
    bool over_budget;

    if (bytes <= SMALL_TENSOR_BYTES) {
        char *data = md_arena_alloc(&x->arena, bytes + TENSOR_ALIGNMENT);
        if (!data) {
            (void)no_memory(infer);
            return NULL;
        }
        return (char *)md_size_align((uintptr_t)data, TENSOR_ALIGNMENT);
    }
    struct md_block *block = md_pool_alloc(md_loop_pool(x->loop), bytes, &over_budget);
    if (!block || !md_arena_on_reset(&x->arena, release_block, block)) {
        md_block_unref(block);
        infer->json.failed = true;
        (void)md_error_set(&infer->json.error, MD_REASON_INFLIGHT_BYTES,
                           "too many bytes are in flight: try again");
        return NULL;
    }
    return block->data;
}

/* Room for one more item in an arena array. */
static bool grow(struct md_oip_infer *infer, void **items, size_t count, size_t *capacity,
                 size_t size)
{
    if (count < *capacity) {
        return true;
    }
    size_t larger = *capacity ? *capacity * 2 : 4;
    char *more = md_arena_calloc(&infer->x->arena, larger, size);
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
    *out = md_arena_copy(&infer->x->arena, infer->json.text);
    return out->ptr || no_memory(infer);
}

/* --- parameters -------------------- */

/* Reads the value of a parameter; token is its first. */
static bool read_parameter_value(struct md_oip_infer *infer, enum md_json_token token,
                                 struct md_parameter *out)
{
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
               fail(infer, "a parameter is not a number");
    case MD_JSON_ERROR:
        return false;
    default:
        return fail(infer,
                    "parameter '%s' has an unsupported type, must be string, number or boolean",
                    out->name.ptr);
    }
}

typedef bool (*parameter_taker)(struct md_oip_infer *infer, const struct md_parameter *parameter);

/* Reads an object of parameters and hands out each. */
static bool read_parameters(struct md_oip_infer *infer, parameter_taker take)
{
    enum md_json_token token;

    if (md_json_next(&infer->json) != MD_JSON_OBJECT_BEGIN) {
        return fail(infer, "'parameters' must be an object");
    }
    while ((token = md_json_next(&infer->json)) == MD_JSON_KEY) {
        struct md_parameter parameter;
        if (!copy_text(infer, &parameter.name) ||
            !read_parameter_value(infer, md_json_next(&infer->json), &parameter) ||
            !take(infer, &parameter)) {
            return false;
        }
    }
    return token == MD_JSON_OBJECT_END;
}

static bool take_request_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    if (md_str_eq_c(parameter->name, "binary_data_output")) {
        infer->binary_output = parameter->kind == MD_PARAMETER_BOOL && parameter->value.boolean;
        return parameter->kind == MD_PARAMETER_BOOL ||
               fail(infer, "'binary_data_output' must be a boolean");
    }
    if (md_str_starts_with(parameter->name, MD_STR("triton_"))) {
        return fail(
            infer,
            "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
            "starting with 'triton_' are allowed: ");
    }
    if (!grow(infer, (void **)&infer->parameters, infer->parameter_count,
              &infer->parameter_capacity, sizeof *infer->parameters)) {
        return false;
    }
    infer->parameters[infer->parameter_count++] = *parameter;
    return true;
}

static bool refuse_shared_memory(struct md_oip_infer *infer)
{
    infer->json.failed = true;
    return md_error_set(
        &infer->json.error, MD_REASON_UNSUPPORTED,
        "shared memory is not implemented yet; send the tensor as JSON or binary data");
}

static bool take_input_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];

    if (md_str_eq_c(parameter->name, "shared_memory_region")) {
        return refuse_shared_memory(infer);
    }
    if (md_str_eq_c(parameter->name, "binary_data_size")) {
        if (parameter->kind != MD_PARAMETER_INT || parameter->value.integer < 0) {
            return fail(infer, "'binary_data_size' must be a natural number");
        }
        input->has_binary_size = true;
        input->binary_size = (size_t)parameter->value.integer;
    }
    return true;
}

static bool take_output_parameter(struct md_oip_infer *infer, const struct md_parameter *parameter)
{
    struct md_oip_output *output = &infer->outputs[infer->output_count - 1];

    if (md_str_eq_c(parameter->name, "shared_memory_region")) {
        return refuse_shared_memory(infer);
    }
    if (md_str_eq_c(parameter->name, "binary_data")) {
        output->binary = parameter->kind == MD_PARAMETER_BOOL && parameter->value.boolean;
        return parameter->kind == MD_PARAMETER_BOOL ||
               fail(infer, "'binary_data' must be a boolean");
    }
    if (md_str_eq_c(parameter->name, "classification")) {
        output->class_count = parameter->kind == MD_PARAMETER_INT ? parameter->value.integer : 0;
        return output->class_count > 0 ||
               fail(infer, "'classification' must be a number greater than 0");
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
        return fail(infer, "input '%s' has a shape with too many elements",
                    input->tensor.name.ptr ? input->tensor.name.ptr : "");
    }
    /* An element takes a byte of JSON at least: a shape beyond the body is wrong before memory is
     * taken for it. */
    if (elements > infer->json_bytes) {
        return fail(infer, "the data of input '%s' has fewer than the %zu elements of its shape",
                    input->tensor.name.ptr ? input->tensor.name.ptr : "", elements);
    }
    if (input->tensor.dtype != MD_DTYPE_BYTES) {
        data = tensor_memory(infer, bytes);
        if (!data) {
            return false;
        }
    }
    input->tensor.data = data;
    input->tensor.bytes = input->tensor.dtype == MD_DTYPE_BYTES ? 0 : bytes;
    infer->strings.len = 0;
    infer->strings.max = infer->oip->options->http_max_input_size;
    md_tensor_reader_init(&infer->reader, input->tensor.dtype, elements, data, &infer->strings);
    infer->phase = MD_OIP_DECODE_TENSOR;
    return true;
}

static bool end_tensor(struct md_oip_infer *infer)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];

    infer->phase = MD_OIP_DECODE_JSON;
    if (input->tensor.dtype == MD_DTYPE_BYTES) {
        char *data = tensor_memory(infer, infer->strings.len);
        if (!data) {
            return false;
        }
        if (infer->strings.len) {
            memcpy(data, infer->strings.data, infer->strings.len);
        }
        input->tensor.data = data;
        input->tensor.bytes = infer->strings.len;
    }
    return true;
}

/* --- inputs -------------------- */

static bool read_shape(struct md_oip_infer *infer, struct md_oip_input *input)
{
    int64_t shape[MD_TENSOR_RANK_MAX];
    uint32_t rank = 0;
    enum md_json_token token;

    if (md_json_next(&infer->json) != MD_JSON_ARRAY_BEGIN) {
        return fail(infer, "'shape' must be an array");
    }
    while ((token = md_json_next(&infer->json)) == MD_JSON_NUMBER) {
        if (rank == MD_TENSOR_RANK_MAX) {
            return fail(infer, "a shape has more than %d dimensions", MD_TENSOR_RANK_MAX);
        }
        if (!md_json_to_i64(infer->json.text, &shape[rank])) {
            return fail(infer, "a dimension of a shape is not an integer");
        }
        if (shape[rank++] < 0) {
            return fail(infer, "a dimension of a shape is negative");
        }
    }
    if (token != MD_JSON_ARRAY_END) {
        return fail(infer, "'shape' must hold integers");
    }
    int64_t *copy = md_arena_alloc(&infer->x->arena, rank * sizeof *copy);
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
        return fail(infer, "'datatype' must be a string");
    }
    input->tensor.dtype = md_dtype_from_name(infer->json.text);
    input->has_dtype = true;
    return input->tensor.dtype != MD_DTYPE_INVALID ||
           fail(infer, "invalid datatype '%.*s' of an input", MD_STR_ARG(infer->json.text));
}

static bool read_data(struct md_oip_infer *infer, struct md_oip_input *input)
{
    if (input->has_data) {
        return fail(infer, "an input has 'data' twice");
    }
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
    if (!grow(infer, (void **)&infer->inputs, infer->input_count, &infer->input_capacity,
              sizeof *infer->inputs)) {
        return false;
    }
    infer->input_count++;
    infer->place = PLACE_INPUT;
    return true;
}

static bool end_input(struct md_oip_infer *infer)
{
    struct md_oip_input *input = &infer->inputs[infer->input_count - 1];
    const char *name = input->has_name ? input->tensor.name.ptr : "";

    infer->place = PLACE_INPUTS;
    if (!input->has_name || !input->has_dtype || !input->has_shape) {
        return fail(infer, "an input '%s' lacks its %s", name,
                    !input->has_name    ? "'name'"
                    : !input->has_dtype ? "'datatype'"
                                        : "'shape'");
    }
    if (input->has_data == input->has_binary_size) {
        return fail(
            infer,
            "must specify exactly one of 'data', 'binary_data_size' and 'shared_memory_region' for input '%s'",
            name);
    }
    if (input->data_at) {
        infer->reads_late = true;
        infer->tensor_json = infer->json;
        md_json_init(&infer->tensor_json,
                     md_str_make(input->data_at, (size_t)(infer->json.end - input->data_at)),
                     &infer->x->arena, infer->json.max_depth);
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
        return (md_json_next(&infer->json) == MD_JSON_STRING ||
                fail(infer, "the 'name' of an input must be a string")) &&
               copy_text(infer, &input->tensor.name);
    }
    if (md_str_eq_c(key, "datatype")) {
        return read_dtype(infer, input);
    }
    if (md_str_eq_c(key, "shape")) {
        return read_shape(infer, input);
    }
    if (md_str_eq_c(key, "data")) {
        return read_data(infer, input);
    }
    if (md_str_eq_c(key, "parameters")) {
        return read_parameters(infer, take_input_parameter);
    }
    return md_json_skip(&infer->json);
}

/* --- outputs -------------------- */

static bool begin_output(struct md_oip_infer *infer)
{
    if (!grow(infer, (void **)&infer->outputs, infer->output_count, &infer->output_capacity,
              sizeof *infer->outputs)) {
        return false;
    }
    infer->output_count++;
    infer->place = PLACE_OUTPUT;
    return true;
}

static bool end_output(struct md_oip_infer *infer)
{
    const struct md_oip_output *output = &infer->outputs[infer->output_count - 1];

    infer->place = PLACE_OUTPUTS;
    if (!output->name.ptr) {
        return fail(infer, "an output lacks its 'name'");
    }
    for (size_t i = 0; i + 1 < infer->output_count; i++) {
        if (md_str_eq(infer->outputs[i].name, output->name)) {
            return fail(infer, "output '%s' already exists in request", output->name.ptr);
        }
    }
    return true;
}

static bool output_field(struct md_oip_infer *infer)
{
    struct md_oip_output *output = &infer->outputs[infer->output_count - 1];
    struct md_str key = infer->json.text;

    if (md_str_eq_c(key, "name")) {
        return (md_json_next(&infer->json) == MD_JSON_STRING ||
                fail(infer, "the 'name' of an output must be a string")) &&
               copy_text(infer, &output->name);
    }
    if (md_str_eq_c(key, "parameters")) {
        return read_parameters(infer, take_output_parameter);
    }
    return md_json_skip(&infer->json);
}

/* --- the document -------------------- */

static bool top_field(struct md_oip_infer *infer)
{
    struct md_str key = infer->json.text;

    if (md_str_eq_c(key, "inputs") || md_str_eq_c(key, "outputs")) {
        bool inputs = key.ptr[0] == 'i';
        infer->place = inputs ? PLACE_INPUTS : PLACE_OUTPUTS;
        return md_json_next(&infer->json) == MD_JSON_ARRAY_BEGIN ||
               fail(infer, "'%s' must be an array", inputs ? "inputs" : "outputs");
    }
    if (md_str_eq_c(key, "id")) {
        return (md_json_next(&infer->json) == MD_JSON_STRING ||
                fail(infer, "'id' must be a string")) &&
               copy_text(infer, &infer->request.id);
    }
    if (md_str_eq_c(key, "parameters")) {
        return read_parameters(infer, take_request_parameter);
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
        return token == MD_JSON_OBJECT_BEGIN || fail(infer, "the request must be a JSON object");
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
            return fail(infer, "'%s' must hold objects",
                        infer->place == PLACE_INPUTS ? "inputs" : "outputs");
        }
        return infer->place == PLACE_INPUTS ? begin_input(infer) : begin_output(infer);
    case PLACE_INPUT:
        return token == MD_JSON_KEY ? input_field(infer) : end_input(infer);
    default:
        return token == MD_JSON_KEY ? output_field(infer) : end_output(infer);
    }
}

/* --- binary tensors and submit -------------------- */

static bool take_binary(struct md_oip_infer *infer)
{
    struct md_str rest =
        md_str_make(infer->x->body.ptr + infer->json_bytes, infer->x->body.len - infer->json_bytes);

    for (size_t i = 0; i < infer->input_count; i++) {
        struct md_oip_input *input = &infer->inputs[i];
        if (!input->has_binary_size) {
            continue;
        }
        if (input->binary_size > rest.len) {
            return fail(
                infer,
                "unexpected size for input '%s', expecting %zu additional bytes for model '%s'",
                input->tensor.name.ptr, input->binary_size - rest.len,
                infer->request.target->model_name.ptr);
        }
        input->tensor.data = rest.ptr;
        input->tensor.bytes = input->binary_size;
        rest = md_str_make(rest.ptr + input->binary_size, rest.len - input->binary_size);
    }
    return rest.len == 0 || fail(infer, "unexpected additional input data for model '%s'",
                                 infer->request.target->model_name.ptr);
}

static void submit(struct md_oip_infer *infer)
{
    struct md_request *request = &infer->request;
    struct md_arena *arena = &infer->x->arena;
    struct md_str *names = md_arena_alloc(arena, infer->output_count * sizeof *names);
    struct md_error *err = &request->error; /* not in use yet */

    request->inputs = md_arena_alloc(arena, infer->input_count * sizeof *request->inputs);
    if (!names || !request->inputs) {
        (void)md_error_no_memory(err, "the request");
        refuse(infer, err);
        return;
    }
    for (size_t i = 0; i < infer->input_count; i++) {
        request->inputs[i] = infer->inputs[i].tensor;
    }
    for (size_t i = 0; i < infer->output_count; i++) {
        names[i] = infer->outputs[i].name;
    }
    request->input_count = infer->input_count;
    request->outputs = names;
    request->output_count = infer->output_count;
    request->parameters = infer->parameters;
    request->parameter_count = infer->parameter_count;
    request->begin_ns = infer->x->begin_ns;
    if (!md_request_check_outputs(request, err)) {
        refuse(infer, err);
        return;
    }
    if (!md_request_check(request, err)) {
        (void)md_error_prefix(err, "[request id: %s]",
                              request->id.len ? request->id.ptr : "<id_unknown>");
        char *colon = strstr(err->text, "]: ");
        if (colon) {
            memmove(colon + 1, colon + 2,
                    strlen(colon + 2) + 1); /* the field writes a space alone */
        }
        refuse(infer, err);
        return;
    }
    infer->phase = MD_OIP_IN_FLIGHT;
    md_infer_submit(request);
}

/* --- slices -------------------- */

static void run_slice(struct md_loop_task *task);

static void yield(struct md_oip_infer *infer)
{
    md_loop_defer(infer->x->loop, &infer->task);
}

static void finish_decode(struct md_oip_infer *infer)
{
    if (!take_binary(infer)) {
        refuse(infer, &infer->json.error);
        return;
    }
    submit(infer);
}

static void decode(struct md_oip_infer *infer)
{
    const char *begin = infer->json.at;

    while (infer->place != PLACE_END) {
        if (infer->phase == MD_OIP_DECODE_TENSOR) {
            struct md_json *json = infer->reads_late ? &infer->tensor_json : &infer->json;
            enum md_progress progress =
                md_tensor_reader_step(&infer->reader, json, MD_OIP_SLICE_BYTES);
            if (progress == MD_PROGRESS_AGAIN) {
                yield(infer);
                return;
            }
            if (progress == MD_PROGRESS_ERROR || !end_tensor(infer)) {
                refuse(infer, json->failed ? &json->error : &infer->json.error);
                return;
            }
        } else if (!decode_step(infer)) {
            refuse(infer, &infer->json.error);
            return;
        }
        if (infer->json.at - begin > MD_OIP_SLICE_BYTES) {
            yield(infer);
            return;
        }
    }
    finish_decode(infer);
}

static void run_slice(struct md_loop_task *task)
{
    struct md_oip_infer *infer = MD_CONTAINER_OF(task, struct md_oip_infer, task);

    if (infer->cancelled) {
        md_oip_reply_empty(infer->x, 499);
    } else if (infer->phase == MD_OIP_ENCODE) {
        md_oip_encode_step(infer);
    } else {
        decode(infer);
    }
}

/* --- raw binary: the body is the only input -------------------- */

static void infer_raw(struct md_oip_infer *infer)
{
    const struct md_target *target = infer->request.target;
    struct md_str body = infer->x->body;
    const struct md_tensor_spec *spec = target->inputs;

    if (target->input_count != 1) {
        (void)fail(infer, "raw binary input needs a model with one input, model '%s' has %zu",
                   target->model_name.ptr, target->input_count);
        refuse(infer, &infer->json.error);
        return;
    }
    if (spec->rank == MD_RANK_ANY) {
        (void)fail(infer, "raw binary input needs an input with a shape, '%s' takes any",
                   spec->name.ptr);
        refuse(infer, &infer->json.error);
        return;
    }
    int64_t *shape = md_arena_alloc(&infer->x->arena, (spec->rank + 1) * sizeof *shape);
    size_t known = 1, variable = 0;
    for (uint32_t i = 0; shape && i < spec->rank; i++) {
        bool batch = i == 0 && target->max_batch_size > 0;
        shape[i] = batch ? 1 : spec->shape[i];
        variable += shape[i] < 0;
        known *= shape[i] < 0 ? 1 : (size_t)shape[i];
    }
    if (!shape ||
        !grow(infer, (void **)&infer->inputs, 0, &infer->input_capacity, sizeof *infer->inputs)) {
        (void)no_memory(infer);
    } else if (variable > 1) {
        (void)fail(infer, "raw binary input needs at most one variable dimension in input '%s'",
                   spec->name.ptr);
    } else if (spec->dtype == MD_DTYPE_BYTES) {
        char *data = tensor_memory(infer, body.len + 4);
        uint32_t len = (uint32_t)body.len;
        if (data) {
            memcpy(data, &len, 4);
            memcpy(data + 4, body.ptr, body.len);
            body = md_str_make(data, body.len + 4);
        }
        known = 1;
    } else {
        known *= md_dtype_size(spec->dtype);
    }
    if (infer->json.failed) {
        refuse(infer, &infer->json.error);
        return;
    }
    for (uint32_t i = 0; i < spec->rank; i++) {
        bool bytes = spec->dtype == MD_DTYPE_BYTES;
        shape[i] = shape[i] >= 0 ? shape[i] : bytes ? 1 : known ? (int64_t)(body.len / known) : 0;
    }
    infer->inputs[0].tensor = (struct md_tensor){.name = spec->name,
                                                 .dtype = spec->dtype,
                                                 .rank = spec->rank,
                                                 .shape = shape,
                                                 .data = body.ptr,
                                                 .bytes = body.len};
    infer->input_count = 1;
    infer->binary_output = true;
    submit(infer);
}

/* --- handler -------------------- */

static bool read_header_length(struct md_oip_infer *infer, struct md_error *err)
{
    struct md_exchange *x = infer->x;
    struct md_str text = md_exchange_header(x, "Inference-Header-Content-Length");
    uint64_t length;

    infer->json_bytes = SIZE_MAX;
    if (!text.ptr) {
        return true;
    }
    if (!md_str_to_u64(text, &length)) {
        return md_error_set(
            err, MD_REASON_INVALID_ARGUMENT,
            "Unable to parse Inference-Header-Content-Length '%.*s': a natural number was expected",
            MD_STR_ARG(text));
    }
    infer->json_bytes = length;
    infer->raw = length == 0;
    return true;
}

static void on_head(struct md_exchange *x)
{
    const struct md_oip *oip = x->route_data;
    struct md_oip_infer *infer = md_arena_calloc(&x->arena, 1, sizeof *infer);
    struct md_error err;

    if (!infer) {
        md_oip_reply_sentence(x, 503, "out of memory");
        return;
    }
    x->dialect = infer;
    infer->x = x;
    infer->task.run = run_slice;
    infer->oip = oip;
    infer->version = md_models_resolve(oip->models, x->captures[0], x->captures[1], &err);
    if (!infer->version) {
        md_oip_reply_error(x, &err);
        return;
    }
    if (!md_arena_on_reset(&x->arena, drop_target, infer)) {
        md_oip_reply_sentence(x, 503, "out of memory");
        return;
    }
    struct md_target *target = &infer->version->target;
    md_target_ref(target, md_loop_index(x->loop));
    md_request_init(&infer->request, target, x->loop, &x->arena, &md_oip_responder, infer);
    if (target->decoupled) {
        (void)md_error_set(
            &err, MD_REASON_UNSUPPORTED,
            "HTTP end point doesn't support models with decoupled transaction policy");
        refuse(infer, &err);
    } else if (!read_header_length(infer, &err)) {
        refuse(infer, &err);
    } else if (infer->json_bytes != SIZE_MAX && !infer->raw) {
        x->body_lead = infer->json_bytes;
        x->body_max = oip->max_binary_bytes;
    }
}

static void on_request(struct md_exchange *x)
{
    struct md_oip_infer *infer = x->dialect;

    if (infer->json_bytes == SIZE_MAX) {
        infer->json_bytes = x->body.len;
    }
    md_json_init(&infer->json,
                 md_str_make(x->body.ptr, md_size_min(infer->json_bytes, x->body.len)), &x->arena,
                 (uint32_t)infer->oip->options->json_max_depth);
    if (infer->json_bytes > x->body.len) {
        (void)fail(infer, "Inference-Header-Content-Length is %zu, the body has %zu bytes",
                   infer->json_bytes, x->body.len);
        refuse(infer, &infer->json.error);
    } else if (infer->raw) {
        infer_raw(infer);
    } else {
        decode(infer);
    }
}

static void on_cancel(struct md_exchange *x)
{
    struct md_oip_infer *infer = x->dialect;

    infer->cancelled = true;
    if (infer->phase == MD_OIP_IN_FLIGHT) {
        md_infer_cancel(&infer->request);
    }
}

const struct md_http_handler md_oip_infer_handler = {
    .on_head = on_head, .on_request = on_request, .on_cancel = on_cancel};
