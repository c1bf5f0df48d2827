/*
 * The queue: two lists a level (in time, delayed), a bit for each level in which someone waits, and
 * a heap of those that have a limit (batcher_heap.c), so that nothing is searched for: not the
 * first of all, not who has expired, not how much waits.
 *
 * Invariants: a waiter is in one list exactly while `waits`; in the heap only then, and only if it
 * has a limit, which is the earlier of expiry_ns and its deadline; counts, rows and bytes are the
 * sums over those that wait.
 */
#include "policy/batcher_internal.h"

#include <inttypes.h>

const char *md_start_name(enum md_start start)
{
    static const char *const names[] = {
#define MD_START_NAME(suffix, name) name,
        MD_START_LIST(MD_START_NAME)
#undef MD_START_NAME
    };

    return names[start];
}

static struct md_waiter_list *list_of(struct md_batcher *batcher, const struct md_waiter *waiter)
{
    return &md_batcher_level(batcher, waiter->level)->lists[waiter->is_delayed];
}

static void list_append(struct md_waiter_list *list, struct md_waiter *waiter)
{
    waiter->next = NULL;
    waiter->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = waiter;
    list->last = waiter;
    list->count++;
    list->rows += waiter->rows;
}

static void list_remove(struct md_waiter_list *list, struct md_waiter *waiter)
{
    *(waiter->previous ? &waiter->previous->next : &list->first) = waiter->next;
    *(waiter->next ? &waiter->next->previous : &list->last) = waiter->previous;
    list->count--;
    list->rows -= waiter->rows;
}

static void set_limit(struct md_batcher *batcher, struct md_waiter *waiter)
{
    uint64_t deadline_ns = md_batcher_deadline(waiter);
    uint64_t limit_ns = waiter->expiry_ns < deadline_ns ? waiter->expiry_ns : deadline_ns;

    waiter->heap.rank = 0;
    waiter->heap.limit_ns = limit_ns;
    if (limit_ns != UINT64_MAX) {
        md_batcher_heap_add(&batcher->earliest, waiter);
    }
}

void md_batcher_unlink(struct md_batcher *batcher, struct md_waiter *waiter)
{
    const struct md_waiter_list *lists = md_batcher_level(batcher, waiter->level)->lists;

    list_remove(list_of(batcher, waiter), waiter);
    if (!lists[0].first && !lists[1].first) {
        batcher->filled &= ~(1ULL << waiter->level);
    }
    if (waiter->heap.rank) {
        md_batcher_heap_remove(&batcher->earliest, waiter);
    }
    batcher->length--;
    batcher->bytes -= waiter->bytes;
    waiter->waits = false;
    waiter->next = waiter->previous = NULL;
}

/* Rows and requests that run before one that comes to this level now. */
static void count_ahead(const struct md_batcher *batcher, uint32_t level, uint64_t *rows,
                        uint64_t *requests)
{
    uint64_t before = batcher->filled & ((1ULL << level) - 1);

    *rows = md_batcher_level(batcher, level)->lists[0].rows;
    *requests = md_batcher_level(batcher, level)->lists[0].count;
    for (; before; before &= before - 1) {
        const struct md_waiter_list *lists =
            md_batcher_level(batcher, (unsigned)__builtin_ctzll(before))->lists;
        *rows += lists[0].rows + lists[1].rows;
        *requests += lists[0].count + lists[1].count;
    }
}

