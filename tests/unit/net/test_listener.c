/*
 * net/listener and net/conn: two loops that the test turns by hand on a clock of its own, then the
 * same with threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "net/conn_internal.h"
#include "net/listener.h"
#include "os/clock.h"

enum { LOOPS = 2, CONNS_MAX = 256 };

static uint64_t clock_ns;

static uint64_t moved_clock(void)
{
    return clock_ns;
}

/* --- what was logged
 * ---------------------------------------------------------------------------------------------------
 */

static unsigned log_count;
static char log_last[256];

static void keep_log(void *arg, enum md_log_level level, const struct md_log_context *context,
                     struct md_str text)
{
    (void)arg;
    (void)level;
    (void)context;
    log_count++;
    (void)snprintf(log_last, sizeof log_last, "%.*s", MD_STR_ARG(text));
}

/* --- a server that echoes
 * -----------------------------------------------------------------------------------------------
 */

struct echo {
    struct md_conn *conn;
    struct md_loop *loop;
};

struct fixture {
    struct md_budget budget;
    struct md_loop *loops[LOOPS];
    struct md_listener *listener;
    struct echo echoes[CONNS_MAX];
    atomic_size_t accepted;
    atomic_uint wrong_thread;
};

static void echo_ready(void *arg, uint32_t events)
{
    struct echo *echo = arg;
    struct md_error err;
    char data[256];
    size_t count;

    (void)events;
    enum md_io outcome = md_conn_recv(echo->conn, data, sizeof data, &count, &err);
    if (outcome == MD_IO_OK) {
        const struct iovec part = {.iov_base = data, .iov_len = count};
        outcome = md_conn_send(echo->conn, &part, 1, &count, &err);
    }
    if (outcome == MD_IO_EOF || outcome == MD_IO_ERROR) {
        md_conn_close(echo->conn);
        echo->conn = NULL;
    }
}

static void accept_echo(void *arg, struct md_conn *conn)
{
    static const struct md_conn_handler handler = {.ready = echo_ready};
    struct fixture *fixture = arg;
    size_t at = atomic_fetch_add(&fixture->accepted, 1);

    assert_true(at < CONNS_MAX);
    fixture->echoes[at] = (struct echo){.conn = conn, .loop = md_conn_loop(conn)};
    if (md_loop_current() != md_conn_loop(conn)) {
        atomic_fetch_add(&fixture->wrong_thread, 1);
    }
    md_conn_set_handler(conn, &handler, &fixture->echoes[at]);
}

static struct md_listener_options options_for(struct fixture *fixture, const char *address)
{
    return (struct md_listener_options){
        .address = address,
        .name = "http",
        .max_connections = CONNS_MAX,
        .loops = fixture->loops,
        .loop_count = LOOPS,
        .accepted = accept_echo,
        .arg = fixture,
    };
}

static int set_up(void **state)
{
    static const struct md_log_sink sink = {.write = keep_log};
    static struct fixture fixture;
    struct md_error err;

    fixture = (struct fixture){0};
    log_count = 0;
    clock_ns = 10 * (uint64_t)MD_NS_PER_S;
    md_clock_monotonic_ns = moved_clock;
    md_log_set_sink(&sink);
    md_budget_init(&fixture.budget, 1 << 20);
    for (unsigned i = 0; i < LOOPS; i++) {
        const struct md_loop_options options = {.index = i, .cpu = -1, .budget = &fixture.budget};
        if (!md_loop_create(&options, &fixture.loops[i], &err)) {
            return -1;
        }
    }
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    for (size_t i = 0; i < MD_COUNT_OF(fixture->echoes); i++) {
        if (fixture->echoes[i].conn) {
            md_conn_close(fixture->echoes[i].conn);
        }
    }
    md_listener_destroy(fixture->listener);
    for (size_t i = 0; i < LOOPS; i++) {
        md_loop_destroy(fixture->loops[i]);
    }
    md_log_set_sink(NULL);
    return 0;
}

