/*
 * The table of models: scan, configuration, version policy, look-up.
 */
#include "model/models_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "codec/utf8.h"
#include "model/model_check.h"
#include "os/file.h"

#include <stdlib.h>

enum { CONFIG_FILE_MAX = 4 << 20, LATEST_DEFAULT = 1 };

const char *md_version_state_name(enum md_version_state state)
{
    static const char *const names[] = {"", "LOADING", "READY", "UNLOADING", "UNAVAILABLE"};

    return names[state];
}

/* --- configuration -------------------- */

/* The first error as a reason. */
static const char *first_error(const struct md_diagnostics *diagnostics, struct md_arena *arena)
{
    struct md_bytes text = {0};
    const char *reason = "the configuration is wrong";
    size_t i = 0;

    while (i < diagnostics->count && diagnostics->items[i].severity != MD_SEVERITY_ERROR) {
        i++;
    }
    if (i < diagnostics->count) {
        md_diagnostic_print(&diagnostics->items[i], &text);
        struct md_str copy = text.failed ? MD_STR("") : md_arena_copy(arena, md_bytes_view(&text));
        reason = copy.len ? copy.ptr : diagnostics->items[i].text;
    }
    md_bytes_deinit(&text);
    return reason;
}

static bool read_file(struct md_models *models, struct md_model *model,
                      struct md_diagnostics *diagnostics)
{
    const struct md_repository_model *files = model->files;
    struct md_str text;
    struct md_error err;

    if (files->problem) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0, "%s", files->problem);
    }
    if (!files->config_path) {
        return true;
    }
    if (!md_os_file_read(files->config_path, CONFIG_FILE_MAX, &models->arena, &text, &err)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, files->config_path, 0, 0, "%s",
                           err.text);
    }
    return files->config_is_json ? md_message_parse_json(text, files->config_path, model->config,
                                                         &models->arena, diagnostics)
                                 : md_pbtxt_parse(text, files->config_path, model->config,
                                                  &models->arena, diagnostics);
}

static bool lay_over(struct md_models *models, struct md_model *model,
                     struct md_diagnostics *diagnostics)
{
    const struct md_options *options = models->options.options;

    for (size_t i = 0; i < options->overlay_count; i++) {
        const struct md_overlay *overlay = &options->overlays[i];
        if (!md_str_glob(model->name, md_str_of(overlay->pattern))) {
            continue;
        }
        struct md_message *over = md_message_create(&md_model_config_desc, &models->arena);
        if (!over ||
            !md_message_parse_json(overlay->config_json, options->config_file, over, &models->arena,
                                   diagnostics) ||
            !md_message_merge(model->config, over, &models->arena)) {
            return md_diagnose(diagnostics, MD_SEVERITY_ERROR, options->config_file, overlay->line,
                               0, "the settings for '%s' cannot be applied to model '%s'",
                               overlay->pattern, model->name.ptr);
        }
    }
    return true;
}

/* --- version policy -------------------- */

static bool policy_has(const struct md_model *model, size_t index)
{
    const struct md_message *policy = md_message_child(model->config, "version_policy");
    size_t from_end = model->files->version_count - index; /* 1: the highest */

    if (policy && md_message_has(policy, "all")) {
        return true;
    }
    if (policy && md_message_has(policy, "specific")) {
        const struct md_message *specific = md_message_child(policy, "specific");
        for (size_t i = 0; i < md_message_count(specific, "versions"); i++) {
            if (md_message_get(specific, "versions", i).as.integer ==
                model->files->versions[index]) {
                return true;
            }
        }
        return false;
    }
    uint64_t latest =
        md_message_get(policy ? md_message_child(policy, "latest") : NULL, "num_versions", 0)
            .as.natural;
    return from_end <= (latest ? latest : LATEST_DEFAULT);
}

