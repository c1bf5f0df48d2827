/*
 * Trial: an inference of the server's own on one instance of a target that is not open for others
 * (not attached): warming up, and finding out how a model behaves.
 *
 * Called on a loader thread, which waits for its end; an executor of the device runs it (of a
 * THREAD_BOUND instance its own). It counts in no statistics and on no clock but the instance's
 * learned times.
 *
 * Inputs are not copied. They lie in an arena of the caller's, which is given up by
 * md_trial_release_inputs alone: a backend that does not come back still reads them.
 */
#ifndef MD_INFER_TRIAL_H
#define MD_INFER_TRIAL_H

#include "infer/device.h"

struct md_trial_result {
    struct md_arena arena;     /* own: all of it */
    struct md_tensor *outputs; /* copies; of a decoupled target those of its first response */
    size_t output_count;
    uint64_t executed_ns;
};

/* Runs the inputs, which need not be checked before, as one request, padded like any other. With
 * `learns` an answer's time is learned, of the rows that ran. False, with the reason: what the
 * target does not take (INVALID_ARGUMENT), what the backend says (BACKEND), no answer in timeout_ns
 * from when it began (DEADLINE; 0: it waits for ever), no memory. A backend that does not even
 * answer when it is asked to stop keeps the instance for ever: md_instance_is_stuck. The result is
 * deinitialised by the caller, also after a failure. */
bool md_trial_run(struct md_device *device, struct md_target *target, struct md_instance *instance,
                  const struct md_tensor *inputs, size_t input_count, bool learns,
                  uint64_t timeout_ns, struct md_trial_result *out, struct md_error *err)
    MD_MUST_CHECK;
void md_trial_result_deinit(struct md_trial_result *result);

/* Frees the arena of the inputs of trials on these instances, and leaves it zeroed. Where a trial
 * is stuck, which was the last then, the arena becomes that trial's: it goes when the backend comes
 * back after all, or never. */
void md_trial_release_inputs(struct md_device *device, struct md_instance *const *instances,
                             size_t count, struct md_arena *inputs);

/* After a trial that did not end: the backend is still inside. Neither the instance nor its model
 * may be destroyed, as after an md_device_detach that returned false. */
bool md_instance_is_stuck(const struct md_instance *instance);

#endif
