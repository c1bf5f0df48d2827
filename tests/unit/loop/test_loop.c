/*
 * loop/loop: turns on a clock that the test moves; then real threads for the mailbox and for
 * idleness.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "loop/loop.h"
#include "os/clock.h"

enum { MIB = 1 << 20 };

static uint64_t clock_ns, clock_step_ns;

static uint64_t moved_clock(void)
{
    return clock_ns += clock_step_ns;
}

struct fixture {
    struct md_budget budget;
    struct md_loop *loop;
    int pair[2];
};

static void create(struct fixture *fixture, unsigned spin_us)
{
    const struct md_loop_options options = {.index = 5,
                                            .spin_us = spin_us,
                                            .cpu = -1,
                                            .budget = &fixture->budget,
                                            .cache_bytes = 8 * MIB};
    struct md_error err;

    md_budget_init(&fixture->budget, 64 * MIB);
    assert_true(md_loop_create(&options, &fixture->loop, &err));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fixture->pair), 0);
}

static int set_up(void **state)
{
    static struct fixture fixture;

    clock_ns = MD_NS_PER_S;
    clock_step_ns = 0;
    md_clock_monotonic_ns = moved_clock;
    create(&fixture, 0);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    md_loop_destroy(fixture->loop);
    close(fixture->pair[0]);
    close(fixture->pair[1]);
    return fixture->budget.used_bytes != 0;
}

static void turn(struct fixture *fixture)
{
    struct md_error err;

    assert_true(md_loop_run_once(fixture->loop, 0, &err));
}

/* --- what ran, as letters in order
 * ---------------------------------------------------------------------------------- */

static char ran[256];

static void note(char letter)
{
    size_t len = strlen(ran);

    assert_true(len < sizeof ran - 1);
    ran[len] = letter;
    ran[len + 1] = '\0';
}

static void assert_ran(const char *expected)
{
    assert_string_equal(ran, expected);
    ran[0] = '\0';
}

struct noted_task {
    struct md_loop_task task;
    char letter;
    struct fixture *fixture;
    struct noted_task *defers, *posts; /* when it runs */
};

static void run_noted(struct md_loop_task *task)
{
    struct noted_task *self = MD_CONTAINER_OF(task, struct noted_task, task);

    note(self->letter);
    if (self->defers) {
        md_loop_defer(self->fixture->loop, &self->defers->task);
    }
    if (self->posts) {
        md_loop_post(self->fixture->loop, &self->posts->task);
    }
}

struct noted_timer {
    struct md_loop_timer timer;
    char letter;
    struct fixture *fixture;
    struct noted_timer *cancels;
    uint64_t sets_itself_to;
};

static void fire_noted(struct md_loop_timer *timer)
{
    struct noted_timer *self = MD_CONTAINER_OF(timer, struct noted_timer, timer);

    note(self->letter);
    if (self->cancels) {
        md_loop_timer_cancel(self->fixture->loop, &self->cancels->timer);
    }
    if (self->sets_itself_to) {
        md_loop_timer_set(self->fixture->loop, timer, self->sets_itself_to);
    }
}

struct noted_fd {
    struct md_loop_fd fd;
    struct fixture *fixture;
    struct noted_fd *removes;
    bool reads;
    uint32_t events; /* of the last call */
};

static void ready_noted(struct md_loop_fd *fd, uint32_t events)
{
    struct noted_fd *self = MD_CONTAINER_OF(fd, struct noted_fd, fd);
    char text[16];

    note('r');
    self->events = events;
    if (self->removes) {
        md_loop_fd_remove(self->fixture->loop, &self->removes->fd);
    }
    if (self->reads) {
        assert_true(read(fd->fd, text, sizeof text) >= 0);
    }
}

/* --- timers
 * ----------------------------------------------------------------------------------------------------------
 */

