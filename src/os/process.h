/*
 * What the system says about this process. Any thread.
 */
#ifndef MD_OS_PROCESS_H
#define MD_OS_PROCESS_H

#include "base/arena.h"
#include "base/error.h"

/* Folder of the running executable, absolute. */
bool md_os_process_directory(struct md_arena *arena, const char **out, struct md_error *err)
    MD_MUST_CHECK;

/* Environment of the process, NULL-terminated. */
char **md_os_process_environment(void);

/* True inside a container: where Docker or Podman left their marks below `root` ("" for the real
 * one), or the environment has what Kubernetes or a container manager (systemd's interface: Podman,
 * LXC, nspawn) sets. */
bool md_os_process_in_container(const char *root, char *const *environment);

struct md_os_process_usage {
    double cpu_seconds;
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_descriptors, max_descriptors;
    uint64_t threads;
    double start_time_seconds; /* since 1970 */
};
void md_os_process_usage(struct md_os_process_usage *out);

struct md_os_machine_usage {
    uint64_t cpu_busy, cpu_total; /* ticks of all CPUs since the machine started */
    uint64_t memory_used_bytes, memory_total_bytes;
};
void md_os_machine_usage(struct md_os_machine_usage *out);

/* Allows as many descriptors as the system lets this process have: the usual 1024 are kept small
 * for programs that use select(). First thing in main. */
void md_os_process_raise_descriptor_limit(void);

/* CPUs that this process may use (affinity), and the quota of its control group in CPUs (0 = none).
 */
unsigned md_os_process_cpu_count(void);
double md_os_process_cpu_quota(void);

void md_os_process_exit_now(int code) __attribute__((noreturn));

/* Writes all bytes to standard output (1) or error (2). */
void md_os_process_write(int stream, struct md_str text);

#endif
