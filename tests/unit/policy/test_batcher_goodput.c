/*
 * policy/batcher under load: simulated instances on a virtual clock, requests that come at random
 * and want their answer within a deadline. What counts is goodput, answers in time: it must not
 * fall when far more comes than can be done, and nearly all that is started must be in time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/batcher.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAITERS = 8192, INSTANCES_MAX = 4, MS = 1000000, S = 1000 * MS };

struct model {
    const char *name;
    uint64_t base_ns, row_ns; /* a batch takes base + rows * row */
    double noise;             /* standard deviation of that */
    uint32_t max_rows, instances;
    uint64_t deadline_ns[2]; /* of requests, by turns at random */
    uint64_t other_ns;       /* what others take of the device between two batches */
    double kept;             /* part of the peak that is to be kept */
};

struct outcome {
    double offered, goodput; /* a second */
    double late;             /* part of the answered */
    double mean_rows;
};

struct simulation {
    const struct model *model;
    struct md_batcher batcher;
    struct md_learned_time time;
    struct md_waiter waiters[WAITERS];
    struct md_waiter *idle; /* linked by next */
    uint64_t free_ns[INSTANCES_MAX];
    struct md_batch_choice running[INSTANCES_MAX];
    uint64_t begun_ns[INSTANCES_MAX];
    uint64_t now_ns, seed;
    double stretch;
    uint64_t picked_ns; /* when the last batch of a backlog was picked; 0: there was none */
    uint64_t answered, in_time, offered, batches, rows;
};

static double uniform(struct simulation *sim)
{
    sim->seed = sim->seed * 6364136223846793005U + 1442695040888963407U;
    return ((double)(sim->seed >> 11) + 0.5) / 9007199254740992.0;
}

static uint64_t exponential(struct simulation *sim, double mean)
{
    return (uint64_t)(-log(uniform(sim)) * mean) + 1;
}

static uint64_t batch_time(struct simulation *sim, uint32_t rows)
{
    const struct model *model = sim->model;
    double normal = -6;

    for (int i = 0; i < 12; i++) {
        normal += uniform(sim);
    }
    double factor = 1 + model->noise * normal;
    return (uint64_t)((double)(model->base_ns + rows * model->row_ns) *
                      (factor > 0.1 ? factor : 0.1));
}

static struct md_waiter *drop(struct simulation *sim, struct md_waiter *waiter)
{
    struct md_waiter *next = waiter->next;

    waiter->next = sim->idle;
    sim->idle = waiter;
    return next;
}

static void arrive(struct simulation *sim)
{
    struct md_waiter *waiter = sim->idle;
    struct md_forecast forecast = {.free_ns = UINT64_MAX,
                                   .instances = sim->model->instances,
                                   .stretch_permille = (uint32_t)(sim->stretch * 1000)};
    struct md_error err;

    sim->offered++;
    assert_non_null(waiter);
    for (uint32_t i = 0; i < sim->model->instances; i++) {
        uint64_t end_ns = sim->now_ns;
        if (sim->free_ns[i] > sim->now_ns) {
            const struct md_batch_choice *batch = &sim->running[i];
            end_ns = sim->begun_ns[i] + md_learned_time_mean(&sim->time, batch->rows);
        }
        forecast.free_ns = end_ns < forecast.free_ns ? end_ns : forecast.free_ns;
    }
    waiter->rows = 1;
    waiter->deadline_ns = sim->now_ns + sim->model->deadline_ns[uniform(sim) < 0.5];
    struct md_waiter *next = waiter->next;
    if (md_batcher_submit(&sim->batcher, waiter, &sim->time, &forecast, sim->now_ns, &err)) {
        sim->idle = next;
    }
}

static void end(struct simulation *sim, uint32_t instance)
{
    struct md_batch_choice *batch = &sim->running[instance];

    md_learned_time_add(&sim->time, batch->rows, sim->now_ns - sim->begun_ns[instance]);
    for (struct md_waiter *waiter = batch->first; waiter; waiter = drop(sim, waiter)) {
        sim->answered++;
        sim->in_time += sim->now_ns <= waiter->deadline_ns;
    }
    batch->first = NULL;
}

static void start(struct simulation *sim, uint32_t instance)
{
    struct md_batch_choice *batch = &sim->running[instance];

    for (struct md_waiter *waiter = md_batcher_expire(&sim->batcher, &sim->time, sim->now_ns);
         waiter; waiter = drop(sim, waiter)) {}
    md_batcher_pick(&sim->batcher, &sim->time, sim->now_ns, batch);
    if (!batch->first) {
        sim->picked_ns = 0;
        return;
    }
    if (sim->picked_ns) {
        double expected = (double)md_learned_time_mean(&sim->time, batch->rows);
        double ratio = (double)(sim->now_ns - sim->picked_ns) / (expected / sim->model->instances);
        sim->stretch += ((ratio > 1 ? ratio : 1) - sim->stretch) / 16;
    }
    sim->picked_ns = sim->batcher.length ? sim->now_ns : 0;
    sim->batches++;
    sim->rows += batch->rows;
    sim->begun_ns[instance] = sim->now_ns;
    sim->free_ns[instance] = sim->now_ns + batch_time(sim, batch->rows);
}

/* load: 1: as much as full batches can do. */
static struct outcome simulate(const struct model *model, double load, uint64_t span_ns)
{
    static struct simulation sim;
    double capacity = (double)model->max_rows * model->instances /
                      (double)(model->base_ns + model->max_rows * model->row_ns + model->other_ns);