static void test_loop_timers_fire_in_order_when_due(void **state)
{
    struct fixture *fixture = *state;
    struct noted_timer timers[4];
    struct md_error err;

    for (size_t i = 0; i < MD_COUNT_OF(timers); i++) {
        timers[i] = (struct noted_timer){
            .timer.fire = fire_noted, .letter = (char)('a' + i), .fixture = fixture};
        assert_true(md_loop_timer_reserve(fixture->loop, &err));
    }
    md_loop_timer_set(fixture->loop, &timers[0].timer, clock_ns + 300);
    md_loop_timer_set(fixture->loop, &timers[1].timer, clock_ns + 100);
    md_loop_timer_set(fixture->loop, &timers[2].timer, clock_ns + 200);
    md_loop_timer_set(fixture->loop, &timers[3].timer, clock_ns + 150);
    md_loop_timer_cancel(fixture->loop, &timers[3].timer);
    md_loop_timer_cancel(fixture->loop, &timers[3].timer);
    turn(fixture);
    assert_ran("");
    clock_ns += 100;
    turn(fixture);
    assert_int_equal(md_loop_now_ns(fixture->loop), clock_ns);
    assert_ran("b");
    md_loop_timer_set(fixture->loop, &timers[0].timer, clock_ns + 50); /* moved before c */
    clock_ns += 1000;
    turn(fixture);
    assert_ran("ac");
    turn(fixture);
    assert_ran("");
    for (size_t i = 0; i < MD_COUNT_OF(timers); i++) {
        md_loop_timer_unreserve(fixture->loop);
    }
}

static void test_loop_timer_may_change_timers(void **state)
{
    struct fixture *fixture = *state;
    struct noted_timer timers[2];
    struct md_error err;

    for (size_t i = 0; i < MD_COUNT_OF(timers); i++) {
        timers[i] = (struct noted_timer){
            .timer.fire = fire_noted, .letter = (char)('a' + i), .fixture = fixture};
        assert_true(md_loop_timer_reserve(fixture->loop, &err));
        md_loop_timer_set(fixture->loop, &timers[i].timer, clock_ns + i);
    }
    timers[0].cancels = &timers[1];
    clock_ns += 10;
    turn(fixture);
    assert_ran("a");
    /* one that always sets itself to the past runs once a turn and does not hold the loop */
    timers[0].sets_itself_to = 1;
    md_loop_timer_set(fixture->loop, &timers[0].timer, clock_ns);
    turn(fixture);
    assert_ran("a");
    turn(fixture);
    assert_ran("a");
    md_loop_timer_cancel(fixture->loop, &timers[0].timer);
}

/* --- tasks
 * -----------------------------------------------------------------------------------------------------------
 */

static void test_loop_tasks_run_in_order(void **state)
{
    struct fixture *fixture = *state;
    struct noted_task tasks[6];

    for (size_t i = 0; i < MD_COUNT_OF(tasks); i++) {
        tasks[i] = (struct noted_task){
            .task.run = run_noted, .letter = (char)('a' + i), .fixture = fixture};
    }
    tasks[0].defers = &tasks[3];
    tasks[1].posts = &tasks[4];
    md_loop_defer(fixture->loop, &tasks[5].task);
    for (size_t i = 0; i < 3; i++) {
        md_loop_post(fixture->loop, &tasks[i].task);
    }
    turn(fixture);
    assert_ran("abcf");
    turn(fixture);
    assert_ran("ed");
    turn(fixture);
    assert_ran("");
}

