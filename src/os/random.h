/*
 * Random bytes that nobody can guess. Any thread.
 */
#ifndef MD_OS_RANDOM_H
#define MD_OS_RANDOM_H

#include "base/compiler.h"

void md_os_random(void *out, size_t bytes);

#endif
