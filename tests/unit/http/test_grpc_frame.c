/*
 * What gRPC says beside messages: time limits, and the fields of a status.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "codec/base64.h"
#include "codec/protobuf.h"
#include "http/grpc_frame.h"
#include "http/hpack.h"

static void test_grpc_frame_reads_time_limits(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t ns;
    } table[] = {
        {"1H", true, 3600000000000},
        {"2M", true, 120000000000},
        {"20S", true, 20000000000},
        {"1500m", true, 1500000000},
        {"7u", true, 7000},
        {"99999999n", true, 99999999},
        {"0S", true, 0},
        {"00000001S", true, 1000000000},
        {"99999999H", true, UINT64_MAX / 2},
        {"2562047H", true, UINT64_MAX / 2 / 3600000000000 * 3600000000000},
        {"123456789n", false, 0},
        {"S", false, 0},
        {"", false, 0},
        {"1", false, 0},
        {"1s", false, 0},
        {"-1S", false, 0},
        {"1.5S", false, 0},
        {" 1S", false, 0},
        {"1SS", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        uint64_t ns = 0;
        if (md_grpc_parse_timeout(md_str_of(table[i].text), &ns) != table[i].ok ||
            ns != table[i].ns) {
            fail_msg("%s: %llu", table[i].text, (unsigned long long)ns);
        }
    }
}

/* The fields of a block as "name: value\n"... */
static void fields_of(struct md_str block, struct md_bytes *text)
{
    struct md_hpack_decoder *decoder;
    struct md_hpack_field field;

    assert_true(md_hpack_decoder_create(&decoder));
    while (md_hpack_decode(decoder, &block, true, &field) == MD_PROGRESS_AGAIN) {
        md_bytes_append_str(text, field.name);
        md_bytes_append_c(text, ": ");
        md_bytes_append_str(text, field.value);
        md_bytes_append_char(text, '\n');
    }
    assert_int_equal(block.len, 0);
    md_hpack_decoder_destroy(decoder);
}

static void test_grpc_frame_writes_ok(void **state)
{
    struct md_bytes block = {0}, text = {0};

    (void)state;
    md_grpc_put_status(&block, NULL);
    fields_of(md_bytes_view(&block), &text);
    assert_true(md_str_eq_c(md_bytes_view(&text), "grpc-status: 0\n"));
    md_bytes_deinit(&block);
    md_bytes_deinit(&text);
}

static void test_grpc_frame_writes_errors(void **state)
{
    static const struct {
        enum md_reason reason;
        const char *text, *fields;
    } table[] = {
        {MD_REASON_NOT_FOUND, "no model 'a'", "grpc-status: 5\ngrpc-message: no model 'a'\n"},
        {MD_REASON_DEADLINE, "", "grpc-status: 4\ngrpc-message: \n"},
        {MD_REASON_NOT_FOUND, "1 %\n\xc3\xa4\x7f~",
         "grpc-status: 5\ngrpc-message: 1 %25%0A%C3%A4%7F~\n"},
        {MD_REASON_QUEUE_FULL, "full", "grpc-status: 14\ngrpc-message: full\n"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        struct md_bytes block = {0}, text = {0}, details = {0};
        struct md_error err, ignored;
        struct md_str rest, line, key = {0};
        (void)md_error_set(&err, table[i].reason, "%s", table[i].text);
        md_grpc_put_status(&block, &err);
        fields_of(md_bytes_view(&block), &text);
        rest = md_bytes_view(&text);
        assert_true(md_str_starts_with(rest, md_str_of(table[i].fields)));
        rest = md_str_make(rest.ptr + strlen(table[i].fields), rest.len - strlen(table[i].fields));
        assert_true(md_str_split(&rest, '\n', &line) && md_str_split(&line, ':', &key));
        assert_true(md_str_eq_c(key, "grpc-status-details-bin"));
        md_bytes_append_str(&details, md_str_trim(line));
        while (details.len % 4) { /* padding is not sent */
            md_bytes_append_char(&details, '=');
        }
        struct md_bytes status = {0};
        assert_true(md_base64_decode(md_bytes_view(&details), &status, &ignored));
        struct md_pb_reader reader = md_pb_reader_of(md_bytes_view(&status));
        struct md_pb_field field;
        unsigned seen = 0, details_seen = 0;
        while (md_pb_next(&reader, &field)) {
            seen = seen * 10 + (field.tag >> 3);
            if (field.tag == MD_PB_TAG(1, MD_PB_VARINT)) {
                assert_int_equal(field.value, err.code);
            } else if (field.tag == MD_PB_TAG(3, MD_PB_BYTES) && ++details_seen == 2) {
                static const char delay[] = "google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x01";
                assert_non_null(memmem(field.bytes.ptr, field.bytes.len, delay, sizeof delay - 1));
            } else if (field.tag == MD_PB_TAG(3, MD_PB_BYTES)) {
                assert_non_null(
                    memmem(field.bytes.ptr, field.bytes.len, "google.rpc.ErrorInfo", 20));
                const char *name = md_reason_name(err.reason);
                assert_non_null(memmem(field.bytes.ptr, field.bytes.len, name, strlen(name)));
            } else {
                assert_true(md_str_eq_c(field.bytes, err.text));
            }
        }
        assert_false(reader.failed);
        assert_int_equal(seen, md_error_retry_after_s(&err) ? 1233 : 123);
        md_bytes_deinit(&block);
        md_bytes_deinit(&text);
        md_bytes_deinit(&details);
        md_bytes_deinit(&status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_frame_reads_time_limits),
        cmocka_unit_test(test_grpc_frame_writes_ok),
        cmocka_unit_test(test_grpc_frame_writes_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
