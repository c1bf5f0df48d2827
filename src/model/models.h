/*
 * Models: the table of what is registered, and how a request finds its target.
 *
 * One for the process, created by server/. Loading runs on loader threads; the table that requests read is an immutable
 * generation, replaced as a whole when versions are registered or become ready. Each loop looks up through its own pointer
 * to the newest generation that was delivered to it.
 */
#ifndef MD_MODEL_MODELS_H
#define MD_MODEL_MODELS_H

#include "base/diagnostics.h"
#include "config/model_config.h"
#include "config/options.h"
#include "infer/target.h"
#include "loop/loop.h"

struct md_backends;
struct md_models;
struct md_device;

enum md_version_state {
    MD_VERSION_LOADING,
    MD_VERSION_READY,
    MD_VERSION_UNLOADING,
    MD_VERSION_UNAVAILABLE,
};
const char *md_version_state_name(enum md_version_state state); /* "READY" ... as in the repository index */

/* One registered version as everybody may read it. Immutable but for `state`, which loaders publish. */
struct md_version {
    struct md_target target; /* valid for requests when state is READY */
    struct md_model *model;  /* borrow */
    int64_t number;
    _Atomic int state;       /* enum md_version_state; release store after the target is complete */
    const char *reason;      /* why UNAVAILABLE; "" otherwise; set before state */
    const char *directory;
    struct md_str config_json; /* the completed configuration as /config shows it */
    _Atomic uint64_t load_ns;  /* duration of the last load */
    _Atomic uint64_t load_count, load_failure_count;
    _Atomic uint64_t memory_bytes; /* estimate of the mapping */
    struct md_mapping *mapping;    /* own: loaders and shutdown only */
};

struct md_model {
    struct md_str name; /* zero-terminated */
    struct md_model_config config; /* as merged: file, overlays, defaults */
    struct md_version **versions;  /* own, ascending by number */
    size_t version_count;
    const char *reason; /* why there is no version at all; "" otherwise */
    struct md_arena arena;
};

struct md_models_options {
    const struct md_options *options; /* borrow */
    struct md_backends *backends;     /* borrow */
    struct md_device *device;         /* borrow: where instances run */
    size_t loop_count;
    size_t loader_count;
};

/* Scans the repositories and validates every configuration; loads nothing yet. Problems of single models are in the
 * diagnostics and make those models UNAVAILABLE; false only when the repositories cannot be read at all. */
bool md_models_create(const struct md_models_options *options, struct md_diagnostics *diagnostics,
                      struct md_models **out, struct md_error *err) MD_MUST_CHECK;
/* Loads what the control mode says, on the loaders; returns when every load has ended. Logs progress. */
void md_models_load_all(struct md_models *models);
/* After all requests have ended: destroys mappings, then everything. */
void md_models_destroy(struct md_models *models);

/* True when no registered model has failed or is loading (`strict`), or when loading at start has ended (not strict). */
bool md_models_are_ready(const struct md_models *models, bool strict);
size_t md_models_failed_count(const struct md_models *models);

/* The generation's models in name order. Any thread. */
size_t md_models_count(const struct md_models *models);
struct md_model *md_models_at(const struct md_models *models, size_t index);
struct md_model *md_models_find(const struct md_models *models, struct md_str name); /* NULL = unknown */

/* The version that a request means: `version` empty = the highest READY one. Errors with the field's sentences:
 * UNKNOWN_MODEL "Request for unknown model: 'M' is not found", "... version V ...", NOT_READY. */
struct md_version *md_models_resolve(const struct md_models *models, struct md_str name, struct md_str version,
                                     struct md_error *err);

#endif
