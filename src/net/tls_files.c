/*
 * From certificate files to a context of OpenSSL. Files are read through os/file and parsed from
 * memory; keys are wiped there when that is done.
 */
#include "base/clock.h"
#include "net/tls_internal.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { FILE_MAX = 4 << 20, TICKET_SECONDS = 2 * 60 * 60 };

/* One set of files on its way into a context. */
struct loading {
    const struct md_tls_options *options;
    SSL_CTX *ssl; /* own until all is well */
    struct md_arena arena;
    struct md_error *err;
};

/* OpenSSL's own words for the last thing that failed. */
static const char *why(void)
{
    const char *reason = md_openssl.ERR_reason_error_string(md_openssl.ERR_peek_last_error());

    return reason ? reason : "unknown error";
}

static bool is_no_start_line(void)
{
    unsigned long error = md_openssl.ERR_peek_last_error();

    return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

static bool refuse(const struct loading *l, const char *path, const char *sentence)
{
    return md_error_set(l->err, MD_REASON_INVALID_ARGUMENT, "%s %s (%s)", path, sentence, why());
}

/* The file as a source of PEM; to be freed. NULL: err says why. */
static BIO *open_file(struct loading *l, const char *path, struct md_str *text)
{
    if (!md_os_file_read(path, FILE_MAX, &l->arena, text, l->err)) {
        return NULL;
    }
    BIO *bio = md_openssl.BIO_new_mem_buf(text->ptr, (int)text->len);
    if (!bio) {
        md_error_no_memory(l->err, path);
    }
    return bio;
}

/* Hands each certificate of a file to `take`, which does not keep its own reference. At least one
 * is demanded. */
static bool each_certificate(struct loading *l, const char *path,
                             bool (*take)(struct loading *l, size_t index, X509 *certificate))
{
    struct md_str text;
    size_t count = 0;
    bool ok = true;
    BIO *bio = open_file(l, path, &text);

    if (!bio) {
        return false;
    }
    while (ok) {
        md_openssl.ERR_clear_error();
        X509 *certificate = md_openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL);
        if (!certificate) {
            break;
        }
        ok = take(l, count++, certificate);
        md_openssl.X509_free(certificate);
    }
    if (ok && !(count && is_no_start_line())) {
        ok = refuse(l, path,
                    count ? "holds a certificate that cannot be read, after others that can"
                          : "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
    }
    md_openssl.BIO_free(bio);
    return ok;
}

/* --- certificate -------------------- */

static void print_date(const ASN1_TIME *time, char out[MD_TLS_DATE_MAX])
{
    struct tm parts;

    if (!md_openssl.ASN1_TIME_to_tm(time, &parts) ||
        !strftime(out, MD_TLS_DATE_MAX, "%Y-%m-%d %H:%M:%S UTC", &parts)) {
        (void)snprintf(out, MD_TLS_DATE_MAX, "an unknown date");
    }
}

static bool check_dates(const struct loading *l, const X509 *certificate)
{
    const ASN1_TIME *begin = md_openssl.X509_get0_notBefore(certificate);
    const ASN1_TIME *end = md_openssl.X509_get0_notAfter(certificate);
    time_t now = (time_t)(md_clock_realtime_ns() / MD_NS_PER_S);
    const char *path = l->options->certificate_file;
    char date[MD_TLS_DATE_MAX];

    if (md_openssl.X509_cmp_time(end, &now) < 0) {
        print_date(end, date);
        return md_error_set(l->err, MD_REASON_INVALID_ARGUMENT,
                            "the certificate in %s has expired on %s: renew it", path, date);
    }
    if (md_openssl.X509_cmp_time(begin, &now) > 0) {
        print_date(begin, date);
        return md_error_set(l->err, MD_REASON_INVALID_ARGUMENT,
                            "the certificate in %s is not valid before %s: look at this machine's "
                            "clock, or use one that is valid now",
                            path, date);
    }
    return true;
}

/* The first is the server's own, the rest lead to a root. */
static bool take_chain(struct loading *l, size_t index, X509 *certificate)
{
    const char *path = l->options->certificate_file;

    if (index == 0) {
        return check_dates(l, certificate) &&
               (md_openssl.SSL_CTX_use_certificate(l->ssl, certificate) == 1 ||
                refuse(l, path, "holds a certificate that cannot be used"));
    }
    return md_openssl.SSL_CTX_ctrl(l->ssl, SSL_CTRL_CHAIN_CERT, 1, certificate) == 1 ||
           refuse(l, path, "holds a chain that cannot be used");
}

static bool take_client_ca(struct loading *l, size_t index, X509 *certificate)
{
    (void)index;
    return (md_openssl.X509_STORE_add_cert(md_openssl.SSL_CTX_get_cert_store(l->ssl),
                                           certificate) == 1 &&
            md_openssl.SSL_CTX_add_client_CA(l->ssl, certificate) == 1) ||
           refuse(l, l->options->client_ca_file, "holds a certificate that cannot be used");
}

/* --- key -------------------- */

static int ask_for_passphrase(char *buffer, int size, int writing, void *asked)
{
    (void)buffer;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool use_key(struct loading *l, EVP_PKEY *key)
{
    const struct md_tls_options *options = l->options;

    if (md_openssl.SSL_CTX_use_PrivateKey(l->ssl, key) == 1 &&
        md_openssl.SSL_CTX_check_private_key(l->ssl) == 1) {
        return true;
    }
    return md_error_set(l->err, MD_REASON_INVALID_ARGUMENT,
                        "the key in %s does not belong to the certificate in %s: name the two that "
                        "were made together (%s)",
                        options->key_file, options->certificate_file, why());
}

static bool load_key(struct loading *l)
{
    const char *path = l->options->key_file;
    bool asked = false, ok;
    struct md_str text;
    BIO *bio = open_file(l, path, &text);

    if (!bio) {
        return false;
    }
    md_openssl.ERR_clear_error();
    EVP_PKEY *key = md_openssl.PEM_read_bio_PrivateKey(bio, NULL, ask_for_passphrase, &asked);
    if (key) {
        ok = use_key(l, key);
    } else if (asked) {
        ok = md_error_set(l->err, MD_REASON_INVALID_ARGUMENT,
                          "the key in %s is encrypted, and nobody can be asked for its passphrase: "
                          "write it without (openssl pkey -in OLD -out NEW) and protect the file",
                          path);
    } else {
        ok = refuse(l, path, "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)");
    }
    md_openssl.EVP_PKEY_free(key);
    md_openssl.BIO_free(bio);
    md_openssl.OPENSSL_cleanse((char *)(uintptr_t)text.ptr, text.len);
    return ok;
}

/* --- rules -------------------- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned offered_len, void *arg)
{
    const struct md_str *ours = &((const struct md_tls_options *)arg)->protocols;
    unsigned char *chosen;

    (void)ssl;
    if (md_openssl.SSL_select_next_proto(&chosen, out_len, (const unsigned char *)ours->ptr,
                                         (unsigned)ours->len, offered,
                                         offered_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 3.2 */
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool set_rules(struct loading *l)
{
    static const char groups[] = "X25519:P-256:P-384";
    static const char ciphers_1_2[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                                      "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                      "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";
    static const char ciphers_1_3[] =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
    static const unsigned char session_context[] = "modeld";
    const struct md_tls_options *options = l->options;
    SSL_CTX *ssl = l->ssl;

    (void)md_openssl.SSL_CTX_set_options(
        ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                 SSL_OP_PRIORITIZE_CHACHA | SSL_OP_IGNORE_UNEXPECTED_EOF);
    /* one read takes what has come, not a header first; idle connections hold no buffers */
    (void)md_openssl.SSL_CTX_ctrl(ssl, SSL_CTRL_SET_READ_AHEAD, 1, NULL);
    (void)md_openssl.SSL_CTX_ctrl(ssl, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
    /* sessions live in tickets, not here */
    (void)md_openssl.SSL_CTX_ctrl(ssl, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
    (void)md_openssl.SSL_CTX_set_timeout(ssl, TICKET_SECONDS);
    if (options->protocols.len) {
        md_openssl.SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, (void *)(uintptr_t)l->options);
    }
    if (options->client_ca_file) {
        md_openssl.SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    return md_openssl.SSL_CTX_ctrl(
               ssl, SSL_CTRL_SET_MIN_PROTO_VERSION,
               options->min_version == MD_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION, NULL) == 1 &&
           md_openssl.SSL_CTX_ctrl(ssl, SSL_CTRL_SET_GROUPS_LIST, 0, (void *)(uintptr_t)groups) ==
               1 &&
           md_openssl.SSL_CTX_set_cipher_list(ssl, ciphers_1_2) == 1 &&
           md_openssl.SSL_CTX_set_ciphersuites(ssl, ciphers_1_3) == 1 &&
           md_openssl.SSL_CTX_set_session_id_context(ssl, session_context,
                                                     sizeof session_context - 1) == 1;
}

static bool load(struct loading *l)
{
    const struct md_tls_options *options = l->options;

    l->ssl = md_openssl.SSL_CTX_new(md_openssl.TLS_server_method());
    if (!l->ssl || !set_rules(l)) {
        return md_error_set(l->err, MD_REASON_INTERNAL, "OpenSSL cannot make a context: %s", why());
    }
    return each_certificate(l, options->certificate_file, take_chain) && load_key(l) &&
           (!options->client_ca_file ||
            each_certificate(l, options->client_ca_file, take_client_ca));
}

bool md_tls_files_load(const struct md_tls_options *options, SSL_CTX **out,
                       char expires[MD_TLS_DATE_MAX], struct md_error *err)
{
    struct loading l = {.options = options, .err = err};

    md_openssl.ERR_clear_error();
    bool ok = load(&l);
    if (ok) {
        print_date(md_openssl.X509_get0_notAfter(md_openssl.SSL_CTX_get0_certificate(l.ssl)),
                   expires);
        *out = l.ssl;
    } else {
        md_openssl.SSL_CTX_free(l.ssl);
    }
    md_openssl.ERR_clear_error();
    md_arena_deinit(&l.arena);
    return ok;
}
