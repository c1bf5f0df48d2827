/*
 * Bytes of a client into a session of HTTP/2, with handlers of every kind behind it: no crash,
 * every promise to a handler is kept, frames go out whole, and everything is given back.
 *
 * The first four bytes say how the others come: how many at a time, how many of ours are taken at a
 * time, how fast time goes, and how it ends. The preface and SETTINGS stand before the rest.
 */
#include "component/http/fake_http2.h"

enum {
    BUDGET = 4 * 1024 * 1024,
    SMALL_BUDGET = 300 * 1024,
    TURNS_MAX = 3000,
    KNOBS = 4,
    LATE_MAX = 16,
};

/* Exchanges that are answered and held. */
static struct md_exchange *late[LATE_MAX];
static size_t late_count;

static void release_late(void)
{
    while (late_count) {
        md_exchange_release(late[--late_count]);
    }
}

static void hold_late(struct md_exchange *x)
{
    if (late_count == LATE_MAX) {
        release_late();
    }
    late[late_count++] = x;
}

static void answer_late(struct md_exchange *x)
{
    rig_now->held = NULL;
    on_late(x);
    if (rig_now->held == x) {
        hold_late(late_answer(rig_now));
    }
}

static const struct md_http_handler late_handler = {.on_request = answer_late};

static void fuzz_route(void *arg, struct md_exchange *x)
{
    http2_route(arg, x);
    if (md_str_eq_c(x->head.path, "/slow") || md_str_eq_c(x->head.path, "/hold-stream")) {
        x->handler = &not_found_handler; /* nobody would answer it */
    } else if (md_str_eq_c(x->head.path, "/late")) {
        x->handler = &late_handler;
    }
}

/* What was written is frames, the last one maybe not all of it. */
static void check_output(const struct md_conn *conn)
{
    struct md_str out = md_bytes_view(&conn->out);

    while (out.len >= MD_HTTP2_FRAME_HEAD_BYTES) {
        struct md_http2_frame frame = md_http2_get_frame(out.ptr);
        const size_t len = MD_HTTP2_FRAME_HEAD_BYTES + frame.len;
        const bool of_stream =
            frame.kind <= MD_HTTP2_RST_STREAM_FRAME || frame.kind == MD_HTTP2_CONTINUATION_FRAME;
        if (frame.kind > MD_HTTP2_CONTINUATION_FRAME ||
            (of_stream ? frame.stream_id % 2 == 0
                       : frame.stream_id && frame.kind != MD_HTTP2_WINDOW_UPDATE_FRAME)) {
            abort();
        }
        if (len > out.len) {
            return;
        }
        out = md_str_make(out.ptr + len, out.len - len);
    }
}

static void answer_all(void)
{
    struct md_exchange *held = methods_seen.held;

    release_late();
    while (held) {
        struct md_exchange *next = seen_of(held)->next_held;
        if (seen_of(held)->paused) {
            resume(held);
        } else {
            md_exchange_hold(held); /* its end may come long after its answer */
            end_call(held, NULL);
            hold_late(held);
        }
        held = next;
    }
}

static void end_all(void)
{
    while (methods_seen.held) {
        end_call(methods_seen.held, NULL);
    }
}

static void turn(struct md_conn *conn, struct rig *rig)
{
    rig_turn(rig);
    if (!conn->closed && (conn->want & MD_LOOP_READ) &&
        (conn->in_at < conn->in.len || conn->ended)) {
        conn->handler->ready(conn->handler_arg, MD_LOOP_READ);
    }
    if (!conn->closed && (conn->want & MD_LOOP_WRITE) && conn->send_room) {
        conn->handler->ready(conn->handler_arg, MD_LOOP_WRITE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char hello[] = MD_HTTP2_PREFACE "\0\0\0\4\0\0\0\0\0";
    struct rig rig;
    struct md_conn conn;

    if (size < KNOBS) {
        return 0;
    }
    http2_rig_open(&rig, bytes[3] & 8 ? SMALL_BUDGET : BUDGET);
    http2_options.max_message_bytes = 1024 * 1024;
    rig.config.route = fuzz_route;
    rig.stream_left = 5;
    conn = (struct md_conn){.loop = rig.loop, .want = MD_LOOP_READ, .send_room = SIZE_MAX};
    conn.recv_step = bytes[0];
    conn.send_step = bytes[1] ? bytes[1] * (size_t)64 : SIZE_MAX;
    md_bytes_append(&conn.in, hello, sizeof hello - 1);
    md_bytes_append(&conn.in, bytes + KNOBS, size - KNOBS);
    rig_turn(&rig);
    md_session_start(&conn, &rig.config, &rig.list);
    for (unsigned turns = 0; turns < TURNS_MAX && !conn.closed && conn.in_at < conn.in.len;
         turns++) {
        turn(&conn, &rig);
        virtual_ns += bytes[2] * (uint64_t)MD_NS_PER_MS;
        if (turns % 8 == 7) {
            answer_all();
        }
    }
    for (int i = 0; i < 30; i++) {
        turn(&conn, &rig);
    }
    if (bytes[3] & 1) {
        md_session_list_drain(&rig.list);
        for (int i = 0; i < 10; i++) {
            turn(&conn, &rig);
        }
    }
    if (bytes[3] & 2) {
        end_all();
    }
    check_output(&conn);
    if (bytes[3] & 4) {
        conn.ended = true;
        conn.in_at = conn.in.len;
        for (int i = 0; i < 10 && !conn.closed; i++) {
            turn(&conn, &rig);
        }
    }
    md_session_list_abort(&rig.list);
    rig_turn(&rig);
    end_all();
    release_late();
    for (int i = 0; i < 6; i++) {
        rig_turn(&rig);
    }
    peer_free(&conn);
    http2_rig_close(&rig);
    return 0;
}
