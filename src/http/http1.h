/*
 * HTTP/1.1 as a state machine over bytes (RFC 9110, RFC 9112). No I/O, no allocation but the head's
 * arrays.
 *
 * One reader a connection, one thread. Strict where request smuggling hides: bare CR or LF, control
 * characters, white space before a colon, folded lines, differing or malformed Content-Length,
 * Transfer-Encoding beside Content-Length or other than "chunked" are refused, never repaired.
 */
#ifndef MD_HTTP_HTTP1_H
#define MD_HTTP_HTTP1_H

#include "base/bytes.h"
#include "base/progress.h"
#include "http/exchange.h"

struct md_http1_limits {
    size_t max_header_bytes;
    size_t max_header_count;
};

/* Finds the end of a head that arrives in pieces; zeroed at the start of each request. */
struct md_http1_scan {
    size_t at;           /* scanned so far */
    size_t head_start;   /* 2 after an empty line before the request (RFC 9112 2.2), else 0 */
    size_t line_start;   /* of the line that is not complete */
    size_t line_count;   /* complete lines */
    size_t target_bytes; /* of the request line, once it is complete */
    size_t head_bytes;   /* set when DONE: the head is data[head_start .. head_bytes) */
};

/* What the head means for the connection. */
struct md_http1_request {
    struct md_http_head head;
    unsigned minor_version;
    bool keep_alive;
    bool chunked;
    bool expects_continue;
    struct md_str content_encoding; /* empty: none */
    struct md_str accept_encoding;
    struct md_str origin; /* CORS */
    bool is_preflight;
};

/* Looks at data (all bytes of the request so far). On ERROR *status is the answer (400, 414, 431)
 * and err the sentence. */
enum md_progress md_http1_scan_head(struct md_http1_scan *scan, struct md_str data,
                                    const struct md_http1_limits *limits, unsigned *status,
                                    struct md_error *err);

/* Parses a complete head, as md_http1_scan_head found it; text must outlive the result (views into
 * it). False: *status is 400, 417, 431, 501, 503 or 505; *out then holds what was understood. */
bool md_http1_parse_head(struct md_str text, const struct md_http1_limits *limits,
                         struct md_arena *arena, struct md_http1_request *out, unsigned *status,
                         struct md_error *err) MD_MUST_CHECK;

/* Decoder of the chunked coding; zeroed at the start of a body. */
struct md_http1_chunked {
    unsigned state;
    uint64_t left; /* of the current chunk */
    size_t line_bytes;
    size_t trailer_bytes;
    unsigned digits;
    bool has_colon; /* the trailer line */
};

/* Takes bytes from *data. Hands out at most one piece of body a call: *piece (a view into data,
 * maybe empty). AGAIN: call again, with more data when *data is empty. DONE: the body has ended,
 * *data begins with the next request. */
enum md_progress md_http1_chunked_step(struct md_http1_chunked *chunked, struct md_str *data,
                                       struct md_str *piece, struct md_error *err);

/* The Date header's value, "Tue, 15 Nov 1994 08:12:31 GMT", with the terminator. */
enum { MD_HTTP1_DATE_BYTES = 30 };
void md_http1_print_date(uint64_t realtime_ns, char out[MD_HTTP1_DATE_BYTES]);

/* Appends status line and headers. */
enum { MD_HTTP1_CHUNKED = -1, MD_HTTP1_UNTIL_CLOSE = -2 }; /* instead of a content length */
struct md_http1_response_head {
    unsigned status;
    const char *content_type;
    const char *content_encoding;
    int64_t content_length; /* of 204 it is not printed */
    const char *allow;      /* NULL: none */
    const char *server;     /* NULL: none */
    const char *date;       /* NULL: none */
    bool close;
    bool http10_keep_alive;
    const struct md_http_header *headers;
    size_t header_count;
};
void md_http1_print_head(const struct md_http1_response_head *head, struct md_bytes *out);

const char *md_http_status_text(unsigned status);
enum md_http_method md_http_method_of(struct md_str name);

#endif
