/*
 * TLS streams: an SSL object of OpenSSL over a BIO of our own.
 *
 * 1. The BIO takes all that OpenSSL writes: what the socket refuses goes to `out`. So a record that
 *    was made is never made again, and OpenSSL never waits for the socket.
 * 2. While `out` holds something, no new record is made.
 * 3. A record whose end is still in `out` is reported sent less its last byte: who has sent less
 *    than he wanted comes again, and then `out` has gone or he waits on. So whoever is told that
 *    all was sent may close. That byte has left already when it is offered again.
 */
#include "net/tls_stream.h"

#include "base/alloc.h"
#include "base/bytes.h"
#include "net/tls_internal.h"
#include "os/socket.h"

#include <string.h>

enum { RECORD_BYTES = 16 * 1024 };

struct md_tls_stream {
    SSL *ssl; /* own */
    int fd;
    struct md_error *err; /* of the call under way */
    struct md_bytes out;  /* own: records that the socket has not taken yet */
    size_t out_at;
    bool is_open;   /* the handshake is done */
    bool is_broken; /* for good */
    bool at_end;    /* the socket has said so */
    bool drained;   /* the socket is empty, as of this call: no need to hear it say so */
    bool has_more;
    bool owes_byte; /* the last byte of a record that has been made is not reported yet */
    bool has_ended;
};

/* --- socket -------------------- */

static enum md_io socket_send(struct md_tls_stream *stream, const char *data, size_t len,
                              size_t *sent, struct md_error *err)
{
    const struct iovec part = {.iov_base = (char *)(uintptr_t)data, .iov_len = len};
    enum md_io outcome = (enum md_io)md_os_socket_send(stream->fd, &part, 1, sent, err);

    stream->is_broken |= outcome == MD_IO_ERROR;
    return outcome;
}

static int bio_write(BIO *bio, const char *data, size_t len, size_t *written)
{
    struct md_tls_stream *stream = md_openssl.BIO_get_data(bio);
    size_t sent = 0;

    *written = 0;
    md_openssl.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (stream->is_broken || (stream->out.len == 0 &&
                              socket_send(stream, data, len, &sent, stream->err) == MD_IO_ERROR)) {
        return 0;
    }
    if (sent < len) {
        md_bytes_append(&stream->out, data + sent, len - sent);
    }
    if (stream->out.failed) {
        stream->is_broken = true;
        md_error_no_memory(stream->err, "a TLS record");
        return 0;
    }
    *written = len;
    return 1;
}

static int bio_read(BIO *bio, char *data, size_t len, size_t *count)
{
    struct md_tls_stream *stream = md_openssl.BIO_get_data(bio);
    enum md_os_io outcome = MD_OS_IO_AGAIN;

    *count = 0;
    md_openssl.BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY);
    if (!stream->drained) {
        outcome = md_os_socket_recv(stream->fd, data, len, count, stream->err);
        stream->drained = *count < len;
        stream->at_end = outcome == MD_OS_IO_EOF;
        stream->is_broken |= outcome == MD_OS_IO_ERROR;
    }
    if (outcome == MD_OS_IO_AGAIN) {
        md_openssl.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    }
    return outcome == MD_OS_IO_OK;
}

static long bio_control(BIO *bio, int command, long number, void *arg)
{
    const struct md_tls_stream *stream = md_openssl.BIO_get_data(bio);

    (void)number;
    (void)arg;
    switch (command) {
    case BIO_CTRL_FLUSH:
        return 1;
    case BIO_CTRL_EOF:
        return stream->at_end;
    default:
        return 0;
    }
}

BIO_METHOD *md_tls_bio_method_create(void)
{
    BIO_METHOD *method = md_openssl.BIO_meth_new(BIO_TYPE_SOURCE_SINK, "modeld connection");

    if (method && !(md_openssl.BIO_meth_set_read_ex(method, bio_read) &&
                    md_openssl.BIO_meth_set_write_ex(method, bio_write) &&
                    md_openssl.BIO_meth_set_ctrl(method, bio_control))) {
        md_openssl.BIO_meth_free(method);
        method = NULL;
    }
    return method;
}

/* --- life -------------------- */

