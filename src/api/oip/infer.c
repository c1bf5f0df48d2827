/*
 * Inference over REST, from the head of a request to its submission: the target is resolved, the
 * body received, its document read (infer_read.c) and its binary tensors taken where they lie. The
 * answer is infer_encode.c's.
 */
#include "api/oip/infer.h"

#include "api/oip/reply.h"
#include "api/oip/tracing.h"

/* Values of json_bytes before the body is there. */
static const size_t NO_LENGTH = SIZE_MAX, BEYOND_ANY_BODY = SIZE_MAX - 1;

static void refuse(struct md_oip_infer *infer, const struct md_error *err)
{
    md_oip_inference_count_refusal(&infer->base, err, infer->base.x->begin_ns);
    md_oip_infer_fail(infer, err);
}

/* --- binary tensors and submit -------------------- */

static bool take_binary(struct md_oip_infer *infer)
{
    struct md_str rest = md_str_make(infer->base.x->body.ptr + infer->json_bytes,
                                     infer->base.x->body.len - infer->json_bytes);

    for (size_t i = 0; i < infer->input_count; i++) {
        struct md_oip_input *input = &infer->inputs[i];
        if (!input->has_binary_size) {
            continue;
        }
        if (input->binary_size > rest.len) {
            return md_oip_fail(
                infer,
                "unexpected size for input '%s', expecting %zu additional bytes for model '%s'",
                input->tensor.name.ptr, input->binary_size - rest.len,
                infer->base.request.target->model_name.ptr);
        }
        input->tensor.data = rest.ptr;
        input->tensor.bytes = input->binary_size;
        rest = md_str_make(rest.ptr + input->binary_size, rest.len - input->binary_size);
    }
    return rest.len == 0 || md_oip_fail(infer, "unexpected additional input data for model '%s'",
                                        infer->base.request.target->model_name.ptr);
}

static void submit(struct md_oip_infer *infer)
{
    struct md_request *request = &infer->base.request;
    struct md_error *err = &request->error; /* not in use yet */
    struct md_exchange *x = infer->base.x;

    request->inputs = md_arena_alloc(&x->arena, infer->input_count * sizeof *request->inputs);
    if (!request->inputs) {
        (void)md_error_no_memory(err, "the request");
        refuse(infer, err);
        return;
    }
    for (size_t i = 0; i < infer->input_count; i++) {
        request->inputs[i] = infer->inputs[i].tensor;
    }
    request->input_count = infer->input_count;
    request->begin_ns = x->begin_ns;
    x->log.request_id = request->id.len ? request->id.ptr : NULL;
    if (!md_oip_inference_check(&infer->base, err)) {
        refuse(infer, err);
        return;
    }
    infer->phase = MD_OIP_IN_FLIGHT;
    md_infer_submit(request);
}

/* --- slices -------------------- */

static void read_slice(struct md_oip_infer *infer)
{
    switch (md_oip_read_step(infer)) {
    case MD_PROGRESS_AGAIN:
        md_loop_defer(infer->base.x->loop, &infer->task);
        return;
    case MD_PROGRESS_DONE:
        if (take_binary(infer)) {
            submit(infer);
            return;
        }
        break;
    default:
        break;
    }
    refuse(infer, &infer->json.error);
}

static void run_slice(struct md_loop_task *task)
{
    struct md_oip_infer *infer = MD_CONTAINER_OF(task, struct md_oip_infer, task);

    if (infer->cancelled) {
        md_oip_infer_drop(infer);
    } else if (infer->phase == MD_OIP_ENCODE) {
        md_oip_encode_step(infer);
    } else {
        read_slice(infer);
    }
}

/* --- raw binary: the body is the only input -------------------- */

