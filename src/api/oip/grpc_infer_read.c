/*
 * Reading ModelInferRequest (all but typed contents): once over its top to count and to find the
 * model, once more to read it into memory of the right size.
 */
#include "api/oip/grpc_infer_internal.h"
#include "api/oip/placing.h"
#include "codec/utf8.h"

enum {
    FIELDS_MAX = 65536, /* of a message, unknown ones too: what is read in one go */
};

/* The message's top. */
struct top {
    struct md_str model, version, id;
    size_t parameter_count, input_count, output_count, raw_count;
};

/* While it is read. */
struct state {
    struct md_oip_grpc_infer *infer;
    size_t fields_left;
    struct md_str *raw; /* raw_input_contents */
    size_t raw_count, input_count;
    struct md_error *err; /* borrow */
};

/* --- errors -------------------- */

static bool malformed(struct md_error *err, const char *where)
{
    return md_error_set(err, MD_REASON_MALFORMED, "%s is no valid protobuf message", where);
}

static bool no_memory(struct md_error *err)
{
    return md_error_no_memory(err, "the request");
}

static bool invalid_type(struct md_error *err, struct md_str name, const char *expected)
{
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "invalid value type for '%.*s' parameter, expected %s", MD_STR_ARG(name),
                        expected);
}

static const char *model_of(const struct state *state)
{
    return state->infer->base.request.target->model_name.ptr;
}

/* --- pieces -------------------- */

/* The next field, of so many; false at the end, and with err when something is wrong. */
static bool next(struct state *state, struct md_pb_reader *reader, struct md_pb_field *field,
                 const char *where)
{
    if (!md_pb_next(reader, field)) {
        if (reader->failed) {
            (void)malformed(state->err, where);
        }
        return false;
    }
    if (state->fields_left-- == 0) {
        reader->failed = true;
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "a request has more than %d fields", FIELDS_MAX);
    }
    return true;
}

/* A text with a zero byte behind it. */
static bool copy_text(struct state *state, struct md_str text, struct md_str *out)
{
    if (!md_utf8_is_valid(text)) {
        return md_error_set(state->err, MD_REASON_MALFORMED,
                            "a string of the request is not valid UTF-8");
    }
    *out = md_arena_copy(state->infer->base.arena, text);
    return out->ptr || no_memory(state->err);
}

/* --- parameters -------------------- */

enum choice { /* field numbers of InferParameter */
              CHOICE_NONE = 0,
              CHOICE_BOOL = 1,
              CHOICE_INT64 = 2,
              CHOICE_STRING = 3,
              CHOICE_DOUBLE = 4,
              CHOICE_UINT64 = 5,
};

struct parameter {
    struct md_str name;
    enum choice choice;
    uint64_t bits; /* of a number */
    struct md_str string;
};

static bool read_value(struct state *state, struct md_str message, struct parameter *out)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (next(state, &reader, &field, "a parameter")) {
        switch (field.tag) {
        case MD_PB_TAG(CHOICE_BOOL, MD_PB_VARINT):
        case MD_PB_TAG(CHOICE_INT64, MD_PB_VARINT):
        case MD_PB_TAG(CHOICE_UINT64, MD_PB_VARINT):
        case MD_PB_TAG(CHOICE_DOUBLE, MD_PB_FIXED64):
            out->bits = field.value;
            break;
        case MD_PB_TAG(CHOICE_STRING, MD_PB_BYTES):
            out->string = field.bytes;
            break;
        default:
            continue;
        }
        out->choice = (enum choice)(field.tag >> 3);
    }
    return !reader.failed;
}

/* An entry of a map<string, InferParameter>. */
static bool read_entry(struct state *state, struct md_str message, struct parameter *out)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    *out = (struct parameter){.name = MD_STR("")};
    while (next(state, &reader, &field, "a parameter")) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            out->name = field.bytes;
        } else if (field.tag == MD_PB_TAG(2, MD_PB_BYTES) && !read_value(state, field.bytes, out)) {
            return false;
        }
    }
    return !reader.failed;
}

