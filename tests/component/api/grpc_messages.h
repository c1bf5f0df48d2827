/*
 * ModelInferRequest written and ModelInferResponse read as text, for tests of inference over gRPC.
 */
#ifndef TESTS_COMPONENT_API_GRPC_MESSAGES_H
#define TESTS_COMPONENT_API_GRPC_MESSAGES_H

#include "base/dtype.h"
#include "codec/protobuf.h"

#include <stdlib.h>

/* Values with a zero byte inside. */
#define RAW(literal) ((struct md_str){literal, sizeof(literal) - 1})

/* --- requests -------------------- */

/* Value of a parameter: the field of the oneof, and what it holds. */
struct choice {
    uint32_t number; /* 0: nothing is chosen */
    uint64_t bits;
    struct md_str string;
};

#define BOOL_PARAM(value)   ((struct choice){1, (value), {"", 0}})
#define INT64_PARAM(value)  ((struct choice){2, (uint64_t)(value), {"", 0}})
#define STRING_PARAM(text)  ((struct choice){3, 0, {text, sizeof(text) - 1}})
#define DOUBLE_PARAM(value) ((struct choice){4, (value), {"", 0}}) /* its bits */
#define UINT64_PARAM(value) ((struct choice){5, (value), {"", 0}})
#define NO_PARAM            ((struct choice){0, 0, {"", 0}})

/* An entry of the map that is field `number`. */
static inline void put_parameter(struct md_bytes *out, uint32_t number, const char *name,
                                 struct choice choice)
{
    size_t entry = md_pb_begin(out, number);

    md_pb_put_bytes(out, 1, md_str_of(name));
    size_t value = md_pb_begin(out, 2);
    if (choice.number == 3) {
        md_pb_put_bytes(out, 3, choice.string);
    } else if (choice.number == 4) {
        md_pb_put_fixed64(out, 4, choice.bits);
    } else if (choice.number) {
        md_pb_put_varint(out, choice.number, choice.bits);
    }
    md_pb_end(out, value);
    md_pb_end(out, entry);
}

static inline void put_model(struct md_bytes *out, const char *name, const char *id)
{
    md_pb_put_bytes(out, 1, md_str_of(name));
    if (*id) {
        md_pb_put_bytes(out, 3, md_str_of(id));
    }
}

/* An input of one dimension (count < 0: of none); more can be put before md_pb_end. */
static inline size_t begin_tensor(struct md_bytes *out, const char *name, const char *dtype,
                                  int64_t count)
{
    size_t input = md_pb_begin(out, 5);

    md_pb_put_bytes(out, 1, md_str_of(name));
    md_pb_put_bytes(out, 2, md_str_of(dtype));
    md_pb_put_packed(out, 3, &count, count >= 0);
    return input;
}

static inline void put_tensor(struct md_bytes *out, const char *name, const char *dtype,
                              int64_t count)
{
    md_pb_end(out, begin_tensor(out, name, dtype, count));
}

static inline void put_raw(struct md_bytes *out, struct md_str bytes)
{
    md_pb_put_bytes(out, 7, bytes);
}

/* {model, id, INPUT0 of `count` elements, raw} */
static inline void put_request(struct md_bytes *out, const char *model, const char *id,
                               const char *dtype, int64_t count, struct md_str raw)
{
    put_model(out, model, id);
    put_tensor(out, "INPUT0", dtype, count);
    put_raw(out, raw);
}

/* --- responses -------------------- */

static inline void print_hex(struct md_bytes *out, struct md_str bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        md_bytes_printf(out, "%02x", (unsigned char)bytes.ptr[i]);
    }
}

static inline void print_final(struct md_bytes *out, struct md_str entry)
{
    struct md_pb_reader reader = md_pb_reader_of(entry);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            md_bytes_append_char(out, ' ');
            md_bytes_append_str(out, field.bytes);
        } else {
            struct md_pb_reader value = md_pb_reader_of(field.bytes);
            if (!md_pb_next(&value, &field) || field.tag != MD_PB_TAG(1, MD_PB_VARINT)) {
                abort();
            }
            md_bytes_append_c(out, field.value ? "=true" : "=false");
        }
    }
}

static inline void print_output(struct md_bytes *out, struct md_str message)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;
    uint64_t dimension;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(3, MD_PB_BYTES)) {
            struct md_pb_reader shape = md_pb_reader_of(field.bytes);
            while (md_pb_next_varint(&shape, &dimension)) {
                md_bytes_printf(out, "[%llu]", (unsigned long long)dimension);
            }
        } else {
            md_bytes_append_char(out, ' ');
            md_bytes_append_str(out, field.bytes);
        }
    }
}

/* "fp32 1 id=x triton_final_response=true OUTPUT0 FP32[1] raw=0000803f" */
static inline void print_response(struct md_bytes *out, struct md_str message)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        switch (field.tag) {
        case MD_PB_TAG(1, MD_PB_BYTES):
            md_bytes_append_str(out, field.bytes);
            break;
        case MD_PB_TAG(2, MD_PB_BYTES):
            md_bytes_append_char(out, ' ');
            md_bytes_append_str(out, field.bytes);
            break;
        case MD_PB_TAG(3, MD_PB_BYTES):
            md_bytes_append_c(out, " id=");
            md_bytes_append_str(out, field.bytes);
            break;
        case MD_PB_TAG(4, MD_PB_BYTES):
            print_final(out, field.bytes);
            break;
        case MD_PB_TAG(5, MD_PB_BYTES):
            print_output(out, field.bytes);
            break;
        case MD_PB_TAG(6, MD_PB_BYTES):
            md_bytes_append_c(out, " raw=");
            print_hex(out, field.bytes);
            break;
        default:
            abort();
        }
    }
    if (reader.failed) {
        abort();
    }
}

/* A ModelStreamInferResponse: "error='...' ..." */
static inline void print_stream_response(struct md_bytes *out, struct md_str message)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(1, MD_PB_BYTES)) {
            md_bytes_append_c(out, "error='");
            md_bytes_append_str(out, field.bytes);
            md_bytes_append_c(out, "'");
        } else {
            print_response(out, field.bytes);
        }
    }
    if (reader.failed) {
        abort();
    }
}

#endif
