/*
 * config/model_config.h
 */
#include "config/model_config.h"
#include "unit/config/reading.h"

#include "base/fault.h"

#include <string.h>

#define PARAMETER(name, text) "parameters { key: '" name "' value { string_value: '" text "' } }"
#define WARM_UP(more) \
    "input { name: 'a' data_type: TYPE_FP32 dims: [2, -1] }\nmodel_warmup { name: 's' " more " }"
#define DATA(more) \
    "batch_size: 1 inputs { key: 'a' value { data_type: TYPE_FP32 dims: [2, 3]\n " more " } }"

static const char *const good[] = {
    "",
    "name: 'a.b-c 1'",
    "max_batch_size: 0",
    "input { name: 'x' data_type: TYPE_FP32 dims: [-1, 1, 3] } output { name: 'x' }",
    "output { name: 'y' label_filename: 'labels/a..b.txt' }",
    "default_model_filename: 'sub/model.onnx'",
    "instance_group { count: 1 } instance_group { kind: KIND_CPU } instance_group { gpus: [0, 1] }",
    "version_policy { latest {} }",
    "version_policy { latest { num_versions: 2 } }",
    "version_policy { specific { versions: [1, 7] } }",
    "max_batch_size: 8 dynamic_batching { preferred_batch_size: [1, 8] }",
    "dynamic_batching { preferred_batch_size: 99 }",
    "max_batch_size: 8 dynamic_batching { priority_levels: 64 default_priority_level: 64 "
    "priority_queue_policy { key: 64 value { timeout_action: DELAY } } }",
    "max_batch_size: 8 dynamic_batching { preserve_ordering: true priority_levels: 1 "
    "default_priority_level: 1 default_queue_policy { timeout_action: DELAY } }",
    "model_warmup { batch_size: 1 }",
    "max_batch_size: 8 input { name: 'a' data_type: TYPE_FP32 dims: [-1, 2] } "
    "input { name: 'b' optional: true } "
    "model_warmup { name: 's' batch_size: 8 count: 3 inputs { key: 'a' value { "
    "data_type: TYPE_FP32 dims: [3, 2] zero_data: true } } inputs { key: 'c' value { "
    "data_type: TYPE_STRING input_data_file: 'a/b' } } }",
    "optimization { priority: PRIORITY_MAX }",
    "parameters { key: 'modeld_inline' value { string_value: 'off' } }",
    "parameters { key: 'modeldx' value { string_value: 'off' } }",
    PARAMETER("modeld_allowed_batch_sizes", "1,4, 8"),
    PARAMETER("modeld_batching", "off: the answers differ"),
    PARAMETER("modeld_deadline_ms", "0"),
    PARAMETER("modeld_execution_timeout_ms", "86400000"),
    PARAMETER("modeld_max_queue_bytes", "64M"),
    PARAMETER("modeld_weight", "1000"),
};

static void test_model_config_accepts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(good); i++) {
        struct reading r;
        reading_begin(&r, READ_PBTXT, md_str_of(good[i]));
        if (!r.ok || !md_model_config_validate(r.message, &r.diagnostics)) {
            fail_msg("%s: %s", good[i], reading_errors(&r));
        }
        assert_int_equal(r.diagnostics.count, 0);
        reading_end(&r);
    }
}

