/*
 * HTTP/2 as a state machine: what each frame does, however its bytes come; windows both ways; what
 * is written, and when pieces are told; what a peer may not do for ever.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "http/http2.h"

enum { STREAMS_MAX = 3000, NONE = -1, END = 1, HEAD_ENDS = 4, PAD = 8, PRIO = 32, ACK = 1 };

static const struct md_http2_limits limits = {.max_concurrent_streams = 5,
                                              .max_frame_size = 100000,
                                              .initial_window = 1000,
                                              .max_header_bytes = 400,
                                              .max_header_count = 8};

struct stream {
    struct md_http2_stream h2; /* first */
    struct md_arena arena;
    bool used;
};

static struct {
    struct md_http2 h2;
    struct md_http2_limits limits;
    struct stream *streams;
    size_t opened;
    unsigned sent;
    bool forgets; /* in `sent` */
    struct md_bytes out;
    size_t out_at;
    int failure, reset;
    size_t heads, datas, data_bytes, trailers;
    bool ended, too_large;
} m;

static struct md_http2_stream *open_stream(void *arg)
{
    struct stream *stream;

    assert_ptr_equal(arg, &m);
    assert_true(m.opened < STREAMS_MAX);
    stream = &m.streams[m.opened++];
    md_arena_init(&stream->arena, 1024);
    stream->h2.arena = &stream->arena;
    stream->used = true;
    return &stream->h2;
}

static void forget(struct md_http2_stream *h2)
{
    struct stream *stream = (struct stream *)(void *)h2;

    assert_true(stream->used);
    stream->used = false;
    md_http2_forget(&m.h2, h2);
    md_arena_deinit(&stream->arena);
}

static void stream_sent(void *arg, struct md_http2_stream *stream)
{
    assert_ptr_equal(arg, &m);
    assert_int_equal(stream->committed_bytes, 0);
    m.sent++;
    if (m.forgets) {
        forget(stream);
    }
}

static void machine_open(const struct md_http2_limits *own)
{
    const struct md_http2_owner owner = {.open = open_stream, .sent = stream_sent, .arg = &m};

    memset(&m, 0, sizeof m);
    m.limits = *own;
    m.streams = md_calloc(STREAMS_MAX, sizeof *m.streams);
    m.failure = m.reset = NONE;
    assert_true(md_http2_init(&m.h2, &m.limits, &owner));
}

static void machine_close(void)
{
    md_http2_drop_output(&m.h2);
    for (size_t i = 0; i < m.opened; i++) {
        if (m.streams[i].used) {
            forget(&m.streams[i].h2);
        }
    }
    assert_int_equal(m.h2.stream_count, 0);
    assert_null(m.h2.streams);
    md_http2_deinit(&m.h2);
    md_bytes_deinit(&m.out);
    md_free(m.streams);
}

/* --- what is said -------------------- */

struct frame {
    unsigned kind, flags;
    uint32_t id;
    const char *hex; /* of what follows the head; NULL: no frame */
};

static size_t put_hex(struct md_bytes *to, const char *hex)
{
    size_t count = 0;

    for (; *hex; hex += 2, count++) {
        char digits[3] = {hex[0], hex[1], 0};
        md_bytes_append_char(to, (char)strtoul(digits, NULL, 16));
    }
    return count;
}

static void put_frame(struct md_bytes *to, unsigned kind, unsigned flags, uint32_t id,
                      struct md_str payload)
{
    char head[MD_HTTP2_FRAME_HEAD_BYTES];

    md_http2_put_frame(head, &(struct md_http2_frame){payload.len, kind, flags, id});
    md_bytes_append(to, head, sizeof head);
    md_bytes_append_str(to, payload);
}

static void put(struct md_bytes *to, const struct frame *frame)
{
    struct md_bytes payload = {0};

    (void)put_hex(&payload, frame->hex);
    put_frame(to, frame->kind, frame->flags, frame->id, md_bytes_view(&payload));
    md_bytes_deinit(&payload);
}

static void note(const struct md_http2_event *event)
{
    switch (event->kind) {
    case MD_HTTP2_HEAD:
        m.heads++;
        m.ended |= event->ends;
        m.too_large |= m.h2.fields_too_large;
        break;
    case MD_HTTP2_TRAILERS:
        m.trailers++;
        m.ended |= event->ends;
        break;
    case MD_HTTP2_DATA:
        m.datas++;
        m.data_bytes += event->bytes.len;
        m.ended |= event->ends;
        break;
    case MD_HTTP2_RESET:
        m.reset = (int)event->error;
        assert_true(event->stream->was_reset);
        break;
    case MD_HTTP2_FAILED:
        m.failure = (int)m.h2.failure;
        assert_non_null(m.h2.failure_text);
        break;
    default:
        break;
    }
}

/* Each step gets no more bytes than it says that it needs, in memory that ends with them. */
static void feed(struct md_str data, bool sparing)
{
    while (data.len && m.failure == NONE) {
        struct md_http2_event event;
        size_t len = sparing ? md_size_min(1, data.len) : data.len;
        for (;;) {
            char *exact = md_alloc(len ? len : 1);
            memcpy(exact, data.ptr, len);
            struct md_str view = md_str_make(exact, len);
            md_http2_next(&m.h2, &view, &event);
            note(&event);
            data = md_str_make(data.ptr + (len - view.len), data.len - (len - view.len));
            const size_t wanted = md_http2_wanted(&m.h2, view);
            md_free(exact);
            if (event.kind != MD_HTTP2_AGAIN || view.len < len) {
                break;
            }
            assert_true(wanted > len);
            if (wanted > data.len) {
                return; /* more must come */
            }
            len = wanted;
        }
    }
}

static void say(unsigned kind, unsigned flags, uint32_t id, const char *hex)
{
    struct md_bytes data = {0};

    put(&data, &(struct frame){kind, flags, id, hex});
    feed(md_bytes_view(&data), false);
    md_bytes_deinit(&data);
}

