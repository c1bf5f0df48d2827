/*
 * Base64 by tables, a group of four characters at a time.
 */
#include "codec/base64.h"

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Six bits of a character; negative: none of the alphabet. */
static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

void md_base64_encode(struct md_str data, struct md_bytes *out)
{
    const unsigned char *in = (const unsigned char *)data.ptr;

    if (data.len > SIZE_MAX / 2 || !md_bytes_reserve(out, (data.len + 2) / 3 * 4)) {
        out->failed = true;
        return;
    }
    if (data.len == 0) {
        return; /* perhaps there is no memory to point into */
    }
    char *at = out->data + out->len;
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        uint32_t group = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                         (left > 2 ? in[i + 2] : 0);
        *at++ = alphabet[group >> 18];
        *at++ = alphabet[group >> 12 & 63];
        *at++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *at++ = left > 2 ? alphabet[group & 63] : '=';
    }
    out->len = (size_t)(at - out->data);
}

/* Decodes four characters of which `pads` are padding; false when they are no group. */
static bool decode_group(const char *text, size_t pads, unsigned char *out)
{
    uint32_t group = 0;

    for (size_t i = 0; i < 4; i++) {
        int value = i < 4 - pads ? value_of(text[i]) : 0;
        if (value < 0) {
            return false;
        }
        group = group << 6 | (uint32_t)value;
    }
    out[0] = (unsigned char)(group >> 16);
    out[1] = (unsigned char)(group >> 8);
    out[2] = (unsigned char)group;
    return pads == 0 || (group & (pads == 1 ? 0xff : 0xffff)) == 0;
}

bool md_base64_decode(struct md_str text, struct md_bytes *out, struct md_error *err)
{
    if (text.len % 4) {
        return md_error_set(err, MD_REASON_MALFORMED,
                            "base64 text of %zu characters: not a multiple of 4", text.len);
    }
    size_t room = text.len / 4 * 3;
    if (!md_bytes_reserve(out, room)) {
        bool too_large = out->max && out->len + room > out->max;
        return too_large ? md_error_set(err, MD_REASON_TOO_LARGE,
                                        "base64 text says more than %zu bytes", out->max)
                         : md_error_no_memory(err, "base64 data");
    }
    for (size_t i = 0; i < text.len; i += 4) {
        const char *group = text.ptr + i;
        size_t pads = i + 4 < text.len || group[3] != '=' ? 0 : group[2] == '=' ? 2 : 1;
        unsigned char decoded[3];
        if (!decode_group(group, pads, decoded)) {
            return md_error_set(err, MD_REASON_MALFORMED, "invalid base64 text at byte %zu", i);
        }
        memcpy(out->data + out->len, decoded, 3);
        out->len += 3 - pads;
    }
    return true;
}
