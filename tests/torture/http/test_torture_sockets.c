/*
 * A loop, a listener and sessions on real sockets, with every system call and every allocation
 * failing once, or all from one on: the start fails with a sentence; or the client has its right
 * answers, or sees its connection end. The next client is served as ever, and no descriptor and no
 * byte of the budget stays behind.
 */
#include "torture/torture.h"

#include "base/clock.h"
#include "base/pool.h"
#include "http/session.h"
#include "net/listener.h"
#include "os/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BIG_BYTES = 3000000, BUDGET = 64 * 1024 * 1024, TURNS_MAX = 20000, TURNS_FAILING = 60 };
enum { TURN_MS = 20 };

static uint64_t clock_ns;

static uint64_t moved_clock(void)
{
    return clock_ns;
}

/* --- server -------------------- */

struct server {
    struct md_budget budget;
    struct md_loop *loop;
    struct md_listener *listener;
    struct md_session_list sessions;
    struct md_http_config config;
    struct md_http_counters counters;
};

static char big[BIG_BYTES];

static void on_big(struct md_exchange *x)
{
    static const struct iovec part = {.iov_base = big, .iov_len = BIG_BYTES};
    const struct md_http_response response = {
        .status = 200, .content_type = "text/plain", .parts = &part, .part_count = 1};

    md_exchange_respond(x, &response);
}

static void route(void *arg, struct md_exchange *x)
{
    static const struct md_http_handler handler = {.on_request = on_big};

    (void)arg;
    x->handler = &handler;
}

static void accepted(void *arg, struct md_conn *conn)
{
    struct server *server = arg;

    md_session_start(conn, &server->config, &server->sessions);
}

static bool server_start(struct server *server, struct md_error *err)
{
    const struct md_loop_options loop = {.cpu = -1, .budget = &server->budget};

    server->config = (struct md_http_config){.route = route,
                                             .max_header_bytes = 4096,
                                             .max_header_count = 20,
                                             .max_body_bytes = BIG_BYTES,
                                             .idle_timeout_ns = 60 * (uint64_t)MD_NS_PER_S,
                                             .header_timeout_ns = 10 * (uint64_t)MD_NS_PER_S,
                                             .body_timeout_ns = 20 * (uint64_t)MD_NS_PER_S,
                                             .counters = &server->counters};
    md_budget_init(&server->budget, BUDGET);
    if (!md_loop_create(&loop, &server->loop, err)) {
        return false;
    }
    const struct md_listener_options options = {.address = "127.0.0.1",
                                                .name = "http",
                                                .max_connections = 10,
                                                .loops = &server->loop,
                                                .loop_count = 1,
                                                .accepted = accepted,
                                                .arg = server};
    return md_listener_create(&options, &server->listener, err) &&
           md_listener_start(server->listener, err);
}

static void turn(struct server *server)
{
    struct md_error err;

    clock_ns += TURN_MS * (uint64_t)MD_NS_PER_MS;
    assert_true(md_loop_run_once(server->loop, 0, &err));
}

static void server_stop(struct server *server)
{
    if (server->listener) {
        md_listener_stop(server->listener);
        turn(server);
    }
    md_session_list_abort(&server->sessions);
    if (server->loop) {
        turn(server);
        turn(server);
    }
    assert_null(server->sessions.first);
    md_listener_destroy(server->listener);
    if (server->loop) {
        md_loop_destroy(server->loop);
    }
    assert_int_equal(server->budget.used_bytes, 0);
}

/* --- client -------------------- */

#define HEAD "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n"
#define LAST "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

struct client {
    int fd;
    size_t sent;
    char *got; /* own */
    size_t got_bytes;
    bool ended;
};

enum {
    SENT_BYTES = sizeof HEAD - 1 + BIG_BYTES + sizeof LAST - 1,
    GOT_BYTES_MAX = 2 * BIG_BYTES + 10000
};

static const char *script(void)
{
    static char text[SENT_BYTES];

    if (!text[0]) {
        memcpy(text, HEAD, sizeof HEAD - 1);
        memset(text + sizeof HEAD - 1, 'x', BIG_BYTES);
        memcpy(text + sizeof HEAD - 1 + BIG_BYTES, LAST, sizeof LAST - 1);
    }
    return text;
}