static void infer_raw(struct md_oip_infer *infer)
{
    const struct md_target *target = infer->base.request.target;
    struct md_str body = infer->base.x->body;
    const struct md_tensor_spec *spec = target->inputs;

    if (target->input_count != 1) {
        (void)md_oip_fail(
            infer,
            "[request id: <id_unknown>] Raw request must only have 1 input (found 1) to be "
            "deduced but got %zu inputs in '%s' model configuration",
            target->input_count, target->model_name.ptr);
        refuse(infer, &infer->json.error);
        return;
    }
    if (spec->rank == MD_RANK_ANY) {
        (void)md_oip_fail(infer, "raw binary input needs an input with a shape, '%s' takes any",
                          spec->name.ptr);
        refuse(infer, &infer->json.error);
        return;
    }
    int64_t *shape = md_arena_alloc(&infer->base.x->arena, (spec->rank + 1) * sizeof *shape);
    size_t known = 1, variable = 0;
    for (uint32_t i = 0; shape && i < spec->rank; i++) {
        bool batch = i == 0 && target->max_batch_size > 0;
        shape[i] = batch ? 1 : spec->shape[i];
        variable += shape[i] < 0;
        known *= shape[i] < 0 ? 1 : (size_t)shape[i];
    }
    infer->inputs = md_arena_calloc(&infer->base.x->arena, 1, sizeof *infer->inputs);
    if (!shape || !infer->inputs) {
        infer->json.failed = true;
        (void)md_error_no_memory(&infer->json.error, "the request");
    } else if (variable > 1) {
        (void)md_oip_fail(
            infer,
            "[request id: <id_unknown>] The shape of the raw input '%s' can not be deduced "
            "because there are more than one variable-sized dimension",
            spec->name.ptr);
    } else if (spec->dtype == MD_DTYPE_BYTES) {
        char *data = md_oip_tensor_memory(infer, body.len + 4);
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

static bool is_integer(struct md_str text)
{
    size_t first = text.len && text.ptr[0] == '-', at = first;

    while (at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9') {
        at++;
    }
    return at == text.len && at > first;
}

static bool read_header_length(struct md_oip_infer *infer, struct md_error *err)
{
    struct md_str text = md_exchange_header(infer->base.x, MD_OIP_LENGTH_HEADER);
    uint64_t length;

    infer->json_bytes = NO_LENGTH;
    if (!text.ptr) {
        return true;
    }
    if (!is_integer(text)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse " MD_OIP_LENGTH_HEADER
                            " '%.*s': a natural number was expected",
                            MD_STR_ARG(text));
    }
    if (!md_str_to_u64(text, &length)) {
        length = BEYOND_ANY_BODY;
    }
    infer->json_bytes = md_size_min(length, BEYOND_ANY_BODY);
    infer->raw = length == 0;
    return true;
}

static void drop_document(void *arg)
{
    md_chain_deinit(arg);
}

static void on_head(struct md_exchange *x)
{
    struct md_oip_infer *infer = md_arena_calloc(&x->arena, 1, sizeof *infer);
    struct md_error err;

    if (!infer || !md_arena_on_reset(&x->arena, drop_document, &infer->document)) {
        (void)md_error_no_memory(&err, "a request");
        md_oip_reply_error(x, &err);
        return;
    }
    x->dialect = infer;
    infer->base.x = x;
    infer->base.loop = x->loop;
    infer->base.arena = &x->arena;
    infer->base.oip = x->route_data;
    infer->task.run = run_slice;
    if (!md_oip_inference_begin(&infer->base, x->captures[0], x->captures[1], &md_oip_responder,
                                infer, &err)) {
        md_oip_reply_error(x, &err);
        return;
    }
    x->log.model = infer->base.version->model->name.ptr;
    x->log.version = infer->base.version->number;
    if (infer->base.version->target.decoupled) {
        (void)md_error_set(
            &err, MD_REASON_UNSUPPORTED,
            "HTTP end point doesn't support models with decoupled transaction policy");
        refuse(infer, &err);
    } else if (!md_oip_read_deadline(x, &err) || !read_header_length(infer, &err)) {
        refuse(infer, &err);
    } else if (infer->json_bytes != NO_LENGTH && !infer->raw) {
        x->body_lead = infer->json_bytes;
        x->body_max = infer->base.oip->max_binary_bytes;
    }
}

static void on_request(struct md_exchange *x)
{
    struct md_oip_infer *infer = x->dialect;

    if (infer->json_bytes == NO_LENGTH) {
        infer->json_bytes = x->body.len;
    }
    md_json_init(&infer->json,
                 md_str_make(x->body.ptr, md_size_min(infer->json_bytes, x->body.len)), &x->arena,
                 (uint32_t)infer->base.oip->options->json_max_depth);
    if (infer->json_bytes > x->body.len) {
        (void)md_oip_fail(infer, "inference header size should be in range (0, %zu), got: %.*s",
                          x->body.len, MD_STR_ARG(md_exchange_header(x, MD_OIP_LENGTH_HEADER)));
        refuse(infer, &infer->json.error);
    } else if (infer->raw) {
        infer_raw(infer);
    } else {
        read_slice(infer);
    }
}

static void on_cancel(struct md_exchange *x)
{
    struct md_oip_infer *infer = x->dialect;

    infer->cancelled = true;
    if (infer->phase == MD_OIP_IN_FLIGHT) {
        md_oip_inference_cancel(&infer->base);
    }
}

const struct md_http_handler md_oip_infer_handler = {
    .on_head = on_head, .on_request = on_request, .on_cancel = on_cancel};
