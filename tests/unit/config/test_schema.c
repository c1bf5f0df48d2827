/*
 * config/schema.h: the tables, values by name, laying one message over another, the report of what
 * is supported.
 */
#include "unit/config/reading.h"

#include "base/fault.h"

#include <string.h>

/* --- the tables -------------------- */

struct walk {
    const struct md_message_desc *path[MD_MESSAGE_DEPTH_MAX + 1];
    size_t next[MD_MESSAGE_DEPTH_MAX + 1];
    size_t depth;
};

/* The next field of the whole schema, each as often as a path leads to it; NULL at the end. */
static const struct md_field_desc *walk_next(struct walk *w)
{
    while (w->depth) {
        const struct md_message_desc *desc = w->path[w->depth - 1];
        size_t i = w->next[w->depth - 1]++;
        if (i == desc->field_count) {
            w->depth--;
            continue;
        }
        if (desc->fields[i].message) {
            assert_true(w->depth <= MD_MESSAGE_DEPTH_MAX);
            w->path[w->depth] = desc->fields[i].message;
            w->next[w->depth++] = 0;
        }
        return &desc->fields[i];
    }
    return NULL;
}

static bool has_own_number(const struct md_message_desc *desc, const struct md_field_desc *field)
{
    for (size_t i = 0; i < desc->field_count; i++) {
        if (&desc->fields[i] != field && desc->fields[i].number == field->number) {
            return false;
        }
    }
    return field->number > 0;
}

static void test_schema_fields_have_numbers_of_their_own(void **state)
{
    struct walk w = {.path = {&md_model_config_desc}, .depth = 1};

    (void)state;
    while (walk_next(&w)) {
        const struct md_message_desc *desc = w.path[w.depth - 1];
        for (size_t i = 0; w.next[w.depth - 1] == 0 && i < desc->field_count; i++) {
            if (!has_own_number(desc, &desc->fields[i])) {
                fail_msg("%s.%s", desc->name, desc->fields[i].name);
            }
        }
    }
}

static void test_schema_tables_are_whole(void **state)
{
    struct walk w = {.path = {&md_model_config_desc}, .depth = 1};
    const struct md_field_desc *field;
    size_t fields = 0, deepest = 0;

    (void)state;
    while ((field = walk_next(&w))) {
        bool nested = field->kind == MD_FIELD_MESSAGE || field->kind == MD_FIELD_MAP;
        bool integer = field->kind == MD_FIELD_INT || field->kind == MD_FIELD_UINT;
        fields++;
        deepest = w.depth > deepest ? w.depth : deepest;
        assert_true(field->name && strlen(field->name) < 60);
        assert_int_equal(nested, field->message != NULL);
        assert_int_equal(field->kind == MD_FIELD_ENUM, field->values != NULL);
        assert_int_equal(field->support != MD_SUPPORTED, field->note != NULL);
        assert_true(!integer || field->bits == 32 || field->bits == 64);
        assert_true(!field->oneof || !field->repeated);
        if (field->kind == MD_FIELD_MAP) {
            assert_false(field->repeated);
            assert_int_equal(field->message->field_count, 2);
            assert_string_equal(field->message->fields[0].name, "key");
            assert_string_equal(field->message->fields[1].name, "value");
        }
        if (field->kind == MD_FIELD_ENUM) {
            assert_non_null(md_enum_find_number(field->values, 0));
        }
    }
    assert_true(deepest <= MD_MESSAGE_DEPTH_MAX);
    assert_true(fields > 150);
}

static void test_schema_nearest_names(void **state)
{
    static const struct {
        const char *name, *nearest;
    } cases[] = {
        {"nam", "name"},
        {"max_batchsize", "max_batch_size"},
        {"backends", "backend"},
        {"instance_groups", "instance_group"},
        {"x", NULL},
        {"foo", NULL},
        {"", NULL},
        {"sequence", NULL},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        const char *got = md_message_nearest_field(&md_model_config_desc, md_str_of(cases[i].name));
        if (got != cases[i].nearest &&
            (!got || !cases[i].nearest || strcmp(got, cases[i].nearest) != 0)) {
            fail_msg("'%s' is near '%s'", cases[i].name, got ? got : "nothing");
        }
    }
}

