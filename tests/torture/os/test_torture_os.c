/*
 * What the system is asked for outside of serving, with every system call and allocation failing
 * once, or all from one on: it is told, or refused with a sentence, never told wrong; afterwards
 * it works as ever. Serving sockets: see test_torture_sockets.
 */
#include "torture/folder.h"
#include "torture/torture.h"

#include "base/clock.h"
#include "base/log.h"
#include "os/cgroup.h"
#include "os/file.h"
#include "os/library.h"
#include "os/log_file.h"
#include "os/memory.h"
#include "os/poll.h"
#include "os/port_holder.h"
#include "os/process.h"
#include "os/socket.h"
#include "os/thread.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- calls that succeed or say why -------------------- */

static bool read_file(struct md_arena *arena, struct md_error *err)
{
    struct md_str text;

    return md_os_file_read(in_folder("file"), 100, arena, &text, err) &&
           md_str_eq_c(text, "content");
}

static bool list_folder(struct md_arena *arena, struct md_error *err)
{
    struct md_os_listing listing;

    if (!md_os_list(in_folder("list"), arena, &listing, err)) {
        return false;
    }
    assert_int_equal(listing.count, 40);
    for (size_t i = 0; i < listing.count; i++) {
        assert_int_equal(listing.entries[i].is_directory, i % 2);
    }
    return true;
}

static bool find_path(struct md_arena *arena, struct md_error *err)
{
    const char *path;

    return md_os_real_path(in_folder("list"), arena, &path, err);
}

static bool find_program(struct md_arena *arena, struct md_error *err)
{
    const char *path;

    return md_os_process_directory(arena, &path, err);
}

