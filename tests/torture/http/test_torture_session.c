/*
 * Sessions in which every allocation fails once, or all from one on: what is answered is answered
 * right or refused, once and in order; the connection ends where an answer is missing; the next
 * client is served as ever; no byte of the budget stays behind.
 */
#include "component/http/fake_conn.h"
#include "torture/torture.h"

enum { BUDGET = 64 * 1024 * 1024, REQUESTS_MAX = 16, OUT_BYTES = 2 * 1024 * 1024, WAITS_MAX = 75 };

#define HOST "Host: x\r\n"

/* What one client says, and what it is told if nothing fails. */
struct script {
    struct md_bytes said;   /* own */
    struct md_bytes bodies; /* own: of the answers, one behind the other */
    struct {
        unsigned status;
        size_t said_end, body_at, body_len;
        bool to_head;
    } requests[REQUESTS_MAX];
    size_t count;
    bool one_by_one;
    size_t recv_step, send_step;
    unsigned stream_left;
};

static void expect(struct script *s, unsigned status, struct md_str body)
{
    assert_true(s->count < REQUESTS_MAX);
    s->requests[s->count].status = status;
    s->requests[s->count].said_end = s->said.len;
    s->requests[s->count].body_at = s->bodies.len;
    s->requests[s->count].body_len = body.len;
    md_bytes_append_str(&s->bodies, body);
    s->count++;
}

static void get(struct script *s, const char *path, unsigned status, struct md_str body)
{
    md_bytes_printf(&s->said, "GET %s HTTP/1.1\r\n" HOST "\r\n", path);
    expect(s, status, body);
}

static void letters(struct md_bytes *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        md_bytes_append_char(text, (char)('a' + i * i % 23));
    }
}

static void post(struct script *s, const char *fields, struct md_str sent, struct md_str echoed)
{
    md_bytes_printf(&s->said, "POST /echo HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n",
                    fields, sent.len);
    md_bytes_append_str(&s->said, sent);
    expect(s, 200, echoed);
}

static void post_letters(struct script *s, size_t len)
{
    struct md_bytes text = {0};

    letters(&text, len);
    post(s, "", md_bytes_view(&text), md_bytes_view(&text));
    md_bytes_deinit(&text);
}

static void post_chunked(struct script *s, size_t chunk_bytes, int chunks)
{
    struct md_bytes text = {0}, whole = {0};

    letters(&text, chunk_bytes);
    md_bytes_append_c(&s->said,
                      "POST /lead HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < chunks; i++) {
        md_bytes_printf(&s->said, "%zx;a=b\r\n", chunk_bytes);
        md_bytes_append_str(&s->said, md_bytes_view(&text));
        md_bytes_append_c(&s->said, "\r\n");
        md_bytes_append_str(&whole, md_bytes_view(&text));
    }
    md_bytes_append_c(&s->said, "0\r\nTrailer: x\r\n\r\n");
    expect(s, 200, md_bytes_view(&whole));
    md_bytes_deinit(&text);
    md_bytes_deinit(&whole);
}

static void pack(enum md_coding coding, struct md_str text, struct md_bytes *out)
{
    struct md_deflate *deflate;
    struct md_error err;
    size_t consumed, produced;

    assert_true(md_deflate_create(coding, NULL, &deflate, &err));
    assert_true(md_bytes_reserve(out, text.len + 1024));
    assert_int_equal(md_deflate_step(deflate, text.ptr, text.len, true, out->data, out->capacity,
                                     &consumed, &produced),
                     MD_PROGRESS_DONE);
    out->len = produced;
    md_deflate_destroy(deflate);
}

static void post_packed(struct script *s, enum md_coding coding, size_t len)
{
    struct md_bytes text = {0}, packed = {0};

    letters(&text, len);
    pack(coding, md_bytes_view(&text), &packed);
    post(s,
         coding == MD_CODING_GZIP
             ? "Content-Encoding: gzip\r\nAccept-Encoding: deflate;q=0.1, gzip\r\n"
             : "Content-Encoding: deflate\r\nAccept-Encoding: deflate\r\n",
         md_bytes_view(&packed), md_bytes_view(&text));
    md_bytes_deinit(&text);
    md_bytes_deinit(&packed);
}

/* --- scripts -------------------- */