static const struct {
    const char *text, *errors;
} bad[] = {
    {"\nname: 'a/b'", "f:2: error: 'a/b' cannot be the name of a model\n"},
    {"name: '..'", "f:1: error: '..' cannot be the name of a model\n"},
    {"max_batch_size: -1", "f:1: error: max_batch_size must not be negative\n"},
    {"\ninput {\n data_type: TYPE_FP32 }", "f:2: error: the name of an input is missing\n"},
    {"input { name: 'x'\ndims: [-1, -2] }",
     "f:2: error: input 'x': a dimension is a size from 1 on, or -1 for any; got -2\n"},
    {"output { name: 'x' dims: 0 }",
     "f:1: error: output 'x': a dimension is a size from 1 on, or -1 for any; got 0\n"},
    {"output { name: 'x' label_filename: '/etc/passwd' }",
     "f:1: error: label_filename '/etc/passwd' must lie inside the model's folder\n"},
    {"output { name: 'x' label_filename: 'a/../../b' }",
     "f:1: error: label_filename 'a/../../b' must lie inside the model's folder\n"},
    {"default_model_filename: '../m.onnx'",
     "f:1: error: default_model_filename '../m.onnx' must lie inside the model's folder\n"},
    {"instance_group { count: 0 }", "f:1: error: count must be at least 1\n"},
    {"instance_group { gpus: -1 }", "f:1: error: gpus are numbered from 0 on\n"},
    {"instance_group { kind: KIND_CPU gpus: 0 }", "f:1: error: a group of KIND_CPU has no gpus\n"},
    {"version_policy { latest { num_versions: 0 } }",
     "f:1: error: num_versions must be at least 1\n"},
    {"version_policy { specific {} }",
     "f:1: error: a specific version policy names its versions\n"},
    {"version_policy { specific { versions: [1, 0] } }",
     "f:1: error: versions are numbered from 1 on\n"},
    {"max_batch_size: 4 dynamic_batching { preferred_batch_size: [0, 4, 5] }",
     "f:1: error: preferred_batch_size 0 does not lie between 1 and max_batch_size\n"
     "f:1: error: preferred_batch_size 5 does not lie between 1 and max_batch_size\n"},
    {"backend: '../x'", "f:1: error: backend '../x' must be a name, without a path\n"},
    {"runtime: '/lib/x.so'", "f:1: error: runtime '/lib/x.so' must be a name, without a path\n"},
    {"parameters {\n key: 'modeld_inlin' }",
     "f:2: error: unknown parameter 'modeld_inlin', did you mean 'modeld_inline'?\n"},
    {"parameters { key: 'modeld_something' }",
     "f:1: error: unknown parameter 'modeld_something'\n"},
    {"max_batch_size: 0 dynamic_batching { preferred_batch_size: 1 }",
     "f:1: warning: no batches are formed with max_batch_size 0: say how many rows one may have; "
     "what dynamic_batching says of the queue counts\n"
     "f:1: error: preferred_batch_size 1 does not lie between 1 and max_batch_size\n"},
    {"dynamic_batching { preferred_batch_size: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
     "1,1,1,1,1,1,1] }",
     "f:1: error: preferred_batch_size has at most 32 sizes\n"},
    {"dynamic_batching {\npriority_levels: 65 }",
     "f:2: error: priority_levels is at most 64 here, got 65\n"},
    {"dynamic_batching {\npriority_levels: 2 }",
     "f:1: error: default_priority_level must say a level from 1 to priority_levels (2), got 0\n"},
    {"dynamic_batching { priority_levels: 2\ndefault_priority_level: 3 }",
     "f:2: error: default_priority_level must say a level from 1 to priority_levels (2), got 3\n"},
    {"dynamic_batching { priority_levels: 2 default_priority_level: 1\n"
     "priority_queue_policy { key: 3 value { } }\npriority_queue_policy { value { } } }",
     "f:2: error: priority_queue_policy: there is no level 3, they are numbered from 1 to "
     "priority_levels (2)\n"
     "f:3: error: priority_queue_policy: there is no level 0, they are numbered from 1 to "
     "priority_levels (2)\n"},
    {"dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
     "f:1: error: preserve_ordering allows one priority level alone\n"},
    {"dynamic_batching { preserve_ordering: true\n"
     "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }\n"
     "priority_levels: 1 default_priority_level: 1\n"
     "priority_queue_policy { key: 1 value { timeout_action: DELAY default_timeout_microseconds: 1 "
     "} } }",
     "f:2: error: requests that a timeout_action DELAY puts behind others cannot be answered in "
     "order: use REJECT, or leave preserve_ordering out\n"
     "f:4: error: requests that a timeout_action DELAY puts behind others cannot be answered in "
     "order: use REJECT, or leave preserve_ordering out\n"},
    {WARM_UP("batch_size: 1"), "f:2: error: warm-up sample 's': the input 'a' is missing\n"},
    {"model_warmup { } max_batch_size: 4 model_warmup {\nbatch_size: 5 }",
     "f:1: warning: warm-up sample 1 is passed over without a batch_size from 1 on, as in the "
     "field\n"
     "f:2: error: warm-up sample 2: batch_size 5 is larger than the 4 that max_batch_size 4 "
     "allows\n"},
    {"max_batch_size: 0 model_warmup { batch_size: 2 }",
     "f:1: error: warm-up sample 1: batch_size 2 is larger than the 1 that max_batch_size 0 "
     "allows\n"},
    {WARM_UP(DATA("")), "f:2: error: warm-up sample 's', input 'a': one of zero_data, random_data "
                        "and input_data_file says what is sent\n"},
    {WARM_UP(DATA("input_data_file: ''")),
     "f:3: error: warm-up sample 's', input 'a': input_data_file '' must be the name of a file in "
     "the model's folder warmup\n"},
    {WARM_UP(DATA("input_data_file: 'a/../../b'")),
     "f:3: error: warm-up sample 's', input 'a': input_data_file 'a/../../b' must be the name of a "
     "file in the model's folder warmup\n"},
    {WARM_UP(DATA("input_data_file: '/etc/passwd'")),
     "f:3: error: warm-up sample 's', input 'a': input_data_file '/etc/passwd' must be the name of "
     "a file in the model's folder warmup\n"},
    {WARM_UP("batch_size: 1 inputs { key: 'a' value { dims: [3, -1] zero_data: true } }"),
     "f:2: error: warm-up sample 's', input 'a': the data_type is missing\n"
     "f:2: error: warm-up sample 's', input 'a': dims are sizes, without -1 and without the batch; "
     "got -1\n"
     "f:2: error: warm-up sample 's', input 'a': the dims are none that the model's input takes "
     "(without the batch)\n"},
    {WARM_UP("batch_size: 1 inputs { key: 'a' value { data_type: TYPE_INT8 dims: 2 zero_data: true "
             "} }"),
     "f:2: error: warm-up sample 's', input 'a': the data_type is not that of the model's input\n"
     "f:2: error: warm-up sample 's', input 'a': the dims are none that the model's input takes "
     "(without the batch)\n"},
    {PARAMETER("modeld_weight", "0"),
     "f:1: error: parameter 'modeld_weight' is a number from 1 to 1000; got '0'\n"},
    {PARAMETER("modeld_deadline_ms", "1s"),
     "f:1: error: parameter 'modeld_deadline_ms' is a number from 0 to 86400000; got '1s'\n"},
    {PARAMETER("modeld_allowed_batch_sizes", "4,1"),
     "f:1: error: parameter 'modeld_allowed_batch_sizes' is a list of at most 32 sizes from 1 on, "
     "ascending, such as \"1,4,8\"; got '4,1'\n"},
    {PARAMETER("modeld_allowed_batch_sizes", ""),
     "f:1: error: parameter 'modeld_allowed_batch_sizes' is a list of at most 32 sizes from 1 on, "
     "ascending, such as \"1,4,8\"; got ''\n"},
    {PARAMETER("modeld_max_queue_bytes", "lots"),
     "f:1: error: parameter 'modeld_max_queue_bytes' is a number of bytes, such as \"64M\"; got "
     "'lots'\n"},
    {PARAMETER("modeld_batching", "never"),
     "f:1: error: parameter 'modeld_batching' has no value 'never'; there are auto, off, on\n"},
    {"parameters { key: 'modeld_inline'\nvalue { string_value: 'yes' } }",
     "f:2: error: parameter 'modeld_inline' has no value 'yes'; there are auto, on, off\n"},
};

