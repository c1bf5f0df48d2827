/*
 * Random bytes from the kernel. It has them once the machine has started, and then cannot fail.
 */
#include "os/random.h"

#include <sys/random.h>

void md_os_random(void *out, size_t bytes)
{
    char *at = out;

    while (bytes) {
        ssize_t got = getrandom(at, bytes, 0); /* less than asked for when a signal comes */
        if (got > 0) {
            at += got;
            bytes -= (size_t)got;
        }
    }
}
