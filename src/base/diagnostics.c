/*
 * Collecting and printing diagnostics.
 */
#include "base/diagnostics.h"

#include <stdarg.h>
#include <stdio.h>

void md_diagnostics_init(struct md_diagnostics *diagnostics, struct md_arena *arena)
{
    diagnostics->arena = arena;
    diagnostics->count = diagnostics->error_count = diagnostics->warning_count = 0;
}

/* A copy of the name; mostly it is that of the diagnostic before. NULL when out of memory. */
static const char *keep_name(const struct md_diagnostics *diagnostics, const char *file)
{
    const char *last = diagnostics->count ? diagnostics->items[diagnostics->count - 1].file : NULL;

    if (!file || (last && strcmp(last, file) == 0)) {
        return file ? last : NULL;
    }
    return md_arena_strdup(diagnostics->arena, file);
}

bool md_diagnose(struct md_diagnostics *diagnostics, enum md_severity severity, const char *file,
                 unsigned line, unsigned column, const char *format, ...)
{
    char text[1024];
    va_list args;

    diagnostics->error_count += severity == MD_SEVERITY_ERROR;
    diagnostics->warning_count += severity == MD_SEVERITY_WARNING;
    if (diagnostics->count == MD_DIAGNOSTICS_MAX) {
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = md_arena_strdup(diagnostics->arena, text);
    const char *name = keep_name(diagnostics, file);
    diagnostics->items[diagnostics->count++] =
        (struct md_diagnostic){.severity = severity,
                               .file = name,
                               .line = line,
                               .column = column,
                               .text = copy ? copy : "out of memory"};
    return false;
}

void md_diagnostic_print(const struct md_diagnostic *diagnostic, struct md_bytes *out)
{
    static const char *const names[] = {"error", "warning", "note"};

    if (diagnostic->file) {
        md_bytes_append_c(out, diagnostic->file);
        if (diagnostic->line) {
            md_bytes_printf(out, ":%u", diagnostic->line);
            if (diagnostic->column) {
                md_bytes_printf(out, ":%u", diagnostic->column);
            }
        }
        md_bytes_append_c(out, ": ");
    }
    md_bytes_printf(out, "%s: %s", names[diagnostic->severity], diagnostic->text);
}
