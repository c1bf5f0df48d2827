/*
 * os/thread: name, signals, priority, CPU, failure.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/thread.h"

struct report {
    bool ran;
    sigset_t blocked;
    stack_t crash_stack;
    int niceness;
    cpu_set_t cpus;
};

static void look_around(void *arg)
{
    struct report *report = arg;

    report->ran = true;
    pthread_sigmask(SIG_SETMASK, NULL, &report->blocked);
    sigaltstack(NULL, &report->crash_stack);
    md_os_thread_be_nice();
    report->niceness = getpriority(PRIO_PROCESS, (id_t)gettid());
}

static void test_thread_runs_with_signals_blocked_but_crashes(void **state)
{
    static const struct {
        int number;
        int blocked;
    } rows[] = {{SIGTERM, 1}, {SIGINT, 1}, {SIGHUP, 1}, {SIGPIPE, 1}, {SIGSEGV, 0},
                {SIGBUS, 0},  {SIGILL, 0}, {SIGFPE, 0}, {SIGABRT, 0}};
    struct md_os_thread thread;
    struct report report = {0};
    struct md_error err;
    sigset_t own;
    int niceness = getpriority(PRIO_PROCESS, 0);

    (void)state;
    assert_true(md_os_thread_start(&thread, "looker", -1, look_around, &report, &err));
    md_os_thread_join(&thread);
    assert_true(report.ran);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        assert_int_equal(sigismember(&report.blocked, rows[i].number), rows[i].blocked);
    }
    assert_false(report.crash_stack.ss_flags & SS_DISABLE);
    assert_true(report.crash_stack.ss_size >= 16 * 1024);
    assert_true(report.niceness >= 10);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &own), 0);
    assert_int_equal(sigismember(&own, SIGTERM), 0);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), niceness);
}

static void wait_for_go(void *arg)
{
    pthread_mutex_lock(arg);
    pthread_mutex_unlock(arg);
}

static void test_thread_is_named_and_pinned(void **state)
{
    pthread_mutex_t go = PTHREAD_MUTEX_INITIALIZER;
    struct md_os_thread thread;
    struct md_error err;
    cpu_set_t cpus;
    char name[32];
    int cpu = sched_getcpu();

    (void)state;
    pthread_mutex_lock(&go);
    assert_true(md_os_thread_start(&thread, "loop-7", cpu, wait_for_go, &go, &err));
    assert_int_equal(pthread_getname_np(thread.id, name, sizeof name), 0);
    assert_string_equal(name, "loop-7");
    assert_int_equal(pthread_getaffinity_np(thread.id, sizeof cpus, &cpus), 0);
    assert_int_equal(CPU_COUNT(&cpus), 1);
    assert_true(CPU_ISSET((unsigned)cpu, &cpus));
    pthread_mutex_unlock(&go);
    md_os_thread_join(&thread);
}

static void test_thread_start_failures(void **state)
{
    struct md_os_thread thread;
    struct report report = {0};
    struct md_error err;

    (void)state;
    for (int kind = 0; kind <= MD_FAULT_SYSCALL; kind++) {
        md_fault_arm((enum md_fault_kind)kind, 0);
        assert_false(md_os_thread_start(&thread, "never", -1, look_around, &report, &err));
        assert_true(md_fault_disarm((enum md_fault_kind)kind));
        assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
    }
    assert_false(report.ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_runs_with_signals_blocked_but_crashes),
        cmocka_unit_test(test_thread_is_named_and_pinned),
        cmocka_unit_test(test_thread_start_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
