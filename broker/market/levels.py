"""How a source's rows say levels: what columns are called, and what stands where.  Pure; compiled.

A row's action is `whole` (it is all of a book), `set` (levels have these sizes now), `remove`, `reduce` (so much is
taken from orders) or `ignore`.
"""

from __future__ import annotations

from typing import Final

from broker.market.calculator import Row, is_buy
from broker.market.numbers import BadValue, Number, parse

Level = tuple[Number, Number]
"""Price and size."""

WHOLE: Final = ("snapshot", "partial")
"""What a row of `diffs` that is a whole book has as its `type` if nothing else is said."""


class DepthNames:
    """What the columns are called; "" is not there.

    Args:
        changes: both sides' levels in one list.
        whole_bids, whole_asks: sides of a whole book, where they are called otherwise.
        sides: what `side` says, to `buy` or `sell`.
        action, actions: the column that says what a row does, and what its words mean, as above.
        id: what names an order.
        level: what stands where in a level that is an array.
        removed_by: a column that is 0 where a level has gone.
        is_signed: sizes of asks are negative.
        are_lists_whole: several levels in one list are a whole book, and one alone is a change.
    """

    def __init__(
        self,
        symbol: str = "symbol",
        side: str = "side",
        price: str = "price",
        size: str = "size",
        bids: str = "bids",
        asks: str = "asks",
        time: str = "",
        changes: str = "",
        sides: dict[str, str] | None = None,
        whole_bids: str = "",
        whole_asks: str = "",
        action: str = "type",
        actions: dict[str, str] | None = None,
        id: str = "",
        level: list[str] | None = None,
        removed_by: str = "",
        is_signed: bool = False,
        are_lists_whole: bool = False,
    ) -> None:
        self.symbol = symbol
        self.side = side
        self.price = price
        self.size = size
        self.bids = bids
        self.asks = asks
        self.time = time
        self.changes = changes
        self.sides = sides or None
        self.whole_bids = whole_bids
        self.whole_asks = whole_asks
        self.action = action
        self.actions = actions or None
        self.id = id
        self.level = level or None
        self.removed_by = removed_by
        self.is_signed = is_signed
        self.are_lists_whole = are_lists_whole
        self.is_plain = not (level or removed_by or is_signed or id)
        """Levels are `[price, size]` or objects."""


def level_of(price: object, size: object) -> Level:
    """Raises: BadValue."""
    if price is None or size is None:
        raise BadValue("missing_price" if price is None else "missing_size")
    level = (parse(price), parse(size))
    if level[1].units < 0:
        raise BadValue("negative_size")
    return level


class Said:
    """One level, or order, as it was written."""

    def __init__(self, side: int, price: object, size: object, id: object) -> None:
        self.side = side
        self.price = price
        self.size = size
        self.id = id


def action_of(row: Row, names: DepthNames) -> str:
    """What a row does.  Raises: BadValue."""
    word = row.get(names.action)
    if names.actions is None:
        return "whole" if isinstance(word, str) and word in WHOLE else "set"
    if word is None:
        return "set"
    if isinstance(word, bool):
        word = "true" if word else "false"
    action = names.actions.get(word) if isinstance(word, str) else None
    if action is None:
        raise BadValue("unknown_action")
    return action


def said_of(level: object, names: DepthNames, side: int) -> Said:
    """A level that is an array or an object, a row's among them.  Raises: BadValue.

    Args:
        side: 1 for one of the bids, -1 for one of the asks, 0 if it says so itself.
    """
    if isinstance(level, list):
        named = _named(level, names, side)
    elif isinstance(level, dict):
        named = level
    else:
        raise BadValue("bad_level")
    price, size, id = named.get(names.price), named.get(names.size), named.get(names.id)
    if names.is_signed and isinstance(size, str):
        is_negative = size.startswith("-")
        side = -1 if is_negative else 1
        size = size[1:] if is_negative else size
    elif not side and named.get(names.side) is not None:
        side = 1 if is_buy(named.get(names.side), names.sides) else -1
    if names.removed_by and _is_zero(named.get(names.removed_by)):
        size = "0"
    return Said(side, price, size, id)


def level_said(said: Said, action: str) -> Level:
    """A level that a row is.  Raises: BadValue."""
    if not said.side:
        raise BadValue("bad_side")
    if action == "reduce":
        raise BadValue("no_id")
    return level_of(said.price, "0" if action == "remove" else said.size)


def _named(level: list[object], names: DepthNames, side: int) -> dict[str, object]:
    at = names.level
    if at is None:
        at = [names.price, names.size] if side else [names.side, names.price, names.size]
    if len(level) < len(at):
        raise BadValue("bad_level")
    return dict(zip(at, level, strict=False))


def _is_zero(value: object) -> bool:
    try:
        return parse(value).units == 0
    except BadValue:
        return False


def is_one_level(changes: list[object]) -> bool:
    """Whether a list is a level rather than a list of them."""
    return bool(changes) and not isinstance(changes[0], list | dict)
