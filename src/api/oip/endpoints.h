/*
 * The endpoints of the dialect that are no inference, for the table of routes in rest.c; each
 * answers its exchange. On the exchange's loop.
 */
#ifndef MD_API_OIP_ENDPOINTS_H
#define MD_API_OIP_ENDPOINTS_H

#include "api/oip/oip.h"

static inline const struct md_oip *md_oip_of(const struct md_exchange *x)
{
    return x->route_data;
}

/* statistics.c: GET of one model or version; of all models (a page, see http/page.h). */
void md_oip_get_statistics(struct md_exchange *x);
void md_oip_get_all_statistics(struct md_exchange *x);

/* batches.c: GET of the last batches of a version, newest first. */
void md_oip_get_batches(struct md_exchange *x);

/* repository_index.c: POST (a page). */
void md_oip_post_index(struct md_exchange *x);

/* logging.c: GET and POST of the log's settings. */
void md_oip_get_logging(struct md_exchange *x);
void md_oip_post_logging(struct md_exchange *x);

/* trace_settings.c: GET and POST of the settings of traces. */
void md_oip_get_trace_settings(struct md_exchange *x);
void md_oip_post_trace_settings(struct md_exchange *x);

/* shared_memory.c: status, register and unregister, of one region or (without a name) all. */
void md_oip_get_system(struct md_exchange *x);
void md_oip_register_system(struct md_exchange *x);
void md_oip_unregister_system(struct md_exchange *x);
void md_oip_get_cuda(struct md_exchange *x);
void md_oip_register_cuda(struct md_exchange *x);
void md_oip_unregister_cuda(struct md_exchange *x);

#endif
