/*
 * What the TLS options of a listener need of each other. Any thread.
 */
#ifndef MD_CONFIG_OPTION_TLS_H
#define MD_CONFIG_OPTION_TLS_H

#include "config/options.h"

/* Mutual TLS is TLS; metrics take HTTP's files unless they have their own. A file that is missing
 * is an error, one that is not used a warning. */
void md_options_settle_tls(struct md_options *options, struct md_diagnostics *diagnostics);

#endif
