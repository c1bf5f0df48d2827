/*
 * Who may do what changes the server: one answer for all dialects.
 *
 * Today --local-only tells callers on this machine from others. Keys and roles belong here, too.
 * No state; on the loop of the exchange.
 */
#ifndef MD_API_GUARD_H
#define MD_API_GUARD_H

#include "config/options.h"
#include "http/exchange.h"

enum md_guarded {
    MD_GUARDED_DRAIN,   /* takes the server out of service */
    MD_GUARDED_LOGGING, /* changes what is logged */
};

/* False: PERMISSION_DENIED with a sentence. A caller on this machine is one that came over a unix
 * socket or a loopback address; a browser's page is none, wherever it was loaded. */
bool md_guard_allows(const struct md_options *options, enum md_guarded what,
                     const struct md_exchange *x, struct md_error *err) MD_MUST_CHECK;

#endif
