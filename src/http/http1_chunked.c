/*
 * HTTP/1.1 chunked bodies (RFC 9112 7.1). Extensions and trailers are checked, bounded and dropped.
 *
 *   SIZE -> (SPACE) -> (EXTENSION) -> SIZE_LF -> DATA -> DATA_CR -> DATA_LF -> SIZE ...
 *                                        |
 *                                        +-> size 0: TRAILER lines until an empty one
 */
#include "http/http1.h"

#include "http/http1_chars.h"

enum { CHUNK_LINE_MAX = 1024, TRAILERS_MAX = 8192, SIZE_DIGITS_MAX = 15 /* no overflow */ };

enum {
    CHUNK_SIZE,
    CHUNK_SPACE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LF,
};

static bool malformed(struct md_error *err, const char *sentence)
{
    return md_error_set(err, MD_REASON_MALFORMED, "%s", sentence);
}

static bool size_byte(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    int digit = md_hex_digit(c);

    if (digit >= 0) {
        if (++chunked->digits > SIZE_DIGITS_MAX) {
            return malformed(err, "a chunk size has too many digits");
        }
        chunked->left = chunked->left << 4 | (unsigned)digit;
        return true;
    }
    if (chunked->digits == 0) {
        return malformed(err, "a chunk does not begin with its size in hexadecimal");
    }
    if (c == '\r') {
        chunked->state = CHUNK_SIZE_LF;
    } else if (c == ';') {
        chunked->state = CHUNK_EXTENSION;
    } else if (c == ' ' || c == '\t') {
        chunked->state = CHUNK_SPACE;
    } else {
        return malformed(err, "a chunk size has a character that is no digit");
    }
    return true;
}

/* Space after a size: some senders fill it up; "1 2" must not be read as anything. */
static bool space_byte(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    if (c == '\r') {
        chunked->state = CHUNK_SIZE_LF;
    } else if (c == ';') {
        chunked->state = CHUNK_EXTENSION;
    } else if (c != ' ' && c != '\t') {
        return malformed(err, "a chunk size is followed by something else");
    }
    return true;
}

static bool line_feed(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    if (c != '\n') {
        return malformed(err, "a line of the chunked body ends without CR LF");
    }
    chunked->line_bytes = 0;
    if (chunked->state == CHUNK_SIZE_LF) {
        chunked->state = chunked->left ? CHUNK_DATA : CHUNK_TRAILER;
    } else {
        chunked->state = CHUNK_SIZE;
        chunked->left = chunked->digits = 0;
    }
    return true;
}

static bool trailer_byte(struct md_http1_chunked *chunked, char c, struct md_error *err)
{
    if (++chunked->trailer_bytes > TRAILERS_MAX) {
        return malformed(err, "the trailers are too large");
    }
    if (c == '\r' && (chunked->has_colon || chunked->line_bytes == 1)) {
        chunked->state = CHUNK_TRAILER_LF;
        return true;
    }
    if (c == ':' && chunked->line_bytes > 1) {
        chunked->has_colon = true;
        return true;
    }
    return (chunked->has_colon ? md_http1_is_text(c) : md_http1_is_token(c)) ||
           malformed(err, "a trailer line is not 'name: value'");
}

static bool trailer_line_feed(struct md_http1_chunked *chunked, char c, bool *done,
                              struct md_error *err)
{
    if (c != '\n') {
        return malformed(err, "a trailer line ends without CR LF");
    }
    *done = chunked->line_bytes == 2;
    chunked->line_bytes = 0;
    chunked->has_colon = false;
    chunked->state = CHUNK_TRAILER;
    return true;
}

/* One byte outside of chunk data. *done is set at the end of the body. */
static bool take_byte(struct md_http1_chunked *chunked, char c, bool *done, struct md_error *err)
{
    if (++chunked->line_bytes > CHUNK_LINE_MAX) {
        return malformed(err, "a line of the chunked body is too long");
    }
    switch (chunked->state) {
    case CHUNK_SIZE:
        return size_byte(chunked, c, err);
    case CHUNK_SPACE:
        return space_byte(chunked, c, err);
    case CHUNK_EXTENSION:
        if (c == '\r') {
            chunked->state = CHUNK_SIZE_LF;
            return true;
        }
        return md_http1_is_text(c) || malformed(err, "a chunk extension has a control character");
    case CHUNK_DATA_CR:
        chunked->state = CHUNK_DATA_LF;
        return c == '\r' || malformed(err, "a chunk is longer than its size says");
    case CHUNK_TRAILER:
        return trailer_byte(chunked, c, err);
    case CHUNK_TRAILER_LF:
        return trailer_line_feed(chunked, c, done, err);
    default: /* SIZE_LF, DATA_LF */
        return line_feed(chunked, c, err);
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
            }
            return MD_PROGRESS_AGAIN;
        }
        char c = data->ptr[0];
        *data = md_str_make(data->ptr + 1, data->len - 1);
        if (!take_byte(chunked, c, &done, err)) {
            return MD_PROGRESS_ERROR;
        }
    }
    return done ? MD_PROGRESS_DONE : MD_PROGRESS_AGAIN;
}