static void say_bytes(unsigned kind, unsigned flags, uint32_t id, size_t len)
{
    struct md_bytes data = {0};
    char *zeros = md_calloc(1, len + 1);

    put_frame(&data, kind, flags, id, md_str_make(zeros, len));
    feed(md_bytes_view(&data), false);
    md_free(zeros);
    md_bytes_deinit(&data);
}

#define S          MD_HTTP2_SETTINGS_FRAME
#define H          MD_HTTP2_HEADERS_FRAME
#define D          MD_HTTP2_DATA_FRAME
#define R          MD_HTTP2_RST_STREAM_FRAME
#define P          MD_HTTP2_PRIORITY_FRAME
#define W          MD_HTTP2_WINDOW_UPDATE_FRAME
#define C          MD_HTTP2_CONTINUATION_FRAME
#define G          MD_HTTP2_GOAWAY_FRAME
#define PING       MD_HTTP2_PING_FRAME
#define PUSH       MD_HTTP2_PUSH_PROMISE_FRAME
#define GET        "828684"
#define PING_BYTES "0102030405060708"

static void hello(void)
{
    say(S, 0, 0, "");
}

static void ask(uint32_t id)
{
    say(H, END | HEAD_ENDS, id, GET);
}

static struct md_http2_stream *last_stream(void)
{
    return &m.streams[m.opened - 1].h2;
}

/* --- what is written -------------------- */

/* Writes at most `step` bytes at a time, `most` in all. */
static size_t write_out(size_t step, size_t most)
{
    struct iovec parts[MD_HTTP2_SEGMENTS + 1];
    size_t total = 0;

    for (;;) {
        int count = md_http2_gather(&m.h2, parts, MD_HTTP2_SEGMENTS + 1, SIZE_MAX);
        size_t taken = 0;
        const size_t room = md_size_min(step, most - total);
        for (int i = 0; i < count; i++) {
            assert_true(parts[i].iov_len > 0);
            size_t n = md_size_min(parts[i].iov_len, room - taken);
            md_bytes_append(&m.out, parts[i].iov_base, n);
            taken += n;
        }
        if (!taken) {
            assert_true(count > 0 || md_http2_pending_bytes(&m.h2) == 0);
            return total;
        }
        md_http2_wrote(&m.h2, taken);
        total += taken;
    }
}

static void write_all(void)
{
    (void)write_out(SIZE_MAX, SIZE_MAX);
}

/* The next frame that was written; false: there is none. */
static bool next_frame(struct md_http2_frame *frame, struct md_str *payload)
{
    if (m.out.len - m.out_at < MD_HTTP2_FRAME_HEAD_BYTES) {
        assert_int_equal(m.out.len, m.out_at);
        return false;
    }
    *frame = md_http2_get_frame(m.out.data + m.out_at);
    m.out_at += MD_HTTP2_FRAME_HEAD_BYTES;
    assert_true(m.out.len - m.out_at >= frame->len);
    *payload = md_str_make(m.out.data + m.out_at, frame->len);
    m.out_at += frame->len;
    return true;
}

/* Frames of a kind since this was last asked; the last one's payload begins with *value. */
static size_t count_frames(unsigned kind, uint32_t id, uint32_t *value)
{
    struct md_http2_frame frame;
    struct md_str payload;
    size_t count = 0;

    write_all();
    while (next_frame(&frame, &payload)) {
        if (frame.kind == kind && frame.stream_id == id) {
            count++;
            *value = payload.len >= 4 ? md_http2_get_u32(payload.ptr) : 0;
        }
    }
    return count;
}

/* Body bytes of a stream since this was last asked; *ended: END_STREAM came. */
static size_t count_data(uint32_t id, size_t *largest, bool *ended)
{
    struct md_http2_frame frame;
    struct md_str payload;
    size_t bytes = 0;

    write_all();
    *largest = 0;
    while (next_frame(&frame, &payload)) {
        if (frame.kind == D && frame.stream_id == id) {
            bytes += frame.len;
            *largest = md_size_max(*largest, frame.len);
        }
        if (frame.stream_id == id && (frame.kind == D || frame.kind == H)) {
            assert_false(*ended);
            *ended |= frame.flags & END;
        }
    }
    return bytes;
}

/* --- rules of frames -------------------- */

#define ZERO 0
#define PE   MD_HTTP2_PROTOCOL_ERROR
#define FS   MD_HTTP2_FRAME_SIZE_ERROR
#define SC   MD_HTTP2_STREAM_CLOSED
#define FC   MD_HTTP2_FLOW_CONTROL_ERROR
#define CE   MD_HTTP2_COMPRESSION_ERROR
#define CALM MD_HTTP2_ENHANCE_YOUR_CALM

