/*
 * Sockets over the system calls.
 */
#include "os/socket.h"

#include "base/str.h"
#include "os/inject.h"
#include "os/poll.h"
#include "os/port_holder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 4096 };

static const char *unix_path(const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

/* --- unix -------------------- */

/* A socket file that nobody listens on any more. */
static bool is_stale(const struct sockaddr_un *where)
{
    int fd = md_os_injected(EMFILE)
                 ? -1
                 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool stale = fd >= 0 && connect(fd, (const struct sockaddr *)where, sizeof *where) < 0 &&
                 errno == ECONNREFUSED;

    md_os_close(fd);
    return stale;
}

static bool clear_path(const struct sockaddr_un *where, struct md_error *err)
{
    const char *path = where->sun_path;
    struct stat info;

    if (lstat(path, &info) < 0) {
        return true; /* bind will say what is wrong, if anything */
    }
    if (!S_ISSOCK(info.st_mode)) {
        return md_error_set(err, MD_REASON_IO,
                            "cannot listen on %s: there is a file that is not a socket", path);
    }
    if (!is_stale(where)) {
        return md_error_set(err, MD_REASON_IO,
                            "cannot listen on %s: another program is listening there", path);
    }
    (void)unlink(path);
    return true;
}

static bool listen_unix(const char *path, int *out, struct md_error *err)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};

    if (!*path || strlen(path) >= sizeof where.sun_path) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "the path of socket 'unix:%s' has not 1 to %zu bytes", path,
                            sizeof where.sun_path - 1);
    }
    memcpy(where.sun_path, path, strlen(path) + 1);
    if (!clear_path(&where, err)) {
        return false;
    }
    int fd = md_os_injected(EMFILE)
                 ? -1
                 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool bound = fd >= 0 && !md_os_injected(EACCES) &&
                 bind(fd, (struct sockaddr *)&where, sizeof where) == 0;
    if (bound && !md_os_injected(EADDRINUSE) && listen(fd, BACKLOG) == 0) {
        *out = fd;
        return true;
    }
    md_error_set(err, MD_REASON_IO, "cannot listen on %s: %s", path, strerror(errno));
    if (bound) {
        (void)unlink(path);
    }
    md_os_close(fd);
    return false;
}

/* --- TCP -------------------- */

static bool resolve(const char *address, uint16_t port, struct addrinfo **found,
                    struct md_error *err)
{
    char host[256], service[8];
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct md_str name = md_str_of(address);

    if (md_str_starts_with(name, MD_STR("ipv6:"))) {
        name = md_str_make(name.ptr + 5, name.len - 5);
    }
    if (name.len >= 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']') {
        name = md_str_make(name.ptr + 1, name.len - 2);
    }
    if (!name.len || name.len >= sizeof host) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "'%s' is not an address", address);
    }
    (void)snprintf(host, sizeof host, "%.*s", MD_STR_ARG(name));
    (void)snprintf(service, sizeof service, "%u", port);
    int code = md_os_injected(EIO) ? EAI_SYSTEM : getaddrinfo(host, service, &hints, found);
    if (code != 0) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "cannot find address '%s': %s",
                            address, code == EAI_SYSTEM ? strerror(errno) : gai_strerror(code));
    }
    return true;
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                : ((const struct sockaddr_in *)address)->sin_port);
}

/* A listening socket, or -1 and errno. */
static int open_listener(const struct addrinfo *where, bool reuse_port, uint16_t *bound)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof name;
    int one = 1, zero = 0;
    int fd = md_os_injected(EMFILE)
                 ? -1
                 : socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0) {
        return -1;
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* connections inherit it */
    if (where->ai_family == AF_INET6) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    }
    if (reuse_port) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    }
    if (md_os_injected(EADDRINUSE) || bind(fd, where->ai_addr, where->ai_addrlen) < 0 ||
        md_os_injected(EADDRINUSE) || listen(fd, BACKLOG) < 0 || md_os_injected(ENOBUFS) ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    *bound = port_of(&name);
    return fd;
}

/* Of the addresses of a name the first that exists here. IPv4 goes first: who is told "localhost"
 * tries both, who is told "127.0.0.1" does not. -1 and errno. */
static int open_first(const struct addrinfo *found, bool reuse_port, uint16_t *bound)
{
    static const int families[] = {AF_INET, AF_INET6};

    errno = EAFNOSUPPORT;
    for (size_t i = 0; i < MD_COUNT_OF(families); i++) {
        for (const struct addrinfo *where = found; where; where = where->ai_next) {
            if (where->ai_family != families[i]) {
                continue;
            }
            int fd = open_listener(where, reuse_port, bound);
            if (fd >= 0 || (errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT)) {
                return fd;
            }
        }
    }
    return -1;
}

