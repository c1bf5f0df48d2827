/*
 * The choice of a batch: whom it would have now, whether it starts now, with how many of them.
 *
 * Members are gathered without being touched, since the batch may be deferred; then as many as it
 * is to have are taken out. One that would be late in the batch is passed over, not waited for: it
 * is first for the next instance that asks, or given up when it cannot be reached.
 */
#include "policy/batcher_internal.h"

enum { GATHERING_PART = 64 }; /* of what a batch takes: gathering it, where that matters */

enum stop {
    STOP_END,      /* nobody else could join */
    STOP_FULL,     /* the next one of the shape does not fit, or nobody would */
    STOP_DEADLINE, /* with the next one a member would be late */
};

struct forming {
    struct md_waiter *members[MD_BATCHER_LOOK_AHEAD]; /* borrow; in order */
    uint32_t count, rows;
    uint32_t preferred_count, preferred_rows; /* the best cut at a preferred size; 0: none */
    uint64_t oldest_ns, deadline_ns;          /* the earliest of the members' */
    bool others_wait;                         /* who cannot join */
    enum stop stop;
};

static struct md_waiter *behind(const struct md_batcher *batcher, const struct md_waiter *waiter)
{
    if (waiter->next) {
        return waiter->next;
    }
    const struct md_waiter_list *lists = md_batcher_level(batcher, waiter->level)->lists;
    if (!waiter->is_delayed && lists[1].first) {
        return lists[1].first;
    }
    uint64_t later = batcher->filled & ~((2ULL << waiter->level) - 1);
    return later ? md_batcher_first_of_level(batcher, (unsigned)__builtin_ctzll(later)) : NULL;
}

static void begin(struct forming *batch)
{
    /* not as a whole: most of it is the array */
    batch->count = batch->rows = batch->preferred_count = batch->preferred_rows = 0;
    batch->oldest_ns = batch->deadline_ns = UINT64_MAX;
    batch->others_wait = false;
    batch->stop = STOP_FULL;
}

static void join(struct forming *batch, struct md_waiter *waiter)
{
    uint64_t deadline_ns = md_batcher_deadline(waiter);

    batch->members[batch->count++] = waiter;
    batch->rows += waiter->rows;
    batch->oldest_ns =
        waiter->arrival_ns < batch->oldest_ns ? waiter->arrival_ns : batch->oldest_ns;
    batch->deadline_ns = deadline_ns < batch->deadline_ns ? deadline_ns : batch->deadline_ns;
}

/* Remembers a size at which the batch may be cut: a preferred one, or, where none was met, the last
 * before the largest of them would be exceeded. next_rows: of the one that would join. */
static void mark_preferred(const struct md_batcher_config *config, struct forming *batch,
                           uint32_t next_rows)
{
    uint32_t largest = config->preferred[config->preferred_count - 1];
    bool marks = !batch->preferred_count && (uint64_t)batch->rows + next_rows > largest;

    for (uint32_t i = 0; i < config->preferred_count && !marks; i++) {
        marks = config->preferred[i] == batch->rows;
    }
    if (marks) {
        batch->preferred_count = batch->count;
        batch->preferred_rows = batch->rows;
    }
}

/* Members behind the first: those of its shape, in order, that fit and are in time. */
static void gather(const struct md_batcher *batcher, const struct md_learned_time *time,
                   uint64_t now_ns, struct forming *batch)
{
    const struct md_batcher_config *config = &batcher->config;
    const struct md_waiter *first = batch->members[0];
    struct md_waiter *waiter = batch->members[0];

    for (unsigned looked = 1; batch->rows < config->max_rows && batch->count < config->max_requests;
         looked++) {
        waiter = behind(batcher, waiter);
        if (!waiter || looked == MD_BATCHER_LOOK_AHEAD) {
            batch->stop = STOP_END;
            batch->others_wait |= waiter != NULL;
            return;
        }
        if (waiter->shape != first->shape) {
            batch->others_wait = true;
            continue;
        }
        if (config->preferred_count) {
            mark_preferred(config, batch, waiter->rows);
        }
        if (waiter->rows > config->max_rows - batch->rows) {
            return;
        }
        if (batch->deadline_ns != UINT64_MAX || waiter->deadline_ns) {
            uint64_t end_ns =
                md_clock_later(now_ns, md_batcher_high(config, time, batch->rows + waiter->rows));
            if (end_ns > batch->deadline_ns) {
                batch->stop = STOP_DEADLINE;
                return;
            }
            if (end_ns > md_batcher_deadline(waiter)) {
                batch->others_wait = true;
                continue;
            }
        }
        join(batch, waiter);
    }
}