static void client_open(struct client *client, const struct server *server)
{
    const struct sockaddr_in where = {.sin_family = AF_INET,
                                      .sin_port = htons(md_listener_port(server->listener)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM, 0), .got = malloc(GOT_BYTES_MAX)};
    assert_non_null(client->got);
    assert_int_equal(connect(client->fd, (const struct sockaddr *)&where, sizeof where), 0);
}

static void client_step(struct client *client)
{
    ssize_t n = send(client->fd, script() + client->sent, SENT_BYTES - client->sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL);

    client->sent += n > 0 ? (size_t)n : 0;
    do {
        n = recv(client->fd, client->got + client->got_bytes, GOT_BYTES_MAX - client->got_bytes,
                 MSG_DONTWAIT);
        client->got_bytes += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    client->ended = n == 0 || errno != EAGAIN;
}

static void client_run(struct client *client, struct server *server, int turns)
{
    for (int i = 0; i < turns && !client->ended; i++) {
        turn(server);
        client_step(client);
    }
}

static void client_close(struct client *client)
{
    close(client->fd);
    free(client->got);
}

/* Number of right answers; what follows them must be the begin of one, or a refusal. */
static int right_answers(const struct torture *t, const struct client *client)
{
    struct md_str left = md_str_make(client->got, client->got_bytes);
    int count = 0;

    while (left.len) {
        const char *end = memmem(left.ptr, left.len, "\r\n\r\n", 4);
        if (!end || !md_str_starts_with(left, MD_STR("HTTP/1.1 200 "))) {
            torture_check(t, t->delivered &&
                                 (!end || md_str_starts_with(left, MD_STR("HTTP/1.1 503 ")) ||
                                  md_str_starts_with(left, MD_STR("HTTP/1.1 408 "))));
            return count;
        }
        size_t head_bytes = (size_t)(end - left.ptr) + 4;
        size_t body_bytes = md_size_min(left.len - head_bytes, BIG_BYTES);
        torture_check(t, memcmp(left.ptr + head_bytes, big, body_bytes) == 0);
        torture_check(t, t->delivered || body_bytes == BIG_BYTES);
        count += body_bytes == BIG_BYTES;
        left = md_str_make(left.ptr + head_bytes + body_bytes, left.len - head_bytes - body_bytes);
    }
    return count;
}

/* --- rounds -------------------- */

static void serve(struct torture *t, struct server *server)
{
    struct client client;

    client_open(&client, server);
    client_run(&client, server, TURNS_FAILING);
    bool delivered = torture_disarm(t);
    client_run(&client, server, TURNS_MAX);
    torture_check(t, client.ended);
    int count = right_answers(t, &client);
    torture_check(t, count <= 2 && (delivered || count == 2));
    client_close(&client);

    struct torture after = {.kind = t->kind, .at = t->at, .lasting = t->lasting};
    client_open(&client, server);
    client_run(&client, server, TURNS_MAX);
    torture_check(t, client.ended && right_answers(&after, &client) == 2);
    client_close(&client);
}

static uint64_t open_descriptors(void)
{
    struct md_os_process_usage usage;

    md_os_process_usage(&usage);
    return usage.open_descriptors;
}

static void torture_sockets(enum md_fault_kind kind)
{
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct server server = {0};
        struct md_error err = {0};
        uint64_t before = open_descriptors();
        torture_arm(&t);
        if (server_start(&server, &err)) {
            serve(&t, &server);
        } else {
            torture_check(&t, torture_disarm(&t) && err.text[0]);
        }
        server_stop(&server);
        torture_check(&t, open_descriptors() == before);
    }
}

static void test_torture_sockets_failing_system(void **state)
{
    (void)state;
    torture_sockets(MD_FAULT_SYSCALL);
}

static void test_torture_sockets_short_of_memory(void **state)
{
    (void)state;
    torture_sockets(MD_FAULT_ALLOC);
    torture_sockets(MD_FAULT_REGION);
}

static int set_up(void **state)
{
    (void)state;
    clock_ns = 10 * (uint64_t)MD_NS_PER_S;
    md_clock_monotonic_ns = moved_clock;
    md_clock_realtime_ns = moved_clock;
    for (size_t i = 0; i < BIG_BYTES; i++) {
        big[i] = (char)('a' + i % 26);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_sockets_failing_system),
        cmocka_unit_test(test_torture_sockets_short_of_memory),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
