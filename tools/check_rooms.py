#!/usr/bin/env python3
"""Checks who includes whom: the rooms of src/, the backends, and the system's headers.

usage: check_rooms.py [ROOT]     prints FILE:LINE: what is wrong; exits 1 if anything is
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])

# Room: the rooms that it may include beside itself.
ROOMS = {
    "base": "",
    "os": "base",
    "codec": "base",
    "config": "base codec",
    "policy": "base",
    "loop": "base os",
    "net": "base os loop",
    "http": "base codec net loop",
    "infer": "base os config policy loop",
    "backend": "base os config loop infer",
    "repository": "base os codec config",
    "model": "base os codec config policy loop infer backend repository",
    "trace": "base os codec loop",
    "ctl": "base os codec config policy",
}
ROOMS["api"] = " ".join(room for room in ROOMS if room != "ctl")
ROOMS["server"] = ROOMS["api"] + " api"

# Files of a room that are held to less than the room: HTTP's state machines work on bytes alone;
# the session and the exchange that it hands to handlers tie them to a loop and a connection.
NARROWER = {re.compile(r"http/(?!session|exchange)"): "base codec"}

# Headers through which code reaches the kernel: only os/ includes them.  Those of types alone
# (sys/types.h, sys/uio.h) and of mutexes (pthread.h; starting threads is os/'s) are open to all.
KERNEL = re.compile(r"(sys/(?!types\.h|uio\.h)|linux/|netinet/|arpa/|net/).*|"
                    r"(unistd|fcntl|poll|dlfcn|signal|sched|dirent|netdb|threads|ucontext|spawn|"
                    r"semaphore|mqueue|aio)\.h")

INCLUDE = re.compile(r'\s*#\s*include\s*(["<])([^">]+)[">]')


def includes(path):
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := INCLUDE.match(line):
            yield number, match[1] == '"', match[2]


def allowed_rooms(file, room):
    for pattern, rooms in NARROWER.items():
        if pattern.match(file):
            return {room, *rooms.split()}
    return {room, *ROOMS[room].split()}


def check_room_file(path):
    file = path.relative_to(ROOT / "src").as_posix()
    room = file.split("/")[0]
    if room not in ROOMS:
        yield 1, f"src/{room}/ is not a room: add it to the table in tools/check_rooms.py"
        return
    allowed = allowed_rooms(file, room)
    for number, quoted, name in includes(path):
        if quoted:
            if not (ROOT / "src" / name).is_file():
                yield number, f'"{name}" is not a file under src/: paths are written from there'
            elif (other := name.split("/")[0]) not in allowed:
                yield number, f"{room}/ may not include {other}/ here"
            elif other != room and "_internal.h" in name:
                yield number, f"{name} is internal to {other}/"
        elif room != "os" and KERNEL.fullmatch(name):
            yield number, f"<{name}>: only os/ talks to the kernel"


def check_backend_file(path):
    for number, quoted, name in includes(path):
        if quoted and not (path.parent / name).is_file():
            yield number, f'"{name}": a backend sees include/ and its own folder alone'


def check_public_file(path):
    for number, quoted, name in includes(path):
        if quoted or (name.startswith("modeld/") and not (ROOT / "include" / name).is_file()):
            yield number, f"{name}: a public header includes <modeld/...> or the standard library"


CHECKS = {"src": check_room_file, "backends": check_backend_file, "include": check_public_file}

problems = files = 0
for folder, check in CHECKS.items():
    for path in sorted((ROOT / folder).rglob("*.[ch]")):
        files += 1
        for number, text in check(path):
            problems += 1
            print(f"{path.relative_to(ROOT)}:{number}: {text}")
print(f"{files} files, {problems} problems")
sys.exit(problems > 0)
