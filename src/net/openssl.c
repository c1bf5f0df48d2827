/*
 * OpenSSL through os/library.
 */
#include "net/openssl.h"

#include "base/compiler.h"
#include "os/library.h"

#include <string.h>

static const char library_name[] = "libssl.so.3"; /* brings libcrypto.so.3 with it */

struct md_openssl md_openssl;

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
#define ENTRY(function) {#function, offsetof(struct md_openssl, function)},
    MD_OPENSSL_LIST(ENTRY)
#undef ENTRY
};

static bool find_functions(void *library, struct md_error *err)
{
    for (size_t i = 0; i < MD_COUNT_OF(functions); i++) {
        void *address = md_os_library_symbol(library, functions[i].name);
        if (!address) {
            return md_error_set(err, MD_REASON_IO, "%s has no %s: install OpenSSL 3.0 or later",
                                library_name, functions[i].name);
        }
        memcpy((char *)&md_openssl + functions[i].offset, &address, sizeof address);
    }
    return true;
}

bool md_openssl_load(struct md_error *err)
{
    static bool is_ready;
    void *library;

    if (is_ready) {
        return true;
    }
    if (!md_os_library_open(library_name, &library, err)) {
        md_error_prefix(err, "TLS needs OpenSSL 3 (Debian package libssl3)");
        return false;
    }
    if (!find_functions(library, err)) {
        return false;
    }
    if (!md_openssl.OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL)) {
        return md_error_no_memory(err, "OpenSSL");
    }
    is_ready = true;
    return true;
}
