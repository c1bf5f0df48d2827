/*
 * config/schema.h, md_pbtxt_parse: what people write is read, what is wrong is named with its
 * place.
 */
#include "unit/config/reading.h"

#include "base/fault.h"
#include "config/pbtxt_token.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Texts that say the same as the JSON beside them. */
static const struct {
    const char *text, *json;
} spellings[] = {
    {"", "{}"},
    {"# only a comment", "{}"},
    {"\xef\xbb\xbfname: 'a'", "{\"name\":\"a\"}"},
    {"name: \"a\" max_batch_size: 8", "{\"name\":\"a\",\"max_batch_size\":8}"},
    {"name:\"a\";max_batch_size:8,", "{\"name\":\"a\",\"max_batch_size\":8}"},
    {"name # what\r\n : # it is\n\t'a' # called", "{\"name\":\"a\"}"},
    {"input { name: 'x' dims: 1 dims: [2, -1] dims: [] }",
     "{\"input\":[{\"name\":\"x\",\"dims\":[1,2,-1]}]}"},
    {"input: { name: 'x' } input < name: 'y' >", "{\"input\":[{\"name\":\"x\"},{\"name\":\"y\"}]}"},
    {"input [ { name: 'x' }, < name: 'y' > ] input: []",
     "{\"input\":[{\"name\":\"x\"},{\"name\":\"y\"}]}"},
    {"max_batch_size: 0x1F", "{\"max_batch_size\":31}"},
    {"max_batch_size: 017", "{\"max_batch_size\":15}"},
    {"max_batch_size: -2147483648", "{\"max_batch_size\":-2147483648}"},
    {"version_policy { specific { versions: [-9223372036854775808, 9223372036854775807] } }",
     "{\"version_policy\":{\"specific\":{\"versions\":[-9223372036854775808,9223372036854775807]}}}"},
    {"version_policy: { all {} }", "{\"version_policy\":{\"all\":{}}}"},
    {"input { data_type: TYPE_FP16 } input { data_type: 11 }",
     "{\"input\":[{\"data_type\":\"TYPE_FP16\"},{\"data_type\":\"TYPE_FP32\"}]}"},
    {"input [ { optional: true }, { optional: t }, { optional: True }, { optional: 1 } ]",
     "{\"input\":[{\"optional\":true},{\"optional\":true},{\"optional\":true},{\"optional\":true}]}"},
    {"input [ { optional: false }, { optional: f }, { optional: False }, { optional: 0 } ]",
     "{\"input\":[{},{},{},{}]}"},
    {"parameters { key: 'k' value { string_value: 'v' } }",
     "{\"parameters\":{\"k\":{\"string_value\":\"v\"}}}"},
    {"parameters: [ { key: 'k' value: { string_value: 'v' } }, { key: 'l' } ]",
     "{\"parameters\":{\"k\":{\"string_value\":\"v\"},\"l\":{}}}"},
    {"metric_tags { key: 'k' value: 'old' } metric_tags { key: 'l' } metric_tags { key: 'k' value: "
     "'new' }",
     "{\"metric_tags\":{\"k\":\"new\",\"l\":\"\"}}"},
    {"name: 'a' \"b\"\n'c'", "{\"name\":\"abc\"}"},
    {"name: '\\a\\b\\f\\n\\r\\t\\v\\\\\\'\\\"\\?'",
     "{\"name\":\"\\u0007\\b\\f\\n\\r\\t\\u000b\\\\'\\\"?\"}"},
    {"name: '\\101\\x42\\X43\\7'", "{\"name\":\"ABC\\u0007\"}"},
    {"name: '\\303\\251\\u00e9\\U000000e9'", "{\"name\":\"\xc3\xa9\xc3\xa9\xc3\xa9\"}"},
    {"name: '\\u20ac\\ud83d\\ude00\\U0001F600'",
     "{\"name\":\"\xe2\x82\xac\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"}"},
};

