"""A page that asks for the state of a table, and follows it: each row's versions once, from the one or the other."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from support.installed import connect, feed_config, install
from support.polling import until

from broker import Broker
from broker.config.dialects.gateway import GatewayConfig
from broker.config.dialects.rowcast import Rowcast
from broker.config.feeds import FeedConfig, Route
from broker.config.history import HistoryRule
from broker.config.model import Config, Listener, Security
from broker.core.row_source import SourceError, TooMuch
from broker.feed import current
from broker.feed.current import CurrentRows, sees_all
from broker.feed.driver.connection import TrioConnection

sys.path.insert(0, str(Path(__file__).parents[3] / "clients/python"))
from rowcast_client import Message, Refused, State
from rowcast_client.trio import connect as connect_client

ROWS = 20
OWNERS = 4
TABLE = "CREATE TABLE event (id bigint PRIMARY KEY, who text, seen date DEFAULT '2026-01-01', version int DEFAULT 0)"


@pytest.fixture(params=["wal", "outbox"])
def config(database: str, request: pytest.FixtureRequest) -> FeedConfig:
    with connect(database) as connection:
        connection.execute(TABLE)
    route = Route(
        "tables",
        ("event/{who}/{id}", "seen/{seen}/{id}"),
        kind="public.event",
        operations=("insert", "update"),
        snapshot="table",
    )
    config = feed_config(database, request.param, routes=(route,))
    install(config)
    return config


@asynccontextmanager
async def served(feed: FeedConfig, history: bool) -> AsyncIterator[str]:
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
        gateway=GatewayConfig(rowcast=Rowcast(anonymous_subscribe=("#",))),
        history=(HistoryRule(("event/#",)),) if history else (),
    )
    async with Broker(config) as broker:
        await until(lambda: broker.app.feeds["test"].state == "live")
        yield f"ws://127.0.0.1:{broker.ports[0]}/rowcast"


async def write(dsn: str, chance: random.Random, written: list[int], stopped: trio.Event) -> None:
    """Inserts and updates of one or more rows, some of them held open for a while, some undone."""
    async with await TrioConnection.connect(dsn, autocommit=True) as connection:
        while not stopped.is_set():
            async with connection.transaction(force_rollback=chance.random() < 0.1):
                for number in sorted(chance.sample(range(ROWS), chance.choice((1, 1, 3)))):
                    await connection.execute(
                        "INSERT INTO event (id, who) VALUES (%s, %s)"
                        " ON CONFLICT (id) DO UPDATE SET version = event.version + 1",
                        [number, f"w{number % OWNERS}"],
                    )
                await trio.sleep(chance.choice((0, 0, 0.02)))
            written.append(1)


async def follow(url: str, topic: str, found: dict[int, int], done: trio.Event) -> None:
    """The state, then each version of each row behind the one before."""
    async with connect_client(url) as client:
        began = False
        async for event in client.subscribe(topic, state=True):
            if isinstance(event, State):
                assert not began
                began = True
                for one in event.messages:
                    assert one.data["id"] not in found
                    found[one.data["id"]] = one.data["version"]
            else:
                assert isinstance(event, Message), event
                assert began
                # A row that was changed while the table was read is not in the state: its changes come.
                assert event.data["version"] == found.get(event.data["id"], event.data["version"] - 1) + 1
                found[event.data["id"]] = event.data["version"]
            if done.is_set():
                return


@pytest.mark.parametrize("history", [True, False], ids=["ring", "held"])
async def test_each_version_comes_once_from_the_state_or_by_itself(config: FeedConfig, history: bool) -> None:
    stopped, done = trio.Event(), trio.Event()
    written: list[int] = []
    readers: list[tuple[str, dict[int, int]]] = []
    async with served(config, history) as url:
        with trio.fail_after(60):
            async with trio.open_nursery() as following:
                async with trio.open_nursery() as writing:
                    for number in range(3):
                        writing.start_soon(write, config.dsn, random.Random(number), written, stopped)
                    for number in range(8):
                        topic = ("event/#", f"event/w{number % OWNERS}/+")[number % 2]
                        readers.append((topic, {}))
                        following.start_soon(follow, url, *readers[-1], done)
                        await until(partial(has_more_than, 10 * number, written))
                    stopped.set()
                with connect(config.dsn) as connection:
                    rows = connection.execute("SELECT id, who, version FROM event").fetchall()
                    await until(lambda: all(found == table(rows, topic) for topic, found in readers), 30)
                    done.set()
                    connection.execute("UPDATE event SET version = version + 1")
    assert len(rows) > ROWS // 2


def has_more_than(count: int, some: list[int]) -> bool:
    return len(some) > count


def table(rows: list[tuple[int, str, int]], topic: str) -> dict[int, int]:
    return {number: version for number, who, version in rows if topic in ("event/#", f"event/{who}/+")}


async def state_of(url: str, topic: str) -> list[Any]:
    with trio.fail_after(60):
        async with connect_client(url) as client:
            async for event in client.subscribe(topic, state=True):
                assert isinstance(event, State)
                return sorted(one.data["id"] for one in event.messages)
    return []


async def test_only_rows_of_the_filter_are_read_and_sent(config: FeedConfig) -> None:
    with connect(config.dsn) as connection:
        connection.execute("INSERT INTO event SELECT n, 'w' || n % 4 FROM generate_series(0, 99) n")
    async with served(config, True) as url:
        assert await state_of(url, "event/w1/+") == list(range(1, 100, 4))
        assert await state_of(url, "event/+/7") == [7]
        assert await state_of(url, "event/+/x7") == []  # no bigint
        assert await state_of(url, "seen/2026-01-01/8") == [8]
        assert await state_of(url, "seen/yesterday/8") == []  # a date, and not what the topic says
        assert await state_of(url, "event/w1") == []
        assert await state_of(url, "+/w1/1/#") == [1]
        assert await state_of(url, "event/w'1/+") == []


async def test_more_than_is_read_is_refused(config: FeedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current, "ROWS_MAX", 50)
    with connect(config.dsn) as connection:
        connection.execute("INSERT INTO event SELECT n, 'w' || n % 4 FROM generate_series(0, 99) n")
    async with served(config, True) as url:
        assert len(await state_of(url, "event/w1/+")) == 25
        async with connect_client(url) as client:
            with trio.fail_after(60), pytest.raises(Refused, match="more than 50 rows"):
                await anext(client.subscribe("event/#", state=True))


async def test_where_a_table_cant_be_read_the_client_comes_back(
    config: FeedConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "broker.links")
    async with served(config, True) as url:
        with monkeypatch.context() as broken:
            for name in ("WAL_HORIZON", "OUTBOX_HORIZON"):
                broken.setattr(current, name, "SELECT 1 / 0")
            async with connect_client(url) as client:
                subscription = client.subscribe("event/#", state=True)
                await until(lambda: "the state of event/# can't be read: division by zero" in caplog.text)
                broken.undo()
                with trio.fail_after(60):
                    assert await anext(subscription) == State([])


def test_what_is_seen_is_told_by_ids_of_transactions_over_their_wrap() -> None:
    high = 5 << 32
    assert sees_all(f"{high + 10}:{high + 20}:", [9, 10, 19])
    assert not sees_all(f"{high + 10}:{high + 20}:", [20])
    assert not sees_all(f"{high + 10}:{high + 20}:{high + 12}", [12])
    assert sees_all(f"{high - 3}:{high + 2}:{high - 3}", [0xFFFFFFFE, 0, 1])
    assert not sees_all(f"{high - 3}:{high + 2}:{high - 3}", [0xFFFFFFFD])
    assert sees_all("3:4:", [])


def test_who_serves_which_filter() -> None:
    route = Route("tables", ("a/{x}-{y}/{id}", "b"), kind="public.event", snapshot="table")
    rows = CurrentRows(feed_config("", routes=(route,)), {})
    assert all(
        rows.serves(one) for one in (b"#", b"a/+/7", b"a/x-y/7", b"b", b"b/#", b"+", b"a/1/#", b"a/x/7/#")
    )
    assert not any(rows.serves(one) for one in (b"c", b"a", b"a/+", b"b/+", b"a/x/7/+"))
    assert not CurrentRows(
        feed_config("", routes=(Route("tables", ("b",), kind="public.event"),)), {}
    ).serves(b"b")
    assert issubclass(TooMuch, SourceError)