static const struct {
    struct frame frames[6];
    int failure, reset; /* of the connection, or of a stream */
} rules[] = {
    /* the first frame (3.4) */
    {{{S, 0, 0, ""}}, NONE, NONE},
    {{{S, ACK, 0, ""}}, PE, NONE},
    {{{PING, 0, 0, PING_BYTES}}, PE, NONE},
    {{{H, END | HEAD_ENDS, 1, GET}}, PE, NONE},
    /* SETTINGS (6.5) */
    {{{S, 0, 0, ""}, {S, 0, 1, ""}}, PE, NONE},
    {{{S, 0, 0, "0001000000"}}, FS, NONE},
    {{{S, 0, 0, ""}, {S, ACK, 0, "000300000001"}}, FS, NONE},
    {{{S, 0, 0, ""}, {S, ACK, 0, ""}}, NONE, NONE},
    {{{S, 0, 0, "000200000002"}}, PE, NONE},
    {{{S, 0, 0, "000200000001"}}, NONE, NONE},
    {{{S, 0, 0, "000480000000"}}, FC, NONE},
    {{{S, 0, 0, "00047fffffff"}}, NONE, NONE},
    {{{S, 0, 0, "000500003fff"}}, PE, NONE},
    {{{S, 0, 0, "000501000000"}}, PE, NONE},
    {{{S, 0, 0, "000500ffffff"}}, NONE, NONE},
    {{{S, 0, 0, "00ff00000001000100000000"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {W, 0, 1, "7fff0000"}, {S, 0, 0, "00047fffffff"}}, FC, NONE},
    /* HEADERS (6.2) */
    {{{S, 0, 0, ""}, {H, END | HEAD_ENDS, 0, GET}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, END | HEAD_ENDS, 2, GET}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PAD, 1, ""}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PAD, 1, "04" GET}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PAD, 1, "03" GET "000000"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PRIO, 1, "00000000"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PRIO, 1, "0000000310" GET}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 5 | PRIO, 1, "8000000110" GET}}, NONE, PE},
    {{{S, 0, 0, ""}, {H, 5, 1, "ff"}}, CE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 3, GET}, {H, 5, 1, GET}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {H, 5, 1, GET}}, NONE, SC},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {H, 4, 1, GET}}, NONE, PE}, /* trailers must end */
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {H, 5, 1, "0001610162"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {R, 0, 1, "00000008"}, {H, 5, 1, GET}}, SC, 8},
    /* CONTINUATION (6.10) */
    {{{S, 0, 0, ""}, {C, 4, 1, GET}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {C, 0, 1, "86"}, {C, 4, 1, "84"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {C, 0, 1, ""}, {C, 4, 1, ""}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {C, 4, 3, "8684"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {PING, 0, 0, PING_BYTES}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {0xaa, 0, 1, ""}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {C, 4, 1, ""}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 1, 1, "82"}, {C, 4, 1, "40"}}, CE, NONE}, /* cut off inside a field */
    /* DATA (6.1) */
    {{{S, 0, 0, ""}, {D, 0, 0, "00"}}, PE, NONE},
    {{{S, 0, 0, ""}, {D, 0, 1, "00"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {D, 0, 2, "00"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {D, PAD, 1, ""}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {D, PAD, 1, "0100"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {D, PAD, 1, "0200"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {D, PAD | END, 1, "00"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {D, 0, 1, "00"}}, NONE, SC},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {D, 1, 1, "00"}, {D, 1, 1, ""}}, NONE, SC},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {R, 0, 1, "00000008"}, {D, 0, 1, "00"}}, NONE, 8},
    /* RST_STREAM (6.4) */
    {{{S, 0, 0, ""}, {R, 0, 0, "00000008"}}, PE, NONE},
    {{{S, 0, 0, ""}, {R, 0, 1, "00000008"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {R, 0, 1, "000008"}}, FS, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {R, 0, 1, "00000008"}}, NONE, 8},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {R, 0, 1, "00000008"}, {R, 0, 1, "00000001"}}, NONE, 8},
    /* PRIORITY (6.3) */
    {{{S, 0, 0, ""}, {P, 0, 0, "0000000010"}}, PE, NONE},
    {{{S, 0, 0, ""}, {P, 0, 1, "0000000010"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {P, 0, 1, "00000000"}}, NONE, FS},
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {P, 0, 1, "0000000110"}}, NONE, PE},
    {{{S, 0, 0, ""}, {P, 0, 7, "0000000710"}}, PE, NONE}, /* of a stream that is none yet */
    /* PUSH_PROMISE (8.4) */
    {{{S, 0, 0, ""}, {H, 4, 1, GET}, {PUSH, 4, 1, "00000002" GET}}, PE, NONE},
    /* PING (6.7) */
    {{{S, 0, 0, ""}, {PING, 0, 1, PING_BYTES}}, PE, NONE},
    {{{S, 0, 0, ""}, {PING, 0, 0, "01"}}, FS, NONE},
    {{{S, 0, 0, ""}, {PING, 0, 0, PING_BYTES}, {PING, ACK, 0, PING_BYTES}}, NONE, NONE},
    /* GOAWAY (6.8) */
    {{{S, 0, 0, ""}, {G, 0, 1, "0000000000000000"}}, PE, NONE},
    {{{S, 0, 0, ""}, {G, 0, 0, "00000000000000"}}, FS, NONE},
    {{{S, 0, 0, ""}, {G, 0, 0, "0000000000000000aabb"}}, NONE, NONE},
    /* WINDOW_UPDATE (6.9) */
    {{{S, 0, 0, ""}, {W, 0, 0, "00000000"}}, PE, NONE},
    {{{S, 0, 0, ""}, {W, 0, 0, "000001"}}, FS, NONE},
    {{{S, 0, 0, ""}, {W, 0, 0, "7fffffff"}}, FC, NONE},
    {{{S, 0, 0, ""}, {W, 0, 0, "7fff0000"}}, NONE, NONE},
    {{{S, 0, 0, ""}, {W, 0, 1, "00000001"}}, PE, NONE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {W, 0, 1, "80000000"}}, NONE, PE},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {W, 0, 1, "7fffffff"}}, NONE, FC},
    {{{S, 0, 0, ""}, {H, 5, 1, GET}, {R, 0, 1, "00000008"}, {W, 0, 1, "00000000"}}, NONE, 8},
    /* others (4.1, 5.5) */
    {{{S, 0, 0, ""}, {0x0a, 0xff, 0, ""}, {0xff, 0xff, 99, "0102"}}, NONE, NONE},
};

static void test_http2_keeps_the_rules_of_frames(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rules); i++) {
        for (int sparing = 0; sparing < 2; sparing++) {
            struct md_bytes data = {0};
            machine_open(&limits);
            for (size_t j = 0; j < MD_COUNT_OF(rules[i].frames) && rules[i].frames[j].hex; j++) {
                put(&data, &rules[i].frames[j]);
            }
            feed(md_bytes_view(&data), sparing);
            if (m.failure != rules[i].failure || m.reset != rules[i].reset) {
                fail_msg("rule %zu: connection %d, stream %d", i, m.failure, m.reset);
            }
            uint32_t code = 0;
            assert_int_equal(count_frames(G, 0, &code), m.failure != NONE);
            md_bytes_deinit(&data);
            machine_close();
        }
    }
}

