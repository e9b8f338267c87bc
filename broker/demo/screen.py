"""A page that stays in place on a terminal.

Invariant: only lines that changed are written, so that nothing flickers and what the reader has marked with
the mouse stays marked; the terminal is as it was when the `with` block ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from broker.demo.view import rows_of

OPEN: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"
"""The other screen buffer, no cursor, empty."""
CLOSE: Final = "\x1b[?25h\x1b[?1049l"
BEGIN_UPDATE: Final = "\x1b[?2026h"
"""Terminals that know it show everything up to END_UPDATE at once; others ignore it."""
END_UPDATE: Final = "\x1b[?2026l"


class Screen:
    """Use `opened_screen`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown: list[str] = []
        self._size = (0, 0)

    def size(self) -> tuple[int, int]:
        """(columns, rows) at this moment."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def show(self, lines: list[str]) -> None:
        """Draw what differs from what was drawn before."""
        text = self.difference(lines, *self.size())
        if text:
            self._out.write(f"{BEGIN_UPDATE}{text}{END_UPDATE}")
            self._out.flush()

    def difference(self, lines: list[str], width: int, height: int) -> str:
        """What to write so that the terminal shows `lines` instead of what it shows now."""
        places = _places(lines, width, height)
        if (width, height) != self._size or _rows(places) != _rows(_places(self._shown, width, height)):
            self._shown, self._size = [], (width, height)
        text = "" if self._shown else "\x1b[2J"
        for index, (row, line) in enumerate(places):
            if not self._shown or self._shown[index] != line:
                text += f"\x1b[{row};1H{line}\x1b[K"
        self._shown = [line for _, line in places]
        return text


@contextmanager
def opened_screen(out: TextIO) -> Iterator[Screen]:
    """Take the terminal over, and give it back whatever happens."""
    out.write(OPEN)
    out.flush()
    try:
        yield Screen(out)
    finally:
        out.write(CLOSE)
        out.flush()


def _places(lines: list[str], width: int, height: int) -> list[tuple[int, str]]:
    places, row = [], 1
    for line in lines:
        if row + rows_of(line, width) - 1 > height:
            break
        places.append((row, line))
        row += rows_of(line, width)
    return places


def _rows(places: list[tuple[int, str]]) -> list[int]:
    return [row for row, _ in places]
