/*
 * Messages in protobuf's wire format, driven by the schema. An explicit stack, bounded by the
 * schema's depth.
 */
#include "codec/protobuf.h"
#include "config/schema.h"

#include <assert.h>
#include <math.h>

struct printer {
    struct md_bytes *out;
    struct {
        const struct md_message *message;
        size_t field, index; /* what comes next */
        size_t begin;        /* for md_pb_end; unused for the outermost one */
    } open[MD_MESSAGE_DEPTH_MAX];
    size_t depth;
};

static void open_message(struct printer *p, const struct md_message *message, size_t begin)
{
    assert(p->depth < MD_COUNT_OF(p->open));
    p->open[p->depth].message = message;
    p->open[p->depth].field = p->open[p->depth].index = 0;
    p->open[p->depth++].begin = begin;
}

static bool is_default(const struct md_field_desc *field, struct md_value value)
{
    switch (field->kind) {
    case MD_FIELD_BOOL:
        return !value.as.boolean;
    case MD_FIELD_DOUBLE:
        return value.as.number == 0 && !signbit(value.as.number);
    case MD_FIELD_STRING:
        return value.as.string.len == 0;
    default:
        return value.as.natural == 0; /* INT and ENUM lie at the same place */
    }
}

static void print_scalar(const struct md_field_desc *field, struct md_value value,
                         struct md_bytes *out)
{
    switch (field->kind) {
    case MD_FIELD_STRING:
        md_pb_put_bytes(out, field->number, value.as.string);
        break;
    case MD_FIELD_DOUBLE:
        if (field->bits == 32) {
            md_pb_put_float(out, field->number, (float)value.as.number);
        } else {
            md_pb_put_double(out, field->number, value.as.number);
        }
        break;
    case MD_FIELD_BOOL:
        md_pb_put_varint(out, field->number, value.as.boolean);
        break;
    default: /* sign-extended to 64 bits, as the format wants it */
        md_pb_put_varint(out, field->number, value.as.natural);
        break;
    }
}

/* Numbers without their tags, for a packed list. */
static void append_number(const struct md_field_desc *field, struct md_value value,
                          struct md_bytes *out)
{
    if (field->kind == MD_FIELD_DOUBLE && field->bits == 32) {
        md_bytes_append(out, &(float){(float)value.as.number}, sizeof(float));
    } else if (field->kind == MD_FIELD_DOUBLE) {
        md_bytes_append(out, &value.as.number, sizeof value.as.number);
    } else if (md_bytes_reserve(out, MD_PB_VARINT_MAX)) {
        char *at = out->data + out->len;
        uint64_t number =
            field->kind == MD_FIELD_BOOL ? (uint64_t)value.as.boolean : value.as.natural;
        out->len += (size_t)(md_pb_store_varint(at, number) - at);
    }
}

/* A field that holds no messages. Of a oneof it is said even where it is the default. */
static void print_scalars(const struct md_field_desc *field, const struct md_field_values *values,
                          struct md_bytes *out)
{
    bool is_packed = field->repeated && field->kind != MD_FIELD_STRING && values->count;
    size_t begin = is_packed ? md_pb_begin(out, field->number) : 0;

    for (size_t i = 0; i < values->count; i++) {
        if (is_packed) {
            append_number(field, values->items[i], out);
        } else if (field->repeated || field->oneof || !is_default(field, values->items[i])) {
            print_scalar(field, values->items[i], out);
        }
    }
    if (is_packed) {
        md_pb_end(out, begin);
    }
}

/* The next field of the innermost message, or the next message inside it. */
static void print_step(struct printer *p)
{
    const size_t top = p->depth - 1;
    const struct md_message *message = p->open[top].message;

    if (p->open[top].field == message->desc->field_count) {
        if (--p->depth) {
            md_pb_end(p->out, p->open[top].begin);
        }
        return;
    }
    const struct md_field_desc *field = &message->desc->fields[p->open[top].field];
    const struct md_field_values *values = &message->fields[p->open[top].field];
    const bool holds_messages = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
    if (holds_messages && p->open[top].index < values->count) {
        open_message(p, values->items[p->open[top].index++].as.message,
                     md_pb_begin(p->out, field->number));
        return;
    }
    if (!holds_messages) {
        print_scalars(field, values, p->out);
    }
    p->open[top].field++;
    p->open[top].index = 0;
}

void md_message_print_protobuf(const struct md_message *message, struct md_bytes *out)
{
    struct printer p = {.out = out};

    open_message(&p, message, 0);
    while (p.depth) {
        print_step(&p);
    }
}