static bool make_versions(struct md_models *models, struct md_model *model, struct md_error *err)
{
    size_t count = model->files->version_count;

    model->versions =
        md_alloc_aligned(MD_CACHE_LINE, md_size_max(count, 1) * sizeof *model->versions);
    if (!model->versions) {
        return md_error_no_memory(err, "the versions of a model");
    }
    memset(model->versions, 0, md_size_max(count, 1) * sizeof *model->versions);
    for (size_t i = 0; i < count; i++) {
        if (!policy_has(model, i)) {
            continue;
        }
        struct md_version *version = &model->versions[model->version_count++];
        version->model = model;
        version->number = model->files->versions[i];
        version->reason = "";
        version->config_json = MD_STR("{}");
        version->directory =
            md_repository_version_directory(model->files, version->number, &models->arena);
        version->target.model_name = model->name;
        version->target.version = version->number;
        char *text = md_arena_printf(&models->arena, "%lld", (long long)version->number);
        version->target.version_text = md_str_of(text ? text : "");
        if (!version->directory || !text) {
            return md_error_no_memory(err, "the versions of a model");
        }
    }
    return true;
}

/* --- life -------------------- */

/* A label's value as the Prometheus text format wants it, with its quotes; it must be UTF-8. */
static void append_label_value(struct md_bytes *text, struct md_str value)
{
    md_bytes_append_char(text, '"');
    while (value.len) {
        const size_t width = md_utf8_width(value);
        const char c = *value.ptr;
        if (!width) {
            md_bytes_append_str(text, MD_STR("\xef\xbf\xbd")); /* U+FFFD */
        } else if (c == '\n') {
            md_bytes_append_str(text, MD_STR("\\n"));
        } else {
            if (c == '"' || c == '\\') {
                md_bytes_append_char(text, '\\');
            }
            md_bytes_append(text, value.ptr, width);
        }
        const size_t taken = md_size_max(width, 1);
        value = md_str_make(value.ptr + taken, value.len - taken);
    }
    md_bytes_append_char(text, '"');
}

/* A tag's key as a label's name: what may not stand there becomes '_'. */
static struct md_str label_name(struct md_models *models, struct md_str key)
{
    struct md_str name = md_arena_copy(&models->arena, key);

    for (size_t i = 0; name.ptr && i < name.len; i++) {
        char *c = (char *)(uintptr_t)name.ptr + i;
        bool ok = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        *c = ok ? *c : '_';
    }
    return name;
}

/* Two tags that became one label would spoil the whole page: the first counts. */
static bool is_label_taken(struct md_models *models, const struct md_model *model, size_t count,
                           struct md_str name)
{
    for (size_t i = 0; i < count; i++) {
        const struct md_message *entry = md_message_get(model->config, "metric_tags", i).as.message;
        if (md_str_eq(label_name(models, md_message_get(entry, "key", 0).as.string), name)) {
            return true;
        }
    }
    return false;
}

static bool make_metric_labels(struct md_models *models, struct md_model *model,
                               struct md_error *err)
{
    struct md_bytes text = {0};

    md_bytes_append_c(&text, "model=");
    append_label_value(&text, model->name);
    for (size_t i = 0; i < md_message_count(model->config, "metric_tags"); i++) {
        const struct md_message *entry = md_message_get(model->config, "metric_tags", i).as.message;
        struct md_str name = label_name(models, md_message_get(entry, "key", 0).as.string);
        if (!is_label_taken(models, model, i, name)) {
            md_bytes_append_c(&text, ",_");
            md_bytes_append_str(&text, name);
            md_bytes_append_char(&text, '=');
            append_label_value(&text, md_message_get(entry, "value", 0).as.string);
        }
    }
    model->metric_labels = md_arena_copy(&models->arena, md_bytes_view(&text));
    bool ok = !text.failed && !md_arena_failed(&models->arena);
    md_bytes_deinit(&text);
    return ok || md_error_no_memory(err, "the metric tags of a model");
}

/* Diagnostics of one model, then of all: so that its own first error is found however many there
 * are. */
static bool check_model(struct md_models *models, struct md_model *model,
                        struct md_diagnostics *diagnostics, struct md_error *err)
{
    const struct md_options *options = models->options.options;
    struct md_diagnostics *own = &models->own;