static void test_http2_refuses_frames_that_are_too_large(void **state)
{
    static const struct {
        unsigned kind;
        size_t len;
        int failure;
    } table[] = {
        {0xaa, MD_HTTP2_FRAME_LEAST_MAX, NONE},
        {0xaa, MD_HTTP2_FRAME_LEAST_MAX + 1, FS},
        {D, MD_HTTP2_FRAME_LEAST_MAX + 1, FS},
        {G, 400 + 4096, NONE},
        {G, 400 + 4097, CALM},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        machine_open(&limits);
        hello();
        say_bytes(table[i].kind, 0, table[i].kind == D, table[i].len);
        assert_int_equal(m.failure, table[i].failure);
        machine_close();
    }
}

static void test_http2_acknowledges_settings_and_pings(void **state)
{
    struct md_http2_frame frame;
    struct md_str payload;

    (void)state;
    machine_open(&limits);
    write_all();
    m.out_at = m.out.len;
    hello();
    say(PING, 0, 0, PING_BYTES);
    write_all();
    assert_true(next_frame(&frame, &payload));
    assert_int_equal(frame.kind, S);
    assert_int_equal(frame.flags, ACK);
    assert_true(next_frame(&frame, &payload));
    assert_int_equal(frame.kind, PING);
    assert_int_equal(frame.flags, ACK);
    assert_memory_equal(payload.ptr, "\1\2\3\4\5\6\7\10", 8);
    md_http2_put_ping(&m.h2);
    assert_false(m.h2.ping_acked);
    say(PING, ACK, 0, "0000000000000000");
    assert_true(m.h2.ping_acked);
    machine_close();
}

/* --- header blocks -------------------- */

static void test_http2_refuses_headers_that_are_too_many(void **state)
{
    static const struct {
        const char *hex;
        int repeats;
        bool too_large;
    } table[] = {
        {"82", 8, false},
        {"82", 9, true}, /* fields */
        {"000a6161616161616161616104"
         "62626262",
         8, false},
        {"007f0061616161616161616161616161616161616161616161616161616161616161616161616161616161"
         "616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161"
         "6161616161616161616161616161616161616161616161616161616161616161616161616161616161610162",
         3, true},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_bytes hex = {0};
        for (int j = 0; j < table[i].repeats; j++) {
            md_bytes_append_c(&hex, table[i].hex);
        }
        md_bytes_append_char(&hex, '\0');
        machine_open(&limits);
        hello();
        say(H, END | HEAD_ENDS, 1, hex.data);
        assert_int_equal(m.failure, NONE);
        assert_int_equal(m.heads, 1);
        assert_int_equal(m.too_large, table[i].too_large);
        machine_close();
        md_bytes_deinit(&hex);
    }
}

static void test_http2_ends_connections_that_flood(void **state)
{
    static const struct {
        struct frame first, frame;
        unsigned most; /* of them are borne */
        bool read;     /* what is answered is */
        bool counts_up;
        int failure;
    } table[] = {
        {{H, END, 1, "82"}, {C, 0, 1, "82"}, 100, true, false, CALM},
        {{S, 0, 0, ""}, {S, 0, 0, ""}, 1001, false, false, CALM},
        {{S, 0, 0, ""}, {PING, 0, 0, PING_BYTES}, 1001, false, false, CALM},
        {{S, 0, 0, ""}, {PING, 0, 0, PING_BYTES}, 10001, true, false, CALM},
        {{S, 0, 0, ""}, {PING, ACK, 0, PING_BYTES}, 10001, true, false, CALM},
        {{S, 0, 0, ""}, {P, 0, 9, "0000000010"}, 10001, true, false, CALM},
        {{S, 0, 0, ""}, {0xee, 0, 9, ""}, 10001, true, false, CALM},
        {{S, 0, 0, ""}, {W, 0, 0, "00000001"}, 10001, true, false, CALM},
        {{H, HEAD_ENDS, 1, GET}, {D, 0, 1, ""}, 10001, true, false, CALM},
        {{H, HEAD_ENDS, 1, GET}, {G, 0, 0, "0000000000000000"}, 10001, true, false, CALM},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        unsigned count = 0;
        machine_open(&limits);
        hello();
        say(table[i].first.kind, table[i].first.flags, table[i].first.id, table[i].first.hex);
        for (; m.failure == NONE; count++) {
            say(table[i].frame.kind, table[i].frame.flags, table[i].frame.id, table[i].frame.hex);
            if (count > table[i].most) {
                fail_msg("row %zu is borne", i);
            }
            if (table[i].read) {
                write_all();
            }
        }
        assert_int_equal(m.failure, table[i].failure);
        assert_true(m.h2.text.len < 100000);
        machine_close();
    }
}

static void test_http2_ends_connections_that_only_reset(void **state)
{
    uint32_t id = 1;

    (void)state;
    machine_open(&limits);
    hello();
    for (; m.failure == NONE && id < 5000; id += 2) {
        ask(id);
        say(R, 0, id, "00000008");
        if (m.failure == NONE) {
            forget(last_stream());
        }
        write_all();
    }
    assert_int_equal(m.failure, CALM);
    assert_true(id > 1000 && id < 3000);
    machine_close();

    /* who is answered, too, may go on */
    machine_open(&limits);
    hello();
    for (id = 1; id < 5000; id += 4) {
        ask(id);
        md_http2_put_head(&m.h2, last_stream(), MD_STR("\x88"), true);
        forget(last_stream());
        ask(id + 2);
        say(R, 0, id + 2, "00000008");
        assert_int_equal(m.failure, NONE);
        forget(last_stream());
        write_all();
    }
    machine_close();
}

static void test_http2_decodes_blocks_of_streams_that_are_refused(void **state)
{
    static const char *const first = GET "400178017a"; /* into the table */
    uint32_t code = 0;

    (void)state;
    machine_open(&limits);
    hello();
    for (uint32_t id = 1; id < 11; id += 2) {
        ask(id);
    }
    say(H, END | HEAD_ENDS, 11, first);
    assert_int_equal(count_frames(R, 11, &code), 1);
    assert_int_equal(code, MD_HTTP2_REFUSED_STREAM);
    say(H, END | HEAD_ENDS, 11, GET); /* trailers of it are no surprise */
    assert_int_equal(m.failure, NONE);
    forget(&m.streams[0].h2);
    say(H, END | HEAD_ENDS, 13, GET "be");
    assert_int_equal(m.heads, 6);
    assert_int_equal(m.h2.field_count, 4);
    assert_true(md_str_eq(m.h2.fields[3].name, MD_STR("x")));
    assert_true(md_str_eq(m.h2.fields[3].value, MD_STR("z")));
    machine_close();
}

