"""Finding a row in a notification's JSON text: its columns to look at, and its exact characters to hand on.

Numbers stay text, digit for digit: never through a float, never through `int` and back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from json import decoder
from typing import Any, Final

from broker.config.feeds import Source

Columns = dict[str, Any]
"""A row: text and numbers as `str`, booleans `bool`, NULL None, arrays and objects lists and dicts."""


class NotARow(ValueError):
    """The text holds no row.  `reason` is the name under which it is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant)
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
_scan_string: Callable[[str, int, bool], tuple[str, int]] = decoder.scanstring  # type: ignore[attr-defined]
_skip: Callable[[str, int], re.Match[str]] = decoder.WHITESPACE.match  # type: ignore[attr-defined]
# The three pieces, in C, of which json.loads is made.

_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*").match
_COMMA_OR_BRACE = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*|(\}))").match


Reader = Callable[[str, int], tuple[Any, int] | None]
"""Reads a value that begins there: it, and where it ends.  None if it is to be read as any other."""


def is_storable(text: str) -> bool:
    """Whether Postgres could have this text in a column: without a NUL, and without half of a surrogate pair.

    JSON may have both, and a notification, or a column of type json, may have any JSON.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def columns_of(text: str, readers: dict[str, Reader] | None = None) -> Columns:
    """The columns of a row that is the whole text.

    Args:
        readers: of some columns; if what is found by them is no row, all are read as ever.

    Raises:
        NotARow: `not_json`, or `not_an_object`.
    """
    try:
        value = None if readers is None else _columns_read(text, readers)
        if value is None:
            value = value_of(text)
    except (ValueError, IndexError, StopIteration):
        raise NotARow("not_json") from None
    if type(value) is not dict:
        raise NotARow("not_an_object")
    return value


def _columns_read(text: str, readers: dict[str, Reader]) -> Columns | None:
    """None if it isn't an object, or not by these readers."""
    try:
        start = _skip(text, 0).end()
        if text[start] != "{":
            return None
        members, end = _members(text, start, readers=readers)
    except (ValueError, IndexError, StopIteration):
        return None
    if _skip(text, end).end() != len(text):
        return None
    return {name: member[0] for name, member in members.items()}


def value_of(text: str) -> Any:
    """JSON as columns have it.  What is nested deeper than Python goes has only its first levels.

    Raises:
        ValueError, IndexError, StopIteration: it is not JSON.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        start = _skip(text, 0).end()
        value, end = _scan_any(text, start)
        if _skip(text, end).end() != len(text):
            raise ValueError("more than one value") from None
        return value


LEVELS: Final = 4
"""In JSON that is nested too deeply, objects within objects whose members are known."""

_BRACKETS = re.compile(r'[\[\]{}]|"(?:[^"\\]|\\.)*"')


def _end_of(text: str, start: int) -> int:
    """Where the array or object ends that starts there, however deep it is.  Raises: ValueError."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
            if not depth:
                return match.end()
    raise ValueError("no end")


def _scan_any(text: str, start: int, levels: int = LEVELS) -> tuple[Any, int]:
    """A value; of one that is nested too deeply the members of so many levels of objects, of an array nothing."""
    try:
        return _scan(text, start)
    except RecursionError:
        if text[start] != "{" or not levels:
            return [], _end_of(text, start)
        members, end = _members(text, start, levels - 1)
        return {name: member[0] for name, member in members.items()}, end


def locate(text: str, kind_path: tuple[str, ...], row_path: tuple[str, ...]) -> tuple[Any, Columns, int, int]:
    """The kind, the columns, and where the row's text starts and ends, by paths of object keys.

    An empty `kind_path` gives None for the kind, an empty `row_path` the whole text.

    Raises:
        NotARow: `not_json`, `not_an_object` (the whole or the row), `no_kind`, `no_row`.
    """
    try:
        start = _skip(text, 0).end()
        if text[start : start + 1] != "{":
            raise NotARow("not_an_object" if _is_json(text) else "not_json")
        top, end = _members(text, start)
        if _skip(text, end).end() != len(text):
            raise NotARow("not_json")
        kind = _follow(text, top, kind_path, "no_kind")[0] if kind_path else None
        if not row_path:
            return kind, {name: member[0] for name, member in top.items()}, 0, len(text)
        columns, start, end = _follow(text, top, row_path, "no_row")
    except NotARow:
        raise
    except (ValueError, IndexError, StopIteration):
        raise NotARow("not_json") from None
    if type(columns) is not dict:
        raise NotARow("not_an_object")
    return kind, columns, start, end


def array_at(text: str, path: tuple[str, ...]) -> str:
    """The text of what is at a path in an object.  Raises: NotARow."""
    try:
        members, _ = _members(text, _skip(text, 0).end())
        _, start, end = _follow(text, members, path, "no_row")
    except (ValueError, IndexError, StopIteration) as error:
        raise error if isinstance(error, NotARow) else NotARow("not_json") from None
    return text[start:end]


