/*
 * Reading restrictions. The value is a secret: sentences say what is missing, not what was given.
 */
#include "config/api_restriction.h"

static const char *const names[MD_API_GROUP_COUNT] = {
    [MD_API_HEALTH] = "health",
    [MD_API_METADATA] = "metadata",
    [MD_API_INFERENCE] = "inference",
    [MD_API_SHARED_MEMORY] = "shared-memory",
    [MD_API_MODEL_CONFIG] = "model-config",
    [MD_API_MODEL_REPOSITORY] = "model-repository",
    [MD_API_STATISTICS] = "statistics",
    [MD_API_TRACE] = "trace",
    [MD_API_LOGGING] = "logging",
};

const char *md_api_group_name(enum md_api_group group)
{
    return names[group];
}

static bool fail_unknown(struct md_str name, struct md_error *err)
{
    unsigned best = UINT32_MAX;
    const char *nearest = names[0];

    for (size_t i = 0; i < MD_API_GROUP_COUNT; i++) {
        unsigned distance = md_str_distance(name, md_str_of(names[i]), (unsigned)strlen(names[i]));
        if (distance < best) {
            best = distance;
            nearest = names[i];
        }
    }
    return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "names the unknown group '%.*s', did you mean '%s'?", MD_STR_ARG(name),
                        nearest);
}

static bool restrict_group(struct md_str name, const struct md_api_restriction *restriction,
                           struct md_api_restriction out[MD_API_GROUP_COUNT], struct md_error *err)
{
    for (size_t i = 0; i < MD_API_GROUP_COUNT; i++) {
        if (!md_str_eq_c(name, names[i])) {
            continue;
        }
        if (out[i].key.len) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "names the group '%s' twice: which key counts is a guess",
                                names[i]);
        }
        out[i] = *restriction;
        return true;
    }
    return fail_unknown(name, err);
}

/* A header's name (RFC 9110, 5.6.2). */
static bool is_token(struct md_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!is_letter && !(c >= '0' && c <= '9') && !(c && strchr("!#$%&'*+-.^_`|~", c))) {
            return false;
        }
    }
    return text.len > 0;
}

bool md_api_restrictions_read(const struct md_string_list *values,
                              struct md_api_restriction out[MD_API_GROUP_COUNT],
                              struct md_error *err)
{
    for (size_t i = 0; i < values->count; i++) {
        struct md_str rest = md_str_of(values->items[i]), groups = MD_STR(""), name;
        struct md_api_restriction restriction = {.key = MD_STR("")};
        ptrdiff_t colon = md_str_find(rest, ':');
        if (colon > 0) {
            (void)md_str_split(&rest, ':', &groups);
            ptrdiff_t equals = md_str_find(rest, '=');
            (void)md_str_split(&rest, '=', &restriction.key);
            restriction.value = equals < 0 ? MD_STR("") : md_str_trim(rest);
        }
        restriction.key = md_str_trim(restriction.key);
        if (!is_token(restriction.key) || !restriction.value.len) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "must be GROUP[,GROUP...]:KEY=VALUE, where KEY is the name of a "
                                "header and VALUE is not empty");
        }
        while (md_str_split(&groups, ',', &name)) {
            if (!restrict_group(md_str_trim(name), &restriction, out, err)) {
                return false;
            }
        }
    }
    return true;
}
