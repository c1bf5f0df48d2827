/*
 * TLS connections with every allocation, OpenSSL's own among them, and every system call failing
 * once, or all from one on: the start fails with a sentence; or the client has its bytes back, or
 * sees its connection end. The next client is served as ever, and no descriptor stays behind. A
 * certificate that cannot be read again leaves the old one in use.
 */
#include "torture/torture.h"
#include "unit/net/tls_peer.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "net/conn_internal.h"
#include "net/listener.h"
#include "os/clock.h"
#include "os/process.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>

enum { ECHO_BYTES = 200000, TURNS_MAX = 20000, TURNS_FAILING = 200, PIECE_BYTES = 40000 };

static uint64_t clock_ns;
static bool is_server_at_work; /* OpenSSL's allocations are the server's, and may fail */
static char sent[ECHO_BYTES];

static uint64_t moved_clock(void)
{
    return clock_ns;
}

/* --- OpenSSL's memory -------------------- */

static bool fails(void)
{
    return is_server_at_work && md_fault_hit(MD_FAULT_ALLOC);
}

static void *take(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : malloc(size);
}

static void *resize(void *old, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : realloc(old, size);
}

static void give_back(void *old, const char *file, int line)
{
    (void)file;
    (void)line;
    free(old);
}

/* --- server: sends back what it hears -------------------- */

struct server {
    struct tls_files files;
    struct md_budget budget;
    struct md_loop *loop;
    struct md_tls_context *context;
    struct md_listener *listener;
    struct md_conn *conn; /* the one that is open */
    char data[PIECE_BYTES];
    size_t begin, end;
};

static void hang_up(struct server *server)
{
    md_conn_close(server->conn);
    server->conn = NULL;
}

static void echo(void *arg, uint32_t events)
{
    struct server *server = arg;
    struct md_error err;
    size_t count;

    (void)events;
    for (;;) {
        const struct iovec part = {.iov_base = server->data + server->begin,
                                   .iov_len = server->end - server->begin};
        enum md_io outcome;
        if (part.iov_len) {
            outcome = md_conn_send(server->conn, &part, 1, &count, &err);
            server->begin += count;
        } else {
            server->begin = 0;
            outcome = md_conn_recv(server->conn, server->data, PIECE_BYTES, &count, &err);
            server->end = count;
        }
        if (outcome == MD_IO_AGAIN) {
            md_conn_want(server->conn, part.iov_len ? MD_LOOP_WRITE : MD_LOOP_READ);
            return;
        }
        if (outcome != MD_IO_OK) {
            hang_up(server);
            return;
        }
    }
}

static const struct md_conn_handler handler = {.ready = echo};

static void accepted(void *arg, struct md_conn *conn)
{
    struct server *server = arg;

    server->begin = server->end = 0;
    server->conn = conn;
    md_conn_set_handler(conn, &handler, server);
}

static bool server_start(struct server *server, struct md_error *err)
{
    const struct md_loop_options loop = {.cpu = -1, .budget = &server->budget};
    const struct md_tls_options tls = {.name = "test",
                                       .certificate_file = server->files.certificate,
                                       .key_file = server->files.key,
                                       .protocols = MD_STR("\x08http/1.1")};

    md_budget_init(&server->budget, 1 << 20);
    if (!md_loop_create(&loop, &server->loop, err) ||
        !md_tls_context_create(&tls, &server->context, err)) {
        return false;
    }
    const struct md_listener_options options = {.address = "127.0.0.1",
                                                .name = "test",
                                                .max_connections = 10,
                                                .tls = server->context,
                                                .handshake_timeout_ns = 60 * (uint64_t)MD_NS_PER_S,
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

    is_server_at_work = true;
    clock_ns += 10 * (uint64_t)MD_NS_PER_MS;
    assert_true(md_loop_run_once(server->loop, 0, &err));
    is_server_at_work = false;
}

static void server_stop(struct server *server)
{
    if (server->conn) {
        hang_up(server);
    }
    if (server->listener) {
        md_listener_stop(server->listener);
    }
    if (server->loop) {
        turn(server);
        turn(server);
    }
    md_listener_destroy(server->listener);
    md_tls_context_destroy(server->context);
    md_loop_destroy(server->loop);
}

/* --- client -------------------- */

struct client {
    struct tls_peer peer;
    size_t said, heard;
};

static void client_open(struct client *client, const struct server *server)
{
    const struct sockaddr_in where = {.sin_family = AF_INET,
                                      .sin_port = htons(md_listener_port(server->listener)),
                                      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)&where, sizeof where), 0);
    *client = (struct client){0};
    tls_peer_open(&client->peer, fd);
}

