/*
 * Heads of HTTP/1.1 responses: appended piece by piece, no formatted printing on the way of a
 * request.
 */
#include "http/http1.h"

#include "base/clock.h"

static const struct {
    unsigned status;
    const char *text;
} status_table[] = {
    {200, "OK"},
    {100, "Continue"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {417, "Expectation Failed"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {507, "Insufficient Storage"},
};

const char *md_http_status_text(unsigned status)
{
    for (size_t i = 0; i < MD_COUNT_OF(status_table); i++) {
        if (status_table[i].status == status) {
            return status_table[i].text;
        }
    }
    return "Status";
}

static void put_digits(char *out, unsigned count, unsigned value)
{
    while (count--) {
        out[count] = (char)('0' + value % 10);
        value /= 10;
    }
}

void md_http1_print_date(uint64_t realtime_ns, char out[MD_HTTP1_DATE_BYTES])
{
    static const char day_names[] = "SunMonTueWedThuFriSat";
    static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct md_civil date;

    md_clock_civil(realtime_ns, &date);
    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", MD_HTTP1_DATE_BYTES);
    memcpy(out, day_names + (size_t)3 * date.weekday, 3);
    put_digits(out + 5, 2, date.day);
    memcpy(out + 8, month_names + (size_t)3 * (date.month - 1), 3);
    put_digits(out + 12, 4, date.year);
    put_digits(out + 17, 2, date.hour);
    put_digits(out + 20, 2, date.minute);
    put_digits(out + 23, 2, date.second);
}

static void append_field(struct md_bytes *out, struct md_str name, struct md_str value)
{
    size_t bytes = name.len + value.len + 4;

    if (!md_bytes_reserve(out, bytes)) {
        return;
    }
    char *at = out->data + out->len;
    memcpy(at, name.ptr, name.len);
    memcpy(at + name.len, ": ", 2);
    if (value.len) {
        memcpy(at + name.len + 2, value.ptr, value.len);
    }
    memcpy(at + bytes - 2, "\r\n", 2);
    out->len += bytes;
}

static void append_status(struct md_bytes *out, unsigned status)
{
    if (MD_LIKELY(status == 200)) {
        md_bytes_append_str(out, MD_STR("HTTP/1.1 200 OK\r\n"));
        return;
    }
    md_bytes_append_str(out, MD_STR("HTTP/1.1 "));
    md_bytes_append_u64(out, status);
    md_bytes_append_char(out, ' ');
    md_bytes_append_c(out, md_http_status_text(status));
    md_bytes_append_str(out, MD_STR("\r\n"));
}

static void append_framing(struct md_bytes *out, unsigned status, int64_t content_length)
{
    if (content_length == MD_HTTP1_CHUNKED) {
        md_bytes_append_str(out, MD_STR("Transfer-Encoding: chunked\r\n"));
    } else if (content_length >= 0 && status != 204) { /* RFC 9110 8.6: never there */
        md_bytes_append_str(out, MD_STR("Content-Length: "));
        md_bytes_append_u64(out, (uint64_t)content_length);
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
    md_bytes_append_str(out, MD_STR("\r\n"));
}

void md_http1_print_head(const struct md_http1_response_head *head, struct md_bytes *out)
{
    append_status(out, head->status);
    if (head->server) {
        append_field(out, MD_STR("Server"), md_str_of(head->server));
    }
    if (head->date) {
        append_field(out, MD_STR("Date"), md_str_of(head->date));
    }
    if (head->content_type) {
        append_field(out, MD_STR("Content-Type"), md_str_of(head->content_type));
    }
    if (head->allow) {
        append_field(out, MD_STR("Allow"), md_str_of(head->allow));
    }
    for (size_t i = 0; i < head->header_count; i++) {
        append_field(out, head->headers[i].name, head->headers[i].value);
    }
    if (head->content_encoding) {
        append_field(out, MD_STR("Content-Encoding"), md_str_of(head->content_encoding));
    }
    if (head->close) {
        append_field(out, MD_STR("Connection"), MD_STR("close"));
    } else if (head->http10_keep_alive) {
        append_field(out, MD_STR("Connection"), MD_STR("keep-alive"));
    }
    append_framing(out, head->status, head->content_length);
}