static bool connect_ssl(struct md_tls_stream *stream, struct md_tls_context *context)
{
    SSL_CTX *rules = md_tls_context_acquire(context);
    BIO *bio = md_openssl.BIO_new(context->method);

    stream->ssl = md_openssl.SSL_new(rules);
    md_openssl.SSL_CTX_free(rules);
    if (!bio || !stream->ssl) {
        md_openssl.BIO_free(bio);
        md_openssl.ERR_clear_error();
        return false;
    }
    md_openssl.BIO_set_data(bio, stream);
    md_openssl.BIO_set_init(bio, 1);
    md_openssl.SSL_set_bio(stream->ssl, bio, bio);
    md_openssl.SSL_set_accept_state(stream->ssl);
    return true;
}

struct md_tls_stream *md_tls_stream_create(struct md_tls_context *context, int fd)
{
    struct md_tls_stream *stream = md_calloc(1, sizeof *stream);

    if (stream) {
        stream->fd = fd;
        if (!connect_ssl(stream, context)) {
            md_tls_stream_destroy(stream);
            return NULL;
        }
    }
    return stream;
}

void md_tls_stream_destroy(struct md_tls_stream *stream)
{
    if (stream) {
        md_openssl.SSL_free(stream->ssl);
        md_bytes_deinit(&stream->out);
        md_free(stream);
    }
}

/* --- outcomes -------------------- */

/* Before each call of OpenSSL: its own account of errors is the thread's, and may hold others'. */
static void begin_call(struct md_tls_stream *stream, struct md_error *err)
{
    stream->err = err;
    md_openssl.ERR_clear_error();
}

static bool is_plain_http(unsigned long error)
{
    return ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_HTTP_REQUEST;
}

static void answer_plain_http(struct md_tls_stream *stream)
{
    static const char answer[] =
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
        "Content-Type: application/json\r\n\r\n"
        "{\"error\":\"this port speaks TLS: call it with https, not http\"}";
    struct md_error err;
    size_t sent;

    (void)socket_send(stream, answer, sizeof answer - 1, &sent, &err);
}

/* What a call of OpenSSL that did not succeed means; fills in the error of the call under way. */
static enum md_io outcome_of(struct md_tls_stream *stream, int result)
{
    bool system_failed = stream->is_broken; /* then the sentence is there already */

    switch (md_openssl.SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return MD_IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return MD_IO_EOF;
    default:
        break;
    }
    stream->is_broken = true;
    if (!system_failed) {
        unsigned long error = md_openssl.ERR_peek_last_error();
        const char *reason = md_openssl.ERR_reason_error_string(error);
        if (is_plain_http(error)) {
            answer_plain_http(stream);
        }
        md_error_set(stream->err, MD_REASON_IO, "TLS: %s", reason ? reason : "unknown error");
    }
    md_openssl.ERR_clear_error();
    return MD_IO_ERROR;
}

static enum md_io refuse_broken(struct md_error *err)
{
    md_error_set(err, MD_REASON_IO, "the TLS connection has failed before");
    return MD_IO_ERROR;
}

/* --- receiving -------------------- */

enum md_io md_tls_stream_handshake(struct md_tls_stream *stream, struct md_error *err)
{
    if (stream->is_broken) {
        return refuse_broken(err);
    }
    begin_call(stream, err);
    stream->drained = false;
    int result = md_openssl.SSL_do_handshake(stream->ssl);
    stream->is_open = result == 1;
    enum md_io outcome = stream->is_open ? MD_IO_OK : outcome_of(stream, result);
    stream->is_broken |= outcome == MD_IO_EOF;
    return outcome;
}

enum md_io md_tls_stream_recv(struct md_tls_stream *stream, void *data, size_t len, size_t *count,
                              struct md_error *err)
{
    size_t n;

    *count = 0;
    stream->has_more = false;
    if (stream->is_broken) {
        return refuse_broken(err);
    }
    stream->drained = false;
    while (*count < len) {
        begin_call(stream, err);
        int result = md_openssl.SSL_read_ex(stream->ssl, (char *)data + *count, len - *count, &n);
        if (result != 1) {
            enum md_io outcome = outcome_of(stream, result);
            stream->has_more = *count && outcome != MD_IO_AGAIN; /* the bytes first */
            return *count ? MD_IO_OK : outcome;
        }
        *count += n;
        if (stream->drained && !md_openssl.SSL_has_pending(stream->ssl)) {
            return MD_IO_OK;
        }
    }
    stream->has_more = md_openssl.SSL_has_pending(stream->ssl);
    return MD_IO_OK;
}

