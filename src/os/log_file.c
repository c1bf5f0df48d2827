/*
 * The log sink. A line is built on the stack, of what is async-signal-safe (of snprintf: integers
 * and strings), and leaves in one write, so lines of several threads do not mix. Names and the
 * sentence have each a share of the line, so that the end of a JSON object always has room.
 */
#include "os/log_file.h"

#include "base/clock.h"
#include "os/inject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 8192, NAME_BYTES = 512, TEXT_BYTES = LINE_BYTES - 2 * NAME_BYTES - 256 };

static struct {
    const char *path;  /* borrow */
    atomic_int format; /* enum md_log_format */
    atomic_int fd;
} log_file = {.fd = STDERR_FILENO};

static const char *const format_names[] = {[MD_LOG_FORMAT_DEFAULT] = "default",
                                           [MD_LOG_FORMAT_ISO8601] = "ISO8601",
                                           [MD_LOG_FORMAT_JSON] = "json"};

bool md_os_log_format_find(struct md_str name, enum md_log_format *format)
{
    for (size_t i = 0; i < MD_COUNT_OF(format_names); i++) {
        if (md_str_eq_c(name, format_names[i])) {
            *format = (enum md_log_format)i;
            return true;
        }
    }
    *format = MD_LOG_FORMAT_DEFAULT;
    return md_str_eq_c(name, "text");
}

const char *md_os_log_format_name(enum md_log_format format)
{
    return format_names[format];
}

void md_os_log_set_format(enum md_log_format format)
{
    atomic_store_explicit(&log_file.format, (int)format, memory_order_relaxed);
}

enum md_log_format md_os_log_format(void)
{
    /* relaxed: a line or two in the old format are fine */
    return (enum md_log_format)atomic_load_explicit(&log_file.format, memory_order_relaxed);
}

struct line {
    char text[LINE_BYTES];
    size_t len;
};

static void put(struct line *line, const char *text, size_t len)
{
    len = md_size_min(len, sizeof line->text - 1 - line->len);
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void put_c(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Bytes of the UTF-8 sequence at text; 0 if there is none. */
static size_t sequence_length(const unsigned char *text, size_t left)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = text[0] < 0x80       ? 1
                 : text[0] >> 5 == 6  ? 2
                 : text[0] >> 4 == 14 ? 3
                 : text[0] >> 3 == 30 ? 4
                                      : 0;

    if (len <= 1 || len > left) {
        return len > left ? 0 : len;
    }
    unsigned value = text[0] & (0x7fU >> len);
    for (size_t i = 1; i < len; i++) {
        if (text[i] >> 6 != 2) {
            return 0;
        }
        value = value << 6 | (text[i] & 0x3fU);
    }
    return value < least[len] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000) ? 0 : len;
}

/* Control characters would let a client forge lines; JSON needs its quotes escaped and proper UTF-8
 * too. */
static void put_escaped(struct line *line, struct md_str text, bool json, size_t max_bytes)
{
    size_t end = line->len + max_bytes;

    for (size_t i = 0, len; i < text.len && line->len + 6 <= end; i += len) {
        unsigned char c = (unsigned char)text.ptr[i];
        char escape[8];
        len = sequence_length((const unsigned char *)text.ptr + i, text.len - i);
        if (c < 0x20 || c == 0x7f) {
            (void)snprintf(escape, sizeof escape, "\\u%04x", c);
            put_c(line, escape);
        } else if (json && (c == '"' || c == '\\')) {
            (void)snprintf(escape, sizeof escape, "\\%c", c);
            put_c(line, escape);
        } else if (!len) {
            len = 1;
            put_c(line, "\\ufffd");
        } else {
            put(line, text.ptr + i, len);
        }
    }
}

static void put_json(struct line *line, const char *time_text, enum md_log_level level,
                     const struct md_log_context *context, struct md_str text)
{
    static const char *const names[] = {"error", "warning", "info", "verbose"};
    char number[48];

    put_c(line, "{\"time\":\"");
    put_c(line, time_text);
    put_c(line, "\",\"level\":\"");
    put_c(line, names[level]);
    put_c(line, "\",\"message\":\"");
    put_escaped(line, text, true, TEXT_BYTES);
    put_c(line, "\"");
    if (context && context->model) {
        put_c(line, ",\"model\":\"");
        put_escaped(line, md_str_of(context->model), true, NAME_BYTES);
        (void)snprintf(number, sizeof number, "\",\"version\":%lld", (long long)context->version);
        put_c(line, number);
    }
    if (context && context->request_id) {
        put_c(line, ",\"request_id\":\"");
        put_escaped(line, md_str_of(context->request_id), true, NAME_BYTES);
        put_c(line, "\"");
    }
    put_c(line, "}");
}

