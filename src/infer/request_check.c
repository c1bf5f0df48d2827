/*
 * Does a request fit its target? The sentences are those of the field's server, which clients'
 * tests match.
 */
#include "infer/request.h"

static bool unknown_tensor(struct md_error *err, const struct md_target *target, const char *kind,
                           struct md_str name)
{
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "unexpected inference %s '%.*s' for model '%s'", kind, MD_STR_ARG(name),
                        target->model_name.ptr);
}

static bool has_input(const struct md_request *request, struct md_str name)
{
    for (size_t i = 0; i < request->input_count; i++) {
        if (md_str_eq(request->inputs[i].name, name)) {
            return true;
        }
    }
    return false;
}

static void append_name(struct md_bytes *list, struct md_str name)
{
    md_bytes_append_c(list, list->len ? ",'" : "'");
    md_bytes_append_str(list, name);
    md_bytes_append_char(list, '\'');
}

static bool wrong_input_count(const struct md_request *request, struct md_error *err)
{
    const struct md_target *target = request->target;
    struct md_bytes got = {.max = MD_ERROR_TEXT_MAX / 3};
    struct md_bytes missing = {.max = MD_ERROR_TEXT_MAX / 3};

    for (size_t i = 0; i < request->input_count; i++) {
        append_name(&got, request->inputs[i].name);
    }
    for (size_t i = 0; i < target->input_count; i++) {
        const struct md_tensor_spec *spec = &target->inputs[i];
        if (!spec->optional && !has_input(request, spec->name)) {
            append_name(&missing, spec->name);
        }
    }
    md_error_set(
        err, MD_REASON_INVALID_ARGUMENT,
        "expected %zu inputs but got %zu inputs for model '%s'. Got input(s) [%.*s], but missing required "
        "input(s) [%.*s]. Please provide all required input(s).",
        target->required_input_count, request->input_count, target->model_name.ptr,
        MD_STR_ARG(md_bytes_view(&got)), MD_STR_ARG(md_bytes_view(&missing)));
    md_bytes_deinit(&got);
    md_bytes_deinit(&missing);
    return false;
}

static bool wrong_shape(const struct md_target *target, const struct md_tensor_spec *spec,
                        const struct md_tensor *input, struct md_error *err)
{
    struct md_bytes expected = {.max = MD_ERROR_TEXT_MAX / 3};
    struct md_bytes got = {.max = MD_ERROR_TEXT_MAX / 3};

    md_shape_print(spec->shape, spec->rank, &expected);
    md_shape_print(input->shape, input->rank, &got);
    md_error_set(
        err, MD_REASON_INVALID_ARGUMENT,
        "unexpected shape for input '%.*s' for model '%s'. Expected %.*s, got %.*s. %s",
        MD_STR_ARG(input->name), target->model_name.ptr, MD_STR_ARG(md_bytes_view(&expected)),
        MD_STR_ARG(md_bytes_view(&got)),
        target->max_batch_size > 0
            ? "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
              "prepended to each input shape. If you want to specify the full shape including the batch dim "
              "in your input dims config, try setting max_batch_size to zero. See the model configuration "
              "docs for more info on max_batch_size."
            : "");
    md_bytes_deinit(&expected);
    md_bytes_deinit(&got);
    return false;
}

/* Exactly that many elements, each behind its length. */
static bool check_strings(const struct md_target *target, const struct md_tensor *input,
                          size_t elements, struct md_error *err)
{
    size_t left = input->bytes, count = 0;
    uint32_t len;

    for (const char *at = input->data; left; at += sizeof len + len, count++) {
        if (count == elements) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "unexpected number of string elements %zu for inference input "
                                "'%.*s' for model '%s', expecting %zu",
                                count + 1, MD_STR_ARG(input->name), target->model_name.ptr,
                                elements);
        }
        if (left < sizeof len) {
            return md_error_set(
                err, MD_REASON_INVALID_ARGUMENT,
                "incomplete string length indicator for inference input '%.*s' for model '%s', "
                "expecting 4 bytes but only %zu bytes available. Please make sure the string "
                "length indicator is in one buffer.",
                MD_STR_ARG(input->name), target->model_name.ptr, left);
        }
        memcpy(&len, at, sizeof len);
        left -= sizeof len;
        if (left < len) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "incomplete string data for inference input '%.*s', expecting "
                                "string of length %u but only %zu bytes available",
                                MD_STR_ARG(input->name), len, left);
        }
        left -= len;
    }
    return count == elements ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "expected %zu string elements for inference input '%.*s' for model '%s', "
                        "got %zu",
                        elements, MD_STR_ARG(input->name), target->model_name.ptr, count);
}

