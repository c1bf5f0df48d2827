/*
 * TLS: certificate, key and rules of one or more listeners (OpenSSL 3).
 *
 * A context is made on the main thread before loops run, and outlives the listeners that use it.
 * The main thread reads the files again when they have changed or when it is told to; connections
 * that begin after that get the new ones, others live on with the old. What cannot be used is
 * refused with a sentence that names the file and says what to do, and the old ones stay.
 *
 * TLS 1.2 and 1.3 with forward secrecy and authenticated encryption alone, tickets for resumption
 * (their keys live as long as the certificate is used), no renegotiation, no compression, no early
 * data. Kernel TLS is not used.
 */
#ifndef MD_NET_TLS_H
#define MD_NET_TLS_H

#include "base/error.h"
#include "base/str.h"

struct md_tls_context;

enum md_tls_version { MD_TLS_1_2, MD_TLS_1_3 };

/* Texts are borrowed: they live as long as the context. */
struct md_tls_options {
    const char *name; /* for the log: "http" */
    const char
        *certificate_file;      /* PEM: the server's certificate, then those that lead to a root */
    const char *key_file;       /* PEM, without a passphrase */
    const char *client_ca_file; /* PEM: who signs clients' certificates, which are then demanded;
                                   NULL: clients need none */
    enum md_tls_version min_version;
    struct md_str protocols; /* for ALPN (RFC 7301), the best first, each behind its length */
};

/* Loads OpenSSL and reads the files. INVALID_ARGUMENT: what they hold cannot be used (not PEM, a
 * key that belongs to another certificate, expired, ...); NOT_FOUND, IO: a file or OpenSSL itself
 * cannot be read. */
bool md_tls_context_create(const struct md_tls_options *options, struct md_tls_context **out,
                           struct md_error *err) MD_MUST_CHECK;
void md_tls_context_destroy(struct md_tls_context *context); /* NULL is fine */

/* Reads the files again and logs what came of it. Main thread. */
void md_tls_context_reload(struct md_tls_context *context);
/* The same if the files have changed, and are at rest since the last look: two files are seldom
 * replaced at once. To be called about once a second. Main thread. */
void md_tls_context_look(struct md_tls_context *context);

#endif
