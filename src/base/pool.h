/*
 * Blocks of memory for bodies and tensors: pooled by size class, counted against one bound,
 * reference counted.
 *
 * A pool belongs to one thread (its owner, a loop), which alone allocates from it. A block may be
 * released by any thread: the owner puts it on its free list, others hand it back through a
 * lock-free stack that the owner empties when it next allocates; it counts no longer from the
 * release on, and no more lies there than the pool may cache. So the pool must outlive its blocks.
 * Data is aligned to 64 bytes and not initialised.
 *
 * Every pool of the process draws on one md_budget (`--inflight-bytes`). To keep the shared counter
 * off the request path, a pool takes credit from the budget in steps (a small part of it) and gives
 * back what it has in excess.
 */
#ifndef MD_BASE_POOL_H
#define MD_BASE_POOL_H

#include "base/compiler.h"

#include <stdatomic.h>

struct md_budget {
    size_t limit_bytes; /* immutable */
    _Alignas(MD_CACHE_LINE)
        atomic_size_t used_bytes; /* shared: taken by all pools, credit included */
    atomic_size_t stalled_bytes;  /* shared: of those, held by who waits for more */
};

void md_budget_init(struct md_budget *budget, size_t limit_bytes);
/* Counts memory that is no block; false when the limit is reached. Any thread. */
bool md_budget_take(struct md_budget *budget, size_t bytes) MD_MUST_CHECK;
void md_budget_give(struct md_budget *budget, size_t bytes);

struct md_pool;

struct md_block {
    atomic_uint refs; /* shared */
    uint32_t size_class;
    struct md_pool *pool;     /* borrow: home; NULL for a block of no pool */
    struct md_budget *budget; /* borrow: of a block of no pool */
    struct md_block *next;    /* free list or hand-back stack */
    char *data;               /* capacity bytes */
    size_t capacity;
    size_t counted_bytes; /* against the budget */
};

/* Bytes kept on free lists at most; larger blocks are returned to the heap first. */
bool md_pool_create(struct md_budget *budget, size_t cache_bytes, struct md_pool **out)
    MD_MUST_CHECK;
void md_pool_destroy(struct md_pool *pool); /* owner; every block has been released */

/* A block of at least `bytes` with one reference; NULL when the heap or the budget is exhausted
 * (*over_budget tells which). Owner only. */
struct md_block *md_pool_alloc(struct md_pool *pool, size_t bytes, bool *over_budget) MD_MUST_CHECK;

/* For reading a request at all, and soon released: goes up to an eighth beyond the limit, as blocks
 * of up to 4 KiB do, so that small requests are served while large ones wait for memory. Owner
 * only. */
struct md_block *md_pool_alloc_urgent(struct md_pool *pool, size_t bytes, bool *over_budget)
    MD_MUST_CHECK;

/* As md_pool_alloc, but only `counted` bytes (rounded up) are counted against the budget for now:
 * for a block that fills slowly. md_block_charge counts more as it fills; false when the budget is
 * exhausted (nothing is changed). md_block_discharge counts no more than this any longer. Owner
 * only. */
struct md_block *md_pool_alloc_lazy(struct md_pool *pool, size_t bytes, size_t counted,
                                    bool *over_budget) MD_MUST_CHECK;
bool md_block_charge(struct md_block *block, size_t bytes) MD_MUST_CHECK;
void md_block_discharge(struct md_block *block, size_t bytes);

/* A block that belongs to no pool, straight from the heap: for threads that own none. Any thread.
 */
struct md_block *md_block_create(struct md_budget *budget, size_t bytes, bool *over_budget)
    MD_MUST_CHECK;

void md_block_ref(struct md_block *block);   /* any thread */
void md_block_unref(struct md_block *block); /* any thread; NULL is fine */

/* Frees what lies on the free lists above `keep_bytes` and returns the credit. Owner only. */
void md_pool_trim(struct md_pool *pool, size_t keep_bytes);

/* Counts memory that is no block, for objects of which a client can make many: as small blocks are,
 * up to an eighth beyond the limit; false there. Owner only. */
bool md_pool_count(struct md_pool *pool, size_t bytes) MD_MUST_CHECK;
void md_pool_uncount(struct md_pool *pool, size_t bytes);

/* What it draws on. */
struct md_budget *md_pool_budget(struct md_pool *pool);
/* What all blocks of the process may take together. */
size_t md_pool_limit_bytes(const struct md_pool *pool);
/* Half of what lies beyond the limit is in use: who can do without memory should. */
bool md_pool_is_crowded(const struct md_pool *pool);

/* Who holds `bytes` waits for more from now on, and no longer. md_pool_stall returns what all
 * others that wait hold: together with what it needs in the end more than the limit, they would
 * wait for each other for ever. */
size_t md_pool_stall(struct md_pool *pool, size_t bytes);
void md_pool_unstall(struct md_pool *pool, size_t bytes);

/* Bytes lying on free lists; owner only. */
size_t md_pool_cached_bytes(const struct md_pool *pool);

#endif
