/*
 * api/shared_memory/regions: names, life and use from many threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/shared_memory/regions.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BYTES = 4096 };

static char key[64];
static int fd;
static struct md_regions *regions;
static struct md_error err;

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(key, sizeof key, "/modeld-test-%d", (int)getpid());
    fd = shm_open(key, O_CREAT | O_EXCL | O_RDWR, 0600);
    return fd < 0 || ftruncate(fd, BYTES) != 0 || !md_regions_create(&regions, &err);
}

static int tear_down(void **state)
{
    (void)state;
    md_regions_destroy(regions);
    close(fd);
    return shm_unlink(key);
}

static bool share(struct md_str name, uint64_t offset)
{
    const struct md_region_info info = {
        .name = name, .key = md_str_of(key), .offset = offset, .bytes = BYTES - offset};

    return md_regions_register(regions, &info, &err);
}

static bool use(struct md_region_uses *uses, struct md_arena *arena, const char *name, char **data)
{
    return md_region_use(regions, uses, arena, md_str_of(name), 0, 4, data, &err);
}

/* How often this object is mapped by this process. */
static unsigned count_mappings(void)
{
    char line[512];
    unsigned count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        count += strstr(line, key) != NULL;
    }
    (void)fclose(maps);
    return count;
}

static void test_regions_live_until_their_users_are_done(void **state)
{
    struct md_region_uses uses = {0};
    struct md_arena arena = {0};
    char *data, *again;

    (void)state;
    assert_true(share(MD_STR("a"), 0));
    assert_true(use(&uses, &arena, "a", &data));
    assert_true(md_regions_unregister(regions, MD_STR("a"), &err));
    assert_int_equal(count_mappings(), 1);
    memcpy(data, "abc", 4);
    assert_true(share(MD_STR("a"), 0)); /* the name is free */
    assert_int_equal(count_mappings(), 2);
    assert_true(use(&uses, &arena, "a", &again)); /* the request goes on with what it has */
    assert_ptr_equal(again, data);
    assert_true(md_region_uses_hold(&uses, data) && md_region_uses_hold(&uses, data + BYTES - 1));
    assert_false(md_region_uses_hold(&uses, data + BYTES) || md_region_uses_hold(&uses, data - 1));
    md_arena_deinit(&arena);
    assert_int_equal(count_mappings(), 1);
    assert_true(md_regions_unregister(regions, MD_STR(""), &err));
    assert_int_equal(count_mappings(), 0);
}

static void test_regions_keep_many_names_apart(void **state)
{
    enum { COUNT = 3000 };
    struct md_region_info *infos;
    struct md_region_uses uses = {0};
    struct md_arena arena = {0};
    char name[32], *data, *last = NULL;
    size_t count;

    (void)state;
    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof name, "region %u", i);
        assert_true(share(md_str_of(name), i));
    }
    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof name, "region %u", i);
        assert_true(use(&uses, &arena, name, &data));
        assert_ptr_not_equal(data, last);
        last = data;
    }
    for (unsigned i = 0; i < COUNT; i += 2) {
        (void)snprintf(name, sizeof name, "region %u", i);
        assert_true(md_regions_unregister(regions, md_str_of(name), &err));
    }
    assert_true(md_regions_list(regions, MD_STR(""), &arena, &infos, &count, &err));
    assert_int_equal(count, COUNT / 2);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(infos[i].offset % 2, 1);
        assert_true(i == 0 || md_str_eq(infos[i].name, infos[i - 1].name) == false);
    }
    assert_true(md_str_eq_c(infos[0].name, "region 1") &&
                md_str_eq_c(infos[1].name, "region 1001"));
    md_arena_deinit(&arena);
}

static void *churn(void *arg)
{
    enum { ROUNDS = 2000 };
    static const char *const names[] = {"a", "b", "c"};
    const size_t own = *(const size_t *)arg;
    struct md_error error;

    for (size_t i = 0; i < ROUNDS; i++) {
        const char *name = names[(own + i) % MD_COUNT_OF(names)];
        const struct md_region_info info = {
            .name = md_str_of(name), .key = md_str_of(key), .bytes = BYTES};
        struct md_region_uses uses = {0};
        struct md_arena arena = {0};
        char *data;
        if (md_regions_register(regions, &info, &error)) {
            continue;
        }
        if (md_region_use(regions, &uses, &arena, md_str_of(name), 8 * own, 8, &data, &error)) {
            memcpy(data, "12345678", 8);
        }
        (void)!md_regions_unregister(regions, md_str_of(name), &error);
        md_arena_deinit(&arena);
    }
    return NULL;
}

static void test_regions_may_be_used_by_many_threads(void **state)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    size_t numbers[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &numbers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    assert_true(md_regions_unregister(regions, MD_STR(""), &err));
    assert_int_equal(count_mappings(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_regions_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(live_until_their_users_are_done),
        TEST(keep_many_names_apart),
        TEST(may_be_used_by_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
