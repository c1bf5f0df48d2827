/*
 * Session of HTTP/2: many exchanges on one connection.
 *
 * Begun by a session that has seen the preface; on the connection's loop for life. What is received
 * goes through http2_receive into calls (one a stream, session_http2_body.c), answers go into
 * http2_send (session_http2_reply.c, gRPC: session_grpc.c) and leave together at the end of the
 * loop's turn.
 */
#ifndef MD_HTTP_SESSION_HTTP2_H
#define MD_HTTP_SESSION_HTTP2_H

#include "http/session.h"

/* Takes over connection and read buffer, which begins with what followed the preface. On failure
 * the connection is closed and a warning logged. */
void md_session_http2_start(struct md_conn *conn, const struct md_http_config *config,
                            struct md_session_list *list, struct md_block *in, size_t in_at,
                            size_t in_end);

#endif
