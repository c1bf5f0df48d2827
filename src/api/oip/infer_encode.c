/*
 * Encoding of inference responses: the JSON head, then binary tensors straight from the memory that
 * the engine wrote.
 *
 * Classes are sought and JSON data is printed in slices; between them other connections have their
 * turn.
 */
#include "api/oip/infer.h"

#include "api/oip/classes.h"
#include "api/oip/placing.h"
#include "api/oip/reply.h"
#include "api/oip/tracing.h"

static bool is_binary(const struct md_oip_infer *infer, struct md_str name)
{
    const struct md_oip_output *output = md_oip_inference_output(&infer->base, name);

    return output ? output->binary : infer->base.output_count == 0 && infer->binary_output;
}

/* --- document -------------------- */

enum {
    ESCAPED_BYTES = 6,    /* of a byte in a JSON string, at most */
    FIXED_BYTES = 256,    /* keys and punctuation around names, at most */
    DIMENSION_BYTES = 24, /* of a shape */
    DATA_BYTES = 512,     /* of data in one step, at least */
};

static struct md_bytes *room(struct md_oip_infer *infer, size_t bytes)
{
    return md_chain_room(&infer->document, md_loop_pool(infer->base.x->loop), bytes);
}

static bool begin_document(struct md_oip_infer *infer)
{
    const struct md_target *target = infer->base.request.target;
    struct md_str id = infer->base.request.id;
    struct md_bytes *out =
        room(infer, FIXED_BYTES + ESCAPED_BYTES * (id.len + target->model_name.len));

    if (!out) {
        return false;
    }
    md_bytes_append_char(out, '{');
    if (id.len) {
        md_bytes_append_str(out, MD_STR("\"id\":"));
        md_json_append_string(out, id);
        md_bytes_append_char(out, ',');
    }
    md_bytes_append_str(out, MD_STR("\"model_name\":"));
    md_json_append_string(out, target->model_name);
    md_bytes_append_str(out, MD_STR(",\"model_version\":\""));
    md_bytes_append_str(out, target->version_text);
    md_bytes_append_str(out, MD_STR("\",\"outputs\":["));
    return true;
}

static bool begin_output(struct md_oip_infer *infer, const struct md_tensor *tensor)
{
    struct md_bytes *out = room(infer, FIXED_BYTES + ESCAPED_BYTES * tensor->name.len +
                                           DIMENSION_BYTES * tensor->rank);

    if (!out) {
        return false;
    }
    if (infer->output_at) {
        md_bytes_append_char(out, ',');
    }
    md_bytes_append_str(out, MD_STR("{\"name\":"));
    md_json_append_string(out, tensor->name);
    md_bytes_append_str(out, MD_STR(",\"datatype\":\""));
    md_bytes_append_c(out, md_dtype_name(tensor->dtype));
    md_bytes_append_str(out, MD_STR("\",\"shape\":"));
    md_shape_print(tensor->shape, tensor->rank, out);
    if (md_oip_is_placed(&infer->base, tensor->name)) {
        md_bytes_append_char(out, '}');
    } else if (is_binary(infer, tensor->name)) {
        md_bytes_append_str(out, MD_STR(",\"parameters\":{\"binary_data_size\":"));
        md_bytes_append_u64(out, tensor->bytes);
        md_bytes_append_str(out, MD_STR("}}"));
    } else {
        md_bytes_append_str(out, MD_STR(",\"data\":["));
        md_tensor_writer_init(&infer->writer, tensor->dtype, tensor->data, tensor->bytes);
        infer->writes = true;
    }
    return true;
}

static bool append_end(struct md_oip_infer *infer)
{
    struct md_bytes *out = room(infer, 2);

    if (out) {
        md_bytes_append_str(out, MD_STR("]}"));
    }
    return out != NULL;
}

/* Data of the current output, as much as fits the block. */
static enum md_progress append_data(struct md_oip_infer *infer)
{
    struct md_bytes *out = room(infer, DATA_BYTES + MD_TENSOR_WRITER_SPARE);

    return out ? md_tensor_writer_step(&infer->writer, out,
                                       out->capacity - out->len - MD_TENSOR_WRITER_SPARE)
               : MD_PROGRESS_ERROR;
}

/* --- answer -------------------- */

void md_oip_infer_fail(struct md_oip_infer *infer, const struct md_error *err)
{
    md_oip_trace_end(&infer->base, md_oip_status(err), err);
    md_oip_reply_error(infer->base.x, err);
}

void md_oip_infer_drop(struct md_oip_infer *infer)
{
    struct md_error err;

    (void)md_error_set(&err, MD_REASON_CANCELLED, "the client has gone");
    md_oip_trace_end(&infer->base, md_oip_status(&err), &err);
    md_oip_reply_empty(infer->base.x, md_oip_status(&err));
}

