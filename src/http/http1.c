/*
 * HTTP/1.1 request heads.
 *
 * Two passes: the scan finds the end of the head over however many pieces it takes and looks at
 * each byte once; the parse then works on complete text, which ends with a control character, so
 * that its inner loops need no bounds. Control characters end every line and are allowed nowhere
 * else: finding the end of a value checks it, eight bytes at a time.
 */
#include "http/http1.h"

#include "http/http1_chars.h"

#define EACH_BYTE(value) (0x0101010101010101U * (value))

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "find_control takes the lowest bit for the first byte");

static bool refuse(unsigned *status, unsigned code, struct md_error *err, const char *sentence)
{
    *status = code;
    return md_error_set(err, MD_REASON_MALFORMED, "%s", sentence);
}

/* --- scan -------------------- */

static enum md_progress stop(unsigned *status, unsigned code, struct md_error *err,
                             const char *sentence)
{
    (void)refuse(status, code, err, sentence);
    return MD_PROGRESS_ERROR;
}

static enum md_progress stop_too_large(const struct md_http1_scan *scan,
                                       const struct md_http1_limits *limits, unsigned *status,
                                       struct md_error *err)
{
    bool is_target = scan->line_count == 0 || scan->target_bytes > limits->max_header_bytes;

    return is_target ? stop(status, 414, err, "the request target is too long")
                     : stop(status, 431, err, "the request head is too large");
}

/* Looks at the first bytes: an empty line is skipped once, then a method must follow. */
static enum md_progress begin(struct md_http1_scan *scan, struct md_str data)
{
    if (data.len && data.ptr[0] == '\r') {
        if (data.len > 1 && data.ptr[1] != '\n') {
            return MD_PROGRESS_ERROR;
        }
        if (data.len < 3) {
            return MD_PROGRESS_AGAIN;
        }
        scan->head_start = scan->line_start = 2;
    }
    if (data.len == 0) {
        return MD_PROGRESS_AGAIN;
    }
    scan->at = scan->head_start;
    return md_http1_is_token(data.ptr[scan->head_start]) ? MD_PROGRESS_DONE : MD_PROGRESS_ERROR;
}

enum md_progress md_http1_scan_head(struct md_http1_scan *scan, struct md_str data,
                                    const struct md_http1_limits *limits, unsigned *status,
                                    struct md_error *err)
{
    if (scan->at == 0) {
        enum md_progress progress = begin(scan, data);
        if (progress == MD_PROGRESS_ERROR) {
            return stop(
                status, 400, err,
                "the request does not begin with a method (is this HTTP/1.1 in plain text?)");
        }
        if (progress == MD_PROGRESS_AGAIN) {
            return progress;
        }
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
            return stop(status, 400, err, "a line of the request head ends without CR LF");
        }
        if (end - 1 == scan->line_start) {
            scan->head_bytes = end + 1;
            return scan->head_bytes <= limits->max_header_bytes
                       ? MD_PROGRESS_DONE
                       : stop_too_large(scan, limits, status, err);
        }
        if (scan->line_count++ == 0) {
            scan->target_bytes = end + 1 - scan->line_start;
        }
        scan->line_start = end + 1;
    }
    if (data.len >= limits->max_header_bytes) {
        return stop_too_large(scan, limits, status, err);
    }
    if (scan->line_count > limits->max_header_count + 1) {
        return stop(status, 431, err, "the request has too many headers");
    }
    return MD_PROGRESS_AGAIN;
}

/* --- lines -------------------- */

/* The first control character (below space, or DEL). There is one before `end`. */
static const char *find_control(const char *at, const char *end)
{
    while (end - at >= 8) {
        uint64_t word, below, del;
        memcpy(&word, at, sizeof word);
        below = (word - EACH_BYTE(0x20)) & ~word;
        del = word ^ EACH_BYTE(0x7f);
        del = (del - EACH_BYTE(0x01)) & ~del;
        /* A borrow can mark bytes above the first mark, never below it. */
        uint64_t marks = (below | del) & EACH_BYTE(0x80);
        if (marks) {
            return at + (__builtin_ctzll(marks) >> 3);
        }
        at += 8;
    }
    while ((unsigned char)*at >= 0x20 && *at != 0x7f) {
        at++;
    }
    return at;
}

