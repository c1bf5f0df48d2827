/*
 * epoll and eventfd.
 */
#include "os/poll.h"

#include "base/fault.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS_MAX = 128 };

static bool fail(struct md_error *err, const char *what)
{
    return md_error_set(err, MD_REASON_IO, "%s: %s", what, strerror(errno));
}

static bool injected(void)
{
    if (md_fault_hit(MD_FAULT_SYSCALL)) {
        errno = EMFILE;
        return true;
    }
    return false;
}

bool md_os_poll_create(int *poller, struct md_error *err)
{
    *poller = injected() ? -1 : epoll_create1(EPOLL_CLOEXEC);
    return *poller >= 0 || fail(err, "epoll_create1");
}

static struct epoll_event make_event(void *owner, bool read, bool write)
{
    /* RDHUP: a peer that goes away is noticed also while nothing is read */
    return (struct epoll_event){
        .events = (read ? (uint32_t)EPOLLIN : 0U) | (write ? (uint32_t)EPOLLOUT : 0U) | (uint32_t)EPOLLRDHUP,
        .data.ptr = owner,
    };
}

bool md_os_poll_add(int poller, int fd, void *owner, bool read, bool write, bool exclusive, struct md_error *err)
{
    struct epoll_event event = make_event(owner, read, write);

    if (exclusive) {
        event.events = EPOLLIN | EPOLLEXCLUSIVE;
    }
    if (injected() || epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) {
        return fail(err, "epoll_ctl");
    }
    return true;
}

void md_os_poll_set(int poller, int fd, void *owner, bool read, bool write)
{
    struct epoll_event event = make_event(owner, read, write);

    if (!read && !write) {
        /* Level-triggered RDHUP would fire for ever on a half-closed peer: edge-triggered reports it once. */
        event.events |= (uint32_t)EPOLLET;
    }
    (void)epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
}

void md_os_poll_remove(int poller, int fd)
{
    (void)epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
}

int md_os_poll_wait(int poller, struct md_os_event *events, int max, int timeout_ms)
{
    struct epoll_event ready[EVENTS_MAX];
    int n = epoll_wait(poller, ready, max < EVENTS_MAX ? max : EVENTS_MAX, timeout_ms);

    for (int i = 0; i < n; i++) {
        uint32_t bits = ready[i].events;
        events[i] = (struct md_os_event){
            .owner = ready[i].data.ptr,
            .readable = bits & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP),
            .writable = bits & (EPOLLOUT | EPOLLHUP | EPOLLERR),
            .hangup = bits & (EPOLLHUP | EPOLLERR | EPOLLRDHUP),
        };
    }
    return n < 0 ? 0 : n;
}

bool md_os_wakeup_create(int *fd, struct md_error *err)
{
    *fd = injected() ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return *fd >= 0 || fail(err, "eventfd");
}

void md_os_wakeup_signal(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void md_os_wakeup_clear(int fd)
{
    uint64_t count;

    while (read(fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
}

void md_os_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}
