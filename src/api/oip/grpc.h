/*
 * The dialect over gRPC: which method is which handler, and how errors become statuses. What is
 * declared in proto/: inference.GRPCInferenceService, grpc.health.v1.Health and server reflection.
 *
 * Everything on the loop of the exchange.
 */
#ifndef MD_API_OIP_GRPC_H
#define MD_API_OIP_GRPC_H

#include "api/oip/oip.h"
#include "http/grpc.h"

/* Finds the handler of a gRPC call, also for methods that do not exist and for callers who may not
 * call it. Sets x->handler and x->route_data (oip). */
void md_oip_grpc_route(const struct md_oip *oip, struct md_exchange *x);

/* The status of an error, as the field maps them. */
enum md_code md_oip_grpc_code(const struct md_error *err);

/* Ends a call with an error, which is logged as REST's are. */
void md_oip_grpc_fail(struct md_exchange *x, const struct md_error *err);

#endif