/* Parameters that mean something have a type. */
static bool check_type(struct state *state, const struct parameter *parameter)
{
    static const struct {
        const char *name;
        enum choice one, other;
        const char *expected;
    } known[] = {
        {"sequence_id", CHOICE_INT64, CHOICE_STRING, "int64_param or string_param."},
        {"sequence_start", CHOICE_BOOL, CHOICE_BOOL, "bool_param."},
        {"sequence_end", CHOICE_BOOL, CHOICE_BOOL, "bool_param."},
        {"priority", CHOICE_INT64, CHOICE_UINT64, "int64_param or uint64_param."},
        {"timeout", CHOICE_INT64, CHOICE_INT64, "int64_param."},
        {"triton_enable_empty_final_response", CHOICE_BOOL, CHOICE_BOOL, "bool_param."},
    };

    for (size_t i = 0; i < MD_COUNT_OF(known); i++) {
        if (md_str_eq_c(parameter->name, known[i].name)) {
            return parameter->choice == known[i].one || parameter->choice == known[i].other ||
                   invalid_type(state->err, parameter->name, known[i].expected);
        }
    }
    if (md_str_starts_with(parameter->name, MD_STR("triton_"))) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "parameter keys starting with 'triton_' are reserved for Triton usage. "
                            "Only the following keys starting with 'triton_' are allowed: "
                            "triton_enable_empty_final_response");
    }
    return true;
}

static bool check_value(struct state *state, const struct parameter *parameter)
{
    const bool negative = parameter->choice == CHOICE_INT64 && (int64_t)parameter->bits < 0;

    if (parameter->choice == CHOICE_UINT64 && parameter->bits > INT64_MAX) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "invalid value for '%.*s', expected value <= %lld.",
                            MD_STR_ARG(parameter->name), (long long)INT64_MAX);
    }
    if (negative &&
        (md_str_eq_c(parameter->name, "priority") || md_str_eq_c(parameter->name, "timeout"))) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "invalid value for '%.*s', expected value >= 0.",
                            MD_STR_ARG(parameter->name));
    }
    return true;
}

static bool fill_parameter(struct state *state, const struct parameter *from,
                           struct md_parameter *out)
{
    switch (from->choice) {
    case CHOICE_BOOL:
        out->kind = MD_PARAMETER_BOOL;
        out->value.boolean = from->bits != 0;
        break;
    case CHOICE_DOUBLE:
        out->kind = MD_PARAMETER_DOUBLE;
        memcpy(&out->value.number, &from->bits, sizeof out->value.number);
        break;
    case CHOICE_STRING:
        out->kind = MD_PARAMETER_STRING;
        return copy_text(state, from->string, &out->value.string);
    default:
        out->kind = MD_PARAMETER_INT;
        out->value.integer = (int64_t)from->bits;
    }
    return true;
}

/* Of a map's key that comes again the last value counts. */
static struct md_parameter *place_of(struct md_oip_inference *base, struct md_str name)
{
    for (size_t i = 0; i < base->parameter_count; i++) {
        if (md_str_eq(base->parameters[i].name, name)) {
            return &base->parameters[i];
        }
    }
    return &base->parameters[base->parameter_count];
}

static bool take_parameter(struct state *state, struct md_str entry)
{
    struct md_oip_inference *base = &state->infer->base;
    struct parameter parameter;

    if (!read_entry(state, entry, &parameter) || !check_type(state, &parameter) ||
        !check_value(state, &parameter)) {
        return false;
    }
    if (md_str_eq_c(parameter.name, "triton_enable_empty_final_response")) {
        state->infer->wants_empty_final = parameter.bits != 0;
        return true;
    }
    if (parameter.choice == CHOICE_NONE) {
        return true; /* of a kind that a later dialect has */
    }
    struct md_parameter *out = place_of(base, parameter.name);
    if (out < &base->parameters[base->parameter_count]) {
        return fill_parameter(state, &parameter, out);
    }
    base->parameter_count++;
    return copy_text(state, parameter.name, &out->name) && fill_parameter(state, &parameter, out);
}