static void keep_alive(struct script *s)
{
    s->one_by_one = true;
    post_letters(s, 5);
    get(s, "/", 200, MD_STR("hello"));
    post_letters(s, 40000);
    get(s, "/nowhere", 404, MD_STR("nothing here"));
    post_letters(s, 1);
}

static void pipelined(struct script *s)
{
    for (int i = 0; i < 3; i++) {
        post_letters(s, 5);
        get(s, "/", 200, MD_STR("hello"));
        get(s, "/refuse", 403, MD_STR("no"));
        get(s, "/nowhere", 404, MD_STR("nothing here"));
    }
    md_bytes_append_c(&s->said, "HEAD / HTTP/1.1\r\n" HOST "\r\n");
    expect(s, 200, MD_STR(""));
    s->requests[s->count - 1].to_head = true;
    get(s, "/", 200, MD_STR("hello"));
}

static void in_small_pieces(struct script *s)
{
    s->recv_step = 7;
    s->send_step = 11;
    pipelined(s);
}

static void many_headers(struct script *s)
{
    md_bytes_append_c(&s->said, "GET / HTTP/1.1\r\n" HOST);
    for (char c = 'a'; c < 's'; c++) {
        md_bytes_printf(&s->said, "%c%c: 1\r\n", c, c);
    }
    md_bytes_append_c(&s->said, "\r\n");
    expect(s, 200, MD_STR("hello"));
    get(s, "/", 200, MD_STR("hello"));
}

static void chunked(struct script *s)
{
    post_chunked(s, 3, 2);
    post_chunked(s, 5000, 30);
    post_chunked(s, 100000, 3);
}

static void compressed(struct script *s)
{
    s->one_by_one = true;
    post_packed(s, MD_CODING_GZIP, 30);
    post_packed(s, MD_CODING_GZIP, 100000);
    post_packed(s, MD_CODING_DEFLATE, 300000);
}

static void expecting(struct script *s)
{
    struct md_bytes text = {0};

    /* 100 is no answer of its own: what follows it is said without waiting for it */
    s->one_by_one = true;
    for (int i = 0; i < 2; i++) {
        letters(&text, i ? 90000 : 3000);
        post(s, "Expect: 100-continue\r\n", md_bytes_view(&text), md_bytes_view(&text));
        md_bytes_deinit(&text);
    }
}

static void streamed(struct script *s)
{
    struct md_bytes pieces = {0};

    s->stream_left = 40;
    for (int i = 0; i < 40; i++) {
        md_bytes_append_c(&pieces, "piece,");
    }
    get(s, "/stream-at-once", 200, MD_STR("one-two"));
    get(s, "/stream", 200, md_bytes_view(&pieces));
    get(s, "/stream-at-head", 200, MD_STR("one-two"));
    get(s, "/", 200, MD_STR("hello"));
    md_bytes_deinit(&pieces);
}

static void large(struct script *s)
{
    struct md_bytes big = {0};

    s->send_step = 10000;
    for (size_t i = 0; i < BIG_BYTES; i++) {
        md_bytes_append_char(&big, (char)('a' + i % 26));
    }
    post_letters(s, 900000);
    get(s, "/big", 200, md_bytes_view(&big));
    get(s, "/", 200, MD_STR("hello"));
    md_bytes_deinit(&big);
}

/* --- judging -------------------- */

/* The body as it was before it was compressed. */
static struct md_str plain_body(const struct answer *answer, struct md_bytes *out)
{
    struct md_str coding = answer_header(answer, "Content-Encoding");
    struct md_inflate *inflate;
    struct md_error err;
    size_t consumed, produced;

    if (!coding.ptr) {
        return answer->body;
    }
    md_bytes_clear(out);
    assert_true(md_bytes_reserve(out, OUT_BYTES));
    assert_true(md_inflate_create(md_str_eq_c(coding, "gzip") ? MD_CODING_GZIP : MD_CODING_DEFLATE,
                                  NULL, &inflate, &err));
    assert_int_equal(md_inflate_step(inflate, answer->body.ptr, answer->body.len, out->data,
                                     out->capacity, &consumed, &produced, &err),
                     MD_PROGRESS_DONE);
    md_inflate_destroy(inflate);
    return md_str_make(out->data, produced);
}

/* The answers in their order: right, or a refusal that ends or keeps the connection; whole unless
 * the connection ended in it. */