static uint32_t level_of(const struct md_batcher_config *config, uint64_t priority)
{
    return (priority && priority <= config->level_count ? (uint32_t)priority
                                                        : config->default_level) -
           1;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;

    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

/*
 * Batches ahead are full, take what such a batch takes on average, and begin `stretch` times as far
 * apart as their own time alone would let them. The request's own batch has those that wait beside
 * it, and it may be as large as it were if those that were refused since the last start had come
 * in: so many come that it will be. What it takes counts on average if it starts at once, else by
 * what nearly all runs take: those that are let in with less would force small batches.
 */
uint64_t md_batcher_predict(const struct md_batcher *batcher, const struct md_waiter *waiter,
                            const struct md_learned_time *time, const struct md_forecast *forecast,
                            uint64_t now_ns)
{
    const struct md_batcher_config *config = &batcher->config;
    bool batches = config->max_requests > 1 && config->max_rows > 1;
    uint32_t max_rows = batches ? config->max_rows : 1;
    uint64_t rows, requests, ahead, own_ns, full_ns;

    if (!time || !time->known) {
        return 0;
    }
    count_ahead(batcher, level_of(config, waiter->priority), &rows, &requests);
    if (requests == 0 && forecast->free_ns <= now_ns) {
        return md_clock_later(now_ns, md_batcher_mean(config, time, waiter->rows));
    }
    if (batches) {
        uint32_t own_part = waiter->rows < max_rows ? waiter->rows : max_rows;
        uint64_t own_rows = rows + batcher->refused_rows + waiter->rows;
        ahead = (rows + own_part - 1) / max_rows;
        ahead = requests / config->max_requests > ahead ? requests / config->max_requests : ahead;
        own_rows = ahead || own_rows > max_rows ? max_rows : own_rows;
        own_rows = own_rows > waiter->rows ? own_rows : waiter->rows;
        own_ns = md_batcher_high(config, time, (uint32_t)own_rows);
        full_ns = md_batcher_mean(config, time, max_rows);
    } else {
        uint64_t average = requests ? rows / requests : waiter->rows;
        ahead = requests;
        own_ns = md_batcher_high(config, time, waiter->rows);
        full_ns = md_batcher_mean(config, time, (uint32_t)average);
    }
    uint64_t instances = forecast->instances ? forecast->instances : 1;
    uint64_t stretch = forecast->stretch_permille > 1000 ? forecast->stretch_permille : 1000;
    uint64_t wait_ns = times(full_ns, times(ahead + 1, stretch) - 1000) / instances / 1000;
    uint64_t free_ns = forecast->free_ns > now_ns ? forecast->free_ns : now_ns;
    return md_clock_later(md_clock_later(free_ns, wait_ns), own_ns);
}

static bool has_room(const struct md_batcher *batcher, const struct md_waiter *waiter,
                     uint32_t level, struct md_error *err)
{
    const struct md_batcher_config *config = &batcher->config;
    const struct md_waiter_list *lists = md_batcher_level(batcher, level)->lists;
    uint64_t max_size = md_batcher_level(batcher, level)->policy.max_size;

    if (max_size && lists[0].count + lists[1].count >= max_size) {
        return md_error_set(err, MD_REASON_QUEUE_FULL, "Exceeds maximum queue size");
    }
    if (config->max_bytes && batcher->length &&
        (batcher->bytes > config->max_bytes ||
         waiter->bytes > config->max_bytes - batcher->bytes)) {
        return md_error_set(err, MD_REASON_QUEUE_FULL,
                            "requests of %" PRIu64 " bytes wait, with %" PRIu64
                            " more it would be over %" PRIu64,
                            batcher->bytes, waiter->bytes, config->max_bytes);
    }
    return true;
}

/* Only where nothing was ahead has a learned time alone said no, and may be wrong. True: this one
 * is let through to see: runs have been short enough, or many were not. */
static bool is_tried(struct md_batcher *batcher, struct md_waiter *waiter,
                     const struct md_learned_time *time, uint64_t now_ns)
{
    uint32_t rows = md_batcher_padded(&batcher->config, waiter->rows);
    uint64_t low_ns = time ? md_learned_time_low(time, rows) : 0;

    if (low_ns && md_clock_later(now_ns, low_ns) <= waiter->deadline_ns) {
        waiter->is_tried = true;
        return true;
    }
    waiter->is_tried = batcher->refusals >= MD_BATCHER_REFUSALS;
    batcher->refusals = waiter->is_tried ? 0 : batcher->refusals + 1;
    return waiter->is_tried;
}

static bool can_be_in_time(struct md_batcher *batcher, struct md_waiter *waiter,
                           const struct md_learned_time *time, const struct md_forecast *forecast,
                           uint64_t now_ns, struct md_error *err)
{
    if (waiter->deadline_ns <= now_ns) {
        return md_error_set(err, MD_REASON_DEADLINE, "the deadline passed before it could wait");
    }
    if (!forecast) {
        return true;
    }
    uint64_t end_ns = md_batcher_predict(batcher, waiter, time, forecast, now_ns);
    if (end_ns <= waiter->deadline_ns || (!batcher->length && forecast->free_ns <= now_ns &&
                                          is_tried(batcher, waiter, time, now_ns))) {
        return true;
    }
    if (!md_batcher_is_lost(batcher, waiter, time, now_ns)) { /* it would never have come in */
        batcher->refused_rows += waiter->rows;
    }
    return md_error_set(err, MD_REASON_DEADLINE_UNREACHABLE,
                        "the deadline is in %" PRIu64 " us, the answer is expected in %" PRIu64
                        " us",
                        (waiter->deadline_ns - now_ns) / 1000, (end_ns - now_ns) / 1000);
}

bool md_batcher_submit(struct md_batcher *batcher, struct md_waiter *waiter,
                       const struct md_learned_time *time, const struct md_forecast *forecast,
                       uint64_t now_ns, struct md_error *err)
{
    uint32_t level = level_of(&batcher->config, waiter->priority);
    const struct md_queue_policy *policy = &md_batcher_level(batcher, level)->policy;

    if (!has_room(batcher, waiter, level, err)) {
        return false;
    }
    waiter->is_tried = false;
    if (waiter->deadline_ns && !can_be_in_time(batcher, waiter, time, forecast, now_ns, err)) {
        return false;
    }
    uint64_t timeout_ns = policy->timeout_ns;
    if (policy->allows_override && waiter->timeout_ns &&
        (!timeout_ns || waiter->timeout_ns < timeout_ns)) {
        timeout_ns = waiter->timeout_ns;
    }
    waiter->level = level;
    waiter->waits = true;
    waiter->is_delayed = false;
    waiter->arrival_ns = now_ns;
    waiter->number = batcher->arrivals++;
    waiter->expiry_ns = timeout_ns ? md_clock_later(now_ns, timeout_ns) : UINT64_MAX;
    list_append(list_of(batcher, waiter), waiter);
    batcher->filled |= 1ULL << level;
    batcher->length++;
    batcher->bytes += waiter->bytes;
    set_limit(batcher, waiter);
    return true;
}

bool md_batcher_cancel(struct md_batcher *batcher, struct md_waiter *waiter)
{
    if (!waiter->waits) {
        return false;
    }
    md_batcher_unlink(batcher, waiter);
    return true;
}

struct md_waiter *md_batcher_drain(struct md_batcher *batcher)
{
    struct md_waiter *all = NULL, **end = &all, *waiter;

    while ((waiter = md_batcher_first(batcher))) {
        md_batcher_unlink(batcher, waiter);
        *end = waiter;
        end = &waiter->next;
    }
    return all;
}

static void delay(struct md_batcher *batcher, struct md_waiter *waiter)
{
    md_batcher_heap_remove(&batcher->earliest, waiter);
    list_remove(list_of(batcher, waiter), waiter);
    waiter->is_delayed = true;
    waiter->expiry_ns = UINT64_MAX;
    list_append(list_of(batcher, waiter), waiter);
    set_limit(batcher, waiter);
}

struct md_waiter *md_batcher_expire(struct md_batcher *batcher, const struct md_learned_time *time,
                                    uint64_t now_ns)
{
    struct md_waiter *first = NULL, **end = &first, *waiter;

    while ((waiter = batcher->earliest) && waiter->heap.limit_ns <= now_ns) {
        if (waiter->expiry_ns <= now_ns &&
            md_batcher_level(batcher, waiter->level)->policy.delays) {
            delay(batcher, waiter);
            continue; /* its deadline may be over, too */
        }
        md_batcher_unlink(batcher, waiter);
        *end = waiter;
        end = &waiter->next;
    }
    while ((waiter = md_batcher_first(batcher)) && !waiter->is_tried &&
           md_batcher_is_lost(batcher, waiter, time, now_ns)) {
        if (batcher->length == 1 && is_tried(batcher, waiter, time, now_ns)) {
            break;
        }
        md_batcher_unlink(batcher, waiter);
        *end = waiter;
        end = &waiter->next;
    }
    return first;
}

enum md_reason md_batcher_verdict(const struct md_waiter *waiter, uint64_t now_ns)
{
    uint64_t deadline_ns = md_batcher_deadline(waiter);

    if (waiter->expiry_ns <= now_ns && waiter->expiry_ns < deadline_ns) {
        return MD_REASON_QUEUE_TIMEOUT;
    }
    return deadline_ns <= now_ns ? MD_REASON_DEADLINE : MD_REASON_DEADLINE_UNREACHABLE;
}
