/*
 * Inference over REST: from the head to the submission (infer.c), the document of the request
 * (infer_read.c), the answer (infer_encode.c). On the loop of the exchange.
 */
#ifndef MD_API_OIP_INFER_H
#define MD_API_OIP_INFER_H

#include "api/oip/inference.h"
#include "base/chain.h"
#include "codec/json.h"
#include "codec/tensor_json.h"

#define MD_OIP_LENGTH_HEADER "Inference-Header-Content-Length"

/* Keys of the request's objects. */
enum md_oip_key {
    MD_OIP_KEY_ID,
    MD_OIP_KEY_INPUTS,
    MD_OIP_KEY_OUTPUTS,
    MD_OIP_KEY_PARAMETERS,
    MD_OIP_KEY_NAME,
    MD_OIP_KEY_DATATYPE,
    MD_OIP_KEY_SHAPE,
    MD_OIP_KEY_DATA,
};

/* An input while it is read. */
struct md_oip_input {
    struct md_tensor tensor;
    bool has_name, has_dtype, has_shape, has_data, has_binary_size;
    size_t binary_size;
    struct md_region_place region;
    const char *data_at; /* `data` came before what it needs: read when the object ends */
    unsigned keys;       /* that were read, a bit each */
};

enum md_oip_phase { MD_OIP_DECODE_JSON, MD_OIP_DECODE_TENSOR, MD_OIP_IN_FLIGHT, MD_OIP_ENCODE };

/* One inference; in the exchange's arena. */
struct md_oip_infer {
    struct md_oip_inference base;
    struct md_loop_task task; /* next slice */
    enum md_oip_phase phase;
    bool cancelled;
    bool is_late; /* the client has its answer, the request still runs: the exchange is held */

    /* decoding */
    struct md_json json;
    size_t json_bytes; /* of the body; the rest is binary */
    bool raw;          /* the body is one tensor */
    unsigned place;    /* where in the document, see infer_read.c */
    unsigned keys;     /* of the document that were read, a bit each */
    struct md_oip_input *inputs;
    size_t input_count, input_capacity;
    bool binary_output; /* default for outputs that are not listed */
    struct md_tensor_reader reader;
    struct md_bytes strings;       /* of all BYTES inputs; borrows its memory */
    struct md_block *string_block; /* that memory, if it is not the arena's */
    struct md_json tensor_json;    /* position of the data that is read */
    bool reads_late;               /* of data_at */

    /* encoding */
    const struct md_response *response;
    size_t output_at;
    struct md_oip_classes *classes; /* of this output, while they are sought */
    struct md_tensor_writer writer;
    bool writes;
    struct md_region_copy copy; /* of this output, into or out of a region */
    struct md_chain document;   /* the JSON */
};

extern const struct md_http_handler md_oip_infer_handler;
extern const struct md_responder md_oip_responder;

/* Reads on for a slice. DONE: inputs, outputs and parameters are complete, but for binary data.
 * ERROR: infer->json.error. */
enum md_progress md_oip_read_step(struct md_oip_infer *infer) MD_MUST_CHECK;

/* Sets infer->json.error (INVALID_ARGUMENT) unless there is one already; returns false. */
bool md_oip_fail(struct md_oip_infer *infer, const char *format, ...) MD_PRINTF(2, 3);

/* Aligned memory of the exchange for a tensor; NULL with infer->json.error. */
char *md_oip_tensor_memory(struct md_oip_infer *infer, size_t bytes) MD_MUST_CHECK;

/* Answers with an error. */
void md_oip_infer_fail(struct md_oip_infer *infer, const struct md_error *err);
/* Answers nobody: the client has gone. */
void md_oip_infer_drop(struct md_oip_infer *infer);

/* The next slice of the answer to infer->response; the last one answers. */
void md_oip_encode_step(struct md_oip_infer *infer);

#endif
