/*
 * TLS connections on a socket pair, with OpenSSL as the client and a loop on a virtual clock: they
 * keep what net/conn.h says of every connection.
 */
#include "unit/net/tls_peer.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "net/conn_internal.h"
#include "os/clock.h"

#include <sys/socket.h>

enum { TURNS_MAX = 10000, BIG_BYTES = 1000000 };

static uint64_t virtual_ns = 10 * (uint64_t)MD_NS_PER_S;
static char big[BIG_BYTES], got[BIG_BYTES];

static uint64_t virtual_clock(void)
{
    return virtual_ns;
}

/* --- rig -------------------- */

struct rig {
    struct tls_files files;
    struct md_tls_context *context;
    struct md_budget budget;
    struct md_loop *loop;
    struct md_conn *conn; /* NULL once it is closed */
    struct tls_peer peer;
    unsigned readies; /* calls of the handler */
    uint32_t events;  /* of all of them */
};

static void on_ready(void *arg, uint32_t events)
{
    struct rig *rig = arg;

    rig->readies++;
    rig->events |= events;
}

static const struct md_conn_handler handler = {.ready = on_ready};

static const struct md_tls_options *options_of(const struct rig *rig)
{
    static struct md_tls_options options;

    options = (struct md_tls_options){.name = "test",
                                      .certificate_file = rig->files.certificate,
                                      .key_file = rig->files.key,
                                      .protocols = MD_STR("\x08http/1.1")};
    return &options;
}

/* A new connection; small buffers make small steps. */
static void rig_connect(struct rig *rig, int buffer_bytes)
{
    struct md_error err;
    static const char peer_name[MD_OS_PEER_MAX] = "peer";
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    if (buffer_bytes) {
        (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
        (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
    }
    rig->conn = md_conn_create(fds[0], peer_name, rig->loop);
    assert_non_null(rig->conn);
    assert_true(md_conn_start_tls(rig->conn, rig->context, MD_NS_PER_S, &err));
    assert_true(md_loop_fd_add(rig->loop, &rig->conn->fd, MD_LOOP_READ, &err));
    rig->conn->is_polled = true;
    md_conn_set_handler(rig->conn, &handler, rig);
    tls_peer_open(&rig->peer, fds[1]);
}

static void rig_open(struct rig *rig, int buffer_bytes)
{
    struct md_error err;

    *rig = (struct rig){.peer.fd = -1};
    tls_files_init(&rig->files);
    md_budget_init(&rig->budget, 1 << 20);
    const struct md_loop_options loop = {.cpu = -1, .budget = &rig->budget};
    assert_true(md_loop_create(&loop, &rig->loop, &err));
    if (!md_tls_context_create(options_of(rig), &rig->context, &err)) {
        fail_msg("%s", err.text);
    }
    rig_connect(rig, buffer_bytes);
}

static void rig_turn(struct rig *rig)
{
    struct md_error err;

    assert_true(md_loop_run_once(rig->loop, 0, &err));
}

static void rig_disconnect(struct rig *rig)
{
    if (rig->conn) {
        md_conn_close(rig->conn);
        rig->conn = NULL;
    }
    rig_turn(rig);
    tls_peer_close(&rig->peer);
}

static void rig_close(struct rig *rig)
{
    rig_disconnect(rig);
    md_loop_destroy(rig->loop);
    md_tls_context_destroy(rig->context);
    tls_files_deinit(&rig->files);
}

static void rig_shake_hands(struct rig *rig)
{
    for (int i = 0; i < TURNS_MAX && !SSL_is_init_finished(rig->peer.ssl); i++) {
        (void)SSL_do_handshake(rig->peer.ssl);
        rig_turn(rig);
    }
    rig_turn(rig);
    rig_turn(rig);
    char byte;
    assert_int_equal(tls_peer_read(&rig->peer, &byte, 1), 0); /* takes the tickets */
    assert_false(rig->peer.broken);
    rig->readies = rig->events = 0;
}

static enum md_io rig_recv(struct rig *rig, void *data, size_t len, size_t *count)
{
    struct md_error err;

    return md_conn_recv(rig->conn, data, len, count, &err);
}

static void peer_say(struct rig *rig, const char *text)
{
    assert_int_equal(tls_peer_write(&rig->peer, text, strlen(text)), strlen(text));
}

/* --- handshake -------------------- */

static void test_conn_tls_says_nothing_before_the_handshake(void **state)
{
    const struct iovec part = {.iov_base = big, .iov_len = 10};
    struct md_error err;
    struct rig rig;
    size_t count;
    char byte;

    (void)state;
    rig_open(&rig, 0);
    (void)SSL_do_handshake(rig.peer.ssl); /* its hello has come */
    assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_AGAIN);
    assert_int_equal(md_conn_send(rig.conn, &part, 1, &count, &err), MD_IO_AGAIN);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "x");
    rig_turn(&rig);
    assert_int_equal(rig.events, MD_LOOP_READ);
    assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_OK);
    assert_int_equal(byte, 'x');
    rig_close(&rig);
}

