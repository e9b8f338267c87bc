"""The `rowcast` command as a process of its own, for tests that meet it as the world does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from copy import copy
from pathlib import Path
from types import TracebackType

from support.ports import free_port

START_S = 120.0
STOP_S = 60.0


class RowcastProcess:
    """Use as a context manager.  `port` speaks MQTT over TCP, `websocket_port` over WebSocket; all may connect.

    `lines` is what it wrote to stderr.  Leaving the context asks it to end and fails if it does not, ends with
    another status than `status_wanted` (0), or wrote a traceback.
    """

    def __init__(self, folder: Path, settings: str = "") -> None:
        self.port, self.websocket_port, self.admin_port = free_port(), free_port(), free_port()
        self.lines: list[str] = []
        self.status_wanted = 0
        self.program = ["-m", "broker"]
        """What Python runs."""
        self.more: list[str] = []
        """What its command line has beside the configuration."""
        self._conf = folder / "rowcast.conf"
        self._conf.write_text(
            f"listener {self.port} 127.0.0.1\nlistener {self.websocket_port} 127.0.0.1\nprotocol websockets\n"
            f"allow_anonymous true\n{settings}"
        )
        self._process: subprocess.Popen[str] | None = None
        self._is_running = False
        self._decided = threading.Event()
        """It has said that it runs, or has ended."""

    @classmethod
    def from_toml(cls, folder: Path, settings: str) -> RowcastProcess:
        """With this configuration, whose ports are `{port}` (MQTT), `{websocket_port}` and `{admin_port}`."""
        made = cls(folder)
        made._conf = folder / "rowcast.toml"
        made.rewrite(settings)
        return made

    def successor(self) -> RowcastProcess:
        """The next process of the same configuration and ports, which takes over from this one."""
        made = copy(self)
        made.lines, made.more = [], ["--take-over"]
        made._is_running, made._decided = False, threading.Event()
        return made

    def rewrite(self, settings: str) -> None:
        """Write its TOML anew, for SIGHUP."""
        ports = {
            "{port}": self.port,
            "{websocket_port}": self.websocket_port,
            "{admin_port}": self.admin_port,
        }
        for name, port in ports.items():
            settings = settings.replace(name, str(port))
        self._conf.write_text(settings)

    @property
    def config(self) -> Path:
        return self._conf

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, within_s: float) -> int:
        """The exit status, once it has ended.  Raises: subprocess.TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(within_s)

    @property
    def process_id(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> RowcastProcess:
        self._process = subprocess.Popen(
            [sys.executable, *self.program, "-c", str(self._conf), *self.more],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            threading.Thread(target=self._collect, args=(self._process,), daemon=True).start()
            self._decided.wait(START_S)
            assert self._is_running, "rowcast does not start:\n" + "\n".join(self.lines)
        except BaseException:  # also where the test is interrupted: nobody calls `__exit__` then
            self._process.kill()
            self._process.wait()
            raise
        return self

    def _collect(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.lines.append(line.rstrip())
            if re.search(r"version \S+ running", line):
                self._is_running = True
                self._decided.set()
        self._decided.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError("rowcast does not end on SIGTERM") from error
        if error is None:
            assert status == self.status_wanted, f"rowcast ended with {status}:\n" + "\n".join(self.lines)
            assert not any("Traceback" in line for line in self.lines), "\n".join(self.lines)
