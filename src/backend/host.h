/*
 * Host: the server's side of the backend interface (include/modeld/backend.h), in this process.
 *
 * One table for all backends. Request handles are the addresses of requests, buffer handles those
 * of blocks; both are valid between execute and finish.
 */
#ifndef MD_BACKEND_HOST_H
#define MD_BACKEND_HOST_H

#include <modeld/backend.h>

extern const struct modeld_host_api md_host_api;

#endif