static void test_http2_shares_heads_that_come_again(void **state)
{
    static const struct {
        const char *block;
        unsigned flags;
        bool shared;
    } table[] = {
        {GET, 5, false},        {GET, 5, false},
        {GET, 5, true},         {GET "0001610162", 5, false},
        {GET, 5, true},         {GET, 4, false}, /* with a body it is another one */
        {GET, 5, true},         {GET "4001610162", 5, false},
        {GET, 5, false},        {GET "be", 5, false},
        {GET "be", 5, false},   {GET "be", 5, true},
        {GET "3f00", 5, false},
    };

    (void)state;
    machine_open(&limits);
    m.limits.max_concurrent_streams = 100;
    hello();
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_bytes data = {0};
        struct md_http2_event event = {0};
        put(&data, &(struct frame){H, table[i].flags, (uint32_t)(2 * i + 1), table[i].block});
        struct md_str view = md_bytes_view(&data);
        md_http2_next(&m.h2, &view, &event);
        if (i + 1 == MD_COUNT_OF(table)) { /* a change of size at its end is none */
            assert_int_equal(event.kind, MD_HTTP2_FAILED);
        } else {
            assert_int_equal(event.kind, MD_HTTP2_HEAD);
            if ((event.shared != NULL) != table[i].shared) {
                fail_msg("row %zu", i);
            }
            if (event.shared) {
                assert_true(md_str_eq(event.shared->request.head.path, MD_STR("/")));
            }
        }
        md_bytes_deinit(&data);
    }
    machine_close();
}

/* --- windows for what comes -------------------- */

static void test_http2_widens_windows_as_bodies_are_taken(void **state)
{
    uint32_t by = 0;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    say_bytes(D, 0, 1, 600);
    assert_int_equal(m.data_bytes, 600);
    assert_int_equal(count_frames(W, 1, &by), 0);
    md_http2_consumed(&m.h2, last_stream(), 500, 0);
    assert_int_equal(count_frames(W, 1, &by), 0);      /* not worth it */
    md_http2_consumed(&m.h2, last_stream(), 100, 700); /* it was sent more than fits already */
    assert_int_equal(count_frames(W, 1, &by), 0);
    md_http2_consumed(&m.h2, last_stream(), 0, 400);
    assert_int_equal(count_frames(W, 1, &by), 1);
    assert_int_equal(by, 200);
    md_http2_consumed(&m.h2, last_stream(), 501, 0);
    assert_int_equal(count_frames(W, 1, &by), 1);
    assert_int_equal(by, 400);
    say_bytes(D, 0, 1, 1000);
    assert_int_equal(m.reset, NONE);
    say_bytes(D, 0, 1, 1);
    assert_int_equal(m.reset, FC);
    assert_int_equal(m.failure, NONE);
    machine_close();
}

static void test_http2_counts_padding_against_windows(void **state)
{
    uint32_t by = 0;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    for (int i = 0; i < 2; i++) {
        struct md_bytes data = {0};
        char payload[300] = {(char)200};
        put_frame(&data, D, PAD, 1, md_str_make(payload, sizeof payload));
        feed(md_bytes_view(&data), true);
        md_bytes_deinit(&data);
        md_http2_consumed(&m.h2, last_stream(), 99, 0);
    }
    assert_int_equal(m.data_bytes, 198);
    assert_int_equal(count_frames(W, 1, &by), 1);
    assert_int_equal(by, 600);
    machine_close();
}

static void test_http2_widens_windows_for_large_bodies(void **state)
{
    uint32_t value = 0;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    md_http2_expect(&m.h2, last_stream(), 900);
    assert_int_equal(count_frames(W, 1, &value), 0);
    md_http2_expect(&m.h2, last_stream(), 50000);
    assert_int_equal(m.h2.max_frame, 100000); /* offered */
    assert_int_equal(count_frames(W, 1, &value), 1);
    assert_int_equal(value, 49000);
    say_bytes(D, 0, 1, 50000);
    assert_int_equal(m.failure, NONE);
    assert_int_equal(m.reset, NONE);
    assert_int_equal(m.data_bytes, 50000);
    md_http2_expect(&m.h2, last_stream(), UINT64_MAX);
    assert_int_equal(count_frames(W, 1, &value), 1);
    assert_int_equal(value, INT32_MAX);
    machine_close();
}

static void test_http2_renews_the_window_of_the_connection(void **state)
{
    enum { FRAME = 100000, FRAMES = INT32_MAX / FRAME };
    uint32_t by = 0;
    size_t updates = 0;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    md_http2_expect(&m.h2, last_stream(), FRAME);
    /* as if most of it had come */
    m.h2.recv_window = FRAME + 10;
    m.h2.recv_taken = INT32_MAX - FRAME - 10;
    (void)count_frames(W, 0, &by);
    say_bytes(D, 0, 1, FRAME);
    updates = count_frames(W, 0, &by);
    assert_int_equal(updates, 1);
    assert_int_equal(by, INT32_MAX - 10);
    assert_int_equal(m.h2.recv_window, INT32_MAX);
    machine_close();
}

static void test_http2_receives_bodies_in_place(void **state)
{
    struct md_bytes data = {0};
    size_t left;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    assert_null(md_http2_in_data(&m.h2, &left));
    put_frame(&data, D, END | PAD, 1, md_str_make("\2abcdef\0\0", 9));
    feed(md_str_make(data.data, MD_HTTP2_FRAME_HEAD_BYTES + 3), false);
    assert_int_equal(m.data_bytes, 2);
    assert_ptr_equal(md_http2_in_data(&m.h2, &left), last_stream());
    assert_int_equal(left, 4);
    assert_false(md_http2_took_data(&m.h2, 3));
    assert_true(md_http2_took_data(&m.h2, 1));
    assert_null(md_http2_in_data(&m.h2, &left));
    feed(md_str_make("\0", 1), false);
    feed(md_str_make("\0", 1), false);
    say(PING, 0, 0, PING_BYTES);
    assert_int_equal(m.failure, NONE);
    assert_int_equal(m.h2.ping_count, 1);
    md_bytes_deinit(&data);
    machine_close();
}

