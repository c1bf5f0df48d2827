/*
 * modeld: the program.
 */
#include "server/server.h"

#include "os/clock.h"
#include "os/memory.h"
#include "os/signal.h"

int main(int argc, char **argv)
{
    md_os_memory_setup(); /* before anything large is allocated */
    md_os_signal_setup();
    md_os_clock_install();
    return md_server_main(argc, argv);
}
