"""A query that is asked at an interval: what was added, what changed, and what has gone since the last time."""

from __future__ import annotations

from typing import Final

import psycopg
import trio
from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.config.market import Intake
from broker.feed.driver.connect import connected, within
from broker.feed.status import FeedStatus
from broker.links.barrier import barrier
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.market import Market

ANSWER_TIMEOUT_S: Final = 30.0
ROWS_MAX: Final = 500_000
"""Of one answer."""


def inner_of(query: str) -> sql.SQL:
    """The configuration's own text: its braces and per cent signs are no placeholders."""
    return sql.SQL(query.strip().rstrip(";"))


def statement_of(intake: Intake) -> sql.Composed:
    """What is asked: each row's key and its text."""
    key = sql.SQL(", ").join(sql.SQL("q.") + sql.Identifier(name) for name in intake.key)
    return (
        sql.SQL("SELECT json_build_array(") + key + sql.SQL(")::text, row_to_json(q)::text FROM (")
        + inner_of(intake.query) + sql.SQL("\n) q")
    )  # fmt: skip


class Differences:
    """What one answer says that the one before didn't.  Pure.

    Invariant: `known` is the last answer, by key.
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def take(self, answer: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Operation and row's text of each difference: what has gone first, then the rest in the answer's order.

        Args:
            answer: key and row, of which a key that comes twice counts once.
        """
        new = dict(answer)
        found = [("delete", row) for key, row in self.known.items() if key not in new]
        for key, row in new.items():
            before = self.known.get(key)
            if before is None:
                found.append(("insert", row))
            elif before != row:
                found.append(("update", row))
        self.known = new
        return found


class PolledQuery:
    """See `broker.feed.supervise.Feed`.  An answer that is missed costs nothing: the next one says all."""

    def __init__(self, rows: IntakeRows, market: Market, status: FeedStatus) -> None:
        self._rows = rows
        self._market = market
        self._status = status
        self._differences = Differences()
        self._asking = trio.CancelScope()

    def adopt(self, config: FeedConfig) -> bool:
        """Ask anew, as the intake of the rows says now; what is known stays so."""
        self._asking.cancel()
        return True

    def tell(self, keys: set[str]) -> None:
        """Calculators that are new, by the keys of their taps, what the last answer said.  Within a turn."""
        for text in self._differences.known.values():
            for _, key in self._rows.intake.taps:
                if key in keys:
                    with barrier(self._market.engine.counters, f"source {self._rows.intake.feed.name}"):
                        self._market.take_text(key, text.encode())
        self._market.commit()

    async def attempt(self) -> None:
        """Run the query again and again on one connection, until that fails."""
        while True:
            with trio.CancelScope() as self._asking:
                await self._ask()

    async def _ask(self) -> None:
        intake = self._rows.intake
        statement = statement_of(intake)
        async with connected(intake.feed) as connection:
            while True:
                began = trio.current_time()
                with within(ANSWER_TIMEOUT_S, "the query"):
                    cursor = await connection.execute(statement)
                    answer = await cursor.fetchmany(ROWS_MAX + 1)
                if len(answer) > ROWS_MAX:
                    raise psycopg.OperationalError(f"the query gives more than {ROWS_MAX} rows")
                self._take(answer)
                if self._status.state != "live":
                    self._status.enter("live")
                took_s = trio.current_time() - began
                if took_s > intake.every_s:
                    what = (
                        f"the query takes longer than the {intake.every_s:g} s after which it is asked again"
                    )
                    self._status.warn(what, intake.feed.name, self._market.engine.now)
                await trio.sleep_until(began + intake.every_s)

    def _take(self, answer: list[tuple[str, str]]) -> None:
        with self._market.engine.turn:
            self._rows.text_rows(self._differences.take(answer))
            self._rows.commit()
