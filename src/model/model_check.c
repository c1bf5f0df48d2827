/*
 * Checks of folder and configuration that need no backend.
 */
#include "model/model_check.h"

#include "codec/utf8.h"
#include "config/labels.h"
#include "config/model_config.h"
#include "os/file.h"

enum { LABEL_FILE_MAX = 16 << 20, KIND_GPU = 1 };

static struct md_str text_of(const struct md_message *message, const char *field)
{
    return md_message_get(message, field, 0).as.string;
}

/* At the place of a field's first value. */
#define DIAGNOSE_FIELD(diagnostics, severity, message, field, ...)                    \
    do {                                                                              \
        const struct md_field_values *at =                                            \
            &(message)->fields[md_message_field((message)->desc, MD_STR(field))];     \
        (void)md_diagnose(diagnostics, severity, at->file, at->line, 0, __VA_ARGS__); \
    } while (0)

/* --- folder -------------------- */

static bool check_versions(const struct md_repository_model *files,
                           struct md_diagnostics *diagnostics)
{
    const char *other = files->other_folder_count ? files->other_folders[0] : NULL;

    for (size_t i = 0; files->version_count && i < files->other_folder_count; i++) {
        if (strcmp(files->other_folders[i], MD_WARMUP_FOLDER) == 0) {
            continue;
        }
        (void)md_diagnose(diagnostics, MD_SEVERITY_NOTE, files->directory, 0, 0,
                          "the folder '%s' is passed over: versions are numbers from 1 on, without "
                          "leading zeros",
                          files->other_folders[i]);
    }
    if (files->version_count) {
        return true;
    }
    return md_diagnose(
        diagnostics, MD_SEVERITY_ERROR, files->directory, 0, 0,
        "there is no version folder%s%s%s; the model's file belongs into 1/model.onnx",
        other ? ": '" : "", other ? other : "",
        other ? "' is none (versions are numbers from 1 on, without leading zeros)" : "");
}

static bool check_folder(const struct md_repository_model *files,
                         struct md_diagnostics *diagnostics)
{
    if (files->problem) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, files->directory, 0, 0, "%s",
                           files->problem);
    }
    if (!md_model_name_is_valid(files->name) || !md_utf8_is_valid(files->name)) {
        return md_diagnose(diagnostics, MD_SEVERITY_ERROR, files->directory, 0, 0,
                           "a model's name is UTF-8 without slashes and control characters: rename "
                           "the folder, or say another --model-name");
    }
    if (files->unread_config_path) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_WARNING, files->unread_config_path, 0, 0,
                          "it is not read, %s stands beside it: remove one of them",
                          files->config_path);
    }
    return check_versions(files, diagnostics);
}

/* --- configuration -------------------- */

static void check_name(const struct md_model *model, const struct md_options *options,
                       struct md_diagnostics *diagnostics)
{
    struct md_str name = text_of(model->config, "name");

    if (!name.len || md_str_eq(name, model->name) || options->model_name) {
        return;
    }
    DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_ERROR, model->config, "name",
                   "the name '%s' is not the folder's name '%s': %s%s", name.ptr, model->name.ptr,
                   model->files->is_repository ? "say --model-name="
                                               : "take it out, or rename the folder",
                   model->files->is_repository ? name.ptr : "");
}

static void check_devices(const struct md_model *model, const struct md_options *options,
                          struct md_diagnostics *diagnostics)
{
    bool is_error = strcmp(options->gpu_fallback, "error") == 0;

    for (size_t i = 0; i < md_message_count(model->config, "instance_group"); i++) {
        const struct md_message *group =
            md_message_get(model->config, "instance_group", i).as.message;
        if (md_message_get(group, "kind", 0).as.integer == KIND_GPU) {
            DIAGNOSE_FIELD(diagnostics, is_error ? MD_SEVERITY_ERROR : MD_SEVERITY_WARNING, group,
                           "kind", "model '%s' asks for a GPU and this server has none%s",
                           model->name.ptr,
                           is_error ? "; use KIND_CPU, or start with --gpu-fallback=cpu"
                                    : ": it runs on the CPU");
        }
    }
}

static void check_libraries(const struct md_model *model, const struct md_options *options,
                            struct md_diagnostics *diagnostics)
{
    const struct md_message *operations = md_message_child(model->config, "model_operations");