/* A parameter of an input or output that says where it lies; fine if it is none. */
static bool take_region_parameter(struct state *state, const struct parameter *parameter,
                                  struct md_region_place *region)
{
    const bool names = md_str_eq_c(parameter->name, "shared_memory_region");
    struct md_parameter value = {.name = parameter->name};
    bool taken;

    if (!names && !md_str_eq_c(parameter->name, "shared_memory_offset") &&
        !md_str_eq_c(parameter->name, "shared_memory_byte_size")) {
        return true;
    }
    if (parameter->choice != (names ? CHOICE_STRING : CHOICE_INT64)) {
        return invalid_type(state->err, parameter->name, names ? "string_param." : "int64_param.");
    }
    return fill_parameter(state, parameter, &value) &&
           md_region_place_take(region, &value, &taken, state->err);
}

/* --- inputs -------------------- */

static bool take_dimensions(struct state *state, struct md_str values, int64_t *shape,
                            uint32_t *rank)
{
    struct md_pb_reader reader = md_pb_reader_of(values);
    uint64_t value;

    while (md_pb_next_varint(&reader, &value)) {
        if (*rank == MD_TENSOR_RANK_MAX) {
            return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                                "a shape has more than %d dimensions", MD_TENSOR_RANK_MAX);
        }
        if ((int64_t)value < 0) {
            return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                                "a dimension of a shape is negative");
        }
        shape[(*rank)++] = (int64_t)value;
    }
    return !reader.failed || malformed(state->err, "a shape");
}

static bool input_field(struct state *state, const struct md_pb_field *field,
                        struct md_oip_grpc_input *input, struct md_tensor *tensor, int64_t *shape)
{
    struct parameter parameter;

    switch (field->tag) {
    case MD_PB_TAG(1, MD_PB_BYTES):
        tensor->name = field->bytes;
        return true;
    case MD_PB_TAG(2, MD_PB_BYTES):
        tensor->dtype = md_dtype_from_name(field->bytes);
        return true;
    case MD_PB_TAG(3, MD_PB_VARINT):
    case MD_PB_TAG(3, MD_PB_BYTES):
        return take_dimensions(state, field->bytes, shape, &tensor->rank);
    case MD_PB_TAG(4, MD_PB_BYTES):
        return read_entry(state, field->bytes, &parameter) &&
               take_region_parameter(state, &parameter, &input->region);
    case MD_PB_TAG(5, MD_PB_BYTES):
        input->has_contents = true;
        return true;
    default:
        return true;
    }
}

static bool place_input(struct state *state, const struct md_oip_grpc_input *input,
                        struct md_tensor *tensor)
{
    if (!input->region.region.ptr) {
        return md_region_place_check(&input->region, tensor->name, state->err);
    }
    if (input->has_contents) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "unexpected 'content' provided when using shared memory for input "
                            "tensor '%s' for model '%s'",
                            tensor->name.ptr, model_of(state));
    }
    return md_oip_place_input(&state->infer->base, &input->region, tensor, state->err);
}

static bool take_input(struct state *state, struct md_str message)
{
    struct md_oip_grpc_infer *infer = state->infer;
    struct md_oip_grpc_input *input = &infer->inputs[state->input_count];
    struct md_tensor *tensor = &infer->base.request.inputs[state->input_count];
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;
    int64_t shape[MD_TENSOR_RANK_MAX];

    state->input_count++;
    *input = (struct md_oip_grpc_input){.message = message};
    *tensor = (struct md_tensor){.name = MD_STR(""), .data = ""};
    while (next(state, &reader, &field, "an input")) {
        if (!input_field(state, &field, input, tensor, shape)) {
            return false;
        }
    }
    if (reader.failed || !copy_text(state, tensor->name, &tensor->name)) {
        return false;
    }
    if (tensor->dtype == MD_DTYPE_INVALID) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT, "invalid datatype for input %s",
                            tensor->name.ptr);
    }
    int64_t *copy = md_arena_alloc(infer->base.arena, tensor->rank * sizeof *copy);
    if (!copy) {
        return no_memory(state->err);
    }
    memcpy(copy, shape, tensor->rank * sizeof *copy);
    tensor->shape = copy;
    return place_input(state, input, tensor);
}

