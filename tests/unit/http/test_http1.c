/*
 * HTTP/1.1 heads, chunked bodies and response heads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
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
    struct md_str head = md_arena_copy(
        arena, md_str_make(text + scan.head_start, scan.head_bytes - scan.head_start));
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
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: [::1%25eth0]:8000\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost: A-z_0.~:1\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost:\r\n\r\n", 0},
        {"\x16\x03\x01", 400},
        /* smuggling: what another server on the way may read differently */
        {"GET / HTTP/1.1\r\nHost: x\r\nA: b\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA\tB: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n\tA: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA(: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA\x80: c\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: x\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: a long value with \x0b within it\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\nA: a long value with \t within it and \xff\r\n\r\n", 0},
        {"GET /a\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"GET / http/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1.11\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/x.1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/1,1\r\nHost: x\r\n\r\n", 400},
        {"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505},
        {"PRI * HTTP/2.0\r\n\r\n", 505},
        {"CONNECT host:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET http:///p HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"GET ftp://h/p HTTP/1.1\r\nHost: x\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775807\r\n\r\n", 0},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9223372036854775808\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551621\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \"5\"\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n\r\n",
         501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked;q=1\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", 501},
        {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \tchunked \r\n\r\n", 0},
        {"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0},
        {"\r\n", 1},
        {"\r", 1},
        {"", 1},
        {"\n", 400},
        {"\rG", 400},
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

static void test_http1_reads_targets(void **state)
{
    static const struct {
        const char *target, *path, *query;
    } cases[] = {
        {"/", "/", ""},
        {"/a?b?c", "/a", "b?c"},
        {"/a?", "/a", ""},
        {"http://h", "/", ""},
        {"HTTP://h:8000/p/q?r", "/p/q", "r"},
        {"https://h?x=/y", "/", "x=/y"},
        {"//h/p", "//h/p", ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_arena arena = {0};
        struct md_http1_request r;
        char *text = md_arena_printf(&arena, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", cases[i].target);
        assert_int_equal(judge(text, &arena, &r), 0);
        assert_true(md_str_eq_c(r.head.path, cases[i].path));
        assert_true(md_str_eq_c(r.head.query, cases[i].query));
        md_arena_deinit(&arena);
    }
}

static void test_http1_reads_methods(void **state)
{
    static const struct {
        const char *name;
        enum md_http_method method;
    } cases[] = {
        {"GET", MD_HTTP_GET},         {"HEAD", MD_HTTP_HEAD},      {"POST", MD_HTTP_POST},
        {"PUT", MD_HTTP_PUT},         {"PATCH", MD_HTTP_PATCH},    {"DELETE", MD_HTTP_DELETE},
        {"OPTIONS", MD_HTTP_OPTIONS}, {"get", MD_HTTP_OTHER},      {"G", MD_HTTP_OTHER},
        {"GETS", MD_HTTP_OTHER},      {"M-SEARCH", MD_HTTP_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_arena arena = {0};
        struct md_http1_request r;
        char *text = md_arena_printf(&arena, "%s / HTTP/1.1\r\nHost: x\r\n\r\n", cases[i].name);
        assert_int_equal(judge(text, &arena, &r), 0);
        assert_int_equal(r.head.method, cases[i].method);
        assert_true(md_str_eq_c(r.head.method_name, cases[i].name));
        md_arena_deinit(&arena);
    }
}

/* Values of every length, so that the end lies at every place of the words it is looked for in. */
static void test_http1_reads_values_of_all_lengths(void **state)
{
    (void)state;
    for (size_t len = 0; len < 40; len++) {
        struct md_arena arena = {0};
        struct md_http1_request r;
        char value[64] = "";
        memset(value, 'v', len);
        char *text = md_arena_printf(
            &arena, "GET / HTTP/1.1\r\nHost: x\r\nA:%s\r\nB: \t%s\t \r\n\r\n", value, value);
        assert_int_equal(judge(text, &arena, &r), 0);
        assert_true(md_str_eq_c(r.head.headers[1].value, value));
        assert_true(md_str_eq_c(r.head.headers[2].value, value));
        for (size_t bad = 0; bad < len; bad++) {
            value[bad] = 0x1f;
            text = md_arena_printf(&arena, "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", value);
            assert_int_equal(judge(text, &arena, &r), 400);
            value[bad] = 'v';
        }
        md_arena_deinit(&arena);
    }
}

static void test_http1_head_out_of_memory_is_503(void **state)
{
    struct md_arena arena = {0};
    struct md_http1_request r;
    struct md_error err;
    unsigned status = 0;

    (void)state;
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_http1_parse_head(MD_STR("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), &limits, &arena,
                                     &r, &status, &err));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(status, 503);
    assert_int_equal(r.head.header_count, 0);
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
        {"5 \t;x\r\nhello\r\n0 \r\n\r\n", MD_PROGRESS_DONE, "hello"},
        {"5 5\r\nhello\r\n0\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"5;a\nhello\r\n0\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"5;a\rhello\r\n0\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"5\rhello", MD_PROGRESS_ERROR, ""},
        {"0x5\r\nhello", MD_PROGRESS_ERROR, ""},
        {"5\r\nhello\n0\r\n\r\n", MD_PROGRESS_ERROR, "hello"},
        {"5\r\nhello\r0\r\n\r\n", MD_PROGRESS_ERROR, "hello"},
        {"A\r\n0123456789\r\n00000\r\n\r\n", MD_PROGRESS_DONE, "0123456789"},
        {"fffffffffffffff\r\nhello", MD_PROGRESS_AGAIN, "hello"},
        {"0\r\nno colon\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\n: no name\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\nT\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\nT: a\n\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\nT: a\rb\r\n\r\n", MD_PROGRESS_ERROR, ""},
        {"0\r\nGET / HTTP/1.1\r\n\r\n", MD_PROGRESS_ERROR, ""},
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

static void test_http1_bounds_chunk_lines(void **state)
{
    static const struct {
        const char *begin, *unit;
        unsigned most; /* units that are accepted */
    } cases[] = {{"5;", "e", 1020}, {"0\r\nA:", "v", 1020}, {"0\r\n", "A:b\r\n", 2000}};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes text = {0}, out = {0};
        md_bytes_append_c(&text, cases[i].begin);
        for (unsigned k = 0; k < cases[i].most; k++) {
            md_bytes_append_c(&text, cases[i].unit);
        }
        md_bytes_append_char(&text, '\0');
        assert_int_equal(decode(text.data, text.len, &out), MD_PROGRESS_AGAIN);
        text.len--;
        for (unsigned k = 0; k < 200; k++) {
            md_bytes_append_c(&text, cases[i].unit);
        }
        md_bytes_append_char(&text, '\0');
        assert_int_equal(decode(text.data, text.len, &out), MD_PROGRESS_ERROR);
        md_bytes_deinit(&text);
        md_bytes_deinit(&out);
    }
}

static void test_http1_leaves_what_follows_the_chunks(void **state)
{
    struct md_http1_chunked chunked = {0};
    struct md_str data = MD_STR("0\r\n\r\nGET /"), piece;
    struct md_error err;

    (void)state;
    assert_int_equal(md_http1_chunked_step(&chunked, &data, &piece, &err), MD_PROGRESS_DONE);
    assert_true(md_str_eq_c(data, "GET /"));
}

static void test_http1_prints_dates(void **state)
{
    static const struct {
        uint64_t seconds;
        const char *date;
    } cases[] = {
        {0, "Thu, 01 Jan 1970 00:00:00 GMT"},
        {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
        {951782399, "Mon, 28 Feb 2000 23:59:59 GMT"},
        {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
        {951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
        {1704067199, "Sun, 31 Dec 2023 23:59:59 GMT"},
        {1709251199, "Thu, 29 Feb 2024 23:59:59 GMT"},
        {4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
        {4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"},
    };
    char date[MD_HTTP1_DATE_BYTES];

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        md_http1_print_date(cases[i].seconds * MD_NS_PER_S + 999999999, date);
        assert_string_equal(date, cases[i].date);
    }
}

static void test_http1_names_statuses(void **state)
{
    (void)state;
    assert_string_equal(md_http_status_text(200), "OK");
    assert_string_equal(md_http_status_text(431), "Request Header Fields Too Large");
    assert_string_equal(md_http_status_text(599), "Status");
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
    md_bytes_clear(&out);
    head = (struct md_http1_response_head){.status = 405, .allow = "POST"};
    md_http1_print_head(&head, &out);
    assert_true(
        md_str_eq_c(md_bytes_view(&out),
                    "HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n"));
    md_bytes_clear(&out);
    head = (struct md_http1_response_head){.status = 204,
                                           .server = "s",
                                           .date = "d",
                                           .http10_keep_alive = true,
                                           .content_encoding = "gzip"};
    md_http1_print_head(&head, &out);
    assert_true(
        md_str_eq_c(md_bytes_view(&out),
                    "HTTP/1.1 204 No Content\r\nServer: s\r\nDate: d\r\nContent-Encoding: gzip\r\n"
                    "Connection: keep-alive\r\n\r\n"));
    md_bytes_clear(&out);
    const struct md_http_header empty = {MD_STR("X"), {NULL, 0}};
    head = (struct md_http1_response_head){.status = 200,
                                           .content_length = MD_HTTP1_UNTIL_CLOSE,
                                           .headers = &empty,
                                           .header_count = 1};
    md_http1_print_head(&head, &out);
    assert_true(md_str_eq_c(md_bytes_view(&out), "HTTP/1.1 200 OK\r\nX: \r\n\r\n"));
    md_bytes_deinit(&out);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    md_http1_print_head(&head, &out);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_true(out.failed);
    md_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http1_judges_heads),
        cmocka_unit_test(test_http1_reads_what_the_head_says),
        cmocka_unit_test(test_http1_reads_targets),
        cmocka_unit_test(test_http1_reads_methods),
        cmocka_unit_test(test_http1_reads_values_of_all_lengths),
        cmocka_unit_test(test_http1_head_out_of_memory_is_503),
        cmocka_unit_test(test_http1_limits_the_head),
        cmocka_unit_test(test_http1_finds_the_end_however_it_is_split),
        cmocka_unit_test(test_http1_decodes_chunks),
        cmocka_unit_test(test_http1_bounds_chunk_lines),
        cmocka_unit_test(test_http1_leaves_what_follows_the_chunks),
        cmocka_unit_test(test_http1_prints_dates),
        cmocka_unit_test(test_http1_names_statuses),
        cmocka_unit_test(test_http1_prints_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
