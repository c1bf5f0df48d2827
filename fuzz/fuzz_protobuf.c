/*
 * The wire reader: what is read whole reads alike after it was written again, and every view lies
 * inside the message.
 */
#include "codec/protobuf.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void demand(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void put(struct md_bytes *out, const struct md_pb_field *field)
{
    const uint32_t number = field->tag >> 3;

    switch (field->tag & 7) {
    case MD_PB_VARINT:
        md_pb_put_varint(out, number, field->value);
        break;
    case MD_PB_FIXED64:
        md_pb_put_fixed64(out, number, field->value);
        break;
    case MD_PB_FIXED32:
        md_pb_put_fixed32(out, number, (uint32_t)field->value);
        break;
    default: {
        size_t begin = md_pb_begin(out, number);
        md_bytes_append_str(out, field->bytes);
        md_pb_end(out, begin);
    }
    }
}

static void read_elements(struct md_str bytes)
{
    struct md_pb_reader reader = md_pb_reader_of(bytes);
    uint64_t value;
    uint32_t half;
    size_t count = 0;

    while (md_pb_next_varint(&reader, &value)) {
        count++;
    }
    demand(count == md_pb_count_varints(bytes) || reader.failed);
    reader = md_pb_reader_of(bytes);
    while (md_pb_next_fixed32(&reader, &half)) {}
    demand(reader.failed == (bytes.len % 4 != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct md_str message = md_str_make((const char *)bytes, size);
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field, again;
    struct md_bytes out = {0};

    while (md_pb_next(&reader, &field)) {
        demand(field.bytes.ptr >= message.ptr &&
               field.bytes.ptr + field.bytes.len <= message.ptr + message.len);
        read_elements(field.bytes);
        put(&out, &field);
    }
    demand(!out.failed && reader.at == reader.end);
    struct md_pb_reader second = md_pb_reader_of(md_bytes_view(&out));
    reader = md_pb_reader_of(message);
    while (md_pb_next(&reader, &field)) {
        demand(md_pb_next(&second, &again) && again.tag == field.tag && again.value == field.value);
        demand((field.tag & 7) == MD_PB_VARINT || md_str_eq(field.bytes, again.bytes));
    }
    demand(!md_pb_next(&second, &again) && !second.failed);
    md_bytes_deinit(&out);
    return 0;
}