static bool open_library(struct md_arena *arena, struct md_error *err)
{
    void *library;

    (void)arena;
    if (!md_os_library_open("libz.so.1", &library, err)) {
        return false;
    }
    md_os_library_close(library);
    return true;
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

static bool run_thread(struct md_arena *arena, struct md_error *err)
{
    struct md_os_thread thread;
    bool ran = false;

    (void)arena;
    if (!md_os_thread_start(&thread, "torture", -1, set_flag, &ran, err)) {
        return false;
    }
    md_os_thread_join(&thread);
    return ran;
}

static bool listen_unix(struct md_arena *arena, struct md_error *err)
{
    char address[160];
    uint16_t port;
    int fd;

    (void)arena;
    (void)snprintf(address, sizeof address, "unix:%s", in_folder("socket"));
    if (!md_os_socket_listen(address, 0, false, &fd, &port, err)) {
        assert_int_not_equal(access(in_folder("socket"), F_OK), 0);
        return false;
    }
    md_os_close(fd);
    md_os_socket_forget(address);
    return true;
}

static bool wake_poller(struct md_arena *arena, struct md_error *err)
{
    struct md_os_event event;
    int poller, wakeup = -1, owner = 0;

    (void)arena;
    bool ok = md_os_poll_create(&poller, err) && md_os_wakeup_create(poller, &owner, &wakeup, err);
    if (ok) {
        md_os_wakeup_signal(wakeup);
        while (md_os_poll_wait(poller, &event, 1, 0) == 0) {} /* interrupted, at most once */
    }
    md_os_close(wakeup);
    md_os_close(poller);
    return ok;
}

static uint64_t open_descriptors(void)
{
    struct md_os_process_usage usage;

    md_os_process_usage(&usage);
    return usage.open_descriptors;
}

static void test_torture_os_calls_succeed_or_say_why(void **state)
{
    static bool (*const calls[])(struct md_arena *, struct md_error *) = {
        read_file,    list_folder, find_path,   find_program,
        open_library, run_thread,  listen_unix, wake_poller,
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(calls); i++) {
        for (struct torture t = {.kind = MD_FAULT_SYSCALL}; torture_next(&t);) {
            struct md_arena arena = {0};
            struct md_error err = {0};
            if (t.lasting && calls[i] == wake_poller && t.at > 2) {
                break; /* a wait that is always interrupted never ends */
            }
            uint64_t before = open_descriptors();
            torture_arm(&t);
            bool ok = calls[i](&arena, &err);
            bool delivered = torture_disarm(&t);
            torture_check(&t, ok || (delivered && err.text[0]));
            torture_check(&t, open_descriptors() == before);
            torture_check(&t, calls[i](&arena, &err));
            md_arena_deinit(&arena);
        }
    }
}

/* --- what is told is right, or nothing -------------------- */

static void test_torture_os_cgroup(void **state)
{
    (void)state;
    put("membership", "0::/a\n");
    (void)mkdir(in_folder("a"), 0700);
    put("memory.max", "5000\n");
    put("cpu.max", "300000 100000\n");
    put("a/memory.max", "4000\n");
    put("a/cpu.max", "200000 100000\n");
    for (struct torture t = {.kind = MD_FAULT_SYSCALL}; torture_next(&t);) {
        struct md_os_cgroup limits;
        char membership[128];
        (void)snprintf(membership, sizeof membership, "%s", in_folder("membership"));
        torture_arm(&t);
        md_os_cgroup_read(membership, folder, &limits);
        bool delivered = torture_disarm(&t);
        torture_check(&t, limits.memory_bytes == 4000 ||
                              (delivered &&
                               (limits.memory_bytes == 5000 || limits.memory_bytes == SIZE_MAX)));
        torture_check(&t, (int)limits.cpu_quota == 2 ||
                              (delivered && ((int)limits.cpu_quota == 3 || limits.cpu_quota <= 0)));
    }
}

static void test_torture_os_process(void **state)
{
    struct md_os_process_usage right;

    (void)state;
    md_os_process_usage(&right);
    for (struct torture t = {.kind = MD_FAULT_SYSCALL}; torture_next(&t);) {
        struct md_os_process_usage usage;
        torture_arm(&t);
        md_os_process_usage(&usage);
        unsigned cpus = md_os_process_cpu_count();
        double quota = md_os_process_cpu_quota();
        size_t memory = md_os_memory_limit();
        bool delivered = torture_disarm(&t);
        torture_check(&t, cpus >= 1 && quota >= 0 && memory > 0);
        torture_check(&t, usage.open_descriptors == right.open_descriptors || delivered);
        torture_check(&t, usage.threads == right.threads || (delivered && usage.threads == 0));
        torture_check(&t, usage.max_descriptors == right.max_descriptors || delivered);
        torture_check(&t, usage.start_time_seconds >= right.start_time_seconds);
    }
}

static void test_torture_os_port_holder(void **state)
{
    struct md_error err;
    uint16_t port;
    int fd;

    (void)state;
    assert_true(md_os_socket_listen("127.0.0.1", 0, false, &fd, &port, &err));
    for (struct torture t = {.kind = MD_FAULT_SYSCALL}; torture_next(&t);) {
        char holder[MD_OS_HOLDER_MAX];
        torture_arm(&t);
        bool found = md_os_port_holder(port, holder);
        bool delivered = torture_disarm(&t);
        torture_check(&t, found ? strstr(holder, "pid") != NULL : delivered);
    }
    md_os_close(fd);
}

/* --- the log -------------------- */

/* A line that cannot be written is lost alone; a file that cannot be opened again leaves the old.
 */
static void test_torture_os_log_file(void **state)
{
    static char path[128];
    char text[4096];
    struct md_error err;

    (void)state;
    (void)snprintf(path, sizeof path, "%s", in_folder("log"));
    assert_true(md_os_log_open(path, MD_LOG_FORMAT_DEFAULT, &err));
    for (struct torture t = {.kind = MD_FAULT_SYSCALL}; torture_next(&t);) {
        assert_int_equal(truncate(path, 0), 0);
        torture_arm(&t);
        md_log(MD_LOG_ERROR, "%s", "first");
        md_os_log_reopen();
        md_log(MD_LOG_ERROR, "%s", "second");
        bool delivered = torture_disarm(&t);
        md_log(MD_LOG_ERROR, "%s", "third");
        assert_true(md_os_file_peek(path, text, sizeof text));
        torture_check(&t, delivered || (strstr(text, "first\n") && strstr(text, "second\n")));
        torture_check(&t, strstr(text, "third\n"));
    }
}

static int set_up(void **state)
{
    char name[32];

    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    put("file", "content");
    (void)mkdir(in_folder("list"), 0700);
    (void)mkdir(in_folder("target"), 0700);
    for (int i = 0; i < 40; i++) { /* by turns a file and a link to a folder */
        (void)snprintf(name, sizeof name, "list/%02d", i);
        if (i % 2) {
            assert_int_equal(symlink("../target", in_folder(name)), 0);
        } else {
            put(name, "");
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_os_calls_succeed_or_say_why),
        cmocka_unit_test(test_torture_os_cgroup),
        cmocka_unit_test(test_torture_os_process),
        cmocka_unit_test(test_torture_os_port_holder),
        cmocka_unit_test(test_torture_os_log_file),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