/* --- outputs -------------------- */

static bool take_classification(struct state *state, const struct parameter *parameter,
                                struct md_oip_output *output)
{
    if (parameter->choice != CHOICE_INT64) {
        return invalid_type(state->err, parameter->name, "int64_param");
    }
    output->class_count = (int64_t)parameter->bits;
    return output->class_count > 0 ||
           md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                        "invalid value for 'classification' parameter, expected >= 0");
}

static bool take_output_parameter(struct state *state, struct md_str entry,
                                  struct md_oip_output *output)
{
    struct parameter parameter;

    if (!read_entry(state, entry, &parameter)) {
        return false;
    }
    return md_str_eq_c(parameter.name, "classification")
               ? take_classification(state, &parameter, output)
               : take_region_parameter(state, &parameter, &output->region);
}

static bool take_output(struct state *state, struct md_str message)
{
    struct md_oip_inference *base = &state->infer->base;
    struct md_oip_output *output = &base->outputs[base->output_count];
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    *output = (struct md_oip_output){.name = MD_STR("")};
    while (next(state, &reader, &field, "an output")) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            output->name = field.bytes;
        } else if (field.tag == MD_PB_TAG(2, MD_PB_BYTES) &&
                   !take_output_parameter(state, field.bytes, output)) {
            return false;
        }
    }
    if (reader.failed || !copy_text(state, output->name, &output->name)) {
        return false;
    }
    if (md_oip_inference_output(base, output->name)) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "output '%s' already exists in request", output->name.ptr);
    }
    base->output_count++;
    if (output->region.region.ptr && output->class_count) {
        return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                            "output can't set both 'shared_memory_region' and 'classification'");
    }
    return md_oip_place_output(base, output, state->err);
}

/* --- the message -------------------- */

static bool count_top(struct state *state, struct top *top)
{
    struct md_pb_reader reader = md_pb_reader_of(state->infer->message);
    struct md_pb_field field;

    *top = (struct top){.model = MD_STR(""), .version = MD_STR(""), .id = MD_STR("")};
    while (next(state, &reader, &field, "the ModelInferRequest")) {
        switch (field.tag) {
        case MD_PB_TAG(1, MD_PB_BYTES):
            top->model = field.bytes;
            break;
        case MD_PB_TAG(2, MD_PB_BYTES):
            top->version = field.bytes;
            break;
        case MD_PB_TAG(3, MD_PB_BYTES):
            top->id = field.bytes;
            break;
        case MD_PB_TAG(4, MD_PB_BYTES):
            top->parameter_count++;
            break;
        case MD_PB_TAG(5, MD_PB_BYTES):
            top->input_count++;
            break;
        case MD_PB_TAG(6, MD_PB_BYTES):
            top->output_count++;
            break;
        case MD_PB_TAG(7, MD_PB_BYTES):
            top->raw_count++;
            break;
        default:
            break;
        }
    }
    return !reader.failed;
}

static bool at_most(struct state *state, size_t count, size_t usual)
{
    const size_t max = md_size_max(usual, MD_OIP_ITEMS_MAX);

    return count <= max ||
           md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                        "a request has more than %zu inputs, outputs or parameters", max);
}