/*
 * A member's deadline keeps the batch small. In overload that is a spiral: small batches get less
 * done, so those behind come even closer to their deadlines and make the next batches smaller
 * still. So where those behind it would be late if they waited for the small batch, and the device
 * gets more done with them, those that need it small are passed over.
 */
static void consider_larger(const struct md_batcher *batcher, const struct md_learned_time *time,
                            uint64_t now_ns, struct forming *batch)
{
    const struct md_batcher_config *config = &batcher->config;
    struct md_waiter *first = batch->members[0], *waiter;
    struct forming larger;
    uint64_t all = 0;
    unsigned looked = 0;

    for (waiter = first; waiter && looked < MD_BATCHER_LOOK_AHEAD && all < config->max_rows;
         waiter = waiter->next, looked++) {
        all += waiter->shape == first->shape ? waiter->rows : 0;
    }
    uint32_t most = all < config->max_rows ? (uint32_t)all : config->max_rows;
    uint64_t end_ns = md_clock_later(now_ns, md_batcher_high(config, time, most));

    begin(&larger);
    for (waiter = first, looked = 0; waiter && looked < MD_BATCHER_LOOK_AHEAD &&
                                     larger.count < config->max_requests && larger.rows < most;
         waiter = waiter->next, looked++) {
        if (waiter->shape != first->shape || end_ns > md_batcher_deadline(waiter)) {
            continue;
        }
        if (waiter->rows > most - larger.rows) {
            break;
        }
        join(&larger, waiter);
    }
    if (larger.rows <= batch->rows) {
        return;
    }
    uint64_t small_ns = md_batcher_high(config, time, batch->rows);
    uint64_t large_ns = md_batcher_high(config, time, larger.rows);
    uint64_t alone_ns = md_clock_later(now_ns, large_ns);
    if (alone_ns <= larger.deadline_ns && md_clock_later(alone_ns, small_ns) > larger.deadline_ns &&
        (double)larger.rows * (double)small_ns > (double)batch->rows * (double)large_ns) {
        larger.stop = larger.rows == config->max_rows ? STOP_FULL : STOP_DEADLINE;
        *batch = larger;
    }
}

/* Until when the batch may wait for more members; now_ns or before: it starts, and why. */
static uint64_t defer_until(const struct md_batcher_config *config,
                            const struct md_learned_time *time, uint64_t now_ns,
                            const struct forming *batch, enum md_start *start)
{
    uint64_t until_ns = md_clock_later(batch->oldest_ns, config->delay_ns);

    *start = MD_START_DELAY;
    if (batch->deadline_ns != UINT64_MAX && until_ns > now_ns) {
        /* it has to start while one more row would still be in time, and it as well */
        uint64_t own_ns = md_batcher_high(config, time, batch->rows);
        uint64_t longer_ns = md_batcher_high(config, time, batch->rows + 1);
        longer_ns = own_ns > longer_ns ? own_ns : longer_ns;
        longer_ns += longer_ns ? MD_BATCHER_MARGIN_NS + (batch->deadline_ns - batch->oldest_ns) /
                                                            MD_BATCHER_MARGIN_PART
                               : 0;
        uint64_t latest_ns =
            longer_ns && longer_ns < batch->deadline_ns ? batch->deadline_ns - longer_ns : 0;
        if (latest_ns < until_ns) {
            *start = MD_START_DEADLINE;
            return latest_ns;
        }
    }
    return until_ns;
}

