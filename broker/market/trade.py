"""A trade, from a row.  Pure; compiled."""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.market.calculator import Row, side_told, symbol_of
from broker.market.numbers import BadValue, Number, parse
from broker.market.times import time_us

REMEMBERED_MAX: Final = 1024
"""Ids of each symbol that are known again; what is lower than all of them counts as repeated."""

AHEAD_US_MAX: Final = 60_000_000
"""How far a trade may be ahead of our clock."""


class TradeNames:
    """What the columns are called; "" is not there."""

    def __init__(
        self,
        symbol: str = "symbol",
        price: str = "price",
        size: str = "size",
        side: str = "side",
        id: str = "id",
        time: str = "ts",
        sides: dict[str, str] | None = None,
    ) -> None:
        self.symbol = symbol
        self.price = price
        self.size = size
        self.side = side
        self.id = id
        self.time = time
        self.sides = sides or None


class Trade:
    """One trade.

    Attributes:
        id: as the source has it; "" if it has none.
        number: the id as a number, -1 if it is none.
        at_us: microseconds since 1970.
        side: `buy`, `sell` or "".
        worth_units, worth_scale: price × size.
    """

    def __init__(
        self, symbol: str, id: str, number: int, price: Number, size: Number, side: str, at_us: int
    ) -> None:
        self.symbol = symbol
        self.id = id
        self.number = number
        self.price = price
        self.size = size
        self.side = side
        self.at_us = at_us
        self.worth_units = price.units * size.units
        self.worth_scale = price.scale + size.scale


def trade_of(row: Row, names: TradeNames, now_ms: int) -> Trade:
    """Raises: BadValue."""
    symbol = symbol_of(row, names.symbol)
    written_price = row.get(names.price)
    written_size = row.get(names.size)
    if written_price is None or written_size is None:
        raise BadValue("missing_price" if written_price is None else "missing_size")
    price = parse(written_price)
    size = parse(written_size)
    if size.units <= 0:
        raise BadValue("bad_size")
    at_us = now_ms * 1000
    if names.time:
        written = row.get(names.time)
        if written is None:
            raise BadValue("missing_time")
        at_us = time_us(written)
        if at_us > now_ms * 1000 + AHEAD_US_MAX:
            raise BadValue("in_the_future")
    id = ""
    number = -1
    if names.id:
        given = row.get(names.id)
        if given is not None:
            if not isinstance(given, str) or not given or len(given) > 64:
                raise BadValue("bad_id")
            id = given
            if given.isdigit() and given.isascii() and len(given) < 19:
                number = int(given)
    side = ""
    if names.side:
        word = row.get(names.side)
        if names.sides is not None:
            side = side_told(word, names.sides)
        elif isinstance(word, str):
            side = _side(word)
        if not side and word is not None:
            raise BadValue("bad_side")
    return Trade(symbol, id, number, price, size, side, at_us)


def _side(word: str) -> str:
    if word == "buy" or word == "sell":
        return word
    lower = word.lower()
    if lower in ("buy", "b", "bid"):
        return "buy"
    return "sell" if lower in ("sell", "s", "ask", "a") else ""


class Seen:
    """Which trades of a symbol have been counted.

    Args:
        floor: ids up to this one have been counted, whatever came of them.
    """

    def __init__(self, floor: int = -1) -> None:
        self.floor = floor
        self.last = floor
        self._numbers: set[int] = set()
        self._order: deque[int] = deque()
        self._ids: set[str] = set()
        """Those that are no numbers."""
        self._ids_order: deque[str] = deque()

    def is_repeated(self, trade: Trade) -> bool:
        """Whether the trade has been counted; takes note of it if not."""
        number = trade.number
        if number < 0:
            return bool(trade.id) and self._is_repeated_id(trade.id)
        if number > self.last:
            self.last = number
        elif number <= self.floor or number in self._numbers:
            return True
        self._numbers.add(number)
        self._order.append(number)
        if len(self._order) > REMEMBERED_MAX:
            number = self._order.popleft()
            self._numbers.discard(number)
            if number > self.floor:
                self.floor = number
        return False

    def _is_repeated_id(self, id: str) -> bool:
        if id in self._ids:
            return True
        self._ids.add(id)
        self._ids_order.append(id)
        if len(self._ids_order) > REMEMBERED_MAX:
            self._ids.discard(self._ids_order.popleft())
        return False
