/*
 * Restrictions of groups of APIs, as options say them: "health,metadata:key=value" of
 * --http-restricted-api and --grpc-restricted-protocol. Plain values, views into the options; any
 * thread.
 */
#ifndef MD_CONFIG_API_RESTRICTION_H
#define MD_CONFIG_API_RESTRICTION_H

#include "config/options.h"

/* Groups of APIs, named as in the field. */
enum md_api_group {
    MD_API_HEALTH,
    MD_API_METADATA,
    MD_API_INFERENCE,
    MD_API_SHARED_MEMORY,
    MD_API_MODEL_CONFIG,
    MD_API_MODEL_REPOSITORY,
    MD_API_STATISTICS,
    MD_API_TRACE,
    MD_API_LOGGING,
    MD_API_GROUP_COUNT,
    MD_API_UNGROUPED = MD_API_GROUP_COUNT, /* what is no API of the field */
};

const char *md_api_group_name(enum md_api_group group);

/* What a caller has to show for a group; key.len 0: nothing. */
struct md_api_restriction {
    struct md_str key, value;
};

/* Reads all values of one option; groups that are not named stay as they are in *out, which begins
 * zeroed. False with a sentence that follows the option's name, and never has the secret in it. */
bool md_api_restrictions_read(const struct md_string_list *values,
                              struct md_api_restriction out[MD_API_GROUP_COUNT],
                              struct md_error *err) MD_MUST_CHECK;

#endif
