/*
 * Signals: sigtimedwait for the ones we wait for, an alternate stack for the ones that kill us.
 */
#include "os/signal.h"

#include "base/log.h"
#include "os/log_file.h"
#include "os/shared_memory.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void waited_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
}

/* What the thread was working on; of an engine's own thread nobody knows, so then what any thread
 * is working on. */
static void report(int number)
{
    const struct md_log_context *own = md_log_get_context(), *other;
    char text[96];

    (void)snprintf(text, sizeof text, "fatal signal %d (SIG%s)", number,
                   sigabbrev_np(number) ? sigabbrev_np(number) : "?");
    md_os_log_last(own, text);
    for (size_t i = 0; !own && i < MD_LOG_THREADS_MAX; i++) {
        if ((other = md_log_context_of(i))) {
            md_os_log_last(other, "this was running when the signal came");
        }
    }
}

static void crash(int number)
{
    report(number);
    signal(number, SIG_DFL);
    raise(number);
}

/* Memory that a client has taken away is its own trouble, not this process's. */
static void bus_error(int number, siginfo_t *info, void *context)
{
    const int before = errno;

    (void)context;
    if (info->si_code == BUS_ADRERR && md_os_shm_absorb(info->si_addr)) {
        errno = before;
        return;
    }
    crash(number);
}

void md_os_signal_setup(void)
{
    static char stack[64 * 1024];
    static const int fatal[] = {SIGSEGV, SIGILL, SIGFPE, SIGABRT};
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = crash,
                               .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    const struct sigaction bus = {.sa_sigaction = bus_error,
                                  .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_NODEFER)};
    sigset_t set;

    waited_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a log file at its limit is written no further, that is all */
    (void)sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < MD_COUNT_OF(fatal); i++) {
        (void)sigaction(fatal[i], &action, NULL);
    }
    (void)sigaction(SIGBUS, &bus, NULL);
}

int md_os_signal_wait(int timeout_ms)
{
    const struct timespec limit = {.tv_sec = timeout_ms / 1000,
                                   .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    sigset_t set;

    waited_set(&set);
    int number = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &limit);
    return number > 0 ? number : 0;
}

void md_os_signal_wake(void)
{
    (void)kill(getpid(), SIGUSR1);
}

bool md_os_signal_is_end(int number)
{
    return number == SIGTERM || number == SIGINT;
}

bool md_os_signal_is_reload(int number)
{
    return number == SIGHUP;
}
