"""Who was away for longer than the ring reaches gets the rows from the database: outbox by number, wal by key."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio_websocket
from attrs import evolve
from support.installed import connect, feed_config, install
from support.polling import until

from broker import Broker
from broker.config.dialects.exchange import Exchange
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.feeds import FeedConfig, Recovery, Route, Source
from broker.config.history import HistoryRule
from broker.config.model import Config, Listener, Persistence, Security
from broker.config.tokens import JwtConfig
from broker.core.row_source import SourceError
from broker.feed.reread import source_of

sys.path.insert(0, str(Path(__file__).parents[3] / "clients/python"))
from rowcast_client import Gap, Message, State
from rowcast_client.trio import connect as connect_client

pytestmark = pytest.mark.usefixtures("short_pauses", "fast_path")

ROWS = 700
TABLE = "CREATE TABLE event (id bigint PRIMARY KEY, who text, price numeric)"
INSERT = "INSERT INTO event SELECT n, 'ada ☂ ' || n, 10::numeric ^ 30 + n FROM generate_series({}, {}) n"


def config_of(database: str, kind: str, *, table_key: bool = True, **route: Any) -> FeedConfig:
    """Events under a kind, with their table's key if the feed is to be asked by it."""
    recovery = Recovery("public.event", ("id",), (("tables", "event"),))
    made = Route("tables", ("event/{id}",), kind="event", operations=("insert", "update"))
    if not table_key:
        made = evolve(made, kind="public.event")
    return feed_config(
        database,
        kind,
        sources=(Source("tables", (), tables=() if table_key else ("public.event",)),),
        routes=(evolve(made, **route),),
        recoveries=(recovery,) if table_key else (),
    )


@asynccontextmanager
async def served(feed: FeedConfig, folder: Path, count: int = 50) -> AsyncIterator[tuple[Broker, str]]:
    listener = Listener(
        port=0,
        host="127.0.0.1",
        protocol="websockets",
        dialects=("rowcast",),
        security=Security(allow_anonymous=True),
    )
    config = Config(
        listeners=(listener,),
        feeds=(feed,),
        gateway=GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("#",), anonymous_publish=("#",))),
        history=(HistoryRule(("event/#",), count=count),),
        persistence=Persistence(persistence=True, persistence_location=folder),
    )
    async with Broker(config) as broker:
        await until(lambda: broker.app.feeds["test"].state == "live")
        yield broker, f"ws://127.0.0.1:{broker.ports[0]}/rowcast"


async def first_row(url: str, feed: FeedConfig) -> str:
    """The position of row 0, which is written now."""
    async with connect_client(url) as client:
        subscription = client.subscribe("event/#")
        await until(lambda: subscription.subscription.phase == "live")
        write(feed, INSERT.format(0, 0))
        event = await anext(subscription)
        assert isinstance(event, Message)
        assert event.at is not None
        return event.at


async def missed(url: str, since: str, topic: str = "event/#", last: int = ROWS) -> list[Any]:
    """What comes behind a position, up to the row `last`; or the gap."""
    found: list[Any] = []
    with trio.fail_after(60):
        async with connect_client(url) as client:
            async for event in client.subscribe(topic, since):
                if isinstance(event, State):
                    continue
                found.append(event.data["id"] if isinstance(event, Message) else event)
                if isinstance(event, Gap) or found[-1] == last:
                    return found
    raise AssertionError


