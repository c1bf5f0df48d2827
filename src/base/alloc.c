/*
 * Thin layer over the C library's allocator with the fault switch.
 */
#include "base/alloc.h"

#include "base/fault.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *md_alloc(size_t size)
{
    if (md_fault_hit(MD_FAULT_ALLOC)) {
        return NULL;
    }
    return malloc(size ? size : 1);
}

void *md_calloc(size_t count, size_t size)
{
    size_t total;

    if (!md_size_mul(count, size, &total) || md_fault_hit(MD_FAULT_ALLOC)) {
        return NULL;
    }
    return calloc(total ? total : 1, 1);
}

void *md_realloc(void *ptr, size_t size)
{
    if (md_fault_hit(MD_FAULT_ALLOC)) {
        return NULL;
    }
    return realloc(ptr, size ? size : 1);
}

void *md_alloc_aligned(size_t alignment, size_t size)
{
    if (size > SIZE_MAX - alignment || md_fault_hit(MD_FAULT_ALLOC)) {
        return NULL;
    }
    /* Not aligned_alloc(), which os/memory.h has for engines: a body that never comes whole, in a
     * block for all of it, is to take what came and no huge page. */
    return memalign(alignment, md_size_align(size ? size : 1, alignment));
}

char *md_strndup(const char *text, size_t len)
{
    char *copy = md_alloc(len + 1);

    if (copy) {
        memcpy(copy, text, len);
        copy[len] = '\0';
    }
    return copy;
}

char *md_strdup(const char *text)
{
    return md_strndup(text, strlen(text));
}

void md_free(void *ptr)
{
    free(ptr);
}
