/*
 * traceparent and tracestate.
 */
#include "trace/context.h"

/* Where the parts of version 00 stand: 00-<32 digits>-<16 digits>-<2 digits>. */
enum { TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53 };

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const char *text, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static void print_hex(const uint8_t *bytes, size_t count, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

static bool is_zero(const uint8_t *bytes, size_t count)
{
    uint8_t all = 0;

    for (size_t i = 0; i < count; i++) {
        all |= bytes[i];
    }
    return all == 0;
}

bool md_traceparent_parse(struct md_str text, struct md_trace_context *out)
{
    uint8_t version;

    if (text.len < MD_TRACEPARENT_BYTES || !read_hex(text.ptr, &version, 1) || version == 0xff ||
        text.ptr[TRACE_AT - 1] != '-' || text.ptr[SPAN_AT - 1] != '-' ||
        text.ptr[FLAGS_AT - 1] != '-' ||
        !read_hex(text.ptr + TRACE_AT, out->trace_id, MD_TRACE_ID_BYTES) ||
        !read_hex(text.ptr + SPAN_AT, out->span_id, MD_SPAN_ID_BYTES) ||
        !read_hex(text.ptr + FLAGS_AT, &out->flags, 1)) {
        return false;
    }
    if (text.len > MD_TRACEPARENT_BYTES &&
        (version == 0 || text.ptr[MD_TRACEPARENT_BYTES] != '-')) {
        return false;
    }
    out->flags &= version ? MD_TRACE_SAMPLED : UINT8_MAX;
    return !is_zero(out->trace_id, MD_TRACE_ID_BYTES) && !is_zero(out->span_id, MD_SPAN_ID_BYTES);
}

void md_traceparent_print(const struct md_trace_context *context,
                          char out[MD_TRACEPARENT_BYTES + 1])
{
    const uint8_t version = 0;

    memset(out, '-', MD_TRACEPARENT_BYTES);
    print_hex(&version, 1, out);
    print_hex(context->trace_id, MD_TRACE_ID_BYTES, out + TRACE_AT);
    print_hex(context->span_id, MD_SPAN_ID_BYTES, out + SPAN_AT);
    print_hex(&context->flags, 1, out + FLAGS_AT);
    out[MD_TRACEPARENT_BYTES] = '\0';
}

static bool is_printable(struct md_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((text.ptr[i] < ' ' && text.ptr[i] != '\t') || text.ptr[i] > '~') {
            return false;
        }
    }
    return true;
}

void md_tracestate_append(struct md_str header, char text[MD_TRACESTATE_MAX], size_t *len)
{
    struct md_str member;

    if (!is_printable(header)) {
        return;
    }
    while (md_str_split(&header, ',', &member)) {
        member = md_str_trim(member);
        size_t comma = *len > 0;
        if (!member.len || md_str_find(member, '=') <= 0) {
            continue;
        }
        if (*len + comma + member.len > MD_TRACESTATE_MAX) {
            return;
        }
        if (comma) {
            text[*len] = ',';
        }
        memcpy(text + *len + comma, member.ptr, member.len);
        *len += comma + member.len;
    }
}
