/*
 * Signals: sigtimedwait for the ones we wait for, an alternate stack for the ones that kill us.
 */
#include "os/signal.h"

#include "base/log.h"
#include "os/log_file.h"

#include <signal.h>
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

/* A line that is built without anything that is not async-signal-safe. */
struct crash_line {
    char text[512];
    size_t len;
};

static void put(struct crash_line *line, const char *text)
{
    for (; *text && line->len < sizeof line->text - 1; text++) {
        unsigned char c = (unsigned char)*text;
        line->text[line->len++] =
            c < 0x20 || c == 0x7f ? '?' : *text; /* names may come from a client */
    }
}

static void put_number(struct crash_line *line, int64_t value)
{
    char digits[24];
    size_t at = sizeof digits - 1;
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude);
    if (value < 0) {
        digits[--at] = '-';
    }
    put(line, digits + at);
}

static void describe(struct crash_line *line, int number, const struct md_log_context *context)
{
    put(line, "modeld: fatal signal ");
    put_number(line, number);
    put(line, " (SIG");
    put(line, sigabbrev_np(number) ? sigabbrev_np(number) : "?");
    put(line, ")");
    if (context && context->model) {
        put(line, " while executing model '");
        put(line, context->model);
        put(line, "' version ");
        put_number(line, context->version);
        put(line, ", request id '");
        put(line, context->request_id ? context->request_id : "");
        put(line, "'");
    }
    line->text[line->len++] = '\n';
}

static void crash(int number)
{
    struct crash_line line = {.len = 0};
    int log = md_os_log_descriptor();

    describe(&line, number, md_log_get_context());
    if (write(STDERR_FILENO, line.text, line.len) < 0 ||
        (log != STDERR_FILENO && write(log, line.text, line.len) < 0)) {
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
    struct sigaction action = {.sa_handler = crash,
                               .sa_flags = (int)(SA_ONSTACK | SA_RESETHAND | SA_NODEFER)};
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
    const struct timespec limit = {.tv_sec = timeout_ms / 1000,
                                   .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    sigset_t set;

    waited_set(&set);
    int number = timeout_ms < 0 ? sigwaitinfo(&set, NULL) : sigtimedwait(&set, NULL, &limit);
    return number > 0 ? number : 0;
}

void md_os_signal_raise(int number)
{
    (void)kill(getpid(), number);
}

void md_os_signal_wake(void)
{
    md_os_signal_raise(SIGUSR1);
}

bool md_os_signal_is_end(int number)
{
    return number == SIGTERM || number == SIGINT;
}

bool md_os_signal_is_reload(int number)
{
    return number == SIGHUP;
}
