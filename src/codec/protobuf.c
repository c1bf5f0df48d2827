/*
 * The wire format of protocol buffers.
 */
#include "codec/protobuf.h"

static bool fail(struct md_pb_reader *reader)
{
    reader->failed = true;
    reader->at = reader->end;
    return false;
}

/* --- reading -------------------- */

static bool read_varint(struct md_pb_reader *reader, uint64_t *out)
{
    const size_t max = md_size_min((size_t)(reader->end - reader->at), MD_PB_VARINT_MAX);
    uint64_t value = 0;

    for (size_t i = 0; i < max; i++) {
        const uint64_t byte = (unsigned char)reader->at[i];
        value |= (byte & 0x7f) << 7 * i; /* of the tenth byte only the lowest bit fits, as with
                                            other readers */
        if (byte < 0x80) {
            reader->at += i + 1;
            *out = value;
            return true;
        }
    }
    return fail(reader);
}

/* The common case of one byte is here. */
static inline bool next_varint(struct md_pb_reader *reader, uint64_t *out)
{
    if (MD_LIKELY(reader->at < reader->end && (unsigned char)*reader->at < 0x80)) {
        *out = (unsigned char)*reader->at++;
        return true;
    }
    return read_varint(reader, out);
}

static bool take(struct md_pb_reader *reader, size_t bytes, struct md_str *out)
{
    if (bytes > (size_t)(reader->end - reader->at)) {
        return fail(reader);
    }
    *out = md_str_make(reader->at, bytes);
    reader->at += bytes;
    return true;
}

/* Little-endian, as the processor's own. */
static uint64_t load_fixed(struct md_str bytes)
{
    uint64_t value = 0;

    memcpy(&value, bytes.ptr, bytes.len);
    return value;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they lie");

bool md_pb_next(struct md_pb_reader *reader, struct md_pb_field *out)
{
    uint64_t tag, length;

    if (reader->at == reader->end || !next_varint(reader, &tag)) {
        return false;
    }
    if (tag > UINT32_MAX || tag >> 3 == 0) {
        return fail(reader);
    }
    out->tag = (uint32_t)tag;
    out->value = 0;
    const char *begin = reader->at;
    switch (tag & 7) {
    case MD_PB_VARINT:
        if (!next_varint(reader, &out->value)) {
            return false;
        }
        out->bytes = md_str_make(begin, (size_t)(reader->at - begin));
        return true;
    case MD_PB_BYTES:
        return next_varint(reader, &length) && take(reader, length, &out->bytes);
    case MD_PB_FIXED32:
    case MD_PB_FIXED64:
        if (!take(reader, (tag & 7) == MD_PB_FIXED32 ? 4 : 8, &out->bytes)) {
            return false;
        }
        out->value = load_fixed(out->bytes);
        return true;
    default:
        return fail(reader);
    }
}

bool md_pb_next_varint(struct md_pb_reader *reader, uint64_t *out)
{
    return reader->at != reader->end && next_varint(reader, out);
}

bool md_pb_next_fixed32(struct md_pb_reader *reader, uint32_t *out)
{
    struct md_str bytes;

    if (reader->at == reader->end || !take(reader, sizeof *out, &bytes)) {
        return false;
    }
    *out = (uint32_t)load_fixed(bytes);
    return true;
}

bool md_pb_next_fixed64(struct md_pb_reader *reader, uint64_t *out)
{
    struct md_str bytes;

    if (reader->at == reader->end || !take(reader, sizeof *out, &bytes)) {
        return false;
    }
    *out = load_fixed(bytes);
    return true;
}

size_t md_pb_count_varints(struct md_str bytes)
{
    size_t count = 0;

    for (size_t i = 0; i < bytes.len; i++) {
        count += (unsigned char)bytes.ptr[i] < 0x80;
    }
    return count;
}

/* --- writing -------------------- */

static void put_two(struct md_bytes *out, uint32_t tag, uint64_t value)
{
    if (md_bytes_reserve(out, md_pb_varint_bytes(tag) + md_pb_varint_bytes(value))) {
        char *at = md_pb_store_varint(out->data + out->len, tag);
        out->len = (size_t)(md_pb_store_varint(at, value) - out->data);
    }
}

void md_pb_put_varint(struct md_bytes *out, uint32_t number, uint64_t value)
{
    put_two(out, MD_PB_TAG(number, MD_PB_VARINT), value);
}

void md_pb_put_head(struct md_bytes *out, uint32_t number, size_t bytes)
{
    put_two(out, MD_PB_TAG(number, MD_PB_BYTES), bytes);
}

static void put_fixed(struct md_bytes *out, uint32_t tag, const void *value, size_t bytes)
{
    if (md_bytes_reserve(out, md_pb_varint_bytes(tag) + bytes)) {
        char *at = md_pb_store_varint(out->data + out->len, tag);
        memcpy(at, value, bytes);
        out->len = (size_t)(at + bytes - out->data);
    }
}

void md_pb_put_fixed32(struct md_bytes *out, uint32_t number, uint32_t value)
{
    put_fixed(out, MD_PB_TAG(number, MD_PB_FIXED32), &value, sizeof value);
}

void md_pb_put_fixed64(struct md_bytes *out, uint32_t number, uint64_t value)
{
    put_fixed(out, MD_PB_TAG(number, MD_PB_FIXED64), &value, sizeof value);
}

void md_pb_put_float(struct md_bytes *out, uint32_t number, float value)
{
    put_fixed(out, MD_PB_TAG(number, MD_PB_FIXED32), &value, sizeof value);
}

void md_pb_put_double(struct md_bytes *out, uint32_t number, double value)
{
    put_fixed(out, MD_PB_TAG(number, MD_PB_FIXED64), &value, sizeof value);
}

void md_pb_put_bytes(struct md_bytes *out, uint32_t number, struct md_str value)
{
    md_pb_put_head(out, number, value.len);
    md_bytes_append_str(out, value);
}

void md_pb_put_packed(struct md_bytes *out, uint32_t number, const int64_t *values, size_t count)
{
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++) {
        bytes += md_pb_varint_bytes((uint64_t)values[i]);
    }
    if (count == 0) {
        return;
    }
    md_pb_put_head(out, number, bytes);
    if (md_bytes_reserve(out, bytes)) {
        char *at = out->data + out->len;
        for (size_t i = 0; i < count; i++) {
            at = md_pb_store_varint(at, (uint64_t)values[i]);
        }
        out->len += bytes;
    }
}

size_t md_pb_begin(struct md_bytes *out, uint32_t number)
{
    md_pb_put_head(out, number, 0); /* one byte of length */
    return out->len;
}

void md_pb_end(struct md_bytes *out, size_t begin)
{
    if (out->failed) {
        return;
    }
    const size_t bytes = out->len - begin;
    const size_t more = md_pb_varint_bytes(bytes) - 1;
    if (more) {
        if (!md_bytes_reserve(out, more)) {
            return;
        }
        memmove(out->data + begin + more, out->data + begin, bytes);
        out->len += more;
    }
    (void)md_pb_store_varint(out->data + begin - 1, bytes);
}
