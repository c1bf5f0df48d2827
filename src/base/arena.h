/*
 * Arena: memory that is freed in one step.
 *
 * Owned by one thread at a time (a request's: its home loop). Allocation is a pointer bump; chunks
 * come from the heap and the first one is kept over resets, so a steady request path allocates
 * nothing. A failed allocation is remembered: build the whole thing, then ask md_arena_failed once.
 * Cleanup handlers run newest first at reset.
 */
#ifndef MD_BASE_ARENA_H
#define MD_BASE_ARENA_H

#include "base/str.h"

struct md_arena_chunk;

struct md_arena_cleanup {
    struct md_arena_cleanup *next;
    void (*run)(void *arg);
    void *arg;
};

struct md_arena {
    char *at;                          /* next free byte of the newest chunk */
    char *end;                         /* its end */
    struct md_arena_chunk *chunks;     /* own, newest first */
    struct md_arena_cleanup *cleanups; /* newest first */
    size_t chunk_bytes;                /* size of an ordinary chunk */
    bool failed;
};

/* A zeroed arena is valid too (chunks of 4 KiB). No memory is taken before the first allocation. */
void md_arena_init(struct md_arena *arena, size_t chunk_bytes);

/* Runs the cleanups and forgets everything; keeps one ordinary chunk. */
void md_arena_reset(struct md_arena *arena);

/* Runs the cleanups and frees everything; leaves a zeroed arena. */
void md_arena_deinit(struct md_arena *arena);

/* For owners of many arenas that are mostly empty: takes the kept chunk out of an arena that was
 * reset (NULL: it has none), and gives one of the same size to an arena without memory. */
struct md_arena_chunk *md_arena_take_chunk(struct md_arena *arena);
void md_arena_give_chunk(struct md_arena *arena, struct md_arena_chunk *chunk);
/* Chunks that were taken are linked through this, and freed one by one. */
struct md_arena_chunk **md_arena_chunk_link(struct md_arena_chunk *chunk);
void md_arena_chunk_free(struct md_arena_chunk *chunk);

/* Uninitialised memory aligned to 16 bytes; NULL when out of memory (and md_arena_failed is true
 * from then on). */
void *md_arena_alloc(struct md_arena *arena, size_t size) MD_MUST_CHECK;
void *md_arena_calloc(struct md_arena *arena, size_t count, size_t size) MD_MUST_CHECK;

/* Copies; the copy is terminated with a zero byte. On failure an empty view with NULL pointer. */
struct md_str md_arena_copy(struct md_arena *arena, struct md_str s);
char *md_arena_strdup(struct md_arena *arena, const char *text) MD_MUST_CHECK;
char *md_arena_printf(struct md_arena *arena, const char *format, ...) MD_PRINTF(2, 3)
    MD_MUST_CHECK;

/* Calls run(arg) when the arena is reset. False when out of memory; then run was not registered. */
bool md_arena_on_reset(struct md_arena *arena, void (*run)(void *arg), void *arg) MD_MUST_CHECK;

static inline bool md_arena_failed(const struct md_arena *arena)
{
    return arena->failed;
}

#endif
