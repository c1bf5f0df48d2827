/*
 * os/process, os/memory, os/clock, os/library: what the system says about this very program.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "os/clock.h"
#include "os/library.h"
#include "os/memory.h"
#include "os/process.h"

static void test_process_directory_holds_the_program(void **state)
{
    struct md_arena arena = {0};
    const char *directory;
    struct md_error err;
    char path[512];

    (void)state;
    assert_true(md_os_process_directory(&arena, &directory, &err));
    (void)snprintf(path, sizeof path, "%s/test_process", directory);
    assert_int_equal(access(path, X_OK), 0);
    md_arena_deinit(&arena);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_os_process_directory(&arena, &directory, &err));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
}

static void test_process_container_is_found_by_its_marks(void **state)
{
    static const struct {
        const char *file, *variable;
        bool found;
    } rows[] = {
        {NULL, "HOME=/root", false},
        {".dockerenv", "HOME=/root", true},
        {"run/.containerenv", "HOME=/root", true},
        {".other", "HOME=/root", false},
        {NULL, "KUBERNETES_SERVICE_HOST=10.0.0.1", true},
        {NULL, "container=podman", true},
        {NULL, "containers=3", false},
        {NULL, "MY_container=x", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char root[] = "/tmp/md-container-XXXXXX", path[64], variable[64];
        char *const environment[] = {variable, NULL};
        assert_non_null(mkdtemp(root));
        (void)snprintf(variable, sizeof variable, "%s", rows[i].variable);
        (void)snprintf(path, sizeof path, "%s/run", root);
        assert_int_equal(mkdir(path, 0755), 0);
        if (rows[i].file) {
            (void)snprintf(path, sizeof path, "%s/%s", root, rows[i].file);
            FILE *file = fopen(path, "w");
            assert_non_null(file);
            assert_int_equal(fclose(file), 0);
        }
        assert_int_equal(md_os_process_in_container(root, environment), rows[i].found);
        assert_true(!rows[i].file || remove(path) == 0);
        (void)snprintf(path, sizeof path, "%s/run", root);
        assert_true(rmdir(path) == 0 && rmdir(root) == 0);
    }
    assert_false(md_os_process_in_container("/nonexistent", NULL));
}

static void test_process_usage(void **state)
{
    struct md_os_process_usage before, after;
    int fds[2];

    (void)state;
    md_os_process_usage(&before);
    assert_true(before.resident_bytes > 100000 && before.virtual_bytes >= before.resident_bytes);
    assert_true(before.threads >= 1);
    assert_true(before.max_descriptors >= before.open_descriptors && before.open_descriptors >= 3);
    assert_true(before.start_time_seconds <= (double)time(NULL) + 1);
    assert_true(before.start_time_seconds > (double)time(NULL) - 600);
    assert_int_equal(pipe(fds), 0);
    md_os_process_usage(&after);
    assert_int_equal(after.open_descriptors, before.open_descriptors + 2);
    assert_true(after.cpu_seconds >= before.cpu_seconds);
    assert_true(after.start_time_seconds >= before.start_time_seconds &&
                after.start_time_seconds <= before.start_time_seconds);
    close(fds[0]);
    close(fds[1]);
}

static void test_process_descriptor_limit_is_raised(void **state)
{
    struct rlimit limit, before;
    struct md_os_process_usage usage;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = 100;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    md_os_process_raise_descriptor_limit();
    md_os_process_usage(&usage);
    assert_int_equal(usage.max_descriptors, before.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_process_environment(void **state)
{
    bool found = false;

    (void)state;
    assert_int_equal(setenv("MD_TEST_VARIABLE", "10.0.0.1", 1), 0);
    for (char **entry = md_os_process_environment(); *entry; entry++) {
        found = found || strcmp(*entry, "MD_TEST_VARIABLE=10.0.0.1") == 0;
    }
    assert_true(found);
    assert_int_equal(unsetenv("MD_TEST_VARIABLE"), 0);
}

static void test_process_cpus_and_memory(void **state)
{
    long online = sysconf(_SC_NPROCESSORS_CONF);

    (void)state;
    assert_in_range(md_os_process_cpu_count(), 1, online);
    assert_true(md_os_process_cpu_quota() >= 0);
    assert_true(md_os_memory_limit() > 1 << 20);
    assert_true(md_os_memory_limit() <=
                (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE));
}

static void test_process_writes_and_exits(void **state)
{
    int fds[2], status;
    char text[32] = {0};

    (void)state;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        md_os_process_write(STDOUT_FILENO, MD_STR("all of it"));
        md_os_process_exit_now(7);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(read(fds[0], text, sizeof text - 1), 9);
    assert_string_equal(text, "all of it");
    close(fds[0]);
    close(fds[1]);
}

static void test_memory_large_blocks_go_back(void **state)
{
    enum { COUNT = 64, BYTES = 1 << 20 };
    void *blocks[COUNT];
    struct md_os_process_usage loaded, unloaded;

    (void)state;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    md_os_memory_setup();
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BYTES);
    }
    md_os_process_usage(&loaded);
    for (int i = 0; i < COUNT; i++) {
        if (i != COUNT - 2) { /* one that stays would pin a heap that is one piece */
            free(blocks[i]);
        }
    }
    md_os_memory_trim();
    md_os_process_usage(&unloaded);
    assert_true(loaded.resident_bytes - unloaded.resident_bytes > (COUNT - 4) * (uint64_t)BYTES);
    free(blocks[COUNT - 2]);
