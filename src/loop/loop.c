/*
 * Event loop over os/poll.
 *
 * A turn: wait for events (or spin), handle them, run posted and deferred tasks, fire timers.
 *
 * Wake-ups. Posters push onto a lock-free stack and write to the wake-up descriptor only when the
 * loop says that it sleeps. The loop sets `sleeping` and looks at the mailbox again before it
 * blocks; both sides use sequentially consistent operations, so either the poster sees `sleeping`
 * or the loop sees the task.
 *
 * Spinning. A blocked loop costs ~25 us of CPU and more of latency to wake. It polls without
 * blocking for at most spin_us when the last waits returned a single event each and the moving
 * average of the gaps between events is shorter than the bound: one busy connection is served in a
 * third of the time, an idle or a broad loop never spins, and where spins are in vain they become
 * rare.
 *
 * Coalescing. Where requests are refused because the engines are busy, each wake-up by the next of
 * them takes the CPU, and its caches, from an engine. So the loop sleeps deaf to sockets for a
 * moment, on its wake-up descriptor alone, shorter where somebody is in a hurry. What has come
 * meanwhile is taken to have come at its beginning, so that no answer is late by it.
 */
#include "loop/loop.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "loop/timer_heap.h"
#include "os/memory.h"
#include "os/poll.h"
#include "os/thread.h"

#include <stdio.h>

enum {
    EVENTS_A_TURN = 64,
    IDLE_TRIM_MS = 10000,
    KEPT_CACHE_BYTES = 256 * 1024,
    ARENA_CHUNKS_MAX = 64,
    SPIN_AFTER = 4, /* waits with a single event each, in a row */
    SPIN_AFTER_MAX = 1024,
    PATIENCE_PARTS = 8, /* so much of a patience the loop may sleep deaf */
    COALESCE_MIN_NS = 50000,
    COALESCE_GROWTH = 16, /* by this part with each sleep, until somebody is in a hurry again */
};

struct md_loop {
    /* immutable after create */
    unsigned index;
    int cpu;
    uint64_t spin_ns;
    int poller, wakeup;
    struct md_pool *pool;
    struct md_os_thread thread;

    /* owner: the loop's thread */
    uint64_t now_ns;
    uint64_t since_ns; /* what this turn finds came since then; now_ns unless it slept deaf */
    struct md_timer_heap timers;
    struct md_arena_cache arenas;
    struct md_loop_task *deferred_first, *deferred_last;
    struct md_loop_task *finish_first; /* for the end of this turn */
    struct md_loop_fd
        *handling[EVENTS_A_TURN]; /* events of this turn; NULL when removed meanwhile */
    size_t handling_count;
    struct md_loop_timer trim_timer; /* once after the last event */
    uint64_t trimmed_ns;
    uint64_t last_event_ns, gap_ns; /* moving average of the time between waits that had events */
    unsigned single_waits;          /* in a row that had one event each */
    const void *single_owner; /* of the last event that came alone; compared, never followed */
    unsigned spin_after;      /* that many earn a spin; doubles with each spin in vain */
    bool coalesces;           /* the next events come together */
    uint64_t coalesce_ns;     /* for so long, at most MD_LOOP_COALESCE_NS */
    bool is_behind;           /* there may be more events than a turn takes */
    struct md_loop_fd wakeup_fd;

    /* shared */
    _Alignas(MD_CACHE_LINE) _Atomic(struct md_loop_task *) mailbox;
    atomic_bool sleeping;
    atomic_bool stop;
    atomic_size_t connection_count;
};

static _Thread_local struct md_loop *current_loop;

/* --- timers -------------------- */

bool md_loop_timer_reserve(struct md_loop *loop, struct md_error *err)
{
    MD_ON_LOOP(loop);
    return md_timer_heap_reserve(&loop->timers) || md_error_no_memory(err, "a timer");
}

void md_loop_timer_unreserve(struct md_loop *loop)
{
    MD_ON_LOOP(loop);
    md_timer_heap_unreserve(&loop->timers);
}

