"""Where a JSON value ends, found in UTF-8 without making anything of it.  Pure; compiled where possible.

Invariant: what is passed over is one complete JSON value, as `json.loads` would take it (without NaN and Infinity).
What is not, or nests too deeply to tell, ends at -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mypy_extensions import i64  # to mypyc a machine word, to everybody else an int

DEPTH_MAX: Final = 50
"""Arrays and objects within each other; a row that nests deeper is for the parser."""

_TAB: Final = 0x09
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
_SPACE: Final = 0x20
QUOTE: Final = 0x22
_PLUS: Final = 0x2B
COMMA: Final = 0x2C
MINUS: Final = 0x2D
_DOT: Final = 0x2E
ZERO: Final = 0x30
NINE: Final = 0x39
_COLON: Final = 0x3A
_OPENING_BRACKET: Final = 0x5B
BACKSLASH: Final = 0x5C
_CLOSING_BRACKET: Final = 0x5D
_LOWER_A: Final = 0x61
_LOWER_E: Final = 0x65
LOWER_F: Final = 0x66
LOWER_N: Final = 0x6E
LOWER_T: Final = 0x74
_LOWER_U: Final = 0x75
OPENING_BRACE: Final = 0x7B
CLOSING_BRACE: Final = 0x7D
_LOWER_CASE: Final = 0x20
"""Added to a letter's code by `|`."""


def value_end(text: bytes, start: i64) -> i64:
    """Where the value ends whose first character is at `start`; -1 if there is none, or it nests too deeply."""
    return _value_end(text, start, len(text), DEPTH_MAX)


def _value_end(text: bytes, i: i64, end: i64, depth: i64) -> i64:
    if i >= end:
        return -1
    c: i64 = text[i]
    if c == QUOTE:
        return string_end(text, i, end)
    if ZERO <= c <= NINE or c == MINUS:
        return number_end(text, i, end)
    if c in (OPENING_BRACE, _OPENING_BRACKET):
        return _container_end(text, i, end, depth)
    if c == LOWER_T:
        return word_end(text, i, end, b"true")
    if c == LOWER_F:
        return word_end(text, i, end, b"false")
    if c == LOWER_N:
        return word_end(text, i, end, b"null")
    return -1


def word_end(text: bytes, i: i64, end: i64, word: bytes) -> i64:
    """Where `word` ends that starts at `i`; -1 if something else is there."""
    length: i64 = len(word)
    if end - i < length:
        return -1
    j: i64 = 0
    while j < length:
        if text[i + j] != word[j]:
            return -1
        j += 1
    return i + length


def is_word(text: bytes, start: i64, end: i64, word: bytes) -> bool:
    """Whether just `word` stands between `start` and `end`."""
    length: i64 = len(word)
    return length == end - start and word_end(text, start, end, word) == end


def string_end(text: bytes, i: i64, end: i64) -> i64:
    """Where the string ends whose opening quote is at `i`, behind its closing one; -1 if it is none."""
    start: i64 = i
    seen: i64 = 0
    c: i64 = 0
    i += 1
    while i < end:
        c = text[i]
        i += 1
        if c == QUOTE:
            return i if seen < 0x80 or is_utf8(text[start:i]) else -1
        if c < _SPACE:
            return -1
        if c == BACKSLASH:
            i = _escape_end(text, i, end)
            if i < 0:
                return -1
        seen |= c
    return -1


def number_end(text: bytes, i: i64, end: i64) -> i64:
    """Where the number ends that starts at `i`; -1 if none does."""
    if text[i] == MINUS:
        i += 1
    after: i64 = digits_end(text, i, end)
    if after == i or (text[i] == ZERO and after != i + 1):
        return -1
    i = after
    if i < end and text[i] == _DOT:
        i += 1
        after = digits_end(text, i, end)
        if after == i:
            return -1
        i = after
    if i < end and (text[i] | _LOWER_CASE) == _LOWER_E:
        i += 1
        if i < end and (text[i] == _PLUS or text[i] == MINUS):
            i += 1
        after = digits_end(text, i, end)
        if after == i:
            return -1
        i = after
    return i


def digits_end(text: bytes, i: i64, end: i64) -> i64:
    """Where the digits end, if any, that start at `i`."""
    c: i64 = 0
    while i < end:
        c = text[i]
        if c < ZERO or c > NINE:
            return i
        i += 1
    return i


def _container_end(text: bytes, i: i64, end: i64, depth: i64) -> i64:
    if depth <= 0:
        return -1
    closing: i64 = CLOSING_BRACE if text[i] == OPENING_BRACE else _CLOSING_BRACKET
    i = space_end(text, i + 1, end)
    if i < end and text[i] == closing:
        return i + 1
    while i < end:
        if closing == CLOSING_BRACE:
            i = name_end(text, i, end)
            if i < 0:
                return -1
        i = _value_end(text, i, end, depth - 1)
        if i < 0:
            return -1
        i = space_end(text, i, end)
        if i >= end:
            return -1
        if text[i] == closing:
            return i + 1
        if text[i] != COMMA:
            return -1
        i = space_end(text, i + 1, end)
    return -1


def name_end(text: bytes, i: i64, end: i64) -> i64:
    """Where a member's value starts, its name being at `i`; -1 if there is none."""
    if text[i] != QUOTE:
        return -1
    i = string_end(text, i, end)
    if i < 0:
        return -1
    i = space_end(text, i, end)
    if i >= end or text[i] != _COLON:
        return -1
    return space_end(text, i + 1, end)


def space_end(text: bytes, i: i64, end: i64) -> i64:
    """Where the blanks end, if any, that start at `i`."""
    c: i64 = 0
    while i < end:
        c = text[i]
        if c != _SPACE and c != _NEWLINE and c != _RETURN and c != _TAB:
            return i
        i += 1
    return i


def _escape_end(text: bytes, i: i64, end: i64) -> i64:
    """Where an escape ends whose backslash is before `i`."""
    if i >= end:
        return -1
    c: i64 = text[i]
    if c != _LOWER_U:
        return i + 1 if c < 0x80 and _is_escape(c) else -1
    if end - i < 5:
        return -1
    j: i64 = 1
    while j < 5:
        c = text[i + j]
        if not ZERO <= c <= NINE and not _LOWER_A <= (c | _LOWER_CASE) <= LOWER_F:
            return -1
        j += 1
    return i + 5


def _is_escape(c: i64) -> bool:
    return c in b'"\\/bfnrt'


def is_utf8(text: bytes) -> bool:
    """Whether it can be handed on as JSON."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
