/*
 * Threads. A started thread is joined exactly once. Any thread may start others.
 */
#ifndef MD_OS_THREAD_H
#define MD_OS_THREAD_H

#include "base/error.h"

#include <pthread.h>

struct md_os_thread {
    pthread_t id;
};

/* Runs run(arg) on a new thread called `name` (at most 15 bytes), pinned to `cpu` (-1: not). All
 * signals are blocked in it but those of a crash. OUT_OF_MEMORY when the system has no more
 * threads. */
bool md_os_thread_start(struct md_os_thread *thread, const char *name, int cpu,
                        void (*run)(void *arg), void *arg, struct md_error *err) MD_MUST_CHECK;
void md_os_thread_join(struct md_os_thread *thread);

/* Lowers the calling thread's priority: for work that nobody waits for. */
void md_os_thread_be_nice(void);

void md_os_sleep_ms(unsigned ms);

#endif
