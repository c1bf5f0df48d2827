/*
 * One object of every struct and enum of the backend interface, so that the debug information of a
 * library made of this file alone describes the whole interface. tools/check_abi.sh compares it
 * with the committed description.
 */
#include <modeld/backend.h>

MODELD_EXPORT struct modeld_host_api modeld_abi_host_api;
MODELD_EXPORT struct modeld_backend_api modeld_abi_backend_api;
MODELD_EXPORT struct modeld_instance_args modeld_abi_instance_args;
MODELD_EXPORT enum modeld_code modeld_abi_code;
MODELD_EXPORT enum modeld_dtype modeld_abi_dtype;
MODELD_EXPORT enum modeld_memory_kind modeld_abi_memory_kind;
MODELD_EXPORT enum modeld_log_level modeld_abi_log_level;
MODELD_EXPORT enum modeld_output_memory modeld_abi_output_memory;
MODELD_EXPORT enum modeld_finish modeld_abi_finish;
MODELD_EXPORT enum modeld_backend_flag modeld_abi_backend_flag;

const struct modeld_backend_api *modeld_backend_entry(const struct modeld_host_api *host)
{
    (void)host;
    return &modeld_abi_backend_api;
}

int32_t modeld_backend_score(void)
{
    return 0;
}
