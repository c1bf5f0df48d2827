/*
 * Checks of a model's configuration; for model_config.c and the files that take parts of it.
 */
#ifndef MD_CONFIG_MODEL_CONFIG_INTERNAL_H
#define MD_CONFIG_MODEL_CONFIG_INTERNAL_H

#include "config/schema.h"

#define complain(diagnostics, message, field, ...) \
    md_message_diagnose(message, field, MD_SEVERITY_ERROR, diagnostics, __VA_ARGS__)
#define warn(diagnostics, message, field, ...) \
    md_message_diagnose(message, field, MD_SEVERITY_WARNING, diagnostics, __VA_ARGS__)

static inline const struct md_message *item(const struct md_message *message, const char *field,
                                            size_t index)
{
    return md_message_get(message, field, index).as.message;
}

static inline struct md_str text_of(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.string;
}

static inline int64_t integer_of(const struct md_message *message, const char *field, size_t index)
{
    return md_message_get(message, field, index).as.integer;
}

static inline uint64_t natural_of(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.natural;
}

/* A relative path that leads nowhere but down. */
bool md_model_config_is_inside(struct md_str path);

void md_model_config_check_batching(const struct md_message *config,
                                    struct md_diagnostics *diagnostics);
void md_model_config_check_warmup(const struct md_message *config,
                                  struct md_diagnostics *diagnostics);

#endif