static void test_pbtxt_spellings(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(spellings); i++) {
        struct reading got, expected;
        reading_begin(&got, READ_PBTXT, md_str_of(spellings[i].text));
        reading_begin(&expected, READ_JSON, md_str_of(spellings[i].json));
        if (!got.ok || !expected.ok || strcmp(reading_json(&got), reading_json(&expected)) != 0) {
            fail_msg("case %zu: %s%s", i, reading_errors(&got), reading_errors(&expected));
        }
        reading_end(&got);
        reading_end(&expected);
    }
}

static const struct {
    const char *text;
    double value;
} numbers[] = {
    {"1", 1},
    {"-1", -1},
    {"1.5", 1.5},
    {".5", 0.5},
    {"1.", 1},
    {"1f", 1},
    {"1.5F", 1.5},
    {"1.f", 1},
    {"1.e2", 100},
    {"-.5e-1", -0.05},
    {"1E+2", 100},
    {"0.1", 0.1},
    {"inf", (double)INFINITY},
    {"-Infinity", -(double)INFINITY},
    {"1e999", (double)INFINITY},
};

static void test_pbtxt_doubles(void **state)
{
    (void)state;
    for (size_t i = 0; i <= MD_COUNT_OF(numbers); i++) {
        const char *text = i < MD_COUNT_OF(numbers) ? numbers[i].text : "nan";
        char config[128];
        struct reading r;
        snprintf(config, sizeof config,
                 "model_metrics { metric_control { histogram_options { buckets: %s } } }", text);
        reading_begin(&r, READ_PBTXT, md_str_of(config));
        if (!r.ok) {
            fail_msg("'%s': %s", text, reading_errors(&r));
        }
        const struct md_message *control =
            md_message_child(md_message_child(r.message, "model_metrics"), "metric_control");
        double got =
            md_message_get(md_message_child(control, "histogram_options"), "buckets", 0).as.number;
        if (i < MD_COUNT_OF(numbers) ? got != numbers[i].value : !isnan(got)) {
            fail_msg("'%s' is read as %g", text, got);
        }
        reading_end(&r);
    }
}

