/*
 * Checks of a model's configuration that need nothing but the configuration itself.
 */
#include "config/model_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { NEAR_EDITS = 3 };

const struct md_model_parameter md_model_parameters[] = {
    {"modeld_inline",
     {"auto", "on", "off", NULL},
     "run the model on the thread of the connection that asks, without a hop to an executor"},
    {NULL, {NULL}, NULL},
};

/* An error at the place of a field's first value. */
static void complain(struct md_diagnostics *diagnostics, const struct md_message *message,
                     const char *field, const char *format, ...) MD_PRINTF(4, 5);

static void complain(struct md_diagnostics *diagnostics, const struct md_message *message,
                     const char *field, const char *format, ...)
{
    int index = md_message_field(message->desc, md_str_of(field));
    const struct md_field_values *values = &message->fields[index];
    bool here = values->count && values->line;
    char text[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, here ? values->file : message->file,
                      here ? values->line : message->line, 0, "%s", text);
}

static const struct md_message *item(const struct md_message *message, const char *field,
                                     size_t index)
{
    return md_message_get(message, field, index).as.message;
}

static struct md_str text_of(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.string;
}

static int64_t integer_of(const struct md_message *message, const char *field, size_t index)
{
    return md_message_get(message, field, index).as.integer;
}

/* --- names -------------------- */

bool md_model_name_is_valid(struct md_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c < ' ' || c == 0x7f || c == '/') {
            return false;
        }
    }
    return name.len && !md_str_eq_c(name, ".") && !md_str_eq_c(name, "..");
}

static void check_name(const struct md_message *config, struct md_diagnostics *diagnostics)
{
    struct md_str name = text_of(config, "name");

    if (name.len && !md_model_name_is_valid(name)) {
        complain(diagnostics, config, "name", "'%.*s' cannot be the name of a model",
                 MD_STR_ARG(name));
    }
}

/* Part of the path of a library. */
static void check_plain_name(const struct md_message *config, const char *field,
                             struct md_diagnostics *diagnostics)
{
    struct md_str name = text_of(config, field);

    if (name.len && !md_model_name_is_valid(name)) {
        complain(diagnostics, config, field, "%s '%.*s' must be a name, without a path", field,
                 MD_STR_ARG(name));
    }
}

/* A file name that leads nowhere but down. */
static void check_file_name(const struct md_message *message, const char *field,
                            struct md_diagnostics *diagnostics)
{
    struct md_str path = text_of(message, field), rest = path, piece;
    bool inside = !md_str_starts_with(path, MD_STR("/"));

    while (md_str_split(&rest, '/', &piece)) {
        inside = inside && !md_str_eq_c(piece, "..");
    }
    if (!inside) {
        complain(diagnostics, message, field, "%s '%.*s' must lie inside the model's folder", field,
                 MD_STR_ARG(path));
    }
}

/* --- tensors -------------------- */

static int compare_names(const void *a, const void *b)
{
    const struct md_message *const *x = a, *const *y = b;
    struct md_str s = text_of(*x, "name"), t = text_of(*y, "name");
    int order = memcmp(s.len ? s.ptr : "", t.len ? t.ptr : "", md_size_min(s.len, t.len));

    return order ? order : (s.len > t.len) - (s.len < t.len);
}

/* Sorted, so that many tensors cost no more than their number. */
static void check_distinct(const struct md_message *config, const char *field,
                           struct md_diagnostics *diagnostics)
{
    size_t count = md_message_count(config, field);
    const struct md_message **sorted =
        md_arena_calloc(diagnostics->arena, count, sizeof(struct md_message *));

    if (!sorted) {
        complain(diagnostics, config, field, "out of memory");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = item(config, field, i);
    }
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 1; i < count; i++) {
        struct md_str name = text_of(sorted[i], "name");
        if (name.len && compare_names(&sorted[i - 1], &sorted[i]) == 0) {
            complain(diagnostics, sorted[i], "name", "%s '%.*s' stands there twice", field,
                     MD_STR_ARG(name));
        }
    }
}

static void check_tensors(const struct md_message *config, const char *field,
                          struct md_diagnostics *diagnostics)
{
    for (size_t i = 0; i < md_message_count(config, field); i++) {
        const struct md_message *tensor = item(config, field, i);
        struct md_str name = text_of(tensor, "name");
        if (!name.len) {
            complain(diagnostics, tensor, "name", "the name of an %s is missing", field);
        }
        for (size_t k = 0; k < md_message_count(tensor, "dims"); k++) {
            int64_t dim = integer_of(tensor, "dims", k);
            if (dim < -1 || dim == 0) {
                complain(diagnostics, tensor, "dims",
                         "%s '%.*s': a dimension is a size from 1 on, or -1 for any; got %lld",
                         field, MD_STR_ARG(name), (long long)dim);
            }
        }
        if (md_message_field(tensor->desc, MD_STR("label_filename")) >= 0) {
            check_file_name(tensor, "label_filename", diagnostics);
        }
    }
    check_distinct(config, field, diagnostics);
}

/* --- instances, versions, batches -------------------- */

static void check_instance_groups(const struct md_message *config,
                                  struct md_diagnostics *diagnostics)
{
    enum { KIND_CPU = 2 };

