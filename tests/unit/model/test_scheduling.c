/*
 * model/mapping_scheduling.c: what the configuration makes of a target's batcher, limits and share.
 */
#include "unit/model/fake_trial.h"

static const int64_t any_rows[] = {-1, 4};
static const struct md_tensor_spec x[] = {
    {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_rows}};

static void begin(const char *config)
{
    build_begin(config, x, 1, x, 1);
}

static const struct md_queue_policy *policy_of_level(uint32_t level)
{
    return &world.version.target.scheduler.batcher.levels[level - 1].policy;
}

static void test_scheduling_defaults(void **state)
{
    (void)state;
    begin("");
    world.options.auto_batching = false;
    assert_true(md_mapping_make_scheduling(&world.build));
    assert_int_equal(batcher()->max_rows, 1);
    assert_int_equal(batcher()->max_requests, 1);
    assert_int_equal(batcher()->level_count, 1);
    assert_int_equal(batcher()->default_level, 1);
    assert_int_equal(policy_of_level(1)->max_size, 0);
    assert_int_equal(batcher()->max_bytes, world.budget.limit_bytes / 4);
    assert_int_equal(world.version.target.share.weight, 1);
    assert_int_equal(world.version.target.share.band, 1);
    assert_int_equal(world.version.target.deadline_default_ns, 0);
    assert_int_equal(world.version.target.execution_timeout_ns, 0);
    assert_false(world.version.target.scheduler.keeps_order);
    assert_int_equal(world.log.len, 0);
    build_end();
}

static void test_scheduling_takes_what_is_configured(void **state)
{
    (void)state;
    begin(
        "max_batch_size: 16 dynamic_batching { preferred_batch_size: [8, 4]\n"
        "max_queue_delay_microseconds: 100 priority_levels: 3 default_priority_level: 2\n"
        "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5 }\n"
        "priority_queue_policy { key: 3 value { allow_timeout_override: true max_queue_size: 7 } } }\n"
        "optimization { priority: PRIORITY_MAX }\n"
        "parameters { key: 'modeld_allowed_batch_sizes' value { string_value: '4,8,32' } }\n"
        "parameters { key: 'modeld_max_queue_bytes' value { string_value: '1K' } }\n"
        "parameters { key: 'modeld_weight' value { string_value: '9' } }\n"
        "parameters { key: 'modeld_deadline_ms' value { string_value: '20' } }\n"
        "parameters { key: 'modeld_execution_timeout_ms' value { string_value: '30' } }\n");
    assert_true(md_mapping_make_scheduling(&world.build));
    assert_int_equal(world.build.batching, MD_BATCHING_ON);
    assert_int_equal(batcher()->max_rows, 8); /* the largest allowed */
    assert_int_equal(batcher()->max_requests, 8);
    assert_int_equal(batcher()->allowed_count, 2);
    assert_int_equal(batcher()->preferred_count, 2);
    assert_int_equal(batcher()->preferred[0], 4);
    assert_int_equal(batcher()->preferred[1], 8);
    assert_int_equal(batcher()->delay_ns, 100000);
    assert_true(log_has("batches wait for up to 100 us"));
    assert_int_equal(batcher()->level_count, 3);
    assert_int_equal(batcher()->default_level, 2);
    assert_true(policy_of_level(1)->delays);
    assert_int_equal(policy_of_level(2)->timeout_ns, 5000);
    assert_false(policy_of_level(3)->delays);
    assert_true(policy_of_level(3)->allows_override);
    assert_int_equal(policy_of_level(3)->max_size, 7);
    assert_int_equal(batcher()->max_bytes, 1024);
    assert_int_equal(world.version.target.share.weight, 9);
    assert_int_equal(world.version.target.share.band, 0);
    assert_int_equal(world.version.target.deadline_default_ns, 20 * MD_NS_PER_MS);
    assert_int_equal(world.version.target.execution_timeout_ns, 30 * MD_NS_PER_MS);
    build_end();
}

static void test_scheduling_of_priorities_and_order(void **state)
{
    (void)state;
    begin("max_batch_size: 2 dynamic_batching { preserve_ordering: true } "
          "optimization { priority: PRIORITY_MIN }");
    assert_true(md_mapping_make_scheduling(&world.build));
    assert_true(world.version.target.scheduler.keeps_order);
    assert_int_equal(world.version.target.share.band, 2);
    build_end();
}

