/*
 * The one door to the general heap. Any thread. Every call can fail and returns NULL then.
 *
 * Tests make the Nth allocation fail through base/fault.h. A size of 0 returns a valid pointer.
 */
#ifndef MD_BASE_ALLOC_H
#define MD_BASE_ALLOC_H

#include "base/compiler.h"

void *md_alloc(size_t size) MD_MUST_CHECK;
void *md_calloc(size_t count, size_t size) MD_MUST_CHECK; /* zeroed; NULL also on overflow */
void *md_realloc(void *ptr, size_t size) MD_MUST_CHECK;   /* on NULL the old block stands */
void *md_alloc_aligned(size_t alignment, size_t size) MD_MUST_CHECK; /* alignment: a power of two */
char *md_strdup(const char *text) MD_MUST_CHECK;
char *md_strndup(const char *text, size_t len)
    MD_MUST_CHECK;       /* copies len bytes, adds the terminator */
void md_free(void *ptr); /* NULL is fine */

#endif