static void client_step(const struct torture *t, struct client *client)
{
    char data[20000];

    if (client->said < ECHO_BYTES) {
        client->said +=
            tls_peer_write(&client->peer, sent + client->said, ECHO_BYTES - client->said);
    }
    for (;;) {
        size_t count = tls_peer_read(&client->peer, data, sizeof data);
        if (!count) {
            return;
        }
        torture_check(t, client->heard + count <= ECHO_BYTES);
        torture_check(t, memcmp(data, sent + client->heard, count) == 0);
        client->heard += count;
    }
}

static bool client_is_done(const struct client *client)
{
    return client->heard == ECHO_BYTES || client->peer.broken || client->peer.ended;
}

static void client_run(const struct torture *t, struct client *client, struct server *server,
                       int turns)
{
    for (int i = 0; i < turns && !client_is_done(client); i++) {
        turn(server);
        client_step(t, client);
    }
}

/* --- rounds -------------------- */

static void serve(struct torture *t, struct server *server)
{
    struct client client;

    client_open(&client, server);
    client_run(t, &client, server, TURNS_FAILING);
    bool delivered = torture_disarm(t);
    client_run(t, &client, server, TURNS_MAX);
    torture_check(t, client_is_done(&client) && (delivered || client.heard == ECHO_BYTES));
    tls_peer_close(&client.peer);
    for (int i = 0; i < TURNS_MAX && server->conn; i++) {
        turn(server);
    }
    torture_check(t, !server->conn);

    client_open(&client, server);
    client_run(t, &client, server, TURNS_MAX);
    torture_check(t, client.heard == ECHO_BYTES);
    tls_peer_close(&client.peer);
}

static uint64_t open_descriptors(void)
{
    struct md_os_process_usage usage;

    md_os_process_usage(&usage);
    return usage.open_descriptors;
}

static void torture_tls(enum md_fault_kind kind)
{
    struct tls_files files;

    tls_files_init(&files);
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        static struct server server;
        struct md_error err = {0};
        uint64_t before = open_descriptors();
        server = (struct server){.files = files};
        torture_arm(&t);
        is_server_at_work = true;
        bool ok = server_start(&server, &err);
        is_server_at_work = false;
        if (ok) {
            serve(&t, &server);
        } else {
            torture_check(&t, torture_disarm(&t) && err.text[0]);
        }
        server_stop(&server);
        torture_check(&t, open_descriptors() == before);
    }
    tls_files_deinit(&files);
}

static void test_torture_tls_short_of_memory(void **state)
{
    (void)state;
    torture_tls(MD_FAULT_ALLOC);
}

static void test_torture_tls_failing_system(void **state)
{
    (void)state;
    torture_tls(MD_FAULT_SYSCALL);
}

static void torture_reload(enum md_fault_kind kind)
{
    static struct server server;
    struct md_error err = {0};

    server = (struct server){0};
    tls_files_init(&server.files);
    assert_true(server_start(&server, &err));
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        tls_files_write(&server.files, "next");
        torture_arm(&t);
        is_server_at_work = true;
        md_tls_context_look(server.context);
        md_tls_context_look(server.context);
        is_server_at_work = false;
        (void)torture_disarm(&t);
        struct torture after = t;
        struct client client;
        client_open(&client, &server);
        client_run(&after, &client, &server, TURNS_MAX);
        torture_check(&t, client.heard == ECHO_BYTES);
        tls_peer_close(&client.peer);
        for (int i = 0; i < TURNS_MAX && server.conn; i++) {
            turn(&server);
        }
    }
    server_stop(&server);
    tls_files_deinit(&server.files);
}

static void test_torture_tls_reload(void **state)
{
    (void)state;
    torture_reload(MD_FAULT_ALLOC);
    torture_reload(MD_FAULT_SYSCALL);
}

static int set_up(void **state)
{
    (void)state;
    md_os_clock_install();
    clock_ns = 10 * (uint64_t)MD_NS_PER_S;
    md_clock_monotonic_ns = moved_clock;
    for (size_t i = 0; i < ECHO_BYTES; i++) {
        sent[i] = (char)(i * 13 + i / 251);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_tls_short_of_memory),
        cmocka_unit_test(test_torture_tls_failing_system),
        cmocka_unit_test(test_torture_tls_reload),
    };

    (void)signal(SIGPIPE, SIG_IGN); /* the client writes to who may have gone */
    if (!CRYPTO_set_mem_functions(take, resize, give_back)) {
        return 1;
    }
    return cmocka_run_group_tests(tests, set_up, NULL);
}
