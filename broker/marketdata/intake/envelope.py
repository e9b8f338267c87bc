"""Messages that say something around their rows, have several rows in an array, or arrays for rows.  Pure."""

from __future__ import annotations

import csv
import json
import re
from typing import Any, Final

from broker.config.market import AddedColumn, RowsConfig
from broker.feed.routing.routes import Router, Row
from broker.feed.routing.rowtext import Columns, NotARow, array_at, columns_of, elements_of, value_of
from broker.marketdata.intake.sequence import at

ROWS_MAX: Final = 100_000
"""Of one message."""


class Added:
    """A column that rows get from what is around them."""

    def __init__(self, config: AddedColumn) -> None:
        self._config = config
        self._match = re.compile(config.match) if config.match else None

    def put(self, message: Any, rows: list[Columns]) -> None:
        """Where there is nothing, a row's own column stays."""
        value = self._value(message)
        for row in rows:
            if value is not None or self._config.name not in row:
                row[self._config.name] = value

    def _value(self, message: Any) -> Any:
        config = self._config
        if config.value:
            return config.value
        value = next((found for path in config.paths if (found := at(message, path)) is not None), None)
        if self._match is not None:
            found = self._match.fullmatch(value) if isinstance(value, str) else None
            value = None if found is None else found[1]
        return config.words.get(value, value) if isinstance(value, str) else value


class Envelope:
    """How one source's messages hold their rows.

    Args:
        name: the source's, as the router knows it.
        kind_path: as `broker.config.feeds.Source`.
        config: the rest; at a path may be one row or an array of rows.

    Attributes:
        takes_arrays: a message that is an array is one message, and not several.
        is_bare: a message is a row, and nothing else.
    """

    def __init__(self, name: str, kind_path: tuple[str, ...], config: RowsConfig) -> None:
        self._name = name
        self._kind_path = kind_path
        self._config = config
        self._row_path = config.paths[0] if config.paths else ()
        self._added = [Added(one) for one in config.added]
        self._is_plain = config.is_plain(kind_path)
        self.is_bare = self._is_plain and not (kind_path or self._row_path or self._added)
        starts = [path[:1] for path in (kind_path, *config.paths)]
        starts += [path[:1] for one in config.added for path in one.paths]
        self.takes_arrays = config.format == "csv" or (bool(config.columns) and not self._row_path)
        self.takes_arrays |= any(start and start[0].startswith("[") for start in starts)

    def rows(self, router: Router, text: bytes) -> list[Row]:
        """The rows of a message.  Raises: NotARow."""
        if not self._is_plain:
            return self._rows_anywhere(router, text)
        try:
            found = [router.row_in(self._name.encode(), text)]
        except NotARow as error:
            if error.reason != "not_an_object" or not self._row_path:
                raise
            found = self._rows_of_array(router, text.decode())
        if self._added:
            self._add(columns_of(text.decode()), [row.columns for row in found])
        return found

    def _add(self, message: Any, rows: list[Columns]) -> None:
        for one in self._added:
            one.put(message, rows)

    def _rows_of_array(self, router: Router, text: str) -> list[Row]:
        array = array_at(text, self._row_path)
        if not array.startswith("["):
            raise NotARow("not_an_object")
        kind = self._kind_of(columns_of(text))
        elements = elements_of(array.encode())
        _check_count(elements)
        return [
            router.changed_row(self._name, kind, columns_of(element.decode()), element)
            for element in elements
        ]

    def _rows_anywhere(self, router: Router, text: bytes) -> list[Row]:
        """Rows that are arrays, or lie in arrays; for routes they are written anew, as objects."""
        message = self._read(text)
        kind = self._kind_of(message)
        rows = [self._columns_of(one) for one in self._elements(message)]
        self._add(message, rows)
        return [
            router.changed_row(
                self._name, kind, row, json.dumps(row, ensure_ascii=False).encode(errors="replace")
            )
            for row in rows
        ]

    def _read(self, text: bytes) -> Any:
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            raise NotARow("not_utf8") from None
        try:
            if self._config.format == "csv":
                [cells] = csv.reader([decoded], strict=True)
                return [cell or None for cell in cells]
            return value_of(decoded)
        except csv.Error:
            raise NotARow("not_csv") from None
        except (ValueError, IndexError, StopIteration):
            raise NotARow("not_csv" if self._config.format == "csv" else "not_json") from None

    def _kind_of(self, message: Any) -> str:
        kind = at(message, self._kind_path) if self._kind_path else self._name
        if not isinstance(kind, str):
            raise NotARow("no_kind")
        return kind

    def _elements(self, message: Any) -> list[Any]:
        for path in self._config.paths or ((),):
            found = at(message, path)
            if isinstance(found, dict):
                return [found]
            if isinstance(found, list):
                if self._config.columns and not (found and isinstance(found[0], list | dict)):
                    return [found] if found else []
                _check_count(found)
                return found
        raise NotARow("no_row")

    def _columns_of(self, element: Any) -> Columns:
        if isinstance(element, dict):
            return element
        if not isinstance(element, list) or not self._config.columns:
            raise NotARow("not_an_object")
        return {name: value for name, value in zip(self._config.columns, element, strict=False) if name}


def _check_count(elements: list[Any]) -> None:
    if len(elements) > ROWS_MAX:
        raise NotARow("too_many_rows")