/* Work that yields for ever leaves I/O and timers their turn. */
static void test_loop_deferred_task_lets_others_run(void **state)
{
    struct fixture *fixture = *state;
    struct noted_task task = {
        .task.run = run_noted, .letter = 't', .fixture = fixture, .defers = &task};
    struct noted_fd fd = {.fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    md_loop_defer(fixture->loop, &task.task);
    for (int i = 0; i < 3; i++) {
        assert_true(md_loop_run_once(fixture->loop, -1, &err)); /* does not wait */
    }
    assert_ran("rtrtrt");
    md_loop_fd_remove(fixture->loop, &fd.fd);
}

/* --- descriptors
 * ------------------------------------------------------------------------------------------------------
 */

static void test_loop_fd_removed_by_another_is_not_called(void **state)
{
    struct fixture *fixture = *state;
    struct noted_fd fds[2];
    struct md_error err;

    for (size_t i = 0; i < 2; i++) {
        fds[i] = (struct noted_fd){.fd = {.fd = fixture->pair[i], .ready = ready_noted},
                                   .fixture = fixture,
                                   .removes = &fds[1 - i]};
        assert_true(md_loop_fd_add(fixture->loop, &fds[i].fd, MD_LOOP_WRITE, &err));
    }
    turn(fixture);
    assert_ran("r");
    turn(fixture);
    assert_ran("r");
}

static void test_loop_fd_events_follow_what_is_asked_for(void **state)
{
    struct fixture *fixture = *state;
    struct noted_fd fd = {.fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    md_loop_fd_set(fixture->loop, &fd.fd, 0);
    assert_int_equal(fd.fd.armed, MD_LOOP_READ); /* no system call for that */
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    turn(fixture);
    assert_ran("");
    assert_int_equal(fd.fd.armed,
                     0); /* now it was worth one: else the loop would spin on what nobody reads */
    md_loop_fd_set(fixture->loop, &fd.fd, MD_LOOP_WRITE);
    turn(fixture);
    assert_ran("r");
    assert_int_equal(fd.events, MD_LOOP_WRITE);
    md_loop_fd_set(fixture->loop, &fd.fd, MD_LOOP_READ);
    turn(fixture);
    assert_ran("r");
    assert_int_equal(fd.events, MD_LOOP_READ);
    md_loop_fd_set(fixture->loop, &fd.fd, MD_LOOP_READ | MD_LOOP_WRITE);
    turn(fixture);
    assert_ran("r");
    assert_int_equal(fd.events, MD_LOOP_READ | MD_LOOP_WRITE);
    md_loop_fd_set(fixture->loop, &fd.fd, MD_LOOP_READ);
    md_loop_fd_set(fixture->loop, &fd.fd, 0);
    md_loop_fd_set(fixture->loop, &fd.fd, MD_LOOP_READ);
    turn(fixture);
    assert_ran("r");
    md_loop_fd_remove(fixture->loop, &fd.fd);
    turn(fixture);
    assert_ran("");
}

static void test_loop_fd_hangup_is_told_unasked(void **state)
{
    struct fixture *fixture = *state;
    struct noted_fd fd = {.fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    md_loop_fd_set(fixture->loop, &fd.fd, 0);
    assert_int_equal(shutdown(fixture->pair[1], SHUT_WR), 0);
    turn(fixture);
    assert_int_equal(fd.events, MD_LOOP_READ | MD_LOOP_HANGUP);
    ran[0] = '\0';
    for (int i = 0; i < 5; i++) {
        turn(fixture);
    }
    assert_true(strlen(ran) <= 1); /* not for ever */
    ran[0] = '\0';
    md_loop_fd_remove(fixture->loop, &fd.fd);
}

/* --- pool and spinning
 * ------------------------------------------------------------------------------------------------
 */

static void cache_some(struct fixture *fixture)
{
    bool over_budget;

    md_block_unref(md_pool_alloc(md_loop_pool(fixture->loop), MIB, &over_budget));
}

static void test_loop_idle_pool_is_trimmed_once(void **state)
{
    struct fixture *fixture = *state;
    struct md_pool *pool = md_loop_pool(fixture->loop);
    struct noted_fd fd = {
        .fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture, .reads = true};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    cache_some(fixture);
    turn(fixture);
    clock_ns += 6 * (uint64_t)MD_NS_PER_S;
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    turn(fixture);
    clock_ns += 6 * (uint64_t)MD_NS_PER_S;
    turn(fixture);
    assert_int_equal(md_pool_cached_bytes(pool), MIB); /* busy 6 s ago */
    clock_ns += 6 * (uint64_t)MD_NS_PER_S;
    turn(fixture);
    assert_true(md_pool_cached_bytes(pool) <= 256 * 1024);
    /* and nothing more is planned */
    md_loop_fd_remove(fixture->loop, &fd.fd);
    ran[0] = '\0';
}

/* Number of looks for events that one wait took. */
static long looks(struct fixture *fixture, int timeout_ms)
{
    enum { MANY = 1000000 };
    struct md_error err;

    md_fault_arm(MD_FAULT_SYSCALL, MANY);
    assert_true(md_loop_run_once(fixture->loop, timeout_ms, &err));
    long left = atomic_load(&md_fault_countdown[MD_FAULT_SYSCALL]);
    md_fault_disarm(MD_FAULT_SYSCALL);
    return MANY - left;
}

static void feed(struct fixture *fixture, int count, uint64_t gap_ns)
{
    struct md_error err;

    for (int i = 0; i < count; i++) {
        clock_ns += gap_ns;
        assert_int_equal(write(fixture->pair[1], "x", 1), 1);
        assert_true(md_loop_run_once(fixture->loop, 1, &err));
        assert_ran("r");
    }
}

static void test_loop_spins_only_when_it_pays(void **state)
{
    struct fixture spinning, *fixture = &spinning;
    struct noted_fd fd = {.fixture = fixture, .reads = true};
    struct md_error err;

    (void)state;
    create(fixture, 50);
    fd.fd = (struct md_loop_fd){.fd = fixture->pair[0], .ready = ready_noted};
    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    clock_step_ns = 1000;                   /* each look at the clock takes 1 us */
    assert_int_equal(looks(fixture, 1), 1); /* nothing known yet */
    feed(fixture, 100, 5 * (uint64_t)MD_NS_PER_MS);
    assert_int_equal(looks(fixture, 1), 1); /* slow */
    feed(fixture, 100, 10 * (uint64_t)MD_NS_PER_US);
    assert_int_equal(looks(fixture, 0), 1);     /* not allowed to wait */
    assert_in_range(looks(fixture, 1), 20, 60); /* brisk: for 50 us, then it blocks */
    assert_int_equal(looks(fixture, 1), 1);     /* it did not pay: not again */
    feed(fixture, 3, 10 * (uint64_t)MD_NS_PER_US);
    assert_int_equal(looks(fixture, 1), 1); /* still to be earned */
    feed(fixture, 10, 10 * (uint64_t)MD_NS_PER_US);
    assert_in_range(looks(fixture, 1), 20, 60);
    feed(fixture, 6, 10 * (uint64_t)MD_NS_PER_US);
    assert_int_equal(looks(fixture, 1), 1); /* each in vain makes the next dearer */
    feed(fixture, 20, 10 * (uint64_t)MD_NS_PER_US);
    assert_in_range(looks(fixture, 1), 20, 60);
    md_loop_fd_remove(fixture->loop, &fd.fd);
    assert_int_equal(tear_down((void *[]){fixture}), 0);
}

/* Real time that a turn takes in which the loop coalesces. */
static uint64_t coalesced_ns(struct fixture *fixture)
{
    struct timespec begin, end;
    struct md_error err;

    md_loop_coalesce(fixture->loop);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &begin), 0);
    assert_true(md_loop_run_once(fixture->loop, -1, &err));
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &end), 0);
    return (uint64_t)(end.tv_sec - begin.tv_sec) * MD_NS_PER_S + (uint64_t)end.tv_nsec -
           (uint64_t)begin.tv_nsec;
}

