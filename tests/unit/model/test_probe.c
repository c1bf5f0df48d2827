/*
 * model/probe.h: models that may be batched, and those that only look like it.
 */
#include "unit/model/fake_trial.h"

#include "model/probe.h"

#include <math.h>

enum { COLUMNS = 4 };

static const int64_t any_rows[] = {-1, COLUMNS}, any_both[] = {-1, -1}, fixed[] = {2, COLUMNS};
static const struct md_tensor_spec x[] = {
    {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_rows},
    {.name = {"o", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_rows, .optional = true}};
static const struct md_tensor_spec y[] = {
    {.name = {"y", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_both},
    {.name = {"z", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = any_both}};

static size_t rows_of(const struct md_tensor *inputs)
{
    return (size_t)inputs[0].shape[0];
}

static float at(const struct md_tensor *input, size_t row, size_t column)
{
    float value;

    memcpy(&value, input->data + (row * COLUMNS + column) * sizeof value, sizeof value);
    return value;
}

/* y = f(x), element by element, with what is added to each. */
static bool each(const struct md_tensor *inputs, struct md_trial_result *out,
                 float (*more)(const struct md_tensor *input, size_t row, size_t column),
                 struct md_error *err)
{
    const size_t rows = rows_of(inputs);
    float *data = give(out, "y", rows, COLUMNS);

    if (!data) {
        return md_error_no_memory(err, "an output");
    }
    for (size_t i = 0; i < rows * COLUMNS; i++) {
        data[i] = at(inputs, i / COLUMNS, i % COLUMNS) + more(inputs, i / COLUMNS, i % COLUMNS);
    }
    return true;
}

#define MODEL(name, expression)                                                                 \
    static float name##_more(const struct md_tensor *input, size_t row, size_t column)          \
    {                                                                                           \
        (void)input, (void)row, (void)column;                                                   \
        return (float)(expression);                                                             \
    }                                                                                           \
    static bool name(const struct md_tensor *inputs, size_t count, struct md_trial_result *out, \
                     struct md_error *err)                                                      \
    {                                                                                           \
        (void)count;                                                                            \
        return each(inputs, out, name##_more, err);                                             \
    }

static double mean(const struct md_tensor *input, size_t column)
{
    double sum = 0;

    for (size_t i = 0; i < rows_of(input); i++) {
        sum += (double)at(input, i, column);
    }
    return sum / (double)rows_of(input);
}

MODEL(by_rows, 0)
MODEL(rounds_otherwise, rows_of(input) > 1 ? 3e-4 * (double)at(input, row, column) : 0)
MODEL(large_beside_small, column ? (rows_of(input) > 1 ? 1e-3 : 0) : 1e6)
MODEL(minus_mean, -mean(input, column))
MODEL(sums_up, row ? at(input, row - 1, column) : 0)
MODEL(a_little_off, rows_of(input) > 1 ? 1e-2 : 0)
MODEL(first_row_counts, row ? 0 : 1)
MODEL(knows_its_place, row == 1 ? 1 : 0)
MODEL(another_each_time, world.trial_count)
MODEL(says_the_same, 1 - (double)at(input, row, column))
MODEL(not_a_number, column == 2 ? NAN : 0)
MODEL(no_number_alone, rows_of(input) == 1 ? NAN : 0)
MODEL(boundless, column == 2 ? INFINITY : 0)
MODEL(boundless_alone, rows_of(input) == 1 ? INFINITY : 0)
MODEL(boundless_together, rows_of(input) > 1 ? INFINITY : 0)
MODEL(boundless_either_way, rows_of(input) > 1 ? INFINITY : -INFINITY)

static bool only_the_sum(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                         struct md_error *err)
{
    float *data = give(out, "y", 1, COLUMNS);

    (void)count;
    (void)err;
    for (size_t i = 0; i < rows_of(inputs) * COLUMNS; i++) {
        data[i % COLUMNS] += at(inputs, i / COLUMNS, i % COLUMNS);
    }
    return true;
}

static bool two_of_each(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                        struct md_error *err)
{
    (void)count;
    (void)err;
    (void)give(out, "y", rows_of(inputs) * 2, COLUMNS);
    return true;
}

static bool longer_together(const struct md_tensor *inputs, size_t count,
                            struct md_trial_result *out, struct md_error *err)
{
    float *data = give(out, "y", rows_of(inputs), rows_of(inputs) * COLUMNS);

    (void)count;
    (void)err;
    data[0] = at(inputs, 0, 0);
    return true;
}

static bool one_more_together(const struct md_tensor *inputs, size_t count,
                              struct md_trial_result *out, struct md_error *err)
{
    bool ok = by_rows(inputs, count, out, err);

    if (rows_of(inputs) > 1) {
        (void)give(out, "z", rows_of(inputs), 1);
    }
    return ok;
}

static bool breaks(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                   struct md_error *err)
{
    (void)inputs;
    (void)count;
    (void)out;
    return md_error_set(err, MD_REASON_BACKEND, "it broke");
}

static bool breaks_together(const struct md_tensor *inputs, size_t count,
                            struct md_trial_result *out, struct md_error *err)
{
    return rows_of(inputs) > 1 ? breaks(inputs, count, out, err) : by_rows(inputs, count, out, err);
}

static bool reads_all_rows_of_o(const struct md_tensor *inputs, size_t count,
                                struct md_trial_result *out, struct md_error *err)
{
    return count == 2 ? minus_mean(inputs, count, out, err) : by_rows(inputs, count, out, err);
}

#define ON    "on: 3 rows together get the answers that each gets alone; up to 32 rows"
#define OTHER "is another than alone"

static const struct {
    const char *name;
    fake_model run;
    const char *said; /* begins with "on", or is a part of it */
} cases[] = {
    {"by_rows", by_rows, ON},
    {"rounds_otherwise", rounds_otherwise, ON},
    {"large_beside_small", large_beside_small, ON},
    {"not_a_number", not_a_number, ON},
    {"boundless", boundless, ON},
    {"minus_mean", minus_mean, OTHER},
    {"sums_up", sums_up, OTHER},
    {"a_little_off", a_little_off, OTHER},
    {"first_row_counts", first_row_counts, OTHER},
    {"knows_its_place", knows_its_place, OTHER},
    {"no_number_alone", no_number_alone, OTHER},
    {"boundless_alone", boundless_alone, OTHER},
    {"boundless_together", boundless_together, OTHER},
    {"boundless_either_way", boundless_either_way, OTHER},
    {"another_each_time", another_each_time, "that comes again is another"},
    {"says_the_same", says_the_same, "different rows get the same answer, which proves nothing"},
    {"only_the_sum", only_the_sum, "output 'y' of 3 rows has the shape [1,4]"},
    {"two_of_each", two_of_each, "output 'y' of 1 rows has the shape [2,4]"},
    {"longer_together", longer_together, "output 'y' of 3 rows has the shape [3,12]"},
    {"one_more_together", one_more_together, "have other outputs than alone"},
    {"breaks", breaks, "it cannot be tried: it broke"},
    {"breaks_together", breaks_together, "it cannot be tried: it broke"},
};

static void expect_said(const char *name, const char *said)
{
    bool on = strncmp(said, "on", 2) == 0;

    if (!md_str_starts_with(batching(), on ? MD_STR("on: ") : MD_STR("off: ")) ||
        !strstr(batching().ptr, said)) {
        fail_msg("%s: '%s' instead of '%s'", name, batching().ptr, said);
    }
    assert_int_equal(batcher()->max_rows > 1, on);
    assert_int_equal(batcher()->max_requests, batcher()->max_rows);
    assert_true(log_has(batching().ptr));
}

static void test_probe_judges_models(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        build_begin("", x, 1, y, 1);
        world.run = cases[i].run;
        assert_true(md_mapping_make_scheduling(&world.build));
        assert_int_equal(batcher()->max_rows, MD_OPEN_BATCH_ROWS);
        assert_true(md_probe_run(&world.build));
        expect_said(cases[i].name, cases[i].said);
        build_end();
    }
}

static void test_probe_runs_one_instance_and_learns_of_single_rows(void **state)
{
    static const struct trial trials[] = {{0, 1, 1}, {0, 1, 1}, {0, 1, 1},
                                          {0, 1, 1}, {0, 0, 3}, {0, 0, 2}};

    (void)state;
    build_begin("max_batch_size: 8", x, 1, y, 1);
    world.run = by_rows;
    assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
    assert_int_equal(batcher()->max_rows, 8);
    assert_int_equal(world.trial_count, MD_COUNT_OF(trials));
    assert_memory_equal(world.trials, trials, sizeof trials);
    build_end();
}

static void test_probe_takes_fewer_rows_where_it_has_to(void **state)
{
    (void)state;
    build_begin("max_batch_size: 2", x, 1, y, 1);
    world.run = by_rows;
    assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
    assert_int_equal(world.trials[world.trial_count - 1].rows, 2);
    assert_int_equal(world.trials[world.trial_count - 2].rows, 2);
    assert_int_equal(batcher()->max_rows, 2);
    build_end();
    build_begin("", x, 1, y, 1);
    world.run = by_rows;
    world.trial_ns = 70 * (uint64_t)MD_NS_PER_MS; /* a slow one */
    assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
    assert_int_equal(world.trial_count, 6); /* two alone, together, one again, twice together */
    expect_said("slow", "on: 2 rows together");
    build_end();
}

static void test_probe_wants_a_gain(void **state)
{
    static const struct {
        uint64_t trial_us, row_us;
        const char *said;
    } table[] = {
        {0, 10000, "off: 2 rows together take 20.0 ms, alone 10.0 ms each"},
        {1000, 10000, "off: 2 rows together take 21.0 ms, alone 11.0 ms each"},
        {1500, 10000, "off: 3 rows together take 31.5 ms, alone 11.5 ms each"},
        {5000, 10000, "on: 3 rows together"},
        {0, 900, "on: 3 rows together"}, /* so short that it is not the rows that count */
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        build_begin("", x, 1, y, 1);
        world.run = by_rows;
        world.trial_ns = table[i].trial_us * MD_NS_PER_US;
        world.row_ns = table[i].row_us * MD_NS_PER_US;
        assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
        expect_said("gain", table[i].said);
        build_end();
    }
}

static void test_probe_tries_optional_inputs_too(void **state)
{
    (void)state;
    build_begin("", x, 2, y, 1);
    world.run = reads_all_rows_of_o;
    assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
    expect_said("optional", OTHER);
    build_end();
    build_begin("", x, 2, y, 1);
    world.run = by_rows;
    assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
    expect_said("optional", ON);
    assert_int_equal(world.trial_count, 12);
    build_end();
}

static const struct md_tensor_spec integers[] = {
    {.name = {"x", 1}, .dtype = MD_DTYPE_INT32, .rank = 2, .shape = any_rows}};

/* y[i] = x[i] as a float, but for what is added. */
static bool of_integers(const struct md_tensor *inputs, struct md_trial_result *out, float more)
{
    float *data = give(out, "y", rows_of(inputs), COLUMNS);

    for (size_t i = 0; i < rows_of(inputs) * COLUMNS; i++) {
        int32_t value;
        memcpy(&value, inputs[0].data + i * sizeof value, sizeof value);
        data[i] = (float)value + more;
    }
    return true;
}

static bool is_of_flags(const struct md_tensor *inputs)
{
    for (size_t i = 0; i < inputs[0].bytes; i++) {
        if (inputs[0].data[i] & ~1) {
            return false;
        }
    }
    return true;
}

static bool unsure_of_flags(const struct md_tensor *inputs, size_t count,
                            struct md_trial_result *out, struct md_error *err)
{
    (void)count;
    (void)err;
    return of_integers(inputs, out, is_of_flags(inputs) && rows_of(inputs) > 1 ? .1F : 0);
}

static bool unsure_and_small(const struct md_tensor *inputs, size_t count,
                             struct md_trial_result *out, struct md_error *err)
{
    return is_of_flags(inputs) ? unsure_of_flags(inputs, count, out, err)
                               : breaks(inputs, count, out, err);
}

static bool counts_rows(const struct md_tensor *inputs, size_t count, struct md_trial_result *out,
                        struct md_error *err)
{
    (void)count;
    (void)err;
    return of_integers(inputs, out, (float)rows_of(inputs));
}

static void test_probe_asks_models_of_integers_again(void **state)
{
    static const struct {
        fake_model run;
        const char *said;
    } rows[] = {{unsure_of_flags, ON}, {unsure_and_small, OTHER}, {counts_rows, OTHER}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        build_begin("", integers, 1, y, 1);
        world.run = rows[i].run;
        assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
        expect_said("integers", rows[i].said);
        build_end();
    }
}

static void test_probe_leaves_others_alone(void **state)
{
    static const struct md_tensor_spec strings[] = {
        {.name = {"x", 1}, .dtype = MD_DTYPE_BYTES, .rank = 2, .shape = any_rows}};
    static const struct md_tensor_spec two_rows[] = {
        {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = fixed}};
    static const struct md_tensor_spec any_rank[] = {
        {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = MD_RANK_ANY}};
    static const int64_t too_many[] = {-1, 100000000};
    static const struct md_tensor_spec large[] = {
        {.name = {"x", 1}, .dtype = MD_DTYPE_FP32, .rank = 2, .shape = too_many}};
    static const struct {
        const char *config;
        const struct md_tensor_spec *inputs;
        bool decoupled, no_batch, no_option;
        const char *said;
    } rows[] = {
        {"max_batch_size: 1", x, .said = "max_batch_size is 1"},
        {"", x, .decoupled = true, .said = "the model is decoupled"},
        {"", x, .no_batch = true, .said = ""},
        {"", two_rows, .said = "does not leave the first dimension of all tensors free"},
        {"", any_rank, .said = "does not leave the first dimension of all tensors free"},
        {"", strings, .said = "input 'x' is of strings, which cannot be made up"},
        {"", large, .said = "3 rows of input 'x' are too much to try"},
        {"parameters { key: 'modeld_batching' value { string_value: 'off: it was' } }", x,
         .said = "the configuration says so"},
        {"dynamic_batching { } max_batch_size: 4", x, .said = ""},
        {"", x, .no_option = true, .said = ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        build_begin(rows[i].config, rows[i].inputs, 1, y, 1);
        world.run = by_rows;
        world.version.target.decoupled = rows[i].decoupled;
        world.info.batchable = !rows[i].no_batch;
        world.options.auto_batching = !rows[i].no_option;
        assert_true(md_mapping_make_scheduling(&world.build) && md_probe_run(&world.build));
        assert_int_equal(world.trial_count, 0);
        if (!*rows[i].said) {
            assert_int_equal(batching().len, 0);
        } else if (!strstr(batching().ptr, rows[i].said)) {
            fail_msg("row %zu: '%s'", i, batching().ptr);
        }
        build_end();
    }
}

static void test_probe_fails_only_with_its_instance(void **state)
{
    (void)state;
    build_begin("", x, 1, y, 1);
    world.run = breaks;
    world.stuck = true;
    assert_true(md_mapping_make_scheduling(&world.build));
    assert_false(md_probe_run(&world.build));
    assert_int_equal(world.err.reason, MD_REASON_BACKEND);
    assert_non_null(world.kept.chunks); /* it may still read what it was given */
    build_end();
}

static void test_probe_out_of_memory(void **state)
{
    (void)state;
    for (long n = 0;; n++) {
        build_begin("", x, 2, y, 1);
        world.run = by_rows;
        assert_true(md_mapping_make_scheduling(&world.build));
        md_fault_arm(MD_FAULT_REGION, n);
        bool ok = md_probe_run(&world.build);
        bool hit = md_fault_disarm(MD_FAULT_REGION);
        assert_int_equal(ok, !hit);
        assert_true(ok || world.err.reason == MD_REASON_OUT_OF_MEMORY);
        build_end();
        if (!hit) {
            assert_true(n > 50);
            assert_int_equal(batcher()->max_rows, MD_OPEN_BATCH_ROWS);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_judges_models),
        cmocka_unit_test(test_probe_runs_one_instance_and_learns_of_single_rows),
        cmocka_unit_test(test_probe_takes_fewer_rows_where_it_has_to),
        cmocka_unit_test(test_probe_wants_a_gain),
        cmocka_unit_test(test_probe_tries_optional_inputs_too),
        cmocka_unit_test(test_probe_asks_models_of_integers_again),
        cmocka_unit_test(test_probe_leaves_others_alone),
        cmocka_unit_test(test_probe_fails_only_with_its_instance),
        cmocka_unit_test(test_probe_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
