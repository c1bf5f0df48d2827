/*
 * trace/span: texts that are too long, and what receivers answer. (What spans look like on the wire
 * is compared with the official messages in tests/e2e/test_traces.py.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/protobuf.h"
#include "trace/span.h"

/* The value of the span's only attribute. */
static struct md_str attribute_text(struct md_str list)
{
    static const uint32_t path[] = {2, 9, 2, 1}; /* spans, attributes, value, string_value */
    struct md_str at = list;

    for (size_t i = 0; i < MD_COUNT_OF(path); i++) {
        struct md_pb_reader reader = md_pb_reader_of(at);
        struct md_pb_field field;
        bool found = false;
        while (!found && md_pb_next(&reader, &field)) {
            found = field.tag == MD_PB_TAG(path[i], MD_PB_BYTES);
        }
        assert_true(found);
        at = field.bytes;
    }
    return at;
}

static void test_span_cuts_long_texts_between_characters(void **state)
{
    static const struct {
        size_t fill; /* ASCII before two-byte characters */
        size_t len, kept;
    } rows[] = {{0, 10, 10}, {0, 256, 256}, {0, 300, 256}, {1, 301, 255}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char text[512];
        struct md_bytes out = {0};
        for (size_t n = 0; n < rows[i].len; n++) {
            text[n] = n < rows[i].fill ? 'a' : (n - rows[i].fill) % 2 ? '\xa4' : '\xc3';
        }
        const struct md_span_attribute attribute = {.key = "k",
                                                    .text = md_str_make(text, rows[i].len)};
        const struct md_span span = {
            .name = "n", .kind = MD_SPAN_SERVER, .attributes = &attribute, .attribute_count = 1};
        md_span_append(&span, &out);
        assert_false(out.failed);
        assert_int_equal(attribute_text(md_bytes_view(&out)).len, rows[i].kept);
        md_bytes_deinit(&out);
    }
}

static void test_span_reads_what_was_rejected(void **state)
{
    static const struct {
        struct md_str answer;
        uint64_t rejected;
        const char *reason;
    } rows[] = {
        {{"", 0}, 0, ""},
        {{"\x0a\x02\x08\x07", 4}, 7, ""},
        {{"\x0a\x07\x08\x07\x12\x03old", 9}, 7, "old"},
        {{"\x0a\x05\x12\x03old", 7}, 0, "old"},
        {{"\x12\x02\x08\x07", 4}, 0, ""}, /* another field */
        {{"\x0a\x09\x08\x07", 4}, 0, ""}, /* cut off */
        {{"\x0a\x02\x08\xff", 4}, 0, ""},
        {{"<html>", 6}, 0, ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_str reason;
        print_message("[  row   ] %zu\n", i);
        assert_int_equal(md_span_rejected(rows[i].answer, &reason), rows[i].rejected);
        assert_true(md_str_eq_c(reason, rows[i].reason));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span_cuts_long_texts_between_characters),
        cmocka_unit_test(test_span_reads_what_was_rejected),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