static bool listen_tcp(const char *address, uint16_t port, bool reuse_port, int *out,
                       uint16_t *bound, struct md_error *err)
{
    struct addrinfo *found = NULL;
    char holder[MD_OS_HOLDER_MAX];

    if (!resolve(address, port, &found, err)) {
        return false;
    }
    *out = open_first(found, reuse_port, bound);
    int error = errno;
    freeaddrinfo(found);
    if (*out >= 0) {
        return true;
    }
    if (error == EADDRINUSE) {
        return md_error_set(
            err, MD_REASON_IO,
            "cannot listen on %s port %u: %s has this port: stop it, or choose another port",
            address, port, md_os_port_holder(port, holder) ? holder : "another program");
    }
    return md_error_set(err, MD_REASON_IO, "cannot listen on %s port %u: %s", address, port,
                        strerror(error));
}

bool md_os_socket_listen(const char *address, uint16_t port, bool reuse_port, int *fd,
                         uint16_t *bound, struct md_error *err)
{
    const char *path = unix_path(address);

    *bound = 0;
    return path ? listen_unix(path, fd, err)
                : listen_tcp(address, port, reuse_port, fd, bound, err);
}

void md_os_socket_forget(const char *address)
{
    const char *path = unix_path(address);

    if (path) {
        (void)unlink(path);
    }
}

/* --- connections -------------------- */

static void print_peer(const struct sockaddr_storage *from, char peer[MD_OS_PEER_MAX])
{
    char host[INET6_ADDRSTRLEN];

    if (from->ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &((const struct sockaddr_in *)from)->sin_addr, host, sizeof host);
        (void)snprintf(peer, MD_OS_PEER_MAX, "%s:%u", host, port_of(from));
    } else if (from->ss_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)from)->sin6_addr, host,
                        sizeof host);
        (void)snprintf(peer, MD_OS_PEER_MAX, "[%s]:%u", host, port_of(from));
    } else {
        (void)snprintf(peer, MD_OS_PEER_MAX, "unix:");
    }
}

enum md_os_accept md_os_socket_accept(int listener, int *fd, char peer[MD_OS_PEER_MAX])
{
    struct sockaddr_storage from = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof from;

    *fd = md_os_injected(EMFILE)
              ? -1
              : accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (*fd < 0) {
        bool exhausted = errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS;
        return exhausted ? MD_OS_ACCEPT_EXHAUSTED : MD_OS_ACCEPT_NONE;
    }
    print_peer(&from, peer);
    return MD_OS_ACCEPT_OK;
}

static enum md_os_io io_error(struct md_error *err, const char *what)
{
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
        return MD_OS_IO_AGAIN;
    }
    md_error_set(err, MD_REASON_IO, "%s: %s", what, strerror(errno));
    return MD_OS_IO_ERROR;
}

enum md_os_io md_os_socket_recv(int fd, void *data, size_t len, size_t *count, struct md_error *err)
{
    ssize_t n = md_os_injected(ECONNRESET) ? -1 : recv(fd, data, len, 0);

    *count = n > 0 ? (size_t)n : 0;
    if (n > 0) {
        return MD_OS_IO_OK;
    }
    return n == 0 ? MD_OS_IO_EOF : io_error(err, "recv");
}

enum md_os_io md_os_socket_recv_parts(int fd, const struct iovec *parts, int part_count,
                                      size_t *count, struct md_error *err)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)part_count};
    ssize_t n = md_os_injected(ECONNRESET) ? -1
                : part_count == 1 /* the cheaper call */
                    ? recv(fd, parts->iov_base, parts->iov_len, 0)
                    : recvmsg(fd, &message, 0);

    *count = n > 0 ? (size_t)n : 0;
    if (n > 0) {
        return MD_OS_IO_OK;
    }
    return n == 0 ? MD_OS_IO_EOF : io_error(err, "recv");
}

enum md_os_io md_os_socket_send(int fd, const struct iovec *parts, int part_count, size_t *count,
                                struct md_error *err)
{
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                             .msg_iovlen = (size_t)part_count};
    ssize_t n = md_os_injected(EPIPE) ? -1
                : part_count == 1     ? send(fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                                      : sendmsg(fd, &message, MSG_NOSIGNAL);

    *count = n > 0 ? (size_t)n : 0;
    return n >= 0 ? MD_OS_IO_OK : io_error(err, "send");
}

void md_os_socket_shutdown_write(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

void md_os_socket_set_low_water(int fd, size_t bytes)
{
    const int value = (int)bytes;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value);
}

size_t md_os_socket_unsent(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}