static bool is_line_end(const char *at)
{
    return at[0] == '\r' && at[1] == '\n';
}

/* Whether text equals `lower`, which has no capitals, with letters in either case. Both have no
 * control characters: then only a letter and its capital fold together. */
static inline bool is(struct md_str text, struct md_str lower)
{
    uint64_t a, b;
    size_t i = 0;

    if (text.len != lower.len) {
        return false;
    }
    for (; i + 8 <= lower.len; i += 8) {
        memcpy(&a, text.ptr + i, sizeof a);
        memcpy(&b, lower.ptr + i, sizeof b);
        if ((a | EACH_BYTE(0x20)) != b) {
            return false;
        }
    }
    for (; i < lower.len; i++) {
        if ((text.ptr[i] | 0x20) != lower.ptr[i]) {
            return false;
        }
    }
    return true;
}

/* --- request line -------------------- */

enum md_http_method md_http_method_of(struct md_str name)
{
    static const struct {
        struct md_str name;
        enum md_http_method method;
    } table[] = {
        {MD_STR("POST"), MD_HTTP_POST},     {MD_STR("GET"), MD_HTTP_GET},
        {MD_STR("HEAD"), MD_HTTP_HEAD},     {MD_STR("PUT"), MD_HTTP_PUT},
        {MD_STR("DELETE"), MD_HTTP_DELETE}, {MD_STR("OPTIONS"), MD_HTTP_OPTIONS},
        {MD_STR("PATCH"), MD_HTTP_PATCH},
    };

    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        if (md_str_eq(name, table[i].name)) {
            return table[i].method;
        }
    }
    return MD_HTTP_OTHER;
}

/* Takes scheme and authority off a target in absolute form; an empty view if it has none. */
static struct md_str without_authority(struct md_str target)
{
    static const struct md_str schemes[] = {MD_STR("http://"), MD_STR("https://")};

    for (size_t i = 0; i < MD_COUNT_OF(schemes); i++) {
        size_t skip = schemes[i].len;
        if (target.len <= skip || !is(md_str_make(target.ptr, skip), schemes[i])) {
            continue;
        }
        struct md_str rest = md_str_make(target.ptr + skip, target.len - skip);
        size_t host = 0;
        while (host < rest.len && rest.ptr[host] != '/' && rest.ptr[host] != '?') {
            host++;
        }
        return host ? md_str_make(rest.ptr + host, rest.len - host) : MD_STR("");
    }
    return MD_STR("");
}

static bool parse_target(struct md_str target, struct md_http_head *head, unsigned *status,
                         struct md_error *err)
{
    bool is_absolute = target.ptr[0] != '/' && target.ptr[0] != '*';

    if (is_absolute) {
        const char *end = target.ptr + target.len;
        target = without_authority(target);
        if (target.ptr != end && target.len == 0) {
            return refuse(status, 400, err, "the request target is no path");
        }
    }
    ptrdiff_t mark = md_str_find(target, '?');
    head->path = mark < 0 ? target : md_str_make(target.ptr, (size_t)mark);
    head->query =
        mark < 0 ? MD_STR("") : md_str_make(target.ptr + mark + 1, target.len - (size_t)mark - 1);
    if (is_absolute && head->path.len == 0) {
        head->path = MD_STR("/");
    }
    if (head->path.ptr[0] != '/' &&
        !(head->method == MD_HTTP_OPTIONS && md_str_eq_c(head->path, "*"))) {
        return refuse(status, 400, err, "the request target is no path");
    }
    return true;
}

static bool parse_version(struct md_str text, struct md_http1_request *out, unsigned *status,
                          struct md_error *err)
{
    bool is_version = text.len == 8 && md_str_starts_with(text, MD_STR("HTTP/")) &&
                      text.ptr[6] == '.' && text.ptr[5] >= '0' && text.ptr[5] <= '9' &&
                      text.ptr[7] >= '0' && text.ptr[7] <= '9';

