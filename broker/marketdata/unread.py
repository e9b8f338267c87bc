"""Rows that come again with few of their levels changed: arrays that their takers would rather have unread.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.feed.routing.rowtext import Columns, Reader, columns_of, value_of
from broker.market.calculator import Calculator
from broker.market.written import unread_at

Readers = dict[str, Reader]
"""By columns."""


def readers_of(takers: Iterable[Calculator]) -> Readers:
    """For rows that all of these take: only what each of them can do without having it read stays so."""
    wishes = [set(taker.unread()) for taker in takers]
    return dict.fromkeys(set.intersection(*wishes), _array_at) if wishes else {}


def row_columns(text: str, readers: Readers) -> Columns:
    """The columns of a row.  Raises: as `columns_of`; what is wrong in an unread array, its reader finds."""
    return columns_of(text, readers if readers and "\\" not in text else None)


def _array_at(text: str, start: int) -> tuple[Any, int] | None:
    found = unread_at(text, start, value_of)
    return None if found is None else (found, start + len(found.text))
