"""What a ring has forgotten and its source has still: number, topic and digest of each message, and where its row is.

A row that is read again counts only if its message is what was published, byte for byte; so a trace is no promise, and
whoever recovers from traces has everything or knows that it has not.

Invariant: there is a trace of every message that the ring has dropped with a number above `lost_through`.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import Final

from broker.core.row_source import RowSource

PAGE_TRACES_MAX: Final = 256
DIGEST_BYTES: Final = 8

FOREIGN: Final = "there were messages since that no source has any more"


class Page:
    """Some traces in order.  Append-only; a full one never changes."""

    __slots__ = ("marks", "numbers", "topics")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.topics: list[bytes] = []
        self.marks: list[bytes] = []
        """A digest, then the place: the feed's name, a NUL, and what its source understands."""

    def is_full(self) -> bool:
        """Whether the next trace begins another page."""
        return len(self.numbers) >= PAGE_TRACES_MAX


class Traces:
    """The traces of a ring.

    Args:
        count_max: how many.
        lost_through: the highest number of which there is, or may be, none.
        sources: by the name of their feed; others may come and go.
    """

    def __init__(self, count_max: int, lost_through: int, sources: dict[str, RowSource]) -> None:
        self.count_max = count_max
        self.lost_through = lost_through
        self.lost_why = FOREIGN
        self.count = 0
        self._sources = sources
        self._pages: deque[Page] = deque()

    def add(self, number: int, topic: bytes, payload: bytes, place: bytes) -> None:
        """The ring drops this message."""
        if place:
            source = self._sources.get(place[: place.index(0)].decode())
            place = b"" if source is None else source.complete(place, payload)
        if place:
            self._add(number, topic, digest(topic, payload) + place)
        else:
            self.clear(number, FOREIGN)

    def _add(self, number: int, topic: bytes, mark: bytes) -> None:
        pages = self._pages
        if not pages or pages[-1].is_full():
            pages.append(Page())
        page = pages[-1]
        page.numbers.append(number)
        page.topics.append(topic)
        page.marks.append(mark)
        self.count += 1
        if self.count > self.count_max:
            oldest = pages.popleft()
            self.count -= len(oldest.numbers)
            self.lost_through = oldest.numbers[-1]
            self.lost_why = "there were more rows since than the history can find again"

    def clear(self, number: int, why: str) -> None:
        """Nothing up to this number can be found again."""
        self.lost_through = number
        self.lost_why = why
        self.count = 0
        self._pages.clear()

    def pages_behind(self, number: int) -> list[Page]:
        """The pages with every trace of a higher number; the first may begin with lower ones."""
        return [page for page in self._pages if page.numbers[-1] > number]

    def saved(self) -> list[list[object]]:
        """All of them, for whoever saves them."""
        return [
            [page.numbers[index], page.topics[index].decode(), page.marks[index].decode("latin-1")]
            for page in self._pages
            for index in range(len(page.numbers))
        ]

    def restore(self, saved: list[list[object]], lost_through: int, lost_why: str) -> None:
        """Go on where an earlier process was stopped."""
        self.lost_through = lost_through
        self.lost_why = lost_why
        for number, topic, mark in saved:
            assert isinstance(number, int)
            self._add(number, str(topic).encode(), str(mark).encode("latin-1"))


def digest(topic: bytes, payload: bytes) -> bytes:
    """By which a message is known again."""
    return blake2b(b"%b\0%b" % (topic, payload), digest_size=DIGEST_BYTES).digest()
