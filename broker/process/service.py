"""What systemd is told: sd_notify(3).  Does nothing where nobody listens.

A message is a datagram of lines to the socket in NOTIFY_SOCKET; one that can't be sent stops nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from typing import Final

from broker.process.system import known_number

STATUS_INTERVAL_S: Final = 10.0


class ServiceManager:
    """Whoever started this process and wants to hear of it.

    Args:
        environ: NOTIFY_SOCKET and the WATCHDOG variables are taken from it, and removed, since they are not meant
            for what this process starts.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        microseconds = environ.pop("WATCHDOG_USEC", "")
        own = str(known_number())
        is_meant = environ.pop("WATCHDOG_PID", own) in (own, "")
        self._watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() and is_meant else 0.0
        self._alive_at = self._status_at = 0.0

    def tell(self, *lines: str) -> None:
        """Send assignments, such as `READY=1`."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(self._address)
                sock.send("\n".join(lines).encode())
        except OSError:
            pass

    def ready(self) -> None:
        """Every listener is open.  With the process's number, which is another one after `-d`."""
        self.tell("READY=1", f"MAINPID={known_number()}")

    def reloading(self) -> None:
        """`ready` follows."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, within_s: float) -> None:
        """The end has begun, and may take so long."""
        self.tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(within_s * 1e6)}")

    def beat(self, now: float, status: Callable[[], str]) -> None:
        """Called while the loop turns, a few times a second; says that we live, and now and then how we are."""
        if not self._address:
            return
        if self._watchdog_s and now - self._alive_at >= self._watchdog_s / 2 - 0.25:
            self._alive_at = now
            self.tell("WATCHDOG=1")
        if now - self._status_at >= STATUS_INTERVAL_S:
            self._status_at = now
            self.tell(f"STATUS={status()}")
