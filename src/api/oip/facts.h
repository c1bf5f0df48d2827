/*
 * What the endpoints that are no inference tell, whatever the protocol: REST prints it as JSON,
 * gRPC (grpc_*.c) as protobuf. On any loop.
 */
#ifndef MD_API_OIP_FACTS_H
#define MD_API_OIP_FACTS_H

#include "api/oip/oip.h"
#include "os/log_file.h"

/* --- rest.c: health, metadata -------------------- */

/* Names of the server's extensions, ended by NULL. */
extern const char *const md_oip_extensions[];
/* Those that a server with md_oip.regions has as well. */
extern const char *const md_oip_shared_extensions[];

/* Whether the version (empty: the one that requests get) serves: it is READY, and not out of
 * service. False with the error for what does not exist. */
bool md_oip_model_is_ready(const struct md_oip *oip, struct md_str name, struct md_str version,
                           bool *ready, struct md_error *err) MD_MUST_CHECK;

/* Why calls that are not implemented yet are refused. */
extern const char md_oip_no_load[];

/* --- statistics.c -------------------- */

enum { MD_OIP_DURATIONS = 8 };
extern const char *const md_oip_duration_names[MD_OIP_DURATIONS]; /* in the order of the schema */

struct md_oip_statistics {
    uint64_t last_inference_ms; /* since 1970; 0: never */
    uint64_t inference_count, execution_count;
    struct {
        uint64_t count, ns;
    } durations[MD_OIP_DURATIONS];
    uint64_t memory_bytes; /* 0: not known */
};
void md_oip_statistics_read(const struct md_version *version, struct md_oip_statistics *out);

/* The version that statistics are wanted of; NULL with the field's sentences. */
const struct md_version *md_oip_statistics_find(const struct md_oip *oip, struct md_str name,
                                                struct md_str version, struct md_error *err)
    MD_MUST_CHECK;

/* --- repository_index.c -------------------- */

struct md_oip_index_entry {
    struct md_str name;
    int64_t version; /* 0: of the whole model */
    const char *state, *reason;
};
/* Calls `entry` for each entry that the index has of a model. */
void md_oip_index_entries(const struct md_model *model, bool ready_only,
                          void (*entry)(void *arg, const struct md_oip_index_entry *entry),
                          void *arg);

/* --- logging.c -------------------- */

enum md_oip_setting_kind {
    MD_OIP_SETTING_BOOL,
    MD_OIP_SETTING_UINT,
    MD_OIP_SETTING_STRING,
    MD_OIP_SETTING_OTHER, /* what no setting takes */
};
struct md_oip_setting {
    enum md_oip_setting_kind kind;
    bool boolean;
    uint64_t natural;
    struct md_str string;
};

enum { MD_OIP_LOG_SETTINGS = 6 };
extern const char *const md_oip_log_setting_names[MD_OIP_LOG_SETTINGS];
/* As they are, in the order of the names. */
void md_oip_log_settings_list(const struct md_oip *oip,
                              struct md_oip_setting out[MD_OIP_LOG_SETTINGS]);

/* A change is checked whole before any of it counts: begin, set..., apply. */
struct md_oip_log_change {
    bool enabled[3];
    unsigned verbosity;
    enum md_log_format format;
};
void md_oip_log_change_begin(struct md_oip_log_change *change);
bool md_oip_log_change_set(struct md_oip_log_change *change, struct md_str name,
                           const struct md_oip_setting *value, struct md_error *err) MD_MUST_CHECK;
void md_oip_log_change_apply(const struct md_oip_log_change *change);

/* --- trace_settings.c -------------------- */

/* Calls `setting` for each setting of a model, or of the server (an empty name); all values are
 * texts, several of them for the level alone. */
void md_oip_trace_settings_list(const struct md_oip *oip, struct md_str model,
                                struct md_arena *arena,
                                void (*setting)(void *arg, const char *name,
                                                const struct md_str *values, size_t count),
                                void *arg);
bool md_oip_trace_model_exists(const struct md_oip *oip, struct md_str model, struct md_error *err)
    MD_MUST_CHECK;

/* A change is checked whole before any of it counts: set... on a zeroed one, then apply. No values:
 * the setting is taken back to what is below it. */
bool md_oip_trace_change_set(struct md_trace_change *change, struct md_str name,
                             const struct md_str *values, size_t count, struct md_error *err)
    MD_MUST_CHECK;
bool md_oip_trace_change_apply(const struct md_oip *oip, struct md_str model,
                               const struct md_trace_change *change, struct md_error *err)
    MD_MUST_CHECK;

#endif
