#!/usr/bin/env python3
"""Names who listens on a TCP port of this machine; prints nothing if nobody does.

usage: port_owner.py PORT [PID]      nothing either if it is the process PID
"""
import os
import re
import sys

LISTEN = "0A"


def listening_sockets(port):
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as lines:
                rows = [line.split() for line in lines][1:]
        except OSError:
            continue
        found |= {row[9] for row in rows
                  if row[3] == LISTEN and int(row[1].rsplit(":", 1)[1], 16) == port}
    return found


def owner(sockets):
    """(process id, command line), both None where another user's process cannot be seen."""
    wanted = {f"socket:[{inode}]" for inode in sockets}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(descriptor.path) in wanted:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
                    return pid, command
        except OSError:  # it ended, or belongs to someone else
            continue
    return None, None


if not re.fullmatch(r"\d+( \d+)?", " ".join(sys.argv[1:])):
    sys.exit(__doc__)
if sockets := listening_sockets(int(sys.argv[1])):
    pid, command = owner(sockets)
    if pid is None:
        print("a process of another user")
    elif pid not in sys.argv[2:]:
        print(f"process {pid} ({command[:100]})")
