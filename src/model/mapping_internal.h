/*
 * What a mapping is made of; for mapping.c (its life), mapping_backend.c (what the backend is
 * told), mapping_target.c (what the model says completes the configuration and the target),
 * mapping_scheduling.c (how its requests wait and are joined), warm_up.c and probe.c (what it runs
 * before it is ready). Loader threads.
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

enum { MD_OPEN_BATCH_ROWS = 32 }; /* of a batch where no max_batch_size says how many */

enum md_batching {
    MD_BATCHING_OFF,   /* requests run one by one */
    MD_BATCHING_ON,    /* the configuration says so */
    MD_BATCHING_PROBE, /* if the probe shows that it changes no answers */
};

/* What is being put together. */
struct md_mapping_build {
    struct md_version *version;
    const struct md_models_options *options;
    struct md_mapping *mapping;
    struct md_message *config; /* a copy that is completed */
    const struct modeld_model_info *info;
    int64_t max_batch_size;
    enum md_batching batching;
    uint32_t batch_rows; /* that batches of several requests may have, once the probe allows; 1 */
    uint64_t tried_ns;   /* time that the probe has taken */
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

/* From the completed configuration and the specs: the target's limits of time, its share of the
 * device, its batcher with batch_rows; says in the log what a user may not expect. CONFLICT names
 * what the model cannot do. */
bool md_mapping_make_scheduling(struct md_mapping_build *build) MD_MUST_CHECK;
/* Batches have at most so many rows from now on (1: none is formed), and the allowed sizes that
 * are no larger. Before the target is attached. */
void md_mapping_set_batch_rows(struct md_mapping_build *build, uint32_t rows);
/* Parameter modeld_batching of /config; what begins with "on" or "off". */
bool md_mapping_say_batching(struct md_mapping_build *build, const char *text) MD_MUST_CHECK;

/* Whether dimension 0 of the target's tensors counts rows. */
bool md_mapping_has_rows(const struct md_mapping_build *build);

#endif