def value_spans(text: bytes, row_path: tuple[str, ...]) -> tuple[dict[str, tuple[int, int]], int, int]:
    """Where in a notification's bytes the values of a row's columns stand, and the row itself.

    Args:
        text: one of which `locate` has found the row.

    Raises:
        UnicodeError: a name with an escape in it.
    """
    characters = text.decode("latin-1")  # as many characters as bytes; what JSON is made of is ASCII
    start = _skip(characters, 0).end()
    row, end = _members(characters, start)
    if row_path:
        _, start, end = _follow(characters, row, row_path, "no_row")
        row, _ = _members(characters, start)
    spans = {name.encode("latin-1").decode(): span for name, (_, *span) in row.items()}
    return {name: (first, last) for name, (first, last) in spans.items()}, start, end


def only(text: bytes, names: frozenset[str]) -> bytes:
    """A row's text without its other columns; what is left stays as it was written.

    Raises:
        NotARow: `not_json`.
    """
    try:
        characters = text.decode()
        return f"{{{','.join(_members_named(characters, names))}}}".encode()
    except (ValueError, IndexError, StopIteration):
        raise NotARow("not_json") from None


def _members_named(text: str, names: frozenset[str]) -> Iterator[str]:
    position = _skip(text, _skip(text, 0).end() + 1).end()
    while text[position] != "}":
        start = position
        name, position = _scan_string(text, position + 1, True)
        colon = _COLON(text, position)
        assert colon is not None, "it is JSON, since its columns were read"
        position = _scan_any(text, colon.end())[1]
        if name in names:
            yield text[start:position]
        separator = _COMMA_OR_BRACE(text, position)
        assert separator is not None, "as above"
        position = separator.end() - (separator[1] == "}")


_Member = tuple[Any, int, int]
"""A member's value, and where its text starts and ends."""


def _follow(text: str, members: dict[str, _Member], path: tuple[str, ...], missing: str) -> _Member:
    member = members.get(path[0])
    for key in path[1:]:
        if member is None or type(member[0]) is not dict:
            raise NotARow(missing)
        member = _members(text, member[1])[0].get(key)
    if member is None:
        raise NotARow(missing)
    return member


def _members(
    text: str, start: int, levels: int = LEVELS, readers: dict[str, Reader] | None = None
) -> tuple[dict[str, _Member], int]:
    """The members of the object whose brace is at `start`, and where it ends; the last of a name wins.

    Args:
        readers: by members' names.

    Raises:
        ValueError, IndexError, StopIteration: it is not JSON.
    """
    members: dict[str, _Member] = {}
    position = _skip(text, start + 1).end()
    if text[position] == "}":
        return members, position + 1
    while True:
        if text[position] != '"':
            raise ValueError("no member's name")
        name, position = _scan_string(text, position + 1, True)
        colon = _COLON(text, position)
        if colon is None:
            raise ValueError("no colon")
        value_start = colon.end()
        found = None
        if readers is not None and name in readers:
            if name in members:
                raise ValueError("what the last one takes the place of must be read, too")
            found = readers[name](text, value_start)
        value, value_end = found or _scan_any(text, value_start, levels)
        members[name] = (value, value_start, value_end)
        separator = _COMMA_OR_BRACE(text, value_end)
        if separator is None:
            raise ValueError("no comma and no brace")
        position = separator.end()
        if separator[1] == "}":
            return members, position


def _is_json(text: str) -> bool:
    try:
        value_of(text)
    except (ValueError, IndexError, StopIteration):
        return False
    return True


def notification_text(source: Source, kind: str, row: bytes) -> bytes:
    """The text that a trigger would have sent for a row, spaced as `json_build_object` prints it.

    The kind comes before the row.  Objects that hold both by a common path are one object.
    """
    members: dict[str, Any] = {}
    if source.kind_path:
        _put(members, source.kind_path, _string(kind))
    if not source.row_path:
        return row
    _put(members, source.row_path, row)
    return _print(members)


def _put(members: dict[str, Any], path: tuple[str, ...], text: bytes) -> None:
    for key in path[:-1]:
        members = members.setdefault(key, {})
    members[path[-1]] = text


def _print(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return b"{" + b", ".join(_string(key) + b" : " + _print(member) for key, member in value.items()) + b"}"


def _string(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode(errors="surrogatepass")


def elements_of(text: bytes) -> list[bytes]:
    """The texts of the elements of an array of objects.

    Raises:
        NotARow: `not_utf8`, `not_json`, or `not_an_object`.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise NotARow("not_utf8") from None
    found: list[bytes] = []
    try:
        position = _skip(decoded, 1).end()
        while decoded[position] != "]":
            _, end = _scan_any(decoded, position)
            if decoded[position] != "{":
                raise NotARow("not_an_object")
            found.append(decoded[position:end].encode())
            position = _skip(decoded, end).end()
            if decoded[position] == ",":
                position = _skip(decoded, position + 1).end()
            elif decoded[position] != "]":
                raise NotARow("not_json")
        if _skip(decoded, position + 1).end() != len(decoded):
            raise NotARow("not_json")
    except (ValueError, IndexError, StopIteration) as error:
        if isinstance(error, NotARow):
            raise
        raise NotARow("not_json") from None
    return found
