/*
 * Our reader of HTTP/1 requests beside an independent one, llhttp in its strict mode, over requests
 * with one byte or line changed everywhere.
 *
 * Whatever we accept it must accept too, and understand alike: the same method, target, headers and
 * body, and the same end, from which the next request would be read. Two readers that disagree
 * there are what request smuggling lives on. Where we refuse what it accepts, it must be for one of
 * the reasons in `stricter`; where it refuses what we accept, for one of those in `laxer`. A reason
 * that never applies fails the test too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <llhttp.h>
#include <stdio.h>

#include "codec/json.h"
#include "http/http1.h"

enum { MESSAGE_MAX = 1024, NOTES_MAX = 8192 };
enum outcome { REFUSED, WANTS_MORE, COMPLETE };

/* What a reader made of a message; notes: method, target, headers, body, in one text. */
struct reading {
    enum outcome outcome;
    const char *why; /* REFUSED */
    size_t end;      /* COMPLETE: bytes of the message */
    unsigned minor_version;
    bool keep_alive;
    struct md_bytes notes; /* own */
};

/* Our sentences for what llhttp lets pass, and why we do not. */
static struct {
    const char *sentence, *because;
    unsigned seen;
} stricter[] = {
    {"the request does not begin with a method (is this HTTP/1.1 in plain text?)",
     "one empty line may come before (RFC 9112 2.2), with CR LF", 0},
    {"the request line is not 'METHOD target HTTP/1.1'", "one space, not several", 0},
    {"the request line does not end with an HTTP version", "one space, not several", 0},
    {"the request target is no path", "'*' and authorities are not for these methods", 0},
    {"a line of the request head ends without CR LF", "bare LF: readers differ over it", 0},
    {"a header line is not 'name: value'", "empty names, spaces before the colon", 0},
    {"folded header lines are not accepted", "RFC 9112 5.2 lets a server refuse them", 0},
    {"a request needs exactly one Host header", "RFC 9112 3.2", 0},
    {"the Host header is not a host", "RFC 9112 3.2", 0},
    {"the only transfer coding is 'chunked'", "no other is decoded here", 0},
    {"two Transfer-Encoding headers", "readers differ over which counts", 0},
    {"HTTP/1.0 has no Transfer-Encoding", "RFC 9112 6.1 calls its framing faulty", 0},
    {"the only expectation that is met is 100-continue", "RFC 9110 10.1.1", 0},
    {"a trailer line is not 'name: value'", "as in the head", 0},
};

/* llhttp's errors in what we let pass, what the message must contain then, and why it passes. */
static struct {
    const char *name, *part, *because;
    unsigned seen;
} laxer[] = {
    {"HPE_INVALID_METHOD", " ", "any token is a method (RFC 9110 9.1); it is answered with 405", 0},
    {"HPE_INVALID_URL", "\x80", "it is no path that exists", 0},
    {"HPE_INVALID_URL", "\xff", "it is no path that exists", 0},
    {"HPE_INVALID_URL", "http:", "the host of an absolute target is passed over", 0},
    {"HPE_INVALID_VERSION", "HTTP/1.", "a higher minor version is read as 1.1 (RFC 9110 2.5)", 0},
    {"HPE_UNEXPECTED_CONTENT_LENGTH", "Content-Length: 5\r\n",
     "the same length twice is one (RFC 9110 8.6)", 0},
    {"HPE_INVALID_CONTENT_LENGTH", "\t\r\n", "white space ends with a tab too (RFC 9110 5.6.3)", 0},
    {"HPE_INVALID_TRANSFER_ENCODING", "\t\r\n", "white space ends with a tab too", 0},
    {"keep-alive", "\t\r\n", "white space ends with a tab too", 0},
    {"HPE_INVALID_CHUNK_SIZE", " \r\n", "some senders fill the size up", 0},
    {"HPE_INVALID_CHUNK_SIZE", ";", "chunk extensions are passed over (RFC 9112 7.1.1)", 0},
    {"HPE_INVALID_CHUNK_SIZE", "\t", "white space may be a tab too", 0},
    {"trailers", "0\r\n", "they are passed over, never understood (RFC 9110 6.5.1)", 0},
    {"HPE_STRICT", ";", "chunk extensions are passed over", 0},
};

/* --- ours -------------------- */

