/*
 * Which requests are traced: the settings of the server and of single models, and the decision.
 *
 * A model's setting stands above the server's; what a model does not set is the server's. Changed
 * at any time by any thread, one change at a time; read by every loop with every request, without a
 * lock: each setting is an atomic number of its own, so a request that is decided meanwhile may see
 * half of a change, which does no harm. Settings of models are made once and stay.
 */
#ifndef MD_TRACE_SETTINGS_H
#define MD_TRACE_SETTINGS_H

#include "base/error.h"
#include "base/str.h"

#include <stdatomic.h>

enum md_trace_field {
    MD_TRACE_LEVEL,         /* enum md_trace_level bits */
    MD_TRACE_RATE,          /* one in so many requests; 0: none but those whose caller traces */
    MD_TRACE_COUNT,         /* so many more; -1: without end */
    MD_TRACE_LOG_FREQUENCY, /* kept for the file of mode triton */
    MD_TRACE_FIELD_COUNT,
};

enum md_trace_level { MD_TRACE_OFF = 0, MD_TRACE_TIMESTAMPS = 1, MD_TRACE_TENSORS = 2 };

enum md_trace_what { MD_TRACE_KEEP, MD_TRACE_SET, MD_TRACE_CLEAR /* to what is below it */ };

struct md_trace_change {
    enum md_trace_what what[MD_TRACE_FIELD_COUNT];
    int64_t values[MD_TRACE_FIELD_COUNT];
};

struct md_trace_settings;

/* `values` are the server's defaults. */
bool md_trace_settings_create(const int64_t values[MD_TRACE_FIELD_COUNT],
                              struct md_trace_settings **out, struct md_error *err) MD_MUST_CHECK;
void md_trace_settings_destroy(struct md_trace_settings *settings); /* NULL is fine */

/* What counts for a model, or for the server (an empty name). */
void md_trace_settings_get(const struct md_trace_settings *settings, struct md_str model,
                           int64_t values[MD_TRACE_FIELD_COUNT]);
/* Applies a change; the caller makes sure that there is one at a time. */
bool md_trace_settings_change(struct md_trace_settings *settings, struct md_str model,
                              const struct md_trace_change *change, struct md_error *err)
    MD_MUST_CHECK;
/* Whether any request could be traced. */
bool md_trace_settings_is_on(const struct md_trace_settings *settings);

enum md_trace_parent {
    MD_TRACE_NO_PARENT,
    MD_TRACE_PARENT_SAMPLED,   /* the caller records: so do we, whatever rate and count say */
    MD_TRACE_PARENT_UNSAMPLED, /* it does not: nor do we */
};

/* Decides on a request, and counts it. */
bool md_trace_settings_sample(struct md_trace_settings *settings, struct md_str model,
                              enum md_trace_parent parent) MD_MUST_CHECK;

#endif
