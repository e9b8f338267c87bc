"""What nobody expected of a row costs that row: dropped, counted, logged once a minute with its place, never its value.

A connection that fails is no row's fault and passes.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import psycopg

from broker.core import barrier
from broker.feed.status import FeedStatus

REASON: Final = "unexpected"


class RowBarrier:
    """One for all rows of a feed: `with rows.of("table", name, now):`.  Not to be nested.

    Args:
        status: counts what is dropped.
    """

    __slots__ = ("_kind", "_name", "_now", "_status")

    def __init__(self, status: FeedStatus) -> None:
        self._status = status
        self._kind = ""
        self._name: object = ""
        self._now = 0.0

    def of(self, kind: str, name: object, now: float) -> Self:
        """For the next row, of that table or channel; the words are put together only if they are needed."""
        self._kind = kind
        self._name = name
        self._now = now
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        if not isinstance(error, Exception) or isinstance(error, psycopg.Error | OSError):
            return False
        name = self._name
        text = bytes(name).decode(errors="replace") if isinstance(name, bytes | memoryview) else name
        self._status.drop(REASON, f"{self._kind} {text}: {barrier.reason_of(error)}", self._now)
        return not barrier.RERAISE