static void test_loop_coalesces_events_and_timers_but_no_tasks(void **state)
{
    struct fixture *fixture = *state;
    struct noted_fd fd = {
        .fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture, .reads = true};
    struct noted_task task = {.task = {.run = run_noted}, .letter = 't'};
    struct noted_timer timer = {.timer = {.fire = fire_noted}, .letter = 'x'};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    clock_step_ns = 1000;
    const uint64_t looked_ns = md_loop_now_ns(fixture->loop);
    assert_true(coalesced_ns(fixture) >= MD_LOOP_COALESCE_NS);
    assert_ran("r");
    assert_true(md_loop_now_ns(fixture->loop) > looked_ns);
    assert_int_equal(md_loop_since_ns(fixture->loop), looked_ns);
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    assert_true(md_loop_run_once(fixture->loop, -1, &err)); /* once only: at once again */
    assert_ran("r");
    assert_int_equal(md_loop_since_ns(fixture->loop), md_loop_now_ns(fixture->loop));
    md_loop_post(fixture->loop, &task.task);
    (void)coalesced_ns(fixture); /* does not wait, though nothing is to be read */
    assert_ran("t");
    assert_true(md_loop_timer_reserve(fixture->loop, &err));
    md_loop_timer_set(fixture->loop, &timer.timer, clock_ns);
    assert_true(coalesced_ns(fixture) >= MD_LOOP_COALESCE_NS); /* though it is due */
    assert_ran("x");
    md_loop_timer_unreserve(fixture->loop);
    md_loop_fd_remove(fixture->loop, &fd.fd);
}