    if (!is_version) {
        return refuse(status, 400, err, "the request line does not end with an HTTP version");
    }
    if (text.ptr[5] != '1') {
        return refuse(status, 505, err, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    out->minor_version = text.ptr[7] != '0';
    return true;
}

/* *at is moved behind the line. */
static bool parse_request_line(const char **at, const char *end, struct md_http1_request *out,
                               unsigned *status, struct md_error *err)
{
    const char *line = *at, *line_end = find_control(line, end), *method = line, *target;

    if (!is_line_end(line_end)) {
        return refuse(status, 400, err, "the request line has a control character");
    }
    *at = line_end + 2;
    while (md_http1_is_token(*line)) {
        line++;
    }
    if (line == method || *line != ' ') {
        return refuse(status, 400, err,
                      "the request line does not begin with a method and a space");
    }
    out->head.method_name = md_str_make(method, (size_t)(line - method));
    out->head.method = md_http_method_of(out->head.method_name);
    target = line + 1;
    line = memchr(target, ' ', (size_t)(line_end - target));
    if (!line || line == target) {
        return refuse(status, 400, err, "the request line is not 'METHOD target HTTP/1.1'");
    }
    return parse_version(md_str_make(line + 1, (size_t)(line_end - line) - 1), out, status, err) &&
           parse_target(md_str_make(target, (size_t)(line - target)), &out->head, status, err);
}

/* --- header fields -------------------- */

/* *at is moved behind the line. */
static bool parse_header(const char **at, const char *end, struct md_http_header *out,
                         unsigned *status, struct md_error *err)
{
    const char *name = *at, *p = name, *value, *value_end;

    while (md_http1_is_token(*p)) {
        p++;
    }
    if (p == name || *p != ':') {
        bool folded = *name == ' ' || *name == '\t';
        return refuse(status, 400, err,
                      folded ? "folded header lines are not accepted"
                             : "a header line is not 'name: value'");
    }
    out->name = md_str_make(name, (size_t)(p - name));
    value = ++p;
    while ((p = find_control(p, end), *p == '\t')) {
        p++;
    }
    if (!is_line_end(p)) {
        return refuse(status, 400, err, "a header value has a control character");
    }
    *at = p + 2;
    value_end = p;
    while (*value == ' ' || *value == '\t') {
        value++;
    }
    while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t')) {
        value_end--;
    }
    out->value = md_str_make(value, (size_t)(value_end - value));
    return true;
}

/* True if a comma-separated list has the token. */
static bool list_has(struct md_str list, struct md_str token)
{
    struct md_str piece;

    while (md_str_split(&list, ',', &piece)) {
        if (is(md_str_trim(piece), token)) {
            return true;
        }
    }
    return false;
}

struct head_flags {
    unsigned hosts;
    bool has_length, has_coding;
    bool says_close, says_keep_alive;
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

static bool note_transfer_coding(struct md_str value, struct md_http1_request *out,
                                 struct head_flags *flags, unsigned *status, struct md_error *err)
{
    if (flags->has_coding) {
        return refuse(status, 400, err, "two Transfer-Encoding headers");
    }
    if (!is(value, MD_STR("chunked"))) {
        struct md_str last = value, rest = value, piece;
        while (md_str_split(&rest, ',', &piece)) {
            last = md_str_trim(piece);
        }
        /* a known coding at the wrong place leaves the length open; the others are unknown (RFC
         * 9112 6.1, 6.3) */
        return list_has(value, MD_STR("chunked")) && !is(last, MD_STR("chunked"))
                   ? refuse(status, 400, err, "'chunked' is not the last transfer coding")
                   : refuse(status, 501, err, "the only transfer coding is 'chunked'");
    }
    flags->has_coding = out->chunked = true;
    return true;
}

static void note_connection(struct md_str value, struct head_flags *flags)
{
    if (is(value, MD_STR("keep-alive"))) { /* what most clients send */
        flags->says_keep_alive = true;
        return;
    }
    flags->says_close |= list_has(value, MD_STR("close"));
    flags->says_keep_alive |= list_has(value, MD_STR("keep-alive"));
}

static void note_content_coding(struct md_str value, struct md_http1_request *out)
{
    if (out->content_encoding.len) {
        out->content_encoding =
            MD_STR("several"); /* no coding that anybody knows: it is refused as such */
    } else if (!is(value, MD_STR("identity"))) {
        out->content_encoding = value;
    }
}

/* A host with other characters may be read in two ways (RFC 9112 3.2). */
static bool note_host(struct md_str value, struct head_flags *flags, unsigned *status,
                      struct md_error *err)
{
    flags->hosts++;
    for (size_t i = 0; i < value.len; i++) {
        if (!md_http1_is_host(value.ptr[i])) {
            return refuse(status, 400, err, "the Host header is not a host");
        }
    }
    return true;
}

/* Headers that mean something for the connection; told apart by their length first. */
static bool note_header(const struct md_http_header *header, struct md_http1_request *out,
                        struct head_flags *flags, unsigned *status, struct md_error *err)
{
    struct md_str name = header->name, value = header->value;

