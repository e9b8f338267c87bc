"""Where the demo shows itself: a page on a terminal, lines elsewhere, JSON lines if asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from broker.demo.screen import Screen, opened_screen
from broker.demo.view import Figures, json_line, page, report


class Display(Protocol):
    """Shows how the demo stands, every `interval_s` seconds."""

    interval_s: float

    def show(self, snapshot: Figures) -> None:
        """Show this state of things."""


class PageDisplay:
    """On a terminal: one page that is redrawn in place."""

    interval_s = 0.25

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def show(self, snapshot: Figures) -> None:
        """Redraw the page."""
        self._screen.show(page(snapshot, *self._screen.size()))


class LineDisplay:
    """Not on a terminal: a line a second, after the commands that join in."""

    interval_s = 1.0

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._invited = False

    def show(self, snapshot: Figures) -> None:
        """Print a line, before the first one the invitations."""
        if not self._invited:
            self._invited = True
            print("Join in from another terminal:", file=self._out)
            for invitation in snapshot.invitations:
                print(f"  {invitation}", file=self._out)
        print(report(snapshot), file=self._out, flush=True)


class JsonDisplay:
    """For programs: a JSON object a line."""

    interval_s = 1.0

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, snapshot: Figures) -> None:
        """Print an object."""
        print(json_line(snapshot), file=self._out, flush=True)


@contextmanager
def opened_display(out: TextIO, *, json: bool) -> Iterator[Display]:
    """The display that suits `out`; leaving gives a terminal back as it was."""
    if json:
        yield JsonDisplay(out)
    elif out.isatty():
        with opened_screen(out) as screen:
            yield PageDisplay(screen)
    else:
        yield LineDisplay(out)


class LatestWarning(logging.Handler):
    """Keeps the last line that somebody should look at: on a page there is no room for a log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the record's text; `logging` calls it."""
        self.text = f"{record.levelname}: {record.getMessage()}"


@contextmanager
def kept_warnings() -> Iterator[LatestWarning]:
    """Instead of anything that the loggers wrote to before, within the `with` block."""
    root = logging.getLogger()
    handler, before = LatestWarning(), root.handlers[:]
    root.handlers[:] = [handler]
    try:
        yield handler
    finally:
        root.handlers[:] = before
