/*
 * Models: the table of what is registered, and how a request finds its target.
 *
 * One for the process, created by server/. A version (its target: specs, queue, statistics) lives
 * while it is registered; a mapping (what a backend has loaded for it) comes and goes under it.
 * Loading runs on loader threads. What requests read is immutable once a version's state is READY.
 */
#ifndef MD_MODEL_MODELS_H
#define MD_MODEL_MODELS_H

#include "backend/backends.h"
#include "config/options.h"
#include "config/schema.h"
#include "infer/device.h"
#include "infer/target.h"
#include "repository/repository.h"

struct md_models;

enum md_version_state {
    MD_VERSION_REGISTERED, /* known, not asked for */
    MD_VERSION_LOADING,
    MD_VERSION_READY,
    MD_VERSION_UNLOADING,
    MD_VERSION_UNAVAILABLE,
};
struct md_version;
bool md_version_is_ready(const struct md_version *version); /* any thread */
/* Whether all its instances are out of service: READY as far as loading is concerned, but nobody
 * answers its requests (infer/target.h, execution_timeout_ns). Any thread. */
bool md_version_is_out_of_service(const struct md_version *version);
const char *md_version_state_name(
    enum md_version_state state); /* as in the repository index; "" for REGISTERED */

struct md_mapping;

struct md_version {
    struct md_target target; /* for requests when the state is READY */
    struct md_model *model;  /* borrow */
    int64_t number;
    _Atomic int state;  /* enum md_version_state; stored with release when the rest is complete */
    const char *reason; /* why UNAVAILABLE; "" otherwise */
    const char *directory;
    struct md_str config_json;      /* the completed configuration as /config shows it */
    struct md_str config_protobuf;  /* the same, a ModelConfig in wire format */
    _Atomic uint64_t load_begin_ns; /* of the last load */
    _Atomic uint64_t load_ns;       /* its duration */
    _Atomic uint64_t load_count, load_failure_count;
    _Atomic uint64_t memory_bytes; /* the backend's estimate */
    struct md_mapping *mapping;    /* own; loaders and shutdown only */
    bool is_held; /* the same: an execution of it never ends, so that nothing of it may go */
    struct md_arena arena; /* of what loading adds */
};

struct md_model {
    struct md_str name; /* zero-terminated */
    const struct md_repository_model *files;
    struct md_message *config;   /* ModelConfig: the file with the overlays that match */
    struct md_version *versions; /* own, ascending by number: those that the version policy names */
    size_t version_count;
    bool is_wanted;              /* the control mode says to load it; otherwise nothing was read */
    const char *reason;          /* why there is no version at all; "" otherwise */
    struct md_str metric_labels; /* `model="name",_tag="value"...`, tags of metric_tags */
};

struct md_models_options {
    const struct md_options *options; /* borrow */
    struct md_backends *backends;     /* borrow */
    struct md_device *device;         /* borrow: where instances run */
    size_t loop_count;
};

/* Scans the repositories and checks the configuration of every model that is wanted (of every model
 * and its files, for --check-config); loads nothing. Problems of single models go to the
 * diagnostics and make those models UNAVAILABLE; false only when a repository cannot be read at
 * all, or memory is short. */
bool md_models_create(const struct md_models_options *options, struct md_diagnostics *diagnostics,
                      struct md_models **out, struct md_error *err) MD_MUST_CHECK;
/* Loads what the control mode says on loader threads and returns. `loaded` (or NULL) is called
 * once, when the last load has ended, by the loader that ran it; from inside if there is nothing to
 * load. One line in the log for each version. */
void md_models_load_start(struct md_models *models, void (*loaded)(void *arg), void *arg);
/* Begins no further load; those that run go on to their end. Any thread. */
void md_models_load_stop(struct md_models *models);
/* Returns when every load has ended. The thread that started them. */
void md_models_load_join(struct md_models *models);
/* One line in the log that says how far loading is and what takes long. Any thread. */
void md_models_log_progress(const struct md_models *models);
/* At the end of the server: fails all requests that wait and refuses further ones, see
 * md_device_end; returns how many waited. */
size_t md_models_refuse_waiting(struct md_models *models);
/* One line in the log for each version that still executes something: the server ends without it.
 */
void md_models_log_running(struct md_models *models);
/* After all requests have ended: waits for loads, unmaps and frees everything. False: an execution
 * does not end, so that the models stay in memory, and so must the backends, until the process
 * ends. */
bool md_models_destroy(struct md_models *models);

size_t md_models_count(const struct md_models *models);
struct md_model *md_models_at(const struct md_models *models, size_t index); /* by name */
struct md_model *md_models_find(const struct md_models *models,
                                struct md_str name); /* NULL: unknown */
size_t md_models_wanted_count(const struct md_models *models);
/* Wanted models with a version that failed, or without any version; those that --load-model names
 * and no repository has count too. */
size_t md_models_failed_count(const struct md_models *models);
/* Models with a READY version that is out of service. */
size_t md_models_out_of_service_count(const struct md_models *models);
bool md_models_are_loaded(const struct md_models *models); /* no load runs or will be begun */

/* The version that a request means; `version` empty: the highest READY one. NULL with the field's
 * sentences: UNKNOWN_MODEL, NOT_READY. Any thread. */
struct md_version *md_models_resolve(const struct md_models *models, struct md_str name,
                                     struct md_str version, struct md_error *err);

/* --- model/mapping.c: loads and unloads one version; loader threads -------------------- */

/* Fills the version's target and opens it for requests. On failure nothing is left behind. */
bool md_mapping_create(struct md_version *version, const struct md_models_options *options,
                       struct md_error *err) MD_MUST_CHECK;
void md_mapping_destroy(struct md_version *version, const struct md_models_options *options);

#endif
