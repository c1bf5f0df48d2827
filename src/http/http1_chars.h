/*
 * Character classes of HTTP, for http1.c and http1_chunked.c. Immutable; any thread.
 */
#ifndef MD_HTTP_HTTP1_CHARS_H
#define MD_HTTP_HTTP1_CHARS_H

#include "base/compiler.h"

/* RFC 9110 5.6.2: what names of methods and header fields are made of. */
static inline bool md_http1_is_token(char c)
{
    /* clang-format off */
    static const unsigned char table[256] = {
        [0x20] =
        0, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 1, 0, /* !"#$%&'()*+,-./ */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, /* 0-9:;<=>? */
        0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* @A-O */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, /* P-Z[\]^_ */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* `a-o */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0, /* p-z{|}~ */
    };
    /* clang-format on */

    return table[(unsigned char)c];
}

/* RFC 3986 3.2: what a host and its port are made of. */
static inline bool md_http1_is_host(char c)
{
    /* clang-format off */
    static const unsigned char table[256] = {
        [0x20] =
        0, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, /* !"#$%&'()*+,-./ */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 0, /* 0-9:;<=>? */
        0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* @A-O */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, /* P-Z[\]^_ */
        0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, /* `a-o */
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 0, /* p-z{|}~ */
    };
    /* clang-format on */

    return table[(unsigned char)c];
}

/* Field values: visible ASCII, bytes above it, space and tab. */
static inline bool md_http1_is_text(char c)
{
    unsigned char u = (unsigned char)c;

    return (u >= 0x20 && u != 0x7f) || u == '\t';
}

#endif