static void note(struct reading *r, char kind, struct md_str text)
{
    md_bytes_append_char(&r->notes, kind);
    md_bytes_append_str(&r->notes, text);
    md_bytes_append_char(&r->notes, '\n');
}

static void read_chunks(struct reading *r, struct md_str rest, struct md_bytes *body,
                        struct md_error *err)
{
    struct md_http1_chunked chunked = {0};
    struct md_str piece;
    enum md_progress progress = MD_PROGRESS_AGAIN;
    size_t before = rest.len;

    while (progress == MD_PROGRESS_AGAIN && rest.len) {
        progress = md_http1_chunked_step(&chunked, &rest, &piece, err);
        md_bytes_append_str(body, piece);
    }
    r->outcome = progress == MD_PROGRESS_ERROR  ? REFUSED
                 : progress == MD_PROGRESS_DONE ? COMPLETE
                                                : WANTS_MORE;
    r->end += before - rest.len;
}

static void read_ours(struct reading *r, struct md_str data)
{
    static const struct md_http1_limits limits = {MESSAGE_MAX * 2, 64};
    static struct md_error err;
    struct md_http1_scan scan = {0};
    struct md_http1_request request;
    struct md_arena arena = {0};
    struct md_bytes body = {0};
    unsigned status;

    enum md_progress progress = md_http1_scan_head(&scan, data, &limits, &status, &err);
    r->outcome = progress == MD_PROGRESS_AGAIN ? WANTS_MORE : REFUSED;
    struct md_str head = md_str_make(data.ptr + scan.head_start, scan.head_bytes - scan.head_start);
    if (progress == MD_PROGRESS_DONE &&
        md_http1_parse_head(head, &limits, &arena, &request, &status, &err)) {
        struct md_str rest = md_str_make(data.ptr + scan.head_bytes, data.len - scan.head_bytes);
        r->end = scan.head_bytes;
        r->minor_version = request.minor_version;
        r->keep_alive = request.keep_alive;
        note(r, 'm', request.head.method_name);
        for (size_t i = 0; i < request.head.header_count; i++) {
            note(r, 'n', request.head.headers[i].name);
            note(r, 'v', request.head.headers[i].value);
        }
        if (request.chunked) {
            read_chunks(r, rest, &body, &err);
        } else {
            size_t length = request.head.has_body ? (size_t)request.head.content_length : 0;
            r->outcome = length <= rest.len ? COMPLETE : WANTS_MORE;
            md_bytes_append(&body, rest.ptr, md_size_min(length, rest.len));
            r->end += length;
        }
        note(r, 'b', md_bytes_view(&body));
    }
    r->why = r->outcome == REFUSED ? err.text : NULL;
    md_bytes_deinit(&body);
    md_arena_deinit(&arena);
}

/* --- llhttp -------------------- */

struct their_reading {
    llhttp_t parser; /* first */
    struct reading *reading;
    struct md_bytes text, body; /* own */
    bool after_head, in_trailers;
};

static int on_text(llhttp_t *parser, const char *at, size_t len)
{
    md_bytes_append(&((struct their_reading *)(void *)parser)->text, at, len);
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    md_bytes_append(&((struct their_reading *)(void *)parser)->body, at, len);
    return 0;
}

static int end_of(llhttp_t *parser, char kind)
{
    struct their_reading *theirs = (struct their_reading *)(void *)parser;

    if (!theirs->after_head) {
        note(theirs->reading, kind, md_str_trim(md_bytes_view(&theirs->text)));
    }
    md_bytes_clear(&theirs->text);
    return 0;
}

static int on_method_end(llhttp_t *parser)
{
    return end_of(parser, 'm');
}

static int on_name_end(llhttp_t *parser)
{
    return end_of(parser, 'n');
}

static int on_value_end(llhttp_t *parser)
{
    return end_of(parser, 'v');
}

static int on_url_end(llhttp_t *parser)
{
    md_bytes_clear(&((struct their_reading *)(void *)parser)->text);
    return 0;
}

static int on_head_end(llhttp_t *parser)
{
    struct their_reading *theirs = (struct their_reading *)(void *)parser;

    theirs->after_head = true;
    theirs->reading->minor_version = llhttp_get_http_minor(parser);
    theirs->reading->keep_alive = llhttp_should_keep_alive(parser);
    return 0;
}

