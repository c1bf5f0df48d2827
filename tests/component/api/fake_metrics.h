/*
 * A metrics page for a fake server, with counters of HTTP that stay at zero.
 */
#ifndef TESTS_COMPONENT_API_FAKE_METRICS_H
#define TESTS_COMPONENT_API_FAKE_METRICS_H

#include "api/metrics.h"

#include "component/api/fake_server.h"

static struct md_metrics metrics;

/* http/session.h: what the page needs of it. */
const char *md_http_refusal_name(unsigned cause)
{
    return cause == 0 ? "malformed" : NULL;
}

static void fake_metrics_init(struct fake_server *server)
{
    static const struct md_options options = {.allow_cpu_metrics = true};
    static struct md_http_counters counters;

    metrics = (struct md_metrics){.models = server->models,
                                  .http = &counters,
                                  .loop_count = 1,
                                  .budget = &server->budget,
                                  .version = "1.2.3"};
    md_metrics_configure(&metrics, &options);
}

#endif
