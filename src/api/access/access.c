/*
 * Access from the options.
 *
 * Management "unix" trusts whoever can open the socket's file, and nothing else that comes with
 * every request of a machine; a page in a browser can get there only through a proxy, and without
 * wanting to, so it is refused. A key is shown on purpose: whoever has it is let in from anywhere.
 */
#include "api/access/access.h"

#include "base/log.h"
#include "os/file.h"

#include <stdio.h>

enum management { MANAGEMENT_UNIX, MANAGEMENT_KEY, MANAGEMENT_OPEN };
enum { KEY_FILE_MAX = 4096 };

struct md_access {
    uint32_t restricted[MD_ACCESS_PROTOCOL_COUNT]; /* groups, a bit each */
    struct md_api_restriction restrictions[MD_ACCESS_PROTOCOL_COUNT][MD_API_GROUP_COUNT];
    enum management management;
    struct md_str key;
};

static const char grpc_prefix[] = "triton-grpc-protocol-";

/* --- making -------------------- */

static bool read_restrictions(struct md_access *access, enum md_access_protocol protocol,
                              const struct md_string_list *values, struct md_arena *arena,
                              struct md_error *err)
{
    struct md_api_restriction *restrictions = access->restrictions[protocol];
    const char *prefix = protocol == MD_ACCESS_GRPC ? grpc_prefix : "";

    if (!md_api_restrictions_read(values, restrictions, err)) {
        return false;
    }
    for (unsigned i = 0; i < MD_API_GROUP_COUNT; i++) {
        if (!restrictions[i].key.len) {
            continue;
        }
        restrictions[i].key =
            md_str_of(md_arena_printf(arena, "%s%.*s", prefix, MD_STR_ARG(restrictions[i].key)));
        access->restricted[protocol] |= 1U << i;
        if (!restrictions[i].key.ptr) {
            return md_error_no_memory(err, "the restricted APIs");
        }
    }
    return true;
}

static struct md_str trim_line(struct md_str text)
{
    while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r')) {
        text.len--;
    }
    return md_str_trim(text);
}

static bool read_key(const char *path, struct md_arena *arena, struct md_str *key,
                     struct md_error *err)
{
    if (!md_os_file_read(path, KEY_FILE_MAX, arena, key, err)) {
        return md_error_prefix(err, "--management-key-file");
    }
    *key = trim_line(*key);
    if (!key->len || md_str_find(*key, '\n') >= 0) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "--management-key-file: %s must hold the key on one line", path);
    }
    if (md_os_file_is_open_to_others(path)) {
        md_log(MD_LOG_WARNING,
               "--management-key-file: everybody on this machine may read or change %s: "
               "chmod o-rwx it",
               path);
    }
    return true;
}

bool md_access_create(const struct md_options *options, struct md_arena *arena,
                      const struct md_access **out, struct md_error *err)
{
    struct md_access *access = md_arena_calloc(arena, 1, sizeof *access);

    if (!access) {
        return md_error_no_memory(err, "the access rules");
    }
    access->management = strcmp(options->management, "open") == 0  ? MANAGEMENT_OPEN
                         : strcmp(options->management, "key") == 0 ? MANAGEMENT_KEY
                                                                   : MANAGEMENT_UNIX;
    *out = access;
    return read_restrictions(access, MD_ACCESS_HTTP, &options->http_restricted_api, arena, err) &&
           read_restrictions(access, MD_ACCESS_GRPC, &options->grpc_restricted_protocol, arena,
                             err) &&
           (access->management != MANAGEMENT_KEY ||
            read_key(options->management_key_file, arena, &access->key, err));
}

/* --- asking -------------------- */

/* In a time that depends on what was given alone. */
static bool is_secret(struct md_str secret, struct md_str given)
{
    unsigned char difference = secret.len != given.len;

    for (size_t i = 0; i < given.len; i++) {
        const char expected = secret.ptr[i % secret.len];
        difference |= (unsigned char)(expected ^ given.ptr[i]);
    }
    return difference == 0;
}

bool md_access_allows(const struct md_access *access, enum md_api_group group,
                      enum md_access_protocol protocol, const struct md_exchange *x,
                      struct md_error *err)
{
    if (!(access->restricted[protocol] >> group & 1)) {
        return true;
    }
    const struct md_api_restriction *restriction = &access->restrictions[protocol][group];
    struct md_str given = md_exchange_header(x, restriction->key.ptr);
    if (given.ptr && is_secret(restriction->value, given)) {
        return true;
    }
    return protocol == MD_ACCESS_GRPC
               ? md_error_set_code(err, MD_REASON_RESTRICTED, MD_CODE_UNAVAILABLE,
                                   "This protocol is restricted, expecting header '%s'",
                                   restriction->key.ptr)
               : md_error_set(err, MD_REASON_RESTRICTED,
                              "This API is restricted, expecting header '%s'",
                              restriction->key.ptr);
}

static bool shows_key(const struct md_access *access, const struct md_exchange *x)
{
    struct md_str given = md_exchange_header(x, "Authorization");
    const size_t scheme = sizeof "Bearer " - 1;

    return given.len > scheme &&
           md_str_eq_nocase(md_str_make(given.ptr, scheme), MD_STR("Bearer ")) &&
           is_secret(access->key, md_str_trim(md_str_make(given.ptr + scheme, given.len - scheme)));
}

static bool is_from_a_page(const struct md_exchange *x)
{
    struct md_str site = md_exchange_header(x, "Sec-Fetch-Site");

    return md_exchange_header(x, "Origin").ptr || (site.ptr && !md_str_eq_c(site, "none"));
}

bool md_access_may_manage(const struct md_access *access, const struct md_exchange *x,
                          struct md_error *err)
{
    switch (access->management) {
    case MANAGEMENT_OPEN:
        return true;
    case MANAGEMENT_KEY:
        return shows_key(access, x) ||
               md_error_set(err, MD_REASON_RESTRICTED,
                            "This API changes the server and is restricted: send 'Authorization: "
                            "Bearer KEY' with the key of --management-key-file");
    default:
        return (x->over_unix_socket && !is_from_a_page(x)) ||
               md_error_set(err, MD_REASON_RESTRICTED,
                            "This API changes the server and is restricted to programs that call "
                            "it over --http-unix-socket; --management=key or --management=open "
                            "opens it elsewhere");
    }
}