static const struct {
    const char *text, *errors;
} mistakes[] = {
    {"max_batchsize: 1", "f:1:1: error: unknown field 'max_batchsize' in ModelConfig, did you mean "
                         "'max_batch_size'?\n"},
    {"\n  foo: 1", "f:2:3: error: unknown field 'foo' in ModelConfig\n"},
    {"input { nam: 'x' }",
     "f:1:9: error: unknown field 'nam' in ModelInput, did you mean 'name'?\n"},
    {"max_batch_size: 'x'", "f:1:17: error: 'max_batch_size' must be an integer, got 'x'\n"},
    {"max_batch_size: 1.5", "f:1:17: error: 'max_batch_size' must be an integer, got '1.5'\n"},
    {"max_batch_size: 08", "f:1:17: error: 'max_batch_size' must be an integer, got '08'\n"},
    {"max_batch_size: 0x", "f:1:17: error: 'max_batch_size' must be an integer, got '0x'\n"},
    {"max_batch_size: 2147483648", "f:1:17: error: 'max_batch_size': 2147483648 is out of range\n"},
    {"max_batch_size: -2147483649",
     "f:1:18: error: 'max_batch_size': -2147483649 is out of range\n"},
    {"max_batch_size: 99999999999999999999",
     "f:1:17: error: 'max_batch_size' must be an integer, got '99999999999999999999'\n"},
    {"version_policy { latest { num_versions: -1 } }",
     "f:1:42: error: 'num_versions': -1 is out of range\n"},
    {"max_batch_size: 1 max_batch_size: 2",
     "f:1:19: error: 'max_batch_size' stands in ModelConfig twice, first in line 1\n"},
    {"max_batch_size: [1]", "f:1:17: error: 'max_batch_size' takes one value, not a list\n"},
    {"max_batch_size 1", "f:1:16: error: 'max_batch_size' needs ':' behind it, got '1'\n"},
    {"max_batch_size:", "f:1:16: error: 'max_batch_size' must be an integer, got 'the end'\n"},
    {"name: x", "f:1:7: error: 'name' must be a string in quotes, got 'x'\n"},
    {"name: -'x'", "f:1:7: error: 'name' must be a string in quotes, got '-'\n"},
    {"name: 'x", "f:1:7: error: the string has no end on its line\n"},
    {"name: 'x\\", "f:1:7: error: the string has no end on its line\n"},
    {"name: 'a\\q'", "f:1:9: error: invalid escape in a string\n"},
    {"name: 'a' 'b\\400'", "f:1:13: error: invalid escape in a string\n"},
    {"name: '\\ud83d'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\ud83d\\u0041'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\udc00'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\U00110000'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\u12'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\x'", "f:1:8: error: invalid escape in a string\n"},
    {"name: '\\xff'", "f:1:7: error: the string is not valid UTF-8\n"},
    {"name: '\\0'", "f:1:7: error: the string holds a zero byte\n"},
    {"input { optional: yes }", "f:1:19: error: 'optional' must be true or false, got 'yes'\n"},
    {"input { optional: 'true' }", "f:1:19: error: 'optional' must be true or false, got 'true'\n"},
    {"input { data_type: TYPE_FP33 }",
     "f:1:20: error: 'data_type' has no value 'TYPE_FP33', did you mean TYPE_FP32?\n"},
    {"input { data_type: 15 }", "f:1:20: error: 'data_type' has no value '15'\n"},
    {"input { data_type: fp16 }",
     "f:1:20: error: 'data_type' has no value 'fp16', did you mean TYPE_FP16?\n"},
    {"instance_group { kind: GPU }",
     "f:1:24: error: 'kind' has no value 'GPU', did you mean KIND_GPU?\n"},
    {"input { data_type: -1 }", "f:1:21: error: 'data_type' has no value '-1'\n"},
    {"input { data_type: 'TYPE_FP32' }",
     "f:1:20: error: 'data_type' has no value 'TYPE_FP32', did you mean TYPE_FP32?\n"},
    {"input 1", "f:1:7: error: 'input' needs '{' behind it, got '1'\n"},
    {"input [ 1 ]", "f:1:9: error: 'input' needs '{' in its list, got '1'\n"},
    {"input { dims: [1 2] }", "f:1:18: error: 'dims' needs ',' or ']' in its list, got '2'\n"},
    {"input { dims: [1,] }", "f:1:18: error: 'dims' must be an integer, got ']'\n"},
    {"input [ {}, ]", "f:1:13: error: 'input' needs '{' in its list, got ']'\n"},
    {"input [ {} {} ]", "f:1:12: error: 'input' needs ',' or ']' in its list, got '{'\n"},
    {"input {\n dims: 1\n",
     "f:3:1: error: the file ends before '}' of ModelInput, which begins in line 1\n"},
    {"input { dims: 1 >",
     "f:1:17: error: '}' was expected for ModelInput, which begins in line 1, got '>'\n"},
    {"}", "f:1:1: error: a field of ModelConfig was expected, got '}'\n"},
    {"[a.b.c] { x: 1 } [a.com/x.Y]: < > [z]: 1 input { [u] { } }",
     "f:1:1: error: ModelConfig has no extensions and no Any: name one of its fields\n"
     "f:1:18: error: ModelConfig has no extensions and no Any: name one of its fields\n"
     "f:1:35: error: ModelConfig has no extensions and no Any: name one of its fields\n"
     "f:1:50: error: ModelInput has no extensions and no Any: name one of its fields\n"},
    {"input { dims [1] }", "f:1:14: error: 'dims' needs ':' behind it, got '['\n"},
    {"name: 'a' \x01", "f:1:11: error: a field of ModelConfig was expected, got '\\x01'\n"},
    {"version_policy { all {} latest {} }",
     "f:1:25: error: 'latest' and 'all' exclude each other in ModelVersionPolicy\n"},
    {"model_metrics { metric_control { histogram_options { buckets: [1..2] } } }",
     "f:1:64: error: 'buckets' must be a number, got '1..2'\n"},
    {"model_metrics { metric_control { histogram_options { buckets: . } } }",
     "f:1:63: error: 'buckets' must be a number, got '.'\n"},
    /* after each mistake the next field is read in its own right */
    {"foo: 1 bar: -'x' 'y' baz { a: [1, {b: 2}] } qux [ < > ] quux: \"x\" max_batch_size: x",
     "f:1:1: error: unknown field 'foo' in ModelConfig\n"
     "f:1:8: error: unknown field 'bar' in ModelConfig\n"
     "f:1:22: error: unknown field 'baz' in ModelConfig\n"
     "f:1:45: error: unknown field 'qux' in ModelConfig\n"
     "f:1:57: error: unknown field 'quux' in ModelConfig\n"
     "f:1:83: error: 'max_batch_size' must be an integer, got 'x'\n"},
    {"input {\n  dims: [ a,\n  b ]\n  optional: maybe\n}\nnam: ''",
     "f:2:11: error: 'dims' must be an integer, got 'a'\n"
     "f:4:13: error: 'optional' must be true or false, got 'maybe'\n"
     "f:6:1: error: unknown field 'nam' in ModelConfig, did you mean 'name'?\n"},
    {"name: max_batch_size: 1 foo: 2",
     "f:1:7: error: 'name' must be a string in quotes, got 'max_batch_size'\n"
     "f:1:21: error: a field of ModelConfig was expected, got ':'\n"
     "f:1:23: error: a field of ModelConfig was expected, got '1'\n"
     "f:1:25: error: unknown field 'foo' in ModelConfig\n"},
    {"foo { [ } ]", "f:1:1: error: unknown field 'foo' in ModelConfig\n"},
};

