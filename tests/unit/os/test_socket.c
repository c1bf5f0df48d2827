/*
 * os/socket and os/port_holder over loopback: addresses, accept, transfer, what errors say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/poll.h"
#include "os/port_holder.h"
#include "os/socket.h"

static char folder[] = "/tmp/md-socket-XXXXXX";

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(folder);
}

static int connect_tcp(bool v6, uint16_t port)
{
    const struct sockaddr_in v4_address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct sockaddr_in6 v6_address = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

    assert_int_equal(v6 ? connect(fd, (const struct sockaddr *)&v6_address, sizeof v6_address)
                        : connect(fd, (const struct sockaddr *)&v4_address, sizeof v4_address),
                     0);
    return fd;
}

static int try_connect_unix(const char *path)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    memcpy(where.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&where, sizeof where) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool has_ipv6(void)
{
    struct md_error err;
    uint16_t port;
    int fd;
    bool has = md_os_socket_listen("::1", 0, false, &fd, &port, &err);

    if (has) {
        md_os_close(fd);
    }
    return has;
}

static void test_socket_listens_and_accepts(void **state)
{
    static const struct {
        const char *address;
        bool v6;
        const char *peer;
    } rows[] = {
        {"127.0.0.1", false, "127.0.0.1:%u"},
        {"0.0.0.0", false, "127.0.0.1:%u"},
        {"localhost", false, "127.0.0.1:%u"},
        {"::1", true, "[::1]:%u"},
        {"[::1]", true, "[::1]:%u"},
        {"ipv6:[::1]", true, "[::1]:%u"},
        {"::", true, "[::1]:%u"},
        {"::", false, "[::ffff:127.0.0.1]:%u"},
    };
    bool v6_works = has_ipv6();

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_error err;
        struct sockaddr_storage own;
        socklen_t len = sizeof own;
        char peer[MD_OS_PEER_MAX], expected[MD_OS_PEER_MAX];
        uint16_t port;
        int fd, accepted;
        if (!v6_works && strchr(rows[i].address, ':')) {
            continue;
        }
        assert_true(md_os_socket_listen(rows[i].address, 0, false, &fd, &port, &err));
        assert_int_not_equal(port, 0);
        assert_int_equal(md_os_socket_accept(fd, &accepted, peer), MD_OS_ACCEPT_NONE);
        int client = connect_tcp(rows[i].v6, port);
        assert_int_equal(md_os_socket_accept(fd, &accepted, peer), MD_OS_ACCEPT_OK);
        assert_int_equal(getsockname(client, (struct sockaddr *)&own, &len), 0);
        /* the port lies at the same place in both families */
        (void)snprintf(expected, sizeof expected, rows[i].peer,
                       ntohs(((const struct sockaddr_in *)(const void *)&own)->sin_port));
        assert_string_equal(peer, expected);
        close(accepted);
        close(client);
        md_os_close(fd);
    }
}

static void test_socket_port_in_use_names_port_and_holder(void **state)
{
    struct md_error err;
    char expected[64];
    uint16_t port, again;
    int fd, second;

    (void)state;
    assert_true(md_os_socket_listen("127.0.0.1", 0, false, &fd, &port, &err));
    assert_false(md_os_socket_listen("127.0.0.1", port, false, &second, &again, &err));
    assert_int_equal(err.reason, MD_REASON_IO);
    (void)snprintf(expected, sizeof expected, "127.0.0.1 port %u", port);
    assert_non_null(strstr(err.text, expected));
    (void)snprintf(expected, sizeof expected, "test_socket (pid %d)", getpid());
    assert_non_null(strstr(err.text, expected));
    /* a name does not slip past to its next address, where clients would not look */
    assert_false(md_os_socket_listen("localhost", port, false, &second, &again, &err));
    assert_non_null(strstr(err.text, "localhost port"));
    md_os_close(fd);
    char holder[MD_OS_HOLDER_MAX];
    assert_false(md_os_port_holder(port, holder));
}

