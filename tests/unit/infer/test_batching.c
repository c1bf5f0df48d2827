/*
 * Batches: who runs with whom, whose rows are whose, what becomes of the others when one fails, and
 * what is counted.
 */
#include "unit/infer/fake_rows.h"

#include "base/fault.h"
#include "infer/device_internal.h"

enum { MANY = 64 };

static struct fake_target one;
static struct row_call calls[MANY];

static void open_world(struct rows_mode mode, size_t instances, uint32_t max_rows)
{
    world_open(2, 0);
    rows_reset(mode);
    rows_init(&one, instances, max_rows);
}

static void close_world(void)
{
    rows_remove(&one);
    world_close();
}

/* The instance is busy with a request of its own, so that what comes then waits. */
static void occupy(struct row_call *call)
{
    unsigned before = rows_count();

    row_submit(call, &one, 1, 1000);
    wait_until(rows_count() == before + 1);
}

/* --- gathering -------------------- */

static void test_batch_gives_each_its_own_rows(void **state)
{
    static const int64_t counts[] = {1, 2, 1, 3};
    static const uint32_t memories[] = {MODELD_OUTPUT_INPUT, MODELD_OUTPUT_COPY};

    (void)state;
    for (size_t m = 0; m < MD_COUNT_OF(memories); m++) {
        open_world((struct rows_mode){.blocks = true, .memory = memories[m]}, 1, 8);
        target_attach(&one);
        occupy(&calls[0]);
        for (size_t i = 0; i < MD_COUNT_OF(counts); i++) {
            row_submit(&calls[1 + i], &one, counts[i], (float)(10 * i));
        }
        assert_int_equal(totals_of(&one).pending, MD_COUNT_OF(counts));
        assert_int_equal(totals_of(&one).queue_bytes, 7 * WIDTH * sizeof(float));
        gate_set(true);
        for (size_t i = 0; i <= MD_COUNT_OF(counts); i++) {
            row_expect(&calls[i], MD_REASON_NONE);
        }
        assert_int_equal(rows.count, 2);
        assert_int_equal(rows.runs[1].requests, MD_COUNT_OF(counts));
        assert_int_equal(rows.runs[1].rows, 7);
        assert_int_equal(totals_of(&one).pending + totals_of(&one).queue_bytes, 0);
        close_world();
    }
}

static void test_batch_needs_the_same_shape(void **state)
{
    (void)state;
    open_world((struct rows_mode){.blocks = true}, 1, 8);
    target_attach(&one);
    occupy(&calls[0]);
    for (size_t i = 1; i <= 4; i++) {
        row_make(&calls[i], &one, 2, (float)(10 * i));
        if (i == 2 || i == 4) { /* the same numbers, as more rows of less */
            calls[i].shape[0] = 6;
            calls[i].shape[1] = 1;
            calls[i].request.rows = 6;
        }
        md_infer_submit(&calls[i].request);
    }
    gate_set(true);
    for (size_t i = 0; i <= 4; i++) {
        row_expect(&calls[i], MD_REASON_NONE);
    }
    assert_int_equal(rows.runs[1].requests, 2); /* 1 and 3 */
    assert_int_equal(rows.runs[1].rows, 4);
    assert_true(rows.count <= 4); /* 2 and 4 together have more than 8 rows */
    close_world();
}

static void test_batch_agreement_is_compared(void **state)
{
    static const int64_t plain[] = {1, 3}, wide[] = {1, 4}, more[] = {2, 3}, deep[] = {1, 3, 1};
    static const struct md_str y = {"y", 1}, z = {"z", 1};
    static const struct {
        const char *name;
        enum md_dtype dtype;
        uint32_t rank;
        const int64_t *shape;
        uint32_t rows;
        const struct md_str *outputs;
        size_t output_count, input_count;
        bool agrees;
    } cases[] = {
        {"x", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 1, true},
        {"x", MD_DTYPE_FP32, 2, more, 2, &y, 1, 1, true},
        {"x", MD_DTYPE_FP32, 2, more, 1, &y, 1, 1, false}, /* not its rows */
        {"w", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_INT32, 2, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 2, wide, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 3, deep, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 1, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 0, plain, 1, &y, 1, 1, false},
        {"x", MD_DTYPE_FP32, 2, plain, 1, &z, 1, 1, false},
        {"x", MD_DTYPE_FP32, 2, plain, 1, NULL, 0, 1, false},
        {"x", MD_DTYPE_FP32, 2, plain, 1, &y, 1, 0, false},
    };
    struct md_tensor first_input = {
        .name = MD_STR("x"), .dtype = MD_DTYPE_FP32, .rank = 2, .shape = plain};
    static struct md_request first, second;

    (void)state;
    memset(&first, 0, sizeof first);
    first.inputs = &first_input;
    first.input_count = first.output_count = 1;
    first.outputs = &y;
    first.waiter.rows = 1;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_tensor input = {.name = md_str_of(cases[i].name),
                                  .dtype = cases[i].dtype,
                                  .rank = cases[i].rank,
                                  .shape = cases[i].shape};
        memset(&second, 0, sizeof second);
        second.inputs = &input;
        second.input_count = cases[i].input_count;
        second.outputs = cases[i].outputs;
        second.output_count = cases[i].output_count;
        second.waiter.rows = cases[i].rows;
        assert_int_equal(md_gather_agrees(&first, &second), cases[i].agrees);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_gives_each_its_own_rows),
        cmocka_unit_test(test_batch_needs_the_same_shape),
        cmocka_unit_test(test_batch_agreement_is_compared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
