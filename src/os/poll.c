/*
 * epoll and eventfd.
 */
#include "os/poll.h"

#include "base/clock.h"
#include "os/inject.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { EVENTS_MAX = 128 };

static bool fail(struct md_error *err, const char *what)
{
    return md_error_set(err, MD_REASON_IO, "%s: %s", what, strerror(errno));
}

bool md_os_poll_create(int *poller, struct md_error *err)
{
    *poller = md_os_injected(EMFILE) ? -1 : epoll_create1(EPOLL_CLOEXEC);
    return *poller >= 0 || fail(err, "epoll_create1");
}

static struct epoll_event make_event(void *owner, uint32_t events)
{
    uint32_t bits = 0;

    if (events & MD_OS_POLL_EXCLUSIVE) {
        bits = (uint32_t)EPOLLIN | (uint32_t)EPOLLEXCLUSIVE;
    } else if (!events) {
        /* Level-triggered RDHUP would fire for ever on a half-closed peer: edge-triggered reports
         * it once. */
        bits = (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET;
    } else {
        /* For the same reason RDHUP only joins reading, which the end of the stream makes ready
         * anyway. */
        bits |= events & MD_OS_POLL_READ ? (uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP : 0U;
        bits |= events & MD_OS_POLL_WRITE ? (uint32_t)EPOLLOUT : 0U;
    }
    return (struct epoll_event){.events = bits, .data.ptr = owner};
}

bool md_os_poll_add(int poller, int fd, void *owner, uint32_t events, struct md_error *err)
{
    struct epoll_event event = make_event(owner, events);

    return (!md_os_injected(ENOSPC) && epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0) ||
           fail(err, "epoll_ctl");
}

void md_os_poll_set(int poller, int fd, void *owner, uint32_t events)
{
    struct epoll_event event = make_event(owner, events);

    (void)epoll_ctl(poller, EPOLL_CTL_MOD, fd,
                    &event); /* takes no memory: cannot fail for what was added */
}

void md_os_poll_remove(int poller, int fd)
{
    (void)epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
}

int md_os_poll_wait(int poller, struct md_os_event *events, int max, int timeout_ms)
{
    struct epoll_event ready[EVENTS_MAX];
    int n = md_os_injected(EINTR)
                ? -1
                : epoll_wait(poller, ready, max < EVENTS_MAX ? max : EVENTS_MAX, timeout_ms);

    for (int i = 0; i < n; i++) {
        uint32_t bits = ready[i].events;
        events[i].owner = ready[i].data.ptr;
        events[i].events =
            (bits & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) ? MD_OS_POLL_READ : 0U) |
            (bits & (EPOLLOUT | EPOLLHUP | EPOLLERR) ? MD_OS_POLL_WRITE : 0U) |
            (bits & (EPOLLHUP | EPOLLERR | EPOLLRDHUP) ? MD_OS_POLL_HANGUP : 0U);
    }
    return n < 0 ? 0 : n;
}

bool md_os_wakeup_create(int poller, void *owner, int *fd, struct md_error *err)
{
    /* Edge-triggered: each write is reported once and nothing has to be read back. */
    struct epoll_event event = {.events = (uint32_t)EPOLLIN | (uint32_t)EPOLLET, .data.ptr = owner};

    *fd = md_os_injected(EMFILE) ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (*fd < 0) {
        return fail(err, "eventfd");
    }
    return (!md_os_injected(ENOSPC) && epoll_ctl(poller, EPOLL_CTL_ADD, *fd, &event) == 0) ||
           fail(err, "epoll_ctl");
}

void md_os_wakeup_signal(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {}
}

void md_os_wakeup_clear(int fd)
{
    uint64_t signals;

    (void)!read(fd, &signals, sizeof signals); /* not blocking; nothing there is fine */
}

void md_os_wakeup_wait(int fd, uint64_t timeout_ns)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / MD_NS_PER_S),
                                     .tv_nsec = (long)(timeout_ns % MD_NS_PER_S)};

    (void)ppoll(&wanted, 1, &timeout, NULL);
}

void md_os_close(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}
