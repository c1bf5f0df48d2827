/*
 * The decoder is libnghttp2's, on our heap. Encoded fields are literals that no table keeps: the
 * static table gives names, and few answers have more than five fields.
 */
#include "http/hpack.h"

#include "base/alloc.h"

#include <nghttp2/nghttp2.h>

struct md_hpack_decoder {
    nghttp2_hd_inflater *inflater;
};

/* --- decoding -------------------- */

static void *memory_alloc(size_t size, void *arg)
{
    (void)arg;
    return md_alloc(size);
}

static void memory_free(void *ptr, void *arg)
{
    (void)arg;
    md_free(ptr);
}

static void *memory_calloc(size_t count, size_t size, void *arg)
{
    (void)arg;
    return md_calloc(count, size);
}

static void *memory_realloc(void *ptr, size_t size, void *arg)
{
    (void)arg;
    return md_realloc(ptr, size);
}

bool md_hpack_decoder_create(struct md_hpack_decoder **out)
{
    /* libnghttp2 keeps the pointer */
    static nghttp2_mem memory = {NULL, memory_alloc, memory_free, memory_calloc, memory_realloc};
    struct md_hpack_decoder *decoder = md_calloc(1, sizeof *decoder);

    if (decoder && nghttp2_hd_inflate_new2(&decoder->inflater, &memory) != 0) {
        md_free(decoder);
        decoder = NULL;
    }
    *out = decoder;
    return decoder != NULL;
}

void md_hpack_decoder_destroy(struct md_hpack_decoder *decoder)
{
    if (decoder) {
        nghttp2_hd_inflate_del(decoder->inflater);
        md_free(decoder);
    }
}

enum md_progress md_hpack_decode(struct md_hpack_decoder *decoder, struct md_str *block, bool last,
                                 struct md_hpack_field *field)
{
    nghttp2_nv nv = {0};
    int flags = 0;
    ssize_t taken = nghttp2_hd_inflate_hd2(decoder->inflater, &nv, &flags,
                                           (const uint8_t *)block->ptr, block->len, last);

    *field = (struct md_hpack_field){0};
    if (taken < 0) {
        return MD_PROGRESS_ERROR;
    }
    *block = md_str_make(block->ptr + taken, block->len - (size_t)taken);
    if (flags & NGHTTP2_HD_INFLATE_EMIT) {
        field->name = md_str_make((const char *)nv.name, nv.namelen);
        field->value = md_str_make((const char *)nv.value, nv.valuelen);
        return MD_PROGRESS_AGAIN;
    }
    if (flags & NGHTTP2_HD_INFLATE_FINAL) {
        (void)nghttp2_hd_inflate_end_headers(decoder->inflater);
        return MD_PROGRESS_DONE;
    }
    return last ? MD_PROGRESS_ERROR : MD_PROGRESS_AGAIN;
}

/* --- encoding -------------------- */

/* Names of the static table that answers have (RFC 7541 appendix A). */
static const struct {
    struct md_str name;
    unsigned char index;
} static_names[] = {
    {MD_STR("content-type"), 31},
    {MD_STR("content-length"), 28},
    {MD_STR("date"), 33},
    {MD_STR("content-encoding"), 26},
    {MD_STR("server"), 54},
    {MD_STR("allow"), 22},
    {MD_STR("retry-after"), 53},
    {MD_STR("access-control-allow-origin"), 20},
    {MD_STR("vary"), 59},
    {MD_STR("accept-encoding"), 16},
    {MD_STR("www-authenticate"), 61},
};

/* Integers with a prefix of `bits` bits (RFC 7541 5.1). */
static char *put_integer(char *at, unsigned bits, unsigned char first, size_t value)
{
    const size_t most = ((size_t)1 << bits) - 1;

    if (value < most) {
        *at++ = (char)(first | value);
        return at;
    }
    *at++ = (char)(first | most);
    for (value -= most; value >= 128; value >>= 7) {
        *at++ = (char)(0x80 | (value & 0x7f));
    }
    *at++ = (char)value;
    return at;
}

enum { INTEGER_MAX = 11 }; /* bytes of one */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

void md_hpack_put(struct md_bytes *out, struct md_str name, struct md_str value)
{
    size_t index = 0;

    if (!md_bytes_reserve(out, 1 + 2 * INTEGER_MAX + name.len + value.len)) {
        return;
    }
    for (size_t i = 0; !index && i < MD_COUNT_OF(static_names); i++) {
        index = md_str_eq_nocase(name, static_names[i].name) ? static_names[i].index : 0;
    }
    char *at = put_integer(out->data + out->len, 4, 0, index);
    if (!index) {
        at = put_integer(at, 7, 0, name.len);
        for (size_t i = 0; i < name.len; i++) {
            *at++ = lower(name.ptr[i]);
        }
    }
    at = put_integer(at, 7, 0, value.len);
    if (value.len) {
        memcpy(at, value.ptr, value.len);
    }
    out->len = (size_t)(at - out->data) + value.len;
}

void md_hpack_put_number(struct md_bytes *out, struct md_str name, uint64_t value)
{
    char digits[MD_STR_U64_MAX];

    md_hpack_put(out, name, md_str_of_u64(value, digits));
}

void md_hpack_put_status(struct md_bytes *out, unsigned status)
{
    static const unsigned indexed[] = {200, 204, 206, 304, 400, 404, 500}; /* entries 8.. */
    const unsigned char literal[] = {0x08, 3};

    for (size_t i = 0; i < MD_COUNT_OF(indexed); i++) {
        if (indexed[i] == status) {
            md_bytes_append_char(out, (char)(0x80 | (8 + i)));
            return;
        }
    }
    md_bytes_append(out, literal, sizeof literal);
    md_bytes_append_char(out, (char)('0' + status / 100 % 10));
    md_bytes_append_char(out, (char)('0' + status / 10 % 10));
    md_bytes_append_char(out, (char)('0' + status % 10));
}
