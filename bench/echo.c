/*
 * Bare C echo over HTTP/1.1: the floor that a server can be compared with. One thread, epoll, no
 * checks; answers each POST with its body. Bodies are received straight into a buffer and sent from
 * it with one writev.
 *
 * usage: echo PORT
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { HEAD_MAX = 8192, BODY_MAX = 16 << 20 };

struct connection {
    int fd;
    size_t used, head_bytes, body_bytes, answer_head, sent;
    char answer[128];
    char *data; /* head and body as received */
};

static int poller;

static void write_answer(struct connection *c)
{
    struct iovec parts[2] = {{c->answer, c->answer_head}, {c->data + c->head_bytes, c->body_bytes}};
    size_t skip = c->sent;

    for (int i = 0; i < 2; i++) {
        size_t n = skip < parts[i].iov_len ? skip : parts[i].iov_len;
        parts[i].iov_base = (char *)parts[i].iov_base + n;
        parts[i].iov_len -= n;
        skip -= n;
    }
    ssize_t n = writev(c->fd, parts, 2);
    bool partial = c->sent > 0;
    c->sent += n > 0 ? (size_t)n : 0;
    bool done = c->sent == c->answer_head + c->body_bytes;
    if (!done || partial) {
        struct epoll_event event = {.events = EPOLLIN | (done ? 0u : EPOLLOUT), .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    }
    if (done) {
        c->used = c->head_bytes = c->sent = 0;
    }
}

static void parse(struct connection *c)
{
    c->data[c->used] = '\0';
    char *end = strstr(c->data, "\r\n\r\n");
    if (!end) {
        return;
    }
    char *length = strcasestr(c->data, "\r\ncontent-length:");
    c->head_bytes = (size_t)(end + 4 - c->data);
    c->body_bytes = length ? strtoul(length + 17, NULL, 10) : 0;
    c->answer_head =
        (size_t)snprintf(c->answer, sizeof c->answer,
                         "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", c->body_bytes);
}

static bool receive(struct connection *c)
{
    ssize_t n = recv(c->fd, c->data + c->used, HEAD_MAX + BODY_MAX - c->used - 1, MSG_DONTWAIT);

    if (n <= 0) {
        return n < 0 && errno == EAGAIN;
    }
    c->used += (size_t)n;
    if (!c->head_bytes) {
        parse(c);
    }
    if (c->head_bytes && c->used >= c->head_bytes + c->body_bytes) {
        write_answer(c);
    }
    return true;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct epoll_event events[256], event = {.events = EPOLLIN};

    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 1024) < 0) {
        perror("listen");
        return 1;
    }
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                c = calloc(1, sizeof *c);
                c->data = malloc(HEAD_MAX + BODY_MAX);
                c->fd = accept(listener, NULL, NULL);
                setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                struct epoll_event add = {.events = EPOLLIN, .data.ptr = c};
                epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &add);
            } else if ((events[i].events & EPOLLOUT) && c->head_bytes &&
                       c->used >= c->head_bytes + c->body_bytes) {
                write_answer(c);
            } else if (!receive(c)) {
                close(c->fd);
                free(c->data);
                free(c);
            }
        }
    }
}
