"""The members of a JSON object whose values are texts and numbers, found without parsing the rest.  Pure; compiled.

What devices send is nearly always such an object.  Equal to what `values.parsed` gives for the wanted names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.json_scan import (
    CLOSING_BRACE,
    COMMA,
    LOWER_N,
    MINUS,
    NINE,
    OPENING_BRACE,
    QUOTE,
    ZERO,
    name_end,
    number_end,
    space_end,
    string_end,
    value_end,
)

if TYPE_CHECKING:
    from mypy_extensions import i64

PARSE: Final = -1


def members_into(payload: bytes, slots: dict[bytes, int], members: list[str | None]) -> i64:
    """Find the wanted members of an object without escapes and without blanks around it.

    Args:
        slots: those wanted, as they are written in JSON with their quotes, and where each is put.
        members: a place for each; None for one that is missing or null.

    Returns:
        A bit for each that is a text, where the others are numbers; `PARSE`: it has to be parsed, and may be anything.
    """
    # In one piece: a step of its own would have to give back where it got to and what it found, in an object.
    end: i64 = len(payload)
    if end < 2 or payload[0] != OPENING_BRACE or b"\\" in payload:
        return PARSE
    count: i64 = len(members)
    i: i64 = 0
    while i < count:
        members[i] = None
        i += 1
    texts: i64 = 0
    bit: i64 = 0
    i = space_end(payload, 1, end)
    value: i64 = 0
    after: i64 = 0
    c: i64 = 0
    while i < end:
        value = name_end(payload, i, end)
        if value < 0 or value >= end:
            return PARSE
        c = payload[value]
        if c == QUOTE:
            after = string_end(payload, value, end)
        elif ZERO <= c <= NINE or c == MINUS:
            after = number_end(payload, value, end)
        else:
            after = value_end(payload, value)
        if after < 0:
            return PARSE
        slot = slots.get(payload[i : string_end(payload, i, end)])
        if slot is not None:
            bit = 1
            bit <<= slot
            texts &= ~bit
            if c == QUOTE:
                members[slot] = payload[value + 1 : after - 1].decode()
                texts |= bit
            elif ZERO <= c <= NINE or c == MINUS:
                members[slot] = payload[value:after].decode()
            elif c == LOWER_N:
                members[slot] = None
            else:
                return PARSE
        i = space_end(payload, after, end)
        if i >= end:
            return PARSE
        if payload[i] == CLOSING_BRACE:
            return texts if i + 1 == end else PARSE
        if payload[i] != COMMA:
            return PARSE
        i = space_end(payload, i + 1, end)
    return PARSE