static void test_schema_values_by_name(void **state)
{
    struct reading r;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR("max_batch_size: 0 input { name: 'x' dims: [3, 4] }"));
    const struct md_message *input = md_message_child(r.message, "input");
    assert_true(md_message_has(r.message, "max_batch_size"));
    assert_false(md_message_has(r.message, "name"));
    assert_int_equal(md_message_get(input, "dims", 1).as.integer, 4);
    assert_int_equal(md_message_get(input, "dims", 2).as.integer, 0);
    assert_null(md_message_get(input, "name", 1).as.string.ptr);
    assert_null(md_message_child(r.message, "version_policy"));
    assert_int_equal(md_message_count(NULL, "name"), 0);
    assert_true(
        md_message_set(r.message, "max_batch_size", (struct md_value){.as.integer = 7}, &r.arena));
    assert_int_equal(md_message_count(r.message, "max_batch_size"), 1);
    assert_int_equal(md_message_get(r.message, "max_batch_size", 0).as.integer, 7);
    reading_end(&r);
}

/* --- one over another -------------------- */

static const struct {
    const char *base, *over, *result;
} merges[] = {
    {"", "", ""},
    {"name: 'a'", "", "name: 'a'"},
    {"", "name: 'a' input { dims: 1 }", "name: 'a' input { dims: 1 }"},
    {"name: 'a' max_batch_size: 3", "max_batch_size: 0", "name: 'a' max_batch_size: 0"},
    {"input { name: 'x' } input { name: 'y' }", "input { name: 'z' }", "input { name: 'z' }"},
    {"optimization { graph { level: 1 } eager_batching: true }",
     "optimization { graph { level: 2 } priority: PRIORITY_MAX }",
     "optimization { graph { level: 2 } eager_batching: true priority: PRIORITY_MAX }"},
    {"version_policy { latest { num_versions: 3 } }", "version_policy { all {} }",
     "version_policy { all {} }"},
    {"parameters { key: 'a' value { string_value: '1' } } parameters { key: 'b' value { "
     "string_value: '2' } }",
     "parameters { key: 'b' value { string_value: '3' } } parameters { key: 'c' value { "
     "string_value: '4' } }",
     "parameters { key: 'a' value { string_value: '1' } } parameters { key: 'b' value { "
     "string_value: '3' } } parameters { key: 'c' value { string_value: '4' } }"},
};

static void test_schema_merge(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(merges); i++) {
        struct reading base, over, result;
        reading_begin(&base, READ_PBTXT, md_str_of(merges[i].base));
        reading_begin(&over, READ_PBTXT, md_str_of(merges[i].over));
        reading_begin(&result, READ_PBTXT, md_str_of(merges[i].result));
        assert_true(base.ok && over.ok && result.ok);
        assert_true(md_message_merge(base.message, over.message, &base.arena));
        if (strcmp(reading_json(&base), reading_json(&result)) != 0) {
            fail_msg("case %zu:\n%s\n%s", i, reading_json(&base), reading_json(&result));
        }
        reading_end(&base);
        reading_end(&over);
        reading_end(&result);
    }
}

/* What was laid over stays when its arena changes: everything was copied but the strings. */
static void test_schema_merge_copies_messages(void **state)
{
    struct reading base, over;

    (void)state;
    reading_begin(&base, READ_PBTXT, MD_STR(""));
    reading_begin(&over, READ_PBTXT, MD_STR("\ninstance_group { count: 2 }"));
    assert_true(md_message_merge(base.message, over.message, &base.arena));
    struct md_message *group = md_message_get(over.message, "instance_group", 0).as.message;
    assert_true(md_message_set(group, "count", (struct md_value){.as.integer = 9}, &over.arena));
    const struct md_message *copy = md_message_child(base.message, "instance_group");
    assert_int_equal(md_message_get(copy, "count", 0).as.integer, 2);
    assert_int_equal(copy->line, 2);
    reading_end(&base);
    reading_end(&over);
}

