/*
 * Router: finds the handler of a path in a table.
 *
 * A template is a path whose segments are literal, or a capture "{0}".."{3}". The table is searched
 * in order, so literal routes stand before those that would capture them. Captures are
 * percent-decoded into the exchange's arena; a capture that does not decode, or is empty, does not
 * match. No state; any thread.
 */
#ifndef MD_HTTP_ROUTER_H
#define MD_HTTP_ROUTER_H

#include "http/exchange.h"

enum { MD_ROUTE_GET = 1, MD_ROUTE_POST = 2 };

struct md_route {
    const char *path; /* template */
    unsigned methods; /* MD_ROUTE_...; HEAD goes with GET */
    const struct md_http_handler *handler;
    const void *data; /* becomes x->route_data */
};

enum md_route_match { MD_ROUTE_FOUND, MD_ROUTE_NOT_FOUND, MD_ROUTE_WRONG_METHOD };

/* On FOUND x->handler, route_data and captures are set, on WRONG_METHOD x->allow. */
enum md_route_match md_router_match(const struct md_route *routes, size_t count,
                                    struct md_exchange *x);

#endif
