/*
 * Base64 (RFC 4648, section 4: the standard alphabet with padding, no line breaks). No state; any
 * thread.
 */
#ifndef MD_CODEC_BASE64_H
#define MD_CODEC_BASE64_H

#include "base/bytes.h"
#include "base/error.h"

void md_base64_encode(struct md_str data, struct md_bytes *out); /* out->failed tells */

/* Strict: whole groups, padding only at the end, unused bits zero. MALFORMED names the place;
 * OUT_OF_MEMORY or TOO_LARGE (beyond out->max) when out cannot grow. */
bool md_base64_decode(struct md_str text, struct md_bytes *out, struct md_error *err) MD_MUST_CHECK;

#endif