static void test_pbtxt_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(mistakes); i++) {
        struct reading r;
        reading_begin(&r, READ_PBTXT, md_str_of(mistakes[i].text));
        assert_false(r.ok);
        if (strcmp(reading_errors(&r), mistakes[i].errors) != 0) {
            fail_msg("%s\ngives\n%sinstead of\n%s", mistakes[i].text, reading_errors(&r),
                     mistakes[i].errors);
        }
        reading_end(&r);
    }
}

static void test_pbtxt_gives_up_after_many_errors(void **state)
{
    struct md_bytes text = {0};
    struct reading r;

    (void)state;
    for (int i = 0; i < 10 * MD_MESSAGE_ERRORS_MAX; i++) {
        md_bytes_append_c(&text, "foo: 1\n");
    }
    reading_begin(&r, READ_PBTXT, md_bytes_view(&text));
    assert_int_equal(r.diagnostics.error_count, MD_MESSAGE_ERRORS_MAX);
    reading_end(&r);
    md_bytes_deinit(&text);
}

static void test_pbtxt_nesting_beyond_the_schema(void **state)
{
    struct md_bytes text = {0};
    struct reading r;

    (void)state;
    md_bytes_append_c(&text, "foo ");
    for (int i = 0; i < 100000; i++) {
        md_bytes_append_c(&text, "{a ");
    }
    reading_begin(&r, READ_PBTXT, md_bytes_view(&text));
    assert_false(r.ok);
    assert_int_equal(r.diagnostics.error_count, 1);
    reading_end(&r);
    md_bytes_deinit(&text);
}

static void test_pbtxt_map_is_bounded(void **state)
{
    static const struct {
        int keys;
        bool ok;
    } cases[] = {{MD_MAP_ENTRIES_MAX, true}, {MD_MAP_ENTRIES_MAX + 1, false}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes text = {0};
        struct reading r;
        for (int k = 0; k < cases[i].keys; k++) {
            md_bytes_printf(&text, "metric_tags { key: '%d' }\n", k);
        }
        reading_begin(&r, READ_PBTXT, md_bytes_view(&text));
        assert_int_equal(r.ok, cases[i].ok);
        assert_int_equal(r.diagnostics.error_count, !cases[i].ok);
        reading_end(&r);
        md_bytes_deinit(&text);
    }
}