static void test_http2_drops_what_comes_for_streams_that_are_no_more(void **state)
{
    uint32_t code = 0;

    (void)state;
    machine_open(&limits);
    hello();
    say(H, HEAD_ENDS, 1, GET);
    say(H, HEAD_ENDS, 3, GET);
    md_http2_reset(&m.h2, &m.streams[0].h2, MD_HTTP2_CANCEL);
    forget(&m.streams[0].h2);
    for (int i = 0; i < 3000; i++) { /* it may not have seen yet that we have ended it */
        say_bytes(D, 0, 1, 1000);
        say(D, 0, 3, "");
        assert_int_equal(m.failure, NONE);
    }
    say(H, END | HEAD_ENDS, 1, "0001610162");
    say(R, 0, 1, "00000000");
    say(W, 0, 1, "00000000");
    assert_int_equal(m.failure, NONE);
    assert_int_equal(m.data_bytes, 0);
    say(R, 0, 3, "00000008");
    forget(&m.streams[1].h2);
    (void)count_frames(R, 3, &code);
    say(D, 0, 3, "00"); /* it has ended that itself */
    assert_int_equal(count_frames(R, 3, &code), 1);
    assert_int_equal(code, MD_HTTP2_STREAM_CLOSED);
    say(H, END | HEAD_ENDS, 3, GET);
    assert_int_equal(m.failure, MD_HTTP2_STREAM_CLOSED);
    machine_close();
}

/* --- streams -------------------- */

static void test_http2_finds_many_streams(void **state)
{
    enum { COUNT = 1000 };

    (void)state;
    machine_open(&limits);
    m.limits.max_concurrent_streams = COUNT;
    hello();
    for (uint32_t i = 0; i < COUNT; i++) {
        ask(2 * i + 1);
    }
    assert_int_equal(m.h2.stream_count, COUNT);
    assert_true(m.h2.bucket_count > 16);
    for (uint32_t i = 0; i < COUNT; i += 3) {
        assert_ptr_equal(md_http2_find(&m.h2, 2 * i + 1), &m.streams[i].h2);
        forget(&m.streams[i].h2);
        assert_null(md_http2_find(&m.h2, 2 * i + 1));
    }
    for (uint32_t i = 1; i < COUNT; i += 3) {
        assert_ptr_equal(md_http2_find(&m.h2, 2 * i + 1), &m.streams[i].h2);
    }
    machine_close();
}

static void test_http2_refuses_new_streams_after_goaway(void **state)
{
    struct md_http2_frame frame;
    struct md_str payload;
    uint32_t code = 0;

    (void)state;
    machine_open(&limits);
    hello();
    ask(1);
    md_http2_put_goaway_notice(&m.h2);
    ask(3);
    assert_int_equal(count_frames(G, 0, &code), 1);
    assert_int_equal(code, INT32_MAX);
    assert_int_equal(m.heads, 2);
    md_http2_put_goaway(&m.h2, MD_HTTP2_NO_ERROR, "later");
    write_all();
    while (next_frame(&frame, &payload) && frame.kind != G) {}
    assert_int_equal(md_http2_get_u32(payload.ptr), 3);
    assert_memory_equal(payload.ptr + 8, "later", 5);
    ask(5);
    assert_int_equal(count_frames(R, 5, &code), 1);
    assert_int_equal(code, MD_HTTP2_REFUSED_STREAM);
    assert_int_equal(m.heads, 2);
    machine_close();
}

/* --- answers -------------------- */

struct piece {
    struct md_http2_piece h2; /* first */
    unsigned told;
};

static char body_bytes[400000];

static void told(struct md_http2_piece *piece)
{
    ((struct piece *)(void *)piece)->told++;
}

static void send_piece(struct md_http2_stream *stream, struct piece *piece, size_t at, size_t len)
{
    *piece = (struct piece){.h2 = {.data = body_bytes + at, .len = len, .sent = told}};
    md_http2_send(&m.h2, stream, &piece->h2);
}

/* The machine after a request, everything written. */
static struct md_http2_stream *asked(void)
{
    machine_open(&limits);
    for (size_t i = 0; i < sizeof body_bytes; i++) {
        body_bytes[i] = (char)(i * 7 % 251);
    }
    hello();
    ask(1);
    write_all();
    m.out_at = m.out.len;
    return last_stream();
}

static void grant(uint32_t id, uint32_t bytes)
{
    char hex[16];

    (void)snprintf(hex, sizeof hex, "%08x", bytes);
    say(W, 0, id, hex);
}

static void test_http2_sends_bodies_within_both_windows(void **state)
{
    enum { TOTAL = 200000 };
    struct piece pieces[3];
    size_t bytes = 0, largest;
    bool ended = false;

    (void)state;
    struct md_http2_stream *stream = asked();
    md_http2_put_head(&m.h2, stream, MD_STR("\x88"), false);
    send_piece(stream, &pieces[0], 0, 60000);
    send_piece(stream, &pieces[1], 60000, 100000);
    send_piece(stream, &pieces[2], 160000, 40000);
    md_http2_finish(&m.h2, stream, MD_STR(""));
    bytes = count_data(1, &largest, &ended);
    assert_int_equal(bytes, MD_HTTP2_WINDOW_DEFAULT);
    assert_int_equal(largest, MD_HTTP2_FRAME_LEAST_MAX);
    assert_int_equal(pieces[0].told, 1);
    assert_int_equal(pieces[1].told, 0);
    grant(1, 500000);
    assert_int_equal(count_data(1, &largest, &ended), 0); /* the connection's is used up */
    grant(0, 10);
    assert_int_equal(count_data(1, &largest, &ended), 10);
    say(S, 0, 0, "000500008000");
    grant(0, 500000);
    assert_int_equal(count_data(1, &largest, &ended), TOTAL - bytes - 10);
    assert_int_equal(largest, 0x8000);
    assert_true(ended);
    assert_int_equal(m.sent, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pieces[i].told, 1);
    }
    machine_close();
}

