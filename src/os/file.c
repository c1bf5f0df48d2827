/*
 * Files over POSIX calls.
 */
#include "os/file.h"

#include "base/alloc.h"
#include "os/inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(struct md_error *err, const char *what, const char *path)
{
    return md_error_set(err,
                        errno == ENOENT || errno == ENOTDIR ? MD_REASON_NOT_FOUND : MD_REASON_IO,
                        "cannot %s %s: %s", what, path, strerror(errno));
}

static bool read_open(int fd, const char *path, size_t max_bytes, struct md_arena *arena,
                      struct md_str *out, struct md_error *err)
{
    struct stat info;

    if (md_os_injected(EIO) || fstat(fd, &info) < 0) {
        return fail(err, "read", path);
    }
    if (!S_ISREG(info.st_mode)) {
        return md_error_set(err, MD_REASON_IO, "%s is not a regular file", path);
    }
    if ((size_t)info.st_size > max_bytes) {
        return md_error_set(err, MD_REASON_TOO_LARGE, "%s has %lld bytes, at most %zu are read",
                            path, (long long)info.st_size, max_bytes);
    }
    size_t size = (size_t)info.st_size, used = 0;
    char *data = md_arena_alloc(arena, size + 1);
    if (!data) {
        return md_error_no_memory(err, path);
    }
    while (used < size) {
        ssize_t n = md_os_injected(EIO) ? -1 : read(fd, data + used, size - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(err, "read", path);
        }
        if (n == 0) {
            break; /* it was cut while we read it */
        }
        used += (size_t)n;
    }
    data[used] = '\0';
    *out = md_str_make(data, used);
    return true;
}

bool md_os_file_read(const char *path, size_t max_bytes, struct md_arena *arena, struct md_str *out,
                     struct md_error *err)
{
    int fd = md_os_injected(EIO) ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return fail(err, "open", path);
    }
    bool ok = read_open(fd, path, max_bytes, arena, out, err);
    close(fd);
    return ok;
}

bool md_os_file_exists(const char *path)
{
    return !md_os_injected(EIO) && access(path, R_OK) == 0;
}

bool md_os_file_is_open_to_others(const char *path)
{
    struct stat info;

    return !md_os_injected(EIO) && stat(path, &info) == 0 && (info.st_mode & (S_IROTH | S_IWOTH));
}

bool md_os_file_stamp(const char *path, struct md_os_file_stamp *out)
{
    struct stat info;

    *out = (struct md_os_file_stamp){0};
    if (md_os_injected(EIO) || stat(path, &info) < 0) {
        return false;
    }
    /* the change of the inode: a copy may keep the time of its content */
    *out = (struct md_os_file_stamp){.device = info.st_dev,
                                     .inode = info.st_ino,
                                     .bytes = (uint64_t)info.st_size,
                                     .changed_ns = (int64_t)info.st_ctim.tv_sec * 1000000000 +
                                                   info.st_ctim.tv_nsec};
    return true;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct md_os_entry *)a)->name.ptr,
                  ((const struct md_os_entry *)b)->name.ptr);
}

/* What an entry is, or what the link leads to. Not to know is an error, since whoever looks for
 * folders would silently miss one. */
static bool classify(int folder, const struct dirent *from, struct md_os_entry *entry)
{
    struct stat info;

    if (from->d_type == DT_DIR || from->d_type == DT_REG) {
        entry->is_directory = from->d_type == DT_DIR;
        return true;
    }
    if (!md_os_injected(EIO) && fstatat(folder, from->d_name, &info, 0) == 0) {
        entry->is_directory = S_ISDIR(info.st_mode);
        return true;
    }
    entry->leads_nowhere = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
    return entry->leads_nowhere;
}

static bool read_entries(DIR *folder, const char *path, struct md_arena *arena,
                         struct md_os_listing *out, struct md_error *err)
{
    size_t capacity = 0;

    for (;;) {
        errno = 0;
        struct dirent *entry = md_os_injected(EIO) ? NULL : readdir(folder);
        if (!entry) {
            return errno == 0 || fail(err, "list", path);
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (out->count == capacity) {
            capacity = capacity ? capacity * 2 : 16;
            struct md_os_entry *grown = md_arena_alloc(arena, capacity * sizeof *grown);
            if (!grown) {
                return md_error_no_memory(err, path);
            }
            if (out->count) {
                memcpy(grown, out->entries, out->count * sizeof *grown);
            }
            out->entries = grown;
        }
        struct md_os_entry *slot = &out->entries[out->count++];
        *slot = (struct md_os_entry){.name = md_arena_copy(arena, md_str_of(entry->d_name))};
        if (!slot->name.ptr) {
            return md_error_no_memory(err, path);
        }
        if (!classify(dirfd(folder), entry, slot)) {
            return fail(err, "look at an entry of", path);
        }
    }
}

bool md_os_list(const char *path, struct md_arena *arena, struct md_os_listing *out,
                struct md_error *err)
{
    DIR *folder = md_os_injected(EIO) ? NULL : opendir(path);

    *out = (struct md_os_listing){0};
    if (!folder) {
        return fail(err, "list", path);
    }
    bool ok = read_entries(folder, path, arena, out, err);
    closedir(folder);
    if (ok && out->count) {
        qsort(out->entries, out->count, sizeof *out->entries, compare_entries);
    }
    return ok;
}

bool md_os_real_path(const char *path, struct md_arena *arena, const char **out,
                     struct md_error *err)
{
    char resolved[PATH_MAX];

    if (md_os_injected(EIO) || !realpath(path, resolved)) {
        return fail(err, "find", path);
    }
    *out = md_arena_strdup(arena, resolved);
    return *out || md_error_no_memory(err, path);
}

bool md_os_file_peek(const char *path, char *text, size_t size)
{
    int fd = md_os_injected(EIO) ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        return false;
    }
    n = md_os_injected(EIO) ? -1 : read(fd, text, size - 1);
    close(fd);
    if (n < 0) {
        return false;
    }
    text[n] = '\0';
    return true;
}

bool md_os_file_create(const char *path, int *fd, struct md_error *err)
{
    enum { MODE = 0640 };

    *fd = md_os_injected(EACCES) ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, MODE);
    return *fd >= 0 || fail(err, "create", path);
}

bool md_os_file_write(int fd, const char *path, struct md_str text, struct md_error *err)
{
    while (text.len) {
        ssize_t n = md_os_injected(ENOSPC) ? -1 : write(fd, text.ptr, text.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return fail(err, "write", path);
        }
        text = md_str_make(text.ptr + n, text.len - (size_t)n);
    }
    return true;
}
