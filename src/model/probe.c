/*
 * The rows that are run, and how their answers are compared.
 *
 * Integers, booleans and strings have to be the same. Sums of floats come in another order in a
 * larger batch, so a float may differ by a thousandth of itself, or by what is nothing beside the
 * largest number of its tensor. Half of them (FP16, BF16) may differ by more.
 */
#include "model/probe.h"

#include "base/clock.h"
#include "base/log.h"
#include "codec/number.h"
#include "infer/trial.h"
#include "model/synthetic.h"
#include "model/warm_up.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    ROWS = 3,
    ROWS_LEAST = 2,
    VARIABLE = 8, /* what a dimension becomes that may be any */
    INPUT_BYTES_MAX = 64 << 20,
    ENOUGH_MS = 100, /* of a slow model: no more rows then */
    SHORT_NS =
        1000000,       /* of a row: what comes with each execution counts more, batches save that */
    GAIN_PERCENT = 10, /* less is not worth the larger memory and the wait for the slowest */
    GAIN_RUNS = 2,
};

struct probe {
    struct md_mapping_build *build;
    struct md_instance *instance;
    struct md_arena arena;
    struct md_synthetic_rows rows;
    struct md_trial_result alone[ROWS];
    size_t count;      /* of them that have run */
    size_t used;       /* the same, after they are gone */
    bool differs;      /* two rows have had different answers */
    bool contradicts;  /* an answer was another */
    bool is_worthless; /* answers were the same, but nothing is gained */
    bool is_lost;      /* build->err says why */
    uint64_t begin_ns;
    uint64_t alone_ns, together_ns; /* fastest run of one row, of all that have run */
    char reason[512];
};

/* False, with the reason why there will be no batches. */
static bool give_up(struct probe *p, const char *format, ...) MD_PRINTF(2, 3);

static bool give_up(struct probe *p, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(p->reason, sizeof p->reason, format, args);
    va_end(args);
    return false;
}

static bool no_memory(struct probe *p)
{
    p->is_lost = true;
    return md_error_no_memory(p->build->err, "the probe of a model");
}

/* --- comparing -------------------- */

static double float_at(enum md_dtype dtype, const char *at)
{
    double wide;
    float single;
    uint16_t half;

    switch (dtype) {
    case MD_DTYPE_FP64:
        memcpy(&wide, at, sizeof wide);
        return wide;
    case MD_DTYPE_FP32:
        memcpy(&single, at, sizeof single);
        return (double)single;
    default:
        memcpy(&half, at, sizeof half);
        return (double)(dtype == MD_DTYPE_FP16 ? md_number_from_fp16(half)
                                               : md_number_from_bf16(half));
    }
}

static double largest(enum md_dtype dtype, const char *data, size_t count)
{
    double most = 0;

    for (size_t i = 0; i < count; i++) {
        double value = fabs(float_at(dtype, data + i * md_dtype_size(dtype)));
        if (isfinite(value) && value > most) {
            most = value;
        }
    }
    return most;
}

/* Position of the first element that is not the same, or `bytes`. */
static size_t compare_floats(enum md_dtype dtype, const char *a, const char *b, size_t bytes)
{
    const size_t size = md_dtype_size(dtype);
    const bool coarse = dtype == MD_DTYPE_FP16 || dtype == MD_DTYPE_BF16;
    const double relative = coarse ? 1e-2 : 1e-3;
    const double absolute = (coarse ? 1e-2 : 1e-5) * fmax(1, largest(dtype, a, bytes / size));

    for (size_t i = 0; i < bytes; i += size) {
        double x = float_at(dtype, a + i), y = float_at(dtype, b + i);
        bool same = (isnan(x) && isnan(y)) || x == y ||
                    (isfinite(x) && isfinite(y) &&
                     fabs(x - y) <= absolute + relative * fmax(fabs(x), fabs(y)));
        if (!same) {
            return i;
        }
    }
    return bytes;
}

