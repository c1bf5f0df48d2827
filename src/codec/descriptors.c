/*
 * Walks over serialized descriptors. A name is followed part by part, so nothing recurses.
 */
#include "codec/descriptors.h"

#include "codec/protobuf.h"

/* Field numbers of descriptor.proto; all that has a name has it in field 1. */
enum { SET_FILE = 1, NAME = 1, FILE_PACKAGE = 2, FILE_DEPENDENCY = 3, FILE_SERVICE = 6 };

/* The first field of that number that holds bytes, or an empty view with NULL pointer. */
static struct md_str first_of(struct md_str message, uint32_t number)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(number, MD_PB_BYTES)) {
            return field.bytes;
        }
    }
    return (struct md_str){0};
}

/* The first message in a field of that number whose name is this one; NULL pointer: none. */
static struct md_str find_named(struct md_str message, uint32_t number, struct md_str name)
{
    struct md_pb_reader reader = md_pb_reader_of(message);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        if (field.tag == MD_PB_TAG(number, MD_PB_BYTES) &&
            md_str_eq(first_of(field.bytes, NAME), name)) {
            return field.bytes;
        }
    }
    return (struct md_str){0};
}

struct md_str md_descriptors_find_file(struct md_str set, struct md_str name)
{
    return find_named(set, SET_FILE, name);
}

/* What may stand inside a scope, by the field that holds it; files are the scope MD_SYMBOL_NONE. */
static const struct {
    enum md_symbol scope;
    uint32_t number;
    enum md_symbol kind;
} members[] = {
    {MD_SYMBOL_NONE, 4, MD_SYMBOL_MESSAGE},
    {MD_SYMBOL_NONE, 5, MD_SYMBOL_ENUM},
    {MD_SYMBOL_NONE, FILE_SERVICE, MD_SYMBOL_SERVICE},
    {MD_SYMBOL_MESSAGE, 3, MD_SYMBOL_MESSAGE},
    {MD_SYMBOL_MESSAGE, 4, MD_SYMBOL_ENUM},
    {MD_SYMBOL_SERVICE, 2, MD_SYMBOL_METHOD},
};

static enum md_symbol find_member(enum md_symbol scope, struct md_str *message, struct md_str name)
{
    for (size_t i = 0; i < MD_COUNT_OF(members); i++) {
        struct md_str member = members[i].scope == scope
                                   ? find_named(*message, members[i].number, name)
                                   : (struct md_str){0};
        if (member.ptr) {
            *message = member;
            return members[i].kind;
        }
    }
    return MD_SYMBOL_NONE;
}

/* `path` is the symbol's name without the file's package. */
static enum md_symbol find_in_file(struct md_str file, struct md_str path)
{
    enum md_symbol kind = MD_SYMBOL_NONE;
    struct md_str part;

    while (md_str_split(&path, '.', &part)) {
        kind = find_member(kind, &file, part);
        if (kind == MD_SYMBOL_NONE) {
            break;
        }
    }
    return kind;
}

enum md_symbol md_descriptors_find_symbol(struct md_str set, struct md_str symbol,
                                          struct md_str *file)
{
    struct md_pb_reader reader = md_pb_reader_of(set);
    struct md_pb_field field;

    while (md_pb_next(&reader, &field)) {
        struct md_str package = first_of(field.bytes, FILE_PACKAGE);
        size_t begin = package.len ? package.len + 1 : 0;
        if (field.tag != MD_PB_TAG(SET_FILE, MD_PB_BYTES) || symbol.len <= begin ||
            !md_str_starts_with(symbol, package) || (begin && symbol.ptr[begin - 1] != '.')) {
            continue;
        }
        enum md_symbol kind =
            find_in_file(field.bytes, md_str_make(symbol.ptr + begin, symbol.len - begin));
        if (kind != MD_SYMBOL_NONE) {
            *file = field.bytes;
            return kind;
        }
    }
    return MD_SYMBOL_NONE;
}

static bool is_among(const struct md_str *files, size_t count, struct md_str file)
{
    for (size_t i = 0; i < count; i++) {
        if (files[i].ptr == file.ptr) {
            return true;
        }
    }
    return false;
}

size_t md_descriptors_with_imports(struct md_str set, struct md_str file, struct md_str *out,
                                   size_t capacity)
{
    size_t count = 0;

    out[count++] = file;
    for (size_t i = 0; i < count; i++) {
        struct md_pb_reader reader = md_pb_reader_of(out[i]);
        struct md_pb_field field;
        while (count < capacity && md_pb_next(&reader, &field)) {
            struct md_str imported = field.tag == MD_PB_TAG(FILE_DEPENDENCY, MD_PB_BYTES)
                                         ? md_descriptors_find_file(set, field.bytes)
                                         : (struct md_str){0};
            if (imported.ptr && !is_among(out, count, imported)) {
                out[count++] = imported;
            }
        }
    }
    return count;
}

void md_descriptors_each_service(struct md_str set,
                                 void (*found)(void *arg, struct md_str package,
                                               struct md_str name),
                                 void *arg)
{
    struct md_pb_reader files = md_pb_reader_of(set);
    struct md_pb_field file, field;

    while (md_pb_next(&files, &file)) {
        struct md_pb_reader reader = md_pb_reader_of(file.bytes);
        while (file.tag == MD_PB_TAG(SET_FILE, MD_PB_BYTES) && md_pb_next(&reader, &field)) {
            if (field.tag == MD_PB_TAG(FILE_SERVICE, MD_PB_BYTES)) {
                found(arg, first_of(file.bytes, FILE_PACKAGE), first_of(field.bytes, NAME));
            }
        }
    }
}
