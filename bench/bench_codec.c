/*
 * Micro benchmark of codec/: an image's worth of FP32 values as JSON, both ways, beside the C
 * library.
 *
 *     bench_codec [values [rounds [text]]]     (150528 values, best of 9, all texts)
 *
 * One line a measurement: name, milliseconds of the best round, nanoseconds a value, megabytes of
 * text a second. "widened" are floats as clients print them that have doubles only (up to 17
 * digits).
 */
#include "base/alloc.h"
#include "codec/number.h"
#include "codec/tensor_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { DEFAULT_VALUES = 150528, DEFAULT_ROUNDS = 9, SLICE = 64 * 1024 };

struct subject {
    size_t count;
    float *values; /* what the text says */
    float *read;   /* what was read from it */
    struct md_bytes text;
};

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static bool same(const struct subject *s)
{
    return memcmp(s->values, s->read, s->count * sizeof *s->values) == 0;
}

/* --- what is measured: true if the result is right -------------------- */

static bool run_reader(struct subject *s)
{
    struct md_arena arena = {0};
    struct md_json json;
    struct md_tensor_reader reader;
    enum md_progress progress;

    md_json_init(&json, md_bytes_view(&s->text), &arena, 8);
    md_tensor_reader_init(&reader, MD_DTYPE_FP32, s->count, (char *)s->read, NULL);
    do {
        progress = md_tensor_reader_step(&reader, &json, SLICE);
    } while (progress == MD_PROGRESS_AGAIN);
    md_arena_deinit(&arena);
    return progress == MD_PROGRESS_DONE;
}

static bool run_strtof(struct subject *s)
{
    char *at = s->text.data + 1;

    for (size_t i = 0; i < s->count; i++) {
        s->read[i] = strtof(at, &at);
        at++;
    }
    return true;
}

static bool write_text(struct subject *s, enum md_dtype dtype, const void *values)
{
    struct md_tensor_writer writer;
    enum md_progress progress;

    md_bytes_clear(&s->text);
    md_bytes_append_char(&s->text, '[');
    md_tensor_writer_init(&writer, dtype, values, s->count * md_dtype_size(dtype));
    do {
        progress = md_tensor_writer_step(&writer, &s->text, SLICE);
    } while (progress == MD_PROGRESS_AGAIN);
    md_bytes_append_char(&s->text, ']');
    return progress == MD_PROGRESS_DONE;
}

static bool run_writer(struct subject *s)
{
    return write_text(s, MD_DTYPE_FP32, s->values);
}

static bool run_printf(struct subject *s)
{
    md_bytes_clear(&s->text);
    md_bytes_append_char(&s->text, '[');
    for (size_t i = 0; i < s->count && md_bytes_reserve(&s->text, 32); i++) {
        s->text.len += (size_t)snprintf(s->text.data + s->text.len, 32, i ? ",%.9g" : "%.9g",
                                        (double)s->values[i]);
    }
    md_bytes_append_char(&s->text, ']');
    return !s->text.failed;
}

/* --- the texts -------------------- */

static void fill_pixels(struct subject *s, size_t i)
{
    s->values[i] = (float)(rand() % 256);
}

static void fill_decimals(struct subject *s, size_t i)
{
    s->values[i] = (float)(rand() % 52000 - 26000) / 10000.0F;
}

static void fill_floats(struct subject *s, size_t i)
{
    s->values[i] = (float)(((double)rand() / RAND_MAX - 0.5) * 5.2);
}

/* Leaves the floats' text as that of the doubles that they are. */
static bool widen(struct subject *s)
{
    double *wide = md_calloc(s->count + 1, sizeof *wide);
    bool good = wide;

    for (size_t i = 0; good && i < s->count; i++) {
        wide[i] = (double)s->values[i];
    }
    good = good && write_text(s, MD_DTYPE_FP64, wide);
    md_free(wide);
    return good;
}

static bool measure(struct subject *s, int rounds, const char *text, const char *name,
                    bool (*run)(struct subject *))
{
    double best = 1e9;

    for (int i = 0; i < rounds; i++) {
        double begin = now_ms();
        bool good = run(s);
        double spent = now_ms() - begin;
        if (!good) {
            return false;
        }
        best = spent < best ? spent : best;
    }
    printf("%-10s %-8s %8.3f ms %7.1f ns/value %7.0f MB/s\n", text, name, best,
           best * 1e6 / (double)s->count, (double)s->text.len / best / 1e3);
    return true;
}

static bool measure_text(struct subject *s, int rounds, const char *name,
                         void (*fill)(struct subject *s, size_t i), bool wide)
{
    for (size_t i = 0; i < s->count; i++) {
        fill(s, i);
    }
    if (wide) {
        if (!widen(s)) {
            return false;
        }
    } else if (!measure(s, rounds, name, "printf", run_printf) ||
               !measure(s, rounds, name, "write", run_writer)) {
        return false;
    }
    return measure(s, rounds, name, "read", run_reader) && same(s) &&
           measure(s, rounds, name, "strtof", run_strtof) && same(s);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*fill)(struct subject *s, size_t i);
        bool wide;
    } texts[] = {{"pixels", fill_pixels, false},
                 {"decimals", fill_decimals, false},
                 {"floats", fill_floats, false},
                 {"widened", fill_floats, true}};
    struct subject s = {.count = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_VALUES};
    int rounds = argc > 2 ? atoi(argv[2]) : DEFAULT_ROUNDS;
    const char *only = argc > 3 ? argv[3] : NULL;
    bool good = true;

    s.values = md_calloc(s.count + 1, sizeof *s.values);
    s.read = md_calloc(s.count + 1, sizeof *s.read);
    for (size_t t = 0; s.values && s.read && good && t < MD_COUNT_OF(texts); t++) {
        if (!only || strcmp(only, texts[t].name) == 0) {
            good = measure_text(&s, rounds, texts[t].name, texts[t].fill, texts[t].wide);
        }
    }
    md_free(s.values);
    md_free(s.read);
    md_bytes_deinit(&s.text);
    if (!good) {
        fprintf(stderr, "bench_codec: a result is wrong\n");
    }
    return good ? 0 : 1;
}