/* Cuts the batch to what it is to have; false: it waits until choice->again_ns. */
static bool decide(const struct md_batcher_config *config, const struct md_learned_time *time,
                   uint64_t now_ns, struct forming *batch, struct md_batch_choice *choice)
{
    bool is_over = config->delay_ns && md_clock_later(batch->oldest_ns, config->delay_ns) <= now_ns;

    if (config->preferred_count && !is_over) {
        mark_preferred(config, batch, 0);
        if (batch->preferred_count) {
            batch->count = batch->preferred_count;
            batch->rows = batch->preferred_rows;
            choice->start = MD_START_FULL;
            return true;
        }
    }
    if (batch->stop != STOP_END) {
        choice->start = batch->stop == STOP_FULL ? MD_START_FULL : MD_START_DEADLINE;
        return true;
    }
    if (!config->delay_ns || (batch->others_wait && !is_over)) {
        choice->start = MD_START_IDLE;
        return true;
    }
    choice->again_ns = defer_until(config, time, now_ns, batch, &choice->start);
    return choice->again_ns <= now_ns;
}

/* The members and rows of the first of two parts: what fills the largest allowed size below; where
 * all are allowed a power of two of members, so that few sizes are to be known. 0: there is none.
 */
static uint32_t first_part(const struct md_batcher_config *config, const struct forming *batch,
                           uint32_t *rows)
{
    uint32_t most = batch->count - 1, size = batch->rows, count = 0;

    if (config->allowed_count) {
        size = 0;
        for (uint32_t i = 0; i < config->allowed_count && config->allowed[i] < batch->rows; i++) {
            size = config->allowed[i];
        }
    } else {
        most = 1U << (31 - __builtin_clz(most));
    }
    *rows = 0;
    while (count < most && *rows + batch->members[count]->rows <= size) {
        *rows += batch->members[count++]->rows;
    }
    return count;
}

static bool is_padded(const struct md_batcher_config *config, const struct forming *batch)
{
    return md_batcher_padded(config, batch->rows) != batch->rows;
}

/* Whether what batches took says whether to cut this one: they were alike, and nobody has said
 * which batches to make. */
static bool goes_by_times(const struct md_batcher *batcher, const struct md_learned_time *time,
                          const struct forming *batch)
{
    const struct md_batcher_config *config = &batcher->config;

    return batcher->alike >= MD_BATCHER_ALIKE && batch->members[0]->shape == batcher->last_shape &&
           !config->delay_ns &&
           (!config->preferred_count || config->preferred[0] == config->max_rows) &&
           md_batcher_is_settled(config, time, batch->rows);
}

/* Whether two parts take no longer than all together, and the gathering; or less than what is
 * padded. What is not well known is tried now and then: all of what would be padded, else the first
 * part, unless even less has never taken much less. */
static bool parts_are_as_fast(struct md_batcher *batcher, const struct md_learned_time *time,
                              const struct forming *batch, uint32_t first_rows)
{
    const struct md_batcher_config *config = &batcher->config;
    uint64_t whole_ns = md_batcher_mean(config, time, batch->rows);
    uint64_t parts_ns = md_clock_later(md_batcher_mean(config, time, first_rows),
                                       md_batcher_mean(config, time, batch->rows - first_rows));
    bool may_try = batcher->since_trial >= MD_BATCHER_TRIALS;

    if (is_padded(config, batch)) {
        bool tries_whole = may_try && !md_batcher_is_settled(config, time, batch->rows);
        batcher->since_trial = tries_whole ? 0 : batcher->since_trial;
        return parts_ns < whole_ns && !tries_whole;
    }
    if (md_batcher_is_settled(config, time, first_rows)) {
        return parts_ns <= md_clock_later(whole_ns, whole_ns / GATHERING_PART);
    }
    if (!may_try ||
        md_learned_time_low(time, first_rows > 1 ? first_rows - 1 : 1) > whole_ns / 8 * 7) {
        return false;
    }
    batcher->since_trial = 0;
    return true;
}

