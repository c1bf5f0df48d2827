/*
 * Files and folders. Any thread. Paths are zero-terminated; results live in the caller's arena.
 * Errors are NOT_FOUND or IO and name the path.
 */
#ifndef MD_OS_FILE_H
#define MD_OS_FILE_H

#include "base/arena.h"
#include "base/error.h"

/* The whole of a regular file of at most max_bytes, with a zero byte behind it. */
bool md_os_file_read(const char *path, size_t max_bytes, struct md_arena *arena, struct md_str *out,
                     struct md_error *err) MD_MUST_CHECK;

/* True if there is something of that name that can be read. */
bool md_os_file_exists(const char *path);

/* Whether people who are neither its owner nor of its group may read or write it. */
bool md_os_file_is_open_to_others(const char *path);

/* What tells a file from the one that was there before, without reading it; links are followed. */
struct md_os_file_stamp {
    uint64_t device, inode, bytes;
    int64_t changed_ns;
};

/* False, and a zeroed stamp, if there is no such file. */
bool md_os_file_stamp(const char *path, struct md_os_file_stamp *out);

struct md_os_entry {
    struct md_str name; /* zero-terminated */
    bool is_directory;  /* symbolic links followed */
    bool leads_nowhere; /* a symbolic link to what does not exist */
};

struct md_os_listing {
    struct md_os_entry *entries; /* sorted by name, without "." and ".." */
    size_t count;
};

bool md_os_list(const char *path, struct md_arena *arena, struct md_os_listing *out,
                struct md_error *err) MD_MUST_CHECK;

/* Absolute path without symbolic links. */
bool md_os_real_path(const char *path, struct md_arena *arena, const char **out,
                     struct md_error *err) MD_MUST_CHECK;

/* Bytes of a small file of /proc or /sys into text (terminated, cut at size - 1); false if it
 * cannot be read. */
bool md_os_file_peek(const char *path, char *text, size_t size) MD_MUST_CHECK;

/* A new file, or an old one made empty, to be written from its beginning; closed with md_os_close
 * (os/poll.h). */
bool md_os_file_create(const char *path, int *fd, struct md_error *err) MD_MUST_CHECK;
/* All of the text. `path` is for the error. */
bool md_os_file_write(int fd, const char *path, struct md_str text, struct md_error *err)
    MD_MUST_CHECK;

#endif
