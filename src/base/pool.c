/*
 * Size classes of powers of four from 4 KiB to 16 MiB; what is larger is allocated and freed one by
 * one. The owner's free lists need no lock; foreign releases go through one stack of atomics.
 */
#include "base/pool.h"

#include "base/alloc.h"
#include "base/fault.h"

enum {
    CLASS_SHIFT = 12,
    CLASS_COUNT = 7,       /* 4K 16K 64K 256K 1M 4M 16M */
    LAZY_CLASS = 3,        /* from here on blocks may be counted as they fill */
    CREDIT_STEP = 1 << 18, /* at most; else a part of the limit: idle pools keep two of it */
    CREDIT_PARTS = 1024,
    CHARGE_STEP = 1 << 12, /* a page */
    HEADER_BYTES = 64,
    MAPPED_BYTES = 1 << 20, /* from here on the C library maps each on its own (os/memory.c) */
};
_Static_assert(sizeof(struct md_block) <= HEADER_BYTES, "the header fits before the data");

struct md_pool {
    /* owner only */
    struct md_budget *budget; /* shared */
    struct md_block *free[CLASS_COUNT];
    size_t cached_bytes;
    size_t cache_limit_bytes; /* immutable */
    size_t credit_step;       /* immutable */
    size_t credit_bytes;      /* taken from the budget, not used by a block in use */

    /* shared */
    _Alignas(MD_CACHE_LINE) _Atomic(struct md_block *) handed_back;
    atomic_size_t handed_back_bytes; /* lying there, not counted any more */
    _Atomic(char *) owner;           /* identity of the owner thread, set at first use */
};

static _Thread_local char thread_identity;

void md_budget_init(struct md_budget *budget, size_t limit_bytes)
{
    budget->limit_bytes = limit_bytes;
    atomic_init(&budget->used_bytes, 0);
    atomic_init(&budget->stalled_bytes, 0);
}

static bool take_up_to(struct md_budget *budget, size_t bytes, size_t limit_bytes)
{
    /* relaxed: a counter, it orders nothing. What is refused is never added, not for a moment:
     * another one would be refused for it. */
    size_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);

    do {
        if (used > limit_bytes || bytes > limit_bytes - used) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool md_budget_take(struct md_budget *budget, size_t bytes)
{
    return take_up_to(budget, bytes, budget->limit_bytes);
}

void md_budget_give(struct md_budget *budget, size_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed); /* as above */
}

bool md_pool_create(struct md_budget *budget, size_t cache_bytes, struct md_pool **out)
{
    struct md_pool *pool = md_alloc_aligned(MD_CACHE_LINE, sizeof *pool);

    if (!pool) {
        return false;
    }
    *pool = (struct md_pool){.budget = budget,
                             .cache_limit_bytes = cache_bytes,
                             .credit_step =
                                 md_size_min(CREDIT_STEP, budget->limit_bytes / CREDIT_PARTS)};
    atomic_init(&pool->handed_back, NULL);
    atomic_init(&pool->handed_back_bytes, 0);
    atomic_init(&pool->owner, NULL);
    *out = pool;
    return true;
}

/* relaxed: a thread finds its own identity there only if it put it there */
static bool is_owner(const struct md_pool *pool)
{
    return atomic_load_explicit(&((struct md_pool *)(uintptr_t)pool)->owner,
                                memory_order_relaxed) == &thread_identity;
}

static bool take_credit(struct md_pool *pool, size_t bytes, size_t limit_bytes)
{
    if (MD_LIKELY(pool->credit_bytes >= bytes)) {
        pool->credit_bytes -= bytes;
        return true;
    }
    /* a step in advance; near the limit just what is missing */
    size_t missing = bytes - pool->credit_bytes;
    size_t step = md_size_max(missing, pool->credit_step);
    if (!take_up_to(pool->budget, step, limit_bytes)) {
        step = missing;
        if (!take_up_to(pool->budget, step, limit_bytes)) {
            return false;
        }
    }
    pool->credit_bytes += step - bytes;
    return true;
}

static void give_credit(struct md_pool *pool, size_t bytes)
{
    pool->credit_bytes += bytes;
    if (pool->credit_bytes > 2 * pool->credit_step) {
        size_t excess = pool->credit_bytes - pool->credit_step;
        pool->credit_bytes -= excess;
        md_budget_give(pool->budget, excess);
    }
}

