/*
 * What gRPC puts on HTTP/2 beside messages (grpc/doc/PROTOCOL-HTTP2.md): prefixes, time limits,
 * status. No state; any thread.
 */
#ifndef MD_HTTP_GRPC_FRAME_H
#define MD_HTTP_GRPC_FRAME_H

#include "base/bytes.h"
#include "base/error.h"

enum { MD_GRPC_PREFIX_BYTES = 5 }; /* before each message: a flag and its length */

/* "20S", "1500m": at most eight digits and a unit (H, M, S, m, u, n). */
bool md_grpc_parse_timeout(struct md_str text, uint64_t *timeout_ns) MD_MUST_CHECK;

/* The fields of a status as part of a header block: grpc-status, and of an error grpc-message,
 * percent-encoded, and grpc-status-details-bin with its reason (google.rpc.ErrorInfo) and, where
 * md_error_retry_after_s says so, when to try again (google.rpc.RetryInfo). err NULL: OK. */
void md_grpc_put_status(struct md_bytes *block, const struct md_error *err);

#endif
