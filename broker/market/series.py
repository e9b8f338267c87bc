"""The candles of one symbol and one interval, in their order.  Pure; compiled.

Invariant: candles rise by their starts; only the last one is open; each is closed by exactly one message with
`rev` 0, and every change after that raises its `rev`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.market.candle import Candle
from broker.market.numbers import Number
from broker.market.stream import Stream
from broker.market.times import Interval
from broker.market.trade import Trade

KEPT: Final = 2
"""Closed candles at least that are kept for corrections."""

FILLED_MAX: Final = 1500
"""Empty intervals in a row that get candles; of a longer pause the latest."""


class Series(Stream):
    """One symbol's candles of one interval.

    Args:
        keep_ms: how long closed candles are kept for corrections.
        fills: empty intervals get a candle at the last price.
    """

    def __init__(
        self, names: dict[str, str], seq: int, interval: Interval, late_ms: int, keep_ms: int, fills: bool
    ) -> None:
        super().__init__(names, seq)
        self.interval = interval
        self.late_ms = late_ms
        self.keep_ms = keep_ms
        self.fills = fills
        self.candles: deque[Candle] = deque()
        self.dirty: list[Candle] = []
        """In the order in which messages about them have to go out."""
        self.floor_ms = 0
        """What is older was there, and is kept no more."""
        self.has_news = False
        """Something was closed or corrected, so that the interval isn't waited for."""

    def add(self, trade: Trade, at_ms: int) -> bool:
        """Count a trade; False if its candle is kept no more."""
        candles = self.candles
        if candles:
            last = candles[-1]
            if at_ms >= last.start_ms:
                if at_ms < last.end_ms and not last.is_closed:
                    last.add(trade)
                    self._mark(last)
                    return True
                if at_ms >= last.end_ms:
                    start_ms = self.interval.start_ms(at_ms)
                    self.close_until(start_ms)
                    self._open(start_ms, trade.price).add(trade)
                    return True
            return self._correct(trade, at_ms)
        self._open(self.interval.start_ms(at_ms), trade.price).add(trade)
        return True

    def merge(self, later: Candle) -> None:
        """Count trades of the open candle's interval, none of which was before any that is in it."""
        last = self.candles[-1]
        last.merge(later)
        self._mark(last)

    def open_candle(self) -> Candle | None:
        """The newest, unless it is closed."""
        if not self.candles or self.candles[-1].is_closed:
            return None
        return self.candles[-1]

    def restore(self, candle: Candle) -> None:
        """A candle that was told before a restart, newer than all others."""
        self.advance()
        candle.seq = self.seq
        if candle.is_closed:
            candle.told_rev = candle.rev
        if not self.candles:
            self.floor_ms = candle.start_ms
        self.candles.append(candle)

    def tell_newest(self) -> None:
        """The newest candle is to be told, though nothing about it has changed."""
        if self.candles and not self.candles[-1].is_dirty:
            self.candles[-1].is_dirty = True
            self.dirty.append(self.candles[-1])

    def close_until(self, start_ms: int) -> None:
        """Close what ends by `start_ms`, where an interval begins, and fill what lies between."""
        candles = self.candles
        if not candles:
            return
        last = candles[-1]
        if last.end_ms > start_ms:
            return
        if not last.is_closed:
            self._close(last)
        if self.fills and last.end_ms < start_ms:
            self._fill(last.end_ms, start_ms, last.close)

    def _fill(self, begin_ms: int, end_ms: int, price: Number) -> None:
        length = self.interval.length_ms
        if length and (end_ms - begin_ms) // length > FILLED_MAX:
            begin_ms = end_ms - FILLED_MAX * length
        while begin_ms < end_ms:
            candle = self._open(begin_ms, price)
            self._close(candle)
            begin_ms = candle.end_ms

    def tick(self, now_ms: int) -> None:
        """Close what has ended, `late_ms` after its end; with `fills` the next one is open then."""
        if not self.candles:
            return
        last = self.candles[-1]
        if last.is_closed or now_ms < last.end_ms + self.late_ms:
            return
        start_ms = self.interval.start_ms(now_ms - self.late_ms)
        price = last.close
        self.close_until(start_ms)
        if self.fills:
            self._open(start_ms, price)

    def _open(self, start_ms: int, price: Number) -> Candle:
        candle = Candle(start_ms, self.interval.end_ms(start_ms), price)
        self.candles.append(candle)
        self._mark(candle)
        while len(self.candles) > KEPT + 1 and self.candles[0].end_ms < start_ms - self.keep_ms:
            if self.candles[0].is_dirty or self.candles[0].is_unsaved:
                break
            self.floor_ms = self.candles.popleft().end_ms
        return candle

    def _close(self, candle: Candle) -> None:
        candle.is_closed = True
        self.has_news = True
        self._mark(candle)

    def _correct(self, trade: Trade, at_ms: int) -> bool:
        """A trade for a candle that is closed."""
        candles = self.candles
        if at_ms < candles[0].start_ms:
            return self._add_before(trade, at_ms)
        i = len(candles) - 1
        while candles[i].start_ms > at_ms:
            i -= 1
        candle = candles[i]
        if at_ms >= candle.end_ms:  # nothing is filled, and there was no trade in its interval
            start_ms = self.interval.start_ms(at_ms)
            candle = Candle(start_ms, self.interval.end_ms(start_ms), trade.price)
            candle.is_closed = True
            candle.told_rev = 0  # its place in the order has gone by: its first message is a correction
            candles.insert(i + 1, candle)
        was_empty = candle.trades == 0
        close_before = candle.close
        candle.add(trade)
        self._revise(candle)
        if was_empty or candle.close is not close_before:
            self._carry(candle)
        return True

    def _add_before(self, trade: Trade, at_ms: int) -> bool:
        """A trade from before the first candle; False if there were others, which are kept no more."""
        start_ms = self.interval.start_ms(at_ms)
        if start_ms < self.floor_ms or start_ms < self.candles[-1].start_ms - self.keep_ms:
            return False
        candle = Candle(start_ms, self.interval.end_ms(start_ms), trade.price)
        candle.add(trade)
        found = [candle]
        while self.fills and found[-1].end_ms < self.candles[0].start_ms and len(found) < FILLED_MAX:
            begin_ms = found[-1].end_ms
            found.append(Candle(begin_ms, self.interval.end_ms(begin_ms), candle.close))
        for i in range(len(found) - 1, -1, -1):
            found[i].is_closed = True
            found[i].told_rev = 0
            self.candles.appendleft(found[i])
            self._revise(found[i])
        return True

    def _carry(self, corrected: Candle) -> None:
        """Empty candles behind a corrected one stand at its close."""
        candles = self.candles
        for i in range(len(candles) - 1):
            if candles[i] is corrected:
                for j in range(i + 1, len(candles)):
                    empty = candles[j]
                    if empty.trades or not self.fills:
                        return
                    empty.open = empty.high = empty.low = empty.close = corrected.close
                    if empty.is_closed:
                        self._revise(empty)
                    else:
                        self._mark(empty)
                return

    def _revise(self, candle: Candle) -> None:
        """A closed candle has changed; several changes before a message are one."""
        if candle.told_rev == candle.rev:
            candle.rev += 1
        self.has_news = True
        self._mark(candle)

    def _mark(self, candle: Candle) -> None:
        candle.is_unsaved = True
        if not candle.is_dirty:
            candle.is_dirty = True
            self.dirty.append(candle)

    def take_dirty(self) -> list[Candle]:
        """What there are messages to be sent about, by start, so that corrections are first."""
        dirty = self.dirty
        self.dirty = []
        self.has_news = False
        if len(dirty) > 1:
            dirty.sort(key=_start)
        return dirty

    def message(self, candle: Candle) -> bytes:
        """The next message, about this candle."""
        self.advance()
        candle.seq = self.seq
        candle.is_dirty = False
        if candle.is_closed:
            candle.told_rev = candle.rev
        return candle.text(self.interval.name)

    def state(self) -> list[bytes]:
        for i in range(len(self.candles) - 1, -1, -1):
            if self.candles[i].seq:
                return [self.candles[i].text(self.interval.name)]
        return []

    def since(self, seq: int) -> list[bytes]:
        return [candle.text(self.interval.name) for candle in self.candles if candle.seq > seq]


def _start(candle: Candle) -> int:
    return candle.start_ms
