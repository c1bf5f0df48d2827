/*
 * Who listens on a TCP port of this machine. Any thread; reads /proc, so only for error messages.
 */
#ifndef MD_OS_PORT_HOLDER_H
#define MD_OS_PORT_HOLDER_H

#include "base/compiler.h"

enum { MD_OS_HOLDER_MAX = 64 };

/* "nginx (pid 4711)"; false if it cannot be found (another user's process, another network
 * namespace). */
bool md_os_port_holder(uint16_t port, char holder[MD_OS_HOLDER_MAX]) MD_MUST_CHECK;

#endif