    switch (name.len) {
    case 4:
        if (is(name, MD_STR("host"))) {
            return note_host(value, flags, status, err);
        }
        break;
    case 6:
        if (is(name, MD_STR("expect"))) {
            if (!is(value, MD_STR("100-continue"))) {
                return refuse(status, 417, err, "the only expectation that is met is 100-continue");
            }
            out->expects_continue = true;
        } else if (is(name, MD_STR("origin"))) {
            out->origin = value;
        }
        break;
    case 10:
        if (is(name, MD_STR("connection"))) {
            note_connection(value, flags);
        }
        break;
    case 14:
        if (is(name, MD_STR("content-length"))) {
            return note_length(value, out, flags, status, err);
        }
        break;
    case 15:
        if (is(name, MD_STR("accept-encoding"))) {
            out->accept_encoding = value;
        }
        break;
    case 16:
        if (is(name, MD_STR("content-encoding"))) {
            note_content_coding(value, out);
        }
        break;
    case 17:
        if (is(name, MD_STR("transfer-encoding"))) {
            return note_transfer_coding(value, out, flags, status, err);
        }
        break;
    case 29:
        out->is_preflight |= is(name, MD_STR("access-control-request-method"));
        break;
    default:
        break;
    }
    return true;
}

/* --- head -------------------- */

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
    out->expects_continue &= out->minor_version > 0; /* RFC 9110 10.1.1: ignored from HTTP/1.0 */
    out->keep_alive = !flags->says_close && (out->minor_version > 0 || flags->says_keep_alive);
    return true;
}

static struct md_http_header *next_header(struct md_http1_request *out,
                                          struct md_http_header **headers, size_t *capacity,
                                          struct md_arena *arena)
{
    if (out->head.header_count == *capacity) {
        size_t grown = *capacity ? *capacity * 2 : 16;
        struct md_http_header *more = md_arena_alloc(arena, grown * sizeof *more);
        if (!more) {
            return NULL;
        }
        if (*capacity) {
            memcpy(more, *headers, *capacity * sizeof *more);
        }
        out->head.headers = *headers = more;
        *capacity = grown;
    }
    return &(*headers)[out->head.header_count];
}

bool md_http1_parse_head(struct md_str text, const struct md_http1_limits *limits,
                         struct md_arena *arena, struct md_http1_request *out, unsigned *status,
                         struct md_error *err)
{
    const char *at = text.ptr, *end = text.ptr + text.len;
    struct head_flags flags = {0};
    struct md_http_header *headers = NULL;
    size_t capacity = 0;

    *out = (struct md_http1_request){.head = {.method = MD_HTTP_OTHER}};
    if (!parse_request_line(&at, end, out, status, err)) {
        return false;
    }
    while (end - at > 2) {
        if (out->head.header_count == limits->max_header_count) {
            return refuse(status, 431, err, "the request has too many headers");
        }
        struct md_http_header *header = next_header(out, &headers, &capacity, arena);
        if (!header) {
            return refuse(status, 503, err, "out of memory");
        }
        if (!parse_header(&at, end, header, status, err)) {
            return false;
        }
        out->head.header_count++;
        if (!note_header(header, out, &flags, status, err)) {
            return false;
        }
    }
    return judge(out, &flags, status, err);
}