/* Memory for what was counted. */
static bool make_room(struct state *state, const struct top *top)
{
    struct md_oip_grpc_infer *infer = state->infer;
    struct md_oip_inference *base = &infer->base;
    const struct md_target *target = base->request.target;

    if (!at_most(state, top->parameter_count, 0) ||
        !at_most(state, top->input_count, target->input_count) ||
        !at_most(state, top->raw_count, target->input_count) ||
        !at_most(state, top->output_count, target->output_count)) {
        return false;
    }
    base->parameters = md_arena_alloc(base->arena, top->parameter_count * sizeof *base->parameters);
    base->outputs = md_arena_alloc(base->arena, top->output_count * sizeof *base->outputs);
    base->request.inputs =
        md_arena_alloc(base->arena, top->input_count * sizeof *base->request.inputs);
    infer->inputs = md_arena_alloc(base->arena, top->input_count * sizeof *infer->inputs);
    state->raw = md_arena_alloc(base->arena, top->raw_count * sizeof *state->raw);
    return (base->parameters && base->outputs && base->request.inputs && infer->inputs &&
            state->raw) ||
           no_memory(state->err);
}

static bool read_top(struct state *state)
{
    struct md_pb_reader reader = md_pb_reader_of(state->infer->message);
    struct md_pb_field field;
    bool ok = true;

    while (ok && md_pb_next(&reader, &field)) {
        switch (field.tag) {
        case MD_PB_TAG(4, MD_PB_BYTES):
            ok = take_parameter(state, field.bytes);
            break;
        case MD_PB_TAG(5, MD_PB_BYTES):
            ok = take_input(state, field.bytes);
            break;
        case MD_PB_TAG(6, MD_PB_BYTES):
            ok = take_output(state, field.bytes);
            break;
        case MD_PB_TAG(7, MD_PB_BYTES):
            state->raw[state->raw_count++] = field.bytes;
            break;
        default:
            break;
        }
    }
    state->infer->base.request.input_count = state->input_count;
    return ok;
}

/* Each input without contents takes the next raw entry, where it lies; those in regions have their
 * data. */
static bool take_raw(struct state *state)
{
    struct md_request *request = &state->infer->base.request;
    size_t at = 0;

    for (size_t i = 0; i < request->input_count; i++) {
        struct md_tensor *tensor = &request->inputs[i];
        const bool has_contents = state->infer->inputs[i].has_contents;
        if (state->infer->inputs[i].region.region.ptr) {
            continue;
        }
        if (has_contents && state->raw_count) {
            return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                                "contents field must not be specified when using "
                                "raw_input_contents for '%s' for model '%s'",
                                tensor->name.ptr, model_of(state));
        }
        if (has_contents) {
            continue;
        }
        if (at == state->raw_count) {
            return md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                                "unable to find data for input tensor '%s' for model '%s' in "
                                "request.",
                                tensor->name.ptr, model_of(state));
        }
        tensor->data = state->raw[at].ptr;
        tensor->bytes = state->raw[at++].len;
    }
    return at == state->raw_count ||
           md_error_set(state->err, MD_REASON_INVALID_ARGUMENT,
                        "unexpected additional input data for model '%s'", model_of(state));
}

bool md_oip_grpc_read(struct md_oip_grpc_infer *infer, const struct md_responder *responder)
{
    struct md_error *err = &infer->base.request.error; /* not in use yet */
    struct state state = {.infer = infer, .fields_left = FIELDS_MAX, .err = err};
    struct md_oip_inference *base = &infer->base;
    struct md_str id = MD_STR("");
    struct top top;

    if (!count_top(&state, &top) || (top.id.len && !copy_text(&state, top.id, &id))) {
        return false;
    }
    base->request.id = id; /* an answer of a stream names it in any case */
    if (!md_oip_inference_begin(base, top.model, top.version, responder, infer, err)) {
        return false;
    }
    base->request.id = id;
    base->request.begin_ns = infer->stream ? base->x->body_ns : base->x->begin_ns;
    if (!infer->stream) {
        base->x->log.model = base->version->model->name.ptr;
        base->x->log.version = base->version->number;
        base->x->log.request_id = id.len ? id.ptr : NULL;
        if (base->request.target->decoupled) {
            return md_error_set(err, MD_REASON_UNSUPPORTED,
                                "ModelInfer RPC doesn't support models with decoupled "
                                "transaction policy");
        }
    }
    return make_room(&state, &top) && read_top(&state) && take_raw(&state);
}
