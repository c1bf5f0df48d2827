/*
 * Batcher: the waiting requests of one target, in which order they run, which of them run together,
 * and which are given up.
 *
 * Pure: no threads, no I/O, no clock of its own (each call is told the time, which never goes back;
 * monotonic ns). One caller at a time; embedded in the target's scheduler, under its device's
 * mutex. Waiters are embedded in requests and linked, never copied or allocated.
 *
 * Order: levels (1 first), in a level first those that were not delayed, each in order of arrival.
 * A batch begins with the first of all and takes those behind it that have its shape, as long as
 * they fit; no more than MD_BATCHER_LOOK_AHEAD are looked at.
 *
 * Work-conserving: whoever asks has an idle instance, so a batch starts at once. Only an explicit
 * delay defers it, and no longer than every member can still meet its deadline.
 */
#ifndef MD_POLICY_BATCHER_H
#define MD_POLICY_BATCHER_H

#include "base/error.h"
#include "policy/learned_time.h"

enum {
    MD_BATCHER_LEVELS_MAX = 64,
    MD_BATCHER_PREFERRED_MAX = 32,
    MD_BATCHER_ALLOWED_MAX = 32,
    MD_BATCHER_LOOK_AHEAD = 256,
};

/* ModelQueuePolicy of the field's configuration. */
struct md_queue_policy {
    bool delays;          /* timeout_action DELAY: behind those in time; else REJECT */
    uint64_t timeout_ns;  /* in the queue; 0: none */
    bool allows_override; /* a request's own timeout counts where it is shorter */
    uint64_t max_size;    /* requests of the level that wait; 0: any number */
};

struct md_batcher_config {
    uint32_t max_rows;     /* of a batch of several requests; <= 1: each runs alone. One request may
                              have more: it runs alone */
    uint32_t max_requests; /* in a batch; >= 1 */
    uint32_t preferred[MD_BATCHER_PREFERRED_MAX], preferred_count; /* rows, ascending */
    uint32_t allowed[MD_BATCHER_ALLOWED_MAX], allowed_count; /* rows, ascending: batches are padded
                                                                to the next; none: any */
    uint64_t delay_ns;      /* of the first member, while the batch can still grow; 0: none */
    uint32_t level_count;   /* >= 1 */
    uint32_t default_level; /* 1..level_count: of priority 0, or of one that there is not */
    struct md_queue_policy policies[MD_BATCHER_LEVELS_MAX]; /* of level i + 1 */
    uint64_t max_bytes;                                     /* of all inputs that wait; 0: any */
};

struct md_waiter {
    /* the caller's, before submit */
    uint64_t priority;    /* 1: the first level; 0: the default */
    uint64_t timeout_ns;  /* the request's own limit in the queue; 0: none */
    uint64_t deadline_ns; /* by which the answer is wanted; 0: never too late */
    uint64_t bytes;       /* of its inputs */
    uint64_t shape;       /* equal: may run together */
    uint32_t rows;        /* >= 1 */
    /* the batcher's */
    uint32_t level;
    bool waits, is_delayed;
    uint64_t arrival_ns;
    uint64_t expiry_ns; /* its limit in the queue ends; UINT64_MAX: none, or it has been delayed */
    struct md_waiter *next, *previous;
};

struct md_waiter_list {
    struct md_waiter *first, *last;
    size_t count;
};

struct md_batcher {
    struct md_batcher_config config; /* set before use */
    /* the batcher's */
    struct md_waiter_list levels[MD_BATCHER_LEVELS_MAX][2]; /* in time; delayed */
    size_t length;
    uint64_t rows, bytes;
};

/* Why a batch was started when it was. */
#define MD_START_LIST(X)                                                                   \
    X(IDLE, "idle")         /* an instance was free and nothing else waited */             \
    X(FULL, "full")         /* no more rows or requests fit, or it has a preferred size */ \
    X(DELAY, "delay")       /* the explicit delay was over */                              \
    X(DEADLINE, "deadline") /* a member would miss its deadline in a larger one, or later */

enum md_start {
#define MD_START_ENUM(suffix, name) MD_START_##suffix,
    MD_START_LIST(MD_START_ENUM)
#undef MD_START_ENUM
        MD_START_COUNT,
};
const char *md_start_name(enum md_start start);

struct md_batch_choice {
    struct md_waiter *first; /* linked by `next`, in order; NULL: nothing now */
    uint32_t count;
    uint32_t rows;    /* of the members */
    uint32_t padding; /* rows behind them, so that the size is an allowed one */
    enum md_start start;
    uint64_t again_ns; /* nothing now: look again at this time; UINT64_MAX: when something comes */
};

/* What is ahead of a request that comes: for those that say when they want their answer. */
struct md_forecast {
    uint64_t free_ns;   /* an instance is free from then on (now, or when a batch should end) */
    uint32_t instances; /* that work on the queue; >= 1 */
    uint32_t stretch_permille; /* how much longer a backlog takes than its executions: others share
                                  the device; >= 1000 */
};

/* When the answer of a request would be there. 0: unknown, since nothing has been learned. */
uint64_t md_batcher_predict(const struct md_batcher *batcher, const struct md_waiter *waiter,
                            const struct md_learned_time *time, const struct md_forecast *forecast,
                            uint64_t now_ns);

/* Takes the waiter, or says why not: QUEUE_FULL ("Exceeds maximum queue size", the field's words,
 * for a level's size; our own for the bytes), DEADLINE (it has passed), DEADLINE_UNREACHABLE (by
 * the prediction). */
bool md_batcher_submit(struct md_batcher *batcher, struct md_waiter *waiter,
                       const struct md_learned_time *time, const struct md_forecast *forecast,
                       uint64_t now_ns, struct md_error *err) MD_MUST_CHECK;

/* Takes it back; false: it does not wait. */
bool md_batcher_cancel(struct md_batcher *batcher, struct md_waiter *waiter);

/* Gives up those whose time is over: returns them linked by `next` (NULL: none); why says
 * md_batcher_verdict. Those with a DELAY policy are put behind the others of their level instead.
 */
struct md_waiter *md_batcher_expire(struct md_batcher *batcher, const struct md_learned_time *time,
                                    uint64_t now_ns);
/* Why it was given up: QUEUE_TIMEOUT, DEADLINE, DEADLINE_UNREACHABLE. */
enum md_reason md_batcher_verdict(const struct md_waiter *waiter, uint64_t now_ns);

/* The next batch, for an instance that is idle now and has learned these times. What has expired is
 * to be taken away before (md_batcher_expire). */
void md_batcher_pick(struct md_batcher *batcher, const struct md_learned_time *time,
                     uint64_t now_ns, struct md_batch_choice *choice);

/* The earliest time at which md_batcher_expire has something to do; UINT64_MAX: never. */
uint64_t md_batcher_next_expiry(const struct md_batcher *batcher);

#endif