static void test_loop_coalesces_shortly_where_somebody_is_in_a_hurry(void **state)
{
    struct fixture *fixture = *state;
    uint64_t least_ns = UINT64_MAX;

    for (int i = 0; i < 10; i++) { /* each may be put off by others */
        md_loop_note_patience(fixture->loop, MD_LOOP_COALESCE_NS);
        uint64_t spent_ns = coalesced_ns(fixture);
        least_ns = spent_ns < least_ns ? spent_ns : least_ns;
    }
    assert_in_range(least_ns, MD_LOOP_COALESCE_NS / 8, MD_LOOP_COALESCE_NS - 1);
    for (int i = 0; i < 100; i++) {
        (void)coalesced_ns(fixture);
    }
    assert_true(coalesced_ns(fixture) >= MD_LOOP_COALESCE_NS); /* nobody any more */
}

/* More is ready than a turn takes: the rest does not wait again. */
static void test_loop_behind_does_not_coalesce(void **state)
{
    enum { FDS = 100 };
    static struct noted_fd fds[FDS];
    static int pairs[FDS][2];
    struct fixture *fixture = *state;
    struct md_error err;

    for (int i = 0; i < FDS; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pairs[i]), 0);
        fds[i] = (struct noted_fd){
            .fd = {.fd = pairs[i][0], .ready = ready_noted}, .fixture = fixture, .reads = true};
        assert_true(md_loop_fd_add(fixture->loop, &fds[i].fd, MD_LOOP_READ, &err));
        assert_int_equal(write(pairs[i][1], "x", 1), 1);
    }
    clock_step_ns = 1000;
    (void)coalesced_ns(fixture);
    assert_true(md_loop_since_ns(fixture->loop) < md_loop_now_ns(fixture->loop));
    assert_true(coalesced_ns(fixture) < MD_LOOP_COALESCE_NS);
    assert_int_equal(md_loop_since_ns(fixture->loop), md_loop_now_ns(fixture->loop));
    for (int i = 0; i < FDS; i++) {
        md_loop_fd_remove(fixture->loop, &fds[i].fd);
        (void)close(pairs[i][0]);
        (void)close(pairs[i][1]);
    }
    ran[0] = '\0';
}

static void test_loop_without_permission_does_not_spin(void **state)
{
    struct fixture *fixture = *state;
    struct noted_fd fd = {
        .fd = {.fd = fixture->pair[0], .ready = ready_noted}, .fixture = fixture, .reads = true};
    struct md_error err;

    assert_true(md_loop_fd_add(fixture->loop, &fd.fd, MD_LOOP_READ, &err));
    clock_step_ns = 1000;
    feed(fixture, 100, 10 * (uint64_t)MD_NS_PER_US);
    assert_int_equal(looks(fixture, 1), 1);
    md_loop_fd_remove(fixture->loop, &fd.fd);
}

/* --- life
 * -------------------------------------------------------------------------------------------------------------
 */