/* Whether the data of a row is the same, whatever company it was in. */
static bool check_data(struct probe *p, const struct md_tensor *alone, const char *together,
                       const char *how)
{
    const struct md_str name = alone->name;

    if (!md_dtype_is_float(alone->dtype)) {
        p->contradicts = memcmp(alone->data, together, alone->bytes) != 0;
        return !p->contradicts ||
               give_up(p, "output '%.*s' of a row %s is another than alone", MD_STR_ARG(name), how);
    }
    size_t at = compare_floats(alone->dtype, alone->data, together, alone->bytes);
    p->contradicts = at < alone->bytes;
    return !p->contradicts ||
           give_up(p, "output '%.*s' of a row %s is another than alone (%g, alone %g)",
                   MD_STR_ARG(name), how, float_at(alone->dtype, together + at),
                   float_at(alone->dtype, alone->data + at));
}

static const struct md_tensor *find_output(const struct md_trial_result *result, struct md_str name)
{
    for (size_t i = 0; i < result->output_count; i++) {
        if (md_str_eq(result->outputs[i].name, name)) {
            return &result->outputs[i];
        }
    }
    return NULL;
}

static bool check_shape(struct probe *p, const struct md_tensor *output,
                        const struct md_tensor *like, size_t rows)
{
    bool same = output->dtype == like->dtype && output->rank == like->rank && output->rank > 0 &&
                output->shape[0] == (int64_t)rows;

    for (uint32_t i = 1; same && i < output->rank; i++) {
        same = output->shape[i] == like->shape[i];
    }
    if (!same) {
        struct md_bytes shape = {0};
        md_shape_print(output->shape, output->rank, &shape);
        (void)give_up(p, "output '%.*s' of %zu rows has the shape %.*s", MD_STR_ARG(output->name),
                      rows, MD_STR_ARG(md_bytes_view(&shape)));
        md_bytes_deinit(&shape);
    }
    return same;
}

/* Rows of these numbers have been answered together. */
static bool check_together(struct probe *p, const struct md_trial_result *together,
                           const size_t *numbers, size_t count, const char *how)
{
    const struct md_trial_result *first = &p->alone[numbers[0]];

    if (together->output_count != first->output_count) {
        return give_up(p, "rows %s have other outputs than alone", how);
    }
    for (size_t i = 0; i < together->output_count; i++) {
        const struct md_tensor *output = &together->outputs[i];
        size_t at = 0;
        for (size_t k = 0; k < count; k++) {
            const struct md_tensor *alone = find_output(&p->alone[numbers[k]], output->name);
            if (!alone) {
                return give_up(p, "rows %s have other outputs than alone", how);
            }
            if (!check_shape(p, output, alone, count) || !check_shape(p, alone, alone, 1)) {
                return false;
            }
            if (alone->bytes > output->bytes - at) {
                return give_up(p, "output '%.*s' of a row %s is another than alone",
                               MD_STR_ARG(output->name), how);
            }
            if (!check_data(p, alone, output->data + at, how)) {
                return false;
            }
            at += alone->bytes;
        }
        if (at != output->bytes) {
            return give_up(p, "output '%.*s' of rows %s is longer than alone",
                           MD_STR_ARG(output->name), how);
        }
    }
    return true;
}

static void note_difference(struct probe *p, const struct md_trial_result *a,
                            const struct md_trial_result *b)
{
    for (size_t i = 0; i < a->output_count && !p->differs; i++) {
        const struct md_tensor *x = &a->outputs[i], *y = find_output(b, x->name);
        p->differs = !y || y->bytes != x->bytes || memcmp(x->data, y->data, x->bytes) != 0;
    }
}

/* --- running -------------------- */

static bool attempt(struct probe *p, const struct md_tensor *inputs, bool learns,
                    struct md_trial_result *out)
{
    struct md_mapping_build *b = p->build;
    struct md_error err;

    if (!inputs) {
        return no_memory(p);
    }
    if (md_trial_run(b->options->device, &b->version->target, p->instance, inputs, p->rows.count,
                     learns, MD_TRIAL_PATIENCE_NS, out, &err)) {
        return true;
    }
    p->is_lost = true;
    if (err.reason == MD_REASON_OUT_OF_MEMORY) {
        *b->err = err;
        return false;
    }
    if (!md_warm_up_has_survived(b, p->instance)) {
        return false;
    }
    p->is_lost = false;
    return give_up(p, "it cannot be tried: %.400s", err.text);
}