    sim = (struct simulation){.model = model, .now_ns = S, .seed = 11, .stretch = 1};
    sim.batcher.config = (struct md_batcher_config){.max_rows = model->max_rows,
                                                    .max_requests = model->max_rows,
                                                    .level_count = 1,
                                                    .default_level = 1};
    for (size_t i = 0; i < WAITERS; i++) {
        drop(&sim, &sim.waiters[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        md_learned_time_add(&sim.time, 1, batch_time(&sim, 1));
        md_learned_time_add(&sim.time, model->max_rows, batch_time(&sim, model->max_rows));
    }
    uint64_t arrival_ns = sim.now_ns, end_ns = sim.now_ns + span_ns, measured_ns = span_ns / 5;
    bool measures = false;
    while (sim.now_ns < end_ns) {
        uint64_t next_ns = arrival_ns;
        for (uint32_t i = 0; i < model->instances; i++) {
            uint64_t ready_ns = sim.free_ns[i] + (sim.running[i].first ? 0 : model->other_ns);
            if (sim.running[i].first || sim.batcher.length) {
                next_ns = ready_ns < next_ns ? ready_ns : next_ns;
            }
        }
        sim.now_ns = next_ns > sim.now_ns ? next_ns : sim.now_ns;
        if (!measures && sim.now_ns > end_ns - span_ns + measured_ns) {
            measures = true;
            sim.answered = sim.in_time = sim.offered = sim.batches = sim.rows = 0;
        }
        if (sim.now_ns >= arrival_ns) {
            arrive(&sim);
            arrival_ns += exponential(&sim, 1 / (capacity * load));
        }
        for (uint32_t i = 0; i < model->instances; i++) {
            if (sim.running[i].first && sim.free_ns[i] <= sim.now_ns) {
                end(&sim, i);
            }
            if (!sim.running[i].first && sim.free_ns[i] + model->other_ns <= sim.now_ns &&
                sim.batcher.length) {
                start(&sim, i);
            }
        }
    }
    double seconds = (double)(span_ns - measured_ns) / S;
    return (struct outcome){
        .offered = (double)sim.offered / seconds,
        .goodput = (double)sim.in_time / seconds,
        .late = sim.answered ? 1 - (double)sim.in_time / (double)sim.answered : 0,
        .mean_rows = sim.batches ? (double)sim.rows / (double)sim.batches : 0,
    };
}

static void test_batcher_goodput_does_not_fall_in_overload(void **state)
{
    static const struct model models[] = {
        {"memory-bound", 4 * MS, MS / 10, 0.02, 8, 1, {50 * MS, 50 * MS}, 0, 0.95},
        {"memory-bound, noise", 4 * MS, MS / 10, 0.15, 8, 1, {50 * MS, 50 * MS}, 0, 0.95},
        {"tight deadline", 4 * MS, MS / 10, 0.05, 8, 1, {12 * MS, 12 * MS}, 0, 0.95},
        {"two batches long", 4 * MS, MS / 10, 0.02, 8, 1, {10 * MS, 10 * MS}, 0, 0.95},
        {"tightest deadline", 4 * MS, MS / 10, 0.02, 8, 1, {7 * MS, 7 * MS}, 0, 0.75},
        {"compute-bound", MS / 10, 4 * MS, 0.05, 8, 1, {100 * MS, 100 * MS}, 0, 0.95},
        {"compute-bound, tight", MS / 10, 4 * MS, 0.05, 8, 1, {40 * MS, 40 * MS}, 0, 0.95},
        {"half and half", 4 * MS, MS, 0.1, 16, 1, {60 * MS, 60 * MS}, 0, 0.95},
        {"two deadlines", 4 * MS, MS / 10, 0.05, 8, 1, {15 * MS, 100 * MS}, 0, 0.95},
        {"instances", 4 * MS, MS / 10, 0.1, 8, 4, {50 * MS, 50 * MS}, 0, 0.95},
        {"large batches", 2 * MS, MS / 20, 0.1, 64, 2, {30 * MS, 30 * MS}, 0, 0.95},
        {"shared device", 4 * MS, MS / 10, 0.1, 8, 1, {80 * MS, 80 * MS}, 9 * MS, 0.95},
        {"no batches", 5 * MS, 0, 0.1, 1, 1, {50 * MS, 50 * MS}, 0, 0.95},
        {"no batches, shared", 5 * MS, 0, 0.1, 1, 2, {80 * MS, 80 * MS}, 8 * MS, 0.95},
    };
    static const double loads[] = {0.5, 0.8, 0.9, 1, 1.1, 1.5, 2, 5, 20};
    bool prints = getenv("MODELD_TEST_VERBOSE") != NULL;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(models); i++) {
        double peak = 0;
        for (size_t k = 0; k < MD_COUNT_OF(loads); k++) {
            struct outcome outcome = simulate(&models[i], loads[k], 10ULL * S);
            peak = outcome.goodput > peak ? outcome.goodput : peak;
            if (prints) {
                print_message(
                    "%-20s load %4.1f: %6.0f/s in time of %6.0f/s, late %.4f, rows %.2f\n",
                    models[i].name, loads[k], outcome.goodput, outcome.offered, outcome.late,
                    outcome.mean_rows);
                continue;
            }
            if (outcome.goodput < models[i].kept * peak || outcome.late > 0.02) {
                fail_msg("%s at load %.1f: %.0f/s in time, %.0f/s at its peak, late %.4f",
                         models[i].name, loads[k], outcome.goodput, peak, outcome.late);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batcher_goodput_does_not_fall_in_overload),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
