/*
 * The other end of a TLS connection: certificates made in memory, and OpenSSL as client on a
 * non-blocking socket.
 */
#ifndef TESTS_UNIT_NET_TLS_PEER_H
#define TESTS_UNIT_NET_TLS_PEER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- files -------------------- */

struct tls_files {
    char folder[32];
    char certificate[64], key[64];
};

static inline X509 *tls_certificate(EVP_PKEY *key, const char *name)
{
    X509 *x = X509_new();

    assert_non_null(x);
    assert_int_equal(X509_set_version(x, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(x), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 24 * 60 * 60));
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                                (const unsigned char *)name, -1, -1, 0),
                     1);
    assert_int_equal(X509_set_issuer_name(x, X509_get_subject_name(x)), 1);
    assert_int_equal(X509_set_pubkey(x, key), 1);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

/* A certificate for `name` and its key, over those that are there. */
static inline void tls_files_write(const struct tls_files *files, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = tls_certificate(key, name);
    FILE *out = fopen(files->certificate, "w");

    assert_true(out && PEM_write_X509(out, x) && fclose(out) == 0);
    out = fopen(files->key, "w");
    assert_true(out && PEM_write_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL));
    assert_int_equal(fclose(out), 0);
    X509_free(x);
    EVP_PKEY_free(key);
}

static inline void tls_files_init(struct tls_files *files)
{
    (void)snprintf(files->folder, sizeof files->folder, "/tmp/modeld-tls-XXXXXX");
    assert_non_null(mkdtemp(files->folder));
    (void)snprintf(files->certificate, sizeof files->certificate, "%s/cert.pem", files->folder);
    (void)snprintf(files->key, sizeof files->key, "%s/key.pem", files->folder);
    tls_files_write(files, "first");
}

static inline void tls_files_deinit(const struct tls_files *files)
{
    (void)unlink(files->certificate);
    (void)unlink(files->key);
    (void)rmdir(files->folder);
}

/* --- client -------------------- */

struct tls_peer {
    SSL_CTX *rules;
    SSL *ssl;
    int fd;
    bool ended;  /* close_notify has come */
    bool broken; /* there will be nothing more */
};

static inline void tls_peer_open(struct tls_peer *peer, int fd)
{
    *peer = (struct tls_peer){.rules = SSL_CTX_new(TLS_client_method()), .fd = fd};
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    peer->ssl = SSL_new(peer->rules);
    assert_non_null(peer->ssl);
    assert_int_equal(SSL_set_fd(peer->ssl, fd), 1);
    SSL_set_connect_state(peer->ssl);
}

static inline size_t tls_peer_outcome(struct tls_peer *peer, int result, size_t count)
{
    int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(peer->ssl, result);

    peer->ended |= error == SSL_ERROR_ZERO_RETURN;
    peer->broken |= error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL;
    return result == 1 ? count : 0;
}

/* As much as goes; 0: nothing now. */
static inline size_t tls_peer_write(struct tls_peer *peer, const void *data, size_t len)
{
    size_t count = 0;

    ERR_clear_error();
    SSL_set_mode(peer->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
    int result = SSL_write_ex(peer->ssl, data, len, &count);
    return tls_peer_outcome(peer, result, count);
}

/* At most one record. */
static inline size_t tls_peer_read(struct tls_peer *peer, void *data, size_t len)
{
    size_t count = 0;

    ERR_clear_error();
    int result = SSL_read_ex(peer->ssl, data, len, &count);
    return tls_peer_outcome(peer, result, count);
}

static inline void tls_peer_close(struct tls_peer *peer)
{
    SSL_free(peer->ssl);
    SSL_CTX_free(peer->rules);
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    *peer = (struct tls_peer){.fd = -1};
}

#endif
