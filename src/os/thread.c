/*
 * Threads over pthreads. Each has a stack for the crash handler, so that a stack overflow is
 * reported too.
 */
#include "os/thread.h"

#include "base/alloc.h"
#include "base/log.h"
#include "os/inject.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CRASH_STACK_BYTES = 32 * 1024 };

struct thread_start {
    void (*run)(void *arg);
    void *arg;
    char crash_stack[CRASH_STACK_BYTES];
};

static void *thread_main(void *arg)
{
    struct thread_start *start = arg;
    const stack_t crash_stack = {.ss_sp = start->crash_stack, .ss_size = sizeof start->crash_stack};
    const stack_t none = {.ss_flags = SS_DISABLE};

    (void)sigaltstack(&crash_stack, NULL);
    start->run(start->arg);
    md_log_forget_thread();
    (void)sigaltstack(&none, NULL);
    md_free(start);
    return NULL;
}

static void blocked_in_threads(sigset_t *set)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

    sigfillset(set);
    /* Blocked, these would kill without a word from the crash handler. */
    for (size_t i = 0; i < MD_COUNT_OF(crashes); i++) {
        sigdelset(set, crashes[i]);
    }
}

bool md_os_thread_start(struct md_os_thread *thread, const char *name, int cpu,
                        void (*run)(void *arg), void *arg, struct md_error *err)
{
    struct thread_start *start = md_alloc(sizeof *start);
    sigset_t blocked, before;

    if (!start) {
        return md_error_no_memory(err, "a thread");
    }
    start->run = run;
    start->arg = arg;
    blocked_in_threads(&blocked);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int code =
        md_os_injected(EAGAIN) ? EAGAIN : pthread_create(&thread->id, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        md_free(start);
        return md_error_set(err, MD_REASON_OUT_OF_MEMORY, "cannot start thread '%s': %s", name,
                            strerror(code));
    }
    pthread_setname_np(thread->id, name);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        (void)pthread_setaffinity_np(thread->id, sizeof set,
                                     &set); /* a wish: the CPU may be gone */
    }
    return true;
}

void md_os_thread_join(struct md_os_thread *thread)
{
    pthread_join(thread->id, NULL);
}

void md_os_thread_be_nice(void)
{
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 10); /* a wish */
}

void md_os_sleep_ms(unsigned ms)
{
    struct timespec rest = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    while (nanosleep(&rest, &rest) < 0 && errno == EINTR) {}
}