    for (size_t i = 0; i < md_message_count(config, "instance_group"); i++) {
        const struct md_message *group = item(config, "instance_group", i);
        if (md_message_has(group, "count") && integer_of(group, "count", 0) < 1) {
            complain(diagnostics, group, "count", "count must be at least 1");
        }
        for (size_t k = 0; k < md_message_count(group, "gpus"); k++) {
            if (integer_of(group, "gpus", k) < 0) {
                complain(diagnostics, group, "gpus", "gpus are numbered from 0 on");
            }
        }
        if (integer_of(group, "kind", 0) == KIND_CPU && md_message_has(group, "gpus")) {
            complain(diagnostics, group, "gpus", "a group of KIND_CPU has no gpus");
        }
    }
}

static void check_version_policy(const struct md_message *config,
                                 struct md_diagnostics *diagnostics)
{
    const struct md_message *policy = md_message_child(config, "version_policy");
    const struct md_message *latest = policy ? md_message_child(policy, "latest") : NULL;
    const struct md_message *specific = policy ? md_message_child(policy, "specific") : NULL;

    if (md_message_count(latest, "num_versions") &&
        md_message_get(latest, "num_versions", 0).as.natural == 0) {
        complain(diagnostics, latest, "num_versions", "num_versions must be at least 1");
    }
    if (specific && !md_message_has(specific, "versions")) {
        complain(diagnostics, policy, "specific", "a specific version policy names its versions");
    }
    for (size_t i = 0; i < md_message_count(specific, "versions"); i++) {
        if (integer_of(specific, "versions", i) < 1) {
            complain(diagnostics, specific, "versions", "versions are numbered from 1 on");
        }
    }
}

static void check_batching(const struct md_message *config, struct md_diagnostics *diagnostics)
{
    const struct md_message *dynamic = md_message_child(config, "dynamic_batching");
    int64_t max = integer_of(config, "max_batch_size", 0);

    if (max < 0) {
        complain(diagnostics, config, "max_batch_size", "max_batch_size must not be negative");
    }
    for (size_t i = 0; i < md_message_count(dynamic, "preferred_batch_size"); i++) {
        int64_t size = integer_of(dynamic, "preferred_batch_size", i);
        if (size < 1 || (max > 0 && size > max)) {
            complain(diagnostics, dynamic, "preferred_batch_size",
                     "preferred_batch_size %lld does not lie between 1 and max_batch_size",
                     (long long)size);
        }
    }
}

/* --- parameters -------------------- */

struct md_str md_model_config_parameter(const struct md_message *config, struct md_str key)
{
    for (size_t i = 0; i < md_message_count(config, "parameters"); i++) {
        const struct md_message *entry = item(config, "parameters", i);
        if (md_str_eq(text_of(entry, "key"), key)) {
            return text_of(md_message_child(entry, "value"), "string_value");
        }
    }
    return MD_STR("");
}

static void check_value(const struct md_message *entry, const struct md_model_parameter *parameter,
                        struct md_diagnostics *diagnostics)
{
    struct md_str value = text_of(md_message_child(entry, "value"), "string_value");
    char list[128] = "";
    size_t n = 0;

    for (size_t i = 0; parameter->values[i]; i++) {
        if (md_str_eq_c(value, parameter->values[i])) {
            return;
        }
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "",
                              parameter->values[i]);
    }
    complain(diagnostics, entry, "value", "parameter '%s' has no value '%.*s'; there are %s",
             parameter->name, MD_STR_ARG(value), list);
}

static void check_parameter(const struct md_message *entry, struct md_diagnostics *diagnostics)
{
    struct md_str key = text_of(entry, "key");
    const char *nearest = NULL;
    unsigned best = NEAR_EDITS + 1;

    for (const struct md_model_parameter *known = md_model_parameters; known->name; known++) {
        unsigned distance = md_str_distance(key, md_str_of(known->name), best);
        if (distance == 0) {
            check_value(entry, known, diagnostics);
            return;
        }
        if (distance < best) {
            best = distance;
            nearest = known->name;
        }
    }
    complain(diagnostics, entry, "key", "unknown parameter '%.*s'%s%s%s", MD_STR_ARG(key),
             nearest ? ", did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

bool md_model_config_validate(const struct md_message *config, struct md_diagnostics *diagnostics)
{
    size_t before = diagnostics->error_count;

    check_name(config, diagnostics);
    check_plain_name(config, "backend", diagnostics);
    check_plain_name(config, "runtime", diagnostics);
    check_file_name(config, "default_model_filename", diagnostics);
    check_batching(config, diagnostics);
    check_tensors(config, "input", diagnostics);
    check_tensors(config, "output", diagnostics);
    check_instance_groups(config, diagnostics);
    check_version_policy(config, diagnostics);
    for (size_t i = 0; i < md_message_count(config, "parameters"); i++) {
        const struct md_message *entry = item(config, "parameters", i);
        if (md_str_starts_with(text_of(entry, "key"), MD_STR("modeld_"))) {
            check_parameter(entry, diagnostics);
        }
    }
    return diagnostics->error_count == before;
}
