/*
 * Inference over gRPC: ModelInfer and ModelStreamInfer of inference.GRPCInferenceService, for the
 * table of methods. route_data of their exchanges is the struct md_oip.
 *
 * A request is decoded where it lies: raw tensors, and typed ones of floats, are views into the
 * message; what has to be converted is, in slices. An answer is a head and the outputs' own memory.
 */
#ifndef MD_API_OIP_GRPC_INFER_H
#define MD_API_OIP_GRPC_INFER_H

#include "http/exchange.h"

/* Unary. Models with a decoupled transaction policy are refused: UNIMPLEMENTED. */
extern const struct md_http_handler md_oip_grpc_infer_handler;

/* Bidirectional: each message is a request of its own. Answers of models that give one come in the
 * order of the requests, those of decoupled models as they come. An error is an answer; with the
 * metadata `triton_grpc_error: true` the first one ends the stream with its status. */
extern const struct md_http_handler md_oip_grpc_stream_infer_handler;

#endif
