"""Messages that say something around their rows, or have several rows in an array.  Pure."""

from __future__ import annotations

from typing import Any, Final

from broker.feed.routing.routes import Router, Row
from broker.feed.routing.rowtext import Columns, NotARow, array_at, columns_of, elements_of
from broker.marketdata.intake.sequence import at

Added = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of columns, and the paths in the message where their values are."""

ROWS_MAX: Final = 100_000
"""Of one message."""


class Envelope:
    """How one source's messages hold their rows.

    Args:
        name: the source's, as the router knows it.
        kind_path, row_path: as `broker.config.feeds.Source`; at `row_path` may be an array of rows.
        added: columns that the rows get besides their own.
    """

    def __init__(
        self, name: str, kind_path: tuple[str, ...], row_path: tuple[str, ...], added: Added
    ) -> None:
        self._name = name
        self._kind_path = kind_path
        self._row_path = row_path
        self._added = added

    def rows(self, router: Router, text: bytes) -> list[Row]:
        """The rows of a message that is an object.  Raises: NotARow."""
        try:
            found = [router.row_in(self._name.encode(), text)]
        except NotARow as error:
            if error.reason != "not_an_object" or not self._row_path:
                raise
            found = self._rows_of_array(router, text.decode())
        if self._added:
            message = columns_of(text.decode())
            columns: Columns = {name: at(message, path) for name, path in self._added}
            for row in found:
                row.columns.update(columns)
        return found

    def _rows_of_array(self, router: Router, text: str) -> list[Row]:
        array = array_at(text, self._row_path)
        if not array.startswith("["):
            raise NotARow("not_an_object")
        kind: Any = at(columns_of(text), self._kind_path) if self._kind_path else self._name
        if not isinstance(kind, str):
            raise NotARow("no_kind")
        elements = elements_of(array.encode())
        if len(elements) > ROWS_MAX:
            raise NotARow("too_many_rows")
        return [
            router.changed_row(self._name, kind, columns_of(element.decode()), element)
            for element in elements
        ]
