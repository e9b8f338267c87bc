"""A trade, from a row.  Pure; compiled."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final

from broker.market.calculator import Row, side_told, symbol_of
from broker.market.numbers import BadValue, Number, parse
from broker.market.times import time_us

REMEMBERED_MAX: Final = 1024
"""Ids of each symbol that are known again, where they are no numbers."""

UNKNOWN: Final = "unknown"
"""What a source says where it doesn't know who took; messages have no side then."""

RANGES_MAX: Final = 1024
"""Of a symbol's ids, with numbers missing between them."""

AHEAD_US_MAX: Final = 60_000_000
"""How far a trade may be ahead of our clock."""


class TradeNames:
    """What the columns are called; "" is not there.  With `is_signed` the size of a sale is negative."""

    def __init__(
        self,
        symbol: str = "symbol",
        price: str = "price",
        size: str = "size",
        side: str = "side",
        id: str = "id",
        time: str = "ts",
        sides: dict[str, str] | None = None,
        is_signed: bool = False,
    ) -> None:
        self.symbol = symbol
        self.price = price
        self.size = size
        self.side = side
        self.id = id
        self.time = time
        self.sides = sides or None
        self.is_signed = is_signed


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
    is_sale = False
    if names.is_signed and isinstance(written_size, str) and written_size.startswith("-"):
        written_size = written_size[1:]
        is_sale = True
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
    id = _id(row.get(names.id)) if names.id else ""
    number = int(id) if id.isdigit() and id.isascii() and len(id) < 19 else -1
    side = ""
    if names.is_signed:
        side = "sell" if is_sale else "buy"
    elif names.side:
        word = row.get(names.side)
        if names.sides is not None:
            side = side_told(word, names.sides)
        elif isinstance(word, str):
            side = _side(word)
        if not side and word is not None:
            raise BadValue("bad_side")
        if side == UNKNOWN:
            side = ""
    return Trade(symbol, id, number, price, size, side, at_us)


def _id(given: object) -> str:
    if given is None:
        return ""
    if not isinstance(given, str) or not given or len(given) > 64:
        raise BadValue("bad_id")
    return given


def _side(word: str) -> str:
    if word == "buy" or word == "sell":
        return word
    lower = word.lower()
    if lower in ("buy", "b", "bid"):
        return "buy"
    if lower in ("sell", "s", "ask", "a", "offer"):
        return "sell"
    return UNKNOWN if lower == UNKNOWN else ""


class Seen:
    """Which trades of a symbol have been counted, in whatever order they come.

    Numbers are kept as ranges, which are few where ids are neighbours.  Where there would be too many, the lowest
    become one, and what was missing between them counts as known.

    Invariant: ranges rise, and between any two of them at least one number is missing.
    """

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._highest = -1
        self._ids: set[str] = set()
        """Those that are no numbers."""
        self._ids_order: deque[str] = deque()

    def know_until(self, number: int) -> None:
        """All numbers up to this one have been counted."""
        if number < 0:
            return
        i = bisect_left(self._lasts, number)
        if i < len(self._lasts) and self._firsts[i] <= number + 1:
            number = self._lasts[i]
            i += 1
        self._firsts[:i] = [0]
        self._lasts[:i] = [number]
        self._highest = self._lasts[-1]

    def is_repeated(self, trade: Trade) -> bool:
        """Whether the trade has been counted; takes note of it if not."""
        number = trade.number
        if number < 0:
            return bool(trade.id) and self._is_repeated_id(trade.id)
        highest = self._highest
        if number <= highest:
            return self._is_repeated_or_late(number)
        self._highest = number
        if number == highest + 1 and highest >= 0:
            self._lasts[-1] = number
            return False
        self._firsts.append(number)
        self._lasts.append(number)
        if len(self._lasts) > RANGES_MAX:
            self._join_lowest()
        return False

    def _is_repeated_or_late(self, number: int) -> bool:
        firsts, lasts = self._firsts, self._lasts
        i = bisect_left(lasts, number)
        if firsts[i] <= number:
            return True
        touches_next = firsts[i] == number + 1
        if i > 0 and lasts[i - 1] == number - 1:
            if touches_next:
                firsts[i] = firsts[i - 1]
                del firsts[i - 1]
                del lasts[i - 1]
            else:
                lasts[i - 1] = number
        elif touches_next:
            firsts[i] = number
        else:
            firsts.insert(i, number)
            lasts.insert(i, number)
            if len(lasts) > RANGES_MAX:
                self._join_lowest()
        return False

    def _join_lowest(self) -> None:
        count = RANGES_MAX // 2
        del self._firsts[1:count]
        del self._lasts[: count - 1]

    def _is_repeated_id(self, id: str) -> bool:
        if id in self._ids:
            return True
        self._ids.add(id)
        self._ids_order.append(id)
        if len(self._ids_order) > REMEMBERED_MAX:
            self._ids.discard(self._ids_order.popleft())
        return False
