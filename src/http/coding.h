/*
 * Content codings of bodies (RFC 9110 8.4): which one, and the work in slices, so that a large body
 * does not keep the loop from its other connections. Zeroed jobs are valid and empty. The thread of
 * the pool.
 */
#ifndef MD_HTTP_CODING_H
#define MD_HTTP_CODING_H

#include "base/chain.h"
#include "codec/deflate.h"

enum { MD_CODING_SLICE_BYTES = 64 * 1024 }; /* of work in one step */

/* "gzip" or "deflate". */
bool md_coding_from_name(struct md_str name, enum md_coding *coding);
const char *md_coding_name(enum md_coding coding);
/* The coding that a client likes best of those that we have, by its Accept-Encoding; false: none.
 */
bool md_coding_choose(struct md_str accept, enum md_coding *coding) MD_MUST_CHECK;

/* A body being decoded. */
struct md_unpack {
    struct md_inflate *inflate;
    struct md_block *block; /* own; after DONE: `bytes` of the body, from data + lead */
    size_t bytes;
    size_t at; /* of the input */
};

bool md_unpack_begin(struct md_unpack *unpack, enum md_coding coding, struct md_pool *pool,
                     struct md_error *err) MD_MUST_CHECK;
/* AGAIN: others first. ERROR: MALFORMED, TOO_LARGE (more than `max`), INFLIGHT_BYTES or
 * OUT_OF_MEMORY. The same `in` and `lead` in every step. */
enum md_progress md_unpack_step(struct md_unpack *unpack, struct md_pool *pool, struct md_str in,
                                size_t lead, size_t max, struct md_error *err) MD_MUST_CHECK;
void md_unpack_deinit(struct md_unpack *unpack);

/* A body being compressed. */
struct md_pack {
    struct md_deflate *deflate;
    struct md_chain chain; /* own: the result */
    size_t part, part_at;
};

bool md_pack_begin(struct md_pack *pack, enum md_coding coding, struct md_pool *pool,
                   struct md_error *err) MD_MUST_CHECK;
/* AGAIN: others first. ERROR: no memory; the body can still go as it is. The same parts in every
 * step. */
enum md_progress md_pack_step(struct md_pack *pack, struct md_pool *pool, const struct iovec *parts,
                              size_t part_count) MD_MUST_CHECK;
void md_pack_deinit(struct md_pack *pack);

#endif
