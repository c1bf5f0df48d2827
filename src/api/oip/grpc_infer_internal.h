/*
 * One inference over gRPC: of a unary call (grpc_infer.c) or of a stream (grpc_infer_stream.c),
 * how its message is read (grpc_infer_read.c, typed contents: grpc_infer_contents.c) and its
 * responses are written (grpc_infer_encode.c). On the loop of its exchange.
 */
#ifndef MD_API_OIP_GRPC_INFER_INTERNAL_H
#define MD_API_OIP_GRPC_INFER_INTERNAL_H

#include "api/oip/inference.h"
#include "base/progress.h"
#include "codec/protobuf.h"

/* What is read of an input beside its tensor. */
struct md_oip_grpc_input {
    struct md_str message; /* InferInputTensor, of which the contents are read later */
    bool has_contents;
    struct md_region_place region;
};

/* Where the reader of typed contents stands. */
struct md_oip_grpc_contents {
    size_t input;                        /* which one */
    bool begun;                          /* it */
    struct md_pb_reader occurrence;      /* InferInputTensor: looks for contents */
    struct md_pb_reader fields;          /* InferTensorContents */
    struct md_pb_reader elements;        /* varints of one of its fields */
    const struct md_oip_grpc_kind *kind; /* of that field */
    const char *view;                    /* all there is yet lies there in the message */
    char *data;                          /* else here */
    size_t bytes, capacity;              /* more bytes than capacity: too many were sent */
    struct md_block *block;              /* of data, where it is counted as it fills */
    size_t counted;
};

enum md_oip_grpc_phase { MD_OIP_GRPC_READ, MD_OIP_GRPC_IN_FLIGHT, MD_OIP_GRPC_ENCODE };

struct md_oip_grpc_infer {
    enum md_oip_grpc_phase phase;
    bool cancelled;                    /* nobody wants the answer */
    bool is_late;                      /* it has its answer and still runs: its exchange is held */
    struct md_oip_grpc_stream *stream; /* NULL: a unary call */
    struct md_str message;             /* borrow: ModelInferRequest */
    struct md_loop_task task;          /* next slice */
    /* The request has ended: error NULL on success. */
    void (*ended)(struct md_oip_grpc_infer *infer, const struct md_error *error);
    /* The next slice of the answer. */
    void (*encode)(struct md_oip_grpc_infer *infer);

    /* reading */
    struct md_oip_grpc_input *inputs; /* beside base.request.inputs */
    struct md_oip_grpc_contents contents;
    bool wants_empty_final; /* triton_enable_empty_final_response */

    /* encoding one response */
    size_t output_at;
    struct md_oip_classes *classes;
    struct md_region_copy copy; /* of the output at output_at */
    struct iovec *parts;
    size_t part_count;

    struct md_oip_inference base; /* last: its request ends with an error that needs no zeroes */
};

/* An inference of the message, in memory of the arena that nobody has zeroed. `ended` and `encode`
 * are left to set. */
void md_oip_grpc_infer_init(struct md_oip_grpc_infer *infer, struct md_exchange *x,
                            struct md_arena *arena, struct md_str message);

/* Reads all but typed contents and makes the request ready; false: its error is set. */
bool md_oip_grpc_read(struct md_oip_grpc_infer *infer, const struct md_responder *responder)
    MD_MUST_CHECK;
/* Then reads the rest and submits, if that was true; `ended` is called in the end, maybe before
 * this returns. */
void md_oip_grpc_infer_run(struct md_oip_grpc_infer *infer, bool is_ready);
/* A slice of the typed contents. */
enum md_progress md_oip_grpc_read_contents(struct md_oip_grpc_infer *infer, struct md_error *err)
    MD_MUST_CHECK;

/* What a response of a stream says beside its tensors. */
enum md_oip_grpc_final { MD_OIP_GRPC_UNARY, MD_OIP_GRPC_MORE_FOLLOW, MD_OIP_GRPC_FINAL };

/* A slice of writing a ModelInferResponse, of streams a ModelStreamInferResponse. DONE: it is in
 * parts, in the response's memory. */
enum md_progress md_oip_grpc_encode(struct md_oip_grpc_infer *infer, struct md_response *response,
                                    enum md_oip_grpc_final final, struct md_error *err)
    MD_MUST_CHECK;

/* A ModelStreamInferResponse without tensors, in parts, which lie in the arena: an error, or the
 * empty final response (error NULL). */
void md_oip_grpc_encode_bare(struct md_oip_grpc_infer *infer, struct md_arena *arena,
                             const struct md_error *error, enum md_oip_grpc_final final);

#endif