static void test_loop_create_failures(void **state)
{
    (void)state;
    for (int kind = 0; kind < MD_FAULT_KIND_COUNT; kind++) {
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            struct md_budget budget;
            struct md_error err = {0};
            struct md_loop *loop = NULL;
            md_budget_init(&budget, MIB);
            md_fault_arm((enum md_fault_kind)kind, n);
            bool ok = md_loop_create(&(struct md_loop_options){.budget = &budget, .cpu = -1}, &loop,
                                     &err);
            delivered = md_fault_disarm((enum md_fault_kind)kind);
            assert_int_equal(ok, !delivered);
            assert_int_equal(err.text[0] == '\0', ok);
            md_loop_destroy(loop);
            assert_true(n < 100);
        }
    }
}

static void test_loop_interrupted_wait_is_a_turn_without_events(void **state)
{
    struct fixture *fixture = *state;
    struct noted_task task = {.task.run = run_noted, .letter = 't', .fixture = fixture};

    md_loop_post(fixture->loop, &task.task);
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    turn(fixture);
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    assert_ran("t");
}

/* --- with threads
 * -----------------------------------------------------------------------------------------------------
 */

enum { POSTERS = 3, POSTS = 20000, ROUNDS = 100000 };

struct posted {
    struct md_loop_task task;
    struct md_loop *loop;
    unsigned poster, number;
};

static struct {
    struct posted tasks[POSTERS][POSTS];
    unsigned next[POSTERS]; /* written by the loop alone */
    unsigned wrong;
    sem_t all_ran;
} stress;

static void run_posted(struct md_loop_task *task)
{
    struct posted *self = MD_CONTAINER_OF(task, struct posted, task);

    stress.wrong += self->number != stress.next[self->poster] || md_loop_current() != self->loop;
    stress.next[self->poster]++;
    if (self->number == POSTS - 1) {
        sem_post(&stress.all_ran);
    }
}

static void *post_many(void *arg)
{
    struct posted *tasks = arg;

    for (unsigned i = 0; i < POSTS; i++) {
        md_loop_post(tasks[i].loop, &tasks[i].task);
        if (i % 64 == 0) {
            sched_yield(); /* lets the loop fall asleep now and then */
        }
    }
    return NULL;
}

static void test_loop_mailbox_loses_nothing_and_keeps_order(void **state)
{
    struct fixture *fixture = *state;
    pthread_t threads[POSTERS];
    struct md_error err;

    md_os_clock_install();
    assert_int_equal(sem_init(&stress.all_ran, 0, 0), 0);
    assert_true(md_loop_start(fixture->loop, &err));
    for (unsigned p = 0; p < POSTERS; p++) {
        for (unsigned i = 0; i < POSTS; i++) {
            stress.tasks[p][i] = (struct posted){
                .task.run = run_posted, .loop = fixture->loop, .poster = p, .number = i};
        }
        assert_int_equal(pthread_create(&threads[p], NULL, post_many, stress.tasks[p]), 0);
    }
    for (unsigned p = 0; p < POSTERS; p++) {
        sem_wait(&stress.all_ran);
    }
    for (unsigned p = 0; p < POSTERS; p++) {
        pthread_join(threads[p], NULL);
    }
    md_loop_stop(fixture->loop);
    md_loop_join(fixture->loop);
    assert_int_equal(stress.wrong, 0);
    assert_null(md_loop_current());
    sem_destroy(&stress.all_ran);
}

struct ping {
    struct md_loop_task task;
    sem_t answered;
    pid_t thread;
};

static void answer(struct md_loop_task *task)
{
    struct ping *self = MD_CONTAINER_OF(task, struct ping, task);

    self->thread = gettid();
    sem_post(&self->answered);
}

struct quick_ping {
    struct md_loop_task task;
    atomic_uint answers;
};

static void answer_quickly(struct md_loop_task *task)
{
    atomic_fetch_add(&MD_CONTAINER_OF(task, struct quick_ping, task)->answers, 1);
}

