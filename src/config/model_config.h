/*
 * A model's configuration beyond its form: what the values may be.
 *
 * No state; any thread.
 */
#ifndef MD_CONFIG_MODEL_CONFIG_H
#define MD_CONFIG_MODEL_CONFIG_H

#include "config/schema.h"

/* What the batcher can hold (policy/batcher.h). */
enum { MD_PRIORITY_LEVELS_MAX = 64, MD_PREFERRED_SIZES_MAX = 32 };

/* Folder of a model that holds the files of model_warmup. */
#define MD_WARMUP_FOLDER "warmup"

/* "warm-up sample 'NAME'", or its number (index + 1) where it has no name; cut to size. */
void md_model_config_warmup_title(const struct md_message *sample, size_t index, char *out,
                                  size_t size);

/* True for names that are one folder: no '/', no control bytes, not "." or "..". */
bool md_model_name_is_valid(struct md_str name);

/* Reports every value that no model can have, with its place, and returns false if there was any:
 * names, tensors and their dims, file names that lead out of the model's folder, instance groups,
 * version policy, batching and queue policies, samples of model_warmup, parameters of ours
 * (config/model_parameter.h). What has no effect where it stands is a warning. What depends on the
 * model, the backend or the machine is not judged here. Out of memory is reported, too. */
bool md_model_config_validate(const struct md_message *config, struct md_diagnostics *diagnostics)
    MD_MUST_CHECK;

#endif