static void test_scheduling_batch_sizes(void **state)
{
    static const struct {
        const char *config;
        bool no_batch, decoupled;
        uint32_t rows, requests;
        enum md_batching batching;
        const char *log; /* NULL: nothing */
    } rows[] = {
        {"max_batch_size: 1000000 dynamic_batching { }", .rows = 1000000, .requests = 256,
         .batching = MD_BATCHING_ON},
        {"max_batch_size: 1 dynamic_batching { }", .rows = 1, .requests = 1},
        {"dynamic_batching { }", .rows = 32, .requests = 32, .batching = MD_BATCHING_ON},
        {"dynamic_batching { preferred_batch_size: 48 }", .rows = 48, .requests = 48,
         .batching = MD_BATCHING_ON},
        {"max_batch_size: 0 dynamic_batching { }", .rows = 1, .requests = 1,
         .log = "no max_batch_size"},
        {"dynamic_batching { }", .no_batch = true, .rows = 1, .requests = 1,
         .log = "no max_batch_size"},
        {"max_batch_size: 8 dynamic_batching { }", .no_batch = true, .rows = 8, .requests = 8,
         .batching = MD_BATCHING_ON},
        {"max_batch_size: 8 dynamic_batching { }", .decoupled = true, .rows = 1, .requests = 1,
         .log = "the model is decoupled"},
        {"", .rows = 32, .requests = 32, .batching = MD_BATCHING_PROBE},
        {"max_batch_size: 4", .rows = 4, .requests = 4, .batching = MD_BATCHING_PROBE},
        {"max_batch_size: 4", .no_batch = true, .rows = 1, .requests = 1},
        {"max_batch_size: 16 parameters { key: 'modeld_allowed_batch_sizes' value { string_value: "
         "'3,5' } }",
         .rows = 5, .requests = 5, .batching = MD_BATCHING_PROBE},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        begin(rows[i].config);
        world.info.batchable = !rows[i].no_batch;
        world.version.target.decoupled = rows[i].decoupled;
        assert_true(md_mapping_make_scheduling(&world.build));
        assert_int_equal(batcher()->max_rows, rows[i].rows);
        assert_int_equal(batcher()->max_requests, rows[i].requests);
        assert_int_equal(world.build.batching, rows[i].batching);
        assert_true(rows[i].log ? log_has(rows[i].log) : world.log.len == 0);
        build_end();
    }
}

static void test_scheduling_completes_what_is_preferred(void **state)
{
    static const struct {
        const char *config;
        int64_t preferred; /* 0: none */
        size_t taken;
    } rows[] = {
        {"max_batch_size: 8 dynamic_batching { }", 8, 0},
        {"max_batch_size: 8 dynamic_batching { preferred_batch_size: 4 }", 4, 1},
        {"dynamic_batching { }", 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        begin(rows[i].config);
        assert_true(md_mapping_make_scheduling(&world.build));
        const struct md_message *dynamic = md_message_child(world.build.config, "dynamic_batching");
        assert_int_equal(md_message_count(dynamic, "preferred_batch_size"), rows[i].preferred > 0);
        assert_int_equal(md_message_get(dynamic, "preferred_batch_size", 0).as.integer,
                         rows[i].preferred);
        assert_int_equal(batcher()->preferred_count, rows[i].taken);
        build_end();
    }
}

static void test_scheduling_refuses_what_the_model_cannot_do(void **state)
{
    static const struct {
        const char *config, *said;
    } rows[] = {
        {"max_batch_size: 4 parameters { key: 'modeld_allowed_batch_sizes' value { string_value: "
         "'8' } }",
         "parameter 'modeld_allowed_batch_sizes' has no size up to the 4 rows that a batch may "
         "have"},
        {"dynamic_batching { preferred_batch_size: 9 }",
         "preferred_batch_size 9 is larger than max_batch_size 4"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        begin(rows[i].config);
        world.build.max_batch_size = 4; /* as --default-max-batch-size says */
        assert_false(md_mapping_make_scheduling(&world.build));
        assert_int_equal(world.err.reason, MD_REASON_CONFLICT);
        assert_string_equal(world.err.text, rows[i].said);
        build_end();
    }
}

static void test_scheduling_survives_large_numbers(void **state)
{
    (void)state;
    begin("max_batch_size: 2 dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 "
          "default_queue_policy { default_timeout_microseconds: 18446744073709551615 } }");
    assert_true(md_mapping_make_scheduling(&world.build));
    assert_int_equal(batcher()->delay_ns, INT64_MAX);
    assert_int_equal(policy_of_level(1)->timeout_ns, 0);
    build_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scheduling_defaults),
        cmocka_unit_test(test_scheduling_takes_what_is_configured),
        cmocka_unit_test(test_scheduling_of_priorities_and_order),
        cmocka_unit_test(test_scheduling_batch_sizes),
        cmocka_unit_test(test_scheduling_completes_what_is_preferred),
        cmocka_unit_test(test_scheduling_refuses_what_the_model_cannot_do),
        cmocka_unit_test(test_scheduling_survives_large_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