static void block_retire(struct md_pool *pool, struct md_block *block)
{
    give_credit(pool, block->counted_bytes);
    if (block->size_class < CLASS_COUNT &&
        pool->cached_bytes + block->capacity <= pool->cache_limit_bytes) {
        block->next = pool->free[block->size_class];
        pool->free[block->size_class] = block;
        pool->cached_bytes += block->capacity;
    } else {
        md_free(block);
    }
}

static void collect_handed_back(struct md_pool *pool)
{
    /* relaxed peek: the exchange below acquires what the releasing thread wrote */
    if (!atomic_load_explicit(&pool->handed_back, memory_order_relaxed)) {
        return;
    }
    struct md_block *block =
        atomic_exchange_explicit(&pool->handed_back, NULL, memory_order_acquire);
    while (block) {
        struct md_block *next = block->next;
        /* relaxed: an estimate of what lies there */
        atomic_fetch_sub_explicit(&pool->handed_back_bytes, block->capacity, memory_order_relaxed);
        block_retire(pool, block);
        block = next;
    }
}

static uint32_t class_of(size_t bytes)
{
    uint32_t size_class = 0;

    while (size_class < CLASS_COUNT && bytes > (size_t)1 << (CLASS_SHIFT + 2 * size_class)) {
        size_class++;
    }
    return size_class;
}

static struct md_block *heap_block(struct md_pool *pool, uint32_t size_class, size_t capacity)
{
    size_t total;
    struct md_block *block = NULL;

    if (md_size_add(capacity, HEADER_BYTES, &total)) {
        /* A large block that is freed must not stay as a hole in the heap; what it does not use of
         * a mapping is address space alone. */
        block = md_alloc_aligned(
            HEADER_BYTES, size_class < LAZY_CLASS ? total : md_size_max(total, MAPPED_BYTES));
    }
    if (block) {
        *block = (struct md_block){.size_class = size_class, .pool = pool, .capacity = capacity};
        block->data = (char *)block + HEADER_BYTES;
    }
    return block;
}

bool md_block_charge(struct md_block *block, size_t bytes)
{
    if (bytes <= block->counted_bytes) {
        return true;
    }
    size_t target =
        md_size_min(md_size_align(bytes, CHARGE_STEP), md_size_max(block->capacity, bytes));
    if (md_fault_hit(MD_FAULT_REGION) || !take_credit(block->pool, target - block->counted_bytes,
                                                      block->pool->budget->limit_bytes)) {
        return false;
    }
    block->counted_bytes = target;
    return true;
}

void md_block_discharge(struct md_block *block, size_t bytes)
{
    size_t target = md_size_align(bytes, CHARGE_STEP);

    if (block->size_class >= LAZY_CLASS && target < block->counted_bytes) {
        give_credit(block->pool, block->counted_bytes - target);
        block->counted_bytes = target;
    }
}

/* `beyond`: what may be counted above the limit. */
static struct md_block *alloc(struct md_pool *pool, size_t bytes, size_t lazily_counted,
                              size_t beyond, bool *over_budget)
{
    uint32_t size_class = class_of(bytes);
    size_t capacity = bytes;

    if (MD_UNLIKELY(!is_owner(pool))) {
        atomic_store_explicit(&pool->owner, &thread_identity, memory_order_relaxed);
    }
    collect_handed_back(pool);
    *over_budget = false;
    if (md_fault_hit(MD_FAULT_REGION)) {
        return NULL;
    }
    /* small blocks count with their real size, large ones with what is asked: untouched pages cost
     * nothing */
    if (size_class < CLASS_COUNT) {
        capacity = (size_t)1 << (CLASS_SHIFT + 2 * size_class);
    }
    size_t counted = size_class < LAZY_CLASS ? capacity : lazily_counted;
    if (!take_credit(pool, counted, pool->budget->limit_bytes + beyond)) {
        *over_budget = true;
        return NULL;
    }
    struct md_block *block = size_class < CLASS_COUNT ? pool->free[size_class] : NULL;
    if (MD_LIKELY(block != NULL)) {
        pool->free[size_class] = block->next;
        pool->cached_bytes -= capacity;
    } else {
        block = heap_block(pool, size_class, capacity);
        if (!block) {
            give_credit(pool, counted);
            return NULL;
        }
    }
    block->counted_bytes = counted;
    atomic_init(&block->refs, 1);
    return block;
}

static size_t eighth(const struct md_pool *pool)
{
    return pool->budget->limit_bytes / 8;
}

struct md_block *md_pool_alloc_lazy(struct md_pool *pool, size_t bytes, size_t lazily_counted,
                                    bool *over_budget)
{
    return alloc(pool, bytes, lazily_counted, class_of(bytes) == 0 ? eighth(pool) : 0, over_budget);
}

