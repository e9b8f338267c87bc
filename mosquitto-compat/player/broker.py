"""A broker under test as a process: start, wait until it listens, signals, log lines, exit status."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

RUNNING = re.compile(r"version \S+ running")
COMMANDS = {
    "mosquitto": ["/usr/sbin/mosquitto"],
    "rowcast": [sys.executable, "-m", "broker"],
}
START_S = 120.0
STOP_S = 40.0
POLL_S = 0.05
_taken: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on and that this run has not handed out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _taken:
            _taken.add(port)
            return port


def is_listening(port: int) -> bool:
    """Whether some process listens on the port, found without connecting (a connection would be counted)."""
    wanted = f":{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            for line in lines:
                fields = line.split(maxsplit=4)
                if fields[3] == "0A" and fields[1].endswith(wanted):
                    return True
    return False


class BrokerProcess:
    """One process; `lines` holds what it wrote to stdout and stderr since it started."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.lines: list[str] = []
        self._folder = folder
        self._process: trio.Process | None = None
        self._ended = trio.Event()
        self._written = trio.Event()

    async def start(self, nursery: trio.Nursery, arguments: Sequence[str]) -> None:
        """Start, and collect output for as long as the process writes."""
        self.lines, self._ended = [], trio.Event()
        self._process = await trio.lowlevel.open_process(
            [*COMMANDS[self.kind], *arguments],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        nursery.start_soon(self._collect, self._process, self._ended)

    async def _collect(self, process: trio.Process, ended: trio.Event) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *whole, rest = (rest + data).split(b"\n")
            self.lines += [line.decode("utf-8", "replace") for line in whole]
            self._written.set()
            self._written = trio.Event()
        if rest:
            self.lines.append(rest.decode("utf-8", "replace"))
        await process.wait()
        ended.set()
        self._written.set()

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended.is_set() and self._process.poll() is None

    async def until_listening(self, ports: Sequence[int], paths: Sequence[str], says_so: bool) -> bool:
        """Wait until every port and unix socket is open; False when the process ends first.

        Args:
            says_so: it also logs that it is running, and is not ready before.
        """
        with trio.move_on_after(START_S):
            while not (
                all(map(is_listening, ports))
                and all(map(os.path.exists, paths))
                and (not says_so or any(map(RUNNING.search, self.lines)))
            ):
                if not self.running:
                    return False
                with trio.move_on_after(POLL_S):  # a log line tells at once, unless the log goes elsewhere
                    await self._written.wait()
            return True
        return False

    async def until_logged(self, pattern: str, within_s: float, since: int = 0) -> bool:
        """Wait for a line that matches; only lines from `since` on count."""
        with trio.move_on_after(within_s):
            while not any(re.search(pattern, line) for line in self.lines[since:]):
                await self._written.wait()
            return True
        return False

    async def next_line(self) -> None:
        """Return when more was written."""
        await self._written.wait()

    def signal(self, name: str) -> None:
        if self._process is not None and self.running:
            self._process.send_signal(getattr(signal, "SIG" + name))

    async def ended(self, within_s: float = STOP_S) -> int | None:
        """The exit status, or None when the process still runs after `within_s`."""
        with trio.move_on_after(within_s):
            await self._ended.wait()
        return None if self._process is None or not self._ended.is_set() else self._process.returncode

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
