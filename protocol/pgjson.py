"""Column values as Postgres prints them, to the JSON that `row_to_json` would have made of them.  Pure.

The rules are `json_categorize_type` and `datum_to_json` of PostgreSQL's json.c.  They assume a session with
`SESSION_SQL` and `client_encoding = UTF8`; then the text is equal byte for byte, except
for user-defined types other than hstore that have a cast to json (PostGIS's geometry), which are rendered as strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import frozen

Render: TypeAlias = Callable[[bytes], bytes]

SESSION_SQL: Final = (
    "SET DateStyle = ISO; SET TimeZone = 'UTC'; SET IntervalStyle = postgres; SET bytea_output = hex;"
    " SET extra_float_digits = 1"
)
"""For sessions that print values for us, or make JSON that shall look the same.  Not libpq's `options`, which
poolers refuse."""

BOOL: Final = 16
INT2VECTOR: Final = 22
OIDVECTOR: Final = 30
TEXT: Final = 25
NUMBERS: Final = frozenset({20, 21, 23, 700, 701, 1700})
"""int8, int2, int4, float4, float8, numeric.  oid and money are strings in JSON, as Postgres does."""
JSON_TYPES: Final = frozenset({114, 3802})
STRINGS: Final = frozenset(
    {17, 18, 19, TEXT, 26, 142, 650, 790, 829, 869, 1042, 1043, 1082, 1083, 1186, 1266, 1560, 1562, 2950}
)
"""bytea, "char", name, text, oid, xml, cidr, money, macaddr, inet, char(n), varchar, date, time, interval, timetz, bit,
varbit, uuid: the usual ones among the types that are built in and no array."""
TIMESTAMP: Final = 1114
TIMESTAMPTZ: Final = 1184

DEPTH_MAX: Final = 100
"""Domains over arrays over composites …: deeper than any schema, against a catalog that refers to itself."""

_NEEDS_ESCAPE = re.compile(rb'[\x00-\x1f"\\]')
_search = _NEEDS_ESCAPE.search
_ESCAPES: Final = {
    0x08: b"\\b",
    0x0C: b"\\f",
    0x0A: b"\\n",
    0x0D: b"\\r",
    0x09: b"\\t",
    0x22: b'\\"',
    0x5C: b"\\\\",
}


@frozen
class TypeEntry:
    """What the catalog says about one type, as far as its JSON depends on it.

    `base_oid`: what a domain is over, else 0.  `element_oid` and `delimiter`: of an array, else 0.
    `attributes`: name and type of each column of a composite type, None for any other.
    `is_hstore`: it is the extension hstore's, with that extension's cast to json.
    """

    base_oid: int = 0
    element_oid: int = 0
    delimiter: bytes = b","
    attributes: tuple[tuple[str, int], ...] | None = None
    is_hstore: bool = False


Catalog: TypeAlias = Mapping[int, TypeEntry]


def escape(text: bytes) -> bytes:
    """A JSON string, as `escape_json` writes it: UTF-8 stays as it is, control characters are escaped."""
    if _NEEDS_ESCAPE.search(text) is None:
        return b'"%b"' % text
    return b'"%b"' % _NEEDS_ESCAPE.sub(_escape_character, text)


def renderer(type_oid: int, catalog: Catalog, depth: int = 0) -> Render:
    """How values of a type become JSON.  A type that the catalog does not know is rendered as a string."""
    if depth > DEPTH_MAX:
        return escape
    entry = catalog.get(type_oid)
    if entry is not None and entry.base_oid:
        return renderer(entry.base_oid, catalog, depth + 1)
    scalar = SCALARS.get(type_oid)
    if scalar is not None:
        return scalar
    if entry is None:
        return escape
    if entry.is_hstore:
        return _render_hstore
    if entry.element_oid:
        element = renderer(entry.element_oid, catalog, depth + 1)
        if type_oid in (INT2VECTOR, OIDVECTOR):
            return lambda value: b"[%b]" % b",".join(map(element, value.split()))
        delimiter = entry.delimiter
        return lambda value: _render_array(value, delimiter, element)
    if entry.attributes is not None:
        row = RowRenderer(
            [(name, renderer(oid, catalog, depth + 1)) for name, oid in entry.attributes],
        )
        return lambda value: _render_record(value, row)
    return escape


class RowRenderer:
    """Rows with these columns to JSON objects, in column order.

    Invariant: one prefix per column, `"name":` with the comma that precedes it.
    """

    def __init__(self, columns: Sequence[tuple[str, Render]]) -> None:
        self.names = [name for name, _ in columns]
        self.renders = [render for _, render in columns]
        self._columns = []
        for name, render in columns:
            prefix = b",%b:" % escape(name.encode(errors="surrogateescape"))
            kind = 1 if render is number else 2 if render is escape else 0
            self._columns.append((prefix, prefix + b'"', kind, render))

    def __len__(self) -> int:
        return len(self._columns)

    def render(self, values: Sequence[bytes | None], absent: bytes) -> bytes:
        """One row.

        Args:
            values: one per column, as the server printed it; None is `null`.
            absent: this very value leaves its column out.
        """
        parts: list[bytes] = []
        # Numbers and plain text are most of all values: they are not worth a call each.
        for (prefix, quoted, kind, render), value in zip(self._columns, values, strict=True):
            if value is None:
                parts.append(prefix + b"null")
            elif kind == 1 and 0x30 <= value[-1] <= 0x39:
                parts.append(prefix + value)
            elif kind == 2 and _search(value) is None:
                parts.append(quoted + value + b'"')
            elif value != absent:
                parts.append(prefix + render(value))
        return b"{%b}" % b"".join(parts)[1:]


def _escape_character(match: re.Match[bytes]) -> bytes:
    code = match.group()[0]
    return _ESCAPES.get(code) or b"\\u%04x" % code


def boolean(value: bytes) -> bytes:
    """`t` or `f`, as JSON has it."""
    return b"true" if value == b"t" else b"false"


def number(value: bytes) -> bytes:
    """Digits stay digits; `NaN`, `Infinity` and `-Infinity` are no JSON numbers and become strings."""
    return value if value[-1] <= 0x39 else b'"%b"' % value


def _timestamp(value: bytes) -> bytes:
    """`2024-02-13 15:53:50.5` to `2024-02-13T15:53:50.5`; `infinity` holds no space and stays."""
    return b'"%b"' % value.replace(b" ", b"T", 1)


def timestamptz(value: bytes) -> bytes:
    """`2024-02-13 15:53:50.5+00` to `2024-02-13T15:53:50.5+00:00`; ` BC` and `infinity` stay."""
    moment, plus, rest = value.partition(b"+")
    if not plus:
        return b'"%b"' % value
    minutes = b"" if b":" in rest else b":00"
    return b'"%b+%b%b%b"' % (moment.replace(b" ", b"T", 1), rest[:2], minutes, rest[2:])


def _verbatim(value: bytes) -> bytes:
    return value


SCALARS: Final[dict[int, Render]] = {
    BOOL: boolean,
    **dict.fromkeys(STRINGS, escape),
    TIMESTAMP: _timestamp,
    TIMESTAMPTZ: timestamptz,
    **dict.fromkeys(NUMBERS, number),
    **dict.fromkeys(JSON_TYPES, _verbatim),
}
"""Types whose JSON needs nothing from the catalog."""


def _render_array(value: bytes, delimiter: bytes, element: Render) -> bytes:
    """`{1,NULL,"a b"}` and `[0:1]={…}` to a JSON array, nested as deep as the dimensions are."""
    start = value.index(b"{")
    token = _array_token(delimiter)
    parts: list[bytes] = []
    for match in token.finditer(value, start):
        kind = match.lastgroup
        if kind == "open":
            parts.append(b"[")
        elif kind == "close":
            parts.append(b"]")
        elif kind == "delimiter":
            parts.append(b",")
        elif kind == "quoted":
            parts.append(element(_unescape(match.group()[1:-1])))
        elif match.group() == b"NULL":
            parts.append(b"null")
        else:
            parts.append(element(match.group()))
    return b"".join(parts)


_TOKENS: dict[bytes, re.Pattern[bytes]] = {}


def _array_token(delimiter: bytes) -> re.Pattern[bytes]:
    token = _TOKENS.get(delimiter)
    if token is None:
        mark = re.escape(delimiter)
        token = re.compile(
            rb'(?P<open>\{)|(?P<close>\})|(?P<delimiter>%b)|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<plain>[^{}"%b]+)'
            % (mark, mark),
            re.DOTALL,
        )
        _TOKENS[delimiter] = token
    return token


_BACKSLASH = re.compile(rb"\\(.)", re.DOTALL)


def _unescape(text: bytes) -> bytes:
    return _BACKSLASH.sub(rb"\1", text) if b"\\" in text else text


_PAIR = re.compile(rb'"((?:[^"\\]|\\.)*)"=>(?:"((?:[^"\\]|\\.)*)"|NULL)(?:, )?', re.DOTALL)


def _render_hstore(value: bytes) -> bytes:
    """What hstore_out wrote, as hstore_to_json has it: strings and nulls, with blanks in between."""
    pairs = []
    for match in _PAIR.finditer(value):
        key, text = match.groups()
        pairs.append(
            b"%b: %b" % (escape(_unescape(key)), b"null" if text is None else escape(_unescape(text)))
        )
    return b"{%b}" % b", ".join(pairs)


_FIELD = re.compile(rb'("(?:[^"\\]|\\.|"")*"|[^,"]*)(?:,|\Z)', re.DOTALL)


def _render_record(value: bytes, row: RowRenderer) -> bytes:
    """What record_out wrote to a JSON object; to a string, if the type was altered and the columns differ."""
    inner = value[1:-1]
    fields: list[bytes | None] = []
    position = 0
    while True:
        match = _FIELD.match(inner, position)
        if match is None:
            return escape(value)
        text = match.group(1)
        fields.append(_unquote_field(text) if text else None)
        position = match.end()
        if not match.group().endswith(b",") or position > len(inner):
            break
    if len(fields) != len(row):
        return escape(value)
    return row.render(fields, b"\0")


_DOUBLED = re.compile(rb'\\(.)|"(")', re.DOTALL)


def _unquote_field(text: bytes) -> bytes:
    if text[:1] != b'"':
        return text
    inner = text[1:-1]
    if b"\\" not in inner and b'"' not in inner:
        return inner
    return _DOUBLED.sub(lambda match: match.group(1) or match.group(2), inner)
