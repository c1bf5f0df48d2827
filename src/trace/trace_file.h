/*
 * A sink that writes to files: the field's own form of traces, a list of JSON objects that is
 * complete when the file is closed.
 *
 * A record is one line: objects behind a comma each, and a line end. On the exporter's thread.
 */
#ifndef MD_TRACE_TRACE_FILE_H
#define MD_TRACE_TRACE_FILE_H

#include "trace/exporter.h"

/* Opens the file, or with a frequency the first of those that hold so many records each: PATH.0,
 * PATH.1 and so on. */
bool md_trace_file_open(const char *path, uint64_t log_frequency, struct md_trace_sink *out,
                        struct md_error *err) MD_MUST_CHECK;

#endif
