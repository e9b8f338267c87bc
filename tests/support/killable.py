"""A `rowcast` process that a test may end in any way, in the folder where it keeps its state."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 30.0


class KillableBroker:
    """A running broker.

    Args:
        folder: where `rowcast.conf` is written and the process works.
        conf: mosquitto.conf text; a listener on `port`, open to all, is put in front unless it names one.
    """

    def __init__(self, folder: Path, conf: str, port: int) -> None:
        self.port = port
        self.lines: list[str] = []
        self._news = threading.Condition()
        file = folder / "rowcast.conf"
        file.write_text(
            conf if "listener" in conf else f"listener {port} 127.0.0.1\nallow_anonymous true\n{conf}"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "broker", "-c", str(file), "-v"],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.rstrip("\n").partition(": ")[2] or line.rstrip("\n"))
                self._news.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Until so many lines of the log have this text in them."""
        deadline = time.monotonic() + DEADLINE_S
        with self._news:
            while sum(text in line for line in self.lines) < times:
                left = deadline - time.monotonic()
                assert left > 0, f"no {text!r} in {self.lines}"
                assert self.process.poll() is None or self._reader.is_alive(), self.lines
                self._news.wait(min(left, 0.2))

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it by a signal; its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its exit status, once it ended by itself."""
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        return status


@contextmanager
def rowcast(folder: Path, conf: str, port: int) -> Iterator[KillableBroker]:
    """A broker that serves; killed at the end if it still runs."""
    running = KillableBroker(folder, conf, port)
    try:
        running.wait_for(" running")
        yield running
    finally:
        running.process.kill()
        running.ended()


def mosquitto_client(name: str, port: int, *arguments: str) -> str:
    """Run `mosquitto_pub` or `mosquitto_sub`; what it printed."""
    program = shutil.which(name)
    assert program is not None, f"{name} is not installed: apt-get install mosquitto-clients"
    command = [program, "-h", "127.0.0.1", "-p", str(port), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return result.stdout
