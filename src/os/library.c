/*
 * Shared libraries over dlopen.
 */
#include "os/library.h"

#include "os/inject.h"

#include <dlfcn.h>

bool md_os_library_open(const char *path, void **library, struct md_error *err)
{
    *library = md_os_injected(EIO) ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!*library) {
        const char *why = dlerror();
        return md_error_set(err, MD_REASON_IO, "cannot load library %s: %s", path,
                            why ? why : "unknown error");
    }
    return true;
}

void *md_os_library_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

void md_os_library_close(void *library)
{
    (void)dlclose(library);
}
