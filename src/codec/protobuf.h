/*
 * The wire format of protocol buffers (protobuf.dev/programming-guides/encoding): a reader without
 * copies over a message that is wholly in memory, and a writer that appends to a byte string. Plain
 * values; any thread. No schema: callers know their messages.
 *
 * Reading:
 *      struct md_pb_reader reader = md_pb_reader_of(message);
 *      struct md_pb_field field;
 *      while (md_pb_next(&reader, &field)) {
 *          switch (field.tag) {
 *          case MD_PB_TAG(1, MD_PB_BYTES): name = field.bytes; break;
 *          case MD_PB_TAG(2, MD_PB_VARINT): count = field.value; break;
 *          }
 *      }
 *      if (reader.failed) ...
 * What has another tag is skipped, as the specification wants it for unknown fields and for those
 * of an unexpected wire type. Of a singular field that comes again the last value counts; of a
 * singular sub-message all occurrences count, one after the other: read each into the same place.
 *
 * Not accepted: field number 0, varints beyond ten bytes (tags: beyond 32 bits), lengths beyond the
 * message, groups (deprecated since 2008) and the two wire types that do not exist.
 */
#ifndef MD_CODEC_PROTOBUF_H
#define MD_CODEC_PROTOBUF_H

#include "base/bytes.h"

enum md_pb_wire {
    MD_PB_VARINT = 0,  /* int32, int64, uint32, uint64, sint32, sint64, bool, enum */
    MD_PB_FIXED64 = 1, /* fixed64, sfixed64, double */
    MD_PB_BYTES = 2,   /* string, bytes, messages, packed repeated fields */
    MD_PB_FIXED32 = 5, /* fixed32, sfixed32, float */
};

/* What stands before a value; constant, for `case`. */
#define MD_PB_TAG(number, wire) ((uint32_t)(number) << 3 | (uint32_t)(wire))

enum { MD_PB_VARINT_MAX = 10 }; /* bytes */

/* --- reading -------------------- */

struct md_pb_reader {
    const char *at, *end; /* borrow: the message */
    bool failed;          /* it is malformed; nothing more is read */
};

struct md_pb_field {
    uint32_t tag;        /* MD_PB_TAG of it */
    uint64_t value;      /* of VARINT, FIXED32, FIXED64; negative integers are sign-extended */
    struct md_str bytes; /* the value as it was sent: the text of BYTES without its length, the
                            varint or 4 or 8 bytes else. A view into the message. */
};

static inline struct md_pb_reader md_pb_reader_of(struct md_str message)
{
    return (struct md_pb_reader){.at = message.ptr,
                                 .end = message.len ? message.ptr + message.len : message.ptr};
}

/* The next field; false at the end and when `failed` is set. */
bool md_pb_next(struct md_pb_reader *reader, struct md_pb_field *out) MD_MUST_CHECK;

/* The elements of a repeated scalar: whether `field` has them packed or is one of them, they are
 * read from md_pb_reader_of(field.bytes), one by one, until these return false. */
bool md_pb_next_varint(struct md_pb_reader *reader, uint64_t *out) MD_MUST_CHECK;
bool md_pb_next_fixed32(struct md_pb_reader *reader, uint32_t *out) MD_MUST_CHECK;
bool md_pb_next_fixed64(struct md_pb_reader *reader, uint64_t *out) MD_MUST_CHECK;

/* Number of varints in the bytes, complete ones: those of a packed field before it is read. */
size_t md_pb_count_varints(struct md_str bytes);

/* --- writing -------------------- */

static inline size_t md_pb_varint_bytes(uint64_t value)
{
    return ((size_t)(63 - __builtin_clzll(value | 1)) * 9 + 73) / 64;
}

/* Writes at `at`, which has room for it; returns the end. For messages whose size is known. */
static inline char *md_pb_store_varint(char *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (char)(value | 0x80);
        value >>= 7;
    }
    *at++ = (char)value;
    return at;
}

/* Each appends a field with its tag, also where the value is the default that proto3 leaves out;
 * out->failed tells of failures. Signed integers, booleans and enumerations: put_varint. */
void md_pb_put_varint(struct md_bytes *out, uint32_t number, uint64_t value);
void md_pb_put_fixed32(struct md_bytes *out, uint32_t number, uint32_t value);
void md_pb_put_fixed64(struct md_bytes *out, uint32_t number, uint64_t value);
void md_pb_put_float(struct md_bytes *out, uint32_t number, float value);
void md_pb_put_double(struct md_bytes *out, uint32_t number, double value);
void md_pb_put_bytes(struct md_bytes *out, uint32_t number, struct md_str value);
/* Packed; nothing at all if there are none. */
void md_pb_put_packed(struct md_bytes *out, uint32_t number, const int64_t *values, size_t count);

/* Tag and length alone: the caller appends, or sends from elsewhere, `bytes` bytes. */
void md_pb_put_head(struct md_bytes *out, uint32_t number, size_t bytes);

/* A sub-message of unknown length, or a map's entry: what is put between begin and end. Nests. A
 * sub-message of 128 bytes and more is moved once by a few bytes when it ends. */
size_t md_pb_begin(struct md_bytes *out, uint32_t number) MD_MUST_CHECK; /* for md_pb_end */
void md_pb_end(struct md_bytes *out, size_t begin);

#endif
