/*
 * The default scheduler: the batcher.
 */
#include "infer/scheduler.h"

void md_scheduler_prepare(struct md_scheduler *scheduler, uint32_t max_requests)
{
    struct md_batcher_config *config = &scheduler->batcher.config;

    if (config->level_count == 0) {
        config->level_count = 1;
    }
    if (config->default_level == 0) {
        config->default_level = 1;
    }
    if (config->max_rows <= 1 || config->max_requests == 0) {
        config->max_requests = 1;
    }
    if (config->max_requests > max_requests) {
        config->max_requests = max_requests;
    }
}

static void note(struct md_scheduler *scheduler)
{
    scheduler->length = scheduler->batcher.length;
    scheduler->bytes = scheduler->batcher.bytes;
}

static bool default_submit(struct md_scheduler *scheduler, struct md_waiter *waiter,
                           const struct md_learned_time *time, const struct md_forecast *forecast,
                           uint64_t now_ns, struct md_error *err)
{
    bool ok = md_batcher_submit(&scheduler->batcher, waiter, time, forecast, now_ns, err);

    note(scheduler);
    return ok;
}

static bool default_cancel(struct md_scheduler *scheduler, struct md_waiter *waiter)
{
    bool waited = md_batcher_cancel(&scheduler->batcher, waiter);

    note(scheduler);
    return waited;
}

static struct md_waiter *default_expire(struct md_scheduler *scheduler,
                                        const struct md_learned_time *time, uint64_t now_ns)
{
    struct md_waiter *given_up = md_batcher_expire(&scheduler->batcher, time, now_ns);

    note(scheduler);
    return given_up;
}

static void default_pick(struct md_scheduler *scheduler, const struct md_learned_time *time,
                         uint64_t now_ns, struct md_batch_choice *choice)
{
    md_batcher_pick(&scheduler->batcher, time, now_ns, choice);
    note(scheduler);
}

static void default_done(struct md_scheduler *scheduler, uint32_t requests, uint64_t executed_ns)
{
    (void)scheduler;
    (void)requests;
    (void)executed_ns;
}

static struct md_waiter *default_drain(struct md_scheduler *scheduler)
{
    struct md_waiter *all = md_batcher_drain(&scheduler->batcher);

    note(scheduler);
    return all;
}

const struct md_scheduler_ops md_scheduler_default = {
    .submit = default_submit,
    .cancel = default_cancel,
    .expire = default_expire,
    .pick = default_pick,
    .done = default_done,
    .drain = default_drain,
};
