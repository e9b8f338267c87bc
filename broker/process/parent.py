"""The line between a parent and a process that it has started as one of several.

the process says that it obeys signals     before that SIGHUP would end it, and a fault of the configuration is one
                                           that it was started with
the line ends                              the other one has gone, however it ended: a process that nobody would
                                           start again, or tell to end, ends by itself
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Final

logger = logging.getLogger("broker")

VARIABLE: Final = "ROWCAST_PARENT"
"""In the environment of a process that a parent has started: the descriptor of its end of the line."""


class Line:
    """The parent's end.

    Args:
        other: what the process is to inherit; closed here once it has.
    """

    def __init__(self) -> None:
        self._mine, self.other = socket.socketpair()
        self._mine.setblocking(False)
        self._obeys = False

    def obeys(self) -> bool:
        """Whether the process has said that it obeys signals."""
        with suppress(OSError):
            self._obeys = self._obeys or bool(self._mine.recv(1))
        return self._obeys

    def close(self) -> None:
        """The process has ended."""
        self._mine.close()


class Parent:
    """The process' end.

    Args:
        fd: the descriptor, which is closed with the process.
    """

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._line = socket.socket(fileno=fd)

    def obeys(self) -> None:
        """Tell the parent; SIGTERM comes to this process when the parent has gone."""
        with suppress(OSError):
            self._line.send(b"1")
        threading.Thread(target=self._wait, name="parent", daemon=True).start()

    def _wait(self) -> None:
        with suppress(OSError):
            while self._line.recv(16):
                pass
        logger.error(
            "The parent of this process has gone; it ends, too, so that a new parent can start its own."
        )
        os.kill(os.getpid(), signal.SIGTERM)


def parent_of_this() -> Parent | None:
    """Who started this process as one of several; None if nobody did."""
    fd = os.environ.pop(VARIABLE, "")
    return Parent(int(fd)) if fd.isdigit() else None
