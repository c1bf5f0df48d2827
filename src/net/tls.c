/*
 * TLS contexts: which files are in use, and when they are read again.
 */
#include "net/tls.h"

#include "base/alloc.h"
#include "base/log.h"
#include "net/tls_internal.h"

#include <string.h>

static void look(const struct md_tls_options *options, struct md_os_file_stamp stamps[MD_TLS_FILES])
{
    const char *const files[MD_TLS_FILES] = {options->certificate_file, options->key_file,
                                             options->client_ca_file};

    for (size_t i = 0; i < MD_TLS_FILES; i++) {
        stamps[i] = (struct md_os_file_stamp){0};
        if (files[i]) {
            (void)md_os_file_stamp(files[i], &stamps[i]); /* reading it will say what is wrong */
        }
    }
}

static bool make(struct md_tls_context *context, struct md_error *err)
{
    const struct md_tls_options *options = &context->options;
    char expires[MD_TLS_DATE_MAX];

    look(options, context->used);
    memcpy(context->seen, context->used, sizeof context->seen);
    if (!md_openssl_load(err) || !md_tls_files_load(options, &context->current, expires, err)) {
        return md_error_prefix(err, "%s", options->name);
    }
    context->method = md_tls_bio_method_create();
    if (!context->method) {
        return md_error_no_memory(err, "a TLS context");
    }
    md_log(MD_LOG_INFO, "%s: TLS with the certificate in %s, good until %s%s%s", options->name,
           options->certificate_file, expires,
           options->client_ca_file ? "; clients need one signed by " : "",
           options->client_ca_file ? options->client_ca_file : "");
    return true;
}

bool md_tls_context_create(const struct md_tls_options *options, struct md_tls_context **out,
                           struct md_error *err)
{
    struct md_tls_context *context = md_calloc(1, sizeof *context);

    if (!context) {
        return md_error_no_memory(err, "a TLS context");
    }
    context->options = *options;
    (void)pthread_mutex_init(&context->mutex, NULL);
    if (!make(context, err)) {
        md_tls_context_destroy(context);
        return false;
    }
    *out = context;
    return true;
}

void md_tls_context_destroy(struct md_tls_context *context)
{
    if (!context) {
        return;
    }
    if (context->current) { /* else OpenSSL may not be there */
        md_openssl.SSL_CTX_free(context->current);
    }
    if (context->method) {
        md_openssl.BIO_meth_free(context->method);
    }
    (void)pthread_mutex_destroy(&context->mutex);
    md_free(context);
}

SSL_CTX *md_tls_context_acquire(struct md_tls_context *context)
{
    (void)pthread_mutex_lock(&context->mutex);
    SSL_CTX *current = context->current;
    (void)md_openssl.SSL_CTX_up_ref(current);
    (void)pthread_mutex_unlock(&context->mutex);
    return current;
}

void md_tls_context_reload(struct md_tls_context *context)
{
    const struct md_tls_options *options = &context->options;
    char expires[MD_TLS_DATE_MAX];
    struct md_error err;
    SSL_CTX *fresh;

    look(options, context->used);
    memcpy(context->seen, context->used, sizeof context->seen);
    if (!md_tls_files_load(options, &fresh, expires, &err)) {
        md_log(MD_LOG_ERROR, "%s: %s; the certificate that was loaded before stays in use",
               options->name, err.text);
        return;
    }
    (void)pthread_mutex_lock(&context->mutex);
    SSL_CTX *before = context->current;
    context->current = fresh;
    (void)pthread_mutex_unlock(&context->mutex);
    md_openssl.SSL_CTX_free(before); /* connections hold it as long as they live */
    md_log(MD_LOG_INFO, "%s: new connections get the certificate in %s, good until %s",
           options->name, options->certificate_file, expires);
}

void md_tls_context_look(struct md_tls_context *context)
{
    struct md_os_file_stamp now[MD_TLS_FILES];

    look(&context->options, now);
    bool at_rest = memcmp(now, context->seen, sizeof now) == 0;
    memcpy(context->seen, now, sizeof now);
    if (at_rest && memcmp(now, context->used, sizeof now) != 0) {
        md_tls_context_reload(context);
    }
}
