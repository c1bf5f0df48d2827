/*
 * HTTP/1.1 heads, chunked bodies and response heads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http1.h"

static const struct md_http1_limits limits = {1024, 8};

/* 0: accepted; else the status that refuses it; 1: wants more. */
static unsigned judge(const char *text, struct md_arena *arena, struct md_http1_request *out)
{
    struct md_http1_scan scan = {0};
    struct md_error err;
    unsigned status = 400;
    struct md_str data = md_str_of(text);

    switch (md_http1_scan_head(&scan, data, &limits, &status, &err)) {
    case MD_PROGRESS_AGAIN:
        return 1;
    case MD_PROGRESS_ERROR:
        return status;
    default:
        break;
    }
    struct md_str head = md_arena_copy(arena, md_str_make(text, scan.head_bytes));
    return md_http1_parse_head(head, &limits, arena, out, &status, &err) ? 0 : status;
}

static void test_http1_judges_heads(void **state)
{
    static const struct {
        const char *text;
        unsigned status;
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"GET / HTTP/1.0\r\n\r\n", 0},
        {"GET http://h/p?q HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: x\r\n", 1},
        {"GET / HTT", 1},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\nHost: x\n\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400},
        {"GET /\r\nHost: x\r\n\r\n", 400},
        {" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET pot HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505},
        {"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n A: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: \x01\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
         400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417},
        {"GET / HTTP/1.1\r\nHost: x\r\na:1\r\nb:1\r\nc:1\r\nd:1\r\ne:1\r\nf:1\r\ng:1\r\nh:1\r\n\r\n",
         431},
        {"\x16\x03\x01", 400},
        {"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_arena arena = {0};
        struct md_http1_request request;
        unsigned status = judge(cases[i].text, &arena, &request);
        if (status != cases[i].status) {
            fail_msg("case %zu '%s': %u, expected %u", i, cases[i].text, status, cases[i].status);
        }
        md_arena_deinit(&arena);
    }
}

static void test_http1_reads_what_the_head_says(void **state)
{
    struct md_arena arena = {0};
    struct md_http1_request r;

    (void)state;
    assert_int_equal(
        judge(
            "POST /a/b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nConnection: keep-alive, Close\r\n"
            "Expect: 100-continue\r\nContent-Encoding: GZIP\r\nX:  padded \r\n\r\n",
            &arena, &r),
        0);
    assert_int_equal(r.head.method, MD_HTTP_POST);
    assert_true(md_str_eq_c(r.head.path, "/a/b"));
    assert_true(md_str_eq_c(r.head.query, "c=d"));
    assert_int_equal(r.head.content_length, 12);
    assert_true(r.head.has_body);
    assert_false(r.keep_alive);
    assert_true(r.expects_continue);
    assert_true(md_str_eq_c(r.content_encoding, "GZIP"));
    assert_int_equal(r.head.header_count, 6);
    assert_true(md_str_eq_c(r.head.headers[5].value, "padded"));
    md_arena_deinit(&arena);
}

static void test_http1_limits_the_head(void **state)
{
    char text[3000] = "GET /";
    struct md_arena arena = {0};
    struct md_http1_request r;

    (void)state;
    memset(text + 5, 'a', 2000);
    assert_int_equal(judge(text, &arena, &r), 414);
    memcpy(text, "GET / HTTP/1.1\r\nA: ", 19);
    assert_int_equal(judge(text, &arena, &r), 431);
    md_arena_deinit(&arena);
}

static void test_http1_finds_the_end_however_it_is_split(void **state)
{
    static const char text[] = "POST /x HTTP/1.1\r\nHost: example\r\nContent-Length: 3\r\n\r\nabc";
    struct md_http1_scan scan;
    struct md_error err;
    unsigned status;

    (void)state;
    for (size_t step = 1; step < sizeof text; step++) {
        enum md_progress progress = MD_PROGRESS_AGAIN;
        scan = (struct md_http1_scan){0};
        for (size_t len = step; progress == MD_PROGRESS_AGAIN; len += step) {
            progress =
                md_http1_scan_head(&scan, md_str_make(text, md_size_min(len, sizeof text - 1)),
                                   &limits, &status, &err);
        }
        assert_int_equal(progress, MD_PROGRESS_DONE);
        assert_int_equal(scan.head_bytes, sizeof text - 1 - 3);
    }
}

