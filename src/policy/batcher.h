/*
 * Batcher: the waiting requests of one target, in which order they run, which of them run together,
 * and which are given up.
 *
 * Pure: no threads, no I/O, no clock of its own (each call is told the time, monotonic ns, which
 * may be a moment before that of the call before). One caller at a time; embedded in the target's
 * scheduler, under its device's mutex. Waiters are embedded in requests and linked, never copied or
 * allocated; those of a zeroed batcher with a configuration are none, and nothing is to be
 * released. Learned times may be NULL everywhere: nothing is known.
 *
 * Order: levels (1 first), in a level first those that were not delayed, each in order of arrival.
 * A batch begins with the first of all and takes those behind it that have its shape, as long as
 * they fit; no more than MD_BATCHER_LOOK_AHEAD are looked at. Of one level and shape nobody is
 * overtaken but who would be late if it were in the batch. A batch grows no larger than gains
 * something: where learned times of batches that were alike say that two parts take no longer than
 * all together, the first of them runs, unless a delay or preferred sizes say which batches to
 * make. Parts that are not well known are tried now and then, in one of MD_BATCHER_TRIALS batches
 * at most.
 *
 * Work-conserving: whoever asks has an idle instance, so a batch starts at once. Only an explicit
 * delay defers it, and no longer than every member can still meet its deadline, nor while others
 * wait that cannot join.
 *
 * Deadlines: a batch grows as long as each of its members meets its own by what nearly all runs of
 * that size take. Where a deadline of the first keeps the batch small, those behind it would be
 * late if they waited for that, and the device gets more done with them, they go before it: else
 * small batches would force smaller ones until nothing is in time. Who cannot meet its deadline by
 * what a run takes on average is given up, not started: at submit by the prediction, later when it
 * is the first. But a time that was learned is no promise: what a run takes may depend on what is
 * in it. So where nothing else is a reason, one is tried if a run has been short enough, not long
 * ago, or after MD_BATCHER_REFUSALS of them without a start between them.
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
    /* A deferred batch starts so long before the latest time that a deadline allows, and this part
     * of the deadline: who wakes up for it comes a bit later, and the answer has a way to go. */
    MD_BATCHER_MARGIN_NS = 2000000,
    MD_BATCHER_MARGIN_PART = 16,
    MD_BATCHER_REFUSALS = 32,
    MD_BATCHER_ALIKE = 16, /* so many followed one of their shape: their times are the shape's */
    MD_BATCHER_TRIALS = 8,
};

/* ModelQueuePolicy of the field's configuration. */
struct md_queue_policy {
    bool delays;          /* timeout_action DELAY: behind those in time; else REJECT */
    uint64_t timeout_ns;  /* in the queue; 0: none */
    bool allows_override; /* a request's own timeout counts where it is shorter than that, or there
                             is none */
    uint64_t max_size;    /* requests of the level that wait; 0: any number */
};

struct md_batcher_config {
    uint32_t max_rows;     /* of a batch of several requests; <= 1: each runs alone. One request may
                              have more: it runs alone */
    uint32_t max_requests; /* in a batch; >= 1 */
    uint32_t preferred[MD_BATCHER_PREFERRED_MAX], preferred_count; /* rows, ascending */
    uint32_t allowed[MD_BATCHER_ALLOWED_MAX], allowed_count; /* rows, ascending: batches, and single
                           requests, are padded to the next, or cut where two with less padding
                           take less; none: any; above max_rows: not used */
    uint64_t delay_ns; /* since the oldest member came, while the batch can still grow; 0: none */
    uint32_t level_count;   /* >= 1 */
    uint32_t default_level; /* 1..level_count: of priority 0, or of one that there is not */
    uint64_t max_bytes;     /* of all inputs that wait; one that has more waits alone; 0: any */
};

/* The smallest allowed size that holds the rows; the rows themselves where there is none. */
static inline uint32_t md_batcher_padded(const struct md_batcher_config *config, uint32_t rows)
{
    for (uint32_t i = 0; i < config->allowed_count; i++) {
        if (config->allowed[i] >= rows) {
            return config->allowed[i] <= config->max_rows ? config->allowed[i] : rows;
        }
    }
    return rows;
}

