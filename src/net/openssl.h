/*
 * OpenSSL 3, loaded when TLS is first asked for: a server without TLS neither needs the library nor
 * pays for it (1.8 MiB of resident memory, 2 to 3 ms at start).
 *
 * Loaded once by the main thread before loops run, never unloaded; then immutable, any thread.
 * Functions are called as md_openssl.SSL_new(...). Macros of its headers that call functions cannot
 * be used, since those are not linked; the constants and types can.
 */
#ifndef MD_NET_OPENSSL_H
#define MD_NET_OPENSSL_H

#include "base/error.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define MD_OPENSSL_LIST(X)            \
    X(ASN1_TIME_to_tm)                \
    X(BIO_clear_flags)                \
    X(BIO_free)                       \
    X(BIO_get_data)                   \
    X(BIO_meth_free)                  \
    X(BIO_meth_new)                   \
    X(BIO_meth_set_ctrl)              \
    X(BIO_meth_set_read_ex)           \
    X(BIO_meth_set_write_ex)          \
    X(BIO_new)                        \
    X(BIO_new_mem_buf)                \
    X(BIO_set_data)                   \
    X(BIO_set_flags)                  \
    X(BIO_set_init)                   \
    X(ERR_clear_error)                \
    X(ERR_peek_last_error)            \
    X(ERR_reason_error_string)        \
    X(EVP_PKEY_free)                  \
    X(OPENSSL_cleanse)                \
    X(OPENSSL_init_ssl)               \
    X(PEM_read_bio_PrivateKey)        \
    X(PEM_read_bio_X509)              \
    X(SSL_CTX_add_client_CA)          \
    X(SSL_CTX_check_private_key)      \
    X(SSL_CTX_ctrl)                   \
    X(SSL_CTX_free)                   \
    X(SSL_CTX_get0_certificate)       \
    X(SSL_CTX_get_cert_store)         \
    X(SSL_CTX_new)                    \
    X(SSL_CTX_set_alpn_select_cb)     \
    X(SSL_CTX_set_cipher_list)        \
    X(SSL_CTX_set_ciphersuites)       \
    X(SSL_CTX_set_options)            \
    X(SSL_CTX_set_session_id_context) \
    X(SSL_CTX_set_timeout)            \
    X(SSL_CTX_set_verify)             \
    X(SSL_CTX_up_ref)                 \
    X(SSL_CTX_use_PrivateKey)         \
    X(SSL_CTX_use_certificate)        \
    X(SSL_do_handshake)               \
    X(SSL_free)                       \
    X(SSL_get_error)                  \
    X(SSL_has_pending)                \
    X(SSL_new)                        \
    X(SSL_read_ex)                    \
    X(SSL_select_next_proto)          \
    X(SSL_set_accept_state)           \
    X(SSL_set_bio)                    \
    X(SSL_shutdown)                   \
    X(SSL_write_ex)                   \
    X(TLS_server_method)              \
    X(X509_STORE_add_cert)            \
    X(X509_cmp_time)                  \
    X(X509_free)                      \
    X(X509_get0_notAfter)             \
    X(X509_get0_notBefore)

struct md_openssl {
#define MD_OPENSSL_FIELD(function) __typeof__(function) *function;
    MD_OPENSSL_LIST(MD_OPENSSL_FIELD)
#undef MD_OPENSSL_FIELD
};

extern struct md_openssl md_openssl;

/* Loads and initialises it; true at once the second time. Main thread. IO: the library is missing
 * or too old; the sentence says what to install. Its own configuration file is not read: what this
 * server does follows from its options alone. */
bool md_openssl_load(struct md_error *err) MD_MUST_CHECK;

#endif