static enum md_progress decode(const char *text, size_t step, struct md_bytes *out)
{
    struct md_http1_chunked chunked = {0};
    struct md_error err;
    enum md_progress progress = MD_PROGRESS_AGAIN;
    size_t len = strlen(text);

    for (size_t at = 0; at < len && progress == MD_PROGRESS_AGAIN; at += step) {
        struct md_str data = md_str_make(text + at, md_size_min(step, len - at)), piece;
        while (data.len && progress == MD_PROGRESS_AGAIN) {
            progress = md_http1_chunked_step(&chunked, &data, &piece, &err);
            md_bytes_append_str(out, piece);
        }
    }
    return progress;
}

static void test_http1_decodes_chunks(void **state)
{
    static const struct {
        const char *text;
        enum md_progress progress;
        const char *body;
    } cases[] = {
        {"5\r\nhello\r\n0\r\n\r\n", MD_PROGRESS_DONE, "hello"},
        {"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: a\r\nU: b\r\n\r\n", MD_PROGRESS_DONE, "hello!"},
        {"00a\r\n0123456789\r\n0\r\n\r\n", MD_PROGRESS_DONE, "0123456789"},
        {"0\r\n\r\n", MD_PROGRESS_DONE, ""},
        {"5\r\nhel", MD_PROGRESS_AGAIN, "hel"},
        {"5\r\nhelloX\r\n0\r\n\r\n", MD_PROGRESS_ERROR, "hello"},
        {"g\r\n", MD_PROGRESS_ERROR, ""},
        {"\r\n", MD_PROGRESS_ERROR, ""},
        {"5\nhello", MD_PROGRESS_ERROR, ""},
        {"-1\r\n", MD_PROGRESS_ERROR, ""},
        {"1000000000000000\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\nT: \x01\r\n\r\n", MD_PROGRESS_ERROR, ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        for (size_t step = 1; step <= strlen(cases[i].text); step++) {
            struct md_bytes out = {0};
            assert_int_equal(decode(cases[i].text, step, &out), cases[i].progress);
            assert_int_equal(out.len, strlen(cases[i].body));
            assert_memory_equal(out.data ? out.data : "", cases[i].body, out.len);
            md_bytes_deinit(&out);
        }
    }
}

static void test_http1_prints_heads(void **state)
{
    const struct md_http_header header = {MD_STR("X"), MD_STR("y")};
    struct md_http1_response_head head = {.status = 200,
                                          .content_type = "text/plain",
                                          .content_length = 7,
                                          .headers = &header,
                                          .header_count = 1};
    struct md_bytes out = {0};

    (void)state;
    md_http1_print_head(&head, &out);
    assert_true(md_str_eq_c(
        md_bytes_view(&out),
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX: y\r\nContent-Length: 7\r\n\r\n"));
    md_bytes_clear(&out);
    head = (struct md_http1_response_head){
        .status = 503, .content_length = MD_HTTP1_CHUNKED, .close = true};
    md_http1_print_head(&head, &out);
    assert_true(md_str_eq_c(md_bytes_view(&out),
                            "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                            "Transfer-Encoding: chunked\r\n\r\n"));
    md_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http1_judges_heads),
        cmocka_unit_test(test_http1_reads_what_the_head_says),
        cmocka_unit_test(test_http1_limits_the_head),
        cmocka_unit_test(test_http1_finds_the_end_however_it_is_split),
        cmocka_unit_test(test_http1_decodes_chunks),
        cmocka_unit_test(test_http1_prints_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
