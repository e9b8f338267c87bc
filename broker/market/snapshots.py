"""Whole books that come again and again: what has changed from one to the next.  Pure; compiled.

One side of a book is kept as a text, of which each price and each size is a line: that takes little room, and most of
it is compared as memory is.  However lines are found to be each other's, the answer is right: what is left of the old
book goes, and what is left of the new one comes.  That they stand in the order of their prices makes it fast.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from broker.market.numbers import BadValue, Number, is_less, parse

Level = tuple[Number, Number]
"""Price and size."""

STEP: Final = 256
"""Characters that are compared at once."""

STEP_MIN: Final = 16

UNMATCHED_PART: Final = 4
"""Where more than one level in so many is left over, they stand in no order, and are looked up instead."""


class Differences:
    """Between two states of a book's side.

    Attributes:
        gone: prices that were there and, by this text, are no more.
        changed: levels whose price is in both.
        added: levels whose price, by this text, was not there.
        has_zero: a size is 0.
    """

    def __init__(self) -> None:
        self.gone: list[Number] = []
        self.changed: list[Level] = []
        self.added: list[Level] = []
        self.has_zero = False

    def change(self, price: str, size: str) -> None:
        """Raises: BadValue."""
        self.changed.append(self._level(price, size))

    def add(self, price: str, size: str) -> None:
        """Raises: BadValue."""
        self.added.append(self._level(price, size))

    def _level(self, price: str, size: str) -> Level:
        level = level_of(price, size)
        if not level[1].units:
            self.has_zero = True
        return level


def level_of(price: object, size: object) -> Level:
    """Raises: BadValue."""
    if price is None or size is None:
        raise BadValue("missing_price" if price is None else "missing_size")
    level = (parse(price), parse(size))
    if level[1].units < 0:
        raise BadValue("negative_size")
    return level


def side_text(levels: list[Any], price: str, size: str) -> str:
    """A side of a book, to be compared.  Raises: BadValue.

    Args:
        levels: `[price, size, ...]`, or objects.
        price, size: their members' names.
    """
    if not levels:
        return ""
    tokens: Any = chain.from_iterable(levels if _are_pairs(levels) else _pairs(levels, price, size))
    try:
        text = "\n".join(tokens) + "\n"
    except TypeError:
        raise BadValue("bad_level") from None
    if text.count("\n") != 2 * len(levels):
        raise BadValue("bad_level")
    return text


def _are_pairs(levels: list[Any]) -> bool:
    for level in levels:  # noqa: SIM110 - a loop is compiled, a generator isn't
        if not isinstance(level, list) or len(level) != 2:
            return False
    return True


def _pairs(levels: list[Any], price: str, size: str) -> list[Any]:
    found: list[Any] = []
    for level in levels:
        if isinstance(level, list) and len(level) >= 2:
            found.append(level[:2])
        elif isinstance(level, dict):
            found.append([level.get(price), level.get(size)])
        else:
            raise BadValue("bad_level")
    return found


def levels_in(text: str) -> list[tuple[str, str]]:
    """Prices and sizes of a side's text."""
    tokens = text.split("\n")
    return [(tokens[i], tokens[i + 1]) for i in range(0, len(tokens) - 1, 2)]


def differences(old: str, new: str) -> Differences:
    """What leads from one side's text to another's.  Raises: BadValue, for what can't be a price."""
    found = Differences()
    unmatched_max = STEP_MIN + new.count("\n") // 2 // UNMATCHED_PART
    is_rising = _is_rising(new)
    i = j = 0
    while True:
        same = _same_lines(old, new, i, j)
        i, j = i + same, j + same
        if i == len(old) or j == len(new):
            break
        old_price, old_end = _level_at(old, i)
        new_price, new_end = _level_at(new, j)
        if old_price == new_price:
            found.change(new_price, _size_in(new, j, new_end, new_price))
            i, j = old_end, new_end
        elif _comes_first(old, i, old_price, old_end, new, j, new_price, new_end, is_rising):
            found.add(new_price, _size_in(new, j, new_end, new_price))
            j = new_end
        else:
            found.gone.append(parse(old_price))
            i = old_end
        if len(found.gone) + len(found.added) > unmatched_max:
            return _looked_up(old, new)
    for price, _ in levels_in(old[i:]):
        found.gone.append(parse(price))
    for price, size in levels_in(new[j:]):
        found.add(price, size)
    return found


def _same_lines(old: str, new: str, i: int, j: int) -> int:
    """How many characters from there on are the same levels in both."""
    begin = i
    known = i
    step = STEP
    while step >= STEP_MIN:
        piece = old[i : i + step]
        if piece == new[j : j + step]:
            i += len(piece)
            j += len(piece)
            if len(piece) < step:
                return i - begin
        else:
            step //= 2
    # Back to where the level begins: there is an even number of lines before it.
    at = max(old.rfind("\n", known, i) + 1, known)
    if old.count("\n", known, at) % 2:
        at = max(old.rfind("\n", known, at - 1) + 1, known)
    j -= i - at
    i = at
    while i < len(old) and j < len(new):
        end = old.find("\n", old.find("\n", i) + 1) + 1
        if old[i:end] != new[j : j + end - i]:
            break
        j += end - i
        i = end
    return i - begin


def _level_at(text: str, at: int) -> tuple[str, int]:
    """The price of the level that begins there, and where the next one does."""
    end = text.find("\n", at)
    return text[at:end], text.find("\n", end + 1) + 1


def _size_in(text: str, at: int, end: int, price: str) -> str:
    return text[at + len(price) + 1 : end - 1]


def _comes_first(
    old: str,
    i: int,
    old_price: str,
    old_end: int,
    new: str,
    j: int,
    new_price: str,
    new_end: int,
    is_rising: bool,
) -> bool:
    """Whether the new side's level stands before the old one's, rather than that the old one's has gone."""
    if new.startswith(old[i:old_end], new_end):
        return True
    if old.startswith(new[j:new_end], old_end):
        return False
    if is_rising:
        return is_less(parse(new_price), parse(old_price))
    return is_less(parse(old_price), parse(new_price))


def _is_rising(text: str) -> bool:
    if not text:
        return False
    last = text.rfind("\n", 0, text.rfind("\n", 0, len(text) - 1))
    if last < 0:
        return False
    return is_less(parse(text[: text.find("\n")]), parse(text[last + 1 : text.find("\n", last + 1)]))


def _looked_up(old: str, new: str) -> Differences:
    """The same for levels in any order."""
    found = Differences()
    before = dict(levels_in(old))
    levels = levels_in(new)
    after = dict(levels)
    if len(after) != len(levels):
        raise BadValue("duplicate_level")
    for price, size in levels:
        known = before.get(price)
        if known is None:
            found.add(price, size)
        elif known != size:
            found.change(price, size)
    for price in before:
        if price not in after:
            found.gone.append(parse(price))
    return found
