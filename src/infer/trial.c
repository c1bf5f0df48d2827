/*
 * Trials.
 */
#include "infer/trial.h"

bool md_trial_run(struct md_device *device, struct md_target *target, struct md_instance *instance,
                  const struct md_tensor *inputs, size_t input_count, uint32_t rows,
                  uint64_t timeout_ns, struct md_trial_result *out, struct md_error *err)
{
    (void)device;
    (void)instance;
    (void)inputs;
    (void)input_count;
    (void)rows;
    (void)timeout_ns;
    *out = (struct md_trial_result){.outputs = NULL};
    return md_error_set(err, MD_REASON_UNSUPPORTED, "model '%s' cannot be tried",
                        target->model_name.ptr);
}

void md_trial_result_deinit(struct md_trial_result *result)
{
    md_arena_deinit(&result->arena);
    *result = (struct md_trial_result){.outputs = NULL};
}

bool md_instance_is_stuck(const struct md_instance *instance)
{
    (void)instance;
    return false;
}
