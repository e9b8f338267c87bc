"""Where the demo's Postgres listens, and who stops it: a unix socket and a shell, or loopback and a Python."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from attrs import frozen

# $1 directory of the binaries, $2 directory of the server; the rest are its arguments.  SIGINT is a fast
# shutdown: it doesn't wait for clients.
SHELL: Final = """
binaries=$1; directory=$2; shift 2
"$binaries/postgres" "$@" </dev/null >>"$directory/postgres.log" 2>&1 &
read -r until_closed
kill -INT $! 2>/dev/null
wait $!
rm -rf "$directory"
"""

# The same where there is no shell.  pg_ctl gives up an administrator's rights, with which the server would not start.
PYTHON: Final = """
import shutil, subprocess, sys
binaries, directory, user, group, *arguments = sys.argv[1:]
identity = {"user": int(user), "group": int(group), "extra_groups": []} if user else {}
def pg_ctl(*words):
    command = [binaries + "/pg_ctl", *words, "-D", directory + "/data"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=directory, **identity)
pg_ctl("start", "-W", "-l", directory + "/postgres.log", "-o", " ".join(arguments))
sys.stdin.read()
pg_ctl("stop", "-w", "-m", "fast")
shutil.rmtree(directory, ignore_errors=True)
"""


def is_unix() -> bool:
    """Whether there are unix sockets and a shell; ROWCAST_PORTABLE=1 says no for tests."""
    return hasattr(socket, "AF_UNIX") and os.environ.get("ROWCAST_PORTABLE", "") in ("", "0")


@frozen
class Place:
    """How one server is reached and run.

    Args:
        directory: holds the data, and the socket if there is one.
        port: 0 is a unix socket.
    """

    directory: Path
    port: int = 0

    @classmethod
    def choose(cls, directory: Path) -> Place:
        """A unix socket in the folder where there are such sockets, otherwise a free port of 127.0.0.1."""
        if is_unix():
            return cls(directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(directory, probe.getsockname()[1])

    @property
    def address(self) -> str:
        """The first words of a connection string."""
        return f"host=127.0.0.1 port={self.port}" if self.port else f"host={self.directory}"

    @property
    def psql_options(self) -> str:
        """How `psql` is told to connect."""
        return f"-h 127.0.0.1 -p {self.port}" if self.port else f"-h {self.directory}"

    @property
    def settings(self) -> tuple[str, ...]:
        """Settings of the server that make it listen here and nowhere else."""
        if self.port:
            nowhere = ("unix_socket_directories=",) if hasattr(socket, "AF_UNIX") else ()
            return ("listen_addresses=127.0.0.1", f"port={self.port}", *nowhere)
        return ("listen_addresses=", f"unix_socket_directories={self.directory}")

    def command(self, binaries: Path, identity: dict[str, Any], settings: tuple[str, ...]) -> list[str]:
        """A supervisor that runs the server until its standard input ends, and then removes the directory."""
        arguments = [word for setting in (*settings, *self.settings) for word in ("-c", setting)]
        if not self.port:
            data = ["-D", str(self.directory / "data")]
            return [
                "/bin/sh",
                "-c",
                SHELL,
                "rowcast-postgres",
                str(binaries),
                str(self.directory),
                *data,
                *arguments,
            ]
        account = [str(identity.get("user", "")), str(identity.get("group", ""))]
        return [sys.executable, "-c", PYTHON, str(binaries), str(self.directory), *account, *arguments]

    def options(self, identity: dict[str, Any]) -> dict[str, Any]:
        """For starting that command: a terminal's Ctrl-C is for us, who stop the server when we are done with it."""
        if hasattr(subprocess, "CREATE_NEW_PROCESS_GROUP"):
            return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        return {"start_new_session": True, "cwd": "/", **({} if self.port else identity)}
