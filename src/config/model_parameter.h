/*
 * The parameters of a model's configuration that are ours: entries of `parameters` whose keys begin
 * with "modeld_", so that the field's server still reads the file.
 *
 * One table; no state; any thread.
 */
#ifndef MD_CONFIG_MODEL_PARAMETER_H
#define MD_CONFIG_MODEL_PARAMETER_H

#include "config/schema.h"

enum md_model_parameter_kind {
    MD_MODEL_PARAMETER_CHOICE,  /* one of `values`; what stands behind ": " is a remark */
    MD_MODEL_PARAMETER_NUMBER,  /* least..most */
    MD_MODEL_PARAMETER_SIZE,    /* the same in bytes, also as "64M" */
    MD_MODEL_PARAMETER_NUMBERS, /* ascending, each least..most, separated by commas */
};

enum { MD_MODEL_PARAMETER_NUMBERS_MAX = 32 };

struct md_model_parameter {
    const char *name;
    enum md_model_parameter_kind kind;
    const char *values[4]; /* of a choice, ended by NULL */
    uint64_t least, most;
    const char *help;
};

/* Ended by a NULL name. */
extern const struct md_model_parameter md_model_parameters[];

/* Appends what a value may be: "auto, on, off", "1..1000". */
void md_model_parameter_print_values(const struct md_model_parameter *parameter,
                                     struct md_bytes *out);

/* Reports a key of ours that does not exist, with the nearest that does, and a value that it cannot
 * have; entries of others are passed over. */
void md_model_parameter_check(const struct md_message *entry, struct md_diagnostics *diagnostics);

/* Value of any key of `parameters`; empty when it is not set. */
struct md_str md_model_parameter_text(const struct md_message *config, struct md_str key);
/* Of a checked configuration; a choice is without its remark, what is not set is empty, or
 * `absent`.
 */
struct md_str md_model_parameter_choice(const struct md_message *config, struct md_str key);
uint64_t md_model_parameter_number(const struct md_message *config, struct md_str key,
                                   uint64_t absent);
/* At most MD_MODEL_PARAMETER_NUMBERS_MAX; returns how many. */
size_t md_model_parameter_numbers(const struct md_message *config, struct md_str key,
                                  uint64_t *out);

/* Sets any key, whose text the arena keeps. False: no memory. */
bool md_model_parameter_set(struct md_message *config, const char *key, const char *value,
                            struct md_arena *arena) MD_MUST_CHECK;

#endif
