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

/*
 * A head that requests of one connection share: most clients send the same block again and again,
 * and a block that neither uses a name nor a value for the first time says the same each time. One
 * thread.
 */
struct md_http2_head {
    size_t refs;
    struct md_str block; /* as it was sent */
    bool ends;           /* END_STREAM stood with it */
    struct md_http2_request request;
};

enum { MD_HTTP2_SHARED_BLOCK_MAX = 256 };

/* Whether a header block leaves the table as it is: then it means the same as long as no other
 * block changes that. */
bool md_http2_block_is_stable(struct md_str block);
/* A copy of the fields and what they say, with one reference; NULL without memory, or if they are
 * malformed. */
struct md_http2_head *md_http2_head_create(struct md_str block, bool ends,
                                           const struct md_http_header *fields, size_t count);
void md_http2_head_unref(struct md_http2_head *head); /* NULL is fine */

#endif
