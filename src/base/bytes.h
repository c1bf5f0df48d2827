/*
 * Growing byte string for building text and wire data. One owner, one thread.
 *
 * A failed growth (out of memory, or past `max`) is remembered in `failed` and later appends do
 * nothing, so build the whole thing and test once. Zeroed is valid and means: no limit.
 */
#ifndef MD_BASE_BYTES_H
#define MD_BASE_BYTES_H

#include "base/str.h"

#include <stdarg.h>

struct md_bytes {
    char *data; /* own */
    size_t len;
    size_t capacity;
    size_t max; /* 0: no limit */
    bool failed;
};

void md_bytes_deinit(struct md_bytes *bytes);
void md_bytes_clear(struct md_bytes *bytes); /* keeps the memory */

/* Room for `extra` more bytes at data + len; false on failure. The caller writes there and adds to
 * len. */
bool md_bytes_reserve(struct md_bytes *bytes, size_t extra) MD_MUST_CHECK;

void md_bytes_append(struct md_bytes *bytes, const void *data, size_t len);
void md_bytes_append_str(struct md_bytes *bytes, struct md_str s);
void md_bytes_append_c(struct md_bytes *bytes, const char *text);
void md_bytes_append_char(struct md_bytes *bytes, char c);
void md_bytes_append_u64(struct md_bytes *bytes, uint64_t value);
void md_bytes_append_i64(struct md_bytes *bytes, int64_t value);
void md_bytes_printf(struct md_bytes *bytes, const char *format, ...) MD_PRINTF(2, 3);
void md_bytes_vprintf(struct md_bytes *bytes, const char *format, va_list args) MD_PRINTF(2, 0);

static inline struct md_str md_bytes_view(const struct md_bytes *bytes)
{
    return md_str_make(bytes->data, bytes->len);
}

#endif
