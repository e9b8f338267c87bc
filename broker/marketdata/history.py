"""Candles in a table: read at the start, written by upsert, some at a time.

The table is the user's; `CREATE` says what it has to have.  A database that is away delays the writing: what waits is
the newest of each candle, so a long absence takes no more memory than the candles there are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
import trio
from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected, within
from broker.feed.driver.connection import TrioConnection
from broker.feed.driver.failures import first_line
from broker.feed.driver.sql_text import identifier
from broker.feed.status import FeedStatus
from broker.market.candle import Candle
from broker.market.numbers import Sum, parse

logger = logging.getLogger("broker.market")

CREATE: Final = """create table {table} (
    symbol text, "interval" text, start timestamptz,
    open numeric not null, high numeric not null, low numeric not null, close numeric not null,
    volume numeric not null, turnover numeric not null, trades bigint not null,
    closed boolean not null, rev integer not null,
    last_size numeric not null, last_id bigint not null, first_at timestamptz, last_at timestamptz,
    primary key (symbol, "interval", start)
);"""

COLUMNS: Final = (
    ("symbol", "text"),
    ("interval", "text"),
    ("start", "timestamptz"),
    ("open", "numeric"),
    ("high", "numeric"),
    ("low", "numeric"),
    ("close", "numeric"),
    ("volume", "numeric"),
    ("turnover", "numeric"),
    ("trades", "bigint"),
    ("closed", "boolean"),
    ("rev", "integer"),
    ("last_size", "numeric"),
    ("last_id", "bigint"),
    ("first_at", "timestamptz"),
    ("last_at", "timestamptz"),
)
KEYS: Final = 3
"""The first columns are the primary key."""

WRITE_EVERY_S: Final = 1.0
BATCH_MAX: Final = 2000
"""Candles of one statement."""

WAITING_MAX: Final = 500_000
ANSWER_TIMEOUT_S: Final = 60.0
LAST_WRITE_S: Final = 3.0
"""For what is left when the process stops."""

PAUSE_S: Final = 2.0

Key = tuple[str, str, int]


class History:
    """One table of candles.

    Args:
        name: `schema.table`.
        database: where it is.
        status: is told what is not written.
    """

    def __init__(self, name: str, database: FeedConfig, status: FeedStatus) -> None:
        self.name = name
        self._database = database
        self._status = status
        self._waiting: dict[Key, tuple[Any, ...]] = {}
        self._upsert = _upsert(name)
        self._news = trio.Event()

    def take(self, changed: Sequence[tuple[str, str, Candle]]) -> None:
        """Candles to be written, as they are now."""
        for symbol, interval, candle in changed:
            key = (symbol, interval, candle.start_ms)
            if key not in self._waiting and len(self._waiting) >= WAITING_MAX:
                del self._waiting[next(iter(self._waiting))]
                self._status.drop("history_full", self.name, trio.current_time())
            self._waiting[key] = _values(symbol, interval, candle)
        if changed:
            self._news.set()

    async def read(self, since_ms: dict[str, int], keep_ms: int) -> list[tuple[str, str, Candle, int]]:
        """Symbol, interval, candle, and its start, of those since a moment for each interval.

        The last one of each series is always among them, with those of the `keep_ms` before it.

        Raises:
            psycopg.Error, OSError: the table can't be read.
        """
        found: list[tuple[str, str, Candle, int]] = []
        async with connected(self._database) as connection:
            for interval, moment_ms in since_ms.items():
                with within(ANSWER_TIMEOUT_S, f"reading {self.name}"):
                    cursor = await connection.execute(
                        _select(self.name), [interval, interval, moment_ms / 1000, keep_ms / 1000]
                    )
                    rows = await cursor.fetchall()
                found += [_candle_of(interval, row) for row in rows]
        return found

    async def bars(
        self, symbol: str, interval: str, from_s: float, to_s: float, count: int
    ) -> list[tuple[Any, ...]]:
        """The newest `count` candles that start in [`from_s`, `to_s`): start in seconds, then texts; oldest first.

        Raises:
            psycopg.Error, OSError: the table can't be read.
        """
        statement = sql.SQL(
            "SELECT extract(epoch from start)::bigint, open::text, high::text, low::text, close::text,"
            ' volume::text FROM {} WHERE symbol = %s AND "interval" = %s AND start >= to_timestamp(%s)'
            " AND start < to_timestamp(%s) ORDER BY start DESC LIMIT %s"
        ).format(identifier(self.name))
        async with connected(self._database) as connection:
            with within(ANSWER_TIMEOUT_S, f"reading {self.name}"):
                cursor = await connection.execute(statement, [symbol, interval, from_s, to_s, count])
                rows = await cursor.fetchall()
        return rows[::-1]

    async def run(self, untold: Callable[[], Sequence[tuple[str, str, Candle]]]) -> None:
        """Write until cancelled; then what is left, if the database takes it within a moment.

        Args:
            untold: asked at the end for what changed and was not taken yet.
        """
        try:
            while True:
                try:
                    async with connected(self._database) as connection:
                        while True:
                            await self._news.wait()
                            self._news = trio.Event()
                            await self._write(connection)
                            self._status.over("history")
                            await trio.sleep(WRITE_EVERY_S)
                except (psycopg.Error, OSError) as error:
                    problem = f"candles are not written to {self.name}: {first_line(error)}"
                    logger.warning("%s; trying again", problem)
                    self._status.trouble("history", problem)
                self._news.set()
                await trio.sleep(PAUSE_S)
        finally:
            self.take(untold())
            with trio.move_on_after(LAST_WRITE_S, shield=True):
                await self._write_the_rest()

    async def _write_the_rest(self) -> None:
        if not self._waiting:
            return
        try:
            async with connected(self._database) as connection:
                await self._write(connection)
        except (psycopg.Error, OSError) as error:
            logger.error("%d candles could not be written to %s: %s", len(self._waiting), self.name, error)

    async def _write(self, connection: TrioConnection) -> None:
        """All in one transaction, so that `last_id` is of one moment for all intervals."""
        waiting, self._waiting = self._waiting, {}
        values = list(waiting.values())
        try:
            with within(ANSWER_TIMEOUT_S, f"writing {self.name}"):
                async with connection.transaction():
                    for i in range(0, len(values), BATCH_MAX):
                        batch = json.dumps([_as_object(one) for one in values[i : i + BATCH_MAX]])
                        await connection.execute(self._upsert, [batch])
        except BaseException:
            self._waiting = {**waiting, **self._waiting}
            raise


def _as_object(values: tuple[Any, ...]) -> dict[str, Any]:
    return {name: value for (name, _), value in zip(COLUMNS, values, strict=True)}


def _values(symbol: str, interval: str, candle: Candle) -> tuple[Any, ...]:
    return (
        symbol,
        interval,
        _seconds(candle.start_ms * 1000),
        candle.open.text,
        candle.high.text,
        candle.low.text,
        candle.close.text,
        candle.volume.text(),
        candle.turnover.text(),
        candle.trades,
        candle.is_closed,
        candle.rev,
        candle.last_size,
        candle.last_id,
        _seconds(candle.open_us) if candle.trades else None,
        _seconds(candle.close_us) if candle.trades else None,
    )


def _seconds(us: int) -> str:
    """Seconds since 1970 as text, exact to the microsecond."""
    return f"{us // 1_000_000}.{us % 1_000_000:06d}"


def _upsert(name: str) -> sql.Composed:
    columns = sql.SQL(", ").join(sql.Identifier(column) for column, _ in COLUMNS)
    record = sql.SQL(", ").join(
        sql.SQL("{} " + ("text" if kind in ("numeric", "timestamptz") else kind)).format(
            sql.Identifier(column)
        )
        for column, kind in COLUMNS
    )
    values = sql.SQL(", ").join(
        sql.SQL(
            "timestamptz 'epoch' + {}::numeric * interval '1 second'" if kind == "timestamptz"
            else "{}::numeric" if kind == "numeric" else "{}"
        ).format(sql.Identifier("x", column))
        for column, kind in COLUMNS
    )  # fmt: skip
    keys = sql.SQL(", ").join(sql.Identifier(column) for column, _ in COLUMNS[:KEYS])
    updates = sql.SQL(", ").join(
        sql.SQL("{} = excluded.{}").format(sql.Identifier(column), sql.Identifier(column))
        for column, _ in COLUMNS[KEYS:]
    )
    return sql.SQL(
        "INSERT INTO {} ({}) SELECT {} FROM json_to_recordset(%s::json) AS x({})"
        " ON CONFLICT ({}) DO UPDATE SET {}"
    ).format(identifier(name), columns, values, record, keys, updates)


def _select(name: str) -> sql.Composed:
    us = "(extract(epoch from {}) * 1000000)::bigint"
    shown = sql.SQL(
        f"symbol, {us.format('start')}, open::text, high::text, low::text, close::text, volume::text,"
        f" turnover::text, trades, closed, rev, last_size::text, last_id, {us.format('first_at')},"
        f" {us.format('last_at')}"
    )
    return sql.SQL(
        "SELECT {columns} FROM {table} t JOIN (SELECT symbol AS name, max(start) AS newest FROM {table}"
        ' WHERE "interval" = %s GROUP BY 1) n ON t.symbol = n.name WHERE "interval" = %s'
        " AND start >= least(to_timestamp(%s), n.newest - %s * interval '1 second') ORDER BY 1, 2"
    ).format(columns=shown, table=identifier(name))


def _candle_of(interval: str, row: tuple[Any, ...]) -> tuple[str, str, Candle, int]:
    symbol, start_us, opening, high, low, close, volume, turnover, trades, closed, rev, last_size, last_id = (
        row[:13]
    )
    first_us, last_us = row[13:]
    candle = Candle(start_us // 1000, start_us // 1000, parse(opening))
    candle.high, candle.low, candle.close = parse(high), parse(low), parse(close)
    for total, text in ((candle.volume, volume), (candle.turnover, turnover)):
        _set(total, text)
    candle.trades, candle.is_closed, candle.rev = trades, closed, rev
    candle.last_size, candle.last_id = last_size, last_id
    candle.open_us, candle.close_us = first_us or 0, last_us or 0
    candle.close_id = last_id
    return symbol, interval, candle, start_us // 1000


def _set(total: Sum, text: str) -> None:
    whole, _, fraction = text.partition(".")
    total.units, total.scale = int(whole + fraction), len(fraction)
