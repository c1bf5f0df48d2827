/*
 * config/model_parameter.h
 */
#include "config/model_parameter.h"
#include "unit/config/reading.h"

#include "base/fault.h"

static const char text[] =
    "parameters { key: 'a' value { string_value: '1' } } parameters { key: 'b' }\n"
    "parameters { key: 'modeld_batching' value { string_value: 'off: the answers differ' } }\n"
    "parameters { key: 'modeld_weight' value { string_value: '7' } }\n"
    "parameters { key: 'modeld_max_queue_bytes' value { string_value: '2K' } }\n"
    "parameters { key: 'modeld_allowed_batch_sizes' value { string_value: '1, 4,8' } }\n";

static void test_model_parameter_values(void **state)
{
    uint64_t numbers[MD_MODEL_PARAMETER_NUMBERS_MAX];
    struct reading r;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR(text));
    assert_true(r.ok);
    assert_true(md_str_eq_c(md_model_parameter_text(r.message, MD_STR("a")), "1"));
    assert_int_equal(md_model_parameter_text(r.message, MD_STR("b")).len, 0);
    assert_int_equal(md_model_parameter_text(r.message, MD_STR("c")).len, 0);
    assert_true(
        md_str_eq_c(md_model_parameter_choice(r.message, MD_STR("modeld_batching")), "off"));
    assert_int_equal(md_model_parameter_choice(r.message, MD_STR("modeld_inline")).len, 0);
    assert_int_equal(md_model_parameter_number(r.message, MD_STR("modeld_weight"), 1), 7);
    assert_int_equal(md_model_parameter_number(r.message, MD_STR("modeld_deadline_ms"), 5), 5);
    assert_int_equal(md_model_parameter_number(r.message, MD_STR("modeld_max_queue_bytes"), 0),
                     2048);
    assert_int_equal(
        md_model_parameter_numbers(r.message, MD_STR("modeld_allowed_batch_sizes"), numbers), 3);
    assert_int_equal(numbers[0], 1);
    assert_int_equal(numbers[1], 4);
    assert_int_equal(numbers[2], 8);
    reading_end(&r);
}

static void test_model_parameter_set_replaces_or_adds(void **state)
{
    struct reading r;

    (void)state;
    reading_begin(&r, READ_PBTXT, MD_STR(text));
    const size_t before = md_message_count(r.message, "parameters");
    assert_true(md_model_parameter_set(r.message, "modeld_batching", "on: they agree", &r.arena));
    assert_int_equal(md_message_count(r.message, "parameters"), before);
    assert_true(md_str_eq_c(md_model_parameter_text(r.message, MD_STR("modeld_batching")),
                            "on: they agree"));
    assert_true(md_model_parameter_set(r.message, "new", "", &r.arena));
    assert_int_equal(md_message_count(r.message, "parameters"), before + 1);
    reading_end(&r);
}

static void test_model_parameter_set_out_of_memory(void **state)
{
    (void)state;
    for (unsigned n = 0;; n++) {
        struct md_arena arena = {.chunk_bytes = 16};
        struct md_message *config = md_message_create(&md_model_config_desc, &arena);
        md_fault_arm(MD_FAULT_ALLOC, n);
        bool ok = md_model_parameter_set(config, "k", "v", &arena);
        bool hit = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(ok, !hit);
        assert_int_equal(md_str_eq_c(md_model_parameter_text(config, MD_STR("k")), "v"), ok);
        md_arena_deinit(&arena);
        if (!hit) {
            assert_true(n > 0);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_parameter_values),
        cmocka_unit_test(test_model_parameter_set_replaces_or_adds),
        cmocka_unit_test(test_model_parameter_set_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
