"""Whole books that come again and again: which of their levels have changed.  Pure; compiled."""

from __future__ import annotations

from typing import Final

from broker.market.numbers import Number

COMPARED: Final = 16
"""Levels that are compared at once."""


def changed_places(old: list[object] | None, new: list[object]) -> list[int] | None:
    """Where sizes have changed, if nothing else has: the same prices in the same order.  None if something else has."""
    count = len(new)
    if old is None or len(old) != count:
        return None
    found: list[int] = []
    for begin in range(0, count, COMPARED):
        end = min(begin + COMPARED, count)
        if old[begin:end] == new[begin:end]:
            continue
        for place in range(begin, end):
            before, now = old[place], new[place]
            if before == now:
                continue
            if not isinstance(before, list) or not isinstance(now, list) or len(before) < 2 or len(now) < 2:
                return None
            size = now[1]
            if before[0] != now[0] or not isinstance(size, str) or size == "0":
                return None
            if before[1] != size:
                found.append(place)
    return found


def take_places(seen: dict[str, str], old: list[object], new: list[object], places: list[int]) -> None:
    """Take over what `changed_places` found."""
    for place in places:
        old[place] = new[place]
        pair = new[place]
        if isinstance(pair, list):
            seen[pair[0]] = pair[1]


def value_of(number: Number) -> tuple[int, int]:
    """The same for numbers of the same value."""
    units, scale = number.units, number.scale
    while scale > 0 and units % 10 == 0:
        units //= 10
        scale -= 1
    return units, scale


def is_usual(price: str, others: dict[str, str]) -> bool:
    """Whether a price has as many digits behind the point as the first of the others: it is none of them, then."""
    places = _places(price)
    for other in others:
        return places == _places(other)
    return True


def _places(text: str) -> int:
    point = text.find(".")
    return len(text) - point if point >= 0 else 0
