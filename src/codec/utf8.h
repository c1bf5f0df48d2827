/*
 * UTF-8 validity (RFC 3629). No state; any thread.
 */
#ifndef MD_CODEC_UTF8_H
#define MD_CODEC_UTF8_H

#include "base/str.h"

/* Bytes of the well-formed character that text begins with; 0 if it begins with none. */
size_t md_utf8_width(struct md_str text);
bool md_utf8_is_valid(struct md_str text);

#endif
