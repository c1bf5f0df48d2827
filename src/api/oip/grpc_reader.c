/*
 * Reading the pieces of ModelInferRequest that all its parts have: fields, strings, parameters.
 */
#include "api/oip/grpc_reader.h"

#include "codec/utf8.h"

enum {
    FIELDS_MAX = 65536, /* of a message, unknown ones too: what is read in one go */
};

void md_oip_grpc_reader_init(struct md_oip_grpc_reader *reader, struct md_oip_grpc_infer *infer,
                             struct md_error *err)
{
    *reader = (struct md_oip_grpc_reader){.infer = infer, .fields_left = FIELDS_MAX, .err = err};
}

bool md_oip_grpc_malformed(struct md_error *err, const char *where)
{
    return md_error_set(err, MD_REASON_MALFORMED, "%s is no valid protobuf message", where);
}

bool md_oip_grpc_invalid_type(struct md_error *err, struct md_str name, const char *expected)
{
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "invalid value type for '%.*s' parameter, expected %s", MD_STR_ARG(name),
                        expected);
}

bool md_oip_grpc_next(struct md_oip_grpc_reader *reader, struct md_pb_reader *fields,
                      struct md_pb_field *field, const char *where)
{
    if (!md_pb_next(fields, field)) {
        if (fields->failed) {
            (void)md_oip_grpc_malformed(reader->err, where);
        }
        return false;
    }
    if (reader->fields_left-- == 0) {
        fields->failed = true;
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "a request has more than %d fields", FIELDS_MAX);
    }
    return true;
}

bool md_oip_grpc_copy_text(struct md_oip_grpc_reader *reader, struct md_str text,
                           struct md_str *out)
{
    if (!md_utf8_is_valid(text)) {
        return md_error_set(reader->err, MD_REASON_MALFORMED,
                            "a string of the request is not valid UTF-8");
    }
    *out = md_arena_copy(reader->infer->base.arena, text);
    return out->ptr || md_error_no_memory(reader->err, "the request");
}

/* --- parameters -------------------- */

static bool read_value(struct md_oip_grpc_reader *reader, struct md_str message,
                       struct md_oip_grpc_parameter *out)
{
    struct md_pb_reader fields = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_oip_grpc_next(reader, &fields, &field, "a parameter")) {
        switch (field.tag) {
        case MD_PB_TAG(MD_OIP_GRPC_BOOL, MD_PB_VARINT):
        case MD_PB_TAG(MD_OIP_GRPC_INT64, MD_PB_VARINT):
        case MD_PB_TAG(MD_OIP_GRPC_UINT64, MD_PB_VARINT):
        case MD_PB_TAG(MD_OIP_GRPC_DOUBLE, MD_PB_FIXED64):
            out->bits = field.value;
            break;
        case MD_PB_TAG(MD_OIP_GRPC_STRING, MD_PB_BYTES):
            out->string = field.bytes;
            break;
        default:
            continue;
        }
        out->choice = (enum md_oip_grpc_choice)(field.tag >> 3);
    }
    return !fields.failed;
}

bool md_oip_grpc_read_parameter(struct md_oip_grpc_reader *reader, struct md_str message,
                                struct md_oip_grpc_parameter *out)
{
    struct md_pb_reader fields = md_pb_reader_of(message);
    struct md_pb_field field;

    *out = (struct md_oip_grpc_parameter){.name = MD_STR("")};
    while (md_oip_grpc_next(reader, &fields, &field, "a parameter")) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            out->name = field.bytes;
        } else if (field.tag == MD_PB_TAG(2, MD_PB_BYTES) &&
                   !read_value(reader, field.bytes, out)) {
            return false;
        }
    }
    return !fields.failed;
}

