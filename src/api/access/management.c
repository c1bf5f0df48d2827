/*
 * By the peer's address, as the session knows it. A page in a browser of this machine reaches
 * loopback addresses too, but its requests say where they come from.
 */
#include "api/access/management.h"

static bool is_on_this_machine(const char *peer)
{
    static const char *const beginnings[] = {"unix:", "127.", "[::1]:", "[::ffff:127."};

    for (size_t i = 0; i < MD_COUNT_OF(beginnings); i++) {
        if (md_str_starts_with(md_str_of(peer), md_str_of(beginnings[i]))) {
            return true;
        }
    }
    return false;
}

static bool is_from_a_page(const struct md_exchange *x)
{
    struct md_str site = md_exchange_header(x, "Sec-Fetch-Site");

    return md_exchange_header(x, "Origin").ptr || (site.ptr && !md_str_eq_c(site, "none"));
}

bool md_management_allows(const struct md_options *options, const struct md_exchange *x,
                          struct md_error *err)
{
    return strcmp(options->management, "open") == 0 ||
           (is_on_this_machine(x->peer) && !is_from_a_page(x)) ||
           md_error_set(err, MD_REASON_RESTRICTED,
                        "This API changes the server and is restricted to programs on its machine; "
                        "start it with --management=open to open it");
}
