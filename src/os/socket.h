/*
 * Stream sockets: TCP over IPv4 and IPv6, unix sockets. All descriptors are non-blocking and
 * close-on-exec.
 */
#ifndef MD_OS_SOCKET_H
#define MD_OS_SOCKET_H

#include "base/error.h"

#include <sys/types.h>
#include <sys/uio.h>

enum { MD_OS_PEER_MAX = 80 };

enum md_os_io { MD_OS_IO_OK, MD_OS_IO_AGAIN, MD_OS_IO_EOF, MD_OS_IO_ERROR };

/* Binds and listens. address: "127.0.0.1", "::1", "[::1]", "ipv6:[::1]", a host name, or
 * "unix:/path". A stale unix socket is replaced. Errors name address and port, and the process that
 * holds it where it can be found. *bound is the port (0 for unix). Of several
 * addresses of a name it is the first that exists here, IPv4 before IPv6. */
bool md_os_socket_listen(const char *address, uint16_t port, bool reuse_port, int *fd,
                         uint16_t *bound, struct md_error *err) MD_MUST_CHECK;
/* Removes the socket file of a unix address; nothing for others. */
void md_os_socket_forget(const char *address);

enum md_os_accept { MD_OS_ACCEPT_OK, MD_OS_ACCEPT_NONE, MD_OS_ACCEPT_EXHAUSTED };
/* EXHAUSTED: out of descriptors or memory, try again later. peer: who it is, for logs. */
enum md_os_accept md_os_socket_accept(int listener, int *fd, char peer[MD_OS_PEER_MAX]);

/* len > 0; parts: some bytes in at most 1024 of them. EOF only from recv. */
enum md_os_io md_os_socket_recv(int fd, void *data, size_t len, size_t *count,
                                struct md_error *err);
enum md_os_io md_os_socket_recv_parts(int fd, const struct iovec *parts, int part_count,
                                      size_t *count, struct md_error *err);
enum md_os_io md_os_socket_send(int fd, const struct iovec *parts, int part_count, size_t *count,
                                struct md_error *err);
void md_os_socket_shutdown_write(int fd);
/* From how many bytes on it is readable (SO_RCVLOWAT, tcp(7)); TCP only. At once, if they are
 * there. */
void md_os_socket_set_low_water(int fd, size_t bytes);
/* Bytes that were written and have not reached the peer yet. */
size_t md_os_socket_unsent(int fd);

#endif