/* Two rounds: what one loop hands over, the other takes in the second. */
static void turn(struct fixture *fixture)
{
    struct md_error err;

    for (size_t i = 0; i < 2 * LOOPS; i++) {
        assert_true(md_loop_run_once(fixture->loops[i % LOOPS], 0, &err));
    }
}

static void start(struct fixture *fixture)
{
    const struct md_listener_options options = options_for(fixture, "127.0.0.1");
    struct md_error err;

    assert_true(md_listener_create(&options, &fixture->listener, &err));
    assert_true(md_listener_start(fixture->listener, &err));
    turn(fixture);
}

/* --- clients
 * --------------------------------------------------------------------------------------------------------------
 */

static int try_connect(uint16_t port)
{
    const struct sockaddr_in where = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (connect(fd, (const struct sockaddr *)&where, sizeof where) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int connect_to(const struct fixture *fixture)
{
    int fd = try_connect(md_listener_port(fixture->listener));

    assert_true(fd >= 0);
    return fd;
}

/* Bytes that have come back; 0 at the end of the stream, -1 if there is nothing yet, -2 if it was
 * broken off. */
static long received(int fd)
{
    char data[64];
    ssize_t n = recv(fd, data, sizeof data, MSG_DONTWAIT);

    return n >= 0 ? (long)n : errno == EAGAIN ? -1 : -2;
}

/* --- accepting
 * ------------------------------------------------------------------------------------------------------------
 */

static void test_listener_serves_a_connection(void **state)
{
    struct fixture *fixture = *state;
    int one = 0;
    socklen_t len = sizeof one;
    char expected[64];
    struct sockaddr_in own;
    socklen_t own_len = sizeof own;

    start(fixture);
    int client = connect_to(fixture);
    assert_int_equal(write(client, "hello", 5), 5);
    turn(fixture);
    turn(fixture);
    assert_int_equal(received(client), 5);
    assert_int_equal(md_listener_open_count(fixture->listener), 1);
    assert_int_equal(md_listener_accepted_count(fixture->listener), 1);
    assert_int_equal(getsockname(client, (struct sockaddr *)&own, &own_len), 0);
    (void)snprintf(expected, sizeof expected, "127.0.0.1:%u", ntohs(own.sin_port));
    assert_string_equal(md_conn_peer(fixture->echoes[0].conn), expected);
    assert_int_equal(
        getsockopt(fixture->echoes[0].conn->fd.fd, IPPROTO_TCP, TCP_NODELAY, &one, &len), 0);
    assert_true(one);
    md_conn_shutdown(fixture->echoes[0].conn);
    assert_int_equal(received(client), 0);
    close(client);
    turn(fixture);
    assert_null(fixture->echoes[0].conn);
    assert_int_equal(md_listener_open_count(fixture->listener), 0);
    assert_int_equal(md_listener_accepted_count(fixture->listener), 1);
    for (size_t i = 0; i < LOOPS; i++) {
        assert_int_equal(md_loop_connection_count(fixture->loops[i]), 0);
    }
}

/* Whoever accepts, the loop with the fewest gets the connection. */
static void test_listener_balances_over_loops(void **state)
{
    enum { CLIENTS = 20 };
    struct fixture *fixture = *state;
    struct md_error err;
    int clients[CLIENTS];

    start(fixture);
    md_loop_count_connection(fixture->loops[0], 4); /* as if another listener had given it some */
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(fixture);
    }
    for (int i = 0; i < 5; i++) {
        assert_true(md_loop_run_once(fixture->loops[0], 0, &err)); /* it alone accepts */
    }
    turn(fixture);
    assert_int_equal(atomic_load(&fixture->accepted), CLIENTS);
    assert_int_equal(md_loop_connection_count(fixture->loops[0]), 12);
    assert_int_equal(md_loop_connection_count(fixture->loops[1]), 12);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(write(clients[i], "x", 1), 1);
    }
    turn(fixture);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(received(clients[i]), 1);
        close(clients[i]);
    }
    assert_int_equal(fixture->wrong_thread, 0);
}