static void put_context(struct line *line, const struct md_log_context *context)
{
    char number[48];

    if (!context || !context->model) {
        return;
    }
    put_c(line, "[model ");
    put_escaped(line, md_str_of(context->model), false, NAME_BYTES);
    (void)snprintf(number, sizeof number, " version %lld", (long long)context->version);
    put_c(line, number);
    if (context->request_id) {
        put_c(line, " request ");
        put_escaped(line, md_str_of(context->request_id), false, NAME_BYTES);
    }
    put_c(line, "] ");
}

static void put_line(struct line *line, enum md_log_level level,
                     const struct md_log_context *context, struct md_str text)
{
    static const char letters[] = {'E', 'W', 'I', 'V'};
    struct timespec now;
    struct md_civil date;
    char stamp[96];
    const enum md_log_format format = md_os_log_format();

    clock_gettime(CLOCK_REALTIME, &now);
    md_clock_civil((uint64_t)now.tv_sec * MD_NS_PER_S, &date);
    if (format == MD_LOG_FORMAT_DEFAULT) {
        (void)snprintf(stamp, sizeof stamp, "%c%02u%02u %02u:%02u:%02u.%06ld %d ", letters[level],
                       date.month, date.day, date.hour, date.minute, date.second,
                       now.tv_nsec / 1000, gettid());
    } else {
        (void)snprintf(stamp, sizeof stamp, "%04u-%02u-%02uT%02u:%02u:%02u.%03ldZ", date.year,
                       date.month, date.day, date.hour, date.minute, date.second,
                       now.tv_nsec / 1000000);
    }
    if (format == MD_LOG_FORMAT_JSON) {
        put_json(line, stamp, level, context, text);
        return;
    }
    put_c(line, stamp);
    if (format == MD_LOG_FORMAT_ISO8601) {
        (void)snprintf(stamp, sizeof stamp, " %c %d ", letters[level], gettid());
        put_c(line, stamp);
    }
    put_context(line, context);
    put_escaped(line, text, false, TEXT_BYTES);
}

/* relaxed: set before threads start, the number never changes after that */
static int descriptor(void)
{
    return atomic_load_explicit(&log_file.fd, memory_order_relaxed);
}

static void write_line(void *arg, enum md_log_level level, const struct md_log_context *context,
                       struct md_str text)
{
    struct line line;

    (void)arg;
    line.len = 0;
    put_line(&line, level, context, text);
    line.text[line.len++] = '\n';
    if (md_os_injected(ENOSPC) || write(descriptor(), line.text, line.len) < 0) {
        /* a full disk must not stop the server; the next line is tried again */
    }
}

static int open_file(const char *path)
{
    return md_os_injected(EIO) ? -1 : open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
}

bool md_os_log_open(const char *path, enum md_log_format format, struct md_error *err)
{
    static const struct md_log_sink sink = {.write = write_line};

    if (path) {
        int fd = open_file(path);
        if (fd < 0) {
            return md_error_set(err, MD_REASON_IO, "cannot open log file %s: %s", path,
                                strerror(errno));
        }
        atomic_store(&log_file.fd, fd);
    }
    log_file.path = path;
    md_os_log_set_format(format);
    md_log_set_sink(&sink);
    return true;
}

void md_os_log_reopen(void)
{
    if (!log_file.path) {
        return;
    }
    int fd = open_file(log_file.path);
    if (fd >= 0) {
        /* dup3 keeps the number, so that a thread that is writing now never meets a closed
         * descriptor */
        if (!md_os_injected(EBUSY)) {
            (void)dup3(fd, descriptor(), O_CLOEXEC);
        }
        close(fd);
    }
}

void md_os_log_last(const struct md_log_context *context, const char *text)
{
    struct line line;

    line.len = 0;
    put_line(&line, MD_LOG_ERROR, context, md_str_of(text));
    line.text[line.len++] = '\n';
    if (write(STDERR_FILENO, line.text, line.len) < 0 ||
        (descriptor() != STDERR_FILENO && write(descriptor(), line.text, line.len) < 0)) {
        /* nothing left to do */
    }
}
