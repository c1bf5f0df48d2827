/*
 * Names of the causes for which sessions refuse requests.
 */
#include "http/session_internal.h"

static const char *const refusal_names[] = {
    [MD_REFUSAL_MALFORMED] = "malformed", [MD_REFUSAL_HEADER_SIZE] = "header_size",
    [MD_REFUSAL_BODY_SIZE] = "body_size", [MD_REFUSAL_TIMEOUT] = "timeout",
    [MD_REFUSAL_MEMORY] = "memory",       [MD_REFUSAL_ENCODING] = "encoding",
    [MD_REFUSAL_DEADLINE] = "deadline",
};

const char *md_http_refusal_name(unsigned cause)
{
    return cause < MD_COUNT_OF(refusal_names) ? refusal_names[cause] : NULL;
}
