/*
 * /proc, /sys and the environment.
 */
#include "os/process.h"

#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

bool md_os_process_directory(struct md_arena *arena, const char **out, struct md_error *err)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

    if (n <= 0) {
        return md_error_set(err, MD_REASON_IO, "cannot find the running program: %s", strerror(errno));
    }
    path[n] = '\0';
    *strrchr(path, '/') = '\0';
    *out = md_arena_strdup(arena, path);
    return *out || md_error_no_memory(err, "a path");
}

char **md_os_process_environment(void)
{
    return environ;
}

bool md_os_process_in_container(void)
{
    return getenv("KUBERNETES_SERVICE_HOST") || access("/.dockerenv", F_OK) == 0 ||
           access("/run/.containerenv", F_OK) == 0;
}

static uint64_t count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    uint64_t count = 0;

    if (!folder) {
        return 0;
    }
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

void md_os_process_usage(struct md_os_process_usage *out)
{
    char text[1024];
    struct rlimit limit;
    struct rusage usage;
    unsigned long pages = 0, resident = 0;

    *out = (struct md_os_process_usage){0};
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    }
    if (md_os_file_peek("/proc/self/statm", text, sizeof text) && sscanf(text, "%lu %lu", &pages, &resident) == 2) {
        out->virtual_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
        out->resident_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (md_os_file_peek("/proc/self/stat", text, sizeof text) && strrchr(text, ')')) {
        unsigned long long threads = 0, start = 0;
        struct timespec boot;
        /* fields 20 and 22 of proc(5), counted after the command's closing bracket */
        if (sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %llu %*d %llu",
                   &threads, &start) == 2 &&
            clock_gettime(CLOCK_BOOTTIME, &boot) == 0) {
            out->threads = threads;
            out->start_time_seconds = (double)time(NULL) - ((double)boot.tv_sec - (double)start / (double)sysconf(_SC_CLK_TCK));
        }
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        out->max_descriptors = limit.rlim_cur;
    }
    out->open_descriptors = count_descriptors();
}

unsigned md_os_process_cpu_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    return 1;
}

double md_os_process_cpu_quota(void)
{
    char text[128], period_text[64];
    double quota, period;

    if (md_os_file_peek("/sys/fs/cgroup/cpu.max", text, sizeof text) && sscanf(text, "%lf %lf", &quota, &period) == 2 &&
        period > 0) {
        return quota / period;
    }
    if (md_os_file_peek("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", text, sizeof text) &&
        md_os_file_peek("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period_text, sizeof period_text) &&
        sscanf(text, "%lf", &quota) == 1 && sscanf(period_text, "%lf", &period) == 1 && quota > 0 && period > 0) {
        return quota / period;
    }
    return 0;
}

void md_os_process_exit_now(int code)
{
    _exit(code);
}

void md_os_process_write(int stream, struct md_str text)
{
    while (text.len) {
        ssize_t n = write(stream, text.ptr, text.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        text.ptr += n;
        text.len -= (size_t)n;
    }
}
