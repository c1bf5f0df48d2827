/*
 * Model configurations as text and JSON, and what is reported about them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "config/schema.h"

struct parsed {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_message *message;
    bool ok;
};

static void parse(struct parsed *p, const char *text, bool json)
{
    memset(p, 0, sizeof *p);
    md_diagnostics_init(&p->diagnostics, &p->arena);
    p->message = md_message_create(&md_model_config_desc, &p->arena);
    p->ok =
        p->message &&
        (json ? md_message_parse_json(md_str_of(text), "f", p->message, &p->arena, &p->diagnostics)
              : md_pbtxt_parse(md_str_of(text), "f", p->message, &p->arena, &p->diagnostics));
}

static void test_pbtxt_reads_all_forms(void **state)
{
    struct parsed p;

    (void)state;
    parse(
        &p,
        "name: \"a\" 'b' # comment\n"
        "max_batch_size: 0x10;\n"
        "input [ { name: \"x\" data_type: TYPE_FP32 dims: [ -1, 3 ] }, { name: 'y' data_type: 9 dims: 1 dims: 2 } ]\n"
        "output < name: \"\\x41\\102\\n\" data_type: TYPE_STRING dims: [] >\n"
        "parameters: { key: \"k\" value: { string_value: \"v\" } }\n"
        "version_policy { specific { versions: 1, versions: 3 } }\n"
        "optimization { graph { level: -1 } }\n"
        "model_transaction_policy { decoupled: t }\n",
        false);
    assert_true(p.ok);
    assert_true(md_str_eq_c(md_message_get(p.message, "name", 0).as.string, "ab"));
    assert_int_equal(md_message_get(p.message, "max_batch_size", 0).as.integer, 16);
    assert_int_equal(md_message_count(p.message, "input"), 2);
    const struct md_message *y = md_message_get(p.message, "input", 1).as.message;
    assert_int_equal(md_message_count(y, "dims"), 2);
    assert_int_equal(md_message_get(y, "data_type", 0).as.integer, 9);
    assert_true(md_str_eq_c(
        md_message_get(md_message_get(p.message, "output", 0).as.message, "name", 0).as.string,
        "AB\n"));
    md_arena_deinit(&p.arena);
}

static void test_pbtxt_reports_every_error_with_its_place(void **state)
{
    struct parsed p;
    struct md_bytes text = {0};

    (void)state;
    parse(
        &p,
        "max_batchsize: 4\ninput { name: 3 }\ninstance_group { kind: KIND_CPPU }\nmax_batch_size: 99999999999\n",
        false);
    assert_false(p.ok);
    assert_int_equal(p.diagnostics.error_count, 4);
    for (size_t i = 0; i < p.diagnostics.count; i++) {
        md_diagnostic_print(&p.diagnostics.items[i], &text);
        md_bytes_append_char(&text, '\n');
    }
    md_bytes_append_char(&text, '\0');
    assert_non_null(strstr(
        text.data,
        "f:1:1: error: unknown field 'max_batchsize' in ModelConfig, did you mean 'max_batch_size'?"));
    assert_non_null(strstr(text.data, "f:2:15: error: 'name' must be a string in quotes"));
    assert_non_null(strstr(text.data, "did you mean 'KIND_CPU'?"));
    assert_non_null(
        strstr(text.data, "f:4:17: error: 'max_batch_size': 99999999999 is out of range"));
    md_bytes_deinit(&text);
    md_arena_deinit(&p.arena);
}

static void test_pbtxt_refuses_two_choices_of_a_group(void **state)
{
    struct parsed p;

    (void)state;
    parse(&p, "dynamic_batching { }\nsequence_batching { }\n", false);
    assert_false(p.ok);
    md_arena_deinit(&p.arena);
}

static void test_pbtxt_prints_as_json_that_reads_back(void **state)
{
    struct parsed p, again;
    struct md_bytes one = {0}, two = {0};

    (void)state;
    parse(
        &p,
        "name: \"m\"\nversion_policy { latest { num_versions: 2 } }\nmetric_tags { key: \"a\" value: \"b\" }\n"
        "input { name: \"x\" data_type: TYPE_INT64 dims: 4 }\n",
        false);
    md_message_print_json(p.message, &one);
    md_bytes_append_char(&one, '\0');
    assert_non_null(strstr(one.data, "\"version_policy\":{\"latest\":{\"num_versions\":2}}"));
    assert_non_null(
        strstr(one.data, "\"data_type\":\"TYPE_INT64\",\"format\":\"FORMAT_NONE\",\"dims\":[4]"));
    assert_non_null(strstr(one.data, "\"metric_tags\":{\"a\":\"b\"}"));
    parse(&again, one.data, true);
    assert_true(again.ok);
    md_message_print_json(again.message, &two);
    assert_int_equal(one.len - 1, two.len);
    assert_memory_equal(one.data, two.data, two.len);
    md_bytes_deinit(&one);
    md_bytes_deinit(&two);
    md_arena_deinit(&p.arena);
    md_arena_deinit(&again.arena);
}

static void test_schema_merges_a_copy(void **state)
{
    struct parsed base, over;

    (void)state;
    parse(&base,
          "max_batch_size: 4\noptimization { graph { level: 1 } }\ninstance_group { count: 1 }\n",
          false);
    parse(&over,
          "{\"max_batch_size\":8,\"optimization\":{\"eager_batching\":true},"
          "\"instance_group\":[{\"count\":2},{\"count\":3}]}",
          true);
    assert_true(base.ok && over.ok);
    assert_true(md_message_merge(base.message, over.message, &base.arena));
    assert_int_equal(md_message_get(base.message, "max_batch_size", 0).as.integer, 8);
    assert_int_equal(md_message_count(base.message, "instance_group"), 2);
    const struct md_message *optimization = md_message_child(base.message, "optimization");
    assert_int_equal(md_message_get(md_message_child(optimization, "graph"), "level", 0).as.integer,
                     1);
    assert_ptr_not_equal(md_message_get(base.message, "instance_group", 0).as.message,
                         md_message_get(over.message, "instance_group", 0).as.message);
    md_arena_deinit(&base.arena);
    md_arena_deinit(&over.arena);
}

static void test_schema_reports_what_is_not_supported(void **state)
{
    struct parsed p;

    (void)state;
    parse(&p, "dynamic_batching { }\nensemble_scheduling { }\n", true);
    assert_false(p.ok);
    md_arena_deinit(&p.arena);
    parse(
        &p,
        "sequence_batching { }\ninput { name: \"x\" allow_ragged_batch: true }\nresponse_cache { enable: true }\n"
        "input { name: \"y\" allow_ragged_batch: false }\n",
        false);
    assert_true(p.ok);
    md_message_report_support(p.message, MD_SEVERITY_WARNING, &p.diagnostics);
    assert_int_equal(p.diagnostics.error_count, 2);
    assert_int_equal(p.diagnostics.warning_count, 1);
    md_arena_deinit(&p.arena);
}

static void test_pbtxt_survives_failing_memory(void **state)
{
    (void)state;
    for (long n = 0;; n++) {
        struct parsed p;
        md_fault_arm(MD_FAULT_ALLOC, n);
        parse(
            &p,
            "name: \"m\"\ninput [ { name: \"x\" dims: [1,2,3] }, { name: \"y\" } ]\nparameters { key: \"k\" "
            "value { string_value: \"v\" } }\n",
            false);
        bool hit = md_fault_disarm(MD_FAULT_ALLOC);
        assert_true(hit != p.ok || p.ok);
        md_arena_deinit(&p.arena);
        if (!hit) {
            assert_true(p.ok);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pbtxt_reads_all_forms),
        cmocka_unit_test(test_pbtxt_reports_every_error_with_its_place),
        cmocka_unit_test(test_pbtxt_refuses_two_choices_of_a_group),
        cmocka_unit_test(test_pbtxt_prints_as_json_that_reads_back),
        cmocka_unit_test(test_schema_merges_a_copy),
        cmocka_unit_test(test_schema_reports_what_is_not_supported),
        cmocka_unit_test(test_pbtxt_survives_failing_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
