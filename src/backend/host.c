/*
 * Host functions: each hands over to infer/request.
 */
#include "backend/host.h"

#include "infer/request.h"

static void host_log(uint32_t level, const char *text)
{
    static const enum md_log_level levels[] = {
        [MODELD_LOG_ERROR] = MD_LOG_ERROR,
        [MODELD_LOG_WARNING] = MD_LOG_WARNING,
        [MODELD_LOG_INFO] = MD_LOG_INFO,
        [MODELD_LOG_VERBOSE] = MD_LOG_VERBOSE,
    };

    md_log(level < MD_COUNT_OF(levels) ? levels[level] : MD_LOG_VERBOSE, "%s", text);
}

static modeld_buffer host_buffer_create(modeld_request request, uint64_t bytes, void **data)
{
    struct md_block *block = md_request_block(request, bytes);

    *data = block ? block->data : NULL;
    return (modeld_buffer)(uintptr_t)block;
}

static void host_buffer_destroy(modeld_buffer buffer)
{
    md_block_unref((struct md_block *)(uintptr_t)buffer);
}

static int32_t host_respond(modeld_request request, const struct modeld_response *response)
{
    return md_request_respond(request, response);
}

static int32_t host_finish(modeld_request request, int32_t code, const char *text, uint32_t how)
{
    return md_request_finish(request, code, text, how);
}

static int32_t host_is_cancelled(modeld_request request)
{
    return md_request_is_cancelled(request);
}

const struct modeld_host_api md_host_api = {
    .struct_size = sizeof(struct modeld_host_api),
    .abi_major = MODELD_ABI_MAJOR,
    .abi_minor = MODELD_ABI_MINOR,
    .log = host_log,
    .buffer_create = host_buffer_create,
    .buffer_destroy = host_buffer_destroy,
    .respond = host_respond,
    .finish = host_finish,
    .is_cancelled = host_is_cancelled,
};