#else
    (void)blocks;
    (void)loaded;
    (void)unloaded;
    skip(); /* the sanitizer has its own heap */
#endif
}

/* Whether the mapping of an address was advised to use huge pages (proc(5), smaps: VmFlags). */
static bool advised(const void *address)
{
    FILE *maps = fopen("/proc/self/smaps", "re");
    unsigned long begin, end;
    bool inside = false, found = false;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) {
            inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            found = strstr(line, " hg ");
        }
    }
    (void)fclose(maps);
    return found;
}

static void test_memory_large_blocks_are_huge_pages(void **state)
{
    const size_t page = (size_t)2 << 20;
    char *large = aligned_alloc(64, 3 * page + page / 2), *small = aligned_alloc(64, page - 64);

    (void)state;
    assert_non_null(large);
    assert_non_null(small);
    assert_int_equal((uintptr_t)large % page, 0);
    assert_int_equal((uintptr_t)small % 64, 0);
    memset(large, 1, 3 * page + page / 2);
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0) {
        assert_true(advised(large) && advised(large + 3 * page - 1));
        assert_false(advised(large + 3 * page)); /* half of it would be beyond the block */
        assert_false(advised(small));
    }
    free(large);
    free(small);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* under those it ends the program */
    assert_null(aligned_alloc(64, SIZE_MAX / 2));
#endif
}

static void test_clock_runs(void **state)
{
    (void)state;
    md_os_clock_install();
    uint64_t first = md_clock_monotonic_ns();
    assert_true(md_clock_monotonic_ns() >= first && first > 0);
    assert_true(md_clock_realtime_ns() / MD_NS_PER_S + 2 > (uint64_t)time(NULL));
    assert_true(md_clock_realtime_ns() / MD_NS_PER_S < (uint64_t)time(NULL) + 2);
}

static void test_library_opens_and_finds(void **state)
{
    struct md_error err;
    void *library;

    (void)state;
    assert_true(md_os_library_open("libz.so.1", &library, &err));
    assert_non_null(md_os_library_symbol(library, "zlibVersion"));
    assert_null(md_os_library_symbol(library, "no_such_symbol"));
    md_os_library_close(library);
    assert_false(md_os_library_open("/nonexistent/lib.so", &library, &err));
    assert_non_null(strstr(err.text, "/nonexistent/lib.so"));
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_false(md_os_library_open("libz.so.1", &library, &err));
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    assert_non_null(strstr(err.text, "libz.so.1"));
}

static void test_process_machine_usage_is_sane(void **state)
{
    struct md_os_machine_usage before, after;

    (void)state;
    md_os_machine_usage(&before);
    assert_true(before.memory_used_bytes > 0);
    assert_true(before.memory_used_bytes < before.memory_total_bytes);
    assert_true(before.cpu_busy > 0 && before.cpu_busy < before.cpu_total);
    md_os_machine_usage(&after);
    assert_true(after.cpu_busy >= before.cpu_busy && after.cpu_total >= before.cpu_total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_process_directory_holds_the_program),
        cmocka_unit_test(test_process_container_is_found_by_its_marks),
        cmocka_unit_test(test_process_usage),
        cmocka_unit_test(test_process_descriptor_limit_is_raised),
        cmocka_unit_test(test_process_environment),
        cmocka_unit_test(test_process_cpus_and_memory),
        cmocka_unit_test(test_process_writes_and_exits),
        cmocka_unit_test(test_memory_large_blocks_go_back),
        cmocka_unit_test(test_memory_large_blocks_are_huge_pages),
        cmocka_unit_test(test_clock_runs),
        cmocka_unit_test(test_library_opens_and_finds),
        cmocka_unit_test(test_process_machine_usage_is_sane),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
