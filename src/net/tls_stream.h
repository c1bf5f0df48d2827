/*
 * TLS on one connection: plaintext on this side, the socket on the other; for conn.c.
 *
 * Owned by its connection, on that one's loop. It reads and writes the socket itself, and never
 * waits: what the socket does not take at once is kept (at most a record, and what a handshake
 * says) until md_tls_stream_flush. Received bytes are decrypted where OpenSSL has received them and
 * copied once, to where the caller wants them. An idle stream holds no buffers.
 */
#ifndef MD_NET_TLS_STREAM_H
#define MD_NET_TLS_STREAM_H

#include "net/conn.h"
#include "net/tls.h"

struct md_tls_stream;

/* NULL when out of memory. The descriptor stays the caller's. */
struct md_tls_stream *md_tls_stream_create(struct md_tls_context *context, int fd) MD_MUST_CHECK;
void md_tls_stream_destroy(struct md_tls_stream *stream);

/* To be called when something has arrived, until it no longer says AGAIN; nothing is received or
 * sent before it has said OK. EOF, ERROR: there will be no connection. A client that speaks plain
 * HTTP is told so. */
enum md_io md_tls_stream_handshake(struct md_tls_stream *stream, struct md_error *err);
/* As md_conn_recv and md_conn_send. */
enum md_io md_tls_stream_recv(struct md_tls_stream *stream, void *data, size_t len, size_t *count,
                              struct md_error *err);
enum md_io md_tls_stream_send(struct md_tls_stream *stream, const struct iovec *parts,
                              int part_count, size_t *count, struct md_error *err);
/* A further md_tls_stream_recv has something to say although the socket may be silent. */
bool md_tls_stream_has_more(const struct md_tls_stream *stream);
/* Bytes that wait for the socket to take more, and another try to hand them over: OK when there
 * are none any more. */
size_t md_tls_stream_unsent(const struct md_tls_stream *stream);
enum md_io md_tls_stream_flush(struct md_tls_stream *stream, struct md_error *err);
/* Tells the peer that nothing follows (close_notify); once. */
void md_tls_stream_end(struct md_tls_stream *stream);

#endif
