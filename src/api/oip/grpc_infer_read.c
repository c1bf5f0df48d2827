/*
 * Reading ModelInferRequest (all but typed contents): once over its top to count and to find the
 * model, once more to read it into memory of the right size.
 */
#include "api/oip/grpc_reader.h"
#include "api/oip/placing.h"
#include "codec/utf8.h"

/* The message's top. */
struct top {
    struct md_str model, version, id;
    size_t parameter_count, input_count, output_count, raw_count;
};

static const char *model_of(const struct md_oip_grpc_reader *reader)
{
    return reader->infer->base.request.target->model_name.ptr;
}

/* --- inputs -------------------- */

static bool take_dimensions(struct md_oip_grpc_reader *reader, struct md_str values, int64_t *shape,
                            uint32_t *rank)
{
    struct md_pb_reader fields = md_pb_reader_of(values);
    uint64_t value;

    while (md_pb_next_varint(&fields, &value)) {
        if (*rank == MD_TENSOR_RANK_MAX) {
            return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                                "a shape has more than %d dimensions", MD_TENSOR_RANK_MAX);
        }
        if ((int64_t)value < 0) {
            return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                                "a dimension of a shape is negative");
        }
        shape[(*rank)++] = (int64_t)value;
    }
    return !fields.failed || md_oip_grpc_malformed(reader->err, "a shape");
}

static bool input_field(struct md_oip_grpc_reader *reader, const struct md_pb_field *field,
                        struct md_oip_grpc_input *input, struct md_tensor *tensor, int64_t *shape)
{
    struct md_oip_grpc_parameter parameter;

    switch (field->tag) {
    case MD_PB_TAG(1, MD_PB_BYTES):
        tensor->name = field->bytes;
        return true;
    case MD_PB_TAG(2, MD_PB_BYTES):
        tensor->dtype = md_dtype_from_name(field->bytes);
        return true;
    case MD_PB_TAG(3, MD_PB_VARINT):
    case MD_PB_TAG(3, MD_PB_BYTES):
        return take_dimensions(reader, field->bytes, shape, &tensor->rank);
    case MD_PB_TAG(4, MD_PB_BYTES):
        return md_oip_grpc_read_parameter(reader, field->bytes, &parameter) &&
               md_oip_grpc_take_region_parameter(reader, &parameter, &input->region);
    case MD_PB_TAG(5, MD_PB_BYTES):
        input->has_contents = true;
        return true;
    default:
        return true;
    }
}

static bool place_input(struct md_oip_grpc_reader *reader, const struct md_oip_grpc_input *input,
                        struct md_tensor *tensor)
{
    if (!input->region.region.ptr) {
        return md_region_place_check(&input->region, tensor->name, reader->err);
    }
    if (input->has_contents) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "unexpected 'content' provided when using shared memory for input "
                            "tensor '%s' for model '%s'",
                            tensor->name.ptr, model_of(reader));
    }
    return md_oip_place_input(&reader->infer->base, &input->region, tensor, reader->err);
}

static bool take_input(struct md_oip_grpc_reader *reader, struct md_str message)
{
    struct md_oip_grpc_infer *infer = reader->infer;
    struct md_oip_grpc_input *input = &infer->inputs[reader->input_count];
    struct md_tensor *tensor = &infer->base.request.inputs[reader->input_count];
    struct md_pb_reader fields = md_pb_reader_of(message);
    struct md_pb_field field;
    int64_t shape[MD_TENSOR_RANK_MAX];

    reader->input_count++;
    *input = (struct md_oip_grpc_input){.message = message};
    *tensor = (struct md_tensor){.name = MD_STR(""), .data = ""};
    while (md_oip_grpc_next(reader, &fields, &field, "an input")) {
        if (!input_field(reader, &field, input, tensor, shape)) {
            return false;
        }
    }
    if (fields.failed || !md_oip_grpc_copy_text(reader, tensor->name, &tensor->name)) {
        return false;
    }
    if (tensor->dtype == MD_DTYPE_INVALID) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "invalid datatype for input %s", tensor->name.ptr);
    }
    int64_t *copy = md_arena_alloc(infer->base.arena, tensor->rank * sizeof *copy);
    if (!copy) {
        return md_error_no_memory(reader->err, "the request");
    }
    memcpy(copy, shape, tensor->rank * sizeof *copy);
    tensor->shape = copy;
    return place_input(reader, input, tensor);
}

/* --- outputs -------------------- */

static bool take_classification(struct md_oip_grpc_reader *reader,
                                const struct md_oip_grpc_parameter *parameter,
                                struct md_oip_output *output)
{
    if (parameter->choice != MD_OIP_GRPC_INT64) {
        return md_oip_grpc_invalid_type(reader->err, parameter->name, "int64_param");
    }
    output->class_count = (int64_t)parameter->bits;
    return output->class_count > 0 ||
           md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                        "invalid value for 'classification' parameter, expected >= 0");
}

static bool take_output_parameter(struct md_oip_grpc_reader *reader, struct md_str entry,
                                  struct md_oip_output *output)
{
    struct md_oip_grpc_parameter parameter;

    if (!md_oip_grpc_read_parameter(reader, entry, &parameter)) {
        return false;
    }
    return md_str_eq_c(parameter.name, "classification")
               ? take_classification(reader, &parameter, output)
               : md_oip_grpc_take_region_parameter(reader, &parameter, &output->region);
}

