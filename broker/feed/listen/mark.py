"""How far a table has been delivered: the highest key, compared as Postgres compares it.  Pure.

Invariant: a mark only rises.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from attrs import frozen
from psycopg import sql

from broker.config.feeds import Recovery
from broker.feed.driver.sql_text import identifier
from broker.feed.routing.rowtext import Columns, is_storable
from broker.feed.routing.templates import tuple_getter

Key = tuple[Any, ...]
"""A row's key as values that compare: `int` or `Decimal`, `datetime`, `str`, `Edge`."""

_NUMBERS: Final = frozenset({20, 21, 23, 26, 700, 701, 1700})
"""Type OIDs of int8, int2, int4, oid, float4, float8, numeric."""
_TIMES: Final = frozenset({1082, 1114, 1184})
"""date, timestamp, timestamptz."""
_TEXTS: Final = frozenset({19, 25, 1042, 1043})
"""name, text, char(n), varchar: ordered by the C collation on both sides, which is code point order."""


_TIMESTAMPTZ: Final = 1184

_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d{1,6})?|-?Infinity", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d){0,2})?)?", re.ASCII
)
"""What Postgres writes, and what it reads.  A trigger may send anything under a column's name."""


class Edge:
    """A value that Postgres puts before all others of its type, or behind them: `-infinity`, `infinity`, `NaN`."""

    __slots__ = ("rank",)

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def __lt__(self, other: object) -> bool:
        return self.rank < _rank(other)

    def __gt__(self, other: object) -> bool:
        return self.rank > _rank(other)

    def __eq__(self, other: object) -> bool:
        return self.rank == _rank(other)

    def __hash__(self) -> int:
        return hash(self.rank)


def _rank(value: object) -> int:
    return value.rank if isinstance(value, Edge) else 0


_EDGES: Final = {"-infinity": Edge(-1), "infinity": Edge(1), "NaN": Edge(2)}
"""NaN is a number's, and behind its Infinity; the others are a moment's."""


@frozen
class KeySpace:
    """What a key means anything in.

    Attributes:
        columns: of the key: their names, then their types.  Where they differ keys can't be compared.
        files: the table's own identity; one with another may have begun its keys anew.
    """

    columns: tuple[str | int, ...] = ()
    files: tuple[int | None, ...] = ()


NO_KEY_SPACE: Final = KeySpace()


