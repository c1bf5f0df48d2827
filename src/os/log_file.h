/*
 * Where log lines go: standard error or a file, one write a line, as text or JSON. One for the
 * process.
 */
#ifndef MD_OS_LOG_FILE_H
#define MD_OS_LOG_FILE_H

#include "base/error.h"
#include "base/log.h"

enum md_log_format {
    MD_LOG_FORMAT_DEFAULT, /* "I1124 13:00:01.123456 4711 text", as the field prints */
    MD_LOG_FORMAT_ISO8601, /* "2026-11-24T13:00:01.123Z I 4711 text" */
    MD_LOG_FORMAT_JSON,    /* one object a line: time, level, message, model, version, request_id */
};

/* False: no format is called so. "text" is "default". */
bool md_os_log_format_find(struct md_str name, enum md_log_format *format);
const char *md_os_log_format_name(enum md_log_format format);

/* Installs the sink of base/log. path NULL: standard error; borrowed for good. Main thread, before
 * others start. Times are UTC; control characters are escaped; what is too long is cut. */
bool md_os_log_open(const char *path, enum md_log_format format, struct md_error *err)
    MD_MUST_CHECK;
/* For the lines to come. Any thread. */
void md_os_log_set_format(enum md_log_format format);
enum md_log_format md_os_log_format(void);
/* Opens the file again (it was rotated); if that fails, the old one is written on. Any thread. */
void md_os_log_reopen(void);
/* A last line about this context, to the log and to standard error. Async-signal-safe. */
void md_os_log_last(const struct md_log_context *context, const char *text);

#endif
