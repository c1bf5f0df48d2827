/*
 * Class labels: the lines of a label file (label_filename of an output), by class number.
 *
 * No state; any thread.
 */
#ifndef MD_CONFIG_LABELS_H
#define MD_CONFIG_LABELS_H

#include "base/arena.h"
#include "base/error.h"

enum { MD_LABELS_MAX = 1 << 20, MD_LABEL_BYTES_MAX = 4096 };

/* Splits a label file into its lines: an array in the arena, of views into text. Lines end with LF
 * or CR LF, the last one with or without; empty lines are labels; a byte order mark is passed over.
 * INVALID_ARGUMENT for text that is not UTF-8 or holds a zero byte, more than MD_LABELS_MAX lines,
 * or a longer one than MD_LABEL_BYTES_MAX; the sentence names the line. OUT_OF_MEMORY. */
bool md_labels_parse(struct md_str text, struct md_arena *arena, const struct md_str **labels,
                     size_t *count, struct md_error *err) MD_MUST_CHECK;

#endif
