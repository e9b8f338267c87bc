"""The members of a JSON object whose values are texts and numbers, found without parsing the rest.  Pure; compiled.

What devices send is nearly always such an object.  Equal to what `values.parsed` gives for the wanted names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from protocol.json_members import Number
from protocol.json_scan import (
    CLOSING_BRACE,
    COMMA,
    MINUS,
    NINE,
    OPENING_BRACE,
    QUOTE,
    ZERO,
    name_end,
    number_end,
    space_end,
    string_end,
)

if TYPE_CHECKING:
    from mypy_extensions import i64


def flat(payload: bytes, names: dict[bytes, str]) -> dict[str, Any] | None:
    """The wanted members of an object without blanks around it, escapes, words, arrays and objects in it.

    Args:
        names: those wanted, as they are written in JSON with their quotes, and as they are called.

    Returns:
        Texts and `Number`s; None: it has to be parsed, and may be anything.
    """
    end: i64 = len(payload)
    if end < 2 or payload[0] != OPENING_BRACE or b"\\" in payload:
        return None
    found: dict[str, Any] = {}
    i: i64 = space_end(payload, 1, end)
    value: i64 = 0
    after: i64 = 0
    c: i64 = 0
    while i < end:
        value = name_end(payload, i, end)
        if value < 0 or value >= end:
            return None
        c = payload[value]
        if c == QUOTE:
            after = string_end(payload, value, end)
        elif ZERO <= c <= NINE or c == MINUS:
            after = number_end(payload, value, end)
        else:
            return None
        if after < 0:
            return None
        name = names.get(payload[i : string_end(payload, i, end)])
        if name is not None:
            if c == QUOTE:
                found[name] = payload[value + 1 : after - 1].decode()
            else:
                found[name] = Number(payload[value:after].decode())
        i = space_end(payload, after, end)
        if i >= end:
            return None
        if payload[i] == CLOSING_BRACE:
            return found if i + 1 == end else None
        if payload[i] != COMMA:
            return None
        i = space_end(payload, i + 1, end)
    return None
