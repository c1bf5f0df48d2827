/*
 * config/schema.h, JSON: what is read, what is refused, what is printed.
 */
#include "unit/config/reading.h"

#include "base/fault.h"

#include <string.h>

static const struct {
    const char *json, *text;
} spellings[] = {
    {"{}", ""},
    {" { \"name\" : \"a\" } ", "name: 'a'"},
    {"{\"maxBatchSize\":8,\"defaultModelFilename\":\"m\"}",
     "max_batch_size: 8 default_model_filename: 'm'"},
    {"{\"max_batch_size\":\"8\"}", "max_batch_size: 8"},
    {"{\"version_policy\":{\"specific\":{\"versions\":[1,\"-2\",\"9223372036854775807\"]}}}",
     "version_policy { specific { versions: [1, -2, 9223372036854775807] } }"},
    {"{\"input\":[{\"data_type\":\"TYPE_FP16\"},{\"dataType\":11}]}",
     "input { data_type: TYPE_FP16 } input { data_type: TYPE_FP32 }"},
    {"{\"input\":{\"dims\":3}}", "input { dims: 3 }"}, /* one value stands for a list of it */
    {"{\"input\":[],\"parameters\":{}}", ""},
    {"{\"name\":null,\"input\":null,\"version_policy\":null}", ""},
    {"{\"parameters\":{\"k\":{\"string_value\":\"v\"},\"l\":{},\"m\":null}}",
     "parameters { key: 'k' value { string_value: 'v' } } parameters { key: 'l' } parameters { "
     "key: 'm' }"},
    {"{\"metric_tags\":{\"k\":\"old\",\"l\":\"x\",\"k\":\"new\"}}",
     "metric_tags { key: 'k' value: 'new' } metric_tags { key: 'l' value: 'x' }"},
    {"{\"dynamic_batching\":{\"priority_queue_policy\":{\"18446744073709551615\":{\"max_queue_"
     "size\":3}}}}",
     "dynamic_batching { priority_queue_policy { key: 18446744073709551615 value { "
     "max_queue_size: 3 } } }"},
    {"{\"model_metrics\":{\"metric_control\":[{\"histogram_options\":{\"buckets\":[1,1.5,\"2.5\","
     "\"Infinity\"]}}]}}",
     "model_metrics { metric_control { histogram_options { buckets: [1, 1.5, 2.5, inf] } } }"},
    {"{\"name\":\"\\u20ac\\n\"}", "name: '\\u20ac\\n'"},
};

static void test_message_json_spellings(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(spellings); i++) {
        struct reading got, expected;
        reading_begin(&got, READ_JSON, md_str_of(spellings[i].json));
        reading_begin(&expected, READ_PBTXT, md_str_of(spellings[i].text));
        if (!got.ok || !expected.ok || strcmp(reading_json(&got), reading_json(&expected)) != 0) {
            fail_msg("case %zu: %s%s", i, reading_errors(&got), reading_errors(&expected));
        }
        reading_end(&got);
        reading_end(&expected);
    }
}

