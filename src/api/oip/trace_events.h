/*
 * An inference as the field's own traces have it (mode triton): an object that names it and one for
 * each time. On the home loop.
 */
#ifndef MD_API_OIP_TRACE_EVENTS_H
#define MD_API_OIP_TRACE_EVENTS_H

#include "api/oip/inference.h"

/* Appends the record of an inference that was answered at now_ns, in the form that
 * trace/trace_file.h takes. `number`: of the trace. */
void md_oip_trace_events_append(const struct md_oip_inference *inference, uint64_t number,
                                uint64_t now_ns, struct md_bytes *out);

#endif