static void test_socket_port_is_shared_if_wished(void **state)
{
    struct md_error err;
    uint16_t port, again;
    int fd, second;

    (void)state;
    assert_true(md_os_socket_listen("127.0.0.1", 0, true, &fd, &port, &err));
    assert_true(md_os_socket_listen("127.0.0.1", port, true, &second, &again, &err));
    assert_int_equal(again, port);
    md_os_close(fd);
    md_os_close(second);
}

static void test_socket_bad_addresses_are_named(void **state)
{
    static char long_name[400];
    const struct {
        const char *address;
        const char *says;
    } rows[] = {
        {"", "''"},
        {"[]", "'[]'"},
        {"256.0.0.1.", "256.0.0.1."},
        {"host name", "host name"},
        {"unix:", "unix:"},
        {"192.0.2.1", "192.0.2.1 port"},
        {long_name, "not an address"},
    };

    (void)state;
    memset(long_name, 'a', sizeof long_name - 1);
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_error err;
        uint16_t port;
        int fd;
        assert_false(md_os_socket_listen(rows[i].address, 0, false, &fd, &port, &err));
        assert_non_null(strstr(err.text, rows[i].says));
    }
}

static void test_socket_unix_life(void **state)
{
    char address[128], peer[MD_OS_PEER_MAX];
    const char *path = address + 5;
    struct md_error err;
    uint16_t port = 1;
    int fd, second, accepted;

    (void)state;
    (void)snprintf(address, sizeof address, "unix:%s/socket", folder);
    assert_true(md_os_socket_listen(address, 0, false, &fd, &port, &err));
    assert_int_equal(port, 0);
    int client = try_connect_unix(path);
    assert_true(client >= 0);
    assert_int_equal(md_os_socket_accept(fd, &accepted, peer), MD_OS_ACCEPT_OK);
    assert_string_equal(peer, "unix:");
    close(accepted);
    close(client);

    /* a live socket is left alone */
    assert_false(md_os_socket_listen(address, 0, false, &second, &port, &err));
    assert_non_null(strstr(err.text, path));
    client = try_connect_unix(path);
    assert_true(client >= 0);
    close(client);

    /* a stale one is replaced */
    md_os_close(fd);
    assert_int_equal(access(path, F_OK), 0);
    assert_true(md_os_socket_listen(address, 0, false, &fd, &port, &err));
    md_os_socket_forget(address);
    assert_int_equal(access(path, F_OK), -1);
    md_os_close(fd);
}

static void test_socket_unix_does_not_remove_files(void **state)
{
    char address[128], long_address[300] = "unix:/";
    struct md_error err;
    uint16_t port;
    int fd;

    (void)state;
    (void)snprintf(address, sizeof address, "unix:%s/file", folder);
    FILE *file = fopen(address + 5, "w");
    assert_non_null(file);
    (void)fclose(file);
    assert_false(md_os_socket_listen(address, 0, false, &fd, &port, &err));
    assert_non_null(strstr(err.text, "not a socket"));
    assert_int_equal(unlink(address + 5), 0);

    /* a datagram socket, as a system log has one: cannot be connected to, and is not stale */
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    int datagram = socket(AF_UNIX, SOCK_DGRAM, 0);
    memcpy(where.sun_path, address + 5, strlen(address + 5) + 1);
    assert_int_equal(bind(datagram, (struct sockaddr *)&where, sizeof where), 0);
    assert_false(md_os_socket_listen(address, 0, false, &fd, &port, &err));
    assert_int_equal(access(address + 5, F_OK), 0);
    close(datagram);
    assert_int_equal(unlink(address + 5), 0);
    memset(long_address + 6, 'x', 200);
    assert_false(md_os_socket_listen(long_address, 0, false, &fd, &port, &err));
    assert_int_equal(err.reason, MD_REASON_INVALID_ARGUMENT);
    md_os_socket_forget("127.0.0.1");
}