/* One by one, until so many have run; a slow model's no more than it needs. */
static bool run_alone(struct probe *p, size_t most)
{
    for (; p->count < most; p->count++) {
        if (p->count >= ROWS_LEAST &&
            md_clock_monotonic_ns() - p->begin_ns > (uint64_t)ENOUGH_MS * MD_NS_PER_MS) {
            break;
        }
        if (!attempt(p, md_synthetic_rows_view(&p->rows, p->count, 1, &p->arena), true,
                     &p->alone[p->count])) {
            md_trial_result_deinit(&p->alone[p->count]);
            return false;
        }
        p->alone_ns = md_size_min(p->alone_ns, p->alone[p->count].executed_ns);
        if (p->count) {
            note_difference(p, &p->alone[0], &p->alone[p->count]);
        }
    }
    return true;
}

static bool run_again(struct probe *p)
{
    static const size_t first[] = {0};
    struct md_trial_result again = {.outputs = NULL};
    bool ok = attempt(p, md_synthetic_rows_view(&p->rows, 0, 1, &p->arena), true, &again) &&
              check_together(p, &again, first, 1, "that comes again");

    p->alone_ns = ok ? md_size_min(p->alone_ns, again.executed_ns) : 0;
    md_trial_result_deinit(&again);
    return ok;
}

static bool run_together(struct probe *p, const size_t *numbers, size_t count, const char *how)
{
    struct md_trial_result result = {.outputs = NULL};
    bool ok =
        attempt(p, md_synthetic_rows_gather(&p->rows, numbers, count, &p->arena), false, &result) &&
        check_together(p, &result, numbers, count, how);

    if (ok && count == p->count) {
        p->together_ns = md_size_min(p->together_ns, result.executed_ns);
    }
    md_trial_result_deinit(&result);
    return ok;
}

static bool gains(const struct probe *p, uint64_t percent)
{
    return p->alone_ns < SHORT_NS ||
           p->together_ns / p->count < p->alone_ns / 100 * (100 - percent);
}

/* All that have run alone go together, once more where no gain is seen, since the first run of a
 * size counts for little; whether it is worth something. */
static bool check_gain(struct probe *p, uint64_t percent)
{
    static const size_t in_order[ROWS] = {0, 1, 2};

    p->together_ns = UINT64_MAX;
    for (int i = 0; i < GAIN_RUNS && (i == 0 || !gains(p, percent)); i++) {
        if (!run_together(p, in_order, p->count, "with others")) {
            return false;
        }
    }
    p->is_worthless = !gains(p, percent);
    return !p->is_worthless ||
           give_up(p, "%zu rows together take %.1f ms, alone %.1f ms each", p->count,
                   (double)p->together_ns / MD_NS_PER_MS, (double)p->alone_ns / MD_NS_PER_MS);
}

/* Where batches are worth nothing two rows show it, and the start of the server waits for no more.
 */
static bool check_two(struct probe *p)
{
    return p->alone_ns < SHORT_NS || check_gain(p, GAIN_PERCENT / 2);
}

/* The last first, and of more than two not all. */
static bool run_backwards(struct probe *p)
{
    const size_t step = p->count > ROWS_LEAST ? 2 : 1;
    size_t backwards[ROWS] = {0}, count = 0;

    for (size_t i = p->count; i > 0; i -= md_size_min(step, i)) {
        backwards[count++] = i - 1;
    }
    return run_together(p, backwards, count, "with others before it");
}

static bool run_rows(struct probe *p, size_t most)
{
    p->begin_ns = md_clock_monotonic_ns();
    p->alone_ns = UINT64_MAX;
    bool ok = run_alone(p, ROWS_LEAST) && check_two(p) && run_alone(p, most) && run_again(p) &&
              check_gain(p, GAIN_PERCENT) && run_backwards(p);
    p->used = p->count;
    return ok &&
           (p->differs || give_up(p, "different rows get the same answer, which proves nothing"));
}

