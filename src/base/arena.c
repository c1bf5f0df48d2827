/*
 * Bump allocation in chunks. Requests larger than a chunk get a chunk of their own, linked behind
 * the current one, so that the rest of the current chunk stays usable.
 */
#include "base/arena.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>

struct md_arena_chunk {
    struct md_arena_chunk *next;
    size_t bytes; /* usable bytes after this header */
};

enum { ARENA_ALIGN = 16, ARENA_DEFAULT_CHUNK = 4096 };
_Static_assert(sizeof(struct md_arena_chunk) % ARENA_ALIGN == 0, "chunk data must be aligned");

void md_arena_init(struct md_arena *arena, size_t chunk_bytes)
{
    *arena = (struct md_arena){.chunk_bytes = md_size_align(chunk_bytes, ARENA_ALIGN)};
}

static char *chunk_data(struct md_arena_chunk *chunk)
{
    return (char *)(chunk + 1);
}

static struct md_arena_chunk *chunk_create(struct md_arena *arena, size_t bytes)
{
    size_t total;
    struct md_arena_chunk *chunk = NULL;

    if (md_size_add(bytes, sizeof *chunk, &total)) {
        chunk = md_alloc(total);
    }
    if (!chunk) {
        arena->failed = true;
        return NULL;
    }
    chunk->bytes = bytes;
    return chunk;
}

static void *alloc_slow(struct md_arena *arena, size_t size)
{
    size_t ordinary = arena->chunk_bytes ? arena->chunk_bytes : ARENA_DEFAULT_CHUNK;
    bool large = size > ordinary / 2;
    struct md_arena_chunk *chunk = chunk_create(arena, large ? size : ordinary);

    if (!chunk) {
        return NULL;
    }
    if (large && arena->chunks) {
        chunk->next = arena->chunks->next;
        arena->chunks->next = chunk;
        return chunk_data(chunk);
    }
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    arena->at = chunk_data(chunk) + size;
    arena->end = chunk_data(chunk) + chunk->bytes;
    return chunk_data(chunk);
}

void *md_arena_alloc(struct md_arena *arena, size_t size)
{
    if (MD_UNLIKELY(size > SIZE_MAX / 2)) {
        arena->failed = true;
        return NULL;
    }
    size = md_size_align(size ? size : 1, ARENA_ALIGN);
    if (MD_LIKELY(size <= (size_t)(arena->end - arena->at))) {
        void *ptr = arena->at;
        arena->at += size;
        return ptr;
    }
    return alloc_slow(arena, size);
}

void *md_arena_calloc(struct md_arena *arena, size_t count, size_t size)
{
    size_t total;

    if (!md_size_mul(count, size, &total)) {
        arena->failed = true;
        return NULL;
    }
    void *ptr = md_arena_alloc(arena, total);
    if (ptr) {
        memset(ptr, 0, total);
    }
    return ptr;
}

struct md_str md_arena_copy(struct md_arena *arena, struct md_str s)
{
    char *copy = md_arena_alloc(arena, s.len + 1);

    if (!copy) {
        return (struct md_str){NULL, 0};
    }
    if (s.len) {
        memcpy(copy, s.ptr, s.len);
    }
    copy[s.len] = '\0';
    return md_str_make(copy, s.len);
}

char *md_arena_strdup(struct md_arena *arena, const char *text)
{
    return (char *)(uintptr_t)md_arena_copy(arena, md_str_of(text)).ptr;
}

char *md_arena_printf(struct md_arena *arena, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : md_arena_alloc(arena, (size_t)len + 1);
    if (!text) {
        return NULL;
    }
    va_start(args, format);
    (void)vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return text;
}

bool md_arena_on_reset(struct md_arena *arena, void (*run)(void *arg), void *arg)
{
    struct md_arena_cleanup *cleanup = md_arena_alloc(arena, sizeof *cleanup);

    if (!cleanup) {
        return false;
    }
    *cleanup = (struct md_arena_cleanup){.next = arena->cleanups, .run = run, .arg = arg};
    arena->cleanups = cleanup;
    return true;
}

static void run_cleanups(struct md_arena *arena)
{
    while (arena->cleanups) {
        struct md_arena_cleanup *cleanup = arena->cleanups;
        arena->cleanups = cleanup->next;
        cleanup->run(cleanup->arg);
    }
}

static void bump_in(struct md_arena *arena, struct md_arena_chunk *chunk)
{
    arena->chunks = chunk;
    chunk->next = NULL;
    arena->at = chunk_data(chunk);
    arena->end = arena->at + chunk->bytes;
}

struct md_arena_chunk *md_arena_take_chunk(struct md_arena *arena)
{
    struct md_arena_chunk *chunk = arena->chunks;

    arena->chunks = NULL;
    arena->at = arena->end = NULL;
    return chunk;
}

void md_arena_give_chunk(struct md_arena *arena, struct md_arena_chunk *chunk)
{
    bump_in(arena, chunk);
}

struct md_arena_chunk **md_arena_chunk_link(struct md_arena_chunk *chunk)
{
    return &chunk->next;
}

void md_arena_chunk_free(struct md_arena_chunk *chunk)
{
    md_free(chunk);
}

void md_arena_reset(struct md_arena *arena)
{
    size_t ordinary = arena->chunk_bytes ? arena->chunk_bytes : ARENA_DEFAULT_CHUNK;
    struct md_arena_chunk *kept = NULL;

    run_cleanups(arena);
    for (struct md_arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        if (!kept && chunk->bytes == ordinary) {
            kept = chunk;
        } else {
            md_free(chunk);
        }
    }
    arena->chunks = kept;
    arena->at = arena->end = NULL;
    arena->failed = false;
    if (kept) {
        bump_in(arena, kept);
    }
}

void md_arena_deinit(struct md_arena *arena)
{
    run_cleanups(arena);
    for (struct md_arena_chunk *chunk = arena->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        md_free(chunk);
    }
    *arena = (struct md_arena){0};
}
