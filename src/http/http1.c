/*
 * HTTP/1.1 heads and chunked bodies.
 */
#include "http/http1.h"

#include "base/bytes.h"

enum { CHUNK_LINE_MAX = 1024, TRAILERS_MAX = 8192 };

static bool refuse(unsigned *status, unsigned code, struct md_error *err, const char *sentence)
{
    *status = code;
    return md_error_set(err, MD_REASON_MALFORMED, "%s", sentence);
}

/* RFC 9110 5.6.2: token characters. */
static bool is_token(unsigned char c)
{
    static const uint32_t table[8] = {
        0x00000000, /* controls */
        0x03ff6cfa, /* ! # $ % & ' * + - . 0-9 */
        0xc7fffffe, /* A-Z ^ _ */
        0x57ffffff, /* ` a-z | ~ */
        0,          0, 0, 0,
    };

    return table[c >> 5] >> (c & 31) & 1;
}

/* Field values and targets: visible ASCII, bytes above it, space and tab. */
static bool is_text(unsigned char c)
{
    return (c >= 0x20 && c != 0x7f) || c == '\t';
}

enum md_progress md_http1_scan_head(struct md_http1_scan *scan, struct md_str data,
                                    const struct md_http1_limits *limits, unsigned *status,
                                    struct md_error *err)
{
    if (scan->at == 0 && data.len && !is_token((unsigned char)data.ptr[0])) {
        refuse(status, 400, err,
               "the request does not begin with a method (is this HTTP/1.1 in plain text?)");
        return MD_PROGRESS_ERROR;
    }
    while (scan->at < data.len) {
        const char *newline = memchr(data.ptr + scan->at, '\n', data.len - scan->at);
        if (!newline) {
            scan->at = data.len;
            break;
        }
        size_t end = (size_t)(newline - data.ptr);
        scan->at = end + 1;
        if (end == scan->line_start || data.ptr[end - 1] != '\r') {
            refuse(status, 400, err, "a line of the request head ends without CR LF");
            return MD_PROGRESS_ERROR;
        }
        if (end - 1 == scan->line_start) {
            scan->head_bytes = end + 1;
            return scan->head_bytes <= limits->max_header_bytes
                       ? MD_PROGRESS_DONE
                       : (refuse(status, 431, err, "the request head is too large"),
                          MD_PROGRESS_ERROR);
        }
        scan->line_start = end + 1;
        scan->line_count++;
    }
    if (data.len >= limits->max_header_bytes) {
        refuse(status, scan->line_count ? 431 : 414, err,
               scan->line_count ? "the request head is too large"
                                : "the request target is too long");
        return MD_PROGRESS_ERROR;
    }
    if (scan->line_count > limits->max_header_count + 1) {
        refuse(status, 431, err, "the request has too many headers");
        return MD_PROGRESS_ERROR;
    }
    return MD_PROGRESS_AGAIN;
}

/* --- request line -------------------- */

static enum md_http_method method_of(struct md_str name)
{
    static const struct {
        const char *name;
        enum md_http_method method;
    } table[] = {{"GET", MD_HTTP_GET},    {"POST", MD_HTTP_POST},     {"HEAD", MD_HTTP_HEAD},
                 {"PUT", MD_HTTP_PUT},    {"DELETE", MD_HTTP_DELETE}, {"OPTIONS", MD_HTTP_OPTIONS},
                 {"PATCH", MD_HTTP_PATCH}};

    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        if (md_str_eq_c(name, table[i].name)) {
            return table[i].method;
        }
    }
    return MD_HTTP_OTHER;
}

static void split_target(struct md_str target, struct md_http_head *head)
{
    if (md_str_starts_with(target, MD_STR("http://")) ||
        md_str_starts_with(target, MD_STR("https://"))) {
        size_t skip = target.ptr[4] == 's' ? 8 : 7;
        struct md_str rest = md_str_make(target.ptr + skip, target.len - skip);
        ptrdiff_t slash = md_str_find(rest, '/');
        target = slash < 0 ? MD_STR("/") : md_str_make(rest.ptr + slash, rest.len - (size_t)slash);
    }
    ptrdiff_t mark = md_str_find(target, '?');
    head->path = mark < 0 ? target : md_str_make(target.ptr, (size_t)mark);
    head->query =
        mark < 0 ? MD_STR("") : md_str_make(target.ptr + mark + 1, target.len - (size_t)mark - 1);
}

static bool parse_request_line(struct md_str line, struct md_http1_request *out, unsigned *status,
                               struct md_error *err)
{
    struct md_str method, target;
    ptrdiff_t space = md_str_find(line, ' ');

