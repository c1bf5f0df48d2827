/*
 * The whole server, started and ended in a process of its own, with every call failing once, or all
 * from one on: it ends in time, with the right status or one of its own for a failure, says why,
 * leaks nothing (where the sanitizer looks) and leaves no socket file.
 */
#include "torture/folder.h"
#include "torture/torture.h"

#include "os/clock.h"
#include "os/memory.h"
#include "os/signal.h"
#include "os/thread.h"
#include "server/server.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EVERY = 24, SILENCE_MS = 300, PATIENCE_MS = 30000, DELIVERED = 16, STATUS_MAX = 2 };

static int set_up(void **state)
{
    static const char *const folders[] = {"r",     "r/a",   "r/a/1", "r/b",
                                          "r/b/1", "r/b/2", "r/c",   "r/c/1"};

    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    for (size_t i = 0; i < MD_COUNT_OF(folders); i++) {
        assert_int_equal(mkdir(in_folder(folders[i]), 0700), 0);
    }
    put("r/a/config.pbtxt",
        "backend: \"identity\" input { name: \"I\" data_type: TYPE_FP32 dims: 4 } "
        "output { name: \"O\" data_type: TYPE_FP32 dims: 4 label_filename: \"l\" }");
    put("r/a/l", "one\ntwo\n");
    put("r/b/config.pbtxt", "backend: \"repeat\" version_policy { all { } }");
    put("r/c/config.pbtxt", "backend: \"identity\" max_batch_size: -1");
    put("config.yaml", "id: tortured\nbackend-config: ['identity,k=v']\n"
                       "models: [{pattern: a, config: {max_batch_size: 2}}]\n");
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

/* --- the child -------------------- */

/* What is asked of the server beside the usual, and how it ends. */
static const struct request {
    const char *flag;
    int status;
} requests[] = {
    {"--exit-on-error=false", 0}, {"--exit-on-error=true", 1}, /* one model is wrong */
    {"--check-config", 1},        {"--help", 0},
    {"--htp-port=1", 2},
};

/* It is asked to end before it begins: so it does once it is ready. */
static void serve(const struct torture *t, const struct request *request, int say)
{
    char repository[128], config[128], socket[128];
    char *const argv[] = {(char *)(uintptr_t) "modeld",
                          repository,
                          config,
                          socket,
                          (char *)(uintptr_t) "--http-address=127.0.0.1",
                          (char *)(uintptr_t) "--http-port=0",
                          (char *)(uintptr_t) "--grpc-address=127.0.0.1",
                          (char *)(uintptr_t) "--grpc-port=0",
                          (char *)(uintptr_t) "--metrics-address=127.0.0.1",
                          (char *)(uintptr_t) "--metrics-port=0",
                          (char *)(uintptr_t) "--http-thread-count=2",
                          (char *)(uintptr_t) "--executor-threads=2",
                          (char *)(uintptr_t) "--inflight-bytes=100000000",
                          (char *)(uintptr_t)request->flag};

    (void)snprintf(repository, sizeof repository, "--model-repository=%s/r", folder);
    (void)snprintf(config, sizeof config, "--config=%s/config.yaml", folder);
    (void)snprintf(socket, sizeof socket, "--http-unix-socket=%s/socket", folder);
    (void)dup2(say, 1);
    (void)dup2(say, 2);
    md_os_memory_setup();
    md_os_signal_setup();
    md_os_clock_install();
    torture_arm(t);
    int status = md_server_main((int)MD_COUNT_OF(argv), argv);
    exit(status | (md_fault_disarm(t->kind) ? DELIVERED : 0));
}

/* --- the parent -------------------- */

/* Reads until the child has closed its end, and asks it to end once it is ready, or is silent;
 * false: it takes too long. */
static bool listen_to(pid_t child, int hear, char *said, size_t size)
{
    bool asked = false;
    size_t len = 0;
    ssize_t n = 1;

    said[0] = '\0';
    while (n > 0) {
        struct pollfd wait = {.fd = hear, .events = POLLIN};
        int heard = poll(&wait, 1, asked ? PATIENCE_MS : SILENCE_MS);
        if (heard <= 0 && asked) {
            return false;
        }
        char rest[4096];
        n = heard > 0 ? read(hear, rest, sizeof rest) : 1;
        size_t kept = heard > 0 && n > 0 ? md_size_min((size_t)n, size - 1 - len) : 0;
        memcpy(said + len, rest, kept);
        len += kept;
        said[len] = '\0';
        if (!asked && (heard <= 0 || strstr(said, "ready: "))) {
            asked = true;
            (void)kill(child, SIGTERM);
        }
    }
    return true;
}

static void run(struct torture *t, const struct request *request)
{
    static char said[65536];
    int pipes[2], status;

    assert_int_equal(pipe(pipes), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        serve(t, request, pipes[1]);
    }
    assert_true(child > 0);
    close(pipes[1]);
    bool in_time = listen_to(child, pipes[0], said, sizeof said);
    close(pipes[0]);
    if (!in_time) {
        kill(child, SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    t->delivered = WIFEXITED(status) && (WEXITSTATUS(status) & DELIVERED);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) & ~DELIVERED : -1;
    bool can_speak = t->kind != MD_FAULT_SYSCALL; /* the word itself may be what is lost */
    bool is_well = in_time && code >= 0 && code <= STATUS_MAX &&
                   (code == request->status || (t->delivered && code != 0)) &&
                   (code == 0 || *said || !can_speak) && access(in_folder("socket"), F_OK) != 0;
    if (!is_well) {
        print_error("in time: %d, status: %x\n%s\n", in_time, (unsigned)status, said);
    }
    torture_check(t, is_well);
}

static void torture_server(enum md_fault_kind kind)
{
    for (size_t i = 0; i < MD_COUNT_OF(requests); i++) {
        for (struct torture t = {.kind = kind, .every = EVERY}; torture_next(&t);) {
            run(&t, &requests[i]);
        }
    }
}

static void test_torture_server_short_of_memory(void **state)
{
    (void)state;
    torture_server(MD_FAULT_ALLOC);
    torture_server(MD_FAULT_REGION);
}

static void test_torture_server_failing_system(void **state)
{
    (void)state;
    torture_server(MD_FAULT_SYSCALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_server_short_of_memory),
        cmocka_unit_test(test_torture_server_failing_system),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