static bool take_output(struct md_oip_grpc_reader *reader, struct md_str message)
{
    struct md_oip_inference *base = &reader->infer->base;
    struct md_oip_output *output = &base->outputs[base->output_count];
    struct md_pb_reader fields = md_pb_reader_of(message);
    struct md_pb_field field;

    *output = (struct md_oip_output){.name = MD_STR("")};
    while (md_oip_grpc_next(reader, &fields, &field, "an output")) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            output->name = field.bytes;
        } else if (field.tag == MD_PB_TAG(2, MD_PB_BYTES) &&
                   !take_output_parameter(reader, field.bytes, output)) {
            return false;
        }
    }
    if (fields.failed || !md_oip_grpc_copy_text(reader, output->name, &output->name)) {
        return false;
    }
    if (md_oip_inference_output(base, output->name)) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "output '%s' already exists in request", output->name.ptr);
    }
    base->output_count++;
    if (output->region.region.ptr && output->class_count) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "output can't set both 'shared_memory_region' and 'classification'");
    }
    return md_oip_place_output(base, output, reader->err);
}

/* --- the message -------------------- */

static bool count_top(struct md_oip_grpc_reader *reader, struct top *top)
{
    struct md_pb_reader fields = md_pb_reader_of(reader->infer->message);
    struct md_pb_field field;

    *top = (struct top){.model = MD_STR(""), .version = MD_STR(""), .id = MD_STR("")};
    while (md_oip_grpc_next(reader, &fields, &field, "the ModelInferRequest")) {
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
    if (!fields.failed && (!md_utf8_is_valid(top->model) || !md_utf8_is_valid(top->version))) {
        return md_error_set(reader->err, MD_REASON_MALFORMED,
                            "a string of the request is not valid UTF-8");
    }
    return !fields.failed;
}

static bool at_most(struct md_oip_grpc_reader *reader, size_t count, size_t usual)
{
    const size_t max = md_size_max(usual, MD_OIP_ITEMS_MAX);

    return count <= max ||
           md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                        "a request has more than %zu inputs, outputs or parameters", max);
}

/* Memory for what was counted. */
static bool make_room(struct md_oip_grpc_reader *reader, const struct top *top)
{
    struct md_oip_grpc_infer *infer = reader->infer;
    struct md_oip_inference *base = &infer->base;
    const struct md_target *target = base->request.target;

    if (!at_most(reader, top->parameter_count, 0) ||
        !at_most(reader, top->input_count, target->input_count) ||
        !at_most(reader, top->raw_count, target->input_count) ||
        !at_most(reader, top->output_count, target->output_count)) {
        return false;
    }
    base->parameters = md_arena_alloc(base->arena, top->parameter_count * sizeof *base->parameters);
    base->outputs = md_arena_alloc(base->arena, top->output_count * sizeof *base->outputs);
    base->request.inputs =
        md_arena_alloc(base->arena, top->input_count * sizeof *base->request.inputs);
    infer->inputs = md_arena_alloc(base->arena, top->input_count * sizeof *infer->inputs);
    reader->raw = md_arena_alloc(base->arena, top->raw_count * sizeof *reader->raw);
    return (base->parameters && base->outputs && base->request.inputs && infer->inputs &&
            reader->raw) ||
           md_error_no_memory(reader->err, "the request");
}

static bool read_top(struct md_oip_grpc_reader *reader)
{
    struct md_pb_reader fields = md_pb_reader_of(reader->infer->message);
    struct md_pb_field field;
    bool ok = true;

    while (ok && md_pb_next(&fields, &field)) {
        switch (field.tag) {
        case MD_PB_TAG(4, MD_PB_BYTES):
            ok = md_oip_grpc_take_parameter(reader, field.bytes);
            break;
        case MD_PB_TAG(5, MD_PB_BYTES):
            ok = take_input(reader, field.bytes);
            break;
        case MD_PB_TAG(6, MD_PB_BYTES):
            ok = take_output(reader, field.bytes);
            break;
        case MD_PB_TAG(7, MD_PB_BYTES):
            reader->raw[reader->raw_count++] = field.bytes;
            break;
        default:
            break;
        }
    }
    reader->infer->base.request.input_count = reader->input_count;
    return ok;
}

/* Each input without contents takes the next raw entry, where it lies; those in regions have their
 * data. */
static bool take_raw(struct md_oip_grpc_reader *reader)
{
    struct md_request *request = &reader->infer->base.request;
    size_t at = 0;

    for (size_t i = 0; i < request->input_count; i++) {
        struct md_tensor *tensor = &request->inputs[i];
        const bool has_contents = reader->infer->inputs[i].has_contents;
        if (reader->infer->inputs[i].region.region.ptr) {
            continue;
        }
        if (has_contents && reader->raw_count) {
            return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                                "contents field must not be specified when using "
                                "raw_input_contents for '%s' for model '%s'",
                                tensor->name.ptr, model_of(reader));
        }
        if (has_contents) {
            continue;
        }
        if (at == reader->raw_count) {
            return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                                "unable to find data for input tensor '%s' for model '%s' in "
                                "request.",
                                tensor->name.ptr, model_of(reader));
        }
        tensor->data = reader->raw[at].ptr;
        tensor->bytes = reader->raw[at++].len;
    }
    return at == reader->raw_count ||
           md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                        "unexpected additional input data for model '%s'", model_of(reader));
}

bool md_oip_grpc_read(struct md_oip_grpc_infer *infer, const struct md_responder *responder)
{
    struct md_error *err = &infer->base.request.error; /* not in use yet */
    struct md_oip_grpc_reader reader;
    struct md_oip_inference *base = &infer->base;
    struct md_str id = MD_STR("");
    struct top top;

    md_oip_grpc_reader_init(&reader, infer, err);
    if (!count_top(&reader, &top) || (top.id.len && !md_oip_grpc_copy_text(&reader, top.id, &id))) {
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
    return make_room(&reader, &top) && read_top(&reader) && take_raw(&reader);
}