/*
 * Where two parts take no longer than all of them together, or less than what is padded, the first
 * runs: it has its answers sooner, and the others, if nobody comes between, no later. Limits are
 * not risked for that: nobody who waits is to have one so soon that others between, or a trial that
 * takes longer, would matter.
 */
static void cut_to_part(struct md_batcher *batcher, const struct md_learned_time *time,
                        uint64_t now_ns, struct forming *batch, struct md_batch_choice *choice)
{
    const struct md_batcher_config *config = &batcher->config;
    uint64_t high_ns = md_batcher_high(config, time, batch->rows);
    uint64_t end_ns = md_clock_later(now_ns, md_clock_later(high_ns, high_ns));
    uint32_t count, rows;

    if (batcher->earliest && batcher->earliest->heap.limit_ns < end_ns) {
        return;
    }
    while (batch->count > 1 && (is_padded(config, batch) || goes_by_times(batcher, time, batch)) &&
           (count = first_part(config, batch, &rows)) &&
           parts_are_as_fast(batcher, time, batch, rows)) {
        batch->count = count;
        batch->rows = rows;
        choice->start = MD_START_FULL;
    }
}

static void take(struct md_batcher *batcher, struct md_waiter *const *members, uint32_t count,
                 uint32_t rows, struct md_batch_choice *choice)
{
    struct md_waiter **end = &choice->first;

    for (uint32_t i = 0; i < count; i++) {
        md_batcher_unlink(batcher, members[i]);
        *end = members[i];
        end = &members[i]->next;
    }
    choice->count = count;
    choice->rows = rows;
    choice->padding = md_batcher_padded(&batcher->config, rows) - rows;
    batcher->alike = members[0]->shape == batcher->last_shape ? batcher->alike + 1 : 0;
    batcher->last_shape = members[0]->shape;
    batcher->since_trial++;
    choice->again_ns = UINT64_MAX;
    batcher->refusals = 0;
    batcher->refused_rows = 0;
}

/* The first can only run alone, and now: as nearly always where little is to be done. */
static bool is_alone(const struct md_batcher *batcher, const struct md_waiter *first,
                     enum md_start *start)
{
    const struct md_batcher_config *config = &batcher->config;
    bool is_last = batcher->length == 1;

    if (config->max_rows <= 1 || config->max_requests <= 1) {
        *start = is_last ? MD_START_IDLE : MD_START_FULL;
        return true;
    }
    if (first->rows >= config->max_rows) {
        *start = MD_START_FULL;
        return true;
    }
    *start = MD_START_IDLE;
    return is_last && !config->delay_ns && !config->preferred_count;
}

static void gather_and_take(struct md_batcher *batcher, struct md_waiter *first,
                            const struct md_learned_time *time, uint64_t now_ns,
                            struct md_batch_choice *choice)
{
    struct forming batch;

    begin(&batch);
    join(&batch, first);
    gather(batcher, time, now_ns, &batch);
    const bool is_limited = batch.stop == STOP_DEADLINE;
    if (is_limited) {
        consider_larger(batcher, time, now_ns, &batch);
    }
    if (decide(&batcher->config, time, now_ns, &batch, choice)) {
        if (!is_limited) {
            cut_to_part(batcher, time, now_ns, &batch, choice);
        }
        take(batcher, batch.members, batch.count, batch.rows, choice);
    }
}

void md_batcher_pick(struct md_batcher *batcher, const struct md_learned_time *time,
                     uint64_t now_ns, struct md_batch_choice *choice)
{
    struct md_waiter *first = md_batcher_first(batcher);

    *choice = (struct md_batch_choice){.again_ns = UINT64_MAX};
    if (!first) {
        return;
    }
    if (is_alone(batcher, first, &choice->start)) {
        take(batcher, &first, 1, first->rows, choice);
    } else {
        gather_and_take(batcher, first, time, now_ns, choice);
    }
}