static void test_listener_closes_connections_beyond_the_limit(void **state)
{
    struct fixture *fixture = *state;
    struct md_listener_options options = options_for(fixture, "127.0.0.1");
    struct md_error err;
    int clients[4];

    options.max_connections = 2;
    assert_true(md_listener_create(&options, &fixture->listener, &err));
    assert_true(md_listener_start(fixture->listener, &err));
    for (size_t i = 0; i < MD_COUNT_OF(clients); i++) {
        clients[i] = connect_to(fixture);
    }
    turn(fixture);
    for (size_t i = 0; i < MD_COUNT_OF(clients); i++) {
        assert_int_equal(received(clients[i]), i < 2 ? -1 : 0);
    }
    assert_int_equal(log_count, 1); /* two refused, one warning a second */
    assert_non_null(strstr(log_last, "http"));
    assert_non_null(strstr(log_last, "--max-connections"));
    assert_int_equal(md_listener_open_count(fixture->listener), 2);
    close(clients[0]);
    turn(fixture);
    int another = connect_to(fixture);
    turn(fixture);
    assert_int_equal(received(another), -1);
    close(another);
    for (size_t i = 1; i < MD_COUNT_OF(clients); i++) {
        close(clients[i]);
    }
}

static void test_listener_out_of_descriptors_pauses(void **state)
{
    struct fixture *fixture = *state;

    start(fixture);
    int client = connect_to(fixture);
    for (int i = 0; i < LOOPS; i++) {
        struct md_error err;
        md_fault_arm(MD_FAULT_SYSCALL, 1); /* the wait succeeds, accept fails */
        assert_true(md_loop_run_once(fixture->loops[i], 0, &err));
        assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    }
    assert_int_equal(log_count, 1);
    assert_non_null(strstr(log_last, "descriptors"));
    turn(fixture);
    assert_int_equal(md_listener_accepted_count(fixture->listener), 0); /* paused */
    clock_ns += 99 * (uint64_t)MD_NS_PER_MS;
    turn(fixture);
    assert_int_equal(md_listener_accepted_count(fixture->listener), 0);
    clock_ns += 1 * (uint64_t)MD_NS_PER_MS;
    turn(fixture);
    turn(fixture);
    assert_int_equal(md_listener_accepted_count(fixture->listener), 1);
    assert_int_equal(received(client), -1);
    close(client);
}

/* --- stopping
 * --------------------------------------------------------------------------------------------------------------
 */

static void test_listener_stop_closes_the_socket_but_not_connections(void **state)
{
    struct fixture *fixture = *state;

    start(fixture);
    int client = connect_to(fixture);
    turn(fixture);
    md_listener_stop(fixture->listener);
    md_listener_stop(fixture->listener);
    turn(fixture);
    assert_int_equal(try_connect(md_listener_port(fixture->listener)), -1);
    assert_int_equal(write(client, "x", 1), 1);
    turn(fixture);
    assert_int_equal(received(client), 1);
    close(client);
}

static void test_listener_stop_takes_who_is_connected_already(void **state)
{
    struct fixture *fixture = *state;

    start(fixture);
    turn(fixture);
    int client = connect_to(fixture); /* by the kernel: nobody has accepted it yet */
    md_listener_stop(fixture->listener);
    assert_int_equal(write(client, "x", 1), 1);
    turn(fixture);
    assert_int_equal(received(client), 1);
    close(client);
}

static void test_listener_stopped_while_it_pauses(void **state)
{
    struct fixture *fixture = *state;
    struct md_error err;

    start(fixture);
    int client = connect_to(fixture);
    md_fault_arm(MD_FAULT_SYSCALL, 1);
    assert_true(md_loop_run_once(fixture->loops[0], 0, &err));
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
    md_listener_stop(fixture->listener);
    clock_ns += MD_NS_PER_S;
    turn(fixture);
    assert_int_equal(try_connect(md_listener_port(fixture->listener)), -1);
    close(client);
}

