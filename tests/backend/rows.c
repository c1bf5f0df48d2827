/*
 * A backend whose batches can be watched and spoiled, for the tests of scheduling.
 *
 * Input x (FP32, [rows, n >= 3]): each row is [value, milliseconds, what]. A batch takes as long as
 * its slowest row, and does not end early for those who have gone. Outputs: y is x; a row of turn
 * (INT32, [rows, 3]) is the number of the batch in its model, the place of the request in the
 * batch, and the rows of the batch with its padding.
 *
 * what: see enum what. Parameters of a model: `until`, a file: executions that hang end when it
 * appears; `mixes`: y is x + the rows of the batch, so that joint answers are wrong; `same`: turn
 * is zeros, so that nothing tells joint answers from others; `row_ms`: each row takes that long,
 * too.
 *
 * Built twice: rows, and rows_retried, which says that a failed batch may run again.
 */
#include <errno.h>
#include <math.h>
#include <modeld/backend.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum what {
    WHAT_ANSWER,
    WHAT_FAIL,        /* this request alone */
    WHAT_FAIL_BATCH,  /* with all its neighbours */
    WHAT_POISON,      /* all of a batch of several; alone it is answered */
    WHAT_HANG,        /* the batch hangs, whoever gives it up */
    WHAT_YIELD,       /* the batch ends early once nobody waits for this request */
    WHAT_FORGET,      /* the request is never finished */
    WHAT_ANSWER_FAIL, /* answered, then failed, as the whole batch */
};

enum { REQUESTS_MAX = 4096, COLUMNS_MIN = 3, MS_MAX = 60000 };

static const struct modeld_host_api *host;

struct model {
    char until[512];
    int mixes, same;
    long row_ms;
    atomic_int batches;
    struct modeld_tensor_spec input, outputs[2];
    struct modeld_model_info info;
};

/* One request of the batch that runs. */
struct part {
    const float *x;
    int64_t rows;
    int what; /* the largest of its rows */
};

static void sleep_ms(long ms)
{
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {}
}

static long milliseconds(float value)
{
    return value > 0 && value < MS_MAX ? lrintf(value) : 0; /* anything else is warm-up's */
}

/* Whatever data a warm-up brings. */
static int what_of(float value)
{
    return value >= WHAT_ANSWER && value <= WHAT_ANSWER_FAIL ? (int)value : WHAT_ANSWER;
}

/* ms: of the slowest row. Ends early when the request that yields has been given up. */
static void work(long ms, modeld_request yields)
{
    for (long spent = 0; yields && spent < ms; spent++) {
        if (host->is_cancelled(yields)) {
            return;
        }
        sleep_ms(1);
    }
    if (!yields) {
        sleep_ms(ms);
    }
}

static void hang(const struct model *model)
{
    while (!*model->until || access(model->until, F_OK) != 0) {
        sleep_ms(2);
    }
}

static int is_wanted(const struct modeld_batch *batch, const char *name)
{
    for (uint32_t i = 0; i < batch->output_count; i++) {
        if (!strcmp(batch->output_names[i], name)) {
            return 1;
        }
    }
    return batch->output_count == 0;
}

static void answer(const struct model *model, const struct modeld_batch *batch, uint32_t place,
                   const struct part *part, const int32_t turn[3])
{
    const int64_t columns = batch->inputs->shape[1];
    const int64_t y_shape[2] = {part->rows, columns}, turn_shape[2] = {part->rows, 3};
    const size_t values = (size_t)(part->rows * columns);
    int32_t *turns = malloc((size_t)part->rows * 3 * sizeof *turns);
    float *mixed = malloc(values * sizeof *mixed);

    if (!turns || !mixed) {
        abort();
    }
    for (int64_t i = 0; i < part->rows; i++) {
        for (int j = 0; j < 3; j++) {
            turns[3 * i + j] = model->same ? 0 : turn[j];
        }
    }
    for (size_t i = 0; i < values; i++) {
        mixed[i] = part->x[i] + (float)turn[2];
    }
    const struct modeld_output outputs[2] = {
        {.tensor = {.name = "y",
                    .dtype = MODELD_DTYPE_FP32,
                    .rank = 2,
                    .shape = y_shape,
                    .data = model->mixes ? mixed : part->x,
                    .bytes = values * sizeof(float)},
         .memory = model->mixes ? MODELD_OUTPUT_COPY : MODELD_OUTPUT_INPUT},
        {.tensor = {.name = "turn",
                    .dtype = MODELD_DTYPE_INT32,
                    .rank = 2,
                    .shape = turn_shape,
                    .data = turns,
                    .bytes = (uint64_t)part->rows * 3 * sizeof *turns},
         .memory = MODELD_OUTPUT_COPY},
    };
    const int y_wanted = is_wanted(batch, "y");
    const struct modeld_response response = {.struct_size = sizeof response,
                                             .output_count =
                                                 (uint32_t)(y_wanted + is_wanted(batch, "turn")),
                                             .output_stride = sizeof outputs[0],
                                             .outputs = outputs + !y_wanted};
    host->respond(batch->requests[place], &response);
    free(turns);
    free(mixed);
}

/* Cuts the batch into its requests; returns what its slowest row takes. */
static long cut(const struct modeld_batch *batch, struct part *parts, int64_t columns)
{
    const float *x = batch->inputs->data;
    long slowest = 0;

    for (uint32_t i = 0; i < batch->request_count; i++) {
        parts[i] = (struct part){.x = x, .rows = batch->rows[i]};
        for (int64_t row = 0; row < batch->rows[i]; row++, x += columns) {
            const long ms = milliseconds(x[1]);
            const int what = what_of(x[2]);
            slowest = ms > slowest ? ms : slowest;
            parts[i].what = what > parts[i].what ? what : parts[i].what;
        }
    }
    return slowest;
}

