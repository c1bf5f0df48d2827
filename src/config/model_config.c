/*
 * Checks of a model's configuration that need nothing but the configuration itself.
 */
#include "config/model_config.h"

#include "config/model_config_internal.h"
#include "config/model_parameter.h"

#include <stdlib.h>

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

bool md_model_config_is_inside(struct md_str path)
{
    struct md_str rest = path, piece;
    bool inside = !md_str_starts_with(path, MD_STR("/"));

    while (md_str_split(&rest, '/', &piece)) {
        inside = inside && !md_str_eq_c(piece, "..");
    }
    return inside;
}

static void check_file_name(const struct md_message *message, const char *field,
                            struct md_diagnostics *diagnostics)
{
    struct md_str path = text_of(message, field);

    if (!md_model_config_is_inside(path)) {
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

static void check_batch_size(const struct md_message *config, struct md_diagnostics *diagnostics)
{
    if (integer_of(config, "max_batch_size", 0) < 0) {
        complain(diagnostics, config, "max_batch_size", "max_batch_size must not be negative");
    }
}

bool md_model_config_validate(const struct md_message *config, struct md_diagnostics *diagnostics)
{
    size_t before = diagnostics->error_count;

    check_name(config, diagnostics);
    check_plain_name(config, "backend", diagnostics);
    check_plain_name(config, "runtime", diagnostics);
    check_file_name(config, "default_model_filename", diagnostics);
    check_batch_size(config, diagnostics);
    check_tensors(config, "input", diagnostics);
    check_tensors(config, "output", diagnostics);
    check_instance_groups(config, diagnostics);
    check_version_policy(config, diagnostics);
    md_model_config_check_batching(config, diagnostics);
    md_model_config_check_warmup(config, diagnostics);
    for (size_t i = 0; i < md_message_count(config, "parameters"); i++) {
        md_model_parameter_check(item(config, "parameters", i), diagnostics);
    }
    return diagnostics->error_count == before;
}