static void answer(struct md_oip_infer *infer)
{
    struct md_arena *arena = &infer->base.x->arena;
    const struct md_response *response = infer->response;
    size_t count = infer->document.part_count, binary = 0;
    struct iovec *parts = md_arena_alloc(arena, (count + response->output_count) * sizeof *parts);
    struct md_http_header *headers =
        md_arena_alloc(arena, (1 + MD_OIP_TRACE_HEADERS) * sizeof *headers);

    if (!parts || !headers) {
        struct md_error err;
        (void)md_error_no_memory(&err, "the response");
        md_oip_infer_fail(infer, &err);
        return;
    }
    md_chain_parts(&infer->document, parts);
    for (size_t i = 0; i < response->output_count; i++) {
        const struct md_tensor *tensor = &response->outputs[i];
        if (is_binary(infer, tensor->name) && tensor->bytes) {
            parts[count++] = (struct iovec){(void *)(uintptr_t)tensor->data, tensor->bytes};
            binary += tensor->bytes;
        }
    }
    struct md_http_response answer = {.status = 200,
                                      .content_type = "application/json",
                                      .headers = headers,
                                      .parts = parts,
                                      .part_count = count,
                                      .may_compress = true};
    if (binary) {
        char *length = md_arena_printf(arena, "%zu", md_chain_bytes(&infer->document));
        headers[answer.header_count++] =
            (struct md_http_header){MD_STR(MD_OIP_LENGTH_HEADER), md_str_of(length ? length : "0")};
        answer.content_type = "application/octet-stream";
    }
    if (MD_UNLIKELY(infer->base.trace)) {
        answer.header_count += md_oip_trace_headers(&infer->base, headers + answer.header_count);
        md_oip_trace_end(&infer->base, answer.status, NULL);
    }
    md_exchange_respond(infer->base.x, &answer);
}

/* The next part of the document; AGAIN: others first. */
static enum md_progress encode(struct md_oip_infer *infer, struct md_error *err)
{
    const size_t yield_at = md_chain_bytes(&infer->document) + MD_OIP_SLICE_BYTES;
    bool ok = infer->document.part_count > 0 || begin_document(infer);

    while (ok && infer->output_at < infer->response->output_count) {
        if (!infer->writes) {
            struct md_tensor *tensor = &infer->response->outputs[infer->output_at];
            enum md_progress progress = md_oip_classify(&infer->base, tensor, &infer->classes, err);
            if (progress == MD_PROGRESS_DONE) {
                progress = md_oip_place_result(&infer->base, tensor, is_binary(infer, tensor->name),
                                               &infer->copy, err);
            }
            if (progress != MD_PROGRESS_DONE) {
                return progress;
            }
            ok = begin_output(infer, tensor);
        } else if (md_chain_bytes(&infer->document) >= yield_at) {
            return MD_PROGRESS_AGAIN;
        } else {
            enum md_progress progress = append_data(infer);
            infer->writes = progress != MD_PROGRESS_DONE;
            ok = progress != MD_PROGRESS_ERROR && (infer->writes || append_end(infer));
        }
        infer->output_at += !infer->writes;
    }
    return (ok && append_end(infer)) || md_error_over_budget(err) ? MD_PROGRESS_DONE
                                                                  : MD_PROGRESS_ERROR;
}

void md_oip_encode_step(struct md_oip_infer *infer)
{
    struct md_error err;

    switch (encode(infer, &err)) {
    case MD_PROGRESS_DONE:
        if (md_region_uses_check(&infer->base.regions, &err)) {
            answer(infer);
        } else {
            md_oip_infer_fail(infer, &err);
        }
        break;
    case MD_PROGRESS_AGAIN:
        md_loop_defer(infer->base.x->loop, &infer->task);
        break;
    default:
        md_oip_infer_fail(infer, &err);
    }
}

/* --- responder -------------------- */

static void on_response(struct md_request *request, struct md_response *response)
{
    struct md_oip_infer *infer = request->dialect;

    infer->response = response;
    infer->phase = MD_OIP_ENCODE;
}

/* What the execution may still be writing is left alone. */
static void on_late(struct md_request *request, const struct md_error *error)
{
    struct md_oip_infer *infer = request->dialect;

    if (!infer->cancelled) { /* else nobody waits for it */
        infer->is_late = true;
        md_exchange_hold(infer->base.x);
        md_oip_reply_error(infer->base.x, error);
    }
}

static void on_end(struct md_request *request, const struct md_error *error)
{
    struct md_oip_infer *infer = request->dialect;

    if (infer->is_late) {
        md_oip_trace_end(&infer->base, error ? md_oip_status(error) : 200, error);
        md_exchange_release(infer->base.x);
    } else if (error) {
        md_oip_infer_fail(infer, md_oip_placing_blame(&infer->base, error));
    } else if (infer->cancelled) {
        md_oip_infer_drop(infer);
    } else {
        md_oip_encode_step(infer);
    }
}

const struct md_responder md_oip_responder = {
    .response = on_response, .end = on_end, .late = on_late};
