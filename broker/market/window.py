"""A day that slides by the minute: what its trades come to, exact, at a cost that doesn't grow with their number.

Pure; compiled.

The window is whole minutes and the one that has begun.  Highs and lows are kept as queues in which only those
minutes stand that could still become the highest or the lowest.
"""

from __future__ import annotations

from collections import deque

from broker.market.candle import Candle
from broker.market.numbers import Number, Sum, is_less
from broker.market.times import MINUTE_MS
from broker.market.trade import Trade


class Minute:
    """The trades of one minute."""

    def __init__(self, number: int, trade: Trade) -> None:
        price = trade.price
        self.number = number
        self.open = self.high = self.low = self.close = price
        self.open_us = self.close_us = trade.at_us
        self.open_id = self.close_id = trade.number
        self.volume = Sum()
        self.turnover = Sum()
        self.trades = 0

    def add(self, trade: Trade) -> bool:
        """Count a trade; whether the highest or the lowest price is another one now."""
        price = trade.price
        has_moved = False
        if is_less(self.high, price):
            self.high = price
            has_moved = True
        if is_less(price, self.low):
            self.low = price
            has_moved = True
        at_us, number = trade.at_us, trade.number
        if at_us > self.close_us or (at_us == self.close_us and number >= self.close_id):
            self.close, self.close_us, self.close_id = price, at_us, number
        if at_us < self.open_us or (at_us == self.open_us and number < self.open_id):
            self.open, self.open_us, self.open_id = price, at_us, number
        size = trade.size
        self.volume.add(size.units, size.scale)
        self.turnover.add(trade.worth_units, trade.worth_scale)
        self.trades += 1
        return has_moved


class RollingWindow:
    """One symbol's trades of the last `minutes` minutes."""

    def __init__(self, minutes: int) -> None:
        self.minutes = minutes
        self.kept: deque[Minute] = deque()
        self.highs: deque[Minute] = deque()
        self.lows: deque[Minute] = deque()
        self.volume = Sum()
        self.turnover = Sum()
        self.trades = 0
        self.first = 0
        """The number of the first minute of the window."""
        self.last_price: Number | None = None
        self.last_size: Number | None = None
        self.last_us = -1
        self.last_id = -1

    def add(self, trade: Trade) -> bool:
        """Count a trade; False if it is older than the window."""
        number = trade.at_us // (MINUTE_MS * 1000)
        if trade.at_us > self.last_us or (trade.at_us == self.last_us and trade.number >= self.last_id):
            self.last_price, self.last_size = trade.price, trade.size
            self.last_us, self.last_id = trade.at_us, trade.number
        if number < self.first:
            return False
        kept = self.kept
        size = trade.size
        self.volume.add(size.units, size.scale)
        self.turnover.add(trade.worth_units, trade.worth_scale)
        self.trades += 1
        if kept and kept[-1].number == number:
            minute = kept[-1]
            if minute.add(trade):
                self._settle(minute)
        elif not kept or kept[-1].number < number:
            minute = Minute(number, trade)
            minute.add(trade)
            kept.append(minute)
            self._settle(minute)
        else:
            self._add_late(number, trade)
        return True

    def restore(self, minute: Minute) -> None:
        """A minute from before a restart; they come in their order."""
        if minute.number < self.first or (self.kept and minute.number <= self.kept[-1].number):
            return
        self.volume.add(minute.volume.units, minute.volume.scale)
        self.turnover.add(minute.turnover.units, minute.turnover.scale)
        self.trades += minute.trades
        self.kept.append(minute)
        self._settle(minute)

    def slide(self, time_ms: int) -> None:
        """It is this time: forget what has left the window."""
        self.first = max(self.first, time_ms // MINUTE_MS - self.minutes + 1)
        kept = self.kept
        while kept and kept[0].number < self.first:
            gone = kept.popleft()
            self.volume.add(-gone.volume.units, gone.volume.scale)
            self.turnover.add(-gone.turnover.units, gone.turnover.scale)
            self.trades -= gone.trades
            if self.highs and self.highs[0] is gone:
                self.highs.popleft()
            if self.lows and self.lows[0] is gone:
                self.lows.popleft()
        if not kept:
            self.volume = Sum()
            self.turnover = Sum()

    def _settle(self, minute: Minute) -> None:
        """The newest minute takes its place among the highest and the lowest."""
        highs, lows = self.highs, self.lows
        while highs and (highs[-1] is minute or not is_less(minute.high, highs[-1].high)):
            highs.pop()
        highs.append(minute)
        while lows and (lows[-1] is minute or not is_less(lows[-1].low, minute.low)):
            lows.pop()
        lows.append(minute)

    def _add_late(self, number: int, trade: Trade) -> None:
        kept = self.kept
        i = len(kept) - 1
        while i >= 0 and kept[i].number > number:
            i -= 1
        if i >= 0 and kept[i].number == number:
            kept[i].add(trade)
        else:
            minute = Minute(number, trade)
            minute.add(trade)
            kept.insert(i + 1, minute)
        self.highs.clear()
        self.lows.clear()
        for minute in kept:
            self._settle(minute)


def minute_of(candle: Candle) -> Minute:
    """The minute of which a candle of one minute tells."""
    close = Trade("", "", candle.close_id, candle.close, candle.close, "", candle.close_us)
    minute = Minute(candle.start_ms // MINUTE_MS, close)
    minute.open, minute.high, minute.low = candle.open, candle.high, candle.low
    minute.open_us, minute.open_id = candle.open_us, candle.open_id
    minute.volume.add(candle.volume.units, candle.volume.scale)  # its own: the candle's goes on
    minute.turnover.add(candle.turnover.units, candle.turnover.scale)
    minute.trades = candle.trades
    return minute