static size_t judge_answers(const struct torture *t, const struct script *s,
                            const struct md_conn *peer)
{
    struct answer answer = {0};
    struct md_bytes plain = {0};
    size_t at = 0, count = 0;

    while (peer_answer(peer, &at, count < s->count && s->requests[count].to_head, &answer)) {
        if (answer.status == 100) {
            continue;
        }
        torture_check(t, count < s->count);
        if (answer.status == s->requests[count].status) {
            struct md_str body = plain_body(&answer, &plain);
            torture_check(t,
                          md_str_eq(body, md_str_make(s->bodies.data + s->requests[count].body_at,
                                                      s->requests[count].body_len)));
        } else {
            torture_check(t, t->delivered && answer.status == 503);
        }
        count++;
    }
    torture_check(t, at == peer->out.len || (t->delivered && peer->closed));
    md_bytes_deinit(&answer.unchunked);
    md_bytes_deinit(&plain);
    return count;
}

static void next_client_is_served(const struct torture *t, struct rig *rig)
{
    struct md_conn peer = {0};
    struct answer answer = {0};

    peer_open(&peer, rig);
    peer_say_c(&peer, rig, "GET / HTTP/1.1\r\n" HOST "\r\n");
    peer_only_answer(&peer, &answer);
    torture_check(t, answer.status == 200);
    peer_hang_up(&peer, rig);
    peer_free(&peer);
}

/* Lets time go on until the client has all its answers or its connection has ended. */
static void talk(const struct script *s, struct md_conn *peer, struct rig *rig)
{
    size_t said = 0;

    for (size_t i = 0; i < s->count; i++) {
        if (!s->one_by_one && i + 1 < s->count) {
            continue;
        }
        peer_say(peer, rig, s->said.data + said, s->requests[i].said_end - said);
        said = s->requests[i].said_end;
        for (int wait = 0;
             wait < WAITS_MAX && !peer->closed && rig->list.first &&
             (peer->in_at < peer->in.len || rig_session(rig)->state != MD_SESSION_HEAD);
             wait++) {
            rig_wait(rig, wait < 10 ? 10 : 1000);
            peer_run(peer, rig);
        }
    }
}

static void torture_script(const struct script *s, enum md_fault_kind kind)
{
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct rig rig;
        struct md_conn peer = {0};
        rig_open(&rig, BUDGET);
        rig.stream_left = s->stream_left;
        peer = (struct md_conn){.loop = rig.loop,
                                .want = MD_LOOP_READ,
                                .recv_step = s->recv_step,
                                .send_step = s->send_step ? s->send_step : SIZE_MAX,
                                .send_room = SIZE_MAX};
        assert_true(md_bytes_reserve(&peer.in, s->said.len));
        assert_true(md_bytes_reserve(&peer.out, OUT_BYTES));
        torture_arm(&t);
        md_session_start(&peer, &rig.config, &rig.list);
        if (!peer.closed) {
            talk(s, &peer, &rig);
        }
        bool delivered = torture_disarm(&t);
        size_t count = judge_answers(&t, s, &peer);
        torture_check(&t, count == s->count || (delivered && (peer.closed || peer.shut_down)));
        if (!peer.closed) {
            peer_hang_up(&peer, &rig);
        }
        torture_check(&t, peer.closed);
        next_client_is_served(&t, &rig);
        peer_free(&peer);
        rig_close(&rig);
    }
}

static void test_torture_session(void **state)
{
    struct script script = {0};
    void (*write)(struct script *) = *(void (**)(struct script *)) * state;

    write(&script);
    assert_false(script.said.failed || script.bodies.failed);
    torture_script(&script, MD_FAULT_ALLOC);
    torture_script(&script, MD_FAULT_REGION);
    md_bytes_deinit(&script.said);
    md_bytes_deinit(&script.bodies);
}

#define SCRIPT(name)                                      \
    static void (*name##_script)(struct script *) = name; \
    static const struct CMUnitTest name##_test = {        \
        "test_torture_session_" #name, test_torture_session, NULL, NULL, &name##_script}

SCRIPT(keep_alive);
SCRIPT(pipelined);
SCRIPT(in_small_pieces);
SCRIPT(many_headers);
SCRIPT(chunked);
SCRIPT(compressed);
SCRIPT(expecting);
SCRIPT(streamed);
SCRIPT(large);

int main(void)
{
    const struct CMUnitTest tests[] = {
        keep_alive_test, pipelined_test, in_small_pieces_test, many_headers_test, chunked_test,
        compressed_test, expecting_test, streamed_test,        large_test,
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