/* Who wants to send first, as HTTP/2 may, is called when the handshake is over. */
static void test_conn_tls_writer_hears_of_the_handshake(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 0);
    md_conn_want(rig.conn, MD_LOOP_WRITE);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0); /* the socket is writable, and it is not time yet */
    for (int i = 0; i < TURNS_MAX && !rig.readies; i++) {
        (void)SSL_do_handshake(rig.peer.ssl);
        rig_turn(&rig);
    }
    assert_int_equal(rig.events, MD_LOOP_WRITE);
    rig_close(&rig);
}

static void test_conn_tls_handshake_takes_too_long(void **state)
{
    struct rig rig;
    size_t count;
    char byte;

    (void)state;
    rig_open(&rig, 0);
    (void)SSL_do_handshake(rig.peer.ssl);
    rig_turn(&rig);
    virtual_ns += MD_NS_PER_S - 1;
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    virtual_ns += 1;
    rig_turn(&rig);
    assert_int_equal(rig.events, MD_LOOP_READ);
    assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_ERROR);
    rig_close(&rig);
}

static void test_conn_tls_handshake_in_time_has_no_deadline(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    virtual_ns += 1000 * (uint64_t)MD_NS_PER_S;
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    rig_close(&rig);
}

static void test_conn_tls_peer_vanishes_in_the_handshake(void **state)
{
    struct rig rig;
    size_t count;
    char byte;

    (void)state;
    rig_open(&rig, 0);
    (void)SSL_do_handshake(rig.peer.ssl);
    rig_turn(&rig);
    tls_peer_close(&rig.peer);
    rig_turn(&rig);
    assert_true(rig.events & MD_LOOP_READ);
    assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_ERROR);
    rig_close(&rig);
}

/* --- receiving -------------------- */

/* Several records are one read; less than was asked for is all that there is. */
static void test_conn_tls_short_read_empties(void **state)
{
    struct rig rig;
    char data[100];
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "one");
    peer_say(&rig, "two");
    peer_say(&rig, "three");
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_OK);
    assert_int_equal(count, 11);
    assert_memory_equal(data, "onetwothree", 11);
    rig.readies = 0;
    md_conn_want(rig.conn, MD_LOOP_READ);
    rig_turn(&rig);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    rig_close(&rig);
}

/* What was decrypted and not taken is told of when reading is wanted, and only then. */
static void test_conn_tls_rest_is_told_of(void **state)
{
    struct rig rig;
    char data[4];
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "onetwo");
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, data, 3, &count), MD_IO_OK);
    rig.readies = 0;
    md_conn_want(rig.conn, 0);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    md_conn_want(rig.conn, MD_LOOP_READ);
    md_conn_want(rig.conn, MD_LOOP_READ);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 1);
    assert_int_equal(rig_recv(&rig, data, 4, &count), MD_IO_OK);
    assert_int_equal(count, 3);
    assert_memory_equal(data, "two", 3);
    rig_close(&rig);
}

static void test_conn_tls_closed_before_the_rest_is_told_of(void **state)
{
    struct rig rig;
    char byte;
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "xy");
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_OK);
    rig.readies = 0;
    md_conn_want(rig.conn, MD_LOOP_READ);
    md_conn_close(rig.conn);
    rig.conn = NULL;
    rig_turn(&rig);
    assert_int_equal(rig.readies, 0);
    rig_close(&rig);
}

/* The end comes after the bytes before it, also when both have come at once. */
static void test_conn_tls_end_after_data(void **state)
{
    struct rig rig;
    char data[10];
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "last");
    (void)SSL_shutdown(rig.peer.ssl);
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_OK);
    assert_int_equal(count, 4);
    rig.readies = 0;
    md_conn_want(rig.conn, MD_LOOP_READ);
    rig_turn(&rig);
    assert_int_equal(rig.readies, 1);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_EOF);
    rig_close(&rig);
}

static void test_conn_tls_end_without_goodbye(void **state)
{
    struct rig rig;
    char data[10];
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "last");
    assert_int_equal(shutdown(rig.peer.fd, SHUT_WR), 0);
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_OK);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_EOF);
    rig_close(&rig);
}

