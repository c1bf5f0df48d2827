/*
 * cgroups(7). A line of the membership file is "id:controllers:path"; v2 has id 0 and no
 * controllers. In a container the path may be that of the host while the mount shows only the
 * container's own group: so all parents up to the mount are asked, and what does not exist counts
 * as no limit.
 */
#include "os/cgroup.h"

#include "base/str.h"
#include "os/file.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

struct group {
    const char *mount;
    struct md_str controller; /* folder below the mount; empty for v2 */
    struct md_str path;
};

static bool read_setting(const struct group *group, const char *name, char *text, size_t size)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%.*s%.*s/%s", group->mount,
                       MD_STR_ARG(group->controller), MD_STR_ARG(group->path), name);

    return len > 0 && (size_t)len < sizeof path && md_os_file_peek(path, text, size);
}

static void apply_memory(const struct group *group, const char *name, struct md_os_cgroup *out)
{
    char text[64];
    uint64_t bytes;

    if (read_setting(group, name, text, sizeof text)) {
        struct md_str line = md_str_make(text, strcspn(text, "\n"));
        if (md_str_to_u64(line, &bytes)) { /* "max" is no number */
            out->memory_bytes = md_size_min(out->memory_bytes, bytes);
        }
    }
}

static void apply_quota(double quota, double period, struct md_os_cgroup *out)
{
    if (quota > 0 && period > 0 && (out->cpu_quota <= 0 || quota / period < out->cpu_quota)) {
        out->cpu_quota = quota / period;
    }
}

static void apply_v2(const struct group *group, struct md_os_cgroup *out)
{
    char text[64], *end;

    if (read_setting(group, "cpu.max", text, sizeof text)) { /* "max 100000" or "150000 100000" */
        double quota = strtod(text, &end);
        apply_quota(end == text ? 0 : quota, strtod(end, NULL), out);
    }
    apply_memory(group, "memory.max", out);
}

static void apply_v1(const struct group *group, struct md_os_cgroup *out)
{
    char quota[64], period[64];

    if (read_setting(group, "cpu.cfs_quota_us", quota, sizeof quota) &&
        read_setting(group, "cpu.cfs_period_us", period, sizeof period)) { /* -1: none */
        apply_quota(strtod(quota, NULL), strtod(period, NULL), out);
    }
    apply_memory(group, "memory.limit_in_bytes", out);
}

static void apply_with_parents(struct group *group,
                               void (*apply)(const struct group *, struct md_os_cgroup *),
                               struct md_os_cgroup *out)
{
    while (group->path.len) {
        apply(group, out);
        do {
            group->path.len--;
        } while (group->path.len && group->path.ptr[group->path.len] != '/');
    }
    apply(group, out);
}

void md_os_cgroup_read(const char *membership, const char *mount, struct md_os_cgroup *out)
{
    char text[4096];
    struct md_str rest, line, id, controllers, controller;

    *out = (struct md_os_cgroup){.memory_bytes = SIZE_MAX};
    if (!md_os_file_peek(membership, text, sizeof text)) {
        return;
    }
    rest = md_str_of(text);
    while (md_str_split(&rest, '\n', &line)) {
        if (!md_str_split(&line, ':', &id) || !md_str_split(&line, ':', &controllers) ||
            !line.ptr) {
            continue;
        }
        struct group group = {.mount = mount, .path = line};
        if (!controllers.len) {
            apply_with_parents(&group, apply_v2, out);
        }
        while (controllers.len && md_str_split(&controllers, ',', &controller)) {
            if (md_str_eq_c(controller, "cpu") || md_str_eq_c(controller, "memory")) {
                group = (struct group){.mount = mount, .controller = controller, .path = line};
                apply_with_parents(&group, apply_v1, out);
            }
        }
    }
}