    if (md_message_count(operations, "op_library_filename") && !options->allow_op_library) {
        DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_ERROR, operations, "op_library_filename",
                       "model '%s' wants to load native code; start with --allow-op-library if you "
                       "trust it",
                       model->name.ptr);
    }
}

static bool has_version(const struct md_repository_model *files, int64_t number)
{
    for (size_t i = 0; i < files->version_count; i++) {
        if (files->versions[i] == number) {
            return true;
        }
    }
    return false;
}

static void check_policy(const struct md_model *model, struct md_diagnostics *diagnostics)
{
    const struct md_message *policy = md_message_child(model->config, "version_policy");
    const struct md_message *specific = policy ? md_message_child(policy, "specific") : NULL;
    size_t count = md_message_count(specific, "versions"), found = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t number = md_message_get(specific, "versions", i).as.integer;
        bool is_there = has_version(model->files, number);
        found += is_there;
        if (!is_there) {
            DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_WARNING, specific, "versions",
                           "the version policy names version %lld, which has no folder",
                           (long long)number);
        }
    }
    if (count && !found) {
        DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_ERROR, specific, "versions",
                       "the version policy names no version that exists");
    }
}

bool md_model_check(const struct md_model *model, const struct md_options *options,
                    struct md_diagnostics *diagnostics)
{
    size_t before = diagnostics->error_count;

    if (!check_folder(model->files, diagnostics)) {
        return false;
    }
    check_name(model, options, diagnostics);
    bool valid = md_model_config_validate(model->config, diagnostics);
    check_devices(model, options, diagnostics);
    check_libraries(model, options, diagnostics);
    check_policy(model, diagnostics);
    md_message_report_support(
        model->config, options->check_config ? MD_SEVERITY_NOTE : MD_SEVERITY_WARNING, diagnostics);
    return valid && diagnostics->error_count == before;
}

/* --- files -------------------- */

static struct md_str named_backend(const struct md_message *config)
{
    struct md_str backend = text_of(config, "backend");
    bool is_onnx = md_str_eq_c(text_of(config, "platform"), "onnxruntime_onnx") ||
                   md_str_ends_with(text_of(config, "default_model_filename"), MD_STR(".onnx"));

    return backend.len ? backend : is_onnx ? MD_STR("onnxruntime") : MD_STR("");
}

/* Names what lies there instead, where that may be the model's file under another name. */
static bool no_model_file(const char *directory, const char *likely, struct md_error *err)
{
    if (likely) {
        return md_error_set(err, MD_REASON_NOT_FOUND,
                            "%s holds no model.onnx, but '%s': rename it, or say "
                            "default_model_filename: \"%s\" in the model's config.pbtxt",
                            directory, likely, likely);
    }
    return md_error_set(err, MD_REASON_NOT_FOUND,
                        "%s holds no model file that is known (model.onnx); name the file with "
                        "default_model_filename or the backend with 'backend'",
                        directory);
}

bool md_model_find_backend(const struct md_message *config, const char *directory,
                           struct md_arena *arena, struct md_str *out, struct md_error *err)
{
    struct md_os_listing listing;
    const char *likely = NULL;

    *out = named_backend(config);
    if (out->len) {
        return true;
    }
    if (!md_os_list(directory, arena, &listing, err)) {
        return false;
    }
    for (size_t i = 0; i < listing.count; i++) {
        struct md_str name = listing.entries[i].name;
        const char *backend = md_backend_of_file(name);
        if (backend) {
            *out = md_str_of(backend);
            return true;
        }
        likely = md_str_ends_with(name, MD_STR(".onnx")) ? name.ptr : likely;
    }
    return no_model_file(directory, likely, err);
}

bool md_model_read_labels(const struct md_model *model, const struct md_message *output,
                          struct md_arena *arena, const struct md_str **labels, size_t *count,
                          struct md_error *err)
{
    struct md_str file = text_of(output, "label_filename"), text;
    const char *path = md_arena_printf(arena, "%s/%s", model->files->directory, file.ptr);

    if (!path) {
        return md_error_no_memory(err, "class labels");
    }
    return (md_os_file_read(path, LABEL_FILE_MAX, arena, &text, err) &&
            (md_labels_parse(text, arena, labels, count, err) ||
             md_error_prefix(err, "%s", path))) ||
           md_error_prefix(err, "label file of output '%s'", text_of(output, "name").ptr);
}

