/*
 * Readiness of descriptors (epoll) and wake-ups (eventfd). Used by loop/ alone, each poller by one
 * thread; a wake-up is signalled by any thread.
 */
#ifndef MD_OS_POLL_H
#define MD_OS_POLL_H

#include "base/error.h"

enum {
    MD_OS_POLL_READ = 1,
    MD_OS_POLL_WRITE = 2,
    MD_OS_POLL_HANGUP = 4,    /* only reported: the peer has closed its direction, or all of it */
    MD_OS_POLL_EXCLUSIVE = 8, /* of several pollers only one is woken (for listeners) */
};

struct md_os_event {
    void *owner;     /* borrow: as given to md_os_poll_add */
    uint32_t events; /* a hang-up is reported as readable too, a broken connection as both */
};

bool md_os_poll_create(int *poller, struct md_error *err) MD_MUST_CHECK;
bool md_os_poll_add(int poller, int fd, void *owner, uint32_t events, struct md_error *err)
    MD_MUST_CHECK;
/* events: READ, WRITE, both or none; a hang-up is reported once while none is asked for. */
void md_os_poll_set(int poller, int fd, void *owner, uint32_t events);
void md_os_poll_remove(int poller, int fd);
/* Waits at most timeout_ms (-1: no limit, 0: looks only); number of events, 0 also when
 * interrupted. */
int md_os_poll_wait(int poller, struct md_os_event *events, int max, int timeout_ms);

/* A descriptor that becomes readable once for each signal; the poller never reads it. */
bool md_os_wakeup_create(int poller, void *owner, int *fd, struct md_error *err) MD_MUST_CHECK;
void md_os_wakeup_signal(int fd);
/* Forgets the signals so far: the next wait is for those that come after this. */
void md_os_wakeup_clear(int fd);
/* Waits for a signal alone, whatever the poller's other descriptors do; at most so long. */
void md_os_wakeup_wait(int fd, uint64_t timeout_ns);

void md_os_close(int fd); /* a negative one is fine */

#endif
