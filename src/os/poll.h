/*
 * Readiness of descriptors (epoll) and wake-ups (eventfd). Used by loop/ alone.
 */
#ifndef MD_OS_POLL_H
#define MD_OS_POLL_H

#include "base/error.h"

struct md_os_event {
    void *owner;
    bool readable, writable, hangup;
};

bool md_os_poll_create(int *poller, struct md_error *err) MD_MUST_CHECK;
/* exclusive: of several pollers only one is woken (for listeners). */
bool md_os_poll_add(int poller, int fd, void *owner, bool read, bool write, bool exclusive,
                    struct md_error *err) MD_MUST_CHECK;
void md_os_poll_set(int poller, int fd, void *owner, bool read, bool write);
void md_os_poll_remove(int poller, int fd);
/* Waits at most timeout_ms (-1: no limit, 0: looks only); number of events, 0 also when interrupted. */
int md_os_poll_wait(int poller, struct md_os_event *events, int max, int timeout_ms);

bool md_os_wakeup_create(int *fd, struct md_error *err) MD_MUST_CHECK;
void md_os_wakeup_signal(int fd);
void md_os_wakeup_clear(int fd);

void md_os_close(int fd);

#endif
