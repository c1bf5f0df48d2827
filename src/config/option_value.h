/*
 * One option's value: from text into struct md_options. No state; any thread.
 */
#ifndef MD_CONFIG_OPTION_VALUE_H
#define MD_CONFIG_OPTION_VALUE_H

#include "config/option_table.h"

/* true/false, 1/0, yes/no, on/off, in any case. */
bool md_option_read_bool(struct md_str value, bool *out) MD_MUST_CHECK;

/* "64M", "64MB", "64MiB" and "67108864" are the same; K, M, G, T. */
bool md_option_read_size(struct md_str value, uint64_t *out) MD_MUST_CHECK;

/* Whether the value asks for what is the case anyway. */
bool md_option_is_fine(const struct md_option *option, struct md_str value);

/* Puts the value into the option's field (appends to a list). Texts are copied to the arena. The
 * error completes a sentence that begins with the option: "must be true or false, got 'x'". */
bool md_option_store(const struct md_option *option, struct md_str value, struct md_arena *arena,
                     struct md_options *out, struct md_error *err) MD_MUST_CHECK;

#endif
