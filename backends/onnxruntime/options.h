/*
 * Session options from a model's configuration: its parameters, its optimization level, its
 * accelerators, its custom-op libraries. Keys and values are those of the field's backend for this
 * engine.
 */
#ifndef MD_ORT_OPTIONS_H
#define MD_ORT_OPTIONS_H

#include "engine.h"

/* Own: the caller releases *options with ReleaseSessionOptions. INVALID_ARGUMENT names the key and
 * the value. */
int32_t md_ort_options_create(const struct modeld_model_args *args, OrtSessionOptions **options,
                              struct modeld_text *error);

/* The value of a parameter; NULL when it is not set. Borrowed from args. */
const char *md_ort_parameter(const struct modeld_model_args *args, const char *key);

#endif