static void test_conn_tls_altered_record(void **state)
{
    struct rig rig;
    char data[10];
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    peer_say(&rig, "good");
    assert_int_equal(write(rig.peer.fd,
                           "\x17\x03\x03\x00\x20"
                           "01234567890123456789012345678901",
                           37),
                     37);
    rig_turn(&rig);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_OK);
    assert_int_equal(count, 4);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_ERROR);
    assert_int_equal(rig_recv(&rig, data, sizeof data, &count), MD_IO_ERROR);
    rig_close(&rig);
}

/* --- sending -------------------- */

/* Offers all of `big` in parts of these sizes until it is taken; the peer reads in steps. */
static void send_big(struct rig *rig, const size_t *sizes, size_t size_count, size_t read_step)
{
    struct iovec parts[64];
    struct md_error err;
    size_t taken = 0, received = 0, count;

    while (taken < BIG_BYTES) {
        int part_count = 0;
        for (size_t at = taken; at < BIG_BYTES && part_count < 64;) {
            size_t n = md_size_min(sizes[(size_t)part_count % size_count], BIG_BYTES - at);
            parts[part_count++] = (struct iovec){.iov_base = big + at, .iov_len = n};
            at += n;
        }
        enum md_io outcome = md_conn_send(rig->conn, parts, part_count, &count, &err);
        assert_true(outcome == MD_IO_OK ? count > 0 : outcome == MD_IO_AGAIN && count == 0);
        taken += count;
        if (outcome == MD_IO_AGAIN) {
            md_conn_want(rig->conn, MD_LOOP_WRITE);
            rig->events = 0;
            received += tls_peer_read(&rig->peer, got + received,
                                      md_size_min(read_step, BIG_BYTES - received));
            rig_turn(rig);
        }
    }
    md_conn_close(rig->conn); /* what was taken arrives all the same */
    rig->conn = NULL;
    while (received < BIG_BYTES && !rig->peer.broken && !rig->peer.ended) {
        received += tls_peer_read(&rig->peer, got + received, BIG_BYTES - received);
    }
    assert_int_equal(received, BIG_BYTES);
    assert_memory_equal(got, big, BIG_BYTES);
}

static void test_conn_tls_sends_all(void **state)
{
    static const struct {
        size_t sizes[4], size_count, read_step;
        int buffer_bytes;
    } rows[] = {
        {{BIG_BYTES}, 1, BIG_BYTES, 0},         {{BIG_BYTES}, 1, 1000, 4096},
        {{100, BIG_BYTES}, 2, BIG_BYTES, 4096}, {{1, 2, 3}, 3, BIG_BYTES, 4096},
        {{16384}, 1, BIG_BYTES, 30000},         {{16383, 1, 16385}, 3, 5000, 8192},
        {{0, 5000, 0, 20000}, 4, 16384, 20000},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct rig rig;
        print_message("[  row   ] %zu\n", i);
        memset(got, 0, sizeof got);
        rig_open(&rig, rows[i].buffer_bytes);
        rig_shake_hands(&rig);
        send_big(&rig, rows[i].sizes, rows[i].size_count, rows[i].read_step);
        rig_close(&rig);
    }
}

/* A head and a short body are one record. */
static void test_conn_tls_gathers_small_parts(void **state)
{
    const struct iovec parts[] = {{.iov_base = big, .iov_len = 200},
                                  {.iov_base = big + 200, .iov_len = 0},
                                  {.iov_base = big + 200, .iov_len = 1000}};
    struct md_error err;
    struct rig rig;
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    assert_int_equal(md_conn_send(rig.conn, parts, 3, &count, &err), MD_IO_OK);
    assert_int_equal(count, 1200);
    assert_int_equal(tls_peer_read(&rig.peer, got, sizeof got), 1200);
    assert_memory_equal(got, big, 1200);
    rig_close(&rig);
}

/* A record that is half out leaves with nobody asking for it. */
static void test_conn_tls_half_a_record_follows(void **state)
{
    const struct iovec part = {.iov_base = big, .iov_len = 16384};
    struct md_error err;
    struct rig rig;
    size_t count, received = 0;

    (void)state;
    rig_open(&rig, 4096);
    rig_shake_hands(&rig);
    do {
        assert_int_not_equal(md_conn_send(rig.conn, &part, 1, &count, &err), MD_IO_ERROR);
    } while (count == part.iov_len);
    assert_true(md_conn_unsent(rig.conn) > 0);
    md_conn_want(rig.conn, MD_LOOP_READ);
    for (int i = 0; i < TURNS_MAX && md_tls_stream_unsent(rig.conn->tls->stream); i++) {
        received += tls_peer_read(&rig.peer, got, sizeof got);
        rig_turn(&rig);
    }
    assert_int_equal(md_tls_stream_unsent(rig.conn->tls->stream), 0);
    while ((count = tls_peer_read(&rig.peer, got, sizeof got))) {
        received += count;
    }
    assert_int_equal(received % 16384, 0);
    assert_int_equal(rig.readies, 0);
    rig_close(&rig);
}

