/*
 * On top of fake_backend.h: a backend that answers each row of a batch with itself, and requests
 * that have rows.
 *
 * A row is WIDTH numbers. A negative number poisons its batch: all of its requests fail.
 */
#ifndef TESTS_UNIT_INFER_FAKE_ROWS_H
#define TESTS_UNIT_INFER_FAKE_ROWS_H

#include "unit/infer/fake_backend.h"

#include "infer/statistics.h"

enum { WIDTH = 3, ROWS_MAX = 8, RUNS_KEPT = 4096, KEPT_MAX = 64 };

/* How outputs are handed over, and when. */
struct rows_mode {
    bool blocks;      /* until the gate is open */
    bool keeps;       /* asynchronous: `kept` is left to rows_finish_kept */
    unsigned busy_us; /* each run */
    uint32_t memory;  /* MODELD_OUTPUT_INPUT or _COPY */
    bool fails_joint; /* batches of several fail, whatever is in them */
    bool forgets;     /* the last request of a batch is not finished */
};

/* What it was given, in order; by one executor at a time, or under the mutex. */
static struct {
    pthread_mutex_t mutex;
    struct rows_mode mode;
    unsigned count;
    struct {
        uint32_t requests, rows, padding;
        const void *handle;
        float first; /* the first number */
        uint64_t spent_ns;
    } runs[RUNS_KEPT];
    modeld_request kept[KEPT_MAX];
    unsigned kept_count;
    struct modeld_batch kept_batch;
    atomic_int inside, cancelled;
} rows = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static inline void rows_answer(const struct modeld_batch *batch, uint32_t i, int64_t first_row)
{
    const struct modeld_tensor *x = batch->inputs;
    const int64_t shape[2] = {batch->rows[i], x->shape[1]};
    const size_t row_bytes = (size_t)x->shape[1] * sizeof(float);
    const struct modeld_output y = {
        .tensor = {.name = "y",
                   .dtype = MODELD_DTYPE_FP32,
                   .rank = 2,
                   .shape = shape,
                   .data = (const char *)x->data + (size_t)first_row * row_bytes,
                   .bytes = (size_t)shape[0] * row_bytes},
        .memory = rows.mode.memory,
    };
    const struct modeld_response response = {.struct_size = sizeof response,
                                             .output_count = 1,
                                             .output_stride = sizeof y,
                                             .outputs = &y};
    const modeld_request request = batch->requests[i];
    int32_t code = md_request_respond(request, &response);
    (void)md_request_finish(request, code == MODELD_CANCELLED ? code : MODELD_OK, NULL,
                            MODELD_FINISH_FINAL);
}

static inline bool rows_are_poisoned(const struct modeld_batch *batch)
{
    const float *values = batch->inputs->data;

    for (size_t i = 0; i < batch->inputs->bytes / sizeof *values; i++) {
        if (values[i] < 0) {
            return true;
        }
    }
    return rows.mode.fails_joint && batch->request_count > 1;
}

static inline void rows_answer_all(const struct modeld_batch *batch)
{
    const bool poisoned = rows_are_poisoned(batch);
    const uint32_t count = batch->request_count - rows.mode.forgets;
    int64_t first_row = 0;

    for (uint32_t i = 0; i < count; i++) {
        int64_t own = batch->rows[i];
        if (poisoned) {
            (void)md_request_finish(batch->requests[i], MODELD_INTERNAL, "poisoned",
                                    MODELD_FINISH_FINAL);
        } else {
            rows_answer(batch, i, first_row);
        }
        first_row += own;
    }
}

