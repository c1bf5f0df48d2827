/*
 * os/signal: what is waited for, and the last line of a process that crashes. Each case runs in a
 * child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "os/log_file.h"
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

static void *die_in_foreign_thread(void *arg)
{
    raise(SIGSEGV);
    return arg;
}

/* As an engine's own thread does, which knows nothing of the request that it works for. */
static void die_beside_a_context(void)
{
    pthread_t thread;

    (void)md_log_set_context(&context);
    if (pthread_create(&thread, NULL, die_in_foreign_thread, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

static void die_in_json(void)
{
    struct md_error err;

    if (md_os_log_open(NULL, MD_LOG_FORMAT_JSON, &err)) {
        die_of_abort();
    }
}

static void test_signal_crash_is_reported_and_kills(void **state)
{
    static const struct {
        void (*child)(void);
        int number;
        const char *says;
    } rows[] = {
        {die_of_segv, SIGSEGV,
         "*[[]model resnet version 3 request r?u000a7] fatal signal 11 (SIGSEGV)\n"},
        {die_of_abort, SIGABRT,
         "*[[]model resnet version 3 request r?u000a7] fatal signal 6 (SIGABRT)\n"},
        {die_in_thread, SIGSEGV,
         "*[[]model resnet version 3 request r?u000a7] fatal signal 11 (SIGSEGV)\n"},
        {die_without_context, SIGFPE, "E* fatal signal 8 (SIGFPE)\n"},
        {die_beside_a_context, SIGSEGV,
         "E* fatal signal 11 (SIGSEGV)\n"
         "*[[]model resnet version 3 request r?u000a7] this was running when the signal came\n"},
        {die_in_json, SIGABRT,
         "{\"time\":\"2*Z\",\"level\":\"error\",\"message\":\"fatal signal 6 (SIGABRT)\","
         "\"model\":\"resnet\",\"version\":3,\"request_id\":\"r?u000a7\"}\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct outcome outcome;
        run_child(rows[i].child, &outcome);
        assert_true(WIFSIGNALED(outcome.status));
        assert_int_equal(WTERMSIG(outcome.status), rows[i].number);
        if (fnmatch(rows[i].says, outcome.text, 0) != 0) {
            fail_msg("row %zu: %s", i, outcome.text);
        }
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
