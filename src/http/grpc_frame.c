/*
 * Time limits and status.
 */
#include "http/grpc_frame.h"

#include "codec/base64.h"
#include "codec/protobuf.h"
#include "http/hpack.h"

bool md_grpc_parse_timeout(struct md_str text, uint64_t *timeout_ns)
{
    enum { DIGITS_MAX = 8 };
    static const struct {
        char unit;
        uint64_t ns;
    } units[] = {{'H', 3600000000000U}, {'M', 60000000000U}, {'S', 1000000000U},
                 {'m', 1000000U},       {'u', 1000U},        {'n', 1U}};
    uint64_t value;

    if (text.len < 2 || text.len > DIGITS_MAX + 1 ||
        !md_str_to_u64(md_str_make(text.ptr, text.len - 1), &value)) {
        return false;
    }
    for (size_t i = 0; i < MD_COUNT_OF(units); i++) {
        if (units[i].unit == text.ptr[text.len - 1]) {
            /* eight digits of hours are more than 64 bits of nanoseconds */
            *timeout_ns =
                value > UINT64_MAX / 2 / units[i].ns ? UINT64_MAX / 2 : value * units[i].ns;
            return true;
        }
    }
    return false;
}

/* What stands for itself is visible ASCII but '%'. */
static void put_message(struct md_bytes *block, struct md_str text)
{
    static const char digits[] = "0123456789ABCDEF";
    char encoded[3 * MD_ERROR_TEXT_MAX];
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= ' ' && c <= '~' && c != '%') {
            encoded[len++] = (char)c;
        } else {
            encoded[len++] = '%';
            encoded[len++] = digits[c >> 4];
            encoded[len++] = digits[c & 15];
        }
    }
    md_hpack_put(block, MD_STR("grpc-message"), md_str_make(encoded, len));
}

/* A detail is an Any {type_url 1, value 2}. */
struct detail {
    size_t any, value;
};

static struct detail begin_detail(struct md_bytes *status, struct md_str type_url)
{
    struct detail detail = {.any = md_pb_begin(status, 3)};

    md_pb_put_bytes(status, 1, type_url);
    detail.value = md_pb_begin(status, 2);
    return detail;
}

static void end_detail(struct md_bytes *status, struct detail detail)
{
    md_pb_end(status, detail.value);
    md_pb_end(status, detail.any);
}

/* google.rpc.ErrorInfo {reason 1, domain 2} */
static void put_error_info(struct md_bytes *status, const struct md_error *err)
{
    const struct detail detail =
        begin_detail(status, MD_STR("type.googleapis.com/google.rpc.ErrorInfo"));

    md_pb_put_bytes(status, 1, md_str_of(md_reason_name(err->reason)));
    md_pb_put_bytes(status, 2, MD_STR("modeld"));
    end_detail(status, detail);
}

/* google.rpc.RetryInfo {retry_delay 1 {seconds 1}} */
static void put_retry_info(struct md_bytes *status, unsigned seconds)
{
    const struct detail detail =
        begin_detail(status, MD_STR("type.googleapis.com/google.rpc.RetryInfo"));
    const size_t delay = md_pb_begin(status, 1);

    md_pb_put_varint(status, 1, seconds);
    md_pb_end(status, delay);
    end_detail(status, detail);
}

/* google.rpc.Status {code 1, message 2, details 3} */
static void put_details(struct md_bytes *block, const struct md_error *err)
{
    const unsigned retry_after_s = md_error_retry_after_s(err);
    struct md_bytes status = {0}, text = {0};

    md_pb_put_varint(&status, 1, err->code);
    md_pb_put_bytes(&status, 2, md_str_of(err->text));
    put_error_info(&status, err);
    if (retry_after_s) {
        put_retry_info(&status, retry_after_s);
    }
    md_base64_encode(md_bytes_view(&status), &text);
    if (!status.failed && !text.failed) { /* without memory the status goes without it */
        struct md_str value = md_bytes_view(&text);
        while (value.len && value.ptr[value.len - 1] == '=') {
            value.len--;
        }
        md_hpack_put(block, MD_STR("grpc-status-details-bin"), value);
    }
    md_bytes_deinit(&status);
    md_bytes_deinit(&text);
}

void md_grpc_put_status(struct md_bytes *block, const struct md_error *err)
{
    /* a literal with a new name: "grpc-status" "0" */
    static const char ok[] = "\x00\x0bgrpc-status\x01\x30";

    if (!err) {
        md_bytes_append(block, ok, sizeof ok - 1);
        return;
    }
    md_hpack_put_number(block, MD_STR("grpc-status"), err->code);
    put_message(block, md_str_of(err->text));
    put_details(block, err);
}
