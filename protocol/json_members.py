"""A JSON object's members with the exact text of each: numbers of any length are handed on digit for digit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json import decoder
from typing import Any, Final, TypeGuard


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class Number(str):
    """A number, as it is written."""


_EXACT: Final = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_no_constant)
_LOOK: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)
_scan: Callable[[str, int], tuple[Any, int]] = _EXACT.scan_once  # type: ignore[attr-defined]
_scan_string: Callable[[str, int, bool], tuple[str, int]] = decoder.scanstring  # type: ignore[attr-defined]
_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*").match
_COMMA_OR_BRACE: Final = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*|(\}))").match
_COMMA_OR_BRACKET: Final = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*|(\]))").match
_BLANK: Final = re.compile(r"[ \t\n\r]*").match


def is_text(value: object) -> TypeGuard[str]:
    """Whether a member's value is a JSON string."""
    return isinstance(value, str) and not isinstance(value, Number)


def is_json(text: str) -> bool:
    """Whether it is one JSON value (RFC 8259), of whatever depth the parser takes."""
    try:
        _LOOK.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


def members_of(text: str) -> dict[str, tuple[Any, str]] | None:
    """Value and text of each member; numbers as values are `Number`, and the last of a name wins.

    Returns:
        None if the text is not one JSON object.
    """
    try:
        return _members(text)
    except (ValueError, IndexError, StopIteration, RecursionError):
        return None


def elements_of(text: str) -> list[str]:
    """The text of each element of a JSON array that is known to be one."""
    return list(elements_in(text))


def elements_in(text: str) -> Iterator[str]:
    """The text of each element of what begins with `[`, one by one: how long it takes is the caller's to share out.

    Raises:
        ValueError: it is no JSON array, which shows where it ceases to be one.
    """
    position = _end(_BLANK(text, 1))
    is_over = text.startswith("]", position)
    position += is_over
    while not is_over:
        try:
            _, end = _scan(text, position)
        except (StopIteration, RecursionError) as error:
            raise ValueError("no JSON array") from error
        yield text[position:end]
        separator = _COMMA_OR_BRACKET(text, end)
        if separator is None:
            raise ValueError("no JSON array")
        position = separator.end()
        is_over = separator[1] == "]"
    if _end(_BLANK(text, position)) != len(text):
        raise ValueError("no JSON array")


def _members(text: str) -> dict[str, tuple[Any, str]] | None:
    position = _end(_BLANK(text, 0))
    if text[position] != "{":
        return None
    found: dict[str, tuple[Any, str]] = {}
    position = _end(_BLANK(text, position + 1))
    if text[position] == "}":
        return found if _end(_BLANK(text, position + 1)) == len(text) else None
    while True:
        if text[position] != '"':
            return None
        name, position = _scan_string(text, position + 1, True)
        colon = _COLON(text, position)
        if colon is None:
            return None
        start = colon.end()
        value, end = _scan(text, start)
        found[name] = (value, text[start:end])
        separator = _COMMA_OR_BRACE(text, end)
        if separator is None:
            return None
        position = separator.end()
        if separator[1] == "}":
            return found if _end(_BLANK(text, position)) == len(text) else None


def _end(match: re.Match[str] | None) -> int:
    assert match is not None
    return match.end()
