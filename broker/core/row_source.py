"""Where rows that were published can be read again: what a history asks of a feed's database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

PLACES_PER_READ: Final = 100
"""Rows asked for in one go: about as many go through their routes in a few milliseconds."""


class SourceError(Exception):
    """The rows can't be read now; the text says why."""


class TooMuch(SourceError):
    """There is more than is read for one subscription; the text says what would do."""


class StateSource(Protocol):
    """The tables of a feed whose rows are the state of topics, and that nothing else keeps."""

    def serves(self, topic_filter: bytes) -> bool:
        """Whether there is a table of which a row may have a topic that the filter matches."""

    async def read(self, topic_filter: bytes) -> list[tuple[bytes, bytes]]:
        """Topics and bodies of the rows that the tables have now.

        Returns when everything that they show has been published, and sees all that had been when it was called.

        Raises:
            SourceError: the database does not answer, or there is `TooMuch`.
        """


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
            place: what the feed's outlet said while it published it.
            payload: the publication's.
        """

    def open(self) -> AbstractAsyncContextManager[RowReader]:
        """Connect.  Raises: SourceError."""
