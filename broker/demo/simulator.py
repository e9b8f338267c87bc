"""Commits what the traders of the demo exchange do, and says what must come of it.

Invariant: what was told to the `Audience` as committed is exactly what Postgres has committed and announced.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Protocol

import trio
from attrs import define
from psycopg import sql

from broker.demo.changes import (
    HISTORY_VIEWS,
    WEBSOCKET_CHANNELS,
    Change,
    Key,
    Transaction,
    mqtt_topics,
    view_of,
    websocket_message,
)
from broker.demo.crowd import Crowd
from broker.feed.driver.connection import TrioConnection


class Audience(Protocol):
    """Who is to be told what the two kinds of clients must receive."""

    def expect_mqtt(self, topic: str, text: str) -> None:
        """Part of the transaction that is open."""

    def expect_websocket(self, channel: str, text: str) -> None:
        """Part of the transaction that is open.  Each is one committed row that is routed: an event."""

    def committed(self, at: float) -> None:
        """COMMIT returned at `at`, in `trio.current_time()` seconds."""


async def create_schema(connection: TrioConnection) -> None:
    """Make Econia's tables in an empty database."""
    await connection.execute(files("broker.demo").joinpath("schema.sql").read_text().encode())


@define
class Simulator:
    """Commits a crowd's acts, `rate` events a second, and tells `audience` what each must have announced."""

    connection: TrioConnection
    crowd: Crowd
    audience: Audience
    rate: float
    events: int = 0
    transactions: int = 0

    async def run(self, events_max: int | None = None) -> None:
        """Open the markets, then go on for ever, or until at least `events_max` events are committed."""
        started = trio.current_time()
        for txn in self.crowd.open_markets():
            await self._commit_whole(txn)
        while events_max is None or self.events < events_max:
            await trio.sleep_until(started + self.events / self.rate)
            await self._commit_whole(self.crowd.next())

    async def _commit_whole(self, txn: Transaction) -> None:
        # Cancelled in the middle, nobody could say whether it was committed.
        with trio.CancelScope(shield=True):
            await self._commit(txn)

    async def _commit(self, txn: Transaction) -> None:
        fills_seen: set[Key] = set()
        events = 0
        async with self.connection.transaction():
            for change in txn.changes:
                row = await self._write(change)
                if row is None:
                    continue
                events += 1
                self.audience.expect_websocket(*websocket_message(change, row))
                for topic in mqtt_topics(change, fills_seen):
                    self.audience.expect_mqtt(topic, row)
        self.audience.committed(trio.current_time())
        self.events += events
        self.transactions += 1

    async def _write(self, change: Change) -> str | None:
        # What must be announced is asked of Postgres in words of our own, in the same transaction: the
        # triggers and notifications under test have no part in the answer.
        cursor = await self.connection.execute(_statement(change), {**change.columns, **change.key})
        view = view_of(change)
        if view is not None:
            key = {name: (change.key or change.columns)[name] for name in ("market_id", "order_id")}
            cursor = await self.connection.execute(_row_of_view(view), key)
        elif change.table not in WEBSOCKET_CHANNELS:
            return None
        found = await cursor.fetchone()
        return None if found is None else found[0]


_statements: dict[Any, sql.Composed] = {}


def _statement(change: Change) -> sql.Composed:
    shape = (change.table, tuple(change.columns), bool(change.key))
    if shape not in _statements:
        _statements[shape] = _update(change) if change.key else _insert(change)
    return _statements[shape]


def _insert(change: Change) -> sql.Composed:
    name = sql.Identifier(*change.table.split("."))
    returned = sql.Identifier(change.table.split(".")[-1])
    columns = sql.SQL(", ").join(map(sql.Identifier, change.columns))
    values = sql.SQL(", ").join(map(sql.Placeholder, change.columns))
    return sql.SQL("insert into {} ({}) values ({}) returning row_to_json({})::text").format(
        name, columns, values, returned
    )


def _update(change: Change) -> sql.Composed:
    def assign(columns: Any, between: str) -> sql.Composed:
        return sql.SQL(between).join(
            sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column)) for column in columns
        )

    name = sql.Identifier(*change.table.split("."))
    return sql.SQL("update {} set {} where {}").format(
        name, assign(change.columns, ", "), assign(change.key, " and ")
    )


def _row_of_view(view: str) -> sql.Composed:
    if view not in _statements:
        assert view in HISTORY_VIEWS.values()
        _statements[view] = sql.SQL(
            "select row_to_json(o)::text from {} o"
            " where market_id = %(market_id)s and order_id = %(order_id)s"
        ).format(sql.Identifier(*view.split(".")))
    return _statements[view]