/* Parameters that mean something have a type. */
static bool check_type(struct md_oip_grpc_reader *reader,
                       const struct md_oip_grpc_parameter *parameter)
{
    static const struct {
        const char *name;
        enum md_oip_grpc_choice one, other;
        const char *expected;
    } known[] = {
        {"sequence_id", MD_OIP_GRPC_INT64, MD_OIP_GRPC_STRING, "int64_param or string_param."},
        {"sequence_start", MD_OIP_GRPC_BOOL, MD_OIP_GRPC_BOOL, "bool_param."},
        {"sequence_end", MD_OIP_GRPC_BOOL, MD_OIP_GRPC_BOOL, "bool_param."},
        {"priority", MD_OIP_GRPC_INT64, MD_OIP_GRPC_UINT64, "int64_param or uint64_param."},
        {"timeout", MD_OIP_GRPC_INT64, MD_OIP_GRPC_INT64, "int64_param."},
        {"triton_enable_empty_final_response", MD_OIP_GRPC_BOOL, MD_OIP_GRPC_BOOL, "bool_param."},
    };

    for (size_t i = 0; i < MD_COUNT_OF(known); i++) {
        if (md_str_eq_c(parameter->name, known[i].name)) {
            return parameter->choice == known[i].one || parameter->choice == known[i].other ||
                   md_oip_grpc_invalid_type(reader->err, parameter->name, known[i].expected);
        }
    }
    if (md_str_starts_with(parameter->name, MD_STR("triton_"))) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "parameter keys starting with 'triton_' are reserved for Triton usage. "
                            "Only the following keys starting with 'triton_' are allowed: "
                            "triton_enable_empty_final_response");
    }
    return true;
}

static bool check_value(struct md_oip_grpc_reader *reader,
                        const struct md_oip_grpc_parameter *parameter)
{
    const bool negative = parameter->choice == MD_OIP_GRPC_INT64 && (int64_t)parameter->bits < 0;

    if (parameter->choice == MD_OIP_GRPC_UINT64 && parameter->bits > INT64_MAX) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "invalid value for '%.*s', expected value <= %lld.",
                            MD_STR_ARG(parameter->name), (long long)INT64_MAX);
    }
    if (negative &&
        (md_str_eq_c(parameter->name, "priority") || md_str_eq_c(parameter->name, "timeout"))) {
        return md_error_set(reader->err, MD_REASON_INVALID_ARGUMENT,
                            "invalid value for '%.*s', expected value >= 0.",
                            MD_STR_ARG(parameter->name));
    }
    return true;
}

static bool fill_parameter(struct md_oip_grpc_reader *reader,
                           const struct md_oip_grpc_parameter *from, struct md_parameter *out)
{
    switch (from->choice) {
    case MD_OIP_GRPC_BOOL:
        out->kind = MD_PARAMETER_BOOL;
        out->value.boolean = from->bits != 0;
        break;
    case MD_OIP_GRPC_DOUBLE:
        out->kind = MD_PARAMETER_DOUBLE;
        memcpy(&out->value.number, &from->bits, sizeof out->value.number);
        break;
    case MD_OIP_GRPC_STRING:
        out->kind = MD_PARAMETER_STRING;
        return md_oip_grpc_copy_text(reader, from->string, &out->value.string);
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

bool md_oip_grpc_take_parameter(struct md_oip_grpc_reader *reader, struct md_str entry)
{
    struct md_oip_inference *base = &reader->infer->base;
    struct md_oip_grpc_parameter parameter;

    if (!md_oip_grpc_read_parameter(reader, entry, &parameter) || !check_type(reader, &parameter) ||
        !check_value(reader, &parameter)) {
        return false;
    }
    if (md_str_eq_c(parameter.name, "triton_enable_empty_final_response")) {
        reader->infer->wants_empty_final = parameter.bits != 0;
        return true;
    }
    if (parameter.choice == MD_OIP_GRPC_NONE) {
        return true; /* of a kind that a later dialect has */
    }
    struct md_parameter *out = place_of(base, parameter.name);
    if (out < &base->parameters[base->parameter_count]) {
        return fill_parameter(reader, &parameter, out);
    }
    base->parameter_count++;
    return md_oip_grpc_copy_text(reader, parameter.name, &out->name) &&
           fill_parameter(reader, &parameter, out);
}

bool md_oip_grpc_take_region_parameter(struct md_oip_grpc_reader *reader,
                                       const struct md_oip_grpc_parameter *parameter,
                                       struct md_region_place *region)
{
    const bool names = md_str_eq_c(parameter->name, "shared_memory_region");
    struct md_parameter value = {.name = parameter->name};
    bool taken;

    if (!names && !md_str_eq_c(parameter->name, "shared_memory_offset") &&
        !md_str_eq_c(parameter->name, "shared_memory_byte_size")) {
        return true;
    }
    if (parameter->choice != (names ? MD_OIP_GRPC_STRING : MD_OIP_GRPC_INT64)) {
        return md_oip_grpc_invalid_type(reader->err, parameter->name,
                                        names ? "string_param." : "int64_param.");
    }
    return fill_parameter(reader, parameter, &value) &&
           md_region_place_take(region, &value, &taken, reader->err);
}
