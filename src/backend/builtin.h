/*
 * Backends that are part of the server: for benchmarks and protocol tests. They use the same
 * interface as any other.
 *
 * identity: output k is input k, any types and shapes. Parameter `execute_delay_ms`: sleeps that
 * long in each execution (then it is not inline safe; for tests of queues and cancellation).
 * repeat: IN int32 [n], DELAY uint32 [n], WAIT uint32 [1] -> n responses of OUT int32 [1] and IDX
 * uint32 [1]; the field's decoupled sample. DELAY and WAIT are milliseconds and optional.
 */
#ifndef MD_BACKEND_BUILTIN_H
#define MD_BACKEND_BUILTIN_H

#include <modeld/backend.h>

const struct modeld_backend_api *md_builtin_identity_entry(const struct modeld_host_api *host);
const struct modeld_backend_api *md_builtin_repeat_entry(const struct modeld_host_api *host);

#endif
