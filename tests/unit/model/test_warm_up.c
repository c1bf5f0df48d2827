/*
 * model/warm_up.h
 */
#include "unit/model/fake_trial.h"

#include "model/warm_up.h"

enum { COLUMNS = 4, SEEN_MAX = 64 };

static const int64_t any_rows[] = {-1, COLUMNS}, some[] = {-1}, flat[] = {3};
static const struct md_tensor_spec batched[] = {
    {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_rows},
    {.name = {"o", 1}, .dtype = MD_DTYPE_INT32, .rank = 1, .shape = some, .optional = true}};
static const struct md_tensor_spec plain[] = {
    {.name = {"s", 1}, .dtype = MD_DTYPE_BYTES, .rank = 1, .shape = some}};
static const struct md_tensor_spec fixed[] = {
    {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 1, .shape = flat}};

/* What the last execution got. */
static struct {
    char name[8];
    char data[SEEN_MAX];
    size_t bytes, inputs;
    int64_t shape[4];
    uint32_t rank;
} seen;

static bool look(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                 struct md_error *err)
{
    (void)out;
    (void)err;
    memset(&seen, 0, sizeof seen);
    (void)snprintf(seen.name, sizeof seen.name, "%.*s", MD_STR_ARG(inputs[0].name));
    seen.bytes = inputs[0].bytes;
    memcpy(seen.data, inputs[0].data, md_size_min(inputs[0].bytes, SEEN_MAX));
    memcpy(seen.shape, inputs[0].shape, inputs[0].rank * sizeof *seen.shape);
    seen.rank = inputs[0].rank;
    seen.inputs = count;
    return true;
}

static bool breaks(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                   struct md_error *err)
{
    (void)inputs;
    (void)count;
    (void)out;
    return md_error_set(err, MD_REASON_BACKEND, "it broke");
}

static void put_file(const char *name, const char *data, size_t bytes)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/warmup", world.folder);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/warmup/%s", world.folder, name);
    FILE *file = fopen(path, "w");
    assert_true(file && fwrite(data, 1, bytes, file) == bytes);
    (void)fclose(file);
}

static void begin(const char *config, const struct md_tensor_spec *inputs, size_t count)
{
    build_begin(config, inputs, count, NULL, 0);
    world.run = look;
    assert_true(md_mapping_make_scheduling(&world.build));
    md_bytes_clear(&world.log);
}

#define SAMPLE(more) "model_warmup { name: 's' batch_size: 1 " more " } "
#define X(more)      "inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 " more " } } "

/* --- samples -------------------- */

static void test_warm_up_runs_every_sample_on_every_instance_in_order(void **state)
{
    static const struct trial trials[] = {{0, 1, 1}, {0, 1, 1}, {0, 3, 3},
                                          {1, 1, 1}, {1, 1, 1}, {1, 3, 3}};

    (void)state;
    begin(
        "max_batch_size: 8 model_warmup { name: 'one' batch_size: 1 count: 2 " X(
            "zero_data: true") "} model_warmup { } model_warmup { batch_size: 3 " X("random_data: true") "}",
        batched, 2);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(world.trial_count, MD_COUNT_OF(trials));
    assert_memory_equal(world.trials, trials, sizeof trials);
    build_end();
}

static void test_warm_up_without_samples_runs_nothing(void **state)
{
    (void)state;
    begin("", batched, 2);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(world.trial_count, 0);
    build_end();
}

static void test_warm_up_makes_data(void **state)
{
    static const char zeros[SEEN_MAX];
    float random[2 * COLUMNS];

    (void)state;
    begin("max_batch_size: 8 model_warmup { batch_size: 2 " X("zero_data: true") "}", batched, 2);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(seen.bytes, sizeof random);
    assert_int_equal(seen.shape[0], 2);
    assert_int_equal(seen.shape[1], COLUMNS);
    assert_memory_equal(seen.data, zeros, sizeof random);
    build_end();
    begin("max_batch_size: 8 model_warmup { batch_size: 2 " X("random_data: true") "}", batched, 2);
    assert_true(md_warm_up_run(&world.build));
    memcpy(random, seen.data, sizeof random);
    assert_memory_equal(random, random + COLUMNS, sizeof random / 2); /* one row, twice */
    assert_true(random[0] >= 0 && random[0] < 1 && random[0] != random[1]);
    build_end();
    begin("model_warmup { batch_size: 1 inputs { key: 's' value { data_type: TYPE_STRING dims: 3 "
          "random_data: true } } }",
          plain, 1);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(seen.bytes, 12); /* three empty strings */
    assert_memory_equal(seen.data, zeros, 12);
    build_end();
}

