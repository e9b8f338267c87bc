"""The line between a parent and a process that it has started as one of several.

the process says that it obeys signals     before that SIGHUP would end it, and a fault of the configuration is one
                                           that it was started with
the process says that it listens           all its listeners are open
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

OBEYS: Final = b"1"
LISTENS: Final = b"2"


class Line:
    """The parent's end.

    Args:
        other: what the process is to inherit; closed here once it has.
    """

    def __init__(self) -> None:
        self._mine, self.other = socket.socketpair()
        self._mine.setblocking(False)
        self._said = b""

    def obeys(self) -> bool:
        """Whether the process has said that it obeys signals."""
        return OBEYS in self._heard()

    def listens(self) -> bool:
        """Whether it has said that its listeners are open."""
        return LISTENS in self._heard()

    def _heard(self) -> bytes:
        if LISTENS not in self._said:
            with suppress(OSError):
                self._said += self._mine.recv(16)
        return self._said

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
            self._line.send(OBEYS)
        threading.Thread(target=self._wait, name="parent", daemon=True).start()

    def listens(self) -> None:
        """Tell the parent that the listeners are open."""
        with suppress(OSError):
            self._line.send(LISTENS)

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
