"""`python other_system.py …` is `rowcast …` where all that Linux has and Windows lacks is missing.

What Python and Trio need of it for their own work on this machine, they have got hold of before.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import tempfile
import types
import uuid

import psycopg  # noqa: F401 - before what it needs has gone
import trio

MODULES = {"fcntl", "grp", "pwd", "resource", "syslog", "termios"}
NAMES: dict[types.ModuleType, tuple[str, ...]] = {
    os: (
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fchown", "fork", "getegid",
        "geteuid", "getuid", "initgroups", "killpg", "setgid", "setsid", "setuid",
    ),
    select: ("epoll", "poll"),
    signal: ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"),
    socket: ("AF_UNIX", "SO_PEERCRED", "SO_REUSEPORT", "recv_fds", "send_fds"),
}  # fmt: skip


def take_away() -> None:
    tempfile.gettempdir()
    uuid.uuid4()
    trio._core._io_epoll.select = types.SimpleNamespace(**vars(select))  # type: ignore[attr-defined, assignment]
    pair = socket.socketpair
    unix = socket.AF_UNIX
    socket.socketpair = lambda *args: pair(*(args or (unix,)))
    for module in MODULES:
        sys.modules[module] = None  # type: ignore[assignment]
    for owner, names in NAMES.items():
        for name in names:
            delattr(owner, name)


if __name__ == "__main__":
    take_away()
    from broker.cli.main import main

    sys.exit(main())