void md_loop_timer_set(struct md_loop *loop, struct md_loop_timer *timer, uint64_t deadline_ns)
{
    MD_ON_LOOP(loop);
    md_timer_heap_set(&loop->timers, timer, deadline_ns);
}

void md_loop_timer_cancel(struct md_loop *loop, struct md_loop_timer *timer)
{
    MD_ON_LOOP(loop);
    md_timer_heap_cancel(&loop->timers, timer);
}

static void fire_timers(struct md_loop *loop)
{
    /* counted: a timer that sets itself to the past waits for the next turn */
    for (size_t left = loop->timers.count; left; left--) {
        struct md_loop_timer *timer = md_timer_heap_first(&loop->timers);
        if (!timer || timer->deadline_ns > loop->now_ns) {
            return;
        }
        md_timer_heap_cancel(&loop->timers, timer);
        timer->fire(timer);
    }
}

/* --- tasks -------------------- */

void md_loop_post(struct md_loop *loop, struct md_loop_task *task)
{
    struct md_loop_task *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);

    do {
        task->next = head;
    } while (!atomic_compare_exchange_weak(&loop->mailbox, &head, task));
    if (atomic_load(&loop->sleeping) && atomic_exchange(&loop->sleeping, false)) {
        md_os_wakeup_signal(loop->wakeup);
    }
}

void md_loop_defer(struct md_loop *loop, struct md_loop_task *task)
{
    task->next = NULL;
    if (loop->deferred_last) {
        loop->deferred_last->next = task;
    } else {
        loop->deferred_first = task;
    }
    loop->deferred_last = task;
}

void md_loop_finish(struct md_loop *loop, struct md_loop_task *task)
{
    task->next = loop->finish_first;
    loop->finish_first = task;
}

static void run_list(struct md_loop_task *task)
{
    while (task) {
        struct md_loop_task *next = task->next;
        task->run(task);
        task = next;
    }
}

static void run_tasks(struct md_loop *loop)
{
    struct md_loop_task *posted = NULL, *deferred = loop->deferred_first;

    /* relaxed peek: missed tasks are found in the next turn, and before sleeping */
    if (atomic_load_explicit(&loop->mailbox, memory_order_relaxed)) {
        struct md_loop_task *stack = atomic_exchange(&loop->mailbox, NULL);
        while (stack) { /* newest first: turn round */
            struct md_loop_task *next = stack->next;
            stack->next = posted;
            posted = stack;
            stack = next;
        }
    }
    loop->deferred_first = loop->deferred_last = NULL;
    run_list(posted);
    run_list(deferred);
}

/* --- descriptors -------------------- */

_Static_assert((int)MD_LOOP_READ == (int)MD_OS_POLL_READ &&
                   (int)MD_LOOP_WRITE == (int)MD_OS_POLL_WRITE &&
                   (int)MD_LOOP_HANGUP == (int)MD_OS_POLL_HANGUP &&
                   (int)MD_LOOP_EXCLUSIVE == (int)MD_OS_POLL_EXCLUSIVE,
               "the same events");

bool md_loop_fd_add(struct md_loop *loop, struct md_loop_fd *fd, uint32_t events,
                    struct md_error *err)
{
    MD_ON_LOOP(loop);
    fd->events = fd->armed = events & ~(uint32_t)MD_LOOP_EXCLUSIVE;
    return md_os_poll_add(loop->poller, fd->fd, fd, events, err);
}

static void arm(struct md_loop *loop, struct md_loop_fd *fd)
{
    fd->armed = fd->events;
    md_os_poll_set(loop->poller, fd->fd, fd, fd->events);
}

void md_loop_fd_set(struct md_loop *loop, struct md_loop_fd *fd, uint32_t events)
{
    uint32_t differs = events ^ fd->armed;

    MD_ON_LOOP(loop);
    fd->events = events;
    /* Reading that is no longer asked for stays armed until something arrives: mostly it is asked
     * for again before. */
    if (differs && (differs != MD_LOOP_READ || events & MD_LOOP_READ)) {
        arm(loop, fd);
    }
}

