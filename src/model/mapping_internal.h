/*
 * What a mapping is made of; for mapping.c (its life), mapping_backend.c (what the backend is told)
 * and mapping_target.c (what the model says completes the configuration and the target). Loader
 * threads.
 */
#ifndef MD_MODEL_MAPPING_INTERNAL_H
#define MD_MODEL_MAPPING_INTERNAL_H

#include "model/models.h"

struct md_mapping {
    const struct md_backend *backend;
    void *model;
    struct md_instance **instances; /* own */
    size_t instance_count;
};

/* What is being put together. */
struct md_mapping_build {
    struct md_version *version;
    const struct md_models_options *options;
    struct md_mapping *mapping;
    struct md_message *config; /* a copy that is completed */
    const struct modeld_model_info *info;
    int64_t max_batch_size;
    struct md_arena *arena;
    struct md_error *err;
};

/* Creates the backend's model and takes what it says of it: build->info. */
bool md_mapping_create_model(struct md_mapping_build *build) MD_MUST_CHECK;

/* In this order: max_batch_size, instance groups and names as /config shows them; the target's
 * specs, compared with the model's (CONFLICT names both); the text of /config. */
bool md_mapping_decide_batch_size(struct md_mapping_build *build) MD_MUST_CHECK;
bool md_mapping_complete_groups(struct md_mapping_build *build) MD_MUST_CHECK;
bool md_mapping_complete_names(struct md_mapping_build *build) MD_MUST_CHECK;
bool md_mapping_make_target(struct md_mapping_build *build) MD_MUST_CHECK;
bool md_mapping_publish_config(struct md_mapping_build *build) MD_MUST_CHECK;

#endif
