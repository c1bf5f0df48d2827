/*
 * codec/protobuf.h: examples of the specification, what must be refused, and what is written.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>
#include <cmocka.h>

#include "base/fault.h"
#include "codec/protobuf.h"

#include <inttypes.h>
#include <stdio.h>

#define BYTES(literal) ((struct md_str){literal, sizeof(literal) - 1})

/* --- reading -------------------- */

static void print_text(struct md_bytes *out, struct md_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        md_bytes_printf(out, "%02x", (unsigned char)text.ptr[i]);
    }
}

/* "1:v150 2:b666f 3:f1 4:d1", and "!" where it is malformed. */
static struct md_bytes read_text(struct md_str message)
{
    static const char kinds[] = "vdb?\0f";
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;
    struct md_bytes out = {0};

    while (md_pb_next(&reader, &field)) {
        md_bytes_printf(&out, "%s%u:%c", out.len ? " " : "", field.tag >> 3, kinds[field.tag & 7]);
        if ((field.tag & 7) == MD_PB_BYTES) {
            print_text(&out, field.bytes);
        } else {
            md_bytes_append_u64(&out, field.value);
        }
    }
    md_bytes_append_c(&out, reader.failed ? "!" : "");
    assert_ptr_equal(reader.at, reader.end);
    assert_false(md_pb_next(&reader, &field));
    return out;
}

