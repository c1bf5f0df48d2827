/*
 * Signals of the process: shutdown requests as numbers to wait for, and a last line before a crash.
 */
#ifndef MD_OS_SIGNAL_H
#define MD_OS_SIGNAL_H

#include "base/error.h"

/* Blocks SIGTERM, SIGINT, SIGHUP and SIGUSR1 for this thread and all that it starts, ignores
 * SIGPIPE and SIGXFSZ, and installs the crash handler: on a fatal signal a line goes to standard
 * error and to the log file, in the log's format, which names the signal and what the thread was
 * working on (md_log_get_context); a thread without a context is followed by lines about all that
 * have one. Then the signal takes its course. A SIGBUS in shared memory is no crash (see
 * os/shared_memory.h). First thing in main. */
void md_os_signal_setup(void);

/* Waits for one of them at most timeout_ms (-1: no limit); 0 when none came. One thread. */
int md_os_signal_wait(int timeout_ms);

/* Makes the waiter return, for nothing but what it looks at then (SIGUSR1). Any thread. */
void md_os_signal_wake(void);

bool md_os_signal_is_reload(int number); /* SIGHUP */
bool md_os_signal_is_end(int number);    /* SIGTERM, SIGINT */

#endif
