/*
 * Signals: sigtimedwait for the ones we wait for, an alternate stack for the ones that kill us.
 */
#include "os/signal.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void waited_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

/* Async-signal-safe text building. */
static size_t put(char *line, size_t at, size_t max, const char *text)
{
    while (*text && at < max) {
        line[at++] = *text++;
    }
    return at;
}

static size_t put_number(char *line, size_t at, size_t max, int64_t value)
{
    char digits[24];
    size_t n = sizeof digits;

    digits[--n] = '\0';
    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0 && n > 0);
    return put(line, at, max, digits + n);
}

static void crash(int number)
{
    const struct md_log_context *context = md_log_get_context();
    char line[512];
    size_t max = sizeof line - 1, at = 0;

    at = put(line, at, max, "modeld: fatal signal ");
    at = put_number(line, at, max, number);
    at = put(line, at, max, " (");
    at = put(line, at, max, sigabbrev_np(number) ? sigabbrev_np(number) : "?");
    at = put(line, at, max, ")");
    if (context && context->model) {
        at = put(line, at, max, " while executing model '");
        at = put(line, at, max, context->model);
        at = put(line, at, max, "' version ");
        at = put_number(line, at, max, context->version);
        at = put(line, at, max, ", request id '");
        at = put(line, at, max, context->request_id ? context->request_id : "");
        at = put(line, at, max, "'");
    }
    line[at++] = '\n';
    if (write(STDERR_FILENO, line, at) < 0) {
        /* nothing left to do */
    }
    signal(number, SIG_DFL);
    raise(number);
}

void md_os_signal_setup(void)
{
    static char stack[64 * 1024];
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_handler = crash, .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
    sigset_t set;

    waited_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    (void)sigaltstack(&alternate, NULL);
    for (size_t i = 0; i < MD_COUNT_OF(fatal); i++) {
        (void)sigaction(fatal[i], &action, NULL);
    }
}

int md_os_signal_wait(int timeout_ms)
{
    const struct timespec limit = {.tv_sec = timeout_ms / 1000, .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    sigset_t set;

    waited_set(&set);
    int number = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &limit);
    return number > 0 ? number : 0;
}

void md_os_signal_raise(int number)
{
    (void)kill(getpid(), number);
}

bool md_os_signal_is_reload(int number)
{
    return number == SIGHUP;
}
