/*
 * os/shared_memory: mapping objects of others, and outliving that they are cut short.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "os/shared_memory.h"
#include "os/signal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 16 };

static char key[64];
static int fd;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(key, sizeof key, "/modeld-test-%d", (int)getpid());
    fd = shm_open(key, O_CREAT | O_EXCL | O_RDWR, 0600);
    return fd < 0 || ftruncate(fd, PAGES * PAGE);
}

static int tear_down(void **state)
{
    (void)state;
    close(fd);
    return shm_unlink(key);
}

static void test_shared_memory_is_the_others(void **state)
{
    struct md_os_shm shm;
    struct md_error err;
    char back[4];

    (void)state;
    assert_int_equal(pwrite(fd, "abcd", 4, PAGE + 100), 4);
    assert_true(md_os_shm_map(md_str_of(key), PAGE + 100, 50, &shm, &err));
    assert_memory_equal(shm.data, "abcd", 4);
    memcpy(shm.data + 46, "wxyz", 4);
    assert_int_equal(pread(fd, back, 4, PAGE + 146), 4);
    assert_memory_equal(back, "wxyz", 4);
    assert_false(md_os_shm_is_broken(&shm));
    md_os_shm_unmap(&shm);
    assert_true(md_os_shm_map(md_str_of(key + 1), 0, PAGES * PAGE, &shm, &err)); /* without slash */
    md_os_shm_unmap(&shm);
}

static void test_shared_memory_checks_key_and_bounds(void **state)
{
    static char long_key[300];
    memset(long_key, 'k', sizeof long_key - 1);
    const struct {
        const char *key;
        uint64_t offset, bytes;
        enum md_reason reason;
    } rows[] = {
        {key, 0, PAGES * PAGE + 1, MD_REASON_INVALID_ARGUMENT},
        {key, 1, PAGES * PAGE, MD_REASON_INVALID_ARGUMENT},
        {key, PAGES * PAGE, 1, MD_REASON_INVALID_ARGUMENT},
        {key, UINT64_MAX, 2, MD_REASON_INVALID_ARGUMENT},
        {key, 2, UINT64_MAX, MD_REASON_INVALID_ARGUMENT},
        {key, UINT64_MAX - 4095, 4096, MD_REASON_INVALID_ARGUMENT},
        {key, 0, 0, MD_REASON_INVALID_ARGUMENT},
        {"", 0, 1, MD_REASON_INVALID_ARGUMENT},
        {"///", 0, 1, MD_REASON_INVALID_ARGUMENT},
        {"/..", 0, 1, MD_REASON_INVALID_ARGUMENT},
        {"/../etc/passwd", 0, 1, MD_REASON_INVALID_ARGUMENT},
        {"/a/b", 0, 1, MD_REASON_INVALID_ARGUMENT},
        {long_key, 0, 1, MD_REASON_INVALID_ARGUMENT},
        {"/modeld-test-there-is-none", 0, 1, MD_REASON_NOT_FOUND},
    };
    struct md_os_shm shm;
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %zu: %s\n", i, rows[i].key);
        assert_false(
            md_os_shm_map(md_str_of(rows[i].key), rows[i].offset, rows[i].bytes, &shm, &err));
        assert_int_equal(err.reason, rows[i].reason);
    }
}

