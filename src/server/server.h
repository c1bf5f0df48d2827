/*
 * Server: reads the options, wires the rooms together, runs until it is told to end.
 */
#ifndef MD_SERVER_SERVER_H
#define MD_SERVER_SERVER_H

/* The exit status: 0 after an orderly end, 1 when it could not start or requests were cut off, 2
 * for wrong options. */
int md_server_main(int argc, char *const *argv);

#endif
