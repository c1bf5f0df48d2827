/*
 * Diagnostics: errors, warnings and notes with their place, collected so that one run shows all of
 * them.
 *
 * One owner, one thread. Names and texts live in the arena given at init. Bounded: beyond
 * MD_DIAGNOSTICS_MAX only the counts grow.
 */
#ifndef MD_BASE_DIAGNOSTICS_H
#define MD_BASE_DIAGNOSTICS_H

#include "base/arena.h"
#include "base/bytes.h"

enum md_severity { MD_SEVERITY_ERROR, MD_SEVERITY_WARNING, MD_SEVERITY_NOTE };
enum { MD_DIAGNOSTICS_MAX = 256 };

struct md_diagnostic {
    enum md_severity severity;
    const char *file;      /* NULL: no file (a flag) */
    unsigned line, column; /* 1-based; 0: unknown */
    const char *text;
};

struct md_diagnostics {
    struct md_arena *arena; /* borrow */
    struct md_diagnostic items[MD_DIAGNOSTICS_MAX];
    size_t count;
    size_t error_count, warning_count;
};

void md_diagnostics_init(struct md_diagnostics *diagnostics, struct md_arena *arena);
/* File and text are copied. Returns false, so that callers can return it. */
bool md_diagnose(struct md_diagnostics *diagnostics, enum md_severity severity, const char *file,
                 unsigned line, unsigned column, const char *format, ...) MD_PRINTF(6, 7);
/* "file:line:column: error: text" */
void md_diagnostic_print(const struct md_diagnostic *diagnostic, struct md_bytes *out);

#endif
