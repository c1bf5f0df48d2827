/*
 * gRPC calls: exchanges of HTTP/2 whose content type is application/grpc ("gRPC over HTTP2",
 * grpc/doc/PROTOCOL-HTTP2.md).
 *
 * The session takes the framing off (length prefix, compression of messages, grpc-timeout), so a
 * handler sees messages. Unary methods answer on_request; methods with on_message are called for
 * each message, and with on_request when the client has half-closed. A call is answered by any
 * number of md_grpc_send and exactly one md_grpc_end, from any callback or later, and also after
 * on_cancel (then everything is dropped). on_cancel is called when the client has reset the stream
 * or gone, and when the deadline has passed: the client has its status by then. Everything on the
 * exchange's loop.
 *
 * A handler that answers a gRPC exchange with md_exchange_respond sends a plain HTTP response,
 * which clients translate (404: UNIMPLEMENTED).
 */
#ifndef MD_HTTP_GRPC_H
#define MD_HTTP_GRPC_H

#include "http/exchange.h"

/* Sends one message. The array of parts is not kept. The bytes are copied if they are few; else
 * they stay as they are until `sent(arg)`, which is called exactly once when they have left or
 * never will, maybe before this returns. sent NULL: they live as long as the exchange. */
void md_grpc_send(struct md_exchange *x, const struct iovec *parts, size_t part_count,
                  void (*sent)(void *arg), void *arg);

/* Bytes of messages that have not left yet: who produces many looks here. */
size_t md_grpc_unsent_bytes(const struct md_exchange *x);

/* A line of the trailers, before md_grpc_end; name in lower case, both live as long as the
 * exchange. Names that end in "-bin" hold bytes, which are sent as base64. */
void md_grpc_add_trailer(struct md_exchange *x, struct md_str name, struct md_str value);

/* The last call: the status, err NULL for OK. Its code is sent as it is, its text
 * percent-encoded, its reason as google.rpc.ErrorInfo in grpc-status-details-bin, where there may
 * be a google.rpc.RetryInfo too. */
void md_grpc_end(struct md_exchange *x, const struct md_error *err);

/* No on_message (and no on_request) until md_grpc_resume; what the client sends meanwhile waits in
 * its flow control window. */
void md_grpc_pause(struct md_exchange *x);
void md_grpc_resume(struct md_exchange *x);

#endif