void md_loop_fd_remove(struct md_loop *loop, struct md_loop_fd *fd)
{
    MD_ON_LOOP(loop);
    md_os_poll_remove(loop->poller, fd->fd);
    for (size_t i = 0; i < loop->handling_count; i++) {
        if (loop->handling[i] == fd) {
            loop->handling[i] = NULL;
        }
    }
}

static void deliver(struct md_loop *loop, struct md_loop_fd *fd, uint32_t events)
{
    if (fd->armed != fd->events) {
        arm(loop, fd);
    }
    if (!(events & MD_LOOP_HANGUP)) {
        events &= fd->events;
    }
    if (events) {
        fd->ready(fd, events);
    }
}

static void woken(struct md_loop_fd *self, uint32_t events)
{
    (void)self; /* the tasks are looked for in each turn */
    (void)events;
}

/* --- a turn -------------------- */

static void trim_idle(struct md_loop_timer *timer)
{
    struct md_loop *loop = MD_CONTAINER_OF(timer, struct md_loop, trim_timer);
    uint64_t idle_from = loop->last_event_ns + IDLE_TRIM_MS * (uint64_t)MD_NS_PER_MS;

    if (idle_from > loop->now_ns) {
        md_timer_heap_set(&loop->timers, timer, idle_from); /* it was busy meanwhile */
    } else {
        md_pool_trim(loop->pool, KEPT_CACHE_BYTES);
        md_os_memory_trim();
        loop->trimmed_ns = loop->now_ns;
    }
}

/* Until the first timer is due; UINT64_MAX: there is none. */
static uint64_t timer_ns(const struct md_loop *loop)
{
    const struct md_loop_timer *first = md_timer_heap_first(&loop->timers);

    if (!first) {
        return UINT64_MAX;
    }
    uint64_t now = md_clock_monotonic_ns();
    return first->deadline_ns > now ? first->deadline_ns - now : 0;
}

static int sleep_ms(const struct md_loop *loop, int timeout_ms)
{
    uint64_t left_ns = timer_ns(loop);

    if (left_ns != UINT64_MAX) {
        uint64_t left_ms = left_ns / MD_NS_PER_MS + (left_ns % MD_NS_PER_MS != 0);
        if (timeout_ms < 0 || left_ms < (uint64_t)timeout_ms) {
            timeout_ms = left_ms > INT32_MAX ? INT32_MAX : (int)left_ms;
        }
    }
    return timeout_ms;
}

static bool has_tasks(const struct md_loop *loop)
{
    return loop->deferred_first || atomic_load(&((struct md_loop *)(uintptr_t)loop)->mailbox);
}

void md_loop_coalesce(struct md_loop *loop)
{
    MD_ON_LOOP(loop);
    loop->coalesces = true;
}

void md_loop_note_patience(struct md_loop *loop, uint64_t patience_ns)
{
    loop->coalesce_ns =
        md_size_min(loop->coalesce_ns, md_size_max(patience_ns / PATIENCE_PARTS, COALESCE_MIN_NS));
}

void md_loop_note_bulk(struct md_loop *loop)
{
    loop->single_waits = 0;
}

static int spin(struct md_loop *loop, struct md_os_event *events)
{
    uint64_t begin = md_clock_monotonic_ns();

    do {
        int n = md_os_poll_wait(loop->poller, events, EVENTS_A_TURN, 0);
        if (n || has_tasks(loop)) {
            loop->spin_after = SPIN_AFTER;
            return n;
        }
    } while (md_clock_monotonic_ns() - begin < loop->spin_ns);
    /* It did not pay (the client may need this very CPU): earn it again, and longer. */
    loop->single_waits = 0;
    loop->spin_after = (unsigned)md_size_min(loop->spin_after * 2, SPIN_AFTER_MAX);
    return 0;
}

