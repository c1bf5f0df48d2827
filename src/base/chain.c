/*
 * Chain of blocks. Each block begins with a link that holds its length once it is full.
 */
#include "base/chain.h"

enum { FIRST_BLOCK_BYTES = 4096 };

struct link {
    struct md_block *next;
    size_t bytes;
};

static struct link *link_of(const struct md_block *block)
{
    return (struct link *)(void *)block->data;
}

static size_t block_bytes(const struct md_chain *chain, const struct md_block *block)
{
    return block == chain->last ? chain->tail.len : link_of(block)->bytes;
}

static bool add_block(struct md_chain *chain, struct md_pool *pool, size_t room)
{
    size_t usual = chain->first ? MD_CHAIN_BLOCK_BYTES : FIRST_BLOCK_BYTES;
    size_t bytes;
    bool over_budget;

    if (!md_size_add(room, sizeof(struct link), &bytes)) {
        return false;
    }
    struct md_block *block = md_pool_alloc(pool, md_size_max(bytes, usual), &over_budget);
    if (!block) {
        return false;
    }
    *link_of(block) = (struct link){0};
    if (chain->last) {
        *link_of(chain->last) = (struct link){.next = block, .bytes = chain->tail.len};
        chain->before_bytes += chain->tail.len;
    } else {
        chain->first = block;
    }
    chain->last = block;
    chain->part_count++;
    chain->tail = (struct md_bytes){.data = block->data + sizeof(struct link),
                                    .capacity = block->capacity - sizeof(struct link),
                                    .max = block->capacity - sizeof(struct link)};
    return true;
}

struct md_bytes *md_chain_room(struct md_chain *chain, struct md_pool *pool, size_t room)
{
    if (MD_LIKELY(chain->last && room <= chain->tail.capacity - chain->tail.len)) {
        return &chain->tail;
    }
    return add_block(chain, pool, room) ? &chain->tail : NULL;
}

size_t md_chain_bytes(const struct md_chain *chain)
{
    return chain->before_bytes + chain->tail.len;
}

void md_chain_parts(const struct md_chain *chain, struct iovec *parts)
{
    for (struct md_block *block = chain->first; block; block = link_of(block)->next) {
        *parts++ = (struct iovec){.iov_base = block->data + sizeof(struct link),
                                  .iov_len = block_bytes(chain, block)};
    }
}

void md_chain_deinit(struct md_chain *chain)
{
    for (struct md_block *block = chain->first, *next; block; block = next) {
        next = link_of(block)->next;
        md_block_unref(block);
    }
    *chain = (struct md_chain){0};
}
