"""What is the same in all texts of a table's rows, so that one walk over a text finds its values.  Pure; compiled.

Invariant: a text that is taken is JSON, and is what the text that was learned from is with other values in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.json_scan import (
    BACKSLASH,
    LOWER_F,
    LOWER_T,
    MINUS,
    NINE,
    QUOTE,
    ZERO,
    is_word,
    number_end,
    value_end,
    word_end,
)

if TYPE_CHECKING:
    from mypy_extensions import i64  # to mypyc a machine word, to everybody else an int

UNUSED: Final = 0
TEXT: Final = 1
LEVEL: Final = 2
BOTH: Final = 3
"""What a value is wanted for: nothing; a key or a channel's name; a topic's level; one and the other."""

_HASH: Final = 0x23
_PERCENT: Final = 0x25
_PLUS: Final = 0x2B
_SLASH: Final = 0x2F


class Shape:
    """What is the same in all texts of some rows, and what is wanted of the rest.

    Args:
        gaps: what stands before the first value, between two values, and behind the last.
        uses: for each value what it is wanted for.
    """

    def __init__(self, gaps: list[bytes], uses: list[int]) -> None:
        assert len(gaps) == len(uses) + 1
        self.gaps = gaps
        self.uses = uses
        # Rows that come together have most of their keys and topics in common: those are not made anew.
        self._found = [b"" for use in uses if use != UNUSED]

    def values(self, text: bytes) -> list[bytes] | None:
        """The texts of the wanted values, strings without their quotes; None if this is another shape of row.

        The list is the same each time: what it holds is to be used before the next call.
        """
        end: i64 = len(text)
        i: i64 = word_end(text, 0, end, self.gaps[0])
        after: i64 = 0
        number = 1
        taken = 0
        found = self._found
        for use in self.uses:
            if i < 0 or i >= end:
                return None
            if use == UNUSED:
                after = value_end(text, i)
            elif text[i] == QUOTE:
                after = plain_end(text, i, end) if use >= LEVEL else verbatim_end(text, i, end)
                if after > 0:
                    if not is_word(text, i + 1, after - 1, found[taken]):
                        found[taken] = text[i + 1 : after - 1]
                    taken += 1
            else:
                after = _bare_end(text, i, end, use)
                if after > 0:
                    if not is_word(text, i, after, found[taken]):
                        found[taken] = text[i:after]
                    taken += 1
            if after < 0:
                return None
            i = word_end(text, after, end, self.gaps[number])
            number += 1
        return found if i == end else None


def plain_end(text: bytes, i: i64, end: i64) -> i64:
    """As `string_end`, for a string that can be in any topic's level as it is; -1 for every other."""
    start: i64 = i + 1
    c: i64 = 0
    i = start
    while i < end:
        c = text[i]
        i += 1
        if c == QUOTE:
            return i if i - 1 > start else -1
        if c < 0x20 or c >= 0x7F or c in (BACKSLASH, _SLASH, _PLUS) or _HASH <= c <= _PERCENT:
            return -1  # also `$`, which can't be first in a topic, and `%`, which may be the escape character
    return -1


def verbatim_end(text: bytes, i: i64, end: i64) -> i64:
    """As `string_end`, for an ASCII string without escapes; -1 for every other."""
    c: i64 = 0
    i += 1
    while i < end:
        c = text[i]
        i += 1
        if c == QUOTE:
            return i
        if c < 0x20 or c >= 0x7F or c == BACKSLASH:
            return -1
    return -1


def _bare_end(text: bytes, i: i64, end: i64, use: int) -> i64:
    c: i64 = text[i]
    if ZERO <= c <= NINE or c == MINUS:
        return number_end(text, i, end)
    if use == LEVEL and c == LOWER_T:
        return word_end(text, i, end, b"true")
    if use == LEVEL and c == LOWER_F:
        return word_end(text, i, end, b"false")
    return -1
