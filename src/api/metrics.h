/*
 * The metrics page: Prometheus text format, version 0.0.4.
 *
 * Names that begin with nv_ are the field's (with its units, so that existing dashboards work);
 * ours begin with modeld_ and have base units. The page is produced family by family in slices, so
 * that ten thousand models neither need one large buffer nor stall the loop. Runs on the loop of
 * the exchange; reads relaxed counters of all loops.
 */
#ifndef MD_API_METRICS_H
#define MD_API_METRICS_H

#include "http/session.h"
#include "model/models.h"
#include "net/listener.h"

struct md_metrics {
    const struct md_models *models;
    const struct md_http_counters *http; /* one for each loop: the inference listeners */
    size_t loop_count;
    const struct md_listener *listener;
    const struct md_budget *budget;
    const char *version;
    size_t max_models;          /* series of their own; the rest share model="other" */
    const char *detail_pattern; /* histograms for these models alone; NULL: all */
};

/* Reads --metrics-config entries. */
bool md_metrics_configure(struct md_metrics *metrics, const struct md_string_list *config,
                          struct md_error *err) MD_MUST_CHECK;

/* For md_http_config of the metrics listener; arg: struct md_metrics. */
void md_metrics_route(void *arg, struct md_exchange *x);

#endif
