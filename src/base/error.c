/*
 * The reason table and the formatting of error sentences.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct reason_row {
    enum md_code code;
    enum md_failure failure;
    bool again;
    const char *name;
};

static const struct reason_row reason_table[MD_REASON_COUNT] = {
#define MD_REASON_ROW(suffix, code, failure, again, name) \
    [MD_REASON_##suffix] = {MD_CODE_##code, MD_FAILURE_##failure, again, name},
    MD_REASON_LIST(MD_REASON_ROW)
#undef MD_REASON_ROW
};

const char *md_code_name(enum md_code code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };

    return (size_t)code < MD_COUNT_OF(names) ? names[code] : NULL;
}

enum md_code md_reason_code(enum md_reason reason)
{
    return reason_table[reason].code;
}

enum md_failure md_reason_failure(enum md_reason reason)
{
    return reason_table[reason].failure;
}

const char *md_reason_name(enum md_reason reason)
{
    return reason_table[reason].name;
}

unsigned md_error_retry_after_s(const struct md_error *err)
{
    /* a backend's own status may say so, too */
    bool is_exhausted =
        err->code == MD_CODE_RESOURCE_EXHAUSTED && err->reason != MD_REASON_TOO_LARGE;

    return reason_table[err->reason].again || is_exhausted ? MD_RETRY_AFTER_S : 0;
}

static void set_text(struct md_error *err, enum md_reason reason, enum md_code code,
                     const char *format, va_list args) MD_PRINTF(4, 0);

/* A text that was cut in the middle of a UTF-8 sequence loses its beginning too. */
static void end_text(char *text, size_t len)
{
    size_t at = len;

    while (at > 0 && len - at < 3 && ((unsigned char)text[at - 1] & 0xc0) == 0x80) {
        at--;
    }
    unsigned char lead = at > 0 ? (unsigned char)text[at - 1] : 0;
    size_t whole = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    text[lead >= 0xc0 && len - at + 1 < whole ? at - 1 : len] = '\0';
}

static void set_text(struct md_error *err, enum md_reason reason, enum md_code code,
                     const char *format, va_list args)
{
    err->code = code;
    err->reason = reason;
    int len = vsnprintf(err->text, sizeof err->text, format, args);
    if (len < 0) {
        err->text[0] = '\0';
    } else if ((size_t)len >= sizeof err->text) {
        end_text(err->text, sizeof err->text - 1);
    }
}

bool md_error_set(struct md_error *err, enum md_reason reason, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(err, reason, reason_table[reason].code, format, args);
    va_end(args);
    return false;
}

bool md_error_set_code(struct md_error *err, enum md_reason reason, enum md_code code,
                       const char *format, ...)
{
    va_list args;

    va_start(args, format);
    set_text(err, reason, code, format, args);
    va_end(args);
    return false;
}

bool md_error_prefix(struct md_error *err, const char *format, ...)
{
    char prefix[MD_ERROR_TEXT_MAX];
    va_list args;

    va_start(args, format);
    int printed = vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    if (printed <= 0) {
        return false;
    }
    size_t used = md_size_min((size_t)printed, sizeof prefix - 1);
    size_t room = sizeof err->text - 1;
    size_t lead = md_size_min(used + 2, room);
    size_t kept = md_size_min(strlen(err->text), room - lead);
    memmove(err->text + lead, err->text, kept);
    memcpy(err->text, prefix, md_size_min(used, lead));
    if (lead == used + 2) {
        memcpy(err->text + used, ": ", 2);
    }
    end_text(err->text, lead + kept);
    return false;
}

bool md_error_no_memory(struct md_error *err, const char *what)
{
    return md_error_set(err, MD_REASON_OUT_OF_MEMORY, "out of memory: %s", what);
}

bool md_error_over_budget(struct md_error *err)
{
    return md_error_set(err, MD_REASON_INFLIGHT_BYTES, "too many bytes are in flight: try again");
}

void md_error_clear(struct md_error *err)
{
    err->code = MD_CODE_OK;
    err->reason = MD_REASON_NONE;
    err->text[0] = '\0';
}
