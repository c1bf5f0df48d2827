/*
 * The Open Inference Protocol, as the field's server speaks it over REST and gRPC: routes,
 * inference, metadata, configuration, statistics, repository index, logging, health.
 *
 * One context for the process, filled by server/ and immutable while requests are served;
 * everything runs on the loop of the connection.
 */
#ifndef MD_API_OIP_OIP_H
#define MD_API_OIP_OIP_H

#include "api/access/access.h"
#include "api/shared_memory/regions.h"
#include "http/exchange.h"
#include "model/models.h"
#include "trace/tracer.h"

struct md_oip {
    const struct md_models *models;
    const struct md_options *options;
    const struct md_access *access;
    struct md_tracer *tracer;
    struct md_regions *regions; /* NULL: without --allow-client-shm */
    const char *version;
    size_t max_binary_bytes; /* bound on a body with binary tensors */
    void *server;            /* for the calls below */
    bool (*is_live)(void *server);
    bool (*is_ready)(void *server);
    bool (*is_exiting)(void *server);
    void (*drain)(void *server);
};

/* For md_http_config: finds the handler of a request or gRPC call, also for paths that do not
 * exist. arg: struct md_oip. */
void md_oip_route(void *arg, struct md_exchange *x);

#endif
