/*
 * The TLS contexts of the server's listeners.
 */
#include "server/server_internal.h"

/* What ALPN offers, the best first. */
static const char protocols[] = "\x02h2\x08http/1.1";

static bool create(const struct md_server *server, const char *name,
                   const struct md_tls_settings *settings, struct md_tls_context **out,
                   struct md_error *err)
{
    const struct md_tls_options options = {
        .name = name,
        .certificate_file = settings->server_cert,
        .key_file = settings->server_key,
        .client_ca_file = settings->mutual ? settings->root_cert : NULL,
        .min_version =
            strcmp(server->options.tls_min_version, "1.3") == 0 ? MD_TLS_1_3 : MD_TLS_1_2,
        .protocols = md_str_make(protocols, sizeof protocols - 1),
    };

    return !settings->use || md_tls_context_create(&options, out, err);
}

bool md_server_create_tls(struct md_server *server, struct md_error *err)
{
    const struct md_options *options = &server->options;

    return (!options->allow_http ||
            create(server, "http", &options->http_tls, &server->http_tls, err)) &&
           (!options->allow_grpc ||
            create(server, "grpc", &options->grpc_tls, &server->grpc_tls, err)) &&
           (!options->allow_metrics ||
            create(server, "metrics", &options->metrics_tls, &server->metrics_tls, err));
}

bool md_server_uses_tls(const struct md_server *server)
{
    return server->http_tls || server->grpc_tls || server->metrics_tls;
}

static void for_each(struct md_server *server, void (*run)(struct md_tls_context *context))
{
    struct md_tls_context *const contexts[] = {server->http_tls, server->grpc_tls,
                                               server->metrics_tls};

    for (size_t i = 0; i < MD_COUNT_OF(contexts); i++) {
        if (contexts[i]) {
            run(contexts[i]);
        }
    }
}

void md_server_reload_tls(struct md_server *server)
{
    for_each(server, md_tls_context_reload);
}

void md_server_look_at_tls(struct md_server *server)
{
    for_each(server, md_tls_context_look);
}

void md_server_destroy_tls(struct md_server *server)
{
    for_each(server, md_tls_context_destroy);
    server->http_tls = server->grpc_tls = server->metrics_tls = NULL;
}
