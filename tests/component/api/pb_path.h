/*
 * Fields of protobuf messages by path, for tests: "4[1].3" is field 3 of the second field 4.
 */
#ifndef TESTS_COMPONENT_API_PB_PATH_H
#define TESTS_COMPONENT_API_PB_PATH_H

#include "codec/protobuf.h"

#include <stdlib.h>

/* The index-th field of that number, or false. */
static inline bool pb_field(struct md_str message, unsigned long number, unsigned long index,
                            struct md_pb_field *out)
{
    struct md_pb_reader reader = md_pb_reader_of(message);

    while (md_pb_next(&reader, out)) {
        if (out->tag >> 3 == number && index-- == 0) {
            return true;
        }
    }
    if (reader.failed) {
        abort();
    }
    return false;
}

static inline bool pb_find(struct md_str message, const char *path, struct md_pb_field *out)
{
    char *end = (char *)(uintptr_t)path;
    bool found = true;

    while (found && *end) {
        unsigned long index = 0, number = strtoul(end + (*end == '.'), &end, 10);
        if (*end == '[') {
            index = strtoul(end + 1, &end, 10);
            end++;
        }
        found = pb_field(message, number, index, out);
        message = out->bytes;
    }
    return found;
}

/* Text of a field; "" if it is not there. */
static inline struct md_str pb_text(struct md_str message, const char *path)
{
    struct md_pb_field field;

    return pb_find(message, path, &field) ? field.bytes : MD_STR("");
}

/* A number, 0 if it is not there. */
static inline uint64_t pb_number(struct md_str message, const char *path)
{
    struct md_pb_field field;

    return pb_find(message, path, &field) ? field.value : 0;
}

static inline size_t pb_count(struct md_str message, unsigned long number)
{
    struct md_pb_field field;
    size_t count = 0;

    while (pb_field(message, number, count, &field)) {
        count++;
    }
    return count;
}

#endif
