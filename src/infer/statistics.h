/*
 * Records one finished request in the shard of its home loop. Home loop only.
 */
#ifndef MD_INFER_STATISTICS_H
#define MD_INFER_STATISTICS_H

#include "infer/request.h"

/* error NULL: success. now_ns: monotonic time of the answer. */
void md_statistics_record(const struct md_request *request, const struct md_error *error,
                          uint64_t now_ns);

/* A request that failed before it was built (bad input for a known target). Home loop. */
void md_statistics_record_refusal(struct md_target *target, unsigned loop_index,
                                  enum md_reason reason, uint64_t duration_ns);

#endif
