"""Whole books that come again and again: what has changed from one to the next.  Pure; compiled.

One side of a book is kept as a text, of which each price and each size is a line: that takes little room, and most of
it is compared as memory is.  However lines are found to be each other's, the answer is right: what is left of the old
book goes, and what is left of the new one comes.  That they stand in the order of their prices makes it fast.
"""

from __future__ import annotations

from typing import Any, Final

from broker.market.numbers import BadValue, Number, is_less, parse

Level = tuple[Number, Number]
"""Price and size."""

STEP: Final = 256
"""Characters that are compared at once."""

STEP_MIN: Final = 32
"""So few are compared one by one."""

UNMATCHED_PART: Final = 4
"""Where more than one level in so many is left over, they stand in no order, and are looked up instead."""

UNMATCHED_MIN: Final = 16


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
    lines: list[Any] = []
    for level in levels:
        if isinstance(level, list):
            if len(level) == 2:
                lines.extend(level)
            elif len(level) > 2:
                lines.extend(level[:2])
            else:
                raise BadValue("bad_level")
        elif isinstance(level, dict):
            lines.append(level.get(price))
            lines.append(level.get(size))
        else:
            raise BadValue("bad_level")
    lines.append("")
    try:
        text = "\n".join(lines)
    except TypeError:
        raise BadValue("bad_level") from None
    if text.count("\n") != 2 * len(levels):
        raise BadValue("bad_level")
    return text


def levels_in(text: str) -> list[tuple[str, str]]:
    """Prices and sizes of a side's text."""
    tokens = text.split("\n")
    return [(tokens[i], tokens[i + 1]) for i in range(0, len(tokens) - 1, 2)]


def differences(old: str, new: str) -> Differences:
    """What leads from one side's text to another's.  Raises: BadValue, for what can't be a price."""
    found = Differences()
    unmatched_max = UNMATCHED_MIN + new.count("\n") // 2 // UNMATCHED_PART
    is_rising = _is_rising(new)
    i = j = 0
    while True:
        same = _same_characters(old, new, i, j)
        whole = _whole_levels(old, i, same)
        i, j, same = i + whole, j + whole, same - whole
        if i == len(old) or j == len(new):
            break
        price_end = new.find("\n", j)
        if price_end < j + same:  # the price is the same, so the size is not
            end = new.find("\n", price_end + 1)
            found.change(new[j:price_end], new[price_end + 1 : end])
            i, j = old.find("\n", i + same) + 1, end + 1
            continue
        old_end = _level_end(old, i)
        new_end = _level_end(new, j)
        if _comes_first(old, i, old_end, new, j, new_end, is_rising):
            found.add(new[j:price_end], new[price_end + 1 : new_end - 1])
            j = new_end
        else:
            found.gone.append(parse(_price_at(old, i)))
            i = old_end
        if len(found.gone) + len(found.added) > unmatched_max:
            return _looked_up(old, new)
    for price, _ in levels_in(old[i:]):
        found.gone.append(parse(price))
    for price, size in levels_in(new[j:]):
        found.add(price, size)
    return found


def _same_characters(old: str, new: str, i: int, j: int) -> int:
    """How many characters from there on are the same in both."""
    begin = i
    piece = old[i : i + STEP]
    while piece and piece == new[j : j + STEP]:
        i += len(piece)
        j += len(piece)
        piece = old[i : i + STEP]
    step = STEP // 2
    while step >= STEP_MIN:
        piece = old[i : i + step]
        if piece == new[j : j + step]:
            i += len(piece)
            j += len(piece)
        step //= 2
    while i < len(old) and j < len(new) and ord(old[i]) == ord(new[j]):
        i += 1
        j += 1
    return i - begin


def _whole_levels(text: str, begin: int, count: int) -> int:
    """How many of so many characters are whole levels: an even number of lines."""
    end = text.rfind("\n", begin, begin + count) + 1
    if not end:
        return 0
    if text.count("\n", begin, end) % 2:
        end = text.rfind("\n", begin, end - 1) + 1
    return end - begin if end else 0


def _level_end(text: str, at: int) -> int:
    """Where the level behind the one that begins there does."""
    return text.find("\n", text.find("\n", at) + 1) + 1


def _price_at(text: str, at: int) -> str:
    return text[at : text.find("\n", at)]


def _comes_first(old: str, i: int, old_end: int, new: str, j: int, new_end: int, is_rising: bool) -> bool:
    """Whether the new side's level stands before the old one's, rather than that the old one's has gone."""
    if new.startswith(old[i:old_end], new_end):
        return True
    if old.startswith(new[j:new_end], old_end):
        return False
    old_price = parse(_price_at(old, i))
    new_price = parse(_price_at(new, j))
    return is_less(new_price, old_price) if is_rising else is_less(old_price, new_price)


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