static const struct {
    const char *json, *errors;
} mistakes[] = {
    {"[]", "f:1: error: a JSON object was expected\n"},
    {"{\"max_batchsize\":1}", "f:1: error: unknown field 'max_batchsize' in ModelConfig, did you "
                              "mean 'max_batch_size'?\n"},
    {"{\"name\":1}", "f:1: error: 'name' must be a string\n"},
    {"{\"name\":[\"a\"]}", "f:1: error: 'name' takes one value, not a list\n"},
    {"{\"name\":{\"a\":[1,{}]}}", "f:1: error: 'name' must be a string\n"},
    {"{\"name\":\"a\\u0000b\"}", "f:1: error: 'name': the string holds a zero byte\n"},
    {"{\"name\":\"a\",\n\n\"name\":\"b\"}",
     "f:3: error: 'name' stands in ModelConfig twice, first in line 1\n"},
    {"{\"max_batch_size\":1.5}", "f:1: error: 'max_batch_size' must be an integer of 32 bits\n"},
    {"{\"max_batch_size\":true}", "f:1: error: 'max_batch_size' must be an integer of 32 bits\n"},
    {"{\"max_batch_size\":2147483648}",
     "f:1: error: 'max_batch_size' must be an integer of 32 bits\n"},
    {"{\"version_policy\":{\"latest\":{\"num_versions\":-1}}}",
     "f:1: error: 'num_versions' must be a natural number of 32 bits\n"},
    {"{\"input\":[{\"optional\":\"true\"}]}", "f:1: error: 'optional' must be true or false\n"},
    {"{\"input\":[{\"data_type\":\"TYPE_FP33\"}]}",
     "f:1: error: 'data_type' has no value 'TYPE_FP33', did you mean TYPE_FP32?\n"},
    {"{\"input\":[{\"data_type\":99}]}", "f:1: error: 'data_type' has no value '99'\n"},
    {"{\"input\":[{\"data_type\":{}}]}", "f:1: error: 'data_type' must be the name of a value\n"},
    {"{\"input\":[{\"dims\":[null]}]}", "f:1: error: 'dims' must be an integer of 64 bits\n"},
    {"{\"input\":[3]}", "f:1: error: 'input' must be an object\n"},
    {"{\"parameters\":[]}", "f:1: error: 'parameters' takes one value, not a list\n"},
    {"{\"parameters\":{\"a\":\"b\"}}", "f:1: error: a value of 'parameters' must be an object\n"},
    {"{\"metric_tags\":{\"a\":1}}", "f:1: error: 'value' must be a string\n"},
    {"{\"dynamic_batching\":{\"priority_queue_policy\":{\"x\":{}}}}",
     "f:1: error: a key of 'priority_queue_policy' must be a natural number\n"},
    {"{\"version_policy\":{\"all\":{},\"latest\":{}}}",
     "f:1: error: 'latest' and 'all' exclude each other in ModelVersionPolicy\n"},
    /* after each mistake the next member is read in its own right */
    {"{\"foo\":{\"a\":[1,{}]},\n\"bar\":[[]],\n\"input\":[{\"nam\":1,\"dims\":[\"x\",1,{\"a\":1}],"
     "\n\"optional\":true},7],\n\"max_batch_size\":\"x\"}",
     "f:1: error: unknown field 'foo' in ModelConfig\n"
     "f:2: error: unknown field 'bar' in ModelConfig\n"
     "f:3: error: unknown field 'nam' in ModelInput, did you mean 'name'?\n"
     "f:3: error: 'dims' must be an integer of 64 bits\n"
     "f:3: error: 'dims' must be an integer of 64 bits\n"
     "f:4: error: 'input' must be an object\n"
     "f:5: error: 'max_batch_size' must be an integer of 32 bits\n"},
};

static void test_message_json_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(mistakes); i++) {
        struct reading r;
        reading_begin(&r, READ_JSON, md_str_of(mistakes[i].json));
        assert_false(r.ok);
        if (strcmp(reading_errors(&r), mistakes[i].errors) != 0) {
            fail_msg("%s\ngives\n%sinstead of\n%s", mistakes[i].json, reading_errors(&r),
                     mistakes[i].errors);
        }
        reading_end(&r);
    }
}

/* The sentence is the JSON reader's; ours are the line and that there is one error. */
static void test_message_json_syntax_errors(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "{\n\"name\"",
        "{\"name\":}",
        "{\"name\":\"a\",}",
        "{\"name\":\"a\"} x",
        "{\"foo\":[1,}",
        "{\"foo\":",
        "{\"parameters\":{\"a\":",
        "{\"parameters\":{\"a\":x}}",
        "{\"input\":[",
        "{\"input\":[{\"dims\":[1,]}]}",
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(texts); i++) {
        struct reading r;
        reading_begin(&r, READ_JSON, md_str_of(texts[i]));
        assert_false(r.ok);
        const struct md_diagnostic *last = &r.diagnostics.items[r.diagnostics.count - 1];
        if (r.diagnostics.error_count > 2 || !strstr(last->text, "at byte") || last->line < 1) {
            fail_msg("%s gives\n%s", texts[i], reading_errors(&r));
        }
        reading_end(&r);
    }
}

