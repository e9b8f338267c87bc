"""Rows that this node has handed on, so that a log which is filled again repeats none of them to who is connected.

Invariant: a row is repeated only if the log before this one brought it, all of its publications included.
"""

from __future__ import annotations

from typing import Final

ROW: Final = b"Rowcast-Row"
SOURCE: Final = b"Rowcast-Source"
"""Which database the row is of, hashed; older nodes do not say it.  The places of two say nothing of each other; a row
without it is taken for one of the database that the others are of.
"""

ANEW: Final = b"anew"
"""In place of a row's place: those that follow may be lower."""

Place = tuple[int, int]
"""Of a row among all of a feed: its transaction, and its number there.  (0, 0) for what has none, as a snapshot's."""

NOWHERE: Final[Place] = (0, 0)
_LINE: Final = b"\r\n" + ROW + b": "
_SOURCE_LINE: Final = b"\r\n" + SOURCE + b": "


def place_in(value: bytes) -> Place:
    """A place as the header says it."""
    first, _, second = value.partition(b"/")
    return (int(first), int(second)) if first.isdigit() and second.isdigit() else NOWHERE


def source_in(block: bytes) -> bytes:
    """Which database a message's headers say that its row is of; b"" if they do not."""
    start = block.find(_SOURCE_LINE)
    if start < 0:
        return b""
    start += len(_SOURCE_LINE)
    return block[start : block.index(b"\r", start)]


def _may_be_one(source: bytes, other: bytes) -> bool:
    return source == other or not source or not other


class RowsSeen:
    """Of one node, by feeds."""

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[bytes, int]] = {}
        """The last row of each feed, as the log says it, and how many of its publications have come."""
        self._blocks: dict[bytes, bytes] = {}
        """The headers of the last message of each feed."""
        self._before: dict[bytes, tuple[bytes, Place, int]] = {}
        """The database, the last row, and how many of its publications, of the log that was lost."""

    def log_lost(self) -> None:
        """What comes now is read from another log, or from an earlier place."""
        for origin, (value, count) in self._last.items():
            seen = (source_in(self._blocks[origin]), place_in(value), count)
            before = self._before.get(origin, seen)
            if _may_be_one(seen[0], before[0]):
                place, count = max(seen[1:], before[1:])
                seen = (seen[0] or before[0], place, count)
            self._before[origin] = seen
        self._last.clear()

    def is_repeated(self, origin: bytes, block: bytes) -> bool:
        """Count a message of a feed; whether it was handed on already.

        Args:
            origin: the feed's, as in the subject.
            block: the message's headers.
        """
        start = block.find(_LINE)
        if start < 0:
            return False
        start += len(_LINE)
        value = block[start : block.index(b"\r", start)]
        if value == ANEW:
            self._last.pop(origin, None)
            self._before.pop(origin, None)
            return False
        if value == b"0/0":
            return False
        last = self._last.get(origin)
        count = last[1] + 1 if last is not None and last[0] == value else 1
        self._last[origin] = (value, count)
        self._blocks[origin] = block
        before = self._before.get(origin)
        if before is None:
            return False
        if _may_be_one(source_in(block), before[0]) and (place_in(value), count) <= before[1:]:
            return True
        del self._before[origin]
        return False
