/*
 * Who may change the server (drain it, change its log): one answer for all dialects.
 *
 * --management says how such actions are reached. No state; on the loop of the exchange.
 */
#ifndef MD_API_ACCESS_MANAGEMENT_H
#define MD_API_ACCESS_MANAGEMENT_H

#include "config/options.h"
#include "http/exchange.h"

/* False: RESTRICTED with a sentence that names the option. With "local" a caller is let through
 * that came over a unix socket or a loopback address; a browser's page is none, wherever it was
 * loaded. */
bool md_management_allows(const struct md_options *options, const struct md_exchange *x,
                          struct md_error *err) MD_MUST_CHECK;

#endif