    if (space <= 0) {
        return refuse(status, 400, err, "the request line has no target");
    }
    method = md_str_make(line.ptr, (size_t)space);
    line = md_str_make(line.ptr + space + 1, line.len - (size_t)space - 1);
    space = md_str_find(line, ' ');
    if (space <= 0) {
        return refuse(status, 400, err, "the request line is not 'METHOD target HTTP/1.1'");
    }
    target = md_str_make(line.ptr, (size_t)space);
    line = md_str_make(line.ptr + space + 1, line.len - (size_t)space - 1);
    for (size_t i = 0; i < method.len; i++) {
        if (!is_token((unsigned char)method.ptr[i])) {
            return refuse(status, 400, err, "the method is no token");
        }
    }
    for (size_t i = 0; i < target.len; i++) {
        if ((unsigned char)target.ptr[i] <= 0x20 || target.ptr[i] == 0x7f) {
            return refuse(status, 400, err, "the request target has a control character");
        }
    }
    if (line.len != 8 || !md_str_starts_with(line, MD_STR("HTTP/")) || line.ptr[6] != '.') {
        return refuse(status, 400, err, "the request line does not end with an HTTP version");
    }
    if (line.ptr[5] != '1' || line.ptr[7] < '0' || line.ptr[7] > '9') {
        return refuse(status, 505, err, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    out->minor_version = line.ptr[7] == '0' ? 0 : 1;
    out->head.method = method_of(method);
    out->head.method_name = method;
    split_target(target, &out->head);
    if (out->head.path.ptr[0] != '/' &&
        !(out->head.method == MD_HTTP_OPTIONS && md_str_eq_c(out->head.path, "*"))) {
        return refuse(status, 400, err, "the request target is no path");
    }
    return true;
}

/* --- header fields -------------------- */

static bool parse_header(struct md_str line, struct md_http_header *out, unsigned *status,
                         struct md_error *err)
{
    size_t colon = 0;

    if (line.ptr[0] == ' ' || line.ptr[0] == '\t') {
        return refuse(status, 400, err, "folded header lines are not accepted");
    }
    while (colon < line.len && is_token((unsigned char)line.ptr[colon])) {
        colon++;
    }
    if (colon == 0 || colon == line.len || line.ptr[colon] != ':') {
        return refuse(status, 400, err, "a header line is not 'name: value'");
    }
    for (size_t i = colon + 1; i < line.len; i++) {
        if (!is_text((unsigned char)line.ptr[i])) {
            return refuse(status, 400, err, "a header value has a control character");
        }
    }
    out->name = md_str_make(line.ptr, colon);
    out->value = md_str_trim(md_str_make(line.ptr + colon + 1, line.len - colon - 1));
    return true;
}

/* True if a comma-separated list has the token. */
static bool list_has(struct md_str list, const char *token)
{
    struct md_str piece;

    while (md_str_split(&list, ',', &piece)) {
        if (md_str_eq_nocase(md_str_trim(piece), md_str_of(token))) {
            return true;
        }
    }
    return false;
}

struct head_flags {
    unsigned hosts;
    bool has_length, has_coding;
};

static bool note_length(struct md_str value, struct md_http1_request *out, struct head_flags *flags,
                        unsigned *status, struct md_error *err)
{
    uint64_t length;

    if (!md_str_to_u64(value, &length) || length > INT64_MAX) {
        return refuse(status, 400, err, "Content-Length is no number");
    }
    if (flags->has_length && (int64_t)length != out->head.content_length) {
        return refuse(status, 400, err, "two different Content-Length headers");
    }
    flags->has_length = true;
    out->head.content_length = (int64_t)length;
    return true;
}

static bool note_header(const struct md_http_header *header, struct md_http1_request *out,
                        struct head_flags *flags, unsigned *status, struct md_error *err)
{
    struct md_str name = header->name, value = header->value;

    switch (name.len) {
    case 4:
        flags->hosts += md_str_eq_nocase(name, MD_STR("host"));
        break;
    case 6:
        if (md_str_eq_nocase(name, MD_STR("expect"))) {
            if (!md_str_eq_nocase(value, MD_STR("100-continue"))) {
                return refuse(status, 417, err, "the only expectation that is met is 100-continue");
            }
            out->expects_continue = true;
        } else if (md_str_eq_nocase(name, MD_STR("origin"))) {
            out->origin = value;
        }
        break;
    case 10:
        if (md_str_eq_nocase(name, MD_STR("connection"))) {
            if (list_has(value, "close")) {
                out->keep_alive = false;
            } else if (list_has(value, "keep-alive")) {
                out->keep_alive = true;
            }
        }
        break;
    case 14:
        if (md_str_eq_nocase(name, MD_STR("content-length"))) {
            return note_length(value, out, flags, status, err);
        }
        break;
    case 15:
        if (md_str_eq_nocase(name, MD_STR("accept-encoding"))) {
            out->accept_encoding = value;
        }
        break;
    case 16:
        if (md_str_eq_nocase(name, MD_STR("content-encoding"))) {
            out->content_encoding =
                md_str_eq_nocase(value, MD_STR("identity")) ? MD_STR("") : value;
        }
        break;
    case 17:
        if (md_str_eq_nocase(name, MD_STR("transfer-encoding"))) {
            if (flags->has_coding || !md_str_eq_nocase(value, MD_STR("chunked"))) {
                return refuse(status, flags->has_coding ? 400 : 501, err,
                              "the only transfer coding is 'chunked'");
            }
            flags->has_coding = out->chunked = true;
        }
        break;
    case 29:
        out->is_preflight |= md_str_eq_nocase(name, MD_STR("access-control-request-method"));
        break;
    default:
        break;
    }
    return true;
}

static bool judge(struct md_http1_request *out, const struct head_flags *flags, unsigned *status,
                  struct md_error *err)
{
    if (flags->hosts > 1 || (flags->hosts == 0 && out->minor_version > 0)) {
        return refuse(status, 400, err, "a request needs exactly one Host header");
    }
    if (flags->has_length && flags->has_coding) {
        return refuse(status, 400, err, "Content-Length and Transfer-Encoding exclude each other");
    }
    if (flags->has_coding && out->minor_version == 0) {
        return refuse(status, 400, err, "HTTP/1.0 has no Transfer-Encoding");
    }
    if (out->chunked) {
        out->head.content_length = -1;
    }
    out->head.has_body = out->chunked || out->head.content_length > 0;
    return true;
}

bool md_http1_parse_head(struct md_str text, const struct md_http1_limits *limits,
                         struct md_arena *arena, struct md_http1_request *out, unsigned *status,
                         struct md_error *err)
{
    struct head_flags flags = {0};
    struct md_http_header *headers = NULL;
    size_t capacity = 0;
    bool first = true;

    *out = (struct md_http1_request){.keep_alive = true};
    while (text.len > 2) {
        const char *end = memchr(text.ptr, '\n', text.len);
        struct md_str line = md_str_make(text.ptr, (size_t)(end - text.ptr) - 1);
        text = md_str_make(end + 1, text.len - line.len - 2);
        if (first) {
            first = false;
            if (!parse_request_line(line, out, status, err)) {
                return false;
            }
            out->keep_alive = out->minor_version > 0;
            continue;
        }
        if (out->head.header_count == limits->max_header_count) {
            return refuse(status, 431, err, "the request has too many headers");
        }
        if (out->head.header_count == capacity) {
            size_t grown = capacity ? capacity * 2 : 16;
            struct md_http_header *more = md_arena_alloc(arena, grown * sizeof *more);
            if (!more) {
                return refuse(status, 503, err, "out of memory");
            }
            if (capacity) {
                memcpy(more, headers, capacity * sizeof *more);
            }
            headers = more;
            capacity = grown;
        }
        struct md_http_header *header = &headers[out->head.header_count++];
        if (!parse_header(line, header, status, err) ||
            !note_header(header, out, &flags, status, err)) {
            return false;
        }
    }
    out->head.headers = headers;
    return judge(out, &flags, status, err);
}

/* --- chunked -------------------- */

/*
 *   SIZE -> (EXTENSION) -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ...
 *                             |
 *                             +-> size 0: TRAILER lines until an empty one
 */
enum {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF
};

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool chunk_size_byte(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        if (++chunked->digits > 15) {
            return md_error_set(err, MD_REASON_MALFORMED, "a chunk size has too many digits");
        }
        chunked->left = chunked->left << 4 | (unsigned)digit;
        return true;
    }
    if (chunked->digits == 0) {
        return md_error_set(err, MD_REASON_MALFORMED,
                            "a chunk does not begin with its size in hexadecimal");
    }
    if (c == '\r') {
        chunked->state = CHUNK_SIZE_LF;
    } else if (c == ';' || c == ' ' || c == '\t') {
        chunked->state = CHUNK_EXTENSION;
    } else {
        return md_error_set(err, MD_REASON_MALFORMED,
                            "a chunk size has a character that is no digit");
    }
    return true;
}

static bool chunk_line_feed(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    if (c != '\n') {
        return md_error_set(err, MD_REASON_MALFORMED,
                            "a line of the chunked body ends without CR LF");
    }
    chunked->line_bytes = 0;
    switch (chunked->state) {
    case CHUNK_SIZE_LF:
        chunked->state = chunked->left ? CHUNK_DATA : CHUNK_TRAILER;
        break;
    default:
        chunked->state = CHUNK_SIZE;
        chunked->left = chunked->digits = 0;
        break;
    }
    return true;
}

/* One byte outside of chunk data. *done is set at the end of the body. */
static bool chunk_byte(struct md_http1_chunked *chunked, char c, bool *done, struct md_error *err)
{
    if (++chunked->line_bytes > CHUNK_LINE_MAX) {
        return md_error_set(err, MD_REASON_MALFORMED, "a line of the chunked body is too long");
    }
    switch (chunked->state) {
    case CHUNK_SIZE:
        return chunk_size_byte(chunked, c, err);
    case CHUNK_EXTENSION:
        if (c == '\r') {
            chunked->state = CHUNK_SIZE_LF;
        } else if (!is_text((unsigned char)c)) {
            return md_error_set(err, MD_REASON_MALFORMED,
                                "a chunk extension has a control character");
        }
        return true;
    case CHUNK_DATA_CR:
        chunked->state = CHUNK_DATA_LF;
        return c == '\r' ||
               md_error_set(err, MD_REASON_MALFORMED, "a chunk is longer than its size says");
    case CHUNK_TRAILER:
        if (++chunked->trailer_bytes > TRAILERS_MAX) {
            return md_error_set(err, MD_REASON_MALFORMED, "the trailers are too large");
        }
        if (c == '\r') {
            chunked->state = CHUNK_TRAILER_LF;
        } else if (!is_text((unsigned char)c)) {
            return md_error_set(err, MD_REASON_MALFORMED, "a trailer has a control character");
        }
        return true;
    case CHUNK_TRAILER_LF:
        if (c != '\n') {
            return md_error_set(err, MD_REASON_MALFORMED, "a trailer line ends without CR LF");
        }
        *done = chunked->line_bytes == 2;
        chunked->line_bytes = 0;
        chunked->state = CHUNK_TRAILER;
        return true;
    default:
        return chunk_line_feed(chunked, c, err);
    }
}

enum md_progress md_http1_chunked_step(struct md_http1_chunked *chunked, struct md_str *data,
                                       struct md_str *piece, struct md_error *err)
{
    bool done = false;

