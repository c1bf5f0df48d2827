/*
 * os/cgroup on made-up trees.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "os/cgroup.h"

static char folder[] = "/tmp/md-cgroup-XXXXXX";

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

/* Writes content to folder/name, creating the folders on the way. */
static void write_file(const char *name, const char *content)
{
    char path[256];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

struct setting {
    const char *name, *content;
};

static void test_cgroup_limits(void **state)
{
    static const struct {
        const char *membership;
        struct setting settings[6];
        double quota;
        size_t memory;
    } rows[] = {
        {"0::/\n", {{0}}, 0, SIZE_MAX},
        {"0::/\n", {{"cpu.max", "max 100000\n"}, {"memory.max", "max\n"}}, 0, SIZE_MAX},
        {"0::/\n", {{"cpu.max", "150000 100000\n"}, {"memory.max", "1048576\n"}}, 1.5, 1048576},
        /* the parents count too, the tightest wins */
        {"0::/a/b\n",
         {{"a/cpu.max", "200000 100000"},
          {"a/b/cpu.max", "400000 100000"},
          {"a/memory.max", "5000"},
          {"a/b/memory.max", "4000"},
          {"memory.max", "4500"}},
         2,
         4000},
        /* the path is the host's, the mount shows the container's own group */
        {"0::/kubepods/pod1\n", {{"cpu.max", "50000 100000"}, {"memory.max", "7000"}}, 0.5, 7000},
        {"4:memory:/x/y\n3:cpuset:/\n2:cpu,cpuacct:/x\n0::/\n",
         {{"memory/x/memory.limit_in_bytes", "3000\n"},
          {"cpu/x/cpu.cfs_quota_us", "250000\n"},
          {"cpu/x/cpu.cfs_period_us", "100000\n"}},
         2.5,
         3000},
        {"2:cpu:/\n",
         {{"cpu/cpu.cfs_quota_us", "-1\n"}, {"cpu/cpu.cfs_period_us", "100000\n"}},
         0,
         SIZE_MAX},
        {"2:cpu:/\n",
         {{"cpu/cpu.cfs_quota_us", "100\n"}, {"cpu/cpu.cfs_period_us", "0\n"}},
         0,
         SIZE_MAX},
        {"", {{"memory.max", "1"}}, 0, SIZE_MAX},
        {"nonsense\n1\n:::\n",
         {{"cpu.max", "x y"}, {"memory.max", "99999999999999999999999"}},
         0,
         SIZE_MAX},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        char membership[64];
        struct md_os_cgroup limits;
        (void)strcpy(folder + strlen(folder) - 6, "XXXXXX");
        assert_non_null(mkdtemp(folder));
        write_file("membership", rows[i].membership);
        for (size_t k = 0; k < MD_COUNT_OF(rows[i].settings) && rows[i].settings[k].name; k++) {
            write_file(rows[i].settings[k].name, rows[i].settings[k].content);
        }
        (void)snprintf(membership, sizeof membership, "%s/membership", folder);
        md_os_cgroup_read(membership, folder, &limits);
        assert_true(limits.cpu_quota >= rows[i].quota - 1e-9 &&
                    limits.cpu_quota <= rows[i].quota + 1e-9);
        assert_true(limits.memory_bytes == rows[i].memory);
        assert_int_equal(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
    }
}

static void test_cgroup_none(void **state)
{
    struct md_os_cgroup limits;

    (void)state;
    md_os_cgroup_read("/nonexistent", "/nonexistent", &limits);
    assert_true(limits.cpu_quota <= 0);
    assert_true(limits.memory_bytes == SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cgroup_limits),
        cmocka_unit_test(test_cgroup_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
