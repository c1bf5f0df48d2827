/*
 * Repository: which models a folder holds, with their versions and files.
 *
 * A pure picture of one scan, in the caller's arena; reading happens on the thread that scans
 * (start-up, later a loader). Layout of the field: <repository>/<model>/{config.pbtxt|config.json,
 * label files, <version>/model.*}, where a version is a folder whose name is a number without a
 * leading zero. A folder that directly holds a model file, a configuration or version folders and
 * no other is itself one model (as Kubernetes mounts one at /mnt/models). Names that begin with a
 * dot, and lost+found, are not looked at.
 */
#ifndef MD_REPOSITORY_REPOSITORY_H
#define MD_REPOSITORY_REPOSITORY_H

#include "base/arena.h"
#include "base/error.h"

struct md_repository_model {
    struct md_str name;      /* zero-terminated */
    const char *directory;   /* absolute, symbolic links resolved */
    const char *config_path; /* config.pbtxt or config.json; NULL: the model has no configuration */
    const char *unread_config_path; /* a second one beside it; NULL: there is none */
    bool config_is_json;
    int64_t *versions; /* ascending */
    size_t version_count;
    bool files_in_directory;    /* the model's files lie beside the configuration: version 1 is the
                                   directory itself */
    bool is_repository;         /* the scanned folder is itself the model */
    const char **other_folders; /* names of those that are neither versions nor known otherwise */
    size_t other_folder_count;
    const char *model_file; /* in the directory itself, however it is called; NULL: none */
    const char *problem;    /* why the folder cannot be read; NULL: it was */
};

struct md_repository_scan {
    const char *root;                   /* absolute, without links */
    struct md_repository_model *models; /* by name */
    size_t model_count;
};

/* Scans one folder. `single_name` (may be empty) names the model of a folder that directly holds
 * one; without it the folder's own name is used. Fails (NOT_FOUND, IO, UNSUPPORTED) when the folder
 * cannot be read; a model folder that cannot be read is a model with a problem, since leaving it
 * out would hide it.
 */
bool md_repository_scan(const char *directory, struct md_str single_name, struct md_arena *arena,
                        struct md_repository_scan *out, struct md_error *err) MD_MUST_CHECK;

/* The folder of a version. NULL when out of memory. */
const char *md_repository_version_directory(const struct md_repository_model *model,
                                            int64_t version, struct md_arena *arena);

#endif