static int block(struct md_loop *loop, struct md_os_event *events, int timeout_ms)
{
    int n = 0;

    if (loop->last_event_ns > loop->trimmed_ns && !loop->trim_timer.position) {
        md_timer_heap_set(&loop->timers, &loop->trim_timer,
                          loop->now_ns + IDLE_TRIM_MS * (uint64_t)MD_NS_PER_MS);
    }
    atomic_store(&loop->sleeping, true);
    if (!has_tasks(loop) && !atomic_load(&loop->stop)) {
        n = md_os_poll_wait(loop->poller, events, EVENTS_A_TURN, sleep_ms(loop, timeout_ms));
    } else {
        n = md_os_poll_wait(loop->poller, events, EVENTS_A_TURN, 0);
    }
    atomic_store(&loop->sleeping, false);
    return n;
}

/* Sleeps deaf to all but tasks: where there is too much to do, some deadline is always near. */
static void coalesce(struct md_loop *loop)
{
    loop->coalesces = false;
    md_os_wakeup_clear(loop->wakeup);
    atomic_store(&loop->sleeping, true);
    if (!has_tasks(loop) && !atomic_load(&loop->stop)) {
        md_os_wakeup_wait(loop->wakeup, loop->coalesce_ns);
    }
    atomic_store(&loop->sleeping, false);
    loop->coalesce_ns =
        md_size_min(loop->coalesce_ns + loop->coalesce_ns / COALESCE_GROWTH, MD_LOOP_COALESCE_NS);
}

/* Who polls instead of sleeping serves one busy connection sooner; several keep a loop awake
 * anyway, and would pay for it. */
static void learn(struct md_loop *loop, int n, const struct md_os_event *events)
{
    if (n <= 0) {
        return;
    }
    uint64_t gap = loop->now_ns - loop->last_event_ns;
    loop->last_event_ns = loop->now_ns;
    loop->gap_ns = loop->gap_ns - loop->gap_ns / 4 + md_size_min(gap, MD_NS_PER_S) / 4;
    if (n == 1 && events->owner == &loop->wakeup_fd) {
        return; /* an answer on its way to the connection */
    }
    loop->single_waits = n == 1 && events->owner == loop->single_owner ? loop->single_waits + 1 : 0;
    loop->single_owner = events->owner;
}

static int wait(struct md_loop *loop, struct md_os_event *events, int timeout_ms)
{
    const uint64_t looked_ns = loop->now_ns;
    const bool sleeps_deaf = loop->coalesces && timeout_ms && !loop->is_behind;
    int n;

    if (sleeps_deaf) {
        coalesce(loop);
        n = md_os_poll_wait(loop->poller, events, EVENTS_A_TURN, 0);
    } else if (has_tasks(loop)) {
        n = md_os_poll_wait(loop->poller, events, EVENTS_A_TURN, 0);
    } else if (loop->single_waits >= loop->spin_after && loop->gap_ns < 2 * loop->spin_ns &&
               timeout_ms) {
        n = spin(loop, events);
        if (!n && !has_tasks(loop)) {
            n = block(loop, events, timeout_ms);
        }
    } else {
        n = block(loop, events, timeout_ms);
    }
    loop->now_ns = md_clock_monotonic_ns();
    loop->since_ns = sleeps_deaf ? looked_ns : loop->now_ns;
    loop->is_behind = n == EVENTS_A_TURN;
    learn(loop, n, events);
    return n;
}

static void turn(struct md_loop *loop, int timeout_ms)
{
    struct md_os_event events[EVENTS_A_TURN];
    int n = wait(loop, events, timeout_ms);

    loop->handling_count = (size_t)n;
    for (int i = 0; i < n; i++) {
        loop->handling[i] = events[i].owner;
    }
    for (int i = 0; i < n; i++) {
        struct md_loop_fd *fd = loop->handling[i];
        if (fd) {
            loop->handling[i] = NULL;
            deliver(loop, fd, events[i].events);
        }
    }
    loop->handling_count = 0;
    run_tasks(loop);
    fire_timers(loop);
    while (loop->finish_first) {
        struct md_loop_task *tasks = loop->finish_first;
        loop->finish_first = NULL;
        run_list(tasks);
    }
}

