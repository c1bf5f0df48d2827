/*
 * The process's heap as a whole.
 */
#ifndef MD_OS_MEMORY_H
#define MD_OS_MEMORY_H

#include <stddef.h>

/* Fixes the size from which the heap uses mappings of their own, so that a model's memory really
 * goes back to the system when it is freed. Only works before the first large allocation: first
 * thing in main. */
void md_os_memory_setup(void);

/*
 * The C library's aligned_alloc() (C11 7.22.3.1), here for the whole process: a block of 2 MiB and
 * more lies on huge pages (madvise(2), MADV_HUGEPAGE), as many as fit in it whole, where the system
 * has them. Engines keep weights in such blocks and read all of them for each request, at batch 1
 * as fast as memory gives them: 4 KiB pages cost them a tenth of their time, and more in one
 * process than in the next. No block takes more memory for it than its size, but one of which
 * little is used takes more than that: the server's own blocks are none of these (base/alloc.h).
 */
void *aligned_alloc(size_t alignment, size_t size);

/* Gives free heap memory back to the system; nothing while another thread does. Any thread; takes
 * milliseconds. */
void md_os_memory_trim(void);

/* The smaller of the machine's memory and this process's control group limit, in bytes. */
size_t md_os_memory_limit(void);

#endif
