"""Where rows that were published can be read again: what a history asks of a feed's database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

PLACES_PER_READ: Final = 100
"""Rows asked for in one go: about as many go through their routes in a few milliseconds."""


class SourceError(Exception):
    """The rows can't be read now; the text says why."""


class RowReader(Protocol):
    """An open way to the database."""

    async def candidates(self, places: list[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
        """By place what the row there becomes now: topics and bodies; a row that is gone has no entry.

        Args:
            places: at most PLACES_PER_READ, as `RowSource.complete` made them.

        Raises:
            SourceError: the database does not answer.
        """


class RowSource(Protocol):
    """A feed's database."""

    def complete(self, place: bytes, payload: bytes) -> bytes:
        """Where the row of a publication is found again; b"" if it can't be.

        Args:
            place: what the feed's sink said while it published it.
            payload: the publication's.
        """

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        """Connect.  Raises: SourceError."""