static void test_protobuf_reads(void **state)
{
    static const struct {
        struct md_str message;
        const char *text;
    } cases[] = {
        {BYTES(""), ""},
        {BYTES("\x08\x96\x01"), "1:v150"},
        {BYTES("\x12\x07testing"), "2:b74657374696e67"},
        {BYTES("\x1a\x03\x08\x96\x01"), "3:b089601"},
        {BYTES("\x0d\x01\x02\x03\x04"), "1:f67305985"},
        {BYTES("\x09\x01\0\0\0\0\0\0\x80"), "1:d9223372036854775809"},
        {BYTES("\x32\x06\x03\x8e\x02\x9e\xa7\x05"), "6:b038e029ea705"},
        {BYTES("\x0a\0\x10\0"), "1:b 2:v0"},
        {BYTES("\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "1:v18446744073709551614"},
        /* more than 64 bits are cut, zeroes above the value are fine */
        {BYTES("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), "1:v18446744073709551615"},
        {BYTES("\x08\x81\x80\x80\x80\x80\x80\x80\x80\x80\0"), "1:v1"},
        /* the largest field number, and a tag in more bytes than it needs */
        {BYTES("\xf8\xff\xff\xff\x0f\x01"), "536870911:v1"},
        {BYTES("\x88\x80\0\x01"), "1:v1"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes out = read_text(cases[i].message);
        if (!md_str_eq_c(md_bytes_view(&out), cases[i].text)) {
            fail_msg("case %zu: %.*s", i, MD_STR_ARG(md_bytes_view(&out)));
        }
        md_bytes_deinit(&out);
    }
}

static void test_protobuf_refuses(void **state)
{
    static const struct {
        const char *what;
        struct md_str message;
    } cases[] = {
        {"field 0", BYTES("\0\x01")},
        {"field 0 in two bytes", BYTES("\x82\0\0")},
        {"a tag without a value", BYTES("\x08")},
        {"a varint that is cut", BYTES("\x08\x96")},
        {"a tag that is cut", BYTES("\x88")},
        {"a varint of eleven bytes", BYTES("\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\0")},
        {"a tag of 33 bits", BYTES("\x88\x80\x80\x80\x10\x01")},
        {"a length beyond the message", BYTES("\x0a\x03xy")},
        {"the largest length", BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01xy")},
        {"fixed32 that is cut", BYTES("\x0d\x01\x02\x03")},
        {"fixed64 that is cut", BYTES("\x09\x01\x02\x03\x04\x05\x06\x07")},
        {"a group's begin", BYTES("\x0b\x0c")},
        {"a group's end", BYTES("\x0c")},
        {"wire type 6", BYTES("\x0e\0")},
        {"wire type 7", BYTES("\x0f\0")},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes out = read_text(cases[i].message);
        if (!md_str_eq_c(md_bytes_view(&out), "!")) {
            fail_msg("%s: %.*s", cases[i].what, MD_STR_ARG(md_bytes_view(&out)));
        }
        md_bytes_deinit(&out);
    }
}

/* What was read before the mistake stands. */
static void test_protobuf_reads_up_to_a_mistake(void **state)
{
    struct md_bytes out = read_text(BYTES("\x08\x01\x12\x05"));

    (void)state;
    assert_true(md_str_eq_c(md_bytes_view(&out), "1:v1!"));
    md_bytes_deinit(&out);
}

/* Packed or one by one, the elements come alike. */
static void test_protobuf_repeated_scalars(void **state)
{
    struct md_pb_reader reader =
        md_pb_reader_of(BYTES("\x32\x06\x03\x8e\x02\x9e\xa7\x05\x30\x07\x32\0\x30\x80\x01"));
    static const uint64_t expected[] = {3, 270, 86942, 7, 128};
    struct md_pb_field field;
    size_t count = 0, counted = 0;
    uint64_t value;

    (void)state;
    while (md_pb_next(&reader, &field)) {
        struct md_pb_reader elements = md_pb_reader_of(field.bytes);
        counted += md_pb_count_varints(field.bytes);
        while (md_pb_next_varint(&elements, &value)) {
            assert_true(count < MD_COUNT_OF(expected));
            assert_int_equal(value, expected[count++]);
        }
        assert_false(elements.failed);
    }
    assert_false(reader.failed);
    assert_int_equal(count, MD_COUNT_OF(expected));
    assert_int_equal(counted, count);
}

static void test_protobuf_repeated_fixed(void **state)
{
    struct md_pb_reader reader =
        md_pb_reader_of(BYTES("\x0a\x08\x01\0\0\0\x02\0\0\0\x0d\x03\0\0\0\x09\x04\0\0\0\0\0\0\0"));
    struct md_pb_field field;
    uint64_t sum = 0, wide;
    uint32_t narrow;

    (void)state;
    while (md_pb_next(&reader, &field)) {
        struct md_pb_reader elements = md_pb_reader_of(field.bytes);
        while ((field.tag & 7) != MD_PB_FIXED64 && md_pb_next_fixed32(&elements, &narrow)) {
            sum = sum * 10 + narrow;
        }
        while ((field.tag & 7) == MD_PB_FIXED64 && md_pb_next_fixed64(&elements, &wide)) {
            sum = sum * 10 + wide;
        }
        assert_false(elements.failed);
    }
    assert_int_equal(sum, 1234);
}

static void test_protobuf_cut_elements_fail(void **state)
{
    struct md_pb_reader varints = md_pb_reader_of(BYTES("\x01\x80"));
    struct md_pb_reader narrow = md_pb_reader_of(BYTES("\x01\0\0"));
    struct md_pb_reader wide = md_pb_reader_of(BYTES("\x01\0\0\0\0\0\0"));
    uint64_t value;
    uint32_t half;

    (void)state;
    assert_true(md_pb_next_varint(&varints, &value));
    assert_false(md_pb_next_varint(&varints, &value));
    assert_false(md_pb_next_fixed32(&narrow, &half));
    assert_false(md_pb_next_fixed64(&wide, &value));
    assert_true(varints.failed && narrow.failed && wide.failed);
}

/* --- writing -------------------- */

static void test_protobuf_varint_sizes(void **state)
{
    char text[MD_PB_VARINT_MAX];

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        const uint64_t values[] = {UINT64_C(1) << bit, (UINT64_C(1) << bit) - 1,
                                   UINT64_MAX >> (63 - bit)};
        for (size_t i = 0; i < MD_COUNT_OF(values); i++) {
            const size_t len = (size_t)(md_pb_store_varint(text, values[i]) - text);
            struct md_pb_reader reader = md_pb_reader_of(md_str_make(text, len));
            uint64_t back = 0;
            assert_int_equal(len, md_pb_varint_bytes(values[i]));
            assert_true(md_pb_next_varint(&reader, &back));
            assert_true(back == values[i] && reader.at == reader.end);
        }
    }
}

static void test_protobuf_writes(void **state)
{
    static const int64_t shape[] = {1, -1, 300};
    struct md_bytes out = {0};

    (void)state;
    md_pb_put_varint(&out, 1, 150);
    md_pb_put_bytes(&out, 2, MD_STR("testing"));
    md_pb_put_float(&out, 3, 1.0f);
    md_pb_put_double(&out, 4, -2.0);
    md_pb_put_fixed32(&out, 5, 7);
    md_pb_put_fixed64(&out, 16, 8);
    md_pb_put_packed(&out, 6, shape, 3);
    md_pb_put_packed(&out, 7, shape, 0);
    size_t outer = md_pb_begin(&out, 8);
    size_t inner = md_pb_begin(&out, 1);
    md_pb_put_varint(&out, 1, 1);
    md_pb_end(&out, inner);
    md_pb_end(&out, outer);
    const struct md_str expected =
        BYTES("\x08\x96\x01"
              "\x12\x07testing"
              "\x1d\0\0\x80\x3f"
              "\x21\0\0\0\0\0\0\0\xc0"
              "\x2d\x07\0\0\0"
              "\x81\x01\x08\0\0\0\0\0\0\0"
              "\x32\x0d\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xac\x02"
              "\x42\x04\x0a\x02\x08\x01");
    assert_false(out.failed);
    assert_int_equal(out.len, expected.len);
    assert_memory_equal(out.data, expected.ptr, expected.len);
    md_bytes_deinit(&out);
}

/* Lengths on both sides of where one more byte of length is needed; two levels of them. */
static void test_protobuf_long_sub_messages(void **state)
{
    static const size_t sizes[] = {0, 121, 125, 126, 127, 128, 16379, 16380, 16384, 3000000};
    static char text[3000000];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(sizes); i++) {
        struct md_bytes out = {0};
        struct md_pb_field field = {0};
        size_t outer = md_pb_begin(&out, 1), inner = md_pb_begin(&out, 2);
        md_pb_put_bytes(&out, 3, md_str_make(text, sizes[i]));
        md_pb_end(&out, inner);
        md_pb_put_varint(&out, 4, 5);
        md_pb_end(&out, outer);
        md_pb_put_varint(&out, 6, 7);
        assert_false(out.failed);

        struct md_pb_reader top = md_pb_reader_of(md_bytes_view(&out));
        assert_true(md_pb_next(&top, &field) && field.tag == MD_PB_TAG(1, MD_PB_BYTES));
        struct md_pb_reader first = md_pb_reader_of(field.bytes);
        assert_true(md_pb_next(&top, &field) && field.value == 7);
        assert_true(md_pb_next(&first, &field) && field.tag == MD_PB_TAG(2, MD_PB_BYTES));
        struct md_pb_reader second = md_pb_reader_of(field.bytes);
        assert_true(md_pb_next(&first, &field) && field.value == 5);
        assert_true(md_pb_next(&second, &field) && field.bytes.len == sizes[i]);
        assert_true(second.at == second.end && first.at == first.end && top.at == top.end);
        md_bytes_deinit(&out);
    }
}

/* What fits exactly is written into memory that does not grow; a byte less fails. */
static void test_protobuf_writes_within_bounds(void **state)
{
    char memory[16];

    (void)state;
    for (size_t max = 1; max <= 16; max++) {
        struct md_bytes out = {.data = memory, .capacity = max, .max = max};
        size_t begin = md_pb_begin(&out, 1);
        md_pb_put_varint(&out, 2, 1000);
        md_pb_put_bytes(&out, 3, MD_STR("abc"));
        md_pb_put_fixed32(&out, 4, 1);
        md_pb_end(&out, begin);
        assert_int_equal(out.failed, max < 15);
    }
}

static void test_protobuf_out_of_memory(void **state)
{
    static char text[200];
    bool delivered = true;

    (void)state;
    for (long at = 0; delivered; at++) {
        struct md_bytes out = {0};
        md_fault_arm(MD_FAULT_ALLOC, at);
        size_t begin = md_pb_begin(&out, 1);
        for (int i = 0; i < 5; i++) {
            md_pb_put_bytes(&out, 2, md_str_make(text, sizeof text));
        }
        md_pb_end(&out, begin);
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(out.failed, delivered);
        md_bytes_deinit(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protobuf_reads),
        cmocka_unit_test(test_protobuf_refuses),
        cmocka_unit_test(test_protobuf_reads_up_to_a_mistake),
        cmocka_unit_test(test_protobuf_repeated_scalars),
        cmocka_unit_test(test_protobuf_repeated_fixed),
        cmocka_unit_test(test_protobuf_cut_elements_fail),
        cmocka_unit_test(test_protobuf_varint_sizes),
        cmocka_unit_test(test_protobuf_writes),
        cmocka_unit_test(test_protobuf_long_sub_messages),
        cmocka_unit_test(test_protobuf_writes_within_bounds),
        cmocka_unit_test(test_protobuf_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
