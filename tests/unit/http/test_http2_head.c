/*
 * Heads of HTTP/2 requests: which are malformed, and what the others say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "http/http2_head.h"

enum { FIELDS_MAX = 16 };

/* "name=value|name=value"; the first '=' behind the first byte parts them. */
static size_t fields_of(const char *text, struct md_http_header *fields)
{
    struct md_str rest = md_str_of(text), field;
    size_t count = 0;

    while (rest.len && md_str_split(&rest, '|', &field)) {
        ptrdiff_t at = md_str_find(field, '=');
        assert_true(at >= 0 && count < FIELDS_MAX);
        fields[count].name = md_str_make(field.ptr, (size_t)at);
        fields[count++].value = md_str_make(field.ptr + at + 1, field.len - (size_t)at - 1);
    }
    return count;
}

#define HEAD ":method=GET|:scheme=http|:path=/|:authority=x"
#define POST ":method=POST|:scheme=http|:path=/a"

static void test_http2_head_refuses_malformed_requests(void **state)
{
    static const struct {
        const char *fields;
        bool ends, ok;
    } table[] = {
        {HEAD, true, true},
        {":method=GET|:scheme=http|:path=/", true, true},
        {":path=/|:method=GET|:authority=|:scheme=http", true, true},
        {":scheme=http|:path=/", true, false},
        {":method=GET|:path=/", true, false},
        {":method=GET|:scheme=http", true, false},
        {":method=GET|:scheme=http|:path=", true, false},
        {":method=GET|:scheme=http|:path=a", true, false},
        {":method=GET|:scheme=http|:path=/a b", true, false},
        {":method=GET|:scheme=http|:path=/a\x7f", true, false},
        {":method=OPTIONS|:scheme=http|:path=*", true, true},
        {HEAD "|:path=/", true, false},
        {HEAD "|:method=GET", true, false},
        {HEAD "|:status=200", true, false},
        {HEAD "|:x=1", true, false},
        {HEAD "|a=1|:b=1", true, false},
        {":method=GET|:scheme=http|a=1|:path=/", true, false},
        {":method=CONNECT|:authority=x:1", true, true},
        {":method=CONNECT|:authority=x:1|:path=/", true, false},
        {":method=CONNECT", true, false},
        {HEAD "|A=1", true, false},
        {HEAD "|=1", true, false},
        {HEAD "|a b=1", true, false},
        {HEAD "|a=1\r\nb: 2", true, false},
        {HEAD "|a=1\x01", true, false},
        {HEAD "|a=", true, true},
        {HEAD "|connection=close", true, false},
        {HEAD "|keep-alive=1", true, false},
        {HEAD "|proxy-connection=1", true, false},
        {HEAD "|transfer-encoding=chunked", true, false},
        {HEAD "|upgrade=h2c", true, false},
        {HEAD "|te=trailers", true, true},
        {HEAD "|te=gzip", true, false},
        {HEAD "|content-length=0", true, true},
        {HEAD "|content-length=1", true, false},
        {HEAD "|content-length=1", false, true},
        {HEAD "|content-length=-1", false, false},
        {HEAD "|content-length=", false, false},
        {HEAD "|content-length=9223372036854775808", false, false},
        {HEAD "|content-length=5|content-length=5", false, true},
        {HEAD "|content-length=5|content-length=6", false, false},
        {"", true, false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_http_header fields[FIELDS_MAX];
        struct md_http2_request request;
        size_t count = fields_of(table[i].fields, fields);
        if (md_http2_parse_head(fields, count, table[i].ends, &request) != table[i].ok) {
            fail_msg("row %zu: %s", i, table[i].fields);
        }
    }
}

static void test_http2_head_says_what_a_request_is(void **state)
{
    struct md_http_header fields[FIELDS_MAX];
    struct md_http2_request request;
    size_t count = fields_of(":method=POST|:scheme=https|:path=/a/b?c=d?e|:authority=x|"
                             "content-type=application/grpc+proto|content-length=12|te=trailers|"
                             "grpc-timeout= 1S |grpc-encoding=gzip|grpc-accept-encoding=a,b|"
                             "expect=100-Continue|origin=http://o|accept-encoding=br|"
                             "content-encoding=deflate|access-control-request-method=GET",
                             fields);

    (void)state;
    assert_true(md_http2_parse_head(fields, count, false, &request));
    assert_int_equal(request.head.method, MD_HTTP_POST);
    assert_true(md_str_eq_c(request.head.path, "/a/b"));
    assert_true(md_str_eq_c(request.head.query, "c=d?e"));
    assert_int_equal(request.head.content_length, 12);
    assert_true(request.head.has_body);
    assert_int_equal(request.head.header_count, count - 4);
    assert_true(request.is_grpc);
    assert_true(request.expects_continue);
    assert_true(request.is_preflight);
    assert_true(md_str_eq_c(request.grpc_timeout, "1S"));
    assert_true(md_str_eq_c(request.grpc_encoding, "gzip"));
    assert_true(md_str_eq_c(request.grpc_accept_encoding, "a,b"));
    assert_true(md_str_eq_c(request.origin, "http://o"));
    assert_true(md_str_eq_c(request.accept_encoding, "br"));
    assert_true(md_str_eq_c(request.content_encoding, "deflate"));
}

static void test_http2_head_knows_grpc(void **state)
{
    static const struct {
        const char *fields;
        bool is_grpc;
    } table[] = {
        {POST "|content-type=application/grpc", true},
        {POST "|content-type=application/grpc+json", true},
        {POST "|content-type=application/grpc;x=y", true},
        {POST "|content-type=application/grpc-web", false},
        {POST "|content-type=application/json", false},
        {POST, false},
        {HEAD "|content-type=application/grpc", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_http_header fields[FIELDS_MAX];
        struct md_http2_request request;
        size_t count = fields_of(table[i].fields, fields);
        assert_true(md_http2_parse_head(fields, count, false, &request));
        assert_int_equal(request.is_grpc, table[i].is_grpc);
    }
}

static void test_http2_head_checks_trailers(void **state)
{
    static const struct {
        const char *fields;
        bool ok;
    } table[] = {
        {"", true},     {"a=1|b-bin=2", true}, {":path=/", false},
        {"A=1", false}, {"a=\n", false},       {"connection=close", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_http_header fields[FIELDS_MAX];
        assert_int_equal(md_http2_check_trailers(fields, fields_of(table[i].fields, fields)),
                         table[i].ok);
    }
}

static void test_http2_head_shared_is_a_copy(void **state)
{
    struct md_http_header fields[FIELDS_MAX];
    char text[] = HEAD "|a=1|b=";
    struct md_http2_head *head;
    size_t count = fields_of(text, fields);

    (void)state;
    head = md_http2_head_create(MD_STR("block"), true, fields, count);
    memset(text, 'x', sizeof text - 1);
    memset(fields, 0, sizeof fields);
    assert_true(md_str_eq_c(head->block, "block"));
    assert_true(md_str_eq_c(head->request.head.path, "/"));
    assert_int_equal(head->request.head.header_count, 2);
    assert_true(md_str_eq_c(head->request.head.headers[0].value, "1"));
    assert_true(md_str_eq_c(head->request.head.headers[1].name, "b"));
    head->refs++;
    md_http2_head_unref(head);
    assert_int_equal(head->refs, 1);
    md_http2_head_unref(head);
    md_http2_head_unref(NULL);
    count = fields_of(HEAD "|A=1", fields);
    assert_null(md_http2_head_create(MD_STR("block"), true, fields, count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http2_head_refuses_malformed_requests),
        cmocka_unit_test(test_http2_head_says_what_a_request_is),
        cmocka_unit_test(test_http2_head_knows_grpc),
        cmocka_unit_test(test_http2_head_checks_trailers),
        cmocka_unit_test(test_http2_head_shared_is_a_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
