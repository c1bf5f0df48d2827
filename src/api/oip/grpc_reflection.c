/*
 * Server reflection, v1 and v1alpha: each message of the client is one question, answered from the
 * descriptors of proto/. What is not found is an answer, too; only a message without a question
 * ends the stream.
 */
#include "api/oip/grpc.h"
#include "api/oip/grpc_calls.h"
#include "api/oip/proto_files.h"
#include "base/alloc.h"
#include "codec/descriptors.h"
#include "codec/protobuf.h"

enum {
    REQUEST_MAX = 64 * 1024,
    UNSENT_MAX = 1 << 20, /* for who asks and does not read */
    FILES_MAX = 16,
};

/* Fields of ServerReflectionRequest and ServerReflectionResponse. */
enum {
    HOST = 1,
    FILE_BY_FILENAME = 3,
    FILE_CONTAINING_SYMBOL = 4,
    FILE_CONTAINING_EXTENSION = 5,
    ALL_EXTENSION_NUMBERS_OF_TYPE = 6,
    LIST_SERVICES = 7,

    VALID_HOST = 1,
    ORIGINAL_REQUEST = 2,
    FILE_DESCRIPTOR_RESPONSE = 4,
    ALL_EXTENSION_NUMBERS_RESPONSE = 5,
    LIST_SERVICES_RESPONSE = 6,
    ERROR_RESPONSE = 7,
};

struct question {
    uint32_t kind; /* one of the fields; 0: none */
    struct md_str text, host;
};

static bool read_question(struct md_str message, struct question *out, struct md_error *err)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    *out = (struct question){.text = MD_STR(""), .host = MD_STR("")};
    while (md_pb_next(&reader, &field)) {
        const uint32_t number = field.tag >> 3;
        if (field.tag == MD_PB_TAG(HOST, MD_PB_BYTES)) {
            out->host = field.bytes;
        } else if (field.tag == MD_PB_TAG(number, MD_PB_BYTES) && number >= FILE_BY_FILENAME &&
                   number <= LIST_SERVICES) {
            out->kind = number;
            out->text = field.bytes;
        }
    }
    if (reader.failed) {
        return md_oip_unary_malformed(err);
    }
    return out->kind || md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                     "the message is a ServerReflectionRequest without a question");
}

static void put_not_found(struct md_bytes *out, const char *what, struct md_str name)
{
    size_t begin = md_pb_begin(out, ERROR_RESPONSE);

    md_pb_put_varint(out, 1, MD_CODE_NOT_FOUND);
    size_t text = md_pb_begin(out, 2);
    md_bytes_printf(out, "%s '%.*s' is not known", what, MD_STR_ARG(name));
    md_pb_end(out, text);
    md_pb_end(out, begin);
}

static void put_file(struct md_bytes *out, struct md_str file)
{
    struct md_str files[FILES_MAX];
    size_t count = md_descriptors_with_imports(md_proto_files, file, files, FILES_MAX);
    size_t begin = md_pb_begin(out, FILE_DESCRIPTOR_RESPONSE);

    for (size_t i = 0; i < count; i++) {
        md_pb_put_bytes(out, 1, files[i]);
    }
    md_pb_end(out, begin);
}

static void put_service(void *arg, struct md_str package, struct md_str name)
{
    struct md_bytes *out = arg;
    size_t begin = md_pb_begin(out, 1);
    size_t text = md_pb_begin(out, 1);

    md_bytes_printf(out, "%.*s.%.*s", MD_STR_ARG(package), MD_STR_ARG(name));
    md_pb_end(out, text);
    md_pb_end(out, begin);
}

static void put_answer(struct md_bytes *out, const struct question *q)
{
    struct md_str file = {0};
    enum md_symbol symbol;
    size_t begin;

    switch (q->kind) {
    case FILE_BY_FILENAME:
        file = md_descriptors_find_file(md_proto_files, q->text);
        if (file.ptr) {
            put_file(out, file);
        } else {
            put_not_found(out, "the file", q->text);
        }
        break;
    case FILE_CONTAINING_SYMBOL:
        if (md_descriptors_find_symbol(md_proto_files, q->text, &file)) {
            put_file(out, file);
        } else {
            put_not_found(out, "the symbol", q->text);
        }
        break;
    case FILE_CONTAINING_EXTENSION: /* proto3 has none */
        put_not_found(out, "the extension", MD_STR(""));
        break;
    case ALL_EXTENSION_NUMBERS_OF_TYPE:
        symbol = md_descriptors_find_symbol(md_proto_files, q->text, &file);
        if (symbol == MD_SYMBOL_MESSAGE) {
            begin = md_pb_begin(out, ALL_EXTENSION_NUMBERS_RESPONSE);
            md_pb_put_bytes(out, 1, q->text);
            md_pb_end(out, begin);
        } else {
            put_not_found(out, "the message type", q->text);
        }
        break;
    default:
        begin = md_pb_begin(out, LIST_SERVICES_RESPONSE);
        md_descriptors_each_service(md_proto_files, put_service, out);
        md_pb_end(out, begin);
        break;
    }
}

static void on_head(struct md_exchange *x)
{
    x->body_max = md_size_min(x->body_max, REQUEST_MAX);
}

static void on_message(struct md_exchange *x)
{
    struct question q;
    struct md_bytes out = {0};
    struct md_error err;

    if (!read_question(x->body, &q, &err)) {
        md_oip_grpc_fail(x, &err);
        return;
    }
    if (md_grpc_unsent_bytes(x) > UNSENT_MAX) {
        (void)md_error_set(&err, MD_REASON_TOO_LARGE,
                           "too many answers are waiting: read them before asking more");
        md_oip_grpc_fail(x, &err);
        return;
    }
    md_pb_put_bytes(&out, VALID_HOST, q.host);
    md_pb_put_bytes(&out, ORIGINAL_REQUEST, x->body);
    put_answer(&out, &q);
    if (out.failed) {
        md_bytes_deinit(&out);
        (void)md_error_no_memory(&err, "the response");
        md_oip_grpc_fail(x, &err);
        return;
    }
    const struct iovec part = {out.data, out.len};
    md_grpc_send(x, &part, 1, md_free, out.data);
}

static void on_request(struct md_exchange *x)
{
    md_grpc_end(x, NULL);
}

static void on_cancel(struct md_exchange *x)
{
    md_grpc_end(x, NULL); /* to nobody */
}

const struct md_http_handler md_oip_grpc_reflection_handler = {
    .on_head = on_head, .on_message = on_message, .on_request = on_request, .on_cancel = on_cancel};
