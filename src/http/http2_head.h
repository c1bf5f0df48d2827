/*
 * The head of an HTTP/2 request: what its fields say (RFC 9113 8). Views into the fields; any
 * thread.
 */
#ifndef MD_HTTP_HTTP2_HEAD_H
#define MD_HTTP_HTTP2_HEAD_H

#include "http/exchange.h"

struct md_http2_request {
    struct md_http_head head; /* content_length -1: not said */
    bool expects_continue;
    bool is_grpc; /* POST of application/grpc */
    bool is_preflight;
    struct md_str content_encoding, accept_encoding, origin;         /* empty: none */
    struct md_str grpc_encoding, grpc_accept_encoding, grpc_timeout; /* empty: none */
};

/* Reads the fields, as they were sent: pseudo-header fields first, names in lower case, nothing of
 * HTTP/1's connections. False: the request is malformed (8.1.1). */
bool md_http2_parse_head(const struct md_http_header *fields, size_t count, bool ends,
                         struct md_http2_request *out) MD_MUST_CHECK;

/* Whether fields may stand after a body. */
bool md_http2_check_trailers(const struct md_http_header *fields, size_t count) MD_MUST_CHECK;

#endif
