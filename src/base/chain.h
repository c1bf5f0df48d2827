/*
 * Chain: text of unknown length in blocks of a pool, counted against its budget.
 *
 * For answers that may become large: nothing is moved when it grows, and the blocks go back to the
 * pool when it is released. One owner, the pool's thread. Zeroed is valid and empty.
 */
#ifndef MD_BASE_CHAIN_H
#define MD_BASE_CHAIN_H

#include "base/bytes.h"
#include "base/pool.h"

#include <sys/uio.h>

enum { MD_CHAIN_BLOCK_BYTES = 64 * 1024 }; /* of all blocks but the first, which is small */

struct md_chain {
    struct md_block *first, *last; /* own */
    struct md_bytes tail;          /* where the next bytes go: memory of `last` */
    size_t before_bytes;           /* in the blocks before `last` */
    size_t part_count;
};

/* Where at least `room` bytes can be appended without being moved; the caller appends no more than
 * that, before the next call. NULL when the heap or the budget is exhausted: what was appended
 * stands. */
struct md_bytes *md_chain_room(struct md_chain *chain, struct md_pool *pool, size_t room)
    MD_MUST_CHECK;

size_t md_chain_bytes(const struct md_chain *chain);

/* The whole text as part_count parts; valid until something is appended or it is released. */
void md_chain_parts(const struct md_chain *chain, struct iovec *parts);

/* Leaves an empty chain. */
void md_chain_deinit(struct md_chain *chain);

#endif
