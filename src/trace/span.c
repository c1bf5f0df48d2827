/*
 * Spans, written field by field.
 */
#include "trace/span.h"

#include "codec/protobuf.h"

/* Field numbers, by message. */
enum { REQUEST_RESOURCE_SPANS = 1 };
enum { RESOURCE_SPANS_RESOURCE = 1, RESOURCE_SPANS_SCOPE_SPANS = 2 };
enum { SCOPE_SPANS_SCOPE = 1, SCOPE_SPANS_SPANS = 2 };
enum { SCOPE_NAME = 1, SCOPE_VERSION = 2 };
enum { RESOURCE_ATTRIBUTES = 1 };
enum { KEY_VALUE_KEY = 1, KEY_VALUE_VALUE = 2 };
enum { VALUE_STRING = 1, VALUE_INT = 3 };
enum { STATUS_MESSAGE = 2, STATUS_CODE = 3, STATUS_IS_ERROR = 2 };
enum {
    SPAN_TRACE_ID = 1,
    SPAN_SPAN_ID = 2,
    SPAN_TRACE_STATE = 3,
    SPAN_PARENT_ID = 4,
    SPAN_NAME = 5,
    SPAN_KIND = 6,
    SPAN_BEGIN = 7,
    SPAN_END = 8,
    SPAN_ATTRIBUTES = 9,
    SPAN_STATUS = 15,
    SPAN_FLAGS = 16,
};
enum { FLAG_HAS_IS_REMOTE = 0x100, FLAG_IS_REMOTE = 0x200 };
enum { ANSWER_PARTIAL_SUCCESS = 1, PARTIAL_REJECTED = 1, PARTIAL_MESSAGE = 2 };

static const char scope_name[] = "modeld";

/* At most MD_SPAN_TEXT_MAX bytes, cut between two characters. */
static struct md_str cut(struct md_str text)
{
    if (text.len > MD_SPAN_TEXT_MAX) {
        text.len = MD_SPAN_TEXT_MAX;
        while (text.len && ((unsigned char)text.ptr[text.len] & 0xc0) == 0x80) {
            text.len--;
        }
    }
    return text;
}

static void put_attribute(struct md_bytes *out, uint32_t number, struct md_str key,
                          struct md_str text, int64_t integer)
{
    const size_t attribute = md_pb_begin(out, number);

    md_pb_put_bytes(out, KEY_VALUE_KEY, key);
    const size_t value = md_pb_begin(out, KEY_VALUE_VALUE);
    if (text.ptr) {
        md_pb_put_bytes(out, VALUE_STRING, cut(text));
    } else {
        md_pb_put_varint(out, VALUE_INT, (uint64_t)integer);
    }
    md_pb_end(out, value);
    md_pb_end(out, attribute);
}

static struct md_str id(const uint8_t *bytes, size_t len)
{
    return md_str_make((const char *)bytes, len);
}

void md_span_append(const struct md_span *span, struct md_bytes *out)
{
    const size_t begin = md_pb_begin(out, SCOPE_SPANS_SPANS);
    uint32_t flags = span->context.flags;

    md_pb_put_bytes(out, SPAN_TRACE_ID, id(span->context.trace_id, MD_TRACE_ID_BYTES));
    md_pb_put_bytes(out, SPAN_SPAN_ID, id(span->context.span_id, MD_SPAN_ID_BYTES));
    if (span->tracestate.len) {
        md_pb_put_bytes(out, SPAN_TRACE_STATE, span->tracestate);
    }
    if (span->parent_id) {
        md_pb_put_bytes(out, SPAN_PARENT_ID, id(span->parent_id, MD_SPAN_ID_BYTES));
        flags |= FLAG_HAS_IS_REMOTE | (span->has_remote_parent ? FLAG_IS_REMOTE : 0U);
    }
    md_pb_put_bytes(out, SPAN_NAME, md_str_of(span->name));
    md_pb_put_varint(out, SPAN_KIND, span->kind);
    md_pb_put_fixed64(out, SPAN_BEGIN, span->begin_ns);
    md_pb_put_fixed64(out, SPAN_END, span->end_ns);
    for (size_t i = 0; i < span->attribute_count; i++) {
        const struct md_span_attribute *attribute = &span->attributes[i];
        put_attribute(out, SPAN_ATTRIBUTES, md_str_of(attribute->key), attribute->text,
                      attribute->number);
    }
    if (span->error) {
        const size_t status = md_pb_begin(out, SPAN_STATUS);
        md_pb_put_bytes(out, STATUS_MESSAGE, cut(md_str_of(span->error)));
        md_pb_put_varint(out, STATUS_CODE, STATUS_IS_ERROR);
        md_pb_end(out, status);
    }
    md_pb_put_fixed32(out, SPAN_FLAGS, flags);
    md_pb_end(out, begin);
}

void md_span_print_resource(const struct md_span_resource *attributes, size_t count,
                            struct md_bytes *out)
{
    for (size_t i = 0; i < count; i++) {
        put_attribute(out, RESOURCE_ATTRIBUTES, attributes[i].key, attributes[i].value, 0);
    }
}

void md_span_append_head(struct md_str resource, size_t span_bytes, struct md_bytes *out)
{
    struct md_bytes scope = {0};

    const size_t begin = md_pb_begin(&scope, SCOPE_SPANS_SCOPE);
    md_pb_put_bytes(&scope, SCOPE_NAME, md_str_of(scope_name));
    md_pb_put_bytes(&scope, SCOPE_VERSION, md_str_of(MODELD_VERSION));
    md_pb_end(&scope, begin);

    const size_t scope_spans = scope.len + span_bytes;
    const size_t resource_spans = 1 + md_pb_varint_bytes(resource.len) +
                                  resource.len + /* the tags have one byte each */
                                  1 + md_pb_varint_bytes(scope_spans) + scope_spans;
    md_pb_put_head(out, REQUEST_RESOURCE_SPANS, resource_spans);
    md_pb_put_bytes(out, RESOURCE_SPANS_RESOURCE, resource);
    md_pb_put_head(out, RESOURCE_SPANS_SCOPE_SPANS, scope_spans);
    md_bytes_append_str(out, md_bytes_view(&scope));
    out->failed |= scope.failed;
    md_bytes_deinit(&scope);
}

uint64_t md_span_rejected(struct md_str answer, struct md_str *reason)
{
    struct md_pb_reader reader = md_pb_reader_of(answer);
    struct md_pb_field field;
    struct md_str partial = MD_STR("");
    uint64_t rejected = 0;

    *reason = MD_STR("");
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(ANSWER_PARTIAL_SUCCESS, MD_PB_BYTES)) {
            partial = field.bytes;
        }
    }
    if (reader.failed) {
        return 0;
    }
    reader = md_pb_reader_of(partial);
    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(PARTIAL_REJECTED, MD_PB_VARINT)) {
            rejected = field.value;
        } else if (field.tag == MD_PB_TAG(PARTIAL_MESSAGE, MD_PB_BYTES)) {
            *reason = field.bytes;
        }
    }
    return reader.failed ? 0 : rejected;
}
