"""The last lines of the log, for the page and `rowcast ctl log`."""

from __future__ import annotations

from collections import deque
from typing import Final

LINES_MAX: Final = 500


class LogTail:
    """Keeps the newest lines; written by whatever thread logs."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str, str]] = deque(maxlen=LINES_MAX)
        self._written = 0
        self.dropped = 0
        """Lines that never reached stdout or stderr, because nobody read them there."""

    def add(self, severity: str, text: str) -> None:
        """Keep a line, and forget the oldest if there are too many."""
        self._written += 1
        self._lines.append((self._written, severity, text))

    def since(self, seen: int) -> tuple[int, list[tuple[str, str]]]:
        """The lines after number `seen`, and what to ask with next time."""
        lines = list(self._lines)
        found = [(severity, text) for number, severity, text in lines if number > seen]
        return (lines[-1][0] if lines else seen), found


TAIL: Final = LogTail()
"""Of this process: logging is the process's, too."""