static bool check_bytes(const struct md_target *target, const struct md_tensor *input,
                        struct md_error *err)
{
    size_t elements, bytes;

    if (!md_shape_elements(input->shape, input->rank, &elements)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "input '%.*s' for model '%s' has a shape with too many elements",
                            MD_STR_ARG(input->name), target->model_name.ptr);
    }
    if (input->dtype == MD_DTYPE_BYTES) {
        return check_strings(target, input, elements, err);
    }
    if (!md_size_mul(elements, md_dtype_size(input->dtype), &bytes) || bytes != input->bytes) {
        return md_error_set(
            err, MD_REASON_INVALID_ARGUMENT,
            "input byte size mismatch for input '%.*s' for model '%s'. Expected %zu, got %zu",
            MD_STR_ARG(input->name), target->model_name.ptr, bytes, input->bytes);
    }
    return true;
}

static bool check_batch(struct md_request *request, const struct md_tensor *input, bool first,
                        struct md_error *err)
{
    const struct md_target *target = request->target;
    int64_t rows = input->rank ? input->shape[0] : 0;

    if (first) {
        request->rows = rows;
    } else if (rows != request->rows) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "input '%.*s' batch size does not match other inputs for '%s'",
                            MD_STR_ARG(input->name), target->model_name.ptr);
    }
    if (rows < 1) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "inference request batch-size must be > 0 for '%s'",
                            target->model_name.ptr);
    }
    if (rows > target->max_batch_size) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "inference request batch-size must be <= %lld for '%s'",
                            (long long)target->max_batch_size, target->model_name.ptr);
    }
    return true;
}

static bool check_input(struct md_request *request, size_t index, const struct md_tensor_spec *spec,
                        struct md_error *err)
{
    const struct md_target *target = request->target;
    const struct md_tensor *input = &request->inputs[index];

    for (size_t i = 0; i < index; i++) {
        if (md_str_eq(request->inputs[i].name, input->name)) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "input '%.*s' already exists in request", MD_STR_ARG(input->name));
        }
    }
    if (spec && spec->dtype != input->dtype) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "inference input '%.*s' data-type is '%s', but model '%s' expects '%s'",
                            MD_STR_ARG(input->name), md_dtype_name(input->dtype),
                            target->model_name.ptr, md_dtype_name(spec->dtype));
    }
    if (target->max_batch_size > 0 && !check_batch(request, input, index == 0, err)) {
        return false;
    }
    if (spec && !md_shape_matches(spec->shape, spec->rank, input->shape, input->rank)) {
        return wrong_shape(target, spec, input, err);
    }
    return check_bytes(target, input, err);
}

bool md_request_name(const struct md_request *request, struct md_error *err)
{
    char text[MD_ERROR_TEXT_MAX];

    memcpy(text, err->text, sizeof text);
    return md_error_set(err, err->reason, "[request id: %s] %s",
                        request->id.len ? request->id.ptr : "<id_unknown>", text);
}

bool md_request_check(struct md_request *request, struct md_error *err)
{
    const struct md_target *target = request->target;
    size_t required = 0;

    request->rows = 1;
    /* The number comes first, as in the field. */
    if (!target->any_io && (request->input_count < target->required_input_count ||
                            request->input_count > target->input_count)) {
        (void)wrong_input_count(request, err);
        return md_request_name(request, err);
    }
    for (size_t i = 0; i < request->input_count; i++) {
        const struct md_str name = request->inputs[i].name;
        const struct md_tensor_spec *spec =
            target->any_io ? NULL : md_target_find_input(target, name);
        if (!spec && !target->any_io) {
            return unknown_tensor(err, target, "input", name);
        }
        if (!check_input(request, i, spec, err)) {
            return md_request_name(request, err);
        }
        required += spec && !spec->optional;
    }
    if (target->any_io || required == target->required_input_count) {
        return true;
    }
    (void)wrong_input_count(request, err);
    return md_request_name(request, err);
}

bool md_request_names_output(const struct md_request *request, struct md_str name)
{
    size_t i = 0;

    while (i < request->output_count && !md_str_eq(request->outputs[i], name)) {
        i++;
    }
    return i < request->output_count;
}

bool md_request_check_outputs(const struct md_request *request, struct md_error *err)
{
    const struct md_target *target = request->target;

    for (size_t i = 0; i < request->output_count && !target->any_io; i++) {
        if (!md_target_find_output(target, request->outputs[i])) {
            return unknown_tensor(err, target, "output", request->outputs[i]);
        }
    }
    return true;
}
