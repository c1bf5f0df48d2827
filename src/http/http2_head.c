/*
 * Two tables: the pseudo-header fields, and the fields that mean something to the session.
 */
#include "http/http2_head.h"

#include "base/alloc.h"
#include "http/http1.h"
#include "http/http1_chars.h"

#include <stddef.h>

/* --- pseudo-header fields -------------------- */

struct pseudo {
    struct md_str method, scheme, authority, path;
};

static const struct {
    struct md_str name;
    size_t offset;
} pseudo_table[] = {
    {MD_STR(":method"), offsetof(struct pseudo, method)},
    {MD_STR(":scheme"), offsetof(struct pseudo, scheme)},
    {MD_STR(":path"), offsetof(struct pseudo, path)},
    {MD_STR(":authority"), offsetof(struct pseudo, authority)},
};

static bool take_pseudo(const struct md_http_header *field, struct pseudo *out)
{
    for (size_t i = 0; i < MD_COUNT_OF(pseudo_table); i++) {
        if (md_str_eq(field->name, pseudo_table[i].name)) {
            struct md_str *to = (struct md_str *)(void *)((char *)out + pseudo_table[i].offset);
            if (to->ptr) {
                return false;
            }
            *to = field->value;
            return true;
        }
    }
    return false;
}

static bool is_clean_path(struct md_str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] <= ' ' || path.ptr[i] == 0x7f) {
            return false;
        }
    }
    return path.len && (path.ptr[0] == '/' || md_str_eq(path, MD_STR("*")));
}

static bool take_target(const struct pseudo *pseudo, struct md_http2_request *out)
{
    out->head.method_name = pseudo->method;
    out->head.method = md_http_method_of(pseudo->method);
    if (md_str_eq(pseudo->method, MD_STR("CONNECT"))) { /* 8.5: to an authority alone */
        out->head.path = MD_STR("*");
        return pseudo->authority.len && !pseudo->path.ptr && !pseudo->scheme.ptr;
    }
    if (!pseudo->method.len || !pseudo->scheme.len || !is_clean_path(pseudo->path)) {
        return false;
    }
    struct md_str rest = pseudo->path;
    ptrdiff_t mark = md_str_find(rest, '?');
    out->head.path = md_str_make(rest.ptr, mark < 0 ? rest.len : (size_t)mark);
    out->head.query =
        mark < 0 ? MD_STR("") : md_str_make(rest.ptr + mark + 1, rest.len - (size_t)mark - 1);
    return true;
}

/* --- fields -------------------- */

/* 8.2: names are tokens in lower case, values have no line ends. libnghttp2 passes on all bytes. */
static bool is_clean(const struct md_http_header *field)
{
    if (!field->name.len) {
        return false;
    }
    for (size_t i = 0; i < field->name.len; i++) {
        char c = field->name.ptr[i];
        if (!md_http1_is_token(c) || (c >= 'A' && c <= 'Z')) {
            return false;
        }
    }
    for (size_t i = 0; i < field->value.len; i++) {
        if (!md_http1_is_text(field->value.ptr[i])) {
            return false;
        }
    }
    return true;
}

static bool is_of_connection(const struct md_http_header *field)
{
    static const struct md_str names[] = {MD_STR("connection"), MD_STR("keep-alive"),
                                          MD_STR("proxy-connection"), MD_STR("upgrade"),
                                          MD_STR("transfer-encoding")};

    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        if (md_str_eq(field->name, names[i])) {
            return true;
        }
    }
    return md_str_eq(field->name, MD_STR("te")) && !md_str_eq(field->value, MD_STR("trailers"));
}

static bool take_length(const struct md_http_header *field, struct md_http2_request *out)
{
    uint64_t length;

    if (!md_str_to_u64(field->value, &length) || length > INT64_MAX ||
        (out->head.content_length >= 0 && out->head.content_length != (int64_t)length)) {
        return false;
    }
    out->head.content_length = (int64_t)length;
    return true;
}

static bool is_grpc_type(struct md_str type)
{
    const struct md_str grpc = MD_STR("application/grpc");

    return md_str_starts_with(type, grpc) &&
           (type.len == grpc.len || type.ptr[grpc.len] == '+' || type.ptr[grpc.len] == ';');
}

/* Fields whose values are views of the request. */
static const struct {
    struct md_str name;
    size_t offset;
} kept_table[] = {
    {MD_STR("content-encoding"), offsetof(struct md_http2_request, content_encoding)},
    {MD_STR("accept-encoding"), offsetof(struct md_http2_request, accept_encoding)},
    {MD_STR("origin"), offsetof(struct md_http2_request, origin)},
    {MD_STR("grpc-encoding"), offsetof(struct md_http2_request, grpc_encoding)},
    {MD_STR("grpc-accept-encoding"), offsetof(struct md_http2_request, grpc_accept_encoding)},
    {MD_STR("grpc-timeout"), offsetof(struct md_http2_request, grpc_timeout)},
};