static int on_chunk(llhttp_t *parser)
{
    ((struct their_reading *)(void *)parser)->in_trailers = parser->content_length == 0;
    return 0;
}

static int on_end(llhttp_t *parser)
{
    ((struct their_reading *)(void *)parser)->reading->outcome = COMPLETE;
    return HPE_PAUSED;
}

static void read_theirs(struct reading *r, struct md_str data)
{
    struct their_reading theirs = {.reading = r};
    llhttp_settings_t settings;

    llhttp_settings_init(&settings);
    settings.on_method = settings.on_url = on_text;
    settings.on_header_field = settings.on_header_value = on_text;
    settings.on_method_complete = on_method_end;
    settings.on_url_complete = on_url_end;
    settings.on_header_field_complete = on_name_end;
    settings.on_header_value_complete = on_value_end;
    settings.on_headers_complete = on_head_end;
    settings.on_chunk_header = on_chunk;
    settings.on_body = on_body;
    settings.on_message_complete = on_end;
    llhttp_init(&theirs.parser, HTTP_REQUEST, &settings);
    r->outcome = WANTS_MORE;
    llhttp_errno_t error = llhttp_execute(&theirs.parser, data.ptr, data.len);
    if (r->outcome == COMPLETE) {
        r->end = (size_t)(llhttp_get_error_pos(&theirs.parser) - data.ptr);
    } else if (error != HPE_OK) {
        r->outcome = REFUSED;
        r->why = theirs.in_trailers ? "trailers" : llhttp_errno_name(error);
    }
    note(r, 'b', md_bytes_view(&theirs.body));
    md_bytes_deinit(&theirs.text);
    md_bytes_deinit(&theirs.body);
}

/* --- side by side -------------------- */

static void show(const char *what, struct md_str data, const struct reading *ours,
                 const struct reading *theirs)
{
    struct md_bytes text = {0};

    md_json_append_string(&text, data);
    fail_msg("%s\n%.*s\nours: %d %s, ends at %zu\n%.*s\ntheirs: %d %s, ends at %zu\n%.*s", what,
             MD_STR_ARG(md_bytes_view(&text)), ours->outcome, ours->why ? ours->why : "", ours->end,
             MD_STR_ARG(md_bytes_view(&ours->notes)), theirs->outcome,
             theirs->why ? theirs->why : "", theirs->end,
             MD_STR_ARG(md_bytes_view(&theirs->notes)));
}

static bool is_stricter_for_a_reason(const char *sentence)
{
    for (size_t i = 0; i < MD_COUNT_OF(stricter); i++) {
        if (strcmp(sentence, stricter[i].sentence) == 0) {
            stricter[i].seen++;
            return true;
        }
    }
    return false;
}

static bool is_laxer_for_a_reason(const char *name, struct md_str data)
{
    for (size_t i = 0; i < MD_COUNT_OF(laxer); i++) {
        if (strcmp(name, laxer[i].name) == 0 &&
            memmem(data.ptr, data.len, laxer[i].part, strlen(laxer[i].part))) {
            laxer[i].seen++;
            return true;
        }
    }
    return false;
}

static void compare(struct md_str data)
{
    struct reading ours = {.outcome = REFUSED}, theirs = {.outcome = REFUSED};

    read_ours(&ours, data);
    read_theirs(&theirs, data);
    if (ours.outcome == COMPLETE && theirs.outcome == COMPLETE) {
        /* to close is always safe */
        if (ours.end != theirs.end || ours.minor_version != theirs.minor_version ||
            (ours.keep_alive && !theirs.keep_alive && !is_laxer_for_a_reason("keep-alive", data)) ||
            !md_str_eq(md_bytes_view(&ours.notes), md_bytes_view(&theirs.notes))) {
            show("understood otherwise", data, &ours, &theirs);
        }
    } else if (ours.outcome == COMPLETE && theirs.outcome == REFUSED) {
        if (!is_laxer_for_a_reason(theirs.why, data)) {
            show("accepted by us alone", data, &ours, &theirs);
        }
    } else if (theirs.outcome == COMPLETE && ours.outcome == REFUSED) {
        if (!is_stricter_for_a_reason(ours.why)) {
            show("refused by us alone", data, &ours, &theirs);
        }
    } else if (ours.outcome == COMPLETE || theirs.outcome == COMPLETE) {
        show("another end", data, &ours, &theirs);
    }
    md_bytes_deinit(&ours.notes);
    md_bytes_deinit(&theirs.notes);
}

