/*
 * Path templates, matched segment by segment; no copy unless something is captured.
 */
#include "http/router.h"

static bool decode(struct md_arena *arena, struct md_str raw, struct md_str *out)
{
    char *text = md_arena_alloc(arena, raw.len + 1);
    size_t len = 0;

    for (size_t i = 0; text && i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '%') {
            int high = i + 2 < raw.len ? md_hex_digit(raw.ptr[i + 1]) : -1;
            int low = i + 2 < raw.len ? md_hex_digit(raw.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        text[len++] = c;
    }
    if (!text || len == 0) {
        return false;
    }
    text[len] = '\0';
    *out = md_str_make(text, len);
    return true;
}

/* Captures are noted raw here and decoded only for the route that matches. */
static bool match(const char *template, struct md_str path,
                  struct md_str captures[MD_HTTP_CAPTURES_MAX])
{
    const char *at = path.ptr, *end = path.ptr + path.len;

    for (; *template; template ++) {
        if (*template != '{') {
            if (at == end || *at++ != *template) {
                return false;
            }
            continue;
        }
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const char *stop = slash ? slash : end;
        if (stop == at) {
            return false;
        }
        captures[template[1] - '0'] = md_str_make(at, (size_t)(stop - at));
        at = stop;
        template += 2;
    }
    return at == end;
}

static unsigned method_bit(enum md_http_method method)
{
    return method == MD_HTTP_GET || method == MD_HTTP_HEAD ? MD_ROUTE_GET
           : method == MD_HTTP_POST                        ? MD_ROUTE_POST
                                                           : 0;
}

static const char *list_methods(unsigned methods)
{
    return methods == MD_ROUTE_GET    ? "GET, HEAD"
           : methods == MD_ROUTE_POST ? "POST"
                                      : "GET, HEAD, POST";
}

enum md_route_match md_router_match(const struct md_route *routes, size_t count,
                                    struct md_exchange *x)
{
    unsigned methods = 0;

    memset(x->captures, 0, sizeof x->captures);
    for (size_t i = 0; i < count; i++) {
        struct md_str raw[MD_HTTP_CAPTURES_MAX] = {0};
        bool ok = true;
        if (!match(routes[i].path, x->head.path, raw)) {
            continue;
        }
        if (!(routes[i].methods & method_bit(x->head.method))) {
            methods |= routes[i].methods;
            continue;
        }
        for (int k = 0; k < MD_HTTP_CAPTURES_MAX; k++) {
            ok = ok && (!raw[k].ptr || decode(&x->arena, raw[k], &x->captures[k]));
        }
        if (!ok) {
            continue;
        }
        x->handler = routes[i].handler;
        x->route_data = routes[i].data;
        return MD_ROUTE_FOUND;
    }
    if (!methods) {
        return MD_ROUTE_NOT_FOUND;
    }
    x->allow = list_methods(methods);
    return MD_ROUTE_WRONG_METHOD;
}