struct md_block *md_pool_alloc(struct md_pool *pool, size_t bytes, bool *over_budget)
{
    return md_pool_alloc_lazy(pool, bytes, bytes, over_budget);
}

struct md_block *md_pool_alloc_urgent(struct md_pool *pool, size_t bytes, bool *over_budget)
{
    return alloc(pool, bytes, bytes, eighth(pool), over_budget);
}

bool md_pool_count(struct md_pool *pool, size_t bytes)
{
    return !md_fault_hit(MD_FAULT_REGION) &&
           take_credit(pool, bytes, pool->budget->limit_bytes + eighth(pool));
}

void md_pool_uncount(struct md_pool *pool, size_t bytes)
{
    give_credit(pool, bytes);
}

struct md_block *md_block_create(struct md_budget *budget, size_t bytes, bool *over_budget)
{
    *over_budget = !md_budget_take(budget, bytes);
    if (*over_budget) {
        return NULL;
    }
    struct md_block *block = heap_block(NULL, class_of(bytes), bytes);
    if (!block) {
        md_budget_give(budget, bytes);
        return NULL;
    }
    block->budget = budget;
    block->counted_bytes = bytes;
    atomic_init(&block->refs, 1);
    return block;
}

void md_block_ref(struct md_block *block)
{
    /* relaxed: the caller holds a reference already */
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

/* By another thread than the owner, which may not look for a long time: so the block is counted no
 * longer at once, and waits for the owner only while little does. */
static void hand_back(struct md_pool *pool, struct md_block *block)
{
    const size_t capacity = block->capacity;

    md_budget_give(pool->budget, block->counted_bytes);
    block->counted_bytes = 0;
    /* relaxed: an estimate of what lies there */
    size_t before =
        atomic_fetch_add_explicit(&pool->handed_back_bytes, capacity, memory_order_relaxed);
    if (before + capacity > pool->cache_limit_bytes) {
        atomic_fetch_sub_explicit(&pool->handed_back_bytes, capacity, memory_order_relaxed);
        md_free(block);
        return;
    }
    struct md_block *head = atomic_load_explicit(&pool->handed_back, memory_order_relaxed);
    do {
        block->next = head;
        /* release: the owner's acquire sees block->next */
    } while (!atomic_compare_exchange_weak_explicit(&pool->handed_back, &head, block,
                                                    memory_order_release, memory_order_relaxed));
}

void md_block_unref(struct md_block *block)
{
    /* acq_rel: the last holder sees the writes of all others before the block is used again */
    if (!block || atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct md_pool *pool = block->pool;
    if (!pool) {
        md_budget_give(block->budget, block->counted_bytes);
        md_free(block);
        return;
    }
    if (is_owner(pool)) {
        block_retire(pool, block);
    } else {
        hand_back(pool, block);
    }
}

void md_pool_trim(struct md_pool *pool, size_t keep_bytes)
{
    collect_handed_back(pool);
    for (uint32_t size_class = CLASS_COUNT; size_class-- > 0;) {
        while (pool->free[size_class] && pool->cached_bytes > keep_bytes) {
            struct md_block *block = pool->free[size_class];
            pool->free[size_class] = block->next;
            pool->cached_bytes -= block->capacity;
            md_free(block);
        }
    }
    md_budget_give(pool->budget, pool->credit_bytes);
    pool->credit_bytes = 0;
}

struct md_budget *md_pool_budget(struct md_pool *pool)
{
    return pool->budget;
}

size_t md_pool_limit_bytes(const struct md_pool *pool)
{
    return pool->budget->limit_bytes;
}

bool md_pool_is_crowded(const struct md_pool *pool)
{
    /* relaxed: an estimate */
    size_t used = atomic_load_explicit(&pool->budget->used_bytes, memory_order_relaxed);

    return used > pool->budget->limit_bytes + eighth(pool) / 2;
}

size_t md_pool_stall(struct md_pool *pool, size_t bytes)
{
    /* relaxed: of two that begin to wait the later one sees the other */
    return atomic_fetch_add_explicit(&pool->budget->stalled_bytes, bytes, memory_order_relaxed);
}

void md_pool_unstall(struct md_pool *pool, size_t bytes)
{
    atomic_fetch_sub_explicit(&pool->budget->stalled_bytes, bytes, memory_order_relaxed);
}

size_t md_pool_cached_bytes(const struct md_pool *pool)
{
    return pool->cached_bytes;
}

void md_pool_destroy(struct md_pool *pool)
{
    if (pool) {
        md_pool_trim(pool, 0);
        md_free(pool);
    }
}
