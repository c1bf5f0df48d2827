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
    diagnostics->items[diagnostics->count++] =
        (struct md_diagnostic){.severity = severity,
                               .file = file,
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
