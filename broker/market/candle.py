"""What some trades of an interval come to: open, high, low, close, and exact sums.  Pure; compiled."""

from __future__ import annotations

from broker.market.numbers import Number, Sum, is_less
from broker.market.trade import Trade


class Candle:
    """The trades of one interval.

    Invariant: low <= open, close <= high; open and close are of the first and the last trade by their own times, ids
    where times are equal.
    """

    def __init__(self, start_ms: int, end_ms: int, price: Number) -> None:
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.open = price
        self.high = price
        self.low = price
        self.close = price
        self.last_size = "0"
        self.volume = Sum()
        self.turnover = Sum()
        self.trades = 0
        self.last_id = -1
        """The highest numeric id that is in it."""
        self.open_us = 0
        self.open_id = -1
        self.close_us = 0
        self.close_id = -1
        self.is_closed = False
        self.rev = 0
        self.told_rev = -1
        """The last `rev` with which it was said to be closed; -1 if it wasn't."""
        self.seq = 0
        """Of the last message about it."""
        self.is_dirty = False
        self.is_unsaved = False

    def add(self, trade: Trade) -> None:
        """Take a trade of its interval; trades may come in any order."""
        price, at_us, number = trade.price, trade.at_us, trade.number
        if not self.trades:
            self.open = self.high = self.low = self.close = price
            self.open_us = self.close_us = at_us
            self.open_id = self.close_id = number
            self.last_size = trade.size.text
        else:
            if is_less(self.high, price):
                self.high = price
            elif is_less(price, self.low):
                self.low = price
            if at_us > self.close_us or (at_us == self.close_us and number >= self.close_id):
                self.close = price
                self.close_us = at_us
                self.close_id = number
                self.last_size = trade.size.text
            if at_us < self.open_us or (at_us == self.open_us and number < self.open_id):
                self.open = price
                self.open_us = at_us
                self.open_id = number
        size = trade.size
        self.volume.add(size.units, size.scale)
        self.turnover.add(trade.worth_units, trade.worth_scale)
        self.trades += 1
        if number > self.last_id:
            self.last_id = number

    def merge(self, later: Candle) -> None:
        """Add what is in another, none of whose trades was before any of ours."""
        if not self.trades:
            self.open, self.high, self.low = later.open, later.high, later.low
            self.open_us, self.open_id = later.open_us, later.open_id
        else:
            if is_less(self.high, later.high):
                self.high = later.high
            if is_less(later.low, self.low):
                self.low = later.low
        self.close, self.close_us, self.close_id = later.close, later.close_us, later.close_id
        self.last_size = later.last_size
        self.volume.add(later.volume.units, later.volume.scale)
        self.turnover.add(later.turnover.units, later.turnover.scale)
        self.trades += later.trades
        if later.last_id > self.last_id:
            self.last_id = later.last_id

    def text(self, interval: str) -> bytes:
        """The candle as a JSON object."""
        return (
            f'{{"interval":"{interval}","start":{self.start_ms},"end":{self.end_ms},'
            f'"open":"{self.open.text}","high":"{self.high.text}","low":"{self.low.text}",'
            f'"close":"{self.close.text}","volume":"{self.volume.text()}","turnover":"{self.turnover.text()}",'
            f'"trades":{self.trades},"closed":{"true" if self.is_closed else "false"},"rev":{self.rev}}}'
        ).encode()
