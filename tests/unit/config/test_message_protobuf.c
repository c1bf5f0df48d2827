/*
 * config/schema.h, protobuf: what is written for each kind of field. That all of the schema is read
 * as it was meant by another implementation is tested end to end.
 */
#include "unit/config/reading.h"

#include "base/fault.h"

#include <string.h>

static const struct {
    const char *text;
    struct md_str wire;
} cases[] = {
    {"", MD_STR("")},
    {"name: 'ab'", MD_STR("\x0a\x02"
                          "ab")},
    {"name: '' max_batch_size: 0", MD_STR("")}, /* what their absence says, too */
    {"max_batch_size: 300", MD_STR("\x20\xac\x02")},
    {"max_batch_size: -1", MD_STR("\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")},
    {"input { dims: [1, -1, 300] }",
     MD_STR("\x2a\x0f\x22\x0d\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xac\x02")},
    {"input { data_type: TYPE_FP32 optional: true } input { }",
     MD_STR("\x2a\x04\x10\x0b\x40\x01\x2a\x00")},
    {"version_policy { all { } }", MD_STR("\x1a\x02\x12\x00")},
    {"sequence_batching { direct { minimum_slot_utilization: 0.5 } }",
     MD_STR("\x6a\x07\x1a\x05\x15\x00\x00\x00\x3f")},
    {"sequence_batching { state { initial_state { zero_data: false } } }",
     MD_STR("\x6a\x06\x2a\x04\x2a\x02\x18\x00")}, /* of a oneof: which one is set counts */
    {"sequence_batching { control_input { control { fp32_false_true: [0, 1] "
     "bool_false_true: [false, true] } } }",
     MD_STR("\x6a\x12\x12\x10\x12\x0e\x1a\x08\x00\x00\x00\x00\x00\x00\x80\x3f\x2a\x02\x00\x01")},
    {"model_metrics { metric_control { histogram_options { buckets: [1] } } }",
     MD_STR("\xd2\x01\x0e\x0a\x0c\x12\x0a\x0a\x08\x00\x00\x00\x00\x00\x00\xf0\x3f")},
    {"instance_group { profile: ['', 'a'] }", MD_STR("\x3a\x05\x2a\x00\x2a\x01"
                                                     "a")},
    {"metric_tags { key: 'k' value: 'v' }", MD_STR("\x52\x06\x0a\x01k\x12\x01v")},
    {"dynamic_batching { priority_queue_policy { key: 3 value { max_queue_size: 1 } } }",
     MD_STR("\x5a\x08\x3a\x06\x08\x03\x12\x02\x20\x01")},
};

static void test_message_protobuf_of_each_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct reading r;
        struct md_bytes wire = {0};
        reading_begin(&r, READ_PBTXT, md_str_of(cases[i].text));
        assert_true(r.ok);
        md_message_print_protobuf(r.message, &wire);
        if (wire.failed || !md_str_eq(md_bytes_view(&wire), cases[i].wire)) {
            fail_msg("%s: %zu bytes", cases[i].text, wire.len);
        }
        md_bytes_deinit(&wire);
        reading_end(&r);
    }
}

static void test_message_protobuf_without_memory(void **state)
{
    struct reading r;
    struct md_bytes wire = {0};

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR("input { name: 'a' dims: [1] }"));
    assert_true(r.ok);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    md_message_print_protobuf(r.message, &wire);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_true(wire.failed);
    md_bytes_deinit(&wire);
    reading_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_protobuf_of_each_kind),
        cmocka_unit_test(test_message_protobuf_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
