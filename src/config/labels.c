/*
 * Label files: counted first, so that one array of the right size is enough.
 */
#include "config/labels.h"

#include "codec/utf8.h"

/* Takes a line off *rest, which is not empty; without its end. */
static struct md_str take_line(struct md_str *rest)
{
    const char *newline = memchr(rest->ptr, '\n', rest->len);
    size_t len = newline ? (size_t)(newline - rest->ptr) : rest->len;
    struct md_str line = md_str_make(rest->ptr, len);

    len += newline != NULL;
    rest->ptr += len;
    rest->len -= len;
    if (line.len && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    return line;
}

static bool check_line(struct md_str line, size_t number, struct md_error *err)
{
    const char *problem = NULL;

    if (number > MD_LABELS_MAX) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT, "more than %d lines", MD_LABELS_MAX);
    }
    if (line.len > MD_LABEL_BYTES_MAX) {
        problem = "is too long";
    } else if (line.len && memchr(line.ptr, 0, line.len)) {
        problem = "holds a zero byte";
    } else if (!md_utf8_is_valid(line)) {
        problem = "is not UTF-8";
    }
    return !problem ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT, "line %zu %s", number, problem);
}

bool md_labels_parse(struct md_str text, struct md_arena *arena, const struct md_str **labels,
                     size_t *count, struct md_error *err)
{
    static const struct md_str mark = {"\xef\xbb\xbf", 3};
    struct md_str rest;
    size_t lines = 0;

    if (md_str_starts_with(text, mark)) {
        text = md_str_make(text.ptr + mark.len, text.len - mark.len);
    }
    for (rest = text; rest.len; lines++) {
        if (!check_line(take_line(&rest), lines + 1, err)) {
            return false;
        }
    }
    struct md_str *items = md_arena_calloc(arena, lines, sizeof *items);
    if (!items) {
        return md_error_no_memory(err, "class labels");
    }
    rest = text;
    for (size_t i = 0; i < lines; i++) {
        items[i] = take_line(&rest);
    }
    *labels = items;
    *count = lines;
    return true;
}
