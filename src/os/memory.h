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

/* Gives free heap memory back to the system; nothing while another thread does. Any thread; takes
 * milliseconds. */
void md_os_memory_trim(void);

/* The smaller of the machine's memory and this process's control group limit, in bytes. */
size_t md_os_memory_limit(void);

#endif