static void test_schema_merge_out_of_memory(void **state)
{
    bool ok = false;

    (void)state;
    for (long n = 0; !ok; n++) {
        struct reading base, over;
        reading_begin(&base, READ_PBTXT, MD_STR(""));
        reading_begin(&over, READ_PBTXT,
                      MD_STR("input { dims: [1, 2] } input {} input {} "
                             "parameters { key: 'a' } parameters { key: 'b' }"));
        struct md_arena arena = {.chunk_bytes = 64};
        md_fault_arm(MD_FAULT_ALLOC, n);
        ok = md_message_merge(base.message, over.message, &arena);
        assert_int_equal(md_fault_disarm(MD_FAULT_ALLOC), !ok);
        md_arena_deinit(&arena);
        reading_end(&base);
        reading_end(&over);
        assert_true(n < 1000);
    }
}

/* --- what is supported -------------------- */

static const struct {
    const char *text, *report;
} reports[] = {
    {"name: 'a' max_batch_size: 3 instance_group { count: 2 kind: KIND_GPU gpus: 0 }", ""},
    {"instance_group { passive: false host_policy: '' }\ninput { format: FORMAT_NONE }", ""},
    {"batch_input: []", ""},
    {"dynamic_batching {} model_warmup {} optimization { priority: PRIORITY_MIN }", ""},
    {"\nresponse_cache {}",
     "f:2: note: 'response_cache' in ModelConfig has no effect: responses are computed each time\n"},
    {"\n\nsequence_batching {}",
     "f:3: error: 'sequence_batching' in ModelConfig is not supported: sequences are not "
     "implemented yet; send the state as tensors\n"},
    {"input {\n  name: 'x'\n  allow_ragged_batch: true\n}",
     "f:3: error: 'allow_ragged_batch' in ModelInput is not supported: ragged batches are not "
     "implemented yet; pad the input\n"},
    {"instance_group {\n rate_limiter {}\n passive: true }",
     "f:2: note: 'rate_limiter' in ModelInstanceGroup has no effect: instances run whenever an "
     "executor is free\n"
     "f:3: error: 'passive' in ModelInstanceGroup is not supported: a group that the scheduler does "
     "not use cannot be asked for\n"},
};

static void test_schema_report_support(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(reports); i++) {
        struct reading r;
        reading_begin(&r, READ_PBTXT, md_str_of(reports[i].text));
        assert_true(r.ok);
        md_message_report_support(r.message, MD_SEVERITY_NOTE, &r.diagnostics);
        if (strcmp(reading_errors(&r), reports[i].report) != 0) {
            fail_msg("%s\ngives\n%sinstead of\n%s", reports[i].text, reading_errors(&r),
                     reports[i].report);
        }
        reading_end(&r);
    }
}

/* However many messages there are, each is looked into. */
static void test_schema_report_support_of_many(void **state)
{
    struct md_bytes text = {0};
    struct reading r;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        md_bytes_printf(&text, "input { name: '%d' is_shape_tensor: %s }\n", i,
                        i == 999 ? "true" : "false");
    }
    reading_begin(&r, READ_PBTXT, md_bytes_view(&text));
    md_message_report_support(r.message, MD_SEVERITY_NOTE, &r.diagnostics);
    assert_int_equal(r.diagnostics.error_count, 1);
    assert_int_equal(r.diagnostics.items[0].line, 1000);
    reading_end(&r);
    md_bytes_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schema_tables_are_whole),
        cmocka_unit_test(test_schema_fields_have_numbers_of_their_own),
        cmocka_unit_test(test_schema_nearest_names),
        cmocka_unit_test(test_schema_values_by_name),
        cmocka_unit_test(test_schema_merge),
        cmocka_unit_test(test_schema_merge_copies_messages),
        cmocka_unit_test(test_schema_merge_out_of_memory),
        cmocka_unit_test(test_schema_report_support),
        cmocka_unit_test(test_schema_report_support_of_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
