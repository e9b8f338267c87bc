"""What has an id in a book: single orders, of which several make a level, or levels that are named by a number.

Pure; compiled.  An order that is not known is left out of what takes from it: it was there before we listened.
"""

from __future__ import annotations

from typing import Final

from broker.market.levels import Said, level_of
from broker.market.numbers import BadValue, Number, Sum, parse, scaled, text_of, value_of

ORDERS_MAX: Final = 500_000
"""Of one symbol."""

ID_CHARACTERS_MAX: Final = 64


class Event:
    """What a row says of one order.

    Attributes:
        action: `set`, `remove` or `reduce`.
        side: 1 bids, -1 asks, 0 where the row doesn't say.
        price, size: None where it doesn't say.
    """

    def __init__(self, action: str, id: str, side: int, price: Number | None, size: Number | None) -> None:
        self.action = action
        self.id = id
        self.side = side
        self.price = price
        self.size = size


def event_of(said: Said, action: str) -> Event:
    """What a row of this action says.  Raises: BadValue."""
    id = said.id
    if not isinstance(id, str) or not id or len(id) > ID_CHARACTERS_MAX:
        raise BadValue("bad_id")
    if action == "remove":
        return Event(action, id, said.side, None, None)
    if said.size is None:
        raise BadValue("missing_size")
    size = level_of("0", said.size)[1]
    is_set = action in ("set", "whole")
    if not size.units:
        return Event("remove" if is_set else "ignore", id, said.side, None, None)
    price = None if said.price is None else parse(said.price)
    return Event("set" if is_set else action, id, said.side, price, size)


class Order:
    """One order, or level, by its id."""

    def __init__(self, side: int, price: Number, size: Number) -> None:
        self.side = side
        self.price = price
        self.size = size


class Pile:
    """All orders of one side and price."""

    def __init__(self, side: int, price: Number) -> None:
        self.side = side
        self.price = price
        self.sum = Sum()
        self.last: Number | None = None
        """The size of the only order, as it was written; None if there are others."""
        self.orders = 0

    def size(self) -> Number:
        """What there is of it now."""
        if not self.orders:
            return Number(0, 0, "0")
        if self.orders == 1 and self.last is not None:
            return self.last
        return Number(self.sum.units, self.sum.scale, self.sum.text())


class Orders:
    """One symbol's."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._piles: dict[str, Pile] = {}
        self._touched: dict[str, Pile] = {}

    def check(self, events: list[Event], is_whole: bool) -> None:
        """Raises: BadValue, for what can't be applied."""
        told: set[str] = set()
        for event in events:
            if event.action != "set":
                continue
            is_known = event.id in told or (not is_whole and event.id in self._orders)
            if not is_known and (event.price is None or not event.side):
                raise BadValue("unknown_id")
            told.add(event.id)
        if (0 if is_whole else len(self._orders)) + len(told) > ORDERS_MAX:
            raise BadValue("book_too_large")

    def forget(self) -> None:
        """What comes now is all."""
        self._touched.update(self._piles)
        for pile in self._piles.values():
            pile.sum = Sum()
            pile.orders = 0
            pile.last = None
        self._orders = {}
        self._piles = {}

    def apply(self, event: Event) -> None:
        """Take over what `check` has found to be right."""
        known = self._orders.get(event.id)
        if event.action == "set":
            price, side = event.price, event.side
            if known is not None:
                price = known.price if price is None else price
                side = side if side else known.side
                self._take_away(event.id, known)
            if price is not None and event.size is not None:
                self._put(event.id, Order(side, price, event.size))
        elif known is not None and event.action == "remove":
            self._take_away(event.id, known)
        elif known is not None and event.action == "reduce" and event.size is not None:
            scale = max(known.size.scale, event.size.scale)
            units = scaled(known.size, scale) - scaled(event.size, scale)
            self._take_away(event.id, known)
            if units > 0:
                size = Number(units, scale, text_of(units, scale))
                self._put(event.id, Order(known.side, known.price, size))

    def touched(self) -> list[Pile]:
        """What has changed since this was last asked."""
        touched = list(self._touched.values())
        self._touched = {}
        return touched

    def _put(self, id: str, order: Order) -> None:
        self._orders[id] = order
        key = _key_of(order)
        pile = self._piles.get(key)
        if pile is None:
            pile = self._touched.get(key)
            if pile is None:
                pile = Pile(order.side, order.price)
            self._piles[key] = pile
        pile.orders += 1
        pile.sum.add(order.size.units, order.size.scale)
        pile.last = order.size if pile.orders == 1 else None
        self._touched[key] = pile

    def _take_away(self, id: str, order: Order) -> None:
        del self._orders[id]
        key = _key_of(order)
        pile = self._piles[key]
        pile.orders -= 1
        pile.sum.add(-order.size.units, order.size.scale)
        pile.last = None
        if not pile.orders:
            del self._piles[key]
        self._touched[key] = pile


def _key_of(order: Order) -> str:
    units, scale = value_of(order.price)
    return f"{order.side} {units} {scale}"
