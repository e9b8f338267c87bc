"""Goal: a query that is asked again and again survives what databases do, and says right afterwards what is there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from support.feeds import Collector
from support.market import BookClient
from support.markets import RunningMarket, next_event, running_market
from support.polling import until

from broker.config.feeds import FeedConfig, Source
from broker.config.market import Intake, MarketConfig
from broker.core.engine import Engine
from broker.feed.status import FeedStatus
from broker.marketdata.intake import polled
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.market import Market

SETTINGS = """
[database]
dsn = "env:DATABASE_URL"
[source.book]
query = "SELECT symbol, side, price, size FROM hostile_levels -- 100% of {them}"
key = ["symbol", "side", "price"]
every = "50ms"
[[market.depth]]
from = "book"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""
CREATE = "CREATE TABLE hostile_levels (symbol text, side text, price numeric, size numeric)"


async def reads(
    client: BookClient, market: RunningMarket, nursery: trio.Nursery, bids: dict[str, str]
) -> None:
    """Until a client that begins now and one that was there before have this."""
    ws = await market.connect(nursery, "A@depth")
    with trio.fail_after(60):
        while client.sides["bids"] != bids:
            client.take(json.dumps(await next_event(ws)).encode())
    await ws.aclose()


async def test_whatever_the_table_holds_and_wherever_it_goes(tmp_path: Path, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:

        async def run(statement: str) -> None:
            """Without keeping the broker from reading, which may have to let a lock go."""
            await trio.to_thread.run_sync(connection.execute, statement.encode())

        await run("DROP TABLE IF EXISTS hostile_levels")
        async with (
            running_market(tmp_path, SETTINGS, {"DATABASE_URL": database}) as market,
            trio.open_nursery() as nursery,
        ):
            feeds = market.broker.app.feeds
            await until(lambda: "hostile_levels" in feeds["book"].problem)
            assert feeds["book"].state != "live"

            await run(CREATE)
            await run("INSERT INTO hostile_levels VALUES ('A', 'bid', 1.50, 2)")
            await reads(BookClient(), market, nursery, {"1.50": "2"})
            assert feeds["book"].state == "live"

            for values in (
                "('A', 'bid', 'NaN', 1)", "('A', 'bid', 'Infinity', 1)", "('A', 'bid', 1.4, 'NaN')",
                "('A', 'bid', NULL, 1)", "('A', NULL, 1.3, 1)", "(NULL, 'bid', 1.2, 1)", "('', 'bid', 1.2, 1)",
                "('A', 'bid', 1.1, NULL)", "('A', 'bid', 1.0, -1)", "('A', 'sideways', 1.0, 1)",
                "('A', 'bid', 1e60, 1)", "('A', 'bid', 1e-60, 1)", "(repeat('x', 9000000), 'bid', 1, 1)",
                "('A', 'BID', -0.25, 1e3)", "('A', 'bid', 1.49, 3)", "('A', 'bid', 1.48, 0)",
            ):  # fmt: skip
                await run(f"INSERT INTO hostile_levels VALUES {values}")
            expected = {"1.50": "2", "1.49": "3", "-0.25": "1000"}
            await reads(BookClient(), market, nursery, expected)
            await run("DELETE FROM hostile_levels WHERE length(symbol) > 1000")
            dropped = feeds["market.depth"].dropped
            assert {
                "not_a_number",
                "missing_price",
                "missing_size",
                "bad_side",
                "no_symbol",
                "negative_size",
            } <= set(dropped)
            assert market.broker.app.engine.counters.link_bugs == 0

            await run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%of {them}%'"
                " AND pid <> pg_backend_pid()",
            )  # fmt: skip
            await run("UPDATE hostile_levels SET size = 4 WHERE price = 1.49")
            await reads(BookClient(), market, nursery, expected | {"1.49": "4"})

            await run("ALTER TABLE hostile_levels ALTER price TYPE text, ALTER size TYPE text")
            await run("DELETE FROM hostile_levels WHERE price = '1.49'")
            await reads(BookClient(), market, nursery, {"1.50": "2", "-0.25": "1000"})

            await run("DROP TABLE hostile_levels")
            await until(lambda: feeds["book"].state != "live")
            await reads(BookClient(), market, nursery, {"1.50": "2", "-0.25": "1000"})
            await run(CREATE)
            await run("INSERT INTO hostile_levels VALUES ('A', 'bid', 7, 7)")
            await reads(BookClient(), market, nursery, {"7": "7"})
            nursery.cancel_scope.cancel()
        await run("DROP TABLE hostile_levels")


