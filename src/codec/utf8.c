/*
 * UTF-8 by the table of well-formed byte sequences (Unicode 3.9, table 3-7).
 */
#include "codec/utf8.h"

static bool is_tail(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t md_utf8_width(struct md_str text)
{
    const unsigned char *s = (const unsigned char *)text.ptr;

    if (text.len == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    if (s[0] >= 0xc2 && s[0] <= 0xdf) {
        return text.len >= 2 && is_tail(s[1]) ? 2 : 0;
    }
    if (s[0] >= 0xe0 && s[0] <= 0xef) {
        unsigned char low = s[0] == 0xe0 ? 0xa0 : 0x80, high = s[0] == 0xed ? 0x9f : 0xbf;
        return text.len >= 3 && s[1] >= low && s[1] <= high && is_tail(s[2]) ? 3 : 0;
    }
    if (s[0] >= 0xf0 && s[0] <= 0xf4) {
        unsigned char low = s[0] == 0xf0 ? 0x90 : 0x80, high = s[0] == 0xf4 ? 0x8f : 0xbf;
        return text.len >= 4 && s[1] >= low && s[1] <= high && is_tail(s[2]) && is_tail(s[3]) ? 4
                                                                                              : 0;
    }
    return 0;
}

bool md_utf8_is_valid(struct md_str text)
{
    while (text.len) {
        uint64_t eight;
        if (text.len >= sizeof eight) { /* mostly ASCII */
            memcpy(&eight, text.ptr, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                text = md_str_make(text.ptr + sizeof eight, text.len - sizeof eight);
                continue;
            }
        }
        if ((unsigned char)*text.ptr < 0x80) {
            text = md_str_make(text.ptr + 1, text.len - 1);
            continue;
        }
        size_t width = md_utf8_width(text);
        if (!width) {
            return false;
        }
        text = md_str_make(text.ptr + width, text.len - width);
    }
    return true;
}