static void rows_execute(void *handle, const struct modeld_batch *batch)
{
    const uint32_t total =
        (uint32_t)batch->inputs->shape[0]; /* padding included; the test's own are never 0 */
    uint32_t own = batch->padding_rows;

    atomic_fetch_add(&rows.inside, 1);
    for (uint32_t i = 0; i < batch->request_count; i++) {
        own += (uint32_t)batch->rows[i];
    }
    assert_int_equal(own, total);
    assert_int_equal(batch->inputs->bytes,
                     total * (uint64_t)batch->inputs->shape[1] * sizeof(float));
    assert_int_equal((uintptr_t)batch->inputs->data % sizeof(float), 0);
    const uint64_t begin_ns = md_clock_monotonic_ns();
    pthread_mutex_lock(&rows.mutex);
    const unsigned run = rows.count;
    if (run < RUNS_KEPT) {
        rows.runs[rows.count].requests = batch->request_count;
        rows.runs[rows.count].rows = total - batch->padding_rows;
        rows.runs[rows.count].padding = batch->padding_rows;
        rows.runs[rows.count].handle = handle;
        rows.runs[rows.count].first = *(const float *)batch->inputs->data;
        rows.count++;
    }
    if (rows.mode.keeps) {
        rows.kept_batch = *batch;
        memcpy(rows.kept, batch->requests, batch->request_count * sizeof *rows.kept);
        rows.kept_count = batch->request_count;
    }
    pthread_mutex_unlock(&rows.mutex);
    if (rows.mode.keeps) {
        return;
    }
    if (rows.mode.blocks) {
        gate_pass();
    }
    const uint64_t until_ns = begin_ns + rows.mode.busy_us * (uint64_t)MD_NS_PER_US;
    while (rows.mode.busy_us && md_clock_monotonic_ns() < until_ns) {}
    if (run < RUNS_KEPT) {
        rows.runs[run].spent_ns = md_clock_monotonic_ns() - begin_ns;
    }
    atomic_fetch_sub(&rows.inside, 1);
    rows_answer_all(batch);
}

static inline void rows_cancel(void *handle, modeld_request request)
{
    (void)handle;
    (void)request;
    atomic_fetch_add(&rows.cancelled, 1);
}

static struct modeld_backend_api rows_api = {
    .struct_size = sizeof rows_api,
    .flags = MODELD_BACKEND_RETRY_SAFE,
    .execute = rows_execute,
    .cancel = rows_cancel,
};

static inline unsigned rows_count(void)
{
    pthread_mutex_lock(&rows.mutex);
    unsigned count = rows.count;
    pthread_mutex_unlock(&rows.mutex);
    return count;
}

static inline void rows_reset(struct rows_mode mode)
{
    pthread_mutex_lock(&rows.mutex);
    rows.mode = mode;
    rows.count = rows.kept_count = 0;
    pthread_mutex_unlock(&rows.mutex);
    atomic_store(&rows.inside, 0);
    atomic_store(&rows.cancelled, 0);
}

/* --- targets -------------------- */

/* Batches of up to max_rows; more is the test's to configure, before rows_attach. */
static inline void rows_init(struct fake_target *t, size_t instances, uint32_t max_rows)
{
    target_init(t, instances, FAKE_ANSWERS);
    t->target.scheduler.batcher.config.max_rows = max_rows;
    t->target.scheduler.batcher.config.max_requests = max_rows;
    t->target.max_batch_size = ROWS_MAX;
    for (size_t i = 0; i < instances; i++) {
        struct md_error err;
        t->fakes[i].instance.api = &rows_api;
        assert_true(md_instance_reserve(&t->fakes[i].instance, max_rows ? max_rows : 1, &err));
    }
}

static inline void rows_free(struct fake_target *t)
{
    md_target_deinit(&t->target);
    for (size_t i = 0; i < t->count; i++) {
        md_instance_deinit(&t->fakes[i].instance);
    }
}

static inline void rows_remove(struct fake_target *t)
{
    assert_true(md_device_detach(world.device, &t->target));
    rows_free(t);
}

/* --- requests -------------------- */

struct row_call {
    struct md_request request; /* first, as in struct call */
    struct md_arena arena;
    struct md_tensor input;
    int64_t shape[2];
    float values[ROWS_MAX * 2 * WIDTH];
    float answer[ROWS_MAX * 2 * WIDTH];
    size_t answer_bytes;
    int64_t answer_rows;
    unsigned responses, ends, lates;
    enum md_reason reason, late_reason;
    enum md_code code;
    char text[128];
};

