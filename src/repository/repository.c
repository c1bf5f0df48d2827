/*
 * Scan of a local folder.
 */
#include "repository/repository.h"

#include "os/file.h"

#include <stdlib.h>

static const char *const config_files[] = {"config.pbtxt", "config.json"};

/* Folders of a model that are no versions, and what is no model in a repository. */
static const char *const companion_folders[] = {"configs", "warmup", "initial_state"};
static const char *const system_folders[] = {"lost+found"};

/* A model's file, and what its name ends with if it is called otherwise. */
static const char usual_file[] = "model.onnx";
static const char model_suffix[] = ".onnx";

static bool is_one_of(struct md_str name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (md_str_eq_c(name, names[i])) {
            return true;
        }
    }
    return false;
}

static bool is_hidden(struct md_str name)
{
    return name.ptr[0] == '.' || is_one_of(name, system_folders, MD_COUNT_OF(system_folders));
}

static bool is_version_name(struct md_str name, int64_t *version)
{
    return name.len && name.ptr[0] != '0' && md_str_to_i64(name, version) && *version > 0;
}

static int compare_versions(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static const struct md_os_entry *find_entry(const struct md_os_listing *listing, const char *name)
{
    for (size_t i = 0; i < listing->count; i++) {
        if (md_str_eq_c(listing->entries[i].name, name)) {
            return &listing->entries[i];
        }
    }
    return NULL;
}

static const char *find_model_file(const struct md_os_listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        struct md_str name = listing->entries[i].name;
        if (!is_hidden(name) && md_str_ends_with(name, md_str_of(model_suffix))) {
            return name.ptr;
        }
    }
    return NULL;
}

static void sort_folder(struct md_repository_model *model, struct md_str name)
{
    if (is_version_name(name, &model->versions[model->version_count])) {
        model->version_count++;
    } else if (!is_hidden(name) && !md_str_ends_with(name, md_str_of(model_suffix)) &&
               !is_one_of(name, companion_folders, MD_COUNT_OF(companion_folders))) {
        model->other_folders[model->other_folder_count++] = name.ptr;
    }
}

/* Version folders, configuration and model files of one model's folder. */
static bool read_model(const char *directory, struct md_str name,
                       const struct md_os_listing *listing, struct md_arena *arena,
                       struct md_repository_model *model, struct md_error *err)
{
    *model =
        (struct md_repository_model){.name = md_arena_copy(arena, name), .directory = directory};
    model->versions = md_arena_alloc(arena, (listing->count + 1) * sizeof *model->versions);
    model->other_folders = md_arena_alloc(arena, (listing->count + 1) * sizeof(const char *));
    for (size_t i = 0; i < MD_COUNT_OF(config_files); i++) {
        if (find_entry(listing, config_files[i])) {
            const char *path = md_arena_printf(arena, "%s/%s", directory, config_files[i]);
            model->config_is_json |= !model->config_path && i == 1;
            *(model->config_path ? &model->unread_config_path : &model->config_path) = path;
        }
    }
    if (md_arena_failed(arena)) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    for (size_t i = 0; i < listing->count; i++) {
        if (listing->entries[i].is_directory) {
            sort_folder(model, listing->entries[i].name);
        }
    }
    model->model_file = find_model_file(listing);
    if (model->version_count == 0 && model->model_file) {
        model->files_in_directory = true;
        model->versions[model->version_count++] = 1;
    }
    qsort(model->versions, model->version_count, sizeof *model->versions, compare_versions);
    return true;
}

/* A file called as usual, or a configuration, makes a folder a model; one with another name does
 * where nothing else could be one. */
static bool is_single_model(const struct md_os_listing *listing)
{
    bool holds_versions = false, holds_others = false;
    int64_t version;

    if (find_entry(listing, usual_file) || find_entry(listing, config_files[0]) ||
        find_entry(listing, config_files[1])) {
        return true;
    }
    for (size_t i = 0; i < listing->count; i++) {
        const struct md_os_entry *entry = &listing->entries[i];
        if (entry->is_directory && !is_hidden(entry->name)) {
            bool is_version = is_version_name(entry->name, &version);
            holds_versions |= is_version;
            holds_others |= !is_version;
        }
    }
    return !holds_others && (holds_versions || find_model_file(listing));
}

static struct md_str base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return md_str_of(slash ? slash + 1 : path);
}

static bool scan_single(const char *directory, struct md_str name,
                        const struct md_os_listing *listing, struct md_arena *arena,
                        struct md_repository_scan *out, struct md_error *err)
{
    out->models = md_arena_calloc(arena, 1, sizeof *out->models);
    if (!out->models) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    out->model_count = 1;
    if (!read_model(directory, name.len ? name : base_name(directory), listing, arena, out->models,
                    err)) {
        return false;
    }
    out->models->is_repository = true;
    return true;
}

/* One folder of a repository; what is wrong with it is its own problem. */
static bool add_model(const char *root, const struct md_os_entry *entry, struct md_arena *arena,
                      struct md_repository_scan *out, struct md_error *err)
{
    struct md_repository_model *model = &out->models[out->model_count++];
    const char *path = md_arena_printf(arena, "%s/%s", root, entry->name.ptr);
    struct md_os_listing listing = {0};
    struct md_error problem;
    bool listed = path && !entry->leads_nowhere && md_os_list(path, arena, &listing, &problem);

    bool no_memory =
        !path || (!listed && !entry->leads_nowhere && problem.reason == MD_REASON_OUT_OF_MEMORY);

    if (no_memory || !read_model(path, entry->name, &listing, arena, model, err)) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    if (!listed) {
        model->problem =
            entry->leads_nowhere ? "the link leads nowhere" : md_arena_strdup(arena, problem.text);
    }
    return listed || model->problem || md_error_no_memory(err, "the scan of a model repository");
}

bool md_repository_scan(const char *directory, struct md_str single_name, struct md_arena *arena,
                        struct md_repository_scan *out, struct md_error *err)
{
    struct md_os_listing listing;
    const char *root;

    *out = (struct md_repository_scan){0};
    if (strstr(directory, "://")) {
        return md_error_set(
            err, MD_REASON_UNSUPPORTED,
            "model repository '%s': stores other than folders are not read yet; copy "
            "the models into a folder",
            directory);
    }
    if (!md_os_real_path(directory, arena, &root, err) || !md_os_list(root, arena, &listing, err)) {
        return md_error_prefix(err, "model repository '%s'", directory);
    }
    out->root = root;
    if (is_single_model(&listing)) {
        return scan_single(root, single_name, &listing, arena, out, err);
    }
    out->models = md_arena_calloc(arena, listing.count, sizeof *out->models);
    if (!out->models) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    for (size_t i = 0; i < listing.count; i++) {
        const struct md_os_entry *entry = &listing.entries[i];
        if ((entry->is_directory || entry->leads_nowhere) && !is_hidden(entry->name) &&
            !add_model(root, entry, arena, out, err)) {
            return false;
        }
    }
    return true;
}

const char *md_repository_version_directory(const struct md_repository_model *model,
                                            int64_t version, struct md_arena *arena)
{
    if (model->files_in_directory) {
        return model->directory;
    }
    return md_arena_printf(arena, "%s/%lld", model->directory, (long long)version);
}
