"""What all calculators have in common: rows in, messages out, a clock that is told.  Pure; compiled.

A calculator is given rows, then `commit` where the source's transaction ends, and `tick` when `due_ms` has come.
It publishes from within `commit` and `tick` only.  A row that can't be used raises `BadValue` and changes nothing.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final

from mypy_extensions import mypyc_attr

from broker.market.numbers import BadValue
from broker.market.stream import Publish, Stream
from broker.market.times import DAY_MS

NEVER_MS: Final = 1 << 62

SYMBOLS_MAX: Final = 20_000
"""Of one calculator."""

SYMBOL_CHARACTERS_MAX: Final = 128

Row = dict[str, object]
"""A row's members by name; its numbers are texts."""


class Counts:
    """What a calculator has done.  Counters only grow."""

    def __init__(self) -> None:
        self.rows = 0
        self.messages = 0
        self.repeated = 0
        self.crossed = 0
        self.late = 0
        self.resets = 0


class Due:
    """Who is to be looked at when: earliest first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int]] = []
        self._number = 0

    def add(self, at_ms: int, index: int) -> None:
        """The symbol at this index has something to say at that time."""
        self._number += 1
        heappush(self._heap, (at_ms, self._number, index))

    def next_ms(self) -> int:
        """When the first of them has; NEVER_MS if none."""
        return self._heap[0][0] if self._heap else NEVER_MS

    def take(self, now_ms: int) -> int:
        """Who is due; -1 if nobody is."""
        if not self._heap or self._heap[0][0] > now_ms:
            return -1
        return heappop(self._heap)[2]


SILENCE_MS: Final = 60_000


class Pace:
    """What time it is in one symbol's market: that of its newest trade, and then as fast as our clock.

    Live, that is now.  Where old trades are played back it is then, so that their candles are not over before they
    have begun.  What is less than a day late is made up after a minute's silence.
    """

    def __init__(self) -> None:
        self.newest_ms = 0
        self.behind_ms = 0
        self.heard_ms = 0
        self.told_ms = 0

    def heard(self, at_ms: int, now_ms: int) -> None:
        """A trade of this time came."""
        self.heard_ms = now_ms
        if at_ms >= self.newest_ms:
            self.newest_ms = at_ms
            self.behind_ms = now_ms - at_ms if now_ms > at_ms else 0

    def time_ms(self, now_ms: int) -> int:
        """The source's time now, as far as it is known; it never goes back."""
        if self.behind_ms and self.behind_ms < DAY_MS and now_ms >= self.heard_ms + SILENCE_MS:
            self.behind_ms = 0
        self.told_ms = max(self.told_ms, now_ms - self.behind_ms)  # it never goes back
        return self.told_ms

    def when_ms(self, time_ms: int, now_ms: int) -> int:
        """Our clock when it will be that time there, at the latest."""
        when_ms = time_ms + self.behind_ms
        if self.behind_ms and self.behind_ms < DAY_MS:
            silent_ms = self.heard_ms + SILENCE_MS
            if silent_ms < when_ms:
                return max(silent_ms, time_ms)
        return when_ms


@mypyc_attr(allow_interpreted_subclasses=True)
class Calculator:
    """One calculation over the rows of one source.

    Args:
        publish: is called for each message.
        first_seq: what stands before the first message's number.
    """

    def __init__(self, publish: Publish, first_seq: int) -> None:
        self.publish = publish
        self.first_seq = first_seq
        self.counts = Counts()

    def row(self, row: Row, now_ms: int) -> None:
        """A row of the open transaction.

        Raises:
            BadValue: it can't be used; nothing has changed.
        """
        raise NotImplementedError

    def unread(self) -> list[str]:
        """Columns whose arrays it would rather have as `broker.market.written.Unread`."""
        return []

    def removed(self, row: Row, now_ms: int) -> None:
        """A row that is in its table no more.  Raises: as `row`."""

    def commit(self, now_ms: int) -> None:
        """The open transaction is complete."""
        raise NotImplementedError

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        raise NotImplementedError

    def due_ms(self) -> int:
        """When `tick` has something to do; NEVER_MS if nothing waits."""
        return NEVER_MS

    def reset(self, now_ms: int) -> None:
        """Rows may be missing: whoever reads gets the state anew."""
        self.counts.resets += 1

    def streams(self) -> list[Stream]:
        """All that has been published so far."""
        raise NotImplementedError


def symbol_of(row: Row, name: str) -> str:
    """Raises: BadValue."""
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise BadValue("no_symbol")
    if len(value) > SYMBOL_CHARACTERS_MAX or not value.isprintable():
        raise BadValue("bad_symbol")
    return value


def side_told(value: object, sides: dict[str, str]) -> str:
    """`buy` or `sell`, by what a source says for it; "" if it is none of that.  A boolean is `true` or `false`."""
    if isinstance(value, bool):
        return sides.get("true" if value else "false", "")
    return sides.get(value, "") if isinstance(value, str) else ""


def is_buy(value: object, sides: dict[str, str] | None = None) -> bool:
    """Whether a row's side is the buyers'.  Raises: BadValue.

    Args:
        sides: as `side_told`; None or empty for the usual words.
    """
    if sides:
        told = side_told(value, sides)
        if not told:
            raise BadValue("bad_side")
        return told == "buy"
    if isinstance(value, str):
        side = value.lower()
        if side in ("buy", "bid", "b", "bids"):
            return True
        if side in ("sell", "ask", "s", "a", "asks", "offer"):
            return False
    raise BadValue("bad_side")