static bool take_field(const struct md_http_header *field, struct md_http2_request *out)
{
    if (!is_clean(field) || is_of_connection(field)) {
        return false;
    }
    if (md_str_eq(field->name, MD_STR("content-length"))) {
        return take_length(field, out);
    }
    if (md_str_eq(field->name, MD_STR("content-type"))) {
        out->is_grpc = out->head.method == MD_HTTP_POST && is_grpc_type(field->value);
    } else if (md_str_eq(field->name, MD_STR("expect"))) {
        out->expects_continue = md_str_eq_nocase(field->value, MD_STR("100-continue"));
    } else if (md_str_eq(field->name, MD_STR("access-control-request-method"))) {
        out->is_preflight = true;
    }
    for (size_t i = 0; i < MD_COUNT_OF(kept_table); i++) {
        if (md_str_eq(field->name, kept_table[i].name)) {
            *(struct md_str *)(void *)((char *)out + kept_table[i].offset) =
                md_str_trim(field->value);
            break;
        }
    }
    return true;
}

bool md_http2_parse_head(const struct md_http_header *fields, size_t count, bool ends,
                         struct md_http2_request *out)
{
    struct pseudo pseudo = {0};
    size_t at = 0;

    *out = (struct md_http2_request){.head = {.method = MD_HTTP_OTHER, .content_length = -1}};
    for (; at < count && fields[at].name.len && fields[at].name.ptr[0] == ':'; at++) {
        if (!take_pseudo(&fields[at], &pseudo)) {
            return false;
        }
    }
    if (!take_target(&pseudo, out)) {
        return false;
    }
    out->head.headers = fields + at;
    out->head.header_count = count - at;
    for (; at < count; at++) {
        if (!take_field(&fields[at], out)) {
            return false;
        }
    }
    out->head.has_body = !ends;
    return !ends || out->head.content_length <= 0;
}

bool md_http2_check_trailers(const struct md_http_header *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_clean(&fields[i]) || is_of_connection(&fields[i])) {
            return false;
        }
    }
    return true;
}

/* --- shared heads -------------------- */

/* Skips an integer (RFC 7541 5.1) whose prefix has `bits` bits; false: it is cut off or too long.
 */
static bool skip_integer(struct md_str *block, unsigned bits, size_t *value)
{
    const size_t most = ((size_t)1 << bits) - 1;
    size_t at = 1;

    *value = (unsigned char)block->ptr[0] & most;
    if (*value == most) {
        unsigned shift = 0;
        do {
            if (at == block->len || shift > 14) {
                return false;
            }
            *value += ((size_t)(unsigned char)block->ptr[at] & 0x7f) << shift;
            shift += 7;
        } while (block->ptr[at++] & 0x80);
    }
    *block = md_str_make(block->ptr + at, block->len - at);
    return true;
}

static bool skip_string(struct md_str *block)
{
    size_t len;

    if (block->len == 0 || !skip_integer(block, 7, &len) || len > block->len) {
        return false;
    }
    *block = md_str_make(block->ptr + len, block->len - len);
    return true;
}

bool md_http2_block_is_stable(struct md_str block)
{
    size_t index;

    while (block.len) {
        const unsigned char first = (unsigned char)block.ptr[0];
        if (first & 0x80) { /* an entry of a table */
            if (!skip_integer(&block, 7, &index)) {
                return false;
            }
            continue;
        }
        /* 01: into the table; 001: the table's size; else a literal that no table keeps */
        if ((first & 0xe0) || !skip_integer(&block, 4, &index) ||
            (index == 0 && !skip_string(&block)) || !skip_string(&block)) {
            return false;
        }
    }
    return true;
}

static struct md_str put_text(char **at, struct md_str text)
{
    char *begin = *at;

    if (text.len) {
        memcpy(begin, text.ptr, text.len);
    }
    begin[text.len] = '\0';
    *at += text.len + 1;
    return md_str_make(begin, text.len);
}

struct md_http2_head *md_http2_head_create(struct md_str block, bool ends,
                                           const struct md_http_header *fields, size_t count)
{
    size_t bytes = sizeof(struct md_http2_head) + count * sizeof *fields + block.len + 1;

    for (size_t i = 0; i < count; i++) {
        bytes += fields[i].name.len + 1 + fields[i].value.len + 1;
    }
    struct md_http2_head *head = md_alloc(bytes);
    if (!head) {
        return NULL;
    }
    struct md_http_header *copies = (struct md_http_header *)(head + 1);
    char *at = (char *)(copies + count);
    for (size_t i = 0; i < count; i++) {
        copies[i].name = put_text(&at, fields[i].name);
        copies[i].value = put_text(&at, fields[i].value);
    }
    head->refs = 1;
    head->ends = ends;
    head->block = put_text(&at, block);
    if (!md_http2_parse_head(copies, count, ends, &head->request)) {
        md_free(head);
        return NULL;
    }
    return head;
}

void md_http2_head_unref(struct md_http2_head *head)
{
    if (head && --head->refs == 0) {
        md_free(head);
    }
}