static void test_listener_stop_before_its_loops_ran(void **state)
{
    struct fixture *fixture = *state;
    const struct md_listener_options options = options_for(fixture, "127.0.0.1");
    struct md_error err;

    for (int started = 0; started < 2; started++) {
        assert_true(md_listener_create(&options, &fixture->listener, &err));
        if (started) {
            assert_true(md_listener_start(fixture->listener, &err));
        }
        md_listener_stop(fixture->listener);
        turn(fixture);
        assert_int_equal(try_connect(md_listener_port(fixture->listener)), -1);
        md_listener_destroy(fixture->listener);
    }
    fixture->listener = NULL;
}

static void test_listener_unix_socket_file_comes_and_goes(void **state)
{
    struct fixture *fixture = *state;
    char folder[] = "/tmp/md-listener-XXXXXX", address[64];
    struct md_listener *second;
    struct md_error err;

    assert_non_null(mkdtemp(folder));
    (void)snprintf(address, sizeof address, "unix:%s/s", folder);
    const struct md_listener_options options = options_for(fixture, address);
    assert_true(md_listener_create(&options, &fixture->listener, &err));
    assert_true(md_listener_start(fixture->listener, &err));
    assert_int_equal(md_listener_port(fixture->listener), 0);
    turn(fixture);

    struct sockaddr_un where = {.sun_family = AF_UNIX};
    memcpy(where.sun_path, address + 5, strlen(address + 5) + 1);
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&where, sizeof where), 0);
    assert_int_equal(write(client, "x", 1), 1);
    turn(fixture);
    turn(fixture);
    assert_int_equal(received(client), 1);
    assert_string_equal(md_conn_peer(fixture->echoes[0].conn), "unix:");
    close(client);

    /* another server that wants the same path fails and leaves it alone */
    assert_false(md_listener_create(&options, &second, &err));
    assert_int_equal(access(address + 5, F_OK), 0);
    assert_non_null(strstr(err.text, "http: "));
    assert_non_null(strstr(err.text, address + 5));

    md_listener_stop(fixture->listener);
    turn(fixture);
    assert_int_equal(access(address + 5, F_OK), -1);
    assert_int_equal(rmdir(folder), 0);
}

static void test_listener_port_in_use_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct md_listener_options options = options_for(fixture, "127.0.0.1");
    struct md_listener *second;
    struct md_error err;
    char port[32];

    start(fixture);
    options.port = md_listener_port(fixture->listener);
    assert_false(md_listener_create(&options, &second, &err));
    (void)snprintf(port, sizeof port, "http: * port %u", options.port);
    assert_memory_equal(err.text, port, 6);
    assert_non_null(strstr(err.text, port + 8));
}

/* --- failures
 * ---------------------------------------------------------------------------------------------------------------
 */

static void test_listener_create_failures(void **state)
{
    struct fixture *fixture = *state;
    const struct md_listener_options options = options_for(fixture, "127.0.0.1");

    for (int kind = 0; kind < MD_FAULT_KIND_COUNT; kind++) {
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            struct md_listener *listener = NULL;
            struct md_error err = {0};
            md_fault_arm((enum md_fault_kind)kind, n);
            bool ok = md_listener_create(&options, &listener, &err);
            delivered = md_fault_disarm((enum md_fault_kind)kind);
            assert_int_equal(ok, !delivered);
            assert_int_equal(err.text[0] == '\0', ok);
            md_listener_destroy(listener);
            assert_true(n < 100);
        }
    }
}

/* Whatever fails between connect and echo: the client is served or its connection ends; nothing
 * stays behind. */