static void row_on_response(struct md_request *request, struct md_response *response)
{
    struct row_call *call = request->dialect;

    call->responses++;
    if (response->output_count == 1) {
        call->answer_bytes = response->outputs[0].bytes;
        call->answer_rows = response->outputs[0].shape[0];
        assert_true(call->answer_bytes <= sizeof call->answer);
        memcpy(call->answer, response->outputs[0].data, call->answer_bytes);
    }
}

static void row_on_end(struct md_request *request, const struct md_error *error)
{
    struct row_call *call = request->dialect;

    call->ends++;
    call->reason = error ? error->reason : MD_REASON_NONE;
    call->code = error ? error->code : MD_CODE_OK;
    if (error) {
        strncpy(call->text, error->text, sizeof call->text - 1);
    }
}

static void row_on_late(struct md_request *request, const struct md_error *error)
{
    struct row_call *call = request->dialect;

    assert_int_equal(call->ends, 0);
    call->lates++;
    call->late_reason = error->reason;
}

static const struct md_responder row_responder = {
    .response = row_on_response, .end = row_on_end, .late = row_on_late};
static const struct md_responder patient_responder = {.response = row_on_response,
                                                      .end = row_on_end};

/* Its numbers count up from `first`. */
static inline void row_make(struct row_call *call, struct fake_target *t, int64_t count,
                            float first)
{
    memset(call, 0, sizeof *call);
    md_request_init(&call->request, &t->target, world.loop, &call->arena, &row_responder, call);
    call->shape[0] = count;
    call->shape[1] = WIDTH;
    for (int64_t i = 0; i < count * WIDTH; i++) {
        call->values[i] = first + (float)i;
    }
    call->input = (struct md_tensor){.name = MD_STR("x"),
                                     .dtype = MD_DTYPE_FP32,
                                     .rank = 2,
                                     .shape = call->shape,
                                     .data = (const char *)call->values,
                                     .bytes = (size_t)count * WIDTH * sizeof(float)};
    call->request.inputs = &call->input;
    call->request.input_count = 1;
    call->request.rows = count;
    call->request.begin_ns = md_clock_monotonic_ns();
}

static inline void row_submit(struct row_call *call, struct fake_target *t, int64_t count,
                              float first)
{
    row_make(call, t, count, first);
    md_infer_submit(&call->request);
}

/* It has ended so; with success, it got its own rows back. */
static inline void row_expect(struct row_call *call, enum md_reason reason)
{
    wait_until(call->ends);
    assert_int_equal(call->ends, 1);
    if (call->reason != reason) {
        fail_msg("%s: %s", md_reason_name(call->reason), call->text);
    }
    assert_int_equal(call->responses, reason == MD_REASON_NONE);
    if (reason == MD_REASON_NONE) {
        assert_int_equal(call->answer_rows, call->shape[0]);
        assert_int_equal(call->answer_bytes, call->input.bytes);
        assert_memory_equal(call->answer, call->values, call->input.bytes);
    }
    md_arena_deinit(&call->arena);
}

static inline struct md_target_totals totals_of(const struct fake_target *t)
{
    struct md_target_totals totals;

    md_target_sum(&t->target, &totals);
    return totals;
}

/* What the instance has learned of that many rows; false: nothing. */
static inline bool target_learned(struct md_target *target, size_t instance, uint32_t size,
                                  uint64_t *mean_ns, uint64_t *high_ns, uint32_t *count)
{
    struct md_learned_time time;

    if (!md_target_learned(target, instance, &time) || !time.sizes[size].count) {
        return false;
    }
    *mean_ns = md_learned_time_mean(&time, size);
    *high_ns = md_learned_time_high(&time, size);
    *count = time.sizes[size].count;
    return true;
}

#endif
