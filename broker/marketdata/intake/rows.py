"""A message of an intake to its rows: to calculators and to routes.  Synchronous."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from broker.config.market import Intake
from broker.feed.gaps import announce
from broker.feed.routing.routes import Router, Row
from broker.feed.routing.rowtext import NotARow, elements_of
from broker.feed.status import FeedStatus
from broker.marketdata.market import Market
from broker.marketdata.sink import MarketSink

REMEMBERED_MAX: Final = 1024
"""Sequence numbers that are known again."""


class Sequence:
    """Messages that are numbered: which came twice, and where some are missing."""

    def __init__(self) -> None:
        self._last = -1
        self._seen: set[int] = set()
        self._order: deque[int] = deque()

    def take(self, number: int) -> tuple[bool, int]:
        """Whether the message is new, and how many are missing before it; -1 if the count began anew."""
        if number in self._seen:
            return False, 0
        last = self._last
        missing = 0
        if last >= 0 and number > last + 1:
            missing = number - last - 1
        elif number < last - REMEMBERED_MAX or (number < last and not self._is_late(number)):
            missing = -1
            self._seen.clear()
            self._order.clear()
            self._last = number
        self._last = max(self._last, number)
        self._seen.add(number)
        self._order.append(number)
        if len(self._order) > REMEMBERED_MAX:
            self._seen.discard(self._order.popleft())
        return True, missing

    def _is_late(self, number: int) -> bool:
        """Whether it can have been overtaken, rather than be counted anew from the beginning."""
        return bool(self._order) and number > self._order[0]


class IntakeRows:
    """Args:
    intake: with routes.
    market: takes rows for calculators, publications of routes go out by its engine.
    """

    def __init__(self, intake: Intake, market: Market, sink: MarketSink, status: FeedStatus) -> None:
        self.intake = intake
        self.status = status
        self._market = market
        self._sink = sink
        self._router = Router(intake.feed, status)
        self._name = intake.feed.name.encode()
        self._has_routes = bool(intake.feed.routes)
        self._sequence = Sequence() if intake.sequence else None

    def message(self, text: bytes, more: dict[str, str] | None = None) -> None:
        """One message: an object, or an array of objects that belong together.  Within a turn.

        Args:
            more: members to add to each row's columns.
        """
        status = self.status
        if text[:1] == b"[":
            try:
                objects = elements_of(text)
            except NotARow as error:
                status.received += 1
                status.drop(error.reason, self.intake.feed.name, self._market.engine.now)
                return
            for one in objects:
                self._object(one, more)
        else:
            self._object(text, more)
        self._market.commit()

    def _object(self, text: bytes, more: dict[str, str] | None) -> None:
        self.status.received += 1
        row = self._router.notification(self._name, text, self._market.engine.now)
        if row is None:
            return
        if self._sequence is not None and not self._is_new(self._sequence, row):
            return
        if more:
            row.columns.update(more)
        self.row(row)

    def row(self, row: Row, operation: str = "insert") -> None:
        """One row that was found to be one."""
        for kind, tap in self.intake.taps:
            if kind is None or kind == row.kind:
                self._market.take(tap, row.columns, operation == "delete")
        if self._has_routes:
            self._route(row, operation)

    def text_row(self, columns: dict[str, Any], text: bytes, operation: str) -> None:
        """A row that was read, with its columns."""
        self.status.received += 1
        self.row(
            self._router.changed_row(self.intake.feed.name, self.intake.feed.name, columns, text), operation
        )

    def commit(self) -> None:
        """The messages taken so far belong together: calculators say what they changed."""
        self._market.commit()

    def _route(self, row: Row, operation: str) -> None:
        now = self._market.engine.now
        for route in row.source.routes_of(row.kind):
            if operation == "delete" and "delete" not in route.config.operations:
                continue
            for outgoing in route.publications(row, now):
                self._sink.publish(*outgoing)
                self.status.published += 1

    def _is_new(self, sequence: Sequence, row: Row) -> bool:
        value: Any = row.columns
        for name in self.intake.sequence:
            value = value.get(name) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value.isdecimal() or len(value) > 19:
            self.status.drop("no_sequence", self.intake.feed.name, self._market.engine.now)
            return False
        number = int(value)
        is_new, missing = sequence.take(number)
        if not is_new:
            self.status.repeated += 1
        elif missing > 0:
            what = f"{missing} messages before number {number} are missing"
            announce(self.status, self._sink, what, str(number - missing - 1), value)
        elif missing < 0:
            announce(self.status, self._sink, f"the numbers begin anew at {number}", "", value)
        return is_new