static void test_model_config_refuses(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(bad); i++) {
        struct reading r;
        reading_begin(&r, READ_PBTXT, md_str_of(bad[i].text));
        assert_true(r.ok);
        assert_false(md_model_config_validate(r.message, &r.diagnostics));
        if (strcmp(reading_errors(&r), bad[i].errors) != 0) {
            fail_msg("%s\ngives\n%sinstead of\n%s", bad[i].text, reading_errors(&r), bad[i].errors);
        }
        reading_end(&r);
    }
}

static void test_model_config_names_that_stand_twice(void **state)
{
    static const char text[] = "input { name: 'b' }\ninput { name: 'a' }\ninput { name: 'b' }\n"
                               "output { name: 'a' }\ninput { name: 'bb' }\n";
    struct reading r;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR(text));
    assert_false(md_model_config_validate(r.message, &r.diagnostics));
    assert_int_equal(r.diagnostics.count, 1);
    assert_string_equal(r.diagnostics.items[0].text, "input 'b' stands there twice");
    reading_end(&r);
}

static void test_model_config_model_names(void **state)
{
    static const struct {
        struct md_str name;
        bool valid;
    } cases[] = {
        {{"a", 1}, true},     {{"a b\xc3\xa9.1", 7}, true},
        {{"...", 3}, true},   {{"", 0}, false},
        {{".", 1}, false},    {{"..", 2}, false},
        {{"a/b", 3}, false},  {{"a\nb", 3}, false},
        {{"a\0b", 3}, false}, {{"a\x7f", 2}, false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        if (md_model_name_is_valid(cases[i].name) != cases[i].valid) {
            fail_msg("case %zu", i);
        }
    }
}

static void test_model_config_warns_of_what_has_no_effect(void **state)
{
    static const struct {
        const char *text, *warnings;
    } cases[] = {
        {"dynamic_batching { default_priority_level: 1 }",
         "f:1: warning: default_priority_level has no effect without priority_levels\n"},
        {"dynamic_batching {\n priority_queue_policy { key: 1 value { } } }",
         "f:2: warning: priority_queue_policy has no effect without priority_levels\n"},
        {"max_batch_size: 0 dynamic_batching { }",
         "f:1: warning: no batches are formed with max_batch_size 0: say how many rows one may "
         "have; what dynamic_batching says of the queue counts\n"},
        {"input { name: 'a' } model_warmup { name: 'x' }",
         "f:1: warning: warm-up sample 'x' is passed over without a batch_size from 1 on, as in "
         "the field\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct reading r;
        reading_begin(&r, READ_PBTXT, md_str_of(cases[i].text));
        assert_true(r.ok && md_model_config_validate(r.message, &r.diagnostics));
        assert_string_equal(reading_errors(&r), cases[i].warnings);
        reading_end(&r);
    }
}

static void test_model_config_out_of_memory(void **state)
{
    struct reading r;
    struct md_arena none = {.chunk_bytes = 16};

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR("input { name: 'a' } input { name: 'b' }"));
    assert_true(r.ok);
    r.diagnostics.arena = &none;
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_model_config_validate(r.message, &r.diagnostics));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    md_arena_deinit(&none);
    reading_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_config_accepts),
        cmocka_unit_test(test_model_config_refuses),
        cmocka_unit_test(test_model_config_names_that_stand_twice),
        cmocka_unit_test(test_model_config_model_names),
        cmocka_unit_test(test_model_config_warns_of_what_has_no_effect),
        cmocka_unit_test(test_model_config_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
