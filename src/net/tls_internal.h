/*
 * What a TLS context is made of; for tls.c (life, reload), tls_files.c (from files to a context of
 * OpenSSL) and tls_stream.c.
 */
#ifndef MD_NET_TLS_INTERNAL_H
#define MD_NET_TLS_INTERNAL_H

#include "net/openssl.h"
#include "net/tls.h"
#include "os/file.h"

#include <pthread.h>

enum { MD_TLS_FILES = 3 };

struct md_tls_context {
    struct md_tls_options options;
    BIO_METHOD *method; /* own */
    /* main thread */
    struct md_os_file_stamp used[MD_TLS_FILES]; /* the files when they were read last */
    struct md_os_file_stamp seen[MD_TLS_FILES]; /* when they were looked at last */
    /* shared, under the mutex */
    pthread_mutex_t mutex;
    SSL_CTX *current; /* own */
};

/* Reads and checks the files; *out then belongs to the caller. `expires` is the end of the
 * certificate, as text. */
enum { MD_TLS_DATE_MAX = 32 };
bool md_tls_files_load(const struct md_tls_options *options, SSL_CTX **out,
                       char expires[MD_TLS_DATE_MAX], struct md_error *err) MD_MUST_CHECK;

/* How OpenSSL reads and writes a connection; NULL when out of memory. To be freed. */
BIO_METHOD *md_tls_bio_method_create(void) MD_MUST_CHECK;

/* What new connections use; a reference that the caller drops with SSL_CTX_free. Any thread. */
SSL_CTX *md_tls_context_acquire(struct md_tls_context *context);

#endif