static void test_shared_memory_cut_short_reads_as_zeroes(void **state)
{
    struct md_os_shm shm, other;
    struct md_error err;

    (void)state;
    md_os_signal_setup(); /* cmocka has handlers of its own for each test */
    assert_true(md_os_shm_map(md_str_of(key), 0, PAGES * PAGE, &shm, &err));
    assert_true(md_os_shm_map(md_str_of(key), 0, PAGE, &other, &err));
    memset(shm.data, 7, PAGES * PAGE);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    volatile char *data = shm.data;
    assert_int_equal(data[10], 7);
    assert_false(md_os_shm_is_broken(&shm));
    assert_int_equal(data[PAGE], 0);
    assert_true(md_os_shm_is_broken(&shm));
    for (size_t i = 0; i < PAGES * PAGE; i++) {
        data[i] = 1; /* all of it may be written */
    }
    assert_false(md_os_shm_is_broken(&other));
    assert_int_equal(other.data[0], 7);
    md_os_shm_unmap(&shm);
    assert_true(md_os_shm_map(md_str_of(key), 0, PAGE, &shm, &err)); /* the slot begins anew */
    assert_false(md_os_shm_is_broken(&shm));
    md_os_shm_unmap(&shm);
    md_os_shm_unmap(&other);
}

static void *write_pages(void *arg)
{
    memset(arg, 1, (size_t)2 * PAGE);
    return NULL;
}

static void test_shared_memory_cut_short_on_many_threads(void **state)
{
    enum { THREADS = PAGES / 2, ROUNDS = 20 };
    pthread_t threads[THREADS];
    struct md_os_shm shm;
    struct md_error err;

    (void)state;
    md_os_signal_setup(); /* cmocka has handlers of its own for each test */
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(ftruncate(fd, PAGES * PAGE), 0);
        assert_true(md_os_shm_map(md_str_of(key), 0, PAGES * PAGE, &shm, &err));
        assert_int_equal(ftruncate(fd, 0), 0);
        for (int i = 0; i < THREADS; i++) {
            assert_int_equal(
                pthread_create(&threads[i], NULL, write_pages, shm.data + 2 * PAGE * i), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            (void)pthread_join(threads[i], NULL);
        }
        assert_true(md_os_shm_is_broken(&shm));
        md_os_shm_unmap(&shm);
    }
}

static void test_shared_memory_system_calls_fail_instead(void **state)
{
    struct md_os_shm shm;
    struct md_error err;
    int ends[2];

    (void)state;
    assert_true(md_os_shm_map(md_str_of(key), 0, PAGES * PAGE, &shm, &err));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], shm.data, 100), -1);
    assert_int_equal(errno, EFAULT);
    assert_false(md_os_shm_is_broken(&shm));
    close(ends[0]);
    close(ends[1]);
    md_os_shm_unmap(&shm);
}

/* A file that is mapped by anybody else: the process ends, as it would without us. */
static void test_shared_memory_other_bus_errors_end_the_process(void **state)
{
    int status = 0;

    (void)state;
    md_os_signal_setup(); /* cmocka has handlers of its own for each test */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)!freopen("/dev/null", "w", stderr);
        volatile char *data = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
        _exit(ftruncate(fd, 0) == 0 ? data[PAGE] : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void test_shared_memory_mappings_are_bounded(void **state)
{
    static struct md_os_shm shms[MD_OS_SHM_MAPPINGS_MAX];
    struct md_os_shm one_more;
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < MD_OS_SHM_MAPPINGS_MAX; i++) {
        assert_true(md_os_shm_map(md_str_of(key), 0, 1, &shms[i], &err));
    }
    assert_false(md_os_shm_map(md_str_of(key), 0, 1, &one_more, &err));
    assert_int_equal(err.code, MD_CODE_RESOURCE_EXHAUSTED);
    for (size_t i = 0; i < MD_OS_SHM_MAPPINGS_MAX; i++) {
        md_os_shm_unmap(&shms[i]);
    }
    assert_true(md_os_shm_map(md_str_of(key), 0, 1, &one_more, &err));
    md_os_shm_unmap(&one_more);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_shared_memory_is_the_others),
        TEST(test_shared_memory_checks_key_and_bounds),
        TEST(test_shared_memory_cut_short_reads_as_zeroes),
        TEST(test_shared_memory_cut_short_on_many_threads),
        TEST(test_shared_memory_system_calls_fail_instead),
        TEST(test_shared_memory_other_bus_errors_end_the_process),
        TEST(test_shared_memory_mappings_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