static void test_http2_bears_windows_below_zero(void **state)
{
    struct piece piece;
    size_t largest;
    bool ended = false;

    (void)state;
    struct md_http2_stream *stream = asked();
    grant(0, 1000000);
    send_piece(stream, &piece, 0, 100000);
    md_http2_finish(&m.h2, stream, MD_STR(""));
    assert_int_equal(count_data(1, &largest, &ended), 65535);
    say(S, 0, 0, "000400000064");
    assert_int_equal(stream->send_window, 100 - 65535);
    assert_int_equal(count_data(1, &largest, &ended), 0);
    grant(1, 65435);
    assert_int_equal(stream->send_window, 0);
    assert_int_equal(count_data(1, &largest, &ended), 0);
    grant(1, 5);
    assert_int_equal(count_data(1, &largest, &ended), 5);
    say(S, 0, 0, "00040000ffff");
    assert_int_equal(count_data(1, &largest, &ended), 100000 - 65535 - 5);
    assert_true(ended);
    machine_close();
}

static void test_http2_writes_the_same_however_little_is_taken(void **state)
{
    static const size_t steps[] = {1, 2, 9, 1000, 70001, SIZE_MAX};
    struct md_bytes first = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(steps); i++) {
        struct piece pieces[4];
        struct md_http2_stream *stream = asked();
        m.forgets = true;
        m.limits.max_concurrent_streams = 10;
        ask(3);
        ask(5);
        grant(0, 1000000);
        grant(1, 1000000);
        grant(3, 1000000);
        md_http2_put_head(&m.h2, stream, MD_STR("\x88"), false);
        send_piece(stream, &pieces[0], 0, 5000);
        send_piece(stream, &pieces[1], 5000, 1);
        md_http2_put_head(&m.h2, &m.streams[1].h2, MD_STR("\x88"), false);
        send_piece(&m.streams[1].h2, &pieces[2], 7, 90000);
        send_piece(stream, &pieces[3], 5001, 30000);
        md_http2_finish(&m.h2, stream, MD_STR("\x88"));
        md_http2_finish(&m.h2, &m.streams[1].h2, MD_STR(""));
        assert_true(write_out(steps[i], 40000) == 40000);
        say(PING, 0, 0, PING_BYTES); /* between */
        const struct iovec parts[] = {{body_bytes, 10}, {body_bytes, 0}, {body_bytes + 10, 20}};
        md_http2_put_head(&m.h2, &m.streams[2].h2, MD_STR("\x88"), false);
        assert_true(md_http2_try_send(&m.h2, &m.streams[2].h2, parts, 3, 30, true));
        (void)write_out(steps[i], SIZE_MAX);
        for (size_t j = 0; j < MD_COUNT_OF(pieces); j++) {
            assert_int_equal(pieces[j].told, 1);
        }
        assert_int_equal(m.sent, 2);
        if (i == 0) {
            md_bytes_append_str(&first, md_bytes_view(&m.out));
        }
        assert_int_equal(m.out.len, first.len);
        assert_memory_equal(m.out.data, first.data, first.len);
        assert_true(m.h2.text.capacity <= 4096);
        machine_close();
    }
    md_bytes_deinit(&first);
}

static void test_http2_takes_turns(void **state)
{
    struct piece pieces[2];
    struct md_http2_frame frame;
    struct md_str payload;
    unsigned turns = 0;
    uint32_t last = 0;

    (void)state;
    struct md_http2_stream *stream = asked();
    ask(3);
    grant(0, 10000000);
    grant(1, 1000000);
    grant(3, 1000000);
    send_piece(stream, &pieces[0], 0, 400000);
    send_piece(&m.streams[1].h2, &pieces[1], 0, 400000);
    write_all();
    while (next_frame(&frame, &payload)) {
        if (frame.kind == D) {
            turns += frame.stream_id != last;
            last = frame.stream_id;
        }
    }
    assert_int_equal(turns, 4);
    machine_close();
}

static void test_http2_sends_more_pieces_than_there_are_segments(void **state)
{
    enum { COUNT = 1000 };
    struct piece *pieces = md_calloc(COUNT, sizeof *pieces);
    size_t largest;
    bool ended = false;

    (void)state;
    struct md_http2_stream *stream = asked();
    for (size_t i = 0; i < COUNT; i++) {
        send_piece(stream, &pieces[i], i, i % 7);
    }
    md_http2_finish(&m.h2, stream, MD_STR(""));
    assert_int_equal(count_data(1, &largest, &ended), 2997);
    assert_true(ended);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(pieces[i].told, 1);
    }
    md_free(pieces);
    machine_close();
}

static void test_http2_copies_small_bodies_when_windows_let_them(void **state)
{
    static const struct iovec part = {body_bytes, 4096};
    size_t largest;
    bool ended = false;

    (void)state;
    struct md_http2_stream *stream = asked();
    const struct iovec large = {body_bytes, 4097};
    assert_false(md_http2_try_send(&m.h2, stream, &large, 1, 4097, true));
    say(S, 0, 0, "000400000fff");
    assert_false(md_http2_try_send(&m.h2, stream, &part, 1, 4096, true));
    say(S, 0, 0, "000400001000");
    assert_true(md_http2_try_send(&m.h2, stream, &part, 1, 4096, true));
    assert_int_equal(count_data(1, &largest, &ended), 4096);
    assert_true(ended);
    assert_true(stream->send_ended);
    machine_close();
}

static void test_http2_says_that_the_rest_is_not_needed(void **state)
{
    uint32_t code = 99;

    (void)state;
    (void)asked();
    say(H, HEAD_ENDS, 3, GET);
    md_http2_put_head(&m.h2, last_stream(), MD_STR("\x88"), true);
    assert_int_equal(count_frames(R, 3, &code), 1);
    assert_int_equal(code, MD_HTTP2_NO_ERROR);
    machine_close();
}

