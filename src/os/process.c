/*
 * /proc, /sys and the environment.
 */
#include "os/process.h"

#include "os/cgroup.h"
#include "os/file.h"
#include "os/inject.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

bool md_os_process_directory(struct md_arena *arena, const char **out, struct md_error *err)
{
    char path[PATH_MAX];
    ssize_t n = md_os_injected(EIO) ? -1 : readlink("/proc/self/exe", path, sizeof path - 1);

    if (n <= 0) {
        return md_error_set(err, MD_REASON_IO, "cannot find the running program: %s",
                            strerror(errno));
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

bool md_os_process_in_container(const char *root, char *const *environment)
{
    static const char *const marks[] = {"/.dockerenv", "/run/.containerenv"};
    static const char *const variables[] = {"KUBERNETES_SERVICE_HOST=", "container="};
    char path[PATH_MAX];

    for (size_t i = 0; i < MD_COUNT_OF(marks); i++) {
        (void)snprintf(path, sizeof path, "%s%s", root, marks[i]);
        if (access(path, F_OK) == 0) {
            return true;
        }
    }
    for (; environment && *environment; environment++) {
        for (size_t i = 0; i < MD_COUNT_OF(variables); i++) {
            if (md_str_starts_with(md_str_of(*environment), md_str_of(variables[i]))) {
                return true;
            }
        }
    }
    return false;
}

static uint64_t count_descriptors(void)
{
    struct stat info;
    uint64_t count = 0;

    if (!md_os_injected(EIO) && stat("/proc/self/fd", &info) == 0 && info.st_size > 0) {
        return (uint64_t)info.st_size; /* since Linux 6.2 */
    }
    DIR *folder = md_os_injected(EMFILE) ? NULL : opendir("/proc/self/fd");
    if (!folder) {
        return 0;
    }
    while (readdir(folder)) {
        count++;
    }
    closedir(folder);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

/* Fields 20 and 22 of /proc/self/stat, proc(5), counted after the command's closing bracket. */
static bool read_stat(unsigned long long *threads, unsigned long long *start_ticks)
{
    char text[1024];

    return md_os_file_peek("/proc/self/stat", text, sizeof text) && strrchr(text, ')') &&
           sscanf(
               strrchr(text, ')') + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %llu %*d %llu",
               threads, start_ticks) == 2;
}

/* Read once: the difference of two clocks wavers, and a start time that changes looks like a
 * restart. */
static double start_time_seconds;

static void find_start_time(void)
{
    unsigned long long threads, ticks;
    struct timespec boot, now;

    if (read_stat(&threads, &ticks) && clock_gettime(CLOCK_BOOTTIME, &boot) == 0 &&
        clock_gettime(CLOCK_REALTIME, &now) == 0) {
        start_time_seconds = (double)(now.tv_sec - boot.tv_sec) +
                             (double)(now.tv_nsec - boot.tv_nsec) / 1e9 +
                             (double)ticks / (double)sysconf(_SC_CLK_TCK);
    }
}

void md_os_process_usage(struct md_os_process_usage *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char text[256];
    struct rlimit limit;
    struct rusage usage;
    unsigned long pages = 0, resident = 0;
    unsigned long long threads = 0, ticks = 0;

    *out = (struct md_os_process_usage){0};
    if (!md_os_injected(EINVAL) && getrusage(RUSAGE_SELF, &usage) == 0) {
        out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    }
    if (md_os_file_peek("/proc/self/statm", text, sizeof text) &&
        sscanf(text, "%lu %lu", &pages, &resident) == 2) {
        out->virtual_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
        out->resident_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    }
    if (read_stat(&threads, &ticks)) {
        out->threads = threads;
    }
    if (!md_os_injected(EINVAL) && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        out->max_descriptors = limit.rlim_cur;
    }
    out->open_descriptors = count_descriptors();
    pthread_once(&once, find_start_time);
    out->start_time_seconds = start_time_seconds;
}

/* proc(5): user nice system idle iowait irq softirq steal. */
static void read_cpu(struct md_os_machine_usage *out)
{
    enum { IDLE = 3, IOWAIT, COUNT = 8 };
    unsigned long long ticks[COUNT];
    char text[512];

    if (md_os_file_peek("/proc/stat", text, sizeof text) &&
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &ticks[0], &ticks[1], &ticks[2],
               &ticks[IDLE], &ticks[IOWAIT], &ticks[5], &ticks[6], &ticks[7]) == COUNT) {
        for (int i = 0; i < COUNT; i++) {
            out->cpu_total += ticks[i];
        }
        out->cpu_busy = out->cpu_total - ticks[IDLE] - ticks[IOWAIT];
    }
}

static uint64_t read_kilobytes(const char *text, const char *key)
{
    const char *line = strstr(text, key);
    unsigned long long value = 0;

    return line && sscanf(line + strlen(key), ": %llu", &value) == 1 ? value * 1024 : 0;
}

void md_os_machine_usage(struct md_os_machine_usage *out)
{
    char text[512]; /* the lines wanted are the first three */

    *out = (struct md_os_machine_usage){0};
    read_cpu(out);
    if (md_os_file_peek("/proc/meminfo", text, sizeof text)) {
        out->memory_total_bytes = read_kilobytes(text, "MemTotal");
        out->memory_used_bytes = out->memory_total_bytes - read_kilobytes(text, "MemAvailable");
    }
}

void md_os_process_raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* a wish */
    }
}

unsigned md_os_process_cpu_count(void)
{
    cpu_set_t set;

    if (!md_os_injected(EINVAL) && sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than the set has room for */
    return online > 0 ? (unsigned)online : 1;
}

double md_os_process_cpu_quota(void)
{
    struct md_os_cgroup cgroup;

    md_os_cgroup_read("/proc/self/cgroup", "/sys/fs/cgroup", &cgroup);
    return cgroup.cpu_quota;
}

void md_os_process_exit_now(int code)
{
    _exit(code);
}

void md_os_process_write(int stream, struct md_str text)
{
    while (text.len) {
        ssize_t n = md_os_injected(EIO) ? -1 : write(stream, text.ptr, text.len);
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
