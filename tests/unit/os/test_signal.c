/*
 * os/signal: what is waited for, and the last line of a process that crashes. Each case runs in a
 * child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "os/signal.h"
#include "os/thread.h"

struct outcome {
    int status;
    char text[1024]; /* what the child wrote to standard error */
};

static void run_child(void (*child)(void), struct outcome *outcome)
{
    const struct rlimit no_core = {0};
    int pipe_ends[2];
    size_t used = 0;
    ssize_t n;

    assert_int_equal(pipe(pipe_ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)dup2(pipe_ends[1], STDERR_FILENO);
        md_os_signal_setup();
        child();
        _exit(0);
    }
    close(pipe_ends[1]);
    while ((n = read(pipe_ends[0], outcome->text + used, sizeof outcome->text - 1 - used)) > 0) {
        used += (size_t)n;
    }
    outcome->text[used] = '\0';
    close(pipe_ends[0]);
    assert_int_equal(waitpid(pid, &outcome->status, 0), pid);
}

static const struct md_log_context context = {
    .model = "resnet", .version = 3, .request_id = "r\n7"};

static void die_of_segv(void)
{
    (void)md_log_set_context(&context);
    raise(SIGSEGV);
}

static void die_of_abort(void)
{
    (void)md_log_set_context(&context);
    abort();
}

static void die_in_thread_body(void *arg)
{
    (void)arg;
    die_of_segv();
}

static void die_in_thread(void)
{
    struct md_os_thread thread;
    struct md_error err;

    if (md_os_thread_start(&thread, "victim", -1, die_in_thread_body, NULL, &err)) {
        md_os_thread_join(&thread);
    }
}

static void die_without_context(void)
{
    raise(SIGFPE);
}

static void test_signal_crash_is_reported_and_kills(void **state)
{
    static const struct {
        void (*child)(void);
        int number;
        const char *says;
    } rows[] = {
        {die_of_segv, SIGSEGV,
         "modeld: fatal signal 11 (SIGSEGV) while executing model 'resnet' version 3, request id "
         "'r?7'\n"},
        {die_of_abort, SIGABRT,
         "(SIGABRT) while executing model 'resnet' version 3, request id 'r?7'\n"},
        {die_in_thread, SIGSEGV,
         "(SIGSEGV) while executing model 'resnet' version 3, request id 'r?7'\n"},
        {die_without_context, SIGFPE, "modeld: fatal signal 8 (SIGFPE)\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct outcome outcome;
        run_child(rows[i].child, &outcome);
        assert_true(WIFSIGNALED(outcome.status));
        assert_int_equal(WTERMSIG(outcome.status), rows[i].number);
        assert_non_null(strstr(outcome.text, rows[i].says));
        assert_ptr_equal(strchr(outcome.text, '\n') + 1, outcome.text + strlen(outcome.text));
    }
}

static void wait_for_each(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < MD_COUNT_OF(numbers); i++) {
        (void)kill(getpid(), numbers[i]);
        if (md_os_signal_wait(-1) != numbers[i] ||
            md_os_signal_is_reload(numbers[i]) != (numbers[i] == SIGHUP)) {
            _exit(1);
        }
    }
    (void)kill(getpid(), SIGPIPE);
    if (md_os_signal_wait(0) != 0) {
        _exit(2);
    }
    md_os_signal_request_end();
    if (md_os_signal_wait(-1) != SIGTERM) {
        _exit(3);
    }
}

static void test_signal_wait_returns_what_came(void **state)
{
    struct outcome outcome;

    (void)state;
    run_child(wait_for_each, &outcome);
    assert_true(WIFEXITED(outcome.status));
    assert_int_equal(WEXITSTATUS(outcome.status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signal_crash_is_reported_and_kills),
        cmocka_unit_test(test_signal_wait_returns_what_came),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