BOOKS = """SELECT symbol,
    json_agg(json_build_array(price, size) ORDER BY price DESC) FILTER (WHERE side = 'bid') AS bids,
    jsonb_agg(jsonb_build_object('price', price, 'size', size) ORDER BY price) FILTER (WHERE side = 'ask') AS asks
FROM whole_levels GROUP BY symbol"""
WHOLE = f"""
[database]
dsn = "env:DATABASE_URL"
[source.book]
query = \"\"\"{BOOKS}\"\"\"
key = ["symbol"]
every = "50ms"
[[market.depth]]
from = "book"
shape = "snapshot"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{{symbol}}@depth"
"""


async def test_whole_books_as_postgres_writes_them(tmp_path: Path, database: str) -> None:
    """Of one level, of several, numbers without quotes, objects; then sizes, prices, and levels change."""
    with psycopg.connect(database, autocommit=True) as connection:

        async def run(statement: str) -> None:
            await trio.to_thread.run_sync(connection.execute, statement.encode())

        await run("DROP TABLE IF EXISTS whole_levels")
        await run("CREATE TABLE whole_levels (symbol text, side text, price numeric, size numeric)")
        await run("INSERT INTO whole_levels VALUES ('A', 'bid', 1.50, 2), ('A', 'ask', 3, 1)")
        async with (
            running_market(tmp_path, WHOLE, {"DATABASE_URL": database}) as market,
            trio.open_nursery() as nursery,
        ):
            client = BookClient()
            await reads(client, market, nursery, {"1.50": "2"})
            await run(
                "INSERT INTO whole_levels SELECT 'A', 'bid', (1.4 - n / 100.0)::numeric(9, 2), n"
                " FROM generate_series(1, 9) n"
            )
            bids = {"1.50": "2"} | {f"1.{40 - n}": str(n) for n in range(1, 10)}
            await reads(client, market, nursery, bids)
            await run(
                "UPDATE whole_levels SET size = 7.0 WHERE price = 1.35; DELETE FROM whole_levels WHERE price = 1.36"
            )
            bids["1.35"] = "7.0"
            del bids["1.36"]
            await reads(client, market, nursery, bids)
            assert client.sides["asks"] == {"3": "1"}
            assert not market.broker.app.feeds["market.depth"].dropped
            nursery.cancel_scope.cancel()


async def test_it_is_asked_once_in_each_interval_however_long_an_answer_takes(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[float] = []
    answers_take_s = [0.0, 0.0, 0.7, 2.5, 0.0, 0.0]

    class Connection:
        async def execute(self, statement: object) -> Connection:
            asked.append(trio.current_time())
            await trio.sleep(answers_take_s[len(asked) - 1])
            return self

        async def fetchmany(self, count: int) -> list[tuple[str, str]]:
            return []

    @asynccontextmanager
    async def connected(config: FeedConfig) -> AsyncIterator[Connection]:
        yield Connection()

    monkeypatch.setattr(polled, "connected", connected)
    feed, status = FeedConfig("book", "", "query", (Source("book", ("book",)),)), FeedStatus("book")
    market = Market(MarketConfig(), Engine(), {})
    intake = Intake("query", feed, query="SELECT 1 AS id", key=("id",), every_s=1.0)
    outlet: Any = Collector()
    rows = IntakeRows(intake, market, outlet, status)
    query = polled.PolledQuery(rows, market, status)
    began = trio.current_time()
    with pytest.raises(IndexError):
        await query.attempt()
    assert [at - began for at in asked] == [0.0, 1.0, 2.0, 3.0, 5.5, 6.5, 7.5]
