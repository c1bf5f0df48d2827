/*
 * Event loop: one thread, its file descriptors, timers, and a mailbox for other threads.
 *
 * Created and destroyed by server/; started once. Everything is called on the loop's own thread
 * (assert with MD_ON_LOOP) except what is marked "any thread". An idle loop sleeps in the kernel
 * without a timeout unless a timer is set. It spins before it blocks only when recent gaps between
 * events say that it pays (at most spin_us, never when idle).
 */
#ifndef MD_LOOP_LOOP_H
#define MD_LOOP_LOOP_H

#include "base/arena.h"
#include "base/error.h"
#include "base/pool.h"

#include <assert.h>

struct md_loop;

/* Readiness events of a descriptor. HANGUP (the peer has closed its direction, or all) is reported
 * without being asked for, together with READ; not while only WRITE is asked for, unless the
 * connection is broken. */
enum {
    MD_LOOP_READ = 1,
    MD_LOOP_WRITE = 2,
    MD_LOOP_HANGUP = 4,
    MD_LOOP_EXCLUSIVE = 8 /* for listeners on several loops: only one of them is woken */
};

/* Embedded in the owner of the descriptor. */
struct md_loop_fd {
    int fd;
    uint32_t events; /* asked for; set by the functions below */
    uint32_t armed;  /* what the kernel watches; internal */
    void (*ready)(struct md_loop_fd *self, uint32_t events);
};

/* Embedded in whatever is to run; one task is in at most one place at a time. */
struct md_loop_task {
    struct md_loop_task *next;
    void (*run)(struct md_loop_task *self);
};

/* Embedded; zeroed = not set. */
struct md_loop_timer {
    size_t position; /* in the heap, 1-based; 0 = not set */
    uint64_t deadline_ns;
    void (*fire)(struct md_loop_timer *self);
};

struct md_loop_options {
    unsigned index; /* 0.. */
    unsigned spin_us;
    int cpu;                  /* pin to this CPU; -1 = not pinned */
    struct md_budget *budget; /* shared: bound on bytes in flight */
    size_t cache_bytes;       /* of the loop's pool */
};

bool md_loop_create(const struct md_loop_options *options, struct md_loop **out,
                    struct md_error *err) MD_MUST_CHECK;
bool md_loop_start(struct md_loop *loop, struct md_error *err)
    MD_MUST_CHECK;                       /* starts the thread */
void md_loop_stop(struct md_loop *loop); /* any thread: leave after the current turn */
void md_loop_join(struct md_loop *loop); /* waits for the thread */
void md_loop_destroy(
    struct md_loop *loop); /* after join; posted tasks that did not run are dropped */

/* Runs one turn on the calling thread, waiting at most timeout_ms (-1: until something happens).
 * For tests. */
bool md_loop_run_once(struct md_loop *loop, int timeout_ms, struct md_error *err) MD_MUST_CHECK;

/* Runs the task on the loop's thread. Any thread; never fails, never blocks; wakes the loop if it
 * sleeps. Tasks of one poster run in order. */
void md_loop_post(struct md_loop *loop, struct md_loop_task *task);
/* Runs the task on this loop after it has looked for I/O once more (without sleeping): how long
 * work yields. */
void md_loop_defer(struct md_loop *loop, struct md_loop_task *task);

/* Runs the task at the end of the loop's current turn, behind everything that is ready in it: for
 * work that many events of a turn share, such as writing what they left to write. */
void md_loop_finish(struct md_loop *loop, struct md_loop_task *task);

/* What came or went in this turn is part of something large, which gains nothing from a loop that
 * waits without sleeping. */
void md_loop_note_bulk(struct md_loop *loop);

/* What comes in the next MD_LOOP_COALESCE_NS is looked at together, after them, and timers are as
 * much late; posted tasks do not wait for that. For who has refused something because there is too
 * much to do: each wake-up takes the CPU from an engine, and what comes now is mostly to be refused
 * as well. */
enum { MD_LOOP_COALESCE_NS = 2000000 };
void md_loop_coalesce(struct md_loop *loop);

/* Somebody wants an answer within so long: the loop coalesces for a small part of that at most, and
 * little by little for longer again. */
void md_loop_note_patience(struct md_loop *loop, uint64_t patience_ns);

void md_loop_timer_set(struct md_loop *loop, struct md_loop_timer *timer,
                       uint64_t deadline_ns); /* moves one that is set */
void md_loop_timer_cancel(struct md_loop *loop, struct md_loop_timer *timer); /* fine if not set */
/* The timer heap grows with the timers that exist: reserve before creating the owner of one. */
bool md_loop_timer_reserve(struct md_loop *loop, struct md_error *err) MD_MUST_CHECK;
void md_loop_timer_unreserve(struct md_loop *loop);

bool md_loop_fd_add(struct md_loop *loop, struct md_loop_fd *fd, uint32_t events,
                    struct md_error *err) MD_MUST_CHECK;
void md_loop_fd_set(struct md_loop *loop, struct md_loop_fd *fd,
                    uint32_t events); /* no system call if unchanged */
void md_loop_fd_remove(struct md_loop *loop,
                       struct md_loop_fd *fd); /* `ready` is not called after this */

uint64_t md_loop_now_ns(const struct md_loop *loop); /* monotonic time of this turn */
/* The earliest time at which what this turn finds may have come: now, but where it has coalesced
 * since it last looked. For times that a peer counts from when it has sent something. */
uint64_t md_loop_since_ns(const struct md_loop *loop);
unsigned md_loop_index(const struct md_loop *loop);
struct md_pool *md_loop_pool(struct md_loop *loop);
/* Chunks for arenas of the loop's requests. Those that are made for chunks of this size share them:
 * one holds all of a small inference, so that it takes nothing from the heap. */
enum { MD_LOOP_ARENA_BYTES = 8192 - 64 };
struct md_arena_cache *md_loop_arenas(struct md_loop *loop);
/* The loop that the calling thread runs, or NULL. Any thread. */
struct md_loop *md_loop_current(void);
/* Connections it serves, for balance and metrics; written by the loop, read by any thread. */
void md_loop_count_connection(struct md_loop *loop, int change);
size_t md_loop_connection_count(const struct md_loop *loop);

#ifdef MD_DEBUG
    #define MD_ON_LOOP(loop) assert(md_loop_current() == (loop) || md_loop_current() == NULL)
#else
    #define MD_ON_LOOP(loop) ((void)0)
#endif

#endif