    *piece = md_str_make(data->ptr, 0);
    while (data->len && !done) {
        if (chunked->state == CHUNK_DATA) {
            size_t take = md_size_min(data->len, chunked->left);
            *piece = md_str_make(data->ptr, take);
            *data = md_str_make(data->ptr + take, data->len - take);
            chunked->left -= take;
            if (chunked->left == 0) {
                chunked->state = CHUNK_DATA_CR;
                chunked->line_bytes = 0;
            }
            return MD_PROGRESS_AGAIN;
        }
        char c = data->ptr[0];
        *data = md_str_make(data->ptr + 1, data->len - 1);
        if (!chunk_byte(chunked, c, &done, err)) {
            return MD_PROGRESS_ERROR;
        }
    }
    return done ? MD_PROGRESS_DONE : MD_PROGRESS_AGAIN;
}

/* --- responses -------------------- */

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

void md_http1_print_head(const struct md_http1_response_head *head, struct md_bytes *out)
{
    if (head->status == 200) {
        md_bytes_append_str(out, MD_STR("HTTP/1.1 200 OK\r\n"));
    } else {
        md_bytes_append_str(out, MD_STR("HTTP/1.1 "));
        md_bytes_append_u64(out, head->status);
        md_bytes_append_char(out, ' ');
        md_bytes_append_c(out, md_http_status_text(head->status));
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
    if (head->content_type) {
        md_bytes_append_str(out, MD_STR("Content-Type: "));
        md_bytes_append_c(out, head->content_type);
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
    for (size_t i = 0; i < head->header_count; i++) {
        md_bytes_append_str(out, head->headers[i].name);
        md_bytes_append_str(out, MD_STR(": "));
        md_bytes_append_str(out, head->headers[i].value);
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
    if (head->content_encoding) {
        md_bytes_append_str(out, MD_STR("Content-Encoding: "));
        md_bytes_append_c(out, head->content_encoding);
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
    if (head->close) {
        md_bytes_append_str(out, MD_STR("Connection: close\r\n"));
    } else if (head->http10_keep_alive) {
        md_bytes_append_str(out, MD_STR("Connection: keep-alive\r\n"));
    }
    if (head->content_length >= 0) {
        md_bytes_append_str(out, MD_STR("Content-Length: "));
        md_bytes_append_u64(out, (uint64_t)head->content_length);
        md_bytes_append_str(out, MD_STR("\r\n\r\n"));
    } else if (head->content_length == MD_HTTP1_CHUNKED) {
        md_bytes_append_str(out, MD_STR("Transfer-Encoding: chunked\r\n\r\n"));
    } else {
        md_bytes_append_str(out, MD_STR("\r\n"));
    }
}
