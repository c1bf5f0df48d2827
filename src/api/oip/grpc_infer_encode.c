/*
 * Writing ModelInferResponse. The head is written once into memory of sufficient size; the fields
 * of raw_output_contents follow it there, and between them the outputs' own memory is sent.
 */
#include "api/oip/classes.h"
#include "api/oip/grpc_infer_internal.h"
#include "api/oip/placing.h"

#include <limits.h>

enum {
    LENGTH_MAX = 5, /* bytes of a length */
    FIELD_MAX = 1 + LENGTH_MAX,
    FINAL_BYTES = 29, /* of the parameter below */
    WRAPPER_MAX = FIELD_MAX,
};

static size_t text_bytes(size_t len)
{
    return 1 + md_pb_varint_bytes(len) + len;
}

static char *put_text(char *at, unsigned number, struct md_str text)
{
    *at++ = (char)MD_PB_TAG(number, MD_PB_BYTES);
    at = md_pb_store_varint(at, text.len);
    if (text.len) {
        memcpy(at, text.ptr, text.len);
    }
    return at + text.len;
}

/* parameters: {"triton_final_response": {bool_param}} */
static char *put_final(char *at, bool is_final)
{
    static const char entry[] = "\x22\x1b\x0a\x15triton_final_response\x12\x02\x08";

    memcpy(at, entry, sizeof entry - 1);
    at[sizeof entry - 1] = (char)is_final;
    return at + sizeof entry;
}
_Static_assert(sizeof "\x22\x1b\x0a\x15triton_final_response\x12\x02\x08" == FINAL_BYTES,
               "the entry ends with its value");

/* What every response begins with. */
static char *put_names(const struct md_oip_grpc_infer *infer, char *at,
                       enum md_oip_grpc_final final)
{
    const struct md_target *target = infer->base.request.target;

    at = put_text(at, 1, target->model_name);
    at = put_text(at, 2, target->version_text);
    if (infer->base.request.id.len) {
        at = put_text(at, 3, infer->base.request.id);
    }
    return final == MD_OIP_GRPC_UNARY ? at : put_final(at, final == MD_OIP_GRPC_FINAL);
}

static size_t names_max(const struct md_oip_grpc_infer *infer)
{
    const struct md_target *target = infer->base.request.target;

    return 3 * FIELD_MAX + target->model_name.len + target->version_text.len +
           infer->base.request.id.len + FINAL_BYTES;
}

/* --- outputs -------------------- */

static size_t output_max(const struct md_tensor *tensor)
{
    enum { DTYPE_MAX = 8 };

    return 5 * FIELD_MAX + tensor->name.len + DTYPE_MAX + MD_PB_VARINT_MAX * tensor->rank;
}

static char *put_output(char *at, const struct md_tensor *tensor)
{
    const struct md_str dtype = md_str_of(md_dtype_name(tensor->dtype));
    size_t shape = 0;

    for (uint32_t i = 0; i < tensor->rank; i++) {
        shape += md_pb_varint_bytes((uint64_t)tensor->shape[i]);
    }
    *at++ = (char)MD_PB_TAG(5, MD_PB_BYTES);
    at = md_pb_store_varint(at, text_bytes(tensor->name.len) + text_bytes(dtype.len) +
                                    (shape ? text_bytes(shape) : 0));
    at = put_text(at, 1, tensor->name);
    at = put_text(at, 2, dtype);
    if (shape) {
        *at++ = (char)MD_PB_TAG(3, MD_PB_BYTES);
        at = md_pb_store_varint(at, shape);
        for (uint32_t i = 0; i < tensor->rank; i++) {
            at = md_pb_store_varint(at, (uint64_t)tensor->shape[i]);
        }
    }
    return at;
}

/* --- messages -------------------- */

/* Writes field 2 of ModelStreamInferResponse before the message that begins at `at`; returns where
 * it begins now. */
static char *wrap(char *at, size_t bytes)
{
    at -= 1 + md_pb_varint_bytes(bytes);
    *at = (char)MD_PB_TAG(2, MD_PB_BYTES);
    (void)md_pb_store_varint(at + 1, bytes);
    return at;
}

static bool no_memory(struct md_error *err)
{
    return md_error_no_memory(err, "the response");
}

/* Bytes of an output that go with the message: none of those in a region of the client. */
static size_t sent_bytes(const struct md_oip_grpc_infer *infer, const struct md_tensor *tensor)
{
    return md_oip_is_placed(&infer->base, tensor->name) ? 0 : tensor->bytes;
}

static bool write_message(struct md_oip_grpc_infer *infer, const struct md_response *response,
                          enum md_oip_grpc_final final, struct md_error *err)
{
    size_t max = WRAPPER_MAX + names_max(infer), bytes = 0;