static void check_labels(const struct md_model *model, struct md_diagnostics *diagnostics)
{
    const struct md_str *labels;
    struct md_error err;
    size_t count;

    for (size_t i = 0; i < md_message_count(model->config, "output"); i++) {
        const struct md_message *output = md_message_get(model->config, "output", i).as.message;
        if (text_of(output, "label_filename").len &&
            !md_model_read_labels(model, output, diagnostics->arena, &labels, &count, &err)) {
            DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_ERROR, output, "label_filename", "%s",
                           err.text);
        }
    }
}

/* The files of one sample. */
static void check_sample(const struct md_model *model, const struct md_message *sample,
                         struct md_diagnostics *diagnostics)
{
    for (size_t i = 0; i < md_message_count(sample, "inputs"); i++) {
        const struct md_message *entry = md_message_get(sample, "inputs", i).as.message;
        const struct md_message *data = md_message_child(entry, "value");
        struct md_str file = text_of(data, "input_data_file");
        const char *path = file.len
                               ? md_arena_printf(diagnostics->arena, "%s/" MD_WARMUP_FOLDER "/%s",
                                                 model->files->directory, file.ptr)
                               : NULL;
        if (path && !md_os_file_exists(path)) {
            DIAGNOSE_FIELD(diagnostics, MD_SEVERITY_ERROR, data, "input_data_file",
                           "%s is missing or cannot be read", path);
        }
    }
}

static void check_warmup(const struct md_model *model, struct md_diagnostics *diagnostics)
{
    for (size_t i = 0; i < md_message_count(model->config, "model_warmup"); i++) {
        check_sample(model, md_message_get(model->config, "model_warmup", i).as.message,
                     diagnostics);
    }
}

static bool find_version_backend(const struct md_version *version, struct md_backends *backends,
                                 struct md_arena *arena, struct md_str *name, struct md_error *err)
{
    const struct md_message *config = version->model->config;
    struct md_str runtime = text_of(config, "runtime");

    return md_model_find_backend(config, version->directory, arena, name, err) &&
           md_backends_has(backends, *name, runtime.len ? runtime.ptr : NULL,
                           version->model->files->directory, version->directory, err);
}

static void check_version_files(const struct md_version *version, struct md_backends *backends,
                                struct md_diagnostics *diagnostics)
{
    struct md_str file = text_of(version->model->config, "default_model_filename"), backend;
    struct md_error err;

    if (!find_version_backend(version, backends, diagnostics->arena, &backend, &err)) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, version->directory, 0, 0, "%s", err.text);
        return;
    }
    const char *usual = md_backend_default_file(backend);
    const char *name = file.len ? file.ptr : usual;
    const char *path =
        name ? md_arena_printf(diagnostics->arena, "%s/%s", version->directory, name) : NULL;
    if (path && !md_os_file_exists(path)) {
        (void)md_diagnose(diagnostics, MD_SEVERITY_ERROR, path, 0, 0,
                          "the model's file is missing or cannot be read");
    }
}

void md_model_check_files(const struct md_model *model, struct md_backends *backends,
                          struct md_diagnostics *diagnostics)
{
    check_labels(model, diagnostics);
    check_warmup(model, diagnostics);
    for (size_t i = 0; i < model->version_count; i++) {
        check_version_files(&model->versions[i], backends, diagnostics);
    }
}

/* --- description -------------------- */

void md_model_describe(const struct md_model *model, struct md_bytes *out)
{
    static const struct {
        enum md_support support;
        const char *word;
    } rows[] = {{MD_SUPPORTED, "supported"}, {MD_NO_EFFECT, "ignored"}, {MD_REFUSED, "refused"}};
    const char *config = model->files->config_path;

    md_bytes_printf(out, "model '%s':%s%s", model->name.ptr, *model->reason ? " unusable," : "",
                    model->version_count == 1  ? " version"
                    : model->version_count > 1 ? " versions"
                                               : " no version");
    for (size_t i = 0; i < model->version_count; i++) {
        md_bytes_printf(out, "%s%lld", i ? ", " : " ", (long long)model->versions[i].number);
    }
    md_bytes_printf(out, ", %s\n", config ? config : "no configuration file");
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_bytes names = {0};
        md_message_list_support(model->config, rows[i].support, &names);
        if (names.len) {
            md_bytes_printf(out, "  %s: %.*s\n", rows[i].word, MD_STR_ARG(md_bytes_view(&names)));
        }
        md_bytes_deinit(&names);
    }
}
