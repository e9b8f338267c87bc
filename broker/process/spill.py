"""Lines to a pipe, a socket or a terminal whose other end may not be read: the broker never waits for it.

What it does not take at once waits here for a thread, up to a limit; lines above that are dropped, and the first line
that gets through again says how many.

Invariant: while the thread runs, every line goes through `_waiting`, so that their order stays.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

ATOMIC_BYTES: Final = getattr(select, "PIPE_BUF", 512)
"""So much a pipe takes without waiting where poll says that it can be written to (pipe(7))."""

WAITING_BYTES_MAX: Final = 256 * 1024
"""What waits for whoever reads the log."""

GOODBYE_S: Final = 0.5
"""How long the end of the process waits for that."""


def may_wait(descriptor: int) -> bool:
    """Whether writing there can take for ever, and can be asked about (on Windows it can't)."""
    if not hasattr(select, "poll"):
        return False
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


class Spill:
    """One descriptor.

    Args:
        descriptor: open for writing; stays somebody else's.
        on_dropped: told of each line that is dropped.
        notice: the line, with its end, that says how many were.
    """

    def __init__(
        self, descriptor: int, on_dropped: Callable[[], None], notice: Callable[[int], bytes]
    ) -> None:
        self._descriptor = descriptor
        self._on_dropped = on_dropped
        self._notice = notice
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Write a line, or have it wait, or drop it.  Never waits.  Raises: OSError, if the other end is gone."""
        with self._lock:
            if self._thread is None:
                line = self._written(line)
                if not line:
                    return
            if self._waiting_bytes + len(line) > WAITING_BYTES_MAX:
                self._dropped += 1
                self._on_dropped()
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Give what waits a moment to leave."""
        thread = self._thread
        if thread is not None:
            thread.join(GOODBYE_S)

    def _written(self, line: bytes) -> bytes:
        """What is left of a line when nothing more is taken at once."""
        while line and self._poll.poll(0):
            try:
                line = line[os.write(self._descriptor, line[:ATOMIC_BYTES]) :]
            except BlockingIOError:
                break
        return line

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    if not self._dropped:
                        self._thread = None
                        return
                    self._waiting.append(self._notice(self._dropped))
                    self._waiting_bytes += len(self._waiting[0])
                    self._dropped = 0
                line = self._waiting[0]
            if not self._write_all(line):
                with self._lock:
                    self._waiting.clear()
                    self._waiting_bytes = self._dropped = 0
                    self._thread = None
                return
            with self._lock:
                self._waiting.popleft()
                self._waiting_bytes -= len(line)

    def _write_all(self, line: bytes) -> bool:
        """Wait until it has left; False if the other end is gone."""
        try:
            while line:
                self._poll.poll()
                line = self._written(line)
        except OSError:
            return False
        return True
