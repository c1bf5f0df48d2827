/*
 * Tokens of protobuf text format, and what the strings among them say.
 *
 * A cursor is a plain value over a text that outlives it: copying one is how a parser looks ahead
 * or goes back. One thread.
 */
#ifndef MD_CONFIG_PBTXT_TOKEN_H
#define MD_CONFIG_PBTXT_TOKEN_H

#include "base/bytes.h"

enum md_pbtxt_kind {
    MD_PBTXT_END,
    MD_PBTXT_NAME,
    MD_PBTXT_NUMBER,      /* its form is checked by who reads it */
    MD_PBTXT_STRING,      /* `text` is without the quotes, still escaped */
    MD_PBTXT_PUNCTUATION, /* one of {}<>[]:;,- */
    MD_PBTXT_UNENDED,     /* a string whose line ends before its quote */
    MD_PBTXT_BAD,         /* a stray byte */
};

struct md_pbtxt_token {
    enum md_pbtxt_kind kind;
    struct md_str text;
    unsigned line, column; /* 1-based; columns count bytes */
};

struct md_pbtxt_cursor {
    const char *at, *end, *line_begin; /* borrow: behind the token */
    unsigned line;
    struct md_pbtxt_token token; /* the current one */
};

/* Stands on the first token. */
void md_pbtxt_start(struct md_pbtxt_cursor *cursor, struct md_str text);
/* Goes on to the next token; stays at END. */
void md_pbtxt_next(struct md_pbtxt_cursor *cursor);

/* True if the current token is one of these punctuation marks. */
bool md_pbtxt_is(const struct md_pbtxt_cursor *cursor, const char *marks);

/* Appends what a STRING's text says. False at an invalid escape, whose offset is *error_at. */
bool md_pbtxt_unescape(struct md_str text, struct md_bytes *out, size_t *error_at) MD_MUST_CHECK;

/* The token as an error can show it: printable and short. */
struct md_pbtxt_shown {
    char text[48];
};
struct md_pbtxt_shown md_pbtxt_show(const struct md_pbtxt_token *token);

#endif
