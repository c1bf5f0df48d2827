/*
 * The server's options: one table (option_table.c), filled into one plain struct that server/
 * applies.
 *
 * Precedence: flag, environment MODELD_<OPTION>, --config file, default. The table has two default
 * columns: ours, and that of the server being replaced (--compat triton, or a program called
 * tritonserver). Everything lives in the caller's arena; all problems of one run are reported
 * together.
 */
#ifndef MD_CONFIG_OPTIONS_H
#define MD_CONFIG_OPTIONS_H

#include "base/diagnostics.h"
#include "base/error.h"

struct md_string_list {
    const char **items; /* zero-terminated */
    size_t count;
};

/* Settings of models by name pattern, from the --config file. */
struct md_overlay {
    const char *pattern;
    struct md_str config_json;
    unsigned line;
};

struct md_options {
    /* repository */
    struct md_string_list model_repository, load_model;
    const char *model_name, *model_control_mode;
    bool exit_on_error, strict_readiness, auto_complete, allow_op_library;
    uint64_t not_ready_status, model_load_thread_count;
    const char *gpu_fallback;
    struct md_string_list backend_config;
    const char *backend_directory;
    /* server */
    const char *id, *compat, *config_file;
    bool check_config, help, version, help_markdown;
    uint64_t exit_timeout_secs, drain_delay_secs;
    /* HTTP */
    bool allow_http, reuse_http_port;
    const char *http_address, *http_unix_socket;
    uint64_t http_port, http_thread_count, http_max_input_size, http_max_header_size,
        http_max_header_count;
    uint64_t http_idle_timeout_secs, http_header_timeout_secs, http_body_timeout_secs,
        json_max_depth;
    uint64_t max_connections, inflight_bytes;
    struct md_string_list http_cors_allow_origin;
    /* metrics */
    bool allow_metrics;
    const char *metrics_address;
    uint64_t metrics_port;
    struct md_string_list metrics_config;
    /* logging */
    bool log_info, log_warning, log_error, access_log;
    uint64_t log_verbose;
    const char *log_format, *log_file;
    /* CPU plan */
    uint64_t cpu_count, executor_threads, engine_threads, spin_us;
    const char *inline_mode;
    /* from the --config file */
    const struct md_overlay *overlays;
    size_t overlay_count;
};

enum md_option_kind {
    MD_OPTION_BOOL,
    MD_OPTION_NUMBER,
    MD_OPTION_SIZE,
    MD_OPTION_TEXT,
    MD_OPTION_CHOICE,
    MD_OPTION_LIST
};
enum md_option_status {
    MD_OPTION_WORKS,
    MD_OPTION_NO_EFFECT, /* accepted with one warning */
    MD_OPTION_REFUSED,   /* ignoring it would change results or security; unless it asks for what is
                            the case anyway */
};

struct md_option {
    const char *name; /* without the dashes; NULL: a group heading in `help` */
    enum md_option_kind kind;
    enum md_option_status status;
    size_t offset;                    /* in struct md_options; SIZE_MAX: kept nowhere */
    const char *value, *triton_value; /* defaults; triton_value NULL: the same */
    const char *range; /* NUMBER, SIZE: "low..high"; CHOICE: "a|b" ; REFUSED: the value that is fine
                          all the same */
    const char *help;  /* a sentence; for NO_EFFECT and REFUSED: why, and what to do */
    const char *alias_of;
};

extern const struct md_option md_option_table[];
extern const size_t md_option_count;

/* How this room reads files (it does no I/O of its own). */
struct md_file_reader {
    bool (*read)(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                 struct md_error *err);
    void *arg;
};

/* False if there was an error in the diagnostics. argv[0] is the program. */
bool md_options_parse(int argc, char *const *argv, char *const *environment, bool in_container,
                      const struct md_file_reader *reader, struct md_arena *arena,
                      struct md_options *out, struct md_diagnostics *diagnostics) MD_MUST_CHECK;

void md_options_print_help(struct md_bytes *out);
void md_options_print_markdown(struct md_bytes *out);

/* --- for yaml.c -------------------- */

/* Reads the --config file: options by `set`, overlays by `overlay`. Reports problems with file and
 * line. */
struct md_yaml_target {
    void *arg;
    bool (*set)(void *arg, struct md_str name, struct md_str value, unsigned line);
    bool (*overlay)(void *arg, struct md_str pattern, struct md_str config_json, unsigned line);
};
bool md_yaml_read(struct md_str text, const char *file, const struct md_yaml_target *target,
                  struct md_arena *arena, struct md_diagnostics *diagnostics) MD_MUST_CHECK;

#endif
