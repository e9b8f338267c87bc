"""Whole books that come again and again: what has changed from one to the next.  Pure; compiled.

One side of a book is kept as the text that it was: that takes little room, and most of it is compared as memory is.
However levels are found to be each other's, the answer is right: what is left of the old book goes, and what is left
of the new one comes.  That they stand in the order of their prices makes it fast.
"""

from __future__ import annotations

from typing import Final

from broker.market.levels import Level
from broker.market.numbers import BadValue, Number, is_less, parse
from broker.market.written import Form, Written

STEP: Final = 256
"""Characters that are compared at once."""

STEP_MIN: Final = 32
"""So few are compared one by one."""

UNMATCHED_MIN: Final = 16
UNMATCHED_CHARACTERS: Final = 64
"""Where more than one level in so many characters is left over, they stand in no order, and are looked up instead."""


class Differences:
    """Between two states of a book's side.

    Args:
        form: in which the new one is written.

    Attributes:
        gone: prices that were there and, by this text, are no more.
        changed: levels whose price is in both.
        added: levels whose price, by this text, was not there.
        has_zero: a size is 0.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
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
        level = self._form.level(price, size)
        if not level[1].units:
            self.has_zero = True
        return level


def differences(before: Written, after: Written) -> Differences:
    """What leads from one side to another, which is written alike.  Raises: BadValue, for what can't be a level."""
    form = after.form
    mid, separator = form.mid, form.separator
    found = Differences(form)
    old, new = before.text, after.text
    unmatched_max = UNMATCHED_MIN + len(new) // UNMATCHED_CHARACTERS
    is_rising = _is_rising(new, form)
    i = j = 0
    while True:
        same = _same_characters(old, new, i, j)
        whole = _whole_levels(old, i, same, separator)
        i, j, same = i + whole, j + whole, same - whole
        if i == len(old) or j == len(new):
            break
        size_at = _behind(new, mid, j)
        new_end = _behind(new, separator, size_at)
        old_end = _behind(old, separator, _behind(old, mid, i))
        price = new[j : size_at - len(mid)]
        if size_at <= j + same:  # the price is the same, so the size is not
            found.change(price, new[size_at : new_end - len(separator)])
            i, j = old_end, new_end
        elif _comes_first(old, i, old_end, new, j, new_end, mid, is_rising):
            found.add(price, new[size_at : new_end - len(separator)])
            j = new_end
        else:
            found.gone.append(parse(_price_at(old, i, mid)))
            i = old_end
        if len(found.gone) + len(found.added) > unmatched_max:
            return _looked_up(before, after)
    for price, _ in before.pairs(i):
        found.gone.append(parse(price))
    for price, size in after.pairs(j):
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


def _whole_levels(text: str, begin: int, count: int, separator: str) -> int:
    """How many of so many characters are whole levels."""
    end = text.rfind(separator, begin, begin + count)
    return end + len(separator) - begin if end >= 0 else 0


def _behind(text: str, what: str, at: int) -> int:
    """Where the next of this ends.  Raises: BadValue."""
    found = text.find(what, at)
    if found < 0:
        raise BadValue("bad_level")
    return found + len(what)


def _price_at(text: str, at: int, mid: str) -> str:
    return text[at : text.find(mid, at)]


def _comes_first(
    old: str, i: int, old_end: int, new: str, j: int, new_end: int, mid: str, is_rising: bool
) -> bool:
    """Whether the new side's level stands before the old one's, rather than that the old one's has gone."""
    if new.startswith(old[i:old_end], new_end):
        return True
    if old.startswith(new[j:new_end], old_end):
        return False
    old_price = parse(_price_at(old, i, mid))
    new_price = parse(_price_at(new, j, mid))
    return is_less(new_price, old_price) if is_rising else is_less(old_price, new_price)


def _is_rising(text: str, form: Form) -> bool:
    if not text:
        return False
    last = text.rfind(form.separator, 0, len(text) - len(form.separator))
    if last < 0:
        return False
    return is_less(
        parse(_price_at(text, 0, form.mid)), parse(_price_at(text, last + len(form.separator), form.mid))
    )


def _looked_up(old: Written, new: Written) -> Differences:
    """The same for levels in any order."""
    found = Differences(new.form)
    before = dict(old.pairs())
    levels = new.pairs()
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
