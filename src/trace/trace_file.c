/*
 * Traces in files.
 */
#include "trace/trace_file.h"

#include "base/alloc.h"
#include "base/log.h"
#include "os/file.h"
#include "os/poll.h"

#include <stdio.h>

struct sink {
    char *path; /* own */
    uint64_t frequency;
    char *name;        /* own: of the file that is open */
    size_t name_bytes; /* room for it */
    uint64_t number;   /* of the next file */
    uint64_t records;  /* in this one */
    int fd;            /* -1: none */
};

static bool open_next(struct sink *sink, struct md_error *err)
{
    if (sink->frequency) {
        (void)snprintf(sink->name, sink->name_bytes, "%s.%llu", sink->path,
                       (unsigned long long)sink->number++);
    } else {
        (void)snprintf(sink->name, sink->name_bytes, "%s", sink->path);
    }
    sink->records = 0;
    return md_os_file_create(sink->name, &sink->fd, err) &&
           md_os_file_write(sink->fd, sink->name, MD_STR("["), err);
}

static void close_file(struct sink *sink)
{
    struct md_error err;

    if (sink->fd >= 0 && !md_os_file_write(sink->fd, sink->name, MD_STR("]\n"), &err)) {
        md_log(MD_LOG_WARNING, "a file of traces is not complete: %s", err.text);
    }
    md_os_close(sink->fd);
    sink->fd = -1;
}

/* A record without its comma if it is the file's first. */
static bool write_record(struct sink *sink, struct md_str record, struct md_error *err)
{
    if (sink->frequency && sink->records == sink->frequency) {
        close_file(sink);
    }
    if (sink->fd < 0 && !open_next(sink, err)) {
        return false;
    }
    const size_t skipped = sink->records == 0;
    sink->records++;
    return md_os_file_write(sink->fd, sink->name,
                            md_str_make(record.ptr + skipped, record.len - skipped), err);
}

static enum md_trace_result write_batch(void *arg, const struct md_trace_message *message,
                                        struct md_trace_answer *answer)
{
    struct sink *sink = arg;
    struct md_str rest = message->body;
    struct md_error err;

    while (rest.len) {
        const struct md_str record = md_str_make(rest.ptr, (size_t)md_str_find(rest, '\n') + 1);
        if (!write_record(sink, record, &err)) {
            (void)snprintf(answer->text, sizeof answer->text, "%.*s", (int)sizeof answer->text - 1,
                           err.text);
            return MD_TRACE_REFUSED; /* part of it may be there: not again */
        }
        rest = md_str_make(rest.ptr + record.len, rest.len - record.len);
    }
    return MD_TRACE_TAKEN;
}

static void destroy(void *arg)
{
    struct sink *sink = arg;

    close_file(sink);
    md_free(sink->path);
    md_free(sink->name);
    md_free(sink);
}

bool md_trace_file_open(const char *path, uint64_t log_frequency, struct md_trace_sink *out,
                        struct md_error *err)
{
    enum { NUMBER_MAX = 24 };
    struct sink *sink = md_calloc(1, sizeof *sink);

    if (!sink) {
        return md_error_no_memory(err, "the file of traces");
    }
    sink->fd = -1;
    sink->frequency = log_frequency;
    sink->name_bytes = strlen(path) + NUMBER_MAX;
    sink->path = md_strdup(path);
    sink->name = md_alloc(sink->name_bytes);
    if (!sink->path || !sink->name) {
        destroy(sink);
        return md_error_no_memory(err, "the file of traces");
    }
    if (!open_next(sink, err)) {
        destroy(sink);
        return false;
    }
    *out = (struct md_trace_sink){
        .arg = sink, .name = sink->path, .send = write_batch, .destroy = destroy};
    return true;
}
