/*
 * Access: who may call what. One answer for all dialects.
 *
 * Built once from the options and immutable from then on; any thread. Both questions are asked when
 * the head of a request is there, before anything of its body is received; they see the exchange
 * and what the dialect's table says of the call, nothing more.
 *
 * The peer's address is never asked: behind a proxy or a sidecar every caller comes from loopback.
 */
#ifndef MD_API_ACCESS_ACCESS_H
#define MD_API_ACCESS_ACCESS_H

#include "config/api_restriction.h"
#include "http/exchange.h"

enum md_access_protocol { MD_ACCESS_HTTP, MD_ACCESS_GRPC, MD_ACCESS_PROTOCOL_COUNT };

struct md_access;

/* From --http-restricted-api, --grpc-restricted-protocol, --management and its key file. Lives in
 * the arena, as the options do, to which it refers. Errors: a file that cannot be read or holds no
 * key. */
bool md_access_create(const struct md_options *options, struct md_arena *arena,
                      const struct md_access **out, struct md_error *err) MD_MUST_CHECK;

/* False: RESTRICTED with the field's sentence (over gRPC with its code, UNAVAILABLE). */
bool md_access_allows(const struct md_access *access, enum md_api_group group,
                      enum md_access_protocol protocol, const struct md_exchange *x,
                      struct md_error *err) MD_MUST_CHECK;

/* Whether the caller may change the server (load, labels, drain, settings). False: RESTRICTED with
 * a sentence that names the options that open it. */
bool md_access_may_manage(const struct md_access *access, const struct md_exchange *x,
                          struct md_error *err) MD_MUST_CHECK;

#endif