def write(feed: FeedConfig, *statements: str) -> None:
    with connect(feed.dsn) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_rows_behind_the_ring_come_from_the_database(database: str, kind: str, tmp_path: Path) -> None:
    feed = config_of(database, kind, table_key=kind == "wal")
    write(feed, TABLE)
    install(feed)
    async with served(feed, tmp_path) as (broker, url):
        since = await first_row(url, feed)
        write(feed, INSERT.format(1, ROWS // 2), INSERT.format(ROWS // 2 + 1, ROWS))
        await until(lambda: broker.app.feeds["test"].published == ROWS + 1)
        assert await missed(url, since) == list(range(1, ROWS + 1))
        assert broker.app.history.rings[0].count == 50
        assert await missed(url, since, "event/+", ROWS) == list(range(1, ROWS + 1))
        assert await missed(url, since, "event/7", 7) == [7]
    # Over an orderly restart, with rows that were written meanwhile.
    write(feed, INSERT.format(ROWS + 1, ROWS + 100))
    async with served(feed, tmp_path) as (broker, url):
        await until(lambda: broker.app.feeds["test"].published == 100)
        assert await missed(url, since, last=ROWS + 100) == list(range(1, ROWS + 101))


async def test_a_row_that_was_changed_or_deleted_refuses_it_all(database: str, tmp_path: Path) -> None:
    feed = config_of(database, "wal")
    write(feed, TABLE)
    install(feed)
    async with served(feed, tmp_path) as (broker, url):
        since = await first_row(url, feed)
        write(feed, INSERT.format(1, ROWS), "DELETE FROM event WHERE id = 30")
        await until(lambda: broker.app.feeds["test"].published >= ROWS + 1)
        (gap,) = await missed(url, since)
        assert isinstance(gap, Gap)
        assert gap.reason == "a row was changed since, or is gone"
        assert await missed(url, since, "event/7", 7) == [7], "that one is as it was"


async def test_a_message_that_is_no_row_is_not_left_out(database: str, tmp_path: Path) -> None:
    feed = config_of(database, "outbox", table_key=False)
    write(feed, TABLE)
    install(feed)
    async with served(feed, tmp_path) as (broker, url):
        since = await first_row(url, feed)
        await broker.publish("event/x", b'{"id":-1}')
        async with connect_client(url) as client:
            subscription = client.subscribe("event/#", since)
            event = await anext(subscription)
            assert isinstance(event, Message)
            behind = event.at
        assert behind is not None
        write(feed, INSERT.format(1, ROWS))
        await until(lambda: broker.app.feeds["test"].published == ROWS + 1)
        (gap,) = await missed(url, since)
        assert isinstance(gap, Gap)
        assert "no source has" in gap.reason
        assert await missed(url, behind) == list(range(1, ROWS + 1))


async def test_what_was_pruned_is_refused_and_what_sql_published_is_found(
    database: str, tmp_path: Path
) -> None:
    feed = config_of(database, "outbox", table_key=False, position=False)
    write(feed, TABLE)
    install(feed)
    async with served(feed, tmp_path) as (broker, url):
        since = await first_row(url, feed)
        publish = "SELECT rowcast.publish('event/sql', json_build_object('id', n)::text) FROM generate_series(1, 700) n"
        write(feed, publish)
        await until(lambda: broker.app.feeds["test"].published == ROWS + 1)
        assert await missed(url, since) == list(range(1, ROWS + 1))
        write(feed, "DELETE FROM rowcast.outbox WHERE topic IS NOT NULL AND id % 100 = 0")
        (gap,) = await missed(url, since)
        assert isinstance(gap, Gap)


async def test_a_database_that_is_away_is_said(database: str, tmp_path: Path) -> None:
    feed = config_of(database, "outbox", table_key=False)
    write(feed, TABLE)
    install(feed)
    async with served(feed, tmp_path) as (broker, url):
        since = await first_row(url, feed)
        write(feed, INSERT.format(1, ROWS))
        await until(lambda: broker.app.feeds["test"].published == ROWS + 1)
        source = source_of(evolve(feed, dsn="host=127.0.0.1 port=1 connect_timeout=1"))
        assert source is not None
        broker.app.history.sources["test"] = source
        (gap,) = await missed(url, since)
        assert isinstance(gap, Gap)
        assert "connection" in gap.reason


async def test_a_channel_of_the_exchange_gets_its_rows_from_the_database(
    database: str, tmp_path: Path
) -> None:
    trades = Route("tables", ("{who}@trades",), kind="event", target="exchange", body="envelope")
    feed = evolve(config_of(database, "wal"), routes=(trades,))
    write(feed, TABLE)
    install(feed)
    config = Config(
        listeners=(Listener(0, host="127.0.0.1", protocol="websockets", dialects=("exchange",)),),
        feeds=(feed,),
        gateway=GatewayConfig(exchange=Exchange(jwt=JwtConfig("a_secret_of_at_least_32_characters"))),
        history=(HistoryRule(("$ws/exchange/+",), count=50),),
    )
    rows = "INSERT INTO event SELECT n, 'BTC', n FROM generate_series(1, 200) n"
    async with Broker(config) as broker:
        await until(lambda: broker.app.feeds["test"].state == "live")
        write(feed, rows)
        await until(lambda: broker.app.feeds["test"].published == 200)
        url = f"ws://127.0.0.1:{broker.ports[0]}/exchange-stream"
        async with trio_websocket.open_websocket_url(url) as websocket:
            since = f"{broker.app.history.positions.epoch}/0"
            ask = {"op": "subscribe", "channel": "BTC@trades", "since": since}
            await websocket.send_message(json.dumps(ask))
            with trio.fail_after(30):
                said = [json.loads(await websocket.get_message()) for _ in range(201)]
    assert said[0] == {"result": True, "channel": "BTC@trades", "at": since, "recovered": True}
    assert [one["data"]["id"] for one in said[1:]] == list(range(1, 201))
    assert all(one["event"] == "BTC@trades" and "at" in one for one in said[1:])


@pytest.mark.parametrize("kind", ["wal", "outbox"])
async def test_places_of_another_configuration_find_nothing(database: str, kind: str) -> None:
    feed = config_of(database, kind, table_key=kind == "wal")
    write(feed, TABLE)
    install(feed)
    source = source_of(feed)
    assert source is not None
    strange = (
        b"",
        b"1",
        b"1.",
        b".2",
        b"x.y",
        b"[]",
        b"[0]",
        b"[9,1]",
        b"[0,1,2]",
        b"{",
        b'["a","b"]',
        b"\xff",
        b"9" * 30,
        b"[0,null]",
        b'[0,"half of a pair \\ud800"]',
        b'[0,"a NUL \\u0000"]',
    )
    async with source.open() as reader:
        for place in strange:
            assert await reader.candidates([b"test\0" + place]) == {}
        if kind == "wal":
            with pytest.raises(SourceError, match="no number"):
                await reader.candidates([b'test\0[0,"no number"]'])


@pytest.mark.parametrize(
    "key",
    [pytest.param("\\ud800", id="half-of-a-pair"), pytest.param("\\u0000", id="nul")],
)
def test_a_key_that_no_column_can_have_is_no_place(database: str, key: str) -> None:
    source = source_of(config_of(database, "wal", table_key=True))
    assert source is not None
    assert source.complete(b"test\0", b'{"data":{"id":"%b"}}' % key.encode()) == b""


def test_a_feed_that_can_read_nothing_again_has_no_source(database: str) -> None:
    assert source_of(config_of(database, "wal", table_key=False)) is None
    assert source_of(config_of(database, "listen")) is None