    md_diagnostics_init(own, &models->arena);
    bool usable = read_file(models, model, own) && lay_over(models, model, own);
    usable = md_model_check(model, options, own) && usable;
    bool ok = make_versions(models, model, err);
    if (ok && usable && options->check_config) {
        md_model_check_files(model, models->options.backends, own);
    }
    if (own->error_count) {
        model->reason = first_error(own, &models->arena);
    }
    for (size_t i = 0; i < own->count; i++) {
        const struct md_diagnostic *item = &own->items[i];
        (void)md_diagnose(diagnostics, item->severity, item->file, item->line, item->column, "%s",
                          item->text);
    }
    return ok;
}

static bool is_wanted(const struct md_options *options, struct md_str name)
{
    if (strcmp(options->model_control_mode, "explicit") != 0) {
        return true;
    }
    for (size_t i = 0; i < options->load_model.count; i++) {
        if (strcmp(options->load_model.items[i], "*") == 0 ||
            md_str_eq_c(name, options->load_model.items[i])) {
            return true;
        }
    }
    return false;
}

static bool add_model(struct md_models *models, const struct md_repository_model *files,
                      struct md_diagnostics *diagnostics, struct md_error *err)
{
    const struct md_options *options = models->options.options;
    struct md_model *model = &models->models[models->count];

    *model = (struct md_model){.name = files->name, .files = files, .reason = ""};
    model->is_wanted = is_wanted(options, files->name);
    model->config = md_message_create(&md_model_config_desc, &models->arena);
    if (!model->config) {
        return md_error_no_memory(err, "a model");
    }
    models->count++;
    if ((model->is_wanted || options->check_config) &&
        !check_model(models, model, diagnostics, err)) {
        return false;
    }
    return make_metric_labels(models, model, err);
}

static int compare_models(const void *a, const void *b)
{
    return strcmp(((const struct md_model *)a)->name.ptr, ((const struct md_model *)b)->name.ptr);
}

static void refuse_doubles(struct md_models *models, struct md_diagnostics *diagnostics)
{
    for (size_t i = 1; i < models->count; i++) {
        struct md_model *one = &models->models[i - 1], *other = &models->models[i];
        if (md_str_eq(one->name, other->name)) {
            (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, other->files->directory, 0, 0,
                              "model '%s' stands in %s too: rename one of them", one->name.ptr,
                              one->files->directory);
            one->reason = other->reason = "two repositories have a model of this name";
        }
    }
}

static const char *nearest_name(const struct md_models *models, struct md_str name)
{
    enum { EDITS = 3 };
    unsigned best = EDITS + 1;
    const char *nearest = NULL;

    for (size_t i = 0; i < models->count; i++) {
        unsigned distance = md_str_distance(name, models->models[i].name, best);
        if (distance < best) {
            best = distance;
            nearest = models->models[i].name.ptr;
        }
    }
    return nearest;
}

static void check_load_names(struct md_models *models, struct md_diagnostics *diagnostics)
{
    const struct md_string_list *names = &models->options.options->load_model;

    for (size_t i = 0; i < names->count; i++) {
        struct md_str name = md_str_of(names->items[i]);
        if (md_str_eq_c(name, "*") || md_models_find(models, name)) {
            continue;
        }
        const char *nearest = nearest_name(models, name);
        models->missing_count++;
        (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, NULL, 0, 0,
                          "--load-model=%s: no repository has a model of this name%s%s%s", name.ptr,
                          nearest ? ", did you mean '" : "", nearest ? nearest : "",
                          nearest ? "'?" : "");
    }
}

static void check_overlays(const struct md_models *models, struct md_diagnostics *diagnostics)
{
    const struct md_options *options = models->options.options;

    for (size_t i = 0; i < options->overlay_count; i++) {
        const struct md_overlay *overlay = &options->overlays[i];
        bool fits = false;
        for (size_t k = 0; k < models->count && !fits; k++) {
            fits = md_str_glob(models->models[k].name, md_str_of(overlay->pattern));
        }
        if (!fits) {
            (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, options->config_file, overlay->line,
                              0, "no model has a name that fits the pattern '%s'",
                              overlay->pattern);
        }
    }
}

static void check_repository(const struct md_options *options, const char *directory,
                             const struct md_repository_scan *scan,
                             struct md_diagnostics *diagnostics)
{
    if (!scan->model_count) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, directory, 0, 0,
                          "there is no model here; one is a folder such as %s/NAME/1/model.onnx",
                          directory);
    } else if (options->model_name && !scan->models->is_repository) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, directory, 0, 0,
                          "it holds folders of models, so --model-name has no effect");
    }
}

