/*
 * Probe: whether a model that no configuration batches may be.
 *
 * A free first dimension is no proof: a model may normalise over it, sum it up, or mean a time by
 * it. So a few rows that are made up are run one by one, then together, and in another company and
 * order; and batches are formed only where every answer is the one that the row got alone.
 */
#ifndef MD_MODEL_PROBE_H
#define MD_MODEL_PROBE_H

#include "model/mapping_internal.h"

/* Decides where build->batching is MD_BATCHING_PROBE: leaves it, or makes it MD_BATCHING_OFF and
 * batches have one request; /config says which and why (modeld_batching), the log too. An engine's
 * error is a reason not to. Loader thread; on the first instance, before the target is attached.
 * False: that does not come back, or no memory. */
bool md_probe_run(struct md_mapping_build *build) MD_MUST_CHECK;

#endif
