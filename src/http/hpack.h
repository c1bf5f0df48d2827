/*
 * HPACK (RFC 7541): decoding by libnghttp2, encoding without a dynamic table.
 *
 * A decoder belongs to one connection and is fed every header block in order, also of requests that
 * are refused: its table is the connection's. One thread.
 */
#ifndef MD_HTTP_HPACK_H
#define MD_HTTP_HPACK_H

#include "base/bytes.h"
#include "base/progress.h"

enum { MD_HPACK_TABLE_BYTES = 4096 }; /* the decoder's dynamic table, as SETTINGS say */

struct md_hpack_decoder;

struct md_hpack_field {
    struct md_str name, value; /* valid until the next step */
};

bool md_hpack_decoder_create(struct md_hpack_decoder **out) MD_MUST_CHECK;
void md_hpack_decoder_destroy(struct md_hpack_decoder *decoder);

/* Takes bytes from *block; `last`: the block ends with them. AGAIN with *field set: one field, call
 * again. AGAIN with field->name.ptr NULL: *block is used up, more of it must come. DONE: the block
 * has ended. ERROR: it cannot be decoded (or no memory): the connection is lost. */
enum md_progress md_hpack_decode(struct md_hpack_decoder *decoder, struct md_str *block, bool last,
                                 struct md_hpack_field *field) MD_MUST_CHECK;

/* Append one field to a block; the name may be in any case, and is written in lower case. */
void md_hpack_put(struct md_bytes *out, struct md_str name, struct md_str value);
void md_hpack_put_number(struct md_bytes *out, struct md_str name, uint64_t value);
/* ":status", which stands first. */
void md_hpack_put_status(struct md_bytes *out, unsigned status);

#endif
