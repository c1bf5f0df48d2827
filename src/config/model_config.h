/*
 * A model's configuration beyond its form: what the values may be, and the parameters that are
 * ours.
 *
 * No state; any thread.
 */
#ifndef MD_CONFIG_MODEL_CONFIG_H
#define MD_CONFIG_MODEL_CONFIG_H

#include "config/schema.h"

/* An entry of `parameters` whose key begins with "modeld_". */
struct md_model_parameter {
    const char *name;
    const char *values[4]; /* what it may be, ended by NULL */
    const char *help;
};

/* Ended by a NULL name. */
extern const struct md_model_parameter md_model_parameters[];

/* Value of a key of `parameters`; empty when it is not set. */
struct md_str md_model_config_parameter(const struct md_message *config, struct md_str key);

/* True for names that are one folder: no '/', no control bytes, not "." or "..". */
bool md_model_name_is_valid(struct md_str name);

/* Reports every value that no model can have, with its place, and returns false if there was any:
 * names, tensors and their dims, file names that lead out of the model's folder, instance groups,
 * version policy, preferred batch sizes, unknown modeld_ parameters. What depends on the model, the
 * backend or the machine is not judged here. Out of memory is reported, too. */
bool md_model_config_validate(const struct md_message *config, struct md_diagnostics *diagnostics)
    MD_MUST_CHECK;

#endif