static void finish_all(const struct modeld_batch *batch, const char *text)
{
    for (uint32_t i = 0; i < batch->request_count; i++) {
        host->finish(batch->requests[i], MODELD_INTERNAL, text, MODELD_FINISH_FINAL);
    }
}

static void execute(void *instance, const struct modeld_batch *batch)
{
    static _Thread_local struct part parts[REQUESTS_MAX];
    struct model *model = instance;
    const int64_t rows = batch->inputs->shape[0], columns = batch->inputs->shape[1];
    const int32_t number = atomic_fetch_add(&model->batches, 1);
    modeld_request yields = 0;
    int worst = WHAT_ANSWER;

    if (batch->request_count > REQUESTS_MAX || columns < COLUMNS_MIN) {
        finish_all(batch, "x has at least three columns");
        return;
    }
    const long ms = cut(batch, parts, columns) + model->row_ms * (long)rows;
    for (uint32_t i = 0; i < batch->request_count; i++) {
        const int what = parts[i].what;
        yields = what == WHAT_YIELD ? batch->requests[i] : yields;
        if (what == WHAT_HANG) {
            hang(model);
        }
        if (what == WHAT_FAIL_BATCH || (what == WHAT_POISON && batch->request_count > 1) ||
            what == WHAT_ANSWER_FAIL) {
            worst = what;
        }
    }
    work(ms, yields);
    for (uint32_t i = 0; i < batch->request_count && worst != WHAT_FAIL_BATCH; i++) {
        const int32_t turn[3] = {number, (int32_t)i, (int32_t)rows};
        if (worst != WHAT_POISON && parts[i].what != WHAT_FAIL && parts[i].what != WHAT_FORGET) {
            answer(model, batch, i, &parts[i], turn);
        }
        if (worst == WHAT_ANSWER && parts[i].what != WHAT_FORGET) {
            const int failed = parts[i].what == WHAT_FAIL;
            host->finish(batch->requests[i], failed ? MODELD_INTERNAL : MODELD_OK,
                         failed ? "the row failed" : NULL, MODELD_FINISH_FINAL);
        }
    }
    if (worst != WHAT_ANSWER) {
        finish_all(batch, "the batch failed");
    }
}

/* --- loading -------------------- */

static int32_t backend_create(const struct modeld_backend_args *args, void **backend,
                              struct modeld_text *error)
{
    (void)args;
    (void)error;
    *backend = NULL;
    return MODELD_OK;
}

static void backend_destroy(void *backend)
{
    (void)backend;
}

static void describe(struct model *m)
{
    static const int64_t free_shape[] = {-1, -1}, turn_shape[] = {-1, 3};

    m->input = (struct modeld_tensor_spec){
        .name = "x", .dtype = MODELD_DTYPE_FP32, .rank = 2, .shape = free_shape};
    m->outputs[0] = m->outputs[1] = m->input;
    m->outputs[0].name = "y";
    m->outputs[1].name = "turn";
    m->outputs[1].dtype = MODELD_DTYPE_INT32;
    m->outputs[1].shape = turn_shape;
    m->info = (struct modeld_model_info){.struct_size = sizeof m->info,
                                         .spec_stride = sizeof m->input,
                                         .input_count = 1,
                                         .output_count = 2,
                                         .inputs = &m->input,
                                         .outputs = m->outputs,
                                         .batchable = 1,
                                         .may_block = 1};
}

static int32_t model_create(void *backend, const struct modeld_model_args *args, void **created,
                            struct modeld_text *error)
{
    struct model *model = calloc(1, sizeof *model);

    (void)backend;
    (void)error;
    if (!model) {
        return MODELD_RESOURCE_EXHAUSTED;
    }
    for (uint32_t i = 0; i < args->parameter_count; i++) {
        const struct modeld_option *parameter = &args->parameters[i];
        if (!strcmp(parameter->key, "until")) {
            snprintf(model->until, sizeof model->until, "%s", parameter->value);
        } else if (!strcmp(parameter->key, "mixes")) {
            model->mixes = 1;
        } else if (!strcmp(parameter->key, "same")) {
            model->same = 1;
        } else if (!strcmp(parameter->key, "row_ms")) {
            model->row_ms = strtol(parameter->value, NULL, 10);
        }
    }
    describe(model);
    *created = model;
    return MODELD_OK;
}

static const struct modeld_model_info *model_info(void *model)
{
    return &((struct model *)model)->info;
}

static void model_destroy(void *model)
{
    free(model);
}

static int32_t instance_create(void *model, const struct modeld_instance_args *args,
                               void **instance, struct modeld_text *error)
{
    (void)args;
    (void)error;
    *instance = model;
    return MODELD_OK;
}

static void instance_destroy(void *instance)
{
    (void)instance;
}

const struct modeld_backend_api *modeld_backend_entry(const struct modeld_host_api *host_api)
{
    static const struct modeld_backend_api api = {
        .struct_size = sizeof api,
        .abi_major = MODELD_ABI_MAJOR,
        .abi_minor = MODELD_ABI_MINOR,
        .name = ROWS_NAME,
        .version = "1",
        .flags = MODELD_BACKEND_PARALLEL_LOAD | ROWS_FLAGS,
        .backend_create = backend_create,
        .backend_destroy = backend_destroy,
        .model_create = model_create,
        .model_info = model_info,
        .model_destroy = model_destroy,
        .instance_create = instance_create,
        .instance_destroy = instance_destroy,
        .execute = execute,
    };
    host = host_api;
    return &api;
}