    for (size_t i = 0; i < response->output_count; i++) {
        max += output_max(&response->outputs[i]);
        bytes += sent_bytes(infer, &response->outputs[i]);
    }
    char *memory = md_arena_alloc(response->arena, max);
    struct iovec *parts =
        md_arena_alloc(response->arena, (2 * response->output_count + 1) * sizeof *parts);
    if (!memory || !parts) {
        return no_memory(err);
    }
    char *begin = memory + WRAPPER_MAX, *at = put_names(infer, begin, final);
    for (size_t i = 0; i < response->output_count; i++) {
        at = put_output(at, &response->outputs[i]);
    }
    size_t count = 0;
    char *part = begin;
    for (size_t i = 0; i < response->output_count; i++) {
        const struct md_tensor *tensor = &response->outputs[i];
        const size_t sent = sent_bytes(infer, tensor);
        *at++ = (char)MD_PB_TAG(6, MD_PB_BYTES);
        at = md_pb_store_varint(at, sent);
        if (sent) {
            parts[count++] = (struct iovec){part, (size_t)(at - part)};
            parts[count++] = (struct iovec){(void *)(uintptr_t)tensor->data, sent};
            part = at;
        }
    }
    if (at > part) {
        parts[count++] = (struct iovec){part, (size_t)(at - part)};
    }
    bytes += (size_t)(at - begin);
    if (bytes > INT_MAX) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Response has byte size %zu which exceeds gRPC's byte size limit %d.",
                            bytes, INT_MAX);
    }
    if (final != MD_OIP_GRPC_UNARY) {
        begin = wrap(begin, bytes);
        parts[0].iov_len += (size_t)((char *)parts[0].iov_base - begin);
        parts[0].iov_base = begin;
    }
    infer->parts = parts;
    infer->part_count = count;
    return true;
}

/* Turns outputs into classes, and puts them into regions, where that is wanted. */
static enum md_progress settle(struct md_oip_grpc_infer *infer, struct md_response *response,
                               struct md_error *err)
{
    const bool has_wishes = infer->base.output_count || infer->base.regions.first;

    while (infer->output_at < response->output_count && has_wishes) {
        struct md_tensor *output = &response->outputs[infer->output_at];
        enum md_progress progress = md_oip_classify(&infer->base, output, &infer->classes, err);
        if (progress == MD_PROGRESS_DONE) {
            progress = md_oip_place_result(&infer->base, output, true, &infer->copy, err);
        }
        if (progress != MD_PROGRESS_DONE) {
            return progress;
        }
        infer->output_at++;
    }
    return MD_PROGRESS_DONE;
}

enum md_progress md_oip_grpc_encode(struct md_oip_grpc_infer *infer, struct md_response *response,
                                    enum md_oip_grpc_final final, struct md_error *err)
{
    struct md_arena *own = infer->base.arena;

    infer->base.arena = response->arena; /* a streamed response's memory goes with it */
    enum md_progress progress = settle(infer, response, err);
    if (progress == MD_PROGRESS_DONE && (!md_region_uses_check(&infer->base.regions, err) ||
                                         !write_message(infer, response, final, err))) {
        progress = MD_PROGRESS_ERROR;
    }
    infer->base.arena = own;
    if (progress != MD_PROGRESS_AGAIN) {
        infer->classes = NULL;
        infer->copy = (struct md_region_copy){0};
        infer->output_at = 0;
    }
    return progress;
}

void md_oip_grpc_encode_bare(struct md_oip_grpc_infer *infer, struct md_arena *arena,
                             const struct md_error *error, enum md_oip_grpc_final final)
{
    static char no_memory_text[] = "\x0a\x0dout of memory\x12";
    static struct iovec no_memory_part = {no_memory_text, sizeof no_memory_text};
    const struct md_request *request = &infer->base.request;
    const struct md_str text = md_str_of(error ? error->text : "");
    struct iovec *part = md_arena_alloc(arena, sizeof *part);
    char *memory = md_arena_alloc(
        arena, text_bytes(text.len) + WRAPPER_MAX +
                   (error ? text_bytes(request->id.len) + FINAL_BYTES : names_max(infer)));

    infer->parts = &no_memory_part;
    infer->part_count = 1;
    if (!part || !memory) {
        return;
    }
    char *begin = memory + text_bytes(text.len) + WRAPPER_MAX, *at = begin;
    if (!error) {
        at = put_names(infer, at, final);
    } else {
        if (request->id.len) {
            at = put_text(at, 3, request->id);
        }
        at = put_final(at, final == MD_OIP_GRPC_FINAL);
    }
    begin = wrap(begin, (size_t)(at - begin));
    if (error) {
        begin -= text_bytes(text.len);
        (void)put_text(begin, 1, text);
    }
    *part = (struct iovec){begin, (size_t)(at - begin)};
    infer->parts = part;
}