/* A stream that is reset after so many bytes of it were written: by us or by the peer. */
static void test_http2_tells_every_piece_once_after_a_reset(void **state)
{
    static const size_t written[] = {0, 1, 9, 10, 5000, 16384, 20000, 40000, 65535, 65581, 70000};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(written); i++) {
        for (int how = 0; how < 4; how++) {
            struct piece pieces[4];
            struct md_http2_stream *stream = asked();
            send_piece(stream, &pieces[0], 0, 5000);
            send_piece(stream, &pieces[1], 0, 30000);
            send_piece(stream, &pieces[2], 0, 90000);
            send_piece(stream, &pieces[3], 0, 10);
            md_http2_finish(&m.h2, stream, MD_STR(""));
            (void)write_out(SIZE_MAX, written[i]);
            if (how == 0) {
                md_http2_reset(&m.h2, stream, MD_HTTP2_CANCEL);
            } else if (how == 1) {
                say(R, 0, 1, "00000008");
            } else if (how == 2) {
                md_http2_drop_output(&m.h2);
            }
            if (how < 2) {
                write_all();
                assert_int_equal(stream->committed_bytes, 0);
                assert_true(m.sent <= 1);
                /* all of it was told without the stream's end */
                for (int j = 0; j < 4; j++) {
                    assert_int_equal(pieces[j].told, 1);
                }
            }
            machine_close();
            for (int j = 0; j < 4; j++) {
                assert_int_equal(pieces[j].told, 1);
            }
        }
    }
}

static void test_http2_writes_whole_frames_of_streams_that_were_reset(void **state)
{
    struct piece piece;
    struct md_http2_frame frame;
    struct md_str payload;
    size_t bytes = 0;

    (void)state;
    struct md_http2_stream *stream = asked();
    send_piece(stream, &piece, 0, 100000);
    (void)write_out(SIZE_MAX, 1000);
    md_http2_reset(&m.h2, stream, MD_HTTP2_CANCEL);
    write_all();
    bool was_reset = false;
    while (next_frame(&frame, &payload)) {
        if (frame.kind == D) {
            assert_false(was_reset);
            assert_memory_equal(payload.ptr, body_bytes + bytes, frame.len);
            bytes += frame.len;
        }
        was_reset |= frame.kind == R;
    }
    assert_true(was_reset);
    assert_int_equal(piece.told, 1);
    machine_close();
}

static void test_http2_splits_heads_at_the_frame_size(void **state)
{
    struct md_http2_frame frame;
    struct md_str payload, block = md_str_make(body_bytes, 40000);
    size_t bytes = 0, frames = 0;

    (void)state;
    struct md_http2_stream *stream = asked();
    say(S, 0, 0, "000100000000"); /* no table: the next block says so, once */
    md_http2_put_head(&m.h2, stream, block, true);
    write_all();
    while (next_frame(&frame, &payload)) {
        if (frame.kind == S) {
            continue;
        }
        assert_int_equal(frame.kind, frames ? C : H);
        assert_true(frame.len <= MD_HTTP2_FRAME_LEAST_MAX);
        if (!frames) {
            assert_int_equal(payload.ptr[0], 0x20);
            assert_int_equal(frame.flags, END);
            payload = md_str_make(payload.ptr + 1, payload.len - 1);
        }
        assert_memory_equal(payload.ptr, body_bytes + bytes, payload.len);
        bytes += payload.len;
        frames++;
    }
    assert_int_equal(bytes, 40000);
    assert_int_equal(frames, 3);
    assert_int_equal(frame.flags, HEAD_ENDS);
    ask(3);
    md_http2_put_head(&m.h2, last_stream(), MD_STR("\x88"), true);
    write_all();
    assert_true(next_frame(&frame, &payload));
    assert_int_equal(frame.len, 1);
    machine_close();
}

static void test_http2_keeps_little_of_what_was_written(void **state)
{
    (void)state;
    (void)asked();
    for (int i = 0; i < 20000; i++) { /* there is always something left */
        md_http2_put_ping(&m.h2);
        if (i > 100) {
            (void)write_out(SIZE_MAX, 17);
        }
    }
    assert_true(m.h2.text.capacity < 20000);
    machine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http2_keeps_the_rules_of_frames),
        cmocka_unit_test(test_http2_refuses_frames_that_are_too_large),
        cmocka_unit_test(test_http2_acknowledges_settings_and_pings),
        cmocka_unit_test(test_http2_refuses_headers_that_are_too_many),
        cmocka_unit_test(test_http2_ends_connections_that_flood),
        cmocka_unit_test(test_http2_ends_connections_that_only_reset),
        cmocka_unit_test(test_http2_decodes_blocks_of_streams_that_are_refused),
        cmocka_unit_test(test_http2_shares_heads_that_come_again),
        cmocka_unit_test(test_http2_widens_windows_as_bodies_are_taken),
        cmocka_unit_test(test_http2_counts_padding_against_windows),
        cmocka_unit_test(test_http2_widens_windows_for_large_bodies),
        cmocka_unit_test(test_http2_renews_the_window_of_the_connection),
        cmocka_unit_test(test_http2_receives_bodies_in_place),
        cmocka_unit_test(test_http2_drops_what_comes_for_streams_that_are_no_more),
        cmocka_unit_test(test_http2_finds_many_streams),
        cmocka_unit_test(test_http2_refuses_new_streams_after_goaway),
        cmocka_unit_test(test_http2_sends_bodies_within_both_windows),
        cmocka_unit_test(test_http2_bears_windows_below_zero),
        cmocka_unit_test(test_http2_writes_the_same_however_little_is_taken),
        cmocka_unit_test(test_http2_takes_turns),
        cmocka_unit_test(test_http2_sends_more_pieces_than_there_are_segments),
        cmocka_unit_test(test_http2_copies_small_bodies_when_windows_let_them),
        cmocka_unit_test(test_http2_says_that_the_rest_is_not_needed),
        cmocka_unit_test(test_http2_tells_every_piece_once_after_a_reset),
        cmocka_unit_test(test_http2_writes_whole_frames_of_streams_that_were_reset),
        cmocka_unit_test(test_http2_splits_heads_at_the_frame_size),
        cmocka_unit_test(test_http2_keeps_little_of_what_was_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
