/*
 * JSON pull reader over a text that is wholly in memory.
 *
 * The caller owns the text, which must outlive the views handed out. One reader, one thread. The
 * reader keeps no tree: md_json_next hands out one token at a time, and its state is this struct,
 * so that a long document can be read in slices. Nesting is bounded by `max_depth`, never
 * recursive. Follows RFC 8259, plus the tokens NaN, Infinity and Inf as numbers, with or without a
 * minus (the field's servers read and write them).
 *
 * Every error names the byte offset. After an error the reader returns MD_JSON_ERROR for ever.
 */
#ifndef MD_CODEC_JSON_H
#define MD_CODEC_JSON_H

#include "base/arena.h"
#include "base/bytes.h"
#include "base/error.h"

enum md_json_token {
    MD_JSON_END, /* the document ended, nothing but white space followed */
    MD_JSON_ERROR,
    MD_JSON_OBJECT_BEGIN,
    MD_JSON_OBJECT_END,
    MD_JSON_ARRAY_BEGIN,
    MD_JSON_ARRAY_END,
    MD_JSON_KEY,    /* `text` */
    MD_JSON_STRING, /* `text` */
    MD_JSON_NUMBER, /* `text` is its raw spelling, checked against the grammar */
    MD_JSON_TRUE,
    MD_JSON_FALSE,
    MD_JSON_NULL,
};

enum { MD_JSON_DEPTH_LIMIT = 512 };

struct md_json {
    const char *begin; /* borrow: the text */
    const char *at;
    const char *end;
    struct md_arena *arena; /* borrow: where strings with escapes are decoded */
    struct md_str text;     /* of the last KEY, STRING, NUMBER */
    uint32_t depth;
    uint32_t max_depth;
    uint8_t state;
    bool failed;
    bool skips;                                   /* strings are checked, but not decoded */
    uint64_t is_object[MD_JSON_DEPTH_LIMIT / 64]; /* one bit a level */
    struct md_error error;                        /* set when failed */
};

/* max_depth is capped at MD_JSON_DEPTH_LIMIT. */
void md_json_init(struct md_json *json, struct md_str text, struct md_arena *arena,
                  uint32_t max_depth);

/* Next token. Strings are UTF-8 checked; without escapes `text` is a view into the document. */
enum md_json_token md_json_next(struct md_json *json) MD_MUST_CHECK;

/* Kind of the token that md_json_next would return, without taking it (strings are not decoded,
 * nothing is checked beyond the first byte). MD_JSON_ERROR when the next byte can begin no token
 * here. */
enum md_json_token md_json_peek(struct md_json *json);

/* Skips the next value whole (an object or array with all that it holds); takes no memory. False on
 * a syntax error (json->error). */
bool md_json_skip(struct md_json *json) MD_MUST_CHECK;

/* For readers that take a value's text themselves: `at` stands behind the value now. */
void md_json_value_taken(struct md_json *json);

/* For them, too: takes the string whose opening quote `at` stands at and appends what it says to
 * out, behind `gap` bytes that the caller fills in. Tells the reader nothing else. TOO_LARGE beyond
 * out->max; the string's spelling counts. */
bool md_json_take_string(struct md_json *json, size_t gap, struct md_bytes *out) MD_MUST_CHECK;

/* Makes json fail with "... at byte N" appended to the sentence; returns false. For callers' own
 * expectations. */
bool md_json_fail(struct md_json *json, const char *format, ...) MD_PRINTF(2, 3);

/* Exact conversions of a NUMBER's text; false if it is out of range or, for the first two, no
 * integer ("1.0" and "1e3" are none). */
bool md_json_to_i64(struct md_str number, int64_t *out) MD_MUST_CHECK;
bool md_json_to_u64(struct md_str number, uint64_t *out) MD_MUST_CHECK;
bool md_json_to_f64(struct md_str number, double *out) MD_MUST_CHECK;

/* Appends text as a JSON string with quotes; control bytes, quote and backslash escaped; invalid
 * UTF-8 bytes are replaced by U+FFFD. */
void md_json_append_string(struct md_bytes *out, struct md_str text);
/* The same without the quotes: for long strings in pieces, each cut between two characters. */
void md_json_append_text(struct md_bytes *out, struct md_str text);

/* Appends the shortest spelling that reads back equal; integers get ".0"; NaN, Infinity, -Infinity
 * as such. */
void md_json_append_f64(struct md_bytes *out, double value);

#endif
