/*
 * Warm-up: what a version runs before it is ready, so that its first requests find an engine that
 * has prepared itself, and times that are known.
 *
 * Loader threads; the instances are there, the target is not attached yet. Trials (infer/trial.h).
 */
#ifndef MD_MODEL_WARM_UP_H
#define MD_MODEL_WARM_UP_H

#include "model/mapping_internal.h"

/* Longest execution of a try that nobody asked for (the probe, learning). */
#define MD_TRIAL_PATIENCE_NS ((uint64_t)60 * 1000000000)

/* Runs the samples of model_warmup on every instance, each as often as it says, in order, as the
 * field does: inputs from zeros, random data (model/synthetic.h), or a file that holds one row, of
 * BYTES in wire form; that row batch_size times. False: the version cannot be loaded; the error
 * names sample and input, what is wrong, and what to do. A line of progress every few seconds. */
bool md_warm_up_run(struct md_mapping_build *build) MD_MUST_CHECK;

/* Seeds the learned times: 1, 2, 4 ... rows on every instance, while little time is spent in all
 * (with what the probe has taken), where all shapes are known; nothing under --auto-batching=off,
 * nor of models so cheap that they run inline: what they take is not worth knowing. An
 * engine's error ends it; where the batch size is the server's own choice, batches stay as small as
 * those that worked. False: an instance does not come back, or no memory. */
bool md_warm_up_learn(struct md_mapping_build *build) MD_MUST_CHECK;

/* After a trial that failed: false and the reason, if the instance is lost for ever. */
bool md_warm_up_has_survived(struct md_mapping_build *build, const struct md_instance *instance)
    MD_MUST_CHECK;
/* The end of an arena that inputs of trials lie in: md_trial_release_inputs. */
void md_warm_up_release_inputs(struct md_mapping_build *build, struct md_arena *inputs);

#endif
