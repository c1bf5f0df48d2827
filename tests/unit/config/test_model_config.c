/*
 * config/model_config.h
 */
#include "config/model_config.h"
#include "unit/config/reading.h"

#include "base/fault.h"

#include <string.h>

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
    "parameters { key: 'modeld_inline' value { string_value: 'off' } }",
    "parameters { key: 'modeldx' value { string_value: 'off' } }",
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

static void test_model_config_parameter(void **state)
{
    struct reading r;

    (void)state;
    reading_begin(
        &r, READ_PBTXT,
        MD_STR("parameters { key: 'a' value { string_value: '1' } } parameters { key: 'b' }"));
    assert_true(md_str_eq_c(md_model_config_parameter(r.message, MD_STR("a")), "1"));
    assert_int_equal(md_model_config_parameter(r.message, MD_STR("b")).len, 0);
    assert_int_equal(md_model_config_parameter(r.message, MD_STR("c")).len, 0);
    reading_end(&r);
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
        cmocka_unit_test(test_model_config_parameter),
        cmocka_unit_test(test_model_config_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
