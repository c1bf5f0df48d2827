/*
 * Scan of a local folder.
 */
#include "repository/repository.h"

#include "os/file.h"

#include <stdlib.h>

static const char *const config_files[] = {"config.pbtxt", "config.json"};

/* Files that make a folder a model by themselves. */
static const char *const model_files[] = {"model.onnx"};

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

static bool holds_model_file(const struct md_os_listing *listing)
{
    for (size_t i = 0; i < MD_COUNT_OF(model_files); i++) {
        if (find_entry(listing, model_files[i])) {
            return true;
        }
    }
    return false;
}

/* Version folders, configuration and model files of one model's folder. */
static bool read_model(const char *directory, struct md_str name,
                       const struct md_os_listing *listing, struct md_arena *arena,
                       struct md_repository_model *model, struct md_error *err)
{
    *model =
        (struct md_repository_model){.name = md_arena_copy(arena, name), .directory = directory};
    model->versions = md_arena_alloc(arena, (listing->count + 1) * sizeof *model->versions);
    for (size_t i = 0; i < MD_COUNT_OF(config_files) && !model->config_path; i++) {
        const struct md_os_entry *entry = find_entry(listing, config_files[i]);
        if (entry) {
            model->config_path = md_arena_printf(arena, "%s/%s", directory, config_files[i]);
            model->config_is_json = i == 1;
        }
    }
    if (md_arena_failed(arena)) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    for (size_t i = 0; i < listing->count; i++) {
        const struct md_os_entry *entry = &listing->entries[i];
        if (entry->is_directory &&
            is_version_name(entry->name, &model->versions[model->version_count])) {
            model->version_count++;
        }
    }
    if (model->version_count == 0 && holds_model_file(listing)) {
        model->files_in_directory = true;
        model->versions[model->version_count++] = 1;
    }
    qsort(model->versions, model->version_count, sizeof *model->versions, compare_versions);
    return true;
}

static bool is_single_model(const struct md_os_listing *listing)
{
    int64_t version;

    if (holds_model_file(listing) || find_entry(listing, config_files[0]) ||
        find_entry(listing, config_files[1])) {
        return true;
    }
    for (size_t i = 0; i < listing->count; i++) {
        if (listing->entries[i].is_directory &&
            !is_version_name(listing->entries[i].name, &version)) {
            return false;
        }
    }
    return listing->count > 0;
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
    return read_model(directory, name.len ? name : base_name(directory), listing, arena,
                      out->models, err);
}

/* A folder of the repository. That one cannot be read is its own problem: the others are served. */
static bool scan_folder(const char *path, struct md_str name, struct md_arena *arena,
                        struct md_repository_model *model, struct md_error *err)
{
    struct md_os_listing listing;

    if (md_os_list(path, arena, &listing, err)) {
        return read_model(path, name, &listing, arena, model, err);
    }
    if (err->reason == MD_REASON_OUT_OF_MEMORY) {
        return false;
    }
    *model = (struct md_repository_model){.name = md_arena_copy(arena, name),
                                          .directory = path,
                                          .problem = md_arena_strdup(arena, err->text)};
    return (model->name.ptr && model->problem) ||
           md_error_no_memory(err, "the scan of a model repository");
}

bool md_repository_scan(const char *directory, struct md_str single_name, struct md_arena *arena,
                        struct md_repository_scan *out, struct md_error *err)
{
    struct md_os_listing listing;
    const char *root;

    *out = (struct md_repository_scan){0};
    if (!md_os_real_path(directory, arena, &root, err) || !md_os_list(root, arena, &listing, err)) {
        return md_error_prefix(err, "model repository '%s'", directory);
    }
    if (is_single_model(&listing)) {
        return scan_single(root, single_name, &listing, arena, out, err);
    }
    out->models = md_arena_calloc(arena, listing.count, sizeof *out->models);
    if (!out->models) {
        return md_error_no_memory(err, "the scan of a model repository");
    }
    for (size_t i = 0; i < listing.count; i++) {
        const struct md_os_entry *entry = &listing.entries[i];
        if (!entry->is_directory || entry->name.ptr[0] == '.') {
            continue;
        }
        const char *path = md_arena_printf(arena, "%s/%s", root, entry->name.ptr);
        if (!path) {
            return md_error_no_memory(err, "the scan of a model repository");
        }
        if (!scan_folder(path, entry->name, arena, &out->models[out->model_count], err)) {
            return md_error_prefix(err, "model repository '%s'", directory);
        }
        out->model_count++;
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
