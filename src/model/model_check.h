/*
 * What can be said about a model before it is loaded: whether its folder and its configuration are
 * in order, and which files they name.
 *
 * No state; the thread that scans, and loaders.
 */
#ifndef MD_MODEL_MODEL_CHECK_H
#define MD_MODEL_MODEL_CHECK_H

#include "config/options.h"
#include "config/schema.h"
#include "model/models.h"

/* Reports what is wrong with the folder, and with the configuration beyond its form; false if the
 * model cannot be loaded. Notes say what is passed over. */
bool md_model_check(const struct md_model *model, const struct md_options *options,
                    struct md_diagnostics *diagnostics) MD_MUST_CHECK;

/* Reports what a load would find missing: backend, model file, label files, files of model_warmup.
 * For --check-config. */
void md_model_check_files(const struct md_model *model, struct md_backends *backends,
                          struct md_diagnostics *diagnostics);

/* The backend that a configuration names, or that runs the file in a version's folder. NOT_FOUND,
 * IO, OUT_OF_MEMORY. */
bool md_model_find_backend(const struct md_message *config, const char *directory,
                           struct md_arena *arena, struct md_str *out, struct md_error *err)
    MD_MUST_CHECK;

/* The class labels of an output, from a file in the model's folder. Errors name output and file. */
bool md_model_read_labels(const struct md_model *model, const struct md_message *output,
                          struct md_arena *arena, const struct md_str **labels, size_t *count,
                          struct md_error *err) MD_MUST_CHECK;

/* Appends lines on a model: its versions, its configuration, and what becomes of what that says. */
void md_model_describe(const struct md_model *model, struct md_bytes *out);

#endif
