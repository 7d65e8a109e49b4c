"""Scorers that a judge pool has to survive. Called in its workers only."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time


def same(gold, answer):
    return gold == answer


def take_memory(megabytes):
    return len(bytearray(megabytes << 20))


def take_shared_memory(megabytes):
    import mmap

    area = mmap.mmap(-1, megabytes << 20)
    for page in range(0, megabytes << 20, 4096):
        area[page] = 1
    return len(area)


def fork_bomb():
    while True:
        os.fork()


def leave(**_):
    os._exit(7)


def abort():
    os.abort()


def raise_exit():
    sys.exit("nothing to see here")


def raise_unprintable():
    class Odd(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    raise Odd


def not_json():
    return {1, 2}


def long_reply():
    return "x" * 1_000_000


def talk():
    sys.stdout.write("1.0\n")
    sys.stdout.flush()
    os.write(1, b'{"id": 1, "value": true}\n')
    return "silent"


def forge_a_second_reply():
    """Answers for the next job, too: everything that looks like a pipe gets a line."""
    for fd in range(3, 16):
        try:
            os.write(fd, json.dumps({"id": 2, "value": "forged"}).encode() + b"\n")
        except OSError:
            continue
    return "real"


def read_own_socket_back():
    """Opens every file of its own anew, to take back what it wrote; how many could be opened."""
    opened = 0
    for fd in range(16):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") != os.devnull:
                os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
                opened += 1
        except OSError:
            continue
    return opened


def drip():
    """Half a line, and no more."""
    for fd in range(3, 16):
        try:
            os.write(fd, b'{"id"')
        except OSError:
            continue
    time.sleep(60)


def poison():
    """Replaces the worker's own judging for the jobs to come."""
    sys.modules["__main__"]._judged = lambda scorer, arguments: {"value": "poisoned"}
    return "done"


def environment():
    return sorted(os.environ)


def nap(seconds):
    time.sleep(seconds)
    return "woke"


def attempts(marker, parent, port):
    """Every way to touch the world that comes to mind; names of those that worked."""

    def write_with(flags):
        os.close(os.open(marker, flags))

    def connect():
        socket.create_connection(("127.0.0.1", port), timeout=1)

    ways = {
        "open": lambda: open(marker, "w").close(),
        "append": lambda: open(__file__, "a").close(),
        "os.open": lambda: write_with(os.O_CREAT | os.O_WRONLY),
        "truncate": lambda: write_with(os.O_TRUNC),
        "mkdir": lambda: os.mkdir(marker),
        "symlink": lambda: os.symlink(__file__, marker),
        "link": lambda: os.link(__file__, marker),
        "rename": lambda: os.rename(__file__, marker),
        "remove": lambda: os.remove(__file__),
        "chmod": lambda: os.chmod(__file__, 0o777),
        "utime": lambda: os.utime(__file__),
        "mkfifo": lambda: os.mkfifo(marker),
        "system": lambda: 1 / (os.system(f"touch {marker}") == 0),
        "popen": lambda: subprocess.run(["touch", marker], check=True),
        "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        "execv": lambda: os.execv("/bin/true", ["true"]),
        "fork": lambda: os.fork() or os._exit(0),
        "socket": connect,
        "unix socket": lambda: socket.socket(socket.AF_UNIX),
        "kill": lambda: os.kill(parent, signal.SIGCONT),
        "limits": lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
        "ctypes": lambda: ctypes.CDLL(None),
        "new session": os.setsid,
        "change root": lambda: os.chroot("/"),
        "memory of the parent": lambda: open(f"/proc/{parent}/mem", "rb").close(),
        "environment of the parent": lambda: open(f"/proc/{parent}/environ").close(),
        "pipes of the parent": lambda: os.open(f"/proc/{parent}/fd/0", os.O_RDONLY),
        "files of others": lambda: open("/etc/passwd").close(),
        "the world's folders": lambda: os.listdir("/"),
    }
    worked = []
    for name, way in ways.items():
        try:
            way()
        except Exception:  # noqa: BLE001 (refused, in whatever way)
            continue
        worked.append(name)
    return worked
