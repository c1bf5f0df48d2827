/*
 * Log front end: level switches, thread context, formatting into a stack buffer.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

enum { LOG_LINE_MAX = 4096 };

static const struct md_log_sink *log_sink;
static atomic_uint level_values[MD_LOG_LEVEL_COUNT] = {1, 1, 1, 0}; /* 0: off */

typedef _Atomic(const struct md_log_context *) shared_context;
static _Thread_local shared_context thread_context;
static _Thread_local size_t thread_place;                      /* in the table, from 1; 0: none */
static _Atomic(shared_context *) contexts[MD_LOG_THREADS_MAX]; /* of threads that ever had one */

void md_log_set_sink(const struct md_log_sink *sink)
{
    log_sink = sink;
}

void md_log_set_enabled(enum md_log_level level, bool enabled)
{
    atomic_store_explicit(&level_values[level], enabled, memory_order_relaxed);
}

void md_log_set_verbosity(unsigned verbosity)
{
    atomic_store_explicit(&level_values[MD_LOG_VERBOSE], verbosity, memory_order_relaxed);
}

unsigned md_log_verbosity(void)
{
    return atomic_load_explicit(&level_values[MD_LOG_VERBOSE], memory_order_relaxed);
}

bool md_log_is_enabled(enum md_log_level level)
{
    /* relaxed: a switch that takes effect a little later is fine */
    return atomic_load_explicit(&level_values[level], memory_order_relaxed) != 0;
}

void md_log(enum md_log_level level, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;

    if (!log_sink || !md_log_is_enabled(level)) {
        return;
    }
    va_start(args, format);
    int len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0) {
        log_sink->write(log_sink->arg, level, md_log_get_context(),
                        md_str_make(line, md_size_min((size_t)len, sizeof line - 1)));
    }
}

static void remember_thread(void)
{
    for (size_t i = 0; i < MD_LOG_THREADS_MAX; i++) {
        shared_context *none = NULL;
        if (atomic_compare_exchange_strong(&contexts[i], &none, &thread_context)) {
            thread_place = i + 1;
            return;
        }
    }
    thread_place = MD_LOG_THREADS_MAX + 1; /* no room: do not look again */
}

void md_log_forget_thread(void)
{
    if (thread_place && thread_place <= MD_LOG_THREADS_MAX) {
        atomic_store(&contexts[thread_place - 1], NULL);
    }
    thread_place = 0;
}

const struct md_log_context *md_log_set_context(const struct md_log_context *context)
{
    const struct md_log_context *before = md_log_get_context();

    if (!thread_place) {
        remember_thread();
    }
    /* release: a crash on another thread sees what the context points at */
    atomic_store_explicit(&thread_context, context, memory_order_release);
    return before;
}

const struct md_log_context *md_log_get_context(void)
{
    return atomic_load_explicit(&thread_context, memory_order_acquire);
}

const struct md_log_context *md_log_context_of(size_t index)
{
    shared_context *context = index < MD_LOG_THREADS_MAX ? atomic_load(&contexts[index]) : NULL;

    return context ? atomic_load_explicit(context, memory_order_acquire) : NULL;
}
