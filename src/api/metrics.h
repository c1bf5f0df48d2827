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
#include "trace/tracer.h"

struct md_metrics {
    const struct md_models *models;
    const struct md_http_counters *http; /* one for each loop: the inference listeners */
    size_t loop_count;
    const struct md_listener *listeners[2]; /* of HTTP and gRPC; NULL: none */
    const struct md_budget *budget;
    const struct md_tracer *tracer; /* NULL: nothing of traces */
    const char *version;

    /* set by md_metrics_configure */
    const struct md_string_list *config;
    size_t max_models;  /* series of their own; the rest share model="other" */
    bool all_detailed;  /* no pattern says whose histograms are wanted */
    bool has_machine;   /* nv_cpu_* */
    bool has_latencies; /* nv_*_duration_us */

    /* shared by the loops: what the last page knew of the machine's CPUs */
    _Atomic uint64_t cpu_busy, cpu_total;
};

/* Reads --metrics-config, which the parser of options has checked, and --allow-cpu-metrics; the
 * options must outlive the metrics. */
void md_metrics_configure(struct md_metrics *metrics, const struct md_options *options);

/* For md_http_config of the metrics listener; arg: struct md_metrics. */
void md_metrics_route(void *arg, struct md_exchange *x);

#endif
