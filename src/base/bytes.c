/*
 * Growing byte string: capacity doubles, so appends are linear over all.
 */
#include "base/bytes.h"

#include "base/alloc.h"

#include <stdio.h>

void md_bytes_deinit(struct md_bytes *bytes)
{
    md_free(bytes->data);
    *bytes = (struct md_bytes){0};
}

void md_bytes_clear(struct md_bytes *bytes)
{
    bytes->len = 0;
    bytes->failed = false;
}

bool md_bytes_reserve(struct md_bytes *bytes, size_t extra)
{
    size_t need;

    if (MD_LIKELY(!bytes->failed && extra <= bytes->capacity - bytes->len)) {
        return true;
    }
    if (bytes->failed || !md_size_add(bytes->len, extra, &need) || need > SIZE_MAX / 2 ||
        (bytes->max && need > bytes->max)) {
        bytes->failed = true;
        return false;
    }
    size_t capacity = md_size_max(md_size_max(need, bytes->capacity * 2), 256);
    if (bytes->max) {
        capacity = md_size_min(capacity, bytes->max);
    }
    char *data = md_realloc(bytes->data, capacity);
    if (!data) {
        bytes->failed = true;
        return false;
    }
    bytes->data = data;
    bytes->capacity = capacity;
    return true;
}

void md_bytes_append(struct md_bytes *bytes, const void *data, size_t len)
{
    if (len && md_bytes_reserve(bytes, len)) {
        memcpy(bytes->data + bytes->len, data, len);
        bytes->len += len;
    }
}

void md_bytes_append_str(struct md_bytes *bytes, struct md_str s)
{
    md_bytes_append(bytes, s.ptr, s.len);
}

void md_bytes_append_c(struct md_bytes *bytes, const char *text)
{
    md_bytes_append(bytes, text, strlen(text));
}

void md_bytes_append_char(struct md_bytes *bytes, char c)
{
    md_bytes_append(bytes, &c, 1);
}

void md_bytes_append_u64(struct md_bytes *bytes, uint64_t value)
{
    char digits[MD_STR_U64_MAX];

    md_bytes_append_str(bytes, md_str_of_u64(value, digits));
}

void md_bytes_append_i64(struct md_bytes *bytes, int64_t value)
{
    if (value < 0) {
        md_bytes_append_char(bytes, '-');
        md_bytes_append_u64(bytes, 0 - (uint64_t)value);
    } else {
        md_bytes_append_u64(bytes, (uint64_t)value);
    }
}

void md_bytes_vprintf(struct md_bytes *bytes, const char *format, va_list args)
{
    va_list again;

    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (len < 0 || !md_bytes_reserve(bytes, (size_t)len + 1)) {
        bytes->failed = true;
        return;
    }
    (void)vsnprintf(bytes->data + bytes->len, (size_t)len + 1, format, args);
    bytes->len += (size_t)len;
}

void md_bytes_printf(struct md_bytes *bytes, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    md_bytes_vprintf(bytes, format, args);
    va_end(args);
}