static void test_listener_every_call_may_fail_while_serving(void **state)
{
    struct fixture *fixture = *state;

    start(fixture);
    for (int kind = 0; kind < MD_FAULT_KIND_COUNT; kind++) {
        bool delivered = true;
        for (long n = 0; delivered; n++) {
            atomic_store(&fixture->accepted, 0);
            int client = connect_to(fixture);
            assert_int_equal(write(client, "x", 1), 1);
            md_fault_arm((enum md_fault_kind)kind, n);
            for (int i = 0; i < 3; i++) {
                turn(fixture);
            }
            delivered = md_fault_disarm((enum md_fault_kind)kind);
            clock_ns += MD_NS_PER_S; /* a pause is over */
            turn(fixture);
            turn(fixture);
            long got = received(client);
            assert_true(got == 1 || got == 0 || got == -2);
            assert_true(delivered || got == 1);
            close(client);
            turn(fixture);
            assert_int_equal(md_listener_open_count(fixture->listener), 0);
            assert_int_equal(md_loop_connection_count(fixture->loops[0]) +
                                 md_loop_connection_count(fixture->loops[1]),
                             0);
            assert_true(n < 200);
        }
    }
}

/* The retry timer needs room in a heap that is full and cannot grow just then. */
static void test_listener_start_without_memory_for_a_timer_goes_on_trying(void **state)
{
    struct fixture *fixture = *state;
    const struct md_listener_options options = options_for(fixture, "127.0.0.1");
    struct md_error err;
    bool full = false;
    size_t taken = 0;

    while (!full) {
        md_fault_arm(MD_FAULT_ALLOC, 0);
        full = !md_loop_timer_reserve(fixture->loops[0], &err);
        md_fault_disarm(MD_FAULT_ALLOC);
        taken += !full;
    }
    assert_true(taken > 0);
    assert_true(md_listener_create(&options, &fixture->listener, &err));
    assert_true(md_listener_start(fixture->listener, &err));
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_true(md_loop_run_once(fixture->loops[0], 0, &err));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    int client = connect_to(fixture);
    for (int i = 0; i < 3; i++) {
        assert_true(md_loop_run_once(fixture->loops[0], 0, &err));
    }
    assert_int_equal(md_listener_accepted_count(fixture->listener), 1);
    close(client);
    turn(fixture);
}

/* --- with threads
 * -------------------------------------------------------------------------------------------------------------
 */

static void test_listener_with_running_loops(void **state)
{
    enum { CLIENTS = 64, ROUNDS = 20 };
    struct fixture *fixture = *state;
    struct md_error err;
    int clients[CLIENTS];
    char byte;

    md_os_clock_install();
    for (size_t i = 0; i < LOOPS; i++) {
        assert_true(md_loop_start(fixture->loops[i], &err));
    }
    const struct md_listener_options options = options_for(fixture, "127.0.0.1");
    assert_true(md_listener_create(&options, &fixture->listener, &err));
    assert_true(md_listener_start(fixture->listener, &err));
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = connect_to(fixture);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            assert_int_equal(write(clients[i], "x", 1), 1);
        }
        for (int i = 0; i < CLIENTS; i++) {
            assert_int_equal(read(clients[i], &byte, 1), 1);
        }
    }
    size_t first = md_loop_connection_count(fixture->loops[0]),
           second = md_loop_connection_count(fixture->loops[1]);
    assert_int_equal(first + second, CLIENTS);
    assert_true(first > CLIENTS / 4 && second > CLIENTS / 4);
    md_listener_stop(fixture->listener);
    for (size_t i = 0; i < LOOPS; i++) {
        md_loop_stop(fixture->loops[i]);
        md_loop_join(fixture->loops[i]);
    }
    assert_int_equal(fixture->wrong_thread, 0);
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_listener_serves_a_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_balances_over_loops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_closes_connections_beyond_the_limit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_listener_out_of_descriptors_pauses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_stop_closes_the_socket_but_not_connections,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_stop_takes_who_is_connected_already, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_listener_stopped_while_it_pauses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_stop_before_its_loops_ran, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_unix_socket_file_comes_and_goes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_listener_port_in_use_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_create_failures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_every_call_may_fail_while_serving, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_listener_start_without_memory_for_a_timer_goes_on_trying, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listener_with_running_loops, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