/* One task at a time, posted at every distance from the moment when the loop falls asleep: a lost
 * wake-up hangs. */
static void test_loop_sleeping_loop_is_always_woken(void **state)
{
    struct fixture *fixture = *state;
    struct quick_ping ping = {.task.run = answer_quickly};
    struct md_error err;

    md_os_clock_install();
    assert_true(md_loop_start(fixture->loop, &err));
    for (unsigned round = 1; round <= ROUNDS; round++) {
        md_loop_post(fixture->loop, &ping.task);
        for (unsigned looks_at = 1; atomic_load(&ping.answers) != round; looks_at++) {
            if (looks_at % 256 == 0) {
                sched_yield();
            }
        }
        for (volatile unsigned pause = 0; pause < round % 512; pause++) {}
    }
    md_loop_stop(fixture->loop);
    md_loop_join(fixture->loop);
}

/* The argument `timeout` of the wait that the thread is in, as the kernel shows it; false while it
 * runs. */
static bool read_wait_timeout(pid_t thread, int *timeout_ms)
{
    char path[64], text[256] = {0};
    unsigned long arguments[4];
    long call;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/syscall", thread);
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    close(fd);
    if (n <= 0 || sscanf(text, "%ld %lx %lx %lx %lx", &call, &arguments[0], &arguments[1],
                         &arguments[2], &arguments[3]) != 5) {
        return false;
    }
    *timeout_ms = (int)arguments[3];
    return true;
}

static void test_loop_idle_loop_sleeps_without_timeout(void **state)
{
    struct fixture *fixture = *state;
    struct ping ping = {.task.run = answer};
    struct md_error err;
    int timeout_ms = 0;

    md_os_clock_install();
    if (access("/proc/self/syscall", R_OK) != 0) {
        skip();
    }
    assert_int_equal(sem_init(&ping.answered, 0, 0), 0);
    assert_true(md_loop_start(fixture->loop, &err));
    md_loop_post(fixture->loop, &ping.task);
    sem_wait(&ping.answered);
    uint64_t limit = md_clock_monotonic_ns() + 20 * (uint64_t)MD_NS_PER_S;
    while (timeout_ms != -1 && md_clock_monotonic_ns() < limit) {
        if (!read_wait_timeout(ping.thread, &timeout_ms)) {
            sched_yield();
        }
    }
    assert_int_equal(timeout_ms, -1);
    md_loop_stop(fixture->loop);
    md_loop_join(fixture->loop);
    sem_destroy(&ping.answered);
}

static void test_loop_start_failure(void **state)
{
    struct fixture *fixture = *state;
    struct md_error err;

    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_false(md_loop_start(fixture->loop, &err));
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    assert_non_null(strstr(err.text, "loop-5"));
}

static void test_loop_counts_connections(void **state)
{
    struct fixture *fixture = *state;

    md_loop_count_connection(fixture->loop, 1);
    md_loop_count_connection(fixture->loop, 1);
    md_loop_count_connection(fixture->loop, -1);
    assert_int_equal(md_loop_connection_count(fixture->loop), 1);
    assert_int_equal(md_loop_index(fixture->loop), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loop_timers_fire_in_order_when_due, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_timer_may_change_timers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_tasks_run_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_deferred_task_lets_others_run, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_fd_removed_by_another_is_not_called, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_fd_events_follow_what_is_asked_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_fd_hangup_is_told_unasked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_idle_pool_is_trimmed_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_spins_only_when_it_pays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_coalesces_events_and_timers_but_no_tasks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_coalesces_shortly_where_somebody_is_in_a_hurry,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_behind_does_not_coalesce, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_without_permission_does_not_spin, set_up,
                                        tear_down),
        cmocka_unit_test(test_loop_create_failures),
        cmocka_unit_test_setup_teardown(test_loop_interrupted_wait_is_a_turn_without_events, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_mailbox_loses_nothing_and_keeps_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_sleeping_loop_is_always_woken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_idle_loop_sleeps_without_timeout, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_loop_start_failure, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_loop_counts_connections, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