static void loop_main(void *arg)
{
    struct md_loop *loop = arg;

    current_loop = loop;
    while (!atomic_load_explicit(
        &loop->stop, memory_order_relaxed)) { /* relaxed: looked at again before sleeping */
        turn(loop, -1);
    }
    turn(loop, 0);
    current_loop = NULL;
}

bool md_loop_run_once(struct md_loop *loop, int timeout_ms, struct md_error *err)
{
    struct md_loop *before = current_loop;

    (void)err;
    current_loop = loop;
    turn(loop, timeout_ms);
    current_loop = before;
    return true;
}

/* --- life -------------------- */

bool md_loop_create(const struct md_loop_options *options, struct md_loop **out,
                    struct md_error *err)
{
    struct md_loop *loop = md_alloc_aligned(MD_CACHE_LINE, sizeof *loop);

    if (!loop) {
        return md_error_no_memory(err, "a loop");
    }
    *loop = (struct md_loop){.index = options->index,
                             .cpu = options->cpu,
                             .spin_ns = (uint64_t)options->spin_us * MD_NS_PER_US,
                             .poller = -1,
                             .wakeup = -1,
                             .now_ns = md_clock_monotonic_ns(),
                             .coalesce_ns = MD_LOOP_COALESCE_NS,
                             .spin_after = SPIN_AFTER,
                             .arenas.max_count = ARENA_CHUNKS_MAX};
    loop->trim_timer.fire = trim_idle;
    loop->wakeup_fd =
        (struct md_loop_fd){.events = MD_LOOP_READ, .armed = MD_LOOP_READ, .ready = woken};
    if (!md_pool_create(options->budget, options->cache_bytes, &loop->pool)) {
        md_error_no_memory(err, "a loop");
        goto out;
    }
    if (!md_timer_heap_reserve(&loop->timers)) {
        md_error_no_memory(err, "a loop");
        goto out;
    }
    if (!md_os_poll_create(&loop->poller, err) ||
        !md_os_wakeup_create(loop->poller, &loop->wakeup_fd, &loop->wakeup, err)) {
        goto out;
    }
    *out = loop;
    return true;
out:
    md_loop_destroy(loop);
    return false;
}

bool md_loop_start(struct md_loop *loop, struct md_error *err)
{
    char name[16];

    (void)snprintf(name, sizeof name, "loop-%u", loop->index);
    return md_os_thread_start(&loop->thread, name, loop->cpu, loop_main, loop, err);
}

void md_loop_stop(struct md_loop *loop)
{
    atomic_store(&loop->stop, true);
    md_os_wakeup_signal(loop->wakeup);
}

void md_loop_join(struct md_loop *loop)
{
    md_os_thread_join(&loop->thread);
}

void md_loop_destroy(struct md_loop *loop)
{
    if (!loop) {
        return;
    }
    md_os_close(loop->wakeup);
    md_os_close(loop->poller);
    md_pool_destroy(loop->pool);
    md_timer_heap_deinit(&loop->timers);
    md_arena_cache_deinit(&loop->arenas);
    md_free(loop);
}

uint64_t md_loop_now_ns(const struct md_loop *loop)
{
    return loop->now_ns;
}

uint64_t md_loop_since_ns(const struct md_loop *loop)
{
    return loop->since_ns;
}

unsigned md_loop_index(const struct md_loop *loop)
{
    return loop->index;
}

struct md_pool *md_loop_pool(struct md_loop *loop)
{
    return loop->pool;
}

struct md_arena_cache *md_loop_arenas(struct md_loop *loop)
{
    return &loop->arenas;
}

struct md_loop *md_loop_current(void)
{
    return current_loop;
}

void md_loop_count_connection(struct md_loop *loop, int change)
{
    /* relaxed: a number to compare loads by */
    atomic_fetch_add_explicit(&loop->connection_count, (size_t)change, memory_order_relaxed);
}

size_t md_loop_connection_count(const struct md_loop *loop)
{
    return atomic_load_explicit(&((struct md_loop *)(uintptr_t)loop)->connection_count,
                                memory_order_relaxed);
}