bool md_tls_stream_has_more(const struct md_tls_stream *stream)
{
    return stream->has_more;
}

/* --- sending -------------------- */

size_t md_tls_stream_unsent(const struct md_tls_stream *stream)
{
    return stream->out.len - stream->out_at;
}

enum md_io md_tls_stream_flush(struct md_tls_stream *stream, struct md_error *err)
{
    while (stream->out.len) {
        size_t sent;
        enum md_io outcome = socket_send(stream, stream->out.data + stream->out_at,
                                         md_tls_stream_unsent(stream), &sent, err);
        if (outcome != MD_IO_OK) {
            return outcome;
        }
        stream->out_at += sent;
        if (stream->out_at == stream->out.len) {
            md_bytes_deinit(&stream->out);
            stream->out_at = 0;
        }
    }
    return MD_IO_OK;
}

/* A place in the parts of one send. */
struct cursor {
    const struct iovec *parts;
    int count, at;
    size_t offset;
};

static size_t rest_of_part(struct cursor *cursor)
{
    while (cursor->at < cursor->count && cursor->offset == cursor->parts[cursor->at].iov_len) {
        cursor->at++;
        cursor->offset = 0;
    }
    return cursor->at < cursor->count ? cursor->parts[cursor->at].iov_len - cursor->offset : 0;
}

static const char *take(struct cursor *cursor, size_t len)
{
    const char *data = (const char *)cursor->parts[cursor->at].iov_base + cursor->offset;

    cursor->offset += len;
    return data;
}

/* The next record's content: where it lies, if that is in one piece, or gathered. */
static const char *next_record(struct cursor *cursor, char gathered[RECORD_BYTES], size_t *len)
{
    size_t rest = rest_of_part(cursor);

    if (rest >= RECORD_BYTES || cursor->at + 1 >= cursor->count) {
        *len = md_size_min(rest, RECORD_BYTES);
        return *len ? take(cursor, *len) : NULL;
    }
    for (*len = 0; *len < RECORD_BYTES && rest; rest = rest_of_part(cursor)) {
        size_t n = md_size_min(rest, RECORD_BYTES - *len);
        memcpy(gathered + *len, take(cursor, n), n);
        *len += n;
    }
    return gathered;
}

/* Makes records of the parts until the socket takes no more. */
static enum md_io send_records(struct md_tls_stream *stream, struct cursor *cursor, size_t *count)
{
    char gathered[RECORD_BYTES];
    size_t len, n;

    for (;;) {
        const char *data = next_record(cursor, gathered, &len);
        if (!data) {
            return MD_IO_OK;
        }
        begin_call(stream, stream->err);
        int result = md_openssl.SSL_write_ex(stream->ssl, data, len, &n);
        if (result != 1) {
            return outcome_of(stream, result);
        }
        *count += len;
        if (stream->out.len) {
            stream->owes_byte = true;
            *count -= 1;
            return MD_IO_AGAIN;
        }
    }
}

enum md_io md_tls_stream_send(struct md_tls_stream *stream, const struct iovec *parts,
                              int part_count, size_t *count, struct md_error *err)
{
    struct cursor cursor = {.parts = parts, .count = part_count};

    *count = 0;
    if (stream->is_broken) {
        return refuse_broken(err);
    }
    stream->err = err;
    enum md_io outcome = md_tls_stream_flush(stream, err);
    if (outcome != MD_IO_OK) {
        return outcome;
    }
    if (stream->owes_byte && rest_of_part(&cursor)) {
        (void)take(&cursor, 1);
        *count = 1;
        stream->owes_byte = false;
    }
    outcome = send_records(stream, &cursor, count);
    return *count ? MD_IO_OK : outcome;
}

void md_tls_stream_end(struct md_tls_stream *stream)
{
    struct md_error ignored;

    if (stream->is_open && !stream->is_broken && !stream->has_ended) {
        stream->has_ended = true;
        begin_call(stream, &ignored);
        (void)md_openssl.SSL_shutdown(stream->ssl);
        md_openssl.ERR_clear_error();
    }
}