static void test_warm_up_reads_files(void **state)
{
    const float row[COLUMNS + 1] = {1, 2, 3, 4, 5};
    static const char strings[] = "\2\0\0\0hi\0\0\0\0";

    (void)state;
    begin("max_batch_size: 8 model_warmup { batch_size: 2 " X("input_data_file: 'f'") "}", batched,
          2);
    put_file("f", (const char *)row, sizeof row - sizeof *row);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(seen.bytes, 2 * COLUMNS * sizeof *row);
    assert_memory_equal(seen.data, row, COLUMNS * sizeof *row);
    assert_memory_equal(seen.data + COLUMNS * sizeof *row, row, COLUMNS * sizeof *row);
    assert_int_equal(world.log.len, 0);
    put_file("f", (const char *)row, sizeof row); /* longer: as in the field */
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(seen.bytes, 2 * COLUMNS * sizeof *row);
    assert_true(log_has("the first 16 are used"));
    build_end();
    begin("model_warmup { batch_size: 1 inputs { key: 's' value { data_type: TYPE_STRING dims: 2 "
          "input_data_file: 't' } } }",
          plain, 1);
    put_file("t", strings, sizeof strings - 1);
    assert_true(md_warm_up_run(&world.build));
    assert_int_equal(seen.bytes, sizeof strings - 1);
    assert_memory_equal(seen.data, strings, sizeof strings - 1);
    build_end();
}

static const struct {
    const char *config;
    const struct md_tensor_spec *inputs;
    const char *said; /* a part of it */
} wrong[] = {
    {"max_batch_size: 8 " SAMPLE(X("zero_data: true") "inputs { key: 'q' value { data_type: "
                                                      "TYPE_FP32 dims: 1 zero_data: true } }"),
     batched, "warm-up sample 's': the model has no input 'q'; take it out of model_warmup"},
    {"max_batch_size: 8 " SAMPLE("inputs { key: 'x' value { data_type: TYPE_INT8 dims: [4, 1] "
                                 "zero_data: true } }"),
     batched,
     "warm-up sample 's', input 'x': it is INT8 [1,4,1], the model takes FP32 [-1,4]; correct "
     "data_type and dims in model_warmup (batch_size adds the first dimension)"},
    {"max_batch_size: 8 " SAMPLE(""), batched,
     "warm-up sample 's': the input 'x' is missing; add it in model_warmup"},
    {"max_batch_size: 8 " SAMPLE(X("input_data_file: 'none'")), batched,
     "warm-up sample 's', input 'x': "},
    {"max_batch_size: 8 " SAMPLE(X("input_data_file: 'short'")), batched,
     "/warmup/short has 4 bytes, 4 elements of FP32 are 16"},
    {SAMPLE(
         "inputs { key: 's' value { data_type: TYPE_STRING dims: 2 input_data_file: 'short' } }"),
     plain, "/warmup/short does not hold 2 strings, each behind its length of 4 bytes"},
    {SAMPLE("inputs { key: 's' value { data_type: TYPE_STRING dims: 4611686018427387904 "
            "zero_data: true } }"),
     plain, "warm-up sample 's', input 's' is larger than memory allows (--inflight-bytes)"},
    {SAMPLE("inputs { key: 's' value { data_type: TYPE_STRING dims: [4611686018427387904, 4] "
            "zero_data: true } }"),
     plain, "warm-up sample 's', input 's': the dims are too large"},
    {"max_batch_size: 2147483647 model_warmup { batch_size: 1000000000 " X("zero_data: true") "}",
     batched, "warm-up sample 1, input 'x' is larger than memory allows"},
    {"model_warmup { batch_size: 2 " X("zero_data: true") "}", batched,
     "warm-up sample 1: batch_size 2 is larger than max_batch_size 0 allows"},
};