static void test_socket_transfers(void **state)
{
    static char large[1 << 20];
    const struct iovec hello[] = {{.iov_base = "he", .iov_len = 2},
                                  {.iov_base = "llo", .iov_len = 3}};
    const struct iovec much = {.iov_base = large, .iov_len = sizeof large};
    struct md_error err;
    char text[16];
    int pair[2];
    size_t count;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(md_os_socket_recv(pair[0], text, sizeof text, &count, &err), MD_OS_IO_AGAIN);
    assert_int_equal(md_os_socket_send(pair[1], hello, 2, &count, &err), MD_OS_IO_OK);
    assert_int_equal(count, 5);
    assert_int_equal(md_os_socket_recv(pair[0], text, sizeof text, &count, &err), MD_OS_IO_OK);
    assert_int_equal(count, 5);
    assert_memory_equal(text, "hello", 5);
    enum md_os_io outcome;
    do {
        outcome = md_os_socket_send(pair[1], &much, 1, &count, &err);
    } while (outcome == MD_OS_IO_OK);
    assert_int_equal(outcome, MD_OS_IO_AGAIN);
    while (md_os_socket_recv(pair[0], large, sizeof large, &count, &err) == MD_OS_IO_OK) {}
    md_os_socket_shutdown_write(pair[1]);
    assert_int_equal(md_os_socket_recv(pair[0], text, sizeof text, &count, &err), MD_OS_IO_EOF);
    assert_int_equal(count, 0);
    close(pair[0]);
    /* the peer has gone: an error, not a signal */
    assert_int_equal(md_os_socket_send(pair[1], hello, 2, &count, &err), MD_OS_IO_ERROR);
    assert_non_null(strstr(err.text, strerror(EPIPE)));
    close(pair[1]);
}

static void test_socket_every_system_call_may_fail(void **state)
{
    static const char *const addresses[] = {"127.0.0.1", "unix:%s/torture"};
    char address[128];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(addresses); i++) {
        (void)snprintf(address, sizeof address, addresses[i], folder);
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            struct md_error err = {0};
            uint16_t port;
            int fd = -1;
            md_fault_arm(MD_FAULT_SYSCALL, n);
            bool ok = md_os_socket_listen(address, 0, false, &fd, &port, &err);
            delivered = md_fault_disarm(MD_FAULT_SYSCALL);
            assert_int_equal(ok, !delivered);
            assert_int_equal(err.text[0] == '\0', ok);
            if (ok) {
                md_os_close(fd);
            }
            md_os_socket_forget(address);
            assert_true(n < 100);
        }
    }
}

static void test_socket_injected_transfer_errors(void **state)
{
    const struct iovec part = {.iov_base = "x", .iov_len = 1};
    char peer[MD_OS_PEER_MAX], text[4];
    struct md_error err;
    size_t count;
    int fd;

    (void)state;
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_int_equal(md_os_socket_accept(-1, &fd, peer), MD_OS_ACCEPT_EXHAUSTED);
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_int_equal(md_os_socket_recv(-1, text, sizeof text, &count, &err), MD_OS_IO_ERROR);
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_int_equal(md_os_socket_send(-1, &part, 1, &count, &err), MD_OS_IO_ERROR);
    md_fault_disarm(MD_FAULT_SYSCALL);
    assert_int_equal(md_os_socket_accept(-1, &fd, peer), MD_OS_ACCEPT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_socket_listens_and_accepts),
        cmocka_unit_test(test_socket_port_in_use_names_port_and_holder),
        cmocka_unit_test(test_socket_port_is_shared_if_wished),
        cmocka_unit_test(test_socket_bad_addresses_are_named),
        cmocka_unit_test(test_socket_unix_life),
        cmocka_unit_test(test_socket_unix_does_not_remove_files),
        cmocka_unit_test(test_socket_transfers),
        cmocka_unit_test(test_socket_every_system_call_may_fail),
        cmocka_unit_test(test_socket_injected_transfer_errors),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