struct md_waiter {
    /* the caller's, before submit */
    uint64_t priority;    /* 1: the first level; 0: the default */
    uint64_t timeout_ns;  /* the request's own limit in the queue; 0: none */
    uint64_t deadline_ns; /* by which the answer is wanted; 0: never too late */
    uint64_t bytes;       /* of its inputs */
    uint64_t shape;       /* equal: may run together */
    uint32_t rows;        /* >= 1 */
    /* the batcher's; waits may be read, and arrival_ns once it was taken */
    uint32_t level; /* 0-based */
    bool waits, is_delayed;
    bool is_tried; /* is not given up because of learned times */
    uint64_t arrival_ns;
    uint64_t number;    /* of arrival */
    uint64_t expiry_ns; /* its limit in the queue ends; UINT64_MAX: none, or it has been delayed */
    struct md_waiter *next, *previous;
    struct { /* in the heap of those that have a limit */
        uint64_t limit_ns;
        struct md_waiter *left, *right, *parent;
        uint32_t rank; /* 0: not in it */
    } heap;
};

struct md_waiter_list {
    struct md_waiter *first, *last;
    size_t count;
    uint64_t rows;
};

struct md_batcher_level {
    struct md_queue_policy policy;
    struct md_waiter_list lists[2]; /* the batcher's: in time; delayed */
};

struct md_batcher {
    /* set before use */
    struct md_batcher_config config;
    struct md_batcher_level *levels; /* borrow: config.level_count of them, from level 1 on, zeroed
                                        but for their policies; NULL: `one` */
    struct md_batcher_level one;     /* where there is one level: most have no other */
    /* the batcher's */
    uint64_t filled;            /* bit i: someone waits in level i */
    struct md_waiter *earliest; /* root of the heap of those that have a limit */
    size_t length;
    uint64_t bytes;
    uint64_t arrivals;     /* numbers that were given */
    uint64_t refused_rows; /* by the prediction, since a batch was started */
    uint32_t refusals;     /* because of learned times alone, since a batch was started */
    uint32_t since_trial;  /* batches since a size was tried; wraps, as the next */
    uint32_t alike;        /* batches in a row with the shape of the last */
    uint64_t last_shape;
};

/* Why a batch was started when it was. */
#define MD_START_LIST(X)                                                                        \
    X(IDLE, "idle")         /* an instance was free, and nothing else waited that could join */ \
    X(FULL, "full")         /* no more fit, or gain something, or it has a preferred size */    \
    X(DELAY, "delay")       /* the explicit delay was over */                                   \
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
    uint32_t stretch_permille; /* time between two starts from a backlog, by the time of a batch
                                  over the instances: others share the device; >= 1000 */
};

/* When the answer of a request would be there, if it came now. 0: unknown, since nothing has been
 * learned; UINT64_MAX: never within its range. */
uint64_t md_batcher_predict(const struct md_batcher *batcher, const struct md_waiter *waiter,
                            const struct md_learned_time *time, const struct md_forecast *forecast,
                            uint64_t now_ns);

/* Takes the waiter, or says why not: QUEUE_FULL ("Exceeds maximum queue size", the field's words,
 * for a level's size; our own for the bytes), DEADLINE (it has passed), DEADLINE_UNREACHABLE (by
 * the prediction; forecast NULL: none is made). */
bool md_batcher_submit(struct md_batcher *batcher, struct md_waiter *waiter,
                       const struct md_learned_time *time, const struct md_forecast *forecast,
                       uint64_t now_ns, struct md_error *err) MD_MUST_CHECK;

/* Takes it back; false: it does not wait (a zeroed waiter does not). */
bool md_batcher_cancel(struct md_batcher *batcher, struct md_waiter *waiter);

/* Takes back all, linked by `next`, in order. */
struct md_waiter *md_batcher_drain(struct md_batcher *batcher);

/* Gives up those whose time is over, and as long as it is so the first of all if it cannot meet
 * its deadline any more: returns them linked by `next` (NULL: none); why says md_batcher_verdict.
 * Those with a DELAY policy are put behind the others of their level instead. */
struct md_waiter *md_batcher_expire(struct md_batcher *batcher, const struct md_learned_time *time,
                                    uint64_t now_ns);
/* Why it was given up: QUEUE_TIMEOUT, DEADLINE, DEADLINE_UNREACHABLE. */
enum md_reason md_batcher_verdict(const struct md_waiter *waiter, uint64_t now_ns);

/* The next batch, for an instance that is idle now and has learned these times. What has expired is
 * to be taken away before (md_batcher_expire). */
void md_batcher_pick(struct md_batcher *batcher, const struct md_learned_time *time,
                     uint64_t now_ns, struct md_batch_choice *choice);

#endif