class Mark:
    """Where one source stands in one table.

    Args:
        recovery: table and key columns.
        types: the key columns' type OIDs.
        key_space: of the table.
    """

    def __init__(
        self, recovery: Recovery, types: tuple[int, ...], key_space: KeySpace = NO_KEY_SPACE
    ) -> None:
        self.recovery = recovery
        self.key_space = key_space
        self.key: Key | None = None
        """None: nothing of the table was there when listening began, and nothing has come since."""
        self.is_unreadable = False
        """Postgres makes no key of it: a number that is beyond its type, say.  So it tells no place in the table."""
        self._texts: tuple[str, ...] = ()
        self._types = types
        self._get = tuple_getter(recovery.key)
        self._readers = [_reader(type_oid) for type_oid in types]
        self.is_numeric = _NUMBERS.issuperset(types)

    def key_of(self, columns: Columns) -> Key | None:
        """A row's key; None if a column of it is missing, NULL, or not of its type."""
        read = self._read(columns)
        return None if read is None else read[0]

    def advance(self, columns: Columns) -> bool:
        """Take note of a delivered row.  False if it has no usable key: it can't be found again after a gap."""
        read = self._read(columns)
        if read is None:
            return False
        if self.key is None or read[0] > self.key:
            self.key, self._texts = read
        return True

    def advance_to(self, texts: tuple[str, ...]) -> bool:
        """As `advance`, with the key's columns as Postgres wrote them."""
        try:
            key = tuple([read(text) for read, text in zip(self._readers, texts, strict=True)])
        except (ValueError, ArithmeticError):
            return False
        if self.key is None or key > self.key:
            self.key, self._texts = key, texts
        return True

    @property
    def texts(self) -> tuple[str, ...]:
        """The key as Postgres wrote it; () for None."""
        return self._texts

    def go_back(self, saved: Sequence[Any]) -> bool:
        """From the table's newest row to a place of before; never forward, unless it is the same table still.

        Args:
            saved: the place's `texts`, and `key_space` as two lists; of an earlier version only texts; or nothing.

        Returns:
            whether the place is one in the table as it is now.
        """
        try:
            texts = tuple(map(str, saved[0]))
            columns, files = saved[1] if len(saved) > 1 else (self.key_space.columns, self.key_space.files)
            pairs = zip(self._readers, texts, strict=True) if texts else ()
            key = tuple([read(text) for read, text in pairs]) or None
        except (IndexError, TypeError, ValueError, ArithmeticError):
            return False
        if tuple(columns) != self.key_space.columns:
            return False
        is_same = tuple(files) == self.key_space.files
        if is_same or key is None or (self.key is not None and key < self.key):
            self.key, self._texts = key, texts
        return is_same

    def newest_row(self) -> sql.Composed:
        """The query for the row with the highest key, as JSON text."""
        return self._select(
            sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(c) for c in self._columns()), " DESC", 1
        )

    def rows_after(self) -> tuple[sql.Composed, tuple[str, ...]]:
        """The query for all rows with a higher key in its order, and its parameters."""
        if self.key is None:
            return self._select(sql.SQL("true"), "", None), ()
        keys, places = (
            sql.SQL(", ").join(self._columns()),
            sql.SQL(", ").join([sql.SQL("%s")] * len(self._texts)),
        )
        return self._select(sql.SQL("({}) > ({})").format(keys, places), "", None), self._texts

    def _select(self, where: sql.Composable, direction: str, limit: int | None) -> sql.Composed:
        order = sql.SQL(", ").join(column + sql.SQL(direction) for column in self._columns())
        query = sql.SQL(
            "SELECT row_to_json(rowcast_row)::text FROM {} AS rowcast_row WHERE {} ORDER BY {}"
        ).format(identifier(self.recovery.table), where, order)
        return query + sql.SQL(f" LIMIT {limit}") if limit else query

    def _columns(self) -> list[sql.Composed]:
        return [
            sql.Identifier("rowcast_row", name) + sql.SQL(' COLLATE "C"' if type_oid in _TEXTS else "")
            for name, type_oid in zip(self.recovery.key, self._types, strict=True)
        ]

    def _read(self, columns: Columns) -> tuple[Key, tuple[str, ...]] | None:
        try:
            texts = self._get(columns)
            return tuple([read(text) for read, text in zip(self._readers, texts, strict=True)]), texts
        except (KeyError, TypeError, ValueError, ArithmeticError):
            return None


def _reader(type_oid: int) -> Callable[[str], Any]:
    """What makes a value of a column's text.  It raises ValueError or TypeError where Postgres would make none."""
    if type_oid in _NUMBERS:
        return _number
    if type_oid in _TIMES:
        return _aware if type_oid == _TIMESTAMPTZ else _naive
    return _text


def _number(text: str) -> int | Decimal | Edge:
    if _NUMBER.fullmatch(text) is None:
        if text == "NaN":
            return _EDGES[text]
        raise ValueError("no number")
    try:
        return int(text)
    except ValueError:
        return Decimal(text)


def _aware(text: str) -> datetime | Edge:
    return _time(text, True)


def _naive(text: str) -> datetime | Edge:
    return _time(text, False)


def _time(text: str, has_zone: bool) -> datetime | Edge:
    """Moments with and without a zone can't be compared."""
    if text in ("infinity", "-infinity"):
        return _EDGES[text]
    if _TIME.fullmatch(text) is None:
        raise ValueError("no moment")
    moment = datetime.fromisoformat(text)
    if (moment.tzinfo is not None) != has_zone:
        raise ValueError("a moment of another type")
    return moment


def _text(text: str) -> str:
    if type(text) is not str:
        raise TypeError
    if not is_storable(text):
        raise ValueError("no text of Postgres's")
    return text
