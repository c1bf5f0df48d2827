/*
 * The TLS options of each listener, together.
 */
#include "config/option_tls.h"

static bool is_given(const char *file)
{
    return file && *file;
}

static void demand(struct md_diagnostics *diagnostics, const char *listener, bool mutual,
                   const char *option, const char *file)
{
    if (!is_given(file)) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0,
                          "--%s-use-ssl%s needs --%s-%s: name a PEM file", listener,
                          mutual ? "-mutual" : "", listener, option);
    }
}

static void settle(struct md_tls_settings *tls, const char *listener,
                   struct md_diagnostics *diagnostics)
{
    tls->use |= tls->mutual;
    if (!tls->use) {
        if (is_given(tls->server_cert) || is_given(tls->server_key) || is_given(tls->root_cert)) {
            (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, NULL, 0, 0,
                              "certificate files of %s have no effect without --%s-use-ssl",
                              listener, listener);
        }
        return;
    }
    demand(diagnostics, listener, tls->mutual, "server-cert", tls->server_cert);
    demand(diagnostics, listener, tls->mutual, "server-key", tls->server_key);
    if (tls->mutual) {
        demand(diagnostics, listener, tls->mutual, "root-cert", tls->root_cert);
    } else if (is_given(tls->root_cert)) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, NULL, 0, 0,
                          "--%s-root-cert has no effect with --%s-use-ssl: --%s-use-ssl-mutual "
                          "demands certificates of clients",
                          listener, listener, listener);
    }
}

static void inherit(const char **file, const char *from)
{
    if (!is_given(*file)) {
        *file = from;
    }
}

void md_options_settle_tls(struct md_options *options, struct md_diagnostics *diagnostics)
{
    struct md_tls_settings *metrics = &options->metrics_tls;

    settle(&options->http_tls, "http", diagnostics);
    settle(&options->grpc_tls, "grpc", diagnostics);
    if (metrics->use || metrics->mutual) {
        /* a certificate and its key belong together */
        if (!is_given(metrics->server_cert) && !is_given(metrics->server_key)) {
            inherit(&metrics->server_cert, options->http_tls.server_cert);
            inherit(&metrics->server_key, options->http_tls.server_key);
        }
        if (metrics->mutual) {
            inherit(&metrics->root_cert, options->http_tls.root_cert);
        }
    }
    settle(metrics, "metrics", diagnostics);
}
