/*
 * Shared libraries. Any thread.
 */
#ifndef MD_OS_LIBRARY_H
#define MD_OS_LIBRARY_H

#include "base/error.h"

/* Loads with all symbols resolved and visible to nobody else. */
bool md_os_library_open(const char *path, void **library, struct md_error *err) MD_MUST_CHECK;
/* Address of a symbol, or NULL. */
void *md_os_library_symbol(void *library, const char *name);
void md_os_library_close(void *library);

#endif