static void test_conn_tls_says_goodbye(void **state)
{
    struct rig rig;
    char byte;

    (void)state;
    for (int half = 0; half < 2; half++) {
        rig_open(&rig, 0);
        rig_shake_hands(&rig);
        if (half) {
            size_t count;
            md_conn_shutdown(rig.conn);
            peer_say(&rig, "x"); /* the other direction stays */
            rig_turn(&rig);
            assert_int_equal(rig_recv(&rig, &byte, 1, &count), MD_IO_OK);
        } else {
            md_conn_close(rig.conn);
            rig.conn = NULL;
        }
        assert_int_equal(tls_peer_read(&rig.peer, &byte, 1), 0);
        assert_true(rig.peer.ended);
        rig_close(&rig);
    }
}

static void test_conn_tls_sending_to_who_has_gone(void **state)
{
    const struct iovec part = {.iov_base = big, .iov_len = BIG_BYTES};
    struct md_error err;
    struct rig rig;
    size_t count;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    tls_peer_close(&rig.peer);
    enum md_io outcome = md_conn_send(rig.conn, &part, 1, &count, &err);
    assert_true(outcome == MD_IO_ERROR);
    assert_int_equal(md_conn_send(rig.conn, &part, 1, &count, &err), MD_IO_ERROR);
    rig_close(&rig);
}

/* --- certificates -------------------- */

static void assert_name(struct rig *rig, const char *name)
{
    char subject[64] = "";
    X509 *x = SSL_get1_peer_certificate(rig->peer.ssl);

    assert_non_null(x);
    assert_true(X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, subject,
                                          sizeof subject) > 0);
    X509_free(x);
    assert_string_equal(subject, name);
}

static void reconnect(struct rig *rig)
{
    rig_disconnect(rig);
    rig_connect(rig, 0);
    rig_shake_hands(rig);
}

/* Changed files are taken at the second look, when they are at rest; broken ones are not. */
static void test_tls_context_follows_files(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, 0);
    rig_shake_hands(&rig);
    assert_name(&rig, "first");
    tls_files_write(&rig.files, "second");
    md_tls_context_look(rig.context);
    reconnect(&rig);
    assert_name(&rig, "first");
    md_tls_context_look(rig.context);
    reconnect(&rig);
    assert_name(&rig, "second");
    assert_int_equal(truncate(rig.files.key, 20), 0);
    md_tls_context_look(rig.context);
    md_tls_context_look(rig.context);
    reconnect(&rig);
    assert_name(&rig, "second");
    tls_files_write(&rig.files, "third");
    md_tls_context_reload(rig.context);
    reconnect(&rig);
    assert_name(&rig, "third");
    rig_close(&rig);
}

static int set_up(void **state)
{
    (void)state;
    md_os_clock_install();
    md_clock_monotonic_ns = virtual_clock;
    for (size_t i = 0; i < BIG_BYTES; i++) {
        big[i] = (char)(i * 7 + i / 256);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conn_tls_says_nothing_before_the_handshake),
        cmocka_unit_test(test_conn_tls_writer_hears_of_the_handshake),
        cmocka_unit_test(test_conn_tls_handshake_takes_too_long),
        cmocka_unit_test(test_conn_tls_handshake_in_time_has_no_deadline),
        cmocka_unit_test(test_conn_tls_peer_vanishes_in_the_handshake),
        cmocka_unit_test(test_conn_tls_short_read_empties),
        cmocka_unit_test(test_conn_tls_rest_is_told_of),
        cmocka_unit_test(test_conn_tls_closed_before_the_rest_is_told_of),
        cmocka_unit_test(test_conn_tls_end_after_data),
        cmocka_unit_test(test_conn_tls_end_without_goodbye),
        cmocka_unit_test(test_conn_tls_altered_record),
        cmocka_unit_test(test_conn_tls_sends_all),
        cmocka_unit_test(test_conn_tls_gathers_small_parts),
        cmocka_unit_test(test_conn_tls_half_a_record_follows),
        cmocka_unit_test(test_conn_tls_says_goodbye),
        cmocka_unit_test(test_conn_tls_sending_to_who_has_gone),
        cmocka_unit_test(test_tls_context_follows_files),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