/* --- requests -------------------- */

#define CHUNKED "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"

static const char *const requests[] = {
    "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "GET /a?b=c HTTP/1.0\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n",
    "POST /v2/models/m/infer HTTP/1.1\r\nHost: h:80\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    "helloGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    CHUNKED "5\r\nhello\r\n0\r\n\r\n",
    CHUNKED "00a;x=y\r\n0123456789\r\nA\r\n0123456789\r\n0\r\nT: v\r\n\r\nGET",
    "OPTIONS * HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "\r\nGET http://h/x HTTP/1.1\r\nHost: h\r\nX: a b\t c\r\n\r\n",
};

static const char *const lines[] = {
    "Host: i\r\n",
    "Content-Length: 1\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length:\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length: 99999999999999999999\r\n",
    "Content-Length: 5 5\r\n",
    "Content-Length : 5\r\n",
    "content-length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, gzip\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked,\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding:\r\n",
    "transfer-encoding: CHUNKED\r\n",
    "TE: trailers\r\n",
    " folded: 1\r\n",
    "\tfolded\r\n",
    "Empty:\r\n",
    ": nameless\r\n",
    "nocolon\r\n",
    "Bare: 1\n",
    "Bare: 1\r",
    "Connection: close\r\n",
    "Connection: x, Keep-Alive\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Expect: x\r\n",
    "X: \xc3\xa4\xff\r\n",
    "\r\n",
    "\n",
    "Trailer: T\r\n",
    "X:   spaced   \r\n",
    "X!#$%&'*+-.^_`|~: 1\r\n",
    "X\": 1\r\n",
};

static const char bytes[] = "\0\t\n\v\r !\"#%()*+,-./019:;<=>?@AGZ[\\]^_`afgz{|}~\x7f\x80\xff";

static void put(char message[MESSAGE_MAX], size_t *len, const char *text, size_t text_len)
{
    assert_true(*len + text_len <= MESSAGE_MAX);
    memcpy(message + *len, text, text_len);
    *len += text_len;
}

/* The request with `text` instead of `cut` bytes at `at`. */
static void compare_with(const char *request, size_t at, size_t cut, const char *text,
                         size_t text_len)
{
    char message[MESSAGE_MAX];
    size_t len = 0;

    put(message, &len, request, at);
    put(message, &len, text, text_len);
    put(message, &len, request + at + cut, strlen(request) - at - cut);
    compare(md_str_make(message, len));
}

/* One or two lines more at this place. */
static void compare_with_lines(const char *request, size_t at)
{
    char two[256];

    for (size_t i = 0; i < MD_COUNT_OF(lines); i++) {
        compare_with(request, at, 0, lines[i], strlen(lines[i]));
        for (size_t k = 0; k < MD_COUNT_OF(lines); k++) {
            int len = snprintf(two, sizeof two, "%s%s", lines[i], lines[k]);
            compare_with(request, at, 0, two, (size_t)len);
        }
    }
}

static void test_http1_reads_as_llhttp_does(void **state)
{
    (void)state;
    for (size_t r = 0; r < MD_COUNT_OF(requests); r++) {
        compare(md_str_of(requests[r]));
        for (size_t at = 0; at < strlen(requests[r]); at++) {
            compare_with(requests[r], at, 1, "", 0);
            for (size_t i = 0; i < sizeof bytes - 1; i++) {
                compare_with(requests[r], at, 1, &bytes[i], 1);
                compare_with(requests[r], at, 0, &bytes[i], 1);
            }
            if (at && requests[r][at - 1] == '\n') {
                compare_with_lines(requests[r], at);
            }
        }
    }
    for (size_t i = 0; i < MD_COUNT_OF(stricter); i++) {
        if (!stricter[i].seen) {
            fail_msg("not stricter any more: %s", stricter[i].sentence);
        }
    }
    for (size_t i = 0; i < MD_COUNT_OF(laxer); i++) {
        if (!laxer[i].seen) {
            fail_msg("not laxer any more: %s", laxer[i].name);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http1_reads_as_llhttp_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
