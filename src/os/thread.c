/*
 * Threads over pthreads.
 */
#include "os/thread.h"

#include "base/alloc.h"
#include "base/fault.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct thread_start {
    void (*run)(void *arg);
    void *arg;
};

static void *thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;

    md_free(arg);
    start.run(start.arg);
    return NULL;
}

bool md_os_thread_start(struct md_os_thread *thread, const char *name, int cpu, void (*run)(void *arg), void *arg,
                        struct md_error *err)
{
    struct thread_start *start = md_alloc(sizeof *start);
    sigset_t all, before;

    if (!start) {
        return md_error_no_memory(err, "a thread");
    }
    *start = (struct thread_start){.run = run, .arg = arg};
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = md_fault_hit(MD_FAULT_SYSCALL) ? EAGAIN : pthread_create(&thread->id, NULL, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) {
        md_free(start);
        return md_error_set(err, MD_REASON_OUT_OF_MEMORY, "cannot start thread '%s': %s", name, strerror(code));
    }
    pthread_setname_np(thread->id, name);
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        (void)pthread_setaffinity_np(thread->id, sizeof set, &set); /* a wish: the CPU may be gone */
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

    while (nanosleep(&rest, &rest) < 0 && errno == EINTR) {
    }
}
