/*
 * The table of all options: what there is, as immutable data. Any thread.
 *
 * Parser, help and the reference page know the options only through it. A row with a NULL name is
 * the heading of the rows below it.
 */
#ifndef MD_CONFIG_OPTION_TABLE_H
#define MD_CONFIG_OPTION_TABLE_H

#include "config/options.h"

enum md_option_kind {
    MD_OPTION_ACTION, /* a bool that only a flag can set: --help */
    MD_OPTION_BOOL,
    MD_OPTION_NUMBER, /* uint64_t in the struct */
    MD_OPTION_SIZE,   /* the same, with K, M, G, T */
    MD_OPTION_TEXT,
    MD_OPTION_CHOICE,
    MD_OPTION_LIST,     /* each further value is appended */
    MD_OPTION_SETTINGS, /* a list of [name,]key=value */
    MD_OPTION_KIND_COUNT,
};

enum md_option_status {
    MD_OPTION_WORKS,
    MD_OPTION_NO_EFFECT, /* accepted with one warning */
    MD_OPTION_REFUSED,   /* ignoring it would change results or security */
    MD_OPTION_STATUS_COUNT,
};

struct md_option {
    const char *name; /* without the dashes */
    enum md_option_kind kind;
    enum md_option_status status;
    size_t offset;                    /* in struct md_options; SIZE_MAX: kept nowhere */
    const char *value, *triton_value; /* defaults; triton_value NULL: the same */
    const char *range;                /* NUMBER, SIZE: "low..high"; CHOICE: "a|b" */
    const char *fine; /* NO_EFFECT, REFUSED: the value that says what is the case anyway */
    const char *help; /* a sentence; NO_EFFECT, REFUSED: why, and what to do */
    const char *alias_of;
};

/* A value that the field's server knows and that works otherwise here. */
struct md_option_refused_value {
    const char *option, *value, *remedy;
};

extern const struct md_option md_option_table[];
extern const size_t md_option_count;

/* NULL if there is none. */
const struct md_option *md_option_find(struct md_str name);
/* The row behind an old name; the row itself otherwise. */
const struct md_option *md_option_target(const struct md_option *option);
/* The name that was probably meant by a wrong one, or NULL. */
const char *md_option_nearest(struct md_str name);
/* Why this value is refused, or NULL. */
const char *md_option_refusal(const struct md_option *option, struct md_str value);

static inline bool md_option_is_list(const struct md_option *option)
{
    return option->kind == MD_OPTION_LIST || option->kind == MD_OPTION_SETTINGS;
}

#endif