static void test_message_json_is_bounded(void **state)
{
    struct md_bytes text = {0};
    struct reading r;

    (void)state;
    md_bytes_append_c(&text, "{\"metric_tags\":{");
    for (int i = 0; i <= MD_MAP_ENTRIES_MAX; i++) {
        md_bytes_printf(&text, "%s\"%d\":\"\"", i ? "," : "", i);
    }
    md_bytes_append_c(&text, "}}");
    reading_begin(&r, READ_JSON, md_bytes_view(&text));
    assert_false(r.ok);
    assert_string_equal(reading_errors(&r),
                        "f:1: error: 'metric_tags' has more than 4096 entries\n");
    reading_end(&r);
    md_bytes_clear(&text);
    md_bytes_append_c(&text, "{\"foo\":");
    for (int i = 0; i < 100000; i++) {
        md_bytes_append_char(&text, '[');
    }
    reading_begin(&r, READ_JSON, md_bytes_view(&text));
    assert_false(r.ok);
    assert_int_equal(r.diagnostics.error_count, 2);
    reading_end(&r);
    md_bytes_deinit(&text);
}

/* As the field's server prints: snake case, defaults too, absent messages left out, int64 as
 * numbers, enums by name, maps as objects. */
static void test_message_json_print(void **state)
{
    static const char text[] =
        "name: 'm' backend: 'b' version_policy { latest { num_versions: 1 } } max_batch_size: 4\n"
        "input { name: 'x' data_type: TYPE_INT64 dims: -1 reshape { shape: [] } }\n"
        "instance_group { kind: KIND_CPU count: 2 }\n"
        "parameters { key: 'a' value { string_value: '1' } } parameters { key: 'b' }\n"
        "model_metrics { metric_control { histogram_options { buckets: [1, -inf] } } }";
    static const char expected[] =
        "{\"name\":\"m\",\"platform\":\"\",\"backend\":\"b\",\"runtime\":\"\","
        "\"version_policy\":{\"latest\":{\"num_versions\":1}},\"max_batch_size\":4,"
        "\"input\":[{\"name\":\"x\",\"data_type\":\"TYPE_INT64\",\"format\":\"FORMAT_NONE\","
        "\"dims\":[-1],\"reshape\":{\"shape\":[]},\"is_shape_tensor\":false,"
        "\"allow_ragged_batch\":false,\"optional\":false,\"is_non_linear_format_io\":false}],"
        "\"output\":[],\"batch_input\":[],\"batch_output\":[],"
        "\"instance_group\":[{\"name\":\"\",\"kind\":\"KIND_CPU\",\"count\":2,\"gpus\":[],"
        "\"secondary_devices\":[],\"profile\":[],\"passive\":false,\"host_policy\":\"\"}],"
        "\"default_model_filename\":\"\",\"cc_model_filenames\":{},\"metric_tags\":{},"
        "\"parameters\":{\"a\":{\"string_value\":\"1\"},\"b\":{\"string_value\":\"\"}},"
        "\"model_warmup\":[],\"model_metrics\":{\"metric_control\":[{\"histogram_options\":"
        "{\"buckets\":[1.0,\"-Infinity\"]}}]}}";
    struct reading r, again;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR(text));
    assert_true(r.ok);
    assert_string_equal(reading_json(&r), expected);
    reading_begin(&again, READ_JSON, MD_STR(expected));
    assert_true(again.ok);
    assert_string_equal(reading_json(&again), expected);
    reading_end(&r);
    reading_end(&again);
}

static void test_message_json_out_of_memory(void **state)
{
    static const char text[] = "{\"name\":\"a\\n\",\"input\":[{\"dims\":[1,2,3,4,5]},{}],"
                               "\"parameters\":{\"k\":{},\"k\":{}},\"metric_tags\":{\"a\":\"b\"}}";
    bool delivered = true;

    (void)state;
    for (long n = 0; delivered; n++) {
        struct reading r;
        struct md_bytes json = {0};
        md_fault_arm(MD_FAULT_ALLOC, n);
        reading_begin(&r, READ_JSON, MD_STR(text));
        if (r.ok) {
            md_message_print_json(r.message, &json);
        }
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(delivered, !r.ok || json.failed);
        assert_true(r.ok || !r.message || r.diagnostics.error_count > 0);
        md_bytes_deinit(&json);
        reading_end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_json_spellings),
        cmocka_unit_test(test_message_json_mistakes),
        cmocka_unit_test(test_message_json_syntax_errors),
        cmocka_unit_test(test_message_json_is_bounded),
        cmocka_unit_test(test_message_json_print),
        cmocka_unit_test(test_message_json_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