static void test_warm_up_says_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(wrong); i++) {
        begin(wrong[i].config, wrong[i].inputs, 1);
        put_file("short", "abcd", 4);
        assert_false(md_warm_up_run(&world.build));
        assert_int_equal(world.trial_count, 0); /* all are looked at before one is run */
        if (!strstr(world.err.text, wrong[i].said)) {
            fail_msg("%zu: '%s' instead of '%s'", i, world.err.text, wrong[i].said);
        }
        build_end();
    }
}

static void test_warm_up_that_fails_fails_the_load(void **state)
{
    (void)state;
    begin("max_batch_size: 8 " SAMPLE(X("zero_data: true")), batched, 2);
    world.run = breaks;
    assert_false(md_warm_up_run(&world.build));
    assert_int_equal(world.err.reason, MD_REASON_BACKEND);
    assert_string_equal(world.err.text, "warm-up sample 's' fails on instance 0: it broke; correct "
                                        "it in model_warmup, or take it out");
    build_end();
}

static void test_warm_up_tells_of_slow_ones(void **state)
{
    (void)state;
    begin("max_batch_size: 8 model_warmup { name: 's' batch_size: 1 count: 5 " X(
              "zero_data: true") "}",
          batched, 2);
    world.trial_ns = 2 * (uint64_t)MD_NS_PER_S;
    assert_true(md_warm_up_run(&world.build));
    assert_true(log_has("model 'm': warm-up sample 's' has run 2 of 5 times on instance 1 of 2"));
    assert_false(log_has("3 of 5 times on instance 1"));
    assert_true(log_has("4 of 5 times on instance 1"));
    build_end();
}

static void test_warm_up_out_of_memory(void **state)
{
    (void)state;
    for (enum md_fault_kind kind = MD_FAULT_ALLOC; kind <= MD_FAULT_REGION; kind++) {
        for (long n = 0;; n++) {
            begin("max_batch_size: 8 model_warmup { batch_size: 2 " X("input_data_file: 'f'") "}",
                  batched, 2);
            put_file("f", "0123456789abcdef", 16);
            md_fault_arm(kind, n);
            bool ok = md_warm_up_run(&world.build);
            bool hit = md_fault_disarm(kind);
            assert_int_equal(ok, !hit);
            assert_true(ok || world.err.reason == MD_REASON_OUT_OF_MEMORY ||
                        kind == MD_FAULT_SYSCALL);
            build_end();
            if (!hit) {
                break;
            }
        }
    }
}

/* --- learning -------------------- */

static size_t count_learned(uint32_t rows)
{
    size_t count = 0;

    for (size_t i = 0; i < world.trial_count; i++) {
        count += world.trials[i].learned == rows;
    }
    return count;
}

static void test_warm_up_learns_sizes(void **state)
{
    (void)state;
    begin("max_batch_size: 8 dynamic_batching { }", batched, 2);
    world.trial_ns = MD_NS_PER_MS;
    assert_true(md_warm_up_learn(&world.build));
    for (uint32_t rows = 1; rows <= 8; rows *= 2) {
        assert_int_equal(count_learned(rows), 3 * INSTANCES);
    }
    assert_int_equal(world.trial_count, 4 * 3 * INSTANCES);
    build_end();
}

/* What runs as another size is that one, which is learned once. */
static void test_warm_up_learns_padded_sizes(void **state)
{
    static const char config[] =
        "max_batch_size: 16 dynamic_batching { } parameters { key: 'modeld_allowed_batch_sizes' "
        "value { string_value: '4,8' } } model_warmup { batch_size: 3 count: 3 " X(
            "zero_data: true") "}";

    (void)state;
    begin(config, batched, 2);
    world.trial_ns = MD_NS_PER_MS;
    assert_int_equal(batcher()->max_rows, 8);
    assert_true(md_warm_up_run(&world.build) && md_warm_up_learn(&world.build));
    assert_int_equal(count_learned(4), 3 * INSTANCES);
    assert_int_equal(count_learned(8), 3 * INSTANCES);
    assert_int_equal(world.trial_count, 2 * 3 * INSTANCES);
    build_end();
}

static void test_warm_up_learns_for_a_while_only(void **state)
{
    static const struct {
        uint64_t ms;
        size_t trials;
    } rows[] = {{10, 24}, {40, 6}, {100, 2}, {300, 1}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        begin("max_batch_size: 8", batched, 2);
        world.trial_ns = rows[i].ms * MD_NS_PER_MS;
        assert_true(md_warm_up_learn(&world.build));
        if (world.trial_count != rows[i].trials) {
            fail_msg("%zu: %zu", i, world.trial_count);
        }
        build_end();
    }
}

