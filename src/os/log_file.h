/*
 * Where log lines go: standard error or a file, one write a line, as text or JSON.
 */
#ifndef MD_OS_LOG_FILE_H
#define MD_OS_LOG_FILE_H

#include "base/error.h"
#include "base/log.h"

enum md_log_format {
    MD_LOG_FORMAT_DEFAULT, /* "I1124 13:00:01.123456 4711 text", as the field prints */
    MD_LOG_FORMAT_ISO8601, /* "2026-11-24T13:00:01Z I 4711 text" */
    MD_LOG_FORMAT_JSON,    /* one object a line: time, level, message, model, version, request_id */
};

/* Installs the sink of base/log. path NULL: standard error. Main thread, before others start. */
bool md_os_log_open(const char *path, enum md_log_format format, struct md_error *err) MD_MUST_CHECK;
/* Opens the file again (it was rotated). Any thread. */
void md_os_log_reopen(void);

#endif
