/*
 * Reading the pieces of ModelInferRequest that all its parts have: fields, strings, parameters. For
 * grpc_infer_read.c; the reader lives on its stack. Errors are set in the reader's err.
 */
#ifndef MD_API_OIP_GRPC_READER_H
#define MD_API_OIP_GRPC_READER_H

#include "api/oip/grpc_infer_internal.h"

/* While the message is read. */
struct md_oip_grpc_reader {
    struct md_oip_grpc_infer *infer;
    size_t fields_left; /* that may come yet, unknown ones too */
    struct md_str *raw; /* raw_input_contents */
    size_t raw_count, input_count;
    struct md_error *err; /* borrow */
};

enum md_oip_grpc_choice { /* field numbers of InferParameter */
                          MD_OIP_GRPC_NONE = 0,
                          MD_OIP_GRPC_BOOL = 1,
                          MD_OIP_GRPC_INT64 = 2,
                          MD_OIP_GRPC_STRING = 3,
                          MD_OIP_GRPC_DOUBLE = 4,
                          MD_OIP_GRPC_UINT64 = 5,
};

struct md_oip_grpc_parameter {
    struct md_str name;
    enum md_oip_grpc_choice choice;
    uint64_t bits; /* of a number */
    struct md_str string;
};

void md_oip_grpc_reader_init(struct md_oip_grpc_reader *reader, struct md_oip_grpc_infer *infer,
                             struct md_error *err);

/* The next field, of so many; false at the end, and with err when something is wrong. `where` names
 * the message in a sentence. */
bool md_oip_grpc_next(struct md_oip_grpc_reader *reader, struct md_pb_reader *fields,
                      struct md_pb_field *field, const char *where) MD_MUST_CHECK;
bool md_oip_grpc_malformed(struct md_error *err, const char *where);

/* A text with a zero byte behind it, in the inference's arena. */
bool md_oip_grpc_copy_text(struct md_oip_grpc_reader *reader, struct md_str text,
                           struct md_str *out) MD_MUST_CHECK;

/* An entry of a map<string, InferParameter>. */
bool md_oip_grpc_read_parameter(struct md_oip_grpc_reader *reader, struct md_str message,
                                struct md_oip_grpc_parameter *out) MD_MUST_CHECK;
bool md_oip_grpc_invalid_type(struct md_error *err, struct md_str name, const char *expected);

/* Takes an entry of the request's own parameters. */
bool md_oip_grpc_take_parameter(struct md_oip_grpc_reader *reader, struct md_str entry)
    MD_MUST_CHECK;

/* A parameter of an input or output that says where it lies; fine if it is none. */
bool md_oip_grpc_take_region_parameter(struct md_oip_grpc_reader *reader,
                                       const struct md_oip_grpc_parameter *parameter,
                                       struct md_region_place *region) MD_MUST_CHECK;

#endif
