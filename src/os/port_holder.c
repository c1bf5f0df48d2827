/*
 * The kernel's socket tables give the inode of the listening socket; the process is the one that
 * has this inode among its descriptors.
 */
#include "os/port_holder.h"

#include "os/file.h"
#include "os/inject.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STATE_LISTEN = 0x0a };

static bool find_inode(const char *table, uint16_t port, unsigned long *inode)
{
    char line[512];
    unsigned local_port, state;
    bool found = false;
    FILE *file = md_os_injected(EMFILE) ? NULL : fopen(table, "re");

    if (!file) {
        return false;
    }
    while (!found && fgets(line, sizeof line, file)) {
        /* "  0: 0100007F:1F40 00000000:0000 0A tx:rx timer:when retransmits uid timeout inode" */
        found = sscanf(line, "%*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*s %*s %*s %*s %*s %lu",
                       &local_port, &state, inode) == 3 &&
                state == STATE_LISTEN && local_port == port;
    }
    (void)fclose(file);
    return found;
}

static bool has_descriptor(const char *pid, const char *target)
{
    char path[300], link[64];
    bool found = false;

    (void)snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *folder = md_os_injected(EMFILE) ? NULL : opendir(path);
    if (!folder) {
        return false;
    }
    for (struct dirent *entry; !found && (entry = readdir(folder));) {
        ssize_t n = readlinkat(dirfd(folder), entry->d_name, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        found = strcmp(link, target) == 0;
    }
    (void)closedir(folder);
    return found;
}

bool md_os_port_holder(uint16_t port, char holder[MD_OS_HOLDER_MAX])
{
    unsigned long inode;
    char target[64], path[300], name[32];
    bool found = false;

    if (!find_inode("/proc/net/tcp", port, &inode) && !find_inode("/proc/net/tcp6", port, &inode)) {
        return false;
    }
    (void)snprintf(target, sizeof target, "socket:[%lu]", inode);
    DIR *folder = md_os_injected(EMFILE) ? NULL : opendir("/proc");
    if (!folder) {
        return false;
    }
    for (struct dirent *entry; !found && (entry = readdir(folder));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' ||
            !has_descriptor(entry->d_name, target)) {
            continue;
        }
        (void)snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        found = md_os_file_peek(path, name, sizeof name);
        if (found) {
            name[strcspn(name, "\n")] = '\0';
            (void)snprintf(holder, MD_OS_HOLDER_MAX, "%s (pid %ld)", name,
                           strtol(entry->d_name, NULL, 10));
        }
    }
    (void)closedir(folder);
    return found;
}