/* Else each of its models would have its own name twice. */
static bool is_scanned(const struct md_repository_scan *scans, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(scans[i].root, scans[index].root) == 0) {
            return true;
        }
    }
    return false;
}

static bool scan_all(struct md_models *models, struct md_diagnostics *diagnostics,
                     struct md_error *err)
{
    const struct md_options *options = models->options.options;
    size_t total = 0;
    struct md_repository_scan *scans =
        md_arena_calloc(&models->arena, options->model_repository.count, sizeof *scans);

    for (size_t i = 0; scans && i < options->model_repository.count; i++) {
        if (!md_repository_scan(options->model_repository.items[i], md_str_of(options->model_name),
                                &models->arena, &scans[i], err)) {
            return false;
        }
        if (is_scanned(scans, i)) {
            (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, options->model_repository.items[i],
                              0, 0, "this folder is named twice; it counts once");
            scans[i].model_count = 0;
            continue;
        }
        check_repository(options, options->model_repository.items[i], &scans[i], diagnostics);
        total += scans[i].model_count;
    }
    models->models = md_arena_calloc(&models->arena, total, sizeof *models->models);
    if (!scans || !models->models) {
        return md_error_no_memory(err, "the table of models");
    }
    for (size_t i = 0; i < options->model_repository.count; i++) {
        for (size_t k = 0; k < scans[i].model_count; k++) {
            if (!add_model(models, &scans[i].models[k], diagnostics, err)) {
                return false;
            }
        }
    }
    qsort(models->models, models->count, sizeof *models->models, compare_models);
    for (size_t i = 0; i < models->count; i++) { /* they have moved */
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            models->models[i].versions[k].model = &models->models[i];
        }
    }
    refuse_doubles(models, diagnostics);
    check_load_names(models, diagnostics);
    check_overlays(models, diagnostics);
    return true;
}

bool md_models_create(const struct md_models_options *options, struct md_diagnostics *diagnostics,
                      struct md_models **out, struct md_error *err)
{
    struct md_models *models = md_calloc(1, sizeof *models);

    if (!models) {
        return md_error_no_memory(err, "the table of models");
    }
    models->options = *options;
    md_arena_init(&models->arena, 64 * 1024);
    if (!scan_all(models, diagnostics, err)) {
        (void)md_models_destroy(models);
        return false;
    }
    *out = models;
    return true;
}

size_t md_models_refuse_waiting(struct md_models *models)
{
    size_t count = 0;

    for (size_t i = 0; i < models->count; i++) {
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            struct md_version *version = &models->models[i].versions[k];
            if (md_version_is_ready(version)) {
                count += md_device_end(models->options.device, &version->target);
            }
        }
    }
    return count;
}

void md_models_log_running(struct md_models *models)
{
    for (size_t i = 0; i < models->count; i++) {
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            struct md_version *version = &models->models[i].versions[k];
            if (md_version_is_ready(version) && md_target_is_running(&version->target)) {
                md_log(MD_LOG_WARNING,
                       "model '%s' version %s: an execution has not ended, the server ends without "
                       "it",
                       version->model->name.ptr, version->target.version_text.ptr);
            }
        }
    }
}

/* False: some of it has to stay. */
static bool unmap_all(struct md_models *models)
{
    bool held = false;

    for (size_t i = 0; i < models->count; i++) {
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            struct md_version *version = &models->models[i].versions[k];
            if (version->mapping) {
                md_mapping_destroy(version, &models->options);
            }
            held = held || version->is_held;
        }
    }
    return !held;
}

bool md_models_destroy(struct md_models *models)
{
    if (!models) {
        return true;
    }
    md_models_load_join(models);
    if (!unmap_all(models)) {
        return false;
    }
    for (size_t i = 0; i < models->count; i++) {
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            struct md_version *version = &models->models[i].versions[k];
            md_target_deinit(&version->target);
            md_arena_deinit(&version->arena);
        }
        md_free(models->models[i].versions);
    }
    md_arena_deinit(&models->arena);
    md_free(models);
    return true;
}

/* --- look-up -------------------- */