static void test_warm_up_learns_only_what_it_can_make_up(void **state)
{
    static const int64_t unknown[] = {-1, -1};
    static const struct md_tensor_spec variable[] = {
        {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = unknown}};
    static const struct {
        const char *config;
        const struct md_tensor_spec *inputs;
        bool decoupled, no_option, inline_safe;
        uint64_t trial_us;
        size_t trials;
    } rows[] = {
        {"max_batch_size: 4", variable, .trials = 0},
        {"max_batch_size: 4", plain, .trials = 0},
        {"", fixed, .trials = 3 * INSTANCES},
        {"max_batch_size: 1", batched, .trials = 3 * INSTANCES},
        {"max_batch_size: 1", batched, .decoupled = true, .trials = 0},
        {"max_batch_size: 1", batched, .no_option = true, .trials = 0},
        {"max_batch_size: 1", batched, .inline_safe = true, .trial_us = 19, .trials = 1},
        {"max_batch_size: 1", batched, .inline_safe = true, .trial_us = 20,
         .trials = 3 * INSTANCES},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        begin(rows[i].config, rows[i].inputs, 1);
        world.version.target.decoupled = rows[i].decoupled;
        world.version.target.inline_safe = rows[i].inline_safe;
        world.options.auto_batching = !rows[i].no_option;
        world.trial_ns = rows[i].trial_us * MD_NS_PER_US;
        assert_true(md_warm_up_learn(&world.build));
        if (world.trial_count != rows[i].trials) {
            fail_msg("%zu: %zu", i, world.trial_count);
        }
        build_end();
    }
}

static bool breaks_from_4_on(const struct md_tensor *inputs, size_t count,
                             struct md_trial_result *out, struct md_error *err)
{
    return inputs[0].shape[0] < 4 || breaks(inputs, count, out, err);
}

static void test_warm_up_keeps_batches_to_what_works(void **state)
{
    (void)state;
    begin("max_batch_size: 8", batched, 2); /* batches are the server's own idea */
    world.run = breaks_from_4_on;
    assert_int_equal(batcher()->max_rows, 8);
    assert_true(md_warm_up_learn(&world.build));
    assert_int_equal(batcher()->max_rows, 2);
    assert_string_equal(batching().ptr, "on: up to 2 rows; 4 fail (it broke)");
    build_end();
    begin("max_batch_size: 8 dynamic_batching { }", batched, 2); /* they are not */
    world.run = breaks_from_4_on;
    assert_true(md_warm_up_learn(&world.build));
    assert_int_equal(batcher()->max_rows, 8);
    build_end();
    begin("max_batch_size: 8", batched, 2);
    world.run = breaks;
    assert_true(md_warm_up_learn(&world.build));
    assert_int_equal(batcher()->max_rows, 1);
    build_end();
}

static void test_warm_up_does_not_survive_a_lost_instance(void **state)
{
    (void)state;
    begin("max_batch_size: 8", batched, 2);
    world.run = breaks;
    world.stuck = true;
    assert_false(md_warm_up_learn(&world.build));
    assert_int_equal(world.err.reason, MD_REASON_BACKEND);
    assert_non_null(world.kept.chunks); /* it may still read what it was given */
    build_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warm_up_runs_every_sample_on_every_instance_in_order),
        cmocka_unit_test(test_warm_up_without_samples_runs_nothing),
        cmocka_unit_test(test_warm_up_makes_data),
        cmocka_unit_test(test_warm_up_reads_files),
        cmocka_unit_test(test_warm_up_says_what_is_wrong),
        cmocka_unit_test(test_warm_up_that_fails_fails_the_load),
        cmocka_unit_test(test_warm_up_tells_of_slow_ones),
        cmocka_unit_test(test_warm_up_out_of_memory),
        cmocka_unit_test(test_warm_up_learns_sizes),
        cmocka_unit_test(test_warm_up_learns_padded_sizes),
        cmocka_unit_test(test_warm_up_learns_for_a_while_only),
        cmocka_unit_test(test_warm_up_learns_only_what_it_can_make_up),
        cmocka_unit_test(test_warm_up_keeps_batches_to_what_works),
        cmocka_unit_test(test_warm_up_does_not_survive_a_lost_instance),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
