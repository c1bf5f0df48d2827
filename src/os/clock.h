/*
 * Installs the system's clocks as md_clock_*. Called once, first thing in main.
 */
#ifndef MD_OS_CLOCK_H
#define MD_OS_CLOCK_H

void md_os_clock_install(void);

#endif