size_t md_models_count(const struct md_models *models)
{
    return models->count;
}

struct md_model *md_models_at(const struct md_models *models, size_t index)
{
    return &models->models[index];
}

struct md_model *md_models_find(const struct md_models *models, struct md_str name)
{
    size_t low = 0, high = models->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct md_str at = models->models[middle].name;
        int order = memcmp(name.ptr, at.ptr, md_size_min(name.len, at.len));
        if (order == 0 && name.len == at.len) {
            return &models->models[middle];
        }
        if (order < 0 || (order == 0 && name.len < at.len)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

bool md_version_is_ready(const struct md_version *version)
{
    /* acquire: pairs with the release after the target was completed */
    return atomic_load_explicit(&((struct md_version *)(uintptr_t)version)->state,
                                memory_order_acquire) == MD_VERSION_READY;
}

bool md_version_is_out_of_service(const struct md_version *version)
{
    struct md_target *target = &((struct md_version *)(uintptr_t)version)->target;

    /* one that is not attached has no instances at all */
    const bool is_out =
        atomic_load(&target->in_service) == 0 && atomic_load(&target->out_of_service) > 0;
    return md_version_is_ready(version) &&
           (is_out || md_clock_monotonic_ns() < atomic_load(&target->shown_until_ns));
}

size_t md_models_wanted_count(const struct md_models *models)
{
    size_t wanted = models->missing_count;

    for (size_t i = 0; i < models->count; i++) {
        wanted += models->models[i].is_wanted;
    }
    return wanted;
}

size_t md_models_failed_count(const struct md_models *models)
{
    size_t failed = models->missing_count;

    for (size_t i = 0; i < models->count; i++) {
        const struct md_model *model = &models->models[i];
        bool bad = *model->reason != '\0' && model->is_wanted;
        for (size_t k = 0; k < model->version_count && !bad; k++) {
            bad = atomic_load(&model->versions[k].state) == MD_VERSION_UNAVAILABLE;
        }
        failed += bad;
    }
    return failed;
}

size_t md_models_out_of_service_count(const struct md_models *models)
{
    size_t count = 0;

    for (size_t i = 0; i < models->count; i++) {
        const struct md_model *model = &models->models[i];
        bool is_out = false;
        for (size_t k = 0; k < model->version_count && !is_out; k++) {
            is_out = md_version_is_out_of_service(&model->versions[k]);
        }
        count += is_out;
    }
    return count;
}

struct md_version *md_models_resolve(const struct md_models *models, struct md_str name,
                                     struct md_str version, struct md_error *err)
{
    struct md_model *model = md_models_find(models, name);
    int64_t number = 0;

    if (!model || !model->is_wanted) {
        md_error_set(err, MD_REASON_UNKNOWN_MODEL, "Request for unknown model: '%.*s' is not found",
                     MD_STR_ARG(name));
        return NULL;
    }
    if (version.len && !md_str_to_i64(version, &number)) {
        md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                     "failed to get model version from specified version string '%.*s' (details: "
                     "stol), version should be an integral value > 0",
                     MD_STR_ARG(version));
        return NULL;
    }
    if (number < 0) {
        md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                     "invalid model version specified '%.*s' , version should be an integral value "
                     "> 0",
                     MD_STR_ARG(version));
        return NULL;
    }
    for (size_t i = model->version_count; i-- > 0;) {
        struct md_version *candidate = &model->versions[i];
        if (!version.len && md_version_is_ready(candidate)) {
            return candidate;
        }
        if (version.len && candidate->number == number) {
            if (md_version_is_ready(candidate)) {
                return candidate;
            }
            md_error_set(err, MD_REASON_NOT_READY,
                         "Request for unknown model: '%s' version %lld is not at ready state",
                         model->name.ptr, (long long)number);
            return NULL;
        }
    }
    if (version.len) {
        md_error_set(err, MD_REASON_UNKNOWN_MODEL,
                     "Request for unknown model: '%s' version %lld is not found", model->name.ptr,
                     (long long)number);
    } else {
        md_error_set(err, MD_REASON_UNKNOWN_MODEL,
                     "Request for unknown model: '%s' has no available versions", model->name.ptr);
    }
    return NULL;
}