static void test_pbtxt_long_strings(void **state)
{
    static const size_t lengths[] = {MD_CONFIG_STRING_MAX, MD_CONFIG_STRING_MAX + 1};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(lengths); i++) {
        struct md_bytes text = {0};
        struct reading r;
        md_bytes_append_c(&text, "name: '");
        for (size_t k = 0; k < lengths[i]; k++) {
            md_bytes_append_char(&text, 'a');
        }
        md_bytes_append_c(&text, "'");
        reading_begin(&r, READ_PBTXT, md_bytes_view(&text));
        assert_int_equal(r.ok, lengths[i] <= MD_CONFIG_STRING_MAX);
        if (!r.ok) {
            assert_string_equal(reading_errors(&r), "f:1:7: error: the string is too long\n");
        }
        reading_end(&r);
        md_bytes_deinit(&text);
    }
}

/* Every prefix of a text, at the very end of a block of its own size: nothing reads behind it. */
static void test_pbtxt_any_prefix(void **state)
{
    static const char text[] =
        "name: 'a\\x41\\u00e9' \"b\" # c\ninput [ { dims: [ -1, 0x2 ] }, < > ]\n"
        "parameters { key: 'k' value { string_value: 'v' } } version_policy: { all {} }";

    (void)state;
    for (size_t len = 0; len < sizeof text; len++) {
        char *copy = malloc(len ? len : 1);
        struct reading r;
        assert_non_null(copy);
        memcpy(copy, text, len);
        reading_begin(&r, READ_PBTXT, md_str_make(copy, len));
        assert_true(r.ok == (r.diagnostics.error_count == 0));
        free(copy);
        reading_end(&r);
    }
}

static void test_pbtxt_places(void **state)
{
    struct reading r;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR("\nname: 'a'\ninput {\n  dims: 1\n  dims: 2\n}\n"));
    assert_true(r.ok);
    const struct md_message *input = md_message_child(r.message, "input");
    int name = md_message_field(r.message->desc, MD_STR("name"));
    int dims = md_message_field(input->desc, MD_STR("dims"));
    assert_int_equal(r.message->fields[name].line, 2);
    assert_string_equal(r.message->fields[name].file, "f");
    assert_int_equal(input->line, 3);
    assert_int_equal(input->fields[dims].line, 4);
    reading_end(&r);
}

static void test_pbtxt_out_of_memory(void **state)
{
    static const char text[] = "name: 'a' 'b' input [ { name: 'x' dims: [1, 2, 3, 4, 5] }, {} ]\n"
                               "parameters { key: 'k' } parameters { key: 'k' } foo: 1";
    bool delivered = true;
    long n = 0;

    (void)state;
    for (; delivered; n++) {
        struct reading r;
        md_fault_arm(MD_FAULT_ALLOC, n);
        reading_begin(&r, READ_PBTXT, MD_STR(text));
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_false(r.ok);
        if (r.message) {
            assert_true(r.diagnostics.error_count > 0);
        }
        reading_end(&r);
    }
    assert_true(n > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pbtxt_spellings),
        cmocka_unit_test(test_pbtxt_doubles),
        cmocka_unit_test(test_pbtxt_mistakes),
        cmocka_unit_test(test_pbtxt_gives_up_after_many_errors),
        cmocka_unit_test(test_pbtxt_nesting_beyond_the_schema),
        cmocka_unit_test(test_pbtxt_map_is_bounded),
        cmocka_unit_test(test_pbtxt_long_strings),
        cmocka_unit_test(test_pbtxt_any_prefix),
        cmocka_unit_test(test_pbtxt_places),
        cmocka_unit_test(test_pbtxt_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
