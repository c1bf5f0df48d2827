/*
 * Log lines: level, sentence, and the request that they are about. Any thread.
 *
 * The level is tested before anything is formatted. Lines go to the sink that os/ or a test
 * installs; without one they are dropped. A context is pushed by whoever runs something on behalf
 * of a request (an executor around a backend call), so that lines of an engine and a crash report
 * can name model, version and request id.
 */
#ifndef MD_BASE_LOG_H
#define MD_BASE_LOG_H

#include "base/str.h"

#include <stdatomic.h>

enum md_log_level { MD_LOG_ERROR, MD_LOG_WARNING, MD_LOG_INFO, MD_LOG_VERBOSE, MD_LOG_LEVEL_COUNT };

/* What a thread is working on; on the stack of that thread, read by its own log calls and by the
 * crash handler. */
struct md_log_context {
    const char *model; /* borrow, zero-terminated; NULL = none */
    int64_t version;
    const char *request_id; /* borrow, zero-terminated; NULL = none */
};

struct md_log_sink {
    /* One line without line end. May be called by several threads at a time. */
    void (*write)(void *arg, enum md_log_level level, const struct md_log_context *context,
                  struct md_str text);
    void *arg;
};

/* Set before threads start. The sink must outlive all logging. */
void md_log_set_sink(const struct md_log_sink *sink);

/* Levels are switched one by one, as in the field (--log-error, --log-warning, --log-info). */
void md_log_set_enabled(enum md_log_level level, bool enabled);
bool md_log_is_enabled(enum md_log_level level);
/* --log-verbose: 0 = no verbose lines. The number is kept as it was given. */
void md_log_set_verbosity(unsigned verbosity);
unsigned md_log_verbosity(void);

void md_log(enum md_log_level level, const char *format, ...) MD_PRINTF(2, 3);

/* Sets this thread's context and returns the one before, to be put back. NULL = none. */
const struct md_log_context *md_log_set_context(const struct md_log_context *context);
const struct md_log_context *md_log_get_context(void); /* async-signal-safe */

/* For a crash on a thread that has no context (an engine's own): what the other threads work on.
 * Async-signal-safe. They run on meanwhile: only for a last line. NULL = nothing at this index. */
enum { MD_LOG_THREADS_MAX = 1024 };
const struct md_log_context *md_log_context_of(size_t index);
/* A thread that may have set a context ends. */
void md_log_forget_thread(void);

#endif
