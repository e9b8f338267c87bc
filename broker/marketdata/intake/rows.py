"""A message of an intake to its rows: to calculators and to routes.  Synchronous."""

from __future__ import annotations

from broker.config.market import Intake
from broker.feed.gaps import announce
from broker.feed.routing.routes import Router, Row
from broker.feed.routing.rowtext import NotARow, elements_of
from broker.feed.status import FeedStatus
from broker.links.barrier import barrier
from broker.marketdata.intake.early import Early
from broker.marketdata.intake.envelope import Envelope
from broker.marketdata.intake.sequence import Sequences, Unnumbered
from broker.marketdata.market import Market
from broker.marketdata.outlet import MarketOutlet
from broker.marketdata.unread import Readers, row_columns


class IntakeRows:
    """Messages of one intake, to calculators and routes.

    Args:
        intake: with routes.
        market: takes rows for calculators, publications of routes go out by its engine.
    """

    def __init__(self, intake: Intake, market: Market, outlet: MarketOutlet, status: FeedStatus) -> None:
        self.intake = intake
        self.status = status
        self._market = market
        self._outlet = outlet
        self._envelope = envelope_of(intake)
        self._router = Router(intake.feed, status)
        self._sequences = Sequences(intake.sequence) if intake.sequence else None
        self._early = Early()

    def adopt(self, intake: Intake) -> None:
        """Other routes, and whatever else needs no other way of coming, from the next row on."""
        if intake.sequence != self.intake.sequence:
            self._sequences = Sequences(intake.sequence) if intake.sequence else None
            self._early = Early()
        self.intake = intake
        self._envelope = envelope_of(intake)
        self._router = Router(intake.feed, self.status)

    def message(self, text: bytes, more: dict[str, str] | None = None) -> None:
        """One message: an object, or an array of objects that belong together.  Within a turn.

        Args:
            more: members to add to each row's columns.
        """
        status = self.status
        if text[:1] == b"[" and not self._envelope.takes_arrays:
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
        try:
            rows = self._rows(text)
        except NotARow as error:
            self.status.received += 1
            self.status.drop(error.reason, self.intake.feed.name, self._market.engine.now)
            return
        self.status.received += len(rows)
        taken: set[tuple[str, int]] = set()
        again: list[Row] = []
        for row in rows:
            if self._sequences is not None and not self._is_new(self._sequences, row, taken, again):
                continue
            if more:
                row.columns.update(more)
            self.row(row)
        for row in again:
            if self._sequences is not None and self._is_new(self._sequences, row, taken, []):
                self._calculate(row, "insert")

    def _rows(self, text: bytes) -> list[Row]:
        """Raises: NotARow."""
        readers = self._readers() if self._envelope.is_bare else {}
        if not readers:
            return self._envelope.rows(self._router, text)
        try:
            decoded = text.decode()
        except UnicodeDecodeError:
            raise NotARow("not_utf8") from None
        name = self.intake.feed.name
        return [self._router.changed_row(name, name, row_columns(decoded, readers), text)]

    def _readers(self) -> Readers:
        """Of columns at which nobody looks but calculators that can do without; none where rows go several ways."""
        taps = self.intake.taps
        return self._market.readers(taps[0][1]) if len(taps) == 1 and not self.intake.feed.routes else {}

    def row(self, row: Row, operation: str = "insert") -> None:
        """One row that was found to be one."""
        self._calculate(row, operation)
        if self.intake.feed.routes:
            self._route(row, operation)

    def _calculate(self, row: Row, operation: str) -> None:
        for kind, tap in self.intake.taps:
            if kind is None or kind == row.kind:
                self._market.take(tap, row.columns, operation == "delete")

    def text_rows(self, rows: list[tuple[str, str]]) -> None:
        """Rows by operation and text; what is none is counted."""
        name = self.intake.feed.name
        readers = self._readers()
        for operation, text in rows:
            with barrier(self._market.engine.counters, f"source {name}"):
                try:
                    columns = row_columns(text, readers)
                except NotARow as error:
                    self.status.drop(error.reason, name, self._market.engine.now)
                    continue
                self.status.received += 1
                row = self._router.changed_row(name, name, columns, text.encode())
                row.operation = operation
                self.row(row, operation)

    def commit(self) -> None:
        """The messages taken so far belong together: calculators say what they changed."""
        self._market.commit()

    def _route(self, row: Row, operation: str) -> None:
        now = self._market.engine.now
        for route in row.source.routes_of(row.kind):
            if operation == "delete" and "delete" not in route.config.operations:
                continue
            for outgoing in route.publications(row, now):
                self._outlet.publish(*outgoing)
                self.status.published += 1

    def _is_new(self, sequences: Sequences, row: Row, taken: set[tuple[str, int]], again: list[Row]) -> bool:
        """Whether a row is to be handled.

        Args:
            taken: what rows of the same message had, whose number may be that of all of them.
            again: gets the rows that are to be handled again behind the message.
        """
        try:
            message = sequences.take(row.columns)
        except Unnumbered as error:
            self.status.drop(str(error), self.intake.feed.name, self._market.engine.now)
            return False
        number, of = message.number, f"{message.of}: " if message.of else ""
        if not message.is_new:
            if (message.of, number) in taken:
                again += self._early.note(message, row)
                return True
            self.status.repeated += 1
            return False
        taken.add((message.of, number))
        again += self._early.note(message, row)
        if message.missing > 0:
            what = f"{of}{message.missing} messages before number {number} are missing"
            announce(self.status, self._outlet, what, str(message.known), str(number))
        elif message.missing < 0:
            announce(self.status, self._outlet, f"{of}the numbers begin anew at {number}", "", str(number))
        return True


def envelope_of(intake: Intake) -> Envelope:
    """How messages of this source hold their rows."""
    source = intake.feed.sources[0]
    return Envelope(source.name, source.kind_path, intake.rows)