static bool make_rows(struct probe *p, size_t count, bool with_optional,
                      enum md_synthetic_integers integers)
{
    const struct md_synthetic_wish wish = {.rows = count,
                                           .variable = VARIABLE,
                                           .with_optional = with_optional,
                                           .integers = integers,
                                           .max_bytes = INPUT_BYTES_MAX};
    struct md_str input;

    md_arena_reset(&p->arena);
    switch (md_synthetic_rows_make(p->build, &wish, &p->arena, &p->rows, &input)) {
    case MD_SYNTHETIC_MADE:
        return true;
    case MD_SYNTHETIC_STRINGS:
        return give_up(p, "input '%.*s' is of strings, which cannot be made up", MD_STR_ARG(input));
    case MD_SYNTHETIC_UNKNOWN:
        return give_up(p, "the shape of input '%.*s' is not known", MD_STR_ARG(input));
    case MD_SYNTHETIC_TOO_LARGE:
        return give_up(p, "%zu rows of input '%.*s' are too much to try", count, MD_STR_ARG(input));
    default:
        return no_memory(p);
    }
}

static void forget_answers(struct probe *p)
{
    while (p->count) {
        md_trial_result_deinit(&p->alone[--p->count]);
    }
}

static bool has_optional(const struct md_target *target)
{
    return target->required_input_count < target->input_count;
}

/* Without the inputs that may be left out, and with all of them. */
static bool prove(struct probe *p, enum md_synthetic_integers integers)
{
    const struct md_target *target = &p->build->version->target;
    const size_t count = md_size_min(ROWS, p->build->batch_rows);
    bool ok = true;

    for (int all = target->required_input_count == 0; ok && all <= has_optional(target); all++) {
        p->differs = p->contradicts = false;
        ok = make_rows(p, count, all, integers) && run_rows(p, count);
        forget_answers(p);
    }
    return ok;
}

static bool has_integers(const struct md_target *target)
{
    for (size_t i = 0; i < target->input_count; i++) {
        enum md_dtype dtype = target->inputs[i].dtype;
        if (!md_dtype_is_float(dtype) && dtype != MD_DTYPE_BOOL && dtype != MD_DTYPE_BYTES) {
            return true;
        }
    }
    return false;
}

/* A model that is made for other numbers than flags may answer to them with what its rounding
 * makes of nothing, and that is another in each batch. Rows that have to do with each other show
 * with all numbers. */
static bool prove_in_other_words(struct probe *p)
{
    char reason[sizeof p->reason];

    if (p->is_lost || !p->contradicts || !has_integers(&p->build->version->target)) {
        return false;
    }
    memcpy(reason, p->reason, sizeof reason);
    bool proved = prove(p, MD_SYNTHETIC_BYTES);
    if (!p->is_worthless) {
        memcpy(p->reason, reason, sizeof reason);
    }
    return proved;
}

static bool publish(struct probe *p, bool proved)
{
    struct md_mapping_build *b = p->build;
    char text[600];

    if (proved) {
        (void)snprintf(text, sizeof text,
                       "on: %zu rows together get the answers that each gets alone; up to %u rows",
                       p->used, b->batch_rows);
    } else {
        md_mapping_set_batch_rows(b, 1);
        b->batching = MD_BATCHING_OFF;
        (void)snprintf(text, sizeof text, "off: %s", p->reason);
    }
    md_log(MD_LOG_INFO, "model '%s': batching is %s", b->version->model->name.ptr, text);
    return md_mapping_say_batching(b, text);
}

bool md_probe_run(struct md_mapping_build *build)
{
    struct probe p = {.build = build, .instance = build->mapping->instances[0]};

    if (build->batching != MD_BATCHING_PROBE) {
        return true;
    }
    md_arena_init(&p.arena, 0);
    const uint64_t begin_ns = md_clock_monotonic_ns();
    bool proved = prove(&p, MD_SYNTHETIC_FLAGS) || prove_in_other_words(&p);
    build->tried_ns = md_clock_monotonic_ns() - begin_ns;
    bool ok = !p.is_lost && publish(&p, proved);
    md_warm_up_release_inputs(build, &p.arena);
    return ok;
}
